"""`w.postgres`: the roles and databases of a branch. They live in Postgres; the API keeps only their ids."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from aiohttp import web

from lakebase_sandbox.postgres import IdentityKind
from lakebase_sandbox.simulator import postgres_objects as postgres
from lakebase_sandbox.simulator.errors import ApiError, bad_request, invalid, not_found, required
from lakebase_sandbox.simulator.masks import masked_update, paths, unknown_path
from lakebase_sandbox.simulator.paging import page_response
from lakebase_sandbox.simulator.permissions import Level
from lakebase_sandbox.simulator.postgres_api import BRANCH, PostgresApi
from lakebase_sandbox.simulator.postgres_json import IDENTITY_TYPES, database_json, role_json
from lakebase_sandbox.simulator.postgres_objects import ATTRIBUTES, PostgresDatabase, PostgresRole
from lakebase_sandbox.simulator.records import Branch, ResourceId, now
from lakebase_sandbox.simulator.target import Target
from lakebase_sandbox.simulator.workspace import Workspace

ROLES = f"{BRANCH}/roles"
DATABASES = f"{BRANCH}/databases"

_ROLE_ID = re.compile(r"^[a-z][a-z0-9-]{3,62}$")
_DATABASE_ID = re.compile(r"^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$")
_ROLE_MASK = {
    ("spec", "attributes"),
    ("spec", "membership_roles"),
    *(("spec", "attributes", attribute) for attribute in ATTRIBUTES),
}
_SUPERUSER = "DATABRICKS_SUPERUSER"
_PASSWORD = "PG_PASSWORD_SCRAM_SHA_256"  # a method, not a password


class PostgresRolesApi:
    """The part of `/api/2.0/postgres` that is about what is inside a branch's Postgres."""

    def __init__(self, workspace: Workspace, computes: PostgresApi) -> None:
        self._workspace = workspace
        self._computes = computes

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get(ROLES, self._list_roles),
            web.post(ROLES, self._create_role),
            web.get(f"{ROLES}/{{id}}", self._get_role),
            web.patch(f"{ROLES}/{{id}}", self._update_role),
            web.delete(f"{ROLES}/{{id}}", self._delete_role),
            web.post(f"{ROLES}/{{id}}/password", self._reveal_password),
            web.get(DATABASES, self._list_databases),
            web.post(DATABASES, self._create_database),
            web.get(f"{DATABASES}/{{id}}", self._get_database),
            web.patch(f"{DATABASES}/{{id}}", self._update_database),
            web.delete(f"{DATABASES}/{{id}}", self._delete_database),
        ]

    # Roles

    async def _list_roles(self, request: web.Request) -> web.Response:
        branch, target = self._collection(request, Level.CAN_USE)
        roles = [self._role_json(branch, role) for role in await postgres.list_roles(target)]
        return page_response(request, "roles", roles)

    async def _get_role(self, request: web.Request) -> web.Response:
        branch, _, role = await self._role(request, Level.CAN_USE)
        return web.json_response(self._role_json(branch, role))

    async def _create_role(self, request: web.Request) -> web.Response:
        branch, target = self._collection(request, Level.CAN_MANAGE)
        spec = (await request.json()).get("spec") or {}
        if not spec:
            raise invalid(
                "Field 'role' is required and must contain at least one subfield with a non-default value!"
            )
        name = spec.get("postgres_role")
        if not name:
            raise required("role.spec.postgres_role")
        kind = IDENTITY_TYPES.get(spec.get("identity_type", ""))
        method = spec.get("auth_method") or ("LAKEBASE_OAUTH_V1" if kind else _PASSWORD)
        _check_new_role(name, method, kind)
        role_id = request.query.get("role_id") or self._default_role_id(name)
        if not _ROLE_ID.match(role_id):
            raise invalid(f"Field role_id must match pattern {_ROLE_ID.pattern}, got '{role_id}'.")
        self._workspace.operations.refuse_if_busy(branch.name)
        existing = await postgres.get_role(target, name)
        taken = await self._role_by_id(branch, target, role_id)
        if request.query.get("replace_existing") == "true":
            if existing is not None:
                return self._replace_role(branch, target, existing, spec, method)
        elif existing is not None or taken is not None:
            raise bad_request("role with that name already exists")

        async def work() -> dict[str, Any]:
            await self._make_role(branch, target, name, kind, spec)
            self._workspace.set_resource_id(f"{branch.name}/roles", name, ResourceId(id=role_id))
            return await self._role_now(branch, target, name)

        return self._start(f"{branch.name}/roles/{role_id}", "Role", branch, work)

    async def _make_role(
        self,
        branch: Branch,
        target: Target,
        name: str,
        kind: IdentityKind | None,
        spec: Mapping[str, Any],
    ) -> None:
        identity = None
        if kind is not None:
            entry = self._workspace.directory.find(kind, name)
            if entry is None:
                raise ApiError(404, "PRINCIPAL_DOES_NOT_EXIST", f"Principal {name} does not exist.")
            identity = entry.identity
        password = None if kind else postgres.new_password()
        await postgres.create_role(
            target,
            name,
            identity=identity,
            password=password,
            attributes=spec.get("attributes") or {},
            superuser_member=_SUPERUSER in (spec.get("membership_roles") or []),
        )
        role = await postgres.get_role(target, name)
        if role is not None and password is not None:
            self._workspace.remember_password(branch.name, role.oid, password)

    def _replace_role(
        self, branch: Branch, target: Target, role: PostgresRole, spec: Mapping[str, Any], method: str
    ) -> web.Response:
        attributes = {name: bool((spec.get("attributes") or {}).get(name)) for name in ATTRIBUTES}
        member = _SUPERUSER in (spec.get("membership_roles") or [])

        async def work() -> dict[str, Any]:
            await postgres.set_attributes(target, role.name, attributes)
            await postgres.set_superuser_member(target, role.name, member=member)
            if method == _PASSWORD:
                password = postgres.new_password()
                await postgres.set_password(target, role.name, password)
                self._workspace.remember_password(branch.name, role.oid, password)
            return await self._role_now(branch, target, role.name)

        return self._start(self._role_json(branch, role)["name"], "Role", branch, work)

    async def _update_role(self, request: web.Request) -> web.Response:
        branch, target, role = await self._role(request, Level.CAN_MANAGE)
        spec = (await request.json()).get("spec") or {}
        mask = paths(request.query.get("update_mask"))
        if not set(mask) <= {*_ROLE_MASK, ("spec",), ("*",)}:
            raise unknown_path()
        whole = bool({("spec",), ("*",)} & set(mask))
        given = spec.get("attributes") or {}
        if whole or ("spec", "attributes") in mask:
            attributes = {name: bool(given.get(name)) for name in ATTRIBUTES}
        else:
            attributes = {path[2]: bool(given.get(path[2])) for path in mask if len(path) == 3}

        async def work() -> dict[str, Any]:
            await postgres.set_attributes(target, role.name, attributes)
            if whole or ("spec", "membership_roles") in mask:
                member = _SUPERUSER in (spec.get("membership_roles") or [])
                await postgres.set_superuser_member(target, role.name, member=member)
            scope = f"{branch.name}/roles"
            resource_id = self._role_resource_id(branch, role.name)
            self._workspace.set_resource_id(scope, role.name, replace(resource_id, update_time=now()))
            return await self._role_now(branch, target, role.name)

        return self._start(self._role_json(branch, role)["name"], "Role", branch, work)

    async def _delete_role(self, request: web.Request) -> web.Response:
        branch, target, role = await self._role(request, Level.CAN_MANAGE)
        heir = None
        if heir_name := request.query.get("reassign_owned_to"):
            heir = await self._role_by_id(branch, target, heir_name.rpartition("/")[2])
            if heir is None:
                raise not_found("role")

        async def work() -> None:
            await postgres.drop_role(target, role.name, heir.name if heir else None)
            self._workspace.forget_resource_id(f"{branch.name}/roles", role.name)

        return self._start(self._role_json(branch, role)["name"], "Role", branch, work)

    async def _reveal_password(self, request: web.Request) -> web.Response:
        branch, _, role = await self._role(request, Level.CAN_MANAGE)
        if role.identity_kind is not None or not role.can_login:
            raise bad_request("role does not log in with a password")
        password = self._workspace.password(branch.name, role.oid)
        if password is None:
            raise bad_request("role has no password that could be revealed")
        return web.json_response({"password": password})

    # Databases

    async def _list_databases(self, request: web.Request) -> web.Response:
        branch, target = self._collection(request, Level.CAN_USE)
        databases = [self._database_json(branch, d) for d in await postgres.list_databases(target)]
        return page_response(request, "databases", databases)

    async def _get_database(self, request: web.Request) -> web.Response:
        branch, _, database = await self._database(request, Level.CAN_USE)
        return web.json_response(self._database_json(branch, database))

    async def _create_database(self, request: web.Request) -> web.Response:
        branch, target = self._collection(request, Level.CAN_MANAGE)
        spec = (await request.json()).get("spec") or {}
        if not spec.get("role"):
            raise required("database.spec.role")
        database_id = request.query.get("database_id") or _slug(spec.get("postgres_database") or "")
        if not _DATABASE_ID.match(database_id):
            raise invalid(
                f"Field database_id must match pattern {_DATABASE_ID.pattern}, got '{database_id}'."
            )
        name = spec.get("postgres_database") or database_id
        self._workspace.operations.refuse_if_busy(branch.name)
        owner = await self._owner(branch, target, spec["role"])
        existing = [d for d in await postgres.list_databases(target) if d.name == name]
        if existing and request.query.get("replace_existing") != "true":
            raise bad_request("database with that name already exists")

        async def work() -> dict[str, Any]:
            if existing:
                await postgres.change_database(target, name, owner=owner, new_name=None)
            else:
                await postgres.create_database(target, name, owner)
                self._workspace.set_resource_id(f"{branch.name}/databases", name, ResourceId(id=database_id))
            return self._database_json(branch, PostgresDatabase(name, owner))

        return self._start(f"{branch.name}/databases/{database_id}", "Database", branch, work)

    async def _update_database(self, request: web.Request) -> web.Response:
        branch, target, database = await self._database(request, Level.CAN_MANAGE)
        new = (await request.json()).get("spec") or {}
        allowed = frozenset({"role", "postgres_database"})
        spec = masked_update({}, new, request.query.get("update_mask"), allowed)
        owner = await self._owner(branch, target, spec["role"]) if spec.get("role") else database.owner
        name = spec.get("postgres_database") or database.name
        scope = f"{branch.name}/databases"

        async def work() -> dict[str, Any]:
            resource_id = self._workspace.resource_id(scope, database.name, _slug(database.name))
            await postgres.change_database(target, database.name, owner=owner, new_name=name)
            self._workspace.forget_resource_id(scope, database.name)
            self._workspace.set_resource_id(scope, name, replace(resource_id, update_time=now()))
            return self._database_json(branch, PostgresDatabase(name, owner))

        return self._start(f"{scope}/{request.match_info['id']}", "Database", branch, work)

    async def _delete_database(self, request: web.Request) -> web.Response:
        branch, target, database = await self._database(request, Level.CAN_MANAGE)

        async def work() -> None:
            await postgres.drop_database(target, database.name)
            self._workspace.forget_resource_id(f"{branch.name}/databases", database.name)

        return self._start(f"{branch.name}/databases/{request.match_info['id']}", "Database", branch, work)

    # Finding things

    def _collection(self, request: web.Request, level: Level) -> tuple[Branch, Target]:
        branch = self._computes.branch(request, level, as_collection=True)
        return branch, self._target(branch)

    def _target(self, branch: Branch) -> Target:
        target = self._workspace.branch_target(branch.name)
        if target is None:
            raise ApiError(400, "INVALID_STATE", "The branch has no read-write endpoint.")
        return target

    async def _role(self, request: web.Request, level: Level) -> tuple[Branch, Target, PostgresRole]:
        branch = self._computes.branch(request, level)
        target = self._target(branch)
        role = await self._role_by_id(branch, target, request.match_info["id"])
        if role is None:
            raise not_found("role")
        return branch, target, role

    async def _role_by_id(self, branch: Branch, target: Target, role_id: str) -> PostgresRole | None:
        roles = await postgres.list_roles(target)
        return next((r for r in roles if self._role_resource_id(branch, r.name).id == role_id), None)

    async def _database(self, request: web.Request, level: Level) -> tuple[Branch, Target, PostgresDatabase]:
        branch = self._computes.branch(request, level)
        target = self._target(branch)
        for database in await postgres.list_databases(target):
            if self._database_resource_id(branch, database.name).id == request.match_info["id"]:
                return branch, target, database
        raise not_found("database")

    async def _owner(self, branch: Branch, target: Target, role: str) -> str:
        """The Postgres name of a role given by its full resource name."""
        role_id = role.rpartition("/")[2]
        owner = await self._role_by_id(branch, target, role_id)
        if owner is None:
            error = not_found("role")
            trace = error.message.partition(" [")[2]
            raise ApiError(404, "NOT_FOUND", f'role not found; role_id:"{role_id}" [{trace}')
        return owner.name

    async def _role_now(self, branch: Branch, target: Target, name: str) -> dict[str, Any]:
        role = await postgres.get_role(target, name)
        if role is None:
            raise not_found("role")
        return self._role_json(branch, role)

    def _role_json(self, branch: Branch, role: PostgresRole) -> dict[str, Any]:
        return role_json(branch.name, role, self._role_resource_id(branch, role.name))

    def _database_json(self, branch: Branch, database: PostgresDatabase) -> dict[str, Any]:
        return database_json(
            branch.name,
            database,
            self._database_resource_id(branch, database.name),
            self._role_resource_id(branch, database.owner),
        )

    def _role_resource_id(self, branch: Branch, name: str) -> ResourceId:
        return self._workspace.resource_id(f"{branch.name}/roles", name, self._default_role_id(name))

    def _database_resource_id(self, branch: Branch, name: str) -> ResourceId:
        return self._workspace.resource_id(f"{branch.name}/databases", name, _slug(name))

    def _default_role_id(self, name: str) -> str:
        """The id that the server gives a role: `jane-doe` for jane.doe@example.com, `sp-…` for an application."""
        if self._workspace.directory.find(IdentityKind.SERVICE_PRINCIPAL, name):
            return f"sp-{name.lower()}"
        return _slug(name.partition("@")[0])

    def _start(self, resource: str, kind: str, branch: Branch, work: Any) -> web.Response:
        return web.json_response(self._workspace.operations.start(resource, kind, branch.name, work))


def _check_new_role(name: str, method: str, kind: IdentityKind | None) -> None:
    if method == "NO_LOGIN":
        raise invalid("Creating roles with auth_method NO_LOGIN is not currently supported")
    if kind is None and method == "LAKEBASE_OAUTH_V1":
        raise invalid("auth_method LAKEBASE_OAUTH_V1 needs an identity_type")
    if postgres.SYSTEM_ROLE.match(name) or name in {"public", "none"}:
        raise invalid(f"Role name '{name}' is not permitted")
    if len(name.encode()) > 63:
        raise invalid("Role names are limited to 63 characters")


def _slug(name: str) -> str:
    """A resource id made of a Postgres name."""
    words = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if not words or not words[0].isalpha():
        words = f"r-{words}"
    return (words if len(words) >= 4 else f"{words}-role")[:63].rstrip("-")
