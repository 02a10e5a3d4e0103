"""The workspace's HTTP API as a whole: all routes, and what happens to every request."""

import base64
import json
import logging
import re
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
from aiohttp import web

from lakebase_sandbox.simulator.caller import CALLER
from lakebase_sandbox.simulator.catalogs_api import CatalogsApi
from lakebase_sandbox.simulator.database_api import DatabaseApi
from lakebase_sandbox.simulator.directory import Entry
from lakebase_sandbox.simulator.errors import (
    ApiError,
    bad_request,
    invalid,
    no_api,
    not_enabled,
    permission_denied,
    unauthenticated,
)
from lakebase_sandbox.simulator.faults import Faults, MissingRight
from lakebase_sandbox.simulator.oauth import OAuthApi
from lakebase_sandbox.simulator.permissions import PermissionsApi
from lakebase_sandbox.simulator.postgres_api import PostgresApi
from lakebase_sandbox.simulator.postgres_roles_api import PostgresRolesApi
from lakebase_sandbox.simulator.scim import ScimApi
from lakebase_sandbox.simulator.settings import AutoscalingTarget
from lakebase_sandbox.simulator.workspace import ACCOUNT_ID, WORKSPACE_ID, Workspace

logger = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

LAKEBASE_PATHS = ("/api/2.0/postgres/", "/api/2.0/database/")
_PROJECT = re.compile(r"(?:^|/)(?:projects|database-projects)/([^/]+)(?:/branches/([^/]+))?")
_INSTANCE = re.compile(r"(?:^|/)(?:instances|database-instances)/([^/]+)")


def workspace_app(workspace: Workspace) -> web.Application:
    """The application that serves a workspace."""

    @web.middleware
    async def serve(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            body = await request.read()
            _record(workspace, request, body)
            if request.path.startswith("/api/"):
                faults = _faults(workspace, request, body)
                for fault in faults:
                    await fault.before_api_request()
                if workspace.faults.not_enabled and request.path.startswith(LAKEBASE_PATHS):
                    raise not_enabled()
                request[CALLER] = _caller(workspace, request)
                _check_permission(workspace, request[CALLER], faults)
            return await handler(request)
        except ApiError as error:
            return error.response()
        except web.HTTPNotFound:
            return no_api(request.path).response()
        except web.HTTPMethodNotAllowed:
            return no_api(f"{request.method} {request.path}").response()
        except psycopg.Error as error:
            return bad_request(str(error).splitlines()[0]).response()
        except json.JSONDecodeError:
            return invalid("The request's body is not JSON.").response()
        except Exception:
            logger.exception("%s %s failed", request.method, request.path)
            return ApiError(500, "INTERNAL_ERROR", "The simulator failed; its log says why.").response()

    app = web.Application(middlewares=[serve])
    settings = workspace.settings
    oauth = OAuthApi(
        workspace.directory,
        workspace.issuer,
        lifetime=settings.access_token_seconds,
        workspace_id=WORKSPACE_ID,
        account_id=ACCOUNT_ID,
    )
    computes = PostgresApi(workspace)
    database = DatabaseApi(workspace)
    for api in (
        oauth,
        ScimApi(workspace.directory),
        PermissionsApi(workspace.access),
        computes,
        PostgresRolesApi(workspace, computes),
        CatalogsApi(workspace),
        database,
    ):
        app.add_routes(api.routes())

    async def close(_: web.Application) -> None:
        await database.close()

    app.on_shutdown.append(close)
    return app


def _record(workspace: Workspace, request: web.Request, body: bytes) -> None:
    name = f"{request.method} {request.path}"
    workspace.stats.requests[name] += 1
    seen = f"{request.path_qs}\n{body.decode(errors='replace')}\n"
    for value in request.headers.values():
        seen += f"{value}\n{_decoded(value)}\n"
    if any(secret in seen for secret in workspace.directory.secrets()):
        workspace.stats.secret_sightings[name] += 1


def _decoded(header: str) -> str:
    """What a header with Basic authentication says."""
    scheme, _, value = header.partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(value).decode(errors="replace")
    except ValueError:
        return ""


def _faults(workspace: Workspace, request: web.Request, body: bytes) -> list[Faults]:
    """The faults that concern a request: the workspace's, and those of the targets that it is about."""
    about = [request.path]
    if request.path.endswith("/credentials"):
        about += _named_in(body)
    return [workspace.faults, *(t.faults for t in workspace.targets.values() if _is_about(t.settings, about))]


def _named_in(body: bytes) -> list[str]:
    """What a request for a credential is about."""
    asked: dict[str, Any] = json.loads(body or b"{}")
    return [str(asked.get("endpoint", "")), *(f"instances/{n}" for n in asked.get("instance_names") or [])]


def _is_about(settings: Any, about: list[str]) -> bool:
    for text in about:
        if isinstance(settings, AutoscalingTarget):
            match = _PROJECT.search(text)
            if match and match[1] == settings.project and match[2] in {None, settings.branch}:
                return True
        else:
            match = _INSTANCE.search(text)
            if match and match[1] == settings.instance:
                return True
    return False


def _caller(workspace: Workspace, request: web.Request) -> Entry:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise unauthenticated("Credential was not sent or was of an unsupported type for this API.")
    id_ = workspace.issuer.identity_of(token)
    entry = None if id_ is None else workspace.directory.by_id(id_)
    if entry is None:
        raise unauthenticated("The access token is invalid or has expired.")
    return entry


def _check_permission(workspace: Workspace, caller: Entry, faults: list[Faults]) -> None:
    """Refuse the operator where it was deprived of its permission on what the request is about."""
    if caller.identity == workspace.operator.identity and any(
        MissingRight.PERMISSION in fault.missing for fault in faults
    ):
        raise permission_denied(
            f"User {caller.identity.name} does not have CAN_USE permission on this object."
        )
