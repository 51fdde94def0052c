"""The virtual loop: time that is computed, order that repeats, dead ends that are reported."""

from __future__ import annotations

import asyncio
import random
import time

import pytest

from tests.simulation.loop import START_MS, Deadlock, TimeIsUp, World, run


def test_a_virtual_hour_takes_no_time() -> None:
    async def main(world: World) -> tuple[int, int, float]:
        await asyncio.sleep(3600)
        return world.clock.now_ms(), world.clock.monotonic_ms(), world.loop.time()

    began = time.monotonic()
    now_ms, monotonic_ms, loop_s = run(main, seed=1)
    assert time.monotonic() - began < 5
    assert (now_ms - START_MS, monotonic_ms, loop_s) == (3_600_000, 3_600_000, 3600.0)


def test_timers_fire_in_the_order_of_their_times() -> None:
    async def main(world: World) -> list[tuple[float, str]]:
        seen: list[tuple[float, str]] = []

        async def at(seconds: float, name: str) -> None:
            await asyncio.sleep(seconds)
            seen.append((round(world.loop.time(), 6), name))

        await asyncio.gather(at(0.3, "c"), at(0.1, "a"), at(0.2, "b"))
        return seen

    assert run(main, seed=1) == [(0.1, "a"), (0.2, "b"), (0.3, "c")]


def test_time_limits_of_asyncio_hold_in_virtual_time() -> None:
    async def main(world: World) -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(60):
                await asyncio.Event().wait()
        return world.loop.time()

    assert run(main, seed=1) == 60.0


def test_a_deadlock_is_reported_with_the_waiting_tasks() -> None:
    async def stuck() -> None:
        await asyncio.Event().wait()

    async def main(world: World) -> None:
        await asyncio.create_task(stuck(), name="the stuck one")

    with pytest.raises(Deadlock, match=r"the stuck one .*\n?.*test_loop\.py:\d+"):
        run(main, seed=1)


def test_what_repeats_forever_meets_the_limit() -> None:
    async def main(world: World) -> None:
        while True:
            await asyncio.sleep(1)

    with pytest.raises(TimeIsUp, match="10 virtual seconds are over"):
        run(main, seed=1, limit_s=10)


def test_an_executor_runs_inline_and_answers_in_a_later_turn() -> None:
    async def main(world: World) -> list[str]:
        seen: list[str] = []
        future = world.loop.run_in_executor(None, seen.append, "ran")
        seen.append("called")
        await future
        seen.append("awaited")
        assert await asyncio.to_thread(lambda: 7) == 7
        return seen

    assert run(main, seed=1) == ["ran", "called", "awaited"]


def test_an_error_in_an_executor_reaches_the_caller() -> None:
    async def main(world: World) -> None:
        with pytest.raises(ZeroDivisionError):
            await world.loop.run_in_executor(None, lambda: 1 // 0)

    run(main, seed=1)


def test_tasks_left_over_are_cancelled_in_the_order_of_their_birth() -> None:
    seen: list[int] = []

    async def wait(number: int) -> None:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            seen.append(number)
            raise

    async def main(world: World) -> None:
        kept.extend(asyncio.create_task(wait(number)) for number in range(20))
        await asyncio.sleep(0)

    kept: list[asyncio.Task[None]] = []
    run(main, seed=1)
    assert seen == list(range(20))
    assert all(task.cancelled() for task in kept)


def test_an_error_that_nobody_awaits_fails_the_run() -> None:
    async def main(world: World) -> None:
        world.loop.call_soon(lambda: 1 // 0)
        await asyncio.sleep(1)

    with pytest.raises(ExceptionGroup) as caught:
        run(main, seed=1)
    assert caught.group_contains(ZeroDivisionError)


def test_the_sets_of_a_task_group_are_walked_alike_every_time() -> None:
    def trace(seed: int) -> list[str]:
        seen: list[str] = []

        async def wait(name: str) -> None:
            try:
                await asyncio.sleep(100)
            finally:
                seen.append(name)

        async def main(world: World) -> None:
            try:
                async with asyncio.TaskGroup() as group:
                    for number in range(50):
                        group.create_task(wait(str(number)))
                    await asyncio.sleep(world.random.random())
                    raise LookupError  # noqa: TRY301
            except* LookupError:
                done = {asyncio.create_task(wait(f"again {number}")) for number in range(9)}
                for task in done:
                    seen.append(task.get_name())
                    task.cancel()

        run(main, seed)
        return seen

    assert trace(3) == trace(3)


def test_chance_comes_from_the_seed_and_the_module_random_is_given_back() -> None:
    async def main(world: World) -> tuple[float, float]:
        return world.random.random(), random.random()

    before = random.getstate()
    first, again, other = run(main, seed=5), run(main, seed=5), run(main, seed=6)
    assert first == again != other
    assert random.getstate() == before
