"""What putters lost without a word is found, and comes back; deleted stays deleted."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable

import pytest

from common.errors import NotFound
from common.membership import Decision
from common.records import Tombstone, Version
from putter.storage.engine import Run
from router.bare import BareRecords
from router.compare import Found
from router.quorum import Policy
from tests.node_kit import FaultyEngine
from tests.router_kit import SimPutter, Store, metric, payload, tickets_of
from tests.unit.router.test_handoff import bare
from tests.unit.router.test_repair import back, lose, nodes_of, repair, version_of, with_store

HOUR_S = 3_600.0


async def audit(store: Store, *nodes: str, router: int = 0) -> Found:
    """A round that somebody asks for."""
    compared = store.routers[router].audit
    before = compared.last
    assert await compared.ask(nodes)
    while compared.found is not None:
        await asyncio.sleep(0.1)
    assert compared.last is not None
    assert compared.last is not before
    return compared.last.found


def forget_records(putter: SimPutter, stamps: Iterable[int]) -> None:
    """A putter loses records without an object, which nothing ever removes."""
    for stamp in stamps:
        number = putter.engine._index.with_stamp(stamp)
        assert number is not None
        putter.engine._index.remove(number)
        del putter.engine._records[number]


async def filled(store: Store, count: int = 30) -> dict[str, bytes]:
    data = {f"k{n:02}": payload(100 + 700 * (n % 5), n) for n in range(count)}
    for key, body in data.items():
        await store.write(body, key)
    return data


async def whole(store: Store, data: dict[str, bytes]) -> None:
    """Every file reads right, and each putter holds just what names it, with the record."""
    expected: dict[str, set[int]] = {putter.name: set() for putter in store.putters}
    for key, body in data.items():
        assert await store.read(key) == body
        version = await version_of(store, key)
        for stored in version.objects:
            for extent in stored.extents:
                assert not extent.owed
                assert len(extent.nodes) == 2
                for node in extent.nodes:
                    expected[node] |= set(range(extent.first, extent.first + extent.count))
        for putter in store.putters:
            held = [r for r in putter.records if isinstance(r, Version) and r.key == key]
            newest = max(held, key=lambda r: r.revision, default=None)
            if putter.name in nodes_of(version):
                assert newest == version
    for putter in store.putters:
        assert putter.tickets == expected[putter.name]


def nothing(found: Found) -> bool:
    return found == Found(names=found.names)


def test_nothing_is_found_where_nothing_is_wrong() -> None:
    async def scene(store: Store) -> None:
        data = await filled(store)
        await store.write(b"", "empty")
        await store.router.writes.delete("photos", "k03")
        await store.write(payload(3_000_000, 1), "large")
        await store.clean()
        found = await audit(store)
        assert nothing(found)
        assert found.names == len(data) + 1
        assert store.router.audit.last.silent == ()
        assert metric(store.router.metrics, "putter_audit_found_total", what="objects") == 0
        assert metric(store.router.metrics, "putter_audit_completed_seconds") > 0

    with_store(scene)


@pytest.mark.parametrize("part", ["tickets", "tickets and records"])
def test_what_one_putter_lost_comes_back(part: str) -> None:
    async def scene(store: Store) -> None:
        data = await filled(store)
        victim = store.putters[0]
        mine = [k for k in data if "p0" in nodes_of(await version_of(store, k))]
        gone = mine[::2]
        for key in gone:
            version = await version_of(store, key)
            victim.engine.free([(ticket, 1) for ticket in tickets_of(version)])
            if part != "tickets":
                victim.engine.drop_records([version.objects[0].object_id])
        found = await audit(store)
        assert found.objects == len(gone)
        assert found.lost == found.unsure == found.strays == 0
        debts = await store.meta.repairs.debts()
        assert set(debts) == {"p0"}
        assert debts["p0"].objects == len(gone), "just what is missing"
        await repair(store)
        await whole(store, data)
        assert nothing(await audit(store))
        assert metric(store.router.metrics, "putter_audit_found_total", what="objects") == len(gone)

    with_store(scene)


def test_a_ticket_in_the_middle_of_a_large_object() -> None:
    async def scene(store: Store) -> None:
        data = {"large": payload(5_000_000, 1), "other": payload(2_000_000, 2)}
        for key, body in data.items():
            await store.write(body, key)
        version = await version_of(store, "large")
        victim = next(p for p in store.putters if p.name in nodes_of(version))
        victim.engine.free([(tickets_of(version)[1_000], 1)])
        assert (await audit(store)).objects == 1
        await repair(store)
        await whole(store, data)

    with_store(scene)


def test_records_alone_are_given_as_they_are() -> None:
    async def scene(store: Store) -> None:
        data = await filled(store)
        for putter in store.putters[:2]:
            mine = [
                v for v in [await version_of(store, k) for k in data] if putter.name in nodes_of(v)
            ]
            putter.engine.drop_records([v.objects[0].object_id for v in mine[:3]])
        found = await audit(store)
        assert 3 <= found.records <= 6
        assert found.objects == 0
        await whole(store, data)
        assert nothing(await audit(store))

    with_store(scene)


def test_a_record_that_nobody_has_is_made_again() -> None:
    async def scene(store: Store) -> None:
        data = await filled(store, 5)
        version = await version_of(store, "k02")
        for putter in store.putters:
            putter.engine.drop_records([version.objects[0].object_id])
        assert (await audit(store)).records == 2
        again = await version_of(store, "k02")
        assert again.stamp == version.stamp
        assert again.revision > version.stamp
        await whole(store, data)
        assert nothing(await audit(store))

    with_store(scene)


def test_an_older_description_is_replaced() -> None:
    """A putter that missed the record which tells that the object has moved."""

    async def scene(store: Store) -> None:
        await lose(store, 0)
        data = await filled(store, 12)
        await back(store, 0)
        await repair(store)
        versions = [await version_of(store, key) for key in data]
        version = next(each for each in versions if each.revision)
        victim = next(p for p in store.putters if p.name in nodes_of(version) and p.name != "p0")
        number = victim.engine._index.with_stamp(version.revision)
        assert number is not None
        victim.engine._index.remove(number)
        del victim.engine._records[number]
        assert (await audit(store)).records == 1
        await whole(store, data)

    with_store(scene)


def test_a_putter_that_comes_back_empty() -> None:
    """The operator says that what it held is gone; its disk was replaced."""

    async def scene(store: Store) -> None:
        data = await filled(store)
        await store.write(b"", "empty")
        await store.router.writes.delete("photos", "k05")
        del data["k05"]
        await store.clean()
        await store.putters[0].crash()
        store.putters[0].engine = FaultyEngine(identity="p0")
        assert await store.meta.members.declare("p0", Decision.GONE)
        await asyncio.sleep(10)
        await back(store, 0)
        await store.router.catch_up.step()
        await store.router.vacate.round()
        await repair(store)
        await audit(store)
        await repair(store)
        await whole(store, data)
        assert await store.read("empty") == b""
        for kind, key in ((Version, "empty"), (Tombstone, "k05")):
            assert sum(key in bare(putter, kind) for putter in store.putters) >= 2
        assert nothing(await audit(store))

    with_store(scene)


def test_a_deletion_that_one_putter_lost() -> None:
    async def scene(store: Store) -> None:
        await filled(store, 12)
        for n in range(12):
            await store.router.writes.delete("photos", f"k{n:02}")
        await store.write(b"", "empty")
        victim = store.putters[0]
        held = [r.stamp for r in victim.records if isinstance(r, Tombstone)]
        forget_records(victim, held[:3])
        found = await audit(store)
        assert found.bare == 3
        assert await store.meta.handoff.lacking()
        await repair(store)
        assert await store.meta.handoff.lacking() == {}
        for n in range(12):
            assert sum(f"k{n:02}" in bare(p, Tombstone) for p in store.putters) >= 2
            with pytest.raises(NotFound):
                await store.read(f"k{n:02}")
        assert nothing(await audit(store))

    with_store(scene)


def test_what_redis_forgot_that_putters_missed() -> None:
    """A putter was away while names were deleted; then Redis lost everything."""

    async def scene(store: Store) -> None:
        await filled(store, 12)
        await lose(store, 0)
        await lose(store, 1)
        for n in range(12):
            await store.router.writes.delete("photos", f"k{n:02}")
        await back(store, 0)
        await back(store, 1)
        store.meta.wipe("run-2")
        await store.router.catch_up.ensure(60_000)
        assert await store.meta.handoff.lacking() == {}
        alone = [bare(putter, Tombstone) for putter in store.putters]
        assert [len(each) for each in alone] == [0, 0, 12]
        assert (await audit(store)).bare == 12
        await repair(store)
        for n in range(12):
            assert sum(f"k{n:02}" in bare(p, Tombstone) for p in store.putters) == 2

    with_store(scene)


def test_records_of_a_putter_that_is_given_up_are_copied_again() -> None:
    async def scene(store: Store) -> None:
        for n in range(12):
            await store.write(b"", f"e{n}")
        await lose(store, 0)
        assert await store.meta.members.declare("p0", Decision.GONE)
        await asyncio.sleep(10)
        await store.router.vacate.round()
        await repair(store)
        assert (await audit(store)).bare > 0
        await repair(store)
        for putter in store.putters[1:]:
            assert bare(putter, Version) == {f"e{n}" for n in range(12)}

    with_store(scene)


def test_records_are_not_compared_while_a_putter_is_away() -> None:
    """What it has of them nobody knows."""

    async def scene(store: Store) -> None:
        for n in range(12):
            await store.write(b"", f"e{n}")
        await lose(store, 0)
        found = await audit(store)
        assert found.bare == 0
        assert store.router.audit.last is not None
        assert store.router.audit.last.silent == ("p0",)

    with_store(scene)


@pytest.mark.parametrize("announced", [False, True])
def test_bytes_that_nothing_places_there_are_freed_in_the_end(*, announced: bool) -> None:
    """Whether or not Redis was told that they might come there: writes may end elsewhere."""

    async def scene(store: Store) -> None:
        data = await filled(store, 10)
        version = await version_of(store, "k04")
        (stored,) = version.objects
        (stranger,) = [p for p in store.putters if p.name not in nodes_of(version)]
        holder = next(p for p in store.putters if p.name in nodes_of(version))
        for extent in stored.extents:
            for piece in holder.engine.read(extent.first, extent.count):
                rows = memoryview(bytes(piece.frames))
                run = Run(piece.first, rows, piece.frame_bytes, stored.object_id, piece.key_id)
                assert not stranger.engine.put(run).any()
        if announced:
            known = store.meta._state.buckets["photos"].objects[stored.object_id]
            known.nodes = tuple(sorted({*known.nodes, stranger.name}))
        assert (await audit(store)).strays == 1
        await repair(store)
        assert set(tickets_of(version)) <= stranger.tickets, "not at once"
        assert (await audit(store)).strays == 1, "it is still there"
        surplus = store.meta._state.buckets["photos"].surplus
        (entry,) = surplus
        now_ms = store.world.clock.now_ms()
        assert surplus[entry] > now_ms + 23 * HOUR_S * 1000
        surplus[entry] = now_ms  # a day later
        await repair(store)
        await whole(store, data)

    with_store(scene)


def test_what_no_putter_has_is_named() -> None:
    async def scene(store: Store) -> None:
        await filled(store, 5)
        version = await version_of(store, "k02")
        for putter in store.putters:
            putter.engine.free([(ticket, 1) for ticket in tickets_of(version)])
        found = await audit(store)
        assert found.lost == 1
        assert found.objects == 0
        assert await version_of(store, "k02") == version, "nothing is given up"
        for _ in range(4):
            await store.router.healer.round()
        incurable = store.router.healer.incurable()
        assert {each.wound.object_id for each in incurable} == {version.objects[0].object_id}

    with_store(scene)


def test_nothing_is_noted_while_the_other_copy_cannot_be_asked() -> None:
    async def scene(store: Store) -> None:
        data = await filled(store, 10)
        for key in data:
            version = await version_of(store, key)
            if nodes_of(version) == {"p0", "p1"}:
                store.putters[0].engine.free([(ticket, 1) for ticket in tickets_of(version)])
        await lose(store, 1)
        found = await audit(store)
        assert found.unsure > 0
        assert found.objects == found.lost == 0
        await back(store, 1)
        await audit(store)
        await repair(store)
        await whole(store, data)

    with_store(scene)


def test_one_putter_alone_can_be_asked() -> None:
    async def scene(store: Store) -> None:
        data = await filled(store)
        versions = [await version_of(store, key) for key in data]
        for n in (0, 1):
            mine = next(v for v in versions if nodes_of(v) == {f"p{n}", "p2"})
            store.putters[n].engine.free([(ticket, 1) for ticket in tickets_of(mine)])
        assert (await audit(store, "p1")).objects == 1
        assert set(await store.meta.repairs.debts()) == {"p1"}
        await audit(store, "nobody")
        assert store.router.audit.last is not None
        assert store.router.audit.last.silent == ("nobody",)

    with_store(scene)


def test_writes_and_deletions_meanwhile_are_no_losses() -> None:
    async def scene(store: Store) -> None:
        data = await filled(store)
        rng = random.Random(3)
        stop = False

        async def traffic() -> None:
            n = 0
            while not stop:
                key = rng.choice(sorted(data)) if n % 3 else f"new{n}"
                if n % 5 == 4 and key in data:
                    await store.router.writes.delete("photos", key)
                    del data[key]
                else:
                    data[key] = payload(rng.randrange(1, 5_000), n)
                    await store.write(data[key], key)
                n += 1
                await asyncio.sleep(0.02)

        async def cleaning() -> None:
            while not stop:
                await asyncio.sleep(0.3)
                await store.router.janitor.round()

        busy = [asyncio.create_task(traffic()), asyncio.create_task(cleaning())]
        for _ in range(6):
            found = await audit(store)
            assert found.objects == found.lost == found.records == found.strays == 0
        stop = True
        await asyncio.gather(*busy)
        await store.clean()
        await whole(store, data)

    with_store(scene, grace_ms=200)


def test_two_routers_do_not_compare_at_once() -> None:
    async def scene(store: Store) -> None:
        await store.add_router()
        await filled(store)
        one, other = (router.audit for router in store.routers)
        assert await one.ask()
        assert await one.ask(), "it is under way"
        assert not await other.ask()
        while one.found is not None:
            await asyncio.sleep(0.1)
        assert nothing(await audit(store, router=1))

    with_store(scene)


class TestWhen:
    def test_now_and_then(self) -> None:
        async def scene(store: Store) -> None:
            await store.add_router()
            one, other = (router.audit for router in store.routers)
            await asyncio.sleep(120)
            ended = [each.last for each in (one, other) if each.last is not None]
            assert len(ended) == 1, "soon after the start, by one of them"
            await asyncio.sleep(400)
            assert [each.last for each in (one, other) if each.last is not None] == ended
            await asyncio.sleep(900)
            again = [each.last for each in (one, other) if each.last is not None]
            assert again[0] is not ended[0] or len(again) == 2

        with_store(scene, audit_period_ms=600_000)

    def test_soon_after_a_putter_came_back_with_less(self) -> None:
        async def scene(store: Store) -> None:
            data = await filled(store)
            await asyncio.sleep(120)
            first = store.router.audit.last
            assert first is not None
            victim = store.putters[0]
            await lose(store, 0)
            mine = [v for v in [await version_of(store, k) for k in data] if "p0" in nodes_of(v)]
            for version in mine[:4]:
                victim.engine.free([(ticket, 1) for ticket in tickets_of(version)])
                victim.engine.drop_records([version.objects[0].object_id])
            await back(store, 0)
            await asyncio.sleep(90)
            last = store.router.audit.last
            assert last is not None
            assert last is not first
            assert last.found.objects == 4
            await repair(store)
            await whole(store, data)

        with_store(scene, audit_period_ms=24 * int(HOUR_S) * 1000)

    def test_not_after_a_restart_that_lost_nothing(self) -> None:
        async def scene(store: Store) -> None:
            await filled(store)
            await asyncio.sleep(120)
            first = store.router.audit.last
            assert first is not None
            await lose(store, 0)
            await asyncio.sleep(60)
            await back(store, 0)
            await asyncio.sleep(600)
            assert store.router.audit.last is first

        with_store(scene, audit_period_ms=24 * int(HOUR_S) * 1000)

    @pytest.mark.parametrize("run", ["run-2", "run-1"])
    def test_soon_after_redis_lost_everything(self, run: str) -> None:
        """In another run, or in the same one (FLUSHALL): debts of bare records are forgotten."""

        async def scene(store: Store) -> None:
            await filled(store)
            await asyncio.sleep(120)
            first = store.router.audit.last
            store.meta.wipe(run)
            await asyncio.sleep(120)
            assert store.router.audit.last is not first
            assert nothing(store.router.audit.last.found)  # type: ignore[union-attr]

        with_store(scene, audit_period_ms=24 * int(HOUR_S) * 1000)

    def test_soon_although_whoever_noticed_the_loss_is_gone(self) -> None:
        async def scene(store: Store) -> None:
            other = await store.add_router()
            await filled(store)
            await asyncio.sleep(120)
            [watcher] = [each for each in store.routers if each.audit._watches]
            [other] = [each for each in store.routers if each is not watcher]
            before = other.audit.last
            store.routers.remove(watcher)
            store.meta.restore(store.meta.snapshot(), "run-2")
            await other.catch_up.ensure(30_000)
            await watcher.stop()
            await asyncio.sleep(200)
            assert other.audit.last is not before

        with_store(scene, audit_period_ms=24 * int(HOUR_S) * 1000)

    def test_soon_although_whoever_saw_a_putter_given_up_is_gone(self) -> None:
        async def scene(store: Store) -> None:
            other = await store.add_router()
            await filled(store)
            await asyncio.sleep(120)
            [watcher] = [each for each in store.routers if each.audit._watches]
            [other] = [each for each in store.routers if each is not watcher]
            before = other.audit.last
            store.routers.remove(watcher)
            await lose(store, 0)
            assert await store.meta.members.declare("p0", Decision.GONE)
            await asyncio.sleep(7)
            await watcher.stop()
            await asyncio.sleep(200)
            assert other.audit.last is not before

        with_store(scene, audit_period_ms=24 * int(HOUR_S) * 1000)

    def test_soon_after_routers_want_more_replicas(self) -> None:
        async def scene(store: Store) -> None:
            await filled(store)
            await store.write(b"", "empty")
            await asyncio.sleep(120)
            assert store.router.audit.last is not None
            await store.add_router(policy=Policy(3, 2))
            await store.routers.pop(0).stop()
            await asyncio.sleep(200)
            assert store.router.audit.last is not None
            await repair(store)
            empty = (await version_of(store, "empty")).stamp
            stamps = [each.stamp for p in store.putters for each in p.records]
            assert stamps.count(empty) == 3

        with_store(scene, audit_period_ms=24 * int(HOUR_S) * 1000)

    def test_soon_after_a_bucket_wants_more_replicas(self) -> None:
        async def scene(store: Store) -> None:
            await filled(store)
            await store.write(b"", "empty")
            await asyncio.sleep(120)
            first = store.router.audit.last
            await store.router.configure.change("photos", {"consistency": "strict"})
            await asyncio.sleep(120)
            assert store.router.audit.last is first, "that is no reason"
            await store.router.configure.change("photos", {"replicas": 3})
            await asyncio.sleep(120)
            assert store.router.audit.last is not first
            await repair(store)
            empty = (await version_of(store, "empty")).stamp
            stamps = [each.stamp for p in store.putters for each in p.records]
            assert stamps.count(empty) == 3

        with_store(scene, audit_period_ms=24 * int(HOUR_S) * 1000)

    def test_rounds_that_take_long_are_rare(self) -> None:
        async def scene(store: Store) -> None:
            await filled(store)
            await asyncio.sleep(120)
            audit = store.router.audit
            first = audit.last
            now = asyncio.get_running_loop().time
            assert audit._rest_s > now() - 120, "it rests for longer than the round took"
            audit._rest_s = now() + 500  # as after half a minute of walking
            store.meta.wipe("run-2")
            await asyncio.sleep(450)
            assert audit.last is first
            await asyncio.sleep(150)
            assert audit.last is not first

        with_store(scene, audit_period_ms=24 * int(HOUR_S) * 1000)

    def test_what_cannot_be_given_to_anybody_does_not_start_rounds(self) -> None:
        """Records are owed to a putter that was given up, and there is no other one."""

        async def scene(store: Store) -> None:
            await lose(store, 0)
            await store.write(b"", "empty")
            assert await store.meta.members.declare("p0", Decision.GONE)
            await asyncio.sleep(300)
            first = store.router.audit.last
            assert first is not None
            assert await store.meta.handoff.lacking()
            await asyncio.sleep(1_500)
            assert store.router.audit.last is first

        with_store(scene, putters=2, audit_period_ms=24 * int(HOUR_S) * 1000)

    def test_one_router_of_several_does_it(self) -> None:
        async def scene(store: Store) -> None:
            await store.add_router()
            await filled(store)
            await asyncio.sleep(120)
            before = [router.audit.last for router in store.routers]
            assert sum(each is not None for each in before) == 1
            store.meta.wipe("run-2")
            await asyncio.sleep(200)
            after = [router.audit.last for router in store.routers]
            assert sum(b is not a for b, a in zip(before, after, strict=True)) == 1

        with_store(scene, audit_period_ms=24 * int(HOUR_S) * 1000)

    def test_who_was_away_is_compared_when_it_is_back(self) -> None:
        async def scene(store: Store) -> None:
            await filled(store)
            await lose(store, 0)
            await asyncio.sleep(120)
            first = store.router.audit.last
            assert first is not None
            assert first.silent == ("p0",)
            await asyncio.sleep(2_000)
            assert store.router.audit.last is first, "it is not compared again while it is away"
            await back(store, 0)
            await asyncio.sleep(600)
            assert store.router.audit.last is not first
            assert store.router.audit.last.silent == ()  # type: ignore[union-attr]

        with_store(scene, audit_period_ms=24 * int(HOUR_S) * 1000, replace_after_ms=0)

    def test_never_unless_somebody_asks(self) -> None:
        async def scene(store: Store) -> None:
            await filled(store, 3)
            await asyncio.sleep(1_000)
            assert store.router.audit.last is None
            assert nothing(await audit(store))

        with_store(scene)


def test_where_no_putter_is_expected_no_record_is_missed() -> None:
    async def scene(store: Store) -> None:
        async def on() -> None:
            raise AssertionError("there is nothing to go through")

        router = store.router
        work = BareRecords(store.meta, router.fleet, router.policies, on)
        assert await work.run([]) == 0

    with_store(scene)
