"""Notices a client that takes nothing of its answer any more.

An answer that nobody reads keeps a connection, memory, and the bytes that it is made of from being
freed. How slowly a client reads is its own business, as long as something moves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

_LOOKS: Final = 4
"""In the time that a client may take nothing."""


class StallWatch:
    """Calls when a full write buffer stays as it is for a while.

    Args:
        transport: whose buffer it is; nobody writes while it is full.
        patience_ms: how long it may stay as it is; a call may come up to a quarter later.
        on_stall: called once.
    """

    def __init__(
        self, transport: asyncio.Transport, patience_ms: int, on_stall: Callable[[], None]
    ) -> None:
        self._transport = transport
        self._pause_s = patience_ms / 1000 / _LOOKS
        self._on_stall = on_stall
        self._left = transport.get_write_buffer_size()
        self._still = 0
        self._timer = self._wait()

    def stop(self) -> None:
        """It is not full any more."""
        self._timer.cancel()

    def _wait(self) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(self._pause_s, self._look)

    def _look(self) -> None:
        left = self._transport.get_write_buffer_size()
        self._still = self._still + 1 if left == self._left else 0
        self._left = left
        if self._still < _LOOKS:
            self._timer = self._wait()
        else:
            self._on_stall()
