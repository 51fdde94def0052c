"""How many small objects a second the coordinator takes, from one asyncio process.

Starts the embedded Valkey on a free port (or takes ``--redis URL``) and drives it with many
writers, each of which begins an object, takes a stamp and commits, as a router does for a small
object. Prints rates, the cost in Redis's memory and both sides' processor time.

    python benchmarks/bench_metadata.py --writers 256 --objects 50000
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import socket
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b

import uvloop
from redis.asyncio import Redis

from common.meta.interface import Begin, Ceilings, Commit, EpochUnknown, Granted, Kind, Outcome
from common.meta.redis_store import RedisMetadata, connect
from common.meta.valkey_binary import valkey_server_path
from common.records import Extent, StoredObject, Version
from common.tickets import format_id

BUCKET = "photos"
HORIZON = 10**15


@contextmanager
def valkey(fsync: str) -> Iterator[str]:
    """The embedded server, for the time of the benchmark."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as directory:
        settings = ["--port", str(port), "--dir", directory, "--save", "", "--bind", "127.0.0.1"]
        if fsync != "none":
            settings += ["--appendonly", "yes", "--appendfsync", fsync]
        server = subprocess.Popen([valkey_server_path(), *settings], stdout=subprocess.DEVNULL)
        try:
            yield f"redis://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait()


async def establish(store: RedisMetadata) -> None:
    """Let the counters run freely."""
    lease = await store.counters.lease(Kind.OBJECTS, 1)
    assert isinstance(lease, EpochUnknown)
    await store.counters.establish(lease.epoch, Ceilings())
    await store.counters.raise_to(lease.epoch, Ceilings(HORIZON, HORIZON, 8 * HORIZON))


def version(number: int, stamp: int) -> Version:
    """A small object as a router writes it."""
    digest = blake2b(number.to_bytes(8, "big"), digest_size=32).digest()
    extent = Extent(number, 1, 1024, ("putter-4f3a9c21", "putter-77b0e1d2"))
    return Version(
        bucket=BUCKET,
        key=f"2026/05/{number % 100:02}/picture-{number:09}.jpg",
        stamp=stamp,
        size=1024,
        etag=digest[:16].hex(),
        created_ms=1_770_000_000_000,
        objects=(StoredObject(format_id(number), 1024, 65_536, digest, (extent,)),),
        headers={"content-type": "image/jpeg"},
        replicas=2,
    )


async def write(store: RedisMetadata, number: int) -> None:
    """What a small object costs the coordinator."""
    begin = Begin(
        bucket=BUCKET,
        object_id=format_id(number),
        router="router-0b9d",
        lease_ms=30_000,
        ranges=((number, 1),),
        nodes=("putter-4f3a9c21", "putter-77b0e1d2"),
    )
    await store.objects.begin(begin)
    stamp = await store.counters.lease(Kind.STAMPS, 1)
    assert isinstance(stamp, Granted), stamp
    outcome = await store.objects.commit(Commit(version(number, stamp.first), 1, 1))
    assert outcome is Outcome.PUBLISHED, outcome


async def drive(
    name: str, writers: int, count: int, task: Callable[[int], Awaitable[object]]
) -> None:
    """Run ``task`` for 0 … count - 1 from several writers and print the rate."""
    numbers = iter(range(count))

    async def writer() -> None:
        for number in numbers:
            await task(number)

    cpu = resource.getrusage(resource.RUSAGE_SELF)
    start = time.perf_counter()
    await asyncio.gather(*(writer() for _ in range(writers)))
    took = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF)
    used = after.ru_utime + after.ru_stime - cpu.ru_utime - cpu.ru_stime
    print(
        f"{name:<28} {writers:>4} at a time {count / took:>9,.0f} /s "
        f"{used / count * 1e6:>7.1f} µs of our processor each"
    )


async def server_numbers(url: str) -> tuple[int, float]:
    """Bytes of memory and processor seconds of the server."""
    client = Redis.from_url(url)
    memory, cpu = await client.info("memory"), await client.info("cpu")
    await client.aclose()
    return int(memory["used_memory"]), float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"])


async def run(url: str, writers: int, count: int) -> None:
    """All measurements."""
    store = connect(url)
    await store.wait_ready(print)
    standing = await store.recovery.standing()
    await store.recovery.begin(standing.epoch, "bench")
    await store.recovery.complete(standing, 0, "bench")
    await establish(store)
    memory, cpu = await server_numbers(url)
    await drive("begin + stamp + commit", writers, count, lambda n: write(store, n))
    memory_after, cpu_after = await server_numbers(url)
    print(
        f"{'':<28} {(memory_after - memory) / count:,.0f} bytes of Redis an object, "
        f"{(cpu_after - cpu) / count * 1e6:.1f} µs of its processor"
    )
    keys = [version(n, 0).key for n in range(count)]
    await drive("resolve", writers, count, lambda n: store.files.resolve(BUCKET, keys[n]))
    await drive(
        "hold + release",
        writers,
        count,
        lambda n: hold(store, format_id(n)),
    )
    await drive("list, pages of 1000", 4, 100, lambda _: store.files.list(BUCKET, "", "", 1000))
    await drive("begin + stamp + commit", 1, 2_000, lambda n: write(store, count + n))
    await store.close()


async def hold(store: RedisMetadata, object_id: str) -> None:
    """What a read costs on top of resolving the name."""
    await store.objects.hold(BUCKET, object_id, "router-0b9d", 30_000)
    await store.objects.release(BUCKET, object_id, "router-0b9d")


def main() -> None:
    """Read the flags and run."""
    flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    flags.add_argument("--writers", type=int, default=256)
    flags.add_argument("--objects", type=int, default=50_000)
    flags.add_argument("--fsync", choices=("none", "everysec", "always"), default="always")
    flags.add_argument("--redis", metavar="URL", default="")
    args = flags.parse_args()
    if args.redis:
        uvloop.run(run(args.redis, args.writers, args.objects))
        return
    with valkey(args.fsync) as url:
        uvloop.run(run(url, args.writers, args.objects))


if __name__ == "__main__":
    main()
