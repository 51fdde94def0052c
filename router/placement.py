"""Where an extent goes: weighted rendezvous hashing over the live nodes. Pure.

Each node's score for a placement key is ``-weight / ln(h)`` with *h* uniform in (0, 1) from a hash
of key and node (Thaler and Ravishankar 1998; the logarithmic weighting after Schindelhauer and
Schomaker 2005). The highest scores win. A node that comes or goes moves only what it gains or
loses; the chosen nodes are recorded with the extent and never computed again.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from types import MappingProxyType
from typing import Final

from common.checksum import object_digest
from common.records import ANYONE

_SPAN = float(1 << 53)


@dataclass(frozen=True)
class Candidate:
    """A node that may take an extent.

    Attributes:
        node: identity.
        weight: its free space, in any unit that all share; > 0.
        zone: failure zone, "" if unknown.
    """

    node: str
    weight: float
    zone: str = ""


def score(key: str, candidate: Candidate) -> float:
    """The node's claim on the key; higher wins."""
    digest = object_digest(f"{key}\0{candidate.node}".encode())
    uniform = ((int.from_bytes(digest[:8], "big") >> 11) + 0.5) / _SPAN
    return -candidate.weight / math.log(uniform)


@dataclass(frozen=True)
class Placement:
    """Where an extent goes, and where it should have gone.

    Attributes:
        nodes: putters that are there, best first.
        owed: putters that should hold it and are away, each with the one of ``nodes`` that takes
            its place, or "". `common.records.ANYONE` if there are too few putters at all.
    """

    nodes: tuple[str, ...]
    owed: Mapping[str, str]


NOTHING_OWED: Final[Mapping[str, str]] = MappingProxyType({})


def place(key: str, there: Sequence[Candidate], away: Sequence[Candidate], count: int) -> Placement:
    """Where an extent goes while some putters are away.

    Those that are away keep their share: what they would have taken is owed to them, so that the
    putters hold in the end what they would hold if nobody had been away.

    Args:
        key: names the extent.
        there: live nodes with weights above 0.
        away: nodes that belong to the cluster and are expected back.
        count: how many copies there should be.
    """
    if not away:
        nodes = choose(key, there, count)
        return Placement(nodes, NOTHING_OWED if len(nodes) == count else {ANYONE: ""})
    homes = choose(key, [*there, *away], count)
    live = {candidate.node: candidate.zone for candidate in there}
    present = [node for node in homes if node in live]
    absent = [node for node in homes if node not in live]
    if absent:
        zones = {live[node] for node in present}
        stand_ins = choose(key, there, len(absent), homes, zones)
        present += stand_ins
        owed = dict(zip_longest(absent, stand_ins, fillvalue=""))
    else:
        owed = {}
    if len(homes) < count:
        owed[ANYONE] = ""
    return Placement(tuple(present), owed)


def choose(
    key: str,
    candidates: Sequence[Candidate],
    count: int,
    avoid: Collection[str] = (),
    zones: Collection[str] = (),
) -> tuple[str, ...]:
    """The nodes for a key, best first.

    Different failure zones are preferred as long as there are any.

    Args:
        key: names the extent.
        candidates: live nodes with weights above 0.
        count: how many are wanted; fewer come back if there are fewer.
        avoid: nodes that must not be chosen.
        zones: failure zones that have a copy already.
    """
    eligible = [candidate for candidate in candidates if candidate.node not in avoid]
    if len(eligible) <= 1:
        return tuple(candidate.node for candidate in eligible[:count])
    ranked = sorted(eligible, key=lambda candidate: (-score(key, candidate), candidate.node))
    chosen: list[Candidate] = []
    rest: list[Candidate] = []
    taken = set(zones)
    for candidate in ranked:
        if candidate.zone and candidate.zone in taken:
            rest.append(candidate)
            continue
        taken.add(candidate.zone)
        chosen.append(candidate)
    return tuple(candidate.node for candidate in (chosen + rest)[:count])
