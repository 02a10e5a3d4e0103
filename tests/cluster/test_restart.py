"""A process that ends between any two steps, and the next one that goes on."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
from psycopg.pq import TransactionStatus

from lakebase_operator.external.kube.client import KubeClient
from lakebase_operator.reconcilers import access
from tests.cluster.kube import Body, Namespace
from tests.cluster.lab import Database, Lab
from tests.cluster.manifests import grant, mapping, role
from tests.cluster.operators import Operators

pytestmark = pytest.mark.asyncio(loop_scope="session")

READS = ("SELECT", "WITH RECURSIVE", "WITH")
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
        self.left[place] -= 1
        if self.left[place] < 0:
            self.ended.add(place)
            await asyncio.Event().wait()  # nothing more goes out, and no answer comes in

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
                busy = self.connection.info.transaction_status is TransactionStatus.INTRANS
                again = busy and self.connection in life.within
                # Inside a transaction one point is as good as another: nothing of it remains.
                (life.within.add if busy else life.within.discard)(self.connection)
                if _writes(text) and not again:
                    await life.before_write(self.connection.info.dbname, " ".join(text.split())[:60])

        async def connected(*arguments: Any) -> Any:
            connection = await connect(*arguments)
            connection.cursor_factory = Cursor
            return connection

        async def requested(self: KubeClient, method: str, path: str, **options: Any) -> Any:
            if method != "GET" and "/namespaces/t-" in path:
                await life.before_write(
                    path.split("/namespaces/")[1].split("/", maxsplit=1)[0], f"{method} {path}"
                )
            return await request(self, method, path, **options)

        monkeypatch.setattr(access, "connect", connected)
        monkeypatch.setattr(KubeClient, "request", requested)


def _writes(statement: str) -> bool:
    words = " ".join(line for line in statement.splitlines() if not line.strip().startswith("--")).upper()
    changing = (
        "INSERT INTO",
        "DELETE FROM",
        "UPDATE ",
        "CREATE",
        "ALTER",
        "DROP",
        "GRANT ",
        "REVOKE ",
        "TERMINATE",
    )
    return any(word in words for word in changing)


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
    operator = await operators.start()
    await model.declare(lab)
    await there.ready(*THINGS)
    await operator.stop()
    steps = len(life.written[there.name])
    print(*life.written[there.name], sep="\n")
    wanted = await model.outcome()
    assert wanted["acl"]
    assert wanted["held"] == len(wanted["acl"])
    tenants = []
    try:
        for step in range(steps):
            tenants.append(await _tenant(lab, there, life, step))
        await _restarted(operators, life, tenants)
        for tenant in tenants:
            await tenant.there.ready(*THINGS)
            assert await tenant.outcome() == wanted

        # And the way back.
        operator = await operators.start(workers=64)
        for thing in THINGS:
            await there.delete(thing)
        before = len(life.written[there.name])
        await there.gone(*THINGS)
        steps = len(life.written[there.name]) - before
        await operator.stop()
        for step, tenant in enumerate(tenants):
            life.left[tenant.there.name] = step % steps
        await _restarted(
            operators, life, tenants, lambda one: [one.there.delete(thing) for thing in THINGS], steps
        )
        for tenant in tenants:
            await tenant.there.gone(*THINGS)
            assert not (
                await tenant.database.run("SELECT FROM pg_roles WHERE rolname = %s", tenant.database.analysts)
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


async def _restarted(
    operators: Operators,
    life: Life,
    tenants: list[Tenant],
    act: Callable[[Tenant], list[Any]] | None = None,
    steps: int = 10**6,
) -> None:
    """Run an operator until it has come to the end of each tenant's part of it, kill it, and start the next one."""
    life.ended.clear()
    first = await operators.start(workers=64, shutdown_grace_seconds=0, deletion_grace_seconds=5)
    if act is not None:
        await asyncio.gather(*(deed for tenant in tenants for deed in act(tenant)))
    wanted = {tenant.there.name for tenant in tenants}
    async with asyncio.timeout(60):
        while life.ended < wanted:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    await first.kill()
    life.left.clear()
    await operators.start(workers=64)


__all__ = ["Body"]
