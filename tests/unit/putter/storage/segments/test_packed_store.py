"""A segment store whose records are compressed and encrypted, looked at from outside."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from common.errors import StorageError
from common.limits import KIB
from common.wire import frames
from common.wire.status import Status
from putter.storage.engine import Run
from putter.storage.memory_disk import MemoryDisk
from putter.storage.scrub import Part
from putter.storage.segments.engine import SegmentsEngine
from putter.storage.segments.formats import Header, Kind
from putter.storage.segments.packing import AtRest, Unpacker, key_id_of
from putter.storage.segments.scan import Found, scan
from putter.storage.stored import Stored
from tests.storage_kit import (
    CHECK,
    DATA_KEY,
    KEY,
    PACKED,
    data_for,
    merged,
    put,
    record,
    run_of,
    scrubbed,
    sole,
    split,
    stored,
    verify,
)

SEGMENT_BYTES = 64 * KIB
ENCRYPTED = replace(PACKED, compress=False, block_bytes=1000)
BOTH = replace(PACKED, block_bytes=4000)
OTHER_KEY = bytes(range(200, 232))
ROTATED = replace(
    ENCRYPTED,
    writing=key_id_of(OTHER_KEY),
    keys={key_id_of(each): each for each in (DATA_KEY, OTHER_KEY)},
)
READS = AtRest(keys=ROTATED.keys)
FRAME_BYTES = 500


def engine_on(disk: MemoryDisk, at_rest: AtRest | None = ENCRYPTED) -> SegmentsEngine:
    return SegmentsEngine(disk, segment_bytes=SEGMENT_BYTES, verify=verify, at_rest=at_rest)


def run_at(first: int, size: int, object_id: str = "OBJ") -> Run:
    data = data_for(first, size)
    return run_of(first, data, frame_bytes=FRAME_BYTES, object_id=object_id)


def parts(first: int, size: int) -> dict[int, bytes]:
    return split(first, data_for(first, size), FRAME_BYTES)


def write(engine: SegmentsEngine, first: int, size: int) -> None:
    assert sole(put(engine, run_at(first, size))) == Status.WRITTEN
    engine.sync()


Bodies = dict[tuple[int, int], tuple[Header, bytes]]


def bodies(engine: SegmentsEngine) -> Bodies:
    """Runs and commit records of all segments, by kind and number."""
    out: Bodies = {}
    for number in engine._catalog.segments:
        file = engine._files.file(number)
        for each in scan(file.read, file.size, number, engine._writer.secret):
            assert isinstance(each, Found)
            header, at = each.header, each.at + each.header.body_at
            if header.kind in (Kind.RUN, Kind.COMMIT):
                out[header.kind, header.first] = header, file.read(at, header.body_bytes)
    return out


def flip(disk: MemoryDisk, at: int, number: int = 1) -> None:
    disk.flip(f"segments/{number:016x}.seg", 8 * at)


def block_at(engine: SegmentsEngine, ticket: int) -> int:
    """Where the block with a ticket begins in segment 1."""
    place = engine._places(ticket, ticket + 1, raw=False)[0]
    header, layout = engine._reader.layout(place)
    return place.record + header.body_at + layout.blocks[place.body // layout.block_bytes].at


def test_a_range_reads_only_its_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_on(MemoryDisk())
    write(engine, 0, 20_000)
    looked: list[range] = []
    real = Unpacker.blocks

    def spy(self: Unpacker, header: object, layout: object, wanted: range, data: bytes) -> object:
        looked.append(wanted)
        return real(self, header, layout, wanted, data)  # type: ignore[arg-type]

    monkeypatch.setattr(Unpacker, "blocks", spy)
    assert stored(engine, 11, 3) == {t: parts(0, 20_000)[t] for t in (11, 12, 13)}
    assert looked == [range(5, 7)]


@pytest.mark.parametrize("indexed", [True, False])
def test_it_opens_again_with_and_without_an_index(indexed: bool) -> None:
    disk = MemoryDisk()
    engine = engine_on(disk, BOTH)
    for first in range(0, 6000, 100):
        write(engine, first, 12_000)
        engine.put_record(record(first + 1, f"O{first}"))
    engine.free([(203, 4), (900, 50)])
    before, records = stored(engine, 0, 10_000), engine.records(0, 100)
    assert len(before) == 60 * 24 - 4 - 24
    engine.close()
    paths = [path for path in disk.files() if path.endswith(".idx")]
    assert paths
    if not indexed:
        for path in paths:
            disk.unlink(path)
    engine = engine_on(disk, READS)
    assert engine.report.indexed == (len(paths) if indexed else 0)
    assert not engine.report.lost
    assert stored(engine, 0, 10_000) == before
    assert engine.records(0, 100) == records


def test_a_damaged_block_costs_its_own_tickets(caplog: pytest.LogCaptureFixture) -> None:
    disk = MemoryDisk()
    engine = engine_on(disk)
    write(engine, 0, 20_000)
    flip(disk, block_at(engine, 6) + 10)
    with caplog.at_level(logging.ERROR):
        pieces = list(engine.read(0, 100))
    assert "block 3 is damaged" in caplog.text
    assert [(piece.first, piece.count) for piece in pieces] == [(0, 40)]
    statuses = frames.check(memoryview(bytearray(pieces[0].frames)), 0, FRAME_BYTES, KEY)
    assert [int(at) for at in statuses.nonzero()[0]] == [6, 7]
    with pytest.raises(StorageError, match="block 3"):
        engine.stat(6)
    info = engine.stat(5)
    assert info is not None
    assert info.size == FRAME_BYTES
    assert put(engine, run_at(0, 20_000)) == [Status.IO_ERROR] * 40


def test_a_damaged_table_costs_one_run() -> None:
    disk = MemoryDisk()
    engine = engine_on(disk)
    write(engine, 0, 2000)
    write(engine, 100, 2000)
    flip(disk, block_at(engine, 0) - 3)
    assert stored(engine, 100, 10) == parts(100, 2000)
    (piece,) = engine.read(0, 100)
    assert not any(piece.frames)
    with pytest.raises(StorageError, match="table"):
        engine.stat(0)


@pytest.mark.parametrize("at_rest", [ENCRYPTED, BOTH], ids=["encrypted", "compressed too"])
def test_a_pass_without_the_cluster_key_still_sees_the_sums_of_blocks(at_rest: AtRest) -> None:
    """The key of the frames' checksums is not held; the sums of what is stored need none."""
    disk = MemoryDisk()
    engine = engine_on(disk, at_rest)
    run = run_of(0, data_for(0, 9_000), frame_bytes=FRAME_BYTES, key_id="ffffffff")
    assert sole(put(engine, run)) == Status.WRITTEN
    engine.sync()
    assert scrubbed(engine)[0] == []
    flip(disk, block_at(engine, 3))
    (found,) = scrubbed(engine)[0]
    assert (found.part, found.first <= 3 < found.end) == (Part.TICKETS, True)
    assert found.count < 18
    assert found.reason == "the stored blocks do not fit their sums"
    assert engine.inspect(3, 1, CHECK) != []
    assert engine.inspect(17, 1, CHECK) == []


def test_the_same_bytes_again_are_written_and_others_are_refused() -> None:
    engine = engine_on(MemoryDisk(), BOTH)
    write(engine, 0, 20_000)
    assert sole(put(engine, run_at(0, 20_000))) == Status.WRITTEN
    other = run_of(0, bytes(20_000), frame_bytes=FRAME_BYTES)
    assert sole(put(engine, other)) == Status.TICKET_TAKEN


def test_stat_tells_how_a_run_is_stored() -> None:
    disk = MemoryDisk()
    told = []
    for first, at_rest in ((0, None), (100, AtRest(compress=True)), (200, ENCRYPTED), (300, BOTH)):
        engine = engine_on(disk, at_rest or READS)
        write(engine, first, 20_000)
        info = engine.stat(first + 3)
        assert info is not None
        assert info.size == FRAME_BYTES
        assert info.run is not None
        told.append((info.run.compression, info.run.encryption))
        assert info.run.plain_bytes == 20_000 + 40 * 16
        assert (info.run.stored_bytes < 8000) == (info.run.compression == "zstd")
        total = engine.stored()
        assert total.plain_bytes == info.run.plain_bytes
        assert 80 <= total.stored_bytes - info.run.stored_bytes < 110
        assert (total.compression, total.encryption) == told[-1]
        engine.close()
    assert told == [("", ""), ("zstd", ""), ("", "aes-256-gcm"), ("zstd", "aes-256-gcm")]
    assert engine_on(disk).stored() == Stored("", "aes-256-gcm", 0, 0)


def test_runs_are_cut_where_a_segment_ends() -> None:
    disk = MemoryDisk()
    engine = engine_on(disk)
    sizes = [17_000, 30_000, 29_000, 31_000, 60_000, 100_000]
    for at, size in enumerate(sizes):
        write(engine, 1000 * at, size)
    assert len([path for path in disk.files() if path.endswith(".seg")]) > 3
    whole = merged(*(parts(1000 * at, size) for at, size in enumerate(sizes)))
    assert stored(engine, 0, 10_000) == whole
    engine.close()
    assert stored(engine_on(disk), 0, 10_000) == whole


def test_compressed_runs_fill_a_segment() -> None:
    engine = engine_on(MemoryDisk(), BOTH)
    for first in range(0, 1000, 100):
        write(engine, first, 20_000)
    assert engine._writer.log.number == 1


# -- compaction ----------------------------------------------------------------------------


def victim(disk: MemoryDisk, at_rest: AtRest) -> SegmentsEngine:
    """Segment 1 is sealed, and has one whole run and half of another left, and two records."""
    engine = engine_on(disk, at_rest)
    engine.put_record(record(1, "A"))
    engine.put_record(record(2, "B"))
    write(engine, 0, 5000)
    write(engine, 100, 10_000)
    write(engine, 200, 40_000)
    while engine._writer.log.number == 1:
        engine._writer._roll(spare=True)
    engine.free([(108, 4), (200, 100)])
    engine.sync()
    engine.close()
    return engine


def compact(engine: SegmentsEngine) -> None:
    for _ in range(10):
        more = engine.tend(1 << 20).more
        engine.sync()
        if not more:
            break
    assert 1 not in engine._catalog.segments


LEFT = {t: d for t, d in parts(100, 10_000).items() if not 108 <= t < 112} | parts(0, 5000)


@pytest.mark.parametrize("at_rest", [ENCRYPTED, BOTH, AtRest(compress=True)])
def test_compaction_copies_whole_packed_runs_as_they_are(at_rest: AtRest) -> None:
    disk = MemoryDisk()
    victim(disk, at_rest)
    engine = engine_on(disk, at_rest)
    before = bodies(engine)
    compact(engine)
    assert stored(engine, 0, 1000) == LEFT
    assert [each.record for each in engine.records(0, 9)] == [record(1, "A"), record(2, "B")]
    after = bodies(engine)
    assert sorted(after) == [(1, 0), (1, 100), (1, 112), (2, 1), (2, 2)]
    for key in ((1, 0), (2, 1), (2, 2)):
        assert after[key][1] == before[key][1]
    engine.close()
    engine = engine_on(disk, READS)
    assert stored(engine, 0, 1000) == LEFT


@pytest.mark.parametrize("old", [READS, ENCRYPTED, BOTH, AtRest(compress=True, keys=READS.keys)])
@pytest.mark.parametrize("new", [READS, ROTATED])
def test_compaction_brings_old_records_up_to_date(old: AtRest, new: AtRest) -> None:
    disk = MemoryDisk()
    victim(disk, old)
    engine = engine_on(disk, new)
    compact(engine)
    assert stored(engine, 0, 1000) == LEFT
    assert [each.record for each in engine.records(0, 9)] == [record(1, "A"), record(2, "B")]
    copies = bodies(engine).values()
    assert len(copies) == 5
    for header, body in copies:
        if new is ROTATED:
            assert engine._reader.unpacker.layout(header, body).key_id == ROTATED.writing
        else:
            assert not header.packed or not body[1]
    engine.close()
    only = AtRest(keys={key_id_of(OTHER_KEY): OTHER_KEY})
    assert stored(engine_on(disk, only), 0, 1000) == LEFT


def test_damage_is_not_copied() -> None:
    disk = MemoryDisk()
    engine = victim(disk, ENCRYPTED)
    engine = engine_on(disk)
    flip(disk, block_at(engine, 104) + 5)
    for _ in range(6):
        engine.tend(1 << 20)
        engine.sync()
    assert 1 in engine._catalog.segments
    good = {ticket for ticket in LEFT if ticket not in (104, 105)}
    assert stored(engine, 0, 104) == {t: d for t, d in LEFT.items() if t < 104}
    assert stored(engine, 106, 100) == {t: LEFT[t] for t in good if t > 105}


def test_a_part_of_a_packed_run_counts_for_its_share() -> None:
    engine = engine_on(MemoryDisk(), BOTH)
    write(engine, 0, 40_000)
    index = engine._catalog.segments[1].index
    whole = index.live_bytes
    assert whole < 12_000
    engine.free([(0, 20)])
    assert abs(index.live_bytes - whole / 2) < 600
    engine.free([(30, 50)])
    assert abs(index.live_bytes - whole / 4) < 600


def test_a_key_that_is_not_there_is_named(caplog: pytest.LogCaptureFixture) -> None:
    disk = MemoryDisk()
    engine = engine_on(disk)
    engine.put_record(record(1, "A"))
    write(engine, 0, 2000)
    engine.close()
    engine = engine_on(disk, AtRest())
    with caplog.at_level(logging.ERROR):
        (piece,) = engine.read(0, 10)
        assert engine.records(0, 9) == []
    assert not any(piece.frames)
    assert caplog.text.count(f"data key {key_id_of(DATA_KEY).hex()} is not here") == 3


def test_a_torn_packed_run_is_cut_without_any_key() -> None:
    disk = MemoryDisk()
    engine = engine_on(disk)
    write(engine, 0, 2000)
    end = engine._writer.log.end
    put(engine, run_at(100, 9000))
    engine._writer.log.sync()
    flip(disk, end + 4000)
    engine = engine_on(disk, AtRest())
    assert engine.report.cut_bytes > 0
    assert not engine.report.lost
    engine.close()
    assert stored(engine_on(disk), 0, 1000) == parts(0, 2000)
