"""Objects with very many grantees: told early, refused before PostgreSQL refuses, and nothing else held back by it."""

import pytest

from lakebase_operator.api import Reason
from lakebase_operator.domain import plan as planning
from lakebase_operator.domain.plan import MANY_ACL_ITEMS, MAX_ACL_ITEMS
from tests.postgres.meddling import assert_the_ledger_agrees
from tests.postgres.objects import access_grant, tables
from tests.postgres.world import READY, STALLED, World

SALES = ("CREATE SCHEMA sales", "CREATE TABLE sales.orders (id int)", "CREATE TABLE sales.lines (id int)")


async def many(world: World, count: int, table: str | None = "sales.orders") -> list[str]:
    """Roles, each with SELECT on a table."""
    names = [world.name(f"m{number:04}") for number in range(count)]
    for start in range(0, count, 500):
        some = names[start : start + 500]
        await world.run("; ".join(f"CREATE ROLE {name} NOLOGIN" for name in some))
        if table:
            await world.run(f"GRANT SELECT ON {table} TO {', '.join(some)}")
    return names


async def remove(world: World, names: list[str]) -> None:
    """Other tests share the server."""
    await world.run("DROP SCHEMA sales CASCADE")
    for start in range(0, len(names), 500):
        some = ", ".join(names[start : start + 500])
        await world.run(
            "SET ROLE databricks_superuser",
            f"REVOKE ALL ON DATABASE {{d}} FROM {some}",
            "RESET ROLE",
            f"DROP ROLE {some}",
            d=world.database,
        )


async def test_from_five_hundred_grantees_on_a_group_role_is_advised_and_all_is_granted(world: World) -> None:
    role = await world.role("role")
    await world.run(*SALES)
    grant = access_grant("g", [role], [tables("sales")], database=world.database)
    names = await many(world, MANY_ACL_ITEMS - 20)
    synced = await world.sync(grant)
    assert (synced.said(grant), synced.issues(grant)) == ((READY, Reason.SUCCEEDED), [])
    names += [world.name(f"n{number}") for number in range(20)]
    await world.run("; ".join(f"CREATE ROLE {name}" for name in names[-20:]))
    await world.run(f"GRANT SELECT ON sales.orders TO {', '.join(names[-20:])}")
    synced = await world.sync(grant)
    assert synced.said(grant) == (READY, Reason.SUCCEEDED)
    (issue,) = synced.issues(grant)
    assert (issue["object"], issue["reason"]) == ("sales.orders", "AclLarge")
    assert "group role" in issue["fix"]
    assert not (await world.sync(grant)).writes
    await remove(world, names)


async def test_before_postgres_runs_out_of_room_newcomers_are_refused_and_nothing_else_is(
    world: World,
) -> None:
    old, new = await world.role("old"), await world.role("new")
    await world.run(*SALES, f'GRANT UPDATE ON sales.orders TO "{old}"')
    taken = await world.value("SELECT cardinality(relacl) FROM pg_class WHERE oid = 'sales.orders'::regclass")
    names = await many(world, MAX_ACL_ITEMS - taken)
    grant = access_grant("g", [old, new], [tables("sales")], database=world.database)
    synced = await world.sync(grant)
    assert synced.said(grant) == (STALLED, Reason.ACL_FULL)
    (full,) = [one for one in synced.issues(grant) if one["reason"] == "AclFull"]
    assert (full["object"], full["role"]) == ("sales.orders", new)
    assert "group role" in full["fix"]
    # Who stands in the ACL may get more, and other objects have room.
    assert await world.acl("sales.orders", old) == {"SELECT", "UPDATE"}
    assert await world.acl("sales.lines", new) == {"SELECT"}
    assert await world.schema_acl("sales", new) == {"USAGE"}
    assert not (await world.sync(grant)).writes
    # With room again, it is granted.
    await world.run(f"REVOKE SELECT ON sales.orders FROM {', '.join(names[:10])}")
    synced = await world.sync(grant)
    assert await world.acl("sales.orders", new) == {"SELECT"}
    assert synced.said(grant) == (READY, Reason.SUCCEEDED)
    await remove(world, names)


async def test_what_postgres_itself_has_no_room_for_is_told_the_same_way(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """54000: a row of the catalog is larger than a page."""
    monkeypatch.setattr(planning, "MAX_ACL_ITEMS", 10_000)
    await world.run(*SALES)
    names = await many(world, 2500, table=None)
    grants = [
        access_grant(
            f"g{start}", names[start : start + 500], [tables("sales", "orders")], database=world.database
        )
        for start in range(0, 2500, 500)
    ]
    synced = await world.sync(*grants)
    assert (STALLED, Reason.ACL_FULL) in {synced.said(grant) for grant in grants}
    issues = [issue for grant in grants for issue in synced.issues(grant) if issue["reason"] == "AclFull"]
    assert {issue["object"] for issue in issues} == {"sales.orders"}
    assert all("row is too big" in issue["fix"] for issue in issues)
    # As many as there is room for.
    assert await world.value(
        "SELECT cardinality(relacl) > 2300 FROM pg_class WHERE oid = 'sales.orders'::regclass"
    )
    await assert_the_ledger_agrees(world, names)
    again = await world.sync(*grants)
    assert again.writes == []
    assert [again.said(grant) for grant in grants] == [synced.said(grant) for grant in grants]
    await remove(world, names)
