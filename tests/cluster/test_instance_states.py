"""An instance that is stopped, disabled, starting, failing over, asleep, or not there at all."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from tests.cluster.kube import Namespace, condition_of, current, is_ready, message_of
from tests.cluster.lab import Lab
from tests.cluster.manifests import grant, mapping, role
from tests.cluster.operators import Operators

pytestmark = pytest.mark.asyncio(loop_scope="session")

CONNECTION, READERS, WRITERS = "LakebaseConnection/marketing", "AccessGrant/readers", "AccessGrant/writers"


@pytest.mark.requirement("R-31", "R-32")
async def test_work_waits_for_a_stopped_instance_and_lands_after_its_start(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await operators.start()
    sales = await lab.settled(there, target="provisioned")
    before = await sales.acl()
    await lab.simulator.set_state("provisioned", "STOPPED")
    await there.apply(grant("writers", sales.analysts, database=sales.name, access="Write"))
    body = await there.reason(WRITERS, "InstanceStopped")
    assert current(body, "Reconciling") is not None
    connection = await there.reason(CONNECTION, "InstanceStopped")
    assert current(connection, "Reconciling") is not None
    synced, available = condition_of(connection, "Synced"), condition_of(connection, "InstanceAvailable")
    assert synced is not None
    assert available is not None
    assert (synced["status"], synced["reason"]) == ("False", "InstanceStopped")
    assert (available["status"], available["reason"]) == ("False", "InstanceStopped")
    assert connection["status"]["pendingChanges"] == 1
    assert is_ready(await there.get(READERS)), "what is carried out stays ready"
    assert await sales.acl() == before, "nothing is lost or invented"
    await lab.simulator.set_state("provisioned", "STARTING")
    await there.ready(WRITERS, CONNECTION)
    status = await there.status(CONNECTION)
    assert status["pendingChanges"] == 0
    synced = condition_of({"status": status}, "Synced")
    assert synced is not None
    assert synced["status"] == "True"
    assert await sales.may(sales.analysts, "INSERT")


@pytest.mark.parametrize(
    ("target", "state", "reason"),
    [
        ("provisioned", "STOPPED", "InstanceStopped"),
        ("provisioned", "STARTING", "InstanceStarting"),
        ("provisioned", "FAILING_OVER", "InstanceFailingOver"),
        ("autoscaling", "DISABLED", "EndpointDisabled"),
        ("autoscaling", "INIT", "InstanceStarting"),
    ],
)
async def test_each_state_in_which_nothing_can_be_done_has_its_reason_and_ends_by_itself(
    lab: Lab, there: Namespace, operators: Operators, target: str, state: str, reason: str
) -> None:
    await operators.start()
    sales = await lab.settled(there, target=target)
    if state == "STARTING":  # for as long as the test wants
        await lab.simulator.set_state(target, "STOPPED")
        lab.simulator.target(target).state = type(lab.simulator.target(target).state)("STARTING")
    else:
        await lab.simulator.set_state(target, state)
    await there.apply(grant("writers", sales.analysts, database=sales.name, access="Write"))
    waiting = await there.reason(WRITERS, reason)
    assert "Pending work follows by itself" in message_of(waiting).replace("pending work", "Pending work")
    assert current(waiting, "Reconciling") is not None
    assert message_of(await there.reason(CONNECTION, reason))
    await lab.simulator.set_state(target, "AVAILABLE" if target == "provisioned" else "ACTIVE")
    await there.ready(WRITERS, CONNECTION)
    assert await sales.may(sales.analysts, "INSERT")


async def test_a_server_without_a_control_plane_that_is_down_is_waited_for(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    sales = await lab.database("native")
    user = f"op_{sales.name}"
    await operators.start()
    await there.apply(
        await lab.native_connection(there, sales, user, await lab.native_login(sales, user)),
        role("analysts", roleName=sales.analysts),
    )
    (body,) = await there.ready(CONNECTION)
    assert _says(body, "InstanceAvailable", "True", "Available")
    await lab.simulator.set_state("native", "STOPPED")
    await there.apply(grant("writers", sales.analysts, database=sales.name, access="Write"))
    body = await there.reason(CONNECTION, "Unreachable")
    assert _says(body, "InstanceAvailable", "False", "Unreachable")
    assert current(await there.reason(WRITERS, "Unreachable"), "Reconciling") is not None
    await lab.simulator.set_state("native", "AVAILABLE")
    body = (await there.ready(CONNECTION, WRITERS))[0]
    assert _says(body, "InstanceAvailable", "True", "Available")
    assert await sales.may(sales.analysts, "INSERT")


@pytest.mark.parametrize(("target", "state"), [("provisioned", "UPDATING"), ("autoscaling", "DEGRADED")])
async def test_a_state_in_which_the_database_still_serves_holds_nothing_up(
    lab: Lab, there: Namespace, operators: Operators, target: str, state: str
) -> None:
    await operators.start()
    sales = await lab.settled(there, target=target)
    await lab.simulator.set_state(target, state)
    await there.apply(grant("writers", sales.analysts, database=sales.name, access="Write"))
    if state == "DEGRADED":
        await there.ready(WRITERS)
    else:
        body = await there.reason(WRITERS, "InstanceUpdating")
        assert current(body, "Reconciling") is not None


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_stopped_instance_with_nothing_pending_stays_ready(
    lab: Lab, there: Namespace, operators: Operators, restarted: bool
) -> None:
    operator = await operators.start()
    await lab.settled(there, target="provisioned", interval="1s")
    if restarted:
        await operator.stop()
    await lab.simulator.set_state("provisioned", "STOPPED")
    if restarted:
        operator = await operators.start()
    body = await there.until(
        CONNECTION, lambda body: _says(body, "InstanceAvailable", "False", "InstanceStopped")
    )
    assert is_ready(body)
    version = body["metadata"]["resourceVersion"]
    await operator.passed(there.name, 4)
    body = await there.get(CONNECTION)
    assert is_ready(body)
    assert body["metadata"]["resourceVersion"] == version, "nothing changes, so nothing is written"
    assert is_ready(await there.get(READERS))


async def test_a_connection_that_failed_just_before_the_stop_is_ready_through_the_night(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    operator = await operators.start()
    await lab.settled(there, target="provisioned", interval="1s")
    await lab.simulator.fault("provisioned", "refuse")
    await there.reason(CONNECTION, "Unreachable")
    await lab.simulator.set_state("provisioned", "STOPPED")
    await there.reason(CONNECTION, "InstanceStopped", ready=True)
    await operator.passed(there.name, 2)
    assert is_ready(await there.get(CONNECTION))


@pytest.mark.requirement("R-34")
async def test_an_expiry_that_passes_while_the_instance_is_stopped_comes_first_after_the_start(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await operators.start()
    sales = await lab.settled(there, target="provisioned")
    soon = datetime.now(UTC) + timedelta(seconds=2)
    await there.spec(READERS, expiresAt=soon.isoformat())
    await there.ready(READERS)
    await lab.simulator.set_state("provisioned", "STOPPED")
    await there.reason(READERS, "InstanceStopped")
    assert datetime.now(UTC) >= soon, "until then nothing was pending"
    assert await sales.may(sales.analysts, "SELECT")
    await lab.simulator.set_state("provisioned", "AVAILABLE")
    await there.reason(READERS, "Expired", ready=True)
    assert not await sales.may(sales.analysts, "SELECT")
    log = [statement for _, statement, _ in await sales.log()]
    assert any(statement.startswith("REVOKE SELECT") for statement in log[-5:])


@pytest.mark.requirement("R-33")
async def test_a_failure_while_looking_revokes_nothing(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    operator = await operators.start()
    sales = await lab.settled(there, interval="1s")
    before, log = await sales.acl(), await sales.log()
    for messages in (1, 2, 3, 5, 8):
        await lab.simulator.fault("autoscaling", "drop", messages)
        await operator.passed(there.name, 1)
    await there.until(CONNECTION, lambda body: not is_ready(body))
    assert is_ready(await there.get(READERS)), "what was read back once stays said"
    assert await sales.acl() == before
    await lab.simulator.clear_faults()
    await there.ready(CONNECTION)
    assert await sales.acl() == before
    assert await sales.log() == log


@pytest.mark.requirement("R-52")
@pytest.mark.parametrize("target", ["autoscaling", "provisioned"])
async def test_a_database_that_does_not_exist_is_said_and_asked_for_with_growing_pauses(
    lab: Lab, there: Namespace, operators: Operators, target: str
) -> None:
    sales = await lab.database(target)
    wrong = (
        {"autoscaling": {"project": "no-such-project"}}
        if target == "autoscaling"
        else {"provisioned": {"instance": "no-such"}}
    )
    operator = await operators.start(retry_base_seconds=0.3, retry_cap_seconds=60)
    await there.apply(
        await lab.connection(there, sales, target=wrong),
        grant("readers", sales.analysts, database=sales.name),
    )
    body = await there.reason(CONNECTION, "InstanceNotFound")
    assert current(body, "Stalled") is not None
    assert "spec.target" in message_of(body)
    assert current(await there.reason(READERS, "InstanceNotFound"), "Reconciling") is not None
    await asyncio.sleep(2.0)
    assert operator.count(there.name) <= 5, "no hot loop"
    right = (
        {"autoscaling": {"project": "marketing"}}
        if target == "autoscaling"
        else {"provisioned": {"instance": "marketing-db"}}
    )
    await there.spec(CONNECTION, target={"autoscaling": None, "provisioned": None, **right})
    await there.ready(CONNECTION)


async def test_a_target_that_is_deleted_is_not_ready_even_with_nothing_pending(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await operators.start()
    await lab.settled(there, target="provisioned", interval="1s")
    await lab.simulator.set_state("provisioned", "DELETED")
    body = await there.reason(CONNECTION, "InstanceNotFound")
    assert current(body, "Stalled") is not None


@pytest.mark.requirement("R-97")
async def test_nothing_is_tried_before_the_instance_is_available(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    sales = await lab.database("provisioned")
    target = lab.simulator.target("provisioned")
    await lab.simulator.set_state("provisioned", "STOPPED")
    target.state = type(target.state)("STARTING")
    before, logins = lab.simulator.stats()["requests"], dict(target.stats.logins)
    operator = await operators.start()
    await there.apply(await lab.connection(there, sales))
    await there.reason(CONNECTION, "InstanceStarting")
    await operator.passed(there.name, 2)
    asked = {name for name, count in lab.simulator.stats()["requests"].items() if count > before.get(name, 0)}
    assert any("instances" in name and name.startswith("GET") for name in asked)
    assert not any("credentials" in name for name in asked)
    assert dict(target.stats.logins) == logins
    await lab.simulator.set_state("provisioned", "AVAILABLE")
    await there.ready(CONNECTION)


@pytest.mark.requirement("R-87")
async def test_a_look_does_not_wake_a_sleeping_compute_and_a_change_does(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    operator = await operators.start()
    sales = await lab.settled(there, interval="1s")
    stats = lab.simulator.target("autoscaling").stats
    await lab.simulator.set_state("autoscaling", "IDLE")
    before = stats.wake_ups
    await operator.passed(there.name, 3)
    assert stats.wake_ups == before
    body = await there.get(CONNECTION)
    assert is_ready(body)
    assert _says(body, "InstanceAvailable", "True", "Asleep")
    await operator.stop()
    operator = await operators.start()
    await operator.passed(there.name, 2)
    assert stats.wake_ups == before, "nor does a restart"
    await there.apply(grant("writers", sales.analysts, database=sales.name, access="Write"))
    await there.ready(WRITERS)
    assert stats.wake_ups == before + 1
    assert await sales.may(sales.analysts, "INSERT")


async def test_what_waits_for_a_person_counts_as_pending_while_the_compute_sleeps_too(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    operator = await operators.start()
    sales = await lab.settled(there, interval="1s")
    await there.apply(grant("waiters", "nobody@example.com", database=sales.name))
    await there.reason("AccessGrant/waiters", "UnmappedUsers")
    await there.until(CONNECTION, lambda body: body["status"]["pendingChanges"] == 1)
    await lab.simulator.set_state("autoscaling", "IDLE")
    await there.until(CONNECTION, lambda body: _says(body, "InstanceAvailable", "True", "Asleep"))
    await operator.passed(there.name, 2)
    assert (await there.status(CONNECTION))["pendingChanges"] == 1


async def test_a_sleeping_compute_is_woken_for_a_look_where_that_is_asked_for(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    operator = await operators.start()
    await lab.settled(there, interval="1s", whenAsleep="Wake")
    stats = lab.simulator.target("autoscaling").stats
    await lab.simulator.set_state("autoscaling", "IDLE")
    before = stats.wake_ups
    await operator.passed(there.name, 1)
    await there.true("woken", _async(lambda: stats.wake_ups == before + 1))


async def test_an_expiry_wakes_a_sleeping_compute(lab: Lab, there: Namespace, operators: Operators) -> None:
    await operators.start()
    sales = await lab.settled(there)
    await there.spec(READERS, expiresAt=(datetime.now(UTC) + timedelta(seconds=2)).isoformat())
    await there.ready(READERS)
    await lab.simulator.set_state("autoscaling", "IDLE")
    await there.reason(READERS, "Expired", ready=True)
    assert not await sales.may(sales.analysts, "SELECT")


async def test_a_deletion_wakes_a_sleeping_compute(lab: Lab, there: Namespace, operators: Operators) -> None:
    await operators.start()
    sales = await lab.settled(there)
    await lab.simulator.set_state("autoscaling", "IDLE")
    await there.delete(READERS)
    await there.gone(READERS)
    assert not await sales.may(sales.analysts, "SELECT")


async def test_a_mapping_that_leaves_for_another_connection_wakes_a_sleeping_compute(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    sales = await lab.database()
    await sales.run(f"CREATE ROLE {sales.analysts} LOGIN")
    await operators.start()
    await there.apply(
        await lab.connection(there, sales),
        mapping(
            "bob",
            "bob@example.com",
            "Explicit",
            postgresUsername=sales.analysts,
            connectionRef={"name": "marketing"},
        ),
        grant("readers", "bob@example.com", database=sales.name),
    )
    await there.ready(CONNECTION, READERS)
    assert await sales.may(sales.analysts, "SELECT")
    await lab.simulator.set_state("autoscaling", "IDLE")
    await there.spec("UserMapping/bob", connectionRef={"name": "elsewhere"})
    await there.until(READERS, lambda body: not is_ready(body))
    assert not await sales.may(sales.analysts, "SELECT")


@pytest.mark.requirement("R-153", "R-154")
async def test_a_compute_that_takes_long_to_wake_is_no_failure(
    lab: Lab, there: Namespace, operators: Operators, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = await operators.start(connect_timeout_seconds=1)
    sales = await lab.settled(there)
    target = lab.simulator.target("autoscaling")
    wake = asyncio.Event()

    async def slowly() -> None:
        await wake.wait()
        target.state = type(target.state)("ACTIVE")

    monkeypatch.setattr(target, "_wake_up", slowly)
    await lab.simulator.set_state("autoscaling", "IDLE")
    await there.apply(grant("writers", sales.analysts, database=sales.name, access="Write"))
    body = await there.reason(WRITERS, "Resuming")
    assert current(body, "Reconciling") is not None
    assert operator.operator.metrics is not None
    wake.set()
    await there.ready(WRITERS, CONNECTION)


def _says(body: dict, kind: str, status: str, reason: str) -> bool:  # type: ignore[type-arg]
    found = condition_of(body, kind)
    return found is not None and (found["status"], found["reason"]) == (status, reason)


def _async(condition):  # type: ignore[no-untyped-def]
    async def asked() -> bool:
        return bool(condition())

    return asked
