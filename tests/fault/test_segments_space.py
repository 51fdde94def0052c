"""The segment store on a disk that is full: refuse, keep, delete, restart, and take again."""

from __future__ import annotations

import errno
import random
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from common.errors import NoSpace
from common.limits import KIB, MIB
from common.meta.interface import Ceilings
from common.wire.status import Status
from putter.storage.disk import RealDisk
from putter.storage.engine import Engine
from putter.storage.memory_disk import MemoryDisk
from putter.storage.segments.engine import SegmentsEngine
from tests.storage_kit import data_for, put, record, run_of, sole, split, stored, verify

SEGMENT_BYTES = 256 * KIB
CAPACITY = 12 * SEGMENT_BYTES
RUN_BYTES = 48_000
FRAME_BYTES = 4000


def engine_on(disk: MemoryDisk, *, reserve_bytes: int = 0) -> SegmentsEngine:
    return SegmentsEngine(
        disk, segment_bytes=SEGMENT_BYTES, reserve_bytes=reserve_bytes, verify=verify
    )


def fill(engine: Engine, *, frame_bytes: int = FRAME_BYTES) -> dict[int, bytes]:
    """Put runs until nothing more is taken; what was written."""
    kept: dict[int, bytes] = {}
    for first in range(0, 1_000_000, 1000):
        data = data_for(first, RUN_BYTES)
        statuses = put(engine, run_of(first, data, frame_bytes=frame_bytes, object_id=f"O{first}"))
        assert set(statuses) <= {Status.WRITTEN, Status.NO_SPACE}
        written = statuses.count(Status.WRITTEN)
        assert statuses[:written] == [Status.WRITTEN] * written
        parts = split(first, data, frame_bytes)
        kept |= {ticket: parts[ticket] for ticket in list(parts)[:written]}
        if not written:
            engine.sync()
            return kept
    pytest.fail("the disk does not fill up")


def brim(disk: MemoryDisk, but: int = 0) -> None:
    """Use what is left, to the last byte."""
    left = disk.capacity().free_bytes - but
    if left > 0:
        disk.close_files([disk.create("junk", bytes(left))])


def freed_by_and_by(engine: Engine, kept: dict[int, bytes], pieces: int = 40) -> None:
    """Remove runs one after the other, tending in between as a node does."""
    for first in sorted({ticket // 1000 * 1000 for ticket in kept}):
        engine.free([(first, 1000)])
        engine.sync()
        for _ in range(pieces):
            more = engine.tend(64 * KIB).more
            engine.sync()
            if not more:
                break


def test_a_full_disk_refuses_tickets_one_by_one() -> None:
    disk = MemoryDisk(CAPACITY)
    engine = engine_on(disk)
    kept = fill(engine)
    assert len(kept) * FRAME_BYTES > CAPACITY // 2
    assert stored(engine, 0, 1_000_000) == kept
    assert engine.capacity().free_bytes < 2 * SEGMENT_BYTES
    last = max(kept)
    again = run_of(
        last // 1000 * 1000, data_for(last // 1000 * 1000, RUN_BYTES), frame_bytes=FRAME_BYTES
    )
    assert put(engine, again)[0] == Status.WRITTEN


def test_what_was_taken_outlives_a_crash_of_a_full_disk() -> None:
    for seed in range(10):
        disk = MemoryDisk(CAPACITY)
        engine = engine_on(disk)
        kept = fill(engine)
        brim(disk)
        disk.crash(random.Random(seed))
        engine = engine_on(disk)
        assert stored(engine, 0, 1_000_000) == kept
        engine.close()


@pytest.mark.parametrize("indexed", [True, False])
def test_a_node_starts_on_a_disk_without_a_free_byte(indexed: bool) -> None:
    disk = MemoryDisk(CAPACITY)
    engine = engine_on(disk)
    kept = fill(engine)
    engine.close()
    if not indexed:
        for path in disk.files():
            if path.endswith(".idx"):
                disk.unlink(path)
    brim(disk)
    engine = engine_on(disk)
    assert stored(engine, 0, 1_000_000) == kept
    assert not engine.report.lost
    with pytest.raises(NoSpace):
        engine.raise_ceilings(Ceilings(5, 5, 5))
    assert engine.raise_ceilings(Ceilings()) == Ceilings()
    first = min(kept)
    assert engine.free([(first, 2)]) == 2
    engine.sync()
    engine.close()
    engine = engine_on(disk)
    assert stored(engine, 0, 1_000_000).keys() == kept.keys() - {first, first + 1}
    engine.close()


def test_deleting_works_on_a_full_disk_and_makes_room() -> None:
    disk = MemoryDisk(CAPACITY)
    engine = engine_on(disk)
    kept = fill(engine)
    brim(disk, 80 * KIB)
    freed_by_and_by(engine, kept)
    assert stored(engine, 0, 1_000_000) == {}
    assert engine.capacity().free_bytes > CAPACITY // 4
    assert (
        sole(put(engine, run_of(5, data_for(5, RUN_BYTES), frame_bytes=FRAME_BYTES)))
        == Status.WRITTEN
    )
    number = engine.put_record(record(1, "A"))
    engine.sync()
    disk.crash(random.Random(1))
    engine = engine_on(disk)
    assert stored(engine, 0, 1_000_000) == split(5, data_for(5, RUN_BYTES), FRAME_BYTES)
    found = engine.find_record("A")
    assert found is not None
    assert found.number == number


def test_a_full_disk_takes_records_as_long_as_it_can() -> None:
    disk = MemoryDisk(CAPACITY)
    engine = engine_on(disk, reserve_bytes=3 * SEGMENT_BYTES)
    kept = fill(engine)
    written = 0
    with suppress(NoSpace):
        for stamp in range(1, 10_000):
            engine.put_record(record(stamp, f"R{stamp}", bytes(500)))
            written += 1
    assert 10 < written < 9_999
    engine.sync()
    disk.crash(random.Random(2))
    engine = engine_on(disk)
    assert len(engine.records(0, 10_000)) == written
    assert stored(engine, 0, 1_000_000) == kept
    assert engine.drop_records([f"R{stamp}" for stamp in range(1, written + 1)]) == written
    engine.sync()
    assert engine.records(0, 10_000) == []


def test_a_record_that_fits_into_no_segment_is_refused() -> None:
    engine = engine_on(MemoryDisk())
    with pytest.raises(NoSpace, match="segment"):
        engine.put_record(record(1, "A", bytes(2 * SEGMENT_BYTES)))
    run = run_of(0, bytes(SEGMENT_BYTES), frame_bytes=SEGMENT_BYTES)
    assert put(engine, run) == [Status.NO_SPACE]
    assert engine.put_record(record(1, "A")) == 1
    engine.sync()


def test_new_tickets_leave_the_reserve_alone() -> None:
    disk = MemoryDisk(CAPACITY)
    engine = engine_on(disk, reserve_bytes=4 * SEGMENT_BYTES)
    kept = fill(engine)
    assert disk.capacity().free_bytes >= 4 * SEGMENT_BYTES
    assert engine.capacity().free_bytes < SEGMENT_BYTES
    freed_by_and_by(engine, kept)
    assert engine.capacity().free_bytes > 4 * SEGMENT_BYTES


def test_a_failed_creation_says_nothing_of_the_segment_before() -> None:
    """The next segment was made, and the state did not fit any more: the open one goes on."""
    disk = MemoryDisk()
    engine = engine_on(disk)
    put(engine, run_of(0, data_for(0, 32_000), frame_bytes=FRAME_BYTES))
    engine.sync()

    def hook(operation: str, path: str) -> None:
        if (operation, path) == ("create", "segments/new"):
            raise OSError(errno.ENOSPC, "No space left on device")

    disk.before = hook
    statuses = put(engine, run_of(1000, data_for(1000, 320_000), frame_bytes=FRAME_BYTES))
    written = statuses.count(Status.WRITTEN)
    assert statuses == [Status.WRITTEN] * written + [Status.NO_SPACE] * (80 - written)
    assert written > 20
    engine.sync()
    engine.free([(1000, 1)])
    engine.sync()
    for seed in range(6):
        disk.crash(random.Random(seed))
        engine = engine_on(disk)
        assert len(stored(engine, 0, 2000)) == 8 + written - 1
        assert not engine.report.lost


# -- a real file system ------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 MiB."""
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(
        ["/usr/bin/env", "mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(path)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system needs a privilege")
    try:
        yield path
    finally:  # lazily: mapped indexes live until they are collected
        subprocess.run(["/usr/bin/env", "umount", "--lazy", str(path)], check=True)


def life_on_a_full_disk(path: Path, reserve_bytes: int) -> None:
    engine = SegmentsEngine(
        RealDisk(path), segment_bytes=4 * MIB, reserve_bytes=reserve_bytes, verify=verify
    )
    kept: dict[int, int] = {}
    for first in range(0, 1000, 10):
        data = data_for(first, MIB)
        statuses = put(engine, run_of(first, data, frame_bytes=128 * KIB))
        assert set(statuses) <= {Status.WRITTEN, Status.NO_SPACE}
        kept |= {first + at: at for at, each in enumerate(statuses) if each is Status.WRITTEN}
        if Status.NO_SPACE in statuses:
            break
    else:
        pytest.fail("the disk does not fill up")
    engine.sync()
    engine.close()
    engine = SegmentsEngine(RealDisk(path), segment_bytes=4 * MIB, verify=verify)
    assert stored(engine, 0, 1000).keys() == kept.keys()
    assert not engine.report.lost
    for first in range(0, 1000, 10):
        engine.free([(first, 10)])
        engine.sync()
        while engine.tend(8 * MIB).more:
            engine.sync()
        engine.sync()
    assert stored(engine, 0, 1000) == {}
    data = data_for(2000, MIB)
    assert sole(put(engine, run_of(2000, data, frame_bytes=128 * KIB))) == Status.WRITTEN
    engine.close()
    engine = SegmentsEngine(RealDisk(path), segment_bytes=4 * MIB, verify=verify)
    assert stored(engine, 0, 3000) == split(2000, data, 128 * KIB)
    assert len(list((path / "segments").glob("*.seg"))) < 5
    engine.close()


def test_a_small_file_system_is_filled_and_emptied(small_disk: Path) -> None:
    life_on_a_full_disk(small_disk, 0)


def test_all_above_a_reserve_is_filled_and_emptied(tmp_path: Path) -> None:
    disk = RealDisk(tmp_path)
    free = disk.capacity().free_bytes
    disk.close()
    # Others use this file system, too: a reserve of all but 48 MiB is only nearly exact.
    life_on_a_full_disk(tmp_path, free - 48 * MIB)
