"""What the tests of the coordinator share: records to write, and servers to write them to."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from common.clock import ManualClock
from common.errors import PutterError
from common.meta.interface import (
    Begin,
    CeilingReached,
    Ceilings,
    Commit,
    EpochUnknown,
    Granted,
    Kind,
    Metadata,
    Outcome,
)
from common.meta.memory import MemoryMetadata
from common.meta.outbox import Post
from common.meta.redis_store import RedisMetadata
from common.meta.valkey_binary import valkey_server_path
from common.records import KEYS_BUCKET, AccessKey, Extent, StoredObject, Tombstone, Version

BUCKET = "photos"
LONG_MS = 60_000
SHORT_MS = 30
PLENTY = Ceilings(10**12, 10**12, 4 * 10**15)


@dataclass
class World:
    """A coordinator, and a way to let its time pass.

    Attributes:
        store: the coordinator.
        other: the same one as another process sees it.
        pass_time: let so many milliseconds pass on its clock.
        lose: lose everything, in the same run.
    """

    store: Metadata
    other: Metadata
    pass_time: Callable[[int], Awaitable[None]]
    lose: Callable[[], None]


def memory_world(grace_ms: int, tombstone_ms: int, reach_ms: int) -> World:
    clock = ManualClock()
    store = MemoryMetadata(clock, grace_ms=grace_ms, tombstone_ms=tombstone_ms, reach_ms=reach_ms)

    async def advance(ms: int) -> None:
        clock.advance(ms)

    return World(store, store, advance, store.wipe)


def redis_world(connect: Callable[[], RedisMetadata], lose: Callable[[], None]) -> World:
    return World(connect(), connect(), really_wait, lose)


async def really_wait(ms: int) -> None:
    await asyncio.sleep((ms + 5) / 1000)


def access_key(
    stamp: int, key: str = "AK", *, sealed: bytes = b"\0\xff sealed", owner: str = "root"
) -> AccessKey:
    rights = {"photos": "read", "ledger": "write"}
    return AccessKey(
        KEYS_BUCKET, key, stamp, 1_700_000_000_000 + stamp, sealed, "0a1b2c3d", owner, True, rights
    )


def begin(
    object_id: str = "A",
    *,
    bucket: str = BUCKET,
    router: str = "r1",
    lease_ms: int = LONG_MS,
    ranges: tuple[tuple[int, int], ...] = ((100, 2),),
    nodes: tuple[str, ...] = ("n1", "n2"),
) -> Begin:
    return Begin(bucket, object_id, router, lease_ms, ranges, nodes)


def stored(
    object_id: str = "A", first: int = 100, nodes: tuple[str, ...] = ("n1", "n2")
) -> StoredObject:
    """An object of two tickets and 1500 bytes."""
    return StoredObject(object_id, 1500, 1458, b"\xff" * 32, (Extent(first, 2, 1500, nodes),))


def version(
    key: str = "cat.jpg",
    stamp: int = 10,
    *objects: StoredObject,
    bucket: str = BUCKET,
    etag: str = "e-tag",
) -> Version:
    return Version(
        bucket=bucket,
        key=key,
        stamp=stamp,
        size=sum(each.size for each in objects),
        etag=etag,
        created_ms=1_700_000_000_000 + stamp,
        objects=objects,
        headers={"content-type": "image/jpeg"},
        replicas=2,
    )


def commit_of(
    what: Version, if_match: str | None = None, replaces: int = 0, post: Post | None = None
) -> Commit:
    tickets = sum(each.tickets for each in what.objects)
    return Commit(what, tickets, tickets, if_match, replaces, post)


def tombstone(
    key: str = "cat.jpg", stamp: int = 20, bucket: str = BUCKET, of: int = 0
) -> Tombstone:
    return Tombstone(bucket, key, stamp, 1_700_000_000_000, of)


async def publish(store: Metadata, what: Version) -> Outcome:
    """Begin all objects of a version and commit it."""
    for each in what.objects:
        await store.objects.begin(begin(each.object_id, bucket=what.bucket))
    return await store.objects.commit(commit_of(what))


async def establish(store: Metadata, ceilings: Ceilings = PLENTY) -> str:
    """Make the counters of a fresh coordinator usable."""
    unknown = await store.counters.lease(Kind.OBJECTS, 1)
    assert isinstance(unknown, EpochUnknown)
    assert await store.counters.establish(unknown.epoch, Ceilings())
    assert await store.counters.raise_to(unknown.epoch, ceilings)
    return unknown.epoch


def granted(lease: Granted | CeilingReached | EpochUnknown) -> Granted:
    assert isinstance(lease, Granted), lease
    return lease


class ValkeyServer:
    """A real valkey-server of 127.0.0.1 that can be stopped, killed and started again."""

    def __init__(self, directory: Path, *settings: str) -> None:
        self.directory = directory
        self.port = free_port()
        self._settings = ("--port", str(self.port), "--bind", "127.0.0.1", "--save", "", *settings)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        with (self.directory / f"{self.port}.log").open("ab") as log:
            self._process = subprocess.Popen(
                [valkey_server_path(), *self._settings],
                cwd=self.directory,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 10
        while not self.answers():
            assert self._process.poll() is None, "valkey-server ended at its start"
            assert time.monotonic() < deadline, "valkey-server does not answer"
            time.sleep(0.02)

    def as_sentinel(self, config: str) -> ValkeyServer:
        """Run as a Sentinel with this configuration file instead."""
        self._settings = (config, "--sentinel")
        return self

    def answers(self) -> bool:
        try:
            return self.ask("PING").startswith(("+PONG", "-NOAUTH"))
        except OSError:
            return False

    def ask(self, command: str) -> str:
        """One inline command; its short reply."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as client:
            client.sendall(command.encode() + b"\r\n")
            return client.recv(65_536).decode()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def role(self) -> str:
        """``master`` or ``slave``, as it says itself; "" if it cuts the line."""
        try:
            told = self.ask("INFO replication")
        except OSError:
            return ""
        return "".join(re.findall(r"role:(\w+)", told))

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def forget(self) -> None:
        """Lose everything that it wrote, while it is down."""
        shutil.rmtree(self.directory / "appendonlydir")

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            self._process.wait()


def _mine() -> Iterator[int]:
    """Ports below those that the system gives to outgoing connections, in turn.

    Each of the processes that run tests beside each other has a part of its own.
    """
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    size = (_PORTS[1] - _PORTS[0]) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    first = _PORTS[0] + number * size
    start = random.randrange(size)
    return itertools.cycle(first + (start + n) % size for n in range(size))


_PORTS = (12_000, 22_000)
_next_ports = _mine()


def free_port() -> int:
    """A port that nobody uses, nor its neighbour 10 000 above (the bus of a cluster).

    Whoever gets it may open it later: the same one comes again only after all others.
    """
    for port in _next_ports:
        with socket.socket() as probe, socket.socket() as bus:
            try:
                probe.bind(("127.0.0.1", port))
                bus.bind(("127.0.0.1", port + 10_000))
            except OSError:
                continue
            return port
    raise AssertionError("every port is taken")


@contextmanager
def running(*servers: ValkeyServer) -> Iterator[None]:
    """The servers, for a while."""
    try:
        for server in servers:
            server.start()
        yield
    finally:
        for server in servers:
            server.stop()


CLUSTER_SETTINGS = (
    "--cluster-enabled",
    "yes",
    "--cluster-announce-ip",
    "127.0.0.1",
    "--cluster-node-timeout",
    "5000",
)


@contextmanager
def three_masters(directory: Path) -> Iterator[list[ValkeyServer]]:
    """A cluster of three masters."""
    servers = []
    for number in range(3):
        home = directory / str(number)
        home.mkdir()
        servers.append(ValkeyServer(home, *CLUSTER_SETTINGS))
    with running(*servers):
        for server, (low, high) in zip(
            servers, [(0, 5460), (5461, 10922), (10923, 16383)], strict=True
        ):
            assert server.ask(f"CLUSTER ADDSLOTSRANGE {low} {high}") == "+OK\r\n"
            server.ask(f"CLUSTER SET-CONFIG-EPOCH {servers.index(server) + 1}")
            server.ask(f"CLUSTER MEET 127.0.0.1 {servers[0].port}")
        deadline = time.monotonic() + 30
        while not all(
            "cluster_state:ok" in (info := server.ask("CLUSTER INFO"))
            and "cluster_known_nodes:3" in info
            for server in servers
        ):
            assert time.monotonic() < deadline, "the cluster does not form"
            time.sleep(0.05)
        yield servers


def mark_complete(servers: Sequence[ValkeyServer]) -> None:
    """Say of an empty server, or cluster, that nothing has to be brought back."""
    runs = []
    for server in servers:
        (run,) = re.findall(r"run_id:(\w+)", server.ask("INFO server"))
        runs.append(run)
    for server, run in zip(servers, runs, strict=True):
        if server.ask(f"HSET putter:{{counters}} complete {run}").startswith(":"):
            for each in runs:
                assert server.ask(f"ZADD putter:{{counters}}:runs 1 {each}").startswith(":")
            return
    raise AssertionError("nobody owns the counters")


async def complete(store: Metadata) -> None:
    """The same, by the front door."""
    standing = await store.recovery.standing()
    assert await store.recovery.begin(standing.epoch, "test")
    assert await store.recovery.complete(standing, 0, "test")


@asynccontextmanager
async def looked_after(store: Metadata) -> AsyncIterator[None]:
    """Somebody for whom nothing is ever lost says so whenever the coordinator asks."""

    async def look() -> None:
        while True:
            with suppress(PutterError):
                if not (await store.recovery.standing()).complete:
                    await complete(store)
            await asyncio.sleep(0.02)

    task = asyncio.create_task(look())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
