"""The tokens of the workspace: access tokens for its APIs and credentials for its databases."""

import secrets
import time
from dataclasses import dataclass
from typing import Any

import jwt

from lakebase_sandbox.postgres import Identity

_ALGORITHM = "HS256"
_ACCESS = "access"
_DATABASE = "database"


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token and when it expires, in seconds since 1970."""

    token: str
    expires_at: float


@dataclass(frozen=True, slots=True)
class DatabaseCredential:
    """What a database credential says.

    Parameters:
        identity_id: the SCIM id of the identity it was made for.
        resources: full names of the endpoints and instances it is good for.
        issued_at, expires_at: seconds since 1970.
    """

    identity_id: str
    resources: frozenset[str]
    issued_at: float
    expires_at: float


class TokenIssuer:
    """Signs and checks the tokens of one workspace; those of another workspace mean nothing to it."""

    def __init__(self, workspace_id: str) -> None:
        self._workspace_id = workspace_id
        self._key = secrets.token_hex(32)

    def access_token(self, identity: Identity, lifetime: float) -> IssuedToken:
        return self._issue(_ACCESS, identity, lifetime)

    def identity_of(self, access_token: str) -> str | None:
        """The SCIM id behind an access token; None: it is invalid or expired."""
        claims = self._read(_ACCESS, access_token)
        if claims is None or claims["expires_at"] <= time.time():
            return None
        return str(claims["id"])

    def database_credential(self, identity: Identity, resources: list[str], lifetime: float) -> IssuedToken:
        return self._issue(_DATABASE, identity, lifetime, resources=resources)

    def read_database_credential(self, token: str) -> DatabaseCredential | None:
        """What a credential says, expired or not; None: it is not one of this workspace."""
        claims = self._read(_DATABASE, token)
        if claims is None:
            return None
        return DatabaseCredential(
            identity_id=str(claims["id"]),
            resources=frozenset(claims["resources"]),
            issued_at=float(claims["issued_at"]),
            expires_at=float(claims["expires_at"]),
        )

    def _issue(self, use: str, identity: Identity, lifetime: float, **claims: Any) -> IssuedToken:
        now = time.time()
        expires_at = now + lifetime
        payload = {
            "iss": f"workspace/{self._workspace_id}",
            "sub": identity.name,
            "id": identity.id,
            "use": use,
            "jti": secrets.token_hex(8),
            "iat": int(now),
            "exp": int(expires_at),
            # The standard claims count whole seconds, which is too coarse for tests.
            "issued_at": now,
            "expires_at": expires_at,
            **claims,
        }
        return IssuedToken(jwt.encode(payload, self._key, algorithm=_ALGORITHM), expires_at)

    def _read(self, use: str, token: str) -> dict[str, Any] | None:
        try:
            claims: dict[str, Any] = jwt.decode(
                token, self._key, algorithms=[_ALGORITHM], options={"verify_exp": False, "verify_iat": False}
            )
        except jwt.InvalidTokenError:
            return None
        return claims if claims.get("use") == use else None
