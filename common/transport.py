"""The seam to the network: two calls, connect and listen, and the only place that hears `OSError`.

What connects or listens takes a `Network`. `TcpNetwork` is the real one, for asyncio's own loop
and for uvloop; `common.twins.network.MemoryNetwork` is its seeded twin for tests.

Protocols are asyncio's: `asyncio.Protocol`, or `asyncio.BufferedProtocol` where bytes should land
in a buffer of ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import struct
from collections.abc import Callable, Sequence
from typing import Final, Protocol, TypeVar, cast, runtime_checkable

from common.eager import EagerServer, listening_sockets
from common.errors import Unavailable
from common.shortcut import Shortcut, Shortcuts

PORT_MAX: Final = 65_535
BACKLOG_DEFAULT: Final = 1024
KEEPALIVE_IDLE_S: Final = 30
KEEPALIVE_INTERVAL_S: Final = 10
KEEPALIVE_PROBES: Final = 3
"""A peer that vanished without a word is noticed after 30 + 3 × 10 seconds of silence."""

UNANSWERED_MS: Final = 60_000
"""What was sent and not acknowledged by the peer's kernel for so long ends the connection."""

_LINGER_RESET: Final = struct.pack("ii", 1, 0)

P = TypeVar("P", bound=asyncio.BaseProtocol)


class Listener(Protocol):
    """An open port."""

    @property
    def host(self) -> str:
        """The address it was opened on."""
        ...

    @property
    def port(self) -> int:
        """The port that clients use, also where 0 was asked for."""
        ...

    async def close(self) -> None:
        """Accept no more; connections that were accepted live on. May be called twice."""
        ...


class Network(Protocol):
    """Whatever can connect and listen."""

    async def connect(
        self, factory: Callable[[], P], host: str, port: int, *, timeout_ms: int
    ) -> tuple[asyncio.Transport, P]:
        """Open one connection.

        Args:
            factory: makes the protocol; called once, whether or not the connection succeeds.
            host: name or address.
            port: 1 … 65535.
            timeout_ms: bound of the whole attempt, name look-up included.

        Returns:
            The transport and the protocol, whose ``connection_made`` was called.

        Raises:
            Unavailable: refused, unreachable, unknown host, or no answer in time.
        """
        ...

    async def listen(
        self,
        factory: Callable[[], asyncio.BaseProtocol],
        host: str,
        port: int,
        *,
        backlog: int = BACKLOG_DEFAULT,
        reuse_port: bool = False,
        shortcut: bool = False,
        eager: bool = False,
        flag: str = "",
    ) -> Listener:
        """Open a port.

        Args:
            factory: makes the protocol of each accepted connection.
            host: address to listen on.
            port: 0 means any free one.
            backlog: connections that may wait to be accepted.
            reuse_port: share the port with other processes that ask for the same.
            shortcut: let processes on this machine come over a Unix socket (`common.shortcut`).
            eager: connections are short, as a rule (`common.eager`).
            flag: the setting that the error's hint names, such as ``--ingest-port``.

        Raises:
            Unavailable: the port is taken, forbidden, or not an address of this machine.
        """
        ...


@runtime_checkable
class CanReset(Protocol):
    """A transport that needs no socket option to end with a reset."""

    def reset(self) -> None:
        """Forget what is not sent yet and tell the peer that the connection broke."""
        ...


def address(host: str, port: int) -> str:
    """``host:port`` as people write it, with an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def channel_of(transport: asyncio.BaseTransport) -> bytes:
    """The digest of the server's certificate, under TLS; else empty."""
    found = transport.get_extra_info("channel")
    return found if isinstance(found, bytes) else b""


def on_this_machine(transport: asyncio.BaseTransport) -> bool:
    """Whether the peer is a process of the same user here (`common.shortcut`)."""
    sock = transport.get_extra_info("socket")
    return sock is not None and sock.family == getattr(socket, "AF_UNIX", None)


def abort(transport: asyncio.BaseTransport) -> None:
    """Drop a connection so that the peer sees a reset, not an orderly end.

    A plain ``transport.abort()`` forgets what was not sent yet and then closes, which a peer
    cannot tell from a stream that is complete. Buffered bytes of ours are lost.
    """
    if isinstance(transport, CanReset):
        transport.reset()
        return
    sock = transport.get_extra_info("socket")
    if sock is not None:
        # The descriptor is gone when the connection has ended already; uvloop says ValueError.
        with contextlib.suppress(OSError, ValueError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
    # A cast, as uvloop's transports are no subclass of asyncio's.
    cast("asyncio.WriteTransport", transport).abort()


class TcpNetwork:
    """TCP through the running event loop, with Nagle's delay off and keep-alive on.

    Args:
        shortcuts: Unix sockets beside loopback ports; None: those of the user.
    """

    def __init__(self, shortcuts: Shortcuts | None = None) -> None:
        self._shortcuts = shortcuts or Shortcuts()

    async def connect(
        self, factory: Callable[[], P], host: str, port: int, *, timeout_ms: int
    ) -> tuple[asyncio.Transport, P]:
        """See `Network.connect`."""
        protocol = factory()
        if not 0 < port <= PORT_MAX:  # uvloop would take it modulo 65536
            raise Unavailable(f"cannot connect to {address(host, port)}: no such port")
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                near = await self._shortcuts.connect(lambda: protocol, host, port)
                if near is not None:
                    return near, protocol
                transport, _ = await loop.create_connection(lambda: protocol, host, port)
        except TimeoutError as error:
            raise Unavailable(
                f"cannot connect to {address(host, port)}: no answer within {timeout_ms} ms"
            ) from error
        except (OSError, ValueError) as error:  # ValueError: a host that no name can be
            raise Unavailable(
                f"cannot connect to {address(host, port)}: {reason(error)}"
            ) from error
        sock = transport.get_extra_info("socket")
        if sock is not None:
            _tune(sock)
        return transport, protocol

    async def listen(
        self,
        factory: Callable[[], asyncio.BaseProtocol],
        host: str,
        port: int,
        *,
        backlog: int = BACKLOG_DEFAULT,
        reuse_port: bool = False,
        shortcut: bool = False,
        eager: bool = False,
        flag: str = "",
    ) -> Listener:
        """See `Network.listen`."""
        if not 0 <= port <= PORT_MAX:
            raise Unavailable(f"cannot listen on {address(host, port)}: no such port")
        loop = asyncio.get_running_loop()
        if eager:
            try:
                sockets = await listening_sockets(host, port, backlog, reuse_port=reuse_port)
            except (OSError, ValueError) as error:
                raise bind_error(error, host, port, flag) from error
            for sock in sockets:
                _tune(sock)
            return _TcpListener(EagerServer(sockets, factory), host, sockets)
        server: asyncio.Server | None = None
        try:
            server = await loop.create_server(
                factory,
                host,
                port,
                backlog=backlog,
                reuse_port=reuse_port or None,
                start_serving=False,
            )
            for sock in server.sockets:
                _tune(sock)  # accepted sockets inherit these
            await server.start_serving()  # uvloop reports a taken port only here
        except (OSError, ValueError) as error:
            if server is not None:
                server.close()
            raise bind_error(error, host, port, flag) from error
        listener = _TcpListener(server, host, server.sockets)
        if shortcut:
            listener.shortcut = await self._shortcuts.listen(factory, host, listener.port, backlog)
        return listener


class _TcpListener:
    """A server that forgets its sockets when it closes, but not its port."""

    def __init__(
        self, server: asyncio.Server | EagerServer, host: str, sockets: Sequence[socket.socket]
    ) -> None:
        self._server = server
        self._host = host
        self._port = int(sockets[0].getsockname()[1])
        self.shortcut: Shortcut | None = None

    @property
    def host(self) -> str:
        """See `Listener.host`."""
        return self._host

    @property
    def port(self) -> int:
        """See `Listener.port`."""
        return self._port

    async def close(self) -> None:
        """See `Listener.close`."""
        # Not wait_closed(): newer Pythons let it wait for every accepted connection.
        if self.shortcut is not None:
            self.shortcut.close()
        self._server.close()
        await asyncio.sleep(0)  # uvloop closes the descriptor in its next turn


def _tune(sock: socket.socket) -> None:
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_KEEPIDLE"):  # macOS names it otherwise and keeps its default
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNANSWERED_MS)
    except (OSError, ValueError) as error:
        # A connection that was reset within its first microseconds; its protocol hears of it.
        # The ValueError is uvloop's: it looks for the descriptor of a transport that has none.
        if isinstance(error, OSError) and error.errno not in (errno.EINVAL, errno.EBADF):
            raise


def reason(error: BaseException) -> str:
    """The cause in words, without the numbers and tuples that `str` puts around them."""
    if isinstance(error, OSError):
        if error.errno is not None and error.errno > 0:
            return os.strerror(error.errno)
        if error.strerror:  # name look-up, whose numbers are its own
            return error.strerror
    return str(error) or type(error).__name__


def bind_error(error: Exception, host: str, port: int, flag: str) -> Unavailable:
    """What to raise, and to advise, when a port cannot be opened."""
    choose = f"choose another with {flag}" if flag else "choose another port"
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.EADDRINUSE:
        return Unavailable(
            f"port {port} on {host} is already in use",
            hint=f"is another store running? {choose}",
        )
    if number in (errno.EACCES, errno.EPERM):
        return Unavailable(
            f"port {port} on {host} may not be opened by this user",
            hint=f"ports below 1024 need a privilege; {choose}",
        )
    if number == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
        return Unavailable(
            f"{host} is not an address of this machine", hint="choose another with --host"
        )
    return Unavailable(f"cannot listen on {address(host, port)}: {reason(error)}", hint=choose)
