"""One database of the workspace while it runs: a PostgreSQL server, the gateway in front, and their state."""

import asyncio
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from lakebase_sandbox.gateway import Admission, Backend, Gateway, Refusal, ReservedPort
from lakebase_sandbox.postgres import OPERATOR, IdentityKind, PostgresServer
from lakebase_sandbox.postgres.lakebase import grant_superuser_membership
from lakebase_sandbox.simulator.credentials import DatabaseCredential, TokenIssuer
from lakebase_sandbox.simulator.directory import Directory
from lakebase_sandbox.simulator.faults import UNRESOLVABLE_HOST, Faults, MissingRight
from lakebase_sandbox.simulator.settings import (
    AutoscalingTarget,
    ProvisionedTarget,
    SimulatorSettings,
    TargetSettings,
)
from lakebase_sandbox.simulator.stats import Stats, TargetStats

GATEWAY_HOST = "localhost"
SESSION_END_SECONDS = 60.0
VERIFIER_REFUSAL = 'Received HTTP code 400 from control plane: {"error":"Lakebase only supports being given plaintext passwords"}'


class TargetState(StrEnum):
    """States of endpoints (`w.postgres`), of instances (`w.database`), and DELETED for both."""

    ACTIVE = "ACTIVE"
    IDLE = "IDLE"
    INIT = "INIT"
    DEGRADED = "DEGRADED"
    DISABLED = "DISABLED"

    AVAILABLE = "AVAILABLE"
    STOPPED = "STOPPED"
    STARTING = "STARTING"
    FAILING_OVER = "FAILING_OVER"
    UPDATING = "UPDATING"

    DELETED = "DELETED"


_S = TargetState
AUTOSCALING_STATES = frozenset({_S.ACTIVE, _S.IDLE, _S.INIT, _S.DEGRADED, _S.DISABLED, _S.DELETED})
PROVISIONED_STATES = frozenset(
    {_S.AVAILABLE, _S.STOPPED, _S.STARTING, _S.FAILING_OVER, _S.UPDATING, _S.DELETED}
)
_SERVING = frozenset({_S.ACTIVE, _S.IDLE, _S.DEGRADED, _S.AVAILABLE, _S.UPDATING})
# An instance that does not run has nobody listening; an endpoint's proxy always answers.
_SILENT = frozenset({_S.STOPPED, _S.STARTING})
_KEEPS_SESSIONS = frozenset({_S.ACTIVE, _S.DEGRADED, _S.AVAILABLE, _S.UPDATING})

_REFUSALS = {
    _S.DISABLED: Refusal("The endpoint has been disabled. Enable it using the API and retry."),
    _S.INIT: Refusal(
        "The requested endpoint is temporarily unavailable. Check your quotas and/or contact our support."
    ),
    _S.FAILING_OVER: Refusal("the database system is starting up", "57P03"),
    _S.DELETED: Refusal("The requested endpoint cannot be found"),
}


def resource_of(settings: TargetSettings) -> str:
    """The control plane's name for what a target serves: the endpoint's full name, or `instances/…`."""
    match settings:
        case AutoscalingTarget(project=project, branch=branch, endpoint=endpoint):
            return f"projects/{project}/branches/{branch}/endpoints/{endpoint}"
        case ProvisionedTarget(instance=instance):
            return f"instances/{instance}"


class Target:
    """A running target.

    Parameters:
        settings: what it is.
        directory, issuer: who the gateway believes.
        copy_of: the server whose data it starts with (a child branch).
        held: whether what starts stays starting for now.
        port: of the gateway.
    """

    def __init__(
        self,
        settings: TargetSettings,
        *,
        simulator: SimulatorSettings,
        directory: Directory,
        issuer: TokenIssuer,
        stats: Stats,
        tls: ssl.SSLContext,
        port: ReservedPort,
        log_directory: Path | None,
        copy_of: PostgresServer | None = None,
        held: Callable[[], bool] = lambda: False,
    ) -> None:
        self.settings = settings
        self._held = held
        self._port = port
        self._when_available: list[Callable[[], None]] = []
        self.server = PostgresServer(
            settings.postgres_version,
            superuser_grants=settings.superuser_grants,
            identities=directory.identities(),
            log_directory=log_directory,
            settings=dict(settings.settings),
            copy_of=copy_of,
        )
        self.faults = Faults()
        self.state = _S.ACTIVE if self.is_autoscaling else _S.AVAILABLE
        self.enable_pg_native_login = settings.enable_pg_native_login
        self.last_active = datetime.now(UTC)
        self._gateway: Gateway | None = None
        self._simulator = simulator
        self._directory = directory
        self._issuer = issuer
        self._tls = tls
        self.stats = stats.targets.setdefault(settings.name, TargetStats())
        self._all_stats = stats
        self._waking: asyncio.Task[None] | None = None
        self._becoming_available: asyncio.Task[None] | None = None
        self._admin: psycopg.AsyncConnection[Any] | None = None
        self._admin_lock = asyncio.Lock()

    @property
    def name(self) -> str:
        return self.settings.name

    @property
    def is_autoscaling(self) -> bool:
        return isinstance(self.settings, AutoscalingTarget)

    @property
    def resource(self) -> str:
        """What credentials are made for: the endpoint's full name, or the instance's."""
        return resource_of(self.settings)

    @property
    def host(self) -> str:
        """The host that the API names."""
        return UNRESOLVABLE_HOST if self.faults.wrong_host else GATEWAY_HOST

    @property
    def gateway(self) -> Gateway:
        assert self._gateway is not None, "the target has not been started"
        return self._gateway

    @property
    def port(self) -> int:
        """The port of the gateway."""
        return self._port.number

    @property
    def admin_dsn(self) -> str:
        """A connection URI of the superuser in the default database, past the gateway."""
        return self.server.dsn()

    async def start(self, state: TargetState | None = None) -> None:
        """Start the server and then serve, in the given state if it is not the usual one."""
        try:
            await self.server.start()
            backend = Backend(self.server.socket_directory, self.server.port)
            self._gateway = Gateway(
                tls=self._tls,
                backend=backend,
                doorman=self,
                port=self._port,
                verifier_refusal=None if self.settings.takes_verifiers else VERIFIER_REFUSAL,
            )
            await self.set_state(state or self.state)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        for task in (self._waking, self._becoming_available):
            if task is not None:
                task.cancel()
        if self._gateway is not None:
            await self._gateway.shut_down()
        if self._admin is not None:
            await self._admin.close()
        await self.server.stop()

    async def execute(
        self, statement: str | sql.SQL | sql.Composed, parameters: Any = None
    ) -> list[tuple[Any, ...]]:
        """Run one statement as the bootstrap superuser in the database `postgres`; its rows, if it has any."""
        async with self._admin_lock:
            try:
                return await self._execute(statement, parameters)
            except psycopg.OperationalError:
                if self._admin is not None and not self._admin.closed:
                    raise
                return await self._execute(statement, parameters)  # somebody had ended the session

    async def _execute(
        self, statement: str | sql.SQL | sql.Composed, parameters: Any
    ) -> list[tuple[Any, ...]]:
        if self._admin is None or self._admin.closed:
            self._admin = await self.server.connect("postgres")
        cursor = await self._admin.execute(statement, parameters)
        return await cursor.fetchall() if cursor.description else []

    async def set_state(self, state: TargetState, *, passing: bool = False) -> None:
        """Put the target into a state, with what that means for its open sessions.

        Parameters:
            passing: the state gives way to AVAILABLE or ACTIVE after a while; STARTING always does.

        Raises:
            ValueError: targets of this kind have no such state.
        """
        possible = AUTOSCALING_STATES if self.is_autoscaling else PROVISIONED_STATES
        if state not in possible:
            names = ", ".join(sorted(possible))
            raise ValueError(f"the target '{self.name}' has no state {state}: choose one of {names}")
        if self._becoming_available is not None:
            self._becoming_available.cancel()
            self._becoming_available = None
        self.state = state
        await self.apply()
        if state not in _KEEPS_SESSIONS:
            await self.end_sessions()
        if passing or state is _S.STARTING:
            self._becoming_available = asyncio.create_task(self._become_available())

    async def apply(self) -> None:
        """Make the gateway behave as state and faults say."""
        self.gateway.faults.cut_after = self.faults.cut_after or None
        self.gateway.faults.delay_seconds = self.faults.sql_delay_seconds
        gone = self.state is _S.DELETED and not self.is_autoscaling
        if self.faults.swallow:
            await self.gateway.swallow()
        elif self.faults.refuse or self.state in _SILENT or gone:
            await self.gateway.close()
        else:
            self.gateway.open()

    async def apply_rights(self, before: set[MissingRight]) -> None:
        """Take from the operator, or give back to it, what the faults now say, given what was missing before."""
        missing = self.faults.missing
        operator = sql.Identifier(OPERATOR.name)
        if (MissingRight.CREATE_ROLE in missing) != (MissingRight.CREATE_ROLE in before):
            attribute = "NOCREATEROLE" if MissingRight.CREATE_ROLE in missing else "CREATEROLE"
            await self.execute(sql.SQL("ALTER ROLE {} " + attribute).format(operator))
        if (MissingRight.SUPERUSER in missing) != (MissingRight.SUPERUSER in before):
            if MissingRight.SUPERUSER in missing:
                await self.execute(sql.SQL("REVOKE databricks_superuser FROM {}").format(operator))
            else:
                async with await self.server.connect("postgres") as connection:
                    await grant_superuser_membership(connection, OPERATOR.name)

    async def end_sessions(self) -> None:
        """End all sessions but the superuser's, as the end of a compute does (SQLSTATE 57P01)."""
        rows = await self.execute(
            "SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND usename <> current_user"
        )
        ended = [pid for pid, _ in rows]
        left = "SELECT count(*) FROM pg_stat_activity WHERE pid = ANY (%s)"
        async with asyncio.timeout(SESSION_END_SECONDS):
            while (await self.execute(left, (ended,)))[0][0]:  # noqa: ASYNC110 (nothing tells when one is gone)
                await asyncio.sleep(0.01)

    async def wake(self) -> None:
        """Wake an IDLE endpoint and wait until it is ACTIVE; callers at the same time share one wake-up."""
        if self.state is not _S.IDLE:
            return
        if self._waking is None or self._waking.done():
            self.stats.wake_ups += 1
            self._waking = asyncio.create_task(self._wake_up())
        await asyncio.shield(self._waking)

    async def _wake_up(self) -> None:
        await asyncio.sleep(self._simulator.wake_seconds)
        if self.state is _S.IDLE:
            self.state = _S.ACTIVE

    def when_available(self, callback: Callable[[], None]) -> None:
        """Call back once, at the end of the next start or update."""
        self._when_available.append(callback)

    async def _become_available(self) -> None:
        await asyncio.sleep(self._simulator.start_seconds)
        while self._held():  # noqa: ASYNC110 (a fault is only ever cleared)
            await asyncio.sleep(0.02)
        callbacks, self._when_available = self._when_available, []
        for callback in callbacks:
            callback()
        self.state = _S.ACTIVE if self.is_autoscaling else _S.AVAILABLE
        await self.apply()

    # The gateway's doorman

    async def admit(self, user: str, password: str) -> Admission:
        try:
            admission = await self._judge(user, password)
            await self.wake()
            self._refuse_unless_serving()
        except Refusal:
            self.stats.refused_logins[user] += 1
            raise
        return admission

    def session_started(self, pid: int, admission: Admission) -> None:
        self._refuse_unless_serving()
        self.last_active = datetime.now(UTC)
        if admission.expires_at is None:
            self.stats.logins[admission.user, "native"] += 1
        else:
            self.stats.logins[admission.user, "oauth"] += 1
            self.server.record_oauth_session(pid, admission.expires_at)

    def session_ended(self, pid: int) -> None:
        self.last_active = datetime.now(UTC)
        with suppress(FileNotFoundError):
            self.server.forget_oauth_session(pid)

    def _refuse_unless_serving(self) -> None:
        if self.state not in _SERVING:
            raise _REFUSALS.get(self.state, Refusal("the database system is shutting down", "57P03"))

    async def _judge(self, user: str, password: str) -> Admission:
        if password in self._directory.secrets():
            self._all_stats.secret_sightings[f"login {self.name}"] += 1
        self._refuse_unless_serving()
        if self.faults.blocked_address:
            raise Refusal("This IP address 127.0.0.1 is not allowed to connect to this endpoint.")
        if self.faults.rejected_logins:
            self.faults.rejected_logins -= 1
            raise Refusal("External authorization failed", "28000")
        rows = await self.execute(
            "SELECT r.rolcanlogin, l.label FROM pg_roles AS r"
            " LEFT JOIN pg_shseclabel AS l ON l.objoid = r.oid AND l.classoid = 'pg_authid'::regclass"
            " AND l.provider = 'databricks_auth' WHERE r.rolname = %s",
            (user,),
        )
        if not rows:
            raise Refusal(f'role "{user}" does not exist', "28000")
        can_log_in, label = rows[0]
        credential = self._issuer.read_database_credential(password)
        if credential is None and can_log_in and self.enable_pg_native_login:
            return Admission(user, password=password)
        if credential is not None and label is not None and self._is_good(credential, label):
            return Admission(user, expires_at=credential.expires_at)
        if not can_log_in and label is None:
            raise Refusal(f'role "{user}" is not permitted to log in', "28000")
        raise Refusal(f"password authentication failed for user '{user}'", "28P01")

    def _is_good(self, credential: DatabaseCredential, label: str) -> bool:
        """Whether a credential is for this target, still alive, and of the identity that a role is labelled with."""
        if self.resource not in credential.resources or credential.expires_at <= time.time():
            return False
        if credential.issued_at <= self.faults.expired_before:
            return False
        parts = dict(part.split("=", 1) for part in label.split(","))
        entry = self._directory.by_id(credential.identity_id)
        if entry is None:  # deleted from the workspace since
            return False
        return parts["id"] == credential.identity_id or (
            parts["type"] == IdentityKind.GROUP
            and self._directory.is_member(credential.identity_id, parts["id"])
        )
