"""Which buckets there are: created ones, and those that hold a file."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from unittest.mock import patch

import pytest

from common.errors import NodesUnavailable
from common.limits import KIB, MIB
from common.meta.buckets import Configured
from common.records import BucketSettings
from router.buckets import (
    Bucket,
    BucketFull,
    BucketMissing,
    BucketThere,
    Directory,
    created,
)
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


def test_what_users_set_goes_with_the_bucket() -> None:
    async def scene(store: Store) -> None:
        async def with_words(_: Mapping[str, Any]) -> Mapping[str, Any]:
            return {"words": ["a"]}

        with pytest.raises(BucketMissing):
            await directory(store).change("photos", with_words)
        await store.router.configure.change("photos", {"replicas": 1})
        await directory(store).create("photos", "ann")
        await directory(store).change("photos", with_words)
        assert await directory(store).remove("photos")
        await directory(store).create("photos", "bob")
        found = await directory(store).find("photos")
        assert found is not None
        assert found.settings.keys() == {"created", "replicas"}
        await directory(store).remove("photos")
        # It is there by a file that comes and goes.
        await store.write(b"x", "a")
        await directory(store).change("photos", with_words)
        await store.router.writes.delete("photos", "a")
        assert await directory(store).remove("photos")
        await directory(store).create("photos", "eve")
        found = await directory(store).find("photos")
        assert found is not None
        assert found.settings.keys() == {"created", "replicas"}

    with_store(scene)


def test_what_was_read_before_a_change_here_is_not_remembered_after_it() -> None:
    async def scene(store: Store) -> None:
        here = directory(store)
        await here.create("photos", "ann")

        async def with_words(_: Mapping[str, Any]) -> Mapping[str, Any]:
            return {"words": 1}

        asked, go_on = asyncio.Event(), asyncio.Event()
        get = store.meta.buckets.get

        async def slow(bucket: str) -> Configured | None:
            found = await get(bucket)
            if not asked.is_set():
                asked.set()
                await go_on.wait()
            return found

        with patch.object(store.meta.buckets, "get", slow):
            early = asyncio.ensure_future(here.known("photos"))
            await asked.wait()
            await here.change("photos", with_words)
            go_on.set()
            before = await early
        assert before is not None
        assert "words" not in before.settings
        after = await here.known("photos")
        assert after is not None
        assert after.settings["words"] == 1
        assert here.last("photos") == after
        assert here.last("films") is None

    with_store(scene)


def test_what_is_remembered_of_buckets_is_bounded_in_bytes() -> None:
    async def scene(store: Store) -> None:
        here = directory(store)
        large = {"created": {"ms": 1}, "words": "x" * (200 * KIB)}
        names = [f"b{n:03}" for n in range(100)]
        for name in names:
            stamp = await store.router.numbers.stamp()
            await store.meta.buckets.change(BucketSettings(name, stamp, 0, large))
            assert await here.known(name) is not None
        kept = [name for name in names if here.last(name) is not None]
        assert names[-1] in kept
        assert len(kept) * 200 * KIB <= 16 * MIB

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


def test_what_is_set_for_a_bucket_that_nobody_created_does_not_outlive_it() -> None:
    async def scene(store: Store) -> None:
        async def words(_: Mapping[str, Any]) -> Mapping[str, Any]:
            return {"words": "for all"}

        async def no_words(_: Mapping[str, Any]) -> Mapping[str, Any]:
            return {"words": None}

        here = directory(store)
        await store.write(b"x", "a")
        await here.change("photos", no_words)
        assert records(store) == []
        await here.change("photos", words)
        found = await here.find("photos")
        assert found is not None
        assert (found.owner, found.settings["words"]) == ("", "for all")
        assert await store.router.writes.delete("photos", "a")
        assert await names(store) == ["photos"], "it is there, and what is set can be seen"
        await here.change("photos", no_words)
        await here.change("photos", words)
        assert await here.remove("photos")
        await store.write(b"x", "a")
        found = await here.find("photos")
        assert found is not None
        assert found.settings == {}

    with_store(scene)
