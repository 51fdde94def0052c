"""Decides which putters are to hold nothing any more, and has that noted.

A putter that has been away for longer than the store waits is not expected back in time: others get
copies of what it held. When it does come back, what was not moved yet stays with it.
"""

from __future__ import annotations

import asyncio
from typing import Final

from common.errors import PutterError
from common.logs import get_logger
from router.census import Census
from router.fleet import Fleet

_log = get_logger(__name__)
_LOOK_S: Final = 5.0


class Vacate:
    """One router's part in it.

    Args:
        fleet: the putters.
        census: walks.
        replace_after_ms: how long a putter may be away; 0: for ever.
    """

    def __init__(self, fleet: Fleet, census: Census, replace_after_ms: int) -> None:
        self._fleet = fleet
        self._census = census
        self._replace_after_ms = replace_after_ms
        self._noted: frozenset[str] = frozenset()
        self._names = 0
        self._task: asyncio.Task[None] | None = None

    @property
    def leaving(self) -> frozenset[str]:
        """The putters for which everything is noted."""
        return self._noted

    @property
    def names(self) -> int:
        """How many names held something on them at the last walk."""
        return self._names

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """End; what was not noted is noted by the next one."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def round(self) -> bool:
        """Look who leaves, and walk if that has changed.

        Returns:
            Whether it has.

        Raises:
            PutterError: Redis does not answer.
        """
        leaving = self._fleet.silent(self._replace_after_ms)
        if leaving == self._noted:
            return False
        self._fleet.leave_out(leaving)
        _log.warning(
            "putters are given up or taken back",
            given_up=sorted(leaving - self._noted),
            taken_back=sorted(self._noted - leaving),
        )
        found = await self._census.walk(leaving)
        if self._noted:
            await self._census.forget(self._noted)
        self._noted, self._names = leaving, found or 0
        return True

    # -- inside ----------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            try:
                await self.round()
            except PutterError as error:
                _log.debug("nobody is replaced now", reason=str(error))
            except Exception:  # noqa: BLE001 - it goes on with the next round
                _log.exception("replacing putters failed")
