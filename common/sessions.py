"""The client's end of a session over a transport: greeting, requests, answers.

Routers use it towards putters (`router.links`), putters towards the ack port of routers, and the
command line towards a putter. All decisions about bytes are in `common.wire`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, cast

from common.buffers import BufferPool
from common.checksum import Buffer
from common.errors import NodesUnavailable, ProtocolError, PutterError, Unavailable
from common.keys import Keyring
from common.limits import CONNECT_TIMEOUT_MS, HANDSHAKE_TIMEOUT_MS
from common.transport import Network, channel_of, on_this_machine
from common.wire.greeting import ClientGreeting
from common.wire.handshake import Peer
from common.wire.inventory import Counts, DigestList, EntryList, HoldingList
from common.wire.locations import Spots
from common.wire.message import Message
from common.wire.reader import MessageReader
from common.wire.scrubbing import ScrubReply
from common.wire.session import (
    AnyMessage,
    CeilingsReply,
    Data,
    Done,
    Hello,
    RecordList,
    RecordReply,
    Refused,
    Reply,
    StatReply,
    encode,
)
from common.wire.verification import Sums

Answer = tuple[Reply, memoryview]
_REPLIES: Final = (
    Data,
    Sums,
    Spots,
    StatReply,
    RecordReply,
    RecordList,
    CeilingsReply,
    Counts,
    HoldingList,
    DigestList,
    EntryList,
    ScrubReply,
    Done,
)


class _Call:
    """A request under way and the parts of its answer so far."""

    def __init__(self, done: asyncio.Future[list[Answer]]) -> None:
        self.done = done
        self.parts: list[Answer] = []


class ClientSession(asyncio.BufferedProtocol):
    """One connection to a putter.

    Args:
        keyring: the cluster keys.
        hello: how this side introduces itself.
        pool: memory for payloads.
        on_message: gets what is no answer to a request (`RecordsDone`, `RunsDone`).
        on_lost: called once when the connection is gone after it was ready.

    Attributes:
        on_this_machine: the other side is a process of the same user here.
    """

    def __init__(
        self,
        keyring: Keyring,
        hello: Hello,
        pool: BufferPool,
        *,
        on_message: Callable[[AnyMessage, memoryview], None] | None = None,
        on_lost: Callable[[PutterError], None] | None = None,
    ) -> None:
        self.on_this_machine = False
        self._greeting = ClientGreeting(keyring, hello)
        self._scratch = bytearray(8192)
        self._reader = MessageReader(pool)
        self._on_message = on_message
        self._on_lost = on_lost
        self._calls: dict[int, _Call] = {}
        self._next_request = 1
        self._asked: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._error: PutterError | None = None
        self._closed = False
        loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[Peer] = loop.create_future()
        self._writable = asyncio.Event()
        self._writable.set()

    # -- the protocol's side ---------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say hello."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self.on_this_machine = on_this_machine(transport)
        self._greeting.bind(channel_of(transport))
        self._transport.write(self._greeting.opening)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        """Where the next bytes go."""
        if self._greeting.peer is None:
            return memoryview(self._scratch)
        return self._reader.get_buffer()

    def buffer_updated(self, nbytes: int) -> None:
        """Take what came."""
        try:
            if self._greeting.peer is None:
                self._greet(bytes(self._scratch[:nbytes]))
                return
            for message, payload in self._reader.buffer_updated(nbytes):
                self._take(message, payload)
        except PutterError as error:
            self._fail(error)

    def eof_received(self) -> bool:
        """The other side says nothing more: close."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell everybody who waits."""
        reason = self._error or Unavailable(f"the connection to the putter was lost ({exc})")
        self._closed = True
        self._transport = None
        self._writable.set()
        was_ready = self._ready.done() and self._ready.exception() is None
        if not self._ready.done():
            self._ready.set_exception(reason)
            # A caller that gave up on the greeting does not look at it any more.
            self._ready.exception()
        calls, self._calls = self._calls, {}
        for call in calls.values():
            if not call.done.done():
                call.done.set_exception(reason)
        if was_ready and self._on_lost is not None:
            self._on_lost(reason)

    def pause_writing(self) -> None:
        """The send queue is long."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """The send queue is short again."""
        self._writable.set()

    # -- the caller's side -----------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._closed or self._transport is None

    async def ready(self) -> Peer:
        """Wait for the greeting.

        Raises:
            PutterError: refused, wrong key, or the connection was lost.
        """
        return await asyncio.shield(self._ready)

    def send(self, message: Message, *payload: Buffer) -> None:
        """Send a message; a closed session swallows it, its loss is told by ``on_lost``.

        The payload's buffers must stay as they are until the other side has answered. What is
        still queued then (it may have been sent on another connection before) keeps a view of
        its own, so that they can be released; `common.buffers.BufferPool` looks after such views.
        """
        if self.closed or self._transport is None:
            return
        self._send_asked()
        size = sum(map(len, payload))
        header = encode(message, size)
        if size:
            self._transport.writelines([header, *(memoryview(part) for part in payload)])
        else:
            self._transport.write(header)

    async def writable(self) -> None:
        """Wait until the send queue is short."""
        await self._writable.wait()

    async def call(self, make: Callable[[int], Message], *, timeout_ms: int) -> list[Answer]:
        """Send a request and wait for its whole answer.

        Args:
            make: makes the message from the request number.
            timeout_ms: patience.

        Returns:
            The messages of the answer with their payloads; more than one only for `Read`
            and `Verify`.

        Raises:
            NodesUnavailable: no answer in time.
            PutterError: the connection was lost.
        """
        if self.closed:
            raise self._error or NodesUnavailable("the connection to the putter is closed")
        request = self._next_request
        self._next_request += 1
        loop = asyncio.get_running_loop()
        done: asyncio.Future[list[Answer]] = loop.create_future()
        self._calls[request] = _Call(done)
        timer = loop.call_later(timeout_ms / 1000, _give_up, done, timeout_ms)
        try:
            # What is asked in one turn of the loop leaves in one write.
            if not self._asked:
                loop.call_soon(self._send_asked)
            self._asked.append(encode(make(request)))
            return await done
        finally:
            timer.cancel()
            self._calls.pop(request, None)

    def next_request(self) -> int:
        """A number for a request whose answer comes to ``on_message``."""
        request = self._next_request
        self._next_request += 1
        return request

    def close(self) -> None:
        """Send what is queued, then close."""
        self._send_asked()
        if self._transport is not None:
            self._transport.close()

    def abort(self, error: PutterError | None = None) -> None:
        """Close at once; what is queued is dropped."""
        if error is not None and self._error is None:
            self._error = error
        if self._transport is not None:
            self._transport.abort()

    # -- inside ----------------------------------------------------------------------------

    def _send_asked(self) -> None:
        asked, self._asked = self._asked, []
        if asked and self._transport is not None:
            self._transport.write(b"".join(asked))

    def _greet(self, data: bytes) -> None:
        answer = self._greeting.receive(data)
        if answer and self._transport is not None:
            self._transport.write(answer)
        peer = self._greeting.peer
        if peer is not None and not self._ready.done():
            self._ready.set_result(peer)

    def _take(self, message: AnyMessage, payload: memoryview) -> None:
        if isinstance(message, _REPLIES):
            call = self._calls.get(message.request)
            if call is None or call.done.done():
                return  # its caller gave up
            call.parts.append((message, payload))
            if not (isinstance(message, Data | Sums) and message.more):
                call.done.set_result(call.parts)
        elif isinstance(message, Refused):
            raise ProtocolError(f"the putter ended the session: {message.reason}")
        elif self._on_message is not None:
            self._on_message(message, payload)
        else:
            raise ProtocolError(f"{type(message).__name__} was not expected here")

    def _fail(self, error: PutterError) -> None:
        if not self._ready.done():
            self._ready.set_exception(error)
            self._ready.exception()
        self.abort(error)


def _give_up(done: asyncio.Future[list[Answer]], timeout_ms: int) -> None:
    if not done.done():
        done.set_exception(NodesUnavailable(f"a putter gave no answer within {timeout_ms} ms"))


async def open_session(
    network: Network,
    host: str,
    port: int,
    make: Callable[[], ClientSession],
) -> tuple[ClientSession, Peer]:
    """Connect and greet.

    Raises:
        Unavailable: nobody answers there, or not in time.
        PutterError: the greeting failed: wrong key, unknown version, …
    """
    _, protocol = await network.connect(make, host, port, timeout_ms=CONNECT_TIMEOUT_MS)
    assert isinstance(protocol, ClientSession)
    try:
        async with asyncio.timeout(HANDSHAKE_TIMEOUT_MS / 1000):
            return protocol, await protocol.ready()
    except TimeoutError:
        protocol.abort()
        raise Unavailable(
            f"{host}:{port} did not finish the greeting within {HANDSHAKE_TIMEOUT_MS} ms",
            hint="is something else listening on this port?",
        ) from None
    except BaseException:  # refused, or our caller gave up
        protocol.abort()
        raise
