"""Which certificate authorities HTTPS to Databricks trusts."""

from collections.abc import MutableMapping


def honour_ssl_cert_file(environ: MutableMapping[str, str]) -> None:
    """Make ``SSL_CERT_FILE`` count for requests to Databricks as it does for the rest of the process.

    The SDK speaks HTTPS through ``requests``, which trusts the bundle of ``certifi`` or, where it is set, the file in
    ``REQUESTS_CA_BUNDLE`` or ``CURL_CA_BUNDLE``; it does not look at ``SSL_CERT_FILE``. Call this once at start-up, before
    the first request. A bundle replaces the built-in authorities, so behind a company proxy it has to hold those too.

    Parameters
    ----------
    environ
        ``os.environ``. A ``REQUESTS_CA_BUNDLE`` or ``CURL_CA_BUNDLE`` in it is left alone.
    """
    bundle = environ.get("SSL_CERT_FILE")
    if bundle and not (environ.get("REQUESTS_CA_BUNDLE") or environ.get("CURL_CA_BUNDLE")):
        environ["REQUESTS_CA_BUNDLE"] = bundle
