"""When a child that died is started again: a decision, without a clock and without a process."""

from __future__ import annotations

from typing import Final

BACKOFF_MS_MIN: Final = 50
BACKOFF_MS_MAX: Final = 5_000
STABLE_S: Final = 30.0


def backoff_ms(failures: int) -> int:
    """The pause before a restart: doubles with each failure in a row, bounded.

    Args:
        failures: 1 for the first.
    """
    return min(BACKOFF_MS_MAX, BACKOFF_MS_MIN << min(failures - 1, 16))


class Restarts:
    """The deaths of one child.

    Args:
        stable_s: a life that lasted longer, counted from when it was ready, was a good one: the
            deaths before it are forgotten.
        deaths_max: quick deaths in a row after which it is given up; None: never.

    Attributes:
        failures: quick deaths in a row, the last one included.
    """

    def __init__(self, stable_s: float = STABLE_S, deaths_max: int | None = None) -> None:
        self.failures = 0
        self._stable_s = stable_s
        self._deaths_max = deaths_max

    def died(self, ready_s: float | None, now_s: float) -> int | None:
        """One more death.

        Args:
            ready_s: when it was ready, in seconds of a clock that only goes forward; None if it
                never was.
            now_s: the same clock now.

        Returns:
            The pause before the next start, in milliseconds; None to give it up.
        """
        stable = ready_s is not None and now_s - ready_s > self._stable_s
        self.failures = 1 if stable else self.failures + 1
        if self._deaths_max is not None and self.failures >= self._deaths_max:
            return None
        return backoff_ms(self.failures)
