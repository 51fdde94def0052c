"""The seam to the register of members: who takes part, and who may not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from common.membership import Decision, State, Verdict, state_of
from common.meta.packing import Packing


class Member(msgspec.Struct, frozen=True, omit_defaults=True):
    """A process that takes part.

    Attributes:
        node: identity; a putter's survives restarts, a router's is its instance.
        role: ``putter`` or ``router``.
        instance: new at each start.
        host, port: where its sessions (putter) or raw streams (router) are taken.
        web_port: its health and metrics.
        version, storage: of the software; engine of a putter.
        capacity_bytes, free_bytes: of a putter's disk.
        zone, packing: failure zone of a putter; how it stores what it writes.
        starts: how often a putter's data directory was started, this time included; 0 if nobody
            counts.
        records: number of a putter's last commit record that is durable.
        replicas: how many a router wants where a bucket says nothing; 0 if it does not tell.
    """

    node: str
    role: str
    instance: str
    host: str
    port: int
    web_port: int = 0
    version: str = ""
    storage: str = ""
    capacity_bytes: int = 0
    free_bytes: int = 0
    zone: str = ""
    packing: Packing = Packing()
    starts: int = 0
    records: int = 0
    replicas: int = 0

    @property
    def address(self) -> str:
        """Host and port."""
        return f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Seen:
    """A member as the coordinator knows it.

    Attributes:
        member: as it described itself.
        age_ms: how long ago, by the coordinator's clock, it last gave a sign of life.
        decision: of the operator.
        applied: whether all records of a putter are, in the coordinator's present run.
    """

    member: Member
    age_ms: int = field(compare=False)
    decision: Decision | None = None
    applied: bool = True

    @property
    def state(self) -> State:
        """What it is now."""
        return state_of(self.age_ms, self.decision, applied=self.applied)


class Members(Protocol):
    """Who takes part."""

    async def heartbeat(self, member: Member, *, asks: bool = False) -> Verdict:
        """Register, or renew with fresh numbers, unless somebody else speaks for the node.

        A putter is refused (see `common.membership.Refusal`) while

        * its node is declared gone, and it is the process that was known before, or has records;
        * another instance at another address gave a sign of life within `MEMBER_LOST_MS`;
        * it is another instance than the last one, and its directory was not started more often,
          or has fewer records than that one told of or than are applied.

        At the same address another instance is a restart, and is taken at once if it is not older.
        A coordinator that knows nothing of a node takes whoever comes.

        Args:
            member: who, with fresh numbers.
            asks: it was refused before: where nothing is known of the node, it is not taken.
        """
        ...

    async def leave(self, node: str, instance: str = "") -> None:
        """A clean stop: not seen any more; what is known of a putter's directory is kept.

        Args:
            node: who.
            instance: if given, and another one was taken since, nothing happens.
        """
        ...

    async def seen(self) -> list[Seen]:
        """All that registered and did not leave, sorted by node.

        A router that has been silent for a day is dropped: each start is a member of its own.
        """
        ...

    async def declare(self, node: str, decision: Decision | None) -> bool:
        """Note what the operator decided of a putter; None takes it back.

        One that is declared gone is refused from then on, and its records count no more. When that
        is taken back, it is forgotten: it may come with whatever it has, and all of it is replayed.

        Returns:
            False, and nothing changed, if the node is not known, or is gone and shall drain.
        """
        ...

    async def redeclare(self, decisions: Mapping[str, Decision]) -> bool:
        """Put decisions in force again that records tell of, whether the nodes are known or not.

        What is decided of a node now stays.

        Returns:
            Whether any was not in force.
        """
        ...

    async def decisions(self) -> Mapping[str, Decision]:
        """What was decided, by node; also of nodes that are not seen."""
        ...
