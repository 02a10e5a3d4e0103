"""Roles: those that PostgresRoles declare and those that UserMappings need. Before grants, never in their transaction."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import psycopg
from psycopg import sql
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from lakebase_operator.api import PostgresRole, UserMapping
from lakebase_operator.api.names import role_name_problem
from lakebase_operator.api.postgres_role import IdentityType
from lakebase_operator.api.reasons import Reason
from lakebase_operator.api.user_mapping import CreateRole, MappingMode
from lakebase_operator.domain.errors import InvalidError, LakebaseError
from lakebase_operator.domain.people import People, RoleNames, fold, resolve_mapping
from lakebase_operator.domain.plan import Actor
from lakebase_operator.domain.roles import (
    IDENTITY_NAMES,
    Edge,
    MembershipPlan,
    RoleRecord,
    RoleState,
    Step,
    alteration,
    creation,
    declared_options,
    membership_change,
    settings_change,
)
from lakebase_operator.domain.statements import role_options
from lakebase_operator.external.postgres.errors import is_concurrent_update, query_error
from lakebase_operator.external.postgres.grants import create_ledger, log_changes
from lakebase_operator.external.postgres.ledger import (
    creation_note,
    forget_roles,
    read_role_records,
    write_role_records,
)
from lakebase_operator.external.postgres.roles import Preflight, read_memberships, read_roles
from lakebase_operator.external.postgres.session import Connection
from lakebase_operator.reconcilers.report import Report
from lakebase_operator.reconcilers.view import View, is_deleting


@dataclass(slots=True)
class Roles:
    """The roles of the server during a pass."""

    states: dict[str, RoleState]
    by_oid: dict[int, RoleState] = field(init=False)
    oids: dict[str, int] = field(init=False)
    actors: dict[int, Actor] = field(init=False)
    """What the operator may do with each."""
    declared: frozenset[str] = frozenset()
    """Names of those that a PostgresRole declares which is not being deleted."""

    def __post_init__(self) -> None:
        self.by_oid = {state.oid: state for state in self.states.values()}
        self.oids = {name: state.oid for name, state in self.states.items()}
        self.actors = {state.oid: state.actor for state in self.states.values()}

    @classmethod
    async def read(cls, connection: Connection) -> "Roles":
        """All roles, in one statement."""
        return cls({state.name: state for state in await read_roles(connection)})

    @property
    def names(self) -> RoleNames:
        """To find people by."""
        return RoleNames(self.states)

    def name_of(self, oid: int) -> str | None:
        """Name by OID; 0 is PUBLIC."""
        if oid == 0:
            return "PUBLIC"
        state = self.by_oid.get(oid)
        return state.name if state else None


@dataclass(slots=True)
class RolesStep:
    """Carries out what is declared about roles, in the home database."""

    connection: Connection
    preflight: Preflight
    owner: str
    report: Report
    executed: list[tuple[str, str, str]] = field(default_factory=list)
    """For the change log: resources, statement, result."""

    async def run(self, view: View) -> Roles:
        """Create and alter roles; a failure stays with the object that it belongs to."""
        declared = self._without_conflicts(role for role in view.roles if not is_deleting(role))
        mappings = [mapping for mapping in view.mappings if not is_deleting(mapping)]
        if (declared or any(may_create(mapping) for mapping in mappings)) and not self.preflight.ledger:
            await create_ledger(self.connection)
            self.preflight = replace(self.preflight, ledger=True)
        roles = await Roles.read(self.connection)
        records = dict(await read_role_records(self.connection, self.owner)) if self.preflight.ledger else {}
        names = frozenset(role.role_name for role in declared)
        leaving = {role.role_name for role in view.roles if is_deleting(role)} - names
        forgotten = [oid for oid in records if (name := roles.name_of(oid)) is None or name in leaving]
        await forget_roles(self.connection, self.owner, forgotten)
        created = await self._create_missing(declared, mappings, roles, view.key.namespace)
        if created is not None:
            roles = await Roles.read(self.connection)
        await self._make_as_declared(declared, roles, records, created or frozenset())
        roles.declared = names
        if self.preflight.ledger:
            await log_changes(self.connection, self.owner, self.executed)
        return roles

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
                await self._execute(step, resource, note=note)
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
            await self._execute(step, "")
            self.preflight = replace(self.preflight, databricks_auth="public")
        assert self.preflight.databricks_auth is not None
        return self.preflight.databricks_auth

    # -- altering ------------------------------------------------------------------------------------------------

    async def _make_as_declared(
        self,
        declared: Sequence[PostgresRole],
        roles: Roles,
        records: Mapping[int, RoleRecord],
        created: frozenset[str],
    ) -> None:
        pending = [role for role in declared if role not in self.report and role.role_name in roles.states]
        oids = [roles.states[role.role_name].oid for role in pending]
        edges = await read_memberships(self.connection, oids) if oids else ()
        edges_of: dict[int, list[Edge]] = defaultdict(list)
        for edge in edges:
            edges_of[edge.member].append(edge)
        changed: list[RoleRecord] = []
        for role in pending:
            state = roles.states[role.role_name]
            before = records.get(state.oid)
            record = await self._make_one_as_declared(
                role, state, before, edges_of[state.oid], roles, created
            )
            if record is not None and record != before:
                changed.append(record)
        await write_role_records(self.connection, self.owner, changed)

    async def _make_one_as_declared(
        self,
        role: PostgresRole,
        state: RoleState,
        before: RoleRecord | None,
        edges: Sequence[Edge],
        roles: Roles,
        created: frozenset[str],
    ) -> RoleRecord | None:
        """Returns what the ledger is to say of the role; None: nothing, since it is not taken over."""
        spec, resource = role.spec, resource_name(role)
        made = state.name in created or (before is not None and before.created)
        record = before or RoleRecord(state.oid, resource, made)
        self.report.fields(role, {"roleName": state.name, "oid": state.oid, "created": made})
        if not spec.adopt and not made:
            self.report.stalled(
                role,
                Reason.ROLE_EXISTS,
                f'The role "{state.name}" exists already and spec.adopt is false. Set adopt, or choose another name.',
            )
            return before
        wanted_identity = IDENTITY_NAMES[spec.identity.type] if spec.identity else None
        if wanted_identity is not None and state.identity != wanted_identity:
            self.report.stalled(
                role,
                Reason.IDENTITY_MISMATCH,
                f'The role "{state.name}" exists as {state.identity or "a plain role"}, not as {wanted_identity}, so '
                "OAuth logins of this identity fail. Drop the role; it is then made anew.",
            )
            return before
        memberships = membership_change(
            spec,
            state,
            edges,
            record.memberships,
            roles.states.get,
            roles.by_oid.get,
            superuser=self.preflight.superuser,
        )
        alterations = [
            *alteration(spec, state),
            *settings_change(state.name, spec.settings, state.settings, record.settings),
        ]
        try:
            if alterations and not (state.actor.admin or self.preflight.superuser or state.actor.is_operator):
                raise not_admin(state.name, alterations)
            for step in (*alterations, *memberships.steps):
                await self._execute(step, resource)
        except LakebaseError as error:
            self.report.failed(role, error)
            # Some steps may have been taken: what they brought about is ours, and known to be.
            return RoleRecord(
                state.oid,
                resource,
                made,
                tuple(sorted({*record.memberships, *memberships.ours})),
                tuple(sorted({*record.settings, *spec.settings})),
            )
        record = RoleRecord(state.oid, resource, made, memberships.ours, tuple(sorted(spec.settings)))
        self.report.fields(
            role,
            {
                "memberOf": [name for oid in memberships.ours if (name := roles.name_of(oid))],
                "settings": sorted(spec.settings),
                "dependencies": [],
            },
        )
        self._conclude(role, state, memberships)
        return record

    def _conclude(self, role: PostgresRole, state: RoleState, memberships: MembershipPlan) -> None:
        if memberships.missing_roles:
            names = ", ".join(memberships.missing_roles)
            self.report.waiting(
                role,
                Reason.ROLE_MISSING,
                f"spec.memberOf: there is no role {names} yet. It is looked for at every sync.",
            )
        elif memberships.not_admin:
            name = memberships.not_admin[0]
            self.report.stalled(
                role,
                Reason.NOT_ROLE_ADMIN,
                f'The operator has no ADMIN option on the role "{name}". Somebody who has it must run: '
                f'GRANT "{name}" TO "{state.name}"; or GRANT "{name}" TO "{self.preflight.role}" WITH ADMIN OPTION.',
            )
        else:
            self.report.ready(role, Reason.SUCCEEDED, f'The role "{state.name}" is as declared.')

    # -- executing -----------------------------------------------------------------------------------------------

    async def _execute(self, step: Step, resource: str, *, note: sql.Composable | None = None) -> None:
        """Run one statement in a transaction of its own; concurrent changes by others are waited out.

        Parameters
        ----------
        note
            What the ledger is to remember, so that a process that ends right after it knows its own role again. It is
            sent in one message with the statement, which makes the two one transaction.

        Raises
        ------
        LakebaseError
            The database refuses it.
        """
        text = step.statement.as_string(None)
        statement = step.statement if note is None else sql.SQL("{}; {}").format(step.statement, note)
        try:
            async for attempt in AsyncRetrying(
                retry=retry_if_exception(
                    lambda error: isinstance(error, psycopg.Error) and is_concurrent_update(error)
                ),
                stop=stop_after_attempt(5),
                wait=wait_random_exponential(multiplier=0.05, max=1),
                reraise=True,
            ):
                with attempt:
                    await self.connection.execute(statement)
        except psycopg.Error as error:
            self.executed.append((resource, text, error.sqlstate or "failed"))
            raise _role_error(error, step) from error
        self.executed.append((resource, text, "ok"))


def may_create(mapping: UserMapping) -> bool:
    """Whether a mapping makes its role where it is missing."""
    return mapping.spec.mapping is not MappingMode.NONE and mapping.spec.create_role is not CreateRole.NEVER


def missing_role(mapping: UserMapping, names: RoleNames) -> str | None:
    """The role that a mapping wants made, or None."""
    if not may_create(mapping):
        return None
    found = resolve_mapping(mapping, names)
    return found.wanted if found.state is Reason.NOT_FOUND else None


def not_admin(name: str, steps: Sequence[Step]) -> InvalidError:
    """The operator did not make this role, and PostgreSQL 16 lets only those with ADMIN option alter it."""
    statements = "; ".join(step.statement.as_string(None) for step in steps)
    return InvalidError(
        Reason.NOT_ROLE_ADMIN,
        f'The role "{name}" was made by somebody else, and the operator has no ADMIN option on it. '
        f"Somebody who has it must run: {statements}",
    )


def resource_name(subject: PostgresRole | UserMapping) -> str:
    """As the ledger and the change log name an object."""
    return f"{subject.kind_name}/{subject.metadata.namespace}/{subject.metadata.name}@{subject.metadata.generation}"


def _role_error(error: psycopg.Error, step: Step) -> LakebaseError:
    text = error.diag.message_primary or ""
    if error.sqlstate == "42710":
        return InvalidError(Reason.ROLE_EXISTS, f"{step.doing}: the role exists already.")
    if error.sqlstate == "22023" and "Identity not found" in text:
        return InvalidError(
            Reason.IDENTITY_NOT_FOUND,
            f"{step.doing}: Databricks knows no identity of this kind and name. Check the spelling, and that it is in "
            "this workspace.",
        )
    if error.sqlstate in _USERS_TO_CHANGE or text.startswith("unrecognized configuration parameter"):
        return InvalidError(Reason.INVALID_SPEC, f"{step.doing[:1].upper()}{step.doing[1:]} failed: {text}.")
    return query_error(error, doing=step.doing)


_USERS_TO_CHANGE = frozenset({"0LP01", "22023", "2BP01"})
"""A membership that would be a circle; a value that a parameter cannot have; ADMIN that somebody has used."""
