"""Seeded chaos on conditional writes: of all that want to create a name, one is told that it did.

Each seed is one history, as in `test_write_path`.
"""

from __future__ import annotations

import asyncio
import os
import random
from dataclasses import dataclass, field

import pytest

from common.errors import PreconditionFailed, PutterError
from router.quorum import Policy
from router.targets import Target
from tests.simulation.cluster import Cluster
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
