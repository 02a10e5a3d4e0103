"""One object of every class that PostgreSQL can grant on, and a statement that needs the privilege.

All names need quoting. ``other`` is a schema in which everybody may make things, for statements that need a place.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg

from tests.postgres.world import World

SCHEMA = 'Odd "s" schema'
S = '"Odd ""s"" schema"'
T = f'{S}."My ""t"" Table"'


@dataclass(frozen=True, slots=True)
class Case:
    """An object, what is declared on it, and what can be done then and not before."""

    id: str
    made: tuple[str, ...]
    """By the owner of the schema; ``{owner}``, ``{database}`` and ``{tag}`` are names."""
    entry: Mapping[str, Any]
    """``TAG`` in it is replaced."""
    privileges: tuple[str, ...]
    tries: tuple[str, ...]
    """Statements, each allowed after the grant and denied without it."""
    denied: tuple[str, ...] = ()
    """Statements that stay denied."""
    by_superuser: tuple[str, ...] = ()
    """What only a superuser can make, before the rest."""
    after: tuple[str, ...] = ()
    """What is taken down at the end, by the superuser: what belongs to the whole server."""
    since: int = 16

    def __str__(self) -> str:
        return self.id


def closed(what: str, privilege: str) -> str:
    """Take away what PUBLIC has by default."""
    return f"REVOKE {privilege} ON {what} FROM PUBLIC"


TABLE = (f'CREATE TABLE {T} (id int PRIMARY KEY, "Note x" text)',)
ONE_TABLE = {"tables": {"schema": SCHEMA, "names": ['My "t" Table']}}
F = f'{S}."Do It"'

CASES = [
    Case(
        "table",
        (*TABLE, "CREATE FUNCTION other.nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'"),
        ONE_TABLE,
        ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"),
        (
            f"SELECT * FROM {T}",
            f"INSERT INTO {T} VALUES (2)",
            f"UPDATE {T} SET id = 3",
            f"DELETE FROM {T}",
            f"TRUNCATE {T}",
            f"CREATE TABLE other.x (id int REFERENCES {T})",
            f"CREATE TRIGGER x BEFORE INSERT ON {T} FOR EACH ROW EXECUTE FUNCTION other.nothing()",
        ),
        (f"ALTER TABLE {T} ADD more int", f"DROP TABLE {T}"),
    ),
    Case("maintain", TABLE, ONE_TABLE, ("MAINTAIN",), (f"LOCK TABLE {T}",), (f"SELECT * FROM {T}",), since=17),
    Case(
        "table-by-pattern",
        (f'CREATE TABLE {S}."a_1" (id int)', f'CREATE TABLE {S}."a_raw" (id int)'),
        {"tables": {"schema": SCHEMA, "matching": ["a_*"], "except": ["*_raw"]}},
        ("SELECT",),
        (f'SELECT * FROM {S}."a_1"',),
        (f'SELECT * FROM {S}."a_raw"',),
    ),
    Case(
        "view",
        (*TABLE, f'CREATE VIEW {S}."A View" AS SELECT id FROM {T}'),
        {"tables": {"schema": SCHEMA, "names": ["A View"]}},
        ("SELECT", "INSERT"),
        (f'SELECT * FROM {S}."A View"', f'INSERT INTO {S}."A View" VALUES (7)'),
        (f"SELECT * FROM {T}", f'DELETE FROM {S}."A View"'),
    ),
    Case(
        "materialized-view",
        (*TABLE, f'CREATE MATERIALIZED VIEW {S}."A Matview" AS SELECT id FROM {T}'),
        {"tables": {"schema": SCHEMA, "names": ["A Matview"]}},
        ("SELECT",),
        (f'SELECT * FROM {S}."A Matview"',),
        (f"SELECT * FROM {T}",),
    ),
    Case(
        "foreign-table",
        (f'CREATE FOREIGN TABLE {S}."Far away" (id int) SERVER "Server TAG"',),
        {"tables": {"schema": SCHEMA, "names": ["Far away"]}},
        ("SELECT",),
        # Its wrapper can do nothing, and says so before it is asked whether it may.
        (f"SELECT has_table_privilege('{S}.\"Far away\"', 'SELECT')",),
        by_superuser=(
            "CREATE FOREIGN DATA WRAPPER {wrapper}",
            'CREATE SERVER "Server TAG" FOREIGN DATA WRAPPER {wrapper}',
            'GRANT USAGE ON FOREIGN SERVER "Server TAG" TO {owner}',
        ),
    ),
    Case(
        "partitioned-table",
        (
            f'CREATE TABLE {S}."Events" (at date) PARTITION BY RANGE (at)',
            f"CREATE TABLE {S}.\"Events 25\" PARTITION OF {S}.\"Events\" FOR VALUES FROM ('2025-01-01') TO ('2026-01-01')",
        ),
        {"tables": {"schema": SCHEMA, "matching": ["Event*"]}},
        ("SELECT", "INSERT"),
        (f'SELECT * FROM {S}."Events"', f"INSERT INTO {S}.\"Events\" VALUES ('2025-05-05')"),
        (f'SELECT * FROM {S}."Events 25"',),
    ),
    Case(
        "column",
        TABLE,
        {"tables": {**ONE_TABLE["tables"], "columns": ["Note x"]}},
        ("SELECT", "INSERT", "UPDATE"),
        (
            f'SELECT "Note x" FROM {T}',
            f"UPDATE {T} SET \"Note x\" = ''",
        ),
        (f"SELECT * FROM {T}", f"UPDATE {T} SET id = 1", f"INSERT INTO {T} (id) VALUES (1)", f"DELETE FROM {T}"),
    ),
    Case(
        "sequence",
        (f'CREATE SEQUENCE {S}."Numbers"',),
        {"sequences": {"schema": SCHEMA, "names": ["Numbers"]}},
        ("USAGE", "SELECT", "UPDATE"),
        (
            f"SELECT nextval('{S}.\"Numbers\"')",
            f'SELECT last_value FROM {S}."Numbers"',
            f"SELECT setval('{S}.\"Numbers\"', 7)",
        ),
    ),
    Case(
        "function",
        (
            f"CREATE FUNCTION {F}() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            f"CREATE FUNCTION {F}(a int, VARIADIC b text[] DEFAULT '{{{{}}}}', OUT c int) LANGUAGE sql AS 'SELECT 1'",
            f"CREATE FUNCTION {F}(a timestamptz) RETURNS int LANGUAGE sql AS 'SELECT 1'",
            f'CREATE TYPE {S}."My, Type" AS ENUM (\'a\')',
            f"CREATE FUNCTION {F}(a {S}.\"My, Type\") RETURNS int LANGUAGE sql AS 'SELECT 1'",
            closed(f"ALL FUNCTIONS IN SCHEMA {S}", "EXECUTE"),
        ),
        {
            "routines": {
                "schema": SCHEMA,
                "names": ["Do It()", "Do It(integer, text[])", f'Do It({S}."My, Type")'],
            }
        },
        ("EXECUTE",),
        (f"SELECT {F}()", f"SELECT {F}(1, 'b')", f"SELECT {F}('a'::{S}.\"My, Type\")"),
        (f"SELECT {F}(now())",),
    ),
    Case(
        "all-overloads",
        (
            f"CREATE FUNCTION {F}() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            f"CREATE FUNCTION {F}(a int) RETURNS int LANGUAGE sql AS 'SELECT 1'",
            f"CREATE FUNCTION {S}.\"Do It Not\"() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            closed(f"ALL FUNCTIONS IN SCHEMA {S}", "EXECUTE"),
        ),
        {"routines": {"schema": SCHEMA, "names": ["Do It"]}},
        ("EXECUTE",),
        (f"SELECT {F}()", f"SELECT {F}(1)"),
        (f'SELECT {S}."Do It Not"()',),
    ),
    Case(
        "routines-by-pattern",
        (
            f"CREATE FUNCTION {S}.\"run 1\"(a int) RETURNS int LANGUAGE sql AS 'SELECT 1'",
            f"CREATE PROCEDURE {S}.\"run 2\"(a int, INOUT b int) LANGUAGE sql AS 'SELECT 1'",
            f'CREATE AGGREGATE {S}."run 3"(int) (SFUNC = int4pl, STYPE = int)',
            f"CREATE FUNCTION {S}.\"run away\"() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            closed(f"ALL ROUTINES IN SCHEMA {S}", "EXECUTE"),
        ),
        {"routines": {"schema": SCHEMA, "matching": ["run*"], "except": ["* away"]}},
        ("EXECUTE",),
        (f'SELECT {S}."run 1"(1)', f'CALL {S}."run 2"(1, 2)', f'SELECT {S}."run 3"(x) FROM generate_series(1, 2) AS x'),
        (f'SELECT {S}."run away"()',),
    ),
    Case(
        "procedure",
        (
            f"CREATE PROCEDURE {F}(a int, OUT b int) LANGUAGE sql AS 'SELECT 1'",
            f"CREATE PROCEDURE {F}(a text) LANGUAGE sql AS 'SELECT 1'",
            closed(f"ALL PROCEDURES IN SCHEMA {S}", "EXECUTE"),
        ),
        {"routines": {"schema": SCHEMA, "names": ["Do It(integer)"]}},
        ("EXECUTE",),
        (f"CALL {F}(1, NULL)",),
        (f"CALL {F}('a')",),
    ),
    Case(
        # PostgreSQL takes `f(integer,integer)` for both: by the input arguments, and by all.
        "routines-that-look-alike",
        (
            f"CREATE PROCEDURE {F}(a int, OUT b int) LANGUAGE sql AS 'SELECT 1'",
            f"CREATE FUNCTION {F}(a int, b int) RETURNS int LANGUAGE sql AS 'SELECT 1'",
            closed(f"ALL ROUTINES IN SCHEMA {S}", "EXECUTE"),
        ),
        {"routines": {"schema": SCHEMA, "names": ["Do It(integer, integer)"]}},
        ("EXECUTE",),
        (f"SELECT {F}(1, 2)",),
        (f"SELECT has_function_privilege('{F}(integer)', 'EXECUTE')",),
    ),
    Case(
        "aggregate",
        (
            f"CREATE AGGREGATE {F}(int) (SFUNC = int4pl, STYPE = int)",
            f"CREATE AGGREGATE {F}(bigint) (SFUNC = int8pl, STYPE = bigint)",
            closed(f"ALL FUNCTIONS IN SCHEMA {S}", "EXECUTE"),
        ),
        {"routines": {"schema": SCHEMA, "names": ["Do It(integer)"]}},
        ("EXECUTE",),
        (f"SELECT {F}(x) FROM generate_series(1, 2) AS x",),
        (f"SELECT {F}(x::bigint) FROM generate_series(1, 2) AS x",),
    ),
    Case(
        "type",
        (
            f"CREATE TYPE {S}.\"Mood\" AS ENUM ('good')",
            f'CREATE TYPE {S}."Pair" AS (a int, b int)',
            f'CREATE TYPE {S}."Span" AS RANGE (subtype = int)',
            *(closed(f'TYPE {S}."{name}"', "USAGE") for name in ("Mood", "Pair", "Span")),
        ),
        {"types": {"schema": SCHEMA, "matching": ["*"], "except": ["Pair"]}},
        ("USAGE",),
        (f'CREATE TABLE other.x (a {S}."Mood")', f'CREATE TABLE other.x (a {S}."Span"[])'),
        (f'CREATE TABLE other.x (a {S}."Pair")',),
    ),
    Case(
        "domain",
        (
            f'CREATE DOMAIN {S}."Money" AS int CHECK (VALUE > 0)',
            closed(f'DOMAIN {S}."Money"', "USAGE"),
        ),
        {"types": {"schema": SCHEMA, "names": ["Money"]}},
        ("USAGE",),
        (f'CREATE TABLE other.x (a {S}."Money")',),
    ),
    Case(
        "domain-over-array",
        (f"CREATE DOMAIN {S}.tags AS text[]", closed(f"DOMAIN {S}.tags", "USAGE")),
        {"types": {"schema": SCHEMA, "names": ["tags"]}},
        ("USAGE",),
        (f"CREATE TABLE other.x (a {S}.tags)",),
    ),
    Case(
        "schema",
        ("CREATE SCHEMA {mine}", "CREATE TABLE {mine}.t ()", "GRANT SELECT ON {mine}.t TO PUBLIC"),
        {"schemas": {"names": ["Mine TAG"]}},
        ("USAGE", "CREATE"),
        ("SELECT * FROM {mine}.t", "CREATE TABLE {mine}.x ()"),
        ("DROP SCHEMA {mine} CASCADE",),
        by_superuser=("GRANT CREATE ON DATABASE {database} TO {owner}",),
    ),
    Case(
        "database",
        (),
        {"databases": {"names": ["DATABASE"]}},
        ("CONNECT", "CREATE", "TEMPORARY"),
        ("SELECT 1", "CREATE SCHEMA x", "CREATE TEMPORARY TABLE x ()"),
        ("DROP DATABASE {database}",),
        by_superuser=(
            "REVOKE ALL ON DATABASE {database} FROM PUBLIC",
            "GRANT CONNECT ON DATABASE {database} TO {operator}",
            "ALTER DATABASE {database} OWNER TO {owner}",
        ),
    ),
    Case(
        "language",
        (),
        {"languages": {"names": ["plpgsql"]}},
        ("USAGE",),
        ("CREATE FUNCTION other.x() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'",),
        ("DROP LANGUAGE plpgsql",),
        by_superuser=(closed("LANGUAGE plpgsql", "USAGE"),),
    ),
    Case(
        "foreign-data-wrapper",
        (),
        {"foreignDataWrappers": {"matching": ["Wrapper*"]}},
        ("USAGE",),
        ("CREATE SERVER x FOREIGN DATA WRAPPER {wrapper}",),
        ("DROP FOREIGN DATA WRAPPER {wrapper}",),
        by_superuser=("CREATE FOREIGN DATA WRAPPER {wrapper}",),
    ),
    Case(
        "foreign-server",
        (),
        {"foreignServers": {"names": ["Server TAG"]}},
        ("USAGE",),
        ('CREATE FOREIGN TABLE other.x () SERVER "Server TAG"',),
        ('DROP SERVER "Server TAG"',),
        by_superuser=(
            "CREATE FOREIGN DATA WRAPPER {wrapper}",
            'CREATE SERVER "Server TAG" FOREIGN DATA WRAPPER {wrapper}',
            'ALTER SERVER "Server TAG" OWNER TO {owner}',
        ),
    ),
    Case(
        "large-object",
        ("SELECT lo_create(4711)", "SELECT lo_create(4712)"),
        {"largeObjects": {"ids": [4711]}},
        ("SELECT", "UPDATE"),
        ("SELECT lo_get(4711)", "SELECT lo_put(4711, 0, 'x')"),
        ("SELECT lo_get(4712)", "SELECT lo_unlink(4711)"),
    ),
    Case(
        "parameter",
        (),
        {"parameters": {"names": ["Log_Parser_Stats"]}},
        ("SET", "ALTER SYSTEM"),
        ("SET log_parser_stats = on", "ALTER SYSTEM RESET log_parser_stats"),
        ("SET log_planner_stats = on",),
    ),
    Case(
        "parameters-by-pattern",
        (),
        {"parameters": {"matching": ["Log_*_stats"], "except": ["Log_Executor_*"]}},
        ("SET",),
        ("SET log_planner_stats = on", "SET log_statement_stats = on"),
        ("SET log_executor_stats = on",),
    ),
    Case(
        "tablespace",
        (),
        {"tablespaces": {"names": ["Space TAG"]}},
        ("CREATE",),
        ('CREATE TABLE other.x () TABLESPACE "Space TAG"',),
        ('DROP TABLESPACE "Space TAG"',),
        by_superuser=("SET allow_in_place_tablespaces = on", "CREATE TABLESPACE \"Space TAG\" LOCATION ''"),
        after=('DROP TABLESPACE "Space TAG"',),
    ),
]  # fmt: skip
"""Each class of object, the default privileges apart."""

ONLY_SUPERUSERS = {"language", "foreign-data-wrapper", "parameter", "parameters-by-pattern", "tablespace"}
"""What belongs to the bootstrap superuser: nobody else can grant on it without a grant option."""


def names(world: World, owner: str) -> dict[str, str]:
    """For ``{…}`` in statements."""
    return {
        "owner": owner,
        "database": world.database,
        "operator": world.operator,
        "wrapper": f"Wrapper {world.tag}",
        "mine": f"Mine {world.tag}",
    }


def entry_of(case: Case, world: World) -> dict[str, Any]:
    """The entry of ``objects`` with the names of this test."""

    def filled(value: Any) -> Any:
        match value:
            case str():
                return world.database if value == "DATABASE" else value.replace("TAG", world.tag)
            case list():
                return [filled(one) for one in value]
            case dict():
                return {key: filled(one) for key, one in value.items()}
        return value

    found: dict[str, Any] = filled(dict(case.entry))
    return found


async def make(world: World, owner: str, *cases: Case) -> None:
    """Make the objects of some cases, once each."""
    known = names(world, owner)
    await world.run(
        f"CREATE SCHEMA {S} AUTHORIZATION {{owner}}",
        f"GRANT USAGE ON SCHEMA {S} TO PUBLIC",
        "CREATE SCHEMA other",
        "GRANT ALL ON SCHEMA other TO PUBLIC",
        owner=owner,
    )
    for case in cases:
        await world.run(*(text.replace("TAG", world.tag) for text in case.by_superuser), **known)
        await world.run("SET ROLE {owner}", owner=owner)
        await world.run(*(text.replace("TAG", world.tag) for text in case.made), **known)
        await world.run("RESET ROLE")


async def can(world: World, role: str, statement: str, owner: str = "") -> bool:
    """Log in and try; nothing is left behind."""
    for key, name in names(world, owner).items():
        statement = statement.replace(f"{{{key}}}", f'"{name}"')
    statement = statement.replace("TAG", world.tag)
    try:
        async with world.login(role) as session:
            if statement.startswith(("ALTER SYSTEM", "DROP DATABASE", "DROP TABLESPACE")):
                await session.set_autocommit(True)
                await session.execute(statement.encode())
                return True
            async with session.transaction(force_rollback=True):
                cursor = await session.execute(statement.encode())
                if statement.startswith("SELECT has_"):
                    row = await cursor.fetchone()
                    return bool(row and row[0])
    except psycopg.errors.InsufficientPrivilege:
        return False
    except psycopg.OperationalError as error:
        if "permission denied for database" in str(error):
            return False
        raise
    return True
