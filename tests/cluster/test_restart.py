"""A process that ends between any two steps, and the next one that goes on."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
from psycopg.pq import TransactionStatus

from lakebase_operator.external.kube.client import KubeClient
from lakebase_operator.reconcilers import access
from tests.cluster.kube import Namespace, is_ready
from tests.cluster.lab import Database, Lab
from tests.cluster.manifests import grant, mapping, role
from tests.cluster.operators import Operators

pytestmark = pytest.mark.asyncio(loop_scope="session")

_WRITE = re.compile(
    r"^(CREATE|ALTER|DROP|GRANT|REVOKE|DELETE)\b|INSERT INTO|databricks_create_role|pg_terminate_backend",
    re.IGNORECASE | re.MULTILINE,
)
MANY = {"workers": 64, "shutdown_grace_seconds": 0, "deletion_grace_seconds": 3}
THINGS = ("LakebaseConnection/marketing", "PostgresRole/analysts", "UserMapping/carol", "AccessGrant/readers")


@dataclass
class Life:
    """How far each connection comes before the process ends: the number of writes that still go out, by place."""

    left: dict[str, int] = field(default_factory=dict)
    """By namespace and by database; absent: any number."""
    written: dict[str, list[str]] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    within: set[Any] = field(default_factory=set)
    """Connections in a transaction that has been counted."""
    aliases: dict[str, str] = field(default_factory=dict)
    """From database to namespace."""

    async def before_write(self, place: str, what: str) -> None:
        """Called before each write; does not return once the process has ended."""
        place = self.aliases.get(place, place)
        self.written.setdefault(place, []).append(what)
        if place not in self.left:
            return
        if place in self.ended:
            raise asyncio.CancelledError  # whoever cleans up behind the one that waits below
        self.left[place] -= 1
        if self.left[place] < 0:
            self.ended.add(place)
            await asyncio.Event().wait()  # nothing more goes out, and no answer comes in

    def begin_anew(self) -> None:
        """The next process: nothing ends it."""
        self.left.clear()
        self.ended.clear()
        self.written.clear()
        self.within.clear()

    def instrument(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Have every write of the operator pass here: statements that change something, and requests to the API server."""
        life, connect, request = self, access.connect, KubeClient.request

        class Cursor(psycopg.AsyncCursor[Any]):
            async def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
                await self._tell(query)
                return await super().execute(query, params, **options)

            async def executemany(self, query: Any, params_seq: Any, **options: Any) -> None:
                await self._tell(query)
                await super().executemany(query, params_seq, **options)

            async def _tell(self, query: Any) -> None:
                text = (
                    query
                    if isinstance(query, str)
                    else query.decode()
                    if isinstance(query, bytes)
                    else query.as_string(None)
                )
                if not _WRITE.search(text):
                    return
                if self.connection.info.transaction_status is not TransactionStatus.INTRANS:
                    life.within.discard(self.connection)
                elif self.connection in life.within:
                    return  # inside a transaction one point is as good as another: nothing of it remains
                else:
                    life.within.add(self.connection)
                await life.before_write(self.connection.info.dbname, " ".join(text.split())[:60])

        async def connected(*arguments: Any) -> Any:
            connection = await connect(*arguments)
            connection.cursor_factory = Cursor
            return connection

        async def requested(self: KubeClient, method: str, path: str, **options: Any) -> Any:
            # Events change nothing, and are written behind a pass.
            if method != "GET" and "/namespaces/t-" in path and not path.endswith("/events"):
                await life.before_write(
                    path.split("/namespaces/")[1].split("/", maxsplit=1)[0], f"{method} {path}"
                )
            return await request(self, method, path, **options)

        monkeypatch.setattr(access, "connect", connected)
        monkeypatch.setattr(KubeClient, "request", requested)


@dataclass
class Tenant:
    """One namespace with one database and everything in it."""

    there: Namespace
    database: Database

    @property
    def person(self) -> str:
        return f"carol.{self.database.name}@example.com"

    async def declare(self, lab: Lab) -> None:
        lab.identity(self.person)
        await self.there.apply(
            await lab.connection(self.there, self.database),
            role("analysts", roleName=self.database.analysts, deletionPolicy="Drop"),
            mapping("carol", self.person),
            grant(
                "readers", self.database.analysts, self.person, database=self.database.name, access="Write"
            ),
        )

    async def delete(self) -> None:
        for thing in THINGS:
            await self.there.delete(thing)

    async def is_ready(self) -> bool:
        return all([is_ready(await self.there.get(thing)) for thing in THINGS])

    async def is_gone(self) -> bool:
        return all([await self.there.find(thing) is None for thing in THINGS])

    async def outcome(self) -> dict[str, Any]:
        """What the database holds for the two, and what the ledger says of it, without names that differ by tenant."""
        names = {self.database.analysts: "analysts", self.person: "carol", self.database.name: "database"}
        acl = await self.database.acl()
        ledger = await self.database.run("SELECT role::regrole::text, created FROM lakebase_operator.roles")
        return {
            "acl": sorted(
                (names.get(thing, thing), names[grantee], privilege)
                for thing, grantee, privilege in acl
                if grantee in names
            ),
            "held": await self.database.held(),
            "roles": sorted((names.get(name.strip('"'), name), created) for name, created in ledger),
        }


@pytest.fixture
def life(monkeypatch: pytest.MonkeyPatch) -> Life:
    """Everything that the operator writes in this test."""
    made = Life()
    made.instrument(monkeypatch)
    return made


async def test_a_restart_between_any_two_steps_changes_nothing_in_the_end(
    lab: Lab, there: Namespace, operators: Operators, life: Life
) -> None:
    model = Tenant(there, await lab.database())
    life.aliases[model.database.name] = there.name
    await model.declare(lab)
    operator = await operators.start()
    await there.ready(*THINGS)
    await operator.stop()
    steps = len(life.written[there.name])
    assert steps > 10
    wanted = await model.outcome()
    assert wanted["held"] == len(wanted["acl"]) > 0
    tenants = [await _tenant(lab, there, life, step) for step in range(steps)]
    try:
        operator = await operators.start(**MANY)
        await _ended_or(life, tenants, Tenant.is_ready)
        await operator.kill()
        assert len(life.ended) > steps / 2
        life.begin_anew()
        operator = await operators.start(**MANY)
        for tenant in tenants:
            await tenant.there.ready(*THINGS)
            assert await tenant.outcome() == wanted

        # And the way back.
        life.begin_anew()
        await model.delete()
        await there.gone(*THINGS)
        steps = len(life.written[there.name])
        for step, tenant in enumerate(tenants):
            life.left[tenant.there.name] = step % steps
            await tenant.delete()
        await _ended_or(life, tenants, Tenant.is_gone)
        await operator.kill()
        assert len(life.ended) >= min(steps, len(tenants)) / 2
        life.begin_anew()
        await operators.start(**MANY)
        for tenant in tenants:
            await tenant.there.gone(*THINGS)
            assert not await tenant.database.run(
                "SELECT FROM pg_roles WHERE rolname = %s", tenant.database.analysts
            )
            assert await tenant.database.held() == 0
            assert not await tenant.database.may(tenant.person, "SELECT")
    finally:
        for tenant in tenants:
            await tenant.there.discard()


async def _tenant(lab: Lab, there: Namespace, life: Life, step: int) -> Tenant:
    """A tenant whose operator ends before its write number ``step``."""
    own = Namespace(there.admin, f"{there.name}-{step}", there._explain)
    await own.create()
    tenant = Tenant(own, await lab.database())
    life.aliases[tenant.database.name] = own.name
    life.left[own.name] = step
    await tenant.declare(lab)
    return tenant


async def _ended_or(life: Life, tenants: list[Tenant], done: Callable[[Tenant], Awaitable[bool]]) -> None:
    """Wait until the process has come to its end for each tenant, or has done everything without getting there."""
    left = {tenant.there.name: tenant for tenant in tenants}
    end = time.monotonic() + 60
    while left:
        for name, tenant in list(left.items()):
            if name in life.ended or await done(tenant):
                del left[name]
        assert time.monotonic() < end, f"neither ended nor done: {sorted(left)}"
        await asyncio.sleep(0.1)
