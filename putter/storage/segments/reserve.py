"""What new tickets leave of the disk, for tombstones, removals and the copies of a compaction."""

from __future__ import annotations

from typing import Final

from putter.storage.segments.files import Files


class Reserve:
    """The reserve of one engine.

    A segment that was begun below the reserve is borrowed from it: it takes no new tickets before
    there is more space again. Otherwise small tickets would follow every tombstone into it.

    Args:
        files: of the data directory.
        size: bytes that stay free.
    """

    def __init__(self, files: Files, size: int) -> None:
        self.bytes: Final = size
        self._files = files
        self._segment = -1
        self._borrowed = False

    def refuses(self, segment: int) -> bool:
        """Whether the open segment, of this number, takes no new tickets."""
        if segment != self._segment or self._borrowed:
            self._segment = segment
            self._borrowed = self._files.capacity().free_bytes < self.bytes
        return self._borrowed
