"""A short way for the plainest requests of a web port, beside aiohttp's.

aiohttp takes some 100 µs of processor for a request. A `Lane` answers those that leave nothing to
interpretation (`common.plain`), on a connection that is idle: one GET, whole in one receive; at
ports that want it one PUT, of which the rest of a short body may come a moment behind the head.
`LaneConnection` hands everything else to aiohttp, byte for byte, and so may the lane do with a
request that turns out not to be plain, as long as it has changed and sent nothing.

```
received ── plain, whole, nothing under way? ──yes──► lane ──► answered
                    │ no                               │ not after all
                    └──────────────► aiohttp ◄─────────┘
```

What comes while the lane answers is kept until it is done, so that answers keep their order. The
bytes that aiohttp gets are counted: a connection on which it is not clear any more where the next
request begins (several came at once, or a head in pieces, or a body in chunks) stays with aiohttp,
whose parser knows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from aiohttp import web
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http import SERVER_SOFTWARE

from common.checksum import Buffer
from common.limits import KIB
from common.logs import get_logger
from common.plain import PLAIN_HEADERS, Ask, Begun, Puts, plain, plain_begin, request_bytes
from common.requests import REQUEST_ID_HEADER, bind_request, current_request
from common.web_connections import Connections
from common.web_port import WebConnection

_log = get_logger(__name__)
_HELD_BYTES_MAX: Final = 64 * KIB
_GATHER_S: Final = 0.1
"""For the rest of a body: many clients send it right behind the head, in a packet of its own."""


class Outlet(Protocol):
    """Where an answer goes."""

    def send(self, parts: Sequence[Buffer]) -> None:
        """Send bytes; they must stay as they are while somebody else holds a view of them."""
        ...

    async def drain(self) -> None:
        """Wait until the send queue is short.

        Raises:
            ConnectionError: the client is gone.
        """
        ...

    def abort(self) -> None:
        """Cut the connection, so that the client sees that the answer is not complete."""
        ...


class Lane(Protocol):
    """Answers plain requests: GETs, and PUTs where the connection takes those."""

    def takes(self, path: str) -> bool:
        """Whether requests for a path may go this way."""
        ...

    async def answer(self, ask: Ask, out: Outlet) -> bool:
        """Answer a request.

        Returns:
            False if nothing was sent and aiohttp shall answer.

        Raises:
            ConnectionError: the client is gone, or was cut off.
        """
        ...


def head(
    status: int, reason: str, headers: Mapping[str, str], id_header: str = REQUEST_ID_HEADER
) -> bytes:
    """Status line and headers of an answer, as aiohttp writes them; the request's id is added.

    Args:
        status: of the answer.
        reason: its phrase.
        headers: of the answer.
        id_header: the name under which the request's id is told.

    Raises:
        ValueError: a header that cannot be sent.
    """
    lines = [f"HTTP/1.1 {status} {reason}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    text = "\r\n".join(lines)
    if text.count("\n") != len(headers) or text.count("\r") != len(headers) or "\0" in text:
        raise ValueError("a header with a line break in it")
    return (
        f"{text}\r\nDate: {rfc822_formatted_time()}\r\nServer: {SERVER_SOFTWARE}\r\n"
        f"{id_header}: {current_request()}\r\n\r\n"
    ).encode()


class LaneConnection(WebConnection):
    """One connection whose plain requests go to a lane.

    Args:
        server: aiohttp's, which knows the application.
        connections: all of the port.
        loop: the running one.
        lane: the short way.
        names: of the headers that a plain GET may have, by their names in lower case.
        puts: which PUTs are plain; None: none.
    """

    def __init__(
        self,
        server: web.Server,
        connections: Connections,
        loop: asyncio.AbstractEventLoop,
        lane: Lane,
        names: Mapping[str, str] = PLAIN_HEADERS,
        puts: Puts | None = None,
    ) -> None:
        super().__init__(server, connections, loop)
        self._lane = lane
        self._names = names
        self._puts = puts
        self._rest_bytes: int | None = 0
        self._begun: Begun | None = None
        self._part = bytearray()
        self._part_timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._held = bytearray()
        self._held_back = False
        self._end_held = False

    # -- what the transport tells ----------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        if self._task is not None:
            self._hold(data)
        elif self._begun is not None:
            self._part += data
            self._look_at_part(self._begun)
        elif not (data and self._rest_bytes == 0 and self._is_idle and self._take(data)):
            self._pass_on(data)

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client has said all."""
        if self._task is not None:
            self._end_held = True
            return True
        self._pass_on_part()
        return super().eof_received()

    def connection_lost(self, exc: BaseException | None) -> None:
        """It is gone."""
        self._drop_part()
        if self._task is not None:
            self._task.cancel()
        super().connection_lost(exc)

    # -- what aiohttp tells ----------------------------------------------------------------

    async def shutdown(self, timeout: float | None = 15.0) -> None:
        """Let an answer come to its end, then close."""
        self._pass_on_part()
        task = self._task
        if task is not None:
            self._close = True
            await asyncio.wait([task], timeout=timeout)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await super().shutdown(timeout)

    def _process_keepalive(self) -> None:
        if self._task is None and self._begun is None:
            super()._process_keepalive()
        else:
            self._keepalive_handle = None  # `_answered_one` sets it anew, or aiohttp does

    # -- what the lane tells ---------------------------------------------------------------

    def send(self, parts: Sequence[Buffer]) -> None:
        """Send bytes."""
        if self.transport is not None:
            self.transport.writelines(parts)

    async def drain(self) -> None:
        """Wait until the send queue is short."""
        await self._drain_helper()

    def abort(self) -> None:
        """Cut the connection."""
        if self.transport is not None:
            self.transport.abort()

    # -- inside ----------------------------------------------------------------------------

    @property
    def _is_idle(self) -> bool:
        """Whether aiohttp waits for a request, has none of it yet, and may still answer."""
        waiter = self._waiter
        # Before the first request its task may not have begun to wait yet.
        waits = not waiter.done() if waiter is not None else self._request_count == 0
        return (
            waits
            and not self._messages
            and not (self._close or self._force_close or self._upgraded or self._leaving)
            and not (self._paused or self._client_ended or self._malformed)
            and self._timer is None
            and self._is_between_requests
        )

    def _take(self, data: bytes) -> bool:
        """Whether a request begins here for the lane; then it is begun, or waits for its rest."""
        if data[:1] != b"P" or self._puts is None:
            ask = plain(data, self._names)
            if ask is None or not self._lane.takes(ask.path):
                return False
            self._begin(ask, data)
            return True
        begun = plain_begin(data, self._puts)
        if begun is None or not self._lane.takes(begun.ask.path):
            return False
        if len(data) == begun.whole_bytes:
            self._begin(begun.whole(data), data)
        else:
            self._begun, self._part = begun, bytearray(data)
            self._part_timer = self._loop.call_later(_GATHER_S, self._pass_on_part)
        return True

    def _begin(self, ask: Ask, data: bytes) -> None:
        self._task = self._loop.create_task(self._answer(ask, data))

    def _look_at_part(self, begun: Begun) -> None:
        if len(self._part) < begun.whole_bytes:
            return
        end = begun.whole_bytes
        data, behind = bytes(self._part[:end]), bytes(self._part[end:])
        self._drop_part()
        if not behind:
            self._begin(begun.whole(data), data)
            return
        # The next request came with it. If that is none, aiohttp would not answer this one either
        # unless it gets them one by one.
        self._pass_on(data)
        self._pass_on(behind)

    def _pass_on_part(self) -> None:
        """A body that is slow, or ends early, is aiohttp's business."""
        if self._begun is not None:
            data = bytes(self._part)
            self._drop_part()
            self._pass_on(data)

    def _drop_part(self) -> None:
        self._begun, self._part = None, bytearray()
        if self._part_timer is not None:
            self._part_timer.cancel()
            self._part_timer = None

    def _pass_on(self, data: bytes) -> None:
        """To aiohttp; looks whether its parser will stand at the head of a request behind it."""
        asked = self._request_count
        super().data_received(data)
        if not data or self._rest_bytes is None:
            return
        if self._rest_bytes == 0:
            size = request_bytes(data)
            alone = self._request_count == asked + 1 and not self._upgraded
            self._rest_bytes = size if alone else None
        if self._rest_bytes is not None:
            self._rest_bytes -= len(data)
            if self._rest_bytes < 0 or (self._rest_bytes > 0 and self._has_whole_body):
                self._rest_bytes = None

    @property
    def _has_whole_body(self) -> bool:
        """Whether the last request has ended for aiohttp's parser."""
        return self._body is None or self._body.is_eof()

    def _hold(self, data: bytes) -> None:
        self._held += data
        if len(self._held) > _HELD_BYTES_MAX and not self._held_back:
            self._held_back = True
            self._pause_transport_reading()

    async def _answer(self, ask: Ask, data: bytes) -> None:
        bind_request(ask.headers.get(REQUEST_ID_HEADER))
        try:
            done = await self._lane.answer(ask, self)
            if self._paused:
                await self._drain_helper()
        except ConnectionError:
            self.abort()
            done = True
        except Exception:  # noqa: BLE001 - the connection ends, the log has the trace
            _log.exception("a request failed unexpectedly", path=ask.path)
            self.abort()
            done = True
        finally:
            self._task = None
        if self.transport is None:
            return
        if not done:
            self._pass_on(data)
        elif self._close or self._force_close:
            self.transport.close()
            return
        else:
            self._answered_one()
        self._go_on()

    def _answered_one(self) -> None:
        """The time that a connection may be idle begins."""
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        if self._keepalive_handle is None:
            self._keepalive_handle = self._loop.call_at(
                self._next_keepalive_close_time, self._process_keepalive
            )

    def _go_on(self) -> None:
        """With what came meanwhile."""
        if self._held:
            held, self._held = bytes(self._held), bytearray()
            self.data_received(held)
        if self._held_back:
            self._held_back = False
            self._resume_transport_reading()
        if self._end_held and self._task is None:
            self._end_held = False
            if not self.eof_received() and self.transport is not None:
                self.transport.close()
