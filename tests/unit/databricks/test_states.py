"""The states of both Databricks APIs map onto ours."""

import pytest
from databricks.sdk.service.database import DatabaseInstance, DatabaseInstanceState
from databricks.sdk.service.postgres import (
    BranchStatus,
    BranchStatusState,
    EndpointHosts,
    EndpointStatus,
    EndpointStatusState,
)

from lakebase_operator.domain.instance import Instance, InstanceState
from lakebase_operator.external.databricks import states

ACTIVE, IDLE = EndpointStatusState.ACTIVE, EndpointStatusState.IDLE
INIT, DEGRADED = EndpointStatusState.INIT, EndpointStatusState.DEGRADED
HOST = "ep-a1.database.us-east-1.cloud.databricks.com"


@pytest.mark.requirement("R-97", "R-106")
@pytest.mark.parametrize(
    ("current", "pending", "disabled", "expected"),
    [
        (ACTIVE, None, False, InstanceState.AVAILABLE),
        (ACTIVE, None, None, InstanceState.AVAILABLE),
        (ACTIVE, IDLE, False, InstanceState.AVAILABLE),
        (IDLE, None, False, InstanceState.ASLEEP),
        (IDLE, ACTIVE, False, InstanceState.ASLEEP),
        (INIT, None, False, InstanceState.STARTING),
        (INIT, ACTIVE, False, InstanceState.STARTING),
        (None, ACTIVE, False, InstanceState.STARTING),
        (DEGRADED, None, False, InstanceState.AVAILABLE),
        (None, None, False, InstanceState.UNKNOWN),
        (ACTIVE, None, True, InstanceState.DISABLED),
        (IDLE, None, True, InstanceState.DISABLED),
        (None, None, True, InstanceState.DISABLED),
    ],
)
def test_an_endpoints_state_is_named(
    current: EndpointStatusState | None,
    pending: EndpointStatusState | None,
    disabled: bool | None,
    expected: InstanceState,
) -> None:
    status = EndpointStatus(
        current_state=current, pending_state=pending, disabled=disabled, hosts=EndpointHosts(host=HOST)
    )
    instance = states.of_endpoint(status)
    assert (instance.state, instance.host) == (expected, HOST)
    assert instance.detail


@pytest.mark.parametrize(
    "wire",
    [
        {"current_state": "HIBERNATING"},  # a state that only a later version of the API has
        {"current_state": ""},
        {},
    ],
)
def test_an_endpoint_state_that_this_version_does_not_know_is_unknown(wire: dict[str, str]) -> None:
    assert states.of_endpoint(EndpointStatus.from_dict(wire)).state is InstanceState.UNKNOWN


def test_an_endpoint_without_status_or_host_has_no_host() -> None:
    assert states.of_endpoint(None) == Instance(InstanceState.UNKNOWN, None, "no status")
    assert states.of_endpoint(EndpointStatus(current_state=INIT)).host is None
    assert states.of_endpoint(EndpointStatus(current_state=INIT, hosts=EndpointHosts(host=""))).host is None


@pytest.mark.parametrize(
    ("branch", "expected"),
    [
        (BranchStatusState.INIT, InstanceState.STARTING),
        (BranchStatusState.RESETTING, InstanceState.UPDATING),
        (BranchStatusState.IMPORTING, InstanceState.UPDATING),
        (BranchStatusState.ARCHIVED, InstanceState.ASLEEP),
        (BranchStatusState.DELETED, InstanceState.NOT_FOUND),
        (BranchStatusState.READY, InstanceState.UNKNOWN),
        (None, InstanceState.UNKNOWN),
    ],
)
def test_a_branch_explains_an_endpoint_that_is_not_available(
    branch: BranchStatusState | None, expected: InstanceState
) -> None:
    endpoint = Instance(InstanceState.UNKNOWN, HOST, "no known state")
    explained = states.with_branch(endpoint, BranchStatus(current_state=branch))
    assert explained.state is expected
    assert explained.host == HOST


def test_a_branch_that_is_deleted_but_may_come_back_is_not_there() -> None:
    status = BranchStatus.from_dict({"current_state": "READY", "delete_time": "2026-11-22T00:00:00Z"})
    explained = states.with_branch(Instance(InstanceState.STARTING, None), status)
    assert explained.state is InstanceState.NOT_FOUND


@pytest.mark.requirement("R-97", "R-106")
@pytest.mark.parametrize(
    ("state", "stopped", "expected"),
    [
        ("AVAILABLE", False, InstanceState.AVAILABLE),
        ("AVAILABLE", True, InstanceState.STOPPED),
        ("STARTING", False, InstanceState.STARTING),
        ("STARTING", True, InstanceState.STARTING),
        ("UPDATING", False, InstanceState.UPDATING),
        ("UPDATING", True, InstanceState.STOPPED),
        ("FAILING_OVER", False, InstanceState.FAILING_OVER),
        ("STOPPED", True, InstanceState.STOPPED),
        ("STOPPED", False, InstanceState.STOPPED),
        ("DELETING", True, InstanceState.DELETING),
        ("MIGRATING", False, InstanceState.UNKNOWN),  # a state that only a later version of the API has
        ("MIGRATING", True, InstanceState.STOPPED),
        (None, False, InstanceState.UNKNOWN),
    ],
)
def test_a_provisioned_instances_state_is_named(
    state: str | None, stopped: bool, expected: InstanceState
) -> None:
    wire = {"name": "marketing-db", "state": state, "effective_stopped": stopped, "read_write_dns": HOST}
    instance = states.of_instance(DatabaseInstance.from_dict(wire))
    assert (instance.state, instance.host) == (expected, HOST)
    assert instance.detail


def test_every_state_of_the_sdk_has_one_of_ours() -> None:
    endpoints = {states.of_endpoint(EndpointStatus(current_state=s)).state for s in EndpointStatusState}
    instances = {states.of_instance(DatabaseInstance(name="i", state=s)).state for s in DatabaseInstanceState}
    assert InstanceState.UNKNOWN not in endpoints | instances
