"""Compresses what shrinks, and spends next to nothing on what does not.

Of a run of several blocks a few places are tried first. Short runs are tried as a whole, but after
some in a row that did not shrink, more and more of them are passed over.
"""

from __future__ import annotations

from typing import Final

import zstandard

from common.checksum import Buffer
from common.limits import KIB

COMPRESS_BYTES_MIN: Final = KIB
"""Shorter runs are not compressed."""
_LEVEL: Final = 1
_SAMPLES: Final = 3
_SAMPLE_BYTES: Final = 2 * KIB
_PASSED_OVER_MAX: Final = 32


def pays(size: int, plain: int) -> bool:
    """Whether so much is saved that it is worth decompressing: a sixteenth."""
    return size <= plain - plain // 16 and size < plain


class Squeezer:
    """Compresses blocks. For one thread.

    Args:
        block_bytes: a run that is not longer is one block.
    """

    def __init__(self, block_bytes: int) -> None:
        self._block_bytes = block_bytes
        self._compressor = zstandard.ZstdCompressor(level=_LEVEL)
        self._failures = 0
        self._passed_over = 0

    def promises(self, frames: memoryview) -> bool:
        """Whether it is worth trying to compress the blocks of a run."""
        if len(frames) < COMPRESS_BYTES_MIN:
            return False
        if len(frames) <= self._block_bytes:
            self._passed_over += 1
            if self._passed_over < min(1 << self._failures, _PASSED_OVER_MAX):
                return False
            self._passed_over = 0
            return True
        step = max(1, (len(frames) - _SAMPLE_BYTES) // (_SAMPLES - 1))
        cuts = range(0, step * _SAMPLES, step)
        sample = b"".join(frames[at : at + _SAMPLE_BYTES] for at in cuts)
        return pays(len(self._compressor.compress(sample)), len(sample))

    def squeeze(self, piece: Buffer) -> bytes | None:
        """A block compressed, or None if that does not pay."""
        squeezed = self._compressor.compress(piece)
        done = pays(len(squeezed), len(piece))
        if len(piece) <= self._block_bytes:
            self._failures = 0 if done else min(self._failures + 1, _PASSED_OVER_MAX)
        return squeezed if done else None


def expand(piece: Buffer, plain: int) -> bytes | None:
    """The inverse; None if it is not that. Never more than ``plain`` bytes are set aside."""
    try:
        # Without this, the length that the bytes themselves claim would be set aside.
        if zstandard.frame_content_size(piece) != plain:
            return None
        data = zstandard.ZstdDecompressor().decompress(piece, max_output_size=plain)
    except zstandard.ZstdError:
        return None
    return data if len(data) == plain else None
