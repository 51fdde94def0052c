"""Reads of large objects from the files of putters on this machine, without the putters.

A putter that is reached over a Unix socket is asked once where many runs lie. What lies there is
read by threads here and counts only if TicketIDs and checksums fit, which nothing but these very
tickets can: numbers are never given twice. So nobody has to keep a file from being compacted or
used again; whoever meets that asks the putter in the usual way.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

from common.buffers import BufferPool
from common.errors import PutterError
from common.keys import Keyring
from common.limits import KIB, MIB
from common.logs import get_logger
from common.metrics import Metrics
from common.records import StoredObject
from common.wire import frames
from common.wire.locations import Locate, Spots
from common.wire.session import Data
from router.links import NodeLink
from router.local_files import MARGIN_BYTES, LocalFiles
from router.ranges import Slice
from router.spots import Spot, SpotTable

Piece = tuple[Data, memoryview]
"""Verified frames, with the header that a putter would have sent."""

_log = get_logger(__name__)
_OBJECT_BYTES_MIN: Final = 4 * MIB
"""Of smaller ones the first answer is the whole object, as a rule, and nothing is left to ask."""
_SLICE_BYTES_MIN: Final = 16 * KIB
_SPOTS: Final = 128
_ASKED_MAX: Final = 4
_CALL_MS: Final = 5_000
_PAUSE_S: Final = 1.0
"""For so long a putter is not asked where things lie after something did not lie there."""
_JOBS_MAX: Final = 4
_SHARE_MIN: Final = 4
_TIDY_S: Final = 1.0
_AT_ONCE_BYTES_MAX: Final = 256 * KIB
"""So much is copied from the page cache and verified sooner than a thread would wake."""


class LocalReads:
    """What one router knows of the files on its machine.

    Args:
        keyring: any of its keys verifies.
        pool: memory of what is read.
        metrics: counters.
        enabled: whether to read anything.
    """

    def __init__(
        self, keyring: Keyring, pool: BufferPool, metrics: Metrics, *, enabled: bool = True
    ) -> None:
        self._enabled = enabled
        self._keyring = keyring
        self._pool = pool
        self._metrics = metrics
        self._tables: dict[str, SpotTable] = {}
        self._asked: dict[str, set[int]] = {}
        self._paused: dict[str, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: deque[_Read] = deque()
        self._jobs = 0
        self._planned = False
        self._files: LocalFiles | None = None
        self._threads: ThreadPoolExecutor | None = None
        self._tidy: asyncio.TimerHandle | None = None

    async def read(self, link: NodeLink, stored: StoredObject, part: Slice) -> list[Piece] | None:
        """The frames of a slice, verified.

        Returns:
            None if the putter has to be asked for them.
        """
        if part.size < _SLICE_BYTES_MIN or stored.size < _OBJECT_BYTES_MIN:
            return None
        if not (self._enabled and link.on_this_machine):
            return None
        table = self._tables.get(link.node)
        found = table.find(part.first, part.count) if table is not None else None
        if found is None:
            self._ask(link, stored, part)
            return None
        if not found:
            return None
        rooms = [self._pool.take(spot.length + MARGIN_BYTES) for spot in found]
        if len(found) == 1 and found[0].length <= _AT_ONCE_BYTES_MAX:
            piece = self._at_once(found[0], rooms[0], stored.frame_bytes)
            if piece is not None:
                self._metrics.local_read_bytes.inc(found[0].length)
                return [piece]
        read = _Read(found, rooms, stored.frame_bytes, asyncio.get_running_loop().create_future())
        self._waiting.append(read)
        self._plan()
        pieces = await read.done
        if pieces is None:
            for room in rooms:
                self._pool.give(room)
            if table is not None:
                table.forget(part.first, part.count)
            self._paused[link.node] = asyncio.get_running_loop().time() + _PAUSE_S
            return None
        self._metrics.local_read_bytes.inc(sum(spot.length for spot in found))
        return pieces

    async def stop(self) -> None:
        """Ask nothing more, wait for threads, and let go of all files."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._tidy is not None:
            self._tidy.cancel()
        threads, self._threads = self._threads, None
        if threads is not None:
            await asyncio.get_running_loop().run_in_executor(None, threads.shutdown)
        if self._files is not None:
            self._files.close()

    # -- where things lie ------------------------------------------------------------------

    def _ask(self, link: NodeLink, stored: StoredObject, part: Slice) -> None:
        """Have a putter tell where the tickets from a slice on lie; nobody waits for that."""
        node, loop = link.node, asyncio.get_running_loop()
        asked = self._asked.setdefault(node, set())
        ends = (e.first + e.count for e in stored.extents if e.first <= part.first)
        last = min((end for end in ends if end > part.first), default=part.first + part.count)
        # Slices are asked for in turn: those behind the first are in its answer.
        near = range(part.first - _SPOTS * max(1, MIB // stored.frame_bytes) + 1, part.first + 1)
        if len(asked) >= _ASKED_MAX or any(first in near for first in asked):
            return
        if self._paused.get(node, 0.0) > loop.time():
            return
        asked.add(part.first)
        task = loop.create_task(self._learn(link, part.first, last - part.first))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _learn(self, link: NodeLink, first: int, count: int) -> None:
        try:
            answers = await link.call(
                lambda request: Locate(request, first, count, _SPOTS), timeout_ms=_CALL_MS
            )
        except PutterError as error:
            _log.debug("a putter does not tell where tickets lie", reason=str(error))
            return
        finally:
            self._asked[link.node].discard(first)
        reply = answers[-1][0]
        if isinstance(reply, Spots) and first < reply.until <= first + count:
            self._tables.setdefault(link.node, SpotTable()).learn(first, reply)

    # -- reading ---------------------------------------------------------------------------

    def _plan(self) -> None:
        if not self._planned:
            self._planned = True
            asyncio.get_running_loop().call_soon(self._share_out)

    def _share_out(self) -> None:
        """What came in one turn of the loop goes to few threads."""
        self._planned = False
        loop = asyncio.get_running_loop()
        if self._threads is None:
            self._threads = ThreadPoolExecutor(_JOBS_MAX, "local-reads")
            self._files = LocalFiles(loop.time)
            self._tidy = loop.call_later(_TIDY_S, self._tidy_up)
        while self._waiting and self._jobs < _JOBS_MAX:
            size = -(-len(self._waiting) // (_JOBS_MAX - self._jobs))
            if self._waiting[0].spots[0].length < MIB // _SHARE_MIN:
                size = max(size, _SHARE_MIN)
            share = [self._waiting.popleft() for _ in range(min(size, len(self._waiting)))]
            self._jobs += 1
            job = loop.run_in_executor(self._threads, self._work, share)
            job.add_done_callback(partial(self._done, share))

    def _work(self, share: Sequence[_Read]) -> list[list[Piece] | None]:
        """On a thread."""
        return [self._pieces(read) for read in share]

    def _at_once(self, spot: Spot, room: memoryview, frame_bytes: int) -> Piece | None:
        if self._files is None or spot.file is None:
            return None
        payload = self._files.read_at_once(spot.file, room, spot.offset, spot.length)
        return None if payload is None else self._checked(spot, payload, frame_bytes)

    def _pieces(self, read: _Read) -> list[Piece] | None:
        assert self._files is not None
        out: list[Piece] = []
        for spot, room in zip(read.spots, read.rooms, strict=True):
            assert spot.file is not None
            try:
                with self._files.using(spot.file) as file:
                    payload = file.read(room, spot.offset, spot.length)
            except OSError as error:
                _log.debug("a file of a putter cannot be read", reason=str(error))
                return None
            piece = None if payload is None else self._checked(spot, payload, read.frame_bytes)
            if piece is None:
                return None
            out.append(piece)
        return out

    def _checked(self, spot: Spot, payload: memoryview, frame_bytes: int) -> Piece | None:
        """What was read, if it is what was meant to lie there."""
        if spot.frame_bytes != frame_bytes or spot.key_id not in self._keyring.ids:
            return None
        key = self._keyring.named(spot.key_id).checksum
        if frames.check(payload, spot.first, spot.frame_bytes, key).any():
            _log.debug("tickets do not lie where they did", first=spot.first, count=spot.count)
            return None
        return Data(0, spot.first, spot.count, frame_bytes, spot.key_id, more=True), payload

    def _done(self, share: Sequence[_Read], job: asyncio.Future[list[list[Piece] | None]]) -> None:
        self._jobs -= 1
        if not job.cancelled():
            error = job.exception()
            if error is not None:
                _log.error("a read of local files failed", exc_info=error)
            results = [None] * len(share) if error is not None else job.result()
            for read, result in zip(share, results, strict=True):
                if not read.done.done():
                    read.done.set_result(result)
        if self._waiting:
            self._plan()

    def _tidy_up(self) -> None:
        if self._files is not None and self._threads is not None:
            self._threads.submit(self._files.tidy)
            self._tidy = asyncio.get_running_loop().call_later(_TIDY_S, self._tidy_up)


class _Read:
    """One slice on its way."""

    def __init__(
        self,
        spots: list[Spot],
        rooms: list[memoryview],
        frame_bytes: int,
        done: asyncio.Future[list[Piece] | None],
    ) -> None:
        self.spots = spots
        self.rooms = rooms
        self.frame_bytes = frame_bytes
        self.done = done
