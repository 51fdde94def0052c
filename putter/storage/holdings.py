"""What a node holds, by object: so that somebody can tell what nobody wants any more."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Holding:
    """Consecutive tickets that were put for one object.

    Attributes:
        first: number of the first ticket.
        count: how many.
        object_id: ObjectID.
    """

    first: int
    count: int
    object_id: str


@dataclass(frozen=True)
class Holdings:
    """A page of them.

    Attributes:
        cursor: where to go on; "" at the end.
        entries: neighbours of one object joined.
        keys: ids of the cluster keys that their checksums were made with, and those of tickets
            that are left out.
    """

    cursor: str
    entries: tuple[Holding, ...]
    keys: frozenset[str] = frozenset()


def joined(entries: Iterable[Holding]) -> tuple[Holding, ...]:
    """Neighbours of one object as one; those without a known owner are left out."""
    out: list[Holding] = []
    for entry in entries:
        last = out[-1] if out else None
        if not entry.object_id:
            continue
        if (
            last is not None
            and last.object_id == entry.object_id
            and last.first + last.count == entry.first
        ):
            out[-1] = Holding(last.first, last.count + entry.count, last.object_id)
        else:
            out.append(entry)
    return tuple(out)
