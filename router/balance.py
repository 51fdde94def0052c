"""How much each putter should hold, and which extents move so that it does. Pure.

Putters hold their share when all disks are equally full, of what is free and what is held. No
putter holds two copies of an extent, so none can hold more than one copy of everything: what a
large disk cannot take for that reason is divided among the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from common.records import ANYONE, Extent
from router.placement import Candidate, choose


@dataclass(frozen=True)
class Disk:
    """What is known of a putter.

    Attributes:
        node: identity.
        held_bytes: data that it holds once everything that is owed is paid.
        free_bytes: what it could take besides.
        zone: failure zone, "" if unknown.
        reachable: whether bytes can go there, and away from there, now.
    """

    node: str
    held_bytes: int
    free_bytes: int
    zone: str = ""
    reachable: bool = True


def settled(extent: Extent) -> frozenset[str]:
    """The putters that hold an extent once everything is paid that it owes to those known."""
    nodes = set(extent.nodes)
    for home, stand_in in extent.owed.items():
        nodes.discard(stand_in)
        if home != ANYONE:
            nodes.add(home)
    return frozenset(nodes)


def shares(disks: Sequence[Disk], one_copy_bytes: int) -> dict[str, float]:
    """How many bytes each putter should hold; together as many as they hold now.

    Args:
        disks: all putters.
        one_copy_bytes: of everything that is stored; less than the largest `Disk.held_bytes` counts
            as that.
    """
    most = float(max([one_copy_bytes, *(disk.held_bytes for disk in disks)]))
    left = float(sum(disk.held_bytes for disk in disks))
    open_disks = {disk.node: float(max(1, disk.held_bytes + disk.free_bytes)) for disk in disks}
    found: dict[str, float] = {}
    while open_disks:
        filled = left / sum(open_disks.values())
        capped = [node for node, size in open_disks.items() if filled * size > most]
        if not capped:
            return found | {node: filled * size for node, size in open_disks.items()}
        for node in capped:
            del open_disks[node]
            found[node] = most
            left -= most
    return found


class Moves:
    """Decides extent by extent what moves, until every putter holds its share.

    Args:
        disks: all putters.
        shares: of each of them.
    """

    def __init__(self, disks: Sequence[Disk], shares: Mapping[str, float]) -> None:
        self._zones = {disk.node: disk.zone for disk in disks}
        reachable = [disk for disk in disks if disk.reachable]
        self._reachable = frozenset(disk.node for disk in reachable)
        self._excess = {
            disk.node: disk.held_bytes - shares[disk.node]
            for disk in reachable
            if disk.held_bytes > shares[disk.node]
        }
        self._room = {
            disk.node: min(shares[disk.node] - disk.held_bytes, disk.free_bytes)
            for disk in reachable
            if disk.held_bytes < shares[disk.node]
        }

    @property
    def left_bytes(self) -> float:
        """How much should still move, as far as somebody can take it."""
        return min(_positive(self._excess), _positive(self._room))

    @property
    def takers(self) -> frozenset[str]:
        """Putters that hold less than their share."""
        return frozenset(self._room)

    def move(self, key: str, extent: Extent) -> Extent:
        """The extent, owed to a putter that holds too little in the place of one with too much.

        It stays as it is if that brings nobody nearer to its share, if it owes something already,
        if one of its putters is away, or if its copies would be in fewer failure zones.

        Args:
            key: names the extent.
            extent: as it is.
        """
        half = extent.size / 2
        givers = [node for node in extent.nodes if self._excess.get(node, 0.0) > half]
        if extent.owed or not givers or not self._reachable.issuperset(extent.nodes):
            return extent
        giver = max(givers, key=lambda node: (self._excess[node], node))
        stay = [self._zones.get(node, "") for node in extent.nodes if node != giver]
        lost = self._zones.get(giver, "")
        keeps_zone = not lost or lost in stay
        takers = [
            Candidate(node, room, self._zones.get(node, ""))
            for node, room in sorted(self._room.items())
            if room > half and (keeps_zone or self._zones.get(node, "") not in ("", *stay))
        ]
        chosen = choose(key, takers, 1, avoid=extent.nodes)
        if not chosen:
            return extent
        (taker,) = chosen
        self._excess[giver] -= extent.size
        self._room[taker] -= extent.size
        return msgspec.structs.replace(extent, owed={taker: giver})


def _positive(amounts: Mapping[str, float]) -> float:
    return sum(max(0.0, amount) for amount in amounts.values())


def uneven(disks: Sequence[Disk], shares: Mapping[str, float], tolerance: float, least: int) -> int:
    """How many bytes are on putters that hold too much; 0 while none is far off its share.

    Args:
        disks: all putters.
        shares: of each of them.
        tolerance: by which part of its share a putter may be off.
        least: by how many bytes it may be off in any case.
    """
    off = [(abs(disk.held_bytes - shares[disk.node]), shares[disk.node]) for disk in disks]
    if all(distance <= max(least, tolerance * share) for distance, share in off):
        return 0
    return round(sum(max(0.0, disk.held_bytes - shares[disk.node]) for disk in disks))
