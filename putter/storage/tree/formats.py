"""The small files of the tree. Integers are little endian.

All of them share a frame: a magic and a version, and at offset 32 the first 8 bytes of the plain
BLAKE3 of everything else in the file (bytes 0…31 and 40…end).

A ticket's ``sum``, beside its ``obj``:

```
offset  size  field
0       4     magic "DPsu"
4       1     version, 1
5       1     k, length of the key id
6       1     o, length of the ObjectID; 0 for a raw ticket
7       1     zero
8       8     TicketID, ASCII base 36, padded right with NUL
16      8     the ticket's checksum (keyed BLAKE3 over TicketID and data)
24      4     length of obj
28      4     data bytes of a full frame of the run it came in
32      8     check
40      k     key id, ASCII
40+k    o     ObjectID, ASCII base 36
```

A commit record, ``record``:

```
offset  size  field
0       4     magic "DPre"
4       1     version, 1
5       1     o, length of the ObjectID that it commits; 0 for none
6       2     zero
8       8     number
16      8     stamp
24      4     length of the body
28      4     zero
32      8     check
40      o     ObjectID, ASCII base 36
40+o    …     body, as it came (`common.records`)
```

``ceilings``:

```
offset  size  field
0       4     magic "DPce"
4       1     version, 1
5       3     zero
8       8     ceiling of the tickets
16      8     ceiling of the ObjectIDs
24      8     ceiling of the stamps
32      8     check
40      8     a number that no new commit record may be at or below
```
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from common.checksum import object_digest
from common.errors import TicketInvalid
from common.meta.interface import Ceilings
from common.tickets import decode_field, encode_field
from putter.storage.engine import NumberedRecord, Record, TicketInfo

CEILINGS: Final = "ceilings"
"""The file of the ceilings."""
_VERSION: Final = 1
_HEAD_BYTES: Final = 32
_CHECK_BYTES: Final = 8
_TAIL: Final = _HEAD_BYTES + _CHECK_BYTES

_SUM: Final = struct.Struct("<4sBBBx8s8sII")
_RECORD: Final = struct.Struct("<4sBB2xQQI4x")
_CEILINGS: Final = struct.Struct("<4sB3xQQQ")
_LAST_RECORD: Final = struct.Struct("<Q")

assert _SUM.size == _RECORD.size == _CEILINGS.size == _HEAD_BYTES


@dataclass(frozen=True, slots=True)
class Sum:
    """What the file ``sum`` says about the ``obj`` beside it.

    Attributes:
        ticket: number of the ticket.
        size: data bytes.
        checksum: 8 bytes.
        frame_bytes: data bytes of a full frame of the run it came in.
        object_id: ObjectID; "" for a raw ticket.
        key_id: which cluster key the checksum uses.
    """

    ticket: int
    size: int
    checksum: bytes
    frame_bytes: int
    object_id: str
    key_id: str

    @property
    def info(self) -> TicketInfo:
        """The part of it that others ask for."""
        return TicketInfo(self.size, self.checksum, self.object_id, self.key_id)

    @property
    def encoded_bytes(self) -> int:
        """The length of the file."""
        return _TAIL + len(self.key_id) + len(self.object_id)

    def encode(self) -> bytes:
        """The bytes of the file."""
        key_id, object_id = self.key_id.encode("ascii"), self.object_id.encode("ascii")
        head = _SUM.pack(
            b"DPsu",
            _VERSION,
            len(key_id),
            len(object_id),
            encode_field(self.ticket),
            self.checksum,
            self.size,
            self.frame_bytes,
        )
        return _seal(head, key_id + object_id)

    @classmethod
    def decode(cls, data: bytes) -> Sum | None:
        """The content of a file; None if it is damaged."""
        if not _sealed(data):
            return None
        magic, version, k, o, field, checksum, size, frame_bytes = _SUM.unpack_from(data)
        names = data[_TAIL:]
        if (magic, version, k + o) != (b"DPsu", _VERSION, len(names)) or not names.isascii():
            return None
        try:
            ticket = decode_field(field)
        except TicketInvalid:
            return None
        text = names.decode("ascii")
        return cls(ticket, size, checksum, frame_bytes, text[k:], text[:k])


def encode_record(numbered: NumberedRecord) -> bytes:
    """The bytes of a file ``record``."""
    record = numbered.record
    object_id = record.object_id.encode("ascii")
    head = _RECORD.pack(
        b"DPre", _VERSION, len(object_id), numbered.number, record.stamp, len(record.body)
    )
    return _seal(head, object_id + record.body)


def decode_record(data: bytes) -> NumberedRecord | None:
    """The content of a file ``record``; None if it is damaged."""
    if not _sealed(data):
        return None
    magic, version, o, number, stamp, size = _RECORD.unpack_from(data)
    object_id, body = data[_TAIL : _TAIL + o], data[_TAIL + o :]
    if (magic, version, size) != (b"DPre", _VERSION, len(body)) or not object_id.isascii():
        return None
    return NumberedRecord(number, Record(stamp, object_id.decode("ascii"), body))


def encode_ceilings(ceilings: Ceilings, last_record: int) -> bytes:
    """The bytes of the file ``ceilings``."""
    head = _CEILINGS.pack(b"DPce", _VERSION, ceilings.tickets, ceilings.objects, ceilings.stamps)
    return _seal(head, _LAST_RECORD.pack(last_record))


def decode_ceilings(data: bytes) -> tuple[Ceilings, int] | None:
    """The ceilings and the last record number in a file ``ceilings``; None if it is damaged."""
    if not _sealed(data) or len(data) != _TAIL + _LAST_RECORD.size:
        return None
    magic, version, tickets, objects, stamps = _CEILINGS.unpack_from(data)
    if (magic, version) != (b"DPce", _VERSION):
        return None
    (last_record,) = _LAST_RECORD.unpack_from(data, _TAIL)
    return Ceilings(tickets, objects, stamps), last_record


def _seal(head: bytes, tail: bytes) -> bytes:
    return head + object_digest(head + tail)[:_CHECK_BYTES] + tail


def _sealed(data: bytes) -> bool:
    """Whether a file has a head, and a check that fits."""
    check = object_digest(data[:_HEAD_BYTES] + data[_TAIL:])[:_CHECK_BYTES]
    return len(data) >= _TAIL and data[_HEAD_BYTES:_TAIL] == check
