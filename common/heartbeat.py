"""The node's sign of life: registration and heartbeat with capacity."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from common.errors import PutterError
from common.limits import HEARTBEAT_MS, MEMBER_LOST_MS
from common.logs import get_logger
from common.meta.interface import Member, Members

_log = get_logger(__name__)


class Heartbeat:
    """Registers a member again and again until it leaves.

    Args:
        members: where.
        describe: the member with fresh numbers; may read the disk's capacity.
    """

    def __init__(self, members: Members, describe: Callable[[], Member]) -> None:
        self._members = members
        self._describe = describe
        self._task: asyncio.Task[None] | None = None
        self._healthy = False

    @property
    def healthy(self) -> bool:
        """Whether the last sign of life arrived."""
        return self._healthy

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Leave: the others do not wait for us."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._task = None
        try:
            async with asyncio.timeout(HEARTBEAT_MS / 1000):
                await self._members.leave(self._describe().node)
        except (PutterError, TimeoutError) as error:
            _log.warning("could not sign off", reason=str(error) or "no answer in time")

    async def _run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(MEMBER_LOST_MS / 1000):
                    await self._members.heartbeat(self._describe())
            except (PutterError, TimeoutError) as error:
                if self._healthy:
                    reason = str(error) or f"no answer within {MEMBER_LOST_MS} ms"
                    _log.warning("no sign of life could be given", reason=reason)
                self._healthy = False
            else:
                if not self._healthy:
                    _log.info("registered")
                self._healthy = True
            await asyncio.sleep(HEARTBEAT_MS / 1000)
