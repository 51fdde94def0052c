"""What a start finds, and where the log goes on."""

from __future__ import annotations

import random

import pytest

from common.limits import KIB
from common.wire.status import Status
from putter.storage.block_file import BLOCK_BYTES
from putter.storage.memory_disk import MemoryDisk
from putter.storage.segments.engine import SegmentsEngine
from putter.storage.segments.formats import decode_header
from tests.storage_kit import data_for, numbers, put, record, run_of, sole, split, stored, verify

SEGMENT_BYTES = 64 * KIB
FIRST = "segments/0000000000000001.seg"


def engine_on(disk: MemoryDisk) -> SegmentsEngine:
    return SegmentsEngine(disk, segment_bytes=SEGMENT_BYTES, verify=verify)


def two_commits() -> MemoryDisk:
    """One that was acknowledged, and one with three runs behind it; the node was killed."""
    disk = MemoryDisk()
    engine = engine_on(disk)
    put(engine, run_of(0, data_for(0, 80)))
    engine.put_record(record(1))
    engine.sync()
    for first in (100, 200, 300):
        put(engine, run_of(first, data_for(first, 3000), frame_bytes=1000))
    engine.put_record(record(2))
    engine.sync()
    return disk


def test_a_new_directory_has_nothing() -> None:
    engine = engine_on(MemoryDisk())
    assert engine.report.segments == 0
    assert engine.report.lost == []


def test_a_whole_last_commit_is_kept() -> None:
    engine = engine_on(two_commits())
    assert len(stored(engine, 0, 1000)) == 10 + 9
    assert numbers(engine) == [1, 2]
    assert engine.report.cut_bytes == 0


@pytest.mark.parametrize("part", ["header", "body"])
def test_a_torn_last_commit_is_cut_at_the_first_damage(part: str) -> None:
    disk = two_commits()
    second = 2 * BLOCK_BYTES + 3144
    data = disk.read(FIRST) or b""
    assert data[second : second + 4] == b"PREC"
    disk.flip(FIRST, 8 * (second + (0 if part == "header" else 500)))
    for _ in range(2):  # the second start finds the same
        engine = engine_on(disk)
        assert stored(engine, 0, 1000).keys() == {*range(10), 100, 101, 102}
        assert numbers(engine) == [1]
        assert engine.report.lost == []
    assert engine.report.cut_bytes > 0
    assert engine.put_record(record(2)) == 3
    engine.sync()
    # What was cut does not come back, whatever is written over it.
    for size in (1, 700, 5000):
        put(engine, run_of(5000 + size, data_for(0, size), frame_bytes=1000))
        engine.sync()
        engine = engine_on(disk)
        assert not stored(engine, 200, 800)
        assert numbers(engine) == [1, 3]
        assert engine.report.lost == []


def test_a_noted_commit_is_not_torn_but_damaged() -> None:
    disk = two_commits()
    engine_on(disk).close()
    disk.flip(FIRST, 8 * (2 * BLOCK_BYTES + 3144 + 30))
    engine = engine_on(disk)
    assert stored(engine, 0, 1000).keys() == {*range(10), *range(100, 103), *range(300, 303)}
    assert numbers(engine) == [1, 2]
    assert "damaged" in engine.report.lost[0]
    assert engine.report.cut_bytes == 0


def test_a_block_that_was_acknowledged_is_not_written_again() -> None:
    disk = two_commits()
    engine_on(disk).close()
    before = disk.read(FIRST) or b""
    engine = engine_on(disk)
    writes: list[str] = []
    disk.before = lambda operation, path: writes.append(operation)
    put(engine, run_of(900, b"data"))
    engine.sync()
    after = disk.read(FIRST) or b""
    end = -(-len(before.rstrip(b"\0")) // BLOCK_BYTES) * BLOCK_BYTES
    assert after[:end] == before[:end]
    assert writes.count("write") == 1


def test_the_last_commit_is_made_durable_by_writing_it_again() -> None:
    """A sync alone does not do: the system may take for clean what a failed sync left."""
    disk = MemoryDisk()
    engine = engine_on(disk)
    put(engine, run_of(0, data_for(0, 80)))
    engine.sync()
    put(engine, run_of(100, data_for(100, 80)))

    def hook(operation: str, path: str) -> None:
        if operation in ("sync", "allocate"):
            raise OSError(5, "Input/output error")

    disk.before = hook
    with pytest.raises(Exception, match="not durable"):
        engine.sync()
    disk.before = lambda operation, path: None
    engine = engine_on(disk)  # killed
    assert sole(put(engine, run_of(100, data_for(100, 80)))) == Status.WRITTEN
    engine.sync()
    for seed in range(5):
        disk.crash(random.Random(seed))
        assert stored(engine_on(disk), 100, 100) == split(100, data_for(100, 80))


def test_an_interrupted_creation_is_taken_back() -> None:
    disk = two_commits()
    disk.blocks("segments/0000000000000002.seg", SEGMENT_BYTES)
    disk.blocks("segments/0000000000000003.seg", 0)
    engine = engine_on(disk)
    assert engine.report.segments == 1
    assert engine.report.lost == []
    assert len(stored(engine, 0, 1000)) == 19


def test_a_segment_without_its_first_block_is_read_and_not_written_on() -> None:
    disk = two_commits()
    disk.flip(FIRST, 100)
    engine = engine_on(disk)
    assert "first block" in engine.report.lost[0]
    assert len(stored(engine, 0, 1000)) == 19
    put(engine, run_of(900, b"data"))
    engine.sync()
    assert "segments/0000000000000002.seg" in disk.files()
    assert len(stored(engine_on(disk), 0, 1000)) == 20


def test_the_epoch_ascends_with_every_start_that_writes() -> None:
    disk = two_commits()
    for start in range(3):
        engine = engine_on(disk)
        put(engine, run_of(5000 + start, b"data"))
        engine.sync()
    data = disk.read(FIRST) or b""
    epochs = []
    for at in range(BLOCK_BYTES, len(data), BLOCK_BYTES):
        header = decode_header(data[at : at + 600], engine._writer.secret, 1)
        if header is not None:
            epochs.append(header.epoch)
    assert epochs == sorted(epochs)
    assert len(set(epochs)) == 4


def test_a_damaged_record_is_passed_over_and_its_number_is_not_given_again() -> None:
    disk = two_commits()
    engine_on(disk).close()
    disk.flip(FIRST, 8 * (disk.read(FIRST) or b"").index(b"body of 1"))
    engine = engine_on(disk)
    assert numbers(engine) == [2]
    assert engine.put_record(record(3)) == 3
