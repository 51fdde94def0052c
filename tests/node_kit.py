"""A putter node on the in-memory network: keys, clients, and a disk that can be held or broken."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from concurrent.futures import Executor, Future
from typing import Any, TypeVar, cast

from common import tickets
from common.buffers import BufferPool
from common.checksum import checksum
from common.errors import PutterError
from common.keys import ClusterKey, Keyring
from common.limits import RAW_DATA_BYTES
from common.meta.interface import Metadata
from common.sessions import ClientSession, open_session
from common.transport import Network, abort
from common.twins.lines import Weather
from common.twins.network import MemoryNetwork
from common.wire import frames
from common.wire.acks import AckDecoder
from common.wire.frames import Statuses
from common.wire.greeting import ServerGreeting
from common.wire.handshake import Identity
from common.wire.session import AnyMessage, Batch, Hello, RecordHeader, RunHeader
from putter.node.app import NodeOptions, PutterNode
from putter.storage.engine import Engine, Piece, Record, Run, TicketInfo
from putter.storage.memory import MemoryEngine
from putter.storage.notes import Notes
from tests.simulation.loop import World, run

T = TypeVar("T")

KEY, SECOND_KEY, OTHER_KEY = (ClusterKey.from_material(bytes([n]) * 32) for n in (1, 2, 3))
RING = Keyring([KEY])
OTHER_RING = Keyring([OTHER_KEY])
HOST, PORT = "putter", 5000
TIMEOUT_MS = 3_000


def play(main: Callable[[World], Coroutine[Any, Any, T]], seed: int = 1) -> T:
    """Run a scenario on the virtual loop."""
    return run(main, seed, limit_s=3_600)


class HeldDisk(Executor):
    """Runs what is submitted at once, or, while it is held, when it is told to.

    For a real loop: the virtual one runs everything inline.
    """

    def __init__(self) -> None:
        self.held = False
        self.waiting: list[tuple[Future[Any], Callable[[], Any]]] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.waiting.append((future, lambda: fn(*args, **kwargs)))
        if not self.held:
            self.step()
        return future

    def step(self) -> None:
        """Run what waits."""
        waiting, self.waiting = self.waiting, []
        for future, call in waiting:
            try:
                future.set_result(call())
            except Exception as error:  # noqa: BLE001 – it belongs to whoever awaits the result
                future.set_exception(error)

    def release(self) -> None:
        """Hold no more."""
        self.held = False
        self.step()


class FaultyEngine(MemoryEngine):
    """The reference model; errors are raised where they are set.

    Attributes:
        log: what was done, in order.
        fail: by method name; the error is raised until it is taken out.
        closed: whether `close` was called.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.log: list[str] = []
        self.fail: dict[str, Exception] = {}
        self.closed = False

    def _note(self, what: str) -> None:
        self.log.append(what)
        if what in self.fail:
            raise self.fail[what]

    def put(self, run: Run, *, raw: bool = False) -> Statuses:
        self._note("put")
        return super().put(run, raw=raw)

    def put_record(self, record: Record) -> int:
        self._note("put_record")
        return super().put_record(record)

    def sync(self) -> None:
        self._note("sync")

    def read(self, first: int, count: int, *, raw: bool = False) -> Iterable[Piece]:  # type: ignore[override]
        self._note("read")
        yield from super().read(first, count, raw=raw)

    def stat(self, ticket: int, *, raw: bool = False) -> TicketInfo | None:
        self._note("stat")
        return super().stat(ticket, raw=raw)

    def free(
        self,
        ranges: Sequence[tuple[int, int]],
        *,
        raw: bool = False,
        objects: Collection[str] | None = None,
    ) -> int:
        self._note("free")
        return super().free(ranges, raw=raw, objects=objects)

    def close(self) -> None:
        self.closed = True


def network_of(rng: random.Random, **weather: Any) -> MemoryNetwork:
    """Wires whose latency is short enough for real loops, too."""
    settings = {"latency_us_min": 1, "latency_us_max": 100} | weather
    return MemoryNetwork(rng, Weather(rng, **settings))


def make_node(
    network: MemoryNetwork,
    engine: Engine | None = None,
    *,
    ring: Keyring = RING,
    disk: Executor | None = None,
    readers: Executor | None = None,
    metadata: Metadata | None = None,
    notes: Notes | None = None,
    starts: int = 0,
    on_superseded: Callable[[], None] = lambda: None,
    **options: Any,
) -> PutterNode:
    """A node on the host ``putter``, port 5000; start it yourself."""
    return PutterNode(
        NodeOptions(host=HOST, port=PORT, advertise_host=HOST, **options),
        Identity("putter-1", "start-1", "test", "memory"),
        engine if engine is not None else FaultyEngine(),
        ring,
        network.host(HOST),
        metadata,
        random.Random(7),
        disk_thread=disk or HeldDisk(),
        readers=readers or HeldDisk(),
        notes=notes,
        starts=starts,
        on_superseded=on_superseded,
    )


async def until(
    holds: Callable[[], bool], timeout_s: float = 10.0, *, every_s: float = 0.001
) -> None:
    """Wait, with a bound, until something holds."""
    async with asyncio.timeout(timeout_s):
        while not holds():
            await asyncio.sleep(every_s)


class Wire(asyncio.Protocol):
    """A client that speaks bytes.

    Attributes:
        received: everything that came back.
        ended: set once the other side closed its direction, or the connection.
        error: why the connection was lost, if it was by an error.
    """

    def __init__(self) -> None:
        self.received = bytearray()
        self.ended = asyncio.Event()
        self.lost = asyncio.Event()
        self.error: Exception | None = None
        self.transport: asyncio.Transport
        self._more = asyncio.Event()

    @classmethod
    async def open(cls, network: Network, host: str = HOST, port: int = PORT) -> Wire:
        _, wire = await network.connect(cls, host, port, timeout_ms=TIMEOUT_MS)
        return wire

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.received += data
        self._more.set()

    def eof_received(self) -> bool:
        self.ended.set()
        self._more.set()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.error = exc
        self.ended.set()
        self.lost.set()
        self._more.set()

    def send(self, data: bytes) -> Wire:
        self.transport.write(data)
        return self

    def finish(self) -> Wire:
        """Half-close."""
        self.transport.write_eof()
        return self

    def reset(self) -> None:
        abort(self.transport)

    async def has(self, size: int) -> bytes:
        """Wait for so many bytes in total."""
        async with asyncio.timeout(100):
            while len(self.received) < size:
                assert not self.ended.is_set(), f"ended after {bytes(self.received)!r}"
                self._more.clear()
                await self._more.wait()
        return bytes(self.received)

    async def all(self) -> bytes:
        """Everything until the other side ends."""
        async with asyncio.timeout(1_000):
            await self.ended.wait()
        return bytes(self.received)

    async def acks(self, count: int) -> list[tuple[int, int]]:
        """(ticket number, status) of so many acks; no more have come."""
        got = acks_in(await self.has(9 * count))
        assert len(got) == count
        return got


def acks_in(data: bytes) -> list[tuple[int, int]]:
    """(ticket number, status) of all acks."""
    decoder = AckDecoder()
    numbers, statuses = decoder.receive(data)
    assert decoder.pending_bytes == 0
    return list(zip(numbers.tolist(), statuses.tolist(), strict=True))


def raw_frames(first: int, data: bytes, key: ClusterKey = KEY) -> bytes:
    """Frames as a raw connection sends them."""
    return framed(first, data, RAW_DATA_BYTES, key)


def raw_frame(field: bytes, data: bytes, key: ClusterKey = KEY) -> bytes:
    """One frame under any eight bytes."""
    return field + checksum(key.checksum, field, data) + data


def framed(first: int, data: bytes, frame_bytes: int, key: ClusterKey = KEY) -> bytes:
    out = bytearray(frames.wire_bytes(len(data), frame_bytes))
    frames.build(memoryview(out), memoryview(data), first, frame_bytes, key.checksum)
    return bytes(out)


def stored(engine: MemoryEngine, first: int, count: int, *, raw: bool = False) -> dict[int, bytes]:
    """The data of stored tickets."""
    found = {}
    for piece in MemoryEngine.read(engine, first, count, raw=raw):
        stride = piece.frame_bytes + 16
        for index in range(piece.count):
            row = bytes(piece.frames[index * stride : (index + 1) * stride])
            assert tickets.decode_field(row[:8]) == piece.first + index
            found[piece.first + index] = row[16:]
    return found


def hello_of(ring: Keyring = RING, **fields: Any) -> Hello:
    """How a client introduces itself."""
    base: dict[str, Any] = {
        "role": "router",
        "node": "router-1",
        "instance": "router-1.1",
        "frame_bytes": 1458,
        "key_ids": tuple(ring.ids),
        "challenge": b"c" * 16,
    }
    return Hello(**(base | fields))


class Client:
    """A session, and what came that was no answer to a request."""

    def __init__(self, ring: Keyring = RING, **fields: Any) -> None:
        self.heard: list[AnyMessage] = []
        self.losses: list[PutterError] = []
        self.session: ClientSession
        self._ring = ring
        self._fields = fields

    async def open(self, network: Network, host: str = HOST, port: int = PORT) -> Client:
        def make() -> ClientSession:
            return ClientSession(
                self._ring,
                hello_of(self._ring, **self._fields),
                BufferPool(),
                on_message=lambda message, _: self.heard.append(message),
                on_lost=self.losses.append,
            )

        self.session, self.peer = await open_session(network, host, port, make)
        return self

    def store(
        self, *runs: tuple[int, bytes], records: Sequence[tuple[int, int, bytes]] = ()
    ) -> None:
        """Send a batch: runs as (first ticket, frames), records as (request, stamp, body)."""
        headers = tuple(RunHeader(first, len(wire), "OBJ") for first, wire in runs)
        about = tuple(RecordHeader(n, len(body), stamp, "OBJ") for n, stamp, body in records)
        parts = [wire for _, wire in runs] + [body for _, _, body in records]
        self.session.send(Batch(headers, about), *parts)

    async def hears(self, count: int) -> list[AnyMessage]:
        """So many messages; no more have come."""
        await until(lambda: len(self.heard) >= count, 100)
        assert len(self.heard) == count
        return self.heard


class AckConnection(asyncio.Protocol):
    """One accepted connection on a router's ack port."""

    def __init__(self, port: AckPort) -> None:
        self.port = port
        self.greeting = ServerGreeting(port.ring, Identity("router-1", "router-1.1"), b"s" * 16)
        self.received = bytearray()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.port.connections.append(self)

    def data_received(self, data: bytes) -> None:
        if self.port.mute:
            return
        if self.greeting.peer is None:
            try:
                self.transport.write(self.greeting.receive(data))
            except PutterError as error:
                self.transport.write(self.greeting.refusal(error))
                self.transport.close()
            if self.greeting.peer is not None and self.port.reads_not:
                self.transport.pause_reading()
        else:
            self.received += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.port.lost += 1


class AckPort:
    """A router's ack port."""

    def __init__(self, network: MemoryNetwork, ring: Keyring = RING) -> None:
        self.network = network
        self.ring = ring
        self.mute = False
        self.reads_not = False
        self.connections: list[AckConnection] = []
        self.lost = 0

    async def open(self) -> AckPort:
        self.listener = await self.network.host("router").listen(
            lambda: AckConnection(self), "router", 5002
        )
        return self

    @property
    def got(self) -> list[tuple[int, int]]:
        """All whole acks, of all connections in order."""
        streams = [bytes(each.received) for each in self.connections]
        return [ack for data in streams for ack in acks_in(data[: len(data) // 9 * 9])]
