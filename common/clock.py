"""The seam to time."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Two clocks: one that people read and one that only goes forward."""

    def now_ms(self) -> int:
        """Wall clock, milliseconds since 1970-01-01 UTC; may jump."""
        ...

    def monotonic_ms(self) -> int:
        """Milliseconds since an arbitrary moment; never goes back."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now_ms(self) -> int:
        """Wall clock, milliseconds since 1970-01-01 UTC."""
        return time.time_ns() // 1_000_000

    def monotonic_ms(self) -> int:
        """Milliseconds since an arbitrary moment."""
        return time.monotonic_ns() // 1_000_000


class ManualClock:
    """A clock that stands still until it is moved; the twin for tests."""

    def __init__(self, start_ms: int = 1_700_000_000_000) -> None:
        self._now_ms = start_ms

    def now_ms(self) -> int:
        """The moment it was set to."""
        return self._now_ms

    def monotonic_ms(self) -> int:
        """The same moment."""
        return self._now_ms

    def advance(self, ms: int) -> None:
        """Move on by ``ms`` ≥ 0 milliseconds."""
        if ms < 0:
            raise ValueError("time does not go back")
        self._now_ms += ms
