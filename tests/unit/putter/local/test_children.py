"""Children: pauses, words, command lines; what they do as processes is in tests/fault."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import Unavailable
from putter.local import children
from putter.local.children import (
    BACKOFF_MS_MAX,
    BACKOFF_MS_MIN,
    Child,
    ChildFailed,
    Spec,
    Supervisor,
    backoff_ms,
    describe_exit,
)
from putter.local.leash import leash_command


async def at_once() -> None:
    """Ready."""


def spec(**changes: Any) -> Spec:
    return Spec(**({"name": "valkey", "argv": ("/bin/v",), "ready": at_once} | changes))


def test_the_first_pauses() -> None:
    assert [backoff_ms(n) for n in range(1, 9)] == [50, 100, 200, 400, 800, 1600, 3200, 5000]


@given(st.integers(min_value=1, max_value=10**9))
def test_a_pause_is_bounded_and_never_shrinks(failures: int) -> None:
    assert BACKOFF_MS_MIN <= backoff_ms(failures) <= backoff_ms(failures + 1) <= BACKOFF_MS_MAX


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
    assert command[:3] == [sys.executable, "-m", "putter.local.leash"]
    assert command[3:] == ["42", "/opt/a b/valkey-server", "-x", "it's"]


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

    monkeypatch.setattr(Child, "start", noted("start", "broken"))
    monkeypatch.setattr(Child, "stop", noted("stop", "stubborn"))
    return seen


async def test_children_stop_in_the_reverse_order_of_their_start(steps: list[str]) -> None:
    supervisor = Supervisor()
    for name in ("one", "stubborn", "three"):
        await supervisor.start(spec(name=name))
    await supervisor.stop()
    wanted = [f"start {name}" for name in ("one", "stubborn", "three")]
    assert steps == wanted + [f"stop {name}" for name in ("three", "stubborn", "one")]
    await supervisor.stop()
    assert len(steps) == 6


async def test_a_child_that_did_not_start_is_not_stopped_again(steps: list[str]) -> None:
    supervisor = Supervisor()
    with pytest.raises(ChildFailed):
        await supervisor.start(spec(name="broken"))
    await supervisor.stop()
    assert steps == ["start broken"]


def test_a_child_that_never_ran_has_no_pid() -> None:
    assert Child(spec()).pid is None
