"""What the status of a PostgresRole says of its connection test."""

from collections.abc import Mapping, Sequence
from typing import Any

from lakebase_sandbox.demo.narrator import Observation
from lakebase_sandbox.demo.objects import Object, condition, readiness, summary

STEPS = ("Network", "Authentication", "Schema", "Tables")

_CONDITION = "ConnectionTested"


def passed(role: Object) -> Observation:
    """Whether all steps have passed, and the role as it is now is ready."""
    results = {one["step"]: one["result"] for one in _entries(role)}
    holds = results == dict.fromkeys(STEPS, "Passed") and _is(role, "True") and readiness(role).holds
    return Observation(holds, f"{summary(role)}\n{told(role)}")


def warned(role: Object, step: str, reason: str) -> Observation:
    """Whether a step has that warning, and the role as it is now is ready all the same."""
    holds = _has(role, step, "Warning", reason) and _is(role, "True") and readiness(role).holds
    return Observation(holds, f"{summary(role)}\n{told(role)}")


def failed(versions: Sequence[Object], step: str | None, reason: str) -> Observation:
    """Whether the test has failed in this way in one of the versions of a role.

    Parameters:
        step: the one that has failed; None: the test could not be made, so that nothing is known.
    """
    return Observation(first_failure(versions, step, reason) is not None, told(versions[-1]))


def first_failure(versions: Sequence[Object], step: str | None, reason: str) -> Object | None:
    """The first version that says so; None: there is none."""
    return next((one for one in versions if _has_failed(one, step, reason)), None)


def told(role: Object) -> str:
    """The test for people: one step a line; or why it could not be made."""
    lines = [_line(one["step"], one["result"], one) for one in _entries(role)]
    found = condition(role, _CONDITION)
    if found is not None and found["status"] == "Unknown":
        lines.append(_line(_CONDITION, "Unknown", found))
    return "\n".join(lines) or "It has not been tested."


def _entries(role: Object) -> list[Mapping[str, Any]]:
    entries: list[Mapping[str, Any]] = role.get("status", {}).get("test", [])
    return entries


def _has_failed(role: Object, step: str | None, reason: str) -> bool:
    if step is None:
        return _is(role, "Unknown", reason)
    return _is(role, "False", reason) and _has(role, step, "Failed", reason)


def _is(role: Object, status: str, reason: str | None = None) -> bool:
    found = condition(role, _CONDITION)
    return found is not None and found["status"] == status and reason in {None, found["reason"]}


def _has(role: Object, step: str, result: str, reason: str) -> bool:
    return any(
        (one["step"], one["result"], one["reason"]) == (step, result, reason) for one in _entries(role)
    )


def _line(what: str, result: str, entry: Mapping[str, Any]) -> str:
    return f"{what}: {result} {entry['reason']}: {entry.get('message', '')}".removesuffix(": ")
