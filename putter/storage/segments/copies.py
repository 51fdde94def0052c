"""What an interrupted compaction left twice: the copies count, the originals are dead space.

Compaction forgets an original once its copy is durable, but nothing on the disk says so before the
whole segment is gone. A copy carries the sequence number of its original, and new records of a
segment have higher ones than all segments before it. So a lower one tells a copy, and the same
one in two segments is something that may be there twice; what really is, its tickets tell.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from putter.storage.segments.sealed_index import SealedIndex
from putter.storage.segments.segment import Catalog, Segment

_Sequences = npt.NDArray[np.uint64]


def count_once(catalog: Catalog) -> int:
    """Forget what a segment with a higher number holds, too. All removals were applied.

    Returns:
        How many bytes were counted twice.
    """
    segments = [catalog.segments[number] for number in sorted(catalog.segments)]
    found = _twice(segments)
    forgotten = 0
    for segment, sequences in zip(segments, found, strict=True):
        if len(sequences):
            forgotten += _forget(catalog, segment, set(sequences.tolist()))
    return forgotten


def forget_copied(segment: Segment, later: Sequence[Segment]) -> None:
    """Forget of one segment what others, with higher numbers, hold.

    Args:
        segment: whose index was made again.
        later: whose records are durable; one with a damaged index is passed over.
    """
    catalog = Catalog()
    catalog.add(segment)
    held = segment.index.sequences()
    found = set[int]()
    for other in later:
        common = np.intersect1d(held, other.index.sequences())
        if len(common) and (not isinstance(other.index, SealedIndex) or other.index.is_whole()):
            catalog.add(other)
            found.update(common.tolist())
    if found:
        _forget(catalog, segment, found)


def _twice(segments: list[Segment]) -> list[_Sequences]:
    """Of the sequence numbers in each segment, those that may be in a later one, too."""
    copies: list[_Sequences] = []
    lows = [0]  # numbers from here on were new when the segment was written
    for segment in segments:
        held = segment.index.sequences()
        copies.append(np.unique(held[held < lows[-1]]))
        lows.append(max(lows[-1], int(held.max()) + 1 if len(held) else 0))
    every, counts = np.unique(np.concatenate([*copies, _NONE]), return_counts=True)
    often = every[counts > 1]
    found = []
    for segment, mine, low, high in zip(segments, copies, lows, lows[1:], strict=False):
        new = every[np.searchsorted(every, low) : np.searchsorted(every, high)]
        if len(new):
            new = np.intersect1d(segment.index.sequences(), new)
        found.append(np.concatenate([new, np.intersect1d(mine, often)]))
    return found


def _forget(catalog: Catalog, segment: Segment, sequences: set[int]) -> int:
    """Of the records with these sequence numbers, forget what lies in later segments."""
    index = segment.index
    before = index.live_bytes
    for raw in (False, True):
        for place in [each for each in index.all_runs(raw=raw) if each.sequence in sequences]:
            for other in catalog.holding(place.first, place.end, raw=raw):
                if other.number <= segment.number:
                    continue
                for copy in list(other.index.runs(place.first, place.end, raw=raw)):
                    index.free(copy.first, copy.end, raw=raw, before=place.sequence + 1)
    for record in index.after(0, 1 << 62):
        if record.sequence in sequences:
            newest = catalog.record(record.number)
            if newest is not None and newest.segment > segment.number:
                index.drop(record.number)
    return before - index.live_bytes


_NONE = np.zeros(0, np.uint64)
