"""The operator reads catalogs, and never a row of a table that is not its own."""

import re
from datetime import timedelta

import pytest

from lakebase_operator.api.lakebase_connection import UnmanagedAction, UnmanagedGrants
from lakebase_operator.external.postgres.effective import effective_access
from lakebase_operator.reconcilers.grants import Policy
from tests.postgres import objects
from tests.postgres.logins import Logins
from tests.postgres.objects import access_grant, being_deleted, postgres_role, schemas, tables, user_mapping
from tests.postgres.reviews import Reviews
from tests.postgres.world import READY, World, run

SALES = (
    "CREATE SCHEMA sales",
    "CREATE TABLE sales.orders (id serial PRIMARY KEY, total int)",
    "CREATE TABLE sales.lines (id int) PARTITION BY LIST (id)",
    "CREATE TABLE sales.lines_1 PARTITION OF sales.lines FOR VALUES IN (1)",
    "INSERT INTO sales.orders (total) SELECT generate_series(1, 100)",
    "INSERT INTO sales.lines VALUES (1)",
    "CREATE VIEW sales.totals AS SELECT sum(total) FROM sales.orders",
    "CREATE MATERIALIZED VIEW sales.kept AS SELECT sum(total) FROM sales.orders",
)
READS = re.compile(
    r"\b(FROM|JOIN|COPY|TABLE|INTO|UPDATE|USING)\s+(ONLY\s+)?\"?sales\"?\s*\.|\bREFRESH\b|\bEXPLAIN\b|\bANALYZE\b",
    re.IGNORECASE,
)
"""A statement that reads or writes rows of the schema ``sales``."""
ON_PRIVILEGES = re.compile(r"^(GRANT|REVOKE|ALTER)\b", re.IGNORECASE)
"""These name tables as ``ON TABLE …`` or ``ALTER TABLE … OWNER``, and touch no row."""


async def everything(world: World) -> list[str]:
    """One of all that the operator does in a database; returns every statement that it sent."""
    start = world.log_position()
    role, other, owner = await world.owned_role("role"), world.name("other"), await world.owned_role("owner")
    await world.run(
        "CREATE SCHEMA handed_over AUTHORIZATION {b}", "CREATE TABLE handed_over.t (id int)", "ALTER TABLE handed_over.t OWNER TO {b}",
        b=await world.owned_role("before", "NOLOGIN"),
    )  # fmt: skip
    group, app, person = world.name("group"), world.name("app"), await world.role("person")
    declared = (
        postgres_role(group, deletionPolicy="Drop"),
        postgres_role(other, login=True, memberOf=[{"role": group}], settings={"statement_timeout": "30s"}),
        postgres_role(owner, owns=[schemas("handed_over"), tables("handed_over")]),
        user_mapping("person", person),
        access_grant("read", [role, group], [tables("sales")], database=world.database),
        access_grant("write", [person], [tables("sales", "orders")], "Write", database=world.database),
        access_grant(
            "columns", [other], [tables("sales", "orders", columns=["id"])], database=world.database
        ),
        access_grant(
            "absent", [objects.PUBLIC], [schemas("sales")], database=world.database, ensure="Absent",
            privileges=["CREATE"],
        ),
    )  # fmt: skip
    for _ in range(2):
        synced = await world.sync(*declared)
        for one in declared:
            assert synced.said(one)[0] is READY, synced.of(one)
    await world.run("GRANT DELETE ON sales.orders TO {r}", r=role)
    await world.sync(*declared, policy=Policy(unmanaged=UnmanagedGrants(action=UnmanagedAction.REPORT)))
    logins = Logins(world)
    await logins.sync(postgres_role(app, password={}))
    reviews = Reviews(world)
    await reviews.look(*declared)
    await reviews.report(*declared, after=timedelta(days=2))
    async with world.session() as session:
        assert [one async for one in effective_access(session, None, ["sales"])]
    await world.sync(being_deleted(declared[0]), *declared[1:2])
    return world.logged(start)


@pytest.mark.requirement("R-84")
async def test_no_statement_of_a_whole_run_reads_or_writes_a_row_of_a_table_of_somebody_else(
    world: World,
) -> None:
    await world.run(*SALES)
    scans = "SELECT relname, seq_scan, COALESCE(idx_scan, 0), n_tup_ins, n_tup_upd, n_tup_del FROM pg_stat_user_tables WHERE schemaname = 'sales' ORDER BY 1"
    await world.run("SELECT pg_stat_force_next_flush()")
    before = await world.rows(scans)
    statements = await everything(world)
    assert len(statements) > 50
    assert [text for text in statements if text.startswith("GRANT SELECT") and "orders" in text]
    assert not [text for text in statements if READS.search(text) and not ON_PRIVILEGES.match(text)]
    assert not [text for text in statements if re.match(r"(COPY|FETCH|DECLARE|LOCK)\b", text, re.IGNORECASE)]
    # The server counts scans and rows itself, whatever the statements look like.
    assert await world.rows(scans) == before
    # The opposite: what such a statement would look like is recognised, and counted.
    await world.run('SELECT count(*) FROM "sales"."orders"', "SELECT pg_stat_force_next_flush()")
    assert READS.search('SELECT count(*) FROM "sales"."orders"')
    assert await world.rows(scans) != before


@pytest.mark.requirement("R-84")
async def test_all_of_it_works_without_the_right_to_read_a_single_table(plain_world: World) -> None:
    world = plain_world
    await world.run(*SALES)
    keeper = await world.role("keeper", "NOLOGIN")
    for thing in (
        "SCHEMA sales", "TABLE sales.orders", "TABLE sales.lines", "TABLE sales.lines_1", "VIEW sales.totals",
        "MATERIALIZED VIEW sales.kept",
    ):  # fmt: skip
        await world.run(f"ALTER {thing} OWNER TO {{k}}", k=keeper)
    # It can become their owner where it grants, and has nothing of what the owner has.
    await world.run("GRANT {k} TO {o} WITH INHERIT FALSE, SET TRUE", k=keeper, o=world.operator)
    readable = (
        "SELECT count(*) FROM pg_class c WHERE c.relnamespace = 'sales'::regnamespace"
        " AND c.relkind IN ('r', 'p', 'v', 'm') AND has_any_column_privilege(%s, c.oid, 'SELECT')"
    )
    assert await world.value(readable, world.operator) == 0
    async with world.session() as session:
        with pytest.raises(Exception, match="permission denied"):
            await run(session, "SELECT FROM sales.orders")
    await everything(world)
    assert await world.value(readable, world.operator) == 0
