"""What only a real server shows: restarts, slots, what is left behind, what is over the wire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from itertools import count
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.crc import key_slot

from common.errors import MetadataUnavailable
from common.meta.interface import (
    CeilingReached,
    Ceilings,
    EpochUnknown,
    Granted,
    Kind,
    Member,
    Outcome,
)
from common.meta.link import Command, SingleLink
from common.meta.recovery import Finding
from common.meta.redis_store import RedisMetadata, connect
from common.meta.schema import BUCKETS, COUNTERS, RUNS, bucket_key, bucket_keys
from tests.failover_kit import Sharded, slot_of
from tests.metadata_kit import (
    BUCKET,
    LONG_MS,
    SHORT_MS,
    ValkeyServer,
    begin,
    commit_of,
    complete,
    establish,
    granted,
    looked_after,
    mark_complete,
    publish,
    really_wait,
    running,
    stored,
    tombstone,
    version,
)

PERSISTENT = ("--appendonly", "yes", "--appendfsync", "always")


@pytest.fixture
def durable(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A server of this test's own that keeps its data."""
    server = ValkeyServer(tmp_path, *PERSISTENT)
    with running(server):
        yield server


@pytest.fixture
async def store(durable: ValkeyServer) -> AsyncIterator[RedisMetadata]:
    """The coordinator on it."""
    store = connect(durable.url, patience_ms=20_000)
    async with looked_after(store):
        yield store
    await store.close()


async def test_a_server_that_was_killed_is_waited_for(
    durable: ValkeyServer, store: RedisMetadata
) -> None:
    epoch = await establish(store)
    await store.objects.begin(begin("A"))
    durable.kill()
    commit = asyncio.ensure_future(store.objects.commit(commit_of(version("a", 10, stored("A")))))
    lease = asyncio.create_task(store.counters.lease(Kind.TICKETS, 1))
    await asyncio.sleep(0.3)
    assert not commit.done()
    durable.start()
    assert await commit is Outcome.PUBLISHED
    unknown = await lease
    assert isinstance(unknown, EpochUnknown)
    assert unknown.epoch != epoch
    assert not await store.counters.establish(epoch, Ceilings())
    assert not await store.counters.raise_to(epoch, Ceilings(9, 9, 9))
    assert await store.counters.establish(unknown.epoch, Ceilings(tickets=5))
    assert await store.counters.lease(Kind.TICKETS, 1) == Granted(5, 1)


async def test_connections_that_the_server_closed_are_not_used_again(
    durable: ValkeyServer, store: RedisMetadata
) -> None:
    await asyncio.gather(*(publish(store, version(name, 10, stored(name))) for name in "ABC"))
    for _ in range(3):
        link = store._calls._link
        assert isinstance(link, SingleLink)
        # Who looks after the store may use one of them meanwhile, and connect it anew.
        closed = [(connection, connection._writer) for connection in link._idle]
        assert closed
        assert durable.ask("CLIENT KILL TYPE normal SKIPME yes").startswith(":")
        async with asyncio.timeout(30):
            while any(each.usable and each._writer is writer for each, writer in closed):
                await asyncio.sleep(0.01)
        (reply,) = await link.run([Command((b"PING",))])
        assert reply == b"PONG", "no try is lost to a connection that is known to be closed"


async def test_a_server_that_is_killed_in_the_middle_loses_nothing_it_confirmed(
    durable: ValkeyServer, store: RedisMetadata
) -> None:
    confirmed: list[str] = []

    async def write(worker: int) -> None:
        for n in range(40):
            key = f"{worker}/{n:02}"
            object_id = f"W{worker}N{n}"
            outcome = await publish(store, version(key, 10, stored(object_id)))
            assert outcome is Outcome.PUBLISHED
            confirmed.append(key)

    writers = asyncio.gather(*(write(worker) for worker in range(20)))
    while len(confirmed) < 100:
        await asyncio.sleep(0.001)
    durable.kill()
    durable.start()
    await writers
    page = await store.files.list(BUCKET, "", "", 1000)
    assert [entry.key for entry in page.entries] == sorted(confirmed)
    assert len(confirmed) == 800
    assert await store.objects.stale(10) == []


async def test_a_question_about_the_run_before_changes_nothing(durable: ValkeyServer) -> None:
    """A call that was asked just before a restart looks after its bucket just after it."""
    store = connect(durable.url, patience_ms=1_000)
    await complete(store)
    what = version("a", 10, stored("A"))
    await publish(store, what)
    former = (await store.recovery.standing()).epoch
    durable.kill()
    durable.start()
    assert await store.recovery._admit("other", former, "-", registers=True)
    standing = await store.recovery.standing()
    assert standing.epoch != former
    assert not standing.complete
    assert await store.recovery.begin(standing.epoch, "again")
    assert await store.recovery.complete(standing, 0, "again")
    assert await store.files.resolve(BUCKET, "a") == what
    assert (await store.recovery.standing()).complete
    await store.close()


async def test_the_start_is_waited_for_with_one_line(tmp_path: Path) -> None:
    server = ValkeyServer(tmp_path)
    store = connect(f"redis://me:hunter2@127.0.0.1:{server.port}")
    told: list[str] = []
    waiting = asyncio.create_task(store.wait_ready(told.append))
    await asyncio.sleep(0.4)
    assert not waiting.done()
    (line,) = told
    assert line.startswith(f"waiting for Redis at 127.0.0.1:{server.port}: ")
    assert "hunter2" not in line
    assert "\n" not in line
    with running(server):
        server.ask("ACL SETUSER me on >hunter2 ~* +@all")
        await asyncio.wait_for(waiting, 10)
        await store.ping()
    await store.close()


async def test_patience_ends_with_the_address_and_without_the_password(tmp_path: Path) -> None:
    server = ValkeyServer(tmp_path)
    store = connect(f"redis://:hunter2@127.0.0.1:{server.port}", patience_ms=200)
    with pytest.raises(MetadataUnavailable) as caught:
        await store.ping()
    assert f"127.0.0.1:{server.port} did not answer" in caught.value.message
    assert "hunter2" not in caught.value.message
    await store.close()


async def test_a_wrong_password_is_told_at_once(tmp_path: Path) -> None:
    server = ValkeyServer(tmp_path, "--requirepass", "right")
    with running(server):
        for url in (server.url, f"redis://:wrong@127.0.0.1:{server.port}"):
            store = connect(url, patience_ms=60_000)
            with pytest.raises(MetadataUnavailable, match="refuses to work"):
                await asyncio.wait_for(store.ping(), 5)
            await store.close()
        store = connect(f"redis://:right@127.0.0.1:{server.port}")
        await store.ping()
        await store.close()


async def test_a_full_server_is_told_at_once(tmp_path: Path) -> None:
    server = ValkeyServer(tmp_path, "--maxmemory-policy", "noeviction")
    with running(server):
        store = connect(server.url, patience_ms=60_000)
        await complete(store)
        for full in (True, False):
            server.ask(f"CONFIG SET maxmemory {'1mb' if full else '0'}")
            if full:
                with pytest.raises(MetadataUnavailable, match="maxmemory"):
                    await asyncio.wait_for(publish(store, version("a", 10, stored("A"))), 5)
            else:
                assert await publish(store, version("a", 10, stored("A"))) is Outcome.PUBLISHED
        await store.close()


async def test_a_unix_socket(tmp_path: Path) -> None:
    server = ValkeyServer(tmp_path, "--unixsocket", "redis.sock")
    with running(server):
        store = connect(f"unix://{tmp_path}/redis.sock")
        await complete(store)
        assert await publish(store, version("a", 10, stored("A"))) is Outcome.PUBLISHED
        assert store.address == f"{tmp_path}/redis.sock"
        await store.close()


async def test_sentinel_names_the_master(tmp_path: Path) -> None:
    master = ValkeyServer(tmp_path)
    with running(master):
        home = tmp_path / "sentinel"
        home.mkdir()
        sentinel = ValkeyServer(home)
        (home / "sentinel.conf").write_text(
            f"port {sentinel.port}\nbind 127.0.0.1\n"
            f"sentinel monitor coordinator 127.0.0.1 {master.port} 1\n"
        )
        with running(sentinel.as_sentinel("sentinel.conf")):
            store = connect(f"redis+sentinel://127.0.0.1:{sentinel.port}/coordinator")
            await store.wait_ready(lambda _: None)
            await complete(store)
            await establish(store)
            assert await publish(store, version("a", 10, stored("A"))) is Outcome.PUBLISHED
            assert store.address == f"coordinator of Sentinel 127.0.0.1:{sentinel.port}"
            await store.close()
            assert master.ask(f"EXISTS {bucket_key(BUCKET, 'files').decode()}") == ":1\r\n"


async def test_every_script_stays_in_one_slot(cluster: list[ValkeyServer]) -> None:
    for server in cluster:
        server.ask("FLUSHALL")
    store = connect(
        "redis+cluster://" + ",".join(f"127.0.0.1:{s.port}" for s in cluster), grace_ms=0
    )
    buckets = [f"bucket-{n}" for n in range(12)]
    owners = {key_slot(bucket_key(bucket, "files")) // 5461 for bucket in buckets}
    assert owners == {0, 1, 2}
    buckets += ["@parts.bucket-1", "@uploads.bucket-1"]
    mark_complete(cluster)
    await establish(store)

    async def live(n: int, bucket: str) -> None:
        objects, files = store.objects, store.files
        name = f"A{n}"
        await publish(store, version("a", 10, stored(name), bucket=bucket))
        assert await objects.hold(bucket, name, "reader", SHORT_MS)
        await objects.release(bucket, name, "reader")
        assert await publish(store, version("a", 11, bucket=bucket)) is Outcome.PUBLISHED
        assert await files.delete(tombstone("a", 12, bucket)) is Outcome.PUBLISHED
        await objects.begin(begin(f"B{n}", bucket=bucket))
        assert await objects.fail(bucket, f"B{n}")
        assert await files.list(bucket, "", "", 10)

    await asyncio.gather(*(live(n, bucket) for n, bucket in enumerate(buckets)))
    await really_wait(2)
    freed = await store.objects.to_free(100)
    assert len(freed) == 2 * len(buckets)
    assert await store.objects.stale(100) == []
    await asyncio.gather(*(store.objects.forget(each.bucket, each.object_id) for each in freed))
    assert await store.objects.to_free(100) == []
    assert await store.leases.acquire("janitor", "me", LONG_MS)
    await store.leases.release("janitor", "me")
    await store.members.heartbeat(Member("n", "putter", "i", "127.0.0.1", 1))
    assert len(await store.members.seen()) == 1
    await store.members.leave("n")
    assert await store.files.buckets() == sorted(buckets)
    for server in cluster:
        info = server.ask("INFO keyspace")
        assert "keys=" in info
    await store.close()


async def test_a_slot_that_moves_is_followed(cluster: list[ValkeyServer]) -> None:
    for server in cluster:
        server.ask("FLUSHALL")
    hosts = ",".join(f"127.0.0.1:{server.port}" for server in cluster)
    store = connect(f"redis+cluster://{hosts}")
    buckets = [f"moving-{n}" for n in range(6)]
    written: list[tuple[str, str]] = []

    async def write(worker: int) -> None:
        for n in range(30):
            bucket, key = buckets[(worker + n) % 5], f"{worker}/{n}"
            what = version(key, 10, stored(f"W{worker}N{n}"), bucket=bucket)
            assert await publish(store, what) is Outcome.PUBLISHED
            written.append((bucket, key))

    async with looked_after(store):
        await follow(store, cluster, buckets, write)
    found = await asyncio.gather(*(store.files.resolve(*each) for each in written))
    assert len(found) == 300
    assert all(found)
    await store.close()


async def follow(
    store: RedisMetadata,
    cluster: list[ValkeyServer],
    buckets: list[str],
    write: Callable[[int], Coroutine[None, None, None]],
) -> None:
    """Move the slot of the last bucket about while the others are written to."""
    writers = asyncio.gather(*(write(worker) for worker in range(10)))
    for _ in range(3):
        await asyncio.sleep(0.02)
        move_slot(cluster, key_slot(bucket_key(buckets[5], "files")), buckets[5])
        assert await publish(store, version("a", 10, bucket=buckets[5])) is Outcome.PUBLISHED
        await store.files.delete(tombstone("a", 11, buckets[5]))
        for server in cluster:
            server.ask("DEL " + " ".join(key.decode() for key in bucket_keys(buckets[5])))
    await writers


def move_slot(cluster: list[ValkeyServer], slot: int, bucket: str) -> None:
    """Give an empty slot to another master."""
    nodes = [server.ask("CLUSTER MYID").split()[1] for server in cluster]
    owner = next(
        n
        for n, server in enumerate(cluster)
        if not server.ask(f"EXISTS {slot_tag(slot)}").startswith("-MOVED")
    )
    heir = (owner + 1) % len(cluster)
    for n in (heir, owner, (owner + 2) % len(cluster)):
        for _ in range(10):
            # The bucket in it may have been marked as complete a moment ago.
            if n == owner:
                cluster[n].ask("DEL " + " ".join(key.decode() for key in bucket_keys(bucket)))
            if cluster[n].ask(f"CLUSTER SETSLOT {slot} NODE {nodes[heir]}") == "+OK\r\n":
                break
        else:
            raise AssertionError("the slot does not move")


def slot_tag(slot: int) -> str:
    """A word in this slot."""
    return next(str(n) for n in count() if key_slot(str(n).encode()) == slot)


async def test_a_life_leaves_nothing_behind(valkey: ValkeyServer) -> None:
    valkey.ask("FLUSHALL")
    store = RedisMetadata(valkey.url, grace_ms=0, tombstone_ms=0)
    await complete(store)
    parts = [stored(name, 10) for name in "ABC"]
    await publish(store, version("a", 10, *parts))
    await publish(store, version("a", 11, stored("D")))
    await store.objects.hold(BUCKET, "D", "silent", 1)
    await store.objects.begin(begin("E"))
    await store.objects.fail(BUCKET, "E")
    await store.files.delete(tombstone("a", 12))
    await really_wait(5)
    for each in await store.objects.to_free(100):
        await store.objects.forget(each.bucket, each.object_id)
    assert await store.objects.to_free(100) == []
    client = Redis.from_url(valkey.url)
    left = await client.keys("*")
    await client.aclose()
    assert sorted(left) == sorted([BUCKETS, COUNTERS, RUNS, bucket_key(BUCKET, "bucket")])
    await store.close()


async def test_an_object_costs_a_few_hundred_bytes(valkey: ValkeyServer) -> None:
    valkey.ask("FLUSHALL")
    store = connect(valkey.url)
    await complete(store)
    client = Redis.from_url(valkey.url)
    before = (await client.info("memory"))["used_memory"]
    objects = 3000
    await asyncio.gather(
        *(publish(store, version(f"picture-{n:06}", 10, stored(f"A{n}"))) for n in range(objects))
    )
    after = (await client.info("memory"))["used_memory"]
    assert (after - before) / objects < 600
    await client.aclose()
    await store.close()


async def test_many_calls_need_few_round_trips(valkey: ValkeyServer) -> None:
    valkey.ask("FLUSHALL")
    store = connect(valkey.url)
    await complete(store)
    client = Redis.from_url(valkey.url)
    await establish(store)
    assert await publish(store, version("a", 10, stored("A"))) is Outcome.PUBLISHED
    await client.config_resetstat()
    leases = await asyncio.gather(*(store.counters.lease(Kind.STAMPS, 1) for _ in range(500)))
    assert len({granted(lease).first for lease in leases}) == 500
    assert await asyncio.gather(*(store.files.resolve(BUCKET, "a") for _ in range(500)))
    stats = await client.info("commandstats")
    await client.aclose()
    await store.close()
    calls = sum(
        stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("eval", "evalsha", "hmget")
    )
    assert calls <= 6, stats


async def test_another_client_may_be_given(valkey: ValkeyServer) -> None:
    valkey.ask("FLUSHALL")
    store = RedisMetadata(Redis.from_url(valkey.url))
    assert store.address == f"127.0.0.1:{valkey.port}"
    await establish(store, Ceilings())
    assert isinstance(await store.counters.lease(Kind.OBJECTS, 1), CeilingReached)
    await store.close()


async def test_a_shard_that_forgot_is_noticed(cluster: list[ValkeyServer]) -> None:
    for server in cluster:
        server.ask("FLUSHALL")
    mark_complete(cluster)
    hosts = ",".join(f"127.0.0.1:{server.port}" for server in cluster)
    store = connect(f"redis+cluster://{hosts}", patience_ms=3_000)
    buckets = [f"bucket-{n}" for n in range(12)]
    versions = [
        version("a", 10, stored(f"A{n}"), bucket=bucket) for n, bucket in enumerate(buckets)
    ]
    for what in versions:
        assert await publish(store, what) is Outcome.PUBLISHED
    counters = key_slot(COUNTERS) // 5461
    victim = (counters + 1) % 3
    lost = [b for b in buckets if key_slot(bucket_key(b, "files")) // 5461 == victim]
    assert lost
    cluster[victim].ask("FLUSHALL")
    for bucket in lost:
        with pytest.raises(MetadataUnavailable):
            await store.files.resolve(bucket, "a")
    standing = await store.recovery.standing()
    assert not standing.complete
    assert not standing.fresh
    assert set(standing.lost) == set(lost)
    assert await store.recovery.begin(standing.epoch, "again")
    await store.recovery.restore([Finding(what) for what in versions], anew=True)
    assert await store.recovery.complete(standing, 0, "again")
    for what in versions:
        assert await store.files.resolve(what.bucket, "a") == what
    assert (await store.recovery.standing()).complete
    await store.close()


async def test_a_shard_in_another_run_has_to_be_completed(cluster: list[ValkeyServer]) -> None:
    for server in cluster:
        server.ask("FLUSHALL")
    mark_complete(cluster)
    hosts = ",".join(f"127.0.0.1:{server.port}" for server in cluster)
    store = connect(f"redis+cluster://{hosts}", patience_ms=1_000)
    what = version("a", 10, stored("A"))
    await publish(store, what)
    for server in cluster:
        server.ask(f"HSET {bucket_key(BUCKET, 'bucket').decode()} run before")
        server.ask("ZADD putter:{counters}:runs 7 before")
    with pytest.raises(MetadataUnavailable, match="brought up to date"):
        await store.files.resolve(BUCKET, "a")
    standing = await store.recovery.standing()
    assert not standing.complete
    assert standing.sharded
    assert await store.recovery.begin(standing.epoch, "again")
    assert await store.recovery.complete(standing, 0, "again")
    assert await store.files.resolve(BUCKET, "a") == what
    await store.close()


async def test_a_bucket_that_moves_is_completed_by_whoever_looks_after_it(
    cluster: list[ValkeyServer],
) -> None:
    for server in cluster:
        server.ask("FLUSHALL")
    mark_complete(cluster)
    shards = Sharded(cluster, [])
    store = connect(shards.url, patience_ms=20_000)
    what = version("a", 10, stored("A"))
    async with looked_after(store):
        await publish(store, what)
        home = cluster.index(shards.owner(slot_of(BUCKET)))
        # One of them keeps the counters, too; in the end it is where it was.
        for step in (1, 2, 3):
            shards.move(BUCKET, cluster[(home + step) % 3])
            assert await store.files.resolve(BUCKET, "a") == what
    await store.close()


async def test_a_server_that_wants_replicas_and_has_none_is_waited_for(tmp_path: Path) -> None:
    server = ValkeyServer(tmp_path)
    with running(server):
        store = connect(server.url, patience_ms=60_000)
        await complete(store)
        await establish(store)
        assert server.ask("CONFIG SET min-replicas-to-write 1") == "+OK\r\n"
        waiting = asyncio.create_task(publish(store, version("a", 10, stored("A"))))
        lease = asyncio.create_task(store.counters.lease(Kind.TICKETS, 1))
        while server.ask("INFO errorstats").count("errorstat_NOREPLICAS") == 0:
            await asyncio.sleep(0.01)
        assert not waiting.done()
        assert server.ask("CONFIG SET min-replicas-to-write 0") == "+OK\r\n"
        assert await waiting is Outcome.PUBLISHED
        granted(await lease)
        await store.close()
