"""The way of a read: resolve the name, fetch from a live replica, verify, stream.

Every frame is verified against its keyed checksum, and a read of all bytes against the object's
BLAKE3 before its last piece is handed out; a reader of a wrong byte never sees the end.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from typing import Final

from common.buffers import BufferPool
from common.checksum import ObjectHash, object_digest
from common.errors import IntegrityError, NodesUnavailable, NotFound, PutterError, error_for_status
from common.keys import Keyring
from common.limits import FRAME_HEADER_BYTES, READER_LEASE_MS, RUN_BYTES_TARGET
from common.logs import get_logger
from common.meta.interface import Metadata
from common.metrics import Metrics
from common.names import format_name
from common.records import StoredObject, Version
from common.sessions import Answer
from common.wire import frames
from common.wire.session import Data, Read
from router.fleet import Fleet
from router.ranges import Slice, halves, slices

_log = get_logger(__name__)
_AHEAD: Final = 4
_CALL_MS: Final = 15_000
_HOLD_ABOVE_BYTES: Final = 8 * RUN_BYTES_TARGET


class ReadPath:
    """Everything that a read needs, shared by all doors.

    Args:
        meta: the coordinator.
        fleet: the putters.
        keyring: any of its keys verifies.
        metrics: counters.
        instance: of this router, for reader leases.
        pool: memory of pieces.
    """

    def __init__(
        self,
        meta: Metadata,
        fleet: Fleet,
        keyring: Keyring,
        metrics: Metrics,
        instance: str,
        pool: BufferPool,
    ) -> None:
        self._meta = meta
        self._fleet = fleet
        self._keyring = keyring
        self._metrics = metrics
        self._instance = instance
        self._pool = pool
        self._readers = 0

    async def resolve(self, bucket: str, key: str) -> Version:
        """What the name holds now.

        Raises:
            NotFound: nothing.
        """
        version = await self._meta.files.resolve(bucket, key)
        if version is None:
            raise NotFound(f"there is no file {format_name(bucket, key)}")
        return version

    async def stream(
        self, version: Version, start: int, end: int
    ) -> AsyncGenerator[memoryview, None]:
        """Bytes ``start … end - 1`` of a version, verified, in pieces of about a run.

        The memory of a piece is used again once the next one is asked for; who needs it longer
        (as a transport does that has not sent it) keeps a view of its own.

        Args:
            version: what to read.
            start: first byte.
            end: the byte after the last one.

        Raises:
            NotFound: its bytes were freed meanwhile.
            IntegrityError: no replica has the right bytes.
            NodesUnavailable: no replica can be reached.
        """
        position = 0
        for stored in version.objects:
            low, high = max(start - position, 0), min(end - position, stored.size)
            if low < high:
                async for piece in self.object_bytes(version.bucket, stored, low, high):
                    self._metrics.served_bytes.inc(len(piece))
                    yield piece
            position += stored.size

    async def object_bytes(
        self, bucket: str, stored: StoredObject, start: int, end: int
    ) -> AsyncGenerator[memoryview, None]:
        """Bytes of one object; tickets of a long one are not freed while it is read."""
        parts = slices(stored, start, end, RUN_BYTES_TARGET)
        first = next(parts, None)
        if first is not None and first.keep == end - start:  # most reads; they need no task
            piece = await self._fetch(stored, first)
            if end - start == stored.size:
                _check_whole(stored, object_digest(piece))
            yield piece
            self._pool.give(piece)
            return
        self._readers += 1
        reader = f"{self._instance}/{self._readers}"
        keeper = None
        if end - start > _HOLD_ABOVE_BYTES:
            await self._hold(bucket, stored, reader)
            keeper = asyncio.get_running_loop().create_task(
                self._keep_holding(bucket, stored, reader)
            )
        pieces = self._fetched(stored, start, end)
        try:
            async for piece in pieces:
                yield piece
        finally:
            await pieces.aclose()
            if keeper is not None:
                keeper.cancel()
                await asyncio.gather(keeper, return_exceptions=True)
                await self._release(bucket, stored, reader)

    # -- inside ----------------------------------------------------------------------------

    async def _fetched(
        self, stored: StoredObject, start: int, end: int
    ) -> AsyncGenerator[memoryview, None]:
        hasher = ObjectHash() if start == 0 and end == stored.size else None
        loop = asyncio.get_running_loop()
        wanted = slices(stored, start, end, RUN_BYTES_TARGET)
        ahead: deque[asyncio.Task[memoryview]] = deque()
        left = end - start
        try:
            while True:
                while len(ahead) < _AHEAD and (part := next(wanted, None)) is not None:
                    ahead.append(loop.create_task(self._fetch(stored, part)))
                if not ahead:
                    return
                piece = await ahead.popleft()
                left -= len(piece)
                if hasher is not None:
                    hasher.update(piece)
                    if left == 0:
                        _check_whole(stored, hasher.digest())
                yield piece
                self._pool.give(piece)
        finally:
            for task in ahead:
                task.cancel()
            await asyncio.gather(*ahead, return_exceptions=True)

    async def _fetch(self, stored: StoredObject, part: Slice) -> memoryview:
        """One slice from the first replica that has it whole and right."""
        problems: list[PutterError] = []
        for node in self._order(part.nodes):
            try:
                return await self._fetch_from(node, stored, part)
            except PutterError as error:
                problems.append(error)
                if isinstance(error, IntegrityError):
                    _log.error(
                        "a replica is bad",
                        node=node,
                        object=stored.object_id,
                        first=part.first,
                        reason=str(error),
                    )
        wrong = [e for e in problems if isinstance(e, IntegrityError | NotFound)]
        if len(wrong) > 1 and part.count > 1:
            # Each of several replicas lacks something of it, but perhaps not the same tickets.
            low, high = halves(part, stored.frame_bytes)
            pieces = [await self._fetch(stored, half) for half in (low, high) if half.keep]
            return memoryview(b"".join(pieces))
        if wrong and len(wrong) == len(problems):
            raise next((e for e in wrong if isinstance(e, IntegrityError)), wrong[0])
        # A replica that is away may still have the right bytes.
        reasons = "; ".join(str(problem) for problem in problems)
        raise NodesUnavailable(
            f"object {stored.object_id} is on putters {', '.join(part.nodes)}, "
            f"none of which can serve it now: {reasons}",
            hint="bring one of them back; see `putter status`",
        )

    async def _fetch_from(self, node: str, stored: StoredObject, part: Slice) -> memoryview:
        link = self._fleet.link(node)
        if link is None or not link.up:
            raise NodesUnavailable(f"putter {node} is not connected")
        answers = await link.call(
            lambda request: Read(request, part.first, part.count), timeout_ms=_CALL_MS
        )
        out: memoryview | None = None
        expected = part.first
        position = 0
        for answer in answers:
            payload, count = self._checked(answer, stored, expected)
            size = frames.data_bytes_of(len(payload), stored.frame_bytes) if count else 0
            if size > part.size - position:
                break  # tickets of another length
            expected += count
            position += size
            if count == part.count == 1:
                out = payload[FRAME_HEADER_BYTES:]
            elif count:
                out = out or self._pool.take(part.size)
                frames.strip_into(out[position - size : position], payload, stored.frame_bytes)
                self._pool.give(payload)
        if out is None or expected != part.first + part.count or position != part.size:
            raise NotFound(
                f"putter {node} holds {expected - part.first} of {part.count} tickets "
                f"of object {stored.object_id}"
            )
        return out[part.skip : part.skip + part.keep]

    def _checked(
        self, answer: Answer, stored: StoredObject, expected: int
    ) -> tuple[memoryview, int]:
        """The frames of one message of an answer and how many they are."""
        header, payload = answer
        if not isinstance(header, Data):
            raise NodesUnavailable("a putter answered something else")
        if header.status:
            raise error_for_status(header.status, header.reason)
        if not header.more and not payload:
            return payload, 0
        if header.first != expected or header.frame_bytes != stored.frame_bytes:
            raise NotFound(f"tickets from {expected} on are missing")
        if frames.data_bytes_of(len(payload), header.frame_bytes) < 1:
            raise NotFound(f"ticket {expected} is cut short")
        key = self._keyring.named(header.key_id).checksum
        statuses = frames.check(payload, header.first, header.frame_bytes, key)
        if statuses.any():
            raise IntegrityError(
                f"{int(statuses.astype(bool).sum())} of {header.count} frames from ticket "
                f"{header.first} on are damaged"
            )
        return payload, len(statuses)

    def _order(self, nodes: tuple[str, ...]) -> list[str]:
        """Connected replicas first, the least busy before the others."""

        def burden(node: str) -> tuple[bool, int]:
            link = self._fleet.link(node)
            if link is None:
                return True, 0
            return not link.up, link.inflight_bytes

        return sorted(nodes, key=burden)

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


def _check_whole(stored: StoredObject, digest: bytes) -> None:
    if digest != stored.blake3:
        raise IntegrityError(
            f"object {stored.object_id}: the bytes do not have its BLAKE3",
            hint="every frame is valid, so its commit record is wrong",
        )
