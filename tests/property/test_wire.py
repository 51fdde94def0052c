"""Codecs: any split of a stream gives the same events, any garbage one documented error."""

from __future__ import annotations

from types import NoneType, UnionType
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from common import records, tickets
from common.errors import IntegrityError, PutterError
from common.keys import ClusterKey, Keyring
from common.limits import HELLO_BYTES_MAX, KIB, MESSAGE_HEADER_BYTES_MAX
from common.tickets import TICKETS_MAX
from common.wire import acks
from common.wire.acks import AckDecoder
from common.wire.greeting import ClientGreeting, ServerGreeting
from common.wire.handshake import Identity
from common.wire.message import Message
from common.wire.reader import Buffers, MessageReader
from common.wire.session import (
    GREETING,
    PRELUDE_BYTES,
    AnyMessage,
    Hello,
    encode,
)

RING = Keyring([ClusterKey.from_material(bytes(32))])
STAGING = 64 * KIB

CUTS = st.lists(st.integers(1, 64), max_size=60)
NUMBERS = st.integers(0, TICKETS_MAX - 1)
PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(-(2**63), 2**64 - 1),
    str: st.text(max_size=6),
    bytes: st.binary(max_size=20),
    bool: st.booleans(),
    NoneType: st.none(),
    Any: st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=6),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
        max_leaves=4,
    ),
}


def any_of(kind: Any) -> st.SearchStrategy[Any]:
    """Values of an annotated type, small ones."""
    if kind in PLAIN:
        return PLAIN[kind]
    inner = get_args(kind)
    if get_origin(kind) is Annotated:  # with a limit that is beyond what is small
        return any_of(inner[0])
    if get_origin(kind) is UnionType:
        return st.one_of([any_of(each) for each in inner])
    if get_origin(kind) is Literal:
        return st.sampled_from(inner)
    if get_origin(kind) is dict:
        return st.dictionaries(any_of(inner[0]), any_of(inner[1]), max_size=2)
    if inner[-1:] == (Ellipsis,):
        return st.lists(any_of(inner[0]), max_size=2).map(tuple)
    if inner:
        return st.tuples(*(any_of(each) for each in inner))
    return st.builds(kind, *(any_of(field.type) for field in msgspec.structs.fields(kind)))


MESSAGES: st.SearchStrategy[Message] = st.one_of([any_of(kind) for kind in get_args(AnyMessage)])
EVENTS = st.lists(st.tuples(MESSAGES, st.binary(max_size=200)), max_size=6)
# Bytes that get further into a decoder than plain noise does.
NOISE = st.one_of(
    st.binary(max_size=300),
    st.builds(
        lambda header, payload, body: (
            len(header).to_bytes(4, "big") + payload.to_bytes(4, "big") + header + body
        ),
        st.one_of(
            st.binary(min_size=1, max_size=80),
            st.builds(
                lambda message, rest: encode(message)[PRELUDE_BYTES:] + rest,
                MESSAGES,
                st.binary(max_size=3),
            ),
        ),
        st.integers(0, 40),
        st.binary(max_size=60),
    ),
)


def pieces(wire: bytes, cuts: list[int]) -> list[bytes]:
    """The stream in pieces of the given sizes, again and again; whole without any."""
    out, at, turn = [], 0, 0
    while at < len(wire):
        size = cuts[turn % len(cuts)] if cuts else len(wire)
        out.append(wire[at : at + size])
        at, turn = at + size, turn + 1
    return out


class Counting(Buffers):
    """How much memory payloads were given."""

    def __init__(self) -> None:
        self.taken = 0

    def take(self, size: int) -> memoryview:
        self.taken += size
        return super().take(size)


def heard(wire: list[bytes], **limits: Any) -> tuple[list[tuple[AnyMessage, bytes]], str]:
    """The events of a stream in pieces, and the name of the error that ended it."""
    pool = Counting()
    reader = MessageReader(pool, **limits)
    events: list[tuple[AnyMessage, bytes]] = []
    try:
        for piece in wire:
            for message, payload in reader.feed(piece):
                events.append((message, bytes(payload)))
            assert 0 < len(reader.get_buffer()) <= MESSAGE_HEADER_BYTES_MAX + 2 * STAGING
    except PutterError as error:
        return events, type(error).__name__
    return events, ""


@given(st.lists(st.tuples(NUMBERS, st.integers(0, 255)), max_size=40), CUTS)
def test_acks_come_back_however_they_were_cut(given_acks: list[tuple[int, int]], cuts: list[int]):
    fields = np.array(
        [list(tickets.encode_field(number)) for number, _ in given_acks], np.uint8
    ).reshape(len(given_acks), 8)
    wire = acks.encode(fields, np.array([status for _, status in given_acks], np.uint8))
    decoder = AckDecoder()
    got: list[tuple[int, int]] = []
    for piece in pieces(wire, cuts):
        numbers, statuses = decoder.receive(piece)
        got += list(zip(numbers.tolist(), statuses.tolist(), strict=True))
    assert got == given_acks
    assert decoder.pending_bytes == 0


@given(st.binary(max_size=500), CUTS)
def test_any_bytes_are_acks_and_nothing_is_kept_of_them(wire: bytes, cuts: list[int]) -> None:
    whole = AckDecoder()
    numbers, statuses = whole.receive(wire)
    assert len(numbers) == len(wire) // 9
    assert whole.pending_bytes == len(wire) % 9
    decoder = AckDecoder()
    parts = [decoder.receive(piece) for piece in pieces(wire, cuts)]
    assert [n for part, _ in parts for n in part.tolist()] == numbers.tolist()
    assert [s for _, part in parts for s in part.tolist()] == statuses.tolist()
    assert decoder.pending_bytes == whole.pending_bytes
    for number, at in zip(numbers.tolist(), range(0, len(wire), 9), strict=False):
        if number >= 0:
            assert tickets.encode_field(number) == wire[at : at + 8]


@given(EVENTS, CUTS)
def test_messages_come_back_however_they_were_cut(
    events: list[tuple[Message, bytes]], cuts: list[int]
) -> None:
    wire = b"".join(encode(message, len(payload)) + payload for message, payload in events)
    assert heard(pieces(wire, cuts)) == (events, "")


@given(EVENTS, st.integers(0, 400), CUTS)
def test_a_stream_that_ends_anywhere_gave_what_was_whole(
    events: list[tuple[Message, bytes]], missing: int, cuts: list[int]
) -> None:
    lengths, wire = [0], b""
    for message, payload in events:
        wire += encode(message, len(payload)) + payload
        lengths.append(len(wire))
    wire = wire[: max(0, len(wire) - missing)]
    whole = sum(length <= len(wire) for length in lengths) - 1
    assert heard(pieces(wire, cuts)) == (events[:whole], "")


@settings(max_examples=300)
@given(EVENTS, NOISE, CUTS)
def test_garbage_is_the_same_documented_error_however_it_was_cut(
    events: list[tuple[Message, bytes]], noise: bytes, cuts: list[int]
) -> None:
    """Behind good messages, too: those come first."""
    wire = b"".join(encode(message, len(payload)) + payload for message, payload in events)
    events_and_error = heard([wire + noise])
    assert heard(pieces(wire + noise, [1])) == events_and_error
    assert heard(pieces(wire + noise, cuts)) == events_and_error
    assert events_and_error[0][: len(events)] == events


@given(NOISE)
def test_garbage_takes_no_memory(noise: bytes) -> None:
    """What a stranger announces is not set aside: a greeting has no payloads."""
    pool = Counting()
    reader = MessageReader(pool, header_bytes_max=HELLO_BYTES_MAX, payload_bytes_max=0)
    try:
        for piece in pieces(noise, [1]):
            reader.feed(piece)
            assert len(reader.get_buffer()) <= STAGING + HELLO_BYTES_MAX + PRELUDE_BYTES
    except PutterError:
        pass
    assert pool.taken == 0


def hello() -> Hello:
    return Hello("router", "r", "i", 4096, tuple(RING.ids), b"c" * 16)


def sides() -> tuple[ClientGreeting, ServerGreeting]:
    return ClientGreeting(RING, hello()), ServerGreeting(RING, Identity("n", "i"), b"s" * 16)


def told(side: ClientGreeting | ServerGreeting, wire: list[bytes]) -> tuple[bytes, str]:
    """What a side answered, and the name of the error that ended it."""
    out = b""
    try:
        for piece in wire:
            out += side.receive(piece)
    except PutterError as error:
        if isinstance(side, ServerGreeting):
            out += side.refusal(error)
        return out, type(error).__name__
    return out, ""


@given(CUTS, CUTS)
def test_a_greeting_succeeds_however_it_was_cut(there: list[int], back: list[int]) -> None:
    client, server = sides()
    answer, error = told(server, pieces(client.opening, there))
    assert error == ""
    proof, error = told(client, pieces(answer, back))
    assert error == ""
    ready, error = told(server, pieces(proof, there))
    assert error == ""
    assert told(client, pieces(ready, back)) == (b"", "")
    assert client.peer == server.peer
    assert client.peer is not None


STARTS = st.sampled_from([b"", GREETING, GREETING[:5], GREETING + encode(hello())])


@settings(max_examples=300)
@given(STARTS, NOISE, CUTS)
def test_garbage_in_a_greeting_is_the_same_error_however_it_was_cut(
    start: bytes, noise: bytes, cuts: list[int]
) -> None:
    """And nobody gets in by it, whatever the side."""
    for which in (0, 1):
        outcomes = []
        for wire in ([start + noise], pieces(start + noise, [1]), pieces(start + noise, cuts)):
            side = sides()[which]
            outcomes.append(told(side, wire)[1])
            assert side.peer is None
        assert len(set(outcomes)) == 1, outcomes


RECORDS = st.one_of([any_of(kind) for kind in get_args(records.Known)])


@given(RECORDS)
def test_records_come_back(record: records.CommitRecord) -> None:
    assert records.decode(records.encode(record)) == record


@settings(max_examples=300)
@given(
    st.one_of(
        st.binary(max_size=200),
        st.builds(
            lambda record, at, byte: _with_byte(records.encode(record), at, byte),
            RECORDS,
            st.integers(0, 10_000),
            st.integers(0, 255),
        ),
    )
)
def test_any_bytes_are_a_record_that_comes_back_or_an_integrity_error(data: bytes) -> None:
    try:
        record = records.decode(data)
    except IntegrityError:
        return
    again = records.encode(record)
    if isinstance(record, records.Unknown):
        assert again == data
    # By their bytes: a setting may be no number, which is not equal to itself.
    assert records.encode(records.decode(again)) == again


def _with_byte(data: bytes, at: int, byte: int) -> bytes:
    at %= len(data)
    return data[:at] + bytes([byte]) + data[at + 1 :]
