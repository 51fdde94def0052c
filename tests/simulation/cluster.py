"""A whole store on virtual time: the real router and putter code, everything around it a twin.

Processes are contexts of one event loop. To crash one means: its connections vanish, its tasks are
cancelled, what it then still tries to tell the coordinator or the disk goes nowhere, and its disk
forgets what was not synced.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from common.errors import PutterError
from common.keys import ClusterKey, Keyring
from common.limits import FRAME_DATA_BYTES_MIN, MIB, REPLACE_AFTER_S
from common.membership import Decision
from common.meta.memory import MemoryMetadata
from common.meta.repairs import REACH_MS
from common.twins.network import MemoryNetwork
from common.wire.handshake import Identity
from putter.node.app import NodeOptions, PutterNode
from putter.node.verify import frames_verifier
from putter.storage.memory_disk import MemoryDisk
from putter.storage.segments.engine import SegmentsEngine
from putter.storage.tree import TreeEngine
from router.app import Router
from router.blocks import ChunkSource
from router.catchup import CatchUp, CatchUpOptions
from router.options import RouterOptions
from router.quorum import Policy
from router.targets import Target, Written
from tests.simulation.loop import PROCESS, World
from tests.simulation.view import View

T = TypeVar("T")
KEY = ClusterKey.from_material(bytes(range(32)))
PUTTER_PORT = 5000
INGEST_PORT = 5001
ACK_PORT = 5002
SEGMENT_BYTES = 4 * MIB
REPLICA_AWAY_MS = 8_000
"""Shorter than some partitions, longer than others."""


class ProcessDead(Exception):
    """Raised in what is left of a crashed process."""


@dataclass
class SimPutter:
    name: str
    disk: MemoryDisk = field(default_factory=MemoryDisk)
    node: PutterNode | None = None
    view: View | None = None
    engine: TreeEngine | SegmentsEngine | None = None
    starts: int = 0
    wipes: int = 0

    @property
    def identity(self) -> str:
        """Of its data directory: another one after each loss."""
        return f"{self.name}-{self.wipes}" if self.wipes else self.name


@dataclass
class SimRouter:
    name: str
    router: Router | None = None
    view: View | None = None
    starts: int = 0


class Cluster:
    """Putters, routers, a coordinator and the wires between them.

    Args:
        world: time and chance.
        putters, routers: how many.
        policy: N, W, consistency.
        storage: ``tree`` or ``segments``.
        frame_bytes: data bytes of a frame.
        replace_after_ms: how long a putter may be away before others get copies.
        reach_ms: how long what a putter was sent is kept there until a description says so.
    """

    def __init__(
        self,
        world: World,
        *,
        putters: int,
        routers: int,
        policy: Policy,
        storage: str = "tree",
        frame_bytes: int = FRAME_DATA_BYTES_MIN,
        replace_after_ms: int = REPLACE_AFTER_S * 1000,
        reach_ms: int = REACH_MS,
    ) -> None:
        self.world = world
        self._storage = storage
        self._frame_bytes = frame_bytes
        self._replace_after_ms = replace_after_ms
        self.policy = policy
        self.rng = random.Random(world.random.random())
        self.network = MemoryNetwork(random.Random(world.random.random()))
        self.meta = MemoryMetadata(
            world.clock,
            epoch="run-1",
            grace_ms=1_000,
            reach_ms=reach_ms,
            travel=self._to_the_coordinator,
        )
        self.epochs = 1
        self.putters = [SimPutter(f"putter{n}") for n in range(putters)]
        self.routers = [SimRouter(f"router{n}") for n in range(routers)]
        self.trace: list[str] = []

    async def start(self) -> None:
        for putter in self.putters:
            await self.start_putter(putter)
        for router in self.routers:
            await self.start_router(router)

    # -- processes -------------------------------------------------------------------------

    async def start_putter(self, putter: SimPutter) -> None:
        putter.starts += 1
        putter.view = View(self.meta)
        putter.disk.before = lambda operation, path: None
        putter.engine = self.open_engine(putter)
        executor = cast(ThreadPoolExecutor, None)  # the loop runs everything inline
        putter.node = PutterNode(
            NodeOptions(host=putter.name, port=PUTTER_PORT, advertise_host=putter.name),
            Identity(
                putter.identity, f"{putter.identity}.{putter.starts}", "sim", putter.engine.layout
            ),
            putter.engine,
            Keyring([KEY]),
            self.network.host(putter.name),
            cast(Any, putter.view),
            random.Random(self.rng.random()),
            disk_thread=executor,
            readers=executor,
            starts=putter.starts,
        )
        await self._in_process(putter.name, putter.node.start)
        self.note(f"start {putter.name}")

    async def crash_putter(self, putter: SimPutter) -> None:
        self.note(f"crash {putter.name}")
        assert putter.view is not None
        putter.view.alive = False
        putter.disk.before = _dead
        await self._kill(putter.name)
        putter.disk.before = lambda operation, path: None
        putter.disk.crash(self.rng)
        putter.node = None

    async def wipe_putter(self, putter: SimPutter) -> None:
        """It dies, and its disk with it; the next start is that of a new node."""
        await self.crash_putter(putter)
        self.note(f"wipe {putter.name}")
        putter.disk = MemoryDisk()
        putter.wipes += 1
        putter.starts = 0

    def open_engine(self, putter: SimPutter) -> TreeEngine | SegmentsEngine:
        """The engine on a putter's disk, as a start finds it."""
        if self._storage == "tree":
            return TreeEngine(putter.disk, identity=putter.identity)
        return SegmentsEngine(
            putter.disk,
            identity=putter.identity,
            segment_bytes=SEGMENT_BYTES,
            verify=frames_verifier(Keyring([KEY])),
            random_bytes=random.Random(self.rng.random()).randbytes,
        )

    async def start_router(self, router: SimRouter) -> None:
        router.starts += 1
        router.view = View(self.meta)
        instance = f"{router.name}.{router.starts}"
        router.router = Router(
            RouterOptions(
                host=router.name,
                ingest_port=INGEST_PORT,
                ack_port=ACK_PORT,
                web_port=None,
                advertise_host=router.name,
                policy=self.policy,
                frame_bytes=self._frame_bytes,
                replica_away_ms=REPLICA_AWAY_MS,
                replace_after_ms=self._replace_after_ms,
            ),
            Identity(instance, instance, "sim"),
            Keyring([KEY]),
            self.network.host(router.name),
            cast(Any, router.view),
            self.world.clock,
            random.Random(self.rng.random()),
        )
        await self._in_process(router.name, router.router.start)
        self.note(f"start {router.name}")

    async def crash_router(self, router: SimRouter) -> None:
        self.note(f"crash {router.name}")
        assert router.view is not None
        router.view.alive = False
        await self._kill(router.name)
        router.router = None

    async def stop(self) -> None:
        for router in self.routers:
            if router.router is not None:
                await self._in_process(router.name, router.router.stop)
        for putter in self.putters:
            if putter.node is not None:
                await self._in_process(putter.name, putter.node.stop)
                putter.node = None

    def restart_coordinator(self) -> None:
        """A clean restart: nothing is lost, but it is another run."""
        self.epochs += 1
        self.note(f"coordinator run {self.epochs}")
        self.meta.restart(f"run-{self.epochs}")

    async def lose_last_seconds(self, seconds: float) -> None:
        """A restart after which everything since some seconds ago is forgotten."""
        kept = self.meta.snapshot()
        await asyncio.sleep(seconds)
        self.epochs += 1
        self.note(f"coordinator forgets {seconds:.3f} s, run {self.epochs}")
        self.meta.restore(kept, f"run-{self.epochs}")

    def lose_everything(self, *, same_run: bool) -> None:
        """FLUSHALL, or an empty server in place of the one before."""
        self.epochs += not same_run
        self.note(f"coordinator forgets everything, run {self.epochs}")
        self.meta.wipe(f"run-{self.epochs}")

    async def give_up(self, node: str) -> bool:
        """What an operator does about a disk that is lost: declare its putter gone for good.

        Where a coordinator that lost everything does not know it, it is rebuilt without it.

        Returns:
            Whether that is durable.
        """

        async def decide(inside: Router) -> bool:
            if await self.meta.members.declare(node, Decision.GONE):
                await inside.catch_up.decided()
                return True
            options = CatchUpOptions(without=frozenset({node}))
            rng = random.Random(self.rng.random())
            meta = cast(Any, View(self.meta))
            return await CatchUp(meta, inside.fleet, "operator", rng, options).step()

        try:
            return bool(await self.call(self.rng.choice(self.routers), decide))
        except PutterError:
            return False

    def note(self, what: str) -> None:
        self.trace.append(f"{self.world.clock.monotonic_ms()} {what}")

    # -- clients ---------------------------------------------------------------------------

    async def send(self, router: SimRouter, data: bytes) -> str:
        """One raw stream from the host ``client``; the line that came back, "" if none did."""
        done: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        try:
            transport, _ = await self.network.host("client").connect(
                lambda: _Client(data, done, self.rng), router.name, INGEST_PORT, timeout_ms=3_000
            )
        except PutterError:
            return ""
        try:
            async with asyncio.timeout(120):
                return await done
        except TimeoutError:
            transport.abort()
            return ""

    async def write(self, router: SimRouter, data: bytes, target: Target) -> Written | None:
        """One file through a door that names it; None if the router died meanwhile.

        Raises:
            PutterError: it failed.
        """

        async def put(inside: Router) -> Written:
            source = ChunkSource(_chunks(data), inside.writes.filler())
            try:
                return await inside.writes.write(source, target)
            finally:
                source.close()

        return await self.call(router, put)

    async def call(self, router: SimRouter, work: Callable[[Router], Awaitable[T]]) -> T | None:
        """Something that a door of the router does; None if the router died meanwhile.

        Raises:
            PutterError: it failed.
        """
        inside = router.router
        if inside is None or router.view is None or not router.view.alive:
            return None

        async def run() -> T:
            return await work(inside)

        try:
            done: T = await self._in_process(router.name, run)
        except asyncio.CancelledError:
            return None
        return done

    # -- inside ----------------------------------------------------------------------------

    async def _to_the_coordinator(self) -> None:
        await asyncio.sleep(self.rng.uniform(0.000_05, 0.002))

    async def _in_process(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        context = copy_context()
        context.run(PROCESS.set, name)

        async def run() -> Any:
            return await call()

        return await asyncio.get_running_loop().create_task(run(), context=context)

    async def _kill(self, name: str) -> None:
        self.network.crash(name)
        for _ in range(10):
            left = self.world.loop.tasks(name)
            if not left:
                return
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
        raise AssertionError(f"{name} does not die: {left}")


async def _chunks(data: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(data), 100_000):
        await asyncio.sleep(0.001)
        yield data[at : at + 100_000]


def _dead(operation: str, path: str) -> None:
    raise OSError(5, f"the process is dead: {operation} {path}")


class _Client(asyncio.Protocol):
    """Sends in uneven parts, half-closes, and waits for a line."""

    def __init__(self, data: bytes, done: asyncio.Future[str], rng: random.Random) -> None:
        self._data = data
        self._done = done
        self._rng = rng
        self._line = b""
        self._task: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._task = asyncio.get_running_loop().create_task(self._send())

    async def _send(self) -> None:
        left = memoryview(self._data)
        while left and not self._transport.is_closing():
            size = self._rng.choice((1, 100, 1458, 20_000, 100_000))
            self._transport.write(bytes(left[:size]))
            left = left[size:]
            await self._writable.wait()
            if self._rng.random() < 0.05:
                await asyncio.sleep(self._rng.uniform(0, 0.05))
        if not self._transport.is_closing():
            self._transport.write_eof()

    def data_received(self, data: bytes) -> None:
        self._line += data

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._writable.set()
        if not self._done.done():
            self._done.set_result(self._line.decode())

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()
