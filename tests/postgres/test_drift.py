"""What somebody changed by hand: repaired, or only reported."""

import pytest

from lakebase_operator.api import Reason
from lakebase_operator.api.lakebase_connection import DriftAction
from tests.postgres.objects import access_grant, tables
from tests.postgres.world import READY, STALLED, WAITING, World

SALES = ("CREATE SCHEMA sales", "CREATE TABLE sales.orders (id int)", "CREATE TABLE sales.lines (id int)")
BY_HAND = ("SET ROLE databricks_superuser", "REVOKE SELECT ON sales.orders FROM {r}", "RESET ROLE")


async def test_what_was_taken_away_by_hand_is_given_again_and_counted_once(world: World) -> None:
    role = await world.role("role")
    await world.run(*SALES)
    grant = access_grant("g", [role], [tables("sales")], database=world.database)
    first = await world.sync(grant)
    assert first.results[0].drifted == 0
    await world.run(*BY_HAND, r=role)
    synced = await world.sync(grant)
    assert (synced.results[0].drifted, synced.results[0].repaired) == (1, True)
    assert synced.said(grant) == (READY, Reason.SUCCEEDED)
    assert await world.acl("sales.orders", role) == {"SELECT"}
    assert (await world.sync(grant)).results[0].drifted == 0


async def test_with_report_what_was_taken_away_stays_away_and_is_told_at_every_pass(world: World) -> None:
    role = await world.role("role")
    await world.run(*SALES)
    grant = access_grant("g", [role], [tables("sales")], database=world.database)
    await world.sync(grant, drift=DriftAction.REPORT)
    await world.run(*BY_HAND, r=role)
    for _ in range(3):
        synced = await world.sync(grant, drift=DriftAction.REPORT)
        assert (synced.results[0].drifted, synced.results[0].repaired) == (1, False)
        assert synced.said(grant) == (STALLED, Reason.DRIFT_FOUND)
        assert synced.of(grant).fields["grants"] == {"wanted": 2, "held": 1}
        assert not synced.changes
        assert await world.acl("sales.orders", role) == set()
    assert not synced.writes
    await world.sync(grant, drift=DriftAction.REPAIR)
    assert await world.acl("sales.orders", role) == {"SELECT"}


async def test_with_report_what_is_new_is_granted_and_what_is_over_is_revoked(world: World) -> None:
    role, other = await world.role("role"), await world.role("other")
    await world.run(*SALES)
    grant = access_grant("g", [role], [tables("sales")], database=world.database)
    await world.sync(grant, drift=DriftAction.REPORT)
    await world.run(*BY_HAND, r=role)
    await world.run("CREATE TABLE sales.later (id int)")
    both = access_grant("g", [role, other], [tables("sales")], database=world.database)
    await world.sync(both, drift=DriftAction.REPORT)
    assert await world.acl("sales.orders", other) == {"SELECT"}
    assert await world.acl("sales.later", role) == {"SELECT"}
    assert await world.acl("sales.orders", role) == set()
    await world.sync(drift=DriftAction.REPORT)
    assert await world.acl("sales.lines", role) == set()
    assert not await world.ledger()


async def test_with_report_what_was_put_back_by_hand_is_no_drift_any_more(world: World) -> None:
    role = await world.role("role")
    await world.run(*SALES)
    grant = access_grant("g", [role], [tables("sales")], database=world.database)
    await world.sync(grant, drift=DriftAction.REPORT)
    await world.run(*BY_HAND, r=role)
    await world.sync(grant, drift=DriftAction.REPORT)
    await world.run(
        "SET ROLE databricks_superuser", "GRANT SELECT ON sales.orders TO {r}", "RESET ROLE", r=role
    )
    synced = await world.sync(grant, drift=DriftAction.REPORT)
    assert synced.said(grant) == (READY, Reason.SUCCEEDED)
    await world.sync(drift=DriftAction.REPORT)
    assert await world.acl("sales.orders", role) == set()


@pytest.mark.requirement("R-33")
async def test_while_a_declaration_cannot_be_read_nothing_is_revoked_and_that_is_said(world: World) -> None:
    role, other = await world.role("role"), await world.role("other")
    await world.run(*SALES)
    await world.sync(access_grant("g", [role], [tables("sales")], "Write", database=world.database))
    over = access_grant("g", [role], [tables("sales")], "Write", database=world.database, suspend=True)
    new = access_grant("new", [other], [tables("sales")], database=world.database)
    synced = await world.sync(over, new, may_revoke=False)
    assert not [text for text in synced.changes if text.startswith("REVOKE")]
    assert synced.said(over) == (WAITING, Reason.PENDING)
    assert synced.said(new) == (READY, Reason.SUCCEEDED)
    assert synced.results[0].unrevocable == ()
    synced = await world.sync(over, new)
    assert synced.said(over) == (READY, Reason.SUSPENDED)
    assert await world.acl("sales.orders", role) == set()
