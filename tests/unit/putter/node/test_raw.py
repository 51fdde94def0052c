"""Raw connections: any order, any cut, each frame acked for itself and none before its time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from typing import Any

import pytest

from common.budget import Budget
from common.buffers import BufferPool
from common.errors import StorageError
from common.keys import Keyring
from common.limits import RAW_DATA_BYTES, RAW_FRAME_BYTES
from common.metrics import Metrics
from common.tickets import TICKETS_MAX
from common.wire.status import Status
from putter.node import raw
from putter.node.committer import Committer
from putter.node.raw import RawConnection
from tests.node_kit import (
    KEY,
    OTHER_KEY,
    RING,
    SECOND_KEY,
    FaultyEngine,
    HeldDisk,
    Wire,
    acks_in,
    make_node,
    network_of,
    play,
    raw_frame,
    raw_frames,
    stored,
    until,
)
from tests.simulation.loop import World

PENDING_MAX = 200 * RAW_FRAME_BYTES
BLOCK = bytes(range(256)) * 8
FULL = BLOCK[:RAW_DATA_BYTES]


def data_of(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def split(first: int, data: bytes) -> dict[int, bytes]:
    cuts = range(0, len(data), RAW_DATA_BYTES)
    return {first + n: data[at : at + RAW_DATA_BYTES] for n, at in enumerate(cuts)}


def exchange(
    wire: bytes, engine: FaultyEngine, *, piece: int = 0, ring: Keyring = RING, seed: int = 1
) -> list[tuple[int, int]]:
    """Send everything, half-close, and give the acks until the connection is closed."""

    async def main(world: World) -> list[tuple[int, int]]:
        network = network_of(world.random)
        node = make_node(network, engine, ring=ring)
        await node.start()
        client = await Wire.open(network)
        for at in range(0, len(wire), piece or len(wire) or 1):
            client.send(wire[at : at + (piece or len(wire))])
            if piece:
                await asyncio.sleep(0.001)
        answer = await client.finish().all()
        await node.stop()
        return acks_in(answer)

    return play(main, seed)


@pytest.fixture
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection may hold 200 frames that are not durable."""
    monkeypatch.setattr(raw, "CONNECTION_PENDING_BYTES_MAX", PENDING_MAX)


@pytest.fixture
def engine() -> FaultyEngine:
    return FaultyEngine()


class TestFrames:
    @pytest.mark.parametrize(
        "size", [1, 1457, 1458, 1459, 12 * 1458, 13 * 1458 - 1, 700 * 1458, 2_000_000]
    )
    def test_every_frame_is_stored_and_acked(self, engine: FaultyEngine, size: int) -> None:
        data = data_of(size)
        found = exchange(raw_frames(30, data), engine)
        wanted = split(30, data)
        assert found == [(number, 0) for number in wanted]
        assert stored(engine, 0, TICKETS_MAX, raw=True) == wanted

    @pytest.mark.parametrize("piece", [1, 1473, 1474, 1475])
    def test_however_the_stream_is_cut(self, engine: FaultyEngine, piece: int) -> None:
        data = data_of(3000)
        assert exchange(raw_frames(7, data), engine, piece=piece) == [(7, 0), (8, 0), (9, 0)]
        assert stored(engine, 0, 100, raw=True) == split(7, data)

    def test_any_tickets_in_any_order(self, engine: FaultyEngine) -> None:
        numbers = [500, 3, TICKETS_MAX - 1, 4, 5, 0]
        wire = b"".join(raw_frames(number, FULL) for number in numbers)
        assert exchange(wire, engine) == [(number, 0) for number in numbers]

    def test_raw_tickets_are_a_namespace_of_their_own(self, engine: FaultyEngine) -> None:
        exchange(raw_frames(7, FULL), engine)
        assert stored(engine, 0, 100, raw=False) == {}

    def test_frames_are_acked_before_the_sender_is_done(self, engine: FaultyEngine) -> None:
        async def main(world: World) -> None:
            network = network_of(world.random)
            node = make_node(network, engine)
            await node.start()
            client = await Wire.open(network)
            for number in range(5):
                client.send(raw_frames(number, FULL))
                assert (await client.acks(number + 1))[-1] == (number, 0)
            assert not client.ended.is_set()
            await node.stop()

        play(main)


class TestRefusals:
    """A frame that is refused does not end the connection."""

    def test_each_frame_has_a_status_of_its_own(self, engine: FaultyEngine) -> None:
        taken = raw_frames(3, FULL)
        wire = b"".join(
            [
                raw_frames(1, FULL),
                raw_frames(2, FULL, OTHER_KEY),
                taken,
                raw_frame(b"no/ticket"[:8], FULL),
                raw_frames(3, FULL[::-1]),
                taken,
                raw_frames(4, FULL),
            ]
        )
        assert exchange(wire, engine) == [
            (1, Status.WRITTEN),
            (2, Status.CHECKSUM_MISMATCH),
            (3, Status.WRITTEN),
            (-1, Status.MALFORMED),
            (3, Status.TICKET_TAKEN),
            (3, Status.WRITTEN),
            (4, Status.WRITTEN),
        ]
        assert stored(engine, 0, 100, raw=True) == {1: FULL, 3: FULL, 4: FULL}

    @pytest.mark.parametrize("at", [0, 8, 16, 1473])
    def test_a_flipped_bit_anywhere(self, engine: FaultyEngine, at: int) -> None:
        wire = bytearray(raw_frames(7, FULL) + raw_frames(8, FULL))
        wire[at] ^= 1
        first, second = exchange(bytes(wire), engine)
        assert first[1] == Status.CHECKSUM_MISMATCH
        assert second == (8, Status.WRITTEN)
        assert stored(engine, 0, 1000, raw=True) == {8: FULL}

    def test_the_ack_names_the_field_as_it_came(self, engine: FaultyEngine) -> None:
        async def main(world: World) -> bytes:
            network = network_of(world.random)
            node = make_node(network, engine)
            await node.start()
            client = await Wire.open(network)
            client.send(raw_frame(b"\xff../\0\0ab", FULL)).finish()
            answer = await client.all()
            await node.stop()
            return answer

        assert play(main) == b"\xff../\0\0ab\x07"

    @pytest.mark.parametrize("size", range(1, 17))
    def test_a_rest_too_short_for_a_frame_is_malformed(
        self, engine: FaultyEngine, size: int
    ) -> None:
        wire = raw_frames(7, FULL) + raw_frames(8, b"x")[:size]
        found = exchange(wire, engine)
        assert (7, Status.WRITTEN) in found
        assert sorted(status for _, status in found) == [Status.WRITTEN, Status.MALFORMED]
        assert stored(engine, 0, 100, raw=True) == {7: FULL}

    @pytest.mark.parametrize("size", [1, 16])
    def test_a_rest_alone(self, engine: FaultyEngine, size: int) -> None:
        assert exchange(raw_frames(7, b"x")[:size], engine) == [(7, Status.MALFORMED)]

    @pytest.mark.parametrize("size", [17, 18, 1000, 1473])
    def test_a_full_frame_cut_short_is_no_short_frame(
        self, engine: FaultyEngine, size: int
    ) -> None:
        assert exchange(raw_frames(7, FULL)[:size], engine) == [(7, Status.CHECKSUM_MISMATCH)]
        assert stored(engine, 0, 100, raw=True) == {}

    def test_a_full_disk(self) -> None:
        engine = FaultyEngine(capacity_bytes=2 * RAW_FRAME_BYTES)
        wire = b"".join(raw_frames(number, FULL) for number in (1, 2, 3))
        assert exchange(wire + raw_frames(1, FULL), engine) == [
            (1, Status.WRITTEN),
            (2, Status.WRITTEN),
            (3, Status.NO_SPACE),
            (1, Status.WRITTEN),
        ]

    def test_a_sync_that_fails_keeps_what_was_refused_for_another_reason(
        self, engine: FaultyEngine
    ) -> None:
        engine.fail["sync"] = StorageError("the disk is on fire")
        wire = raw_frames(1, FULL) + raw_frames(2, FULL, OTHER_KEY)
        assert exchange(wire, engine) == [
            (1, Status.IO_ERROR),
            (2, Status.CHECKSUM_MISMATCH),
        ]


class TestKeys:
    RINGS = (Keyring([KEY, SECOND_KEY]), Keyring([SECOND_KEY, KEY]))

    @pytest.mark.parametrize("ring", RINGS, ids=["old key second", "old key first"])
    def test_what_is_stored_names_the_key_that_fits(
        self, engine: FaultyEngine, ring: Keyring
    ) -> None:
        """Otherwise it could not be verified when it is read."""
        keys = [KEY, SECOND_KEY, SECOND_KEY, KEY, OTHER_KEY, SECOND_KEY]
        wire = b"".join(raw_frames(number, FULL, key) for number, key in enumerate(keys))
        found = exchange(wire, engine, ring=ring)
        bad = Status.CHECKSUM_MISMATCH
        assert found == [(0, 0), (1, 0), (2, 0), (3, 0), (4, bad), (5, 0)]
        for number, key in enumerate(keys):
            info = engine.stat(number, raw=True)
            assert (info.key_id if info else None) == (None if number == 4 else key.key_id)


class TestDurable:
    @pytest.fixture
    def disk(self) -> Iterator[HeldDisk]:
        disk = HeldDisk()
        disk.held = True
        yield disk
        assert not disk.waiting

    async def test_nothing_is_acked_before_the_sync(
        self, engine: FaultyEngine, disk: HeldDisk
    ) -> None:
        network = network_of(random.Random(1))
        node = make_node(network, engine, disk=disk)
        await node.start()
        client = await Wire.open(network)
        client.send(raw_frames(7, FULL)).finish()
        await until(lambda: bool(disk.waiting))
        await asyncio.sleep(0.02)
        assert client.received == b""
        assert not client.ended.is_set()
        disk.step()
        assert acks_in(await client.all()) == [(7, 0)]
        disk.release()
        await node.stop()

    async def test_what_a_vanished_sender_sent_whole_is_stored(
        self, engine: FaultyEngine, disk: HeldDisk
    ) -> None:
        network = network_of(random.Random(1))
        node = make_node(network, engine, disk=disk)
        await node.start()
        client = await Wire.open(network)
        client.send(raw_frames(7, FULL))
        await until(lambda: bool(disk.waiting))
        client.send(raw_frames(8, FULL)[:700])
        await asyncio.sleep(0.01)
        client.reset()
        await asyncio.sleep(0.01)
        disk.release()
        await node.stop()
        assert stored(engine, 0, 100, raw=True) == {7: FULL}

    @pytest.mark.usefixtures("small_limit")
    async def test_a_slow_disk_stops_the_sender(self, engine: FaultyEngine, disk: HeldDisk) -> None:
        network = network_of(random.Random(1))
        node = make_node(network, engine, disk=disk)
        await node.start()
        client = await Wire.open(network)
        count = 2000
        client.send(raw_frames(0, data_of(count * RAW_DATA_BYTES)))
        budget = node._services.budget
        await until(lambda: budget.used_bytes >= PENDING_MAX)
        await asyncio.sleep(0.05)
        assert client.transport.get_write_buffer_size() > 1_000_000
        assert budget.used_bytes < PENDING_MAX + 65_536
        disk.release()
        client.finish()
        assert acks_in(await client.all()) == [(number, 0) for number in range(count)]
        assert budget.used_bytes == 0
        await node.stop()


class FakeTransport(asyncio.Transport):
    """Notes what a connection does to its socket."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.reading = True
        self.closed = False

    def write(self, data: Any) -> None:
        assert not self.closed
        self.written += data

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


@pytest.mark.usefixtures("small_limit")
class TestSlowReader:
    """Who does not read its acks is not read from."""

    @pytest.fixture
    async def parts(self, engine: FaultyEngine) -> tuple[FakeTransport, RawConnection]:
        transport = FakeTransport()
        committer = Committer(engine, HeldDisk(), Metrics("putter"))
        connection = RawConnection(
            transport, committer, RING, BufferPool(), Budget(1 << 30), Metrics("putter")
        )
        return transport, connection

    def take(self, connection: RawConnection, wire: bytes) -> None:
        while wire:
            buffer = connection.get_buffer()
            size = min(len(buffer), len(wire))
            buffer[:size] = wire[:size]
            wire = wire[size:]
            connection.buffer_updated(size)

    async def test_it_is_paused_and_goes_on(
        self, parts: tuple[FakeTransport, RawConnection]
    ) -> None:
        transport, connection = parts
        connection.pause_writing()
        assert not transport.reading
        connection.resume_writing()
        assert transport.reading

    async def test_the_disk_does_not_wake_it(
        self, parts: tuple[FakeTransport, RawConnection]
    ) -> None:
        transport, connection = parts
        self.take(connection, raw_frames(0, FULL * 200))
        assert not transport.reading, "too much waits for the disk"
        connection.pause_writing()
        await until(lambda: connection.pending_bytes == 0)
        assert not transport.reading, "the acks are still not read"
        connection.resume_writing()
        assert transport.reading

    async def test_the_reader_does_not_wake_it_while_the_disk_is_slow(
        self, parts: tuple[FakeTransport, RawConnection]
    ) -> None:
        transport, connection = parts
        connection.pause_writing()
        self.take(connection, raw_frames(0, FULL * 200))
        connection.resume_writing()
        assert not transport.reading
        await until(lambda: connection.pending_bytes == 0)
        assert transport.reading
        assert acks_in(bytes(transport.written)) == [(number, 0) for number in range(200)]
