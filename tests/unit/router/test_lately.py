"""What names held lately is served while Redis is away, and marked; under ``strict`` it is not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
import structlog.testing

from common.clock import ManualClock
from common.errors import (
    MetadataUnavailable,
    NotFound,
    PreconditionFailed,
    RangeInvalid,
    ShuttingDown,
    Unavailable,
)
from common.limits import MIB, STALE_AFTER_MS
from common.meta.interface import Files
from common.metrics import Metrics
from common.records import Version
from router.catchup import RebuildNeeded
from router.lately import Found, Lately
from router.policies import Policies
from router.quorum import Consistency, Policy
from router.reads import ReadPath
from tests.metadata_kit import stored, version
from tests.node_kit import play, until
from tests.router_kit import Store, metric, payload
from tests.simulation.loop import World

Scene = Callable[[Store], Awaitable[None]]
DATA = payload(5_000)
KEPT_MS = 10_000


def with_store(scene: Scene, **options: Any) -> None:
    async def main(world: World) -> None:
        store = await Store(world, 2, **options).start()
        await store.write(DATA, "cat")
        await scene(store)
        store.meta.down = False
        await store.stop()

    play(main)


async def find(store: Store, key: str = "cat") -> Found:
    return await store.router.lately.find("photos", key)


async def bytes_of(found: Found) -> bytes:
    pieces = found.reads.stream(found.version, 0, found.version.size)
    return b"".join([bytes(piece) async for piece in pieces])


class TestWithPutters:
    def test_a_read_goes_on_and_says_so(self) -> None:
        async def scene(store: Store) -> None:
            assert (await find(store)).age_s is None
            store.meta.down = True
            await asyncio.sleep(7)
            with structlog.testing.capture_logs() as logs:
                found = await find(store)
            assert [each["event"] for each in logs] == ["reads go on with what names held lately"]
            assert found.age_s == 7
            assert store.router.lately.marks(found) == {
                "Age": "7",
                "Warning": '110 - "Response is Stale"',
                "X-Putter-Stale": "true",
            }
            assert await bytes_of(found) == DATA
            assert metric(store.router.metrics, "putter_stale_reads_total") == 1
            store.meta.down = False
            await until(lambda: not store.router.lately._away, 10)
            fresh = await find(store)
            assert fresh.age_s is None
            assert store.router.lately.marks(fresh) == {}
            await until(lambda: store.router.lately._looking is None, 10)

        with_store(scene)

    def test_what_was_written_here_needs_no_read_before(self) -> None:
        async def scene(store: Store) -> None:
            for key, data in [("cat", payload(20_000)), ("cat", b"small"), ("dog", b"")]:
                await store.write(data, key)
                store.meta.down = True
                found = await find(store, key)
                assert found.age_s == 0
                assert await bytes_of(found) == data
                store.meta.down = False
                await until(lambda: not store.router.lately._away, 10)

        with_store(scene)

    def test_what_was_deleted_here_is_not_served(self) -> None:
        async def scene(store: Store) -> None:
            await find(store)
            assert await store.router.writes.delete("photos", "cat")
            store.meta.down = True
            with pytest.raises(MetadataUnavailable):
                await find(store)
            store.meta.down = False
            with pytest.raises(NotFound):
                await find(store)
            again = await store.write(b"again", "cat")
            store.meta.down = True
            assert (await find(store)).version == again.version

        with_store(scene)

    def test_what_others_deleted_is_forgotten_with_the_answer(self) -> None:
        async def scene(store: Store) -> None:
            other = await store.add_router()
            await find(store)
            assert await other.writes.delete("photos", "cat")
            with pytest.raises(NotFound):
                await find(store)
            store.meta.down = True
            with pytest.raises(MetadataUnavailable):
                await find(store)

        with_store(scene)

    def test_long_reads_ask_redis_for_nothing(self) -> None:
        async def scene(store: Store) -> None:
            data = payload(9 * MIB)
            await store.write(data, "long")
            store.meta.down = True
            assert await bytes_of(await find(store, "long")) == data

        with_store(scene, frame_bytes=65_536)

    def test_bytes_that_were_freed_meanwhile_are_no_missing_file(self) -> None:
        async def scene(store: Store) -> None:
            found = await find(store)
            store.meta.down = True
            for putter in store.putters:
                putter.engine.free([(found.version.objects[0].extents[0].first, 100)])
            found = await find(store)
            with pytest.raises(MetadataUnavailable, match="gone"):
                await bytes_of(found)

        with_store(scene)

    def test_a_redis_that_is_not_up_to_date_counts_as_away(self) -> None:
        async def scene(store: Store) -> None:
            await store.putters[1].crash()
            store.meta.wipe("run-2")
            await until(lambda: bool(store.router.catch_up.trouble), 60)
            found = await find(store)
            assert found.age_s is not None
            assert await bytes_of(found) == DATA

        with_store(scene)

    def test_never_under_strict(self) -> None:
        async def scene(store: Store) -> None:
            assert (await find(store)).age_s is None
            store.meta.down = True
            with pytest.raises(MetadataUnavailable):
                await find(store)

        with_store(scene, policy=Policy(2, 2, "strict"))

    @pytest.mark.parametrize("store_wide", ["available", "strict"])
    def test_a_bucket_may_be_of_another_mind(self, store_wide: Consistency) -> None:
        own: Consistency = "strict" if store_wide == "available" else "available"

        async def scene(store: Store) -> None:
            await store.router.configure.change("photos", {"consistency": own})
            assert (await find(store)).age_s is None
            store.meta.down = True
            await asyncio.sleep(30)
            if own == "strict":
                with pytest.raises(MetadataUnavailable):
                    await find(store)
            else:
                assert await bytes_of(await find(store)) == DATA

        with_store(scene, policy=Policy(2, 2, store_wide))

    def test_never_if_the_operator_says_so(self) -> None:
        async def scene(store: Store) -> None:
            await find(store)
            assert store.router.lately.size == (0, 0)
            store.meta.down = True
            with pytest.raises(MetadataUnavailable):
                await find(store)

        with_store(scene, stale_reads_ms=0)

    def test_not_for_ever(self) -> None:
        async def scene(store: Store) -> None:
            await find(store)
            store.meta.down = True
            await asyncio.sleep(9)
            assert (await find(store)).age_s == 9
            await asyncio.sleep(1)
            with pytest.raises(MetadataUnavailable):
                await find(store)

        with_store(scene, stale_reads_ms=KEPT_MS)


class Names:
    """Of a Redis whose buckets can be away one by one."""

    def __init__(self) -> None:
        self.held: dict[tuple[str, str], Version] = {}
        self.away: dict[str, Exception] = {}
        self.asked: list[tuple[str, str, int | None]] = []

    async def resolve(self, bucket: str, key: str, patience_ms: int | None = None) -> Any:
        self.asked.append((bucket, key, patience_ms))
        await asyncio.sleep(0)
        if bucket in self.away:
            raise self.away[bucket]
        return self.held.get((bucket, key))

    def put(self, what: Version) -> None:
        self.held[what.bucket, what.key] = what


class Reads:
    """Only their names matter."""

    def __init__(self, other: Reads | None = None) -> None:
        self._other = other
        self.metrics = Metrics("router")

    def unconfirmed(self) -> ReadPath:
        return cast("ReadPath", self._other)


class Mind:
    """All buckets are available."""

    def last(self, bucket: str) -> Policy:
        return Policy(1, 1)


STALE = cast("ReadPath", Reads())
READS = cast("ReadPath", Reads(cast("Reads", STALE)))


@pytest.fixture
def names() -> Names:
    return Names()


@pytest.fixture
def lately(names: Names) -> Lately:
    files = cast("Files", names)
    return Lately(files, cast("Policies", Mind()), ManualClock(), READS, KEPT_MS)


def some(bucket: str, key: str, stamp: int = 10, parts: int = 1) -> Version:
    objects = tuple(stored(f"{key}{n}{stamp}", 100 * n) for n in range(1, parts + 1))
    return version(key, stamp, *objects, bucket=bucket)


async def test_only_buckets_whose_server_is_away_are_stale(names: Names, lately: Lately) -> None:
    for bucket in ("one", "two"):
        names.put(some(bucket, "a"))
        assert await lately.find(bucket, "a") == Found(some(bucket, "a"), READS)
    names.away["one"] = MetadataUnavailable("no answer")
    assert await lately.find("one", "a") == Found(some("one", "a"), STALE, 0)
    assert (await lately.find("two", "a")).age_s is None
    asked = len(names.asked)
    assert (await lately.find("one", "a")).age_s == 0
    assert len(names.asked) == asked, "nobody waits a second time"
    assert names.asked[2] == ("one", "a", STALE_AFTER_MS)
    assert names.asked[0] == ("one", "a", None), "what is not remembered is waited for"
    await lately.stop()


@pytest.mark.parametrize("error", [MetadataUnavailable("away"), RebuildNeeded("empty")])
async def test_a_name_that_is_not_remembered_gets_the_error(
    names: Names, lately: Lately, error: Unavailable
) -> None:
    names.put(some("one", "a"))
    await lately.find("one", "a")
    names.away["one"] = error
    assert (await lately.find("one", "a")).age_s == 0
    with pytest.raises(type(error)):
        await lately.find("one", "b")
    # Redis is back, and the first answer for the bucket tells it.
    del names.away["one"]
    names.put(some("one", "b"))
    assert (await lately.find("one", "b")).age_s is None
    assert (await lately.find("one", "a")).age_s is None
    await lately.stop()


async def test_a_router_that_stops_serves_nothing(names: Names, lately: Lately) -> None:
    names.put(some("one", "a"))
    await lately.find("one", "a")
    names.away["one"] = ShuttingDown("closed")
    with pytest.raises(ShuttingDown):
        await lately.find("one", "a")
    await lately.stop()


async def test_an_answer_that_was_overtaken_changes_nothing(names: Names, lately: Lately) -> None:
    names.put(some("one", "a", 10))
    reading = asyncio.create_task(lately.find("one", "a"))
    await asyncio.sleep(0)
    lately.holds(some("one", "a", 11))
    assert (await reading).version.stamp == 10
    names.away["one"] = MetadataUnavailable("away")
    assert (await lately.find("one", "a")).version.stamp == 11
    lately.deleted("one", "a", 12)
    lately.holds(some("one", "a", 11))
    with pytest.raises(MetadataUnavailable):
        await lately.find("one", "a")
    await lately.stop()


async def test_names_are_bounded_and_the_oldest_go_first(
    names: Names, lately: Lately, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.lately.LATELY_NAMES_MAX", 3)
    for key in "abc":
        lately.holds(some("one", key))
    lately.holds(some("one", "a"))
    lately.deleted("one", "d", 20)
    names.away["one"] = MetadataUnavailable("away")
    assert lately.size[0] == 3
    assert [(await lately.find("one", key)).age_s for key in "ac"] == [0, 0]
    with pytest.raises(MetadataUnavailable):
        await lately.find("one", "b")
    await lately.stop()


async def test_bytes_are_bounded(lately: Lately, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.lately.LATELY_BYTES_MAX", 100_000)
    for number in range(60):
        lately.holds(some("one", f"k{number}", parts=1 + number % 20))
        assert lately.size[1] <= 100_000
    assert 5 < lately.size[0] < 60
    lately.holds(some("one", "huge", parts=1_000))
    assert lately.size == (0, 0)


async def test_what_does_not_fit_a_stale_version_is_undecided() -> None:
    for error in (PreconditionFailed("another tag"), RangeInvalid("outside")):
        assert Found(some("one", "a"), READS).undecided(error) is error
        doubt = Found(some("one", "a"), STALE, 3).undecided(error)
        assert isinstance(doubt, MetadataUnavailable)
        assert str(error) in str(doubt)
        assert doubt.hint
