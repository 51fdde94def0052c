"""Readers beside the writing thread, on a real disk with many small segments."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread

import pytest

from common.limits import KIB
from common.wire import frames
from putter.storage.disk import RealDisk
from putter.storage.memory_disk import MemoryDisk
from putter.storage.segments import files as segment_files
from putter.storage.segments.engine import SegmentsEngine
from putter.storage.segments.packing import AtRest
from tests.storage_kit import (
    KEY,
    PACKED,
    data_for,
    numbers,
    record,
    run_of,
    scrubbed,
    split,
    stored,
    verify,
)

SECONDS = 30.0 if "PUTTER_SOAK" in os.environ else 1.5
FRAME_BYTES = 700
COUNT = 12
SIZE = FRAME_BYTES * COUNT - 100
ENCRYPTED = replace(PACKED, compress=False, block_bytes=1500)


def engine_on(
    disk: RealDisk | MemoryDisk, segment_bytes: int, at_rest: AtRest | None = None
) -> SegmentsEngine:
    return SegmentsEngine(disk, segment_bytes=segment_bytes, verify=verify, at_rest=at_rest)


@pytest.mark.parametrize(
    ("segment_bytes", "at_rest"), [(64 * KIB, None), (1024 * KIB, None), (64 * KIB, ENCRYPTED)]
)
def test_readers_see_whole_tickets_at_any_moment(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    segment_bytes: int,
    at_rest: AtRest | None,
) -> None:
    monkeypatch.setattr(segment_files, "_OPEN_MAX", 4)  # files are closed under their readers
    engine = engine_on(RealDisk(tmp_path), segment_bytes, at_rest)
    steady: list[int] = []
    """First tickets of runs that are synced and will not be freed."""
    done = Event()
    failures: list[BaseException] = []
    reads = [0]

    def guarded(work: Callable[[random.Random], None], seed: int) -> Thread:
        def run() -> None:
            generator = random.Random(seed)
            try:
                while not done.is_set():
                    work(generator)
            except BaseException as error:  # noqa: BLE001 - it is raised again by the test
                failures.append(error)
                done.set()

        return Thread(target=run)

    def read_steady(generator: random.Random) -> None:
        if not steady:
            return
        first = generator.choice(steady)
        low, high = sorted(generator.choices(range(COUNT), k=2))
        found = stored(engine, first + low, high - low + 1)
        expected = split(first, data_for(first, SIZE), FRAME_BYTES)
        assert found == {first + at: expected[first + at] for at in range(low, high + 1)}
        info = engine.stat(first + low)
        assert info is not None
        assert info.size == len(expected[first + low])
        reads[0] += 1

    def read_anything(generator: random.Random) -> None:
        """What comes and goes is there whole, or not at all, ticket by ticket."""
        first = 100 * generator.randrange(1, max(2, len(steady) * 2))
        for piece in engine.read(first, 300):
            rows = memoryview(bytearray(piece.frames))
            wrong = frames.check(rows, piece.first, piece.frame_bytes, KEY)
            if wrong.any():  # bytes of a segment that was given up meanwhile
                assert not set(range(piece.first, piece.first + piece.count)) & {
                    ticket for first in steady for ticket in range(first, first + COUNT)
                }
        capacity = engine.capacity()
        assert 0 <= capacity.free_bytes <= capacity.total_bytes
        engine.stat(first)

    def scrub(_: random.Random) -> None:
        assert scrubbed(engine, 64 * KIB)[0] == []
        passes[0] += 1

    passes = [0]
    threads = [guarded(read_steady, seed) for seed in range(3)]
    threads += [guarded(read_anything, 9), guarded(scrub, 10)]
    for thread in threads:
        thread.start()
    until = time.monotonic() + SECONDS
    first = 0
    try:
        while time.monotonic() < until and not done.is_set():
            first += 100
            engine.put(run_of(first, data_for(first, SIZE), frame_bytes=FRAME_BYTES))
            engine.put(run_of(first + 50, data_for(first + 50, SIZE), frame_bytes=FRAME_BYTES))
            engine.put_record(record(first, f"O{first}"))
            engine.sync()
            steady.append(first)
            engine.free([(first + 50, COUNT)])
            engine.tend(256 * KIB)
            if first % 700 == 0:
                engine.drop_records([f"O{first - 100}"])
    finally:
        done.set()
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]
    assert reads[0] > 20
    assert passes[0] > 0
    engine.close()
    engine = engine_on(RealDisk(tmp_path), segment_bytes, at_rest)
    for first in steady:
        assert stored(engine, first, 100) == split(first, data_for(first, SIZE), FRAME_BYTES)
    assert not engine.report.lost
    engine.close()


@pytest.mark.parametrize("indexed", [True, False])
def test_more_segments_than_open_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, indexed: bool
) -> None:
    """Files are opened as they are needed, and few stay open."""
    monkeypatch.setattr(segment_files, "_OPEN_MAX", 10)
    segments = 60
    engine = engine_on(RealDisk(tmp_path), 8 * KIB)
    for first in range(0, segments * 10, 10):
        engine.put(run_of(first, data_for(first, 2200), frame_bytes=2200))
        engine.put_record(record(first + 1, f"O{first}"))
    engine.sync()
    engine.close()
    if not indexed:
        for path in (tmp_path / "segments").glob("*.idx"):
            path.unlink()
    before = len(list(Path("/proc/self/fd").iterdir()))
    engine = engine_on(RealDisk(tmp_path), 8 * KIB)
    assert engine.report.segments >= segments
    assert not engine.report.lost
    for first in range(0, segments * 10, 10):
        assert stored(engine, first, 10) == {first: data_for(first, 2200)}
        assert engine.stat(first) is not None
    assert numbers(engine, 0, 1000) == list(range(1, segments + 1))
    now = len(list(Path("/proc/self/fd").iterdir()))
    assert now - before < 2 * 10 + 5  # a reader and a writer each, the directory
    engine.close()
