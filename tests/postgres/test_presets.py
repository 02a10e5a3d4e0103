"""The access of an application: full access, read only, single tables. Read back from the ACLs, and tried by logging in."""

from typing import Any

import pytest

from lakebase_operator.api import Reason
from lakebase_operator.api.access_grant import AccessGrant
from tests.postgres.objects import access_grant, tables
from tests.postgres.world import READY, World

MODIFY = {"SELECT", "INSERT", "UPDATE", "DELETE"}
SEQUENCE = {"USAGE", "SELECT"}

SALES = (
    "CREATE SCHEMA sales",
    "CREATE TABLE sales.orders (id serial, note text)",
    "CREATE TABLE sales.items (id int)",
    "CREATE SEQUENCE sales.numbers",
    "CREATE VIEW sales.notes AS SELECT note FROM sales.orders",
)
EVERYTHING = [tables("sales"), {"sequences": {"schema": "sales", "matching": ["*"]}}]


def preset(world: World, role: str, access: str, objects: list[Any] | None = None) -> AccessGrant:
    return access_grant("shop", [role], objects or EVERYTHING, access, database=world.database)


@pytest.mark.requirement("R-113", "R-156")
async def test_full_access_reads_and_changes_all_tables_now_and_later_and_empties_none(
    world: World,
) -> None:
    role = await world.role("shop")
    await world.run(*SALES)
    grant = preset(world, role, "Modify")
    synced = await world.sync(grant)
    assert synced.said(grant) == (READY, Reason.SUCCEEDED)
    assert await world.database_acl(role) == {"CONNECT"}
    assert await world.schema_acl("sales", role) == {"USAGE"}
    for table in ("orders", "items"):
        assert await world.acl(f"sales.{table}", role) == MODIFY
    for sequence in ("orders_id_seq", "numbers"):
        assert await world.acl(f"sales.{sequence}", role) == SEQUENCE
    for statement in (
        "INSERT INTO sales.orders (note) VALUES ('x') RETURNING currval('sales.orders_id_seq')",
        "UPDATE sales.orders SET note = 'y'",
        "DELETE FROM sales.orders",
        "SELECT nextval('sales.numbers')",
        "SELECT last_value FROM sales.numbers",
    ):
        assert await world.allowed(role, statement), statement
    for statement in (
        "TRUNCATE sales.orders",
        "SELECT setval('sales.numbers', 5)",
        "CREATE TABLE sales.own ()",
    ):
        assert not await world.allowed(role, statement), statement
    await world.run("CREATE TABLE sales.late (id serial)")
    await world.sync(grant)
    assert await world.acl("sales.late", role) == MODIFY
    assert await world.acl("sales.late_id_seq", role) == SEQUENCE


async def test_full_access_to_tables_takes_in_the_sequences_that_they_own_and_no_others(world: World) -> None:
    role = await world.role("shop")
    await world.run(*SALES)
    await world.sync(preset(world, role, "Modify", [tables("sales", "orders")]))
    assert await world.acl("sales.orders_id_seq", role) == SEQUENCE
    assert await world.acl("sales.numbers", role) == set()
    columns = [tables("sales", "items", columns=["id"])]
    await world.sync(preset(world, role, "Modify", columns))
    held = await world.rows(
        "SELECT x.privilege_type FROM pg_attribute a, aclexplode(a.attacl) x"
        " WHERE a.attrelid = 'sales.items'::regclass AND pg_get_userbyid(x.grantee) = %s",
        role,
    )
    assert {privilege for (privilege,) in held} == MODIFY - {"DELETE"}


async def test_a_view_is_changed_through_where_it_is_named_and_else_read_which_is_told(world: World) -> None:
    role = await world.role("shop")
    await world.run(*SALES)
    grant = preset(world, role, "Modify", [tables("sales")])
    synced = await world.sync(grant)
    assert await world.acl("sales.notes", role) == {"SELECT"}
    assert [(one["object"], one["reason"]) for one in synced.issues(grant)] == [
        ("sales.notes", Reason.READ_ONLY_RELATION)
    ]
    named = preset(world, role, "Modify", [tables("sales", "notes")])
    assert not (await world.sync(named)).issues(named)
    assert await world.acl("sales.notes", role) == MODIFY


@pytest.mark.requirement("R-114", "R-116")
async def test_read_only_reads_all_tables_now_and_later_and_changes_none(world: World) -> None:
    role = await world.role("report")
    await world.run(*SALES)
    grant = preset(world, role, "Read")
    await world.sync(grant)
    assert await world.database_acl(role) == {"CONNECT"}
    assert await world.schema_acl("sales", role) == {"USAGE"}
    assert await world.acl("sales.orders", role) == {"SELECT"}
    assert await world.allowed(role, "SELECT * FROM sales.orders")
    for statement in (
        "INSERT INTO sales.orders (note) VALUES ('x')",
        "UPDATE sales.orders SET note = 'y'",
        "DELETE FROM sales.orders",
        "SELECT nextval('sales.numbers')",
    ):
        assert not await world.allowed(role, statement), statement
    await world.run("CREATE TABLE sales.late (id int)")
    assert not await world.allowed(role, "SELECT * FROM sales.late")
    await world.sync(grant)
    assert await world.allowed(role, "SELECT * FROM sales.late")
    assert not await world.allowed(role, "INSERT INTO sales.late VALUES (1)")


@pytest.mark.requirement("R-115")
async def test_single_tables_are_these_and_no_others_not_even_later_ones(world: World) -> None:
    role = await world.role("shop")
    await world.run(*SALES)
    grant = preset(world, role, "Modify", [tables("sales", "orders")])
    await world.sync(grant)
    await world.run("CREATE TABLE sales.late (id int)")
    await world.sync(grant)
    assert await world.allowed(role, "INSERT INTO sales.orders (note) VALUES ('x')")
    for table in ("items", "late"):
        assert await world.acl(f"sales.{table}", role) == set()
        assert not await world.allowed(role, f"SELECT * FROM sales.{table}")


@pytest.mark.requirement("R-117")
async def test_from_full_access_to_read_only_just_the_difference_is_revoked(world: World) -> None:
    role = await world.role("shop")
    await world.run(*SALES)
    await world.sync(preset(world, role, "Modify"))
    synced = await world.sync(preset(world, role, "Read"))
    assert await world.acl("sales.orders", role) == {"SELECT"}
    assert await world.acl("sales.numbers", role) == {"SELECT"}
    assert await world.allowed(role, "SELECT * FROM sales.orders")
    assert synced.changes
    for statement in synced.changes:
        verb, _, rest = statement.partition(" ")
        taken = set(rest.partition(" ON ")[0].replace(",", "").split())
        assert verb == "REVOKE"
        assert taken <= {"INSERT", "UPDATE", "DELETE", "USAGE"}, statement
    # And from there to single tables.
    await world.sync(preset(world, role, "Read", [tables("sales", "items")]))
    assert not await world.allowed(role, "SELECT * FROM sales.orders")
    assert await world.allowed(role, "SELECT * FROM sales.items")
    assert await world.schema_acl("sales", role) == {"USAGE"}
