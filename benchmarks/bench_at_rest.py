"""What compression and encryption cost the segment store, and what they save.

    .venv/bin/python -m benchmarks.bench_at_rest [--directory DIR] [--megabytes 256] [--rounds 3]

The engine alone: runs of 1 MiB in frames of 64 KiB that are built before the clock starts, a sync
after each, then everything is read, then one frame at a time; and objects of 1 KiB with a commit
record, 64 a sync. Text is the source of Python's standard library, noise comes from a seeded
generator. Processor time is the least of all rounds, the rate the best.
"""

from __future__ import annotations

import argparse
import random
import sysconfig
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from common.checksum import derive_key
from common.wire import frames
from putter.storage.disk import RealDisk
from putter.storage.engine import Record, Run
from putter.storage.segments.engine import SegmentsEngine
from putter.storage.segments.packing import AtRest, key_id_of

KIB, MIB = 1024, 1024 * 1024
FRAME_BYTES = 64 * KIB
OBJECTS = 4096
KEY = derive_key("data-putter benchmark", bytes(32))
KEYS = {key_id_of(KEY): KEY}
WAYS = {
    "off": AtRest(),
    "zstd": AtRest(compress=True),
    "encrypted": AtRest(writing=key_id_of(KEY), keys=KEYS),
    "zstd, encrypted": AtRest(compress=True, writing=key_id_of(KEY), keys=KEYS),
}


@dataclass
class Cost:
    """Least processor seconds and wall seconds for a piece of work."""

    cpu_s: float = float("inf")
    wall_s: float = float("inf")

    def take(self, cpu_s: float, wall_s: float) -> None:
        """Of another round."""
        self.cpu_s, self.wall_s = min(self.cpu_s, cpu_s), min(self.wall_s, wall_s)


class Clock:
    """Measures what is done within it."""

    def __init__(self, cost: Cost) -> None:
        self._cost = cost

    def __enter__(self) -> None:
        self._cpu_s, self._wall_s = time.process_time(), time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._cost.take(time.process_time() - self._cpu_s, time.perf_counter() - self._wall_s)


def text(size: int) -> bytes:
    out = bytearray()
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        out += path.read_bytes()
    return bytes((out * (size // len(out) + 1))[:size])


def noise(size: int) -> bytes:
    generator = random.Random(7)
    return b"".join(generator.randbytes(MIB) for _ in range(size // MIB))


def runs_of(data: bytes) -> list[memoryview]:
    """Frames of each MiB; the tickets go on from run to run."""
    runs = []
    for at in range(0, len(data), MIB):
        part = memoryview(data)[at : at + MIB]
        rows = memoryview(bytearray(frames.wire_bytes(len(part), FRAME_BYTES)))
        frames.build(rows, part, at // FRAME_BYTES, FRAME_BYTES, bytes(32))
        runs.append(rows)
    return runs


def once(path: Path, way: AtRest, runs: list[memoryview], costs: dict[str, Cost]) -> float:
    """One round; how many plain bytes there are for each stored one."""
    engine = SegmentsEngine(RealDisk(path), at_rest=way)
    with Clock(costs["write"]):
        for number, rows in enumerate(runs):
            engine.put(Run(number * 16, rows, FRAME_BYTES, "2K", "0a1b2c3d"))
            engine.sync()
    written = engine.stored()
    with Clock(costs["read"]):
        size = sum(len(piece.frames) for piece in engine.read(0, len(runs) * 16))
    assert size == sum(map(len, runs))
    picks = random.Random(1).sample(range(len(runs) * 16), 1000)
    with Clock(costs["frame"]):
        for ticket in picks:
            next(iter(engine.read(ticket, 1)))
    small = runs[0][: 16 + KIB]
    with Clock(costs["small"]):
        for number in range(OBJECTS):
            name = f"S{number}"
            engine.put(Run(10_000_000 + number, small, FRAME_BYTES, name, "0a1b2c3d"))
            engine.put_record(Record(number + 1, name, bytes(300)))
            if number % 64 == 63:
                engine.sync()
    engine.close()
    return written.plain_bytes / written.stored_bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, help="where it is written (a temporary one)")
    parser.add_argument("--megabytes", type=int, default=256, help="of each kind of data")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    size = options.megabytes * MIB
    kinds = {"text": runs_of(text(size)), "noise": runs_of(noise(size))}
    cases = [(kind, way) for kind in kinds for way in WAYS]
    costs = {case: {what: Cost() for what in ("write", "read", "frame", "small")} for case in cases}
    ratios = {}
    for _ in range(options.rounds):
        for kind, way in cases:
            with tempfile.TemporaryDirectory(dir=options.directory) as folder:
                found = once(Path(folder), WAYS[way], kinds[kind], costs[kind, way])
                ratios[kind, way] = found
    print("| data | at rest | ratio | write GB/s, s/GB | read GB/s, s/GB | a frame | 1 KiB |")
    print("|---|---|---|---|---|---|---|")
    gigabytes = size / 1e9
    for kind, way in cases:
        cost = costs[kind, way]
        rates = [
            f"{gigabytes / cost[what].wall_s:.2f}, {cost[what].cpu_s / gigabytes:.2f}"
            for what in ("write", "read")
        ]
        frame_us = cost["frame"].cpu_s / 1000 * 1e6
        small_us = cost["small"].cpu_s / OBJECTS * 1e6
        print(
            f"| {kind} | {way} | {ratios[kind, way]:.2f} | {rates[0]} | {rates[1]} "
            f"| {frame_us:.0f} µs | {small_us:.0f} µs |"
        )


if __name__ == "__main__":
    main()
