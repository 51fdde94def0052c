"""What changes for putters when an object is described anew."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

from common.meta.repairs import Surplus
from common.meta.values import Ranges, merge_ranges, named_nodes
from common.records import StoredObject, Version

_Placed = dict[str, list[tuple[int, int]]]


@dataclass(frozen=True)
class Moves:
    """Putters for which the new description says something else than the old one.

    Attributes:
        gaining: get some of it that was not placed on them.
        losing: hold some of it that is not placed on them any more.
        entire: all of it is placed on them now.
    """

    gaining: tuple[str, ...]
    losing: tuple[str, ...]
    entire: tuple[str, ...]


def moves(old: StoredObject, new: StoredObject) -> Moves:
    """What a new description of an object changes."""
    before, after = _placed(old), _placed(new)
    return Moves(
        gaining=_exceeding(after, before),
        losing=_exceeding(before, after),
        entire=tuple(node for node in named_nodes(new) if not _elsewhere(new, node)),
    )


def surplus_of(version: Version, object_id: str, node: str, due_ms: int) -> Surplus:
    """What a putter may free of an object, by the description of its version."""
    stored = next(each for each in version.objects if each.object_id == object_id)
    whole = node not in named_nodes(stored)
    elsewhere = tuple(extent for extent in stored.extents if node not in extent.nodes)
    ranges = merge_ranges(elsewhere)
    return Surplus(node, version.bucket, object_id, ranges, whole, due_ms, elsewhere)


def is_same(one: Version, other: Version) -> bool:
    """Whether two descriptions are of the same version."""
    ids = [[stored.object_id for stored in each.objects] for each in (one, other)]
    return (one.key, one.stamp, ids[0]) == (other.key, other.stamp, ids[1])


def _elsewhere(stored: StoredObject, node: str) -> Ranges:
    """The tickets of an object that are not placed on a putter."""
    return merge_ranges(extent for extent in stored.extents if node not in extent.nodes)


def _placed(stored: StoredObject) -> _Placed:
    """For each putter first and end of the tickets that are placed on it, in order and joined."""
    placed: _Placed = {}
    for extent in sorted(stored.extents, key=lambda extent: extent.first):
        for node in extent.nodes:
            ranges = placed.setdefault(node, [])
            end = extent.first + extent.count
            if ranges and ranges[-1][1] >= extent.first:
                ranges[-1] = (ranges[-1][0], max(end, ranges[-1][1]))
            else:
                ranges.append((extent.first, end))
    return placed


def _exceeding(placed: _Placed, others: _Placed) -> tuple[str, ...]:
    """Putters on which the one places tickets that the other does not."""
    return tuple(
        node for node, ranges in sorted(placed.items()) if not _within(ranges, others.get(node, []))
    )


def _within(ranges: list[tuple[int, int]], others: list[tuple[int, int]]) -> bool:
    """Whether all tickets of the one are in the other, both in order and joined."""
    for first, end in ranges:
        at = bisect_right(others, first, key=lambda other: other[0]) - 1
        if at < 0 or others[at][1] < end:
            return False
    return True
