"""A bounded rate for work that nobody waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

_DEBT_S: Final = 0.05
"""How far ahead of its rate work may run before it pauses."""


class Pace:
    """Lets bytes through at a bounded rate, shared by all who ask.

    Args:
        rate_bytes_per_s: while nobody waits for this router; 0 for no bound.
        busy: whether somebody does.
        busy_share: the part of the rate that is left to the work then.
    """

    def __init__(
        self, rate_bytes_per_s: int, busy: Callable[[], bool], busy_share: float = 0.125
    ) -> None:
        self._rate = rate_bytes_per_s
        self._busy = busy
        self._share = busy_share
        self._free_at = 0.0

    async def __call__(self, size: int) -> None:
        """Wait until so many bytes may go."""
        if not self._rate:
            return
        loop = asyncio.get_running_loop()
        rate = self._rate * (self._share if self._busy() else 1.0)
        now = loop.time()
        self._free_at = max(self._free_at, now) + size / rate
        ahead = self._free_at - now
        if ahead > _DEBT_S:
            await asyncio.sleep(ahead - _DEBT_S)
