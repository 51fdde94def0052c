"""The engine of the layout ``segments``, and the one place that knows the order of its writes."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from threading import RLock
from typing import Final

import numpy as np

from common.checksum import CHECKSUM_BYTES
from common.digests import Entries, Grid, Leaves, Space
from common.errors import StorageError
from common.limits import FRAME_HEADER_BYTES, MESSAGE_PAYLOAD_BYTES_MAX
from common.meta.interface import Ceilings
from common.tickets import FIELD_BYTES, encode_field, object_key
from common.wire.frames import Statuses
from common.wire.status import Status
from putter.storage.disk import Disk
from putter.storage.engine import Capacity, NumberedRecord, Piece, Record, Run, TicketInfo, Upkeep
from putter.storage.envelope import KeyFiles
from putter.storage.holdings import Holdings
from putter.storage.located import Located
from putter.storage.scrub import Check, Finding, Scrubbed
from putter.storage.segments.compaction import Compactor
from putter.storage.segments.files import Files
from putter.storage.segments.formats import run_header
from putter.storage.segments.holdings import page
from putter.storage.segments.index_file import DamagedIndexError
from putter.storage.segments.inventory import Inventory
from putter.storage.segments.key_use import KeyUse
from putter.storage.segments.locating import located
from putter.storage.segments.mending import Mender
from putter.storage.segments.packing import AtRest, Made, Packer, Unpacker
from putter.storage.segments.places import Place, compared, joined_ranges
from putter.storage.segments.reader import Reader
from putter.storage.segments.recovery import Report, recover, state_of
from putter.storage.segments.replay import Verify
from putter.storage.segments.reserve import Reserve
from putter.storage.segments.scrub import SegmentScrub
from putter.storage.segments.writer import Writer
from putter.storage.stored import COMPRESSION, ENCRYPTION, Stored

_REMOVAL_PAIRS: Final = 256
_PLACES: Final = 64
_log = logging.getLogger(__name__)


def believe(*_: object) -> bool | None:
    """Of a node that was given no keys."""
    return None


class SegmentsEngine:
    """A node's disk as a log in large files."""

    def __init__(
        self,
        disk: Disk,
        *,
        identity: str = "segments",
        reserve_bytes: int = 0,
        segment_bytes: int | None = None,
        verify: Verify = believe,
        at_rest: AtRest | None = None,
        key_files: KeyFiles | None = None,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
        release: Callable[[], None] = lambda: None,
    ) -> None:
        """Open the log at the root of a disk, or begin one there.

        Args:
            disk: its root is the data directory.
            identity: of the node.
            reserve_bytes: free space that new tickets leave to deletions, compaction and others.
            segment_bytes: length of new segments; by the size of the disk if None.
            verify: tells whether frames fit their checksums: the end of the log is checked.
            key_files: where the data keys are kept, if there are any.
            at_rest: whether new records are compressed or encrypted; plain ones if None.
            random_bytes: gives a new directory its secret.
            release: called once by `close`, last.

        Raises:
            StorageError: the disk refused, or nothing tells what the directory holds.
        """
        self._disk = disk
        self._identity = identity
        self._release = release
        self._closed = False
        self._lock = RLock()
        self._files = Files(disk, segment_bytes)
        self._reserve = Reserve(self._files, reserve_bytes)
        self._report = report = Report()
        state = state_of(self._files, random_bytes, report)
        found = recover(self._files, state, verify, report)
        self._catalog = found.catalog
        self._at_rest = at_rest = at_rest or AtRest()
        self._packer = Packer(at_rest, state.secret)
        self._writer = Writer(self._files, found, self._reserve, self._lock, self._packer)
        unpacker = Unpacker(at_rest.keys, state.secret)
        self._reader = Reader(
            self._catalog, self._files, self._writer.log, state.secret, self._lock, unpacker
        )
        self._compactor = Compactor(
            self._catalog, self._files, self._writer, self._reader, self._packer, verify
        )
        self._mender = Mender(
            self._catalog, self._files, self._reader, self._writer, verify, self._lock, key_files
        )
        keys = KeyUse(key_files, self._files, state.secret, self._compactor.copied_keys)
        prepare, seen = self._mender.prepare, (self._catalog, self._files, self._reader)
        self._scrub = SegmentScrub(*seen, state.secret, self._lock, keys, prepare)
        self._inventory = Inventory(self._catalog, self._lock)
        self._suspects = set[int]()
        self._highest = {raw: self._catalog.highest_ticket(raw=raw) for raw in (False, True)}

    @property
    def layout(self) -> str:
        """``segments``."""
        return "segments"

    @property
    def identity(self) -> str:
        """The node's identity."""
        return self._identity

    @property
    def report(self) -> Report:
        """What was found when the directory was opened."""
        return self._report

    # -- writing ---------------------------------------------------------------------------

    def put(self, run: Run, *, raw: bool = False) -> Statuses:
        """Write a run; durable after `sync`."""
        stride = run.frame_bytes + FRAME_HEADER_BYTES
        count = -(-len(run.frames) // stride)
        made = self._packer.run(run_header(run, count, raw=raw), run.frames)
        with self._lock:
            end = run.first + count
            if run.first >= self._highest[raw] or not self._places(run.first, end, raw=raw, most=1):
                return self._append(run, count, raw=raw, made=made)
            return self._put_slowly(run, count, raw=raw)

    def put_record(self, record: Record) -> int:
        """Keep a commit record and number it; durable after `sync`."""
        with self._lock:
            number = self._catalog.with_stamp(record.stamp)
            if number is not None:
                return number
            return self._writer.append_record(record)

    def sync(self) -> None:
        """Make everything durable: one write of whole blocks, one fdatasync."""
        self._writer.sync()
        with self._lock:
            self._reader.trim()

    # -- reading ---------------------------------------------------------------------------

    def read(self, first: int, count: int, *, raw: bool = False) -> Iterator[Piece]:
        """The stored tickets of a range, in order; touches only their frames."""
        at, end = first, first + count
        while at < end:
            with self._lock:
                places = self._places(at, end, raw=raw, most=1)
            if not places:
                return
            place = places[0]
            stride = place.frame_bytes + FRAME_HEADER_BYTES
            most = max(1, MESSAGE_PAYLOAD_BYTES_MAX // stride)
            part = place.part(place.first, place.first + most)
            try:
                rows = self._bytes_of(part, raw=raw)
            except StorageError:
                self._suspect(part.segment)
                raise
            if rows is not None and rows[:FIELD_BYTES] != encode_field(part.first):
                self._suspect(part.segment)
            at = part.end
            if rows is not None:
                yield Piece(part.first, part.count, rows, part.frame_bytes, part.key_id)

    def locate(self, first: int, count: int, limit: int) -> Located:
        """Where tickets lie in the segments."""
        with self._lock:
            places = self._places(first, first + count, raw=False, most=limit)
            return located(places, first + count, limit, self._writer.log, self._files)

    def stat(self, ticket: int, *, raw: bool = False) -> TicketInfo | None:
        """What is known of one ticket, or None."""
        with self._lock:
            places = self._places(ticket, ticket + 1, raw=raw)
            if not places:
                return None
            place = places[0]
            header = self._reader.header(place.segment, place.record)
            wanted = place if place.packed else replace(place, body_bytes=FRAME_HEADER_BYTES)
            row = self._reader.frames(wanted, strict=True)
            if header is None:
                raise StorageError(f"the record of ticket {ticket} is damaged on this node")
            run = self._reader.stored(place, header)
            self._reader.trim()
        checksum = row[FRAME_HEADER_BYTES - CHECKSUM_BYTES : FRAME_HEADER_BYTES]
        size = place.body_bytes - FRAME_HEADER_BYTES
        return TicketInfo(size, checksum, header.object_id, header.key_id, run=run)

    # -- removing --------------------------------------------------------------------------

    def free(
        self,
        ranges: Sequence[tuple[int, int]],
        *,
        raw: bool = False,
        objects: Collection[str] | None = None,
    ) -> int:
        """Remove tickets of ``(first, count)`` ranges; durable after `sync`."""
        keys = None if objects is None else {object_key(each) for each in objects}
        with self._lock:
            there = [
                (part.first, part.count)
                for first, end in joined_ranges(ranges)
                for part in self._all_places(first, end, raw=raw)
                if keys is None or part.object_key in keys
            ]
            self._remove(there, raw=raw)
        return sum(count for _, count in there)

    def drop_records(self, object_ids: Sequence[str]) -> int:
        """Remove the records that commit these objects; durable after `sync`."""
        with self._lock:
            numbers = {
                number
                for object_id in object_ids
                if object_id
                for number in self._catalog.of_object(object_key(object_id))
            }
            self._remove([(number, 1) for number in sorted(numbers)], dropped=True)
        return len(numbers)

    # -- commit records --------------------------------------------------------------------

    def records(self, after: int, limit: int) -> list[NumberedRecord]:
        """At most ``limit`` records with numbers above ``after``, in order."""
        found: list[NumberedRecord] = []
        with self._lock:
            while len(found) < limit:
                places = self._catalog.after(after, limit - len(found))
                if not places:
                    break
                loaded = (self._reader.record(place) for place in places)
                found += [each for each in loaded if each is not None]
                self._reader.trim()
                after = places[-1].number
        return found

    @property
    def last_number(self) -> int:
        """The highest number that was given to a record so far."""
        return self._writer.next_record - 1

    def find_record(self, object_id: str) -> NumberedRecord | None:
        """The record with the highest number that commits this object, or None."""
        if not object_id:
            return None
        with self._lock:
            for number in reversed(self._catalog.of_object(object_key(object_id))):
                place = self._catalog.record(number)
                loaded = None if place is None else self._reader.record(place)
                if loaded is not None and loaded.record.object_id == object_id:
                    return loaded
        return None

    # -- the node --------------------------------------------------------------------------

    def raise_ceilings(self, ceilings: Ceilings) -> Ceilings:
        """Lift the ceilings to at least these; durable when it returns."""
        lifted = self._writer.ceilings.highest(ceilings)
        if lifted != self._writer.ceilings:
            self._writer.save_ceilings(lifted)
        return lifted

    def tend(self, budget_bytes: int) -> Upkeep:
        """Do a piece of compaction; what was copied counts after the next sync."""
        with self._lock:
            done = self._compactor.step(budget_bytes)
            suspects, self._suspects = self._suspects, set()
        if not suspects:
            return done
        return replace(done, findings=(*done.findings, *self._scrub.suspected(suspects)))

    def scrub(self, cursor: str, budget_bytes: int, check: Check) -> Scrubbed:
        """Verify the next piece of everything."""
        return self._scrub.step(cursor, budget_bytes, check)

    def looked_at(self, cursors: Sequence[str], first: int, count: int) -> int | None:
        """Where a pass stood before it looked at tickets."""
        return self._scrub.looked_at(cursors, first, count)

    def inspect(self, first: int, count: int, check: Check, *, raw: bool = False) -> list[Finding]:
        """Verify what is stored of some tickets."""
        return self._scrub.inspect(first, count, check, raw=raw)

    def mend(self, finding: Finding) -> bool:
        """Make an index again from its segment, the state or data-key files from memory."""
        return self._mender.mend(finding)

    def holdings(self, cursor: str, limit: int) -> Holdings:
        """A page of all tickets but raw ones, by object."""
        return page(self._catalog, self._lock, cursor, limit)

    @property
    def record_count(self) -> int:
        """How many commit records are kept."""
        return self._inventory.record_count

    def entries(self, space: Space, first: int, end: int) -> Entries:
        """What there is at the positions of a range, from the indexes."""
        with self._suspecting():
            return self._inventory.entries(space, first, end)

    def digests(self, grid: Grid, low: int, high: int) -> Leaves:
        """Digests of the leaves ``low … high - 1``, kept for sealed segments."""
        with self._suspecting():
            return self._inventory.digests(grid, low, high)

    def capacity(self) -> Capacity:
        """Of the disk, with what the open segment still takes; the reserve counts as used."""
        with self._lock:
            found = self._files.capacity()
            free = found.free_bytes - self._reserve.bytes
            if not self._reserve.refuses(self._writer.log.number):
                free += self._writer.room
        return Capacity(found.total_bytes, max(0, free))

    def stored(self) -> Stored:
        """How new runs are to be stored, and what was written since the start, copies too."""
        wanted, written = self._at_rest, self._writer.unsynced
        return Stored(
            COMPRESSION if wanted.compress else "",
            ENCRYPTION if wanted.writing is not None else "",
            written.plain_bytes,
            written.stored_bytes,
        )

    def close(self) -> None:
        """Sync and let go of the directory."""
        if self._closed:
            return
        self._closed = True
        try:
            self.sync()
            self._writer.note_end()
        finally:
            self._files.close()
            self._disk.close()
            self._release()

    # -- inside: writing -------------------------------------------------------------------

    def _append(self, run: Run, count: int, *, raw: bool, made: Made | None = None) -> Statuses:
        self._highest[raw] = max(self._highest[raw], run.first + count)
        return self._writer.append_run(run, count, raw=raw, made=made)

    def _put_slowly(self, run: Run, count: int, *, raw: bool) -> Statuses:
        """Some tickets are there already: the gaps are filled."""
        stride = run.frame_bytes + FRAME_HEADER_BYTES
        end = run.first + count
        statuses = np.zeros(count, np.uint8)
        at = run.first
        for place in [*self._all_places(run.first, end, raw=raw), None]:
            stop = end if place is None else place.first
            if at < stop:
                rows = run.frames[(at - run.first) * stride : (stop - run.first) * stride]
                part = replace(run, first=at, frames=rows)
                statuses[at - run.first : stop - run.first] = self._append(part, stop - at, raw=raw)
            if place is not None:
                low, high = place.first - run.first, place.end - run.first
                rows = run.frames[low * stride : high * stride]
                statuses[low:high] = self._compared(place, rows, run.frame_bytes)
                at = place.end
        return statuses

    def _compared(self, place: Place, rows: memoryview, frame_bytes: int) -> Statuses:
        """``WRITTEN`` where a stored ticket holds these very bytes."""
        try:
            there = self._reader.frames(place, strict=True)
        except StorageError as error:
            _log.error("tickets %d + %d cannot be read: %s", place.first, place.count, error)
            return np.full(place.count, Status.IO_ERROR, np.uint8)
        return compared(place, there, rows, frame_bytes)

    def _remove(
        self, ranges: Sequence[tuple[int, int]], *, raw: bool = False, dropped: bool = False
    ) -> None:
        """Say in the log what is gone, and forget it."""
        for start in range(0, len(ranges), _REMOVAL_PAIRS):
            part = tuple(ranges[start : start + _REMOVAL_PAIRS])
            self._writer.append_removal(part, raw=raw, dropped=dropped)
            for first, count in part:
                if dropped:
                    self._catalog.drop(first)
                    continue
                for segment in list(self._catalog.holding(first, first + count, raw=raw)):
                    segment.index.free(first, first + count, raw=raw)

    # -- inside: reading -------------------------------------------------------------------

    def _places(self, first: int, end: int, *, raw: bool, most: int = _PLACES) -> list[Place]:
        with self._suspecting():
            return self._catalog.places(first, end, raw=raw, limit=most)

    @contextmanager
    def _suspecting(self) -> Iterator[None]:
        """What meets a damaged index says so."""
        try:
            yield
        except DamagedIndexError as error:
            self._suspect(error.segment)
            raise

    def _suspect(self, segment: int) -> None:
        """The next upkeep looks whether its index is damaged."""
        with self._lock:
            self._suspects.add(segment)

    def _all_places(self, first: int, end: int, *, raw: bool) -> list[Place]:
        found: list[Place] = []
        while first < end:
            some = self._places(first, end, raw=raw)
            if not some:
                break
            found += some
            first = some[-1].end
        return found

    def _bytes_of(self, place: Place, *, raw: bool) -> bytes | None:
        """The frames of a place; found again where it has moved; None if it is gone."""
        with self._reader.pinned(place.segment) as there:
            if there:
                return self._reader.frames(place)
        with self._lock:
            again = self._places(place.first, place.end, raw=raw)
            parts = [self._reader.frames(each) for each in again]
        whole = sum(each.count for each in again) == place.count
        return b"".join(parts) if whole else None
