"""What is known to be damaged on a node: marks, found by ticket, and as one list for a note.

A mark is made when something was found damaged, and goes when that was freed, written anew, or
not found again by a whole pass. The number of the last pass that saw it stands in it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from threading import Lock
from typing import Final

import msgspec

from putter.storage.run_table import RunTable
from putter.storage.scrub import Finding, Part

MARKS_MAX: Final = 100_000
"""More is not marked, only told: the disk is to be replaced."""
_FORMAT: Final = 1

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Mark:
    """A finding, and the pass that saw it last.

    Attributes:
        finding: what is damaged.
        seen: number of the pass.
    """

    finding: Finding
    seen: int

    @property
    def first(self) -> int:
        """Number of the first ticket."""
        return self.finding.first

    @property
    def end(self) -> int:
        """Behind the last ticket."""
        return self.finding.end

    def part(self, first: int, end: int) -> Mark:
        """The mark for some of its tickets."""
        return replace(self, finding=replace(self.finding, first=first, count=end - first))


class _Row(msgspec.Struct, array_like=True, frozen=True):
    """One mark in the note."""

    part: Part
    first: int
    count: int
    object_id: str
    place: str
    reason: str
    raw: bool
    seen: int


class _Note(msgspec.Struct, frozen=True):
    """The note ``damage``."""

    format: int
    marks: list[_Row]


class Damage:
    """All marks of a node. Any thread may call everything.

    Args:
        note: as `encode` gave it; None for no marks.
        on_change: called with how many tickets, and how many other things, are marked now.
    """

    def __init__(
        self, note: bytes | None = None, on_change: Callable[[int, int], None] | None = None
    ) -> None:
        self._lock = Lock()
        self._tickets: dict[bool, RunTable[Mark]] = {False: RunTable(), True: RunTable()}
        self._others: dict[tuple[Part, int, str], Mark] = {}
        self._counts = [0, 0]
        self._full = False
        self._on_change = on_change
        self.dirty = False
        for row in _rows(note):
            finding = Finding(
                row.part, row.first, row.count, row.object_id, row.place, row.reason, row.raw
            )
            self.add(finding, row.seen)
        self.dirty = False

    def __len__(self) -> int:
        with self._lock:
            return self._size()

    def __iter__(self) -> Iterator[Mark]:
        """All marks: those of tickets in order, then the others."""
        with self._lock:
            return iter([*self._tickets[False], *self._tickets[True], *self._others.values()])

    @property
    def tickets(self) -> int:
        """Tickets that are marked."""
        return self._counts[0]

    @property
    def others(self) -> int:
        """Other things that are marked: commit records, removals, indexes."""
        return self._counts[1]

    def within(self, first: int, end: int, *, raw: bool) -> list[Mark]:
        """The marks of tickets ``first … end - 1``, in order, cut to them."""
        if not self._counts[0]:
            return []
        with self._lock:
            found = list(self._tickets[raw].within(first, end))
        return [mark.part(max(first, mark.first), min(end, mark.end)) for mark in found]

    def add(self, finding: Finding, seen: int) -> bool:
        """Mark something, in place of older marks of the same; True if it was not marked before."""
        with self._lock:
            known = 0
            if finding.of_tickets:
                known = self._cut(finding.first, finding.end, raw=finding.raw)
            if self._size() >= MARKS_MAX:
                if not self._full:
                    _log.error("more than %d damages: no further ones are marked", MARKS_MAX)
                self._full = True
                return False
            mark = Mark(finding, seen)
            if finding.of_tickets:
                self._tickets[finding.raw].add(mark)
                self._counts[0] += finding.count
                new = known < finding.count
            else:
                new = _key(finding) not in self._others
                self._others[_key(finding)] = mark
            self._changed()
            return new

    def clear(self, first: int, end: int, *, raw: bool) -> None:
        """Take the marks of some tickets away."""
        if not self._counts[0]:
            return
        with self._lock:
            if self._cut(first, end, raw=raw):
                self._changed()

    def clear_records(self, object_ids: frozenset[str]) -> None:
        """Take the marks of the commit records of these objects away."""
        with self._lock:
            gone = [
                key
                for key, mark in self._others.items()
                if key[0] is Part.RECORD and mark.finding.object_id in object_ids
            ]
            for key in gone:
                del self._others[key]
            if gone:
                self._changed()

    def sweep(self, before: int) -> None:
        """Take away what no pass from that number on has seen."""
        with self._lock:
            stale = [mark for table in self._tickets.values() for mark in table]
            stale = [mark for mark in stale if mark.seen < before]
            for mark in stale:
                self._tickets[mark.finding.raw].remove(mark)
                self._counts[0] -= mark.finding.count
            others = {key: mark for key, mark in self._others.items() if mark.seen >= before}
            if stale or len(others) < len(self._others):
                self._others = others
                self._changed()

    def encode(self) -> bytes:
        """The note."""
        rows = [
            _Row(
                mark.finding.part,
                mark.finding.first,
                mark.finding.count,
                mark.finding.object_id,
                mark.finding.place,
                mark.finding.reason,
                mark.finding.raw,
                mark.seen,
            )
            for mark in self
        ]
        return msgspec.json.encode(_Note(_FORMAT, rows))

    def _size(self) -> int:
        return len(self._tickets[False]) + len(self._tickets[True]) + len(self._others)

    def _cut(self, first: int, end: int, *, raw: bool) -> int:
        """Forget the marks of some tickets; how many were marked."""
        table = self._tickets[raw]
        before = self._counts[0]
        for mark in list(table.within(first, end)):
            table.remove(mark)
            self._counts[0] -= mark.finding.count
            for low, high in ((mark.first, min(first, mark.end)), (max(end, mark.first), mark.end)):
                if low < high:
                    table.add(mark.part(low, high))
                    self._counts[0] += high - low
        return before - self._counts[0]

    def _changed(self) -> None:
        self._counts[1] = len(self._others)
        self.dirty = True
        if self._on_change is not None:
            self._on_change(*self._counts)


def _key(finding: Finding) -> tuple[Part, int, str]:
    """What tells one damage that is not of tickets from another: a record is one, wherever."""
    return finding.part, finding.first, "" if finding.part is Part.RECORD else finding.place


def _rows(note: bytes | None) -> list[_Row]:
    if note is None:
        return []
    try:
        found = msgspec.json.decode(note, type=_Note)
    except msgspec.MsgspecError as error:
        _log.warning("the list of damages cannot be read and counts as lost: %s", error)
        return []
    if found.format != _FORMAT:
        _log.warning("the list of damages has format %d and counts as lost", found.format)
        return []
    return found.marks
