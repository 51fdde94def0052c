"""How fast the storage engines take what a putter hands them: put, then sync.

Usage: python benchmarks/bench_engines.py [--directory DIR] [--seconds S]

Frames are built before the clock starts, so this is the engine alone: no network, no checksums.
Every ``put`` is followed by a ``sync``, except where runs of one ticket share one sync (a group).

The tree is only removed at the end, and a second run right after it is slower: ext4 does not
take inodes again that were freed seconds ago, and searches long for others.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from common.wire import frames
from putter.storage.disk import RealDisk
from putter.storage.engine import Engine, Run
from putter.storage.memory import MemoryEngine
from putter.storage.tree import TreeEngine

KIB, MIB = 1024, 1024 * 1024

# name, data bytes of an object, data bytes of a frame, objects a sync
SHAPES = [
    ("1 MiB runs of 64 KiB frames", MIB, 64 * KIB, 1),
    ("1 MiB runs of 1458 B frames", MIB // 1458 * 1458, 1458, 1),
    ("1 KiB objects, 64 a sync", KIB, 64 * KIB, 64),
    ("1 KiB objects, 1 a sync", KIB, 64 * KIB, 1),
]


def rows_of(size: int, frame_bytes: int) -> memoryview:
    rows = memoryview(bytearray(frames.wire_bytes(size, frame_bytes)))
    frames.build(rows, memoryview(bytes(size)), 0, frame_bytes, bytes(32))
    return rows


def measure(
    engine: Engine, size: int, frame_bytes: int, group: int, seconds: float, bytes_max: int
) -> tuple[float, float]:
    """Objects and gigabytes a second."""
    rows = rows_of(size, frame_bytes)
    tickets = frames.frame_count(size, frame_bytes)
    first = objects = 0
    began = time.perf_counter()
    took = 0.0
    while took < seconds and objects * size < bytes_max:
        for _ in range(group):
            statuses = engine.put(Run(first, rows, frame_bytes, "OBJ", "0a1b2c3d"))
            if statuses.any():
                raise SystemExit(f"ticket {first} was refused: {statuses.max()}")
            first += tickets
        engine.sync()
        objects += group
        took = time.perf_counter() - began
    return objects / took, objects * size / took / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, help="where the tree is built (a temporary one)")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each line")
    options = parser.parse_args()
    print(f"{'engine':8}  {'shape':28}  {'objects/s':>10}  {'GB/s':>7}")
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        for name in ("memory", "tree"):
            for number, (shape, size, frame_bytes, group) in enumerate(SHAPES):
                path = Path(directory, f"{name}-{number}")
                path.mkdir()
                if name == "memory":  # fresh memory is the machine's cost, not the engine's
                    measure(MemoryEngine(), size, frame_bytes, group, options.seconds, 1 << 30)
                engine: Engine = TreeEngine(RealDisk(path)) if name == "tree" else MemoryEngine()
                rates = measure(engine, size, frame_bytes, group, options.seconds, 1 << 30)
                engine.close()
                print(f"{name:8}  {shape:28}  {rates[0]:10,.0f}  {rates[1]:7.3f}")


if __name__ == "__main__":
    main()
