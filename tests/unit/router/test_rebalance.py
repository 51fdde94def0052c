"""A putter that is new, or has more room, is filled by those that hold more than their share."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import router.rebalance
import router.walk
from common.membership import Decision
from router.quorum import Policy
from router.rebalance import Rebalance
from tests.node_kit import play
from tests.router_kit import SimPutter, Store, metric, payload
from tests.simulation.loop import World

MIB = 1 << 20
SETTLED_S = 40


def with_store(scene: Callable[[Store], Awaitable[None]], putters: int = 3, **options: Any) -> None:
    async def whole(world: World) -> None:
        store = Store(world, putters, policy=Policy(2, 2), rebalance_percent=0, **options)
        await store.start()
        await asyncio.sleep(SETTLED_S)
        await scene(store)
        await store.stop()

    play(whole)


def rebalance_of(store: Store, router: int = 0, percent: int = 10) -> Rebalance:
    one = store.routers[router]
    return Rebalance(
        store.meta,
        one.fleet,
        one.repair,
        one.metrics,
        one.identity.instance,
        percent,
        replace_after_ms=60_000,
        least_bytes=10_000,
    )


async def filled(store: Store, count: int = 120) -> dict[str, bytes]:
    data = {f"k{n:03}": payload(2_000, n) for n in range(count)}
    for key, body in data.items():
        await store.write(body, key)
    return data


async def joined(store: Store, **engine: Any) -> SimPutter:
    putter = SimPutter(store, f"p{len(store.putters)}", **engine)
    store.putters.append(putter)
    await putter.start()
    await asyncio.sleep(SETTLED_S)
    return putter


async def held(store: Store) -> dict[str, int]:
    """How many objects each putter is named by, and nothing owed."""
    found: Counter[str] = Counter({putter.name: 0 for putter in store.putters})
    for each in await store.meta.repairs.described("photos", "", 1_000):
        for stored in each.version.objects:
            for extent in stored.extents:
                assert not extent.owed
                found.update(extent.nodes)
    return dict(found)


async def run(store: Store, rebalance: Rebalance, seconds: int = 120) -> int:
    """Rounds of evening out and of repair, as a router makes them."""
    noted = 0
    for _ in range(seconds // 5):
        noted += await rebalance.round()
        while await store.router.repair.round():
            pass
        await asyncio.sleep(5)
    return noted


def test_a_new_putter_gets_its_share_and_no_more_moves() -> None:
    async def scene(store: Store) -> None:
        data = await filled(store)
        before = await held(store)
        new = await joined(store)
        rebalance = rebalance_of(store)
        moved = await run(store, rebalance)
        after = await held(store)
        assert 55 <= after["p3"] <= 62, after
        assert moved == after["p3"]
        assert all(50 <= count <= 70 for count in after.values()), (before, after)
        assert sum(after.values()) == 240
        for key, body in data.items():
            assert await store.read(key) == body
        held_tickets = sum(len(putter.tickets) for putter in store.putters)
        assert held_tickets == 2 * sum(-(-len(body) // 1458) for body in data.values())
        assert new.tickets
        balance = rebalance.balance
        assert balance is not None
        assert balance.left_bytes < 4_000
        assert await run(store, rebalance, 700) == 0, "it is even now"
        assert rebalance.balance is not None
        assert rebalance.balance.uneven_bytes == 0
        assert metric(store.router.metrics, "putter_uneven_bytes") == 0

    with_store(scene)


def test_a_larger_disk_gets_more() -> None:
    async def scene(store: Store) -> None:
        await filled(store)
        await joined(store, capacity_bytes=3 * MIB)
        await run(store, rebalance_of(store))
        after = await held(store)
        assert 100 <= after["p3"] <= 120, after

    with_store(scene, capacities=(MIB, MIB, MIB))


def test_nothing_moves_when_it_is_switched_off() -> None:
    async def scene(store: Store) -> None:
        await filled(store, 40)
        await joined(store)
        rebalance = rebalance_of(store, percent=0)
        rebalance.start()
        await asyncio.sleep(100)
        await rebalance.stop()
        assert (await held(store))["p3"] == 0

    with_store(scene)


def test_it_runs_by_itself() -> None:
    async def scene(store: Store) -> None:
        await filled(store, 60)
        await joined(store)
        rebalance = rebalance_of(store)
        rebalance.start()
        store.router.repair._rounds._pause_s = 2.0
        store.router.repair.start()
        await asyncio.sleep(100)
        await rebalance.stop()
        assert 25 <= (await held(store))["p3"] <= 32

    with_store(scene)


def test_one_that_is_drained_gives_and_takes_nothing() -> None:
    async def scene(store: Store) -> None:
        await filled(store, 60)
        await joined(store)
        await store.meta.members.declare("p3", Decision.DRAINING)
        await asyncio.sleep(SETTLED_S)
        assert await run(store, rebalance_of(store)) == 0
        assert (await held(store))["p3"] == 0

    with_store(scene)


def test_one_that_is_away_waits_and_the_others_go_on() -> None:
    async def scene(store: Store) -> None:
        await filled(store, 90)
        await joined(store)
        await store.putters[0].crash()
        await asyncio.sleep(SETTLED_S)
        before = await held(store)
        await run(store, rebalance_of(store), 60)
        after = await held(store)
        assert after["p0"] == before["p0"], "what it holds stays until it is back"
        assert after["p3"] > 15

    with_store(scene)


def test_another_router_goes_on_when_the_one_that_did_it_is_gone() -> None:
    async def scene(store: Store) -> None:
        data = await filled(store)
        await store.add_router()
        await joined(store)
        first, second = rebalance_of(store), rebalance_of(store, 1)
        await first.round()
        await asyncio.sleep(16)
        noted = await first.round()
        assert noted > 50, "noted, and not paid yet"
        assert await second.round() == 0, "the first one does it"
        assert second.balance is None
        await asyncio.sleep(70)  # nobody heard of the first one any more
        await second.round()
        await run(store, second)
        after = await held(store)
        assert 55 <= after["p3"] <= 62, after
        for key, body in data.items():
            assert await store.read(key) == body

    with_store(scene)


def test_what_was_noted_waits_for_a_putter_that_went_away_again() -> None:
    async def scene(store: Store) -> None:
        data = await filled(store, 60)
        new = await joined(store)
        rebalance = rebalance_of(store)
        await rebalance.round()
        await asyncio.sleep(16)
        assert await rebalance.round()
        await new.crash()
        await asyncio.sleep(20)
        for key, body in data.items():
            assert await store.read(key) == body
        assert not await store.router.repair.round()
        await new.start()
        await run(store, rebalance)
        assert 25 <= (await held(store))["p3"] <= 32

    with_store(scene)


def test_it_moves_in_portions_and_repair_is_never_flooded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(router.walk, "_PAGE", 10)
    monkeypatch.setattr(router.rebalance, "_PORTION_NAMES", 10)

    async def scene(store: Store) -> None:
        await filled(store)
        await joined(store)
        rebalance = rebalance_of(store)
        await rebalance.round()
        await asyncio.sleep(16)
        portions = []
        while len(portions) < 20:
            noted = await rebalance.round()
            assert sum(d.objects for d in (await store.meta.repairs.debts()).values()) == noted
            await store.router.repair._look()
            if noted:
                assert await rebalance.round() == 0, "the last portion is not paid"
                portions.append(noted)
            while await store.router.repair.round():
                pass
            await asyncio.sleep(5)
            if rebalance._moves is None:
                break
        assert len(portions) >= 3
        assert max(portions) < 20
        assert 55 <= (await held(store))["p3"] <= 62

    with_store(scene)


def test_a_portion_ends_in_the_middle_of_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """However large the files are, and however many a page has."""
    monkeypatch.setattr(router.rebalance, "_PORTION_BYTES", 6_000)

    async def scene(store: Store) -> None:
        data = await filled(store)
        await joined(store)
        rebalance = rebalance_of(store)
        await rebalance.round()
        await asyncio.sleep(16)
        portions = 0
        while rebalance._moves is not None or not portions:
            await rebalance.round()
            owed = sum(debt.size for debt in (await store.meta.repairs.debts()).values())
            assert owed <= 8_000
            portions += 1
            while await store.router.repair.round():
                pass
            await asyncio.sleep(5)
        assert portions > 10
        assert 55 <= (await held(store))["p3"] <= 62
        for key, body in data.items():
            assert await store.read(key) == body

    with_store(scene)
