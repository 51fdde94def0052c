"""What was sent to the putters and is then told to have failed never comes to life."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from common.errors import (
    MetadataUnavailable,
    NodesUnavailable,
    NoSpace,
    NotFound,
    ObjectGone,
    PutterError,
    StorageError,
)
from common.limits import ABORT_PATIENCE_MS, OBJECT_LEASE_MS
from common.meta.interface import Commit, Kind, Outcome
from common.meta.memory import MemoryCounters
from common.meta.memory_tables import MemoryObjects
from common.records import Abort, Version
from router.keeping import Keeping
from router.numbers import _Range
from router.quorum import Policy
from router.small import SMALL_BYTES_MAX, SmallWrites
from router.writes import WritePath
from tests.node_kit import play, until
from tests.router_kit import Store, payload, tickets_of
from tests.simulation.loop import World

Scene = Callable[[Store], Awaitable[None]]
SIZES = [100, SMALL_BYTES_MAX + 1, 300_000]


def with_store(scene: Scene, putters: int = 2, **options: Any) -> None:
    async def main(world: World) -> None:
        store = await Store(world, putters, **options).start()
        await store.write(b"x", "first")
        await scene(store)
        await store.stop()

    play(main)


def rebuilt(store: Store) -> list[tuple[str, str]]:
    """Name and object of all that the records of the putters amount to."""
    found = {record for putter in store.putters for record in map(_hashable, putter.records)}
    aborted = {object_id for kind, _, object_id in found if kind == "abort"}
    return sorted(
        (key, object_id)
        for kind, key, object_id in found
        if kind == "version" and object_id not in aborted
    )


def _hashable(record: Any) -> tuple[str, str, str]:
    if isinstance(record, Version):
        return "version", record.key, record.objects[0].object_id if record.objects else ""
    assert isinstance(record, Abort)
    return "abort", record.key, record.object_id


def seen(store: Store, what: type) -> list[set[str]]:
    """The objects of the records of one kind on each putter."""
    return [
        {_hashable(record)[2] for record in putter.records if isinstance(record, what)}
        for putter in store.putters
    ]


class TestOneThatTravelledAlone:
    @pytest.mark.parametrize("size", SIZES)
    def test_it_is_aborted_and_failed_before_its_sender_hears_of_it(self, size: int) -> None:
        async def scene(store: Store) -> None:
            store.putters[1].engine.fail["put"] = NoSpace("full")
            with pytest.raises((NoSpace, NodesUnavailable)):
                await store.write(payload(size))
            assert [key for key, _ in rebuilt(store)] == ["first"]
            if size < 300_000:  # a lone run takes its record with it
                assert len(seen(store, Version)[0]) > 1
            objects = store.meta._state.buckets["photos"].objects
            assert {known.state for known in objects.values()} == {"written", "failed"}, (
                "nothing waits for a lease to run out"
            )
            del store.putters[1].engine.fail["put"]
            await store.clean()
            assert [len(p.tickets) for p in store.putters] == [1, 1]
            assert [len(p.records) for p in store.putters] == [1, 1]

        with_store(scene, policy=Policy(2, 2, "strict"))

    def test_putters_that_take_no_abort_are_not_waited_for_long(self) -> None:
        async def scene(store: Store) -> None:
            for putter in store.putters:
                putter.engine.fail["put"] = NoSpace("full")

            async def silent(self: Keeping, *_: Any) -> int:
                await asyncio.sleep(20)
                raise StorageError("no answer")

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(Keeping, "keep", silent)
                began = store.world.loop.time()
                with pytest.raises(NoSpace):
                    await store.write(payload(50_000))
                assert store.world.loop.time() - began < 2 * ABORT_PATIENCE_MS / 1000 + 0.1
                [state] = [
                    known.state
                    for known in store.meta._state.buckets["photos"].objects.values()
                    if known.state != "written"
                ]
                assert state == "failed", "Redis will not publish it any more"

        with_store(scene)

    def test_where_redis_did_not_answer_a_janitor_decides(self) -> None:
        """It may be visible already: an abort would make Redis and the putters disagree."""

        async def scene(store: Store) -> None:
            with pytest.raises(MetadataUnavailable), no_answer_to_commits():
                await store.write(payload(50_000))
            assert seen(store, Abort) == [set(), set()]
            assert [key for key, _ in rebuilt(store)] == ["cat", "first"]
            await asyncio.sleep(OBJECT_LEASE_MS / 1000)
            await store.clean()
            assert await store.read() == payload(50_000)

        with_store(scene)

    def test_a_file_without_a_byte(self) -> None:
        async def scene(store: Store) -> None:
            store.putters[1].engine.fail["put_record"] = NoSpace("full")
            store.putters[0].engine.fail["sync"] = StorageError("I/O error")
            with pytest.raises(PutterError):
                await store.write(b"")
            for putter in store.putters:
                putter.engine.fail.clear()
            with pytest.raises(NotFound):
                await store.read()

        with_store(scene)


class TestAGroup:
    def test_aborts_are_durable_before_any_object_travels_again(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def scene(store: Store) -> None:
            kept: list[int] = []
            keep = Keeping.keep

            async def counted(self: Keeping, changes: Any, *rest: Any) -> tuple[str, ...]:
                kept.append(len(changes))
                return await keep(self, changes, *rest)

            monkeypatch.setattr(Keeping, "keep", counted)
            alone = WritePath._write_alone
            first_try: set[str] = set()

            async def watched(self: WritePath, *rest: Any) -> Any:
                versions, aborts = seen(store, Version), seen(store, Abort)
                first_try.update(set.union(*versions) - {"0"})
                assert all(first_try & v <= a for v, a in zip(versions, aborts, strict=True))
                return await alone(self, *rest)

            store.putters[0].engine.fail["put"] = NoSpace("full")
            group = [store.write(payload(60, n), "", bucket="objects") for n in range(20)]
            with monkeypatch.context() as patch:
                patch.setattr(WritePath, "_write_alone", watched)
                results = await asyncio.gather(*group)
            assert kept == [20], "all of them in one message"
            expected = [(each.object_id, each.object_id) for each in results]
            assert [pair for pair in rebuilt(store) if pair[0] != "first"] == sorted(expected)
            states = store.meta._state.buckets["objects"].objects
            assert {known.state for known in states.values()} == {"failed", "written"}

        with_store(scene, policy=Policy(2, 2))

    def test_one_that_never_sent_a_record_needs_no_abort(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whose call of Redis had no answer hears of it; the others travel again."""

        async def scene(store: Store) -> None:
            begin = MemoryObjects.begin
            lost = [1]

            async def once(self: MemoryObjects, item: Any) -> None:
                if lost:
                    lost.pop()
                    raise MetadataUnavailable("no answer")
                await begin(self, item)

            monkeypatch.setattr(MemoryObjects, "begin", once)
            results = await asyncio.gather(
                *(store.write(payload(60, n), f"s{n}") for n in range(5)), return_exceptions=True
            )
            assert seen(store, Abort) == [set(), set()]
            failed = [n for n, result in enumerate(results) if isinstance(result, Exception)]
            assert [type(results[n]) for n in failed] == [MetadataUnavailable]
            for n in set(range(5)) - set(failed):
                assert await store.read(f"s{n}") == payload(60, n)

        with_store(scene)

    @pytest.mark.parametrize("kind", list(Kind))
    def test_one_that_gets_no_numbers_has_waited_enough(
        self, monkeypatch: pytest.MonkeyPatch, kind: Kind
    ) -> None:
        async def scene(store: Store) -> None:
            lease, asked = MemoryCounters.lease, []

            async def never(self: MemoryCounters, wanted: Kind, count: int) -> Any:
                if wanted is not kind:
                    return await lease(self, wanted, count)
                asked.append(wanted)
                raise MetadataUnavailable("no answer", hint="wait")

            # What was leased before is used up.
            store.router.numbers._tickets = store.router.numbers._objects = _Range(0, 0)
            monkeypatch.setattr(MemoryCounters, "lease", never)
            results = await asyncio.gather(
                *(store.write(payload(60, n), f"s{n}") for n in range(5)), return_exceptions=True
            )
            assert [(str(each), getattr(each, "hint", "")) for each in results] == [
                ("no answer", "wait")
            ] * 5
            assert len(asked) == 1, "nothing is asked once more"
            assert seen(store, Abort) == [set(), set()]

        with_store(scene)

    def test_a_dead_putter_does_not_keep_the_aborts_from_the_others(self) -> None:
        async def scene(store: Store) -> None:
            tasks = [
                asyncio.create_task(store.write(payload(60, n), "", bucket="objects"))
                for n in range(10)
            ]
            await until(lambda: any(p.records[1:] for p in store.putters))
            victim = next(p for p in store.putters if p.records[1:])
            await victim.crash()
            results = await asyncio.gather(*tasks)
            await until(lambda: not store.router.writes._background, 60)
            expected = [(each.object_id, each.object_id) for each in results]
            assert [pair for pair in rebuilt(store) if pair[0] != "first"] == sorted(expected)
            await victim.start()
            await until(lambda: len(store.router.fleet.up()) == 3, 30)
            await store.clean()
            left = set.union(*seen(store, Version), *seen(store, Abort)) - {"0"}
            assert left == {each.object_id for each in results}, "the aborts went with the rest"

        with_store(scene, 3, policy=Policy(2, 2), failover_ms=500)

    def test_where_redis_did_not_answer_nothing_is_sent_twice(self) -> None:
        async def scene(store: Store) -> None:
            writes = [store.write(payload(60, n), "", bucket="objects") for n in range(8)]
            with no_answer_to_commits():
                results = await asyncio.gather(*writes, return_exceptions=True)
            assert {type(each) for each in results} == {MetadataUnavailable}
            await asyncio.sleep(OBJECT_LEASE_MS / 1000)
            await store.clean()
            page = await store.meta.files.list("objects", "", "", 100)
            assert len(page.entries) == 8, "each of them once"
            assert len(rebuilt(store)) == 9

        with_store(scene)

    def test_refusals_share_one_message(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def scene(store: Store) -> None:
            kept: list[int] = []
            keep = Keeping.keep

            async def counted(self: Keeping, changes: Any, *rest: Any) -> tuple[str, ...]:
                kept.append(len(changes))
                return await keep(self, changes, *rest)

            async def gone(self: MemoryObjects, item: Commit) -> Outcome:
                return Outcome.GONE

            monkeypatch.setattr(Keeping, "keep", counted)
            monkeypatch.setattr(MemoryObjects, "commit", gone)
            results = await asyncio.gather(
                *(store.write(payload(60, n), f"s{n}") for n in range(12)), return_exceptions=True
            )
            assert {getattr(each, "code", each) for each in results} == {"gone"}
            assert kept == [12]
            assert [key for key, _ in rebuilt(store)] == ["first"]
            await until(lambda: not store.router.writes._background)
            states = {k.state for k in store.meta._state.buckets["photos"].objects.values()}
            assert states == {"written", "failed"}, "at once"

        with_store(scene)


@contextmanager
def no_answer_to_commits() -> Iterator[None]:
    async def lost(self: MemoryObjects, item: Commit) -> Outcome:
        raise MetadataUnavailable("no answer")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemoryObjects, "commit", lost)
        yield


async def lose_redis(store: Store) -> None:
    """It loses everything, and is brought back from the putters."""
    store.meta.wipe("run-2")
    for _ in range(100):
        if (await store.meta.recovery.standing()).complete:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(store.router.catch_up.trouble)


def test_what_redis_forgot_before_it_was_published_is_freed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scene(store: Store) -> None:
        kept = SmallWrites._store

        async def late(self: SmallWrites, *rest: Any) -> None:
            await lose_redis(store)
            await kept(self, *rest)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(SmallWrites, "_store", late)
            with pytest.raises(ObjectGone):
                await store.write(payload(60), "a")
        assert any(putter.tickets for putter in store.putters)
        await store.write(payload(70), "b")
        await store.clean()
        first = tickets_of(await store.router.reads.resolve("photos", "first"))
        version = await store.router.reads.resolve("photos", "b")
        for putter in store.putters:
            assert putter.tickets <= {*first, *tickets_of(version)}
            found = [record for record in putter.records if isinstance(record, Version | Abort)]
            assert all(isinstance(r, Version) and r.key in {"first", "b"} for r in found)

    with_store(scene)


class TestPublishedByAReplay:
    """Redis loses everything, and the record of an undecided object is found on the putters."""

    def test_a_group_does_not_travel_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def scene(store: Store) -> None:
            make_durable = SmallWrites._make_durable

            async def broken(self: SmallWrites, *parcels: Any) -> None:
                await make_durable(self, *parcels)
                await lose_redis(store)
                raise NodesUnavailable("a putter was lost")

            monkeypatch.setattr(SmallWrites, "_make_durable", broken)
            with pytest.raises(MetadataUnavailable, match="first try"):
                await store.write(b"small", "a")
            await self.check(store, b"small")

        with_store(scene)

    def test_one_that_travelled_alone_is_not_aborted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def scene(store: Store) -> None:
            async def broken(*_: Any) -> None:
                await lose_redis(store)
                raise NodesUnavailable("a putter was lost")

            monkeypatch.setattr(WritePath, "_publish", broken)
            with pytest.raises(NodesUnavailable):
                await store.write(payload(SMALL_BYTES_MAX + 1), "a")
            await self.check(store, payload(SMALL_BYTES_MAX + 1))

        with_store(scene)

    async def check(self, store: Store, data: bytes) -> None:
        """It is there once, and nothing on the putters says otherwise."""
        assert await store.read("a") == data
        assert seen(store, Abort) == [set(), set()]
        assert [key for key, _ in rebuilt(store) if key == "a"] == ["a"]
