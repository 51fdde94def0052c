"""The whole pipeline as processes: streams, small objects, memory.

    .venv/bin/python -m benchmarks.bench_pipeline [--size-mib 1024] [--runs 3] [--objects 20000]

Each figure is the median of several runs; cpu-seconds are those of router and putter. The small
objects stand beside a bare pipeline in the same run: accept, read to the end, publish in Redis,
answer.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import socket
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.bare import BarePipeline
from benchmarks.clients import send_objects
from tests.store_kit import Answer, Cluster, cluster, read_line

GB = 1e9
MIB = 1024 * 1024
CASES = ["64k", "1458", "segments-64k", "segments-1458", "tree", "small"]


def stream(port: int, size: int, block: bytes) -> tuple[float, Answer]:
    """Send ``size`` bytes; seconds until the answer, and the answer."""
    started = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port)) as client:
        left = size
        while left > 0:
            part = memoryview(block)[: min(left, len(block))]
            client.sendall(part)
            left -= len(part)
        client.shutdown(socket.SHUT_WR)
        line = read_line(client)
    return time.perf_counter() - started, Answer(line)


def bench_stream(store: Cluster, size: int, runs: int) -> dict[str, Any]:
    """Streams of ``size`` bytes, one after the other."""
    block = os.urandom(4 * MIB)
    walls, cpus, shares = [], [], []
    start = {p.name: p.memory_bytes() for p in store.processes}
    for run in range(runs + 1):
        before = [p.cpu_s() for p in store.processes]
        wall, answer = stream(store.ingest_ports[0], size, block)
        assert answer.ok, answer.line
        assert answer.size == size
        spent = [p.cpu_s() - b for p, b in zip(store.processes, before, strict=True)]
        if run > 0:  # the first one warms up: it also pays for memory that is touched first
            walls.append(wall)
            cpus.append(sum(spent))
            shares.append(spent)
        store.http("DELETE", f"/file/objects/{answer.object_id}")
        time.sleep(3.0)
    gb = size / GB
    peak = {p.name: p.memory_bytes("VmHWM") - start[p.name] for p in store.processes}
    return {
        "gb_per_s": gb / statistics.median(walls),
        "cpu_s_per_gb": statistics.median(cpus) / gb,
        "router_cpu_s_per_gb": statistics.median(s[0] for s in shares) / gb,
        "putter_cpu_s_per_gb": statistics.median(s[1] for s in shares) / gb,
        "memory_above_start_mib": {name: round(v / MIB, 1) for name, v in peak.items()},
    }


def bench_small(store: Cluster, objects: int, connections: int, runs: int) -> dict[str, Any]:
    """Objects of 1 KiB, one connection each, beside the bare pipeline."""
    ours, bare, cpu = [], [], []
    pipeline = BarePipeline(store.valkey.url)
    process = multiprocessing.get_context("spawn").Process(target=pipeline.run, daemon=True)
    process.start()
    pipeline.wait()
    send_objects(store.ingest_ports[0], 500, connections)
    for _ in range(runs):
        bare.append(objects / send_objects(pipeline.port, objects, connections))
        before = sum(p.cpu_s() for p in store.processes)
        ours.append(objects / send_objects(store.ingest_ports[0], objects, connections))
        cpu.append(sum(p.cpu_s() for p in store.processes) - before)
    process.terminate()
    process.join()
    return {
        "objects_per_s": statistics.median(ours),
        "bare_objects_per_s": statistics.median(bare),
        "ratio": statistics.median(o / b for o, b in zip(ours, bare, strict=True)),
        "cpu_us_per_object": statistics.median(cpu) / objects * 1e6,
    }


def main() -> None:
    """Run all of it and print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size-mib", type=int, default=1024)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--objects", type=int, default=20_000)
    parser.add_argument("--only", choices=CASES, action="append")
    options = parser.parse_args()
    size = options.size_mib * MIB
    wanted = options.only or CASES
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        cases = {
            "64k": ("memory", 65536),
            "1458": ("memory", 1458),
            "tree": ("tree", 65536),
            "segments-64k": ("segments", 65536),
            "segments-1458": ("segments", 1458),
        }
        for name, (storage, frame_bytes) in cases.items():
            if name not in wanted:
                continue
            flags = ("--frame-bytes", str(frame_bytes), "--grace-ms", "0")
            with cluster(Path(folder) / name, storage=storage, router_flags=flags) as store:
                results[name] = bench_stream(store, size, options.runs)
        if "small" in wanted:
            with cluster(Path(folder) / "small", storage="memory", durable_valkey=False) as store:
                results["small"] = bench_small(store, options.objects, 64, options.runs)
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
