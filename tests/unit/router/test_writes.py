"""The whole way of a write, on twins: every size, every condition, everything that can fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from common.checksum import object_digest
from common.errors import (
    ClientGone,
    EmptyObject,
    MetadataUnavailable,
    NodesUnavailable,
    NoSpace,
    NotFound,
    ObjectGone,
    PreconditionFailed,
    PutterError,
    ShuttingDown,
    StorageError,
)
from common.limits import KIB, MIB, OBJECT_LEASE_MS
from common.meta.interface import Commit, Outcome
from common.meta.memory_tables import MemoryObjects
from common.records import Abort, Tombstone, Version
from common.requests import about_request, current_request
from router.blocks import ChunkSource
from router.groups import GROUP_OBJECTS_MAX
from router.quorum import Policy
from router.small import SMALL_BYTES_MAX, SmallWrites
from router.targets import Sealed, Target, etag_of
from tests.node_kit import play, until
from tests.router_kit import FRAME, Store, in_chunks, metric, payload, tickets_of
from tests.simulation.loop import World

Scene = Callable[[Store], Awaitable[None]]
SMALL, LARGE = 3_000, 300_000


def with_store(scene: Scene, putters: int = 2, *, seed: int = 1, **options: Any) -> None:
    """A running store of real parts."""

    async def main(world: World) -> None:
        store = await Store(world, putters, **options).start()
        await scene(store)
        await store.stop()

    play(main, seed)


def held_by(store: Store, version: Version) -> list[str]:
    """The putters that hold every ticket of a version."""
    return [p.name for p in store.putters if set(tickets_of(version)) <= p.tickets]


class TestSizes:
    @pytest.mark.parametrize(
        "size",
        [
            1,
            FRAME - 1,
            FRAME,
            FRAME + 1,
            SMALL_BYTES_MAX,
            SMALL_BYTES_MAX + 1,
            719 * FRAME,
            719 * FRAME + 1,
            2 * 719 * FRAME,
            3 * MIB + 17,
        ],
    )
    def test_what_is_written_is_read(self, size: int) -> None:
        data = payload(size)

        async def scene(store: Store) -> None:
            written = await store.write(data, headers={"content-type": "text/plain"})
            assert written.digest == object_digest(data)
            assert written.holders == 2
            assert not written.degraded
            assert await store.read() == data
            version = await store.router.reads.resolve("photos", "cat")
            assert version == written.version
            assert (version.size, version.replicas) == (size, 2)
            assert version.headers == {"content-type": "text/plain"}
            [stored] = version.objects
            assert stored.object_id == written.object_id
            assert stored.tickets == len(tickets_of(version)) == -(-size // FRAME)
            assert held_by(store, version) == ["p0", "p1"]
            for putter in store.putters:
                assert putter.records == [version], "the record is durable where the bytes are"
            assert await store.state(written.object_id) == "written"
            assert metric(store.router.metrics, "putter_objects_written_total") == 1
            assert store.router.writes.pending_bytes == 0
            assert store.router.writes.writing == 0

        with_store(scene)

    @pytest.mark.parametrize("frame_bytes", [FRAME, 5_000, 64 * KIB, MIB])
    def test_any_frame_size(self, frame_bytes: int) -> None:
        data = payload(2 * MIB + 9)

        async def scene(store: Store) -> None:
            await store.write(data)
            await store.write(data[:100], "dog")
            assert await store.read() == data
            assert await store.read("dog") == data[:100]
            assert (
                await store.read(start=frame_bytes - 1, end=frame_bytes + 1)
                == (data[frame_bytes - 1 : frame_bytes + 1])
            )

        with_store(scene, frame_bytes=frame_bytes)

    def test_a_store_of_one_node(self) -> None:
        async def scene(store: Store) -> None:
            written = await store.write(payload(LARGE))
            assert (written.holders, written.degraded) == (1, False)
            assert await store.read() == payload(LARGE)

        with_store(scene, 1)

    @pytest.mark.parametrize("putters", [2, 3, 5])
    def test_bytes_are_where_the_record_says_and_nowhere_else(self, putters: int) -> None:
        async def scene(store: Store) -> None:
            wanted: dict[str, set[int]] = {p.name: set() for p in store.putters}
            for n in range(12):
                written = await store.write(payload(1 + n * 40_000, n), f"f{n}")
                for extent in written.version.objects[0].extents:
                    assert len(extent.nodes) == 2
                    assert extent.nodes == tuple(sorted(extent.nodes))
                    for node in extent.nodes:
                        wanted[node] |= set(range(extent.first, extent.first + extent.count))
            assert {p.name: p.tickets for p in store.putters} == wanted
            assert all(wanted.values()), "every putter takes a share"

        with_store(scene, putters)

    def test_no_ticket_is_used_twice(self) -> None:
        async def scene(store: Store) -> None:
            await store.add_router()
            sizes = [1, FRAME, 10_000, 2_000_000, 50_000] * 4
            written = await asyncio.gather(
                *(
                    store.write(payload(size, n), f"f{n}", router=n % 2)
                    for n, size in enumerate(sizes)
                )
            )
            used = [ticket for each in written for ticket in tickets_of(each.version)]
            assert len(used) == len(set(used))
            assert len({each.object_id for each in written}) == len(sizes)
            assert len({each.version.stamp for each in written}) == len(sizes)

        with_store(scene)


class TestNoBytes:
    def test_a_door_may_allow_an_empty_file(self) -> None:
        async def scene(store: Store) -> None:
            written = await store.write(b"")
            assert (written.object_id, written.version.size, written.holders) == ("", 0, 2)
            assert written.digest == object_digest(b"")
            assert written.version.objects == ()
            assert await store.read() == b""
            assert [p.records for p in store.putters] == [[written.version]] * 2

        with_store(scene)

    def test_a_door_may_refuse_it(self) -> None:
        async def scene(store: Store) -> None:
            with pytest.raises(EmptyObject):
                await store.write(b"", empty_allowed=False)
            with pytest.raises(NotFound):
                await store.read()
            assert [p.records for p in store.putters] == [[], []]

        with_store(scene)

    def test_an_empty_file_over_a_full_one_and_back(self) -> None:
        async def scene(store: Store) -> None:
            await store.write(payload(LARGE))
            await store.write(b"")
            assert await store.read() == b""
            await store.write(payload(SMALL))
            assert await store.read() == payload(SMALL)
            await store.clean()
            assert [len(p.tickets) for p in store.putters] == [3, 3]

        with_store(scene)

    def test_a_condition_that_does_not_hold_leaves_nothing(self) -> None:
        async def scene(store: Store) -> None:
            first = await store.write(b"first")
            with pytest.raises(PreconditionFailed):
                await store.write(b"", if_match="")
            assert await store.read() == b"first"
            assert [p.records for p in store.putters] == [[first.version]] * 2

        with_store(scene)


class TestConditions:
    @pytest.mark.parametrize("size", [SMALL, LARGE])
    def test_only_if_nothing_is_there(self, size: int) -> None:
        async def scene(store: Store) -> None:
            await store.write(payload(size, 1), if_match="")
            with pytest.raises(PreconditionFailed, match="photos/cat"):
                await store.write(payload(size, 2), if_match="")
            assert await store.read() == payload(size, 1)

        with_store(scene)

    @pytest.mark.parametrize("size", [SMALL, LARGE])
    def test_only_over_the_version_that_was_seen(self, size: int) -> None:
        async def scene(store: Store) -> None:
            first = await store.write(payload(size, 1))
            second = await store.write(payload(size, 2), if_match=first.version.etag)
            with pytest.raises(PreconditionFailed):
                await store.write(payload(size, 3), if_match=first.version.etag)
            with pytest.raises(PreconditionFailed):
                await store.write(payload(size, 3), "dog", if_match="*")
            assert await store.read() == payload(size, 2)
            assert (await store.router.reads.resolve("photos", "cat")) == second.version

        with_store(scene)

    @pytest.mark.parametrize("size", [0, SMALL, LARGE, 3 * MIB])
    def test_of_many_that_race_one_wins_and_the_others_have_no_record(self, size: int) -> None:
        async def scene(store: Store) -> None:
            await store.add_router()
            results = await asyncio.gather(
                *(
                    store.write(payload(size, n), router=n % 2, if_match="", headers={"n": str(n)})
                    for n in range(6)
                ),
                return_exceptions=True,
            )
            won = [n for n, result in enumerate(results) if not isinstance(result, Exception)]
            assert len(won) == 1
            lost = [result for result in results if isinstance(result, Exception)]
            assert all(isinstance(error, PreconditionFailed) for error in lost)
            assert await store.read() == payload(size, won[0])
            version = await store.router.reads.resolve("photos", "cat")
            assert version.headers == {"n": str(won[0])}
            assert [p.records for p in store.putters] == [[version]] * 2
            await store.clean()
            assert [p.tickets for p in store.putters] == [set(tickets_of(version))] * 2
            assert await store.read() == payload(size, won[0])

        with_store(scene)

    @pytest.mark.parametrize("size", [0, SMALL, LARGE, 3 * MIB])
    def test_one_without_a_condition_may_come_before_it_after_all(
        self, size: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def scene(store: Store) -> None:
            commit = MemoryObjects.commit

            async def overtaken(self: MemoryObjects, item: Commit) -> Outcome:
                if item.if_match is not None:
                    await store.write(b"unconditional")
                return await commit(self, item)

            monkeypatch.setattr(MemoryObjects, "commit", overtaken)
            with pytest.raises(PreconditionFailed):
                await store.write(payload(size), if_match="")
            for putter in store.putters:
                abort = next(r for r in putter.records if isinstance(r, Abort))
                refused = next(r for r in putter.records if r.stamp == abort.aborted)  # type: ignore[union-attr]
                assert isinstance(refused, Version)
                assert refused.size == size
            assert await store.read() == b"unconditional"
            await until(lambda: not store.router.writes._background)
            await store.write(b"next", if_match="*")
            await store.clean()
            assert [len(p.tickets) for p in store.putters] == [1, 1]

        with_store(scene)


class TestOverwriting:
    @pytest.mark.parametrize("size", [SMALL, LARGE])
    def test_the_last_stamp_wins(self, size: int) -> None:
        async def scene(store: Store) -> None:
            for n in range(4):
                await store.write(payload(size, n))
            assert await store.read() == payload(size, 3)
            await store.clean()
            assert await store.read() == payload(size, 3)
            version = await store.router.reads.resolve("photos", "cat")
            for putter in store.putters:
                assert putter.tickets == set(tickets_of(version))
                assert putter.records == [version]

        with_store(scene)

    def test_one_that_was_overtaken_counts_as_overwritten(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def scene(store: Store) -> None:
            slow = asyncio.Event()
            commit = MemoryObjects.commit

            async def late(self: MemoryObjects, item: Commit) -> Outcome:
                if item.version.size == LARGE:
                    await slow.wait()
                return await commit(self, item)

            monkeypatch.setattr(MemoryObjects, "commit", late)
            first = asyncio.create_task(store.write(payload(LARGE)))
            await until(lambda: any(p.records for p in store.putters))
            second = await store.write(payload(SMALL))
            slow.set()
            older = await first
            assert older.version.stamp < second.version.stamp
            assert await store.read() == payload(SMALL)
            assert await store.state(older.object_id) == "deleted"

        with_store(scene)

    def test_deleting(self) -> None:
        async def scene(store: Store) -> None:
            assert not await store.router.writes.delete("photos", "cat")
            written = await store.write(payload(LARGE))
            assert await store.router.writes.delete("photos", "cat")
            for putter in store.putters:
                tomb = putter.records[-1]
                assert isinstance(tomb, Tombstone)
                assert (tomb.bucket, tomb.key) == ("photos", "cat")
                assert tomb.stamp > written.version.stamp
            with pytest.raises(NotFound):
                await store.read()
            assert not await store.router.writes.delete("photos", "cat")
            await store.clean()
            assert [p.tickets for p in store.putters] == [set(), set()]

        with_store(scene)


class TestAStreamThatBreaksOff:
    @pytest.mark.parametrize("size", [100, SMALL, LARGE, 3 * MIB])
    def test_nothing_is_visible_and_nothing_is_left(self, size: int) -> None:
        async def scene(store: Store) -> None:
            path = store.router.writes
            await store.write(payload(500), "other")
            before = [p.tickets for p in store.putters]
            source = ChunkSource(in_chunks(payload(size), error=ClientGone("reset")), path.filler())
            with pytest.raises(ClientGone):
                await path.write(source, Target("photos", "cat"))
            source.close()
            with pytest.raises(NotFound):
                await store.read()
            assert path.pending_bytes == 0
            assert path.writing == 0
            await store.clean()
            assert [p.tickets for p in store.putters] == before
            assert await store.meta.objects.stale(10) == []
            assert await store.read("other") == payload(500)

        with_store(scene)

    def test_it_takes_no_ticket_of_others_with_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Tickets that an object asked for and did not use are still freed with it."""

        monkeypatch.setattr("router.upload._FIRST_SPAN_RUNS", 6)

        async def scene(store: Store) -> None:
            path = store.router.writes
            hold = asyncio.Event()

            async def body() -> Any:
                # More than one span of tickets, with a rest in the first that no run fits in.
                yield payload(8 * MIB)
                hold.set()
                await resume.wait()
                raise ClientGone("reset")

            resume = asyncio.Event()
            source = ChunkSource(body(), path.filler())
            doomed = asyncio.create_task(path.write(source, Target("photos", "doomed")))
            await hold.wait()
            kept = {}
            for n in range(8):
                kept[f"k{n}"] = payload(700 + n, n)
                await store.write(kept[f"k{n}"], f"k{n}")
            resume.set()
            with pytest.raises(ClientGone):
                await doomed
            source.close()
            await store.clean()
            for key, data in kept.items():
                assert await store.read(key) == data

        with_store(scene)

    def test_a_cancelled_write_is_cleaned_up(self) -> None:
        async def scene(store: Store) -> None:
            path = store.router.writes
            cancelled = 0
            for n in range(40):
                size = (SMALL, LARGE)[n % 2]
                task = asyncio.create_task(store.write(payload(size, n), f"f{n}"))
                await asyncio.sleep(n * 0.000_02)
                task.cancel()
                try:
                    await task
                except asyncio.CancelledError:
                    cancelled += 1
                else:
                    assert await store.read(f"f{n}") == payload(size, n)
            assert cancelled > 10
            await until(lambda: path.writing == 0)
            assert path.pending_bytes == 0
            await asyncio.sleep(OBJECT_LEASE_MS / 1000)
            await store.clean()
            names = await store.meta.files.list("photos", "", "", 100)
            version = [await store.meta.files.resolve("photos", e.key) for e in names.entries]
            alive = {t for each in version if each for t in tickets_of(each)}
            assert [p.tickets for p in store.putters] == [alive, alive]

        with_store(scene)


class TestPuttersThatFail:
    @pytest.mark.parametrize("size", [SMALL, LARGE])
    def test_two_copies_with_one_node_gone_are_degraded(self, size: int) -> None:
        async def scene(store: Store) -> None:
            await store.write(b"x", "before")
            await store.putters[1].crash()
            await until(lambda: len(store.router.fleet.up()) == 1)
            written = await store.write(payload(size))
            assert (written.holders, written.degraded) == (1, True)
            assert written.version.replicas == 2
            [extent] = written.version.objects[0].extents
            assert extent.nodes == ("p0",)
            assert await store.read() == payload(size)
            assert metric(store.router.metrics, "putter_degraded_writes_total") == 1

        with_store(scene)

    @pytest.mark.parametrize("size", [0, SMALL, LARGE])
    def test_strict_refuses_them(self, size: int) -> None:
        async def scene(store: Store) -> None:
            await store.write(b"x", "before")
            await store.putters[1].crash()
            await until(lambda: len(store.router.fleet.up()) == 1)
            with pytest.raises(NodesUnavailable, match="only 1 of the 2"):
                await store.write(payload(size))
            with pytest.raises(NotFound):
                await store.read()
            assert await store.read("before") == b"x"

        with_store(scene, policy=Policy(2, 2, "strict"))

    def test_without_any_nothing_is_written(self) -> None:
        async def scene(store: Store) -> None:
            await store.write(b"x", "before")
            for putter in store.putters:
                await putter.crash()
            await until(lambda: not store.router.fleet.up())
            for size in (0, SMALL, LARGE):
                with pytest.raises(NodesUnavailable):
                    await store.write(payload(size))

        with_store(scene)

    @pytest.mark.parametrize("size", [SMALL, LARGE, 3 * MIB])
    def test_one_that_dies_meanwhile_is_replaced_by_another(self, size: int) -> None:
        async def scene(store: Store) -> None:
            for n in range(6):
                task = asyncio.create_task(store.write(payload(size, n), f"f{n}"))
                await asyncio.sleep(0.0005 * n)
                victim = store.putters[n % 3]
                await victim.crash()
                written = await task
                assert written.holders >= 1
                assert await store.read(f"f{n}") == payload(size, n)
                truly = {p.name for p in store.putters}
                for extent in written.version.objects[0].extents:
                    tickets = set(range(extent.first, extent.first + extent.count))
                    for node in extent.nodes:
                        [putter] = [p for p in store.putters if p.name == node]
                        assert tickets <= putter.tickets, "the record says what is true"
                    truly &= set(extent.nodes)
                assert len(truly) >= written.holders or size > MIB
                await victim.start()
                await until(lambda: len(store.router.fleet.up()) == 3, 30)

        with_store(scene, 3, failover_ms=500)

    @pytest.mark.parametrize("size", [SMALL, LARGE])
    def test_a_full_disk_is_passed_over(self, size: int) -> None:
        async def scene(store: Store) -> None:
            for n in range(4):
                written = await store.write(payload(size, n), f"f{n}")
                assert written.holders == 2
                assert "p1" not in written.version.objects[0].extents[0].nodes
                assert await store.read(f"f{n}") == payload(size, n)
            assert store.putters[1].tickets == set()

        with_store(scene, 3, capacities=(1 << 30, 10, 1 << 30))

    @pytest.mark.parametrize("size", [SMALL, LARGE])
    def test_when_all_disks_are_full_it_says_so(self, size: int) -> None:
        async def scene(store: Store) -> None:
            with pytest.raises(NoSpace):
                await store.write(payload(size))
            with pytest.raises(NotFound):
                await store.read()

        with_store(scene, 2, capacities=(900, 900))

    @pytest.mark.parametrize("size", [SMALL, LARGE])
    def test_a_disk_that_cannot_sync_does_not_count(self, size: int) -> None:
        async def scene(store: Store) -> None:
            store.putters[0].engine.fail["sync"] = StorageError("I/O error")
            written = await store.write(payload(size))
            assert written.holders == 1
            assert written.version.objects[0].extents[0].nodes == ("p1",)
            store.putters[1].engine.fail["sync"] = StorageError("I/O error")
            with pytest.raises(StorageError):
                await store.write(payload(size), "dog")
            with pytest.raises(NotFound):
                await store.read("dog")

        with_store(scene)

    def test_putters_that_take_nothing_are_not_waited_for_for_ever(self) -> None:
        async def scene(store: Store) -> None:
            await store.write(b"x", "before")
            for putter in store.putters:
                store.network.partition("r0", putter.name)
            began = store.world.loop.time()
            with pytest.raises(NodesUnavailable):
                await store.write(payload(LARGE))
            assert store.world.loop.time() - began < 40
            store.network.heal()
            await until(lambda: len(store.router.fleet.up()) == 2, 60)
            await store.write(payload(SMALL))
            assert await store.read() == payload(SMALL)

        with_store(scene, write_timeout_ms=10_000)


class TestRedisAway:
    @pytest.mark.parametrize("size", [0, SMALL, LARGE])
    def test_it_is_an_error_and_nothing_stays(self, size: int) -> None:
        async def scene(store: Store) -> None:
            await store.write(b"x", "before")
            store.meta.down = True
            with pytest.raises(MetadataUnavailable):
                await store.write(payload(size))
            store.meta.down = False
            with pytest.raises(NotFound):
                await store.read()
            await asyncio.sleep(OBJECT_LEASE_MS / 1000)
            await store.clean()
            assert {len(p.tickets) for p in store.putters} == {1}
            await store.write(payload(SMALL))
            assert await store.read() == payload(SMALL)

        with_store(scene)

    @pytest.mark.parametrize("size", [SMALL, LARGE])
    def test_a_lost_answer_to_the_commit_is_rolled_forward(
        self, size: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The client hears an error, and the file is there whole or not at all."""

        async def scene(store: Store) -> None:
            await store.write(b"x", "before")
            commit = MemoryObjects.commit

            async def lost(self: MemoryObjects, item: Commit) -> Outcome:
                raise MetadataUnavailable("no answer")

            monkeypatch.setattr(MemoryObjects, "commit", lost)
            with pytest.raises(MetadataUnavailable):
                await store.write(payload(size))
            monkeypatch.setattr(MemoryObjects, "commit", commit)
            await asyncio.sleep(OBJECT_LEASE_MS / 1000)
            await store.clean()
            try:
                assert await store.read() == payload(size)
            except NotFound:
                assert {len(p.tickets) for p in store.putters} == {1}

        with_store(scene)


class TestGivenUpByAJanitor:
    def test_the_abort_is_durable_before_the_error(self) -> None:
        async def scene(store: Store) -> None:
            fail = store.meta.objects.fail
            path = store.router.writes
            resume = asyncio.Event()

            async def body() -> Any:
                yield payload(2 * MIB)
                await resume.wait()
                yield payload(1)

            source = ChunkSource(body(), path.filler())
            task = asyncio.create_task(path.write(source, Target("photos", "cat")))
            await until(lambda: bool(path._uploads))
            await asyncio.sleep(0.01)
            [object_id] = path._uploads
            assert await fail("photos", object_id)
            resume.set()
            with pytest.raises(ObjectGone):
                await task
            for putter in store.putters:
                assert isinstance(putter.records[-1], Abort)
                assert putter.records[-1].object_id == object_id
            with pytest.raises(NotFound):
                await store.read()
            await store.clean()
            assert [p.tickets for p in store.putters] == [set(), set()]
            assert await store.state(object_id) == ""

        with_store(scene)

    def test_a_long_write_gives_signs_of_life(self) -> None:
        async def scene(store: Store) -> None:
            path = store.router.writes
            resume = asyncio.Event()

            async def body() -> Any:
                yield payload(2 * MIB)
                await resume.wait()
                yield b"end"

            source = ChunkSource(body(), path.filler())
            task = asyncio.create_task(path.write(source, Target("photos", "cat")))
            await asyncio.sleep(3 * OBJECT_LEASE_MS / 1000)
            [object_id] = path._uploads
            state = await store.meta.objects.get(object_id)
            assert state is not None
            assert state.acked >= 719, "its totals are known while it is written"
            assert await store.meta.objects.stale(10) == []
            resume.set()
            await task
            assert await store.read() == payload(2 * MIB) + b"end"

        with_store(scene)


class TestSmallOnes:
    def test_many_at_once_share_a_group(self) -> None:
        async def scene(store: Store) -> None:
            count = 3 * GROUP_OBJECTS_MAX // 2
            await store.write(b"x", "first")
            before = store.putters[0].engine.log.count("sync")
            results = await asyncio.gather(
                *(store.write(payload(10 + n, n), f"s{n}") for n in range(count))
            )
            for n, written in enumerate(results):
                assert written.version.key == f"s{n}"
                assert await store.read(f"s{n}") == payload(10 + n, n)
            syncs = store.putters[0].engine.log.count("sync") - before
            assert syncs <= 20, "one sync serves many"

        with_store(scene)

    def test_beside_a_large_group_no_small_one_starts(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A lone object would cost the round trips of a group, and the next ones theirs."""

        async def scene(store: Store) -> None:
            await store.write(b"x", "first")
            sizes: list[int] = []
            describe = SmallWrites._frame

            def counted(self: SmallWrites, group: list[Any], *rest: Any) -> Any:
                sizes.append(len(group))
                return describe(self, group, *rest)

            monkeypatch.setattr(SmallWrites, "_frame", counted)
            tasks = [asyncio.create_task(store.write(payload(50, n), f"a{n}")) for n in range(30)]
            for n in range(20):
                await asyncio.sleep(0)
                tasks.append(asyncio.create_task(store.write(payload(50, n), f"b{n}")))
            await asyncio.gather(*tasks)
            assert sizes == [30, 20]

        with_store(scene)

    def test_one_refusal_in_a_group_harms_no_other(self) -> None:
        async def scene(store: Store) -> None:
            await store.write(b"there", "taken")
            results = await asyncio.gather(
                store.write(b"a", "one"),
                store.write(b"b", "taken", if_match=""),
                store.write(b"c", "two", if_match=""),
                store.write(b"d", "three", if_match="*"),
                return_exceptions=True,
            )
            assert [type(r) for r in results[1::2]] == [PreconditionFailed] * 2
            assert await store.read("one") == b"a"
            assert await store.read("two") == b"c"
            assert await store.read("taken") == b"there"
            with pytest.raises(NotFound):
                await store.read("three")
            await store.clean()
            assert [len(p.tickets) for p in store.putters] == [3, 3]

        with_store(scene)

    def test_a_sender_that_gives_up_harms_no_other(self) -> None:
        async def scene(store: Store) -> None:
            tasks = [asyncio.create_task(store.write(payload(50, n), f"s{n}")) for n in range(10)]
            await asyncio.sleep(0.0002)
            for task in tasks[::2]:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            for n in range(1, 10, 2):
                assert not isinstance(results[n], BaseException)
                assert await store.read(f"s{n}") == payload(50, n)
            await until(lambda: store.router.writes.writing == 0)
            assert store.router.writes.pending_bytes == 0

        with_store(scene)

    def test_a_group_that_cannot_go_as_a_whole_goes_one_by_one(self) -> None:
        async def scene(store: Store) -> None:
            await store.write(b"x", "first")
            store.putters[0].engine.fail["put"] = NoSpace("full")
            results = await asyncio.gather(
                *(store.write(payload(60, n), f"s{n}") for n in range(20))
            )
            for n, written in enumerate(results):
                assert "p0" not in written.version.objects[0].extents[0].nodes
                assert await store.read(f"s{n}") == payload(60, n)
            await store.clean()
            for putter in store.putters[1:]:
                alive = {
                    t
                    for each in results
                    if putter.name in each.version.objects[0].extents[0].nodes
                    for t in tickets_of(each.version)
                }
                assert alive <= putter.tickets
                assert len(putter.tickets - alive) <= 1, "only what was there before"

        with_store(scene, 3)


class TestStopping:
    def test_what_is_under_way_may_finish_and_nothing_new_begins(self) -> None:
        async def scene(store: Store) -> None:
            path = store.router.writes
            under_way = [
                asyncio.create_task(store.write(payload(LARGE, 1), "large")),
                asyncio.create_task(store.write(payload(SMALL, 1), "small")),
            ]
            await asyncio.sleep(0.0001)
            stopping = asyncio.create_task(path.stop(5_000))
            await asyncio.sleep(0)
            with pytest.raises(ShuttingDown):
                await store.write(b"late", "late")
            await asyncio.gather(*under_way)
            await stopping
            assert await store.read("large") == payload(LARGE, 1)
            assert await store.read("small") == payload(SMALL, 1)
            assert path.pending_bytes == 0

        with_store(scene)


@pytest.mark.parametrize("size", [0, 1, SMALL, LARGE])
def test_a_door_may_say_what_the_entity_tag_is(size: int) -> None:
    """It is asked when all bytes have come, and what it says is durable and visible."""
    data = payload(size)

    async def scene(store: Store) -> None:
        path = store.router.writes
        taken = 0

        async def body() -> AsyncIterator[bytes]:
            nonlocal taken
            async for chunk in in_chunks(data, 20_000):
                taken += len(chunk)
                yield chunk

        def seal() -> Sealed:
            return Sealed(f"tag-of-{taken}", {"crc32": f"of-{taken}"})

        source = ChunkSource(body(), path.filler())
        target = Target("photos", "cat", empty_allowed=True, seal=seal)
        written = (await path.write(source, target)).version
        assert (written.etag, written.checksums) == (f"tag-of-{size}", {"crc32": f"of-{size}"})
        assert await store.meta.files.resolve("photos", "cat") == written
        kept = [each for putter in store.putters for each in putter.records]
        assert [each for each in kept if isinstance(each, Version)] == [written] * 2
        again = await store.write(data, if_match=f"tag-of-{size}")
        assert (again.version.etag, again.version.checksums) == (etag_of(again.digest), {})
        with pytest.raises(PreconditionFailed):
            await store.write(data, if_match=f"tag-of-{size}")

    with_store(scene)


def test_errors_of_ours_are_all_that_comes_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake inside is still cleaned up after."""

    async def scene(store: Store) -> None:
        def broken(*_: Any, **__: Any) -> Any:
            raise RuntimeError("a mistake")

        monkeypatch.setattr("router.upload.frames.build", broken)
        with pytest.raises((PutterError, RuntimeError)):
            await store.write(payload(LARGE))
        monkeypatch.undo()
        assert store.router.writes.writing == 0
        assert store.router.writes.pending_bytes == 0
        await store.write(payload(SMALL))
        assert await store.read() == payload(SMALL)

    with_store(scene)


class TestRequestIds:
    """What a putter logs names the request that a router works on."""

    def heard(self, store: Store) -> list[tuple[str, str]]:
        """From now on: what the engines are asked for, and in whose name."""
        found: list[tuple[str, str]] = []
        for putter in store.putters:
            for what in ("put", "put_record", "read"):
                setattr(putter.engine, what, self.noting(found, what, getattr(putter.engine, what)))
        return found

    def noting(self, found: list[tuple[str, str]], what: str, call: Callable[..., Any]) -> Any:
        def note(*args: Any, **options: Any) -> Any:
            found.append((what, current_request()))
            return call(*args, **options)

        return note

    def test_a_large_file_in_and_out_and_away(self) -> None:
        async def scene(store: Store) -> None:
            found = self.heard(store)
            with about_request("id-1"):
                await store.write(payload(LARGE))
            # Beside what the router keeps there by itself.
            assert [name for what, name in found if what == "put"] == ["id-1"] * len(store.putters)
            assert found.count(("put_record", "id-1")) == len(store.putters)
            found.clear()
            with about_request("id-2"):
                await store.read()
            assert set(found) == {("read", "id-2")}
            found.clear()
            with about_request("id-3"):
                await store.router.writes.delete("photos", "cat")
            assert found.count(("put_record", "id-3")) == len(store.putters)

        with_store(scene)

    def test_each_small_one_of_a_group(self) -> None:
        async def write(store: Store, name: str) -> None:
            with about_request(name):
                await store.write(payload(SMALL, name), name)

        async def scene(store: Store) -> None:
            found = self.heard(store)
            await asyncio.gather(*(write(store, name) for name in ("id-1", "id-2", "id-3")))
            runs = [name for what, name in found if what == "put"]
            assert sorted(runs) == sorted(["id-1", "id-2", "id-3"] * 2)

        with_store(scene)

    def test_copies_of_a_verified_read_too(self) -> None:
        async def scene(store: Store) -> None:
            await store.write(payload(LARGE))
            found = self.heard(store)
            with about_request("id-1"):
                await store.read()
            assert len(found) > 1
            assert set(found) == {("read", "id-1")}

        with_store(scene, policy=Policy(2, 2, read_quorum=2))
