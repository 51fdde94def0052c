"""Cleans up after routers that died and objects that are gone.

One router at a time holds the lease. An object whose writer gave no sign of life is rolled forward
if its commit record is durable and all its bytes are there; else it is failed. The tickets of
failed and deleted objects are freed on every putter that may hold some, after the grace time and
never under a reader; only when all of them have confirmed is the object forgotten.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final

from common import records
from common.errors import IntegrityError, NodesUnavailable, NotFound, PutterError
from common.limits import JANITOR_LEASE_MS, JANITOR_PERIOD_MS
from common.logs import get_logger
from common.meta.interface import Commit, Metadata, ObjectState, Outcome
from common.metrics import Metrics
from common.records import Abort, CommitRecord, Version
from common.wire.session import Done, FindRecord, Free, RecordReply
from router.fleet import Fleet
from router.links import NodeLink
from router.reads import ReadPath

_log = get_logger(__name__)
_LEASE: Final = "janitor"
_CALL_MS: Final = 10_000
_FREE_TICKETS_MAX: Final = 2_048
"""In one request: an engine that removes two files for each takes about a second for these."""
_BATCH: Final = 256
_WAITING_MAX: Final = 4096
"""Objects that wait for a putter which is away, and beyond which a round still looks."""


class Janitor:
    """The cleaner of one router.

    Args:
        meta: the coordinator.
        fleet: the putters.
        reads: verifies what is rolled forward.
        metrics: counters.
        instance: of this router.
        period_ms: time between two rounds.
    """

    def __init__(
        self,
        meta: Metadata,
        fleet: Fleet,
        reads: ReadPath,
        metrics: Metrics,
        instance: str,
        period_ms: int = JANITOR_PERIOD_MS,
    ) -> None:
        self._meta = meta
        self._fleet = fleet
        self._reads = reads
        self._metrics = metrics
        self._instance = instance
        self._period_ms = period_ms
        self._undecided = 0
        self._confirmed: dict[str, set[str]] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Finish nothing, hand the lease over."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        try:
            async with asyncio.timeout(1):
                await self._meta.leases.release(_LEASE, self._instance)
        except (PutterError, TimeoutError):
            _log.debug("the janitor's lease runs out by itself")

    async def round(self) -> bool:
        """One round, if no other router does it.

        Returns:
            Whether there may be more to do at once.
        """
        if not await self._meta.leases.acquire(_LEASE, self._instance, JANITOR_LEASE_MS):
            return False
        # What waits for a putter that is away must not hide what is behind it.
        stale = await self._meta.objects.stale(_BATCH + self._undecided)
        decided = 0
        for state in stale:
            decided += await self._decide(state)
        self._undecided = min(len(stale) - decided, _BATCH)
        doomed = await self._meta.objects.to_free(_BATCH + min(len(self._confirmed), _WAITING_MAX))
        freed = await self._free(doomed)
        return decided >= _BATCH or freed >= _BATCH

    # -- inside ----------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            again = False
            try:
                again = await self.round()
            except PutterError as error:
                _log.warning("the janitor could not work", reason=str(error))
            except Exception:  # noqa: BLE001 - it goes on with the next round
                _log.exception("the janitor failed")
            await asyncio.sleep(0 if again else self._period_ms / 1000)

    async def _decide(self, state: ObjectState) -> bool:
        """Roll an object forward or fail it; False if that has to wait for putters."""
        found, silent = await self._records_of(state)
        version = _decision(found)
        try:
            if version is not None and await self._whole(version):
                await self._roll_forward(version)
                return True
        except NodesUnavailable as error:
            _log.info("an abandoned object waits", object=state.object_id, reason=str(error))
            return False
        if silent and not found:
            _log.info(
                "an abandoned object waits for putters", object=state.object_id, silent=silent
            )
            return False
        if await self._meta.objects.fail(state.bucket, state.object_id):
            _log.info("an abandoned object is failed", object=state.object_id, router=state.router)
        return True

    async def _roll_forward(self, version: Version) -> None:
        tickets = sum(stored.tickets for stored in version.objects)
        outcome = await self._meta.objects.commit(Commit(version, tickets, tickets))
        _log.info(
            "an abandoned object is rolled forward",
            object=version.objects[0].object_id,
            name=f"{version.bucket}/{version.key}",
            outcome=outcome.value,
        )
        if outcome in {Outcome.PUBLISHED, Outcome.SUPERSEDED}:
            self._metrics.objects_written.inc()

    async def _records_of(self, state: ObjectState) -> tuple[list[CommitRecord], list[str]]:
        """The records of an object on its putters, and those of them that did not answer."""
        found: list[CommitRecord] = []
        silent: list[str] = []
        asked = {link.node: link for link in self._fleet.up()}
        silent += [node for node in state.nodes if node not in asked]
        for node, link in asked.items():
            try:
                answers = await link.call(
                    lambda request: FindRecord(request, state.object_id), timeout_ms=_CALL_MS
                )
            except PutterError:
                silent.append(node)
                continue
            reply, payload = answers[-1]
            if isinstance(reply, RecordReply) and reply.found:
                found.append(records.decode(bytes(payload)))
        return found, silent

    async def _whole(self, version: Version) -> bool:
        """Whether every byte of a version is there and right.

        Raises:
            NodesUnavailable: that cannot be told now.
        """
        pieces = self._reads.stream(version, 0, version.size, hold=False)
        try:
            async for _ in pieces:
                pass
        except (IntegrityError, NotFound) as error:
            _log.warning(
                "a commit record without its bytes",
                name=f"{version.bucket}/{version.key}",
                reason=str(error),
            )
            return False
        finally:
            await pieces.aclose()
        return True

    async def _free(self, doomed: list[ObjectState]) -> int:
        """Free tickets putter by putter, many objects in one request."""
        known = self._confirmed
        confirmed = {state.object_id: known.get(state.object_id, set()) for state in doomed}
        nodes = {node for state in doomed for node in state.nodes}
        for node in sorted(nodes):
            link = self._fleet.link(node)
            if link is None or not link.up:
                continue
            mine = [
                state
                for state in doomed
                if node in state.nodes and node not in confirmed[state.object_id]
            ]
            try:
                for at in range(0, len(mine), _BATCH):
                    batch = mine[at : at + _BATCH]
                    await self._free_on(link, batch)
                    for state in batch:
                        confirmed[state.object_id].add(node)
            except PutterError as error:
                _log.warning("could not free tickets", node=node, reason=str(error))
        freed = 0
        for state in doomed:
            if confirmed[state.object_id] >= set(state.nodes):
                await self._meta.objects.forget(state.bucket, state.object_id)
                del confirmed[state.object_id]
                freed += 1
        self._confirmed = confirmed
        if freed:
            self._metrics.objects_freed.inc(freed)
            _log.debug("objects freed", count=freed)
        return freed

    async def _free_on(self, link: NodeLink, states: list[ObjectState]) -> None:
        objects = tuple(state.object_id for state in states)
        ranges = [span for state in states for span in state.ranges]
        for part in portions(ranges, _FREE_TICKETS_MAX):
            await self._free_part(link, part, objects)

    async def _free_part(
        self, link: NodeLink, ranges: tuple[tuple[int, int], ...], objects: tuple[str, ...]
    ) -> None:
        answers = await link.call(
            lambda request: Free(request, ranges, objects), timeout_ms=_CALL_MS
        )
        reply = answers[-1][0]
        if not isinstance(reply, Done) or reply.status:
            reason = reply.reason if isinstance(reply, Done) else "unexpected answer"
            raise NodesUnavailable(f"putter {link.node} could not free: {reason}")


def portions(
    ranges: list[tuple[int, int]], tickets_max: int
) -> Iterator[tuple[tuple[int, int], ...]]:
    """Ranges of tickets in portions that a putter frees in a short time; at least one.

    Args:
        ranges: ``(first, count)``.
        tickets_max: tickets in a portion; longer ranges are cut.
    """
    portion: list[tuple[int, int]] = []
    room = tickets_max
    for first, count in ranges:
        at, end = first, first + count
        while at < end:
            size = min(room, end - at)
            portion.append((at, size))
            at += size
            room -= size
            if room == 0:
                yield tuple(portion)
                portion, room = [], tickets_max
    if portion or not ranges:
        yield tuple(portion)


def _decision(found: list[CommitRecord]) -> Version | None:
    """The version to publish: none if anybody holds an abort of the object."""
    if any(isinstance(record, Abort) for record in found):
        return None
    versions = [record for record in found if isinstance(record, Version)]
    # An object whose runs went another way was described twice: the later record is true.
    return max(versions, key=lambda version: version.stamp, default=None)
