"""Getting the space of removed things back, a bounded piece at a time.

A segment of which much is gone is the *victim*: what is left of it is copied to the end of the log,
with its sequence numbers. Once the copies are durable, they count instead of the originals, and
when nothing is left that anybody needs, the file is used again or removed. At every moment each
ticket lies in at least one segment, and a crash leaves at worst some of them in two.

A removal (tickets freed, records dropped) must outlive whatever it removed: it is carried along as
long as another segment still has the bytes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Final

from common.errors import PutterError, StorageError
from common.tickets import TICKETS_MAX, object_id_of
from putter.storage.engine import Run, Upkeep
from putter.storage.scrub import Finding, Part
from putter.storage.segments.files import Files, place_of
from putter.storage.segments.formats import Header, encode_pairs, seal_of
from putter.storage.segments.packing import DamagedBlockError, Packer, data_key_of
from putter.storage.segments.places import Place, RecordPlace, Removal
from putter.storage.segments.reader import Reader
from putter.storage.segments.replay import Verify
from putter.storage.segments.sealed_index import SealedIndex
from putter.storage.segments.segment import Catalog, Segment
from putter.storage.segments.writer import Writer

_LIVE_MAX: Final = 0.5
"""A segment with less left of it is worth copying."""
_LIVE_MAX_PRESSED: Final = 0.875
"""The same when hardly any space is left."""
_PRESSED_SEGMENTS: Final = 4
_RECORDS_AT_ONCE: Final = 64

_log = logging.getLogger(__name__)


class _Stage(IntEnum):
    RUNS = 0
    RAW = 1
    RECORDS = 2
    REMOVALS = 3
    WAIT = 4


@dataclass
class _Victim:
    """A segment on its way out, and how far it is."""

    segment: Segment
    stage: _Stage = _Stage.RUNS
    at: int = 0


class Compactor:
    """Compacts the segments of one engine. The caller holds the engine's lock.

    Args:
        catalog: all segments.
        files: of the data directory.
        writer: of the log.
        reader: of what is there.
        packer: tells what is packed as new records are.
        verify: nothing is copied whose frames do not fit.

    Attributes:
        copied_keys: ids of the data keys in records that had to be copied as they were.
    """

    def __init__(
        self,
        catalog: Catalog,
        files: Files,
        writer: Writer,
        reader: Reader,
        packer: Packer,
        verify: Verify,
    ) -> None:
        self._catalog = catalog
        self._files = files
        self._writer = writer
        self._reader = reader
        self._packer = packer
        self._verify = verify
        self.copied_keys: Final = set[bytes]()
        self._victim: _Victim | None = None
        self._damaged: dict[int, int] = {}
        self._about: Finding | None = None

    def step(self, budget_bytes: int) -> Upkeep:
        """Copy about so many bytes; what was copied counts after the next sync."""
        victim = self._victim
        if victim is None:
            segment = self._choose()
            if segment is None:
                return Upkeep(0, 0, more=False)
            victim = self._victim = _Victim(segment)
        if victim.stage is _Stage.WAIT:
            return self._release(victim)
        try:
            copied = self._copy(victim, budget_bytes)
        except PutterError as error:
            _log.warning("segment %016x is not compacted now: %s", victim.segment.number, error)
            self._victim = None
            if isinstance(error, (_DamageError, DamagedBlockError)):
                self._give_up(victim.segment)
                if self._about is not None:
                    found = replace(self._about, reason=str(error))
                    return Upkeep(0, 0, more=False, findings=(found,))
            return Upkeep(0, 0, more=False)
        return Upkeep(copied, 0, more=True)

    # -- which -----------------------------------------------------------------------------

    def _choose(self) -> Segment | None:
        free = self._files.capacity().free_bytes
        pressed = free < _PRESSED_SEGMENTS * self._files.segment_bytes
        most = _LIVE_MAX_PRESSED if pressed else _LIVE_MAX
        best: tuple[float, Segment] | None = None
        for segment in self._catalog.segments.values():
            if segment.number == self._writer.log.number or self._is_given_up(segment):
                continue
            if not isinstance(segment.index, SealedIndex):
                continue
            live = segment.index.live_bytes / segment.size
            if live <= most and (best is None or live < best[0]):
                best = (live, segment)
        return best[1] if best is not None else None

    def _give_up(self, segment: Segment) -> None:
        """Not to be tried again before something of it was removed: perhaps what is damaged."""
        self._damaged[segment.number] = segment.index.live_bytes

    def _is_given_up(self, segment: Segment) -> bool:
        return self._damaged.get(segment.number) == segment.index.live_bytes

    # -- copying ---------------------------------------------------------------------------

    def _copy(self, victim: _Victim, budget_bytes: int) -> int:
        copied = 0
        while copied < budget_bytes and victim.stage is not _Stage.WAIT:
            match victim.stage:
                case _Stage.RUNS | _Stage.RAW:
                    some = self._copy_run(victim, raw=victim.stage is _Stage.RAW)
                case _Stage.RECORDS:
                    some = self._copy_records(victim)
                case _:
                    some = self._copy_removals(victim)
            if some is None:
                victim.stage = _Stage(victim.stage + 1)
                victim.at = 0
            else:
                copied += some
        return copied

    def _copy_run(self, victim: _Victim, *, raw: bool) -> int | None:
        """The next run; its bytes, or None if there is none."""
        index = victim.segment.index
        place = next(index.runs(victim.at, TICKETS_MAX, raw=raw), None)
        if place is None:
            return None
        victim.at = place.end
        parts = self._catalog.places(place.first, place.end, raw=raw, limit=place.count)
        if any(part.segment != place.segment for part in parts):
            return self._copy_rest(victim, place, parts, raw=raw)
        self._copy_place(place, raw=raw)
        self._writer.after_sync(lambda: self._forget(victim.segment, place, raw=raw))
        return place.length

    def _copy_rest(self, victim: _Victim, place: Place, parts: list[Place], *, raw: bool) -> int:
        """A run of which something was copied before a crash."""
        mine = [part for part in parts if part.segment == place.segment]
        for part in mine:
            self._copy_place(part, raw=raw)
        self._writer.after_sync(lambda: self._forget(victim.segment, place, raw=raw))
        return sum(part.length for part in mine)

    def _copy_place(self, place: Place, *, raw: bool) -> None:
        where = place_of(place.segment, place.record)
        self._about = Finding(Part.TICKETS, place.first, place.count, "", where, "", raw)
        header = self._header_at(place.segment, place.record)
        if header is None:
            raise _DamageError(f"the run at byte {place.record} is damaged")
        if place.packed and place.count == header.count and self._copy_packed(place, header):
            return
        body = self._reader.frames(place, strict=True)
        if self._verify(place.key_id, place.first, place.frame_bytes, body) is False:
            raise _DamageError(
                f"tickets {place.first} + {place.count} are damaged at byte {place.record}"
            )
        run = Run(place.first, memoryview(body), place.frame_bytes, header.object_id, header.key_id)
        statuses = self._writer.append_run(
            run, place.count, raw=raw, sequence=place.sequence, spare=True
        )
        if statuses.any():
            raise StorageError("there is no room for the copies")

    def _copy_packed(self, place: Place, header: Header) -> bool:
        """A packed run of which nothing is gone, as it is; False if it has to be packed anew."""
        _, layout = self._reader.layout(place)
        if not self._packer.is_current(layout):
            return False
        body = self._reader.load(place.segment, place.record + header.body_at, header.body_bytes)
        if not self._reader.unpacker.is_whole(header, body):
            raise _DamageError(f"the run at byte {place.record} is damaged")
        return self._writer.append_packed(header, body, place.sequence)

    def _copy_records(self, victim: _Victim) -> int | None:
        places = victim.segment.index.after(victim.at, _RECORDS_AT_ONCE)
        if not places:
            return None
        copied = 0
        for place in places:
            victim.at = place.number
            where, owner = place_of(place.segment, place.record), object_id_of(place.object_key)
            self._about = Finding(Part.RECORD, place.number, 1, owner, where, "")
            newest = self._catalog.record(place.number)
            if newest is not None and newest.segment > place.segment:
                victim.segment.index.drop(place.number)
                continue
            header = self._header_at(place.segment, place.record)
            body = b""
            if header is not None:
                at = place.record + header.body_at
                body = self._reader.load(place.segment, at, header.body_bytes)
            if header is None or seal_of(self._writer.secret, body) != header.body_sum:
                raise _DamageError(f"commit record {place.number} is damaged")
            self._writer.append_copy(*self._current(header, body))
            self._writer.after_sync(self._dropper(victim.segment, place))
            copied += place.length
        return copied

    def _current(self, header: Header, body: bytes) -> tuple[Header, bytes]:
        """A commit record as it would be written now; as it is if it cannot be read."""
        unpacker = self._reader.unpacker
        try:
            layout = unpacker.layout(header, body) if header.packed else None
            if self._packer.is_current(layout):
                return header, body
            plain = unpacker.body(header, body)
        except DamagedBlockError as error:
            _log.warning("commit record %d is copied as it is: %s", header.number, error)
            self.copied_keys.add(data_key_of(body))
            return header, body
        bare = replace(
            header,
            packed=False,
            body_bytes=len(plain),
            body_sum=seal_of(self._writer.secret, plain),
        )
        return self._packer.record(bare, plain)

    def _copy_removals(self, victim: _Victim) -> int | None:
        removals = list(self._needed(victim.segment))
        for removal in removals:
            where = place_of(removal.segment, removal.record)
            self._about = Finding(Part.REMOVAL, 0, 0, "", where, "")
            header = self._header_at(removal.segment, removal.record)
            if header is None:
                raise _DamageError(f"the removal at byte {removal.record} is damaged")
            self._writer.append_copy(header, encode_pairs(removal.ranges), removal=removal)
        return None

    def _needed(self, segment: Segment) -> Iterator[Removal]:
        # What is in the segment that is written to just now is younger than any removal here.
        others = [
            each
            for number, each in self._catalog.segments.items()
            if each is not segment and number != self._writer.log.number
        ]
        for removal in segment.index.removals:
            if any(other.index.has_written(removal) for other in others):
                yield removal

    # -- letting go ------------------------------------------------------------------------

    def _release(self, victim: _Victim) -> Upkeep:
        segment = victim.segment
        if not self._writer.is_synced:
            return Upkeep(0, 0, more=True)
        if segment.index.live_bytes > 0:
            _log.info("segment %016x is looked through again", segment.number)
            self._victim = None
            return Upkeep(0, 0, more=False)
        before = self._catalog.segments.get(segment.number - 1)
        if segment.pins or (before is not None and not isinstance(before.index, SealedIndex)):
            return Upkeep(0, 0, more=False)  # somebody reads it; or its head is still needed
        self._victim = None
        try:
            self._files.retire(segment.number)
        except PutterError as error:
            # It stays known: as long as the file may be there, what was removed from it is needed.
            self._give_up(segment)
            _log.warning("segment %016x is not freed: %s", segment.number, error)
            return Upkeep(0, 0, more=False)
        self._catalog.remove(segment)
        _log.info("segment %016x is free again: %d bytes", segment.number, segment.size)
        return Upkeep(0, segment.size, more=True)

    def _forget(self, segment: Segment, place: Place, *, raw: bool) -> None:
        segment.index.free(place.first, place.end, raw=raw, before=place.sequence + 1)

    def _dropper(self, segment: Segment, place: RecordPlace) -> _Dropper:
        return _Dropper(segment, place.number)

    def _header_at(self, number: int, at: int) -> Header | None:
        return self._reader.header(number, at)


@dataclass(frozen=True)
class _Dropper:
    """Forgets the original of a copied record."""

    segment: Segment
    number: int

    def __call__(self) -> None:
        self.segment.index.drop(self.number)


class _DamageError(StorageError):
    """What should be copied is not what was written."""
