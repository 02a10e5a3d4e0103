"""Which role a person is, without a database."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakebase_operator.api import Reason, UserMapping
from lakebase_operator.domain.people import People, RoleNames, fold, resolve_mapping, unmapped


def mapping(user: str, name: str = "m", namespace: str = "team", **spec: object) -> UserMapping:
    created = spec.pop("created", "2026-01-01T00:00:00Z")
    return UserMapping.from_object(
        {
            "metadata": {
                "name": name,
                "namespace": namespace,
                "uid": f"{namespace}/{name}",
                "creationTimestamp": created,
            },
            "spec": {"user": user, **spec},
        }
    )


def explicit(user: str, role: str, name: str = "m", namespace: str = "team", **spec: object) -> UserMapping:
    return mapping(user, name, namespace, mapping="Explicit", postgresUsername=role, **spec)


HERE: dict[str, Any] = {"connectionRef": {"name": "marketing"}}


@pytest.mark.requirement("R-73", "R-74", "R-75", "R-76", "R-77", "R-78")
@pytest.mark.parametrize(
    ("declared", "roles", "state", "role"),
    [
        (explicit("alice", "app"), ["app", "alice"], Reason.RESOLVED, "app"),
        (explicit("alice", "APP"), ["app"], Reason.RESOLVED, "app"),
        (explicit("alice", "app"), ["alice"], Reason.NOT_FOUND, None),
        (explicit("alice", "app"), ["app", "App"], Reason.AMBIGUOUS, None),
        (mapping("Alice"), ["alice"], Reason.RESOLVED, "alice"),
        (mapping("alice"), ["ALICE", "alice"], Reason.AMBIGUOUS, None),
        (mapping("alice"), [], Reason.NOT_FOUND, None),
        (mapping("alice", mapping="None"), ["alice"], Reason.NO_ACCOUNT, None),
        (mapping("Pg_read_all_data"), ["pg_read_all_data"], Reason.RESERVED_NAME, None),
        (mapping("x" * 64), [], Reason.RESERVED_NAME, None),
    ],
)
def test_a_mapping_leads_to_one_role_or_says_why_not(
    declared: UserMapping, roles: list[str], state: Reason, role: str | None
) -> None:
    found = resolve_mapping(declared, RoleNames(roles))
    assert (found.state, found.role) == (state, role)
    assert found.message.endswith(".")


@pytest.mark.requirement("R-77")
def test_both_names_of_an_ambiguous_person_are_told() -> None:
    found = RoleNames(["alice", "ALICE", "bob"]).find("Alice")
    assert found.candidates == ("ALICE", "alice")
    assert "ALICE, alice" in found.message


@given(st.lists(st.text(min_size=1, max_size=12), unique=True), st.text(min_size=1, max_size=12))
def test_a_role_is_found_only_if_it_is_the_only_one_of_its_name(names: list[str], wanted: str) -> None:
    found = RoleNames(names).find(wanted)
    alike = [name for name in names if fold(name) == fold(wanted)]
    if found.state is Reason.RESOLVED:
        assert alike == [found.role]
    else:
        assert found.role is None
        assert found.state is Reason.RESERVED_NAME or len(alike) != 1


def test_letters_that_only_fold_together_are_different_people() -> None:
    roles = RoleNames(["strasse", "ﬁn"])
    assert roles.find("straße").state is Reason.NOT_FOUND
    assert roles.find("fin").state is Reason.NOT_FOUND


@pytest.mark.requirement("R-46", "R-80")
def test_an_explicit_mapping_wins_over_the_role_of_the_same_name() -> None:
    people = People("team", [explicit("alice", "app")], RoleNames(["app", "alice"]))
    assert people.resolve("ALICE", "team").role == "app"
    assert people.resolve("bob", "team").state is Reason.NOT_FOUND


def test_a_mapping_of_another_namespace_holds_for_that_namespace_only() -> None:
    theirs = explicit("alice", "theirs", namespace="other")
    people = People("team", [theirs], RoleNames(["alice", "theirs"]))
    assert people.resolve("alice", "other").role == "theirs"
    assert people.resolve("alice", "team").role == "alice"
    ours = explicit("alice", "ours")
    people = People("team", [theirs, ours], RoleNames(["alice", "theirs", "ours"]))
    assert people.resolve("alice", "other").role == "ours"
    assert not people.shadowed


@pytest.mark.parametrize("turned", [False, True])
def test_a_mapping_for_the_connection_wins_over_one_for_all_and_then_the_older(turned: bool) -> None:
    wide = explicit("alice", "wide", "wide")
    young = explicit("alice", "young", "a-young", created="2026-02-01T00:00:00Z", **HERE)
    old = explicit("Alice", "old", "z-old", **HERE)
    given_order = [wide, young, old]
    people = People("team", given_order[::-1] if turned else given_order, RoleNames(["wide", "young", "old"]))
    assert people.resolve("alice", "team").role == "old"
    assert {uid: winner.metadata.name for uid, winner in people.shadowed.items()} == {"team/a-young": "z-old"}


def test_those_without_a_role_are_listed_in_order() -> None:
    roles = RoleNames(["a"])
    assert unmapped({name: roles.find(name) for name in ("c", "a", "b")}) == ("b", "c")


@pytest.mark.requirement("R-80")
def test_an_explicit_mapping_whose_role_is_missing_does_not_fall_back_to_the_same_name() -> None:
    people = People("team", [explicit("alice", "gone")], RoleNames(["alice"]))
    assert people.resolve("alice", "team").state is Reason.NOT_FOUND


@pytest.mark.requirement("R-81")
@pytest.mark.parametrize(
    "name",
    ["public", "PUBLIC", "None", "pg_x", "databricks_superuser", "neon_superuser", "cloud_admin", "current_user", "user",
     "", "ü" * 32, "nul\x00"],
)  # fmt: skip
def test_reserved_and_overlong_names_are_refused_even_if_there_is_such_a_role(name: str) -> None:
    found = RoleNames([name]).find(name)
    assert (found.state, found.role) == (Reason.RESERVED_NAME, None)
    assert RoleNames(["ü" * 31]).find("Ü" * 31).role == "ü" * 31  # 62 bytes


@pytest.mark.parametrize("turned", [False, True])
def test_one_mapping_decides_about_a_person(turned: bool) -> None:
    wide, exact = explicit("alice", "wide", "a-wide"), explicit("ALICE", "exact", "exact", **HERE)
    later = explicit("alice", "later", "a-later", created="2026-01-02T00:00:00Z", **HERE)
    foreign, alone = explicit("alice", "x", namespace="other"), explicit("bob", "y", namespace="other")
    all_of_them = [wide, exact, later, foreign, alone]
    people = People("team", all_of_them[::-1] if turned else all_of_them, RoleNames(()))
    assert [one.metadata.uid for one in all_of_them if people.decides(one)] == [
        exact.metadata.uid,
        alone.metadata.uid,
    ]
