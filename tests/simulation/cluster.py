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
from typing import Any, cast

from common.errors import MetadataUnavailable, PutterError
from common.keys import ClusterKey, Keyring
from common.meta.memory import MemoryMetadata
from common.twins.network import MemoryNetwork
from common.wire.handshake import Identity
from putter.node.app import NodeOptions, PutterNode
from putter.storage.memory_disk import MemoryDisk
from putter.storage.tree import TreeEngine
from router.app import Router, RouterOptions
from router.blocks import ChunkSource
from router.quorum import Policy
from router.targets import Target, Written
from tests.simulation.loop import PROCESS, World

KEY = ClusterKey.from_material(bytes(range(32)))
PUTTER_PORT = 5000
INGEST_PORT = 5001
ACK_PORT = 5002
FRAME_BYTES = 1458
REPLICA_AWAY_MS = 8_000
"""Shorter than some partitions, longer than others."""


class ProcessDead(Exception):
    """Raised in what is left of a crashed process."""


class _Noun:
    """One repository of the coordinator as a process sees it."""

    def __init__(self, target: Any, view: _View) -> None:
        self._target = target
        self._view = view

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._target, name)

        async def call(*args: Any, **named: Any) -> Any:
            self._view.check()
            for attempt in range(100):
                try:
                    result = await method(*args, **named)
                except MetadataUnavailable:
                    # What the client of a real coordinator does within its patience.
                    self._view.check()
                    if attempt == 99:
                        raise
                    await asyncio.sleep(0.1)
                else:
                    self._view.check()
                    return result
            raise AssertionError

        return call


class _Recovery(_Noun):
    def refuse(self, reason: object) -> None:
        """Each process has its own."""


class _View:
    """The coordinator as one process sees it: gone once the process is dead."""

    def __init__(self, target: MemoryMetadata) -> None:
        self.alive = True
        self.counters = _Noun(target.counters, self)
        self.objects = _Noun(target.objects, self)
        self.files = _Noun(target.files, self)
        self.claims = _Noun(target.claims, self)
        self.members = _Noun(target.members, self)
        self.leases = _Noun(target.leases, self)
        self.repairs = _Noun(target.repairs, self)
        self.handoff = _Noun(target.handoff, self)
        self.recovery = _Recovery(target.recovery, self)

    def check(self) -> None:
        if not self.alive:
            raise MetadataUnavailable("this process is dead")


@dataclass
class SimPutter:
    name: str
    disk: MemoryDisk = field(default_factory=MemoryDisk)
    node: PutterNode | None = None
    view: _View | None = None
    engine: TreeEngine | None = None
    starts: int = 0


@dataclass
class SimRouter:
    name: str
    router: Router | None = None
    view: _View | None = None
    starts: int = 0


class Cluster:
    """Putters, routers, a coordinator and the wires between them."""

    def __init__(self, world: World, *, putters: int, routers: int, policy: Policy) -> None:
        self.world = world
        self.policy = policy
        self.rng = random.Random(world.random.random())
        self.network = MemoryNetwork(random.Random(world.random.random()))
        self.meta = MemoryMetadata(
            world.clock, epoch="run-1", grace_ms=1_000, travel=self._to_the_coordinator
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
        putter.view = _View(self.meta)
        putter.disk.before = lambda operation, path: None
        putter.engine = TreeEngine(putter.disk, identity=putter.name)
        executor = cast(ThreadPoolExecutor, None)  # the loop runs everything inline
        putter.node = PutterNode(
            NodeOptions(host=putter.name, port=PUTTER_PORT, advertise_host=putter.name),
            Identity(putter.name, f"{putter.name}.{putter.starts}", "sim", "tree"),
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

    async def start_router(self, router: SimRouter) -> None:
        router.starts += 1
        router.view = _View(self.meta)
        instance = f"{router.name}.{router.starts}"
        router.router = Router(
            RouterOptions(
                host=router.name,
                ingest_port=INGEST_PORT,
                ack_port=ACK_PORT,
                web_port=None,
                advertise_host=router.name,
                policy=self.policy,
                frame_bytes=FRAME_BYTES,
                replica_away_ms=REPLICA_AWAY_MS,
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
        if router.router is None or router.view is None or not router.view.alive:
            return None
        path = router.router.writes

        async def put() -> Written:
            source = ChunkSource(_chunks(data), path.filler())
            try:
                return await path.write(source, target)
            finally:
                source.close()

        try:
            written: Written = await self._in_process(router.name, put)
        except asyncio.CancelledError:
            return None
        return written

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
