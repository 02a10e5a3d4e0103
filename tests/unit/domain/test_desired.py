"""AccessGrants become rules, and rules one declaration."""

import itertools
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakebase_operator.api import AccessGrant
from lakebase_operator.api.access_grant import _FITTING, AccessLevel, _listed
from lakebase_operator.api.objects import Privilege
from lakebase_operator.domain.desired import (
    _CLASSES,
    PUBLIC,
    Declared,
    Selector,
    as_json,
    desired_in,
    is_active,
    next_change,
    selectors_of,
)
from lakebase_operator.domain.privileges import (
    ACCESS_LEVELS,
    DEFAULT_CLASSES,
    PRIVILEGES,
    ObjectClass,
    supported,
)

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
            "privileges": (Privilege.SELECT,),
            **other,
        }
    )


def declared(
    selectors: Iterable[Selector], grantees: Iterable[str], database: str = "sales", *, active: bool = True
) -> Declared:
    return Declared(grant(database=database), {}, tuple(selectors), frozenset(grantees), active)


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
    levels = ACCESS_LEVELS[ObjectClass.TABLE]
    assert set(levels[AccessLevel.WRITE]) == {"SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE"}
    assert set(levels[AccessLevel.READ]) == {"SELECT"}
    assert set(levels[AccessLevel.WRITE]) < PRIVILEGES[ObjectClass.TABLE]


@pytest.mark.requirement("R-198")
@pytest.mark.parametrize("object_class", list(ACCESS_LEVELS), ids=str)
def test_an_access_level_gives_what_the_class_can_carry_and_write_implies_read(
    object_class: ObjectClass,
) -> None:
    levels = ACCESS_LEVELS[object_class]
    assert set(levels) == set(AccessLevel)
    read, modify, write = (set(levels[level]) for level in AccessLevel)
    assert read <= modify <= write <= PRIVILEGES[object_class]
    assert levels[AccessLevel.READ]


# -- shapes --------------------------------------------------------------------------------------------------------

SHAPES: list[tuple[dict[str, Any], str, ObjectClass, str | None, tuple[str, ...]]] = [
    ({"sequences": {"schema": "s", "names": ["q"]}}, "USAGE", ObjectClass.SEQUENCE, "s", ("q",)),
    ({"routines": {"schema": "s", "names": ["f"]}}, "EXECUTE", ObjectClass.ROUTINE, "s", ("f",)),
    ({"types": {"schema": "s", "names": ["T"]}}, "USAGE", ObjectClass.TYPE, "s", ("T",)),
    ({"schemas": {"names": ["a"]}}, "CREATE", ObjectClass.SCHEMA, None, ("a",)),
    ({"databases": {"names": ["d"]}}, "TEMPORARY", ObjectClass.DATABASE, None, ("d",)),
    ({"languages": {"names": ["plpgsql"]}}, "USAGE", ObjectClass.LANGUAGE, None, ("plpgsql",)),
    ({"foreignDataWrappers": {"names": ["w"]}}, "USAGE", ObjectClass.FOREIGN_DATA_WRAPPER, None, ("w",)),
    ({"foreignServers": {"names": ["v"]}}, "USAGE", ObjectClass.FOREIGN_SERVER, None, ("v",)),
    ({"parameters": {"names": ["App.Tenant"]}}, "SET", ObjectClass.PARAMETER, None, ("app.tenant",)),
    ({"tablespaces": {"names": ["x"]}}, "CREATE", ObjectClass.TABLESPACE, None, ("x",)),
    ({"largeObjects": {"ids": [20, 3]}}, "UPDATE", ObjectClass.LARGE_OBJECT, None, ("20", "3")),
    (
        {"defaultPrivileges": {"creator": "ann", "objectType": "types"}},
        "USAGE",
        ObjectClass.DEFAULT_TYPES,
        None,
        ("ann",),
    ),
    (
        {"defaultPrivileges": {"objectType": "sequences", "schema": "s"}},
        "UPDATE",
        ObjectClass.DEFAULT_SEQUENCES,
        "s",
        (),
    ),
]


@pytest.mark.parametrize(
    ("entry", "privilege", "object_class", "schema", "names"), SHAPES, ids=[str(one[2]) for one in SHAPES]
)
def test_each_shape_selects_objects_of_its_class(
    entry: dict[str, Any],
    privilege: str,
    object_class: ObjectClass,
    schema: str | None,
    names: tuple[str, ...],
) -> None:
    (one,) = selectors_of(grant(objects=[entry], privileges=[privilege], newObjects=False), 18)
    assert (one.object_class, one.schema, one.names) == (object_class, schema, names)
    assert one.privileges == (privilege,)
    named_one_by_one = object_class.is_default or object_class in (
        ObjectClass.LARGE_OBJECT,
        ObjectClass.PARAMETER,
    )
    assert (one.snapshot is None) is named_one_by_one
    assert one.is_for_all_creators is (object_class.is_default and not names)


@pytest.mark.parametrize(
    ("written", "as_the_catalog_has_it"),
    [
        ("f", "f"),
        ("f()", "f()"),
        ("f( )", "f()"),
        ("f (integer,  s.t)", "f(integer,s.t)"),
        ("f(integer ,text[] )", "f(integer,text[])"),
        ("f(character varying, timestamp with time zone)", "f(character varying,timestamp with time zone)"),
        ("F(numeric(10, 2))", "F(numeric(10,2))"),
        ('f(s."a , ""b"", c" , "d")', 'f(s."a , ""b"", c","d")'),
    ],
)
def test_a_signature_may_be_written_with_spaces(written: str, as_the_catalog_has_it: str) -> None:
    entry = {"routines": {"schema": "s", "names": [written]}}
    (one,) = selectors_of(grant(objects=[entry], privileges=["EXECUTE"]), 18)
    assert one.names == (as_the_catalog_has_it,)


def test_columns_carry_fewer_privileges_than_their_table() -> None:
    entry = {"tables": {"schema": "s", "names": ["t"], "columns": ["b", "a"]}}
    (one,) = selectors_of(grant(objects=[entry], access="Write"), 18)
    assert one.columns == ("a", "b")
    assert one.privileges == (Privilege.SELECT, Privilege.INSERT, Privilege.UPDATE)
    with pytest.raises(ValueError, match="a column has no privilege DELETE"):
        selectors_of(grant(objects=[entry], privileges=["DELETE"]), 18)


@pytest.mark.parametrize("member", ["routines", "types"])
def test_an_access_level_says_nothing_of_some_objects_and_is_refused_there(member: str) -> None:
    with pytest.raises(ValueError, match=r"^spec\.access says nothing of a "):
        selectors_of(grant(objects=[{member: {"schema": "s", "names": ["a"]}}]), 18)


def test_absence_and_grant_option_keep_rules_apart() -> None:
    variants: list[dict[str, Any]] = [{}, {"grantOption": True}, {"ensure": "Absent"}]
    several = [selectors_of(grant(privileges=["SELECT"], **more), 18)[0] for more in variants]
    assert len(set(several)) == 3
    said = as_json(desired_in("sales", [declared(several, {"r"})]), {"r": 1})
    assert [(one["option"], one["absent"]) for one in said] == [(False, False), (True, False), (False, True)]


def test_default_privileges_of_large_objects_exist_from_18() -> None:
    entry = {"defaultPrivileges": {"creator": "ann", "objectType": "largeObjects"}}
    both = grant(objects=[entry, {"largeObjects": {"ids": [1]}}], privileges=["SELECT"])
    assert [one.object_class for one in selectors_of(both, 17)] == [ObjectClass.LARGE_OBJECT]
    assert len(selectors_of(both, 18)) == 2


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
        (
            [{"defaultPrivileges": {"creator": "a", "objectType": "tables", "schema": "pg_catalog"}}],
            ["SELECT"],
        ),
        ([{"defaultPrivileges": {"creator": "a", "objectType": "tables"}}], ["USAGE"]),
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


def test_the_database_gets_oids_zero_for_everybody_and_nothing_for_who_has_no_role() -> None:
    desired = desired_in("sales", [declared([selector()], {"r1", "gone", PUBLIC})])
    (rule,) = as_json(desired, {"r1": 7})
    assert rule["grantees"] == [0, 7]
    assert rule["id"] == 0
    assert (rule["class"], rule["access"], rule["privileges"]) == ("TABLE", "Read", ["SELECT"])


def test_a_rule_without_grantees_is_still_a_rule() -> None:
    desired = desired_in("sales", [declared([selector("a"), selector("b")], ())])
    assert [rule["grantees"] for rule in as_json(desired, {})] == [[], []]


def test_every_class_and_privilege_is_one_that_the_api_knows() -> None:
    assert set(itertools.chain.from_iterable(PRIVILEGES.values())) == set(Privilege)


def test_the_api_server_and_the_operator_agree_on_what_fits() -> None:
    members = {re.sub("_(.)", lambda found: found[1].upper(), name): one for name, one in _CLASSES.items()}
    members["largeObjects"] = ObjectClass.LARGE_OBJECT
    assert {name: set(_listed(text)) for name, text in _FITTING.items()} == {
        name: {privilege.value for privilege in PRIVILEGES[one]} for name, one in members.items()
    }
    for kind, object_class in DEFAULT_CLASSES.items():
        assert PRIVILEGES[object_class] == PRIVILEGES[members[kind.value]]
