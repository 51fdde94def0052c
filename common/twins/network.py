"""A network in memory: hosts by name, seeded delays and cuts, faults on request.

The twin of `common.transport.TcpNetwork`. With the same seed, on a loop that runs alike, the same
things happen in the same order.
"""

from __future__ import annotations

import asyncio
import contextvars
import errno
import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from common.errors import Unavailable
from common.transport import BACKLOG_DEFAULT, PORT_MAX, Listener, P, address, bind_error
from common.twins.lines import Weather
from common.twins.transports import MemoryTransport

LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
ANY: Final = ("0.0.0.0", "::")  # noqa: S104 – only recognised here, nothing is opened
EPHEMERAL_PORT_MIN: Final = 49_152


@dataclass(frozen=True)
class _Connection:
    """Two hosts and the two ends of what joins them."""

    client: str
    server: str
    client_end: MemoryTransport
    server_end: MemoryTransport

    def joins(self, one: str, other: str) -> bool:
        return {self.client, self.server} == {one, other}


class MemoryNetwork:
    """The wires between named hosts.

    It is itself a `common.transport.Network`, that of the host ``localhost``; others are had by
    `host`. A loopback address means the own host, as everywhere.

    Args:
        random: makes all choices.
        weather: the limits of the choices; by default 20 µs to 2 ms of latency.
    """

    def __init__(self, random: random.Random, weather: Weather | None = None) -> None:
        self.weather = weather or Weather(random)
        self._hosts: dict[str, MemoryHost] = {}
        self._listeners: dict[tuple[str, int], list[_MemoryListener]] = {}
        self._connections: dict[int, _Connection] = {}
        self._connections_made = 0
        self._ports_given = 0
        self._blocked: list[tuple[str, str]] = []
        self._slow_s: dict[tuple[str, str], float] = {}
        self._stuck: set[int] = set()
        self._healed = asyncio.Event()

    def host(self, name: str) -> MemoryHost:
        """The network as seen from a host: the same one until it crashes."""
        if name not in self._hosts:
            self._hosts[name] = MemoryHost(self, name)
        return self._hosts[name]

    async def connect(
        self, factory: Callable[[], P], host: str, port: int, *, timeout_ms: int
    ) -> tuple[asyncio.Transport, P]:
        """See `common.transport.Network.connect`."""
        return await self.host("localhost").connect(factory, host, port, timeout_ms=timeout_ms)

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
        """See `common.transport.Network.listen`."""
        return await self.host("localhost").listen(
            factory,
            host,
            port,
            backlog=backlog,
            reuse_port=reuse_port,
            shortcut=shortcut,
            eager=eager,
            flag=flag,
        )

    # Faults

    def cut(self, one: str | asyncio.BaseTransport, other: str = "") -> int:
        """Reset one connection, or all between two hosts.

        Args:
            one: either end's transport, or a host.
            other: the other host.

        Returns:
            How many connections were reset.
        """
        hit = [
            connection
            for connection in self._connections.values()
            if one in (connection.client_end, connection.server_end)
            or (isinstance(one, str) and connection.joins(one, other))
        ]
        for connection in hit:
            connection.client_end.line.reset()
            connection.server_end.line.reset()
        return len(hit)

    def partition(self, one: str, other: str, *, one_way: bool = False) -> None:
        """Nothing gets through between two hosts, and nobody is told; kept for `heal`.

        Args:
            one: a host.
            other: another one.
            one_way: only what ``one`` sends is held back; it still hears ``other``.
        """
        for way in ((one, other),) if one_way else ((one, other), (other, one)):
            if way not in self._blocked:
                self._blocked.append(way)
        self._apply_faults()

    def is_partitioned(self, one: str, other: str) -> bool:
        """Whether what ``one`` sends does not get to ``other``."""
        return (one, other) in self._blocked

    def stall(self, one: str, other: str) -> int:
        """The connections of two hosts that are there now carry nothing any more, until `heal`.

        New ones do, so what was under way may arrive late, behind what was sent again.

        Returns:
            How many connections.
        """
        hit = {n for n, each in self._connections.items() if each.joins(one, other)}
        self._stuck |= hit
        self._apply_faults()
        return len(hit)

    def slow_down(self, one: str, other: str, seconds: float) -> None:
        """What ``one`` sends to ``other`` travels so much longer, until `heal`."""
        self._slow_s[one, other] = seconds
        self._apply_faults()

    def heal(self) -> None:
        """End all faults that last; what was under way arrives."""
        self._blocked.clear()
        self._stuck.clear()
        self._slow_s.clear()
        self._apply_faults()
        self._healed.set()
        self._healed = asyncio.Event()

    def crash(self, host: str) -> None:
        """A host's process dies: listeners and connections vanish, peers see a reset.

        Its protocols hear nothing, and its old `MemoryHost` cannot be used any more; `host` gives
        the one that was started again.
        """
        crashed = self._hosts.pop(host, None)
        if crashed is not None:
            crashed.alive = False
        self._listeners = {at: here for at, here in self._listeners.items() if at[0] != host}
        for connection in list(self._connections.values()):
            if connection.client == host:
                connection.client_end.vanish()
            if connection.server == host:
                connection.server_end.vanish()

    @property
    def connections(self) -> int:
        """How many connections are open, at one end at least."""
        return len(self._connections)

    def _apply_faults(self) -> None:
        for number, connection in self._connections.items():
            self._apply_to(number, connection)

    def _apply_to(self, number: int, connection: _Connection) -> None:
        client, server = connection.client, connection.server
        for line, way in (
            (connection.client_end.line, (client, server)),
            (connection.server_end.line, (server, client)),
        ):
            line.extra_s = self._slow_s.get(way, 0.0)
            if number in self._stuck or way in self._blocked:
                line.hold()
            else:
                line.release()

    # What hosts need

    async def travel(self, one: str, other: str) -> None:
        """Wait as long as a packet from one host to the other takes: forever when partitioned."""
        while True:
            await asyncio.sleep(self.weather.latency_s() + self._slow_s.get((one, other), 0.0))
            if not self.is_partitioned(one, other):
                return
            await self._healed.wait()

    def accept(self, client: str, server: str, port: int) -> MemoryTransport | None:
        """The client's end of a new connection, or None when nobody listens."""
        listeners = self._listeners.get((server, port), [])
        reachable = [each for each in listeners if client == server or each.host not in LOOPBACK]
        if not reachable:
            return None
        listener = self.weather.random.choice(reachable)
        here, there = (client, self.free_port()), (server, port)
        client_end, server_end = MemoryTransport.pair(
            self.weather, here, there, contextvars.copy_context(), listener.context
        )
        connection = _Connection(client, server, client_end, server_end)
        number = self._connections_made
        self._connections_made += 1
        self._connections[number] = connection
        self._apply_to(number, connection)

        def forget() -> None:
            if client_end.ended and server_end.ended:
                self._connections.pop(number, None)
                self._stuck.discard(number)

        client_end.on_end = server_end.on_end = forget
        asyncio.get_running_loop().call_soon(
            server_end.start, listener.factory(), context=listener.context
        )
        return client_end

    def open(self, host: str, port: int, listener: _MemoryListener, *, shared: bool) -> bool:
        """Register a listener; False when the port is taken."""
        others = self._listeners.get((host, port), [])
        if others and not (shared and all(other.shared for other in others)):
            return False
        self._listeners[host, port] = [*others, listener]
        return True

    def close(self, host: str, listener: _MemoryListener) -> None:
        """Forget a listener."""
        others = self._listeners.get((host, listener.port), [])
        if listener in others:
            others.remove(listener)

    def free_port(self) -> int:
        """A port that was not given out yet."""
        self._ports_given += 1
        return EPHEMERAL_PORT_MIN + self._ports_given


class MemoryHost:
    """The network as one host sees it; a `common.transport.Network`."""

    def __init__(self, network: MemoryNetwork, name: str) -> None:
        self._network = network
        self.name = name
        self.alive = True

    async def connect(
        self, factory: Callable[[], P], host: str, port: int, *, timeout_ms: int
    ) -> tuple[asyncio.Transport, P]:
        """See `common.transport.Network.connect`."""
        protocol = factory()
        if not 0 < port <= PORT_MAX:
            raise Unavailable(f"cannot connect to {address(host, port)}: no such port")
        server = self.name if host in LOOPBACK else host
        end: MemoryTransport | None = None
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                await self._network.travel(self.name, server)
                if self.alive:
                    end = self._network.accept(self.name, server, port)
                await self._network.travel(server, self.name)
        except BaseException as error:
            if end is not None:
                end.reset()
            if isinstance(error, TimeoutError):
                raise Unavailable(
                    f"cannot connect to {address(host, port)}: no answer within {timeout_ms} ms"
                ) from error
            raise
        if end is None:
            raise Unavailable(
                f"cannot connect to {address(host, port)}: {os.strerror(errno.ECONNREFUSED)}"
            )
        end.start(protocol)
        return end, protocol

    async def listen(
        self,
        factory: Callable[[], asyncio.BaseProtocol],
        host: str,
        port: int,
        *,
        backlog: int = BACKLOG_DEFAULT,  # noqa: ARG002 – everybody is accepted at once
        reuse_port: bool = False,
        shortcut: bool = False,  # noqa: ARG002 - there is nothing shorter
        eager: bool = False,  # noqa: ARG002 - nobody waits longer
        flag: str = "",
    ) -> Listener:
        """See `common.transport.Network.listen`."""
        if not 0 <= port <= PORT_MAX:
            raise Unavailable(f"cannot listen on {address(host, port)}: no such port")
        if not self.alive or host not in (*LOOPBACK, *ANY, self.name):
            raise bind_error(OSError(errno.EADDRNOTAVAIL, ""), host, port, flag)
        port = port or self._network.free_port()
        listener = _MemoryListener(self._network, self.name, host, port, factory, reuse_port)
        if not self._network.open(self.name, port, listener, shared=reuse_port):
            raise bind_error(OSError(errno.EADDRINUSE, ""), host, port, flag)
        return listener


class _MemoryListener:
    """An open port of a host."""

    def __init__(
        self,
        network: MemoryNetwork,
        name: str,
        host: str,
        port: int,
        factory: Callable[[], asyncio.BaseProtocol],
        shared: bool,  # noqa: FBT001
    ) -> None:
        self._network = network
        self._name = name
        self.host = host
        self.port = port
        self.factory = factory
        self.shared = shared
        self.context = contextvars.copy_context()

    async def close(self) -> None:
        """See `common.transport.Listener.close`."""
        self._network.close(self._name, self)
