"""The local end of a copy, where a name of the store must not lead out of its directory."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from common.checksum import ObjectHash
from common.errors import NameInvalid, StorageError
from putter.client.http import CHUNK_BYTES
from putter.client.reader import sync_directory

_NEVER: Final = ("\\", "\0")
"""What is a separator elsewhere, and what no path can hold."""


def check_below(name: str) -> None:
    """Refuse a name that would lead somewhere else than below a directory.

    Raises:
        NameInvalid: it has an empty segment, ``.`` or ``..``, a backslash or a NUL.
    """
    bad = next((part for part in name.split("/") if part in ("", ".", "..")), None)
    if bad is not None:
        raise NameInvalid(f"{name!a} cannot be a file here: it has the segment {bad!r}")
    if any(char in name for char in _NEVER):
        raise NameInvalid(f"{name!a} cannot be a file here: it has a backslash or a NUL")


def room_for(top: Path, name: str) -> Path:
    """Where a file goes; the directories above it are made, durably.

    Raises:
        NameInvalid: the name would lead out of the directory.
        StorageError: something else is there: a link, a file in place of a directory, a directory
            in place of the file; or the disk refused.
    """
    check_below(name)
    *above, last = name.split("/")
    try:
        top.mkdir(parents=True, exist_ok=True)
        place = top
        for part in above:
            _enter(place / part)
            place = place / part
        return replaceable(place / last)
    except OSError as error:
        raise StorageError(f"cannot write {top / name}: {error.strerror}") from error


def replaceable(path: Path) -> Path:
    """The path itself, if nothing is there or a regular file that may be replaced.

    Raises:
        StorageError: something else is there, or the disk refused.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return path
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from error
    if not stat.S_ISREG(mode):
        raise StorageError(
            f"{path} is {_kind(mode)}, and is not replaced by a file",
            hint="move it away, or copy to another place",
        )
    return path


def digest_of(path: Path) -> str:
    """BLAKE3 of a local file, hex.

    Raises:
        StorageError: it cannot be read.
    """
    digest = ObjectHash()
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error
    return digest.digest().hex()


def state_of(path: Path) -> tuple[int, ...]:
    """What changes when a file is written: its inode, size and time.

    Raises:
        StorageError: it cannot be looked at.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error
    return status.st_ino, status.st_size, status.st_mtime_ns


def set_time(path: Path, time_ms: int) -> None:
    """Give a file the time of the version that it is a copy of.

    Raises:
        StorageError: the disk refused.
    """
    try:
        os.utime(path, ns=(time_ms * 1_000_000, time_ms * 1_000_000))
    except OSError as error:
        raise StorageError(f"cannot set the time of {path}: {error.strerror}") from error


def remove(top: Path, name: str) -> None:
    """Delete a file, and the directories that become empty by it.

    Raises:
        StorageError: the disk refused.
    """
    path = top / name
    try:
        path.unlink(missing_ok=True)
        for above in path.parents:
            if above == top:
                break
            above.rmdir()
    except OSError as error:
        if path.is_symlink() or path.exists():
            raise StorageError(f"cannot delete {path}: {error.strerror}") from error
        # Else the directory above holds something, and stays.


def _enter(path: Path) -> None:
    """Make a directory, or see that one is there."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        path.mkdir(exist_ok=True)
        sync_directory(path.parent)
        mode = path.lstat().st_mode
    if not stat.S_ISDIR(mode):
        raise StorageError(
            f"{path} is {_kind(mode)}, and there has to be a directory",
            hint="move it away, or copy to another place",
        )


def _kind(mode: int) -> str:
    if stat.S_ISLNK(mode):
        return "a link"
    if stat.S_ISDIR(mode):
        return "a directory"
    return "a file" if stat.S_ISREG(mode) else "a device, pipe or socket"
