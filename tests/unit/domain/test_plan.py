"""From differences to statements: who acts, in which order, in how few."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakebase_operator.api.access_grant import Privilege
from lakebase_operator.domain.plan import (
    MAX_GRANTEES,
    MAX_OBJECTS,
    Acting,
    Actor,
    ColumnGrant,
    Difference,
    Plan,
    chunks,
    keep_columns,
    plan,
)
from lakebase_operator.domain.privileges import ObjectClass
from lakebase_operator.domain.statements import ObjectName, Verb

OPERATOR, OWNER, OTHER = 1, 2, 3


def actor(oid: int, **rights: bool) -> Actor:
    none = {"inherits": False, "can_set": False, "admin": False, "is_operator": False}
    return Actor(oid=oid, name=f"r{oid}", **{**none, **rights})


def difference(name: str = "t", **other: Any) -> Difference:
    values = {
        "verb": Verb.GRANT, "object": ObjectName(ObjectClass.TABLE, "s", name), "oid": 100, "owner": OWNER,
        "privilege": Privilege.SELECT, "grantor": None, "grantees": (11,), "drifted": (), "grantable": False,
        "implied": False, "public": False, "selectors": (0,),
    }  # fmt: skip
    return Difference(**{**values, **other})


def planned(
    *differences: Difference, actors: dict[int, Actor] | None = None, superuser: bool = False
) -> Plan:
    known = {OWNER: actor(OWNER, can_set=True)} if actors is None else actors
    return plan(differences, known, lambda oid: f"g{oid}" if oid > 10 else None, superuser=superuser)


@pytest.mark.requirement("R-174")
@pytest.mark.parametrize(
    ("rights", "grantable", "acting_as", "temporary", "possible"),
    [
        ({"is_operator": True}, False, None, (), True),
        ({"can_set": True}, False, "r2", (), True),
        ({"can_set": True, "inherits": True}, True, "r2", (), True),
        ({"inherits": True}, False, None, (), True),
        ({"admin": True}, False, "r2", ("r2",), True),
        ({"admin": True}, True, None, (), True),
        ({}, True, None, (), True),
        ({}, False, None, (), False),
    ],
)
def test_the_grantor_is_chosen_on_purpose(
    rights: dict[str, bool],
    grantable: bool,
    acting_as: str | None,
    temporary: tuple[str, ...],
    possible: bool,
) -> None:
    result = planned(difference(grantable=grantable), actors={OWNER: actor(OWNER, **rights)})
    assert bool(result) is possible
    assert bool(result.impossible) is not possible
    assert [statement.acting_as for statement in result.statements] == ([acting_as] if possible else [])
    assert result.temporary_set == temporary


@pytest.mark.requirement("R-173", "R-174")
def test_a_revoke_is_made_as_the_one_who_granted_and_a_grant_option_does_not_help() -> None:
    mine = difference(verb=Verb.REVOKE, grantor=OTHER, grantable=True)
    assert planned(mine).impossible == (mine,)
    actors = {OTHER: actor(OTHER, can_set=True), OWNER: actor(OWNER)}
    assert [one.acting_as for one in planned(mine, actors=actors).statements] == ["r3"]


def test_a_superuser_counts_as_the_owner_and_sets_the_role_of_another_grantor() -> None:
    anybody = {
        OWNER: actor(OWNER, can_set=True, inherits=True),
        OTHER: actor(OTHER, can_set=True, inherits=True),
    }
    result = planned(
        difference(),
        difference("u", verb=Verb.REVOKE, grantor=OWNER),
        difference("v", verb=Verb.REVOKE, grantor=OTHER),
        actors=anybody,
        superuser=True,
    )
    assert sorted((str(one.objects[0]), one.acting_as) for one in result.statements) == [
        ("s.t", None), ("s.u", None), ("s.v", "r3"),
    ]  # fmt: skip


def test_an_owner_that_is_gone_makes_it_impossible() -> None:
    assert planned(difference(owner=99)).impossible
    assert not planned(difference(owner=99, grantable=True)).impossible


def test_a_grantee_that_is_gone_is_left_out_and_alone_is_impossible() -> None:
    result = planned(difference(grantees=(5, 11)), difference("u", grantees=(5,)))
    assert [one.grantees for one in result.statements] == [("g11",)]
    assert [one.object.name for one in result.impossible] == ["u"]


@pytest.mark.requirement("R-203")
def test_objects_with_the_same_privileges_for_the_same_grantees_are_one_statement() -> None:
    wanted = [
        difference(name, privilege=privilege, grantees=(11, 12))
        for name in "abc"
        for privilege in (Privilege.SELECT, Privilege.INSERT)
    ]
    (one,) = planned(*wanted).statements
    assert ([item.name for item in one.objects], one.privileges, one.grantees) == (
        ["a", "b", "c"], (Privilege.INSERT, Privilege.SELECT), ("g11", "g12"),
    )  # fmt: skip


def test_privileges_whose_grant_options_may_come_from_two_roles_are_granted_apart() -> None:
    wanted = [
        difference(privilege=privilege, grantable=True) for privilege in (Privilege.SELECT, Privilege.INSERT)
    ]
    assert len(planned(*wanted, actors={}).statements) == 2


def test_revokes_come_first_and_the_role_is_set_as_rarely_as_possible() -> None:
    actors = {OWNER: actor(OWNER, can_set=True), OTHER: actor(OTHER, can_set=True)}
    mixed = [
        difference(f"{name}{owner}", owner=owner, grantor=owner if verb is Verb.REVOKE else None, verb=verb, grantees=(grantee,))
        for name in "ab" for owner in (OWNER, OTHER) for verb in Verb for grantee in (11, 12)
    ]  # fmt: skip
    order = [(one.verb, one.acting_as) for one in planned(*mixed, actors=actors).statements]
    changes = [one for number, one in enumerate(order) if number == 0 or order[number - 1] != one]
    assert changes == [(verb, role) for verb in (Verb.REVOKE, Verb.GRANT) for role in ("r2", "r3")]


def test_long_lists_are_cut_into_statements_of_a_bounded_size() -> None:
    grantees = tuple(range(11, 11 + MAX_GRANTEES + 1))
    wanted = [difference(f"t{number:04}", grantees=grantees) for number in range(MAX_OBJECTS + 1)]
    result = planned(*wanted)
    assert len(result.statements) == 4
    assert all(
        len(one.objects) <= MAX_OBJECTS and len(one.grantees) <= MAX_GRANTEES for one in result.statements
    )


def test_column_grants_that_a_revoke_takes_along_are_given_back_by_the_same_grantor() -> None:
    gone = difference(verb=Verb.REVOKE, grantor=OWNER, grantees=(11, 12))
    held = [
        ColumnGrant(gone.object, Privilege.SELECT, grantor, grantee, ("a",), grant_option=False)
        for grantor, grantee in ((OWNER, 11), (OTHER, 12), (OWNER, 13))
    ]
    steps = planned(gone, difference("u"))
    kept = keep_columns(steps, [gone], held, lambda oid: f"r{oid}" if oid < 10 else f"g{oid}")
    assert kept.statements[: len(steps.statements)] == steps.statements
    (again,) = kept.statements[len(steps.statements) :]
    assert (again.verb, again.grantees, again.columns, again.acting_as) == (
        Verb.GRANT,
        ("g11",),
        ("a",),
        "r2",
    )
    assert keep_columns(steps, [gone], [], str) == steps


cells = st.builds(
    difference,
    st.sampled_from("abc"),
    verb=st.sampled_from(list(Verb)),
    owner=st.sampled_from([OPERATOR, OWNER, OTHER, 4]),
    privilege=st.sampled_from([Privilege.SELECT, Privilege.INSERT, Privilege.UPDATE]),
    grantees=st.frozensets(st.integers(11, 14), min_size=1).map(lambda some: tuple(sorted(some))),
    grantable=st.booleans(),
)


@given(st.lists(cells, max_size=12))
def test_everything_possible_is_done_exactly_once_and_nothing_else(several: list[Difference]) -> None:
    unique = {(one.verb, one.object, one.privilege): one for one in several}.values()
    wanted = [
        one.for_grantees(one.grantees) if one.verb is Verb.GRANT else difference(
            one.object.name, verb=one.verb, owner=one.owner, grantor=one.owner, privilege=one.privilege, grantees=one.grantees
        )
        for one in unique
    ]  # fmt: skip
    actors = {
        OPERATOR: actor(OPERATOR, is_operator=True), OWNER: actor(OWNER, can_set=True), OTHER: actor(OTHER, admin=True),
        4: actor(4),
    }  # fmt: skip
    result = planned(*wanted, actors=actors)
    done = [
        (one.verb, thing, privilege, grantee)
        for one in result.statements
        for thing in one.objects
        for privilege in one.privileges
        for grantee in one.grantees
    ]
    assert len(done) == len(set(done))
    expected = {
        (one.verb, one.object, one.privilege, f"g{grantee}")
        for one in wanted
        if one not in result.impossible
        for grantee in one.grantees
    }
    assert set(done) == expected
    for one in result.impossible:
        assert actors[one.owner].acting is Acting.NO
        assert not (one.verb is Verb.GRANT and one.grantable)


@given(st.lists(st.integers(), max_size=20), st.integers(1, 7))
def test_chunks_are_the_whole_in_order(items: list[int], size: int) -> None:
    parts = list(chunks(items, size))
    assert [item for part in parts for item in part] == items
    assert all(0 < len(part) <= size for part in parts)
