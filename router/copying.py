"""Extents copied from the putters that hold them to one that does not.

Frames travel as they are: what one putter answers is verified here and sent to the other, without
being taken apart. A slice that the other refuses, since it holds something else under a ticket, is
compared with what it holds, and what is wrong there is replaced.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

from common.buffers import BufferPool
from common.errors import IntegrityError, NodesUnavailable, PutterError, TicketTaken
from common.keys import Keyring
from common.limits import RUN_BYTES_TARGET
from common.logs import get_logger
from common.records import Extent, StoredObject
from common.requests import current_request
from common.wire import frames
from common.wire.session import Data, Read
from router.fetched import verified
from router.fleet import Fleet
from router.parcels import RunParcel
from router.quorum import Policy
from router.ranges import Slice, slices
from router.replicas import Replicas, Straight, until_durable

_log = get_logger(__name__)
_CALL_MS: Final = 15_000
_AHEAD: Final = 4
_ALONE: Final = Policy(1, 1)

Pace = Callable[[int], Awaitable[None]]
"""Awaited with a number of bytes before these are copied."""


class NotTakenError(NodesUnavailable):
    """The putter freed some of the object a moment ago, and takes nothing of it for a while."""


class Copier:
    """Copies extents.

    Args:
        fleet: the putters.
        keyring: any of its keys verifies, the first writes.
        replicas: compares and mends where a plain copy does not do.
        pool: takes the memory of what was sent.
    """

    def __init__(
        self,
        fleet: Fleet,
        keyring: Keyring,
        replicas: Replicas,
        pool: BufferPool,
    ) -> None:
        self._fleet = fleet
        self._keyring = keyring
        self._replicas = replicas
        self._pool = pool
        self._carrier = Straight(fleet)

    async def copy(self, stored: StoredObject, extent: Extent, node: str, pace: Pace) -> None:
        """Give a putter all of an extent; durable there when this returns.

        Args:
            stored: the object.
            extent: of it.
            node: whom.
            pace: awaited before each slice.

        Raises:
            IntegrityError: no putter of the extent has the right bytes.
            NotTakenError: the putter takes nothing of the object for a while.
            PutterError: not now.
        """
        before = stored.extents.index(extent)
        start = sum(each.size for each in stored.extents[:before])
        parts = slices(stored, start, start + extent.size, RUN_BYTES_TARGET)
        if extent.size <= RUN_BYTES_TARGET:
            for part in parts:
                await pace(part.size)
                await self._copy(stored, part, node)
            return
        loop = asyncio.get_running_loop()
        ahead: deque[asyncio.Task[None]] = deque()
        try:
            for part in parts:
                await pace(part.size)
                if len(ahead) == _AHEAD:
                    await ahead.popleft()
                ahead.append(loop.create_task(self._copy(stored, part, node)))
            while ahead:
                await ahead.popleft()
        finally:
            for task in ahead:
                task.cancel()
            await asyncio.gather(*ahead, return_exceptions=True)

    # -- inside ----------------------------------------------------------------------------

    async def _copy(self, stored: StoredObject, part: Slice, node: str) -> None:
        """One slice, from the first putter that has it whole and right."""
        problems: list[PutterError] = []
        for source in self._sources(part.nodes):
            try:
                runs = await self._fetch(source, stored, part, node)
            except PutterError as error:
                problems.append(error)
                if isinstance(error, IntegrityError):
                    _log.error("a replica is bad", node=source, reason=str(error))
                continue
            try:
                for run in runs:
                    run.dispatch()
                await until_durable(runs)
            except PutterError as error:
                _log.info("a plain copy does not do", node=node, reason=str(error))
                problems.append(error)
                break
            for run in runs:
                self._pool.give(run.frames)
            return
        await self._mend(stored, part, node, problems)

    async def _mend(
        self, stored: StoredObject, part: Slice, node: str, problems: list[PutterError]
    ) -> None:
        """Compare what every putter holds of a slice, and give one of them what it lacks."""
        if not await self._replicas.mend(stored, part, node):
            reasons = "; ".join(map(str, problems)) or "it does not take it"
            taken = any(isinstance(each, TicketTaken) for each in problems)
            raise (NotTakenError if taken else NodesUnavailable)(
                f"object {stored.object_id} cannot be copied to putter {node}: {reasons}"
            )

    def _sources(self, nodes: tuple[str, ...]) -> list[str]:
        """Connected holders, the least busy first."""
        up = [link for name in nodes if (link := self._fleet.link(name)) is not None and link.up]
        return [link.node for link in sorted(up, key=lambda link: link.inflight_bytes)]

    async def _fetch(
        self, source: str, stored: StoredObject, part: Slice, node: str
    ) -> list[RunParcel]:
        """The slice as runs for another putter, every frame verified.

        Raises:
            NotFound, NodesUnavailable: the source does not have all of it now.
            IntegrityError: what it has is damaged.
        """
        link = self._fleet.link(source)
        if link is None or not link.up:
            raise NodesUnavailable(f"putter {source} is not connected")
        answers = await link.call(
            lambda request: Read(request, part.first, part.count, request_id=current_request()),
            timeout_ms=_CALL_MS,
        )
        runs: list[RunParcel] = []
        expected, size = part.first, 0
        for header, payload in verified(answers, stored, part.first, self._keyring):
            runs.append(self._run(header, payload, stored, node))
            expected += header.count
            size += runs[-1].data_bytes
        if expected != part.first + part.count or size != part.size:
            raise NodesUnavailable(
                f"putter {source} holds {expected - part.first} of {part.count} tickets "
                f"of object {stored.object_id}"
            )
        return runs

    def _run(self, header: Data, payload: memoryview, stored: StoredObject, node: str) -> RunParcel:
        size = frames.data_bytes_of(len(payload), header.frame_bytes)
        if header.key_id != self._keyring.writing.key_id:
            data = memoryview(frames.strip(payload, header.frame_bytes))
            writing = self._keyring.writing.checksum
            frames.build(payload, data, header.first, header.frame_bytes, writing)
        return RunParcel(
            stored.object_id,
            header.first,
            header.count,
            size,
            payload,
            (node,),
            _ALONE,
            self._carrier,
            frame_bytes=header.frame_bytes,
        )
