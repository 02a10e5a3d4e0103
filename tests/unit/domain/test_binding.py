"""What is published of a login."""

import shlex
from dataclasses import replace
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from psycopg.conninfo import conninfo_to_dict

from lakebase_operator.domain.binding import Published
from lakebase_operator.domain.errors import InvalidError

PLAIN = Published("db.example.com", 5432, "sales", "app_1", "verify-full", None, None, "S3cret-._~")
ODD = replace(
    PLAIN, database="my 'odd' \\db", username="a@b/c:d", password="p@ss:w/rd?&#%", ca=b"PEM", schema="own"
)


@pytest.mark.requirement("R-124", "R-125")
def test_all_fields_of_the_specification_and_of_the_form_are_published() -> None:
    data = ODD.data({})
    assert {key: data[key].decode() for key in ("type", "provider", "host", "port", "schema", "sslmode")} == {
        "type": "postgresql", "provider": "lakebase", "host": "db.example.com", "port": "5432", "schema": "own",
        "sslmode": "verify-full",
    }  # fmt: skip
    assert {"database", "username", "password", "uri", "jdbc-uri", "psql", "ca.crt"} <= data.keys()
    assert not {"schema", "ca.crt"} & PLAIN.data({}).keys()


@pytest.mark.requirement("R-86")
@pytest.mark.parametrize("one", [PLAIN, ODD])
def test_libpq_reads_the_uri_as_it_is_meant(one: Published) -> None:
    assert conninfo_to_dict(one.uri) == {
        "host": one.host, "port": "5432", "dbname": one.database, "user": one.username, "password": one.password,
        "sslmode": "verify-full",
    }  # fmt: skip


@pytest.mark.requirement("R-134")
@pytest.mark.parametrize("one", [PLAIN, ODD])
def test_the_command_line_has_no_password_and_is_one_argument(one: Published) -> None:
    program, argument = shlex.split(one.psql)
    assert program == "psql"
    assert conninfo_to_dict(argument) == {
        "host": one.host, "port": "5432", "dbname": one.database, "user": one.username, "sslmode": "verify-full",
        "sslrootcert": "ca.crt" if one.ca else "system",
    }  # fmt: skip
    assert one.password not in one.psql


@pytest.mark.requirement("R-86")
@pytest.mark.parametrize("one", [PLAIN, ODD])
def test_the_jdbc_uri_names_database_user_and_password(one: Published) -> None:
    parts = urlsplit(one.jdbc_uri.removeprefix("jdbc:"))
    assert unquote(parts.path[1:]) == one.database
    parameters = parse_qs(parts.query)
    assert (parameters["user"], parameters["password"]) == ([one.username], [one.password])
    assert ("sslfactory" in parameters) is (one.ca is None)


def test_users_name_their_own_keys() -> None:
    data = ODD.data({"PGHOST": "$host", "both": "${username}:$$${port}", "ca-too": "$ca"})
    assert (data["PGHOST"], data["both"], data["ca-too"]) == (b"db.example.com", b"a@b/c:d:$5432", b"PEM")


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ({"a": "$nothing"}, r"\$nothing"),
        ({"a": "100 $"}, r"\$\$"),
        ({"uri": "$host"}, "published anyway"),
        ({".next": "x"}, "begins with a dot"),
    ],
)
def test_a_template_that_cannot_be_filled_is_refused_without_any_value(
    template: dict[str, str], problem: str
) -> None:
    with pytest.raises(InvalidError, match=problem) as error:
        PLAIN.data(template)
    assert PLAIN.password not in str(error.value)


def test_no_password_is_shown() -> None:
    assert PLAIN.password not in repr(PLAIN)
