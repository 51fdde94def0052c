"""What putters should hold by what is described, and how that compares with what they say. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final

import numpy as np

from common.digests import Entries, Grid, Leaves, Space, digest, stretches_of
from common.records import Extent, Version, kept_under
from common.tickets import object_key

Row = tuple[int, int, int, int, int]
SPACES: Final = (Space.TICKETS, Space.OBJECTS)
_PARTS_MAX: Final = 64
_NUMBERED: Final = 1 << 62
"""Keys of objects with a number are below; what has none is not compared by object."""


def tickets_of(version: Version) -> Iterator[tuple[str, Extent, Row]]:
    """The extents of a version with their ObjectID, and as rows of `common.digests.Entries.of`."""
    for stored in version.objects:
        key = object_key(stored.object_id)
        for extent in stored.extents:
            yield (
                stored.object_id,
                extent,
                (extent.first, extent.count, extent.size, stored.frame_bytes, key),
            )


def record_of(version: Version) -> tuple[int, int]:
    """The position and key of the record of a version with objects."""
    return object_key(version.objects[0].object_id), kept_under(version)


def named(version: Version) -> set[str]:
    """The putters that a version is on."""
    return {n for stored in version.objects for extent in stored.extents for n in extent.nodes}


class Expected:
    """Digests of what putters should hold, made as one goes through all versions.

    Args:
        nodes: the putters.
        grids: of the leaves, by space.
    """

    def __init__(self, nodes: Collection[str], grids: Mapping[Space, Grid]) -> None:
        self._nodes = frozenset(nodes)
        self._grids = grids
        self._parts: dict[tuple[str, Space], list[Leaves]] = {}

    def add(self, versions: Iterable[Version]) -> None:
        """Take in versions that names hold."""
        rows: dict[tuple[str, Space], list[Row]] = {}
        for version in versions:
            for _, extent, row in tickets_of(version):
                for node in extent.nodes:
                    if node in self._nodes:
                        rows.setdefault((node, Space.TICKETS), []).append(row)
            if version.objects:
                position, stamp = record_of(version)
                for node in named(version) & self._nodes if position < _NUMBERED else ():
                    rows.setdefault((node, Space.OBJECTS), []).append((position, 1, 0, 0, stamp))
        for place, some in rows.items():
            parts = self._parts.setdefault(place, [])
            parts.append(digest(Entries.of(some), self._grids[place[1]]))
            if len(parts) >= _PARTS_MAX:
                parts[:] = [Leaves.added(parts)]

    def leaves(self, node: str, space: Space) -> Leaves:
        """Of one putter so far."""
        return Leaves.added(self._parts.get((node, space), []))


class Held:
    """What a putter says it holds in some leaves.

    Args:
        grid: of the leaves.
        leaves: ascending.
        entries: all that it holds there, in order.
    """

    def __init__(self, grid: Grid, leaves: Sequence[int], entries: Entries) -> None:
        width = grid.width
        self._ranges = [(low * width, high * width) for low, high in stretches_of(leaves)]
        self._range_firsts = [first for first, _ in self._ranges]
        self._entries = entries
        self._firsts: list[int] = entries.first.tolist()
        self._ends: list[int] = entries.end.tolist()
        self._keys: list[int] = entries.key.tolist()
        self._matched = np.zeros(len(entries), np.int64)

    def lacks(self, first: int, count: int, key: int) -> bool:
        """Whether some of these positions are in the leaves, and not held under this key.

        What is held of them counts as wanted from then on.
        """
        lacking = False
        for low, high in self._ranges_within(first, first + count):
            at = low
            row = max(0, bisect_right(self._firsts, low) - 1)
            while row < len(self._firsts) and self._firsts[row] < high:
                start, stop = max(low, self._firsts[row]), min(high, self._ends[row])
                if start < stop and self._keys[row] == key:
                    self._matched[row] += stop - start
                    lacking |= start > at
                    at = stop
                row += 1
            lacking |= at < high
        return lacking

    def lacks_record(self, position: int, stamp: int) -> bool:
        """Whether the position is in the leaves, and held with a lower key or not at all."""
        if not any(True for _ in self._ranges_within(position, position + 1)):
            return False
        row = bisect_right(self._firsts, position) - 1
        held = row >= 0 and self._firsts[row] == position
        return not held or self._keys[row] < stamp

    def unwanted(self) -> set[int]:
        """Keys of what is held and that nobody asked for with `lacks`."""
        return set(self._entries.key[self._matched < self._entries.count].tolist())

    def _ranges_within(self, first: int, end: int) -> Iterator[tuple[int, int]]:
        at = max(0, bisect_right(self._range_firsts, first) - 1)
        while at < len(self._ranges) and self._ranges[at][0] < end:
            low, high = max(first, self._ranges[at][0]), min(end, self._ranges[at][1])
            if low < high:
                yield low, high
            at += 1
