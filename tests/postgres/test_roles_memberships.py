"""Memberships with several grantors: exact, in one pass, on real servers."""

import pytest

from lakebase_operator.api import PostgresRole, Reason
from lakebase_operator.api.lakebase_connection import UnmanagedAction, UnmanagedGrants
from lakebase_operator.reconcilers.grants import Policy
from tests.postgres.objects import being_deleted, postgres_role
from tests.postgres.role_facts import memberships, role_ddl
from tests.postgres.world import READY, STALLED, World

REPORT = Policy(unmanaged=UnmanagedGrants(action=UnmanagedAction.REPORT))
REVOKE = Policy(unmanaged=UnmanagedGrants(action=UnmanagedAction.REVOKE))


def issues(synced_fields: dict[str, object]) -> list[tuple[str, str]]:
    """(object, reason) of ``status.issues``."""
    listed = synced_fields["issues"]
    assert isinstance(listed, list)
    return [(one["object"], one["reason"]) for one in listed]


# -- one membership out of several edges -------------------------------------------------------------------------------


@pytest.mark.requirement("R-22")
async def test_what_several_grantors_give_together_is_one_membership(any_world: World) -> None:
    world = any_world
    group, name = await world.owned_role("group", "NOLOGIN"), await world.owned_role("member")
    friend, boss = await world.role("friend"), world.server.superuser
    await world.run(
        "GRANT {g} TO {f} WITH ADMIN TRUE",
        "GRANT {g} TO {m} WITH INHERIT TRUE, SET FALSE",
        "GRANT {g} TO {m} WITH INHERIT FALSE, SET TRUE GRANTED BY {f}",
        g=group, f=friend, m=name,
    )  # fmt: skip
    theirs = {(group, boss, "I"), (group, friend, "S")}
    role = postgres_role(name, memberOf=[{"role": group}])
    synced = await world.sync(role)
    assert synced.said(role) == (READY, Reason.SUCCEEDED)
    assert not role_ddl(synced)
    assert await memberships(world, name) == theirs

    # Together they lack ADMIN: the operator's own edge comes beside theirs, and goes alone.
    admin = postgres_role(name, memberOf=[{"role": group, "admin": True}])
    assert (await world.sync(admin)).said(admin) == (READY, Reason.SUCCEEDED)
    assert await memberships(world, name) == theirs | {(group, world.operator, "AIS")}
    await world.sync(postgres_role(name))
    assert await memberships(world, name) == theirs


async def test_each_edge_that_counts_as_the_operators_is_made_exact_once(world: World) -> None:
    """Two groups of administrators whose privileges the operator has: each has granted something else."""
    group, name = await world.role("group", "NOLOGIN"), await world.owned_role("member")
    admins = [await world.role(f"admins{number}", "NOLOGIN") for number in range(2)]
    for one in admins:
        await world.run(
            "GRANT {g} TO {a} WITH ADMIN TRUE", "GRANT {a} TO {o}", g=group, a=one, o=world.operator
        )
    try:
        await world.run(
            "GRANT {g} TO {m} WITH INHERIT TRUE, SET FALSE GRANTED BY {a}",
            "GRANT {g} TO {m} WITH ADMIN TRUE, INHERIT FALSE, SET TRUE GRANTED BY {b}",
            g=group, m=name, a=admins[0], b=admins[1],
        )  # fmt: skip
        role = postgres_role(name, memberOf=[{"role": group}])
        assert (await world.sync(role)).said(role) == (READY, Reason.SUCCEEDED)
        assert await memberships(world, name) == {(group, one, "IS") for one in admins}
        assert not (await world.sync(role)).writes
    finally:
        for one in admins:
            await world.run("REVOKE {a} FROM {o}", a=one, o=world.operator)


# -- unmanaged ---------------------------------------------------------------------------------------------------------


async def with_foreign_memberships(world: World) -> tuple[str, dict[str, str]]:
    """A managed role with memberships by others: the operator may SET ROLE to one grantor, administers another, and can act
    for neither the third nor the superuser."""
    name = await world.owned_role("member")
    grantors = {
        "becomes": await world.role("becomes"),
        "administers": await world.owned_role("administers"),
        "stranger": await world.role("stranger"),
    }
    await world.run("GRANT {b} TO {o} WITH INHERIT FALSE, SET TRUE", b=grantors["becomes"], o=world.operator)
    for key, grantor in grantors.items():
        group = await world.role(f"of_{key}", "NOLOGIN")
        await world.run(
            "GRANT {g} TO {x} WITH ADMIN TRUE", "GRANT {g} TO {m} GRANTED BY {x}", g=group, x=grantor, m=name
        )
    await world.run("GRANT {g} TO {m}", g=await world.role("of_boss", "NOLOGIN"), m=name)
    return name, grantors


async def test_undeclared_memberships_are_kept_or_reported_as_asked(any_world: World) -> None:
    world = any_world
    name, _ = await with_foreign_memberships(world)
    before = await memberships(world, name)
    role = postgres_role(name)
    kept = await world.sync(role)
    assert (kept.of(role).fields["issues"], kept.of(role).fields["unmanaged"]) == ([], None)
    reported = await world.sync(role, policy=REPORT)
    assert reported.said(role) == (READY, Reason.SUCCEEDED)
    assert sorted(issues(reported.of(role).fields)) == sorted(
        (f"membership in {group}", "Unmanaged") for group, _, _ in before
    )
    assert reported.of(role).fields["unmanaged"] == 4
    assert not role_ddl(reported)
    assert await memberships(world, name) == before


async def test_under_revoke_undeclared_memberships_go_as_their_grantor_or_are_told(any_world: World) -> None:
    world = any_world
    name, grantors = await with_foreign_memberships(world)
    own_before = await memberships(world, world.operator)
    role = postgres_role(name)
    synced = await world.sync(role, policy=REVOKE)
    boss = world.server.superuser
    left = {
        (world.name("of_stranger"), grantors["stranger"], "IS"),
        (world.name("of_boss"), boss, "IS"),
    }
    assert await memberships(world, name) == left
    assert synced.said(role) == (STALLED, Reason.UNREVOCABLE)
    told = {one["object"]: one["fix"] for one in synced.of(role).fields["issues"]}
    for group, grantor, _ in left:
        statement = f'REVOKE "{group}" FROM "{name}" GRANTED BY "{grantor}"'
        assert statement in told[f"membership in {group}"]
    assert synced.of(role).fields["unmanaged"] == 2
    # What the operator lent itself on the way is given back, and a second pass does not try again.
    assert await memberships(world, world.operator) == own_before
    assert not (await world.sync(role, policy=REVOKE)).writes
    # What was told can be run as it stands.
    for group, grantor, _ in left:
        await world.run("REVOKE {g} FROM {m} GRANTED BY {x}", g=group, m=name, x=grantor)
    assert (await world.sync(role, policy=REVOKE)).said(role) == (READY, Reason.SUCCEEDED)


async def test_under_revoke_what_others_give_beyond_the_declared_goes(any_world: World) -> None:
    world = any_world
    group, name = await world.role("group", "NOLOGIN"), await world.owned_role("member")
    grantor = await world.owned_role("grantor")
    await world.run(
        "GRANT {g} TO {x} WITH ADMIN TRUE",
        "GRANT {g} TO {m} WITH ADMIN TRUE GRANTED BY {x}",
        g=group, x=grantor, m=name,
    )  # fmt: skip
    role = postgres_role(name, memberOf=[{"role": group, "set": False}])
    synced = await world.sync(role, policy=REVOKE)
    assert synced.said(role) == (READY, Reason.SUCCEEDED)
    assert await memberships(world, name) == {(group, grantor, "I")}
    assert not (await world.sync(role, policy=REVOKE)).writes
    # Only for the roles that are asked for, and never with a list of schemas: memberships are in none.
    await world.run("GRANT {g} TO {m} WITH ADMIN TRUE GRANTED BY {x}", g=group, x=grantor, m=name)
    for narrow in ({"roles": [world.name("other")]}, {"schemas": ["sales"]}):
        elsewhere = Policy(unmanaged=UnmanagedGrants(action=UnmanagedAction.REVOKE, **narrow))
        assert not (await world.sync(role, policy=elsewhere)).writes


@pytest.mark.requirement("R-183")
async def test_what_comes_with_making_a_role_is_nobodys_to_declare_also_beside_a_declared_membership(
    any_world: World,
) -> None:
    world = any_world
    group, maker = world.name("group"), await world.owned_role("maker", "LOGIN CREATEROLE")
    async with world.login(maker) as session:
        await session.execute(f'CREATE ROLE "{group}"'.encode())
        await session.execute(f'GRANT "{group}" TO "{world.operator}" WITH ADMIN TRUE'.encode())
    role = postgres_role(maker, memberOf=[{"role": group}])
    declared = {(group, world.server.superuser, "A"), (group, world.operator, "IS")}
    for policy in (REPORT, REVOKE):
        synced = await world.sync(role, policy=policy)
        assert synced.said(role) == (READY, Reason.SUCCEEDED)
        assert (synced.of(role).fields["issues"], synced.of(role).fields["unmanaged"]) == ([], 0)
        assert await memberships(world, maker) == declared


async def test_under_revoke_what_was_passed_on_goes_from_the_leaves(any_world: World) -> None:
    world = any_world
    group = await world.owned_role("group", "NOLOGIN")
    names = [await world.owned_role(text) for text in ("a", "b", "c")]
    grantor = world.operator
    for one in names:
        async with world.login(grantor) as session:
            await session.execute(f'GRANT "{group}" TO "{one}" WITH ADMIN TRUE'.encode())
        grantor = one
    roles = [postgres_role(one) for one in names]
    synced = await world.sync(*roles, policy=REVOKE)
    assert [synced.said(role) for role in roles] == [(READY, Reason.SUCCEEDED)] * 3
    for one in names:
        assert await memberships(world, one) == set()
    assert world.errors() == []


# -- loops -------------------------------------------------------------------------------------------------------------


async def test_a_loop_is_refused_on_the_one_that_closes_it_and_the_others_go_on(any_world: World) -> None:
    world = any_world
    names = [world.name(text) for text in ("a", "b", "c")]
    roles = [
        postgres_role(one, memberOf=[{"role": other}], settings={"work_mem": "8MB"})
        for one, other in zip(names, [*names[1:], names[0]], strict=True)
    ]
    free = postgres_role(world.name("free"), memberOf=[{"role": names[0]}])
    synced = await world.sync(*roles, free)
    assert [synced.said(role) for role in (*roles[:2], free)] == [(READY, Reason.SUCCEEDED)] * 3
    assert synced.said(roles[2]) == (STALLED, Reason.MEMBERSHIP_LOOP)
    path = " is a member of ".join(f'"{one}"' for one in (names[2], *names))
    assert path in synced.of(roles[2]).message
    assert issues(synced.of(roles[2]).fields) == [(f"membership in {names[0]}", "MembershipLoop")]
    assert await memberships(world, names[2]) == set()
    assert synced.of(roles[2]).fields["settings"] == ["work_mem"]  # the rest of it is done
    assert world.errors() == []  # it was not tried
    assert not (await world.sync(*roles, free)).writes
    itself = postgres_role(names[0], memberOf=[{"role": names[0]}])
    assert (await world.sync(itself)).said(itself) == (STALLED, Reason.MEMBERSHIP_LOOP)


async def test_a_loop_through_roles_that_nobody_declares_is_seen(world: World) -> None:
    name, other = await world.owned_role("a", "NOLOGIN"), await world.role("b", "NOLOGIN")
    third = await world.owned_role("c", "NOLOGIN")
    await world.run("GRANT {a} TO {b}", "GRANT {b} TO {c}", a=name, b=other, c=third)
    role = postgres_role(name, memberOf=[{"role": third}])
    synced = await world.sync(role)
    assert synced.said(role) == (STALLED, Reason.MEMBERSHIP_LOOP)
    assert other in synced.of(role).message
    assert world.errors() == []


async def test_a_membership_may_be_turned_round_in_one_pass(any_world: World) -> None:
    world = any_world
    a, b = world.name("a"), world.name("b")
    await world.sync(postgres_role(a, memberOf=[{"role": b}]), postgres_role(b))
    turned = [postgres_role(b, memberOf=[{"role": a}]), postgres_role(a)]
    synced = await world.sync(*turned)
    assert [synced.said(role) for role in turned] == [(READY, Reason.SUCCEEDED)] * 2
    assert await memberships(world, a) == set()
    assert await memberships(world, b) == {(a, world.operator, "IS")}


# -- roles of the system -----------------------------------------------------------------------------------------------


async def test_roles_of_postgres_may_be_groups(world: World) -> None:
    """On a Lakebase, members of databricks_superuser may give pg_monitor, but not pg_read_all_data."""
    name = world.name("watcher")
    role = postgres_role(name, memberOf=[{"role": "pg_monitor"}, {"role": "pg_read_all_data"}])
    synced = await world.sync(role)
    assert {group for group, _, _ in await memberships(world, name)} == {"pg_monitor"}
    assert synced.said(role) == (STALLED, Reason.NOT_ROLE_ADMIN)
    assert f'GRANT "pg_read_all_data" TO "{name}"' in synced.of(role).message
    await world.sync(postgres_role(name))
    assert await memberships(world, name) == set()


async def test_a_superuser_gives_any_role_of_postgres(superuser_world: World) -> None:
    world = superuser_world
    name = world.name("reader")
    role = postgres_role(name, memberOf=[{"role": "pg_read_all_data"}])
    assert (await world.sync(role)).said(role) == (READY, Reason.SUCCEEDED)
    await world.run("GRANT pg_write_all_data TO {m}", m=name)
    synced = await world.sync(role, policy=REVOKE)
    assert synced.said(role) == (READY, Reason.SUCCEEDED)
    assert {group for group, _, _ in await memberships(world, name)} == {"pg_read_all_data"}


@pytest.mark.requirement("R-183", "R-190")
async def test_a_role_that_the_ui_made_is_told_as_over_privileged_and_its_membership_left_alone(
    world: World,
) -> None:
    name, through = await world.role("ui"), await world.role("through")
    await world.run("GRANT databricks_superuser TO {r}", "GRANT {r} TO {t}", r=name, t=through)
    before = await memberships(world, name)
    roles: list[PostgresRole] = [postgres_role(one) for one in (name, through, world.name("ordinary"))]
    synced = await world.sync(*roles, policy=REPORT)
    facts = [synced.of(role).facts["OverPrivileged"] for role in roles]
    assert [(fact["status"], fact["reason"]) for fact in facts] == [
        ("True", "OverPrivileged"),
        ("True", "OverPrivileged"),
        ("False", "OrdinaryRole"),
    ]
    assert f'through "{name}"' in facts[1]["message"]
    assert issues(synced.of(roles[0]).fields) == []
    synced = await world.sync(roles[0], policy=REVOKE)
    assert synced.said(roles[0]) == (READY, Reason.SUCCEEDED)
    assert await memberships(world, name) == before


async def test_memberships_go_with_a_role_that_is_dropped_whoever_granted_them(any_world: World) -> None:
    """Also those that it granted: PostgreSQL keeps a role that is somebody's grantor."""
    world = any_world
    group, name = await world.owned_role("group", "NOLOGIN"), world.name("member")
    friend = await world.role("friend")
    role = postgres_role(name, login=True, memberOf=[{"role": group, "admin": True}], deletionPolicy="Drop")
    await world.sync(role)
    async with world.login(name) as session:
        await session.execute(f'GRANT "{group}" TO "{friend}"'.encode())
    gone = await world.sync(being_deleted(role))
    assert gone.dropped == {name: True}
    assert await memberships(world, friend) == set()


@pytest.mark.requirement("R-188")
async def test_a_role_is_dropped_whatever_classes_of_objects_it_holds_privileges_on(
    plain_world: World,
) -> None:
    """By a grantor that the operator may become: DROP OWNED BY alone leaves them."""
    world = plain_world
    owner, name = await world.owned_role("owner"), world.name("leaving")
    role = postgres_role(name, deletionPolicy="Drop")
    await world.sync(role)
    await world.run(
        "CREATE SCHEMA sales",
        "CREATE FUNCTION sales.f() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
        "CREATE TYPE sales.mood AS ENUM ('good')",
        "CREATE FOREIGN DATA WRAPPER w",
        "CREATE SERVER s FOREIGN DATA WRAPPER w",
        "SELECT lo_create(4712)",
        "ALTER SCHEMA sales OWNER TO {o}",
        "ALTER FUNCTION sales.f() OWNER TO {o}",
        "ALTER TYPE sales.mood OWNER TO {o}",
        "GRANT USAGE ON FOREIGN DATA WRAPPER w TO {o} WITH GRANT OPTION",
        "ALTER SERVER s OWNER TO {o}",
        "ALTER LARGE OBJECT 4712 OWNER TO {o}",
        "GRANT SET ON PARAMETER log_statement TO {o} WITH GRANT OPTION",
        "GRANT USAGE ON LANGUAGE plpgsql TO {o} WITH GRANT OPTION",
        o=owner,
    )  # fmt: skip
    async with world.login(owner) as session:
        for on in (
            "ALL ON SCHEMA sales", "ALL ON FUNCTION sales.f()", "ALL ON TYPE sales.mood", "ALL ON FOREIGN SERVER s",
            "ALL ON FOREIGN DATA WRAPPER w", "ALL ON LARGE OBJECT 4712", "SET ON PARAMETER log_statement",
            "ALL ON LANGUAGE plpgsql",
        ):  # fmt: skip
            await session.execute(f'GRANT {on} TO "{name}"'.encode())
        await session.execute(
            f'ALTER DEFAULT PRIVILEGES FOR ROLE "{owner}" GRANT SELECT ON TABLES TO "{name}"'.encode()
        )
    before = await memberships(world, world.operator)
    gone = await world.sync(being_deleted(role))
    assert gone.dropped == {name: True}, gone.of(role).message
    assert await memberships(world, world.operator) <= before


@pytest.mark.requirement("R-186", "R-188")
async def test_a_membership_that_the_operator_keeps_outlives_what_it_lends_itself(plain_world: World) -> None:
    """SET on an owner, given by the operator to itself for good."""
    world = plain_world
    heir, name = await world.owned_role("heir"), world.name("leaving")
    async with world.session() as session:
        await session.execute(f'GRANT "{heir}" TO "{world.operator}" WITH INHERIT FALSE, SET TRUE'.encode())
    before = {edge for edge in await memberships(world, world.operator) if edge[0] == heir}
    role = postgres_role(name, deletionPolicy="Drop", reassignOwnedTo=heir)
    await world.sync(role)
    await world.run("CREATE SCHEMA sales", "ALTER SCHEMA sales OWNER TO {r}", r=name)
    assert (await world.sync(being_deleted(role))).dropped == {name: True}
    assert {edge for edge in await memberships(world, world.operator) if edge[0] == heir} == before
    assert (
        await world.value("SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = 'sales'") == heir
    )
