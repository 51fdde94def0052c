"""How a segment store starts: seconds and memory by the number of objects.

    .venv/bin/python -m benchmarks.bench_start_segments [--objects 1000000]

Objects of 1 KiB, each a run of one ticket and a commit record of 300 bytes, 256 a sync. Opening is
measured in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common.tickets import format_id
from common.wire import frames
from putter.storage.disk import RealDisk
from putter.storage.engine import Record, Run
from putter.storage.segments.engine import SegmentsEngine

_DATA = bytes(1024)


def fill(path: Path, objects: int) -> float:
    """Store them; seconds."""
    engine = SegmentsEngine(RealDisk(path))
    rows = memoryview(bytearray(frames.wire_bytes(len(_DATA), 65536)))
    started = time.perf_counter()
    for number in range(objects):
        frames.build(rows, memoryview(_DATA), number, 65536, bytes(32))
        object_id = format_id(number)
        engine.put(Run(number, rows, 65536, object_id, "0a1b2c3d"))
        engine.put_record(Record(number + 1, object_id, bytes(300)))
        if number % 256 == 255:
            engine.sync()
    engine.close()
    return time.perf_counter() - started


def anonymous_bytes() -> int:
    """Memory of this process that is its own, mapped files aside."""
    for line in Path("/proc/self/status").read_text("utf-8").splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    return 0


def open_it(path: Path) -> dict[str, float]:
    """Open, look one object up, close."""
    before = anonymous_bytes()
    started = time.perf_counter()
    engine = SegmentsEngine(RealDisk(path))
    seconds = time.perf_counter() - started
    grown = anonymous_bytes() - before
    started = time.perf_counter()
    for number in range(1000):
        engine.stat(number * 7)
    found = (time.perf_counter() - started) / 1000
    engine.close()
    return {"open_s": seconds, "memory_mib": grown / 2**20, "stat_us": found * 1e6}


def main() -> None:
    """Print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--open", type=Path, help="only open this data directory")
    options = parser.parse_args()
    if options.open:
        print(json.dumps(open_it(options.open)))
        return
    results: dict[str, object] = {}
    for objects in (options.objects // 100, options.objects // 10, options.objects):
        with tempfile.TemporaryDirectory() as folder:
            seconds = fill(Path(folder), objects)
            words = [sys.executable, "-m", "benchmarks.bench_start_segments", "--open", folder]
            opened = json.loads(subprocess.check_output(words, text=True))
            results[str(objects)] = {"put_us": seconds / objects * 1e6, **opened}
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
