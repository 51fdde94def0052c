"""Where runs lie in files of a putter on this machine, as far as it was told. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from common.limits import FRAME_HEADER_BYTES
from common.wire.locations import SegmentFile, Spots

_SPOTS_MAX: Final = 65_536
"""Of one putter: runs of 64 GiB, as a rule, and some 20 MiB of memory."""


@dataclass(frozen=True, slots=True)
class Spot:
    """Frames of consecutive tickets.

    Attributes:
        first: number of the first ticket.
        count: tickets.
        file: that they lie in; None: they cannot be read in a file.
        offset: of the first frame in the file.
        length: of all of them.
        frame_bytes: data bytes of every frame but the last.
        key_id: which cluster key the checksums use.
    """

    first: int
    count: int
    file: SegmentFile | None = None
    offset: int = 0
    length: int = 0
    frame_bytes: int = 0
    key_id: str = ""

    @property
    def end(self) -> int:
        """Behind the last ticket."""
        return self.first + self.count

    def part(self, first: int, end: int) -> Spot:
        """Some of its tickets."""
        if first <= self.first and end >= self.end:
            return self
        first, end = max(first, self.first), min(end, self.end)
        stride = self.frame_bytes + FRAME_HEADER_BYTES
        low = (first - self.first) * stride
        high = self.length if end == self.end else (end - self.first) * stride
        return Spot(
            first,
            end - first,
            self.file,
            self.offset + low,
            high - low,
            self.frame_bytes,
            self.key_id,
        )


class SpotTable:
    """What is known of one putter; the oldest knowledge goes first when there is much of it.

    Args:
        most: spots that are kept.
    """

    def __init__(self, most: int = _SPOTS_MAX) -> None:
        self._most = most
        self._firsts: list[int] = []
        self._spots: dict[int, Spot] = {}

    def __len__(self) -> int:
        return len(self._spots)

    def learn(self, first: int, told: Spots) -> None:
        """Take what a putter told of tickets from ``first`` on, instead of what was known."""
        self.forget(first, told.until - first)
        for spot in _without_gaps(first, told):
            self._firsts.insert(bisect_left(self._firsts, spot.first), spot.first)
            self._spots[spot.first] = spot
        while len(self._spots) > self._most:
            self._remove(next(iter(self._spots)))

    def find(self, first: int, count: int) -> list[Spot] | None:
        """Where some tickets lie.

        Returns:
            Spots that hold just these, in order; none if some of them cannot be read in a file;
            None if nothing is known of some of them.
        """
        at, end = first, first + count
        found: list[Spot] = []
        index = bisect_right(self._firsts, first) - 1
        while at < end:
            spot = self._spots[self._firsts[index]] if 0 <= index < len(self._firsts) else None
            if spot is None or not spot.first <= at < spot.end:
                return None
            if spot.file is None:
                return []
            found.append(spot.part(at, end))
            at = spot.end
            index += 1
        return found

    def forget(self, first: int, count: int) -> None:
        """Whatever is known of spots with these tickets."""
        index = max(0, bisect_right(self._firsts, first) - 1)
        while index < len(self._firsts) and self._firsts[index] < first + count:
            spot = self._spots[self._firsts[index]]
            if spot.end > first:
                self._remove(spot.first)
            else:
                index += 1

    def _remove(self, first: int) -> None:
        del self._spots[first]
        del self._firsts[bisect_left(self._firsts, first)]


def _without_gaps(first: int, told: Spots) -> Iterable[Spot]:
    """The spots of an answer, and between them what cannot be read."""
    at = first
    for each in told.spots:
        if not at <= each.first < each.first + each.count <= told.until:
            return  # it makes no sense; what is not known is asked for in the usual way
        if not 0 <= each.file < len(told.files):
            return
        if at < each.first:
            yield Spot(at, each.first - at)
        yield Spot(
            each.first,
            each.count,
            told.files[each.file],
            each.offset,
            each.length,
            each.frame_bytes,
            each.key_id,
        )
        at = each.first + each.count
    if at < told.until:
        yield Spot(at, told.until - at)
