"""The resources of `w.postgres` as its API writes them: never with their `spec`."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from lakebase_sandbox.postgres import IdentityKind
from lakebase_sandbox.simulator.postgres_objects import ATTRIBUTES, PostgresDatabase, PostgresRole
from lakebase_sandbox.simulator.records import READ_WRITE, Branch, Endpoint, Project, ResourceId, timestamp
from lakebase_sandbox.simulator.target import Target, TargetState

PURGE_AFTER = timedelta(days=7)

_DEFAULT_ENDPOINT_SETTINGS = {
    "autoscaling_limit_min_cu": 1.0,
    "autoscaling_limit_max_cu": 1.0,
    "suspend_timeout_duration": "86400s",
}
_ENDPOINT_STATES = {
    TargetState.ACTIVE: "ACTIVE",
    TargetState.IDLE: "IDLE",
    TargetState.INIT: "INIT",
    TargetState.DEGRADED: "DEGRADED",
    TargetState.DISABLED: "IDLE",
}
IDENTITY_TYPES = {
    "USER": IdentityKind.USER,
    "SERVICE_PRINCIPAL": IdentityKind.SERVICE_PRINCIPAL,
    "GROUP": IdentityKind.GROUP,
}


def project_json(
    project: Project, default_branch: Branch | None, last_active: datetime | None
) -> dict[str, Any]:
    status: dict[str, Any] = {
        "project_id": project.project_id,
        "display_name": project.project_id,
        "owner": project.owner,
        "pg_version": project.pg_version,
        "history_retention_duration": "604800s",
        "enable_pg_native_login": False,
        "branch_logical_size_limit_bytes": 8 << 40,
        "synthetic_storage_size_bytes": 32 << 20,
        **_given(project.spec),
        "default_endpoint_settings": _DEFAULT_ENDPOINT_SETTINGS
        | dict(project.spec.get("default_endpoint_settings") or {}),
    }
    if default_branch is not None:
        status["default_branch"] = default_branch.name
    if last_active is not None:
        status["compute_last_active_time"] = timestamp(last_active)
    return {
        "name": project.name,
        "project_id": project.project_id,
        "uid": project.uid,
        "status": status,
        **_times(project.create_time, project.update_time, project.delete_time),
    }


def branch_json(branch: Branch) -> dict[str, Any]:
    status: dict[str, Any] = {
        "branch_id": branch.branch_id,
        "current_state": "READY" if branch.delete_time is None else "DELETED",
        "default": branch.default,
        "is_protected": bool(branch.spec.get("is_protected")),
        "logical_size_bytes": 32 << 20,
        "state_change_time": timestamp(branch.delete_time or branch.create_time),
    }
    if branch.source is not None:
        status["source_branch"] = branch.source
        status["source_branch_time"] = timestamp(branch.create_time)
    if expire_time := branch.spec.get("expire_time"):
        status["expire_time"] = expire_time
    return {
        "name": branch.name,
        "branch_id": branch.branch_id,
        "parent": branch.parent,
        "uid": branch.uid,
        "status": status,
        **_times(branch.create_time, branch.update_time, branch.delete_time),
    }


def endpoint_json(endpoint: Endpoint, target: Target | None) -> dict[str, Any]:
    """An endpoint; `target` is what serves its branch."""
    status: dict[str, Any] = {
        "endpoint_id": endpoint.endpoint_id,
        "endpoint_type": endpoint.type,
        "current_state": "INIT" if target is None else _ENDPOINT_STATES[target.state],
        "disabled": target is not None and target.state is TargetState.DISABLED,
        "settings": {},
        "group": {"min": 1, "max": 1, "enable_readable_secondaries": False},
        **_DEFAULT_ENDPOINT_SETTINGS,
        **{k: v for k, v in _given(endpoint.spec).items() if k not in {"disabled", "no_suspension"}},
    }
    if target is not None:
        status["hosts"] = {"host": target.host}
        if endpoint.type != READ_WRITE:
            status["hosts"]["read_only_host"] = target.host
        status["last_active_time"] = timestamp(target.last_active)
    if endpoint.spec.get("no_suspension"):
        del status["suspend_timeout_duration"]
    if endpoint.is_reconciling:
        status["pending_state"] = status["current_state"]
    return {
        "name": endpoint.name,
        "endpoint_id": endpoint.endpoint_id,
        "parent": endpoint.parent,
        "uid": endpoint.uid,
        "status": status,
        **_times(endpoint.create_time, endpoint.update_time),
    }


def role_json(branch: str, role: PostgresRole, resource_id: ResourceId) -> dict[str, Any]:
    kind = next((k for k, v in IDENTITY_TYPES.items() if v is role.identity_kind), None)
    status: dict[str, Any] = {
        "role_id": resource_id.id,
        "postgres_role": role.name,
        "identity_type": kind or "IDENTITY_TYPE_UNSPECIFIED",
        "auth_method": _auth_method(role),
        "attributes": {name: role.attributes[name] for name in ATTRIBUTES},
    }
    if role.is_superuser_member:
        status["membership_roles"] = ["DATABRICKS_SUPERUSER"]
    return {
        "name": f"{branch}/roles/{resource_id.id}",
        "role_id": resource_id.id,
        "parent": branch,
        "status": status,
        **_times(resource_id.create_time, resource_id.update_time),
    }


def database_json(
    branch: str, database: PostgresDatabase, resource_id: ResourceId, owner: ResourceId
) -> dict[str, Any]:
    return {
        "name": f"{branch}/databases/{resource_id.id}",
        "database_id": resource_id.id,
        "parent": branch,
        "status": {
            "database_id": resource_id.id,
            "postgres_database": database.name,
            "role": f"{branch}/roles/{owner.id}",
        },
        **_times(resource_id.create_time, resource_id.update_time),
    }


def _auth_method(role: PostgresRole) -> str:
    if not role.can_login:
        return "NO_LOGIN"
    return "LAKEBASE_OAUTH_V1" if role.identity_kind else "PG_PASSWORD_SCRAM_SHA_256"


def _times(create: datetime, update: datetime, delete: datetime | None = None) -> dict[str, str]:
    times = {"create_time": timestamp(create), "update_time": timestamp(update)}
    if delete is not None:
        times |= {"delete_time": timestamp(delete), "purge_time": timestamp(delete + PURGE_AFTER)}
    return times


def _given(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in spec.items() if value is not None}
