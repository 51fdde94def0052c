"""Lists what segments hold, one after the other, from their indexes alone."""

from __future__ import annotations

from contextlib import AbstractContextManager
from itertools import islice

from common.tickets import TICKETS_MAX, object_id_of
from putter.storage.holdings import Holding, Holdings, joined
from putter.storage.scrub import cursor_of, numbers_of
from putter.storage.segments.segment import Catalog


def page(
    catalog: Catalog, lock: AbstractContextManager[object], cursor: str, limit: int
) -> Holdings:
    """The next page.

    What compaction moves meanwhile goes to a segment with a higher number, and is met there.

    Args:
        catalog: all segments.
        lock: of the engine.
        cursor: as the page before gave it, "" for the first.
        limit: entries of the indexes that are looked at, about.
    """
    number, at = numbers_of(cursor, 2)
    found: list[Holding] = []
    keys: set[str] = set()
    while len(found) < limit:
        with lock:
            later = min((each for each in catalog.segments if each >= number), default=None)
            if later is None:
                return Holdings("", joined(found), frozenset(keys))
            if later != number:
                number, at = later, 0
            index = catalog.segments[number].index
            places = list(islice(index.runs(at, TICKETS_MAX, raw=False), limit - len(found)))
        keys.update(place.key_id for place in places)
        found += [
            Holding(place.first, place.count, object_id_of(place.object_key)) for place in places
        ]
        number, at = (number, places[-1].end) if places else (number + 1, 0)
    return Holdings(cursor_of(number, at), joined(found), frozenset(keys))
