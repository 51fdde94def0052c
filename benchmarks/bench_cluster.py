"""What replicas cost, and how fast a node that was away is refilled.

    .venv/bin/python -m benchmarks.bench_cluster [--only NAME] [--size-mib 1024] [--runs 3]

Real processes on a real disk, engine ``segments``, a Valkey that syncs every write. Two stores run
in turns, so that a ratio means something on a machine that does other work:

    ingest    one stream through port 5001, N = 2 on two putters by N = 1 on one
    small     objects of 1 KiB, 64 connections, N = 2 by N = 1
    refill    three putters, N = 2: one is killed, a stream is written, it comes back; bytes per
              second from its return until nothing is owed, and the time of a small object
              meanwhile by the same before
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.bench_pipeline import GB, MIB, stream
from benchmarks.clients import send_objects
from tests.store_kit import Cluster, cluster

_BLOCK = os.urandom(4 * MIB)
_STEP_S = 0.05
_PATIENCE_S = 600.0


@contextlib.contextmanager
def store_of(folder: Path, putters: int, *flags: str) -> Iterator[Cluster]:
    """A store with so many putters."""
    folder.mkdir(parents=True)
    with cluster(
        folder, putters=putters, storage="segments", replicas=min(2, putters), router_flags=flags
    ) as store:
        yield store


def in_turns(folder: Path, runs: int, work: Any) -> dict[str, Any]:
    """The same work on a store with one copy and on one with two; seconds, and their ratio."""
    with store_of(folder / "one", 1) as one, store_of(folder / "two", 2) as two:
        took: dict[str, list[float]] = {"one": [], "two": []}
        for turn in range(runs + 1):
            for name, store in (("one", one), ("two", two)):
                seconds = work(store)
                if turn:
                    took[name].append(seconds)
    ratios = [a / b for a, b in zip(took["one"], took["two"], strict=True)]
    return {
        "one_s": round(statistics.median(took["one"]), 3),
        "two_s": round(statistics.median(took["two"]), 3),
        "two_by_one": round(statistics.median(ratios), 3),
    }


def send(store: Cluster, size: int) -> float:
    """One stream; seconds until it is acknowledged."""
    seconds, answer = stream(store.ingest_ports[0], size, _BLOCK)
    assert answer.ok, answer.line
    return seconds


def bench_ingest(folder: Path, size: int, runs: int) -> dict[str, Any]:
    """One stream."""
    found = in_turns(folder, runs, lambda store: send(store, size))
    return found | {"one_gb_per_s": size / GB / found["one_s"]}


def bench_small(folder: Path, objects: int, runs: int) -> dict[str, Any]:
    """Small objects."""
    return in_turns(folder, runs, lambda store: send_objects(store.ingest_ports[0], objects, 64))


def owed(store: Cluster) -> int:
    """Bytes that putters lack."""
    told = json.loads(store.http("GET", "/status")[2])
    return sum(each["bytes"] for each in told["repair"])


def until(check: Any) -> float:
    """Seconds until something holds."""
    started = time.perf_counter()
    while not check():
        if time.perf_counter() - started > _PATIENCE_S:
            raise TimeoutError("it takes too long")
        time.sleep(_STEP_S)
    return time.perf_counter() - started


def times_of(store: Cluster, seconds: float, done: Any = None) -> list[float]:
    """How long single small objects take, one after the other."""
    found: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end and not (done is not None and done()):
        started = time.perf_counter()
        assert store.send(os.urandom(1024)).ok
        found.append(time.perf_counter() - started)
    return found


def p99(times: list[float]) -> float:
    """The 99th percentile, in ms."""
    return sorted(times)[int(len(times) * 0.99)] * 1000


def bench_refill(folder: Path, size: int, runs: int) -> dict[str, Any]:
    """A node that was away."""
    rates, ratios = [], []
    with store_of(folder / "refill", 3, "--repair-bytes-per-s", "0") as store:
        for turn in range(runs):
            missed = _miss(store, size)
            store.putters[0].start()
            store.wait_ready()
            seconds = until(lambda: owed(store) == 0)
            rates.append(missed / seconds)
            print(f"# turn {turn}: {missed / MIB:.0f} MiB in {seconds:.2f} s", flush=True)
    with store_of(folder / "busy", 3) as store:
        for _ in range(runs):
            calm = times_of(store, 5.0)
            _miss(store, size)
            store.putters[0].start()
            store.wait_ready()
            busy = times_of(store, 5.0, lambda: owed(store) == 0)
            ratios.append(p99(busy) / p99(calm))
    return {
        "mb_per_s": round(statistics.median(rates) / 1e6, 1),
        "p99_busy_by_calm": round(statistics.median(ratios), 2),
    }


def _miss(store: Cluster, size: int) -> int:
    """Write while a node is away; how many bytes it lacks then."""
    store.putters[0].kill()
    time.sleep(1.0)
    missed = 0
    while not missed:  # a stream whose extents all belong elsewhere says nothing
        send(store, size)
        time.sleep(5.0)
        missed = owed(store)
    return missed


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="")
    parser.add_argument("--size-mib", type=int, default=1024)
    parser.add_argument("--objects", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    size = options.size_mib * MIB
    rows = {
        "ingest": lambda folder: bench_ingest(folder, size, options.runs),
        "small": lambda folder: bench_small(folder, options.objects, options.runs),
        "refill": lambda folder: bench_refill(folder, size, options.runs),
    }
    found = {}
    for name, row in rows.items():
        if options.only in ("", name):
            with tempfile.TemporaryDirectory(prefix="bench-") as folder:
                found[name] = row(Path(folder))
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
