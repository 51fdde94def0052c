"""Where an extent goes: weighted rendezvous hashing over the live nodes. Pure.

Each node's score for a placement key is ``-weight / ln(h)`` with *h* uniform in (0, 1) from a hash
of key and node (Thaler and Ravishankar 1998; the logarithmic weighting after Schindelhauer and
Schomaker 2005). The highest scores win. A node that comes or goes moves only what it gains or
loses; the chosen nodes are recorded with the extent and never computed again.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from common.checksum import object_digest

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


def choose(
    key: str, candidates: Sequence[Candidate], count: int, avoid: Collection[str] = ()
) -> tuple[str, ...]:
    """The nodes for a key, best first.

    Different failure zones are preferred as long as there are any.

    Args:
        key: names the extent.
        candidates: live nodes with weights above 0.
        count: how many are wanted; fewer come back if there are fewer.
        avoid: nodes that must not be chosen.
    """
    eligible = [candidate for candidate in candidates if candidate.node not in avoid]
    if len(eligible) <= 1:
        return tuple(candidate.node for candidate in eligible[:count])
    ranked = sorted(eligible, key=lambda candidate: (-score(key, candidate), candidate.node))
    chosen: list[Candidate] = []
    rest: list[Candidate] = []
    zones: set[str] = set()
    for candidate in ranked:
        if candidate.zone and candidate.zone in zones:
            rest.append(candidate)
            continue
        zones.add(candidate.zone)
        chosen.append(candidate)
    return tuple(candidate.node for candidate in (chosen + rest)[:count])
