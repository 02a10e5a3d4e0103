"""A change of whatever a comparison reads changes the fingerprint, and nothing else does."""

from collections.abc import Sequence

import pytest

from lakebase_operator.external.postgres.grants import fingerprint
from tests.postgres.objects import access_grant, tables
from tests.postgres.world import World, run

SCENE = (
    "CREATE SCHEMA sales",
    "CREATE TABLE sales.orders (id serial, a int)",
    "CREATE TABLE sales.lines (id int)",
    "CREATE TABLE sales.parts (id int) PARTITION BY LIST (id)",
    "CREATE TABLE sales.part (id int)",
    "CREATE VIEW sales.overview AS SELECT id FROM sales.orders",
    "CREATE SEQUENCE sales.numbers",
    "CREATE FUNCTION sales.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE FUNCTION sales.t() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
    "CREATE TYPE sales.color AS ENUM ('red')",
    "CREATE TYPE sales.pair AS (a int, b int)",
    "CREATE DOMAIN sales.positive AS int",
    "CREATE DOMAIN sales.tags AS text[]",
    "CREATE FOREIGN DATA WRAPPER wire",
    "CREATE SERVER far FOREIGN DATA WRAPPER wire",
    "CREATE FOREIGN TABLE sales.distant (id int) SERVER far",
    "SELECT lo_create(4711)",
    "CREATE EXTENSION IF NOT EXISTS vector SCHEMA public",
)

CHANGES = (
    "GRANT SELECT ON sales.orders TO {r}",
    "GRANT SELECT ON sales.orders TO {r} WITH GRANT OPTION",
    "REVOKE SELECT ON sales.orders FROM {r}",
    "GRANT SELECT (a) ON sales.orders TO {r}",
    "REVOKE SELECT (a) ON sales.orders FROM {r}",
    "GRANT SELECT ON sales.overview TO PUBLIC",
    "GRANT USAGE ON SEQUENCE sales.numbers TO {r}",
    "REVOKE EXECUTE ON FUNCTION sales.f FROM PUBLIC",
    "GRANT USAGE ON TYPE sales.color TO {r}",
    "GRANT USAGE ON TYPE sales.pair TO {r}",
    "GRANT USAGE ON DOMAIN sales.positive TO {r}",
    "GRANT USAGE ON DOMAIN sales.tags TO {r}",
    "GRANT CREATE ON SCHEMA sales TO {r}",
    "GRANT TEMPORARY ON DATABASE {d} TO {r}",
    "GRANT USAGE ON LANGUAGE plpgsql TO {r}",
    "GRANT USAGE ON FOREIGN DATA WRAPPER wire TO {r}",
    "GRANT USAGE ON FOREIGN SERVER far TO {r}",
    "GRANT SELECT ON LARGE OBJECT 4711 TO {r}",
    "GRANT CREATE ON TABLESPACE pg_default TO {r}",
    "REVOKE CREATE ON TABLESPACE pg_default FROM {r}",
    "GRANT SET ON PARAMETER log_statement TO {r}",
    "REVOKE SET ON PARAMETER log_statement FROM {r}",
    "ALTER DEFAULT PRIVILEGES IN SCHEMA sales GRANT SELECT ON TABLES TO {r}",
    "ALTER DEFAULT PRIVILEGES IN SCHEMA sales REVOKE SELECT ON TABLES FROM {r}",
    "GRANT {g} TO {r}",
    "GRANT {g} TO {r} WITH INHERIT FALSE",
    "REVOKE {g} FROM {r}",
    "ALTER TABLE sales.orders OWNER TO {r}",
    "ALTER SCHEMA sales OWNER TO {r}",
    "ALTER FUNCTION sales.f OWNER TO {r}",
    "ALTER TYPE sales.pair OWNER TO {r}",
    "ALTER SERVER far OWNER TO {r}",
    "ALTER LARGE OBJECT 4711 OWNER TO {r}",
    "CREATE TABLE sales.later (id int)",
    "ALTER TABLE sales.later RENAME TO latest",
    "ALTER TABLE sales.latest SET SCHEMA public",
    "DROP TABLE public.latest",
    "ALTER TABLE sales.parts ATTACH PARTITION sales.part DEFAULT",
    "ALTER TABLE sales.parts DETACH PARTITION sales.part",
    "CREATE PROCEDURE sales.p() LANGUAGE sql AS 'SELECT 1'",
    "ALTER PROCEDURE sales.p RENAME TO q",
    "CREATE TYPE sales.triple AS (a int, b int, c int)",
    "ALTER TYPE sales.triple RENAME TO triplet",
    "DROP TYPE sales.triplet",
    "CREATE MATERIALIZED VIEW sales.total AS SELECT 1 AS id",
    "ALTER SEQUENCE sales.numbers OWNED BY sales.lines.id",
    "ALTER SEQUENCE sales.numbers OWNED BY NONE",
    "CREATE OR REPLACE VIEW sales.overview AS SELECT DISTINCT id FROM sales.orders",
    "CREATE TRIGGER instead INSTEAD OF INSERT ON sales.overview FOR EACH ROW EXECUTE FUNCTION sales.t()",
    "ALTER FOREIGN TABLE sales.distant OPTIONS (ADD updatable 'false')",
    "ALTER EXTENSION vector ADD TABLE sales.lines",
    "ALTER EXTENSION vector DROP TABLE sales.lines",
    "CREATE SCHEMA other",
    "ALTER SCHEMA other RENAME TO another",
    "DROP SCHEMA another",
    "UPDATE lakebase_operator.held SET grantees = '{{}}'",
    "DELETE FROM lakebase_operator.held",
    "INSERT INTO lakebase_operator.snapshots VALUES ('team/marketing', 'x', 'TABLE', '{{}}')",
    "TRUNCATE lakebase_operator.snapshots",
)
OF_COLUMNS = (
    "ALTER TABLE sales.orders ADD COLUMN b int",
    "ALTER TABLE sales.orders RENAME COLUMN b TO c",
    "ALTER TABLE sales.orders DROP COLUMN c",
)
NO_CHANGES = (
    "SELECT count(*) FROM sales.orders",
    "INSERT INTO sales.orders (a) SELECT generate_series(1, 1000)",
    "UPDATE sales.orders SET a = a + 1",
    "DELETE FROM sales.lines",
    "SELECT nextval('sales.numbers')",
    "ANALYZE sales.orders",
    "ANALYZE",
    "VACUUM sales.orders",
    "VACUUM FREEZE pg_class",
    "VACUUM (FREEZE, ANALYZE)",
    "CREATE INDEX ON sales.orders (a)",
    "CREATE TEMPORARY TABLE scratch (id serial PRIMARY KEY, a int)",
    "CREATE TEMPORARY VIEW glance AS SELECT * FROM scratch",
    "ALTER TABLE scratch ADD COLUMN b int",
    "DROP TABLE scratch CASCADE",
    "SELECT 1 AS id INTO TEMPORARY copied",
    "REINDEX TABLE sales.orders",
    "SET work_mem = '64MB'",
    "COMMENT ON TABLE sales.orders IS 'orders'",
)


async def versions(world: World, statements: Sequence[str], *, columns: bool) -> dict[str, bool]:
    """Whether each statement changes the fingerprint."""
    role, group = await world.role("role"), await world.role("group", "NOLOGIN")
    await world.run(*SCENE)
    await world.sync(access_grant("g", [role], [tables("sales", "lines")], database=world.database))
    found = {}
    async with world.session() as session, world.login(world.server.superuser) as hand:
        await hand.set_autocommit(True)
        before = await fingerprint(session, columns=columns)
        for statement in statements:
            await run(hand, statement, r=role, g=group, d=world.database)
            after = await fingerprint(session, columns=columns)
            found[statement] = before != after
            before = after
    return found


@pytest.mark.requirement("R-201")
async def test_every_change_of_what_a_comparison_reads_changes_the_fingerprint(world: World) -> None:
    found = await versions(world, CHANGES, columns=False)
    assert [statement for statement, changed in found.items() if not changed] == []


async def test_changes_of_columns_count_where_columns_are_declared(world: World) -> None:
    found = await versions(world, OF_COLUMNS, columns=True)
    assert [statement for statement, changed in found.items() if not changed] == []


@pytest.mark.requirement("R-201")
@pytest.mark.parametrize("columns", [False, True])
async def test_reading_writing_maintenance_and_temporary_tables_do_not_change_it(
    world: World, columns: bool
) -> None:
    # An index has columns, too: with these in view it may cost a comparison.
    statements = [one for one in NO_CHANGES if not (columns and one.startswith("CREATE INDEX"))]
    found = await versions(world, statements, columns=columns)
    assert [statement for statement, changed in found.items() if changed] == []


async def test_a_change_that_is_undone_is_another_fingerprint_and_a_rolled_back_one_is_none(
    world: World,
) -> None:
    role = await world.role("role")
    await world.run(*SCENE)
    await world.sync(access_grant("g", [role], [tables("sales", "lines")], database=world.database))
    async with world.session() as session:
        before = await fingerprint(session, columns=False)
        await world.run("BEGIN", "GRANT SELECT ON sales.orders TO {r}", "ROLLBACK", r=role)
        assert await fingerprint(session, columns=False) == before
        await world.run(
            "GRANT SELECT ON sales.orders TO {r}", "REVOKE SELECT ON sales.orders FROM {r}", r=role
        )
        assert await fingerprint(session, columns=False) != before
