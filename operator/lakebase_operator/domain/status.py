"""The rules that every status obeys, in one place.

1. Never without a verdict: ``observedGeneration``, exactly one ``Ready``, and the same generation in each condition.
2. The generation and the verdict on it are written together.
3. Not ready means exactly one of ``Reconciling`` (it goes on by itself) and ``Stalled`` (a person must change something);
   ready means neither. Both are there only while true.

They are what ``kubectl wait``, Flux (kstatus) and Argo CD need in order not to take an unfinished object for a finished one:
https://github.com/kubernetes-sigs/cli-utils/blob/master/pkg/kstatus/README.md
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, cast

from pydantic_core import to_jsonable_python

from lakebase_operator.api.reasons import Reason

READY = "Ready"
RECONCILING = "Reconciling"
STALLED = "Stalled"

MAX_MESSAGE = 32768

Condition = dict[str, Any]
"""As in the API: ``type``, ``status``, ``reason``, ``message``; :func:`complete` adds the rest."""


class Verdict(StrEnum):
    """Where an object stands."""

    READY = "Ready"
    RECONCILING = "Reconciling"
    """Not there yet; the operator goes on by itself."""
    STALLED = "Stalled"
    """Not there, and a person must change something."""


def condition(kind: str, status: bool | None, reason: Reason, message: str = "") -> Condition:
    """One condition; ``status`` None is Unknown."""
    text = "Unknown" if status is None else str(status)
    return {"type": kind, "status": text, "reason": reason.value, "message": message[:MAX_MESSAGE]}


def verdict(verdict: Verdict, reason: Reason, message: str = "") -> list[Condition]:
    """The conditions that sum up, with what goes beside them by rule 3."""
    ready = condition(READY, verdict is Verdict.READY, reason, message)
    if verdict is Verdict.READY:
        return [ready]
    return [ready, condition(verdict.value, True, reason, message)]


def complete(
    status: Mapping[str, Any], *, previous: Mapping[str, Any], generation: int, now: datetime
) -> dict[str, Any]:
    """A status as it is written: plain JSON, without nulls, obeying the rules.

    Parameters
    ----------
    status
        What there is to say, with ``conditions`` as :func:`condition` makes them. Models and datetimes are turned into
        JSON by their aliases.
    previous
        The status as it is now: a condition whose ``status`` is the same keeps its ``lastTransitionTime``.
    generation
        ``metadata.generation`` of the object that this is said of.

    Raises
    ------
    ValueError
        The conditions break the rules.
    """
    plain = cast("dict[str, Any]", _without_nulls(to_jsonable_python(dict(status), by_alias=True)))
    conditions = merge_conditions(
        previous.get("conditions") or [], plain.get("conditions") or [], generation=generation, now=now
    )
    return {**plain, "observedGeneration": generation, "conditions": conditions}


def merge_conditions(
    old: Iterable[Mapping[str, Any]], new: Sequence[Mapping[str, Any]], *, generation: int, now: datetime
) -> list[Condition]:
    """The new conditions with generation and times, ``Ready`` first.

    Raises
    ------
    ValueError
        The conditions break the rules.
    """
    present = [one for one in new if one["status"] == "True" or one["type"] not in (RECONCILING, STALLED)]
    _check(present)
    since = {(one.get("type"), one.get("status")): one.get("lastTransitionTime") for one in old}
    moment = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    merged = [
        {
            "type": one["type"],
            "status": one["status"],
            "reason": one["reason"],
            "message": one.get("message", ""),
            "observedGeneration": generation,
            "lastTransitionTime": since.get((one["type"], one["status"])) or moment,
        }
        for one in present
    ]
    return sorted(merged, key=lambda one: one["type"] != READY)


def transitions(previous: Mapping[str, Any], current: Mapping[str, Any]) -> list[Condition]:
    """Conditions of ``current`` whose status or reason is not what it was: each is worth an Event."""
    before = {one["type"]: (one["status"], one["reason"]) for one in previous.get("conditions") or []}
    return [
        one
        for one in current.get("conditions") or []
        if before.get(one["type"]) != (one["status"], one["reason"])
    ]


def _check(conditions: Sequence[Mapping[str, Any]]) -> None:
    by_type = {one["type"]: one["status"] for one in conditions}
    if len(by_type) != len(conditions):
        raise ValueError(f"a condition is given twice: {[one['type'] for one in conditions]}")
    if READY not in by_type:
        raise ValueError("there is no condition Ready")
    beside = {RECONCILING, STALLED} & by_type.keys()
    if by_type[READY] == "True" and beside:
        raise ValueError(f"Ready=True goes without {' and '.join(sorted(beside))}")
    if by_type[READY] != "True" and len(beside) != 1:
        raise ValueError("an object that is not ready is exactly one of Reconciling and Stalled")


def _without_nulls(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_nulls(one) for key, one in value.items() if one is not None}
    if isinstance(value, list):
        return [_without_nulls(one) for one in value]
    return value
