"""Moves the marks in Redis up: below them, nothing has to be replayed after a loss.

A record counts as applied once its object is decided, or, if it commits no object, once it was
applied here a second time. No object costs anything for that:

1. Every putter tells the number of its last record. All records up to it are durable now, so
   their objects were announced before.
2. What is ``writing`` now is noted.
3. A while later none of that is ``writing`` any more, or has no record yet: then everything with
   an object up to those numbers is published, superseded or failed.
4. Records without an object (tombstones, files without a byte) are read and applied once more:
   that costs a look at each, and finds what a router that died left behind.
5. The numbers become the marks.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from common.errors import PutterError
from common.logs import get_logger
from common.meta.interface import Ceilings, Metadata
from common.meta.recovery import Mark, Standing
from common.requests import bind_request
from common.wire.session import FindRecord, RecordReply
from router.ceilings import keep
from router.fleet import Fleet
from router.replay import Replay

_log = get_logger(__name__)
_LEASE: Final = "marks"
_LEASE_MS: Final = 20_000
_AGE_S: Final = 5.0
_AGE_SHARDED_S: Final = 60.0
"""Where a loss may spare the marks: longer than the seconds that are lost."""
_AGE_MAX_S: Final = 120.0
_WRITING_MAX: Final = 20_000
_ASKED_MAX: Final = 64
_CALL_MS: Final = 10_000


@dataclass(frozen=True)
class _Plan:
    """Numbers that may become marks.

    Attributes:
        completion: since when Redis has forgotten nothing.
        since: the loop's time when the putters told them.
        numbers: by putter.
        writing: what was being written then: bucket and ObjectID.
    """

    completion: tuple[str, int]
    since: float
    numbers: dict[str, int]
    writing: frozenset[tuple[str, str]]


class Watermark:
    """One router's part in it; the one that holds the lease works.

    Args:
        meta: the coordinator.
        fleet: the putters.
        instance: of this router.
        period_ms: time between two rounds.
    """

    def __init__(self, meta: Metadata, fleet: Fleet, instance: str, period_ms: int) -> None:
        self._meta = meta
        self._fleet = fleet
        self._instance = instance
        self._period_ms = period_ms
        self._plan: _Plan | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """End; the lease runs out by itself."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def round(self) -> bool:
        """One step.

        Returns:
            Whether marks were moved.

        Raises:
            PutterError: Redis or a putter does not answer.
        """
        if not await self._meta.leases.acquire(_LEASE, self._instance, _LEASE_MS):
            self._plan = None
            return False
        standing = await self._meta.recovery.standing()
        plan = self._plan
        if not standing.complete or (plan is not None and plan.completion != standing.completion):
            self._plan = None
            return False
        if plan is None:
            self._plan = await self._make(standing)
            return False
        age_s = asyncio.get_running_loop().time() - plan.since
        if age_s < (_AGE_SHARDED_S if standing.sharded else _AGE_S):
            return False
        if await self._undecided(plan):
            if age_s > _AGE_MAX_S:
                self._plan = None
            return False
        self._plan = None
        await self._move(standing, plan)
        return True

    # -- inside ----------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._period_ms / 1000)
            bind_request()
            try:
                await self.round()
            except PutterError as error:
                self._plan = None
                _log.debug("the marks stay", reason=str(error))
            except Exception:  # noqa: BLE001 - it goes on with the next round
                self._plan = None
                _log.exception("the marks could not be moved")

    async def _make(self, standing: Standing) -> _Plan | None:
        """The numbers first, then what is being written: that order makes the plan right."""
        links = self._fleet.up()
        if not links:
            return None
        since = asyncio.get_running_loop().time()
        kept = await keep(links, Ceilings())
        numbers = {
            node: last
            for node, last in kept.last_records.items()
            if (mark := standing.marks.get(node)) is not None
            and mark.epoch == standing.epoch
            and last > mark.number
        }
        if not numbers:
            return None
        writing = await self._meta.recovery.writing(_WRITING_MAX)
        if writing is None:
            return None
        return _Plan(standing.completion, since, numbers, frozenset(writing))

    async def _undecided(self, plan: _Plan) -> bool:
        """Whether a record up to the plan's numbers may belong to an object that is not decided."""
        writing = await self._meta.recovery.writing(_WRITING_MAX)
        if writing is None:
            return True
        left = plan.writing.intersection(writing)
        if len(left) > _ASKED_MAX:
            return True
        # A long write has no record before its end.
        for _, object_id in sorted(left):
            if await self._has_record(object_id, plan):
                return True
        return False

    async def _has_record(self, object_id: str, plan: _Plan) -> bool:
        for node in plan.numbers:
            link = self._fleet.link(node)
            if link is None or not link.up:
                return True
            answers = await link.call(
                lambda request: FindRecord(request, object_id), timeout_ms=_CALL_MS
            )
            reply = answers[-1][0]
            if not isinstance(reply, RecordReply) or reply.found:
                return True
        return False

    async def _move(self, standing: Standing, plan: _Plan) -> None:
        # One that was declared gone meanwhile has no mark any more.
        numbers = {node: n for node, n in plan.numbers.items() if node in standing.marks}
        starts = {node: standing.marks[node].number for node in numbers}
        replay = Replay(
            self._meta.recovery, self._fleet, standing.epoch, token="", anew_below=standing.stamp
        )
        await replay.bare(starts, numbers)
        marks = {node: Mark(number) for node, number in numbers.items()}
        if await self._meta.recovery.mark(standing.epoch, marks):
            _log.debug("marks moved", marks=numbers)
