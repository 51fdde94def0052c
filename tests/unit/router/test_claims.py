"""Who of several conditional writes goes on, who waits, and what they are told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from common.errors import (
    ClientGone,
    NodesUnavailable,
    NoSpace,
    PreconditionFailed,
    WriteConflict,
)
from common.limits import CLAIM_LEASE_MS, CLAIM_WAIT_MS, MIB
from common.meta.claims import Claim, ClaimOutcome
from common.meta.memory_claims import MemoryClaims
from common.records import Version
from router.blocks import ChunkSource
from router.parcels import RecordsParcel
from router.targets import Target
from tests.node_kit import play, until
from tests.router_kit import Store, in_chunks, payload
from tests.simulation.loop import World

Scene = Callable[[Store], Awaitable[None]]
SIZES = [0, 3_000, 300_000, 3 * MIB]


def with_store(scene: Scene, putters: int = 2, **options: Any) -> None:
    async def main(world: World) -> None:
        store = await Store(world, putters, **options).start()
        await store.write(b"x", "first")
        await scene(store)
        await store.stop()

    play(main)


async def claim(store: Store, holder: str = "rival", lease_ms: int = CLAIM_LEASE_MS) -> None:
    item = Claim("photos", "cat", holder, lease_ms, "")
    assert await store.meta.claims.take(item) is ClaimOutcome.CLAIMED


def claims(store: Store) -> dict[str, tuple[str, int]]:
    return store.meta._state.buckets["photos"].claims


@pytest.mark.parametrize("size", SIZES)
class TestTheWinner:
    def test_it_has_the_name_while_its_record_is_made_durable(
        self, size: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def scene(store: Store) -> None:
            held: list[int] = []
            dispatch = RecordsParcel.dispatch

            def watched(self: RecordsParcel, *rest: Any) -> None:
                held.append(len(claims(store)))
                dispatch(self, *rest)

            monkeypatch.setattr("router.parcels.Parcel.dispatch", watched)
            await store.write(payload(size), if_match="")
            assert held[-1] == 1
            assert claims(store) == {}, "the publication ended it"

        with_store(scene)

    def test_its_stamp_is_taken_while_it_has_the_name(
        self, size: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def scene(store: Store) -> None:
            order: list[str] = []
            take = MemoryClaims.take
            numbers = store.router.numbers
            stamps = numbers.stamps

            async def claimed(self: MemoryClaims, item: Claim) -> ClaimOutcome:
                order.append("claim")
                return await take(self, item)

            async def stamped(count: int) -> int:
                order.append("stamp")
                return await stamps(count)

            monkeypatch.setattr(MemoryClaims, "take", claimed)
            monkeypatch.setattr(numbers, "stamps", stamped)
            await store.write(payload(size), if_match="")
            assert order == ["claim", "stamp"]

        with_store(scene)

    def test_one_that_fails_lets_it_go(self, size: int) -> None:
        async def scene(store: Store) -> None:
            for putter in store.putters:
                putter.engine.fail["put"] = putter.engine.fail["put_record"] = NoSpace("full")
            with pytest.raises((NoSpace, NodesUnavailable)):
                await store.write(payload(size), if_match="")
            await until(lambda: not claims(store), 40)
            for putter in store.putters:
                putter.engine.fail.clear()
            await store.write(b"then", if_match="")
            assert await store.read() == b"then"

        with_store(scene)

    def test_without_a_condition_there_is_no_claim(
        self, size: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def scene(store: Store) -> None:
            await claim(store)
            monkeypatch.delattr(MemoryClaims, "take")
            began = store.world.loop.time()
            await store.write(payload(size))
            assert await store.read() == payload(size)
            assert store.world.loop.time() - began < 1, "nor does it wait for one"

        with_store(scene)


@pytest.mark.parametrize("size", SIZES)
class TestARival:
    def test_it_waits_and_learns_that_it_lost(self, size: int) -> None:
        async def scene(store: Store) -> None:
            await claim(store)
            write = asyncio.create_task(store.write(payload(size), if_match=""))
            await asyncio.sleep(1)
            assert not write.done()
            await store.write(b"the rival's")
            with pytest.raises(PreconditionFailed):
                await write
            versions = [r for r in store.putters[0].records if isinstance(r, Version)]
            assert len(versions) == 2, "none of the loser"

        with_store(scene)

    def test_it_comes_next_if_the_first_one_fails(self, size: int) -> None:
        async def scene(store: Store) -> None:
            await claim(store)
            write = asyncio.create_task(store.write(payload(size), if_match=""))
            await asyncio.sleep(1)
            await store.meta.claims.drop("photos", "cat", "rival")
            await write
            assert await store.read() == payload(size)

        with_store(scene)

    def test_the_claim_of_a_router_that_died_ends(self, size: int) -> None:
        async def scene(store: Store) -> None:
            await claim(store)
            began = store.world.loop.time()
            await store.write(payload(size), if_match="")
            waited = store.world.loop.time() - began
            assert CLAIM_LEASE_MS / 1000 - 1 < waited < CLAIM_WAIT_MS / 1000
            assert await store.read() == payload(size)

        with_store(scene)

    def test_it_is_not_told_what_nobody_knows(self, size: int) -> None:
        async def scene(store: Store) -> None:
            await claim(store, lease_ms=60_000)
            began = store.world.loop.time()
            with pytest.raises(WriteConflict) as caught:
                await store.write(payload(size), if_match="")
            assert caught.value.http == 409
            assert store.world.loop.time() - began <= CLAIM_WAIT_MS / 1000 + 0.2
            assert claims(store)["cat"][0] == "rival", "it is still theirs"
            assert store.router.writes.pending_bytes == 0
            assert store.router.writes.writing == 0
            await store.clean()
            assert [len(p.tickets) for p in store.putters] == [1, 1]
            assert [len(p.records) for p in store.putters] == [1, 1]

        with_store(scene)


def test_a_stream_that_breaks_off_never_claims() -> None:
    async def scene(store: Store) -> None:
        path = store.router.writes
        source = ChunkSource(in_chunks(payload(3 * MIB), error=ClientGone("reset")), path.filler())
        with pytest.raises(ClientGone):
            await path.write(source, Target("photos", "cat", if_match=""))
        source.close()
        assert claims(store) == {}

    with_store(scene)


def test_a_cancelled_write_lets_its_claim_go() -> None:
    async def scene(store: Store) -> None:
        for n in range(40):
            size = (0, 3_000, 300_000)[n % 3]
            task = asyncio.create_task(store.write(payload(size, n), f"f{n}", if_match=""))
            await asyncio.sleep(n * 0.000_02)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await until(lambda: not claims(store), 30)
        await until(lambda: store.router.writes.writing == 0)
        assert store.router.writes.pending_bytes == 0

    with_store(scene)


def test_a_group_that_is_given_up_keeps_the_claims_of_its_objects() -> None:
    async def scene(store: Store) -> None:
        store.putters[0].engine.fail["put"] = NoSpace("full")
        await asyncio.gather(
            *(store.write(payload(60, n), f"s{n}", if_match="") for n in range(20))
        )
        for n in range(20):
            assert await store.read(f"s{n}") == payload(60, n)
        assert claims(store) == {}

    with_store(scene, 3)
