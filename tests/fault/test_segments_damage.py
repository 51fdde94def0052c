"""The segment store when its files rot, are cut, vanish, or cannot be read.

Whatever happens to one file, the node opens, says what is missing, serves the rest byte for byte,
takes new work and gives no number twice. Nothing but errors of ours leaves the engine.
"""

from __future__ import annotations

import errno
import logging
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import pytest

from common.errors import PutterError, StorageError
from common.limits import KIB
from common.meta.interface import Ceilings
from common.wire import frames
from common.wire.status import Status
from putter.storage.block_file import BLOCK_BYTES
from putter.storage.engine import Record
from putter.storage.memory_disk import MemoryDisk
from putter.storage.segments.engine import SegmentsEngine
from putter.storage.segments.packing import AtRest
from tests.storage_kit import (
    KEY,
    PACKED,
    data_for,
    put,
    record,
    run_of,
    sole,
    split,
    stored,
    verify,
)

SEGMENT_BYTES = 32 * KIB
ROUNDS = 400 if "PUTTER_SOAK" in os.environ else 40
ALL = 1 << 20

READS = AtRest(keys=PACKED.keys)
"""Writes plain records, and can read others."""
ENCRYPTED = replace(PACKED, compress=False, block_bytes=700)

Key = tuple[bool, int]


@dataclass
class Kept:
    """What a node holds before something befalls it."""

    tickets: dict[Key, bytes] = field(default_factory=dict)
    gone: set[Key] = field(default_factory=set)
    records: dict[int, Record] = field(default_factory=dict)
    dropped: set[int] = field(default_factory=set)
    last_number: int = 0


def engine_on(disk: MemoryDisk, at_rest: AtRest = READS) -> SegmentsEngine:
    return SegmentsEngine(disk, segment_bytes=SEGMENT_BYTES, verify=verify, at_rest=at_rest)


def filled(*, close: bool = True, at_rest: AtRest = READS) -> tuple[MemoryDisk, Kept]:
    """A node with several sealed segments and one that is open."""
    disk, kept = MemoryDisk(), Kept()
    engine = engine_on(disk, at_rest)
    for step in range(24):
        raw = step % 5 == 4
        first, size, frame_bytes = 1000 * step, 300 + 577 * (step % 9), (64, 1458, 700)[step % 3]
        data = data_for(first, size)
        run = run_of(first, data, frame_bytes=frame_bytes, object_id="" if raw else f"O{step}")
        assert sole(put(engine, run, raw=raw)) == Status.WRITTEN
        kept.tickets |= {(raw, t): part for t, part in split(first, data, frame_bytes).items()}
        entry = record(step + 1, f"O{step}", data_for(step, 40 * step + 1))
        kept.records[engine.put_record(entry)] = entry
        if step % 4 == 3:
            low = 1000 * (step - 2)
            engine.free([(low, 2)])
            for ticket in (low, low + 1):
                if kept.tickets.pop((False, ticket), None) is not None:
                    kept.gone.add((False, ticket))
            number = engine.find_record(f"O{step - 1}")
            assert number is not None
            engine.drop_records([f"O{step - 1}"])
            del kept.records[number.number]
            kept.dropped.add(number.number)
        if step % 3 == 0:
            engine.sync()
    engine.raise_ceilings(Ceilings(7000, 80, 900))
    engine.sync()
    kept.last_number = max(kept.records.keys() | kept.dropped)
    if close:
        engine.close()
    return disk, kept


def segments_of(disk: MemoryDisk, suffix: str = ".seg") -> list[str]:
    return [path for path in disk.files() if path.endswith(suffix)]


def intact(engine: SegmentsEngine) -> tuple[dict[Key, bytes], int]:
    """The tickets whose bytes fit, and how many do not; refused runs are asked for one by one."""
    found: dict[Key, bytes] = {}
    wrong = 0
    for raw in (False, True):
        for first in range(0, 25_000, 1000):
            try:
                pieces = list(engine.read(first, 1000, raw=raw))
            except StorageError:
                pieces = []
                for ticket in range(first, first + 120):
                    try:
                        pieces += list(engine.read(ticket, 1, raw=raw))
                    except StorageError:
                        wrong += 1
            for piece in pieces:
                rows = memoryview(bytearray(piece.frames))
                stride = piece.frame_bytes + 16
                statuses = frames.check(rows, piece.first, piece.frame_bytes, KEY).tolist()
                for at, status in enumerate(statuses):
                    if status:
                        wrong += 1
                    else:
                        row = rows[at * stride : (at + 1) * stride]
                        found[raw, piece.first + at] = bytes(row[16:])
    return found, wrong


def listed(engine: SegmentsEngine) -> dict[int, Record]:
    return {each.number: each.record for each in engine.records(0, 10_000)}


@contextmanager
def logged() -> Iterator[list[str]]:
    """What the engine writes to its log meanwhile."""
    lines: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    handler = Collector()
    logger = logging.getLogger("putter.storage")
    logger.addHandler(handler)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)


def check(disk: MemoryDisk, kept: Kept, *, may_return: bool = False, is_told: bool = True) -> int:
    """Open what is left, and give how much of it is missing."""
    engine = engine_on(disk)
    found, wrong = intact(engine)
    with logged() as told:
        records = listed(engine)
    back = {key for key in found if key in kept.gone}
    assert all(kept.tickets[key] == data for key, data in found.items() if key not in back)
    back_records = records.keys() & kept.dropped
    assert all(kept.records[n] == one for n, one in records.items() if n not in kept.dropped)
    if back or back_records:  # what removed them is damaged
        assert may_return
        assert engine.report.lost or engine.report.cut_bytes or not is_told
    missing_records = len(kept.records) - len(records.keys() - back_records)
    missing = len(kept.tickets) - len(found.keys() - back)
    if missing > wrong or missing_records > sum("is not used" in line for line in told):
        assert engine.report.lost or engine.report.cut_bytes or not is_told
    missing += missing_records
    # It goes on: what is missing comes back from elsewhere, and no number is given twice.
    number = engine.put_record(record(777, "NEW"))
    assert number > kept.last_number
    assert sole(put(engine, run_of(900_000, data_for(1, 9000), frame_bytes=1458))) == Status.WRITTEN
    engine.sync()
    engine.close()
    engine = engine_on(disk)
    assert stored(engine, 900_000, 100) == split(900_000, data_for(1, 9000), 1458)
    again = engine.find_record("NEW")
    assert again is not None
    assert again.number == number
    after, _ = intact(engine)
    assert found.items() <= after.items() or may_return
    engine.close()
    return missing


@pytest.mark.parametrize("at_rest", [READS, ENCRYPTED], ids=["plain", "packed"])
def test_nothing_is_missing_without_damage(at_rest: AtRest) -> None:
    disk, kept = filled(at_rest=at_rest)
    assert len(segments_of(disk)) > 3
    assert check(disk, kept) == 0


@pytest.mark.parametrize("at_rest", [READS, ENCRYPTED], ids=["plain", "packed"])
def test_nothing_is_missing_without_indexes(at_rest: AtRest) -> None:
    disk, kept = filled(at_rest=at_rest)
    for path in segments_of(disk, ".idx"):
        disk.unlink(path)
    assert check(disk, kept) == 0


def test_an_index_is_made_again() -> None:
    disk, _ = filled()
    path = segments_of(disk, ".idx")[1]
    disk.unlink(path)
    engine = engine_on(disk)
    assert engine.report.indexed == engine.report.segments - 2
    engine.close()
    assert path in disk.files()
    engine = engine_on(disk)
    assert engine.report.indexed == engine.report.segments - 1


@pytest.mark.parametrize("damage", ["flip", "empty", "half", "noise", "other"])
def test_a_damaged_index_costs_nothing(damage: str) -> None:
    for at in range(3):
        disk, kept = filled()
        path = segments_of(disk, ".idx")[at]
        data = disk.read(path) or b""
        generator = random.Random(at)
        match damage:
            case "flip":
                for bit in (9, 8 * BLOCK_BYTES + 77, 8 * (len(data) - 1)):
                    disk.flip(path, bit)
            case "empty":
                disk.rot(path, b"")
            case "half":
                disk.rot(path, data[: len(data) // 2])
            case "noise":
                disk.rot(path, data[:BLOCK_BYTES] + generator.randbytes(len(data) - BLOCK_BYTES))
            case _:
                disk.rot(path, disk.read(segments_of(disk, ".idx")[at - 1]) or b"")
        assert check(disk, kept) == 0


def test_an_index_that_cannot_be_read_costs_nothing() -> None:
    disk, kept = filled()

    def hook(operation: str, path: str) -> None:
        if operation == "read" and path.endswith(".idx"):
            raise OSError(errno.EIO, "Input/output error")

    disk.before = hook
    assert check(disk, kept) == 0


def random_damage(generator: random.Random, data: bytes) -> bytes:
    damaged = bytearray(data)
    match generator.randrange(5):
        case 0:
            for _ in range(generator.choice((1, 1, 8))):
                bit = generator.randrange(8 * len(damaged))
                damaged[bit // 8] ^= 1 << bit % 8
        case 1:
            at = generator.randrange(0, len(damaged), BLOCK_BYTES)
            damaged[at : at + BLOCK_BYTES] = bytes(len(damaged[at : at + BLOCK_BYTES]))
        case 2:
            at = generator.randrange(len(damaged))
            noise = generator.randbytes(generator.choice((1, 80, 5000)))
            damaged[at : at + len(noise)] = noise[: len(damaged) - at]
        case 3:
            del damaged[generator.randrange(len(damaged)) :]
        case _:
            at = generator.randrange(0, len(damaged), 8)
            low = generator.randrange(0, len(damaged), 8)
            part = bytes(damaged[low : low + generator.choice((96, 4096, 9000))])
            damaged[at : at + len(part)] = part[: len(damaged) - at]
    return bytes(damaged)


@pytest.mark.parametrize("indexed", [True, False], ids=["indexed", "scanned"])
@pytest.mark.parametrize("closed", [True, False], ids=["closed", "killed"])
@pytest.mark.parametrize("at_rest", [READS, ENCRYPTED], ids=["plain", "packed"])
def test_a_damaged_segment(indexed: bool, closed: bool, at_rest: AtRest) -> None:
    for seed in range(ROUNDS):
        generator = random.Random(seed)
        disk, kept = filled(close=closed, at_rest=at_rest)
        path = generator.choice(segments_of(disk))
        if not indexed:
            for name in segments_of(disk, ".idx"):
                disk.unlink(name)
        newest = path == segments_of(disk)[-1]
        disk.rot(path, random_damage(generator, disk.read(path) or b""))
        try:
            # What was written last, and not noted at an orderly end, may have been torn.
            is_told = closed or not newest
            if not is_told:
                kept.last_number = 0
            check(disk, kept, may_return=True, is_told=is_told)
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise


@pytest.mark.parametrize("which", [0, 2, -1])
def test_a_segment_that_is_gone(which: int) -> None:
    disk, kept = filled()
    path = segments_of(disk)[which]
    disk.unlink(path)
    engine = engine_on(disk)
    assert bool(engine.report.lost) == (which == -1)
    engine.close()
    found = 0
    if which == -1:
        found = check(disk, kept, may_return=True)
        assert found
    else:
        engine = engine_on(disk)
        tickets, wrong = intact(engine)
        assert not wrong
        assert 0 < len(tickets) < len(kept.tickets)
        assert engine.put_record(record(777)) > kept.last_number


@pytest.mark.parametrize("indexed", [True, False], ids=["indexed", "scanned"])
def test_a_segment_that_cannot_be_read_for_a_while(indexed: bool) -> None:
    """It is as it was at the next start: nothing is taken for empty, no number came twice."""
    for which in (0, 2, -1):
        disk, kept = filled()
        path = segments_of(disk)[which]
        if not indexed:
            for name in segments_of(disk, ".idx"):
                disk.unlink(name)

        def hook(operation: str, name: str, path: str = path) -> None:
            if operation == "read" and name == path:
                raise OSError(errno.EIO, "Input/output error")

        disk.before = hook
        engine = engine_on(disk)
        assert engine.report.lost
        found, _ = intact(engine)
        assert all(key in kept.gone or kept.tickets[key] == data for key, data in found.items())
        number = engine.put_record(record(777, "NEW"))
        assert number > kept.last_number
        put(engine, run_of(900_000, bytes(8)))
        engine.sync()
        engine.close()
        disk.before = lambda operation, name: None
        kept.records[number] = record(777, "NEW")
        kept.tickets[False, 900_000] = bytes(8)
        kept.last_number = number
        engine = engine_on(disk)
        assert listed(engine) == kept.records
        found, wrong = intact(engine)
        found |= {(False, t): d for t, d in stored(engine, 900_000, 10).items()}
        assert found == kept.tickets
        assert not wrong


def test_an_old_segment_under_a_new_number_is_not_believed() -> None:
    disk, kept = filled()
    paths = segments_of(disk)
    data = disk.read(paths[1]) or b""
    number = int(paths[-1].split("/")[1][:16], 16) + 1
    disk.blocks(f"segments/{number:016x}.seg", SEGMENT_BYTES)
    disk.rot(f"segments/{number:016x}.seg", data)
    engine = engine_on(disk)
    assert listed(engine) == kept.records
    found, wrong = intact(engine)
    assert found == kept.tickets
    assert not wrong
    engine.close()
    assert check(disk, kept) == 0


def test_an_old_segment_in_the_place_of_another_is_not_believed() -> None:
    for source, target in ((0, 2), (2, 0), (1, -1)):
        disk, kept = filled()
        paths = segments_of(disk)
        for name in segments_of(disk, ".idx"):
            disk.unlink(name)
        disk.rot(paths[target], disk.read(paths[source]) or b"")
        engine = engine_on(disk)
        assert engine.report.lost
        engine.close()
        assert check(disk, kept, may_return=True) > 0


def test_a_stale_tail_is_not_believed() -> None:
    """A segment that is used again still holds the records of its former life."""
    disk, kept = filled()
    paths = segments_of(disk)
    old, newest = disk.read(paths[0]) or b"", disk.read(paths[-1]) or b""
    end = len(newest.rstrip(b"\0")) // BLOCK_BYTES * BLOCK_BYTES + BLOCK_BYTES
    disk.rot(paths[-1], newest[:end] + old[end:])
    assert check(disk, kept) == 0


@pytest.mark.parametrize(
    "change",
    [lambda data: b"", lambda data: data[:60], lambda data: bytes(len(data)), None],
    ids=["empty", "cut", "zeros", "gone"],
)
def test_a_lost_state_is_taken_from_the_segments(change: Callable[[bytes], bytes] | None) -> None:
    disk, kept = filled()
    if change is None:
        disk.unlink("segments/state")
    else:
        disk.rot("segments/state", change(disk.read("segments/state") or b""))
    engine = engine_on(disk)
    assert "ceilings" in engine.report.lost[0]
    engine.close()
    assert check(disk, kept) == 0


def test_a_lost_state_takes_the_first_segment_that_is_readable() -> None:
    disk, kept = filled()
    disk.flip("segments/state", 99)
    for path in segments_of(disk)[2:]:
        disk.flip(path, 99)
    assert check(disk, kept) == 0


def test_without_any_head_the_start_is_refused() -> None:
    disk, _ = filled()
    disk.flip("segments/state", 99)
    for path in segments_of(disk):
        disk.flip(path, 99)
    before = {path: disk.read(path) for path in disk.files()}
    with pytest.raises(StorageError, match="damaged") as caught:
        engine_on(disk)
    assert caught.value.hint
    assert {path: disk.read(path) for path in disk.files()} == before


def test_files_of_others_are_left_alone() -> None:
    disk, kept = filled()
    names = ["copy.seg", "lost+found.idx", "spare-", "spare-x", "0.seg", "README"]
    for name in names:
        disk.close_files([disk.create(f"segments/{name}", b"mine")])
    assert check(disk, kept) == 0
    assert set(names) <= set(disk.names("segments"))


def test_a_damaged_removal_is_told() -> None:
    disk = MemoryDisk()
    engine = engine_on(disk)
    put(engine, run_of(0, data_for(0, 80)))
    engine.sync()
    engine.free([(0, 3)])
    engine.sync()
    put(engine, run_of(50, data_for(50, 80)))
    engine.close()
    (path,) = segments_of(disk)
    disk.flip(path, 8 * (2 * BLOCK_BYTES + 80))
    engine = engine_on(disk)
    assert "removal" in engine.report.lost[0]
    assert len(stored(engine, 0, 100)) == 20


def test_errors_of_reads_are_ours() -> None:
    disk, _ = filled()
    engine = engine_on(disk)

    def hook(operation: str, path: str) -> None:
        if operation == "read":
            raise OSError(errno.EIO, "Input/output error")

    disk.before = hook
    with pytest.raises(StorageError):
        list(engine.read(0, ALL))
    with pytest.raises(StorageError):
        engine.stat(6000)
    with pytest.raises(StorageError):
        engine.records(0, 10)
    statuses = put(engine, run_of(0, data_for(0, 300), frame_bytes=64, object_id="O0"))
    assert set(statuses) <= {Status.IO_ERROR}
    disk.before = lambda operation, path: None
    assert sole(put(engine, run_of(0, data_for(0, 300), frame_bytes=64))) == Status.WRITTEN
    engine.sync()


@pytest.mark.parametrize("close", [True, False])
def test_any_file_may_be_anything(close: bool) -> None:
    """Two damages at once: nothing but our errors, whatever is left."""
    for seed in range(ROUNDS):
        generator = random.Random(seed)
        disk, kept = filled(close=close)
        for path in generator.sample(disk.files(), 2):
            disk.rot(path, random_damage(generator, disk.read(path) or b"x"))
        try:
            engine = engine_on(disk)
            found, _ = intact(engine)
            for key, data in found.items():
                assert key in kept.gone or kept.tickets[key] == data
            listed(engine)
            engine.tend(1 << 20)
            engine.close()
        except PutterError:
            pass
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
