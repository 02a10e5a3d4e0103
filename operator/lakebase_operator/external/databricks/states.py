"""The states of both Databricks APIs as ours. Pure: SDK values in, an :class:`Instance` out."""

from databricks.sdk.service.database import DatabaseInstance, DatabaseInstanceState
from databricks.sdk.service.postgres import (
    BranchStatus,
    BranchStatusState,
    EndpointStatus,
    EndpointStatusState,
)

from lakebase_operator.domain.instance import Instance, InstanceState

_ENDPOINT = {
    EndpointStatusState.ACTIVE: InstanceState.AVAILABLE,
    EndpointStatusState.IDLE: InstanceState.ASLEEP,
    EndpointStatusState.INIT: InstanceState.STARTING,
    # Databricks does not say what it means. Trying costs nothing, and not trying would hold up a REVOKE for as long as it lasts.
    EndpointStatusState.DEGRADED: InstanceState.AVAILABLE,
}

_BRANCH = {
    BranchStatusState.INIT: InstanceState.STARTING,
    BranchStatusState.RESETTING: InstanceState.UPDATING,
    BranchStatusState.IMPORTING: InstanceState.UPDATING,
    BranchStatusState.ARCHIVED: InstanceState.ASLEEP,  # a connection brings it back
    BranchStatusState.DELETED: InstanceState.NOT_FOUND,  # it can be undeleted, but until then it is not there
}

_INSTANCE = {
    DatabaseInstanceState.AVAILABLE: InstanceState.AVAILABLE,
    DatabaseInstanceState.STARTING: InstanceState.STARTING,
    DatabaseInstanceState.UPDATING: InstanceState.UPDATING,
    DatabaseInstanceState.FAILING_OVER: InstanceState.FAILING_OVER,
    DatabaseInstanceState.STOPPED: InstanceState.STOPPED,
    DatabaseInstanceState.DELETING: InstanceState.DELETING,
}

# While these last, an instance that is meant to be stopped is on its way there. The others say more than "stopped".
_MAY_BE_STOPPED = (None, DatabaseInstanceState.AVAILABLE, DatabaseInstanceState.UPDATING)


def of_endpoint(status: EndpointStatus | None) -> Instance:
    """State of an Autoscaling endpoint.

    A pending state does not count: a connection to an endpoint that is active or idle works while it changes.
    The SDK reads a state that it does not know as None, which becomes ``UNKNOWN``.
    """
    if status is None:
        return Instance(InstanceState.UNKNOWN, None, "no status")
    host = (status.hosts.host if status.hosts else None) or None
    if status.disabled:
        return Instance(InstanceState.DISABLED, host, "disabled")
    if status.current_state is None:
        starting = status.pending_state is not None  # its first start: there has been no other state yet
        state = InstanceState.STARTING if starting else InstanceState.UNKNOWN
        return Instance(state, host, _words("no known state", status.pending_state))
    return Instance(
        _ENDPOINT.get(status.current_state, InstanceState.UNKNOWN),
        host,
        _words(status.current_state.value, status.pending_state),
    )


def with_branch(endpoint: Instance, branch: BranchStatus | None) -> Instance:
    """The state of an endpoint that is not available, once its branch is known too: the branch may explain it."""
    if branch is None:
        return endpoint
    deleted = branch.delete_time is not None
    branch_state = BranchStatusState.DELETED if deleted else branch.current_state
    if branch_state is None or branch_state not in _BRANCH:
        return endpoint
    return Instance(_BRANCH[branch_state], endpoint.host, f"branch {branch_state.value}")


def of_instance(instance: DatabaseInstance) -> Instance:
    """State of a Provisioned instance. ``effective_stopped`` counts, the field ``stopped`` is what somebody asked for."""
    host = instance.read_write_dns or None
    if instance.effective_stopped and instance.state in _MAY_BE_STOPPED:
        return Instance(InstanceState.STOPPED, host, _words("stopped", instance.state))
    if instance.state is None:
        return Instance(InstanceState.UNKNOWN, host, "no known state")
    return Instance(_INSTANCE.get(instance.state, InstanceState.UNKNOWN), host, instance.state.value)


def _words(state: str, more: EndpointStatusState | DatabaseInstanceState | None) -> str:
    return state if more is None else f"{state} ({more.value})"
