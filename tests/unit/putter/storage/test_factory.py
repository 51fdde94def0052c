from __future__ import annotations

import random
from pathlib import Path

import pytest

from common.errors import DataDirectoryInUse, SettingInvalid, StorageError
from common.wire.status import Status
from putter.storage.factory import LAYOUTS, open_engine
from tests.storage_kit import put, run_of, stored, verify


def test_a_tree_keeps_its_identity_and_data(tmp_path: Path) -> None:
    engine = open_engine("tree", tmp_path)
    identity = engine.identity
    assert len(identity) == 12
    put(engine, run_of(0, b"data"))
    engine.close()
    engine = open_engine("tree", tmp_path)
    assert engine.identity == identity
    assert stored(engine, 0, 1) == {0: b"data"}
    engine.close()


def test_memory_is_a_new_node_each_time_and_touches_no_disk(tmp_path: Path) -> None:
    path = tmp_path / "none"
    source = random.Random(3)
    first = open_engine("memory", path, random_bytes=source.randbytes)
    second = open_engine("memory", path, random_bytes=source.randbytes)
    assert first.identity != second.identity
    assert len(first.identity) == 12
    assert not path.exists()


def test_the_directory_is_locked_until_the_engine_is_closed(tmp_path: Path) -> None:
    engine = open_engine("tree", tmp_path)
    with pytest.raises(DataDirectoryInUse):
        open_engine("tree", tmp_path)
    engine.close()
    open_engine("tree", tmp_path).close()


def test_an_engine_that_does_not_open_lets_go(tmp_path: Path) -> None:
    open_engine("tree", tmp_path).close()
    (tmp_path / "ceilings").write_bytes(b"rot")
    for _ in range(2):
        with pytest.raises(StorageError, match="ceilings"):
            open_engine("tree", tmp_path)


def test_the_reserve_reaches_the_engine(tmp_path: Path) -> None:
    engine = open_engine("tree", tmp_path, reserve_bytes=1 << 60)
    assert put(engine, run_of(0, b"data")) == [Status.NO_SPACE]
    assert engine.capacity().free_bytes == 0
    engine.close()


def test_an_unknown_layout_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(SettingInvalid) as caught:
        open_engine("floppy", tmp_path)
    assert all(layout in caught.value.hint for layout in LAYOUTS)


def test_a_new_directory_gets_segments_and_keeps_its_layout(tmp_path: Path) -> None:
    engine = open_engine(None, tmp_path / "new", verify=verify)
    assert engine.layout == "segments"
    put(engine, run_of(0, b"data"))
    engine.sync()
    identity = engine.identity
    engine.close()
    engine = open_engine("segments", tmp_path / "new", verify=verify)
    assert engine.identity == identity
    assert stored(engine, 0, 1) == {0: b"data"}
    engine.close()
    with pytest.raises(SettingInvalid):
        open_engine("tree", tmp_path / "new")
    open_engine("tree", tmp_path / "old").close()
    engine = open_engine(None, tmp_path / "old")
    assert engine.layout == "tree"
    engine.close()


def test_segments_are_locked_and_let_go_when_they_do_not_open(tmp_path: Path) -> None:
    engine = open_engine(None, tmp_path)
    with pytest.raises(DataDirectoryInUse):
        open_engine(None, tmp_path)
    put(engine, run_of(0, b"data"))
    engine.close()
    for path in (tmp_path / "segments").iterdir():
        path.write_bytes(bytes(path.stat().st_size))
    for _ in range(2):
        with pytest.raises(StorageError, match="damaged"):
            open_engine(None, tmp_path)


def test_the_reserve_reaches_the_segments(tmp_path: Path) -> None:
    engine = open_engine(None, tmp_path, reserve_bytes=1 << 60)
    assert put(engine, run_of(0, b"data")) == [Status.NO_SPACE]
    assert engine.capacity().free_bytes == 0
    engine.close()
