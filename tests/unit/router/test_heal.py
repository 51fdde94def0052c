"""What is found damaged is healed from good replicas; what cannot be is named."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from common.records import Version
from common.wire.scrubbing import Flaw, ScrubReply
from router.quorum import Policy
from tests.node_kit import play
from tests.router_kit import FRAME, Store, metric, payload, tickets_of
from tests.simulation.loop import World


def with_store(scene: Any, putters: int = 2, **options: Any) -> None:
    async def whole(world: World) -> None:
        store = Store(world, putters, **({"policy": Policy(2, 2)} | options))
        await store.start()
        await scene(store)
        await store.stop()

    play(whole)


async def written(store: Store, size: int = 3 * FRAME, key: str = "cat") -> Version:
    await store.write(payload(size, key), key)
    return await store.router.reads.resolve("photos", key)


def report(store: Store, node: str, version: Version) -> None:
    [stored] = version.objects
    store.router.healer.report(node, stored.object_id, stored.extents[0].first, stored.tickets)


async def alone(store: Store, putter: int, key: str = "cat") -> bytes:
    """What one putter serves while no other is there."""
    for number, other in enumerate(store.putters):
        if number != putter:
            await other.crash()
    return await store.read(key)


@pytest.mark.parametrize("damage", ["rot", "lost"])
def test_a_replica_gets_back_what_it_lacks(damage: str) -> None:
    async def scene(store: Store) -> None:
        version = await written(store)
        ticket = tickets_of(version)[1]
        if damage == "rot":
            store.putters[1].rot(ticket)
        else:
            store.putters[1].engine.free([(ticket, 1)])
        report(store, "p1", version)
        assert await store.router.healer.round() == 1
        assert metric(store.router.metrics, "putter_healed_total") == 1
        assert await store.router.healer.round() == 0, "once is enough"
        assert await alone(store, 1) == payload(3 * FRAME, "cat")

    with_store(scene)


@pytest.mark.parametrize("frame_bytes", [2_000, 65_536])
def test_a_router_with_other_frames_heals_it(frame_bytes: int) -> None:
    async def scene(store: Store) -> None:
        version = await written(store)
        store.putters[1].rot(tickets_of(version)[1])
        other = await store.add_router(frame_bytes=frame_bytes)
        [stored] = version.objects
        other.healer.report("p1", stored.object_id, stored.extents[0].first, stored.tickets)
        assert await other.healer.round() == 1
        assert await alone(store, 1) == payload(3 * FRAME, "cat")

    with_store(scene)


def test_one_that_is_away_is_healed_when_it_is_back() -> None:
    async def scene(store: Store) -> None:
        version = await written(store)
        store.putters[1].rot(tickets_of(version)[0])
        report(store, "p1", version)
        await store.putters[1].crash()
        while len(store.router.fleet.up()) > 1:
            await asyncio.sleep(0.1)
        assert await store.router.healer.round() == 0
        await store.putters[1].start()
        while len(store.router.fleet.up()) < 2:
            await asyncio.sleep(0.1)
        assert await store.router.healer.round() == 1
        assert await alone(store, 1) == payload(3 * FRAME, "cat")

    with_store(scene)


def test_what_is_right_nowhere_is_named_and_stops_nothing() -> None:
    async def scene(store: Store) -> None:
        bad, good = await written(store, key="bad"), await written(store, key="good")
        for putter in store.putters:
            putter.rot(tickets_of(bad)[0])
        store.putters[0].rot(tickets_of(good)[0])
        healer = store.router.healer
        report(store, "p0", bad)
        report(store, "p0", good)
        assert await healer.round() == 1
        assert not healer.incurable(), "it is tried again"
        for _ in range(2):
            assert await healer.round() == 0
        [named] = healer.incurable()
        assert (named.wound.node, named.wound.object_id) == ("p0", bad.objects[0].object_id)
        assert "right on none" in named.reason
        report(store, "p0", bad)
        assert await healer.round() == 0
        assert len(healer.incurable()) == 1, "known, and left alone for a while"
        await asyncio.sleep(700)
        await healer.round()
        assert not healer.incurable()

    with_store(scene)


def test_reports_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(store: Store) -> None:
        version = await written(store)
        monkeypatch.setattr("router.heal._REPORTS_MAX", 3)
        for n in range(9):
            store.router.healer.report("p1", version.objects[0].object_id, n, 1)
        assert len(store.router.healer._waiting) == 3

    with_store(scene)


def test_reports_of_one_that_stays_away_do_not_hide_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scene(store: Store) -> None:
        version = await written(store)
        monkeypatch.setattr("router.heal._REPORTS_MAX", 3)
        for n in range(9):
            store.router.healer.report("away", version.objects[0].object_id, n, 1)
        store.putters[1].rot(tickets_of(version)[0])
        report(store, "p1", version)
        assert await store.router.healer.round() == 1

    with_store(scene)


class TestAReader:
    @pytest.mark.parametrize("damage", ["rot", "lost"])
    def test_it_is_served_from_a_good_replica_and_the_bad_one_is_healed(self, damage: str) -> None:
        async def scene(store: Store) -> None:
            version = await written(store)
            for number in (0, 1):
                ticket = tickets_of(version)[number]
                if damage == "rot":
                    store.putters[number].rot(ticket)
                else:
                    store.putters[number].engine.free([(ticket, 1)])
            assert await store.read() == payload(3 * FRAME, "cat")
            assert await store.router.healer.round() >= 1
            assert await store.router.healer.round() == 0
            assert await alone(store, 1) == payload(3 * FRAME, "cat")

        with_store(scene)

    def test_what_is_not_placed_there_any_more_does_not_come_back(self) -> None:
        async def scene(store: Store) -> None:
            version = await written(store)
            [stored] = version.objects
            outsider = next(p for p in store.putters if p.name not in stored.extents[0].nodes)
            report(store, outsider.name, version)
            assert await store.router.healer.round() == 0
            assert not outsider.tickets

        with_store(scene, putters=3)


class TestWhatAScrubFound:
    def test_it_is_healed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def scene(store: Store) -> None:
            version = await written(store, 5 * FRAME)
            [stored] = version.objects
            ticket = tickets_of(version)[2]
            store.putters[0].rot(ticket)
            flaw = Flaw("tickets", ticket, 1, stored.object_id, "somewhere", "rot")
            strange = Flaw("tickets", 99_999, 1, "ZZZZ", "somewhere", "rot")

            async def tell(message: Any, _: Any) -> Any:
                return ScrubReply(message.request, 1, False, flaws=(strange, flaw)), b""

            monkeypatch.setattr("putter.node.queries.answer_scrub", tell)
            assert await store.router.healer.round() == 2, "both putters say so here"
            assert await alone(store, 0) == payload(5 * FRAME, "cat")

        with_store(scene)

    def test_of_deleted_objects_nothing_is_healed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def scene(store: Store) -> None:
            version = await written(store)
            [stored] = version.objects
            await store.router.writes.delete("photos", "cat")
            flaw = Flaw("tickets", tickets_of(version)[0], 1, stored.object_id, "there", "rot")

            async def tell(message: Any, _: Any) -> Any:
                return ScrubReply(message.request, 1, False, flaws=(flaw,)), b""

            monkeypatch.setattr("putter.node.queries.answer_scrub", tell)
            assert await store.router.healer.round() == 0
            assert not store.router.healer._waiting, "it goes with its object"

        with_store(scene)
