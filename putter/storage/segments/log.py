"""The end of the log: records are gathered in memory and written by the block.

A commit is what one sync makes durable. Each begins at a fresh block, so a block that holds
acknowledged bytes is never written again: a torn write can only damage what nobody was promised.
"""

from __future__ import annotations

from threading import Lock
from typing import Final

from common.checksum import Buffer
from common.limits import MIB
from putter.storage.block_file import BLOCK_BYTES, BlockFile, aligned_buffer
from putter.storage.segments.formats import ALIGN, aligned

STAGING_BYTES: Final = 4 * MIB


class Log:
    """Appends to one segment file after the other.

    `read` may be called by any thread, the rest by one.

    Args:
        staging_bytes: gathered before they are written; whole blocks.
    """

    def __init__(self, staging_bytes: int = STAGING_BYTES) -> None:
        self._buffer = aligned_buffer(staging_bytes)
        self._lock = Lock()
        self._file: BlockFile | None = None
        self._number = 0
        self._base = 0
        self._filled = 0
        self._synced = self._tail = 0
        self._dirty = False

    @property
    def number(self) -> int:
        """Of the segment; 0 if there is none."""
        return self._number

    @property
    def end(self) -> int:
        """Where the next record begins."""
        return self._base + self._filled

    @property
    def synced(self) -> int:
        """Up to where everything is durable: where the present commit begins."""
        return self._synced

    @property
    def tail(self) -> int:
        """Behind the last record that is durable."""
        return self._tail

    @property
    def room(self) -> int:
        """Bytes that the segment still takes; 0 if there is none."""
        with self._lock:
            file = self._file
            end = self._base + self._filled
        return file.size // BLOCK_BYTES * BLOCK_BYTES - end if file is not None else 0

    @property
    def commit(self) -> int:
        """The block in which the present commit begins."""
        return self._synced // BLOCK_BYTES

    def open(self, file: BlockFile, number: int, at: int, tail: int = BLOCK_BYTES) -> None:
        """Go on in this segment.

        Args:
            file: of the segment.
            number: of the segment.
            at: the beginning of a block; everything before it is durable.
            tail: behind the last record.
        """
        with self._lock:
            self._file = file
            self._number = number
            self._base = self._synced = at
            self._tail = tail
            self._filled = 0
            self._dirty = False

    def leave(self) -> None:
        """Write to this segment no more; what is not synced is forgotten."""
        with self._lock:
            self._file = None
            self._number = self._base = self._synced = self._tail = self._filled = 0
            self._dirty = False

    def append(self, header: bytes, body: Buffer | tuple[Buffer, ...], length: int) -> int:
        """Add a record; there must be room.

        Args:
            header: its bytes before the body.
            body: copied; in pieces, if it came so.
            length: of both, up to where the next record begins.

        Returns:
            Its offset.

        Raises:
            StorageError, NoSpace: nothing since the last sync is there.
        """
        at = self.end
        with self._lock:
            pieces = body if isinstance(body, tuple) else (body,)
            for piece in (header, *pieces):
                self._copy(piece)
            self._copy(bytes(length - len(header) - sum(map(len, pieces))))
        self._dirty = True
        return at

    def read(self, number: int, offset: int, length: int) -> bytes | None:
        """Bytes that are not written yet, or in part; None if the file has them all."""
        with self._lock:
            if number != self._number or offset + length <= self._base or self._file is None:
                return None
            written = b""
            if offset < self._base:
                written = self._file.read(offset, self._base - offset)
            start = max(0, offset - self._base)
            return written + bytes(self._buffer[start : offset + length - self._base])

    def has_durably(self, number: int, end: int) -> bool:
        """Whether all that a segment has before a byte was synced, as far as this log knows."""
        with self._lock:
            return number != self._number or end <= self._synced

    def sync(self) -> bool:
        """Make everything durable that was added; the next record begins a new commit.

        Returns:
            Whether there was anything.

        Raises:
            StorageError: nothing since the last sync may be relied on.
        """
        if not self._dirty or self._file is None:
            return False
        tail = self.end
        with self._lock:
            padding = aligned(self._filled, BLOCK_BYTES) - self._filled
            self._buffer[self._filled : self._filled + padding] = bytes(padding)
            self._filled += padding
            if self._filled:
                self._write(self._filled)
        self._file.sync()
        self._synced, self._tail = self._base, tail
        self._dirty = False
        return True

    # -- inside ----------------------------------------------------------------------------

    def _copy(self, data: Buffer) -> None:
        room = len(self._buffer) - self._filled
        if len(data) <= room:
            self._buffer[self._filled : self._filled + len(data)] = data
            self._filled += len(data)
            return
        view = memoryview(data)
        at = 0
        while at < len(view):
            some = min(len(self._buffer) - self._filled, len(view) - at)
            self._buffer[self._filled : self._filled + some] = view[at : at + some]
            self._filled += some
            at += some
            if self._filled == len(self._buffer):
                self._write(self._filled)

    def _write(self, size: int) -> None:
        assert self._file is not None
        self._file.write(self._base, self._buffer[:size])
        self._base += size
        self._filled = 0


assert BLOCK_BYTES % ALIGN == 0
