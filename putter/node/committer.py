"""Group commit without a timer: whatever arrived while the last sync ran goes together.

One disk thread owns the engine's writes. The event loop hands it everything that waits, it applies
all of it, syncs once, and the answers go out together.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Collection
from concurrent.futures import Executor
from typing import Any, Final, Protocol, TypeVar

from common.errors import PutterError, ShuttingDown, StorageError
from common.limits import MIB
from common.logs import get_logger
from common.metrics import Metrics
from putter.storage.engine import Engine

_GROUP_BYTES_MAX = 32 * MIB
_log = get_logger(__name__)
_NAMED: Final = 8
_REQUESTS_NAMED: Final = 32
T = TypeVar("T")


class Job(Protocol):
    """Something to be done to the engine and answered once it is durable."""

    @property
    def size(self) -> int:
        """Bytes it keeps in memory until it is done."""
        ...

    @property
    def objects(self) -> Collection[str]:
        """ObjectIDs that it is about, for the log; none for raw tickets and questions."""
        ...

    @property
    def requests(self) -> Collection[str]:
        """Ids of the clients' requests that it is for, as far as routers tell, for the log."""
        ...

    def apply(self, engine: Engine) -> None:
        """On the disk thread: do it, and remember the outcome."""
        ...

    def finish(self, error: PutterError | None) -> None:
        """On the event loop: it is durable, or ``error`` says why nothing may be acknowledged."""
        ...


class _CallJob:
    """One function call as a job with an awaitable result."""

    size = 0
    objects: Collection[str] = ()
    requests: Collection[str] = ()

    def __init__(self, call: Callable[[Engine], object], done: asyncio.Future[object]) -> None:
        self._call = call
        self._done = done
        self._result: object = None
        self._error: PutterError | None = None

    def apply(self, engine: Engine) -> None:
        try:
            self._result = self._call(engine)
        except PutterError as error:
            self._error = error

    def finish(self, error: PutterError | None) -> None:
        if self._done.done():
            return  # its caller gave up
        failure = self._error or error
        if failure is not None:
            self._done.set_exception(failure)
        else:
            self._done.set_result(self._result)


class Committer:
    """The queue before the disk thread."""

    def __init__(self, engine: Engine, thread: Executor, metrics: Metrics) -> None:
        self._engine = engine
        self._thread = thread
        self._metrics = metrics
        self._queue: deque[Job] = deque()
        self._running: asyncio.Task[None] | None = None
        self._stopped = False
        self._last_number = engine.last_number

    @property
    def last_number(self) -> int:
        """The highest number of a commit record that is durable."""
        return self._last_number

    @property
    def busy(self) -> bool:
        """Whether anything is on its way to the disk."""
        return self._running is not None

    def submit(self, job: Job) -> None:
        """Queue a job. It is finished with an error if the committer has stopped."""
        if self._stopped:
            job.finish(ShuttingDown("this putter is shutting down"))
            return
        self._queue.append(job)
        if self._running is None:
            self._running = asyncio.get_running_loop().create_task(self._drain())

    async def run(self, call: Callable[[Engine], T]) -> T:
        """Do something to the engine on the disk thread and wait until it is durable.

        Raises:
            PutterError: what the call or the sync raised.
        """
        done: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self.submit(_CallJob(call, done))
        return await done  # type: ignore[return-value]

    async def stop(self) -> None:
        """Finish what is queued, refuse what comes later."""
        self._stopped = True
        while self._running is not None:
            await asyncio.shield(self._running)

    async def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._queue:
                group = self._take()
                started = time.perf_counter()
                error = await loop.run_in_executor(self._thread, self._commit, group)
                self._metrics.group_commit_seconds.observe(time.perf_counter() - started)
                self._metrics.group_commit_size.observe(len(group))
                self._metrics.fsyncs.inc()
                for job in group:
                    job.finish(error)
        finally:
            self._running = None

    def _take(self) -> list[Job]:
        group: list[Job] = []
        size = 0
        while self._queue and (not group or size + self._queue[0].size <= _GROUP_BYTES_MAX):
            job = self._queue.popleft()
            size += job.size
            group.append(job)
        return group

    def _commit(self, group: list[Job]) -> PutterError | None:
        try:
            for job in group:
                job.apply(self._engine)
            self._engine.sync()
            self._last_number = self._engine.last_number
        except PutterError as error:
            _log.error("nothing of this group is durable", **_about(group), reason=str(error))
            return error
        except Exception as error:  # noqa: BLE001 - nothing of the group may be acknowledged
            _log.exception("the storage engine failed", **_about(group))
            return StorageError(f"the storage engine failed: {error}")
        return None


def _about(group: list[Job]) -> dict[str, Any]:
    """What the log says of a group: routers name the objects of a failed request, too."""
    objects = sorted({each for job in group for each in job.objects})
    requests = sorted({each for job in group for each in job.requests})
    return {
        "jobs": len(group),
        "objects": objects[:_NAMED],
        "of": len(objects),
        "requests": requests[:_REQUESTS_NAMED],
    }
