"""The commands on a cluster on this machine: what they are told, and what they tell."""

from __future__ import annotations

import re
import signal
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from rich.console import Console, ConsoleDimensions

from common.errors import Unavailable
from common.pairs import Pair
from common.settings import FIELDS, Settings, variable_of
from putter.cli import local_cluster, local_stop
from putter.cli.local_attach import Watch, head_of, page
from putter.cli.supervise import option, welcome
from putter.local.lock import Holder
from putter.local_cluster import look
from putter.local_cluster.look import ChildView, ClusterView
from putter.local_cluster.plan import DATA_DIR, OWNED, Plan, make_plan
from putter.local_cluster.state import ChildState, ClusterState, write_state

# -- start -------------------------------------------------------------------------------------


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Plan, Settings]]:
    """What would have been started, in place of starting it."""
    seen: list[tuple[Plan, Settings]] = []
    module = ModuleType("putter.cli.supervise")
    module.supervise = lambda plan, settings: (plan, settings)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "putter.cli.supervise", module)
    process = ModuleType("putter.cli.process")
    process.run = seen.append  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "putter.cli.process", process)
    for name in FIELDS:
        monkeypatch.delenv(variable_of(name), raising=False)
    for name in ("REDIS_HOSTPORT", "PUTTER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    return seen


def test_without_flags(shop: Any, started: list[tuple[Plan, Settings]]) -> None:
    result = shop.run("cluster", "start")
    assert (result.exit_code, result.output) == (0, "")
    assert started == [(make_plan(DATA_DIR, routers=2, putters=3), Settings())]


def test_flags_of_the_cluster_and_settings_for_all(
    shop: Any, started: list[tuple[Plan, Settings]]
) -> None:
    words = "--putters 4 --routers 1 --data-dir d --router-base 6000 --putter-base 0"
    shop.run("cluster", "start", *words.split(), "--storage", "tree", "--replicas", "3")
    plan = make_plan(Path("d"), routers=1, putters=4, router_base=6000, putter_base=0)
    assert started == [(plan, Settings(storage="tree", replicas=3))]


def test_what_the_cluster_gives_itself_has_no_flag_and_no_variable(
    shop: Any, started: list[tuple[Plan, Settings]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUTTER_WEB_PORT", "5001")  # a clash, if it were read
    monkeypatch.setenv("PUTTER_DATA_DIR", "elsewhere")
    monkeypatch.setenv("PUTTER_COMPRESS", "zstd")
    assert shop.run("cluster", "start").exit_code == 0
    assert started[0][1] == Settings(compress="zstd")
    assert not {"host", "redis", "nodes", "web_port"} & set(local_cluster.START_FIELDS)
    assert set(local_cluster.START_FIELDS) | OWNED == set(FIELDS)
    assert shop.run("cluster", "start", "--redis", "redis://h:1").exit_code == 2


@pytest.mark.parametrize(
    "words",
    ["--putters 0", "--putters 65", "--routers 17", "--storage nonsense", "--putter-base 65530"],
)
def test_what_makes_no_sense_starts_nothing(
    shop: Any, started: list[tuple[Plan, Settings]], words: str
) -> None:
    assert shop.run("cluster", "start", *words.split()).exit_code == 2
    assert started == []


# -- what it says ------------------------------------------------------------------------------


def test_the_welcome_has_the_right_ports() -> None:
    text = "\n".join(welcome(make_plan(DATA_DIR, routers=2, putters=2), Settings()))
    assert "Valkey, 2 routers, 2 putters (N = 2, W = 2); data in cluster-data/" in text
    assert "nc -N 127.0.0.1 5001 < FILE" in text
    assert "curl http://127.0.0.1:5014/file/objects/<ObjectID>" in text, "through the other router"
    assert "raw streams 5001, 5011; S3 5003, 5013; REST 5004, 5014; frames 5100, 5110" in text
    assert "PUTTER_URL" not in text, "the usual one"
    assert "--data-dir" not in text
    assert "secret key" not in text


def test_the_welcome_of_one_that_is_elsewhere() -> None:
    plan = make_plan(Path("a b"), routers=1, putters=1, router_base=6000)
    text = "\n".join(welcome(plan, Settings(replicas=1, write_quorum=1)))
    assert "export PUTTER_URL=http://127.0.0.1:6004" in text
    assert "curl http://127.0.0.1:6004/file/objects/<ObjectID>" in text
    assert "putter cluster stop --data-dir 'a b'" in text
    assert option(Path("x")) == " --data-dir x"


def test_the_welcome_of_a_new_one_has_its_access_key() -> None:
    plan = make_plan(DATA_DIR, routers=1, putters=1)
    lines = welcome(plan, Settings(), Pair("PKONE", "very-secret"))
    assert [line.split()[-1] for line in lines[-3:-1]] == ["PKONE", "very-secret"]


# -- status ------------------------------------------------------------------------------------

CHILD = ChildView(
    name="putter0",
    kind="putter",
    state="running",
    address="127.0.0.1:5100",
    pid=7,
    age_ms=2_000,
    restarts=1,
    ended="killed by signal 9",
    ports={"putter_port": 5100, "putter_web_port": 5101},
    disk_bytes=2048,
    written_bytes=10,
    inflight_bytes=0,
    memory_bytes=None,
    log="x",
)
DEAD = ChildView(
    "router0", "router", "given up", "127.0.0.1:5001", None, 0, 7, "exit code 1", {}, None, None,
    None, None, "y",
)  # fmt: skip
SEEN = ClusterView(6, "running", 5_000, 2, 1, (CHILD, DEAD))


def test_status_is_a_table_or_json(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(look, "look", lambda _: SEEN)
    lines = shop.run("cluster", "status").stdout.splitlines()
    assert lines[0] == "cluster:  running, supervisor 6, N = 2, W = 1"
    assert lines[2].split("  ")[0] == "putter0"
    assert re.split(r"  +", lines[2])[1:] == [
        "running", "127.0.0.1:5100", "7", "2 s", "1", "2.0 KiB", "10 B", "0 B", "-",
    ]  # fmt: skip
    assert re.split(r"  +", lines[3])[:5] == ["router0", "given up", "127.0.0.1:5001", "-", "0 ms"]
    told = shop.run("cluster", "status", "--json").stdout
    assert '"name":"putter0"' in told
    assert '"phase":"running"' in told


@pytest.mark.parametrize("command", ["status", "attach"])
def test_where_nothing_runs_that_is_said(shop: Any, command: str) -> None:
    result = shop.run("cluster", command)
    assert result.exit_code == 4
    assert result.stderr.startswith("error: no cluster runs on cluster-data\nhint: ")


# -- attach ------------------------------------------------------------------------------------


def test_the_head_tells_who_how_and_how_much() -> None:
    first, second = head_of(SEEN, "putter0").lines
    assert first == (
        "putter0  running for 2 s  pid 7  restarts 1 (the last: killed by signal 9)  "
        "5100 frames in  5101 health, metrics"
    )
    assert second == "on disk 2.0 KiB  stored since its start 10 B  in flight 0 B"
    assert "no process" in head_of(SEEN, "router0").lines[0]
    assert head_of(SEEN, "cluster").lines[1] == "1 of 2 processes run  N = 2, W = 1"


def test_a_page_fits_the_screen_and_shows_the_last_lines() -> None:
    size = ConsoleDimensions(30, 8)
    console = Console(width=size.width, height=size.height, color_system=None)
    lines = [f"line {n} " + "x" * 50 for n in range(20)]
    with console.capture() as capture:
        console.print(page(head_of(SEEN, "putter0"), lines, size), end="")
    rows = capture.get().splitlines()
    assert len(rows) == size.height
    assert max(map(len, rows)) == size.width
    assert rows[0].startswith("putter0  running")
    assert [row.split()[1] for row in rows[3:]] == ["15", "16", "17", "18", "19"]


def test_a_watch_is_over_when_the_cluster_is() -> None:
    answers = [SEEN]

    def see(_: Path) -> ClusterView:
        if answers:
            return answers.pop()
        raise Unavailable("it has ended")

    watch = Watch(Path("d"), "putter0", see)
    assert watch.head == head_of(SEEN, "putter0")
    assert not watch.over
    watch._look()
    assert watch.over
    assert watch.head == head_of(SEEN, "putter0"), "the last that was seen"
    watch.stop()
    watch._thread.join(10)
    assert not watch._thread.is_alive()


# -- stop --------------------------------------------------------------------------------------


def test_stop_is_content_where_nothing_runs(shop: Any, tmp_path: Path) -> None:
    result = shop.run("cluster", "stop", "--data-dir", "nowhere")
    assert (result.exit_code, result.stdout) == (0, "no cluster runs on nowhere\n")


def test_stop_signals_nobody_that_it_does_not_see(
    shop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_signal(*_: object) -> None:
        raise AssertionError("a signal was sent")

    monkeypatch.setattr(local_stop.os, "kill", no_signal)
    monkeypatch.setattr(
        local_stop, "running", lambda _: (Holder(None, "process 12 on elsewhere"), None)
    )
    result = shop.run("cluster", "stop")
    assert result.exit_code == 4
    assert "cannot be stopped from here (process 12 on elsewhere)" in result.stderr


@pytest.mark.parametrize(("phase", "signals"), [("running", [signal.SIGTERM]), ("stopping", [])])
def test_one_that_stops_already_is_only_waited_for(
    shop: Any, monkeypatch: pytest.MonkeyPatch, phase: Any, signals: list[int]
) -> None:
    sent: list[int] = []
    up = ChildState("putter0", "putter", "stopping", 7)
    state = ClusterState(6, phase, 1, 2, 2, (up, ChildState("router0", "router")))
    Path("d").mkdir()
    write_state(Path("d"), msgspec_replace(state, "stopping"))
    alive = iter([True, False])
    monkeypatch.setattr(local_stop, "running", lambda _: (Holder(6, "process 6"), state))
    monkeypatch.setattr(local_stop.os, "kill", lambda _pid, number: sent.append(number))
    monkeypatch.setattr(local_stop, "lives", lambda _: next(alive))
    monkeypatch.setattr(local_stop, "_POLL_S", 0)
    result = shop.run("cluster", "stop", "--data-dir", "d")
    assert result.exit_code == 0, result.stderr
    assert sent == signals
    assert result.stdout.splitlines() == [
        "stopping the cluster on d (process 6)",
        "  router0 has ended",
        "  putter0 has ended",
        "all have ended",
    ]


def test_patience_has_an_end(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("d").mkdir()
    monkeypatch.setattr(local_stop, "running", lambda _: (Holder(6, "process 6"), None))
    monkeypatch.setattr(local_stop.os, "kill", lambda *_: None)
    monkeypatch.setattr(local_stop, "lives", lambda _: True)
    times = iter([0.0, 1.0, 5.5])
    monkeypatch.setattr(local_stop.time, "monotonic", lambda: next(times))
    monkeypatch.setattr(local_stop, "_POLL_S", 0)
    result = shop.run("cluster", "stop", "--data-dir", "d", "--timeout", "5")
    assert result.exit_code == 1
    assert "after 5 s these still run: all" in result.stderr


def msgspec_replace(state: ClusterState, phase: Any) -> ClusterState:
    return ClusterState(
        state.pid, phase, state.started_ms, state.replicas, state.write_quorum, state.children
    )
