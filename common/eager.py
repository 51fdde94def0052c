"""A listener for connections that are short: what has come is read as soon as one is accepted.

An event loop's own server costs more for a connection that carries one small stream than the stream
itself: a transport is made, watched, and only read in a later turn. Here a connection is accepted
and read in one go, and the loop watches only those that have not said everything by then.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Callable
from typing import Any, Final, cast

from common.checksum import Buffer
from common.limits import KIB
from common.logs import Repeats, get_logger

_log = get_logger(__name__)
_ACCEPTS: Final = 64
"""Connections that are taken in one turn of the loop."""
_READS: Final = 4
"""Reads of one connection in one turn."""
_READ_BYTES: Final = 64 * KIB
"""Of a protocol that has no buffer of its own."""
_HIGH_BYTES: Final = 64 * KIB
_LOW_BYTES: Final = 16 * KIB
_TIRED_S: Final = 1.0
"""For so long nothing is accepted when there are no descriptors left."""


async def listening_sockets(
    host: str, port: int, backlog: int, *, reuse_port: bool
) -> list[socket.socket]:
    """Sockets that listen on all addresses of a host, each on the same port.

    Args:
        host: name or address; "" means all of this machine.
        port: 0 means any free one.
        backlog: connections that may wait to be accepted.
        reuse_port: share the port with other processes that ask for the same.

    Raises:
        OSError: the name is not known, or the port cannot be opened.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    sockets: list[socket.socket] = []
    try:
        for family, _, _, _, address in dict.fromkeys(found):
            sock = socket.socket(family, socket.SOCK_STREAM)
            sockets.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if reuse_port:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            first = sockets[0].getsockname()[1] if len(sockets) > 1 else port
            sock.bind((address[0], first, *address[2:]))
            sock.listen(backlog)
            sock.settimeout(0)
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


class EagerServer:
    """Accepts on sockets that listen.

    Args:
        sockets: non-blocking; theirs from now on.
        factory: makes the protocol of each connection.
    """

    def __init__(
        self, sockets: list[socket.socket], factory: Callable[[], asyncio.BaseProtocol]
    ) -> None:
        self._sockets = sockets
        self._factory = factory
        self._loop = asyncio.get_running_loop()
        self._repeats = Repeats()
        for sock in sockets:
            self._watch(sock)

    def close(self) -> None:
        """Accept no more; a second call does nothing."""
        sockets, self._sockets = self._sockets, []
        for sock in sockets:
            self._loop.remove_reader(sock)
            sock.close()

    def _watch(self, sock: socket.socket) -> None:
        if sock in self._sockets:
            self._loop.add_reader(sock, self._accept, sock)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_ACCEPTS):
            try:
                sock, peer = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                more = self._repeats.due(str(error), self._loop.time())
                if more is not None:
                    _log.error("cannot accept a connection", reason=str(error), **more)
                self._loop.remove_reader(listener)
                self._loop.call_later(_TIRED_S, self._watch, listener)
                return
            sock.settimeout(0)
            EagerTransport(self._loop, sock, peer, self._factory()).begin()


class EagerTransport(asyncio.Transport):
    """One connection.

    Args:
        loop: the running one.
        sock: non-blocking; this one's from now on.
        peer: its other end.
        protocol: reads and writes through this.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        peer: object,
        protocol: asyncio.BaseProtocol,
    ) -> None:
        super().__init__()
        self._loop = loop
        self._sock: socket.socket | None = sock
        self._peer = peer
        self._protocol = protocol
        self._buffered = protocol if isinstance(protocol, asyncio.BufferedProtocol) else None
        self._unsent: deque[memoryview] = deque()
        self._unsent_bytes = 0
        self._reading = True
        self._watched = self._writing = self._paused = False
        self._eof_heard = self._eof_wanted = self._closing = False

    def begin(self) -> None:
        """Tell the protocol, and read what has come."""
        if self._told(self._protocol.connection_made, self) and self._reading:
            self._read()

    # -- asyncio.Transport -----------------------------------------------------------------

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """``peername``, ``sockname`` or ``socket``."""
        if name == "peername":
            return self._peer
        if self._sock is None:
            return default
        if name == "socket":
            return self._sock
        return self._sock.getsockname() if name == "sockname" else default

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Who reads and writes."""
        return self._protocol

    def is_closing(self) -> bool:
        """Whether it takes nothing more to send."""
        return self._closing

    def is_reading(self) -> bool:
        """Whether it takes what comes."""
        return self._reading

    def pause_reading(self) -> None:
        """Take nothing for a while."""
        self._reading = False
        if self._watched and self._sock is not None:
            self._watched = False
            self._loop.remove_reader(self._sock)

    def resume_reading(self) -> None:
        """Take what comes, from the next turn of the loop on."""
        if not (self._reading or self._closing or self._eof_heard):
            self._reading = True
            self._watch()

    def get_write_buffer_size(self) -> int:
        """Bytes that wait to be sent."""
        return self._unsent_bytes

    def write(self, data: Buffer) -> None:
        """Send it now, or when there is room.

        Raises:
            RuntimeError: after `write_eof`.
        """
        if self._eof_wanted:
            raise RuntimeError("Cannot call write() after write_eof()")
        if self._closing or not len(data):
            return
        view = memoryview(data)
        if not self._unsent:
            view = view[self._sent(view) :]
        if len(view) and self._sock is not None:
            self._unsent.append(memoryview(bytes(view)))
            self._unsent_bytes += len(view)
            if self._unsent_bytes > _HIGH_BYTES and not self._paused:
                self._paused = True
                self._told(self._protocol.pause_writing)

    def can_write_eof(self) -> bool:
        """It can."""
        return True

    def write_eof(self) -> None:
        """Say that nothing more comes, once all is sent."""
        if not self._eof_wanted and not self._closing:
            self._eof_wanted = True
            self._send()

    def close(self) -> None:
        """Send what waits, then let go."""
        if not self._closing:
            self._closing = True
            self.pause_reading()
            self._send()

    def abort(self) -> None:
        """Let go at once."""
        self._end(None)

    # -- inside: reading -------------------------------------------------------------------

    def _watch(self) -> None:
        if self._reading and not self._watched and self._sock is not None:
            self._watched = True
            self._loop.add_reader(self._sock, self._read)

    def _read(self) -> None:
        for _ in range(_READS):
            sock = self._sock
            if sock is None or not self._reading:
                return
            try:
                size = self._receive(sock)
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                self._end(error)
                return
            except Exception as error:  # noqa: BLE001 - of the protocol
                self._failed(error)
                return
            if not size:
                self._hear_eof()
                return
        self._watch()

    def _receive(self, sock: socket.socket) -> int:
        if self._buffered is not None:
            size = sock.recv_into(self._buffered.get_buffer(-1))
            if size:
                self._buffered.buffer_updated(size)
            return size
        data = sock.recv(_READ_BYTES)
        if data:
            cast("asyncio.Protocol", self._protocol).data_received(data)
        return len(data)

    def _hear_eof(self) -> None:
        self._eof_heard = True
        self.pause_reading()
        try:
            stays = cast("asyncio.Protocol", self._protocol).eof_received()
        except Exception as error:  # noqa: BLE001 - of the protocol
            self._failed(error)
        else:
            if not stays:
                self.close()

    # -- inside: writing -------------------------------------------------------------------

    def _sent(self, data: memoryview) -> int:
        """How much of it the kernel takes now; watches for room if that is not all."""
        if self._sock is None:
            return len(data)
        try:
            done = self._sock.send(data)
        except (BlockingIOError, InterruptedError):
            done = 0
        except OSError as error:
            self._end(error)
            return len(data)
        if done < len(data) and not self._writing:
            self._writing = True
            self._loop.add_writer(self._sock, self._send)
        return done

    def _send(self) -> None:
        while self._unsent:
            first = self._unsent[0]
            done = self._sent(first)
            if self._sock is None:
                return
            self._unsent_bytes -= done
            if done < len(first):
                self._unsent[0] = first[done:]
                break
            self._unsent.popleft()
        if self._paused and self._unsent_bytes <= _LOW_BYTES:
            self._paused = False
            self._told(self._protocol.resume_writing)
        if self._unsent or self._sock is None:
            return
        if self._writing:
            self._writing = False
            self._loop.remove_writer(self._sock)
        if self._closing:
            self._end(None)
        elif self._eof_wanted:
            with contextlib.suppress(OSError):  # the other end is gone, and reading tells so
                self._sock.shutdown(socket.SHUT_WR)

    # -- inside: the end -------------------------------------------------------------------

    def _told(self, call: Callable[..., object], *args: object) -> bool:
        """Tell the protocol something; False if it fails, which ends the connection."""
        try:
            call(*args)
        except Exception as error:  # noqa: BLE001 - of the protocol
            self._failed(error)
            return False
        return True

    def _failed(self, error: Exception) -> None:
        _log.error("a connection ends, as its protocol failed", exc_info=error)
        self._end(error)

    def _end(self, error: Exception | None) -> None:
        sock, self._sock = self._sock, None
        self._closing = True
        if sock is None:
            return
        if self._watched:
            self._loop.remove_reader(sock)
        if self._writing:
            self._loop.remove_writer(sock)
        self._reading = self._watched = self._writing = False
        self._unsent.clear()
        self._unsent_bytes = 0
        sock.close()
        self._loop.call_soon(self._protocol.connection_lost, error)
