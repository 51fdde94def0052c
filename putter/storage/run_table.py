"""Stretches of tickets in memory, found by ticket.

A table of *drawers* of 1024 consecutive tickets each: a drawer lists, in order, the stretches that
hold some of its tickets. A million stretches of one ticket cost as much each as one, and a range
touches only its drawers. Stretches never overlap.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import Final, Generic, Protocol, TypeVar

_DRAWER_BITS: Final = 10
_FIRST: Final = attrgetter("first")


class Stretch(Protocol):
    """Consecutive tickets."""

    @property
    def first(self) -> int:
        """Number of the first ticket."""
        ...

    @property
    def end(self) -> int:
        """Behind the last."""
        ...


S = TypeVar("S", bound=Stretch)


class RunTable(Generic[S]):
    """Stretches of one namespace of tickets."""

    def __init__(self) -> None:
        self._drawers: dict[int, list[S]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[S]:
        """All of them, in order."""
        for drawer in sorted(self._drawers):
            for stretch in self._drawers[drawer]:
                if stretch.first >> _DRAWER_BITS == drawer:
                    yield stretch

    def add(self, stretch: S) -> None:
        """Take one in; none of its tickets is there."""
        for drawer in _drawers(stretch):
            held = self._drawers.setdefault(drawer, [])
            if held and held[-1].first > stretch.first:
                insort(held, stretch, key=_FIRST)
            else:
                held.append(stretch)
        self._count += 1

    def remove(self, stretch: S) -> None:
        """Take one out that is there."""
        for drawer in _drawers(stretch):
            held = self._drawers[drawer]
            del held[bisect_left(held, stretch.first, key=_FIRST)]
            if not held:
                del self._drawers[drawer]
        self._count -= 1

    def next(self, first: int, end: int) -> S | None:
        """The one that holds the lowest ticket of ``first … end - 1``."""
        return next(self.within(first, end), None)

    def within(self, first: int, end: int) -> Iterator[S]:
        """Those that hold some of the tickets ``first … end - 1``, in order."""
        seen = first
        for drawer in self._between(first, end):
            held = self._drawers[drawer]
            at = max(0, bisect_left(held, seen, key=_FIRST) - 1)
            while at < len(held) and held[at].first < end:
                if held[at].end > seen:
                    yield held[at]
                    seen = held[at].end
                at += 1

    def _between(self, first: int, end: int) -> Sequence[int]:
        low, high = first >> _DRAWER_BITS, (max(first, end - 1) >> _DRAWER_BITS) + 1
        if high - low <= len(self._drawers):
            return [drawer for drawer in range(low, high) if drawer in self._drawers]
        return sorted(drawer for drawer in self._drawers if low <= drawer < high)


def _drawers(stretch: Stretch) -> range:
    return range(stretch.first >> _DRAWER_BITS, (stretch.end - 1 >> _DRAWER_BITS) + 1)
