"""Where things lie: what an index knows of a run and of a commit record."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from common.errors import TicketInvalid
from common.limits import FRAME_HEADER_BYTES
from common.tickets import format_id, parse_id

_OTHER: Final = 1 << 63
"""Set in the keys of what is no ObjectID of a counter."""


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """Consecutive tickets of one run.

    Attributes:
        segment: number of the segment.
        record: offset of the run's record in it.
        length: of that record in bytes; of a part of a run, what the part takes.
        first: number of the first ticket.
        count: tickets.
        body: offset of the first of their frames; of a packed run in its plain frames, else in the
            segment.
        body_bytes: length of their frames, which a packed run stores otherwise.
        frame_bytes: data bytes of every frame but the last.
        sequence: of the record.
        object_key: `object_key` of the ObjectID.
        key_id: of the frames' checksums.
        packed: the frames are compressed or encrypted.
    """

    segment: int
    record: int
    length: int
    first: int
    count: int
    body: int
    body_bytes: int
    frame_bytes: int
    sequence: int
    object_key: int
    key_id: str
    packed: bool = False

    @property
    def end(self) -> int:
        """Behind the last ticket."""
        return self.first + self.count

    def part(self, first: int, end: int) -> Place:
        """Some of its tickets."""
        if first <= self.first and end >= self.end:
            return self
        first, end = max(first, self.first), min(end, self.end)
        stride = self.frame_bytes + FRAME_HEADER_BYTES
        low = (first - self.first) * stride
        high = self.body_bytes if end == self.end else (end - self.first) * stride
        length = high - low
        if self.packed:  # its share of what is stored
            length = max(1, length * self.length // self.body_bytes)
        return Place(
            self.segment,
            self.record,
            length,
            first,
            end - first,
            self.body + low,
            high - low,
            self.frame_bytes,
            self.sequence,
            self.object_key,
            self.key_id,
            self.packed,
        )


@dataclass(frozen=True, slots=True)
class RecordPlace:
    """A commit record.

    Attributes:
        segment: number of the segment.
        record: offset of the record in it.
        length: of the record in bytes.
        number: that the node gave it.
        stamp: of the change.
        object_key: `object_key` of the object that it commits.
        sequence: of the record.
    """

    segment: int
    record: int
    length: int
    number: int
    stamp: int
    object_key: int
    sequence: int


@dataclass(frozen=True, slots=True)
class Removal:
    """Tickets that were freed, or commit records that were dropped.

    Attributes:
        segment: number of the segment that says so.
        record: offset of the record in it.
        length: of the record in bytes.
        sequence: only what was written before is meant.
        raw: raw tickets.
        ranges: ``(first, count)``; of commit records' numbers if ``dropped``.
        dropped: it is about commit records.
    """

    segment: int
    record: int
    length: int
    sequence: int
    raw: bool
    ranges: tuple[tuple[int, int], ...]
    dropped: bool = False


def object_key(object_id: str) -> int:
    """A number for an ObjectID: its own if it has one below 2⁶³, else a hash above; 0 for ""."""
    if not object_id:
        return 0
    try:
        number = parse_id(object_id) + 1
    except TicketInvalid:
        number = _OTHER
    if number < _OTHER:
        return number
    digest = blake2b(object_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") | _OTHER


def object_id_of(object_key: int) -> str:
    """The ObjectID of a key; "" where the key is a hash, or there is none."""
    return format_id(object_key - 1) if 0 < object_key < _OTHER else ""
