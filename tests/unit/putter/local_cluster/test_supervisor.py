"""The supervisor without a process: how it waits, and what it writes down."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from common.settings import Settings
from putter.local.children import Child, ChildFailed, Spec, State
from putter.local.lock import StoreLock
from putter.local_cluster import supervisor
from putter.local_cluster.lines import Prefix
from putter.local_cluster.output import Outputs, Screen
from putter.local_cluster.plan import make_plan
from putter.local_cluster.state import LOGS, STATE_FILE, read_state
from putter.local_cluster.supervisor import PIDS, LocalCluster


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_POLL_S", 0)
    monkeypatch.setattr(supervisor, "_TELL_S", -1)


async def test_what_one_waits_for_is_told_now_and_then(quick: None) -> None:
    reasons = iter(["no answer yet", "Redis does not answer", ""])

    async def trouble() -> str:
        return next(reasons)

    with capture_logs() as lines:
        await supervisor._wait_out("router0", trouble)
    assert [(line["child"], line["reason"]) for line in lines] == [
        ("router0", "no answer yet"),
        ("router0", "Redis does not answer"),
    ]


async def test_the_first_that_fails_ends_the_others() -> None:
    ended: list[str] = []

    async def for_ever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("for ever")

    async def fails() -> None:
        raise ChildFailed("putter1 ended")

    with pytest.raises(ChildFailed, match="putter1 ended"):
        await supervisor._all([for_ever(), fails(), for_ever()])
    assert ended == ["for ever"] * 2


@pytest.fixture
def made(tmp_path: Path) -> Any:
    """A cluster of which nothing was started, and the screen of its lines."""
    for name in (LOGS, PIDS):
        (tmp_path / name).mkdir()
    plan = make_plan(tmp_path, routers=2, putters=2)
    out = (tmp_path / "screen").open("wb")
    screen = Screen(out.fileno())
    outputs = Outputs(screen, Prefix(("cluster", *plan.names), colours=False), tmp_path / LOGS)
    yield LocalCluster(plan, Settings(), outputs, StoreLock(tmp_path, []))
    outputs.close()
    screen.close()
    out.close()


async def test_the_tiers_stop_one_after_the_other(
    made: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    running: set[str] = set()
    order: list[set[str]] = []

    async def stop(child: Child) -> None:
        running.add(child.spec.name)
        await asyncio.sleep(0)
        order.append(set(running))
        await asyncio.sleep(0)
        running.remove(child.spec.name)
        if child.spec.name == "router1":
            raise OSError("it clings to life")

    async def ready(_launched_s: float) -> None:
        """At once."""

    monkeypatch.setattr(Child, "stop", stop)
    for node in made._plan.nodes:
        made._children[node.name] = Child(Spec(node.name, ("x",), ready))
    with capture_logs() as lines:
        await made.stop()
    assert order == [{"router0", "router1"}] * 2 + [{"putter0", "putter1"}] * 2 + [{"valkey"}]
    assert [line["what"] for line in lines if line["event"] == "stopping"] == [
        "router0, router1",
        "putter0, putter1",
        "valkey",
    ]
    assert [line["child"] for line in lines if "could not" in line["event"]] == ["router1"]


async def test_what_is_told_to_other_terminals(made: LocalCluster, tmp_path: Path) -> None:
    async def ready(_launched_s: float) -> None:
        """At once."""

    child = Child(Spec("putter0", ("x",), ready))
    made._children["putter0"] = child
    child.state, child.restarts, child.ended = State.WAITING, 3, "exit code 1"
    made._tell()
    state = read_state(tmp_path)
    assert state is not None
    assert (state.pid, state.phase, state.names) == (os.getpid(), "starting", [*made._plan.names])
    told = {each.name: each for each in state.children}["putter0"]
    assert (told.state, told.pid, told.restarts, told.ended) == ("waiting", None, 3, "exit code 1")
    assert told.ports == {"putter_port": 5100, "putter_web_port": 5101}
    assert told.log == str(tmp_path / "logs" / "putter0.log")
    assert told.since_ms > 0
    made._tell()
    again = json.loads((tmp_path / STATE_FILE).read_text())["children"][1]
    assert again["since_ms"] == told.since_ms, "nothing has changed"


async def test_a_state_that_cannot_be_written_is_told_once(
    made: LocalCluster, tmp_path: Path
) -> None:
    (tmp_path / STATE_FILE).mkdir()
    with capture_logs() as lines:
        made._tell()
        made._tell()
    assert [line["event"] for line in lines] == ["cannot write the state down"]
