"""Where runs lie in segment files: only what others may read there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from common.limits import MIB
from common.wire.locations import Locate, Spots
from putter.node.locating import answer_locate
from putter.storage.damage import Damage
from putter.storage.disk import RealDisk
from putter.storage.engine import Engine
from putter.storage.marked import MarkedEngine
from putter.storage.memory_disk import MemoryDisk
from putter.storage.notes import MemoryNotes
from putter.storage.scrub import Finding, Part
from putter.storage.segments.engine import SegmentsEngine
from tests.storage_kit import CHECK, KEY_ID, PACKED, data_for, put, run_of

FRAME = 1000


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[SegmentsEngine]:
    made = SegmentsEngine(RealDisk(tmp_path), segment_bytes=4 * MIB)
    yield made
    made.close()


def fill(engine: Engine, first: int, size: int, object_id: str = "OBJ") -> None:
    run = run_of(first, data_for(first, size), frame_bytes=FRAME, object_id=object_id)
    assert set(put(engine, run)) == {0}


def there(engine: Engine, first: int, count: int, limit: int = 100) -> dict[int, int]:
    """How many tickets lie from where on; each location is held against its file."""
    found = engine.locate(first, count, limit)
    for each in found.locations:
        stat = Path(each.file.path).stat()
        assert (stat.st_dev, stat.st_ino) == (each.file.device, each.file.inode)
        with Path(each.file.path).open("rb") as file:
            file.seek(each.offset)
            rows = file.read(each.length)
        assert rows == b"".join(bytes(p.frames) for p in engine.read(each.first, each.count))
        assert (each.frame_bytes, each.key_id) == (FRAME, KEY_ID)
    return {each.first: each.count for each in found.locations}


def test_what_is_durable_lies_where_it_is_told(engine: SegmentsEngine) -> None:
    fill(engine, 0, 20_000)
    fill(engine, 20, 5_500)
    engine.sync()
    assert there(engine, 0, 100) == {0: 20, 20: 6}
    assert engine.locate(0, 100, 100).until == 100


def test_what_is_not_synced_lies_nowhere(engine: SegmentsEngine) -> None:
    fill(engine, 0, 20_000)
    engine.sync()
    fill(engine, 20, 5_500)
    assert there(engine, 0, 100) == {0: 20}
    engine.sync()
    assert there(engine, 0, 100) == {0: 20, 20: 6}


def test_parts_of_runs_and_no_more_than_was_asked_for(engine: SegmentsEngine) -> None:
    for first in range(0, 100, 10):
        fill(engine, first, 10_000)
    engine.sync()
    assert there(engine, 15, 20) == {15: 5, 20: 10, 30: 5}
    assert there(engine, 0, 100, limit=3) == {0: 10, 10: 10, 20: 10}
    assert engine.locate(0, 100, 3).until == 30


def test_over_several_segments(engine: SegmentsEngine) -> None:
    for first in range(0, 12_000, 1_000):
        fill(engine, first, 1_000_000)
        engine.sync()
    assert len({each.file for each in engine.locate(0, 12_000, 100).locations}) > 2
    assert sum(there(engine, 0, 12_000).values()) == 12_000


def test_what_was_freed_lies_nowhere(engine: SegmentsEngine) -> None:
    fill(engine, 0, 20_000)
    engine.sync()
    engine.free([(5, 5)])
    engine.sync()
    assert there(engine, 0, 20) == {0: 5, 10: 10}


def test_what_is_marked_is_left_out_with_its_run(engine: SegmentsEngine) -> None:
    marked = MarkedEngine(engine, MemoryNotes(), Damage(), CHECK)
    fill(marked, 0, 20_000)
    fill(marked, 20, 20_000)
    marked.sync()
    marked.damage.add(Finding(Part.TICKETS, 3, 1, "OBJ", "somewhere", "rot"), 1)
    assert there(marked, 0, 40) == {20: 20}
    assert marked.locate(0, 40, 100).until == 40


def test_what_is_packed_or_on_no_disk_of_this_machine_lies_nowhere(tmp_path: Path) -> None:
    packed = SegmentsEngine(RealDisk(tmp_path), segment_bytes=4 * MIB, at_rest=PACKED)
    elsewhere = SegmentsEngine(MemoryDisk(), segment_bytes=4 * MIB)
    for engine in (packed, elsewhere):
        fill(engine, 0, 20_000)
        engine.sync()
        assert there(engine, 0, 20) == {}
        assert engine.locate(0, 20, 100).until == 20
        engine.close()


def test_a_message_names_each_file_once(engine: SegmentsEngine) -> None:
    for first in range(0, 9_000, 1_000):
        fill(engine, first, 1_000_000)
        engine.sync()
    reply, payload = answer_locate(Locate(5, 0, 9_000, 1_000), engine)
    assert isinstance(reply, Spots)
    assert payload == b""
    assert (reply.request, reply.until) == (5, 9_000)
    assert len(set(reply.files)) == len(reply.files) > 1
    assert {spot.file for spot in reply.spots} == set(range(len(reply.files)))
    assert [spot.first for spot in reply.spots] == list(range(0, 9_000, 1_000))


@pytest.mark.parametrize("limit", [-1, 0, 10**9])
def test_a_limit_is_brought_into_bounds(engine: SegmentsEngine, limit: int) -> None:
    for first in range(300):
        fill(engine, first, FRAME)
    engine.sync()
    reply, _ = answer_locate(Locate(1, 0, 300, limit), engine)
    assert isinstance(reply, Spots)
    assert len(reply.spots) == (256 if limit > 0 else 1)
    assert reply.until == reply.spots[-1].first + 1
