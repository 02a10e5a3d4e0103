"""``level: Superuser``: given and taken by SQL where the operator may, else through the Databricks API, else told."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from lakebase_operator.api import PostgresRole, Reason
from lakebase_operator.domain.errors import InvalidError, LakebaseError, TransientError
from lakebase_operator.external.databricks import Progress
from tests.postgres.objects import postgres_role
from tests.postgres.role_facts import memberships, role_ddl
from tests.postgres.world import READY, STALLED, WAITING, Synced, World, run

SUPERUSER = "databricks_superuser"


def application(world: World, level: str = "Superuser", **spec: Any) -> PostgresRole:
    return postgres_role(world.name("shop"), login=True, level=level, **spec)


async def is_superuser(world: World, role: PostgresRole) -> bool:
    return any(group == SUPERUSER for group, _, _ in await memberships(world, role.role_name))


def over_privileged(synced: Synced, role: PostgresRole) -> tuple[str, str]:
    found = synced.of(role).facts["OverPrivileged"]
    return found["status"], found["reason"]


@asynccontextmanager
async def group_on(world: World) -> AsyncIterator[None]:
    """A plain server that has such a role. Roles belong to the whole server, so it goes with the test."""
    await world.run(f"CREATE ROLE {SUPERUSER} NOLOGIN CREATEDB CREATEROLE BYPASSRLS")
    try:
        yield
    finally:
        async with await world.server.connect() as connection:
            await run(connection, f"DROP ROLE {SUPERUSER}")


@asynccontextmanager
async def admin_option(world: World) -> AsyncIterator[None]:
    """The operator has ADMIN option on databricks_superuser for as long as the test."""
    await world.run(f"GRANT {SUPERUSER} TO {{o}} WITH ADMIN TRUE", o=world.operator)
    try:
        yield
    finally:
        # What it gave goes first: it is the grantor.
        await world.run(f"REVOKE ADMIN OPTION FOR {SUPERUSER} FROM {{o}} CASCADE", o=world.operator)


@pytest.mark.requirement("R-112", "R-156")
async def test_specific_is_what_a_role_gets_that_says_nothing(world: World) -> None:
    role = postgres_role(world.name("shop"), login=True)
    assert role.spec.level == "Specific"
    synced = await world.sync(role)
    assert not await is_superuser(world, role)
    assert over_privileged(synced, role) == ("False", Reason.ORDINARY_ROLE)


@pytest.mark.requirement("R-110")
@pytest.mark.parametrize("way", ["ADMIN option", "superuser"])
async def test_it_is_given_by_sql_where_the_operator_may_and_taken_again(
    world: World, superuser_world: World, way: str
) -> None:
    found, context = (
        (world, admin_option(world))
        if way == "ADMIN option"
        else (superuser_world, group_on(superuser_world))
    )
    async with context:
        role = application(found)
        synced = await found.sync(role)
        assert synced.said(role) == (READY, Reason.SUCCEEDED), synced.of(role).message
        assert over_privileged(synced, role) == ("True", Reason.SUPERUSER_LEVEL)
        assert "spec.level asks for" in synced.of(role).facts["OverPrivileged"]["message"]
        ((group, _, options),) = await memberships(found, role.role_name)
        assert (group, options) == (SUPERUSER, "I")
        assert await found.allowed(role.role_name, "SELECT 1")
        assert not role_ddl(await found.sync(role))
        synced = await found.sync(application(found, "Specific"))
        assert not await is_superuser(found, role)
        (said,) = [one for one in synced.report.said() if one.facts]
        assert said.facts["OverPrivileged"]["status"] == "False"


@pytest.mark.requirement("R-110")
async def test_what_somebody_else_gave_is_left_and_told(world: World) -> None:
    async with admin_option(world):
        role = application(world, "Specific")
        await world.sync(role)
        await world.run(f"GRANT {SUPERUSER} TO {{r}}", r=role.role_name)
        synced = await world.sync(role)
        assert over_privileged(synced, role) == ("True", Reason.OVER_PRIVILEGED)
        wanted = application(world)
        synced = await world.sync(wanted)  # it is so already: nothing is given
        assert synced.said(wanted) == (READY, Reason.SUCCEEDED)
        assert over_privileged(synced, wanted) == ("True", Reason.SUPERUSER_LEVEL)
        synced = await world.sync(role)
        assert await is_superuser(world, role)
        assert over_privileged(synced, role) == ("True", Reason.OVER_PRIVILEGED)


@pytest.mark.requirement("R-148")
async def test_a_server_without_such_a_role_says_so(plain_world: World) -> None:
    role = application(plain_world)
    synced = await plain_world.sync(role)
    assert synced.said(role) == (STALLED, Reason.MISSING_DATABRICKS_SUPERUSER)
    assert "this server has no role databricks_superuser" in synced.of(role).message
    assert over_privileged(synced, role) == ("False", Reason.ORDINARY_ROLE)


@pytest.mark.requirement("R-148")
async def test_without_admin_option_and_without_an_api_the_statement_is_told(world: World) -> None:
    role = application(world)
    synced = await world.sync(role)
    assert synced.said(role) == (STALLED, Reason.MISSING_DATABRICKS_SUPERUSER)
    assert f'GRANT databricks_superuser TO "{role.role_name}"' in synced.of(role).message
    assert "oauthM2M" in synced.of(role).message
    assert over_privileged(synced, role) == ("False", Reason.ORDINARY_ROLE)
    # Somebody does as it says.
    await world.run(f"GRANT {SUPERUSER} TO {{r}}", r=role.role_name)
    synced = await world.sync(role)
    assert synced.said(role) == (READY, Reason.SUCCEEDED)
    assert over_privileged(synced, role) == ("True", Reason.SUPERUSER_LEVEL)


class ControlPlane:
    """A Databricks API that acts when it is told to: the real one is in tests/databricks and tests/cluster."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.asked: list[tuple[str, bool]] = []
        self.under_way: dict[str, tuple[str, bool]] = {}
        self.refuses: LakebaseError | None = None
        self.ends_with: LakebaseError | None = None

    def problem(self, role: str, *, member: bool) -> None:
        """Everything can be asked for."""

    async def set_superuser(self, role: str, *, member: bool) -> str | None:
        if self.refuses is not None:
            raise self.refuses
        self.asked.append((role, member))
        name = f"operations/{len(self.asked)}"
        self.under_way[name] = role, member
        return name

    async def follow(self, operation: str) -> Progress:
        return Progress(operation not in self.under_way, self.ends_with)

    async def finish(self) -> None:
        """Carry out what was asked for."""
        for role, member in self.under_way.values():
            verb, preposition = ("GRANT", "TO") if member else ("REVOKE", "FROM")
            await self.world.run(f"{verb} {SUPERUSER} {preposition} {{r}}", r=role)
        self.under_way.clear()


@pytest.fixture
def plane(world: World) -> ControlPlane:
    world.role_api = ControlPlane(world)
    return world.role_api


@pytest.mark.requirement("R-110", "R-111")
async def test_the_databricks_api_is_asked_once_and_the_operation_followed_from_pass_to_pass(
    world: World, plane: ControlPlane
) -> None:
    role = application(world)
    synced = await world.sync(role)
    assert synced.said(role) == (WAITING, Reason.PROGRESSING)
    assert world.deadlines  # it comes back by itself
    assert not await is_superuser(world, role)
    for _ in range(2):
        assert (await world.sync(role)).said(role) == (WAITING, Reason.PROGRESSING)
    assert plane.asked == [(role.role_name, True)]
    await plane.finish()
    synced = await world.sync(role)
    assert synced.said(role) == (READY, Reason.SUCCEEDED)
    assert over_privileged(synced, role) == ("True", Reason.SUPERUSER_LEVEL)
    assert not world.deadlines
    assert not world.operations
    # Back again, by the same way.
    specific = application(world, "Specific")
    synced = await world.sync(specific)
    assert synced.said(specific) == (WAITING, Reason.PROGRESSING)
    await plane.finish()
    synced = await world.sync(specific)
    assert synced.said(specific) == (READY, Reason.SUCCEEDED)
    assert over_privileged(synced, specific) == ("False", Reason.ORDINARY_ROLE)
    assert plane.asked == [(role.role_name, True), (role.role_name, False)]
    await world.sync(specific)
    assert len(plane.asked) == 2
    lines = [statement for _, statement, _ in await world.change_log() if statement.startswith("-- ask")]
    assert lines == [
        f'-- ask Databricks: GRANT databricks_superuser TO "{role.role_name}"',
        f'-- ask Databricks: REVOKE databricks_superuser FROM "{role.role_name}"',
    ]


@pytest.mark.requirement("R-111")
async def test_what_the_api_gave_is_known_after_a_restart_and_what_others_gave_is_not_taken(
    world: World, plane: ControlPlane
) -> None:
    role = application(world)
    await world.sync(role)
    world.operations.clear()  # a new process does not know its name
    await world.sync(role)
    assert len(plane.asked) == 2
    await plane.finish()
    await world.sync(role)
    await world.sync(application(world, "Specific"))
    assert plane.asked[-1] == (role.role_name, False)
    await plane.finish()
    await world.sync(application(world, "Specific"))
    # Now somebody else gives it.
    await world.run(f"GRANT {SUPERUSER} TO {{r}}", r=role.role_name)
    asked = len(plane.asked)
    specific = application(world, "Specific")
    synced = await world.sync(specific)
    assert over_privileged(synced, specific) == ("True", Reason.OVER_PRIVILEGED)
    assert len(plane.asked) == asked


@pytest.mark.requirement("R-111")
async def test_one_change_is_asked_for_at_a_time(world: World, plane: ControlPlane) -> None:
    roles = [postgres_role(world.name(one), level="Superuser") for one in ("first", "second")]
    synced = await world.sync(*roles)
    assert len(plane.asked) == 1
    assert sorted(synced.said(one)[1] for one in roles) == [Reason.CONTROL_PLANE_CONFLICT, Reason.PROGRESSING]
    await plane.finish()
    await world.sync(*roles)
    await plane.finish()
    synced = await world.sync(*roles)
    assert {synced.said(one) for one in roles} == {(READY, Reason.SUCCEEDED)}


@pytest.mark.requirement("R-111", "R-148")
@pytest.mark.parametrize(
    ("error", "perhaps_done"),
    [
        (TransientError(Reason.CONTROL_PLANE_CONFLICT, "Another operation runs."), False),
        (InvalidError(Reason.CONTROL_PLANE_DENIED, "It may not."), False),
        (InvalidError(Reason.CONTROL_PLANE_ERROR, "It is a bad request."), False),
        (TransientError(Reason.CONTROL_PLANE_UNREACHABLE, "No answer."), True),
    ],
)
async def test_what_the_api_answers_is_told_and_tried_again(
    world: World, plane: ControlPlane, error: LakebaseError, perhaps_done: bool
) -> None:
    role = application(world)
    plane.refuses = error
    synced = await world.sync(role)
    passes = isinstance(error, TransientError)
    assert synced.said(role) == (WAITING if passes else STALLED, error.reason)
    assert synced.of(role).message == f"spec.level: {error.message}"
    assert bool(world.deadlines) is passes
    # What was refused was not given: if somebody else gives it now, it is theirs.
    await world.run(f"GRANT {SUPERUSER} TO {{r}}", r=role.role_name)
    plane.refuses = None
    await world.sync(application(world, "Specific"))
    assert bool(plane.asked) is perhaps_done


async def test_an_operation_that_fails_is_told_and_asked_for_again(world: World, plane: ControlPlane) -> None:
    role = application(world)
    await world.sync(role)
    plane.under_way.clear()
    plane.ends_with = TransientError(Reason.CONTROL_PLANE_ERROR, "It did not work.")
    synced = await world.sync(role)
    assert synced.said(role) == (WAITING, Reason.CONTROL_PLANE_ERROR)
    plane.ends_with = None
    assert (await world.sync(role)).said(role) == (WAITING, Reason.PROGRESSING)
    assert len(plane.asked) == 2


async def test_what_an_operation_was_refused_and_somebody_else_gives_is_theirs(
    world: World, plane: ControlPlane
) -> None:
    role = application(world)
    await world.sync(role)
    plane.under_way.clear()
    plane.ends_with = InvalidError(Reason.CONTROL_PLANE_DENIED, "It may not.")
    await world.sync(role)
    await world.run(f"GRANT {SUPERUSER} TO {{r}}", r=role.role_name)
    await world.sync(application(world, "Specific"))
    assert len(plane.asked) == 1


async def test_other_memberships_of_the_role_are_made_right_after_the_api_has_overwritten_them(
    world: World, plane: ControlPlane
) -> None:
    """Whether the API takes away what SQL gave is not documented: what is declared is given again."""
    team = await world.owned_role("team", "NOLOGIN")
    role = application(world, memberOf=[{"role": team}])
    await world.sync(role)
    await plane.finish()
    await world.run("REVOKE {t} FROM {r} GRANTED BY {o}", t=team, r=role.role_name, o=world.operator)
    synced = await world.sync(role)
    assert synced.said(role) == (READY, Reason.SUCCEEDED)
    assert {group for group, _, _ in await memberships(world, role.role_name)} == {team, SUPERUSER}
