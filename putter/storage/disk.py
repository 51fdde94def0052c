"""The seam to the file system: the few operations that on-disk engines are made of.

Paths are relative to the root of the disk, with ``/`` between names; ``""`` is the root itself.
What other programs call `OSError` leaves this seam as `common.errors.NoSpace` (no space, quota)
or `common.errors.StorageError` (everything else), naming the relative path. "Not there" is an
answer, not an error.

Nothing is durable by itself:

* the bytes of a file are durable after `Disk.sync_files`,
* a name in a directory (made, renamed, removed) after `Disk.sync_directories` of that directory,
  and it can be reached after a crash only if the names of all directories above are durable too.

Files are written once and never changed, so an engine built on this seam replaces files by
renaming. Only block files (`putter.storage.block_file`) are written in place. `RealDisk` is the
machine's file system; `putter.storage.memory_disk.MemoryDisk` is the twin for tests and
simulations, which forgets at a crash what was not synced.
`tests/contract/test_disk.py` is the executable form of this text.
"""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, TypeVar

from common.checksum import Buffer
from common.errors import NoSpace, StorageError
from putter.storage.block_file import BlockFile, RealBlockFile
from putter.storage.engine import Capacity
from putter.storage.located import Whereabouts

_SYNC_THREADS: Final = 4
_PARALLEL_FROM: Final = 8
"""Fewer syncs than this are not worth waking threads for (measured, see docs/formats/tree.md)."""

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class OpenFile:
    """A new file that was written and still has to be synced or closed."""

    path: str
    handle: int


class Disk(Protocol):
    """A directory of the file system, and all that an engine does in it.

    `read`, `map`, `whereabouts`, `names` and `capacity` may be called by any thread at any moment,
    the rest by one.
    Every method raises `NoSpace` or `StorageError` if the file system refuses.
    """

    def make_directory(self, path: str) -> list[str]:
        """Make a directory and the missing ones above it.

        Returns:
            The directories that were made, outermost first; none if it was there.
        """
        ...

    def create(self, path: str, *parts: Buffer, private: bool = False) -> OpenFile:
        """Write a new file, whole or not at all. It is an error if the name is taken.

        The file stays open: hand it to `sync_files` or `close_files`.

        Args:
            path: of the file.
            parts: its content.
            private: only the owner may read it.
        """
        ...

    def sync_files(self, files: Sequence[OpenFile]) -> None:
        """Make the bytes of these files durable and close them all, also if one fails.

        After a failure those bytes may be lost for good: write the file anew.
        """
        ...

    def close_files(self, files: Iterable[OpenFile]) -> None:
        """Close files without syncing them."""
        ...

    def sync_directories(self, paths: Sequence[str]) -> None:
        """Make the names in these directories durable."""
        ...

    def sync_all(self) -> None:
        """Make everything durable that is visible, whoever wrote it."""
        ...

    def rename(self, old: str, new: str) -> None:
        """Give a file another name in one step; a file that had it is replaced."""
        ...

    def unlink(self, path: str) -> bool:
        """Remove a file; False if there was none."""
        ...

    def remove_directory(self, path: str) -> bool:
        """Remove an empty directory; False if it is not empty or not there."""
        ...

    def read(self, path: str) -> bytes | None:
        """All bytes of a file; None if there is none."""
        ...

    def map(self, path: str) -> Buffer | None:
        """All bytes of a file that is not changed any more, loaded as they are looked at."""
        ...

    def blocks(self, path: str, size: int | None = None) -> BlockFile:
        """Open a block file; with a size, make it first: it is an error if the name is taken.

        A new one reads as zeros, or as anything where it was not written.
        """
        ...

    def whereabouts(self, path: str) -> Whereabouts | None:
        """Where others on this machine find a file; None if there is none, or they cannot."""
        ...

    def names(self, path: str) -> list[str]:
        """The names in a directory, in no order; empty if there is no such directory."""
        ...

    def capacity(self) -> Capacity:
        """The size of the file system and what is free in it."""
        ...

    def close(self) -> None:
        """Let go of the root."""
        ...


def refusal(error: OSError, action: str, path: str) -> NoSpace | StorageError:
    """The error of ours that stands for one of the operating system's.

    Args:
        error: what the system raised.
        action: what was tried, as a verb: ``read``, ``sync``.
        path: relative to the root of the disk.
    """
    message = f"cannot {action} {path or 'the root directory'}: {error.strerror or error}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(message, hint="free some space on the disk of the data directory")
    return StorageError(message, hint="check the disk and the system's log")


class RealDisk:
    """A directory of this machine's file system.

    Large batches of syncs are spread over a few threads: the file system then commits them
    together.
    """

    def __init__(self, root: Path) -> None:
        """Open the directory; it must exist."""
        try:
            self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise refusal(error, "open", str(root)) from error
        self._path = root.absolute()
        self._pool: ThreadPoolExecutor | None = None

    def make_directory(self, path: str) -> list[str]:
        """Make a directory and the missing ones above it."""
        try:
            os.mkdir(path, dir_fd=self._root)
        except FileExistsError:
            return []
        except FileNotFoundError as error:
            above, slash, _ = path.rpartition("/")
            if not slash:
                raise refusal(error, "make directory", path) from error
            return [*self.make_directory(above), *self.make_directory(path)]
        except OSError as error:
            raise refusal(error, "make directory", path) from error
        return [path]

    def create(self, path: str, *parts: Buffer, private: bool = False) -> OpenFile:
        """Write a new file, whole or not at all."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            handle = os.open(path, flags, 0o600 if private else 0o666, dir_fd=self._root)
        except OSError as error:
            raise refusal(error, "create", path) from error
        try:
            for part in parts:
                _write_all(handle, memoryview(part))
        except OSError as error:
            os.close(handle)
            self.unlink(path)
            raise refusal(error, "write", path) from error
        return OpenFile(path, handle)

    def sync_files(self, files: Sequence[OpenFile]) -> None:
        """Make the bytes of these files durable and close them all."""
        self._each(_sync_and_close, files, lambda file: file.path)

    def close_files(self, files: Iterable[OpenFile]) -> None:
        """Close files without syncing them."""
        for file in files:
            os.close(file.handle)

    def sync_directories(self, paths: Sequence[str]) -> None:
        """Make the names in these directories durable."""
        self._each(self._sync_directory, paths, lambda path: path)

    def sync_all(self) -> None:
        """Make everything durable that is visible, whoever wrote it."""
        os.sync()

    def rename(self, old: str, new: str) -> None:
        """Give a file another name in one step."""
        try:
            os.rename(old, new, src_dir_fd=self._root, dst_dir_fd=self._root)
        except OSError as error:
            raise refusal(error, "put in place", new) from error

    def unlink(self, path: str) -> bool:
        """Remove a file; False if there was none."""
        try:
            os.unlink(path, dir_fd=self._root)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise refusal(error, "remove", path) from error
        return True

    def remove_directory(self, path: str) -> bool:
        """Remove an empty directory; False if it is not empty or not there."""
        try:
            os.rmdir(path, dir_fd=self._root)
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                return False
            raise refusal(error, "remove directory", path) from error
        return True

    def read(self, path: str) -> bytes | None:
        """All bytes of a file; None if there is none."""
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._root)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise refusal(error, "open", path) from error
        try:
            return _read_all(handle)
        except OSError as error:
            raise refusal(error, "read", path) from error
        finally:
            os.close(handle)

    def map(self, path: str) -> Buffer | None:
        """All bytes of a file that is not changed any more, loaded as they are looked at."""
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._root)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise refusal(error, "open", path) from error
        try:
            if os.fstat(handle).st_size == 0:
                return b""
            return memoryview(mmap.mmap(handle, 0, access=mmap.ACCESS_READ))
        except OSError as error:
            raise refusal(error, "map", path) from error
        finally:
            os.close(handle)

    def blocks(self, path: str, size: int | None = None) -> BlockFile:
        """Open a block file; with a size, make it first."""
        return RealBlockFile(self._root, path, size, refusal)

    def whereabouts(self, path: str) -> Whereabouts | None:
        """Where others on this machine find a file."""
        try:
            found = os.stat(path, dir_fd=self._root, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise refusal(error, "look at", path) from error
        return Whereabouts(str(self._path / path), found.st_dev, found.st_ino)

    def names(self, path: str) -> list[str]:
        """The names in a directory, in no order; empty if there is no such directory."""
        try:
            handle = self._open_directory(path)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise refusal(error, "open", path) from error
        try:
            with os.scandir(handle) as entries:
                return [entry.name for entry in entries]
        except OSError as error:
            raise refusal(error, "list", path) from error
        finally:
            os.close(handle)

    def capacity(self) -> Capacity:
        """The size of the file system and what is free in it for this user."""
        try:
            state = os.fstatvfs(self._root)
        except OSError as error:
            raise refusal(error, "measure", "") from error
        return Capacity(state.f_blocks * state.f_frsize, state.f_bavail * state.f_frsize)

    def close(self) -> None:
        """Let go of the root."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
        os.close(self._root)

    def _open_directory(self, path: str) -> int:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        return os.open(path or ".", flags, dir_fd=self._root)

    def _sync_directory(self, path: str) -> OSError | None:
        try:
            handle = self._open_directory(path)
        except OSError as error:
            return error
        return _sync_and_close(OpenFile(path, handle))

    def _each(
        self,
        job: Callable[[_Item], OSError | None],
        items: Sequence[_Item],
        path_of: Callable[[_Item], str],
    ) -> None:
        """Do the job for every item; raise the first failure after the last."""
        if len(items) < _PARALLEL_FROM:
            outcomes = [job(item) for item in items]
        else:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(_SYNC_THREADS, "disk-sync")
            outcomes = list(self._pool.map(job, items))
        for item, error in zip(items, outcomes, strict=True):
            if error is not None:
                raise refusal(error, "sync", path_of(item)) from error


def _sync_and_close(file: OpenFile) -> OSError | None:
    try:
        try:
            os.fsync(file.handle)
        finally:
            os.close(file.handle)
    except OSError as error:
        return error
    return None


def _write_all(handle: int, data: memoryview) -> None:
    written = os.write(handle, data)
    while written < len(data):
        written += os.write(handle, data[written:])


def _read_all(handle: int) -> bytes:
    size = os.fstat(handle).st_size
    data = os.read(handle, size)
    if len(data) == size:
        return data
    parts = [data]
    while part := os.read(handle, size):
        parts.append(part)
    return b"".join(parts)
