"""Lets the files that are there already follow a store that wants more replicas than before.

How many replicas a file has where its bucket says nothing is a setting of the routers. When they
are started with a larger number, files that were written before owe the missing copies to anybody.
One router at a time walks through all names: once when all routers that live tell the same number,
once more when nothing can be published any more that was described by a smaller one, and once a day
for what was published later still, by a janitor. It notes debts in Redis alone, a portion at a time
and the next one when that is paid; paying them is the business of `router.repair`.

Fewer is never made of it: a router that was started with the wrong number by mistake would take
copies away. `router.follow` does that for a bucket, where somebody has said so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from typing import Final

import msgspec

from common.limits import MIB
from common.logs import get_logger
from common.membership import State
from common.meta.interface import Metadata
from common.meta.repairs import Described
from common.records import ANYONE
from router.debts import more_wanted, with_extents
from router.leasing import KeptLease
from router.policies import Policies, settled_s
from router.repair import Repair
from router.rounds import Rounds
from router.walk import START, pages, redescribe

_log = get_logger(__name__)
_LEASE: Final = "follow/store"
_LEASE_MS: Final = 60_000
_LOOK_S: Final = 5.0
_AGAIN_S: Final = 60.0
"""Until the next walk, if some files changed under the last one."""
_DAY_S: Final = 86_400.0
_PORTION_BYTES: Final = 4096 * MIB
_PORTION_NAMES: Final = 20_000
_STUCK_S: Final = 60.0
"""What repair has not become less of for so long is in nobody's way."""
_OWED_MAX: Final = 100_000
"""Objects; while anybody is owed more, nothing is added, paid or not: Redis has to hold it."""
_SILENT: Final = frozenset({State.DOWN, State.GONE})


class StoreFollow:
    """One router's part in it; the one that holds the lease walks.

    Args:
        meta: the coordinator.
        policies: how many replicas are wanted.
        repair: pays what is noted.
        instance: of this router.
        timeout_ms: how long a step of a write may stand still.
    """

    def __init__(
        self,
        meta: Metadata,
        policies: Policies,
        repair: Repair,
        instance: str,
        timeout_ms: int,
    ) -> None:
        self._meta = meta
        self._policies = policies
        self._repair = repair
        self._instance = instance
        self._settled_s = settled_s(timeout_ms)
        self._completion: tuple[str, int] | None = None  # of Redis, since when this router walks
        self._settled_at = 0.0
        self._walk_at = 0.0
        self._place = START
        self._names = 0
        self._whole = True
        self._owed = 0
        self._paid_at = 0.0
        self._lease = KeptLease(meta, _LEASE, instance, _LEASE_MS)
        self._rounds = Rounds(self.round, _LOOK_S, "following the store's settings")

    def start(self) -> None:
        """Begin."""
        self._rounds.start()

    async def stop(self) -> None:
        """End; the lease runs out by itself."""
        await self._rounds.stop()

    async def round(self) -> int:
        """Look whether it is time to walk, and note the next portion.

        Returns:
            How many names were found to want more replicas.

        Raises:
            PutterError: Redis does not answer.
        """
        if self._policies.store.replicas == 1:
            return 0  # nothing has fewer
        if not await self._lease.held():
            self._completion = None
            return 0
        standing = await self._meta.recovery.standing()
        if not standing.complete or not await self._is_agreed():
            self._completion = None
            return 0
        now = asyncio.get_running_loop().time()
        if standing.completion != self._completion:  # what was noted before may be forgotten
            self._completion = standing.completion
            self._walk_at, self._settled_at = now, now + self._settled_s
            self._paid_at = now  # as far as is known here
            self._begin()
        if now < self._walk_at or self._has_work(now):
            return 0
        return await self._note_portion()

    # -- inside ----------------------------------------------------------------------------

    async def _is_agreed(self) -> bool:
        """Whether all routers that live want the same: they are started one after the other."""
        seen = [each for each in await self._meta.members.seen() if each.member.role == "router"]
        told = {each.member.replicas for each in seen if each.state not in _SILENT}
        return told == {self._policies.store.replicas}

    def _has_work(self, now: float) -> bool:
        """Whether repair is still at what was noted, or has too much of what cannot be paid."""
        refill = self._repair.refills().get(ANYONE)
        owed = refill.debt.objects if refill is not None else 0
        if owed < self._owed:
            self._paid_at = now
        self._owed = owed
        return owed > _OWED_MAX or (owed > 0 and now - self._paid_at < _STUCK_S)

    def _begin(self) -> None:
        self._place, self._names, self._whole = START, 0, True

    async def _note_portion(self) -> int:
        """Walk on until so much is noted that repair has work for a while."""
        names = size = 0
        async with aclosing(pages(self._meta, self._place)) as rest:
            async for place, page in rest:
                if not await self._lease.held():
                    return names
                wanted = (await self._policies.of(place.bucket)).replicas
                low = [each for each in page if each.version.replicas < wanted]
                await self._note(low, wanted)
                names += len(low)
                size += sum(each.version.size for each in low)
                self._place = place
                if names >= _PORTION_NAMES or size >= _PORTION_BYTES:
                    self._names += names
                    self._paid_at = asyncio.get_running_loop().time()
                    return names
        self._names += names
        self._end()
        return names

    async def _note(self, low: Sequence[Described], wanted: int) -> None:
        changed = []
        for each in low:
            more = with_extents(each.version, lambda extent: more_wanted(extent, wanted))
            changed.append(msgspec.structs.replace(more, replicas=wanted))
        done = await asyncio.gather(
            *(redescribe(self._meta, *pair) for pair in zip(low, changed, strict=True))
        )
        self._whole = self._whole and all(done)

    def _end(self) -> None:
        """A walk has come to its end; say when the next one begins."""
        now = asyncio.get_running_loop().time()
        if self._names:
            _log.info(
                "files follow the store's number of replicas",
                replicas=self._policies.store.replicas,
                files=self._names,
            )
        if not self._whole:
            self._walk_at = now + _AGAIN_S
        else:
            self._walk_at = self._settled_at if now < self._settled_at else now + _DAY_S
        self._begin()
