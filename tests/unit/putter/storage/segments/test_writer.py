"""The writing end, through the engine: what it promises when the disk fails it half-way."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable

import pytest

from common.errors import StorageError
from common.limits import KIB
from common.meta.interface import Ceilings
from common.wire.status import Status
from putter.storage.memory_disk import MemoryDisk
from putter.storage.segments import writer
from putter.storage.segments.engine import SegmentsEngine
from tests.storage_kit import data_for, numbers, put, record, run_of, sole, split, stored, verify

SEGMENT_BYTES = 64 * KIB


def engine_on(disk: MemoryDisk) -> SegmentsEngine:
    return SegmentsEngine(disk, segment_bytes=SEGMENT_BYTES, verify=verify)


def refuse(*operations: str, times: int = 1000) -> Callable[[str, str], None]:
    left = times

    def hook(operation: str, path: str) -> None:
        nonlocal left
        if operation in operations and left:
            left -= 1
            raise OSError(errno.EIO, "Input/output error")

    return hook


def heal(disk: MemoryDisk) -> None:
    disk.before = lambda operation, path: None


def segments(disk: MemoryDisk) -> int:
    return sum(path.endswith(".seg") for path in disk.files())


def test_a_run_is_cut_where_a_segment_ends() -> None:
    disk = MemoryDisk()
    engine = engine_on(disk)
    data = data_for(0, 150_000)
    assert sole(put(engine, run_of(0, data, frame_bytes=1458))) == Status.WRITTEN
    assert segments(disk) >= 3
    engine.sync()
    assert stored(engine, 0, 1000) == split(0, data, 1458)


def test_a_segment_takes_a_limited_number_of_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "_ENTRIES_MAX", 10)
    disk = MemoryDisk()
    engine = engine_on(disk)
    for first in range(0, 100, 5):
        put(engine, run_of(first, b"data"))
        engine.put_record(record(first + 1))
    engine.sync()
    assert segments(disk) == 4
    engine = engine_on(disk)
    assert len(stored(engine, 0, 100)) == 20
    assert len(numbers(engine)) == 20


@pytest.mark.parametrize("kind", ["record", "run"])
@pytest.mark.parametrize("refused", ["write", "sync"])
def test_a_sync_that_fails_inside_of_something_else_is_told_at_the_next(
    kind: str, refused: str
) -> None:
    """Somebody else's tickets were in it: nobody may acknowledge them."""
    disk = MemoryDisk()
    engine = engine_on(disk)
    put(engine, run_of(5000, data_for(5000, 80)))
    engine.sync()
    assert sole(put(engine, run_of(0, data_for(0, 52_000), frame_bytes=1458))) == Status.WRITTEN
    disk.before = refuse(refused, times=1)
    if kind == "run":
        run = run_of(900, data_for(900, 40_000), frame_bytes=1458)
        assert sole(put(engine, run)) == Status.IO_ERROR
    else:
        with pytest.raises(StorageError, match="not durable"):
            engine.put_record(record(1, "A", bytes(12_000)))
    heal(disk)
    with pytest.raises(StorageError, match="not durable"):
        engine.sync()
    assert stored(engine, 0, 10_000) == split(5000, data_for(5000, 80))
    engine.sync()
    assert sole(put(engine, run_of(0, data_for(0, 52_000), frame_bytes=1458))) == Status.WRITTEN
    engine.sync()
    disk.crash(random.Random(1))
    assert len(stored(engine_on(disk), 0, 10_000)) == 10 + 36


def test_a_sync_that_fails_inside_of_a_removal_is_told_at_the_next() -> None:
    disk = MemoryDisk()
    engine = engine_on(disk)
    put(engine, run_of(5000, data_for(5000, 9600)))
    engine.sync()
    put(engine, run_of(0, data_for(0, 19_500), frame_bytes=1458))
    assert segments(disk) == 1
    disk.before = refuse("sync", times=1)
    with pytest.raises(StorageError, match="not durable"):
        engine.free([(first, 1) for first in range(5000, 6200, 2)])
    with pytest.raises(StorageError, match="not durable"):
        engine.sync()
    assert not stored(engine, 0, 1000)
    assert engine.free([(5000, 1200)]) > 0
    engine.sync()
    disk.crash(random.Random(1))
    assert not stored(engine_on(disk), 0, 10_000)


def test_what_was_freed_stays_freed_after_a_failed_sync() -> None:
    for times in (1, 2, 3, 4, 1000):
        disk = MemoryDisk()
        engine = engine_on(disk)
        put(engine, run_of(0, data_for(0, 80)))
        engine.put_record(record(1, "A"))
        engine.sync()
        engine.free([(2, 3)])
        engine.drop_records(["A"])
        disk.before = refuse("sync", "allocate", times=times)
        with pytest.raises(StorageError):
            engine.sync()
        if times > 2:
            with pytest.raises(StorageError):
                engine.sync()  # as long as the log does not say so
        heal(disk)
        engine.sync()
        disk.crash(random.Random(times))
        engine = engine_on(disk)
        assert stored(engine, 0, 100).keys() == {0, 1, 5, 6, 7, 8, 9}
        assert numbers(engine) == []


def test_numbers_of_records_go_on_after_an_orderly_end_without_the_log() -> None:
    disk = MemoryDisk()
    engine = engine_on(disk)
    assert [engine.put_record(record(stamp)) for stamp in (1, 2, 3)] == [1, 2, 3]
    engine.close()
    (path,) = (path for path in disk.files() if path.endswith(".seg"))
    data = disk.read(path) or b""
    disk.rot(path, data[:4096] + bytes(len(data) - 4096))
    engine = engine_on(disk)
    assert "bytes 4096 to" in engine.report.lost[0]
    assert engine.put_record(record(4)) > 3


def test_lifted_ceilings_note_the_end() -> None:
    disk = MemoryDisk()
    engine = engine_on(disk)
    put(engine, run_of(0, data_for(0, 80)))
    engine.sync()
    engine.raise_ceilings(Ceilings(9, 9, 9))
    state = engine._files.load_state()
    assert state is not None
    assert 4096 < state.end <= 8192
    assert state.ceilings == Ceilings(9, 9, 9)
    engine = engine_on(disk)  # killed
    assert len(stored(engine, 0, 100)) == 10
    assert not engine.report.lost


def test_a_disk_that_takes_nothing_any_more_serves_what_it_has() -> None:
    disk = MemoryDisk()
    engine = engine_on(disk)
    put(engine, run_of(0, data_for(0, 80)))
    engine.sync()
    disk.before = refuse("write", "sync", "allocate", "create", "sync_file", "rename", "unlink")
    assert sole(put(engine, run_of(100, data_for(100, 80)))) == Status.WRITTEN
    with pytest.raises(StorageError):
        engine.sync()
    for _ in range(3):
        assert sole(put(engine, run_of(100, data_for(100, 80)))) == Status.IO_ERROR
        engine.sync()  # there is nothing that it could promise
        assert stored(engine, 0, 1000) == split(0, data_for(0, 80))
        assert engine.stat(3) is not None
    heal(disk)
    assert sole(put(engine, run_of(100, data_for(100, 80)))) == Status.WRITTEN
    engine.sync()
    assert len(stored(engine, 0, 1000)) == 20
