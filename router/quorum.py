"""How many copies, how many of them make a write count, how many a read. Pure arithmetic."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from common.errors import NodesUnavailable
from common.locks import NO_DEFAULT, Default
from common.quotas import NO_QUOTA, Quota
from common.versions import Versioning
from router.events import Rules

Consistency = Literal["available", "strict"]


@dataclass(frozen=True)
class Policy:
    """The wish of the operator.

    Attributes:
        replicas: N, putters that should hold each extent.
        write_quorum: W, putters on which it is durable before the answer; W ≤ N.
        consistency: with fewer than W putters alive, ``available`` writes to every live one and
            ``strict`` refuses; the same for reads with R.
        read_quorum: R, replicas that are verified before a read gives bytes out; R ≤ N.
        versioning: how the bucket keeps versions.
        encrypted: whether what is written to the bucket is encrypted with a key of its own.
        quota: how much it may hold; writes that differ in it alone go the same way.
        locks: what versions of the bucket are locked by that say nothing of it themselves.
        events: what is told of its changes, and to whom.
    """

    replicas: int
    write_quorum: int
    consistency: Consistency = "available"
    read_quorum: int = 1
    versioning: Versioning = ""
    encrypted: bool = False
    quota: Quota = field(default=NO_QUOTA, compare=False)
    locks: Default = field(default=NO_DEFAULT, compare=False)
    events: Rules = field(default=(), compare=False)

    def __post_init__(self) -> None:
        if not 1 <= self.write_quorum <= self.replicas:
            raise ValueError(f"1 ≤ W ≤ N does not hold: W={self.write_quorum}, N={self.replicas}")
        if not 1 <= self.read_quorum <= self.replicas:
            raise ValueError(f"1 ≤ R ≤ N does not hold: R={self.read_quorum}, N={self.replicas}")

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

    def verified(self, answering: int) -> int:
        """How many replicas a read verifies while ``answering`` of those that hold it do.

        Raises:
            NodesUnavailable: too few for ``strict``.
        """
        if self.consistency == "strict" and answering < self.read_quorum:
            raise NodesUnavailable(
                f"only {answering} of the {self.read_quorum} replicas that a read needs are there",
                hint="bring putters back, or run with --consistency available",
            )
        return min(self.read_quorum, answering)

    @property
    def missing_max(self) -> int | None:
        """How many putters may be away while Redis is brought back from the others.

        Under ``strict`` one of those that made a write count has to be there; None: any number.
        """
        return self.write_quorum - 1 if self.consistency == "strict" else None

    def degraded(self, holders: int) -> bool:
        """Whether fewer putters than wanted hold something."""
        return holders < self.replicas

    def _check_strict(self, available: int) -> None:
        if self.consistency == "strict" and available < self.write_quorum:
            raise NodesUnavailable(
                f"only {available} of the {self.write_quorum} putters that a write needs are there",
                hint="bring putters back, or run with --consistency available",
            )
