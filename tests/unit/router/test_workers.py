"""Workers of one router: whoever is asked answers for all that live."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from common.membership import State
from common.meta.interface import Member
from common.metrics import Metrics
from common.siblings import Answers
from router.fleet import NodeView
from router.workers import Part, Workers, linked
from tests.simulation.loop import World, run


@dataclass
class Wire:
    """What connects workers in this test.

    Attributes:
        answers: of the workers that live.
        silent: those that take a question and do not answer.
    """

    answers: dict[int, Answers] = field(default_factory=dict)
    silent: set[int] = field(default_factory=set)


@dataclass
class Twin:
    """`common.siblings.Siblings` without sockets."""

    wire: Wire
    number: int
    count: int

    async def start(self, answers: Answers) -> None:
        self.wire.answers[self.number] = answers

    async def stop(self) -> None:
        del self.wire.answers[self.number]

    async def ask(self, question: str) -> dict[int, bytes | None]:
        return {
            number: None if number in self.wire.silent else await answers[question]()
            for number, answers in self.wire.answers.items()
            if number != self.number
        }


class Crew:
    """Three workers.

    Attributes:
        trouble: of each, by number.
    """

    def __init__(self) -> None:
        self.wire = Wire()
        self.trouble = ["", "", ""]
        self.metrics = [Metrics("router") for _ in range(3)]
        self.workers = [self._worker(number) for number in range(3)]

    def _worker(self, number: int) -> Workers:
        return Workers(
            Twin(self.wire, number, 3),
            self.metrics[number],
            lambda: self.trouble[number],
            lambda: Part(f"instance{number}", writing=number),
        )

    async def start(self) -> Crew:
        for worker in self.workers:
            await worker.start()
        return self


def test_all_are_ready_only_if_each_is() -> None:
    async def ask() -> None:
        crew = await Crew().start()
        assert [await worker.trouble() for worker in crew.workers] == ["", "", ""]
        crew.trouble[1] = "no putter is connected"
        told = "worker 1: no putter is connected"
        assert [await worker.trouble() for worker in crew.workers] == [told] * 3

    asyncio.run(ask())


def test_one_that_is_gone_takes_no_clients_and_spoils_nothing() -> None:
    async def ask() -> None:
        crew = await Crew().start()
        crew.trouble[2] = "shutting down"
        await crew.workers[2].stop()
        assert await crew.workers[0].trouble() == ""
        assert await crew.workers[0].parts() == {
            0: Part("instance0", 0),
            1: Part("instance1", 1),
            2: None,
        }

    asyncio.run(ask())


def test_one_that_gives_no_answer_is_trouble() -> None:
    async def ask() -> None:
        crew = await Crew().start()
        crew.wire.silent.add(1)
        assert await crew.workers[0].trouble() == "worker 1 does not answer"
        assert (await crew.workers[0].parts())[1] is None
        text = (await crew.workers[0].metrics()).decode()
        assert 'worker="1"' not in text
        assert 'worker="2"' in text

    asyncio.run(ask())


def test_metrics_are_those_of_all_whoever_is_asked() -> None:
    async def ask() -> None:
        crew = await Crew().start()
        crew.metrics[0].objects_written.inc(5)
        crew.metrics[2].objects_written.inc(7)
        for worker in crew.workers:
            lines = (await worker.metrics()).decode().splitlines()
            assert 'putter_objects_written_total{worker="0"} 5.0' in lines
            assert 'putter_objects_written_total{worker="1"} 0.0' in lines
            assert 'putter_objects_written_total{worker="2"} 7.0' in lines

    asyncio.run(ask())


def test_a_router_that_is_alone_says_nothing_of_workers() -> None:
    async def ask() -> None:
        metrics = Metrics("router")
        alone = Workers(None, metrics, lambda: "Redis does not answer", lambda: Part("me"))
        await alone.start()
        metrics.objects_written.inc(3)
        text = (await alone.metrics()).decode()
        assert "\nputter_objects_written_total 3.0\n" in text
        assert "worker" not in text
        assert await alone.trouble() == "Redis does not answer"
        assert await alone.parts() == {0: Part("me")}
        await alone.stop()

    asyncio.run(ask())


@dataclass
class Seen:
    """Putters as a router sees them, one list for each look; the last one for ever."""

    looks: list[list[NodeView]]
    made: int = 0

    def views(self) -> list[NodeView]:
        self.made += 1
        return self.looks[min(self.made, len(self.looks)) - 1]


MEMBER = Member(node="n", role="putter", instance="i", host="a", port=1)


def view(state: State = State.LIVE, link: str = "up", member: Member | None = MEMBER) -> NodeView:
    return NodeView("n", "a:1", state, link, "", 0, member, 5)


UP = view()
CONNECTING = view(link="down")


@pytest.mark.parametrize(
    ("looks", "made"),
    [
        ([[UP]], 1),
        ([[], [CONNECTING], [UP, CONNECTING], [UP, UP]], 4),
        ([[UP, view(State.DOWN, "down", None)], [UP, view(State.LIVE, "up", None)]], 2),
        ([[UP, view(State.DOWN, "down"), view(State.GONE, "down")]], 1),
        ([[view(State.DOWN, "down")], [UP]], 2),
    ],
)
def test_a_worker_is_connected_before_it_takes_clients(
    looks: list[list[NodeView]], made: int
) -> None:
    seen: Any = Seen(looks)

    async def wait(_: World) -> None:
        await linked(seen, 60_000)

    run(wait, seed=1)
    assert seen.made == made


def test_a_worker_does_not_wait_for_ever() -> None:
    seen: Any = Seen([[CONNECTING]])

    async def wait(_: World) -> None:
        began = asyncio.get_running_loop().time()
        await linked(seen, 5_000)
        assert 5 <= asyncio.get_running_loop().time() - began < 6

    run(wait, seed=1)
