"""What one small object costs on a store that holds many: write, read, delete.

    .venv/bin/python -m benchmarks.bench_million [--few 10000] [--many 1000000] [--runs 5]

Two stores run side by side and take turns: one with few objects of 1 KiB, one with many, both with
the engine ``segments`` on a real disk. They are filled through port 5001; only meanwhile their
Valkey does not sync. A turn writes new objects, reads old ones in no order, cold, then the same
again, and deletes the new ones, each with several connections. The cost of an operation is the
processor time of router, putter and Valkey; a ratio is the median of many by few, one turn each.

Of few objects many lie in one page, so that a cold read often finds its page; of many none does.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import floors
from benchmarks.clients import ask, send_objects
from tests.metadata_kit import ValkeyServer
from tests.store_kit import Cluster, cluster

_CONNECTIONS = 32
_FILL_CONNECTIONS = 200
_STEPS = ("write", "read cold", "read again", "delete")


class Store:
    """One of the two stores.

    Args:
        running: its processes.
        folder: of the store.
        objects: to put in.
    """

    def __init__(self, running: Cluster, folder: Path, objects: int) -> None:
        self._running = running
        self._folder = folder
        self._new = folder / "new"
        self._draw = random.Random(objects)
        self._valkey_pid = _field(running.valkey, "server", "process_id")
        started = time.perf_counter()
        self._configure("no")
        port = running.ingest_ports[0]
        send_objects(port, objects, _FILL_CONNECTIONS, 1024, folder / "old")
        self._configure("always")
        self._old = (folder / "old").read_text().split()
        self.fill_s = time.perf_counter() - started
        self.memory_mib = {
            each.name: round(each.memory_bytes() / 2**20) for each in running.processes
        }
        used = _field(running.valkey, "memory", "used_memory")
        self.memory_mib["valkey"] = round(used / 2**20)

    def turn(self, operations: int) -> dict[str, tuple[float, float]]:
        """Seconds and processor seconds of each step."""
        web = self._running.web_ports[0]

        def write() -> None:
            port = self._running.ingest_ports[0]
            send_objects(port, operations, _CONNECTIONS, 1024, self._new)

        some = self._draw.sample(self._old, min(operations, len(self._old)))
        floors.forget_pages(*(self._folder / "node0").rglob("*.seg"))

        def read() -> None:
            ask(web, [(f"GET /file/objects/{name}", "") for name in some], _CONNECTIONS)

        def delete() -> None:
            names = self._new.read_text().split()
            ask(web, [(f"DELETE /file/objects/{name}", "") for name in names], _CONNECTIONS)

        return {
            name: self._timed(step)
            for name, step in zip(_STEPS, (write, read, read, delete), strict=True)
        }

    def _timed(self, step: Callable[[], None]) -> tuple[float, float]:
        cpu, started = self._cpu_s(), time.perf_counter()
        step()
        return time.perf_counter() - started, self._cpu_s() - cpu

    def _cpu_s(self) -> float:
        ours = sum(process.cpu_s() for process in self._running.processes)
        return ours + floors.cpu_s(self._valkey_pid)

    def _configure(self, fsync: str) -> None:
        answer = self._running.valkey.ask(f"CONFIG SET appendfsync {fsync}")
        if answer != "+OK\r\n":
            raise RuntimeError(answer)


def compare(few: Store, many: Store, operations: int, runs: int) -> dict[str, Any]:
    """The medians of both, and of their ratios."""
    turns = []
    for run in range(runs + 1):
        order = (few, many) if run % 2 else (many, few)
        measured = {store: store.turn(operations) for store in order}
        if run:
            turns.append((measured[few], measured[many]))
    results = {}
    for step in _STEPS:
        cpu = [(a[step][1], b[step][1]) for a, b in turns]
        wall = [(a[step][0], b[step][0]) for a, b in turns]
        results[step] = {
            "few_cpu_us": statistics.median(a for a, _ in cpu) / operations * 1e6,
            "many_cpu_us": statistics.median(b for _, b in cpu) / operations * 1e6,
            "cpu_ratio": statistics.median(b / a for a, b in cpu),
            "few_per_s": operations / statistics.median(a for a, _ in wall),
            "many_per_s": operations / statistics.median(b for _, b in wall),
            "wall_ratio": statistics.median(b / a for a, b in wall),
        }
    return results


def _field(valkey: ValkeyServer, section: str, name: str) -> int:
    """A number that the server tells of itself."""
    lines = valkey.ask(f"INFO {section}").splitlines()
    return next(int(line.partition(":")[2]) for line in lines if line.startswith(name + ":"))


def main() -> None:
    """Print the table, then the same as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--few", type=int, default=10_000)
    parser.add_argument("--many", type=int, default=1_000_000)
    parser.add_argument("--operations", type=int, default=5_000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    flags = ("--grace-ms", "0")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stores = []
        for name, objects in (("few", options.few), ("many", options.many)):
            running = cluster(folder / name, storage="segments", router_flags=flags)
            stores.append(Store(stack.enter_context(running), folder / name, objects))
            print(f"{objects:,} objects after {stores[-1].fill_s:.0f} s", flush=True)
        results = compare(stores[0], stores[1], options.operations, options.runs)
        results["memory_mib"] = {"few": stores[0].memory_mib, "many": stores[1].memory_mib}
    print(f"| operation | {options.few:,} objects | {options.many:,} objects | ratio |")
    print("|---|---|---|---|")
    for step in _STEPS:
        row = results[step]
        cells = [f"{row[f'{store}_cpu_us']:.0f} µs" for store in ("few", "many")]
        print(f"| {step} | {cells[0]} | {cells[1]} | {row['cpu_ratio']:.2f} |")
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
