"""The databases of a connection: roles, then people, then the grants of each, then what is on its way out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from lakebase_operator.api import AccessGrant, LakebaseConnection
from lakebase_operator.api.lakebase_connection import Mode
from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.desired import Declared
from lakebase_operator.domain.errors import LakebaseError
from lakebase_operator.domain.people import People
from lakebase_operator.engine.turns import in_turns
from lakebase_operator.external.postgres.roles import Preflight, preflight
from lakebase_operator.external.postgres.session import Connection
from lakebase_operator.reconcilers import gates
from lakebase_operator.reconcilers import preflight as preflights
from lakebase_operator.reconcilers.access import Access
from lakebase_operator.reconcilers.closing import Closing
from lakebase_operator.reconcilers.connection_test import ConnectionTests
from lakebase_operator.reconcilers.context import Context, TooNarrowError
from lakebase_operator.reconcilers.exposing import ExposingStep, concerns_shown
from lakebase_operator.reconcilers.grants import GrantsStep, Policy
from lakebase_operator.reconcilers.leaving import Leaving
from lakebase_operator.reconcilers.opening import Home, opened
from lakebase_operator.reconcilers.overdue import end_overdue
from lakebase_operator.reconcilers.ownership import OwnershipStep
from lakebase_operator.reconcilers.people import resolve
from lakebase_operator.reconcilers.plans import ROLES, ConnectionPlan, Part
from lakebase_operator.reconcilers.review import ReviewStep
from lakebase_operator.reconcilers.role_conclusions import conclude_roles
from lakebase_operator.reconcilers.role_execution import PLANNED, count_statements
from lakebase_operator.reconcilers.role_phase import RolePhase, RolesDone
from lakebase_operator.reconcilers.roles import Roles
from lakebase_operator.reconcilers.tally import DatabaseResult, Tally
from lakebase_operator.reconcilers.verdicts import unsupported
from lakebase_operator.reconcilers.view import is_deleting


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
class Work:
    """What the work in each database starts from."""

    home: Home
    roles: RolesDone
    declared: Sequence[Declared]
    """AccessGrants, those that are not looked at anew but concern the same roles among them."""
    tallies: dict[str, Tally]
    focus: frozenset[str] | None
    """Roles that are looked at; None: all."""
    exposing: ExposingStep | None


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
        narrow = context.view.narrow
        async with context.memory.home.use(self.access, names[0], narrow=narrow) as borrowed:
            home = await self._enter(borrowed.session)
            phase = RolePhase(context, connection, self.access, home, dry=self.dry, approved=self.approved)
            done = await phase.run()
            roles, home = done.roles, Home(home.session, done.preflight)
            people = resolve(context.view, roles, context.mappings, context.report)
            declared = await self._declare(context.view.grants, people, roles, home.preflight)
            beside, focus = await self._beside(declared, people, roles, home.preflight)
            tallies = {item.grant.metadata.uid: Tally() for item in (*declared, *beside)}
            for item in declared:
                # What declares nothing any more is nobody's fault, and holds up nothing.
                if not is_deleting(item.grant):
                    unsupported(item.grant, home.preflight.major_version, tallies[item.grant.metadata.uid])
            exposing = self._exposing(roles)
            work = Work(home, done, (*declared, *beside), tallies, focus, exposing)
            handovers = dict(done.handovers)
            for name in names:
                try:
                    results.append(await self._database(name, work, handovers))
                except LakebaseError as error:
                    if name == names[0]:
                        raise
                    context.expect_session(error)
                    failures[name] = error
            closing = Closing(context, connection, self.access, home, failures)
            await closing.conclude_grants(declared, tallies)
            if exposing is not None:
                await exposing.show(failures)
            if not is_deleting(connection):
                tests = ConnectionTests(
                    context, connection, self.access, home.session, roles, done.published, dry=self.dry
                )
                await tests.run()
            conclude_roles(roles, names, failures, context.report, narrow=narrow)
            await closing.drop_roles(roles)
            if not narrow:
                context.memory.declarations.keep_only(context.view.grants)
            if not self.dry:
                closing.let_broken_go(declared)
                if is_deleting(connection):
                    await closing.forget()
                closing.remember(declared, roles, results, done.platform)
                enforcing = connection.spec.mode is Mode.ENFORCE and not is_deleting(connection)
                if enforcing and not narrow and not failures:
                    ledger = home.preflight.ledger or results[0].managed > 0
                    await ReviewStep(
                        context, connection, self.access, home.session, ledger, roles, declared, people
                    ).run()
            borrowed.keep = narrow and context.memory.known is not None
        return Done(results, failures, done.planned, handovers)

    async def _enter(self, session: Connection) -> Home:
        """What the operator may do, before anything is changed; and what is overdue ends before anything else is done.

        Raises
        ------
        LakebaseError
            The login does not have what the operator needs.
        """
        context, connection = self.context, self.connection
        found = await preflight(session)
        principal = await self.access.login.is_service_principal()
        preflights.tell_login(connection, found, principal, context.report)
        preflights.check(connection, found, context.report, home=True)
        if not self.dry and connection.spec.mode is Mode.ENFORCE:
            await end_overdue(context, connection, self.access, session, found)
        return Home(session, found)

    def _exposing(self, roles: Roles) -> ExposingStep | None:
        """None: a narrow pass changes nothing of what is shown, and with the connection everything goes."""
        context, services = self.context, self.context.services
        if context.view.narrow or is_deleting(self.connection):
            return None
        return ExposingStep(
            services.kube,
            str(context.view.key),
            self.connection.spec.databases,
            roles,
            context.report,
            services.catalog.status,
            dry=self.dry,
        )

    async def _beside(
        self, declared: Sequence[Declared], people: People, roles: Roles, found: Preflight
    ) -> tuple[list[Declared], frozenset[str] | None]:
        """With a narrow view: the unchanged AccessGrants of the same roles, and these roles.

        Raises
        ------
        TooNarrowError
            The roles of the server are not what they were, or what somebody can read of exposed tables may change, or
            AccessGrants that are not looked at have a part in it.
        """
        context, known = self.context, self.context.known
        if known is None:
            return [], None
        if known.oids != roles.oids:
            raise TooNarrowError
        changed = context.view.changed
        focus = known.grantees(changed).union(*(item.grantees for item in declared))
        if concerns_shown(roles, focus):
            raise TooNarrowError
        grants = context.services.catalog.some_grants(context.view.key, known.about(focus) - changed)
        beside = await self._declare(grants, people, roles, found)
        if changed & known.far or any(item.reaches_far for item in (*declared, *beside)):
            raise TooNarrowError
        return beside, focus

    async def _declare(
        self, grants: Iterable[AccessGrant], people: People, roles: Roles, found: Preflight
    ) -> list[Declared]:
        """AccessGrants with their subjects resolved. What cannot be declared is told."""
        context, connection = self.context, self.connection
        now = context.services.clock.now()
        known = context.memory.declarations
        known.begin(people, roles, found.major_version)
        declared = []
        async for grant in in_turns(grants):
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
                declared.append(known.declare(grant, people, roles, found.major_version, now))
            except ValueError as error:
                if not is_deleting(grant):
                    context.report.stalled(grant, Reason.INVALID_SPEC, str(error))
        return declared

    async def _database(
        self, name: str, work: Work, handovers: dict[str, Sequence[tuple[str, str]]]
    ) -> DatabaseResult:
        context, connection = self.context, self.connection
        is_home = name == connection.spec.databases[0]
        revoking = is_deleting(connection) and not gates.retains(connection)
        own = work.roles.platform.get(name, frozenset())
        async with opened(name, work.home, connection, self.access, context.report) as (session, found):
            if not revoking:
                given = await self._hand_over(name, session, found, work.roles.roles, own)
                handovers[name] = (*handovers.get(name, ()), *given)
            step = GrantsStep(
                name,
                session,
                found,
                str(context.view.key),
                work.roles.roles,
                Policy(
                    connection.spec.drift.action,
                    connection.spec.unmanaged_grants,
                    connection.spec.mode,
                    self.approved.digests if self.approved is not None else frozenset(),
                ),
                work.tallies,
                may_revoke=context.unreadable() is None,
                others=tuple(one for one in connection.spec.databases if one != name),
                platform=own,
                remembered=context.memory.remembered if work.focus is None else {},
            )
            result = await step.run([] if revoking else work.declared, home=is_home, focus=work.focus)
            if work.exposing is not None:
                await work.exposing.look(name, session)
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
        count_statements(self.context.services.observer, step.executed)
        return [(resource, text) for resource, text, result in step.executed if result == PLANNED]
