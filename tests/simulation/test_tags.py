"""Seeded chaos on tags: what was acknowledged stays, whatever is written or repaired meanwhile.

Each seed is one history, as in `test_write_path`.
"""

from __future__ import annotations

import asyncio
import os
import random
from dataclasses import dataclass, field
from functools import reduce

import pytest

from common import records
from common.errors import PutterError
from common.records import Version, joined
from router.app import Router
from router.quorum import Policy
from router.targets import Target
from tests.simulation.cluster import Cluster
from tests.simulation.loop import World, run
from tests.simulation.test_write_path import HEALING_S, chaos

SEEDS = range(
    int(os.environ.get("PUTTER_SEEDS", "0")) or (500 if os.environ.get("PUTTER_SOAK") else 5)
)
SIZES = (0, 1, 1459, 40_000, 1_500_000)
NAMES = 6
CHANGES = 12


@dataclass
class Told:
    """What the one client of a name did and heard.

    Attributes:
        sent: contents by what they were tagged with when they were written.
        acknowledged: of writes and changes of tags.
        possible: what the name may be tagged with: the last acknowledged word, and those behind it.
    """

    sent: dict[str, bytes] = field(default_factory=dict)
    acknowledged: int = 0
    possible: list[str] = field(default_factory=list)


async def client(cluster: Cluster, key: str, told: Told, rng: random.Random) -> None:
    data = b""
    for n in range(CHANGES):
        router, word = rng.choice(cluster.routers), f"{n}"
        told.possible.append(word)
        try:
            if not told.acknowledged or rng.random() < 0.2:
                data = rng.randbytes(rng.choice(SIZES))
                told.sent[word] = data
                target = Target("bucket", key, empty_allowed=True, tags={"word": word})
                done = await cluster.write(router, data, target) is not None
            else:
                done = await cluster.call(router, lambda inside, w=word: tag(inside, key, w))
        except PutterError as error:
            cluster.note(f"{key} {word} {error.code}")
        else:
            if done:
                told.acknowledged += 1
                told.possible = [word]
        await asyncio.sleep(rng.uniform(0, 0.7))


async def tag(inside: Router, key: str, word: str) -> bool:
    await inside.retag.change(lambda: inside.reads.resolve("bucket", key), {"word": word})
    return True


async def scenario(world: World) -> dict[str, Told]:
    cluster = Cluster(world, putters=3, routers=2, policy=Policy(2, 2))
    await cluster.start()
    rng = world.random
    told = {f"name-{n}": Told() for n in range(NAMES)}
    clients = [
        client(cluster, key, each, random.Random(rng.random())) for key, each in told.items()
    ]
    await asyncio.gather(chaos(cluster, random.Random(rng.random()), 10), *clients)
    cluster.network.heal()
    await asyncio.sleep(HEALING_S)
    await check(cluster, told)
    cluster.lose_everything(same_run=False)
    await asyncio.sleep(HEALING_S)
    await check(cluster, told)
    await cluster.stop()
    return told


async def check(cluster: Cluster, told: dict[str, Told]) -> None:
    router = cluster.routers[0].router
    assert router is not None
    for key, heard in told.items():
        if not heard.acknowledged:
            continue
        version = await router.reads.resolve("bucket", key)
        assert version.tags["word"] in heard.possible, key
        data = b"".join([bytes(p) async for p in router.reads.stream(version, 0, version.size)])
        assert data in heard.sent.values()
        kept = described(cluster, key)
        assert kept.stamp == version.stamp
        assert kept.tags["word"] in heard.possible, "the putters alone say the same"
        assert kept.objects or not data


def described(cluster: Cluster, key: str) -> Version:
    """What the records of all putters amount to."""
    found = [
        record
        for putter in cluster.putters
        for each in putter.engine.records(0, 1 << 20)  # type: ignore[union-attr]
        if isinstance(record := records.decode(each.record.body), Version) and record.key == key
    ]
    last = max(each.stamp for each in found)
    return reduce(joined, [each for each in found if each.stamp == last])


@pytest.mark.parametrize("seed", SEEDS)
def test_acknowledged_tags_stay(seed: int) -> None:
    told = run(scenario, seed, limit_s=3_600)
    assert sum(heard.acknowledged for heard in told.values()) > NAMES
