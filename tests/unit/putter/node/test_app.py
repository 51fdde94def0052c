"""A node as a whole: it registers, serves, and stops without losing a byte."""

from __future__ import annotations

import asyncio
import random

import pytest

from common.errors import ShuttingDown, StorageError, Unavailable
from common.limits import HEARTBEAT_MS, MEMBER_LOST_MS, RAW_DATA_BYTES
from common.membership import Decision
from common.meta.interface import Member
from common.meta.memory import MemoryMetadata
from common.wire.session import Done, FindRecord, Ping, Read, RecordsDone, RunsDone, Stat, StatReply
from common.wire.status import Status
from putter.storage.engine import Record
from putter.storage.memory_disk import MemoryDisk
from putter.storage.notes import MemoryNotes
from putter.storage.segments.engine import SegmentsEngine
from tests.node_kit import (
    KEY,
    AckPort,
    Client,
    FaultyEngine,
    HeldDisk,
    Wire,
    acks_in,
    framed,
    make_node,
    network_of,
    play,
    raw_frames,
    stored,
    until,
)
from tests.simulation.loop import World
from tests.storage_kit import PACKED, run_of, spoilt

FULL = bytes(RAW_DATA_BYTES)
DATA = bytes(range(256)) * 20


@pytest.fixture
def engine() -> FaultyEngine:
    return FaultyEngine()


def test_it_tells_how_its_runs_are_stored() -> None:
    async def main(world: World) -> None:
        engine = SegmentsEngine(MemoryDisk(), segment_bytes=1 << 20, at_rest=PACKED)
        metadata = MemoryMetadata(world.clock)
        network = network_of(world.random)
        node = make_node(network, engine, metadata=metadata)
        await node.start()
        client = await Client().open(network)
        client.store((500, framed(500, DATA * 20, 1458)))
        await client.hears(1)
        ((reply, _),) = await client.session.call(
            lambda request: Stat(request, 501), timeout_ms=5_000
        )
        assert isinstance(reply, StatReply)
        assert (reply.compression, reply.encryption) == ("zstd", "aes-256-gcm")
        assert reply.plain_bytes == len(framed(500, DATA * 20, 1458))
        assert 0 < reply.stored_bytes < reply.plain_bytes / 2
        await asyncio.sleep(2 * HEARTBEAT_MS / 1000)
        (seen,) = await metadata.members.seen()
        packing = seen.member.packing
        assert (packing.compression, packing.encryption) == ("zstd", "aes-256-gcm")
        assert packing.plain_bytes == reply.plain_bytes
        assert reply.stored_bytes < packing.stored_bytes < reply.stored_bytes + 120
        text = node.metrics.render().decode()
        assert f"putter_run_plain_bytes {float(packing.plain_bytes)}" in text
        assert f"putter_run_stored_bytes {float(packing.stored_bytes)}" in text
        client.session.close()
        await node.stop()

    play(main)


def test_damage_is_known_to_the_next_start(engine: FaultyEngine) -> None:
    notes = MemoryNotes()

    async def start(world: World) -> str:
        node = make_node(network_of(world.random), engine, notes=notes, scrub_bytes_per_s=10**6)
        await node.start()
        await asyncio.sleep(1)
        text = node.metrics.render().decode()
        await node.stop()
        return text

    engine.put(spoilt(run_of(5, bytes(80), key_id=KEY.key_id), 3))
    text = play(start)
    # Of another key than they say, all of them are wrong.
    assert "putter_damaged_tickets 10.0" in text
    assert 'putter_scrub_findings_total{part="tickets"} 1.0' in text
    assert "putter_damaged_tickets 10.0" in play(start)
    engine.free([(5, 10)])
    assert "putter_damaged_tickets 0.0" in play(start)


class TestStart:
    def test_it_is_ready_once_it_listens(self, engine: FaultyEngine) -> None:
        async def main(world: World) -> None:
            network = network_of(world.random)
            node = make_node(network, engine)
            assert (node.ready, node.port) == (False, 0)
            await node.start()
            assert (node.ready, node.port) == (True, 5000)
            await node.stop()
            assert not node.ready
            with pytest.raises(Unavailable, match="Connection refused"):
                await Wire.open(network)

        play(main)

    def test_a_port_that_is_taken(self, engine: FaultyEngine) -> None:
        async def main(world: World) -> None:
            network = network_of(world.random)
            first, second = make_node(network, engine), make_node(network, FaultyEngine())
            await first.start()
            with pytest.raises(Unavailable, match="5000") as caught:
                await second.start()
            assert "--putter-port" in caught.value.hint
            await first.stop()

        play(main)

    def test_it_registers_with_its_numbers_and_signs_off(self, engine: FaultyEngine) -> None:
        async def main(world: World) -> None:
            metadata = MemoryMetadata(world.clock)
            node = make_node(
                network_of(world.random), engine, metadata=metadata, zone="rack-7", web_port=81
            )
            await node.start()
            await until(lambda: node.ready)
            capacity = engine.capacity()
            (seen,) = await metadata.members.seen()
            assert seen.member == Member(
                node="putter-1",
                role="putter",
                instance="start-1",
                host="putter",
                port=5000,
                web_port=81,
                version="test",
                storage="memory",
                capacity_bytes=capacity.total_bytes,
                free_bytes=capacity.free_bytes,
                zone="rack-7",
            )
            await node.stop()
            assert await metadata.members.seen() == []

        play(main)

    def test_it_is_not_ready_while_it_cannot_register(self, engine: FaultyEngine) -> None:
        """It serves all the same: its routers may know it by hand."""

        async def main(world: World) -> None:
            network = network_of(world.random)
            metadata = MemoryMetadata(world.clock)
            metadata.fail_for(10_000)
            node = make_node(network, engine, metadata=metadata)
            await node.start()
            await asyncio.sleep(5)
            assert not node.ready
            wire = await Wire.open(network)
            assert acks_in(await wire.send(raw_frames(7, FULL)).finish().all()) == [(7, 0)]
            await asyncio.sleep(5 + 2 * HEARTBEAT_MS / 1000)
            assert node.ready
            await node.stop()

        play(main)


class TestWhoSpeaksForTheNode:
    """A process that the register does not take serves nobody."""

    def test_no_session_before_the_register_took_it(self, engine: FaultyEngine) -> None:
        async def main(world: World) -> None:
            network = network_of(world.random)
            metadata = MemoryMetadata(world.clock)
            metadata.fail_for(3_000)
            node = make_node(network, engine, metadata=metadata)
            await node.start()
            with pytest.raises(ShuttingDown, match="not registered with Redis yet"):
                await Client().open(network)
            assert node.trouble == "not registered"
            await until(lambda: node.ready)
            client = await Client().open(network)
            # Once taken, it goes on while the register is away.
            metadata.fail_for(60_000)
            await asyncio.sleep(10)
            assert not node.ready
            client.store((500, framed(500, DATA, 1458)))
            await client.hears(1)
            (await Client().open(network)).session.close()
            client.session.close()
            await node.stop()

        play(main)

    def test_a_copy_serves_nobody_until_the_other_one_is_lost(self, engine: FaultyEngine) -> None:
        async def main(world: World) -> None:
            network = network_of(world.random)
            metadata = MemoryMetadata(world.clock)
            other = Member("putter-1", "putter", "other", "elsewhere", 5000, starts=1)
            assert (await metadata.members.heartbeat(other)).taken
            node = make_node(network, engine, metadata=metadata, starts=2)
            await node.start()
            await asyncio.sleep(1)
            assert not node.ready
            assert "alive at elsewhere:5000" in node.trouble
            with pytest.raises(ShuttingDown, match="alive at elsewhere:5000"):
                await Client().open(network)
            wire = await Wire.open(network)
            assert await wire.send(raw_frames(7, FULL)).finish().all() == b""
            wire = await Wire.open(network)
            assert await wire.send(b"0").finish().all() == b"", "not even a byte"
            assert stored(engine, 0, 100, raw=True) == {}
            (seen,) = await metadata.members.seen()
            assert seen.member == other
            await asyncio.sleep(MEMBER_LOST_MS / 1000 + 1)
            assert node.ready
            assert node.trouble == ""
            (await Client().open(network)).session.close()
            await node.stop()
            assert await metadata.members.seen() == []

        play(main)

    def test_one_whose_place_was_taken_ends(self, engine: FaultyEngine) -> None:
        async def main(world: World) -> None:
            network = network_of(world.random)
            metadata = MemoryMetadata(world.clock)
            told: list[str] = []
            node = make_node(
                network,
                engine,
                metadata=metadata,
                starts=1,
                on_superseded=lambda: told.append(node.superseded),
            )
            await node.start()
            await until(lambda: node.ready)
            client = await Client().open(network)
            wire = await Wire.open(network)
            wire.send(raw_frames(7, FULL))
            await until(lambda: len(wire.received) == 9)
            # Redis did not hear of it for a while, and the directory was moved.
            state = metadata.snapshot()
            ms, last = state.fences["putter-1"]
            state.fences["putter-1"] = (ms - MEMBER_LOST_MS, last)
            metadata.restore(state, metadata.epoch)
            newer = Member("putter-1", "putter", "newer", "elsewhere", 5000, starts=2)
            assert (await metadata.members.heartbeat(newer)).taken
            await until(lambda: bool(told))
            assert "alive at elsewhere:5000" in told[0]
            await until(lambda: bool(client.losses))
            await wire.lost.wait()
            with pytest.raises(ShuttingDown, match="alive at elsewhere"):
                await Client().open(network)
            await node.stop()
            (seen,) = await metadata.members.seen()
            assert seen.member == newer, "it does not sign the other one off"

        play(main)

    def test_one_that_is_declared_gone_loses_its_sessions_and_may_come_again(
        self, engine: FaultyEngine
    ) -> None:
        async def main(world: World) -> None:
            network = network_of(world.random)
            metadata = MemoryMetadata(world.clock)
            node = make_node(network, engine, metadata=metadata, starts=1)
            await node.start()
            await until(lambda: node.ready)
            client = await Client().open(network)
            assert await metadata.members.declare("putter-1", Decision.GONE)
            await until(lambda: bool(client.losses))
            assert "declared gone" in node.trouble
            assert node.superseded == ""
            assert await metadata.members.declare("putter-1", None)
            await until(lambda: node.ready)
            (await Client().open(network)).session.close()
            await node.stop()

        play(main)

    def test_its_signs_of_life_tell_what_is_durable(self, engine: FaultyEngine) -> None:
        async def main(world: World) -> None:
            network = network_of(world.random)
            metadata = MemoryMetadata(world.clock)
            engine.put_record(Record(1, "A", b"one"))
            node = make_node(network, engine, metadata=metadata, starts=4)
            await node.start()
            await until(lambda: node.ready)
            (seen,) = await metadata.members.seen()
            assert (seen.member.starts, seen.member.records) == (4, 1)
            client = await Client().open(network)
            client.store(records=[(1, 20, b"two"), (2, 30, b"three")])
            await client.hears(1)
            await asyncio.sleep(2 * HEARTBEAT_MS / 1000)
            (seen,) = await metadata.members.seen()
            assert seen.member.records == 3
            client.session.close()
            await node.stop()

        play(main)


class TestStop:
    """What was received is finished, the rest is refused with status 6."""

    async def test_raw_frames_that_wait_for_the_disk_are_stored_and_acked(
        self, engine: FaultyEngine
    ) -> None:
        disk = HeldDisk()
        network = network_of(random.Random(1))
        node = make_node(network, engine, disk=disk)
        await node.start()
        wire = await Wire.open(network)
        disk.held = True
        wire.send(raw_frames(7, FULL))
        await until(lambda: bool(disk.waiting))
        wire.send(raw_frames(8, FULL) + raw_frames(9, FULL)[:100])
        await asyncio.sleep(0.02)
        stopping = asyncio.create_task(node.stop())
        await asyncio.sleep(0.02)
        assert not stopping.done()
        disk.release()
        await stopping
        assert acks_in(await wire.all()) == [(7, 0), (8, 0)]
        assert stored(engine, 0, 100, raw=True) == {7: FULL, 8: FULL}
        assert engine.closed

    async def test_runs_that_wait_are_answered_and_later_ones_are_refused(
        self, engine: FaultyEngine
    ) -> None:
        disk = HeldDisk()
        network = network_of(random.Random(1))
        node = make_node(network, engine, disk=disk)
        await node.start()
        client = await Client().open(network)
        disk.held = True
        client.store((7, framed(7, DATA, 1458)), records=[(1, 5, b"x")])
        await until(lambda: bool(disk.waiting))
        stopping = asyncio.create_task(node.stop())
        await asyncio.sleep(0.02)
        client.store((50, framed(50, DATA, 1458)), records=[(2, 6, b"y")])
        assert await client.hears(2) == [
            RunsDone(((50, 4, Status.SHUTTING_DOWN),)),
            RecordsDone(((2, Status.SHUTTING_DOWN),)),
        ]
        disk.release()
        await stopping
        assert (await client.hears(4))[2:] == [
            RunsDone(((7, 4, 0),)),
            RecordsDone(((1, 0),)),
        ]
        await until(lambda: client.session.closed)
        assert set(stored(engine, 0, 1000)) == {7, 8, 9, 10}
        assert [each.record.stamp for each in engine.records(0, 10)] == [5]

    async def test_acks_reach_the_router_before_the_end(self, engine: FaultyEngine) -> None:
        disk = HeldDisk()
        network = network_of(random.Random(1))
        port = await AckPort(network).open()
        node = make_node(network, engine, disk=disk)
        await node.start()
        client = await Client(ack_host="router", ack_port=5002).open(network)
        disk.held = True
        client.store((7, framed(7, DATA, 1458)))
        await until(lambda: bool(disk.waiting))
        stopping = asyncio.create_task(node.stop())
        await asyncio.sleep(0.02)
        client.store((50, framed(50, DATA, 1458)))
        await until(lambda: len(port.got) == 4)
        disk.release()
        await stopping
        await until(lambda: len(port.got) == 8)
        assert port.got == [(n, 6) for n in range(50, 54)] + [(n, 0) for n in range(7, 11)]

    async def test_questions_are_refused_while_it_stops(self, engine: FaultyEngine) -> None:
        disk = HeldDisk()
        network = network_of(random.Random(1))
        node = make_node(network, engine, disk=disk)
        await node.start()
        client = await Client().open(network)
        disk.held = True
        wire = await Wire.open(network)
        wire.send(raw_frames(7, FULL))
        await until(lambda: bool(disk.waiting))
        stopping = asyncio.create_task(node.stop())
        await asyncio.sleep(0.02)
        ((pong, _),) = await client.session.call(Ping, timeout_ms=1_000)
        assert pong == Done(1, 0)
        ((last, _),) = await client.session.call(lambda n: Read(n, 0, 5), timeout_ms=1_000)
        assert last.status == 0  # type: ignore[union-attr]
        question = asyncio.create_task(
            client.session.call(lambda n: FindRecord(n, "A"), timeout_ms=5_000)
        )
        await asyncio.sleep(0.02)
        disk.release()
        await stopping
        ((reply, _),) = await question
        assert reply.request == 3
        await until(lambda: client.session.closed)

    def test_the_silent_and_the_half_done_do_not_hold_it_up(self, engine: FaultyEngine) -> None:
        async def main(world: World) -> None:
            network = network_of(world.random)
            node = make_node(network, engine)
            await node.start()
            wires = [await Wire.open(network) for _ in range(4)]
            wires[1].send(b"PUTT")
            wires[2].send(b"PUTTER/1")
            wires[3].send(raw_frames(7, FULL)[:1000])
            client = await Client().open(network)
            await asyncio.sleep(1)
            began = world.loop.time()
            await node.stop()
            assert world.loop.time() - began < 0.5
            for wire in wires:
                await wire.all()
            await until(lambda: client.session.closed)

        play(main)

    def test_a_router_that_is_gone_does_not_hold_it_up_for_ever(self, engine: FaultyEngine) -> None:

        async def main(world: World) -> None:
            network = network_of(world.random)
            node = make_node(network, engine)
            await node.start()
            client = await Client(ack_host="nobody", ack_port=5002).open(network)
            client.store((7, framed(7, DATA, 1458)))
            await asyncio.sleep(1)
            began = world.loop.time()
            await node.stop()
            assert world.loop.time() - began < 11
            assert set(stored(engine, 0, 100)) == {7, 8, 9, 10}

        play(main)

    def test_an_engine_that_does_not_close_is_no_reason_to_hang(
        self, engine: FaultyEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse() -> None:
            raise StorageError("the disk is on fire")

        monkeypatch.setattr(engine, "close", refuse)

        async def main(world: World) -> None:
            node = make_node(network_of(world.random), engine)
            await node.start()
            await node.stop()

        play(main)
