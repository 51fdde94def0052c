"""Seeded chaos on conditional writes and deletions: of all that want a name, one is told: it won.

Each seed is one history, as in `test_write_path`.
"""

from __future__ import annotations

import asyncio
import os
import random
from dataclasses import dataclass, field

import pytest

from common import records
from common.clock import ManualClock
from common.errors import PreconditionFailed, PutterError
from common.meta.memory import MemoryMetadata
from common.meta.recovery import Finding
from common.records import Abort, Tombstone, Version
from router.app import Router
from router.quorum import Policy
from router.targets import Target
from tests.simulation.cluster import Cluster, SimRouter
from tests.simulation.loop import World, run
from tests.simulation.test_write_path import HEALING_S, chaos, rebuilt

SEEDS = range(
    int(os.environ.get("PUTTER_SEEDS", "0")) or (500 if os.environ.get("PUTTER_SOAK") else 10)
)
SIZES = (1, 1459, 40_000, 1_500_000)
NAMES = 12
RIVALS = 4


@dataclass
class Told:
    """What the writers of one name heard."""

    created: list[bytes] = field(default_factory=list)
    refused: int = 0
    sent: set[bytes] = field(default_factory=set)


async def writer(cluster: Cluster, told: dict[str, Told], rng: random.Random) -> None:
    for n in range(NAMES):
        key = f"name-{n}"
        data = rng.randbytes(rng.choice(SIZES))
        told[key].sent.add(data)
        target = Target("bucket", key, if_match="")
        try:
            written = await cluster.write(rng.choice(cluster.routers), data, target)
        except PreconditionFailed:
            told[key].refused += 1
        except PutterError as error:
            cluster.note(f"{key} {error.code}")
        else:
            if written is not None:
                told[key].created.append(data)
        await asyncio.sleep(rng.uniform(0, 0.3))


async def scenario(world: World) -> dict[str, Told]:
    cluster = Cluster(world, putters=3, routers=2, policy=Policy(2, 2))
    await cluster.start()
    rng = world.random
    told = {f"name-{n}": Told() for n in range(NAMES)}
    writers = [writer(cluster, told, random.Random(rng.random())) for _ in range(RIVALS)]
    await asyncio.gather(chaos(cluster, random.Random(rng.random()), 8), *writers)
    cluster.network.heal()
    await asyncio.sleep(HEALING_S)
    router = cluster.routers[0].router
    assert router is not None
    page = await cluster.meta.files.list("bucket", "", "", 1000)
    visible = {entry.key for entry in page.entries}
    for key, heard in told.items():
        assert len(heard.created) <= 1, f"{key}: {len(heard.created)} were told that they made it"
        if not heard.created and key not in visible:
            continue
        version = await router.reads.resolve("bucket", key)
        data = b"".join([bytes(p) async for p in router.reads.stream(version, 0, version.size)])
        assert data in (heard.created or heard.sent)
    assert rebuilt(cluster) == visible, "the putters alone say the same"
    assert await cluster.meta.objects.stale(1000) == []
    assert await cluster.meta.objects.to_free(1000) == []
    await cluster.stop()
    return told


@pytest.mark.parametrize("seed", SEEDS)
def test_one_of_many_creates_a_name(seed: int) -> None:
    told = run(scenario, seed, limit_s=3_600)
    assert sum(len(heard.created) for heard in told.values()) > 0
    assert sum(heard.refused for heard in told.values()) > 0


@dataclass
class Heard:
    """What the rivals for one file heard: those who replace it, and those who delete it."""

    etag: str
    won: list[str] = field(default_factory=list)
    refused: int = 0
    doubtful: bool = False


async def rival(cluster: Cluster, heard: dict[str, Heard], rng: random.Random) -> None:
    for key in rng.sample(list(heard), len(heard)):
        told, deletes = heard[key], rng.random() < 0.5
        try:
            if deletes:
                won = await delete(cluster, rng.choice(cluster.routers), key, told.etag)
            else:
                target = Target("bucket", key, if_match=told.etag)
                data = rng.randbytes(rng.choice(SIZES))
                won = await cluster.write(rng.choice(cluster.routers), data, target) is not None
        except PreconditionFailed:
            told.refused += 1
        except PutterError as error:
            cluster.note(f"{key} {error.code}")
            told.doubtful = True
        else:
            if won:
                told.won.append("deleted" if deletes else "written")
            told.doubtful |= not won
        await asyncio.sleep(rng.uniform(0, 0.3))


async def delete(cluster: Cluster, router: SimRouter, key: str, etag: str) -> bool:
    """Delete a file if it is this one; False if it is gone, or so is the router."""

    async def run(inside: Router) -> bool:
        return await inside.writes.delete("bucket", key, lambda held: held.etag == etag)

    return bool(await cluster.call(router, run))


async def remembered(cluster: Cluster) -> dict[str, str]:
    """The names that the records of all putters amount to, each with its entity tag."""
    found = [
        records.decode(each.record.body)
        for putter in cluster.putters
        for each in putter.engine.records(0, 1 << 20)  # type: ignore[union-attr]
    ]
    early = [each for each in found if isinstance(each, Abort | Tombstone)]
    late = [each for each in found if isinstance(each, Version)]
    meta = MemoryMetadata(ManualClock())
    await meta.recovery.restore([Finding(each) for each in early + late], anew=True)
    return {each.key: each.etag for each in (await meta.files.list("bucket", "", "", 1000)).entries}


async def rivalry(world: World) -> dict[str, Heard]:
    cluster = Cluster(world, putters=3, routers=2, policy=Policy(2, 2))
    await cluster.start()
    rng = world.random
    heard = {}
    for n in range(NAMES):
        target = Target("bucket", f"name-{n}")
        written = await cluster.write(cluster.routers[0], rng.randbytes(rng.choice(SIZES)), target)
        assert written is not None
        heard[f"name-{n}"] = Heard(written.version.etag)
    rivals = [rival(cluster, heard, random.Random(rng.random())) for _ in range(RIVALS)]
    await asyncio.gather(chaos(cluster, random.Random(rng.random()), 6), *rivals)
    cluster.network.heal()
    await asyncio.sleep(HEALING_S)
    entries = (await cluster.meta.files.list("bucket", "", "", 1000)).entries
    visible = {entry.key: entry.etag for entry in entries}
    known = await remembered(cluster)
    for key, told in heard.items():
        assert len(told.won) <= 1, f"{key}: {told.won}"
        if told.won == ["written"]:
            assert visible[key] != told.etag
        if told.won == ["deleted"]:
            assert key not in visible
        if told.won or not told.doubtful:
            assert known.get(key) == visible.get(key), f"{key}: the putters say something else"
    await cluster.stop()
    return heard


@pytest.mark.parametrize("seed", SEEDS[::3])
def test_one_of_many_replaces_or_deletes_a_file(seed: int) -> None:
    heard = run(rivalry, seed, limit_s=3_600)
    won = [each for told in heard.values() for each in told.won]
    assert {"deleted", "written"} == set(won)
    assert sum(told.refused for told in heard.values()) > 0
