"""Sessions: length-prefixed msgpack messages after the greeting ``PUTTER/1``.

Both directions start with eight bytes, ``PUTTER/1``; `/` is not base 36, so no TicketID begins
like this. Then messages follow:

```
offset  size  field
0       4     length of the header, big endian, 1 … 1 MiB
4       4     length of the payload, big endian, 0 … 4 MiB
8       …     header: one msgpack array, its first element names the message
…       …     payload: frames or records, as the header says
```

Requests carry a number that their answers repeat; runs are answered by acks on the router's ack
port (or with `RunsDone` if the client named no ack address). Fields may be added at the end of a
message; a reader ignores those it does not know. The four messages of the greeting are fixed: a
proof covers each of their bytes, so that more fields there mean another version.
"""

from __future__ import annotations

import struct
from typing import Final

import msgspec

from common.errors import ProtocolError, TooLarge, VersionUnknown
from common.limits import (
    FRAME_DATA_BYTES_DEFAULT,
    MESSAGE_HEADER_BYTES_MAX,
    MESSAGE_PAYLOAD_BYTES_MAX,
)
from common.meta.interface import Ceilings
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
from common.wire.locations import Locate, Spots
from common.wire.message import Message, RequestId
from common.wire.scrubbing import Scrub, ScrubReply
from common.wire.verification import Sums, Verify

GREETING: Final = b"PUTTER/1"
GREETING_STEM: Final = b"PUTTER/"
PRELUDE: Final = struct.Struct(">II")
PRELUDE_BYTES: Final = PRELUDE.size

assert len(GREETING) == 8
assert PRELUDE_BYTES == 8


class Hello(Message, tag="hello", frozen=True):
    """Client → server, the first message.

    Attributes:
        role: ``router``, ``acks`` (a putter that brings acks) or ``client``.
        node: identity of the sender.
        instance: new at each start of the sender.
        frame_bytes: data bytes of a frame that the sender wants to use.
        key_ids: ids of the keys it holds, the writing one first.
        challenge: 16 random bytes.
        ack_host: where acks are to be brought; "" means the address the session comes from.
        ack_port: 0 asks for `RunsDone` on this session instead.
        version: of the software.
    """

    role: str
    node: str
    instance: str
    frame_bytes: int
    key_ids: tuple[str, ...]
    challenge: bytes
    ack_host: str = ""
    ack_port: int = 0
    version: str = ""


class Welcome(Message, tag="welcome", frozen=True):
    """Server → client: who it is, which key both use, and its proof that it holds it."""

    node: str
    instance: str
    frame_bytes: int
    key_id: str
    challenge: bytes
    proof: bytes
    version: str = ""
    storage: str = ""


class Proof(Message, tag="proof", frozen=True):
    """Client → server: the client's proof."""

    proof: bytes


class Ready(Message, tag="ready", frozen=True):
    """Server → client: the proof holds, send."""


class Refused(Message, tag="refused", frozen=True):
    """Either way: the sender closes the connection, and this is why."""

    status: int
    reason: str
    hint: str = ""


class RunHeader(Message, frozen=True):
    """One run in a `Batch`.

    Attributes:
        first: number of the first ticket.
        wire_bytes: length of its frames in the payload.
        object_id: ObjectID.
        frame_bytes: data bytes of its frames but the last; 0: those of the session.
        request_id: of the client's request that it is for (`common.requests`), for the putter's
            log; "" if there is none.
    """

    first: int
    wire_bytes: int
    object_id: str
    frame_bytes: int = 0
    request_id: RequestId = ""


class RecordHeader(Message, frozen=True):
    """One commit record in a `Batch`; its bytes follow the runs in the payload.

    ``request`` is repeated by the answer; ``request_id`` is that of the client's request.
    """

    request: int
    length: int
    stamp: int
    object_id: str
    request_id: RequestId = ""


class Batch(Message, tag="batch", frozen=True):
    """Client → putter: runs and commit records, all with the session's key."""

    runs: tuple[RunHeader, ...]
    records: tuple[RecordHeader, ...] = ()


class RecordsDone(Message, tag="records", frozen=True):
    """Putter → client: (request, status) for commit records, durable if the status is 0."""

    done: tuple[tuple[int, int], ...]


class RunsDone(Message, tag="runs", frozen=True):
    """Putter → client without an ack port: (first ticket, count, status)."""

    done: tuple[tuple[int, int, int], ...]


class Read(Message, tag="read", frozen=True):
    """Client → putter: send these tickets; ``request_id`` is for the log."""

    request: int
    first: int
    count: int
    raw: bool = False
    request_id: RequestId = ""


class Data(Message, tag="data", frozen=True):
    """Putter → client: frames of consecutive tickets in the payload.

    The last message of an answer has ``more`` unset and may be empty; tickets that were left out
    are not there. ``status`` is 0, or says why the answer ends early.
    """

    request: int
    first: int
    count: int
    frame_bytes: int
    key_id: str
    more: bool
    status: int = 0
    reason: str = ""


class Stat(Message, tag="stat", frozen=True):
    """Client → putter: what is known of a ticket?"""

    request: int
    ticket: int
    raw: bool = False


class StatReply(Message, tag="stat-reply", frozen=True):
    """Putter → client; the last four tell how the run that the ticket lies in is stored."""

    request: int
    found: bool
    size: int = 0
    checksum: bytes = b""
    object_id: str = ""
    key_id: str = ""
    damaged: bool = False
    compression: str = ""
    encryption: str = ""
    plain_bytes: int = 0
    stored_bytes: int = 0


class Free(Message, tag="free", frozen=True):
    """Client → putter: remove these tickets, and the records that commit these objects."""

    request: int
    ranges: tuple[tuple[int, int], ...]
    objects: tuple[str, ...] = ()
    raw: bool = False


class FindRecord(Message, tag="find", frozen=True):
    """Client → putter: the commit record of this object, in the payload of a `RecordReply`."""

    request: int
    object_id: str


class RecordReply(Message, tag="record", frozen=True):
    """Putter → client: the record is the payload if ``found``."""

    request: int
    found: bool
    number: int = 0


class ListRecords(Message, tag="list", frozen=True):
    """Client → putter: records numbered above ``after``; of these kinds only, if any is named.

    The kind "" stands for all records that commit no object.
    """

    request: int
    after: int
    limit: int
    kinds: tuple[str, ...] = ()


class RecordList(Message, tag="record-list", frozen=True):
    """Putter → client: (number, length) of the records in the payload.

    ``last`` is the number up to which the putter looked; 0 at the end.
    """

    request: int
    records: tuple[tuple[int, int], ...]
    last: int = 0


class Raise(Message, tag="raise", frozen=True):
    """Client → putter: lift the ceilings to at least these; all zero only asks."""

    request: int
    ceilings: Ceilings


class CeilingsReply(Message, tag="ceilings", frozen=True):
    """Putter → client: the ceilings that are durable now, and its highest record's number.

    ``gone`` is how many of the numbers that it gave to records have none now, as they were dropped
    or lost; -1 from one that does not tell.
    """

    request: int
    ceilings: Ceilings
    status: int = 0
    last_record: int = 0
    gone: int = -1


class Done(Message, tag="done", frozen=True):
    """Putter → client: the answer to a request that returns nothing but a status."""

    request: int
    status: int
    reason: str = ""
    count: int = 0


class Ping(Message, tag="ping", frozen=True):
    """Client → putter: are you there? Answered with `Done`."""

    request: int


AnyMessage = (
    Hello
    | Welcome
    | Proof
    | Ready
    | Refused
    | Batch
    | RecordsDone
    | RunsDone
    | Read
    | Data
    | Verify
    | Sums
    | Locate
    | Spots
    | Stat
    | StatReply
    | Free
    | FindRecord
    | RecordReply
    | ListRecords
    | RecordList
    | Raise
    | CeilingsReply
    | Count
    | Counts
    | ListHoldings
    | HoldingList
    | AskDigests
    | DigestList
    | AskEntries
    | EntryList
    | Scrub
    | ScrubReply
    | Done
    | Ping
)
Event = tuple[AnyMessage, memoryview]
"""A message and its payload."""
Reply = (
    Data
    | Sums
    | Spots
    | StatReply
    | RecordReply
    | RecordList
    | CeilingsReply
    | Counts
    | HoldingList
    | DigestList
    | EntryList
    | ScrubReply
    | Done
)

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final[msgspec.msgpack.Decoder[AnyMessage]] = msgspec.msgpack.Decoder(AnyMessage)
# Text that is not UTF-8, and arrays nested a thousand deep, have errors of their own.
_NOT_MSGPACK: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def encode(message: Message, payload_bytes: int = 0) -> bytes:
    """Prelude and header of a message whose payload of ``payload_bytes`` follows.

    Raises:
        TooLarge: header or payload are past their limits.
    """
    header = _encoder.encode(message)
    if len(header) > MESSAGE_HEADER_BYTES_MAX or payload_bytes > MESSAGE_PAYLOAD_BYTES_MAX:
        raise TooLarge(f"a message of {len(header)} + {payload_bytes} bytes is too large")
    return PRELUDE.pack(len(header), payload_bytes) + header


def transcript(message: Message) -> bytes:
    """The bytes of a greeting message that a proof covers."""
    return _encoder.encode(message)


def check_greeting(first: bytes) -> None:
    """Check the first eight bytes of a session.

    Raises:
        VersionUnknown: a session of another version.
        ProtocolError: no session at all.
    """
    if first == GREETING:
        return
    if first.startswith(GREETING_STEM):
        raise VersionUnknown(
            f"session version {first[7:]!r} is unknown here",
            hint=f"this side speaks {GREETING.decode()}; use the same release on both sides",
        )
    raise ProtocolError(f"a session begins with {GREETING.decode()}, not with {first!r}")


def decode(header: memoryview) -> AnyMessage:
    """The message in a header's bytes.

    Raises:
        ProtocolError: not a message of this version.
    """
    try:
        return _decoder.decode(header)
    except _NOT_MSGPACK as error:
        raise ProtocolError(f"not a session message: {error}") from error


def frame_bytes_agreed(asked: int, lowest: int, highest: int) -> int:
    """The frame size both sides use: what was asked for, within the server's bounds."""
    if asked <= 0:
        return FRAME_DATA_BYTES_DEFAULT
    return max(lowest, min(asked, highest))
