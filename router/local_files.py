"""Files of putters on this machine, open for reading.

May be used by several threads at a time. A file that was removed meanwhile, or that nobody reads
any more, is closed soon, so that its space comes back.
"""

from __future__ import annotations

import ctypes
import os
import stat
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from common.logs import get_logger
from common.looks import (
    DIRECT_BLOCK_BYTES,
    DIRECT_READ_BYTES_MIN,
    DIRECT_SPAN_BYTES_MAX,
    Looks,
    direct_span,
)
from common.wire.locations import SegmentFile

_log = get_logger(__name__)
_OPEN_MAX: Final = 64
_UNUSED_S: Final = 10.0
_NO_WAIT: Final = getattr(os, "RWF_NOWAIT", None)
MARGIN_BYTES: Final = 3 * DIRECT_BLOCK_BYTES
"""What a buffer has to have more than is read into it, to find whole blocks a place in it."""


class OpenSegment:
    """One file; see `LocalFiles.using`.

    Args:
        told: which, and how to know it.

    Raises:
        OSError: it cannot be opened, or it is another one.
    """

    def __init__(self, told: SegmentFile) -> None:
        self.users = 0
        self.used_s = 0.0
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
        self._direct = -1
        self._handle = os.open(told.path, flags | os.O_NONBLOCK)  # a pipe would wait for a writer
        try:
            found = os.fstat(self._handle)
            if not stat.S_ISREG(found.st_mode) or (found.st_dev, found.st_ino) != (
                told.device,
                told.inode,
            ):
                raise FileNotFoundError(f"{told.path} is another file")
        except OSError:
            self.close()
            raise
        self._looks = Looks(found.st_size)
        self._direct = _open_direct(told.path, flags, found)

    @property
    def removed(self) -> bool:
        """Whether it has no name any more: its space is only kept by who has it open."""
        return os.fstat(self._handle).st_nlink == 0

    def read(self, room: memoryview, offset: int, length: int) -> memoryview | None:
        """Some bytes.

        Args:
            room: gets them somewhere; at least ``length + MARGIN_BYTES`` long.
            offset: of the first.
            length: how many.

        Returns:
            The part of ``room`` that they are in; None if the file has not so many.

        Raises:
            OSError: the disk refused.
        """
        low, size = direct_span(offset, length)
        if (
            self._direct >= 0
            and length >= DIRECT_READ_BYTES_MIN
            and size <= DIRECT_SPAN_BYTES_MAX
            and self._looks.first(offset, length)
        ):
            shift = -ctypes.addressof(ctypes.c_char.from_buffer(room)) % DIRECT_BLOCK_BYTES
            filled = os.preadv(self._direct, [room[shift : shift + size]], low)
            start = shift + offset - low
            return room[start : start + length] if filled >= offset - low + length else None
        wanted = room[:length]
        filled = 0
        while filled < length:
            some = os.preadv(self._handle, [wanted[filled:]], offset + filled)
            if not some:
                return None
            filled += some
        return wanted

    def read_at_once(self, room: memoryview, offset: int, length: int) -> memoryview | None:
        """The same, if the page cache has all of it; never waits for a disk."""
        if _NO_WAIT is None or not self._looks.known(offset, length):
            return None
        wanted = room[:length]
        try:
            filled = os.preadv(self._handle, [wanted], offset, _NO_WAIT)
        except OSError:  # it is not there, or this file system cannot tell
            return None
        return wanted if filled == length else None

    def close(self) -> None:
        """Let go of it."""
        for handle in (self._handle, self._direct):
            if handle >= 0:
                os.close(handle)
        self._handle = self._direct = -1


class LocalFiles:
    """Files that are open.

    Args:
        now_s: a clock that only goes forward, in seconds.
    """

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._lock = threading.Lock()
        self._open: OrderedDict[SegmentFile, OpenSegment] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    @contextmanager
    def using(self, told: SegmentFile) -> Iterator[OpenSegment]:
        """Have a file open for a while.

        Raises:
            OSError: it cannot be opened, or another one has its name now.
        """
        with self._lock:
            file = self._open.get(told)
            if file is None:
                file = self._open[told] = OpenSegment(told)
            self._open.move_to_end(told)
            file.users += 1
            self._trim(lambda: len(self._open) > _OPEN_MAX)
        try:
            yield file
        finally:
            with self._lock:
                file.users -= 1
                file.used_s = self._now_s()

    def read_at_once(
        self, told: SegmentFile, room: memoryview, offset: int, length: int
    ) -> memoryview | None:
        """Some bytes of a file that is open, if the page cache has them; never waits."""
        if not self._lock.acquire(blocking=False):
            return None
        try:
            file = self._open.get(told)
            if file is None:
                return None
            file.used_s = self._now_s()
            return file.read_at_once(room, offset, length)
        finally:
            self._lock.release()

    def tidy(self) -> None:
        """Close what was removed, and what nobody has read for a while."""
        before_s = self._now_s() - _UNUSED_S
        with self._lock:
            for told, file in list(self._open.items()):
                if not file.users and (file.used_s < before_s or file.removed):
                    del self._open[told]
                    file.close()

    def close(self) -> None:
        """Close all of them; nobody may be reading."""
        with self._lock:
            while self._open:
                self._open.popitem()[1].close()

    def _trim(self, too_many: Callable[[], bool]) -> None:
        for told, file in list(self._open.items()):
            if not too_many():
                break
            if not file.users:
                del self._open[told]
                file.close()


def _open_direct(path: str, flags: int, wanted: os.stat_result) -> int:
    """A descriptor of the same file that goes past the page cache, or -1."""
    direct = getattr(os, "O_DIRECT", 0)
    if not direct:
        return -1
    try:
        handle = os.open(path, flags | direct)
    except OSError as error:
        _log.debug("reads go through the page cache", path=path, reason=str(error))
        return -1
    found = os.fstat(handle)
    if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
        return handle
    os.close(handle)
    return -1
