"""Who may do what with a project or an instance in Databricks (not in Postgres): the Permissions API."""

from collections.abc import Iterable
from enum import IntEnum
from typing import Any

from aiohttp import web

from lakebase_sandbox.postgres import IdentityKind
from lakebase_sandbox.simulator.caller import CALLER
from lakebase_sandbox.simulator.directory import Directory, Entry
from lakebase_sandbox.simulator.errors import ApiError, invalid, not_found, permission_denied

PROJECTS = "database-projects"
INSTANCES = "database-instances"


class Level(IntEnum):
    """What an access control list can give, the lesser first."""

    CAN_USE = 1
    CAN_MANAGE = 2


_PRINCIPAL_FIELDS = {
    "user_name": IdentityKind.USER,
    "group_name": IdentityKind.GROUP,
    "service_principal_name": IdentityKind.SERVICE_PRINCIPAL,
}


class AccessControl:
    """The access control lists of all projects and instances."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._lists: dict[tuple[str, str], dict[str, Level]] = {}  # object -> SCIM id -> level

    def create(self, object_type: str, object_id: str, manager: Entry) -> None:
        """Begin the list of a new object, which its creator may manage."""
        self._lists[object_type, object_id] = {manager.identity.id: Level.CAN_MANAGE}

    def remove(self, object_type: str, object_id: str) -> None:
        self._lists.pop((object_type, object_id), None)

    def exists(self, object_type: str, object_id: str) -> bool:
        return (object_type, object_id) in self._lists

    def grant(self, object_type: str, object_id: str, entry: Entry, level: Level) -> None:
        self._lists[object_type, object_id][entry.identity.id] = level

    def level(self, object_type: str, object_id: str, caller: Entry) -> Level | None:
        """The best that the caller has there, itself or through a group."""
        levels = [
            level
            for id_, level in self._lists.get((object_type, object_id), {}).items()
            if id_ == caller.identity.id or self._directory.is_member(caller.identity.id, id_)
        ]
        return max(levels, default=None)

    def require(self, object_type: str, object_id: str, caller: Entry, level: Level) -> None:
        """Raise PERMISSION_DENIED unless the caller has at least this level."""
        held = self.level(object_type, object_id, caller)
        if held is None or held < level:
            raise permission_denied(
                f"User {caller.identity.name} does not have {level.name} permission on {object_type} {object_id}."
            )

    def change(
        self, object_type: str, object_id: str, rows: Iterable[dict[str, Any]], *, replace: bool
    ) -> None:
        """Merge rows into a list, or replace it by them.

        Raises:
            ApiError: a row names no principal, or a level that cannot be granted.
        """
        changed = {} if replace else dict(self._lists[object_type, object_id])
        for row in rows:
            entry = self._principal(row)
            level = str(row.get("permission_level"))
            if level not in Level.__members__:
                raise invalid(f"Permission level {level} is not supported for {object_type}.")
            changed[entry.identity.id] = Level[level]
        self._lists[object_type, object_id] = changed

    def to_json(self, object_type: str, object_id: str) -> dict[str, Any]:
        fields = {kind: name for name, kind in _PRINCIPAL_FIELDS.items()}
        rows = []
        for id_, level in self._lists[object_type, object_id].items():
            if entry := self._directory.by_id(id_):
                rows.append(
                    {
                        fields[entry.identity.kind]: entry.identity.name,
                        "display_name": entry.display_name,
                        "all_permissions": [{"permission_level": level.name, "inherited": False}],
                    }
                )
        return {
            "object_id": f"/{object_type}/{object_id}",
            "object_type": object_type,
            "access_control_list": rows,
        }

    def _principal(self, row: dict[str, Any]) -> Entry:
        for field, kind in _PRINCIPAL_FIELDS.items():
            if name := row.get(field):
                entry = self._directory.find(kind, name)
                if entry is None:
                    raise ApiError(404, "RESOURCE_DOES_NOT_EXIST", f"Principal {name} does not exist.")
                return entry
        raise invalid("An access control entry needs user_name, group_name or service_principal_name.")


class PermissionsApi:
    """`/api/2.0/permissions/{database-projects,database-instances}/{id}`."""

    def __init__(self, access: AccessControl) -> None:
        self._access = access

    def routes(self) -> list[web.RouteDef]:
        path = f"/api/2.0/permissions/{{type:{PROJECTS}|{INSTANCES}}}/{{id}}"
        return [
            web.get(path, self._get),
            web.put(path, self._put),
            web.patch(path, self._patch),
        ]

    async def _get(self, request: web.Request) -> web.Response:
        return web.json_response(self._access.to_json(*self._object(request, Level.CAN_USE)))

    async def _put(self, request: web.Request) -> web.Response:
        return await self._change(request, replace=True)

    async def _patch(self, request: web.Request) -> web.Response:
        return await self._change(request, replace=False)

    async def _change(self, request: web.Request, *, replace: bool) -> web.Response:
        object_ = self._object(request, Level.CAN_MANAGE)
        rows = (await request.json()).get("access_control_list", [])
        self._access.change(*object_, rows, replace=replace)
        return web.json_response(self._access.to_json(*object_))

    def _object(self, request: web.Request, level: Level) -> tuple[str, str]:
        object_ = (request.match_info["type"], request.match_info["id"])
        if not self._access.exists(*object_):
            raise not_found(object_[0])
        self._access.require(*object_, request[CALLER], level)
        return object_
