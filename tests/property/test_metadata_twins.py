"""The coordinator in memory and the one in Redis answer the same to any history of calls."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import product
from typing import Any

import fakeredis
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from common.clock import ManualClock
from common.errors import ObjectGone
from common.meta.claims import Claim
from common.meta.handoff import Missed
from common.meta.interface import Ceilings, Commit, EpochUnknown, Kind, Metadata, Progress
from common.meta.memory import MemoryMetadata
from common.meta.recovery import Finding
from common.meta.redis_store import RedisMetadata
from common.meta.schema import bucket_key
from common.records import Abort, AccessKey, BucketSettings, StoredObject
from tests.metadata_kit import (
    BUCKET,
    LONG_MS,
    access_key,
    begin,
    complete,
    stored,
    tombstone,
    version,
)

IDS = st.sampled_from("ABCDEF")
NAMES = st.sampled_from(["a", "b c"])
STAMPS = st.integers(1, 12)
NODES = st.sampled_from([(), ("n1", "n2"), ("n2",), ("n3", "n1")])
ETAGS = st.sampled_from(["one", "two"])
OWED = st.sampled_from([{}, {}, {"n4": ""}, {"n4": "n1", "n5": ""}, {"*": "", "n5": "n2"}])
RANGES = st.sampled_from([(), ((100, 2),), ((7, 1), (100, 2))])
Step = Callable[[Metadata], Awaitable[Any]]


def _begin(name: str, router: str, nodes: tuple[str, ...], ranges: Any, lease_ms: int) -> Step:
    item = begin(name, router=router, nodes=nodes, ranges=ranges, lease_ms=lease_ms)
    return lambda store: store.objects.begin(item)


def _progress(name: str, acked: int, nodes: Any, ranges: Any) -> Step:
    return lambda store: store.objects.progress(
        Progress(BUCKET, name, LONG_MS, acked, ranges, nodes)
    )


def _commit(
    key: str,
    stamp: int,
    etag: str,
    names: list[str],
    owed: dict[str, str],
    if_match: str | None,
    missing: int,
) -> Step:
    objects = (_lacking(stored(name, 10 * n), owed) for n, name in enumerate(names))
    what = version(key, stamp, *objects, etag=etag)
    item = Commit(what, 2 * len(names), 2 * len(names) - missing, if_match)
    return lambda store: store.objects.commit(item)


def _lacking(what: StoredObject, owed: dict[str, str], nodes: Any = None) -> StoredObject:
    """The same object, with these debts."""
    (extent,) = what.extents
    return replace(what, extents=(replace(extent, owed=owed, nodes=nodes or extent.nodes),))


def _amend(key: str, nodes: tuple[str, ...], owed: dict[str, str], reached: bool) -> Step:
    """Describe what a name holds anew."""

    async def amend(store: Metadata) -> Any:
        for held in await store.repairs.described(BUCKET, "", 10):
            if held.version.key == key:
                objects = [_lacking(each, owed, nodes) for each in held.version.objects]
                if reached:
                    for each, node in product(objects, nodes):
                        await store.repairs.reach(BUCKET, each.object_id, node)
                what = replace(held.version, objects=tuple(objects))
                return await store.repairs.amend(held.token, what)
        return None

    return amend


def _reach(name: str, node: str) -> Step:
    return lambda store: store.repairs.reach(BUCKET, name, node)


def _free(absent: str) -> Step:
    """Free what may be freed."""

    async def free(store: Metadata) -> Any:
        found = await store.repairs.surplus(10, absent=(absent,))
        for each in found:
            await store.repairs.freed(each)
        return [(each.place, each.ranges, each.whole) for each in found]

    return free


def _restore(findings: list[Finding], anew: bool) -> Step:
    return lambda store: store.recovery.restore(findings, anew=anew)


def _found(
    key: str,
    stamp: int,
    names: list[str],
    nodes: tuple[str, ...],
    owed: dict[str, str],
    whole: bool,
) -> Finding:
    objects = (
        _lacking(stored(name, 10 * n, nodes or ("n1",)), owed) for n, name in enumerate(names)
    )
    return Finding(version(key, stamp, *objects), whole=whole)


def _claim(key: str, holder: str, if_match: str) -> Step:
    return lambda store: store.claims.take(Claim(BUCKET, key, holder, LONG_MS, if_match))


def _unclaim(key: str, holder: str) -> Step:
    return lambda store: store.claims.drop(BUCKET, key, holder)


def _delete(key: str, stamp: int, of: int) -> Step:
    return lambda store: store.files.delete(tombstone(key, 50 + stamp if of else stamp, of=of))


def _on_object(verb: str, name: str) -> Step:
    return lambda store: getattr(store.objects, verb)(BUCKET, name)


def _reader(verb: str, name: str, reader: str) -> Step:
    lease = (LONG_MS,) if verb == "hold" else ()
    return lambda store: getattr(store.objects, verb)(BUCKET, name, reader, *lease)


def _configured(stamp: int, values: dict[str, Any]) -> BucketSettings:
    return BucketSettings(BUCKET, stamp, 7, values)


def _configure(record: BucketSettings) -> Step:
    return lambda store: store.buckets.change(record)


def _rekey(record: AccessKey) -> Step:
    return lambda store: store.access.change(record)


def _followed(stamp: int) -> Step:
    return lambda store: store.buckets.followed(BUCKET, stamp)


def _missed(node: str, stamp: int) -> Missed:
    return Missed(node, BUCKET, stamp, ("n1",), b"\xff \0" * stamp)


def _miss(missed: list[Missed]) -> Step:
    return lambda store: store.handoff.note(missed)


def _give(missed: list[Missed]) -> Step:
    return lambda store: store.handoff.given(missed)


def _lease(kind: Kind, count: int) -> Step:
    async def lease(store: Metadata) -> Any:
        found = await store.counters.lease(kind, count)
        if isinstance(found, EpochUnknown):
            return await store.counters.establish(found.epoch, Ceilings(5, 0, 10))
        return [getattr(found, name, None) for name in ("first", "count", "wanted", "ceilings")]

    return lease


# A change has its stamp alone.
SETTINGS = st.builds(lambda stamp: _configured(stamp, {"replicas": stamp}), STAMPS)
ACCESS = st.builds(lambda stamp, key: access_key(stamp, key), STAMPS, st.sampled_from(["K", "L"]))
MISSED = st.lists(
    st.builds(_missed, st.sampled_from(["n4", "n5", "*"]), STAMPS), min_size=1, max_size=3
)
FINDINGS = st.one_of(
    st.builds(
        _found,
        NAMES,
        STAMPS,
        st.lists(IDS, max_size=1),
        NODES,
        OWED,
        st.sampled_from([True, True, False]),
    ),
    st.builds(lambda key, stamp: Finding(tombstone(key, stamp)), NAMES, STAMPS),
    st.builds(lambda key, of: Finding(tombstone(key, 70 + of, of=of)), NAMES, STAMPS),
    st.builds(
        lambda key, name, stamp: Finding(Abort(BUCKET, key, 50 + stamp, name, stamp)),
        NAMES,
        IDS | st.just(""),
        STAMPS,
    ),
    st.builds(Finding, SETTINGS),
    st.builds(Finding, ACCESS),
)
STEPS = st.one_of(
    st.builds(
        _begin, IDS, st.sampled_from(["r1", "r2"]), NODES, RANGES, st.sampled_from([0, LONG_MS])
    ),
    st.builds(_progress, IDS, st.integers(0, 3), NODES | st.none(), RANGES | st.none()),
    st.builds(
        _commit,
        NAMES,
        STAMPS,
        ETAGS,
        st.lists(IDS, max_size=2, unique=True),
        OWED,
        st.sampled_from([None, None, None, "", "*", "one"]),
        st.sampled_from([0, 0, 0, 1]),
    ),
    st.builds(_delete, NAMES, STAMPS, st.just(0) | STAMPS),
    st.builds(_restore, st.lists(FINDINGS, min_size=1, max_size=4), st.booleans()),
    st.builds(
        _amend,
        NAMES,
        st.sampled_from([("n1", "n2"), ("n2",), ("n4", "n1"), ("n4", "n5")]),
        OWED,
        st.sampled_from([True, True, False]),
    ),
    st.builds(_reach, IDS, st.sampled_from(["n4", "n5"])),
    st.builds(_free, st.sampled_from(["", "n1", "n4"])),
    st.builds(_claim, NAMES, st.sampled_from(["x", "y"]), st.sampled_from(["", "*", "one"])),
    st.builds(_unclaim, NAMES, st.sampled_from(["x", "y"])),
    st.builds(_on_object, st.sampled_from(["fail", "forget"]), IDS),
    st.builds(_reader, st.sampled_from(["hold", "release"]), IDS, st.sampled_from(["x", "y"])),
    st.builds(_configure, SETTINGS),
    st.builds(_rekey, ACCESS),
    st.builds(_followed, STAMPS),
    st.builds(_miss, MISSED),
    st.builds(_give, MISSED),
    st.builds(_lease, st.sampled_from([Kind.TICKETS, Kind.OBJECTS]), st.integers(1, 3)),
)


async def outcome(step: Step, store: Metadata) -> Any:
    try:
        return await step(store)
    except ObjectGone as error:
        return error.message


async def everything(store: Metadata) -> list[Any]:
    """All that can be asked."""
    freed = await store.objects.to_free(100)
    stale = await store.objects.stale(100)
    return [
        [await store.objects.get(name) for name in "ABCDEF"],
        [await store.files.resolve(BUCKET, key) for key in ("a", "b c")],
        await store.files.list(BUCKET, "", "", 10),
        await store.files.buckets(),
        await store.buckets.configured(),
        await store.buckets.names(),
        await store.access.every(),
        sorted(freed, key=lambda each: each.object_id),
        sorted(stale, key=lambda each: each.object_id),
        await store.repairs.debts(),
        [
            [(each.place, each.version) for each in await store.repairs.owed(node, 100)]
            for node in ("n4", "n5", "*")
        ],
        [(each.place, each.ranges, each.whole) for each in await store.repairs.surplus(100)],
        await store.handoff.lacking(),
        [await store.handoff.missed(node, 100) for node in ("n4", "n5", "*")],
    ]


async def recounted(fake: fakeredis.FakeAsyncRedis) -> dict[bytes, bytes]:
    """What the debts come to, counted one by one."""
    counts: dict[bytes, list[int]] = {}
    for member in await fake.zrange(bucket_key(BUCKET, "owed"), 0, -1):
        node, _, size = member.split(b" ")
        count = counts.setdefault(node, [0, 0])
        count[0] += 1
        count[1] += int(size)
    return {node: b"%d %d" % (objects, size) for node, (objects, size) in counts.items()}


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, max_size=25), st.sampled_from([0, LONG_MS]))
def test_twins(steps: list[Step], grace_ms: int) -> None:
    async def compare() -> None:
        clock = ManualClock()
        memory = MemoryMetadata(clock, grace_ms=grace_ms)
        fake = fakeredis.FakeAsyncRedis(server=fakeredis.FakeServer(server_type="valkey"))
        redis = RedisMetadata(fake, grace_ms=grace_ms)
        await complete(redis)
        for step in steps:
            assert await outcome(step, memory) == await outcome(step, redis)
            assert await memory.repairs.debts() == await redis.repairs.debts()
        assert await fake.hgetall(bucket_key(BUCKET, "owing")) == await recounted(fake)
        assert await everything(memory) == await everything(redis)
        await redis.close()

    asyncio.run(compare())
