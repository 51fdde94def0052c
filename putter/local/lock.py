"""The lock of a data directory: held by a store, and by its children for as long as they live.

The file holds the pid of the store. While that process lives, another store is refused at once.
When it was killed, its children end by themselves (`putter.local.leash`), and the next start waits
for them: they inherited the descriptor, so the lock is free when all are gone and not before. One
that was suspended does not hear that it should end; it is told again, and woken up.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from common.errors import DataDirectoryInUse
from common.logs import get_logger

_log = get_logger(__name__)
_ORPHANS_STOP_S: Final = 15.0
_POLL_S: Final = 0.02
_PID_BYTES_MAX: Final = 20


class StoreLock:
    """An ``flock`` on a file in a directory.

    Args:
        directory: must be there.
        pid_files: where the children of the store write their pids.
    """

    def __init__(self, directory: Path, pid_files: Sequence[Path]) -> None:
        self._directory = directory
        self._path = directory / "lock"
        self._pid_files = tuple(pid_files)
        self._handle = -1

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What every child must inherit."""
        return () if self._handle < 0 else (self._handle,)

    async def take(self) -> None:
        """Take it, as soon as what a killed store left behind is gone.

        Raises:
            DataDirectoryInUse: another store holds it, or orphans do not end.
            OSError: the file cannot be made.
        """
        # Not inheritable: only children that are given the descriptor shall have it.
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            await self._wait(handle)
            os.ftruncate(handle, 0)
            os.pwrite(handle, b"%d\n" % os.getpid(), 0)
        except BaseException:
            os.close(handle)
            raise
        self._handle = handle

    def close(self) -> None:
        """Give it back; the children must have ended. May be called twice."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    async def _wait(self, handle: int) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _ORPHANS_STOP_S
        told: set[int] = set()
        while not _locked(handle):
            owner = _pid_in(self._path)
            if owner is not None and _lives(owner):
                raise self._in_use(f"process {owner}")
            orphans = self._orphans(handle)
            for pid in orphans - told:
                _log.warning("stopping what a killed store left behind", pid=pid)
                _stop(pid)
            told |= orphans
            if loop.time() > deadline:
                raise self._stuck(orphans) if orphans else self._in_use("not to be seen from here")
            await asyncio.sleep(_POLL_S)

    def _orphans(self, handle: int) -> set[int]:
        """Children of the killed store, as far as their pid files name them."""
        pids = {pid for pid in map(_pid_in, self._pid_files) if pid is not None}
        return {pid for pid in pids if _has_open(pid, os.fstat(handle))}

    def _in_use(self, whose: str) -> DataDirectoryInUse:
        return DataDirectoryInUse(
            f"another store runs on {self._directory} ({whose})",
            hint="stop it, or choose another directory with --data-dir",
        )

    def _stuck(self, orphans: set[int]) -> DataDirectoryInUse:
        pids = " ".join(map(str, sorted(orphans)))
        return DataDirectoryInUse(
            f"what a killed store left behind on {self._directory} does not end: process {pids}",
            hint=f"look at it, then: kill -9 {pids}",
        )


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _pid_in(path: Path) -> int | None:
    """The number in a pid file, if it has one."""
    try:
        with path.open("rb") as file:
            pid = int(file.read(_PID_BYTES_MAX))
    except (OSError, ValueError):
        return None
    return pid if pid > 0 else None


def _lives(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits for its parent does not."""
    try:
        os.kill(pid, 0)
        status = Path(f"/proc/{pid}/stat").read_text()
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True  # somebody else's, or a system without /proc
    return status.rpartition(")")[2].split()[0] != "Z"


def _has_open(pid: int, file: os.stat_result) -> bool:
    """Whether a process has this file open, where the system tells."""
    with contextlib.suppress(OSError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                if os.path.samestat(entry.stat(), file):
                    return True
    return False


def _stop(pid: int) -> None:
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGCONT)
