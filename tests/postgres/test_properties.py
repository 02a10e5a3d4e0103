"""Random catalogs, roles, grants by several grantors and declarations, on real servers: what must hold of every pass.

A longer run: ``LAKEBASE_PROPERTY_EXAMPLES=1000 pytest tests/postgres/test_properties.py`` draws that many fresh scenes for each
kind of server; the normal run is the same every time.
"""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import pytest
from hypothesis import HealthCheck, given, settings

from lakebase_operator.api import AccessGrant
from lakebase_operator.api.lakebase_connection import UnmanagedAction, UnmanagedGrants
from lakebase_operator.reconcilers.grants import Policy
from tests.postgres.scenes import (
    BY_DEFAULT,
    GRANTEES,
    OWNERS,
    PUBLIC,
    Atom,
    Declared,
    Key,
    Scene,
    Stage,
    State,
    Thing,
    Wanted,
    atoms,
    atoms_of,
    meaning,
    scenes,
)
from tests.postgres.world import READY, Synced, World

EXAMPLES = int(os.environ.get("LAKEBASE_PROPERTY_EXAMPLES", "0"))
BRIEF = 12
"""Scenes for each kind of server in the normal run."""

Grants: TypeAlias = Sequence[tuple[AccessGrant, Declared]]


@dataclass
class Course:
    """A scene as it goes on."""

    stage: Stage
    scene: Scene
    ever: set[Atom] = field(default_factory=set)
    """Declared at some time."""
    given: set[Key] = field(default_factory=set)
    """What the operator has given."""

    @property
    def world(self) -> World:
        return self.stage.world

    @property
    def policy(self) -> Policy:
        if not self.scene.revoke:
            return Policy()
        names = [self.stage.name(text) for text in (*GRANTEES, PUBLIC)] if self.scene.narrow else None
        return Policy(unmanaged=UnmanagedGrants(action=UnmanagedAction.REVOKE, roles=names))

    def can_give(self, atom: Atom) -> bool:
        """The operator has the grant option for it, or acts for the owner."""
        thing, owner = atom.thing, self.scene.owner(atom.thing)
        # A column takes a grant option only from its own, or from the owner.
        if self.world.prepared and thing.kind == "COLUMN" and atom.privilege.endswith("*"):
            return owner in ("itself", "made", "settable")
        if owner in OWNERS and owner != "stranger":
            return True
        # Lakebase gives databricks_superuser all privileges with grant option on these.
        return self.world.prepared and thing.kind in ("TABLE", "COLUMN", "SEQUENCE", "SCHEMA", "DATABASE")

    def is_own(self, atom: Atom) -> bool:
        """An owner's right to what is theirs."""
        return atom.grantee == self.scene.owner(atom.thing)

    def in_scene(self, thing: Thing) -> bool:
        return thing.kind == "DATABASE" or bool({thing.schema, thing.name} & {*self.scene.schemas, *OWNERS})


@pytest.mark.requirement("R-180", "R-183", "R-201", "R-203")
@pytest.mark.timeout(0)
@settings(
    max_examples=EXAMPLES or BRIEF,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
    ],
)
@given(scene=scenes())
async def test_one_pass_makes_it_as_declared_and_nothing_else_and_a_second_one_does_nothing(
    any_world: World, scene: Scene
) -> None:
    stage = Stage(any_world)
    await stage.set_up(scene)
    course = Course(stage, scene)
    members = await stage.memberships()
    for step in scene.steps:
        for action in step.by_hand:
            await stage.do(scene, action)
        before = await stage.state()
        grants = stage.grants(step.declared)
        declarations = [grant for grant, _ in grants]
        wanted = meaning(scene, step.declared, before)
        if step.focus:
            await look_at_some_first(course, grants, wanted, step.focus, before)
        synced = await any_world.sync(*declarations, policy=course.policy)
        after = await stage.state()
        logged = await any_world.change_log() if await ledger_exists(any_world) else []
        failed = {text for _, text, result in logged if result != "ok"}
        check_held(course, grants, wanted, after, synced)
        check_given(wanted, before, after)
        check_lost(course, wanted, before, after)
        check_gone(course, grants, wanted, after, synced, failed)
        await check_ledger(course, wanted, after, excused=bool(failed or synced.results[0].unrevocable))
        assert await stage.memberships() == members
        again = await any_world.sync(*declarations, policy=course.policy)
        assert [text for text in again.changes if text not in failed] == []
        if not failed:
            assert again.writes == []
        assert [again.said(grant) for grant in declarations] == [synced.said(grant) for grant in declarations]
        assert await stage.state() == after
        course.ever |= wanted.present
        course.given |= {key for key in after if key not in before}


async def ledger_exists(world: World) -> bool:
    return bool(await world.value("SELECT to_regclass('lakebase_operator.change_log')"))


async def look_at_some_first(
    course: Course,
    grants: Grants,
    wanted: Wanted,
    focus: frozenset[str],
    before: State,
) -> None:
    """A pass over some roles does for them what a full pass does, and touches nobody else."""
    stage, world = course.stage, course.world
    declarations = [grant for grant, _ in grants]
    names = frozenset(stage.name(text) for text in focus)
    await world.sync(*declarations, policy=course.policy, focus=names)
    after = await stage.state()
    changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    assert {key.grantee for key in changed} <= focus
    check_given(wanted, before, after)
    check_lost(course, wanted, before, after)
    course.given |= {key for key in after if key not in before}
    course.ever |= {atom for atom in wanted.present if atom.grantee in focus}
    full = await world.sync(*declarations, policy=course.policy)
    failed = (
        {text for _, text, result in await world.change_log() if result != "ok"}
        if await ledger_exists(world)
        else set()
    )
    then = await stage.state()
    late = {
        key for key in then.keys() | after.keys() if then.get(key) != after.get(key) and key.grantee in focus
    }
    assert not late or failed, (late, full.changes)


def check_held(course: Course, grants: Grants, wanted: Wanted, after: State, synced: Synced) -> None:
    """What is declared is held where it can be granted; else somebody is told."""
    held = atoms(after)
    for atom in wanted.present - held:
        declaring = [grant for grant, one in grants if not one.absent and atom.grantee in one.subjects]
        # Nobody is told of a creator that is not covered, nor of what is usable through PUBLIC.
        if atom.thing.kind.startswith("DEFAULT") or atom._replace(grantee=PUBLIC) in held:
            assert not course.can_give(atom), atom
            continue
        assert not course.can_give(atom), atom
        assert any(synced.said(grant)[0] is not READY for grant in declaring), atom
    for grant, one in grants:
        if synced.said(grant)[0] is READY and not one.absent:
            own = {
                atom
                for atom in wanted.present
                if atom.grantee in one.subjects and is_of(course, one, atom, after)
            }
            for atom in own - held:
                assert atom.thing.kind.startswith("DEFAULT") or atom._replace(grantee=PUBLIC) in held, atom


def is_of(course: Course, one: Declared, atom: Atom, state: State) -> bool:
    return atom in meaning(course.scene, [one], state).present


def check_given(wanted: Wanted, before: State, after: State) -> None:
    """Nothing undeclared was given."""
    for key, grantable in after.items():
        new = set(atoms_of(key, grantable)) - set(atoms_of(key, before[key]) if key in before else ())
        assert new <= wanted.present, new - wanted.present


def check_lost(course: Course, wanted: Wanted, before: State, after: State) -> None:
    """Nothing was taken but what is declared absent, what was declared once, and, if so asked, what nobody declares."""
    for key, grantable in before.items():
        gone = set(atoms_of(key, grantable)) - set(atoms_of(key, after[key]) if key in after else ())
        for atom in gone - wanted.absent:
            assert atom not in wanted.present, atom
            if atom.grantee == PUBLIC and (atom.thing.kind, atom.privilege) in BY_DEFAULT:
                assert key in course.given, key
            elif not course.scene.revoke:
                # An adopted privilege takes its grant option along.
                assert atom._replace(privilege=key.privilege) in course.ever, (key, "is foreign")
            else:
                assert not course.is_own(atom), key
                assert (
                    not course.scene.narrow or atom.grantee in (*GRANTEES, PUBLIC) or atom in course.ever
                ), key


def check_gone(
    course: Course,
    grants: Grants,
    wanted: Wanted,
    after: State,
    synced: Synced,
    failed: set[str],
) -> None:
    """What is absent or over is gone where it can be revoked; else somebody is told."""
    held = atoms(after)
    for atom in wanted.absent & held:
        holding = [key for key, grantable in after.items() if atom in set(atoms_of(key, grantable))]
        forbidding = [grant for grant, one in grants if one.absent and atom.grantee in one.subjects]
        assert any(synced.said(grant)[0] is not READY for grant in forbidding), atom
        assert failed or any(not may_act_as(course, key.grantor) for key in holding), atom
    result = synced.results[0]
    excused = failed or result.unrevocable
    for key, grantable in after.items():
        for atom in set(atoms_of(key, grantable)) - wanted.present - wanted.absent:
            if key in course.given:
                assert excused, (atom, "was given, and is not declared any more")
            if course.scene.revoke and is_unmanaged(course, key, atom):
                assert result.unmanaged or result.unrevocable, (
                    atom,
                    "is unmanaged, and neither revoked nor told",
                )
                assert failed or not may_act_as(course, key.grantor), key
    if not course.scene.revoke:
        assert result.unmanaged is None


def may_act_as(course: Course, grantor: str) -> bool:
    """Whether the operator can revoke what a role granted.

    Where it may not SET ROLE, PostgreSQL chooses the grantor, and may choose databricks_superuser instead.
    """
    if course.world.prepared:
        return grantor in ("itself", "made", "settable", "g2", "crew")
    return grantor in ("itself", "made", "inherited", "settable", "g2", "crew")


def is_unmanaged(course: Course, key: Key, atom: Atom) -> bool:
    if course.is_own(atom) or not course.in_scene(key.thing):
        return False
    if key.grantee == PUBLIC and (key.thing.kind, atom.privilege) in BY_DEFAULT:
        return False
    if course.scene.narrow:
        return key.grantee in (*GRANTEES, PUBLIC)
    return not key.grantee.startswith("databricks_") and key.grantee not in ("itself", "superuser")


async def check_ledger(course: Course, wanted: Wanted, after: State, *, excused: bool) -> None:
    """The ledger says once what is declared and held, and nothing else."""
    if not await ledger_exists(course.world):
        assert not wanted.present
        return
    rows = await course.stage.ledger()
    said = Counter(Atom(key.thing, key.grantee, key.privilege) for key in rows)
    held = {(atom, key.grantor) for key, grantable in after.items() for atom in atoms_of(key, grantable)}
    assert {(Atom(key.thing, key.grantee, key.privilege), key.grantor) for key in rows} <= held
    assert not said or max(said.values()) == 1
    ours = {
        atom for atom in wanted.present & atoms(after)
        if not course.is_own(atom)
        and not (atom.grantee == PUBLIC and (atom.thing.kind, atom.privilege) in BY_DEFAULT)
    }  # fmt: skip
    assert ours <= set(said), ours - set(said)
    extra = {
        atom for atom in set(said) - ours
        if not (atom.grantee == PUBLIC and (atom.thing.kind, atom.privilege) in BY_DEFAULT)
    }  # fmt: skip
    assert not extra or excused, extra
