"""Which commit record has which number: the part of it that every engine keeps in memory.

About 300 bytes a record; the bodies stay where the engine keeps them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from common.digests import Entries, Space, newest
from common.tickets import object_key

_DEAD_MAX = 64
"""Dropped numbers that may stand in the list besides as many as there are live ones."""


class _Entry(NamedTuple):
    stamp: int
    object_id: str


class RecordIndex:
    """Numbers of commit records by stamp, by object, and in order."""

    def __init__(self) -> None:
        self._entries: dict[int, _Entry] = {}
        self._order: list[int] = []
        self._by_stamp: dict[int, int] = {}
        self._by_object: dict[str, list[int]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, number: int) -> bool:
        return number in self._entries

    def add(self, number: int, stamp: int, object_id: str) -> None:
        """Take in a record; numbers come in ascending order."""
        assert not self._order or number > self._order[-1]
        self._entries[number] = _Entry(stamp, object_id)
        self._order.append(number)
        self._by_stamp[stamp] = number
        if object_id:
            self._by_object.setdefault(object_id, []).append(number)

    def remove(self, number: int) -> None:
        """Forget a record that is there."""
        stamp, object_id = self._entries.pop(number)
        if self._by_stamp[stamp] == number:
            del self._by_stamp[stamp]
        if object_id:
            numbers = self._by_object[object_id]
            numbers.remove(number)
            if not numbers:
                del self._by_object[object_id]
        if len(self._order) > 2 * len(self._entries) + _DEAD_MAX:
            self._order = sorted(self._entries)

    def with_stamp(self, stamp: int) -> int | None:
        """The number of the record with this stamp."""
        return self._by_stamp.get(stamp)

    def of_object(self, object_id: str) -> Sequence[int]:
        """The numbers of the records that commit this object, ascending; "" commits nothing."""
        return tuple(self._by_object.get(object_id, ()))

    def entries(self, space: Space, first: int, end: int) -> Entries:
        """The newest record of each object, or the records without one; any thread may ask.

        Args:
            space: ``objects`` or ``records``.
            first: lowest position.
            end: behind the highest.
        """
        everything = list(self._entries.items())  # in one piece: others change it meanwhile
        if space is Space.RECORDS:
            found = [(e.stamp, number) for number, e in everything if not e.object_id]
        else:
            found = [(object_key(e.object_id), e.stamp) for _, e in everything if e.object_id]
        some = sorted(pair for pair in found if first <= pair[0] < end)
        return newest(Entries.of_keys([at for at, _ in some], [key for _, key in some]))

    def after(self, number: int) -> Iterator[int]:
        """The numbers above this one, ascending; the index must not change meanwhile."""
        for at in range(bisect_right(self._order, number), len(self._order)):
            if self._order[at] in self._entries:
                yield self._order[at]
