"""Ports and networks with TLS.

```
transport ──bytes──► TlsServer ──first byte 22──► handshake ──► protocol, through a TlsTransport
                         └──────anything else───► the protocol of unencrypted connections
```

A TLS client begins with byte 22, which neither HTTP nor a session nor a raw frame does.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Final, cast

from common.callers import CallerLimits, Callers, Leaving, address_of
from common.certificates import Certificates
from common.errors import NotAuthorised, PutterError, Unavailable
from common.limits import HANDSHAKES_MAX
from common.logs import Repeats, get_logger
from common.metrics import Metrics
from common.tls import Factory, TlsClient, TlsConnection
from common.transport import BACKLOG_DEFAULT, Listener, Network, P, address

_log = get_logger(__name__)
HELLO_BYTE: Final = 22
"""What a TLS connection begins with: a record of the handshake (RFC 8446, section 5.1)."""


class TlsDoor:
    """What the connections of one port share.

    Args:
        port: the name of the port in metrics and in the log.
        context: what a new connection is served with; asked each time, as it may be replaced.
        metrics: where connections are counted that fail.
        limits: of the port; handshakes under way are bounded by the same, and by `HANDSHAKES_MAX`.
    """

    def __init__(
        self,
        port: str,
        context: Callable[[], ssl.SSLContext],
        metrics: Metrics,
        limits: CallerLimits,
    ) -> None:
        self.port: Final = port
        self.context: Final = context
        self.metrics: Final = metrics
        self.leaving: Final = Leaving()
        bounded = CallerLimits(min(limits.total, HANDSHAKES_MAX), limits.per_address)
        self.handshakes: Final = Callers(port, metrics, bounded)
        self._repeats = Repeats()

    def factory(self, above: Factory, plain: Factory) -> Factory:
        """What a listener makes its protocols with.

        Args:
            above: makes the protocol of a connection whose handshake is over.
            plain: makes the protocol of one that begins unencrypted.
        """
        return lambda: TlsServer(self, above, plain)

    def refusal(self, answer: Callable[[], bytes]) -> Factory:
        """A ``plain`` for `factory` that says ``answer``, and no more."""
        return lambda: PlainRefusal(self, answer())

    def failed(self, peer: object, reason: str, why: str) -> None:
        """Count a connection that came to nothing; the log tells of each address once a minute.

        Args:
            peer: whose.
            reason: for the metrics.
            why: for people.
        """
        self.metrics.refused.labels(self.port, reason).inc()
        more = self._repeats.due(address_of(peer), asyncio.get_running_loop().time())
        if more is not None:
            _log.warning(
                "refused a connection on a TLS port",
                port=self.port,
                peer=str(peer),
                reason=why,
                **more,
            )


class TlsServer(TlsConnection):
    """The side that accepts.

    Args:
        door: of the port.
        above: makes the protocol above TLS.
        plain: makes the protocol in place of TLS.
    """

    def __init__(self, door: TlsDoor, above: Factory, plain: Factory) -> None:
        super().__init__(above)
        self._door = door
        self._plain = plain
        self._peer: object = None
        self._began = False
        self._counted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody connected."""
        super().connection_made(transport)
        self._peer = transport.get_extra_info("peername")
        error = self._door.handshakes.enter(self._peer)
        if error is None:
            self._counted = True
            return
        self._door.handshakes.turned_away(self._peer, error)
        self._stop_timer()
        assert self._wire is not None
        self._wire.abort()

    def data_received(self, data: bytes) -> None:
        """Bytes came; the first one tells whether they are TLS."""
        if not self._counted and self._inner is None:
            return
        if not self._began:
            self._began = True
            if data[0] != HELLO_BYTE:
                self._hand_over(data)
                return
            context = self._door.context()
            self.engine = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        super().data_received(data)

    def _shaken(self) -> None:
        self._leave()

    def _not_shaken(self, error: Exception) -> None:
        if self._counted:
            if self._began or isinstance(self._error, Unavailable):
                self._door.failed(self._peer, "tls", _reason(error))
            self._leave()

    def _hand_over(self, data: bytes) -> None:
        """These bytes, and all that come, to a protocol that knows no TLS."""
        self._stop_timer()
        self._leave()
        wire, self._wire = self._wire, None
        assert wire is not None
        protocol = self._plain()
        wire.pause_reading()
        wire.set_protocol(protocol)
        wire.resume_reading()
        protocol.connection_made(wire)
        if not isinstance(protocol, asyncio.BufferedProtocol):
            cast("asyncio.Protocol", protocol).data_received(data)
            return
        rest = memoryview(data)
        while rest and not wire.is_closing():
            room = memoryview(protocol.get_buffer(-1)).cast("B")
            size = min(len(room), len(rest))
            room[:size] = rest[:size]
            rest = rest[size:]
            protocol.buffer_updated(size)

    def _leave(self) -> None:
        if self._counted:
            self._counted = False
            self._door.handshakes.leave(self._peer)


class PlainRefusal(asyncio.Protocol):
    """Tells somebody who speaks in plain that this port does not.

    Args:
        door: of the port.
        answer: what to say.
    """

    def __init__(self, door: TlsDoor, answer: bytes) -> None:
        self._door = door
        self._answer = answer
        self._wire: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Answer."""
        self._wire = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        peer = self._wire.get_extra_info("peername")
        self._door.failed(peer, "plain", "it is not encrypted")
        self._wire.write(self._answer)
        self._door.leaving.add(self._wire)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        """It is gone."""
        if self._wire is not None:
            self._door.leaving.remove(self._wire)


class TlsNetwork:
    """A `common.transport.Network` whose connections are encrypted.

    Args:
        network: the one below.
        context: what a new connection to others is made with.
        door: of what is listened on here.
        plain: makes, of the factory of a port, that of its connections without TLS.
    """

    def __init__(
        self,
        network: Network,
        context: Callable[[], ssl.SSLContext],
        door: TlsDoor | None = None,
        plain: Callable[[Factory], Factory] = lambda factory: factory,
    ) -> None:
        self._network = network
        self._context = context
        self._door = door
        self._plain = plain

    async def connect(
        self, factory: Callable[[], P], host: str, port: int, *, timeout_ms: int
    ) -> tuple[asyncio.Transport, P]:
        """See `common.transport.Network.connect`; here the factory waits for the handshake.

        Raises:
            Unavailable: as there, or there is no TLS.
            NotAuthorised: one side does not accept the other's certificate.
        """
        client = TlsClient(factory, self._context(), host)
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                await self._network.connect(lambda: client, host, port, timeout_ms=timeout_ms)
                transport, protocol = await client.done()
        except ssl.SSLError as error:
            raise tls_error(error, address(host, port)) from error
        except BaseException as error:
            client.abort()
            if isinstance(error, TimeoutError):
                raise Unavailable(
                    f"cannot connect to {address(host, port)}: no answer within {timeout_ms} ms"
                ) from error
            raise
        return transport, cast("P", protocol)

    async def listen(
        self,
        factory: Factory,
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
        assert self._door is not None
        wrapped = self._door.factory(factory, self._plain(factory))
        return await self._network.listen(
            wrapped,
            host,
            port,
            backlog=backlog,
            reuse_port=reuse_port,
            shortcut=shortcut,
            eager=eager,
            flag=flag,
        )


def node_network(
    network: Network,
    certificates: Certificates | None,
    door: TlsDoor | None = None,
    plain: Callable[[Factory], Factory] = lambda factory: factory,
) -> Network:
    """The network between nodes: encrypted if there are certificates.

    Args:
        network: the one below.
        certificates: of this process.
        door: of what is listened on here; None: nothing is.
        plain: see `TlsNetwork`.
    """
    if certificates is None:
        return network
    return TlsNetwork(network, lambda: certificates.now.client, door, plain)


def unencrypted() -> NotAuthorised:
    """What somebody is told who speaks in plain where only TLS is spoken."""
    return NotAuthorised(
        "connections to this port are encrypted", hint="give --tls-cert, --tls-key and --tls-ca"
    )


def tls_error(error: ssl.SSLError, where: str) -> PutterError:
    """What a failed handshake of ours means.

    Args:
        error: what the library says.
        where: whom we connected to.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return NotAuthorised(
            f"the certificate of {where} is not accepted: {error.verify_message}",
            hint="it has to be valid, for that name, and of an authority in the file of --tls-ca",
        )
    said = (error.reason or str(error)).lower().replace("_", " ")
    if "alert" in said and "internal" not in said:
        return NotAuthorised(
            f"{where} does not accept this side's certificate: {said}",
            hint="it wants one of its authority: --tls-cert, --tls-key",
        )
    return Unavailable(f"{where} does not speak TLS as it should: {said}")


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).lower().replace("_", " ")
    return str(error)
