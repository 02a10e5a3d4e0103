"""The parts of the PostgreSQL frontend/backend protocol that the gateway takes part in.

Everything after the login passes through untouched, but for passwords that a server refuses. Source: PostgreSQL documentation, "Frontend/Backend Protocol".
"""

import asyncio
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass

SSL_REQUEST = 80877103
GSS_ENCRYPTION_REQUEST = 80877104
CANCEL_REQUEST = 80877102

_STARTUP_LIMIT = 10_000  # bytes, as in PostgreSQL (MAX_STARTUP_PACKET_LENGTH)
_MESSAGE_LIMIT = 1 << 20  # bytes; nothing in a login comes near
STATEMENT_LIMIT = 1 << 30  # bytes, as in PostgreSQL (PQ_LARGE_MESSAGE_LIMIT)

_VERIFIER = re.compile(rb"\bPASSWORD\s+'(SCRAM-SHA-256\$|md5[0-9a-f]{32}')", re.IGNORECASE)

AUTHENTICATION_OK = 0
AUTHENTICATION_SASL = 10
AUTHENTICATION_SASL_CONTINUE = 11
AUTHENTICATION_SASL_FINAL = 12


class ProtocolError(ConnectionError):
    """The other side sent something that has no place in a PostgreSQL login."""


class Refusal(Exception):  # noqa: N818 (it is an answer, not a fault)
    """A login that is turned down: what the client gets to read, and its SQLSTATE."""

    def __init__(self, message: str, sqlstate: str = "XX000") -> None:
        super().__init__(message)
        self.message = message
        self.sqlstate = sqlstate


@dataclass(frozen=True, slots=True)
class StartupPacket:
    """The first packet of a connection: a request code or protocol version, and what follows it."""

    code: int
    payload: bytes

    @property
    def is_startup(self) -> bool:
        return self.code not in {SSL_REQUEST, GSS_ENCRYPTION_REQUEST, CANCEL_REQUEST}

    def parameters(self) -> dict[str, str]:
        """The parameters of a startup message.

        Raises:
            ProtocolError: they are malformed.
        """
        words = self.payload.split(b"\0")
        names, values = words[0:-2:2], words[1:-2:2]
        if len(names) != len(values) or words[-2:] != [b"", b""]:
            raise ProtocolError("malformed startup packet")
        return {n.decode(): v.decode() for n, v in zip(names, values, strict=True)}

    def encode(self) -> bytes:
        return struct.pack("!ii", len(self.payload) + 8, self.code) + self.payload


def startup_message(version: int, parameters: Mapping[str, str]) -> bytes:
    """A startup message that asks for protocol `version` with `parameters`."""
    payload = b"".join(f"{name}\0{value}\0".encode() for name, value in parameters.items()) + b"\0"
    return StartupPacket(version, payload).encode()


def startup_body_length(length: int) -> int:
    """How many bytes follow the length word of a startup packet.

    Raises:
        ProtocolError: this is not PostgreSQL's protocol.
    """
    if not 8 <= length <= _STARTUP_LIMIT:
        raise ProtocolError("invalid length of startup packet")
    return length - 4


def startup_packet(body: bytes) -> StartupPacket:
    """A startup packet from the bytes after its length word."""
    return StartupPacket(struct.unpack_from("!i", body)[0], body[4:])


@dataclass(frozen=True, slots=True)
class Message:
    """One typed message."""

    kind: bytes
    body: bytes

    def encode(self) -> bytes:
        return self.kind + struct.pack("!i", len(self.body) + 4) + self.body

    @property
    def authentication(self) -> int | None:
        """The authentication request code of an `R` message."""
        return struct.unpack_from("!i", self.body)[0] if self.kind == b"R" else None


def with_verifiers_refused(message: Message, refusal: str) -> Message:
    """What goes to the server in place of a client's message: one that fails, where it sets a password by its verifier.

    Parameters:
        message: of the client.
        refusal: the text of the error.
    """
    if message.kind not in {b"Q", b"P"} or not _VERIFIER.search(message.body):  # Query, Parse
        return message
    failing = f"DO $verifier$ BEGIN RAISE EXCEPTION USING ERRCODE = 'XX000', MESSAGE = $text${refusal}$text$; END $verifier$"
    if message.kind == b"Q":
        return Message(message.kind, failing.encode() + b"\0")
    name = message.body.split(b"\0", 1)[0]
    return Message(message.kind, name + b"\0" + failing.encode() + b"\0" + struct.pack("!h", 0))


async def read_message(reader: asyncio.StreamReader, limit: int = _MESSAGE_LIMIT) -> Message:
    """Read one typed message of at most `limit` bytes.

    Raises:
        ProtocolError: the length is absurd.
        asyncio.IncompleteReadError: the other side closed the connection.
    """
    kind, length = struct.unpack("!ci", await reader.readexactly(5))
    if not 4 <= length <= limit:
        raise ProtocolError("invalid message length")
    return Message(kind, await reader.readexactly(length - 4))


def cleartext_password_request() -> bytes:
    return Message(b"R", struct.pack("!i", 3)).encode()


def error_response(refusal: Refusal) -> bytes:
    """An ErrorResponse of severity FATAL."""
    fields = {"S": "FATAL", "V": "FATAL", "C": refusal.sqlstate, "M": refusal.message}
    body = b"".join(f"{code}{text}\0".encode() for code, text in fields.items()) + b"\0"
    return Message(b"E", body).encode()


class MessageCounter:
    """Finds where messages end in a stream that arrives in arbitrary pieces."""

    def __init__(self) -> None:
        self._header = b""
        self._missing = 0  # bytes of the current message's body that are still to come

    def ends(self, data: bytes) -> list[int]:
        """The offsets in `data` right after each message that ends in it."""
        found = []
        position = 0
        while position < len(data):
            if self._missing:
                step = min(self._missing, len(data) - position)
                self._missing -= step
                position += step
            else:
                piece = data[position : position + 5 - len(self._header)]
                self._header += piece
                position += len(piece)
                if len(self._header) < 5:
                    break
                self._missing = max(struct.unpack("!i", self._header[1:])[0] - 4, 0)
                self._header = b""
            if not self._missing:
                found.append(position)
        return found
