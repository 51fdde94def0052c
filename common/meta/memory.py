"""The coordinator in memory: the twin of Redis for tests and for the seeded simulation.

The same semantics, written a second time in the plainest way, with a clock that may stand still
and nothing random. On top of the interface it can suffer what a Redis can suffer: be away, lose
answers, lose its last seconds, lose everything, start anew.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from common.clock import Clock
from common.errors import MetadataUnavailable, Unavailable
from common.meta.interface import (
    CeilingReached,
    Ceilings,
    EpochUnknown,
    Granted,
    Kind,
)
from common.meta.memory_access import MemoryAccess
from common.meta.memory_announcements import MemoryAnnouncements
from common.meta.memory_buckets import MemoryBuckets
from common.meta.memory_claims import MemoryClaims
from common.meta.memory_handoff import MemoryHandOff
from common.meta.memory_members import MemoryMembers
from common.meta.memory_outbox import MemoryOutbox
from common.meta.memory_recovery import MemoryRecovery
from common.meta.memory_repairs import MemoryRepairs
from common.meta.memory_state import State, Times
from common.meta.memory_tables import MemoryFiles, MemoryObjects
from common.meta.memory_versions import MemoryVersions
from common.meta.repairs import REACH_MS

T = TypeVar("T")

GRACE_MS_DEFAULT: Final = 60_000
TOMBSTONE_MS_DEFAULT: Final = 24 * 60 * 60 * 1000


class MemoryMetadata:
    """`common.meta.interface.Metadata` without a server.

    Args:
        clock: the coordinator's clock.
        epoch: its run; counters must be established in it before they lease. In this first one
            it is complete; in those that follow, others have to see to that.
        grace_ms: how long the bytes of a deleted or failed object are kept at least.
        tombstone_ms: how long it is remembered that a name was deleted.
        reach_ms: how long what a putter was sent is kept there, until a description says so.
        travel: awaited before and after the effect of every call: a simulation delays there. The
            default gives way to other tasks once.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        epoch: str = "memory",
        grace_ms: int = GRACE_MS_DEFAULT,
        tombstone_ms: int = TOMBSTONE_MS_DEFAULT,
        reach_ms: int = REACH_MS,
        travel: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._clock = clock
        self._epoch = epoch
        self._travel = travel or _give_way
        self._state = State(complete=epoch)
        self._away_until_ms = 0
        self._answers_to_lose = 0
        times = Times(clock, grace_ms, tombstone_ms, reach_ms)
        self._counters = MemoryCounters(self)
        served = _Served(self)
        self._objects = MemoryObjects(served, times)
        self._files = MemoryFiles(served, times)
        self._announcements = MemoryAnnouncements(served, times)
        self._buckets = MemoryBuckets(served)
        self._versions = MemoryVersions(served)
        self._access = MemoryAccess(served)
        self._claims = MemoryClaims(served, times)
        self._repairs = MemoryRepairs(served, times)
        self._handoff = MemoryHandOff(served)
        self._outbox = MemoryOutbox(served)
        self._members = MemoryMembers(self)
        self._leases = MemoryLeases(self)
        self._recovery = MemoryRecovery(self, times)
        self.lapses = 0
        """How often a call failed because it is away, lost an answer, or is not complete."""
        self.down = False
        """While true, every call raises `MetadataUnavailable`."""

    @property
    def counters(self) -> MemoryCounters:
        """Numbers."""
        return self._counters

    @property
    def objects(self) -> MemoryObjects:
        """Objects."""
        return self._objects

    @property
    def announcements(self) -> MemoryAnnouncements:
        """Objects that may come."""
        return self._announcements

    @property
    def files(self) -> MemoryFiles:
        """Names."""
        return self._files

    @property
    def buckets(self) -> MemoryBuckets:
        """Buckets and their settings."""
        return self._buckets

    @property
    def versions(self) -> MemoryVersions:
        """Versions of names."""
        return self._versions

    @property
    def access(self) -> MemoryAccess:
        """Access keys."""
        return self._access

    @property
    def claims(self) -> MemoryClaims:
        """Names that conditional writes claim."""
        return self._claims

    @property
    def repairs(self) -> MemoryRepairs:
        """What putters lack, and what they hold too much."""
        return self._repairs

    @property
    def handoff(self) -> MemoryHandOff:
        """Records that putters missed."""
        return self._handoff

    @property
    def outbox(self) -> MemoryOutbox:
        """Events that wait."""
        return self._outbox

    @property
    def members(self) -> MemoryMembers:
        """Members."""
        return self._members

    @property
    def leases(self) -> MemoryLeases:
        """Leases."""
        return self._leases

    @property
    def recovery(self) -> MemoryRecovery:
        """Bringing it up to date."""
        return self._recovery

    async def ping(self) -> None:
        """Return when the coordinator answers."""
        await self.visit(lambda _: None)

    async def close(self) -> None:
        """Nothing to close."""

    @property
    def clock(self) -> Clock:
        """The coordinator's clock."""
        return self._clock

    @property
    def epoch(self) -> str:
        """The present run."""
        return self._epoch

    async def visit(self, effect: Callable[[State], T]) -> T:
        """One call: the way there, the effect in one piece, the way back.

        Raises:
            MetadataUnavailable: it is away, or the answer got lost.
        """
        try:
            return await self._visit(effect)
        except Unavailable:
            self.lapses += 1
            raise

    async def _visit(self, effect: Callable[[State], T]) -> T:
        await self._travel()
        if self.down or self._clock.monotonic_ms() < self._away_until_ms:
            raise MetadataUnavailable("the coordinator in memory is away")
        result = effect(self._state)
        await self._travel()
        if self._answers_to_lose:
            self._answers_to_lose -= 1
            raise MetadataUnavailable("the coordinator in memory did it, but its answer got lost")
        return result

    def fail_for(self, ms: int) -> None:
        """Be away for some time, by the clock."""
        self._away_until_ms = self._clock.monotonic_ms() + ms

    def lose_answers(self, count: int) -> None:
        """Do what the next ``count`` calls ask for, but answer with an error."""
        self._answers_to_lose = count

    def restart(self, epoch: str) -> None:
        """A new run that kept everything."""
        self._epoch = epoch

    def snapshot(self) -> State:
        """Everything, for `restore`."""
        return copy.deepcopy(self._state)

    def restore(self, snapshot: State, epoch: str) -> None:
        """A new run that lost whatever came after the snapshot."""
        self._state = copy.deepcopy(snapshot)
        self._epoch = epoch

    def wipe(self, epoch: str | None = None) -> None:
        """Lose everything, in the same run (FLUSHALL) or a new one."""
        self._state = State()
        self._epoch = epoch or self._epoch


class MemoryCounters:
    """`common.meta.interface.Counters` in memory."""

    def __init__(self, store: MemoryMetadata) -> None:
        self._store = store

    async def lease(self, kind: Kind, count: int) -> Granted | CeilingReached | EpochUnknown:
        """Take ``count`` ≥ 1 consecutive numbers."""
        if count < 1:
            raise ValueError(f"a lease has at least one number, not {count}")
        return await self._store.visit(lambda state: self._lease(state, kind, count))

    async def raise_to(self, epoch: str, ceilings: Ceilings) -> bool:
        """Lift the ceilings (never lowers one). False if the epoch is not the established one."""

        def effect(state: State) -> bool:
            if epoch != self._store.epoch or state.epoch != epoch:
                return False
            state.ceilings = state.ceilings.highest(ceilings)
            return True

        return await self._store.visit(effect)

    async def establish(self, epoch: str, floor: Ceilings) -> bool:
        """Lift counters and ceilings to the floor and accept the epoch, if it is the present."""

        def effect(state: State) -> bool:
            if epoch != self._store.epoch:
                return False
            state.next = state.next.highest(floor)
            state.ceilings = state.ceilings.highest(floor)
            state.epoch = epoch
            return True

        return await self._store.visit(effect)

    def _lease(
        self, state: State, kind: Kind, count: int
    ) -> Granted | CeilingReached | EpochUnknown:
        epoch = self._store.epoch
        if state.epoch != epoch:
            return EpochUnknown(epoch)
        first = state.next.of(kind)
        if kind is Kind.STAMPS:
            first = max(first, self._store.clock.now_ms() * 1000)
        wanted = first + count
        if wanted > state.ceilings.of(kind):
            return CeilingReached(epoch, wanted, state.ceilings)
        state.next = state.next.highest(Ceilings(**{kind.value: wanted}))
        return Granted(first, count)


class MemoryLeases:
    """`common.meta.interface.Leases` in memory."""

    def __init__(self, store: MemoryMetadata) -> None:
        self._store = store

    async def acquire(self, name: str, holder: str, ttl_ms: int) -> bool:
        """Take or extend the lease; False while somebody else holds it."""

        def effect(state: State) -> bool:
            now_ms = self._store.clock.now_ms()
            owner, until_ms = state.leases.get(name, (holder, 0))
            if owner != holder and until_ms > now_ms:
                return False
            state.leases[name] = (holder, now_ms + ttl_ms)
            return True

        return await self._store.visit(effect)

    async def release(self, name: str, holder: str) -> None:
        """Give it back if it is held by ``holder``."""

        def effect(state: State) -> None:
            if state.leases.get(name, ("", 0))[0] == holder:
                del state.leases[name]

        await self._store.visit(effect)


class _Served:
    """The store as objects and files see it: it answers only while it is complete."""

    def __init__(self, store: MemoryMetadata) -> None:
        self._store = store

    async def visit(self, effect: Callable[[State], T]) -> T:
        """One call; see `MemoryMetadata.visit`."""

        def guarded(state: State) -> T:
            self._store.recovery.check(state)
            return effect(state)

        return await self._store.visit(guarded)


async def _give_way() -> None:
    await asyncio.sleep(0)
