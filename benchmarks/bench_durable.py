"""What the durable store does, each row beside its floor in the same run.

    .venv/bin/python -m benchmarks.bench_durable [--only NAME] [--size-mib 1024] [--runs 3]

Real processes on a real disk: a router, a putter with the engine ``segments``, a Valkey that syncs
every write. Floor and store take turns; a figure is the median of its runs, a ratio the median of
the ratios of one turn each. The first turn warms up and does not count. Processor seconds are those
of router and putter.

    stream-64k, stream-1458   one stream through port 5001, frames of that size;
                              floors: TCP, relay, TCP, file, fdatasync; buffered and past the cache
    small                     objects of 1 KiB, 64 connections, one object each;
                              floor: accept, append, fdatasync, publish in Redis
    serial                    the same from one client, one after the other
    read                      the stream back, cold; floor: file, relay, TCP
    ranges                    random 64 KiB of it, 32 at a time, cold, at multiples of 64 KiB, as
                              disks are measured; floor: pread, TCP
    ranges-any                the same at any byte: two frames each
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import socket
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from benchmarks import floors
from benchmarks.bare import BarePipeline
from benchmarks.bench_pipeline import GB, MIB, stream
from benchmarks.clients import ask, ask_blocks, random_blocks, send_objects
from tests.store_kit import Cluster, cluster

_SETTLE_S = 2.0
_CONNECTIONS = 64
_RANGES_AT_ONCE = 32


@dataclass
class Row:
    """One line of the table.

    Attributes:
        name: of the row.
        unit: of the rates.
        store: median rate of the store.
        floors: median rate of each floor.
        ratios: median of store by floor.
        cpu: processor time of router and putter, in ``cpu_unit``.
        cpu_unit: what ``cpu`` is measured in.
    """

    name: str
    unit: str
    store: float
    floors: dict[str, float]
    ratios: dict[str, float]
    cpu: float
    cpu_unit: str


@dataclass
class Turns:
    """What was measured, turn by turn.

    Attributes:
        store: seconds of the store.
        cpu: its processor seconds.
        floors: seconds of each floor.
    """

    store: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    floors: dict[str, list[float]] = field(default_factory=dict)

    def row(self, name: str, unit: str, amount: float, cpu_unit: str, cpu_per: float) -> Row:
        """The medians.

        Args:
            name: of the row.
            unit: of rates.
            amount: what one turn moved, in units.
            cpu_unit: of processor time.
            cpu_per: processor seconds of a turn are multiplied with this.
        """
        ratios = {
            floor: statistics.median(f / s for s, f in zip(self.store, seconds, strict=True))
            for floor, seconds in self.floors.items()
        }
        rates = {f: amount / statistics.median(seconds) for f, seconds in self.floors.items()}
        cpu = statistics.median(self.cpu) * cpu_per
        store = amount / statistics.median(self.store)
        return Row(name, unit, store, rates, ratios, cpu, cpu_unit)


def take_turns(
    store: Cluster,
    runs: int,
    work: Callable[[], float],
    beside: dict[str, Callable[[], float]],
    prepare: Callable[[], None] = lambda: None,
) -> Turns:
    """Each floor and the store, again and again; functions give seconds."""
    turns = Turns(floors={name: [] for name in beside})
    for run in range(runs + 1):
        prepare()
        floor_s = {name: measure() for name, measure in beside.items()}
        before = cpu_s(store)
        seconds = work()
        spent = cpu_s(store) - before
        if run:
            turns.store.append(seconds)
            turns.cpu.append(spent)
            for name, taken in floor_s.items():
                turns.floors[name].append(taken)
        time.sleep(_SETTLE_S)
    return turns


def cpu_s(store: Cluster) -> float:
    """Of router and putter, so far."""
    return sum(process.cpu_s() for process in store.processes)


def bench_stream(folder: Path, frame_bytes: int, size: int, runs: int) -> Row:
    """A stream in."""
    block = os.urandom(4 * MIB)
    flags = ("--frame-bytes", str(frame_bytes), "--grace-ms", "0")

    def send() -> float:
        seconds, answer = stream(store.ingest_ports[0], size, block)
        assert answer.size == size, answer.line
        store.http("DELETE", f"/file/objects/{answer.object_id}")
        return seconds

    def copy(floor: floors.Floor) -> float:
        seconds, answer = stream(floor.port, size, block)
        assert answer.line == "COPIED\n"
        (folder / "copy").unlink()
        return seconds

    with (
        cluster(folder, storage="segments", router_flags=flags) as store,
        floors.copies(folder / "copy", direct=False) as buffered,
        floors.copies(folder / "copy", direct=True) as direct,
    ):
        beside = {"buffered": lambda: copy(buffered), "direct": lambda: copy(direct)}
        turns = take_turns(store, runs, send, beside)
    name = "64k" if frame_bytes == 65536 else str(frame_bytes)
    return turns.row(f"stream-{name}", "GB/s", size / GB, "s per GB", GB / size)


def bench_objects(folder: Path, name: str, connections: int, objects: int, runs: int) -> Row:
    """Small objects in."""
    with cluster(folder, storage="segments") as store, bare_pipeline(store, folder) as port:
        turns = take_turns(
            store,
            runs,
            lambda: send_objects(store.ingest_ports[0], objects, connections),
            {"bare": lambda: send_objects(port, objects, connections)},
        )
    return turns.row(name, "objects/s", objects, "µs per object", 1e6 / objects)


@contextlib.contextmanager
def bare_pipeline(store: Cluster, folder: Path) -> Iterator[int]:
    """The durable bare pipeline on the store's Redis; its port."""
    pipeline = BarePipeline(store.valkey.url, folder / "bare.log")
    process = multiprocessing.get_context("spawn").Process(target=pipeline.run, daemon=True)
    process.start()
    try:
        pipeline.wait()
        yield pipeline.port
    finally:
        process.terminate()
        process.join()


class Reads:
    """A store with one stream in it, a new one each turn, and a file with the same bytes.

    Reads of both are cold: the page cache is told to forget the files, and nobody has read the
    object before.

    Args:
        store: where streams go.
        folder: of the store and of the file.
        size: of the stream in bytes.
    """

    def __init__(self, store: Cluster, folder: Path, size: int) -> None:
        self.copy = folder / "copy"
        self._store = store
        self._folder = folder
        self._size = size
        self._block = os.urandom(4 * MIB)
        self._path = ""
        self._seeds = iter(range(10**6))
        with self.copy.open("wb") as file:
            for _ in range(size // len(self._block)):
                file.write(self._block)
            os.fsync(file.fileno())

    def get(self) -> float:
        """The stream back; seconds."""
        return download(self._store.web_ports[0], self._path, self._size)

    def get_copy(self, port: int) -> float:
        """The file through its relay; seconds."""
        floors.forget_pages(self.copy)
        return download(port, "", self._size)

    def get_ranges(self, count: int, step: int) -> float:
        """Random pieces of the stream; seconds."""
        last = floors.BLOCK_BYTES - 1
        offsets = random_blocks(self._size, count, step, next(self._seeds))
        wanted = [(f"GET {self._path}", f"bytes={at}-{at + last}") for at in offsets]
        return ask(self._store.web_ports[0], wanted, _RANGES_AT_ONCE)

    def get_blocks(self, port: int, count: int, step: int) -> float:
        """Random pieces of the file; seconds."""
        floors.forget_pages(self.copy)
        offsets = random_blocks(self._size, count, step, next(self._seeds))
        return ask_blocks(port, offsets, _RANGES_AT_ONCE)

    def renew(self) -> None:
        """Another object in the place of the last one."""
        if self._path:
            self._store.http("DELETE", self._path)
        _, answer = stream(self._store.ingest_ports[0], self._size, self._block)
        self._path = f"/file/objects/{answer.object_id}"
        time.sleep(_SETTLE_S)
        floors.forget_pages(*(self._folder / "node0").rglob("*.seg"))


def bench_reads(folder: Path, names: set[str], size: int, ranges: int, runs: int) -> Iterator[Row]:
    """A stream back, and pieces of it."""
    flags = ("--grace-ms", "0")
    with cluster(folder, storage="segments", router_flags=flags) as store:
        reads = Reads(store, folder, size)
        if "read" in names:
            with floors.pieces(reads.copy) as floor:
                port = floor.port
                beside = {"relay": lambda: reads.get_copy(port)}
                turns = take_turns(store, runs, reads.get, beside, reads.renew)
            yield turns.row("read", "GB/s", size / GB, "s per GB", GB / size)
        for name, step in {"ranges": floors.BLOCK_BYTES, "ranges-any": 1}.items():
            if name not in names:
                continue
            with floors.blocks(reads.copy) as floor:
                turns = take_turns(
                    store,
                    runs,
                    partial(reads.get_ranges, ranges, step),
                    {"pread": partial(reads.get_blocks, floor.port, ranges, step)},
                    reads.renew,
                )
            yield turns.row(name, "ranges/s", ranges, "µs per range", 1e6 / ranges)


def download(port: int, path: str, size: int) -> float:
    """Read all of a file; without a path, of a floor that speaks no HTTP."""
    buffer = memoryview(bytearray(MIB))
    started = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port)) as client:
        left = size
        if path:
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            head, body = b"", b""
            while b"\r\n\r\n" not in head:
                head += client.recv(4096)
            head, _, body = head.partition(b"\r\n\r\n")
            assert b" 200 " in head, head
            left -= len(body)
        else:
            client.shutdown(socket.SHUT_WR)
        while left:
            received = client.recv_into(buffer)
            assert received, f"{left} bytes are missing"
            left -= received
    return time.perf_counter() - started


def print_table(rows: list[Row]) -> None:
    """As in docs/internals/performance.md."""
    print("| row | store | floors | ratio | router + putter |\n|---|---|---|---|---|")
    for row in rows:
        beside = ", ".join(f"{name} {_figure(rate)}" for name, rate in row.floors.items())
        ratios = ", ".join(f"{ratio:.2f}" for ratio in row.ratios.values())
        cells = [f"`{row.name}`", f"{_figure(row.store)} {row.unit}", beside, ratios]
        print("|", " | ".join([*cells, f"{_figure(row.cpu)} {row.cpu_unit}"]), "|", flush=True)


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def measure(options: argparse.Namespace, folder: Path) -> Iterator[Row]:
    """The rows that are wanted."""
    size, runs = options.size_mib * MIB, options.runs
    wanted = set(options.only or ROWS)
    if "stream-64k" in wanted:
        yield bench_stream(folder / "64k", 65536, size, runs)
    if "stream-1458" in wanted:
        yield bench_stream(folder / "1458", 1458, size, runs)
    if "small" in wanted:
        yield bench_objects(folder / "small", "small", _CONNECTIONS, options.objects, runs)
    if "serial" in wanted:
        yield bench_objects(folder / "serial", "serial", 1, options.objects // 10, runs)
    if wanted & {"read", "ranges", "ranges-any"}:
        yield from bench_reads(folder / "reads", wanted, size, options.ranges, runs)


ROWS = ["stream-64k", "stream-1458", "small", "serial", "read", "ranges", "ranges-any"]


def main() -> None:
    """Print the table, then the same as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size-mib", type=int, default=1024)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--objects", type=int, default=20_000)
    parser.add_argument("--ranges", type=int, default=4_000)
    parser.add_argument("--only", choices=ROWS, action="append")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = list(measure(options, Path(folder)))
    print_table(rows)
    print(json.dumps([asdict(row) for row in rows], indent=2))


if __name__ == "__main__":
    main()
