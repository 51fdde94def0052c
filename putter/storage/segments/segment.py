"""One segment file and its index, and the lookups across all of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt

from putter.storage.segments.open_index import OpenIndex
from putter.storage.segments.places import Place, RecordPlace, Removal
from putter.storage.segments.sealed_index import SealedIndex

Index = OpenIndex | SealedIndex
_Bounds = tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64], list["Segment"]]


@dataclass(eq=False)
class Segment:
    """A file and what is in it.

    Attributes:
        number: of the segment.
        index: what is in it.
        end: behind its last record, once it is sealed.
        size: of the file.
        pins: readers that look into the file just now.
    """

    number: int
    index: Index
    end: int
    size: int
    pins: int = 0

    @property
    def has_removals(self) -> bool:
        """Whether it says that anything is freed or dropped."""
        index = self.index
        return index.has_removals if isinstance(index, SealedIndex) else bool(index.removals)

    def bounds(self, name: str) -> tuple[int, int]:
        """Lowest and highest of what is looked for; lowest > highest if there is nothing."""
        index = self.index
        return index.bounds(name) if isinstance(index, SealedIndex) else (0, (1 << 64) - 1)


class Catalog:
    """All segments of a node. The caller holds the engine's lock."""

    def __init__(self) -> None:
        self.segments: dict[int, Segment] = {}
        self._bounds: dict[str, _Bounds] = {}

    def add(self, segment: Segment) -> None:
        """Take in a segment; numbers come in ascending order."""
        self.segments[segment.number] = segment
        self._bounds.clear()

    def remove(self, segment: Segment) -> None:
        """Forget one."""
        del self.segments[segment.number]
        self._bounds.clear()

    def changed(self) -> None:
        """The index of a segment was replaced."""
        self._bounds.clear()

    # -- runs ------------------------------------------------------------------------------

    def holding(self, first: int, end: int, *, raw: bool) -> Iterator[Segment]:
        """Segments that may hold some of the tickets."""
        return self._overlapping("raw" if raw else "run", first, end - 1)

    def places(self, first: int, end: int, *, raw: bool, limit: int) -> list[Place]:
        """The next runs or parts of runs with some of the tickets, in order; at most so many.

        Where a ticket lies in two segments (a compaction was interrupted), the copy counts.
        """
        found: list[Place] = []
        cut = end
        for segment in self.holding(first, end, raw=raw):
            some = list(islice(segment.index.runs(first, end, raw=raw), limit))
            if len(some) == limit:
                cut = min(cut, some[-1].end)  # what is behind is not known of this segment
            found += some
        found.sort(key=lambda place: (place.first, -place.segment))
        parts: list[Place] = []
        at = first
        for place in found:
            if place.first >= cut or at >= end or len(parts) == limit:
                break
            if place.end > at:
                part = place.part(at, end)
                parts.append(part)
                at = part.end
        return parts

    def highest_ticket(self, *, raw: bool) -> int:
        """Behind the highest ticket; 0 if there is none."""
        segments = self.segments.values()
        return max((each.index.highest_ticket(raw=raw) for each in segments), default=0)

    # -- commit records --------------------------------------------------------------------

    def with_stamp(self, stamp: int) -> int | None:
        """The number of the record with this stamp."""
        for segment in self._overlapping("stamp", stamp, stamp):
            number = segment.index.with_stamp(stamp)
            if number is not None:
                return number
        return None

    def of_object(self, key: int) -> list[int]:
        """The numbers of the records that commit this object, ascending."""
        found: set[int] = set()
        for segment in self._overlapping("object", key, key):
            found.update(segment.index.of_object(key))
        return sorted(found)

    def record(self, number: int) -> RecordPlace | None:
        """Where a record is: the newest copy."""
        found = None
        for segment in self._overlapping("number", number, number):
            found = segment.index.record(number) or found
        return found

    def after(self, number: int, limit: int) -> list[RecordPlace]:
        """At most so many records with higher numbers, in order."""
        found: dict[int, RecordPlace] = {}
        for segment in self._overlapping("number", number + 1, (1 << 64) - 1):
            for place in segment.index.after(number, limit):
                found[place.number] = place
        return [found[each] for each in sorted(found)[:limit]]

    def drop(self, number: int) -> bool:
        """Forget a record in all its copies; False if there is none."""
        dropped = [
            segment.index.drop(number) for segment in self._overlapping("number", number, number)
        ]
        return any(dropped)

    # -- removals --------------------------------------------------------------------------

    def apply(self, removal: Removal) -> None:
        """Forget what a removal is about, wherever it lies, if it is older."""
        for first, count in removal.ranges:
            end = first + count
            if not removal.dropped:
                for segment in self.holding(first, end, raw=removal.raw):
                    segment.index.free(first, end, raw=removal.raw, before=removal.sequence)
                continue
            for number in range(first, end):
                for segment in self._overlapping("number", number, number):
                    segment.index.drop(number, before=removal.sequence)

    # -- inside ----------------------------------------------------------------------------

    def _overlapping(self, name: str, low: int, high: int) -> Iterator[Segment]:
        bounds = self._bounds.get(name)
        if bounds is None:
            segments = list(self.segments.values())
            pairs = [segment.bounds(name) for segment in segments]
            lows = np.array([pair[0] for pair in pairs], np.uint64)
            highs = np.array([pair[1] for pair in pairs], np.uint64)
            bounds = self._bounds[name] = (lows, highs, segments)
        lows, highs, segments = bounds
        rows = np.flatnonzero((lows <= np.uint64(high)) & (highs >= np.uint64(low)))
        return (segments[row] for row in rows.tolist())
