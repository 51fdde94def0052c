"""How long one command takes to be a whole store, on an empty data directory and on a used one.

    python -m benchmarks.bench_start --runs 5

From the start of the process to its banner, with the processor time of all its processes, and to
the end of a stop.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from tests.metadata_kit import free_port

PORTS = ("putter", "ingest", "ack", "s3", "web", "putter_web")
TICKS = os.sysconf("SC_CLK_TCK")


class Start(NamedTuple):
    """One start and stop."""

    ready_s: float
    processor_s: float
    stop_s: float


def start(data: Path) -> Start:
    ports = {f"PUTTER_{name.upper()}_PORT": str(free_port()) for name in PORTS}
    with (data.parent / "log").open("ab") as log:
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "putter", "router"],
            env={**os.environ, **ports, "PUTTER_DATA_DIR": str(data)},
            stdout=subprocess.PIPE,
            stderr=log,
        )
    assert process.stdout is not None
    banner = process.stdout.readline()
    ready = time.perf_counter()
    if b"is ready" not in banner:
        raise SystemExit((data.parent / "log").read_text())
    used = processor_s(process.pid)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    return Start(ready - began, used, time.perf_counter() - ready)


def processor_s(parent: int) -> float:
    """Of a process and its children that run; 0 where there is no /proc."""
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if parent in {int(path.parent.name), int(fields[1])}:
            ticks += int(fields[11]) + int(fields[12])
    return ticks / TICKS


def report(label: str, starts: list[Start]) -> None:
    ready, processor, stop = (statistics.median(column) for column in zip(*starts, strict=True))
    print(f"| {label} | {ready:.2f} s | {processor:.2f} s | {stop:.2f} s |")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    print("| data directory | ready after | processor | stop |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        places = [Path(name) / str(run) / "data" for run in range(runs)]
        for place in places:
            place.parent.mkdir()
        report("new", [start(place) for place in places])
        report("used before", [start(place) for place in places])


if __name__ == "__main__":
    main()
