"""What an OAuth token says of itself (RFC 7519). Its signature is not checked: this is only to explain why a server refuses it."""

import binascii
import json
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.errors import InvalidError


def claims(token: str) -> Mapping[str, Any] | None:
    """The claims of a JSON Web Token; None: it is none, such as a password."""
    parts = token.split(".")
    if len(parts) != 3 or not token.startswith("eyJ"):
        return None
    try:
        found = json.loads(urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError):
        return None
    return found if isinstance(found, dict) else None


def refused_token(token: str, workspace_url: str | None, where: str, now: datetime) -> InvalidError | None:
    """Why a database may refuse a token, as far as the token itself tells; None: it does not.

    Tokens are good in their own workspace only (https://docs.databricks.com/aws/en/oltp/oauth).

    Parameters
    ----------
    token
        What was sent as the password.
    workspace_url
        The workspace to which the database belongs, if it is known.
    where
        The database server, for the message.
    now
        The time.
    """
    said = claims(token)
    if said is None:
        return None
    issuer, own = _host(str(said.get("iss", ""))), _host(workspace_url or "")
    if issuer and own and issuer != own:
        return InvalidError(
            Reason.WORKSPACE_MISMATCH,
            f'{where} refuses a token of the workspace "{issuer}", while spec.workspaceURL names "{own}". Tokens are good in their '
            "own workspace only: log in with a service principal of that one.",
        )
    expires = said.get("exp")
    if isinstance(expires, int | float) and expires <= now.timestamp():
        return InvalidError(
            Reason.TOKEN_EXPIRED,
            f"{where} refuses an OAuth token that has expired. A token lasts an hour: let the operator ask for its own with "
            "spec.auth.oauthM2M or spec.auth.workloadIdentity.",
        )
    return None


def _host(url: str) -> str:
    return (urlsplit(url).hostname or "") if url.startswith("https://") else ""
