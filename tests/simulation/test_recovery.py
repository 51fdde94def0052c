"""Seeded chaos on a Redis that forgets: its last seconds, or everything, at any moment.

Beside what `test_write_path` does: the coordinator goes back to an earlier moment, or is wiped in
the same run or a new one, while putters and routers come and go.
"""

from __future__ import annotations

import asyncio
import os
import random

import pytest

from common import records
from common.checksum import object_digest
from common.records import Members, Version
from router.quorum import Policy
from tests.simulation.cluster import Cluster
from tests.simulation.loop import World, run
from tests.simulation.test_write_path import History, client

SEEDS = range(
    int(os.environ.get("PUTTER_SEEDS", "0")) or (1_000 if os.environ.get("PUTTER_SOAK") else 12)
)
HEALING_S = 150.0
SWEEPING_S = 250.0
"""A look once a minute, and two minutes between two walks."""


async def chaos(cluster: Cluster, rng: random.Random, calamities: int) -> None:
    for _ in range(calamities):
        await asyncio.sleep(rng.uniform(0.05, 2.0))
        match rng.randrange(7):
            case 0:
                victim = rng.choice(cluster.putters)
                if victim.node is not None:
                    await cluster.crash_putter(victim)
                    await asyncio.sleep(rng.choice((0.01, 0.5, 4.0, 9.0)))
                    await cluster.start_putter(victim)
            case 1:
                router = rng.choice(cluster.routers)
                if router.router is not None:
                    await cluster.crash_router(router)
                    await asyncio.sleep(rng.choice((0.01, 1.0)))
                    await cluster.start_router(router)
            case 2:
                one, other = rng.choice(cluster.routers), rng.choice(cluster.putters)
                cluster.note(f"partition {one.name} {other.name}")
                cluster.network.partition(one.name, other.name)
                await asyncio.sleep(rng.uniform(0.1, 5.0))
                cluster.network.heal()
            case 3:
                cluster.meta.lose_answers(rng.randrange(1, 4))
            case 4 | 5:
                await cluster.lose_last_seconds(rng.uniform(0.05, 3.0))
            case 6:
                cluster.lose_everything(same_run=rng.random() < 0.3)


async def scenario(world: World, policy: Policy, putters: int) -> tuple[History, list[str]]:
    cluster = Cluster(world, putters=putters, routers=3, policy=policy)
    await cluster.start()
    rng = world.random
    history = History()
    clients = [client(cluster, history, random.Random(rng.random()), 8) for _ in range(4)]
    await asyncio.gather(chaos(cluster, random.Random(rng.random()), 10), *clients)
    cluster.network.heal()
    await asyncio.sleep(HEALING_S)
    await check(cluster, history)
    # Once more, with nothing in the way: the putters alone know everything.
    before = await visible(cluster)
    cluster.lose_everything(same_run=False)
    await asyncio.sleep(30)
    assert await visible(cluster) >= before
    await check(cluster, history)
    await cluster.stop()
    return history, cluster.trace


def tickets_held(cluster: Cluster) -> int:
    pages = [p.engine.holdings("", 1_000_000) for p in cluster.putters if p.engine is not None]
    return sum(each.count for page in pages for each in page.entries)


async def held_by_nobody(cluster: Cluster) -> set[str]:
    """Objects that some putter holds tickets of, and Redis does not know."""
    engines = [putter.engine for putter in cluster.putters if putter.engine is not None]
    owners = {e.object_id for engine in engines for e in engine.holdings("", 1_000_000).entries}
    return await cluster.meta.recovery.absent(sorted(owners))


async def visible(cluster: Cluster) -> set[str]:
    page = await cluster.meta.files.list("objects", "", "", 1000)
    return {entry.key for entry in page.entries}


async def check(cluster: Cluster, history: History) -> None:
    """The promises, after everything has come back."""
    router = cluster.routers[0].router
    assert router is not None
    assert router.catch_up.trouble == ""
    there = await visible(cluster)
    missing = set(history.acknowledged) - there
    assert not missing, f"acknowledged and gone: {missing}"
    owners: dict[int, str] = {}
    for key in sorted(there):
        version = await router.reads.resolve("objects", key)
        pieces = [bytes(p) async for p in router.reads.stream(version, 0, version.size)]
        data = b"".join(pieces)
        wanted = history.acknowledged.get(key)
        assert data == wanted if wanted is not None else object_digest(data) in history.sent
        for extent in version.objects[0].extents:
            for ticket in range(extent.first, extent.first + extent.count):
                assert owners.setdefault(ticket, key) == key, f"ticket {ticket} was used twice"
    assert await cluster.meta.objects.stale(1000) == []
    assert await cluster.meta.objects.to_free(1000) == []
    check_numbers(cluster)


def check_numbers(cluster: Cluster) -> None:
    """No stamp and no ObjectID was given twice, whoever forgot what."""
    by_stamp: dict[int, bytes] = {}
    names: dict[str, str] = {}
    for putter in cluster.putters:
        assert putter.engine is not None
        for numbered in putter.engine.records(0, 100_000):
            record = records.decode(numbered.record.body)
            stamp = numbered.record.stamp
            body = by_stamp.setdefault(stamp, numbered.record.body)
            assert body == numbered.record.body, f"stamp {stamp} was given twice"
            if isinstance(record, Version):
                for stored in record.objects:
                    assert names.setdefault(stored.object_id, record.key) == record.key
            assert isinstance(record, Members) or record.stamp


@pytest.mark.parametrize("seed", SEEDS)
def test_a_redis_that_forgets_loses_nothing_that_was_acknowledged(seed: int) -> None:
    policy, putters = ((Policy(1, 1), 1), (Policy(2, 2), 3), (Policy(3, 2), 3))[seed % 3]
    history, _ = run(lambda world: scenario(world, policy, putters), seed, limit_s=7_200)
    assert history.acknowledged, "a history in which nothing was stored proves nothing"


@pytest.mark.parametrize("seed", range(2))
def test_what_redis_forgot_of_an_upload_is_freed(seed: int) -> None:
    """A router and Redis are lost in the middle of a stream, before any record of it is durable."""

    async def lose(world: World) -> None:
        cluster = Cluster(world, putters=3, routers=2, policy=Policy(2, 2))
        await cluster.start()
        await asyncio.sleep(5)
        router, other = cluster.routers
        kept = world.random.randbytes(5_000)
        assert (await cluster.send(other, kept)).startswith("OBJECT WRITTEN OK")
        held = tickets_held(cluster)
        sending = asyncio.create_task(cluster.send(router, world.random.randbytes(1_500_000)))
        while tickets_held(cluster) == held:
            await asyncio.sleep(0.0005)
        await cluster.crash_router(router)
        cluster.lose_everything(same_run=False)
        assert await sending == ""
        await cluster.start_router(router)
        await asyncio.sleep(20)
        assert await held_by_nobody(cluster)
        await asyncio.sleep(SWEEPING_S)
        assert not await held_by_nobody(cluster)
        assert tickets_held(cluster) == held
        await cluster.stop()

    run(lose, seed, limit_s=7_200)


def test_a_seed_repeats_itself() -> None:
    def once() -> list[str]:
        return run(lambda world: scenario(world, Policy(2, 2), 3), 7, limit_s=7_200)[1]

    assert once() == once()
