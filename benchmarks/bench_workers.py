"""A router of one worker beside routers of several, on the same machine.

    .venv/bin/python -m benchmarks.bench_workers [--workers 1 2 4] [--streams 8] [--size-mib 256]

One putter (layout `memory`, so that no disk is measured), one Valkey. Workers take what the machine
has left: with fewer free processors than workers, clients and putter included, there is nothing to
gain, and the figures say so. Each is the median of several runs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.bench_pipeline import GB, MIB, stream
from benchmarks.clients import send_objects
from tests.store_kit import Cluster, cluster


def streams(store: Cluster, count: int, size: int) -> float:
    """Several streams at a time; seconds until the last answer."""
    block = os.urandom(4 * MIB)
    started = time.perf_counter()
    with ThreadPoolExecutor(count) as clients:
        jobs = [clients.submit(stream, store.ingest_ports[0], size, block) for _ in range(count)]
        answers = [job.result()[1] for job in jobs]
    wall = time.perf_counter() - started
    for answer in answers:
        assert answer.ok, answer.line
        store.http("DELETE", f"/file/objects/{answer.object_id}")
    return wall


def measure(store: Cluster, options: argparse.Namespace) -> dict[str, Any]:
    """The figures of one router."""
    size = options.size_mib * MIB
    send_objects(store.ingest_ports[0], 500, 64)
    walls = [streams(store, options.streams, size) for _ in range(options.runs)]
    small = [send_objects(store.ingest_ports[0], options.objects, 64) for _ in range(options.runs)]
    return {
        "gb_per_s": options.streams * size / GB / statistics.median(walls),
        "objects_per_s": options.objects / statistics.median(small),
    }


def main() -> None:
    """Measure each number of workers and print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--size-mib", type=int, default=256)
    parser.add_argument("--objects", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    results: dict[str, Any] = {"cpus": os.cpu_count()}
    with tempfile.TemporaryDirectory() as folder:
        for workers in options.workers:
            flags = ("--workers", str(workers), "--grace-ms", "0")
            place = Path(folder) / str(workers)
            with cluster(place, storage="memory", router_flags=flags) as store:
                results[f"{workers} workers"] = measure(store, options)
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
