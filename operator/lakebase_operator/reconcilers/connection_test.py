"""The connection test of logins with a password: as the application, with what is published, after everything else of a pass."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import timedelta

import psycopg

from lakebase_operator.api import LakebaseConnection, PostgresRole
from lakebase_operator.api.lakebase_connection import Mode
from lakebase_operator.api.postgres_role import ConnectionTestStep
from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain import connection_test as tests
from lakebase_operator.domain.connection_test import Finding, RefusedLogin
from lakebase_operator.domain.errors import LakebaseError
from lakebase_operator.domain.exposed import Exposed, selectors_by_database
from lakebase_operator.domain.instance import Credential
from lakebase_operator.domain.roles import Issue
from lakebase_operator.domain.status import condition
from lakebase_operator.engine.catalog import key_of
from lakebase_operator.external.kube.objects import ObjectEvent
from lakebase_operator.external.postgres import probe
from lakebase_operator.external.postgres.exposed import read_exposed
from lakebase_operator.external.postgres.logins import doubt_given
from lakebase_operator.external.postgres.session import Connection, Server, Timeouts
from lakebase_operator.reconcilers.access import Access
from lakebase_operator.reconcilers.context import Context
from lakebase_operator.reconcilers.known_roles import Roles, RoleTally
from lakebase_operator.reconcilers.logins import PublishedLogin
from lakebase_operator.reconcilers.timing import seconds

logger = logging.getLogger(__name__)

SIDE_BY_SIDE = 8
REACH_SECONDS = 4.0
"""For a name to resolve, and for a port to answer."""
TEST_SECONDS = 10.0
"""For one login, all its steps together."""
ALL_SECONDS = 60.0
"""For all logins of a connection; what is left then is tested in the next pass."""
LIMITS = Timeouts(connect=5.0, statement=5.0, lock=2.0)


@dataclass(slots=True)
class ConnectionTests:
    """Tests the logins of one connection that are due. A failure stays with its login."""

    context: Context
    connection: LakebaseConnection
    access: Access
    home: Connection
    """The operator's own session."""
    roles: Roles
    published: Mapping[str, PublishedLogin]
    """By name of the role for which they log in."""
    dry: bool = False
    """Look, and have nothing repaired."""
    _native_login: asyncio.Task[bool | None] | None = field(default=None, init=False)

    @property
    def server(self) -> Server:
        """As an application reaches it, with less patience."""
        return replace(self.access.server, timeouts=LIMITS)

    async def run(self) -> None:
        """Test what is due, and say how each login stands.

        Raises
        ------
        LakebaseError, psycopg.Error
            The operator's own session is lost.
        """
        due = []
        for name, tally in self.roles.logins.items():
            if tally.role.spec.suspend:
                self._tell_suspended(tally.role)
            elif name in self.published and self._is_due(tally.role, self.published[name]):
                due.append(tally)
        if not due:
            return
        try:
            await probe.reach(self.server.host, self.server.port, seconds=REACH_SECONDS)
        except LakebaseError as error:  # it is the way of all of them
            unreached = tests.complete([tests.unreached(error.reason, error.message)])
            for tally in due:
                self._conclude(tally, unreached)
        else:
            await self._test_all(due)

    def _is_due(self, role: PostgresRole, login: PublishedLogin) -> bool:
        context, now = self.context, self.context.services.clock.now()
        status = context.services.catalog.status(key_of(role))
        interval = seconds(role.spec.test.interval)
        generation = role.metadata.generation
        changed = login.changed or context.asked_now(self.connection)
        if tests.is_due(status, generation=generation, changed=changed, interval=interval, now=now):
            return True
        if (following := tests.next_test(status, interval)) is not None:
            context.deadlines.append(following)
        return False

    async def _test_all(self, due: Sequence[RoleTally]) -> None:
        slots = asyncio.Semaphore(SIDE_BY_SIDE)

        async def test(tally: RoleTally) -> tuple[Finding, ...]:
            async with slots:
                return tests.complete(await self._test(tally.role, self.published[tally.role.role_name]))

        running = [asyncio.create_task(test(tally)) for tally in due]
        try:
            await asyncio.wait(running, timeout=ALL_SECONDS)
        finally:
            for task in running:
                task.cancel()
            results = await asyncio.gather(*running, return_exceptions=True)
        for tally, result in zip(due, results, strict=True):
            if isinstance(result, asyncio.CancelledError):
                self.context.deadlines.append(self.context.services.clock.now() + timedelta(seconds=1))
            elif isinstance(result, BaseException):
                raise result
            else:
                self._conclude(tally, result)

    # -- one login ---------------------------------------------------------------------------------------------------

    async def _test(self, role: PostgresRole, login: PublishedLogin) -> list[Finding]:
        """Findings in order, up to the first failure."""
        where = f"{self.server.host}:{self.server.port}"
        found: list[Finding] = []
        try:
            async with asyncio.timeout(TEST_SECONDS), self._session(login, login.database) as session:
                found.append(tests.passed(ConnectionTestStep.NETWORK, f"{where} answers, with TLS."))
                message = f'"{login.credential.username}" logs in.'
                found.append(tests.passed(ConnectionTestStep.AUTHENTICATION, message))
                found.append(await self._own_schema(role, login, session))
                if tests.failure(found) is None:
                    found.append(await self._tables(role, login, session))
        except probe.LoginRefused as refusal:
            found.append(await self._refused(role, login, refusal.said))
        except (TimeoutError, psycopg.Error) as error:
            step = list(ConnectionTestStep)[len(found)]
            found.append(tests.unanswered(step, where, str(error)))
        return found

    def _session(self, login: PublishedLogin, database: str) -> AbstractAsyncContextManager[Connection]:
        credential = login.credential
        return probe.log_in(self.server, Credential(credential.username, credential.password, None), database)

    async def _refused(self, role: PostgresRole, login: PublishedLogin, said: str) -> Finding:
        """What a refusal means, with what the operator itself can see. A password that the server has not is set again by the
        next pass: the ledger forgets which one the server has."""
        name, server = login.credential.username, self.server
        found = await probe.read_login_role(self.home, name)
        seen = RefusedLogin(
            name,
            exists=found is not None,
            may_log_in=found is None or found.may_log_in,
            expired=found is not None and found.expired,
            near=self.roles.near(name) if found is None else (),
            native_login=await self._lets_passwords_in(),
            repair=not self.dry
            and self.connection.spec.mode is Mode.ENFORCE
            and not self._was(role, Reason.PASSWORD_REJECTED),
        )
        finding = tests.refused(
            said, where=f"{server.host}:{server.port}", database=login.database, login=seen
        )
        if finding.reason is Reason.PASSWORD_REJECTED and finding.waits and found is not None:
            await doubt_given(self.home, str(self.context.view.key), found.oid)
        return finding

    async def _lets_passwords_in(self) -> bool | None:
        """As the control plane says, which is asked once for all logins."""
        if self._native_login is None:
            self._native_login = asyncio.create_task(self._ask_native_login())
        return await asyncio.shield(self._native_login)

    async def _ask_native_login(self) -> bool | None:
        try:
            return await self.access.login.native_login()
        except LakebaseError as error:
            logger.info("The control plane does not say whether native login is on: %s", error)
            return None

    def _was(self, role: PostgresRole, reason: Reason) -> bool:
        known = tests.tested_condition(self.context.services.catalog.status(key_of(role)))
        return known is not None and (known["status"], known["reason"]) == ("False", reason.value)

    async def _own_schema(self, role: PostgresRole, login: PublishedLogin, session: Connection) -> Finding:
        platform, name = role.spec.platform_schema, _own_schema_name(role)
        if name is None:
            return tests.skipped(ConnectionTestStep.SCHEMA, Reason.NOTHING_TO_TEST)
        named_in = "spec.binding.schema" if platform is None else "spec.platformSchema"
        database = role.platform_database(self.connection.spec.databases)
        async with AsyncExitStack() as stack:
            if database != login.database:
                session = await stack.enter_async_context(self._session(login, database))
            found = await probe.read_own_schema(session, name)
        return tests.own_schema(found, role.role_name, named_in)

    async def _tables(self, role: PostgresRole, login: PublishedLogin, session: Connection) -> Finding:
        name, own = role.role_name, _own_schema_name(role)
        if not role.spec.exposes:
            return tests.data_schemas(
                await probe.read_data_schemas(session, leave_out=[own] if own else []), name
            )
        found: list[Exposed] = []
        for database, selectors in selectors_by_database(role.spec, login.database).items():
            async with AsyncExitStack() as stack:
                here = session
                if database != login.database:
                    here = await stack.enter_async_context(self._session(login, database))
                found.append(await read_exposed(here, selectors, name))
        everything = Exposed(
            tuple(table for one in found for table in one.tables),
            tuple(missing for one in found for missing in one.missing),
        )
        schemas = tuple(dict.fromkeys(entry.schema_ for entry in role.spec.exposes))
        return tests.exposed_tables(everything, schemas, name)

    # -- what came of it ---------------------------------------------------------------------------------------------

    def _conclude(self, tally: RoleTally, findings: Sequence[Finding]) -> None:
        context, role = self.context, tally.role
        services = context.services
        now, settings = services.clock.now(), services.settings
        tell(context, role, findings)
        first = tests.failure(findings)
        if first is None:
            if interval := seconds(role.spec.test.interval):
                context.deadlines.append(now + timedelta(seconds=interval))
            return
        missing = first.missing
        tally.note(
            Issue(one.object, Reason.MISSING_GRANTS, one.statement, one.privilege.value) for one in missing
        )
        tally.blame(first.reason, f"{first.step.value}: {first.message}", waits=first.waits)
        status = services.catalog.status(key_of(role))
        shortest, longest = settings.retry_base_seconds, settings.retry_cap_seconds
        context.deadlines.append(
            tests.next_try(status, first.reason, now, shortest=shortest, longest=longest)
        )

    def _tell_suspended(self, role: PostgresRole) -> None:
        status = self.context.services.catalog.status(key_of(role))
        if tests.tested_condition(status) is not None:
            message = "Not tested while the login is suspended."
            self.context.report.fact(role, condition(tests.CONDITION, None, Reason.SUSPENDED, message))


def tell(context: Context, role: PostgresRole, findings: Sequence[Finding]) -> None:
    """``status.test``, the condition, and an Event where a login begins to work."""
    services, report = context.services, context.report
    status = services.catalog.status(key_of(role))
    outcome = tests.conclusion(findings)
    report.fields(role, {"test": tests.entries(findings, status.get("test") or [], services.clock.now())})
    report.fact(role, outcome)
    before = tests.tested_condition(status)
    if outcome["status"] == "True" and (before is None or before["status"] != "True"):
        # That it fails is told by the Event of Ready.
        message = f"The published login works. {outcome['message']}".rstrip()
        report.event(
            role, ObjectEvent("Normal", Reason.CONNECTION_TEST_PASSED, message, action="TestConnection")
        )
    for one in findings:
        services.observer.connection_test(one.step.value, one.result.value)


def _own_schema_name(role: PostgresRole) -> str | None:
    platform, binding = role.spec.platform_schema, role.spec.binding
    if platform is not None:
        return platform.name
    return binding.schema_ if binding is not None else None
