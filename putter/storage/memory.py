"""The layout ``memory``: the reference model for tests, and the ceiling for benchmarks.

A run is kept as it came, one copy of its frames; nothing is done per frame. Where runs overlap
(retries cut in another way), what is there stays, ticket by ticket, and only the gaps are filled.

Large runs are copied into blocks of huge pages: fresh memory costs more than the copy itself, and
that is five times less of it. A block is used again when the last of its runs has gone, so a few
survivors of many frees may hold more memory than `MemoryEngine.capacity` counts.
"""

from __future__ import annotations

import mmap
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from threading import Lock
from typing import Final, TypeVar

import numpy as np

from common.checksum import CHECKSUM_BYTES, Buffer
from common.digests import Entries, Grid, Leaves, Space, digest
from common.errors import NoSpace
from common.limits import FRAME_HEADER_BYTES, GIB, KIB, MESSAGE_PAYLOAD_BYTES_MAX, MIB
from common.meta.interface import Ceilings
from common.tickets import TICKETS_MAX, object_key
from common.wire import frames
from common.wire.frames import Statuses
from common.wire.status import Status
from putter.storage.engine import Capacity, NumberedRecord, Piece, Record, Run, TicketInfo, Upkeep
from putter.storage.holdings import Holding, Holdings, joined
from putter.storage.located import Located
from putter.storage.record_index import RecordIndex
from putter.storage.run_table import RunTable
from putter.storage.scrub import (
    Check,
    Finding,
    Gathered,
    Part,
    Scrubbed,
    Stage,
    bad_stretches,
    cursor_of,
    numbers_of,
)

_BLOCK_BYTES: Final = 32 * MIB
_BLOCK_RUN_BYTES_MIN: Final = 64 * KIB


@dataclass(frozen=True, slots=True, eq=False)
class _Stored:
    """A stretch of tickets that came in one run."""

    first: int
    count: int
    frames: Buffer
    frame_bytes: int
    object_id: str
    key_id: str

    @property
    def end(self) -> int:
        return self.first + self.count

    def rows(self, first: int, end: int) -> memoryview:
        """The frames of the tickets ``first … end - 1``."""
        stride = self.frame_bytes + FRAME_HEADER_BYTES
        return memoryview(self.frames)[(first - self.first) * stride : (end - self.first) * stride]

    def part(self, first: int, end: int) -> _Stored:
        """A stretch of its own for some of the tickets."""
        rows = bytes(self.rows(first, end))
        return _Stored(first, end - first, rows, self.frame_bytes, self.object_id, self.key_id)


class _Blocks:
    """Memory for the frames of runs. Blocks that nobody looks at any more are used again."""

    def __init__(self) -> None:
        self._block = memoryview(b"")
        self._made: list[mmap.mmap] = []

    def copy(self, rows: memoryview) -> Buffer:
        """A copy that nobody writes to."""
        size = len(rows)
        if not _BLOCK_RUN_BYTES_MIN <= size <= _BLOCK_BYTES:
            return bytes(rows)
        if len(self._block) < size:
            self._block = memoryview(b"")
            self._block = self._unused() or self._fresh()
        kept, self._block = self._block[:size], self._block[size:]
        kept[:] = rows
        return kept.toreadonly()

    def _unused(self) -> memoryview | None:
        block = _first_unreferenced(self._made)
        return memoryview(block) if block is not None else None

    def _fresh(self) -> memoryview:
        block = mmap.mmap(-1, _BLOCK_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if sys.platform == "linux":
            # A kernel without huge pages refuses; ordinary ones do as well.
            with suppress(OSError):
                block.madvise(mmap.MADV_HUGEPAGE)
        self._made.append(block)
        return memoryview(block)


_T = TypeVar("_T")


def _counts(things: list[_T]) -> Iterator[tuple[int, _T]]:
    """Each thing with its count of references, as seen from here."""
    for thing in things:
        yield sys.getrefcount(thing), thing


_ALONE: Final = next(_counts([object()]))[0]
"""The count of something that only its list refers to: a view of a block would add to it."""


def _first_unreferenced(things: list[_T]) -> _T | None:
    return next((thing for count, thing in _counts(things) if count == _ALONE), None)


class _Runs(RunTable[_Stored]):
    """One namespace of tickets."""

    def __init__(self) -> None:
        super().__init__()
        self.used_bytes = 0

    def add(self, stretch: _Stored) -> None:
        """Take one in."""
        super().add(stretch)
        self.used_bytes += len(stretch.frames)

    def remove(self, stretch: _Stored) -> None:
        """Take one out."""
        super().remove(stretch)
        self.used_bytes -= len(stretch.frames)


class MemoryEngine:
    """An engine whose disk is a part of the memory; everything is gone with the process."""

    def __init__(self, *, capacity_bytes: int = 4 * GIB, identity: str = "memory") -> None:
        """An empty engine.

        Args:
            capacity_bytes: how many bytes of frames and records it takes.
            identity: of the node.
        """
        self._capacity_bytes = capacity_bytes
        self._identity = identity
        self._lock = Lock()
        self._blocks = _Blocks()
        self._runs = {False: _Runs(), True: _Runs()}
        self._records: dict[int, Record] = {}
        self._record_bytes = 0
        self._index = RecordIndex()
        self._last_number = 0
        self._ceilings = Ceilings()

    @property
    def layout(self) -> str:
        """``memory``."""
        return "memory"

    @property
    def identity(self) -> str:
        """The node's identity."""
        return self._identity

    def put(self, run: Run, *, raw: bool = False) -> Statuses:
        """Write a run; its frames are copied once and as a whole."""
        stride = run.frame_bytes + FRAME_HEADER_BYTES
        count = -(-len(run.frames) // stride)
        with self._lock:
            runs = self._runs[raw]
            if runs.next(run.first, run.first + count) is None and self._fits(len(run.frames)):
                runs.add(_stored(run, count, self._blocks.copy(run.frames)))
                return np.zeros(count, np.uint8)
            return self._put_slowly(runs, _stored(run, count, run.frames))

    def put_record(self, record: Record) -> int:
        """Keep a commit record and number it."""
        number = self._index.with_stamp(record.stamp)
        if number is not None:
            return number
        with self._lock:
            if not self._fits(len(record.body)):
                raise NoSpace("the memory of this node is full")
            self._record_bytes += len(record.body)
        self._last_number += 1
        self._index.add(self._last_number, record.stamp, record.object_id)
        self._records[self._last_number] = record
        return self._last_number

    def sync(self) -> None:
        """Nothing to do: memory is as durable as it gets."""

    def read(self, first: int, count: int, *, raw: bool = False) -> Iterator[Piece]:
        """The stored tickets of a range; pieces are views of the runs, not copies."""
        at, end = first, first + count
        while at < end:
            with self._lock:
                stored = self._runs[raw].next(at, end)
            if stored is None:
                return
            at, stop = max(at, stored.first), min(end, stored.end)
            most = max(1, MESSAGE_PAYLOAD_BYTES_MAX // (stored.frame_bytes + FRAME_HEADER_BYTES))
            for low in range(at, stop, most):
                high = min(stop, low + most)
                rows = stored.rows(low, high)
                yield Piece(low, high - low, rows, stored.frame_bytes, stored.key_id)
            at = stop

    def locate(self, first: int, count: int, limit: int) -> Located:  # noqa: ARG002 - of the seam
        """Nowhere in a file that holds frames one after the other."""
        return Located((), first + count)

    def stat(self, ticket: int, *, raw: bool = False) -> TicketInfo | None:
        """What is known of one ticket, or None."""
        with self._lock:
            stored = self._runs[raw].next(ticket, ticket + 1)
        if stored is None:
            return None
        row = stored.rows(ticket, ticket + 1)
        size = len(row) - FRAME_HEADER_BYTES
        return TicketInfo(size, _checksum(row), stored.object_id, stored.key_id)

    def free(
        self,
        ranges: Sequence[tuple[int, int]],
        *,
        raw: bool = False,
        objects: Collection[str] | None = None,
    ) -> int:
        """Remove tickets; what is left of a run that is cut becomes a run of its own."""
        removed = 0
        for first, count in ranges:
            end = first + count
            with self._lock:
                runs = self._runs[raw]
                for stored in list(runs.within(first, end)):
                    if objects is not None and stored.object_id not in objects:
                        continue
                    low, high = max(first, stored.first), min(end, stored.end)
                    removed += high - low
                    runs.remove(stored)
                    if stored.first < low:
                        runs.add(stored.part(stored.first, low))
                    if high < stored.end:
                        runs.add(stored.part(high, stored.end))
        return removed

    def records(self, after: int, limit: int) -> list[NumberedRecord]:
        """At most ``limit`` records with numbers above ``after``, in order."""
        numbers = zip(self._index.after(after), range(limit), strict=False)
        return [NumberedRecord(number, self._records[number]) for number, _ in numbers]

    @property
    def last_number(self) -> int:
        """The highest number that was given to a record so far."""
        return self._last_number

    def find_record(self, object_id: str) -> NumberedRecord | None:
        """The record with the highest number that commits this object, or None."""
        numbers = self._index.of_object(object_id)
        return NumberedRecord(numbers[-1], self._records[numbers[-1]]) if numbers else None

    def drop_records(self, object_ids: Sequence[str]) -> int:
        """Remove the records that commit these objects."""
        numbers = [number for name in set(object_ids) for number in self._index.of_object(name)]
        for number in numbers:
            self._index.remove(number)
            body = self._records.pop(number).body
            with self._lock:
                self._record_bytes -= len(body)
        return len(numbers)

    def raise_ceilings(self, ceilings: Ceilings) -> Ceilings:
        """Lift the ceilings to at least these."""
        self._ceilings = self._ceilings.highest(ceilings)
        return self._ceilings

    def tend(self, budget_bytes: int) -> Upkeep:  # noqa: ARG002 - the protocol's signature
        """Nothing to do: what is removed is gone at once."""
        return Upkeep(0, 0, more=False)

    def scrub(self, cursor: str, budget_bytes: int, check: Check) -> Scrubbed:
        """Verify the next piece of everything."""
        stage, at = numbers_of(cursor, 2)
        piece = Gathered(budget_bytes)
        while not piece.full and stage < Stage.END:
            step = self._scrub_record if stage == Stage.RECORDS else self._scrub_run
            reached = step(at, check, piece, raw=stage == Stage.RAW)
            stage, at = (stage + 1, 0) if reached is None else (stage, reached)
        with self._lock:
            used = self._used()
        return piece.done(cursor_of(stage, at) if stage < Stage.END else "", used)

    def looked_at(self, cursors: Sequence[str], first: int, count: int) -> int | None:  # noqa: ARG002 - of the seam
        """Nobody knows: what is written behind a pass has no mark of it."""
        return None

    def inspect(self, first: int, count: int, check: Check, *, raw: bool = False) -> list[Finding]:
        """Verify what is stored of some tickets."""
        found: list[Finding] = []
        at, end = first, first + count
        while at < end:
            with self._lock:
                stored = self._runs[raw].next(at, end)
            if stored is None:
                break
            low, at = max(at, stored.first), min(end, stored.end)
            found += _verified(stored, low, at, check, raw=raw)
        return found

    def mend(self, finding: Finding) -> bool:  # noqa: ARG002 - of the seam
        """Nothing is kept here that something else here could make again."""
        return False

    def holdings(self, cursor: str, limit: int) -> Holdings:
        """A page of all tickets but raw ones, by object."""
        (at,) = numbers_of(cursor, 1)
        with self._lock:
            some = list(islice(self._runs[False].within(at, TICKETS_MAX), limit))
        found = joined(Holding(each.first, each.count, each.object_id) for each in some)
        keys = frozenset(each.key_id for each in some)
        return Holdings(cursor_of(some[-1].end) if len(some) == limit else "", found, keys)

    @property
    def record_count(self) -> int:
        """How many commit records are kept."""
        return len(self._index)

    def entries(self, space: Space, first: int, end: int) -> Entries:
        """What there is at the positions of a range."""
        if space is not Space.TICKETS:
            return self._index.entries(space, first, end)
        with self._lock:
            some = list(self._runs[False].within(first, end))
        return Entries.of([_row(each) for each in some]).within(first, end)

    def digests(self, grid: Grid, low: int, high: int) -> Leaves:
        """Digests of the leaves ``low … high - 1``."""
        return digest(self.entries(grid.space, low * grid.width, high * grid.width), grid)

    def capacity(self) -> Capacity:
        """Of the memory that was set aside."""
        with self._lock:
            return Capacity(self._capacity_bytes, max(0, self._capacity_bytes - self._used()))

    def close(self) -> None:
        """Let go of everything."""
        with self._lock:
            self._runs = {False: _Runs(), True: _Runs()}

    def _used(self) -> int:
        return self._runs[False].used_bytes + self._runs[True].used_bytes + self._record_bytes

    def _fits(self, size: int) -> bool:
        return self._used() + size <= self._capacity_bytes

    def _scrub_run(self, at: int, check: Check, piece: Gathered, *, raw: bool) -> int | None:
        with self._lock:
            stored = self._runs[raw].next(at, TICKETS_MAX)
        if stored is None:
            return None
        piece.add(len(stored.frames), *_verified(stored, stored.first, stored.end, check, raw=raw))
        return stored.end

    def _scrub_record(self, at: int, check: Check, piece: Gathered, *, raw: bool) -> int | None:  # noqa: ARG002 - as of runs
        number = at + 1
        if number > self._last_number:
            return None
        record = self._records.get(number)
        piece.add(0 if record is None else len(record.body))
        if record is not None and not check.record(record.body):
            owner, reason = record.object_id, "it makes no sense"
            piece.findings.append(Finding(Part.RECORD, number, 1, owner, "memory", reason))
        return number

    def _put_slowly(self, runs: _Runs, run: _Stored) -> Statuses:
        """Ticket by ticket: some are there already, or not all find room."""
        statuses = np.zeros(run.count, np.uint8)
        for ticket in range(run.first, run.end):
            row = run.rows(ticket, ticket + 1)
            held = runs.next(ticket, ticket + 1)
            if held is not None:
                there = held.rows(ticket, ticket + 1)
                same = len(there) == len(row) and _checksum(there) == _checksum(row)
                statuses[ticket - run.first] = Status.WRITTEN if same else Status.TICKET_TAKEN
            elif self._fits(len(row)):
                runs.add(run.part(ticket, ticket + 1))
            else:
                statuses[ticket - run.first] = Status.NO_SPACE
        return statuses


def _verified(stored: _Stored, first: int, end: int, check: Check, *, raw: bool) -> list[Finding]:
    """What is damaged of some tickets of a run."""
    rows = stored.rows(first, end)
    statuses = check.frames(stored.key_id, first, stored.frame_bytes, rows)
    return [
        Finding(
            Part.TICKETS,
            first + at,
            count,
            stored.object_id,
            "memory",
            "the frames do not fit their checksums",
            raw,
        )
        for at, count in (() if statuses is None else bad_stretches(statuses))
    ]


def _row(stored: _Stored) -> tuple[int, int, int, int, int]:
    size = len(stored.frames) - stored.count * FRAME_HEADER_BYTES
    key = object_key(stored.object_id)
    return stored.first, stored.count, size, stored.frame_bytes, key


def _stored(run: Run, count: int, rows: Buffer) -> _Stored:
    return _Stored(run.first, count, rows, run.frame_bytes, run.object_id, run.key_id)


def _checksum(row: memoryview) -> bytes:
    return frames.checksums(row, len(row) - FRAME_HEADER_BYTES)[:CHECKSUM_BYTES]
