"""``python -m bench [W1 W2 …]``: the pass over one database against a hand-written transaction, on PostgreSQL 16 and 18.

``python -m bench scale``: the whole operator (:mod:`bench.scale`).
"""

import asyncio
import gc
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial

import psycopg
from psycopg import sql
from psycopg.rows import dict_row
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from bench import scale
from bench.results import save
from bench.stage import machine
from bench.workloads import DATABASE, WORKLOADS, Workload
from lakebase_operator.api import AccessGrant
from lakebase_operator.domain.people import People
from lakebase_operator.external.postgres.roles import preflight
from lakebase_operator.external.postgres.session import SETTINGS, Connection
from lakebase_operator.reconcilers.declared import Declarations
from lakebase_operator.reconcilers.grants import GrantsStep, Policy, Remembered
from lakebase_operator.reconcilers.roles import Roles
from lakebase_operator.reconcilers.tally import DatabaseResult, Tally
from lakebase_sandbox.postgres import PostgresServer

TURNS, QUICK_TURNS = 5, 15
TEMPLATE = "bench_template"
READ_ALL_ACLS = "SELECT c.oid, x.* FROM pg_class c, aclexplode(c.relacl) AS x"


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured ratio."""

    postgres: int
    workload: str
    what: str
    seconds: float
    against: str
    limit_seconds: float

    @property
    def ratio(self) -> float:
        """How many times the limit."""
        return self.seconds / self.limit_seconds


async def timed(work: Callable[[], Awaitable[object]]) -> float:
    """Seconds that it takes."""
    started = time.perf_counter()
    await work()
    return time.perf_counter() - started


@asynccontextmanager
async def database(
    server: PostgresServer, name: str = DATABASE, *, template: str
) -> AsyncIterator[Connection]:
    """A fresh copy of a database, with a session as the operator opens it."""
    async with await psycopg.AsyncConnection.connect(server.dsn(), autocommit=True) as admin:
        for statement in ("DROP DATABASE IF EXISTS {} WITH (FORCE)", "CREATE DATABASE {} TEMPLATE {}"):
            await admin.execute(sql.SQL(statement).format(sql.Identifier(name), sql.Identifier(template)))
    async with await session(server, name) as connection:
        yield connection


async def session(server: PostgresServer, name: str = DATABASE) -> Connection:
    """A session as the operator opens it."""
    connection = await psycopg.AsyncConnection.connect(
        server.dsn(name), autocommit=True, row_factory=dict_row
    )
    for name, value in SETTINGS.items():
        await connection.execute("SELECT set_config(%s, %s, false)", [name, value])
    return connection


@dataclass(slots=True)
class Operator:
    """What stays between passes."""

    connection: Connection
    remembered: dict[str, Remembered] = field(default_factory=dict)
    declarations: Declarations = field(default_factory=Declarations)

    async def run(
        self, grants: Iterable[AccessGrant], *, focus: frozenset[str] | None = None
    ) -> DatabaseResult:
        """What the operator does with one database, from the parsed objects to the committed ledger."""
        roles = await Roles.read(self.connection)
        people = People("bench", (), roles.names)
        now = datetime.now(UTC)
        found = await preflight(self.connection)
        self.declarations.begin(people, roles, found.major_version)
        declared = [
            self.declarations.declare(grant, people, roles, found.major_version, now) for grant in grants
        ]
        tallies = {item.grant.metadata.uid: Tally() for item in declared}
        step = GrantsStep(
            DATABASE,
            self.connection,
            found,
            "bench/bench",
            roles,
            Policy(),
            tallies,
            remembered=self.remembered,
        )
        result = await step.run(declared, home=True, focus=focus)
        missing = sum(tally.missing for tally in tallies.values())
        assert missing == 0, f"{missing} privileges are not held"
        return result

    async def compare_anew(self, grants: Iterable[AccessGrant]) -> DatabaseResult:
        """A full comparison, whatever is remembered."""
        self.remembered.clear()
        return await self.run(grants)


async def measure(version: int, workload: Workload, tell: Callable[[str], None]) -> AsyncIterator[Figure]:
    """All figures of one workload on one version. What is compared is done turn by turn, since a machine that is slower for a
    while is so for both; the turn whose ratio is in the middle counts."""
    figure = partial(Figure, version, workload.name)
    grants = list(workload.grants())
    # As the operator does once everything is listed: what stays is no garbage.
    gc.collect()
    gc.freeze()
    async with PostgresServer(version=version, prepare=False) as server:
        tell("making roles and tables")
        async with database(server, TEMPLATE, template="template1") as connection:
            await workload.create(connection)
        statements = workload.statements_by_hand()
        turns = []
        for turn in range(TURNS):
            tell(f"from nothing, {turn + 1} of {TURNS}")
            async with database(server, template=TEMPLATE) as connection:
                hand = await timed(lambda: workload.by_hand(connection, statements))
                size_by_hand = await _size(connection)
                change = await timed(lambda: workload.change_by_hand(connection))
            async with database(server, template=TEMPLATE) as connection:
                operator = Operator(connection)
                turns.append((await timed(partial(operator.run, grants)), hand))
                size = await _size(connection)
        first, limit = middle(turns)
        yield figure("from nothing", first, "by hand", limit)
        yield figure("pg_class, bytes", size, "by hand", size_by_hand)
        async with await session(server) as connection:
            operator.connection = connection
            tell("nothing to do")
            compared, same = [], []
            for _ in range(QUICK_TURNS):
                reading = await timed(lambda: _read(connection))
                compared.append((await timed(lambda: operator.compare_anew(grants)), reading))
                same.append((await timed(lambda: operator.run(grants)), reading))
            for what, seen in (("compared", compared), ("same fingerprint", same)):
                seconds, reading = middle(seen)
                yield figure(f"nothing to do, {what}", seconds, "reading all ACLs", reading)
            tell("a change")
            changed, roles = workload.changed(grants)
            scoped = await timed(lambda: operator.run(changed, focus=roles))
            yield figure("a change, scoped", scoped, "the change by hand", change)
            yield figure("a change, scoped", scoped, "by hand", limit)


def middle(turns: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """Of (seconds, seconds of the limit) in each turn, those with the median ratio."""
    by_ratio = sorted(turns, key=lambda turn: turn[0] / turn[1])
    return by_ratio[len(by_ratio) // 2]


async def _read(connection: Connection) -> None:
    cursor = await connection.execute(READ_ALL_ACLS, binary=True)
    await cursor.fetchall()


async def _size(connection: Connection) -> float:
    row = await (await connection.execute("SELECT pg_table_size('pg_class')::float8 AS size")).fetchone()
    assert row is not None
    return float(row["size"])


def _tell(progress: Progress, task: TaskID, label: str, what: str) -> None:
    progress.update(task, description=f"{label}: {what}")


async def main() -> None:
    """Measure, print a table, write the results."""
    console = Console()
    wanted = set(sys.argv[1:]) or {workload.name for workload in WORKLOADS}
    figures: list[Figure] = []
    with Progress(
        SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=console
    ) as progress:
        for version in (16, 18):
            for workload in WORKLOADS:
                if workload.name in wanted:
                    task = progress.add_task(f"PostgreSQL {version}, {workload.name}")
                    tell = partial(_tell, progress, task, f"PostgreSQL {version}, {workload.name}")
                    figures += [figure async for figure in measure(version, workload, tell)]
                    progress.update(task, total=1, completed=1)
    table = Table(title="The operator's pass, as a multiple of its limit in the same run")
    for column in ("PostgreSQL", "workload", "what", "measured", "limit", "is", "ratio"):
        table.add_column(column, justify="right" if column in ("measured", "limit", "ratio") else "left")
    for figure in figures:
        table.add_row(
            str(figure.postgres), figure.workload, figure.what, f"{figure.seconds:.3g}", f"{figure.limit_seconds:.3g}",
            figure.against, f"{figure.ratio:.2f}",
        )  # fmt: skip
    console.print(table)
    save("passes", [asdict(figure) | {"ratio": round(figure.ratio, 2)} for figure in figures], machine())


if __name__ == "__main__":
    if sys.argv[1:2] == ["scale"]:
        scale.main(sys.argv[2:])
    asyncio.run(main())
