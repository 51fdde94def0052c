"""Fills putters that hold less than their share from those that hold more.

One router at a time looks how unevenly the bytes are spread (`router.balance`). It notes what has
to move as debts to the putters that hold too little, with those that hold too much as stand-ins;
paying them, and freeing what moved, is the business of `router.repair`. It notes a portion, and the
next one when that is paid: what is really missing somewhere never waits behind all that moves. What
was noted is in Redis, so any router goes on with it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from common.limits import MIB
from common.logs import get_logger
from common.membership import State
from common.meta.interface import Metadata
from common.metrics import Metrics
from common.records import Version
from router.balance import Disk, Moves, settled, shares, uneven
from router.debts import with_extents
from router.fleet import Fleet
from router.leasing import KeptLease
from router.repair import Repair
from router.rounds import Rounds
from router.walk import START, Place, pages, redescribe

_log = get_logger(__name__)
_LEASE: Final = "rebalance"
_LEASE_MS: Final = 60_000
_ROUND_S: Final = 5.0
_LOOK_S: Final = 600.0
"""Between two looks at everything, while the same putters are there."""
_LOOK_SHARE: Final = 20
"""So many times as long as a look takes, it is not made again."""
_SETTLED_S: Final = 15.0
"""The same putters have to be there for so long."""
_LEAST_BYTES: Final = 64 * MIB
_PORTION_BYTES: Final = 4096 * MIB
_PORTION_NAMES: Final = 20_000
_TAKERS: Final = frozenset({State.LIVE, State.JOINING})


@dataclass(frozen=True)
class Balance:
    """What the last look found.

    Attributes:
        held: data bytes by putter, once everything that is owed is paid.
        shares: data bytes that it should hold.
        uneven_bytes: how much was on putters that held too much; 0 if none was far off its share.
        left_bytes: how much of it is not noted yet.
    """

    held: Mapping[str, int]
    shares: Mapping[str, int]
    uneven_bytes: int
    left_bytes: int


class Rebalance:
    """One router's part in it; the one that holds the lease does it.

    Args:
        meta: the coordinator.
        fleet: the putters.
        repair: pays what is noted.
        metrics: gauges.
        instance: of this router.
        percent: of its share that a putter may be off; 0: nothing is ever moved.
        replace_after_ms: absence after which a putter is not expected back; 0: never.
        least_bytes: by how much a putter may be off in any case.
    """

    def __init__(
        self,
        meta: Metadata,
        fleet: Fleet,
        repair: Repair,
        metrics: Metrics,
        instance: str,
        percent: int,
        replace_after_ms: int,
        least_bytes: int = _LEAST_BYTES,
    ) -> None:
        self._meta = meta
        self._fleet = fleet
        self._repair = repair
        self._metrics = metrics
        self._instance = instance
        self._tolerance = percent / 100
        self._replace_after_ms = replace_after_ms
        self._least_bytes = least_bytes
        self._balance: Balance | None = None
        self._moves: Moves | None = None
        self._place = START
        self._there: frozenset[str] = frozenset()
        self._same_since = 0.0
        self._looked: frozenset[str] = frozenset()
        self._look_at = 0.0
        self._lease = KeptLease(meta, _LEASE, instance, _LEASE_MS)
        self._rounds = Rounds(self.round, _ROUND_S if percent else 0, "evening out putters")

    @property
    def balance(self) -> Balance | None:
        """What the last look found; None on a router that has not looked lately."""
        if self._balance is None or self._moves is None:
            return self._balance
        left = round(self._moves.left_bytes)
        balance = self._balance
        return Balance(balance.held, balance.shares, balance.uneven_bytes, left)

    def start(self) -> None:
        """Begin."""
        self._rounds.start()

    async def stop(self) -> None:
        """End; the lease runs out by itself."""
        await self._rounds.stop()

    async def round(self) -> int:
        """Look if it is time, or note the next portion of what moves.

        Returns:
            How many names were found to move.

        Raises:
            PutterError: Redis does not answer.
        """
        if not await self._lease.held():
            self._balance = self._moves = None
            return 0
        now = asyncio.get_running_loop().time()
        there = self._putters()
        if there != self._there:
            self._there, self._same_since = there, now
            self._moves = None  # what is noted stays; the rest is found again
        if now - self._same_since < _SETTLED_S:
            return 0
        if self._moves is None:
            if there == self._looked and now < self._look_at:
                return 0
            await self._look(there)
        return await self._note_portion()

    # -- inside ----------------------------------------------------------------------------

    def _putters(self) -> frozenset[str]:
        """Those that bytes may be moved between now."""
        leaving = self._fleet.leaving(self._replace_after_ms)
        return frozenset(
            view.node
            for view in self._fleet.views()
            if view.link == "up" and view.state in _TAKERS and view.node not in leaving
        )

    async def _look(self, there: frozenset[str]) -> None:
        """Count what every putter holds, and decide whether something should move."""
        clock = asyncio.get_running_loop()
        begun = clock.time()
        held: Counter[str] = Counter()
        one_copy = 0
        async with aclosing(pages(self._meta)) as everything:
            async for _, page in everything:
                if not await self._lease.held():
                    return
                for each in page:
                    for stored in each.version.objects:
                        one_copy += stored.size
                        for extent in stored.extents:
                            held.update(dict.fromkeys(settled(extent), extent.size))
        disks = self._disks(held, there)
        wanted = shares(disks, one_copy)
        amount = uneven(disks, wanted, self._tolerance, self._least_bytes)
        self._metrics.uneven_bytes.set(amount)
        self._looked = there
        self._look_at = clock.time() + max(_LOOK_S, _LOOK_SHARE * (clock.time() - begun))
        self._balance = Balance(
            {disk.node: disk.held_bytes for disk in disks},
            {node: round(share) for node, share in wanted.items()},
            amount,
            0,
        )
        if amount:
            self._moves, self._place = Moves(disks, wanted), START
            _log.info("putters are evened out", bytes=round(self._moves.left_bytes))

    def _disks(self, held: Mapping[str, int], there: frozenset[str]) -> list[Disk]:
        """All putters that are expected to hold something in the long run."""
        leaving = self._fleet.leaving(self._replace_after_ms)
        found = {}
        for view in self._fleet.views():
            member = view.member
            if member is None or member.capacity_bytes == 0 or view.node in leaving:
                continue
            found[view.node] = Disk(
                view.node, held[view.node], member.free_bytes, member.zone, view.node in there
            )
        return [found[node] for node in sorted(found)]

    async def _note_portion(self) -> int:
        """Note so much of what moves that repair has work for a while, unless it has."""
        moves = self._moves
        if moves is None:
            return 0
        refills = self._repair.refills()
        if any(
            refills[node].debt.objects > len(refills[node].stuck)
            for node in moves.takers & refills.keys()
        ):
            return 0
        portion = _Portion(moves, moves.left_bytes - _PORTION_BYTES)
        async with aclosing(pages(self._meta, self._place)) as rest:
            async for place, page in rest:
                if not await self._lease.held():
                    return portion.names
                changed = [(each, portion.take(each.version)) for each in page]
                await asyncio.gather(
                    *(redescribe(self._meta, each, version) for each, version in changed)
                )
                if moves.left_bytes < 1:
                    self._end()
                    break
                if portion.full:
                    break  # what is left of this page comes with the next portion
                self._place = place
            else:
                self._end()
        return portion.names

    def _end(self) -> None:
        """Everything was noted, or nothing fits."""
        balance = self.balance
        self._balance, self._moves, self._place = balance, None, Place()


class _Portion:
    """What is noted at once.

    Args:
        moves: decides what moves.
        until: bytes that may be left to be moved when it is full.
    """

    def __init__(self, moves: Moves, until: float) -> None:
        self.moves = moves
        self.names = 0
        self._until = until

    @property
    def full(self) -> bool:
        """Whether nothing more is noted with it."""
        return self.moves.left_bytes <= self._until or self.names >= _PORTION_NAMES

    def take(self, version: Version) -> Version:
        """The version with what moves of it noted in its extents."""
        name = f"{version.bucket}/{version.key}"
        changed = with_extents(
            version, lambda extent: extent if self.full else self.moves.move(name, extent)
        )
        self.names += changed != version
        return changed
