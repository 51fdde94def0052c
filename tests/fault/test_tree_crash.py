"""The tree when the power goes, the disk fills up, refuses, or rots."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from common.errors import NoSpace, StorageError
from common.meta.interface import Ceilings
from common.wire import frames
from common.wire.status import Status
from putter.storage.memory_disk import CHANGES, MemoryDisk
from putter.storage.tree import TreeEngine
from tests.storage_kit import KEY, data_for, put, record, run_of, sole, split, stored

SEEDS = range(6)


class PowerLossError(Exception):
    """The process ends here."""


def stop_at(last: int) -> Callable[[str, str], None]:
    """A hook that lets so many changes happen and none after them."""
    left = last

    def hook(operation: str, path: str) -> None:
        nonlocal left
        if operation in CHANGES:
            left -= 1
            if left < 0:
                raise PowerLossError

    return hook


def failing(operation: str, number: int, times: int = 1) -> Callable[[str, str], None]:
    """A hook that makes an operation fail a few times."""
    left = times

    def hook(now: str, path: str) -> None:
        nonlocal left
        if now == operation and left:
            left -= 1
            raise OSError(number, os.strerror(number))

    return hook


def no_fault(operation: str, path: str) -> None:
    """A healthy disk."""


@dataclass
class Promised:
    """What must be there, what may be there, and what must not."""

    tickets: dict[int, bytes] = field(default_factory=dict)
    maybe: dict[int, bytes] = field(default_factory=dict)
    records: dict[int, str] = field(default_factory=dict)
    maybe_records: dict[int, str] = field(default_factory=dict)
    ceilings: Ceilings = field(default_factory=Ceilings)
    freeing: bool = False

    def settle(self) -> None:
        self.maybe, self.maybe_records = {}, {}


def workload(disk: MemoryDisk, promised: Promised) -> None:
    """A little of everything; what is promised is noted at the moment it is."""
    engine = TreeEngine(disk)

    first = split(1290, data_for(1290, 60))
    promised.maybe |= first
    engine.put(run_of(1290, data_for(1290, 60), object_id="A"))
    promised.maybe_records[1] = "A"
    engine.put_record(record(1, "A"))
    engine.sync()
    promised.settle()
    promised.tickets |= first
    promised.records[1] = "A"

    engine.raise_ceilings(Ceilings(100, 10, 1000))
    promised.ceilings = Ceilings(100, 10, 1000)

    freed = {ticket: promised.tickets.pop(ticket) for ticket in (1290, 1291, 1297)}
    promised.maybe |= freed
    promised.freeing = True
    engine.free([(1290, 2), (1297, 1)])
    fresh = split(36, data_for(36, 9))
    promised.maybe |= fresh
    engine.put(run_of(36, data_for(36, 9), object_id="B"))
    engine.sync()
    promised.settle()
    promised.tickets |= fresh

    promised.maybe_records[1] = promised.records.pop(1)
    engine.drop_records(["A"])
    engine.sync()
    promised.settle()

    engine.raise_ceilings(Ceilings(200, 10, 1000))
    promised.ceilings = Ceilings(200, 10, 1000)
    engine.close()


def check(disk: MemoryDisk, promised: Promised) -> None:
    engine = TreeEngine(disk)
    found = stored(engine, 0, 10_000)
    assert promised.tickets.items() <= found.items()
    assert found.items() <= (promised.tickets | promised.maybe).items()
    kept = {numbered.number: numbered.record.object_id for numbered in engine.records(0, 100)}
    assert promised.records.items() <= kept.items()
    assert kept.items() <= (promised.records | promised.maybe_records).items()
    if 1 in kept and not promised.freeing:
        assert split(1290, data_for(1290, 60)).items() <= found.items()
    ceilings = engine.raise_ceilings(Ceilings())
    assert ceilings.highest(promised.ceilings) == ceilings
    # It goes on as if nothing had happened: the same bytes again, then other work.
    again = run_of(1290, data_for(1290, 60), object_id="A")
    assert sole(put(engine, again)) == Status.WRITTEN
    assert sole(put(engine, run_of(36, data_for(36, 9), object_id="B"))) == Status.WRITTEN
    number = engine.put_record(record(50, "Z"))
    assert number > max(kept, default=0)
    assert number > max(promised.records, default=0)
    engine.close()
    engine = TreeEngine(disk)
    assert stored(engine, 0, 10_000) == split(1290, data_for(1290, 60)) | split(36, data_for(36, 9))
    assert engine.free([(0, 10_000)]) == 10
    engine.sync()
    assert [path for path in disk.files() if path.startswith(("tickets", "tmp"))] == []
    assert disk.names("tickets") == []


def changes_of_the_workload() -> int:
    count = 0

    def hook(operation: str, path: str) -> None:
        nonlocal count
        count += operation in CHANGES

    workload(MemoryDisk(before=hook), Promised())
    return count


CHANGES_MADE = changes_of_the_workload()


@pytest.mark.parametrize("seed", SEEDS)
def test_power_may_go_at_every_change(seed: int) -> None:
    for last in range(CHANGES_MADE):
        disk, promised = MemoryDisk(before=stop_at(last)), Promised()
        with pytest.raises(PowerLossError):
            workload(disk, promised)
        disk.before = no_fault
        disk.crash(random.Random(seed * 100_003 + last))
        check(disk, promised)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_killed_process_may_be_followed_by_a_power_loss(seed: int) -> None:
    """What the next process finds and confirms must be durable, not only visible."""
    run = run_of(1290, data_for(1290, 60), object_id="A")
    for last in range(CHANGES_MADE):
        disk = MemoryDisk(before=stop_at(last))
        with pytest.raises(PowerLossError):
            workload(disk, Promised())
        disk.before = no_fault
        engine = TreeEngine(disk)
        engine.put(run)
        number = engine.put_record(record(50, "Z"))
        engine.sync()
        disk.crash(random.Random(seed * 100_003 + last))
        engine = TreeEngine(disk)
        assert stored(engine, 1290, 8) == split(1290, data_for(1290, 60))
        found = engine.find_record("Z")
        assert found is not None
        assert found.number == number


@pytest.mark.parametrize("operation", sorted(CHANGES - {"sync_all"}))
def test_every_change_may_fail_once(operation: str) -> None:
    """A failure is reported; a retry after it is honest; nothing else is disturbed."""
    for skip in range(0, 40, 3):
        disk = MemoryDisk()
        engine = TreeEngine(disk)
        engine.put(run_of(0, data_for(0, 40)))
        engine.put(run_of(100, data_for(100, 40)))
        engine.sync()

        seen = 0

        def hook(now: str, path: str, skip: int = skip) -> None:
            nonlocal seen
            if now == operation:
                seen += 1
                if seen == skip + 1:
                    raise OSError(errno.EIO, "Input/output error")

        disk.before = hook
        run = run_of(50, data_for(50, 80))
        for _ in range(4):
            try:
                engine.free([(2, 2)])
                statuses = put(engine, run)
                engine.put_record(record(1, "OBJ"))
                engine.sync()
            except StorageError:
                continue
            if set(statuses) == {Status.WRITTEN}:
                break
        else:
            pytest.fail("one fault must not stop four tries")
        disk.before = no_fault
        disk.crash(random.Random(skip))
        engine = TreeEngine(disk)
        expected = split(0, data_for(0, 40)) | split(50, data_for(50, 80))
        expected |= split(100, data_for(100, 40))
        del expected[2], expected[3]
        assert stored(engine, 0, 1000) == expected
        assert [numbered.record for numbered in engine.records(0, 9)] == [record(1, "OBJ")]


def test_after_a_failed_sync_nothing_of_it_is_there() -> None:
    disk = MemoryDisk()
    engine = TreeEngine(disk)
    engine.put(run_of(0, b"12345678"))
    engine.put_record(record(1, "OBJ"))
    disk.before = failing("sync_file", errno.EIO)
    with pytest.raises(StorageError, match="not durable"):
        engine.sync()
    engine.sync()
    assert stored(engine, 0, 10) == {}
    assert engine.records(0, 10) == []
    assert disk.names("tickets") == []
    assert disk.names("tmp") == []


def test_an_early_sync_that_fails_is_told_at_the_sync() -> None:
    disk = MemoryDisk()
    engine = TreeEngine(disk)
    disk.before = failing("sync_file", errno.EIO)
    run = run_of(0, bytes(8 * 300))
    assert sole(put(engine, run)) == Status.WRITTEN
    with pytest.raises(StorageError):
        engine.sync()
    assert stored(engine, 0, 300) == {}
    assert sole(put(engine, run)) == Status.WRITTEN
    engine.sync()
    assert len(stored(engine, 0, 300)) == 300


@pytest.mark.parametrize("operation", ["sync_file", "rename", "sync_directory"])
def test_no_space_at_a_sync_is_a_storage_error(operation: str) -> None:
    disk = MemoryDisk()
    engine = TreeEngine(disk)
    engine.put(run_of(0, b"12345678"))
    disk.before = failing(operation, errno.ENOSPC)
    with pytest.raises(StorageError, match="No space"):
        engine.sync()


@pytest.mark.parametrize(
    ("number", "status"),
    [
        (errno.ENOSPC, Status.NO_SPACE),
        (errno.EDQUOT, Status.NO_SPACE),
        (errno.EIO, Status.IO_ERROR),
        (errno.EROFS, Status.IO_ERROR),
    ],
)
@pytest.mark.parametrize("operation", ["create", "make_directory"])
def test_a_refusal_becomes_the_tickets_status(operation: str, number: int, status: Status) -> None:
    disk = MemoryDisk()
    engine = TreeEngine(disk)
    disk.before = failing(operation, number)
    assert put(engine, run_of(0, b"12345678"))[0] == status
    assert put(engine, run_of(0, b"12345678")) == [Status.WRITTEN]
    engine.sync()
    assert stored(engine, 0, 10) == {0: b"12345678"}


def test_a_full_disk_keeps_what_it_has_and_frees_it() -> None:
    disk = MemoryDisk(3_000)
    engine = TreeEngine(disk, reserve_bytes=500)
    statuses = put(engine, run_of(0, bytes(8 * 100)))
    assert Status.NO_SPACE in statuses
    engine.sync()
    there = statuses.count(Status.WRITTEN)
    assert len(stored(engine, 0, 100)) == there
    engine.put_record(record(1))
    engine.raise_ceilings(Ceilings(1, 1, 1))
    engine.sync()
    assert engine.free([(0, 100)]) == there
    engine.sync()
    assert engine.put_record(record(2, body=bytes(1000))) == 2
    assert sole(put(engine, run_of(0, bytes(8)))) == Status.WRITTEN
    with pytest.raises(NoSpace):
        engine.put_record(record(3, body=bytes(3000)))
    engine.sync()
    assert [numbered.number for numbered in engine.records(0, 9)] == [1, 2]


def test_new_tickets_leave_the_reserve_alone() -> None:
    engine = TreeEngine(MemoryDisk(3_000), reserve_bytes=2_900)
    assert put(engine, run_of(0, bytes(200), frame_bytes=200)) == [Status.NO_SPACE]
    assert engine.capacity().free_bytes == 100
    assert put(engine, run_of(0, bytes(20), frame_bytes=20)) == [Status.WRITTEN]


def test_a_read_error_is_told() -> None:
    disk = MemoryDisk()
    engine = TreeEngine(disk)
    engine.put(run_of(0, b"12345678"))
    engine.put_record(record(1))
    engine.sync()
    disk.before = failing("read", errno.EIO, times=5)
    with pytest.raises(StorageError, match="tickets/0/sum"):
        list(engine.read(0, 1))
    with pytest.raises(StorageError, match="tickets/0/sum"):
        engine.stat(0)
    with pytest.raises(StorageError, match="commits/1/record"):
        engine.records(0, 1)
    assert put(engine, run_of(0, b"12345678")) == [Status.IO_ERROR]
    disk.before = no_fault
    assert stored(engine, 0, 1) == {0: b"12345678"}


def test_a_flipped_bit_in_the_data_fails_the_check() -> None:
    disk = MemoryDisk()
    engine = TreeEngine(disk)
    engine.put(run_of(0, data_for(0, 24)))
    engine.sync()
    for bit in range(64):
        disk.flip("tickets/1/obj", bit)
        (piece,) = engine.read(0, 3)
        rows = memoryview(bytearray(piece.frames))
        assert frames.check(rows, 0, piece.frame_bytes, KEY).tolist() == [
            Status.WRITTEN,
            Status.CHECKSUM_MISMATCH,
            Status.WRITTEN,
        ]
        disk.flip("tickets/1/obj", bit)


def test_a_flipped_bit_in_a_sum_makes_the_ticket_absent_and_writable() -> None:
    disk = MemoryDisk()
    engine = TreeEngine(disk)
    run = run_of(0, data_for(0, 24))
    for bit in range(0, 8 * 51, 7):
        engine.put(run)
        engine.sync()
        disk.flip("tickets/1/sum", bit)
        assert engine.stat(1) is None
        assert set(stored(engine, 0, 3)) == {0, 2}
        assert sole(put(engine, run)) == Status.WRITTEN
        engine.sync()
        assert stored(engine, 0, 3) == split(0, data_for(0, 24))


@pytest.mark.parametrize("size", [0, 7, 9])
def test_data_of_another_length_is_left_out(size: int) -> None:
    disk = MemoryDisk()
    engine = TreeEngine(disk)
    engine.put(run_of(0, data_for(0, 24)))
    engine.sync()
    disk.rot("tickets/1/obj", bytes(size))
    assert set(stored(engine, 0, 3)) == {0, 2}
    disk.unlink("tickets/1/obj")
    assert set(stored(engine, 0, 3)) == {0, 2}


def test_a_sum_in_the_wrong_place_is_not_believed() -> None:
    disk = MemoryDisk()
    engine = TreeEngine(disk)
    engine.put(run_of(0, bytes(16)))
    engine.sync()
    disk.rot("tickets/1/sum", disk.read("tickets/0/sum") or b"")
    assert engine.stat(1) is None
    assert set(stored(engine, 0, 3)) == {0}


def test_a_damaged_record_is_passed_over_and_reported(caplog: pytest.LogCaptureFixture) -> None:
    disk = MemoryDisk()
    engine = TreeEngine(disk)
    for stamp in (1, 2, 3):
        engine.put_record(record(stamp, "OBJ"))
    engine.sync()
    disk.flip("commits/3/record", 400)
    found = engine.find_record("OBJ")
    assert found is not None
    assert found.number == 2
    assert [numbered.number for numbered in engine.records(0, 2)] == [1, 2]
    engine.close()
    engine = TreeEngine(disk)
    assert engine.damaged_records == {3}
    assert "record 3" in caplog.text
    assert [numbered.number for numbered in engine.records(0, 9)] == [1, 2]
    assert engine.put_record(record(4)) == 4


def test_damaged_ceilings_refuse_the_start() -> None:
    disk = MemoryDisk()
    engine = TreeEngine(disk)
    engine.raise_ceilings(Ceilings(5, 5, 5))
    engine.close()
    disk.flip("ceilings", 70)
    with pytest.raises(StorageError, match="ceilings") as caught:
        TreeEngine(disk)
    assert caught.value.hint


def test_ceilings_that_could_not_be_lifted_stay() -> None:
    for operation in ("create", "sync_file", "rename", "sync_directory"):
        disk = MemoryDisk()
        engine = TreeEngine(disk)
        engine.raise_ceilings(Ceilings(5, 5, 5))
        disk.before = failing(operation, errno.EIO)
        with pytest.raises(StorageError):
            engine.raise_ceilings(Ceilings(9, 9, 9))
        assert engine.raise_ceilings(Ceilings()) == Ceilings(5, 5, 5)
        assert engine.raise_ceilings(Ceilings(9, 9, 9)) == Ceilings(9, 9, 9)
        disk.crash(random.Random(0))
        assert TreeEngine(disk).raise_ceilings(Ceilings()) == Ceilings(9, 9, 9)


def test_a_close_that_cannot_sync_still_lets_go() -> None:
    disk = MemoryDisk()
    released: list[bool] = []
    engine = TreeEngine(disk, release=lambda: released.append(True))
    engine.put(run_of(0, b"x"))
    disk.before = failing("sync_file", errno.EIO)
    with pytest.raises(StorageError):
        engine.close()
    assert released == [True]
    engine.close()
    assert released == [True]
