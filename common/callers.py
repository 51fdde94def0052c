"""Who is connected to one port: bounds on all of them together, and on each remote address.

Who is one too many is told so, in the form of the port's protocol, and left.

An address is an IPv4 address, or the first 64 bits of an IPv6 address, as that is what one customer
of a network usually gets; an IPv4 address that is written as IPv6 counts as itself.
"""

from __future__ import annotations

import asyncio
import ipaddress
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Generic, TypeVar

from common.errors import TooManyConnections
from common.limits import ADDRESS_CONNECTIONS_MAX, CONNECTIONS_MAX, LEAVING_MAX, LINGER_MS
from common.logs import Repeats, get_logger
from common.metrics import Metrics

_log = get_logger(__name__)
_IPV6_BITS: Final = 64

C = TypeVar("C")


@dataclass(frozen=True)
class CallerLimits:
    """Connections that one port serves at a time.

    Attributes:
        total: of everybody.
        per_address: of one remote address; 0: as many as there are; None: the usual number, and
            no bound of their own for those on this machine.
    """

    total: int = CONNECTIONS_MAX
    per_address: int | None = None

    def of(self, address: str) -> int:
        """What one address may have."""
        if self.per_address is not None:
            return self.per_address or self.total
        return self.total if is_loopback(address) else ADDRESS_CONNECTIONS_MAX


class Callers:
    """The connections of one port, counted.

    Args:
        port: the name of the port in metrics and in the log.
        metrics: where those that are turned away are counted, as ``connections`` or ``address``.
        limits: how many are served at a time.
    """

    def __init__(self, port: str, metrics: Metrics, limits: CallerLimits) -> None:
        self._port = port
        self._metrics = metrics
        self._limits = limits
        self._count = 0
        self._by_address: dict[str, int] = {}
        self._repeats = Repeats()

    def __len__(self) -> int:
        return self._count

    def enter(self, peername: object) -> TooManyConnections | None:
        """Count a connection; call `leave` when it is gone.

        Args:
            peername: as the transport tells it.

        Returns:
            None, or what a connection is told that is one too many, which is not counted.
        """
        address = address_of(peername)
        held = self._by_address.get(address, 0)
        if self._count >= self._limits.total:
            return TooManyConnections(
                f"this port serves {self._limits.total} connections at a time, and has as many",
                hint="close some, or raise connections_max",
            )
        if held >= self._limits.of(address):
            return TooManyConnections(
                f"{address or 'this address'} has {held} connections to this port, "
                "and may have no more",
                hint="close some, or raise connections_per_address",
                of_address=True,
            )
        self._count += 1
        self._by_address[address] = held + 1
        return None

    def leave(self, peername: object) -> None:
        """A connection that was counted is gone."""
        address = address_of(peername)
        self._count -= 1
        left = self._by_address[address] - 1
        if left:
            self._by_address[address] = left
        else:
            del self._by_address[address]

    def turned_away(self, peername: object, error: TooManyConnections) -> None:
        """Count one that was one too many; the log tells of each address once a minute."""
        reason = "address" if error.of_address else "connections"
        self._metrics.refused.labels(self._port, reason).inc()
        address = address_of(peername)
        more = self._repeats.due(address, asyncio.get_running_loop().time())
        if more is not None:
            _log.warning(
                "turned a connection away",
                port=self._port,
                peer=address,
                reason=error.message,
                **more,
            )


class Leaving:
    """Connections that have their last answer, and are read for a moment more.

    Closing at once would reset a connection with bytes that nobody read, and the reset may overtake
    the answer.
    """

    def __init__(self) -> None:
        self._timers: dict[asyncio.Transport, asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        return len(self._timers)

    def add(self, transport: asyncio.Transport, *, ends: bool = True) -> None:
        """End the connection soon; at once if too many are leaving already.

        Args:
            transport: of the connection.
            ends: whether our side has said all; else it will end itself.
        """
        if len(self._timers) >= LEAVING_MAX:
            transport.close()
            return
        if ends and transport.can_write_eof():
            transport.write_eof()
        loop = asyncio.get_running_loop()
        self._timers[transport] = loop.call_later(LINGER_MS / 1000, transport.abort)

    def remove(self, transport: asyncio.Transport) -> None:
        """It is gone; nothing happens if it is not among them."""
        timer = self._timers.pop(transport, None)
        if timer is not None:
            timer.cancel()

    def abort(self) -> None:
        """End all of them now."""
        for transport in list(self._timers):
            transport.abort()


class Served(Generic[C]):
    """The connections that one port serves, and those that are on their way out.

    Args:
        port: the name of the port in metrics and in the log.
        metrics: where they are counted.
        limits: how many are served at a time.
    """

    def __init__(self, port: str, metrics: Metrics, limits: CallerLimits) -> None:
        self.leaving: Final = Leaving()
        self._callers = Callers(port, metrics, limits)
        self._open: dict[int, C] = {}
        metrics.connections.labels(port).set_function(lambda: len(self._open))

    def enter(self, connection: C, peername: object) -> TooManyConnections | None:
        """Count a connection; an error to tell it if there are too many."""
        error = self._callers.enter(peername)
        if error is None:
            self._open[id(connection)] = connection
        else:
            self._callers.turned_away(peername, error)
        return error

    def leave(self, connection: C, peername: object) -> None:
        """It is gone, if it was ever counted."""
        if self._open.pop(id(connection), None) is not None:
            self._callers.leave(peername)

    def all(self) -> list[C]:
        """Those that are open now."""
        return list(self._open.values())

    def __len__(self) -> int:
        return len(self._open)


def address_of(peername: object) -> str:
    """What counts as one address: see the top of this module.

    Args:
        peername: ``(host, port, …)`` of a TCP transport; anything else is one address, "".
    """
    if not isinstance(peername, tuple) or not peername:
        return ""
    return _address(str(peername[0]))


@lru_cache(maxsize=4096)
def _address(host: str) -> str:
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(found, ipaddress.IPv4Address):
        return host
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    if found.is_loopback:
        return host
    network = ipaddress.ip_network((int(found) >> _IPV6_BITS << _IPV6_BITS, _IPV6_BITS))
    return str(network)


@lru_cache(maxsize=4096)
def is_loopback(address: str) -> bool:
    """Whether an address, as `address_of` gives it, is of this machine."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:  # a network of IPv6, or a socket without an address
        return address == ""
