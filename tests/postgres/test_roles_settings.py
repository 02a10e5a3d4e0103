"""Settings of roles everywhere and in single databases, comments, validity: declared, changed, taken away, reported."""

from datetime import UTC, datetime

import psycopg
import pytest

from lakebase_operator.api import Reason
from lakebase_operator.api.lakebase_connection import UnmanagedAction, UnmanagedGrants
from lakebase_operator.reconcilers.grants import Policy
from tests.postgres.objects import postgres_role
from tests.postgres.role_facts import attributes, role_ddl, settings
from tests.postgres.world import READY, STALLED, WAITING, World

REPORT = Policy(unmanaged=UnmanagedGrants(action=UnmanagedAction.REPORT))
REVOKE = Policy(unmanaged=UnmanagedGrants(action=UnmanagedAction.REVOKE))


async def database_settings(world: World, role: str) -> dict[str, list[str]]:
    """Settings of a role in single databases."""
    rows = await world.rows(
        "SELECT d.datname, s.setconfig FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase"
        " WHERE s.setrole = %s::regrole",
        f'"{role}"',
    )
    return {database: sorted(found) for database, found in rows}


async def comment(world: World, role: str) -> str | None:
    found = await world.value("SELECT shobj_description(%s::regrole, 'pg_authid')", f'"{role}"')
    return None if found is None else str(found)


# -- in one database ---------------------------------------------------------------------------------------------------


async def test_settings_hold_in_the_database_that_they_are_declared_for(any_world: World) -> None:
    world = any_world
    here, other, name = world.database, await world.another_database(), world.name("app")
    role = postgres_role(
        name,
        login=True,
        settings={"work_mem": "4MB"},
        databaseSettings={
            here: {"work_mem": "8MB"},
            other: {"search_path": 'sales, "Odd"', "work_mem": "16MB"},
        },
    )
    synced = await world.sync(role)  # the other database is declared, so it need not be the connection's
    assert synced.said(role) == (READY, Reason.SUCCEEDED)
    assert await settings(world, name) == ["work_mem=4MB"]
    assert await database_settings(world, name) == {
        here: ["work_mem=8MB"],
        other: ['search_path=sales, "Odd"', "work_mem=16MB"],
    }
    async with world.login(name, other) as session:
        assert await (await session.execute("SHOW work_mem")).fetchone() == ("16MB",)
    assert synced.of(role).fields["databaseSettings"] == {
        here: ["work_mem"],
        other: ["search_path", "work_mem"],
    }
    assert not (await world.sync(role)).writes

    # What is not declared any more is reset; what somebody else set stays.
    await world.run("ALTER ROLE {r} IN DATABASE {d} SET lock_timeout TO '9s'", r=name, d=other)
    changed = postgres_role(name, databaseSettings={other: {"work_mem": "32MB"}})
    assert (await world.sync(changed)).said(changed) == (READY, Reason.SUCCEEDED)
    assert await database_settings(world, name) == {other: ["lock_timeout=9s", "work_mem=32MB"]}
    assert not (await world.sync(changed)).writes
    # Even after the database has got another name.
    await world.run("ALTER DATABASE {d} RENAME TO {n}", d=other, n=f"{other}_new")
    await world.sync(postgres_role(name))
    assert await database_settings(world, name) == {f"{other}_new": ["lock_timeout=9s"]}


async def test_a_database_that_does_not_exist_is_waited_for_and_the_rest_is_done(world: World) -> None:
    name = world.name("app")
    nowhere = f"{world.database}_later"
    role = postgres_role(
        name, databaseSettings={nowhere: {"work_mem": "8MB"}, world.database: {"work_mem": "8MB"}}
    )
    synced = await world.sync(role)
    assert synced.said(role) == (WAITING, Reason.DATABASE_NOT_FOUND)
    assert nowhere in synced.of(role).message
    assert await database_settings(world, name) == {world.database: ["work_mem=8MB"]}


async def test_a_list_of_names_means_what_the_server_would_read(world: World) -> None:
    name = world.name("app")
    await world.run('CREATE SCHEMA "Ärger"', 'CREATE TABLE "Ärger".things (id int)', "CREATE SCHEMA sales")
    role = postgres_role(name, login=True, settings={"search_path": "ÄRGER, Sales"})
    synced = await world.sync(role)
    assert synced.said(role) == (READY, Reason.SUCCEEDED)
    async with world.login(name) as session:
        declared = await (await session.execute("SHOW search_path")).fetchone()
        await session.execute("SET search_path TO ÄRGER, Sales")
        assert await (await session.execute("SHOW search_path")).fetchone() == declared
    assert not (await world.sync(role)).writes


# -- refused -----------------------------------------------------------------------------------------------------------


async def test_what_the_server_refuses_is_told_with_its_statement_and_the_rest_is_done(
    any_world: World,
) -> None:
    world = any_world
    name, group = world.name("app"), await world.owned_role("group", "NOLOGIN")
    role = postgres_role(
        name,
        settings={
            "log_statement": "all",
            "work_mem": "8MB",
            "statement_timeout": "soon",
            "is_superuser": "on",
            "a..b": "x",
        },
        databaseSettings={world.database: {"log_statement": "all", "lock_timeout": "5s"}},
        comment="For the app",
        memberOf=[{"role": group}],
    )
    synced = await world.sync(role)
    assert synced.said(role)[0] is STALLED
    told = {one["object"]: (one["reason"], one["fix"]) for one in synced.of(role).fields["issues"]}
    assert {thing: reason for thing, (reason, _) in told.items()} == {
        "setting log_statement": "PermissionDenied",
        f"setting log_statement in database {world.database}": "PermissionDenied",
        "setting statement_timeout": "InvalidSpec",
        "setting is_superuser": "InvalidSpec",
        "setting a..b": "InvalidSpec",
    }
    assert f'ALTER ROLE "{name}" SET "log_statement" TO \'all\'' in told["setting log_statement"][1]
    assert await settings(world, name) == ["work_mem=8MB"]
    assert await database_settings(world, name) == {world.database: ["lock_timeout=5s"]}
    assert await comment(world, name) == "For the app"
    assert synced.of(role).fields["memberOf"] == [group]
    assert synced.of(role).fields["settings"] == ["work_mem"]
    # The statement that was told works for somebody who may.
    await world.run(
        "ALTER ROLE {r} SET log_statement TO 'all'",
        "ALTER ROLE {r} IN DATABASE {d} SET log_statement TO 'all'",
        r=name, d=world.database,
    )  # fmt: skip
    fixed = role.model_copy(
        update={
            "spec": role.spec.model_copy(update={"settings": {"log_statement": "all", "work_mem": "8MB"}})
        }
    )
    assert (await world.sync(fixed)).said(fixed) == (READY, Reason.SUCCEEDED)


# -- unmanaged ---------------------------------------------------------------------------------------------------------


async def test_undeclared_settings_are_kept_reported_or_reset_in_managed_databases_only(
    any_world: World,
) -> None:
    world = any_world
    name, foreign = await world.owned_role("app"), await world.another_database()
    await world.run(
        "ALTER ROLE {r} SET lock_timeout TO '9s'",
        "ALTER ROLE {r} IN DATABASE {d} SET work_mem TO '8MB'",
        "ALTER ROLE {r} IN DATABASE {f} SET work_mem TO '8MB'",
        r=name, d=world.database, f=foreign,
    )  # fmt: skip
    role = postgres_role(name, settings={"statement_timeout": "5s"})
    await world.sync(role)
    reported = await world.sync(role, policy=REPORT)
    assert reported.said(role) == (READY, Reason.SUCCEEDED)
    assert [(one["object"], one["reason"]) for one in reported.of(role).fields["issues"]] == [
        ("setting lock_timeout", "Unmanaged"),
        (f"setting work_mem in database {world.database}", "Unmanaged"),
    ]
    assert reported.of(role).fields["unmanaged"] == 2
    assert not reported.writes
    revoked = await world.sync(role, policy=REVOKE)
    assert revoked.said(role) == (READY, Reason.SUCCEEDED)
    assert await settings(world, name) == ["statement_timeout=5s"]
    assert await database_settings(world, name) == {foreign: ["work_mem=8MB"]}
    assert revoked.of(role).fields["unmanaged"] == 0
    assert not (await world.sync(role, policy=REVOKE)).writes


# -- comments ----------------------------------------------------------------------------------------------------------


async def test_a_comment_is_set_changed_and_taken_away_and_one_by_others_stays(any_world: World) -> None:
    world = any_world
    name = world.name("app")
    for text in ("For the app", "It's the app's"):
        role = postgres_role(name, comment=text)
        assert (await world.sync(role)).said(role) == (READY, Reason.SUCCEEDED)
        assert await comment(world, name) == text
        assert not (await world.sync(role)).writes
    await world.sync(postgres_role(name))
    assert await comment(world, name) is None
    await world.run("COMMENT ON ROLE {r} IS 'theirs'", r=name)
    await world.sync(postgres_role(name))
    assert await comment(world, name) == "theirs"


# -- validity ----------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("R-12", "R-189")
async def test_who_declares_the_login_declares_its_validity(any_world: World) -> None:
    world = any_world
    name = await world.owned_role("app", "LOGIN VALID UNTIL '2040-01-01T00:00:00Z'")
    # Taken over without a word on its login: it keeps the date that it had.
    await world.sync(postgres_role(name))
    assert (await attributes(world, name))["validUntil"] == datetime(2040, 1, 1, tzinfo=UTC)
    role = postgres_role(name, login=True)
    synced = await world.sync(role)
    assert synced.said(role) == (READY, Reason.SUCCEEDED)
    assert role_ddl(synced) == [f"ALTER ROLE \"{name}\" VALID UNTIL 'infinity'"]
    assert not (await world.sync(role)).writes
    # A date that was declared and is not any more is lifted as well.
    await world.sync(postgres_role(name, login=True, attributes={"validUntil": "2030-01-01T00:00:00Z"}))
    assert (await attributes(world, name))["validUntil"] == datetime(2030, 1, 1, tzinfo=UTC)
    await world.sync(role)
    assert (
        await world.value("SELECT rolvaliduntil::text FROM pg_roles WHERE rolname = %s", name) == "infinity"
    )
    # Refused by adopt: false, it is left alone.
    theirs = await world.role("theirs", "LOGIN VALID UNTIL '2040-01-01T00:00:00Z'")
    refused = postgres_role(theirs, login=True, adopt=False)
    assert (await world.sync(refused)).said(refused) == (STALLED, Reason.ROLE_EXISTS)
    assert (await attributes(world, theirs))["validUntil"] == datetime(2040, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("zone", ["Pacific/Auckland", "America/St_Johns"])
@pytest.mark.parametrize(
    "until", ["9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "2030-06-01T12:00:00.5+02:00"]
)
async def test_a_date_is_set_once_wherever_the_server_is(world: World, zone: str, until: str) -> None:
    await world.run(f"ALTER DATABASE {{d}} SET timezone TO '{zone}'", d=world.database)
    role = postgres_role(world.name("app"), login=True, attributes={"validUntil": until})
    await world.sync(role)
    second = await world.sync(role)
    assert second.said(role) == (READY, Reason.SUCCEEDED)
    assert not second.writes


@pytest.mark.parametrize("lacking", [("superuser",), ("superuser", "commented", "database_settings")])
async def test_a_ledger_of_an_earlier_version_is_completed(world: World, lacking: tuple[str, ...]) -> None:
    name = world.name("app")
    await world.sync(postgres_role(name, settings={"work_mem": "8MB"}))
    await world.run("DROP TABLE lakebase_operator.platform_schemas")
    for column in lacking:
        await world.run("ALTER TABLE lakebase_operator.roles DROP COLUMN {c}", c=column)
    role = postgres_role(name, comment="known", platformSchema={"name": "app_own"})
    assert (await world.sync(role)).said(role) == (READY, Reason.SUCCEEDED)
    assert await settings(world, name) == []
    assert await comment(world, name) == "known"


async def test_a_role_that_the_operator_may_not_alter_is_told_all_its_statements(world: World) -> None:
    name = await world.role("theirs")
    role = postgres_role(
        name,
        comment="ours",
        settings={"work_mem": "8MB"},
        databaseSettings={world.database: {"work_mem": "9MB"}},
    )
    synced = await world.sync(role)
    assert synced.said(role) == (STALLED, Reason.NOT_ROLE_ADMIN)
    statements = synced.of(role).message.split("must run: ")[1].split("; ")
    assert len(statements) == 3
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        async with world.session() as session:
            await session.execute(statements[0].encode())
    await world.run(*statements)
    assert (await world.sync(role)).said(role) == (READY, Reason.SUCCEEDED)
