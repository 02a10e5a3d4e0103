"""Discovery and the token endpoint: client credentials (M2M) and token exchange (workload identity)."""

import base64
import binascii
from typing import Any

import jwt
from aiohttp import web

from lakebase_sandbox.postgres import IdentityKind
from lakebase_sandbox.simulator.credentials import TokenIssuer
from lakebase_sandbox.simulator.directory import Directory, Entry
from lakebase_sandbox.simulator.settings import FederationPolicy

TOKEN_PATH = "/oidc/v1/token"
CLIENT_CREDENTIALS = "client_credentials"
TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
_JWT_TYPE = "urn:ietf:params:oauth:token-type:jwt"
_SIGNATURES = ["RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256"]


class OAuthError(Exception):
    """An error answer of the token endpoint (RFC 6749, section 5.2)."""

    def __init__(self, error: str, description: str, status: int = 400) -> None:
        super().__init__(description)
        self.body = {"error": error, "error_description": description}
        self.status = status


def _invalid_client() -> OAuthError:
    return OAuthError("invalid_client", "Client authentication failed", 401)


class OAuthApi:
    """What a client needs to get an access token."""

    def __init__(
        self,
        directory: Directory,
        issuer: TokenIssuer,
        *,
        lifetime: float,
        workspace_id: str,
        account_id: str,
    ) -> None:
        self._directory = directory
        self._issuer = issuer
        self._lifetime = lifetime
        self._workspace_id = workspace_id
        self._account_id = account_id

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/.well-known/databricks-config", self._workspace),
            web.get("/oidc/.well-known/oauth-authorization-server", self._server),
            web.post(TOKEN_PATH, self._token),
        ]

    async def _workspace(self, request: web.Request) -> web.Response:
        return web.json_response(
            {
                "oidc_endpoint": f"{_base(request)}/oidc",
                "workspace_id": self._workspace_id,
                "account_id": self._account_id,
                "cloud": "aws",
            }
        )

    async def _server(self, request: web.Request) -> web.Response:
        base = _base(request)
        return web.json_response(
            {
                "issuer": f"{base}/oidc",
                "authorization_endpoint": f"{base}/oidc/v1/authorize",
                "token_endpoint": base + TOKEN_PATH,
                "grant_types_supported": [CLIENT_CREDENTIALS, TOKEN_EXCHANGE],
            }
        )

    async def _token(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        try:
            principal = self._principal(request, form)
        except OAuthError as error:
            return web.json_response(error.body, status=error.status)
        issued = self._issuer.access_token(principal.identity, self._lifetime)
        return web.json_response(
            {
                "access_token": issued.token,
                "token_type": "Bearer",
                "expires_in": int(self._lifetime),
                "scope": form.get("scope", "all-apis"),
            }
        )

    def _principal(self, request: web.Request, form: dict[str, str]) -> Entry:
        match form.get("grant_type"):
            case "client_credentials":
                return self._by_secret(*_client(request, form))
            case "urn:ietf:params:oauth:grant-type:token-exchange":
                return self._by_foreign_token(form)
            case other:
                raise OAuthError("unsupported_grant_type", f"Unsupported grant type: {other}")

    def _by_secret(self, client_id: str, secret: str) -> Entry:
        principal = self._directory.find(IdentityKind.SERVICE_PRINCIPAL, client_id)
        if principal is None or principal.secret is None or principal.secret != secret:
            raise _invalid_client()
        return principal

    def _by_foreign_token(self, form: dict[str, str]) -> Entry:
        if form.get("subject_token_type") != _JWT_TYPE:
            raise OAuthError("invalid_request", f"subject_token_type must be {_JWT_TYPE}")
        token = form.get("subject_token", "")
        try:
            claims = jwt.decode(token, options={"verify_signature": False, "verify_exp": True})
        except jwt.ExpiredSignatureError as error:
            raise OAuthError("invalid_grant", "The subject token has expired") from error
        except jwt.InvalidTokenError as error:
            raise OAuthError("invalid_grant", "The subject token is not a JWT") from error
        for policy in self._directory.federation_policies:
            if policy.client_id == form.get("client_id") and _fits(policy, claims, token):
                if principal := self._directory.find(IdentityKind.SERVICE_PRINCIPAL, policy.client_id):
                    return principal
                raise _invalid_client()
        raise OAuthError(
            "invalid_grant", "No federation policy of the service principal fits the subject token"
        )


def _fits(policy: FederationPolicy, claims: dict[str, Any], token: str) -> bool:
    audiences = claims.get("aud", [])
    audiences = {audiences} if isinstance(audiences, str) else set(audiences)
    if claims.get("iss") != policy.issuer or claims.get("sub") != policy.subject:
        return False
    if policy.audiences and not audiences & set(policy.audiences):
        return False
    return policy.jwks is None or _is_signed(token, policy.jwks)


def _is_signed(token: str, jwks: str) -> bool:
    key_id = jwt.get_unverified_header(token).get("kid")
    for key in jwt.PyJWKSet.from_json(jwks).keys:
        if key_id is not None and key.key_id != key_id:
            continue
        try:
            jwt.decode(token, key.key, algorithms=_SIGNATURES, options={"verify_aud": False})
        except jwt.InvalidTokenError:
            continue
        return True
    return False


def _client(request: web.Request, form: dict[str, str]) -> tuple[str, str]:
    """Client id and secret, from HTTP Basic authentication or the form."""
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return form.get("client_id", ""), form.get("client_secret", "")
    try:
        client_id, _, secret = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise _invalid_client() from error
    return client_id, secret


def _base(request: web.Request) -> str:
    return f"https://{request.host}"
