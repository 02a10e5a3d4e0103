"""Logins with their connection test, on a real server behind TLS, with statuses in memory."""

import ssl
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import trustme

from lakebase_operator.api import LakebaseConnection, PostgresRole
from lakebase_operator.domain.status import complete
from lakebase_operator.engine.catalog import key_of
from lakebase_operator.engine.keys import ObjectKey
from lakebase_operator.engine.observer import NullObserver
from lakebase_operator.external.postgres.session import Connection
from lakebase_operator.reconcilers.access import Access
from lakebase_operator.reconcilers.connection_test import ConnectionTests
from lakebase_operator.reconcilers.context import Context
from lakebase_operator.reconcilers.logins import LoginsStep
from lakebase_operator.reconcilers.report import Saying
from lakebase_operator.reconcilers.roles import Roles
from lakebase_sandbox.gateway import Admission, Backend, Gateway, Refusal
from tests.postgres.logins import Logins
from tests.postgres.world import KEY, World

Entry = dict[str, str]


@dataclass
class Doorman:
    """Lets every password be judged by the server, unless it is told what to say instead."""

    says: Refusal | None = None
    asked: list[str] = field(default_factory=list)
    """Who came."""

    async def admit(self, user: str, password: str) -> Admission:
        self.asked.append(user)
        if self.says is not None:
            raise self.says
        return Admission(user, password=password)

    def session_started(self, pid: int, admission: Admission) -> None:
        pass

    def session_ended(self, pid: int) -> None:
        pass


@dataclass
class Steps(NullObserver):
    """Counts steps by how they went."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)

    def connection_test(self, step: str, result: str) -> None:
        self.counts[step, result] += 1


@dataclass
class TestedLogins(Logins):
    """The steps about roles, logins and their tests, as a pass has them."""

    __test__ = False

    doorman: Doorman = field(default_factory=Doorman)
    gateway: Gateway = field(kw_only=True)
    statuses: dict[ObjectKey, dict[str, Any]] = field(default_factory=dict)
    """As they were last written."""
    writes: int = 0
    observer: Steps = field(default_factory=Steps)
    native_login: bool | None = None
    """What the control plane says."""
    connection_spec: dict[str, Any] = field(default_factory=dict)
    asked: bool = False
    """Somebody asks for a look at everything at once."""
    meddle: Any = None
    """Awaited between the logins and their tests."""

    async def after_logins(
        self, connection: LakebaseConnection, home: Connection, known: Roles, step: LoginsStep
    ) -> None:
        if self.meddle is not None:
            await self.meddle()
        connection = connection.model_copy(
            update={"spec": connection.spec.model_copy(update=self.connection_spec)}
        )
        services = SimpleNamespace(
            catalog=SimpleNamespace(status=lambda key: self.statuses.get(key, {})),
            clock=SimpleNamespace(now=lambda: self.now),
            observer=self.observer,
            settings=SimpleNamespace(retry_base_seconds=1.0, retry_cap_seconds=300.0),
        )
        context = cast(
            Context,
            SimpleNamespace(
                services=services,
                report=self.report,
                deadlines=self.deadlines,
                view=SimpleNamespace(key=KEY),
                asked_now=lambda _: self.asked,
            ),
        )
        access = self.world.access()
        tested = Access(cast(Any, _Login(self.native_login)), replace(self.server), access.instance)
        await ConnectionTests(context, connection, tested, home, known, step.published, dry=step.dry).run()

    async def sync(self, *roles: PostgresRole, dry: bool = False) -> Saying:
        saying = await Logins.sync(self, *roles, dry=dry)
        for one in self.report.said():
            key = key_of(one.subject)
            previous = self.statuses.get(key, {})
            status = complete(
                one.status(previous),
                previous=previous,
                generation=one.subject.metadata.generation,
                now=self.now,
            )
            self.writes += status != previous
            self.statuses[key] = status
        return saying

    def status(self, role: PostgresRole) -> dict[str, Any]:
        """As it is now."""
        return self.statuses[key_of(role)]

    def test(self, role: PostgresRole) -> dict[str, tuple[str, str]]:
        """Result and reason by step."""
        return {one["step"]: (one["result"], one["reason"]) for one in self.status(role)["test"]}

    def entry(self, role: PostgresRole, step: str) -> Entry:
        """One step."""
        (found,) = [one for one in self.status(role)["test"] if one["step"] == step]
        return dict(found)

    def condition(self, role: PostgresRole, kind: str = "ConnectionTested") -> tuple[str, str]:
        """Status and reason of a condition."""
        (found,) = [one for one in self.status(role)["conditions"] if one["type"] == kind]
        return found["status"], found["reason"]

    @property
    def next_at(self) -> datetime:
        """When the pass wants to come again."""
        return min(one for one in self.deadlines if one > self.now)


@dataclass
class _Login:
    """A control plane that knows one thing."""

    enabled: bool | None

    async def native_login(self) -> bool | None:
        return self.enabled


@asynccontextmanager
async def logins_behind_tls(world: World, directory: Path) -> AsyncIterator[TestedLogins]:
    """Logins to a server behind a gateway that speaks TLS."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    ca_file = directory / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    doorman = Doorman()
    backend = Backend(world.server.socket_directory, world.server.port)
    gateway = Gateway(tls=context, backend=backend, doorman=doorman)
    gateway.open()
    try:
        yield TestedLogins(
            world,
            host="localhost",
            port=gateway.port,
            ca_file=str(ca_file),
            doorman=doorman,
            gateway=gateway,
        )
    finally:
        await gateway.shut_down()
