"""Objects that were freed a moment ago: bytes of them that arrive late are refused.

A run may sit in a connection that was cut off while its object was given up and freed through
another one. Without the fence it would be stored when the line heals, and nobody would ever free
it. ObjectIDs are never used again, so that no new object meets the fence; it need not survive a
restart, which ends all connections.

The order to free may sit in such a connection, too, after another router has given it anew and been
answered. So the fence is not lifted for a putter that has to hold again what it freed: a late order
would find the new bytes, and take them away from a description that counts on them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

KEPT_S: Final = 180.0
"""Longer than a connection without an answer lives (see `common.transport`)."""
OBJECTS_MAX: Final = 200_000


class Fence:
    """Remembers freed objects for a while.

    Args:
        time_s: a clock that only goes forward.
    """

    def __init__(self, time_s: Callable[[], float]) -> None:
        self._time_s = time_s
        self._order: deque[tuple[float, str]] = deque()
        self._objects: set[str] = set()

    def add(self, object_ids: Iterable[str]) -> None:
        """These objects are being freed."""
        now = self._time_s()
        self._drop(now)
        for object_id in object_ids:
            if object_id not in self._objects:
                self._objects.add(object_id)
                self._order.append((now + KEPT_S, object_id))
        self._drop(now)

    def covers(self, object_id: str) -> bool:
        """Whether bytes of this object come too late.

        Not for ever: a putter that freed its surplus of an object may have to hold it again.
        """
        self._drop(self._time_s())
        return object_id in self._objects

    def __len__(self) -> int:
        return len(self._objects)

    # -- inside ----------------------------------------------------------------------------

    def _drop(self, now: float) -> None:
        while self._order and (self._order[0][0] <= now or len(self._order) > OBJECTS_MAX):
            self._objects.discard(self._order.popleft()[1])
