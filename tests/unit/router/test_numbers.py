"""Numbers that are never used twice, whatever Redis forgets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any

import pytest
import structlog.testing

from common.errors import MetadataUnavailable, NodesUnavailable, StorageError, TicketsExhausted
from common.limits import OBJECT_LEASE, TICKET_LEASE
from common.meta.interface import Ceilings, Kind
from common.meta.memory import MemoryCounters
from common.tickets import TICKETS_MAX, format_id, parse_id
from tests.node_kit import play, until
from tests.router_kit import Store, metric
from tests.simulation.loop import World

Scene = Callable[[Store], Awaitable[None]]


def with_store(scene: Scene, putters: int = 2, **options: Any) -> None:
    async def main(world: World) -> None:
        store = await Store(world, putters, **options).start()
        await scene(store)
        await store.stop()

    play(main)


def ceilings(store: Store) -> list[Ceilings]:
    """What each living putter keeps."""
    return [p.engine.raise_ceilings(Ceilings()) for p in store.putters if p.node is not None]


class TestLeasing:
    def test_tickets_are_consecutive_and_used_once(self) -> None:
        async def scene(store: Store) -> None:
            numbers = store.router.numbers
            counts = [1, 5, 1000, TICKET_LEASE, 3, 2 * TICKET_LEASE, 7]
            firsts = await asyncio.gather(*(numbers.tickets(count) for count in counts))
            used = [n for first, c in zip(firsts, counts, strict=True) for n in (first, first + c)]
            spans = sorted(zip(firsts, counts, strict=True))
            for (first, count), (following, _) in pairwise(spans):
                assert first + count <= following
            assert numbers.tickets_used >= max(used)
            assert metric(store.router.metrics, "putter_tickets_used") == numbers.tickets_used

        with_store(scene)

    def test_one_call_of_redis_serves_many_objects(self, monkeypatch: pytest.MonkeyPatch) -> None:
        calls: list[Kind] = []
        lease = MemoryCounters.lease

        async def counted(self: MemoryCounters, kind: Kind, count: int) -> Any:
            calls.append(kind)
            return await lease(self, kind, count)

        monkeypatch.setattr(MemoryCounters, "lease", counted)

        async def scene(store: Store) -> None:
            numbers = store.router.numbers
            ids = await asyncio.gather(*(numbers.object_id() for _ in range(OBJECT_LEASE)))
            assert sorted(map(parse_id, ids)) == list(range(OBJECT_LEASE))
            assert calls.count(Kind.OBJECTS) <= 4, "establish, lift, lease"
            assert await numbers.object_id() == format_id(OBJECT_LEASE)

        with_store(scene)

    def test_two_routers_share_nothing(self) -> None:
        async def scene(store: Store) -> None:
            other = await store.add_router()
            both = [store.router.numbers, other.numbers]
            ids = [await numbers.object_id() for _ in range(10) for numbers in both]
            assert len(set(ids)) == 20
            tickets = [await numbers.tickets(10) for _ in range(10) for numbers in both]
            assert len({first + n for first in tickets for n in range(10)}) == 200

        with_store(scene)

    def test_stamps_are_above_all_that_were_given_out(self) -> None:
        async def scene(store: Store) -> None:
            other = await store.add_router()
            last = 0
            for n in range(20):
                numbers = (store.router.numbers, other.numbers)[n % 2]
                first = await numbers.stamps(n + 1)
                assert first > last
                last = first + n
            now_us = store.world.clock.now_ms() * 1000
            assert abs(last - now_us) < 1_000_000, "a hybrid clock follows the clock"

        with_store(scene)


class TestSpares:
    def test_what_was_never_sent_is_used_for_another_object(self) -> None:
        async def scene(store: Store) -> None:
            numbers = store.router.numbers
            first = await numbers.tickets(100)
            numbers.give_back(first + 40, 60)
            assert await numbers.tickets(61) == first + 100, "it does not fit"
            assert await numbers.tickets(20) == first + 40
            assert await numbers.tickets(40) == first + 60
            assert await numbers.tickets(1) == first + 161

        with_store(scene)

    def test_nothing_to_give_back(self) -> None:
        async def scene(store: Store) -> None:
            numbers = store.router.numbers
            first = await numbers.tickets(1)
            numbers.give_back(0, 0)
            assert await numbers.tickets(1) == first + 1

        with_store(scene)

    def test_the_rest_of_a_lease_that_does_not_continue_is_kept(self) -> None:
        async def scene(store: Store) -> None:
            other = await store.add_router()
            mine, theirs = store.router.numbers, other.numbers
            first = await mine.tickets(TICKET_LEASE - 10)
            await theirs.tickets(1)
            jump = await mine.tickets(20)
            assert jump >= first + TICKET_LEASE
            assert await mine.tickets(10) == first + TICKET_LEASE - 10

        with_store(scene)


class TestCeilings:
    def test_no_number_is_used_before_every_living_putter_keeps_a_higher_ceiling(self) -> None:
        async def scene(store: Store) -> None:
            numbers = store.router.numbers
            for n in range(40):
                end = await numbers.tickets(TICKET_LEASE) + TICKET_LEASE
                object_id = parse_id(await numbers.object_id())
                stamp = await numbers.stamp()
                for kept in ceilings(store):
                    assert kept.tickets >= end
                    assert kept.objects > object_id
                    assert kept.stamps > stamp
                await asyncio.sleep(5 if n % 10 == 0 else 0)

        with_store(scene, 3)

    def test_one_that_does_not_answer_is_done_without(self) -> None:
        async def scene(store: Store) -> None:
            raising = store.putters[1].engine.raise_ceilings

            def broken(wanted: Ceilings) -> Ceilings:
                if wanted != Ceilings():
                    raise StorageError("the disk is gone")
                return raising(wanted)

            store.putters[1].engine.raise_ceilings = broken  # type: ignore[method-assign]
            end = await store.router.numbers.tickets(5) + 5
            assert ceilings(store)[0].tickets >= end

        with_store(scene)

    def test_without_any_there_is_no_number(self) -> None:
        async def scene(store: Store) -> None:
            for putter in store.putters:
                await putter.crash()
            await until(lambda: not store.router.fleet.up())
            with pytest.raises(NodesUnavailable):
                await store.router.numbers.tickets(1)
            await store.putters[0].start()
            assert await store.router.numbers.tickets(1) == 0

        with_store(scene, write_timeout_ms=3_000)

    def test_without_redis_only_what_is_leased_already(self) -> None:
        async def scene(store: Store) -> None:
            numbers = store.router.numbers
            await numbers.tickets(1)
            store.meta.down = True
            await numbers.tickets(10)
            with pytest.raises(MetadataUnavailable):
                await numbers.stamp()
            with pytest.raises(MetadataUnavailable):
                await numbers.tickets(2 * TICKET_LEASE)

        with_store(scene)


class TestARedisThatForgot:
    @pytest.mark.parametrize("what", ["everything", "everything in the same run", "some"])
    def test_counters_go_on_above_what_any_putter_reports(self, what: str) -> None:
        async def scene(store: Store) -> None:
            numbers = store.router.numbers
            snapshot = store.meta.snapshot()
            ids, firsts, stamps = set(), set(), set()
            for _ in range(3):
                ids.add(parse_id(await numbers.object_id()))
                firsts.add(await numbers.tickets(100))
                stamps.add(await numbers.stamp())
            if what == "everything":
                store.meta.wipe("run-2")
            elif what == "some":
                store.meta.restore(snapshot, "run-2")
            else:
                store.meta.wipe()
            other = await store.add_router()
            for fresh in (other.numbers, numbers):
                assert parse_id(await fresh.object_id()) not in ids
                assert await fresh.stamp() > max(stamps)
            first = await other.numbers.tickets(100)
            assert first > max(firsts) + 99

        with_store(scene)

    def test_one_old_putter_is_enough_to_remember(self) -> None:
        async def scene(store: Store) -> None:
            end = await store.router.numbers.tickets(1000) + 1000
            store.meta.wipe("run-2")
            store.putters[0].engine._ceilings = Ceilings()
            other = await store.add_router()
            assert await other.numbers.tickets(1) >= end

        with_store(scene)

    def test_a_restart_that_lost_nothing_costs_nobody_a_number_twice(self) -> None:
        async def scene(store: Store) -> None:
            numbers = store.router.numbers
            seen: set[int] = set()
            for run in range(2, 8):
                for _ in range(3):
                    stamp = await numbers.stamp()
                    assert stamp not in seen
                    seen.add(stamp)
                store.meta.restart(f"run-{run}")

        with_store(scene)


class TestTheEnd:
    def test_near_it_there_is_a_warning_and_behind_it_a_refusal(self) -> None:
        async def scene(store: Store) -> None:
            numbers = store.router.numbers
            with structlog.testing.capture_logs() as early:
                await numbers.tickets(1)
            assert not [line for line in early if "running out" in line["event"]]
            state = store.meta._state
            state.next = Ceilings(
                tickets=TICKETS_MAX - TICKET_LEASE - 10,
                objects=state.next.objects,
                stamps=state.next.stamps,
            )
            with structlog.testing.capture_logs() as late:
                await numbers.tickets(TICKET_LEASE)
            assert [line for line in late if line["event"] == "tickets are running out"]
            with pytest.raises(TicketsExhausted) as caught:
                await numbers.tickets(TICKET_LEASE)
            assert caught.value.hint
            assert caught.value.http == 507
            with pytest.raises(TicketsExhausted):
                await numbers.tickets(TICKET_LEASE)
            assert await numbers.object_id(), "ObjectIDs may grow longer"

        with_store(scene)
