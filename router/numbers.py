"""Numbers that are never used twice: tickets, ObjectIDs, stamps.

They are leased from Redis below a ceiling that is durable on every live putter. When Redis is new
or restarted (its run id changed), `router.catchup` first sets the counters above the highest
ceiling that any putter reports; so a Redis that lost its last writes, or everything, never gives a
number again.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from common.errors import TicketsExhausted, Unavailable
from common.limits import (
    CEILING_STEPS,
    OBJECT_LEASE,
    STAMP_HORIZON_US,
    TICKET_LEASE,
)
from common.logs import get_logger
from common.meta.interface import (
    CeilingReached,
    Ceilings,
    Counters,
    EpochUnknown,
    Granted,
    Kind,
)
from common.metrics import Metrics
from common.tickets import TICKETS_MAX, format_id
from router.catchup import CatchUp
from router.ceilings import keep
from router.fleet import Fleet

_log = get_logger(__name__)
_ATTEMPTS_MAX: Final = 16
_WARN_AT: Final = 0.9


@dataclass
class _Range:
    next: int
    end: int


class Numbers:
    """This router's leases.

    Args:
        counters: of Redis.
        fleet: the putters that keep the ceilings.
        catch_up: establishes the counters in each run of Redis.
        metrics: counters.
        wait_nodes_ms: patience for a putter to keep a ceiling.
    """

    def __init__(
        self,
        counters: Counters,
        fleet: Fleet,
        catch_up: CatchUp,
        metrics: Metrics,
        wait_nodes_ms: int,
    ) -> None:
        self._counters = counters
        self._fleet = fleet
        self._catch_up = catch_up
        self._metrics = metrics
        self._wait_nodes_ms = wait_nodes_ms
        self._objects = _Range(0, 0)
        self._tickets = _Range(0, 0)
        self._spare: list[_Range] = []
        self._tickets_used = 0
        self._locks = {kind: asyncio.Lock() for kind in Kind}
        self._ceiling_lock = asyncio.Lock()

    @property
    def tickets_used(self) -> int:
        """Behind the highest ticket number that this router leased."""
        return self._tickets_used

    async def object_id(self) -> str:
        """A fresh ObjectID."""
        while self._objects.next >= self._objects.end:
            async with self._locks[Kind.OBJECTS]:
                if self._objects.next >= self._objects.end:
                    granted = await self._lease(Kind.OBJECTS, OBJECT_LEASE)
                    self._objects = _Range(granted.first, granted.first + granted.count)
        number = self._objects.next
        self._objects.next += 1
        return format_id(number)

    async def tickets(self, count: int) -> int:
        """``count`` consecutive tickets that were never used.

        Returns:
            The number of the first.

        Raises:
            TicketsExhausted: the last ticket was given out.
        """
        while True:
            first = self._take_spare(count)
            if first is not None:
                return first
            if self._tickets.end - self._tickets.next >= count:
                first = self._tickets.next
                self._tickets.next += count
                return first
            async with self._locks[Kind.TICKETS]:
                if self._tickets.end - self._tickets.next >= count:
                    continue
                granted = await self._lease(Kind.TICKETS, max(TICKET_LEASE, count))
                self._extend(granted)

    def give_back(self, first: int, count: int) -> None:
        """Tickets that were never sent to anybody may be used for another object."""
        if count > 0:
            self._spare.append(_Range(first, first + count))

    async def stamp(self) -> int:
        """A stamp above all that were given out before it was asked for."""
        return await self.stamps(1)

    async def stamps(self, count: int) -> int:
        """``count`` such stamps in a row; the first of them."""
        return (await self._lease(Kind.STAMPS, count)).first

    # -- inside ----------------------------------------------------------------------------

    def _take_spare(self, count: int) -> int | None:
        for index in range(len(self._spare) - 1, -1, -1):
            spare = self._spare[index]
            if spare.end - spare.next >= count:
                first = spare.next
                spare.next += count
                if spare.next == spare.end:
                    self._spare.pop(index)
                return first
        return None

    def _extend(self, granted: Granted) -> None:
        end = granted.first + granted.count
        if self._tickets.end == granted.first:
            self._tickets.end = end
        else:
            self.give_back(self._tickets.next, self._tickets.end - self._tickets.next)
            self._tickets = _Range(granted.first, end)
        self._tickets_used = max(self._tickets_used, end)
        self._metrics.tickets_used.set(self._tickets_used)
        if end > _WARN_AT * TICKETS_MAX:
            _log.warning("tickets are running out", used=end, of=TICKETS_MAX)

    async def _lease(self, kind: Kind, count: int) -> Granted:
        for _ in range(_ATTEMPTS_MAX):
            answer = await self._counters.lease(kind, count)
            match answer:
                case Granted():
                    if kind is Kind.TICKETS and answer.first + answer.count > TICKETS_MAX:
                        raise TicketsExhausted(
                            f"all {TICKETS_MAX} tickets were given out",
                            hint="start a new cluster and copy what is still needed",
                        )
                    return answer
                case EpochUnknown():
                    await self._fleet.wait_up(self._wait_nodes_ms)
                    await self._catch_up.ensure(self._wait_nodes_ms)
                case CeilingReached():
                    await self._lift(kind, answer)
        raise Unavailable(f"no {kind.value} could be leased in {_ATTEMPTS_MAX} tries")

    async def _lift(self, kind: Kind, answer: CeilingReached) -> None:
        async with self._ceiling_lock:
            target = answer.ceilings.highest(_above(kind, answer.wanted))
            await self._fleet.wait_up(self._wait_nodes_ms)
            await keep(self._fleet.up(), target)
            await self._counters.raise_to(answer.epoch, target)


def _above(kind: Kind, wanted: int) -> Ceilings:
    match kind:
        case Kind.TICKETS:
            return Ceilings(tickets=wanted + CEILING_STEPS * TICKET_LEASE)
        case Kind.OBJECTS:
            return Ceilings(objects=wanted + CEILING_STEPS * OBJECT_LEASE)
        case Kind.STAMPS:
            return Ceilings(stamps=wanted + STAMP_HORIZON_US)
