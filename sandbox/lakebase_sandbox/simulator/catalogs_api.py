"""Catalogs: databases registered in Unity Catalog, by `w.postgres` for branches and by `w.database` for instances.

What an answer says to a database that is registered already is not documented; the rule itself is: one database, one catalog.
"""

from typing import Any

from aiohttp import web

from lakebase_sandbox.simulator import postgres_objects as postgres
from lakebase_sandbox.simulator.caller import CALLER
from lakebase_sandbox.simulator.database_api import BASE as DATABASE_BASE
from lakebase_sandbox.simulator.directory import Entry
from lakebase_sandbox.simulator.errors import (
    already_exists,
    bad_request,
    instance_not_found,
    not_found,
    required,
)
from lakebase_sandbox.simulator.permissions import INSTANCES, PROJECTS, Level
from lakebase_sandbox.simulator.postgres_api import BASE as POSTGRES_BASE
from lakebase_sandbox.simulator.records import Catalog, timestamp
from lakebase_sandbox.simulator.target import Target
from lakebase_sandbox.simulator.workspace import Workspace, is_gone


class CatalogsApi:
    """`/api/2.0/postgres/catalogs` and `/api/2.0/database/catalogs`."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post(f"{POSTGRES_BASE}/catalogs", self._create_of_branch),
            web.get(f"{POSTGRES_BASE}/catalogs/{{name}}", self._get_of_branch),
            web.delete(f"{POSTGRES_BASE}/catalogs/{{name}}", self._delete_of_branch),
            web.post(f"{DATABASE_BASE}/catalogs", self._create_of_instance),
            web.get(f"{DATABASE_BASE}/catalogs/{{name}}", self._get_of_instance),
            web.delete(f"{DATABASE_BASE}/catalogs/{{name}}", self._delete_of_instance),
        ]

    # Of branches: long-running

    async def _create_of_branch(self, request: web.Request) -> web.Response:
        name = request.query.get("catalog_id")
        if not name:
            raise required("catalog_id")
        spec = (await request.json()).get("spec") or {}
        for field in ("branch", "postgres_database"):
            if not spec.get(field):
                raise required(f"catalog.spec.{field}")
        branch = self._workspace.branches.get(spec["branch"])
        if branch is None:
            raise not_found("branch")
        self._workspace.access.require(PROJECTS, branch.project_id, request[CALLER], Level.CAN_USE)
        catalog = Catalog(name=name, source=branch.name, database=spec["postgres_database"], of_branch=True)
        self._refuse_taken(catalog)

        async def work() -> dict[str, Any]:
            self._refuse_taken(catalog)
            target = self._workspace.branch_target(branch.name)
            await self._find_database(
                catalog, target, request[CALLER], create=bool(spec.get("create_database_if_missing"))
            )
            self._workspace.catalogs[name] = catalog
            return _json_of_branch(catalog)

        resource = f"catalogs/{name}"
        return web.json_response(self._workspace.operations.start(resource, "Catalog", resource, work))

    async def _get_of_branch(self, request: web.Request) -> web.Response:
        return web.json_response(_json_of_branch(self._catalog(request, of_branch=True)))

    async def _delete_of_branch(self, request: web.Request) -> web.Response:
        catalog = self._catalog(request, of_branch=True)

        async def work() -> None:
            self._workspace.catalogs.pop(catalog.name, None)

        resource = f"catalogs/{catalog.name}"
        return web.json_response(self._workspace.operations.start(resource, "Catalog", resource, work))

    # Of instances: at once

    async def _create_of_instance(self, request: web.Request) -> web.Response:
        body = await request.json()
        for field in ("name", "database_instance_name", "database_name"):
            if not body.get(field):
                raise required(field)
        instance = body["database_instance_name"]
        target = self._workspace.instance_target(instance)
        if instance not in self._workspace.instances or is_gone(target):
            raise instance_not_found(instance)
        self._workspace.access.require(INSTANCES, instance, request[CALLER], Level.CAN_USE)
        catalog = Catalog(name=body["name"], source=instance, database=body["database_name"], of_branch=False)
        self._refuse_taken(catalog)
        await self._find_database(
            catalog, target, request[CALLER], create=bool(body.get("create_database_if_not_exists"))
        )
        self._workspace.catalogs[catalog.name] = catalog
        return web.json_response(_json_of_instance(catalog))

    async def _get_of_instance(self, request: web.Request) -> web.Response:
        return web.json_response(_json_of_instance(self._catalog(request, of_branch=False)))

    async def _delete_of_instance(self, request: web.Request) -> web.Response:
        del self._workspace.catalogs[self._catalog(request, of_branch=False).name]
        return web.json_response({})

    # Finding things

    def _catalog(self, request: web.Request, *, of_branch: bool) -> Catalog:
        catalog = self._workspace.catalogs.get(request.match_info["name"])
        if catalog is None or catalog.of_branch != of_branch:
            raise not_found("catalog")
        return catalog

    def _refuse_taken(self, catalog: Catalog) -> None:
        if catalog.name in self._workspace.catalogs:
            raise already_exists("catalog")
        for other in self._workspace.catalogs.values():
            if (other.source, other.database) == (catalog.source, catalog.database):
                raise bad_request(
                    f"database '{catalog.database}' is already registered with catalog '{other.name}'"
                )

    async def _find_database(
        self, catalog: Catalog, target: Target | None, caller: Entry, *, create: bool
    ) -> None:
        if target is None:
            raise bad_request("the branch has no compute")
        await postgres.make_ready(target)
        if any(one.name == catalog.database for one in await postgres.list_databases(target)):
            return
        if not create:
            raise not_found("database")
        await postgres.create_database(target, catalog.database, caller.identity.name)


def _json_of_branch(catalog: Catalog) -> dict[str, Any]:
    time = timestamp(catalog.create_time)
    return {
        "name": f"catalogs/{catalog.name}",
        "catalog_id": catalog.name,
        "uid": catalog.uid,
        "create_time": time,
        "update_time": time,
        "status": {
            "branch": catalog.source,
            "postgres_database": catalog.database,
            "project": catalog.source.partition("/branches/")[0],
        },
    }


def _json_of_instance(catalog: Catalog) -> dict[str, Any]:
    return {
        "name": catalog.name,
        "uid": catalog.uid,
        "database_instance_name": catalog.source,
        "database_name": catalog.database,
    }
