"""What each failure of the connection test means, and when the next test is due."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lakebase_operator.api.postgres_role import ConnectionTestResult, ConnectionTestStep
from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.connection_test import (
    DataSchema,
    Finding,
    OwnSchema,
    RefusedLogin,
    complete,
    conclusion,
    data_schemas,
    entries,
    exposed_tables,
    failed,
    failure,
    is_due,
    next_test,
    next_try,
    own_schema,
    passed,
    refused,
    unreached,
    warning,
)
from lakebase_operator.domain.exposed import Exposed, ExposedTable, RelationKind

NETWORK, AUTHENTICATION, SCHEMA, TABLES = ConnectionTestStep
NOW = datetime(2026, 1, 15, 12, 0, tzinfo=UTC)
REJECTED = "password authentication failed for user 'app'"


def of(said: str, **known: Any) -> Finding:
    return refused(said, where="db.example.com:5432", database="sales", login=RefusedLogin("app", **known))


@pytest.mark.requirement("R-127", "R-136", "R-137", "R-140", "R-141", "R-142", "R-166")
@pytest.mark.parametrize(
    ("said", "known", "step", "reason"),
    [
        (REJECTED, {}, AUTHENTICATION, Reason.PASSWORD_REJECTED),
        (REJECTED, {"native_login": True}, AUTHENTICATION, Reason.PASSWORD_REJECTED),
        (REJECTED, {"native_login": False}, AUTHENTICATION, Reason.NATIVE_LOGIN_DISABLED),
        (REJECTED, {"exists": False, "native_login": False}, AUTHENTICATION, Reason.ROLE_MISSING),
        (REJECTED, {"may_log_in": False}, AUTHENTICATION, Reason.ROLE_NOT_LOGIN),
        ('role "app" does not exist', {}, AUTHENTICATION, Reason.ROLE_MISSING),
        ('role "app" is not permitted to log in', {}, AUTHENTICATION, Reason.ROLE_NOT_LOGIN),
        ('database "sales" does not exist', {}, AUTHENTICATION, Reason.DATABASE_NOT_FOUND),
        ('permission denied for database "sales"', {}, AUTHENTICATION, Reason.MISSING_GRANTS),
        ("sorry, too many clients already", {}, AUTHENTICATION, Reason.TOO_MANY_CONNECTIONS),
        ("Too many connections to this endpoint. Please wait", {}, AUTHENTICATION, Reason.TOO_MANY_CONNECTIONS),
        ("This IP address 203.0.113.7 is not allowed to connect to this endpoint", {}, NETWORK, Reason.ADDRESS_BLOCKED),
        ('no pg_hba.conf entry for host "203.0.113.7", user "app"', {}, NETWORK, Reason.ADDRESS_BLOCKED),
        ("server does not support SSL, but SSL was required", {}, NETWORK, Reason.TLS_FAILED),
        ("SSL error: certificate verify failed", {}, NETWORK, Reason.TLS_FAILED),
        ("Invalid protocol version: 196608", {}, NETWORK, Reason.TLS_FAILED),
        ("server closed the connection unexpectedly", {}, NETWORK, Reason.UNREACHABLE),
        ("the database system is starting up", {}, NETWORK, Reason.RESUMING),
        ("The endpoint has been disabled. Enable it using the API and retry", {}, NETWORK, Reason.ENDPOINT_DISABLED),
        ("something new", {}, AUTHENTICATION, Reason.UNREACHABLE),
    ],
)  # fmt: skip
def test_the_servers_words_and_the_state_of_the_role_decide(
    said: str, known: dict[str, Any], step: ConnectionTestStep, reason: Reason
) -> None:
    found = of(said, **known)
    assert (found.step, found.result, found.reason) == (step, ConnectionTestResult.FAILED, reason)
    assert found.message


def test_a_password_that_is_set_again_waits_and_one_that_was_is_for_people() -> None:
    assert of(REJECTED, repair=True).waits
    assert not of(REJECTED).waits
    assert "lakebase.dev/rotate" in of(REJECTED).message
    assert "validUntil" in of(REJECTED, expired=True, repair=True).message
    assert not of(REJECTED, expired=True, repair=True).waits


def test_a_role_that_is_missing_is_told_with_near_names() -> None:
    assert 'Did you mean "ap" or "apps"?' in of(REJECTED, exists=False, near=("ap", "apps")).message


def test_a_login_at_its_own_limit_works() -> None:
    found = of('too many connections for role "app"')
    assert (found.result, found.reason) == (ConnectionTestResult.WARNING, Reason.TOO_MANY_CONNECTIONS)
    other = of('too many connections for role "other"')
    assert other.result is ConnectionTestResult.FAILED


@pytest.mark.requirement("R-130")
def test_steps_after_the_first_failure_are_skipped_and_it_is_the_one_that_is_named() -> None:
    found = complete([passed(NETWORK), failed(AUTHENTICATION, Reason.ROLE_MISSING, "Gone.")])
    assert [one.step for one in found] == list(ConnectionTestStep)
    assert [one.result.value for one in found] == ["Passed", "Failed", "Skipped", "Skipped"]
    assert failure(found) is found[1]
    outcome = conclusion(found)
    assert (outcome["status"], outcome["reason"], outcome["message"]) == (
        "False",
        "RoleMissing",
        "Authentication: Gone.",
    )


def test_what_failed_at_the_door_has_come_that_far() -> None:
    assert complete([unreached(Reason.TOO_MANY_CONNECTIONS, "Full.")])[0].result.value == "Passed"
    assert complete([unreached(Reason.PORT_CLOSED, "Closed.")])[0].result.value == "Failed"


@pytest.mark.requirement("R-129")
def test_warnings_do_not_make_a_test_fail() -> None:
    found = complete(
        [
            passed(NETWORK),
            passed(AUTHENTICATION),
            passed(SCHEMA),
            warning(TABLES, Reason.NO_UNIQUE_KEY, "One."),
        ]
    )
    assert failure(found) is None
    outcome = conclusion(found)
    assert (outcome["status"], outcome["reason"], outcome["message"]) == (
        "True",
        "ConnectionTestPassed",
        "One.",
    )


# -- the status ----------------------------------------------------------------------------------------------------------


def test_a_failure_keeps_its_time_while_it_stays_the_same_and_a_success_has_the_last() -> None:
    later = NOW + timedelta(hours=1)
    broken = complete([failed(NETWORK, Reason.PORT_CLOSED, "Closed.")])
    first = entries(broken, [], NOW)
    assert entries(broken, first, later) == first
    works = complete([passed(step) for step in ConnectionTestStep])
    assert {one["at"] for one in entries(works, first, later)} == {"2026-01-15T13:00:00Z"}
    again = entries(works, entries(works, [], NOW), later)
    assert {one["at"] for one in again} == {"2026-01-15T13:00:00Z"}
    other = complete([failed(NETWORK, Reason.PORT_CLOSED, "Closed elsewhere.")])
    assert entries(other, first, later)[0]["at"] == "2026-01-15T13:00:00Z"


def test_a_message_fits_into_the_status() -> None:
    (one, *_) = entries(complete([failed(NETWORK, Reason.PORT_CLOSED, "x" * 5000)]), [], NOW)
    assert len(one["message"]) == 2048


def status(result: str = "True", *, at: datetime = NOW, generation: int = 1) -> dict[str, Any]:
    return {
        "observedGeneration": generation,
        "conditions": [
            {
                "type": "ConnectionTested",
                "status": result,
                "reason": Reason.PORT_CLOSED.value,
                "lastTransitionTime": at.isoformat(),
            }
        ],
        "test": [{"step": "Network", "at": at.isoformat()}],
    }


@pytest.mark.requirement("R-130")
@pytest.mark.parametrize(
    ("known", "after", "changed", "due"),
    [
        ({}, 0.0, False, True),
        (status(), 0.0, False, False),
        (status(), 0.0, True, True),
        (status(), 0.85, False, False),
        (status(), 0.95, False, True),
        (status(), 1.0, False, True),
        (status("False"), 0.0, False, True),
        (status("Unknown"), 0.0, False, True),
        (status(generation=2), 0.0, False, True),
        ({**status(), "test": []}, 0.0, False, True),
    ],
)
def test_a_test_is_due_when_it_fails_when_something_changed_and_when_it_is_time(
    known: dict[str, Any], after: float, changed: bool, due: bool
) -> None:
    now = NOW + timedelta(hours=after)
    assert is_due(known, generation=1, changed=changed, interval=3600, now=now) is due


def test_without_an_interval_time_alone_asks_for_no_test() -> None:
    assert not is_due(status(), generation=1, changed=False, interval=0, now=NOW + timedelta(days=99))
    assert next_test(status(), 0) is None
    assert next_test(status(), 60) == NOW + timedelta(seconds=60)


def test_the_longer_it_fails_the_later_it_is_tried_again() -> None:
    def pause(lasted: float, reason: Reason = Reason.PORT_CLOSED) -> float:
        now = NOW + timedelta(seconds=lasted)
        return (next_try(status("False"), reason, now, shortest=1, longest=300) - now).total_seconds()

    assert [pause(0), pause(10), pause(1000)] == [1, 10, 300]
    assert next_try({}, Reason.PORT_CLOSED, NOW, shortest=1, longest=300) == NOW + timedelta(seconds=1)
    assert pause(1000, Reason.PASSWORD_REJECTED) == 1, "the port is open again: a step on"


# -- schema and tables -----------------------------------------------------------------------------------------------------


@pytest.mark.requirement("R-128", "R-143", "R-147")
@pytest.mark.parametrize(
    ("found", "reason", "says"),
    [
        (OwnSchema("own", False, False, False, ()), Reason.SCHEMA_MISSING, "spec.platformSchema"),
        (OwnSchema("own", True, False, False, ("orders",)), Reason.PLATFORM_SCHEMA_IS_DATA_SCHEMA, "orders"),
        (OwnSchema("own", True, False, True, ()), Reason.SCHEMA_ACCESS_DENIED, 'GRANT USAGE ON SCHEMA "own" TO "app"'),
        (OwnSchema("own", True, True, False, ()), Reason.SCHEMA_ACCESS_DENIED, 'GRANT CREATE ON SCHEMA "own" TO "app"'),
        (OwnSchema("own", True, True, True, ()), Reason.CONNECTION_TEST_PASSED, "can work"),
    ],
)  # fmt: skip
def test_its_own_schema_exists_is_its_own_and_lets_it_work(
    found: OwnSchema, reason: Reason, says: str
) -> None:
    finding = own_schema(found, "app", "spec.platformSchema")
    assert finding.reason is reason
    assert says in finding.message


def table(name: str, *, usable: bool = True, selectable: bool = True, key: bool = True) -> ExposedTable:
    return ExposedTable(
        "shop",
        name,
        RelationKind.TABLE,
        None,
        ("id",) if key else None,
        key_known=True,
        usable=usable,
        selectable=selectable,
        columns=(),
    )


@pytest.mark.requirement("R-138", "R-144", "R-145", "R-147", "R-149")
@pytest.mark.parametrize(
    ("found", "result", "reason"),
    [
        (Exposed((table("a"),), (("shop", "b"),)), "Failed", Reason.TABLE_MISSING),
        (Exposed(), "Failed", Reason.SCHEMA_EMPTY),
        (Exposed((table("a", usable=False),)), "Failed", Reason.SCHEMA_USAGE_MISSING),
        (Exposed((table("a", selectable=False),)), "Failed", Reason.NO_READABLE_TABLES),
        (Exposed((table("a"), table("b", selectable=False))), "Failed", Reason.MISSING_GRANTS),
        (Exposed((table("a"), table("b", key=False))), "Warning", Reason.NO_UNIQUE_KEY),
        (Exposed((table("a"),)), "Passed", Reason.CONNECTION_TEST_PASSED),
    ],
)
def test_exposed_tables_exist_can_be_read_and_have_keys(found: Exposed, result: str, reason: Reason) -> None:
    finding = exposed_tables(found, ["shop"], "app")
    assert (finding.result.value, finding.reason) == (result, reason)


def test_usage_of_a_schema_is_asked_for_once_and_select_for_each_table() -> None:
    tables = tuple(table(f"t{number}", usable=False, selectable=False) for number in range(30))
    finding = exposed_tables(Exposed(tables), ["shop"], "app")
    assert len(finding.missing) == 31
    assert finding.message.count("GRANT USAGE") == 1
    assert finding.message.endswith("and 21 more")


@pytest.mark.requirement("R-144", "R-145")
@pytest.mark.parametrize(
    ("found", "result", "reason"),
    [
        ([], "Warning", Reason.NO_READABLE_TABLES),
        ([DataSchema("shop", True, 0, 0, ())], "Warning", Reason.SCHEMA_EMPTY),
        ([DataSchema("shop", False, 2, 0, ())], "Failed", Reason.SCHEMA_USAGE_MISSING),
        ([DataSchema("shop", True, 2, 0, ())], "Failed", Reason.NO_READABLE_TABLES),
        ([DataSchema("shop", True, 2, 1, ("a",))], "Warning", Reason.NO_UNIQUE_KEY),
        ([DataSchema("shop", True, 2, 1, ())], "Passed", Reason.CONNECTION_TEST_PASSED),
    ],
)
def test_where_nothing_is_exposed_what_the_role_holds_counts(
    found: list[DataSchema], result: str, reason: Reason
) -> None:
    finding = data_schemas(found, "app")
    assert (finding.result.value, finding.reason) == (result, reason)
