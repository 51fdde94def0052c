"""The bytes of a segment: its first block, and records behind each other.

Everything is little-endian. The format as a document is ``docs/formats/segment.md``.

A segment file is a log. Its first block (4096 bytes) tells what it is:

```
offset  size  field
0       8     magic "PUTTRSEG"
8       4     version, 1
12      4     epoch: how many times the directory had been opened
16      8     segment number: ascending, never used twice on a node
24      8     length of the file
32      8     sequence number that the next record had when the segment was begun
40      8     number that the next commit record had
48      8     used bytes of the segment before: its last synced record ends there; 0 if not known
56      8     end: everything of this segment before it was synced
64      24    ceilings: tickets, objects, stamps, as known then
88      32    secret of the directory: key of all header checksums
120     8     checksum of the 120 bytes before
```

The file ``segments/state`` is such a block, too, of the newest segment. Its ceilings are the ones
that count. It is written anew when they are lifted and when the node stops: its end and its numbers
are as of that moment. What is missing before that end was damaged; behind it may have been torn.

Records follow, each beginning at a multiple of 8. Each *commit* (what one sync made durable)
begins at a fresh block:

```
offset  size  field
0       4     magic "PREC"
4       1     version: 1; 2 if the body is packed (`putter.storage.segments.packing`)
5       1     kind: 1 run, 2 commit record, 3 freed tickets, 4 dropped commit records
6       1     flags: bit 0 raw tickets
7       1     length of the key id
8       8     segment number
16      8     sequence number: ascending; a copy made by compaction keeps it
24      4     epoch: how many times the directory was opened
28      4     block in which the commit begins
32      8     run: number of the first ticket. commit record: stamp
40      8     commit record: its number. packed run: bytes of all its frames
48      4     run: tickets
52      4     run: data bytes of every frame but the last
56      4     length of the body
60      4     length of the object id
64      8     body: first 8 bytes of its keyed BLAKE3; of a run zero, as frames check themselves; of
              a packed run that of what stands before its blocks
72      8     header: first 8 bytes of the keyed BLAKE3 of bytes 0…71 and the names
80      …     object id, key id
…       …     body: frames as on the wire; the commit record; (first, count) pairs of i64; packed
```

The key is the secret of the directory: nobody who stores bytes can make them look like a record.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from common.checksum import CHECKSUM_BYTES, Buffer, keyed_digest
from common.meta.interface import Ceilings
from putter.storage.block_file import BLOCK_BYTES
from putter.storage.engine import Run

SECRET_BYTES: Final = 32
ALIGN: Final = 8
_MAGIC: Final = b"PUTTRSEG"
RECORD_MAGIC: Final = b"PREC"
_VERSION: Final = 1
_PACKED_VERSION: Final = 2
_FIRST: Final = struct.Struct("<8sII QQQQQQ QQQ 32s")
_HEADER: Final = struct.Struct("<4sBBBB QQ II qQ IIII 8s")
_PAIR: Final = struct.Struct("<qq")
HEADER_BYTES: Final = _HEADER.size + CHECKSUM_BYTES
_RAW: Final = 1
NAME_BYTES_MAX: Final = 255

assert _FIRST.size == 120
assert HEADER_BYTES == 80


class Kind(IntEnum):
    """What a record is about."""

    RUN = 1
    COMMIT = 2
    FREED = 3
    DROPPED = 4


@dataclass(frozen=True, slots=True)
class SegmentHead:
    """What the first block of a segment says; see the module."""

    number: int
    size: int
    epoch: int
    sequence: int
    record_number: int
    previous_end: int
    end: int
    ceilings: Ceilings
    secret: bytes


@dataclass(frozen=True, slots=True)
class Header:
    """What stands before the body of a record; see the module.

    `number` of a packed run is what its frames have in bytes; `packed` is the version.
    """

    kind: int
    segment: int
    sequence: int
    epoch: int
    commit: int
    body_bytes: int
    raw: bool = False
    first: int = 0
    number: int = 0
    count: int = 0
    frame_bytes: int = 0
    object_id: str = ""
    key_id: str = ""
    body_sum: bytes = bytes(CHECKSUM_BYTES)
    packed: bool = False

    @property
    def body_at(self) -> int:
        """Where the body begins, from the beginning of the record."""
        return HEADER_BYTES + len(self.object_id.encode()) + len(self.key_id.encode())

    @property
    def length(self) -> int:
        """Of the record, up to where the next one may begin."""
        return aligned(self.body_at + self.body_bytes)


def aligned(size: int, to: int = ALIGN) -> int:
    """The next multiple."""
    return -(-size // to) * to


def seal_of(secret: bytes, *parts: Buffer) -> bytes:
    """The checksum of something that is not a frame."""
    return keyed_digest(secret, *parts)[:CHECKSUM_BYTES]


def encode_head(head: SegmentHead) -> bytes:
    """The first block of a segment."""
    ceilings = head.ceilings
    body = _FIRST.pack(
        _MAGIC,
        _VERSION,
        head.epoch,
        head.number,
        head.size,
        head.sequence,
        head.record_number,
        head.previous_end,
        head.end,
        ceilings.tickets,
        ceilings.objects,
        ceilings.stamps,
        head.secret,
    )
    return (body + seal_of(head.secret, body)).ljust(BLOCK_BYTES, b"\0")


def decode_head(data: bytes) -> SegmentHead | None:
    """The inverse; None if it is damaged or of another version."""
    if len(data) < _FIRST.size + CHECKSUM_BYTES:
        return None
    body = data[: _FIRST.size]
    magic, version, *numbers, tickets, objects, stamps, secret = _FIRST.unpack(body)
    given = data[_FIRST.size : _FIRST.size + CHECKSUM_BYTES]
    if magic != _MAGIC or version != _VERSION or given != seal_of(secret, body):
        return None
    epoch, number, size, sequence, record_number, previous_end, end = numbers
    return SegmentHead(
        number=number,
        size=size,
        epoch=epoch,
        sequence=sequence,
        record_number=record_number,
        previous_end=previous_end,
        end=end,
        ceilings=Ceilings(tickets, objects, stamps),
        secret=secret,
    )


def encode_header(header: Header, secret: bytes) -> bytes:
    """The bytes before the body."""
    object_id, key_id = header.object_id.encode(), header.key_id.encode()
    packed = _HEADER.pack(
        RECORD_MAGIC,
        _PACKED_VERSION if header.packed else _VERSION,
        header.kind,
        _RAW if header.raw else 0,
        len(key_id),
        header.segment,
        header.sequence,
        header.epoch,
        header.commit,
        header.first,
        header.number,
        header.count,
        header.frame_bytes,
        header.body_bytes,
        len(object_id),
        header.body_sum,
    )
    names = object_id + key_id
    return packed + seal_of(secret, packed, names) + names


def decode_header(data: Buffer, secret: bytes, segment: int) -> Header | None:
    """The header at the beginning of ``data``.

    Args:
        data: from the beginning of a record on; may end anywhere.
        secret: of the directory.
        segment: number of the segment that it must belong to.

    Returns:
        None if there is no whole, undamaged header of this segment.
    """
    if len(data) < HEADER_BYTES or bytes(data[:4]) != RECORD_MAGIC:
        return None
    packed = bytes(data[: _HEADER.size])
    (
        _, version, kind, flags, key_length, number, sequence, epoch, commit,
        first, record, count, frame_bytes, body_bytes, object_length, body_sum,
    ) = _HEADER.unpack(packed)  # fmt: skip
    if version not in (_VERSION, _PACKED_VERSION) or number != segment:
        return None
    if object_length > NAME_BYTES_MAX or len(data) < HEADER_BYTES + object_length + key_length:
        return None
    names = bytes(data[HEADER_BYTES : HEADER_BYTES + object_length + key_length])
    if bytes(data[_HEADER.size : HEADER_BYTES]) != seal_of(secret, packed, names):
        return None
    return Header(
        kind=kind,
        segment=number,
        sequence=sequence,
        epoch=epoch,
        commit=commit,
        body_bytes=body_bytes,
        raw=bool(flags & _RAW),
        first=first,
        number=record,
        count=count,
        frame_bytes=frame_bytes,
        object_id=names[:object_length].decode(),
        key_id=names[object_length:].decode(),
        body_sum=body_sum,
        packed=version == _PACKED_VERSION,
    )


def run_header(run: Run, count: int, *, raw: bool) -> Header:
    """The header of a plain run that has no place yet."""
    return Header(
        kind=Kind.RUN,
        segment=0,
        sequence=0,
        epoch=0,
        commit=0,
        body_bytes=len(run.frames),
        raw=raw,
        first=run.first,
        count=count,
        frame_bytes=run.frame_bytes,
        object_id=run.object_id,
        key_id=run.key_id,
    )


def encode_pairs(pairs: Sequence[tuple[int, int]]) -> bytes:
    """``(first, count)`` ranges as the body of a record."""
    return b"".join(_PAIR.pack(*pair) for pair in pairs)


def decode_pairs(body: Buffer) -> list[tuple[int, int]]:
    """The inverse."""
    return [(first, count) for first, count in _PAIR.iter_unpack(body)]
