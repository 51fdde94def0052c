"""The writing end of the log: records, segments that fill up, and a disk that fails."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Final

import numpy as np

from common.checksum import Buffer
from common.errors import NoSpace, PutterError, StorageError
from common.limits import FRAME_HEADER_BYTES, KIB
from common.meta.interface import Ceilings
from common.wire.frames import Statuses
from common.wire.status import Status
from putter.storage.block_file import BLOCK_BYTES
from putter.storage.engine import Record, Run
from putter.storage.segments.files import Files
from putter.storage.segments.formats import (
    ALIGN,
    HEADER_BYTES,
    Header,
    Kind,
    SegmentHead,
    encode_header,
    encode_pairs,
    run_header,
    seal_of,
)
from putter.storage.segments.log import Log
from putter.storage.segments.open_index import OpenIndex
from putter.storage.segments.packing import Made, Packer
from putter.storage.segments.places import Removal
from putter.storage.segments.recovery import Recovered
from putter.storage.segments.replay import record_place, run_place
from putter.storage.segments.reserve import Reserve
from putter.storage.segments.segment import Catalog, Segment
from putter.storage.segments.unsynced import Unsynced

_REMOVAL_ROOM: Final = 64 * KIB
"""Of each segment, at most an eighth, not for tickets: deleting must work on a full disk."""
_PART_BYTES_MIN: Final = 256 * KIB
"""A run is not cut for less at the end of a segment, while there is room for another."""
_ENTRIES_MAX: Final = 200_000
"""Runs and records in a segment: what the open one's index takes of the memory."""

_log = logging.getLogger(__name__)


class Writer:
    """Everything that is written. The caller holds the engine's lock, but for `sync`.

    Args:
        files: of the data directory.
        found: what was there at the start.
        reserve: what new tickets leave.
        lock: of the engine; may be taken again by who holds it.
        packer: compresses and encrypts.
    """

    def __init__(
        self,
        files: Files,
        found: Recovered,
        reserve: Reserve,
        lock: AbstractContextManager[object],
        packer: Packer,
    ) -> None:
        self.log: Final = Log()
        self.next_record = found.record_number
        self._files = files
        self._lock = lock
        self._packer = packer
        self._catalog: Catalog = found.catalog
        self._head: SegmentHead = found.head
        self._epoch = found.epoch
        self._sequence = found.sequence
        self._reserve = reserve
        self._removal_room = min(_REMOVAL_ROOM, files.segment_bytes // 8)
        self.unsynced: Final = Unsynced(found.catalog)
        self.owed: list[Removal] = []
        self._failure: PutterError | None = None
        number = found.head.number
        if found.at is not None and number in self._catalog.segments:
            self.log.open(files.file(number), number, found.at, self._catalog.segments[number].end)

    @property
    def secret(self) -> bytes:
        """Key of the header checksums."""
        return self._head.secret

    @property
    def ceilings(self) -> Ceilings:
        """As they are durable."""
        return self._head.ceilings

    @property
    def room(self) -> int:
        """Bytes that the open segment still takes of new tickets."""
        if not self.log.number or len(self._open_index()) >= _ENTRIES_MAX:
            return 0
        return max(0, self.log.room - self._removal_room)

    def save_ceilings(self, ceilings: Ceilings) -> None:
        """Replace the ceilings; durable when it returns."""
        self._save_state(ceilings)

    def note_end(self) -> None:
        """Tell the next start how much there is; it does without, too."""
        try:
            self._save_state(self.ceilings)
        except PutterError as error:
            _log.warning("the state of the data directory is not up to date: %s", error)

    def append_run(
        self,
        run: Run,
        count: int,
        *,
        raw: bool,
        sequence: int | None = None,
        spare: bool = False,
        made: Made | None = None,
    ) -> Statuses:
        """Write a run whose tickets are all free; it is cut where a segment ends.

        Args:
            run: what is written.
            count: tickets.
            raw: raw tickets.
            sequence: of a copy; None for a new one.
            spare: the reserve may be used.
            made: the whole run as the packer gave it, if it did already.
        """
        if not spare and self._reserve.refuses(self.log.number):
            return np.full(count, Status.NO_SPACE, np.uint8)
        stride = run.frame_bytes + FRAME_HEADER_BYTES
        statuses = np.zeros(count, np.uint8)
        at = 0
        while at < count:
            rows = run.frames[at * stride :]
            try:
                whole = at == 0 and made is not None and made[0].length <= self.room
                some = count if whole else self._make_room(run, rows, stride, spare=spare)
            except NoSpace as error:
                _log.warning("no room for new tickets: %s", error)
                statuses[at:] = Status.NO_SPACE
                break
            except StorageError as error:
                _log.error("cannot write: %s", error)
                statuses[:] = Status.IO_ERROR
                break
            try:
                if made is None or some < count:
                    part = replace(run, first=run.first + at, frames=rows[: some * stride])
                    made = self._packer.run(run_header(part, some, raw=raw), part.frames)
                self._write_run(*made, sequence=sequence)
            except (NoSpace, StorageError) as error:
                _log.error("cannot write: %s", error)
                self._fail(error)
                statuses[:] = Status.IO_ERROR
                break
            at += some
        return statuses

    def _make_room(self, run: Run, rows: Buffer, stride: int, *, spare: bool) -> int:
        """How many of these frames come next; a new segment is begun where that is worth it."""
        names = HEADER_BYTES + len(run.object_id) + len(run.key_id) + ALIGN
        names += self._packer.overhead(len(rows), run.frame_bytes)

        def fitting() -> int:
            room = self.room - names
            return -(-len(rows) // stride) if len(rows) <= room else max(0, room // stride)

        some = fitting()
        if some * stride >= min(len(rows), _PART_BYTES_MIN):
            return some
        if self.log.end != BLOCK_BYTES:
            try:
                self._roll(spare=spare)
            except NoSpace:
                some = fitting()  # less than before: what was written was synced
                if not some:
                    raise
                return some
            some = fitting()
        if not some:
            raise NoSpace(f"frames of {stride} bytes do not fit into a segment")
        return some

    def _write_run(self, header: Header, body: tuple[Buffer, ...], *, sequence: int | None) -> None:
        header = self._placed(header, sequence)
        at = self._append(header, body)
        self.unsynced.add_run(run_place(self.log.number, at, header), raw=header.raw)

    def append_packed(self, header: Header, body: bytes, sequence: int) -> bool:
        """A packed run of another segment, as it is; False if it is too long for this one."""
        if header.length > self.room:
            self._roll(spare=True)
        if header.length > self.room:
            return False
        try:
            self._write_run(header, (body,), sequence=sequence)
        except PutterError as error:
            self._fail(error)
            raise
        return True

    def append_record(self, record: Record) -> int:
        """A commit record; its number.

        Raises:
            NoSpace, StorageError: it was not taken.
        """
        header = self._header(
            Kind.COMMIT,
            record.body,
            first=record.stamp,
            number=self.next_record,
            object_id=record.object_id,
        )
        header, at = self._append_small(*self._packer.record(header, record.body))
        self.unsynced.add_record(record_place(self.log.number, at, header))
        self.next_record += 1
        return header.number

    def append_copy(self, header: Header, body: bytes, removal: Removal | None = None) -> None:
        """A commit record or a removal of another segment, with its sequence number.

        Args:
            header: of the original.
            body: its body.
            removal: what it says, if it is one.

        Raises:
            NoSpace, StorageError: it was not taken.
        """
        copy, at = self._append_small(header, body, sequence=header.sequence)
        if removal is None:
            self.unsynced.add_record(record_place(self.log.number, at, copy))
        else:
            removal = replace(removal, segment=self.log.number, record=at)
            self.unsynced.add_removal(removal)

    def after_sync(self, call: Callable[[], None]) -> None:
        """Do something once all that was written is durable; never, if it is not."""
        self.unsynced.add_call(call)

    @property
    def is_synced(self) -> bool:
        """Whether nothing waits for a sync."""
        return not self.unsynced

    def sync(self) -> None:
        """Make everything durable: one write of whole blocks, one fdatasync.

        Raises:
            StorageError: nothing since the last sync is there any more.
        """
        failure, self._failure = self._failure, None
        try:
            if self.owed:
                with self._lock:
                    self._begin(spare=True)
            self.log.sync()
        except (NoSpace, StorageError) as error:
            failure = error
            with self._lock:
                self.abandon()
        else:
            with self._lock:
                self.unsynced.settle()
        if failure is not None:
            raise StorageError(f"what was written is not durable: {failure}") from failure

    def append_removal(
        self,
        ranges: tuple[tuple[int, int], ...],
        *,
        raw: bool = False,
        dropped: bool = False,
        sequence: int | None = None,
    ) -> None:
        """Tickets that are freed, or commit records that are dropped.

        Args:
            ranges: ``(first, count)`` of tickets, or of the numbers of records.
            raw: raw tickets.
            dropped: it is about records.
            sequence: only what is older is meant; None for all that was written so far.

        Raises:
            NoSpace, StorageError: it was not taken.
        """
        body = encode_pairs(ranges)
        kind = Kind.DROPPED if dropped else Kind.FREED
        header = self._header(kind, body, raw=raw)
        header, at = self._append_small(header, body, sequence=sequence)
        removal = Removal(
            self.log.number, at, header.length, header.sequence, raw, ranges, dropped=dropped
        )
        self.unsynced.add_removal(removal)

    def abandon(self) -> None:
        """After a failure: forget what is not durable, and leave the file alone behind it."""
        self.owed += self.unsynced.forget()
        broken = self._catalog.segments.get(self.log.number)
        if broken is not None and isinstance(broken.index, OpenIndex):
            broken.end = self.log.tail
        self.log.leave()
        try:
            # At once: the next segment says where this one ends. What lies behind may look whole,
            # and still not be on the platter.
            self._begin(spare=True)
        except PutterError as error:
            _log.error("the disk takes nothing: %s", error)

    # -- inside ----------------------------------------------------------------------------

    def _header(self, kind: Kind, body: Buffer, **more: object) -> Header:
        return Header(
            kind=kind,
            segment=0,
            sequence=0,
            epoch=self._epoch,
            commit=0,
            body_bytes=len(body),
            body_sum=seal_of(self.secret, body),
            **more,  # type: ignore[arg-type] # fields of the header
        )

    def _append_small(
        self, header: Header, body: Buffer, *, sequence: int | None = None
    ) -> tuple[Header, int]:
        """What is not cut, and may use the reserve: the header with its place, and its offset."""
        is_removal = header.kind in (Kind.FREED, Kind.DROPPED)
        if header.length > (self.log.room if is_removal else self.room):
            self._roll(spare=True)
            if header.length > self.log.room:
                raise NoSpace(f"a record of {header.length} bytes does not fit into a segment")
        header = self._placed(header, sequence)
        try:
            return header, self._append(header, body)
        except PutterError as error:
            self._fail(error)
            raise

    def _placed(self, header: Header, sequence: int | None) -> Header:
        return replace(
            header,
            segment=self.log.number,
            sequence=self._sequence if sequence is None else sequence,
            epoch=self._epoch,
            commit=self.log.commit,
        )

    def _fail(self, error: PutterError) -> None:
        """Bytes were refused in the middle of a commit: none of it will be durable."""
        self.abandon()
        self._failure = error

    def _append(self, header: Header, body: Buffer | tuple[Buffer, ...]) -> int:
        at = self.log.append(encode_header(header, self.secret), body, header.length)
        self._sequence += 1
        return at

    def _roll(self, *, spare: bool = False) -> None:
        """Seal the open segment and begin another.

        Raises:
            NoSpace: there is none; the open one is as it was.
            StorageError: there is none, or what was written before is not durable.
        """
        try:
            self.sync()
        except StorageError as error:
            self._failure = error  # whoever syncs next has to hear of it
            raise
        self._begin(spare=spare)

    def _begin(self, *, spare: bool) -> None:
        """Begin another segment; all of the open one is durable, or it was left."""
        old = self._catalog.segments.get(self._head.number)
        if old is not None and self.log.number == old.number:
            old.end = self.log.tail
        head = replace(
            self._head,
            number=self._head.number + 1,
            epoch=self._epoch,
            sequence=self._sequence,
            record_number=self.next_record,
            previous_end=old.end if old is not None else 0,
            end=BLOCK_BYTES,
        )
        try:
            self._head = self._files.create(head, 0 if spare else self._reserve.bytes)
        except StorageError:
            self.log.leave()  # the new one may be there all the same, and say where this one ends
            raise
        if old is not None:
            self._seal(old)
        number = self._head.number
        self._catalog.add(Segment(number, OpenIndex(), BLOCK_BYTES, self._head.size))
        self.log.open(self._files.file(number), number, BLOCK_BYTES)
        owed, self.owed = self.owed, []
        for at, each in enumerate(owed):  # what was forgotten here must not come back
            try:
                self.append_removal(
                    each.ranges, raw=each.raw, dropped=each.dropped, sequence=each.sequence
                )
            except PutterError:
                self.owed += owed[at:]
                raise

    def _seal(self, segment: Segment) -> None:
        """Write a segment's index; without it, the next start scans the segment."""
        if not isinstance(segment.index, OpenIndex):
            return
        try:
            segment.index = self._files.save_index(
                segment.index, segment.number, segment.end, self.secret
            )
        except PutterError as error:
            _log.warning("segment %016x has no index yet: %s", segment.number, error)
        self._catalog.changed()

    def _save_state(self, ceilings: Ceilings) -> None:
        head = replace(self._head, ceilings=ceilings)
        self._files.save_state(
            replace(
                head,
                epoch=self._epoch,
                sequence=self._sequence,
                record_number=self.next_record,
                end=self.log.tail if self.log.number == head.number else head.end,
            )
        )
        self._head = head

    def _open_index(self) -> OpenIndex:
        index = self._catalog.segments[self.log.number].index
        assert isinstance(index, OpenIndex)
        return index
