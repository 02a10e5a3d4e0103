"""Many at work on the same objects: several operators, people with psql, tables that come and go."""

import asyncio
import random
from contextlib import suppress

import psycopg
import pytest
from psycopg import sql

from lakebase_operator.api import Reason
from lakebase_operator.domain.errors import TransientError
from lakebase_operator.external.postgres.errors import is_concurrent_update
from lakebase_operator.external.postgres.grants import ADVISORY_LOCK
from tests.postgres.meddling import (
    Before,
    assert_the_ledger_agrees,
    entries,
    somebody_waits_for_a_lock,
    until,
)
from tests.postgres.objects import access_grant, being_deleted, databases, tables
from tests.postgres.world import READY, WAITING, World

WRITE = {"SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE"}
SALES = ("CREATE SCHEMA sales", "CREATE TABLE sales.orders (id int)", "CREATE TABLE sales.lines (id int)")
WRITERS = 12


async def together(*work: object) -> None:
    """Run all at once; an error of any is an error."""
    async with asyncio.TaskGroup() as group:
        for one in work:
            group.create_task(one)  # type: ignore[arg-type]  # coroutines of any result


@pytest.mark.requirement("R-176", "R-206")
async def test_twelve_writers_on_the_same_objects_see_no_error_and_all_get_what_they_declare(
    world: World,
) -> None:
    roles = [await world.role(f"r{number}") for number in range(WRITERS)]
    await world.run(*SALES)
    await world.sync()

    async def work(number: int) -> None:
        grant = access_grant("g", [roles[number]], [tables("sales")], "Write", database=world.database)
        for turn in range(2):
            declared = [grant] if turn % 2 == 0 else []
            await world.sync(*declared, owner=f"team/{number}")
        synced = await world.sync(grant, owner=f"team/{number}")
        assert synced.said(grant) == (READY, Reason.SUCCEEDED)

    await together(*(work(number) for number in range(WRITERS)))
    for role in roles:
        assert await world.acl("sales.orders", role) == WRITE
        assert await world.acl("sales.lines", role) == WRITE
        assert await world.schema_acl("sales", role) == {"USAGE"}
    await assert_the_ledger_agrees(world, roles)
    assert not [text for text in world.errors() if "concurrently" in text]


@pytest.mark.requirement("R-176")
async def test_raw_grants_of_others_at_the_same_time_lead_to_no_error_and_are_left_alone(
    world: World,
) -> None:
    roles = [await world.role(f"r{number}") for number in range(6)]
    foreign = await world.role("foreign")
    await world.run(*SALES)
    await world.sync()
    collisions: list[psycopg.Error] = []
    over = asyncio.Event()

    async def by_hand(seed: int) -> None:
        pause = random.Random(seed)
        async with await world.server.connect(world.database) as connection:
            while not over.is_set():
                for verb in (
                    "GRANT REFERENCES ON sales.orders TO {r}",
                    "REVOKE REFERENCES ON sales.orders FROM {r}",
                ):
                    try:
                        await connection.execute(sql.SQL(verb).format(r=sql.Identifier(foreign)))  # type: ignore[arg-type]
                    except psycopg.errors.InternalError_ as error:
                        collisions.append(error)
                await asyncio.sleep(pause.uniform(0, 0.01))

    async def operate(number: int) -> None:
        grant = access_grant("g", [roles[number]], [tables("sales")], "Write", database=world.database)
        for turn in range(4):
            await world.sync(*([grant] if turn % 2 == 0 else []), owner=f"team/{number}")
        synced = await world.sync(grant, owner=f"team/{number}")
        assert synced.said(grant) == (READY, Reason.SUCCEEDED)

    async def operators() -> None:
        try:
            await together(*(operate(number) for number in range(6)))
        finally:
            over.set()

    await together(by_hand(1), by_hand(2), operators())
    assert all(is_concurrent_update(error) for error in collisions)
    await world.run("GRANT REFERENCES ON sales.orders TO {r}", r=foreign)
    for role in roles:
        assert await world.acl("sales.orders", role) == WRITE
    await assert_the_ledger_agrees(world, roles)
    await together(*(world.sync(owner=f"team/{number}") for number in range(6)))
    assert await entries(world, roles) == set()
    assert await world.acl("sales.orders", foreign) == {"REFERENCES"}


@pytest.mark.requirement("R-176")
async def test_a_concurrent_update_by_somebody_else_is_tried_again_and_not_told(world: World) -> None:
    role, other = await world.role("role"), await world.role("other")
    await world.run(*SALES)
    grant = access_grant("g", [role], [tables("sales")], database=world.database)
    async with await world.server.connect(world.database) as outsider:

        async def change_it_and_commit_while_the_operator_waits() -> None:
            await outsider.execute("BEGIN")
            await outsider.execute(
                sql.SQL("GRANT INSERT ON sales.orders TO {}").format(sql.Identifier(other))
            )

        async def commit() -> None:
            await until(somebody_waits_for_a_lock(world))
            await outsider.execute("COMMIT")

        async def operate() -> None:
            with Before(world, "GRANT SELECT", change_it_and_commit_while_the_operator_waits):
                synced = await world.sync(grant)
            assert synced.said(grant) == (READY, Reason.SUCCEEDED)
            assert not synced.issues(grant)

        await together(operate(), commit())
    assert any("tuple concurrently updated" in text for text in world.errors())
    assert await world.acl("sales.orders", role) == {"SELECT"}
    assert await world.acl("sales.orders", other) == {"INSERT"}
    await assert_the_ledger_agrees(world, [role])


@pytest.mark.requirement("R-176")
async def test_what_another_writer_did_while_this_one_waited_for_the_lock_is_not_done_twice(
    world: World,
) -> None:
    role = await world.role("role")
    await world.run(*SALES)
    await world.sync()
    grant = access_grant("g", [role], [tables("sales")], "Write", database=world.database)

    async def same_by_another() -> None:
        # Between this one's comparison and its lock; without its own hook.
        world.on_open = None
        await world.sync(grant, owner="team/other")

    with Before(world, "SELECT pg_advisory_xact_lock", same_by_another):
        synced = await world.sync(grant, owner="team/this")
    # One log for both: what was granted was granted once.
    assert len(synced.changes) == len(set(synced.changes))
    assert synced.said(grant) == (READY, Reason.SUCCEEDED)
    assert {owner for owner, *_ in await world.ledger()} == {"team/other", "team/this"}


# -- objects that go ------------------------------------------------------------------------------------------------


@pytest.mark.requirement("R-178")
async def test_a_table_dropped_between_comparing_and_granting_holds_nothing_up(world: World) -> None:
    role = await world.role("role")
    await world.run(
        "CREATE SCHEMA sales", *(f"CREATE TABLE sales.t{number} (id serial)" for number in range(7))
    )
    grant = access_grant("g", [role], [tables("sales")], "Write", database=world.database)

    async def drop() -> None:
        await world.run("DROP TABLE sales.t3")

    with Before(world, "GRANT ", drop):
        synced = await world.sync(grant)
    assert synced.said(grant) == (READY, Reason.SUCCEEDED)
    assert synced.of(grant).fields["objects"] == 6
    assert not synced.issues(grant)
    for number in (0, 1, 2, 4, 5, 6):
        assert await world.acl(f"sales.t{number}", role) == WRITE
        assert await world.acl(f"sales.t{number}_id_seq", role) == {"USAGE"}
    await assert_the_ledger_agrees(world, [role])
    assert not (await world.sync(grant)).writes


@pytest.mark.requirement("R-178")
async def test_a_table_dropped_between_comparing_and_revoking_holds_nothing_up(world: World) -> None:
    role = await world.role("role")
    await world.run("CREATE SCHEMA sales", *(f"CREATE TABLE sales.t{number} (id int)" for number in range(5)))
    grant = access_grant("g", [role], [tables("sales")], database=world.database)
    await world.sync(grant)

    async def drop() -> None:
        await world.run("DROP TABLE sales.t2")

    with Before(world, "REVOKE ", drop):
        await world.sync(being_deleted(grant))
    assert await entries(world, [role]) == set()
    assert not await world.ledger()


@pytest.mark.requirement("R-178")
async def test_a_table_made_anew_between_comparing_and_granting_gets_its_grant(world: World) -> None:
    role = await world.role("role")
    await world.run(*SALES)
    grant = access_grant("g", [role], [tables("sales")], database=world.database)

    async def make_anew() -> None:
        await world.run("DROP TABLE sales.orders", "CREATE TABLE sales.orders (id int)")

    with Before(world, "GRANT ", make_anew):
        synced = await world.sync(grant)
    assert synced.said(grant) == (READY, Reason.SUCCEEDED)
    assert await world.acl("sales.orders", role) == {"SELECT"}
    await assert_the_ledger_agrees(world, [role])


@pytest.mark.requirement("R-178")
async def test_a_schema_dropped_between_comparing_and_granting_holds_nothing_up(world: World) -> None:
    role = await world.role("role")
    await world.run(*SALES, "CREATE SCHEMA other", "CREATE TABLE other.kept (id int)")
    grant = access_grant("g", [role], [tables("sales"), tables("other")], database=world.database)

    async def drop() -> None:
        await world.run("DROP SCHEMA sales CASCADE")

    with Before(world, "GRANT ", drop):
        synced = await world.sync(grant)
    assert synced.said(grant) == (READY, Reason.SUCCEEDED)
    assert await world.allowed(role, "SELECT * FROM other.kept")
    await assert_the_ledger_agrees(world, [role])


@pytest.mark.requirement("R-178")
async def test_a_role_dropped_between_comparing_and_granting_holds_nothing_up(world: World) -> None:
    roles = [await world.role(f"r{number}") for number in range(5)]
    await world.run(*SALES)
    grant = access_grant("g", roles, [tables("sales")], "Write", database=world.database)

    async def drop() -> None:
        await world.run("DROP ROLE {r}", r=roles[2])

    with Before(world, "GRANT ", drop):
        await world.sync(grant)
    for role in (*roles[:2], *roles[3:]):
        assert await world.acl("sales.orders", role) == WRITE
        assert await world.acl("sales.lines", role) == WRITE
    await assert_the_ledger_agrees(world, roles)
    synced = await world.sync(grant)
    assert synced.said(grant) == (WAITING, Reason.ROLE_MISSING)
    assert not synced.writes


# -- objects that are locked ----------------------------------------------------------------------------------------


@pytest.mark.requirement("R-182")
async def test_an_object_that_somebody_holds_fails_alone_after_the_lock_timeout_and_is_granted_later(
    world: World,
) -> None:
    role, other = await world.role("role"), await world.role("other")
    await world.run("CREATE SCHEMA sales", *(f"CREATE TABLE sales.t{number} (id int)" for number in range(9)))
    grant = access_grant("g", [role], [tables("sales")], database=world.database)
    await world.sync()
    world.lock_timeout = 0.3
    async with await world.server.connect(world.database) as holder:
        await holder.execute("BEGIN")
        # Its row in the catalog is in use, which holds up a GRANT in any version.
        await holder.execute(sql.SQL("GRANT INSERT ON sales.t4 TO {}").format(sql.Identifier(other)))
        async with asyncio.timeout(10):
            synced = await world.sync(grant)
        assert synced.said(grant) == (WAITING, Reason.OBJECT_FAILED)
        assert [one["object"] for one in synced.issues(grant)] == ["sales.t4"]
        assert "lock timeout" in synced.issues(grant)[0]["fix"]
        assert synced.results[0].unfinished
        for number in (0, 1, 2, 3, 5, 6, 7, 8):
            assert await world.acl(f"sales.t{number}", role) == {"SELECT"}
        await assert_the_ledger_agrees(world, [role])
        await holder.execute("ROLLBACK")
    synced = await world.sync(grant)
    assert synced.said(grant) == (READY, Reason.SUCCEEDED)
    assert len(synced.changes) == 1
    await assert_the_ledger_agrees(world, [role])


async def test_a_view_under_a_long_alter_view_does_not_hold_up_the_others(world: World) -> None:
    """Whether it can be written to can be seen by opening it only."""
    role, other = await world.role("role"), await world.role("other")
    await world.run(*SALES, "CREATE VIEW sales.open AS SELECT id FROM sales.orders")
    writes = access_grant("w", [role], [tables("sales", "open")], "Write", database=world.database)
    reads = access_grant("r", [other], [tables("sales")], database=world.database)
    await world.sync(writes)
    held = await world.acl("sales.open", role)
    assert held == WRITE - {"TRUNCATE"}
    world.lock_timeout = 0.3
    async with await world.server.connect(world.database) as holder:
        await holder.execute("BEGIN")
        await holder.execute("LOCK TABLE sales.open IN ACCESS EXCLUSIVE MODE")
        synced = await world.sync(writes, reads)
        assert synced.said(writes) == (READY, Reason.SUCCEEDED)
        assert await world.acl("sales.open", role) == held
        assert await world.acl("sales.lines", other) == {"SELECT"}
        await holder.execute("ROLLBACK")
    synced = await world.sync(writes, reads)
    assert synced.said(writes) == synced.said(reads) == (READY, Reason.SUCCEEDED)
    assert await world.acl("sales.open", other) == {"SELECT"}
    await assert_the_ledger_agrees(world, [role, other])


async def test_a_table_under_a_long_alter_table_does_not_hold_up_the_others(world: World) -> None:
    role = await world.role("role")
    await world.run(*SALES)
    grant = access_grant("g", [role], [tables("sales")], "Write", database=world.database)
    await world.sync()
    world.lock_timeout = 0.3
    async with await world.server.connect(world.database) as holder:
        await holder.execute("BEGIN")
        await holder.execute("ALTER TABLE sales.lines ADD COLUMN note text")
        async with asyncio.timeout(10):
            synced = await world.sync(grant)
        assert synced.said(grant) == (WAITING, Reason.OBJECT_FAILED)
        assert {one["object"] for one in synced.issues(grant)} == {"sales.lines"}
        assert await world.acl("sales.orders", role) == WRITE
        await holder.execute("COMMIT")
    await world.sync(grant)
    assert await world.acl("sales.lines", role) == WRITE


async def test_a_locked_object_is_revoked_as_soon_as_it_is_free_and_the_grant_waits_for_it(
    world: World,
) -> None:
    role, other = await world.role("role"), await world.role("other")
    await world.run(*SALES)
    grant = access_grant("g", [role], [tables("sales")], database=world.database)
    await world.sync(grant)
    world.lock_timeout = 0.3
    over = access_grant("g", [role], [tables("sales")], database=world.database, suspend=True)
    async with await world.server.connect(world.database) as holder:
        await holder.execute("BEGIN")
        await holder.execute(sql.SQL("GRANT INSERT ON sales.lines TO {}").format(sql.Identifier(other)))
        synced = await world.sync(over)
        assert synced.said(over) == (WAITING, Reason.OBJECT_FAILED)
        assert synced.results[0].unrevocable == ()
        assert await world.acl("sales.orders", role) == set()
        assert await world.acl("sales.lines", role) == {"SELECT"}
        await assert_the_ledger_agrees(world, [role])
        await holder.execute("ROLLBACK")
    synced = await world.sync(over)
    assert synced.said(over) == (READY, Reason.SUSPENDED)
    assert await entries(world, [role]) == set()


async def test_a_writer_that_keeps_the_operators_lock_is_waited_for_no_longer_than_the_lock_timeout(
    world: World,
) -> None:
    role = await world.role("role")
    await world.run(*SALES)
    await world.sync()
    grant = access_grant("g", [role], [tables("sales")], database=world.database)
    await world.sync(grant)
    world.lock_timeout = 0.2
    async with await world.server.connect(world.database) as holder:
        await holder.execute("SELECT pg_advisory_lock(%s)", [ADVISORY_LOCK])
        # Nothing to do asks for no lock.
        assert not (await world.sync(grant)).writes
        with pytest.raises(TransientError) as caught:
            await world.sync()
        assert caught.value.reason is Reason.ROLE_IN_USE
    assert await world.acl("sales.orders", role) == {"SELECT"}


async def test_tables_that_come_and_go_all_the_time_lead_to_no_error(world: World) -> None:
    role = await world.role("role")
    await world.run(*SALES)
    grant = access_grant("g", [role], [tables("sales")], "Write", database=world.database)
    over = asyncio.Event()

    async def churn(number: int) -> None:
        async with await world.server.connect(world.database) as connection:
            while not over.is_set():
                # Before PostgreSQL 18 a GRANT locks no table, so an ALTER or DROP of somebody else may run into it.
                with suppress(psycopg.errors.InternalError_):
                    for statement in (
                        f"DROP TABLE IF EXISTS sales.c{number}, sales.d{number}",
                        f"CREATE TABLE sales.c{number} (id serial)",
                        f"ALTER TABLE sales.c{number} RENAME TO d{number}",
                    ):
                        await connection.execute(statement.encode())

    async def operate() -> None:
        try:
            for _ in range(15):
                await world.sync(grant)
        finally:
            over.set()

    await together(*(churn(number) for number in range(3)), operate())
    synced = await world.sync(grant)
    assert synced.said(grant) == (READY, Reason.SUCCEEDED)
    await assert_the_ledger_agrees(world, [role])


async def test_what_is_tried_once_more_holds_no_lock_on_what_was_done_before(world: World) -> None:
    """Else it might wait for a DROP that waits for what was done: before PostgreSQL 18, the one who drops would be the victim."""
    role, other = await world.role("role"), await world.role("other")
    await world.run(
        "CREATE SCHEMA sales", "CREATE TABLE sales.comes (id int)", "CREATE TABLE sales.stays (id int)"
    )
    grant = access_grant("g", [role], [tables("sales")], database=world.database)
    await world.sync()

    async def go() -> None:
        await world.run("DROP TABLE sales.comes", "CREATE TYPE sales.comes AS (id int)")

    async def come() -> None:
        await world.run("DROP TYPE sales.comes", "CREATE TABLE sales.comes (id int)")

    async def change_the_other() -> None:
        await world.run(
            "SET lock_timeout = 1", "GRANT INSERT ON sales.stays TO {r}", "RESET lock_timeout", r=other
        )

    grants = "GRANT SELECT ON"  # both at once, both again, each alone; then what is left
    with (
        Before(world, grants, go),
        Before(world, grants, come, earlier=3),
        Before(world, grants, change_the_other, earlier=4),
    ):
        synced = await world.sync(grant)
    assert synced.said(grant) == (READY, Reason.SUCCEEDED)
    assert await world.acl("sales.stays", other) == {"INSERT"}  # done in the middle, without waiting
    assert await world.acl("sales.stays", role) == {"SELECT"}
    assert await world.acl("sales.comes", role) == {"SELECT"}
    await assert_the_ledger_agrees(world, [role])


async def test_a_schema_made_by_two_operators_at_once_for_the_ledger_is_made_once(world: World) -> None:
    roles = [await world.role(f"r{number}") for number in range(4)]
    await world.run(*SALES)
    grants = [access_grant("g", [role], [tables("sales")], database=world.database) for role in roles]
    await together(*(world.sync(grant, owner=f"team/{number}") for number, grant in enumerate(grants)))
    assert await world.value("SELECT count(*) FROM lakebase_operator.version") == 1
    await assert_the_ledger_agrees(world, roles)


# -- what happens between passes, and in the middle of one ----------------------------------------------------------


@pytest.mark.requirement("R-176")
async def test_a_deadlock_with_somebody_who_grants_the_other_way_round_is_tried_again_and_not_told(
    world: World,
) -> None:
    role, other = await world.role("role"), await world.role("other")
    await world.run("CREATE SCHEMA sales", "CREATE TABLE sales.a (id int)", "CREATE TABLE sales.b (id int)")
    grant = access_grant("g", [role], [tables("sales")], database=world.database)
    await world.sync()
    async with await world.server.connect(world.database) as rival:
        give = sql.SQL("GRANT INSERT ON sales.{} TO {}")
        await rival.execute("BEGIN")
        await rival.execute(give.format(sql.Identifier("b"), sql.Identifier(other)))

        async def cross() -> None:
            await until(somebody_waits_for_a_lock(world))  # the operator has a, and waits for b
            await rival.execute(give.format(sql.Identifier("a"), sql.Identifier(other)))
            await rival.execute("COMMIT")

        synced, _ = await asyncio.gather(world.sync(grant), cross())
    assert synced.said(grant) == (READY, Reason.SUCCEEDED)
    assert [text for text in world.errors() if "deadlock" in text]
    assert await world.acl("sales.a", role) == await world.acl("sales.b", role) == {"SELECT"}
    assert await world.acl("sales.a", other) == await world.acl("sales.b", other) == {"INSERT"}
    await assert_the_ledger_agrees(world, [role])


async def test_a_schema_renamed_between_comparing_and_granting_holds_nothing_up(world: World) -> None:
    role = await world.role("role")
    await world.run(*SALES, "CREATE SCHEMA hr", "CREATE TABLE hr.people (id int)")
    grant = access_grant("g", [role], [tables("hr"), tables("sales")], database=world.database)

    async def rename() -> None:
        await world.run("ALTER SCHEMA sales RENAME TO trade")

    with Before(world, "GRANT SELECT", rename):
        synced = await world.sync(grant)
    assert synced.said(grant) == (READY, Reason.SUCCEEDED)
    assert await world.acl("hr.people", role) == {"SELECT"}
    synced = await world.sync(grant)
    assert synced.said(grant) == (READY, Reason.SUCCEEDED)
    assert await world.acl("trade.orders", role) == set()
    assert await world.schema_acl("trade", role) == set()
    await assert_the_ledger_agrees(world, [role])


async def test_a_database_dropped_between_passes_is_told_as_missing_and_forgotten(world: World) -> None:
    role, elsewhere = await world.role("role"), await world.another_database()
    await world.run(*SALES)
    on_sales = access_grant("sales", [role], [tables("sales")], database=world.database)
    on_database = access_grant(
        "elsewhere", [role], [databases(elsewhere)], database=world.database, privileges=["TEMPORARY"]
    )
    await world.sync(on_sales, on_database)
    assert await world.database_acl(role, elsewhere) == {"TEMPORARY"}
    await world.run("DROP DATABASE {d} WITH (FORCE)", d=elsewhere)
    synced = await world.sync(on_sales, on_database)
    assert synced.said(on_sales) == (READY, Reason.SUCCEEDED)
    assert synced.said(on_database) == (WAITING, Reason.OBJECT_MISSING)
    assert elsewhere in synced.issues(on_database)[0]["object"]
    await assert_the_ledger_agrees(world, [role])
    assert not (await world.sync(on_sales, on_database)).writes
