"""A TLS gateway in front of one PostgreSQL server.

It speaks just enough of the protocol to ask for the password, hands the question to a `Doorman`, logs in to the
server and then passes bytes in both directions.
"""

import asyncio
import logging
import socket
import ssl
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from lakebase_sandbox.gateway import wire
from lakebase_sandbox.gateway.backend import BUFFER_BYTES, Backend, Streams
from lakebase_sandbox.gateway.wire import ProtocolError, Refusal, StartupPacket

logger = logging.getLogger(__name__)

LOGIN_TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Admission:
    """A login that may go on.

    Parameters:
        user: the Postgres role.
        password: to prove to the server as it is (a native login); None: the identity is established.
        expires_at: when the credential expires, in seconds since 1970; None for a native login.
    """

    user: str
    password: str | None = None
    expires_at: float | None = None


class Doorman(Protocol):
    """Decides who may log in, and is told who did."""

    async def admit(self, user: str, password: str) -> Admission:
        """Judge a login; may take its time (a compute that wakes up).

        Raises:
            Refusal: what to tell the client instead.
        """

    def session_started(self, pid: int, admission: Admission) -> None:
        """The server gave this login the process `pid`; called before the client can send a statement.

        Raises:
            Refusal: meanwhile the login has become impossible.
        """

    def session_ended(self, pid: int) -> None: ...


@dataclass(slots=True)
class TrafficFaults:
    """What is done to the traffic of sessions.

    Parameters:
        delay_seconds: pause before anything a client sends is passed on.
        cut_after: connections that begin from now on are cut after so many messages of their client.
    """

    delay_seconds: float = 0.0
    cut_after: int | None = None


class ReservedPort:
    """A free port of 127.0.0.1 that nobody else can take.

    It is bound and never listened on: while nobody serves it, a client gets "connection refused".
    """

    def __init__(self) -> None:
        self._socket = _bound_socket(0)
        self.number: int = self._socket.getsockname()[1]

    def close(self) -> None:
        """Give it back."""
        self._socket.close()


class Gateway:
    """The gateway of one server: it listens on one port of 127.0.0.1, the same one for its whole life.

    Parameters:
        tls: a server-side context.
        backend: the server behind it.
        doorman: who decides about logins.
        port: where to listen; None: on a port of its own.
        verifier_refusal: the error for a statement that sets a password by its verifier; None: they are taken.
    """

    def __init__(
        self,
        *,
        tls: ssl.SSLContext,
        backend: Backend,
        doorman: Doorman,
        port: ReservedPort | None = None,
        verifier_refusal: str | None = None,
    ) -> None:
        self._tls = tls
        self._backend = backend
        self._doorman = doorman
        self._verifier_refusal = verifier_refusal
        self.faults = TrafficFaults()
        self._sessions: set[_Session] = set()
        self._accepting: asyncio.Task[None] | None = None
        self._swallowing: list[socket.socket] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._reserved = port or ReservedPort()
        self._is_own_port = port is None
        self.port = self._reserved.number

    @property
    def is_open(self) -> bool:
        return self._accepting is not None

    def open(self) -> None:
        """Begin to accept connections; nothing happens where that is so already."""
        if self._accepting is None:
            self._stop_swallowing()
            listener = _bound_socket(self.port)
            listener.listen(512)
            self._accepting = asyncio.create_task(self._accept(listener))

    async def close(self) -> None:
        """Refuse new connections; those that are open go on."""
        self._stop_swallowing()
        accepting, self._accepting = self._accepting, None
        if accepting is not None:
            accepting.cancel()
            with suppress(asyncio.CancelledError):
                await accepting

    async def swallow(self) -> None:
        """Leave new connections without any answer: the kernel drops what comes for a listener whose queue is full."""
        if self._swallowing:
            return
        await self.close()
        listener = _bound_socket(self.port)
        listener.listen(0)
        self._swallowing.append(listener)
        filler = socket.socket()  # takes the one place in the queue, and is never accepted
        filler.setblocking(False)
        await asyncio.get_running_loop().sock_connect(filler, ("127.0.0.1", self.port))
        self._swallowing.append(filler)

    def _stop_swallowing(self) -> None:
        while self._swallowing:
            self._swallowing.pop().close()

    def cut_sessions(self, after_messages: int = 0) -> None:
        """Break every open connection: now, or each after so many more messages of its client."""
        for session in tuple(self._sessions):
            session.cut_after(after_messages)

    async def shut_down(self) -> None:
        """Close, break what is open, and give its own port back."""
        await self.close()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._is_own_port:
            self._reserved.close()

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with listener:
            while True:
                connection, _ = await loop.sock_accept(listener)
                task = asyncio.create_task(self._serve(connection))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _serve(self, connection: socket.socket) -> None:
        session = _Session(self._backend, self._doorman, self.faults, self._verifier_refusal)
        self._sessions.add(session)
        try:
            async with asyncio.timeout(LOGIN_TIMEOUT_SECONDS):
                client = await self._secure(connection)
                logged_in = client is not None and await session.log_in(client)
            if logged_in:
                await session.run()
        except (OSError, EOFError, ssl.SSLError, ProtocolError, TimeoutError) as error:
            logger.debug("connection ended: %s", error)
        except Exception:
            logger.exception("a connection failed")
        finally:
            self._sessions.discard(session)
            session.end()

    async def _secure(self, connection: socket.socket) -> Streams | None:
        """Take a new connection to TLS; None where it wanted something else, which it got."""
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # asyncio does so only for its own
        try:
            packet = await _first_packet(connection)
            if packet.code == wire.SSL_REQUEST:
                await asyncio.get_running_loop().sock_sendall(connection, b"S")
                return await _start_tls(connection, self._tls)
            if packet.code == wire.CANCEL_REQUEST:
                await self._backend.cancel(packet)
            else:
                refusal = Refusal(f"Invalid protocol version: {packet.code}", "08P01")
                await asyncio.get_running_loop().sock_sendall(connection, wire.error_response(refusal))
        except BaseException:
            connection.close()
            raise
        connection.close()
        return None


class _Session:
    """One client connection after its TLS handshake."""

    def __init__(
        self, backend: Backend, doorman: Doorman, faults: TrafficFaults, verifier_refusal: str | None
    ) -> None:
        self._backend = backend
        self._doorman = doorman
        self._faults = faults
        self._verifier_refusal = verifier_refusal
        self._messages_left: int | None = faults.cut_after
        self._client: Streams | None = None
        self._server: Streams | None = None
        self._pid: int | None = None

    async def log_in(self, client: Streams) -> bool:
        """Take the client through its login; False: it got its answer and there is nothing to pass on."""
        self._client = client
        length = wire.startup_body_length(struct.unpack("!i", await client.reader.readexactly(4))[0])
        packet = wire.startup_packet(await client.reader.readexactly(length))
        if packet.code == wire.CANCEL_REQUEST:
            await self._backend.cancel(packet)
            return False
        try:
            parameters = packet.parameters()
            admission = await self._ask(client, parameters)
            self._server, first = await self._backend.log_in(packet.code, parameters, admission.password)
            client.writer.write(first)
            await self._pass_on_start(admission, client, self._server)
        except Refusal as refusal:
            client.writer.write(wire.error_response(refusal))
            await client.writer.drain()
            return False
        return True

    async def _ask(self, client: Streams, parameters: Mapping[str, str]) -> Admission:
        user = parameters.get("user", "")
        if not user:
            raise Refusal("no PostgreSQL user name specified in startup packet", "28000")
        client.writer.write(wire.cleartext_password_request())
        await client.writer.drain()
        answer = await wire.read_message(client.reader)
        if answer.kind != b"p":
            raise ProtocolError("expected a password message")
        return await self._doorman.admit(user, answer.body.rstrip(b"\0").decode(errors="replace"))

    async def _pass_on_start(self, admission: Admission, client: Streams, server: Streams) -> None:
        """Pass on what the server says until it is ready for statements, or has refused and closed."""
        with suppress(asyncio.IncompleteReadError):
            while True:
                message = await wire.read_message(server.reader)
                if message.kind == b"K":  # BackendKeyData
                    self._pid = struct.unpack_from("!i", message.body)[0]
                    self._doorman.session_started(self._pid, admission)
                client.writer.write(message.encode())
                if message.kind in {b"Z", b"E"}:  # ReadyForQuery, ErrorResponse
                    break
        await client.writer.drain()

    async def run(self) -> None:
        """Pass bytes both ways until either side is done."""
        assert self._client is not None
        assert self._server is not None
        pumps = (
            asyncio.create_task(self._pump_up(self._client.reader, self._server.writer)),
            asyncio.create_task(_pump(self._server.reader, self._client.writer)),
        )
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    def cut_after(self, messages: int) -> None:
        self._messages_left = messages
        if messages == 0:
            self._cut()

    def end(self) -> None:
        """Close both sides; what is still on its way to the client gets there."""
        for side in (self._client, self._server):
            if side is not None:
                side.writer.close()
        if self._pid is not None:
            self._doorman.session_ended(self._pid)

    async def _pump_up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        counter = wire.MessageCounter()
        while data := await self._from_client(reader):
            ends = counter.ends(data)
            if self._faults.delay_seconds:
                await asyncio.sleep(self._faults.delay_seconds)
            if self._messages_left is not None:
                if len(ends) >= self._messages_left:
                    last = ends[self._messages_left - 1] if self._messages_left else 0
                    writer.write(data[:last])
                    await writer.drain()
                    self._cut()
                    return
                self._messages_left -= len(ends)
            writer.write(data)
            await writer.drain()

    async def _from_client(self, reader: asyncio.StreamReader) -> bytes:
        """The next bytes for the server: message by message only where messages matter."""
        if self._verifier_refusal is None:
            return await reader.read(BUFFER_BYTES)
        message = await wire.read_message(reader, wire.STATEMENT_LIMIT)
        return wire.with_verifiers_refused(message, self._verifier_refusal).encode()

    def _cut(self) -> None:
        """Break the connection without a word, as a lost network path does."""
        for side in (self._client, self._server):
            if side is not None:
                side.writer.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(BUFFER_BYTES):
        writer.write(data)
        await writer.drain()


async def _first_packet(connection: socket.socket) -> StartupPacket:
    """The first packet that is not about GSSAPI encryption, which is declined."""
    while True:
        (length,) = struct.unpack("!i", await _receive(connection, 4))
        packet = wire.startup_packet(await _receive(connection, wire.startup_body_length(length)))
        if packet.code != wire.GSS_ENCRYPTION_REQUEST:
            return packet
        await asyncio.get_running_loop().sock_sendall(connection, b"N")


async def _receive(connection: socket.socket, length: int) -> bytes:
    loop = asyncio.get_running_loop()
    data = b""
    while len(data) < length:
        piece = await loop.sock_recv(connection, length - len(data))
        if not piece:
            raise EOFError("the client closed the connection")
        data += piece
    return data


async def _start_tls(connection: socket.socket, tls: ssl.SSLContext) -> Streams:
    """Do the server's side of the handshake; from here on the streams own the socket."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=BUFFER_BYTES)
    protocol = asyncio.StreamReaderProtocol(reader)
    transport, _ = await loop.connect_accepted_socket(lambda: protocol, connection, ssl=tls)
    return Streams(reader, asyncio.StreamWriter(transport, protocol, reader, loop))


def _bound_socket(port: int) -> socket.socket:
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind(("127.0.0.1", port))
    bound.setblocking(False)
    return bound
