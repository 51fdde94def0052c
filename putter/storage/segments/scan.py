"""Reading a segment from its beginning to its end, whatever happened to it.

Records stand behind each other, so a scan steps from header to header. Where no valid header
stands, a commit may have ended (zeros fill its last block, and the next one begins behind that), or
something is damaged: the scan looks for the next magic word at a multiple of 8. What it finds
counts only if it belongs to this segment, is authentic, and is not older than what stands before
it: a record with a lower epoch was cut off at an earlier recovery and lies there by accident.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from common.limits import MIB
from putter.storage.block_file import BLOCK_BYTES
from putter.storage.segments.formats import (
    ALIGN,
    HEADER_BYTES,
    NAME_BYTES_MAX,
    RECORD_MAGIC,
    Header,
    aligned,
    decode_header,
)

Read = Callable[[int, int], bytes]
"""``read(offset, length)``: bytes of the segment, fewer at its end."""

_WINDOW_BYTES: Final = 4 * MIB
_HEAD_MAX: Final = HEADER_BYTES + 2 * NAME_BYTES_MAX


@dataclass(frozen=True, slots=True)
class Found:
    """A record whose header is whole.

    Attributes:
        at: offset of the record.
        header: what it says.
        after_gap: something before it could not be read.
    """

    at: int
    header: Header
    after_gap: bool


@dataclass(frozen=True, slots=True)
class Gap:
    """Bytes between records that are neither records nor the rest of a block that was left empty.

    Attributes:
        at: where they begin.
        end: where the next record begins.
    """

    at: int
    end: int


def scan(
    read: Read, size: int, number: int, secret: bytes, window_bytes: int = _WINDOW_BYTES
) -> Iterator[Found | Gap]:
    """All records of a segment, in order, and what is damaged between them.

    Args:
        read: from the segment.
        size: of the file.
        number: of the segment.
        secret: of the directory.
        window_bytes: read at once.

    Raises:
        StorageError: the disk refused to read.
    """
    window = _Window(read, size, window_bytes)
    at = BLOCK_BYTES
    broken_at: int | None = None
    ended = False
    newest = (0, 0)
    while at + HEADER_BYTES <= size:
        header = decode_header(window.at(at, _HEAD_MAX), secret, number)
        if header is not None and at + header.length > size:
            header = None
        if header is None or (header.epoch, header.commit) < newest:
            if broken_at is None:
                broken_at = at
                ended = not any(window.at(at, aligned(at, BLOCK_BYTES) - at))
            at = window.find(RECORD_MAGIC, at + ALIGN)
            continue
        after_gap = False
        if broken_at is not None:
            fresh = aligned(broken_at, BLOCK_BYTES)
            if not ended or at != fresh or header.commit * BLOCK_BYTES != fresh:
                yield Gap(broken_at, at)
                after_gap = True
            broken_at = None
        newest = (header.epoch, header.commit)
        yield Found(at, header, after_gap)
        at += header.length


class _Window:
    """A part of the segment in memory, so that a million headers are not a million reads."""

    def __init__(self, read: Read, size: int, window_bytes: int) -> None:
        self._read = read
        self._size = size
        self._window_bytes = window_bytes
        self._base = 0
        self._data = b""

    def at(self, offset: int, length: int) -> memoryview:
        """Some bytes of the segment."""
        length = min(length, self._size - offset)
        start = offset - self._base
        if start < 0 or start + length > len(self._data):
            self._load(offset, length)
            start = 0
        return memoryview(self._data)[start : start + length]

    def find(self, word: bytes, offset: int) -> int:
        """Where the word stands next at a multiple of 8; the size of the segment if nowhere."""
        while offset + len(word) <= self._size:
            if not self._base <= offset < self._base + len(self._data) - len(word):
                self._load(offset, len(word))
            start = self._data.find(word, offset - self._base)
            if start < 0:
                # The word may stand across the end of what is loaded.
                offset = max(offset + ALIGN, self._base + len(self._data) - ALIGN)
                offset = aligned(offset)
            elif (self._base + start) % ALIGN:
                offset = aligned(self._base + start)
            else:
                return self._base + start
        return self._size

    def _load(self, offset: int, length: int) -> None:
        wanted = min(max(length, self._window_bytes), self._size - offset)
        self._base, self._data = offset, self._read(offset, wanted)
