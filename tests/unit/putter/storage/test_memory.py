"""What the contract does not say about the memory engine: cost, copies, cut runs."""

from __future__ import annotations

import random
import tracemalloc

import pytest

from common.errors import NoSpace
from common.wire.status import Status
from putter.storage.memory import MemoryEngine
from tests.storage_kit import data_for, put, record, run_of, split, stored


def test_a_run_is_copied_once_and_read_without_a_copy() -> None:
    engine = MemoryEngine()
    run = run_of(0, bytes(1 << 20), frame_bytes=1 << 16)
    tracemalloc.start()
    engine.put(run)
    pieces = list(engine.read(0, 16))
    grown, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(pieces) == 1
    assert (1 << 20) <= grown <= peak < (1 << 20) + (1 << 18)


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
