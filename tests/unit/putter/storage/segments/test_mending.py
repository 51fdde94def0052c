"""What a running node makes again: indexes from their segments, the state from memory."""

from __future__ import annotations

import errno
import os
import random
from contextlib import suppress

import pytest

from common.errors import PutterError
from common.limits import KIB
from common.meta.interface import Ceilings
from putter.storage.damage import Damage
from putter.storage.marked import MarkedEngine
from putter.storage.memory_disk import CHANGES, MemoryDisk
from putter.storage.notes import MemoryNotes
from putter.storage.scrub import Finding, Part
from putter.storage.segments.engine import SegmentsEngine
from putter.storage.segments.sealed_index import SealedIndex
from tests.storage_kit import (
    CHECK,
    bad_tickets,
    data_for,
    numbers,
    record,
    run_of,
    split,
    stored,
    verify,
)

SEGMENT_BYTES = 32 * KIB
ALL = 10_000


def engine_on(disk: MemoryDisk) -> SegmentsEngine:
    return SegmentsEngine(disk, segment_bytes=SEGMENT_BYTES, verify=verify)


@pytest.fixture
def disk() -> MemoryDisk:
    return MemoryDisk()


def filled(disk: MemoryDisk) -> SegmentsEngine:
    """Objects O0 … O11 of 10 tickets of 1 KiB in several segments; some of it is gone again."""
    engine = engine_on(disk)
    for step in range(12):
        engine.put(
            run_of(100 * step, data_for(step, 10 * KIB), frame_bytes=KIB, object_id=f"O{step}")
        )
        engine.put(run_of(100 * step, data_for(step, 300), frame_bytes=60), raw=True)
        engine.put_record(record(step + 1, f"O{step}"))
        engine.sync()
    engine.free([(3, 2), (200, 4), (500, 10)])
    engine.free([(100, 1)], raw=True)
    engine.drop_records(["O1", "O4"])
    engine.sync()
    return engine


@pytest.fixture
def engine(disk: MemoryDisk) -> SegmentsEngine:
    return filled(disk)


def marked_of(engine: SegmentsEngine) -> MarkedEngine:
    return MarkedEngine(engine, MemoryNotes(), Damage(), CHECK)


@pytest.fixture
def marked(engine: SegmentsEngine) -> MarkedEngine:
    return marked_of(engine)


def sealed(engine: SegmentsEngine) -> list[int]:
    segments = engine._catalog.segments.values()
    return [each.number for each in segments if isinstance(each.index, SealedIndex)]


def spoil_index(disk: MemoryDisk, number: int, at: int = 4100) -> None:
    disk.flip(f"segments/{number:016x}.idx", 8 * at)


def whole_pass(marked: MarkedEngine) -> list[Finding]:
    """A pass as a node makes it: what each piece finds is mended or marked before the next."""
    found: list[Finding] = []
    cursor = ""
    for _ in range(1000):
        piece = marked.scrub(cursor, 1 << 20, CHECK)
        found += marked.mark(piece.findings)
        cursor = piece.cursor
        if not cursor:
            return found
    raise AssertionError("a pass without an end")


def seen(engine: SegmentsEngine) -> tuple[object, ...]:
    live = {each.number: each.index.live_bytes for each in engine._catalog.segments.values()}
    tickets = [stored(engine, 0, ALL, raw=raw) for raw in (False, True)]
    found = [engine.find_record(f"O{step}") for step in range(12)]
    return tickets, numbers(engine), found, live


# -- indexes -------------------------------------------------------------------------------


@pytest.mark.parametrize("harm", ["body", "head", "empty", "gone", "other"])
def test_a_damaged_index_is_made_again_while_the_node_runs(
    disk: MemoryDisk, marked: MarkedEngine, engine: SegmentsEngine, harm: str
) -> None:
    before = seen(engine)
    for number in sealed(engine):
        path = f"segments/{number:016x}.idx"
        match harm:
            case "body" | "head":
                spoil_index(disk, number, 4100 if harm == "body" else 30)
            case "empty":
                disk.rot(path, b"")
            case "gone":
                disk.unlink(path)
            case _:
                other = sealed(engine)[number == sealed(engine)[0]]
                disk.rot(path, disk.read(f"segments/{other:016x}.idx") or b"")
        (found,) = whole_pass(marked)
        assert (found.part, found.place, found.mended) == (Part.INDEX, path, True)
        assert seen(engine) == before
        assert marked.damage.others == 0
    assert whole_pass(marked) == []
    engine.close()
    again = engine_on(disk)
    assert again.report.indexed == len(sealed(again))
    assert seen(again) == before


def test_the_pass_goes_on_in_the_segment_whose_index_was_made_again(
    disk: MemoryDisk, engine: SegmentsEngine, marked: MarkedEngine
) -> None:
    (place,) = engine._catalog.places(303, 304, raw=False, limit=1)
    disk.flip(f"segments/{place.segment:016x}.seg", 8 * (place.body + 100))
    spoil_index(disk, place.segment)
    found = whole_pass(marked)
    assert [(each.part, each.mended) for each in found] == [
        (Part.INDEX, True),
        (Part.TICKETS, False),
    ]
    assert bad_tickets(found) == {303}


def test_what_was_removed_and_not_synced_stays_away(
    disk: MemoryDisk, engine: SegmentsEngine, marked: MarkedEngine
) -> None:
    engine.free([(0, 1), (300, 10)])
    engine.drop_records(["O0"])
    before = seen(engine)
    for number in sealed(engine):
        spoil_index(disk, number)
    assert all(each.mended for each in whole_pass(marked))
    assert seen(engine) == before


def test_originals_that_compaction_copied_do_not_come_back(
    disk: MemoryDisk, engine: SegmentsEngine, marked: MarkedEngine
) -> None:
    engine.free([(0, 9), (100, 5)])
    engine.sync()
    for _ in range(3):  # not to its end
        engine.tend(1)
        engine.sync()
    victim = engine._compactor._victim
    assert victim is not None
    before = seen(engine)
    spoil_index(disk, victim.segment.number)
    assert [each.part for each in whole_pass(marked)] == [Part.INDEX]
    assert seen(engine) == before
    for _ in range(100):
        engine.tend(1 << 20)
        engine.sync()
    assert victim.segment.number not in engine._catalog.segments
    assert seen(engine)[:3] == before[:3]


def test_copies_that_are_not_durable_do_not_count_yet(
    disk: MemoryDisk, engine: SegmentsEngine, marked: MarkedEngine
) -> None:
    engine.free([(0, 9), (100, 5)])
    engine.sync()
    before = seen(engine)[:3]
    assert engine.tend(1 << 20).copied_bytes
    victim = engine._compactor._victim
    assert victim is not None
    spoil_index(disk, victim.segment.number)
    assert [each.mended for each in whole_pass(marked)] == [True]

    def refuse(operation: str, path: str) -> None:
        if operation in ("write", "sync"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    disk.before = refuse
    with suppress(PutterError):
        engine.sync()
    disk.before = lambda *_: None
    engine.sync()
    assert seen(engine)[:3] == before


def test_an_index_that_cannot_be_written_is_marked_and_made_later(
    disk: MemoryDisk, engine: SegmentsEngine, marked: MarkedEngine
) -> None:
    number = sealed(engine)[0]
    spoil_index(disk, number)

    def full(operation: str, path: str) -> None:
        if operation == "create":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    disk.before = full
    marked.pass_number = 1
    (found,) = whole_pass(marked)
    assert (found.part, found.mended) == (Part.INDEX, False)
    assert marked.damage.others == 1
    disk.before = lambda *_: None
    marked.pass_number = 2
    assert [each.mended for each in whole_pass(marked)] == [True]
    marked.damage.sweep(2)
    assert marked.damage.others == 0


def test_the_index_of_a_segment_that_is_gone_is_nothing_to_mend(engine: SegmentsEngine) -> None:
    finding = Finding(Part.INDEX, 0, 0, "", "segments/00000000000000ff.idx", "it is damaged")
    assert engine.mend(finding)


def test_what_the_segment_lost_is_lost_from_the_index_and_told(
    disk: MemoryDisk,
    engine: SegmentsEngine,
    marked: MarkedEngine,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (place,) = engine._catalog.places(300, 301, raw=False, limit=1)
    disk.flip(f"segments/{place.segment:016x}.seg", 8 * (place.record + 20))
    spoil_index(disk, place.segment)
    assert Part.INDEX in [each.part for each in whole_pass(marked)]
    assert "the records there are lost here" in caplog.text
    assert stored(engine, 300, 10) == {}
    assert stored(engine, 400, 10) == split(400, data_for(4, 10 * KIB), KIB)


def changes_of_mending() -> int:
    count = 0

    def hook(operation: str, path: str) -> None:
        nonlocal count
        count += operation in CHANGES

    disk = MemoryDisk()
    engine = filled(disk)
    spoil_index(disk, 1)
    disk.before = hook
    assert whole_pass(marked_of(engine))
    return count


class PowerLossError(Exception):
    """The process ends here."""


def test_power_may_go_at_every_change_of_the_mending() -> None:
    total = changes_of_mending()
    assert total >= 4
    for last in range(total):
        disk = MemoryDisk()
        engine = filled(disk)
        before = seen(engine)
        spoil_index(disk, 1)
        left = last

        def hook(operation: str, path: str) -> None:
            nonlocal left
            if operation in CHANGES:
                left -= 1
                if left < 0:
                    raise PowerLossError

        disk.before = hook
        with pytest.raises(PowerLossError):
            whole_pass(marked_of(engine))
        disk.before = lambda *_: None
        disk.crash(random.Random(last))
        again = engine_on(disk)
        assert seen(again) == before, f"change {last}"
        assert again.report.lost == []


# -- the state -----------------------------------------------------------------------------


def test_a_damaged_state_is_written_again(
    disk: MemoryDisk, engine: SegmentsEngine, marked: MarkedEngine
) -> None:
    engine.raise_ceilings(Ceilings(5000, 60, 700))
    disk.flip("segments/state", 100)
    assert [(each.part, each.mended) for each in whole_pass(marked)] == [(Part.STATE, True)]
    assert whole_pass(marked) == []
    disk.crash(random.Random(1))
    again = engine_on(disk)
    assert again.report.lost == []
    assert again.raise_ceilings(Ceilings()) == Ceilings(5000, 60, 700)


def test_a_pass_reads_the_segment_before_the_thread_that_writes_is_asked(
    disk: MemoryDisk, engine: SegmentsEngine
) -> None:
    spoil_index(disk, 1)
    (finding,) = engine.scrub("", 1, CHECK).findings
    asked: list[str] = []
    disk.before = lambda operation, path: asked.append(f"{operation} {path}")
    assert engine.mend(finding)
    assert [each for each in asked if each.startswith("read ") and each.endswith(".seg")] == []
    assert any(each.startswith("create ") for each in asked)
