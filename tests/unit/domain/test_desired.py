"""AccessGrants become rules, and rules one declaration."""

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakebase_operator.api import AccessGrant
from lakebase_operator.api.access_grant import AccessLevel, Privilege
from lakebase_operator.domain.desired import (
    PUBLIC,
    Rule,
    Selector,
    as_json,
    is_active,
    merge,
    next_change,
    selectors_of,
)
from lakebase_operator.domain.privileges import ACCESS_LEVELS, PRIVILEGES, ObjectClass, supported

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def grant(**spec: Any) -> AccessGrant:
    spec = {"access": "Read", **spec} if "privileges" not in spec else spec
    return AccessGrant.from_object(
        {
            "metadata": {"name": "g", "namespace": "team", "uid": "u", "generation": 3},
            "spec": {
                "connectionRef": {"name": "marketing"},
                "subjects": [{"kind": "Role", "name": "r"}],
                "objects": [{"tables": {"schema": "sales", "names": ["orders"]}}],
                **spec,
            },
        }
    )


def selector(name: str = "t", **other: Any) -> Selector:
    return Selector(
        **{
            "object_class": ObjectClass.TABLE,
            "schema": "sales",
            "names": (name,),
            "matching": (),
            "excluding": (),
            "access": AccessLevel.READ,
            "privileges": (),
            **other,
        }
    )


def test_an_entry_becomes_a_selector_in_a_canonical_form() -> None:
    one = grant(
        objects=[{"tables": {"schema": "s", "names": ["b", "a", "b"], "matching": ["x_*"], "except": ["?z"]}}]
    )
    assert selectors_of(one, 18) == (
        selector(schema="s", names=("a", "b"), matching=("x\\_%",), excluding=("_z",)),
    )


def test_equal_entries_of_one_grant_count_once() -> None:
    entry = {"schemas": {"names": ["a"]}}
    assert len(selectors_of(grant(objects=[entry, entry]), 18)) == 1


@pytest.mark.requirement("R-15")
def test_write_is_five_privileges_and_never_all() -> None:
    assert set(ACCESS_LEVELS[AccessLevel.WRITE]) == {"SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE"}
    assert set(ACCESS_LEVELS[AccessLevel.READ]) == {"SELECT"}
    assert set(ACCESS_LEVELS[AccessLevel.WRITE]) < PRIVILEGES[ObjectClass.TABLE]


def test_a_privilege_that_the_server_does_not_know_is_left_out() -> None:
    both = grant(privileges=["MAINTAIN", "SELECT"])
    assert selectors_of(both, 16)[0].privileges == (Privilege.SELECT,)
    assert selectors_of(both, 17)[0].privileges == (Privilege.MAINTAIN, Privilege.SELECT)
    assert not supported(Privilege.MAINTAIN, 16)


def test_without_new_objects_the_set_is_bound_to_this_version_of_the_spec() -> None:
    assert selectors_of(grant(newObjects=False), 18)[0].snapshot == "u/3"
    assert selectors_of(grant(), 18)[0].snapshot is None


@pytest.mark.parametrize(
    ("objects", "privileges"),
    [
        ([{}], ["SELECT"]),
        ([{"tables": {"schema": "pg_catalog", "names": ["t"]}}], ["SELECT"]),
        ([{"schemas": {"names": ["ok", "information_schema"]}}], ["USAGE"]),
        ([{"databases": {"names": ["d"]}}], ["SELECT"]),
    ],
)
def test_what_no_database_could_carry_out_is_refused(objects: list[Any], privileges: list[str]) -> None:
    with pytest.raises(ValueError, match=r"^spec\."):
        selectors_of(grant(objects=objects, privileges=privileges), 18)


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


rules = st.lists(
    st.builds(
        Rule,
        grant=st.sampled_from(["g1", "g2", "g3"]),
        selectors=st.lists(st.sampled_from([selector(name) for name in "abc"]), max_size=3).map(tuple),
        grantees=st.frozensets(st.sampled_from(["r1", "r2", PUBLIC])),
    ),
    max_size=5,
)


@pytest.mark.requirement("R-191")
@given(rules)
def test_what_is_declared_is_the_union_of_all_rules_in_any_order(several: list[Rule]) -> None:
    def pairs(some: list[Rule]) -> set[tuple[Selector, str]]:
        desired = merge(some)
        assert len(set(desired.selectors)) == len(desired.selectors)
        together = zip(desired.selectors, desired.grantees, strict=True)
        return {(one, name) for one, names in together for name in names}

    wanted = {(one, name) for rule in several for one in rule.selectors for name in rule.grantees}
    assert pairs(several) == pairs(several[::-1]) == wanted


def test_the_database_gets_oids_zero_for_everybody_and_nothing_for_who_has_no_role() -> None:
    desired = merge([Rule("g", (selector(),), frozenset({"r1", "gone", PUBLIC}))])
    (rule,) = as_json(desired, {"r1": 7})
    assert rule["grantees"] == [0, 7]
    assert rule["id"] == 0
    assert (rule["class"], rule["access"], rule["privileges"]) == ("TABLE", "Read", [])


def test_a_rule_without_grantees_is_still_a_rule() -> None:
    desired = merge([Rule("g", (selector("a"), selector("b")), frozenset())])
    assert [rule["grantees"] for rule in as_json(desired, {})] == [[], []]


def test_every_class_and_privilege_is_one_that_the_api_knows() -> None:
    assert set(itertools.chain.from_iterable(PRIVILEGES.values())) == set(Privilege)
