"""Random graphs of memberships by several grantors, random declarations, on real servers."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from lakebase_operator.api import PostgresRole, Reason
from lakebase_operator.api.lakebase_connection import UnmanagedAction, UnmanagedGrants
from lakebase_operator.reconcilers.grants import Policy
from tests.postgres.objects import postgres_role
from tests.postgres.role_facts import role_ddl
from tests.postgres.world import READY, Synced, World, run

ROLES = ("a", "b", "c", "d")
"""Roles that may be declared, and be members of each other. The operator has made the first three."""
GRANTORS = ("inherited", "settable", "administered", "stranger")
"""What the operator is to them; each has ADMIN option on some roles."""

role_names = st.sampled_from(ROLES)
options = st.tuples(st.booleans(), st.booleans(), st.booleans())


@dataclass(frozen=True)
class Scene:
    """What is there, and what is declared first and then."""

    admins: Sequence[tuple[str, str]]
    """(role, grantor): the grantor has ADMIN option on the role."""
    granted: Sequence[tuple[str, str, str, tuple[bool, bool, bool]]]
    """(role, member, grantor, options), in this order; what PostgreSQL refuses is left out."""
    declared: Sequence[Mapping[str, Mapping[str, tuple[bool, bool, bool]]]]
    """Of each pass: member, role, options."""
    action: UnmanagedAction


declarations = st.dictionaries(
    role_names, st.dictionaries(st.sampled_from(ROLES), options, max_size=3), min_size=1, max_size=4
)
scenes = st.builds(
    Scene,
    st.lists(st.tuples(role_names, st.sampled_from(GRANTORS)), max_size=6, unique=True),
    st.lists(
        st.tuples(role_names, role_names, st.sampled_from((*GRANTORS, *ROLES, "superuser")), options),
        max_size=10,
    ),
    st.lists(declarations, min_size=2, max_size=2),
    st.sampled_from(UnmanagedAction),
)

numbers = count()
Edges = Mapping[tuple[str, str, str], tuple[bool, bool, bool]]
"""(role, member, grantor): ADMIN, INHERIT, SET."""


@pytest.mark.requirement("R-22", "R-186")
@settings(
    max_examples=15,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),  # shrinking would take minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(scene=scenes)
async def test_after_one_pass_the_declared_holds_and_a_second_pass_does_nothing(
    any_world: World, scene: Scene
) -> None:
    world = any_world
    tag = next(numbers)

    def name(text: str) -> str:
        return world.server.superuser if text == "superuser" else f"{text}{tag}_{world.tag}"

    await set_up(world, scene, name)
    policy = Policy(unmanaged=UnmanagedGrants(action=scene.action))
    own_before = {
        edge: found for edge, found in (await edges(world, tag)).items() if edge[1] == world.operator
    }
    for declared in scene.declared:
        before = await edges(world, tag)
        roles = [declaration(name, member, groups) for member, groups in declared.items()]
        synced = await world.sync(*roles, policy=policy)
        after = await edges(world, tag)
        for role in roles:
            check(world, role, synced, after, exact=scene.action is UnmanagedAction.REVOKE)
        if scene.action is not UnmanagedAction.REVOKE:
            assert foreign(world, before) == foreign(world, after)
        # Nobody but the declared members has gained or lost anything.
        members = {name(member) for member in declared}
        assert others(before, members) == others(after, members)
        again = await world.sync(*roles, policy=policy)
        refused = {text for _, text, result in await world.change_log() if result != "ok"}
        assert [text for text in role_ddl(again) if text not in refused] == []
        assert [again.said(role) for role in roles] == [synced.said(role) for role in roles]
    assert own_before == {edge: found for edge, found in after.items() if edge[1] == world.operator}


async def set_up(world: World, scene: Scene, name: Any) -> None:
    """Make roles and memberships."""
    async with world.session() as session:
        for text in (*ROLES[:3], "administered"):
            await run(session, "CREATE ROLE {r}", r=name(text))
    for text in (ROLES[3], "inherited", "settable", "stranger"):
        await world.run("CREATE ROLE {r}", r=name(text))
    await world.run(
        "GRANT {i} TO {o} WITH INHERIT TRUE, SET FALSE",
        "GRANT {s} TO {o} WITH INHERIT FALSE, SET TRUE",
        i=name("inherited"), s=name("settable"), o=world.operator,
    )  # fmt: skip
    for role, grantor in scene.admins:
        await world.run(
            "GRANT {r} TO {g} WITH ADMIN TRUE, INHERIT FALSE, SET FALSE", r=name(role), g=name(grantor)
        )
    for role, member, grantor, (admin, inherit, set_) in scene.granted:
        try:
            await world.run(
                f"GRANT {{r}} TO {{m}} WITH ADMIN {admin}, INHERIT {inherit}, SET {set_} GRANTED BY {{g}}",
                r=name(role), m=name(member), g=name(grantor),
            )  # fmt: skip
        except (psycopg.errors.InvalidGrantOperation, psycopg.errors.InsufficientPrivilege):
            continue  # a loop, or a grantor without ADMIN option


def declaration(name: Any, member: str, groups: Mapping[str, tuple[bool, bool, bool]]) -> PostgresRole:
    member_of = [
        {"role": name(group), "admin": admin, "inherit": inherit, "set": set_}
        for group, (admin, inherit, set_) in groups.items()
    ]
    return postgres_role(name(member), memberOf=member_of)


async def edges(world: World, tag: int) -> Edges:
    """All memberships between the roles of this example, and the operator's in them."""
    rows = await world.rows(
        "SELECT pg_get_userbyid(roleid), pg_get_userbyid(member), pg_get_userbyid(grantor),"
        " admin_option, inherit_option, set_option FROM pg_auth_members"
        " WHERE pg_get_userbyid(roleid) LIKE %s",
        f"%{tag}\\_{world.tag}",
    )
    return {(row[0], row[1], row[2]): (row[3], row[4], row[5]) for row in rows}


def is_own(world: World, grantor: str) -> bool:
    return grantor == world.operator or grantor.startswith("inherited")


def foreign(world: World, found: Edges) -> Edges:
    return {edge: options for edge, options in found.items() if not is_own(world, edge[2])}


def others(found: Edges, members: set[str]) -> Edges:
    return {edge: options for edge, options in found.items() if edge[1] not in members}


def check(world: World, role: PostgresRole, synced: Synced, found: Edges, *, exact: bool) -> None:
    """What is said of a role is so."""
    held: dict[str, tuple[bool, ...]] = defaultdict(lambda: (False, False, False))
    for (group, member, _), options in found.items():
        if member == role.role_name:
            held[group] = tuple(a or b for a, b in zip(held[group], options, strict=True))
    verdict, reason = synced.said(role)
    told = {one["object"] for one in synced.of(role).fields["issues"]}
    if verdict is not READY:
        assert reason in (
            Reason.MEMBERSHIP_LOOP, Reason.NOT_ROLE_ADMIN, Reason.UNREVOCABLE, Reason.INVALID_SPEC,
        ), synced.of(role).message  # fmt: skip
        assert told
    for item in role.spec.member_of:
        if f"membership in {item.role}" in told and verdict is not READY:
            continue
        wanted = (item.admin, item.inherit, item.set)
        assert item.role in held
        assert all(has or not needed for has, needed in zip(held[item.role], wanted, strict=True))
        if exact:
            assert held[item.role] == wanted
    if exact:
        undeclared = set(held) - {item.role for item in role.spec.member_of}
        assert {f"membership in {group}" for group in undeclared} <= told
