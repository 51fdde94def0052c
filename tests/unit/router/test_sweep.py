"""Tickets that nobody knows of are found and freed; everything else stays."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from common import records
from common.errors import MetadataUnavailable
from common.records import Abort
from putter.storage.engine import Record
from router.blocks import ChunkSource
from router.sweep import _AGE_S
from router.targets import Target
from tests.metadata_kit import begin
from tests.node_kit import play, until
from tests.router_kit import Store, in_chunks, metric, payload
from tests.simulation.loop import World
from tests.storage_kit import data_for, run_of
from tests.unit.router.test_catchup import ready

Scene = Callable[[Store], Awaitable[None]]
HOUR_MS = 3_600_000
LOST = 35**6


def with_store(scene: Scene, putters: int = 2, **options: Any) -> None:
    async def main(world: World) -> None:
        store = await Store(world, putters, sweep_period_ms=HOUR_MS, **options).start()
        for router in store.routers:
            await router.sweep.stop()  # rounds are made by the test
        await ready(store)
        await scene(store)
        await store.stop()

    play(main)


def lose(store: Store, putter: int, object_id: str, first: int = LOST, count: int = 5) -> set[int]:
    """Tickets of an object that Redis never heard of."""
    engine = store.putters[putter].engine
    engine.put(run_of(first, data_for(first, 8 * count), object_id=object_id))
    engine.sync()
    return set(range(first, first + count))


async def walk_twice(store: Store) -> int:
    sweep = store.router.sweep
    assert await sweep.round() == 0
    await asyncio.sleep(_AGE_S - 1)
    assert await sweep.round() == 0, "too early"
    await asyncio.sleep(2)
    return await sweep.round()


def test_what_nobody_knows_of_is_freed() -> None:
    async def scene(store: Store) -> None:
        await store.write(payload(50_000), "kept")
        await store.write(payload(500), "small")
        before = [putter.tickets for putter in store.putters]
        lose(store, 0, "GONE")
        lose(store, 0, "G2", LOST + 100)
        lose(store, 1, "G2", LOST + 100)
        assert await walk_twice(store) == 2
        assert [putter.tickets for putter in store.putters] == before
        assert await store.read("kept") == payload(50_000)
        assert metric(store.router.metrics, "putter_orphans_freed_total") == 2

    with_store(scene)


def test_what_is_deleted_and_failed_is_the_janitors() -> None:
    async def scene(store: Store) -> None:
        await store.write(payload(50_000), "cat")
        assert await store.router.writes.delete("photos", "cat")
        lost = lose(store, 0, "F")
        await store.meta.objects.begin(begin("F"))
        await store.meta.objects.fail("photos", "F")
        before = [putter.tickets for putter in store.putters]
        assert lost <= before[0]
        assert await walk_twice(store) == 0
        assert [putter.tickets for putter in store.putters] == before

    with_store(scene)


def test_an_upload_of_any_length_is_left_alone() -> None:
    async def scene(store: Store) -> None:
        go_on = asyncio.Event()

        async def chunks() -> Any:
            async for chunk in in_chunks(payload(3_000_000)):
                yield chunk
            await go_on.wait()
            yield b"the end"

        writes = store.router.writes
        source = ChunkSource(chunks(), writes.filler())
        writing = asyncio.create_task(writes.write(source, Target("photos", "long")))
        await until(lambda: all(putter.tickets for putter in store.putters))
        assert await walk_twice(store) == 0
        go_on.set()
        await writing
        assert await store.read("long") == payload(3_000_000) + b"the end"

    with_store(scene, idle_ms=HOUR_MS)


@pytest.mark.parametrize("of", ["version", "abort"])
def test_what_has_a_commit_record_anywhere_stays(of: str) -> None:
    async def scene(store: Store) -> None:
        lost = lose(store, 0, "R")
        engine = store.putters[1].engine
        body = records.encode(Abort("photos", "cat", 5, "R", 4)) if of == "abort" else b"?"
        engine.put_record(Record(5, "R", body))
        engine.sync()
        assert await walk_twice(store) == 0
        assert lost <= store.putters[0].tickets

    with_store(scene)


def test_nobody_walks_while_a_putter_is_away() -> None:
    async def scene(store: Store) -> None:
        lost = lose(store, 0, "GONE")
        await store.putters[1].crash()
        await until(lambda: len(store.router.fleet.up()) == 1, 60)
        assert await walk_twice(store) == 0
        assert lost <= store.putters[0].tickets
        await store.putters[1].start()
        await until(lambda: len(store.router.fleet.up()) == 2, 60)
        await ready(store)
        assert await walk_twice(store) == 1
        assert not store.putters[0].tickets

    with_store(scene)


def test_one_that_went_away_in_between_stops_it() -> None:
    async def scene(store: Store) -> None:
        lost = lose(store, 0, "GONE")
        assert await store.router.sweep.round() == 0
        await asyncio.sleep(2 * _AGE_S)
        await store.putters[1].crash()
        await until(lambda: len(store.router.fleet.up()) == 1, 60)
        assert await store.router.sweep.round() == 0
        assert lost <= store.putters[0].tickets

    with_store(scene)


@pytest.mark.parametrize("run", ["run-2", "run-1"])
def test_nothing_is_forgotten_between_two_looks(run: str) -> None:
    async def scene(store: Store) -> None:
        lost = lose(store, 0, "GONE")
        assert await store.router.sweep.round() == 0
        await asyncio.sleep(2 * _AGE_S)
        store.meta.wipe(run)
        assert await store.router.sweep.round() == 0, "it is not complete"
        await ready(store)
        assert await store.router.sweep.round() == 0
        assert lost <= store.putters[0].tickets
        await asyncio.sleep(2 * _AGE_S)
        assert await store.router.sweep.round() == 1
        assert not store.putters[0].tickets

    with_store(scene)


def test_one_router_walks() -> None:
    async def scene(store: Store) -> None:
        other = await store.add_router()
        await other.sweep.stop()
        lose(store, 0, "GONE")
        assert await store.router.sweep.round() == 0
        assert await other.sweep.round() == 0
        assert not other.sweep._suspects, "the other has the lease"

    with_store(scene)


def test_a_new_run_of_redis_is_walked_through_soon_and_then_again() -> None:
    async def main(world: World) -> None:
        store = await Store(world, 2, sweep_period_ms=HOUR_MS // 3).start()
        await ready(store)
        lose(store, 0, "GONE")
        await asyncio.sleep(_AGE_S + 130)
        assert not store.putters[0].tickets
        lose(store, 0, "LATER", LOST + 100)
        await asyncio.sleep(900)
        assert store.putters[0].tickets, "three times an hour is enough"
        await asyncio.sleep(900)
        assert not store.putters[0].tickets
        await store.stop()

    play(main)


def test_an_upload_that_redis_forgot_leaves_nothing() -> None:
    """Its router and Redis are lost in the middle of it."""

    async def scene(store: Store) -> None:
        async def chunks() -> Any:
            async for chunk in in_chunks(payload(3_000_000)):
                yield chunk
            await asyncio.Event().wait()

        other = await store.add_router()
        await other.sweep.stop()
        source = ChunkSource(chunks(), other.writes.filler())
        writing = asyncio.create_task(other.writes.write(source, Target("photos", "long")))
        await until(lambda: all(putter.tickets for putter in store.putters))
        store.meta.wipe("run-2")
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        await other.stop()
        store.routers.remove(other)
        await ready(store)
        await store.clean()
        await asyncio.sleep(60)
        await store.clean()
        assert any(putter.tickets for putter in store.putters)
        assert await walk_twice(store) == 1
        assert not any(putter.tickets for putter in store.putters)

    with_store(scene, idle_ms=HOUR_MS)


def test_a_redis_that_does_not_answer_ends_the_walk(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(store: Store) -> None:
        lost = lose(store, 0, "GONE")
        assert await store.router.sweep.round() == 0
        await asyncio.sleep(2 * _AGE_S)

        async def silent(object_ids: list[str]) -> set[str]:
            raise MetadataUnavailable("not now")

        with monkeypatch.context() as patch:
            patch.setattr(store.meta.recovery, "absent", silent)
            with pytest.raises(MetadataUnavailable):
                await store.router.sweep.round()
        assert await store.router.sweep.round() == 0, "it begins anew"
        assert lost <= store.putters[0].tickets

    with_store(scene)
