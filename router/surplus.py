"""Frees what putters hold too much, once those that shall hold it have proved that they do.

Whoever held something in the place of another one holds a surplus afterwards. It is freed when the
grace time is over and nobody reads it there. A description alone is no reason to free a copy: two
routers may have described an object differently, and a rebuild may have found the description whose
copies were given up. So the putters that it names are asked first, and what one of them lacks is
copied there before anything is freed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from common.errors import NodesUnavailable, PutterError
from common.logs import get_logger
from common.meta.interface import Metadata
from common.meta.repairs import Surplus
from common.metrics import Metrics
from common.records import Extent
from common.wire.inventory import Count, Counts
from router.belonging import Belonging
from router.fleet import Fleet
from router.janitor import portions
from router.links import NodeLink
from router.policies import Policies
from router.replicas import free

_log = get_logger(__name__)
_BATCH: Final = 128
_IDLE_PAGES: Final = 8
"""In a row of which nothing could be freed: the next round goes on behind them."""
_FREE_TICKETS_MAX: Final = 2_048
_COUNT_TICKETS_MAX: Final = 32_768
_CALL_MS: Final = 15_000
_DOUBT_S: Final = 60.0
"""After so long, somebody who lacked something is asked again."""
_DOUBTS_MAX: Final = 4_096

Damaged = Callable[[str, str, int, int], None]
"""Told of a putter that lacks tickets: node, ObjectID, first ticket, count."""


class Freeing:
    """One router's part in it.

    Args:
        meta: the coordinator.
        fleet: the putters.
        belonging: which of them are not waited for.
        policies: how many putters have to be there.
        metrics: counters.
        damaged: told of putters that do not hold what they should.
    """

    def __init__(
        self,
        meta: Metadata,
        fleet: Fleet,
        belonging: Belonging,
        policies: Policies,
        metrics: Metrics,
        damaged: Damaged,
    ) -> None:
        self._meta = meta
        self._fleet = fleet
        self._belonging = belonging
        self._policies = policies
        self._metrics = metrics
        self._damaged = damaged
        self._after = ""
        self._doubts: dict[str, float] = {}

    async def round(self, may_go_on: Callable[[], Awaitable[bool]]) -> int:
        """Free what can be freed; how many objects.

        Args:
            may_go_on: asked between two pages.

        Raises:
            PutterError: Redis does not answer.
        """
        now = asyncio.get_running_loop().time()
        self._doubts = {place: until for place, until in self._doubts.items() if until > now}
        done = idle = 0
        down = self._fleet.down()
        absent = down - self._belonging.strangers(down)
        while page := await self._meta.repairs.surplus(_BATCH, self._after, absent):
            freed = await asyncio.gather(*map(self._free, page))
            done += sum(freed)
            idle = 0 if any(freed) else idle + 1
            self._after = page[-1].place if len(page) == _BATCH else ""
            if not self._after or idle == _IDLE_PAGES or not await may_go_on():
                return done
        self._after = ""
        return done

    # -- inside ----------------------------------------------------------------------------

    async def _free(self, item: Surplus) -> bool:
        if self._belonging.strangers([item.node]):
            await self._meta.repairs.freed(item)
            return True
        link = self._fleet.link(item.node)
        if link is None or not link.up or item.place in self._doubts:
            return False
        objects = (item.object_id,) if item.whole else ()
        try:
            if not await self._is_proved(item):
                return False
            for part in portions(list(item.ranges), _FREE_TICKETS_MAX):
                await free(link, part, objects)
        except PutterError as error:
            _log.info("a surplus stays", node=item.node, reason=str(error))
            return False
        await self._meta.repairs.freed(item)
        self._metrics.surplus_freed.inc()
        return True

    async def _is_proved(self, item: Surplus) -> bool:
        """Whether enough of the putters that are named are there, and hold what they should.

        Raises:
            PutterError: one of them does not answer.
        """
        held: dict[str, list[Extent]] = {}
        given_up = self._fleet.given_up()
        policy = await self._policies.of(item.bucket)
        for extent in item.elsewhere:
            up = [node for node in extent.nodes if self._is_up(node)]
            hoped = sum(node not in given_up for node in extent.nodes)
            # A surplus that stays may be in the way of a copy to just this putter.
            if len(up) < max(1, min(hoped, policy.write_quorum)):
                return False
            for node in up:
                held.setdefault(node, []).append(extent)
        lacking = [
            (node, extent)
            for node, extents in held.items()
            for extent in await self._lacking(node, extents)
        ]
        for node, extent in lacking:
            _log.error("a putter lacks what it should hold", node=node, object=item.object_id)
            self._damaged(node, item.object_id, extent.first, extent.count)
        if lacking and len(self._doubts) < _DOUBTS_MAX:
            self._doubts[item.place] = asyncio.get_running_loop().time() + _DOUBT_S
        return not lacking

    async def _lacking(self, node: str, extents: Sequence[Extent]) -> list[Extent]:
        """Those of the extents that a putter does not hold all tickets of."""
        link = self._fleet.link(node)
        if link is None:
            raise NodesUnavailable(f"putter {node} is not connected")
        ranges = [(extent.first, extent.count) for extent in extents]
        if await held_of(link, ranges) == sum(extent.count for extent in extents):
            return []
        return [
            extent
            for extent in extents
            if await held_of(link, [(extent.first, extent.count)]) < extent.count
        ]

    def _is_up(self, node: str) -> bool:
        link = self._fleet.link(node)
        return link is not None and link.up


async def held_of(link: NodeLink, ranges: list[tuple[int, int]]) -> int:
    """How many tickets of ranges ``(first, count)`` a putter says it holds.

    Raises:
        PutterError: it does not answer.
    """
    held = 0
    for part in portions(ranges, _COUNT_TICKETS_MAX):
        if part:
            held += await _count(link, part)
    return held


async def verified_by(
    link: NodeLink, ranges: list[tuple[int, int]]
) -> tuple[int, list[int | None]]:
    """How many tickets of ranges a putter says it holds, and since when they are verified.

    Args:
        link: to the putter.
        ranges: ``(first, count)``.

    Returns:
        The tickets; and for each of the stretches in which they were asked for milliseconds since
        1970, 0 for one that was not verified since it was written, None if it cannot tell.

    Raises:
        PutterError: it does not answer.
    """
    held = 0
    since: list[int | None] = []
    for part in portions(ranges, _COUNT_TICKETS_MAX):
        if part:
            reply = await _ask(link, part, verified=True)
            held += sum(reply.counts)
            told = reply.verified_ms or (-1,) * len(part)
            since += [None if each < 0 else each for each in told]
    return held, since


async def _count(link: NodeLink, ranges: tuple[tuple[int, int], ...]) -> int:
    return sum((await _ask(link, ranges)).counts)


async def _ask(
    link: NodeLink, ranges: tuple[tuple[int, int], ...], *, verified: bool = False
) -> Counts:
    answers = await link.call(lambda request: Count(request, ranges, verified), timeout_ms=_CALL_MS)
    reply = answers[-1][0]
    if not isinstance(reply, Counts):
        raise NodesUnavailable(f"putter {link.node} does not count its tickets")
    return reply
