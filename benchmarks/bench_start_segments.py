"""How a segment store starts: seconds and memory by the number of objects.

    .venv/bin/python -m benchmarks.bench_start_segments [--objects 1000000]

Objects of 1 KiB (`--bytes`), each a run of one ticket and a commit record of 300 bytes, 256 a sync.
Opening is measured in a process of its own, for a hundredth, a tenth and all of the objects. From
the last two follow what a million more cost, and what ten million would: a straight line, not a
measurement; `--objects 10000000` measures it.
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

_EXTRAPOLATED = 10_000_000


def fill(path: Path, objects: int, size: int) -> float:
    """Store them; seconds."""
    data = memoryview(bytes(size))
    engine = SegmentsEngine(RealDisk(path))
    rows = memoryview(bytearray(frames.wire_bytes(size, 65536)))
    started = time.perf_counter()
    for number in range(objects):
        frames.build(rows, data, number, 65536, bytes(32))
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
    parser.add_argument("--bytes", type=int, default=1024)
    parser.add_argument("--open", type=Path, help="only open this data directory")
    options = parser.parse_args()
    if options.open:
        print(json.dumps(open_it(options.open)))
        return
    results: dict[str, dict[str, float]] = {}
    for objects in (options.objects // 100, options.objects // 10, options.objects):
        with tempfile.TemporaryDirectory() as folder:
            seconds = fill(Path(folder), objects, options.bytes)
            words = [sys.executable, "-m", "benchmarks.bench_start_segments", "--open", folder]
            opened = json.loads(subprocess.check_output(words, text=True))
            results[f"{objects:,}"] = {"put_us": seconds / objects * 1e6, **opened}
    print_table(results, options.objects)
    print(json.dumps(results, indent=2))


def print_table(results: dict[str, dict[str, float]], objects: int) -> None:
    """As in docs/internals/performance.md."""
    print("| objects | to open | memory | to write one | to find one |\n|---|---|---|---|---|")
    for count, row in results.items():
        cells = [f"{row['open_s']:.2f} s", f"{row['memory_mib']:.0f} MiB"]
        cells += [f"{row['put_us']:.0f} µs", f"{row['stat_us']:.0f} µs"]
        print("|", " | ".join([count, *cells]), "|")
    *_, less, last = results.values()
    more = (_EXTRAPOLATED - objects) / (objects * 0.9)
    line = {
        name: last[name] + (last[name] - less[name]) * more for name in ("open_s", "memory_mib")
    }
    cells = [f"{line['open_s']:.1f} s", f"{line['memory_mib']:.0f} MiB", "-", "-"]
    print("|", " | ".join([f"{_EXTRAPOLATED:,}, extrapolated", *cells]), "|")


if __name__ == "__main__":
    main()
