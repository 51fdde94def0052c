"""Housekeeping goes on at its rate, and survives what the disk does."""

from __future__ import annotations

import asyncio

import pytest

from common.errors import StorageError
from common.metrics import Metrics
from putter.node.committer import Committer
from putter.node.upkeep import PIECE_BYTES
from putter.node.upkeep import Upkeep as Housekeeping
from putter.storage.engine import Upkeep
from putter.storage.memory import MemoryEngine
from tests.node_kit import HeldDisk, play
from tests.router_kit import metric
from tests.simulation.loop import World


class Tended(MemoryEngine):
    """Answers as it is told, and remembers when it was asked."""

    def __init__(self, *answers: Upkeep | Exception) -> None:
        super().__init__()
        self.answers = list(answers)
        self.asked_s: list[float] = []
        self.budgets: set[int] = set()

    def tend(self, budget_bytes: int) -> Upkeep:
        self.asked_s.append(asyncio.get_running_loop().time())
        self.budgets.add(budget_bytes)
        answer = self.answers.pop(0) if self.answers else Upkeep(0, 0, more=False)
        if isinstance(answer, Exception):
            raise answer
        return answer


def tended(engine: Tended, seconds: float) -> Metrics:
    metrics = Metrics("putter")

    async def scene(_: World) -> None:
        committer = Committer(engine, HeldDisk(), metrics)
        upkeep = Housekeeping(committer, metrics, rate_bytes_per_s=100, period_s=10)
        upkeep.start()
        await asyncio.sleep(seconds)
        await upkeep.stop()
        await committer.stop()
        await asyncio.sleep(100)

    play(scene)
    return metrics


def test_it_looks_for_work_now_and_then() -> None:
    engine = Tended()
    tended(engine, 35)
    assert [after - engine.asked_s[0] for after in engine.asked_s] == pytest.approx([0, 10, 20])
    assert engine.budgets == {PIECE_BYTES}


def test_copying_keeps_to_the_rate() -> None:
    engine = Tended(Upkeep(200, 0, more=True), Upkeep(300, 0, more=True))
    tended(engine, 19)
    assert [after - engine.asked_s[0] for after in engine.asked_s] == pytest.approx([0, 2, 5])


def test_what_needs_no_copying_comes_back_at_once() -> None:
    engine = Tended(*[Upkeep(0, 1000, more=True)] * 5)
    metrics = tended(engine, 11)
    assert len(engine.asked_s) == 6
    assert metric(metrics, "putter_reclaimed_bytes_total") == 5000


def test_what_was_copied_is_counted() -> None:
    metrics = tended(Tended(Upkeep(200, 0, more=True), Upkeep(30, 0, more=False)), 50)
    assert metric(metrics, "putter_compacted_bytes_total") == 230


def test_a_disk_that_refuses_is_asked_again() -> None:
    engine = Tended(StorageError("a bad day"))
    tended(engine, 25)
    assert len(engine.asked_s) == 2


def test_it_ends_with_the_committer() -> None:
    engine = Tended()
    metrics = Metrics("putter")

    async def scene(_: World) -> None:
        committer = Committer(engine, HeldDisk(), metrics)
        await committer.stop()
        upkeep = Housekeeping(committer, metrics)
        upkeep.start()
        await asyncio.sleep(100)
        await upkeep.stop()

    play(scene)
    assert engine.asked_s == []


def test_stopping_what_never_began_does_nothing() -> None:
    async def scene(_: World) -> None:
        metrics = Metrics("putter")
        await Housekeeping(Committer(Tended(), HeldDisk(), metrics), metrics).stop()

    play(scene)
