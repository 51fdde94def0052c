"""What new tickets leave of the disk."""

from __future__ import annotations

from common.limits import KIB
from common.wire.status import Status
from putter.storage.memory_disk import MemoryDisk
from putter.storage.segments.engine import SegmentsEngine
from putter.storage.segments.files import Files
from putter.storage.segments.reserve import Reserve
from tests.storage_kit import put, record, run_of, verify

SEGMENT_BYTES = 256 * KIB


def test_a_segment_begun_below_the_reserve_is_borrowed_until_there_is_space() -> None:
    disk = MemoryDisk(8 * SEGMENT_BYTES)
    reserve = Reserve(Files(disk, SEGMENT_BYTES), 4 * SEGMENT_BYTES)
    assert not reserve.refuses(1)
    disk.close_files([disk.create("junk", bytes(6 * SEGMENT_BYTES))])
    assert not reserve.refuses(1), "it was begun when there was space"
    assert reserve.refuses(2)
    assert reserve.refuses(2)
    disk.unlink("junk")
    assert not reserve.refuses(2)


def test_tickets_do_not_follow_records_into_the_reserve() -> None:
    disk = MemoryDisk(12 * SEGMENT_BYTES)
    engine = SegmentsEngine(
        disk, segment_bytes=SEGMENT_BYTES, reserve_bytes=6 * SEGMENT_BYTES, verify=verify
    )
    first = 0
    while put(engine, run_of(first, b"x")) == [Status.WRITTEN]:
        first += 1
        # A record takes room where a ticket does not find it.
        engine.put_record(record(first, f"O{first}", bytes(30_000)))
    assert engine.capacity().free_bytes == 0
    assert disk.capacity().free_bytes > 4 * SEGMENT_BYTES
    for stamp in range(100, 103):
        engine.put_record(record(stamp, f"P{stamp}", bytes(30_000)))
        assert put(engine, run_of(10_000 + stamp, b"x")) == [Status.NO_SPACE]
    engine.sync()
    engine.close()
