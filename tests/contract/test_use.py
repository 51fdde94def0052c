"""What every coordinator promises about how much buckets hold, and their quotas."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from common.meta.interface import Metadata, Outcome
from common.meta.recovery import Finding, Restored
from common.quotas import Use
from common.records import BucketSettings, Extent, StoredObject, Version
from common.uploads import part_name, parts_of
from common.versions import version_name, versions_of
from tests.metadata_kit import BUCKET, World, begin, commit_of, publish, tombstone, version


def sized(object_id: str, size: int) -> StoredObject:
    return StoredObject(object_id, size, 1458, b"\xff" * 32, (Extent(100, 2, size, ("n1",)),))


def kept(stamp: int, bucket: str = BUCKET, **values: Any) -> BucketSettings:
    return BucketSettings(bucket, stamp, 1_700_000_000_000 + stamp, values)


def beside(key: str, stamp: int, *objects: StoredObject, etag: str = "e-tag") -> Version:
    """A version beside the null one."""
    return version(version_name(key, stamp), stamp, *objects, bucket=versions_of(BUCKET), etag=etag)


async def restored(store: Metadata, *records: Any) -> list[Restored]:
    return await store.recovery.restore([Finding(each) for each in records], anew=True)


SIZES = (0, 1, 127, 128, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**50)


async def test_every_size_counts_as_it_is(world: World) -> None:
    """Each length that a number can have in a packed version."""
    assert await world.store.buckets.use(BUCKET) == Use()
    for number, size in enumerate(SIZES):
        what = version(f"k{number}", 10 + number, sized(f"A{number}", size))
        assert await publish(world.store, what) is Outcome.PUBLISHED
    assert await world.other.buckets.use(BUCKET) == Use(len(SIZES), sum(SIZES))
    assert await world.store.buckets.use("nobody") == Use()


async def test_what_is_overwritten_deleted_or_repeated_counts_once(world: World) -> None:
    store = world.store
    await publish(store, version("a", 10, sized("A", 1000)))
    assert await store.objects.commit(commit_of(version("a", 10, sized("A", 1000))))
    assert await store.buckets.use(BUCKET) == Use(1, 1000)
    await publish(store, version("a", 12, sized("B", 300)))
    late = version("a", 11, sized("C", 77))
    assert await publish(store, late) is Outcome.SUPERSEDED
    assert await store.buckets.use(BUCKET) == Use(1, 300)
    assert await store.files.delete(tombstone("a", 20)) is Outcome.PUBLISHED
    assert await store.files.delete(tombstone("a", 20)) is Outcome.PUBLISHED
    assert await store.files.delete(tombstone("b", 21)) is Outcome.ABSENT
    assert await store.buckets.use(BUCKET) == Use()
    await publish(store, version("a", 30))
    await publish(store, version("b", 31, sized("D", 5)))
    assert await store.buckets.use(BUCKET) == Use(2, 5)
    assert await store.files.delete(tombstone("b", 40, of=31)) is Outcome.PUBLISHED
    assert await store.files.delete(tombstone("a", 41, of=29)) is Outcome.REFUSED
    assert await store.buckets.use(BUCKET) == Use(1, 0)


async def test_versions_count_and_delete_markers_do_not(world: World) -> None:
    store = world.store
    await publish(store, version("a", 10, sized("A", 1000)))
    await store.buckets.change(kept(11, versioning="Enabled"))
    await publish(store, beside("a", 12, sized("B", 200)))
    await publish(store, beside("a", 13, etag=""))
    assert await store.buckets.use(BUCKET) == Use(2, 1200)
    await store.files.delete(
        tombstone(version_name("a", 12), 20, bucket=versions_of(BUCKET), of=12)
    )
    await store.files.delete(
        tombstone(version_name("a", 13), 21, bucket=versions_of(BUCKET), of=13)
    )
    assert await store.buckets.use(BUCKET) == Use(1, 1000)


async def test_parts_are_counted_for_themselves(world: World) -> None:
    parts = parts_of(BUCKET)
    await publish(world.store, version(part_name("u" * 32, 1), 10, sized("A", 500), bucket=parts))
    assert await world.store.buckets.use(parts) == Use(1, 500)
    assert await world.store.buckets.use(BUCKET) == Use()


async def test_a_change_of_tags_counts_nothing(world: World) -> None:
    store = world.store
    await publish(store, version("a", 10, sized("A", 1000)))
    described = await store.repairs.at(BUCKET, "a")
    assert described is not None
    tagged = msgspec.structs.replace(described.version, tags={"x": "y" * 200}, tagged=15)
    assert await store.repairs.amend(described.token, tagged)
    assert await store.buckets.use(BUCKET) == Use(1, 1000)


async def test_a_quota_of_bytes_holds_to_the_last_byte(world: World) -> None:
    store = world.store
    await store.buckets.change(kept(5, quota_bytes=1000))
    assert await publish(store, version("a", 10, sized("A", 600))) is Outcome.PUBLISHED
    assert await publish(store, version("b", 11, sized("B", 401))) is Outcome.OVER_QUOTA
    assert await store.files.resolve(BUCKET, "b") is None
    assert await store.buckets.use(BUCKET) == Use(1, 600)
    assert await store.objects.fail(BUCKET, "B"), "its object is still to be given up"
    assert await publish(store, version("b", 12, sized("C", 400))) is Outcome.PUBLISHED
    assert await publish(store, version("c", 13)) is Outcome.PUBLISHED, "it has no byte"
    assert await publish(store, version("a", 14, sized("D", 601))) is Outcome.OVER_QUOTA
    assert await publish(store, version("a", 15, sized("E", 599))) is Outcome.PUBLISHED
    assert await store.buckets.use(BUCKET) == Use(3, 999)


async def test_a_quota_of_files_counts_versions(world: World) -> None:
    store = world.store
    await store.buckets.change(kept(5, quota_files=2, versioning="Enabled"))
    assert await publish(store, beside("a", 10, sized("A", 1))) is Outcome.PUBLISHED
    assert await publish(store, beside("a", 11, sized("B", 1))) is Outcome.PUBLISHED
    assert await publish(store, beside("a", 12, sized("C", 1))) is Outcome.OVER_QUOTA
    assert await publish(store, beside("a", 13, etag="")) is Outcome.PUBLISHED, "a delete marker"
    await store.buckets.change(kept(14, quota_files=2))
    assert await publish(store, version("b", 15)) is Outcome.OVER_QUOTA
    gone = tombstone(version_name("a", 10), 20, bucket=versions_of(BUCKET), of=10)
    assert await store.files.delete(gone) is Outcome.PUBLISHED
    assert await publish(store, version("b", 21)) is Outcome.PUBLISHED
    assert await publish(store, version("b", 22, sized("D", 9))) is Outcome.PUBLISHED


async def test_a_lower_quota_refuses_new_bytes_only(world: World) -> None:
    store = world.store
    await publish(store, version("a", 10, sized("A", 600)))
    await publish(store, version("b", 11, sized("B", 600)))
    assert await store.buckets.change(kept(12, quota_bytes=500, quota_files=1))
    assert await store.buckets.use(BUCKET) == Use(2, 1200)
    assert await publish(store, version("a", 13, sized("C", 601))) is Outcome.OVER_QUOTA
    assert await publish(store, version("a", 14, sized("D", 600))) is Outcome.PUBLISHED
    assert await store.files.delete(tombstone("b", 15)) is Outcome.PUBLISHED
    assert await publish(store, version("b", 16)) is Outcome.OVER_QUOTA
    assert await store.buckets.change(kept(17))
    assert await publish(store, version("b", 18, sized("E", 9000))) is Outcome.PUBLISHED


async def test_a_refusal_for_another_reason_comes_first(world: World) -> None:
    store = world.store
    await store.buckets.change(kept(5, quota_bytes=10))
    await store.objects.begin(begin("A"))
    what = version("a", 10, sized("A", 600))
    assert await store.objects.commit(commit_of(what, "*")) is Outcome.REFUSED
    assert await store.objects.commit(commit_of(what, "")) is Outcome.OVER_QUOTA
    assert await store.objects.commit(commit_of(what)) is Outcome.OVER_QUOTA
    newer = version("a", 20, sized("B", 4))
    assert await publish(store, newer) is Outcome.PUBLISHED
    assert await store.objects.commit(commit_of(what)) is Outcome.SUPERSEDED


async def test_of_many_at_once_exactly_those_that_fit_are_published(world: World) -> None:
    await world.store.buckets.change(kept(5, quota_bytes=1000, quota_files=7))
    whats = [version(f"k{n}", 10 + n, sized(f"A{n}", 100)) for n in range(20)]
    stores = [world.store, world.other]
    outcomes = await asyncio.gather(*(publish(stores[n % 2], w) for n, w in enumerate(whats)))
    assert sorted(outcomes).count(Outcome.PUBLISHED) == 7
    assert set(outcomes) == {Outcome.PUBLISHED, Outcome.OVER_QUOTA}
    assert await world.store.buckets.use(BUCKET) == Use(7, 700)


async def test_records_count_again_after_a_loss_whatever_the_quota(lost_world: World) -> None:
    store = lost_world.store
    standing = await store.recovery.standing()
    assert await store.recovery.begin(standing.epoch, "now")
    records = [
        kept(5, quota_bytes=1000, versioning="Enabled"),
        version("a", 6, sized("A", 900)),
        beside("a", 10, sized("B", 800)),
        beside("a", 11, etag=""),
        version("gone", 3, sized("C", 50)),
        tombstone("gone", 4),
    ]
    for _ in range(2):
        await restored(store, *records)
    newer = msgspec.structs.replace(records[1], tags={"a": "b"}, tagged=12)
    await restored(store, newer)
    assert await store.recovery.complete(standing, 0, "now")
    assert await store.buckets.use(BUCKET) == Use(2, 1700)
    assert await publish(store, beside("b", 20, sized("D", 1))) is Outcome.OVER_QUOTA


async def test_an_object_that_is_described_by_two_stamps_counts_once(world: World) -> None:
    """Its run took a detour: the second record says where it is, in whatever order they come."""
    store = world.store
    what = sized("A", 700)
    for bucket, stamps in (("forward", (10, 12)), ("backward", (12, 10))):
        object_ = msgspec.structs.replace(what, object_id=f"A{stamps[0]}")
        records = [version("a", stamp, object_, bucket=bucket) for stamp in stamps]
        for each in records:
            await restored(store, each)
        assert await store.buckets.use(bucket) == Use(1, 700)
