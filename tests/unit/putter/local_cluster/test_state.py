"""The state file: what was written is read; whatever else lies there is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import ProtocolError, StorageError
from putter.local_cluster.state import (
    STATE_FILE,
    ChildState,
    ClusterState,
    read_state,
    remove_state,
    write_state,
)

STATE = ClusterState(
    pid=12,
    phase="running",
    started_ms=1_700_000_000_000,
    replicas=2,
    write_quorum=1,
    children=(
        ChildState("valkey", "valkey", "running", 13, 1_700_000_000_001, 0),
        ChildState(
            "putter0",
            "putter",
            "waiting",
            None,
            1_700_000_000_002,
            3,
            "killed by signal 9",
            {"putter_port": 5100},
            "/d/putter0",
            "/d/logs/putter0.log",
        ),
    ),
)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    assert read_state(tmp_path) is None
    write_state(tmp_path, STATE)
    assert read_state(tmp_path) == STATE
    assert STATE.names == ["valkey", "putter0"]
    remove_state(tmp_path)
    remove_state(tmp_path)
    assert read_state(tmp_path) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": "x"}', '{"pid": 1}'])
def test_something_else_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / STATE_FILE).write_text(text)
    with pytest.raises(ProtocolError, match="is not the state of a cluster"):
        read_state(tmp_path)


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / STATE_FILE).mkdir()
    with pytest.raises(StorageError, match="cannot read"):
        read_state(tmp_path)
