"""The access token for a workspace's API, for the SDK to send.

The SDK can fetch tokens by itself, but with no timeout, so that one silent token endpoint would hold a worker thread for ever,
with errors that are bare ``ValueError`` texts, and in threads that outlive a shutdown. So the request is made here, and the
SDK's own cache (:class:`databricks.sdk.oauth.Refreshable`: renewed 40 s before expiry) keeps what comes of it.
"""

import urllib.parse
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any

import requests
from databricks.sdk.core import Config
from databricks.sdk.credentials_provider import CredentialsStrategy
from databricks.sdk.oauth import Refreshable, Token
from requests.auth import HTTPBasicAuth

from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.errors import (
    ADDRESS_BLOCKED,
    ALLOW_ADDRESS,
    InvalidError,
    LakebaseError,
    TransientError,
)

from .auth import Auth, OAuthM2M, WorkloadIdentity
from .errors import tidy

_SCOPE = "all-apis"
_TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105  # RFC 8693, no secret
_JWT = "urn:ietf:params:oauth:token-type:jwt"
_DEFAULT_LIFETIME = 300  # seconds, for an answer that does not say (RFC 6749 only recommends it)


class AccessToken(Refreshable, CredentialsStrategy):
    """The operator's access token for one workspace.

    Parameters
    ----------
    url
        The workspace.
    auth
        Who the operator is there.
    http_timeout
        Seconds to wait for a connection, and again for an answer.

    Raises
    ------
    LakebaseError
        From :meth:`token`, when the token endpoint refuses. Errors of the network come as ``requests`` raises them.
    """

    def __init__(self, url: str, auth: Auth, *, http_timeout: float) -> None:
        self._url = url
        self._auth = auth
        self._http_timeout = http_timeout
        self._endpoint: str | None = None
        super().__init__(disable_async=True)

    def auth_type(self) -> str:
        """Name of the way in, for the SDK's User-Agent."""
        return "oauth-m2m" if isinstance(self._auth, OAuthM2M) else "file-oidc"

    def __call__(self, cfg: Config) -> Callable[[], dict[str, str]]:  # noqa: ARG002  # the SDK's signature
        """The SDK's hook: what makes the headers of each request."""
        return lambda: {"Authorization": f"Bearer {self.token().access_token}"}

    def refresh(self) -> Token:
        """Fetch a new token. Called by the base class, one thread at a time."""
        endpoint = self._endpoint = self._endpoint or self._discover()
        form = {"scope": _SCOPE}
        login: Any = _anonymous
        match self._auth:
            case OAuthM2M(client_id, client_secret):
                form |= {"grant_type": "client_credentials"}
                login = HTTPBasicAuth(client_id.encode(), client_secret.encode())
            case WorkloadIdentity(client_id, token_path):
                form |= {
                    "grant_type": _TOKEN_EXCHANGE,
                    "client_id": client_id,
                    "subject_token_type": _JWT,
                    "subject_token": _read(token_path),
                }
        # No redirects: the secret goes to this address and nowhere else.
        answer = requests.post(endpoint, form, auth=login, timeout=self._http_timeout, allow_redirects=False)
        if answer.status_code != HTTPStatus.OK:
            raise self._refusal(answer)
        return _token(answer.json())

    def _discover(self) -> str:
        """Address of the token endpoint, as the workspace publishes it."""
        metadata = self._get_json(f"{self._url}/.well-known/databricks-config") or {}
        issuer = str(metadata.get("oidc_endpoint") or f"{self._url}/oidc")
        issuer = issuer.replace("{account_id}", str(metadata.get("account_id", ""))).rstrip("/")
        server = self._get_json(f"{issuer}/.well-known/oauth-authorization-server") or {}
        endpoint = str(server.get("token_endpoint") or "")
        if urllib.parse.urlsplit(endpoint).scheme != "https":
            raise TransientError(
                Reason.CONTROL_PLANE_ERROR,
                f"{self._url} names no token endpoint: check that spec.workspaceURL is the address of a Databricks "
                f"workspace.",
            )
        return endpoint

    def _get_json(self, url: str) -> dict[str, Any] | None:
        """A published document, or None where there is none."""
        answer = requests.get(url, timeout=self._http_timeout, auth=_anonymous)
        status = answer.status_code
        if status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise self._refusal(answer)
        if status == HTTPStatus.FORBIDDEN and ADDRESS_BLOCKED.search(answer.text):
            raise self._refusal(answer)
        if status != HTTPStatus.OK:
            return None
        try:
            document = answer.json()
        except requests.exceptions.InvalidJSONError:
            return None
        return document if isinstance(document, dict) else None

    def _refusal(self, answer: requests.Response) -> LakebaseError:
        status = answer.status_code
        said = tidy(_oauth_error(answer), self._secrets())
        where = f"{urllib.parse.urlsplit(answer.url).path} of {self._url}"
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            return TransientError(
                Reason.CONTROL_PLANE_THROTTLED,
                f"{where} asks for fewer requests ({said}): it is tried again when it allows.",
                retry_after=_seconds(answer.headers.get("Retry-After")),
            )
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status < HTTPStatus.BAD_REQUEST:
            return TransientError(
                Reason.CONTROL_PLANE_ERROR,
                f"{where} answers with status {status} ({said}): it is tried again.",
                retry_after=_seconds(answer.headers.get("Retry-After")),
            )
        if status == HTTPStatus.FORBIDDEN and ADDRESS_BLOCKED.search(answer.text):
            return InvalidError(
                Reason.ADDRESS_BLOCKED,
                f"{self._url} blocks the operator's network address ({said}): {ALLOW_ADDRESS}.",
            )
        return InvalidError(
            Reason.OAUTH_CLIENT_REJECTED,
            f"{where} refuses client id {self._auth.client_id} ({said}): {self._advice()}.",
        )

    def _advice(self) -> str:
        if isinstance(self._auth, OAuthM2M):
            return (
                "check the client id and secret of spec.auth.oauthM2M, and that the secret has neither expired nor been "
                "deleted in Databricks"
            )
        return (
            "check the client id of spec.auth.workloadIdentity, and that the service principal has a federation policy for "
            "the issuer, subject and audience of the operator's service account"
        )

    def _secrets(self) -> tuple[str, ...]:
        return (self._auth.client_secret,) if isinstance(self._auth, OAuthM2M) else ()


def _anonymous(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Adds nothing, and so keeps requests from sending what a .netrc file may hold."""
    return request


def _token(answer: Any) -> Token:
    if not isinstance(answer, dict) or not answer.get("access_token"):
        raise TransientError(
            Reason.CONTROL_PLANE_ERROR, "The token endpoint answers without a token: it is tried again."
        )
    lifetime = timedelta(seconds=int(answer.get("expires_in") or _DEFAULT_LIFETIME))
    return Token(answer["access_token"], "Bearer", expiry=datetime.now(UTC) + lifetime)


def _oauth_error(answer: requests.Response) -> str:
    """The error of RFC 6749 §5.2, or what else there is."""
    try:
        body = answer.json()
    except requests.exceptions.InvalidJSONError:
        body = None
    if not isinstance(body, dict):
        return f"status {answer.status_code}"
    error = (
        body.get("error") or body.get("errorCode") or body.get("error_code") or f"status {answer.status_code}"
    )
    description = body.get("error_description") or body.get("errorSummary") or body.get("message")
    return f"{error}: {description}" if description else str(error)


def _seconds(header: str | None) -> float | None:
    return float(header) if header and header.isdecimal() else None


def _read(path: Path) -> str:
    try:
        token = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        token, why = "", error.strerror or type(error).__name__
    else:
        why = "the file is empty"
    if not token:
        raise InvalidError(
            Reason.WORKLOAD_TOKEN_NOT_FOUND,
            f"The projected service-account token cannot be read from {path} ({why}): mount it into the operator's pod, "
            f"with the audience that the federation policy names.",
        )
    return token
