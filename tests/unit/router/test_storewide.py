"""Files that are there already get as many replicas as the store wants now."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from common.limits import MEMBER_LOST_MS
from common.meta.interface import Member
from common.records import Version
from router.quorum import Policy
from tests.node_kit import play
from tests.router_kit import Store, payload
from tests.simulation.loop import World

SIZES = [0, 700, 300_000]
MORE = Policy(3, 2)
SETTLED_S = 200
"""Longer than anything is published that was described before."""


def with_store(scene: Callable[[Store], Awaitable[None]], putters: int = 4, **options: Any) -> None:
    async def main(world: World) -> None:
        store = await Store(world, putters, **({"policy": Policy(2, 2)} | options)).start()
        await scene(store)
        await store.stop()

    play(main)


async def fill(store: Store, count: int = 6, bucket: str = "photos") -> dict[str, bytes]:
    files = {f"k{n}": payload(SIZES[n % 3], n) for n in range(count)}
    for key, data in files.items():
        await store.write(data, key, bucket=bucket)
    return files


async def restart(store: Store, policy: Policy) -> None:
    """The router stops, and another one with other settings takes its place."""
    await store.routers.pop().stop()
    await store.add_router(policy=policy)
    await asyncio.sleep(2)  # a sign of life, and the settings of buckets are read anew


async def settle(store: Store) -> None:
    """Walk, pay, and free what is beyond."""
    await store.router.store_follow.round()
    for _ in range(20):
        await store.router.repair.round()
        await asyncio.sleep(1)


async def versions(store: Store, bucket: str = "photos") -> list[Version]:
    return [each.version for each in await store.meta.repairs.described(bucket, "", 100)]


async def copies(store: Store, bucket: str = "photos") -> Counter[int]:
    """How many putters the extents name, and how often each putter is owed one."""
    extents = [e for v in await versions(store, bucket) for s in v.objects for e in s.extents]
    assert not any(extent.owed for extent in extents)
    return Counter(len(extent.nodes) for extent in extents)


async def check(store: Store, files: dict[str, bytes], replicas: int) -> None:
    assert {version.replicas for version in await versions(store)} == {replicas}
    assert set(await copies(store)) == {replicas}
    for key, data in files.items():
        assert await store.read(key) == data


def test_more() -> None:
    async def scene(store: Store) -> None:
        files = await fill(store)
        await restart(store, MORE)
        assert await store.router.store_follow.round() == len(files)
        await settle(store)
        await check(store, files, 3)
        held = Counter({putter.name: len(putter.tickets) for putter in store.putters})
        placed: Counter[str] = Counter()
        for version in await versions(store):
            for stored in version.objects:
                for extent in stored.extents:
                    placed.update(dict.fromkeys(extent.nodes, extent.count))
        assert +held == placed
        assert await store.router.store_follow.round() == 0

    with_store(scene)


def test_fewer_takes_nothing_away() -> None:
    async def scene(store: Store) -> None:
        files = await fill(store)
        await restart(store, Policy(2, 2))
        assert await store.router.store_follow.round() == 0
        await settle(store)
        await check(store, files, 3)

    with_store(scene, policy=Policy(3, 3))


def test_a_bucket_that_wants_less_than_the_store_keeps_it() -> None:
    async def scene(store: Store) -> None:
        await store.router.configure.change("photos", {"replicas": 1})
        files = await fill(store)
        await fill(store, 3, "other")
        await restart(store, MORE)
        assert await store.router.store_follow.round() == 3
        await settle(store)
        await check(store, files, 1)
        assert set(await copies(store, "other")) == {3}

    with_store(scene)


def test_nothing_happens_while_a_router_wants_something_else() -> None:
    async def scene(store: Store) -> None:
        files = await fill(store)
        new = await store.add_router(policy=MORE)
        await asyncio.sleep(2)
        assert await new.store_follow.round() == 0
        assert await store.router.store_follow.round() == 0
        await store.routers.pop(0).stop()
        assert await new.store_follow.round() == len(files)

    with_store(scene)


def test_a_router_that_fell_silent_is_not_waited_for() -> None:
    async def scene(store: Store) -> None:
        files = await fill(store)
        await restart(store, MORE)
        killed = Member("r9", "router", "r9.1", "r9", 1, replicas=2)
        await store.meta.members.heartbeat(killed)
        assert await store.router.store_follow.round() == 0
        await asyncio.sleep(MEMBER_LOST_MS / 1000)
        assert await store.router.store_follow.round() == len(files)

    with_store(scene)


def test_a_router_of_a_release_that_does_not_tell_is_waited_for() -> None:
    async def scene(store: Store) -> None:
        await fill(store)
        await restart(store, MORE)
        await store.meta.members.heartbeat(Member("r9", "router", "r9.1", "r9", 1))
        assert await store.router.store_follow.round() == 0

    with_store(scene)


def test_one_router_walks_and_again_when_redis_lost_everything() -> None:
    async def scene(store: Store) -> None:
        files = await fill(store)
        await restart(store, MORE)
        other = await store.add_router(policy=MORE)
        await asyncio.sleep(2)
        assert await store.router.store_follow.round() == len(files)
        store.meta.wipe("run-2")
        for router in store.routers:
            await router.catch_up.ensure(30_000)
        await asyncio.sleep(2)
        assert await other.store_follow.round() + await store.router.store_follow.round() == 6
        assert await other.store_follow.round() + await store.router.store_follow.round() == 0

    with_store(scene)


def test_what_is_published_late_is_found_by_the_second_walk() -> None:
    async def scene(store: Store) -> None:
        files = await fill(store)
        await restart(store, MORE)
        await settle(store)
        store.router.policies.known = lambda _: Policy(2, 2)  # type: ignore[method-assign]
        files["late"] = payload(900)
        await store.write(files["late"], "late")
        del store.router.policies.known
        assert await store.router.store_follow.round() == 0, "not at once"
        await asyncio.sleep(SETTLED_S)
        assert await store.router.store_follow.round() == 1
        await settle(store)
        await check(store, files, 3)

    with_store(scene)


def test_what_changes_under_a_walk_is_found_by_another_one() -> None:
    async def scene(store: Store) -> None:
        files = await fill(store)
        await restart(store, MORE)
        amend = store.meta.repairs.amend
        store.meta.repairs.amend = nothing  # type: ignore[method-assign]
        assert await store.router.store_follow.round() == len(files)
        store.meta.repairs.amend = amend  # type: ignore[method-assign]
        assert await store.router.store_follow.round() == 0, "not at once"
        await asyncio.sleep(61)
        await settle(store)
        await check(store, files, 3)

    with_store(scene)


async def nothing(*_: Any) -> bool:
    return False


def test_the_next_portion_waits_until_one_is_paid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.walk._PAGE", 2)
    monkeypatch.setattr("router.storewide._PORTION_NAMES", 3)

    async def scene(store: Store) -> None:
        files = await fill(store, 9)
        await restart(store, MORE)
        follow, repair = store.router.store_follow, store.router.repair
        assert await follow.round() == 4
        await repair.round()  # it pays, and looks what is left
        assert await follow.round() == 4
        pay = repair._pay
        repair._pay = no_work  # type: ignore[method-assign]
        await repair.round()
        assert repair.refills()["*"].debt.objects == 3
        assert await follow.round() == 0, "what was noted is not paid"
        await asyncio.sleep(50)
        assert await follow.round() == 0, "not yet"
        repair._pay = pay  # type: ignore[method-assign]
        await repair.round()
        assert await follow.round() == 1
        await settle(store)
        await check(store, files, 3)

    with_store(scene)


def test_what_cannot_be_paid_is_in_nobodys_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.walk._PAGE", 2)
    monkeypatch.setattr("router.storewide._PORTION_NAMES", 2)
    monkeypatch.setattr("router.storewide._OWED_MAX", 4)

    async def scene(store: Store) -> None:
        for n in range(9):
            await store.write(payload(700, n), f"k{n}")
        await restart(store, MORE)
        follow, repair = store.router.store_follow, store.router.repair
        noted = []
        for _ in range(6):
            noted.append(await follow.round())
            await repair.round()
            assert await follow.round() == 0
            await asyncio.sleep(61)
        assert noted == [2, 2, 2, 0, 0, 0], "Redis need not hold more than that"

    with_store(scene, 2)


async def no_work(_: str) -> int:
    return 0


def test_a_large_file_is_a_portion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.walk._PAGE", 1)
    monkeypatch.setattr("router.storewide._PORTION_BYTES", 300_000)

    async def scene(store: Store) -> None:
        await fill(store, 6)
        await restart(store, MORE)
        assert await store.router.store_follow.round() == 3

    with_store(scene)


def test_more_than_there_are_putters_is_owed_until_one_comes() -> None:
    async def scene(store: Store) -> None:
        files = await fill(store)
        await restart(store, MORE)
        await store.router.store_follow.round()
        await store.router.repair.round()
        refill = store.router.repair.refills()["*"]
        assert refill.debt.objects == len(refill.stuck) == 4

        assert await store.read("k2") == files["k2"]

    with_store(scene, 2)


def test_a_store_of_one_replica_asks_nobody() -> None:
    async def scene(store: Store) -> None:
        await fill(store)
        await store.router.store_follow.round()
        assert await store.meta.leases.acquire("follow/store", "somebody else", 1_000)

    with_store(scene, policy=Policy(1, 1))
