"""Where PostgreSQL chooses the grantor itself, and takes one for all privileges of a statement."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakebase_operator.api.objects import Privilege
from lakebase_operator.domain.plan import Actor, Difference, plan
from lakebase_operator.domain.privileges import ObjectClass
from lakebase_operator.domain.statements import ObjectName, Verb

OPERATOR, SETTABLE, INHERITED, ALSO_INHERITED, ADMINISTERED, STRANGER = range(1, 7)
RIGHTS: dict[int, dict[str, bool]] = {
    OPERATOR: {"is_operator": True},
    SETTABLE: {"can_set": True, "inherits": True},
    INHERITED: {"inherits": True},
    ALSO_INHERITED: {"inherits": True},
    ADMINISTERED: {"admin": True},
    STRANGER: {},
}
NO_RIGHTS = {"inherits": False, "can_set": False, "admin": False, "is_operator": False}
ACTORS = {oid: Actor(oid, f"r{oid}", **{**NO_RIGHTS, **rights}) for oid, rights in RIGHTS.items()}
GONE = 99
"""OID of a role that does not exist any more."""

Cell = tuple[Verb, ObjectName, Privilege, str]


def name_of(oid: int) -> str | None:
    return f"g{oid}" if oid != GONE else None


def revoke(privilege: Privilege, grantor: int, **other: Any) -> Difference:
    return difference(verb=Verb.REVOKE, privilege=privilege, grantor=grantor, **other)


def difference(name: str = "t", **other: Any) -> Difference:
    values = {
        "verb": Verb.GRANT, "object": ObjectName(ObjectClass.TABLE, "s", name), "oid": 100, "part": 0, "owner": OPERATOR,
        "privilege": Privilege.SELECT, "grantor": None, "grantees": (11,), "drifted": (), "grantable": False,
        "implied": False, "public": False, "selectors": (0,),
    }  # fmt: skip
    return Difference(**{**values, **other})


@pytest.mark.requirement("R-173", "R-174")
def test_what_two_inherited_roles_granted_is_revoked_in_two_statements() -> None:
    made = plan(
        [
            revoke(Privilege.SELECT, INHERITED),
            revoke(Privilege.UPDATE, INHERITED),
            revoke(Privilege.INSERT, ALSO_INHERITED),
        ],
        ACTORS,
        name_of,
        superuser=False,
    )
    assert sorted(one.privileges for one in made.statements) == [
        (Privilege.INSERT,),
        (Privilege.SELECT, Privilege.UPDATE),
    ]


def test_the_same_from_two_inherited_roles_names_no_object_twice() -> None:
    both = [revoke(Privilege.SELECT, grantor) for grantor in (INHERITED, ALSO_INHERITED)]
    (statement,) = plan(both, ACTORS, name_of, superuser=False).statements
    assert [item.name for item in statement.objects] == ["t"]


def test_what_is_revoked_as_the_operator_itself_or_by_a_superuser_stays_together() -> None:
    own = [revoke(privilege, OPERATOR) for privilege in (Privilege.SELECT, Privilege.INSERT)]
    assert len(plan(own, ACTORS, name_of, superuser=False).statements) == 1
    owners = [
        revoke(privilege, INHERITED, owner=INHERITED) for privilege in (Privilege.SELECT, Privilege.INSERT)
    ]
    assert len(plan(owners, ACTORS, name_of, superuser=True).statements) == 1


@st.composite
def several_differences(draw: st.DrawFn) -> list[Difference]:
    """As ``compare.sql`` gives them: each object, privilege and grantor at most once (no grantor: a grant)."""
    owners = {name: draw(st.sampled_from(sorted(ACTORS))) for name in "abc"}
    privileges = st.sampled_from([Privilege.SELECT, Privilege.INSERT, Privilege.UPDATE])
    grantors = st.sampled_from([None, *sorted(ACTORS)])
    keys = draw(st.lists(st.tuples(st.sampled_from("abc"), privileges, grantors), unique=True, max_size=20))
    return [
        difference(
            name,
            verb=Verb.GRANT if grantor is None else Verb.REVOKE,
            privilege=privilege,
            owner=owners[name],
            grantor=grantor,
            grantees=draw(st.lists(st.sampled_from((11, 12, 13, GONE)), min_size=1, unique=True).map(tuple)),
            grantable=draw(st.booleans()),
        )
        for name, privilege, grantor in keys
    ]


@given(several_differences(), st.booleans())
def test_with_several_grantors_each_possible_cell_is_covered_and_no_other(
    several: list[Difference], superuser: bool
) -> None:
    made = plan(several, ACTORS, name_of, superuser=superuser)
    wanted: set[Cell] = {
        (one.verb, one.object, one.privilege, name)
        for one in several
        if one not in made.impossible
        for oid in one.grantees
        if (name := name_of(oid)) is not None
    }
    done: set[Cell] = {
        (one.verb, *cell)
        for one in made.statements
        for cell in itertools.product(one.objects, one.privileges, one.grantees)
    }
    assert done == wanted
    acted = {one.acting_as for one in made.statements}
    assert set(made.temporary_set) == acted & {f"r{ADMINISTERED}"}


@given(several_differences(), st.randoms())
def test_the_order_of_the_differences_does_not_matter(several: list[Difference], random: Any) -> None:
    shuffled = list(several)
    random.shuffle(shuffled)
    assert (
        plan(several, ACTORS, name_of, superuser=False).statements
        == plan(shuffled, ACTORS, name_of, superuser=False).statements
    )
