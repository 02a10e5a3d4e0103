"""Logins with a password on a real server, with Secrets in memory, so that a process can be ended between any two steps."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import psycopg

from lakebase_operator.api import LakebaseConnection, PostgresRole
from lakebase_operator.api.base import ObjectMeta
from lakebase_operator.api.lakebase_connection import TLSMode
from lakebase_operator.engine.observer import NullObserver
from lakebase_operator.external.databricks import RoleApi
from lakebase_operator.external.kube.objects import Secret
from lakebase_operator.external.postgres.roles import preflight
from lakebase_operator.external.postgres.session import Connection, Server
from lakebase_operator.reconcilers.deletion import RoleDrop
from lakebase_operator.reconcilers.logins import LoginsStep
from lakebase_operator.reconcilers.made_passwords import MadePasswords
from lakebase_operator.reconcilers.platform_schema import PlatformSchemaStep
from lakebase_operator.reconcilers.report import Report, Saying
from lakebase_operator.reconcilers.role_conclusions import conclude_roles
from lakebase_operator.reconcilers.roles import Roles, RolesStep
from lakebase_operator.reconcilers.view import View, is_deleting
from tests.postgres import objects
from tests.postgres.world import KEY, NOW, World

HOST = "db.example.com"


class EndedError(Exception):
    """The process ended here."""


class Cluster:
    """Secrets by name."""

    def __init__(self) -> None:
        self.secrets: dict[str, Secret] = {}
        self.seen: list[dict[str, bytes]] = []
        """Every state that a Secret was in, in order."""
        self._version = 0

    async def read_secret(self, namespace: str, name: str) -> Secret | None:
        del namespace
        return self.secrets.get(name)

    async def apply_secret(
        self,
        kind: str,
        owner: ObjectMeta,
        name: str,
        data: Mapping[str, bytes],
        *,
        secret_type: str,
        annotations: Mapping[str, str],
        version: str | None,
    ) -> None:
        assert (kind, secret_type) == ("PostgresRole", "servicebinding.io/postgresql")
        before = self.secrets.get(name)
        assert (before.resource_version if before else None) == version
        self._version += 1
        self.secrets[name] = Secret(
            owner.namespace, name, str(self._version), dict(data), dict(annotations), frozenset({owner.uid})
        )
        self.seen.append(dict(data))

    def put(self, name: str, **values: str) -> None:
        """A Secret that a person makes."""
        self._version += 1
        data = {key: value.encode() for key, value in values.items()}
        self.secrets[name] = Secret(objects.NAMESPACE, name, str(self._version), data)


@dataclass
class Logins:
    """The steps about roles and logins, as a pass has them."""

    world: World
    cluster: Cluster = field(default_factory=Cluster)
    now: datetime = NOW
    hidden: set[str] = field(default_factory=set)
    report: Report = field(default_factory=Report)
    deadlines: list[datetime] = field(default_factory=list)
    planned: list[str] = field(default_factory=list)
    host: str = HOST
    port: int = 5432
    databricks: RoleApi | None = None
    operations: dict[str, str] = field(default_factory=dict)
    ca_file: str | None = None
    steps_left: int | None = None
    """After so many writes to the cluster or the server the process ends."""

    async def sync(self, *roles: PostgresRole, dry: bool = False) -> Saying:
        """One pass over what is declared; returns what was said of the first."""
        self.report, self.deadlines = Report(), []
        connection = objects.connection(databases=[self.world.database])
        view = View(KEY, connection, roles, (), (), (), ())
        async with self.world.session() as home:
            found = await preflight(home)
            step = RolesStep(home, found, str(KEY), self.report, dry=dry)
            with self._ending(step):
                known = await step.run(view)
            schemas = PlatformSchemaStep(
                self.world.database,
                [self.world.database],
                home,
                step.preflight,
                str(KEY),
                known,
                self.report,
                dry=dry,
            )
            await schemas.run(())
            logins = LoginsStep(
                self.cluster,
                self.now,
                self.hidden.add,
                connection,
                str(KEY),
                home,
                self.server,
                replace(step.statements, executed=[]),
                known,
                self.report,
                step.preflight.ledger,
                self.deadlines,
                MadePasswords(self.databricks, self.operations, NullObserver()),
            )
            with self._ending(logins):
                await logins.run()
            await self.after_logins(connection, home, known, logins)
            conclude_roles(known, [self.world.database], {}, self.report)
            executed = (*schemas.executed, *logins.statements.executed)
            self.planned = [text for _, text, _ in executed] if dry else []
            access, databases = self.world.access(), [self.world.database]
            drop = RoleDrop(access, home, found.role, known, self.report, databases, str(KEY))
            for role in roles:
                if is_deleting(role):
                    assert await drop.run(role)
        (first,) = [one for one in self.report.said() if one.subject is roles[0]] or [Saying(roles[0])]
        return first

    @property
    def server(self) -> Server:
        """Where applications find the database."""
        return Server(self.host, self.port, TLSMode.VERIFY_FULL, self.ca_file)

    async def after_logins(
        self, connection: LakebaseConnection, home: Connection, known: Roles, step: LoginsStep
    ) -> None:
        """What follows in a pass."""

    @contextmanager
    def _ending(self, step: Any) -> Iterator[None]:
        """Count the writes of a step, and end it when there are none left."""
        execute, apply = step.statements.execute, self.cluster.apply_secret

        def count() -> None:
            if self.steps_left is not None:
                if self.steps_left == 0:
                    raise EndedError
                self.steps_left -= 1

        class Counting:
            def __init__(self, inner: Any) -> None:
                self.__dict__["inner"] = inner

            def __getattr__(self, name: str) -> Any:
                return getattr(self.inner, name)

            async def execute(self, *arguments: Any, **named: Any) -> None:
                count()
                await execute(*arguments, **named)

        async def applied(*arguments: Any, **named: Any) -> None:
            count()
            await apply(*arguments, **named)

        statements = step.statements
        step.statements = Counting(statements)
        self.cluster.apply_secret = applied  # type: ignore[method-assign]  # a seam for faults
        try:
            yield
        finally:
            step.statements = statements
            self.cluster.apply_secret = apply  # type: ignore[method-assign]

    # -- applications --------------------------------------------------------------------------------------------

    def published(self, role: PostgresRole) -> dict[str, str]:
        """What the Secret holds."""
        return {key: value.decode() for key, value in self.cluster.secrets[role.secret_name].values.items()}

    async def works(self, user: str, password: str) -> bool:
        """Whether the password is taken, over TCP."""
        try:
            async with await self.world.server.connect(self.world.database, user=user, password=password):
                return True
        except psycopg.OperationalError as error:
            if re.search("password authentication failed|not permitted to log in", str(error)):
                return False
            raise

    async def client(self, data: Mapping[str, bytes]) -> bool:
        """Whether an application gets in that has read this state of the Secret."""
        return await self.works(data["username"].decode(), data["password"].decode())

    async def names(self, role: PostgresRole) -> Sequence[str]:
        """Roles that can log in for a role, itself included."""
        rows = await self.world.rows(
            "SELECT rolname FROM pg_roles WHERE rolcanlogin AND rolname LIKE %s ORDER BY 1",
            role.role_name + "%",
        )
        return [name for (name,) in rows]
