"""One suite for every engine: the executable form of putter/storage/engine.py."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from common.digests import Entries, Grid, Space, digest
from common.limits import MESSAGE_PAYLOAD_BYTES_MAX, MIB
from common.meta.interface import Ceilings
from common.tickets import TICKETS_MAX, object_key, parse_id
from common.wire import frames
from common.wire.status import Status
from putter.storage.damage import Damage
from putter.storage.disk import RealDisk
from putter.storage.engine import Engine, NumberedRecord, TicketInfo
from putter.storage.holdings import Holding, Holdings
from putter.storage.marked import MarkedEngine
from putter.storage.memory import MemoryEngine
from putter.storage.memory_disk import MemoryDisk
from putter.storage.notes import MemoryNotes
from putter.storage.scrub import Finding, Part
from putter.storage.segments.engine import SegmentsEngine
from putter.storage.tree import TreeEngine
from tests.storage_kit import (
    CHECK,
    KEY,
    KEY_ID,
    NONSENSE,
    PACKED,
    bad_tickets,
    data_for,
    merged,
    numbers,
    put,
    record,
    run_of,
    scrubbed,
    sole,
    split,
    spoilt,
    stored,
)

Make = Callable[[int], Engine]


@pytest.fixture(
    params=[
        "memory",
        "tree on a real disk",
        "tree on a memory disk",
        "segments on a real disk",
        "segments on a memory disk",
        "packed segments on a memory disk",
        "marked memory",
        "marked tree on a memory disk",
        "marked segments on a memory disk",
    ]
)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    """Opens an engine of about that many bytes; where there is a disk, always the same one."""
    opened: list[Engine] = []
    disk = MemoryDisk()

    def open_one(capacity_bytes: int) -> Engine:
        for engine in opened:
            engine.close()
        if request.param.endswith("memory"):
            opened.append(MemoryEngine(capacity_bytes=capacity_bytes))
        elif request.param == "segments on a real disk":
            opened.append(SegmentsEngine(RealDisk(tmp_path), segment_bytes=4 * MIB))
        elif "segments on a memory disk" in request.param:
            disk._capacity_bytes = max(capacity_bytes, 64 * MIB)
            packing = PACKED if request.param.startswith("packed") else None
            opened.append(SegmentsEngine(disk, segment_bytes=4 * MIB, at_rest=packing))
        elif request.param == "tree on a real disk":
            opened.append(TreeEngine(RealDisk(tmp_path)))
        else:
            disk._capacity_bytes = capacity_bytes
            opened.append(TreeEngine(disk))
        if request.param.startswith("marked"):
            opened[-1] = MarkedEngine(opened[-1], MemoryNotes(), Damage(), CHECK)
        return opened[-1]

    yield open_one
    for engine in opened:
        engine.close()


@pytest.fixture
def engine(make: Make) -> Engine:
    return make(1 << 30)


def test_a_run_comes_back_as_whole_frames(engine: Engine) -> None:
    data = data_for(100, 8 * 5 + 3)
    assert put(engine, run_of(100, data)) == [Status.WRITTEN] * 6
    engine.sync()
    assert stored(engine, 100, 6) == split(100, data)
    assert [piece.key_id for piece in engine.read(100, 6)] == [KEY_ID]


def test_what_is_told_to_lie_in_a_file_does(engine: Engine) -> None:
    put(engine, run_of(0, data_for(0, 80)))
    put(engine, run_of(10, data_for(10, 33)))
    engine.sync()
    put(engine, run_of(20, data_for(20, 80)))
    found = engine.locate(0, 40, 10)
    assert found.until == 40
    for each in found.locations:
        assert each.first + each.count <= 15
        with Path(each.file.path).open("rb") as file:
            file.seek(each.offset)
            rows = memoryview(bytearray(file.read(each.length)))
        assert not frames.check(rows, each.first, each.frame_bytes, KEY).any()


def test_the_statuses_are_one_byte_a_ticket(engine: Engine) -> None:
    statuses = engine.put(run_of(0, bytes(24)))
    assert statuses.dtype == np.uint8
    assert statuses.shape == (3,)


def test_frames_are_only_borrowed_until_put_returns(engine: Engine) -> None:
    run = run_of(7, b"stays as it was")
    engine.put(run)
    run.frames[:] = bytes(len(run.frames))
    engine.sync()
    assert stored(engine, 7, 2) == split(7, b"stays as it was")


@pytest.mark.parametrize("size", [1, 7, 8, 9, 16])
def test_the_last_frame_may_be_short(engine: Engine, size: int) -> None:
    data = data_for(3, size)
    engine.put(run_of(3, data))
    engine.sync()
    assert stored(engine, 0, 100) == split(3, data)


def test_the_same_bytes_again_are_written_before_and_after_a_sync(engine: Engine) -> None:
    run = run_of(40, bytes(20))
    assert sole(put(engine, run)) == Status.WRITTEN
    assert sole(put(engine, run)) == Status.WRITTEN
    engine.sync()
    assert sole(put(engine, run)) == Status.WRITTEN
    engine.sync()
    assert stored(engine, 40, 3) == split(40, bytes(20))


@pytest.mark.parametrize("synced", [False, True])
def test_a_ticket_that_holds_other_bytes_is_taken(engine: Engine, synced: bool) -> None:
    engine.put(run_of(40, b"first comes"))
    if synced:
        engine.sync()
    assert put(engine, run_of(40, b"first cold")) == [Status.WRITTEN, Status.TICKET_TAKEN]
    assert put(engine, run_of(41, b"m")) == [Status.TICKET_TAKEN]
    engine.sync()
    assert stored(engine, 40, 2) == split(40, b"first comes")


def test_another_length_is_other_data(engine: Engine) -> None:
    engine.put(run_of(5, b"1234567"))
    assert put(engine, run_of(5, b"12345678")) == [Status.TICKET_TAKEN]


def test_a_retry_that_is_cut_otherwise_fills_the_gaps(engine: Engine) -> None:
    data = data_for(10, 8 * 8)
    engine.put(run_of(12, data[16:32]))
    engine.put(run_of(16, data[48:56]))
    assert sole(put(engine, run_of(10, data))) == Status.WRITTEN
    engine.sync()
    assert stored(engine, 0, 50) == split(10, data)
    assert sole(put(engine, run_of(13, data[24:64]))) == Status.WRITTEN


def test_runs_with_frames_of_several_sizes_stand_side_by_side(engine: Engine) -> None:
    wide, narrow = data_for(0, 40), data_for(4, 12)
    engine.put(run_of(0, wide, frame_bytes=16))
    engine.put(run_of(3, narrow, frame_bytes=4))
    engine.sync()
    assert stored(engine, 0, 9) == merged(split(0, wide, 16), split(3, narrow, 4))
    assert {piece.frame_bytes for piece in engine.read(0, 9)} == {16, 4}


def test_keys_of_several_pieces_are_told(engine: Engine) -> None:
    engine.put(run_of(0, bytes(8), key_id="aaaaaaaa"))
    engine.put(run_of(1, bytes(8), key_id="bbbbbbbb"))
    engine.sync()
    assert [(p.first, p.count, p.key_id) for p in engine.read(0, 2)] == [
        (0, 1, "aaaaaaaa"),
        (1, 1, "bbbbbbbb"),
    ]


def test_reading_leaves_out_what_is_not_there(engine: Engine) -> None:
    for first in (3, 30, 36, 1331, 1332, 50_000):
        engine.put(run_of(first, data_for(first, 8)))
    engine.sync()
    assert list(stored(engine, 4, 25)) == []
    assert list(stored(engine, 4, 27)) == [30]
    assert list(stored(engine, 30, 1302)) == [30, 36, 1331]
    assert list(stored(engine, 0, TICKETS_MAX)) == [3, 30, 36, 1331, 1332, 50_000]


def test_a_range_may_begin_and_end_within_a_run(engine: Engine) -> None:
    data = data_for(1300, 8 * 100 - 1)
    engine.put(run_of(1300, data))
    engine.sync()
    tickets = split(1300, data)
    for first, count in ((1299, 2), (1310, 5), (1399, 1), (1390, 50), (1330, 60), (1400, 9)):
        expected = {t: d for t, d in tickets.items() if first <= t < first + count}
        assert stored(engine, first, count) == expected


def test_pieces_are_no_longer_than_a_message(engine: Engine) -> None:
    frame_bytes = 900_000
    for first in range(0, 10, 2):
        data = data_for(first, 2 * frame_bytes)
        engine.put(run_of(first, data, frame_bytes=frame_bytes))
    engine.sync()
    pieces = list(engine.read(0, 10))
    assert sum(piece.count for piece in pieces) == 10
    assert all(len(piece.frames) <= MESSAGE_PAYLOAD_BYTES_MAX for piece in pieces)


def test_a_long_run_is_read_in_pieces(make: Make) -> None:
    engine = make(1 << 30)
    data = bytes(MESSAGE_PAYLOAD_BYTES_MAX + 100_000)
    engine.put(run_of(0, data, frame_bytes=400_000))
    engine.sync()
    assert b"".join(stored(engine, 0, 100).values()) == data
    assert all(len(p.frames) <= MESSAGE_PAYLOAD_BYTES_MAX for p in engine.read(0, 100))


def test_reading_is_lazy(engine: Engine) -> None:
    for first in (0, 9, 15):
        engine.put(run_of(first, bytes(16)))
    engine.sync()
    pieces = iter(engine.read(0, 20))
    assert next(pieces).first == 0
    engine.free([(15, 2)])
    engine.sync()
    assert 15 not in {piece.first for piece in pieces}


def test_the_last_tickets_of_all_can_be_stored(engine: Engine) -> None:
    first = TICKETS_MAX - 3
    engine.put(run_of(first, data_for(first, 24)))
    engine.sync()
    assert stored(engine, first, 3) == split(first, data_for(first, 24))


@pytest.mark.parametrize("prefix", ["A", "AB", "ABC", "ABCD", "ABCDEFG", "ABCDEFGH"])
def test_tickets_of_every_length_live_side_by_side(engine: Engine, prefix: str) -> None:
    texts = [prefix[:length] for length in range(1, len(prefix) + 1)]
    for text in texts:
        engine.put(run_of(parse_id(text), text.encode()))
    engine.sync()
    assert list(stored(engine, 0, TICKETS_MAX).values()) == [text.encode() for text in texts]
    assert engine.free([(parse_id(texts[0]), 1)]) == 1
    engine.sync()
    assert list(stored(engine, 0, TICKETS_MAX).values()) == [text.encode() for text in texts[1:]]


def test_raw_tickets_are_a_namespace_of_their_own(engine: Engine) -> None:
    engine.put(run_of(0, b"cluster"))
    assert sole(put(engine, run_of(0, b"raw", object_id=""), raw=True)) == Status.WRITTEN
    engine.sync()
    assert stored(engine, 0, 10) == {0: b"cluster"}
    assert stored(engine, 0, 10, raw=True) == {0: b"raw"}
    info = engine.stat(0, raw=True)
    assert info is not None
    assert info.object_id == ""
    assert engine.free([(0, 1)], raw=True) == 1
    engine.sync()
    assert stored(engine, 0, 10) == {0: b"cluster"}
    assert engine.stat(0, raw=True) is None


def test_stat_tells_size_checksum_object_and_key(engine: Engine) -> None:
    run = run_of(20, b"0123456789", object_id="QX")
    sums = frames.checksums(run.frames, 8)
    engine.put(run)
    engine.sync()
    for ticket, size, checksum in ((20, 8, sums[:8]), (21, 2, sums[8:])):
        info = engine.stat(ticket)
        assert info is not None
        assert replace(info, run=None) == TicketInfo(size, checksum, "QX", KEY_ID)
    assert engine.stat(22) is None
    assert engine.stat(19) is None


def test_free_counts_what_was_there(engine: Engine) -> None:
    engine.put(run_of(10, bytes(80)))
    engine.sync()
    assert engine.free([(0, 12), (15, 2), (15, 1), (100, 5)]) == 4
    engine.sync()
    assert list(stored(engine, 0, 100)) == [12, 13, 14, 17, 18, 19]
    assert engine.free([(0, TICKETS_MAX)]) == 6
    engine.sync()
    assert stored(engine, 0, 100) == {}
    assert engine.free([(10, 10)]) == 0


def test_free_reaches_what_was_not_synced(engine: Engine) -> None:
    engine.put(run_of(10, bytes(16)))
    assert engine.free([(10, 1)]) == 1
    engine.sync()
    assert list(stored(engine, 0, 100)) == [11]


@pytest.mark.parametrize("synced", [False, True])
def test_free_can_be_kept_to_the_tickets_of_some_objects(engine: Engine, synced: bool) -> None:
    for first, name in ((10, "A"), (14, "B"), (18, "C"), (22, "A")):
        engine.put(run_of(first, data_for(first, 32), object_id=name))
    if synced:
        engine.sync()
    assert engine.free([(12, 8), (22, 1)], objects={"A", "B", "X"}) == 7
    engine.sync()
    assert list(stored(engine, 0, 100)) == [10, 11, 18, 19, 20, 21, 23, 24, 25]
    assert stored(engine, 18, 4) == split(18, data_for(18, 32))
    assert engine.free([(0, TICKETS_MAX)], objects=("C",)) == 4
    assert engine.free([(0, TICKETS_MAX)], objects=["B"]) == 0
    assert engine.free([(0, TICKETS_MAX)], objects=[]) == 0
    engine.sync()
    assert list(stored(engine, 0, 100)) == [10, 11, 23, 24, 25]
    assert engine.free([(0, TICKETS_MAX)]) == 5


def test_a_ticket_belongs_to_the_object_that_wrote_it_first(engine: Engine) -> None:
    engine.put(run_of(10, bytes(16), object_id="A"))
    engine.put(run_of(10, bytes(24), object_id="B"))
    engine.sync()
    assert engine.free([(10, 3)], objects=["B"]) == 1
    engine.sync()
    assert list(stored(engine, 0, 100)) == [10, 11]


def test_raw_tickets_are_of_the_object_without_a_name(engine: Engine) -> None:
    engine.put(run_of(0, b"cluster", object_id="A"))
    engine.put(run_of(0, b"raw", object_id=""), raw=True)
    engine.sync()
    assert engine.free([(0, 1)], raw=True, objects=["A"]) == 0
    assert engine.free([(0, 1)], raw=True, objects=[""]) == 1
    engine.sync()
    assert stored(engine, 0, 10) == {0: b"cluster"}


@pytest.mark.parametrize("between", [False, True])
def test_a_freed_ticket_may_hold_other_bytes(engine: Engine, between: bool) -> None:
    engine.put(run_of(10, b"old old old old "))
    engine.sync()
    engine.free([(10, 2)])
    if between:
        engine.sync()
    assert put(engine, run_of(10, b"new")) == [Status.WRITTEN]
    engine.sync()
    assert stored(engine, 0, 100) == {10: b"new"}


def test_records_are_numbered_from_one(engine: Engine) -> None:
    assert [engine.put_record(record(stamp)) for stamp in (900, 5, 77)] == [1, 2, 3]
    engine.sync()
    assert engine.records(0, 10) == [
        NumberedRecord(1, record(900)),
        NumberedRecord(2, record(5)),
        NumberedRecord(3, record(77)),
    ]


def test_records_are_listed_by_pages(engine: Engine) -> None:
    for stamp in range(1, 26):
        engine.put_record(record(stamp))
    engine.sync()
    assert numbers(engine, 0, 10) == list(range(1, 11))
    assert numbers(engine, 10, 10) == list(range(11, 21))
    assert numbers(engine, 20, 10) == list(range(21, 26))
    assert numbers(engine, 25, 10) == []
    assert numbers(engine, 0, 0) == []


@pytest.mark.parametrize("synced", [False, True])
def test_a_stamp_has_one_record(engine: Engine, synced: bool) -> None:
    assert engine.put_record(record(8, "A")) == 1
    if synced:
        engine.sync()
    assert engine.put_record(record(8, "A")) == 1
    assert engine.put_record(record(9, "A")) == 2
    engine.sync()
    assert numbers(engine) == [1, 2]


def test_a_record_is_found_by_its_object(engine: Engine) -> None:
    engine.put_record(record(1, "A"))
    engine.put_record(record(2, "B"))
    engine.put_record(record(3, "A"))
    engine.put_record(record(4))
    engine.sync()
    assert engine.find_record("A") == NumberedRecord(3, record(3, "A"))
    assert engine.find_record("B") == NumberedRecord(2, record(2, "B"))
    assert engine.find_record("C") is None
    assert engine.find_record("") is None


def test_bodies_are_opaque(engine: Engine) -> None:
    body = bytes(range(256)) * 100
    engine.put_record(record(1, "A", body))
    engine.sync()
    found = engine.find_record("A")
    assert found is not None
    assert found.record.body == body


def test_dropping_removes_all_records_of_an_object(engine: Engine) -> None:
    for stamp, name in enumerate(["A", "B", "A", "C", ""], start=1):
        engine.put_record(record(stamp, name))
    engine.sync()
    assert engine.drop_records(["A", "X", "C"]) == 3
    engine.sync()
    assert numbers(engine) == [2, 5]
    assert engine.find_record("A") is None
    assert engine.drop_records(["", "A"]) == 0


def test_numbers_are_never_given_again(make: Make) -> None:
    engine = make(1 << 30)
    engine.put_record(record(1, "A"))
    engine.put_record(record(2, "B"))
    engine.sync()
    engine.drop_records(["B"])
    assert engine.put_record(record(2, "B")) == 3
    engine.sync()
    engine.drop_records(["B"])
    engine.sync()
    if engine.layout != "memory":
        engine = make(1 << 30)
    assert numbers(engine) == [1]
    assert engine.put_record(record(7, "C")) == 4


def test_ceilings_only_rise(engine: Engine) -> None:
    assert engine.raise_ceilings(Ceilings()) == Ceilings()
    assert engine.raise_ceilings(Ceilings(10, 20, 30)) == Ceilings(10, 20, 30)
    assert engine.raise_ceilings(Ceilings(5, 25, 0)) == Ceilings(10, 25, 30)
    assert engine.raise_ceilings(Ceilings()) == Ceilings(10, 25, 30)


def test_the_next_engine_finds_everything(make: Make) -> None:
    engine = make(1 << 30)
    if engine.layout == "memory":
        pytest.skip("memory forgets")
    engine.put(run_of(1290, data_for(1290, 90)))
    engine.put(run_of(0, b"raw", object_id=""), raw=True)
    engine.put_record(record(9, "OBJ"))
    engine.raise_ceilings(Ceilings(1, 2, 3))
    engine.free([(1291, 1)])
    engine = make(1 << 30)
    expected = split(1290, data_for(1290, 90))
    del expected[1291]
    assert stored(engine, 0, 5000) == expected
    assert stored(engine, 0, 1, raw=True) == {0: b"raw"}
    assert engine.records(0, 10) == [NumberedRecord(1, record(9, "OBJ"))]
    assert engine.put_record(record(9, "OBJ")) == 1
    assert engine.raise_ceilings(Ceilings()) == Ceilings(1, 2, 3)


def test_capacity_shrinks_with_what_is_put(make: Make) -> None:
    engine = make(1 << 30)
    before = engine.capacity()
    assert 0 < before.free_bytes <= before.total_bytes
    engine.put(run_of(0, bytes(1 << 16), frame_bytes=1 << 12))
    engine.sync()
    after = engine.capacity()
    assert after.total_bytes == before.total_bytes
    if engine.layout == "memory":
        assert before.free_bytes - after.free_bytes == (1 << 16) + 16 * 16


def test_a_full_disk_refuses_tickets_one_by_one(make: Make, request: pytest.FixtureRequest) -> None:
    if "real" in request.node.name:
        pytest.skip("nobody fills a real disk")
    if "segments" in request.node.name:
        pytest.skip("its room comes in segments: see tests/fault/test_segments_space.py")
    engine = make(2000)
    statuses = put(engine, run_of(0, bytes(8 * 100), frame_bytes=8))
    written = statuses.count(Status.WRITTEN)
    assert 0 < written < 100
    assert statuses == [Status.WRITTEN] * written + [Status.NO_SPACE] * (100 - written)
    engine.sync()
    assert list(stored(engine, 0, 100)) == list(range(written))
    assert put(engine, run_of(0, bytes(8), frame_bytes=8)) == [Status.WRITTEN]
    engine.free([(0, 50)])
    engine.sync()
    assert put(engine, run_of(99, bytes(8))) == [Status.WRITTEN]


def test_closing_twice_is_harmless(engine: Engine) -> None:
    engine.close()
    engine.close()


def test_an_engine_tells_its_layout_and_its_node(engine: Engine) -> None:
    assert engine.layout in {"memory", "tree", "segments"}
    assert engine.identity


# -- verifying -----------------------------------------------------------------------------


def fill(engine: Engine) -> None:
    """Runs of several objects, raw tickets and records; nothing is damaged."""
    for at in range(0, 200, 10):
        engine.put(run_of(at, data_for(at, 8 * 7 + 3), object_id=f"O{at}"))
        engine.put_record(record(at + 1, f"O{at}"))
    engine.put(run_of(1_000_000, data_for(1, 100), object_id=""), raw=True)
    engine.sync()


@pytest.mark.parametrize("budget_bytes", [1, 200, 1 << 20])
def test_a_pass_over_what_is_whole_finds_nothing(engine: Engine, budget_bytes: int) -> None:
    fill(engine)
    found, pieces = scrubbed(engine, budget_bytes)
    assert found == []
    assert (pieces > 10) == (budget_bytes < 1000)


def test_a_pass_over_nothing_ends_at_once(engine: Engine) -> None:
    assert scrubbed(engine)[0] == []


def test_a_pass_tells_how_much_it_verified(engine: Engine) -> None:
    engine.put(run_of(0, random.Random(1).randbytes(10_000), frame_bytes=1000))
    engine.sync()
    piece = engine.scrub("", 1 << 20, CHECK)
    assert piece.cursor == ""
    assert 10_000 <= piece.verified_bytes < 20_000
    assert piece.total_bytes is None or piece.total_bytes >= 10_000


def test_what_a_pass_looked_at_is_told_rightly_or_not_at_all(engine: Engine) -> None:
    for first in (0, 100):
        engine.put(run_of(first, data_for(first, 10_000), frame_bytes=1000))
        engine.sync()
    cursors, cursor = [], ""
    while not cursors or cursor:
        piece = engine.scrub(cursor, 1, CHECK)
        cursor = piece.cursor
        cursors.append(cursor or piece.end)
    engine.put(run_of(50, data_for(50, 1000), frame_bytes=1000))
    engine.sync()
    assert engine.looked_at(cursors, 50, 1) is None, "it came later"
    assert engine.looked_at(cursors, 0, 110) is None, "a part of it did"
    assert engine.looked_at(cursors, 200, 1) is None, "it is not there"
    assert engine.looked_at(["no cursor"], 0, 10) is None
    before = [engine.looked_at(cursors, first, 10) for first in (0, 100)]
    if engine.layout == "segments":
        assert all(each is not None and each < len(cursors) for each in before)
        assert engine.looked_at(cursors[:1], 100, 10) is None, "it had just begun"
    else:
        assert before == [None, None]


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("budget_bytes", [1, 1 << 20])
def test_a_pass_finds_the_damaged_tickets_and_no_others(
    engine: Engine, raw: bool, budget_bytes: int
) -> None:
    fill(engine)
    owner = "" if raw else "BAD"
    engine.put(spoilt(run_of(500, data_for(500, 80), object_id=owner), 0, 3, 4, 9), raw=raw)
    engine.put(spoilt(run_of(2000, b"x", object_id=owner), 0), raw=raw)
    engine.sync()
    found, _ = scrubbed(engine, budget_bytes)
    assert bad_tickets(found, raw=raw) == {500, 503, 504, 509, 2000}
    assert bad_tickets(found, raw=not raw) == set()
    assert {(each.object_id, each.part) for each in found} == {(owner, Part.TICKETS)}
    assert all(each.place and each.reason for each in found)


def test_a_pass_finds_records_that_make_no_sense(engine: Engine) -> None:
    fill(engine)
    number = engine.put_record(record(10_000, "ODD", NONSENSE))
    engine.sync()
    (found,) = scrubbed(engine)[0]
    assert (found.part, found.first, found.object_id) == (Part.RECORD, number, "ODD")


def test_what_was_removed_is_not_verified(engine: Engine) -> None:
    engine.put(spoilt(run_of(0, bytes(80)), *range(10)))
    engine.put_record(record(1, "ODD", NONSENSE))
    engine.sync()
    engine.free([(0, 4), (6, 4)])
    engine.drop_records(["ODD"])
    engine.sync()
    assert bad_tickets(scrubbed(engine)[0]) == {4, 5}


def test_frames_of_another_key_are_passed_over(engine: Engine) -> None:
    engine.put(spoilt(run_of(0, bytes(80), key_id="ffffffff"), 0))
    engine.sync()
    assert scrubbed(engine)[0] == []


@pytest.mark.parametrize("cursor", ["?", "1.2.3.4.5.6", "-1.0", "٣.٣", "0" * 100, "9.9.9.9"])
def test_a_cursor_of_something_else_begins_or_ends_a_pass(engine: Engine, cursor: str) -> None:
    fill(engine)
    assert scrubbed(engine, cursor=cursor)[0] == []


def test_a_pass_goes_on_in_another_process(make: Make, request: pytest.FixtureRequest) -> None:
    engine = make(1 << 30)
    fill(engine)
    engine.put(spoilt(run_of(500, bytes(80)), 5))
    engine.sync()
    found, cursor, pieces = [], "", 0
    while pieces == 0 or cursor:
        piece = engine.scrub(cursor, 300, CHECK)
        found += piece.findings
        cursor, pieces = piece.cursor, pieces + 1
        if not request.node.callspec.params["make"].endswith("memory"):
            engine = make(1 << 30)
    assert pieces > 5
    assert bad_tickets(found) == {505}


def test_a_pass_goes_on_while_things_come_and_go(engine: Engine) -> None:
    fill(engine)
    engine.put(spoilt(run_of(150_000, bytes(80), object_id="BAD"), 5))
    engine.sync()
    cursor, found, step = "", [], 0
    while step == 0 or cursor:
        piece = engine.scrub(cursor, 100, CHECK)
        found += piece.findings
        cursor, step = piece.cursor, step + 1
        if step < 20:
            engine.free([(step * 10, 10)])
            engine.put(run_of(10_000 + step * 10, data_for(step, 70), object_id=f"N{step}"))
            engine.put_record(record(50_000 + step, f"N{step}"))
            engine.sync()
    assert bad_tickets(found) == {150_005}


def test_tickets_are_nothing_that_an_engine_makes_again(engine: Engine) -> None:
    fill(engine)
    for part in (Part.TICKETS, Part.HEADER, Part.RECORD):
        assert not engine.mend(Finding(part, 0, 1, "O", "somewhere", "rot"))
    assert scrubbed(engine)[0] == []


def test_some_tickets_can_be_verified_alone(engine: Engine) -> None:
    engine.put(spoilt(run_of(100, bytes(80)), 0, 5, 6))
    engine.put(run_of(110, bytes(80)))
    engine.sync()
    assert bad_tickets(engine.inspect(0, TICKETS_MAX, CHECK)) == {100, 105, 106}
    assert bad_tickets(engine.inspect(101, 5, CHECK)) == {105}
    assert engine.inspect(101, 4, CHECK) == []
    assert engine.inspect(100, 10, CHECK, raw=True) == []
    assert engine.inspect(900, 10, CHECK) == []


# -- what is held ---------------------------------------------------------------------------


def walk(engine: Engine, limit: int) -> list[Holding]:
    """Everything, page by page."""
    found: list[Holding] = []
    cursor, pages = "", 0
    while cursor or not pages:
        page = engine.holdings(cursor, limit)
        assert len(page.entries) <= limit
        found += page.entries
        cursor, pages = page.cursor, pages + 1
    return found


def owners(found: list[Holding]) -> dict[int, str]:
    """Whose each ticket is."""
    return {t: each.object_id for each in found for t in range(each.first, each.first + each.count)}


@pytest.mark.parametrize("limit", [1, 2, 7, 1000])
def test_what_is_held_is_listed_by_object(engine: Engine, limit: int) -> None:
    wanted = {}
    for first, count, object_id in ((0, 3, "A"), (3, 2, "B"), (10, 4, "B"), (50_000, 1, "ZZ")):
        engine.put(run_of(first, data_for(first, 8 * count), object_id=object_id))
        wanted |= dict.fromkeys(range(first, first + count), object_id)
    engine.put(run_of(7, bytes(8), object_id=""), raw=True)
    engine.sync()
    assert owners(walk(engine, limit)) == wanted
    engine.free([(1, 1), (10, 4)])
    engine.sync()
    for gone in (1, 10, 11, 12, 13):
        del wanted[gone]
    assert owners(walk(engine, limit)) == wanted
    assert walk(engine, 1000)[0] == Holding(0, 1, "A")


def test_pages_of_what_is_held_name_the_cluster_keys(engine: Engine) -> None:
    for number in range(20):
        key_id = "aaaaaaaa" if number == 13 else "bbbbbbbb"
        engine.put(run_of(number * 10, bytes(8), object_id="A", key_id=key_id))
    engine.sync()
    found: list[frozenset[str]] = []
    cursor = ""
    while cursor or not found:
        page = engine.holdings(cursor, 3)
        found.append(page.keys)
        cursor = page.cursor
    assert sum("aaaaaaaa" in keys for keys in found) == 1
    assert frozenset().union(*found) == {"aaaaaaaa", "bbbbbbbb"}
    engine.free([(130, 1)])
    engine.sync()
    assert engine.holdings("", 1_000).keys == {"bbbbbbbb"}


def test_nothing_held_is_nothing_listed(engine: Engine) -> None:
    assert engine.holdings("", 10) == Holdings("", ())


def test_neighbours_of_one_object_are_one_holding(engine: Engine) -> None:
    for first in range(0, 40, 4):
        engine.put(run_of(first, data_for(first, 32), object_id="A"))
    engine.sync()
    assert walk(engine, 1000) == [Holding(0, 40, "A")]


@pytest.mark.parametrize("cursor", ["?", "1.2.3.4", "-1", "٣", "0" * 100])
def test_a_cursor_of_something_else_begins_a_walk(engine: Engine, cursor: str) -> None:
    engine.put(run_of(5, bytes(8), object_id="A"))
    engine.sync()
    assert engine.holdings(cursor, 10).entries == (Holding(5, 1, "A"),)


def test_a_walk_goes_on_while_things_come_and_go(engine: Engine) -> None:
    for first in range(0, 4000, 10):
        engine.put(run_of(first, data_for(first, 8), object_id="KEPT" if first % 40 else "GONE"))
    engine.sync()
    cursor, found, step = "", [], 0
    while cursor or not step:
        page = engine.holdings(cursor, 16)
        found += page.entries
        cursor, step = page.cursor, step + 1
        engine.free([(step * 40, 1)])
        engine.put(run_of(100_000 + step, bytes(8), object_id="NEW"))
        engine.sync()
        engine.tend(1 << 20)
        assert step < 1000
    seen = owners(found)
    assert all(seen[first] == "KEPT" for first in range(0, 4000, 10) if first % 40)


# -- inventories and digests of them --------------------------------------------------------


def rows(entries: Entries) -> list[tuple[int, ...]]:
    names = ("first", "count", "size", "step", "key")
    return list(zip(*(getattr(entries, name).tolist() for name in names), strict=True))


def by_ticket(entries: Entries) -> dict[int, tuple[int, int]]:
    """Object key and data bytes of each ticket."""
    found: dict[int, tuple[int, int]] = {}
    for first, count, size, step, key in rows(entries):
        for n in range(count):
            assert first + n not in found
            found[first + n] = (key, min(step, size - n * step))
    return found


def test_the_inventory_of_tickets(engine: Engine) -> None:
    engine.put(run_of(0, data_for(0, 20), object_id="A"))
    engine.put(run_of(10, data_for(10, 16), object_id="B"))
    engine.put(run_of(40_000, data_for(3, 8), object_id="B"))
    engine.put(run_of(5, bytes(8), object_id=""), raw=True)
    engine.sync()
    a, b = object_key("A"), object_key("B")
    wanted = {0: (a, 8), 1: (a, 8), 2: (a, 4), 10: (b, 8), 11: (b, 8), 40_000: (b, 8)}
    assert by_ticket(engine.entries(Space.TICKETS, 0, TICKETS_MAX)) == wanted
    some = by_ticket(engine.entries(Space.TICKETS, 1, 11))
    assert some == {1: (a, 8), 2: (a, 4), 10: (b, 8)}, "runs are cut at both ends"
    assert not len(engine.entries(Space.TICKETS, 12, 40_000))
    engine.free([(1, 1), (10, 2)])
    engine.sync()
    left = {0: (a, 8), 2: (a, 4), 40_000: (b, 8)}
    assert by_ticket(engine.entries(Space.TICKETS, 0, TICKETS_MAX)) == left


def test_the_inventory_of_records(engine: Engine) -> None:
    assert engine.record_count == 0
    for stamp, object_id in ((50, "A"), (40, ""), (60, "B"), (70, "A"), (30, ""), (65, "")):
        engine.put_record(record(stamp, object_id))
    engine.sync()
    assert engine.record_count == 6
    a, b = object_key("A"), object_key("B")
    objects = engine.entries(Space.OBJECTS, 0, 2**62)
    assert rows(objects) == [(a, 1, 0, 0, 70), (b, 1, 0, 0, 60)], "the newest of each"
    assert rows(engine.entries(Space.OBJECTS, b, b + 1)) == [(b, 1, 0, 0, 60)]
    assert rows(engine.entries(Space.RECORDS, 0, 2**62)) == [
        (30, 1, 0, 0, 5),
        (40, 1, 0, 0, 2),
        (65, 1, 0, 0, 6),
    ]
    assert rows(engine.entries(Space.RECORDS, 31, 65)) == [(40, 1, 0, 0, 2)]
    engine.drop_records(["A"])
    engine.sync()
    assert engine.record_count == 4
    assert rows(engine.entries(Space.OBJECTS, 0, 2**62)) == [(b, 1, 0, 0, 60)]


def test_digests_are_those_of_the_inventory(make: Make) -> None:
    """Whatever was removed, sealed, compacted and recovered meanwhile."""
    rng = random.Random(5)
    engine = make(1 << 30)
    kept = dict[int, tuple[int, bytes]]()
    tickets, last = Grid(Space.TICKETS, 64, 77), 60
    objects = Grid(Space.OBJECTS, 8, 77)

    def check() -> None:
        for grid in (tickets, objects):
            engine_digests = engine.digests(grid, 0, last)
            whole = digest(engine.entries(grid.space, 0, last * grid.width), grid)
            assert engine_digests.pack() == whole.pack()
            some = engine.digests(grid, 7, 31)
            assert some.pack() == whole.between(7, 31).pack()
        expected = Entries.of(
            [(at, 1, len(data), 8, object_key(f"{key}")) for at, (key, data) in kept.items()]
        )
        assert engine.digests(tickets, 0, last).pack() == digest(expected, tickets).pack()

    for step in range(24):
        first, count = rng.randrange(0, 3_800), rng.randrange(1, 30)
        taken = [at for at in range(first, first + count) if at in kept]
        if not taken:
            data = data_for(first, 8 * count)
            assert not any(put(engine, run_of(first, data, object_id=f"{step}")))
            for n in range(count):
                kept[first + n] = (step, data[8 * n : 8 * n + 8])
            engine.put_record(record(100 + step, f"{step}"))
        elif step % 3:
            engine.free([(first, count)])
            for at in taken:
                del kept[at]
        else:
            engine.drop_records([f"{step - 2}"])
        engine.sync()
        check()
        if step % 5 == 4:
            engine.tend(1 << 20)
            engine.sync()
            check()
        if step % 8 == 7 and engine.layout != "memory":
            engine = make(1 << 30)
            check()
    assert len(kept) > 50


def test_nothing_held_has_no_digest(engine: Engine) -> None:
    for space in (Space.TICKETS, Space.OBJECTS):
        assert not len(engine.digests(Grid(space, 1024, 3), 0, 4096))
        assert not len(engine.entries(space, 0, 1 << 40))
