"""Why a database may refuse a token, as far as the token itself tells."""

from datetime import UTC, datetime

import jwt
import pytest

from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.tokens import claims, refused_token

NOW = datetime(2026, 1, 15, 12, 0, tzinfo=UTC)
OWN = "https://acme.cloud.databricks.com"


def token(issuer: str = f"{OWN}/oidc", minutes: int = 30) -> str:
    said = {"iss": issuer, "exp": int(NOW.timestamp()) + minutes * 60}
    return jwt.encode(said, "k" * 32, algorithm="HS256")


@pytest.mark.requirement("R-214")
def test_a_token_of_another_workspace_is_recognised_by_its_issuer() -> None:
    other = token("https://other.cloud.databricks.com/oidc")
    error = refused_token(other, OWN, "db:5432", NOW)
    assert error is not None
    assert error.reason is Reason.WORKSPACE_MISMATCH
    assert '"other.cloud.databricks.com"' in error.message
    assert other not in error.message


def test_a_token_that_has_expired_says_so() -> None:
    error = refused_token(token(minutes=-1), OWN, "db:5432", NOW)
    assert error is not None
    assert error.reason is Reason.TOKEN_EXPIRED


@pytest.mark.parametrize("url", [OWN, "https://ACME.cloud.databricks.com/", None])
def test_a_good_token_explains_nothing(url: str | None) -> None:
    assert refused_token(token(), url, "db:5432", NOW) is None


@pytest.mark.parametrize("text", ["Password-1", "", "a.b.c", "eyJ.x", "eyJh.eyJh.x", "eyJh.!!!.x"])
def test_what_is_no_token_is_none(text: str) -> None:
    assert claims(text) is None
    assert refused_token(text, OWN, "db:5432", NOW) is None
