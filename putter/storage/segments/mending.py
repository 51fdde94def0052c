"""Makes again what a running node has twice: indexes, the state, data-key files.

An index is made from the records of its segment, as at a start: a new file takes the place of the
damaged one in one step. What the removals of all segments took away, and what compaction had
copied, is forgotten again before the new index counts; until then the old one serves.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Final

from common.errors import StorageError
from putter.storage.block_file import BLOCK_BYTES
from putter.storage.envelope import KeyFiles
from putter.storage.scrub import Finding, Part
from putter.storage.segments.copies import forget_copied
from putter.storage.segments.files import Files, index_number
from putter.storage.segments.formats import decode_head
from putter.storage.segments.index_file import BOUNDS
from putter.storage.segments.open_index import OpenIndex
from putter.storage.segments.places import Removal
from putter.storage.segments.reader import Reader
from putter.storage.segments.replay import Replayed, Verify, replay
from putter.storage.segments.sealed_index import SealedIndex
from putter.storage.segments.segment import Catalog, Segment
from putter.storage.segments.writer import Writer

_log = logging.getLogger(__name__)


class Mender:
    """Mends for one engine. Only the thread that writes calls it, but for `prepare`.

    Args:
        catalog: all segments.
        files: of the data directory.
        reader: of the same engine.
        writer: of the log.
        verify: checks the frames of runs.
        lock: of the engine; is taken only for the moment in which something new counts.
        key_files: with the data keys; None if there are none.
    """

    def __init__(
        self,
        catalog: Catalog,
        files: Files,
        reader: Reader,
        writer: Writer,
        verify: Verify,
        lock: AbstractContextManager[object],
        key_files: KeyFiles | None,
    ) -> None:
        self._catalog: Final = catalog
        self._files: Final = files
        self._reader: Final = reader
        self._writer: Final = writer
        self._secret: Final = writer.secret
        self._verify: Final = verify
        self._lock: Final = lock
        self._key_files: Final = key_files
        self._prepared: dict[int, Replayed] = {}

    def prepare(self, segment: Segment) -> None:
        """Read a segment whose index is to be made again: the thread that writes need not.

        Args:
            segment: sealed, and pinned by the caller.
        """
        try:
            self._prepared[segment.number] = self._replayed(segment)
        except StorageError as error:
            _log.warning("segment %016x cannot be read now: %s", segment.number, error)

    def mend(self, finding: Finding) -> bool:
        """See `putter.storage.engine.Engine.mend`."""
        match finding.part:
            case Part.INDEX:
                return self._index(finding.place)
            case Part.STATE:
                self._writer.save_ceilings(self._writer.ceilings)
                return True
            case Part.KEYS if self._key_files is not None:
                self._key_files.restore(finding.place)
                return True
            case _:
                return False

    # -- an index --------------------------------------------------------------------------

    def _index(self, place: str) -> bool:
        """Make the index of a segment again; the segment may be gone by now."""
        number = index_number(place)
        prepared = self._prepared.pop(number, None)
        with self._reader.pinned(number) as there:
            segment = self._catalog.segments.get(number)
            if not there or segment is None or not isinstance(segment.index, SealedIndex):
                return True
            done = prepared if prepared is not None else self._replayed(segment)
            for text in done.lost:
                _log.error("%s", text)
            index = self._files.save_index(done.index, number, segment.end, self._secret)
        for removal in self._removals(number, index):
            for first, count in removal.ranges:
                if removal.dropped:
                    for record in range(first, first + count):
                        index.drop(record, before=removal.sequence)
                else:
                    index.free(first, first + count, raw=removal.raw, before=removal.sequence)
        forget_copied(Segment(number, index, segment.end, segment.size), self._later(segment))
        with self._lock:
            segment.index = index
            self._catalog.changed()
        return True

    def _replayed(self, segment: Segment) -> Replayed:
        file = self._files.file(segment.number)
        head = decode_head(file.read(0, BLOCK_BYTES))
        if head is not None and (head.number, head.secret) != (segment.number, self._secret):
            head = None
        end = segment.end
        return replay(file, segment.number, head, self._secret, self._verify, synced=end, end=end)

    def _removals(self, number: int, index: SealedIndex) -> Iterator[Removal]:
        """All that any segment says is gone; what an index that is damaged, too, says is not."""
        yield from index.removals
        yield from self._writer.owed
        for other in list(self._catalog.segments.values()):
            if other.number == number or not other.has_removals:
                continue
            if isinstance(other.index, OpenIndex) or other.index.is_whole():
                yield from other.index.removals
            else:
                with self._reader.pinned(other.number):
                    yield from self._replayed(other).index.removals

    def _later(self, segment: Segment) -> list[Segment]:
        """Segments that may hold copies, all of them durable."""
        return [
            other
            for other in self._catalog.segments.values()
            if other.number > segment.number
            and (other.number != self._writer.log.number or self._writer.is_synced)
            and any(_overlap(segment.bounds(name), other.bounds(name)) for name in BOUNDS[:3])
        ]


def _overlap(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return max(one[0], other[0]) <= min(one[1], other[1])
