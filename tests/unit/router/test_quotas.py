"""Quotas of buckets on the way of a write: refused early, exactly, and without a trace."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from common.errors import MetadataUnavailable, PreconditionFailed, QuotaExceeded
from common.limits import KIB, MIB
from common.quotas import NO_QUOTA, Quota, Use
from common.records import BucketSettings, Version
from common.uploads import part_name, parts_of
from router.quotas import Held, exceeded
from router.targets import Target
from router.uploads import Uploads
from tests.node_kit import play, until
from tests.router_kit import Store, payload
from tests.simulation.loop import World

Scene = Callable[[Store], Awaitable[None]]
UPLOAD = "0" * 32


def with_store(scene: Scene, **options: Any) -> None:
    async def main(world: World) -> None:
        store = await Store(world, 2, **options).start()
        await scene(store)
        await store.stop()

    play(main)


async def limit(store: Store, size: int | None = None, files: int | None = None) -> None:
    told = {"quota_bytes": size, "quota_files": files}
    await store.router.configure.change("photos", told)


async def used(store: Store) -> Use:
    return await store.meta.buckets.use("photos")


class Untouched:
    """A stream of which nothing may be taken."""

    async def next_block(self) -> None:
        raise AssertionError("it was asked for bytes")


class TestQuota:
    def test_what_grows_must_fit(self) -> None:
        quota = Quota(quota_bytes=100, quota_files=2)
        assert quota.allows(Use(1, 90), Use(1, 10))
        assert not quota.allows(Use(1, 90), Use(1, 11))
        assert not quota.allows(Use(2, 0), Use(1, 0))
        assert quota.allows(Use(9, 900), Use(0, 0))
        assert quota.allows(Use(9, 900), Use(-1, -5))
        assert not Quota(quota_bytes=1).allows(Use(), Use(0, 2))

    def test_none_is_no_limit(self) -> None:
        assert not NO_QUOTA
        assert NO_QUOTA.allows(Use(10**9, 10**18), Use(1, 10**18))

    def test_what_a_refusal_says(self) -> None:
        quota = Quota(quota_bytes=100, quota_files=2)
        held = Held(Use(1, 90), Use(3, 7))
        assert str(exceeded("photos", quota, held)) == (
            "bucket 'photos' may not hold more: 90 of 100 bytes are used and 7 in parts of open "
            "uploads, 1 of 2 files are used"
        )
        assert str(exceeded("photos")) == "bucket 'photos' may not hold more"


@pytest.mark.parametrize("size", [3_000, 300_000])
def test_what_is_refused_leaves_nothing(size: int) -> None:
    """By the step that publishes: nobody said before how much would come."""

    async def scene(store: Store) -> None:
        await store.write(payload(size), "a")
        await limit(store, size + size // 2)
        with pytest.raises(QuotaExceeded, match=f"{size} of {size + size // 2} bytes are used"):
            await store.write(payload(size), "b")
        with pytest.raises(QuotaExceeded):
            await store.write(payload(size), "b", if_match="")
        assert await store.meta.files.resolve("photos", "b") is None
        assert await used(store) == Use(1, size)
        await until(lambda: not store.router.writes._background, 60)
        await asyncio.sleep(2)
        await store.clean()
        version = await store.router.reads.resolve("photos", "a")
        for putter in store.putters:
            assert len(putter.tickets) == version.objects[0].tickets
            assert [each for each in putter.records if isinstance(each, Version)] == [version]
        await store.write(payload(size // 2), "b", if_match="")
        await store.write(payload(size), "a")
        assert await used(store) == Use(2, size + size // 2)

    with_store(scene)


def test_of_a_group_what_fits_is_written() -> None:
    async def scene(store: Store) -> None:
        await limit(store, files=5)
        writes = [store.write(payload(100, n), f"k{n}") for n in range(12)]
        told = await asyncio.gather(*writes, return_exceptions=True)
        refused = [each for each in told if isinstance(each, BaseException)]
        assert [type(each) for each in refused] == [QuotaExceeded] * 7
        assert "5 of 5 files are used" in str(refused[-1])
        assert await used(store) == Use(5, 500)

    with_store(scene)


def test_an_announced_length_is_refused_before_a_byte_is_taken() -> None:
    async def scene(store: Store) -> None:
        writes = store.router.writes
        await store.write(payload(60 * KIB), "a")
        await limit(store, 100 * KIB, 2)
        with pytest.raises(QuotaExceeded, match="61440 of 102400 bytes are used"):
            await writes.write(Untouched(), Target("photos", "b", size=40 * KIB + 1))
        with pytest.raises(QuotaExceeded):
            await writes.write(Untouched(), Target("photos", "a", size=100 * KIB + 1))
        await store.write(payload(100 * KIB), "a", size=100 * KIB)
        await store.write(b"", "b", size=0)
        with pytest.raises(QuotaExceeded, match="2 of 2 files"):
            await writes.write(Untouched(), Target("photos", "c", size=20 * KIB))
        await limit(store)
        await store.write(payload(20 * KIB), "c", size=20 * KIB)
        assert await used(store) == Use(3, 120 * KIB)

    with_store(scene)


def test_a_long_stream_is_refused_as_soon_as_it_is_too_long() -> None:
    taken = 0

    class Endless:
        def __init__(self, store: Store) -> None:
            self.filler = store.router.writes.filler()

        async def next_block(self) -> Any:
            nonlocal taken
            block = None
            while block is None:
                free = self.filler.free()
                block = self.filler.advance(len(free))
            taken += len(block.data)
            return block

    async def scene(store: Store) -> None:
        await limit(store, 3 * MIB)
        with pytest.raises(QuotaExceeded):
            await store.router.writes.write(Endless(store), Target("photos", "a"))
        assert 3 * MIB < taken <= 5 * MIB
        assert await used(store) == Use()

    with_store(scene)


def test_parts_need_room_and_give_it_back() -> None:
    async def scene(store: Store) -> None:
        uploads = Uploads(store.meta, store.router.writes)
        await limit(store, 100 * KIB, 1)
        upload = await uploads.begin("photos", "cat", {})

        async def part(number: int, size: int) -> None:
            name = part_name(upload, number)
            await store.write(payload(size), name, bucket=parts_of("photos"), size=size)

        await part(1, 60 * KIB)
        await part(1, 70 * KIB)
        with pytest.raises(QuotaExceeded, match="0 of 102400 bytes are used and 71680 in parts"):
            await part(2, 31 * KIB)
        with pytest.raises(QuotaExceeded):
            await store.write(payload(31 * KIB), "dog", size=31 * KIB)
        await part(2, 30 * KIB)
        whole = payload(100 * KIB)
        await store.write(whole, "cat", size=len(whole), upload=upload)
        assert await uploads.close("photos", "cat", upload)
        assert await store.meta.buckets.use(parts_of("photos")) == Use()
        assert await used(store) == Use(1, 100 * KIB)
        await store.write(whole, "cat", size=len(whole))

    with_store(scene)


def test_a_condition_comes_first_and_the_name_is_free_again() -> None:
    async def scene(store: Store) -> None:
        await store.write(payload(10), "a")
        await limit(store, 15)
        with pytest.raises(PreconditionFailed):
            await store.write(payload(10), "a", if_match="")
        with pytest.raises(QuotaExceeded):
            await store.write(payload(16), "a", if_match="*")
        await store.write(payload(15), "a", if_match="*")

    with_store(scene)


def test_a_quota_that_another_router_set_counts_at_once_where_it_is_published() -> None:
    async def scene(store: Store) -> None:
        await store.write(payload(10), "a")
        change = BucketSettings("photos", 10**15, 0, {"quota_files": 1})
        assert await store.meta.buckets.change(change)
        with pytest.raises(QuotaExceeded, match="1 of 1 files are used"):
            await store.write(payload(10), "b")

    with_store(scene)


def test_a_version_is_beside_the_others_also_where_it_is_announced() -> None:
    async def scene(store: Store) -> None:
        await store.write(payload(60 * KIB), "a")
        told = {"quota_bytes": 100 * KIB, "versioning": "Enabled"}
        await store.router.configure.change("photos", told)
        with pytest.raises(QuotaExceeded):
            await store.router.writes.write(Untouched(), Target("photos", "a", size=60 * KIB))
        await store.write(payload(40 * KIB), "a", size=40 * KIB)
        assert await used(store) == Use(2, 100 * KIB)

    with_store(scene)


def test_small_files_learn_of_parts_without_waiting() -> None:
    async def scene(store: Store) -> None:
        upload = await Uploads(store.meta, store.router.writes).begin("photos", "cat", {})
        await limit(store, 10 * KIB)
        name = part_name(upload, 1)
        await store.write(payload(10 * KIB), name, bucket=parts_of("photos"), size=10 * KIB)
        await asyncio.sleep(3)
        for key in ("policy", "use"):
            await store.write(payload(10), key, size=10)
        with pytest.raises(QuotaExceeded, match="20 of 10240 bytes are used and 10240 in parts"):
            await store.write(payload(10), "more", size=10)

    with_store(scene)


def test_an_upload_that_is_given_up_makes_room() -> None:
    async def scene(store: Store) -> None:
        uploads = Uploads(store.meta, store.router.writes)
        await limit(store, 100 * KIB)
        upload = await uploads.begin("photos", "cat", {})
        for number in range(1, 5):
            name = part_name(upload, number)
            await store.write(payload(25 * KIB), name, bucket=parts_of("photos"), size=25 * KIB)
        with pytest.raises(QuotaExceeded):
            await store.write(payload(100 * KIB), "dog", size=100 * KIB)
        assert await uploads.close("photos", "cat", upload)
        await store.write(payload(100 * KIB), "dog", size=100 * KIB)

    with_store(scene)


def test_without_redis_nothing_is_said_of_the_use() -> None:
    async def scene(store: Store) -> None:
        await limit(store, 15)
        store.meta.fail_for(60_000)
        with pytest.raises(MetadataUnavailable):
            await store.write(payload(MIB), "a", size=MIB)
        told = await store.router.writes.quotas.refusal("photos")
        assert str(told) == "bucket 'photos' may not hold more"

    with_store(scene)


def test_a_forgotten_object_is_not_rolled_forward_into_a_full_bucket() -> None:
    """Its router died between record and publication, and somebody else took the room."""

    async def scene(store: Store) -> None:
        await limit(store, files=1)
        objects = store.meta.objects
        real = objects.commit

        async def dies(_: Any) -> Any:
            raise MetadataUnavailable("the router is gone")

        objects.commit = dies  # type: ignore[method-assign]
        with pytest.raises(MetadataUnavailable):
            await store.write(payload(30 * KIB), "a")
        objects.commit = real  # type: ignore[method-assign]
        await store.write(payload(10), "b")
        await asyncio.sleep(60)
        while await store.router.janitor.round():
            pass
        assert await store.meta.files.resolve("photos", "a") is None
        assert await used(store) == Use(1, 10)
        assert await objects.stale(10) == []

    with_store(scene)
