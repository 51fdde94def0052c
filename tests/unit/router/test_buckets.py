"""Which buckets there are: created ones, and those that hold a file."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from common.errors import NodesUnavailable
from common.records import BucketSettings
from router.buckets import Bucket, BucketFull, BucketThere, Directory, created
from router.quorum import Policy
from tests.node_kit import play, until
from tests.router_kit import Store
from tests.simulation.loop import World


def with_store(scene: Callable[[Store], Awaitable[None]], **options: object) -> None:
    async def main(world: World) -> None:
        store = await Store(world, 2, **({"policy": Policy(2, 2)} | options)).start(2)
        await scene(store)
        await store.stop()

    play(main)


def directory(store: Store, router: int = 0) -> Directory:
    one = store.routers[router]
    return Directory(store.meta, one.configure, one.writes.clock)


def records(store: Store) -> list[BucketSettings]:
    found = [each for putter in store.putters for each in putter.records]
    return [each for each in found if isinstance(each, BucketSettings)]


async def names(store: Store) -> list[str]:
    return [each.name for each in await directory(store).every()]


def test_a_created_bucket_is_durable_and_there_for_everybody() -> None:
    async def scene(store: Store) -> None:
        assert await directory(store).find("photos") is None
        asked_ms = store.router.writes.clock.now_ms()
        made = await directory(store).create("photos", "ann")
        assert made == Bucket("photos", made.created_ms, "ann")
        assert asked_ms <= made.created_ms <= store.router.writes.clock.now_ms()
        assert [created(each.bucket, each.settings) for each in records(store)] == [made, made]
        assert await directory(store, 1).find("photos") == made
        assert await directory(store, 1).every() == [made]

    with_store(scene)


def test_it_is_there_again_after_redis_lost_everything() -> None:
    async def scene(store: Store) -> None:
        made = await directory(store).create("photos", "ann")
        await directory(store).create("films", "ann")
        assert await directory(store).remove("films")
        store.meta.wipe("anew")

        async def restored() -> None:
            for _ in range(600):
                if (await store.meta.recovery.standing()).complete:
                    return
                await asyncio.sleep(0.1)

        await restored()
        assert await directory(store).every() == [made]

    with_store(scene)


def test_it_is_created_once() -> None:
    async def scene(store: Store) -> None:
        tries = [directory(store, n % 2).create("photos", f"o{n}") for n in range(4)]
        done = await asyncio.gather(*tries, return_exceptions=True)
        assert sorted(type(each).__name__ for each in done) == ["Bucket"] + ["BucketThere"] * 3
        await store.write(b"x", "a", bucket="films")
        with pytest.raises(BucketThere):
            await directory(store).create("films", "ann")

    with_store(scene)


def test_a_bucket_that_holds_a_file_is_there_without_being_created() -> None:
    async def scene(store: Store) -> None:
        written = await store.write(b"x", "a")
        found = await directory(store).find("photos")
        assert found == Bucket("photos", written.version.created_ms)
        with pytest.raises(BucketFull):
            await directory(store).remove("photos")
        await store.router.writes.delete("photos", "a")
        assert await names(store) == []
        assert await directory(store).remove("photos") is False

    with_store(scene)


def test_removing_keeps_what_the_operator_set() -> None:
    async def scene(store: Store) -> None:
        await store.router.configure.change("photos", {"replicas": 1})
        assert await names(store) == [], "settings alone are no bucket"
        await directory(store).create("photos", "ann")
        assert await directory(store).remove("photos") is True
        assert await directory(store).remove("photos") is False
        held = await store.meta.buckets.get("photos")
        assert held is not None
        assert held.record.settings == {"replicas": 1}
        assert await names(store) == []

    with_store(scene)


def test_what_was_there_a_moment_ago_is_not_asked_for_again() -> None:
    async def scene(store: Store) -> None:
        here, there = directory(store), directory(store, 1)
        assert await here.known("photos") is None
        made = await there.create("photos", "ann")
        assert await here.known("photos") == made, "that it is not there is not remembered"
        await there.remove("photos")
        assert await here.known("photos") == made
        await asyncio.sleep(1)
        assert await here.known("photos") is None
        await here.create("photos", "ann")
        assert await here.known("photos") is not None
        await here.remove("photos")
        assert await here.known("photos") is None, "whoever removes it knows"

    with_store(scene)


def test_without_enough_putters_none_is_created() -> None:
    async def scene(store: Store) -> None:
        await store.putters[0].crash()
        await until(lambda: len(store.router.fleet.up()) == 1)
        with pytest.raises(NodesUnavailable):
            await directory(store).create("photos", "ann")
        assert await directory(store).find("photos") is None

    with_store(scene, policy=Policy(2, 2, "strict"))


@pytest.mark.parametrize(
    ("told", "bucket"),
    [
        (None, None),
        (True, None),
        ({}, Bucket("b", 0)),
        ({"ms": "x", "owner": 3}, Bucket("b", 0)),
        ({"ms": 7, "owner": "ann", "later": 1}, Bucket("b", 7, "ann")),
        ({"ms": 7, "owner": "ann", "location": "mars"}, Bucket("b", 7, "ann", "mars")),
    ],
)
def test_what_settings_say(told: object, bucket: Bucket | None) -> None:
    assert created("b", {"created": told}) == bucket
