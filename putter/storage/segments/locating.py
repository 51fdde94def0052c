"""Where runs lie, for who reads the segment files without asking for each of them."""

from __future__ import annotations

from collections.abc import Sequence

from putter.storage.located import Located, Location, Whereabouts
from putter.storage.segments.files import Files
from putter.storage.segments.log import Log
from putter.storage.segments.places import Place


def located(places: Sequence[Place], end: int, limit: int, log: Log, files: Files) -> Located:
    """Those of some places whose frames lie plain and durable in a file of this machine.

    Args:
        places: in the order of the tickets.
        end: behind the last ticket that was asked for.
        limit: that the places were looked up with.
        log: the open segment, of which not all is durable.
        files: of the data directory.
    """
    until = end if len(places) < limit else places[-1].end
    known: dict[int, Whereabouts | None] = {}
    found = []
    for place in places:
        if place.packed or not log.has_durably(place.segment, place.body + place.body_bytes):
            continue
        if place.segment not in known:
            known[place.segment] = files.whereabouts(place.segment)
        file = known[place.segment]
        if file is not None:
            found.append(
                Location(
                    place.first,
                    place.count,
                    place.frame_bytes,
                    place.key_id,
                    file,
                    place.body,
                    place.body_bytes,
                )
            )
    return Located(tuple(found), until)
