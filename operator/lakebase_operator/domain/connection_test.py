"""The connection test of a login: its steps, what each failure means, and when the next test is due. No I/O.

The steps are Network, Authentication, Schema and Tables, in this order. The first that fails is what there is to say; those after
it are not tried.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from psycopg import sql

from lakebase_operator.api.base import ANNOTATION_ROTATE
from lakebase_operator.api.objects import Privilege
from lakebase_operator.api.postgres_role import ConnectionTestResult, ConnectionTestStep
from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.errors import ADDRESS_BLOCKED
from lakebase_operator.domain.exposed import Exposed, ExposedTable
from lakebase_operator.domain.near_names import did_you_mean
from lakebase_operator.domain.privileges import ObjectClass
from lakebase_operator.domain.statements import ObjectName, PrivilegeStatement, Verb
from lakebase_operator.domain.status import Condition, condition
from lakebase_operator.domain.wording import counted

CONDITION = "ConnectionTested"
MAX_MESSAGE = 2048
SHOWN = 10
"""Tables or statements that a message names."""
EARLY = 0.9
"""A test that is nearly due is made with those that are, so that many logins share a pass."""

_PASSES_BY_ITSELF = frozenset(
    {
        Reason.HOST_UNRESOLVABLE, Reason.NETWORK_BLOCKED, Reason.ADDRESS_BLOCKED, Reason.PORT_CLOSED, Reason.UNREACHABLE, Reason.RESUMING,
        Reason.TOO_MANY_CONNECTIONS, Reason.ROLE_MISSING, Reason.ROLE_NOT_LOGIN,
    }
)  # fmt: skip
"""What another try may find gone, without a person who changes a declaration or a right."""


@dataclass(frozen=True, slots=True)
class Missing:
    """A privilege that the login lacks."""

    object: str
    privilege: Privilege
    statement: str
    """The GRANT."""


@dataclass(frozen=True, slots=True)
class Finding:
    """How one step went."""

    step: ConnectionTestStep
    result: ConnectionTestResult
    reason: Reason
    message: str = ""
    missing: tuple[Missing, ...] = ()
    waits: bool = False
    """Of a failure: it may pass by itself."""


def passed(step: ConnectionTestStep, message: str = "") -> Finding:
    """All is well."""
    return Finding(step, ConnectionTestResult.PASSED, Reason.CONNECTION_TEST_PASSED, message)


def failed(
    step: ConnectionTestStep,
    reason: Reason,
    message: str,
    missing: Sequence[Missing] = (),
    *,
    waits: bool = False,
) -> Finding:
    """It does not work. What is missing is listed in the message as GRANT statements."""
    text = f"{message} {_run(missing)}" if missing else message
    waits = waits or reason in _PASSES_BY_ITSELF
    return Finding(step, ConnectionTestResult.FAILED, reason, text, tuple(missing), waits)


def warning(step: ConnectionTestStep, reason: Reason, message: str) -> Finding:
    """It works, but somebody should look at it."""
    return Finding(step, ConnectionTestResult.WARNING, reason, message)


def skipped(step: ConnectionTestStep, reason: Reason, message: str = "") -> Finding:
    """Not tried."""
    return Finding(step, ConnectionTestResult.SKIPPED, reason, message)


def unreached(reason: Reason, message: str) -> Finding:
    """There is no way to the server, or none that can be trusted, or no room on it."""
    full = reason is Reason.TOO_MANY_CONNECTIONS
    step = ConnectionTestStep.AUTHENTICATION if full else ConnectionTestStep.NETWORK
    return failed(step, reason, message, waits=True)


def unanswered(step: ConnectionTestStep, where: str, said: str) -> Finding:
    """The server accepts connections, and then says nothing, or breaks off."""
    why = f" ({said.strip().rstrip('.')})" if said.strip() else ""
    return failed(step, Reason.UNREACHABLE, f"{where} accepts connections, but gives no answer in time{why}.")


def complete(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """All steps in order. Those without a finding come after one that left nothing to go on with, and were not tried."""
    found = {one.step: one for one in findings}
    if ConnectionTestStep.AUTHENTICATION in found:
        found.setdefault(ConnectionTestStep.NETWORK, passed(ConnectionTestStep.NETWORK))
    return tuple(found.get(step) or skipped(step, Reason.NOT_TRIED) for step in ConnectionTestStep)


def failure(findings: Sequence[Finding]) -> Finding | None:
    """The first failing layer."""
    return next((one for one in findings if one.result is ConnectionTestResult.FAILED), None)


def conclusion(findings: Sequence[Finding]) -> Condition:
    """The condition ``ConnectionTested``."""
    if (first := failure(findings)) is not None:
        return condition(CONDITION, False, first.reason, f"{first.step.value}: {first.message}")
    warnings = [one.message for one in findings if one.result is ConnectionTestResult.WARNING]
    return condition(CONDITION, True, Reason.CONNECTION_TEST_PASSED, " ".join(warnings))


# -- when ----------------------------------------------------------------------------------------------------------------


def entries(
    findings: Sequence[Finding], before: Iterable[Mapping[str, Any]], now: datetime
) -> list[dict[str, str]]:
    """``status.test``. While a test fails in the same way its times stay: they say since when, and nothing is written again."""
    moment = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    made = [
        {
            "step": one.step.value,
            "result": one.result.value,
            "reason": one.reason.value,
            "message": one.message[:MAX_MESSAGE],
            "at": moment,
        }
        for one in findings
    ]
    old = [dict(one) for one in before]
    same = [_without_time(one) for one in old] == [_without_time(one) for one in made]
    return old if same and failure(findings) is not None else made


def _without_time(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key != "at" and value != ""}


def next_test(status: Mapping[str, Any], interval: float) -> datetime | None:
    """When a login that was found to work is to be tested again; None: never.

    Parameters
    ----------
    status
        Of the PostgresRole, as it was last written.
    interval
        Seconds; 0: never.
    """
    times = [datetime.fromisoformat(one["at"]) for one in status.get("test") or []]
    return max(times) + timedelta(seconds=interval) if times and interval else None


def is_due(
    status: Mapping[str, Any], *, generation: int, changed: bool, interval: float, now: datetime
) -> bool:
    """Whether to test now: never tested, not working, another declaration or login than before, or it is time.

    Parameters
    ----------
    status
        Of the PostgresRole, as it was last written.
    generation
        Of the PostgresRole now.
    changed
        The login has been changed since, or somebody asks for a test.
    interval
        Seconds between two tests of a login that works; 0: it is not tested again.
    now
        The time.
    """
    tested = tested_condition(status)
    if changed or tested is None or tested["status"] != "True":
        return True
    if status.get("observedGeneration") != generation or not status.get("test"):
        return True
    due = next_test(status, interval * EARLY)
    return due is not None and due <= now


def next_try(
    status: Mapping[str, Any], reason: Reason, now: datetime, *, shortest: float, longest: float
) -> datetime:
    """When a login that does not work is tested again: the longer it has not, the later. Pauses in seconds. Another ``reason`` than
    before is a step on, so it is tried soon."""
    tested = tested_condition(status)
    lasted = 0.0
    if tested is not None and (tested["status"], tested["reason"]) == ("False", reason.value):
        lasted = (now - datetime.fromisoformat(tested["lastTransitionTime"])).total_seconds()
    return now + timedelta(seconds=min(max(lasted, shortest), longest))


def tested_condition(status: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The condition ``ConnectionTested`` of a status."""
    return next((one for one in status.get("conditions") or [] if one["type"] == CONDITION), None)


# -- logging in --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RefusedLogin:
    """What the operator's own session sees of a login that was refused."""

    name: str
    exists: bool = True
    may_log_in: bool = True
    expired: bool = False
    """``VALID UNTIL`` has passed."""
    near: tuple[str, ...] = ()
    """Roles that are named like it."""
    native_login: bool | None = None
    """Whether the control plane lets roles log in with passwords; None: it does not say."""
    repair: bool = False
    """The operator sets the password again."""


_TLS = r"certificate|does not support SSL|SSL error|sslmode|Invalid protocol version"
_BROKEN = r"unexpected eof|SSL SYSCALL|reset by peer|server closed the connection|connection is lost"
_NOT_UP = r"the database system is |starting up|temporarily unavailable|Control plane request failed"
_FULL = r"too many clients|remaining connection slots|[Tt]oo many connections|Failed to acquire permit"
_PASSWORD = (
    r"password authentication failed|External authorization failed|no password supplied|invalid.authorization"  # noqa: S105
)


def refused(said: str, *, where: str, database: str, login: RefusedLogin) -> Finding:
    """What a refused login means: by the server's words, and by what the operator can see of the role.

    A server that checks passwords with SCRAM says the same of a wrong password, a role that is not there and, behind Lakebase's
    proxy, of native login that is off: so the role is looked at too
    (https://www.postgresql.org/docs/current/auth-password.html).

    Parameters
    ----------
    said
        The server's or libpq's words.
    where
        Host and port, for the message.
    database
        The database that was asked for.
    login
        The role that was to log in.
    """
    network, authentication = ConnectionTestStep.NETWORK, ConnectionTestStep.AUTHENTICATION
    name = login.name

    def says(pattern: str) -> bool:
        return re.search(pattern, said) is not None

    if ADDRESS_BLOCKED.search(said) or says(r"pg_hba\.conf"):
        return failed(network, Reason.ADDRESS_BLOCKED, f"{where} refuses the address that the operator comes from: {said}. It is no "
                      "matter of the password: add the address to the workspace's IP access list.")  # fmt: skip
    if says(_TLS):
        return failed(network, Reason.TLS_FAILED, f"TLS with {where} fails: {said}. Check spec.tls of the LakebaseConnection.")  # fmt: skip
    if says(_BROKEN):
        return failed(network, Reason.UNREACHABLE, f"{where} breaks connections off: {said}.")
    if says(r"has been disabled"):
        return failed(
            network, Reason.ENDPOINT_DISABLED, f"The endpoint behind {where} is disabled. Enable it."
        )
    if says(rf'too many connections for role "{re.escape(name)}"'):
        return warning(authentication, Reason.TOO_MANY_CONNECTIONS, f'The password is right, but "{name}" has as many sessions as '
                       "spec.attributes.connectionLimit allows.")  # fmt: skip
    if says(_FULL):
        return failed(authentication, Reason.TOO_MANY_CONNECTIONS, f"{where} has no connection left: {said}. Let applications keep "
                      "fewer, or give the compute more.")  # fmt: skip
    if says(_NOT_UP):
        return failed(network, Reason.RESUMING, f"{where} is not up yet: {said}.")
    if says(r'database ".*" does not exist'):
        return failed(authentication, Reason.DATABASE_NOT_FOUND, f'There is no database "{database}" at {where}. Create it, or correct '
                      "spec.binding.database.")  # fmt: skip
    if says(r"permission denied for database|does not have CONNECT privilege"):
        lacks = [missing(ObjectClass.DATABASE, None, database, Privilege.CONNECT, name)]
        return failed(authentication, Reason.MISSING_GRANTS, f'"{name}" may not connect to the database "{database}".', lacks)  # fmt: skip
    if not login.exists or says(r'role ".*" does not exist'):
        return failed(authentication, Reason.ROLE_MISSING, f'There is no role "{name}" at {where}.{did_you_mean(login.near)} One that a '
                      "PostgresRole declares is made anew.")  # fmt: skip
    if not login.may_log_in or says(r"is not permitted to log in"):
        return failed(authentication, Reason.ROLE_NOT_LOGIN, f'The role "{name}" may not log in. It is given LOGIN again; where the '
                      f'operator cannot, run: ALTER ROLE "{name}" LOGIN')  # fmt: skip
    if login.native_login is False:
        return failed(authentication, Reason.NATIVE_LOGIN_DISABLED, "Roles cannot log in with a password here: turn native login on, by "
                      "hand or with spec.nativeLogin of a LakebaseInstance.")  # fmt: skip
    if says(_PASSWORD):
        return _password_rejected(where, login)
    return failed(authentication, Reason.UNREACHABLE, f'{where} refuses "{name}": {said}.')


def _password_rejected(where: str, login: RefusedLogin) -> Finding:
    if login.expired:
        what = "it was valid until a time that has passed. Move spec.attributes.validUntil, or leave it out."
    elif login.repair:
        what = "the server has another one. It is set again."
    else:
        what = "the server has another one, or lets no passwords in. Check that native login is on, and ask for a new one with the "
        what += f"annotation {ANNOTATION_ROTATE}."
    return failed(
        ConnectionTestStep.AUTHENTICATION,
        Reason.PASSWORD_REJECTED,
        f'{where} refuses the published password of "{login.name}": {what}',
        waits=login.repair and not login.expired,
    )


# -- the application's own schema ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OwnSchema:
    """The schema that an application keeps for itself, as its login sees it."""

    name: str
    exists: bool
    usage: bool
    create: bool
    others: tuple[str, ...]
    """Some tables in it that are somebody else's."""


def own_schema(found: OwnSchema, role: str, field: str) -> Finding:
    """Whether an application can work in its own schema.

    Parameters
    ----------
    found
        The schema.
    role
        Who owns and is granted things.
    field
        Where the schema is named, such as ``spec.platformSchema``.
    """
    step, name = ConnectionTestStep.SCHEMA, found.name
    if not found.exists:
        return failed(
            step, Reason.SCHEMA_MISSING, f'{field}: there is no schema "{name}". Create it, or name another.'
        )
    if found.others:
        tables = ", ".join(found.others)
        return failed(step, Reason.PLATFORM_SCHEMA_IS_DATA_SCHEMA, f'{field}: "{name}" holds tables of others ({tables}), and an '
                      "application does not show what is in the schema that it keeps for itself. Name a schema of its own.")  # fmt: skip
    held = {Privilege.USAGE: found.usage, Privilege.CREATE: found.create}
    lacks = [missing(ObjectClass.SCHEMA, None, name, one, role) for one, has in held.items() if not has]
    if lacks:
        what = " and ".join(one.privilege.value for one in lacks)
        return failed(step, Reason.SCHEMA_ACCESS_DENIED, f'{field}: "{role}" lacks {what} on the schema "{name}".', lacks)  # fmt: skip
    return passed(step, f'"{role}" can work in the schema "{name}".')


# -- tables --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DataSchema:
    """A schema with data, as the login sees it."""

    name: str
    usage: bool
    tables: int
    readable: int
    keyless: tuple[str, ...]
    """Some of its readable tables without a unique key."""


def data_schemas(found: Sequence[DataSchema], role: str) -> Finding:
    """Whether a login can read what is in the schemas where it holds something."""
    step = ConnectionTestStep.TABLES
    unusable = [one for one in found if not one.usage and one.tables]
    everywhere = ", ".join(one.name for one in found)
    if not found:
        return warning(
            step,
            Reason.NO_READABLE_TABLES,
            f'"{role}" may read no table in any schema. Give it an AccessGrant.',
        )
    if unusable:
        lacks = [missing(ObjectClass.SCHEMA, None, one.name, Privilege.USAGE, role) for one in unusable]
        names = ", ".join(one.name for one in unusable)
        return failed(step, Reason.SCHEMA_USAGE_MISSING, f'"{role}" lacks USAGE on {names}, so that it sees nothing there.', lacks)  # fmt: skip
    tables, readable = sum(one.tables for one in found), sum(one.readable for one in found)
    if not tables:
        return warning(step, Reason.SCHEMA_EMPTY, f"There are no tables in {everywhere}.")
    if not readable:
        lacks = [_all_tables(one.name, role) for one in found if one.tables]
        return failed(
            step,
            Reason.NO_READABLE_TABLES,
            f'"{role}" can read none of the {tables} tables in {everywhere}.',
            lacks,
        )
    keyless = [f"{one.name}.{table}" for one in found for table in one.keyless]
    return _with_keys(keyless, f'"{role}" can read {readable} of the {tables} tables in {everywhere}.')


def exposed_tables(found: Exposed, schemas: Sequence[str], role: str) -> Finding:
    """Whether a login can read the tables that it is to see.

    Parameters
    ----------
    found
        What ``spec.exposes`` selects, in all databases.
    schemas
        The schemas that it names.
    role
        Who reads.
    """
    step = ConnectionTestStep.TABLES
    if found.missing:
        absent = [f"{schema}.{name}" for schema, name in found.missing]
        return failed(
            step,
            Reason.TABLE_MISSING,
            f"spec.exposes: there is no {_some(absent)}. Create it, or correct the name.",
        )
    if not found.tables:
        return failed(
            step, Reason.SCHEMA_EMPTY, f"spec.exposes: there are no such tables in {', '.join(schemas)}."
        )
    unreadable = [one for one in found.tables if not one.readable]
    if unreadable:
        lacks = _lacks(unreadable, role)
        names = _some([str(one) for one in unreadable])
        if len(unreadable) < len(found.tables):
            return failed(step, Reason.MISSING_GRANTS, f'"{role}" cannot read {names}.', lacks)
        if all(not one.usable for one in unreadable):
            blocked = ", ".join(dict.fromkeys(one.schema for one in unreadable))
            return failed(step, Reason.SCHEMA_USAGE_MISSING, f'"{role}" lacks USAGE on {blocked}, so that it sees nothing there.', lacks)  # fmt: skip
        return failed(
            step, Reason.NO_READABLE_TABLES, f'"{role}" can read none of the exposed tables: {names}.', lacks
        )
    keyless = [str(one) for one in found.tables if one.without_key]
    exposed = counted(len(found.tables), "exposed table", "exposed tables")
    return _with_keys(keyless, f'"{role}" can read all that it should: {exposed}.')


def _lacks(tables: Sequence[ExposedTable], role: str) -> list[Missing]:
    """USAGE once for each schema, SELECT for each table."""
    blocked = dict.fromkeys(one.schema for one in tables if not one.usable)
    usage = [missing(ObjectClass.SCHEMA, None, one, Privilege.USAGE, role) for one in blocked]
    select = [
        missing(ObjectClass.TABLE, one.schema, one.name, Privilege.SELECT, role)
        for one in tables
        if not one.selectable
    ]
    return [*usage, *select]


def _with_keys(keyless: Sequence[str], message: str) -> Finding:
    if keyless:
        return warning(
            ConnectionTestStep.TABLES,
            Reason.NO_UNIQUE_KEY,
            f"{message} Without a unique key: {_some(keyless)}.",
        )
    return passed(ConnectionTestStep.TABLES, message)


def _all_tables(schema: str, role: str) -> Missing:
    statement = sql.SQL("GRANT SELECT ON ALL TABLES IN SCHEMA {} TO {}").format(
        sql.Identifier(schema), sql.Identifier(role)
    )
    return Missing(f"{schema}.*", Privilege.SELECT, statement.as_string(None))


def missing(
    object_class: ObjectClass, schema: str | None, name: str, privilege: Privilege, role: str
) -> Missing:
    """A privilege that a role lacks, with the statement that gives it."""
    thing = ObjectName(object_class, schema, name)
    statement = PrivilegeStatement(Verb.GRANT, (thing,), (privilege,), (role,), None)
    return Missing(str(thing), privilege, statement.text)


def _run(lacks: Sequence[Missing]) -> str:
    return f"Declare it in an AccessGrant, or run: {_some([one.statement for one in lacks], '; ')}"


def _some(names: Sequence[str], separator: str = ", ") -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return separator.join(names[:SHOWN]) + more
