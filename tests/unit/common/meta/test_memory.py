"""What the coordinator in memory can suffer."""

from __future__ import annotations

import asyncio

import pytest

from common.clock import ManualClock
from common.errors import MetadataUnavailable
from common.meta.interface import (
    CeilingReached,
    Ceilings,
    EpochUnknown,
    Granted,
    Kind,
    Member,
    Outcome,
)
from common.meta.members import SILENT_ROUTER_KEPT_MS
from common.meta.memory import MemoryMetadata
from tests.metadata_kit import (
    BUCKET,
    begin,
    commit_of,
    complete,
    establish,
    publish,
    stored,
    version,
)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store(clock: ManualClock) -> MemoryMetadata:
    return MemoryMetadata(clock, epoch="one", grace_ms=1000)


async def test_stamps_are_the_clock_in_microseconds(
    store: MemoryMetadata, clock: ManualClock
) -> None:
    await establish(store)
    now_us = clock.now_ms() * 1000
    assert await store.counters.lease(Kind.STAMPS, 2) == Granted(now_us, 2)
    assert await store.counters.lease(Kind.STAMPS, 1) == Granted(now_us + 2, 1)
    clock.advance(5)
    assert await store.counters.lease(Kind.STAMPS, 1) == Granted(now_us + 5000, 1)


async def test_a_restart_asks_for_the_floor_again(store: MemoryMetadata) -> None:
    assert await establish(store) == "one"
    await publish(store, version("a", 10, stored("A")))
    store.restart("two")
    assert await store.counters.lease(Kind.TICKETS, 1) == EpochUnknown("two")
    assert not await store.counters.raise_to("one", Ceilings(9, 9, 9))
    assert await store.counters.establish("two", Ceilings(7, 7, 7))
    assert await store.counters.lease(Kind.TICKETS, 1) == Granted(7, 1)
    await complete(store)
    assert await store.files.resolve(BUCKET, "a") is not None


async def test_a_snapshot_loses_what_came_after_it(store: MemoryMetadata) -> None:
    await publish(store, version("a", 10, stored("A")))
    before = store.snapshot()
    await publish(store, version("a", 11, stored("B")))
    await publish(store, version("b", 12, stored("C")))
    for epoch in ("two", "three"):
        store.restore(before, epoch)
        with pytest.raises(MetadataUnavailable):
            await store.files.resolve(BUCKET, "a")
        await complete(store)
        held = await store.files.resolve(BUCKET, "a")
        assert held is not None
        assert held.stamp == 10
        assert await store.files.resolve(BUCKET, "b") is None
        state = await store.objects.get("A")
        assert state is not None
        assert state.state == "written"
        assert await store.counters.lease(Kind.TICKETS, 1) == EpochUnknown(epoch)
        await publish(store, version("a", 13, stored("D")))


async def test_a_wipe_loses_everything(store: MemoryMetadata) -> None:
    await establish(store)
    await publish(store, version("a", 10, stored("A")))
    store.wipe()
    assert await store.counters.lease(Kind.TICKETS, 1) == EpochUnknown("one")
    await complete(store)
    assert await store.files.buckets() == []
    store.wipe("two")
    assert await store.counters.lease(Kind.TICKETS, 1) == EpochUnknown("two")
    assert await store.counters.establish("two", Ceilings())
    assert isinstance(await store.counters.lease(Kind.TICKETS, 1), CeilingReached)


async def test_it_can_be_away(store: MemoryMetadata, clock: ManualClock) -> None:
    store.fail_for(100)
    with pytest.raises(MetadataUnavailable):
        await store.ping()
    with pytest.raises(MetadataUnavailable):
        await store.objects.begin(begin("A"))
    clock.advance(100)
    await store.ping()
    assert await store.objects.get("A") is None
    store.down = True
    with pytest.raises(MetadataUnavailable):
        await store.ping()
    store.down = False
    await store.ping()


async def test_answers_can_get_lost(store: MemoryMetadata) -> None:
    await store.objects.begin(begin("A"))
    store.lose_answers(1)
    what = commit_of(version("a", 10, stored("A")))
    with pytest.raises(MetadataUnavailable, match="lost"):
        await store.objects.commit(what)
    assert await store.files.resolve(BUCKET, "a") == what.version
    assert await store.objects.commit(what) is Outcome.PUBLISHED


async def test_calls_travel_there_and_back(clock: ManualClock) -> None:
    steps: list[str] = []

    async def travel() -> None:
        steps.append("travel")

    store = MemoryMetadata(clock, travel=travel)
    await store.visit(lambda _: steps.append("effect"))
    assert steps == ["travel", "effect", "travel"]
    await store.close()


async def test_other_tasks_have_their_turn(store: MemoryMetadata) -> None:
    turns: list[int] = []

    async def caller(number: int) -> None:
        for _ in range(2):
            turns.append(number)
            await store.ping()

    await asyncio.gather(caller(1), caller(2))
    assert turns == [1, 2, 1, 2]


async def test_a_router_that_is_silent_for_a_day_is_dropped(
    store: MemoryMetadata, clock: ManualClock
) -> None:
    for node, role in (("n1", "putter"), ("n2", "router")):
        await store.members.heartbeat(Member(node, role, "i", "127.0.0.1", 1))
    clock.advance(SILENT_ROUTER_KEPT_MS)
    assert [each.member.node for each in await store.members.seen()] == ["n1", "n2"]
    clock.advance(1)
    (seen,) = await store.members.seen()
    assert (seen.member.node, seen.age_ms) == ("n1", SILENT_ROUTER_KEPT_MS + 1)
