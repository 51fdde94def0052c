"""Housekeeping of a node's disk: small pieces between the writes, at a bounded rate."""

from __future__ import annotations

import asyncio
from typing import Final

from common.errors import PutterError, ShuttingDown
from common.limits import MIB
from common.logs import get_logger
from common.metrics import Metrics
from putter.node.committer import Committer

PIECE_BYTES: Final = MIB
"""Copied at once: what a write may have to wait for."""
RATE_BYTES_PER_S: Final = 32 * MIB
PERIOD_S: Final = 5.0
"""Between two looks for something to do."""

_log = get_logger(__name__)


class Upkeep:
    """Lets the engine tend to itself.

    Args:
        committer: the way to the disk thread; every piece is synced with the writes around it.
        metrics: counters.
        rate_bytes_per_s: of what is copied.
        period_s: between two looks for something to do.
    """

    def __init__(
        self,
        committer: Committer,
        metrics: Metrics,
        *,
        rate_bytes_per_s: float = RATE_BYTES_PER_S,
        period_s: float = PERIOD_S,
    ) -> None:
        self._committer = committer
        self._metrics = metrics
        self._rate = rate_bytes_per_s
        self._period_s = period_s
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """End; a piece that is under way is finished by the committer."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        pause_s = self._period_s
        while True:
            await asyncio.sleep(pause_s)
            pause_s = self._period_s
            try:
                done = await self._committer.run(lambda engine: engine.tend(PIECE_BYTES))
            except ShuttingDown:
                return
            except PutterError as error:
                _log.warning("the disk could not be tended", reason=str(error))
            else:
                self._metrics.compacted_bytes.inc(done.copied_bytes)
                self._metrics.reclaimed_bytes.inc(done.freed_bytes)
                if done.more:
                    pause_s = done.copied_bytes / self._rate
