"""Children: pauses, words, command lines; what they do as processes is in tests/fault."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from common.errors import Unavailable
from putter.local import children, leash
from putter.local.children import (
    Child,
    ChildFailed,
    Spec,
    State,
    Supervisor,
    describe_exit,
)
from putter.local.leash import leash_command

NAMES = ("one", "stubborn", "three")


async def at_once(_launched_s: float) -> None:
    """Ready."""


def spec(**changes: Any) -> Spec:
    return Spec(**({"name": "valkey", "argv": ("/bin/v",), "ready": at_once} | changes))


@pytest.mark.parametrize(
    ("code", "words"),
    [(0, "exit code 0"), (4, "exit code 4"), (-9, "killed by signal 9")],
)
def test_how_a_process_ended(code: int, words: str) -> None:
    assert describe_exit(code) == words


@pytest.mark.parametrize(("code", "exit_code"), [(1, 1), (2, 2), (4, 4), (0, 4), (-11, 4)])
def test_a_child_that_fails_at_its_start_ends_its_parent_with_its_code(
    code: int, exit_code: int
) -> None:
    error = children._failed(spec(told="look there"), code)
    assert error.exit == exit_code
    assert error.message == f"valkey ended at its start: {describe_exit(code)}"
    assert error.hint == "look there"
    assert ChildFailed.exit == Unavailable.exit == 4


def test_the_command_line_of_a_leash() -> None:
    command = leash_command(42, ["/opt/a b/valkey-server", "-x", "it's"])
    assert command[:3] == [sys.executable, "-I", "-S"]
    assert Path(command[3]) == Path(leash.__file__)
    assert Path(command[3]).is_absolute()
    assert command[4:] == ["42", "/opt/a b/valkey-server", "-x", "it's"]


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was started and stopped, in its order; no process is."""
    seen: list[str] = []

    def noted(step: str, fails: str) -> Callable[[Child], Awaitable[None]]:
        async def note(child: Child) -> None:
            seen.append(f"{step} {child.spec.name}")
            if child.spec.name == fails:
                raise ChildFailed(f"{fails} has failed")

        return note

    monkeypatch.setattr(Child, "launch", noted("launch", "missing"))
    monkeypatch.setattr(Child, "wait_ready", noted("ready", "broken"))
    monkeypatch.setattr(Child, "stop", noted("stop", "stubborn"))
    return seen


async def test_children_stop_in_the_reverse_order_of_their_start(steps: list[str]) -> None:
    supervisor = Supervisor()
    for name in NAMES:
        await supervisor.start(spec(name=name))
    await supervisor.stop()
    wanted = [f"{step} {name}" for name in NAMES for step in ("launch", "ready")]
    assert steps == wanted + [f"stop {name}" for name in ("three", "stubborn", "one")]
    await supervisor.stop()
    assert len(steps) == 9


async def test_children_may_be_on_their_way_together(steps: list[str]) -> None:
    supervisor = Supervisor()
    one, two = [await supervisor.launch(spec(name=name)) for name in ("one", "two")]
    await one.wait_ready()
    await two.wait_ready()
    await supervisor.stop()
    assert steps == ["launch one", "launch two", "ready one", "ready two", "stop two", "stop one"]


async def test_a_child_that_was_not_launched_is_not_stopped(steps: list[str]) -> None:
    supervisor = Supervisor()
    with pytest.raises(ChildFailed):
        await supervisor.start(spec(name="missing"))
    await supervisor.stop()
    assert steps == ["launch missing"]


def test_a_child_that_never_ran_has_no_pid() -> None:
    assert Child(spec()).pid is None


# -- its lives ---------------------------------------------------------------------------------


class Lives:
    """Readiness by hand: the time of each launch that was asked about.

    Attributes:
        asked: the times.
        fails: which of them, counted from 1, does not get ready.
    """

    def __init__(self, *fails: int) -> None:
        self.asked: list[float] = []
        self.fails = fails

    async def __call__(self, launched_s: float) -> None:
        self.asked.append(launched_s)
        if len(self.asked) in self.fails:
            raise ChildFailed("it sits and stares")


@contextlib.asynccontextmanager
async def living(lives: Lives, script: str) -> AsyncIterator[Child]:
    child = Child(spec(argv=(sys.executable, "-I", "-S", "-c", script), ready=lives))
    try:
        await child.launch()
        yield child
    finally:
        await child.stop()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.01)


def runs_again(lines: Sequence[Mapping[str, Any]]) -> bool:
    return bool(lines) and lines[-1]["event"] == "a child runs again"


SLEEP = "import time; time.sleep(600)"


async def test_readiness_is_asked_after_each_launch() -> None:
    lives = Lives()
    async with living(lives, SLEEP) as child:
        with capture_logs() as lines:
            await child.wait_ready()
            for restarts in (1, 2):
                assert child.pid is not None
                os.kill(child.pid, signal.SIGKILL)
                await until(lambda wanted=restarts: len(lives.asked) == wanted + 1)
            await until(lambda: runs_again(lines))
        assert child.restarts == 2
    assert lives.asked == sorted(set(lives.asked))
    assert [line["event"] for line in lines] == [
        "a child died: starting it again",
        "a child runs again",
    ] * 2
    assert [line["pause_ms"] for line in lines if "pause_ms" in line] == [50, 100]


async def test_a_child_that_does_not_get_ready_again_is_ended_and_started_again() -> None:
    lives = Lives(2, 3)
    async with living(lives, SLEEP) as child:
        with capture_logs() as lines:
            await child.wait_ready()
            assert child.pid is not None
            os.kill(child.pid, signal.SIGKILL)
            await until(lambda: runs_again(lines))
        assert child.restarts == 3
    stuck = [line for line in lines if line["event"].startswith("a child does not get ready")]
    assert [line["reason"] for line in stuck] == ["it sits and stares"] * 2
    died = [line for line in lines if line["event"] == "a child died: starting it again"]
    assert [(line["how"], line["pause_ms"]) for line in died] == [
        ("killed by signal 9", 50),
        ("did not get ready", 100),
        ("did not get ready", 200),
    ]


async def test_not_getting_ready_for_long_does_not_count_as_a_long_life(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(children, "STABLE_S", 0.0)
    lives = Lives(2, 3)
    async with living(lives, SLEEP) as child:
        with capture_logs() as lines:
            await child.wait_ready()
            assert child.pid is not None
            os.kill(child.pid, signal.SIGKILL)
            await until(lambda: runs_again(lines))
    assert [line["pause_ms"] for line in lines if "pause_ms" in line] == [50, 100, 200]


async def test_a_child_that_does_not_get_ready_at_first_is_stopped() -> None:
    async with living(Lives(1), SLEEP) as child:
        with pytest.raises(ChildFailed, match="sits and stares"):
            await child.wait_ready()
        assert child._process is not None
        assert child._process.returncode is not None


async def test_a_child_that_ends_before_it_is_ready() -> None:
    class Never(Lives):
        async def __call__(self, launched_s: float) -> None:
            await asyncio.Event().wait()

    async with living(Never(), "raise SystemExit(3)") as child:
        with pytest.raises(ChildFailed, match="valkey ended at its start: exit code 3") as caught:
            await child.wait_ready()
    assert caught.value.exit == 3


async def test_a_child_that_ends_before_it_is_ready_again_is_started_once_more(
    tmp_path: Path,
) -> None:
    script = f"import os, time; os.mkdir({str(tmp_path / 'once')!r}); time.sleep(600)"

    class Made(Lives):
        async def __call__(self, launched_s: float) -> None:
            self.asked.append(launched_s)
            while len(self.asked) > 1 or not (tmp_path / "once").exists():
                await asyncio.sleep(0.01)

    async with living(Made(), script) as child:
        with capture_logs() as lines:
            await child.wait_ready()
            assert child.pid is not None
            os.kill(child.pid, signal.SIGKILL)
            await until(lambda: child.restarts == 3)
    told = [line["how"] for line in lines]
    assert told[:3] == ["killed by signal 9", "exit code 1", "exit code 1"]


async def test_a_program_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "leash_command", lambda _parent, argv: argv)
    missing = Child(spec(argv=("/nowhere/program",)))
    with pytest.raises(ChildFailed, match=r"valkey cannot be started: .*No such file"):
        await missing.launch()
    await missing.stop()


async def test_a_child_that_dies_again_and_again_is_given_up_and_named() -> None:
    told: list[State] = []
    lives = Lives()
    child = Child(
        spec(
            argv=(sys.executable, "-I", "-S", "-c", "raise SystemExit(7)"),
            ready=lives,
            deaths_max=3,
            changed=lambda: told.append(child.state),
        )
    )
    await child.launch()
    with capture_logs() as lines:
        await child.wait_ready()
        await until(lambda: child.state is State.GIVEN_UP)
    assert (lines[-1]["child"], lines[-1]["deaths"], lines[-1]["how"]) == (
        "valkey",
        3,
        "exit code 7",
    )
    assert child.restarts == 2
    assert told[-1] is State.GIVEN_UP
    await child.stop()
    assert child.state is State.GIVEN_UP, "it stays known as what it is"


async def test_each_change_of_state_is_told(tmp_path: Path) -> None:
    told: list[State] = []
    child = Child(
        spec(
            argv=(sys.executable, "-I", "-S", "-c", SLEEP),
            changed=lambda: told.append(child.state),
        )
    )
    assert child.state is State.STOPPED
    await child.launch()
    await child.wait_ready()
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    await until(lambda: told.count(State.RUNNING) == 2)
    assert child.ended == "killed by signal 9"
    await child.stop()
    assert told == [
        State.STARTING,
        State.RUNNING,
        State.WAITING,
        State.STARTING,
        State.RUNNING,
        State.STOPPING,
        State.STOPPED,
    ]


async def test_what_a_child_writes_goes_where_it_should(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as out:
        script = "import sys; print('to one'); print('to other', file=sys.stderr)"
        argv = (sys.executable, "-I", "-S", "-c", script)
        child = Child(spec(argv=argv, stdout=out.fileno(), stderr=out.fileno()))
        await child.launch()
        assert child._process is not None
        await child._process.wait()
        await child.stop()
    assert sorted((tmp_path / "out").read_text().splitlines()) == ["to one", "to other"]
