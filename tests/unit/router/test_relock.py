"""Locks of versions that are there: durable, undone by nobody, and in order with deletions."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from unittest.mock import patch

import pytest

from common.errors import Locked, NotFound, WriteConflict
from common.locks import SETTING, Hold, Lock, Mode
from common.meta.memory_tables import MemoryFiles
from common.meta.outbox import Post
from common.meta.outcomes import Guard, Outcome
from common.records import Version, kept_under
from common.versions import number_of
from router.relock import held, retained
from tests.router_kit import FRAME, Store, payload
from tests.unit.router.test_repair import repair, with_store
from tests.unit.router.test_retag import rebuilt

AHEAD_MS, FURTHER_MS = 4_000_000_000_000, 4_100_000_000_000


async def lockable(store: Store, size: int = FRAME) -> Version:
    """A version in a bucket with locks."""
    settings = {"versioning": "Enabled", SETTING: {}}
    await store.router.configure.change("photos", settings)
    return (await store.write(payload(size))).version


async def now(store: Store, version: Version) -> Version:
    """The version as Redis describes it.

    Raises:
        NotFound: it was deleted.
    """
    found = await store.meta.versions.held(version.bucket, version.key)
    if found is None:
        raise NotFound("it is gone")
    return found


async def retain(
    store: Store,
    version: Version,
    mode: Mode,
    until_ms: int,
    *,
    bypass: bool = False,
    router: int = 0,
) -> Lock:
    done = await store.routers[router].retag.describe(
        lambda: now(store, version),
        lambda found, stamp: retained(found, mode, until_ms, stamp, bypass=bypass),
    )
    return done.lock


async def hold(store: Store, version: Version, status: Hold, router: int = 0) -> Lock:
    done = await store.routers[router].retag.describe(
        lambda: now(store, version), lambda found, stamp: held(found, status, stamp)
    )
    return done.lock


def descriptions(store: Store) -> list[Version]:
    """What one of the putters was told of versions."""
    return [each for each in store.putters[0].records if isinstance(each, Version)]


async def deleted(store: Store, version: Version, *, bypass: bool = False) -> bool:
    """Whether it can be deleted for good, and is now."""
    deletes = store.router.writes.deletes
    try:
        await deletes.version("photos", "cat", number_of(version), None, Guard(bypass))
    except Locked:
        return False
    return True


@pytest.mark.parametrize("size", [0, FRAME, 200_000])
def test_changes_are_durable_and_count_after_a_rebuild(size: int) -> None:
    async def scene(store: Store) -> None:
        version = await lockable(store, size)
        changes: list[Callable[[], Awaitable[Lock]]] = [
            lambda: retain(store, version, "GOVERNANCE", AHEAD_MS),
            lambda: hold(store, version, "ON"),
            lambda: retain(store, version, "COMPLIANCE", AHEAD_MS),
            lambda: hold(store, version, "OFF"),
            lambda: retain(store, version, "COMPLIANCE", FURTHER_MS),
        ]
        last = 0
        for change in changes:
            lock = await change()
            described = await now(store, version)
            assert described.lock == lock
            assert kept_under(described) > last, "each has a stamp of its own"
            last = kept_under(described)
            assert await change() == lock, "the same once more changes nothing"
            await rebuilt(store)
            assert (await now(store, version)).lock == lock
            assert not await deleted(store, version, bypass=lock.mode == "COMPLIANCE")
            assert await store.read() == payload(size)
        await store.clean()
        await rebuilt(store)
        assert (await now(store, version)).lock.until_ms == FURTHER_MS

    with_store(scene, putters=2)


def test_what_is_locked_when_it_is_written_stays_so() -> None:
    async def scene(store: Store) -> None:
        await lockable(store)
        settings = {SETTING: {"mode": "COMPLIANCE", "days": 2}}
        await store.router.configure.change("photos", settings)
        for size in (0, 10, 200_000):
            version = (await store.write(payload(size))).version
            until_ms = version.created_ms + 2 * 86_400_000
            assert version.lock == Lock("COMPLIANCE", until_ms)
            assert not await deleted(store, version)
            await rebuilt(store)
            assert await now(store, version) == version
            assert not await deleted(store, version, bypass=True)
        said = (await store.write(b"x", lock=Lock("GOVERNANCE", AHEAD_MS, hold="ON"))).version
        assert said.lock == Lock("GOVERNANCE", AHEAD_MS, hold="ON")

    with_store(scene, putters=2)


def test_nobody_makes_it_weaker_who_may_not() -> None:
    async def scene(store: Store) -> None:
        version = await lockable(store)
        await retain(store, version, "GOVERNANCE", FURTHER_MS)
        for mode, until_ms in (("GOVERNANCE", AHEAD_MS), ("COMPLIANCE", AHEAD_MS), ("", 0)):
            with pytest.raises(Locked):
                await retain(store, version, mode, until_ms)  # type: ignore[arg-type]
        await retain(store, version, "GOVERNANCE", AHEAD_MS, bypass=True)
        await retain(store, version, "COMPLIANCE", AHEAD_MS)
        for mode, until_ms in (("COMPLIANCE", AHEAD_MS - 1), ("GOVERNANCE", FURTHER_MS), ("", 0)):
            with pytest.raises(Locked):
                await retain(store, version, mode, until_ms, bypass=True)  # type: ignore[arg-type]
        assert (await now(store, version)).lock.mode == "COMPLIANCE"

    with_store(scene, putters=2)


def test_what_is_over_may_be_changed() -> None:
    async def scene(store: Store) -> None:
        version = await lockable(store)
        soon_ms = store.world.clock.now_ms() + 5_000
        await retain(store, version, "COMPLIANCE", soon_ms)
        with pytest.raises(Locked):
            await retain(store, version, "", 0)
        await asyncio.sleep(6)
        lock = await retain(store, version, "GOVERNANCE", AHEAD_MS)
        await rebuilt(store)
        assert (await now(store, version)).lock == lock
        assert (lock.mode, lock.until_ms) == ("GOVERNANCE", AHEAD_MS)

    with_store(scene, putters=2)


@pytest.mark.parametrize("mode", ["COMPLIANCE", "GOVERNANCE", ""])
def test_a_change_that_was_refused_at_last_does_not_count_after_a_rebuild(mode: Mode) -> None:
    """Its record is durable: it was allowed when it began, and lost against another one."""

    async def scene(store: Store) -> None:
        await store.add_router()
        version = await lockable(store)
        await retain(store, version, "GOVERNANCE", AHEAD_MS)
        amend = store.meta.repairs.amend
        durable, done = asyncio.Event(), asyncio.Event()

        async def in_turn(token: bytes, described: Version, *posted: Post | None) -> bool:
            first = described.lock.until_ms == FURTHER_MS
            if first:
                await durable.wait()
            else:
                durable.set()
                await done.wait()
            told = await amend(token, described, *posted)
            if first:
                done.set()
            return told

        until_ms = AHEAD_MS - 1 if mode else 0
        with patch.object(store.meta.repairs, "amend", in_turn):
            before = asyncio.create_task(retain(store, version, "COMPLIANCE", FURTHER_MS, router=1))
            while len(descriptions(store)) < 3:
                await asyncio.sleep(0.01)
            with pytest.raises(Locked):
                await retain(store, version, mode, until_ms, bypass=True)
            lock = await before
        assert (await now(store, version)).lock == lock
        refused = max(descriptions(store), key=lambda each: each.lock.retained).lock
        assert (refused.mode, refused.until_ms) == (mode, until_ms)
        assert refused.retained > lock.retained
        await rebuilt(store)
        assert (await now(store, version)).lock == lock
        assert not await deleted(store, version, bypass=True)

    with_store(scene, putters=2)


def test_a_hold_and_a_time_that_come_together_both_stay() -> None:
    async def scene(store: Store) -> None:
        await store.add_router()
        version = await lockable(store)
        await asyncio.gather(
            hold(store, version, "ON", router=1), retain(store, version, "COMPLIANCE", AHEAD_MS)
        )
        for _ in range(2):
            lock = (await now(store, version)).lock
            assert (lock.mode, lock.until_ms, lock.hold) == ("COMPLIANCE", AHEAD_MS, "ON")
            await rebuilt(store)
            await repair(store)

    with_store(scene, putters=2)


@pytest.mark.parametrize("first", ["lock", "deletion"])
def test_of_a_lock_and_a_deletion_that_come_together_one_counts(first: str) -> None:
    """The one that Redis heard of first, there and after a rebuild."""

    async def scene(store: Store) -> None:
        await store.add_router()
        version = await lockable(store)
        amend, delete = store.meta.repairs.amend, MemoryFiles.delete
        go_on = {"lock": asyncio.Event(), "deletion": asyncio.Event()}
        waiting = asyncio.Barrier(2)

        async def turn(who: str) -> None:
            if not go_on[who].is_set():
                await waiting.wait()
                if who != first:
                    await go_on[first].wait()

        async def locking(token: bytes, described: Version, *posted: Post | None) -> bool:
            await turn("lock")
            done = await amend(token, described, *posted)
            go_on["lock"].set()
            return done

        async def deleting(self: MemoryFiles, *asked: object, **more: object) -> Outcome:
            await turn("deletion")
            done = await delete(self, *asked, **more)  # type: ignore[arg-type]
            go_on["deletion"].set()
            return done

        with (
            patch.object(store.meta.repairs, "amend", locking),
            patch.object(MemoryFiles, "delete", deleting),
        ):
            lock, gone = await asyncio.gather(
                retain(store, version, "COMPLIANCE", AHEAD_MS, router=1),
                deleted(store, version),
                return_exceptions=True,
            )
        for _ in range(2):
            there = await store.meta.versions.held(version.bucket, version.key)
            if first == "lock":
                assert gone is False
                assert there is not None
                assert there.lock == lock
                assert await store.read() == payload(FRAME)
            else:
                assert gone is True
                assert isinstance(lock, NotFound)
                assert there is None
            await rebuilt(store)

    with_store(scene, putters=2)


def test_one_that_others_change_for_ever_is_given_up() -> None:
    async def scene(store: Store) -> None:
        version = await lockable(store)
        amend = store.meta.repairs.amend
        deep = 0

        async def at_once_other(token: bytes, described: Version, *posted: Post | None) -> bool:
            nonlocal deep
            deep += 1
            if deep % 2:
                status: Hold = "ON" if deep % 4 == 1 else "OFF"
                await hold(store, version, status)
            return await amend(token, described, *posted)

        with (
            patch.object(store.meta.repairs, "amend", at_once_other),
            pytest.raises(WriteConflict),
        ):
            await retain(store, version, "GOVERNANCE", AHEAD_MS)
        assert not (await now(store, version)).lock.mode

    with_store(scene, putters=2)
