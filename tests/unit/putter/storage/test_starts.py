"""Starts are counted durably, through crashes, full disks and damage."""

from __future__ import annotations

import errno
import random
from pathlib import Path

import pytest

from common.errors import NoSpace, StorageError
from putter.storage.block_file import BLOCK_BYTES
from putter.storage.disk import RealDisk
from putter.storage.factory import count_start, open_engine
from putter.storage.memory_disk import CHANGES, MemoryDisk
from putter.storage.starts import count


def test_each_start_counts() -> None:
    disk = MemoryDisk()
    assert [count(disk) for _ in range(5)] == [1, 2, 3, 4, 5]


def test_on_a_real_disk(tmp_path: Path) -> None:
    for expected in (1, 2, 3):
        disk = RealDisk(tmp_path)
        assert count(disk) == expected
        disk.close()
    assert (tmp_path / "starts").stat().st_size == 2 * BLOCK_BYTES
    assert [path.name for path in tmp_path.iterdir()] == ["starts"]


@pytest.mark.parametrize("layout", ["segments", "tree"])
def test_a_directory_of_before_begins_with_one(tmp_path: Path, layout: str) -> None:
    engine = open_engine(layout, tmp_path)
    try:
        assert count_start(engine.layout, tmp_path) == 1
        assert count_start(engine.layout, tmp_path) == 2
    finally:
        engine.close()
    open_engine(layout, tmp_path).close()


def test_in_memory_every_start_is_the_first(tmp_path: Path) -> None:
    assert [count_start("memory", tmp_path) for _ in range(2)] == [1, 1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("seed", range(20))
def test_a_crash_at_any_step_never_counts_backward(seed: int) -> None:
    """What was counted durably is not forgotten; a start that broke off may count or not."""
    generator = random.Random(seed)
    disk = MemoryDisk()
    told = 0
    for _ in range(30):
        left = generator.randrange(12)

        def fault(operation: str, path: str) -> None:
            nonlocal left
            if operation in CHANGES:
                left -= 1
                if left < 0:
                    raise OSError(errno.EIO, "the machine stops here")

        disk.before = fault
        try:
            number = count(disk)
        except StorageError:
            pass
        else:
            assert number > told
            told = number
        disk.before = lambda operation, path: None
        disk.crash(generator)
    assert count(disk) > told > 0


def test_one_damaged_block_costs_one_start_at_most() -> None:
    for block in (0, 1):
        disk = MemoryDisk()
        for _ in range(7):
            count(disk)
        disk.flip("starts", (block * BLOCK_BYTES + 9) * 8)
        assert count(disk) == (8 if block == 0 else 7)


def test_without_a_whole_block_it_begins_again(caplog: pytest.LogCaptureFixture) -> None:
    disk = MemoryDisk()
    for _ in range(7):
        count(disk)
    for block in (0, 1):
        disk.flip("starts", block * BLOCK_BYTES * 8)
    assert count(disk) == 1
    assert "is lost: counting from 1" in caplog.text
    assert count(disk) == 2


def test_a_full_disk_still_counts() -> None:
    disk = MemoryDisk()
    assert count(disk) == 1

    def full(operation: str, path: str) -> None:
        if operation in ("create", "allocate"):
            raise OSError(errno.ENOSPC, "full")

    disk.before = full
    assert count(disk) == 2


def test_the_first_start_on_a_full_disk_is_not_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*args: object) -> None:
        raise NoSpace("the disk is full")

    monkeypatch.setattr(RealDisk, "blocks", full)
    assert count_start("tree", tmp_path) == 0
    assert "this start is not counted" in caplog.text
    monkeypatch.undo()
    assert count_start("tree", tmp_path) == 1
