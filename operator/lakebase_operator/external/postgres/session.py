"""Connecting, with everything bounded and a fixed search_path."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, LiteralString, TypeAlias

import certifi
import psycopg
from psycopg import sql
from psycopg.rows import DictRow, dict_row

from lakebase_operator.api.lakebase_connection import TLSMode
from lakebase_operator.domain.instance import Credential
from lakebase_operator.external.postgres.errors import connect_error

Connection: TypeAlias = psycopg.AsyncConnection[DictRow]

SETTINGS = {
    "search_path": "pg_catalog",
    "datestyle": "ISO",
    "timezone": "UTC",  # elsewhere the last hours of 9999 are in the year 10000, which Python does not know
    "work_mem": "64MB",  # the comparison of 10,000 objects stays in memory
    "jit": "off",  # compiling it takes longer than running it
    "enable_memoize": "off",  # nothing comes twice where it would be used
    "enable_nestloop": "off",  # the planner knows nothing of the sizes in a CTE; a hash join is right at any
    "enable_mergejoin": "off",  # the same; and the planner is done sooner
}
"""What every session of the operator is set to."""

SSL_MODES = {TLSMode.REQUIRE: "require", TLSMode.VERIFY_CA: "verify-ca", TLSMode.VERIFY_FULL: "verify-full"}
"""``spec.tls.mode`` as libpq spells it."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Bounds of a session, in seconds."""

    connect: float = 60
    """A compute that wakes up may take that long."""
    statement: float = 300
    lock: float = 10
    """Longest wait for a lock: one long ALTER TABLE must not hold up everything."""
    idle_in_transaction: float = 60


@dataclass(frozen=True, slots=True)
class Server:
    """A database server and how to reach it."""

    host: str
    port: int
    tls_mode: TLSMode
    ca_file: str | None
    """PEM file; None: the system's certificates."""
    timeouts: Timeouts = Timeouts()


async def connect(
    server: Server, credential: Credential, database: str, *, application: str = "lakebase-operator"
) -> Connection:
    """Open a session, which calls itself ``application``.

    Raises
    ------
    LakebaseError
        See :mod:`.errors`.
    """
    limits = server.timeouts
    settings = {
        **SETTINGS,
        "statement_timeout": _milliseconds(limits.statement),
        "lock_timeout": _milliseconds(limits.lock),
        "idle_in_transaction_session_timeout": _milliseconds(limits.idle_in_transaction),
    }
    root = server.ca_file if server.tls_mode is TLSMode.REQUIRE else server.ca_file or _default_ca_file()
    try:
        async with asyncio.timeout(limits.connect):
            connection = await psycopg.AsyncConnection.connect(
                host=server.host,
                port=server.port,
                dbname=database,
                user=credential.user,
                password=credential.password,
                sslmode=SSL_MODES[server.tls_mode],
                sslrootcert=root,
                application_name=application,
                connect_timeout=int(limits.connect),
                keepalives_idle=30,
                autocommit=True,
                row_factory=dict_row,
                prepare_threshold=None,
            )
            try:
                await connection.execute(
                    "SELECT " + ", ".join(["set_config(%s, %s, false)"] * len(settings)),
                    [part for setting in settings.items() for part in setting],
                )
            except BaseException:
                await connection.close()
                raise
            return connection
    except (psycopg.Error, OSError, TimeoutError) as error:
        mapped = connect_error(
            error,
            host=server.host,
            port=server.port,
            database=database,
            user=credential.user,
            oauth=credential.expires_at is not None,
        )
        raise mapped from error


def _default_ca_file() -> str:
    """The system's certificates, or SSL_CERT_FILE where it is set; certifi's where the system has none."""
    return ssl.get_default_verify_paths().cafile or certifi.where()


def _milliseconds(seconds: float) -> str:
    return f"{int(seconds * 1000)}ms"


@asynccontextmanager
async def session(server: Server, credential: Credential, database: str) -> AsyncIterator[Connection]:
    """A session that is closed at the end, also in the middle of a transaction."""
    connection = await connect(server, credential, database)
    try:
        yield connection
    finally:
        await connection.close()


async def execute_together(connection: Connection, commands: sql.Composed | LiteralString | bytes) -> None:
    """Run several commands as one message, which makes them one transaction.

    A prepared statement has one command only, so they are never prepared, also not where a session prepares all else.
    Source: https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-MULTI-STATEMENT
    """
    await connection.execute(commands, prepare=False)


Row: TypeAlias = dict[str, Any]
