"""Whatever breaks in the middle: nothing half-done, the ledger right, and the next pass goes on by itself."""

import asyncio

import psycopg
import pytest

from lakebase_operator.api import AccessGrant, Reason
from lakebase_operator.domain.errors import LakebaseError, TransientError
from lakebase_operator.external.postgres.grants import create_ledger
from tests.postgres.conftest import VERSIONS
from tests.postgres.meddling import (
    Before,
    KilledBefore,
    assert_the_ledger_agrees,
    entries,
    ledger_entries,
    terminate,
    until,
)
from tests.postgres.objects import access_grant, tables
from tests.postgres.world import READY, STALLED, World

MEMBERS = """
SELECT member, admin_option, inherit_option, set_option
FROM pg_auth_members WHERE roleid = (SELECT oid FROM pg_roles WHERE rolname = %s)
"""
SALES = ("CREATE SCHEMA sales", "CREATE TABLE sales.orders (id serial)", "CREATE TABLE sales.lines (id int)")


def first_and_second(world: World, alice: str, bob: str) -> tuple[AccessGrant, AccessGrant]:
    """Two versions of one AccessGrant; from one to the other something is granted and something revoked."""
    return (
        access_grant("g", [alice], [tables("sales")], "Write", database=world.database),
        access_grant("g", [alice, bob], [tables("sales", "orders")], "Read", database=world.database),
    )


def states(world: World, alice: str, bob: str, owner: str) -> tuple[list[AccessGrant], list[AccessGrant]]:
    """Two states that differ in every kind of statement: on tables, schemas and columns, of default privileges, of grant
    options, and of what is to be absent."""
    here = world.database
    defaults = {"defaultPrivileges": {"creator": owner, "objectType": "tables", "schema": "sales"}}
    orders, lines = tables("sales", "orders"), tables("sales", "lines")

    def columns(*names: str) -> AccessGrant:
        one = tables("sales", "lines", columns=list(names))
        return access_grant("columns", [bob], [one], database=here)

    first, second = first_and_second(world, alice, bob)
    return (
        [
            first, columns("id"),
            access_grant("d", [bob], [defaults], "Read", database=here),
            access_grant("o", [bob], [orders], database=here, privileges=["TRIGGER"], grantOption=True),
        ],
        [
            second, columns("a"),
            access_grant("d", [alice], [defaults], "Write", database=here),
            access_grant("o", [bob], [orders], database=here, privileges=["TRIGGER"]),
            access_grant("h", [alice, bob], [lines], database=here, privileges=["SELECT", "DELETE"], ensure="Absent"),
        ],
    )  # fmt: skip


@pytest.mark.timeout(300)
async def test_a_session_ended_at_any_moment_leaves_the_state_before_or_the_state_after(
    plain_world: World,
) -> None:
    """Back and forth between two states, the session ended before each round trip of the pass in turn.

    All round trips with the latest version, every third one with the other.
    """
    world = plain_world
    alice, bob, owner = await world.role("alice"), await world.role("bob"), await world.owned_role("owner")
    await world.run(
        "CREATE SCHEMA sales", "CREATE TABLE sales.orders (id serial)", "CREATE TABLE sales.lines (id int, a int)",
        "ALTER SCHEMA sales OWNER TO {o}",
        "ALTER TABLE sales.orders OWNER TO {o}",
        "ALTER TABLE sales.lines OWNER TO {o}",
        "GRANT CONNECT ON DATABASE {d} TO {op} WITH GRANT OPTION",
        o=owner, d=world.database, op=world.operator,
    )  # fmt: skip
    both = [alice, bob]
    declared, other = states(world, alice, bob, owner)
    await world.sync(*declared)
    there = await entries(world, both)
    synced = await world.sync(*other)
    assert {synced.said(grant) for grant in other} == {(READY, Reason.SUCCEEDED)}
    kinds = {" ".join(text.split()[:2]) for text in synced.changes}
    kinds |= {text.partition(" ON ")[0].split(" (")[0] for text in synced.changes}
    assert {"GRANT SELECT", "REVOKE GRANT", "REVOKE SELECT"} <= kinds
    assert any("DEFAULT PRIVILEGES" in text for text in synced.writes)
    held = await entries(world, both)
    members = await world.rows(MEMBERS, owner)
    number, step = 0, 1 if world.version == max(VERSIONS) else 3
    undisturbed = 0
    reasons: set[Reason] = set()
    while undisturbed < 2:
        with KilledBefore(world, number) as meddling:
            try:
                await world.sync(*declared)
            except TransientError as error:
                reasons.add(error.reason)
                assert meddling.killed
            except psycopg.OperationalError:  # while reading, where its caller says what it means
                assert meddling.killed
            else:
                assert not meddling.killed, number
                undisturbed += 1
        now = await entries(world, both)
        assert now in (held, there), number
        await assert_the_ledger_agrees(world, both)
        # To act for the owner, the operator makes itself a member of it; that never outlives the session.
        assert await world.rows(MEMBERS, owner) == members
        if now == held or number % 5 == 0:
            synced = await world.sync(*declared)
            assert {synced.said(grant) for grant in declared} == {(READY, Reason.SUCCEEDED)}
            assert await entries(world, both) == there
            await assert_the_ledger_agrees(world, both)
        declared, other, held, there = other, declared, there, held
        number += step
    assert number > 15
    assert reasons == {Reason.CONNECTION_LOST}


async def test_a_session_ended_while_the_ledger_is_made_leaves_all_of_it_or_nothing(world: World) -> None:
    role = await world.role("role")
    await world.run(*SALES)
    grant = access_grant("g", [role], [tables("sales")], database=world.database)
    with KilledBefore(world, -1) as whole:
        await world.sync(grant)
    for number in range(0, whole.trips, 1 if world.version == max(VERSIONS) else 3):
        await world.run(
            "DROP SCHEMA IF EXISTS lakebase_operator CASCADE",
            "SET ROLE databricks_superuser",
            "REVOKE ALL ON sales.orders, sales.lines FROM {r}",
            "REVOKE ALL ON SCHEMA sales FROM {r}",
            "REVOKE ALL ON DATABASE {d} FROM {r}",
            "RESET ROLE",
            r=role, d=world.database,
        )  # fmt: skip
        with KilledBefore(world, number), pytest.raises((LakebaseError, psycopg.OperationalError)):
            await world.sync(grant)
        await assert_the_ledger_agrees(world, [role])
        synced = await world.sync(grant)
        assert synced.said(grant) == (READY, Reason.SUCCEEDED), number
        await assert_the_ledger_agrees(world, [role])


async def test_a_session_ended_between_revoking_and_granting_leaves_nobody_with_less(world: World) -> None:
    alice, bob = await world.role("alice"), await world.role("bob")
    await world.run(*SALES)
    first, second = first_and_second(world, alice, bob)
    await world.sync(first)
    before = await entries(world, [alice, bob])

    async def end_all() -> None:
        for (pid,) in await world.rows(
            "SELECT pid FROM pg_stat_activity WHERE datname = %s AND usename = %s",
            world.database,
            world.operator,
        ):
            await terminate(world, pid)

    with Before(world, "GRANT ", end_all), pytest.raises(TransientError) as caught:
        await world.sync(second)
    assert caught.value.reason is Reason.CONNECTION_LOST
    assert "tried again" in caught.value.message
    assert await entries(world, [alice, bob]) == before
    await assert_the_ledger_agrees(world, [alice, bob])


async def test_a_batch_is_split_until_the_culprit_is_alone(world: World) -> None:
    roles = [await world.role(f"r{number}") for number in range(2)]
    await world.run(
        "CREATE SCHEMA sales", *(f"CREATE TABLE sales.t{number:02} (id int)" for number in range(32))
    )
    grant = access_grant("g", roles, [tables("sales")], database=world.database)

    async def drop() -> None:
        await world.run("DROP TABLE sales.t07")

    with Before(world, "GRANT SELECT ON TABLE", drop):
        synced = await world.sync(grant)
    tried = [text for text in synced.changes if text.startswith("GRANT SELECT ON TABLE")]
    # All at once, then halves of 32 objects, then of the two grantees: never one by one.
    assert len(tried) <= 1 + 2 * (5 + 1) + 1
    assert (
        len(
            {
                name
                for (name, _) in await world.rows(
                    "SELECT c.relname, x.grantee FROM pg_class c, aclexplode(c.relacl) x WHERE pg_get_userbyid(x.grantee) = ANY (%s)",
                    roles,
                )
            }
        )
        == 31
    )
    assert synced.said(grant) == (READY, Reason.SUCCEEDED)
    results = [(statement, result) for _, statement, result in await world.change_log() if result != "ok"]
    assert {statement for statement, _ in results} == {
        f'GRANT SELECT ON TABLE "sales"."t07" TO "{role}"' for role in roles
    }
    assert {result for _, result in results} == {"42P01"}
    await assert_the_ledger_agrees(world, roles)


async def test_an_object_that_the_database_refuses_is_told_alone_and_the_rest_is_granted(
    plain_world: World,
) -> None:
    world = plain_world
    role, owner = await world.role("role"), await world.owned_role("owner")
    shut_out = await world.owned_role("shut_out")
    await world.run(
        *SALES,
        "ALTER SCHEMA sales OWNER TO {o}",
        "ALTER TABLE sales.orders OWNER TO {o}",
        # It owns a table in a schema that it may not enter, so not even it can name it.
        "ALTER TABLE sales.lines OWNER TO {x}",
        "GRANT CONNECT ON DATABASE {d} TO {op} WITH GRANT OPTION",
        o=owner, x=shut_out, d=world.database, op=world.operator,
    )  # fmt: skip
    grant = access_grant("g", [role], [tables("sales")], database=world.database)
    synced = await world.sync(grant)
    assert synced.said(grant) == (STALLED, Reason.OBJECT_FAILED)
    (issue,) = synced.issues(grant)
    assert (issue["object"], issue["reason"]) == ("sales.lines", "ObjectFailed")
    assert "permission denied for schema sales" in issue["fix"]
    assert await world.acl("sales.orders", role) == {"SELECT"}
    await assert_the_ledger_agrees(world, [role])


async def test_a_failing_log_entry_or_ledger_row_undoes_the_grants_too(world: World) -> None:
    role = await world.role("role")
    await world.run(*SALES)
    await world.sync(access_grant("x", [role], [tables("sales", "lines")], database=world.database))
    before, said = await entries(world, [role]), await ledger_entries(world)
    await world.run("ALTER TABLE lakebase_operator.held ADD CONSTRAINT full_up CHECK (privilege <> 'INSERT')")
    with pytest.raises(LakebaseError):
        await world.sync(access_grant("x", [role], [tables("sales")], "Write", database=world.database))
    assert (await entries(world, [role]), await ledger_entries(world)) == (before, said)
    await world.run("ALTER TABLE lakebase_operator.held DROP CONSTRAINT full_up")
    await world.sync(access_grant("x", [role], [tables("sales")], "Write", database=world.database))
    await assert_the_ledger_agrees(world, [role])


async def test_a_statement_that_is_cancelled_ends_the_pass_and_nothing_remains(world: World) -> None:
    role = await world.role("role")
    await world.run(*SALES)
    async with world.session() as session:
        await create_ledger(session)
    await world.run(
        "CREATE FUNCTION public.slow() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN PERFORM pg_sleep(60); RETURN NEW; END'",
        "CREATE TRIGGER slow BEFORE INSERT ON lakebase_operator.change_log"
        " FOR EACH ROW EXECUTE FUNCTION public.slow()",
    )
    sleeper = f"FROM pg_stat_activity WHERE datname = '{world.database}' AND wait_event = 'PgSleep'"

    async def sleeping() -> bool:
        return bool(await world.value(f"SELECT count(*) {sleeper}"))

    async def cancel() -> None:
        await until(sleeping)
        await world.rows(f"SELECT pg_cancel_backend(pid) {sleeper}")

    grant = access_grant("g", [role], [tables("sales")], database=world.database)
    cancelling = asyncio.create_task(cancel())
    with pytest.raises(TransientError, match="canceling statement"):
        await world.sync(grant)
    await cancelling
    assert await entries(world, [role]) == set()
    assert not await world.ledger()
    await world.run("DROP TRIGGER slow ON lakebase_operator.change_log")
    synced = await world.sync(grant)
    assert synced.said(grant) == (READY, Reason.SUCCEEDED)
    await assert_the_ledger_agrees(world, [role])


@pytest.mark.requirement("R-201")
async def test_a_pass_with_nothing_to_do_only_reads_whatever_was_left_undone(strict_world: World) -> None:
    """Also where something cannot be granted, cannot be revoked, does not exist or was refused."""
    world = strict_world
    role, stranger = await world.role("role"), await world.role("stranger")
    await world.run(
        *SALES,
        "ALTER TABLE sales.lines OWNER TO {s}",
        "GRANT SELECT ON sales.lines TO {r}",
        s=stranger,
        r=role,
    )
    counts = set()
    for size in (1, 20, 60):
        grants = [
            access_grant(
                f"g{number}",
                [role],
                [tables("sales", "orders", "lines", f"absent{number}")],
                "Write",
                database=world.database,
            )
            for number in range(size)
        ]
        for _ in range(2):
            await world.sync(*grants)
        synced = await world.sync(*grants)
        assert not synced.writes
        assert not [text for text in synced.statements if not text.startswith(("SELECT", "WITH"))]
        counts.add(len(synced.statements))
    assert len(counts) == 1
