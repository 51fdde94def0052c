"""What can be sent: bytes, files and pipes, as chunks with a length if there is one.

Errors of the local disk become errors of the store here, so that whatever comes out of the
connection while chunks are sent is the connection's own.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from common.checksum import Buffer, ObjectHash
from common.errors import StorageError, UsageError
from putter.client.http import CHUNK_BYTES

Progress = Callable[[int, int | None], None]
"""Called with the bytes done and the bytes in total (None if unknown)."""
Source = Buffer | BinaryIO | Path


class Outgoing:
    """The chunks of one source, hashed while they go.

    Attributes:
        size: bytes that will go; None if only the end of the source tells.
        sent: bytes that went.
        hash: over what went.
    """

    def __init__(self, file: BinaryIO, size: int | None, label: str, progress: Progress | None):
        self.size = size
        self.sent = 0
        self.hash = ObjectHash()
        self._file = file
        self._label = label
        self._progress = progress

    def __iter__(self) -> Iterator[bytes]:
        """The chunks, ``size`` bytes altogether if there is a size.

        Raises:
            StorageError: the source cannot be read, or is shorter than it was.
        """
        while self.size is None or self.sent < self.size:
            chunk = self._read(CHUNK_BYTES if self.size is None else self.size - self.sent)
            if not chunk:
                break
            self.hash.update(chunk)
            self.sent += len(chunk)
            yield chunk
            if self._progress is not None:
                self._progress(self.sent, self.size)
        if self.size is not None and self.sent < self.size:
            raise StorageError(
                f"{self._label} became shorter while it was sent: {self.sent} of {self.size} bytes",
                hint="nothing was stored; send it again when it does not change any more",
            )

    def _read(self, count: int) -> bytes:
        # A pipe gives what it has, so that a slow one still flows.
        read: Callable[[int], bytes] = getattr(self._file, "read1", self._file.read)
        try:
            return read(min(count, CHUNK_BYTES))
        except OSError as error:
            raise StorageError(f"cannot read {self._label}: {error.strerror or error}") from error


@contextmanager
def opened(source: BinaryIO | Path, progress: Progress | None = None) -> Iterator[Outgoing]:
    """Open a file or pipe for sending; a path is closed afterwards, a given file is left open.

    Raises:
        UsageError: there is no such file, or it cannot be opened.
    """
    if not isinstance(source, Path):
        label = str(getattr(source, "name", "the source"))
        yield Outgoing(source, _bytes_left(source), label, progress)
        return
    try:
        file = source.open("rb")
    except OSError as error:
        raise UsageError(f"cannot read {source}: {error.strerror}") from error
    with file:
        yield Outgoing(file, _bytes_left(file), str(source), progress)


def _bytes_left(file: BinaryIO) -> int | None:
    """From the present position to the end, where the source has an end that is known."""
    try:
        mode = os.fstat(file.fileno()).st_mode
    except (OSError, AttributeError):
        regular = True  # no file of the system: BytesIO and its like tell themselves
    else:
        regular = stat.S_ISREG(mode)
    if not regular or not file.seekable():
        return None
    at = file.tell()
    end = file.seek(0, os.SEEK_END)
    file.seek(at)
    return max(0, end - at)
