"""What is left behind: rolled forward or failed, freed on every putter, then forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from msgspec.structs import replace

from common import records
from common.errors import MetadataUnavailable, NoSpace, NotFound, StorageError
from common.limits import OBJECT_LEASE_MS, REPLICA_AWAY_MS
from common.membership import Decision
from common.meta.interface import Commit, Outcome
from common.meta.memory_tables import MemoryObjects
from common.records import Abort, Version
from putter.storage.engine import Record
from router.quorum import Policy
from router.replicas import Replicas
from tests.node_kit import play, until
from tests.router_kit import FRAME, Store, metric, payload, tickets_of
from tests.simulation.loop import World

Scene = Callable[[Store, Version], Awaitable[None]]
SIZE = 50_000
DATA = payload(SIZE)


def with_orphan(scene: Scene, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
    """An object with a durable record whose router vanished before it could publish it."""

    async def main(world: World) -> None:
        store = await Store(world, **options).start()
        commit = MemoryObjects.commit

        async def lost(self: MemoryObjects, item: Commit) -> Outcome:
            raise MetadataUnavailable("the router is gone")

        monkeypatch.setattr(MemoryObjects, "commit", lost)
        with pytest.raises(MetadataUnavailable):
            await store.write(DATA)
        monkeypatch.setattr(MemoryObjects, "commit", commit)
        version = next(r for r in store.putters[0].records if isinstance(r, Version))
        assert await store.state(version.objects[0].object_id) == "writing"
        await asyncio.sleep(OBJECT_LEASE_MS / 1000 + 1)
        await scene(store, version)
        await store.stop()

    play(main)


def nothing_is_left(store: Store) -> bool:
    return not any(p.tickets or p.records for p in store.putters)


class TestAnAbandonedObject:
    def test_with_a_record_and_its_bytes_it_is_rolled_forward(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def scene(store: Store, version: Version) -> None:
            with pytest.raises(NotFound):
                await store.read()
            await store.router.janitor.round()
            assert await store.read() == DATA
            assert await store.router.reads.resolve("photos", "cat") == version
            assert await store.state(version.objects[0].object_id) == "written"
            assert metric(store.router.metrics, "putter_objects_written_total") == 1
            await store.clean()
            assert await store.read() == DATA

        with_orphan(scene, monkeypatch)

    def test_it_is_given_up_where_its_bucket_keeps_versions_elsewhere_now(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Else it would wait, and come once that is changed back."""

        async def scene(store: Store, version: Version) -> None:
            await store.router.configure.change("photos", {"versioning": "Enabled"})
            await store.router.janitor.round()
            assert await store.state(version.objects[0].object_id) != "writing"
            await store.router.configure.change("photos", {"versioning": "Suspended"})
            await store.clean()
            with pytest.raises(NotFound):
                await store.read()
            assert not any(p.tickets or version in p.records for p in store.putters)

        with_orphan(scene, monkeypatch)

    def test_a_newer_version_of_the_name_stays(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def scene(store: Store, version: Version) -> None:
            newer = await store.write(b"newer")
            await store.router.janitor.round()
            assert await store.read() == b"newer"
            await store.clean()
            for putter in store.putters:
                assert putter.tickets == set(tickets_of(newer.version))

        with_orphan(scene, monkeypatch)

    @pytest.mark.parametrize("harm", ["rot", "loss"])
    def test_without_all_its_bytes_it_is_failed(
        self, harm: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def scene(store: Store, version: Version) -> None:
            ticket = tickets_of(version)[7]
            for putter in store.putters:
                if harm == "rot":
                    putter.rot(ticket)
                else:
                    putter.engine.free([(ticket, 1)])
            await store.clean()
            with pytest.raises(NotFound):
                await store.read()
            assert nothing_is_left(store)
            assert await store.state(version.objects[0].object_id) == ""

        with_orphan(scene, monkeypatch)

    def test_without_a_record_it_is_failed_and_freed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def scene(store: Store, version: Version) -> None:
            for putter in store.putters:
                putter.engine.drop_records([version.objects[0].object_id])
            await store.clean()
            with pytest.raises(NotFound):
                await store.read()
            assert nothing_is_left(store)
            assert metric(store.router.metrics, "putter_objects_freed_total") == 1

        with_orphan(scene, monkeypatch)

    @pytest.mark.parametrize("holder", [0, 1])
    def test_an_abort_on_any_putter_is_honoured(
        self, holder: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def scene(store: Store, version: Version) -> None:
            object_id = version.objects[0].object_id
            abort = Abort("photos", "cat", version.stamp + 1, object_id)
            body = records.encode(abort)
            store.putters[holder].engine.put_record(Record(abort.stamp, object_id, body))
            await store.clean()
            with pytest.raises(NotFound):
                await store.read()
            assert not any(p.tickets for p in store.putters)

        with_orphan(scene, monkeypatch)

    def test_while_a_putter_that_may_hold_the_record_is_silent_it_waits(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def scene(store: Store, version: Version) -> None:
            object_id = version.objects[0].object_id
            store.putters[0].engine.drop_records([object_id])
            await store.putters[1].crash()
            await until(lambda: len(store.router.fleet.up()) == 1)
            await store.clean()
            assert await store.state(object_id) == "writing", "it may be there"
            assert store.putters[0].tickets
            await store.putters[1].start()
            await until(lambda: len(store.router.fleet.up()) == 2, 30)
            await store.clean()
            assert await store.read() == DATA

        with_orphan(scene, monkeypatch)

    def test_one_that_waits_does_not_hide_the_next(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("router.janitor._BATCH", 1)

        async def scene(store: Store, version: Version) -> None:
            store.putters[0].engine.drop_records([version.objects[0].object_id])
            await store.putters[1].crash()
            await until(lambda: len(store.router.fleet.up()) == 1)
            with monkeypatch.context() as patch:
                patch.setattr("router.writes.WritePath._mark_failed", _nobody)
                patch.setattr("router.small.SmallWrites._mark_failed", _nobody)

                async def lost(self: MemoryObjects, item: Commit) -> Outcome:
                    raise MetadataUnavailable("the router is gone")

                patch.setattr(MemoryObjects, "commit", lost)
                with pytest.raises(MetadataUnavailable):
                    await store.write(DATA, "second")
            await asyncio.sleep(OBJECT_LEASE_MS / 1000 + 1)
            await store.clean()
            assert await store.read("second") == DATA

        with_orphan(scene, monkeypatch)

    def test_a_living_writer_is_left_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def scene(store: Store, version: Version) -> None:
            object_id = version.objects[0].object_id
            lease = store.meta._state.object("photos", object_id)
            assert lease is not None
            lease.due_ms = store.world.clock.now_ms() + 10_000
            await store.router.janitor.round()
            assert await store.state(object_id) == "writing"

        with_orphan(scene, monkeypatch)


class TestAReplicaThatLacksSomething:
    """What is published is on every putter that its record names."""

    @pytest.mark.parametrize("harm", ["loss", "rot", "both", "all of it"])
    @pytest.mark.parametrize("victim", [0, 1])
    def test_it_is_filled_from_the_other_one(
        self, victim: int, harm: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def scene(store: Store, version: Version) -> None:
            tickets = tickets_of(version)
            putter = store.putters[victim]
            if harm == "all of it":
                putter.engine.free([(tickets[0], len(tickets))])
                putter.engine.drop_records([version.objects[0].object_id])
            if harm in ("loss", "both"):
                putter.engine.free([(t, 1) for t in tickets[::3]])
            if harm in ("rot", "both"):
                for ticket in tickets[1::3]:
                    putter.rot(ticket)
            await store.router.janitor.round()
            assert await store.read() == DATA
            await only(store, victim)
            assert await store.read() == DATA, "this replica alone is enough"
            assert putter.records == [version]

        with_orphan(scene, monkeypatch)

    def test_each_gives_the_other_what_it_lacks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def scene(store: Store, version: Version) -> None:
            for n, ticket in enumerate(tickets_of(version)):
                if n % 3 == 0:
                    store.putters[0].engine.free([(ticket, 1)])
                elif n % 3 == 1:
                    store.putters[1].rot(ticket)
            await store.router.janitor.round()
            for putter in store.putters:
                assert putter.tickets == set(tickets_of(version))
            await only(store, 1)
            assert await store.read() == DATA

        with_orphan(scene, monkeypatch)

    def test_memory_does_not_grow_with_the_object(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("router.replicas.RUN_BYTES_TARGET", 4 * FRAME)

        async def scene(store: Store, version: Version) -> None:
            tickets = tickets_of(version)
            store.putters[1].engine.free([(tickets[0], len(tickets))])
            asked: list[int] = []
            read = Replicas.read

            async def counted(self: Replicas, node: str, stored: Any, part: Any) -> Any:
                asked.append(part.count)
                return await read(self, node, stored, part)

            monkeypatch.setattr(Replicas, "read", counted)
            await store.router.janitor.round()
            assert max(asked) == 4
            assert sum(asked) == 2 * len(tickets)
            assert store.putters[1].tickets == set(tickets)

        with_orphan(scene, monkeypatch)

    def test_bytes_that_are_wrong_as_a_whole_are_not_published(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Every frame is right, but the object is not the one that the record describes."""

        async def scene(store: Store, version: Version) -> None:
            [stored] = version.objects
            wrong = replace(version, objects=(replace(stored, blake3=b"?" * 32),))
            for putter in store.putters:
                putter.engine.drop_records([stored.object_id])
                body = records.encode(wrong)
                putter.engine.put_record(Record(version.stamp, stored.object_id, body))
            await store.clean()
            with pytest.raises(NotFound):
                await store.read()
            assert nothing_is_left(store)

        with_orphan(scene, monkeypatch)


class TestANamedPutterThatIsAway:
    def test_it_is_waited_for_and_then_filled(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def scene(store: Store, version: Version) -> None:
            away = store.putters[1]
            tickets = tickets_of(version)
            away.engine.free([(tickets[0], len(tickets))])
            away.engine.drop_records([version.objects[0].object_id])
            await away.crash()
            await until(lambda: len(store.router.fleet.up()) == 1)
            await store.clean()
            store.putters[0].engine.log.clear()
            await store.clean()
            assert "read" not in store.putters[0].engine.log, "waiting costs no reading"
            assert await store.state(version.objects[0].object_id) == "writing"
            await away.start()
            await until(lambda: len(store.router.fleet.up()) == 2, 30)
            await store.clean()
            assert await store.router.reads.resolve("photos", "cat") == version
            await only(store, 1)
            assert await store.read() == DATA

        with_orphan(scene, monkeypatch)

    def test_after_a_while_the_record_is_corrected(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def scene(store: Store, version: Version) -> None:
            away = store.putters[1]
            await away.crash()
            await until(lambda: len(store.router.fleet.up()) == 1)
            await store.clean()
            await asyncio.sleep(REPLICA_AWAY_MS / 1000)
            await store.clean()
            assert await store.read() == DATA
            found = await store.router.reads.resolve("photos", "cat")
            assert found.objects[0].extents[0].nodes == ("p0",)
            assert found.stamp == version.stamp, "its place in the order of changes stays"
            corrected = store.putters[0].records[-1]
            assert isinstance(corrected, Version)
            assert corrected.objects == found.objects
            assert corrected.revision > version.stamp
            await away.start()
            await until(lambda: len(store.router.fleet.up()) == 2, 30)
            assert await store.router.writes.delete("photos", "cat")
            await store.clean()
            assert not any(p.tickets for p in store.putters), "strays are freed with it"

        with_orphan(scene, monkeypatch)

    def test_a_corrected_record_does_not_come_before_newer_changes(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def scene(store: Store, version: Version) -> None:
            await store.putters[1].crash()
            await until(lambda: len(store.router.fleet.up()) == 1)
            await store.clean()
            await store.write(b"newer")
            await asyncio.sleep(REPLICA_AWAY_MS / 1000)
            await store.clean()
            assert await store.read() == b"newer"
            assert await store.state(version.objects[0].object_id) in ("deleted", "")

        with_orphan(scene, monkeypatch)

    def test_one_that_takes_nothing_is_left_out_in_the_end(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def scene(store: Store, version: Version) -> None:
            full = store.putters[1]
            tickets = tickets_of(version)
            full.engine.free([(tickets[0], len(tickets))])
            full.engine.fail["put"] = NoSpace("full")
            await store.clean()
            store.putters[0].engine.log.clear()
            await store.clean()
            assert "read" not in store.putters[0].engine.log, "not in vain every time"
            assert await store.state(version.objects[0].object_id) == "writing"
            await asyncio.sleep(REPLICA_AWAY_MS / 1000)
            await store.clean()
            found = await store.router.reads.resolve("photos", "cat")
            assert found.objects[0].extents[0].nodes == ("p0",)
            assert await store.read() == DATA

        with_orphan(scene, monkeypatch)

    def test_without_one_whole_replica_it_goes_on_waiting(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def scene(store: Store, version: Version) -> None:
            store.putters[0].engine.free([(tickets_of(version)[5], 1)])
            await store.putters[1].crash()
            await until(lambda: len(store.router.fleet.up()) == 1)
            await store.clean()
            await asyncio.sleep(2 * REPLICA_AWAY_MS / 1000)
            await store.clean()
            assert await store.state(version.objects[0].object_id) == "writing"
            await store.putters[1].start()
            await until(lambda: len(store.router.fleet.up()) == 2, 30)
            await asyncio.sleep(REPLICA_AWAY_MS / 1000)
            await store.clean()
            assert await store.router.reads.resolve("photos", "cat") == version
            assert store.putters[0].tickets == set(tickets_of(version))

        with_orphan(scene, monkeypatch)

    def test_another_frame_size_is_copied_as_it_is(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def scene(store: Store, version: Version) -> None:
            await store.routers.pop(0).stop()
            await store.add_router(frame_bytes=5_000)
            store.putters[1].engine.free([(tickets_of(version)[3], 1)])
            await store.clean()
            await asyncio.sleep(REPLICA_AWAY_MS / 1000)
            await store.clean()
            found = await store.router.reads.resolve("photos", "cat")
            assert found.objects[0].extents[0].nodes == ("p0", "p1")
            assert store.putters[1].tickets == set(tickets_of(version))
            assert await store.read() == DATA

        with_orphan(scene, monkeypatch)


async def only(store: Store, number: int) -> None:
    """Leave one putter alive."""
    for n, putter in enumerate(store.putters):
        if n != number and putter.node is not None:
            await putter.crash()
    await until(lambda: len(store.router.fleet.up()) == 1)


async def _nobody(*_: object, **__: object) -> None:
    """A router that died marks nothing."""


class TestFreeing:
    def test_every_putter_has_to_confirm_before_it_is_forgotten(self) -> None:
        async def main(world: World) -> None:
            store = await Store(world, 3).start()
            written = await store.write(DATA)
            [extent] = written.version.objects[0].extents
            away = next(p for p in store.putters if p.name == extent.nodes[0])
            there = next(p for p in store.putters if p.name == extent.nodes[1])
            await away.crash()
            assert await store.router.writes.delete("photos", "cat")
            await store.clean()
            assert not there.tickets
            assert away.tickets
            assert await store.state(written.object_id) == "deleted"
            await away.start()
            await until(lambda: len(store.router.fleet.up()) == 3, 30)
            await store.clean()
            assert not away.tickets
            assert await store.state(written.object_id) == ""
            assert metric(store.router.metrics, "putter_objects_freed_total") == 1
            await store.stop()

        play(main)

    def test_what_others_keep_of_it_is_dropped_too(self) -> None:
        """Its abort may lie where the object never was, if its own putters were away."""

        async def main(world: World) -> None:
            store = await Store(world, 3).start()
            written = await store.write(DATA)
            [extent] = written.version.objects[0].extents
            [other] = [p for p in store.putters if p.name not in extent.nodes]
            other.engine.put_record(Record(written.version.stamp + 1, written.object_id, b"x"))
            kept = other.engine.put_record(Record(1, "OTHER", b"y"))
            assert await store.router.writes.delete("photos", "cat")
            await store.clean()
            assert await store.state(written.object_id) == ""
            assert other.engine.find_record(written.object_id) is None
            assert kept in [each.number for each in other.engine.records(0, 100)]
            await store.stop()

        play(main)

    def test_one_that_cannot_free_is_asked_again(self) -> None:
        async def main(world: World) -> None:
            store = await Store(world).start()
            written = await store.write(DATA)
            assert await store.router.writes.delete("photos", "cat")
            store.putters[0].engine.fail["free"] = StorageError("I/O error")
            await store.clean()
            assert await store.state(written.object_id) == "deleted"
            del store.putters[0].engine.fail["free"]
            await store.clean()
            assert await store.state(written.object_id) == ""
            assert not any(p.tickets for p in store.putters)
            await store.stop()

        play(main)

    def test_nothing_is_freed_before_its_grace_time(self) -> None:
        async def main(world: World) -> None:
            store = await Store(world, grace_ms=60_000).start()
            await store.write(DATA)
            assert await store.router.writes.delete("photos", "cat")
            await store.clean()
            assert all(p.tickets for p in store.putters)
            await asyncio.sleep(60)
            await store.clean()
            assert not any(p.tickets for p in store.putters)
            await store.stop()

        play(main)

    def test_only_its_own_tickets_and_records(self) -> None:
        async def main(world: World) -> None:
            store = await Store(world).start()
            kept = {}
            for n in range(30):
                await store.write(payload(3000, n), f"f{n}")
                if n % 2:
                    assert await store.router.writes.delete("photos", f"f{n}")
                else:
                    kept[f"f{n}"] = payload(3000, n)
            await store.clean()
            for key, data in kept.items():
                assert await store.read(key) == data
            for putter in store.putters:
                versions = [r for r in putter.records if isinstance(r, Version)]
                assert {version.key for version in versions} == set(kept)
                assert putter.tickets == {t for version in versions for t in tickets_of(version)}
            await store.stop()

        play(main)


class TestOneAtATime:
    def test_the_other_router_s_janitor_waits_for_its_lease(self) -> None:
        async def main(world: World) -> None:
            store = await Store(world).start()
            other = await store.add_router()
            await store.write(DATA)
            await store.router.janitor.round()
            assert await store.router.writes.delete("photos", "cat")
            await asyncio.sleep(2)
            await other.janitor.round()
            assert all(p.tickets for p in store.putters)
            await store.router.janitor.round()
            assert not any(p.tickets for p in store.putters)
            await store.stop()

        play(main)

    def test_a_stopping_one_hands_it_over(self) -> None:
        async def main(world: World) -> None:
            store = await Store(world).start()
            other = await store.add_router()
            await store.write(DATA)
            await store.router.janitor.round()
            assert await other.writes.delete("photos", "cat")
            await asyncio.sleep(2)
            await store.routers.pop(0).stop()
            await other.janitor.round()
            assert not any(p.tickets for p in store.putters)
            await store.stop()

        play(main)

    def test_it_goes_on_after_an_error(self) -> None:
        async def main(world: World) -> None:
            store = await Store(world, janitor_period_ms=1000).start()
            await store.write(DATA)
            assert await store.router.writes.delete("photos", "cat")
            store.meta.fail_for(10_000)
            await asyncio.sleep(9)
            assert all(p.tickets for p in store.putters)
            await asyncio.sleep(5)
            assert not any(p.tickets for p in store.putters)
            await store.stop()

        play(main)


class TestManyThatWaitForOnePutter:
    """More deleted objects wait for a putter that is away than a round looks at."""

    @staticmethod
    def play(scene: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        async def main(world: World) -> None:
            monkeypatch.setattr("router.janitor._WAITING_MAX", 4)
            monkeypatch.setattr("router.janitor._BATCH", 2)
            store = Store(world, putters=2, policy=Policy(1, 1))
            await store.start()
            keys: dict[str, list[str]] = {"p0": [], "p1": []}
            for n in range(60):
                await store.write(payload(100, n), f"k{n}")
                version = await store.router.reads.resolve("photos", f"k{n}")
                keys[version.objects[0].extents[0].nodes[0]].append(f"k{n}")
            await store.putters[1].crash()
            while len(store.router.fleet.up()) > 1:
                await asyncio.sleep(0.1)
            for key in (*keys["p1"], *keys["p0"]):
                await store.router.writes.delete("photos", key)
            await asyncio.sleep(2)
            await scene(store)
            await store.stop()

        play(main)

    def test_what_lies_elsewhere_is_freed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def scene(store: Store) -> None:
            for _ in range(100):
                await store.router.janitor.round()
            assert not store.putters[0].tickets
            assert len(store.putters[1].tickets) > 10
            await store.putters[1].start()
            while len(store.router.fleet.up()) < 2:
                await asyncio.sleep(0.1)
            await asyncio.sleep(601)
            for _ in range(100):
                await store.router.janitor.round()
            assert not store.putters[1].tickets
            assert await store.meta.objects.to_free(100) == []

        self.play(scene, monkeypatch)

    def test_one_that_is_gone_is_not_waited_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def scene(store: Store) -> None:
            assert await store.meta.members.declare("p1", Decision.GONE)
            for _ in range(100):
                await store.router.janitor.round()
            assert not store.putters[0].tickets
            await asyncio.sleep(700)
            for _ in range(100):
                await store.router.janitor.round()
            assert await store.meta.objects.to_free(100) == []

        self.play(scene, monkeypatch)
