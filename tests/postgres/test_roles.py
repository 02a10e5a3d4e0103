"""Roles that PostgresRoles declare: made, taken over, altered, dropped, on real servers."""

import re
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from lakebase_operator.api import Reason
from lakebase_operator.api.postgres_role import RoleDeletionPolicy
from lakebase_sandbox.postgres import Identity, IdentityKind
from tests.postgres.objects import (
    access_grant,
    being_deleted,
    identity_role,
    postgres_role,
    tables,
)
from tests.postgres.role_facts import (
    attributes,
    exists,
    known_as,
    memberships,
    oid,
    own_memberships,
    reported,
    role_ddl,
    settings,
    with_spec,
)
from tests.postgres.world import READY, STALLED, WAITING, Declaration, World


def new_identity(world: World, text: str, kind: IdentityKind = IdentityKind.USER) -> str:
    """The name of a Databricks identity that only this test uses."""
    name = f"{text}-{world.tag}@example.com"
    identity = Identity(name, kind, str(uuid.uuid4().int % 10**10))
    world.server.set_identities([*world.server.identities, identity])
    return name


# -- making ------------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("R-11", "R-13")
async def test_a_declared_role_that_is_missing_is_made_and_the_second_pass_changes_nothing(
    any_world: World,
) -> None:
    world = any_world
    name = world.name("reader")
    role = postgres_role(
        name,
        login=True,
        attributes={"createDB": False, "inherit": True, "connectionLimit": 20},
        settings={"statement_timeout": "30s"},
    )
    first = await world.sync(role)
    assert first.said(role) == (READY, Reason.SUCCEEDED)
    # An ordinary role: in pg_roles, and thus in psql's \du.
    assert await attributes(world, name) == {
        "login": True,
        "createDB": False,
        "createRole": False,
        "bypassRLS": False,
        "inherit": True,
        "connectionLimit": 20,
        "validUntil": None,
    }
    status = first.of(role).fields
    assert (status["roleName"], status["oid"], status["created"]) == (name, await oid(world, name), True)
    async with world.login(name) as session:
        row = await (await session.execute("SHOW statement_timeout")).fetchone()
        assert row == ("30s",)
    second = await world.sync(role)
    assert second.said(role) == (READY, Reason.SUCCEEDED)
    assert not second.writes
    assert second.of(role).fields["created"] is True


async def test_a_plain_role_is_a_group_without_login_unless_asked(world: World) -> None:
    name = world.name("analysts")
    await world.sync(postgres_role(name))
    assert (await attributes(world, name))["login"] is False


async def test_a_role_dropped_by_hand_is_made_again_as_declared(any_world: World) -> None:
    world = any_world
    group, name = await world.owned_role("group", "NOLOGIN"), world.name("reader")
    role = postgres_role(name, login=True, settings={"statement_timeout": "30s"}, memberOf=[{"role": group}])
    await world.sync(role)
    before = await oid(world, name)
    await world.run("DROP ROLE {r}", r=name)
    again = await world.sync(role)
    assert again.said(role) == (READY, Reason.SUCCEEDED)
    assert await oid(world, name) != before
    assert again.of(role).fields["oid"] == await oid(world, name)
    assert again.of(role).fields["created"] is True
    assert await settings(world, name) == ["statement_timeout=30s"]
    assert await memberships(world, name) == {(group, world.operator, "IS")}
    assert await world.rows("SELECT role::bigint FROM lakebase_operator.roles") == [(await oid(world, name),)]
    assert not (await world.sync(role)).writes


@pytest.mark.requirement("R-81")
@pytest.mark.parametrize(
    "name",
    [
        "public",
        "PUBLIC",
        "None",
        "pg_reader",
        "PG_x",
        "databricks_superuser",
        "cloud_admin",
        "neon_superuser",
        "user",
    ],
)
async def test_a_reserved_name_is_refused_before_any_statement(world: World, name: str) -> None:
    role = with_spec(postgres_role("r"), role_name=name)
    synced = await world.sync(role)
    assert synced.said(role) == (STALLED, Reason.RESERVED_NAME)
    assert f'"{name}"' in synced.of(role).message
    assert not role_ddl(synced)
    assert (await world.sync(being_deleted(role))).dropped == {name: True}


@pytest.mark.requirement("R-81")
async def test_a_name_of_more_than_63_bytes_is_refused_and_never_cut_short(world: World) -> None:
    name = "ü" * 31 + "ab"  # 33 characters, 64 bytes
    role = with_spec(postgres_role("r"), role_name=name)
    synced = await world.sync(role)
    assert synced.said(role) == (STALLED, Reason.RESERVED_NAME)
    assert not await world.rows("SELECT FROM pg_roles WHERE rolname LIKE 'üüü%'")


@pytest.mark.requirement("R-179")
async def test_role_names_with_anything_in_them_work(any_world: World) -> None:
    world = any_world
    names = [
        world.name(text)
        for text in ('quo"te', "it's", "semi;colon", "Upper Case", "prüfung", "100%s", "-- x")
    ]
    roles = [
        known_as(
            postgres_role(
                name,
                login=True,
                settings={"statement_timeout": "5s"},
                memberOf=[{"role": names[0]}] if number else [],
            ),
            f"r{number}",
        )
        for number, name in enumerate(names)
    ]
    synced = await world.sync(*roles)
    assert [synced.said(role) for role in roles] == [(READY, Reason.SUCCEEDED)] * len(roles)
    for name in names[1:]:
        assert await memberships(world, name) == {(names[0], world.operator, "IS")}
    assert not (await world.sync(*roles)).writes
    gone = await world.sync(
        *(being_deleted(with_spec(role, deletion_policy=RoleDeletionPolicy.DROP)) for role in roles)
    )
    assert gone.dropped == dict.fromkeys(names, True)
    assert not [name for name in names if await exists(world, name)]


async def test_of_two_objects_for_one_role_the_older_holds(world: World) -> None:
    name = world.name("app")
    older = known_as(postgres_role(name, attributes={"connectionLimit": 5}), "older")
    younger = known_as(postgres_role(name, attributes={"connectionLimit": 9}), "younger", namespace="other")
    synced = await world.sync(older, younger)
    assert synced.said(older) == (READY, Reason.SUCCEEDED)
    assert synced.said(younger) == (STALLED, Reason.CONFLICTING_DECLARATIONS)
    assert "team/older" in synced.of(younger).message
    assert (await attributes(world, name))["connectionLimit"] == 5
    assert not (await world.sync(older, younger)).writes

    # The younger one goes: the role stays, whatever its policy. The older one goes: the younger holds.
    dropping = with_spec(younger, deletion_policy=RoleDeletionPolicy.DROP)
    assert (await world.sync(older, being_deleted(dropping))).dropped == {name: True}
    assert await exists(world, name)
    last = await world.sync(being_deleted(older), younger)
    assert last.said(younger) == (READY, Reason.SUCCEEDED)
    assert (await attributes(world, name))["connectionLimit"] == 9


async def test_one_role_that_cannot_be_made_does_not_hold_up_the_others(world: World) -> None:
    bad = postgres_role(world.name("bad"), attributes={"bypassRLS": True})
    good = postgres_role(world.name("good"))
    synced = await world.sync(bad, good)
    assert synced.said(bad) == (STALLED, Reason.PERMISSION_DENIED)
    assert synced.said(good) == (READY, Reason.SUCCEEDED)
    assert await exists(world, world.name("good"))


# -- taking over -------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("R-12")
async def test_a_role_that_exists_is_taken_over_without_losing_anything(any_world: World) -> None:
    world = any_world
    group, name = await world.role("group", "NOLOGIN"), world.name("existing")
    await world.run(
        "CREATE SCHEMA sales",
        "CREATE TABLE sales.orders (id int)",
        "CREATE ROLE {r} LOGIN CREATEDB BYPASSRLS NOINHERIT CONNECTION LIMIT 7 VALID UNTIL '2040-01-01' PASSWORD 'premade'",
        "ALTER ROLE {r} SET statement_timeout TO '12s'",
        "ALTER ROLE {r} IN DATABASE {d} SET work_mem TO '8MB'",
        "GRANT {g} TO {r} WITH ADMIN TRUE, INHERIT FALSE",
        "GRANT INSERT, UPDATE ON sales.orders TO {r} WITH GRANT OPTION",
        "COMMENT ON ROLE {r} IS 'made long ago'",
        r=name, g=group, d=world.database,
    )  # fmt: skip
    everything = (
        "SELECT to_jsonb(r), (SELECT jsonb_agg(s ORDER BY s.setdatabase) FROM pg_db_role_setting s WHERE s.setrole = r.oid),"
        " (SELECT jsonb_agg(to_jsonb(m) ORDER BY m.oid) FROM pg_auth_members m WHERE r.oid IN (m.member, m.roleid)),"
        " (SELECT relacl::text FROM pg_class WHERE oid = 'sales.orders'::regclass),"
        " shobj_description(r.oid, 'pg_authid') FROM pg_authid r WHERE r.rolname = %s"
    )
    before = await world.rows(everything, name)
    role = postgres_role(name)
    synced = await world.sync(role)
    assert synced.said(role) == (READY, Reason.SUCCEEDED)
    assert synced.of(role).fields["created"] is False
    assert await world.rows(everything, name) == before
    assert not role_ddl(synced)
    # Retain is the default: the object goes, the role stays as it was.
    assert (await world.sync(being_deleted(role))).dropped == {name: True}
    assert await world.rows(everything, name) == before


@pytest.mark.requirement("R-12")
async def test_taking_over_adds_what_is_declared_and_keeps_the_rest(any_world: World) -> None:
    world = any_world
    group, wanted = await world.role("group", "NOLOGIN"), await world.owned_role("wanted", "NOLOGIN")
    name = await world.owned_role("existing", "LOGIN CONNECTION LIMIT 7 VALID UNTIL '2040-01-01'")
    await world.run("GRANT {g} TO {r}", "ALTER ROLE {r} SET work_mem TO '8MB'", g=group, r=name)
    role = postgres_role(name, settings={"statement_timeout": "3s"}, memberOf=[{"role": wanted}])
    synced = await world.sync(role)
    assert synced.said(role) == (READY, Reason.SUCCEEDED)
    assert {edge[0] for edge in await memberships(world, name)} == {group, wanted}
    assert await settings(world, name) == ["statement_timeout=3s", "work_mem=8MB"]
    now = await attributes(world, name)
    assert now["connectionLimit"] == 7
    assert now["validUntil"] == datetime(2040, 1, 1, tzinfo=UTC)
    assert not any(text.startswith("ALTER ROLE") and "SET" not in text for text in synced.statements)


async def test_without_adopt_a_role_that_exists_is_refused_and_left_alone(world: World) -> None:
    name = await world.role("existing")
    role = postgres_role(name, adopt=False, attributes={"connectionLimit": 3}, deletionPolicy="Drop")
    synced = await world.sync(role)
    assert synced.said(role) == (STALLED, Reason.ROLE_EXISTS)
    assert not role_ddl(synced)
    assert (await attributes(world, name))["connectionLimit"] == -1


@pytest.mark.requirement("R-12")
async def test_a_role_that_was_refused_is_not_dropped_with_its_object(world: World) -> None:
    name = await world.owned_role("existing")
    role = postgres_role(name, adopt=False, deletionPolicy="Drop")
    synced = await world.sync(role)
    assert synced.said(role) == (STALLED, Reason.ROLE_EXISTS)
    gone = await world.sync(being_deleted(reported(role, synced)))
    assert gone.dropped == {name: True}
    assert await exists(world, name)


async def test_without_adopt_a_role_that_the_operator_made_stays_its_own(world: World) -> None:
    name = world.name("made")
    role = postgres_role(name, adopt=False, deletionPolicy="Drop")
    assert (await world.sync(role)).said(role) == (READY, Reason.SUCCEEDED)
    changed = postgres_role(name, adopt=False, attributes={"connectionLimit": 3}, deletionPolicy="Drop")
    synced = await world.sync(changed)
    assert synced.said(changed) == (READY, Reason.SUCCEEDED)
    assert (await attributes(world, name))["connectionLimit"] == 3
    assert (await world.sync(being_deleted(reported(changed, synced)))).dropped == {name: True}
    assert not await exists(world, name)


@pytest.mark.requirement("R-187")
async def test_a_role_of_somebody_else_takes_grants_but_its_alteration_is_refused_and_said(
    any_world: World,
) -> None:
    world = any_world
    owner = None if world.prepared else await world.owned_role("owner")
    await world.run("CREATE SCHEMA sales", "CREATE TABLE sales.orders (id int)")
    if owner:
        await world.run(
            "ALTER SCHEMA sales OWNER TO {o}", "ALTER TABLE sales.orders OWNER TO {o}",
            "GRANT CONNECT ON DATABASE {d} TO {op} WITH GRANT OPTION",
            o=owner, d=world.database, op=world.operator,
        )  # fmt: skip
    name = await world.role("theirs")
    role = postgres_role(name, attributes={"connectionLimit": 3}, deletionPolicy="Drop")
    grant = access_grant("g", [name], [tables("sales")], database=world.database)
    synced = await world.sync(role, grant)
    assert synced.said(role) == (STALLED, Reason.NOT_ROLE_ADMIN)
    assert f'ALTER ROLE "{name}" CONNECTION LIMIT 3' in synced.of(role).message
    assert synced.said(grant) == (READY, Reason.SUCCEEDED)
    assert await world.allowed(name, "SELECT * FROM sales.orders")
    assert not [text for text in role_ddl(synced) if name in text]

    # Dropping it is refused too, and said; Retain lets the object go.
    leaving = being_deleted(role)
    synced = await world.sync(leaving)
    assert synced.dropped == {name: False}
    assert synced.said(leaving) == (STALLED, Reason.NOT_ROLE_ADMIN)
    assert "deletionPolicy: Retain" in synced.of(leaving).message
    assert (await attributes(world, name))["login"] is True
    assert not await own_memberships(world, name)


async def test_a_superuser_is_never_dropped_by_an_operator_that_is_none(world: World) -> None:
    name = await world.role("boss", "SUPERUSER LOGIN")
    role = being_deleted(postgres_role(name, deletionPolicy="Drop"))
    synced = await world.sync(role)
    assert synced.dropped == {name: False}
    assert synced.said(role) == (STALLED, Reason.NOT_ROLE_ADMIN)
    assert not role_ddl(synced)


# -- attributes --------------------------------------------------------------------------------------------------------


async def test_only_attributes_that_differ_are_mentioned(any_world: World) -> None:
    world = any_world
    name = world.name("app")
    await world.sync(postgres_role(name, login=True, attributes={"connectionLimit": 20, "inherit": True}))
    changed = postgres_role(
        name, login=False, attributes={"connectionLimit": 20, "inherit": False, "createDB": False}
    )
    synced = await world.sync(changed)
    assert role_ddl(synced) == [f'ALTER ROLE "{name}" NOLOGIN NOINHERIT']
    now = await attributes(world, name)
    assert (now["login"], now["inherit"], now["connectionLimit"]) == (False, False, 20)
    # What is left out is left as it is.
    assert not (await world.sync(postgres_role(name))).writes
    assert (await attributes(world, name))["connectionLimit"] == 20


async def test_what_was_changed_by_hand_is_put_back(any_world: World) -> None:
    world = any_world
    name = world.name("app")
    role = postgres_role(name, login=True, attributes={"connectionLimit": 20}, settings={"work_mem": "8MB"})
    await world.sync(role)
    await world.run(
        "ALTER ROLE {r} NOLOGIN CONNECTION LIMIT 1", "ALTER ROLE {r} SET work_mem TO '1GB'", r=name
    )
    await world.sync(role)
    now = await attributes(world, name)
    assert (now["login"], now["connectionLimit"]) == (True, 20)
    assert await settings(world, name) == ["work_mem=8MB"]


async def test_the_connection_limit_is_set_changed_and_lifted(world: World) -> None:
    name = world.name("app")
    for limit in (2, 5, -1, 0):
        role = postgres_role(name, login=True, attributes={"connectionLimit": limit})
        assert (await world.sync(role)).said(role) == (READY, Reason.SUCCEEDED)
        assert (await attributes(world, name))["connectionLimit"] == limit
        assert not (await world.sync(role)).writes
    with pytest.raises(psycopg.OperationalError, match="too many connections for role"):
        async with world.login(name):
            pass


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "America/St_Johns", "Europe/Berlin"])
async def test_valid_until_is_a_moment_whatever_the_time_zone_of_the_server(world: World, zone: str) -> None:
    name = world.name("app")
    await world.run(f"ALTER DATABASE {{d}} SET TimeZone TO '{zone}'", d=world.database)
    moment = datetime(2031, 7, 1, 10, 30, tzinfo=UTC)
    role = postgres_role(name, attributes={"validUntil": "2031-07-01T12:30:00+02:00"})
    assert (await world.sync(role)).said(role) == (READY, Reason.SUCCEEDED)
    assert (await attributes(world, name))["validUntil"] == moment
    assert not (await world.sync(role)).writes
    later = postgres_role(name, attributes={"validUntil": "2031-07-02T10:30:00Z"})
    await world.sync(later)
    assert (await attributes(world, name))["validUntil"] == moment + timedelta(days=1)
    await world.run("ALTER ROLE {r} VALID UNTIL 'infinity'", r=name)
    await world.sync(later)
    assert (await attributes(world, name))["validUntil"] == moment + timedelta(days=1)


@pytest.mark.requirement("R-187")
async def test_an_attribute_that_the_operator_may_not_give_is_told(plain_world: World) -> None:
    world = plain_world
    name = world.name("app")
    await world.sync(postgres_role(name))
    role = postgres_role(name, attributes={"createDB": True})
    synced = await world.sync(role)
    assert synced.said(role) == (STALLED, Reason.PERMISSION_DENIED)
    assert (await attributes(world, name))["createDB"] is False


# -- settings ----------------------------------------------------------------------------------------------------------


async def test_settings_are_set_changed_and_reset_and_those_of_others_stay(any_world: World) -> None:
    world = any_world
    name = await world.owned_role("app")
    await world.run("ALTER ROLE {r} SET lock_timeout TO '9s'", r=name)
    role = postgres_role(name, settings={"statement_timeout": "30s", "search_path": 'sales, "Odd, One"'})
    await world.sync(role)
    assert await settings(world, name) == [
        "lock_timeout=9s",
        'search_path=sales, "Odd, One"',
        "statement_timeout=30s",
    ]
    assert not (await world.sync(role)).writes
    changed = postgres_role(name, settings={"STATEMENT_TIMEOUT": "1min"})
    synced = await world.sync(changed)
    assert await settings(world, name) == ["lock_timeout=9s", "statement_timeout=1min"]
    assert synced.of(changed).fields["settings"] == ["STATEMENT_TIMEOUT"]
    assert not (await world.sync(changed)).writes
    await world.sync(postgres_role(name))
    assert await settings(world, name) == ["lock_timeout=9s"]


@pytest.mark.parametrize(
    ("setting", "value"),
    [("no_such_setting", "1"), ("statement_timeout", "soon"), ("work_mem", "-5"), ("TimeZone", "Mars/Base")],
)
async def test_a_setting_that_cannot_be_is_the_users_to_change(
    world: World, setting: str, value: str
) -> None:
    name = world.name("app")
    bad = postgres_role(name, settings={setting: value, "lock_timeout": "1s"})
    synced = await world.sync(bad)
    assert synced.said(bad) == (STALLED, Reason.INVALID_SPEC)
    assert setting in synced.of(bad).message
    good = postgres_role(name, settings={"lock_timeout": "1s"})
    assert (await world.sync(good)).said(good) == (READY, Reason.SUCCEEDED)
    assert await settings(world, name) == ["lock_timeout=1s"]


async def test_a_setting_set_before_a_failure_is_known_as_ours(world: World) -> None:
    name = world.name("app")
    failing = postgres_role(name, settings={"lock_timeout": "1s", "zz.top": "x", "statement_timeout": "soon"})
    assert (await world.sync(failing)).said(failing)[0] is STALLED
    assert await settings(world, name) == ["lock_timeout=1s"]
    await world.sync(postgres_role(name))
    assert await settings(world, name) == []


# -- memberships -------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("R-22")
async def test_memberships_are_given_changed_and_taken_back_through_createrole(any_world: World) -> None:
    world = any_world
    group, other, name = world.name("group"), world.name("other"), world.name("member")
    groups = [postgres_role(group), postgres_role(other)]
    role = postgres_role(name, memberOf=[{"role": group}, {"role": other, "set": False}])
    synced = await world.sync(role, *groups)
    assert synced.said(role) == (READY, Reason.SUCCEEDED)
    assert await memberships(world, name) == {(group, world.operator, "IS"), (other, world.operator, "I")}
    assert synced.of(role).fields["memberOf"] == [group, other]
    assert not (await world.sync(role, *groups)).writes

    for options, letters in (
        ({"admin": True}, "AIS"),
        ({"admin": True, "inherit": False, "set": False}, "A"),
        ({"inherit": False}, "S"),
        ({"set": False}, "I"),
    ):
        role = postgres_role(name, memberOf=[{"role": group, **options}])
        assert (await world.sync(role, *groups)).said(role) == (READY, Reason.SUCCEEDED)
        assert await memberships(world, name) == {(group, world.operator, letters)}
        assert not (await world.sync(role, *groups)).writes

    await world.sync(postgres_role(name), *groups)
    assert await memberships(world, name) == set()
    assert world.errors() == []  # neither 0LP01 nor "permission denied to grant role"
    # ADMIN comes with making a role; the operator took nothing more for itself.
    assert {letters for _, _, letters in await own_memberships(world, group, other, name)} == {"A"}


async def test_memberships_by_others_are_left_alone(any_world: World) -> None:
    world = any_world
    group, extra = await world.owned_role("group", "NOLOGIN"), await world.role("extra", "NOLOGIN")
    name = await world.owned_role("member")
    boss = world.server.superuser
    await world.run("GRANT {g} TO {m} WITH ADMIN TRUE", "GRANT {x} TO {m}", g=group, x=extra, m=name)
    theirs = {(group, boss, "AIS"), (extra, boss, "IS")}
    assert await memberships(world, name) == theirs

    # What others gave is enough: nothing is added.
    role = postgres_role(name, memberOf=[{"role": group}])
    synced = await world.sync(role)
    assert synced.said(role) == (READY, Reason.SUCCEEDED)
    assert await memberships(world, name) == theirs
    # No longer declared: it is not ours to take back.
    await world.sync(postgres_role(name))
    assert await memberships(world, name) == theirs

    # What others gave is not enough: the operator's own comes beside it, and goes alone.
    await world.run("GRANT {g} TO {m} WITH ADMIN FALSE, SET FALSE, INHERIT TRUE", g=group, m=name)
    await world.sync(role)
    assert await memberships(world, name) == {
        (group, boss, "I"),
        (group, world.operator, "IS"),
        (extra, boss, "IS"),
    }
    await world.sync(postgres_role(name))
    assert await memberships(world, name) == {(group, boss, "I"), (extra, boss, "IS")}


async def test_a_membership_taken_away_by_hand_is_given_again(world: World) -> None:
    group, name = await world.owned_role("group", "NOLOGIN"), world.name("member")
    role = postgres_role(name, memberOf=[{"role": group}])
    await world.sync(role)
    await world.run("REVOKE {g} FROM {m} GRANTED BY {o}", g=group, m=name, o=world.operator)
    assert await memberships(world, name) == set()
    await world.sync(role)
    assert await memberships(world, name) == {(group, world.operator, "IS")}


@pytest.mark.requirement("R-140")
async def test_a_membership_and_a_grant_to_a_role_that_is_misspelled_name_those_that_are_near(
    world: World,
) -> None:
    near = await world.role("analysts", "NOLOGIN")
    role = postgres_role(world.name("member"), memberOf=[{"role": world.name("anlaysts")}])
    grant = access_grant("g", [world.name("anlaysts")], [tables("sales")], database=world.database)
    synced = await world.sync(role, grant)
    for one in (role, grant):
        assert synced.said(one) == (WAITING, Reason.ROLE_MISSING)
        assert f'Did you mean "{near}"?' in synced.of(one).message


async def test_a_membership_in_a_role_that_is_missing_waits_for_it(world: World) -> None:
    group, name = world.name("group"), world.name("member")
    role = postgres_role(name, memberOf=[{"role": group}])
    synced = await world.sync(role)
    assert synced.said(role) == (WAITING, Reason.ROLE_MISSING)
    assert group in synced.of(role).message
    assert "Did you mean" not in synced.of(role).message
    await world.run("CREATE ROLE {g}", "GRANT {g} TO {o} WITH ADMIN TRUE", g=group, o=world.operator)
    assert (await world.sync(role)).said(role) == (READY, Reason.SUCCEEDED)
    assert {edge[0] for edge in await memberships(world, name)} == {group}


@pytest.mark.requirement("R-22")
async def test_a_membership_in_a_role_of_others_is_told_with_the_statement_that_gives_it(
    any_world: World,
) -> None:
    world = any_world
    group, name = await world.role("group", "NOLOGIN"), world.name("member")
    role = postgres_role(name, memberOf=[{"role": group}])
    synced = await world.sync(role)
    assert synced.said(role) == (STALLED, Reason.NOT_ROLE_ADMIN)
    statement = f'GRANT "{group}" TO "{name}"'
    assert statement in synced.of(role).message
    assert not [text for text in world.errors() if "permission denied" in text]
    await world.run(statement)
    assert (await world.sync(role)).said(role) == (READY, Reason.SUCCEEDED)


async def test_memberships_through_a_group_of_administrators_are_given_and_taken_back(world: World) -> None:
    admins, group = await world.role("admins", "NOLOGIN"), await world.role("group", "NOLOGIN")
    name = world.name("member")
    await world.run(
        "GRANT {g} TO {a} WITH ADMIN TRUE", "GRANT {a} TO {o}", g=group, a=admins, o=world.operator
    )
    try:
        role = postgres_role(name, memberOf=[{"role": group}])
        assert (await world.sync(role)).said(role) == (READY, Reason.SUCCEEDED)
        assert await memberships(world, name) == {(group, admins, "IS")}
        assert not (await world.sync(role)).writes
        await world.sync(postgres_role(name))
        assert await memberships(world, name) == set()
    finally:
        await world.run("REVOKE {a} FROM {o}", a=admins, o=world.operator)


async def test_memberships_by_a_superuser_are_given_changed_and_taken_back(superuser_world: World) -> None:
    world = superuser_world
    group, name = await world.role("group", "NOLOGIN"), world.name("member")
    for options, letters in (({}, "IS"), ({"admin": True}, "AIS"), ({"set": False}, "I")):
        role = postgres_role(name, memberOf=[{"role": group, **options}])
        assert (await world.sync(role)).said(role) == (READY, Reason.SUCCEEDED)
        assert await memberships(world, name) == {(group, world.operator, letters)}
        assert not (await world.sync(role)).writes
    await world.sync(postgres_role(name))
    assert await memberships(world, name) == set()


async def test_admin_that_somebody_has_used_cannot_be_taken_back_and_is_told(world: World) -> None:
    group, name = await world.owned_role("group", "NOLOGIN"), await world.owned_role("member")
    friend = await world.role("friend")
    await world.sync(postgres_role(name, memberOf=[{"role": group, "admin": True}]))
    async with world.login(name) as session:
        await session.execute(f'GRANT "{group}" TO "{friend}"'.encode())
    role = postgres_role(name)
    synced = await world.sync(role)
    assert synced.said(role) == (STALLED, Reason.UNREVOCABLE)
    assert f'REVOKE "{group}" FROM "{friend}" GRANTED BY "{name}"' in synced.of(role).message
    assert not role_ddl(synced)
    assert await memberships(world, friend) == {(group, name, "IS")}
    # It stays known as ours, and goes as soon as it can.
    await world.run("REVOKE {g} FROM {f} GRANTED BY {m}", g=group, f=friend, m=name)
    assert (await world.sync(role)).said(role) == (READY, Reason.SUCCEEDED)
    assert await memberships(world, name) == set()


@pytest.mark.requirement("R-48")
async def test_nobody_gets_to_act_as_a_person(any_world: World) -> None:
    world = any_world
    await world.run("CREATE SCHEMA sales", "CREATE TABLE sales.orders (id int)")
    group, alice, bob = world.name("group"), world.name("alice"), world.name("bob")
    declared: list[Declaration] = [
        postgres_role(group),
        postgres_role(alice, login=True, memberOf=[{"role": group}]),
        postgres_role(bob, login=True, memberOf=[{"role": group, "admin": True}]),
        access_grant("g", [alice, bob], [tables("sales")], "Write", database=world.database),
    ]
    await world.sync(*declared)
    await world.sync(*declared[:3])
    acting = await world.rows(
        "SELECT pg_get_userbyid(member) FROM pg_auth_members"
        " WHERE pg_get_userbyid(roleid) = ANY(%s) AND (set_option OR inherit_option)",
        [alice, bob],
    )
    assert acting == []
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        async with world.login(world.operator) as session:
            await session.execute(f'SET ROLE "{alice}"'.encode())


# -- identities --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["User", "ServicePrincipal", "Group"])
async def test_the_role_of_an_identity_is_made_by_lakebase_and_bound_to_it(world: World, kind: str) -> None:
    spelling = {"User": "user", "ServicePrincipal": "service_principal", "Group": "group"}[kind]
    name = new_identity(world, "person", IdentityKind(spelling))
    role = identity_role(name, kind, attributes={"connectionLimit": 4}, settings={"work_mem": "8MB"})
    synced = await world.sync(role)
    assert synced.said(role) == (READY, Reason.SUCCEEDED)
    label = await world.value(
        "SELECT label FROM pg_shseclabel WHERE provider = 'databricks_auth' AND objoid = %s::regrole",
        f'"{name}"',
    )
    assert re.fullmatch(rf"id=\d+,type={spelling}", label)
    now = await attributes(world, name)
    assert (now["login"], now["connectionLimit"]) == (True, 4)
    assert await settings(world, name) == ["work_mem=8MB"]
    assert any("databricks_create_role" in text for text in synced.statements)
    assert not any(text.startswith("CREATE ROLE") for text in synced.statements)
    assert not (await world.sync(role)).writes


async def test_databricks_auth_is_installed_where_it_is_missing(world: World) -> None:
    await world.run("DROP EXTENSION databricks_auth")
    name = new_identity(world, "person")
    role = identity_role(name, "User")
    assert (await world.sync(role)).said(role) == (READY, Reason.SUCCEEDED)


async def test_an_identity_that_databricks_does_not_know_is_told_and_made_when_it_is_there(
    world: World,
) -> None:
    name = f"late-{world.tag}@example.com"
    role = identity_role(name, "User")
    synced = await world.sync(role)
    assert synced.said(role) == (STALLED, Reason.IDENTITY_NOT_FOUND)
    assert name in synced.of(role).message
    assert not await exists(world, name)
    new_identity(world, "late")
    assert (await world.sync(role)).said(role) == (READY, Reason.SUCCEEDED)


async def test_an_identity_of_another_kind_is_not_found(world: World) -> None:
    name = new_identity(world, "team", IdentityKind.GROUP)
    role = identity_role(name, "User")
    assert (await world.sync(role)).said(role) == (STALLED, Reason.IDENTITY_NOT_FOUND)


async def test_a_role_that_is_not_bound_to_its_identity_is_told_and_left_alone(world: World) -> None:
    plain, group = new_identity(world, "plain"), new_identity(world, "group", IdentityKind.GROUP)
    async with world.session() as connection:
        await connection.execute(f'CREATE ROLE "{plain}" LOGIN'.encode())
    await world.sync(identity_role(group, "Group"))
    first = identity_role(plain, "User", attributes={"connectionLimit": 4})
    second = identity_role(group, "User", attributes={"connectionLimit": 4})
    synced = await world.sync(first, second)
    assert synced.said(first) == (STALLED, Reason.IDENTITY_MISMATCH)
    assert "a plain role" in synced.of(first).message
    assert synced.said(second) == (STALLED, Reason.IDENTITY_MISMATCH)
    assert "GROUP" in synced.of(second).message
    assert (await attributes(world, plain))["connectionLimit"] == -1
    # Dropped by hand, it is made anew, bound to its identity.
    await world.run("DROP ROLE {r}", r=plain)
    assert (await world.sync(first)).said(first) == (READY, Reason.SUCCEEDED)


async def test_an_identity_on_a_server_that_is_no_lakebase_is_the_users_to_change(plain_world: World) -> None:
    name = f"person-{plain_world.tag}@example.com"
    role = identity_role(name, "User")
    synced = await plain_world.sync(role)
    assert synced.said(role) == (STALLED, Reason.INVALID_SPEC)
    assert not await exists(plain_world, name)


# -- one statement, one transaction ------------------------------------------------------------------------------------


@pytest.mark.requirement("R-184")
async def test_each_statement_about_roles_is_a_transaction_of_its_own(any_world: World) -> None:
    world = any_world
    owner = await world.owned_role("owner")
    await world.run(
        "CREATE SCHEMA sales",
        "CREATE TABLE sales.orders (id int)",
        "ALTER SCHEMA sales OWNER TO {o}",
        "ALTER TABLE sales.orders OWNER TO {o}",
        o=owner,
    )
    group, name = world.name("group"), world.name("reader")
    role = postgres_role(
        name, login=True, memberOf=[{"role": group}], settings={"work_mem": "8MB"}, deletionPolicy="Drop"
    )
    grant = access_grant("g", [name, group], [tables("sales")], database=world.database)
    synced = await world.sync(role, postgres_role(group), grant)
    assert any(text.startswith("GRANT SELECT ON") for text in synced.statements)
    ddl = role_ddl(synced)
    assert any(text.startswith("CREATE ROLE") for text in ddl)
    assert any(text.startswith("ALTER ROLE") for text in ddl)
    outside, inside = by_transaction(synced.statements)
    about = [text for text in ddl if name in text or group in text]
    together = [transaction for transaction in inside if any(text in about for text in transaction)]
    assert len(outside) + len(together) >= len(about)
    for transaction in together:
        # At most what the ledger remembers of a role that was made is in one transaction with it.
        assert len([text for text in transaction if text in about]) == 1
        others = [text for text in transaction if text not in about]
        assert all(text.startswith("INSERT INTO lakebase_operator.roles") for text in others)
    with_grants = [transaction for transaction in inside if any(" ON " in text for text in transaction)]
    assert with_grants

    # Dropping it, neither.
    last = await world.sync(being_deleted(role))
    outside, _ = by_transaction(last.statements)
    assert f'DROP ROLE "{name}"' in outside


def by_transaction(statements: Any) -> tuple[list[str], list[list[str]]]:
    """Statements outside of any transaction, and those of each transaction."""
    outside: list[str] = []
    inside: list[list[str]] = []
    open_ = False
    for text in statements:
        if text.startswith("BEGIN"):
            open_ = True
            inside.append([])
        elif text in ("COMMIT", "ROLLBACK"):
            open_ = False
        else:
            (inside[-1] if open_ else outside).append(text)
    return outside, inside


@pytest.mark.requirement("R-186")
async def test_granting_for_an_owner_that_the_operator_made_leaves_no_membership_behind(
    any_world: World,
) -> None:
    world = any_world
    owner, reader = await world.owned_role("owner"), await world.role("reader")
    await world.run("CREATE SCHEMA sales", "ALTER SCHEMA sales OWNER TO {o}", o=owner)
    async with world.login(owner) as session:
        await session.execute("CREATE TABLE sales.orders (id int)")
    if world.prepared:
        # Whatever Lakebase gives its superusers: here only the owner can grant.
        await world.run(
            "REVOKE ALL ON sales.orders FROM databricks_superuser CASCADE",
            "REVOKE ALL ON SCHEMA sales FROM databricks_superuser CASCADE",
        )
    await world.run("GRANT CONNECT ON DATABASE {d} TO {r}", d=world.database, r=reader)
    before = await own_memberships(world, owner)
    assert {letters for _, _, letters in before} == {"A"}
    grant = access_grant("g", [reader], [tables("sales")], database=world.database)
    synced = await world.sync(grant)
    assert await world.grantors("sales.orders", reader) == {("SELECT", owner)}
    assert (
        f'GRANT "{owner}" TO "{world.operator}" WITH ADMIN FALSE, INHERIT FALSE, SET TRUE'
        in synced.statements
    )
    assert await own_memberships(world, owner) == before

    # And the same in the other direction.
    await world.sync()
    assert await world.grantors("sales.orders", reader) == set()
    assert await own_memberships(world, owner) == before


@pytest.mark.requirement("R-186")
async def test_a_failure_in_between_leaves_no_membership_behind(any_world: World) -> None:
    world = any_world
    world.lock_timeout = 0.5
    owner, reader = await world.owned_role("owner"), await world.role("reader")
    await world.run("CREATE SCHEMA sales", "ALTER SCHEMA sales OWNER TO {o}", o=owner)
    async with world.login(owner) as session:
        await session.execute("CREATE TABLE sales.orders (id int)")
        await session.execute("CREATE TABLE sales.lines (id int)")
    if world.prepared:
        await world.run(
            "REVOKE ALL ON sales.orders, sales.lines FROM databricks_superuser CASCADE",
            "REVOKE ALL ON SCHEMA sales FROM databricks_superuser CASCADE",
        )
    before = await own_memberships(world, owner)
    await world.sync(postgres_role(world.name("first")))  # makes the ledger
    await world.run(
        "CREATE FUNCTION public.refuse() RETURNS event_trigger LANGUAGE plpgsql"
        " AS $$BEGIN RAISE EXCEPTION 'not today'; END$$",
        "CREATE EVENT TRIGGER refuse ON ddl_command_end WHEN TAG IN ('GRANT')"
        " EXECUTE FUNCTION public.refuse()",
    )
    grant = access_grant("g", [reader], [tables("sales")], database=world.database)
    synced = await world.sync(grant)
    assert synced.said(grant)[0] is not READY
    assert await world.acl("sales.orders", reader) == set()
    assert await own_memberships(world, owner) == before


@pytest.mark.requirement("R-186")
async def test_an_owner_administered_through_a_group_leaves_no_membership_behind(world: World) -> None:
    admins, owner = await world.role("admins", "NOLOGIN"), await world.role("owner")
    reader = await world.role("reader")
    await world.run("CREATE SCHEMA sales", "ALTER SCHEMA sales OWNER TO {o}", o=owner)
    async with world.login(owner) as session:
        await session.execute("CREATE TABLE sales.orders (id int)")
    await world.run(
        "REVOKE ALL ON sales.orders FROM databricks_superuser CASCADE",
        "REVOKE ALL ON SCHEMA sales FROM databricks_superuser CASCADE",
        "GRANT {o} TO {a} WITH ADMIN TRUE, INHERIT FALSE, SET FALSE",
        "GRANT {a} TO {op}",
        o=owner, a=admins, op=world.operator,
    )  # fmt: skip
    try:
        grant = access_grant("g", [reader], [tables("sales")], database=world.database)
        synced = await world.sync(grant)
        assert synced.said(grant) == (READY, Reason.SUCCEEDED)
        assert await world.grantors("sales.orders", reader) == {("SELECT", owner)}
        assert await own_memberships(world, owner) == set()
    finally:
        await world.run("REVOKE {a} FROM {op}", a=admins, op=world.operator)


# -- dropping ----------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("R-188")
async def test_retain_keeps_the_role_with_everything_it_has(any_world: World) -> None:
    world = any_world
    group, name = await world.owned_role("group", "NOLOGIN"), world.name("app")
    role = postgres_role(
        name, login=True, settings={"work_mem": "8MB"}, memberOf=[{"role": group}], deletionPolicy="Retain"
    )
    await world.sync(role)
    before = await attributes(world, name)
    synced = await world.sync(being_deleted(role))
    assert synced.dropped == {name: True}
    assert not role_ddl(synced)
    assert await attributes(world, name) == before
    assert await settings(world, name) == ["work_mem=8MB"]
    assert await memberships(world, name) == {(group, world.operator, "IS")}
    assert await world.rows("SELECT FROM lakebase_operator.roles") == []


@pytest.mark.requirement("R-188")
async def test_a_role_is_dropped_from_all_databases_and_what_it_owns_is_handed_over(any_world: World) -> None:
    world = any_world
    other = await world.another_database()
    name, heir, owner = world.name("app"), await world.owned_role("heir"), await world.owned_role("owner")
    role = postgres_role(name, login=True, deletionPolicy="Drop", reassignOwnedTo=heir)
    friend = await world.role("friend")
    await world.sync(role)
    for database in (world.database, other):
        async with await world.server.connect(database) as connection:
            for statement in (
                "CREATE FOREIGN DATA WRAPPER w",
                "CREATE SERVER w FOREIGN DATA WRAPPER w",
                f'CREATE USER MAPPING FOR "{name}" SERVER w',
                "CREATE SCHEMA app_things",
                f'ALTER SCHEMA app_things OWNER TO "{name}"',
                "CREATE TABLE app_things.mine (id serial)",
                f'ALTER TABLE app_things.mine OWNER TO "{name}"',
                "CREATE TABLE public.given (id int)",
                f'ALTER TABLE public.given OWNER TO "{owner}"',
                f'GRANT SELECT ON public.given TO "{name}" WITH GRANT OPTION',
                f'ALTER DEFAULT PRIVILEGES FOR ROLE "{name}" GRANT SELECT ON TABLES TO "{friend}"',
                f'ALTER ROLE "{name}" IN DATABASE "{database}" SET work_mem TO \'8MB\'',
            ):
                await connection.execute(statement.encode())
    synced = await world.sync(being_deleted(role))
    assert synced.dropped == {name: True}, [one.message for one in synced.report.said()]
    assert not await exists(world, name)
    for database in (world.database, other):
        for relation in ("app_things.mine", "app_things.mine_id_seq"):
            assert await world.value(
                "SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = %s::regclass", relation, database=database
            ) == heir  # fmt: skip
    assert {letters for _, _, letters in await own_memberships(world, heir)} == {"A"}


@pytest.mark.requirement("R-188")
async def test_what_somebody_else_granted_goes_as_well_where_the_operator_can_act_for_them(
    any_world: World,
) -> None:
    world = any_world
    owner, name = await world.owned_role("owner"), world.name("app")
    role = postgres_role(name, login=True, deletionPolicy="Drop")
    await world.sync(role)
    await world.run("CREATE SCHEMA sales", "ALTER SCHEMA sales OWNER TO {o}", o=owner)
    async with world.login(owner) as session:
        for statement in (
            "CREATE TABLE sales.orders (id int, note text)",
            "CREATE FUNCTION sales.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "CREATE TYPE sales.mood AS ENUM ('fine')",
            f'GRANT USAGE ON SCHEMA sales TO "{name}"',
            f'GRANT SELECT, UPDATE (note) ON sales.orders TO "{name}"',
            f'GRANT EXECUTE ON FUNCTION sales.f TO "{name}"',
            f'GRANT USAGE ON TYPE sales.mood TO "{name}"',
        ):
            await session.execute(statement.encode())
    synced = await world.sync(being_deleted(role))
    assert synced.dropped == {name: True}, [one.message for one in synced.report.said()]
    assert not await exists(world, name)
    assert {letters for _, _, letters in await own_memberships(world, owner)} == {"A"}


async def _passed_on(world: World) -> None:
    """A role that has let somebody else read a table is to be dropped."""
    owner, friend, name = await world.owned_role("owner"), await world.role("friend"), world.name("app")
    role = postgres_role(name, login=True, deletionPolicy="Drop")
    await world.sync(role)
    await world.run(
        "CREATE SCHEMA sales", "CREATE TABLE sales.orders (id int)", "CREATE TABLE sales.items (id int)",
        "ALTER SCHEMA sales OWNER TO {o}", "ALTER TABLE sales.orders OWNER TO {o}", "ALTER TABLE sales.items OWNER TO {o}",
        "GRANT USAGE ON SCHEMA sales TO {r}, {f}", "GRANT SELECT ON sales.items TO {r}",
        "GRANT SELECT ON sales.orders TO {r} WITH GRANT OPTION",
        "SET ROLE {r}", "GRANT SELECT ON sales.orders TO {f}", "RESET ROLE",
        o=owner, f=friend, r=name,
    )  # fmt: skip
    leaving = being_deleted(role)
    synced = await world.sync(leaving)
    assert synced.dropped == {name: False}
    assert synced.said(leaving) == (STALLED, Reason.ROLE_DROP_BLOCKED)
    assert synced.of(leaving).fields["dependencies"] == ["privileges for table sales.orders"]
    assert await world.allowed(friend, "SELECT * FROM sales.orders"), "that was not the operator's to take"
    await world.run(
        "REVOKE SELECT ON sales.orders FROM {r} CASCADE", r=name
    )  # somebody who knows what goes with it
    assert (await world.sync(leaving)).dropped == {name: True}


@pytest.mark.requirement("R-188")
async def test_what_a_role_has_passed_on_keeps_it_and_is_told(any_world: World) -> None:
    await _passed_on(any_world)


@pytest.mark.requirement("R-188")
async def test_a_superuser_does_not_take_what_a_role_has_passed_on_either(superuser_world: World) -> None:
    await _passed_on(superuser_world)


@pytest.mark.requirement("R-188")
async def test_a_role_that_owns_a_database_keeps_its_privileges_on_it_while_that_keeps_it(
    superuser_world: World,
) -> None:
    world = superuser_world
    other, name = await world.another_database(), world.name("app")
    role = postgres_role(name, login=True, deletionPolicy="Drop")
    await world.sync(role)
    await world.run(
        "ALTER DATABASE {d} OWNER TO {r}", "REVOKE CONNECT ON DATABASE {d} FROM PUBLIC", d=other, r=name
    )
    held = await world.database_acl(name, other)
    assert held >= {"CONNECT", "CREATE"}
    leaving = being_deleted(role)
    synced = await world.sync(leaving)
    assert synced.said(leaving) == (STALLED, Reason.ROLE_DROP_BLOCKED)
    assert synced.of(leaving).fields["dependencies"] == [f"owner of database {other}"]
    assert await world.database_acl(name, other) == held


@pytest.mark.requirement("R-188")
async def test_a_role_that_owns_something_is_not_dropped_and_its_object_says_what(any_world: World) -> None:
    world = any_world
    other = await world.another_database()
    name = world.name("app")
    role = postgres_role(name, login=True, deletionPolicy="Drop")
    await world.sync(role)
    await world.run(
        "CREATE SCHEMA sales", "CREATE TABLE sales.precious (id int)", "ALTER TABLE sales.precious OWNER TO {r}", r=name
    )  # fmt: skip
    async with await world.server.connect(other) as connection:
        await connection.execute(b"CREATE TABLE public.there (id int)")
        await connection.execute(f'ALTER TABLE public.there OWNER TO "{name}"'.encode())
    leaving = being_deleted(role)
    synced = await world.sync(leaving)
    assert synced.dropped == {name: False}
    assert synced.said(leaving) == (STALLED, Reason.ROLE_DROP_BLOCKED)
    listed = synced.of(leaving).fields["dependencies"]
    assert "owner of table sales.precious" in listed
    assert any(other in line for line in listed)
    assert "reassignOwnedTo" in synced.of(leaving).message
    assert await world.value("SELECT count(*) FROM sales.precious") == 0
    assert await world.value("SELECT count(*) FROM public.there", database=other) == 0
    assert {letters for _, _, letters in await own_memberships(world, name)} == {"A"}

    # Once they are handed over, the next pass drops it.
    await world.run("DROP TABLE sales.precious")
    async with await world.server.connect(other) as connection:
        await connection.execute(b"DROP TABLE public.there")
    assert (await world.sync(leaving)).dropped == {name: True}
    assert not await exists(world, name)


@pytest.mark.requirement("R-188")
async def test_what_somebody_granted_whom_the_operator_cannot_act_for_blocks_the_drop_and_is_listed(
    any_world: World,
) -> None:
    world = any_world
    name = world.name("app")
    role = postgres_role(name, login=True, deletionPolicy="Drop")
    await world.sync(role)
    await world.run("CREATE TABLE public.given (id int)", "GRANT SELECT ON public.given TO {r}", r=name)
    leaving = being_deleted(role)
    synced = await world.sync(leaving)
    assert synced.said(leaving) == (STALLED, Reason.ROLE_DROP_BLOCKED)
    assert synced.of(leaving).fields["dependencies"] == ["privileges for table public.given"]
    await world.run("REVOKE SELECT ON public.given FROM {r}", r=name)
    assert (await world.sync(leaving)).dropped == {name: True}


async def test_an_heir_that_does_not_exist_is_waited_for(world: World) -> None:
    name, heir = world.name("app"), world.name("heir")
    role = postgres_role(name, login=True, deletionPolicy="Drop", reassignOwnedTo=heir)
    await world.sync(role)
    leaving = being_deleted(role)
    synced = await world.sync(leaving)
    assert synced.dropped == {name: False}
    assert synced.said(leaving) == (WAITING, Reason.ROLE_MISSING)
    assert (await attributes(world, name))["login"] is True
    assert (await world.sync(leaving, postgres_role(heir))).dropped == {name: True}


async def test_sessions_of_a_role_that_is_dropped_end(world: World) -> None:
    name = world.name("app")
    role = postgres_role(name, login=True, deletionPolicy="Drop")
    await world.sync(role)
    async with world.login(name) as session:
        assert (await world.sync(being_deleted(role))).dropped == {name: True}
        with pytest.raises(psycopg.OperationalError):
            await session.execute("SELECT 1")
    assert not await exists(world, name)


async def test_dropping_a_role_that_is_gone_already_lets_the_object_go(world: World) -> None:
    role = postgres_role(world.name("never"), deletionPolicy="Drop")
    synced = await world.sync(being_deleted(role))
    assert synced.dropped == {role.role_name: True}
    assert not role_ddl(synced)


async def test_the_operator_does_not_drop_itself(world: World) -> None:
    role = being_deleted(postgres_role(world.operator, deletionPolicy="Drop"))
    synced = await world.sync(role)
    assert synced.dropped == {world.operator: False}
    assert synced.said(role) == (STALLED, Reason.NOT_ROLE_ADMIN)


@pytest.mark.requirement("R-188")
async def test_a_role_with_declared_grants_and_members_is_dropped_with_them(any_world: World) -> None:
    world = any_world
    owner = await world.owned_role("owner")
    await world.run("CREATE SCHEMA sales", "CREATE TABLE sales.orders (id int)",
                    "ALTER SCHEMA sales OWNER TO {o}", "ALTER TABLE sales.orders OWNER TO {o}", o=owner)  # fmt: skip
    group, member = world.name("group"), world.name("member")
    declared = postgres_role(group, deletionPolicy="Drop")
    one = postgres_role(member, login=True, memberOf=[{"role": group}])
    grant = access_grant("g", [group], [tables("sales")], database=world.database)
    await world.sync(declared, one, grant)
    assert await world.allowed(member, "SELECT * FROM sales.orders")
    synced = await world.sync(being_deleted(declared), one, grant)
    assert synced.dropped == {group: True}, [saying.message for saying in synced.report.said()]
    again = await world.sync(one, grant)
    assert again.said(one) == (WAITING, Reason.ROLE_MISSING)
    assert not await world.allowed(member, "SELECT * FROM sales.orders")


@pytest.mark.requirement("R-186", "R-188")
async def test_dropping_through_a_group_of_administrators_leaves_no_membership_behind(world: World) -> None:
    admins, name, heir = (
        await world.role("admins", "NOLOGIN"),
        await world.role("app"),
        await world.role("heir"),
    )
    owner = await world.role("owner")
    await world.run(
        "CREATE SCHEMA app_things",
        "ALTER SCHEMA app_things OWNER TO {r}",
        "CREATE TABLE public.given (id int)",
        "ALTER TABLE public.given OWNER TO {o}",
        "SET SESSION AUTHORIZATION {o}",
        "GRANT SELECT ON public.given TO {r}",
        "RESET SESSION AUTHORIZATION",
        "GRANT {r}, {h}, {o} TO {a} WITH ADMIN TRUE, INHERIT FALSE, SET FALSE",
        "GRANT {a} TO {op}",
        r=name, h=heir, o=owner, a=admins, op=world.operator,
    )  # fmt: skip
    try:
        role = postgres_role(name, deletionPolicy="Drop", reassignOwnedTo=heir)
        await world.sync(role)
        synced = await world.sync(being_deleted(role))
        assert synced.dropped == {name: True}, [one.message for one in synced.report.said()]
        assert await own_memberships(world, heir, owner) == set()
    finally:
        await world.run("REVOKE {a} FROM {op}", a=admins, op=world.operator)


@pytest.mark.requirement("R-188")
async def test_a_superuser_drops_roles_of_anybody(superuser_world: World) -> None:
    world = superuser_world
    name, heir = await world.role("app"), await world.role("heir")
    await world.run("CREATE SCHEMA sales", "CREATE TABLE sales.mine (id int)", "ALTER TABLE sales.mine OWNER TO {r}",
                    "GRANT USAGE ON SCHEMA sales TO {r}", r=name)  # fmt: skip
    role = postgres_role(name, deletionPolicy="Drop", reassignOwnedTo=heir)
    await world.sync(role)
    assert (await world.sync(being_deleted(role))).dropped == {name: True}
    assert await world.value(
        "SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = 'sales.mine'::regclass"
    ) == heir  # fmt: skip


# -- the change log ----------------------------------------------------------------------------------------------------


@pytest.mark.requirement("R-207")
async def test_the_change_log_tells_what_was_done_to_roles_and_what_failed(world: World) -> None:
    name = world.name("app")
    good = known_as(postgres_role(name, settings={"work_mem": "8MB"}), "app", generation=4)
    await world.sync(good)
    bad = known_as(postgres_role(name, settings={"work_mem": "no"}), "app", generation=5)
    await world.sync(bad)
    log = await world.change_log()
    assert ("PostgresRole/team/app@4", f'CREATE ROLE "{name}"', "ok") in log
    assert ("PostgresRole/team/app@4", f'ALTER ROLE "{name}" SET "work_mem" TO \'8MB\'', "ok") in log
    assert ("PostgresRole/team/app@5", f'ALTER ROLE "{name}" SET "work_mem" TO \'no\'', "22023") in log
