"""What is in a segment that is not written to any more.

Its index file (`putter.storage.segments.index_file`) is mapped, so it costs no memory of the
process. It is verified as a whole when it is first looked at. What has been freed since is kept
beside it in memory: one bit for a run or record that is gone, and what is left of the runs that
lost some of their tickets.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from heapq import merge
from typing import Final

import numpy as np
import numpy.typing as npt

from common.checksum import Buffer
from common.digests import Entries
from common.errors import StorageError
from common.limits import FRAME_HEADER_BYTES
from putter.storage.block_file import BLOCK_BYTES
from putter.storage.run_table import RunTable
from putter.storage.segments.formats import aligned, seal_of
from putter.storage.segments.index_file import (
    BOUNDS,
    COLUMNS,
    PACKED,
    Bits,
    Column,
    DamagedIndexError,
    IndexHead,
)
from putter.storage.segments.places import Place, RecordPlace, Removal, row_of

_I8: Final = np.int64


class SealedIndex:
    """The index of a sealed segment.

    Args:
        head: of the file.
        load: gives the file's bytes, whenever they are needed.
        secret: of the directory.
    """

    def __init__(self, head: IndexHead, load: Callable[[], Buffer], secret: bytes) -> None:
        self.head = head
        self.live_bytes = head.live_bytes
        self.highest_sequence: Final = head.highest_sequence
        self.highest_number: Final = head.highest_number
        self._load = load
        self._secret = secret
        self._data: Buffer = b""
        self._columns: dict[str, Column] | None = None
        self._keys: list[str] = []
        self._bounds = dict(zip(BOUNDS, head.bounds, strict=True))
        self._gone: dict[str, Bits] = {}
        self._left: dict[bool, RunTable[Place]] = {False: RunTable(), True: RunTable()}

    def bounds(self, name: str) -> tuple[int, int]:
        """Lowest and highest ``run`` or ``raw`` ticket, ``number``, ``stamp`` or ``object``."""
        return self._bounds[name]

    def check(self) -> None:
        """Look at the whole file.

        Raises:
            DamagedIndexError: it is not what was written.
        """
        self._column("key")

    def is_whole(self) -> bool:
        """Whether what is mapped now is still what was written."""
        try:
            self.check()
        except StorageError:
            return False
        return seal_of(self._secret, memoryview(self._data)[BLOCK_BYTES:]) == self.head.body_sum

    # -- runs ------------------------------------------------------------------------------

    def runs(self, first: int, end: int, *, raw: bool) -> Iterator[Place]:
        """The runs with some of the tickets ``first … end - 1``, in order, whole."""
        name = "raw" if raw else "run"
        low, high = self._bounds[name]
        if first > high or end <= low:
            return iter(())
        stored = (self._place(at, raw=raw) for at in self._rows(first, end, name))
        left = self._left[raw]
        if not len(left):
            return stored
        return merge(stored, left.within(first, end), key=lambda place: place.first)

    def all_runs(self, *, raw: bool) -> Iterator[Place]:
        """All runs, in order."""
        low, high = self._bounds["raw" if raw else "run"]
        return self.runs(low, high + 1, raw=raw)

    def highest_ticket(self, *, raw: bool) -> int:
        """Behind the highest ticket that was ever there; 0 if there was none."""
        return self._bounds["raw" if raw else "run"][1] + 1

    def free(
        self,
        first: int,
        end: int,
        *,
        raw: bool,
        objects: Collection[int] | None = None,
        before: int | None = None,
    ) -> list[tuple[int, int]]:
        """Forget tickets; see `OpenIndex.free`."""
        name = "raw" if raw else "run"
        low, high = self._bounds[name]
        if first > high or end <= low:
            return []
        gone: list[tuple[int, int]] = []
        left = self._left[raw]
        whole = [(self._place(at, raw=raw), at) for at in self._rows(first, end, name)]
        parts: list[tuple[Place, int]] = [(place, -1) for place in left.within(first, end)]
        for place, at in sorted(whole + parts, key=lambda pair: pair[0].first):
            if objects is not None and place.object_key not in objects:
                continue
            if before is not None and place.sequence >= before:
                continue
            if at >= 0:
                self._bits(name)[at] = True
            else:
                left.remove(place)
            self.live_bytes -= place.length
            start, stop = max(first, place.first), min(end, place.end)
            for a, b in ((place.first, start), (stop, place.end)):
                if a < b:
                    part = place.part(a, b)
                    left.add(part)
                    self.live_bytes += part.length
            gone.append((start, stop - start))
        return gone

    # -- inventory -------------------------------------------------------------------------

    @property
    def record_count(self) -> int:
        """How many commit records are there."""
        gone = self._gone.get("record")
        listed = self.head.counts[[name for name, _ in COLUMNS].index("number")]
        return listed - (0 if gone is None else int(np.count_nonzero(gone)))

    def run_entries(self, first: int, end: int) -> Entries:
        """The runs with some of the tickets ``first … end - 1``, whole."""
        low, high = self._bounds["run"]
        if first > high or end <= low:
            return Entries.of([])
        span = slice(*self._span("run", first, end))
        rows, counts = self._column("run")[span], self._column("run")["count"][span].astype(_I8)
        some = Entries(
            self._column("run_first")[span].astype(_I8),
            counts,
            rows["body_bytes"].astype(_I8) - counts * FRAME_HEADER_BYTES,
            (rows["frame_bytes"] & np.uint32(PACKED - 1)).astype(_I8),
            rows["object"].astype(np.uint64),
        )
        gone = self._gone.get("run")
        if gone is not None:
            some = some.rows(~gone[span])
        left = [row_of(place) for place in self._left[False].within(first, end)]
        return Entries.joined([some, Entries.of(left)]) if left else some

    def object_entries(self, first: int, end: int) -> Entries:
        """Stamps of the records of the objects with these keys."""
        keys, rows = self._records_of(max(first, 1), end)
        return Entries.of_keys(keys, self._column("record")["stamp"][rows])

    def bare_entries(self, first: int, end: int) -> Entries:
        """Numbers of the records without an object that have these stamps."""
        low, high = self._bounds["stamp"]
        if first > high or end <= low:
            return Entries.of([])
        _, rows = self._records_of(0, 1)
        stamps = self._column("record")["stamp"][rows].astype(np.uint64)
        some = (stamps >= np.uint64(first)) & (stamps < np.uint64(end))
        return Entries.of_keys(stamps[some], self._column("number")[rows][some])

    def _records_of(self, first: int, end: int) -> tuple[Column, Column]:
        """Keys and rows of the records of objects with the keys ``first … end - 1``."""
        keys = self._column("object")
        span = slice(*np.searchsorted(keys, np.array([first, end], np.uint64)))
        rows = self._column("by_object")[span].astype(np.intp)
        gone = self._gone.get("record")
        there = np.ones(len(rows), np.bool_) if gone is None else ~gone[rows]
        return keys[span][there], rows[there]

    # -- commit records --------------------------------------------------------------------

    def with_stamp(self, stamp: int) -> int | None:
        """The number of the record with this stamp."""
        numbers = self._numbers("stamp", stamp)
        return numbers[-1] if numbers else None

    def of_object(self, key: int) -> list[int]:
        """The numbers of the records that commit this object."""
        return self._numbers("object", key)

    def record(self, number: int) -> RecordPlace | None:
        """Where a record is."""
        if not self._within("number", number):
            return None
        at = self._row_of(number)
        if int(self._column("number")[at]) != number or self._is_gone("record", at):
            return None
        return self._record(at)

    def after(self, number: int, limit: int) -> list[RecordPlace]:
        """At most so many records with higher numbers, in order."""
        low, high = self._bounds["number"]
        if low > high or number >= high:
            return []
        numbers = self._column("number")
        found: list[RecordPlace] = []
        for at in range(self._row_of(number + 1), len(numbers)):
            if not self._is_gone("record", at):
                found.append(self._record(at))
                if len(found) >= limit:
                    break
        return found

    def drop(self, number: int, before: int | None = None) -> bool:
        """Forget a record; False if it is not there, or not from before that sequence number."""
        place = self.record(number)
        if place is None or (before is not None and place.sequence >= before):
            return False
        self._bits("record")[self._row_of(number)] = True
        self.live_bytes -= place.length
        return True

    def sequences(self) -> npt.NDArray[np.uint64]:
        """The sequence numbers of all runs and commit records that were ever listed here."""
        names = ("run", "raw", "record")
        return np.concatenate([self._column(name)["sequence"].astype(np.uint64) for name in names])

    # -- removals --------------------------------------------------------------------------

    @property
    def has_removals(self) -> bool:
        """Whether there are any of what `removals` gives."""
        return self.head.counts[[name for name, _ in COLUMNS].index("removal")] > 0

    @property
    def removals(self) -> Sequence[Removal]:
        """What the segment says of freed tickets and dropped records, in order."""
        if not self.has_removals:
            return ()
        return list(_joined(self._column("removal"), self.head.segment))

    def has_written(self, removal: Removal) -> bool:
        """Whether the file has bytes, live or not, that a removal is about."""
        for first, count in removal.ranges:
            if removal.dropped:
                low, high = self._row_of(first), self._row_of(first + count)
                sequences = self._column("record")["sequence"][low:high]
            else:
                name = "raw" if removal.raw else "run"
                low, high = self._span(name, first, first + count)
                sequences = self._column(name)["sequence"][low:high]
            if (sequences < removal.sequence).any():
                return True
        return False

    # -- inside ----------------------------------------------------------------------------

    def _numbers(self, name: str, value: int) -> list[int]:
        if not self._within(name, value):
            return []
        values = self._column(name)
        low, high = (np.searchsorted(values, np.uint64(value), side) for side in ("left", "right"))
        rows = self._column(f"by_{name}")[low:high].tolist()
        numbers = self._column("number")
        return sorted(int(numbers[at]) for at in rows if not self._is_gone("record", at))

    def _row_of(self, number: int) -> int:
        """Row of the first commit record with this number or a higher one."""
        # Of the column's own type: numpy would compare, and first convert, both as floats.
        return int(np.searchsorted(self._column("number"), np.uint64(number)))

    def _within(self, name: str, value: int) -> bool:
        low, high = self._bounds[name]
        return low <= value <= high

    def _rows(self, first: int, end: int, name: str) -> Iterator[int]:
        """Rows of runs that are not gone and hold some of the tickets."""
        for row in range(*self._span(name, first, end)):
            if not self._is_gone(name, row):
                yield row

    def _span(self, name: str, first: int, end: int) -> tuple[int, int]:
        """From the first row of a run that was written with some of the tickets to the last."""
        firsts = self._column(f"{name}_first")
        at = int(np.searchsorted(firsts, first, side="right"))
        if at and int(firsts[at - 1]) + int(self._column(name)["count"][at - 1]) > first:
            at -= 1
        return at, int(np.searchsorted(firsts, end))

    def _place(self, at: int, *, raw: bool) -> Place:
        name = "raw" if raw else "run"
        first = int(self._column(f"{name}_first")[at])
        record, length, count, body, body_bytes, frame_bytes, sequence, key, key_id = self._column(
            name
        )[at].item()
        stride = (frame_bytes & ~PACKED) + FRAME_HEADER_BYTES
        fits = (count - 1) * stride < body_bytes <= count * stride
        if not fits or key_id >= len(self._keys):
            raise DamagedIndexError(self.head.segment)  # the file has changed since the check
        return Place(
            self.head.segment,
            record,
            length,
            first,
            count,
            body,
            body_bytes,
            frame_bytes & ~PACKED,
            sequence,
            key,
            self._keys[key_id],
            bool(frame_bytes & PACKED),
        )

    def _record(self, at: int) -> RecordPlace:
        record, length, stamp, key, sequence = self._column("record")[at].item()
        number = int(self._column("number")[at])
        return RecordPlace(self.head.segment, record, length, number, stamp, key, sequence)

    def _is_gone(self, name: str, at: int) -> bool:
        bits = self._gone.get(name)
        return bits is not None and bool(bits[at])

    def _bits(self, name: str) -> Bits:
        bits = self._gone.get(name)
        if bits is None:
            bits = self._gone[name] = np.zeros(len(self._column(name)), np.bool_)
        return bits

    def _column(self, name: str) -> Column:
        if self._columns is None:
            self._columns = self._checked()
            self._keys = self._columns["key"].tobytes().decode().split("\n")
        return self._columns[name]

    def _checked(self) -> dict[str, Column]:
        data = self._load()
        if seal_of(self._secret, memoryview(data)[BLOCK_BYTES:]) != self.head.body_sum:
            raise DamagedIndexError(self.head.segment)
        columns: dict[str, Column] = {}
        at = BLOCK_BYTES
        for (name, kind), count in zip(COLUMNS, self.head.counts, strict=True):
            columns[name] = np.frombuffer(data, kind, count, at)
            at += aligned(count * kind.itemsize)
        self._data = data
        return columns


def _joined(rows: Column, segment: int) -> Iterable[Removal]:
    """Removals from their rows: those of one record stand behind each other."""
    ranges: list[tuple[int, int]] = []
    last: tuple[int, int, int, int] | None = None
    for record, length, sequence, first, count, kind in rows.tolist():
        this = (record, length, sequence, kind)
        if last is not None and this != last:
            yield _removal(segment, last, ranges)
            ranges = []
        last = this
        ranges.append((first, count))
    if last is not None:
        yield _removal(segment, last, ranges)


def _removal(
    segment: int, key: tuple[int, int, int, int], ranges: list[tuple[int, int]]
) -> Removal:
    record, length, sequence, kind = key
    return Removal(
        segment, record, length, sequence, bool(kind & 1), tuple(ranges), dropped=bool(kind & 2)
    )
