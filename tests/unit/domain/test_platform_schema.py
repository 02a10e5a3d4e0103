"""Which schemas may be an application's own."""

from typing import Any

import pytest

from lakebase_operator.domain.platform_schema import (
    Action,
    FoundSchema,
    Unfit,
    claimed_by_another,
    claims,
    data_schemas,
    judge,
)
from tests.postgres.objects import access_grant, postgres_role, schemas, tables

ROLE, OTHER = 17, 18
DATABASES = ("sales", "archive")


def found(**changes: Any) -> FoundSchema:
    given = {
        "oid": 1,
        "name": "own",
        "owner": ROLE,
        "occupied": False,
        "foreign": None,
        "made": False,
        **changes,
    }
    return FoundSchema(**given)


@pytest.mark.requirement("R-118", "R-119")
@pytest.mark.parametrize(
    ("schema", "action"),
    [
        (None, Action.CREATE),
        (found(), Action.NONE),
        (found(occupied=True), Action.NONE),
        (found(owner=OTHER), Action.HAND_OVER),
        (found(owner=OTHER, occupied=True, made=True), Action.HAND_OVER),
        (found(owner=OTHER, occupied=True), None),
        (found(occupied=True, foreign='table t of "x"'), None),
        (found(occupied=True, foreign='table t of "x"', made=True), None),
    ],
)
def test_what_is_there_decides(schema: FoundSchema | None, action: Action | None) -> None:
    judged = judge("own", ROLE, schema, None)
    assert isinstance(judged, Unfit) if action is None else judged is action


@pytest.mark.requirement("R-119")
@pytest.mark.parametrize("name", ["public", "pg_own", "information_schema", "lakebase_operator"])
def test_what_belongs_to_everybody_or_the_system_never_is(name: str) -> None:
    assert isinstance(judge(name, ROLE, None, None), Unfit)


@pytest.mark.requirement("R-119")
def test_a_schema_that_somebody_else_speaks_of_is_not_made_and_the_reason_is_told() -> None:
    assert judge("own", ROLE, None, "somebody reads it") == Unfit("somebody reads it")
    assert judge("own", ROLE, found(), "somebody reads it") == Unfit("somebody reads it")


def test_data_is_where_access_grants_select_from_and_what_roles_expose_in_that_database() -> None:
    reading = access_grant(
        "a", ["r"], [tables("one"), schemas("not_selected_from")], "Read", database="sales"
    )
    elsewhere = access_grant("b", ["r"], [tables("two")], database="archive")
    functions = access_grant(
        "c",
        ["r"],
        [{"routines": {"schema": "three", "names": ["f"]}}],
        privileges=["EXECUTE"],
        database="sales",
    )
    exposing = postgres_role("x", exposes=[{"schema": "four", "matching": ["*"]}])
    there = postgres_role(
        "y", password={}, binding={"database": "archive"}, exposes=[{"schema": "five", "matching": ["*"]}]
    )
    data = data_schemas([reading, elsewhere, functions], [exposing, there], "sales", DATABASES)
    assert data.keys() == {"one", "three", "four"}
    assert "AccessGrant team/a" in data["one"]
    assert "PostgresRole team/x" in data["four"]


def test_of_two_roles_that_want_a_schema_the_older_has_it_and_owners_come_before_both() -> None:
    older, younger = (postgres_role(name, platformSchema={"name": "own"}) for name in ("older", "younger"))
    claimed = claims([older, younger], "sales", DATABASES)["own"]
    assert claimed_by_another(older, claimed) is None
    assert "PostgresRole team/older" in (claimed_by_another(younger, claimed) or "")
    owner = postgres_role("owner", owns=[{"schemas": {"names": ["own"]}}])
    for roles in ([owner, older], [older, owner]):
        assert "PostgresRole team/owner" in (
            claimed_by_another(older, claims(roles, "sales", DATABASES)["own"]) or ""
        )


def test_the_same_name_in_another_database_and_what_the_role_itself_owns_are_no_claims() -> None:
    role = postgres_role(
        "r", platformSchema={"name": "own"}, owns=[{"tables": {"schema": "own", "matching": ["*"]}}]
    )
    other = postgres_role("o", platformSchema={"name": "own", "database": "archive"})
    assert claimed_by_another(role, claims([other, role], "sales", DATABASES)["own"]) is None
