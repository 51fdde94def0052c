"""Files that a bucket holds already get as many replicas as its settings ask for."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from common.membership import Decision
from common.records import Version
from router.quorum import Policy
from tests.node_kit import play, until
from tests.router_kit import Store, payload
from tests.simulation.loop import World

SIZES = [0, 700, 300_000]


def with_store(scene: Callable[[Store], Awaitable[None]], putters: int = 4, **options: Any) -> None:
    async def main(world: World) -> None:
        store = await Store(world, putters, **({"policy": Policy(2, 2)} | options)).start(2)
        await scene(store)
        await store.stop()

    play(main)


async def configure(store: Store, **changes: Any) -> None:
    await store.router.configure.change("photos", changes)


async def fill(store: Store, count: int = 6) -> dict[str, bytes]:
    files = {f"k{n}": payload(SIZES[n % 3], n) for n in range(count)}
    for key, data in files.items():
        await store.write(data, key)
    return files


async def versions(store: Store) -> list[Version]:
    return [each.version for each in await store.meta.repairs.described("photos", "", 100)]


async def copies(store: Store) -> Counter[int]:
    """How many putters the extents name."""
    return Counter(
        len(extent.nodes)
        for version in await versions(store)
        for stored in version.objects
        for extent in stored.extents
    )


async def settle(store: Store) -> None:
    """Follow, pay, and free what is beyond."""
    await store.router.follow.round()
    for _ in range(20):
        await store.router.repair.round()
        await asyncio.sleep(1)


async def held(store: Store) -> Counter[str]:
    """Tickets on each putter, by what it holds."""
    return Counter({putter.name: len(putter.tickets) for putter in store.putters})


def placed(found: list[Version]) -> Counter[str]:
    """Tickets on each putter, by what the descriptions say."""
    counts: Counter[str] = Counter()
    for version in found:
        for stored in version.objects:
            for extent in stored.extents:
                counts.update(dict.fromkeys(extent.nodes, extent.count))
    return counts


async def check(store: Store, files: dict[str, bytes], replicas: int) -> None:
    found = await versions(store)
    assert {version.replicas for version in found} == {replicas}
    assert await copies(store) == {replicas: sum(len(v.objects) for v in found)}
    assert all(not e.owed for v in found for s in v.objects for e in s.extents)
    assert +(await held(store)) == placed(found)
    for key, data in files.items():
        assert await store.read(key) == data


@pytest.mark.parametrize("replicas", [3, 4, 1])
def test_more_and_fewer(replicas: int) -> None:
    async def scene(store: Store) -> None:
        files = await fill(store)
        await configure(store, replicas=replicas)
        await settle(store)
        await check(store, files, replicas)
        assert await store.router.follow.round() == 0
        await asyncio.sleep(200)  # a putter takes nothing of an object that it just freed
        await configure(store, replicas=None)
        await settle(store)
        await check(store, files, 2)

    with_store(scene)


def test_who_just_freed_it_need_not_take_it_while_there_is_another() -> None:
    async def scene(store: Store) -> None:
        files = await fill(store)
        await configure(store, replicas=3)
        await settle(store)
        await configure(store, replicas=2)
        await settle(store)
        await check(store, files, 2)
        begun = asyncio.get_running_loop().time()
        await configure(store, replicas=3)
        await settle(store)
        await check(store, files, 3)
        assert asyncio.get_running_loop().time() - begun < 60, "a putter refuses it for longer"

    with_store(scene)


def test_who_just_freed_it_takes_it_in_the_end_if_there_is_nobody_else() -> None:
    async def scene(store: Store) -> None:
        files = await fill(store)
        await configure(store, replicas=3)
        await settle(store)
        await configure(store, replicas=2)
        await settle(store)
        await configure(store, replicas=3)
        await settle(store)
        assert store.router.repair.refills()["*"].stuck
        await asyncio.sleep(200)
        await settle(store)
        await check(store, files, 3)

    with_store(scene, 3)


def test_other_buckets_stay_as_they_are() -> None:
    async def scene(store: Store) -> None:
        await store.write(payload(5_000), "cat", bucket="other")
        await store.write(payload(5_000), "cat")
        await configure(store, replicas=3)
        await settle(store)
        version = await store.router.reads.resolve("other", "cat")
        assert version.replicas == 2
        assert [len(e.nodes) for s in version.objects for e in s.extents] == [2]

    with_store(scene)


def test_a_change_is_done_with_once_nothing_can_be_published_by_the_old_one() -> None:
    async def scene(store: Store) -> None:
        await fill(store)
        await configure(store, replicas=3)
        await store.router.follow.round()
        configured = await store.meta.buckets.get("photos")
        assert configured is not None
        assert configured.followed == 0
        await asyncio.sleep(200)
        assert await store.routers[1].follow.round() == 0, "another router has the lease"
        await store.router.follow.round()
        configured = await store.meta.buckets.get("photos")
        assert configured is not None
        assert configured.followed == configured.record.stamp

    with_store(scene)


def test_what_was_published_by_the_old_settings_is_found_by_the_last_walk() -> None:
    async def scene(store: Store) -> None:
        other = store.routers[1]
        await store.write(payload(900), "early", router=1)
        known = other.policies.known("photos")
        await configure(store, replicas=3)
        await settle(store)
        assert known is not None
        assert known.replicas == 2
        assert other.policies.known("photos") is None, "it is too old by now"
        other.policies.known = lambda _: known  # type: ignore[method-assign]
        await store.write(payload(900), "late", router=1)
        await store.router.follow.round()
        assert await copies(store) == {3: 1, 2: 1}, "one walk is enough for a while"
        await asyncio.sleep(200)
        await settle(store)
        assert await copies(store) == {3: 2}

    with_store(scene)


def test_those_that_are_away_and_their_stand_ins_go_first() -> None:
    async def scene(store: Store) -> None:
        await store.putters[0].crash()
        await until(lambda: len(store.router.fleet.up()) == 3)
        files = await fill(store, 30)
        found = await versions(store)
        assert any(e.owed for v in found for s in v.objects for e in s.extents)
        await configure(store, replicas=1)
        await settle(store)
        await check(store, files, 1)
        await store.putters[0].start()
        await until(lambda: len(store.router.fleet.up()) == 4, 30)
        await settle(store)
        await check(store, files, 1)

    with_store(scene)


def test_what_cannot_follow_now_is_tried_again_after_a_while() -> None:
    async def scene(store: Store) -> None:
        files = await fill(store)
        keep_record = store.router.follow._replicas.keep_record
        store.router.follow._replicas.keep_record = nobody  # type: ignore[method-assign]
        await configure(store, replicas=1)
        assert await store.router.follow.round() == 2, "those without a byte need no record"
        store.router.follow._replicas.keep_record = keep_record  # type: ignore[method-assign]
        assert await store.router.follow.round() == 0, "not at once"
        await asyncio.sleep(61)
        await settle(store)
        await check(store, files, 1)

    with_store(scene)


async def nobody(*_: Any) -> list[str]:
    return []


def test_one_that_is_drained_is_not_among_those_that_stay() -> None:
    async def scene(store: Store) -> None:
        files = await fill(store, 12)
        assert await store.meta.members.declare("p0", Decision.DRAINING)
        await asyncio.sleep(2)
        await store.router.vacate.round()
        await configure(store, replicas=1)
        await settle(store)
        await settle(store)
        await check(store, files, 1)
        assert "p0" not in placed(await versions(store))

    with_store(scene)


def test_fewer_is_known_after_redis_lost_everything() -> None:
    async def scene(store: Store) -> None:
        files = await fill(store)
        await configure(store, replicas=1)
        await settle(store)
        await check(store, files, 1)
        before = {v.key: v for v in await versions(store)}
        store.meta.wipe("run-2")
        for router in store.routers:
            await router.catch_up.ensure(30_000)
        after = {v.key: v for v in await versions(store)}
        with_bytes = [key for key, data in files.items() if data]
        assert [after[key] for key in with_bytes] == [before[key] for key in with_bytes]
        await asyncio.sleep(200)
        await settle(store)
        await check(store, files, 1)

    with_store(scene)


def test_more_is_found_again_after_redis_lost_everything() -> None:
    async def scene(store: Store) -> None:
        files = await fill(store)
        await configure(store, replicas=3)
        await store.router.follow.round()
        store.meta.wipe("run-2")
        for router in store.routers:
            await router.catch_up.ensure(30_000)
        assert await copies(store) == {2: 4}
        await asyncio.sleep(200)
        await settle(store)
        await check(store, files, 3)

    with_store(scene)


def test_a_store_with_too_few_putters_owes_what_it_cannot_hold() -> None:
    async def scene(store: Store) -> None:
        await store.write(payload(5_000), "cat")
        await configure(store, replicas=3)
        await settle(store)
        version = await store.router.reads.resolve("photos", "cat")
        [extent] = version.objects[0].extents
        assert (len(extent.nodes), extent.owed, version.replicas) == (2, {"*": ""}, 3)
        assert store.router.repair.refills()["*"].stuck

    with_store(scene, 2)
