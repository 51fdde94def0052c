"""Reads from the files of a putter: right bytes, or the putter is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from common.buffers import BufferPool
from common.errors import NodesUnavailable
from common.limits import MIB
from common.metrics import Metrics
from common.records import Extent, StoredObject
from common.wire import frames
from common.wire.locations import Locate
from common.wire.message import Message
from putter.node.locating import answer_locate
from putter.storage.disk import RealDisk
from putter.storage.engine import Run
from putter.storage.segments.engine import SegmentsEngine
from router.links import NodeLink
from router.local_reads import LocalReads, Piece
from router.ranges import Slice
from tests.node_kit import KEY, OTHER_KEY, RING
from tests.router_kit import metric, payload

FRAME = 65_536
RUN_TICKETS = 16
SIZE = 6 * MIB + 20_000
FIRST = 1_000


class Link:
    """A putter on this machine, as far as it is asked where something lies."""

    node = "n0"

    def __init__(self, engine: SegmentsEngine) -> None:
        self.engine = engine
        self.on_this_machine = True
        self.asked: list[tuple[int, int]] = []
        self.error: Exception | None = None

    async def call(self, make: Callable[[int], Message], *, timeout_ms: int) -> list[Any]:
        message = make(7)
        assert isinstance(message, Locate)
        self.asked.append((message.first, message.count))
        if self.error is not None:
            raise self.error
        return [answer_locate(message, self.engine)]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[SegmentsEngine]:
    made = SegmentsEngine(RealDisk(tmp_path), segment_bytes=4 * MIB)
    yield made
    made.close()


def put(engine: SegmentsEngine, data: bytes, first: int = FIRST) -> StoredObject:
    """An object in runs of a megabyte."""
    for at in range(0, len(data), MIB):
        part = data[at : at + MIB]
        rows = memoryview(bytearray(frames.wire_bytes(len(part), FRAME)))
        ticket = first + at // FRAME
        frames.build(rows, memoryview(part), ticket, FRAME, KEY.checksum)
        engine.put(Run(ticket, rows, FRAME, "OBJ", KEY.key_id))
    engine.sync()
    count = frames.frame_count(len(data), FRAME)
    extent = Extent(first, count, len(data), ("n0",))
    return StoredObject("OBJ", len(data), FRAME, b"", (extent,))


def part_of(stored: StoredObject, index: int, count: int = RUN_TICKETS) -> Slice:
    """Tickets ``index …`` of an object."""
    count = min(count, stored.extents[0].count - index)
    size = min(count * FRAME, stored.size - index * FRAME)
    return Slice(FIRST + index, count, size, 0, size, ("n0",))


def data_of(pieces: list[Piece] | None) -> bytes | None:
    if pieces is None:
        return None
    return b"".join(bytes(frames.strip(rows, FRAME)) for _, rows in pieces)


Scene = Callable[["Bench"], Awaitable[None]]


class Bench:
    def __init__(self, link: Link, local: LocalReads, metrics: Metrics) -> None:
        self.link, self.local, self.metrics = link, local, metrics

    async def read(self, stored: StoredObject, part: Slice) -> bytes | None:
        return data_of(await self.local.read(cast("NodeLink", self.link), stored, part))

    async def learned(self) -> None:
        await asyncio.gather(*self.local._tasks)

    @property
    def served(self) -> float:
        return metric(self.metrics, "putter_local_read_bytes_total")


def play(engine: SegmentsEngine, scene: Scene, **options: Any) -> None:
    async def main() -> None:
        metrics = Metrics("router")
        local = LocalReads(RING, BufferPool(), metrics, **options)
        try:
            await scene(Bench(Link(engine), local, metrics))
        finally:
            await local.stop()

    asyncio.run(main())


def test_the_putter_is_asked_once_where_things_lie_and_then_not_at_all(
    engine: SegmentsEngine,
) -> None:
    async def scene(bench: Bench) -> None:
        data = payload(SIZE)
        stored = put(engine, data)
        assert await bench.read(stored, part_of(stored, 0)) is None, "nothing is known yet"
        await bench.learned()
        for _ in range(3):
            for index in range(0, stored.extents[0].count, RUN_TICKETS):
                part = part_of(stored, index)
                found = await bench.read(stored, part)
                assert found == data[index * FRAME : index * FRAME + part.size]
        assert bench.link.asked == [(FIRST, stored.extents[0].count)]
        count = stored.extents[0].count
        assert bench.served == 3 * frames.wire_bytes(SIZE, FRAME)
        assert frames.wire_bytes(SIZE, FRAME) == SIZE + 16 * count

    play(engine, scene)


def test_many_small_parts_at_the_same_time(engine: SegmentsEngine) -> None:
    async def scene(bench: Bench) -> None:
        data = payload(SIZE)
        stored = put(engine, data)
        await bench.read(stored, part_of(stored, 0))
        await bench.learned()
        for _ in range(4):  # past the page cache, into it, out of it
            wanted = [part_of(stored, index, 1) for index in range(stored.extents[0].count)]
            found = await asyncio.gather(*(bench.read(stored, part) for part in wanted))
            assert b"".join(each or b"" for each in found) == data

    play(engine, scene)


def test_a_part_over_two_runs_comes_in_two_pieces(engine: SegmentsEngine) -> None:
    async def scene(bench: Bench) -> None:
        data = payload(SIZE)
        stored = put(engine, data)
        await bench.read(stored, part_of(stored, 0))
        await bench.learned()
        pieces = await bench.local.read(
            cast("NodeLink", bench.link), stored, part_of(stored, RUN_TICKETS - 2, 4)
        )
        assert pieces is not None
        assert [(head.first, head.count) for head, _ in pieces] == [
            (FIRST + 14, 2),
            (FIRST + 16, 2),
        ]
        assert data_of(pieces) == data[14 * FRAME : 18 * FRAME]

    play(engine, scene)


class TestTheUsualWay:
    def test_for_small_objects_and_small_parts(self, engine: SegmentsEngine) -> None:
        async def scene(bench: Bench) -> None:
            small = put(engine, payload(MIB))
            assert await bench.read(small, part_of(small, 0)) is None
            large = put(engine, payload(SIZE), FIRST + 500)
            assert await bench.read(large, Slice(FIRST + 500, 1, 1458, 0, 1458, ("n0",))) is None
            assert bench.link.asked == []

        play(engine, scene)

    def test_for_a_putter_elsewhere(self, engine: SegmentsEngine) -> None:
        async def scene(bench: Bench) -> None:
            stored = put(engine, payload(SIZE))
            bench.link.on_this_machine = False
            for _ in range(2):
                assert await bench.read(stored, part_of(stored, 0)) is None
                await bench.learned()
            assert bench.link.asked == []

        play(engine, scene)

    def test_where_it_is_switched_off(self, engine: SegmentsEngine) -> None:
        async def scene(bench: Bench) -> None:
            stored = put(engine, payload(SIZE))
            assert await bench.read(stored, part_of(stored, 0)) is None
            assert bench.link.asked == []

        play(engine, scene, enabled=False)

    def test_for_what_is_in_no_file(self, engine: SegmentsEngine) -> None:
        async def scene(bench: Bench) -> None:
            stored = put(engine, payload(SIZE))
            engine.free([(FIRST, 200)])
            engine.sync()
            for _ in range(5):
                assert await bench.read(stored, part_of(stored, 0)) is None
                await bench.learned()
            assert len(bench.link.asked) == 1, "it is known that there is nothing"

        play(engine, scene)

    def test_when_the_putter_does_not_tell(self, engine: SegmentsEngine) -> None:
        async def scene(bench: Bench) -> None:
            stored = put(engine, payload(SIZE))
            bench.link.error = NodesUnavailable("it is stopped")
            assert await bench.read(stored, part_of(stored, 0)) is None
            await bench.learned()
            bench.link.error = None
            assert await bench.read(stored, part_of(stored, 0)) is None
            await bench.learned()
            assert await bench.read(stored, part_of(stored, 0)) is not None

        play(engine, scene)


class TestWhenSomethingElseLiesThere:
    """Nothing that does not fit leaves, and the putter is asked for the bytes."""

    def spoilt(self, tmp_path: Path, offset: int) -> None:
        path = next(iter(sorted(tmp_path.glob("segments/*.seg"))))
        with path.open("r+b") as file:
            file.seek(offset)
            byte = file.read(1)
            file.seek(offset)
            file.write(bytes([byte[0] ^ 1]))

    def test_a_flipped_bit(self, engine: SegmentsEngine, tmp_path: Path) -> None:
        async def scene(bench: Bench) -> None:
            data = payload(SIZE)
            stored = put(engine, data)
            await bench.read(stored, part_of(stored, 0))
            await bench.learned()
            self.spoilt(tmp_path, 300_000)
            assert await bench.read(stored, part_of(stored, 0)) is None
            assert await bench.read(stored, part_of(stored, 0, 1)) is None
            assert len(bench.link.asked) == 1, "after that it is not asked for a while"
            found = await bench.read(stored, part_of(stored, RUN_TICKETS))
            assert found == data[MIB : 2 * MIB], "all others are read as before"

        play(engine, scene)

    def test_other_tickets(self, engine: SegmentsEngine, tmp_path: Path) -> None:
        async def scene(bench: Bench) -> None:
            stored = put(engine, payload(SIZE))
            await bench.read(stored, part_of(stored, 0))
            await bench.learned()
            path = next(iter(sorted(tmp_path.glob("segments/*.seg"))))
            content = path.read_bytes()
            with path.open("r+b") as file:  # a whole run in the place of another
                file.seek(8192)
                file.write(content[8192 + 2 * FRAME : 8192 + 2 * FRAME + MIB])
            assert await bench.read(stored, part_of(stored, 0)) is None

        play(engine, scene)

    def test_a_file_that_was_cut_short_or_is_gone(
        self, engine: SegmentsEngine, tmp_path: Path
    ) -> None:
        async def scene(bench: Bench) -> None:
            stored = put(engine, payload(SIZE))
            await bench.read(stored, part_of(stored, 0))
            await bench.learned()
            paths = sorted(tmp_path.glob("segments/*.seg"))
            with paths[0].open("r+b") as file:
                file.truncate(100_000)
            assert await bench.read(stored, part_of(stored, 0)) is None
            paths[1].unlink()
            assert await bench.read(stored, part_of(stored, 64)) is None

        play(engine, scene)

    def test_a_key_that_is_not_held_any_more(self, engine: SegmentsEngine) -> None:
        async def scene(bench: Bench) -> None:
            stored = put(engine, payload(SIZE))
            await bench.read(stored, part_of(stored, 0))
            await bench.learned()
            bench.local._keyring = type(RING)([OTHER_KEY])
            assert await bench.read(stored, part_of(stored, 0)) is None

        play(engine, scene)

    def test_a_bug_in_a_thread_is_told_and_the_putter_is_asked(
        self, engine: SegmentsEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def scene(bench: Bench) -> None:
            stored = put(engine, payload(SIZE))
            await bench.read(stored, part_of(stored, 0))
            await bench.learned()

            def broken(*_: object) -> None:
                raise ZeroDivisionError

            monkeypatch.setattr(frames, "check", broken)
            assert await bench.read(stored, part_of(stored, 0)) is None

        play(engine, scene)


def test_a_reader_that_goes_away_meanwhile_disturbs_nobody(engine: SegmentsEngine) -> None:
    async def scene(bench: Bench) -> None:
        data = payload(SIZE)
        stored = put(engine, data)
        await bench.read(stored, part_of(stored, 0))
        await bench.learned()
        readers = [
            asyncio.ensure_future(bench.read(stored, part_of(stored, index)))
            for index in (0, 16, 32)
        ]
        await asyncio.sleep(0)
        readers[1].cancel()
        found = await asyncio.gather(*readers, return_exceptions=True)
        assert found[0] == data[:MIB]
        assert isinstance(found[1], asyncio.CancelledError)
        assert found[2] == data[2 * MIB : 3 * MIB]

    play(engine, scene)
