"""Finds tickets that nobody knows of, and frees them.

The janitor frees what Redis remembers. When Redis loses its last seconds, or everything, it also
loses the uploads that had no commit record yet: nobody would ever free their tickets. So one router
at a time walks through what every putter holds, and asks Redis whose objects those are.

What is freed must not be anybody's. An object is announced in Redis before a byte of it travels, so
what a complete Redis does not know is no upload under way. Beyond that, an object is freed only

* if Redis did not know it at two looks, some time apart, and lost nothing in between;
* if every putter that ever belonged to the cluster was there, with all its records applied;
* if none of them has a commit record of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Final

from common.errors import NodesUnavailable
from common.limits import OBJECT_LEASE_MS
from common.logs import get_logger
from common.meta.interface import Metadata
from common.meta.recovery import Standing
from common.metrics import Metrics
from common.wire.inventory import HoldingList, ListHoldings
from common.wire.session import FindRecord, RecordReply
from router.fleet import Fleet
from router.janitor import portions
from router.links import NodeLink
from router.replicas import free
from router.rounds import Rounds

_log = get_logger(__name__)
_LEASE: Final = "sweep"
_LEASE_MS: Final = 300_000
_LOOK_S: Final = 60.0
"""Between two looks whether it is time for a walk."""
_AGE_S: Final = 4 * OBJECT_LEASE_MS / 1000
"""Between the two walks that an object is missed in."""
_PAGE_RUNS: Final = 1_000
_PAUSE_S: Final = 0.02
"""Between two pages: a walk must not be felt."""
_CALL_MS: Final = 15_000
_SUSPECTS_MAX: Final = 50_000
_ASKED_AT_ONCE: Final = 32
_FREED_AT_ONCE: Final = 256
_FREE_TICKETS_MAX: Final = 2_048

Ranges = list[tuple[int, int]]


class Sweep:
    """One router's part in it; the one that holds the lease works.

    Args:
        meta: the coordinator.
        fleet: the putters.
        metrics: counters.
        instance: of this router.
        period_ms: time between two walks while Redis loses nothing; 0: never.
    """

    def __init__(
        self, meta: Metadata, fleet: Fleet, metrics: Metrics, instance: str, period_ms: int
    ) -> None:
        self._meta = meta
        self._fleet = fleet
        self._metrics = metrics
        self._instance = instance
        self._period_s = period_ms / 1000
        self._completion = "", 0
        self._suspects: frozenset[str] = frozenset()
        self._walked_at = 0.0
        self._rounds = Rounds(
            self.round, min(_LOOK_S, period_ms / 1000), "the walk for what nobody knows of"
        )

    def start(self) -> None:
        """Begin."""
        self._rounds.start()

    async def stop(self) -> None:
        """End; the lease runs out by itself."""
        await self._rounds.stop()

    async def round(self) -> int:
        """Walk, if it is time and no other router does it.

        Returns:
            How many objects were freed.

        Raises:
            PutterError: Redis or a putter does not answer; the next round begins anew.
        """
        standing = await self._meta.recovery.standing()
        if not self._is_time(standing) or not self._all_there(standing):
            return 0
        if not await self._meta.leases.acquire(_LEASE, self._instance, _LEASE_MS):
            return 0
        if standing.completion != self._completion:
            self._completion, self._suspects = standing.completion, frozenset()
        suspects, self._suspects = self._suspects, frozenset()
        missed: set[str] = set()
        doomed: dict[NodeLink, dict[str, Ranges]] = {}
        for link in self._fleet.up():
            mine = doomed.setdefault(link, {})
            async for page in self._pages(link):
                absent = await self._meta.recovery.absent([owner for _, _, owner in page])
                for first, count, owner in page:
                    if owner in absent and owner in suspects:
                        mine.setdefault(owner, []).append((first, count))
                    elif owner in absent and len(missed) < _SUSPECTS_MAX:
                        missed.add(owner)
                await asyncio.sleep(_PAUSE_S)
        after = await self._meta.recovery.standing()
        if after.completion != standing.completion or not self._all_there(after):
            return 0
        freed = await self._free(doomed, suspects)
        self._suspects = frozenset(missed - suspects)
        self._walked_at = asyncio.get_running_loop().time()
        return freed

    # -- inside ----------------------------------------------------------------------------

    def _is_time(self, standing: Standing) -> bool:
        """Soon after Redis was brought up to date, again while it suspects, then now and then."""
        if not standing.complete:
            return False
        waited = asyncio.get_running_loop().time() - self._walked_at
        if standing.completion != self._completion:
            return True
        return waited >= (min(_AGE_S, self._period_s) if self._suspects else self._period_s)

    def _all_there(self, standing: Standing) -> bool:
        """Whether every putter is connected, and all its records from before are applied."""
        there = {link.node for link in self._fleet.up()}
        applied = {node for node, mark in standing.marks.items() if mark.epoch == standing.epoch}
        return bool(there) and there == applied == set(standing.marks)

    async def _pages(self, link: NodeLink) -> AsyncIterator[tuple[tuple[int, int, str], ...]]:
        """What a putter holds."""
        cursor, begun = "", False
        while cursor or not begun:
            begun, at = True, cursor
            answers = await link.call(
                lambda request: ListHoldings(request, at, _PAGE_RUNS),  # noqa: B023 - called at once
                timeout_ms=_CALL_MS,
            )
            reply = answers[-1][0]
            if not isinstance(reply, HoldingList):
                raise NodesUnavailable(f"putter {link.node} does not tell what it holds")
            cursor = reply.cursor
            yield reply.holdings

    async def _free(
        self, doomed: dict[NodeLink, dict[str, Ranges]], suspects: frozenset[str]
    ) -> int:
        owners = sorted({owner for mine in doomed.values() for owner in mine} & suspects)
        if not owners:
            return 0
        recorded = await self._with_record(owners)
        lost = sorted(set(owners) - recorded)
        if recorded:
            _log.warning(
                "objects with a commit record that Redis does not know stay",
                count=len(recorded),
                some=sorted(recorded)[:5],
            )
        tickets = 0
        for link, mine in doomed.items():
            ours = [owner for owner in lost if owner in mine]
            for at in range(0, len(ours), _FREED_AT_ONCE):
                batch = ours[at : at + _FREED_AT_ONCE]
                ranges = [span for owner in batch for span in mine[owner]]
                for part in portions(ranges, _FREE_TICKETS_MAX):
                    await free(link, part, tuple(batch))
                tickets += sum(count for _, count in ranges)
        if lost:
            self._metrics.orphans_freed.inc(len(lost))
            _log.info(
                "freed what nobody knew of", objects=len(lost), tickets=tickets, some=lost[:5]
            )
        return len(lost)

    async def _with_record(self, owners: Iterable[str]) -> set[str]:
        """Those of the objects that some putter has a commit record of."""
        names = list(owners)
        found: set[str] = set()

        async def ask(link: NodeLink, owner: str) -> None:
            answers = await link.call(
                lambda request: FindRecord(request, owner), timeout_ms=_CALL_MS
            )
            reply = answers[-1][0]
            if not isinstance(reply, RecordReply) or reply.found:
                found.add(owner)

        for link in self._fleet.up():
            for at in range(0, len(names), _ASKED_AT_ONCE):
                await asyncio.gather(*(ask(link, each) for each in names[at : at + _ASKED_AT_ONCE]))
        return found
