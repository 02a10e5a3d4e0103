"""Privileges on columns, beside and instead of those on the table: a REVOKE on the table takes both along."""

from typing import Any

import pytest

from lakebase_operator.api import AccessGrant, Reason
from tests.postgres.objects import PUBLIC, access_grant, tables
from tests.postgres.world import READY, STALLED, WAITING, World

ORDERS = ("CREATE SCHEMA sales", "CREATE TABLE sales.orders (id serial, note text, secret text)")
COLUMNS = """
SELECT a.attname::text, x.privilege_type || CASE WHEN x.is_grantable THEN '*' ELSE '' END
FROM pg_attribute a, aclexplode(a.attacl) x
WHERE a.attrelid = 'sales.orders'::regclass AND NOT a.attisdropped AND x.grantee = COALESCE((SELECT oid FROM pg_roles WHERE rolname = %s), 0)
"""


async def on_columns(world: World, role: str) -> set[tuple[str, str]]:
    """(column, privilege) of a role on ``sales.orders``."""
    return set(await world.rows(COLUMNS, role))


async def sales(world: World) -> str:
    """A table of an owner for whom the operator may act; its schema is open to everybody."""
    owner = await world.owned_role("owner")
    await world.run(
        *ORDERS,
        "GRANT USAGE ON SCHEMA sales TO PUBLIC",
        "ALTER SCHEMA sales OWNER TO {o}",
        "ALTER TABLE sales.orders OWNER TO {o}",
        "GRANT CONNECT ON DATABASE {d} TO {op} WITH GRANT OPTION",
        o=owner, d=world.database, op=world.operator,
    )  # fmt: skip
    return owner


def whole(world: World, role: Any, *privileges: str, name: str = "whole", **more: Any) -> AccessGrant:
    return access_grant(
        name, [role], [tables("sales", "orders")], privileges=privileges, database=world.database, **more
    )


def part(
    world: World, role: Any, columns: list[str], *privileges: str, name: str = "part", **more: Any
) -> AccessGrant:
    entry = tables("sales", "orders", columns=columns)
    return access_grant(name, [role], [entry], privileges=privileges, database=world.database, **more)


async def test_columns_can_be_read_and_written_and_no_others(world: World) -> None:
    role = await world.role("role")
    await world.run(*ORDERS)
    entry = tables("sales", "orders", columns=["note"])
    grant = access_grant("g", [role], [entry], "Write", database=world.database)
    synced = await world.sync(grant)
    assert synced.said(grant) == (READY, Reason.SUCCEEDED)
    assert synced.of(grant).fields["grants"] == {
        "wanted": 4,
        "held": 4,
    }  # the sequence of the serial column too
    for statement, allowed in {
        "SELECT note FROM sales.orders": True,
        "INSERT INTO sales.orders (note) VALUES ('x')": True,
        "UPDATE sales.orders SET note = 'y'": True,
        "SELECT secret FROM sales.orders": False,
        "SELECT * FROM sales.orders": False,
        "INSERT INTO sales.orders (secret) VALUES ('x')": False,
        "UPDATE sales.orders SET secret = 'y'": False,
        "DELETE FROM sales.orders": False,
    }.items():
        assert await world.allowed(role, statement) is allowed, statement
    assert not (await world.sync(grant)).writes
    await world.sync()
    assert await on_columns(world, role) == set()
    assert not await world.ledger()


async def test_from_the_table_to_some_columns_in_one_pass_and_back(plain_world: World) -> None:
    world = plain_world
    role = await world.role("role")
    await sales(world)
    await world.sync(whole(world, role, "SELECT", "UPDATE", name="g"))
    some = part(world, role, ["id", "note"], "SELECT", "UPDATE", name="g")
    synced = await world.sync(some)
    assert synced.said(some) == (READY, Reason.SUCCEEDED)
    assert await world.acl("sales.orders", role) == set()
    assert await on_columns(world, role) == {(c, p) for c in ("id", "note") for p in ("SELECT", "UPDATE")}
    assert [text.split()[0] for text in synced.changes] == ["REVOKE", "GRANT"]
    assert not (await world.sync(some)).writes

    back = whole(world, role, "SELECT", "UPDATE", name="g")
    await world.sync(back)
    assert await world.acl("sales.orders", role) == {"SELECT", "UPDATE"}
    assert await on_columns(world, role) == set()
    assert not (await world.sync(back)).writes


async def test_declared_columns_survive_the_end_of_the_tables_grant(plain_world: World) -> None:
    world = plain_world
    role = await world.role("role")
    await sales(world)
    both = (whole(world, role, "SELECT", "UPDATE"), part(world, role, ["note"], "SELECT", grantOption=True))
    await world.sync(*both)
    assert await on_columns(world, role) == {("note", "SELECT*")}
    synced = await world.sync(both[1])
    assert synced.said(both[1]) == (READY, Reason.SUCCEEDED)
    assert await world.acl("sales.orders", role) == set()
    assert await on_columns(world, role) == {("note", "SELECT*")}
    assert await world.allowed(role, "SELECT note FROM sales.orders")
    assert not (await world.sync(both[1])).writes
    # And the other way round: the table's grant is untouched when the columns go.
    await world.sync(*both)
    await world.sync(both[0])
    assert await world.acl("sales.orders", role) == {"SELECT", "UPDATE"}
    assert await on_columns(world, role) == set()


@pytest.mark.parametrize("everybody", [False, True], ids=["role", "public"])
async def test_columns_that_others_granted_survive_too(plain_world: World, everybody: bool) -> None:
    world = plain_world
    role = await world.role("role")
    owner = await sales(world)
    who = "PUBLIC" if everybody else "{r}"
    await world.run(
        "SET ROLE {o}",
        f"GRANT SELECT (note), INSERT (note, secret) ON sales.orders TO {who}",
        "RESET ROLE",
        o=owner,
        r=role,
    )
    before = await on_columns(world, role)
    subject = PUBLIC if everybody else role
    await world.sync(whole(world, subject, "SELECT", "INSERT"))
    await world.sync(whole(world, subject, "INSERT"))
    assert await on_columns(world, role) == before
    await world.sync()
    assert await world.acl("sales.orders", None if everybody else role) == set()
    assert await on_columns(world, role) == before
    assert not await world.ledger()


async def test_absence_on_the_table_takes_the_columns_grants_of_nobody_else(plain_world: World) -> None:
    world = plain_world
    role, other = await world.role("role"), await world.role("other")
    await sales(world)
    await world.run("GRANT SELECT ON sales.orders TO {r}, {x}", r=role, x=other)
    hidden = whole(world, role, "SELECT", name="hidden", ensure="Absent")
    columns = part(world, role, ["note"], "SELECT")
    synced = await world.sync(hidden, columns)
    assert synced.said(hidden) == synced.said(columns) == (READY, Reason.SUCCEEDED)
    assert await world.allowed(role, "SELECT note FROM sales.orders")
    assert not await world.allowed(role, "SELECT secret FROM sales.orders")
    assert await world.acl("sales.orders", other) == {"SELECT"}
    assert not (await world.sync(hidden, columns)).writes


async def test_columns_of_views_and_partitioned_tables(plain_world: World) -> None:
    world = plain_world
    role = await world.role("role")
    owner = await sales(world)
    await world.run(
        "SET ROLE {o}",
        "CREATE VIEW sales.v AS SELECT * FROM sales.orders",
        "CREATE MATERIALIZED VIEW sales.m AS SELECT * FROM sales.orders",
        "CREATE TABLE sales.p (id int, note text, secret text) PARTITION BY LIST (id)",
        "CREATE TABLE sales.p1 PARTITION OF sales.p FOR VALUES IN (1)",
        "RESET ROLE",
        o=owner,
    )
    entry = tables("sales", "v", "m", "p", columns=["note"])
    grant = access_grant("g", [role], [entry], privileges=["SELECT"], database=world.database)
    synced = await world.sync(grant)
    assert synced.said(grant) == (READY, Reason.SUCCEEDED)
    for name in "vmp":
        assert await world.allowed(role, f"SELECT note FROM sales.{name}")
        assert not await world.allowed(role, f"SELECT secret FROM sales.{name}")
    assert not await world.allowed(role, "SELECT note FROM sales.p1")
    # Write on an updatable view that is named, by columns.
    writing = access_grant(
        "g", [role], [tables("sales", "v", columns=["note"])], "Write", database=world.database
    )
    await world.sync(writing)
    assert await world.allowed(role, "UPDATE sales.v SET note = 'x'")
    assert not await world.allowed(role, "UPDATE sales.v SET secret = 'x'")


async def test_a_column_that_does_not_exist_is_told_and_granted_as_soon_as_it_does(
    plain_world: World,
) -> None:
    world = plain_world
    role = await world.role("role")
    await sales(world)
    grant = part(world, role, ["note", "later"], "SELECT")
    synced = await world.sync(grant)
    assert synced.said(grant) == (WAITING, Reason.OBJECT_MISSING)
    assert [one["object"] for one in synced.issues(grant)] == ["sales.orders.later"]
    assert await on_columns(world, role) == {("note", "SELECT")}
    assert not (await world.sync(grant)).writes
    await world.run("ALTER TABLE sales.orders ADD later int")
    synced = await world.sync(grant)
    assert synced.said(grant) == (READY, Reason.SUCCEEDED)
    assert await on_columns(world, role) == {("note", "SELECT"), ("later", "SELECT")}


async def test_a_pattern_takes_the_columns_of_the_tables_that_have_them(plain_world: World) -> None:
    world = plain_world
    role = await world.role("role")
    owner = await sales(world)
    await world.run("SET ROLE {o}", "CREATE TABLE sales.other (id int)", "RESET ROLE", o=owner)
    entry = tables("sales", columns=["note"])
    grant = access_grant("g", [role], [entry], privileges=["SELECT"], database=world.database)
    synced = await world.sync(grant)
    assert synced.said(grant) == (READY, Reason.SUCCEEDED)
    assert await world.allowed(role, "SELECT note FROM sales.orders")
    assert not await world.allowed(role, "SELECT id FROM sales.other")


async def test_a_column_is_known_by_its_name(plain_world: World) -> None:
    world = plain_world
    role = await world.role("role")
    await sales(world)
    grant = part(world, role, ["note"], "SELECT")
    await world.sync(grant)
    # Another column is called so now: it gets the grant, and the renamed one loses it.
    await world.run(
        "ALTER TABLE sales.orders RENAME note TO old_note", "ALTER TABLE sales.orders ADD note text"
    )
    synced = await world.sync(grant)
    assert synced.said(grant) == (READY, Reason.SUCCEEDED)
    assert await on_columns(world, role) == {("note", "SELECT")}
    assert not (await world.sync(grant)).writes
    await world.run("ALTER TABLE sales.orders DROP note")
    synced = await world.sync(grant)
    assert synced.said(grant) == (WAITING, Reason.OBJECT_MISSING)
    assert not await world.ledger()
    assert not (await world.sync(grant)).writes
    await world.run("ALTER TABLE sales.orders RENAME old_note TO note")
    await world.sync(grant)
    assert await on_columns(world, role) == {("note", "SELECT")}
    assert not world.errors()


@pytest.mark.requirement("R-179")
async def test_names_of_columns_with_anything_in_them_work(plain_world: World) -> None:
    world = plain_world
    role = await world.role("role")
    await sales(world)
    names = ['quote"d', "With Space", "semi;colon", "select", "prüfung", "a,b", "100%"]
    for name in names:
        await world.run("ALTER TABLE sales.orders ADD {c} int", c=name)
    grant = part(world, role, names, "SELECT", "REFERENCES")
    synced = await world.sync(grant)
    assert synced.said(grant) == (READY, Reason.SUCCEEDED)
    assert {column for column, _ in await on_columns(world, role)} == set(names)
    assert not (await world.sync(grant)).writes
    await world.sync()
    assert await on_columns(world, role) == set()
    assert not world.errors()


async def test_a_table_that_is_made_again_gets_its_columns_back(plain_world: World) -> None:
    world = plain_world
    role = await world.role("role")
    owner = await sales(world)
    grant = part(world, role, ["note"], "SELECT")
    await world.sync(grant)
    await world.run(
        "DROP TABLE sales.orders",
        "SET ROLE {o}",
        "CREATE TABLE sales.orders (note text)",
        "RESET ROLE",
        o=owner,
    )
    await world.sync(grant)
    assert await on_columns(world, role) == {("note", "SELECT")}
    assert not (await world.sync(grant)).writes


async def test_columns_are_given_where_only_their_grant_option_cannot_be(plain_world: World) -> None:
    """A grant option on the table is enough to grant its columns, and not to pass on the grant option."""
    world = plain_world
    role, owner = await world.role("role"), await world.role("owner")
    await world.run(
        *ORDERS,
        "GRANT USAGE ON SCHEMA sales TO PUBLIC",
        "ALTER TABLE sales.orders OWNER TO {o}",
        "SET ROLE {o}",
        "GRANT SELECT ON sales.orders TO {op} WITH GRANT OPTION",
        "RESET ROLE",
        o=owner, op=world.operator,
    )  # fmt: skip
    grant = part(world, role, ["note"], "SELECT", grantOption=True)
    synced = await world.sync(grant)
    assert await on_columns(world, role) == {("note", "SELECT")}
    assert await world.allowed(role, "SELECT note FROM sales.orders")
    assert synced.said(grant) == (STALLED, Reason.UNGRANTABLE)
    assert [one["privilege"] for one in synced.issues(grant)] == ["SELECT WITH GRANT OPTION"]
    assert synced.of(grant).fields["grants"] == {"wanted": 1, "held": 1}
    assert not (await world.sync(grant)).writes


async def test_an_owner_among_the_subjects_is_left_alone_whoever_else_is_not_to_have_it(
    plain_world: World,
) -> None:
    """What an owner grants itself on a column is in no ledger, so nobody would take it back."""
    world = plain_world
    owner, role, other = await sales(world), await world.role("role"), await world.role("other")
    entry = tables("sales", "orders", columns=["note"])
    giving = access_grant(
        "giving", [owner, role, other], [entry], privileges=["SELECT"], database=world.database
    )
    hidden = part(world, other, ["note"], "SELECT", name="hidden", ensure="Absent")
    await world.sync(giving, hidden)
    assert await on_columns(world, role) == {("note", "SELECT")}
    assert await on_columns(world, other) == await on_columns(world, owner) == set()
    assert not (await world.sync(giving, hidden)).writes
    await world.sync()
    assert await on_columns(world, role) == set()
