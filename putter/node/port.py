"""The door on 5000: tells raw frames from sessions by their first eight bytes.

With certificates sessions are encrypted. Raw frames never are, and are then taken from this machine
only; `common.tls_ports` looks at the first byte.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol, cast

from common.callers import CallerLimits, Served, address_of, is_loopback
from common.errors import (
    IdleTimeout,
    NotAdmitted,
    NotAuthorised,
    ProtocolError,
    PutterError,
    TooManyConnections,
)
from common.limits import HANDSHAKE_TIMEOUT_MS, STALL_TIMEOUT_MS
from common.logs import Repeats, get_logger
from common.metrics import Metrics
from common.stalls import StallWatch
from common.tickets import FIELD_BYTES
from common.tls_ports import HELLO_BYTE, unencrypted
from common.transport import channel_of
from common.wire.greeting import ServerGreeting, refusal_of
from common.wire.handshake import CHALLENGE_BYTES, Peer
from common.wire.session import GREETING, GREETING_STEM
from putter.node.acks import AckAddress, AckLink
from putter.node.raw import RawConnection
from putter.node.services import Services
from putter.node.session import SessionConnection

_log = get_logger(__name__)
_SCRATCH_BYTES: Final = 4096


class _Handler(Protocol):
    """What a connection turned out to be."""

    def get_buffer(self) -> memoryview: ...
    def buffer_updated(self, size: int) -> None: ...
    def eof_received(self) -> bool: ...
    def connection_lost(self) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...
    def stop(self) -> None: ...
    @property
    def pending_bytes(self) -> int: ...


class Connections(Served["PutterConnection"]):
    """The open connections of the port.

    Args:
        metrics: where they are counted.
        limits: how many are served at a time.
        encrypted: whether sessions have to be.
    """

    def __init__(self, metrics: Metrics, limits: CallerLimits, *, encrypted: bool = False) -> None:
        super().__init__("putter", metrics, limits)
        self.encrypted: Final = encrypted
        self.repeats: Final = Repeats()


class PutterConnection(asyncio.BufferedProtocol):
    """One accepted connection on 5000.

    Args:
        services: what the node shares.
        connections: where it registers.
        idle_ms: silence after which a connection without pending bytes is closed; sessions live
            on, TCP keep-alive watches them.
    """

    def __init__(self, services: Services, connections: Connections, idle_ms: int) -> None:
        self._services = services
        self._connections = connections
        self._idle_ms = idle_ms
        self._scratch = bytearray(_SCRATCH_BYTES)
        self._first = b""
        self._greeting: ServerGreeting | None = None
        self._handler: _Handler | None = None
        self._session: SessionConnection | None = None
        self._raw: RawConnection | None = None
        self._ack_link: AckLink | None = None
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._stall: StallWatch | None = None
        self._heard = False
        self._peer: object = None
        self._too_many: TooManyConnections | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody connected."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self._peer = self._transport.get_extra_info("peername")
        self._too_many = self._connections.enter(self, self._peer)
        if self._too_many is not None:
            self._connections.leaving.add(self._transport, ends=False)
            return
        self._arm(self._idle_ms)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        """Where the next bytes go."""
        if self._handler is not None:
            return self._handler.get_buffer()
        return memoryview(self._scratch)

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes came."""
        self._heard = True
        if self._too_many is not None:
            self._turn_away(bytes(self._scratch[:nbytes]), self._too_many)
            return
        try:
            if self._handler is not None:
                self._handler.buffer_updated(nbytes)
            else:
                self._begin(bytes(self._scratch[:nbytes]))
        except PutterError as error:
            self._refuse(error)

    def eof_received(self) -> bool:
        """The other side is done sending."""
        if self._too_many is not None:
            return False
        if self._first and self._greeting is None and self._handler is None:
            try:
                self._become_raw()
            except PutterError as error:
                self._refuse(error)
        return self._handler.eof_received() if self._handler is not None else False

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._connections.leave(self, self._peer)
        if self._transport is not None:
            self._connections.leaving.remove(self._transport)
        self._stop_watch()
        if self._timer is not None:
            self._timer.cancel()
        if self._handler is not None:
            self._handler.connection_lost()
        if self._ack_link is not None:
            self._services.acks.leave(self._ack_link)
        if exc is not None:
            _log.info(
                "a connection on the putter port broke", peer=self._peername(), reason=str(exc)
            )

    def pause_writing(self) -> None:
        """The other side does not read."""
        if self._transport is not None:
            self._stall = StallWatch(self._transport, STALL_TIMEOUT_MS, self._stalled)
        if self._handler is not None:
            self._handler.pause_writing()

    def resume_writing(self) -> None:
        """It reads again."""
        self._stop_watch()
        if self._handler is not None:
            self._handler.resume_writing()

    @property
    def pending_bytes(self) -> int:
        """Bytes received and not yet acked."""
        return self._handler.pending_bytes if self._handler is not None else 0

    def stop(self) -> None:
        """The node is stopping."""
        if self._handler is not None:
            self._handler.stop()
        else:
            self.close()

    def turn_away(self, error: PutterError) -> None:
        """The node may not serve any more."""
        if self._transport is not None and not self._transport.is_closing():
            self._refuse(error)

    def close(self) -> None:
        """End the connection after what is queued was sent."""
        if self._transport is not None:
            self._transport.close()

    # -- inside ----------------------------------------------------------------------------

    def _begin(self, data: bytes) -> None:
        if self._greeting is not None:
            self._greet(data)
            return
        self._first += data
        if self._first.startswith(GREETING_STEM[: len(self._first)]):
            if len(self._first) < len(GREETING):
                return
            services = self._services
            challenge = services.rng.randbytes(CHALLENGE_BYTES)
            self._greeting = ServerGreeting(
                services.keyring, services.identity, challenge, services.admission.check
            )
            assert self._transport is not None
            self._greeting.bind(channel_of(self._transport))
            self._arm(min(self._idle_ms, HANDSHAKE_TIMEOUT_MS))
            if self._connections.encrypted and not self._is_encrypted:
                raise unencrypted()
            self._greet(self._first)
            return
        self._become_raw()

    def _greet(self, data: bytes) -> None:
        assert self._greeting is not None
        assert self._transport is not None
        answer = self._greeting.receive(data)
        peer = self._greeting.peer
        if peer is not None:
            self._become_session(peer)
        self._transport.write(answer)

    def _turn_away(self, data: bytes, error: TooManyConnections) -> None:
        """Tell one that is too many so, once its first bytes say in which form."""
        assert self._transport is not None
        if len(self._first) >= len(GREETING):
            return
        self._first += data
        if len(self._first) < len(GREETING):
            return
        if self._first.startswith(GREETING_STEM):
            self._transport.write(refusal_of(error))
        else:
            self._transport.write(self._first[:FIELD_BYTES] + bytes([error.status]))
        self._transport.write_eof()

    def _become_session(self, peer: Peer) -> None:
        assert self._transport is not None
        services = self._services
        hello = peer.hello
        if hello.ack_port:
            host = hello.ack_host or self._peer_host()
            self._ack_link = services.acks.open(AckAddress(hello.instance, host, hello.ack_port))
        self._session = SessionConnection(self._transport, peer, services, self._ack_link)
        self._handler = self._session
        self._disarm()
        _log.info("session", client=hello.role, node=hello.node, frame_bytes=peer.frame_bytes)

    def _become_raw(self) -> None:
        assert self._transport is not None
        services = self._services
        refusal = services.admission.refusal
        if refusal is not None:
            raise refusal
        self._check_raw()
        raw = RawConnection(
            self._transport,
            services.committer,
            services.keyring,
            services.pool,
            services.budget,
            services.metrics,
        )
        self._handler = self._raw = raw
        self._arm(self._idle_ms)
        view = memoryview(self._first)
        while view:
            buffer = raw.get_buffer()
            size = min(len(buffer), len(view))
            buffer[:size] = view[:size]
            view = view[size:]
            raw.buffer_updated(size)
        self._first = b"?"

    @property
    def _is_encrypted(self) -> bool:
        assert self._transport is not None
        return self._transport.get_extra_info("ssl_object") is not None

    def _check_raw(self) -> None:
        """Whether raw frames are taken here.

        Raises:
            ProtocolError: it is TLS, but none of a session.
            NotAuthorised: sessions are encrypted here, and this comes from another machine.
        """
        if self._is_encrypted:
            raise ProtocolError("raw frames are not taken over TLS, only sessions")
        if self._first[0] == HELLO_BYTE:
            raise ProtocolError("this port does not speak TLS (--tls-cert)")
        if self._connections.encrypted and not is_loopback(address_of(self._peer)):
            if len(self._first) >= FIELD_BYTES:
                ack = self._first[:FIELD_BYTES] + bytes([NotAuthorised.status])
                cast("asyncio.Transport", self._transport).write(ack)
            raise NotAuthorised("raw frames of other machines are not taken beside TLS")

    def _refuse(self, error: PutterError) -> None:
        self._log_refusal(error)
        self._services.metrics.refused.labels("putter", error.code).inc()
        assert self._transport is not None
        if self._session is not None:
            self._session.refuse(error)
        elif self._greeting is not None:
            self._transport.write(self._greeting.refusal(error))
        self._transport.close()

    def _log_refusal(self, error: PutterError) -> None:
        """What comes again and again is told of once a minute."""
        said = "refused a connection on the putter port"
        if not isinstance(error, NotAuthorised | NotAdmitted):
            _log.warning(said, peer=self._peername(), reason=str(error))
            return
        now_s = asyncio.get_running_loop().time()
        more = self._connections.repeats.due(address_of(self._peer), now_s)
        if more is not None:
            _log.warning(said, peer=self._peername(), reason=str(error), **more)

    def _arm(self, delay_ms: int) -> None:
        self._disarm()
        self._heard = False
        self._timer = asyncio.get_running_loop().call_later(
            delay_ms / 1000, self._check_idle, delay_ms
        )

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check_idle(self, delay_ms: int) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if (self._heard and self._greeting is None) or self.pending_bytes:
            self._arm(delay_ms)
            return
        self._services.metrics.refused.labels("putter", IdleTimeout.code).inc()
        _log.info("closed a silent connection on the putter port", peer=self._peername())
        if self._greeting is not None:
            error = IdleTimeout(f"no whole greeting within {delay_ms} ms")
            self._transport.write(self._greeting.refusal(error))
        elif self._raw is not None:
            self._raw.give_up()
        self._transport.close()

    def _stalled(self) -> None:
        self._services.metrics.refused.labels("putter", "stalled").inc()
        _log.warning(
            "a client of the putter port takes nothing of what it is sent",
            peer=self._peername(),
            for_ms=STALL_TIMEOUT_MS,
        )
        if self._transport is not None:
            self._transport.abort()

    def _stop_watch(self) -> None:
        if self._stall is not None:
            self._stall.stop()
            self._stall = None

    def _peername(self) -> str:
        name = self._transport.get_extra_info("peername") if self._transport else None
        return f"{name[0]}:{name[1]}" if name else "?"

    def _peer_host(self) -> str:
        name = self._transport.get_extra_info("peername") if self._transport else None
        return str(name[0]) if name else "127.0.0.1"
