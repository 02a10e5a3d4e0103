"""Owners among the grantees, grantees who passed it on, and declarations that the API server should have refused."""

from typing import Any

import pytest

from lakebase_operator.api import Reason
from tests.postgres.objects import access_grant, databases, schemas, tables
from tests.postgres.world import READY, STALLED, World

SALES = ("CREATE SCHEMA sales", "CREATE TABLE sales.orders (id int)")
OWNED = ("ALTER SCHEMA sales OWNER TO {o}", "ALTER TABLE sales.orders OWNER TO {o}")


async def test_an_owners_own_rights_are_never_taken_away(world: World) -> None:
    owner, second = await world.owned_role("owner"), await world.owned_role("second")
    await world.run(*SALES, *OWNED, o=owner)
    grant = access_grant("g", [owner, second], [tables("sales")], "Write", database=world.database)
    synced = await world.sync(grant)
    assert synced.said(grant) == (READY, Reason.SUCCEEDED)
    before = await world.acl("sales.orders", owner)
    assert not (await world.sync(grant)).writes
    # Somebody with a grant becomes the owner: from then on it is the owner's own right.
    await world.run(*OWNED, o=second)
    await world.sync()
    assert await world.acl("sales.orders", second) == before
    assert await world.allowed(second, "SELECT * FROM sales.orders")
    assert not await world.ledger()


async def test_an_owner_who_gave_up_a_right_gets_it_when_it_is_declared(world: World) -> None:
    owner = await world.owned_role("owner")
    await world.run(*SALES, *OWNED, "REVOKE SELECT ON sales.orders FROM {o}", o=owner)
    assert not await world.allowed(owner, "SELECT * FROM sales.orders")
    grant = access_grant("g", [owner], [tables("sales")], database=world.database)
    await world.sync(grant)
    assert await world.allowed(owner, "SELECT * FROM sales.orders")
    assert not (await world.sync(grant)).writes


async def test_a_grantee_who_passed_it_on_blocks_the_revoke_and_is_told_with_the_error(world: World) -> None:
    role, friend, owner = (
        await world.role("role"),
        await world.role("friend"),
        await world.owned_role("owner"),
    )
    await world.run(
        *SALES, *OWNED, "CREATE TABLE sales.lines (id int)", "ALTER TABLE sales.lines OWNER TO {o}",
        "GRANT SELECT ON sales.orders TO {r} WITH GRANT OPTION", "GRANT USAGE ON SCHEMA sales TO {r}",
        "SET ROLE {r}", "GRANT SELECT ON sales.orders TO {f}", "RESET ROLE",
        o=owner, r=role, f=friend,
    )  # fmt: skip
    await world.sync(access_grant("g", [role], [tables("sales")], database=world.database))
    over = access_grant("g", [role], [tables("sales")], database=world.database, suspend=True)
    synced = await world.sync(over)
    assert synced.said(over) == (STALLED, Reason.DEPENDENT_PRIVILEGES)
    assert "dependent privileges exist" in synced.of(over).message
    assert await world.acl("sales.lines", role) == set()
    assert await world.acl("sales.orders", friend) == {"SELECT"}


@pytest.mark.requirement("R-180")
async def test_what_was_given_by_hand_on_columns_outlives_the_revoke_on_their_table(
    plain_world: World,
) -> None:
    world = plain_world
    role, other, owner = await world.role("role"), await world.role("other"), await world.owned_role("owner")
    await world.run(
        "CREATE SCHEMA sales", 'CREATE TABLE sales.orders (id int, "To tal" int, secret int)', *OWNED,
        'GRANT SELECT (id, "To tal"), UPDATE (id) ON sales.orders TO {r}',
        "GRANT SELECT (secret) ON sales.orders TO {r} WITH GRANT OPTION",
        "GRANT SELECT (id) ON sales.orders TO {x}",
        o=owner, r=role, x=other,
    )  # fmt: skip
    columns = (
        "SELECT a.attname, x.privilege_type, x.is_grantable, pg_get_userbyid(x.grantee), pg_get_userbyid(x.grantor)"
        " FROM pg_attribute a, aclexplode(a.attacl) x WHERE a.attrelid = 'sales.orders'::regclass ORDER BY 1, 2, 4"
    )
    before = await world.rows(columns)
    assert len(before) == 5
    await world.sync(access_grant("g", [role, other], [tables("sales")], "Write", database=world.database))
    assert await world.rows(columns) == before
    await world.sync(access_grant("g", [other], [tables("sales")], database=world.database))
    assert await world.acl("sales.orders", role) == set()
    assert await world.acl("sales.orders", other) == {"SELECT"}
    assert await world.rows(columns) == before
    assert not (
        await world.sync(access_grant("g", [other], [tables("sales")], database=world.database))
    ).writes


async def test_a_view_and_its_grants_belong_to_whoever_owns_it(strict_world: World) -> None:
    world = strict_world
    role, owner, second = (
        await world.role("role"),
        await world.owned_role("owner"),
        await world.owned_role("second"),
    )
    await world.run(
        *SALES, *OWNED, "CREATE VIEW sales.v AS SELECT * FROM sales.orders", "ALTER VIEW sales.v OWNER TO {s}",
        "GRANT USAGE ON SCHEMA sales TO {s}", "GRANT SELECT ON sales.orders TO {s}",
        o=owner, s=second,
    )  # fmt: skip
    await world.sync(access_grant("g", [role], [tables("sales", "v")], database=world.database))
    assert await world.grantors("sales.v", role) == {("SELECT", second)}
    assert await world.allowed(role, "SELECT * FROM sales.v")
    assert not await world.allowed(role, "SELECT * FROM sales.orders")


@pytest.mark.requirement("R-183")
@pytest.mark.parametrize(
    ("objects", "privileges", "said"),
    [
        ([tables("pg_catalog", "pg_class")], ["SELECT"], "system schema"),
        ([tables("lakebase_operator")], ["SELECT"], "system schema"),
        ([schemas("neon")], ["USAGE"], "system schema"),
        ([tables("sales")], ["USAGE"], "a table has no privilege USAGE"),
        ([schemas("sales"), databases("d")], ["USAGE"], "a database has no privilege USAGE"),
    ],
)
async def test_what_the_api_server_should_have_refused_is_refused_here_too(
    strict_world: World, objects: list[Any], privileges: list[str], said: str
) -> None:
    grant = access_grant("g", ["r"], objects, privileges=privileges, database=strict_world.database)
    with pytest.raises(ValueError, match=said):
        await strict_world.sync(grant)
