"""What is in a segment that is still written to, in memory."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterator

import numpy as np
import numpy.typing as npt

from common.digests import Entries
from putter.storage.run_table import RunTable
from putter.storage.segments.places import Place, RecordPlace, Removal, row_of


class OpenIndex:
    """The index of a segment that grows.

    Attributes:
        live_bytes: of the segment, what is neither freed nor dropped.
        removals: what the segment says of freed tickets and dropped records, in order.
        highest_sequence: of all that was ever added; -1 if nothing was.
        highest_number: of the commit records that were ever added; 0 if none was.
    """

    def __init__(self) -> None:
        self.live_bytes = 0
        self.highest_sequence = -1
        self.highest_number = 0
        self.removals: list[Removal] = []
        self._runs: dict[bool, RunTable[Place]] = {False: RunTable(), True: RunTable()}
        self._records: dict[int, RecordPlace] = {}
        self._order: list[int] = []
        self._by_stamp: dict[int, int] = {}
        self._by_object: dict[int, list[int]] = {}

    # -- taking in -------------------------------------------------------------------------

    def add_run(self, place: Place, *, raw: bool) -> None:
        """A run; none of its tickets is there."""
        self._runs[raw].add(place)
        self.live_bytes += place.length
        self.highest_sequence = max(self.highest_sequence, place.sequence)

    def add_removal(self, removal: Removal) -> None:
        """What the segment says of freed tickets or dropped records; apply it, too."""
        self.removals.append(removal)
        self.highest_sequence = max(self.highest_sequence, removal.sequence)

    def add_record(self, place: RecordPlace) -> None:
        """A commit record; its number is new."""
        self._records[place.number] = place
        at = bisect_left(self._order, place.number)
        if self._order[at : at + 1] != [place.number]:
            self._order.insert(at, place.number)
        self._by_stamp[place.stamp] = place.number
        if place.object_key:
            self._by_object.setdefault(place.object_key, []).append(place.number)
        self.live_bytes += place.length
        self.highest_sequence = max(self.highest_sequence, place.sequence)
        self.highest_number = max(self.highest_number, place.number)

    def __len__(self) -> int:
        """How many runs and commit records there are."""
        return len(self._runs[False]) + len(self._runs[True]) + len(self._records)

    def sequences(self) -> npt.NDArray[np.uint64]:
        """The sequence numbers of all runs and commit records."""
        runs = (place.sequence for table in self._runs.values() for place in table)
        records = (record.sequence for record in self._records.values())
        return np.fromiter((*runs, *records), np.uint64)

    def has_written(self, removal: Removal) -> bool:  # noqa: ARG002 - as of a sealed one
        """Whether the file may have bytes that a removal is about; the index does not tell."""
        return True

    # -- runs ------------------------------------------------------------------------------

    def runs(self, first: int, end: int, *, raw: bool) -> Iterator[Place]:
        """The runs with some of the tickets ``first … end - 1``, in order, whole."""
        return self._runs[raw].within(first, end)

    def all_runs(self, *, raw: bool) -> Iterator[Place]:
        """All runs, in order."""
        return iter(self._runs[raw])

    def highest_ticket(self, *, raw: bool) -> int:
        """Behind the highest ticket; 0 if there is none."""
        return max((place.end for place in self._runs[raw]), default=0)

    def free(
        self,
        first: int,
        end: int,
        *,
        raw: bool,
        objects: Collection[int] | None = None,
        before: int | None = None,
    ) -> list[tuple[int, int]]:
        """Forget tickets.

        Args:
            first: the lowest that shall go.
            end: behind the highest.
            raw: raw tickets.
            objects: keys of the objects that they must belong to; None for any.
            before: only what has a lower sequence number.

        Returns:
            The ``(first, count)`` that were there.
        """
        table = self._runs[raw]
        gone: list[tuple[int, int]] = []
        for place in list(table.within(first, end)):
            if objects is not None and place.object_key not in objects:
                continue
            if before is not None and place.sequence >= before:
                continue
            table.remove(place)
            low, high = max(first, place.first), min(end, place.end)
            self.live_bytes -= place.length
            for part in _around(place, low, high):
                table.add(part)
                self.live_bytes += part.length
            gone.append((low, high - low))
        return gone

    # -- inventory -------------------------------------------------------------------------

    @property
    def record_count(self) -> int:
        """How many commit records are there."""
        return len(self._records)

    def run_entries(self, first: int, end: int) -> Entries:
        """The runs with some of the tickets ``first … end - 1``, whole."""
        return Entries.of([row_of(place) for place in self._runs[False].within(first, end)])

    def object_entries(self, first: int, end: int) -> Entries:
        """Stamps of the records of the objects with these keys."""
        found = [p for p in self._records.values() if first <= p.object_key < end and p.object_key]
        return Entries.of_keys([p.object_key for p in found], [p.stamp for p in found])

    def bare_entries(self, first: int, end: int) -> Entries:
        """Numbers of the records without an object that have these stamps."""
        found = [p for p in self._records.values() if first <= p.stamp < end and not p.object_key]
        return Entries.of_keys([p.stamp for p in found], [p.number for p in found])

    # -- commit records --------------------------------------------------------------------

    def with_stamp(self, stamp: int) -> int | None:
        """The number of the record with this stamp."""
        return self._by_stamp.get(stamp)

    def of_object(self, key: int) -> list[int]:
        """The numbers of the records that commit this object."""
        return list(self._by_object.get(key, ()))

    def record(self, number: int) -> RecordPlace | None:
        """Where a record is."""
        return self._records.get(number)

    def after(self, number: int, limit: int) -> list[RecordPlace]:
        """At most so many records with higher numbers, in order."""
        found: list[RecordPlace] = []
        for at in range(bisect_right(self._order, number), len(self._order)):
            place = self._records.get(self._order[at])
            if place is not None:
                found.append(place)
                if len(found) >= limit:
                    break
        return found

    def drop(self, number: int, before: int | None = None) -> bool:
        """Forget a record; False if it is not there, or not from before that sequence number."""
        place = self._records.get(number)
        if place is None or (before is not None and place.sequence >= before):
            return False
        del self._records[number]
        self.live_bytes -= place.length
        if self._by_stamp.get(place.stamp) == number:
            del self._by_stamp[place.stamp]
        if place.object_key:
            numbers = self._by_object[place.object_key]
            numbers.remove(number)
            if not numbers:
                del self._by_object[place.object_key]
        return True


def _around(place: Place, low: int, high: int) -> list[Place]:
    """What is left of a run without the tickets ``low … high - 1``."""
    parts = []
    if place.first < low:
        parts.append(place.part(place.first, low))
    if high < place.end:
        parts.append(place.part(high, place.end))
    return parts
