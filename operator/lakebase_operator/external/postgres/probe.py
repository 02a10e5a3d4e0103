"""The I/O of the connection test: reaching a server as an application does, logging in, and looking at what the login sees."""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import psycopg

from lakebase_operator.api.reasons import Reason
from lakebase_operator.domain.connection_test import DataSchema, OwnSchema
from lakebase_operator.domain.errors import LakebaseError, TransientError
from lakebase_operator.domain.instance import Credential
from lakebase_operator.external.postgres.errors import words
from lakebase_operator.external.postgres.queries import query
from lakebase_operator.external.postgres.session import Connection, Server, connect

APPLICATION = "lakebase-operator-test"
"""What the sessions of the test call themselves."""


async def reach(host: str, port: int, *, seconds: float) -> None:
    """Resolve a name and open a TCP connection, as the first step of any login. Nothing is sent.

    Raises
    ------
    TransientError
        HostUnresolvable, PortClosed, or NetworkBlocked where nothing answers within ``seconds``.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(seconds):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, TimeoutError) as error:
        raise TransientError(
            Reason.HOST_UNRESOLVABLE,
            f'The name "{host}" cannot be resolved. Check the host, and the DNS of the cluster.',
        ) from error
    last: Exception = TimeoutError()
    for address in dict.fromkeys(str(one[4][0]) for one in found):
        try:
            async with asyncio.timeout(seconds):
                _, writer = await asyncio.open_connection(address, port)
        except OSError as error:  # TimeoutError is one
            last = error
        else:
            writer.transport.abort()
            return
    if isinstance(last, ConnectionRefusedError):
        raise TransientError(
            Reason.PORT_CLOSED,
            f"{host} refuses connections on port {port}. Check the port, and that the instance runs.",
        ) from last
    raise TransientError(
        Reason.NETWORK_BLOCKED,
        f"{host} does not answer on port {port}: something on the way swallows connections. Check firewalls, NetworkPolicies, "
        "private links and the workspace's IP access lists. It is no matter of the password.",
    ) from last


class LoginRefused(Exception):  # noqa: N818  # it is an answer
    """A login that was turned down, with the server's or libpq's words."""

    def __init__(self, said: str) -> None:
        super().__init__(said)
        self.said = said


@asynccontextmanager
async def log_in(server: Server, credential: Credential, database: str) -> AsyncIterator[Connection]:
    """A session as an application has it, closed at the end.

    Raises
    ------
    LoginRefused
        There is none.
    TimeoutError
        No answer in time.
    """
    try:
        session = await connect(server, credential, database, application=APPLICATION)
    except LakebaseError as error:
        cause = error.__cause__
        if isinstance(cause, psycopg.Error) and not isinstance(cause, psycopg.errors.ConnectionTimeout):
            raise LoginRefused(words(cause)) from error
        raise TimeoutError(error.message) from error
    try:
        yield session
    finally:
        await session.close()


async def read_own_schema(session: Connection, name: str) -> OwnSchema:
    """The application's own schema, as its session sees it."""
    cursor = await session.execute(query("own_schema"), {"name": name})
    row = await cursor.fetchone()
    if row is None:
        return OwnSchema(name, exists=False, usage=False, create=False, others=())
    return OwnSchema(name, True, row["usage"], row["creates"], tuple(row["others"] or ()))


async def read_data_schemas(session: Connection, *, leave_out: Sequence[str] = ()) -> tuple[DataSchema, ...]:
    """The schemas in which the session's role holds something, its own left out.

    Parameters
    ----------
    session
        Of the application.
    leave_out
        Schemas that hold no data for it.
    """
    cursor = await session.execute(query("data_schemas"), {"leave_out": list(leave_out)})
    return tuple(
        [
            DataSchema(row["name"], row["usage"], row["tables"], row["readable"], tuple(row["keyless"] or ()))
            async for row in cursor
        ]
    )


@dataclass(frozen=True, slots=True)
class LoginRole:
    """What the catalog says of a role that is to log in."""

    oid: int
    may_log_in: bool
    expired: bool


async def read_login_role(session: Connection, name: str) -> LoginRole | None:
    """A role, as the operator sees it; None: there is none."""
    cursor = await session.execute(
        "SELECT oid, rolcanlogin AS may_log_in, COALESCE(rolvaliduntil <= now(), false) AS expired FROM pg_roles"
        " WHERE rolname = %s",
        [name],
    )
    row = await cursor.fetchone()
    return LoginRole(**row) if row is not None else None
