"""The rules of every status."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakebase_operator.api import Reason
from lakebase_operator.api.access_grant import GrantCounts
from lakebase_operator.domain.status import Verdict, complete, condition, transitions, verdict

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)


def finish(
    status: dict[str, Any], previous: dict[str, Any] | None = None, at: datetime = NOW
) -> dict[str, Any]:
    return complete(status, previous=previous or {}, generation=3, now=at)


def test_a_ready_object_is_neither_reconciling_nor_stalled() -> None:
    status = finish({"conditions": verdict(Verdict.READY, Reason.SUCCEEDED, "done")})
    assert status == {
        "observedGeneration": 3,
        "conditions": [
            {
                "type": "Ready",
                "status": "True",
                "reason": "Succeeded",
                "message": "done",
                "observedGeneration": 3,
                "lastTransitionTime": "2026-01-01T12:00:00Z",
            }
        ],
    }


@pytest.mark.parametrize("how", [Verdict.RECONCILING, Verdict.STALLED])
def test_an_object_that_is_not_ready_is_exactly_one_of_the_two(how: Verdict) -> None:
    conditions = finish({"conditions": verdict(how, Reason.UNREACHABLE, "no answer")})["conditions"]
    assert [(one["type"], one["status"], one["reason"]) for one in conditions] == [
        ("Ready", "False", "Unreachable"),
        (how.value, "True", "Unreachable"),
    ]


@pytest.mark.parametrize(
    ("conditions", "problem"),
    [
        ([], "no condition Ready"),
        ([condition("Synced", True, Reason.SUCCEEDED)], "no condition Ready"),
        ([condition("Ready", True, Reason.SUCCEEDED)] * 2, "twice"),
        ([condition("Ready", False, Reason.UNREACHABLE)], "exactly one"),
        ([condition("Ready", None, Reason.PENDING)], "exactly one"),
        (
            [
                *verdict(Verdict.STALLED, Reason.INVALID_SPEC),
                condition("Reconciling", True, Reason.PROGRESSING),
            ],
            "exactly one",
        ),
        (
            [condition("Ready", True, Reason.SUCCEEDED), condition("Reconciling", True, Reason.PROGRESSING)],
            "goes without",
        ),
    ],
)
def test_conditions_that_break_the_rules_are_refused(conditions: list[dict[str, Any]], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        finish({"conditions": conditions})


def test_what_is_there_only_while_true_is_left_out_when_false() -> None:
    ready = [condition("Ready", True, Reason.SUCCEEDED), condition("Stalled", False, Reason.SUCCEEDED)]
    assert [one["type"] for one in finish({"conditions": ready})["conditions"]] == ["Ready"]


def test_a_condition_keeps_its_time_while_its_status_stays() -> None:
    first = finish({"conditions": verdict(Verdict.RECONCILING, Reason.INSTANCE_STOPPED)})
    second = finish({"conditions": verdict(Verdict.RECONCILING, Reason.UNREACHABLE)}, first, LATER)
    assert {one["lastTransitionTime"] for one in second["conditions"]} == {"2026-01-01T12:00:00Z"}
    third = finish({"conditions": verdict(Verdict.READY, Reason.SUCCEEDED)}, second, LATER)
    assert third["conditions"][0]["lastTransitionTime"] == "2026-01-01T12:05:00Z"


def test_saying_the_same_again_makes_the_same_status() -> None:
    said = {
        "conditions": [*verdict(Verdict.READY, Reason.SUCCEEDED), condition("Synced", True, Reason.SUCCEEDED)]
    }
    first = finish(said)
    assert finish(said, first, LATER) == first


def test_models_and_times_become_plain_json_without_nulls() -> None:
    status = finish(
        {
            "conditions": verdict(Verdict.READY, Reason.SUCCEEDED),
            "grants": GrantCounts(wanted=4, held=2),
            "lastSyncTime": NOW,
            "serverVersion": None,
            "subjects": [{"name": "alice", "role": None}],
        }
    )
    assert status["grants"] == {"wanted": 4, "held": 2}
    assert status["lastSyncTime"] == "2026-01-01T12:00:00Z"
    assert "serverVersion" not in status
    assert status["subjects"] == [{"name": "alice"}]


def test_ready_comes_first_and_long_messages_are_cut() -> None:
    said = [
        condition("Synced", False, Reason.DRIFT_FOUND, "x" * 50_000),
        *verdict(Verdict.READY, Reason.SUCCEEDED),
    ]
    conditions = finish({"conditions": said})["conditions"]
    assert [one["type"] for one in conditions] == ["Ready", "Synced"]
    assert len(conditions[1]["message"]) == 32768


def test_a_transition_is_a_new_status_or_reason_but_not_a_new_message() -> None:
    before = finish(
        {
            "conditions": [
                *verdict(Verdict.READY, Reason.SUCCEEDED, "a"),
                condition("Synced", True, Reason.SUCCEEDED),
            ]
        }
    )
    after = finish(
        {
            "conditions": [
                *verdict(Verdict.READY, Reason.SUCCEEDED, "b"),
                condition("Synced", True, Reason.NO_DRIFT),
            ]
        }
    )
    assert [one["type"] for one in transitions(before, after)] == ["Synced"]
    assert [one["type"] for one in transitions({}, after)] == ["Ready", "Synced"]


@given(
    how=st.sampled_from(Verdict),
    reason=st.sampled_from(Reason),
    generation=st.integers(1, 10**6),
    message=st.text(),
)
def test_every_verdict_obeys_the_rules(how: Verdict, reason: Reason, generation: int, message: str) -> None:
    status = complete(
        {"conditions": verdict(how, reason, message)}, previous={}, generation=generation, now=NOW
    )
    by_type = {one["type"]: one["status"] for one in status["conditions"]}
    assert status["observedGeneration"] == generation
    assert all(one["observedGeneration"] == generation for one in status["conditions"])
    assert (by_type.pop("Ready") == "True") == (not by_type)
    assert len(by_type) <= 1
