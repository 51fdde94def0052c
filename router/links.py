"""A persistent, windowed link to each putter.

What is offered in one turn of the event loop goes out as one `Batch`. It stays in flight until the
putter's acks (5002) or answers (session) say what became of it; after a lost connection everything
in flight is sent again, which the putter takes as a retry. A link that stays down too long tells
its parcels, so that another node can take over.
"""

from __future__ import annotations

import asyncio
import random
from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from common.buffers import BufferPool
from common.checksum import Buffer
from common.errors import NodesUnavailable, PutterError
from common.keys import Keyring
from common.limits import (
    LINK_WINDOW_BYTES,
    MESSAGE_PAYLOAD_BYTES_MAX,
    MIB,
    RECONNECT_DELAY_MS_MAX,
    RECONNECT_DELAY_MS_MIN,
)
from common.logs import Repeats, get_logger
from common.metrics import Metrics
from common.sessions import Answer, ClientSession, open_session
from common.transport import Network
from common.wire.handshake import Peer
from common.wire.message import Message
from common.wire.session import (
    AnyMessage,
    Batch,
    Hello,
    RecordHeader,
    RecordsDone,
    RunHeader,
    RunsDone,
)
from common.wire.status import Status
from router.parcels import Parcel, RecordParcel, RunParcel
from router.progress import Front, Tally

_log = get_logger(__name__)
_BATCH_BYTES: Final = 2 * MIB
_CHECK_MS: Final = 250

assert _BATCH_BYTES + MIB <= MESSAGE_PAYLOAD_BYTES_MAX


@dataclass(frozen=True)
class LinkOptions:
    """What all links share.

    Attributes:
        frame_bytes: data bytes of a frame, as all objects of this router use it.
        failover_ms: how long a link may be down before its parcels look for another node.
        silence_ms: how long a putter may leave parcels unanswered before the link is renewed.
        window_bytes: frame bytes in flight to one putter.
    """

    frame_bytes: int
    failover_ms: int = 2_000
    silence_ms: int = 10_000
    window_bytes: int = LINK_WINDOW_BYTES


class NodeLink:
    """The link to one putter.

    Args:
        host, port: where it listens.
        node: its identity, "" if it is not known yet.
        introduce: makes the Hello of each connection.
        keyring, network, pool, rng, metrics: of the router.
        options: shared by all links.
        on_change: called when the link comes up or goes down.
    """

    def __init__(
        self,
        host: str,
        port: int,
        node: str,
        *,
        introduce: Callable[[], Hello],
        keyring: Keyring,
        network: Network,
        pool: BufferPool,
        rng: random.Random,
        metrics: Metrics,
        options: LinkOptions,
        on_change: Callable[[NodeLink], None],
    ) -> None:
        self.host = host
        self.port = port
        self.node = node
        self.instance = ""
        self.full = False
        self.on_this_machine = False
        self._introduce = introduce
        self._keyring = keyring
        self._network = network
        self._pool = pool
        self._rng = rng
        self._metrics = metrics
        self._options = options
        self._on_change = on_change
        self._session: ClientSession | None = None
        self._lost = asyncio.Event()
        self._runs: dict[int, RunParcel] = {}
        self._firsts: list[int] = []
        self._fronts: dict[int, Front] = {}
        self._records: dict[int, RecordParcel] = {}
        self._tallies: dict[RecordParcel, Tally] = {}
        self._outbox: deque[Parcel] = deque()
        self._flush_planned = False
        self._inflight_bytes = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._down_since_ms = self._now_ms()
        self._heard_ms = self._now_ms()
        self._reason: PutterError = NodesUnavailable(f"putter at {host}:{port} was not reached yet")
        self._repeats = Repeats()
        self._closing = False
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(self._run())
        self._watch = loop.create_task(self._watch_over())

    # -- what others see -------------------------------------------------------------------

    @property
    def up(self) -> bool:
        """Whether a session stands."""
        return self._session is not None

    @property
    def inflight_bytes(self) -> int:
        """Bytes that are offered and not answered."""
        return self._inflight_bytes

    @property
    def congested(self) -> bool:
        """Whether the window is full."""
        return self._inflight_bytes >= self._options.window_bytes

    @property
    def reason(self) -> str:
        """Why the link is down."""
        return str(self._reason)

    @property
    def busy(self) -> bool:
        """Whether anything is in flight."""
        return bool(self._runs or self._tallies or self._outbox)

    async def room(self) -> None:
        """Wait until the window has room."""
        while self.congested:
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            await waiter

    def carry(self, parcel: Parcel) -> None:
        """Send a parcel, again and again until it is answered or withdrawn."""
        if isinstance(parcel, RunParcel):
            if parcel.first not in self._runs:
                self._runs[parcel.first] = parcel
                insort(self._firsts, parcel.first)
                self._account(parcel.size)
            self._fronts[parcel.first] = Front()
        else:
            self._account(parcel.size)
        self._offer(parcel)

    def withdraw(self, parcel: Parcel) -> None:
        """Forget a parcel."""
        if isinstance(parcel, RunParcel):
            if self._runs.get(parcel.first) is parcel:
                self._drop(parcel)
        elif isinstance(parcel, RecordParcel) and self._tallies.pop(parcel, None) is not None:
            for request in [r for r, p in self._records.items() if p is parcel]:
                del self._records[request]
            self._account(-parcel.size)
        if parcel in self._outbox:
            self._outbox.remove(parcel)
            if isinstance(parcel, RecordParcel):
                self._account(-parcel.size)

    def acked(self, first: int, count: int, status: int) -> int:
        """Acks for consecutive tickets came from this putter.

        Returns:
            How many of them were for tickets in flight to it.
        """
        self._heard_ms = self._now_ms()
        firsts = self._firsts
        end = first + count
        known = 0
        index = max(0, bisect_right(firsts, first) - 1)
        done: list[RunParcel] = []
        while index < len(firsts) and firsts[index] < end:
            run = self._runs[firsts[index]]
            index += 1
            low, high = max(first, run.first), min(end, run.first + run.count)
            if low >= high:
                continue
            known += high - low
            front = self._fronts[run.first]
            moved = front.advance(low - run.first, high - run.first, status)
            if moved and front.reached == run.count:
                done.append(run)
        for run in done:
            self._answered(run, self._fronts[run.first].worst)
        return known

    def resend(self) -> None:
        """Send everything in flight again."""
        frames = sum(run.count for run in self._runs.values())
        if frames:
            self._metrics.frames_resent.inc(frames)
        waiting = [p for p in self._outbox if isinstance(p, RecordParcel)]
        records, self._tallies = list(self._tallies), {}
        self._records.clear()
        self._outbox.clear()
        for first in self._firsts:
            self._fronts[first] = Front()
            self._offer(self._runs[first])
        for record in [*records, *waiting]:
            self._offer(record)

    async def call(self, make: Callable[[int], Message], *, timeout_ms: int) -> list[Answer]:
        """Ask the putter something.

        Raises:
            NodesUnavailable: the link is down, or no answer came in time.
        """
        if self._session is None:
            raise NodesUnavailable(f"putter {self.node or self.host} is not connected")
        return await self._session.call(make, timeout_ms=timeout_ms)

    def renew(self, why: str) -> None:
        """Connect anew; what is in flight is sent again."""
        if self._session is not None:
            self._session.abort(NodesUnavailable(why))

    async def close(self) -> None:
        """Stop trying; parcels in flight are stranded for good."""
        self._closing = True
        self._watch.cancel()
        self._task.cancel()
        await asyncio.gather(self._watch, self._task, return_exceptions=True)
        if self._session is not None:
            self._session.close()
            self._session = None
        self._metrics.link_up.labels(self.node).set(0)

    # -- sending ---------------------------------------------------------------------------

    def _offer(self, parcel: Parcel) -> None:
        self._outbox.append(parcel)
        if not self._flush_planned and self._session is not None:
            self._flush_planned = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_planned = False
        session = self._session
        while self._outbox and session is not None and not session.closed:
            runs: list[RunHeader] = []
            records: list[RecordHeader] = []
            frames: list[Buffer] = []
            bodies: list[Buffer] = []
            size = 0
            while self._outbox and size < _BATCH_BYTES:
                parcel = self._outbox.popleft()
                if isinstance(parcel, RunParcel):
                    if self._runs.get(parcel.first) is not parcel:
                        continue  # acked or withdrawn meanwhile
                    size += parcel.size
                    runs.extend(parcel.headers)
                    frames.append(parcel.frames)
                elif isinstance(parcel, RecordParcel):
                    size += parcel.size
                    self._tallies[parcel], about = Tally(len(parcel.entries)), parcel.request_id
                    for stamp, object_id, body in parcel.entries:
                        request = session.next_request()
                        self._records[request] = parcel
                        records.append(RecordHeader(request, len(body), stamp, object_id, about))
                        bodies.append(body)
            if size:
                session.send(Batch(tuple(runs), tuple(records)), *frames, *bodies)

    def _received(self, message: AnyMessage, _payload: memoryview) -> None:
        if isinstance(message, RunsDone):  # to one that named no ack address
            for first, count, status in message.done:
                self.acked(first, count, status)
            return
        if not isinstance(message, RecordsDone):
            kind = type(message).__name__
            _log.warning("unexpected message of a putter", node=self.node, kind=kind)
            return
        self._heard_ms = self._now_ms()
        for request, status in message.done:
            record = self._records.pop(request, None)
            if record is None or not self._tallies[record].count(status):
                continue
            worst = self._tallies.pop(record).worst
            if worst == Status.SHUTTING_DOWN:
                self._outbox.append(record)
                continue
            self._account(-record.size)
            if worst == Status.WRITTEN:
                record.delivered(self.node)
            else:
                record.refused(self.node, worst)

    def _answered(self, run: RunParcel, status: int) -> None:
        if status == Status.SHUTTING_DOWN:
            return  # it stays in flight: the link will be lost soon, and then it is sent again
        if status == Status.CHECKSUM_MISMATCH:
            self._metrics.frames_resent.inc(run.count)
            run.refused(self.node, status)
            return
        self._drop(run)
        if status == Status.WRITTEN:
            if self.full:
                self.full = False
                self._on_change(self)
            run.delivered(self.node)
        else:
            if status == Status.NO_SPACE:
                self.full = True
                self._on_change(self)
            run.refused(self.node, status)

    def _drop(self, run: RunParcel) -> None:
        del self._runs[run.first]
        del self._fronts[run.first]
        del self._firsts[bisect_left(self._firsts, run.first)]
        self._account(-run.size)

    def _account(self, size: int) -> None:
        self._inflight_bytes += size
        while self._waiting and self._inflight_bytes < self._options.window_bytes:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)

    # -- staying connected -----------------------------------------------------------------

    async def _run(self) -> None:
        delay_ms = RECONNECT_DELAY_MS_MIN
        while not self._closing:
            self._lost.clear()
            try:
                session, peer = await open_session(self._network, self.host, self.port, self._make)
                try:
                    self._accept(peer)
                except PutterError:
                    session.close()
                    raise
            except Exception as error:  # noqa: BLE001 - a link that is not tried again is lost
                self._complain(error)
                await asyncio.sleep(delay_ms / 1000 * self._rng.uniform(0.5, 1.0))
                delay_ms = min(delay_ms * 2, RECONNECT_DELAY_MS_MAX)
                continue
            delay_ms = RECONNECT_DELAY_MS_MIN
            if session.closed:
                continue
            self._session, self.on_this_machine = session, session.on_this_machine
            self._heard_ms = self._now_ms()
            self._metrics.link_up.labels(self.node).set(1)
            _log.info("putter connected", node=self.node, address=f"{self.host}:{self.port}")
            self.resend()
            self._on_change(self)
            await self._lost.wait()

    def _make(self) -> ClientSession:
        session = ClientSession(
            *(self._keyring, self._introduce(), self._pool),
            on_message=self._received,
            on_lost=lambda error: self._gone(session, error),
        )
        return session

    def _accept(self, peer: Peer) -> None:
        welcome = peer.welcome
        if self.node and welcome.node != self.node:
            raise NodesUnavailable(
                f"{self.host}:{self.port} is putter {welcome.node}, not {self.node}",
                hint="two putters announce the same address: set --advertise-host",
            )
        if welcome.frame_bytes != self._options.frame_bytes:
            raise NodesUnavailable(
                f"putter {welcome.node} does not take frames of {self._options.frame_bytes} bytes"
            )
        self.node = welcome.node
        self.instance = welcome.instance

    def _gone(self, session: ClientSession, error: PutterError) -> None:
        if session is not self._session:
            return  # one that was not accepted
        self._session = None
        self._reason = error
        self._down_since_ms = self._now_ms()
        self._metrics.link_up.labels(self.node).set(0)
        if not self._closing:
            _log.warning("putter lost", node=self.node, inflight=len(self._runs), reason=str(error))
        self._lost.set()
        self._on_change(self)

    def _complain(self, error: Exception) -> None:
        """Say why there is no link; the same reason once a minute."""
        if not isinstance(error, PutterError):
            _log.error("a connection failed unexpectedly", node=self.node, exc_info=error)
            error = NodesUnavailable(f"the connection to the putter failed: {error!r}")
        self._reason = error
        more = self._repeats.due(str(error), self._now_ms() / 1000)
        if more is not None:
            where = f"{self.host}:{self.port}"
            _log.warning("cannot reach a putter", address=where, reason=str(error), **more)

    async def _watch_over(self) -> None:
        while True:
            await asyncio.sleep(_CHECK_MS / 1000)
            self._metrics.inflight_bytes.labels(self.node).set(self._inflight_bytes)
            if not self.busy:
                self._heard_ms = self._now_ms()
                continue
            now = self._now_ms()
            if self._session is None:
                if now - self._down_since_ms > self._options.failover_ms:
                    self._strand()
            elif now - self._heard_ms > self._options.silence_ms:
                _log.warning("a putter is silent: renewing the link", node=self.node)
                self.renew(f"no ack within {self._options.silence_ms} ms")

    def _strand(self) -> None:
        waiting = [p for p in self._outbox if isinstance(p, RecordParcel)]
        for parcel in [*self._runs.values(), *self._tallies, *waiting]:
            parcel.stranded(self.node, self._reason)

    def _now_ms(self) -> float:
        return asyncio.get_running_loop().time() * 1000
