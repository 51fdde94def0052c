"""What every coordinator promises about events that wait."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from common.meta.interface import Metadata, Outcome
from common.meta.outbox import Post, Queue
from common.records import BucketSettings
from common.versions import version_name, versions_of
from tests.metadata_kit import (
    BUCKET,
    World,
    begin,
    commit_of,
    publish,
    stored,
    tombstone,
    version,
)

HOOK = "hook"


def post(body: bytes = b"an event", target: str = HOOK, waiting_max: int = 100) -> Post:
    return Post(target, body, waiting_max)


async def bodies(store: Metadata, target: str = HOOK, bucket: str = BUCKET) -> list[bytes]:
    return [each.body for each in await store.outbox.first(bucket, target, 1000)]


async def test_nothing_waits(world: World) -> None:
    assert await world.store.outbox.buckets() == []
    assert await world.store.outbox.queues(BUCKET) == []
    assert await world.store.outbox.first(BUCKET, HOOK, 10) == []
    await world.store.outbox.done(BUCKET, HOOK, [1, 2])
    await world.store.outbox.post(BUCKET, [])
    assert await world.store.outbox.buckets() == []


async def test_events_wait_for_each_target_in_order_until_they_are_done(world: World) -> None:
    binary = bytes(range(256))
    posts = [post(binary), post(b"", "hoo"), post(b"2"), post(b"3", "hook2"), post(b"4")]
    await world.store.outbox.post(BUCKET, posts)
    assert await world.other.outbox.buckets() == [BUCKET]
    waiting = [Queue("hoo", 1), Queue(HOOK, 3), Queue("hook2", 1)]
    assert await world.other.outbox.queues(BUCKET) == waiting
    first = await world.other.outbox.first(BUCKET, HOOK, 2)
    assert [each.body for each in first] == [binary, b"2"]
    assert first == await world.store.outbox.first(BUCKET, HOOK, 2), "they go on waiting"
    await world.store.outbox.done(BUCKET, HOOK, [first[0].number])
    await world.store.outbox.done(BUCKET, HOOK, [first[0].number])
    await world.store.outbox.done(BUCKET, "hoo", [first[1].number])
    assert await bodies(world.other) == [b"2", b"4"]
    assert await bodies(world.other, "hoo") == [b""]
    for queue in await world.store.outbox.queues(BUCKET):
        numbers = [each.number for each in await world.store.outbox.first(BUCKET, queue.target, 9)]
        await world.store.outbox.done(BUCKET, queue.target, numbers)
    assert await world.store.outbox.buckets() == await world.store.outbox.queues(BUCKET) == []
    await world.store.outbox.post(BUCKET, [post(b"later")])
    (later,) = await world.store.outbox.first(BUCKET, HOOK, 10)
    assert later.number > first[1].number


async def test_the_oldest_go_where_too_many_wait_for_one_target(world: World) -> None:
    for n in range(5):
        await world.store.outbox.post(BUCKET, [post(b"%d" % n, waiting_max=3), post(b"o", "other")])
    assert await bodies(world.other) == [b"2", b"3", b"4"]
    assert await world.other.outbox.queues(BUCKET) == [Queue(HOOK, 3, 2), Queue("other", 5)]
    numbers = [each.number for each in await world.store.outbox.first(BUCKET, HOOK, 10)]
    await world.store.outbox.done(BUCKET, HOOK, numbers)
    assert await world.other.outbox.queues(BUCKET) == [Queue(HOOK, 0, 2), Queue("other", 5)]


async def test_an_event_waits_from_the_moment_on_in_which_a_version_is_published(
    world: World,
) -> None:
    store = world.store
    await store.objects.begin(begin("A"))
    incomplete = msgspec.structs.replace(version("a", 10, stored("A")))
    refused = commit_of(incomplete, if_match="another", post=post(b"refused"))
    assert await store.objects.commit(refused) is Outcome.REFUSED
    assert await bodies(store) == []
    first = commit_of(version("a", 10, stored("A")), post=post(b"first"))
    outcomes = await asyncio.gather(store.objects.commit(first), world.other.objects.commit(first))
    assert outcomes == [Outcome.PUBLISHED] * 2
    assert await store.objects.commit(first) is Outcome.PUBLISHED
    assert await bodies(world.other) == [b"first"], "however often it is asked for"

    await store.objects.begin(begin("B"))
    late = commit_of(version("a", 9, stored("B")), post=post(b"overwritten at once"))
    assert await store.objects.commit(late) is Outcome.SUPERSEDED
    assert await store.objects.commit(late) is Outcome.SUPERSEDED
    assert await bodies(world.other) == [b"first", b"overwritten at once"]

    await publish(store, version("b", 11, stored("C")))
    assert await bodies(world.other) == [b"first", b"overwritten at once"], "others have none"


async def test_an_event_waits_of_what_was_there_to_delete(world: World) -> None:
    files = world.store.files
    assert await files.delete(tombstone("a", 5), post(b"absent")) is Outcome.ABSENT
    await publish(world.store, version("a", 10, stored("A")))
    assert await files.delete(tombstone("a", 20, of=9), post(b"refused")) is Outcome.REFUSED
    assert await bodies(world.other) == []
    for _ in range(2):
        assert await files.delete(tombstone("a", 20, of=10), post(b"one")) is Outcome.PUBLISHED
    await publish(world.store, version("a", 30, stored("B")))
    assert await files.delete(tombstone("a", 29), post(b"overtaken")) is Outcome.SUPERSEDED
    for _ in range(2):
        assert await files.delete(tombstone("a", 31), post(b"all")) is Outcome.PUBLISHED
    assert await bodies(world.other) == [b"one", b"overtaken", b"all"]


async def test_an_event_waits_of_a_version_that_is_described_anew(world: World) -> None:
    await publish(world.store, version("a", 10, stored("A")))
    found = await world.store.repairs.at(BUCKET, "a")
    assert found is not None
    tagged = msgspec.structs.replace(found.version, tags={"a": "b"}, tagged=20)
    for _ in range(2):
        assert await world.store.repairs.amend(found.token, tagged, post(b"tags"))
    other = msgspec.structs.replace(found.version, tags={"a": "c"}, tagged=30)
    assert not await world.store.repairs.amend(found.token, other, post(b"too late"))
    assert await bodies(world.other) == [b"tags"]


async def test_events_of_versions_wait_with_those_of_their_bucket(world: World) -> None:
    store, kept = world.store, versions_of(BUCKET)
    await publish(store, version("a", 10, stored("A")))
    await store.buckets.change(_versioned(11))
    name = version_name("a", 20)
    await store.objects.begin(begin("B", bucket=kept))
    there = commit_of(version(name, 20, stored("B"), bucket=kept), post=post(b"written"))
    assert await store.objects.commit(there) is Outcome.PUBLISHED
    gone = tombstone(name, 21, bucket=kept)
    assert await store.files.delete(gone, post(b"deleted")) is Outcome.PUBLISHED
    assert await bodies(world.other) == [b"written", b"deleted"]
    assert await world.other.outbox.buckets() == [BUCKET]
    assert await world.other.outbox.queues(kept) in ([], [Queue(HOOK, 2)])


async def test_a_target_is_one_word(world: World) -> None:
    with pytest.raises(ValueError, match="identity"):
        await world.store.outbox.post(BUCKET, [post(target="two words")])


async def test_a_stream_of_the_coordinator_takes_entries(world: World) -> None:
    entries = [{"message": b"%d" % n, "key": bytes(range(256))} for n in range(3)]
    await world.store.outbox.forward("events-of-mine", entries, 1000)
    await world.store.outbox.forward("events-of-mine", [], 1000)


def _versioned(stamp: int) -> BucketSettings:
    return BucketSettings(BUCKET, stamp, 1_700_000_000_000, {"versioning": "Enabled"})
