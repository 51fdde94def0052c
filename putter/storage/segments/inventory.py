"""What all segments hold, from their indexes, and digests of it.

The digests of a sealed segment are kept until something of it is removed, for the last grid that
was asked for: 32 bytes for each of its leaves. Records are asked for by slices of objects, so that
at most half a million or so are in memory at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final

from common.digests import Entries, Grid, Leaves, Space, digest, newest
from putter.storage.segments.open_index import OpenIndex
from putter.storage.segments.sealed_index import SealedIndex
from putter.storage.segments.segment import Catalog, Segment

_SLICE: Final = 500_000
_SLICES_MAX: Final = 4096


@dataclass(frozen=True)
class _Kept:
    """Digests of a sealed segment, and what they are of."""

    index: SealedIndex
    live_bytes: int
    grid: Grid
    leaves: Leaves


class Inventory:
    """What an engine holds. Any thread may ask.

    Args:
        catalog: all segments.
        lock: of the engine.
    """

    def __init__(self, catalog: Catalog, lock: AbstractContextManager[object]) -> None:
        self._catalog = catalog
        self._lock = lock
        self._kept: dict[int, _Kept] = {}

    @property
    def record_count(self) -> int:
        """How many commit records there are."""
        with self._lock:
            return sum(each.index.record_count for each in self._catalog.segments.values())

    def entries(self, space: Space, first: int, end: int) -> Entries:
        """What there is at the positions ``first … end - 1``, in order."""
        if space is Space.TICKETS:
            with self._lock:
                segments = list(self._catalog.holding(first, end, raw=False))
                found = Entries.joined([each.index.run_entries(first, end) for each in segments])
            return found.within(first, end).in_order()
        with self._lock:
            indexes = [each.index for each in self._catalog.segments.values()]
            if space is Space.OBJECTS:
                parts = [index.object_entries(first, end) for index in indexes]
            else:
                parts = [index.bare_entries(first, end) for index in indexes]
        return newest(Entries.joined(parts))

    def digests(self, grid: Grid, low: int, high: int) -> Leaves:
        """Digests of the leaves ``low … high - 1``."""
        first, end = low * grid.width, high * grid.width
        if grid.space is Space.TICKETS:
            with self._lock:
                segments = list(self._catalog.holding(first, end, raw=False))
            self._kept = {n: kept for n, kept in self._kept.items() if n in self._catalog.segments}
            return Leaves.added([self._of(each, grid, low, high) for each in segments])
        slices = self._slices(low, high)
        return Leaves.added(
            [
                digest(self.entries(grid.space, a * grid.width, b * grid.width), grid)
                for a, b in slices
            ]
        )

    # -- inside ----------------------------------------------------------------------------

    def _of(self, segment: Segment, grid: Grid, low: int, high: int) -> Leaves:
        index = segment.index
        if isinstance(index, OpenIndex):
            first, end = low * grid.width, high * grid.width
            with self._lock:
                entries = index.run_entries(first, end)
            return digest(entries.within(first, end), grid)
        with self._lock:
            kept = self._kept.get(segment.number)
            is_same = kept is not None and (kept.index, kept.live_bytes, kept.grid) == (
                index,
                index.live_bytes,
                grid,
            )
            if kept is None or not is_same:
                lowest, highest = index.bounds("run")
                live_bytes, entries = index.live_bytes, index.run_entries(lowest, highest + 1)
        if kept is None or not is_same:
            kept = _Kept(index, live_bytes, grid, digest(entries, grid))
            self._kept[segment.number] = kept
        return kept.leaves.between(low, high)

    def _slices(self, low: int, high: int) -> Iterator[tuple[int, int]]:
        """The leaves in portions that have not too many records."""
        parts = min(_SLICES_MAX, 1 + self.record_count // _SLICE)
        step = max(1, -(-(high - low) // parts))
        for at in range(low, high, step):
            yield at, min(high, at + step)
