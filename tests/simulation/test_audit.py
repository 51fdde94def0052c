"""Seeded losses: putters that lose some of what they hold, or all, while clients write and delete.

After each loss has healed there are N replicas of everything again, deletions and files without a
byte too, and what was deleted stays deleted, also for a coordinator that forgets everything.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

from common import records
from common.errors import NotFound, PutterError
from common.membership import Decision
from common.records import Members, Version
from putter.storage.memory_disk import MemoryDisk
from putter.storage.tree import TreeEngine
from putter.storage.tree.records import RECORD, record_directory
from router.quorum import Policy
from router.targets import Target
from tests.simulation.cluster import Cluster, SimPutter, SimRouter
from tests.simulation.loop import World, run

SEEDS = range(
    int(os.environ.get("PUTTER_SEEDS", "0")) or (300 if os.environ.get("PUTTER_SOAK") else 6)
)
BUCKET = "files"
HEALING_S = 420.0
"""A look every ten seconds, half a minute until a round, five until what was away is compared."""
REPLICAS = 2
FRAME_BYTES = {"tree": 1_458, "segments": 65_536}
LARGEST = {"tree": 40_000, "segments": 2_500_000}
"""Bytes of a file; segments have 4 MiB, and there are to be several."""


@dataclass
class Shelf:
    """What clients know.

    Attributes:
        held: what names hold for certain.
        deleted: names that hold nothing for certain.
    """

    held: dict[str, bytes] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)


async def traffic(
    cluster: Cluster, shelf: Shelf, rng: random.Random, changes: int, largest: int
) -> None:
    """Writes, overwrites, files without a byte and deletions; what fails may be either way."""
    for _ in range(changes):
        await asyncio.sleep(rng.uniform(0.0, 0.4))
        router = rng.choice(cluster.routers)
        key = f"k{rng.randrange(40)}"
        shelf.deleted.discard(key)
        before = shelf.held.pop(key, None)
        with suppress(PutterError):
            if before is not None and rng.random() < 0.4:
                await delete(cluster, router, key)
                shelf.deleted.add(key)
            else:
                size = rng.choice((0, 1, 700, 3_000, largest))
                data = rng.randbytes(size)
                target = Target(BUCKET, key, empty_allowed=True)
                if await cluster.write(router, data, target) is not None:
                    shelf.held[key] = data


async def delete(cluster: Cluster, router: SimRouter, key: str) -> None:
    assert router.router is not None
    writes = router.router.writes
    await cluster._in_process(router.name, lambda: writes.delete(BUCKET, key))


def lose_some(putter: SimPutter, rng: random.Random) -> int:
    """Files vanish from the disk of a putter that is not running; not its last record. How many."""
    lost = 0
    segments = sorted(name for name in putter.disk.names("segments") if name.endswith(".seg"))
    for name in rng.sample(segments[:-1], len(segments) // 2):
        # What it had noted there as freed comes back.
        lost += putter.disk.unlink(f"segments/{name}")
    if segments:
        putter.disk.sync_all()
        return lost
    engine = TreeEngine(putter.disk, identity=putter.name)
    for holding in engine.holdings("", 1_000_000).entries:
        if rng.random() < 0.5:
            lost += engine.free([(holding.first, rng.randrange(1, holding.count + 1))])
    numbered = engine.records(0, 1_000_000)
    for each in numbered[:-1]:
        if rng.random() < 0.5:
            lost += putter.disk.unlink(f"{record_directory(each.number)}/{RECORD}")
    engine.sync()
    putter.disk.sync_all()
    return lost


async def damage(cluster: Cluster, kind: str, rng: random.Random) -> int:
    """One putter loses something while it is not running; how much."""
    victim = rng.choice(cluster.putters)
    await cluster.crash_putter(victim)
    if kind == "some":
        lost = lose_some(victim, rng)
        await asyncio.sleep(rng.choice((0.1, 4.0, 9.0)))
        await cluster.start_putter(victim)
        return lost
    assert await cluster.meta.members.declare(victim.name, Decision.GONE)
    await asyncio.sleep(rng.choice((5.0, 20.0)))
    if kind == "all":
        victim.disk = MemoryDisk()
    else:
        at = cluster.putters.index(victim)
        victim = cluster.putters[at] = SimPutter(f"{victim.name}x")
    await cluster.start_putter(victim)
    return 1


async def scenario(world: World, kind: str, storage: str) -> int:
    policy = Policy(REPLICAS, REPLICAS)
    cluster = Cluster(
        world,
        putters=4,
        routers=2,
        policy=policy,
        storage=storage,
        frame_bytes=FRAME_BYTES[storage],
    )
    await cluster.start()
    rng = world.random
    shelf = Shelf()
    await asyncio.sleep(3)
    largest = LARGEST[storage]
    await traffic(cluster, shelf, rng, 60, largest)
    lost = 0
    for _ in range(2):
        going_on = asyncio.create_task(
            traffic(cluster, shelf, random.Random(rng.random()), 30, largest)
        )
        lost += await damage(cluster, kind, rng)
        await going_on
        await asyncio.sleep(HEALING_S)
        await check(cluster, shelf)
    cluster.lose_everything(same_run=False)
    await asyncio.sleep(HEALING_S)
    await check(cluster, shelf)
    await cluster.stop()
    assert lost, "a history in which nothing was lost proves nothing"
    return len(shelf.held)


async def check(cluster: Cluster, shelf: Shelf) -> None:
    router = cluster.routers[0].router
    assert router is not None
    assert router.catch_up.trouble == ""
    engines = {putter.name: putter.engine for putter in cluster.putters}
    for key, data in shelf.held.items():
        version = await router.reads.resolve(BUCKET, key)
        pieces = [bytes(p) async for p in router.reads.stream(version, 0, version.size)]
        assert b"".join(pieces) == data
        for stored in version.objects:
            for extent in stored.extents:
                assert not extent.owed
                assert len(extent.nodes) == REPLICAS
                for node in extent.nodes:
                    engine = engines[node]
                    assert engine is not None
                    tickets = range(extent.first, extent.first + extent.count)
                    assert all(engine.stat(ticket) is not None for ticket in tickets)
                    found = engine.find_record(stored.object_id)
                    assert found is not None
                    assert found.record.stamp == (version.revision or version.stamp)
    for key in shelf.deleted:
        with pytest.raises(NotFound):
            await router.reads.resolve(BUCKET, key)
    bare: Counter[int] = Counter()
    for engine in engines.values():
        assert engine is not None
        for numbered in engine.records(0, 1_000_000):
            record = records.decode(numbered.record.body)
            if (isinstance(record, Version) and record.objects) or isinstance(record, Members):
                continue
            if not numbered.record.object_id:
                bare[numbered.record.stamp] += 1
    assert bare, "without deletions this proves nothing"
    assert min(bare.values()) >= REPLICAS, "each on N putters at least"
    assert await cluster.meta.repairs.debts() == {}
    assert await cluster.meta.handoff.lacking() == {}


@pytest.mark.parametrize("seed", SEEDS)
def test_what_putters_lose_comes_back_and_what_was_deleted_does_not(seed: int) -> None:
    kind = ("some", "all", "another")[seed % 3]
    storage = ("tree", "segments")[seed // 3 % 2]
    assert run(lambda world: scenario(world, kind, storage), seed, limit_s=7_200)
