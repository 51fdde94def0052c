"""A short way for the plainest requests of a web port, beside aiohttp's.

aiohttp takes some 100 µs of processor for a request. A `Lane` answers those that leave nothing to
interpretation: one GET, whole in one receive, on a connection that is idle, with headers from a
short list. `LaneConnection` hands everything else to aiohttp, byte for byte, and so may the lane do
with a request that turns out not to be plain, as long as it has sent nothing.

```
received ── plain, whole, nothing under way? ──yes──► lane ──► answered
                    │ no                               │ not after all
                    └──────────────► aiohttp ◄─────────┘
```

What comes while the lane answers is kept until it is done, so that answers keep their order. A
connection on which aiohttp saw anything but whole heads without a body stays with aiohttp: only its
parser knows where the next request begins.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from aiohttp import web
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http import SERVER_SOFTWARE

from common.checksum import Buffer
from common.limits import KIB
from common.logs import get_logger
from common.requests import REQUEST_ID_HEADER, bind_request, current_request
from common.web_connections import Connections
from common.web_port import WebConnection

_log = get_logger(__name__)
HEAD_BYTES_MAX: Final = 2 * KIB
"""Of a plain request."""
_HELD_BYTES_MAX: Final = 64 * KIB
_END: Final = b"\r\n\r\n"
_PLAIN: Final = re.compile(
    rb"GET (/[0-9A-Za-z_~/-][0-9A-Za-z._~/-]*) HTTP/1\.1\r\n"
    rb"((?:[0-9A-Za-z-]+: *[!-~][ -~]*\r\n)+)\r\n"
)
_HOST: Final = re.compile(r"[0-9A-Za-z.:\[\]-]+")
PLAIN_HEADERS: Final[Mapping[str, str]] = {
    name.lower(): name
    for name in (
        "Accept",
        "Accept-Encoding",
        "Accept-Language",
        "Authorization",
        "Cache-Control",
        "Connection",
        "Host",
        "If-Match",
        "If-Modified-Since",
        "If-None-Match",
        "If-Range",
        "If-Unmodified-Since",
        "Pragma",
        "Range",
        "User-Agent",
        REQUEST_ID_HEADER,
    )
}
"""What a plain request may have, by names in lower case: nothing that changes how it is read."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A plain GET.

    Attributes:
        path: as in the request line; nothing in it needs decoding, and it has no query.
        headers: by their usual names, each once.
    """

    path: str
    headers: Mapping[str, str]


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
    """Answers plain requests."""

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


def plain(data: bytes, names: Mapping[str, str] = PLAIN_HEADERS) -> Ask | None:
    """The request that these bytes are, if they are exactly one and a plain one.

    Args:
        data: as received.
        names: of the headers that it may have, by their names in lower case.
    """
    if len(data) > HEAD_BYTES_MAX:
        return None
    match = _PLAIN.fullmatch(data)
    if match is None:
        return None
    path = match[1].decode()
    if "/." in path:
        return None
    headers: dict[str, str] = {}
    for line in match[2].decode().split("\r\n")[:-1]:
        word, _, value = line.partition(":")
        name = names.get(word.lower())
        if name is None or name in headers:
            return None
        headers[name] = value.strip(" ")
    if headers.get("Connection", "keep-alive").lower() != "keep-alive":
        return None
    if not _HOST.fullmatch(headers.get("Host", "")):
        return None
    return Ask(path, headers)


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
        names: of the headers that a plain request may have, by their names in lower case.
    """

    def __init__(
        self,
        server: web.Server,
        connections: Connections,
        loop: asyncio.AbstractEventLoop,
        lane: Lane,
        names: Mapping[str, str] = PLAIN_HEADERS,
    ) -> None:
        super().__init__(server, connections, loop)
        self._lane = lane
        self._names = names
        self._at_head = True
        self._task: asyncio.Task[None] | None = None
        self._held = bytearray()
        self._held_back = False
        self._end_held = False

    # -- what the transport tells ----------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        if self._task is not None:
            self._hold(data)
            return
        if data and self._at_head and self._is_idle:
            ask = plain(data, self._names)
            if ask is not None and self._lane.takes(ask.path):
                self._task = self._loop.create_task(self._answer(ask, data))
                return
        self._pass_on(data)

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client has said all."""
        if self._task is not None:
            self._end_held = True
            return True
        return super().eof_received()

    def connection_lost(self, exc: BaseException | None) -> None:
        """It is gone."""
        if self._task is not None:
            self._task.cancel()
        super().connection_lost(exc)

    # -- what aiohttp tells ----------------------------------------------------------------

    async def shutdown(self, timeout: float | None = 15.0) -> None:
        """Let an answer come to its end, then close."""
        task = self._task
        if task is not None:
            self._close = True
            await asyncio.wait([task], timeout=timeout)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await super().shutdown(timeout)

    def _process_keepalive(self) -> None:
        if self._task is None:
            super()._process_keepalive()
        else:
            self._keepalive_handle = None  # `_answered_one` sets it anew

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

    def _pass_on(self, data: bytes) -> None:
        """To aiohttp; looks whether its parser will stand at the head of a request behind it."""
        asked = self._request_count
        super().data_received(data)
        if data and self._at_head:
            self._at_head = (
                self._request_count == asked + 1
                and not self._upgraded
                and data.find(_END) == len(data) - len(_END)
                and data.count(b"\n") == data.count(b"\r\n")
                and (not self._messages or self._messages[-1][1].is_eof())
            )

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
