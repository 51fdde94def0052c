"""An engine with marks: reads of damage are refused, writes replace it, removal ends it."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from common.errors import ChecksumMismatch, NoSpace, StorageError
from common.wire.status import Status
from putter.storage.damage import Damage
from putter.storage.engine import Engine, TicketInfo, Upkeep
from putter.storage.marked import DAMAGE, MarkedEngine
from putter.storage.memory import MemoryEngine
from putter.storage.memory_disk import MemoryDisk
from putter.storage.notes import DiskNotes, MemoryNotes
from putter.storage.scrub import Finding, Part
from putter.storage.segments.engine import SegmentsEngine
from putter.storage.tree import TreeEngine
from tests.storage_kit import (
    CHECK,
    data_for,
    put,
    record,
    run_of,
    scrubbed,
    sole,
    split,
    spoilt,
    stored,
    verify,
)


def inner(kind: str) -> Engine:
    if kind == "memory":
        return MemoryEngine()
    if kind == "tree":
        return TreeEngine(MemoryDisk())
    return SegmentsEngine(MemoryDisk(), verify=verify)


def marked(engine: Engine, notes: Any = None) -> MarkedEngine:
    notes = notes or MemoryNotes()
    return MarkedEngine(engine, notes, Damage(notes.load(DAMAGE)), CHECK)


@pytest.fixture(params=["memory", "tree", "segments"])
def engine(request: pytest.FixtureRequest) -> MarkedEngine:
    """Tickets 100 … 109 of the object BAD, of which 103 and 104 are damaged, and marked so."""
    found = marked(inner(request.param))
    found.pass_number = 1
    found.put(spoilt(run_of(100, data_for(100, 80), object_id="BAD"), 3, 4))
    found.put(run_of(110, data_for(110, 80), object_id="GOOD"))
    found.sync()
    assert len(found.mark(scrubbed(found)[0])) >= 1
    found.sync()
    assert found.damage.tickets == 2
    return found


# -- reading -------------------------------------------------------------------------------


def test_reading_ends_at_the_first_damaged_ticket(engine: MarkedEngine) -> None:
    found: list[int] = []

    def read() -> None:
        for piece in engine.read(95, 20):
            found.extend(range(piece.first, piece.first + piece.count))

    with pytest.raises(ChecksumMismatch, match="ticket 1V of object BAD is damaged") as caught:
        read()
    assert found == [100, 101, 102]
    assert caught.value.status == Status.CHECKSUM_MISMATCH


def test_what_is_whole_is_read_around_it(engine: MarkedEngine) -> None:
    whole = split(100, data_for(100, 80))
    assert stored(engine, 100, 3) == {t: whole[t] for t in (100, 101, 102)}
    assert stored(engine, 105, 5) == {t: whole[t] for t in range(105, 110)}
    assert list(stored(engine, 110, 100)) == [*range(110, 120)]
    with pytest.raises(ChecksumMismatch):
        list(engine.read(104, 1))


def test_raw_tickets_are_others(engine: MarkedEngine) -> None:
    engine.put(run_of(103, b"raw", object_id=""), raw=True)
    engine.sync()
    assert stored(engine, 103, 1, raw=True) == {103: b"raw"}


def test_a_refused_read_does_not_touch_the_disk() -> None:
    class Unread(MemoryEngine):
        def read(self, first: int, count: int, *, raw: bool = False) -> Any:
            raise AssertionError("it was read")

    engine = marked(Unread())
    engine.damage.add(Finding(Part.TICKETS, 5, 1, "O", "x", "rot"), 1)
    with pytest.raises(ChecksumMismatch):
        list(engine.read(5, 10))


def test_stat_tells(engine: MarkedEngine) -> None:
    damaged, whole = engine.stat(103), engine.stat(102)
    assert damaged is not None
    assert whole is not None
    assert (damaged.damaged, whole.damaged) == (True, False)
    assert (damaged.size, damaged.object_id) == (8, "BAD")
    assert engine.stat(500) is None


@pytest.mark.parametrize("answer", [None, StorageError("its header is damaged")])
def test_stat_of_what_tells_nothing_of_itself(answer: Any) -> None:
    class Mute(MemoryEngine):
        def stat(self, ticket: int, *, raw: bool = False) -> TicketInfo | None:
            if answer is not None:
                raise answer
            return None

    engine = marked(Mute())
    engine.damage.add(Finding(Part.TICKETS, 5, 1, "O", "x", "rot"), 1)
    assert engine.stat(5) == TicketInfo(0, b"", "O", "", damaged=True)


def test_a_damaged_header_does_not_stop_reading() -> None:
    engine = marked(MemoryEngine())
    engine.put(run_of(5, b"fine"))
    engine.damage.add(Finding(Part.HEADER, 5, 1, "OBJ", "x", "rot"), 1)
    assert stored(engine, 5, 1) == {5: b"fine"}
    info = engine.stat(5)
    assert info is not None
    assert info.damaged


# -- writing anew --------------------------------------------------------------------------


def test_damaged_tickets_of_the_same_object_are_written_anew(engine: MarkedEngine) -> None:
    data = data_for(100, 80)
    assert sole(put(engine, run_of(100, data, object_id="BAD"))) == Status.WRITTEN
    engine.sync()
    assert engine.damage.tickets == 0
    assert stored(engine, 100, 10) == split(100, data)
    assert scrubbed(engine)[0] == []


def test_only_a_part_of_them_is_written_anew(engine: MarkedEngine) -> None:
    data = data_for(100, 80)[32:40]
    assert put(engine, run_of(104, data, object_id="BAD")) == [Status.WRITTEN]
    engine.sync()
    assert [(mark.first, mark.end) for mark in engine.damage] == [(103, 104)]
    assert stored(engine, 104, 1) == {104: data}


def test_another_object_does_not_get_the_ticket(engine: MarkedEngine) -> None:
    other = run_of(103, b"othrdata", object_id="OTHER")
    assert put(engine, other) == [Status.TICKET_TAKEN]
    engine.sync()
    assert engine.damage.tickets == 2


def test_without_room_what_is_there_stays() -> None:
    engine = marked(MemoryEngine(capacity_bytes=30))
    engine.put(spoilt(run_of(5, b"12345678"), 0))
    engine.mark(scrubbed(engine)[0])
    assert put(engine, run_of(5, b"12345678")) == [Status.NO_SPACE]
    assert engine.damage.tickets == 1
    assert engine.stat(5) is not None


def test_damage_written_over_damage_stays_marked(engine: MarkedEngine) -> None:
    engine.put(spoilt(run_of(103, data_for(100, 80)[24:32], object_id="BAD"), 0))
    engine.sync()
    engine.mark(scrubbed(engine)[0])
    assert engine.damage.tickets == 2


# -- removing ------------------------------------------------------------------------------


def test_marks_go_with_their_tickets(engine: MarkedEngine) -> None:
    assert engine.free([(100, 4)]) == 4
    engine.sync()
    assert [(mark.first, mark.end) for mark in engine.damage] == [(104, 105)]
    assert engine.free([(0, 1000)], objects={"OTHER"}) == 0
    assert engine.damage.tickets == 1
    assert engine.free([(0, 1000)], objects={"BAD"}) == 6
    engine.sync()
    assert engine.damage.tickets == 0
    assert scrubbed(engine)[0] == []


def test_marks_go_with_their_records() -> None:
    engine = marked(MemoryEngine())
    engine.put_record(record(1, "A", b"nonsense"))
    engine.put_record(record(2, "B", b"nonsense"))
    engine.mark(scrubbed(engine)[0])
    assert engine.damage.others == 2
    engine.drop_records(["A", "", "C"])
    assert [mark.finding.object_id for mark in engine.damage] == ["B"]


# -- making marks --------------------------------------------------------------------------


def test_what_is_whole_by_now_is_not_marked(engine: MarkedEngine) -> None:
    false = Finding(Part.TICKETS, 110, 10, "GOOD", "x", "it was being written")
    gone = Finding(Part.TICKETS, 900, 1, "X", "x", "it is gone")
    assert engine.mark([false, gone]) == []
    assert engine.damage.tickets == 2


def test_looking_again_keeps_what_is_still_damaged(engine: MarkedEngine) -> None:
    for first in (100, 110):
        engine.damage.add(Finding(Part.TICKETS, first, 10, "?", "x", "?"), 1)
    engine.look_again(list(engine.damage))
    assert [(mark.first, mark.end, mark.seen) for mark in engine.damage] in (
        [(103, 105, 1)],
        [(103, 104, 1), (104, 105, 1)],
    )


def test_what_housekeeping_finds_is_marked() -> None:
    class Finds(MemoryEngine):
        def tend(self, budget_bytes: int) -> Upkeep:
            found = Finding(Part.TICKETS, 0, 10, "", "x", "the run is damaged")
            return Upkeep(0, 0, more=False, findings=(found,))

    engine = marked(Finds())
    engine.put(spoilt(run_of(0, bytes(80), object_id="O"), 7))
    engine.tend(100)
    (mark,) = engine.damage
    assert (mark.first, mark.end, mark.finding.object_id) == (7, 8, "O")


# -- keeping them --------------------------------------------------------------------------


def test_marks_are_durable_after_a_sync_and_only_then() -> None:
    disk = MemoryDisk()
    engine = marked(MemoryEngine(), DiskNotes(disk))
    engine.put(spoilt(run_of(5, b"x"), 0))
    engine.mark(scrubbed(engine)[0])
    assert DiskNotes(disk).load(DAMAGE) is None
    engine.sync()
    assert Damage(DiskNotes(disk).load(DAMAGE)).tickets == 1
    engine.free([(5, 1)])
    engine.close()
    assert Damage(DiskNotes(disk).load(DAMAGE)).tickets == 0
    engine.close()


def test_a_note_that_cannot_be_written_stops_nothing() -> None:
    disk = MemoryDisk()

    def refuse(operation: str, path: str) -> None:
        if operation == "create":
            raise OSError(errno.ENOSPC, "full")

    engine = marked(MemoryEngine(), DiskNotes(disk))
    engine.put(spoilt(run_of(5, b"x"), 0))
    engine.mark(scrubbed(engine)[0])
    disk.before = refuse
    engine.sync()
    engine.damage.dirty = True
    with pytest.raises(NoSpace):
        engine.save_damage()
    engine.close()
    assert engine.damage.tickets == 1


def test_passes_are_numbered_on_from_the_marks() -> None:
    notes = MemoryNotes()
    damage = Damage()
    damage.add(Finding(Part.RECORD, 5, 1, "O", "x", "rot"), 12)
    notes.save(DAMAGE, damage.encode())
    assert marked(MemoryEngine(), notes).pass_number == 12
    assert marked(MemoryEngine()).pass_number == 0
