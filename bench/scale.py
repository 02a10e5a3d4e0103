"""``python -m bench scale``: the whole operator with ten thousand AccessGrants, and with two hundred connections."""

import asyncio
import random
import socket
import statistics
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import click
from psycopg import sql
from rich.console import Console
from rich.table import Table

from bench.api import JSON_PATCH, MERGE_PATCH, Body, Watch, collection, manifest
from bench.results import save
from bench.stage import Session, Stage, machine, stage
from lakebase_sandbox.operator_process import COMMAND
from lakebase_sandbox.progress import Progress

NAMESPACE = "bench"
DATABASE = "bench"
DEADLINE = 600.0
EDITS = 60


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure; ``limit`` is what it must not exceed, None where it only explains another one."""

    workload: str
    what: str
    value: float
    unit: str
    limit: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether it is as good as it must be."""
        return None if self.limit is None else self.value <= self.limit


@dataclass(slots=True)
class Figures:
    """What was measured so far."""

    progress: Progress
    workload: str
    all: list[Figure] = field(default_factory=list)

    def note(self, what: str, value: float, unit: str, limit: float | None = None) -> None:
        """One more; it is shown at once."""
        self.all.append(Figure(self.workload, what, value, unit, limit))
        bound = "" if limit is None else f" (at most {limit:g})"
        self.progress.note(f"{self.workload}, {what}: {value:.4g} {unit}{bound}; load {machine()}")


# -- ten thousand AccessGrants on one connection ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Many:
    """AccessGrants that each give one role SELECT on one table, as teams write them."""

    grants: int
    roles: int = 100
    schemas: int = 10
    tables: int = 500
    """In all schemas together."""

    def role(self, number: int) -> str:
        """Whom an AccessGrant is for."""
        return f"reader_{number % self.roles}"

    def table(self, number: int, offset: int = 0) -> tuple[str, str]:
        """Schema and name of the table that it gives: no two give the same to one role."""
        step = self.tables // -(-self.grants // self.roles)
        which = (number // self.roles * step + number % self.roles + offset) % self.tables
        return f"schema_{which % self.schemas}", f"table_{which // self.schemas}"

    def body(self, number: int, *, connection: str = "bench", namespace: str = NAMESPACE) -> Body:
        """One AccessGrant."""
        spec = {
            "connectionRef": {"name": connection},
            "database": DATABASE,
            "subjects": [{"kind": "Role", "name": self.role(number)}],
            "access": "Read",
            "objects": self.objects(number),
        }
        return manifest("AccessGrant", namespace, f"grant-{number}", spec)

    def objects(self, number: int, offset: int = 0) -> list[Body]:
        """``spec.objects``."""
        schema, table = self.table(number, offset)
        return [{"tables": {"schema": schema, "names": [table]}}]

    def bodies(self, namespace: str = NAMESPACE) -> Iterator[Body]:
        """All AccessGrants."""
        return (self.body(number, namespace=namespace) for number in range(self.grants))

    async def prepare(self, place: Stage) -> None:
        """A database with roles and tables."""
        await place.create_database(DATABASE)
        async with await place.connect(DATABASE) as admin:
            await admin.execute(
                sql.SQL(
                    "DO $$ BEGIN"
                    " FOR r IN 0..{roles} LOOP EXECUTE format('CREATE ROLE %I LOGIN', 'reader_' || r); END LOOP;"
                    " FOR s IN 0..{schemas} LOOP EXECUTE format('CREATE SCHEMA %I', 'schema_' || s); END LOOP;"
                    " FOR t IN 0..{tables} LOOP EXECUTE format('CREATE TABLE %I.%I (id bigint)',"
                    " 'schema_' || t % {count}, 'table_' || t / {count}); END LOOP; END $$"
                ).format(
                    roles=sql.Literal(self.roles - 1),
                    schemas=sql.Literal(self.schemas - 1),
                    tables=sql.Literal(self.tables - 1),
                    count=sql.Literal(self.schemas),
                )
            )


async def bare_patches(place: Stage, many: Many) -> tuple[float, float]:
    """Seconds to create as many objects, and to write a status into each, with nothing else at work."""
    space = "bare"
    await place.namespace(space)
    started = time.perf_counter()
    await place.api.create_many(many.bodies(space))
    created = time.perf_counter()
    await place.api.many(_status_patches(many, space))
    patched = time.perf_counter()
    await place.api.request("DELETE", collection(many.body(0, namespace=space)))
    return created - started, patched - created


def _status_patches(many: Many, space: str) -> Iterator[tuple[str, str, object, str]]:
    """Statuses of the usual size."""
    for number in range(many.grants):
        body = many.body(number, namespace=space)
        conditions = [
            {
                "type": kind,
                "status": "True",
                "reason": "Succeeded",
                "message": "Held, as read back from the database: 1 privilege on 1 object.",
                "observedGeneration": 1,
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }
            for kind in ("Ready", "UnmappedUsers")
        ]
        status = {
            "observedGeneration": 1,
            "conditions": conditions,
            "objects": 1,
            "grants": {"wanted": 1, "held": 1},
            "issues": [],
            "subjects": [{"name": many.role(number), "role": many.role(number), "state": "Resolved"}],
        }
        patch = [{"op": "add", "path": "/status", "value": status}]
        path = f"{collection(body)}/{body['metadata']['name']}/status"
        yield "PATCH", path, patch, JSON_PATCH


async def ten_thousand(place: Stage, many: Many, figures: Figures) -> None:
    """Applied at once, restarted with nothing to do, edited one by one."""
    await many.prepare(place)
    creating, patching = await bare_patches(place, many)
    figures.note("created, without an operator", creating, "s")
    figures.note("bare status patches", patching, "s")
    await asyncio.to_thread(place.start_operator)
    figures.note("memory without objects", place.memory()[0], "MB")
    await place.namespace(NAMESPACE)
    await place.api.create(place.connection(NAMESPACE, "bench", DATABASE))
    async with Watch(place.api, NAMESPACE) as watch:
        started = time.perf_counter()
        await place.api.create_many(many.bodies())
        applied = time.perf_counter()
        await watch.until(lambda: watch.ready() == many.grants, DEADLINE)
        last = max(seen.ready_at or 0.0 for seen in watch.objects.values())
        figures.note("all applied", applied - started, "s")
        figures.note("from the first applied to the last ready", last - started, "s")
        figures.note("from the last applied to the last ready", last - applied, "s")
        figures.note(
            "the latter, as a multiple of bare status patches", (last - applied) / patching, "×", 2.0
        )
        figures.note(
            "the former, as a multiple of both by themselves", (last - started) / (creating + patching), "×"
        )
    figures.note("processor time of the operator", place.cpu(), "s")
    now, peak = place.memory()
    figures.note("memory", now, "MB", 250)
    figures.note("memory at most", peak, "MB", 250)
    await _quiet(place)
    await restarted(place, many, figures)
    await edited(place, many, figures)


async def restarted(place: Stage, many: Many, figures: Figures) -> None:
    """A new process with nothing to do."""
    async with await place.connect(DATABASE) as admin, Watch(place.api, NAMESPACE) as watch:
        await watch.until(lambda: len(watch.objects) == many.grants, DEADLINE)
        await asyncio.to_thread(place.stop_operator)
        before, writes = await _tuples(admin), watch.writes
        started = time.perf_counter()
        await asyncio.to_thread(place.start_operator)
        figures.note("restarted, until it answers as ready", time.perf_counter() - started, "s")
        await _until(lambda: place.metric("lakebase_operator_passes_total", result="Success") >= 1)
        figures.note("restarted, until everything is compared", time.perf_counter() - started, "s", 15)
        await _quiet(place)
        figures.note("writes to Kubernetes by then", watch.writes - writes, "", 0)
        figures.note("rows written to PostgreSQL by then", await _tuples(admin) - before, "", 0)
    figures.note("memory after it", place.memory()[0], "MB", 250)


async def _until(condition: Callable[[], bool]) -> None:
    """Wait until something holds in another process."""
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110  # it holds in another process
            await asyncio.sleep(0.02)


async def _quiet(place: Stage) -> None:
    """Wait until no pass runs and none waits, for a second."""
    calm_since = time.perf_counter()
    while time.perf_counter() - calm_since < 1.0:
        if place.metric("lakebase_operator_passes_running") or place.metric("lakebase_operator_queue_depth"):
            calm_since = time.perf_counter()
        await asyncio.sleep(0.1)


async def _tuples(admin: Session) -> int:
    """Rows that were inserted, changed or deleted in any table of the database, ours or the system's, but for what autovacuum
    writes when it has counted the tables."""
    await admin.execute("SELECT pg_stat_force_next_flush()")
    row = await (
        await admin.execute(
            "SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_stat_all_tables"
            " WHERE relid NOT IN ('pg_statistic'::regclass,"
            " (SELECT reltoastrelid FROM pg_class WHERE oid = 'pg_statistic'::regclass))"
        )
    ).fetchone()
    assert row is not None
    return int(row[0])


async def edited(place: Stage, many: Many, figures: Figures) -> None:
    """One AccessGrant after the other is turned to another table."""
    rng = random.Random(1)
    in_database, in_status = [], []
    async with await place.connect(DATABASE) as admin, Watch(place.api, NAMESPACE) as watch:
        await watch.until(lambda: watch.ready() == many.grants, DEADLINE)
        for number in rng.sample(range(many.grants), min(EDITS, many.grants)):
            body = many.body(number)
            path = f"{collection(body)}/grant-{number}"
            started = time.perf_counter()
            patch = {"spec": {"objects": many.objects(number, 1)}}
            answer = await place.api.request("PATCH", path, patch, MERGE_PATCH)
            generation, key = answer["metadata"]["generation"], (NAMESPACE, f"grant-{number}")
            told = asyncio.create_task(watch.until(_ready_with(watch, key, generation), DEADLINE))
            while not await _turned(admin, many, number):  # noqa: ASYNC110  # another process turns it
                await asyncio.sleep(0.002)
            in_database.append(time.perf_counter() - started)
            await told
            in_status.append((watch.objects[key].ready_at or 0.0) - started)
    for where, seconds in (("in the database", in_database), ("in status", in_status)):
        figures.note(f"edited, {where}, median", 1000 * statistics.median(seconds), "ms", 250)
        figures.note(f"edited, {where}, 99th percentile", 1000 * percentile(seconds, 0.99), "ms", 1000)


def _ready_with(watch: Watch, key: tuple[str, str], generation: int) -> Callable[[], bool]:
    def ready() -> bool:
        seen = watch.objects[key]
        return seen.generation == generation and seen.ready_at is not None

    return ready


async def _turned(admin: Session, many: Many, number: int) -> bool:
    """Whether the role has got the new table and lost the old one."""
    names = [f"{schema}.{table}" for schema, table in (many.table(number, 1), many.table(number))]
    question = "SELECT has_table_privilege(%s, %s, 'SELECT'), has_table_privilege(%s, %s, 'SELECT')"
    role = many.role(number)
    row = await (await admin.execute(question, [role, names[0], role, names[1]])).fetchone()
    return row == (True, False)


def percentile(values: Sequence[float], part: float) -> float:
    """The smallest value that ``part`` of all values do not exceed."""
    return sorted(values)[max(0, -(-int(len(values) * part * 1000) // 1000) - 1)]


# -- many connections, some of them dead --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fleet:
    """Connections with a database and some AccessGrants each."""

    connections: int
    dead: int
    grants: int = 50
    tables: int = 10
    roles: int = 5

    def body(self, connection: int, number: int) -> Body:
        """One AccessGrant."""
        spec = {
            "connectionRef": {"name": f"fleet-{connection}"},
            "database": f"fleet_{connection}",
            "subjects": [{"kind": "Role", "name": f"member_{number % self.roles}"}],
            "access": "Read",
            "objects": [{"tables": {"schema": "sales", "names": [f"table_{number // self.roles}"]}}],
        }
        return manifest("AccessGrant", "fleet", f"grant-{connection}-{number}", spec)

    @property
    def alive(self) -> range:
        """Numbers of the connections that work."""
        return range(self.dead, self.connections)

    async def prepare(self, place: Stage) -> None:
        """Roles, and a database with tables for each connection."""
        async with await place.connect() as admin:
            for number in range(self.roles):
                await admin.execute(
                    sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(f"member_{number}"))
                )
        for number in range(self.connections):
            await place.create_database(f"fleet_{number}")
            async with await place.connect(f"fleet_{number}") as admin:
                await admin.execute(
                    sql.SQL(
                        "DO $$ BEGIN CREATE SCHEMA sales; FOR t IN 0..{} LOOP"
                        " EXECUTE format('CREATE TABLE sales.%I (id bigint)', 'table_' || t); END LOOP; END $$"
                    ).format(sql.Literal(self.tables - 1))
                )


async def two_hundred(place: Stage, fleet: Fleet, figures: Figures) -> None:
    """How quick the living are without and with the dead."""
    await fleet.prepare(place)
    await asyncio.to_thread(place.start_operator)
    await place.namespace("fleet")
    with socket.create_server(("127.0.0.1", 0)) as nobody:  # takes connections and never says a word
        port = nobody.getsockname()[1]
        async with Watch(place.api, "fleet") as watch:
            await _join(place, fleet, fleet.alive, watch, figures, "without the dead")
            await _quiet(place)
            alone = await _edits(place, fleet, watch)
            dead = [
                place.connection("fleet", f"fleet-{number}", f"fleet_{number}", port=port)
                for number in range(fleet.dead)
            ]
            await place.api.create(*dead)
            await place.api.create_many(
                fleet.body(connection, number)
                for connection in range(fleet.dead)
                for number in range(fleet.grants)
            )
            await _until(lambda: place.metric("lakebase_operator_passes_running") >= fleet.dead)
            beside = await _edits(place, fleet, watch)
            ready = watch.ready()
    for what, seconds in (("without the dead", alone), ("beside the dead", beside)):
        figures.note(f"edited, in status, median, {what}", 1000 * statistics.median(seconds), "ms")
        figures.note(
            f"edited, in status, 99th percentile, {what}", 1000 * percentile(seconds, 0.99), "ms", 1000
        )
    ratio = statistics.median(beside) / statistics.median(alone)
    figures.note("median beside the dead, as a multiple of that without", ratio, "×", 1.25)
    figures.note(
        "AccessGrants of the living that are not ready", len(fleet.alive) * fleet.grants - ready, "", 0
    )
    figures.note("memory", place.memory()[0], "MB", 250)


async def _join(place: Stage, fleet: Fleet, numbers: range, watch: Watch, figures: Figures, how: str) -> None:
    started = time.perf_counter()
    await place.api.create_many(
        place.connection("fleet", f"fleet-{number}", f"fleet_{number}") for number in numbers
    )
    await place.api.create_many(
        fleet.body(connection, number) for connection in numbers for number in range(fleet.grants)
    )
    applied = time.perf_counter()
    count = len(numbers) * fleet.grants
    await watch.until(lambda: watch.ready() == count, DEADLINE)
    figures.note(f"{count} applied, {how}", applied - started, "s")
    figures.note(f"from the last applied to the last ready, {how}", time.perf_counter() - applied, "s")


async def _edits(place: Stage, fleet: Fleet, watch: Watch) -> list[float]:
    rng, seconds = random.Random(2), []
    for connection in rng.sample(fleet.alive, min(EDITS, len(fleet.alive))):
        body = fleet.body(connection, rng.randrange(fleet.grants))
        name = body["metadata"]["name"]
        started = time.perf_counter()
        access = "Write" if rng.random() < 0.5 else "Read"
        patch = {"spec": {"access": access, "reason": f"edit {time.time_ns()}"}}
        answer = await place.api.request("PATCH", f"{collection(body)}/{name}", patch, MERGE_PATCH)
        key = ("fleet", name)
        await watch.until(_ready_with(watch, key, answer["metadata"]["generation"]), DEADLINE)
        seconds.append((watch.objects[key].ready_at or 0.0) - started)
    return seconds


# -- all of it ----------------------------------------------------------------------------------------------------------


async def measure(
    workloads: Sequence[str], grants: int, connections: int, command: Sequence[str]
) -> list[Figure]:
    """Measure; each workload has a cluster of its own."""
    figures: list[Figure] = []
    with Progress() as progress:
        for name in workloads:
            async with stage(progress, command) as place:
                noted = Figures(progress, name)
                if name == "grants":
                    work = ten_thousand(place, Many(grants), noted)
                else:
                    work = two_hundred(place, Fleet(connections, dead=min(5, connections // 2)), noted)
                await _while_it_runs(place, work)
                figures += noted.all
    return figures


async def _while_it_runs(place: Stage, work: Coroutine[Any, Any, None]) -> None:
    """Measure, as long as the operator does not end by itself: nothing here would start it again."""
    task = asyncio.create_task(work)
    try:
        while not task.done():
            if place.ended:
                raise click.ClickException(
                    "The operator has ended. On a machine that is too busy it loses its Lease; measure on a quiet one."
                )
            await asyncio.wait({task}, timeout=1)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    task.result()


def show(figures: Sequence[Figure]) -> None:
    """A table."""
    table = Table(title=f"The whole operator ({machine()})")
    for column in ("workload", "what", "measured", "at most", ""):
        table.add_column(column, justify="right" if column in ("measured", "at most") else "left")
    marks = {True: "[green]✓[/]", False: "[red]✗[/]", None: ""}
    for one in figures:
        limit = "" if one.limit is None else f"{one.limit:g} {one.unit}"
        table.add_row(one.workload, one.what, f"{one.value:.4g} {one.unit}", limit, marks[one.met])
    Console().print(table)


@click.command()
@click.argument("workloads", nargs=-1, type=click.Choice(["grants", "fleet"]))
@click.option("--grants", default=10_000, help="AccessGrants on one connection.", show_default=True)
@click.option("--connections", default=200, help="Connections with 50 AccessGrants each.", show_default=True)
@click.option(
    "--operator", "command", multiple=True, default=COMMAND, help="The operator's command, word by word."
)
def main(workloads: tuple[str, ...], grants: int, connections: int, command: tuple[str, ...]) -> None:
    """Measure, print a table, write the results."""
    figures = asyncio.run(measure(workloads or ("grants", "fleet"), grants, connections, command))
    show(figures)
    save("scale", [asdict(one) for one in figures], machine())


if __name__ == "__main__":
    main()
