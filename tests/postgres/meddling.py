"""Interfering with the operator's sessions at an exact moment, and what must be true afterwards."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from psycopg import sql

from lakebase_operator.external.postgres.session import Connection
from tests.postgres.world import World

DEADLINE = 60.0
"""Seconds."""


@dataclass(slots=True)
class Before:
    """Do something once, right before the operator sends a statement that begins with ``prefix``: the first one, or that
    after ``earlier`` others. Several may watch the same session."""

    world: World
    prefix: str
    action: Callable[[], Awaitable[None]]
    earlier: int = 0
    seen: int = 0
    _others: Callable[[Connection], None] | None = None

    def __enter__(self) -> "Before":
        self._others, self.world.on_open = self.world.on_open, self._watch
        return self

    def __exit__(self, *_: object) -> None:
        self.world.on_open = self._others
        assert self.seen > self.earlier, f"{self.seen} statements began with {self.prefix}"

    def _watch(self, connection: Connection) -> None:
        if self._others is not None:
            self._others(connection)
        execute = connection.execute

        async def watched(query: Any, *args: Any, **more: Any) -> Any:
            text = query.as_string(connection) if isinstance(query, sql.Composable) else str(query)
            if text.startswith(self.prefix):
                self.seen += 1
                if self.seen == self.earlier + 1:
                    await self.action()
            return await execute(query, *args, **more)

        connection.execute = watched  # type: ignore[assignment]  # stands in for it


@dataclass(slots=True)
class KilledBefore:
    """End the operator's session in the server right before its ``number``-th round trip.

    BEGIN, SAVEPOINT and COMMIT are round trips too.
    """

    world: World
    number: int
    trips: int = 0
    killed: set[int] = field(default_factory=set)

    def __enter__(self) -> "KilledBefore":
        self.world.on_open = self._watch
        return self

    def __exit__(self, *_: object) -> None:
        self.world.on_open = None

    def _watch(self, connection: Connection) -> None:
        wait, pid = connection.wait, connection.info.backend_pid

        async def watched(generator: Any, *args: Any, **more: Any) -> Any:
            if self.trips == self.number:
                await terminate(self.world, pid)
                self.killed.add(pid)
            self.trips += 1
            return await wait(generator, *args, **more)

        connection.wait = watched  # type: ignore[method-assign]  # stands in for it


async def terminate(world: World, pid: int) -> None:
    """End a session and wait until it is gone."""
    await world.admin.execute("SELECT pg_terminate_backend(%s, 10000)", [pid])


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for a condition.

    Raises
    ------
    TimeoutError
        It did not come true in time.
    """
    async with asyncio.timeout(DEADLINE):
        while not await condition():  # noqa: ASYNC110  # the server announces nothing
            await asyncio.sleep(0.01)


def somebody_waits_for_a_lock(world: World) -> Callable[[], Awaitable[bool]]:
    """Whether a session in this database waits for a lock."""

    async def check() -> bool:
        return bool(
            await world.value(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND wait_event_type = 'Lock'",
                world.database,
            )
        )

    return check


Entry = tuple[str, int, str, str, str]
"""Class (with the number of a column, the schema of defaults), OID, privilege (with an asterisk: its grant option), grantor,
grantee."""

_ENTRIES = """
SELECT o.class, o.oid::bigint, x.privilege_type || s.star, pg_get_userbyid(x.grantor)::text, pg_get_userbyid(x.grantee)::text
FROM (SELECT CASE relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS class, oid, relacl AS acl FROM pg_class
      UNION ALL SELECT 'COLUMN ' || attnum, attrelid, attacl FROM pg_attribute WHERE attacl IS NOT NULL
      UNION ALL SELECT 'ROUTINE', oid, proacl FROM pg_proc
      UNION ALL SELECT 'TYPE', oid, typacl FROM pg_type
      UNION ALL SELECT 'SCHEMA', oid, nspacl FROM pg_namespace
      UNION ALL SELECT 'DATABASE', oid, datacl FROM pg_database
      UNION ALL SELECT 'DEFAULT ' || t.class || ' ' || defaclnamespace, defaclrole, defaclacl
                FROM pg_default_acl JOIN (VALUES ('r', 'TABLES'), ('S', 'SEQUENCES'), ('f', 'ROUTINES'), ('T', 'TYPES'))
                     AS t(code, class) ON t.code = defaclobjtype) AS o,
     aclexplode(o.acl) AS x, LATERAL (SELECT '' AS star UNION ALL SELECT '*' WHERE x.is_grantable) AS s
WHERE pg_get_userbyid(x.grantee) = ANY (%s)
"""
_LEDGER = """
SELECT class || CASE WHEN part <> 0 OR class LIKE 'DEFAULT %' THEN ' ' || part ELSE '' END, objid::bigint, privilege,
       pg_get_userbyid(grantor)::text, pg_get_userbyid(g)::text
FROM lakebase_operator.held, unnest(grantees) AS g WHERE privilege NOT LIKE '-%'
"""


async def entries(world: World, grantees: Iterable[str]) -> set[Entry]:
    """All that the catalog says that these roles were given."""
    return set(await world.rows(_ENTRIES, list(grantees)))


async def ledger_entries(world: World) -> set[Entry]:
    """All that the ledger says; nothing before there is one."""
    if not await world.value("SELECT to_regclass('lakebase_operator.held')"):
        return set()
    return set(await world.rows(_LEDGER))


async def assert_the_ledger_agrees(
    world: World, grantees: Iterable[str], foreign: Iterable[Entry] = ()
) -> None:
    """The ledger holds exactly what the catalog says of roles that only the operator gives anything.

    Parameters
    ----------
    world
        The database.
    grantees
        All roles that are or were declared.
    foreign
        What others gave these roles and what is not declared.
    """
    names = list(grantees)
    said, held = await ledger_entries(world), await entries(world, names) - set(foreign)
    assert said == held
