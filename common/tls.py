"""TLS between a transport and a protocol: one side of a connection.

The stdlib's TLS for asyncio could not do three things that are needed here (`common.tls_ports`):
count a connection before its handshake, look at its first byte, and answer in plain those that
speak so. This one stands between any transport and any protocol, `asyncio.Protocol` or
`asyncio.BufferedProtocol`.

An end of the stream counts only if TLS says it: a connection that just breaks off is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

from common.checksum import Buffer, object_digest
from common.errors import Unavailable
from common.limits import HANDSHAKE_TIMEOUT_MS, KIB

_READ_BYTES: Final = 256 * KIB
_JOINED_BYTES_MAX: Final = 64 * KIB

Factory = Callable[[], asyncio.BaseProtocol]


class TlsContext(ssl.SSLContext):
    """A context that knows its own certificate.

    Attributes:
        digest: BLAKE3 of the certificate (DER), by which the two ends of a connection can tell that
            it ends at the other one; empty if it has none.
    """

    digest: bytes = b""


class TlsTransport(asyncio.Transport):
    """What a protocol above TLS writes to.

    Args:
        tls: the connection.
        wire: the transport below.
    """

    def __init__(self, tls: TlsConnection, wire: asyncio.Transport) -> None:
        super().__init__()
        self._tls = tls
        self._wire = wire

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """See asyncio; also ``ssl_object``, ``sslcontext``, and ``channel``: see `TlsContext`."""
        if name == "ssl_object":
            return self._tls.engine
        if name == "sslcontext":
            return self._tls.engine.context
        if name == "channel":
            return self._tls.channel
        return self._wire.get_extra_info(name, default)

    def is_closing(self) -> bool:
        """See asyncio."""
        return self._wire.is_closing()

    def close(self) -> None:
        """Say that the stream ends here, then close."""
        self._tls.say_end()
        self._wire.close()

    def abort(self) -> None:
        """Close at once."""
        self._wire.abort()

    def write(self, data: Buffer) -> None:
        """Encrypt and send."""
        self._tls.write(data)

    def writelines(self, list_of_data: Sequence[Buffer]) -> None:  # type: ignore[override]
        """Encrypt and send; short parts share a record."""
        if sum(map(len, list_of_data)) <= _JOINED_BYTES_MAX:
            self._tls.write(b"".join(list_of_data))
            return
        for part in list_of_data:
            self._tls.write(part)

    def can_write_eof(self) -> bool:
        """See asyncio."""
        return self._wire.can_write_eof()

    def write_eof(self) -> None:
        """Say that the stream ends here; what still comes is not looked at."""
        self._tls.say_end()
        self._wire.write_eof()

    def pause_reading(self) -> None:
        """See asyncio."""
        self._tls.pause_reading()

    def resume_reading(self) -> None:
        """See asyncio."""
        self._tls.resume_reading()

    def is_reading(self) -> bool:
        """See asyncio."""
        return not self._tls.paused and not self.is_closing()

    def get_write_buffer_size(self) -> int:
        """Encrypted bytes that wait to be sent."""
        return self._wire.get_write_buffer_size()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """See asyncio."""
        self._wire.set_write_buffer_limits(high, low)


class TlsConnection(asyncio.Protocol):
    """Both sides' TLS.

    Args:
        factory: makes the protocol above, once the handshake is over.
    """

    engine: ssl.SSLObject

    def __init__(self, factory: Factory) -> None:
        self._factory = factory
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._wire: asyncio.Transport | None = None
        self._above: TlsTransport | None = None
        self._inner: asyncio.BaseProtocol | None = None
        self._error: Exception | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._full = False
        self._said_end = False
        self._heard_end = False
        self._told_end = False
        self.paused = False

    # -- what the transport tells ----------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The wire is there."""
        self._wire = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(HANDSHAKE_TIMEOUT_MS / 1000, self._too_slow)

    def data_received(self, data: bytes) -> None:
        """Encrypted bytes came."""
        self._incoming.write(data)
        if self._inner is None:
            self._shake()
        else:
            self._deliver()

    def eof_received(self) -> bool:
        """The wire ends; if TLS did not say so before, something broke."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The wire is gone."""
        self._stop_timer()
        self._wire = None
        if self._inner is None:
            self._not_shaken(self._error or Unavailable(f"the connection was lost ({exc})"))
        else:
            self._inner.connection_lost(self._error or exc)

    def pause_writing(self) -> None:
        """Much waits to be sent."""
        self._full = True
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        """It was sent."""
        self._full = False
        if self._inner is not None:
            self._inner.resume_writing()

    # -- what the protocol above asks for --------------------------------------------------

    def write(self, data: Buffer) -> None:
        """Encrypt and send."""
        if self._wire is None or self._said_end or self._wire.is_closing():
            return
        view = memoryview(data).cast("B")
        while view:
            view = view[self.engine.write(view) :]
        self._flush()

    def say_end(self) -> None:
        """Tell the peer that nothing more comes; what it sends is not looked at any more."""
        if self._said_end or self._wire is None or self._wire.is_closing():
            return
        self._said_end = True
        with contextlib.suppress(ssl.SSLError):  # it has not said so itself, as a rule
            self.engine.unwrap()
        self._flush()

    def pause_reading(self) -> None:
        """Deliver nothing."""
        self.paused = True
        if self._wire is not None and not self._wire.is_closing():
            self._wire.pause_reading()

    def resume_reading(self) -> None:
        """Deliver again, beginning with what is here already."""
        if not self.paused:
            return
        self.paused = False
        if self._wire is not None and not self._wire.is_closing():
            self._wire.resume_reading()
            asyncio.get_running_loop().call_soon(self._deliver_later)

    @property
    def channel(self) -> bytes:
        """The digest of the server's certificate; empty if it is not known."""
        if not self.engine.server_side:
            shown = self.engine.getpeercert(binary_form=True)
            return object_digest(shown) if shown else b""
        context = self.engine.context
        return context.digest if isinstance(context, TlsContext) else b""

    # -- for the two sides -----------------------------------------------------------------

    def _shaken(self) -> None:
        """The handshake is over; the protocol above begins."""

    def _not_shaken(self, error: Exception) -> None:
        """There will be no protocol above."""

    def _shake(self) -> None:
        try:
            self.engine.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return
        except ssl.SSLError as error:
            self._flush()  # the alert that tells the peer why
            self._fail(error)
            return
        self._flush()
        self._stop_timer()
        assert self._wire is not None
        self._shaken()
        self._above = TlsTransport(self, self._wire)
        self._inner = self._factory()
        self._inner.connection_made(self._above)
        if self._full:
            self._inner.pause_writing()
        self._deliver()

    def _fail(self, error: Exception) -> None:
        if self._error is None:
            self._error = error
        if self._wire is not None:
            self._wire.close()

    # -- inside ----------------------------------------------------------------------------

    def _flush(self) -> None:
        if self._outgoing.pending and self._wire is not None and not self._wire.is_closing():
            self._wire.write(self._outgoing.read())

    def _deliver_later(self) -> None:
        try:
            self._deliver()
        except BaseException:
            if self._wire is not None:
                self._wire.abort()
            raise

    def _deliver(self) -> None:
        try:
            while self._wants() and self._deliver_some():
                pass
        except ssl.SSLError as error:
            self._fail(error)
            return
        self._flush()  # an answer of TLS itself
        if self._heard_end and not (self._told_end or self.paused or self._said_end):
            self._told_end = True
            assert self._inner is not None
            ends = cast("asyncio.Protocol", self._inner).eof_received()
            if not ends and self._wire is not None:
                self.say_end()
                self._wire.close()

    def _wants(self) -> bool:
        return not (
            self.paused
            or self._said_end
            or self._heard_end
            or self._wire is None
            or self._wire.is_closing()
        )

    def _deliver_some(self) -> bool:
        """Hand over a bufferful; False if there was less than that."""
        inner = self._inner
        if isinstance(inner, asyncio.BufferedProtocol):
            room = memoryview(inner.get_buffer(-1)).cast("B")
            filled = self._read_into(room)
            if filled:
                inner.buffer_updated(filled)
            return filled == len(room)
        room = memoryview(bytearray(min(_READ_BYTES, max(self._incoming.pending, KIB))))
        filled = self._read_into(room)
        if filled:
            cast("asyncio.Protocol", inner).data_received(bytes(room[:filled]))
        return filled == len(room)

    def _read_into(self, room: memoryview) -> int:
        filled = 0
        try:
            while filled < len(room):
                size = cast("int", self.engine.read(len(room) - filled, room[filled:]))
                if not size:
                    self._heard_end = True
                    break
                filled += size
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self._heard_end = True
        return filled

    def _too_slow(self) -> None:
        self._timer = None
        self._fail(Unavailable(f"no whole TLS handshake within {HANDSHAKE_TIMEOUT_MS} ms"))

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class TlsClient(TlsConnection):
    """The side that connects.

    Args:
        factory: makes the protocol above.
        context: what the server is verified with, and what is shown to it.
        server_name: told to the server, and looked for in its certificate if the context says so.
    """

    def __init__(self, factory: Factory, context: ssl.SSLContext, server_name: str | None) -> None:
        super().__init__(factory)
        self.engine = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_name)
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def done(self) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        """Wait for the end of the handshake.

        Raises:
            ssl.SSLError: it failed.
            PutterError: the connection was lost, or the server took too long.
        """
        await self._done
        assert self._above is not None
        assert self._inner is not None
        return self._above, self._inner

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The wire is there: begin."""
        super().connection_made(transport)
        self._shake()

    def abort(self) -> None:
        """Whoever waited does not any more."""
        if self._wire is not None:
            self._wire.abort()

    def _shaken(self) -> None:
        if not self._done.done():
            self._done.set_result(None)

    def _not_shaken(self, error: Exception) -> None:
        if not self._done.done():
            self._done.set_exception(error)
            self._done.exception()  # a caller that gave up does not look at it any more
