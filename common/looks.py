"""What of a file was read before: the second look makes a place worth its pages in the cache.

A page that is filled for one reader costs more processor time than reading past the page cache
(figures in docs/internals/performance.md); a place that is read again should come from memory.
"""

from __future__ import annotations

from typing import Final

from common.limits import KIB, MIB

DIRECT_BLOCK_BYTES: Final = 4096
"""Reads past the page cache begin and end at multiples of this, in memory as in the file."""
DIRECT_READ_BYTES_MIN: Final = 32 * KIB
"""Shorter reads go through the page cache."""
DIRECT_SPAN_BYTES_MAX: Final = MIB + 64 * KIB
"""Longer ones, too."""
_PLACE_BYTES: Final = 64 * KIB


class Looks:
    """The places of one file that were read.

    Args:
        size: of the file in bytes.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._seen = bytearray()

    def first(self, offset: int, length: int) -> bool:
        """Note a read; whether nobody has read there before."""
        known = self.known(offset, length)
        if not self._seen:
            self._seen = bytearray(-(-self._size // _PLACE_BYTES))
        low, high = _places(offset, length)
        self._seen[low:high] = b"\1" * len(self._seen[low:high])
        return not known

    def known(self, offset: int, length: int) -> bool:
        """Whether somebody has read there before; notes nothing."""
        middle = sum(_places(offset, length)) // 2
        return self._seen[middle : middle + 1] == b"\1"

    def forget(self) -> None:
        """As if nothing had been read."""
        self._seen = bytearray()


def _places(offset: int, length: int) -> tuple[int, int]:
    return offset // _PLACE_BYTES, -(-(offset + length) // _PLACE_BYTES)


def direct_span(offset: int, length: int) -> tuple[int, int]:
    """The whole blocks that some bytes lie in: offset and length."""
    low = offset // DIRECT_BLOCK_BYTES * DIRECT_BLOCK_BYTES
    return low, -(-(offset + length) // DIRECT_BLOCK_BYTES) * DIRECT_BLOCK_BYTES - low
