"""Gather calls that are made in the same moment, and send them together.

A `Gatherer` clocks itself: while a batch is under way, whatever arrives waits and becomes the
next batch. An idle gatherer sends a lone item at once, a busy one sends large batches; no timer,
nothing to tune.

```
call ─┐                       ┌─ result or exception, to each caller its own
call ─┼─► waiting ─► batch ───┤
call ─┘   ▲          (≤ batch_max items, ≤ in_flight_max batches at a time)
          └── Again ──────────┘
```
"""

from __future__ import annotations

import asyncio
import copy
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from common.errors import ShuttingDown
from common.requests import resume_request

Item = TypeVar("Item")
Result = TypeVar("Result")

IN_FLIGHT_MAX_DEFAULT: Final = 2
BATCH_MAX_DEFAULT: Final = 1024


@dataclass(frozen=True)
class Again:
    """What `send` answers for an item that shall travel once more, ahead of those that wait.

    Attributes:
        delay_ms: the pause before; meanwhile others travel.
    """

    delay_ms: int = 0


class _Entry(Generic[Item, Result]):
    """An item on its way, and who waits for it."""

    __slots__ = ("future", "item")

    def __init__(self, item: Item, future: asyncio.Future[Result]) -> None:
        self.item = item
        self.future = future


Send = Callable[[Sequence[Item]], Awaitable[Sequence[Result | Exception | Again]]]


class Gatherer(Generic[Item, Result]):
    """Calls that travel together.

    A caller that is cancelled before its batch leaves is not sent; one that is cancelled later
    leaves the others of its batch undisturbed.

    Args:
        send: takes a batch and answers for each item, in order, with its result, with an
            exception for this item alone, or with `Again`. If it raises, every item of the
            batch fails with a copy of that exception.
        in_flight_max: batches under way at a time.
        batch_max: items in a batch.
    """

    def __init__(
        self,
        send: Send[Item, Result],
        *,
        in_flight_max: int = IN_FLIGHT_MAX_DEFAULT,
        batch_max: int = BATCH_MAX_DEFAULT,
    ) -> None:
        if in_flight_max < 1 or batch_max < 1:
            raise ValueError("a gatherer needs room for one batch of one item")
        self._send = send
        self._in_flight_max = in_flight_max
        self._batch_max = batch_max
        self._waiting: deque[_Entry[Item, Result]] = deque()
        self._resting: dict[_Entry[Item, Result], None] = {}
        self._in_flight: dict[asyncio.Task[None], list[_Entry[Item, Result]]] = {}
        self._start_planned = False
        self._closed = False

    @property
    def waiting(self) -> int:
        """Items that no batch has taken yet, or that shall travel again."""
        return len(self._waiting) + len(self._resting)

    async def __call__(self, item: Item) -> Result:
        """Send ``item`` with the next batch and wait for its result.

        Raises:
            ShuttingDown: the gatherer is closed.
            Exception: what ``send`` answered for this item, or raised.
        """
        return await self.submit(item)

    def submit(self, item: Item) -> asyncio.Future[Result]:
        """Queue ``item`` for the next batch at once; the future has its result.

        Raises:
            ShuttingDown: the gatherer is closed.
        """
        if self._closed:
            raise ShuttingDown("this connection is closed")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._waiting.append(_Entry(item, future))
        self._plan_start(loop)
        return future

    def expire(self, judge: Callable[[Item], Exception | None]) -> bool:
        """Fail items that have waited for too long; their batches go on without them.

        Args:
            judge: the error of an item whose time is over, or None.

        Returns:
            Whether any item is left.
        """
        left = False
        for batch in (*self._in_flight.values(), self._waiting, self._resting):
            for entry in batch:
                if entry.future.done():
                    continue
                error = judge(entry.item)
                if error is None:
                    left = True
                else:
                    entry.future.set_exception(error)
        return left

    async def close(self) -> None:
        """Stop: batches under way are cancelled, every waiting caller gets `ShuttingDown`."""
        self._closed = True
        under_way = dict(self._in_flight)
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        for batch in (*under_way.values(), self._waiting, self._resting):
            for entry in batch:
                _fail(entry.future, ShuttingDown("this connection is closed"))
        self._waiting.clear()
        self._resting.clear()

    def _plan_start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start a batch at the end of this turn of the loop, so that the whole turn is in it."""
        if not self._start_planned and len(self._in_flight) < self._in_flight_max:
            self._start_planned = True
            loop.call_soon(self._start)

    def _start(self) -> None:
        self._start_planned = False
        if self._closed or len(self._in_flight) >= self._in_flight_max:
            return
        batch: list[_Entry[Item, Result]] = []
        while self._waiting and len(batch) < self._batch_max:
            entry = self._waiting.popleft()
            if not entry.future.done():
                batch.append(entry)
        if not batch:
            return
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._run(batch))
        self._in_flight[task] = batch
        task.add_done_callback(self._landed)
        if self._waiting:
            self._plan_start(loop)

    def _landed(self, task: asyncio.Task[None]) -> None:
        del self._in_flight[task]
        if self._waiting and not self._closed:
            self._plan_start(task.get_loop())

    async def _run(self, batch: list[_Entry[Item, Result]]) -> None:
        resume_request("")  # it is for many
        try:
            results = await self._send([entry.item for entry in batch])
            self._deliver(batch, results)
        except Exception as error:  # noqa: BLE001 - every waiter gets it
            for entry in batch:
                _fail(entry.future, _own_copy(error))

    def _deliver(
        self,
        batch: list[_Entry[Item, Result]],
        results: Sequence[Result | Exception | Again],
    ) -> None:
        if len(results) != len(batch):
            raise RuntimeError(f"{len(batch)} items were sent, {len(results)} were answered")
        again: list[_Entry[Item, Result]] = []
        for entry, result in zip(batch, results, strict=True):
            future = entry.future
            if future.done():
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            elif not isinstance(result, Again):
                future.set_result(result)
            elif result.delay_ms:
                self._resting[entry] = None
                future.get_loop().call_later(result.delay_ms / 1000, self._wake, entry)
            else:
                again.append(entry)
        self._waiting.extendleft(reversed(again))

    def _wake(self, entry: _Entry[Item, Result]) -> None:
        if entry in self._resting:
            del self._resting[entry]
            self._waiting.appendleft(entry)
            self._plan_start(entry.future.get_loop())


def _fail(future: asyncio.Future[Result], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)


def _own_copy(error: Exception) -> Exception:
    """A copy for one waiter: a shared exception would collect the traceback of all of them."""
    try:
        own = copy.copy(error)
    except TypeError:  # its constructor wants more than its ``args``
        return error
    own.__cause__ = error
    return own
