"""Many AccessGrants become one declaration."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakebase_operator.domain.desired import (
    PUBLIC,
    Declared,
    as_json,
    desired_in,
    is_active,
    next_change,
)
from lakebase_operator.domain.privileges import ObjectClass
from lakebase_operator.domain.selectors import Selector, selectors_of
from tests.unit.domain.grants import grant, selector

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def declared(
    selectors: Iterable[Selector], grantees: Iterable[str], database: str = "sales", *, active: bool = True
) -> Declared:
    return Declared(grant(database=database), {}, tuple(selectors), frozenset(grantees), active)


@pytest.mark.parametrize(
    ("spec", "active"),
    [
        ({}, True),
        ({"suspend": True}, False),
        ({"notBefore": "2026-01-01T12:00:01Z"}, False),
        ({"notBefore": "2026-01-01T12:00:00Z"}, True),
        ({"expiresAt": "2026-01-01T12:00:00Z"}, False),
        ({"expiresAt": "2026-01-01T13:00:01+01:00"}, True),
    ],
)
def test_a_grant_gives_from_its_beginning_until_just_before_its_end(
    spec: dict[str, Any], active: bool
) -> None:
    assert is_active(grant(**spec).spec, NOON) is active


@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), max_size=5))
def test_between_now_and_the_next_change_time_changes_nothing(hours: list[tuple[int, int]]) -> None:
    specs = [
        grant(notBefore=(NOON + timedelta(hours=begin)).isoformat(), expiresAt=(NOON + timedelta(hours=end)).isoformat()).spec
        for begin, end in hours
    ]  # fmt: skip
    moment = next_change(specs, NOON)
    until = moment - timedelta(microseconds=1) if moment else NOON + timedelta(days=365)
    assert until >= NOON
    assert [is_active(spec, NOON) for spec in specs] == [is_active(spec, until) for spec in specs]


declarations = st.lists(
    st.builds(
        declared,
        st.lists(st.sampled_from([selector(name) for name in "abc"]), max_size=3, unique=True),
        st.frozensets(st.sampled_from(["r1", "r2", PUBLIC])),
    ),
    max_size=5,
)


@pytest.mark.requirement("R-191")
@given(declarations)
def test_what_is_declared_is_the_union_of_all_access_grants_in_any_order(several: list[Declared]) -> None:
    def pairs(some: list[Declared]) -> set[tuple[Selector, str]]:
        desired = desired_in("sales", some)
        assert len(set(desired.selectors)) == len(desired.selectors)
        for one, names, by in zip(desired.selectors, desired.grantees, desired.declared_by, strict=True):
            assert all(one in item.selectors for item in by)
            assert names == frozenset().union(*(item.grantees for item in by))
        together = zip(desired.selectors, desired.grantees, strict=True)
        return {(one, name) for one, names in together for name in names}

    wanted = {(one, name) for item in several for one in item.selectors for name in item.grantees}
    assert pairs(several) == pairs(several[::-1]) == wanted


@pytest.mark.requirement("R-9", "R-93")
def test_a_database_is_asked_for_what_is_declared_of_it_and_of_the_server_where_it_answers_for_that() -> None:
    database = selector("sales", object_class=ObjectClass.DATABASE, schema=None)
    parameter = selector("work_mem", object_class=ObjectClass.PARAMETER, schema=None)
    items = [
        declared([selector("a"), database], {"r1"}, "sales"),
        declared([selector("a"), parameter], {"r2"}, "hr"),
    ]

    def found(database: str, *, home: bool, others: bool) -> dict[Selector, frozenset[str]]:
        desired = desired_in(database, items, home=home, others=others)
        return dict(zip(desired.selectors, desired.grantees, strict=True))

    r1, r2 = frozenset({"r1"}), frozenset({"r2"})
    assert found("sales", home=True, others=True) == {selector("a"): r1, database: r1, parameter: r2}
    assert found("hr", home=False, others=True) == {selector("a"): r2, database: r1}
    assert found("sales", home=False, others=False) == {selector("a"): r1}


def test_a_look_at_some_roles_leaves_out_what_concerns_others_only() -> None:
    both, other, nobody = (
        declared([selector("both")], {"r1", "r2"}),
        declared([selector("other")], {"r2"}),
        declared([selector("nobody")], ()),
    )
    desired = desired_in("sales", [both, other, nobody], focus=frozenset({"r1"}))
    assert desired.selectors == (selector("both"), selector("nobody"))
    assert desired.grantees == ({"r1"}, frozenset())
    assert desired.declared_by == ((both,), (nobody,))


def test_what_is_not_active_declares_nothing() -> None:
    assert desired_in("sales", [declared([selector()], {"r1"}, active=False)]).selectors == ()


def test_absence_and_grant_option_keep_rules_apart() -> None:
    variants: list[dict[str, Any]] = [{}, {"grantOption": True}, {"ensure": "Absent"}]
    several = [selectors_of(grant(privileges=["SELECT"], **more), 18)[0] for more in variants]
    assert len(set(several)) == 3
    said = as_json(desired_in("sales", [declared(several, {"r"})]), {"r": 1})
    assert [(one["option"], one["absent"]) for one in said] == [(False, False), (True, False), (False, True)]


def test_the_database_gets_oids_zero_for_everybody_and_nothing_for_who_has_no_role() -> None:
    desired = desired_in("sales", [declared([selector()], {"r1", "gone", PUBLIC})])
    (rule,) = as_json(desired, {"r1": 7})
    assert rule["grantees"] == [0, 7]
    assert rule["id"] == 0
    assert (rule["class"], rule["access"], rule["privileges"]) == ("TABLE", "Read", ["SELECT"])


def test_a_rule_without_grantees_is_still_a_rule() -> None:
    desired = desired_in("sales", [declared([selector("a"), selector("b")], ())])
    assert [rule["grantees"] for rule in as_json(desired, {})] == [[], []]
