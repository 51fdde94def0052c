"""Numbers that are never used twice: tickets, ObjectIDs, stamps.

They are leased from Redis below a ceiling that is durable on every live putter. When Redis is new
or restarted (its run id changed), the counters are first set above the highest ceiling that any
putter reports; so a Redis that lost its last writes, or everything, never gives a number again.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from common.errors import NodesUnavailable, PutterError, TicketsExhausted, Unavailable
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
from common.wire.session import CeilingsReply, Raise
from router.fleet import Fleet

_log = get_logger(__name__)
_ATTEMPTS_MAX: Final = 16
_CALL_MS: Final = 10_000
_SETTLE_MS: Final = 2_000
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
        metrics: counters.
        wait_nodes_ms: patience for a putter to keep a ceiling.
    """

    def __init__(
        self, counters: Counters, fleet: Fleet, metrics: Metrics, wait_nodes_ms: int
    ) -> None:
        self._counters = counters
        self._fleet = fleet
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
                    await self._establish(answer)
                case CeilingReached():
                    await self._lift(kind, answer)
        raise Unavailable(f"no {kind.value} could be leased in {_ATTEMPTS_MAX} tries")

    async def _establish(self, answer: EpochUnknown) -> None:
        async with self._ceiling_lock:
            await self._fleet.wait_up(self._wait_nodes_ms)
            await self._until_all_connected()
            floor = await self._on_putters(Ceilings())
            if await self._counters.establish(answer.epoch, floor):
                _log.info(
                    "counters established",
                    tickets=floor.tickets,
                    objects=floor.objects,
                    stamps=floor.stamps,
                )

    async def _lift(self, kind: Kind, answer: CeilingReached) -> None:
        async with self._ceiling_lock:
            target = answer.ceilings.highest(_above(kind, answer.wanted))
            await self._fleet.wait_up(self._wait_nodes_ms)
            await self._on_putters(target)
            await self._counters.raise_to(answer.epoch, target)

    async def _until_all_connected(self) -> None:
        """Those that gave a sign of life are given a moment to connect."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _SETTLE_MS / 1000
        while len(self._fleet.up()) < self._fleet.expected() and loop.time() < deadline:
            await asyncio.sleep(0.02)

    async def _on_putters(self, ceilings: Ceilings) -> Ceilings:
        """Make ceilings durable on every live putter.

        Returns:
            The highest that any of them reports.

        Raises:
            NodesUnavailable: none of them did.
        """
        links = self._fleet.up()
        answers = await asyncio.gather(
            *(
                link.call(lambda request: Raise(request, ceilings), timeout_ms=_CALL_MS)
                for link in links
            ),
            return_exceptions=True,
        )
        highest = Ceilings()
        kept = 0
        reasons: list[str] = []
        for link, answer in zip(links, answers, strict=True):
            if isinstance(answer, PutterError):
                reasons.append(f"{link.node}: {answer}")
                continue
            if isinstance(answer, BaseException):
                raise answer
            reply = answer[-1][0]
            if isinstance(reply, CeilingsReply) and reply.status == 0:
                kept += 1
                highest = highest.highest(reply.ceilings)
            else:
                reasons.append(f"{link.node}: refused")
        if reasons:
            _log.warning("not every putter keeps the ceilings", reasons=reasons)
        if kept == 0:
            raise NodesUnavailable(f"no putter keeps the ceilings: {'; '.join(reasons)}")
        return highest


def _above(kind: Kind, wanted: int) -> Ceilings:
    match kind:
        case Kind.TICKETS:
            return Ceilings(tickets=wanted + CEILING_STEPS * TICKET_LEASE)
        case Kind.OBJECTS:
            return Ceilings(objects=wanted + CEILING_STEPS * OBJECT_LEASE)
        case Kind.STAMPS:
            return Ceilings(stamps=wanted + STAMP_HORIZON_US)
