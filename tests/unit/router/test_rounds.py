"""Rounds go on, whatever becomes of one of them."""

from __future__ import annotations

import asyncio

from common.errors import NodesUnavailable
from common.requests import current_request
from router.rounds import Rounds
from tests.node_kit import play
from tests.simulation.loop import World


def test_a_round_that_fails_does_not_end_them() -> None:
    async def scene(_: World) -> None:
        made: list[float] = []
        loop = asyncio.get_running_loop()
        started = loop.time()

        async def work() -> None:
            made.append(round(loop.time() - started))
            if len(made) == 1:
                raise NodesUnavailable("not now")
            if len(made) == 2:
                raise ValueError("a mistake")

        rounds = Rounds(work, 10, "something")
        rounds.start()
        await asyncio.sleep(45)
        await rounds.stop()
        await asyncio.sleep(45)
        assert made == [10, 20, 30, 40]

    play(scene)


def test_each_round_has_an_id_of_its_own() -> None:
    async def scene(_: World) -> None:
        ids: list[str] = []

        async def work() -> None:
            ids.append(current_request())

        rounds = Rounds(work, 1, "something")
        rounds.start()
        await asyncio.sleep(5.5)
        await rounds.stop()
        assert len(set(ids)) == len(ids) == 5
        assert all(ids)

    play(scene)


def test_stopping_ends_a_round_in_its_middle() -> None:
    async def scene(_: World) -> None:
        ended = asyncio.Event()

        async def work() -> None:
            try:
                await asyncio.sleep(1_000)
            finally:
                ended.set()

        rounds = Rounds(work, 1, "something long")
        rounds.start()
        await asyncio.sleep(5)
        await rounds.stop()
        assert ended.is_set()

    play(scene)


def test_without_a_pause_none_is_made() -> None:
    async def scene(_: World) -> None:
        made: list[int] = []

        async def work() -> None:
            made.append(1)

        rounds = Rounds(work, 0, "nothing")
        rounds.start()
        await asyncio.sleep(100)
        await rounds.stop()
        assert not made

    play(scene)


def test_stopping_ends_a_round_that_cannot_clean_up() -> None:
    async def scene(_: World) -> None:
        made: list[int] = []

        async def work() -> None:
            made.append(1)
            try:
                await asyncio.sleep(1_000)
            finally:
                raise NodesUnavailable("Redis is away, too")

        rounds = Rounds(work, 1, "something that gives a lease back")
        rounds.start()
        await asyncio.sleep(5)
        await rounds.stop()
        assert made == [1]

    play(scene)
