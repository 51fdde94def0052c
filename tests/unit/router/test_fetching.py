"""Reads that have several replicas verified: what they serve, what they say, whom they name."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import IntegrityError, NodesUnavailable, NotFound
from common.limits import MIB
from common.records import Version
from common.wire import frames
from putter.storage.engine import Run
from router.agreement import LATE_S
from router.quorum import Policy
from tests.node_kit import KEY, play, until
from tests.router_kit import FRAME, Store, metric, payload, tickets_of
from tests.simulation.loop import World

Scene = Callable[[Store, Version, bytes], Awaitable[None]]
SIZE = 60_000


def with_file(
    scene: Scene, policy: Policy, size: int = SIZE, putters: int | None = None, **options: Any
) -> None:
    """A store with such a policy and a file in it."""

    async def main(world: World) -> None:
        store = await Store(world, putters or policy.replicas, policy=policy, **options).start()
        data = payload(size)
        written = await store.write(data)
        await until(lambda: all(p.tickets for p in store.putters[: policy.replicas]))
        for putter in store.putters:
            putter.engine.log.clear()
        await scene(store, written.version, data)
        await store.stop()

    play(main)


async def told(store: Store, version: Version, start: int = 0, end: int | None = None) -> str:
    """What the head of an answer would say."""
    end = version.size if end is None else end
    runs = store.router.reads.runs(version, start, end)
    first = await anext(runs)
    said = store.router.reads.looked_at(version, start, end, first)
    await runs.aclose()
    return said.get("X-Replicas-Verified", "")


def short_reads(store: Store) -> float:
    return metric(store.router.metrics, "putter_degraded_reads_total")


def put_other_bytes(store: Store, putter: int, version: Version, ticket: int) -> None:
    """Bytes that nobody wrote, with a checksum that fits them."""
    rows = memoryview(bytearray(frames.wire_bytes(FRAME, FRAME)))
    frames.build(rows, memoryview(bytes(FRAME)), ticket, FRAME, KEY.checksum)
    engine = store.putters[putter].engine
    engine.free([(ticket, 1)])
    [stored] = version.objects
    assert not engine.put(Run(ticket, rows, FRAME, stored.object_id, KEY.key_id)).any()


class TestQuorum:
    def test_of_two_replicas_both_are_verified_and_one_sends(self) -> None:
        async def scene(store: Store, version: Version, data: bytes) -> None:
            assert await store.read() == data
            assert all("read" in putter.engine.log for putter in store.putters)
            assert await told(store, version) == "2/2"
            assert short_reads(store) == 0
            sent = [p.node.metrics for p in store.putters if p.node is not None]
            assert all(metric(each, "putter_read_bytes_total") > SIZE for each in sent)

        with_file(scene, Policy(2, 2, read_quorum=2))

    def test_one_is_enough_by_default(self) -> None:
        async def scene(store: Store, version: Version, data: bytes) -> None:
            assert await store.read() == data
            assert sum("read" in putter.engine.log for putter in store.putters) == 1
            assert await told(store, version) == ""

        with_file(scene, Policy(2, 2))

    @pytest.mark.parametrize(
        ("start", "end"), [(0, 1), (FRAME - 1, FRAME + 1), (5_000, 40_000), (SIZE - 1, SIZE)]
    )
    def test_a_range(self, start: int, end: int) -> None:
        async def scene(store: Store, version: Version, data: bytes) -> None:
            assert await store.read(start=start, end=end) == data[start:end]
            assert await told(store, version, start, end) == "2/2"
            far = tickets_of(version)[(end - 1) // FRAME + 1 :]
            for putter in store.putters:
                putter.engine.free([(ticket, 1) for ticket in far])
            assert await store.read(start=start, end=end) == data[start:end]

        with_file(scene, Policy(2, 2, read_quorum=2))

    def test_a_long_file(self) -> None:
        async def scene(store: Store, version: Version, data: bytes) -> None:
            assert await store.read() == data
            assert await told(store, version) == "2/2"

        with_file(scene, Policy(2, 2, read_quorum=2), 9 * MIB)


class TestBadReplicas:
    @pytest.mark.parametrize("victim", [0, 1])
    @pytest.mark.parametrize("harm", ["rot", "loss"])
    @pytest.mark.parametrize("consistency", ["available", "strict"])
    def test_one_is_passed_over_and_healed(self, victim: int, harm: str, consistency: Any) -> None:
        async def scene(store: Store, version: Version, data: bytes) -> None:
            for ticket in tickets_of(version)[3:30:7]:
                if harm == "rot":
                    store.putters[victim].rot(ticket)
                else:
                    store.putters[victim].engine.free([(ticket, 1)])
            assert await store.read() == data
            assert await told(store, version) == "1/2"
            assert short_reads(store) > 0
            assert await store.router.healer.round() == 1
            assert await told(store, version) == "2/2"

        with_file(scene, Policy(2, 2, consistency, read_quorum=2))

    def test_a_third_one_takes_its_place(self) -> None:
        async def scene(store: Store, version: Version, data: bytes) -> None:
            for ticket in tickets_of(version)[:5]:
                store.putters[0].rot(ticket)
            assert await store.read() == data
            assert await told(store, version) == "2/2"
            assert short_reads(store) == 0

        with_file(scene, Policy(3, 3, read_quorum=2))

    @pytest.mark.parametrize("harm", ["rot", "loss"])
    def test_what_each_of_them_lacks_may_be_at_the_other(self, harm: str) -> None:
        async def scene(store: Store, version: Version, data: bytes) -> None:
            for n, ticket in enumerate(tickets_of(version)):
                if n % 3 < 2:
                    victim = store.putters[n % 3]
                    if harm == "rot":
                        victim.rot(ticket)
                    else:
                        victim.engine.free([(ticket, 1)])
            assert await store.read() == data
            assert await store.read(start=FRAME + 5, end=40_000) == data[FRAME + 5 : 40_000]
            assert await told(store, version) == "1/2"

        with_file(scene, Policy(2, 2, read_quorum=2))

    def test_bytes_that_are_wrong_everywhere_are_never_served(self) -> None:
        async def scene(store: Store, version: Version, data: bytes) -> None:
            ticket = tickets_of(version)[20]
            for putter in store.putters:
                putter.rot(ticket)
            with pytest.raises(IntegrityError):
                await store.read()
            assert await store.read(start=0, end=20 * FRAME) == data[: 20 * FRAME]

        with_file(scene, Policy(2, 2, read_quorum=2))

    def test_bytes_that_are_gone_everywhere(self) -> None:
        async def scene(store: Store, version: Version, data: bytes) -> None:
            for putter in store.putters:
                putter.engine.free([(tickets_of(version)[-1], 1)])
            with pytest.raises(NotFound):
                await store.read()

        with_file(scene, Policy(2, 2, read_quorum=2))

    def test_two_that_are_right_and_not_the_same(self) -> None:
        """With one replica nobody could tell; with two nobody knows which, and nobody guesses."""

        async def scene(store: Store, version: Version, data: bytes) -> None:
            put_other_bytes(store, 0, version, tickets_of(version)[4])
            with pytest.raises(IntegrityError, match="hold different bytes"):
                await store.read(start=4 * FRAME, end=5 * FRAME)
            assert await store.read(start=5 * FRAME, end=9 * FRAME) == data[5 * FRAME : 9 * FRAME]

        with_file(scene, Policy(2, 2, read_quorum=2))


class TestAbsentReplicas:
    def test_while_one_is_away_the_answer_says_so(self) -> None:
        async def scene(store: Store, version: Version, data: bytes) -> None:
            await store.putters[0].crash()
            await until(lambda: len(store.router.fleet.up()) == 1)
            assert await store.read() == data
            assert await told(store, version) == "1/2"
            assert short_reads(store) > 0

        with_file(scene, Policy(2, 2, read_quorum=2))

    def test_strict_refuses(self) -> None:
        async def scene(store: Store, version: Version, data: bytes) -> None:
            await store.putters[0].crash()
            await until(lambda: len(store.router.fleet.up()) == 1)
            with pytest.raises(NodesUnavailable, match="only 1 of the 2 replicas") as caught:
                await store.read()
            assert caught.value.http == 503
            await store.putters[0].start()
            await until(lambda: len(store.router.fleet.up()) == 2, 30)
            assert await store.read() == data

        with_file(scene, Policy(2, 1, "strict", read_quorum=2))

    @pytest.mark.parametrize("silent", [0, 1])
    def test_one_that_says_nothing_is_waited_for_once(self, silent: int) -> None:
        async def scene(store: Store, version: Version, data: bytes) -> None:
            store.network.partition("r0", f"p{silent}")
            loop = store.world.loop
            began = loop.time()
            assert await store.read() == data
            assert LATE_S <= loop.time() - began < 2 * LATE_S + 1
            began = loop.time()
            assert await store.read() == data
            assert await told(store, version) == "1/2"
            assert loop.time() - began < 1
            store.network.heal()
            await asyncio.sleep(20)
            await until(lambda: len(store.router.fleet.up()) == 2, 30)
            assert await told(store, version) == "2/2"

        with_file(scene, Policy(2, 2, read_quorum=2))

    def test_a_third_one_is_asked_in_place_of_one_that_says_nothing(self) -> None:
        async def scene(store: Store, version: Version, data: bytes) -> None:
            for silent in ("p0", "p1", "p2"):
                store.network.partition("r0", silent)
                began = store.world.loop.time()
                assert await told(store, version) == "2/2"
                assert store.world.loop.time() - began < 2 * LATE_S + 1
                store.network.heal()
                await asyncio.sleep(20)
                await until(lambda: len(store.router.fleet.up()) == 3, 30)

        with_file(scene, Policy(3, 3, read_quorum=2))

    def test_with_one_replica_a_silent_one_is_asked_last_for_a_while(self) -> None:
        async def scene(store: Store, version: Version, data: bytes) -> None:
            store.network.partition("r0", "p0")
            assert await store.read() == data
            began = store.world.loop.time()
            assert await store.read() == data
            assert store.world.loop.time() - began < 1
            store.network.heal()

        with_file(scene, Policy(2, 2))

    @pytest.mark.parametrize("consistency", ["available", "strict"])
    def test_one_that_leaves_in_the_middle(self, consistency: Any) -> None:
        async def scene(store: Store, version: Version, data: bytes) -> None:
            store.network.partition("r0", "p0")
            if consistency == "strict":
                with pytest.raises(NodesUnavailable, match="only 1 of the 2"):
                    await store.read()
            else:
                assert await store.read() == data
            store.network.heal()

        with_file(scene, Policy(2, 2, consistency, read_quorum=2))

    def test_all_away(self) -> None:
        async def scene(store: Store, version: Version, data: bytes) -> None:
            for putter in store.putters:
                await putter.crash()
            await until(lambda: not store.router.fleet.up())
            with pytest.raises(NodesUnavailable, match="p0, p1"):
                await store.read()

        with_file(scene, Policy(2, 2, read_quorum=2))

    def test_a_bad_one_beside_one_that_is_away_is_no_verdict(self) -> None:
        async def scene(store: Store, version: Version, data: bytes) -> None:
            store.putters[0].rot(tickets_of(version)[5])
            await store.putters[1].crash()
            await until(lambda: len(store.router.fleet.up()) == 1)
            with pytest.raises(NodesUnavailable, match="p0, p1"):
                await store.read()

        with_file(scene, Policy(2, 2, read_quorum=2))


@settings(max_examples=25, deadline=None)
@given(
    st.integers(2, 3).flatmap(
        lambda n: st.tuples(st.just(n), st.integers(2, n), st.integers(0, 2**32))
    )
)
def test_whatever_is_damaged_the_bytes_are_right_or_there_are_none(
    drawn: tuple[int, int, int],
) -> None:
    replicas, quorum, seed = drawn
    chance = random.Random(seed)

    async def scene(store: Store, version: Version, data: bytes) -> None:
        lost = 0
        for ticket in tickets_of(version):
            hurt = [putter for putter in store.putters if chance.random() < 0.3]
            lost += len(hurt) == len(store.putters)
            for putter in hurt:
                if chance.random() < 0.5:
                    putter.rot(ticket)
                else:
                    putter.engine.free([(ticket, 1)])
        if lost:
            with pytest.raises((IntegrityError, NotFound)):
                await store.read()
        else:
            assert await store.read() == data

    with_file(scene, Policy(replicas, replicas, read_quorum=quorum), 12 * FRAME)
