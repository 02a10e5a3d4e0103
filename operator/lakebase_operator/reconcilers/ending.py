"""How a pass over a connection ends, and what is said of it: succeeded, not connectable, asleep, failed."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from lakebase_operator.api import AccessGrant, LakebaseConnection
from lakebase_operator.api.base import ANNOTATION_SYNC_NOW, MAX_STATUS_ISSUES
from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.desired import next_change
from lakebase_operator.domain.errors import InvalidError, LakebaseError
from lakebase_operator.domain.instance import Instance, InstanceState
from lakebase_operator.domain.status import Verdict, condition
from lakebase_operator.domain.wording import counted
from lakebase_operator.engine.catalog import key_of
from lakebase_operator.engine.clock import Clock
from lakebase_operator.engine.runner import Outcome
from lakebase_operator.external.kube.objects import ObjectEvent
from lakebase_operator.reconcilers import instance as instances
from lakebase_operator.reconcilers.context import ABANDON, Context
from lakebase_operator.reconcilers.pending import still_waits
from lakebase_operator.reconcilers.report import Saying
from lakebase_operator.reconcilers.tally import DatabaseResult, Deviation
from lakebase_operator.reconcilers.timing import jittered, seconds
from lakebase_operator.reconcilers.view import is_deleting

SLOW_RETRY_SECONDS = 300.0
"""Between two looks at something that a person must change first; a change of it is seen at once anyway."""

_MAY_PASS = frozenset({Reason.TOKEN_EXPIRED, Reason.ADDRESS_BLOCKED})
"""What usually needs a person, but passes without a change of the object: a new role or endpoint is known everywhere after a while, and
an address list is changed in the workspace."""

_AUTHENTICATION = frozenset(
    {
        Reason.OAUTH_CLIENT_REJECTED,
        Reason.TOKEN_EXPIRED,
        Reason.WORKSPACE_MISMATCH,
        Reason.PASSWORD_REJECTED,
        Reason.OPERATOR_ROLE_MISSING,
        Reason.OPERATOR_ROLE_NOT_LOGIN,
        Reason.SECRET_NOT_FOUND,
        Reason.CONTROL_PLANE_DENIED,
    }
)


def count_pending(context: Context, connection: LakebaseConnection) -> None:
    """``status.pendingChanges``: dependents that wait for something on this connection."""
    waiting = {
        key_of(saying.subject)
        for saying in context.report.said()
        if saying.verdict is Verdict.RECONCILING
        and saying.subject is not connection
        and not _waits_elsewhere(saying)
    } | context.held_up
    waiting |= {
        key_of(one)
        for one in context.view.dependents
        if one not in context.report and still_waits(one, context.services.catalog)
    }
    if context.known is not None:
        waiting |= context.known.waiting - context.view.changed
    if context.memory.known is not None:
        context.memory.known.waiting = frozenset(key for key in waiting if key.kind == AccessGrant.kind_name)
    context.report.fields(connection, {"pendingChanges": len(waiting)})


def _waits_elsewhere(saying: Saying) -> bool:
    """A mapping for several connections that was looked for on this one, and not yet on another."""
    return saying.looked and saying.reason is Reason.CONNECTION_NOT_READY


def succeeded(
    context: Context,
    connection: LakebaseConnection,
    results: Sequence[DatabaseResult],
    failures: Mapping[str, LakebaseError],
    *,
    planned: bool = False,
) -> Outcome:
    """All databases were looked at; some may have failed. With a plan that waits, they are not as declared."""
    unfinished = any(result.unfinished for result in results)
    if not failures and not unfinished:
        context.memory.pauses.reset()
    if not failures:
        context.memory.carried_out, context.memory.removed = connection.metadata.generation, False
    now = context.services.clock.now()
    context.tell_counts(connection)
    _tell_databases(context, connection, results, now)
    if not context.view.narrow or any(result.drifted for result in results):
        _tell_drift(context, connection, results, now)
    if not context.view.narrow:  # else it was not looked for
        _tell_unmanaged(context, connection, results)
        _tell_public(context, connection, results)
    if failures:
        _tell_failures(context, connection, failures)
    elif not planned:
        _tell_synced(context, connection, results)
    if is_deleting(connection):
        return Outcome(1.0)
    if failures or unfinished:
        return Outcome(context.memory.pauses.next())
    return Outcome(_until_next(context, connection))


def not_connectable(context: Context, connection: LakebaseConnection, seen: Instance) -> Outcome:
    """Nothing is tried. With work pending that is said; with none, all is as it was."""
    reason, message = instances.explain(seen)
    waiting = [one for one in context.view.dependents if context.is_pending(one)]
    for one in waiting:
        context.wait(one, reason, message)
    gone = seen.state in (InstanceState.NOT_FOUND, InstanceState.DELETING)
    pending = bool(waiting) or gone or context.has_work(connection)
    context.tell_counts(connection)
    if pending:
        context.report.fact(connection, condition("Synced", False, reason, message))
    if is_deleting(connection):
        context.report.waiting(connection, Reason.DELETION_BLOCKED, f"{message} {ABANDON}")
    elif not pending:
        context.report.ready(connection, reason, f"Nothing is pending. {message}")
    elif seen.state is InstanceState.NOT_FOUND:
        context.report.stalled(connection, reason, message)
    else:
        context.report.waiting(connection, reason, message)
    return Outcome(context.memory.pauses.next())


def asleep(context: Context, connection: LakebaseConnection, seen: Instance) -> Outcome:
    """There is nothing to do that is worth waking the compute for."""
    _, message = instances.explain(seen)
    context.tell_counts(connection)
    context.report.ready(connection, Reason.SUCCEEDED, f"Everything was carried out. {message}")
    return Outcome(_until_next(context, connection))


def failed(context: Context, connection: LakebaseConnection, error: LakebaseError) -> Outcome:
    """Fail static: what was carried out stays as it is, and stays Ready."""
    context.expect_session(error)
    context.tell_counts(connection)
    _tell_failure(context, connection, error)
    if is_deleting(connection):
        context.report.waiting(connection, Reason.DELETION_BLOCKED, f"{error.message} {ABANDON}")
    else:
        context.report.failed(connection, error)
    for one in context.view.dependents:
        if context.is_pending(one):
            context.wait(
                one,
                error.reason if not isinstance(error, InvalidError) else Reason.CONNECTION_NOT_READY,
                f"The LakebaseConnection {context.view.key} is not usable: {error.message}",
            )
    if isinstance(error, InvalidError) and error.reason not in _MAY_PASS:
        return Outcome(jittered(SLOW_RETRY_SECONDS))
    return Outcome(max(context.memory.pauses.next(), error.retry_after or 0))


# -- the parts of it ---------------------------------------------------------------------------------------------------


def _tell_databases(
    context: Context, connection: LakebaseConnection, results: Sequence[DatabaseResult], now: datetime
) -> None:
    previous = {one["name"]: one for one in context.status().get("databases") or []}
    context.report.fields(
        connection,
        {
            "databases": [
                _database_status(result, previous.get(result.database), now, narrow=context.view.narrow)
                for result in results
            ],
            "lastHandledSync": connection.metadata.annotations.get(ANNOTATION_SYNC_NOW),
        },
    )


def _database_status(
    result: DatabaseResult, previous: Mapping[str, Any] | None, now: datetime, *, narrow: bool
) -> dict[str, Any]:
    changed = previous is None or result.granted or result.revoked
    counts = {"objects": result.objects, "managedGrants": result.managed}
    if narrow and previous is not None:  # only a full comparison counts them
        counts = {name: previous[name] for name in counts if name in previous}
    return {
        "name": result.database,
        **counts,
        "lastChangeTime": _rfc3339(now) if changed else (previous or {}).get("lastChangeTime"),
    }


def _tell_drift(
    context: Context, connection: LakebaseConnection, results: Sequence[DatabaseResult], now: datetime
) -> None:
    """What was changed by hand: whether it still is so, since when, and by whom as far as the database knows."""
    drifted = sum(result.drifted for result in results)
    previous = context.status().get("drift") or {}
    if not drifted:
        context.report.fields(connection, {"drift": None})
        context.report.fact(connection, condition("Drifted", False, Reason.NO_DRIFT))
        return
    repaired = all(result.repaired for result in results)
    reason = Reason.DRIFT_REPAIRED if repaired else Reason.DRIFT_FOUND
    items = _deviations(results, [result.drift for result in results])
    context.report.fields(
        connection,
        {"drift": {"since": previous.get("since") or _rfc3339(now), "total": drifted, "items": items}},
    )
    message = _changed_by_hand(drifted, items, repaired=repaired)
    context.report.fact(connection, condition("Drifted", not repaired, reason, message))
    if repaired or previous.get("total") != drifted:
        context.report.event(connection, ObjectEvent("Warning", reason, message, action="Compare"))


def _changed_by_hand(drifted: int, items: Sequence[Mapping[str, Any]], *, repaired: bool) -> str:
    such, were = (":", "it was") if drifted == 1 else (", such as", "they were")
    example = "".join(
        f'{such} {one["privilege"]} on {one["object"]} for "{one["role"]}"' for one in items[:1]
    )
    end = f"{were} put back." if repaired else "drift.action is Report."
    return f"{counted(drifted, 'privilege', 'privileges')} had been changed by hand{example}; {end}"


def _tell_unmanaged(
    context: Context, connection: LakebaseConnection, results: Sequence[DatabaseResult]
) -> None:
    """What nobody declares, where somebody asked for it."""
    counts = [result.unmanaged for result in results if result.unmanaged is not None]
    if not counts:
        context.report.fields(connection, {"unmanaged": None})
        context.report.withdraw(connection, "UnmanagedGrants")
        return
    total = sum(counts)
    items = _deviations(results, [result.unmanaged_items for result in results])
    context.report.fields(connection, {"unmanaged": {"total": total, "items": items}})
    message = (
        f"{counted(total, 'privilege is', 'privileges are')} held that nobody declares; "
        "status.unmanaged lists the first."
        if total
        else ""
    )
    reason = Reason.UNMANAGED if total else Reason.SUFFICIENT
    context.report.fact(connection, condition("UnmanagedGrants", bool(total), reason, message))


def _deviations(
    results: Sequence[DatabaseResult], found: Sequence[Sequence[Deviation]]
) -> list[dict[str, str | None]]:
    items = [
        {
            "database": result.database,
            "object": one.object[:512],
            "role": one.role,
            "privilege": one.privilege,
            "what": one.origin.value,
            "grantor": one.grantor,
        }
        for result, deviations in zip(results, found, strict=True)
        for one in deviations
    ]
    return items[:MAX_STATUS_ISSUES]


def _rfc3339(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _tell_public(context: Context, connection: LakebaseConnection, results: Sequence[DatabaseResult]) -> None:
    """What everybody holds is no fault, but those who think about access should know of it."""
    public = [f"{result.database}: {', '.join(result.public)}" for result in results if result.public]
    context.report.fact(
        connection,
        condition(
            "PublicAccess",
            bool(public),
            Reason.HELD_THROUGH_PUBLIC if public else Reason.SUFFICIENT,
            f"Everybody who can log in holds, through PUBLIC: {'; '.join(public)}." if public else "",
        ),
    )


def _tell_failures(
    context: Context, connection: LakebaseConnection, failures: Mapping[str, LakebaseError]
) -> None:
    for name, error in failures.items():
        message = f"{name}: {error.message}"
        context.report.fact(connection, condition("Synced", False, error.reason, message))
        say = context.report.stalled if isinstance(error, InvalidError) else context.report.waiting
        say(connection, error.reason, message)


def _tell_synced(context: Context, connection: LakebaseConnection, results: Sequence[DatabaseResult]) -> None:
    if unrevocable := sum(len(result.unrevocable) for result in results):
        message = (
            f"{counted(unrevocable, 'privilege', 'privileges')} could not be revoked, though no longer declared; "
            "their AccessGrants say why."
        )
        context.report.fact(connection, condition("Synced", False, Reason.UNREVOCABLE, message))
        context.report.stalled(connection, Reason.UNREVOCABLE, message)
        return
    message = "The database is as declared."
    context.report.fact(connection, condition("Synced", True, Reason.SUCCEEDED, message))
    if is_deleting(connection):
        context.report.waiting(connection, Reason.DELETING, "Its dependents are being cleaned up.")
    else:
        context.report.ready(connection, Reason.SUCCEEDED, message)


def _tell_failure(context: Context, connection: LakebaseConnection, error: LakebaseError) -> None:
    if error.reason in _AUTHENTICATION:
        context.report.fact(connection, condition("Authenticated", False, error.reason, error.message))
    if connection.spec.auth.password is not None and error.reason is Reason.UNREACHABLE:
        # Nobody but the server itself says whether it is there.
        context.report.fact(connection, condition("InstanceAvailable", False, error.reason, error.message))
    context.report.fact(connection, condition("Synced", False, error.reason, error.message))


def _until_next(context: Context, connection: LakebaseConnection) -> float:
    """Seconds to the next pass that only time asks for: a comparison, or a grant that begins or ends.

    What began or ended while this pass was at work it may not have seen.
    """
    clock, known, began = context.services.clock, context.memory.known, context.began
    changes = [
        next_change((grant.spec for grant in context.view.grants), began),
        *(one for one in context.deadlines if one > began),
    ]
    change = min((one for one in changes if one is not None), default=None)
    if context.known is not None:
        full_at = context.known.full_at
        change = min((one for one in (change, context.known.next_change) if one is not None), default=None)
    else:
        full_at = clock.monotonic() + jittered(seconds(connection.spec.drift.interval))
    if known is not None:
        known.full_at, known.next_change = full_at, change
    return seconds_until(clock, full_at, change)


def seconds_until(clock: Clock, full_at: float, change: datetime | None) -> float:
    """Seconds until everything is compared, or time changes what is declared."""
    left = max(full_at - clock.monotonic(), 0.0)
    return left if change is None else min(left, max((change - clock.now()).total_seconds(), 0.0) + 0.05)
