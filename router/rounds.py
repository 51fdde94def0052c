"""Work that is done again and again beside everything else."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from common.errors import PutterError
from common.logs import get_logger
from common.requests import bind_request

_log = get_logger(__name__)


class Rounds:
    """Makes rounds until it is stopped; one that fails does not end them.

    Each has an id of its own, which all that is logged about it has.

    Args:
        work: one round.
        pause_s: between two of them, and before the first; 0: no round is ever made.
        what: names the work in the log.
    """

    def __init__(self, work: Callable[[], Awaitable[object]], pause_s: float, what: str) -> None:
        self._work = work
        self._pause_s = pause_s
        self._what = what
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        if self._pause_s:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """End, in the middle of a round if need be."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        while not task.cancelling():  # also where a round's cleaning up hid that it was cancelled
            await asyncio.sleep(self._pause_s)
            bind_request()
            try:
                await self._work()
            except PutterError as error:
                _log.debug("a round could not be made", what=self._what, reason=str(error))
            except Exception:  # noqa: BLE001 - it goes on with the next round
                _log.exception("a round failed", what=self._what)
