"""Making, changing and deleting projects, branches, endpoints and instances.

Nothing here waits for a long-running operation: it is started, its name is kept by the caller, and it is asked for by that
name. The SDK's own ``wait`` has no limit, and would hold a thread.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol, cast
from urllib.parse import quote

from databricks.sdk import WorkspaceClient
from databricks.sdk.common.types.fieldmask import FieldMask
from databricks.sdk.errors import platform
from databricks.sdk.errors.base import DatabricksError
from databricks.sdk.service import database, postgres
from databricks.sdk.service.iam import ObjectPermissions
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.errors import LakebaseError, NotReadyError
from lakebase_operator.domain.instance import InstanceState
from lakebase_operator.domain.lakebase_instance import (
    CreateStep,
    DeleteStep,
    Found,
    Resource,
    ResourceKind,
    Setting,
    Settings,
    Step,
    UpdateStep,
    Value,
    Wanted,
)

from . import states
from .calls import Calls
from .errors import Task

_CHANGING = frozenset(
    {InstanceState.STARTING, InstanceState.UPDATING, InstanceState.FAILING_OVER, InstanceState.DELETING}
)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a long-running operation is."""

    done: bool
    error: LakebaseError | None = None
    """Why it has failed."""


class LakebaseApi(Protocol):
    """What the operator asks of a workspace about whole Lakebases.

    All methods raise :class:`~lakebase_operator.domain.errors.LakebaseError` and nothing else.
    """

    async def observe(self, wanted: Sequence[Wanted]) -> dict[Resource, Found]:
        """What there is of what is wanted, and every endpoint of the branches in it."""

    async def carry_out(self, step: Step) -> str | None:
        """Ask for a change. The name of the operation that does it; None where the API has none."""

    async def follow(self, operation: str) -> Progress:
        """How far an operation is."""

    async def may_manage(self, resource: Resource) -> bool | None:
        """Whether the operator may change a project or instance; None: that cannot be told without trying."""


class DatabricksLakebases:
    """Both APIs of one workspace."""

    def __init__(self, call: Calls) -> None:
        self._call = call

    async def observe(self, wanted: Sequence[Wanted]) -> dict[Resource, Found]:
        """See :class:`LakebaseApi`."""
        found: dict[Resource, Found] = {}
        for one in wanted:
            if one.resource.kind is ResourceKind.ENDPOINT:
                continue  # listed with its branch
            there = await self._get(one.resource)
            if there is None or there.deleted:
                if there is not None:
                    found[one.resource] = there
                if one.resource.kind is ResourceKind.PROJECT:
                    break  # nothing below it
                continue
            found[one.resource] = there
            if one.resource.kind is ResourceKind.BRANCH:
                found |= await self._endpoints(one.resource)
        return found

    async def _get(self, resource: Resource) -> Found | None:
        task = Task(f"reading {resource}", f"CAN_USE or CAN_MANAGE on {_owner(resource)}")
        try:
            return await self._call(task, lambda client: _READ[resource.kind](client, resource))
        except NotReadyError as error:
            if error.reason is Reason.INSTANCE_NOT_FOUND:
                return None
            raise

    async def _endpoints(self, branch: Resource) -> dict[Resource, Found]:
        task = Task(f"listing the endpoints of {branch}", f"CAN_USE or CAN_MANAGE on {_owner(branch)}")
        listed = await self._call(
            task, lambda client: [_endpoint(one) for one in client.postgres.list_endpoints(_path(branch))]
        )
        return {one.resource: one for one in listed}

    async def carry_out(self, step: Step) -> str | None:
        """See :class:`LakebaseApi`."""
        resource = step.resource
        match step:
            case CreateStep(wanted):
                top = resource.kind in (ResourceKind.PROJECT, ResourceKind.INSTANCE)
                right = (
                    f"the right to create a Lakebase {resource.kind} in the workspace"
                    if top
                    else f"CAN_MANAGE on {_owner(resource)}"
                )
                return await self._call(
                    Task(f"making {resource}", right), lambda client: _CREATE[resource.kind](client, wanted)
                )
            case UpdateStep(_, changes):
                names = ", ".join(changes)
                task = Task(f"changing {names} of {resource}", f"CAN_MANAGE on {_owner(resource)}")
                return await self._call(
                    task, lambda client: _UPDATE[resource.kind](client, resource, changes)
                )
            case DeleteStep():
                task = Task(f"deleting {resource}", f"CAN_MANAGE on {_owner(resource)}")
                return await self._call(task, lambda client: _DELETE[resource.kind](client, resource))

    async def follow(self, operation: str) -> Progress:
        """See :class:`LakebaseApi`."""
        return await follow(self._call, operation)

    async def may_manage(self, resource: Resource) -> bool | None:
        """See :class:`LakebaseApi`."""
        kind = "database-instances" if resource.kind is ResourceKind.INSTANCE else "database-projects"
        task = Task(f"reading the permissions of {resource}", f"CAN_MANAGE on {_owner(resource)}")
        try:
            return await self._call(
                task, lambda client: _manages(client, client.permissions.get(kind, resource.id))
            )
        except LakebaseError:
            return None  # who may read them is not documented; what is asked for next tells


async def follow(call: Calls, operation: str) -> Progress:
    """How far a long-running operation is. One that is not known any more counts as ended.

    Raises
    ------
    LakebaseError
        It cannot be asked for.
    """
    task = Task(
        f"following an operation on {operation.partition('/operations/')[0]}", "CAN_USE on the project"
    )
    try:
        answer = await call(task, lambda client: client.postgres.get_operation(operation))
    except NotReadyError as error:
        if error.reason is Reason.INSTANCE_NOT_FOUND:
            return Progress(
                done=True
            )  # how long they are kept is not documented; what came of it is seen anyway
        raise
    failed = answer.error if answer.done else None
    return Progress(bool(answer.done), None if failed is None else call.explain(failure(failed), task))


def _manages(client: WorkspaceClient, permissions: ObjectPermissions) -> bool | None:
    """Whether an access control list lets the caller manage; None where that hangs on groups."""
    rows = permissions.access_control_list or []
    mine = [row for row in rows if client.config.client_id in (row.service_principal_name, row.user_name)]
    levels = {
        one.permission_level.value
        for row in mine
        for one in row.all_permissions or []
        if one.permission_level
    }
    if "CAN_MANAGE" in levels:
        return True
    return False if levels and not any(row.group_name for row in rows) else None


_FAILURES: dict[str, type[DatabricksError]] = {
    "ABORTED": platform.Aborted,
    "ALREADY_EXISTS": platform.AlreadyExists,
    "BAD_REQUEST": platform.BadRequest,
    "INVALID_PARAMETER_VALUE": platform.InvalidParameterValue,
    "INVALID_STATE": platform.InvalidState,
    "PERMISSION_DENIED": platform.PermissionDenied,
    "RESOURCE_CONFLICT": platform.ResourceConflict,
    "RESOURCE_EXHAUSTED": platform.ResourceExhausted,
}
"""Codes of failed operations that say more than that it failed."""


def failure(error: postgres.DatabricksServiceExceptionWithDetailsProto) -> DatabricksError:
    """The error of a failed operation, as the SDK would raise it for a request."""
    code = error.error_code.value if error.error_code is not None else ""
    return _FAILURES.get(code, DatabricksError)(error.message or "the operation failed", error_code=code)


def _owner(resource: Resource) -> str:
    """What the permissions hang on."""
    return (
        str(resource) if resource.kind is ResourceKind.INSTANCE else f"project {resource.name.split('/')[1]}"
    )


def _path(resource: Resource | str) -> str:
    """A name for a URL: the SDK does not escape it."""
    return quote(resource if isinstance(resource, str) else resource.name, safe="/")


# -- reading -----------------------------------------------------------------------------------------------------


def _project(client: WorkspaceClient, resource: Resource) -> Found:
    project = client.postgres.get_project(_path(resource))
    status = project.status or postgres.ProjectStatus()
    return Found(
        resource,
        _given(
            {
                Setting.NATIVE_LOGIN: bool(status.enable_pg_native_login),
                Setting.HISTORY_RETENTION: _whole_seconds(status.history_retention_duration),
                Setting.BUDGET_POLICY: status.budget_policy_id,
                Setting.POSTGRES_VERSION: status.pg_version,
            }
        ),
        deleted=project.delete_time is not None,
        uid=project.uid,
        version=str(status.pg_version) if status.pg_version else None,
    )


def _branch(client: WorkspaceClient, resource: Resource) -> Found:
    branch = client.postgres.get_branch(_path(resource))
    status = branch.status or postgres.BranchStatus()
    return Found(
        resource,
        _given({Setting.PROTECTED: status.is_protected}),
        busy=status.current_state
        in (
            postgres.BranchStatusState.INIT,
            postgres.BranchStatusState.IMPORTING,
            postgres.BranchStatusState.RESETTING,
        ),
        deleted=status.delete_time is not None or status.current_state is postgres.BranchStatusState.DELETED,
        uid=branch.uid,
        source=status.source_branch.rpartition("/")[2] if status.source_branch else None,
        source_time=_moment(status.source_branch_time),
    )


def _endpoint(endpoint: postgres.Endpoint) -> Found:
    status = endpoint.status or postgres.EndpointStatus()
    instance = states.of_endpoint(endpoint.status)
    return Found(
        Resource(ResourceKind.ENDPOINT, endpoint.name or ""),
        _given(
            {
                Setting.STOPPED: bool(status.disabled),
                Setting.MIN_CU: status.autoscaling_limit_min_cu,
                Setting.MAX_CU: status.autoscaling_limit_max_cu,
                Setting.SUSPEND_TIMEOUT: _whole_seconds(status.suspend_timeout_duration),
                Setting.READ_ONLY: status.endpoint_type is postgres.EndpointType.ENDPOINT_TYPE_READ_ONLY,
            }
        ),
        # Until it is reconciled, every change is refused.
        busy=status.pending_state is not None or instance.state in _CHANGING,
        instance=instance,
        read_only_host=status.hosts.read_only_host if status.hosts else None,
        uid=endpoint.uid,
    )


def _instance(client: WorkspaceClient, resource: Resource) -> Found:
    found = client.database.get_database_instance(_path(resource))
    instance = states.of_instance(found)
    # Only what is effective counts: the other fields are what somebody asked for, and are not always answered.
    return Found(
        resource,
        _given(
            {
                Setting.CAPACITY: found.effective_capacity,
                Setting.USAGE_POLICY: found.effective_usage_policy_id,
                Setting.RETENTION_DAYS: found.effective_retention_window_in_days,
                Setting.NODES: found.effective_node_count,
                Setting.READABLE_SECONDARIES: found.effective_enable_readable_secondaries,
                Setting.STOPPED: bool(found.effective_stopped),
                Setting.NATIVE_LOGIN: bool(found.effective_enable_pg_native_login),
            }
        ),
        busy=instance.state in _CHANGING,
        instance=instance,
        read_only_host=found.read_only_dns,
        uid=found.uid,
        version=(found.pg_version or "").removeprefix("PG_VERSION_") or None,
    )


# -- making ------------------------------------------------------------------------------------------------------


def _create_project(client: WorkspaceClient, wanted: Wanted) -> str | None:
    first = wanted.at_creation
    size = _size(first)
    project = postgres.Project(
        spec=postgres.ProjectSpec(
            display_name=wanted.resource.id,
            pg_version=cast("int | None", first.get(Setting.POSTGRES_VERSION)),
            **_project_fields(wanted.settings),
        ),
        initial_endpoint_spec=postgres.InitialEndpointSpec(**size) if size else None,
    )
    return client.postgres.create_project(project, wanted.resource.id).name()


def _create_branch(client: WorkspaceClient, wanted: Wanted) -> str | None:
    lives = wanted.at_creation.get(Setting.EXPIRES_AFTER)
    spec = postgres.BranchSpec(
        source_branch=cast("str", wanted.at_creation[Setting.SOURCE]),
        is_protected=cast("bool | None", wanted.settings.get(Setting.PROTECTED)),
        ttl=None if lives is None else _duration(lives),
        no_expiry=True if lives is None else None,
    )
    resource = wanted.resource
    return client.postgres.create_branch(
        _path(resource.parent), postgres.Branch(spec=spec), resource.id
    ).name()


def _create_endpoint(client: WorkspaceClient, wanted: Wanted) -> str | None:
    read_only = Setting.READ_ONLY in wanted.at_creation
    kind = postgres.EndpointType
    spec = postgres.EndpointSpec(
        endpoint_type=kind.ENDPOINT_TYPE_READ_ONLY if read_only else kind.ENDPOINT_TYPE_READ_WRITE,
        **_endpoint_fields(wanted.settings),
    )
    resource = wanted.resource
    return client.postgres.create_endpoint(
        _path(resource.parent), postgres.Endpoint(spec=spec), resource.id
    ).name()


def _create_instance(client: WorkspaceClient, wanted: Wanted) -> str | None:
    fields = {_INSTANCE_FIELDS[setting]: value for setting, value in wanted.settings.items()}
    client.database.create_database_instance(
        database.DatabaseInstance(name=wanted.resource.name, **cast("dict[str, Any]", fields))
    )
    return None


# -- changing ----------------------------------------------------------------------------------------------------

_INSTANCE_FIELDS = {
    Setting.CAPACITY: "capacity",
    Setting.USAGE_POLICY: "usage_policy_id",
    Setting.RETENTION_DAYS: "retention_window_in_days",
    Setting.NODES: "node_count",
    Setting.READABLE_SECONDARIES: "enable_readable_secondaries",
    Setting.STOPPED: "stopped",
    Setting.NATIVE_LOGIN: "enable_pg_native_login",
}


def _update_project(client: WorkspaceClient, resource: Resource, changes: Settings) -> str | None:
    fields = _project_fields(changes)
    project = postgres.Project(spec=postgres.ProjectSpec(**fields))
    return client.postgres.update_project(_path(resource), project, _mask(fields)).name()


def _update_branch(client: WorkspaceClient, resource: Resource, changes: Settings) -> str | None:
    fields = {"is_protected": changes[Setting.PROTECTED]}
    branch = postgres.Branch(spec=postgres.BranchSpec(**cast("dict[str, Any]", fields)))
    return client.postgres.update_branch(_path(resource), branch, _mask(fields)).name()


def _update_endpoint(client: WorkspaceClient, resource: Resource, changes: Settings) -> str | None:
    fields = _endpoint_fields(changes)
    # The type is required by the SDK's class and is not named in the mask, so it does not count.
    kind = postgres.EndpointType.ENDPOINT_TYPE_READ_WRITE
    endpoint = postgres.Endpoint(spec=postgres.EndpointSpec(endpoint_type=kind, **fields))
    return client.postgres.update_endpoint(_path(resource), endpoint, _mask(fields)).name()


def _update_instance(client: WorkspaceClient, resource: Resource, changes: Settings) -> str | None:
    fields = {_INSTANCE_FIELDS[setting]: value for setting, value in changes.items()}
    instance = database.DatabaseInstance(name=resource.name, **cast("dict[str, Any]", fields))
    client.database.update_database_instance(_path(resource), instance, ",".join(fields))
    return None


def _mask(fields: Iterable[str]) -> FieldMask:
    """Leaf paths only: naming a whole part of a spec would reset what is left out of it."""
    return FieldMask([f"spec.{field}" for field in fields])  # type: ignore[no-untyped-call]  # the SDK has no types here


def _project_fields(settings: Settings) -> dict[str, Any]:
    return dict(_fields(settings, _PROJECT_FIELDS))


def _endpoint_fields(settings: Settings) -> dict[str, Any]:
    return dict(_fields(settings, {**_SIZE_FIELDS, Setting.STOPPED: ("disabled", _plain)}))


def _size(settings: Settings) -> dict[str, Any]:
    return dict(_fields(settings, _SIZE_FIELDS))


def _fields(
    settings: Settings, known: dict[Setting, tuple[str, Callable[[Value], Any]]]
) -> Iterator[tuple[str, Any]]:
    for setting, value in settings.items():
        if setting in known:
            name, convert = known[setting]
            yield name, convert(value)


def _plain(value: Value) -> Value:
    return value


def _duration(seconds: Value) -> Duration:
    return Duration(seconds=int(seconds))


_PROJECT_FIELDS: dict[Setting, tuple[str, Callable[[Value], Any]]] = {
    Setting.NATIVE_LOGIN: ("enable_pg_native_login", _plain),
    Setting.HISTORY_RETENTION: ("history_retention_duration", _duration),
    Setting.BUDGET_POLICY: ("budget_policy_id", _plain),
}
_SIZE_FIELDS: dict[Setting, tuple[str, Callable[[Value], Any]]] = {
    Setting.MIN_CU: ("autoscaling_limit_min_cu", _plain),
    Setting.MAX_CU: ("autoscaling_limit_max_cu", _plain),
    Setting.SUSPEND_TIMEOUT: ("suspend_timeout_duration", _duration),
}


# -- deleting ----------------------------------------------------------------------------------------------------


def _delete_instance(client: WorkspaceClient, resource: Resource) -> str | None:
    client.database.delete_database_instance(_path(resource), purge=True)
    return None


_READ: dict[ResourceKind, Callable[[WorkspaceClient, Resource], Found]] = {
    ResourceKind.PROJECT: _project,
    ResourceKind.BRANCH: _branch,
    ResourceKind.ENDPOINT: lambda client, one: _endpoint(client.postgres.get_endpoint(_path(one))),
    ResourceKind.INSTANCE: _instance,
}
_CREATE: dict[ResourceKind, Callable[[WorkspaceClient, Wanted], str | None]] = {
    ResourceKind.PROJECT: _create_project,
    ResourceKind.BRANCH: _create_branch,
    ResourceKind.ENDPOINT: _create_endpoint,
    ResourceKind.INSTANCE: _create_instance,
}
_UPDATE: dict[ResourceKind, Callable[[WorkspaceClient, Resource, Settings], str | None]] = {
    ResourceKind.PROJECT: _update_project,
    ResourceKind.BRANCH: _update_branch,
    ResourceKind.ENDPOINT: _update_endpoint,
    ResourceKind.INSTANCE: _update_instance,
}
_DELETE: dict[ResourceKind, Callable[[WorkspaceClient, Resource], str | None]] = {
    ResourceKind.PROJECT: lambda client, one: client.postgres.delete_project(_path(one)).name(),
    ResourceKind.BRANCH: lambda client, one: client.postgres.delete_branch(_path(one)).name(),
    ResourceKind.ENDPOINT: lambda client, one: client.postgres.delete_endpoint(_path(one)).name(),
    ResourceKind.INSTANCE: _delete_instance,
}


def _given(settings: dict[Setting, Value | None]) -> dict[Setting, Value]:
    return {setting: value for setting, value in settings.items() if value is not None}


def _whole_seconds(duration: Duration | None) -> int | None:
    return None if duration is None else int(duration.ToSeconds())


def _moment(time: Timestamp | None) -> datetime | None:
    return None if time is None else time.ToDatetime(UTC)
