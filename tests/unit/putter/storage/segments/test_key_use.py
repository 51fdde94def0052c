"""Data keys of a running store: both files verified in each pass, unused keys removed."""

from __future__ import annotations

import logging

import pytest

from common.keys import ClusterKey, Keyring
from common.limits import KIB
from putter.storage.damage import Damage
from putter.storage.envelope import COPY, MAIN, open_data_keys
from putter.storage.marked import MarkedEngine
from putter.storage.memory_disk import MemoryDisk
from putter.storage.notes import MemoryNotes
from putter.storage.scrub import Finding, Part
from putter.storage.segments.engine import SegmentsEngine
from putter.storage.segments.packing import AtRest
from putter.storage.segments.sealed_index import SealedIndex
from tests.storage_kit import CHECK, data_for, numbers, record, run_of, split, stored, verify

SEGMENT_BYTES = 32 * KIB
OLD, NEW = (ClusterKey.from_material(bytes([each]) * 32) for each in (1, 2))
FRAME_BYTES = 500


def engine_on(disk: MemoryDisk, *keys: ClusterKey) -> SegmentsEngine:
    """A node that encrypts, under the first of these cluster keys."""
    found = open_data_keys(disk, "0123456789ab", Keyring(list(keys)), encrypt=True, expected=False)
    assert found is not None
    at_rest = AtRest(writing=found.writing, keys=found.keys, block_bytes=1000)
    return SegmentsEngine(
        disk, segment_bytes=SEGMENT_BYTES, verify=verify, at_rest=at_rest, key_files=found.files
    )


def write(engine: SegmentsEngine, step: int, size: int = 9_000) -> None:
    name = f"O{step}"
    run = run_of(100 * step, data_for(step, size), frame_bytes=FRAME_BYTES, object_id=name)
    engine.put(run)
    engine.put_record(record(step + 1, name))
    engine.sync()


def whole_pass(engine: SegmentsEngine, cursor: str = "") -> list[Finding]:
    marked = MarkedEngine(engine, MemoryNotes(), Damage(), CHECK)
    found: list[Finding] = []
    for _ in range(1000):
        piece = marked.scrub(cursor, 16 * KIB, CHECK)
        found += marked.mark(piece.findings)
        cursor = piece.cursor
        if not cursor:
            return found
    raise AssertionError("a pass without an end")


def keys_of(engine: SegmentsEngine) -> int:
    """How many old data keys are kept."""
    files = engine._scrub._keys.files
    assert files is not None
    return len(files.old_ids)


def compact(engine: SegmentsEngine) -> None:
    for _ in range(60):
        engine.tend(1 << 20)
        engine.sync()


@pytest.fixture
def disk() -> MemoryDisk:
    """Objects O0 … O5 under the old key, O6 … O8 under the new one."""
    disk = MemoryDisk()
    engine = engine_on(disk, OLD)
    for step in range(6):
        write(engine, step)
    engine.close()
    engine = engine_on(disk, NEW, OLD)
    for step in range(6, 9):
        write(engine, step)
    engine.close()
    return disk


@pytest.mark.parametrize("path", [MAIN, COPY])
def test_a_damaged_file_is_found_by_a_pass_and_made_again(disk: MemoryDisk, path: str) -> None:
    engine = engine_on(disk, NEW)
    before = disk.read(path)
    disk.flip(path, 300)
    (found,) = whole_pass(engine)
    assert (found.part, found.place, found.mended) == (Part.KEYS, path, True)
    assert disk.read(path) == before
    assert whole_pass(engine) == []


def test_a_key_that_records_name_stays(disk: MemoryDisk) -> None:
    engine = engine_on(disk, NEW)
    assert keys_of(engine) == 1
    assert whole_pass(engine) == []
    assert keys_of(engine) == 1
    assert stored(engine, 0, 100) == split(0, data_for(0, 9_000), FRAME_BYTES)


def test_removed_records_that_still_stand_there_keep_their_key(disk: MemoryDisk) -> None:
    engine = engine_on(disk, NEW)
    engine.free([(0, 600)])
    engine.drop_records([f"O{step}" for step in range(6)])
    engine.sync()
    assert whole_pass(engine) == []
    assert keys_of(engine) == 1


def test_the_key_goes_once_compaction_took_its_last_record_away(
    disk: MemoryDisk, caplog: pytest.LogCaptureFixture
) -> None:
    engine = engine_on(disk, NEW)
    engine.free([(step * 100 + 2, 98) for step in range(6)])
    engine.drop_records(["O1"])
    engine.sync()
    compact(engine)
    with caplog.at_level(logging.INFO):
        assert whole_pass(engine) == []
    assert keys_of(engine) == 0
    assert "no record names it any more" in caplog.text
    for again in (engine, engine_on(disk, NEW)):
        assert keys_of(again) == 0
        for step in range(9):
            expected = split(100 * step, data_for(step, 9_000), FRAME_BYTES)
            if step < 6:
                expected = {key: each for key, each in expected.items() if key < 100 * step + 2}
            assert stored(again, 100 * step, 100) == expected
        assert numbers(again) == [1, 3, 4, 5, 6, 7, 8, 9]
        assert whole_pass(again) == []


def unused(disk: MemoryDisk) -> SegmentsEngine:
    """A store whose old key no record names any more."""
    engine = engine_on(disk, NEW)
    engine.free([(0, 600)])
    engine.drop_records([f"O{step}" for step in range(6)])
    engine.sync()
    compact(engine)
    return engine


def test_a_pass_that_another_process_began_removes_nothing(disk: MemoryDisk) -> None:
    engine = unused(disk)
    cursor = engine.scrub("", 1, CHECK).cursor
    assert cursor
    engine.close()
    engine = engine_on(disk, NEW)
    assert whole_pass(engine, cursor) == []
    assert keys_of(engine) == 1
    assert whole_pass(engine) == []
    assert keys_of(engine) == 0


@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
def test_damage_in_a_segment_keeps_all_keys(disk: MemoryDisk, last: bool) -> None:
    """Where no header can be read, a record may have stood that names the key."""
    engine = unused(disk)
    segment = engine._catalog.segments[min(engine._catalog.segments)]
    assert isinstance(segment.index, SealedIndex)
    runs = [(each.record, each.length) for each in segment.index.all_runs(raw=False)]
    records = [(each.record, each.length) for each in segment.index.after(0, 100)]
    at, length = max(runs + records) if last else min(runs + records)
    assert (at + length == segment.end) == last
    disk.flip(f"segments/{segment.number:016x}.seg", 8 * (at + 20))
    assert whole_pass(engine) != []
    assert keys_of(engine) == 1


def test_a_segment_that_the_node_could_not_open_keeps_all_keys(disk: MemoryDisk) -> None:
    engine = unused(disk)
    number = min(engine._catalog.segments)
    del engine._catalog.segments[number]
    engine._catalog.changed()
    assert whole_pass(engine) == []
    assert keys_of(engine) == 1


def test_a_record_that_was_copied_as_it_was_keeps_its_key(disk: MemoryDisk) -> None:
    engine = unused(disk)
    (old,) = engine._scrub._keys.files.old_ids  # type: ignore[union-attr]
    engine._compactor.copied_keys.add(old)
    whole_pass(engine)
    assert keys_of(engine) == 1


def test_compaction_notes_the_key_of_what_it_copies_as_it_is() -> None:
    disk = MemoryDisk()
    engine = engine_on(disk, OLD)
    write(engine, 0, 20_000)
    engine.close()
    plain = AtRest()  # without the data keys, so that the commit record cannot be read
    engine = SegmentsEngine(disk, segment_bytes=SEGMENT_BYTES, verify=verify, at_rest=plain)
    write(engine, 2, 20_000)
    engine.free([(0, 100)])
    engine.sync()
    compact(engine)
    assert 1 not in engine._catalog.segments
    (key,) = engine._compactor.copied_keys
    found = open_data_keys(disk, "0123456789ab", Keyring([OLD]), encrypt=False, expected=True)
    assert found is not None
    assert key == found.writing


def test_a_disk_that_refuses_leaves_the_keys(disk: MemoryDisk) -> None:
    engine = unused(disk)

    def refuse(operation: str, path: str) -> None:
        if operation == "create":
            raise OSError(28, "No space left on device")

    disk.before = refuse
    assert whole_pass(engine) == []
    disk.before = lambda *_: None
    assert keys_of(engine) == 1
    assert whole_pass(engine) == []
    assert keys_of(engine) == 0
