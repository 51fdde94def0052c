"""Which tickets hold which bytes. Pure arithmetic on extents."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from common.errors import RangeInvalid
from common.records import Extent, StoredObject


@dataclass(frozen=True)
class Slice:
    """Consecutive tickets to fetch, and what to use of their bytes.

    Attributes:
        first: number of the first ticket.
        count: how many tickets.
        size: data bytes in these tickets.
        skip: data bytes to drop at the front.
        keep: data bytes to use behind that.
        nodes: putters that hold them.
    """

    first: int
    count: int
    size: int
    skip: int
    keep: int
    nodes: tuple[str, ...]


def slices(stored: StoredObject, start: int, end: int, piece_bytes: int) -> Iterator[Slice]:
    """The fetches that give bytes ``start … end - 1`` of an object, in order.

    Args:
        stored: the object.
        start: first byte wanted.
        end: behind the last byte wanted; ``start ≤ end ≤ stored.size``.
        piece_bytes: the most data bytes in one fetch (at least one ticket's).

    Raises:
        RangeInvalid: outside of the object.
    """
    if not 0 <= start <= end <= stored.size:
        raise RangeInvalid(f"bytes {start}…{end} are not in an object of {stored.size} bytes")
    per_piece = max(1, piece_bytes // stored.frame_bytes)
    position = 0
    for extent in stored.extents:
        extent_end = position + extent.size
        if extent_end > start and position < end:
            yield from _within(
                extent,
                stored.frame_bytes,
                position,
                max(start, position),
                min(end, extent_end),
                per_piece,
            )
        position = extent_end


def _within(
    extent: Extent, frame_bytes: int, base: int, start: int, end: int, per_piece: int
) -> Iterator[Slice]:
    index = (start - base) // frame_bytes
    last = (end - 1 - base) // frame_bytes
    while index <= last:
        count = min(per_piece, last - index + 1)
        offset = base + index * frame_bytes
        size = min(count * frame_bytes, base + extent.size - offset)
        skip = max(0, start - offset)
        yield Slice(
            first=extent.first + index,
            count=count,
            size=size,
            skip=skip,
            keep=min(end, offset + size) - offset - skip,
            nodes=extent.nodes,
        )
        index += count


def halves(part: Slice, frame_bytes: int) -> tuple[Slice, Slice]:
    """A slice of two tickets or more as two, whose wanted bytes follow each other."""
    count = part.count // 2
    size = count * frame_bytes
    skip = min(part.skip, size)
    keep = max(0, min(part.skip + part.keep, size) - skip)
    return (
        Slice(part.first, count, size, skip, keep, part.nodes),
        Slice(
            part.first + count,
            part.count - count,
            part.size - size,
            max(0, part.skip - size),
            part.keep - keep,
            part.nodes,
        ),
    )


def join_extents(runs: list[Extent], extent_bytes_max: int) -> tuple[Extent, ...]:
    """Merge neighbouring runs with consecutive tickets on the same nodes, owed to the same.

    Args:
        runs: in the order of the bytes.
        extent_bytes_max: no extent grows beyond this many data bytes.
    """
    out: list[Extent] = []
    for run in runs:
        last = out[-1] if out else None
        if (
            last is not None
            and last.first + last.count == run.first
            and last.nodes == run.nodes
            and last.owed == run.owed
            and last.size + run.size <= extent_bytes_max
        ):
            count, size = last.count + run.count, last.size + run.size
            out[-1] = Extent(last.first, count, size, run.nodes, run.owed)
        else:
            out.append(run)
    return tuple(out)
