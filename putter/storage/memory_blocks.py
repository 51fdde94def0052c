"""Block files of the disk in memory: what was not synced goes, stays or tears, sector by sector."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from common.errors import PutterError
from putter.storage.block_file import BLOCK_BYTES

SECTOR_BYTES: Final = 512
"""What a disk writes as a whole."""


class BlockData:
    """The bytes of one block file.

    Args:
        size: of the file.
    """

    def __init__(self, size: int) -> None:
        self.data = bytearray(size)
        self._durable: dict[int, bytes] = {}
        """Of each block that was written since the last sync, what the platter holds."""
        self._lost: set[int] = set()
        """Blocks whose sync failed: the system believes them clean, the platter is as before."""

    def write(self, offset: int, data: memoryview) -> None:
        """Write whole blocks."""
        if offset % BLOCK_BYTES or len(data) % BLOCK_BYTES or offset + len(data) > len(self.data):
            raise ValueError(f"{len(data)} bytes at {offset} are not whole blocks of the file")
        for at in range(offset, offset + len(data), BLOCK_BYTES):
            self._durable.setdefault(at, bytes(self.data[at : at + BLOCK_BYTES]))
            self._lost.discard(at)
        self.data[offset : offset + len(data)] = data

    def sync(self) -> None:
        """Make what was written durable."""
        self._durable = {at: self._durable[at] for at in self._lost}

    def fail(self) -> None:
        """A sync failed: nothing of it got to the platter, and nobody will try again."""
        self._lost.update(self._durable)

    def crash(self, generator: random.Random) -> None:
        """Lose power. Blocks go one way or the other on their own: writes are reordered."""
        for at, old in sorted(self._durable.items()):
            new = bytes(self.data[at : at + BLOCK_BYTES])
            kept = old if at in self._lost else _torn(old, new, generator)
            self.data[at : at + BLOCK_BYTES] = kept
        self._durable.clear()
        self._lost.clear()


def _torn(old: bytes, new: bytes, generator: random.Random) -> bytes:
    way = generator.randrange(3)
    if way < 2:
        return new if way else old
    sectors = range(0, BLOCK_BYTES, SECTOR_BYTES)
    return b"".join(generator.choice((old, new))[at : at + SECTOR_BYTES] for at in sectors)


class MemoryBlockFile:
    """`putter.storage.block_file.BlockFile` on `BlockData`.

    Args:
        data: shared by all who open the file.
        fault: called with ``write``, ``read`` or ``sync`` before it is done; raises what the disk
            refuses with.
    """

    def __init__(self, data: BlockData, fault: Callable[[str], None]) -> None:
        self._data = data
        self._fault = fault

    @property
    def size(self) -> int:
        """Its length in bytes."""
        return len(self._data.data)

    def write(self, offset: int, data: memoryview) -> None:
        """Write whole blocks."""
        self._fault("write")
        self._data.write(offset, data)

    def read(self, offset: int, length: int) -> bytes:
        """Some bytes; fewer only at the end of the file."""
        self._fault("read")
        return bytes(self._data.data[offset : offset + length])

    def sync(self) -> None:
        """Make what was written durable."""
        try:
            self._fault("sync")
        except PutterError:
            self._data.fail()
            raise
        self._data.sync()

    def forget_cached(self) -> None:
        """Nothing is cached."""

    def close(self) -> None:
        """Nothing to let go of."""
