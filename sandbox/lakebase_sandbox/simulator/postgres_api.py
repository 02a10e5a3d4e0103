"""`w.postgres`: projects, branches, endpoints, operations and credentials."""

import re
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from lakebase_sandbox.simulator.caller import CALLER
from lakebase_sandbox.simulator.errors import (
    already_exists,
    bad_request,
    invalid,
    not_found,
    protected,
    reconciliation_in_progress,
    required,
)
from lakebase_sandbox.simulator.masks import masked_update, paths
from lakebase_sandbox.simulator.paging import page_response
from lakebase_sandbox.simulator.permissions import PROJECTS, Level
from lakebase_sandbox.simulator.postgres_json import branch_json, endpoint_json, project_json
from lakebase_sandbox.simulator.records import (
    READ_ONLY,
    READ_WRITE,
    Branch,
    Endpoint,
    Project,
    now,
    timestamp,
)
from lakebase_sandbox.simulator.settings import AutoscalingTarget
from lakebase_sandbox.simulator.target import TargetState
from lakebase_sandbox.simulator.workspace import Workspace, is_gone

BASE = "/api/2.0/postgres"
PROJECT = f"{BASE}/projects/{{project}}"
BRANCH = f"{PROJECT}/branches/{{branch}}"

DEFAULT_PG_VERSION = 18  # the sandbox has 16 and 18 only; the service's default is 17
_ID = re.compile(r"^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$")
_DURATION = re.compile(r"^(\d+(?:\.\d+)?)s$")
_MIN_TTL, _MAX_TTL = 300, 3600

_PROJECT_FIELDS = frozenset(
    {
        "display_name",
        "history_retention_duration",
        "default_endpoint_settings",
        "enable_pg_native_login",
        "default_branch",
        "budget_policy_id",
        "custom_tags",
    }
)
_BRANCH_FIELDS = frozenset({"is_protected", "expire_time", "ttl", "no_expiry"})
_ENDPOINT_FIELDS = frozenset(
    {
        "autoscaling_limit_min_cu",
        "autoscaling_limit_max_cu",
        "disabled",
        "no_suspension",
        "suspend_timeout_duration",
        "settings",
        "group",
    }
)


class PostgresApi:
    """The part of `/api/2.0/postgres` that is about computes."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post(f"{BASE}/credentials", self._generate_credential),
            web.get(f"{BASE}/{{name:.+/operations/.+}}", self._get_operation),
            web.get(f"{BASE}/projects", self._list_projects),
            web.post(f"{BASE}/projects", self._create_project),
            web.get(PROJECT, self._get_project),
            web.patch(PROJECT, self._update_project),
            web.delete(PROJECT, self._delete_project),
            web.post(f"{PROJECT}/undelete", self._undelete_project),
            web.get(f"{PROJECT}/branches", self._list_branches),
            web.post(f"{PROJECT}/branches", self._create_branch),
            web.get(BRANCH, self._get_branch),
            web.patch(BRANCH, self._update_branch),
            web.delete(BRANCH, self._delete_branch),
            web.post(f"{BRANCH}/undelete", self._undelete_branch),
            web.get(f"{BRANCH}/endpoints", self._list_endpoints),
            web.post(f"{BRANCH}/endpoints", self._create_endpoint),
            web.get(f"{BRANCH}/endpoints/{{endpoint}}", self._get_endpoint),
            web.patch(f"{BRANCH}/endpoints/{{endpoint}}", self._update_endpoint),
            web.delete(f"{BRANCH}/endpoints/{{endpoint}}", self._delete_endpoint),
        ]

    # Operations and credentials

    async def _get_operation(self, request: web.Request) -> web.Response:
        return web.json_response(self._workspace.operations.get(request.match_info["name"]))

    async def _generate_credential(self, request: web.Request) -> web.Response:
        body = await request.json()
        name = body.get("endpoint")
        if not name:
            raise required("endpoint")
        endpoint = self._workspace.endpoints.get(name)
        if endpoint is None or is_gone(self._workspace.branch_target(endpoint.parent)):
            raise not_found("endpoint")
        caller = request[CALLER]
        self._workspace.access.require(PROJECTS, endpoint.project_id, caller, Level.CAN_USE)
        lifetime = min(_lifetime(body), self._workspace.settings.credential_seconds)
        issued = self._workspace.issuer.database_credential(caller.identity, [name], lifetime)
        expires_at = datetime.fromtimestamp(issued.expires_at, UTC)
        return web.json_response({"token": issued.token, "expire_time": timestamp(expires_at)})

    # Projects

    async def _list_projects(self, request: web.Request) -> web.Response:
        caller = request[CALLER]
        show_deleted = request.query.get("show_deleted") == "true"
        return page_response(
            request,
            "projects",
            [
                self._project_json(project)
                for project in self._workspace.projects.values()
                if (show_deleted or not self._is_deleted(project))
                and self._workspace.access.level(PROJECTS, project.project_id, caller)
            ],
        )

    async def _get_project(self, request: web.Request) -> web.Response:
        return web.json_response(self._project_json(self._project(request, Level.CAN_USE)))

    async def _create_project(self, request: web.Request) -> web.Response:
        project_id = _new_id(request, "project_id")
        self._workspace.faults.refuse_if_full("project")
        name = f"projects/{project_id}"
        if name in self._workspace.projects:
            raise already_exists("project", " in the workspace")
        body = await request.json()
        spec = body.get("spec") or {}
        pg_version = int(spec.get("pg_version") or DEFAULT_PG_VERSION)
        if pg_version not in {16, 18}:
            raise invalid(f"pg_version {pg_version} is not supported.")
        caller = request[CALLER]
        first = {
            **_size_of(spec.get("default_endpoint_settings")),
            **(body.get("initial_endpoint_spec") or {}),
        }
        _check_size(first)

        async def work() -> dict[str, Any]:
            target = AutoscalingTarget(
                name=self._workspace.free_target_name(project_id),
                project=project_id,
                postgres_version=pg_version,
                enable_pg_native_login=bool(spec.get("enable_pg_native_login")),
            )
            held = self._workspace.faults.stuck_starting
            running = await self._workspace.add_target(target, creator=caller)
            if held:
                await running.set_state(TargetState.INIT, passing=True)
            endpoint = self._workspace.endpoints[running.resource]
            self._workspace.endpoints[endpoint.name] = replace(endpoint, spec=first)
            project = replace(self._workspace.projects[name], spec=spec)
            self._workspace.projects[name] = project
            return self._project_json(project)

        return self._start(name, "Project", name, work)

    async def _update_project(self, request: web.Request) -> web.Response:
        project = self._project(request, Level.CAN_MANAGE)
        new = await _spec(request)
        mask = request.query.get("update_mask")
        settings = new.get("default_endpoint_settings") or {}
        suspension = {"no_suspension", "suspend_timeout_duration"} & set(settings)
        if ("spec", "default_endpoint_settings") in paths(mask) and not suspension:
            field = "spec.default_endpoint_settings.suspension"
            raise invalid(f"Field '{field}' is in update_mask but not provided in request")
        spec = masked_update(project.spec, new, mask, _PROJECT_FIELDS)

        async def work() -> dict[str, Any]:
            native_login = "enable_pg_native_login"
            if native_login in new and self._workspace.faults.ignores_native_login():
                spec[native_login] = bool(project.spec.get(native_login))
            updated = replace(project, spec=spec, update_time=now())
            self._workspace.projects[project.name] = updated
            for target in self._workspace.project_targets(project.project_id):
                target.enable_pg_native_login = bool(spec.get("enable_pg_native_login"))
            return self._project_json(updated)

        return self._start(project.name, "Project", project.name, work)

    async def _delete_project(self, request: web.Request) -> web.Response:
        project = self._project(request, Level.CAN_MANAGE)
        if any(b.spec.get("is_protected") for b in self._branches(project)):
            raise bad_request("cannot delete a project with a protected branch")
        purge = request.query.get("purge") == "true"

        async def work() -> None:
            for target in self._workspace.project_targets(project.project_id):
                await target.set_state(TargetState.DELETED)
                if purge:
                    await self._workspace.remove_target(target)
            if purge:
                self._purge(project)
            else:
                self._workspace.projects[project.name] = replace(project, delete_time=now())

        return self._start(project.name, "Project", project.name, work)

    async def _undelete_project(self, request: web.Request) -> web.Response:
        project = self._project(request, Level.CAN_MANAGE)
        if not self._is_deleted(project):
            raise bad_request("project is not deleted")

        async def work() -> dict[str, Any]:
            restored = replace(project, delete_time=None)
            self._workspace.projects[project.name] = restored
            for target in self._workspace.project_targets(project.project_id):
                await target.set_state(TargetState.ACTIVE)
            return self._project_json(restored)

        return self._start(project.name, "Project", project.name, work)

    # Branches

    async def _list_branches(self, request: web.Request) -> web.Response:
        project = self._project(request, Level.CAN_USE)
        show_deleted = request.query.get("show_deleted") == "true"
        branches = [b for b in self._branches(project) if show_deleted or not self._is_branch_gone(b)]
        return page_response(request, "branches", [branch_json(b) for b in branches])

    async def _get_branch(self, request: web.Request) -> web.Response:
        return web.json_response(branch_json(self.branch(request, Level.CAN_USE)))

    async def _create_branch(self, request: web.Request) -> web.Response:
        project = self._project(request, Level.CAN_MANAGE)
        branch_id = _new_id(request, "branch_id")
        self._workspace.faults.refuse_if_full("branch")
        if f"{project.name}/branches/{branch_id}" in self._workspace.branches:
            raise already_exists("branch")
        spec = await _spec(request)
        if not {"expire_time", "ttl", "no_expiry"} & set(spec):
            raise invalid("One of spec.expire_time, spec.ttl or spec.no_expiry is required.")
        default = next(b for b in self._branches(project) if b.default)
        source = spec.get("source_branch") or default.name
        if source not in self._workspace.branches:
            raise not_found("branch")
        branch = Branch(project_id=project.project_id, branch_id=branch_id, spec=spec, source=source)

        async def work() -> dict[str, Any]:
            self._workspace.branches[branch.name] = branch
            return branch_json(branch)

        return self._start(branch.name, "Branch", project.name, work)

    async def _update_branch(self, request: web.Request) -> web.Response:
        branch = self.branch(request, Level.CAN_MANAGE)
        new = await _spec(request)
        spec = masked_update(branch.spec, new, request.query.get("update_mask"), _BRANCH_FIELDS)

        async def work() -> dict[str, Any]:
            updated = replace(branch, spec=spec, update_time=now())
            self._workspace.branches[branch.name] = updated
            return branch_json(updated)

        return self._start(branch.name, "Branch", branch.name, work)

    async def _delete_branch(self, request: web.Request) -> web.Response:
        branch = self.branch(request, Level.CAN_MANAGE)
        if branch.source is None:
            raise protected(
                f"Cannot delete root branch '{branch.name}'. Root branches cannot be deleted independently."
            )
        if branch.spec.get("is_protected"):
            raise bad_request("cannot delete protected branch")
        purge = request.query.get("purge") == "true"

        async def work() -> None:
            target = self._workspace.branch_target(branch.name)
            if target is not None:
                await target.set_state(TargetState.DELETED)
                if purge:
                    await self._workspace.remove_target(target)
            if purge:
                del self._workspace.branches[branch.name]
                for endpoint in self._endpoints(branch):
                    del self._workspace.endpoints[endpoint.name]
            else:
                self._workspace.branches[branch.name] = replace(branch, delete_time=now())

        return self._start(branch.name, "Branch", branch.name, work)

    async def _undelete_branch(self, request: web.Request) -> web.Response:
        project = self._project(request, Level.CAN_MANAGE)
        branch = self._workspace.branches.get(f"{project.name}/branches/{request.match_info['branch']}")
        if branch is None:
            raise not_found("branch")
        if branch.delete_time is None:
            raise bad_request("branch is not deleted")

        async def work() -> dict[str, Any]:
            restored = replace(branch, delete_time=None)
            self._workspace.branches[branch.name] = restored
            target = self._workspace.branch_target(branch.name)
            if target is not None:
                await target.set_state(TargetState.ACTIVE)
            return branch_json(restored)

        return self._start(branch.name, "Branch", branch.name, work)

    # Endpoints

    async def _list_endpoints(self, request: web.Request) -> web.Response:
        branch = self.branch(request, Level.CAN_USE, as_collection=True)
        return page_response(request, "endpoints", [self._endpoint_json(e) for e in self._endpoints(branch)])

    async def _get_endpoint(self, request: web.Request) -> web.Response:
        return web.json_response(self._endpoint_json(self._endpoint(request, Level.CAN_USE)))

    async def _create_endpoint(self, request: web.Request) -> web.Response:
        branch = self.branch(request, Level.CAN_MANAGE, as_collection=True)
        endpoint_id = _new_id(request, "endpoint_id")
        self._workspace.faults.refuse_if_full("compute")
        project = self._workspace.projects[branch.parent]
        spec = {**_size_of(project.spec.get("default_endpoint_settings")), **await _spec(request)}
        _check_size(spec)
        kind = spec.get("endpoint_type")
        if kind not in {READ_WRITE, READ_ONLY}:
            raise required("endpoint.spec.endpoint_type")
        endpoint = Endpoint(
            project_id=branch.project_id, branch_id=branch.branch_id, endpoint_id=endpoint_id, spec=spec
        )
        if endpoint.name in self._workspace.endpoints:
            raise already_exists("endpoint")
        if kind == READ_WRITE and any(e.type == READ_WRITE for e in self._endpoints(branch)):
            raise bad_request("read-write endpoint already exists for this branch")

        async def work() -> dict[str, Any]:
            if kind == READ_WRITE:
                await self._start_compute(branch, endpoint_id)
            return self._reconciling(endpoint)

        return self._start(endpoint.name, "Endpoint", branch.name, work)

    async def _start_compute(self, branch: Branch, endpoint_id: str) -> None:
        """Give a child branch its server: a copy of its source as the source is now."""
        source = self._workspace.branch_target(branch.source or "")
        if source is None or not isinstance(source.settings, AutoscalingTarget):
            raise bad_request("the source branch has no compute to copy from")
        settings = replace(
            source.settings,
            name=self._workspace.free_target_name(f"{branch.project_id}-{branch.branch_id}"),
            branch=branch.branch_id,
            endpoint=endpoint_id,
        )
        await self._workspace.add_target(settings, copy_of=source.server)

    async def _update_endpoint(self, request: web.Request) -> web.Response:
        endpoint = self._changeable_endpoint(request)
        new = await _spec(request)
        spec = masked_update(endpoint.spec, new, request.query.get("update_mask"), _ENDPOINT_FIELDS)
        _check_size(spec)

        async def work() -> dict[str, Any]:
            target = self._workspace.branch_target(endpoint.parent)
            if target is not None and endpoint.type == READ_WRITE and "disabled" in spec:
                disabled = target.state is TargetState.DISABLED
                if spec["disabled"] != disabled:
                    await target.set_state(TargetState.DISABLED if spec["disabled"] else TargetState.ACTIVE)
            return self._reconciling(replace(endpoint, spec=spec, update_time=now()))

        return self._start(endpoint.name, "Endpoint", endpoint.parent, work)

    async def _delete_endpoint(self, request: web.Request) -> web.Response:
        endpoint = self._changeable_endpoint(request)
        if endpoint.type == READ_WRITE:
            raise protected(
                f"Cannot delete read-write endpoint '{endpoint.name}'. Read-write endpoints cannot be deleted."
            )

        async def work() -> None:
            del self._workspace.endpoints[endpoint.name]

        return self._start(endpoint.name, "Endpoint", endpoint.parent, work)

    def _reconciling(self, endpoint: Endpoint) -> dict[str, Any]:
        """Store an endpoint as one whose change is not quite finished, though its operation is."""
        until = time.monotonic() + self._workspace.settings.reconciliation_seconds
        endpoint = replace(endpoint, pending_until=until)
        self._workspace.endpoints[endpoint.name] = endpoint
        return self._endpoint_json(endpoint)

    def _changeable_endpoint(self, request: web.Request) -> Endpoint:
        endpoint = self._endpoint(request, Level.CAN_MANAGE)
        self._workspace.operations.refuse_if_busy(endpoint.parent)
        if endpoint.is_reconciling:
            raise reconciliation_in_progress()
        return endpoint

    # Finding things

    def branch(self, request: web.Request, level: Level, *, as_collection: bool = False) -> Branch:
        """The branch that a request is about.

        Parameters:
            level: what the caller must have on its project.
            as_collection: the request lists or creates below the branch; such requests miss the branch even
                where it is the project that is missing.
        """
        name = f"projects/{request.match_info['project']}/branches/{request.match_info['branch']}"
        branch = self._workspace.branches.get(name)
        if as_collection and (
            branch is None or f"projects/{branch.project_id}" not in self._workspace.projects
        ):
            raise not_found("branch")
        self._project(request, level)
        if branch is None or self._is_branch_gone(branch):
            raise not_found("branch")
        return branch

    def _project(self, request: web.Request, level: Level) -> Project:
        project = self._workspace.projects.get(f"projects/{request.match_info['project']}")
        if project is None:
            raise not_found("project")
        self._workspace.access.require(PROJECTS, project.project_id, request[CALLER], level)
        return project

    def _endpoint(self, request: web.Request, level: Level) -> Endpoint:
        branch = self.branch(request, level)
        endpoint = self._workspace.endpoints.get(f"{branch.name}/endpoints/{request.match_info['endpoint']}")
        if endpoint is None:
            raise not_found("endpoint")
        return endpoint

    def _branches(self, project: Project) -> list[Branch]:
        return [b for b in self._workspace.branches.values() if b.parent == project.name]

    def _endpoints(self, branch: Branch) -> list[Endpoint]:
        return [e for e in self._workspace.endpoints.values() if e.parent == branch.name]

    def _is_branch_gone(self, branch: Branch) -> bool:
        return branch.delete_time is not None or is_gone(self._workspace.branch_target(branch.name))

    def _is_deleted(self, project: Project) -> bool:
        """Whether a project is deleted: by a request, or because all that is in it was put into that state."""
        targets = self._workspace.project_targets(project.project_id)
        return project.delete_time is not None or (bool(targets) and all(is_gone(t) for t in targets))

    def _purge(self, project: Project) -> None:
        for branch in self._branches(project):
            for endpoint in self._endpoints(branch):
                del self._workspace.endpoints[endpoint.name]
            del self._workspace.branches[branch.name]
        del self._workspace.projects[project.name]
        self._workspace.access.remove(PROJECTS, project.project_id)

    def _project_json(self, project: Project) -> dict[str, Any]:
        default = next((b for b in self._branches(project) if b.default), None)
        active = [t.last_active for t in self._workspace.project_targets(project.project_id)]
        if self._is_deleted(project) and project.delete_time is None:
            project = replace(project, delete_time=max(active))
        return project_json(project, default, max(active, default=None))

    def _endpoint_json(self, endpoint: Endpoint) -> dict[str, Any]:
        return endpoint_json(endpoint, self._workspace.branch_target(endpoint.parent))

    def _start(self, resource: str, kind: str, scope: str, work: Any) -> web.Response:
        return web.json_response(self._workspace.operations.start(resource, kind, scope, work))


def _size_of(settings: Mapping[str, Any] | None) -> dict[str, Any]:
    """What of a project's default settings goes for a new endpoint."""
    names = {
        "autoscaling_limit_min_cu",
        "autoscaling_limit_max_cu",
        "no_suspension",
        "suspend_timeout_duration",
    }
    return {name: value for name, value in (settings or {}).items() if name in names}


def _check_size(spec: Mapping[str, Any]) -> None:
    least, most = spec.get("autoscaling_limit_min_cu", 1.0), spec.get("autoscaling_limit_max_cu", 1.0)
    if not 0.5 <= least <= most <= 64 or most - least > 16:
        raise invalid(
            "The compute's limits must be between 0.5 and 64 CU, the largest at most 16 above the least."
        )
    if timeout := spec.get("suspend_timeout_duration"):
        match = _DURATION.match(timeout)
        if match is None or not 60 <= float(match[1]) <= 604800:
            raise invalid("Field 'suspend_timeout_duration' must be between 60s and 604800s.")


async def _spec(request: web.Request) -> Mapping[str, Any]:
    body = await request.json()
    spec: Mapping[str, Any] = body.get("spec") or {}
    return spec


def _new_id(request: web.Request, field: str) -> str:
    value = request.query.get(field)
    if not value:
        raise required(field)
    if not _ID.match(value):
        raise invalid(f"Field {field} must match pattern {_ID.pattern}, got '{value}'.")
    return value


def _lifetime(body: Mapping[str, Any]) -> float:
    """The lifetime in seconds that a request for a credential asks for."""
    if ttl := body.get("ttl"):
        match = _DURATION.match(ttl)
        if match is None:
            raise invalid(f"Field 'ttl' is not a duration: {ttl}")
        seconds = float(match[1])
    elif expire_time := body.get("expire_time"):
        seconds = (datetime.fromisoformat(expire_time) - datetime.now(UTC)).total_seconds()
    else:
        return float(_MAX_TTL)
    if not _MIN_TTL - 1 <= seconds <= _MAX_TTL:
        raise invalid(f"Field 'ttl' must be between {_MIN_TTL}s and {_MAX_TTL}s.")
    return seconds
