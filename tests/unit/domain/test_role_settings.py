"""Settings of roles: what is declared against what is there."""

from collections.abc import Sequence

import pytest

from lakebase_operator.api.lakebase_connection import UnmanagedAction
from lakebase_operator.domain.role_settings import settings_change
from lakebase_operator.domain.roles import Step


def texts(steps: Sequence[Step]) -> list[str]:
    return [str(step) for step in steps]


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
    assert texts(settings_change("r", wanted, actual, ours).steps) == [
        f'ALTER ROLE "r" {text}' for text in expected
    ]


def test_settings_in_one_database_name_it() -> None:
    plan = settings_change("r", {"work_mem": "4MB"}, {"lock_timeout": "1s"}, ["lock_timeout"], database="d")
    assert texts(plan.steps) == [
        'ALTER ROLE "r" IN DATABASE "d" RESET "lock_timeout"',
        'ALTER ROLE "r" IN DATABASE "d" SET "work_mem" TO \'4MB\'',
    ]


def test_settings_that_nobody_declares_are_kept_reported_or_reset() -> None:
    actual = {"lock_timeout": "1s", "work_mem": "4MB"}
    kept = settings_change("r", {"work_mem": "4MB"}, actual, [])
    assert (kept.steps, kept.unmanaged) == ((), ())
    reported = settings_change("r", {"work_mem": "4MB"}, actual, [], unmanaged=UnmanagedAction.REPORT)
    assert reported.steps == ()
    assert [(issue.object, issue.reason) for issue in reported.unmanaged] == [
        ("setting lock_timeout", "Unmanaged")
    ]
    reset = settings_change("r", {"work_mem": "4MB"}, actual, [], unmanaged=UnmanagedAction.REVOKE)
    assert texts(reset.steps) == ['ALTER ROLE "r" RESET "lock_timeout"']
    assert reset.unmanaged == ()


def test_the_ledger_knows_what_was_set_and_what_could_not_be_reset() -> None:
    plan = settings_change("r", {"Work_Mem": "4MB", "a.b": "1"}, {"lock_timeout": "1s"}, ["lock_timeout"])
    assert plan.ours(["Work_Mem", "a.b"], ["lock_timeout"], []) == ("Work_Mem", "a.b")
    assert plan.ours(["Work_Mem", "a.b"], ["lock_timeout"], ["a.b", "lock_timeout"]) == (
        "Work_Mem",
        "lock_timeout",
    )
    # A value that could not be changed is still the one that was declared before.
    assert plan.ours(["a.b"], ["a.b"], ["a.b"]) == ("a.b",)
