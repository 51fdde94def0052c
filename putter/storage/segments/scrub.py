"""Verifies segments in the order of their numbers: first block, index, runs, records, removals.

A pass looks at the segments that were there when it began. What compaction copies out of them
meanwhile was verified when it was copied; what is written anew was verified when it came.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from enum import IntEnum
from itertools import islice
from typing import Final

import numpy as np

from common.checksum import Buffer
from common.errors import StorageError
from common.limits import FRAME_HEADER_BYTES
from common.tickets import TICKETS_MAX, object_id_of
from common.wire.frames import Statuses
from common.wire.status import Status
from putter.storage.block_file import BLOCK_BYTES
from putter.storage.scrub import (
    Check,
    Finding,
    Gathered,
    Part,
    Scrubbed,
    bad_stretches,
    cursor_of,
    numbers_of,
)
from putter.storage.segments.files import ROOT, Files, index_path, place_of
from putter.storage.segments.formats import Header, Kind, decode_head, seal_of
from putter.storage.segments.key_use import KeyUse
from putter.storage.segments.open_index import OpenIndex
from putter.storage.segments.places import Place, RecordPlace, Removal
from putter.storage.segments.reader import Reader
from putter.storage.segments.sealed_index import SealedIndex
from putter.storage.segments.segment import Catalog, Segment

_NUMBERS: Final = 5
"""In a cursor: the newest segment when the pass began, where the pass is in the order of segments,
stages and tickets, and what bounds the sequence numbers that this newest segment had then."""
_SEALED: Final = 1 << 62
_AT_ONCE: Final = 64
"""Entries of an index that are taken under the lock together."""
_SKIP: Final = -1
"""In place of where to go on: nothing more of this segment can be found."""
_AGAIN: Final = 1
"""Where to go on in a segment whose index has to be made again first."""


class _Stage(IntEnum):
    WHOLE = 0
    RUNS = 1
    RAW = 2
    RECORDS = 3
    REMOVALS = 4
    END = 5


class SegmentScrub:
    """Looks at segments from any thread; pins the one that it looks at.

    Args:
        catalog: all segments.
        files: of the data directory.
        reader: of the same engine.
        secret: of the directory.
        lock: of the engine; is taken only for looks at the catalog.
        keys: gathers what the pass sees of data keys.
        prepare: called with a pinned segment whose index is damaged.
    """

    def __init__(
        self,
        catalog: Catalog,
        files: Files,
        reader: Reader,
        secret: bytes,
        lock: AbstractContextManager[object],
        keys: KeyUse,
        prepare: Callable[[Segment], None],
    ) -> None:
        self._catalog = catalog
        self._files = files
        self._reader = reader
        self._secret = secret
        self._lock = lock
        self._keys = keys
        self._prepare = prepare
        self._last = 0

    def step(self, cursor: str, budget_bytes: int, check: Check) -> Scrubbed:
        """The next piece of a pass; see `putter.storage.engine.Engine.scrub`."""
        self._keys.go_on(cursor)
        done = self._step(cursor, budget_bytes, check)
        self._keys.stop(done.cursor, self._last)
        return done

    def _step(self, cursor: str, budget_bytes: int, check: Check) -> Scrubbed:
        last, number, stage, at, bound = numbers_of(cursor, _NUMBERS)
        with self._lock:
            if not last:
                last = max(self._catalog.segments, default=0)
                bound = _bound_of(self._catalog.segments.get(last))
            self._last = last
            total = sum(
                segment.index.live_bytes
                for segment in self._catalog.segments.values()
                if segment.number <= last
            )
        piece = Gathered(budget_bytes)
        while not piece.full:
            segment = self._segment(number, last)
            if segment is None:
                return piece.done("", total, cursor_of(last, last + 1, 0, 0, bound))
            if segment.number != number:
                number, stage, at = segment.number, _Stage.WHOLE, 0
            with self._reader.pinned(number) as there:
                reached = self._some(segment, stage, at, check, piece) if there else _SKIP
                if reached == _SKIP or (reached is None and stage >= _Stage.REMOVALS):
                    number, stage, at = number + 1, _Stage.WHOLE, 0
                elif reached is None:
                    stage, at = stage + 1, 0
                else:
                    at = reached
            if stage == _Stage.WHOLE and at == _AGAIN:
                break
        return piece.done(cursor_of(last, number, stage, at, bound), total)

    def looked_at(self, cursors: Sequence[str], first: int, count: int) -> int | None:
        """See `putter.storage.engine.Engine.looked_at`."""
        stood = [numbers_of(cursor, _NUMBERS) for cursor in cursors]
        places = list(self._places(first, first + count))
        if not stood or not places or not all(_is_behind(stood[-1], each) for each in places):
            return None
        # A pass goes through the segments in their order, and through each by tickets.
        lowest = min(places, key=lambda each: (each.segment, each.end))
        return next(at for at, each in enumerate(stood) if _is_behind(each, lowest))

    def _places(self, at: int, end: int) -> Iterator[Place]:
        """Where tickets lie now."""
        while at < end:
            with self._lock:
                some = self._catalog.places(at, end, raw=False, limit=_AT_ONCE)
            if not some:
                return
            yield from some
            at = some[-1].end

    def inspect(self, first: int, count: int, check: Check, *, raw: bool) -> list[Finding]:
        """What is damaged of the copies of tickets that count, or of what tells where they lie."""
        found: list[Finding] = []
        segments = set[int]()
        at, end = first, first + count
        while at < end:
            with self._lock:
                places = self._catalog.places(at, end, raw=raw, limit=1)
            if not places:
                break
            place = places[0]
            with self._reader.pinned(place.segment) as there:
                if there:
                    damage = self._damage_of(place, check, raw=raw)
                    if damage:
                        segments.add(place.segment)
                    found += damage
                    at = place.end
        return [*self.suspected(segments), *found]

    def suspected(self, numbers: Iterable[int]) -> list[Finding]:
        """Which indexes are damaged, of the segments with these numbers."""
        with self._lock:
            known = [self._catalog.segments.get(number) for number in sorted(numbers)]
        return [found for each in known if each is not None for found in self._index(each)[1]]

    # -- a piece of a segment --------------------------------------------------------------

    def _segment(self, number: int, last: int) -> Segment | None:
        """The one with this number, or the next, if it is not behind the last."""
        with self._lock:
            segments = self._catalog.segments
            if number not in segments:
                number = min((each for each in segments if each >= number), default=last + 1)
            return segments.get(number) if number <= last else None

    def _some(
        self, segment: Segment, stage: int, at: int, check: Check, piece: Gathered
    ) -> int | None:
        """Look at some things; where to go on, or None if that was all of this stage."""
        match stage:
            case _Stage.WHOLE if at == _AGAIN:
                return _SKIP if self._index(segment)[1] else None
            case _Stage.WHOLE:
                return None if self._whole(segment, piece) else _AGAIN
            case _Stage.RUNS | _Stage.RAW:
                return self._runs(segment, at, check, piece, raw=stage == _Stage.RAW)
            case _Stage.RECORDS:
                return self._records(segment, at, check, piece)
            case _:
                return self._removals(segment, at, piece)

    def _whole(self, segment: Segment, piece: Gathered) -> bool:
        """First block and index; whether the index can be followed."""
        number = segment.number
        findings = []
        try:
            # Pages that are in memory say nothing about the platter.
            self._files.file(number).forget_cached()
            head = decode_head(self._reader.load(number, 0, BLOCK_BYTES))
            reason = "it is damaged"
            if head is not None and (head.number, head.secret) == (number, self._secret):
                reason = ""
        except StorageError as error:
            reason = str(error)
        if reason:
            findings.append(Finding(Part.SEGMENT, 0, 0, "", place_of(number, 0), reason))
        with self._lock:
            newest = max(self._catalog.segments, default=0)
        if number == newest:
            findings += [*self._state(), *self._key_files()]
        self._keys.look(number, segment.end)
        size, damaged = self._index(segment)
        piece.add(BLOCK_BYTES + size, *findings, *damaged)
        if damaged:
            self._prepare(segment)
        return not damaged

    def _index(self, segment: Segment) -> tuple[int, list[Finding]]:
        """Length of an index, and what is wrong with it, on the disk or as it is mapped."""
        index, size = segment.index, None
        if not isinstance(index, SealedIndex):
            return 0, []
        reason = "it is damaged"
        try:
            size = self._files.verified_index(segment.number, self._secret)
            if size is not None and index.is_whole():
                return size, []
        except StorageError as error:
            reason = str(error)
        path = index_path(segment.number)
        return size or 0, [Finding(Part.INDEX, 0, 0, "", path, reason)]

    def _state(self) -> list[Finding]:
        try:
            head = self._files.load_state()
            reason = "it is damaged"
            if head is not None and head.secret == self._secret:
                return []
        except StorageError as error:
            reason = str(error)
        return [Finding(Part.STATE, 0, 0, "", f"{ROOT}/state", reason)]

    def _key_files(self) -> list[Finding]:
        files = self._keys.files
        damaged = files.damaged() if files is not None else []
        return [Finding(Part.KEYS, 0, 0, "", path, reason) for path, reason in damaged]

    def _runs(
        self, segment: Segment, at: int, check: Check, piece: Gathered, *, raw: bool
    ) -> int | None:
        with self._lock:
            places = list(islice(segment.index.runs(at, TICKETS_MAX, raw=raw), _AT_ONCE))
        reached = None
        for place in places:
            findings = self._damage_of(place, check, raw=raw)
            if findings:
                # It may have been freed just now, or another copy may count.
                findings = self.inspect(place.first, place.count, check, raw=raw)
            piece.add(place.length, *findings)
            reached = place.end
            if piece.full:
                break
        return reached

    def _records(self, segment: Segment, after: int, check: Check, piece: Gathered) -> int | None:
        with self._lock:
            places = segment.index.after(after, _AT_ONCE)
        reached = None
        for place in places:
            reason = self._trouble_of(place, check)
            with self._lock:
                counts = self._catalog.record(place.number) == place
            findings = []
            if reason and counts:
                where = place_of(place.segment, place.record)
                owner = object_id_of(place.object_key)
                findings.append(Finding(Part.RECORD, place.number, 1, owner, where, reason))
            piece.add(place.length, *findings)
            reached = place.number
            if piece.full:
                break
        return reached

    def _removals(self, segment: Segment, at: int, piece: Gathered) -> int | None:
        with self._lock:
            removals = segment.index.removals
        some: Sequence[Removal] = removals[at : at + piece.room]
        for removal in some:
            try:
                reason = "" if self._removal_is_whole(removal) else "it is damaged"
            except StorageError as error:
                reason = str(error)
            findings = []
            if reason:
                where = place_of(removal.segment, removal.record)
                findings.append(Finding(Part.REMOVAL, 0, 0, "", where, reason))
            piece.add(removal.length, *findings)
        reached = at + len(some)
        return reached if reached < len(removals) else None

    # -- one thing -------------------------------------------------------------------------

    def _damage_of(self, place: Place, check: Check, *, raw: bool) -> list[Finding]:
        """What is wrong with tickets of a run."""
        where = place_of(place.segment, place.record)
        header: Header | None = None
        trouble = ""
        try:
            header = self._reader.header(place.segment, place.record)
        except StorageError as error:
            trouble = str(error)
        if header is not None and not _describes(header, place):
            header = None
        owner = object_id_of(place.object_key) if header is None else header.object_id
        bad: list[tuple[int, int]]
        reason = "the frames do not fit their checksums"
        try:
            rows = self._reader.frames(place)
        except StorageError as error:
            bad, reason = [(0, place.count)], str(error)
        else:
            statuses = check.frames(place.key_id, place.first, place.frame_bytes, rows)
            if statuses is None and place.packed:
                # Without the key of the checksums: what the sums of stored blocks tell.
                statuses = _blank(rows, place.frame_bytes)
                reason = "the stored blocks do not fit their sums"
            bad = [] if statuses is None else list(bad_stretches(statuses))
        found = [
            Finding(Part.TICKETS, place.first + low, count, owner, where, reason, raw)
            for low, count in bad
        ]
        if header is None:
            trouble = trouble or "the header of their record is damaged"
            found += [
                Finding(Part.HEADER, place.first + low, count, owner, where, trouble, raw)
                for low, count in _others(bad, place.count)
            ]
        return found

    def _trouble_of(self, place: RecordPlace, check: Check) -> str:
        """What is wrong with a commit record; "" if nothing is."""
        try:
            numbered = self._reader.record(place)
        except StorageError as error:
            return str(error)
        if numbered is None:
            return "it is damaged"
        return "" if check.record(numbered.record.body) else "it makes no sense"

    def _removal_is_whole(self, removal: Removal) -> bool:
        header = self._reader.header(removal.segment, removal.record)
        if header is None or header.kind != (Kind.DROPPED if removal.dropped else Kind.FREED):
            return False
        at = removal.record + header.body_at
        body = self._reader.load(removal.segment, at, header.body_bytes)
        return seal_of(self._secret, body) == header.body_sum


def _bound_of(segment: Segment | None) -> int:
    """Behind the sequence numbers of what a segment has; what is added to it later is above."""
    if segment is None or not isinstance(segment.index, OpenIndex):
        return _SEALED
    return segment.index.highest_sequence + 1


def _is_behind(cursor: Sequence[int], place: Place) -> bool:
    """Whether a pass that stands there has looked at this place."""
    last, number, stage, at, bound = cursor
    if place.segment > last or (place.segment == last and place.sequence >= bound):
        return False  # it came when the pass had begun
    if place.segment != number:
        return place.segment < number
    return stage > _Stage.RUNS or (stage == _Stage.RUNS and place.end <= at)


def _blank(rows: Buffer, frame_bytes: int) -> Statuses:
    """One status a ticket, bad where zeros stand for the frames of a damaged block."""
    starts = np.frombuffer(rows, np.uint8)[:: frame_bytes + FRAME_HEADER_BYTES]
    return np.where(starts == 0, np.uint8(Status.CHECKSUM_MISMATCH), np.uint8(Status.WRITTEN))


def _describes(header: Header, place: Place) -> bool:
    """Whether a header is that of the run that a place is part of."""
    return (
        header.kind == Kind.RUN
        and header.first <= place.first
        and place.end <= header.first + header.count
    )


def _others(bad: list[tuple[int, int]], count: int) -> list[tuple[int, int]]:
    """The stretches between those that are given."""
    found, at = [], 0
    for low, size in [*bad, (count, 0)]:
        if at < low:
            found.append((at, low - at))
        at = low + size
    return found
