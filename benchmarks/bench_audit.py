"""What comparing inventories costs when nothing is wrong, by the number of objects.

    .venv/bin/python -m benchmarks.bench_audit [--objects 1000000]

A putter: a segment store of objects of one ticket (`--bytes` each), opened anew; digests of all its
tickets and records, for the first time and once more, and entries of one of the 4096 ranges. A
router: digests of what each of three putters should hold, of versions with two copies; without the
walk through Redis, which is paced to 25,000 names a second.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from benchmarks.bench_start_segments import anonymous_bytes, fill
from common.digests import LEAVES_MAX, Grid, Leaves, Space, differing
from common.records import Extent, StoredObject, Version
from common.tickets import format_id
from putter.storage.disk import RealDisk
from putter.storage.segments.engine import SegmentsEngine
from router.inventory import SPACES, Expected

_PAGE = 500
_NODES = ("a", "b", "c")


def timed(what: str, work: Callable[[], object]) -> None:
    """Print how much of a processor it takes."""
    before, started = anonymous_bytes(), time.process_time()
    work()
    seconds = time.process_time() - started
    grown = max(0, anonymous_bytes() - before) / (1 << 20)
    print(f"{what:52} {seconds:8.3f} cpu-s  {grown:6.1f} MiB more memory")


def versions(objects: int) -> Iterator[list[Version]]:
    """Pages of versions as Redis describes them."""
    for first in range(0, objects, _PAGE):
        yield [_version(number) for number in range(first, min(objects, first + _PAGE))]


def _version(number: int) -> Version:
    nodes = (_NODES[number % 3], _NODES[(number + 1) % 3])
    extent = Extent(number, 1, 1024, nodes)
    stored = StoredObject(format_id(number), 1024, 65536, bytes(32), (extent,))
    return Version("b", f"k{number}", number + 1, 1024, "e", 0, (stored,), replicas=2)


def of_a_router(objects: int, grids: dict[Space, Grid]) -> None:
    """Digests of what putters should hold."""
    expected = Expected(_NODES, grids)
    pages = list(versions(objects))

    def add() -> None:
        for page in pages:
            expected.add(page)

    timed("router: digests of what should be there", add)
    leaves = expected.leaves("a", Space.TICKETS)
    timed("router: comparing them", lambda: differing(leaves, expected.leaves("a", Space.TICKETS)))


def of_a_putter(path: Path, grids: dict[Space, Grid]) -> None:
    """Digests of what is there."""
    engine = SegmentsEngine(RealDisk(path))
    told: list[Leaves] = []

    def tell(grid: Grid) -> None:
        told.append(engine.digests(grid, 0, LEAVES_MAX))

    for turn in ("first", "again"):
        for space in SPACES:
            timed(f"putter: digests of {space.value}, {turn}", partial(tell, grids[space]))
    size = max(len(each.pack()) for each in told)
    print(f"{'putter: told, at most':52} {size / 1024:8.1f} KiB")
    width = grids[Space.TICKETS].width
    timed("putter: entries of one range", lambda: engine.entries(Space.TICKETS, 0, width))
    engine.close()


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--bytes", type=int, default=64)
    options = parser.parse_args()
    grids = {space: Grid.over(space, options.objects + 1, 7) for space in SPACES}
    of_a_router(options.objects, grids)
    with tempfile.TemporaryDirectory() as directory:
        fill(Path(directory), options.objects, options.bytes)
        of_a_putter(Path(directory), grids)


if __name__ == "__main__":
    main()
