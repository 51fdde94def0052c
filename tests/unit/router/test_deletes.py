"""What a deletion on a condition deletes, what it leaves, and what it makes durable."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest

from common.errors import (
    Locked,
    MetadataUnavailable,
    NodesUnavailable,
    NoSpace,
    NotFound,
    PreconditionFailed,
    WriteConflict,
)
from common.limits import CLAIM_LEASE_MS
from common.locks import SETTING, UNLOCKED, Lock
from common.meta.claims import Claim, ClaimOutcome
from common.meta.interface import Outcome
from common.meta.memory_claims import MemoryClaims
from common.meta.memory_tables import MemoryFiles
from common.meta.outcomes import Guard, Rank
from common.records import Tombstone, Version
from common.versions import SETTING as VERSIONING
from common.versions import number_of
from router.blocks import ChunkSource
from router.keeping import Keeping
from router.targets import Target
from tests.node_kit import play, until
from tests.router_kit import Store
from tests.simulation.loop import World

Scene = Callable[[Store], Awaitable[None]]


def with_store(scene: Scene, putters: int = 2, **options: Any) -> None:
    async def main(world: World) -> None:
        store = await Store(world, putters, **options).start()
        await scene(store)
        await store.stop()

    play(main)


def holds(etag: str) -> Callable[[Version], bool]:
    return lambda version: version.etag == etag


def tombstones(store: Store) -> list[Tombstone]:
    return [each for each in store.putters[0].records if isinstance(each, Tombstone)]


def claims(store: Store) -> dict[str, tuple[str, int]]:
    return store.meta._state.buckets["photos"].claims


def test_its_record_names_the_version() -> None:
    async def scene(store: Store) -> None:
        held = (await store.write(b"one")).version
        assert await store.router.writes.delete("photos", "cat", holds(held.etag))
        assert [each.of for each in tombstones(store)] == [held.stamp]
        assert claims(store) == {}
        with pytest.raises(NotFound):
            await store.read()
        assert not await store.router.writes.delete("photos", "cat", holds(held.etag))

    with_store(scene)


def test_what_does_not_fit_stays_and_nothing_is_written() -> None:
    async def scene(store: Store) -> None:
        await store.write(b"one")
        with pytest.raises(PreconditionFailed):
            await store.router.writes.delete("photos", "cat", holds("other"))
        assert await store.read() == b"one"
        assert tombstones(store) == []

    with_store(scene)


@pytest.mark.parametrize("same", [True, False])
def test_a_write_that_comes_between_the_record_and_the_deletion(
    same: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it fits the condition too it is deleted in turn, else it stays, whatever is replayed."""
    keep = Keeping.keep
    told: list[str] = []

    async def scene(store: Store) -> None:
        async def kept(self: Keeping, *args: Any) -> tuple[str, ...]:
            nodes = await keep(self, *args)
            if isinstance(args[0][0], Tombstone) and not told:
                written = await store.write(b"one" if same else b"two")
                told.append(written.version.etag)
            return nodes

        monkeypatch.setattr(Keeping, "keep", kept)
        held = (await store.write(b"one")).version
        work = store.router.writes.delete("photos", "cat", holds(held.etag))
        if same:
            assert await work
            assert [len(told), len(tombstones(store))] == [1, 2]
            with pytest.raises(NotFound):
                await store.read()
        else:
            with pytest.raises(PreconditionFailed):
                await work
            assert await store.read() == b"two"
        await until(lambda: not claims(store), 10)

    with_store(scene)


def test_a_name_that_is_changed_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refused(*_: Any, **__: Any) -> Outcome:
        return Outcome.REFUSED

    async def scene(store: Store) -> None:
        held = (await store.write(b"one")).version
        monkeypatch.setattr(MemoryFiles, "delete", refused)
        with pytest.raises(WriteConflict):
            await store.router.writes.delete("photos", "cat", holds(held.etag))
        assert await store.read() == b"one"

    with_store(scene)


def test_one_that_waits_for_another_learns_what_became_of_it() -> None:
    async def scene(store: Store) -> None:
        held = (await store.write(b"one")).version
        rival = Claim("photos", "cat", "rival", CLAIM_LEASE_MS, held.etag)
        assert await store.meta.claims.take(rival) is ClaimOutcome.CLAIMED
        work = asyncio.create_task(store.router.writes.delete("photos", "cat", holds(held.etag)))
        await asyncio.sleep(1)
        assert not work.done()
        await store.write(b"the rival's")
        with pytest.raises(PreconditionFailed):
            await work
        assert tombstones(store) == [], "none of the loser"

    with_store(scene)


def test_one_that_fails_lets_the_name_go() -> None:
    async def scene(store: Store) -> None:
        held = (await store.write(b"one")).version
        for putter in store.putters:
            putter.engine.fail["put_record"] = NoSpace("full")
        with pytest.raises((NoSpace, NodesUnavailable)):
            await store.router.writes.delete("photos", "cat", holds(held.etag))
        await until(lambda: not claims(store), 40)
        for putter in store.putters:
            putter.engine.fail.clear()
        assert await store.read() == b"one"
        assert await store.router.writes.delete("photos", "cat", holds(held.etag))

    with_store(scene)


def test_of_many_at_once_one_deletes() -> None:
    async def scene(store: Store) -> None:
        for _ in range(5):
            held = (await store.write(b"one")).version
            work = [store.router.writes.delete("photos", "cat", holds(held.etag)) for _ in range(9)]
            assert sorted(await asyncio.gather(*work)) == [False] * 8 + [True]
        assert len(tombstones(store)) == 5, "only the winners wrote one"

    with_store(scene)


def test_without_a_condition_there_is_no_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(store: Store) -> None:
        await store.write(b"one")
        monkeypatch.delattr(MemoryClaims, "take")
        assert await store.router.writes.delete("photos", "cat")

    with_store(scene)


async def lockable(store: Store, lock: Lock = UNLOCKED) -> Version:
    """A version in a bucket whose versions can be locked."""
    settings: dict[str, Any] = {"versioning": "Enabled", SETTING: {}}
    await store.router.configure.change("photos", settings)
    version = (await store.write(b"one")).version
    if lock != UNLOCKED:
        found = await store.meta.repairs.at(version.bucket, version.key)
        assert found is not None
        locked = msgspec.structs.replace(version, lock=lock)
        assert await store.meta.repairs.amend(found.token, locked)
    return version


def test_what_a_lock_keeps_stays_and_leaves_no_record() -> None:
    async def scene(store: Store) -> None:
        version = await lockable(store, Lock("GOVERNANCE", 10**15))
        deletes, number = store.router.writes.deletes, number_of(version)
        for guard in (Guard(), Guard(rank=Rank.ALONE)):
            with pytest.raises(Locked):
                await deletes.version("photos", "cat", number, None, guard)
        assert await store.read() == b"one"
        assert tombstones(store) == []
        assert (await deletes.name("photos", "cat")).marker is not None, "that takes nothing away"
        gone = await deletes.version("photos", "cat", number, None, Guard(bypass=True))
        assert gone is not None
        assert [each.of for each in tombstones(store)] == [version.stamp]
        assert await deletes.version("photos", "cat", number) is None

    with_store(scene)


@pytest.mark.parametrize("conditional", [False, True])
def test_what_came_locked_while_its_bucket_was_removed_stays(conditional: bool) -> None:
    async def scene(store: Store) -> None:
        version = await lockable(store, Lock("COMPLIANCE", 10**15))
        gone = {SETTING: None, VERSIONING: None}
        assert await store.router.configure.change("photos", gone) is not None
        condition = holds(version.etag) if conditional else None
        with pytest.raises(Locked):
            await store.router.writes.deletes.name("photos", "cat", condition)
        assert tombstones(store) == [], "a rebuild would delete it"
        assert await store.read() == b"one"

    with_store(scene)


def test_what_came_there_with_a_lock_that_ended_is_deleted() -> None:
    async def scene(store: Store) -> None:
        version = await lockable(store, Lock("COMPLIANCE", 1))
        gone = {SETTING: None, VERSIONING: None}
        assert await store.router.configure.change("photos", gone) is not None
        assert (await store.router.writes.deletes.name("photos", "cat")).found
        assert [each.of for each in tombstones(store)] == [version.stamp]
        assert not (await store.router.writes.deletes.name("photos", "cat")).found

    with_store(scene)


def test_what_travelled_for_long_gets_the_lock_that_its_bucket_gives_at_its_end() -> None:
    async def scene(store: Store) -> None:
        await store.router.configure.change("photos", {VERSIONING: "Enabled"})
        given = {SETTING: {"mode": "COMPLIANCE", "days": 3}}

        async def body() -> AsyncIterator[bytes]:
            for _ in range(60):
                yield bytes(50_000)
            await store.router.configure.change("photos", given)
            yield b"the end"

        source = ChunkSource(body(), store.router.writes.filler())
        version = (await store.router.writes.write(source, Target("photos", "cat"))).version
        source.close()
        assert version.lock == Lock("COMPLIANCE", version.created_ms + 3 * 86_400_000)

    with_store(scene)


def test_a_lock_that_comes_at_the_last_moment_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(store: Store) -> None:
        version = await lockable(store)
        delete = MemoryFiles.delete

        async def late(self: MemoryFiles, *asked: Any, **guarded: Any) -> Outcome:
            found = await store.meta.repairs.at(version.bucket, version.key)
            assert found is not None
            held = msgspec.structs.replace(found.version, lock=Lock(hold="ON", held=1))
            await store.meta.repairs.amend(found.token, held)
            return await delete(self, *asked, **guarded)

        monkeypatch.setattr(MemoryFiles, "delete", late)
        with pytest.raises(Locked):
            await store.router.writes.deletes.version("photos", "cat", number_of(version))
        assert tombstones(store) == []
        assert await store.read() == b"one"

    with_store(scene)


@pytest.mark.parametrize("guard", [Guard(bypass=True), Guard(rank=Rank.ALONE)])
def test_what_comes_behind_one_that_redis_decided_stays(
    monkeypatch: pytest.MonkeyPatch, guard: Guard
) -> None:
    async def scene(store: Store) -> None:
        await store.router.configure.change("photos", {VERSIONING: "Suspended"})
        lock = Lock("GOVERNANCE", 10**15) if guard.bypass else UNLOCKED
        version = (await store.write(b"one")).version
        found = await store.meta.repairs.at(version.bucket, version.key)
        assert found is not None
        held = msgspec.structs.replace(version, lock=lock)
        assert await store.meta.repairs.amend(found.token, held)
        delete, outcomes = MemoryFiles.delete, list[Outcome]()

        async def told(self: MemoryFiles, *asked: Any, **guarded: Any) -> Outcome:
            if len(outcomes) == 1:
                await store.write(b"two")
            outcomes.append(await delete(self, *asked, **guarded))
            return outcomes[-1]

        monkeypatch.setattr(MemoryFiles, "delete", told)
        assert await store.router.writes.deletes.version("photos", "cat", None, None, guard) == held
        assert outcomes == [Outcome.PUBLISHED, Outcome.REFUSED]
        assert [each.of for each in tombstones(store)] == [version.stamp]
        assert await store.read() == b"two"

    with_store(scene)


def test_one_that_redis_decided_is_durable_at_last() -> None:
    async def scene(store: Store) -> None:
        version = await lockable(store)
        deletes, number = store.router.writes.deletes, number_of(version)
        for putter in store.putters:
            putter.engine.fail["put_record"] = NoSpace("full")
        with pytest.raises((NoSpace, NodesUnavailable)):
            await deletes.version("photos", "cat", number)
        assert tombstones(store) == []
        for putter in store.putters:
            putter.engine.fail.clear()
        await until(lambda: len(tombstones(store)) == 1, 120)
        assert await deletes.version("photos", "cat", number) is None

    with_store(scene)


@pytest.mark.parametrize("done", [True, False])
def test_one_of_which_redis_said_nothing_is_durable_if_it_was_done(
    done: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(store: Store) -> None:
        version = await lockable(store)
        delete = MemoryFiles.delete

        async def silent(self: MemoryFiles, *asked: Any, **guarded: Any) -> Outcome:
            if done:
                await delete(self, *asked, **guarded)
            raise MetadataUnavailable("its answer got lost")

        with monkeypatch.context() as patch:
            patch.setattr(MemoryFiles, "delete", silent)
            with pytest.raises(MetadataUnavailable):
                await store.router.writes.deletes.version("photos", "cat", number_of(version))
        if done:
            await until(lambda: len(tombstones(store)) == 1, 120)
        else:
            await asyncio.sleep(120)
            assert tombstones(store) == []
            assert await store.read() == b"one"

    with_store(scene)


def test_without_a_putter_nothing_is_decided() -> None:
    async def scene(store: Store) -> None:
        version = await lockable(store)
        for putter in store.putters:
            await putter.crash()
        await until(lambda: not store.router.fleet.up(), 30)
        with pytest.raises(NodesUnavailable):
            await store.router.writes.deletes.version("photos", "cat", number_of(version))
        assert await store.meta.versions.held(version.bucket, version.key) == version
        for putter in store.putters:
            await putter.start()

    with_store(scene)
