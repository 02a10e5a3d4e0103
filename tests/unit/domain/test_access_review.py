"""The arithmetic of an access report."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lakebase_operator.api.postgres_role import PostgresRoleSpec
from lakebase_operator.domain.access_review import (
    Declaration,
    Facts,
    Holdings,
    Review,
    ReviewedRole,
    Seen,
    review,
)
from lakebase_operator.domain.memberships import Edge
from lakebase_operator.domain.plan import Actor
from lakebase_operator.domain.roles import RoleState

NOW = datetime(2026, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)
OIDS = {"databricks_superuser": 1, "app": 10, "app_1": 11, "app_2": 12, "operator": 20, "group": 30}


def state(name: str, *, login: bool = True) -> RoleState:
    oid = OIDS[name]
    actor = Actor(oid, name, inherits=False, can_set=False, admin=False, is_operator=name == "operator")
    return RoleState(
        oid=oid, name=name, superuser=False, login=login, create_db=False, create_role=name == "operator",
        bypass_rls=False, inherit=True, connection_limit=-1, valid_until=None, settings={}, identity=None, actor=actor,
    )  # fmt: skip


def member(one: str, of: str) -> Edge:
    return Edge(role=OIDS[of], member=OIDS[one], grantor=20, admin=False, inherit=True, set=True)


def spec(**fields: Any) -> PostgresRoleSpec:
    return PostgresRoleSpec.model_validate({"connectionRef": {"name": "marketing"}, **fields})


def facts(states: Sequence[RoleState], edges: Sequence[Edge] = (), **more: Any) -> Facts:
    plain: dict[str, Any] = {
        "holdings": {}, "undeclared": (), "declarations": {}, "mapped": frozenset(), "seen": {}, "sessions": {},
        "since": NOW - 30 * DAY, "now": NOW, "patience": DAY, "home": "db",
    }  # fmt: skip
    return Facts(roles={one.name: one for one in states}, edges=edges, **(plain | more))


def line(found: Review, name: str) -> ReviewedRole:
    (one,) = [one for one in found.roles if one.role == name]
    return one


@pytest.mark.requirement("R-158", "R-170")
def test_a_role_is_seen_when_one_of_its_logins_is_and_these_are_neither_wider_nor_unused() -> None:
    password = spec(password={})
    declarations = {
        "app": Declaration("PostgresRole team/app", password),
        "app_1": Declaration("PostgresRole team/app", password, login_of="app"),
        "app_2": Declaration("PostgresRole team/app", password, login_of="app"),
    }
    states = (state("app", login=False), state("app_1"), state("app_2"))
    edges = (member("app_1", "app"), member("app_2", "app"))
    seen = {OIDS["app_2"]: Seen(NOW - 2 * DAY, 7)}
    found = review(facts(states, edges, declarations=declarations, seen=seen, sessions={OIDS["app_1"]: 1}))
    assert (line(found, "app").last_seen, line(found, "app").logins) == (NOW - 2 * DAY, 7)
    assert line(found, "app").sessions == 1
    assert line(found, "app_1").last_seen is None
    assert found.findings == ()
    assert found.unused == ()


@pytest.mark.requirement("R-158")
def test_how_long_nobody_was_seen_counts_from_the_last_time_or_from_the_first_look() -> None:
    found = review(facts([state("app")]))
    assert line(found, "app").unused_since == NOW - 30 * DAY
    found = review(facts([state("app")], seen={OIDS["app"]: Seen(NOW - 5 * DAY, 1)}))
    assert line(found, "app").unused_since == NOW - 5 * DAY
    assert review(facts([state("app")], seen={OIDS["app"]: Seen(NOW - DAY / 2, 1)})).unused == ()
    assert review(facts([state("app")], since=NOW - DAY / 2)).unused == ()
    assert review(facts([state("app")], mapped=frozenset({"app"}))).unused == ()
    assert review(facts([state("app")], holdings={OIDS["app"]: Holdings(granted=1)})).unused == ()
    assert review(facts([state("operator")])).unused == ()


@pytest.mark.requirement("R-158")
def test_what_a_role_holds_as_a_member_of_a_member_keeps_it_from_being_unused() -> None:
    states = (state("app"), state("group", login=False), state("databricks_superuser", login=False))
    edges = (member("app", "group"), member("group", "databricks_superuser"))
    held = {OIDS["databricks_superuser"]: Holdings(granted=3, owned={("db", "s"): 2})}
    found = review(facts(states, edges, holdings=held))
    assert line(found, "app").member == 5
    assert found.unused == ()
    # A membership that neither inherits nor can be acted upon gives nothing.
    idle = tuple(replace(edge, inherit=False, set=False) for edge in edges)
    assert [one.role for one in review(facts(states, idle, holdings=held)).unused] == ["app"]


@pytest.mark.requirement("R-155")
def test_the_level_superuser_declares_its_membership_and_the_platform_schema_its_owner() -> None:
    states = (state("app"), state("databricks_superuser", login=False))
    edges = (member("app", "databricks_superuser"),)
    held = {OIDS["app"]: Holdings(owned={("db", "platform"): 3})}
    wanted = spec(login=True)
    plain = facts(
        states, edges, holdings=held, declarations={"app": Declaration("PostgresRole team/app", wanted)}
    )
    assert [one.object for one in review(plain).findings] == ["databricks_superuser", "platform"]
    wanted = spec(login=True, level="Superuser", platformSchema={"name": "platform"})
    declared = replace(plain, declarations={"app": Declaration("PostgresRole team/app", wanted)})
    assert review(declared).findings == ()


@pytest.mark.requirement("R-155")
def test_of_the_operators_own_role_nothing_is_wider() -> None:
    states = (state("operator"), state("databricks_superuser", login=False))
    found = review(facts(states, (member("operator", "databricks_superuser"),)))
    assert found.findings == ()
    assert line(found, "operator").declared_by == "the operator itself"
