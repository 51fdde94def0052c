"""Session messages: every one round-trips, every limit holds, garbage is one documented error."""

from __future__ import annotations

import struct
from typing import Any, get_args

import msgspec
import pytest

from common.errors import ProtocolError, TooLarge, VersionUnknown
from common.limits import (
    FRAME_DATA_BYTES_DEFAULT,
    HELLO_BYTES_MAX,
    MESSAGE_HEADER_BYTES_MAX,
    MESSAGE_PAYLOAD_BYTES_MAX,
    MIB,
)
from common.meta.interface import Ceilings
from common.wire import session
from common.wire.inventory import (
    AskDigests,
    AskEntries,
    Count,
    Counts,
    DigestList,
    EntryList,
    HoldingList,
    ListHoldings,
)
from common.wire.locations import Locate, SegmentFile, Spot, Spots
from common.wire.message import Message, split_payload
from common.wire.reader import Buffers, MessageReader
from common.wire.scrubbing import Flaw, Scrub, ScrubReply
from common.wire.session import (
    AnyMessage,
    Batch,
    CeilingsReply,
    Data,
    Done,
    FindRecord,
    Free,
    Hello,
    ListRecords,
    Ping,
    Proof,
    Raise,
    Read,
    Ready,
    RecordHeader,
    RecordList,
    RecordReply,
    RecordsDone,
    Refused,
    RunHeader,
    RunsDone,
    Stat,
    StatReply,
    Welcome,
    check_greeting,
    encode,
    frame_bytes_agreed,
)
from common.wire.verification import Sums, Verify

# Each with a value of its own in every field, so that two that changed places would be noticed.
MESSAGES: list[Message] = [
    Hello("router", "n1", "i1", 4096, ("k1", "k2"), b"c" * 16, "host", 5002, "1.2"),
    Welcome("n2", "i2", 8192, "k1", b"s" * 16, b"p" * 32, "1.3", "tree"),
    Proof(b"p" * 32),
    Ready(),
    Refused(5, "reason", "hint"),
    Batch(
        (RunHeader(1, 20, "OBJ"), RunHeader(2, 40, "", 1458, "id-1")),
        (RecordHeader(3, 5, 2**60, "O", "id-2"),),
    ),
    RecordsDone(((1, 0), (2, 3))),
    RunsDone(((1, 2, 3), (4, 5, 6))),
    Read(1, 2**41, 3, raw=True, request_id="id-3"),
    Verify(1, 2**41, 3, "0123abcd", "id-4"),
    Sums(1, 2**41, 3, 65_536, 150_000, more=True, status=1, reason="rot"),
    Data(1, 2, 3, 4, "k1", more=True, status=5, reason="why"),
    Stat(1, 2**41, raw=True),
    StatReply(1, found=True, size=2, checksum=b"12345678", object_id="O", key_id="k", damaged=True),
    Free(1, ((2, 3), (4, 5)), ("A", "B"), raw=True),
    FindRecord(1, "OBJ"),
    RecordReply(1, found=True, number=2),
    ListRecords(1, 2, 3, ("abort",)),
    RecordList(1, ((2, 3), (4, 5)), 4),
    Raise(1, Ceilings(2, 3, 4)),
    CeilingsReply(1, Ceilings(2, 3, 4), 5, 6),
    Count(1, ((2, 3), (4, 5))),
    Count(1, ((2, 3),), verified=True),
    ListHoldings(1, "3.7", 100),
    HoldingList(1, "", ((5, 6, "ZZ"), (7, 1, "A")), 3, ("07cff310",)),
    AskDigests(1, "tickets", 1024, 2**64 - 1, 0, 4096),
    DigestList(1, 4096),
    AskEntries(1, "objects", 5, 1 << 62),
    EntryList(1, 700),
    Counts(1, (3, 0)),
    Counts(1, (3, 0), (1_700_000_000_000, -1)),
    Scrub(1, "start", 2, 3),
    ScrubReply(
        1,
        2,
        running=True,
        demanded=True,
        started_ms=3,
        verified_bytes=4,
        total_bytes=5,
        findings=6,
        last_number=7,
        last_started_ms=8,
        last_ended_ms=9,
        last_bytes=10,
        last_findings=11,
        damaged_tickets=12,
        damaged_others=13,
        flaws=(Flaw("tickets", 14, 15, "O", "place", "why", raw=True),),
        last_mended=16,
    ),
    Locate(1, 2**41, 3, 4),
    Spots(
        1,
        2**41 + 3,
        (SegmentFile("/srv/a.seg", 2, 3), SegmentFile("/srv/b.seg", 4, 5)),
        (Spot(2**41, 6, 65_536, "0123abcd", 1, 7, 8),),
    ),
    Done(1, 2, "why", 3),
    Ping(2**64 - 1),
]
NAMES = [type(message).__name__ for message in MESSAGES]


def packed(value: Any, payload: int = 0) -> bytes:
    """A message as another implementation might write it."""
    header = msgspec.msgpack.encode(value)
    return struct.pack(">II", len(header), payload) + header


def read(wire: bytes, **limits: int) -> list[tuple[AnyMessage, bytes]]:
    return [(message, bytes(payload)) for message, payload in MessageReader(**limits).feed(wire)]


def test_the_list_above_is_complete() -> None:
    assert {type(message) for message in MESSAGES} == set(get_args(AnyMessage))


@pytest.mark.parametrize("message", MESSAGES, ids=NAMES)
def test_every_message_comes_back_as_it_was(message: Message) -> None:
    wire = encode(message, 3) + b"abc"
    assert read(wire) == [(message, b"abc")]
    assert read(encode(message)) == [(message, b"")]


@pytest.mark.parametrize("message", MESSAGES, ids=NAMES)
def test_fields_of_a_later_release_are_ignored(message: Message) -> None:
    later = [*msgspec.msgpack.decode(encode(message)[8:]), {"some": ["thing"]}, 7]
    assert read(packed(later)) == [(message, b"")]


def test_a_message_is_the_documented_bytes() -> None:
    assert encode(Read(1, 2, 3), 258) == (
        b"\x00\x00\x00\x0b" + b"\x00\x00\x01\x02" + b"\x96\xa4read\x01\x02\x03\xc2\xa0"
    )
    assert session.GREETING == b"PUTTER/1"


def test_defaults_of_a_shorter_message() -> None:
    """What an earlier release did not know to say."""
    ((hello, _),) = read(packed(["hello", "client", "n", "i", 0, [], b"c"]))
    assert hello == Hello("client", "n", "i", 0, (), b"c", "", 0, "")


class TestRequestIds:
    def test_a_release_that_does_not_know_them_leaves_them_out(self) -> None:
        ((batch, _),) = read(packed(["batch", [[1, 20, "O"]], [[3, 5, 9, "O"]]]))
        assert batch == Batch((RunHeader(1, 20, "O"),), (RecordHeader(3, 5, 9, "O"),))
        assert read(packed(["read", 1, 2, 3, False])) == [(Read(1, 2, 3), b"")]

    def test_they_are_short(self) -> None:
        assert read(encode(Read(1, 2, 3, request_id="x" * 64)))
        with pytest.raises(ProtocolError):
            read(encode(Read(1, 2, 3, request_id="x" * 65)))


class TestLimits:
    def test_a_header_of_the_largest_size_passes_both_ways(self) -> None:
        spare = MESSAGE_HEADER_BYTES_MAX - len(encode(FindRecord(1, "x" * 70_000))) + 8
        message = FindRecord(1, "x" * (70_000 + spare))
        wire = encode(message)
        assert len(wire) == 8 + MESSAGE_HEADER_BYTES_MAX
        assert read(wire) == [(message, b"")]
        with pytest.raises(TooLarge):
            encode(FindRecord(1, "x" * (70_001 + spare)))

    def test_a_payload_of_the_largest_size_passes_both_ways(self) -> None:
        payload = bytes(range(256)) * (MESSAGE_PAYLOAD_BYTES_MAX // 256)
        wire = encode(Ping(1), len(payload)) + payload
        assert read(wire) == [(Ping(1), payload)]
        with pytest.raises(TooLarge):
            encode(Ping(1), len(payload) + 1)

    @pytest.mark.parametrize(
        ("header", "payload"),
        [
            (MESSAGE_HEADER_BYTES_MAX + 1, 0),
            (1, MESSAGE_PAYLOAD_BYTES_MAX + 1),
            (2**32 - 1, 2**32 - 1),
        ],
    )
    def test_announced_lengths_are_refused_before_anything_is_kept(
        self, header: int, payload: int
    ) -> None:
        taken: list[int] = []

        class Counting(Buffers):
            def take(self, size: int) -> memoryview:
                taken.append(size)
                return super().take(size)

        reader = MessageReader(Counting())
        prelude = struct.pack(">II", header, payload)
        assert reader.feed(prelude[:7]) == []
        with pytest.raises(TooLarge, match="are allowed here"):
            reader.feed(prelude[7:])
        assert taken == []
        assert len(reader.get_buffer()) <= 64 * 1024

    def test_a_greeting_has_tighter_ones(self) -> None:
        limits = {"header_bytes_max": HELLO_BYTES_MAX, "payload_bytes_max": 0}
        with pytest.raises(TooLarge, match="4096 \\+ 0 are allowed"):
            read(struct.pack(">II", HELLO_BYTES_MAX + 1, 0), **limits)
        with pytest.raises(TooLarge):
            read(encode(Ping(1), 1), **limits)
        assert read(encode(Ping(1)), **limits) == [(Ping(1), b"")]

    def test_they_can_be_changed_between_messages(self) -> None:
        reader = MessageReader(header_bytes_max=HELLO_BYTES_MAX, payload_bytes_max=0)
        assert reader.feed(encode(Ping(1)))[0][0] == Ping(1)
        reader.limit(MESSAGE_HEADER_BYTES_MAX, 5)
        assert bytes(reader.feed(encode(Ping(2), 5) + b"12345")[0][1]) == b"12345"
        with pytest.raises(TooLarge):
            reader.feed(encode(Ping(3), 6))


GARBAGE = {
    "a header of no bytes": struct.pack(">II", 0, 0),
    "an unknown message": packed(["drop-everything", 1]),
    "no name": packed([]),
    "a number for a name": packed([7, 1]),
    "a map": packed({"type": "ping", "request": 1}),
    "text": packed("ping"),
    "a field missing": packed(["ping"]),
    "a field of another type": packed(["ping", "1"]),
    "a negative number for text": packed(["find", 1, -5]),
    "bytes behind the message": struct.pack(">II", 8, 0) + b"\x92\xa4ping\x01\x01",
    "cut msgpack": struct.pack(">II", 3, 0) + b"\x92\xa4p",
    "reserved msgpack": struct.pack(">II", 1, 0) + b"\xc1",
    "text that is not UTF-8": struct.pack(">II", 10, 0) + b"\x93\xa4find\x01\xa2\xff\xfe",
    "a name that is not UTF-8": struct.pack(">II", 7, 0) + b"\x92\xa4\xff\xfe\xff\xfe\x01",
    "an array that claims four thousand million": struct.pack(">II", 12, 0)
    + b"\x92\xa5batch\xdd\xff\xff\xff\xff",
    "a thousand arrays in each other": struct.pack(">II", 4008, 0)
    + b"\x93\xa4ping\x01"
    + b"\x91" * 4000
    + b"\x01",
}


@pytest.mark.parametrize("wire", GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_a_protocol_error(wire: bytes) -> None:
    with pytest.raises(ProtocolError):
        read(wire)
    reader = MessageReader()
    with pytest.raises(ProtocolError):  # noqa: PT012 – at whichever byte
        for at in range(len(wire)):
            reader.feed(wire[at : at + 1])


class TestReader:
    def test_what_is_whole_comes_before_the_error(self) -> None:
        events = MessageReader().feed(encode(Ping(1)) + encode(Ping(2)) + bytes(8))
        got: list[AnyMessage] = []
        with pytest.raises(ProtocolError):
            got.extend(message for message, _ in events)
        assert got == [Ping(1), Ping(2)]

    def test_messages_and_payloads_of_one_piece(self) -> None:
        wire = encode(Ping(1)) + encode(Ping(2), 2) + b"ab" + encode(Ping(3), 1) + b"c"
        assert read(wire + encode(Ping(4))[:-1]) == [
            (Ping(1), b""),
            (Ping(2), b"ab"),
            (Ping(3), b"c"),
        ]

    def test_it_knows_whether_it_stands_between_messages(self) -> None:
        reader = MessageReader()
        wire = encode(Ping(1), 2) + b"ab"
        assert reader.idle
        for at in range(len(wire)):
            assert reader.idle == (at == 0)
            reader.feed(wire[at : at + 1])
        assert reader.idle

    def test_payloads_are_received_where_they_stay(self) -> None:
        """Once a payload has begun, its rest goes into the pool's buffer, without a copy."""
        made: list[bytearray] = []

        class Pool(Buffers):
            def take(self, size: int) -> memoryview:
                made.append(bytearray(size))
                return memoryview(made[-1])

        reader = MessageReader(Pool())
        reader.feed(encode(Ping(1), 10) + b"abc")
        buffer = reader.get_buffer()
        assert len(buffer) == 7
        buffer[:4] = b"defg"
        assert reader.buffer_updated(4) == []
        assert made == [b"abcdefg\0\0\0"]
        buffer = reader.get_buffer()
        assert len(buffer) == 3
        buffer[:] = b"hij"
        ((message, payload),) = reader.buffer_updated(3)
        assert (message, payload.obj is made[0], bytes(payload)) == (Ping(1), True, b"abcdefghij")

    def test_a_large_header_needs_no_more_memory_than_it_announces(self) -> None:
        message = FindRecord(1, "x" * 900_000)
        reader = MessageReader()
        wire = memoryview(encode(message))
        largest, got = 0, []
        while wire:
            buffer = reader.get_buffer()
            largest = max(largest, len(buffer))
            size = min(len(buffer), len(wire), 10_000)
            buffer[:size] = wire[:size]
            wire = wire[size:]
            got += reader.buffer_updated(size)
        assert got == [(message, memoryview(b""))]
        assert largest <= MIB + 128 * 1024
        assert len(reader.get_buffer()) == 64 * 1024

    def test_the_buffer_is_never_empty(self) -> None:
        reader = MessageReader()
        wire = memoryview(b"".join(encode(Ping(n), 70_000) + bytes(70_000) for n in range(3)))
        got = 0
        while wire:
            buffer = reader.get_buffer()
            assert len(buffer) > 0
            size = min(len(buffer), len(wire))
            buffer[:size] = wire[:size]
            wire = wire[size:]
            got += len(reader.buffer_updated(size))
        assert got == 3


class TestFirstEightBytes:
    def test_this_version(self) -> None:
        check_greeting(b"PUTTER/1")

    @pytest.mark.parametrize("first", [b"PUTTER/2", b"PUTTER/\n", b"PUTTER/"])
    def test_another_version_says_which_one_is_spoken_here(self, first: bytes) -> None:
        with pytest.raises(VersionUnknown) as caught:
            check_greeting(first)
        assert "PUTTER/1" in caught.value.hint

    @pytest.mark.parametrize("first", [b"", b"GET / HT", b"putter/1", b"PUTTER-1", b"\0" * 8])
    def test_no_session_at_all(self, first: bytes) -> None:
        with pytest.raises(ProtocolError) as caught:
            check_greeting(first)
        assert not isinstance(caught.value, VersionUnknown)


@pytest.mark.parametrize(
    ("asked", "agreed"),
    [
        (0, FRAME_DATA_BYTES_DEFAULT),
        (-1, FRAME_DATA_BYTES_DEFAULT),
        (1, 1458),
        (1458, 1458),
        (5000, 5000),
        (MIB, MIB),
        (MIB + 1, MIB),
        (2**63, MIB),
    ],
)
def test_the_frame_size_lies_within_the_servers_bounds(asked: int, agreed: int) -> None:
    assert frame_bytes_agreed(asked, 1458, MIB) == agreed


class TestSplitPayload:
    def test_parts_are_views_in_order(self) -> None:
        payload = bytearray(b"abcdef")
        parts = split_payload(memoryview(payload), [1, 2, 3])
        payload[0:1] = b"A"
        assert [bytes(part) for part in parts] == [b"A", b"bc", b"def"]

    def test_nothing_of_nothing(self) -> None:
        assert split_payload(memoryview(b""), []) == []

    @pytest.mark.parametrize(
        "lengths", [[], [5], [7], [3, 2], [6, 0], [0, 6], [7, -1], [2**64, 6 - 2**64]]
    )
    def test_lengths_that_do_not_add_up(self, lengths: list[int]) -> None:
        with pytest.raises(ProtocolError):
            split_payload(memoryview(b"abcdef"), lengths)
