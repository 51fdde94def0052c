"""Heals what is found damaged: by readers as they read, and by putters as they verify their disks.

A reader that meets a bad or missing replica is served from a good one, and says so here. Putters
name what their scrub found. Either way all replicas of those tickets are compared, and each gets
what it lacks. What cannot be healed is named, and stops nothing else.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Final

from common.errors import PutterError
from common.limits import RUN_BYTES_TARGET
from common.logs import get_logger
from common.meta.interface import Metadata
from common.metrics import Metrics
from common.records import StoredObject
from common.wire.scrubbing import Scrub, ScrubReply
from router.fleet import Fleet
from router.links import NodeLink
from router.ranges import Slice, slices
from router.replicas import Replicas
from router.rounds import Rounds

_log = get_logger(__name__)
_LEASE: Final = "heal"
_LEASE_MS: Final = 60_000
_CALL_MS: Final = 10_000
_FLAWS_MAX: Final = 1_000
_REPORTS_MAX: Final = 4_096
"""Damages that wait to be healed; the oldest beyond are found again by the next reader or scrub."""
_TRIES_MAX: Final = 3
_FORGET_S: Final = 600.0
"""After so long, what could not be healed is tried again."""


@dataclass(frozen=True)
class Wound:
    """Tickets of one object that a putter should hold, and does not hold right.

    Attributes:
        node: the putter.
        object_id: ObjectID.
        first, count: the tickets.
    """

    node: str
    object_id: str
    first: int
    count: int


@dataclass(frozen=True)
class Incurable:
    """What could not be healed.

    Attributes:
        wound: the damage.
        reason: of the last try.
        until: the loop's time of the next one.
    """

    wound: Wound
    reason: str
    until: float


class Healer:
    """One router's part in it.

    Args:
        meta: the coordinator.
        fleet: the putters.
        replicas: compares and mends.
        metrics: counters.
        instance: of this router.
        period_ms: time between two rounds; 0: never.
    """

    def __init__(
        self,
        meta: Metadata,
        fleet: Fleet,
        replicas: Replicas,
        metrics: Metrics,
        instance: str,
        period_ms: int,
    ) -> None:
        self._meta = meta
        self._fleet = fleet
        self._replicas = replicas
        self._metrics = metrics
        self._instance = instance
        self._waiting: OrderedDict[tuple[str, int], Wound] = OrderedDict()
        self._tries: dict[tuple[str, int], int] = {}
        self._incurable: dict[tuple[str, int], Incurable] = {}
        self._rounds = Rounds(self.round, period_ms / 1000, "healing")

    def start(self) -> None:
        """Begin."""
        self._rounds.start()

    async def stop(self) -> None:
        """End; what waits is found again."""
        await self._rounds.stop()

    def report(self, node: str, object_id: str, first: int, count: int) -> None:
        """A putter that is there does not hold these tickets right."""
        self._waiting.setdefault((node, first), Wound(node, object_id, first, count))
        if len(self._waiting) > _REPORTS_MAX:
            self._waiting.popitem(last=False)

    def incurable(self) -> list[Incurable]:
        """What could not be healed lately."""
        return list(self._incurable.values())

    async def round(self) -> int:
        """Look at what putters found, and heal what is known.

        Returns:
            How many damages were healed.

        Raises:
            PutterError: Redis does not answer.
        """
        if await self._meta.leases.acquire(_LEASE, self._instance, _LEASE_MS):
            for link in self._fleet.up():
                await self._ask(link)
        now = asyncio.get_running_loop().time()
        self._incurable = {k: each for k, each in self._incurable.items() if each.until > now}
        healed = 0
        for key, wound in list(self._waiting.items()):
            if key in self._incurable:
                self._waiting.pop(key, None)
            elif self._replicas.is_up(wound.node) and self._waiting.pop(key, None) is not None:
                healed += await self._heal(key, wound)
        return healed

    # -- inside ----------------------------------------------------------------------------

    async def _ask(self, link: NodeLink) -> None:
        """Take over what a putter's scrub found."""
        try:
            answers = await link.call(
                lambda request: Scrub(request, "status", flaws=_FLAWS_MAX), timeout_ms=_CALL_MS
            )
        except PutterError as error:
            _log.debug("a putter does not tell its damages", node=link.node, reason=str(error))
            return
        reply = answers[-1][0]
        if not isinstance(reply, ScrubReply):
            return
        for flaw in reply.flaws:
            if flaw.object_id and flaw.count and not flaw.raw:
                self.report(link.node, flaw.object_id, flaw.first, flaw.count)

    async def _heal(self, key: tuple[str, int], wound: Wound) -> bool:
        """Whether it is healed now; else it is tried again, or named."""
        try:
            parts = await self._parts(wound)
            whole = [await self._replicas.mend(s, part, wound.node) for s, part in parts]
            reason = "" if all(whole) else "it does not take them"
        except PutterError as error:
            parts, reason = [], str(error)
        told = {"node": wound.node, "object": wound.object_id, "first": wound.first}
        if not reason:
            self._tries.pop(key, None)
            if parts:
                self._metrics.healed.inc()
                _log.info("a replica is healed", tickets=wound.count, **told)
            return bool(parts)
        tries = self._tries[key] = self._tries.get(key, 0) + 1
        if tries < _TRIES_MAX:
            self._waiting[key] = wound
        else:
            del self._tries[key]
            until = asyncio.get_running_loop().time() + _FORGET_S
            self._incurable[key] = Incurable(wound, reason, until)
            _log.error("a replica cannot be healed", tickets=wound.count, reason=reason, **told)
        return False

    async def _parts(self, wound: Wound) -> list[tuple[StoredObject, Slice]]:
        """What of a damage the putter should hold: none of it, if the object is gone or moved.

        A putter must not get anything that Redis does not place there.
        """
        state = await self._meta.objects.get(wound.object_id)
        if state is None or state.state != "written":
            return []
        version = await self._meta.versions.held(state.bucket, state.key)
        return [
            (stored, part)
            for stored in (version.objects if version is not None else ())
            if stored.object_id == wound.object_id
            for part in parts_of(stored, wound.first, wound.count)
            if wound.node in part.nodes
        ]


def parts_of(stored: StoredObject, first: int, count: int) -> list[Slice]:
    """Slices of an object, a run at most each, that hold some of these tickets."""
    end = first + count
    return [
        replace(part, skip=0, keep=part.size)
        for part in slices(stored, 0, stored.size, RUN_BYTES_TARGET)
        if part.first < end and first < part.first + part.count
    ]
