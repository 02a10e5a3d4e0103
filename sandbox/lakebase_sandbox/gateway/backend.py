"""Logging in to the PostgreSQL server behind the gateway."""

import asyncio
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from lakebase_sandbox.gateway import wire
from lakebase_sandbox.gateway.scram import MECHANISM, ScramClient
from lakebase_sandbox.gateway.wire import (
    Message,
    ProtocolError,
    Refusal,
    StartupPacket,
    read_message,
    startup_message,
)

BUFFER_BYTES = 256 * 1024


class Streams(NamedTuple):
    """The two halves of one connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


@dataclass(frozen=True, slots=True)
class Backend:
    """Where the server listens: a Unix socket that trusts the gateway, and a TCP port that wants passwords."""

    socket_directory: Path
    port: int

    async def cancel(self, request: StartupPacket) -> None:
        """Pass a cancel request on; as in PostgreSQL nothing tells whether it did anything."""
        server = await self._open_socket()
        server.writer.write(request.encode())
        await server.writer.drain()
        server.writer.close()

    async def log_in(
        self, version: int, parameters: Mapping[str, str], password: str | None
    ) -> tuple[Streams, bytes]:
        """Start a session as the user that `parameters` name.

        Parameters:
            version: the protocol version that the client asked for.
            password: prove this one to the server (a native login); None: the client's identity is established.

        Returns:
            The streams, and the server's first message for the client after the authentication exchange.

        Raises:
            Refusal: the server is not there.
        """
        try:
            server = await (self._open_socket() if password is None else self._open_tcp())
        except OSError as error:
            raise Refusal("the database system is starting up", "57P03") from error
        server.writer.write(startup_message(version, parameters))
        if password is None:
            return server, b""
        try:
            return server, await _prove_password(server, password)
        except BaseException:
            server.writer.close()
            raise

    async def _open_socket(self) -> Streams:
        path = self.socket_directory / f".s.PGSQL.{self.port}"
        return Streams(*await asyncio.open_unix_connection(path, limit=BUFFER_BYTES))

    async def _open_tcp(self) -> Streams:
        return Streams(*await asyncio.open_connection("127.0.0.1", self.port, limit=BUFFER_BYTES))


async def _prove_password(server: Streams, password: str) -> bytes:
    """Go through SCRAM; return what the client is to see of it: its end (success or an error) and any notices."""
    scram = ScramClient(password)
    notices = b""
    while True:
        message = await read_message(server.reader)
        match message.authentication:
            case wire.AUTHENTICATION_SASL:
                first = scram.first()
                body = MECHANISM.encode() + b"\0" + struct.pack("!i", len(first)) + first
                server.writer.write(Message(b"p", body).encode())
            case wire.AUTHENTICATION_SASL_CONTINUE:
                server.writer.write(Message(b"p", scram.final(message.body[4:])).encode())
            case wire.AUTHENTICATION_SASL_FINAL:
                continue
            case wire.AUTHENTICATION_OK:
                return notices + message.encode()
            case None if message.kind == b"E":
                return notices + message.encode()
            case None:
                notices += message.encode()
            case code:
                raise ProtocolError(f"the server asks for authentication {code}, expected SCRAM")
