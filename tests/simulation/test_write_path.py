"""Seeded chaos on the real write path: links cut, putters and routers crashed, answers lost.

Each seed is one history. When it fails, its number is in the name of the test, and it fails again.
"""

from __future__ import annotations

import asyncio
import os
import random
from dataclasses import dataclass, field

import pytest

from common import records
from common.checksum import object_digest
from common.errors import NotFound
from common.records import Abort, Version
from router.quorum import Policy
from tests.simulation.cluster import Cluster
from tests.simulation.loop import World, run

SEEDS = range(
    int(os.environ.get("PUTTER_SEEDS", "0")) or (2_000 if os.environ.get("PUTTER_SOAK") else 100)
)
SIZES = (1, 100, 1457, 1458, 1459, 3 * 1458, 40_000, 300_000, 1_500_000)
HEALING_S = 90.0


@dataclass
class History:
    """What the clients did and heard."""

    sent: dict[bytes, bytes] = field(default_factory=dict)
    acknowledged: dict[str, bytes] = field(default_factory=dict)
    failed: int = 0
    silent: int = 0


async def client(cluster: Cluster, history: History, rng: random.Random, objects: int) -> None:
    for _ in range(objects):
        data = rng.randbytes(rng.choice(SIZES))
        history.sent[object_digest(data)] = data
        line = await cluster.send(rng.choice(cluster.routers), data)
        words = line.split()
        if line.startswith("OBJECT WRITTEN OK"):
            assert words[4] == str(len(data))
            assert bytes.fromhex(words[5]) == object_digest(data)
            assert words[3] not in history.acknowledged, "an ObjectID was given twice"
            history.acknowledged[words[3]] = data
        elif line:
            assert line.startswith("OBJECT WRITE FAILED "), line
            history.failed += 1
        else:
            history.silent += 1
        cluster.note(line.strip() or "no answer")
        await asyncio.sleep(rng.uniform(0, 0.5))


async def chaos(cluster: Cluster, rng: random.Random, calamities: int) -> None:
    for _ in range(calamities):
        await asyncio.sleep(rng.uniform(0.05, 2.0))
        match rng.randrange(6):
            case 0:
                victim = rng.choice(cluster.putters)
                if victim.node is not None:
                    await cluster.crash_putter(victim)
                    await asyncio.sleep(rng.choice((0.01, 0.5, 4.0)))
                    await cluster.start_putter(victim)
            case 1:
                router = rng.choice(cluster.routers)
                if router.router is not None:
                    await cluster.crash_router(router)
                    await asyncio.sleep(rng.choice((0.01, 1.0)))
                    await cluster.start_router(router)
            case 2:
                one, other = rng.choice(cluster.routers), rng.choice(cluster.putters)
                cut = cluster.network.cut(one.name, other.name)
                cluster.note(f"cut {cut} connections of {one.name} and {other.name}")
            case 3:
                one, other = rng.choice(cluster.routers), rng.choice(cluster.putters)
                cluster.note(f"partition {one.name} {other.name}")
                cluster.network.partition(one.name, other.name)
                await asyncio.sleep(rng.uniform(0.1, 15.0))
                cluster.network.heal()
            case 4:
                cluster.meta.lose_answers(rng.randrange(1, 4))
            case 5:
                cluster.meta.fail_for(rng.randrange(10, 3_000))
                cluster.restart_coordinator()


async def scenario(world: World, policy: Policy, putters: int) -> tuple[History, list[str]]:
    cluster = Cluster(world, putters=putters, routers=2, policy=policy)
    await cluster.start()
    rng = world.random
    history = History()
    clients = [client(cluster, history, random.Random(rng.random()), 8) for _ in range(4)]
    await asyncio.gather(chaos(cluster, random.Random(rng.random()), 12), *clients)
    cluster.network.heal()
    await asyncio.sleep(HEALING_S)
    await check(cluster, history)
    await cluster.stop()
    return history, cluster.trace


async def check(cluster: Cluster, history: History) -> None:
    """The promises, after everything has come back."""
    router = cluster.routers[0].router
    assert router is not None
    page = await cluster.meta.files.list("objects", "", "", 1000)
    visible = {entry.key for entry in page.entries}
    missing = set(history.acknowledged) - visible
    assert not missing, f"acknowledged and gone: {missing}"
    owners: dict[int, str] = {}
    for key in sorted(visible):
        version = await router.reads.resolve("objects", key)
        pieces = [bytes(p) async for p in router.reads.stream(version, 0, version.size)]
        data = b"".join(pieces)
        wanted = history.acknowledged.get(key)
        assert data == wanted if wanted is not None else object_digest(data) in history.sent
        (stored,) = version.objects
        for extent in stored.extents:
            for ticket in range(extent.first, extent.first + extent.count):
                assert owners.setdefault(ticket, key) == key, f"ticket {ticket} was used twice"
                holders = [p.name for p in cluster.putters if _holds(p.engine, ticket, key)]
                # Also of what nobody acknowledged: a janitor completes what it rolls forward.
                assert len(extent.nodes) == min(cluster.policy.replicas, len(cluster.putters)), key
                assert not extent.owed, (key, extent)
                assert set(extent.nodes) <= set(holders), (key, ticket, extent.nodes, holders)
    assert rebuilt(cluster) == visible, "the putters alone say the same"
    assert await cluster.meta.objects.stale(1000) == []
    assert await cluster.meta.objects.to_free(1000) == []
    for putter in cluster.putters:
        strays = _tickets(putter.engine) - set(owners)
        assert not strays, f"{putter.name} holds tickets of nobody: {sorted(strays)[:10]}"


def rebuilt(cluster: Cluster) -> set[str]:
    """The names that the records of all putters amount to, with nothing left beside them."""
    found = [
        records.decode(each.record.body)
        for putter in cluster.putters
        for each in putter.engine.records(0, 1 << 20)  # type: ignore[union-attr]
    ]
    aborted = {record.object_id for record in found if isinstance(record, Abort)}
    assert not aborted, "they are dropped with their objects"
    return {record.key for record in found if isinstance(record, Version)}


def _holds(engine: object, ticket: int, object_id: str) -> bool:
    info = engine.stat(ticket)  # type: ignore[attr-defined]
    return info is not None and info.object_id == object_id


def _tickets(engine: object) -> set[int]:
    found: set[int] = set()
    for piece in engine.read(0, 1 << 22):  # type: ignore[attr-defined]
        found |= set(range(piece.first, piece.first + piece.count))
    return found


@pytest.mark.parametrize("seed", SEEDS)
def test_acknowledged_is_kept_and_nothing_else_is_left(seed: int) -> None:
    policy, putters = ((Policy(1, 1), 1), (Policy(2, 2), 3), (Policy(3, 2), 3))[seed % 3]
    history, _ = run(lambda world: scenario(world, policy, putters), seed, limit_s=3_600)
    assert history.acknowledged, "a history in which nothing was stored proves nothing"


def test_a_seed_repeats_itself() -> None:
    def once() -> list[str]:
        return run(lambda world: scenario(world, Policy(2, 2), 3), 7, limit_s=3_600)[1]

    assert once() == once()


async def _missing(world: World) -> None:
    cluster = Cluster(world, putters=1, routers=1, policy=Policy(1, 1))
    await cluster.start()
    router = cluster.routers[0].router
    assert router is not None
    with pytest.raises(NotFound):
        await router.reads.resolve("objects", "nothing")
    await cluster.stop()


def test_a_calm_cluster_starts_and_stops() -> None:
    run(_missing, 1, limit_s=600)
