"""The door on 5002: putters bring acks, many in one write.

An ack counts only for a ticket that is in flight to the putter that brings it. Anything else is
counted, logged and ignored; bytes that are no acks end the connection.
"""

from __future__ import annotations

import asyncio
import random
from typing import Final, Protocol, cast

from common.callers import CallerLimits, Served, address_of
from common.certificates import Certificates
from common.errors import IdleTimeout, NotAuthorised, ProtocolError, PutterError
from common.keys import Keyring
from common.limits import HANDSHAKE_TIMEOUT_MS
from common.logs import Repeats, get_logger
from common.metrics import Metrics
from common.tls_ports import TlsDoor, node_network, unencrypted
from common.transport import Listener, Network, channel_of
from common.wire.acks import AckDecoder
from common.wire.greeting import ServerGreeting, refusal_of
from common.wire.handshake import CHALLENGE_BYTES, Identity
from common.wire.session import Hello

_log = get_logger(__name__)
_BUFFER_BYTES: Final = 64 * 1024
_MALFORMED_MAX: Final = 100


class AckTaker(Protocol):
    """Who wants the acks."""

    def acked(self, node: str, first: int, count: int, status: int) -> int:
        """Consecutive tickets of one status; returns how many were expected."""
        ...

    def ack_connection_renewed(self, node: str) -> None:
        """The node connected again; acks may have been lost."""
        ...


class AckPort:
    """The listener.

    Args:
        taker: who wants the acks.
        identity: of the router.
        keyring, network, rng, metrics: of the router.
        limits: connections beyond are turned away.
    """

    def __init__(
        self,
        taker: AckTaker,
        identity: Identity,
        keyring: Keyring,
        network: Network,
        rng: random.Random,
        metrics: Metrics,
        limits: CallerLimits,
    ) -> None:
        self.taker: Final = taker
        self.metrics: Final = metrics
        self._identity = identity
        self._keyring = keyring
        self._network = network
        self._rng = rng
        self.served: Final[Served[AckConnection]] = Served("acks", metrics, limits)
        self._listener: Listener | None = None
        self._met: dict[str, None] = {}
        self._repeats = Repeats()

    @property
    def port(self) -> int:
        """The port it listens on, once started."""
        return self._listener.port if self._listener is not None else 0

    async def start(self, host: str, port: int) -> None:
        """Listen.

        Raises:
            Unavailable: the port is taken.
        """
        self._listener = await self._network.listen(
            lambda: AckConnection(self), host, port, shortcut=True, flag="--ack-port"
        )

    async def stop(self) -> None:
        """Listen no more, close all."""
        if self._listener is not None:
            await self._listener.close()
        for connection in self.served.all():
            connection.close()
        self.served.leaving.abort()

    def greeting(self) -> ServerGreeting:
        """For a new connection."""
        challenge = self._rng.randbytes(CHALLENGE_BYTES)
        return ServerGreeting(self._keyring, self._identity, challenge, _admit)

    def refused(self, peer: object, error: PutterError) -> None:
        """Count and log a refusal; a putter with a wrong key is told of once a minute."""
        self.metrics.refused.labels("acks", error.code).inc()
        said = "refused a connection on the ack port"
        if not isinstance(error, NotAuthorised):
            _log.warning(said, peer=str(peer), reason=str(error))
            return
        more = self._repeats.due(address_of(peer), asyncio.get_running_loop().time())
        if more is not None:
            _log.error(said, peer=str(peer), reason=str(error), **more)

    def greeted(self, node: str) -> None:
        """A putter has proved itself."""
        if node in self._met:
            self.taker.ack_connection_renewed(node)
        self._met[node] = None


def ack_network(
    network: Network,
    certificates: Certificates | None,
    metrics: Metrics,
    limits: CallerLimits,
) -> Network:
    """What an `AckPort` listens on: encrypted if there are certificates."""
    if certificates is None:
        return network
    door = TlsDoor("acks", lambda: certificates.now.nodes, metrics, limits)
    refusal = door.refusal(lambda: refusal_of(unencrypted()))
    return node_network(network, certificates, door, lambda _: refusal)


def _admit(hello: Hello) -> None:
    if hello.role != "acks":
        raise ProtocolError(f"this port takes acks of putters, not a {hello.role[:16]!r}")


class AckConnection(asyncio.BufferedProtocol):
    """One putter's acks."""

    def __init__(self, port: AckPort) -> None:
        self._port = port
        self._greeting = port.greeting()
        self._decoder = AckDecoder()
        self._buffer = bytearray(0)
        self._node = ""
        self._malformed = 0
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._peer: object = None
        self._refused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody connected."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self._peer = self._transport.get_extra_info("peername")
        self._greeting.bind(channel_of(transport))
        refusal = self._port.served.enter(self, self._peer)
        if refusal is not None:
            self._refused = True
            self._transport.write(self._greeting.refusal(refusal))
            self._port.served.leaving.add(self._transport)
            return
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(HANDSHAKE_TIMEOUT_MS / 1000, self._too_slow)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        """Where the next bytes go."""
        if not self._buffer:
            self._buffer = bytearray(_BUFFER_BYTES if self._node else 4096)
        return memoryview(self._buffer)

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes came."""
        if self._refused:
            return
        data = bytes(self._buffer[:nbytes])
        try:
            if self._node:
                self._acks(data)
            else:
                self._greet(data)
        except PutterError as error:
            self._refuse(error)

    def eof_received(self) -> bool:
        """The putter is done."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        if self._timer is not None:
            self._timer.cancel()
        self._port.served.leave(self, self._peer)
        if self._transport is not None:
            self._port.served.leaving.remove(self._transport)
        if self._node:
            _log.info("ack connection closed", node=self._node, reason=str(exc) if exc else "")

    def close(self) -> None:
        """End it."""
        if self._transport is not None:
            self._transport.close()

    def _greet(self, data: bytes) -> None:
        assert self._transport is not None
        self._transport.write(self._greeting.receive(data))
        peer = self._greeting.peer
        if peer is None:
            return
        self._node = peer.hello.node
        self._buffer = bytearray(0)
        if self._timer is not None:
            self._timer.cancel()
        self._port.greeted(self._node)

    def _acks(self, data: bytes) -> None:
        ranges = self._decoder.ranges(data)
        if not ranges:
            return
        metrics = self._port.metrics
        ignored = 0
        totals: dict[int, int] = {}
        for first, count, status in ranges:
            totals[status] = totals.get(status, 0) + count
            if first < 0:
                self._nonsense(count)
                continue
            ignored += count - self._port.taker.acked(self._node, first, count, status)
        metrics.count_acks(totals)
        if ignored:
            metrics.acks_ignored.labels("not in flight").inc(ignored)
            _log.debug("acks for tickets that are not in flight", node=self._node, count=ignored)

    def _nonsense(self, count: int) -> None:
        self._port.metrics.acks_ignored.labels("malformed").inc(count)
        self._malformed += count
        if self._malformed >= _MALFORMED_MAX:
            raise ProtocolError(f"{self._malformed} acks with tickets that are not base 36")
        _log.warning("an ack with a ticket that is not base 36", node=self._node)

    def _refuse(self, error: PutterError) -> None:
        assert self._transport is not None
        self._port.refused(self._peer, error)
        if not self._node:
            self._transport.write(self._greeting.refusal(error))
        self._transport.close()

    def _too_slow(self) -> None:
        self._refuse(IdleTimeout(f"no greeting within {HANDSHAKE_TIMEOUT_MS} ms"))
