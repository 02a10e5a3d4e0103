"""What is written to the API server, and what is not."""

import asyncio

import pytest

from tests.cluster.kube import Namespace, is_ready
from tests.cluster.lab import Lab
from tests.cluster.manifests import grant, mapping
from tests.cluster.operators import Operators
from tests.cluster.watcher import Watcher

pytestmark = pytest.mark.asyncio(loop_scope="session")

CONNECTION, READERS, ROLE, MAPPING = (
    "LakebaseConnection/marketing",
    "AccessGrant/readers",
    "PostgresRole/analysts",
    "UserMapping/alice",
)


async def test_nothing_is_written_where_nothing_changes(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    things = (CONNECTION, READERS, ROLE, MAPPING)
    lab.identity("alice@example.com")
    operator = await operators.start()
    sales = await lab.settled(there, interval="1s")
    await there.apply(mapping("alice", "alice@example.com"))
    await there.ready(MAPPING)
    await operator.passed(there.name, 1)

    async def versions() -> list[str]:
        return [(await there.get(thing))["metadata"]["resourceVersion"] for thing in things]

    before, log = await versions(), await sales.log()
    await operator.passed(there.name, 4)
    assert await versions() == before
    await operator.stop()
    operator = await operators.start()
    await operator.passed(there.name, 2)
    assert await versions() == before, "not by a restart either"
    assert await sales.log() == log


async def test_the_metric_of_a_connection_agrees_with_its_status(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    operator = await operators.start()
    await lab.settled(there)

    async def shows(value: int) -> None:
        sample = f'lakebase_operator_connection_ready{{name="marketing",namespace="{there.name}"}} {value}.0'

        async def shown() -> bool:
            return sample in operator.operator.metrics.exposition().decode().splitlines()

        await there.true(sample, shown)

    await shows(1)
    await there.delete("Secret/marketing-sp")
    await there.reason(CONNECTION, "SecretNotFound")
    await shows(0)
    await there.spec(CONNECTION, suspend=True)
    await there.reason(CONNECTION, "Suspended", ready=True)
    await shows(1)


async def test_a_sync_that_is_asked_for_is_done_and_echoed(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await operators.start()
    sales = await lab.settled(there)
    await sales.take(sales.analysts)
    assert not await sales.may(sales.analysts, "SELECT")
    await there.annotate(CONNECTION, sync_now="2030-01-01T00:00:00Z")
    await there.until(
        CONNECTION, lambda body: body["status"].get("lastHandledSync") == "2030-01-01T00:00:00Z"
    )
    assert await sales.may(sales.analysts, "SELECT")


async def test_a_sync_that_is_asked_for_with_too_many_words_is_done_once_too(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    operator = await operators.start()
    sales = await lab.settled(there)
    await sales.take(sales.analysts)
    await there.annotate(CONNECTION, sync_now="please " * 50)
    await there.until(CONNECTION, lambda body: "lastHandledSync" in body["status"])
    assert await sales.may(sales.analysts, "SELECT")
    await there.ready(CONNECTION)
    passes = operator.count(there.name)
    await asyncio.sleep(1.5)
    assert operator.count(there.name) - passes <= 1, "it was handled"


async def test_a_sync_that_is_asked_for_of_a_stopped_instance_is_echoed_only_once_it_is_done(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    operator = await operators.start()
    await lab.settled(there, target="provisioned")
    await lab.simulator.set_state("provisioned", "STOPPED")
    await there.annotate(CONNECTION, sync_now="a")
    await operator.passed(there.name, 2)
    assert "lastHandledSync" not in await there.status(CONNECTION)
    await lab.simulator.set_state("provisioned", "AVAILABLE")
    await there.until(CONNECTION, lambda body: body["status"].get("lastHandledSync") == "a")


async def test_a_sync_that_is_asked_for_wakes_a_sleeping_compute(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await operators.start()
    await lab.settled(there)
    await lab.simulator.set_state("autoscaling", "IDLE")
    await there.annotate(CONNECTION, sync_now="a")
    await there.until(CONNECTION, lambda body: body["status"].get("lastHandledSync") == "a")


async def test_an_edit_is_acknowledged_together_with_its_result(
    lab: Lab, there: Namespace, operators: Operators, watcher: Watcher
) -> None:
    await operators.start()
    await lab.settled(there)
    for number in range(5):
        await there.spec(READERS, reason=f"ticket {number}", access="Write" if number % 2 else "Read")
        (body,) = await there.ready(READERS)
        privileges = 10 if number % 2 else 3
        assert body["status"]["grants"]["held"] >= privileges
    version = body["metadata"]["resourceVersion"]
    await watcher.caught_up("AccessGrant", there.name, "readers", version)
    acknowledged: dict[int, list[bool]] = {}
    for seen in watcher.history("AccessGrant", there.name, "readers"):
        status = seen.body.get("status") or {}
        if status.get("conditions"):
            acknowledged.setdefault(status["observedGeneration"], []).append(is_ready(seen.body))
    assert set(acknowledged) == {1, 2, 3, 4, 5, 6}


async def test_transitions_are_told_in_events_and_nothing_else_is(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    operator = await operators.start()
    sales = await lab.settled(there, interval="1s")
    await operator.passed(there.name, 3)
    assert [event["reason"] for event in await there.events(READERS)] == ["Succeeded"]
    await there.apply(grant("readers", sales.analysts, database=sales.name, suspend=True))
    await there.reason(READERS, "Suspended", ready=True)
    await operator.passed(there.name, 2)
    events = await there.events(READERS)
    assert [event["reason"] for event in events] == ["Succeeded", "Suspended"]
    assert {event["type"] for event in events} == {"Normal"}
