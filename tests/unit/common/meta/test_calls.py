"""Calls to Redis: gathered, and tried again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from common.clock import ManualClock
from common.errors import MetadataUnavailable, ShuttingDown
from common.meta.calls import RETRY_DELAY_MS_MAX, Args, BucketVerb, Calls, retry_delay_ms
from common.meta.link import Command, Trouble

AWAY = Trouble("Connection refused", passing=True)
FORBIDDEN = Trouble("NOPERM this user has no permissions", passing=False)
PATIENCE_MS = 30_000


class FakeLink:
    """A link whose answers are made up."""

    address = "here:6379"

    def __init__(self, answer: Callable[[Command], Any]) -> None:
        self.trips: list[list[Command]] = []
        self.closed = False
        self._answer = answer

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        self.trips.append(list(commands))
        await asyncio.sleep(0)
        return [self._answer(command) for command in commands]

    async def close(self) -> None:
        self.closed = True


class Sum:
    """A verb that adds up the numbers of its calls."""

    registers = False
    absent = None

    def command(self, group: str, calls: Sequence[Args]) -> Command:
        return Command((group, *(number for (number,) in calls)))

    def results(self, reply: Any, calls: Sequence[Args]) -> list[str]:
        return [f"{number} of {reply}" for (number,) in calls]


def add_up(command: Command) -> str:
    return f"{command.args[0]!s} {sum(int(each) for each in command.args[1:])}"


@pytest.fixture
def no_delay(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Try again without a pause; after how many tries that was asked for."""
    asked: list[int] = []

    def delay_ms(tries: int) -> int:
        asked.append(tries)
        return 0

    monkeypatch.setattr("common.meta.calls.retry_delay_ms", delay_ms)
    return asked


def test_pauses_grow_up_to_a_bound() -> None:
    delays = [retry_delay_ms(tries) for tries in range(1, 100)]
    assert delays[:4] == [10, 20, 40, 80]
    assert delays == sorted(delays)
    assert delays[-1] == RETRY_DELAY_MS_MAX


async def test_calls_of_one_verb_and_group_are_one_command() -> None:
    link = FakeLink(add_up)
    calls = Calls(link, ManualClock(), PATIENCE_MS)
    verb = Sum()
    results = await asyncio.gather(
        calls.gather(verb, "a", (1,)),
        calls.gather(verb, "b", (2,)),
        calls.run(Command(("PING",))),
        calls.gather(verb, "a", (3,)),
        calls.run(Command(("PING",))),
        calls.gather(Sum(), "a", (4,)),
    )
    assert results == ["1 of a 4", "2 of b 2", "PING 0", "3 of a 4", "PING 0", "4 of a 4"]
    assert [[command.args for command in trip] for trip in link.trips] == [
        [("a", 1, 3), ("b", 2), ("PING",), ("PING",), ("a", 4)]
    ]


UNSERVED = Trouble("UNSERVED abc123 -", passing=False)


def half_served(served: set[str]) -> Callable[[Command], Any]:
    """A server that serves some buckets only."""

    def answer(command: Command) -> Any:
        bucket = str(command.args[1]).partition("{b:")[2].partition("}")[0]
        return b"1" * 9 if bucket in served else UNSERVED

    return answer


async def test_a_bucket_that_is_not_served_is_admitted_once(no_delay: list[int]) -> None:
    served: set[str] = set()
    link = FakeLink(half_served(served))
    calls = Calls(link, ManualClock(), PATIENCE_MS)
    asked: list[tuple[str, str, str, bool]] = []

    async def admit(bucket: str, run: str, marked: str, registers: bool) -> bool:
        asked.append((bucket, run, marked, registers))
        await asyncio.sleep(0)
        served.add(bucket)
        return True

    calls.admit_with(admit)
    begin = BucketVerb("begin", registers=True, translate=lambda answer, _: chr(answer))
    link._answer = lambda c: b"1" * 2 if "photos" in served else UNSERVED
    told = await asyncio.gather(
        calls.gather(begin, "photos", ("A",)), calls.gather(begin, "photos", ("B",))
    )
    assert told == ["1", "1"]
    assert asked == [("photos", "abc123", "-", True)]


async def test_a_bucket_that_nobody_used_is_empty(no_delay: list[int]) -> None:
    calls = Calls(FakeLink(lambda _: UNSERVED), ManualClock(), PATIENCE_MS)

    async def admit(bucket: str, run: str, marked: str, registers: bool) -> bool:
        assert not registers
        return False

    calls.admit_with(admit)
    assert await calls.gather(BucketVerb("fail"), "photos", ("A",)) == ord("0")
    command = Command((10, b"putter:{b:photos}:files"))
    assert await calls.run(command, absent=[]) == []


async def test_while_redis_is_not_complete_calls_wait_or_are_refused(no_delay: list[int]) -> None:
    clock = ManualClock()

    def answer(_: Command) -> Trouble:
        clock.advance(1_000)
        return UNSERVED

    calls = Calls(FakeLink(answer), clock, PATIENCE_MS)

    async def admit(bucket: str, run: str, marked: str, registers: bool) -> bool:
        return True

    calls.admit_with(admit)
    with pytest.raises(MetadataUnavailable, match="brought up to date"):
        await calls.gather(BucketVerb("begin", registers=True), "photos", ("A",))
    calls.refusal = MetadataUnavailable("rebuild it")
    before = clock.monotonic_ms()
    with pytest.raises(MetadataUnavailable, match="rebuild it"):
        await calls.gather(BucketVerb("begin", registers=True), "photos", ("A",))
    assert clock.monotonic_ms() - before < 5_000
    await calls.close()


async def test_a_script_that_answers_too_little_is_a_mistake() -> None:
    calls = Calls(FakeLink(lambda _: b"1"), ManualClock(), PATIENCE_MS)
    verb = BucketVerb("fail")
    errors = await asyncio.gather(
        *(calls.gather(verb, "photos", (name,)) for name in "AB"), return_exceptions=True
    )
    assert all(isinstance(error, RuntimeError) for error in errors)


async def test_passing_trouble_is_waited_for_with_growing_pauses(no_delay: list[int]) -> None:
    troubles = [AWAY] * 12
    link = FakeLink(lambda _: troubles.pop() if troubles else "done")
    calls = Calls(link, ManualClock(), PATIENCE_MS)
    assert await calls.run(Command(("PING",))) == "done"
    assert len(link.trips) == 13
    assert no_delay == list(range(1, 13))
    no_delay.clear()
    troubles.append(AWAY)
    await calls.run(Command(("PING",)))
    assert no_delay == [1]


async def test_trouble_of_one_call_does_not_delay_another() -> None:
    link = FakeLink(lambda command: AWAY if command.args[0] == "lost" else "done")
    calls = Calls(link, ManualClock(), PATIENCE_MS)
    lost = asyncio.create_task(calls.run(Command(("lost",))))
    found = asyncio.create_task(calls.run(Command(("found",))))
    assert await found == "done"
    assert len(link.trips) == 1
    await calls.close()
    with pytest.raises(ShuttingDown):
        await lost


async def test_patience_ends(no_delay: list[int]) -> None:
    clock = ManualClock()

    def answer(_: Command) -> Trouble:
        clock.advance(7_000)
        return AWAY

    link = FakeLink(answer)
    calls = Calls(link, clock, PATIENCE_MS)
    with pytest.raises(MetadataUnavailable, match=r"35\.0 s: Connection refused") as caught:
        await calls.run(Command(("PING",)))
    assert "here:6379" in caught.value.message
    assert caught.value.hint
    assert len(link.trips) == 5


async def test_each_call_has_a_patience_of_its_own(no_delay: list[int]) -> None:
    clock = ManualClock()
    away = True

    def answer(command: Command) -> Any:
        clock.advance(10_000)
        return AWAY if away else "done"

    calls = Calls(FakeLink(answer), clock, PATIENCE_MS)
    early = asyncio.create_task(calls.run(Command(("early",))))
    while clock.now_ms() < ManualClock().now_ms() + 20_000:
        await asyncio.sleep(0)
    late = asyncio.create_task(calls.run(Command(("late",))))
    with pytest.raises(MetadataUnavailable):
        await early
    away = False
    assert await late == "done"


async def test_a_refusal_is_told_at_once(no_delay: list[int]) -> None:
    link = FakeLink(lambda command: FORBIDDEN if command.args[0] == "bad" else "done")
    calls = Calls(link, ManualClock(), PATIENCE_MS)
    good, bad = await asyncio.gather(
        calls.run(Command(("good",))), calls.run(Command(("bad",))), return_exceptions=True
    )
    assert good == "done"
    assert isinstance(bad, MetadataUnavailable)
    assert "refuses to work: NOPERM" in bad.message
    assert len(link.trips) == 1
    assert no_delay == []


async def test_waiting_for_the_start_is_told_now_and_then(no_delay: list[int]) -> None:
    clock = ManualClock()
    answers = [AWAY] * 9 + [FORBIDDEN] * 9

    def answer(_: Command) -> Any:
        clock.advance(1_500)
        return answers.pop() if answers else True

    told: list[str] = []
    await Calls(FakeLink(answer), clock, 1).wait_ready(told.append)
    assert told == [
        "waiting for Redis at here:6379: NOPERM this user has no permissions",
        "waiting for Redis at here:6379: NOPERM this user has no permissions",
        "waiting for Redis at here:6379: Connection refused",
    ]


async def test_a_redis_that_is_there_is_not_talked_about() -> None:
    told: list[str] = []
    await Calls(FakeLink(lambda _: True), ManualClock(), 1).wait_ready(told.append)
    assert told == []


async def test_closing_ends_calls_and_connections(no_delay: list[int]) -> None:
    link = FakeLink(lambda _: AWAY)
    calls = Calls(link, ManualClock(), PATIENCE_MS)
    call = asyncio.create_task(calls.run(Command(("PING",))))
    for _ in range(10):
        await asyncio.sleep(0)
    await calls.close()
    with pytest.raises(ShuttingDown):
        await call
    assert link.closed


async def test_a_server_that_is_there_and_silent_is_not_waited_for_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("common.meta.calls.LOOK_MS", 1)
    asked = asyncio.Event()

    class Silent(FakeLink):
        async def run(self, commands: Sequence[Command]) -> list[Any]:
            asked.set()
            await asyncio.Event().wait()
            raise AssertionError

    clock = ManualClock()
    calls = Calls(Silent(add_up), clock, PATIENCE_MS)
    waiting = asyncio.create_task(calls.run(Command(("PING",))))
    await asked.wait()
    clock.advance(PATIENCE_MS - 1)
    later = [asyncio.create_task(calls.run(Command(("PING",)))) for _ in range(5)]
    clock.advance(1)
    with pytest.raises(MetadataUnavailable, match=r"did not answer for 30\.0 s: no answer in time"):
        await waiting
    assert not any(each.done() for each in later)
    clock.advance(PATIENCE_MS)
    errors = await asyncio.gather(*later, return_exceptions=True)
    assert [type(each) for each in errors] == [MetadataUnavailable] * 5
    await calls.close()
