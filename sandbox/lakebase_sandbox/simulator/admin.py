"""The admin API: how scripts put the simulator into states, break it, and look at it."""

import secrets
from typing import TYPE_CHECKING, Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lakebase_sandbox.postgres import IdentityKind
from lakebase_sandbox.simulator.records import timestamp
from lakebase_sandbox.simulator.settings import FederationPolicy

if TYPE_CHECKING:
    from lakebase_sandbox.simulator.simulator import LakebaseSimulator


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Login(_Body):
    target: str
    user: str


class _State(_Body):
    target: str
    state: str


class _NativeLogin(_Body):
    target: str
    enabled: bool


class _Port(_Body):
    resource: str


class _Fault(_Body):
    target: str
    name: str
    args: list[str | int] = Field(default_factory=list)


class _Identity(_Body):
    kind: IdentityKind
    name: str
    members: list[str] = Field(default_factory=list)


class _FederationPolicy(_Body):
    client_id: str
    issuer: str
    subject: str
    audiences: list[str] = Field(default_factory=list)
    jwks: str | None = None


def admin_app(simulator: "LakebaseSimulator", token: str) -> web.Application:
    """The application behind the admin address; every request but `/healthz` must carry `token`."""

    @web.middleware
    async def serve(request: web.Request, handler: Any) -> web.StreamResponse:
        try:
            sent = request.headers.get("Authorization", "")
            if request.path != "/healthz" and not secrets.compare_digest(sent, f"Bearer {token}"):
                return _error(401, "the admin token is missing or wrong")
            answer: web.StreamResponse = await handler(request)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            return _error(400, f"{field}: {first['msg']}" if field else first["msg"])
        except LookupError as error:
            return _error(404, str(error.args[0]))
        except ValueError as error:
            return _error(400, str(error))
        except web.HTTPException as error:
            return _error(error.status, error.reason)
        return answer

    async def healthz(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def login(request: web.Request) -> web.Response:
        body = _Login.model_validate_json(await request.read())
        credential = simulator.login(body.target, body.user)
        return web.json_response({"token": credential.token, "expires_at": timestamp(credential.expires_at)})

    async def state(request: web.Request) -> web.Response:
        body = _State.model_validate_json(await request.read())
        await simulator.set_state(body.target, body.state)
        return web.json_response({})

    async def native_login(request: web.Request) -> web.Response:
        body = _NativeLogin.model_validate_json(await request.read())
        simulator.set_native_login(body.target, enabled=body.enabled)
        return web.json_response({})

    async def port(request: web.Request) -> web.Response:
        body = _Port.model_validate_json(await request.read())
        return web.json_response({"port": simulator.workspace.port_of(body.resource)})

    async def fault(request: web.Request) -> web.Response:
        body = _Fault.model_validate_json(await request.read())
        await simulator.fault(body.target, body.name, *body.args)
        return web.json_response({})

    async def clear(request: web.Request) -> web.Response:
        await simulator.clear_faults(request.query.get("target"))
        return web.json_response({})

    async def identities(request: web.Request) -> web.Response:
        body = _Identity.model_validate_json(await request.read())
        entry = simulator.add_identity(body.kind, body.name, members=body.members)
        answer = {"id": entry.identity.id, "kind": entry.identity.kind.value, "name": entry.identity.name}
        return web.json_response(answer | ({"secret": entry.secret} if entry.secret else {}))

    async def federation(request: web.Request) -> web.Response:
        body = _FederationPolicy.model_validate_json(await request.read())
        simulator.add_federation_policy(
            FederationPolicy(
                client_id=body.client_id,
                issuer=body.issuer,
                subject=body.subject,
                audiences=tuple(body.audiences),
                jwks=body.jwks,
            )
        )
        return web.json_response({})

    async def stats(_: web.Request) -> web.Response:
        return web.json_response(simulator.stats())

    app = web.Application(middlewares=[serve])
    app.add_routes(
        [
            web.get("/healthz", healthz),
            web.post("/login", login),
            web.post("/state", state),
            web.post("/native-login", native_login),
            web.post("/ports", port),
            web.post("/faults", fault),
            web.delete("/faults", clear),
            web.post("/identities", identities),
            web.post("/federation-policies", federation),
            web.get("/stats", stats),
        ]
    )
    return app


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"message": message}, status=status)
