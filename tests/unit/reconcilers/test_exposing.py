"""The step that describes exposed tables, where something goes wrong, and what makes it necessary."""

from types import SimpleNamespace
from typing import Any, cast

import psycopg
import pytest

from lakebase_operator.api import PostgresRole, Reason
from lakebase_operator.domain.errors import LakebaseError, TransientError
from lakebase_operator.domain.exposed import Exposed, ExposedTable, RelationKind
from lakebase_operator.domain.memberships import Edge
from lakebase_operator.domain.plan import Actor
from lakebase_operator.domain.roles import Issue, RoleState
from lakebase_operator.external.postgres.session import Connection
from lakebase_operator.reconcilers import exposing
from lakebase_operator.reconcilers.exposing import ExposingStep, concerns_shown
from lakebase_operator.reconcilers.known_roles import Roles, RoleTally
from lakebase_operator.reconcilers.report import Report
from tests.postgres.config_maps import ConfigMaps
from tests.postgres.objects import postgres_role

ORDERS = ExposedTable("sales", "orders", RelationKind.TABLE, None, ("id",), True, True, True, ())
SALES = {"schema": "sales", "matching": ["*"]}
OPEN = cast("Connection", SimpleNamespace(closed=False))
CLOSED = cast("Connection", SimpleNamespace(closed=True))


def step(*roles: PostgresRole, config_maps: ConfigMaps | None = None) -> ExposingStep:
    known = Roles({}, tallies={role.role_name: RoleTally(role) for role in roles})
    store = config_maps or ConfigMaps()
    return ExposingStep(store, "team/marketing", ("app", "more"), known, Report(), store.status)


def reading(monkeypatch: pytest.MonkeyPatch, *, result: Exposed | psycopg.Error) -> None:
    async def read_exposed(*_: Any) -> Exposed:
        if isinstance(result, psycopg.Error):
            raise result
        return result

    monkeypatch.setattr(exposing, "read_exposed", read_exposed)


async def test_while_a_database_is_out_of_reach_the_description_stays_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config_maps = ConfigMaps()
    role = postgres_role("shop", exposes=[SALES, SALES | {"database": "more"}])
    reading(monkeypatch, result=Exposed((ORDERS,)))
    first = step(role, config_maps=config_maps)
    await first.look("app", OPEN)
    await first.look("more", OPEN)
    await first.show({})
    assert len(config_maps.read(role)["tables"]) == 2
    second = step(role, config_maps=config_maps)
    await second.look("app", OPEN)
    await second.show({"more": TransientError(Reason.UNREACHABLE, "It does not answer.")})
    assert len(config_maps.read(role)["tables"]) == 2
    assert config_maps.writes == 1
    tally = second.roles.tallies["shop"]
    assert (tally.worst, tally.waits) == ((Reason.UNREACHABLE, "It does not answer."), True)


async def test_a_failure_stays_with_the_role_unless_the_session_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    role = postgres_role("shop", exposes=[SALES])
    reading(monkeypatch, result=psycopg.errors.QueryCanceled("canceling statement due to statement timeout"))
    config_maps = ConfigMaps()
    failing = step(role, config_maps=config_maps)
    await failing.look("app", OPEN)
    await failing.show({})
    tally = failing.roles.tallies["shop"]
    assert tally.worst is not None
    assert "exposed tables in app" in tally.worst[1]
    assert tally.waits
    assert config_maps.texts == {}
    with pytest.raises(LakebaseError):
        await step(role).look("app", CLOSED)


async def test_with_a_password_what_cannot_be_read_is_listed_and_left_to_the_connection_test(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unreadable = ExposedTable("sales", "orders", RelationKind.TABLE, None, ("id",), True, True, False, ())
    reading(monkeypatch, result=Exposed((unreadable,)))
    for spec, blamed in (({}, True), ({"password": {}}, False)):
        one = step(postgres_role("shop", exposes=[SALES], **spec))
        await one.look("app", OPEN)
        await one.show({})
        tally = one.roles.tallies["shop"]
        assert [issue["reason"] for issue in tally.issues] == ["MissingGrants"]
        assert (tally.worst is not None) is blamed
        tally.note([Issue("sales.orders", Reason.MISSING_GRANTS, tally.issues[0]["fix"], "SELECT")])
        assert len(tally.issues) == 1, "each is told once"


def state(oid: int, name: str) -> RoleState:
    actor = Actor(oid, name, inherits=False, can_set=False, admin=True, is_operator=False)
    return RoleState(oid, name, False, True, False, False, False, True, -1, None, {}, None, actor)


@pytest.mark.parametrize(
    ("focus", "concerned"),
    [
        ({"shop"}, True),
        ({"inner"}, True),
        ({"outer"}, True),
        ({"PUBLIC"}, True),
        ({"other"}, False),
        ((), False),
    ],
)
def test_a_change_concerns_what_is_shown_if_it_is_about_the_role_or_what_it_is_a_member_of(
    focus: set[str], concerned: bool
) -> None:
    names = ("shop", "inner", "outer", "other")
    roles = Roles({name: state(oid, name) for oid, name in enumerate(names, start=1)})
    roles.edges = tuple(
        Edge(role, member, 10, admin=False, inherit=True, set=True)
        for role, member in ((2, 1), (3, 2), (1, 4))
    )
    assert not concerns_shown(roles, frozenset(focus)), "nobody is shown anything"
    roles.tallies["shop"] = RoleTally(postgres_role("shop", exposes=[SALES]))
    assert concerns_shown(roles, frozenset(focus)) is concerned
