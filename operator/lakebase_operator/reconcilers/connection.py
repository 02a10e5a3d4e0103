"""The pass over one connection: everything that is declared on one database server, carried out together."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeGuard

import psycopg

from lakebase_operator.api import AccessGrant, LakebaseConnection, UserMapping
from lakebase_operator.api.base import ANNOTATION_ABANDON, ANNOTATION_SYNC_NOW
from lakebase_operator.api.lakebase_connection import ConnectionDeletionPolicy, WhenAsleep
from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.desired import next_change
from lakebase_operator.domain.errors import InvalidError, LakebaseError
from lakebase_operator.domain.instance import Instance, InstanceState
from lakebase_operator.domain.people import People
from lakebase_operator.domain.status import Verdict, condition
from lakebase_operator.engine.catalog import Broken, Dirty, key_of, kind_of
from lakebase_operator.engine.keys import ConnectionKey, ObjectKey
from lakebase_operator.engine.runner import Outcome
from lakebase_operator.external.kube.objects import ObjectEvent
from lakebase_operator.external.postgres.errors import query_error
from lakebase_operator.external.postgres.ledger import forget_connection
from lakebase_operator.external.postgres.roles import Preflight, preflight
from lakebase_operator.external.postgres.session import Connection, Timeouts
from lakebase_operator.reconcilers import instance as instances
from lakebase_operator.reconcilers import preflight as preflights
from lakebase_operator.reconcilers.access import (
    Access,
    DatabricksLogin,
    Login,
    Logins,
    SecretValues,
    secret_names,
    server,
)
from lakebase_operator.reconcilers.deletion import Leaving, RoleDrop, let_go
from lakebase_operator.reconcilers.grants import (
    DatabaseResult,
    Declared,
    GrantsStep,
    Tally,
    conclude,
    declare,
    unsupported,
)
from lakebase_operator.reconcilers.pending import is_pending
from lakebase_operator.reconcilers.people import MappingResults, resolve
from lakebase_operator.reconcilers.report import Report
from lakebase_operator.reconcilers.roles import Roles, RolesStep
from lakebase_operator.reconcilers.services import Services
from lakebase_operator.reconcilers.timing import Pauses, jittered, observed, seconds
from lakebase_operator.reconcilers.view import (
    Dependent,
    View,
    allows,
    foreign_namespaces,
    is_abandoned,
    is_deleting,
    is_finalized,
)
from lakebase_operator.reconcilers.writing import add_finalizers, write

SLOW_RETRY_SECONDS = 300.0
"""Between two looks at something that a person must change first; a change of it is seen at once anyway."""


@dataclass(slots=True)
class Memory:
    """What is remembered of a connection between passes. Losing it costs a pass, nothing else."""

    uid: str
    pauses: Pauses
    secrets: dict[str, Mapping[str, bytes]] = field(default_factory=dict)
    """The last that were read: a namespace that is deleted may lose its Secret before its grants."""
    carried_out: int | None = None
    """The generation of the connection that a pass has carried out."""
    removed: bool = False
    """Something is not declared any more, and no pass has come to take it back yet."""


class SessionLostError(Exception):
    """A session ended in mid-work, and there is another try."""


class ConnectionReconciler:
    """Runs passes: one at a time for each connection, any number side by side."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._memories: dict[ConnectionKey, Memory] = {}
        self._mappings = MappingResults(services.catalog)
        self._executor = ThreadPoolExecutor(services.settings.sdk_threads, thread_name_prefix="databricks")
        self._logins = Logins(self._executor, services.settings.token_path)

    async def aclose(self) -> None:
        """Let go of the threads; requests under way end by their own timeouts."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def reconcile(self, key: ConnectionKey, dirty: Dirty) -> Outcome:
        """Make the databases of one connection equal to what is declared, and say so in every status.

        Raises
        ------
        LakebaseError
            What could not be said in a status.
        """
        view = await self._view(key)
        run, outcome = await self._run(view, dirty)
        try:
            await write(self._services, run.report)
        finally:  # a status that cannot be written holds nobody back
            await let_go(self._services, run.leaving)
        if view.connection is None:
            self._memories.pop(key, None)
            self._mappings.forget_connection(key)
            self._services.observer.connection_gone(key)
        return outcome

    async def _run(self, view: View, dirty: Dirty) -> tuple["Pass", Outcome]:
        """Run a pass; twice if a session is lost in it.

        A session may end at any time: a failover, an idle limit, an administrator. New ones are worth one try at once,
        before anybody is alarmed.
        """
        memory = self._memory(view)
        run = Pass(self._services, self._logins, self._mappings, view, memory, dirty, tries_left=1)
        try:
            return run, await run.run()
        except SessionLostError:
            run = Pass(self._services, self._logins, self._mappings, view, memory, dirty, tries_left=0)
            return run, await run.run()

    def _memory(self, view: View) -> Memory:
        uid = view.connection.metadata.uid if view.connection else ""
        memory = self._memories.get(view.key)
        if memory is None or memory.uid != uid:  # new, or deleted and made anew
            settings = self._services.settings
            memory = Memory(uid, Pauses(settings.retry_base_seconds, settings.retry_cap_seconds))
            self._memories[view.key] = memory
        return memory

    async def _view(self, key: ConnectionKey) -> View:
        catalog = self._services.catalog
        connection = catalog.connection(key)
        roles, mappings, grants = catalog.roles(key), catalog.mappings(key), catalog.grants(key)
        if connection is None:
            return View(key, None, roles, mappings, grants, catalog.broken(key), ())
        labels = {
            name: await self._services.kube.namespace_labels(name) or {}
            for name in sorted(foreign_namespaces(connection, (*roles, *mappings, *grants)))
        }

        def may(one: Dependent) -> bool:
            return allows(connection, one.metadata.namespace, labels)

        everyone: tuple[Dependent, ...] = (*roles, *mappings, *grants)
        return View(
            key,
            connection,
            tuple(one for one in roles if may(one)),
            tuple(one for one in mappings if may(one)),
            tuple(one for one in grants if may(one)),
            catalog.broken(key),
            tuple(one for one in everyone if not may(one)),
        )


@dataclass(slots=True)
class Pass:
    """One pass. What it found is in ``report``, which objects may go is in ``leaving``."""

    services: Services
    logins: Logins
    mappings: MappingResults
    view: View
    memory: Memory
    dirty: Dirty
    tries_left: int
    """Whether a lost session is worth another pass at once."""
    report: Report = field(default_factory=Report)
    leaving: list[Leaving] = field(default_factory=list)
    held_up: set[ObjectKey] = field(default_factory=set)
    """What could not be carried out now."""

    async def run(self) -> Outcome:
        """Carry out what is declared, as far as it can be done now."""
        outcome = await self._run()
        self._tell_broken_that_stay()
        if self.view.connection is not None:
            waiting = {
                key_of(saying.subject)
                for saying in self.report.said()
                if saying.verdict is Verdict.RECONCILING and saying.subject is not self.view.connection
            }
            self.report.fields(self.view.connection, {"pendingChanges": len(waiting | self.held_up)})
        return outcome

    async def _run(self) -> Outcome:
        if any(self.services.catalog.get(one) is None for one in self.dirty.objects):
            self.memory.removed = True
        for broken in self.view.broken:
            self._tell_broken(broken)
        self._refuse()
        connection = self.view.connection
        if connection is None:
            self._without_connection()
            return Outcome()
        self._abandon(connection)
        if connection.spec.suspend:
            return self._suspended(connection)
        if is_deleting(connection) and (outcome := await self._leave(connection)) is not None:
            return outcome
        try:
            return await self._work(connection)
        except LakebaseError as error:
            return self._failed(connection, error)
        except psycopg.Error as error:
            return self._failed(connection, query_error(error, doing="reading the database"))

    # -- before any database is looked at ------------------------------------------------------------------------

    def _tell_broken(self, broken: Broken) -> None:
        """What cannot be read is said, and declares nothing."""
        if not is_deleting(broken):
            self.report.stalled(broken, Reason.INVALID_SPEC, broken.problem)
        elif broken.kind == LakebaseConnection.kind_name or is_abandoned(broken):
            self.leaving.append(Leaving(broken, cleaned=False))

    def _tell_broken_that_stay(self) -> None:
        """What cannot be read and is being deleted, where this pass did not come to clean up."""
        leaving = {id(one.subject) for one in self.leaving}
        for broken in self.view.broken:
            stays = is_deleting(broken) and is_finalized(broken) and id(broken) not in leaving
            if stays and broken not in self.report:
                self.report.waiting(
                    broken,
                    Reason.DELETION_BLOCKED,
                    f"Cannot be cleaned up now: the LakebaseConnection {self.view.key} is not usable, and its own Ready "
                    f"says why. {_ABANDON}",
                )

    def _refuse(self) -> None:
        for one in self.view.refused:
            if is_deleting(one):
                # It declares nothing, so whatever it gave before is taken back by this very pass.
                self.leaving.append(Leaving(one, cleaned=True))
                continue
            self.report.stalled(
                one,
                Reason.CONNECTION_NOT_ALLOWED,
                f"spec.connectionRef: the LakebaseConnection {self.view.key} does not allow references from this "
                "namespace. Its owner can do so in spec.allowedNamespaces.",
            )

    def _without_connection(self) -> None:
        key = self.view.key
        unreadable = any(one.kind == LakebaseConnection.kind_name for one in self.view.broken)
        if not unreadable:
            self.leaving += [Leaving(one, cleaned=False) for one in self.view.broken if is_deleting(one)]
        for one in self.view.dependents:
            if unreadable:
                self._wait(one, Reason.CONNECTION_NOT_READY, f"The LakebaseConnection {key} cannot be read.")
            elif is_deleting(one):
                self.leaving.append(Leaving(one, cleaned=isinstance(one, UserMapping)))
            else:
                name = (
                    f"There is no LakebaseConnection {key}."
                    if key.name
                    else "This namespace has no LakebaseConnection."
                )
                self.report.waiting(
                    one, Reason.CONNECTION_NOT_FOUND, f"{name} It is picked up when it appears."
                )

    def _abandon(self, connection: LakebaseConnection) -> None:
        for one in (connection, *self.view.dependents):
            if is_deleting(one) and is_finalized(one) and is_abandoned(one):
                self.leaving.append(Leaving(one, cleaned=False))

    def _suspended(self, connection: LakebaseConnection) -> Outcome:
        message = "spec.suspend is set: the database is left alone."
        self._tell_connection(connection)
        if is_deleting(connection):
            self.report.waiting(
                connection, Reason.CONNECTION_SUSPENDED, f"{message} Resume it, so that it can be deleted."
            )
        else:
            self.report.ready(connection, Reason.SUSPENDED, message)
        for one in self.view.dependents:
            if self._is_pending(one):
                self._wait(
                    one,
                    Reason.CONNECTION_SUSPENDED,
                    f"The LakebaseConnection {self.view.key} is suspended; this is carried out when it is resumed.",
                )
        return Outcome()

    async def _leave(self, connection: LakebaseConnection) -> Outcome | None:
        """A connection that is being deleted waits for dependents that are being deleted too. None: there is work."""
        if not is_finalized(connection) or is_abandoned(connection):
            return Outcome()
        if any(is_deleting(one) and is_finalized(one) for one in self.view.dependents):
            return None
        # A namespace deletes its objects one after the other: those that still come need this connection.
        asked = connection.metadata.deletion_timestamp
        assert asked is not None
        left = (
            self.services.settings.deletion_grace_seconds
            - (self.services.clock.now() - asked).total_seconds()
        )
        if left > 0 or await self._more_will_go(connection):
            self.report.waiting(
                connection, Reason.WAITING_FOR_DEPENDENTS, "Waits for objects that are deleted with it."
            )
            return Outcome(left if left > 0 else 1.0)
        if connection.spec.deletion_policy is ConnectionDeletionPolicy.RETAIN:
            self.leaving.append(Leaving(connection, cleaned=True))
            return Outcome()
        return None

    async def _more_will_go(self, connection: LakebaseConnection) -> bool:
        """Whether the namespace is being deleted and has not come to all dependents yet."""
        namespace = connection.metadata.namespace
        staying = any(
            one.metadata.namespace == namespace and is_finalized(one) and not is_deleting(one)
            for one in self.view.dependents
        )
        return staying and await self.services.kube.namespace_is_going(namespace)

    # -- reaching the database -----------------------------------------------------------------------------------

    async def _work(self, connection: LakebaseConnection) -> Outcome:
        secrets = await self._secrets(connection)
        login = self.logins.login(connection.spec, secrets)
        seen = await self._ask(login)
        instances.tell(connection, seen, self.report)
        if not seen.state.connectable:
            return self._not_connectable(connection, seen)
        if seen.state is InstanceState.ASLEEP and not self._may_wake(connection):
            return self._asleep(connection, seen)
        target = server(connection, seen, secrets, self._timeouts())
        access = Access(login, target, seen, self.services.observer)
        await self._add_finalizers(connection)
        results, failures = await self._databases(connection, access)
        return self._succeeded(connection, results, failures)

    async def _ask(self, login: Login) -> Instance:
        if not isinstance(login, DatabricksLogin):
            return await login.instance()
        return await observed(self.services.observer, "databricks", "instance", login.instance())

    async def _secrets(self, connection: LakebaseConnection) -> SecretValues:
        found: dict[str, Any] = {}
        for name in sorted(secret_names(connection)):
            secret = await self.services.kube.read_secret(connection.metadata.namespace, name)
            if secret is not None:
                found[name] = secret.values
                for value in secret.values.values():
                    self.services.hide(value.decode(errors="replace"))
                self.memory.secrets[name] = secret.values
            elif is_deleting(connection) and name in self.memory.secrets:
                found[name] = self.memory.secrets[name]
        return found

    async def _add_finalizers(self, connection: LakebaseConnection) -> None:
        """Before the first change in a database, so that no deletion goes unnoticed."""
        keepers: tuple[LakebaseConnection | Dependent, ...] = (
            connection,
            *self.view.roles,
            *self.view.grants,
        )
        wanted = [one for one in keepers if not is_deleting(one) and not is_finalized(one)]
        await add_finalizers(self.services, wanted)

    def _may_wake(self, connection: LakebaseConnection) -> bool:
        """Whether there is a reason to wake a sleeping compute: something declared, or asked for, but not a mere look."""
        asked = connection.metadata.annotations.get(ANNOTATION_SYNC_NOW)
        handled = self._status().get("lastHandledSync")
        return (
            connection.spec.when_asleep is WhenAsleep.WAKE
            or (asked is not None and asked != handled)
            or self._has_work(connection)
            or any(self._is_pending(one) for one in self.view.dependents)
        )

    # -- the databases -------------------------------------------------------------------------------------------

    async def _databases(
        self, connection: LakebaseConnection, access: Access
    ) -> tuple[list[DatabaseResult], dict[str, LakebaseError]]:
        """Roles, then people, then the grants of each database. Failures of a database stay with it."""
        names = list(connection.spec.databases)
        home_name = names[0]
        results: list[DatabaseResult] = []
        failures: dict[str, LakebaseError] = {}
        async with access.session(home_name) as home:
            found = await preflight(home)
            preflights.tell_login(connection, found, await access.login.is_service_principal(), self.report)
            preflights.check(connection, found, self.report, home=True)
            step = RolesStep(home, found, str(self.view.key), self.report)
            roles = await step.run(self.view)
            self._count_statements(text for _, text, result in step.executed if result == "ok")
            people = resolve(self.view, roles, self.mappings, self.report)
            declared = self._declare(connection, people, roles, step.preflight)
            tallies = {item.grant.metadata.uid: Tally() for item in declared}
            for item in declared:
                unsupported(item.grant, found.major_version, tallies[item.grant.metadata.uid])
            for name in names:
                try:
                    results.append(
                        await self._database(
                            connection, access, name, home, step.preflight, roles, declared, tallies
                        )
                    )
                except LakebaseError as error:
                    if name == home_name:
                        raise
                    self._expect_session(error)
                    failures[name] = error
            self._conclude_grants(connection, declared, tallies, failures)
            self._let_broken_go(connection, declared, failures)
            await self._drop_roles(access, home, found, roles)
            if is_deleting(connection):
                await self._forget(connection, access, home, failures)
        return results, failures

    def _declare(
        self, connection: LakebaseConnection, people: People, roles: Roles, found: Preflight
    ) -> list[Declared]:
        now = self.services.clock.now()
        declared = []
        for grant in self.view.grants:
            if grant.spec.database not in connection.spec.databases:
                if is_deleting(grant):
                    self.leaving.append(Leaving(grant, cleaned=False))
                else:
                    self.report.stalled(
                        grant,
                        Reason.DATABASE_NOT_MANAGED,
                        f'spec.database: "{grant.spec.database}" is not one of the databases of the LakebaseConnection '
                        f"{self.view.key}. Add it there, or correct it here.",
                    )
                continue
            try:
                declared.append(declare(grant, people, roles, found.major_version, now))
            except ValueError as error:
                if not is_deleting(grant):
                    self.report.stalled(grant, Reason.INVALID_SPEC, str(error))
        return declared

    async def _database(
        self,
        connection: LakebaseConnection,
        access: Access,
        name: str,
        home: Connection,
        home_preflight: Preflight,
        roles: Roles,
        declared: Sequence[Declared],
        tallies: dict[str, Tally],
    ) -> DatabaseResult:
        is_home = name == connection.spec.databases[0]
        revoking = (
            is_deleting(connection) and connection.spec.deletion_policy is ConnectionDeletionPolicy.REVOKE
        )
        async with AsyncExitStack() as stack:
            session, found = home, home_preflight
            if not is_home:
                session = await stack.enter_async_context(access.session(name))
                found = await preflight(session)
                preflights.check(connection, found, self.report, home=False)
            step = GrantsStep(
                name,
                session,
                found,
                str(self.view.key),
                roles,
                connection.spec.drift.action,
                tallies,
                may_revoke=self._unreadable() is None,
                others=tuple(one for one in connection.spec.databases if one != name),
            )
            result = await step.run([] if revoking else declared, home=is_home)
        self.services.observer.statements("GRANT", result.granted)
        self.services.observer.statements("REVOKE", result.revoked)
        if result.drifted:
            self.services.observer.drift("Repaired" if result.repaired else "Reported", result.drifted)
        return result

    def _unreadable(self) -> str | None:
        """An object that held something and cannot be read now. Until it can, nothing is revoked: fail static."""
        for broken in self.view.broken:
            if is_deleting(broken):
                continue
            status = self.services.catalog.status(key_of(broken))
            if (status.get("grants") or {}).get("held") or status.get("role"):
                return f"{broken.kind} {broken.metadata.namespace}/{broken.metadata.name}"
        return None

    def _conclude_grants(
        self,
        connection: LakebaseConnection,
        declared: Sequence[Declared],
        tallies: dict[str, Tally],
        failures: dict[str, LakebaseError],
    ) -> None:
        now = self.services.clock.now()
        unreadable = self._unreadable()
        for item in declared:
            grant, tally = item.grant, tallies[item.grant.metadata.uid]
            error = failures.get(grant.spec.database)
            if error is None and not is_deleting(grant):
                if not is_deleting(connection):  # else its revocation says nothing of what is declared
                    conclude(item, tally, now, self.report)
            elif error is not None:
                if is_deleting(grant):
                    self.report.waiting(
                        grant, Reason.DELETION_BLOCKED, f"Cannot be revoked now: {error.message}"
                    )
                else:
                    self.report.failed(grant, error)
            elif unreadable is not None:
                self.report.waiting(
                    grant,
                    Reason.DELETION_BLOCKED,
                    f"Nothing is revoked while {unreadable} cannot be read: it may declare the same. Correct or delete it.",
                )
            elif tally.worst is not None:
                self.report.fields(grant, {"issues": tally.issues})
                self.report.stalled(grant, *tally.worst)
            else:
                self.leaving.append(Leaving(grant, cleaned=True))

    def _let_broken_go(
        self,
        connection: LakebaseConnection,
        declared: Sequence[Declared],
        failures: Mapping[str, LakebaseError],
    ) -> None:
        """What cannot be read declares nothing once it is being deleted, so what it gave has been taken back."""
        known = {item.grant.metadata.uid for item in declared}
        undeclared = (
            grant
            for grant in self.view.grants
            if is_finalized(grant)
            and grant.spec.database in connection.spec.databases
            and grant.metadata.uid not in known
        )
        unclear: tuple[Broken | AccessGrant, ...] = (*self.view.broken, *undeclared)
        for broken in unclear:
            if not is_deleting(broken):
                continue
            if failures or self._unreadable():
                why = next(
                    (error.message for error in failures.values()), "other objects cannot be read either."
                )
                self.report.waiting(
                    broken, Reason.DELETION_BLOCKED, f"Cannot be cleaned up now: {why} {_ABANDON}"
                )
            else:
                self.leaving.append(Leaving(broken, cleaned=True))

    async def _drop_roles(self, access: Access, home: Connection, found: Preflight, roles: Roles) -> None:
        drop = RoleDrop(access, home, found.role, roles, self.report)
        for role in self.view.roles:
            if is_deleting(role) and is_finalized(role) and await drop.run(role):
                self.leaving.append(Leaving(role, cleaned=True))

    async def _forget(
        self,
        connection: LakebaseConnection,
        access: Access,
        home: Connection,
        failures: dict[str, LakebaseError],
    ) -> None:
        """The last step of a connection: once its dependents are gone, and its grants if they were to be revoked."""
        leaving = {id(one.subject) for one in self.leaving}
        left = [
            one
            for one in self.view.dependents
            if is_deleting(one) and is_finalized(one) and id(one) not in leaving
        ]
        if left:
            names = ", ".join(
                f"{kind_of(one)} {one.metadata.namespace}/{one.metadata.name}" for one in left[:5]
            )
            self.report.waiting(
                connection,
                Reason.WAITING_FOR_DEPENDENTS,
                f"Waits until {names} are cleaned up with its credential.",
            )
            return
        if failures:
            name, error = next(iter(failures.items()))
            self.report.waiting(connection, Reason.DELETION_BLOCKED, f"{name}: {error.message}")
            return
        if connection.spec.deletion_policy is ConnectionDeletionPolicy.RETAIN:
            return  # the next pass lets it go, after the grace for those that are still to be deleted
        for name in connection.spec.databases:
            async with AsyncExitStack() as stack:
                session = home
                if name != connection.spec.databases[0]:
                    session = await stack.enter_async_context(access.session(name))
                if (await preflight(session)).ledger:
                    await forget_connection(session, str(self.view.key))
        self.leaving.append(Leaving(connection, cleaned=True))

    # -- how it ended --------------------------------------------------------------------------------------------

    def _succeeded(
        self,
        connection: LakebaseConnection,
        results: Sequence[DatabaseResult],
        failures: dict[str, LakebaseError],
    ) -> Outcome:
        unfinished = any(result.unfinished for result in results)
        if not failures and not unfinished:
            self.memory.pauses.reset()
        if not failures:
            self.memory.carried_out, self.memory.removed = connection.metadata.generation, False
        now = self.services.clock.now()
        drifted = sum(result.drifted for result in results)
        unrevocable = sum(len(result.unrevocable) for result in results)
        self._tell_connection(connection)
        previous = {one["name"]: one for one in self._status().get("databases") or []}
        self.report.fields(
            connection,
            {
                "databases": [
                    _database_status(result, previous.get(result.database), now) for result in results
                ],
                "lastHandledSync": connection.metadata.annotations.get(ANNOTATION_SYNC_NOW),
            },
        )
        self._tell_drift(connection, drifted, results)
        self._tell_public(connection, results)
        for name, error in failures.items():
            message = f"{name}: {error.message}"
            self.report.fact(connection, condition("Synced", False, error.reason, message))
            say = self.report.stalled if isinstance(error, InvalidError) else self.report.waiting
            say(connection, error.reason, message)
        if not failures and unrevocable:
            message = f"{unrevocable} privileges that are no longer declared could not be revoked; their AccessGrants say why."
            self.report.fact(connection, condition("Synced", False, Reason.UNREVOCABLE, message))
            self.report.stalled(connection, Reason.UNREVOCABLE, message)
        elif not failures:
            message = "The database is as declared."
            self.report.fact(connection, condition("Synced", True, Reason.SUCCEEDED, message))
            if is_deleting(connection):
                self.report.waiting(connection, Reason.DELETING, "Its dependents are being cleaned up.")
            else:
                self.report.ready(connection, Reason.SUCCEEDED, message)
        self.services.observer.connection_ready(self.view.key, not failures)
        if is_deleting(connection):
            return Outcome(1.0)
        if failures or unfinished:
            return Outcome(self.memory.pauses.next())
        return Outcome(self._until_next(connection, now))

    def _tell_public(self, connection: LakebaseConnection, results: Sequence[DatabaseResult]) -> None:
        """What everybody holds is no fault, but those who think about access should know of it."""
        public = [f"{result.database}: {', '.join(result.public)}" for result in results if result.public]
        self.report.fact(
            connection,
            condition(
                "PublicAccess",
                bool(public),
                Reason.HELD_THROUGH_PUBLIC if public else Reason.SUFFICIENT,
                f"Everybody who can log in holds, through PUBLIC: {'; '.join(public)}." if public else "",
            ),
        )

    def _tell_drift(
        self, connection: LakebaseConnection, drifted: int, results: Sequence[DatabaseResult]
    ) -> None:
        if not drifted:
            self.report.fact(connection, condition("Drifted", False, Reason.NO_DRIFT))
            return
        repaired = all(result.repaired for result in results)
        reason = Reason.DRIFT_REPAIRED if repaired else Reason.DRIFT_FOUND
        message = f"{drifted} declared privileges had been taken away by hand" + (
            " and were granted again." if repaired else "; drift.action is Report."
        )
        self.report.fact(connection, condition("Drifted", not repaired, reason, message))
        self.report.event(connection, ObjectEvent("Warning", reason, message, action="Compare"))

    def _not_connectable(self, connection: LakebaseConnection, seen: Instance) -> Outcome:
        """Nothing is tried. With work pending that is said; with none, all is as it was."""
        reason, message = instances.explain(seen)
        waiting = [one for one in self.view.dependents if self._is_pending(one)]
        for one in waiting:
            self._wait(one, reason, message)
        gone = seen.state in (InstanceState.NOT_FOUND, InstanceState.DELETING)
        pending = bool(waiting) or gone or self._has_work(connection)
        self._tell_connection(connection)
        if pending:
            self.report.fact(connection, condition("Synced", False, reason, message))
        if is_deleting(connection):
            self.report.waiting(connection, Reason.DELETION_BLOCKED, f"{message} {_ABANDON}")
        elif not pending:
            self.report.ready(connection, reason, f"Nothing is pending. {message}")
        elif seen.state is InstanceState.NOT_FOUND:
            self.report.stalled(connection, reason, message)
        else:
            self.report.waiting(connection, reason, message)
        self.services.observer.connection_ready(self.view.key, not pending)
        return Outcome(self.memory.pauses.next())

    def _asleep(self, connection: LakebaseConnection, seen: Instance) -> Outcome:
        _, message = instances.explain(seen)
        self._tell_connection(connection)
        self.report.ready(connection, Reason.SUCCEEDED, f"Everything was carried out. {message}")
        self.services.observer.connection_ready(self.view.key, ready=True)
        return Outcome(self._until_next(connection, self.services.clock.now()))

    def _failed(self, connection: LakebaseConnection, error: LakebaseError) -> Outcome:
        """Fail static: what was carried out stays as it is, and stays Ready."""
        self._expect_session(error)
        self.services.observer.connection_ready(self.view.key, ready=False)
        self._tell_connection(connection)
        self._tell_failure(connection, error)
        if is_deleting(connection):
            self.report.waiting(connection, Reason.DELETION_BLOCKED, f"{error.message} {_ABANDON}")
        else:
            self.report.failed(connection, error)
        for one in self.view.dependents:
            if self._is_pending(one):
                self._wait(
                    one,
                    error.reason if not isinstance(error, InvalidError) else Reason.CONNECTION_NOT_READY,
                    f"The LakebaseConnection {self.view.key} is not usable: {error.message}",
                )
        if isinstance(error, InvalidError) and error.reason not in _MAY_PASS:
            return Outcome(jittered(SLOW_RETRY_SECONDS))
        return Outcome(max(self.memory.pauses.next(), error.retry_after or 0))

    def _expect_session(self, error: LakebaseError) -> None:
        if error.reason is Reason.CONNECTION_LOST and self.tries_left:
            raise SessionLostError from error

    def _tell_failure(self, connection: LakebaseConnection, error: LakebaseError) -> None:
        if error.reason in _AUTHENTICATION:
            self.report.fact(connection, condition("Authenticated", False, error.reason, error.message))
        if connection.spec.auth.password is not None and error.reason is Reason.UNREACHABLE:
            # Nobody but the server itself says whether it is there.
            self.report.fact(connection, condition("InstanceAvailable", False, error.reason, error.message))
        self.report.fact(connection, condition("Synced", False, error.reason, error.message))

    # -- small things --------------------------------------------------------------------------------------------

    def _tell_connection(self, connection: LakebaseConnection) -> None:
        self.report.fields(
            connection,
            {"roles": len(self.view.roles) + len(self.view.mappings), "grants": len(self.view.grants)},
        )

    def _object(self) -> ObjectKey:
        return ObjectKey(LakebaseConnection.kind_name, self.view.key.namespace, self.view.key.name)

    def _status(self) -> dict[str, Any]:
        return self.services.catalog.status(self._object())

    def _timeouts(self) -> Timeouts:
        settings = self.services.settings
        return Timeouts(
            connect=settings.connect_timeout_seconds,
            statement=settings.statement_timeout_seconds,
            lock=settings.lock_timeout_seconds,
        )

    def _wait(self, one: Dependent, reason: Reason, message: str) -> None:
        self.held_up.add(key_of(one))
        if _is_for_all(one) and self._acknowledged(one):
            return  # another connection has spoken of it; two that take turns would write for ever
        blocked = f"Cannot be cleaned up now: {message} {_ABANDON}" if is_deleting(one) else message
        self.report.waiting(one, Reason.DELETION_BLOCKED if is_deleting(one) else reason, blocked)

    def _is_pending(self, one: LakebaseConnection | Dependent) -> bool:
        if _is_for_all(one):
            return not self.mappings.knows(one, self.view.key)
        return is_pending(one, self.services.catalog, self.services.clock.now())

    def _acknowledged(self, one: Dependent) -> bool:
        """Whether something has been said of the object as it is now."""
        observed = self.services.catalog.status(key_of(one)).get("observedGeneration")
        return observed == one.metadata.generation

    def _has_work(self, connection: LakebaseConnection) -> bool:
        """Whether the connection itself leaves something to do. A failure after it was carried out does not."""
        new = self.memory.carried_out != connection.metadata.generation
        return self.memory.removed or (new and self._is_pending(connection)) or is_deleting(connection)

    def _until_next(self, connection: LakebaseConnection, now: datetime) -> float:
        """Seconds to the next pass that only time asks for: a comparison, or a grant that begins or ends."""
        interval = jittered(seconds(connection.spec.drift.interval))
        change = next_change((grant.spec for grant in self.view.grants), now)
        return interval if change is None else min(interval, max((change - now).total_seconds(), 0.0) + 0.05)

    def _count_statements(self, texts: Iterable[str]) -> None:
        counts: dict[str, int] = defaultdict(int)
        for text in texts:
            counts[" ".join(text.split()[:2])] += 1
        for verb, count in counts.items():
            self.services.observer.statements(verb, count)


def _is_for_all(one: LakebaseConnection | Dependent) -> TypeGuard[UserMapping]:
    """A mapping for all connections of its namespace: several passes speak of it."""
    return isinstance(one, UserMapping) and one.spec.connection_ref is None


def _database_status(
    result: DatabaseResult, previous: Mapping[str, Any] | None, now: datetime
) -> dict[str, Any]:
    changed = previous is None or result.granted or result.revoked
    return {
        "name": result.database,
        "objects": result.objects,
        "managedGrants": result.managed,
        "lastChangeTime": now.strftime("%Y-%m-%dT%H:%M:%SZ")
        if changed
        else (previous or {}).get("lastChangeTime"),
    }


_ABANDON = f'It is tried again; the annotation {ANNOTATION_ABANDON}: "true" lets it go without cleaning up.'

_MAY_PASS = frozenset({Reason.TOKEN_EXPIRED})
"""What usually needs a person, but passes by itself where a new role or endpoint is not known everywhere yet."""

_AUTHENTICATION = frozenset(
    {
        Reason.OAUTH_CLIENT_REJECTED,
        Reason.TOKEN_EXPIRED,
        Reason.PASSWORD_REJECTED,
        Reason.OPERATOR_ROLE_MISSING,
        Reason.OPERATOR_ROLE_NOT_LOGIN,
        Reason.SECRET_NOT_FOUND,
        Reason.CONTROL_PLANE_DENIED,
    }
)
