"""Roles: those that PostgresRoles declare and those that UserMappings need. Before grants, never in their transaction."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from psycopg import sql

from lakebase_operator.api import PostgresRole, UserMapping
from lakebase_operator.api.lakebase_connection import UnmanagedGrants
from lakebase_operator.api.names import role_name_problem
from lakebase_operator.api.postgres_role import IdentityType
from lakebase_operator.api.reasons import Reason
from lakebase_operator.api.user_mapping import CreateRole, MappingMode
from lakebase_operator.domain.errors import InvalidError, LakebaseError
from lakebase_operator.domain.people import People, RoleNames, fold, resolve_mapping
from lakebase_operator.domain.plan import Actor
from lakebase_operator.domain.role_statements import role_options
from lakebase_operator.domain.roles import Step, creation, declared_options, state_as_made
from lakebase_operator.external.postgres.grants import create_ledger, log_changes
from lakebase_operator.external.postgres.ledger import (
    creation_note,
    forget_roles,
    read_role_records,
    write_role_records,
)
from lakebase_operator.external.postgres.roles import Preflight, read_memberships
from lakebase_operator.external.postgres.session import Connection
from lakebase_operator.reconcilers.known_roles import Roles
from lakebase_operator.reconcilers.report import Report
from lakebase_operator.reconcilers.role_changes import RoleChanges
from lakebase_operator.reconcilers.role_execution import RoleStatements, resource_name
from lakebase_operator.reconcilers.view import View, is_deleting

__all__ = ["Roles", "RolesStep", "may_create", "missing_role"]


@dataclass(slots=True)
class RolesStep:
    """Carries out what is declared about roles, in the home database."""

    connection: Connection
    preflight: Preflight
    owner: str
    report: Report
    dry: bool = False
    """Change nothing; note what would be executed."""
    approved: frozenset[str] | None = None
    """Execute nothing but these statements; None: anything."""
    statements: RoleStatements = field(init=False)

    def __post_init__(self) -> None:
        self.statements = RoleStatements(
            self.connection, self.preflight.role, self.preflight.superuser, self.dry, self.approved
        )

    @property
    def executed(self) -> list[tuple[str, str, str]]:
        """For the change log: resources, statement, result."""
        return self.statements.executed

    async def run(self, view: View) -> Roles:
        """Create and alter roles; a failure stays with the object that it belongs to."""
        declared = self._without_conflicts(role for role in view.roles if not is_deleting(role))
        mappings = [mapping for mapping in view.mappings if not is_deleting(mapping)]
        needed = bool(declared or any(may_create(mapping) for mapping in mappings)) and not self.dry
        if needed and not self.preflight.ledger:
            await create_ledger(self.connection)
            self.preflight = replace(self.preflight, ledger=True)
        roles = await Roles.read(self.connection)
        records = dict(await read_role_records(self.connection, self.owner)) if self.preflight.ledger else {}
        names = frozenset(role.role_name for role in declared)
        leaving = {role.role_name for role in view.roles if is_deleting(role)} - names
        forgotten = [oid for oid in records if (name := roles.name_of(oid)) is None or name in leaving]
        if not self.dry:
            await forget_roles(self.connection, self.owner, forgotten)
        created = await self._create_missing(declared, mappings, roles, view.key.namespace)
        if created is not None:
            roles = as_if_made(roles, created, declared) if self.dry else await Roles.read(self.connection)
        roles.edges = await read_memberships(self.connection) if view.roles else ()
        changes = RoleChanges(self.statements, roles, self.report, *self._scope(view))
        changed = await changes.run(declared, records, created or frozenset())
        roles.declared = names
        if self.dry:
            return roles
        await write_role_records(self.connection, self.owner, changed)
        if self.preflight.ledger:
            await log_changes(self.connection, self.owner, self.executed)
        return roles

    def _scope(self, view: View) -> tuple[UnmanagedGrants, Sequence[str]]:
        """What the connection says of undeclared things, and its databases."""
        if view.connection is None:
            return UnmanagedGrants(), (self.preflight.database,)
        return view.connection.spec.unmanaged_grants, view.connection.spec.databases

    def _without_conflicts(self, declared: Iterable[PostgresRole]) -> Sequence[PostgresRole]:
        """Of several objects for one role the oldest holds (the view is ordered by age)."""
        winners: dict[str, PostgresRole] = {}
        for role in declared:
            if problem := role_name_problem(role.role_name):
                self.report.stalled(
                    role,
                    Reason.RESERVED_NAME,
                    f'spec.roleName: "{role.role_name}" {problem}. Choose another name.',
                )
            elif (winner := winners.setdefault(role.role_name, role)) is not role:
                self.report.stalled(
                    role,
                    Reason.CONFLICTING_DECLARATIONS,
                    f'The role "{role.role_name}" is declared by PostgresRole '
                    f"{winner.metadata.namespace}/{winner.metadata.name} already. Delete one of them.",
                )
        return tuple(winners.values())

    # -- creating ------------------------------------------------------------------------------------------------

    async def _create_missing(
        self, declared: Sequence[PostgresRole], mappings: Sequence[UserMapping], roles: Roles, home: str
    ) -> frozenset[str] | None:
        """Names of the roles that were made; None if nothing was missing, so nothing was tried."""
        created: set[str] = set()
        tried = False
        for role in declared:
            if role.role_name in roles.states:
                continue
            tried = True
            identity = role.spec.identity.type if role.spec.identity else None
            if await self._create(role, role.role_name, identity, declared_options(role.spec)):
                created.add(role.role_name)
        names = RoleNames((*roles.states, *created))
        missing = [(mapping, name) for mapping in mappings if (name := missing_role(mapping, names))]
        people = People(home, mappings if missing else (), names)
        made: set[str] = set()
        for mapping, name in missing:
            if fold(name) in made or not people.decides(mapping):
                continue
            tried = True
            identity = mapping.spec.identity_type if self.preflight.is_lakebase else None
            options = role_options(login=True) if identity is None else ()
            if await self._create(mapping, name, identity, options):
                created.add(name)
                made.add(fold(name))  # the next mapping may differ in case only
        return frozenset(created) if tried else None

    async def _create(
        self,
        subject: PostgresRole | UserMapping,
        name: str,
        identity: IdentityType | None,
        options: Sequence[sql.Composable],
    ) -> bool:
        """Whether the role was made here; somebody else may be faster, and what theirs is like is seen next."""
        resource = resource_name(subject)
        made = False
        try:
            schema = await self._databricks_auth(name) if identity else None
            for step in creation(name, identity=identity, options=options, auth_schema=schema):
                first_of_its_own = not made and isinstance(subject, PostgresRole)
                note = creation_note(self.owner, name, resource) if first_of_its_own else None
                await self.statements.execute(step, resource, note=note)
                made = True
        except LakebaseError as error:
            if error.reason is not Reason.ROLE_EXISTS:
                self.report.failed(subject, error)
        return made

    async def _databricks_auth(self, name: str) -> str:
        """Schema of the extension that makes roles for identities, installed where it is missing."""
        if self.preflight.databricks_auth is None:
            if not self.preflight.is_lakebase:
                raise InvalidError(
                    Reason.INVALID_SPEC,
                    f'spec.identity: "{name}" cannot be a Databricks identity here, since this server is not a Lakebase. '
                    "Leave identity out.",
                )
            step = Step(
                sql.SQL("CREATE EXTENSION IF NOT EXISTS databricks_auth SCHEMA public").format(),
                "installing databricks_auth",
            )
            await self.statements.execute(step, "")
            self.preflight = replace(self.preflight, databricks_auth="public")
        assert self.preflight.databricks_auth is not None
        return self.preflight.databricks_auth


LAST_OID = 2**32 - 1


def as_if_made(roles: Roles, made: Iterable[str], declared: Iterable[PostgresRole]) -> Roles:
    """The roles as they would be: those that a plan makes get OIDs that no role has."""
    specs = {role.role_name: role.spec for role in declared}
    states = dict(roles.states)
    for number, name in enumerate(sorted(made)):
        oid = LAST_OID - number
        actor = Actor(oid, name, inherits=False, can_set=False, admin=True, is_operator=False)
        states[name] = state_as_made(name, specs.get(name), actor)
    return Roles(states)


def may_create(mapping: UserMapping) -> bool:
    """Whether a mapping makes its role where it is missing."""
    return mapping.spec.mapping is not MappingMode.NONE and mapping.spec.create_role is not CreateRole.NEVER


def missing_role(mapping: UserMapping, names: RoleNames) -> str | None:
    """The role that a mapping wants made, or None."""
    if not may_create(mapping):
        return None
    found = resolve_mapping(mapping, names)
    return found.wanted if found.state is Reason.NOT_FOUND else None
