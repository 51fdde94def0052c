"""Brings events that wait to their targets: at least once, in order for each file.

```
outbox of a bucket ── one router, under a lease ──► target
     ▲                        │ not taken: wait, twice as long each time
     └──── stays until ◄──────┘
```

Events come into the outbox in the same step as their change (`common.meta.outbox`), and leave it
once their target has them. A router that dies in between, or loses the lease while it sends, makes
another one send some again. What waits for one target does not hold up another one.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from common.clock import Clock
from common.errors import PutterError
from common.event_targets import EventTarget
from common.logs import get_logger
from common.meta.interface import Metadata
from common.meta.outbox import Queue, Waiting
from common.metrics import Metrics
from common.wire.handshake import Identity
from router.buckets import created
from router.event_messages import Message, message
from router.event_senders import Sender, sender_to
from router.events import read_event
from router.leasing import KeptLease
from router.rounds import Rounds

_log = get_logger(__name__)
_LEASE: Final = "events"
_LEASE_MS: Final = 6_000
_LOOK_S: Final = 0.5
_LOOK_SHARE: Final = 20
"""A look takes at most this part of the time: with many buckets there is one less often."""
_LOOK_S_MAX: Final = 10.0
"""But at least as often as this: one may have taken long because Redis was away."""
_BATCH: Final = 100
_QUEUES_MAX: Final = 64
"""So many are delivered at the same time."""
RETRY_MS_MIN: Final = 250
RETRY_MS_MAX: Final = 60_000


Make = Callable[[EventTarget, Metadata, str], Sender]


class Address(NamedTuple):
    """A queue: the events of a bucket for a target."""

    bucket: str
    target: str


@dataclass(frozen=True)
class Trouble:
    """Why a queue does not move.

    Attributes:
        reason: of the last failure.
        failures: how many there were, one after the other.
        again_ms: when it is tried again, by the monotonic clock.
    """

    reason: str
    failures: int
    again_ms: int


class Delivery:
    """One router's part in it; the one that holds the lease delivers.

    Args:
        meta: the coordinator.
        targets: that the operator named, by name.
        clock: measures pauses.
        rng: makes them differ.
        metrics: counters.
        identity: of this router.
        make: makes the ways to the targets.

    Raises:
        SettingInvalid: a target's URL is not that of a Redis.
    """

    def __init__(
        self,
        meta: Metadata,
        targets: Mapping[str, EventTarget],
        clock: Clock,
        rng: random.Random,
        metrics: Metrics,
        identity: Identity,
        make: Make = sender_to,
    ) -> None:
        self._meta = meta
        agent = f"data-putter/{identity.version}"
        self._senders = {name: make(each, meta, agent) for name, each in targets.items()}
        self._instance = identity.instance
        self._clock = clock
        self._rng = rng
        self._metrics = metrics
        self._lease = KeptLease(meta, _LEASE, self._instance, _LEASE_MS)
        self._under_way: dict[Address, asyncio.Task[None]] = {}
        self._dropped: dict[Address, int] = {}
        self._look_at = 0.0
        self._rounds = Rounds(self.round, _LOOK_S, "delivering events")
        self.troubles: Final[dict[Address, Trouble]] = {}
        """The queues that do not move, as far as this router delivers them."""

    def start(self) -> None:
        """Begin, if there is any target."""
        if self._senders:
            self._rounds.start()

    async def stop(self) -> None:
        """End; what is on its way is sent again by another router."""
        await self._rounds.stop()
        await self._end()
        for sender in self._senders.values():
            await sender.close()
        if self._senders:
            await self._hand_over()

    async def round(self) -> None:
        """Look what waits, and begin to deliver it.

        Raises:
            PutterError: Redis does not answer.
        """
        loop = asyncio.get_running_loop()
        if loop.time() < self._look_at:
            return
        if not await self._lease.held():
            await self._end()
            return
        began = loop.time()
        queues = {
            Address(bucket, queue.target): queue
            for bucket in await self._meta.outbox.buckets()
            for queue in await self._meta.outbox.queues(bucket)
        }
        now = loop.time()
        self._look_at = now + min((now - began) * _LOOK_SHARE, _LOOK_S_MAX)
        self._tell(queues)
        for address in self._troubles_over(queues):
            del self.troubles[address]
        now_ms = self._clock.monotonic_ms()
        # Where many wait for a target that takes nothing, those for others have their turn first.
        for address, queue in sorted(queues.items(), key=lambda each: each[0] in self.troubles):
            trouble = self.troubles.get(address)
            waits = trouble is not None and trouble.again_ms > now_ms
            if queue.waiting and not waits and len(self._under_way) < _QUEUES_MAX:
                self._begin(address)

    async def settled(self) -> None:
        """Return when nothing is on its way."""
        while self._under_way:
            await asyncio.wait(self._under_way.values())
            await asyncio.sleep(0)

    # -- inside ----------------------------------------------------------------------------

    async def _hand_over(self) -> None:
        try:
            async with asyncio.timeout(1):
                await self._meta.leases.release(_LEASE, self._instance)
        except (PutterError, TimeoutError):
            _log.debug("the lease on delivering events runs out by itself")

    def _troubles_over(self, queues: Mapping[Address, Queue]) -> list[Address]:
        return [each for each in self.troubles if each not in queues or not queues[each].waiting]

    def _begin(self, address: Address) -> None:
        if address in self._under_way:
            return
        sender = self._senders.get(address.target)
        if sender is None:
            self._fails(address, "there is no such target in notify_targets of this router")
            return
        task = asyncio.get_running_loop().create_task(self._deliver(address, sender))
        self._under_way[address] = task
        task.add_done_callback(lambda _: self._under_way.pop(address, None))

    async def _end(self) -> None:
        """Deliver no more: another router does, or this one stops."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.troubles.clear()
        self._dropped.clear()
        self._metrics.events_waiting.clear()
        self._metrics.events_dropped.clear()

    async def _deliver(self, address: Address, sender: Sender) -> None:
        """Empty a queue, until it is empty or something does not get through."""
        try:
            configured = await self._meta.buckets.get(address.bucket)
            settings = configured.record.settings if configured is not None else {}
            made = created(address.bucket, settings)
            owner = made.owner if made is not None else ""
            while await self._lease.held():
                waiting = await self._meta.outbox.first(*address, _BATCH)
                if not waiting:
                    return
                messages = [_message(each, owner) for each in waiting]
                sent = await sender.send(messages)
                if sent.done:
                    await self._meta.outbox.done(*address, sent.done)
                    self._metrics.events_delivered.labels(address.target).inc(len(sent.done))
                if sent.trouble:
                    self._fails(address, sent.trouble, moved=bool(sent.done))
                    return
                self._works(address)
        except PutterError as error:
            self._fails(address, error.message)
        except Exception as error:  # noqa: BLE001 - the others go on, and this one is tried again
            _log.exception("events cannot be delivered", bucket=address.bucket)
            self._fails(address, type(error).__name__)

    def _works(self, address: Address) -> None:
        if self.troubles.pop(address, None) is not None:
            _log.info("a target takes events again", **address._asdict())

    def _fails(self, address: Address, reason: str, *, moved: bool = False) -> None:
        """Try a queue again later; soon if some of it moved: its target takes events."""
        before = self.troubles.get(address)
        failures = before.failures + 1 if before is not None and not moved else 1
        pause_ms = min(RETRY_MS_MAX, RETRY_MS_MIN << min(failures - 1, 10))
        pause_ms = round(pause_ms * (0.5 + self._rng.random() / 2))
        again_ms = self._clock.monotonic_ms() + pause_ms
        self.troubles[address] = Trouble(reason, failures, again_ms)
        self._metrics.events_failed.labels(address.target).inc()
        if before is None:
            _log.warning("events do not get through to a target", why=reason, **address._asdict())

    def _tell(self, queues: Mapping[Address, Queue]) -> None:
        waiting: Counter[str] = Counter(dict.fromkeys(self._senders, 0))
        dropped: Counter[str] = Counter(dict.fromkeys(self._senders, 0))
        for address, queue in queues.items():
            waiting[address.target] += queue.waiting
            dropped[address.target] += queue.dropped
            if queue.dropped > self._dropped.get(address, 0):
                self._dropped[address] = queue.dropped
                _log.warning(
                    "events had to go undelivered", dropped=queue.dropped, **address._asdict()
                )
        for target, count in waiting.items():
            self._metrics.events_waiting.labels(target).set(count)
        for target, count in dropped.items():
            self._metrics.events_dropped.labels(target).set(count)


def _message(waiting: Waiting, owner: str) -> Message:
    return message(waiting.number, read_event(waiting.body), owner)
