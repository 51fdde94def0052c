"""Uploads in parts below the doors: kept as files are, and nothing of them stays behind."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from common.errors import WriteConflict
from common.limits import UPLOAD_LEASE_MS
from common.records import BucketSettings
from common.uploads import part_name, parts_of, uploads_of
from router.leftovers import Leftovers
from router.quorum import Policy
from router.sweep import _AGE_S
from router.uploads import KEY_HEADER, Uploads
from tests.node_kit import play, until
from tests.router_kit import Store, payload
from tests.simulation.loop import World
from tests.unit.router.test_catchup import ready
from tests.unit.router.test_sweep import lose

Scene = Callable[[Store, Uploads], Awaitable[None]]
AGE_S = 60


def with_uploads(scene: Scene, putters: int = 2, **options: Any) -> None:
    async def main(world: World) -> None:
        store = await Store(world, putters, **options).start()
        await store.router.leftovers.stop()  # rounds are made by the test
        await ready(store)
        await scene(store, Uploads(store.meta, store.router.writes))
        await store.stop()

    play(main)


async def put(store: Store, upload: str, number: int, data: bytes, key: str = "cat") -> None:
    name = part_name(upload, number)
    await store.write(data, name, bucket=parts_of("photos"), headers={KEY_HEADER: key})


def leftovers_of(store: Store, uploads: Uploads) -> Leftovers:
    return Leftovers(store.meta, uploads, store.world.clock, "r0.1", AGE_S * 1000)


async def numbers(uploads: Uploads, upload: str) -> list[int]:
    found, more = await uploads.page_of_parts("photos", upload, 0, 1000)
    assert not more
    return [int(entry.key[-5:]) for entry in found]


def test_an_upload_from_its_beginning_to_its_end() -> None:
    async def scene(store: Store, uploads: Uploads) -> None:
        upload = await uploads.begin("photos", "cat", {"content-type": "x"})
        kept = await uploads.find("photos", "cat", upload)
        assert kept is not None
        assert kept.headers == {"content-type": "x"}
        for number in (3, 1, 10_000):
            await put(store, upload, number, payload(40_000, number))
        assert await numbers(uploads, upload) == [1, 3, 10_000]
        first, gap, third = await uploads.parts("photos", upload, [1, 2, 3])
        assert first is not None
        assert gap is None
        assert third is not None
        assert await store.read_version(third) == payload(40_000, 3)
        page, more = await uploads.page_of_parts("photos", upload, 1, 1)
        assert ([each.key[-5:] for each in page], more) == (["00003"], True)
        assert await uploads.close("photos", "cat", upload)
        assert await uploads.find("photos", "cat", upload) is None
        assert not await uploads.close("photos", "cat", upload)
        await until(lambda: not store.router.writes._background, 60)
        assert await numbers(uploads, upload) == []
        await store.clean()
        assert [putter.tickets for putter in store.putters] == [set(), set()]

    with_uploads(scene)


def test_what_no_upload_can_be_is_not_looked_for() -> None:
    async def scene(_: Store, uploads: Uploads) -> None:
        upload = await uploads.begin("photos", "cat", {})
        for other in ("", "x" * 32, upload.upper() + "0"):
            assert await uploads.find("photos", "cat", other) is None
        assert await uploads.find("photos", "dog", upload) is None
        assert await uploads.find("films", "cat", upload) is None

    with_uploads(scene)


def test_parts_are_kept_as_their_bucket_is() -> None:
    async def scene(store: Store, uploads: Uploads) -> None:
        stamp = await store.router.numbers.stamp()
        await store.meta.buckets.change(BucketSettings("photos", stamp, 1, {"replicas": 3}))
        upload = await uploads.begin("photos", "cat", {})
        await put(store, upload, 1, payload(40_000))
        for place in (uploads_of("photos"), parts_of("photos")):
            assert (await store.router.policies.of(place)).replicas == 3
        [part] = await uploads.parts("photos", upload, [1])
        assert part is not None
        assert {len(each.nodes) for each in part.objects[0].extents} == {3}
        kept = await uploads.find("photos", "cat", upload)
        assert kept is not None
        assert kept.replicas == 3

    with_uploads(scene, 3, policy=Policy(1, 1))


def test_parts_follow_the_settings_of_their_bucket() -> None:
    async def scene(store: Store, uploads: Uploads) -> None:
        await store.write(b"x", "file")
        upload = await uploads.begin("photos", "cat", {})
        await put(store, upload, 1, payload(40_000))
        stamp = await store.router.numbers.stamp()
        await store.meta.buckets.change(BucketSettings("photos", stamp, 1, {"replicas": 3}))
        assert await store.router.follow.round() == 3
        [part] = await uploads.parts("photos", upload, [1])
        kept = await uploads.find("photos", "cat", upload)
        assert part is not None
        assert kept is not None
        assert part.replicas == kept.replicas == 3
        owed = [set(each.owed) for each in part.objects[0].extents]
        assert all(owed), "more putters should hold it"

    with_uploads(scene, 3, policy=Policy(1, 1))


def test_no_walk_takes_parts_for_what_nobody_knows_of() -> None:
    async def scene(store: Store, uploads: Uploads) -> None:
        upload = await uploads.begin("photos", "cat", {})
        for number, size in ((1, 500), (2, 100_000)):
            await put(store, upload, number, payload(size, number))
        before = [putter.tickets for putter in store.putters]
        await store.router.sweep.stop()
        lose(store, 0, "GONE")
        freed = 0
        for _ in range(3):
            freed += await store.router.sweep.round()
            await asyncio.sleep(_AGE_S + 1)
        await store.clean()
        assert freed == 1, "it did walk"
        assert [putter.tickets for putter in store.putters] == before
        assert all(before)
        for number, size in ((1, 500), (2, 100_000)):
            [part] = await uploads.parts("photos", upload, [number])
            assert part is not None
            assert await store.read_version(part) == payload(size, number)

    with_uploads(scene, sweep_period_ms=3_600_000)


def test_an_upload_is_closed_by_one_at_a_time() -> None:
    async def scene(_: Store, uploads: Uploads) -> None:
        upload = await uploads.begin("photos", "cat", {})
        async with uploads.alone(upload, 1):
            await asyncio.sleep(3 * UPLOAD_LEASE_MS / 1000)
            with pytest.raises(WriteConflict):
                async with uploads.alone(upload, 1):
                    raise AssertionError("two at a time")
        async with uploads.alone(upload, 0):
            assert await uploads.close("photos", "cat", upload)

    with_uploads(scene)


def test_all_uploads_of_a_bucket_are_given_up() -> None:
    async def scene(store: Store, uploads: Uploads) -> None:
        made = [await uploads.begin("photos", f"k{n}", {}) for n in range(5)]
        other = await uploads.begin("films", "k", {})
        await put(store, made[2], 1, b"x")
        assert await uploads.close_all("photos") == 5
        for n, upload in enumerate(made):
            assert await uploads.find("photos", f"k{n}", upload) is None
        await until(lambda: not store.router.writes._background, 60)
        assert await numbers(uploads, made[2]) == []
        assert await uploads.find("films", "k", other) is not None

    with_uploads(scene)


def test_parts_without_upload_are_removed_once_they_are_old() -> None:
    async def scene(store: Store, uploads: Uploads) -> None:
        there = await uploads.begin("photos", "cat", {})
        gone = await uploads.begin("photos", "cat", {})
        last = await uploads.begin("photos", "dog", {})
        for upload in (there, gone):
            for number in (1, 2, 7):
                await put(store, upload, number, payload(3_000, number))
        await put(store, last, 1, b"x", "dog")
        # As if a router had died between the two steps of a closing.
        for upload, key in ((gone, "cat"), (last, "dog")):
            kept = await uploads.find("photos", key, upload)
            assert kept is not None
            assert await store.router.writes.delete(uploads_of("photos"), kept.key)
        leftovers = leftovers_of(store, uploads)
        assert await leftovers.round() == 0, "they are young"
        await asyncio.sleep(AGE_S + 1)
        assert await leftovers.round() == 4
        assert await numbers(uploads, there) == [1, 2, 7]
        assert await numbers(uploads, gone) == await numbers(uploads, last) == []
        assert await leftovers.round() == 0

    with_uploads(scene)


def test_one_router_at_a_time_looks_for_them() -> None:
    async def scene(store: Store, uploads: Uploads) -> None:
        upload = await uploads.begin("photos", "cat", {})
        await put(store, upload, 1, b"x")
        assert await store.meta.leases.acquire("leftovers", "another", 10**9)
        kept = await uploads.find("photos", "cat", upload)
        assert kept is not None
        await store.router.writes.delete(uploads_of("photos"), kept.key)
        await asyncio.sleep(AGE_S + 1)
        assert await leftovers_of(store, uploads).round() == 0
        await store.meta.leases.release("leftovers", "another")
        assert await leftovers_of(store, uploads).round() == 1

    with_uploads(scene)
