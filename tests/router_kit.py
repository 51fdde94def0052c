"""A store on virtual time for the tests of the router: real routers and putters, twins around them.

Also a putter that follows a script, for what a real one does not do.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

from common.buffers import BufferPool
from common.errors import PutterError
from common.keys import Keyring
from common.meta.interface import Metadata
from common.meta.memory import MemoryMetadata
from common.metrics import Metrics
from common.records import CommitRecord, Members, Version, decode
from common.tickets import TICKETS_MAX
from common.twins.network import MemoryNetwork
from common.wire import frames
from common.wire.greeting import ServerGreeting
from common.wire.handshake import Identity
from common.wire.reader import MessageReader
from common.wire.session import AnyMessage, Batch, encode
from putter.node.app import NodeOptions, PutterNode
from putter.storage.engine import Run
from router.app import Router
from router.blocks import ChunkSource
from router.links import LinkOptions, NodeLink
from router.options import RouterOptions
from router.parcels import RecordParcel, RunParcel
from router.quorum import Policy
from router.targets import Target, Written
from tests.node_kit import KEY, RING, FaultyEngine, hello_of, network_of, until
from tests.simulation.loop import World

FRAME = 1458
INGEST, ACKS, SESSIONS = 5001, 5002, 5000
EXECUTOR = cast("ThreadPoolExecutor", None)  # the virtual loop runs everything inline


def payload(size: int, seed: object = 0) -> bytes:
    """Bytes that nobody else sends."""
    return random.Random(f"{seed}/{size}").randbytes(size)


async def in_chunks(
    data: bytes, step: int = 50_000, error: BaseException | None = None
) -> AsyncIterator[bytes]:
    """A body that comes in pieces; ``error`` is raised at its end."""
    for at in range(0, len(data), step):
        await asyncio.sleep(0)
        yield data[at : at + step]
    if error is not None:
        raise error


def metric(metrics: Metrics, name: str, **labels: str) -> float:
    """A sample's value, 0 if it was never moved."""
    return metrics.registry.get_sample_value(name, labels) or 0.0


class SimPutter:
    """A putter whose engine outlives its process."""

    def __init__(self, store: Store, name: str, **engine: Any) -> None:
        self.store = store
        self.name = name
        self.identity = name
        self.engine = FaultyEngine(identity=name, **engine)
        self.node: PutterNode | None = None
        self.starts = 0

    async def start(self) -> None:
        self.starts += 1
        self.node = PutterNode(
            NodeOptions(host=self.name, port=SESSIONS, advertise_host=self.name),
            Identity(self.identity, f"{self.name}.{self.starts}", "sim", "memory"),
            self.engine,
            RING,
            self.store.network.host(self.name),
            self.store.meta,
            random.Random(self.store.world.random.random()),
            disk_thread=EXECUTOR,
            readers=EXECUTOR,
            starts=self.starts,
        )
        await self.node.start()

    async def crash(self) -> None:
        """Its connections are reset and nothing listens; the engine stays as it is."""
        assert self.node is not None
        self.store.network.crash(self.name)
        if self.node._heartbeat is not None and self.node._heartbeat._task is not None:
            self.node._heartbeat._task.cancel()
        self.node = None

    @property
    def tickets(self) -> set[int]:
        """The tickets that it holds."""
        return {
            piece.first + index
            for piece in super(FaultyEngine, self.engine).read(0, TICKETS_MAX)
            for index in range(piece.count)
        }

    @property
    def records(self) -> list[CommitRecord]:
        """Without those that list the members."""
        found = [decode(each.record.body) for each in self.engine.records(0, 10_000)]
        return [each for each in found if not isinstance(each, Members)]

    def rot(self, ticket: int) -> None:
        """Change one bit of a ticket's data behind everybody's back."""
        [piece] = super(FaultyEngine, self.engine).read(ticket, 1)
        info = self.engine.stat(ticket)
        assert info is not None
        rows = bytearray(piece.frames)
        rows[-1] ^= 1
        self.engine.free([(ticket, 1)])
        self.engine.put(
            Run(ticket, memoryview(rows), piece.frame_bytes, info.object_id, piece.key_id)
        )


class Store:
    """Putters, routers, a coordinator and the wires between them.

    Args of `__init__`: the world, how many putters, and options of the routers.
    """

    def __init__(
        self,
        world: World,
        putters: int = 2,
        *,
        policy: Policy | None = None,
        capacities: tuple[int, ...] = (),
        grace_ms: int = 1_000,
        weather: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self.world = world
        self.network: MemoryNetwork = network_of(world.random, **(weather or {}))
        self.meta = MemoryMetadata(world.clock, epoch="run-1", grace_ms=grace_ms)
        self.putters = [
            SimPutter(
                self, f"p{n}", **({"capacity_bytes": capacities[n]} if n < len(capacities) else {})
            )
            for n in range(putters)
        ]
        self.routers: list[Router] = []
        self._options = {
            "policy": policy or Policy(min(2, putters) or 1, min(2, putters) or 1),
            "frame_bytes": FRAME,
            # Rounds are made by the tests that want them.
            "janitor_period_ms": 10**9,
            "marks_period_ms": 10**9,
            "sweep_period_ms": 0,
            "repair_period_ms": 0,
            "audit_period_ms": 0,
            "lifecycle_period_ms": 0,
        } | options

    async def start(self, routers: int = 1) -> Store:
        for putter in self.putters:
            await putter.start()
        for _ in range(routers):
            await self.add_router()
        return self

    async def add_router(self, meta: Metadata | None = None, **options: Any) -> Router:
        name = f"r{len(self.routers)}"
        router = Router(
            RouterOptions(
                host=name,
                ingest_port=INGEST,
                ack_port=ACKS,
                web_port=None,
                advertise_host=name,
                **(self._options | options),
            ),
            Identity(name, f"{name}.1", "sim"),
            RING,
            self.network.host(name),
            meta or self.meta,
            self.world.clock,
            random.Random(self.world.random.random()),
        )
        await router.start()
        self.routers.append(router)
        if self.putters:
            await until(lambda: len({link.node for link in router.fleet.up()}) == self.alive, 60)
        return router

    @property
    def alive(self) -> int:
        return sum(putter.node is not None for putter in self.putters)

    @property
    def policy(self) -> Policy:
        """Of the routers, where a bucket says nothing else."""
        policy = self._options["policy"]
        assert isinstance(policy, Policy)
        return policy

    @property
    def router(self) -> Router:
        return self.routers[0]

    async def stop(self) -> None:
        for router in self.routers:
            await router.stop()
        for putter in self.putters:
            if putter.node is not None:
                await putter.node.stop()

    async def write(
        self,
        data: bytes,
        key: str = "cat",
        *,
        bucket: str = "photos",
        router: int = 0,
        step: int = 50_000,
        **target: Any,
    ) -> Written:
        """As PUT does."""
        path = self.routers[router].writes
        source = ChunkSource(in_chunks(data, step), path.filler())
        try:
            return await path.write(
                source, Target(bucket, key, **({"empty_allowed": True} | target))
            )
        finally:
            source.close()

    async def read(
        self,
        key: str = "cat",
        start: int = 0,
        end: int | None = None,
        *,
        bucket: str = "photos",
        router: int = 0,
    ) -> bytes:
        """As GET does."""
        reads = self.routers[router].reads
        version = await reads.resolve(bucket, key)
        return await self.read_version(version, start, end, router=router)

    async def read_version(
        self, version: Version, start: int = 0, end: int | None = None, *, router: int = 0
    ) -> bytes:
        pieces = self.routers[router].reads.stream(
            version, start, version.size if end is None else end
        )
        try:
            return b"".join([bytes(piece) async for piece in pieces])
        finally:
            await pieces.aclose()

    async def state(self, object_id: str) -> str:
        """The life of an object; "" if nobody knows it."""
        known = await self.meta.objects.get(object_id)
        return known.state if known else ""

    async def clean(self) -> None:
        """Let grace times pass and have the janitor do what is to do."""
        for _ in range(3):
            await asyncio.sleep(2)
            while await self.router.janitor.round():
                pass


class ScriptedSession(asyncio.Protocol):
    """A putter's end of one session; it greets, then does nothing by itself."""

    def __init__(self, putter: ScriptedPutter) -> None:
        self.putter = putter
        self.greeting = ServerGreeting(
            putter.ring, Identity(putter.node, f"{putter.node}.1", "s", "memory"), b"s" * 16
        )
        self.reader = MessageReader()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self.greeting.peer is None:
            try:
                self.transport.write(self.greeting.receive(data))
                if self.putter.deaf and self.greeting.peer is not None:
                    self.transport.pause_reading()
            except PutterError as error:
                self.transport.write(self.greeting.refusal(error))
                self.transport.close()
            return
        for message, body in self.reader.feed(data):
            self.putter.heard.append((message, bytes(body)))
            self.putter.answer(self, message, bytes(body))

    def say(self, message: AnyMessage, body: bytes = b"") -> None:
        self.transport.write(encode(message, len(body)) + body)


class ScriptedPutter:
    """A putter that says what a test wants.

    Attributes:
        heard: messages of all sessions after their greeting, with payloads.
        answer: called with each of them.
        deaf: new sessions read nothing after their greeting.
    """

    def __init__(
        self, network: MemoryNetwork, node: str = "p0", host: str = "p0", ring: Keyring = RING
    ) -> None:
        self.network = network
        self.node = node
        self.host = host
        self.ring = ring
        self.sessions: list[ScriptedSession] = []
        self.heard: list[tuple[AnyMessage, bytes]] = []
        self.deaf = False
        self.answer: Callable[[ScriptedSession, AnyMessage, bytes], None] = lambda *_: None

    async def open(self) -> ScriptedPutter:
        await self.network.host(self.host).listen(self._accept, self.host, SESSIONS)
        return self

    def _accept(self) -> ScriptedSession:
        self.sessions.append(ScriptedSession(self))
        return self.sessions[-1]

    @property
    def session(self) -> ScriptedSession:
        return self.sessions[-1]

    @property
    def batches(self) -> list[Batch]:
        return [message for message, _ in self.heard if isinstance(message, Batch)]

    @property
    def runs(self) -> list[int]:
        """The first tickets of all runs that arrived, in order."""
        return [run.first for batch in self.batches for run in batch.runs]

    @property
    def requests(self) -> list[int]:
        """The request numbers of all records that arrived, in order."""
        return [record.request for batch in self.batches for record in batch.records]

    async def has(self, runs: int = 0, records: int = 0) -> None:
        """Wait until so many have arrived in total."""
        await until(lambda: len(self.runs) >= runs and len(self.requests) >= records, 100)


class Links:
    """One link for tests, and a carrier of parcels that uses it."""

    def __init__(self, network: MemoryNetwork, node: str = "", **options: Any) -> None:
        self.metrics = Metrics("router")
        self.pool = BufferPool()
        self.changes: list[bool] = []
        self.link = NodeLink(
            "p0",
            SESSIONS,
            node,
            introduce=lambda: hello_of(frame_bytes=FRAME),
            keyring=RING,
            network=network.host("r0"),
            pool=self.pool,
            rng=random.Random(5),
            metrics=self.metrics,
            options=LinkOptions(FRAME, **options),
            on_change=lambda link: self.changes.append(link.up),
        )

    def carry(self, node: str, parcel: Any) -> None:
        self.link.carry(parcel)

    def withdraw(self, node: str, parcel: Any) -> None:
        self.link.withdraw(parcel)

    def substitute(self, parcel: Any, avoid: set[str]) -> str | None:
        return None

    async def up(self) -> Links:
        await until(lambda: self.link.up, 60)
        return self

    def run(self, first: int, data: bytes = b"x", policy: Policy | None = None) -> RunParcel:
        """Frames on their way to the link's node."""
        wire = self.pool.take(frames.wire_bytes(len(data), FRAME))
        frames.build(wire, memoryview(data), first, FRAME, KEY.checksum)
        parcel = RunParcel(
            f"O{first}",
            first,
            frames.frame_count(len(data), FRAME),
            len(data),
            wire,
            (self.link.node or "p0",),
            policy or Policy(1, 1),
            self,
        )
        parcel.dispatch()
        parcel.when_settled(lambda: self.pool.give(wire))
        return parcel

    def record(self, stamp: int, body: bytes = b"a record") -> RecordParcel:
        parcel = RecordParcel(
            f"O{stamp}", stamp, body, (self.link.node or "p0",), Policy(1, 1), self
        )
        parcel.dispatch()
        return parcel


def tickets_of(version: Version) -> list[int]:
    """The ticket numbers of a version, in the order of its bytes."""
    return [ticket for stored in version.objects for ticket in _tickets(stored.extents)]


def _tickets(extents: Iterable[Any]) -> list[int]:
    return [extent.first + n for extent in extents for n in range(extent.count)]
