"""One object under way: tickets, frames, acks counted, and where each run ended up."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from common import records
from common.checksum import ObjectHash
from common.errors import NodesUnavailable, ObjectGone, PutterError, TooLarge
from common.limits import (
    COMMIT_RECORD_BYTES_MAX,
    EXTENT_BYTES_MAX,
    OBJECT_BYTES_MAX,
    OBJECT_LEASE_MS,
    RUN_BYTES_TARGET,
)
from common.meta.interface import Begin, Progress
from common.records import Extent, StoredObject, Version
from common.wire import frames
from router.blocks import Block
from router.debts import more_wanted
from router.parcels import Parcel, RecordParcel, RunParcel
from router.placement import NOTHING_OWED, Placement
from router.quorum import Policy
from router.ranges import join_extents
from router.targets import SEND_AGAIN, Target

if TYPE_CHECKING:
    from router.writes import WritePath

_FIRST_SPAN_RUNS: Final = 16
_REPORT_AFTER_MS: Final = 1_000
LATE_MS: Final = 50


@dataclass
class _Span:
    """Consecutive tickets for the next runs, and the nodes chosen for them."""

    next: int
    left: int
    placement: Placement


class Upload:
    """The steps of one object's write.

    Args:
        path: what all writes share.
        bucket: where its name will be.
        object_id: ObjectID.
        policy: how many putters have to hold it.
    """

    def __init__(self, path: WritePath, bucket: str, object_id: str, policy: Policy) -> None:
        self.bucket: Final = bucket
        self.object_id: Final = object_id
        self.policy = policy
        self.begun = False
        self.recorded: Version | None = None
        """The version whose record was sent: it may be durable somewhere."""
        self.undecided = False
        """Redis was asked to publish it, and has not answered."""
        self.size = 0
        self.tickets = 0
        self._path = path
        self._born_ms = path.clock.monotonic_ms()
        self._hash = ObjectHash()
        self._span = _Span(0, 0, Placement((), NOTHING_OWED))
        self._span_runs = _FIRST_SPAN_RUNS
        self._ranges: list[tuple[int, int]] = []
        self._nodes: dict[str, None] = {}
        self._runs: deque[RunParcel] = deque()
        self._extents: list[Extent] = []
        self._folded_tickets = 0
        self._record: RecordParcel | None = None
        self._name = ""  # of a version, by the first stamp: all descriptions are of one name
        self._rerouted = False
        self._moved = (0, 0)
        self._moved_ms = self._born_ms
        self._reporting = asyncio.Lock()

    @property
    def digest(self) -> bytes:
        """32-byte BLAKE3 of the bytes so far."""
        return self._hash.digest()

    @property
    def acked(self) -> int:
        """Tickets that enough putters hold."""
        return self._folded_tickets + sum(
            run.count for run in self._runs if run.counted.done() and run.error is None
        )

    @property
    def holders(self) -> int:
        """Putters that hold each byte and the record, at the least."""
        counts = [len(extent.nodes) for extent in self._all_extents()]
        if self._record is not None:
            counts.append(len(self._record.holders))
        return min(counts, default=0)

    async def begin(self, block: Block) -> int | None:
        """Announce the object before any byte of it travels.

        Returns:
            The stamp, if the first block is all there is: then one round trip to Redis serves
            both. None for a longer object, whose stamp is taken at its end.
        """
        path = self._path
        await self._new_span(len(block.data), whole=block.last)
        begun = self._announced()
        self.begun = True
        if not block.last:
            await begun
            return None
        try:
            return await path.numbers.stamp()
        finally:
            await begun

    async def fail(self, *, forgotten: bool) -> None:
        """Have its tickets freed after the grace time.

        Args:
            forgotten: a janitor has given it up, and may have freed its tickets before the last
                of them arrived: it is announced once more, so that they are freed again.
        """
        if forgotten:
            await self._announced()
        await self._path.meta.objects.fail(self.bucket, self.object_id)

    async def send(self, block: Block) -> None:
        """Split a block into frames and hand it to the links; waits while their windows are full.

        Raises:
            PutterError: an earlier run could not be stored.
        """
        path = self._path
        if self._runs:
            self._fold()
        data = block.data
        size = len(data)
        count = frames.frame_count(size, path.frame_bytes)
        if self._span.left < count:
            await self._new_span(size, whole=False)
            await self.report(force=True)
        nodes = self._span.placement.nodes
        if not path.fleet.has_room(nodes):
            await self._wait_for_room(nodes)
        out = path.pool.take(frames.wire_bytes(size, path.frame_bytes))
        key = path.keyring.writing.checksum
        frames.build(out, data, self._span.next, path.frame_bytes, key)
        self._hash.update(data)
        block.release()
        run = RunParcel(
            self.object_id,
            self._span.next,
            count,
            size,
            out,
            nodes,
            self.policy,
            path.fleet,
            self._span.placement.owed,
        )
        self._span.next += count
        self._span.left -= count
        self.tickets += count
        self.size += size
        if self.size > OBJECT_BYTES_MAX:
            raise TooLarge(f"an object has at most {OBJECT_BYTES_MAX} bytes")
        self._runs.append(run)
        run.dispatch(self._announce)
        run.when_settled(lambda: path.pool.give(out))

    async def all_counted(self) -> None:
        """Wait until enough putters hold every run, and the record if it was sent.

        Raises:
            PutterError: one of them could not be stored.
        """
        for run in list(self._runs):
            await run.counted
        if any(not run.settled for run in self._runs):
            await self._settle()
        self._fold()
        if self._record is not None:
            await self._record.counted

    def describe(self, target: Target, stamp: int) -> Version:
        """The version that this object becomes."""
        digest = self.digest
        self._rerouted = False
        replicas = self.policy.replicas
        extents = join_extents(self._all_extents(), EXTENT_BYTES_MAX)
        stored = StoredObject(
            object_id=self.object_id,
            size=self.size,
            frame_bytes=self._path.frame_bytes,
            blake3=digest,
            extents=tuple(more_wanted(extent, replicas) for extent in extents),
        )
        self._name = self._name or target.name(stamp, self.object_id)
        if target.versioned:
            target = replace(target, default=self.policy.locks)
        now_ms = self._path.clock.now_ms()
        return target.version(self._name, stamp, now_ms, replicas, digest, (stored,))

    @property
    def described_truly(self) -> bool:
        """Whether every run went where the last description says; ask when all are counted."""
        return not (self._rerouted or any(run.rerouted for run in self._runs))

    async def record(self, version: Version) -> None:
        """Send the commit record the way of the last run: an only run travels with it."""
        nodes = self._all_extents()[-1].nodes
        fleet = self._path.fleet
        body = records.encode(version)
        if len(body) > COMMIT_RECORD_BYTES_MAX:
            raise TooLarge(
                f"the commit record of {self.size} bytes on so many extents has {len(body)} bytes; "
                f"at most {COMMIT_RECORD_BYTES_MAX} are kept"
            )
        self._record = RecordParcel(self.object_id, version.stamp, body, nodes, self.policy, fleet)
        self.recorded = version
        self._record.dispatch(self._announce)

    async def report(self, *, force: bool = False) -> None:
        """Tell Redis the ticket totals, which is also the object's sign of life.

        Raises:
            ObjectGone: a janitor has given the object up.
            MetadataUnavailable: Redis did not answer.
        """
        path = self._path
        age_ms = path.clock.monotonic_ms() - self._born_ms
        if not self.begun or (not force and age_ms < _REPORT_AFTER_MS):
            return
        async with self._reporting:  # what was true earlier must not arrive later
            alive = await path.meta.objects.progress(
                Progress(
                    bucket=self.bucket,
                    object_id=self.object_id,
                    lease_ms=OBJECT_LEASE_MS,
                    acked=self.acked,
                    ranges=tuple(self._ranges) if force else None,
                    nodes=tuple(self._nodes) if force else None,
                )
            )
        if not alive and force:
            raise ObjectGone(f"object {self.object_id} was given up meanwhile", hint=SEND_AGAIN)

    def check_progress(self, now_ms: int) -> None:
        """Give the object up if the putters have taken nothing of it for too long."""
        waiting: list[Parcel] = [run for run in self._runs if not run.counted.done()]
        if self._record is not None and not self._record.counted.done():
            waiting.append(self._record)
        moved = (self.tickets, len(waiting))
        if not waiting or moved != self._moved:
            self._moved, self._moved_ms = moved, now_ms
        elif now_ms - self._moved_ms > self._path.timeout_ms:
            self.abandon(self._stalled())

    def finish(self) -> None:
        """It is published: give unused tickets back."""
        span = self._span
        self._path.numbers.give_back(span.next, span.left)
        span.left = 0

    def abandon(self, error: PutterError) -> None:
        """Send nothing more of it. Its tickets are not used again: some may have arrived."""
        for run in self._runs:
            run.abandon(error)
        if self._record is not None:
            self._record.abandon(error)

    def _stalled(self) -> PutterError:
        return NodesUnavailable(
            f"the putters took nothing of object {self.object_id} for {self._path.timeout_ms} ms",
            hint="see `putter status` for what is down",
        )

    # -- inside ----------------------------------------------------------------------------

    def _announced(self) -> Awaitable[None]:
        return self._path.meta.objects.begin(
            Begin(
                bucket=self.bucket,
                object_id=self.object_id,
                router=self._path.instance,
                lease_ms=OBJECT_LEASE_MS,
                ranges=tuple(self._ranges),
                nodes=tuple(self._nodes),
            )
        )

    async def _new_span(self, size: int, *, whole: bool) -> None:
        """Tickets and nodes for the next runs; spans double, up to an extent.

        What is left of the last span is not used by anybody: Redis names it as this object's, and
        frees it with the object if that fails.
        """
        path = self._path
        count = frames.frame_count(size, path.frame_bytes)
        if not whole:
            wanted = min(self._span_runs * RUN_BYTES_TARGET, EXTENT_BYTES_MAX)
            count = max(count, wanted // path.frame_bytes)
            self._span_runs *= 2
        first = await path.numbers.tickets(count)
        placement = path.fleet.place(f"{self.object_id}/{first}", self.policy)
        self._span = _Span(first, count, placement)
        self._ranges.append((first, count))
        self._nodes.update(dict.fromkeys(placement.nodes))

    async def _settle(self) -> None:
        """Give replicas beyond the quorum a moment, then do without those that are late."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + LATE_MS / 1000
        while any(not run.settled for run in self._runs) and loop.time() < deadline:
            await asyncio.sleep(LATE_MS / 10_000)
        for run in self._runs:
            if not run.settled:
                run.abandon(NodesUnavailable("this replica came late"))

    async def _announce(self, node: str) -> None:
        """Another putter may hold some of it from now on."""
        self._nodes[node] = None
        await self.report(force=True)

    async def _wait_for_room(self, nodes: tuple[str, ...]) -> None:
        try:
            async with asyncio.timeout(self._path.timeout_ms / 1000):
                await self._path.fleet.room(nodes)
        except TimeoutError:
            raise self._stalled() from None

    def _fold(self) -> None:
        """Turn runs that everybody answered into extents: memory does not grow with the object."""
        while self._runs and self._runs[0].counted.done():
            run = self._runs[0]
            run.counted.result()
            if not run.settled:
                break
            self._runs.popleft()
            self._folded_tickets += run.count
            self._rerouted = self._rerouted or run.rerouted
            self._note(run)
            tail = self._extents[-1:]
            self._extents[-1:] = join_extents([*tail, _extent(run)], EXTENT_BYTES_MAX)
        for run in self._runs:
            if run.error is not None:
                raise run.error

    def _note(self, run: RunParcel) -> None:
        self._nodes.update(dict.fromkeys(run.ever))

    def _all_extents(self) -> list[Extent]:
        return [*self._extents, *(_extent(run) for run in self._runs)]


def _extent(run: RunParcel) -> Extent:
    holders = tuple(sorted(run.expected_holders))
    return Extent(run.first, run.count, run.data_bytes, holders, dict(run.owed))
