"""Ports that several processes of ours will share, held from before the first until after the last.

``SO_REUSEPORT`` lets any process of the same user join in: two stores with the same port would
split its clients between them and never hear of each other. So the parent of the workers makes
sure that it is alone: it binds and listens without that option, which fails if anybody else does
so, and among several who try at the same time one wins. Then it allows the sharing, and stops
listening but keeps the port: its socket takes no connection, and whoever asks for the port without
the option is refused, also while no worker runs.

The rules of the kernel that this rests on are Linux's, as is the spreading of connections over the
listeners: elsewhere one of them would get all.
"""

from __future__ import annotations

import contextlib
import socket
import sys
from types import TracebackType
from typing import Any, Final, Self

from common.errors import UsageError
from common.transport import bind_error

_PORT_TRIES: Final = 20
_Place = tuple[int, Any]
"""An address family, and an address as its sockets want it."""


def check_shareable(platform: str = sys.platform) -> None:
    """Whether ports can be shared here.

    Raises:
        UsageError: they cannot.
    """
    if platform != "linux" or not hasattr(socket, "SO_REUSEPORT"):
        raise UsageError(
            "workers share their ports with SO_REUSEPORT, which spreads connections on Linux only",
            hint="leave --workers at 1, and run several routers on different ports",
        )


class Reservation:
    """One port on one host.

    Args:
        host: address or name; each address that it stands for is reserved.
        port: 0 for any free one.
        flag: the setting that an error's hint names.

    Attributes:
        port: that was reserved.

    Raises:
        Unavailable: it is taken, forbidden, or no port of this machine.
    """

    def __init__(self, host: str, port: int, flag: str) -> None:
        self._sockets: list[socket.socket] = []
        try:
            self.port: Final = _reserve_any(host, port, self._sockets)
        except OSError as error:
            self.close()
            raise bind_error(error, host, port, flag) from error

    def close(self) -> None:
        """Give it back."""
        while self._sockets:
            self._sockets.pop().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _reserve_any(host: str, port: int, kept: list[socket.socket]) -> int:
    """The port, after its sockets were added; any free one if it is 0."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    places: list[_Place] = list(dict.fromkeys((kind, where) for kind, *_, where in found))
    if port:
        _reserve(places, port, kept)
        return port
    for attempt in range(_PORT_TRIES):
        chosen = _free_port(*places[0])
        try:
            _reserve(places, chosen, kept)
        except OSError:
            if attempt == _PORT_TRIES - 1:
                raise
            while kept:
                kept.pop().close()
        else:
            return chosen
    raise AssertionError("the last try returns or raises")


def _free_port(family: int, address: Any) -> int:
    """A port that is free now: the kernel lets go of one that it chose itself too early for us."""
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.bind(address)
        return int(probe.getsockname()[1])


def _reserve(places: list[_Place], port: int, kept: list[socket.socket]) -> None:
    for family, address in places:
        with contextlib.ExitStack() as stack:
            held = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            if family == socket.AF_INET6:  # as the event loops do
                held.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            # What lingers of connections of an earlier process is in nobody's way.
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.bind((address[0], port, *address[2:]))
            held.listen(1)
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
            held.shutdown(socket.SHUT_RDWR)
            kept.append(held)
            stack.pop_all()
