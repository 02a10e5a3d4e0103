"""`w.database`: provisioned instances, their roles, and credentials."""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from lakebase_sandbox.simulator import postgres_objects as postgres
from lakebase_sandbox.simulator.caller import CALLER
from lakebase_sandbox.simulator.directory import Entry
from lakebase_sandbox.simulator.errors import (
    ApiError,
    already_exists,
    bad_request,
    instance_not_found,
    invalid,
    not_implemented,
    required,
)
from lakebase_sandbox.simulator.paging import page_response
from lakebase_sandbox.simulator.permissions import INSTANCES, Level
from lakebase_sandbox.simulator.postgres_json import IDENTITY_TYPES
from lakebase_sandbox.simulator.postgres_objects import ATTRIBUTES, PostgresRole
from lakebase_sandbox.simulator.records import Instance, whole_seconds
from lakebase_sandbox.simulator.settings import ProvisionedTarget
from lakebase_sandbox.simulator.target import Target, TargetState
from lakebase_sandbox.simulator.workspace import Workspace, is_gone

BASE = "/api/2.0/database"
INSTANCE = f"{BASE}/instances/{{instance}}"

MOST_INSTANCES = 10
_NAME = re.compile(r"^[a-zA-Z]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?$")
_CAPACITIES = ("CU_1", "CU_2", "CU_4", "CU_8")
_SUPERUSER = "DATABRICKS_SUPERUSER"
_DEFAULTS: Mapping[str, Any] = {
    "capacity": "CU_1",
    "enable_pg_native_login": False,
    "enable_readable_secondaries": False,
    "node_count": 1,
    "retention_window_in_days": 7,
}
_RESIZING = frozenset({"capacity", "node_count", "enable_readable_secondaries"})
_UPDATABLE = frozenset({*_DEFAULTS, "stopped", "usage_policy_id", "custom_tags"})


class DatabaseApi:
    """`/api/2.0/database`."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._starting: set[asyncio.Task[None]] = set()

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post(f"{BASE}/credentials", self._generate_credential),
            web.get(f"{BASE}/instances", self._list),
            web.post(f"{BASE}/instances", self._create),
            web.get(f"{BASE}/instances:findByUid", self._find_by_uid),
            web.get(INSTANCE, self._get),
            web.patch(INSTANCE, self._update),
            web.delete(INSTANCE, self._delete),
            web.get(f"{INSTANCE}/roles", self._list_roles),
            web.post(f"{INSTANCE}/roles", self._create_role),
            web.get(f"{INSTANCE}/roles/{{role}}", self._get_role),
            web.delete(f"{INSTANCE}/roles/{{role}}", self._delete_role),
            web.patch(f"{BASE}/catalogs/{{name}}", _not_implemented("Update Database Catalog")),
            web.get(f"{INSTANCE}/catalogs", _not_implemented("List Database Catalogs")),
            web.patch(f"{BASE}/synced_tables/{{name}}", _not_implemented("Update Synced Database Table")),
            web.get(f"{INSTANCE}/synced_tables", _not_implemented("List Synced Database Tables")),
        ]

    async def close(self) -> None:
        for task in self._starting:
            task.cancel()
        await asyncio.gather(*self._starting, return_exceptions=True)

    async def _generate_credential(self, request: web.Request) -> web.Response:
        body = await request.json()
        names = body.get("instance_names") or []
        if not names:
            raise required("instance_names")
        caller = request[CALLER]
        for name in names:
            self._existing(name, caller, Level.CAN_USE)
        lifetime = self._workspace.settings.credential_seconds
        resources = [f"instances/{name}" for name in names]
        issued = self._workspace.issuer.database_credential(caller.identity, resources, lifetime)
        expires = datetime.fromtimestamp(issued.expires_at, UTC)
        return web.json_response({"token": issued.token, "expiration_time": whole_seconds(expires)})

    # Instances

    async def _list(self, request: web.Request) -> web.Response:
        caller = request[CALLER]
        instances = [
            self._to_json(instance)
            for instance in self._workspace.instances.values()
            if not is_gone(self._workspace.instance_target(instance.name))
            and self._workspace.access.level(INSTANCES, instance.name, caller)
        ]
        return page_response(request, "database_instances", instances)

    async def _get(self, request: web.Request) -> web.Response:
        return web.json_response(self._to_json(self._instance(request, Level.CAN_USE)))

    async def _find_by_uid(self, request: web.Request) -> web.Response:
        uid = request.query.get("uid", "")
        for instance in self._workspace.instances.values():
            if instance.uid == uid:
                self._existing(instance.name, request[CALLER], Level.CAN_USE)
                return web.json_response(self._to_json(instance))
        raise ApiError(404, "NOT_FOUND", f"database instance with uid '{uid}' not found")

    async def _create(self, request: web.Request) -> web.Response:
        body = await request.json()
        name = body.get("name")
        if not name:
            raise required("name")
        if not _NAME.match(name):
            raise invalid(f"Field name must match pattern {_NAME.pattern}, got '{name}'.")
        if name in self._workspace.instances:
            raise already_exists("database instance")
        self._workspace.faults.refuse_if_full("database instance")
        if len(self._workspace.instances) >= MOST_INSTANCES:
            raise ApiError(
                400, "QUOTA_EXCEEDED", f"The workspace has {MOST_INSTANCES} database instances already."
            )
        spec = _checked({k: v for k, v in body.items() if k in _UPDATABLE})
        caller = request[CALLER]
        instance = Instance(name=name, creator=caller.identity.name, spec=spec, effective=spec)
        self._workspace.instances[name] = instance
        self._workspace.access.create(INSTANCES, name, caller)
        target = ProvisionedTarget(
            name=self._workspace.free_target_name(name),
            instance=name,
            enable_pg_native_login=bool(spec.get("enable_pg_native_login")),
        )
        task = asyncio.create_task(self._start_instance(target, caller))
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)
        return web.json_response(self._to_json(instance, with_tags=True))

    async def _start_instance(self, settings: ProvisionedTarget, creator: Entry) -> None:
        await self._workspace.add_target(settings, creator=creator, state=TargetState.STARTING)

    async def _update(self, request: web.Request) -> web.Response:
        instance = self._instance(request, Level.CAN_MANAGE)
        body = await request.json()
        mask = request.query.get("update_mask")
        fields = [f.strip() for f in (mask or "*").split(",")]
        if fields == ["*"]:
            fields = [name for name in body if name in _UPDATABLE]
        if unknown := set(fields) - _UPDATABLE:
            raise invalid(f"Unknown field path in update_mask: {min(unknown)}")
        spec = dict(instance.spec)
        for field in fields:
            if field in body:
                spec[field] = body[field]
            else:
                spec.pop(field, None)
        updated = replace(instance, spec=_checked(spec))
        native_login = "enable_pg_native_login"
        effective = {k: v for k, v in instance.effective.items() if k in _RESIZING} | {
            k: v for k, v in updated.spec.items() if k not in _RESIZING
        }
        if native_login in fields and self._workspace.faults.ignores_native_login():
            effective[native_login] = bool(instance.effective.get(native_login))
        updated = replace(updated, effective=effective)
        self._workspace.instances[instance.name] = updated
        await self._act(updated, fields)
        return web.json_response(self._to_json(updated, with_tags=True))

    async def _act(self, instance: Instance, changed: list[str]) -> None:
        target = self._workspace.instance_target(instance.name)
        if target is None:
            raise ApiError(400, "INVALID_STATE", "The instance is still being created.")
        target.enable_pg_native_login = bool(instance.effective.get("enable_pg_native_login"))
        if _RESIZING & set(changed):
            target.when_available(lambda: self._resize(instance.name))
        if "stopped" in changed:
            stop = bool(instance.spec.get("stopped"))
            if stop and target.state is not TargetState.STOPPED:
                await target.set_state(TargetState.STOPPED)
            elif not stop and target.state is TargetState.STOPPED:
                await target.set_state(TargetState.STARTING)
        elif _RESIZING & set(changed) and target.state is TargetState.AVAILABLE:
            await target.set_state(TargetState.UPDATING, passing=True)

    def _resize(self, name: str) -> None:
        """A change of the size takes effect at a restart."""
        instance = self._workspace.instances.get(name)
        if instance is not None:
            sizes = {k: v for k, v in instance.spec.items() if k in _RESIZING}
            effective = {k: v for k, v in instance.effective.items() if k not in _RESIZING} | sizes
            self._workspace.instances[name] = replace(instance, effective=effective)

    async def _delete(self, request: web.Request) -> web.Response:
        instance = self._instance(request, Level.CAN_MANAGE)
        if request.query.get("purge") == "false":
            raise bad_request("purge must be true or omitted")
        target = self._workspace.instance_target(instance.name)
        if target is not None:
            await target.set_state(TargetState.DELETED)
            await self._workspace.remove_target(target)
        del self._workspace.instances[instance.name]
        self._workspace.access.remove(INSTANCES, instance.name)
        return web.json_response({})

    # Roles: no long-running operations here, and no update

    async def _list_roles(self, request: web.Request) -> web.Response:
        target = self._target(request, Level.CAN_USE)
        roles = [_role_json(role) for role in await postgres.list_roles(target)]
        return page_response(request, "database_instance_roles", roles)

    async def _get_role(self, request: web.Request) -> web.Response:
        role = await self._role(self._target(request, Level.CAN_USE), request)
        return web.json_response(_role_json(role))

    async def _create_role(self, request: web.Request) -> web.Response:
        body = await request.json()
        name = body.get("name")
        if not name:
            raise required("name")
        caller = request[CALLER]
        privileged = bool(body.get("attributes") or body.get("membership_role"))
        own = name == caller.identity.name and not privileged
        target = self._target(request, Level.CAN_USE if own else Level.CAN_MANAGE)
        if postgres.SYSTEM_ROLE.match(name) or name in {"public", "none"}:
            raise invalid(f"Role name '{name}' is not permitted")
        if await postgres.get_role(target, name):
            raise bad_request("role with that name already exists")
        identity = None
        if kind := IDENTITY_TYPES.get(body.get("identity_type", "")):
            entry = self._workspace.directory.find(kind, name)
            if entry is None:
                raise ApiError(404, "RESOURCE_DOES_NOT_EXIST", f"Principal {name} does not exist.")
            identity = entry.identity
        await postgres.create_role(
            target,
            name,
            identity=identity,
            password=None if identity else postgres.new_password(),
            attributes=body.get("attributes") or {},
            superuser_member=body.get("membership_role") == _SUPERUSER,
        )
        created = await postgres.get_role(target, name)
        assert created is not None
        return web.json_response(_role_json(created))

    async def _delete_role(self, request: web.Request) -> web.Response:
        target = self._target(request, Level.CAN_MANAGE)
        try:
            role = await self._role(target, request)
        except ApiError:
            if request.query.get("allow_missing") == "true":
                return web.json_response({})
            raise
        await postgres.drop_role(target, role.name, request.query.get("reassign_owned_to"))
        return web.json_response({})

    # Finding things

    def _instance(self, request: web.Request, level: Level) -> Instance:
        return self._existing(request.match_info["instance"], request[CALLER], level)

    def _existing(self, name: str, caller: Entry, level: Level) -> Instance:
        instance = self._workspace.instances.get(name)
        if instance is None or is_gone(self._workspace.instance_target(name)):
            raise instance_not_found(name)
        self._workspace.access.require(INSTANCES, name, caller, level)
        return instance

    def _target(self, request: web.Request, level: Level) -> Target:
        instance = self._instance(request, level)
        target = self._workspace.instance_target(instance.name)
        if target is None or not target.server.running:
            raise ApiError(400, "INVALID_STATE", "The instance is not running: its state is STARTING.")
        return target

    async def _role(self, target: Target, request: web.Request) -> PostgresRole:
        name = request.match_info["role"]
        role = await postgres.get_role(target, name)
        if role is None:
            raise ApiError(404, "NOT_FOUND", f"role with name '{name}' not found")
        return role

    def _to_json(self, instance: Instance, *, with_tags: bool = False) -> dict[str, Any]:
        """An instance; what can only be put in is answered under `effective_…`."""
        target = self._workspace.instance_target(instance.name)
        spec, effective = {**_DEFAULTS, **instance.spec}, {**_DEFAULTS, **instance.effective}
        stopped = target is not None and target.state is TargetState.STOPPED
        body: dict[str, Any] = {
            "name": instance.name,
            "uid": instance.uid,
            "creator": instance.creator,
            "creation_time": whole_seconds(instance.creation_time),
            "capacity": spec["capacity"],
            "effective_capacity": effective["capacity"],
            "effective_enable_pg_native_login": effective["enable_pg_native_login"],
            "effective_enable_readable_secondaries": effective["enable_readable_secondaries"],
            "effective_node_count": effective["node_count"],
            "effective_retention_window_in_days": effective["retention_window_in_days"],
            "effective_stopped": stopped,
            "pg_version": f"PG_VERSION_{16 if target is None else target.settings.postgres_version}",
            "state": "STARTING" if target is None else target.state.value,
        }
        if target is not None:
            body["read_write_dns"] = target.host
            if effective["enable_readable_secondaries"] and effective["node_count"] > 1:
                body["read_only_dns"] = target.host
        if policy := effective.get("usage_policy_id"):
            body["effective_usage_policy_id"] = policy
        if tags := spec.get("custom_tags"):
            body["effective_custom_tags"] = tags
            if with_tags:
                body["custom_tags"] = tags
        return body


def _role_json(role: PostgresRole) -> dict[str, Any]:
    kind = next((k for k, v in IDENTITY_TYPES.items() if v is role.identity_kind), "PG_ONLY")
    attributes = {name: role.attributes[name] for name in ATTRIBUTES}
    body = {
        "name": role.name,
        "identity_type": kind,
        "attributes": attributes,
        "effective_attributes": attributes,
    }
    return body | ({"membership_role": _SUPERUSER} if role.is_superuser_member else {})


def _checked(spec: dict[str, Any]) -> dict[str, Any]:
    if spec.get("capacity", "CU_1") not in _CAPACITIES:
        raise invalid(f"capacity must be one of {', '.join(_CAPACITIES)}")
    if not 2 <= spec.get("retention_window_in_days", 7) <= 35:
        raise invalid("retention_window_in_days must be between 2 and 35")
    return spec


def _not_implemented(what: str) -> Any:
    async def handler(request: web.Request) -> web.Response:  # noqa: ARG001
        raise not_implemented(what)

    return handler
