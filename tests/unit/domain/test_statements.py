"""Statements, composed and never pasted together."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakebase_operator.api.objects import Privilege
from lakebase_operator.domain.desired import PUBLIC
from lakebase_operator.domain.privileges import ObjectClass
from lakebase_operator.domain.statements import ObjectName, PrivilegeStatement, Verb, role_specification


def table(name: str) -> ObjectName:
    return ObjectName(ObjectClass.TABLE, "sales", name)


def statement(objects: int = 1, grantees: int = 1, privileges: int = 1) -> PrivilegeStatement:
    return PrivilegeStatement(
        Verb.GRANT,
        tuple(table(f"t{number}") for number in range(objects)),
        tuple(list(Privilege)[:privileges]),
        tuple(f"r{number}" for number in range(grantees)),
        "owner",
    )


def test_a_rectangle_is_one_statement() -> None:
    assert str(statement(2, 2, 2)) == (
        'GRANT SELECT, INSERT ON TABLE "sales"."t0", "sales"."t1" TO "r0", "r1"'
    )
    one = PrivilegeStatement(
        Verb.REVOKE, (ObjectName(ObjectClass.DATABASE, None, "d"),), (Privilege.CONNECT,), (PUBLIC,), None
    )
    assert str(one) == 'REVOKE CONNECT ON DATABASE "d" FROM PUBLIC'


@pytest.mark.requirement("R-179")
@given(st.text(alphabet=st.characters(exclude_characters="\x00", codec="utf-8"), min_size=1, max_size=20))
def test_any_name_stays_one_quoted_identifier(name: str) -> None:
    quoted = '"' + name.replace('"', '""') + '"'
    if name != PUBLIC:
        assert role_specification(name).as_string(None) == quoted
    assert ObjectName(ObjectClass.TABLE, name, name).identifier().as_string(None) == f"{quoted}.{quoted}"


@settings(deadline=None)  # some hundred statements each
@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 5))
def test_halves_cover_the_same_cells_once_until_one_is_left(
    objects: int, grantees: int, privileges: int
) -> None:
    def cells(one: PrivilegeStatement) -> list[tuple[ObjectName, str, Privilege]]:
        return [(o, g, p) for o in one.objects for g in one.grantees for p in one.privileges]

    whole = statement(objects, grantees, privileges)
    pending, single = [whole], []
    while pending:
        one = pending.pop()
        parts = one.halves()
        assert Counter(cells(one)) == Counter(cell for part in parts or (one,) for cell in cells(part))
        assert all(part.acting_as == whole.acting_as and part.verb is whole.verb for part in parts)
        pending.extend(parts)
        single.extend([] if parts else cells(one))
    assert Counter(single) == Counter(cells(whole))
    assert len(single) == objects * grantees * privileges


def test_columns_are_named_with_each_privilege() -> None:
    one = PrivilegeStatement(
        Verb.GRANT,
        (ObjectName(ObjectClass.COLUMN, "sales", "t", "a"), ObjectName(ObjectClass.COLUMN, "sales", "t", 'b"')),
        (Privilege.SELECT, Privilege.UPDATE),
        ("r",),
        None,
        grant_option=True,
    )  # fmt: skip
    assert str(one) == (
        'GRANT SELECT ("a", "b"""), UPDATE ("a", "b""") ON TABLE "sales"."t" TO "r" WITH GRANT OPTION'
    )
    assert [str(part) for part in one.halves()] == [
        'GRANT SELECT ("a"), UPDATE ("a") ON TABLE "sales"."t" TO "r" WITH GRANT OPTION',
        'GRANT SELECT ("b"""), UPDATE ("b""") ON TABLE "sales"."t" TO "r" WITH GRANT OPTION',
    ]


@pytest.mark.parametrize(
    ("thing", "privilege", "text"),
    [
        (ObjectName(ObjectClass.TABLE, "s", "t"), Privilege.MAINTAIN, 'MAINTAIN ON TABLE "s"."t"'),
        (ObjectName(ObjectClass.SEQUENCE, "s", "q"), Privilege.USAGE, 'USAGE ON SEQUENCE "s"."q"'),
        (
            ObjectName(ObjectClass.ROUTINE, "s", "f", 'integer,"My"."a ""b"", c",double precision[]'),
            Privilege.EXECUTE,
            'EXECUTE ON ROUTINE "s"."f"(IN integer, IN "My"."a ""b"", c", IN double precision[])',
        ),
        (ObjectName(ObjectClass.ROUTINE, "s", "f", ""), Privilege.EXECUTE, 'EXECUTE ON ROUTINE "s"."f"()'),
        (ObjectName(ObjectClass.TYPE, "s", "m"), Privilege.USAGE, 'USAGE ON TYPE "s"."m"'),
        (ObjectName(ObjectClass.SCHEMA, None, "s"), Privilege.CREATE, 'CREATE ON SCHEMA "s"'),
        (ObjectName(ObjectClass.DATABASE, None, "d"), Privilege.TEMPORARY, 'TEMPORARY ON DATABASE "d"'),
        (ObjectName(ObjectClass.LANGUAGE, None, "l"), Privilege.USAGE, 'USAGE ON LANGUAGE "l"'),
        (
            ObjectName(ObjectClass.FOREIGN_DATA_WRAPPER, None, "w"),
            Privilege.USAGE,
            'USAGE ON FOREIGN DATA WRAPPER "w"',
        ),
        (ObjectName(ObjectClass.FOREIGN_SERVER, None, "v"), Privilege.USAGE, 'USAGE ON FOREIGN SERVER "v"'),
        (ObjectName(ObjectClass.LARGE_OBJECT, None, "4711"), Privilege.UPDATE, "UPDATE ON LARGE OBJECT 4711"),
        (
            ObjectName(ObjectClass.PARAMETER, None, "app.tenant"),
            Privilege.ALTER_SYSTEM,
            'ALTER SYSTEM ON PARAMETER "app"."tenant"',
        ),
        (ObjectName(ObjectClass.TABLESPACE, None, "x"), Privilege.CREATE, 'CREATE ON TABLESPACE "x"'),
    ],
    ids=lambda value: value.object_class.value if isinstance(value, ObjectName) else "",
)
def test_each_class_of_object_is_named_as_postgres_wants_it(
    thing: ObjectName, privilege: Privilege, text: str
) -> None:
    assert str(PrivilegeStatement(Verb.GRANT, (thing,), (privilege,), ("r",), None)) == f'GRANT {text} TO "r"'
    assert (
        str(PrivilegeStatement(Verb.REVOKE, (thing,), (privilege,), (PUBLIC,), None, grant_option=True))
        == f"REVOKE GRANT OPTION FOR {text} FROM PUBLIC"
    )


@pytest.mark.parametrize(
    ("object_class", "schema", "begin", "what"),
    [
        (ObjectClass.DEFAULT_TABLES, "s", ' IN SCHEMA "s"', "TABLES"),
        (ObjectClass.DEFAULT_SEQUENCES, "s", ' IN SCHEMA "s"', "SEQUENCES"),
        (ObjectClass.DEFAULT_ROUTINES, None, "", "ROUTINES"),
        (ObjectClass.DEFAULT_TYPES, None, "", "TYPES"),
        (ObjectClass.DEFAULT_SCHEMAS, None, "", "SCHEMAS"),
        (ObjectClass.DEFAULT_LARGE_OBJECTS, None, "", "LARGE OBJECTS"),
    ],
)
def test_default_privileges_name_the_creator_and_the_schema(
    object_class: ObjectClass, schema: str | None, begin: str, what: str
) -> None:
    place = ObjectName(object_class, schema, 'ann "a"')
    grant = PrivilegeStatement(Verb.GRANT, (place,), (Privilege.USAGE,), ("r",), None, grant_option=True)
    revoke = PrivilegeStatement(Verb.REVOKE, (place,), (Privilege.USAGE,), (PUBLIC,), None)
    start = f'ALTER DEFAULT PRIVILEGES FOR ROLE "ann ""a"""{begin}'
    assert str(grant) == f'{start} GRANT USAGE ON {what} TO "r" WITH GRANT OPTION'
    assert str(revoke) == f"{start} REVOKE USAGE ON {what} FROM PUBLIC"


def test_objects_are_called_for_people_by_what_tells_them_apart() -> None:
    called = [
        ObjectName(ObjectClass.COLUMN, "s", "t", "c"),
        ObjectName(ObjectClass.ROUTINE, "s", "f", "integer,text"),
        ObjectName(ObjectClass.SCHEMA, None, "s"),
        ObjectName(ObjectClass.DEFAULT_TABLES, "s", "ann"),
        ObjectName(ObjectClass.DEFAULT_LARGE_OBJECTS, None, "ann"),
    ]
    assert [str(one) for one in called] == [
        "s.t.c",
        "s.f(integer,text)",
        "s",
        'new tables of "ann" in s',
        'new large objects of "ann"',
    ]


def test_a_statement_is_taken_apart_by_object() -> None:
    assert [len(part.objects) for part in statement(3, 2).one_by_one()] == [1, 1, 1]
    assert statement(1, 2).one_by_one() == ()
