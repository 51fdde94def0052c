"""Work that nobody waits for goes at its rate, and at less while somebody is served."""

from __future__ import annotations

import asyncio

from router.pace import Pace
from tests.node_kit import play
from tests.simulation.loop import World


async def took(pace: Pace, size: int, times: int) -> float:
    """Seconds for so many portions, one after the other."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    for _ in range(times):
        await pace(size)
    return loop.time() - started


def test_it_goes_at_its_rate() -> None:
    async def scene(_: World) -> None:
        seconds = await took(Pace(1_000_000, lambda: False), 10_000, 1_000)
        assert 9.5 < seconds <= 10

    play(scene)


def test_it_leaves_room_to_whoever_is_served() -> None:
    async def scene(_: World) -> None:
        seconds = await took(Pace(1_000_000, lambda: True), 10_000, 100)
        assert 7.5 < seconds <= 8, "an eighth"

    play(scene)


def test_several_share_one_rate() -> None:
    async def scene(_: World) -> None:
        pace = Pace(1_000_000, lambda: False)
        each = await asyncio.gather(*(took(pace, 10_000, 100) for _ in range(5)))
        assert 4.5 < max(each) <= 5

    play(scene)


def test_a_pause_is_not_made_up_for() -> None:
    async def scene(_: World) -> None:
        pace = Pace(1_000_000, lambda: False)
        await asyncio.sleep(100)
        assert await took(pace, 1_000_000, 3) > 2.5

    play(scene)


def test_without_a_rate_nothing_waits() -> None:
    async def scene(_: World) -> None:
        assert await took(Pace(0, lambda: True), 1 << 40, 1_000) == 0

    play(scene)
