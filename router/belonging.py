"""Tells which putters do not belong to the cluster any more, although something still names them.

Redis knows whose commit records count (`common.meta.recovery.Standing.marks`) and who gave a sign
of life. A putter that the operator gave up is neither, and one without which a Redis that lost
everything was rebuilt is neither; descriptions from before, debts, surpluses and deleted objects
name them all the same. Nobody waits for such a putter. Should it come back, what it holds is
replayed like that of any other one.
"""

from __future__ import annotations

from collections.abc import Collection

from common.records import ANYONE
from router.fleet import Fleet


class Belonging:
    """What one router knows of it.

    Args:
        fleet: the putters.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._known: frozenset[str] | None = None
        self._gone: frozenset[str] = frozenset()

    def settle(self, gone: frozenset[str], known: frozenset[str] | None) -> None:
        """Note who was declared gone, and whose records count; None while that is not certain."""
        self._gone, self._known = gone, known

    def strangers(self, nodes: Collection[str]) -> frozenset[str]:
        """Those of the nodes that are not waited for: declared gone, or known to nobody."""
        named = frozenset(nodes) - {ANYONE}
        unseen = self._fleet.absent(named)
        unknown = frozenset() if self._known is None else unseen - self._known
        return unknown | (self._gone & named) - {link.node for link in self._fleet.up()}
