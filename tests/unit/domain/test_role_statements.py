"""Statements about roles, composed and never pasted together."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakebase_operator.domain.role_statements import (
    alter_role,
    create_identity_role,
    create_role,
    drop_role,
    grant_membership,
    parameter_values,
    reset_role_parameter,
    revoke_membership,
    role_options,
    set_local_role,
    set_role_parameter,
)


@pytest.mark.requirement("R-179")
@given(st.text(alphabet=st.characters(exclude_characters="\x00", codec="utf-8"), min_size=1, max_size=20))
def test_any_name_of_a_role_stays_one_quoted_identifier(name: str) -> None:
    quoted = '"' + name.replace('"', '""') + '"'
    assert drop_role(name).as_string(None) == f"DROP ROLE {quoted}"
    assert set_local_role(name).as_string(None) == f"SET LOCAL ROLE {quoted}"


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
        # In UTF-8 PostgreSQL makes small letters of ASCII only, and none at all of file names.
        ("search_path", "ÄRGER", "\"search_path\" TO 'Ärger'"),
        (
            "local_preload_libraries",
            "$libdir/plugins/MyLib, B",
            "\"local_preload_libraries\" TO '$libdir/plugins/MyLib', 'B'",
        ),
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
