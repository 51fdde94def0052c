"""A directory with a short path for unix sockets, for as long as its maker lives.

It lies where temporary files do, open to nobody else, and holds a locked file. What a killed maker
left behind is known by the lock that nobody holds, and is removed by the next one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_PREFIX: Final = "putter-sockets-"
_LOCK: Final = "lock"


@contextlib.contextmanager
def short_directory() -> Iterator[Path]:
    """A new one; removed at the end with all that is in it.

    Raises:
        OSError: it cannot be made.
    """
    _sweep()
    path = Path(tempfile.mkdtemp(prefix=_PREFIX))
    try:
        handle = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield path
        finally:
            os.close(handle)
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _sweep() -> None:
    """Remove those of ours whose makers are gone."""
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # somebody else's, still in use, or being removed
            if path.is_symlink() or path.stat().st_uid != os.geteuid():
                continue
            handle = os.open(path / _LOCK, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path)
            finally:
                os.close(handle)
