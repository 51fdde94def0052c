"""Where things lie: what an index knows of a run and of a commit record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from common.limits import FRAME_HEADER_BYTES
from common.wire import frames
from common.wire.frames import Statuses
from common.wire.status import Status


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
        object_key: `common.tickets.object_key` of the ObjectID.
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


def row_of(place: Place) -> tuple[int, int, int, int, int]:
    """A run for `common.digests.Entries.of`."""
    size = place.body_bytes - place.count * FRAME_HEADER_BYTES
    return place.first, place.count, size, place.frame_bytes, place.object_key


@dataclass(frozen=True, slots=True)
class RecordPlace:
    """A commit record.

    Attributes:
        segment: number of the segment.
        record: offset of the record in it.
        length: of the record in bytes.
        number: that the node gave it.
        stamp: of the change.
        object_key: `common.tickets.object_key` of the object that it commits.
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


def joined_ranges(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """``(first, count)`` ranges as ``(first, end)`` that do not overlap, in order."""
    joined: list[tuple[int, int]] = []
    for first, count in sorted(ranges):
        if joined and first <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], first + count))
        else:
            joined.append((first, first + count))
    return joined


def sizes_of(wire: int, frame_bytes: int, count: int) -> Statuses:
    """Data bytes of each of these frames."""
    sizes = np.full(count, frame_bytes, np.int64)
    sizes[-1] = wire - (count - 1) * (frame_bytes + FRAME_HEADER_BYTES) - FRAME_HEADER_BYTES
    return sizes  # type: ignore[return-value]


def compared(place: Place, there: bytes, rows: memoryview, frame_bytes: int) -> Statuses:
    """``WRITTEN`` where a stored ticket holds the very bytes that are given.

    Args:
        place: of the tickets.
        there: their frames as they are stored.
        rows: their frames as they are given.
        frame_bytes: data bytes of every given frame but the last.
    """
    sums, held = frames.checksums(rows, frame_bytes), frames.checksums(there, place.frame_bytes)
    given = sizes_of(len(rows), frame_bytes, place.count)
    kept = sizes_of(place.body_bytes, place.frame_bytes, place.count)
    columns = [np.frombuffer(each, "<u8") for each in (sums, held)]
    same = (columns[0] == columns[1]) & (given == kept)
    return np.where(same, np.uint8(Status.WRITTEN), np.uint8(Status.TICKET_TAKEN))
