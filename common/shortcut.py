"""A shorter way between processes of one user on one machine: Unix sockets beside loopback ports.

Loopback TCP costs twice the processor time of a Unix socket for the same bytes. So a port of the
store that listens on a loopback address has a socket beside it, in a directory that only its user
can enter, named after the address; who connects to such an address looks there first. Nothing else
changes: the same bytes travel, the same greeting proves who is who, and where there is no socket,
TCP is used.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from common.logs import get_logger

_log = get_logger(__name__)
_PATH_BYTES_MAX: Final = 100
"""`sun_path` has 108 bytes on Linux and 104 on macOS."""

_ANY: Final = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - recognised, not opened
_LOOPBACK: Final = "127.0.0.1"
_NET_NAMESPACE: Final = Path("/proc/self/ns/net")

P = TypeVar("P", bound=asyncio.BaseProtocol)


class Shortcuts:
    """The sockets of one user in one network namespace.

    Args:
        directory: theirs; None: one in the directory for temporary files, or no sockets where
            nothing can be written.
    """

    def __init__(self, directory: Path | None = None) -> None:
        self._directory = directory or _usual_directory()

    async def connect(
        self, factory: Callable[[], P], host: str, port: int
    ) -> asyncio.Transport | None:
        """Connect to who listens on a loopback address.

        Args:
            factory: makes the protocol.
            host: of the address.
            port: of the address.

        Returns:
            None if there is no socket, or nobody listens on it any more.
        """
        path = self._path(host, port)
        if path is None or not self._is_ours():
            return None
        loop = asyncio.get_running_loop()
        try:
            transport, _ = await loop.create_unix_connection(factory, str(path))
        except OSError:
            return None
        return transport

    async def listen(
        self, factory: Callable[[], asyncio.BaseProtocol], host: str, port: int, backlog: int
    ) -> Shortcut | None:
        """Open the socket of a port that this process has opened.

        Args:
            factory: makes the protocol of each accepted connection.
            host: what the port was opened on.
            port: the port.
            backlog: connections that may wait to be accepted.

        Returns:
            None if the address is not a loopback one, or there can be no socket.
        """
        path = self._path(_LOOPBACK if host in _ANY else host, port)
        if path is None:
            return None
        loop = asyncio.get_running_loop()
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            if not self._is_ours():
                _log.debug("no Unix sockets: others can enter the directory", path=str(path.parent))
                return None
            # Whoever has the port has the name: what is there was left by a process that is gone.
            path.unlink(missing_ok=True)
            server = await loop.create_unix_server(factory, str(path), backlog=backlog)
            return Shortcut(server, path)
        except OSError as error:
            _log.debug("no Unix socket beside a port", port=port, reason=str(error))
            return None

    # -- inside ----------------------------------------------------------------------------

    def _path(self, host: str, port: int) -> Path | None:
        """The socket of an address; None where there is none."""
        name = _LOOPBACK if host == "localhost" else host
        if self._directory is None or not (name.startswith("127.") or name == "::1"):
            return None
        path = self._directory / f"{_namespace()}-{name}-{port}"
        return path if len(os.fsencode(path)) <= _PATH_BYTES_MAX else None

    def _is_ours(self) -> bool:
        """Whether nobody else can put something into the directory."""
        if self._directory is None:
            return False
        try:
            found = self._directory.lstat()
        except OSError:
            return False
        ours = found.st_uid == os.geteuid() and not found.st_mode & 0o077
        return stat.S_ISDIR(found.st_mode) and ours


class Shortcut:
    """An open socket.

    Args:
        server: accepts.
        path: its name.
    """

    def __init__(self, server: asyncio.AbstractServer, path: Path) -> None:
        self._server = server
        self._path = path
        self._inode = path.lstat().st_ino

    def close(self) -> None:
        """Accept no more; connections that were accepted live on. May be called twice."""
        self._server.close()
        with contextlib.suppress(OSError):
            if self._path.lstat().st_ino == self._inode:  # else the port has a new owner already
                self._path.unlink()


def _usual_directory() -> Path | None:
    if os.name != "posix":
        return None
    try:
        return Path(tempfile.gettempdir()) / f"data-putter-{os.geteuid()}"
    except OSError as error:  # a container whose file system can only be read
        _log.debug("no Unix sockets: nothing temporary can be written", reason=str(error))
        return None


def _namespace() -> int:
    """What tells network namespaces apart: an address means another port in each of them."""
    try:
        return _NET_NAMESPACE.stat().st_ino
    except OSError:
        return 0
