"""Which putters make up the cluster, and what was decided of them, kept by every putter.

Redis has both; this is what brings them back when it loses everything. So a putter that was
declared gone stays refused even then: what it still has may have been deleted long since.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Final

from common import records
from common.errors import MetadataUnavailable, NodesUnavailable
from common.limits import STAMP_HORIZON_US
from common.logs import get_logger
from common.membership import Decision
from common.meta.interface import CeilingReached, Ceilings, Granted, Kind, Metadata
from common.records import Members, Peer
from router.ceilings import keep
from router.fleet import Fleet
from router.parcels import RecordParcel
from router.quorum import Policy

_log = get_logger(__name__)
_CALL_MS: Final = 10_000


class Peers:
    """The newest list that this router knows.

    Args:
        meta: the coordinator.
        fleet: the putters.

    Attributes:
        newest: what the putters keep; None if that is not known.
        read_in: the run of Redis in which all putters were asked for it; "" if they never were.
    """

    def __init__(self, meta: Metadata, fleet: Fleet) -> None:
        self.newest: Members | None = None
        self.read_in = ""
        self._meta = meta
        self._fleet = fleet

    async def found(self, members: Members | None) -> bool:
        """A putter kept this list: what was decided is in force again, if Redis has forgotten it.

        Returns:
            Whether Redis had.

        Raises:
            PutterError: Redis does not answer.
        """
        if members is None or (self.newest is not None and members.stamp < self.newest.stamp):
            return False
        self.newest = members
        known = {decision.value for decision in Decision}
        told = {node: Decision(word) for node, word in members.decided.items() if word in known}
        if not told or not await self._meta.members.redeclare(told):
            return False
        _log.warning("what was decided of putters is in force again", decided=dict(members.decided))
        return True

    async def tell(self, epoch: str, nodes: Collection[str], without: Collection[str] = ()) -> None:
        """Have every connected putter keep the list of all, and what is decided of them.

        Args:
            epoch: the run of Redis.
            nodes: putters that belong to it, besides those that are connected. What is known here
                from before does not count: another process may have left some out since.
            without: putters that do not.

        Raises:
            PutterError: Redis or no putter took it.
        """
        up = tuple(sorted({link.node for link in self._fleet.up()}))
        if not up:
            raise NodesUnavailable("no putter is there to keep the list of members")
        old = self.newest.peers if self.newest is not None else ()
        addresses = {peer.node: peer.address for peer in old}
        addresses |= {link.node: f"{link.host}:{link.port}" for link in self._fleet.up()}
        listed = {*nodes, *(link.node for link in self._fleet.up())}.difference(without)
        peers = tuple(Peer(node, addresses.get(node, "?")) for node in sorted(listed))
        decided = await self._meta.members.decisions()
        words = {node: decided[node].value for node in sorted(decided)}
        members = Members(await self.stamp(epoch), peers, words)
        body = records.encode(members)
        parcel = RecordParcel("", members.stamp, body, up, Policy(len(up), 1), self._fleet)
        parcel.dispatch()
        try:
            async with asyncio.timeout(_CALL_MS / 1000):
                await parcel.counted
        except TimeoutError:
            parcel.abandon(NodesUnavailable("the putters did not take the list of members"))
            await parcel.counted
        self.newest = members

    async def stamp(self, epoch: str) -> int:
        """A stamp, without the detour over `router.numbers`, which may wait for us.

        Raises:
            MetadataUnavailable: Redis gives none.
        """
        answer = await self._meta.counters.lease(Kind.STAMPS, 1)
        if isinstance(answer, CeilingReached):
            higher = Ceilings(stamps=answer.wanted + STAMP_HORIZON_US)
            await keep(self._fleet.up(), answer.ceilings.highest(higher))
            await self._meta.counters.raise_to(epoch, answer.ceilings.highest(higher))
            answer = await self._meta.counters.lease(Kind.STAMPS, 1)
        if not isinstance(answer, Granted):
            raise MetadataUnavailable("Redis gives no stamp")
        return answer.first
