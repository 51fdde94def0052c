"""A directory with a short path for the unix socket of a data directory whose own is too long.

It lies where temporary files do. Its path is noted in the data directory before it is made, so that
the next start finds and removes what a killed store left behind. Its name holds the inode of the
data directory: a copy of that, note and all, does not take the socket of the original away.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import tempfile
from pathlib import Path
from typing import Final

SOCKET_NAME: Final = "valkey.sock"
_NOTE: Final = "socket-directory"


def make_socket_directory(directory: Path) -> Path:
    """A new one, open to nobody else.

    Args:
        directory: the data directory; must be there.

    Raises:
        OSError: it cannot be made.
    """
    path = Path(tempfile.gettempdir()) / (_prefix(directory) + secrets.token_hex(4))
    (directory / _NOTE).write_bytes(os.fsencode(path))
    path.mkdir(mode=0o700)
    return path


def clear_socket_directory(directory: Path) -> None:
    """Remove the one that is noted, if there is any, and if it is this directory's.

    No store may run on the data directory. What is somebody else's stays as it is.
    """
    note = directory / _NOTE
    with contextlib.suppress(OSError, ValueError):
        path = Path(os.fsdecode(note.read_bytes()))
        if path.is_absolute() and path.name.startswith(_prefix(directory)) and _is_ours(path):
            (path / SOCKET_NAME).unlink(missing_ok=True)
            path.rmdir()
    with contextlib.suppress(OSError):
        note.unlink()


def _prefix(directory: Path) -> str:
    return f"putter-{directory.stat().st_ino:x}-"


def _is_ours(path: Path) -> bool:
    found = path.lstat()
    private = stat.S_IMODE(found.st_mode) & 0o077 == 0
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and private
