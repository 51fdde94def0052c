"""Which ports of this machine are free: asked by listening on them for a moment."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable
from typing import Final

_HOST: Final = "127.0.0.1"


def taken(ports: Iterable[int]) -> list[int]:
    """Those on which nobody can listen now; 0 never is one."""
    return [port for port in ports if port and not _can_listen(port)]


def any_free(count: int) -> list[int]:
    """So many different ports that are free now.

    Raises:
        OSError: there are not so many.
    """
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(_probe()) for _ in range(count)]
        for probe in probes:
            probe.bind((_HOST, 0))
        return [probe.getsockname()[1] for probe in probes]


def _can_listen(port: int) -> bool:
    with _probe() as probe:
        try:
            probe.bind((_HOST, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def _probe() -> socket.socket:
    probe = socket.socket()
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return probe
