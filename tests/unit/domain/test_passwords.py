"""Passwords: made, judged, and replaced in time."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakebase_operator.api.postgres_role import Logins, Password, PostgresRoleSpec
from lakebase_operator.domain.passwords import (
    KINDS,
    Held,
    LoginCredential,
    coming_credential,
    declared_login,
    generate_password,
    is_revision_of,
    login_names,
    logins_of,
    new_revision,
    next_rotation,
    weakness,
)

NOW = datetime(2026, 1, 15, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)


def password(**fields: Any) -> Password:
    return Password.model_validate(fields)


def held(age: timedelta, login: str = "app_1", **more: Any) -> Held:
    return Held(LoginCredential(login, "r1", "p1"), NOW - age, **more)


def coming(
    have: Held, wanted: Password, asked: str | None = None, given: str | None = None
) -> LoginCredential | None:
    return coming_credential(have, wanted, login_names("app", wanted), given=given, asked=asked, now=NOW)


@pytest.mark.requirement("R-108")
@given(st.integers(24, 128))
@settings(max_examples=200)
def test_a_generated_password_is_long_and_has_all_kinds(length: int) -> None:
    made = generate_password(length)
    assert len(made) == length
    assert all(any(one in kind for one in made) for kind in KINDS)
    assert set(made) <= set("".join(KINDS))
    assert weakness(made) is None


@pytest.mark.requirement("R-108")
def test_generated_passwords_differ_and_short_ones_are_not_made() -> None:
    assert len({generate_password() for _ in range(500)}) == 500
    with pytest.raises(ValueError, match="24"):
        generate_password(23)


@pytest.mark.requirement("R-108")
@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("Short1-", "shorter than 12"),
        ("alllowercaseletters", "fewer than 3"),
        ("lowercase123456789", "fewer than 3"),
        ("GoodEnough123\n", "line break"),
        ("GoodEnough123", None),
        ("good-enough-123", None),
        ("Gänsefüßchen-Ü1", None),
    ],
)
def test_weak_passwords_are_refused_with_the_reason(text: str, problem: str | None) -> None:
    found = weakness(text)
    assert found is None if problem is None else found is not None and problem in found


def test_a_generated_password_has_two_logins_and_a_given_one_has_one() -> None:
    assert logins_of(password()) is Logins.TWO
    assert login_names("app", password()) == ("app_1", "app_2")
    given_one = password(**{"from": {"name": "s", "key": "k"}})
    assert login_names("app", given_one) == ("app",)
    assert login_names("app", password(logins="One")) == ("app",)


@pytest.mark.parametrize(
    ("spec", "login"),
    [
        ({}, None),
        ({"login": True}, True),
        ({"login": True, "suspend": True}, False),
        ({"password": {}}, False),
        ({"password": {"logins": "One"}}, True),
        ({"password": {"logins": "One"}, "suspend": True}, False),
        ({"identity": {"type": "User", "name": "a@b"}}, True),
    ],
)
def test_whether_the_role_itself_logs_in(spec: dict[str, Any], login: bool | None) -> None:
    assert declared_login(PostgresRoleSpec.model_validate({"connectionRef": {"name": "m"}, **spec})) is login


@pytest.mark.requirement("R-159")
def test_a_password_is_replaced_after_ninety_days_by_default() -> None:
    assert next_rotation(NOW, password()) == NOW + 90 * DAY
    assert coming(held(89 * DAY), password()) is None
    after = coming(held(90 * DAY), password())
    assert after is not None
    assert after.username == "app_2"
    assert coming(held(900 * DAY), password(rotation={"interval": "0s"})) is None


@pytest.mark.requirement("R-160")
def test_the_two_logins_take_turns() -> None:
    found = coming(held(100 * DAY, "app_2"), password())
    assert found is not None
    assert found.username == "app_1"
    alone = coming(held(100 * DAY, "app"), password(logins="One"))
    assert alone is not None
    assert alone.username == "app"


@pytest.mark.requirement("R-160")
def test_a_schedule_never_cuts_an_overlap_short() -> None:
    wanted = password(rotation={"interval": "1h", "overlap": "24h"})
    assert coming(held(timedelta(hours=2)), wanted) is None
    assert coming(held(timedelta(hours=24)), wanted) is not None


@pytest.mark.requirement("R-161")
def test_the_annotation_asks_once_for_each_value() -> None:
    asked = coming(held(DAY), password(), asked="now")
    assert asked is not None
    assert asked.username == "app_2"
    assert coming(held(DAY, handled="now"), password(), asked="now") is None
    assert coming(held(DAY, handled="now"), password(), asked="again") is not None


@pytest.mark.requirement("R-161")
def test_a_change_that_was_begun_is_brought_to_its_end() -> None:
    begun = LoginCredential("app_2", "r2", "p2")
    assert coming(held(DAY, coming=begun), password()) == begun
    assert coming(Held(coming=begun), password()) == begun


def test_a_given_password_is_taken_up_when_it_changes() -> None:
    wanted = password(**{"from": {"name": "s", "key": "k"}})
    assert coming(held(900 * DAY, "app"), wanted, given="p1") is None
    new = coming(held(DAY, "app"), wanted, given="p2")
    assert new is not None
    assert (new.username, new.password) == ("app", "p2")
    overtaken = held(DAY, "app", coming=LoginCredential("app", "r2", "p2"))
    latest = coming(overtaken, wanted, given="p3")
    assert latest is not None
    assert (latest.password, latest.revision) != ("p2", "r2")


def test_what_the_secret_holds_is_read_back() -> None:
    begun = LoginCredential("app_2", "r2", "p2")
    have = Held(LoginCredential("app_1", new_revision("p1"), "p1"), NOW - DAY, begun, "now")
    values = {"username": b"app_1", "password": b"p1", **have.coming_data()}
    assert Held.read(values, have.annotations()) == have
    assert Held.read({}, {}) == Held()
    assert Held.read({".next": b"{}"}, {"lakebase.dev/set-at": "soon"}) == Held()


def test_a_password_that_somebody_has_put_into_the_secret_is_not_taken_for_the_servers() -> None:
    annotations = Held(LoginCredential("app_1", new_revision("p1"), "p1"), NOW).annotations()
    edited = Held.read({"username": b"app_1", "password": b"edited"}, annotations)
    assert edited.current is None
    assert coming(edited, password()) is not None


def test_a_revision_is_that_of_one_password_and_tells_nothing_of_it() -> None:
    revision = new_revision("p1")
    assert is_revision_of(revision, "p1")
    assert not is_revision_of(revision, "p2")
    assert new_revision("p1") != revision
    assert not any(is_revision_of(text, "p1") for text in ("", ".", "zz.00", revision[:16]))


@pytest.mark.requirement("R-89", "R-162")
def test_a_credential_shows_no_password() -> None:
    assert "p1" not in repr(held(DAY))
