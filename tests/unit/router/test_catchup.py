"""A Redis that forgot is brought back from the putters, before it serves anybody."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any

import pytest
from msgspec.structs import replace

from common import records
from common.errors import (
    MetadataUnavailable,
    NodesUnavailable,
    NotFound,
    PreconditionFailed,
    StorageError,
)
from common.membership import Decision
from common.meta.interface import Commit, Outcome
from common.meta.memory_tables import MemoryObjects
from common.records import Members, Peer, Version
from putter.storage.engine import Record
from router.catchup import CatchUp, CatchUpOptions, RebuildNeeded
from router.quorum import Policy
from router.replay import Tally
from tests.metadata_kit import begin
from tests.node_kit import play, until
from tests.router_kit import SimPutter, Store, payload, tickets_of
from tests.simulation.loop import World

Scene = Callable[[Store], Awaitable[None]]
DATA = payload(50_000)


def with_store(scene: Scene, putters: int = 2, **options: Any) -> None:
    async def main(world: World) -> None:
        store = await Store(world, putters, **options).start()
        await ready(store)
        await scene(store)
        await store.stop()

    play(main)


async def ready(store: Store, router: int = 0) -> None:
    """Until Redis is complete and knows all putters."""

    async def known() -> bool:
        standing = await store.meta.recovery.standing()
        marks = [standing.marks.get(p.name) for p in store.putters if p.node is not None]
        return standing.complete and all(m and m.epoch == standing.epoch for m in marks)

    for _ in range(600):
        if await known():
            return
        await asyncio.sleep(0.1)
    raise AssertionError(store.routers[router].catch_up.trouble or "not ready")


async def comparable(store: Store, keys: str = "abcdef") -> list[Any]:
    page = await store.meta.files.list("photos", "", "", 100)
    return [page, [await store.meta.files.resolve("photos", key) for key in keys]]


def members_on(store: Store, putter: int) -> list[Members]:
    engine = store.putters[putter].engine
    found = [records.decode(each.record.body) for each in engine.records(0, 1000)]
    return [each for each in found if isinstance(each, Members)]


class TestLosses:
    def test_names_versions_deletions_and_numbers_come_back(self) -> None:
        async def scene(store: Store) -> None:
            for n, key in enumerate("abcdef"):
                await store.write(payload(3000 * n + 1, n), key)
            await store.write(b"newer", "a")
            assert await store.router.writes.delete("photos", "b")
            await store.write(b"", "c")
            before = await comparable(store)
            last = await store.router.numbers.tickets(1)
            store.meta.wipe("run-2")
            with pytest.raises(MetadataUnavailable):
                await store.read("a")
            await ready(store)
            assert await comparable(store) == before
            assert await store.read("a") == b"newer"
            with pytest.raises(NotFound):
                await store.read("b")
            assert await store.router.numbers.tickets(70_000) > last
            await store.clean()
            for putter in store.putters:
                versions = [r for r in putter.records if isinstance(r, Version)]
                assert {version.key for version in versions} == set("acdef")
                assert putter.tickets == {t for v in versions for t in tickets_of(v)}

        with_store(scene)

    def test_only_what_may_be_missing_is_read(self) -> None:
        async def scene(store: Store) -> None:
            for key in "abc":
                await store.write(DATA, key)
            watermark = store.router.watermark
            assert not await watermark.round(), "a plan"
            assert not await watermark.round(), "it is too young"
            await asyncio.sleep(6)
            assert await watermark.round()
            snapshot = store.meta.snapshot()
            await store.write(DATA, "d")
            assert await store.router.writes.delete("photos", "a")
            store.meta.restore(snapshot, "run-2")
            await ready(store)
            tally = store.router.catch_up.tally
            assert tally is not None
            assert {node.records for node in tally.nodes.values()} == {2}
            assert await store.read("d") == DATA
            with pytest.raises(NotFound):
                await store.read("a")

        with_store(scene)

    def test_a_wipe_in_the_middle_begins_anew(self) -> None:
        async def scene(store: Store) -> None:
            for key in "abc":
                await store.write(DATA, key)
            recovery = store.meta.recovery
            complete, wiped = recovery.complete, []

            async def interrupted(*args: Any) -> bool:
                if not wiped:
                    wiped.append(True)
                    store.meta.wipe()
                return await complete(*args)

            recovery.complete = interrupted  # type: ignore[method-assign]
            store.meta.wipe("run-2")
            await ready(store)
            for key in "abc":
                assert await store.read(key) == DATA

        with_store(scene)

    def test_a_version_that_was_refused_stays_away(self) -> None:
        async def scene(store: Store) -> None:
            await store.write(b"first", "a")
            with pytest.raises(PreconditionFailed):
                await store.write(b"second", "a", if_match="something else")
            await asyncio.sleep(1)
            store.meta.wipe("run-2")
            await ready(store)
            assert await store.read("a") == b"first"

        with_store(scene)


class TestUnacknowledged:
    @pytest.mark.parametrize("whole", [True, False])
    def test_a_version_that_nobody_heard_of_is_there_whole_or_not_at_all(
        self, whole: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def scene(store: Store) -> None:
            commit = MemoryObjects.commit

            async def lost(self: MemoryObjects, item: Commit) -> Outcome:
                raise MetadataUnavailable("the router is gone")

            monkeypatch.setattr(MemoryObjects, "commit", lost)
            with pytest.raises(MetadataUnavailable):
                await store.write(DATA, "a")
            monkeypatch.setattr(MemoryObjects, "commit", commit)
            if not whole:
                for putter in store.putters:
                    version = next(r for r in putter.records if isinstance(r, Version))
                    putter.engine.free([(tickets_of(version)[3], 1)])
            store.meta.wipe("run-2")
            await ready(store)
            if whole:
                assert await store.read("a") == DATA
                return
            with pytest.raises(NotFound):
                await store.read("a")
            await store.clean()
            assert not any(p.tickets for p in store.putters)

        with_store(scene)


class TestDetours:
    """The first record of an object whose run took a detour names putters that never got it."""

    @pytest.mark.parametrize("where", [0, 1])
    @pytest.mark.parametrize("kept", [True, False])
    def test_the_record_that_is_true_counts(self, where: int, kept: bool) -> None:
        async def scene(store: Store) -> None:
            version = await written_on(store, "p0")
            await mislead(store, version, where)
            if kept:
                await describe(store, version, 0)
            lasts = {each.name: each.engine.records(0, 1000)[-1].number for each in store.putters}
            store.meta.wipe("run-2")
            await ready(store)
            if kept:
                assert await store.read(version.key) == DATA
            else:
                with pytest.raises(NotFound):
                    await store.read(version.key)
            standing = await store.meta.recovery.standing()
            assert {node: mark.number for node, mark in standing.marks.items()} == lasts
            await store.clean()

        with_store(scene, 2, policy=Policy(1, 1))

    def test_nothing_is_given_up_before_all_putters_were_read(self) -> None:
        async def scene(store: Store) -> None:
            version = await written_on(store, "p0")
            await mislead(store, version, 1)
            await describe(store, version, 0)
            await store.putters[0].crash()
            await until(lambda: len(store.router.fleet.up()) == 1, 10)
            store.meta.wipe("run-2")
            await asyncio.sleep(10)
            assert store.router.catch_up.silent
            await store.putters[0].start()
            await until(lambda: len(store.router.fleet.up()) == 2, 30)
            await ready(store)
            assert await store.read(version.key) == DATA

        with_store(scene, 2, policy=Policy(1, 1))


async def written_on(store: Store, node: str) -> Version:
    """A file on one putter alone, whose record is taken away again."""
    for n in count():
        await store.write(DATA, f"f{n}")
        version = await store.meta.files.resolve("photos", f"f{n}")
        assert version is not None
        [extent] = version.objects[0].extents
        if extent.nodes == (node,):
            break
    engine = store.putters[0].engine
    engine.drop_records([version.objects[0].object_id])
    engine.sync()
    return version


async def mislead(store: Store, version: Version, where: int) -> None:
    """A record of an earlier stamp that says that the object is on p1."""
    [stored] = version.objects
    elsewhere = [replace(extent, nodes=("p1",)) for extent in stored.extents]
    wrong = replace(stored, extents=tuple(elsewhere))
    await describe(store, replace(version, stamp=version.stamp - 1, objects=(wrong,)), where)


async def describe(store: Store, version: Version, where: int) -> None:
    engine = store.putters[where].engine
    object_id = version.objects[0].object_id
    engine.put_record(Record(version.stamp, object_id, records.encode(version)))
    engine.sync()


class TestMembers:
    def test_every_putter_keeps_the_list(self) -> None:
        async def scene(store: Store) -> None:
            for n in range(3):
                told = max(members_on(store, n), key=lambda each: each.stamp)
                assert [peer.node for peer in told.peers] == ["p0", "p1", "p2"]
                assert told.peers[0] == Peer("p0", "p0:5000")

        with_store(scene, 3)

    def test_a_redis_that_lost_everything_waits_for_the_silent_ones(self) -> None:
        async def scene(store: Store) -> None:
            for key in "abcdef":
                await store.write(DATA, key)
            await store.putters[2].crash()
            await until(lambda: len(store.router.fleet.up()) == 2, 10)
            store.meta.wipe("run-2")
            await asyncio.sleep(20)
            assert store.router.catch_up.silent == ("p2 (p2:5000)",)
            with pytest.raises(RebuildNeeded, match="p2"):
                await store.read("a")
            with pytest.raises(RebuildNeeded) as caught:
                await store.write(b"x", "new")
            assert "--without p2" in caught.value.hint
            # Whoever comes now finds the others replayed, and waits for it all the same.
            await store.router.catch_up.stop()
            other = CatchUp(
                store.meta, store.router.fleet, "other", store.world.random, CatchUpOptions()
            )
            assert not await other.step()
            assert other.silent == ("p2 (p2:5000)",)
            store.router.catch_up.start()
            await store.putters[2].start()
            await ready(store)
            for key in "abcdef":
                assert await store.read(key) == DATA

        with_store(scene, 3, write_timeout_ms=3_000)

    def test_one_that_is_there_and_does_not_answer_counts_as_silent(self) -> None:
        async def scene(store: Store) -> None:
            for key in "abcdef":
                await store.write(DATA, key)
            engine = store.putters[1].engine
            engine.fail["sync"] = StorageError("I/O error")
            store.meta.wipe("run-2")
            await asyncio.sleep(10)
            assert store.router.catch_up.silent == ("p1 (p1:5000)",)
            assert not (await store.meta.recovery.standing()).complete
            del engine.fail["sync"]
            await ready(store)
            for key in "abcdef":
                assert await store.read(key) == DATA

        with_store(scene)

    def test_one_that_is_gone_for_good(self) -> None:
        async def scene(store: Store) -> None:
            for key in "abcdef":
                await store.write(DATA, key)
            await store.putters[2].crash()
            store.meta.wipe("run-2")
            told: list[Tally] = []
            options = CatchUpOptions(without=frozenset({"p2"}))
            rng = store.world.random
            by_hand = CatchUp(store.meta, store.router.fleet, "by hand", rng, options, told.append)
            while not await by_hand.step():
                await asyncio.sleep(0.1)
            assert told
            await ready(store)
            for key in "abcdef":
                assert await store.read(key) == DATA
            last = max(members_on(store, 0), key=lambda each: each.stamp)
            assert [peer.node for peer in last.peers] == ["p0", "p1"]

        with_store(scene, 3)

    def test_one_that_another_process_left_out_is_not_listed_again(self) -> None:
        """What a router remembers of the cluster may be older than a rebuild by hand."""

        async def scene(store: Store) -> None:
            await store.write(DATA, "a")
            await store.putters[2].crash()
            store.meta.wipe("run-2")
            options = CatchUpOptions(without=frozenset({"p2"}))
            by_hand = CatchUp(
                store.meta, store.router.fleet, "by hand", store.world.random, options
            )
            while not await by_hand.step():
                await asyncio.sleep(0.1)
            new = SimPutter(store, "p3")
            store.putters.append(new)
            await new.start()
            await ready(store)
            last = max(members_on(store, 3), key=lambda each: each.stamp)
            assert [peer.node for peer in last.peers] == ["p0", "p1", "p3"]
            store.meta.wipe("run-3")
            await ready(store)
            assert await store.read("a") == DATA

        with_store(scene, 3)

    def test_one_that_is_away_stays_listed(self) -> None:
        async def scene(store: Store) -> None:
            await store.putters[2].crash()
            new = SimPutter(store, "p3")
            store.putters.append(new)
            await new.start()
            await ready(store)
            last = max(members_on(store, 3), key=lambda each: each.stamp)
            assert [peer.node for peer in last.peers] == ["p0", "p1", "p2", "p3"]
            assert last.peers[2] == Peer("p2", "p2:5000"), "where it was last"

        with_store(scene, 3)

    def test_one_that_was_declared_gone_stays_so_and_its_files_deleted(self) -> None:
        """Its records may tell of files whose tombstones are not kept any more."""

        async def scene(store: Store) -> None:
            for key in "abcdef":
                await store.write(DATA, key)
            await asyncio.sleep(10)
            await store.putters[2].crash()
            assert await store.meta.members.declare("p2", Decision.GONE)
            await store.router.catch_up.decided()
            for key in "abc":
                await store.router.writes.delete("photos", key)
            await store.clean()
            kept = max(members_on(store, 0), key=lambda each: each.stamp)
            assert kept.decided == {"p2": "gone"}
            store.meta.wipe("run-2")
            await store.putters[2].start()
            await asyncio.sleep(30)
            assert (await store.meta.recovery.standing()).complete, "without it"
            assert await store.meta.members.decisions() == {"p2": Decision.GONE}
            for key in "abc":
                with pytest.raises(NotFound):
                    await store.read(key)
            for key in "def":
                assert await store.read(key) == DATA
            last = max(members_on(store, 0), key=lambda each: each.stamp)
            assert [peer.node for peer in last.peers] == ["p0", "p1"]
            assert last.decided == {"p2": "gone"}

        with_store(scene, 3, replace_after_ms=0)

    def test_without_a_putter_nothing_is_decided_for_good(self) -> None:
        async def scene(store: Store) -> None:
            await asyncio.sleep(10)
            for putter in store.putters:
                await putter.crash()
            await asyncio.sleep(10)
            assert await store.meta.members.declare("p2", Decision.DRAINING)
            with pytest.raises(NodesUnavailable):
                await store.router.catch_up.decided()

        with_store(scene, 3, replace_after_ms=0)

    def test_one_that_is_drained_is_drained_on(self) -> None:
        async def scene(store: Store) -> None:
            await store.write(DATA, "a")
            await asyncio.sleep(10)
            assert await store.meta.members.declare("p2", Decision.DRAINING)
            await store.router.catch_up.decided()
            store.meta.wipe("run-2")
            await ready(store)
            assert await store.meta.members.decisions() == {"p2": Decision.DRAINING}
            assert await store.meta.members.declare("p2", None)
            await store.router.catch_up.decided()
            store.meta.wipe("run-3")
            await ready(store)
            assert await store.meta.members.decisions() == {}

        with_store(scene, 3, replace_after_ms=0)

    def test_without_auto_somebody_has_to_ask_for_it(self) -> None:
        async def scene(store: Store) -> None:
            await store.write(DATA, "a")
            store.meta.wipe("run-2")
            await asyncio.sleep(5)
            with pytest.raises(RebuildNeeded) as caught:
                await store.read("a")
            assert "putter rebuild" in caught.value.hint
            assert "putters hold data" in store.router.catch_up.trouble
            by_hand = CatchUp(
                store.meta, store.router.fleet, "me", store.world.random, CatchUpOptions()
            )
            while not await by_hand.step():
                await asyncio.sleep(0.1)
            assert await store.read("a") == DATA

        with_store(scene, rebuild_auto=False)

    def test_one_that_was_away_is_replayed_when_it_comes(self) -> None:
        """Its records are the only ones of what was written while it was alone."""

        async def scene(store: Store) -> None:
            snapshot = store.meta.snapshot()
            await store.putters[0].crash()
            await until(lambda: len(store.router.fleet.up()) == 1, 10)
            written = await store.write(DATA, "a")
            assert written.holders == 1
            await store.putters[1].crash()
            await until(lambda: not store.router.fleet.up(), 10)
            await store.putters[0].start()
            await until(lambda: len(store.router.fleet.up()) == 1, 30)
            store.meta.restore(snapshot, "run-2")
            await asyncio.sleep(10)
            with pytest.raises(NotFound):
                await store.read("a")
            await store.putters[1].start()
            await ready(store)
            assert await store.read("a") == DATA

        with_store(scene)


class TestMarks:
    def test_a_record_of_an_object_that_is_not_decided_holds_the_mark(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def scene(store: Store) -> None:
            commit = MemoryObjects.commit

            async def lost(self: MemoryObjects, item: Commit) -> Outcome:
                raise MetadataUnavailable("the router is gone")

            monkeypatch.setattr(MemoryObjects, "commit", lost)
            with pytest.raises(MetadataUnavailable):
                await store.write(DATA, "a")
            monkeypatch.setattr(MemoryObjects, "commit", commit)
            assert await store.meta.recovery.writing(10) != []
            watermark = store.router.watermark
            await watermark.round()
            await asyncio.sleep(6)
            assert not await watermark.round()
            await asyncio.sleep(31)
            await store.router.janitor.round()
            assert await store.read("a") == DATA
            assert await watermark.round()

        with_store(scene)

    def test_a_long_write_does_not_hold_it(self) -> None:
        async def scene(store: Store) -> None:
            await store.write(DATA, "a")
            path = store.router.writes
            await store.meta.objects.begin(begin("LONG", bucket="photos", nodes=("p0", "p1")))
            watermark = store.router.watermark
            await watermark.round()
            await asyncio.sleep(6)
            assert await watermark.round()
            assert path.writing == 0

        with_store(scene)

    def test_one_that_is_declared_gone_meanwhile_is_left_out(self) -> None:
        async def scene(store: Store) -> None:
            await store.write(DATA, "a")
            watermark = store.router.watermark
            await watermark.round()
            await store.putters[0].crash()
            assert await store.meta.members.declare("p0", Decision.GONE)
            await asyncio.sleep(6)
            assert await watermark.round()
            assert "p0" not in (await store.meta.recovery.standing()).marks

        with_store(scene)

    def test_a_deletion_whose_router_died_is_finished(self) -> None:
        async def scene(store: Store) -> None:
            await store.write(DATA, "a")
            gone = records.Tombstone("photos", "a", await store.router.numbers.stamp(), 0)
            body = records.encode(gone)
            store.putters[0].engine.put_record(Record(gone.stamp, "", body))
            assert await store.read("a") == DATA
            await store.router.watermark.round()
            await asyncio.sleep(6)
            assert await store.router.watermark.round()
            with pytest.raises(NotFound):
                await store.read("a")

        with_store(scene)

    def test_after_a_wipe_no_mark_is_moved(self) -> None:
        async def scene(store: Store) -> None:
            await store.write(DATA, "a")
            watermark = store.router.watermark
            await watermark.round()
            await asyncio.sleep(6)
            await store.router.catch_up.stop()
            store.meta.wipe()
            assert not await watermark.round()
            assert (await store.meta.recovery.standing()).marks == {}

        with_store(scene)
