"""The putter's way back to the routers: one connection to each router instance, acks only.

Acks are gathered for one turn of the event loop, consecutive tickets of one status are encoded as
a range, and everything goes out in one write. While a router cannot be reached its acks are kept
up to a limit; beyond, the oldest are dropped and the router sends those frames again.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, cast

from common.errors import PutterError, Unavailable
from common.keys import Keyring
from common.limits import (
    ACK_BYTES,
    ACKS_KEPT_BYTES_MAX,
    CONNECT_TIMEOUT_MS,
    HANDSHAKE_TIMEOUT_MS,
    RECONNECT_DELAY_MS_MAX,
    RECONNECT_DELAY_MS_MIN,
)
from common.logs import Repeats, get_logger
from common.transport import Network, channel_of
from common.wire import acks
from common.wire.greeting import ClientGreeting
from common.wire.handshake import CHALLENGE_BYTES, Identity
from common.wire.session import Hello

_log = get_logger(__name__)
_IDLE_CLOSE_S: Final = 30.0


@dataclass(frozen=True)
class AckAddress:
    """Where a router instance takes acks."""

    instance: str
    host: str
    port: int


class _Sender(asyncio.Protocol):
    """Greets, then only writes."""

    def __init__(self, greeting: ClientGreeting, lost: Callable[[], None]) -> None:
        self._greeting = greeting
        self._lost = lost
        self.transport: asyncio.Transport | None = None
        self.writable = True
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self._greeting.bind(channel_of(transport))
        self.transport.write(self._greeting.opening)

    def data_received(self, data: bytes) -> None:
        try:
            answer = self._greeting.receive(data)
        except PutterError as error:
            self._fail(error)
            return
        if answer and self.transport is not None:
            self.transport.write(answer)
        if self._greeting.peer is not None and not self.ready.done():
            self.ready.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._fail(Unavailable(f"the ack connection was lost ({exc})"))
        self._lost()

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = True
        self._lost()

    def _fail(self, error: PutterError) -> None:
        if not self.ready.done():
            self.ready.set_exception(error)
            self.ready.exception()
        if self.transport is not None:
            self.transport.abort()


class AckLink:
    """The queue and connection towards one router instance."""

    def __init__(
        self,
        address: AckAddress,
        network: Network,
        keyring: Keyring,
        identity: Identity,
        rng: random.Random,
    ) -> None:
        self.address: Final = address
        self.sessions = 0
        self._network = network
        self._keyring = keyring
        self._identity = identity
        self._rng = rng
        self._queue: deque[tuple[int, int, int]] = deque()
        self._queued_bytes = 0
        self._dropped = 0
        self._sender: _Sender | None = None
        self._wake = asyncio.Event()
        self._flush_planned = False
        self._repeats = Repeats()
        self._task = asyncio.get_running_loop().create_task(self._run())

    def send(self, first: int, count: int, status: int) -> None:
        """Queue acks for consecutive tickets."""
        queue = self._queue
        if queue:
            last_first, last_count, last_status = queue[-1]
            if last_status == status and last_first + last_count == first:
                queue[-1] = (last_first, last_count + count, status)
                first = -1
        if first >= 0:
            queue.append((first, count, status))
        self._queued_bytes += count * ACK_BYTES
        while self._queued_bytes > ACKS_KEPT_BYTES_MAX:
            self._drop_oldest(-(-(self._queued_bytes - ACKS_KEPT_BYTES_MAX) // ACK_BYTES))
        if not self._flush_planned:
            self._flush_planned = True
            asyncio.get_running_loop().call_soon(self._flush)

    async def close(self, flush_ms: int) -> None:
        """Send what is queued if the router takes it within ``flush_ms``, then close."""
        self._flush()
        deadline = asyncio.get_running_loop().time() + flush_ms / 1000
        while self._pending() and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.01)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        if self._sender is not None and self._sender.transport is not None:
            self._sender.transport.close()

    @property
    def idle(self) -> bool:
        """Whether no session of this router is left and nothing is queued for it."""
        return self.sessions == 0 and not self._queue

    def _drop_oldest(self, count: int) -> None:
        """Forget up to so many acks of the oldest range."""
        first, kept, status = self._queue.popleft()
        dropped = min(count, kept)
        if dropped < kept:
            self._queue.appendleft((first + dropped, kept - dropped, status))
        self._queued_bytes -= dropped * ACK_BYTES
        self._dropped += dropped

    def _pending(self) -> bool:
        transport = self._sender.transport if self._sender else None
        return bool(self._queue) or (
            transport is not None and transport.get_write_buffer_size() > 0
        )

    def _flush(self) -> None:
        self._flush_planned = False
        sender = self._sender
        if sender is None or sender.transport is None or not sender.ready.done():
            return
        if not sender.writable or not self._queue:
            return
        out = b"".join([acks.encode_range(*part) for part in self._queue])
        self._queue.clear()
        self._queued_bytes = 0
        sender.transport.write(out)

    def _changed(self) -> None:
        self._wake.set()
        self._flush()

    async def _run(self) -> None:
        delay_ms = RECONNECT_DELAY_MS_MIN
        while True:
            try:
                sender = await self._connect()
            except Exception as error:  # noqa: BLE001 - a router that is not tried again is lost
                self._complain(error)
                await asyncio.sleep(delay_ms / 1000 * self._rng.uniform(0.5, 1.0))
                delay_ms = min(delay_ms * 2, RECONNECT_DELAY_MS_MAX)
                continue
            delay_ms = RECONNECT_DELAY_MS_MIN
            self._sender = sender
            self._flush()
            while sender.transport is not None:
                self._wake.clear()
                await self._wake.wait()
            self._sender = None

    def _complain(self, error: Exception) -> None:
        more = self._repeats.due(str(error), asyncio.get_running_loop().time())
        if more is None:
            return
        # A router whose sessions are over as well has stopped: nobody waits for acks.
        tell = _log.warning if self.sessions else _log.debug
        tell(
            "cannot bring acks to a router",
            router=self.address.instance,
            address=f"{self.address.host}:{self.address.port}",
            reason=str(error),
            waiting=len(self._queue),
            **more,
        )

    async def _connect(self) -> _Sender:
        hello = Hello(
            role="acks",
            node=self._identity.node,
            instance=self._identity.instance,
            frame_bytes=0,
            key_ids=tuple(self._keyring.ids),
            challenge=self._rng.randbytes(CHALLENGE_BYTES),
            version=self._identity.version,
        )
        _, sender = await self._network.connect(
            lambda: _Sender(ClientGreeting(self._keyring, hello), self._changed),
            self.address.host,
            self.address.port,
            timeout_ms=CONNECT_TIMEOUT_MS,
        )
        assert isinstance(sender, _Sender)
        try:
            async with asyncio.timeout(HANDSHAKE_TIMEOUT_MS / 1000):
                await sender.ready
        except BaseException as error:  # refused, too slow, or we are closing
            if sender.transport is not None:
                sender.transport.abort()
            if isinstance(error, TimeoutError):
                raise Unavailable("the router did not finish the greeting in time") from None
            raise
        return sender


class AckLinks:
    """All routers that this putter brings acks to."""

    def __init__(
        self, network: Network, keyring: Keyring, identity: Identity, rng: random.Random
    ) -> None:
        self._network = network
        self._keyring = keyring
        self._identity = identity
        self._rng = rng
        self._links: dict[AckAddress, AckLink] = {}
        self._closers: set[asyncio.Task[None]] = set()

    def open(self, address: AckAddress) -> AckLink:
        """The link to this router instance; call `leave` when the session is over."""
        link = self._links.get(address)
        if link is None:
            link = AckLink(address, self._network, self._keyring, self._identity, self._rng)
            self._links[address] = link
        link.sessions += 1
        return link

    def leave(self, link: AckLink) -> None:
        """One session of this router is over; the link closes if none comes back soon."""
        link.sessions -= 1
        asyncio.get_running_loop().call_later(_IDLE_CLOSE_S, self._close_if_unused, link)

    def __len__(self) -> int:
        return len(self._links)

    async def close(self, flush_ms: int) -> None:
        """Send what is queued and close all."""
        links, self._links = list(self._links.values()), {}
        await asyncio.gather(*(link.close(flush_ms) for link in links))
        await asyncio.gather(*self._closers)

    def _close_if_unused(self, link: AckLink) -> None:
        if link.sessions > 0 or self._links.get(link.address) is not link:
            return
        del self._links[link.address]
        task = asyncio.get_running_loop().create_task(link.close(0))
        self._closers.add(task)
        task.add_done_callback(self._closers.discard)
