"""The databases that the operator is tried on: a simulated workspace, and a database of its own for each test."""

import secrets
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql

from lakebase_sandbox.postgres import PROJECT_OWNER, IdentityKind
from lakebase_sandbox.postgres.lakebase import create_identity_role
from lakebase_sandbox.simulator import AutoscalingTarget, LakebaseSimulator, ProvisionedTarget
from lakebase_sandbox.simulator.directory import Entry
from lakebase_sandbox.simulator.permissions import INSTANCES, PROJECTS, Level
from lakebase_sandbox.simulator.target import Target
from tests.cluster.kube import Body, Namespace
from tests.cluster.manifests import grant, manifest, role

SAMPLE = """
CREATE SCHEMA sales;
CREATE TABLE sales.orders (id serial PRIMARY KEY, total int);
CREATE TABLE sales.items (id int);
CREATE VIEW sales.totals AS SELECT sum(total) FROM sales.orders;
"""


@dataclass
class Database:
    """A database with a little in it, as its owner and as the superuser see it."""

    target: Target
    name: str
    admin: psycopg.AsyncConnection[Any]

    @property
    def analysts(self) -> str:
        """A name for a role that no other test uses: roles belong to the whole server."""
        return f"analysts_{self.name}"

    async def run(self, statement: str | sql.Composed, *parameters: Any) -> list[tuple[Any, ...]]:
        """Run a statement as the superuser."""
        cursor = await self.admin.execute(statement, parameters or None)
        return await cursor.fetchall() if cursor.description else []

    async def value(self, statement: str, *parameters: Any) -> Any:
        """The first column of the first row."""
        return (await self.run(statement, *parameters))[0][0]

    async def run_as_owner(self, statement: str) -> None:
        """Run statements as the owner of the project, as a person would."""
        async with self.admin.transaction():
            await self.admin.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(PROJECT_OWNER.name)))
            await self.admin.execute(statement)

    async def take(self, role: str, table: str = "sales.orders") -> None:
        """Take everything on a table from a role by hand, whoever gave it."""
        grantors = await self.run(
            "SELECT DISTINCT a.grantor::regrole::text FROM pg_class, aclexplode(relacl) a"
            " WHERE oid = %s::regclass AND a.grantee = %s::regrole",
            table,
            f'"{role}"',
        )
        for (grantor,) in grantors:
            async with self.admin.transaction():
                await self.admin.execute(f"SET LOCAL ROLE {grantor}")
                await self.admin.execute(f'REVOKE ALL ON {table} FROM "{role}"')

    async def may(self, role: str, privilege: str, table: str = "sales.orders") -> bool:
        """Whether a role exists and holds a privilege on a table, itself."""
        rows = await self.run(
            "SELECT has_table_privilege(oid, %s, %s) FROM pg_roles WHERE rolname = %s", table, privilege, role
        )
        return bool(rows and rows[0][0])

    async def acl(self) -> dict[tuple[str, str, str], bool]:
        """Everything that is granted on schemas, tables and the database itself: (object, grantee, privilege)."""
        rows = await self.run(
            """
            SELECT o.name, coalesce(r.rolname, 'PUBLIC'), a.privilege_type, a.is_grantable
            FROM (
                SELECT c.oid::regclass::text, c.relacl FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                 WHERE n.nspname = 'sales'
                UNION ALL SELECT nspname, nspacl FROM pg_namespace WHERE nspname = 'sales'
                UNION ALL SELECT datname, datacl FROM pg_database WHERE datname = current_database()
            ) AS o (name, acl), aclexplode(o.acl) AS a LEFT JOIN pg_roles r ON r.oid = a.grantee
            """
        )
        return {(name, grantee, privilege): grantable for name, grantee, privilege, grantable in rows}

    async def held(self) -> int:
        """Privileges that the ledger counts as the operator's, per object, grantee and privilege."""
        return int(
            await self.value("SELECT coalesce(sum(cardinality(grantees)), 0) FROM lakebase_operator.held")
        )

    async def log(self) -> list[tuple[str, str, str]]:
        """The change log: resources, statement, result."""
        if not await self.value("SELECT to_regclass('lakebase_operator.change_log') IS NOT NULL"):
            return []
        return [
            (str(a), str(b), str(c))
            for a, b, c in await self.run(
                "SELECT resources, statement, result FROM lakebase_operator.change_log ORDER BY id"
            )
        ]

    async def operator_pids(self) -> Sequence[int]:
        """Server processes of the operator's sessions, in any database."""
        return [
            pid
            for (pid,) in await self.run(
                "SELECT pid FROM pg_stat_activity WHERE application_name = 'lakebase-operator'"
            )
        ]


@dataclass
class Lab:
    """The workspace of the session."""

    simulator: LakebaseSimulator
    change_logs: list[str] = field(default_factory=list)
    """What the change logs of databases said that are gone."""
    passwords: list[str] = field(default_factory=list)
    """Of native logins that were made."""
    tokens: list[str] = field(default_factory=list)
    """All tokens that were issued."""
    _databases: list[Database] = field(default_factory=list)

    def note_tokens(self) -> None:
        """From now on remember every token that is issued."""
        issuer = self.simulator.workspace.issuer
        issue = issuer._issue

        def noting(*arguments: Any, **claims: Any) -> Any:
            issued = issue(*arguments, **claims)
            self.tokens.append(issued.token)
            return issued

        issuer._issue = noting  # type: ignore[method-assign]

    @property
    def operator(self) -> str:
        """The operator's role in every target."""
        return self.simulator.client_id

    async def database(self, target: str = "autoscaling", name: str | None = None) -> Database:
        """A new database, made as Lakebase's API makes them, with a schema ``sales`` of the project's owner."""
        found = self.simulator.target(target)
        name = name or f"db_{secrets.token_hex(4)}"
        await found.server.create_lakebase_database(name, PROJECT_OWNER.name)
        database = Database(found, name, await found.server.connect(name))
        self._databases.append(database)
        await database.run_as_owner(SAMPLE)
        return database

    def identity(self, user: str) -> None:
        """Make a person known in the workspace."""
        self.simulator.add_identity(IdentityKind.USER, user)

    async def principal(
        self, target: str, *, role: bool = True, attributes: Sequence[str] = ("CREATEROLE",)
    ) -> Entry:
        """A new service principal with the operator's rights on a target, in Databricks and (``role``) in Postgres."""
        workspace = self.simulator.workspace
        entry = self.simulator.add_identity(IdentityKind.SERVICE_PRINCIPAL, str(uuid.uuid4()))
        match self.simulator.target(target).settings:
            case AutoscalingTarget(project=project):
                workspace.access.grant(PROJECTS, project, entry, Level.CAN_MANAGE)
            case ProvisionedTarget(instance=instance):
                workspace.access.grant(INSTANCES, instance, entry, Level.CAN_MANAGE)
        if role:
            await self.login_role(target, entry, attributes)
        return entry

    async def login_role(
        self, target: str, entry: Entry, attributes: Sequence[str] = ("CREATEROLE",)
    ) -> None:
        """The Postgres role of an identity, as an administrator makes it for an operator."""
        async with await self.simulator.target(target).server.connect("postgres") as connection:
            await create_identity_role(connection, entry.identity, attributes, superuser_member=True)

    async def native_login(self, database: Database, user: str, attributes: str = "CREATEROLE") -> str:
        """A login with a password that may do the operator's work in a database; returns the password."""
        password = secrets.token_urlsafe(24)
        self.passwords.append(password)
        name = sql.Identifier(user)
        await database.run(
            sql.SQL("CREATE ROLE {} LOGIN {} PASSWORD {}").format(
                name, sql.SQL(attributes), sql.Literal(password)
            )
        )
        await database.run(
            sql.SQL("GRANT databricks_superuser TO {} WITH INHERIT TRUE, SET FALSE").format(name)
        )
        return password

    async def connection(
        self,
        there: Namespace,
        *databases: Database,
        name: str = "marketing",
        principal: Entry | None = None,
        **spec: Any,
    ) -> Body:
        """A LakebaseConnection with OAuth for databases of one target. Its Secrets are made too."""
        client_id, client_secret = self.simulator.client_id, self.simulator.client_secret
        if principal is not None:
            client_id, client_secret = principal.identity.name, principal.secret or ""
        await there.secret(f"{name}-sp", clientSecret=client_secret)
        await there.secret("ca", **{"ca.crt": self.simulator.ca_file.read_text()})
        settings = databases[0].target.settings
        target = (
            {"autoscaling": {"project": settings.project}}
            if databases[0].target.is_autoscaling
            else {"provisioned": {"instance": settings.instance}}
        )
        return manifest(
            "LakebaseConnection",
            name,
            {
                "workspaceURL": self.simulator.workspace_url,
                "target": target,
                "port": databases[0].target.port,
                "databases": [one.name for one in databases],
                "auth": {
                    "oauthM2M": {
                        "clientID": client_id,
                        "clientSecretRef": {"name": f"{name}-sp", "key": "clientSecret"},
                    }
                },
                "tls": {"caRef": {"name": "ca", "key": "ca.crt"}},
                "drift": {"interval": "1h"},
                **spec,
            },
        )

    async def settled(
        self, there: Namespace, *, target: str = "autoscaling", interval: str = "1h", **spec: Any
    ) -> Database:
        """A database with a connection ``marketing``, a role ``analysts`` and a grant ``readers``, all of them ready."""
        sales = await self.database(target)
        await there.apply(
            await self.connection(there, sales, drift={"interval": interval}, **spec),
            role("analysts", roleName=sales.analysts),
            grant("readers", sales.analysts, database=sales.name),
        )
        await there.ready("LakebaseConnection/marketing", "PostgresRole/analysts", "AccessGrant/readers")
        assert await sales.may(sales.analysts, "SELECT")
        return sales

    async def native_connection(
        self,
        there: Namespace,
        database: Database,
        user: str,
        password: str,
        *,
        name: str = "marketing",
        **spec: Any,
    ) -> Body:
        """A LakebaseConnection for a server with a password."""
        await there.secret(f"{name}-login", username=user, password=password)
        await there.secret("ca", **{"ca.crt": self.simulator.ca_file.read_text()})
        return manifest(
            "LakebaseConnection",
            name,
            {
                "target": {"server": {"host": "localhost"}},
                "port": database.target.port,
                "databases": [database.name],
                "auth": {"password": {"secretRef": {"name": f"{name}-login"}}},
                "tls": {"caRef": {"name": "ca", "key": "ca.crt"}},
                "drift": {"interval": "1h"},
                **spec,
            },
        )

    async def reset(self) -> None:
        """Leave the workspace as it was, without the databases of the test."""
        await self.simulator.clear_faults()
        for target in self.simulator.targets.values():
            given = target.settings.enable_pg_native_login
            if target.enable_pg_native_login != given:
                self.simulator.set_native_login(target.name, enabled=given)
            await self.simulator.set_state(target.name, "ACTIVE" if target.is_autoscaling else "AVAILABLE")
        for database in self._databases:
            if database.admin.closed:
                database.admin = await database.target.server.connect(database.name)
            self.change_logs += [statement for _, statement, _ in await database.log()]
            await database.admin.close()
            drop = sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(database.name))
            await database.target.execute(drop)
        self._databases.clear()
