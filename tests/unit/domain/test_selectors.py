"""What an AccessGrant selects."""

import itertools
import re
from typing import Any

import pytest

from lakebase_operator.api.access_grant import _FITTING, AccessLevel, _listed
from lakebase_operator.api.objects import Privilege
from lakebase_operator.domain.privileges import (
    ACCESS_LEVELS,
    DEFAULT_CLASSES,
    PRIVILEGES,
    ObjectClass,
    supported,
)
from lakebase_operator.domain.selectors import _CLASSES, selectors_of
from tests.unit.domain.grants import grant, selector


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
