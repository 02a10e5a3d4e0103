"""What is said of published logins where a pass could not come to them: the instance is not available, or cannot be reached."""

from collections.abc import Iterator, Mapping
from typing import Any

from lakebase_operator.api import PostgresRole
from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain import connection_test as tests
from lakebase_operator.domain.errors import LakebaseError
from lakebase_operator.domain.status import READY, STALLED, condition
from lakebase_operator.engine.catalog import key_of
from lakebase_operator.external.postgres import probe
from lakebase_operator.external.postgres.session import Server
from lakebase_operator.reconcilers.connection_test import REACH_SECONDS, tell
from lakebase_operator.reconcilers.context import Context
from lakebase_operator.reconcilers.view import is_deleting

_CONCERNS_ALL = frozenset(
    {
        Reason.UNREACHABLE,
        Reason.NETWORK_BLOCKED,
        Reason.ADDRESS_BLOCKED,
        Reason.TLS_FAILED,
        Reason.HOSTNAME_MISMATCH,
        Reason.TOO_MANY_CONNECTIONS,
    }
)
"""What keeps the operator out and keeps every application out as well."""


def tell_not_available(context: Context, reason: Reason, message: str) -> None:
    """The instance is stopped, starting, failing over: no login works now, and that is no fault of the login."""
    for role, status in _published(context):
        outcome = condition(tests.CONDITION, None, reason, message)
        _say(context, role, status, reason, message, fails=False)
        context.report.fact(role, outcome)


async def tell_unreachable(context: Context, server: Server | None, error: LakebaseError) -> None:
    """The operator itself does not get in. Where that is a matter of the way, the logins share it.

    Parameters
    ----------
    context
        The pass.
    server
        Where it is; None: that is what is wrong.
    error
        What kept the operator out.
    """
    roles = list(_published(context))
    if error.reason not in _CONCERNS_ALL or not roles:
        return
    finding = tests.unreached(error.reason, error.message)
    if error.reason is Reason.UNREACHABLE and server is not None:
        try:
            await probe.reach(server.host, server.port, seconds=REACH_SECONDS)
        except LakebaseError as exactly:
            finding = tests.unreached(exactly.reason, exactly.message)
    for role, status in roles:
        tell(context, role, tests.complete([finding]))
        message = f"{finding.step.value}: {finding.message}"
        _say(context, role, status, finding.reason, message, fails=True)


def _published(context: Context) -> Iterator[tuple[PostgresRole, Mapping[str, Any]]]:
    """Logins that are published as they are declared now, with their statuses. Of those that are not, it is said that they wait."""
    for role in context.view.roles:
        status = context.services.catalog.status(key_of(role))
        if (
            role.spec.password is not None
            and not role.spec.suspend
            and not is_deleting(role)
            and status.get("binding")
            and not context.is_pending(role)
        ):
            yield role, status


def _say(
    context: Context,
    role: PostgresRole,
    status: Mapping[str, Any],
    reason: Reason,
    message: str,
    *,
    fails: bool,
) -> None:
    """The verdict on a login: what it was, unless it was, or is now, that the test fails."""
    conditions = {one["type"]: one for one in status.get("conditions") or []}
    ready, tested = conditions[READY], conditions.get(tests.CONDITION, {})
    before = (Reason(ready["reason"]), ready["message"])
    if ready["status"] == "True" and not fails:
        context.report.ready(role, *before)
    elif ready["status"] == "True" or tested.get("reason") == ready["reason"]:
        context.report.waiting(role, reason, message)
    elif STALLED in conditions:
        context.report.stalled(role, *before)
    else:
        context.report.waiting(role, *before)
