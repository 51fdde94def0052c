"""Files that are written in place, block by block: what append-only logs are made of.

A block file has a fixed length that is set aside when it is made. Writes begin at a multiple of
`BLOCK_BYTES` and are whole blocks. They go to the platter past the page cache where the file system
allows it (``O_DIRECT``): a page that is written once and read much later, if ever, is not worth the
processor time that a fresh page costs (figures in docs/internals/performance.md). File systems
that refuse that get ordinary writes; nothing else changes.

Large reads go past the page cache as well, for the same reason, until a place is read a second
time: then it is worth its pages. Small ones always go through it.

What is written is durable after `BlockFile.sync`, the name of a new file after
`putter.storage.disk.Disk.sync_directories`.
"""

from __future__ import annotations

import errno
import mmap
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Protocol

from common.errors import NoSpace, StorageError
from common.looks import (
    DIRECT_BLOCK_BYTES,
    DIRECT_READ_BYTES_MIN,
    DIRECT_SPAN_BYTES_MAX,
    Looks,
    direct_span,
)

BLOCK_BYTES: Final = DIRECT_BLOCK_BYTES
_scratch: Final = threading.local()
Refusal = Callable[[OSError, str, str], NoSpace | StorageError]


class BlockFile(Protocol):
    """A file of fixed length. `read` may be called by any thread at any moment, the rest by one.

    Every method raises `NoSpace` or `StorageError` if the file system refuses.
    """

    @property
    def size(self) -> int:
        """Its length in bytes."""
        ...

    def write(self, offset: int, data: memoryview) -> None:
        """Write whole blocks.

        Args:
            offset: a multiple of `BLOCK_BYTES`.
            data: a multiple of `BLOCK_BYTES` long; from `aligned_buffer`.
        """
        ...

    def read(self, offset: int, length: int) -> bytes:
        """Some bytes; fewer only at the end of the file."""
        ...

    def sync(self) -> None:
        """Make what was written durable. After a failure it may be lost for good."""
        ...

    def forget_cached(self) -> None:
        """Have the next reads come from the disk, where the system lets us; never fails."""
        ...

    def close(self) -> None:
        """Let go of it; a second call does nothing."""
        ...


def aligned_buffer(size: int) -> memoryview:
    """Memory that may be written past the page cache; it begins at a page."""
    return memoryview(mmap.mmap(-1, size))


class RealBlockFile:
    """A file of this machine.

    Args:
        root: descriptor of the directory that paths start from.
        path: of the file.
        size: to make a new file of this length; None to open the one that is there.
        refusal: from an error of the system to one of ours.
    """

    def __init__(self, root: int, path: str, size: int | None, refusal: Refusal) -> None:
        self._root = root
        self._path = path
        self._refusal = refusal
        self._reader = self._writer = -1
        self._direct = True
        self._direct_reader = -1
        self._lock = threading.Lock()
        flags = os.O_RDWR | os.O_CLOEXEC
        action = "open"
        try:
            if size is not None:
                action = "create"
                self._reader = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666, dir_fd=root)
                action = "set space aside for"
                _allocate(self._reader, size)
            else:
                self._reader = os.open(path, flags, dir_fd=root)
            self._size = os.fstat(self._reader).st_size
            self._looks = Looks(self._size)
        except OSError as error:
            self.close()
            if size is not None and action != "create":
                os.unlink(path, dir_fd=root)
            raise refusal(error, action, path) from error

    @property
    def size(self) -> int:
        """Its length in bytes."""
        return self._size

    def write(self, offset: int, data: memoryview) -> None:
        """Write whole blocks."""
        done = 0
        try:
            handle = self._for_writing()
            while done < len(data):
                done += os.pwrite(handle, data[done:] if done else data, offset + done)
                if done % BLOCK_BYTES:  # a short write past the cache cannot be carried on
                    handle = self._reader
        except OSError as error:
            raise self._refusal(error, "write", self._path) from error

    def read(self, offset: int, length: int) -> bytes:
        """Some bytes; fewer only at the end of the file."""
        try:
            data = self._read_direct(offset, length) if length >= DIRECT_READ_BYTES_MIN else b""
            if not data:
                data = os.pread(self._reader, length, offset)
            while data and len(data) < length:
                more = os.pread(self._reader, length - len(data), offset + len(data))
                if not more:
                    break
                data += more
        except OSError as error:
            raise self._refusal(error, "read", self._path) from error
        return data

    def sync(self) -> None:
        """Make what was written durable."""
        try:
            os.fdatasync(self._reader)
        except OSError as error:
            raise self._refusal(error, "sync", self._path) from error

    def forget_cached(self) -> None:
        """Have the next reads come from the disk, where the system lets us."""
        self._looks.forget()
        if hasattr(os, "posix_fadvise"):
            with suppress(OSError):  # only advice
                os.posix_fadvise(self._reader, 0, 0, os.POSIX_FADV_DONTNEED)

    def close(self) -> None:
        """Let go of it."""
        reader, self._reader = self._reader, -1
        writer, self._writer = self._writer, -1
        direct, self._direct_reader = self._direct_reader, -1
        for handle in (reader, writer, direct):
            if handle >= 0:
                os.close(handle)

    def _read_direct(self, offset: int, length: int) -> bytes:
        """All of it past the page cache; nothing where that is not wanted or not possible."""
        low, size = direct_span(offset, length)
        if (
            not self._direct
            or size > DIRECT_SPAN_BYTES_MAX
            or not self._looks.first(offset, length)
        ):
            return b""
        handle = self._for_direct_reading()
        if handle < 0:
            return b""
        scratch: memoryview | None = getattr(_scratch, "buffer", None)
        if scratch is None:
            scratch = _scratch.buffer = aligned_buffer(DIRECT_SPAN_BYTES_MAX)
        filled = os.preadv(handle, [scratch[:size]], low)
        skip = offset - low
        return bytes(scratch[skip : skip + length]) if filled >= skip + length else b""

    def _for_direct_reading(self) -> int:
        """Opened at the first large read, or -1."""
        with self._lock:
            if self._direct_reader < 0 and self._direct:
                if self._writer >= 0:  # its name may be another by now
                    self._direct_reader = os.dup(self._writer)
                else:
                    flags = os.O_RDONLY | os.O_CLOEXEC
                    self._direct_reader = _open_direct(self._path, flags, self._root)
                    self._direct = self._direct_reader >= 0
            return self._direct_reader

    def _for_writing(self) -> int:
        """Opened at the first write: most files are only read."""
        if self._writer < 0 and self._direct:
            self._writer = _open_direct(self._path, os.O_RDWR | os.O_CLOEXEC, self._root)
            self._direct = self._writer >= 0
        return self._writer if self._direct else self._reader


def _allocate(handle: int, size: int) -> None:
    """Set space aside; where the file system cannot, the file is only made that long."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(handle, 0, size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                raise
        else:
            return
    os.ftruncate(handle, size)


def _open_direct(path: str, flags: int, root: int) -> int:
    """A descriptor that goes past the page cache, or -1 where that is refused."""
    direct = getattr(os, "O_DIRECT", 0)
    if not direct:
        return -1
    try:
        return os.open(path, flags | direct, dir_fd=root)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.EOPNOTSUPP):
            return -1
        raise
