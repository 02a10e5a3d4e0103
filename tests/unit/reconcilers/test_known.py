"""Which passes may look at what changed only, and what they must look at besides."""

from datetime import UTC, datetime, timedelta

import pytest

from lakebase_operator.engine.catalog import Dirty
from lakebase_operator.engine.keys import ObjectKey
from lakebase_operator.reconcilers.known import Known

GRANT = "AccessGrant"
NOW = datetime(2026, 1, 15, 12, 0, tzinfo=UTC)


def key(name: str, kind: str = GRANT) -> ObjectKey:
    return ObjectKey(kind, "team", name)


@pytest.fixture
def known() -> Known:
    made = Known({"analysts": 1, "writers": 2}, full_at=100.0, next_change=NOW + timedelta(hours=1))
    made.put(key("a"), frozenset({"analysts"}))
    made.put(key("b"), frozenset({"analysts", "writers"}))
    made.put(key("c"), frozenset({"writers"}))
    return made


def narrow(known: Known, dirty: Dirty, *, now: datetime = NOW, monotonic: float = 50.0) -> object:
    return known.narrow(dirty, GRANT, now, monotonic)


def test_changed_access_grants_can_be_looked_at_alone(known: Known) -> None:
    changed = frozenset({key("a"), key("new")})
    assert narrow(known, Dirty(objects=changed)) == changed


@pytest.mark.parametrize(
    "dirty",
    [
        Dirty(),
        Dirty(full=True, objects=frozenset({key("a")})),
        Dirty(objects=frozenset({key("a"), key("analysts", "PostgresRole")})),
        Dirty(objects=frozenset({key("alice", "UserMapping")})),
    ],
    ids=["only due", "doubt", "a role", "a mapping"],
)
def test_anything_else_asks_for_a_look_at_everything(known: Known, dirty: Dirty) -> None:
    assert narrow(known, dirty) is None


def test_what_time_alone_changes_is_not_missed(known: Known) -> None:
    dirty = Dirty(objects=frozenset({key("a")}))
    assert narrow(known, dirty, monotonic=100.0) is None, "the comparison of everything is due"
    assert narrow(known, dirty, now=NOW + timedelta(hours=1)) is None, "an AccessGrant begins or ends"


def test_the_others_of_the_same_roles_are_found(known: Known) -> None:
    assert known.about({"analysts"}) == {key("a"), key("b")}
    assert known.grantees([key("c"), key("unknown")]) == {"writers"}
    assert known.about({"nobody"}) == frozenset()


def test_an_access_grant_that_means_others_now_or_is_gone_is_not_found_by_its_old_roles(known: Known) -> None:
    known.put(key("b"), frozenset({"writers"}))
    known.drop(key("c"))
    known.drop(key("never there"))
    assert known.about({"analysts"}) == {key("a")}
    assert known.about({"writers"}) == {key("b")}
    assert len(known) == 2
    assert key("c") not in known


def test_what_reaches_far_does_so_until_it_is_something_else(known: Known) -> None:
    known.put(key("a"), frozenset({"analysts"}), far=True)
    known.put(key("c"), frozenset({"writers"}), far=True)
    assert known.far == {key("a"), key("c")}
    known.put(key("a"), frozenset({"analysts"}))
    known.drop(key("c"))
    assert not known.far
