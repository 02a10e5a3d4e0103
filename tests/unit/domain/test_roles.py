"""Roles: what is declared against what is there."""

from collections.abc import Sequence
from typing import Any

import pytest

from lakebase_operator.api.postgres_role import IdentityType, PostgresRoleSpec
from lakebase_operator.domain.plan import Actor
from lakebase_operator.domain.roles import (
    BOOTSTRAP_SUPERUSER,
    Edge,
    MembershipPlan,
    RoleState,
    Step,
    alteration,
    creation,
    declared_options,
    membership_change,
    settings_change,
)

OPERATOR, MEMBER, GROUP, ADMINS, STRANGER = 100, 101, 102, 103, 104


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
        ({"work_mem": "4MB"}, {}, [], ["SET \"work_mem\" TO '4MB'"]),
        ({"work_mem": "4MB"}, {"work_mem": "4MB"}, [], []),
        ({"Work_Mem": "4MB"}, {"work_mem": "4MB"}, ["work_mem"], []),
        ({"work_mem": "8MB"}, {"work_mem": "4MB"}, ["work_mem"], ["SET \"work_mem\" TO '8MB'"]),
        ({}, {"work_mem": "4MB"}, ["work_mem"], ['RESET "work_mem"']),
        ({}, {"work_mem": "4MB"}, [], []),
        ({}, {}, ["work_mem"], []),
        ({"search_path": "Sales,public"}, {"search_path": "sales, public"}, [], []),
        ({"search_path": '"Sales"'}, {"search_path": "sales"}, [], ["SET \"search_path\" TO 'Sales'"]),
    ],
)
def test_settings_are_set_where_they_differ_and_reset_where_they_were_ours(
    wanted: dict[str, str], actual: dict[str, str], ours: list[str], expected: list[str]
) -> None:
    assert texts(settings_change("r", wanted, actual, ours)) == [
        f'ALTER ROLE "r" {text}' for text in expected
    ]


EVERYBODY = {
    OPERATOR: state(OPERATOR, is_operator=True),
    MEMBER: state(MEMBER, admin=True),
    GROUP: state(GROUP, admin=True),
    ADMINS: state(ADMINS, inherits=True),
    STRANGER: state(STRANGER),
    BOOTSTRAP_SUPERUSER: state(BOOTSTRAP_SUPERUSER, superuser=True),
}


def edge(
    grantor: int, *, role: int = GROUP, admin: bool = False, inherit: bool = True, set_: bool = True
) -> Edge:
    return Edge(role, MEMBER, grantor, admin, inherit, set_)


def changed(
    member_of: list[dict[str, Any]],
    edges: Sequence[Edge] = (),
    ours: Sequence[int] = (),
    *,
    superuser: bool = False,
    everybody: dict[int, RoleState] | None = None,
) -> MembershipPlan:
    known = EVERYBODY if everybody is None else everybody
    names = {one.name: one for one in known.values()}
    return membership_change(
        spec(memberOf=member_of), known[MEMBER], edges, ours, names.get, known.get, superuser=superuser
    )


DECLARED = [{"role": f"r{GROUP}"}]
GIVE = f'GRANT "r{GROUP}" TO "r{MEMBER}" WITH ADMIN FALSE, INHERIT TRUE, SET TRUE'


def take(grantor: int) -> str:
    return f'REVOKE "r{GROUP}" FROM "r{MEMBER}" GRANTED BY "r{grantor}"'


@pytest.mark.requirement("R-22")
@pytest.mark.parametrize(
    ("edges", "expected"),
    [
        ([], [GIVE]),
        ([edge(OPERATOR)], []),
        ([edge(OPERATOR, set_=False)], [GIVE]),
        ([edge(OPERATOR, admin=True)], [GIVE]),
        ([edge(STRANGER)], []),
        ([edge(STRANGER, admin=True)], []),
        ([edge(STRANGER, set_=False)], [GIVE]),
        ([edge(STRANGER, set_=False), edge(BOOTSTRAP_SUPERUSER, inherit=False)], []),
    ],
)
def test_a_declared_membership_holds_whoever_gave_it_and_the_operators_own_is_exact(
    edges: list[Edge], expected: list[str]
) -> None:
    result = changed(DECLARED, edges)
    assert texts(result.steps) == expected
    assert result.ours == (GROUP,)


@pytest.mark.parametrize(
    ("edges", "ours", "expected"),
    [
        ([edge(OPERATOR)], [GROUP], [take(OPERATOR)]),
        ([edge(ADMINS)], [GROUP], [take(ADMINS)]),
        ([edge(OPERATOR), edge(STRANGER)], [GROUP], [take(OPERATOR)]),
        ([edge(STRANGER)], [GROUP], []),
        ([edge(OPERATOR)], [], []),
        ([], [GROUP], []),
        ([edge(OPERATOR)], [GROUP, 999], [take(OPERATOR)]),
    ],
)
def test_of_what_is_no_longer_declared_only_the_operators_own_is_taken_back(
    edges: list[Edge], ours: list[int], expected: list[str]
) -> None:
    result = changed([], edges, ours)
    assert texts(result.steps) == expected
    assert result.ours == ()


def test_what_a_superuser_gave_counts_as_given_by_the_bootstrap_superuser() -> None:
    edges = [edge(BOOTSTRAP_SUPERUSER, admin=True), edge(STRANGER)]
    assert texts(changed(DECLARED, edges, superuser=True).steps) == [GIVE]
    assert texts(changed([], edges, [GROUP], superuser=True).steps) == [take(BOOTSTRAP_SUPERUSER)]


def test_roles_that_are_missing_or_not_administered_are_told() -> None:
    assert changed([{"role": "nowhere"}]).missing_roles == ("nowhere",)
    assert changed([{"role": f"r{STRANGER}"}]).not_admin == (f"r{STRANGER}",)
    powerless = {**EVERYBODY, GROUP: state(GROUP)}
    result = changed([], [edge(OPERATOR)], [GROUP], everybody=powerless)
    assert (result.steps, result.not_admin, result.ours) == ((), (f"r{GROUP}",), (GROUP,))
