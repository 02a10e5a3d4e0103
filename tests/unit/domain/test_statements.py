"""Statements, composed and never pasted together."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakebase_operator.api.access_grant import Privilege
from lakebase_operator.domain.desired import PUBLIC
from lakebase_operator.domain.privileges import ObjectClass
from lakebase_operator.domain.statements import (
    ObjectName,
    PrivilegeStatement,
    Verb,
    alter_role,
    create_identity_role,
    create_role,
    drop_role,
    grant_membership,
    parameter_values,
    reset_role_parameter,
    revoke_membership,
    role_options,
    role_specification,
    set_local_role,
    set_role_parameter,
)


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
    assert drop_role(name).as_string(None) == f"DROP ROLE {quoted}"
    assert set_local_role(name).as_string(None) == f"SET LOCAL ROLE {quoted}"
    if name != PUBLIC:
        assert role_specification(name).as_string(None) == quoted
    assert ObjectName(ObjectClass.TABLE, name, name).identifier().as_string(None) == f"{quoted}.{quoted}"


@given(st.integers(1, 7), st.integers(1, 7), st.integers(1, 7))
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
        assert sorted(cells(one)) == sorted(cell for part in parts or (one,) for cell in cells(part))
        assert all(part.acting_as == whole.acting_as and part.verb is whole.verb for part in parts)
        pending.extend(parts)
        single.extend([] if parts else cells(one))
    assert sorted(single) == sorted(cells(whole))
    assert len(single) == objects * grantees * privileges


def test_columns_are_named_with_each_privilege() -> None:
    one = PrivilegeStatement(
        Verb.GRANT,
        (table("t"),),
        (Privilege.SELECT, Privilege.UPDATE),
        ("r",),
        None,
        ("a", 'b"'),
        grant_option=True,
    )
    assert str(one) == (
        'GRANT SELECT ("a", "b"""), UPDATE ("a", "b""") ON TABLE "sales"."t" TO "r" WITH GRANT OPTION'
    )


def test_a_statement_is_taken_apart_by_object() -> None:
    assert [len(part.objects) for part in statement(3, 2).one_by_one()] == [1, 1, 1]
    assert statement(1, 2).one_by_one() == ()


def test_role_options_mention_only_what_is_given() -> None:
    options = role_options(login=True, create_db=False, connection_limit=0, valid_until="2030-01-01")
    assert create_role("r", options).as_string(None) == (
        "CREATE ROLE \"r\" LOGIN NOCREATEDB CONNECTION LIMIT 0 VALID UNTIL '2030-01-01'"
    )
    assert list(role_options()) == []
    assert alter_role("r", role_options(bypass_rls=False)).as_string(None) == 'ALTER ROLE "r" NOBYPASSRLS'


def test_a_membership_says_all_three_options_and_its_revoke_the_grantor() -> None:
    assert grant_membership("a", "b", admin=False, inherit=True, set_=False).as_string(None) == (
        'GRANT "a" TO "b" WITH ADMIN FALSE, INHERIT TRUE, SET FALSE'
    )
    assert revoke_membership("a", "b", "c").as_string(None) == 'REVOKE "a" FROM "b" GRANTED BY "c"'


def test_an_identity_is_made_by_the_extension_with_literals() -> None:
    made = create_identity_role("o'neil@example.com", "USER", "public").as_string(None)
    assert made == "SELECT \"public\".\"databricks_create_role\"('o''neil@example.com', 'USER')"


@pytest.mark.parametrize(
    ("parameter", "value", "composed"),
    [
        ("statement_timeout", "30s", "\"statement_timeout\" TO '30s'"),
        ("app.user", "a, b", '"app"."user" TO \'a, b\''),
        ("search_path", '"$user", Sales,public', "\"search_path\" TO '$user', 'sales', 'public'"),
        ("Search_Path", '"A ""b"" , c"', '"Search_Path" TO \'A "b" , c\''),
        ("search_path", "", "\"search_path\" TO ''"),
    ],
)
def test_a_parameter_is_set_to_what_its_text_means(parameter: str, value: str, composed: str) -> None:
    assert set_role_parameter("r", parameter, value).as_string(None) == f'ALTER ROLE "r" SET {composed}'


@given(st.lists(st.text(alphabet='ab "$,B', min_size=1, max_size=6), min_size=1, max_size=4))
def test_a_list_that_is_quoted_reads_back_as_it_was(names: list[str]) -> None:
    text = ", ".join('"' + name.replace('"', '""') + '"' for name in names)
    assert parameter_values("search_path", text) == tuple(names)


def test_a_parameter_is_reset_by_its_name() -> None:
    assert reset_role_parameter("r", "app.user").as_string(None) == 'ALTER ROLE "r" RESET "app"."user"'
