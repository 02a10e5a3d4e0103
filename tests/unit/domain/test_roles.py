"""Roles: what is declared against what is there."""

from collections.abc import Sequence
from typing import Any

import pytest

from lakebase_operator.api.postgres_role import IdentityType, PostgresRoleSpec
from lakebase_operator.domain.plan import Actor
from lakebase_operator.domain.roles import (
    RoleState,
    Step,
    alteration,
    comment_change,
    creation,
    declared_options,
)

MEMBER = 101


def spec(**fields: Any) -> PostgresRoleSpec:
    return PostgresRoleSpec.model_validate({"connectionRef": {"name": "marketing"}, **fields})


def state(oid: int = MEMBER, **fields: Any) -> RoleState:
    rights = {name: fields.pop(name, False) for name in ("inherits", "can_set", "admin", "is_operator")}
    name = f"r{oid}"
    values: dict[str, Any] = {
        "superuser": False, "login": False, "create_db": False, "create_role": False, "bypass_rls": False, "inherit": True,
        "connection_limit": -1, "valid_until": None, "settings": {}, "identity": None,
    }  # fmt: skip
    return RoleState(oid=oid, name=name, actor=Actor(oid, name, **rights), **{**values, **fields})


def texts(steps: Sequence[Step]) -> list[str]:
    return [step.statement.as_string(None) for step in steps]


def test_a_new_role_gets_only_what_is_asked_for() -> None:
    wanted = spec(login=True, attributes={"createDB": True, "connectionLimit": 3})
    steps = creation("r", identity=None, options=declared_options(wanted), auth_schema=None)
    assert texts(steps) == ['CREATE ROLE "r" LOGIN CREATEDB CONNECTION LIMIT 3']
    assert texts(creation("r", identity=None, options=declared_options(spec()), auth_schema=None)) == [
        'CREATE ROLE "r"'
    ]


def test_an_identity_is_made_by_the_extension_and_altered_only_if_something_is_asked_for() -> None:
    plain = creation("a@b", identity=IdentityType.USER, options=(), auth_schema="public")
    assert texts(plain) == ["SELECT \"public\".\"databricks_create_role\"('a@b', 'USER')"]
    options = declared_options(
        spec(identity={"type": "User", "name": "a@b"}, login=True, attributes={"createDB": True})
    )
    assert texts(creation("a@b", identity=IdentityType.USER, options=options, auth_schema="public"))[1:] == [
        'ALTER ROLE "a@b" CREATEDB'
    ]
    with pytest.raises(ValueError, match="databricks_auth"):
        creation("a@b", identity=IdentityType.USER, options=(), auth_schema=None)


@pytest.mark.requirement("R-12")
@pytest.mark.parametrize(
    ("wanted", "actual", "expected"),
    [
        ({}, {"login": True, "create_db": True, "bypass_rls": True}, []),
        ({"login": True}, {"login": True}, []),
        ({"login": False}, {"login": True}, ["NOLOGIN"]),
        ({"attributes": {"bypassRLS": False}}, {}, []),
        ({"attributes": {"bypassRLS": False, "createRole": True}}, {"bypass_rls": True}, ["CREATEROLE", "NOBYPASSRLS"]),
        ({"attributes": {"connectionLimit": -1}}, {"connection_limit": 4}, ["CONNECTION LIMIT  -1"]),
        ({"attributes": {"validUntil": "2030-01-01T00:00:00Z"}}, {"valid_until": "2030-01-01 01:00:00+01"}, []),
        ({"attributes": {"validUntil": "2030-01-01T00:00:00Z"}}, {"valid_until": "infinity"},
         ["VALID UNTIL '2030-01-01T00:00:00+00:00'"]),
        ({"attributes": {"validUntil": "2030-01-01T00:00:00Z"}}, {"valid_until": "12030-01-01 00:00:00+00"},
         ["VALID UNTIL '2030-01-01T00:00:00+00:00'"]),
        ({}, {"valid_until": "-infinity"}, []),
        ({}, {"valid_until": "2030-01-01 00:00:00+00", "login": True}, []),
        ({"login": True}, {"valid_until": "2030-01-01 00:00:00+00", "login": True}, ["VALID UNTIL 'infinity'"]),
        ({"login": True}, {"valid_until": "infinity", "login": True}, []),
    ],
)  # fmt: skip
def test_only_what_differs_is_altered(
    wanted: dict[str, Any], actual: dict[str, Any], expected: list[str]
) -> None:
    steps = texts(alteration(spec(**wanted), state(**actual)))
    assert steps == ([f'ALTER ROLE "r101" {" ".join(expected)}'] if expected else [])


@pytest.mark.parametrize(
    ("wanted", "actual", "ours", "expected"),
    [
        (None, None, False, []),
        (None, "theirs", False, []),
        (None, "mine", True, ["NULL"]),
        (None, None, True, []),
        ("mine", "mine", False, []),
        ("mine", "theirs", False, ["'mine'"]),
        ("it's", None, True, ["'it''s'"]),
    ],
)
def test_a_comment_is_set_where_it_differs_and_taken_away_where_it_was_declared(
    wanted: str | None, actual: str | None, ours: bool, expected: list[str]
) -> None:
    declared = spec(comment=wanted) if wanted else spec()
    steps = texts(comment_change(declared, state(comment=actual), ours=ours))
    assert steps == [f'COMMENT ON ROLE "r101" IS {text}' for text in expected]
