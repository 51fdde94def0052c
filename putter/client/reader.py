"""One download: chunks that are counted and hashed while they pass."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from common.checksum import ObjectHash
from common.errors import IntegrityError, StorageError
from putter.client.http import CHUNK_BYTES, Answer, Exchange
from putter.client.models import FileInfo
from putter.client.sources import Progress


class Reader:
    """The bytes of a file, or of a range of it, as they come.

    Iterate it, or `read` it whole; both verify at the end. The connection is busy until the last
    byte was read or the reader was closed.

    Attributes:
        info: what the headers told.
        length: bytes that will come.
    """

    def __init__(
        self,
        exchange: Exchange,
        answer: Answer,
        info: FileInfo,
        length: int,
        progress: Progress | None = None,
    ) -> None:
        self.info = info
        self.length = length
        self._exchange = exchange
        self._answer = answer
        self._progress = progress
        # A part of a file has no hash of its own that the router could tell.
        self._expected = info.blake3 if length == info.size else None
        self._left = length

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give up what has not been read; that costs the connection."""
        if self._left:
            self._left = 0
            self._exchange.close()
        self._answer.body.close()

    def read(self) -> bytes:
        """All bytes.

        Raises:
            IntegrityError: too few came, or they are not those that were written.
        """
        return b"".join(self)

    def __iter__(self) -> Iterator[bytes]:
        """The chunks.

        Raises:
            IntegrityError: too few came, or, after the last chunk, they are not those that were
                written: what was yielded must not be trusted.
            Unavailable: the connection broke.
        """
        digest = ObjectHash()
        while self._left:
            chunk = self._exchange.read(self._answer.body, min(self._left, CHUNK_BYTES))
            if not chunk:
                got = self.length - self._left
                self.close()
                raise IntegrityError(
                    f"{self.info.name} ended after {got} of {self.length} bytes",
                    hint="the router met bytes it could not serve, or was stopped; try again",
                )
            self._left -= len(chunk)
            digest.update(chunk)
            yield chunk
            if self._progress is not None:
                self._progress(self.length - self._left, self.length)
        self._exchange.read(self._answer.body, 1)  # lets the connection see the end of the answer
        if self._expected is not None and digest.digest().hex() != self._expected:
            raise IntegrityError(
                f"{self.info.name} arrived with other bytes than its BLAKE3 {self._expected} names"
            )


def save(reader: Reader, path: Path) -> None:
    """Write a download to a file that appears whole and verified, or not at all.

    A file that is already there is replaced in one step and keeps its permissions.

    Raises:
        IntegrityError: too few or wrong bytes came.
        StorageError: the local disk refused.
        Unavailable: the connection broke.
    """
    fresh = path.with_name(f".{path.name[:64]}.{secrets.token_hex(8)}")
    try:
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            with os.fdopen(handle, "wb") as file:
                for chunk in reader:
                    file.write(chunk)
                if path.exists():
                    os.fchmod(file.fileno(), path.stat().st_mode & 0o777)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
        finally:
            fresh.unlink(missing_ok=True)
        sync_directory(path.parent)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from error


def sync_directory(path: Path) -> None:
    """Make durable what was made, renamed or deleted in a directory."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
