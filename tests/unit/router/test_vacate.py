"""A putter that stays away is replaced; one that comes back in time keeps what it has."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import router.upload
from common.errors import NodesUnavailable
from common.membership import Decision
from common.records import ANYONE, Abort, Tombstone, Version
from router.blocks import ChunkSource
from router.links import NodeLink
from router.quorum import Policy
from router.targets import Target, Written
from tests.node_kit import play
from tests.router_kit import Store, in_chunks, payload, tickets_of
from tests.simulation.loop import World

AWAY_MS = 60_000


def with_store(scene: Any, putters: int = 3, **options: Any) -> None:
    async def whole(world: World) -> None:
        asked = {"policy": Policy(2, 2), "replace_after_ms": AWAY_MS} | options
        store = Store(world, putters, **asked)
        await store.start()
        await scene(store)
        await store.stop()

    play(whole)


async def version_of(store: Store, key: str) -> Version:
    return await store.router.reads.resolve("photos", key)


def nodes_of(version: Version) -> set[str]:
    return {node for s in version.objects for extent in s.extents for node in extent.nodes}


async def filled(store: Store, count: int = 20) -> dict[str, bytes]:
    data = {f"k{n:02}": payload(2_000, n) for n in range(count)}
    for key, body in data.items():
        await store.write(body, key)
    return data


async def away(store: Store, number: int, seconds: float) -> None:
    await store.putters[number].crash()
    await asyncio.sleep(seconds)


async def all_paid(store: Store) -> None:
    for _ in range(4):
        while await store.router.repair.round():
            pass
        await asyncio.sleep(2)
    assert await store.meta.repairs.debts() == {}


class TestOneThatStaysAway:
    def test_others_hold_its_share_in_the_end(self) -> None:
        async def scene(store: Store) -> None:
            data = await filled(store)
            share = [key for key in data if "p0" in nodes_of(await version_of(store, key))]
            assert share
            await away(store, 0, AWAY_MS / 1000 + 20)
            debts = await store.meta.repairs.debts()
            assert debts[ANYONE].objects == len(share)
            await all_paid(store)
            for key, body in data.items():
                assert nodes_of(await version_of(store, key)) == {"p1", "p2"}
                assert await store.read(key) == body

        with_store(scene)

    def test_it_is_given_nothing_new_and_owed_nothing(self) -> None:
        async def scene(store: Store) -> None:
            await away(store, 0, AWAY_MS / 1000 + 20)
            for key in await filled(store):
                version = await version_of(store, key)
                assert not version.objects[0].extents[0].owed

        with_store(scene)

    def test_what_it_still_holds_when_it_comes_back_is_freed(self) -> None:
        async def scene(store: Store) -> None:
            data = await filled(store)
            await away(store, 0, AWAY_MS / 1000 + 20)
            await all_paid(store)
            assert store.putters[0].tickets
            await store.putters[0].start()
            await asyncio.sleep(20)
            await all_paid(store)
            assert not store.putters[0].tickets
            for key, body in data.items():
                assert await store.read(key) == body

        with_store(scene)


class TestOneThatSignedOff:
    def test_it_is_replaced_as_one_that_died(self) -> None:
        async def scene(store: Store) -> None:
            data = await filled(store)
            await asyncio.sleep(20)
            await store.putters[0].node.stop()  # type: ignore[union-attr]
            store.putters[0].node = None
            await asyncio.sleep(AWAY_MS / 1000 + 20)
            assert {seen.member.node for seen in await store.meta.members.seen()} >= {"p1", "p2"}
            await all_paid(store)
            for key, body in data.items():
                assert nodes_of(await version_of(store, key)) == {"p1", "p2"}
                assert await store.read(key) == body

        with_store(scene, marks_period_ms=3_000)

    def test_a_router_that_never_saw_it_owes_it_its_share(self) -> None:
        async def scene(store: Store) -> None:
            await filled(store, 1)
            await asyncio.sleep(20)
            await store.putters[0].node.stop()  # type: ignore[union-attr]
            store.putters[0].node = None
            await store.add_router(marks_period_ms=3_000)
            await asyncio.sleep(20)
            for n in range(20):
                await store.write(payload(100, n), f"n{n}", router=1)
            debts = await store.meta.repairs.debts()
            assert 5 < debts["p0"].objects < 20

        with_store(scene, marks_period_ms=3_000)


class TestOneThatComesBack:
    def test_before_the_time_nothing_moves(self) -> None:
        async def scene(store: Store) -> None:
            data = await filled(store)
            before = {key: await version_of(store, key) for key in data}
            await away(store, 0, AWAY_MS / 2000)
            await store.putters[0].start()
            await asyncio.sleep(20)
            assert await store.meta.repairs.debts() == {}
            assert before == {key: await version_of(store, key) for key in data}

        with_store(scene)

    def test_what_was_not_moved_yet_stays_with_it(self) -> None:
        async def scene(store: Store) -> None:
            data = await filled(store)
            before = {key: await version_of(store, key) for key in data}
            await away(store, 0, AWAY_MS / 1000 + 20)
            assert await store.meta.repairs.debts()
            await store.putters[0].start()
            await asyncio.sleep(20)
            assert await store.meta.repairs.debts() == {}
            assert before == {key: await version_of(store, key) for key in data}

        with_store(scene)


def test_with_nobody_to_take_over_its_share_stays_named() -> None:
    async def scene(store: Store) -> None:
        data = await filled(store, 5)
        await away(store, 0, AWAY_MS / 1000 + 20)
        await store.router.repair.round()
        debts = await store.meta.repairs.debts()
        assert debts[ANYONE].objects == 5
        for key, body in data.items():
            assert nodes_of(await version_of(store, key)) == {"p0", "p1"}
            assert await store.read(key) == body
        await store.putters[0].start()
        await asyncio.sleep(20)
        assert await store.meta.repairs.debts() == {}
        assert tickets_of(await version_of(store, "k00"))[0] in store.putters[0].tickets

    with_store(scene, putters=2)


def test_two_routers_find_the_same() -> None:
    async def scene(store: Store) -> None:
        await store.add_router()
        data = await filled(store)
        share = [key for key in data if "p0" in nodes_of(await version_of(store, key))]
        await away(store, 0, AWAY_MS / 1000 + 40)
        assert [dict(router.vacate.left) for router in store.routers] == [{"p0": len(share)}] * 2

    with_store(scene)


def test_a_router_that_never_got_to_walk_takes_it_back_all_the_same() -> None:
    async def scene(store: Store) -> None:
        other = await store.add_router()

        async def busy(leaving: object) -> None:
            """Another router walks."""

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(other.vacate._census, "walk", busy)
            await away(store, 0, AWAY_MS / 1000 + 40)
            assert other.fleet.choose_another("x", {"p1", "p2"}) is None
            await store.putters[0].start()
            await asyncio.sleep(20)
            assert other.fleet.choose_another("x", {"p1", "p2"}) == "p0"

    with_store(scene)


class TestDraining:
    def test_everything_moves_while_it_serves(self) -> None:
        async def scene(store: Store) -> None:
            data = await filled(store)
            await store.write(b"", "empty")
            await store.router.writes.delete("photos", "k00")
            del data["k00"]
            assert await store.meta.members.declare("p0", Decision.DRAINING)
            await asyncio.sleep(20)
            assert store.router.vacate.left["p0"] > 0
            for key, body in data.items():
                assert await store.read(key) == body
            await all_paid(store)
            await asyncio.sleep(70)
            assert store.router.vacate.left == {"p0": 0}
            assert store.router.vacate.empty == {"p0"}
            for key in data:
                assert nodes_of(await version_of(store, key)) == {"p1", "p2"}
            await store.clean()
            assert not store.putters[0].tickets
            # What belongs to no object is elsewhere, too, on as many putters as before.
            for kind, key in ((Version, "empty"), (Tombstone, "k00")):
                holders = [
                    putter.name
                    for putter in store.putters[1:]
                    if any(isinstance(r, kind) and r.key == key for r in putter.records)
                ]
                assert holders == ["p1", "p2"], key

        with_store(scene)

    def test_new_bytes_go_elsewhere(self) -> None:
        async def scene(store: Store) -> None:
            assert await store.meta.members.declare("p0", Decision.DRAINING)
            await asyncio.sleep(20)
            for key in await filled(store):
                assert nodes_of(await version_of(store, key)) == {"p1", "p2"}

        with_store(scene)

    def test_taken_back_the_rest_stays(self) -> None:
        async def scene(store: Store) -> None:
            data = await filled(store)
            before = {key: await version_of(store, key) for key in data}
            assert await store.meta.members.declare("p0", Decision.DRAINING)
            await asyncio.sleep(20)
            assert await store.meta.members.declare("p0", None)
            await asyncio.sleep(20)
            assert store.router.vacate.left == {}
            assert await store.meta.repairs.debts() == {}
            assert before == {key: await version_of(store, key) for key in data}

        with_store(scene)

    def test_without_another_putter_it_is_never_empty(self) -> None:
        async def scene(store: Store) -> None:
            data = await filled(store, 3)
            await store.write(b"", "empty")
            assert await store.meta.members.declare("p0", Decision.DRAINING)
            await asyncio.sleep(20)
            await store.router.repair.round()
            await asyncio.sleep(200)
            assert store.router.vacate.left["p0"] > 0
            assert not store.router.vacate.empty
            for key, body in data.items():
                assert await store.read(key) == body

        with_store(scene, putters=2)


class TestDrainingObjectsOfSeveralExtents:
    """Their extents have different putters."""

    @pytest.fixture(autouse=True)
    def short_extents(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(router.upload, "_FIRST_SPAN_RUNS", 1)

    def test_each_extent_moves_to_a_putter_that_lacks_it(self) -> None:
        async def scene(store: Store) -> None:
            bodies = {f"k{n}": payload(6_000_000, n) for n in range(3)}
            for key, body in bodies.items():
                await store.write(body, key)
            before = [await version_of(store, key) for key in bodies]
            assert any(nodes_of(version) == {"p0", "p1", "p2"} for version in before)
            assert await store.meta.members.declare("p0", Decision.DRAINING)
            await asyncio.sleep(20)
            await all_paid(store)
            for key, body in bodies.items():
                version = await version_of(store, key)
                for extent in version.objects[0].extents:
                    assert set(extent.nodes) == {"p1", "p2"}
                assert await store.read(key) == body
            await asyncio.sleep(70)
            assert store.router.vacate.empty == {"p0"}

        with_store(scene)

    def test_what_is_being_written_is_waited_for(self) -> None:
        async def scene(store: Store) -> None:
            body = payload(4_000_000)
            go_on = asyncio.Event()

            async def slowly() -> Any:
                async for chunk in in_chunks(body[:3_000_000]):
                    yield chunk
                await go_on.wait()
                yield body[3_000_000:]

            async def write(key: str) -> Written:
                source = ChunkSource(slowly(), store.router.writes.filler())
                try:
                    return await store.router.writes.write(source, Target("photos", key))
                finally:
                    source.close()

            writes = [asyncio.ensure_future(write(f"k{n}")) for n in range(4)]
            await asyncio.sleep(5)
            assert await store.meta.members.declare("p0", Decision.DRAINING)
            await asyncio.sleep(200)
            assert store.router.vacate.left["p0"] > 0
            assert not store.router.vacate.empty
            go_on.set()
            await asyncio.gather(*writes)
            await asyncio.sleep(70)
            await all_paid(store)
            await asyncio.sleep(200)
            assert store.router.vacate.empty == {"p0"}
            for n in range(4):
                assert nodes_of(await version_of(store, f"k{n}")) == {"p1", "p2"}
                assert await store.read(f"k{n}") == body

        with_store(scene)


def test_records_that_cannot_be_handed_on_stop_no_other_putter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scene(store: Store) -> None:
        hand_on = store.router.vacate._hand_on_records

        async def refuse(link: NodeLink) -> None:
            if link.node == "p0":
                raise NodesUnavailable("not this one")
            await hand_on(link)

        monkeypatch.setattr(store.router.vacate, "_hand_on_records", refuse)
        for node in ("p0", "p1"):
            assert await store.meta.members.declare(node, Decision.DRAINING)
        await asyncio.sleep(100)
        assert store.router.vacate.empty == {"p1"}
        assert store.router.vacate.left["p0"] > 0

    with_store(scene, putters=4)


def test_a_putter_takes_back_what_was_freed_on_it() -> None:
    async def scene(store: Store) -> None:
        await away(store, 0, 5)
        data = await filled(store)
        await store.putters[0].start()
        await asyncio.sleep(10)
        await all_paid(store)
        assert store.putters[0].tickets
        await away(store, 0, AWAY_MS / 1000 + 20)
        assert (await store.meta.repairs.debts())[ANYONE].objects
        await asyncio.sleep(300)
        await all_paid(store)
        for key, body in data.items():
            assert nodes_of(await version_of(store, key)) == {"p1", "p2"}
            assert await store.read(key) == body

    with_store(scene)


def test_an_abort_without_an_object_is_handed_on() -> None:
    """Else the file that it voids would come back with a rebuild."""

    async def scene(store: Store) -> None:
        abort = Abort("photos", "empty", await store.router.numbers.stamp(), "", aborted=1)
        await store.router.writes.keeping.keep([abort], "photos/empty", ("p0",))
        assert abort in store.putters[0].records
        assert await store.meta.members.declare("p0", Decision.DRAINING)
        await asyncio.sleep(70)
        assert store.router.vacate.empty == {"p0"}
        for putter in store.putters[1:]:
            assert abort in putter.records

    with_store(scene)


def test_an_empty_putter_is_looked_at_again_while_it_is_there() -> None:
    async def scene(store: Store) -> None:
        assert await store.meta.members.declare("p0", Decision.DRAINING)
        await asyncio.sleep(70)
        assert store.router.vacate.empty == {"p0"}
        # Taken back and drained again between two looks, it got something in between.
        store.router.fleet.leave_out(frozenset())
        assert await store.meta.members.declare("p0", None)
        await asyncio.sleep(2)
        data = await filled(store)
        assert await store.meta.members.declare("p0", Decision.DRAINING)
        await asyncio.sleep(700)
        assert store.router.vacate.left["p0"] > 0
        assert not store.router.vacate.empty
        await all_paid(store)
        await asyncio.sleep(100)
        assert store.router.vacate.empty == {"p0"}
        for key in data:
            assert nodes_of(await version_of(store, key)) == {"p1", "p2"}

    with_store(scene)


def test_a_stand_in_can_be_drained_although_its_home_stays_away() -> None:
    async def scene(store: Store) -> None:
        await away(store, 0, 20)
        data = await filled(store, 12)
        before = (await store.meta.repairs.debts())["p0"]
        assert await store.meta.members.declare("p1", Decision.DRAINING)
        await asyncio.sleep(20)
        while await store.router.repair.round():
            pass
        await asyncio.sleep(100)
        assert store.router.vacate.empty == {"p1"}
        assert await store.meta.repairs.debts() == {"p0": before}
        await store.putters[0].start()
        await asyncio.sleep(10)
        await all_paid(store)
        for key, body in data.items():
            nodes = nodes_of(await version_of(store, key))
            assert len(nodes) == 2
            assert "p1" not in nodes
            assert await store.read(key) == body

    with_store(scene, putters=4, replace_after_ms=0)


def test_a_surplus_is_not_in_the_way_of_a_further_copy() -> None:
    async def scene(store: Store) -> None:
        await away(store, 0, 5)
        data = await filled(store)
        await store.putters[0].start()
        await asyncio.sleep(10)
        await store.router.repair.round()
        assert store.putters[0].tickets
        await away(store, 0, 20)
        while await store.router.repair.round():
            pass
        await asyncio.sleep(AWAY_MS / 1000)
        while await store.router.repair.round():
            pass
        await asyncio.sleep(300)
        await all_paid(store)
        for key, body in data.items():
            assert nodes_of(await version_of(store, key)) == {"p1", "p2"}
            assert await store.read(key) == body

    with_store(scene)


def test_one_that_is_drained_again_is_looked_at_again() -> None:
    async def scene(store: Store) -> None:
        assert await store.meta.members.declare("p0", Decision.DRAINING)
        await asyncio.sleep(70)
        assert store.router.vacate.empty == {"p0"}
        store.router.vacate.doubt("p0")
        assert not store.router.vacate.empty
        await asyncio.sleep(40)
        assert store.router.vacate.empty == {"p0"}

    with_store(scene)


@pytest.mark.parametrize("run", ["run-2", "run-1"])
def test_what_redis_forgot_is_noted_again(run: str) -> None:
    """Its older records still owe something to one that is gone; the run may be the same."""

    async def scene(store: Store) -> None:
        async def owed() -> set[str]:
            found = [await version_of(store, key) for key in data]
            return {node for v in found for s in v.objects for e in s.extents for node in e.owed}

        await away(store, 0, 3)
        data = await filled(store)
        assert await owed() == {"p0"}
        assert await store.meta.members.declare("p0", Decision.GONE)
        await store.router.catch_up.decided()
        await asyncio.sleep(20)
        assert await owed() == set()
        store.meta.wipe(run)
        await store.router.catch_up.ensure(30_000)
        await asyncio.sleep(30)
        assert await owed() == set()

    with_store(scene)


def test_without_a_time_nobody_is_given_up() -> None:
    async def scene(store: Store) -> None:
        await filled(store, 3)
        await away(store, 0, 2_000)
        assert not store.router.vacate.left
        assert await store.meta.repairs.debts() == {}

    with_store(scene, replace_after_ms=0)
