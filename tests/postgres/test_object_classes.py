"""Every class of object: a role logs in and does what was granted, and cannot before and after."""

from typing import Any

import psycopg
import pytest

from lakebase_operator.api import AccessGrant, Reason
from tests.postgres.object_classes import CASES, ONLY_SUPERUSERS, Case, S, can, entry_of, make, names
from tests.postgres.objects import PUBLIC, access_grant
from tests.postgres.world import READY, STALLED, World

OWNED = [case for case in CASES if case.id not in ONLY_SUPERUSERS]
SYSTEMS = [case for case in CASES if case.id in ONLY_SUPERUSERS]


def declared(world: World, case: Case, subject: str | dict[str, str], **more: Any) -> AccessGrant:
    return access_grant(
        case.id,
        [subject],
        [entry_of(case, world)],
        privileges=case.privileges,
        database=world.database,
        **more,
    )


def skip_unless_known(world: World, case: Case) -> None:
    if world.version < case.since:
        pytest.skip(f"PostgreSQL {world.version} does not have it")


async def attempts(world: World, case: Case, role: str, owner: str) -> list[bool]:
    return [await can(world, role, statement, owner) for statement in case.tries]


async def assert_it_works_and_ends(world: World, case: Case, owner: str) -> None:
    """Denied, granted, allowed, nothing to do, taken back, denied."""
    role = await world.role('Some "one"')
    grant = declared(world, case, role)
    everything, nothing = [True] * len(case.tries), [False] * len(case.tries)
    assert await attempts(world, case, role, owner) == nothing

    synced = await world.sync(grant)
    assert synced.said(grant) == (READY, Reason.SUCCEEDED), synced.of(grant).message
    assert synced.issues(grant) == []
    counts = synced.of(grant).fields["grants"]
    assert counts["wanted"] == counts["held"] >= len(case.privileges)
    assert await attempts(world, case, role, owner) == everything
    assert [await can(world, role, statement, owner) for statement in case.denied] == [False] * len(
        case.denied
    )

    assert not (await world.sync(grant)).writes
    await world.sync()
    assert await attempts(world, case, role, owner) == nothing
    assert not await world.ledger()
    assert not world.errors()


@pytest.mark.requirement("R-35", "R-174", "R-179", "R-201")
@pytest.mark.parametrize("case", OWNED, ids=str)
async def test_for_a_role_that_it_may_act_for_the_operator_grants_on_every_class(
    plain_world: World, case: Case
) -> None:
    skip_unless_known(plain_world, case)
    owner = await plain_world.owned_role('the "Owner"')
    await make(plain_world, owner, case)
    await assert_it_works_and_ends(plain_world, case, owner)


@pytest.mark.requirement("R-35")
@pytest.mark.parametrize("case", SYSTEMS, ids=str)
async def test_a_superuser_grants_on_what_belongs_to_the_system(superuser_world: World, case: Case) -> None:
    owner = await superuser_world.role("owner")
    await make(superuser_world, owner, case)
    try:
        await assert_it_works_and_ends(superuser_world, case, owner)
    finally:
        await superuser_world.run(*(text.replace("TAG", superuser_world.tag) for text in case.after))


@pytest.mark.requirement("R-171", "R-172")
@pytest.mark.parametrize("case", SYSTEMS, ids=str)
async def test_what_belongs_to_the_system_is_told_with_the_statement_that_its_owner_must_run(
    plain_world: World, case: Case
) -> None:
    world = plain_world
    role, owner = await world.role("role"), await world.role("owner")
    await make(world, owner, case)
    grant = declared(world, case, role)
    try:
        synced = await world.sync(grant)
        assert synced.said(grant) == (STALLED, Reason.UNGRANTABLE)
        assert await attempts(world, case, role, owner) == [False] * len(case.tries)
        assert not synced.changes
        assert not (await world.sync(grant)).writes
        issues = synced.issues(grant)
        assert {one["reason"] for one in issues} == {"Ungrantable"}
        assert {one["privilege"] for one in issues} == set(case.privileges)
        for one in issues:
            statement = one["fix"].removeprefix(f"As {world.server.superuser} run: ")
            assert statement != one["fix"]
            await world.admin.execute(statement.encode())
        synced = await world.sync(grant)
        assert synced.said(grant) == (READY, Reason.SUCCEEDED)
        assert await attempts(world, case, role, owner) == [True] * len(case.tries)
    finally:
        await world.run(*(text.replace("TAG", world.tag) for text in case.after))


TOGETHER = [
    case
    for case in CASES
    if case.id
    in {
        "column",
        "partitioned-table",
        "sequence",
        "all-overloads",
        "domain",
        "schema",
        "database",
        "language",
        "foreign-server",
        "large-object",
        "parameter",
        "tablespace",
    }
]
"""One of each class; none needs an object of another."""


@pytest.mark.requirement("R-35", "R-201", "R-203")
@pytest.mark.parametrize("everybody", [False, True], ids=["role", "public"])
async def test_one_pass_grants_on_all_classes_and_the_next_does_nothing(
    superuser_world: World, everybody: bool
) -> None:
    world = superuser_world
    role, owner = await world.role("role"), await world.role("owner")
    await make(world, owner, *TOGETHER)
    grants = [declared(world, case, PUBLIC if everybody else role) for case in TOGETHER]
    try:
        synced = await world.sync(*grants)
        assert {grant.metadata.name: synced.said(grant) for grant in grants} == {
            case.id: (READY, Reason.SUCCEEDED) for case in TOGETHER
        }
        for case in TOGETHER:
            assert await attempts(world, case, role, owner) == [True] * len(case.tries), case
        assert not (await world.sync(*grants)).writes
        synced = await world.sync()
        for case in TOGETHER:
            assert await attempts(world, case, role, owner) == [False] * len(case.tries), case
        assert not await world.ledger()
    finally:
        for case in TOGETHER:
            await world.run(*(text.replace("TAG", world.tag) for text in case.after))


@pytest.mark.requirement("R-35", "R-203")
async def test_on_a_lakebase_everything_that_belongs_to_roles_is_granted(world: World) -> None:
    together = [case for case in TOGETHER if case.id not in {*ONLY_SUPERUSERS, "database"}]
    role, owner = await world.role("role"), await world.owned_role("owner")
    await make(world, owner, *together)
    grants = [declared(world, case, role) for case in together]
    synced = await world.sync(*grants)
    for case, grant in zip(together, grants, strict=True):
        assert synced.said(grant) == (READY, Reason.SUCCEEDED), case
        assert await attempts(world, case, role, owner) == [True] * len(case.tries), case
    assert not (await world.sync(*grants)).writes
    await world.sync()
    for case in together:
        assert await attempts(world, case, role, owner) == [False] * len(case.tries), case


@pytest.mark.requirement("R-172", "R-174")
@pytest.mark.parametrize(
    "case", [one for one in SYSTEMS if one.id in ("language", "foreign-data-wrapper", "parameter")], ids=str
)
async def test_a_grant_option_at_hand_is_enough_where_the_operator_is_no_superuser(
    plain_world: World, case: Case
) -> None:
    world = plain_world
    owner = await world.role("owner")
    await make(world, owner, case)
    passing_on = {
        "language": "GRANT USAGE ON LANGUAGE plpgsql TO {operator} WITH GRANT OPTION",
        "foreign-data-wrapper": "GRANT USAGE ON FOREIGN DATA WRAPPER {wrapper} TO {operator} WITH GRANT OPTION",
        "parameter": "GRANT SET, ALTER SYSTEM ON PARAMETER log_parser_stats TO {operator} WITH GRANT OPTION",
    }
    try:
        await world.run(passing_on[case.id], **names(world, owner))
        await assert_it_works_and_ends(world, case, owner)
    finally:
        await world.run("REVOKE ALL ON PARAMETER log_parser_stats FROM {operator}", operator=world.operator)


# -- grant option --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "everything", ["table", "column", "sequence", "all-overloads", "domain", "foreign-server", "large-object"]
)
async def test_with_grant_option_the_role_can_pass_it_on_and_then_not_any_more(
    plain_world: World, everything: str
) -> None:
    world = plain_world
    (case,) = [one for one in CASES if one.id == everything]
    role, other = await world.role("role"), await world.role("other")
    owner = await world.owned_role("owner")
    await make(world, owner, case)
    grant = declared(world, case, role, grantOption=True)
    synced = await world.sync(grant)
    assert synced.said(grant) == (READY, Reason.SUCCEEDED)
    assert all(text.endswith("WITH GRANT OPTION") for text in synced.changes)
    assert not (await world.sync(grant)).writes
    onward = [
        text.replace(f'TO "{role}"', f'TO "{other}"').removesuffix(" WITH GRANT OPTION")
        for text in synced.changes
    ]
    assert [await can(world, role, statement) for statement in onward] == [True] * len(onward)

    # Without it: a plain grant stays.
    plain = declared(world, case, role)
    synced = await world.sync(plain)
    assert synced.said(plain) == (READY, Reason.SUCCEEDED)
    assert all(text.startswith("REVOKE GRANT OPTION FOR ") for text in synced.changes)
    assert await attempts(world, case, role, owner) == [True] * len(case.tries)
    async with world.login(role) as session:
        for statement in onward:  # PostgreSQL says GRANT, warns, and grants nothing
            try:
                await session.execute(statement.encode())
            except psycopg.errors.InsufficientPrivilege:
                await session.rollback()
    assert await attempts(world, case, other, owner) == [False] * len(case.tries)
    assert not (await world.sync(plain)).writes


async def test_a_grant_option_that_was_used_is_told_until_what_hangs_on_it_is_gone(
    plain_world: World,
) -> None:
    world = plain_world
    role, other, owner = await world.role("role"), await world.role("other"), await world.owned_role("owner")
    (case,) = [one for one in CASES if one.id == "sequence"]
    await make(world, owner, case)
    await world.sync(declared(world, case, role, grantOption=True))
    async with world.login(role) as session:
        await session.execute(f'GRANT USAGE ON SEQUENCE {S}."Numbers" TO "{other}"'.encode())

    plain = declared(world, case, role)
    for _ in range(2):
        synced = await world.sync(plain)
        assert synced.results[0].unrevocable
        assert await attempts(world, case, role, owner) == [True] * 3
        assert await can(world, other, case.tries[0])
    # Taken away altogether: what others hold by it keeps it, and that is told with the reason.
    over = declared(world, case, role, suspend=True)
    synced = await world.sync(over)
    assert synced.said(over) == (STALLED, Reason.DEPENDENT_PRIVILEGES)
    told = {(one["privilege"], one["reason"]) for one in synced.issues(over)}
    assert ("USAGE", "DependentPrivileges") in told
    assert all(privilege.startswith("USAGE") for privilege, _ in told)
    assert await attempts(world, case, role, owner) == [True, False, False]
    async with world.login(role) as session:
        await session.execute(f'REVOKE USAGE ON SEQUENCE {S}."Numbers" FROM "{other}"'.encode())
    synced = await world.sync(over)
    assert synced.said(over) == (READY, Reason.SUSPENDED)
    assert await attempts(world, case, role, owner) == [False] * 3
    assert not await world.ledger()
