"""What Read, Write and exact privileges give on each kind of object: read back from the ACLs, and tried by logging in."""

from typing import Any

import psycopg
import pytest

from lakebase_operator.api import Reason
from tests.postgres.objects import PUBLIC, access_grant, databases, schemas, tables
from tests.postgres.world import READY, STALLED, WAITING, World

WRITE = {"SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE"}

ODD_NAMES = (
    'quote"d',
    "it's",
    "with space",
    "semi;colon",
    "Upper",
    "prüfung",
    "日本",
    "select",
    "100%_sure",
    "back\\slash",
    "-- comment",
    "$$",
)


@pytest.mark.requirement("R-1", "R-10", "R-14", "R-15")
async def test_read_gives_select_and_nothing_else(any_world: World) -> None:
    world = any_world
    owner = await world.owned_role("owner") if not world.prepared else None
    reader = await world.role("reader")
    await world.run(
        "CREATE SCHEMA sales", "CREATE TABLE sales.orders (id int)", "INSERT INTO sales.orders VALUES (1)"
    )
    if owner:
        await world.run(
            "ALTER SCHEMA sales OWNER TO {o}",
            "ALTER TABLE sales.orders OWNER TO {o}",
            "GRANT CONNECT ON DATABASE {d} TO {op} WITH GRANT OPTION",
            o=owner, d=world.database, op=world.operator,
        )  # fmt: skip
    grant = access_grant("g", [reader], [tables("sales", "orders")], database=world.database)
    assert not await world.allowed(reader, "SELECT * FROM sales.orders")
    synced = await world.sync(grant)
    assert synced.said(grant) == (READY, Reason.SUCCEEDED)
    assert synced.of(grant).message == "Held, as read back from the database: 1 privilege on 1 object."
    assert await world.acl("sales.orders", reader) == {"SELECT"}
    assert await world.allowed(reader, "SELECT * FROM sales.orders")
    for statement in (
        "INSERT INTO sales.orders VALUES (2)",
        "UPDATE sales.orders SET id = 3",
        "DELETE FROM sales.orders",
        "TRUNCATE sales.orders",
    ):
        assert not await world.allowed(reader, statement)


@pytest.mark.requirement("R-10", "R-15")
async def test_write_gives_five_privileges_and_never_all(world: World) -> None:
    writer = await world.role("writer")
    await world.run("CREATE SCHEMA sales", "CREATE TABLE sales.orders (id int)")
    grant = access_grant("g", [writer], [tables("sales", "orders")], "Write", database=world.database)
    await world.sync(grant)
    assert await world.acl("sales.orders", writer) == WRITE
    for statement in (
        "SELECT * FROM sales.orders",
        "INSERT INTO sales.orders VALUES (2)",
        "UPDATE sales.orders SET id = 3",
        "DELETE FROM sales.orders",
        "TRUNCATE sales.orders",
    ):
        assert await world.allowed(writer, statement)
    assert not await world.allowed(writer, "CREATE TABLE sales.other ()")


@pytest.mark.requirement("R-117", "R-198")
async def test_taking_write_away_and_keeping_read_leaves_select(world: World) -> None:
    role = await world.role("role")
    await world.run("CREATE SCHEMA sales", "CREATE TABLE sales.orders (id serial)")
    what: dict[str, Any] = {"subjects": [role], "objects": [tables("sales")], "database": world.database}
    await world.sync(access_grant("g", access="Write", **what))
    assert await world.acl("sales.orders_id_seq", role) == {"USAGE"}
    await world.sync(access_grant("g", access="Read", **what))
    assert await world.acl("sales.orders", role) == {"SELECT"}
    assert await world.acl("sales.orders_id_seq", role) == set()


@pytest.mark.requirement("R-16")
async def test_write_reaches_the_sequence_of_a_serial_column_and_needs_none_for_an_identity(
    world: World,
) -> None:
    writer = await world.role("writer")
    await world.run(
        "CREATE SCHEMA sales",
        "CREATE TABLE sales.serial (id serial, note text)",
        "CREATE TABLE sales.identity (id int GENERATED ALWAYS AS IDENTITY, note text)",
        "CREATE SEQUENCE sales.unrelated",
    )
    grant = access_grant(
        "g", [writer], [tables("sales", "serial", "identity")], "Write", database=world.database
    )
    await world.sync(grant)
    assert await world.allowed(writer, "INSERT INTO sales.serial (note) VALUES ('x')")
    assert await world.allowed(writer, "INSERT INTO sales.identity (note) VALUES ('x')")
    assert await world.acl("sales.serial_id_seq", writer) == {"USAGE"}
    assert await world.acl("sales.identity_id_seq", writer) == set()
    assert await world.acl("sales.unrelated", writer) == set()


@pytest.mark.requirement("R-17")
async def test_schema_usage_and_connect_come_with_the_first_table_and_go_with_the_last(world: World) -> None:
    role = await world.role("role")
    await world.run("CREATE SCHEMA sales", "CREATE TABLE sales.a (id int)", "CREATE TABLE sales.b (id int)")
    first = access_grant("a", [role], [tables("sales", "a")], database=world.database)
    second = access_grant("b", [role], [tables("sales", "b")], database=world.database)
    await world.sync(first, second)
    assert await world.schema_acl("sales", role) == {"USAGE"}
    assert await world.database_acl(role) == {"CONNECT"}
    await world.sync(second)
    assert await world.acl("sales.a", role) == set()
    assert await world.schema_acl("sales", role) == {"USAGE"}
    assert await world.database_acl(role) == {"CONNECT"}
    assert await world.allowed(role, "SELECT * FROM sales.b")
    await world.sync()
    assert await world.schema_acl("sales", role) == set()
    assert await world.database_acl(role) == set()


@pytest.mark.requirement("R-17")
async def test_a_database_closed_to_public_opens_for_those_with_access(world: World) -> None:
    role = await world.role("role")
    await world.run(
        "CREATE SCHEMA sales",
        "CREATE TABLE sales.a (id int)",
        "REVOKE CONNECT ON DATABASE {d} FROM PUBLIC",
        d=world.database,
    )
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        await world.allowed(role, "SELECT 1")
    await world.sync(access_grant("g", [role], [tables("sales")], database=world.database))
    assert await world.allowed(role, "SELECT * FROM sales.a")


@pytest.mark.requirement("R-18")
async def test_views_of_all_kinds_take_select(world: World) -> None:
    role = await world.role("role")
    await world.run(
        "CREATE SCHEMA sales",
        "CREATE TABLE sales.orders (id int)",
        "CREATE VIEW sales.v AS SELECT * FROM sales.orders",
        "CREATE MATERIALIZED VIEW sales.m AS SELECT * FROM sales.orders",
        "CREATE FOREIGN DATA WRAPPER {w}",
        "CREATE SERVER {w} FOREIGN DATA WRAPPER {w}",
        "CREATE FOREIGN TABLE sales.f (id int) SERVER {w}",
        w=world.name("wrapper"),
    )
    grant = access_grant("g", [role], [tables("sales")], "Write", database=world.database)
    synced = await world.sync(grant)
    for name in ("sales.v", "sales.m", "sales.f"):
        assert await world.acl(name, role) == {"SELECT"}
    assert await world.allowed(role, "SELECT * FROM sales.v")
    assert await world.allowed(role, "SELECT * FROM sales.m")
    assert await world.acl("sales.orders", role) == WRITE
    assert synced.said(grant) == (READY, Reason.SUCCEEDED)
    told = {(one["object"], one["reason"]) for one in synced.issues(grant)}
    assert told == {(f"sales.{name}", "ReadOnlyRelation") for name in "vmf"}


@pytest.mark.requirement("R-18")
async def test_writing_through_a_view_needs_its_exact_name_and_an_updatable_view(world: World) -> None:
    role = await world.role("role")
    await world.run(
        "CREATE SCHEMA sales",
        "CREATE TABLE sales.orders (id int)",
        "CREATE VIEW sales.updatable AS SELECT * FROM sales.orders",
        "CREATE VIEW sales.counted AS SELECT count(*) AS n FROM sales.orders",
        "CREATE VIEW sales.triggered AS SELECT count(*) AS n FROM sales.orders",
        "CREATE FUNCTION sales.nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "CREATE TRIGGER t INSTEAD OF INSERT ON sales.triggered FOR EACH ROW EXECUTE FUNCTION sales.nothing()",
    )
    grant = access_grant(
        "g",
        [role],
        [tables("sales", "updatable", "counted", "triggered")],
        "Write",
        database=world.database,
    )
    synced = await world.sync(grant)
    assert await world.acl("sales.updatable", role) == {"SELECT", "INSERT", "UPDATE", "DELETE"}
    assert await world.allowed(role, "INSERT INTO sales.updatable VALUES (1)")
    assert await world.acl("sales.counted", role) == {"SELECT"}
    assert await world.acl("sales.triggered", role) == {"SELECT", "INSERT"}
    assert [(one["object"], one["reason"]) for one in synced.issues(grant)] == [
        ("sales.counted", "ReadOnlyRelation")
    ]


async def test_a_foreign_table_whose_wrapper_can_do_nothing_does_not_hold_up_the_rest(world: World) -> None:
    role = await world.role("role")
    await world.run(
        "CREATE SCHEMA sales",
        "CREATE TABLE sales.orders (id int)",
        "CREATE FOREIGN DATA WRAPPER {w}",
        "CREATE SERVER {w} FOREIGN DATA WRAPPER {w}",
        "CREATE FOREIGN TABLE sales.f (id int) SERVER {w}",
        w=world.name("wrapper"),
    )
    grant = access_grant("g", [role], [tables("sales", "orders", "f")], "Write", database=world.database)
    await world.sync(grant)
    assert await world.acl("sales.f", role) == {"SELECT"}
    assert await world.acl("sales.orders", role) == WRITE


@pytest.mark.requirement("R-51")
async def test_a_partitioned_table_is_reached_through_the_parent_only(world: World) -> None:
    role = await world.role("role")
    await world.run(
        "CREATE SCHEMA sales",
        "CREATE TABLE sales.events (at date, n int) PARTITION BY RANGE (at)",
        "CREATE TABLE sales.events_2025 PARTITION OF sales.events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01')",
    )
    grant = access_grant("g", [role], [tables("sales")], "Write", database=world.database)
    synced = await world.sync(grant)
    assert synced.tallies[grant.metadata.uid].objects == 1
    assert await world.allowed(role, "INSERT INTO sales.events VALUES ('2025-05-05', 1)")
    assert not await world.allowed(role, "SELECT * FROM sales.events_2025")

    # A new partition needs nothing.
    await world.run(
        "CREATE TABLE sales.events_2026 PARTITION OF sales.events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')"
    )
    assert await world.allowed(role, "INSERT INTO sales.events VALUES ('2026-05-05', 1)")
    assert not (await world.sync(grant)).changes
    assert not await world.allowed(role, "SELECT * FROM sales.events_2026")


@pytest.mark.requirement("R-51")
async def test_a_table_that_becomes_a_partition_loses_its_own_grant_and_gets_it_back_when_detached(
    world: World,
) -> None:
    role = await world.role("role")
    await world.run(
        "CREATE SCHEMA sales",
        "CREATE TABLE sales.events (at date, n int) PARTITION BY RANGE (at)",
        "CREATE TABLE sales.old (at date, n int)",
    )
    grant = access_grant("g", [role], [tables("sales")], database=world.database)
    await world.sync(grant)
    assert await world.acl("sales.old", role) == {"SELECT"}
    await world.run(
        "ALTER TABLE sales.events ATTACH PARTITION sales.old FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')"
    )
    await world.sync(grant)
    assert await world.acl("sales.old", role) == set()
    assert await world.allowed(role, "SELECT * FROM sales.events")
    await world.run("ALTER TABLE sales.events DETACH PARTITION sales.old")
    assert not await world.allowed(role, "SELECT * FROM sales.old")
    await world.sync(grant)
    assert await world.allowed(role, "SELECT * FROM sales.old")


@pytest.mark.requirement("R-51")
async def test_a_partition_is_selected_by_its_exact_name(world: World) -> None:
    role = await world.role("role")
    await world.run(
        "CREATE SCHEMA sales",
        "CREATE TABLE sales.events (at date) PARTITION BY RANGE (at)",
        "CREATE TABLE sales.p PARTITION OF sales.events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01')",
    )
    await world.sync(access_grant("g", [role], [tables("sales", "p")], database=world.database))
    assert await world.allowed(role, "SELECT * FROM sales.p")
    assert not await world.allowed(role, "SELECT * FROM sales.events")


@pytest.mark.requirement("R-179")
async def test_names_with_anything_in_them_work(world: World) -> None:
    roles = [await world.role(f"r {name}") for name in ODD_NAMES]
    schema = 'the "Schema"; DROP'
    await world.run("CREATE SCHEMA {s}", s=schema)
    for name in ODD_NAMES:
        await world.run("CREATE TABLE {s}.{t} (id serial)", s=schema, t=name)
    grants = [
        access_grant(f"g{number}", [role], [tables(schema, name)], "Write", database=world.database)
        for number, (role, name) in enumerate(zip(roles, ODD_NAMES, strict=True))
    ]
    synced = await world.sync(*grants)
    assert all(synced.said(grant) == (READY, Reason.SUCCEEDED) for grant in grants)
    held = await world.rows(
        "SELECT c.relname, pg_get_userbyid(x.grantee) FROM pg_class c, aclexplode(c.relacl) x"
        " WHERE c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = %s) AND c.relkind = 'r'"
        " AND x.privilege_type = 'INSERT' AND pg_get_userbyid(x.grantee) = ANY (%s)",
        schema,
        roles,
    )
    assert set(held) == set(zip(ODD_NAMES, roles, strict=True))
    assert not world.errors()
    synced = await world.sync()
    assert not await world.ledger()


@pytest.mark.requirement("R-179")
async def test_patterns_take_special_characters_literally(world: World) -> None:
    role = await world.role("role")
    names = ("a_1", "ab1", "a%1", "aXX1", "a\\1", "A_1")
    await world.run("CREATE SCHEMA sales")
    for name in names:
        await world.run("CREATE TABLE sales.{t} (id int)", t=name)
    expected = {
        "a_*": {"a_1"},
        "a%?": {"a%1"},
        "a?1": {"a_1", "ab1", "a%1", "a\\1"},
        "a\\*": {"a\\1"},
        "*1": set(names),
    }
    for pattern, wanted in expected.items():
        grant = access_grant("g", [role], [tables("sales", matching=[pattern])], database=world.database)
        await world.sync(grant)
        held = await world.rows(
            "SELECT c.relname FROM pg_class c, aclexplode(c.relacl) x WHERE pg_get_userbyid(x.grantee) = %s",
            role,
        )
        assert {name for (name,) in held} == wanted, pattern


async def test_except_leaves_out_what_names_and_patterns_would_take(world: World) -> None:
    role = await world.role("role")
    await world.run("CREATE SCHEMA sales")
    for name in ("order_1", "order_raw", "orders", "secret"):
        await world.run("CREATE TABLE sales.{t} (id int)", t=name)
    entry = tables("sales", "orders", "secret", matching=["order_*"], excluding=["*_raw", "secret"])
    synced = await world.sync(access_grant("g", [role], [entry], database=world.database))
    held = await world.rows(
        "SELECT c.relname FROM pg_class c, aclexplode(c.relacl) x WHERE pg_get_userbyid(x.grantee) = %s", role
    )
    assert {name for (name,) in held} == {"order_1", "orders"}
    assert all(tally.worst is None for tally in synced.tallies.values())


async def test_a_name_that_does_not_exist_is_told_and_granted_as_soon_as_it_does(world: World) -> None:
    role = await world.role("role")
    await world.run("CREATE SCHEMA sales", "CREATE TABLE sales.orders (id int)")
    grant = access_grant(
        "g", [role], [tables("sales", "orders", "later"), tables("nowhere", "t")], database=world.database
    )
    synced = await world.sync(grant)
    assert synced.said(grant) == (WAITING, Reason.OBJECT_MISSING)
    assert {one["object"] for one in synced.issues(grant)} == {"sales.later", "nowhere.t"}
    assert await world.allowed(role, "SELECT * FROM sales.orders")
    await world.run("CREATE TABLE sales.later (id int)")
    await world.sync(grant)
    assert await world.allowed(role, "SELECT * FROM sales.later")


@pytest.mark.requirement("R-2", "R-3")
async def test_tables_that_come_to_match_later_are_granted(world: World) -> None:
    role = await world.role("role")
    await world.run("CREATE SCHEMA sales")
    grant = access_grant("g", [role], [tables("sales")], database=world.database)
    synced = await world.sync(grant)
    assert synced.said(grant) == (READY, Reason.NO_OBJECTS)
    await world.run("CREATE TABLE sales.orders (id int)")
    await world.sync(grant)
    assert await world.allowed(role, "SELECT * FROM sales.orders")


@pytest.mark.requirement("R-195")
async def test_without_new_objects_only_what_was_there_first_is_granted(world: World) -> None:
    role = await world.role("role")
    await world.run("CREATE SCHEMA sales", "CREATE TABLE sales.first (id int)")
    grant = access_grant("g", [role], [tables("sales")], database=world.database, newObjects=False)
    await world.sync(grant)
    await world.run("CREATE TABLE sales.later (id int)")
    synced = await world.sync(grant)
    assert not synced.writes
    assert await world.acl("sales.first", role) == {"SELECT"}
    assert await world.acl("sales.later", role) == set()
    # A new version of the spec looks afresh.
    newer = access_grant(
        "g", [role], [tables("sales")], database=world.database, newObjects=False, meta={"generation": 2}
    )
    await world.sync(newer)
    assert await world.acl("sales.later", role) == {"SELECT"}


async def test_without_new_objects_an_empty_start_stays_empty(world: World) -> None:
    role = await world.role("role")
    await world.run("CREATE SCHEMA sales")
    grant = access_grant("g", [role], [tables("sales")], database=world.database, newObjects=False)
    await world.sync(grant)
    await world.run("CREATE TABLE sales.later (id int)")
    await world.sync(grant)
    assert await world.acl("sales.later", role) == set()


@pytest.mark.requirement("R-195")
async def test_without_new_objects_a_name_that_was_not_there_first_is_told_until_the_spec_changes(
    world: World,
) -> None:
    role = await world.role("role")
    await world.run("CREATE SCHEMA sales", "CREATE TABLE sales.first (id int)")
    entry = tables("sales", "first", "later")
    grant = access_grant("g", [role], [entry], database=world.database, newObjects=False)
    for _ in range(2):
        synced = await world.sync(grant)
        assert synced.said(grant) == (STALLED, Reason.OBJECT_MISSING)
        assert "newObjects is false" in (synced.of(grant).message or "")
        await world.run("CREATE TABLE IF NOT EXISTS sales.later (id int)")
    assert await world.acl("sales.first", role) == {"SELECT"}
    assert await world.acl("sales.later", role) == set()
    newer = access_grant(
        "g", [role], [entry], database=world.database, newObjects=False, meta={"generation": 2}
    )
    assert (await world.sync(newer)).said(newer) == (READY, Reason.SUCCEEDED)
    assert await world.acl("sales.later", role) == {"SELECT"}
    # A table that is made anew is another.
    await world.run("DROP TABLE sales.first", "CREATE TABLE sales.first (id int)")
    assert (await world.sync(newer)).said(newer) == (STALLED, Reason.OBJECT_MISSING)
    assert await world.acl("sales.first", role) == set()


async def test_exact_privileges_are_given_exactly_and_nothing_besides(world: World) -> None:
    role = await world.role("role")
    await world.run("CREATE SCHEMA sales", "CREATE TABLE sales.orders (id serial)")
    grants = (
        access_grant("t", [role], [tables("sales")], privileges=["REFERENCES", "TRIGGER"], database=world.database),
        access_grant("s", [role], [schemas("sales")], privileges=["CREATE"], database=world.database),
        access_grant("d", [role], [databases(world.database)], privileges=["TEMPORARY"], database=world.database),
    )  # fmt: skip
    await world.sync(*grants)
    assert await world.acl("sales.orders", role) == {"REFERENCES", "TRIGGER"}
    assert await world.acl("sales.orders_id_seq", role) == set()
    assert await world.schema_acl("sales", role) == {"CREATE"}
    assert await world.database_acl(role) == {"TEMPORARY"}
    await world.sync()
    assert await world.schema_acl("sales", role) | await world.database_acl(role) == set()


async def test_maintain_is_granted_from_17_and_told_as_unknown_on_16(world: World) -> None:
    role = await world.role("role")
    await world.run("CREATE SCHEMA sales", "CREATE TABLE sales.orders (id int)")
    grant = access_grant(
        "g", [role], [tables("sales")], privileges=["SELECT", "MAINTAIN"], database=world.database
    )
    synced = await world.sync(grant)
    if world.version < 17:
        assert synced.said(grant) == (STALLED, Reason.INVALID_SPEC)
        assert await world.acl("sales.orders", role) == {"SELECT"}
    else:
        assert synced.said(grant) == (READY, Reason.SUCCEEDED)
        assert await world.acl("sales.orders", role) == {"SELECT", "MAINTAIN"}


async def test_access_to_a_schema_is_usage_and_to_a_database_connect(world: World) -> None:
    role = await world.role("role")
    await world.run("CREATE SCHEMA sales")
    grant = access_grant(
        "g", [role], [schemas("sales"), databases(world.database)], "Write", database=world.database
    )
    await world.sync(grant)
    assert await world.schema_acl("sales", role) == {"USAGE"}
    assert await world.database_acl(role) == {"CONNECT"}


async def test_everybody_can_be_a_subject(world: World) -> None:
    anybody = await world.role("anybody")
    await world.run("CREATE SCHEMA sales", "CREATE TABLE sales.prices (id int)")
    grant = access_grant("g", [PUBLIC], [tables("sales")], database=world.database)
    await world.sync(grant)
    assert await world.acl("sales.prices") == {"SELECT"}
    assert await world.allowed(anybody, "SELECT * FROM sales.prices")
    await world.sync()
    assert not await world.allowed(anybody, "SELECT * FROM sales.prices")
    assert await world.schema_acl("sales", None) == set()


async def test_what_public_has_from_the_beginning_is_never_taken_away(world: World) -> None:
    await world.run("CREATE TABLE public.prices (id int)")
    before = await world.database_acl(None), await world.schema_acl("public", None)
    assert "CONNECT" in before[0]
    assert "USAGE" in before[1]
    grant = access_grant("g", [PUBLIC], [tables("public", "prices")], database=world.database)
    await world.sync(grant)
    assert await world.acl("public.prices") == {"SELECT"}
    await world.sync()
    assert await world.acl("public.prices") == set()
    assert (await world.database_acl(None), await world.schema_acl("public", None)) == before


async def test_what_public_was_given_here_is_taken_away_again(world: World) -> None:
    await world.run("REVOKE CONNECT ON DATABASE {d} FROM PUBLIC", d=world.database)
    grant = access_grant("g", [PUBLIC], [databases(world.database)], database=world.database)
    await world.sync(grant)
    assert "CONNECT" in await world.database_acl(None)
    assert not (await world.sync(grant)).writes
    await world.sync()
    assert "CONNECT" not in await world.database_acl(None)


async def test_a_role_called_public_in_capitals_is_refused_and_not_taken_for_everybody(world: World) -> None:
    await world.run("CREATE SCHEMA sales", "CREATE TABLE sales.orders (id int)")
    if not await world.value("SELECT 1 FROM pg_roles WHERE rolname = 'PUBLIC'"):
        await world.run('CREATE ROLE "PUBLIC"')
    grant = access_grant("g", ["PUBLIC"], [tables("sales")], database=world.database)
    synced = await world.sync(grant)
    assert synced.said(grant) == (STALLED, Reason.RESERVED_NAME)
    assert await world.acl("sales.orders") == set()


@pytest.mark.requirement("R-171", "R-199")
async def test_what_everybody_holds_is_reported(world: World) -> None:
    await world.run(
        "CREATE SCHEMA sales",
        "CREATE TABLE sales.prices (id int)",
        "GRANT SELECT ON sales.prices TO PUBLIC",
    )
    role = await world.role("role")
    grant = access_grant("g", [role], [tables("sales")], database=world.database)
    (result,) = (await world.sync(grant)).results
    assert f"CONNECT on database {world.database}" in result.public
    assert "SELECT on table sales.prices" in result.public
    over = access_grant("g", [role], [tables("sales")], database=world.database, suspend=True)
    synced = await world.sync(over)
    (issue,) = synced.issues(over)
    assert issue["reason"] == Reason.HELD_THROUGH_PUBLIC
    assert issue["fix"].endswith('REVOKE SELECT ON TABLE "sales"."prices" FROM PUBLIC')


async def test_system_objects_and_extension_members_are_not_taken_by_patterns(world: World) -> None:
    role = await world.role("role")
    await world.run("CREATE TABLE public.mine (id int)", "CREATE TABLE public.health_check (id int)")
    await world.sync(access_grant("g", [role], [tables("public")], database=world.database))
    held = await world.rows(
        "SELECT c.relname FROM pg_class c, aclexplode(c.relacl) x WHERE pg_get_userbyid(x.grantee) = %s", role
    )
    assert held == [("mine",)]


@pytest.mark.requirement("R-183")
async def test_all_schemas_means_all_but_the_systems(world: World) -> None:
    role = await world.role("role")
    await world.run("CREATE SCHEMA sales")
    entry = {"schemas": {"matching": ["*"]}}
    await world.sync(access_grant("g", [role], [entry], database=world.database))
    held = await world.rows(
        "SELECT n.nspname FROM pg_namespace n, aclexplode(n.nspacl) x WHERE pg_get_userbyid(x.grantee) = %s",
        role,
    )
    assert {name for (name,) in held} == {"sales", "public"}
