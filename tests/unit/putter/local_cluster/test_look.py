"""How a process is: what supervisor, routers and disk say, put together."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import Unavailable
from putter.client.models import Stored
from putter.client.status import NodeStatus, StoreStatus
from putter.local_cluster.look import disk_bytes, log_of, must_run, running, view_of
from putter.local_cluster.state import ChildState, ClusterState, write_state

PUTTER = ChildState("putter0", "putter", "running", 7, 900, 2, "exit code 1", {"putter_port": 51})
ROUTER = ChildState("router1", "router", "running", 8, 900, ports={"ingest_port": 61})


def node(address: str, inflight: int, plain: int | None) -> NodeStatus:
    packing = None if plain is None else Stored(plain_bytes=plain)
    return NodeStatus("n", address, inflight_bytes=inflight, packing=packing)


STATUSES = {
    "router0": StoreStatus("1", nodes=(node("127.0.0.1:51", 10, 5), node("127.0.0.1:52", 1, 9))),
    "router1": StoreStatus("1", nodes=(node("127.0.0.1:51", 20, 6), node("127.0.0.1:52", 2, None))),
}


def test_a_putter_has_in_flight_what_all_routers_sent_it() -> None:
    view = view_of(PUTTER, STATUSES, 1_000)
    assert (view.address, view.age_ms, view.restarts) == ("127.0.0.1:51", 100, 2)
    assert (view.inflight_bytes, view.written_bytes) == (30, 6)


def test_a_router_has_in_flight_what_it_sent() -> None:
    view = view_of(ROUTER, STATUSES, 1_000)
    assert (view.address, view.inflight_bytes, view.written_bytes) == ("127.0.0.1:61", 22, None)


def test_what_nobody_tells_is_not_known() -> None:
    for child in (PUTTER, ROUTER, ChildState("valkey", "valkey")):
        view = view_of(child, {}, 1_000)
        assert (view.inflight_bytes, view.written_bytes) == (None, None)
    assert view_of(ChildState("valkey", "valkey"), STATUSES, 1_000).address == ""
    assert view_of(PUTTER, STATUSES, 10).age_ms == 0, "the clock was set back"


def test_a_directory_takes_what_its_files_take(tmp_path: Path) -> None:
    assert disk_bytes(tmp_path / "missing") == 0
    (tmp_path / "below").mkdir()
    empty = disk_bytes(tmp_path)
    assert empty is not None
    (tmp_path / "below" / "file").write_bytes(b"x" * 100_000)
    full = disk_bytes(tmp_path)
    assert full is not None
    assert full - empty >= 98_304
    assert disk_bytes(tmp_path, entries_max=1) is None


def state_of(pid: int) -> ClusterState:
    return ClusterState(pid, "running", 1, 2, 2, (PUTTER,))


def test_a_state_without_a_lock_is_nobodys(tmp_path: Path) -> None:
    write_state(tmp_path, state_of(1))
    assert running(tmp_path) is None
    with pytest.raises(Unavailable, match="no cluster runs on"):
        must_run(tmp_path)


def test_the_supervisor_has_a_log_too(tmp_path: Path) -> None:
    child = ChildState("putter0", "putter", log="/x/putter0.log")
    state = ClusterState(1, "running", 1, 2, 2, (child,))
    assert log_of(tmp_path, state, "putter0") == Path("/x/putter0.log")
    assert log_of(tmp_path, state, "cluster") == tmp_path / "logs" / "cluster.log"
