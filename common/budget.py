"""Back-pressure: bytes that wait for the disk stop the sockets that they came from."""

from __future__ import annotations

from collections.abc import Callable


class Budget:
    """Counts bytes that are in memory and not yet durable, over all connections of a node."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._used = 0
        self._waiting: list[Callable[[], None]] = []

    @property
    def used_bytes(self) -> int:
        """Bytes taken and not given back."""
        return self._used

    @property
    def full(self) -> bool:
        """Whether nobody should read more from its socket."""
        return self._used >= self._limit

    def take(self, size: int) -> None:
        """Count ``size`` bytes that were received; never refuses, look at `full` afterwards."""
        self._used += size

    def give(self, size: int) -> None:
        """These bytes are out of memory again; wakes those who wait if there is room now."""
        self._used -= size
        if self._waiting and self._used < self._limit // 2:
            waiting, self._waiting = self._waiting, []
            for resume in waiting:
                resume()

    def when_free(self, resume: Callable[[], None]) -> None:
        """Call ``resume`` once when there is room again."""
        self._waiting.append(resume)


class Gate:
    """One connection's share of a `Budget`: pauses and resumes its socket."""

    def __init__(
        self,
        budget: Budget,
        limit_bytes: int,
        pause: Callable[[], None],
        resume: Callable[[], None],
    ) -> None:
        self._budget = budget
        self._limit = limit_bytes
        self._pause = pause
        self._resume = resume
        self._held = 0
        self._paused = False

    @property
    def held_bytes(self) -> int:
        """Bytes of this connection that are not yet durable."""
        return self._held

    def take(self, size: int) -> None:
        """Count received bytes; pause the socket if that is too much."""
        self._held += size
        self._budget.take(size)
        if self._paused:
            return
        if self._held >= self._limit or self._budget.full:
            self._paused = True
            self._pause()
            if self._budget.full:
                self._budget.when_free(self._check)

    def give(self, size: int) -> None:
        """These bytes are done; resume the socket if it may go on."""
        self._held -= size
        self._budget.give(size)
        self._check()

    def _check(self) -> None:
        if not self._paused:
            return
        if self._held >= self._limit // 2 and self._held > 0:
            return
        if self._budget.full:
            self._budget.when_free(self._check)
            return
        self._paused = False
        self._resume()
