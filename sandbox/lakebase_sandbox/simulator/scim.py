"""The SCIM API of the workspace: who am I, users, service principals, groups."""

import re
from typing import Any

from aiohttp import web

from lakebase_sandbox.postgres import Identity, IdentityKind
from lakebase_sandbox.simulator.caller import CALLER
from lakebase_sandbox.simulator.directory import Directory, Entry
from lakebase_sandbox.simulator.errors import ApiError, invalid

_BASE = "/api/2.0/preview/scim/v2"
_KINDS = {
    "Users": IdentityKind.USER,
    "ServicePrincipals": IdentityKind.SERVICE_PRINCIPAL,
    "Groups": IdentityKind.GROUP,
}
_SCHEMA = "urn:ietf:params:scim:schemas:core:2.0:"
_LIST_SCHEMA = "urn:ietf:params:scim:api:messages:2.0:ListResponse"
_PAGE = 100

_CONDITION = re.compile(
    r'\s*(?P<attribute>\w+)\s+eq\s+(?:"(?P<quoted>[^"]*)"|(?P<bare>[^\s"]+))\s*', re.IGNORECASE
)


class ScimApi:
    """`/api/2.0/preview/scim/v2`."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    def routes(self) -> list[web.RouteDef]:
        resource = f"{_BASE}/{{resource:{'|'.join(_KINDS)}}}"
        return [
            web.get(f"{_BASE}/Me", self._me),
            web.get(resource, self._list),
            web.post(resource, self._create),
            web.get(f"{resource}/{{id}}", self._get),
            web.delete(f"{resource}/{{id}}", self._delete),
        ]

    async def _me(self, request: web.Request) -> web.Response:
        caller = request[CALLER]
        body = self._to_json(caller)
        # A service principal asking for itself is answered in the form of a user.
        body["userName"] = caller.identity.name
        return web.json_response(body)

    async def _list(self, request: web.Request) -> web.Response:
        kind = _KINDS[request.match_info["resource"]]
        found = [self._to_json(entry) for entry in self._directory.entries(kind)]
        if filter_ := request.query.get("filter"):
            conditions = _conditions(filter_)
            found = [body for body in found if all(_holds(body, *c) for c in conditions)]
        start = max(int(request.query.get("startIndex", 1)), 1)
        page = found[start - 1 :][: int(request.query.get("count", _PAGE))]
        return web.json_response(
            {
                "schemas": [_LIST_SCHEMA],
                "totalResults": len(found),
                "startIndex": start,
                "itemsPerPage": len(page),
                "Resources": page,
            }
        )

    async def _create(self, request: web.Request) -> web.Response:
        kind = _KINDS[request.match_info["resource"]]
        body = await request.json()
        attribute = {IdentityKind.USER: "userName", IdentityKind.GROUP: "displayName"}.get(
            kind, "applicationId"
        )
        name = body.get(attribute)
        if not name:
            raise invalid(f"{attribute} is required")
        if self._directory.find(kind, name):
            raise ApiError(409, "RESOURCE_ALREADY_EXISTS", f"{kind.value} {name} already exists.")
        entry = self._directory.ensure(kind, name)
        members = frozenset(str(m["value"]) for m in body.get("members", []))
        if members:
            entry = self._directory.set_members(entry, members)
        return web.json_response(self._to_json(entry), status=201)

    async def _get(self, request: web.Request) -> web.Response:
        return web.json_response(self._to_json(self._entry(request)))

    async def _delete(self, request: web.Request) -> web.Response:
        self._directory.remove(self._entry(request).identity.id)
        return web.Response(status=204)

    def _entry(self, request: web.Request) -> Entry:
        entry = self._directory.by_id(request.match_info["id"])
        if entry is None or entry.identity.kind is not _KINDS[request.match_info["resource"]]:
            raise ApiError(404, "RESOURCE_DOES_NOT_EXIST", f"{request.match_info['resource']} not found.")
        return entry

    def _to_json(self, entry: Entry) -> dict[str, Any]:
        identity = entry.identity
        body: dict[str, Any] = {"id": identity.id, "displayName": entry.display_name, "active": True}
        match identity.kind:
            case IdentityKind.USER:
                body |= {"schemas": [f"{_SCHEMA}User"], "userName": identity.name}
                body["emails"] = [{"value": identity.name, "type": "work", "primary": True}]
            case IdentityKind.SERVICE_PRINCIPAL:
                body |= {"schemas": [f"{_SCHEMA}ServicePrincipal"], "applicationId": identity.name}
            case IdentityKind.GROUP:
                body |= {"schemas": [f"{_SCHEMA}Group"], "displayName": identity.name}
                body["members"] = [self._member(id_) for id_ in sorted(entry.members)]
        groups = [g for g in self._directory.entries(IdentityKind.GROUP) if identity.id in g.members]
        if groups:
            body["groups"] = [_reference(g.identity, "Groups") for g in groups]
        return body

    def _member(self, id_: str) -> dict[str, str]:
        entry = self._directory.by_id(id_)
        if entry is None:
            return {"value": id_}
        resource = next(name for name, kind in _KINDS.items() if kind is entry.identity.kind)
        return _reference(entry.identity, resource)


def _reference(identity: Identity, resource: str) -> dict[str, str]:
    return {"value": identity.id, "display": identity.name, "$ref": f"{resource}/{identity.id}"}


def _conditions(filter_: str) -> list[tuple[str, str]]:
    """The conditions of a filter: `attribute eq "value"`, joined by `and`."""
    conditions = []
    for part in re.split(r"\s+and\s+", filter_.strip(), flags=re.IGNORECASE):
        match = _CONDITION.fullmatch(part)
        if match is None:
            raise invalid(f"Unsupported filter: {filter_}")
        conditions.append(
            (match["attribute"], match["quoted"] if match["quoted"] is not None else match["bare"])
        )
    return conditions


def _holds(body: dict[str, Any], attribute: str, value: str) -> bool:
    """Attribute names and values compare without regard to case, as SCIM's `caseExact: false` says."""
    found = next((v for k, v in body.items() if k.lower() == attribute.lower()), None)
    return isinstance(found, str) and found.lower() == value.lower()
