"""Several AccessGrants are one declaration; the ledger knows what is ours; what others granted is left alone."""

import itertools

import psycopg
import pytest

from lakebase_operator.api import Reason
from lakebase_operator.domain.errors import TransientError
from lakebase_operator.external.postgres.grants import create_ledger
from tests.postgres.objects import (
    access_grant,
    being_deleted,
    databases,
    postgres_role,
    schemas,
    tables,
    user,
    user_mapping,
)
from tests.postgres.world import NOW, READY, WAITING, World, run

WRITE = {"SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE"}
SALES = ("CREATE SCHEMA sales", "CREATE TABLE sales.orders (id int)", "CREATE TABLE sales.lines (id int)")


@pytest.mark.requirement("R-191")
async def test_several_grants_combine_with_or(world: World) -> None:
    role = await world.role("role")
    await world.run(*SALES)
    declared = {
        "read": access_grant("read", [role], [tables("sales", "orders")], "Read", database=world.database),
        "write": access_grant("write", [role], [tables("sales", "orders")], "Write", database=world.database),
        "exact": access_grant(
            "exact", [role], [tables("sales", "orders")], privileges=["REFERENCES"], database=world.database
        ),
    }
    gives = {"read": {"SELECT"}, "write": WRITE, "exact": {"REFERENCES"}}
    subsets = [some for size in range(4) for some in itertools.combinations(declared, size)]
    for some in (*subsets[::2], *subsets[::-2]):
        await world.sync(*(declared[name] for name in some))
        wanted = set().union(*(gives[name] for name in some))
        assert await world.acl("sales.orders", role) == wanted, some


@pytest.mark.requirement("R-29", "R-191")
async def test_deleting_one_of_two_overlapping_grants_takes_only_what_the_other_does_not_give(
    world: World,
) -> None:
    alice, bob = await world.role("alice"), await world.role("bob")
    await world.run(*SALES)
    wide = access_grant("wide", [alice, bob], [tables("sales")], "Write", database=world.database)
    narrow = access_grant("narrow", [alice], [tables("sales", "orders")], "Read", database=world.database)
    await world.sync(wide, narrow)
    synced = await world.sync(narrow)
    assert await world.acl("sales.orders", alice) == {"SELECT"}
    assert await world.acl("sales.lines", alice) == set()
    assert await world.acl("sales.orders", bob) == set()
    assert await world.schema_acl("sales", bob) == set()
    assert await world.schema_acl("sales", alice) == {"USAGE"}
    assert synced.said(narrow) == (READY, Reason.SUCCEEDED)


@pytest.mark.requirement("R-28", "R-203")
async def test_only_the_difference_is_executed_and_in_few_statements(world: World) -> None:
    roles = [await world.role(f"r{number}") for number in range(8)]
    await world.run("CREATE SCHEMA sales")
    for number in range(12):
        await world.run(f"CREATE TABLE sales.t{number} (id int)")
    first = await world.sync(
        access_grant("g", roles[:7], [tables("sales")], "Write", database=world.database)
    )
    # One for the database, one for the schema, one for all tables for each of Write's five privileges.
    assert len(first.changes) == 7
    more = await world.sync(access_grant("g", roles, [tables("sales")], "Write", database=world.database))
    assert len(more.changes) == 7
    assert all(roles[7] in text and roles[0] not in text for text in more.changes)
    less = await world.sync(access_grant("g", roles[1:], [tables("sales")], "Write", database=world.database))
    assert len(less.changes) == 3
    assert await world.acl("sales.t0", roles[0]) == set()
    assert all(text.startswith("REVOKE") and roles[0] in text for text in less.changes)


@pytest.mark.requirement("R-201")
async def test_a_second_pass_writes_nothing_and_asks_a_constant_number_of_questions(world: World) -> None:
    roles = [await world.role(f"r{number}") for number in range(3)]
    await world.run(*SALES)
    grants = [access_grant("g0", roles, [tables("sales")], "Write", database=world.database)]
    declared = postgres_role(
        world.name("made"), settings={"statement_timeout": "30s"}, memberOf=[{"role": roles[0]}]
    )
    await world.run("GRANT {r} TO {o} WITH ADMIN OPTION", r=roles[0], o=world.operator)
    await world.sync(declared, *grants)
    few = await world.sync(declared, *grants)
    assert not few.writes
    assert not any("BEGIN" in text for text in few.statements)
    for number in range(30):
        await world.run(f"CREATE TABLE sales.more{number} (id int)")
        grants.append(
            access_grant(f"more{number}", roles, [tables("sales", f"more{number}")], database=world.database)
        )
    await world.sync(declared, *grants)
    many = await world.sync(declared, *grants)
    assert not many.writes
    assert len(many.statements) == len(few.statements) <= 10


@pytest.mark.requirement("R-180")
async def test_a_grant_made_by_hand_is_left_alone(world: World) -> None:
    alice, bob = await world.role("alice"), await world.role("bob")
    await world.run(*SALES, "GRANT INSERT ON sales.orders TO {a}, {b}", a=alice, b=bob)
    grant = access_grant("g", [alice], [tables("sales", "orders")], database=world.database)
    await world.sync(grant)
    await world.sync()
    assert await world.acl("sales.orders", alice) == {"INSERT"}
    assert await world.acl("sales.orders", bob) == {"INSERT"}


@pytest.mark.requirement("R-12")
async def test_a_grant_that_exists_is_adopted_and_goes_with_its_declaration(world: World) -> None:
    alice, owner = await world.role("alice"), await world.owned_role("owner")
    await world.run(
        *SALES,
        "ALTER SCHEMA sales OWNER TO {o}",
        "ALTER TABLE sales.orders OWNER TO {o}",
        "GRANT USAGE ON SCHEMA sales TO {a}",
        "GRANT SELECT ON sales.orders TO {a}",
        "SET ROLE databricks_superuser",
        "GRANT CONNECT ON DATABASE {d} TO {a}",
        "RESET ROLE",
        a=alice, o=owner, d=world.database,
    )  # fmt: skip
    grant = access_grant("g", [alice], [tables("sales", "orders")], database=world.database)
    adopting = await world.sync(grant)
    assert not adopting.changes
    assert adopting.said(grant) == (READY, Reason.SUCCEEDED)
    assert {(privilege, who) for _, _, privilege, who in await world.ledger()} == {
        ("SELECT", alice),
        ("USAGE", alice),
        ("CONNECT", alice),
    }
    await world.sync()
    assert await world.acl("sales.orders", alice) == set()
    assert await world.schema_acl("sales", alice) == set()


@pytest.mark.requirement("R-181")
@pytest.mark.parametrize(
    "loss", ["DROP SCHEMA lakebase_operator CASCADE", "DROP TABLE lakebase_operator.held"]
)
async def test_a_lost_ledger_never_leads_to_a_revoke(world: World, loss: str) -> None:
    alice, bob = await world.role("alice"), await world.role("bob")
    await world.run(*SALES)
    both = [
        access_grant("a", [alice], [tables("sales")], database=world.database),
        access_grant("b", [bob], [tables("sales")], database=world.database),
    ]
    await world.sync(*both)
    await world.run(loss)
    synced = await world.sync(both[0])
    assert not synced.changes
    assert await world.acl("sales.orders", bob) == {"SELECT"}
    # What is still declared is adopted again.
    await world.sync()
    assert await world.acl("sales.orders", alice) == set()
    assert await world.acl("sales.orders", bob) == {"SELECT"}


@pytest.mark.requirement("R-210")
async def test_a_ledger_copied_with_its_database_knows_what_is_managed_there(world: World) -> None:
    alice = await world.role("alice")
    await world.run(*SALES)
    await world.sync(access_grant("g", [alice], [tables("sales")], database=world.database))
    copy = f"{world.database}_copy"
    await world.admin.close()
    async with await world.server.connect("postgres") as connection:
        await connection.execute(f"CREATE DATABASE {copy} TEMPLATE {world.database}".encode())
        await connection.execute(f"ALTER DATABASE {copy} SET log_statement = 'all'".encode())
    assert await world.acl("sales.orders", alice, copy) == {"SELECT"}
    unchanged = access_grant("g", [alice], [tables("sales")], database=copy)
    synced = await world.sync(unchanged, databases=[copy])
    assert [text for text in synced.changes if "CONNECT" not in text] == []
    await world.sync(databases=[copy])
    assert await world.acl("sales.orders", alice, copy) == set()
    assert await world.acl("sales.orders", alice) == {"SELECT"}
    assert await world.database_acl(alice) == {"CONNECT"}


@pytest.mark.requirement("R-181", "R-210")
@pytest.mark.parametrize("how", ["pg_restore", "pg_upgrade"])
async def test_a_ledger_that_came_with_a_dump_is_forgotten_since_its_oids_mean_something_else(
    plain_world: World, how: str
) -> None:
    world = plain_world
    alice, bob, owner = await world.role("alice"), await world.role("bob"), await world.owned_role("owner")
    made = (
        "CREATE SCHEMA sales",
        "GRANT USAGE ON SCHEMA sales TO PUBLIC",
        "CREATE TABLE sales.orders (id int)",
        "ALTER TABLE sales.orders OWNER TO {o}",
    )
    await world.run(*made, o=owner)
    role = postgres_role(alice, adopt=True)
    both = access_grant("g", [alice, bob], [tables("sales")], privileges=["SELECT"], database=world.database)
    await world.sync(role, both)
    restored = await world.another_database()
    async with await world.server.connect(restored) as admin:
        await run(
            admin, *made, "SET ROLE {o}", "GRANT SELECT ON sales.orders TO {b}", "RESET ROLE", o=owner, b=bob
        )
        # The ledger as a restored dump leaves it; by chance the table has the OID that another had where the dump was made.
        async with world.session(restored) as session:
            await create_ledger(session)
        for table in ("version", "held", "roles"):
            rows = await world.rows(f"SELECT to_jsonb(t)::text FROM lakebase_operator.{table} t")
            await admin.execute(f"DELETE FROM lakebase_operator.{table}".encode())
            for (row,) in rows:
                await admin.execute(
                    f"INSERT INTO lakebase_operator.{table}"
                    f" SELECT * FROM jsonb_populate_record(NULL::lakebase_operator.{table}, %s::jsonb)".encode(),
                    [row],
                )
        await admin.execute(
            "UPDATE lakebase_operator.held SET objid = 'sales.orders'::regclass WHERE class = 'TABLE'"
        )
        if how == "pg_upgrade":  # tables keep their OIDs, schemas and routines do not
            await admin.execute(
                "UPDATE lakebase_operator.version SET home = '1/' || 'lakebase_operator.held'::regclass::oid"
            )
    one = access_grant("g", [alice], [tables("sales")], privileges=["SELECT"], database=restored)
    synced = await world.sync(one, databases=[restored])
    assert not [text for text in synced.changes if text.startswith("REVOKE")]
    assert await world.acl("sales.orders", bob, restored) == {"SELECT"}
    assert await world.acl("sales.orders", alice, restored) == {"SELECT"}
    assert await world.value("SELECT count(*) FROM lakebase_operator.roles", database=restored) == 0
    # From now on it is known here.
    await world.sync(databases=[restored])
    assert await world.acl("sales.orders", alice, restored) == set()
    assert await world.acl("sales.orders", bob, restored) == {"SELECT"}


@pytest.mark.requirement("R-33")
async def test_an_error_in_the_middle_revokes_nothing(world: World) -> None:
    role = await world.role("role")
    await world.run(*SALES)
    await world.sync(access_grant("old", [role], [tables("sales", "orders")], database=world.database))
    before = await world.ledger()
    # The server ends the session after all statements, when the ledger is written.
    await world.run(
        "CREATE FUNCTION public.die() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN PERFORM pg_catalog.pg_terminate_backend(pg_catalog.pg_backend_pid()); RETURN NULL; END'",
        "CREATE TRIGGER die BEFORE INSERT OR DELETE OR UPDATE ON lakebase_operator.held"
        " FOR EACH STATEMENT EXECUTE FUNCTION public.die()",
    )
    new = access_grant("new", [role], [tables("sales", "lines")], database=world.database)
    with pytest.raises(TransientError) as lost:
        await world.sync(new)
    assert lost.value.reason is Reason.CONNECTION_LOST
    assert await world.acl("sales.orders", role) == {"SELECT"}
    assert await world.acl("sales.lines", role) == set()
    assert await world.ledger() == before
    await world.run("DROP TRIGGER die ON lakebase_operator.held")
    await world.sync(new)
    assert await world.acl("sales.orders", role) == set()
    assert await world.acl("sales.lines", role) == {"SELECT"}


@pytest.mark.requirement("R-177")
async def test_a_table_made_anew_gets_its_grants_back_and_a_renamed_one_keeps_them(world: World) -> None:
    role = await world.role("role")
    await world.run(*SALES)
    grant = access_grant("g", [role], [tables("sales")], database=world.database)
    await world.sync(grant)
    await world.run(
        "DROP TABLE sales.orders",
        "CREATE TABLE sales.orders (id int)",
        "ALTER TABLE sales.lines RENAME TO rows",
    )
    assert not await world.allowed(role, "SELECT * FROM sales.orders")
    synced = await world.sync(grant)
    assert await world.allowed(role, "SELECT * FROM sales.orders")
    assert len(synced.changes) == 1
    assert "rows" not in synced.changes[0]
    await world.sync()
    assert await world.acl("sales.rows", role) == set()


async def test_a_table_renamed_out_of_its_name_loses_what_was_given_by_name(world: World) -> None:
    role = await world.role("role")
    await world.run(*SALES)
    grant = access_grant("g", [role], [tables("sales", "orders")], database=world.database)
    await world.sync(grant)
    await world.run("ALTER TABLE sales.orders RENAME TO archive", "CREATE TABLE sales.orders (id int)")
    await world.sync(grant)
    assert await world.acl("sales.archive", role) == set()
    assert await world.acl("sales.orders", role) == {"SELECT"}


@pytest.mark.requirement("R-24")
async def test_what_the_ledger_says_of_objects_that_are_gone_is_cleared(world: World) -> None:
    role = await world.role("role")
    await world.run(*SALES)
    grant = access_grant("g", [role], [tables("sales")], database=world.database)
    await world.sync(grant)
    await world.run("DROP SCHEMA sales CASCADE")
    synced = await world.sync(grant)
    assert [text.split()[:2] for text in synced.changes] == [["REVOKE", "CONNECT"]]
    assert not await world.ledger()
    assert synced.said(grant) == (READY, Reason.NO_OBJECTS)


@pytest.mark.requirement("R-180")
async def test_what_the_ledger_says_of_a_grantor_who_has_granted_nothing_is_cleared(world: World) -> None:
    alice, stranger = await world.role("alice"), await world.role("stranger")
    await world.run(*SALES)
    grant = access_grant("g", [alice], [tables("sales", "orders")], database=world.database)
    await world.sync(grant)
    recorded = await world.ledger()
    await world.rows(
        "INSERT INTO lakebase_operator.held"
        " SELECT connection, class, objid, part, privilege, %s::regrole, grantees FROM lakebase_operator.held"
        " WHERE class = 'TABLE' RETURNING 1",
        stranger,
    )
    synced = await world.sync(grant)
    assert not synced.changes
    assert await world.ledger() == recorded
    assert not await world.value(
        "SELECT count(*) FROM lakebase_operator.held WHERE grantor = %s::regrole", stranger
    )
    await world.run(
        "GRANT USAGE ON SCHEMA sales TO {s}",
        "GRANT SELECT ON sales.orders TO {s} WITH GRANT OPTION",
        "SET ROLE {s}",
        "GRANT SELECT ON sales.orders TO {a}",
        "RESET ROLE",
        a=alice, s=stranger,
    )  # fmt: skip
    await world.sync()
    assert await world.grantors("sales.orders", alice) == {("SELECT", stranger)}


async def test_nothing_declared_and_a_full_ledger_means_all_of_it_is_revoked_and_nothing_else(
    world: World,
) -> None:
    alice, bob = await world.role("alice"), await world.role("bob")
    await world.run(*SALES, "GRANT SELECT ON sales.lines TO {b}", b=bob)
    before = await world.value("SELECT relacl::text FROM pg_class WHERE oid = 'sales.lines'::regclass")
    await world.sync(
        access_grant("g", [alice], [tables("sales"), schemas("sales")], "Write", database=world.database)
    )
    await world.sync()
    assert (
        await world.value("SELECT relacl::text FROM pg_class WHERE oid = 'sales.lines'::regclass") == before
    )
    assert not await world.ledger()
    assert not (await world.sync()).writes


@pytest.mark.requirement("R-44")
async def test_a_grant_none_of_whose_subjects_is_known_gives_nothing_and_takes_back_what_it_gave(
    world: World,
) -> None:
    role = await world.role("role")
    await world.run(*SALES)
    await world.sync(access_grant("g", [role], [tables("sales")], database=world.database))
    nobody = access_grant("g", [user("nobody@example.com")], [tables("sales")], database=world.database)
    synced = await world.sync(nobody)
    assert synced.said(nobody) == (WAITING, Reason.UNMAPPED_USERS)
    assert await world.acl("sales.orders", role) == set()
    assert not await world.ledger()
    assert not (await world.sync(nobody)).writes


async def test_a_role_dropped_between_passes_is_told_as_missing_and_leaves_no_trace(world: World) -> None:
    role, other = await world.role("role"), await world.role("other")
    await world.run(*SALES)
    grant = access_grant("g", [role, other], [tables("sales")], database=world.database)
    await world.sync(grant)
    await world.run(
        "SET ROLE databricks_superuser",
        "REVOKE ALL ON ALL TABLES IN SCHEMA sales FROM {r}",
        "REVOKE ALL ON SCHEMA sales FROM {r}",
        "REVOKE ALL ON DATABASE {d} FROM {r}",
        "RESET ROLE",
        "DROP ROLE {r}",
        r=role, d=world.database,
    )  # fmt: skip
    synced = await world.sync(grant)
    assert synced.said(grant) == (WAITING, Reason.ROLE_MISSING)
    assert not synced.changes
    assert {who for *_, who in await world.ledger()} == {other}
    await world.run("CREATE ROLE {r} LOGIN", r=role)
    synced = await world.sync(grant)
    assert synced.said(grant) == (READY, Reason.SUCCEEDED)
    assert await world.allowed(role, "SELECT * FROM sales.orders")


@pytest.mark.requirement("R-30")
async def test_revoked_access_ends_in_an_open_session_with_its_next_statement(world: World) -> None:
    role = await world.role("role")
    await world.run(*SALES)
    grant = access_grant("g", [role], [tables("sales")], database=world.database)
    await world.sync(grant)
    async with world.login(role) as session:
        await session.execute("SELECT * FROM sales.orders")
        await world.sync(being_deleted(grant))
        with pytest.raises(psycopg.errors.InsufficientPrivilege) as refused:
            await session.execute("SELECT * FROM sales.orders")
        assert refused.value.sqlstate == "42501"


@pytest.mark.requirement("R-197")
async def test_time_and_suspension_decide_whether_a_grant_gives_anything(world: World) -> None:
    role = await world.role("role")
    await world.run(*SALES)
    limited = access_grant(
        "g", [role], [tables("sales")], database=world.database,
        notBefore="2026-01-15T13:00:00Z", expiresAt="2026-01-15T14:00:00Z",
    )  # fmt: skip
    for hour, reason, held in (
        (12, Reason.NOT_YET_ACTIVE, set()),
        (13, Reason.SUCCEEDED, {"SELECT"}),
        (14, Reason.EXPIRED, set()),
    ):
        synced = await world.sync(limited, now=NOW.replace(hour=hour))
        assert synced.said(limited) == (READY, reason)
        assert await world.acl("sales.orders", role) == held
    suspended = access_grant("g", [role], [tables("sales")], database=world.database, suspend=True)
    synced = await world.sync(suspended)
    assert synced.said(suspended) == (READY, Reason.SUSPENDED)


@pytest.mark.requirement("R-206")
async def test_two_connections_share_what_both_declare_and_the_last_one_takes_it_away(world: World) -> None:
    role = await world.role("role")
    await world.run(*SALES)
    grant = access_grant("g", [role], [tables("sales", "orders")], database=world.database)
    await world.sync(grant, owner="team/one")
    await world.sync(grant, owner="team/two")
    await world.sync(owner="team/one")
    assert await world.acl("sales.orders", role) == {"SELECT"}
    assert {owner for owner, *_ in await world.ledger()} == {"team/two"}
    assert not (await world.sync(owner="team/one")).writes
    await world.sync(owner="team/two")
    assert await world.acl("sales.orders", role) == set()
    assert await world.schema_acl("sales", role) == set()


async def test_two_connections_keep_what_both_declare_while_the_owner_changes(world: World) -> None:
    role, owner = await world.role("role"), await world.owned_role("owner")
    await world.run(*SALES)
    grant = access_grant("g", [role], [tables("sales", "orders")], database=world.database)
    await world.sync(grant, owner="team/one")
    await world.sync(grant, owner="team/two")
    await world.run("ALTER TABLE sales.orders OWNER TO {o}", "ALTER SCHEMA sales OWNER TO {o}", o=owner)
    await world.sync(owner="team/one")
    assert await world.acl("sales.orders", role) == {"SELECT"}
    await world.sync(owner="team/two")
    assert await world.acl("sales.orders", role) == set()


@pytest.mark.requirement("R-9", "R-93")
async def test_two_databases_are_independent(world: World) -> None:
    role = await world.role("role")
    second = await world.another_database()
    await world.run(*SALES)
    async with await world.server.connect(second) as connection:
        for statement in SALES:
            await connection.execute(statement.encode())
    one = access_grant("one", [role], [tables("sales", "orders")], database=world.database)
    two = access_grant("two", [role], [tables("sales", "lines")], "Write", database=second)
    synced = await world.sync(one, two, databases=[world.database, second])
    assert synced.said(one) == synced.said(two) == (READY, Reason.SUCCEEDED)
    assert await world.acl("sales.orders", role) == {"SELECT"}
    assert await world.acl("sales.lines", role) == set()
    assert await world.acl("sales.orders", role, second) == set()
    assert await world.acl("sales.lines", role, second) == WRITE
    assert await world.allowed(role, "SELECT * FROM sales.lines", second)
    await world.sync(two, databases=[world.database, second])
    assert await world.acl("sales.orders", role) == set()
    assert await world.acl("sales.lines", role, second) == WRITE
    assert await world.database_acl(role, second) == {"CONNECT"}


@pytest.mark.requirement("R-9", "R-93")
async def test_what_is_declared_alike_for_two_databases_is_counted_and_told_of_each_by_itself(
    world: World,
) -> None:
    role = await world.role("role")
    second = await world.another_database()
    await world.run(*SALES)
    async with await world.server.connect(second) as connection:
        await connection.execute("CREATE SCHEMA sales")
        await connection.execute("CREATE TABLE sales.orders (id int)")
    named = tables("sales", "orders", "lines")
    one = access_grant("one", [role], [named], database=world.database)
    two = access_grant("two", [role], [named], database=second)
    synced = await world.sync(one, two, databases=[world.database, second])
    assert synced.said(one) == (READY, Reason.SUCCEEDED)
    assert synced.said(two) == (WAITING, Reason.OBJECT_MISSING)
    assert synced.issues(one) == []
    assert [issue["object"] for issue in synced.issues(two)] == ["sales.lines"]
    counted = {name: (tally.objects, tally.wanted) for name, tally in synced.tallies.items()}
    assert counted == {one.metadata.uid: (2, 2), two.metadata.uid: (1, 1)}


async def test_a_look_at_some_roles_counts_what_is_declared_for_a_role_that_is_missing(world: World) -> None:
    role = await world.role("role")
    await world.run(*SALES)
    there = access_grant("there", [role], [tables("sales", "orders")], database=world.database)
    nobody = access_grant("nobody", ["not_there"], [tables("sales")], database=world.database)
    whole = await world.sync(there, nobody)
    some = await world.sync(there, nobody, focus=frozenset({role}))
    assert some.tallies == whole.tallies
    assert some.tallies[nobody.metadata.uid].objects == len(SALES) - 1


async def test_connect_on_another_database_of_the_connection_is_held_once_whoever_declares_it(
    world: World,
) -> None:
    role = await world.role("role")
    second = await world.another_database()
    async with await world.server.connect(second) as connection:
        for statement in SALES:
            await connection.execute(statement.encode())
    named = access_grant("named", [role], [databases(second)], database=world.database)
    implied = access_grant("implied", [role], [tables("sales")], database=second)
    both = [world.database, second]
    await world.sync(named, implied, databases=both)
    assert not (await world.sync(named, implied, databases=both)).writes
    synced = await world.sync(named, databases=both)
    assert await world.database_acl(role, second) == {"CONNECT"}
    assert synced.results[1].drifted == 0
    await world.sync(implied, databases=both)
    assert await world.database_acl(role, second) == {"CONNECT"}
    await world.sync(databases=both)
    assert await world.database_acl(role, second) == set()


async def test_connect_on_a_database_that_is_not_the_connections_belongs_to_its_home(world: World) -> None:
    role = await world.role("role")
    second, elsewhere = await world.another_database(), await world.another_database()
    both = [world.database, second]
    grant = access_grant("g", [role], [databases(elsewhere, "missing")], database=world.database)
    synced = await world.sync(grant, databases=both)
    assert await world.database_acl(role, elsewhere) == {"CONNECT"}
    assert [one["object"] for one in synced.issues(grant)] == ["missing"]
    await world.sync(databases=both)
    assert await world.database_acl(role, elsewhere) == set()


@pytest.mark.requirement("R-183")
async def test_nobody_else_can_read_or_write_the_ledger(world: World) -> None:
    anybody = await world.role("anybody")
    await world.run(*SALES)
    await world.run(
        "ALTER DEFAULT PRIVILEGES FOR ROLE {o} GRANT ALL ON TABLES TO PUBLIC",
        "ALTER DEFAULT PRIVILEGES FOR ROLE {o} GRANT ALL ON SCHEMAS TO PUBLIC",
        o=world.operator,
    )
    try:
        await world.sync(access_grant("g", [anybody], [tables("sales")], database=world.database))
        for table in ("held", "roles", "snapshots", "change_log", "version"):
            assert not await world.allowed(anybody, f"SELECT * FROM lakebase_operator.{table}")
            assert not await world.allowed(anybody, f"DELETE FROM lakebase_operator.{table}")
        grantees = await world.rows(
            "SELECT DISTINCT x.grantee::regrole::text FROM pg_class c, aclexplode(c.relacl) x"
            " WHERE c.relnamespace = 'lakebase_operator'::regnamespace AND x.grantee <> c.relowner"
        )
        assert grantees == []
    finally:
        await world.run("DROP OWNED BY {o}", o=world.operator)


@pytest.mark.requirement("R-207")
async def test_the_change_log_names_resource_statement_and_result(world: World) -> None:
    alice, bob = await world.role("alice"), await world.role("bob")
    await world.run(*SALES)
    made = world.name("made")
    a = access_grant("a", [alice], [tables("sales", "orders")], database=world.database)
    b = access_grant(
        "b", [bob], [tables("sales", "orders")], "Write", database=world.database, meta={"generation": 7}
    )
    await world.sync(postgres_role(made), a, b)
    log = await world.change_log()
    assert log[0] == (f"PostgresRole/team/{made}@1", f'CREATE ROLE "{made}"', "ok")
    grants = {statement: resources for resources, statement, result in log[1:] if result == "ok"}
    both = "AccessGrant/team/a@1 AccessGrant/team/b@7"
    assert grants[f'GRANT SELECT ON TABLE "sales"."orders" TO "{alice}", "{bob}"'] == both
    assert grants[f'GRANT USAGE ON SCHEMA "sales" TO "{alice}", "{bob}"'] == both
    assert grants[f'GRANT INSERT ON TABLE "sales"."orders" TO "{bob}"'] == "AccessGrant/team/b@7"

    await world.sync(being_deleted(a), b)
    revoked = (await world.change_log())[len(log) :]
    assert (
        "AccessGrant/team/a@1",
        f'REVOKE SELECT ON TABLE "sales"."orders" FROM "{alice}"',
        "ok",
    ) in revoked
    assert {resources for resources, *_ in revoked} == {"AccessGrant/team/a@1"}


async def test_the_same_subject_twice_and_a_role_and_a_person_of_one_name_are_all_served(
    world: World,
) -> None:
    role, other = await world.role("role"), await world.role("other")
    await world.run(*SALES)
    mapping = user_mapping("m", role, mapping="Explicit", postgresUsername=other)
    grant = access_grant("g", [role, role, user(role)], [tables("sales", "orders")], database=world.database)
    synced = await world.sync(mapping, grant)
    assert await world.acl("sales.orders", role) == {"SELECT"}
    assert await world.acl("sales.orders", other) == {"SELECT"}
    assert [one["role"] for one in synced.of(grant).fields["subjects"]] == [role, other]


@pytest.mark.requirement("R-202")
async def test_very_long_lists_of_names_and_subjects_are_carried_out(world: World) -> None:
    names = [f"table_with_a_rather_long_name_{number:04}" for number in range(500)]
    roles = [world.name(f"r{number}") for number in range(100)]
    await world.run("CREATE SCHEMA sales")
    await world.admin.execute("; ".join(f"CREATE TABLE sales.{name} ()" for name in names).encode())
    await world.admin.execute("; ".join(f"CREATE ROLE {name}" for name in roles).encode())
    entries = [tables("sales", *names[start : start + 250]) for start in (0, 250)]
    grant = access_grant("g", roles, entries, database=world.database)
    synced = await world.sync(grant)
    fields = synced.of(grant).fields
    assert (fields["objects"], fields["grants"]) == (500, {"wanted": 50_000, "held": 50_000})
    assert len(synced.changes) == 5
    assert not (await world.sync(grant)).writes
    await world.sync()
    assert not await world.ledger()
