"""Calls that travel together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from common.batching import Again, Gatherer
from common.errors import NotFound, ShuttingDown


class Wire:
    """A `send` that can be stopped, and remembers its batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.open = asyncio.Event()
        self.under_way = 0
        self.under_way_max = 0

    async def __call__(self, items: Sequence[int]) -> list[int | Exception | Again]:
        self.batches.append(list(items))
        self.under_way += 1
        self.under_way_max = max(self.under_way, self.under_way_max)
        try:
            await self.open.wait()
        finally:
            self.under_way -= 1
        return [ValueError(item) if item < 0 else item * 10 for item in items]


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_lone_call_leaves_at_once() -> None:
    wire = Wire()
    wire.open.set()
    gatherer: Gatherer[int, int] = Gatherer(wire)
    assert await gatherer(4) == 40
    assert wire.batches == [[4]]


async def test_one_turn_of_the_loop_is_one_batch() -> None:
    wire = Wire()
    wire.open.set()
    gatherer: Gatherer[int, int] = Gatherer(wire)
    assert await asyncio.gather(*(gatherer(n) for n in range(9))) == [n * 10 for n in range(9)]
    assert wire.batches == [list(range(9))]


async def test_what_arrives_meanwhile_is_the_next_batch() -> None:
    wire = Wire()
    gatherer: Gatherer[int, int] = Gatherer(wire, in_flight_max=2)
    calls = []
    for n in range(6):
        calls.append(asyncio.create_task(gatherer(n)))
        await settle()
    assert wire.batches == [[0], [1]]
    assert gatherer.waiting == 4
    wire.open.set()
    assert await asyncio.gather(*calls) == [n * 10 for n in range(6)]
    assert wire.batches == [[0], [1], [2, 3, 4, 5]]
    assert wire.under_way_max == 2


async def test_batches_are_bounded() -> None:
    wire = Wire()
    wire.open.set()
    gatherer: Gatherer[int, int] = Gatherer(wire, in_flight_max=2, batch_max=4)
    assert await asyncio.gather(*(gatherer(n) for n in range(10))) == [n * 10 for n in range(10)]
    assert [len(batch) for batch in wire.batches] == [4, 4, 2]
    assert [item for batch in wire.batches for item in batch] == list(range(10))


async def test_an_exception_reaches_its_own_caller_only() -> None:
    wire = Wire()
    wire.open.set()
    gatherer: Gatherer[int, int] = Gatherer(wire)
    good, bad, fine = await asyncio.gather(
        gatherer(1), gatherer(-2), gatherer(3), return_exceptions=True
    )
    assert (good, fine) == (10, 30)
    assert isinstance(bad, ValueError)


async def test_when_send_fails_every_caller_gets_an_exception_of_its_own() -> None:
    broken = NotFound("no such thing", hint="look elsewhere")

    async def send(items: Sequence[int]) -> list[int]:
        raise broken

    gatherer: Gatherer[int, int] = Gatherer(send)
    errors = await asyncio.gather(*(gatherer(n) for n in range(3)), return_exceptions=True)
    assert len({id(error) for error in errors}) == 3
    for error in errors:
        assert isinstance(error, NotFound)
        assert (error.message, error.hint) == ("no such thing", "look elsewhere")
        assert error.__cause__ is broken


async def test_an_exception_that_cannot_be_copied_is_shared() -> None:
    class PeculiarError(Exception):
        def __init__(self, one: int, two: int) -> None:
            super().__init__(f"{one} and {two}")

    async def send(items: Sequence[int]) -> list[int]:
        raise PeculiarError(1, 2)

    gatherer: Gatherer[int, int] = Gatherer(send)
    errors = await asyncio.gather(gatherer(1), gatherer(2), return_exceptions=True)
    assert [str(error) for error in errors] == ["1 and 2"] * 2


async def test_answers_that_do_not_fit_the_items_are_a_mistake() -> None:
    async def send(items: Sequence[int]) -> list[int]:
        return [1]

    gatherer: Gatherer[int, int] = Gatherer(send)
    errors = await asyncio.gather(gatherer(1), gatherer(2), return_exceptions=True)
    assert all(isinstance(error, RuntimeError) for error in errors)


async def test_again_travels_at_the_head_of_the_next_batch() -> None:
    batches: list[list[int]] = []
    open_again = asyncio.Event()

    async def send(items: Sequence[int]) -> list[int | Again]:
        batches.append(list(items))
        if len(batches) == 1:
            await open_again.wait()
            return [Again(), 20, Again()]
        return [item * 10 for item in items]

    gatherer: Gatherer[int, int] = Gatherer(send, in_flight_max=1)
    early = [asyncio.create_task(gatherer(n)) for n in (1, 2, 3)]
    await settle()
    late = asyncio.create_task(gatherer(4))
    await settle()
    open_again.set()
    assert await asyncio.gather(*early, late) == [10, 20, 30, 40]
    assert batches == [[1, 2, 3], [1, 3, 4]]


async def test_others_travel_while_one_rests() -> None:
    batches: list[list[int]] = []

    async def send(items: Sequence[int]) -> list[int | Again]:
        batches.append(list(items))
        return [Again(20) if item < 0 and len(batches) == 1 else item * 10 for item in items]

    gatherer: Gatherer[int, int] = Gatherer(send, in_flight_max=1)
    resting = asyncio.create_task(gatherer(-1))
    await settle()
    assert gatherer.waiting == 1
    assert await gatherer(2) == 20
    assert not resting.done()
    assert await resting == -10
    assert batches == [[-1], [2], [-1]]
    assert gatherer.waiting == 0


async def test_closing_ends_calls_that_rest() -> None:
    async def send(items: Sequence[int]) -> list[int | Again]:
        return [Again(1) for _ in items]

    gatherer: Gatherer[int, int] = Gatherer(send)
    call = asyncio.create_task(gatherer(1))
    await settle()
    await gatherer.close()
    with pytest.raises(ShuttingDown):
        await call
    await asyncio.sleep(0.005)
    assert gatherer.waiting == 0


async def test_a_cancelled_caller_harms_nobody() -> None:
    wire = Wire()
    gatherer: Gatherer[int, int] = Gatherer(wire, in_flight_max=1)
    sent = [asyncio.create_task(gatherer(n)) for n in (1, 2)]
    await settle()
    waiting = [asyncio.create_task(gatherer(n)) for n in (3, 4)]
    await settle()
    sent[0].cancel()
    waiting[0].cancel()
    await settle()
    wire.open.set()
    assert await sent[1] == 20
    assert await waiting[1] == 40
    assert wire.batches == [[1, 2], [4]]
    assert sent[0].cancelled()
    assert waiting[0].cancelled()


async def test_a_batch_of_cancelled_callers_is_not_sent() -> None:
    wire = Wire()
    gatherer: Gatherer[int, int] = Gatherer(wire, in_flight_max=1)
    first = asyncio.create_task(gatherer(1))
    await settle()
    second = asyncio.create_task(gatherer(2))
    await settle()
    second.cancel()
    wire.open.set()
    assert await first == 10
    await settle()
    assert await gatherer(3) == 30
    assert wire.batches == [[1], [3]]


async def test_closing_ends_every_call() -> None:
    wire = Wire()
    gatherer: Gatherer[int, int] = Gatherer(wire, in_flight_max=1)
    calls = [asyncio.create_task(gatherer(1))]
    await settle()
    calls.append(asyncio.create_task(gatherer(2)))
    await settle()
    await gatherer.close()
    errors = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(error, ShuttingDown) for error in errors)
    with pytest.raises(ShuttingDown):
        await gatherer(3)
    assert wire.batches == [[1]]
    await gatherer.close()


@pytest.mark.parametrize("bounds", [{"in_flight_max": 0}, {"batch_max": 0}])
async def test_a_gatherer_without_room_is_a_mistake(bounds: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="room"):
        Gatherer(Wire(), **bounds)


async def test_what_has_waited_for_too_long_fails_wherever_it_is() -> None:
    wire = Wire()

    async def send(items: Sequence[int]) -> list[int | Exception | Again]:
        return [Again(60_000)] if items[0] == 5 else await wire(items)

    gatherer: Gatherer[int, int] = Gatherer(send, in_flight_max=1)
    calls = [asyncio.create_task(gatherer(5))]
    await settle()
    calls += [asyncio.create_task(gatherer(n)) for n in (1, 2)]
    await settle()
    calls += [asyncio.create_task(gatherer(n)) for n in (3, 4)]
    await settle()
    assert gatherer.expire(lambda item: NotFound(f"{item}") if item in {2, 3, 5} else None)
    results = [calls[n] for n in (0, 2, 3)]
    assert [str(each) for each in await asyncio.gather(*results, return_exceptions=True)] == [
        *("5", "2", "3")
    ]
    wire.open.set()
    assert [await calls[1], await calls[4]] == [10, 40]
    assert wire.batches == [[1, 2], [4]], "what is over is not sent"
    await settle()
    assert not gatherer.expire(lambda item: NotFound(f"{item}"))
    await gatherer.close()
