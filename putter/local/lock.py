"""The locks of a data directory: one of the store, one of its children as long as they live.

``lock`` is held by the store alone and holds its pid and host. While it is held, a store runs,
wherever that may be, and another one is refused at once.

``children.lock`` is inherited by the children. When their store was killed, they end by themselves
(`putter.local.leash`), and the next start waits for them: the lock is free when all are gone and
not before. One that was suspended does not hear that it should end; it is told again, and woken up.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from common.errors import DataDirectoryInUse
from common.logs import get_logger

_log = get_logger(__name__)
_ORPHANS_STOP_S: Final = 15.0
_TELL_S: Final = 1.0
_POLL_S: Final = 0.02
_PID_BYTES_MAX: Final = 20
_OWNER_BYTES_MAX: Final = 300


_STOP_IT: Final = "stop it, or choose another directory with --data-dir"


@dataclass(frozen=True)
class Holder:
    """Whoever runs on a directory.

    Attributes:
        pid: of a process of this machine that was seen to hold the lock; None if there is none.
        words: the same for people.
    """

    pid: int | None
    words: str


def holder_of(directory: Path) -> Holder | None:
    """Who runs on a directory; None if nobody does.

    The pid is that of a process that has the locked file open, as far as the system tells: a
    number that was left behind, and may be another program's by now, is never taken for it.
    """
    path = directory / "lock"
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        if _locked(handle, fcntl.LOCK_SH):
            return None
        words = _owner(path)
        pid = _pid_here(path)
        if pid is None or not lives(pid):
            return Holder(None, words)
        seen = not Path("/proc/self/fd").is_dir() or _has_open(pid, os.fstat(handle))
        return Holder(pid if seen else None, words)
    finally:
        os.close(handle)


class StoreLock:
    """An ``flock`` on each of two files in a directory.

    Args:
        directory: must be there.
        pid_files: where the children of the store write their pids.
        hint: what can be done if another store runs on it.
    """

    def __init__(self, directory: Path, pid_files: Sequence[Path], *, hint: str = _STOP_IT) -> None:
        self._directory = directory
        self._hint = hint
        self._path = directory / "lock"
        self._children_path = directory / "children.lock"
        self._pid_files = tuple(pid_files)
        self._handles: tuple[int, ...] = ()

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What every child must inherit."""
        return self._handles[1:]

    async def take(self) -> None:
        """Take both, as soon as what a killed store left behind is gone.

        Raises:
            DataDirectoryInUse: another store runs on the directory, or orphans do not end.
            OSError: a file cannot be made.
        """
        with contextlib.ExitStack() as stack:
            own = _opened(self._path)
            stack.callback(os.close, own)
            if not _locked(own):
                raise self._in_use()
            children = _opened(self._children_path)
            stack.callback(os.close, children)
            await self._wait(children)
            os.ftruncate(own, 0)
            os.pwrite(own, f"{os.getpid()} {socket.gethostname()}\n".encode(), 0)
            stack.pop_all()
        self._handles = (own, children)

    def close(self) -> None:
        """Give them back; the children must have ended. May be called twice."""
        for handle in reversed(self._handles):
            os.close(handle)
        self._handles = ()

    async def _wait(self, handle: int) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        until = datetime.now(UTC) + timedelta(seconds=_ORPHANS_STOP_S)
        stopped: set[int] = set()
        told = False
        while not _locked(handle):
            for pid in self._orphans(handle) - stopped:
                _log.warning("stopping what a killed store left behind", pid=pid)
                _stop(pid)
                stopped.add(pid)
            if loop.time() - began > _ORPHANS_STOP_S:
                raise self._stuck(_holders(handle))
            if loop.time() - began > _TELL_S and not told:
                told = True
                _log.warning(
                    "waiting for what a killed store left behind",
                    who=_named(_holders(handle)) or "not to be seen from here",
                    until=f"{until:%H:%M:%SZ}",
                    directory=str(self._directory),
                )
            await asyncio.sleep(_POLL_S)

    def _orphans(self, handle: int) -> set[int]:
        """Children of the killed store, as far as their pid files name them."""
        pids = {pid for pid in map(_pid_in, self._pid_files) if pid is not None}
        return {pid for pid in pids if _has_open(pid, os.fstat(handle))}

    def _in_use(self) -> DataDirectoryInUse:
        return DataDirectoryInUse(
            f"another store runs on {self._directory} ({_owner(self._path)})",
            hint=self._hint,
        )

    def _stuck(self, holders: dict[int, str]) -> DataDirectoryInUse:
        what = f"what a killed store left behind on {self._directory} does not end"
        if not holders:
            return DataDirectoryInUse(
                f"{what}, and is not to be seen from here",
                hint="end it where it runs, in another container or as another user; or choose "
                "another directory with --data-dir",
            )
        pids = " ".join(map(str, sorted(holders)))
        return DataDirectoryInUse(
            f"{what}: process {_named(holders)}",
            hint=f"look at it, then: kill -9 {pids}",
        )


def _opened(path: Path) -> int:
    # Not inheritable: only children that are given the descriptor shall have it.
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _locked(handle: int, how: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(handle, how | fcntl.LOCK_NB)
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


def _noted(path: Path) -> tuple[int, str] | None:
    """Pid and host in a lock file, if it has them."""
    try:
        with path.open("rb") as file:
            word, host = file.read(_OWNER_BYTES_MAX).decode().split()
            return int(word), host
    except (OSError, ValueError):
        return None


def _pid_here(path: Path) -> int | None:
    """The pid in a lock file, if it is one of this machine."""
    noted = _noted(path)
    return noted[0] if noted is not None and noted[1] == socket.gethostname() else None


def _owner(path: Path) -> str:
    """The store that holds a lock, in words."""
    noted = _noted(path)
    if noted is None:
        return "just starting"
    pid, host = noted
    if host != socket.gethostname():
        return f"process {pid} on {host}"
    return f"process {pid}" if lives(pid) else "not to be seen from here"


def lives(pid: int) -> bool:
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


def _holders(handle: int) -> dict[int, str]:
    """Whoever else has this file open, by name, as far as the system tells."""
    file = os.fstat(handle)
    pids = [pid for pid in _all_pids() if pid != os.getpid() and _has_open(pid, file)]
    return {pid: _name(pid) for pid in pids}


def _all_pids() -> Iterator[int]:
    with contextlib.suppress(OSError):
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                yield int(entry.name)


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    except OSError:
        return "ended"


def _named(holders: dict[int, str]) -> str:
    return ", ".join(f"{pid} ({name})" for pid, name in sorted(holders.items()))


def _stop(pid: int) -> None:
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGCONT)
