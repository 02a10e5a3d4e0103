"""The databases of a connection: roles, then people, then the grants of each, then what is on its way out."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import chain

from lakebase_operator.api import AccessGrant, LakebaseConnection
from lakebase_operator.api.lakebase_connection import DriftAction, Mode, UnmanagedAction
from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.errors import LakebaseError
from lakebase_operator.domain.people import People
from lakebase_operator.domain.platform_schema import data_schemas
from lakebase_operator.engine.catalog import Broken, key_of, kind_of
from lakebase_operator.external.postgres.ledger import forget_connection
from lakebase_operator.external.postgres.roles import Preflight, preflight
from lakebase_operator.external.postgres.session import Connection
from lakebase_operator.reconcilers import gates
from lakebase_operator.reconcilers import preflight as preflights
from lakebase_operator.reconcilers.access import Access
from lakebase_operator.reconcilers.connection_test import ConnectionTests
from lakebase_operator.reconcilers.context import ABANDON, Context, TooNarrowError
from lakebase_operator.reconcilers.declared import Declared, declare
from lakebase_operator.reconcilers.deletion import RoleDrop
from lakebase_operator.reconcilers.grants import GrantsStep, Policy
from lakebase_operator.reconcilers.known import Known
from lakebase_operator.reconcilers.leaving import Leaving
from lakebase_operator.reconcilers.logins import RETRY_SECONDS, LoginsStep
from lakebase_operator.reconcilers.overdue import end_overdue
from lakebase_operator.reconcilers.ownership import OwnershipStep
from lakebase_operator.reconcilers.people import resolve
from lakebase_operator.reconcilers.plans import ROLES, ConnectionPlan, Part
from lakebase_operator.reconcilers.platform_schema import (
    PlatformSchemaStep,
    keep_known,
    roles_with_platform_schema,
)
from lakebase_operator.reconcilers.role_conclusions import conclude_roles
from lakebase_operator.reconcilers.role_execution import PLANNED
from lakebase_operator.reconcilers.role_level import LevelStep
from lakebase_operator.reconcilers.roles import Roles, RolesStep
from lakebase_operator.reconcilers.tally import DatabaseResult, Tally
from lakebase_operator.reconcilers.verdicts import conclude, unsupported
from lakebase_operator.reconcilers.view import is_deleting, is_finalized


@dataclass(frozen=True, slots=True)
class Done:
    """What was done, or what would be."""

    results: Sequence[DatabaseResult]
    """Of each database that could be worked on."""
    failures: Mapping[str, LakebaseError]
    """By database."""
    roles: Sequence[tuple[str, str]] = ()
    """Of a dry run: resources and statements about roles."""
    handovers: Mapping[str, Sequence[tuple[str, str]]] = field(default_factory=dict)
    """Of a dry run, by database: resources and statements about owners."""

    @property
    def planned(self) -> tuple[tuple[str, str], ...]:
        """Of a dry run: resources and statements of PostgresRoles and UserMappings."""
        return (*self.roles, *chain.from_iterable(self.handovers.values()))

    @property
    def plan(self) -> ConnectionPlan:
        """All statements of a dry run, in order."""
        parts = [Part(ROLES, tuple(statement for _, statement in self.roles))]
        for one in self.results:
            owners = tuple(statement for _, statement in self.handovers.get(one.database, ()))
            parts += [Part(f"{one.database}, owners", owners), Part(one.database, one.planned)]
        return ConnectionPlan(tuple(parts))


@dataclass(frozen=True, slots=True)
class Databases:
    """Makes the databases of one connection as declared."""

    context: Context
    connection: LakebaseConnection
    access: Access
    dry: bool = False
    """Change nothing; say what would be done."""
    approved: ConnectionPlan | None = None
    """Do nothing but this."""

    async def run(self) -> Done:
        """Carry out everything; the failure of a database that is not the home stays with it.

        Raises
        ------
        LakebaseError
            The home database could not be worked on, so nothing was.
        """
        context, connection = self.context, self.connection
        names = connection.spec.databases
        results: list[DatabaseResult] = []
        failures: dict[str, LakebaseError] = {}
        handovers: dict[str, Sequence[tuple[str, str]]] = {}
        narrow = context.view.narrow
        async with context.memory.home.use(self.access, names[0], narrow=narrow) as borrowed:
            home = borrowed.session
            found = await preflight(home)
            principal = await self.access.login.is_service_principal()
            preflights.tell_login(connection, found, principal, context.report)
            preflights.check(connection, found, context.report, home=True)
            if not self.dry and connection.spec.mode is Mode.ENFORCE:
                await end_overdue(context, connection, self.access, home, found)
            step = RolesStep(
                home,
                found,
                str(context.view.key),
                context.report,
                dry=self.dry,
                approved=self.approved.role_statements if self.approved is not None else None,
            )
            roles = await step.run(context.view)
            logins, level = self._logins(home, step, roles), self._level(step, roles)
            if not narrow:  # else nothing has changed that concerns them
                platform = await self._platform_schemas(home, step.preflight, roles, handovers)
                await logins.run()
                await level.run()
            else:
                platform = self._known_platform_schemas()
            executed = (*step.executed, *logins.statements.executed, *level.statements.executed)
            self._count_statements(text for _, text, result in executed if result == "ok")
            people = resolve(context.view, roles, context.mappings, context.report)
            declared = self._declare(context.view.grants, people, roles, step.preflight)
            beside, focus = self._beside(declared, people, roles, step.preflight)
            tallies = {item.grant.metadata.uid: Tally() for item in (*declared, *beside)}
            for item in declared:
                unsupported(item.grant, found.major_version, tallies[item.grant.metadata.uid])
            for name in names:
                try:
                    results.append(
                        await self._database(
                            name,
                            home,
                            step.preflight,
                            roles,
                            (*declared, *beside),
                            tallies,
                            focus,
                            handovers,
                            platform,
                        )
                    )
                except LakebaseError as error:
                    if name == names[0]:
                        raise
                    context.expect_session(error)
                    failures[name] = error
            self._conclude_grants(declared, tallies, failures)
            if not is_deleting(connection):
                await ConnectionTests(
                    context, connection, self.access, home, roles, logins.published, dry=self.dry
                ).run()
            conclude_roles(roles, names, failures, context.report, logins=not narrow)
            await self._drop_roles(home, found, roles)
            if not self.dry:
                self._let_broken_go(declared, failures)
                if is_deleting(connection):
                    await self._forget(home, failures)
                self._remember(declared, roles, results, failures, platform)
            borrowed.keep = narrow and context.memory.known is not None
        planned = tuple((resource, text) for resource, text, result in executed if result == PLANNED)
        return Done(results, failures, planned, handovers)

    def _logins(self, home: Connection, step: RolesStep, roles: Roles) -> LoginsStep:
        context, services = self.context, self.context.services
        return LoginsStep(
            services.kube,
            services.clock.now(),
            services.hide,
            self.connection,
            str(context.view.key),
            home,
            self.access.server,
            replace(step.statements, executed=[]),
            roles,
            context.report,
            step.preflight.ledger,
            context.deadlines,
        )

    def _level(self, step: RolesStep, roles: Roles) -> LevelStep:
        context = self.context
        return LevelStep(
            self.access.login.roles(),
            str(context.view.key),
            replace(step.statements, executed=[]),
            roles,
            context.memory.operations,
            context.services.clock.now(),
            context.deadlines,
            context.services.observer,
        )

    async def _platform_schemas(
        self,
        home: Connection,
        home_preflight: Preflight,
        roles: Roles,
        handovers: dict[str, Sequence[tuple[str, str]]],
    ) -> Mapping[str, frozenset[str]]:
        """Before the logins that publish them. Returns those that are fit, by database; a database that fails stays alone."""
        context, names = self.context, self.connection.spec.databases
        fit: dict[str, frozenset[str]] = {}
        grants = [grant for grant in context.view.grants if not is_deleting(grant)]
        for name in names:
            if not roles_with_platform_schema(roles, name, names):
                continue
            try:
                async with AsyncExitStack() as stack:
                    session, found = home, home_preflight
                    if name != names[0]:
                        session = await stack.enter_async_context(self.access.session(name))
                        found = await preflight(session)
                        preflights.check(self.connection, found, context.report, home=False)
                    step = PlatformSchemaStep(
                        name,
                        names,
                        session,
                        found,
                        str(context.view.key),
                        roles,
                        context.report,
                        dry=self.dry,
                        approved=frozenset(self.approved.statements) if self.approved is not None else None,
                    )
                    fit[name] = await step.run(grants)
            except LakebaseError as error:
                if home.closed:
                    raise
                keep_known(roles, names, name, error)
                continue
            self._count_statements(text for _, text, result in step.executed if result == "ok")
            handovers[name] = [(one, text) for one, text, result in step.executed if result == PLANNED]
        if any(
            tally.waits for tally in roles.tallies.values() if tally.role.spec.platform_schema is not None
        ):
            context.deadlines.append(context.services.clock.now() + timedelta(seconds=RETRY_SECONDS))
        return fit

    def _known_platform_schemas(self) -> Mapping[str, frozenset[str]]:
        """With a narrow view, as they were.

        Raises
        ------
        TooNarrowError
            An AccessGrant speaks of one: that concerns its role.
        """
        context, names = self.context, self.connection.spec.databases
        platform = context.known.platform if context.known is not None else {}
        for name, schemas in platform.items():
            if schemas & data_schemas(context.view.grants, (), name, names).keys():
                raise TooNarrowError
        return platform

    def _beside(
        self, declared: Sequence[Declared], people: People, roles: Roles, found: Preflight
    ) -> tuple[list[Declared], frozenset[str] | None]:
        """With a narrow view: the unchanged AccessGrants of the same roles, and these roles.

        Raises
        ------
        TooNarrowError
            The roles of the server are not what they were.
        """
        context, known = self.context, self.context.known
        if known is None:
            return [], None
        if known.oids != roles.oids:
            raise TooNarrowError
        changed = context.view.changed
        focus = known.grantees(changed).union(*(item.grantees for item in declared))
        grants = context.services.catalog.some_grants(context.view.key, known.about(focus) - changed)
        return self._declare(grants, people, roles, found), focus

    def _declare(
        self, grants: Iterable[AccessGrant], people: People, roles: Roles, found: Preflight
    ) -> list[Declared]:
        """AccessGrants with their subjects resolved. What cannot be declared is told."""
        context, connection = self.context, self.connection
        now = context.services.clock.now()
        declared = []
        for grant in grants:
            if grant.spec.database not in connection.spec.databases:
                if is_deleting(grant):
                    context.leaving.append(Leaving(grant, cleaned=False))
                else:
                    context.report.stalled(
                        grant,
                        Reason.DATABASE_NOT_MANAGED,
                        f'spec.database: "{grant.spec.database}" is not one of the databases of the LakebaseConnection '
                        f"{context.view.key}. Add it there, or correct it here.",
                    )
                continue
            try:
                declared.append(declare(grant, people, roles, found.major_version, now))
            except ValueError as error:
                if not is_deleting(grant):
                    context.report.stalled(grant, Reason.INVALID_SPEC, str(error))
        return declared

    async def _database(
        self,
        name: str,
        home: Connection,
        home_preflight: Preflight,
        roles: Roles,
        declared: Sequence[Declared],
        tallies: dict[str, Tally],
        focus: frozenset[str] | None,
        handovers: dict[str, Sequence[tuple[str, str]]],
        platform: Mapping[str, frozenset[str]],
    ) -> DatabaseResult:
        context, connection = self.context, self.connection
        is_home = name == connection.spec.databases[0]
        revoking = is_deleting(connection) and not gates.retains(connection)
        async with AsyncExitStack() as stack:
            session, found = home, home_preflight
            if not is_home:
                session = await stack.enter_async_context(self.access.session(name))
                found = await preflight(session)
                preflights.check(connection, found, context.report, home=False)
            own = platform.get(name, frozenset())
            if not revoking:
                given = await self._hand_over(name, session, found, roles, own)
                handovers[name] = (*handovers.get(name, ()), *given)
            step = GrantsStep(
                name,
                session,
                found,
                str(context.view.key),
                roles,
                Policy(
                    connection.spec.drift.action,
                    connection.spec.unmanaged_grants,
                    connection.spec.mode,
                    self.approved.digests if self.approved is not None else frozenset(),
                ),
                tallies,
                may_revoke=context.unreadable() is None,
                others=tuple(one for one in connection.spec.databases if one != name),
                platform=own,
                remembered=context.memory.remembered if focus is None else {},
            )
            result = await step.run([] if revoking else declared, home=is_home, focus=focus)
        observer = context.services.observer
        observer.statements("GRANT", result.granted)
        observer.statements("REVOKE", result.revoked)
        if result.drifted:
            observer.drift("Repaired" if result.repaired else "Reported", result.drifted)
        return result

    async def _hand_over(
        self, name: str, session: Connection, found: Preflight, roles: Roles, platform: frozenset[str]
    ) -> Sequence[tuple[str, str]]:
        """Before the grants, since owners grant. Returns resources and statements of a dry run."""
        approved = frozenset(self.approved.statements) if self.approved is not None else None
        step = OwnershipStep(
            name,
            session,
            found,
            str(self.context.view.key),
            roles,
            dry=self.dry,
            approved=approved,
            platform=platform,
        )
        await step.run(home=name == self.connection.spec.databases[0])
        self._count_statements(text for _, text, result in step.executed if result == "ok")
        return [(resource, text) for resource, text, result in step.executed if result == PLANNED]

    # -- what came of it -------------------------------------------------------------------------------------------

    def _conclude_grants(
        self,
        declared: Sequence[Declared],
        tallies: Mapping[str, Tally],
        failures: Mapping[str, LakebaseError],
    ) -> None:
        report = self.context.report
        now = self.context.services.clock.now()
        unreadable = self.context.unreadable()
        for item in declared:
            grant, tally = item.grant, tallies[item.grant.metadata.uid]
            error = failures.get(grant.spec.database)
            if error is None and not is_deleting(grant):
                if not is_deleting(self.connection):  # else its revocation says nothing of what is declared
                    conclude(item, tally, now, report)
            elif error is not None:
                if is_deleting(grant):
                    report.waiting(grant, Reason.DELETION_BLOCKED, f"Cannot be revoked now: {error.message}")
                else:
                    report.failed(grant, error)
            elif unreadable is not None:
                report.waiting(
                    grant,
                    Reason.DELETION_BLOCKED,
                    f"Nothing is revoked while {unreadable} cannot be read: it may declare the same. Correct or delete it.",
                )
            elif tally.worst is not None:
                report.fields(grant, {"issues": tally.issues})
                report.stalled(grant, *tally.worst)
            else:
                self.context.leaving.append(Leaving(grant, cleaned=True))

    def _let_broken_go(self, declared: Sequence[Declared], failures: Mapping[str, LakebaseError]) -> None:
        """What cannot be read declares nothing once it is being deleted, so what it gave has been taken back."""
        context = self.context
        known = {item.grant.metadata.uid for item in declared}
        undeclared = (
            grant
            for grant in context.view.grants
            if is_finalized(grant)
            and grant.spec.database in self.connection.spec.databases
            and grant.metadata.uid not in known
        )
        unclear: tuple[Broken | AccessGrant, ...] = (*context.view.broken, *undeclared)
        for broken in unclear:
            if not is_deleting(broken):
                continue
            if failures or context.unreadable():
                why = next(
                    (error.message for error in failures.values()), "other objects cannot be read either."
                )
                context.report.waiting(
                    broken, Reason.DELETION_BLOCKED, f"Cannot be cleaned up now: {why} {ABANDON}"
                )
            else:
                context.leaving.append(Leaving(broken, cleaned=True))

    def _remember(
        self,
        declared: Sequence[Declared],
        roles: Roles,
        results: Sequence[DatabaseResult],
        failures: Mapping[str, LakebaseError],
        platform: Mapping[str, frozenset[str]],
    ) -> None:
        """Make a narrow pass possible, if all is as declared and nothing needs a look at everything."""
        context, spec = self.context, self.connection.spec
        trouble = failures or any(one.unfinished or one.unrevocable or one.planned for one in results)
        # What is wrong with a platform schema may end with a change of an AccessGrant.
        trouble = trouble or any(
            tally.role.spec.platform_schema is not None and tally.worst is not None
            for tally in roles.tallies.values()
        )
        plain = (
            spec.drift.action is DriftAction.REPAIR
            and spec.unmanaged_grants.action is UnmanagedAction.KEEP
            and spec.mode is Mode.ENFORCE
        )
        if trouble or not plain or context.view.broken or is_deleting(self.connection):
            return
        known = context.known or Known(dict(roles.oids), platform=platform)
        for changed in context.view.changed:
            known.drop(changed)
        grantees = {item.grant.metadata.uid: item.grantees for item in declared}
        for grant in context.view.grants:
            if not is_deleting(grant):
                known.put(key_of(grant), grantees.get(grant.metadata.uid, frozenset()))
        context.memory.known = known

    # -- what goes -------------------------------------------------------------------------------------------------

    async def _drop_roles(self, home: Connection, found: Preflight, roles: Roles) -> None:
        databases = self.connection.spec.databases
        drop = RoleDrop(self.access, home, found.role, roles, self.context.report, databases)
        enforcing = self.connection.spec.mode is Mode.ENFORCE or is_deleting(self.connection)
        for role in self.context.view.roles:
            if not (is_deleting(role) and is_finalized(role)):
                continue
            if not enforcing and (drop.would_drop(role) or drop.platform_schema_to_drop(role) is not None):
                self.context.report.waiting(
                    role,
                    Reason.PLANNED,
                    f"The LakebaseConnection {self.context.view.key} is in mode Plan; roles and schemas are dropped when it is Enforce.",
                )
            elif await drop.run(role):
                self.context.leaving.append(Leaving(role, cleaned=True))

    async def _forget(self, home: Connection, failures: Mapping[str, LakebaseError]) -> None:
        """The last step of a connection: once its dependents are gone, and its grants if they were to be revoked."""
        context, connection = self.context, self.connection
        leaving = {id(one.subject) for one in context.leaving}
        left = [
            one
            for one in context.view.dependents
            if is_deleting(one) and is_finalized(one) and id(one) not in leaving
        ]
        if left:
            names = ", ".join(
                f"{kind_of(one)} {one.metadata.namespace}/{one.metadata.name}" for one in left[:5]
            )
            context.report.waiting(
                connection,
                Reason.WAITING_FOR_DEPENDENTS,
                f"Waits until {names} are cleaned up with its credential.",
            )
            return
        if failures:
            name, error = next(iter(failures.items()))
            context.report.waiting(connection, Reason.DELETION_BLOCKED, f"{name}: {error.message}")
            return
        if gates.retains(connection):
            return  # the next pass lets it go, after the grace for those that are still to be deleted
        for name in connection.spec.databases:
            async with AsyncExitStack() as stack:
                session = home
                if name != connection.spec.databases[0]:
                    session = await stack.enter_async_context(self.access.session(name))
                if (await preflight(session)).ledger:
                    await forget_connection(session, str(context.view.key))
        context.leaving.append(Leaving(connection, cleaned=True))

    def _count_statements(self, texts: Iterable[str]) -> None:
        counts: dict[str, int] = defaultdict(int)
        for text in texts:
            counts[" ".join(text.split()[:2])] += 1
        for verb, count in counts.items():
            self.context.services.observer.statements(verb, count)
