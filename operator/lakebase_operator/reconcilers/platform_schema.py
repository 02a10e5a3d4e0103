"""Platform schemas of one database: looked at, made, handed over. After the roles, before the logins that publish them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import psycopg

from lakebase_operator.api import AccessGrant, PostgresRole
from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.errors import LakebaseError
from lakebase_operator.domain.memberships import loan
from lakebase_operator.domain.ownership import OwnedClass, OwnedSelector
from lakebase_operator.domain.passwords import login_names
from lakebase_operator.domain.platform_schema import (
    Action,
    FoundSchema,
    Unfit,
    claimed_by_another,
    claims,
    create_schema,
    data_schemas,
    judge,
)
from lakebase_operator.domain.roles import Issue
from lakebase_operator.external.postgres.errors import query_error
from lakebase_operator.external.postgres.grants import create_ledger, exclusive, log_changes
from lakebase_operator.external.postgres.platform_schemas import (
    forget_made,
    made_note,
    read_made,
    read_platform_schemas,
)
from lakebase_operator.external.postgres.retries import while_others_change
from lakebase_operator.external.postgres.roles import Preflight
from lakebase_operator.external.postgres.session import Connection
from lakebase_operator.reconcilers.known_roles import Roles, RoleTally
from lakebase_operator.reconcilers.ownership import OwnershipStep, Wanted
from lakebase_operator.reconcilers.report import Report
from lakebase_operator.reconcilers.role_conclusions import tell_left
from lakebase_operator.reconcilers.role_execution import PLANNED, resource_name

FIELD = "spec.platformSchema"


def roles_with_platform_schema(
    roles: Roles, database: str, databases: Sequence[str]
) -> Mapping[str, RoleTally]:
    """Roles whose platform schema is in a database, by name."""
    return {
        name: tally
        for name, tally in roles.tallies.items()
        if tally.role.spec.platform_schema is not None and tally.role.platform_database(databases) == database
    }


@dataclass(slots=True)
class PlatformSchemaStep:
    """Carries out what is declared of the platform schemas of one database."""

    database: str
    databases: Sequence[str]
    """The connection's, the home first."""
    connection: Connection
    preflight: Preflight
    owner: str
    """Name of the connection in the ledger."""
    roles: Roles
    report: Report
    dry: bool = False
    """Only note what would be executed."""
    approved: frozenset[str] | None = None
    """Nothing but these statements may be executed; None: anything."""
    executed: list[tuple[str, str, str]] = field(default_factory=list)
    """For the change log: resources, statement, result. Of a dry run, what would be executed."""
    fit: set[str] = field(default_factory=set, init=False)
    """Schemas that are what they are to be."""

    async def run(self, grants: Sequence[AccessGrant]) -> frozenset[str]:
        """Returns the schemas that are fit, which rules with patterns are to leave alone. What is wrong is told of its role.

        Parameters
        ----------
        grants
            All AccessGrants of the connection that declare something.

        Raises
        ------
        LakebaseError
            The database cannot be read.
        """
        wanted = roles_with_platform_schema(self.roles, self.database, self.databases)
        if not wanted:
            return frozenset()
        if not self.preflight.ledger and not self.dry:
            await create_ledger(self.connection)
        found = await self._read(wanted, ledger=self.preflight.ledger or not self.dry)
        declared = [tally.role for tally in self.roles.tallies.values()]
        data = data_schemas(grants, declared, self.database, self.databases)
        claimed = claims(declared, self.database, self.databases)
        handing_over: list[Wanted] = []
        self.fit.clear()
        for name, tally in wanted.items():
            schema, role = _schema_of(tally.role), self.roles.states[name]
            taken = data.get(schema) or claimed_by_another(tally.role, claimed.get(schema, ()))
            match judge(schema, role.oid, found.get(schema), taken):
                case Unfit(why):
                    self._tell_unfit(tally, why)
                    continue
                case Action.CREATE:
                    if not await self._create(tally):
                        continue
                case Action.HAND_OVER:
                    selector = OwnedSelector(OwnedClass.SCHEMA, None, (schema,), (), ())
                    handing_over.append(Wanted(selector, role, tally))
                    continue
            self._fit(tally, made=schema not in found or found[schema].made)
        if handing_over:
            await self._hand_over(handing_over, found)
        if not self.dry:
            await log_changes(self.connection, self.owner, self.executed)
        return frozenset(self.fit)

    async def _read(self, wanted: Mapping[str, RoleTally], *, ledger: bool) -> Mapping[str, FoundSchema]:
        owners: dict[str, set[int]] = {}
        for name, tally in wanted.items():
            password = tally.role.spec.password
            names = {name, *(login_names(name, password) if password is not None else ())}
            schema = _schema_of(tally.role)
            owners.setdefault(schema, set()).update(
                self.roles.oids[one] for one in names & self.roles.oids.keys()
            )
        try:
            made = await read_made(self.connection, self.owner) if ledger else frozenset()
            return await read_platform_schemas(self.connection, owners, made)
        except psycopg.Error as error:
            raise query_error(error, doing=f"reading schemas in {self.database}") from error

    # -- making and handing over ---------------------------------------------------------------------------------

    async def _create(self, tally: RoleTally) -> bool:
        """Whether the schema is there now, or would be."""
        role, schema = tally.role, _schema_of(tally.role)
        statement = create_schema(schema, role.role_name)
        text, resource = statement.as_string(None), resource_name(role)
        actor = self.roles.states[role.role_name].actor
        may_become = self.preflight.superuser or actor.is_operator or actor.can_set
        if not may_become and not actor.admin:
            fix = (
                f'The operator can make it for "{role.role_name}" only with ADMIN option on that role. '
                f"Somebody who has it must run: {text}"
            )
            self._tell(tally, Reason.NOT_ROLE_ADMIN, fix)
            return False
        if self.dry:
            self.executed.append((resource, text, PLANNED))
            return True
        if self.approved is not None and text not in self.approved:
            message = f"{FIELD}: the approved plan does not have it; it is shown anew."
            tally.blame(Reason.PLANNED, message, waits=True)
            return False
        me = self.roles.states[self.preflight.role]
        everybody = self.roles.everybody(superuser=self.preflight.superuser)
        state = self.roles.states[role.role_name]
        lent = None if may_become else loan(state, me, self.roles.edges, everybody, set_=True)
        try:
            async for attempt in while_others_change(first=0.05, longest=1):
                with attempt:
                    async with exclusive(self.connection):
                        if lent is not None:
                            await self.connection.execute(lent[0])
                        await self.connection.execute(statement)
                        await self.connection.execute(made_note(self.owner, schema, resource))
                        await forget_made(self.connection, self.owner)
                        if lent is not None:
                            await self.connection.execute(lent[1])
        except psycopg.Error as error:
            self.executed.append((resource, text, error.sqlstate or "failed"))
            failure = query_error(error, doing=f"making schema {schema} in {self.database}")
            if self.connection.closed:
                raise failure from error
            fix = f"{failure.message} The statement: {text}"
            tally.note([Issue(f"schema {schema}", failure.reason, fix)])
            tally.failed(failure)
            return False
        self.executed.append((resource, text, "ok"))
        return True

    async def _hand_over(self, wanted: Sequence[Wanted], found: Mapping[str, FoundSchema]) -> None:
        step = OwnershipStep(
            self.database,
            self.connection,
            self.preflight,
            self.owner,
            self.roles,
            dry=self.dry,
            approved=self.approved,
            declared_in=FIELD,
            executed=self.executed,
        )
        _, owned = await step.hand_over(wanted, home=False)
        for one in wanted:
            schema = _schema_of(one.tally.role)
            if owned.get(one.owner.oid) or (self.dry and one.tally.worst is None):
                self._fit(one.tally, made=found[schema].made)

    # -- telling -------------------------------------------------------------------------------------------------

    def _fit(self, tally: RoleTally, *, made: bool) -> None:
        schema = _schema_of(tally.role)
        tally.platform_schema = schema
        self.fit.add(schema)
        if self.dry:
            return
        before = tally.role.status.platform_schema
        if before is not None and (before.name, before.database) != (schema, self.database):
            tell_left(tally.role, before, self.report)
        status = {"name": schema, "database": self.database, "created": made}
        self.report.fields(tally.role, {"platformSchema": status})

    def _tell_unfit(self, tally: RoleTally, why: str) -> None:
        schema = _schema_of(tally.role)
        _keep_published(tally)
        fix = (
            f'"{schema}" in {self.database} cannot be the application\'s own schema: {why}. Nothing has been changed: name another '
            "schema, one that is empty or does not exist."
        )
        self._tell(tally, Reason.PLATFORM_SCHEMA_IS_DATA_SCHEMA, fix)

    def _tell(self, tally: RoleTally, reason: Reason, fix: str) -> None:
        tally.note([Issue(f"schema {_schema_of(tally.role)}", reason, fix)])
        tally.blame(reason, f"{FIELD}: {fix}")


def _schema_of(role: PostgresRole) -> str:
    assert role.spec.platform_schema is not None, "only roles that have one are looked at"
    return role.spec.platform_schema.name


def keep_known(roles: Roles, databases: Sequence[str], database: str, error: LakebaseError) -> None:
    """A database cannot be looked at: what was known of its platform schemas stays, and the roles say why."""
    for tally in roles_with_platform_schema(roles, database, databases).values():
        _keep_published(tally)
        tally.failed(error)


def _keep_published(tally: RoleTally) -> None:
    """A schema that was fit goes on being published: a login that works is not broken by what others declare."""
    known = tally.role.status.platform_schema
    if known is not None and known.name == _schema_of(tally.role):
        tally.platform_schema = known.name
