"""A write buffer that stays full."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from common.stalls import StallWatch
from tests.node_kit import play
from tests.simulation.loop import World


class Wire:
    """A transport of which only the buffer counts."""

    def __init__(self) -> None:
        self.left = 100_000

    def get_write_buffer_size(self) -> int:
        return self.left


@pytest.mark.parametrize(
    ("rate", "stalls"), [(0, True), (1, False), (100, False)], ids=["still", "slow", "fast"]
)
def test_a_buffer_that_moves_is_left_alone(rate: int, stalls: bool) -> None:
    async def main(world: World) -> None:
        wire = Wire()
        called: list[float] = []
        loop = asyncio.get_running_loop()
        began = loop.time()
        watch = StallWatch(
            cast("asyncio.Transport", wire), 10_000, lambda: called.append(loop.time() - began)
        )
        for _ in range(200):
            await asyncio.sleep(0.5)
            wire.left -= rate
        watch.stop()
        assert bool(called) is stalls
        assert all(10 <= at <= 12.5 for at in called)
        assert len(called) <= 1

    play(main, 1)


def test_it_may_stand_still_for_less() -> None:
    async def main(world: World) -> None:
        wire = Wire()
        called: list[bool] = []
        watch = StallWatch(cast("asyncio.Transport", wire), 10_000, lambda: called.append(True))
        for _ in range(10):
            await asyncio.sleep(9)
            wire.left -= 1
        assert not called
        watch.stop()
        await asyncio.sleep(60)
        assert not called

    play(main, 1)
