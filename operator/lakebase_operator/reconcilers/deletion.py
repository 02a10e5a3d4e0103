"""Letting objects go: grants are revoked by the pass itself, since they declare nothing any more; roles are dropped here.

Never a finalizer that hangs without a reason in status, and never an object that goes with its access still there unless
somebody asked for it.
"""

from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass

import psycopg
from psycopg import sql

from lakebase_operator.api import PostgresRole
from lakebase_operator.api.names import role_name_problem
from lakebase_operator.api.postgres_role import (
    Logins,
    Password,
    PlatformSchemaDeletionPolicy,
    PlatformSchemaStatus,
    RoleDeletionPolicy,
)
from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.errors import LakebaseError
from lakebase_operator.domain.memberships import loan
from lakebase_operator.domain.ownership import OwnedClass, OwnedSelector
from lakebase_operator.domain.passwords import login_names
from lakebase_operator.domain.plan import Acting
from lakebase_operator.domain.platform_schema import drop_schema
from lakebase_operator.domain.role_statements import (
    RESET_ROLE,
    alter_role,
    drop_role,
    role_options,
    set_local_role,
)
from lakebase_operator.domain.roles import RoleState
from lakebase_operator.external.postgres.errors import query_error, words
from lakebase_operator.external.postgres.grants import exclusive
from lakebase_operator.external.postgres.logins import read_given
from lakebase_operator.external.postgres.ownership import read_ownership
from lakebase_operator.external.postgres.platform_schemas import (
    depends_on_schema,
    foreign_in_schema,
    read_made,
    read_platform_schemas,
)
from lakebase_operator.external.postgres.queries import query
from lakebase_operator.external.postgres.roles import preflight
from lakebase_operator.external.postgres.session import Connection
from lakebase_operator.reconcilers.access import Access
from lakebase_operator.reconcilers.login_roles import logs_in_for
from lakebase_operator.reconcilers.report import Report
from lakebase_operator.reconcilers.roles import Roles


@dataclass(slots=True)
class RoleDrop:
    """Drops roles: in every database that depends on them, then for good."""

    access: Access
    home: Connection
    operator_role: str
    roles: Roles
    report: Report
    databases: Sequence[str]
    """The connection's, the home first."""
    owner: str
    """As the ledger calls the connection."""

    async def run(self, role: PostgresRole) -> bool:
        """Drop what a PostgresRole that is being deleted says: its schema, its role. Returns whether that is done."""
        return await self._drop_platform_schema(role) and await self._run(role)

    async def _run(self, role: PostgresRole) -> bool:
        state = self.roles.states.get(role.role_name)
        if state is None or not self.would_drop(role):
            return True
        if state.actor.is_operator:
            self.report.stalled(
                role,
                Reason.NOT_ROLE_ADMIN,
                f'The operator is logged in as "{state.name}", so it cannot drop it. Set deletionPolicy: Retain.',
            )
            return False
        heir = role.spec.reassign_owned_to
        if heir is not None and heir not in self.roles.states:
            self.report.waiting(
                role,
                Reason.ROLE_MISSING,
                f'spec.reassignOwnedTo: there is no role "{heir}". Make it, or name another.',
            )
            return False
        if not state.actor.admin:
            self.report.stalled(
                role,
                Reason.NOT_ROLE_ADMIN,
                f'The role "{state.name}" was made by somebody else, so the operator cannot drop it. '
                f'Somebody with ADMIN option on it must run: DROP ROLE "{state.name}"; or set deletionPolicy: Retain.',
            )
            return False
        try:
            await self._drop(role, state)
        except psycopg.errors.DependentObjectsStillExist as error:
            await self._blocked(role, state, error)
            return False
        except psycopg.Error as error:
            self.report.failed(role, query_error(error, doing=f"dropping role {state.name}"))
            return False
        except LakebaseError as error:
            self.report.failed(role, error)
            return False
        return True

    def would_drop(self, role: PostgresRole) -> bool:
        """Whether deleting the object drops the role. It does not where another PostgresRole declares the role, where it
        never was anybody's to declare, and where it was there before and refused."""
        return (
            role.role_name in self.roles.states
            and role.spec.deletion_policy is RoleDeletionPolicy.DROP
            and role.role_name not in self.roles.declared
            and role_name_problem(role.role_name) is None
            and (role.spec.adopt or bool(role.status.created))
        )

    async def _drop(self, role: PostgresRole, state: RoleState) -> None:
        for login in await self._logins(role):
            await self._drop_one(role, login)
        await self._drop_one(role, state)

    async def _logins(self, role: PostgresRole) -> Sequence[RoleState]:
        """Logins that were made to act for the role, also if no password is declared any more: they could still log in."""
        given = await read_given(self.home, self.owner) or {}
        declared = login_names(role.role_name, role.spec.password) if role.spec.password else ()
        return [
            login
            for name in login_names(role.role_name, Password(logins=Logins.TWO))
            if (login := self.roles.states.get(name)) is not None
            and (name in declared or login.oid in given)
            and logs_in_for(login, role, given)
            and name not in self.roles.declared
        ]

    async def _drop_one(self, role: PostgresRole, state: RoleState) -> None:
        # Without LOGIN and without sessions nothing new can come to depend on it.
        if state.login:
            await self.home.execute(alter_role(state.name, role_options(login=False)))
        await self._end_sessions(state)
        for database in await self._databases(state):
            async with AsyncExitStack() as stack:
                connection = self.home
                if database != self.home.info.dbname:
                    connection = await stack.enter_async_context(self.access.session(database))
                kept = self._platform_schema(role)
                kept = kept if kept is not None and kept.database == database else None
                await self._clean(connection, state, role.spec.reassign_owned_to, kept)
        await self.home.execute(drop_role(state.name))

    async def _end_sessions(self, state: RoleState) -> None:
        """Needs pg_signal_backend or membership; where the operator has neither, DROP ROLE tells of what remains."""
        try:
            await self.home.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usesysid = %s AND pid <> pg_backend_pid()",
                [state.oid],
            )
        except psycopg.errors.InsufficientPrivilege:
            return

    async def _databases(self, state: RoleState) -> Sequence[str]:
        """Databases in which something depends on the role."""
        cursor = await self.home.execute(
            "SELECT d.datname FROM pg_database d WHERE d.datallowconn AND d.oid IN"
            " (SELECT dbid FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass AND refobjid = %s)"
            " UNION SELECT current_database() ORDER BY 1",
            [state.oid],
        )
        return [row["datname"] async for row in cursor]

    async def _clean(
        self, connection: Connection, state: RoleState, heir: str | None, kept: PlatformSchemaStatus | None
    ) -> None:
        """Reassign what the role owns, then take away its privileges, in one transaction.

        REASSIGN and DROP OWNED need inherited membership; the operator gives it to itself for the transaction. DROP OWNED
        runs only where nothing is owned any more: then it drops privileges, never objects. Nor does it run where the role has passed
        something on, which it would take away from others (CASCADE): that keeps the role from being dropped.
        """
        name = state.name
        async with exclusive(connection):
            ends = []
            for begin, end in self._loans(state, heir):
                await connection.execute(begin)
                ends.append(end)
            if heir is not None:
                await self._hand_over_schemas(connection, state, heir)
                await connection.execute(
                    sql.SQL("REASSIGN OWNED BY {} TO {}").format(sql.Identifier(name), sql.Identifier(heir))
                )
            elif kept is not None:
                await self._take_over(connection, state, kept.name)
            if not await _owns_anything(connection, state.oid):
                if not await _has_passed_on(connection, state.oid):
                    await connection.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(name)))
                await self._revoke_what_is_left(connection, state)
            for end in ends:
                await connection.execute(end)

    async def _hand_over_schemas(self, connection: Connection, state: RoleState, heir: str) -> None:
        """Before what is in them: REASSIGN OWNED goes by the order in which the server remembers things, and whoever is to own what
        is in a schema must be able to create there."""
        cursor = await connection.execute(
            "SELECT nspname FROM pg_namespace WHERE nspowner = %s ORDER BY nspname", [state.oid]
        )
        for row in await cursor.fetchall():
            schema = sql.Identifier(row["nspname"])
            await connection.execute(
                sql.SQL("ALTER SCHEMA {} OWNER TO {}").format(schema, sql.Identifier(heir))
            )

    async def _take_over(self, connection: Connection, state: RoleState, schema: str) -> None:
        """A platform schema whose role goes, and that nobody is named for, becomes the operator's, with what the role has in it."""
        contents = (OwnedClass.TABLE, OwnedClass.SEQUENCE, OwnedClass.ROUTINE, OwnedClass.TYPE)
        selectors = [
            OwnedSelector(OwnedClass.SCHEMA, None, (schema,), (), ()),
            *(OwnedSelector(one, schema, (), ("%",), ()) for one in contents),
        ]
        me = self.roles.states[self.operator_role].oid
        found = await read_ownership(
            connection, [one.as_json(number, me) for number, one in enumerate(selectors)], home=False
        )
        # Its schema first: whoever is to own what is in it must be able to create there.
        for item in sorted(found.objects, key=lambda one: one.schema is not None):
            if item.owner == state.oid:
                await connection.execute(item.handover(self.operator_role))

    # -- the platform schema -------------------------------------------------------------------------------------

    def _platform_schema(self, role: PostgresRole) -> PlatformSchemaStatus | None:
        """The schema that was found fit to be the role's own, and that no other PostgresRole has."""
        wanted, known = role.spec.platform_schema, role.status.platform_schema
        if wanted is None or known is None or known.name != wanted.name:
            return None
        if known.database != role.platform_database(self.databases) or known.database not in self.databases:
            return None
        elsewhere = (
            (other.spec.platform_schema.name, other.platform_database(self.databases))
            for tally in self.roles.tallies.values()
            if (other := tally.role).spec.platform_schema is not None
        )
        return None if (known.name, known.database) in elsewhere else known

    def platform_schema_to_drop(self, role: PostgresRole) -> PlatformSchemaStatus | None:
        """The schema that goes with the object, if that is declared."""
        wanted = role.spec.platform_schema
        drop = wanted is not None and wanted.deletion_policy is PlatformSchemaDeletionPolicy.DROP
        return self._platform_schema(role) if drop else None

    async def _drop_platform_schema(self, role: PostgresRole) -> bool:
        """Returns whether it is gone, or was not to go."""
        known = self.platform_schema_to_drop(role)
        if known is None:
            return True
        try:
            async with AsyncExitStack() as stack:
                connection = self.home
                if known.database != self.home.info.dbname:
                    connection = await stack.enter_async_context(self.access.session(known.database))
                problem = await self._drop_schema(connection, role, known)
        except psycopg.Error as error:
            self.report.failed(role, query_error(error, doing=f"dropping schema {known.name}"))
            return False
        except LakebaseError as error:
            self.report.failed(role, error)
            return False
        if problem is None:
            return True
        self.report.stalled(
            role,
            Reason.PLATFORM_SCHEMA_IN_USE,
            f'The schema "{known.name}" in {known.database} is not dropped: {problem}. Take that away or elsewhere, or set '
            "platformSchema.deletionPolicy: Retain.",
        )
        return False

    async def _drop_schema(
        self, connection: Connection, role: PostgresRole, known: PlatformSchemaStatus
    ) -> str | None:
        """What is in the way, if anything is. A schema that is neither the role's nor made by the operator is left, also where one of
        this name was."""
        logins = await self._logins(role)
        states = [one for one in (self.roles.states.get(role.role_name), *logins) if one is not None]
        owners = {one.oid for one in states}
        ledger = (await preflight(connection)).ledger
        made = await read_made(connection, self.owner) if ledger else frozenset()
        found = (await read_platform_schemas(connection, {known.name: owners}, made)).get(known.name)
        if found is None or not (found.made or found.owner in owners):
            return None
        owner = self.roles.by_oid[found.owner]
        actor = owner.actor
        if not (
            self.roles.states[self.operator_role].superuser
            or actor.inherits
            or actor.is_operator
            or actor.admin
        ):
            return f'the operator cannot act for its owner "{owner.name}"'
        async with exclusive(connection):
            if foreign := await foreign_in_schema(connection, found.oid, owners):
                return f"it holds {foreign}"
            if outside := await depends_on_schema(connection, found.oid):
                return f"{', '.join(outside)} would go with it"
            lent = None if actor.inherits or actor.is_operator else self._loan(owner, inherit=True)
            if lent is not None:
                await connection.execute(lent[0])
            await connection.execute(drop_schema(known.name))
            if lent is not None:
                await connection.execute(lent[1])
        return None

    def _loans(self, state: RoleState, heir: str | None) -> Iterable[tuple[sql.Composed, sql.Composed]]:
        """Memberships for the length of the transaction: what begins and what ends each."""
        if not state.actor.inherits:
            yield self._loan(state, inherit=True)
        if heir is not None:
            target = self.roles.states[heir]
            if not (target.actor.inherits and target.actor.can_set):
                # A new owner needs SET, as ALTER … OWNER TO does; the old one does not.
                yield self._loan(target, inherit=True, set_=True)

    def _loan(
        self, role: RoleState, *, inherit: bool = False, set_: bool = False
    ) -> tuple[sql.Composed, sql.Composed]:
        me = self.roles.states[self.operator_role]
        everybody = self.roles.everybody(superuser=me.superuser)
        return loan(role, me, self.roles.edges, everybody, inherit=inherit, set_=set_)

    async def _revoke_what_is_left(self, connection: Connection, state: RoleState) -> None:
        """DROP OWNED leaves what the operator itself cannot revoke; each is revoked as its grantor where possible.

        What cannot be revoked stays, and DROP ROLE names it: also what the role has passed on.
        """
        cursor = await connection.execute(query("privileges_of"), {"role": state.oid})
        for row in await cursor.fetchall():
            if row["grantee"] != state.oid:
                continue
            statement = sql.SQL("REVOKE {} ON {} {} FROM {}").format(
                sql.SQL(row["privilege"]),
                sql.SQL(row["class"]),
                sql.SQL(row["name"]),
                sql.Identifier(state.name),
            )
            grantor = self.roles.by_oid.get(row["grantor"])
            if grantor is not None and grantor.actor.acting is not Acting.NO:
                with suppress(
                    psycopg.errors.InsufficientPrivilege, psycopg.errors.DependentObjectsStillExist
                ):
                    async with connection.transaction():  # a savepoint
                        await self._as_grantor(connection, grantor, statement)

    async def _as_grantor(self, connection: Connection, grantor: RoleState, statement: sql.Composed) -> None:
        acting = grantor.actor.acting
        if acting is Acting.ITSELF:
            await connection.execute(statement)
            return
        end: sql.Composed | None = None
        if acting is Acting.ADMIN:
            begin, end = self._loan(grantor, set_=True)
            await connection.execute(begin)
        await connection.execute(set_local_role(grantor.name))
        await connection.execute(statement)
        await connection.execute(RESET_ROLE)
        if end is not None:
            await connection.execute(end)

    async def _blocked(self, role: PostgresRole, state: RoleState, error: psycopg.Error) -> None:
        text = error.diag.message_detail or words(error)
        listed = [line.strip() for line in text.splitlines() if line.strip()]
        self.report.fields(role, {"dependencies": [line[:512] for line in listed[:20]]})
        advice = (
            "Drop, hand over or revoke what is listed in status.dependencies"
            if role.spec.reassign_owned_to
            else "Set spec.reassignOwnedTo, or drop, hand over or revoke what is listed in status.dependencies"
        )
        self.report.stalled(
            role,
            Reason.ROLE_DROP_BLOCKED,
            f'The role "{state.name}" cannot be dropped: {"; ".join(listed[:3])}. {advice}.',
        )


async def _has_passed_on(connection: Connection, role: int) -> bool:
    """Whether others hold something that the role has given."""
    cursor = await connection.execute(query("privileges_of"), {"role": role})
    return any(row["grantor"] == role != row["grantee"] for row in await cursor.fetchall())


async def _owns_anything(connection: Connection, role: int) -> bool:
    """Whether there is something to lose, here or in no database (databases and tablespaces themselves). Default privileges and user
    mappings count as the role's, but mean nothing without it; REASSIGN leaves them, DROP OWNED takes them
    (https://www.postgresql.org/docs/current/role-removal.html)."""
    cursor = await connection.execute(
        "SELECT EXISTS (SELECT FROM pg_shdepend s"
        " WHERE s.dbid IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))"
        " AND s.refclassid = 'pg_authid'::regclass AND s.refobjid = %s AND s.deptype = 'o'"
        " AND s.classid NOT IN ('pg_default_acl'::regclass, 'pg_user_mapping'::regclass)) AS owns",
        [role],
    )
    row = await cursor.fetchone()
    return bool(row and row["owns"])
