"""``lakebase-operator access``: every way to a relation is counted, also those that no grant shows."""

import asyncio
import csv
import io
import json

import pytest
from click.testing import CliRunner

from lakebase_operator.__main__ import main
from lakebase_operator.external.postgres.effective import effective_access
from tests.postgres.objects import access_grant, tables
from tests.postgres.world import World

SALES = ("CREATE SCHEMA sales", "CREATE TABLE sales.orders (id int, total int)")
ORDERS = "sales.orders"
Way = tuple[str, str, str, str, bool]
"""Object, privilege, way, through, possible."""


async def ways(world: World, role: str, *, usable: bool = True) -> set[Way]:
    """All ways of one role, those to what PostgreSQL or the platform made left out."""
    async with world.session() as session:
        rows = [row async for row in effective_access(session, [role], ["sales", "hidden"])]
    assert {row.role for row in rows} <= {role}
    return {
        (row.object, row.privilege, row.way, row.through, row.possible)
        for row in rows
        if row.usable is usable
    }


@pytest.mark.requirement("R-200")
async def test_what_is_granted_owned_and_held_through_public_and_memberships_is_counted(world: World) -> None:
    role, group, outer = await world.role("role"), await world.role("group"), await world.role("outer")
    await world.run(
        *SALES, "GRANT USAGE ON SCHEMA sales TO {r}", "GRANT SELECT ON sales.orders TO {r}",
        "GRANT INSERT ON sales.orders TO {g}", "GRANT {g} TO {r}", "GRANT UPDATE ON sales.orders TO {o}",
        "GRANT {o} TO {g}", "GRANT DELETE ON sales.orders TO PUBLIC", "GRANT REFERENCES (id) ON sales.orders TO {r}",
        "CREATE TABLE sales.own (id int)", "ALTER TABLE sales.own OWNER TO {r}",
        r=role, g=group, o=outer,
    )  # fmt: skip
    found = await ways(world, role)
    assert {way for way in found if way[0] == ORDERS} == {
        (ORDERS, "SELECT", "Granted", "", False),
        (ORDERS, "REFERENCES (id)", "Granted", "", False),
        (ORDERS, "INSERT", "Membership", group, False),
        (ORDERS, "UPDATE", "Membership", f"{group} -> {outer}", False),
        (ORDERS, "DELETE", "Public", "PUBLIC", False),
    }
    assert ("sales.own", "TRUNCATE", "Owner", "", False) in found


@pytest.mark.requirement("R-200")
async def test_a_membership_without_inherit_is_a_way_by_set_role(world: World) -> None:
    role, group = await world.role("role"), await world.role("group")
    await world.run(
        *SALES, "GRANT USAGE ON SCHEMA sales TO {g}", "GRANT SELECT ON sales.orders TO {g}",
        "GRANT {g} TO {r} WITH INHERIT FALSE, SET TRUE", r=role, g=group,
    )  # fmt: skip
    assert (ORDERS, "SELECT", "SetRole", group, False) in await ways(world, role)
    assert not await world.allowed(role, "SELECT FROM sales.orders")


@pytest.mark.requirement("R-200")
async def test_predefined_roles_and_superusers_reach_everything(world: World) -> None:
    reader, boss = await world.role("reader"), await world.role("boss", "LOGIN SUPERUSER")
    await world.run(*SALES, "GRANT pg_read_all_data TO {r}", r=reader)
    assert await ways(world, reader) == {(ORDERS, "SELECT", "Predefined", "pg_read_all_data", False)}
    assert (ORDERS, "ALL", "Superuser", "", False) in await ways(world, boss)
    assert await world.allowed(reader, "SELECT FROM sales.orders")


@pytest.mark.requirement("R-200")
async def test_a_member_of_databricks_superuser_is_shown_with_what_it_reaches_by_that(world: World) -> None:
    await world.run(*SALES)
    found = await ways(world, world.operator)
    assert any(
        way[:3] == (ORDERS, "SELECT", "Predefined") and "databricks_superuser" in way[3] for way in found
    )


@pytest.mark.requirement("R-200")
async def test_views_and_functions_with_their_owners_rights_are_possible_ways(world: World) -> None:
    role = await world.role("role")
    await world.run(
        *SALES, "GRANT USAGE ON SCHEMA sales TO {r}",
        "CREATE VIEW sales.inner_view AS SELECT id FROM sales.orders",
        "CREATE VIEW sales.outer_view AS SELECT id FROM sales.inner_view",
        "CREATE VIEW sales.invoker WITH (security_invoker = true) AS SELECT total FROM sales.orders",
        "GRANT SELECT ON sales.outer_view, sales.invoker TO {r}",
        "CREATE FUNCTION sales.total() RETURNS bigint LANGUAGE sql SECURITY DEFINER"
        " RETURN (SELECT sum(total) FROM sales.orders)",
        "CREATE FUNCTION sales.plain() RETURNS bigint LANGUAGE sql RETURN 1",
        r=role,
    )  # fmt: skip
    found = await ways(world, role)
    assert (ORDERS, "SELECT", "View", "sales.outer_view", True) in found
    assert not [way for way in found if way[3] == "sales.invoker"]
    functions = {way[0]: way for way in found if way[2] == "SecurityDefinerFunction"}
    assert set(functions) == {"sales.total()"}
    assert functions["sales.total()"][3] == world.server.superuser
    assert not await world.allowed(role, "SELECT FROM sales.orders")
    assert await world.allowed(role, "SELECT FROM sales.outer_view")
    assert await world.allowed(role, "SELECT sales.total()")


@pytest.mark.requirement("R-200")
async def test_what_cannot_be_reached_for_want_of_usage_is_told_apart(world: World) -> None:
    role = await world.role("role")
    await world.run(*SALES, "GRANT SELECT ON sales.orders TO {r}", r=role)
    assert await ways(world, role) == set()
    assert await ways(world, role, usable=False) == {(ORDERS, "SELECT", "Granted", "", False)}
    assert not await world.allowed(role, "SELECT FROM sales.orders")


@pytest.mark.requirement("R-200", "R-213")
async def test_the_report_agrees_with_postgres_itself(world: World) -> None:
    roles = [await world.role(f"r{number}") for number in range(4)]
    await world.run(
        *SALES, "CREATE SCHEMA hidden", "CREATE TABLE hidden.secrets (id int)", "CREATE VIEW sales.v AS SELECT 1 AS one",
        "GRANT {a} TO {b}", "GRANT {b} TO {c}", "GRANT pg_write_all_data TO {d}", "GRANT INSERT ON hidden.secrets TO {c}",
        a=roles[0], b=roles[1], c=roles[2], d=roles[3],
    )  # fmt: skip
    await world.sync(
        access_grant("read", [roles[0]], [tables("sales")], database=world.database),
        access_grant("write", [roles[1]], [tables("sales", "orders")], "Write", database=world.database),
    )
    for role in roles:
        told = {
            (way[0], way[1])
            for way in await ways(world, role) | await ways(world, role, usable=False)
            if not way[4] and way[2] != "SetRole"
        }
        asked = await world.rows(
            "SELECT format('%%I.%%I', n.nspname, c.relname), p FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace,"
            " unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) AS p"
            " WHERE n.nspname IN ('sales', 'hidden') AND c.relkind IN ('r', 'v') AND has_table_privilege(%s, c.oid, p)",
            role,
        )
        assert told == set(asked), role


@pytest.mark.requirement("R-200")
async def test_the_command_line_prints_it(world: World) -> None:
    role = await world.role("role")
    await world.run(*SALES, "GRANT SELECT ON sales.orders TO {r}", r=role)

    def run(output: str) -> str:
        result = CliRunner().invoke(
            main,
            ["access", "--role", role, "--schema", "sales", "-o", output, "--sslmode", "require"],
            env={
                "PGHOST": str(world.server.socket_directory),
                "PGPORT": str(world.server.port),
                "PGUSER": world.operator,
                "PGDATABASE": world.database,
            },
        )
        assert result.exit_code == 0, result.output
        return result.stdout

    (row,) = csv.DictReader(io.StringIO(await asyncio.to_thread(run, "csv")))
    expected = {"role": role, "object": ORDERS, "privilege": "SELECT", "way": "Granted", "through": ""}
    assert row == {**expected, "possible": "false", "usable": "false"}
    assert json.loads(await asyncio.to_thread(run, "json")) == {
        **expected,
        "possible": False,
        "usable": False,
    }


@pytest.mark.parametrize(
    ("named", "told"),
    [
        (["--role", "ROLEx"], 'RoleMissing: There is no role "ROLEx". Did you mean "ROLE"?'),
        (
            ["--role", "ROLE", "--schema", "sale"],
            'SchemaMissing: There is no schema "sale". Did you mean "sales"',
        ),
    ],
    ids=["role", "schema"],
)
async def test_a_name_that_does_not_exist_is_no_report_of_no_access(
    world: World, named: list[str], told: str
) -> None:
    role = await world.role("role")
    await world.run(*SALES)
    words = ["access", *(word.replace("ROLE", role) for word in named), "--sslmode", "require"]
    env = {
        "PGHOST": str(world.server.socket_directory),
        "PGPORT": str(world.server.port),
        "PGUSER": world.operator,
        "PGDATABASE": world.database,
    }
    result = await asyncio.to_thread(lambda: CliRunner().invoke(main, words, env=env))
    assert result.exit_code == 1
    assert result.stdout == ""
    assert told.replace("ROLE", role) in result.stderr
