"""Sessions: runs and records in, answers out; one bad run harms no other."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from common import logs
from common.errors import NoSpace, ProtocolError, StorageError
from common.keys import Keyring
from common.limits import COMMIT_RECORD_BYTES_MAX, RAW_DATA_BYTES
from common.meta.interface import Ceilings
from common.tickets import TICKETS_MAX
from common.twins.network import MemoryNetwork
from common.wire.greeting import ClientGreeting
from common.wire.message import Message
from common.wire.session import (
    Batch,
    Done,
    Ping,
    Read,
    Ready,
    RecordHeader,
    RecordsDone,
    RunHeader,
    RunsDone,
    StatReply,
    encode,
)
from common.wire.status import Status
from putter.node import queries, session
from putter.storage.engine import Record
from tests.node_kit import (
    KEY,
    OTHER_KEY,
    RING,
    SECOND_KEY,
    AckPort,
    Client,
    FaultyEngine,
    HeldDisk,
    Wire,
    framed,
    hello_of,
    make_node,
    network_of,
    play,
    stored,
    until,
)
from tests.simulation.loop import World

FRAME = RAW_DATA_BYTES
ONE, TWO = bytes(range(200)), bytes(range(256)) * 20
Talk = Callable[[MemoryNetwork, Client], Awaitable[None]]


def run_of(first: int, data: bytes = TWO, frame_bytes: int = FRAME, key=KEY) -> tuple[int, bytes]:
    return first, framed(first, data, frame_bytes, key)


def split(first: int, data: bytes, frame_bytes: int = FRAME) -> dict[int, bytes]:
    cuts = range(0, len(data), frame_bytes)
    return {first + n: data[at : at + frame_bytes] for n, at in enumerate(cuts)}


def with_node(engine: FaultyEngine, talk: Talk, ring: Keyring = RING, **hello: object) -> None:
    """A conversation with a node."""

    async def main(world: World) -> None:
        network = network_of(world.random)
        node = make_node(network, engine, ring=ring)
        await node.start()
        client = await Client(ring, **hello).open(network)
        await talk(network, client)
        client.session.close()
        await node.stop()

    play(main)


@pytest.fixture
def engine() -> FaultyEngine:
    return FaultyEngine()


class TestRuns:
    @pytest.mark.parametrize("frame_bytes", [1458, 65_536, 1 << 20])
    def test_they_are_stored_with_the_sessions_frame_size(
        self, engine: FaultyEngine, frame_bytes: int
    ) -> None:
        data = random.Random(1).randbytes(1 << 20) + b"tail"

        async def talk(network: MemoryNetwork, client: Client) -> None:
            client.store(run_of(7, data, frame_bytes))
            count = -(-len(data) // frame_bytes)
            assert await client.hears(1) == [RunsDone(((7, count, 0),))]

        with_node(engine, talk, frame_bytes=frame_bytes)
        assert stored(engine, 0, TICKETS_MAX) == split(7, data, frame_bytes)
        info = engine.stat(7)
        assert info is not None
        assert (info.object_id, info.key_id) == ("OBJ", KEY.key_id)

    def test_one_may_have_frames_of_its_own_size(self, engine: FaultyEngine) -> None:
        data = random.Random(1).randbytes(70_000)
        wire = framed(50, data, 65_536, KEY)

        async def talk(network: MemoryNetwork, client: Client) -> None:
            runs = (RunHeader(7, len(run_of(7)[1]), "OBJ"), RunHeader(50, len(wire), "OBJ", 65_536))
            client.session.send(Batch(runs), run_of(7)[1], wire)
            assert await client.hears(1) == [RunsDone(((7, 4, 0), (50, 2, 0)))]

        with_node(engine, talk)
        assert stored(engine, 0, 1000) == split(7, TWO) | split(50, data, 65_536)

    def test_several_of_one_batch_are_answered_together(self, engine: FaultyEngine) -> None:
        async def talk(network: MemoryNetwork, client: Client) -> None:
            client.store(run_of(100), run_of(7, ONE), run_of(50))
            assert await client.hears(1) == [RunsDone(((100, 4, 0), (7, 1, 0), (50, 4, 0)))]

        with_node(engine, talk)
        wanted = split(7, ONE) | split(50, TWO) | split(100, TWO)
        assert stored(engine, 0, 1000) == wanted
        assert engine.log.count("sync") == 1

    @pytest.mark.parametrize("spoil", ["ticket", "checksum", "data", "key", "first"])
    def test_a_bad_frame_costs_its_run_and_no_other(self, engine: FaultyEngine, spoil: str) -> None:
        """Nothing of a spoiled run is stored: the sender repeats it as a whole."""
        first, wire = run_of(7, key=OTHER_KEY if spoil == "key" else KEY)
        bad = bytearray(wire)
        if spoil in ("ticket", "checksum", "data"):
            bad[1474 + {"ticket": 0, "checksum": 8, "data": 16}[spoil]] ^= 1
        if spoil == "first":
            first = 8

        async def talk(network: MemoryNetwork, client: Client) -> None:
            client.store(run_of(50), (first, bytes(bad)), run_of(100))
            bad_run = (first, 4, Status.CHECKSUM_MISMATCH)
            assert await client.hears(1) == [RunsDone(((50, 4, 0), bad_run, (100, 4, 0)))]
            client.store(run_of(7))
            assert (await client.hears(2))[1] == RunsDone(((7, 4, 0),))

        with_node(engine, talk)
        assert stored(engine, 0, 1000) == split(7, TWO) | split(50, TWO) | split(100, TWO)

    def test_the_same_again_is_written_and_other_bytes_are_refused(
        self, engine: FaultyEngine
    ) -> None:
        async def talk(network: MemoryNetwork, client: Client) -> None:
            client.store(run_of(7))
            client.store(run_of(7))
            client.store(run_of(7, TWO[::-1]))
            heard = await client.hears(3)
            assert heard == [
                RunsDone(((7, 4, 0),)),
                RunsDone(((7, 4, 0),)),
                RunsDone(((7, 4, Status.TICKET_TAKEN),)),
            ]

        with_node(engine, talk)
        assert stored(engine, 0, 1000) == split(7, TWO)

    def test_a_full_disk(self) -> None:
        engine = FaultyEngine(capacity_bytes=6_000)

        async def talk(network: MemoryNetwork, client: Client) -> None:
            client.store(run_of(7), run_of(50))
            assert await client.hears(1) == [RunsDone(((7, 4, 0), (50, 4, Status.NO_SPACE)))]

        with_node(engine, talk)

    def test_frames_may_have_any_key_of_the_ring(self, engine: FaultyEngine) -> None:
        """A client may begin to write with another key in the course of a session."""

        async def talk(network: MemoryNetwork, client: Client) -> None:
            other = await Client(Keyring([SECOND_KEY])).open(network)
            other.store(run_of(7, key=SECOND_KEY), run_of(50, key=KEY), run_of(90, key=OTHER_KEY))
            bad = (90, 4, Status.CHECKSUM_MISMATCH)
            assert await other.hears(1) == [RunsDone(((7, 4, 0), (50, 4, 0), bad))]
            other.session.close()

        with_node(engine, talk, Keyring([KEY, SECOND_KEY]))
        infos = [engine.stat(7), engine.stat(50), engine.stat(90)]
        found = [info.key_id if info is not None else None for info in infos]
        assert found == [SECOND_KEY.key_id, KEY.key_id, None]

    def test_a_key_that_is_gone_writes_no_more(self, engine: FaultyEngine) -> None:
        ring = Keyring([SECOND_KEY, KEY])

        async def talk(network: MemoryNetwork, client: Client) -> None:
            old = await Client(Keyring([KEY])).open(network)
            old.store(run_of(7, key=KEY))
            assert await old.hears(1) == [RunsDone(((7, 4, 0),))]
            ring.replace(Keyring([SECOND_KEY]))
            old.store(run_of(50, key=KEY))
            bad = (50, 4, Status.CHECKSUM_MISMATCH)
            assert (await old.hears(2))[1:] == [RunsDone((bad,))]
            old.session.close()

        with_node(engine, talk, ring)

    def test_who_names_an_ack_port_gets_acks_there(self, engine: FaultyEngine) -> None:
        async def main(world: World) -> None:
            network = network_of(world.random)
            port = await AckPort(network).open()
            node = make_node(network, engine)
            await node.start()
            client = await Client(ack_host="router", ack_port=5002).open(network.host("router"))
            _, wire = run_of(50)
            client.store(run_of(7), (51, wire), records=[(1, 5, b"record")])
            await until(lambda: len(port.got) == 8)
            assert port.got == [(n, 0) for n in range(7, 11)] + [
                (n, Status.CHECKSUM_MISMATCH) for n in range(51, 55)
            ]
            assert await client.hears(1) == [RecordsDone(((1, Status.CHECKSUM_MISMATCH),))]
            client.session.close()
            await node.stop()

        play(main)

    def test_without_a_host_acks_go_where_the_session_comes_from(
        self, engine: FaultyEngine
    ) -> None:
        async def main(world: World) -> None:
            network = network_of(world.random)
            port = await AckPort(network).open()
            node = make_node(network, engine)
            await node.start()
            client = await Client(ack_port=5002).open(network.host("router"))
            client.store(run_of(7))
            await until(lambda: len(port.got) == 4)
            client.session.close()
            await node.stop()

        play(main)

    def test_what_came_whole_is_stored_though_its_sender_is_gone(
        self, engine: FaultyEngine
    ) -> None:
        async def talk(network: MemoryNetwork, client: Client) -> None:
            gone = await Client().open(network)
            gone.store(run_of(7))
            first, wire = run_of(50)
            gone.session.send(Batch((RunHeader(first, len(wire) + 10, "OBJ"),)), wire, b"x" * 10)
            gone.session.close()
            await until(lambda: stored(engine, 0, 100) != {})

        with_node(engine, talk)
        assert stored(engine, 0, 100) == split(7, TWO)


class TestRecords:
    def test_they_are_kept_as_they_came(self, engine: FaultyEngine) -> None:
        async def talk(network: MemoryNetwork, client: Client) -> None:
            client.store(run_of(7), records=[(11, 5, b"any bytes"), (12, 6, b"others")])
            assert await client.hears(2) == [
                RunsDone(((7, 4, 0),)),
                RecordsDone(((11, 0), (12, 0))),
            ]

        with_node(engine, talk)
        assert [each.record for each in engine.records(0, 10)] == [
            Record(5, "OBJ", b"any bytes"),
            Record(6, "OBJ", b"others"),
        ]
        assert engine.log == ["put", "put_record", "put_record", "sync"], "runs come first"

    def test_one_that_is_refused_harms_nobody(self, engine: FaultyEngine) -> None:
        async def talk(network: MemoryNetwork, client: Client) -> None:
            engine.fail["put_record"] = NoSpace("full")
            client.store(run_of(7), records=[(11, 5, b"x")])
            assert await client.hears(2) == [
                RunsDone(((7, 4, 0),)),
                RecordsDone(((11, Status.NO_SPACE),)),
            ]

        with_node(engine, talk)
        assert stored(engine, 0, 100) == split(7, TWO)

    def test_one_of_a_run_that_is_refused_is_refused_too(self) -> None:
        """It would say that this node holds the bytes, and be aborted in vain."""
        engine = FaultyEngine(capacity_bytes=2_000)

        async def talk(network: MemoryNetwork, client: Client) -> None:
            client.store(run_of(7), records=[(11, 5, b"x")])
            assert await client.hears(2) == [
                RunsDone(((7, 4, Status.NO_SPACE),)),
                RecordsDone(((11, Status.NO_SPACE),)),
            ]
            client.heard.clear()
            client.store(records=[(12, 6, b"y")])
            assert await client.hears(1) == [RecordsDone(((12, 0),))]

        with_node(engine, talk)
        assert [kept.record.stamp for kept in engine.records(0, 10)] == [6]

    def test_a_sync_that_fails_fails_all(self, engine: FaultyEngine) -> None:
        async def talk(network: MemoryNetwork, client: Client) -> None:
            engine.fail["sync"] = StorageError("the disk is on fire")
            client.store(run_of(7), run_of(50, key=OTHER_KEY), records=[(11, 5, b"x")])
            bad = Status.CHECKSUM_MISMATCH
            assert await client.hears(2) == [
                RunsDone(((7, 4, Status.IO_ERROR), (50, 4, bad))),
                RecordsDone(((11, Status.IO_ERROR),)),
            ]
            engine.fail.clear()
            client.store(run_of(7))
            assert (await client.hears(3))[2] == RunsDone(((7, 4, 0),))

        with_node(engine, talk)

    def test_the_largest_one(self, engine: FaultyEngine) -> None:
        async def talk(network: MemoryNetwork, client: Client) -> None:
            client.store(records=[(1, 5, bytes(COMMIT_RECORD_BYTES_MAX))])
            assert await client.hears(1) == [RecordsDone(((1, 0),))]

        with_node(engine, talk)


WIRE = run_of(7)[1]
NONSENSE: dict[str, tuple[Message, bytes, str]] = {
    "a batch of nothing": (Batch(()), b"", "without runs and records"),
    "a run longer than the payload": (Batch((RunHeader(7, 100, ""),)), b"x" * 99, "parts of 100"),
    "a payload longer than the runs": (Batch((RunHeader(7, 99, ""),)), b"x" * 100, "parts of 99"),
    "a run of no bytes": (Batch((RunHeader(7, 0, ""), RunHeader(8, 5, ""))), b"x" * 5, "parts"),
    "lengths below zero": (Batch((RunHeader(7, -5, ""), RunHeader(8, 10, ""))), b"x" * 5, "parts"),
    "half a frame header": (Batch((RunHeader(7, 16, ""),)), b"x" * 16, "within a frame header"),
    "half a last header": (
        Batch((RunHeader(7, 1474 + 5, ""),)),
        WIRE[: 1474 + 5],
        "within a frame header",
    ),
    "a ticket below zero": (Batch((RunHeader(-1, len(WIRE), ""),)), WIRE, "do not exist"),
    "tickets beyond the last": (
        Batch((RunHeader(TICKETS_MAX - 3, len(WIRE), ""),)),
        WIRE,
        "do not exist",
    ),
    "frames too small": (Batch((RunHeader(7, len(WIRE), "", 1457),)), WIRE, "frames of 1457"),
    "frames too large": (Batch((RunHeader(7, 99, "", 2**20 + 1),)), b"x" * 99, "frames of 1048577"),
    "frames below zero": (Batch((RunHeader(7, 99, "", -5),)), b"x" * 99, "frames of -5"),
    "a ticket of 64 bits": (Batch((RunHeader(2**64 - 1, len(WIRE), ""),)), WIRE, "do not exist"),
    "a record too large": (
        Batch((), (RecordHeader(1, COMMIT_RECORD_BYTES_MAX + 1, 5, ""),)),
        bytes(COMMIT_RECORD_BYTES_MAX + 1),
        "too large",
    ),
    "a payload where none belongs": (Ping(1), b"x", "Ping has no payload"),
    "an answer": (Done(1, 0), b"", "Done was not expected"),
    "another answer": (StatReply(1, found=False), b"", "StatReply was not expected"),
    "a part of the greeting": (Ready(), b"", "Ready was not expected"),
    "a read of nothing": (Read(1, 7, 0), b"", "do not exist"),
    "a read beyond the last ticket": (Read(1, TICKETS_MAX, 1), b"", "do not exist"),
    "a read below zero": (Read(1, -1, 5), b"", "do not exist"),
}


@pytest.mark.parametrize(("message", "payload", "reason"), NONSENSE.values(), ids=NONSENSE)
def test_nonsense_ends_the_session_with_a_reason_and_stores_nothing(
    engine: FaultyEngine, message: Message, payload: bytes, reason: str
) -> None:
    async def talk(network: MemoryNetwork, client: Client) -> None:
        other = await Client().open(network)
        other.session.send(message, payload)
        await until(lambda: other.session.closed)
        (error,) = other.losses
        assert isinstance(error, ProtocolError)
        assert reason in str(error)
        client.store(run_of(50))
        assert await client.hears(1) == [RunsDone(((50, 4, 0),))], "others are undisturbed"

    with_node(engine, talk)
    assert stored(engine, 0, 1000) == split(50, TWO)
    assert engine.records(0, 10) == []
    assert engine.raise_ceilings(Ceilings()) == Ceilings()


async def test_nothing_is_answered_before_the_sync(engine: FaultyEngine) -> None:
    disk = HeldDisk()
    disk.held = True
    network = network_of(random.Random(1))
    node = make_node(network, engine, disk=disk)
    await node.start()
    client = await Client().open(network)
    client.store(run_of(7), records=[(1, 5, b"x")])
    await until(lambda: bool(disk.waiting))
    await asyncio.sleep(0.02)
    assert client.heard == []
    disk.release()
    assert await client.hears(2) == [RunsDone(((7, 4, 0),)), RecordsDone(((1, 0),))]
    client.session.close()
    await node.stop()


async def test_a_slow_disk_stops_the_sender(
    engine: FaultyEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And when it goes on, every run is answered, in order."""
    monkeypatch.setattr(session, "CONNECTION_PENDING_BYTES_MAX", 300_000)
    disk = HeldDisk()
    disk.held = True
    network = network_of(random.Random(1))
    node = make_node(network, engine, disk=disk)
    await node.start()
    client = await Client(frame_bytes=65_536).open(network)
    data = random.Random(1).randbytes(3 * 65_536)
    batches = 10
    for number in range(batches):
        client.store(run_of(100 * number, data, 65_536))
    budget = node._services.budget
    await until(lambda: budget.used_bytes >= 300_000)
    await asyncio.sleep(0.05)
    assert budget.used_bytes < 500_000, "one batch more than the limit, at most"
    assert client.heard == []
    disk.release()
    heard = await client.hears(batches)
    assert heard == [RunsDone(((100 * number, 3, 0),)) for number in range(batches)]
    assert budget.used_bytes == 0
    client.session.close()
    await node.stop()


@pytest.mark.parametrize("kind", ["pings", "batches"])
def test_who_does_not_read_its_answers_may_ask_no_more(
    engine: FaultyEngine, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the key, asks and asks; the node's memory stays bounded, and others are served."""
    limit, count = 100_000, 40_000 if kind == "pings" else 20_000
    monkeypatch.setattr(queries, "ANSWERS_UNREAD_BYTES_MAX", limit)
    if kind == "pings":
        asked = b"".join(encode(Ping(number)) for number in range(count))
        told = b"".join(encode(Done(number, 0)) for number in range(count))
    else:
        runs = [run_of(first, b"x") for first in (7, 9, 11)]
        payload = b"".join(wire for _, wire in runs)
        headers = tuple(RunHeader(first, len(wire), "OBJ") for first, wire in runs)
        asked = (encode(Batch(headers), len(payload)) + payload) * count
        told = encode(RunsDone(tuple((first, 1, 0) for first, _ in runs))) * count

    async def main(world: World) -> None:
        network = network_of(world.random)
        node = make_node(network, engine)
        await node.start()
        client = await Client().open(network)
        deaf = await Wire.open(network)
        greeting = ClientGreeting(RING, hello_of())
        deaf.send(greeting.opening)
        await until(lambda: len(deaf.received) > 100)
        deaf.send(greeting.receive(bytes(deaf.received)))
        ready = len(deaf.received) + len(encode(Ready()))
        await until(lambda: len(deaf.received) == ready)
        deaf.transport.pause_reading()
        deaf.send(asked)
        await asyncio.sleep(30)
        queued = [each._transport.get_write_buffer_size() for each in node._connections.all()]
        assert limit < sum(queued) < limit + 100_000 < len(told) // 2
        assert deaf.transport.get_write_buffer_size() > 0, "the rest waits at its sender"
        client.store(run_of(50))
        assert await client.hears(1) == [RunsDone(((50, 4, 0),))]

        deaf.transport.resume_reading()
        await until(lambda: len(deaf.received) == ready + len(told), 600)
        assert deaf.received[ready:] == told
        deaf.transport.close()
        client.session.close()
        await node.stop()

    play(main)


class TestRequestIds:
    """Routers tell whose request a run or a record is for; the log has it where one is refused."""

    def test_a_refused_run_names_its_request(self, engine: FaultyEngine) -> None:
        (_, good), (_, bad) = run_of(7), run_of(50, key=OTHER_KEY)

        async def talk(network: MemoryNetwork, client: Client) -> None:
            headers = (
                RunHeader(7, len(good), "A", 0, "id-a"),
                RunHeader(50, len(bad), "B", 0, "id-b"),
            )
            with capture_logs() as lines:
                client.session.send(Batch(headers), good, bad)
                await client.hears(1)
            [line] = [line for line in lines if line["event"] == "something is refused"]
            assert (line["why"], line["client"]) == ("checksum mismatch", "router-1")
            assert (line["objects"], line["requests"]) == (["B"], ["id-b"])

        with_node(engine, talk)

    def test_a_refused_record_too(self, engine: FaultyEngine) -> None:
        engine.fail["put_record"] = NoSpace("full")

        async def talk(network: MemoryNetwork, client: Client) -> None:
            headers = (RecordHeader(1, 3, 9, "A", "id-a"), RecordHeader(2, 3, 10, "", "id-b"))
            with capture_logs() as lines:
                client.session.send(Batch((), headers), b"one", b"two")
                assert await client.hears(1) == [RecordsDone(((1, 2), (2, 2)))]
            [line] = [line for line in lines if line["event"] == "something is refused"]
            assert (line["why"], line["requests"]) == ("no space", ["id-a", "id-b"])

        with_node(engine, talk)

    def test_what_is_stored_is_not_told(self, engine: FaultyEngine) -> None:
        async def talk(network: MemoryNetwork, client: Client) -> None:
            with capture_logs() as lines:
                client.store(run_of(7), records=[(1, 9, b"body")])
                await client.hears(2)
            assert not [line for line in lines if line["log_level"] == "warning"]

        with_node(engine, talk)

    def test_a_group_that_fails_names_all_of_its_requests_once(self, engine: FaultyEngine) -> None:
        engine.fail["sync"] = StorageError("the disk is on fire")
        (_, wire) = run_of(7)

        async def talk(network: MemoryNetwork, client: Client) -> None:
            with capture_logs() as lines:
                client.session.send(
                    Batch(
                        (RunHeader(7, len(wire), "A", 0, "id-a"),),
                        (RecordHeader(1, 3, 9, "A", "id-b"), RecordHeader(2, 3, 9, "A")),
                    ),
                    *(wire, b"one", b"two"),
                )
                await client.hears(2)
            [line] = [line for line in lines if line["log_level"] in ("warning", "error")]
            assert line["requests"] == ["id-a", "id-b"]

        with_node(engine, talk)

    def test_what_the_engine_logs_is_about_the_run_that_it_takes(
        self, engine: FaultyEngine
    ) -> None:
        put = engine.put

        def telling(*args: Any, **options: Any) -> Any:
            structlog.get_logger("engine").error("this sector is bad")
            return put(*args, **options)

        engine.put = telling  # type: ignore[method-assign]
        runs = [run_of(first)[1] for first in (7, 50, 90)]

        async def talk(network: MemoryNetwork, client: Client) -> None:
            headers = (
                RunHeader(7, len(runs[0]), "A", 0, "id-a"),
                RunHeader(50, len(runs[1]), "B"),
                RunHeader(90, len(runs[2]), "C", 0, "id-c"),
            )
            with capture_logs(processors=[logs.add_request_id]) as lines:
                client.session.send(Batch(headers), *runs)
                await client.hears(1)
            told = [line for line in lines if line["event"] == "this sector is bad"]
            assert [line.get("request_id") for line in told] == ["id-a", None, "id-c"]

        with_node(engine, talk)
