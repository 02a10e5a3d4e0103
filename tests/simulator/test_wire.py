"""The gateway's reading of the protocol, piece by piece."""

import struct
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakebase_sandbox.gateway.wire import (
    Message,
    MessageCounter,
    ProtocolError,
    startup_body_length,
    startup_message,
    startup_packet,
    with_verifiers_refused,
)

messages = st.lists(
    st.tuples(st.sampled_from([b"Q", b"P", b"B", b"E", b"S"]), st.binary(max_size=40)), max_size=20
)


def encode(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


@given(messages, st.data())
def test_message_ends_are_found_however_the_stream_is_cut(
    sent: list[tuple[bytes, bytes]], data: st.DataObject
) -> None:
    encoded = [encode(kind, body) for kind, body in sent]
    stream = b"".join(encoded)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=10)) | {0, len(stream)})
    counter = MessageCounter()
    found = [start + end for start, stop in pairwise(cuts) for end in counter.ends(stream[start:stop])]
    assert found == [sum(map(len, encoded[: n + 1])) for n in range(len(encoded))]


@given(
    st.dictionaries(
        st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)), min_size=1),
        st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",))),
        max_size=5,
    )
)
def test_startup_parameters_survive_encoding(parameters: dict[str, str]) -> None:
    encoded = startup_message(196608, parameters)
    assert startup_body_length(struct.unpack("!i", encoded[:4])[0]) == len(encoded) - 4
    packet = startup_packet(encoded[4:])
    assert packet.is_startup
    assert packet.parameters() == parameters


@pytest.mark.parametrize("payload", [b"", b"user\0", b"user\0alice", b"user\0alice\0"])
def test_a_malformed_startup_packet_is_an_error(payload: bytes) -> None:
    packet = startup_packet(struct.pack("!i", 196608) + payload)
    with pytest.raises(ProtocolError):
        packet.parameters()


@pytest.mark.parametrize("length", [-1, 0, 7, 10_001, 0x47455420])
def test_an_absurd_length_is_an_error(length: int) -> None:
    with pytest.raises(ProtocolError):
        startup_body_length(length)


SET_BY_VERIFIER = b"ALTER ROLE shop LOGIN password 'SCRAM-SHA-256$4096:c2FsdA==$a:b'; SELECT 1"


@pytest.mark.parametrize(
    ("message", "statement"),
    [
        (Message(b"Q", SET_BY_VERIFIER + b"\0"), lambda body: body.removesuffix(b"\0")),
        (
            Message(b"P", b"name\0" + SET_BY_VERIFIER + b"\0\0\1\0\0\0\x19"),
            lambda body: body.removeprefix(b"name\0").removesuffix(b"\0\0\0"),
        ),
    ],
)
def test_a_statement_with_a_verifier_is_replaced_by_one_that_fails(
    message: Message, statement: Callable[[bytes], bytes]
) -> None:
    failing = with_verifiers_refused(message, "no")
    assert failing.kind == message.kind
    assert statement(failing.body).startswith(b"DO ")
    assert b"SCRAM" not in failing.body


@pytest.mark.parametrize(
    "message",
    [
        Message(b"Q", b"ALTER ROLE shop PASSWORD 'a-plain-One-1'\0"),
        Message(b"Q", b"ALTER ROLE shop PASSWORD NULL\0"),
        Message(b"B", SET_BY_VERIFIER),
        Message(b"Q", b"SELECT 'SCRAM-SHA-256$4096'\0"),
    ],
)
def test_all_other_messages_are_passed_on_as_they_are(message: Message) -> None:
    assert with_verifiers_refused(message, "no") == message
