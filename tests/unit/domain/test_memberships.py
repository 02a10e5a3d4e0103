"""Memberships: what is declared against what several grantors gave."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakebase_operator.api.lakebase_connection import UnmanagedAction
from lakebase_operator.api.postgres_role import Membership
from lakebase_operator.domain.memberships import (
    BOOTSTRAP_SUPERUSER,
    Edge,
    Everybody,
    MembershipPlan,
    find_loops,
    grant_depths,
    loan,
    membership_change,
    not_passed_on,
)
from lakebase_operator.domain.plan import Actor
from lakebase_operator.domain.roles import RoleState, Step

OPERATOR, MEMBER, GROUP, ADMINS, STRANGER, OWNER = 100, 101, 102, 103, 104, 105


def state(oid: int, name: str | None = None, **fields: Any) -> RoleState:
    rights = {key: fields.pop(key, False) for key in ("inherits", "can_set", "admin", "is_operator")}
    name = name or f"r{oid}"
    values: dict[str, Any] = {
        "superuser": False, "login": False, "create_db": False, "create_role": False, "bypass_rls": False, "inherit": True,
        "connection_limit": -1, "valid_until": None, "settings": {}, "identity": None,
    }  # fmt: skip
    return RoleState(oid=oid, name=name, actor=Actor(oid, name, **rights), **{**values, **fields})


def texts(steps: Sequence[Step]) -> list[str]:
    return [str(step) for step in steps]


EVERYBODY = {
    OPERATOR: state(OPERATOR, is_operator=True),
    MEMBER: state(MEMBER, admin=True),
    GROUP: state(GROUP, admin=True),
    ADMINS: state(ADMINS, inherits=True),
    STRANGER: state(STRANGER),
    OWNER: state(OWNER, can_set=True),
    BOOTSTRAP_SUPERUSER: state(BOOTSTRAP_SUPERUSER, superuser=True),
}


def edge(
    grantor: int, *, role: int = GROUP, admin: bool = False, inherit: bool = True, set_: bool = True
) -> Edge:
    return Edge(role, MEMBER, grantor, admin, inherit, set_)


def changed(
    member_of: list[dict[str, Any]],
    edges: Sequence[Edge] = (),
    ours: Sequence[int] = (),
    *,
    superuser: bool = False,
    everybody: dict[int, RoleState] | None = None,
    unmanaged: UnmanagedAction = UnmanagedAction.KEEP,
) -> MembershipPlan:
    known = EVERYBODY if everybody is None else everybody
    names = {one.name: one for one in known.values()}
    return membership_change(
        known[MEMBER],
        [Membership.model_validate(one) for one in member_of],
        edges,
        ours,
        Everybody(names.get, known.get, superuser),
        unmanaged=unmanaged,
    )


def steps(plan: MembershipPlan) -> list[str]:
    return texts((*(take.step for take in plan.revokes), *plan.grants))


DECLARED = [{"role": f"r{GROUP}"}]
OPTIONS = "WITH ADMIN FALSE, INHERIT TRUE, SET TRUE"
GIVE = f'GRANT "r{GROUP}" TO "r{MEMBER}" {OPTIONS}'


def give(grantor: int) -> str:
    return f'GRANT "r{GROUP}" TO "r{MEMBER}" WITH INHERIT TRUE, SET TRUE GRANTED BY "r{grantor}"'


def take(grantor: int, option: str = "") -> str:
    return f'REVOKE {option}"r{GROUP}" FROM "r{MEMBER}" GRANTED BY "r{grantor}"'


@pytest.mark.requirement("R-22")
@pytest.mark.parametrize(
    ("edges", "expected"),
    [
        ([], [GIVE]),
        ([edge(OPERATOR)], []),
        ([edge(OPERATOR, set_=False)], [give(OPERATOR)]),
        ([edge(OPERATOR, admin=True)], [take(OPERATOR, "ADMIN OPTION FOR ")]),
        ([edge(OPERATOR, admin=True, set_=False)], [take(OPERATOR, "ADMIN OPTION FOR "), give(OPERATOR)]),
        ([edge(OPERATOR, set_=False), edge(ADMINS), edge(STRANGER)], [give(OPERATOR)]),
        ([edge(OPERATOR, inherit=False), edge(ADMINS, set_=False)], [give(OPERATOR), give(ADMINS)]),
        ([edge(STRANGER)], []),
        ([edge(STRANGER, admin=True)], []),
        ([edge(STRANGER, set_=False)], [GIVE]),
        ([edge(STRANGER, set_=False), edge(BOOTSTRAP_SUPERUSER, inherit=False)], []),
    ],
)
def test_a_declared_membership_holds_whoever_gave_it_and_the_operators_own_is_exact(
    edges: list[Edge], expected: list[str]
) -> None:
    result = changed(DECLARED, edges)
    assert steps(result) == expected
    assert result.issues == ()
    assert result.ours([], []) == (GROUP,)


@pytest.mark.parametrize(
    ("edges", "expected", "unrevocable"),
    [
        ([edge(OPERATOR)], [], []),
        ([edge(OWNER)], [], []),
        ([edge(OWNER, admin=True)], [take(OWNER, "ADMIN OPTION FOR ")], []),
        ([edge(OWNER, admin=True, inherit=False, set_=False)], [take(OWNER), GIVE], []),
        ([edge(OWNER, admin=True, set_=False)], [take(OWNER, "ADMIN OPTION FOR "), GIVE], []),
        ([edge(STRANGER, admin=True)], [], [take(STRANGER, "ADMIN OPTION FOR ")]),
        ([edge(OPERATOR), edge(STRANGER, admin=True)], [], [take(STRANGER, "ADMIN OPTION FOR ")]),
    ],
)
def test_under_revoke_a_declared_membership_gives_exactly_what_is_declared(
    edges: list[Edge], expected: list[str], unrevocable: list[str]
) -> None:
    result = changed(DECLARED, edges, unmanaged=UnmanagedAction.REVOKE)
    assert steps(result) == expected
    assert [issue.reason for issue in result.issues] == ["Unrevocable"] * len(unrevocable)
    assert all(text in issue.fix for text, issue in zip(unrevocable, result.issues, strict=True))
    assert {issue.privilege for issue in result.issues} <= {"ADMIN"}


def test_a_membership_without_any_option_is_one() -> None:
    bare = [{"role": f"r{GROUP}", "inherit": False, "set": False}]
    assert steps(changed(bare)) == [GIVE.replace("INHERIT TRUE, SET TRUE", "INHERIT FALSE, SET FALSE")]
    assert steps(changed(bare, [edge(STRANGER, inherit=False, set_=False)])) == []
    exact = changed(bare, [edge(OWNER)], unmanaged=UnmanagedAction.REVOKE)
    assert steps(exact) == [take(OWNER), GIVE.replace("INHERIT TRUE, SET TRUE", "INHERIT FALSE, SET FALSE")]


@pytest.mark.parametrize(
    ("edges", "ours", "expected"),
    [
        ([edge(OPERATOR)], [GROUP], [take(OPERATOR)]),
        ([edge(ADMINS)], [GROUP], [take(ADMINS)]),
        ([edge(OPERATOR), edge(STRANGER)], [GROUP], [take(OPERATOR)]),
        ([edge(STRANGER)], [GROUP], []),
        ([edge(OPERATOR)], [], []),
        ([], [GROUP], []),
        ([edge(OPERATOR)], [GROUP, 999], [take(OPERATOR)]),
    ],
)
def test_of_what_is_no_longer_declared_only_the_operators_own_is_taken_back(
    edges: list[Edge], ours: list[int], expected: list[str]
) -> None:
    result = changed([], edges, ours)
    assert steps(result) == expected
    assert result.ours(ours, []) == ()
    assert result.ours(ours, [GROUP]) == ((GROUP,) if GROUP in ours else ())


def test_what_nobody_declares_is_kept_reported_or_revoked() -> None:
    edges = [edge(OPERATOR), edge(OWNER), edge(STRANGER)]
    kept = changed([], edges)
    assert (steps(kept), kept.issues) == ([], ())
    reported = changed([], edges, unmanaged=UnmanagedAction.REPORT)
    assert steps(reported) == []
    assert [(issue.object, issue.reason) for issue in reported.issues] == [
        (f"membership in r{GROUP}", "Unmanaged")
    ] * 3
    revoked = changed([], edges, unmanaged=UnmanagedAction.REVOKE)
    assert steps(revoked) == [take(OPERATOR), take(OWNER)]
    assert [(issue.reason, take(STRANGER) in issue.fix) for issue in revoked.issues] == [
        ("Unrevocable", True)
    ]
    # As which role: the operator itself, or the grantor that it may become.
    assert [take.step.acting_as and take.step.acting_as.oid for take in revoked.revokes] == [None, OWNER]


@pytest.mark.requirement("R-183")
def test_lakebases_own_memberships_and_those_of_a_creator_are_nobodys_to_declare() -> None:
    theirs = {
        **EVERYBODY,
        MEMBER: state(MEMBER, admin=True, create_role=True),
        200: state(200, "databricks_superuser"),
        201: state(201, "pg_read_all_data"),
    }
    edges = [
        edge(BOOTSTRAP_SUPERUSER, role=200),
        edge(BOOTSTRAP_SUPERUSER, role=201),
        edge(BOOTSTRAP_SUPERUSER, admin=True, inherit=False, set_=False),
    ]
    result = changed([], edges, unmanaged=UnmanagedAction.REVOKE, everybody=theirs)
    assert [issue.object for issue in result.issues] == ["membership in pg_read_all_data"]
    # A membership that is declared beside them does not make them count.
    beside = changed(
        [{"role": "r102"}, {"role": "databricks_superuser", "set": False}, {"role": "pg_read_all_data"}],
        [*edges, edge(OPERATOR)],
        unmanaged=UnmanagedAction.REVOKE,
        everybody=theirs,
    )
    assert (beside.revokes, beside.grants, beside.issues) == ((), (), ())


def test_what_a_superuser_gave_counts_as_given_by_the_bootstrap_superuser() -> None:
    edges = [edge(BOOTSTRAP_SUPERUSER, set_=False), edge(STRANGER)]
    assert steps(changed(DECLARED, edges, superuser=True)) == [give(BOOTSTRAP_SUPERUSER)]
    assert steps(changed([], edges, [GROUP], superuser=True)) == [take(BOOTSTRAP_SUPERUSER)]
    everything = changed([], edges, superuser=True, unmanaged=UnmanagedAction.REVOKE)
    assert steps(everything) == [take(BOOTSTRAP_SUPERUSER), take(STRANGER)]


def test_roles_that_are_missing_or_not_administered_are_told() -> None:
    assert changed([{"role": "nowhere"}]).missing_roles == ("nowhere",)
    (issue,) = changed([{"role": f"r{STRANGER}"}]).issues
    assert issue.reason == "NotRoleAdmin"
    assert f'GRANT "r{STRANGER}" TO "r{MEMBER}"' in issue.fix
    powerless = {**EVERYBODY, GROUP: state(GROUP)}
    result = changed([], [edge(OPERATOR)], [GROUP], everybody=powerless)
    assert (steps(result), result.ours([GROUP], [])) == ([], (GROUP,))
    assert [issue.reason for issue in result.issues] == ["NotRoleAdmin"]


# -- what was passed on ------------------------------------------------------------------------------------------------


def without_passed_on(plan: MembershipPlan, edges: Sequence[Edge]) -> MembershipPlan:
    (left,) = not_passed_on([plan], edges, lambda oid: EVERYBODY[oid].name if oid in EVERYBODY else None)
    return left


def test_admin_option_that_was_used_for_somebody_stays_until_that_is_gone() -> None:
    given = edge(OPERATOR, admin=True)
    passed_on = Edge(GROUP, STRANGER, MEMBER, admin=False, inherit=True, set=True)
    plan = changed([], [given, passed_on], [GROUP])
    left = without_passed_on(plan, [given, passed_on])
    assert steps(left) == []
    assert [(issue.object, issue.reason) for issue in left.issues] == [
        (f"membership in r{GROUP}", "Unrevocable")
    ]
    assert f'REVOKE "r{GROUP}" FROM "r{STRANGER}" GRANTED BY "r{MEMBER}"' in left.issues[0].fix
    assert left.ours([GROUP], []) == (GROUP,)
    # Another ADMIN option that stays is enough to keep what was passed on.
    theirs = edge(BOOTSTRAP_SUPERUSER, admin=True)
    assert without_passed_on(plan, [given, theirs, passed_on]) is plan
    # Of two that are to go, one stays.
    both = changed([], [given, edge(ADMINS, admin=True), passed_on], [GROUP])
    assert len(without_passed_on(both, [given, edge(ADMINS, admin=True), passed_on]).revokes) == 1


# -- loops -------------------------------------------------------------------------------------------------------------


def test_what_exists_counts_before_what_is_declared() -> None:
    assert find_loops([("a", "b")], []) == {}
    assert find_loops([("a", "a")], []) == {("a", "a"): ("a", "a")}
    assert find_loops([("a", "b"), ("b", "a")], []) == {("b", "a"): ("b", "a", "b")}
    assert find_loops([("a", "b"), ("b", "a")], [("b", "a")]) == {("a", "b"): ("a", "b", "a")}
    through_others = find_loops([("a", "b")], [("b", "c"), ("c", "a")])
    assert through_others == {("a", "b"): ("a", "b", "c", "a")}


names = st.sampled_from("abcdef")


@given(st.lists(st.tuples(names, names), max_size=20))
def test_what_is_not_refused_has_no_loop_and_each_refused_one_would_close_its_own(
    declared: list[tuple[str, str]],
) -> None:
    loops = find_loops(declared, [])
    accepted = [one for one in declared if one not in loops]
    assert find_loops(accepted, []) == {}
    for refused, loop in loops.items():
        assert (loop[0], loop[1]) == refused
        assert loop[0] == loop[-1]
        assert set(pairwise(loop[1:])) <= set(accepted)


def test_the_deepest_is_revoked_first() -> None:
    edges = [
        Edge(GROUP, OPERATOR, BOOTSTRAP_SUPERUSER, admin=True, inherit=False, set=False),
        Edge(GROUP, ADMINS, OPERATOR, admin=True, inherit=False, set=False),
        Edge(GROUP, MEMBER, ADMINS, admin=False, inherit=True, set=True),
        Edge(GROUP, MEMBER, OPERATOR, admin=False, inherit=True, set=True),
    ]
    depths = grant_depths(edges)
    assert [depths[GROUP, one] for one in (OPERATOR, ADMINS, MEMBER)] == [1, 2, 3]


# -- loans -------------------------------------------------------------------------------------------------------------


def lent(edges: Sequence[Edge]) -> list[str]:
    names = {one.name: one for one in EVERYBODY.values()}
    everybody = Everybody(names.get, EVERYBODY.get, superuser=False)
    role, operator = EVERYBODY[GROUP], EVERYBODY[OPERATOR]
    return [text.as_string(None) for text in loan(role, operator, edges, everybody, inherit=True)]


def test_a_membership_that_is_lent_is_taken_back_and_one_that_was_there_is_as_before() -> None:
    ours = f'"r{GROUP}" TO "r{OPERATOR}"'
    given = Edge(GROUP, OPERATOR, BOOTSTRAP_SUPERUSER, admin=True, inherit=False, set=False)
    assert lent([given]) == [
        f"GRANT {ours} WITH INHERIT TRUE, SET FALSE",
        f'REVOKE "r{GROUP}" FROM "r{OPERATOR}"',
    ]
    for grantor in (ADMINS, OPERATOR):
        own = Edge(GROUP, OPERATOR, grantor, admin=False, inherit=False, set=True)
        assert lent([given, own]) == [
            f'GRANT {ours} WITH INHERIT TRUE, SET TRUE GRANTED BY "r{grantor}"',
            f'GRANT {ours} WITH INHERIT FALSE, SET TRUE GRANTED BY "r{grantor}"',
        ]
