"""A listening web application: aiohttp's, with bounds of our own on its connections.

aiohttp serves the requests. What `WebConnection` adds:

* one connection too many is told so and closed; but a few more may ask once for the health of this
  process: a supervisor must not take a busy one for a dead one;
* a request that cannot be understood gets one line in the log and an answer as JSON;
* the head of a request has a time to arrive in; without one, a connection closes when it was idle
  for a while;
* a client that takes nothing of a long answer for a while is left, without the rest of it;
* a client that ends its side after the request, as ``nc -N`` does, gets its answer. If it ends
  in the middle of the request, it is told so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, cast

from aiohttp import web

from common.callers import CallerLimits
from common.certificates import Certificates
from common.errors import (
    ClientGone,
    IdleTimeout,
    ProtocolError,
    PutterError,
)
from common.limits import (
    LINGER_MS,
    STALL_TIMEOUT_MS,
    WEB_HEAD_TIMEOUT_MS,
    WEB_IDLE_TIMEOUT_MS,
    WEB_LINE_BYTES_MAX,
    WEB_PROBE_TIMEOUT_MS,
)
from common.logs import get_logger
from common.metrics import Metrics
from common.requests import REQUEST_ID_HEADER, bind_request
from common.stalls import StallWatch
from common.tls_ports import HELLO_BYTE, TlsDoor
from common.transport import bind_error
from common.web import HEALTH_PATHS, bare_answer, error_response, speak_tls
from common.web_connections import Connections

_log = get_logger(__name__)
_STOP_S: Final = 5.0
_BACKLOG: Final = 1024
_REASON_CHARS_MAX: Final = 200
_TLS_HELLO: Final = bytes([HELLO_BYTE])


class WebPort:
    """A listening web application.

    Args:
        application: what answers.
        metrics: counts connections.
        limits: connections beyond are turned away with a 503.
        connect: makes the protocol of a connection; a `WebConnection` if None.
        certificates: connections are encrypted with; None: they are not.
        name: of the port, in metrics.
    """

    def __init__(
        self,
        application: web.Application,
        metrics: Metrics,
        limits: CallerLimits,
        connect: Connect | None = None,
        certificates: Certificates | None = None,
        name: str = "web",
    ) -> None:
        self._connect = connect or WebConnection
        self._tls: TlsDoor | None = None
        if certificates is not None:
            self._tls = TlsDoor(name, lambda: certificates.now.web, metrics, limits)
            metrics.tls_expires_seconds.set_function(lambda: certificates.now.expires_s)
        self._runner = web.AppRunner(
            application, access_log=None, handler_cancellation=True, shutdown_timeout=_STOP_S
        )
        self._connections = Connections(metrics, limits, name)
        self._listener: asyncio.Server | None = None
        self.port = 0

    async def start(self, host: str, port: int, flag: str, *, reuse_port: bool = False) -> None:
        """Listen.

        Args:
            host: address to listen on.
            port: 0 means any free one.
            flag: the setting that an error's hint names.
            reuse_port: share the port with other processes that ask for the same.

        Raises:
            Unavailable: the port is taken, forbidden, or not an address of this machine.
        """
        await self._runner.setup()
        server = self._runner.server
        assert server is not None
        loop = asyncio.get_running_loop()

        def factory() -> asyncio.BaseProtocol:
            return self._connect(server, self._connections, loop)

        if self._tls is not None:
            factory = self._tls.factory(factory, self._tls.refusal(speak_tls))
        try:
            self._listener = await loop.create_server(
                factory,
                host,
                port,
                backlog=_BACKLOG,
                reuse_port=reuse_port or None,
            )
        except OSError as error:
            await self._runner.cleanup()
            raise bind_error(error, host, port, flag) from error
        self.port = self._listener.sockets[0].getsockname()[1]

    async def close_listener(self) -> None:
        """Accept nothing new; requests under way go on."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def stop(self) -> None:
        """Wait for requests under way, then close."""
        await self.close_listener()
        await self._runner.cleanup()
        self._connections.abort_leaving()
        if self._tls is not None:
            self._tls.leaving.abort()


class WebConnection(web.RequestHandler):
    """One connection.

    Args:
        server: aiohttp's, which knows the application.
        connections: all of the port.
        loop: the running one.
    """

    def __init__(
        self, server: web.Server, connections: Connections, loop: asyncio.AbstractEventLoop
    ) -> None:
        super().__init__(
            server,
            loop=loop,
            max_line_size=WEB_LINE_BYTES_MAX,
            max_field_size=WEB_LINE_BYTES_MAX,
            auto_decompress=False,
            keepalive_timeout=WEB_IDLE_TIMEOUT_MS / 1000,
            access_log=cast("Any", None),
        )
        self._connections = connections
        self._answered = 0
        self._body: Any = None
        self._client_ended = False
        self._malformed = False
        self._leaving = False
        self._timer: asyncio.TimerHandle | None = None
        self._stall: StallWatch | None = None

    # -- what the transport tells ----------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody connected."""
        refusal = self._connections.opened(self, transport.get_extra_info("peername"))
        if refusal is None:
            super().connection_made(transport)
            if self._connections.is_probe(self):
                self._await_head(WEB_PROBE_TIMEOUT_MS)
            return
        wire = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        wire.write(self._bare(refusal))
        self._leave(wire)

    def data_received(self, data: bytes) -> None:
        """Bytes came. aiohttp calls this too, with none, to go on parsing."""
        if self._leaving:
            return
        between = self._is_between_requests
        if between and self._timer is None and data[:1] == _TLS_HELLO and self.transport:
            self._log_malformed("TLS, which this port does not speak")
            self._dismiss(ProtocolError("this port does not speak TLS", hint="use http://"))
            return
        super().data_received(data)
        if self._messages and self._messages[-1][1] is not self._body:
            self._break_off("it breaks the rules")  # else it would have ended before
            self._body = self._messages[-1][1]
        if self._answered != self._request_count:
            self._stop_timer()
        elif data and between and self._timer is None:
            self._await_head(WEB_HEAD_TIMEOUT_MS)

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client has said all; may come again when reading is resumed.

        Returns:
            Whether there is something to answer: then the connection ends after that.
        """
        if self._leaving:
            return False
        self._client_ended = True
        if self._answered == self._request_count:
            if self._timer is not None and self.transport is not None:
                self._connections.refuse(ClientGone.code)
                self.transport.write(self._bare(ClientGone("the request ends in its head")))
            return False
        self._break_off("the client ended it early")
        return True

    def connection_lost(self, exc: BaseException | None) -> None:
        """It is gone."""
        self._stop_timer()
        self._stop_watch()
        self._connections.closed(self)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client does not take its answer as fast as it is made."""
        super().pause_writing()
        if self.transport is not None:
            self._stall = StallWatch(self.transport, STALL_TIMEOUT_MS, self._stalled)

    def resume_writing(self) -> None:
        """It does again."""
        self._stop_watch()
        super().resume_writing()

    def check(self, path: str) -> None:
        """Let a request in.

        Raises:
            TooManyConnections: this connection is beyond the limit, and may ask for nothing but
                health.
        """
        if path not in HEALTH_PATHS:
            self._connections.check(self, self.peername)

    # -- what aiohttp tells ----------------------------------------------------------------

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send the rest of an answer."""
        if self._connections.is_probe(self):
            resp.force_close()
        sent = await super().finish_response(request, resp, start_time)
        self._answered += 1
        if self._client_ended:
            if self._answered == self._request_count:
                self.close()
        elif self._malformed and self.transport is not None:
            wire, self.transport = self.transport, None
            self._leave(wire)
        return sent

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what is no request; what went wrong in our code is aiohttp's business."""
        if status != ProtocolError.http:
            return super().handle_error(request, status, exc, message)
        self._malformed = True
        request_id = bind_request()  # what it brought cannot be trusted to be one
        reason = _one_line(message or str(exc))
        self._log_malformed(reason)
        error = ProtocolError(f"this is no HTTP request: {reason}")
        response = self._told(error)
        response.headers[REQUEST_ID_HEADER] = request_id
        response.force_close()
        return response

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """A body that broke off or breaks the rules is the client's mistake, and needs no trace."""
        error = kw.get("exc_info")
        if isinstance(error, web.RequestPayloadError):
            self._log_malformed(_one_line(str(error)))
            return
        super().log_exception(*args, **kw)

    def _process_keepalive(self) -> None:
        """A connection that asked for nothing in the last while ends."""
        super()._process_keepalive()
        if self._force_close:
            self._connections.refuse("quiet")
            _log.debug("closed a web connection without requests", peer=str(self.peername))

    # -- what a door may say in its own words -----------------------------------------------

    def _bare(self, error: PutterError) -> bytes:
        """The last answer of a connection, where there is no request to answer."""
        return bare_answer(error)

    def _told(self, error: PutterError) -> web.Response:
        """The answer to what is no request."""
        return error_response(error)

    # -- inside ----------------------------------------------------------------------------

    @property
    def _is_between_requests(self) -> bool:
        """Whether the next byte belongs to the head of a request."""
        whole = self._body is None or self._body.is_eof()
        return whole and self._answered == self._request_count

    def _break_off(self, reason: str) -> None:
        """Whoever reads the last body learns that it will not come to its end."""
        if self._body is not None and not self._body.is_eof():
            self._body.set_exception(web.RequestPayloadError(reason))
            self._body.feed_eof()

    def _await_head(self, timeout_ms: int) -> None:
        self._timer = self._loop.call_later(timeout_ms / 1000, self._head_too_slow, timeout_ms)

    def _head_too_slow(self, timeout_ms: int) -> None:
        self._timer = None
        if self.transport is not None:
            self._connections.refuse(IdleTimeout.code)
            self._dismiss(IdleTimeout(f"no whole request head within {timeout_ms} ms"))

    def _dismiss(self, error: PutterError) -> None:
        """Answer without a request, and look at nothing more."""
        wire, self.transport = self.transport, None
        if wire is not None:
            self.close()
            wire.write(self._bare(error))
            self._leave(wire)

    def _leave(self, wire: asyncio.Transport) -> None:
        """End our side, and the connection once the client has ended its own, or soon.

        Closing at once would reset a connection with bytes that nobody read, and the reset may
        overtake the answer.
        """
        self._leaving = True
        self._stop_timer()
        if not self._connections.leaves(self, wire):
            wire.close()
            return
        if wire.can_write_eof():
            wire.write_eof()
        self._timer = self._loop.call_later(LINGER_MS / 1000, wire.abort)

    def _stalled(self) -> None:
        wire = self.transport
        if wire is None:
            return
        self._connections.refuse("stalled")
        _log.warning(
            "a web client takes nothing of its answer",
            peer=str(self.peername),
            for_ms=STALL_TIMEOUT_MS,
            unsent_bytes=wire.get_write_buffer_size(),
        )
        wire.abort()

    def _stop_watch(self) -> None:
        if self._stall is not None:
            self._stall.stop()
            self._stall = None

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _log_malformed(self, reason: str) -> None:
        self._connections.refuse(ProtocolError.code)
        _log.warning("a malformed web request", peer=str(self.peername), reason=reason)


Connect = Callable[[web.Server, Connections, asyncio.AbstractEventLoop], WebConnection]


def _one_line(text: str) -> str:
    return " ".join(text.split())[:_REASON_CHARS_MAX]
