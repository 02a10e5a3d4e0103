"""What a pass does about roles: the roles, their own schemas, their logins, their level. Before people and grants."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from lakebase_operator.api import LakebaseConnection
from lakebase_operator.domain.errors import LakebaseError
from lakebase_operator.domain.platform_schema import data_schemas
from lakebase_operator.external.postgres.roles import Preflight
from lakebase_operator.reconcilers.access import Access
from lakebase_operator.reconcilers.context import Context, TooNarrowError
from lakebase_operator.reconcilers.logins import RETRY_SECONDS, LoginsStep, PublishedLogin
from lakebase_operator.reconcilers.made_passwords import MadePasswords
from lakebase_operator.reconcilers.opening import Home, opened
from lakebase_operator.reconcilers.plans import ConnectionPlan
from lakebase_operator.reconcilers.platform_schema import (
    PlatformSchemaStep,
    keep_known,
    roles_with_platform_schema,
)
from lakebase_operator.reconcilers.role_execution import PLANNED, count_statements
from lakebase_operator.reconcilers.role_level import LevelStep
from lakebase_operator.reconcilers.roles import Roles, RolesStep
from lakebase_operator.reconcilers.view import is_deleting


@dataclass(frozen=True, slots=True)
class RolesDone:
    """What was done about roles, or what would be."""

    roles: Roles
    preflight: Preflight
    """Of the home database, in which there may be a ledger now."""
    platform: Mapping[str, frozenset[str]]
    """Platform schemas that are fit, by database."""
    published: Mapping[str, PublishedLogin]
    """Logins that applications have, by role; empty in a narrow pass."""
    planned: Sequence[tuple[str, str]]
    """Of a dry run: resources and statements."""
    handovers: Mapping[str, Sequence[tuple[str, str]]]
    """Of a dry run, by database: resources and statements about schemas."""


@dataclass(frozen=True, slots=True)
class RolePhase:
    """Carries out what is declared of the roles of one connection."""

    context: Context
    connection: LakebaseConnection
    access: Access
    home: Home
    dry: bool = False
    """Change nothing; say what would be done."""
    approved: ConnectionPlan | None = None
    """Do nothing but this."""
    _handovers: dict[str, Sequence[tuple[str, str]]] = field(default_factory=dict, init=False)

    async def run(self) -> RolesDone:
        """Carry it out; a failure stays with its role.

        Raises
        ------
        LakebaseError
            The home database cannot be worked on.
        TooNarrowError
            A narrow pass cannot do it.
        """
        context = self.context
        step = RolesStep(
            self.home.session,
            self.home.preflight,
            str(context.view.key),
            context.report,
            dry=self.dry,
            approved=self.approved.role_statements if self.approved is not None else None,
        )
        roles = await step.run(context.view)
        logins, level = self._logins(step, roles), self._level(step, roles)
        if context.view.narrow:  # nothing has changed that concerns them
            platform = self._known_platform_schemas()
        else:
            platform = await self._platform_schemas(replace(self.home, preflight=step.preflight), roles)
            await logins.run()
            await level.run()
        executed = (*step.executed, *logins.statements.executed, *level.statements.executed)
        count_statements(context.services.observer, executed)
        planned = [(resource, text) for resource, text, result in executed if result == PLANNED]
        return RolesDone(roles, step.preflight, platform, logins.published, planned, self._handovers)

    def _logins(self, step: RolesStep, roles: Roles) -> LoginsStep:
        context, services = self.context, self.context.services
        return LoginsStep(
            services.kube,
            services.clock.now(),
            services.hide,
            self.connection,
            str(context.view.key),
            self.home.session,
            self.access.server,
            replace(step.statements, executed=[]),
            roles,
            context.report,
            step.preflight.ledger,
            context.deadlines,
            MadePasswords(self.access.login.roles(), context.memory.making_passwords, services.observer),
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

    async def _platform_schemas(self, home: Home, roles: Roles) -> Mapping[str, frozenset[str]]:
        """Before the logins that publish them. Returns those that are fit, by database; a database that fails stays alone."""
        context, names = self.context, self.connection.spec.databases
        fit: dict[str, frozenset[str]] = {}
        grants = [grant for grant in context.view.grants if not is_deleting(grant)]
        for name in names:
            if not roles_with_platform_schema(roles, name, names):
                continue
            try:
                async with opened(name, home, self.connection, self.access, context.report) as (
                    session,
                    found,
                ):
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
                if home.session.closed:
                    raise
                keep_known(roles, names, name, error)
                continue
            count_statements(context.services.observer, step.executed)
            self._handovers[name] = [(one, text) for one, text, result in step.executed if result == PLANNED]
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
