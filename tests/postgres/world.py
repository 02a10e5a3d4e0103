"""One database of a real server with the operator's own steps at work on it, without Kubernetes."""

import re
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg import sql

from lakebase_operator.api import AccessGrant, PostgresRole, Reason, UserMapping
from lakebase_operator.api.lakebase_connection import DriftAction, TLSMode
from lakebase_operator.domain.instance import Instance, InstanceState
from lakebase_operator.domain.status import Verdict
from lakebase_operator.engine.catalog import Catalog
from lakebase_operator.engine.keys import ConnectionKey
from lakebase_operator.engine.observer import NullObserver
from lakebase_operator.external.databricks import RoleApi
from lakebase_operator.external.postgres.roles import Preflight, preflight
from lakebase_operator.external.postgres.session import Connection, Server, Timeouts
from lakebase_operator.reconcilers.access import Access, PasswordLogin
from lakebase_operator.reconcilers.declared import declare
from lakebase_operator.reconcilers.deletion import RoleDrop
from lakebase_operator.reconcilers.exposing import ExposingStep
from lakebase_operator.reconcilers.grants import GrantsStep, Policy, Remembered
from lakebase_operator.reconcilers.ownership import OwnershipStep
from lakebase_operator.reconcilers.people import MappingResults, resolve
from lakebase_operator.reconcilers.platform_schema import PlatformSchemaStep
from lakebase_operator.reconcilers.report import Report, Saying, Subject
from lakebase_operator.reconcilers.role_conclusions import conclude_roles
from lakebase_operator.reconcilers.role_level import LevelStep
from lakebase_operator.reconcilers.roles import Roles, RolesStep
from lakebase_operator.reconcilers.tally import DatabaseResult, Tally
from lakebase_operator.reconcilers.verdicts import conclude, unsupported
from lakebase_operator.reconcilers.view import View, is_deleting
from lakebase_sandbox.postgres import PostgresServer
from tests.postgres import objects
from tests.postgres.config_maps import ConfigMaps

NOW = datetime(2026, 1, 15, 12, 0, tzinfo=UTC)
KEY = ConnectionKey(objects.NAMESPACE, "marketing")

Declaration = AccessGrant | PostgresRole | UserMapping


@dataclass(slots=True)
class Synced:
    """What one pass did and said."""

    report: Report
    tallies: Mapping[str, Tally]
    roles: Roles
    results: Sequence[DatabaseResult]
    dropped: Mapping[str, bool]
    """By role name, of the PostgresRoles being deleted: whether their object may go."""
    statements: Sequence[str]
    """What the server logged of the operator's sessions in the meantime."""

    def of(self, subject: Subject) -> Saying:
        """What was said of one object."""
        (found,) = [one for one in self.report.said() if one.subject is subject]
        return found

    def said(self, subject: Subject) -> tuple[Verdict | None, Reason]:
        """Verdict and reason."""
        one = self.of(subject)
        return one.verdict, one.reason

    def issues(self, grant: AccessGrant) -> list[dict[str, str]]:
        """``status.issues``."""
        return self.tallies[grant.metadata.uid].issues

    @property
    def writes(self) -> list[str]:
        """Statements that change something."""
        return [text for text in self.statements if WRITING.match(text)]

    @property
    def changes(self) -> list[str]:
        """GRANT and REVOKE on objects, those on the ledger left out."""
        return [
            text
            for text in self.statements
            if re.match(r"(GRANT|REVOKE) .* ON ", text, re.DOTALL) and " lakebase_operator" not in text
        ]


WRITING = re.compile(
    r"\s*(GRANT|REVOKE|CREATE|ALTER|DROP|INSERT|UPDATE|DELETE|REASSIGN|TRUNCATE|SELECT.*databricks_create_role"
    r"|WITH.*(INSERT INTO|DELETE FROM))",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class WatchedAccess(Access):
    """An access whose sessions somebody may meddle with."""

    on_open: Callable[[Connection], None] | None = None

    async def open(self, database: str) -> Connection:
        connection = await Access.open(self, database)
        if self.on_open is not None:
            self.on_open(connection)
        return connection


READY = Verdict.READY
WAITING = Verdict.RECONCILING
STALLED = Verdict.STALLED


@dataclass(slots=True)
class World:
    """A fresh database; names of roles are made unique, since roles belong to the whole server."""

    server: PostgresServer
    database: str
    operator: str
    prepared: bool
    """Set up like Lakebase."""
    stack: AsyncExitStack
    admin: psycopg.AsyncConnection[Any]
    """The bootstrap superuser."""
    tag: str = field(default_factory=lambda: uuid.uuid4().hex[:8])
    databases: list[str] = field(init=False)
    """All that this test has made."""
    lock_timeout: float = 10.0
    on_open: Callable[[Connection], None] | None = None
    """Gets each session of the operator when it is opened."""
    role_api: RoleApi | None = None
    """The Databricks API's roles; None: the operator has none to ask."""
    operations: dict[str, str] = field(default_factory=dict)
    """Changes of roles that are under way there."""
    deadlines: list[datetime] = field(default_factory=list)
    """Moments at which the last pass wants another."""
    remembered: dict[str, dict[str, Remembered]] = field(default_factory=dict, repr=False)
    """By owner: what the operator remembers from pass to pass."""

    config_maps: ConfigMaps = field(default_factory=ConfigMaps)
    """Of the cluster."""

    def __post_init__(self) -> None:
        self.databases = [self.database]

    @property
    def version(self) -> int:
        return self.server.version

    def name(self, text: str) -> str:
        """A role name that no other test uses."""
        return f"{text}_{self.tag}"

    # -- what others do ---------------------------------------------------------------------------------------------

    async def run(self, *statements: str, **names: str) -> None:
        """Run statements as the bootstrap superuser; ``{name}`` in them is quoted."""
        await run(self.admin, *statements, **names)

    async def role(self, text: str, options: str = "LOGIN") -> str:
        """A role that somebody else made."""
        name = self.name(text)
        await self.run(f"CREATE ROLE {{name}} {options}", name=name)
        return name

    async def owned_role(self, text: str, options: str = "LOGIN") -> str:
        """A role that the operator made: it has ADMIN option on it."""
        name = self.name(text)
        async with self.session() as connection:
            await run(connection, f"CREATE ROLE {{name}} {options}", name=name)
        return name

    async def another_database(self) -> str:
        """A further database of the same server."""
        name = await new_database(self.server, prepared=self.prepared, operator=self.operator)
        self.databases.append(name)
        return name

    @asynccontextmanager
    async def login(
        self, role: str, database: str | None = None
    ) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """A real login as a role."""
        async with await self.server.connect(database or self.database, user=role) as connection:
            yield connection

    async def allowed(self, role: str, statement: str, database: str | None = None) -> bool:
        """Log in as a role and try a statement, leaving nothing behind."""
        async with self.login(role, database) as connection:
            try:
                async with connection.transaction(force_rollback=True):
                    await connection.execute(statement.encode())
            except psycopg.errors.InsufficientPrivilege:
                return False
        return True

    # -- what is there ----------------------------------------------------------------------------------------------

    async def value(self, query: str, *parameters: Any, database: str | None = None) -> Any:
        """The first column of the first row, as the bootstrap superuser sees it."""
        rows = await self.rows(query, *parameters, database=database)
        return rows[0][0] if rows else None

    async def rows(self, query: str, *parameters: Any, database: str | None = None) -> list[tuple[Any, ...]]:
        """All rows."""
        if database in (None, self.database) and not self.admin.closed:
            return await (await self.admin.execute(query.encode(), parameters or None)).fetchall()
        async with await self.server.connect(database or self.database) as connection:
            return await (await connection.execute(query.encode(), parameters or None)).fetchall()

    async def acl(self, name: str, grantee: str | None = None, database: str | None = None) -> set[str]:
        """Privileges of a grantee (None: PUBLIC) on a relation, such as ``sales.orders``, whoever granted them."""
        return {
            row[0]
            for row in await self.rows(
                "SELECT x.privilege_type FROM pg_class c,"
                " aclexplode(COALESCE(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::\"char\", c.relowner))) x"
                " WHERE c.oid = %s::regclass AND x.grantee = CASE WHEN %s::text IS NULL THEN 0"
                " ELSE (SELECT oid FROM pg_roles WHERE rolname = %s) END",
                name,
                grantee,
                grantee,
                database=database,
            )
        }

    async def grantors(self, name: str, grantee: str) -> set[tuple[str, str]]:
        """(privilege, grantor) of a grantee on a relation."""
        return {
            (privilege, grantor)
            for privilege, grantor in await self.rows(
                "SELECT x.privilege_type, pg_get_userbyid(x.grantor) FROM pg_class c, aclexplode(c.relacl) x"
                " WHERE c.oid = %s::regclass AND pg_get_userbyid(x.grantee) = %s",
                name,
                grantee,
            )
        }

    async def schema_acl(self, schema: str, grantee: str | None) -> set[str]:
        """Privileges of a grantee on a schema."""
        return {
            row[0]
            for row in await self.rows(
                "SELECT x.privilege_type FROM pg_namespace n, aclexplode(COALESCE(n.nspacl, acldefault('n', n.nspowner))) x"
                " WHERE n.nspname = %s AND x.grantee = CASE WHEN %s::text IS NULL THEN 0"
                " ELSE (SELECT oid FROM pg_roles WHERE rolname = %s) END",
                schema,
                grantee,
                grantee,
            )
        }

    async def database_acl(self, grantee: str | None, database: str | None = None) -> set[str]:
        """Privileges of a grantee on the database."""
        return {
            row[0]
            for row in await self.rows(
                "SELECT x.privilege_type FROM pg_database d, aclexplode(COALESCE(d.datacl, acldefault('d', d.datdba))) x"
                " WHERE d.datname = %s AND x.grantee = CASE WHEN %s::text IS NULL THEN 0"
                " ELSE (SELECT oid FROM pg_roles WHERE rolname = %s) END",
                database or self.database,
                grantee,
                grantee,
            )
        }

    async def ledger(self, database: str | None = None) -> set[tuple[str, str, str, str]]:
        """(owner, class, privilege, grantee) of every privilege in the ledger."""
        return set(
            await self.rows(
                "SELECT connection, class, privilege, CASE g WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(g)::text END"
                " FROM lakebase_operator.held, unnest(grantees) AS g",
                database=database,
            )
        )

    async def change_log(self) -> list[tuple[str, str, str]]:
        """(resources, statement, result), in order."""
        rows = await self.rows(
            "SELECT resources, statement, result FROM lakebase_operator.change_log ORDER BY id"
        )
        return [(resources, statement, result) for resources, statement, result in rows]

    # -- what the operator does -------------------------------------------------------------------------------------

    def access(self) -> Access:
        """The operator's way into the server: its Unix socket, where a login counts as one with OAuth."""
        host = str(self.server.socket_directory)
        return WatchedAccess(
            PasswordLogin(self.operator, "", host),
            Server(host, self.server.port, TLSMode.REQUIRE, None, Timeouts(lock=self.lock_timeout)),
            Instance(InstanceState.AVAILABLE, host),
            on_open=self.on_open,
        )

    @asynccontextmanager
    async def session(self, database: str | None = None) -> AsyncIterator[Connection]:
        """A session of the operator, with all the settings that it gives itself."""
        async with self.access().session(database or self.database) as connection:
            yield connection

    async def preflight(self, database: str | None = None) -> Preflight:
        async with self.session(database) as connection:
            return await preflight(connection)

    async def sync(
        self,
        *declarations: Declaration,
        databases: Sequence[str] = (),
        drift: DriftAction = DriftAction.REPAIR,
        now: datetime = NOW,
        owner: str = str(KEY),
        may_revoke: bool = True,
        policy: Policy | None = None,
        focus: frozenset[str] | None = None,
    ) -> Synced:
        """One pass over everything that is declared: roles, people, the grants of each database, dropped roles.

        Parameters
        ----------
        declarations
            All that there is; what is left out is not declared any more.
        databases
            Of the connection, the home first; by default the one of this test.
        policy
            Instead of ``drift``.
        focus
            Look only at what these roles hold.
        """
        names, policy = tuple(databases) or (self.database,), policy or Policy(drift)
        view = View(
            KEY,
            objects.connection(databases=list(names), unmanaged_grants=policy.unmanaged),
            tuple(one for one in declarations if isinstance(one, PostgresRole)),
            tuple(one for one in declarations if isinstance(one, UserMapping)),
            tuple(one for one in declarations if isinstance(one, AccessGrant)),
            (),
            (),
        )
        report, access, log = Report(), self.access(), self.log_position()
        results: list[DatabaseResult] = []
        async with access.session(names[0]) as home:
            found = await preflight(home)
            step = RolesStep(home, found, owner, report)
            roles = await step.run(view)
            self.deadlines.clear()
            level = LevelStep(
                self.role_api,
                owner,
                replace(step.statements, executed=[]),
                roles,
                self.operations,
                now,
                self.deadlines,
                NullObserver(),
            )
            await level.run()
            people = resolve(view, roles, MappingResults(Catalog()), report)
            declared = [declare(one, people, roles, found.major_version, now) for one in view.grants]
            tallies = {item.grant.metadata.uid: Tally() for item in declared}
            for item in declared:
                unsupported(item.grant, found.major_version, tallies[item.grant.metadata.uid])
            exposing = ExposingStep(self.config_maps, owner, names, roles, report, self.config_maps.status)
            for name in names:
                async with AsyncExitStack() as stack:
                    session, here = home, step.preflight
                    if name != names[0]:
                        session = await stack.enter_async_context(access.session(name))
                        here = await preflight(session)
                    is_home = name == names[0]
                    schemas = PlatformSchemaStep(name, names, session, here, owner, roles, report)
                    own = await schemas.run([one for one in view.grants if not is_deleting(one)])
                    await OwnershipStep(name, session, here, owner, roles, platform=own).run(home=is_home)
                    grants = GrantsStep(
                        name,
                        session,
                        here,
                        owner,
                        roles,
                        policy,
                        tallies,
                        may_revoke=may_revoke,
                        others=[one for one in names if one != name],
                        platform=own,
                        remembered=self.remembered.setdefault(owner, {}),
                    )
                    results.append(await grants.run(declared, home=is_home, focus=focus))
                    await exposing.look(name, session)
            for item in declared:
                if not is_deleting(item.grant):
                    conclude(item, tallies[item.grant.metadata.uid], now, report)
            await exposing.show({})
            conclude_roles(roles, names, {}, report)
            drop = RoleDrop(access, home, found.role, roles, report, names, owner)
            dropped = {one.role_name: await drop.run(one) for one in view.roles if is_deleting(one)}
        return Synced(report, tallies, roles, results, dropped, self.logged(log, names))

    # -- the server's log -------------------------------------------------------------------------------------------

    def log_position(self) -> int:
        """Where the server's log ends now."""
        return self.server.log_path.stat().st_size

    def logged(self, position: int, databases: Sequence[str] = ()) -> list[str]:
        """Statements of the operator since then, in order, those of its sessions' setup left out."""
        entries = self.log_entries(position, r"(?:statement|execute [^:]*): ", databases)
        texts = (" ".join(re.sub(r"--[^\n]*", "", text).split()) for text in entries)
        return [text for text in texts if "set_config" not in text]

    def errors(self) -> list[str]:
        """What the server refused the operator in this database."""
        return self.log_entries(0, "", level="ERROR")

    def log_entries(
        self, position: int, what: str, databases: Sequence[str] = (), level: str = "LOG"
    ) -> list[str]:
        """Entries of the log about the operator in the given databases, each without its prefix."""
        with self.server.log_path.open("rb") as log:
            log.seek(position)
            text = log.read().decode(errors="replace")
        sessions = "|".join(re.escape(f"{self.operator}@{one}") for one in databases or (self.database,))
        entry = re.compile(rf"\S+ \S+ \S+ \[\d+\] (?:{sessions}) {level}:  {what}(.*)", re.DOTALL)
        lines = re.split(r"\n(?=\d{4}-\d\d-\d\d \d\d:)", text)
        return [match[1].strip() for line in lines if (match := entry.match(line))]


async def run(connection: psycopg.AsyncConnection[Any], *statements: str, **names: str) -> None:
    """Run statements; ``{name}`` in them is quoted."""
    identifiers = {key: sql.Identifier(value) for key, value in names.items()}
    for statement in statements:
        await connection.execute(sql.SQL(statement).format(**identifiers))


async def new_database(server: PostgresServer, *, prepared: bool, operator: str) -> str:
    """A fresh database."""
    name = f"d_{uuid.uuid4().hex[:10]}"
    owner = server.superuser
    if prepared:
        await server.create_lakebase_database(name, owner)
    else:
        async with await server.connect() as connection:
            await run(connection, "CREATE DATABASE {name} STRATEGY FILE_COPY", name=name)
            await run(
                connection, "GRANT CREATE ON DATABASE {name} TO {operator}", name=name, operator=operator
            )
    return name


@asynccontextmanager
async def new_world(
    server: PostgresServer, *, prepared: bool, operator: str, lock_timeout: float = 10.0
) -> AsyncIterator[World]:
    """A fresh database on a running server."""
    database = await new_database(server, prepared=prepared, operator=operator)
    async with AsyncExitStack() as stack:
        admin = await stack.enter_async_context(await server.connect(database))
        world = World(server, database, operator, prepared, stack, admin, lock_timeout=lock_timeout)
        yield world
    await forget(world)


async def forget(world: World) -> None:
    """Drop what a test has made: every pass reads all roles of the server, so that each test would slow down the next."""
    async with await world.server.connect() as connection:
        for database in world.databases:
            await run(connection, "DROP DATABASE IF EXISTS {name} WITH (FORCE)", name=database)
        cursor = await connection.execute(
            "SELECT rolname FROM pg_roles WHERE rolname LIKE %s", [f"%{world.tag}%"]
        )
        for (role,) in await cursor.fetchall():
            # What another test's database still holds on to stays.
            with suppress(psycopg.errors.DependentObjectsStillExist, psycopg.errors.UndefinedObject):
                await run(connection, "DROP ROLE {name}", name=role)
