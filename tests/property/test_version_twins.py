"""Versions in memory and in Redis: the same after any steps."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import fakeredis
from hypothesis import given, settings
from hypothesis import strategies as st

from common.clock import ManualClock
from common.meta.claims import Claim
from common.meta.interface import Metadata
from common.meta.memory import MemoryMetadata
from common.meta.redis_store import RedisMetadata
from common.meta.versions import VersionEntry
from common.records import BucketSettings, Tombstone, Version
from common.versions import version_name, versions_of
from tests.metadata_kit import BUCKET, LONG_MS, commit_of, complete, tombstone, version

Step = Callable[[Metadata], Awaitable[Any]]
KEYS = st.sampled_from(["a", "a\x01", "b"])
NUMBERS = st.integers(1, 12)
ETAGS = st.sampled_from(["one", "two", ""])
CONDITIONS = st.sampled_from([None, None, "", "*", "one"])


def null(key: str, number: int, etag: str) -> Version:
    return version(key, 2 * number, etag=etag)


def kept(key: str, number: int, etag: str) -> Version:
    number = 2 * number + 1
    return version(version_name(key, number), number, bucket=versions_of(BUCKET), etag=etag)


def gone(key: str, number: int, later: int, *, is_null: bool) -> Tombstone:
    what = null(key, number, "") if is_null else kept(key, number, "")
    return tombstone(what.key, what.stamp + later, what.bucket)


def configured(number: int) -> BucketSettings:
    """A change has its stamp alone."""
    how = ("Enabled", "Suspended", "Enabled", "")[number % 4]
    return BucketSettings(BUCKET, 100 + number, 0, {"versioning": how} if how else {})


def commit(what: Version, if_match: str | None) -> Step:
    return lambda store: store.objects.commit(commit_of(what, if_match))


def claim(key: str, if_match: str, holder: str) -> Step:
    return lambda store: store.claims.take(Claim(BUCKET, key, holder, LONG_MS, if_match))


def delete(what: Tombstone) -> Step:
    return lambda store: store.files.delete(what)


def configure(what: BucketSettings) -> Step:
    return lambda store: store.buckets.change(what)


VERSIONS = st.builds(null, KEYS, NUMBERS, ETAGS) | st.builds(kept, KEYS, NUMBERS, ETAGS)
GONE = st.builds(gone, KEYS, NUMBERS, st.sampled_from([0, 1, 50]), is_null=st.booleans())
SETTINGS = st.builds(configured, NUMBERS)
STEPS = st.one_of(
    st.builds(commit, VERSIONS, CONDITIONS),
    st.builds(commit, VERSIONS, CONDITIONS),
    st.builds(claim, KEYS, st.sampled_from(["", "*", "one"]), st.sampled_from(["x", "y"])),
    st.builds(delete, GONE),
    st.builds(configure, SETTINGS),
)


async def pages(store: Metadata, at_once: int) -> list[VersionEntry]:
    found: list[VersionEntry] = []
    after: tuple[str, int | None] | None = ("", None)
    while after is not None:
        page = await store.versions.list(BUCKET, "", *after, at_once)
        found += page.entries
        after = page.next_after
    return found


async def everything(store: Metadata) -> list[Any]:
    keys = ("a", "a\x01", "b")
    return [
        [await store.files.resolve(BUCKET, key) for key in keys],
        [await store.versions.latest(BUCKET, key) for key in keys],
        [await store.versions.held(BUCKET, key) for key in keys],
        await store.files.list(BUCKET, "", "", 10),
        await store.files.list(BUCKET, "a", "a", 10),
        await store.files.list(versions_of(BUCKET), "", "", 100),
        await store.versions.list(BUCKET, "a", "a", 9, 100),
        await pages(store, 2),
        await pages(store, 100),
        await store.versions.anything(BUCKET) is None,
        await store.files.buckets(),
    ]


@settings(max_examples=40, deadline=None)
@given(st.lists(STEPS, max_size=15))
def test_twins(steps: list[Step]) -> None:
    async def compare() -> None:
        memory = MemoryMetadata(ManualClock())
        fake = fakeredis.FakeAsyncRedis(server=fakeredis.FakeServer(server_type="valkey"))
        redis = RedisMetadata(fake)
        await complete(redis)
        for step in steps:
            assert await step(memory) == await step(redis)
        assert await everything(memory) == await everything(redis)
        await redis.close()

    asyncio.run(compare())
