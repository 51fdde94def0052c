"""The way of a read: resolve the name, fetch from live replicas, verify, stream.

How many replicas of a frame are looked at is the business of `router.fetching`. Every frame is
verified against its keyed checksum, and a read of all bytes against the object's BLAKE3 before its
last piece is handed out; a reader of a wrong byte never sees the end. Of a large object that is
read whole again the frames are enough (`router.composed`).

What was fetched and not taken by its client yet is counted, over all reads. While that is too much,
pieces are one frame and nothing is fetched ahead: slow readers make others slower, never memory
grow.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
from collections import deque
from collections.abc import AsyncGenerator
from typing import Final

from common.budget import Budget
from common.buffers import BufferPool
from common.checksum import ObjectHash
from common.errors import IntegrityError, MetadataUnavailable, NotFound, PutterError
from common.keys import Keyring
from common.limits import READER_LEASE_MS, READS_PENDING_BYTES_MAX, RUN_BYTES_TARGET
from common.logs import get_logger
from common.meta.interface import Metadata
from common.metrics import Metrics
from common.names import format_name
from common.records import StoredObject, Version
from router.composed import Composed
from router.fetched import Fetched
from router.fetching import Fetching
from router.object_keys import ObjectKey, Transform, key_of
from router.policies import Policies
from router.quorum import Policy
from router.ranges import Slice, slices

_log = get_logger(__name__)
_AHEAD: Final = 4
_HOLD_ABOVE_BYTES: Final = 8 * RUN_BYTES_TARGET
ASK_AGAIN: Final = "Redis does not answer: ask again in a moment"


class ReadPath:
    """Everything that a read needs, shared by all doors.

    Args:
        meta: the coordinator.
        fetching: brings verified bytes of replicas.
        policies: how many replicas a read has verified.
        metrics: counters.
        instance: of this router, for reader leases.
        pool: memory of pieces.
        keyring: opens what was encrypted with keys of ours.
    """

    def __init__(
        self,
        meta: Metadata,
        fetching: Fetching,
        policies: Policies,
        metrics: Metrics,
        instance: str,
        pool: BufferPool,
        keyring: Keyring,
    ) -> None:
        self.metrics: Final = metrics
        self.policies: Final = policies
        self._meta = meta
        self._fetching = fetching
        self._confirmed = True
        self._instance = instance
        self._pool = pool
        self._keyring = keyring
        self._key: ObjectKey | None = None
        self._as_stored = False
        self._readers = itertools.count(1)
        self._composed = Composed()
        self._held = Budget(READS_PENDING_BYTES_MAX)

    def unconfirmed(self) -> ReadPath:
        """The same, in the same memory, for versions that Redis does not confirm now.

        It asks and tells Redis nothing. That bytes are gone means then that they were freed.
        """
        other = copy.copy(self)
        other._confirmed = False  # noqa: SLF001 - it is one of ours
        return other

    def opening(self, key: ObjectKey) -> ReadPath:
        """The same, for the one version that this key is of."""
        other = copy.copy(self)
        other._key = key  # noqa: SLF001 - it is one of ours
        return other

    def as_stored(self) -> ReadPath:
        """The same, giving out bytes as they are stored, also encrypted ones."""
        other = copy.copy(self)
        other._as_stored = True  # noqa: SLF001 - it is one of ours
        return other

    @property
    def held_bytes(self) -> int:
        """Bytes that were fetched, or are being fetched, and were not given back."""
        return self._held.used_bytes

    async def resolve(self, bucket: str, key: str) -> Version:
        """What the name holds now.

        Raises:
            NotFound: nothing.
        """
        version = await self._meta.files.resolve(bucket, key)
        if version is None:
            raise absent(bucket, key)
        return version

    def check_key(self, version: Version) -> None:
        """Refuse a version that this path cannot open.

        Raises:
            KeyNeeded: it is encrypted with a key of its client.
        """
        self._transform(version, 0)

    async def stream(
        self, version: Version, start: int, end: int
    ) -> AsyncGenerator[memoryview, None]:
        """Bytes ``start … end - 1`` of a version, verified, in pieces of a run at most.

        The memory of a piece may be used again once the next one is asked for; who needs it longer
        (as a transport does that has not sent it) keeps a view of its own.

        Args:
            version: what to read.
            start: first byte.
            end: the byte after the last one.

        Raises:
            KeyNeeded: it is encrypted with a key that this path does not have.
            NotFound: its bytes were freed meanwhile.
            IntegrityError: no replica has the right bytes.
            NodesUnavailable: no replica can be reached, or fewer than the policy asks for.
        """
        runs = self.runs(version, start, end)
        try:
            async for run in runs:
                for part in run.parts:
                    yield part
        finally:
            await runs.aclose()

    async def runs(self, version: Version, start: int, end: int) -> AsyncGenerator[Fetched, None]:
        """The same in pieces of about a run, as the frames lie in memory."""
        transform = self._transform(version, start)
        bucket = version.bucket
        policy = self.policies.known(bucket) or await self._policy(bucket)
        position = 0
        for stored in version.objects:
            low, high = max(start - position, 0), min(end - position, stored.size)
            if low < high:
                pieces = self._object(bucket, stored, low, high, policy)
                try:
                    async for piece in pieces:
                        self.metrics.served_bytes.inc(piece.size)
                        try:
                            if transform is not None:
                                piece.transform(transform, self._pool)
                            yield piece
                        finally:
                            self.give(piece)
                finally:
                    await pieces.aclose()
            position += stored.size

    async def short(self, version: Version, start: int, end: int) -> Fetched | None:
        """The same for what one fetch gives; None if it takes more. Goes back with `give`."""
        if len(version.objects) != 1:
            return None
        stored = version.objects[0]
        part = next(slices(stored, start, end, self._piece_bytes(stored)), None)
        if part is None or part.keep != end - start:
            return None
        transform = self._transform(version, start)
        bucket = version.bucket
        policy = self.policies.known(bucket) or await self._policy(bucket)
        piece = await self._only(stored, part, policy)
        if transform is not None:
            piece.transform(transform, self._pool)
        self.metrics.served_bytes.inc(piece.size)
        return piece

    def looked_at(self, version: Version, start: int, end: int, piece: Fetched) -> dict[str, str]:
        """What an answer's head says of the replicas that are verified for it.

        Later pieces of a long answer are not fetched by then; for these it goes by who is there.

        Args:
            version: what is read.
            start: first byte.
            end: the byte after the last one.
            piece: the first one.
        """
        if not piece.replicas:
            return {}
        least = piece.replicas
        position = 0
        for stored in version.objects:
            for extent in stored.extents:
                if position < end and start < position + extent.size and piece.size < end - start:
                    least = min(least, self._fetching.there(extent.nodes))
                position += extent.size
        return {"X-Replicas-Verified": f"{least}/{piece.wanted}"}

    def give(self, piece: Fetched) -> None:
        """Take the memory of a piece back; who still sends it keeps views of it."""
        self._held.give(piece.size)
        piece.parts.clear()
        for buffer in piece.buffers:
            self._pool.give(buffer)

    # -- inside ----------------------------------------------------------------------------

    async def _object(
        self, bucket: str, stored: StoredObject, start: int, end: int, policy: Policy
    ) -> AsyncGenerator[Fetched, None]:
        """Bytes of one object; tickets of a long one are not freed while it is read."""
        parts = slices(stored, start, end, self._piece_bytes(stored))
        first = next(parts, None)
        if first is not None and first.keep == end - start:  # most reads; they need no task
            yield await self._only(stored, first, policy)
            return
        reader = f"{self._instance}/{next(self._readers)}"
        keeper = None
        if self._confirmed and end - start > _HOLD_ABOVE_BYTES:
            await self._hold(bucket, stored, reader)
            keeper = asyncio.get_running_loop().create_task(
                self._keep_holding(bucket, stored, reader)
            )
        pieces = self._ahead(stored, start, end, policy)
        try:
            async for piece in pieces:
                yield piece
        finally:
            await pieces.aclose()
            if keeper is not None:
                keeper.cancel()
                await asyncio.gather(keeper, return_exceptions=True)
                await self._release(bucket, stored, reader)

    async def _only(self, stored: StoredObject, part: Slice, policy: Policy) -> Fetched:
        piece = await self._take(stored, part, policy)
        if part.keep == stored.size:
            hasher = ObjectHash()
            piece.hash_into(hasher)
            try:
                _check_whole(stored, hasher.digest())
            except IntegrityError:
                self.give(piece)
                raise
        return piece

    async def _ahead(
        self, stored: StoredObject, start: int, end: int, policy: Policy
    ) -> AsyncGenerator[Fetched, None]:
        whole = start == 0 and end == stored.size
        hasher = ObjectHash() if whole and not self._composed.holds(stored) else None
        loop = asyncio.get_running_loop()
        piece_bytes = self._piece_bytes(stored)
        wanted = slices(stored, start, end, piece_bytes)
        ahead: deque[asyncio.Task[Fetched]] = deque()
        planned, left = start, end - start
        try:
            while left:
                if piece_bytes != self._piece_bytes(stored):
                    piece_bytes = self._piece_bytes(stored)
                    wanted = slices(stored, planned, end, piece_bytes)
                while len(ahead) < (1 if self._held.full else _AHEAD):
                    part = next(wanted, None)
                    if part is None:
                        break
                    planned += part.keep
                    ahead.append(loop.create_task(self._take(stored, part, policy)))
                if not ahead:
                    return
                piece = await ahead[0]
                left -= piece.size
                if hasher is not None:
                    piece.hash_into(hasher)
                    if left == 0:
                        _check_whole(stored, hasher.digest())
                        self._composed.note(stored)
                ahead.popleft()
                yield piece
        finally:
            for task in ahead:
                task.cancel()
            for result in await asyncio.gather(*ahead, return_exceptions=True):
                if isinstance(result, Fetched):
                    self.give(result)

    def _piece_bytes(self, stored: StoredObject) -> int:
        """The most of one fetch: a run, or a frame while memory is short."""
        return stored.frame_bytes if self._held.full else RUN_BYTES_TARGET

    async def _take(self, stored: StoredObject, part: Slice, policy: Policy) -> Fetched:
        """Fetch a slice; it is counted until it goes back with `give`."""
        self._held.take(part.keep)
        try:
            return await self._fetching.fetch(stored, part, policy)
        except BaseException as error:
            self._held.give(part.keep)
            if isinstance(error, NotFound) and not self._confirmed:
                raise MetadataUnavailable(
                    f"the version that was known here is gone: {error}", hint=ASK_AGAIN
                ) from None
            raise

    def _transform(self, version: Version, start: int) -> Transform | None:
        """What makes plain bytes of stored ones, from one on; None: they are what is wanted."""
        if version.encryption is None or self._as_stored:
            return None
        key = self._key
        if key is None or key.encryption != version.encryption:
            key = key_of(self._keyring, version.encryption)
        return key.transform(version.parts, start)

    async def _policy(self, bucket: str) -> Policy:
        if not self._confirmed and (last := self.policies.last(bucket)) is not None:
            return last
        return await self.policies.of(bucket)

    async def _hold(self, bucket: str, stored: StoredObject, reader: str) -> None:
        held = await self._meta.objects.hold(bucket, stored.object_id, reader, READER_LEASE_MS)
        if not held:
            raise NotFound(f"object {stored.object_id} was deleted meanwhile")

    async def _keep_holding(self, bucket: str, stored: StoredObject, reader: str) -> None:
        while True:
            await asyncio.sleep(READER_LEASE_MS / 3000)
            try:
                await self._hold(bucket, stored, reader)
            except PutterError as error:
                _log.warning("a reader's lease", object=stored.object_id, reason=str(error))

    async def _release(self, bucket: str, stored: StoredObject, reader: str) -> None:
        try:
            await self._meta.objects.release(bucket, stored.object_id, reader)
        except PutterError as error:
            _log.debug("a reader's lease runs out by itself", reason=str(error))


def absent(bucket: str, key: str) -> NotFound:
    """A name holds nothing."""
    return NotFound(f"there is no file {format_name(bucket, key)}")


def _check_whole(stored: StoredObject, digest: bytes) -> None:
    if digest != stored.blake3:
        raise IntegrityError(
            f"object {stored.object_id}: the bytes do not have its BLAKE3",
            hint="every frame is valid, so its commit record is wrong",
        )
