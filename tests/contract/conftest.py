"""Coordinators of all kinds for the contract suite."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import fakeredis
import pytest

from common.meta.memory import MemoryMetadata
from common.meta.redis_store import RedisMetadata
from common.meta.schema import COUNTERS, RUNS
from tests.metadata_kit import (
    LONG_MS,
    ValkeyServer,
    World,
    mark_complete,
    memory_world,
    redis_world,
    running,
    three_masters,
)

MakeWorld = Callable[..., World]


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """A real server."""
    server = ValkeyServer(tmp_path_factory.mktemp("valkey"))
    with running(server):
        yield server


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[ValkeyServer]]:
    """Three real masters."""
    directory: Path = tmp_path_factory.mktemp("cluster")
    with three_masters(directory) as servers:
        yield servers


@pytest.fixture(params=["memory", "fakeredis", "valkey", "cluster"])
async def make_world(request: pytest.FixtureRequest) -> AsyncIterator[MakeWorld]:
    """Make an empty coordinator; all of one test are on the same server."""
    stores: list[RedisMetadata] = []
    servers: list[ValkeyServer] = []
    fake = fakeredis.FakeServer(server_type="valkey")
    if request.param == "valkey":
        servers = [request.getfixturevalue("valkey")]
    elif request.param == "cluster":
        servers = request.getfixturevalue("cluster")
    for server in servers:
        assert server.ask("FLUSHALL") == "+OK\r\n"
    if servers:
        mark_complete(servers)
    else:
        client = fakeredis.FakeRedis(server=fake)
        client.hset(COUNTERS, mapping={"born": "here", "complete": "here"})
        client.zadd(RUNS, {"here": 1, "none": 1})

    def lose() -> None:
        fakeredis.FakeRedis(server=fake).flushall()
        for server in servers:
            assert server.ask("FLUSHALL") == "+OK\r\n"

    def make(
        *,
        grace_ms: int = LONG_MS,
        tombstone_ms: int = LONG_MS,
        patience_ms: int = 10_000,
        reach_ms: int = LONG_MS,
    ) -> World:
        if request.param == "memory":
            return memory_world(grace_ms, tombstone_ms, reach_ms)

        def connect() -> RedisMetadata:
            where: str | fakeredis.FakeAsyncRedis = fakeredis.FakeAsyncRedis(server=fake)
            if request.param == "valkey":
                where = servers[0].url
            elif request.param == "cluster":
                hosts = ",".join(f"127.0.0.1:{server.port}" for server in servers)
                where = f"redis+cluster://{hosts}"
            store = RedisMetadata(
                where,
                grace_ms=grace_ms,
                tombstone_ms=tombstone_ms,
                patience_ms=patience_ms,
                reach_ms=reach_ms,
            )
            stores.append(store)
            return store

        return redis_world(connect, lose)

    yield make
    for store in stores:
        await store.close()


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    """An empty coordinator with a long grace time."""
    return make_world()


@pytest.fixture
def lost_world(make_world: MakeWorld) -> World:
    """One that lost everything, and whose calls have little patience."""
    world = make_world(patience_ms=800)
    if isinstance(world.store, MemoryMetadata):
        world.store.wipe("another run")
        return world
    world.lose()
    return world
