"""One bit changes anywhere on a node's disk: a pass finds what it damaged, and nothing else.

What is wrong is told independently: by reading every ticket and record, and looking at the frames.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import ChecksumMismatch
from common.limits import KIB
from common.meta.interface import Ceilings
from common.wire import frames
from putter.storage.damage import Damage
from putter.storage.engine import Engine
from putter.storage.marked import MarkedEngine
from putter.storage.memory_disk import MemoryDisk
from putter.storage.notes import MemoryNotes
from putter.storage.scrub import Part
from putter.storage.segments.engine import SegmentsEngine
from putter.storage.tree import TreeEngine
from tests.storage_kit import (
    CHECK,
    KEY,
    PACKED,
    bad_tickets,
    data_for,
    record,
    run_of,
    scrubbed,
    split,
    verify,
)

EXAMPLES = 2_000 if "PUTTER_SOAK" in os.environ else 60
KINDS = ("segments", "packed", "tree")
Key = tuple[bool, int]


@dataclass
class Node:
    """A store that is whole, and what is in it."""

    disk: MemoryDisk
    engine: Engine
    tickets: dict[Key, bytes]
    records: frozenset[int]


@cache
def node_of(kind: str) -> Node:
    """Made once; each example puts back what it changed."""
    disk = MemoryDisk()
    engine: Engine
    if kind == "tree":
        engine = TreeEngine(disk)
    else:
        packing = PACKED if kind == "packed" else None
        engine = SegmentsEngine(disk, segment_bytes=24 * KIB, verify=verify, at_rest=packing)
    tickets: dict[Key, bytes] = {}
    numbers: set[int] = set()
    for step in range(16):
        raw = step % 5 == 4
        first, size, frame_bytes = 1000 * step, 200 + 377 * (step % 7), (64, 1458, 700)[step % 3]
        data = data_for(first, size)
        owner = "" if raw else f"O{step}"
        engine.put(run_of(first, data, frame_bytes=frame_bytes, object_id=owner), raw=raw)
        tickets |= {(raw, t): part for t, part in split(first, data, frame_bytes).items()}
        numbers.add(engine.put_record(record(step + 1, f"O{step}", data_for(step, 30 * step + 1))))
        if step % 4 == 3:
            low = 1000 * (step - 2)
            engine.free([(low, 2)])
            tickets.pop((False, low), None)
            tickets.pop((False, low + 1), None)
            dropped = engine.find_record(f"O{step - 1}")
            assert dropped is not None
            engine.drop_records([f"O{step - 1}"])
            numbers.discard(dropped.number)
        if step % 3 == 0:
            engine.sync()
    engine.raise_ceilings(Ceilings(20_000, 80, 900))
    engine.sync()
    return Node(disk, engine, tickets, frozenset(numbers))


def intact(engine: Engine) -> dict[Key, bytes]:
    """The tickets whose frames fit."""
    found: dict[Key, bytes] = {}
    for raw in (False, True):
        for piece in engine.read(0, 100_000, raw=raw):
            rows = memoryview(bytearray(piece.frames))
            stride = piece.frame_bytes + 16
            statuses = frames.check(rows, piece.first, piece.frame_bytes, KEY)
            for at, status in enumerate(statuses.tolist()):
                if not status:
                    row = rows[at * stride : (at + 1) * stride]
                    found[raw, piece.first + at] = bytes(row[16:])
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_the_store_is_whole_to_begin_with(kind: str) -> None:
    node = node_of(kind)
    assert intact(node.engine) == node.tickets
    assert scrubbed(node.engine)[0] == []
    assert kind == "tree" or sum(path.endswith(".idx") for path in node.disk.files()) >= 1


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=EXAMPLES, deadline=None)
@given(file=st.integers(0, 10_000), place=st.integers(0, 2**40), budget=st.sampled_from([1, 9999]))
def test_a_pass_finds_what_one_bit_damages(kind: str, file: int, place: int, budget: int) -> None:
    node = node_of(kind)
    paths = sorted(path for path in node.disk.files() if node.disk.read(path))
    path = paths[file % len(paths)]
    bit = place % (8 * len(node.disk.read(path) or b""))
    node.disk.flip(path, bit)
    flipped = node.disk.read(path)
    try:
        whole = intact(node.engine)
        records = {each.number for each in node.engine.records(0, 10_000)}
        findings, _ = scrubbed(node.engine, budget)

        assert all(node.tickets[key] == data for key, data in whole.items())
        bad = node.tickets.keys() - whole.keys()
        told = {(raw, t) for raw in (False, True) for t in bad_tickets(findings, raw=raw)}
        assert told == bad
        lost = {each.first for each in findings if each.part is Part.RECORD}
        assert lost == node.records - records
        for each in findings:
            assert path in each.place or each.place.rpartition("/")[0] in path
        _nothing_wrong_is_served(node, findings, bad)
    finally:
        if node.disk.read(path) == flipped:  # an index that a read met is made again meanwhile
            node.disk.flip(path, bit)
    assert scrubbed(node.engine)[0] == []


def _nothing_wrong_is_served(node: Node, findings: list, bad: set[Key]) -> None:  # type: ignore[type-arg]
    damage = Damage()
    marked = MarkedEngine(node.engine, MemoryNotes(), damage, CHECK)
    marked.mark(findings)
    assert damage.tickets == len(bad) + sum(e.count for e in findings if e.part is Part.HEADER)
    for raw, ticket in bad:
        with pytest.raises(ChecksumMismatch):
            list(marked.read(ticket, 1, raw=raw))
        info = marked.stat(ticket, raw=raw)
        assert info is not None
        assert info.damaged
    others = {
        (raw, ticket): bytes(piece.frames)[16:]
        for raw, ticket in node.tickets.keys() - bad
        for piece in marked.read(ticket, 1, raw=raw)
    }
    assert others == {key: node.tickets[key] for key in node.tickets.keys() - bad}


@settings(max_examples=EXAMPLES, deadline=None)
@given(which=st.integers(0, 10_000), place=st.integers(0, 2**40))
def test_no_bit_of_a_record_that_counts_can_change_unseen(which: int, place: int) -> None:
    node = node_of("segments")
    assert isinstance(node.engine, SegmentsEngine)
    spans = _spans(node.engine)
    number, low, high = spans[which % len(spans)]
    path = f"segments/{number:016x}.seg"
    bit = 8 * low + place % (8 * (high - low))
    node.disk.flip(path, bit)
    try:
        assert scrubbed(node.engine)[0] != []
    finally:
        node.disk.flip(path, bit)


def _spans(engine: SegmentsEngine) -> list[tuple[int, int, int]]:
    """(segment, first byte, end) of all records that count, without the zeros that fill them."""
    found = []
    for number, segment in engine._catalog.segments.items():
        index = segment.index
        starts = [place.record for raw in (False, True) for place in index.all_runs(raw=raw)]
        starts += [place.record for place in index.after(0, 1000)]
        starts += [removal.record for removal in index.removals]
        for at in sorted(set(starts)):
            header = engine._reader.header(number, at)
            assert header is not None
            whole = header.body_at + header.body_bytes
            if any(
                place.record == at and place.count < header.count
                for raw in (False, True)
                for place in index.all_runs(raw=raw)
            ):
                whole = header.body_at  # some of its tickets are freed: those bytes are dead
            found.append((number, at, at + whole))
    return found
