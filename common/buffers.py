"""A bounded pool of large buffers: fresh pages cost more than the bytes copied into them."""

from __future__ import annotations

import sys
from collections import deque
from contextlib import suppress
from typing import Final

from common.limits import KIB, MIB
from common.wire.reader import Buffers


def _references_of_one() -> int:
    owner = bytearray()
    return sys.getrefcount(owner)


_ALONE: Final = _references_of_one()
"""The count of a bytearray that only a local variable refers to: a view of it would add to it."""


class BufferPool(Buffers):
    """Hands out writable buffers and takes them back.

    Sizes are rounded up a little for keeping, by an eighth at most where they are large; what is
    handed out has exactly the length that was asked for. A buffer that is never given back is
    simply garbage collected.

    One that is given back while somebody still has a view of it is lent until the last view is
    gone: a transport holds the bytes that it did not send yet, also those that nobody waits for any
    more, and they must not change. Past a bound such a buffer simply goes with its last view.
    """

    _SMALLEST = 16 * KIB
    _STEPS = 8
    _LOOKS = 4

    def __init__(self, kept_bytes_max: int = 32 * MIB) -> None:
        self._kept_bytes_max = kept_bytes_max
        self._kept_bytes = 0
        self._free: dict[int, list[bytearray]] = {}
        self._lent: deque[bytearray] = deque()
        self._lent_bytes = 0

    def take(self, size: int) -> memoryview:
        """A writable buffer of ``size`` ≥ 1 bytes with arbitrary content."""
        if self._lent:
            self._look_for_returns()
        room = self._room(size)
        kept = self._free.get(room)
        if kept:
            self._kept_bytes -= room
            return memoryview(kept.pop())[:size]
        return memoryview(bytearray(room))[:size]

    def give(self, buffer: memoryview) -> None:
        """Take a buffer back; who gives it may not use it any more."""
        owner = buffer.obj
        with suppress(BufferError):  # somebody reads it through this very view
            buffer.release()
        if not isinstance(owner, bytearray) or len(owner) != self._room(len(owner)):
            return
        if sys.getrefcount(owner) != _ALONE:
            self._lend(owner)
            return
        self._keep(owner)

    @property
    def kept_bytes(self) -> int:
        """Bytes that wait to be used again."""
        return self._kept_bytes

    def _lend(self, owner: bytearray) -> None:
        self._lent.append(owner)
        self._lent_bytes += len(owner)
        while self._lent_bytes > self._kept_bytes_max:
            self._lent_bytes -= len(self._lent.popleft())

    def _look_for_returns(self) -> None:
        """Those that were lent first are the first to come back, as a rule."""
        for _ in range(min(len(self._lent), self._LOOKS)):
            owner = self._lent.popleft()
            if sys.getrefcount(owner) == _ALONE:
                self._lent_bytes -= len(owner)
                self._keep(owner)
            else:
                self._lent.append(owner)

    def _keep(self, owner: bytearray) -> None:
        room = len(owner)
        if self._kept_bytes + room <= self._kept_bytes_max:
            self._free.setdefault(room, []).append(owner)
            self._kept_bytes += room

    def _room(self, size: int) -> int:
        """Eight sizes between two powers of two: a run is a power of two, and its headers."""
        step = max(self._SMALLEST, (1 << (size.bit_length() - 1)) // self._STEPS)
        return -(-size // step) * step
