"""What putters are owed, by extent: how a debt is paid, and how one comes to be. Pure.

An extent names the putters that hold it and, in ``owed``, those that should hold it and do not. One
of the holders may do so in the place of one that is owed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import msgspec

from common.records import ANYONE, Extent, Version


def paid(extent: Extent, debtor: str, node: str, replicas: int) -> Extent:
    """The extent once a putter has what was owed.

    Whoever held it in that putter's place takes the place of another one that nobody stands in
    for, or is the one that was not chosen yet; else it need not hold it any more. If that one
    leaves and stood in for another one, too, that is now the business of the putter that has it.

    Args:
        extent: owes ``debtor``.
        debtor: the putter that was owed, or `ANYONE`.
        node: the putter that holds it now: ``debtor``, or the one that was chosen.
        replicas: how many should hold it; while they are fewer, and not because of a putter that
            is owed it, anybody is owed it.
    """
    owed = dict(extent.owed)
    stand_in = owed.pop(debtor)
    nodes = {*extent.nodes, node}
    if stand_in in nodes and stand_in in owed.values():
        home = next(home for home, other in sorted(owed.items()) if other == stand_in)
        if home == ANYONE:
            del owed[ANYONE]
        else:
            owed[home] = node
        nodes.discard(stand_in)
    elif stand_in in nodes:
        alone = next((home for home, other in sorted(owed.items()) if not other), None)
        if alone is None:
            nodes.discard(stand_in)
        elif alone == ANYONE:
            del owed[ANYONE]  # it is as good as any
        else:
            owed[alone] = stand_in
    if len(nodes) + sum(not other for other in owed.values()) < replicas:
        owed[ANYONE] = ""
    return msgspec.structs.replace(extent, nodes=tuple(sorted(nodes)), owed=owed)


def lost(extent: Extent, nodes: Collection[str], debtor: Callable[[str], str]) -> Extent:
    """The extent once some of its putters turn out not to hold it.

    Args:
        extent: names them.
        nodes: do not hold it, or are not expected back.
        debtor: who is owed instead of one of them: itself, or `ANYONE`.
    """
    gone = [node for node in extent.nodes if node in nodes]
    if not gone:
        return extent
    owed = {home: "" if other in nodes else other for home, other in extent.owed.items()}
    leaver = extent.owed.get(ANYONE)
    if leaver in gone and [*extent.owed.values()].count(leaver) > 1:
        del owed[ANYONE]  # its place is that of another one
    for node in gone:
        home = next((home for home, other in extent.owed.items() if other == node), None)
        if home is None:
            owed[debtor(node)] = ""
    left = tuple(node for node in extent.nodes if node not in nodes)
    return msgspec.structs.replace(extent, nodes=left, owed=owed)


def vacated(extent: Extent, leaving: Collection[str]) -> Extent:
    """The extent once some putters shall not hold it any more, or are not expected back.

    Each stays named until another one has its part: anybody is owed it, and the one that leaves
    stands in, perhaps for a second one; one after the other. What was owed to one that leaves is
    owed to nobody if another one stands in for it, and to anybody otherwise.

    Args:
        extent: may name them.
        leaving: the putters.
    """
    owed = dict(extent.owed)
    for home in [home for home in owed if home in leaving]:
        stand_in = owed.pop(home)
        if not stand_in:
            owed.setdefault(ANYONE, "")
    away = [node for node in extent.nodes if node in leaving]
    if away and not owed.get(ANYONE):
        owed[ANYONE] = away[0]
    return _with(extent, owed)


def kept(extent: Extent, leaving: Collection[str], replicas: int) -> Extent:
    """The extent once putters that were to leave stay: nobody is owed it in their place.

    Args:
        extent: may owe anybody what one of them holds.
        leaving: the putters that leave now.
        replicas: how many should hold it; while they are fewer, and not because of a putter that
            is owed it, anybody is owed it as before.
    """
    stand_in = extent.owed.get(ANYONE, "")
    if not stand_in or stand_in in leaving:
        return extent
    owed = {home: each for home, each in extent.owed.items() if home != ANYONE}
    if len(extent.nodes) + sum(not other for other in owed.values()) < replicas:
        owed[ANYONE] = ""
    return _with(extent, owed)


def _with(extent: Extent, owed: dict[str, str]) -> Extent:
    if owed == extent.owed:
        return extent
    return msgspec.structs.replace(extent, owed=owed)


def more_wanted(extent: Extent, replicas: int) -> Extent:
    """The extent once it should have so many replicas: anybody is owed it while they are fewer.

    One at a time: as soon as somebody has it, `paid` looks whether that is enough.
    """
    if _homes(extent) >= replicas or ANYONE in extent.owed:
        return extent
    return _with(extent, {**extent.owed, ANYONE: ""})


def fewer_wanted(
    extent: Extent, replicas: int, best: Callable[[Extent, int], Collection[str]]
) -> Extent:
    """The extent once it should have only so many replicas.

    What is missing is owed no more; then some that hold it need not hold it any more, and whoever
    one of them stands in for is owed nothing.

    Args:
        extent: may have more.
        replicas: how many it should have.
        best: who goes on to hold it, of those that do: the extent, how many.
    """
    spare = _homes(extent) - replicas
    if spare <= 0:
        return extent
    forgiven = _missing(extent)[:spare]
    owed = {home: other for home, other in extent.owed.items() if home not in forgiven}
    stay = set(best(extent, len(extent.nodes) - (spare - len(forgiven))))
    nodes = tuple(node for node in extent.nodes if node in stay)
    owed = {home: other for home, other in owed.items() if not other or other in stay}
    return msgspec.structs.replace(extent, nodes=nodes, owed=owed)


def _homes(extent: Extent) -> int:
    """How many putters hold it in the end: each holder, or whom it stands in for, and the rest.

    One that leaves, and stands in for whoever will take its place, is one, too.
    """
    return len(extent.nodes) + len(_missing(extent))


def _missing(extent: Extent) -> list[str]:
    """The putters that are owed it and that nobody stands in for."""
    return sorted(
        home
        for home, other in extent.owed.items()
        if other not in extent.nodes and home not in extent.nodes
    )


def with_extents(version: Version, change: Callable[[Extent], Extent]) -> Version:
    """The version with every extent changed by a function."""
    objects = tuple(
        msgspec.structs.replace(stored, extents=tuple(change(each) for each in stored.extents))
        for stored in version.objects
    )
    return msgspec.structs.replace(version, objects=objects)
