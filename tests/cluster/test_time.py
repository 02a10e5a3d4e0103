"""Access that begins and ends by the clock."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from lakebase_operator.external.postgres.grants import ADVISORY_LOCK
from tests.cluster.kube import Namespace
from tests.cluster.lab import Lab
from tests.cluster.manifests import grant, role
from tests.cluster.operators import Operators

pytestmark = pytest.mark.asyncio(loop_scope="session")

READERS = "AccessGrant/readers"


def in_seconds(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


@pytest.mark.requirement("R-197")
async def test_access_ends_within_seconds_of_its_expiry(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await operators.start()
    sales = await lab.settled(there)
    end = datetime.now(UTC) + timedelta(seconds=2)
    await there.spec(READERS, expiresAt=end.isoformat())
    await there.ready(READERS)
    assert await sales.may(sales.analysts, "SELECT")
    await there.reason(READERS, "Expired", ready=True)
    assert end <= datetime.now(UTC) < end + timedelta(seconds=60)
    assert not await sales.may(sales.analysts, "SELECT")
    assert not await sales.held()


@pytest.mark.requirement("R-197")
async def test_an_expiry_that_passes_while_no_operator_runs_is_carried_out_at_its_start(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    operator = await operators.start()
    sales = await lab.settled(there)
    end = datetime.now(UTC) + timedelta(seconds=2)
    await there.spec(READERS, expiresAt=end.isoformat())
    await there.ready(READERS)
    await operator.stop()
    await asyncio.sleep((end - datetime.now(UTC)).total_seconds())
    assert await sales.may(sales.analysts, "SELECT")
    await operators.start()
    await there.reason(READERS, "Expired", ready=True)
    assert datetime.now(UTC) < end + timedelta(seconds=60)
    assert not await sales.may(sales.analysts, "SELECT")


@pytest.mark.requirement("R-34", "R-197")
async def test_after_a_start_what_has_expired_ends_before_anything_else_is_done(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await operators.start()
    sales = await lab.settled(there, target="provisioned")
    end = datetime.now(UTC) + timedelta(seconds=2)
    await there.spec(READERS, expiresAt=end.isoformat())
    await there.ready(READERS)
    await lab.simulator.set_state("provisioned", "STOPPED")
    new = f"new_{sales.name}"
    await there.apply(
        role("new", roleName=new),
        grant("writers", sales.analysts, database=sales.name, privileges=["INSERT"]),
    )
    await there.reason("PostgresRole/new", "InstanceStopped")
    await asyncio.sleep((end - datetime.now(UTC)).total_seconds())
    await lab.simulator.set_state("provisioned", "AVAILABLE")
    await there.ready("PostgresRole/new", "AccessGrant/writers")
    await there.reason(READERS, "Expired", ready=True)
    log = [statement.split(" ON ")[0] for _, statement, _ in await sales.log()]
    assert log.index("REVOKE SELECT") < log.index(f'CREATE ROLE "{new}"') < log.index("GRANT INSERT")


@pytest.mark.requirement("R-180", "R-197")
async def test_an_end_in_the_past_takes_nothing_from_anybody_else(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await operators.start()
    sales = await lab.settled(there)
    other = f"other_{sales.name}"
    await there.apply(role("other", roleName=other))
    await there.ready("PostgresRole/other")
    await there.apply(grant("others", other, database=sales.name))
    await there.ready("AccessGrant/others")
    await there.spec(READERS, expiresAt=in_seconds(-3600))
    await there.reason(READERS, "Expired", ready=True)
    assert not await sales.may(sales.analysts, "SELECT")
    assert await sales.may(other, "SELECT")
    taken = [statement for _, statement, _ in await sales.log() if statement.startswith("REVOKE")]
    assert taken
    assert not [statement for statement in taken if other in statement]


@pytest.mark.requirement("R-197")
async def test_what_ends_first_takes_in_nothing_of_an_applications_own_schema(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    """What an application grants in its own schema stays nobody else's business, also to whoever is meant by a pattern."""
    operator = await operators.start()
    sales = await lab.settled(there)
    app = f"app_{sales.name}"
    every = grant("every", sales.analysts, database=sales.name, privileges=["USAGE"])
    every["spec"]["objects"] = [{"schemas": {"matching": ["*"]}}]
    await there.apply(every, role("app", roleName=app, platformSchema={"name": "app_own"}))
    await there.ready("AccessGrant/every", "PostgresRole/app")
    end = datetime.now(UTC) + timedelta(seconds=2)
    await there.spec(READERS, expiresAt=end.isoformat())
    await there.ready(READERS)
    await operator.stop()
    async with sales.admin.transaction():
        await sales.run(f'SET LOCAL ROLE "{app}"')
        await sales.run(f'GRANT USAGE ON SCHEMA app_own TO "{sales.analysts}"')
    await asyncio.sleep((end - datetime.now(UTC)).total_seconds())
    await operators.start()
    await there.reason(READERS, "Expired", ready=True)
    await there.ready("AccessGrant/every")
    usage = "SELECT has_schema_privilege(%s, %s, 'USAGE')"
    assert await sales.value(usage, sales.analysts, "sales")
    assert await sales.value(usage, sales.analysts, "app_own")


async def test_access_begins_at_its_time(lab: Lab, there: Namespace, operators: Operators) -> None:
    await operators.start()
    sales = await lab.settled(there)
    begin = datetime.now(UTC) + timedelta(seconds=2)
    await there.spec(READERS, notBefore=begin.isoformat())
    await there.reason(READERS, "NotYetActive", ready=True)
    assert not await sales.may(sales.analysts, "SELECT")
    await there.reason(READERS, "Succeeded", ready=True)
    assert datetime.now(UTC) >= begin
    assert await sales.may(sales.analysts, "SELECT")


async def test_an_expiry_that_is_put_off_gives_access_back(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await operators.start()
    sales = await lab.settled(there)
    await there.spec(READERS, expiresAt=in_seconds(-60))
    await there.reason(READERS, "Expired", ready=True)
    assert not await sales.may(sales.analysts, "SELECT")
    await there.spec(READERS, expiresAt=in_seconds(3600))
    await there.reason(READERS, "Succeeded", ready=True)
    assert await sales.may(sales.analysts, "SELECT")


@pytest.mark.requirement("R-197")
async def test_access_that_ends_while_a_pass_is_at_work_is_not_left_to_the_next_comparison(
    lab: Lab, there: Namespace, operators: Operators
) -> None:
    await operators.start()
    sales = await lab.settled(there)
    end = datetime.now(UTC) + timedelta(seconds=3)
    async with sales.admin.transaction():
        await sales.run("SELECT pg_advisory_xact_lock(%s)", ADVISORY_LOCK)
        await there.spec(READERS, access="Write", expiresAt=end.isoformat())

        async def waits() -> bool:
            return bool(
                await sales.value(
                    "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)"
                )
            )

        await there.true("the pass waits for its turn to write", waits)
        await asyncio.sleep((end - datetime.now(UTC)).total_seconds() + 0.1)
    await there.reason(READERS, "Expired", ready=True, deadline=20)
    assert not await sales.may(sales.analysts, "SELECT")
