"""What the contract does not say about the memory engine: cost, copies, cut runs."""

from __future__ import annotations

import random
import tracemalloc

import pytest

from common.errors import NoSpace
from common.wire import frames
from common.wire.status import Status
from putter.storage.memory import MemoryEngine
from tests.storage_kit import data_for, put, record, run_of, split, stored


def test_a_run_costs_nothing_per_frame_and_is_read_without_a_copy() -> None:
    engine = MemoryEngine()
    run = run_of(0, bytes(1458 * 700), frame_bytes=1458)
    engine.put(run_of(10_000, bytes(1458 * 700), frame_bytes=1458))
    tracemalloc.start()
    engine.put(run)
    pieces = list(engine.read(0, 700))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(pieces) == 1
    assert bytes(pieces[0].frames) == run.frames
    assert peak < 8 * 1024


@pytest.mark.parametrize("size", [1 << 10, 1 << 16, 1 << 20, 33 << 20])
def test_runs_of_any_length_are_kept_apart(size: int) -> None:
    engine = MemoryEngine()
    for first in range(0, 300, 100):
        engine.put(run_of(first, bytes([first % 251]) * size, frame_bytes=1 << 20))
    for first in range(0, 300, 100):
        pieces = engine.read(first, 100)
        data = b"".join(bytes(frames.strip(piece.frames, 1 << 20)) for piece in pieces)
        assert data == bytes([first % 251]) * size


def test_many_single_tickets_in_any_order() -> None:
    engine = MemoryEngine()
    tickets = list(range(0, 40_000, 2))
    random.Random(7).shuffle(tickets)
    run = run_of(0, b"12345678")
    for ticket in tickets:
        engine.put(type(run)(ticket, run.frames, 8, "", "k"))
    assert [piece.first for piece in engine.read(0, 10**12)] == sorted(tickets)
    assert engine.stat(20_000) is not None
    assert engine.stat(20_001) is None
    assert engine.free([(0, 10**12)]) == len(tickets)
    assert engine.capacity().free_bytes == engine.capacity().total_bytes


def test_a_run_may_span_many_drawers() -> None:
    engine = MemoryEngine()
    data = data_for(1000, 8 * 5000)
    engine.put(run_of(1000, data))
    assert stored(engine, 3000, 10) == dict(list(split(1000, data).items())[2000:2010])
    assert engine.free([(2047, 2)]) == 2
    expected = split(1000, data)
    del expected[2047], expected[2048]
    assert stored(engine, 0, 10_000) == expected
    assert engine.put(run_of(1000, data)).tolist() == [0] * 5000
    assert stored(engine, 0, 10_000) == split(1000, data)


def test_a_cut_run_frees_its_memory() -> None:
    engine = MemoryEngine(capacity_bytes=1000)
    engine.put(run_of(0, bytes(8 * 10)))
    assert engine.capacity().free_bytes == 1000 - 240
    engine.free([(3, 4)])
    assert engine.capacity().free_bytes == 1000 - 6 * 24


def test_records_use_the_same_memory() -> None:
    engine = MemoryEngine(capacity_bytes=100)
    engine.put_record(record(1, "A", bytes(90)))
    assert put(engine, run_of(0, b"1")) == [Status.NO_SPACE]
    with pytest.raises(NoSpace):
        engine.put_record(record(2, "A", bytes(11)))
    engine.drop_records(["A"])
    assert engine.put_record(record(2, "A", bytes(11))) == 2
    assert put(engine, run_of(0, b"1")) == [Status.WRITTEN]
