"""What every coordinator promises about the settings of buckets."""

from __future__ import annotations

from typing import Any

from common.meta.buckets import Configured
from common.records import BucketSettings
from tests.metadata_kit import BUCKET, World, publish, stored, version


def settings(stamp: int, bucket: str = BUCKET, **values: Any) -> BucketSettings:
    return BucketSettings(bucket, stamp, 1_700_000_000_000 + stamp, values)


async def test_a_bucket_has_none_of_its_own_at_first(world: World) -> None:
    buckets = world.store.buckets
    assert await buckets.get(BUCKET) is None
    assert await buckets.configured() == []
    assert await buckets.names() == []
    await publish(world.store, version("a", 10, stored("A")))
    assert await buckets.get(BUCKET) is None
    assert await buckets.configured() == []
    assert await buckets.names() == [BUCKET]


async def test_whoever_asks_gets_the_latest(world: World) -> None:
    first = settings(10, replicas=3, consistency="strict")
    assert await world.store.buckets.change(first)
    assert await world.other.buckets.get(BUCKET) == Configured(first)
    second = settings(12, later={"rules": [{"days": 7}, None, 1.5, b"\x00\xff"]})
    assert await world.other.buckets.change(second)
    assert await world.other.buckets.change(second), "once more is no change"
    assert not await world.store.buckets.change(settings(11))
    assert await world.store.buckets.get(BUCKET) == Configured(second)


async def test_what_follows_a_change_is_known_until_the_next_one(world: World) -> None:
    buckets = world.store.buckets
    await buckets.followed("nobody", 5)
    await buckets.change(settings(10, replicas=3))
    await buckets.followed(BUCKET, 9)
    assert await buckets.get(BUCKET) == Configured(settings(10, replicas=3))
    await buckets.followed(BUCKET, 10)
    assert await world.other.buckets.get(BUCKET) == Configured(settings(10, replicas=3), 10)
    await buckets.change(settings(20))
    await buckets.followed(BUCKET, 10)
    assert await buckets.get(BUCKET) == Configured(settings(20), 10)


async def test_all_buckets_by_name(world: World) -> None:
    buckets = world.store.buckets
    for number, name in enumerate(["zebra", "apple", "mango"]):
        await buckets.change(settings(10 + number, name, replicas=number + 1))
    await publish(world.store, version("a", 20, stored("A"), bucket="files"))
    assert [each.record.bucket for each in await buckets.configured()] == [
        "apple",
        "mango",
        "zebra",
    ]
    assert await buckets.names() == ["apple", "files", "mango", "zebra"]
    assert await world.store.files.buckets() == ["files"]
