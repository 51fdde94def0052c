"""The connections of one web port: counted, and turned away beyond the limit."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable

from common.callers import CallerLimits, Callers
from common.errors import TooManyConnections
from common.limits import LEAVING_MAX, WEB_PROBES_MAX
from common.metrics import Metrics

Connection = Hashable


class Connections:
    """The open connections of one web port.

    Args:
        metrics: where they are counted.
        limits: how many are served at a time.
        name: of the port, in metrics.
    """

    def __init__(self, metrics: Metrics, limits: CallerLimits, name: str = "web") -> None:
        self._metrics = metrics
        self._name = name
        self._callers = Callers(name, metrics, limits)
        self._served: dict[Connection, object] = {}
        self._probes: dict[Connection, TooManyConnections] = {}
        self._leaving: dict[Connection, asyncio.Transport] = {}
        metrics.connections.labels(name).set_function(lambda: len(self._served))

    def opened(self, connection: Connection, peer: object) -> TooManyConnections | None:
        """Count a connection; an error to tell it if there are too many."""
        error = self._callers.enter(peer)
        if error is None:
            self._served[connection] = peer
        elif len(self._probes) < WEB_PROBES_MAX:
            self._probes[connection] = error
        else:
            self._callers.turned_away(peer, error)
            return error
        return None

    def is_probe(self, connection: Connection) -> bool:
        """Whether it is beyond the limit."""
        return connection in self._probes

    def check(self, connection: Connection, peer: object) -> None:
        """Let a request in that is not for the health.

        Raises:
            TooManyConnections: its connection is beyond the limit.
        """
        error = self._probes.get(connection)
        if error is not None:
            self._callers.turned_away(peer, error)
            raise error

    def leaves(self, connection: Connection, transport: asyncio.Transport) -> bool:
        """It has its last answer; False if there is no room for one more to read it in peace."""
        self._forget(connection)
        if len(self._leaving) >= LEAVING_MAX:
            return False
        self._leaving[connection] = transport
        return True

    def closed(self, connection: Connection) -> None:
        """It is gone."""
        self._forget(connection)
        self._leaving.pop(connection, None)

    def refuse(self, reason: str) -> None:
        """Count a connection or a request that was turned away."""
        self._metrics.refused.labels(self._name, reason).inc()

    def abort_leaving(self) -> None:
        """End those that only read their last answer."""
        for transport in list(self._leaving.values()):
            transport.abort()

    def _forget(self, connection: Connection) -> None:
        if connection in self._served:
            self._callers.leave(self._served.pop(connection))
        self._probes.pop(connection, None)
