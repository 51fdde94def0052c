"""Group commit: together what came together, and nobody is answered before it is durable."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from common.errors import NoSpace, PutterError, ShuttingDown, StorageError
from common.limits import MIB
from common.metrics import Metrics
from putter.node.committer import Committer
from putter.storage.engine import Engine, Record
from tests.node_kit import FaultyEngine, HeldDisk, until


async def test_it_knows_the_last_record_that_is_durable() -> None:
    engine, disk = FaultyEngine(), HeldDisk()
    engine.put_record(Record(1, "A", b"body"))
    committer = Committer(engine, disk, Metrics("putter"))
    assert committer.last_number == 1
    disk.held = True
    putting = asyncio.create_task(
        committer.run(lambda inside: inside.put_record(Record(2, "B", b"body")))
    )
    await until(lambda: bool(disk.waiting))
    assert committer.last_number == 1
    disk.release()
    assert await putting == 2
    assert committer.last_number == 2
    await committer.run(lambda inside: inside.drop_records(["B"]))
    assert committer.last_number == 2, "a number is never given again"


class Job:
    """Notes when it is applied and finished."""

    def __init__(self, name: str, log: list[str], size: int = 1) -> None:
        self.name = name
        self.size = size
        self.objects = [f"OF{name}"]
        self.requests = [f"id-{name}"]
        self.log = log
        self.outcome: list[PutterError | None] = []
        self.error: Exception | None = None

    def apply(self, engine: Engine) -> None:
        self.log.append(self.name)
        if self.error is not None:
            raise self.error

    def finish(self, error: PutterError | None) -> None:
        self.log.append(f"{self.name} done")
        self.outcome.append(error)

    @property
    def done(self) -> bool:
        return bool(self.outcome)


class Bench:
    def __init__(self) -> None:
        self.engine = FaultyEngine()
        self.log = self.engine.log
        self.disk = HeldDisk()
        self.committer = Committer(self.engine, self.disk, Metrics("putter"))

    def submit(self, *names: str, size: int = 1) -> list[Job]:
        jobs = [Job(name, self.log, size) for name in names]
        for job in jobs:
            self.committer.submit(job)
        return jobs

    async def step(self) -> None:
        """One round of the disk."""
        await until(lambda: bool(self.disk.waiting))
        self.disk.step()

    @property
    def syncs(self) -> int:
        return self.log.count("sync")


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    made.disk.release()
    await made.committer.stop()


async def test_a_lone_job_goes_at_once_and_is_answered_after_the_sync(bench: Bench) -> None:
    (job,) = bench.submit("a")
    await until(lambda: job.done)
    assert bench.log == ["a", "sync", "a done"]
    assert job.outcome == [None]


async def test_what_arrives_during_a_sync_goes_together(bench: Bench) -> None:
    bench.disk.held = True
    bench.submit("a")
    await until(lambda: bool(bench.disk.waiting))
    rest = bench.submit("b", "c") + bench.submit("d")
    await bench.step()
    await bench.step()
    await until(lambda: all(job.done for job in rest))
    assert bench.log == [
        *("a", "sync", "a done"),
        *("b", "c", "d", "sync", "b done", "c done", "d done"),
    ]


async def test_nobody_is_answered_while_the_disk_is_busy(bench: Bench) -> None:
    bench.disk.held = True
    jobs = bench.submit("a", "b")
    await until(lambda: bool(bench.disk.waiting))
    await asyncio.sleep(0.01)
    assert bench.log == []
    assert not any(job.done for job in jobs)


async def test_a_group_has_a_bound(bench: Bench) -> None:
    """The first answers do not wait for everybody: 32 MiB go together, at least one job."""
    bench.disk.held = True
    jobs = bench.submit("a", "b", "c", size=16 * MIB) + bench.submit("d", size=100 * MIB)
    for _ in range(3):
        await bench.step()
    await until(lambda: jobs[-1].done)
    assert bench.log == [
        *("a", "b", "sync", "a done", "b done"),
        *("c", "sync", "c done"),
        *("d", "sync", "d done"),
    ]


async def test_a_failing_sync_fails_everybody_in_the_group_and_nobody_else(bench: Bench) -> None:
    bench.disk.held = True
    group = bench.submit("a", "b")
    await until(lambda: bool(bench.disk.waiting))
    later = bench.submit("c")
    refusal = StorageError("the disk is on fire")
    bench.engine.fail["sync"] = refusal
    with capture_logs() as lines:
        await bench.step()
        bench.engine.fail.clear()
        await bench.step()
        await until(lambda: later[0].done)
    [line] = [line for line in lines if line["log_level"] == "error"]
    assert (line["jobs"], line["objects"], line["of"]) == (2, ["OFa", "OFb"], 2)
    assert line["requests"] == ["id-a", "id-b"]
    assert [job.outcome for job in group] == [[refusal], [refusal]]
    assert later[0].outcome == [None]


async def test_an_engine_that_fails_unexpectedly_is_a_storage_error(bench: Bench) -> None:
    bench.engine.fail["sync"] = RuntimeError("a mistake of ours")
    (job,) = bench.submit("a")
    await until(lambda: job.done)
    (error,) = job.outcome
    assert isinstance(error, StorageError)
    assert "a mistake of ours" in str(error)
    bench.engine.fail.clear()
    (job,) = bench.submit("b")
    await until(lambda: job.done)
    assert job.outcome == [None]


async def test_a_job_that_fails_keeps_its_group_from_being_acknowledged(bench: Bench) -> None:
    """What came before it may or may not be there: nobody hears that it is durable."""
    bench.disk.held = True
    jobs = bench.submit("a", "b", "c")
    jobs[1].error = NoSpace("full")
    await bench.step()
    await until(lambda: all(job.done for job in jobs))
    assert [job.outcome for job in jobs] == [[jobs[1].error]] * 3


class TestRun:
    async def test_it_returns_what_the_call_returned_once_that_is_durable(
        self, bench: Bench
    ) -> None:
        bench.disk.held = True
        call = asyncio.create_task(bench.committer.run(lambda engine: engine.layout))
        await until(lambda: bool(bench.disk.waiting))
        assert not call.done()
        bench.disk.step()
        assert await call == "memory"
        assert bench.syncs == 1

    async def test_an_error_is_its_callers_alone(self, bench: Bench) -> None:
        def refuse(engine: Engine) -> None:
            raise NoSpace("full")

        bench.disk.held = True
        (job,) = bench.submit("a")
        call = asyncio.create_task(bench.committer.run(refuse))
        other = asyncio.create_task(bench.committer.run(lambda _: 7))
        await asyncio.sleep(0)
        bench.disk.release()
        with pytest.raises(NoSpace):
            await call
        assert await other == 7
        assert job.outcome == [None]

    async def test_without_a_sync_there_is_no_result(self, bench: Bench) -> None:
        bench.engine.fail["sync"] = StorageError("the disk is on fire")
        with pytest.raises(StorageError):
            await bench.committer.run(lambda _: 7)

    async def test_a_caller_that_gives_up_harms_nobody(self, bench: Bench) -> None:
        bench.disk.held = True
        call = asyncio.create_task(bench.committer.run(lambda _: 7))
        await until(lambda: bool(bench.disk.waiting))
        (job,) = bench.submit("a")
        call.cancel()
        bench.disk.release()
        await until(lambda: job.done)
        assert call.cancelled()
        assert job.outcome == [None]


class TestStop:
    async def test_it_finishes_what_is_queued(self, bench: Bench) -> None:
        bench.disk.held = True
        jobs = bench.submit("a")
        await until(lambda: bool(bench.disk.waiting))
        jobs += bench.submit("b")
        stopping = asyncio.create_task(bench.committer.stop())
        await asyncio.sleep(0.01)
        assert not stopping.done()
        bench.disk.release()
        await stopping
        assert [job.outcome for job in jobs] == [[None], [None]]

    async def test_it_refuses_what_comes_later(self, bench: Bench) -> None:
        await bench.committer.stop()
        (job,) = bench.submit("late")
        (error,) = job.outcome
        assert isinstance(error, ShuttingDown)
        with pytest.raises(ShuttingDown):
            await bench.committer.run(lambda _: 7)
        assert bench.log == ["late done"], "the engine was not touched"

    async def test_what_comes_while_it_stops_is_refused_at_once(self, bench: Bench) -> None:
        bench.disk.held = True
        bench.submit("a")
        await until(lambda: bool(bench.disk.waiting))
        stopping = asyncio.create_task(bench.committer.stop())
        await asyncio.sleep(0)
        (late,) = bench.submit("late")
        assert isinstance(late.outcome[0], ShuttingDown)
        bench.disk.release()
        await stopping
        assert bench.syncs == 1

    async def test_twice_does_no_harm(self, bench: Bench) -> None:
        bench.submit("a")
        await asyncio.gather(bench.committer.stop(), bench.committer.stop())
        await bench.committer.stop()
        assert bench.log == ["a", "sync", "a done"]
