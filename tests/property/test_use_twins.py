"""How much a bucket holds: in memory, in Redis, and as a listing adds up, after any history."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import fakeredis
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from common.clock import ManualClock
from common.meta.interface import Metadata, Outcome
from common.meta.memory import MemoryMetadata
from common.meta.recovery import Finding
from common.meta.redis_store import RedisMetadata
from common.meta.schema import bucket_key
from common.quotas import Use
from common.records import BucketSettings, Extent, StoredObject, Tombstone, Version
from common.versions import version_name, versions_of
from tests.metadata_kit import BUCKET, complete, publish, tombstone, version

KEPT = versions_of(BUCKET)
BYTES_MAX, FILES_MAX = 1500, 5
KINDS = ["put", "put", "late", "version", "marker", "delete", "remove", "tags", "again", "forget"]
Step = tuple[str, int, int]
STEPS = st.tuples(st.sampled_from(KINDS), st.integers(0, 3), st.integers(0, 700))


class Twins:
    """The same history in memory and in Redis, and the records that it leaves on putters."""

    def __init__(self, fake: fakeredis.FakeAsyncRedis) -> None:
        self.fake = fake
        self.memory = MemoryMetadata(ManualClock())
        self.redis = RedisMetadata(fake)
        self.records: list[Version | Tombstone | BucketSettings] = []
        self.stamp = 100

    @property
    def stores(self) -> tuple[Metadata, Metadata]:
        return self.memory, self.redis

    async def step(self, kind: str, key: int, number: int) -> None:
        self.stamp += 10
        name = f"k{key}"
        versions = [each for each in self.records if isinstance(each, Version)]
        if kind in ("put", "late"):
            stamp = self.stamp - (25 if kind == "late" else 0)
            await self._put(version(name, stamp, self._object(number)))
        elif kind in ("version", "marker"):
            objects, etag = ((self._object(number),), "e") if kind == "version" else ((), "")
            name = version_name(name, self.stamp)
            await self._put(version(name, self.stamp, *objects, bucket=KEPT, etag=etag))
        elif kind == "delete":
            await self._delete(tombstone(name, self.stamp))
        elif kind == "remove" and versions:
            what = versions[number % len(versions)]
            await self._delete(tombstone(what.key, self.stamp, what.bucket, what.stamp))
        elif kind == "tags" and versions:
            what = versions[number % len(versions)]
            await self._tag(replace(what, tags={"n": "x" * number}, tagged=self.stamp))
        elif kind == "again" and self.records:
            await self.replay([self.records[number % len(self.records)]])
        elif kind == "forget":
            # As a store of an earlier release is, which counted nothing.
            await self.fake.hdel(bucket_key(BUCKET, "bucket"), "use")

    async def replay(self, records: Sequence[Version | Tombstone | BucketSettings]) -> None:
        findings = [Finding(each) for each in records]
        for store in self.stores:
            await store.recovery.restore(findings, anew=True)

    def _object(self, size: int) -> StoredObject:
        extent = Extent(self.stamp, 2, size, ("n1",))
        return StoredObject(f"{self.stamp}", size, 1458, b"\xff" * 32, (extent,))

    async def _put(self, what: Version) -> None:
        how = "Enabled" if what.bucket == KEPT else ""
        told = {"versioning": how, "quota_bytes": BYTES_MAX, "quota_files": FILES_MAX}
        change = BucketSettings(BUCKET, self.stamp, 0, told)
        self.records.append(change)
        outcomes = set()
        for store in self.stores:
            assert await store.buckets.change(change)
            outcomes.add(await publish(store, what))
        (outcome,) = outcomes
        if outcome in (Outcome.PUBLISHED, Outcome.SUPERSEDED):
            self.records.append(what)
        else:
            assert outcome is Outcome.OVER_QUOTA

    async def _delete(self, what: Tombstone) -> None:
        (outcome,) = {await store.files.delete(what) for store in self.stores}
        if outcome is not Outcome.REFUSED:
            self.records.append(what)

    async def _tag(self, what: Version) -> None:
        for store in self.stores:
            described = await store.repairs.at(what.bucket, what.key)
            if described is not None and described.version.stamp == what.stamp:
                assert await store.repairs.amend(described.token, what)

    async def check(self) -> Use:
        listed = []
        for store in self.stores:
            page = await store.versions.list(BUCKET, "", "", None, 1000)
            files = [each for each in page.entries if each.etag]
            listed.append(Use(len(files), sum(each.size for each in files)))
        counted = [await store.buckets.use(BUCKET) for store in self.stores]
        assert listed == counted
        (use,) = set(counted)
        assert use.files <= FILES_MAX
        assert use.size <= BYTES_MAX
        return use


@settings(max_examples=40, deadline=None)
@given(st.lists(STEPS, min_size=1, max_size=16), st.randoms(use_true_random=False))
def test_the_count_is_what_a_listing_adds_up_to(
    steps: Sequence[Step], shuffler: random.Random
) -> None:
    async def compare() -> None:
        server = fakeredis.FakeServer(server_type="valkey")
        twins = Twins(fakeredis.FakeAsyncRedis(server=server))
        await complete(twins.redis)
        for kind, key, number in steps:
            await twins.step(kind, key, number)
            use = await twins.check()
        await twins.fake.flushall()
        twins.memory.wipe()
        records = [*twins.records, *twins.records]
        shuffler.shuffle(records)
        records.sort(key=lambda each: not isinstance(each, Tombstone))  # as a rebuild reads them
        await twins.replay(records)
        for store in twins.stores:
            await complete(store)
        assert await twins.check() == use
        await twins.redis.close()

    asyncio.run(compare())


def test_delete_markers_alone_are_counted_once() -> None:
    """Else each further change would go through all of them again, in one step of Redis."""

    async def mark() -> None:
        twins = Twins(fakeredis.FakeAsyncRedis(server=fakeredis.FakeServer(server_type="valkey")))
        await complete(twins.redis)
        await twins.check()
        assert not await twins.fake.exists(bucket_key(BUCKET, "bucket")), "asking leaves nothing"
        settings_now = BucketSettings(BUCKET, 50, 50, {"versioning": "Enabled"})
        await twins.redis.buckets.change(settings_now)
        for stamp in (60, 70):
            what = version(version_name("k", stamp), stamp, bucket=KEPT, etag="")
            assert await publish(twins.redis, what) is Outcome.PUBLISHED
        assert await twins.fake.hget(bucket_key(BUCKET, "bucket"), "use") == b"0 0"
        await twins.redis.close()

    asyncio.run(mark())
