"""Cleans up after routers that died and objects that are gone.

One router at a time holds the lease. An object whose writer gave no sign of life is rolled forward
if its commit record is durable and all its bytes are there; else it is failed. It is published only
when its record is true: what a named putter lacks is copied there first. A named putter that is
away is waited for, but not for ever: then the record is corrected to name those that hold the
bytes.

The tickets of failed and deleted objects are freed on every putter that may hold some, after the
grace time and never under a reader; only when all of them have confirmed is the object forgotten.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Final

import msgspec

from common import records
from common.errors import IntegrityError, NodesUnavailable, PutterError, Unavailable
from common.limits import JANITOR_LEASE_MS, JANITOR_PERIOD_MS, REPLICA_AWAY_MS
from common.logs import get_logger
from common.membership import Decision
from common.meta.interface import Commit, Metadata, ObjectState, Outcome
from common.metrics import Metrics
from common.records import Abort, CommitRecord, Version, joined
from common.requests import bind_request
from common.wire.session import FindRecord, RecordReply
from router.belonging import Belonging
from router.events import COMPLETE, PUT, of_version
from router.fleet import Fleet
from router.links import NodeLink
from router.numbers import Numbers
from router.origin import NOBODY
from router.policies import Policies
from router.replicas import Replicas, free

_log = get_logger(__name__)
_LEASE: Final = "janitor"
_CALL_MS: Final = 10_000
_FREE_TICKETS_MAX: Final = 2_048
"""In one request: an engine that removes two files for each takes about a second for these."""
_BATCH: Final = 256
_WAITING_MAX: Final = 4096
"""Objects that wait for a putter which is away, and beyond which a round still looks. Further ones
are left for a while: they must not hide those that can be freed."""
_POSTPONED_MS: Final = 600_000
_TRIES: Final = 4
"""How often an object's bytes are read in vain while it waits: that costs the putters."""


@dataclass(slots=True)
class _Patience:
    """With an object whose record names a putter that does not hold it yet.

    Attributes:
        until: the loop's time when it ends, and the record is corrected.
        again: when its bytes are read next.
    """

    until: float
    again: float = 0.0


class Janitor:
    """The cleaner of one router.

    Args:
        meta: the coordinator.
        fleet: the putters.
        belonging: which of them are not waited for.
        replicas: verifies and completes what is rolled forward.
        numbers: stamps of corrected records.
        policies: know who is told of changes.
        metrics: counters.
        instance: of this router.
        period_ms: time between two rounds.
        away_ms: how long an object waits for a putter that its record names.
    """

    def __init__(
        self,
        meta: Metadata,
        fleet: Fleet,
        belonging: Belonging,
        replicas: Replicas,
        numbers: Numbers,
        policies: Policies,
        metrics: Metrics,
        instance: str,
        period_ms: int = JANITOR_PERIOD_MS,
        away_ms: int = REPLICA_AWAY_MS,
    ) -> None:
        self._meta = meta
        self._fleet = fleet
        self._belonging = belonging
        self._replicas = replicas
        self._numbers = numbers
        self._policies = policies
        self._metrics = metrics
        self._instance = instance
        self._period_ms = period_ms
        self._away_s = away_ms / 1000
        self._undecided = 0
        self._patience: dict[str, _Patience] = {}
        self._renew_at = 0.0
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
        if not await self._acquire():
            return False
        # What waits for a putter that is away must not hide what is behind it.
        stale = await self._meta.objects.stale(_BATCH + self._undecided)
        known = self._patience
        self._patience = {s.object_id: known[s.object_id] for s in stale if s.object_id in known}
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
            bind_request()
            try:
                again = await self.round()
            except PutterError as error:
                _log.warning("the janitor could not work", reason=str(error))
            except Exception:  # noqa: BLE001 - it goes on with the next round
                _log.exception("the janitor failed")
            await asyncio.sleep(0 if again else self._period_ms / 1000)

    async def _acquire(self) -> bool:
        """Take or extend the lease; False while another router holds it."""
        self._renew_at = asyncio.get_running_loop().time() + JANITOR_LEASE_MS / 3000
        return await self._meta.leases.acquire(_LEASE, self._instance, JANITOR_LEASE_MS)

    async def _keep_lease(self) -> None:
        """In the middle of something long.

        Raises:
            NodesUnavailable: another router has taken over.
        """
        if asyncio.get_running_loop().time() >= self._renew_at and not await self._acquire():
            raise NodesUnavailable("another router's janitor has taken over")

    async def _decide(self, state: ObjectState) -> bool:
        """Roll an object forward or fail it; False if that has to wait for putters."""
        found, silent = await self._records_of(state)
        version = _decision(found.values())
        if version is not None:
            try:
                if await self._publish(await self._made_true(version, found)):
                    return True
            except IntegrityError as error:
                _log.warning(
                    "a commit record without its bytes",
                    name=f"{version.bucket}/{version.key}",
                    reason=str(error),
                )
            except Unavailable as error:
                _log.info("an abandoned object waits", object=state.object_id, reason=str(error))
                return False
        elif silent and not found:
            _log.info(
                "an abandoned object waits for putters", object=state.object_id, silent=silent
            )
            return False
        if await self._meta.objects.fail(state.bucket, state.object_id):
            _log.info("an abandoned object is failed", object=state.object_id, router=state.router)
        return True

    async def _made_true(self, version: Version, found: dict[str, CommitRecord]) -> Version:
        """The version as it may be published: every putter that its durable record names holds it.

        Args:
            version: the truest record that was found.
            found: the records of its object, by putter.

        Raises:
            IntegrityError: some of its bytes are nowhere.
            Unavailable: not now.
        """
        now = asyncio.get_running_loop().time()
        patience = self._patience.setdefault(
            version.objects[0].object_id, _Patience(now + self._away_s)
        )
        patient = now < patience.until
        away = [node for node in _named(version) if not self._replicas.is_up(node)]
        if (patient and away) or now < patience.again:
            raise NodesUnavailable(f"it waits for putters {', '.join(away or _named(version))}")
        patience.again = now + self._away_s / _TRIES
        objects = await self._replicas.complete(version, self._keep_lease)
        if objects != version.objects:
            if patient:
                raise NodesUnavailable("a putter that its record names does not hold all of it")
            version = msgspec.structs.replace(
                version, objects=objects, revision=await self._numbers.stamp()
            )
        lacking = [node for node in _named(version) if found.get(node) != version]
        kept = await self._replicas.keep_record(version, lacking)
        if len(kept) < len(lacking) and (
            patient or len(lacking) - len(kept) == len(_named(version))
        ):
            raise NodesUnavailable("a putter that its record names does not hold the record")
        return version

    async def _publish(self, version: Version) -> bool:
        """Publish a version; False if its bucket keeps versions in another way, or is full, by now.

        Then it must never come: nobody was told of it, and what is newer may be acknowledged.
        """
        tickets = sum(stored.tickets for stored in version.objects)
        name = COMPLETE if version.upload else PUT
        post = of_version(await self._policies.of(version.bucket), name, version, NOBODY)
        outcome = await self._meta.objects.commit(Commit(version, tickets, tickets, post=post))
        if outcome in {Outcome.ELSEWHERE, Outcome.OVER_QUOTA}:
            return False
        _log.info(
            "an abandoned object is rolled forward",
            object=version.objects[0].object_id,
            name=f"{version.bucket}/{version.key}",
            outcome=outcome.value,
            corrected=bool(version.revision),
        )
        if outcome in {Outcome.PUBLISHED, Outcome.SUPERSEDED}:
            self._metrics.objects_written.inc()
        return True

    async def _records_of(self, state: ObjectState) -> tuple[dict[str, CommitRecord], list[str]]:
        """The record of an object on each putter, and those of its own that did not answer."""
        found: dict[str, CommitRecord] = {}
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
                found[node] = records.decode(bytes(payload))
        return found, silent

    async def _free(self, doomed: list[ObjectState]) -> int:
        """Free tickets putter by putter, many objects in one request."""
        known = self._confirmed
        confirmed = {state.object_id: known.get(state.object_id, set()) for state in doomed}
        nodes = {node for state in doomed for node in state.nodes}
        decided = await self._meta.members.decisions()
        gone = {node for node, decision in decided.items() if decision is Decision.GONE}
        gone |= self._belonging.strangers(nodes)
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
        done = [s for s in doomed if confirmed[s.object_id] | gone >= set(s.nodes)]
        await self._forget_elsewhere(done)
        for state in done:
            await self._meta.objects.forget(state.bucket, state.object_id)
            del confirmed[state.object_id]
        freed = len(done)
        waiting = [state for state in doomed if state.object_id in confirmed]
        for state in waiting[_WAITING_MAX:]:
            await self._meta.objects.postpone(state.bucket, state.object_id, _POSTPONED_MS)
            del confirmed[state.object_id]
        self._confirmed = confirmed
        if freed:
            self._metrics.objects_freed.inc(freed)
            _log.debug("objects freed", count=freed)
        return freed

    async def _forget_elsewhere(self, states: list[ObjectState]) -> None:
        """Drop what was said of freed objects where they never lay.

        An abort goes wherever it can be durable if the object's own putters are away.
        """
        for link in self._fleet.up():
            objects = tuple(each.object_id for each in states if link.node not in each.nodes)
            try:
                for at in range(0, len(objects), _BATCH):
                    await free(link, (), objects[at : at + _BATCH])
            except PutterError as error:
                _log.info("an abort may stay where it is", node=link.node, reason=str(error))

    async def _free_on(self, link: NodeLink, states: list[ObjectState]) -> None:
        objects = tuple(state.object_id for state in states)
        ranges = [span for state in states for span in state.ranges]
        for part in portions(ranges, _FREE_TICKETS_MAX):
            await free(link, part, objects)


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


def _decision(found: Iterable[CommitRecord]) -> Version | None:
    """The version to publish: none if anybody holds an abort of the object."""
    found = list(found)
    if any(isinstance(record, Abort) for record in found):
        return None
    versions = [record for record in found if isinstance(record, Version)]
    # An object whose runs went another way was described twice: the later record is true.
    last = max((version.stamp for version in versions), default=0)
    described = [version for version in versions if version.stamp == last]
    return reduce(joined, described) if described else None


def _named(version: Version) -> list[str]:
    """The putters that a record names, in a stable order."""
    return sorted({n for stored in version.objects for e in stored.extents for n in e.nodes})
