"""The way of a write, from a stream of bytes to a published version.

`WritePath.write` tells the story; `router.upload` does the steps of one object.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from typing import Final

from common.budget import Budget
from common.buffers import BufferPool
from common.clock import Clock
from common.errors import (
    EmptyObject,
    ObjectGone,
    PutterError,
    ShuttingDown,
)
from common.keys import Keyring
from common.limits import ABORT_PATIENCE_MS, INGEST_PENDING_BYTES_MAX
from common.logs import get_logger
from common.meta.interface import Commit, Metadata, Outcome
from common.metrics import Metrics
from common.records import Abort, Version
from common.uploads import is_hidden
from common.versions import plain_bucket
from router.blocks import Block, BlockFiller, Source
from router.claims import NameClaim
from router.deletes import Condition, Deletes
from router.events import of_version
from router.fleet import Fleet
from router.keeping import Keeping
from router.numbers import Numbers
from router.policies import Policies
from router.quorum import Policy
from router.quotas import Quotas
from router.small import SMALL_BYTES_MAX, SmallWrites
from router.targets import (
    VISIBLE,
    Changes,
    Target,
    Written,
    as_putter_error,
    object_id_of,
    refusal,
)
from router.upload import Upload

_log = get_logger(__name__)
_QUIET_MS: Final = 1_000
_UPKEEP_MS: Final = 1_000
_PUTTER_PATIENCE_MS: Final = 5_000
_EMPTY_DIGEST: Final = bytes.fromhex(
    "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
)


class WritePath:
    """Everything that a write needs, shared by all doors.

    Args:
        meta: the coordinator.
        fleet: the putters.
        policies: how many putters have to hold something.
        numbers: tickets, ObjectIDs, stamps.
        keyring: the first key writes.
        clock: wall clock.
        pool: memory.
        metrics: counters.
        changes: is told of each change.
        instance: of this router.
        frame_bytes: data bytes of a frame in new objects.
        timeout_ms: how long any one step may stand still.
    """

    def __init__(
        self,
        meta: Metadata,
        fleet: Fleet,
        policies: Policies,
        numbers: Numbers,
        keyring: Keyring,
        clock: Clock,
        pool: BufferPool,
        metrics: Metrics,
        changes: Changes,
        *,
        instance: str,
        frame_bytes: int,
        timeout_ms: int,
    ) -> None:
        self.meta: Final = meta
        self.fleet: Final = fleet
        self.policies: Final = policies
        self.quotas: Final = Quotas(meta, policies)
        self.numbers: Final = numbers
        self.keyring: Final = keyring
        self.clock: Final = clock
        self.pool: Final = pool
        self.metrics: Final = metrics
        self.instance: Final = instance
        self.frame_bytes: Final = frame_bytes
        self.timeout_ms: Final = timeout_ms
        self._count_written = metrics.objects_written.inc
        self._changes = changes
        self._budget = Budget(INGEST_PENDING_BYTES_MAX)
        self._uploads: dict[str, Upload] = {}
        self._small = SmallWrites(self)
        self.keeping: Final = Keeping(meta, fleet, policies, timeout_ms)
        self.deletes: Final = Deletes(self, changes)
        self._background: set[asyncio.Task[None]] = set()
        self._upkeep: asyncio.Task[None] | None = None
        self._stopping = False
        self._claims = 0
        self._asked = 0  # writes that were begun, also those whose first block has not come yet
        self._wrote_ms = -_QUIET_MS

    def filler(self) -> BlockFiller:
        """Makes the blocks of one stream."""
        return BlockFiller(self.frame_bytes, self.pool, self._budget)

    async def write(self, source: Source, target: Target) -> Written:
        """Store a stream and publish it under its name.

        Returns:
            What was written; by then every byte and the commit record are durable on as many
            putters as the policy asks for, and every reader sees the new version.

        Raises:
            EmptyObject: no byte came, and the door does not allow that.
            ClientGone: the stream broke off; nothing is visible.
            PreconditionFailed: the name holds something else than the condition wants.
            WriteConflict: another write with a condition has the name, for too long to wait.
            QuotaExceeded: its bucket may not hold that much.
            PutterError: nothing is visible and nobody needs to clean up.
        """
        if self._stopping:
            raise ShuttingDown("this router is shutting down", hint="send it again in a moment")
        self._asked += 1
        try:
            await self.quotas.announced(target)
            block = await source.next_block()
            started_ms = self._wrote_ms = self.clock.monotonic_ms()
            written = await self._write(block, source, target)
        finally:
            self._asked -= 1
        self.metrics.write_seconds.observe((self.clock.monotonic_ms() - started_ms) / 1000)
        return written

    async def _write(self, block: Block | None, source: Source, target: Target) -> Written:
        try:
            if not self.fleet.up():
                # A putter that was just restarted is back in a moment.
                await self.fleet.wait_up(min(self.timeout_ms, _PUTTER_PATIENCE_MS))
            bucket = target.bucket
            policy = self.policies.known(bucket) or await self.policies.of(bucket)
        except PutterError:
            if block is not None:
                block.release()
            raise
        if policy.versioning == "Enabled" and not is_hidden(bucket):
            target = replace(target, versioned=True, default=policy.locks)
        if block is None or target.if_match is not None:
            return await self._write_specially(block, source, target, policy)
        if block.last and len(block.data) <= SMALL_BYTES_MAX:
            written = await self._small.write(block, target, policy)
            if written is not None:
                return written
        return await self._write_alone(block, source, target, policy)

    async def _write_specially(
        self, block: Block | None, source: Source, target: Target, policy: Policy
    ) -> Written:
        """A file without a byte, or one with a condition: it claims its name before its record."""
        claim = None
        if target.if_match is not None:
            self._claims += 1
            claim = NameClaim(self.meta.claims, target, f"{self.instance}/{self._claims}")
        try:
            if block is None:
                return await self._write_empty(target, claim, policy)
            if claim is not None and block.last and len(block.data) <= SMALL_BYTES_MAX:
                try:
                    await claim.take()
                except BaseException:
                    block.release()
                    raise
                written = await self._small.write(block, target, policy)
                if written is not None:
                    return written
            return await self._write_alone(block, source, target, policy, claim)
        except BaseException:
            if claim is not None:
                self.in_background(claim.give_back())
            raise

    async def _write_alone(
        self,
        first: Block,
        source: Source,
        target: Target,
        policy: Policy,
        claim: NameClaim | None = None,
    ) -> Written:
        """The story of an object that travels alone, of any size."""
        block: Block | None = first
        upload: Upload | None = None
        try:
            upload = Upload(self, target.place, await self.numbers.object_id(), policy)
            self._uploads[upload.object_id] = upload
            if claim is not None and first.last:
                await claim.take()
            stamp = await upload.begin(first)
            while block is not None:
                await self.quotas.streamed(target, policy, upload.size + len(block.data))
                await upload.send(block)
                block = None if block.last else await source.next_block()
            if stamp is None:
                await upload.all_counted()
                if claim is not None:
                    await claim.take()
                # What travelled for long is described by the settings of its end.
                upload.policy = await self.policies.of(target.bucket)
                stamp = await self.numbers.stamp()
            version = upload.describe(target, stamp)
            await upload.record(version)
            await upload.all_counted()
            while not upload.described_truly:
                # A run that travelled with its record went elsewhere in the end.
                version = upload.describe(target, await self.numbers.stamp())
                await upload.record(version)
                await upload.all_counted()
            await self._publish(version, upload, target)
        except BaseException as error:
            if upload is not None:
                await self._give_up(upload, error)
            raise
        finally:
            if upload is not None:
                del self._uploads[upload.object_id]
            if block is not None:
                block.release()
        upload.finish()
        return self.written(version, upload.object_id, upload.digest, upload.holders)

    async def delete(self, bucket: str, key: str, condition: Condition | None = None) -> bool:
        """Make a name hold nothing; it is durable before the answer.

        Args:
            bucket: bucket name.
            key: key.
            condition: what holds of the version that may be deleted; None: of any.

        Returns:
            False if it held nothing.

        Raises:
            PreconditionFailed: it holds something else.
            WriteConflict: another change of the name on a condition is under way.
        """
        return (await self.deletes.name(bucket, key, condition)).found

    def start(self) -> None:
        """Begin to give signs of life for long writes."""
        self._upkeep = asyncio.get_running_loop().create_task(self._keep_alive())

    async def stop(self, timeout_ms: int) -> None:
        """Take nothing new, let what is under way finish within ``timeout_ms``."""
        self._stopping = True
        self._small.close()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_ms / 1000
        while (self._asked or self.writing or self._background) and loop.time() < deadline:
            await asyncio.sleep(0.01)
        if self._upkeep is not None:
            self._upkeep.cancel()
            await asyncio.gather(self._upkeep, return_exceptions=True)
        for task in list(self._background):
            task.cancel()
        await asyncio.gather(*self._background, self.quotas.stop(), return_exceptions=True)

    @property
    def writing(self) -> int:
        """Objects under way."""
        return len(self._uploads) + self._small.writing

    @property
    def busy(self) -> bool:
        """Whether somebody writes, or did a moment ago."""
        return self.writing > 0 or self.clock.monotonic_ms() - self._wrote_ms < _QUIET_MS

    @property
    def pending_bytes(self) -> int:
        """Bytes received that are not yet framed."""
        return self._budget.used_bytes

    # -- inside ----------------------------------------------------------------------------

    async def _publish(self, version: Version, upload: Upload, target: Target) -> None:
        post = of_version(upload.policy, target.event, version)
        commit = Commit(version, upload.tickets, upload.acked, target.if_match, post=post)
        upload.undecided = True
        outcome = await self.meta.objects.commit(commit)
        upload.undecided = False
        if outcome not in VISIBLE:
            raise await self.refused(commit, outcome)

    async def refused(self, commit: Commit, outcome: Outcome) -> PutterError:
        """What it means that a version was not published."""
        if outcome is Outcome.ELSEWHERE:
            self.policies.changed(plain_bucket(commit.version.bucket))
        elif outcome is Outcome.OVER_QUOTA:
            return await self.quotas.refusal(plain_bucket(commit.version.bucket))
        return refusal(commit, outcome)

    async def take_back(self, versions: Sequence[Version]) -> None:
        """Make it durable that versions never come to life whose records were sent.

        What takes longer than a sender should wait for goes on in the background.

        Args:
            versions: of one group, or one; all on the same putters.
        """
        work = self.in_background(self._abort(versions))
        await asyncio.wait({work}, timeout=ABORT_PATIENCE_MS / 1000)

    async def _abort(self, versions: Sequence[Version]) -> None:
        try:
            stamp = await self.numbers.stamps(len(versions))
            aborts = [
                Abort(version.bucket, version.key, stamp + n, object_id_of(version), version.stamp)
                for n, version in enumerate(versions)
            ]
            first = versions[0]
            nodes = {node: None for o in first.objects for e in o.extents for node in e.nodes}
            await self.keeping.keep(aborts, f"{first.bucket}/{first.key}", tuple(nodes))
        except PutterError as error:
            _log.warning("no abort is durable", versions=len(versions), reason=str(error))

    async def _write_empty(
        self, target: Target, claim: NameClaim | None, policy: Policy
    ) -> Written:
        if not target.empty_allowed:
            raise EmptyObject(
                "no bytes came before the end of the stream", hint="is the file empty?"
            )
        if claim is not None:
            await claim.take()
        stamp = await self.numbers.stamp()
        version = target.version(
            target.name(stamp), stamp, self.clock.now_ms(), policy.replicas, _EMPTY_DIGEST, ()
        )
        post = of_version(policy, target.event, version)
        holders = await self.publish_empty(Commit(version, 0, 0, target.if_match, post=post))
        return self.written(version, "", _EMPTY_DIGEST, holders)

    async def publish_empty(self, commit: Commit) -> int:
        """Publish a version without a byte; how many putters hold its record.

        Raises:
            PutterError: it is not visible, and never will be.
        """
        version = commit.version
        try:
            holders = len(await self.keeping.keep([version], f"{version.bucket}/{version.key}"))
        except PutterError:
            await self.take_back([version])
            raise
        outcome = await self.meta.objects.commit(commit)
        if outcome not in VISIBLE:
            await self.take_back([version])
            raise await self.refused(commit, outcome)
        return holders

    def written(self, version: Version, object_id: str, digest: bytes, holders: int) -> Written:
        """Count a write that succeeded, and describe it."""
        written = Written(object_id, version, digest, holders)
        self._count_written()
        self._changes.holds(version)
        self.quotas.written(version)
        if written.degraded:
            self.metrics.degraded_writes.inc()
            _log.warning(
                "written on fewer putters than wanted",
                name=f"{version.bucket}/{version.key}",
                holders=holders,
                wanted=version.replicas,
            )
        return written

    def failed(self, object_id: str, reason: PutterError) -> None:
        """Count an object whose sender is told that it failed."""
        self.metrics.objects_failed.labels(reason.code).inc()
        _log.warning("object failed", object=object_id, code=reason.code, reason=reason.message)

    async def _give_up(self, upload: Upload, error: BaseException) -> None:
        """Nothing more of it is sent, and nothing of it comes to life.

        Where Redis did not say whether it is published, a janitor finds out.
        """
        reason = as_putter_error(error)
        upload.abandon(reason)
        self.failed(upload.object_id, reason)
        if not upload.begun or upload.undecided:
            return
        forgotten = isinstance(error, ObjectGone)
        cleaning = self.in_background(self._mark_failed(upload, forgotten=forgotten))
        if upload.recorded is not None and not isinstance(error, asyncio.CancelledError):
            await self.before_the_answer(cleaning)

    async def before_the_answer(self, cleaning: asyncio.Task[None]) -> None:
        """A sender is not told of a failure before that is durable, but it does not wait long."""
        await asyncio.wait({cleaning}, timeout=2 * ABORT_PATIENCE_MS / 1000)

    def in_background(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Something that nobody has to wait for, but that `stop` gives a chance to finish."""
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    async def _mark_failed(self, upload: Upload, *, forgotten: bool) -> None:
        try:
            await upload.fail(forgotten=forgotten)
            if upload.recorded is None:
                return
            # Whoever brought Redis back meanwhile may have found the record on a putter.
            state = await self.meta.objects.get(upload.object_id)
        except PutterError as error:
            _log.warning("the janitor will clean up", object=upload.object_id, reason=str(error))
            return
        if state is None or state.state in {"writing", "failed"}:
            await self.take_back([upload.recorded])

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(_UPKEEP_MS / 1000)
            self.metrics.pending_bytes.set(self._budget.used_bytes)
            now_ms = self.clock.monotonic_ms()
            for upload in list(self._uploads.values()):
                try:
                    upload.check_progress(now_ms)
                    await upload.report()
                except PutterError as error:
                    _log.warning("no sign of life for an object", reason=str(error))
                except Exception:  # noqa: BLE001 - the others need theirs
                    _log.exception("looking after an object failed", object=upload.object_id)
