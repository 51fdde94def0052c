"""What was written since the last sync: it counts once that succeeds, and is forgotten if not."""

from __future__ import annotations

from collections.abc import Callable

from putter.storage.segments.open_index import OpenIndex
from putter.storage.segments.places import Place, RecordPlace, Removal
from putter.storage.segments.segment import Catalog


class Unsynced:
    """Notes everything in the index of its segment, and can take it back.

    Args:
        catalog: all segments.

    Attributes:
        plain_bytes: of the frames of all runs that ever came through here.
        stored_bytes: of their records.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._runs: list[tuple[Place, bool]] = []
        self._records: list[RecordPlace] = []
        self._removals: list[Removal] = []
        self._calls: list[Callable[[], None]] = []
        self.plain_bytes = 0
        self.stored_bytes = 0

    def __bool__(self) -> bool:
        """Whether anything waits for a sync."""
        return bool(self._runs or self._records or self._removals or self._calls)

    def add_run(self, place: Place, *, raw: bool) -> None:
        """A run was written."""
        self._index(place.segment).add_run(place, raw=raw)
        self.plain_bytes += place.body_bytes
        self.stored_bytes += place.length
        self._runs.append((place, raw))

    def add_record(self, place: RecordPlace) -> None:
        """A commit record was written."""
        self._index(place.segment).add_record(place)
        self._records.append(place)

    def add_removal(self, removal: Removal) -> None:
        """A removal was written."""
        self._index(removal.segment).add_removal(removal)
        self._removals.append(removal)

    def add_call(self, call: Callable[[], None]) -> None:
        """What to do once all is durable."""
        self._calls.append(call)

    def settle(self) -> None:
        """All of it is durable."""
        self._runs.clear()
        self._records.clear()
        self._removals.clear()
        calls, self._calls = self._calls, []
        for call in calls:
            call()

    def forget(self) -> list[Removal]:
        """Nothing of it is durable: take it out of the indexes.

        Returns:
            The removals: what they removed is gone all the same, so they have to be said again.
        """
        for place, raw in self._runs:
            self._catalog.segments[place.segment].index.free(
                place.first, place.end, raw=raw, before=place.sequence + 1
            )
        for record in self._records:
            self._catalog.segments[record.segment].index.drop(record.number)
        owed = list(self._removals)
        for number in {removal.segment for removal in owed}:
            index = self._catalog.segments[number].index
            if isinstance(index, OpenIndex):
                index.removals = [each for each in index.removals if each not in owed]
        self._calls.clear()
        self.settle()
        return owed

    def _index(self, number: int) -> OpenIndex:
        index = self._catalog.segments[number].index
        assert isinstance(index, OpenIndex)
        return index
