"""Changes of one thing, one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from common.errors import WriteConflict
from common.meta.memory import MemoryMetadata
from router.turns import turn
from tests.node_kit import play
from tests.simulation.loop import World


def with_meta(scene: Callable[[MemoryMetadata], Awaitable[None]]) -> None:
    async def main(world: World) -> None:
        await scene(MemoryMetadata(world.clock))

    play(main)


def test_one_at_a_time() -> None:
    async def scene(meta: MemoryMetadata) -> None:
        inside = 0
        most = 0

        async def change(number: int) -> None:
            nonlocal inside, most
            async with turn(meta, "thing", f"me/{number}", "the thing"):
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0.3)
                inside -= 1

        await asyncio.gather(*(change(number) for number in range(5)))
        assert most == 1

    with_meta(scene)


def test_whoever_fails_lets_the_next_one() -> None:
    async def scene(meta: MemoryMetadata) -> None:
        with pytest.raises(ZeroDivisionError):
            async with turn(meta, "thing", "one", "the thing"):
                raise ZeroDivisionError
        assert await meta.leases.acquire("thing", "other", 1000)

    with_meta(scene)


def test_a_change_without_an_end_is_not_waited_for() -> None:
    async def scene(meta: MemoryMetadata) -> None:
        assert await meta.leases.acquire("thing", "other", 10**6)
        with pytest.raises(WriteConflict, match="another change of the thing is under way"):
            async with turn(meta, "thing", "me", "the thing"):
                pytest.fail("it is not our turn")
        assert not await meta.leases.acquire("thing", "me", 1000), "it is still theirs"

    with_meta(scene)


def test_a_lease_that_cannot_be_given_back_hides_no_result() -> None:
    async def scene(meta: MemoryMetadata) -> None:
        async with turn(meta, "thing", "me", "the thing"):
            meta.down = True
        meta.down = False
        assert not await meta.leases.acquire("thing", "other", 1000)

    with_meta(scene)
