"""Verifying segments: every kind of damage, and what compaction does meanwhile."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from common.checksum import Buffer
from common.limits import KIB
from common.tickets import object_id_of, object_key
from common.wire.frames import Statuses
from common.wire.status import Status
from putter.storage.damage import Damage
from putter.storage.marked import MarkedEngine
from putter.storage.memory_disk import MemoryDisk
from putter.storage.notes import MemoryNotes
from putter.storage.scrub import Part
from putter.storage.segments.engine import SegmentsEngine
from putter.storage.segments.places import Place
from tests.storage_kit import (
    CHECK,
    bad_tickets,
    data_for,
    put,
    record,
    run_of,
    scrubbed,
    sole,
    split,
    stored,
    verify,
)

SEGMENT_BYTES = 32 * KIB


def engine_on(disk: MemoryDisk) -> SegmentsEngine:
    return SegmentsEngine(disk, segment_bytes=SEGMENT_BYTES, verify=verify)


@pytest.fixture
def disk() -> MemoryDisk:
    return MemoryDisk()


@pytest.fixture
def engine(disk: MemoryDisk) -> SegmentsEngine:
    """Objects O0 … O11 of 10 tickets of 1 KiB, which fill several segments."""
    engine = engine_on(disk)
    for step in range(12):
        data = data_for(step, 10 * KIB)
        engine.put(run_of(100 * step, data, frame_bytes=KIB, object_id=f"O{step}"))
        engine.put_record(record(step + 1, f"O{step}"))
        engine.sync()
    assert len(engine._catalog.segments) > 4
    return engine


def place_of(engine: SegmentsEngine, ticket: int) -> Place:
    (place,) = engine._catalog.places(ticket, ticket + 1, raw=False, limit=1)
    return place


def flip(disk: MemoryDisk, segment: int, at: int) -> None:
    disk.flip(f"segments/{segment:016x}.seg", 8 * at)


def tend(engine: SegmentsEngine | MarkedEngine) -> None:
    """Compact all that can be."""
    for _ in range(200):
        done = engine.tend(1 << 20)
        engine.sync()
        if not done.more:
            return


# -- kinds of damage -----------------------------------------------------------------------


def test_damaged_frames_are_told_with_object_and_place(
    disk: MemoryDisk, engine: SegmentsEngine
) -> None:
    place = place_of(engine, 203)
    flip(disk, place.segment, place.body + 100)
    (found,) = scrubbed(engine)[0]
    assert (found.part, found.first, found.count) == (Part.TICKETS, 203, 1)
    assert found.object_id == "O2"
    assert found.place == f"segments/{place.segment:016x}.seg, byte {place.record}"


def test_a_damaged_header_leaves_its_frames_readable(
    disk: MemoryDisk, engine: SegmentsEngine
) -> None:
    place = place_of(engine, 200)
    flip(disk, place.segment, place.record + 50)
    (found,) = scrubbed(engine)[0]
    assert (found.part, found.first, found.count) == (Part.HEADER, 200, 10)
    assert found.object_id == "O2", "the index knows it, too"
    assert stored(engine, 200, 10) == split(200, data_for(2, 10 * KIB), KIB)


def test_a_header_and_some_frames(disk: MemoryDisk, engine: SegmentsEngine) -> None:
    place = place_of(engine, 200)
    flip(disk, place.segment, place.record + 50)
    flip(disk, place.segment, place.body + 4 * (KIB + 16) + 20)
    found = scrubbed(engine)[0]
    assert [(each.part, each.first, each.count) for each in found] == [
        (Part.TICKETS, 204, 1),
        (Part.HEADER, 200, 4),
        (Part.HEADER, 205, 5),
    ]


def test_damage_in_bytes_that_are_freed_is_none(disk: MemoryDisk, engine: SegmentsEngine) -> None:
    place = place_of(engine, 203)
    flip(disk, place.segment, place.body + 100)
    engine.free([(203, 1)])
    engine.sync()
    assert scrubbed(engine)[0] == []


def test_a_damaged_commit_record(disk: MemoryDisk, engine: SegmentsEngine) -> None:
    place = engine._catalog.record(3)
    assert place is not None
    flip(disk, place.segment, place.record + place.length - 9)
    (found,) = scrubbed(engine)[0]
    assert (found.part, found.first, found.object_id) == (Part.RECORD, 3, "O2")


def test_a_damaged_removal(disk: MemoryDisk, engine: SegmentsEngine) -> None:
    engine.free([(0, 2)])
    engine.drop_records(["O1"])
    engine.sync()
    newest = max(engine._catalog.segments)
    freed, dropped = engine._catalog.segments[newest].index.removals
    for removal, offset in ((freed, 80), (dropped, 20)):
        flip(disk, newest, removal.record + offset)
        (found,) = scrubbed(engine)[0]
        assert found.part is Part.REMOVAL
        assert found.place.endswith(f"byte {removal.record}")
        flip(disk, newest, removal.record + offset)
    assert scrubbed(engine)[0] == []


def test_a_damaged_first_block(disk: MemoryDisk, engine: SegmentsEngine) -> None:
    for number in (1, max(engine._catalog.segments)):
        flip(disk, number, 70)
        (found,) = scrubbed(engine)[0]
        assert (found.part, found.place) == (
            Part.SEGMENT,
            f"segments/{number:016x}.seg, byte 0",
        )
        flip(disk, number, 70)


@pytest.mark.parametrize("harm", ["flip", "empty", "gone", "other"])
def test_a_damaged_index(disk: MemoryDisk, engine: SegmentsEngine, harm: str) -> None:
    path = f"segments/{2:016x}.idx"
    match harm:
        case "flip":
            disk.flip(path, 8 * 4100)
        case "empty":
            disk.rot(path, b"")
        case "gone":
            disk.unlink(path)
        case _:
            disk.rot(path, disk.read(f"segments/{1:016x}.idx") or b"")
    (found,) = scrubbed(engine)[0]
    assert (found.part, found.place) == (Part.INDEX, path)
    engine.close()
    assert scrubbed(engine_on(disk))[0] == [], "it was made again"


def test_what_a_damaged_index_hides_is_looked_at_once_it_was_made_again(
    disk: MemoryDisk, engine: SegmentsEngine
) -> None:
    place = place_of(engine, 203)
    flip(disk, place.segment, place.body + 100)
    disk.flip(f"segments/{place.segment:016x}.idx", 8 * 4100)
    assert [each.part for each in scrubbed(engine)[0]] == [Part.INDEX]
    engine.close()
    assert [each.first for each in scrubbed(engine_on(disk))[0]] == [203]


@pytest.mark.parametrize("harm", ["flip", "gone"])
def test_a_damaged_state(disk: MemoryDisk, engine: SegmentsEngine, harm: str) -> None:
    if harm == "flip":
        disk.flip("segments/state", 100)
    else:
        disk.unlink("segments/state")
    (found,) = scrubbed(engine)[0]
    assert (found.part, found.place) == (Part.STATE, "segments/state")


def test_what_cannot_be_read_is_damage(disk: MemoryDisk, engine: SegmentsEngine) -> None:
    number = place_of(engine, 200).segment

    def refuse(operation: str, path: str) -> None:
        if operation == "read" and f"{number:016x}.{suffix}" in path:
            raise OSError(errno.EIO, "Input/output error")

    suffix = "seg"
    disk.before = refuse
    found = scrubbed(engine)[0]
    assert {each.part for each in found} == {Part.TICKETS, Part.RECORD, Part.SEGMENT}
    assert 200 in bad_tickets(found)
    assert all("Input/output error" in each.reason for each in found)
    suffix = "idx"
    found = scrubbed(engine)[0]
    assert {each.part for each in found} == {Part.INDEX}
    assert all("Input/output error" in each.reason for each in found)
    disk.before = lambda *_: None
    assert scrubbed(engine)[0] == []


@pytest.mark.parametrize("owner", ["2K", "0", "ZZZZ", "no id of ours", ""])
def test_objects_by_their_keys(owner: str) -> None:
    known = owner if not owner.startswith("no") else ""
    assert object_id_of(object_key(owner)) == known


# -- while other things happen -------------------------------------------------------------


def test_what_was_not_synced_is_verified_in_memory(engine: SegmentsEngine) -> None:
    engine.put(run_of(50_000, bytes(100)))
    assert scrubbed(engine)[0] == []


def test_a_pass_ends_although_ever_more_is_written(engine: SegmentsEngine) -> None:
    cursor, pieces = "", 0
    while not pieces or cursor:
        piece = engine.scrub(cursor, 4 * KIB, CHECK)
        cursor, pieces = piece.cursor, pieces + 1
        engine.put(run_of(10_000 + 100 * pieces, bytes(10 * KIB), frame_bytes=KIB))
        engine.sync()
        assert pieces < 100
    assert pieces > 10


def test_a_pass_goes_on_where_compaction_takes_its_segment_away(
    disk: MemoryDisk, engine: SegmentsEngine
) -> None:
    place = place_of(engine, 903)
    flip(disk, place.segment, place.body + 100)
    cursor = engine.scrub("", 1, CHECK).cursor
    assert cursor.split(".")[1] == "1"
    engine.free([(step * 100, 9) for step in range(8)])
    engine.sync()
    tend(engine)
    assert 1 not in engine._catalog.segments
    found, _ = scrubbed(engine, 1, cursor=cursor)
    assert bad_tickets(found) == {903}


def test_a_segment_that_is_looked_at_is_not_taken_away(engine: SegmentsEngine) -> None:
    engine.free([(step * 100, 10) for step in range(8)])
    engine.drop_records([f"O{step}" for step in range(8)])
    engine.sync()
    with engine._reader.pinned(1) as there:
        assert there
        tend(engine)
        assert 1 in engine._catalog.segments
    tend(engine)
    assert 1 not in engine._catalog.segments


# -- what compaction finds -----------------------------------------------------------------


@pytest.fixture
def marked(engine: SegmentsEngine) -> MarkedEngine:
    return MarkedEngine(engine, MemoryNotes(), Damage(), CHECK)


def spoil(disk: MemoryDisk, engine: SegmentsEngine, ticket: int) -> int:
    """Damage a ticket; the number of its segment."""
    place = place_of(engine, ticket)
    low = place.body + (ticket - place.first) * (KIB + 16)
    flip(disk, place.segment, low + 20)
    return place.segment


def test_compaction_marks_what_is_damaged_and_loses_nothing_else(
    disk: MemoryDisk, engine: SegmentsEngine, marked: MarkedEngine
) -> None:
    number = spoil(disk, engine, 203)
    keep = {0: 1, 100: 1, 200: 5, 300: 1}
    for first, count in keep.items():
        marked.free([(first + count, 10 - count)])
    marked.sync()
    tend(marked)
    assert number in engine._catalog.segments
    assert [(mark.first, mark.end) for mark in marked.damage] == [(203, 204)]
    for first, count in keep.items():
        whole = split(first, data_for(first // 100, 10 * KIB), KIB)
        for ticket in range(first, first + count):
            if ticket != 203:
                assert stored(marked, ticket, 1) == {ticket: whole[ticket]}  # type: ignore[arg-type]


@pytest.mark.parametrize("heal", ["free", "put"])
def test_a_segment_that_was_kept_for_its_damage_goes_once_that_is_gone(
    disk: MemoryDisk, engine: SegmentsEngine, marked: MarkedEngine, heal: str
) -> None:
    number = spoil(disk, engine, 203)
    for first in range(0, 400, 100):
        marked.free([(first + 5, 5)] if first == 200 else [(first, 10)])
    marked.drop_records(["O0", "O1", "O3"])
    marked.sync()
    tend(marked)
    tend(marked)
    assert number in engine._catalog.segments
    if heal == "free":
        marked.free([(200, 5)])
    else:
        run = run_of(200, data_for(2, 10 * KIB)[: 5 * KIB], frame_bytes=KIB, object_id="O2")
        assert sole(put(marked, run)) == Status.WRITTEN  # type: ignore[arg-type]
    marked.sync()
    assert marked.damage.tickets == 0
    tend(marked)
    assert number not in engine._catalog.segments
    assert len(stored(marked, 200, 10)) == (0 if heal == "free" else 5)  # type: ignore[arg-type]
    assert scrubbed(engine)[0] == []


@pytest.mark.parametrize(
    ("harm", "part"),
    [
        (lambda engine: (engine._catalog.record(1), 85), Part.RECORD),
        (lambda engine: (place_of(engine, 0), 20), Part.HEADER),
    ],
)
def test_other_damage_that_compaction_finds_is_marked(
    disk: MemoryDisk,
    engine: SegmentsEngine,
    marked: MarkedEngine,
    harm: Callable[[SegmentsEngine], tuple[Place, int]],
    part: Part,
) -> None:
    marked.free([(1, 9), (100, 9), (200, 9)])
    marked.sync()
    place, offset = harm(engine)
    flip(disk, place.segment, place.record + offset)
    tend(marked)
    assert [mark.finding.part for mark in marked.damage] == [part]
    assert place.segment in engine._catalog.segments


# -- when something was looked at --------------------------------------------------------------


class Watching:
    """A check that notes the first ticket of each run that it is shown."""

    def __init__(self) -> None:
        self.shown: list[int] = []

    def frames(self, key_id: str, first: int, frame_bytes: int, rows: Buffer) -> Statuses | None:
        self.shown.append(first)
        return CHECK.frames(key_id, first, frame_bytes, rows)

    def record(self, body: bytes) -> bool:
        return CHECK.record(body)


def whole_pass(engine: SegmentsEngine, budget_bytes: int = 1) -> tuple[list[str], dict[int, int]]:
    """Where a pass stood after each piece, and in which piece a run was shown."""
    cursors: list[str] = []
    shown: dict[int, int] = {}
    cursor = ""
    while True:
        check = Watching()
        piece = engine.scrub(cursor, budget_bytes, check)
        shown |= dict.fromkeys(check.shown, len(cursors))
        cursor = piece.cursor
        cursors.append(cursor or piece.end)
        if not cursor:
            return cursors, shown


@pytest.mark.parametrize("budget_bytes", [1, 20 * KIB, 1 << 30])
def test_it_is_known_in_which_piece_a_run_was_looked_at(
    engine: SegmentsEngine, budget_bytes: int
) -> None:
    cursors, shown = whole_pass(engine, budget_bytes)
    assert len(shown) == 12
    for first, piece in shown.items():
        assert engine.looked_at(cursors, first, 10) == piece
        assert engine.looked_at(cursors[: piece + 1], first, 10) == piece
        assert engine.looked_at(cursors[:piece], first, 10) is None
    assert engine.looked_at(cursors, 0, 1200) == min(shown.values()), "the earliest of many"
    last = max(shown.values())
    assert engine.looked_at(cursors[:last], 0, 1200) is None, "not all of it"
    assert engine.looked_at(cursors, 50, 10) is None, "there is nothing"
    assert engine.looked_at([], 0, 10) is None


def test_what_came_since_the_pass_began_was_not_looked_at(engine: SegmentsEngine) -> None:
    first = engine.scrub("", 1, CHECK)
    engine.put(run_of(5000, data_for(1, KIB), frame_bytes=KIB, object_id="during"))
    engine.sync()
    cursor, end = first.cursor, ""
    while cursor:
        piece = engine.scrub(cursor, 1 << 30, CHECK)
        cursor, end = piece.cursor, piece.end
    engine.put(run_of(6000, data_for(2, KIB), frame_bytes=KIB, object_id="after"))
    engine.sync()
    assert engine.looked_at([end], 0, 10) == 0
    assert engine.looked_at([end], 5000, 1) is None
    assert engine.looked_at([end], 6000, 1) is None
    cursors, _ = whole_pass(engine)
    assert engine.looked_at(cursors, 5000, 1) is not None
    assert engine.looked_at(cursors, 6000, 1) is not None


def test_what_compaction_moved_waits_for_the_next_pass(engine: SegmentsEngine) -> None:
    cursors, _ = whole_pass(engine)
    assert engine.looked_at(cursors, 5, 5) is not None
    before = place_of(engine, 105)
    engine.free([(100 * step, 9) for step in range(12)])
    tend(engine)
    assert place_of(engine, 109).segment != before.segment
    newest = max(int(cursor.split(".")[0]) for cursor in cursors)
    for step in range(12):
        ticket = 100 * step + 9
        seen = engine.looked_at(cursors, ticket, 1) is not None
        assert seen == (place_of(engine, ticket).segment <= newest)
    again, _ = whole_pass(engine)
    assert all(engine.looked_at(again, 100 * step + 9, 1) is not None for step in range(12))


def test_it_is_known_after_a_restart(disk: MemoryDisk, engine: SegmentsEngine) -> None:
    cursors, shown = whole_pass(engine)
    engine.close()
    reopened = engine_on(disk)
    reopened.put(run_of(7000, data_for(3, KIB), frame_bytes=KIB, object_id="later"))
    reopened.sync()
    assert {first: reopened.looked_at(cursors, first, 10) for first in shown} == shown
    assert reopened.looked_at(cursors, 7000, 1) is None
