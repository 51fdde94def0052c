"""Bits that turn over in the index of a running node: its file is mapped, so it sees them at once.

What is looked up may then be anything. A pass, or a read that meets it, has the index made again
from the segment, without a restart.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from common.errors import PutterError
from common.limits import KIB
from putter.storage.damage import Damage
from putter.storage.disk import RealDisk
from putter.storage.marked import MarkedEngine
from putter.storage.notes import MemoryNotes
from putter.storage.scrub import Finding, Part
from putter.storage.segments.engine import SegmentsEngine
from tests.storage_kit import CHECK, data_for, numbers, record, run_of, split, stored, verify

ROUNDS = 400 if "PUTTER_SOAK" in os.environ else 60
FRAME_BYTES = 500


class Rig:
    """A node on a real disk with several sealed segments."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.engine = SegmentsEngine(RealDisk(path), segment_bytes=64 * KIB, verify=verify)
        self.tickets: dict[int, bytes] = {}
        for step in range(30):
            first, data = 100 * step, data_for(step, 9_000)
            run = run_of(first, data, frame_bytes=FRAME_BYTES, object_id=f"O{step}")
            self.engine.put(run)
            self.engine.put_record(record(step + 1, f"O{step}"))
            self.tickets |= split(first, data, FRAME_BYTES)
        self.engine.free([(100 * step + 3, 2) for step in range(0, 30, 3)])
        for step in range(0, 30, 3):
            del self.tickets[100 * step + 3], self.tickets[100 * step + 4]
        self.engine.sync()
        self.marked = MarkedEngine(self.engine, MemoryNotes(), Damage(), CHECK)
        self.indexes = sorted((path / "segments").glob("*.idx"))
        assert len(self.indexes) > 3

    def flip(self, index: Path, bit: int) -> None:
        """In place, as a platter does: what is mapped changes, too."""
        with index.open("r+b", buffering=0) as file:
            (byte,) = os.pread(file.fileno(), 1, bit // 8)
            os.pwrite(file.fileno(), bytes([byte ^ 1 << bit % 8]), bit // 8)

    def whole_pass(self) -> list[Finding]:
        found: list[Finding] = []
        cursor = "begin"
        while cursor:
            piece = self.marked.scrub(cursor, 1 << 20, CHECK)
            found += self.marked.mark(piece.findings)
            cursor = piece.cursor
        return found

    def is_whole(self) -> bool:
        return (
            stored(self.marked, 0, 10_000) == self.tickets  # type: ignore[arg-type]
            and numbers(self.engine) == list(range(1, 31))
            and self.marked.damage.tickets == self.marked.damage.others == 0
        )


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    found = Rig(tmp_path)
    yield found
    found.engine.close()


def test_a_pass_mends_whatever_bit_turned_over(rig: Rig) -> None:
    generator = random.Random(7)
    for _ in range(ROUNDS):
        index = generator.choice(rig.indexes)
        size = index.stat().st_size
        places = [*range(240), *range(4096, size)]  # behind the head the first block is not used
        bit = 8 * generator.choice(places) + generator.randrange(8)
        rig.flip(index, bit)
        found = rig.whole_pass()
        said = f"bit {bit} of {index.name}: {[str(each) for each in found]}"
        assert [(each.part, each.mended) for each in found] == [(Part.INDEX, True)], said
        assert rig.is_whole(), said
    assert rig.whole_pass() == []


def test_a_read_that_meets_it_has_it_mended(rig: Rig) -> None:
    """The offset of a run points elsewhere: the wrong bytes come, and the next upkeep looks."""
    (place,) = rig.engine._catalog.places(700, 800, raw=False, limit=1)
    index = rig.path / f"segments/{place.segment:016x}.idx"
    data = index.read_bytes()
    row = data.index(place.record.to_bytes(4, "little") + place.length.to_bytes(4, "little"))
    rig.flip(index, 8 * (row + 12) + 6)  # the low byte of `body`
    got = b"".join(bytes(piece.frames) for piece in rig.marked.read(703, 1))
    assert got[16:] != rig.tickets[703]
    rig.marked.tend(1 << 20)
    rig.marked.sync()
    assert rig.is_whole()
    assert rig.whole_pass() == []


def test_garbage_in_an_index_raises_nothing_but_errors_of_ours(rig: Rig) -> None:
    """Whatever stands there, reads, writes and upkeep end with an answer or a `PutterError`."""
    generator = random.Random(11)
    for step in range(ROUNDS):
        for index in rig.indexes:
            with index.open("r+b", buffering=0) as file:
                at = generator.randrange(4096, index.stat().st_size)
                os.pwrite(file.fileno(), generator.randbytes(8), at)
        for ticket in generator.sample(range(3000), 20):
            with suppress(PutterError):
                list(rig.marked.read(ticket, 5))
            with suppress(PutterError):
                rig.marked.stat(ticket)
        with suppress(PutterError):
            rig.marked.put(run_of(20_000 + 10 * step, b"new", object_id="NEW"))
            rig.marked.sync()
            rig.tickets[20_000 + 10 * step] = b"new"
        assert {each.part for each in rig.whole_pass()} == {Part.INDEX}
        rig.tickets = {ticket: data for ticket, data in rig.tickets.items() if ticket < 10_000}
        assert rig.is_whole()
