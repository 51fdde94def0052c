"""How many copies, and how many of them make a write count. Pure arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from common.errors import NodesUnavailable

Consistency = Literal["available", "strict"]


@dataclass(frozen=True)
class Policy:
    """The wish of the operator.

    Attributes:
        replicas: N, putters that should hold each extent.
        write_quorum: W, putters on which it is durable before the answer; W ≤ N.
        consistency: with fewer than W putters alive, ``available`` writes to every live one and
            ``strict`` refuses.
    """

    replicas: int
    write_quorum: int
    consistency: Consistency = "available"

    def __post_init__(self) -> None:
        if not 1 <= self.write_quorum <= self.replicas:
            raise ValueError(f"1 ≤ W ≤ N does not hold: W={self.write_quorum}, N={self.replicas}")

    def copies(self, live: int) -> int:
        """How many putters a new extent is sent to while ``live`` of them answer.

        Raises:
            NodesUnavailable: none is alive, or too few for ``strict``.
        """
        if live == 0:
            raise NodesUnavailable(
                "no putter is connected", hint="start one: python -m putter server"
            )
        self._check_strict(live)
        return min(self.replicas, live)

    def needed(self, assigned: int) -> int:
        """How many acks make a parcel count when it is on its way to ``assigned`` putters.

        Raises:
            NodesUnavailable: nobody is left to take it, or too few for ``strict``.
        """
        if assigned == 0:
            raise NodesUnavailable("no putter is left to take the bytes")
        self._check_strict(assigned)
        return min(self.write_quorum, assigned)

    def degraded(self, holders: int) -> bool:
        """Whether fewer putters than wanted hold something."""
        return holders < self.replicas

    def _check_strict(self, available: int) -> None:
        if self.consistency == "strict" and available < self.write_quorum:
            raise NodesUnavailable(
                f"only {available} of the {self.write_quorum} putters that a write needs are there",
                hint="bring putters back, or run with --consistency available",
            )
