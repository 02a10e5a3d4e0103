"""Identities and workspace addresses are checked before anything is sent, and secrets stay hidden."""

from pathlib import Path

import pytest

from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.errors import InvalidError
from lakebase_operator.external.databricks import OAuthM2M, WorkloadIdentity, honour_ssl_cert_file
from lakebase_operator.external.databricks.calls import checked_url

SECRET = "dose0123456789abcdef0123456789abcdef"


@pytest.mark.requirement("R-65")
@pytest.mark.parametrize(
    "client_id", ["1f0c5a1e-7d0c-4f0e-9b5c-0a1b2c3d4e5f", "my-client", "x", "app_1+2=3!§", "42"]
)
def test_a_client_id_may_be_any_text(client_id: str) -> None:
    assert OAuthM2M(client_id, SECRET).client_id == client_id
    assert WorkloadIdentity(client_id, Path("token")).client_id == client_id


@pytest.mark.requirement("R-65")
@pytest.mark.parametrize("client_id", ["", " ", "x\n", "\tx"])
def test_an_empty_client_id_or_one_with_white_space_around_it_is_refused(client_id: str) -> None:
    for make in (lambda: OAuthM2M(client_id, SECRET), lambda: WorkloadIdentity(client_id, Path("token"))):
        with pytest.raises(InvalidError) as refused:
            make()
        assert refused.value.reason is Reason.INVALID_SPEC
        assert "client id" in refused.value.message


@pytest.mark.parametrize("secret", ["", f"{SECRET}\n"])
def test_a_client_secret_with_a_line_break_is_refused_without_showing_it(secret: str) -> None:
    with pytest.raises(InvalidError) as refused:
        OAuthM2M("x", secret)
    assert "client secret" in refused.value.message
    assert SECRET not in refused.value.message


def test_the_client_secret_is_in_no_representation() -> None:
    auth = OAuthM2M("my-client", SECRET)
    assert SECRET not in repr(auth) + str(auth) + f"{auth}"
    assert "my-client" in repr(auth)


@pytest.mark.requirement("R-64")
@pytest.mark.parametrize(
    ("url", "checked"),
    [
        ("https://acme.cloud.databricks.com", "https://acme.cloud.databricks.com"),
        ("https://acme.cloud.databricks.com/", "https://acme.cloud.databricks.com"),
        ("https://localhost:8443", "https://localhost:8443"),
    ],
)
def test_a_workspace_address_is_https_and_a_host(url: str, checked: str) -> None:
    assert checked_url(url) == checked


@pytest.mark.requirement("R-64")
@pytest.mark.parametrize(
    "url",
    [
        "",
        "acme.cloud.databricks.com",
        "http://acme.cloud.databricks.com",
        "https://",
        "https://acme.cloud.databricks.com/sql",
        "https://acme.cloud.databricks.com//x",
        "https://acme.cloud.databricks.com?o=1",
        "https://acme.cloud.databricks.com#x",
        "https://user:pass@acme.cloud.databricks.com",
        "https://acme.cloud.databricks.com:x",
        "https://acme .cloud.databricks.com",
        "https://acme.cloud.databricks.com\n",
    ],
)
def test_any_other_workspace_address_is_refused(url: str) -> None:
    with pytest.raises(InvalidError) as refused:
        checked_url(url)
    assert refused.value.reason is Reason.INVALID_SPEC
    assert "spec.workspaceURL" in refused.value.message


def test_ssl_cert_file_is_honoured_unless_something_more_special_is_set() -> None:
    plain = {"SSL_CERT_FILE": "/ca.pem"}
    honour_ssl_cert_file(plain)
    assert plain["REQUESTS_CA_BUNDLE"] == "/ca.pem"
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        special = {"SSL_CERT_FILE": "/ca.pem", name: "/other.pem"}
        honour_ssl_cert_file(special)
        assert special == {"SSL_CERT_FILE": "/ca.pem", name: "/other.pem"}
    nothing: dict[str, str] = {}
    honour_ssl_cert_file(nothing)
    assert nothing == {}
