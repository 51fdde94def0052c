"""What was read lately, and may be used for a short time without asking again.

Whoever asks for a thing in use gets it at once: it is read again in the background before it is too
old. Reads of one thing at the same time are one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from common.errors import PutterError
from common.logs import get_logger

_log = get_logger(__name__)
T = TypeVar("T")
D = TypeVar("D")

REFRESH_S: Final = 1.0
"""After so long, a thing is read again if it is asked for."""
STALE_S: Final = 2.0
"""Nothing is used that was read longer ago."""


@dataclass(frozen=True, slots=True)
class _Held(Generic[T]):
    value: T
    read_at: float


class _Nothing:
    """Stands for what is not known, where None may be known."""


_NOTHING: Final = _Nothing()


class Recent(Generic[T]):
    """Things by name.

    Args:
        read: reads one.
        what: they are, for the log.
        count_max: how many are remembered; the oldest goes.
    """

    def __init__(self, read: Callable[[str], Awaitable[T]], what: str, count_max: int) -> None:
        self._read = read
        self._what = what
        self._count_max = count_max
        self._held: dict[str, _Held[T]] = {}
        self._asking: dict[str, asyncio.Task[T]] = {}

    def known(self, name: str, default: D) -> T | D:
        """The thing of a name if it was read at most `STALE_S` ago; else ask `of`."""
        held = self._held.get(name)
        if held is None:
            return default
        loop = asyncio.get_running_loop()
        age_s = loop.time() - held.read_at
        if age_s >= STALE_S:
            return default
        if age_s >= REFRESH_S and name not in self._asking:
            self._ask(name, loop)
        return held.value

    def last(self, name: str, default: D) -> T | D:
        """What was last read, however long ago."""
        held = self._held.get(name)
        return default if held is None else held.value

    async def of(self, name: str) -> T:
        """The thing of a name, as it was at most `STALE_S` ago.

        Raises:
            PutterError: it is not known, and cannot be read.
        """
        found = self.known(name, _NOTHING)
        if not isinstance(found, _Nothing):
            return found
        task = self._asking.get(name) or self._ask(name, asyncio.get_running_loop())
        return await asyncio.shield(task)

    def soon(self, name: str) -> None:
        """Read the thing of a name in the background, unless it is being read."""
        if name not in self._asking:
            self._ask(name, asyncio.get_running_loop())

    def changed(self, name: str) -> None:
        """A thing was changed here: what was read before counts no more."""
        self._held.pop(name, None)
        self._asking.pop(name, None)

    def clear(self) -> None:
        """All may have changed."""
        self._held.clear()
        self._asking.clear()

    async def stop(self) -> None:
        """End what is under way."""
        asking, self._asking = list(self._asking.values()), {}
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    # -- inside ----------------------------------------------------------------------------

    def _ask(self, name: str, loop: asyncio.AbstractEventLoop) -> asyncio.Task[T]:
        task = self._asking[name] = loop.create_task(self._ask_now(name, loop.time()))
        task.add_done_callback(lambda task: self._asked(name, task))
        return task

    async def _ask_now(self, name: str, asked_at: float) -> T:
        value = await self._read(name)
        if self._asking.get(name) is asyncio.current_task():
            self._held.pop(name, None)
            self._held[name] = _Held(value, asked_at)
            if len(self._held) > self._count_max:
                del self._held[next(iter(self._held))]
        return value

    def _asked(self, name: str, task: asyncio.Task[T]) -> None:
        if self._asking.get(name) is task:
            del self._asking[name]
        error = None if task.cancelled() else task.exception()
        if error is not None:
            tell = _log.debug if isinstance(error, PutterError) else _log.error
            tell("something is not to be had", what=self._what, name=name, why=str(error))
