"""Questions to a putter: each has its answer, and an error is an answer, too."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from common import logs
from common.clock import ManualClock
from common.errors import IntegrityError, NoSpace, ProtocolError, PutterError, StorageError
from common.limits import (
    ANSWERS_UNREAD_BYTES_MAX,
    COMMIT_RECORD_BYTES_MAX,
    MESSAGE_PAYLOAD_BYTES_MAX,
    MIB,
    RAW_DATA_BYTES,
)
from common.meta.interface import Ceilings
from common.metrics import Metrics
from common.tickets import TICKETS_MAX
from common.wire import frames
from common.wire.locations import Locate, Spots
from common.wire.message import Message
from common.wire.reader import MessageReader
from common.wire.scrubbing import Scrub
from common.wire.session import (
    CeilingsReply,
    Data,
    Done,
    FindRecord,
    Free,
    ListRecords,
    Ping,
    Raise,
    Read,
    RecordList,
    RecordReply,
    Stat,
    StatReply,
)
from common.wire.status import Status
from common.wire.verification import Sums, Verify
from putter.node.committer import Committer
from putter.node.fence import Fence
from putter.node.queries import Queries
from putter.node.scrub import Scrubber
from putter.node.verify import NodeCheck
from putter.storage.damage import Damage
from putter.storage.engine import Record, Run
from putter.storage.marked import MarkedEngine
from putter.storage.notes import MemoryNotes
from tests.node_kit import (
    KEY,
    RING,
    Client,
    FaultyEngine,
    HeldDisk,
    framed,
    make_node,
    network_of,
    play,
    stored,
    until,
)
from tests.simulation.loop import World

FRAME = RAW_DATA_BYTES
Ask = Callable[..., Awaitable[Any]]
TALL = 2**63


@pytest.fixture
def engine() -> FaultyEngine:
    return FaultyEngine()


def with_session(engine: FaultyEngine, scene: Callable[[Client, Ask], Awaitable[None]]) -> None:
    """A session; ``ask(kind, *fields)`` gives all messages of the answer."""

    async def main(world: World) -> None:
        network = network_of(world.random)
        node = make_node(network, engine)
        await node.start()
        client = await Client().open(network)

        async def ask(kind: type[Message], *fields: Any, **named: Any) -> Any:
            return await client.session.call(
                lambda request: kind(request, *fields, **named), timeout_ms=5_000
            )

        await scene(client, ask)
        client.session.close()
        await node.stop()

    play(main)


async def only(answers: Awaitable[Any]) -> Any:
    ((message, payload),) = await answers
    assert payload == b""
    return message


async def fill(client: Client, *runs: tuple[int, bytes]) -> None:
    client.store(*((first, framed(first, data, FRAME)) for first, data in runs))
    await client.hears(1)


def data_in(answers: list[tuple[Any, memoryview]]) -> dict[int, bytes]:
    """Tickets of a read's answer; checks its frames."""
    found: dict[int, bytes] = {}
    for message, payload in answers:
        assert isinstance(message, Data)
        if not message.count:
            continue
        rows = memoryview(bytearray(payload))
        assert message.key_id == KEY.key_id
        assert not frames.check(rows, message.first, message.frame_bytes, KEY.checksum).any()
        data = frames.strip(rows, message.frame_bytes)
        for index in range(message.count):
            at = index * message.frame_bytes
            found[message.first + index] = bytes(data[at : at + message.frame_bytes])
    return found


def sums_in(answers: list[tuple[Any, memoryview]]) -> dict[int, bytes]:
    """Checksums of an answer to Verify, by ticket."""
    found: dict[int, bytes] = {}
    for message, payload in answers:
        assert isinstance(message, Sums)
        assert len(payload) == 8 * message.count
        for index in range(message.count):
            found[message.first + index] = bytes(payload[8 * index : 8 * index + 8])
    return found


class TestVerify:
    def test_checksums_of_what_is_there_in_order_and_an_end(self, engine: FaultyEngine) -> None:
        async def scene(client: Client, ask: Ask) -> None:
            await fill(client, (50, b"a" * 3000), (7, b"b" * 2000))
            answers = await ask(Verify, 0, 100, KEY.key_id)
            expected = {}
            for ticket in [7, 8, 50, 51, 52]:
                info = engine.stat(ticket)
                assert info is not None
                expected[ticket] = info.checksum
            assert sums_in(answers) == expected
            assert [(m.first, m.size, m.more) for m, _ in answers] == [
                (7, 2000, True),
                (50, 3000, False),
            ]

        with_session(engine, scene)

    def test_nothing_is_there(self, engine: FaultyEngine) -> None:
        async def scene(client: Client, ask: Ask) -> None:
            message = await only(ask(Verify, 7, 9, KEY.key_id))
            assert (message.more, message.status, message.count) == (False, 0, 0)

        with_session(engine, scene)

    def test_what_rots_on_the_disk_has_no_checksum(self, engine: FaultyEngine) -> None:
        async def scene(client: Client, ask: Ask) -> None:
            await fill(client, (7, bytes(3 * FRAME)))
            [piece] = engine.read(8, 1)
            info = engine.stat(8)
            assert info is not None
            rows = bytearray(piece.frames)
            rows[-1] ^= 1
            engine.free([(8, 1)])
            engine.put(Run(8, memoryview(rows), FRAME, info.object_id, info.key_id))
            answers = await ask(Verify, 7, 3, KEY.key_id)
            assert answers[-1][0].status == Status.CHECKSUM_MISMATCH
            assert 8 not in sums_in(answers)
            assert list(sums_in(await ask(Verify, 7, 1, KEY.key_id))) == [7]

        with_session(engine, scene)

    def test_a_key_that_is_not_here(self, engine: FaultyEngine) -> None:
        async def scene(client: Client, ask: Ask) -> None:
            await fill(client, (7, b"x" * 100))
            answers = await ask(Verify, 7, 1, "nobody's")
            assert answers[-1][0].status == Status.NOT_AUTHORISED

        with_session(engine, scene)

    def test_a_range_that_does_not_exist_ends_the_session(self, engine: FaultyEngine) -> None:
        async def scene(client: Client, ask: Ask) -> None:
            with pytest.raises(PutterError):
                await ask(Verify, TICKETS_MAX, 1, KEY.key_id)

        with_session(engine, scene)


class TestRead:
    def test_what_is_there_in_order_and_an_end(self, engine: FaultyEngine) -> None:
        async def scene(client: Client, ask: Ask) -> None:
            await fill(client, (50, b"a" * 3000), (7, b"b" * 2000))
            answers = await ask(Read, 0, 100)
            assert data_in(answers) == stored(engine, 0, 100)
            assert [message.more for message, _ in answers] == [True, False]
            assert [message.first for message, _ in answers] == [7, 50]

        with_session(engine, scene)

    def test_only_what_was_asked_for(self, engine: FaultyEngine) -> None:
        async def scene(client: Client, ask: Ask) -> None:
            await fill(client, (7, bytes(5 * FRAME)))
            assert list(data_in(await ask(Read, 8, 2))) == [8, 9]

        with_session(engine, scene)

    def test_nothing_is_there(self, engine: FaultyEngine) -> None:
        async def scene(client: Client, ask: Ask) -> None:
            message = await only(ask(Read, 7, TICKETS_MAX - 7))
            assert (message.more, message.status, message.count) == (False, 0, 0)

        with_session(engine, scene)

    def test_more_than_one_message_carries(self, engine: FaultyEngine) -> None:
        data = random.Random(1).randbytes(MESSAGE_PAYLOAD_BYTES_MAX * 2 // 3)

        async def scene(client: Client, ask: Ask) -> None:
            await fill(client, (0, data))
            client.store((10_000, framed(10_000, data, FRAME)))
            await client.hears(2)
            found = data_in(await ask(Read, 0, 100_000))
            assert b"".join(found.values()) == data + data

        with_session(engine, scene)

    def test_a_disk_that_refuses_ends_the_answer_with_its_reason(
        self, engine: FaultyEngine
    ) -> None:
        async def scene(client: Client, ask: Ask) -> None:
            await fill(client, (7, b"x" * 100))
            engine.fail["read"] = StorageError("the disk is on fire")
            answers = await ask(Read, 0, 100)
            last = answers[-1][0]
            assert (last.more, last.status, last.reason) == (False, 3, "the disk is on fire")
            engine.fail.clear()
            assert data_in(await ask(Read, 0, 100)) == {7: b"x" * 100}

        with_session(engine, scene)

    def test_what_could_not_be_read_is_logged_with_the_request(self, engine: FaultyEngine) -> None:
        async def scene(client: Client, ask: Ask) -> None:
            await fill(client, (7, b"x" * 100))
            engine.fail["read"] = IntegrityError("ticket 7 is damaged")
            with capture_logs(processors=[logs.add_request_id]) as lines:
                await ask(Read, 7, 100, request_id="id-1")
                await ask(Verify, 7, 100, KEY.key_id, "id-2")
                engine.fail["read"] = ProtocolError("that is no damage")
                await ask(Read, 7, 100, request_id="id-3")
            [line] = [line for line in lines if line["event"] == "a read ends early"]
            assert (line["request_id"], line["first"], line["count"]) == ("id-1", "7", 100)
            assert line["reason"] == "ticket 7 is damaged"

        with_session(engine, scene)

    def test_what_the_engine_logs_has_the_request(self, engine: FaultyEngine) -> None:
        read = engine.read

        def telling(*args: Any, **options: Any) -> Any:
            structlog.get_logger("engine").error("this sector is bad")
            return read(*args, **options)

        engine.read = telling  # type: ignore[method-assign]

        async def scene(client: Client, ask: Ask) -> None:
            with capture_logs(processors=[logs.add_request_id]) as lines:
                await ask(Read, 7, 100, request_id="id-1")
                await ask(Read, 7, 100)
            told = [line for line in lines if line["event"] == "this sector is bad"]
            assert [line.get("request_id") for line in told] == ["id-1", None]

        with_session(engine, scene)

    def test_raw_tickets_are_asked_for_by_name(self, engine: FaultyEngine) -> None:
        async def scene(client: Client, ask: Ask) -> None:
            await fill(client, (7, b"x" * 100))
            assert data_in(await ask(Read, 0, 100, raw=True)) == {}

        with_session(engine, scene)


class TestLocate:
    def test_what_lies_in_no_file_is_an_answer(self, engine: FaultyEngine) -> None:
        async def scene(client: Client, ask: Ask) -> None:
            await fill(client, (7, b"seven"))
            assert await only(ask(Locate, 5, 10, 3)) == Spots(1, 15)

        with_session(engine, scene)

    @pytest.mark.parametrize(("first", "count"), [(-1, 1), (0, 0), (TICKETS_MAX, 1), (0, TALL)])
    def test_tickets_that_do_not_exist(self, engine: FaultyEngine, first: int, count: int) -> None:
        async def scene(client: Client, ask: Ask) -> None:
            reply = await only(ask(Locate, first, count, 3))
            assert isinstance(reply, Done)
            assert reply.status == Status.MALFORMED

        with_session(engine, scene)


class TestStat:
    def test_found_and_not_found(self, engine: FaultyEngine) -> None:
        async def scene(client: Client, ask: Ask) -> None:
            await fill(client, (7, b"x" * 1500))
            wire = framed(7, b"x" * 1500, FRAME)
            assert await only(ask(Stat, 8)) == StatReply(
                1, True, 42, wire[FRAME + 16 + 8 : FRAME + 16 + 16], "OBJ", KEY.key_id
            )
            assert await only(ask(Stat, 9)) == StatReply(2, found=False)
            assert await only(ask(Stat, 7, raw=True)) == StatReply(3, found=False)

        with_session(engine, scene)

    @pytest.mark.parametrize("ticket", [-1, TICKETS_MAX, TALL])
    def test_a_ticket_that_does_not_exist(self, engine: FaultyEngine, ticket: int) -> None:
        async def scene(client: Client, ask: Ask) -> None:
            reply = await only(ask(Stat, ticket))
            assert isinstance(reply, Done)
            assert reply.status == Status.MALFORMED
            assert "do not exist" in reply.reason

        with_session(engine, scene)

    def test_a_disk_that_refuses(self, engine: FaultyEngine) -> None:
        async def scene(client: Client, ask: Ask) -> None:
            engine.fail["stat"] = StorageError("the disk is on fire")
            assert await only(ask(Stat, 7)) == Done(1, Status.IO_ERROR, "the disk is on fire")

        with_session(engine, scene)


class TestFree:
    def test_what_was_there_is_gone_and_counted(self, engine: FaultyEngine) -> None:
        async def scene(client: Client, ask: Ask) -> None:
            await fill(client, (7, bytes(5 * FRAME)))
            syncs = engine.log.count("sync")
            assert await only(ask(Free, ((8, 2), (100, 5)))) == Done(1, 0, count=2)
            assert list(stored(engine, 0, 100)) == [7, 10, 11]
            assert engine.log.count("sync") == syncs + 1
            assert await only(ask(Free, ((8, 2),))) == Done(2, 0, count=0)

        with_session(engine, scene)

    def test_records_of_these_objects_are_dropped(self, engine: FaultyEngine) -> None:
        async def scene(client: Client, ask: Ask) -> None:
            for stamp, name in enumerate(["A", "B", "C"]):
                engine.put_record(Record(stamp, name, b"x"))
            await only(ask(Free, (), ("A", "C", "Z")))
            assert [each.record.object_id for each in engine.records(0, 10)] == ["B"]

        with_session(engine, scene)

    def test_tickets_of_other_objects_stay(self, engine: FaultyEngine) -> None:
        async def scene(client: Client, ask: Ask) -> None:
            for first, name in ((7, "A"), (9, "B"), (11, "C")):
                engine.put(_run(first, bytes(2 * FRAME), name))
            engine.put(_run(7, bytes(FRAME), ""), raw=True)
            assert await only(ask(Free, ((8, 4),), ("A", "C"))) == Done(1, 0, count=2)
            assert list(stored(engine, 0, 100)) == [7, 9, 10, 12]
            assert await only(ask(Free, ((0, 9),), ("A",), raw=True)) == Done(2, 0, count=1)
            assert list(stored(engine, 0, 100)) == [7, 9, 10, 12]
            assert await only(ask(Free, ((0, 99),))) == Done(3, 0, count=4)

        with_session(engine, scene)

    @pytest.mark.parametrize("bad", [(-1, 5), (7, 0), (7, -1), (TICKETS_MAX, 1), (0, TALL)])
    def test_a_range_that_does_not_exist_frees_nothing(
        self, engine: FaultyEngine, bad: tuple[int, int]
    ) -> None:
        async def scene(client: Client, ask: Ask) -> None:
            await fill(client, (7, b"x"))
            reply = await only(ask(Free, ((7, 1), bad)))
            assert (reply.status, reply.count) == (Status.MALFORMED, 0)
            assert "do not exist" in reply.reason
            assert list(stored(engine, 0, 100)) == [7]

        with_session(engine, scene)

    def test_without_a_sync_nothing_counts_as_freed(self, engine: FaultyEngine) -> None:
        async def scene(client: Client, ask: Ask) -> None:
            engine.fail["sync"] = StorageError("the disk is on fire")
            reply = await only(ask(Free, ((7, 1),)))
            assert reply == Done(1, Status.IO_ERROR, "the disk is on fire")

        with_session(engine, scene)


class TestRecords:
    def test_find(self, engine: FaultyEngine) -> None:
        async def scene(client: Client, ask: Ask) -> None:
            engine.put_record(Record(5, "A", b"first"))
            engine.put_record(Record(6, "A", b"second"))
            ((reply, payload),) = await ask(FindRecord, "A")
            assert (reply, bytes(payload)) == (RecordReply(1, found=True, number=2), b"second")
            assert await only(ask(FindRecord, "B")) == RecordReply(2, found=False)

        with_session(engine, scene)

    def test_list_page_by_page(self, engine: FaultyEngine) -> None:
        async def scene(client: Client, ask: Ask) -> None:
            for number in range(1, 6):
                engine.put_record(Record(number, "", b"x" * number))
            ((reply, payload),) = await ask(ListRecords, 2, 2)
            assert (reply, bytes(payload)) == (RecordList(1, ((3, 3), (4, 4)), 4), b"x" * 7)
            assert await only(ask(ListRecords, 5, 2)) == RecordList(2, ())

        with_session(engine, scene)

    @pytest.mark.parametrize(("limit", "count"), [(0, 1), (-5, 1), (TALL, 1000)])
    def test_any_limit_is_brought_into_bounds(
        self, engine: FaultyEngine, limit: int, count: int
    ) -> None:
        async def scene(client: Client, ask: Ask) -> None:
            for number in range(1, 1100):
                engine.put_record(Record(number, "", b"x"))
            ((reply, _),) = await ask(ListRecords, 0, limit)
            assert len(reply.records) == count

        with_session(engine, scene)

    def test_a_page_is_cut_where_a_message_is_full(self, engine: FaultyEngine) -> None:
        """The reader goes on from the last number it got, and loses none."""
        most = MESSAGE_PAYLOAD_BYTES_MAX // COMMIT_RECORD_BYTES_MAX

        async def scene(client: Client, ask: Ask) -> None:
            for number in range(1, 2 * most + 2):
                engine.put_record(Record(number, "", bytes(COMMIT_RECORD_BYTES_MAX)))
            seen: list[int] = []
            while True:
                ((reply, payload),) = await ask(ListRecords, seen[-1] if seen else 0, 100)
                if not reply.records:
                    break
                assert len(payload) == sum(length for _, length in reply.records)
                seen += [number for number, _ in reply.records]
            assert seen == list(range(1, 2 * most + 2))

        with_session(engine, scene)


class TestRaise:
    def test_they_only_go_up(self, engine: FaultyEngine) -> None:
        async def scene(client: Client, ask: Ask) -> None:
            assert await only(ask(Raise, Ceilings())) == CeilingsReply(1, Ceilings(), gone=0)
            first = await only(ask(Raise, Ceilings(5, 6, 7)))
            assert first.ceilings == Ceilings(5, 6, 7)
            second = await only(ask(Raise, Ceilings(1, 60, 1)))
            assert second.ceilings == Ceilings(5, 60, 7)

        with_session(engine, scene)

    def test_a_disk_that_is_full(
        self, engine: FaultyEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(ceilings: Ceilings) -> Ceilings:
            raise NoSpace("full")

        monkeypatch.setattr(engine, "raise_ceilings", refuse)

        async def scene(client: Client, ask: Ask) -> None:
            assert await only(ask(Raise, Ceilings(1))) == Done(1, Status.NO_SPACE, "full")

        with_session(engine, scene)


def test_many_questions_at_once_are_all_answered(engine: FaultyEngine) -> None:
    async def scene(client: Client, ask: Ask) -> None:
        await fill(client, (7, bytes(5 * FRAME)))
        questions = [ask(Stat, number % 20) for number in range(500)]
        questions += [ask(Read, 0, 20), ask(Ping)]
        answers = await asyncio.gather(*questions)
        found = [reply.found for ((reply, _),) in answers[:500]]
        assert found == [7 <= number % 20 < 12 for number in range(500)]

    with_session(engine, scene)


class Paper(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.reader = MessageReader()
        self.messages: list[Message] = []
        self.closed = False
        self.unsent_bytes = 0

    def get_write_buffer_size(self) -> int:
        return self.unsent_bytes

    def write(self, data: Any) -> None:
        self.messages += [message for message, _ in self.reader.feed(bytes(data))]

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(map(bytes, list_of_data)))

    def is_closing(self) -> bool:
        return self.closed


class TestScrub:
    def test_damage_is_found_on_demand_refused_and_gone_with_its_tickets(
        self, engine: FaultyEngine
    ) -> None:
        async def scene(client: Client, ask: Ask) -> None:
            rows = bytearray(framed(7, b"a" * 3000, FRAME))
            rows[FRAME + 16 + 100] ^= 1
            engine.put(Run(7, memoryview(rows), FRAME, "OBJ", KEY.key_id))
            begun = await only(ask(Scrub, "start", 0, 10))
            assert (begun.number, begun.demanded) == (1, True)
            told = begun
            while not told.last_number:
                told = await only(ask(Scrub, "status", flaws=10))
            assert (told.damaged_tickets, told.last_findings) == (1, 1)
            assert [(flaw.first, flaw.object_id) for flaw in told.flaws] == [(8, "OBJ")]

            answers = await ask(Read, 7, 3)
            assert list(data_in(answers[:-1])) == [7]
            assert answers[-1][0].status == Status.CHECKSUM_MISMATCH
            assert (await only(ask(Stat, 8))).damaged
            assert not (await only(ask(Stat, 7))).damaged
            await only(ask(Free, ((7, 3),)))
            assert (await only(ask(Scrub))).damaged_tickets == 0

        with_session(engine, scene)

    def test_a_session_may_not_ask_for_anything_else(self, engine: FaultyEngine) -> None:
        async def scene(client: Client, ask: Ask) -> None:
            answer = await only(ask(Scrub, "dance"))
            assert isinstance(answer, Done)
            assert answer.status == Status.MALFORMED

        with_session(engine, scene)


class TestAlone:
    """What needs a hand on the client's socket or the reader's threads."""

    def make(self, engine: FaultyEngine) -> tuple[Queries, Paper, HeldDisk]:
        paper, readers = Paper(), HeldDisk()
        metrics = Metrics("putter")
        check = NodeCheck(RING)
        marked = MarkedEngine(engine, MemoryNotes(), Damage(), check)
        committer = Committer(marked, HeldDisk(), metrics)
        scrubber = Scrubber(
            marked, committer, readers, check, metrics, ManualClock(),
            rate_bytes_per_s=0, period_s=1,
        )  # fmt: skip
        fence = Fence(float)
        return (
            Queries(paper, marked, committer, readers, metrics, fence, scrubber, check),
            paper,
            readers,
        )

    async def test_too_many_at_once_is_an_error(self, engine: FaultyEngine) -> None:
        queries, _, readers = self.make(engine)
        readers.held = True
        for number in range(1024):
            queries.take(Stat(number, 7))
        with pytest.raises(ProtocolError, match="more than 1024 questions"):
            queries.take(Stat(1024, 7))
        with pytest.raises(ProtocolError):
            queries.take(FindRecord(1025, "A"))
        queries.cancel()
        await asyncio.sleep(0)

    async def test_few_of_them_occupy_the_disk(self, engine: FaultyEngine) -> None:
        queries, paper, readers = self.make(engine)
        readers.held = True
        for number in range(100):
            queries.take(Stat(number, 7))
        await until(lambda: len(readers.waiting) == 16)
        await asyncio.sleep(0.01)
        assert len(readers.waiting) == 16
        readers.release()
        await until(lambda: len(paper.messages) == 100)

    @pytest.mark.parametrize("turns", [0, 1, 2, 3])
    async def test_a_client_that_leaves_ends_its_questions(
        self, engine: FaultyEngine, turns: int
    ) -> None:
        """Also those that did not begin, and those that wait for their turn."""
        queries, paper, readers = self.make(engine)
        readers.held = True
        for number in range(30):
            queries.take(Read(number, 0, 5))
            queries.take(Stat(number, 7))
            queries.take(Free(number, ((7, 1),)))
            queries.take(FindRecord(number, "A"))
        for _ in range(turns):
            await asyncio.sleep(0)
        paper.closed = True
        queries.cancel()
        readers.release()
        await until(lambda: len(asyncio.all_tasks()) == 1)
        await asyncio.sleep(0.01)
        assert paper.messages == []

    async def test_who_does_not_read_waits_for_the_next_piece(self, engine: FaultyEngine) -> None:
        queries, paper, _ = self.make(engine)
        for first in (7, 50):
            engine.put(_run(first, b"x" * 100))
        queries.pause()
        queries.take(Read(1, 0, 100))
        await asyncio.sleep(0.01)
        assert paper.messages == []
        queries.resume()
        await until(lambda: len(paper.messages) == 2)

    async def test_many_reads_that_come_together_take_few_jobs_and_writes(
        self, engine: FaultyEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        queries, paper, readers = self.make(engine)
        engine.put(_run(0, bytes(100 * FRAME)))
        writes: list[int] = []
        written = paper.writelines

        def count(parts: Any) -> None:
            writes.append(len(parts))
            written(parts)

        monkeypatch.setattr(paper, "writelines", count)
        readers.held = True
        for number in range(100):
            queries.take(Read(number, number, 1))
        await asyncio.sleep(0.01)
        assert len(readers.waiting) == 4
        readers.release()
        await until(lambda: len(paper.messages) == 100)
        assert sorted(message.first for message in paper.messages) == list(range(100))
        assert not any(message.more for message in paper.messages)
        assert len(writes) == 4

    @pytest.mark.parametrize(("tickets", "jobs"), [(1, 1), (5, 3)])
    async def test_a_few_small_reads_are_one_job_and_large_ones_go_side_by_side(
        self, engine: FaultyEngine, tickets: int, jobs: int
    ) -> None:
        queries, paper, readers = self.make(engine)
        engine.put(_run(0, bytes(100 * FRAME)))
        readers.held = True
        for number in range(3):
            queries.take(Read(number, 10 * number, tickets))
        await asyncio.sleep(0.01)
        assert len(readers.waiting) == jobs
        readers.release()
        await until(lambda: len(paper.messages) == 3)

    async def test_a_long_read_lets_others_pass(self, engine: FaultyEngine) -> None:
        queries, paper, _ = self.make(engine)
        count = 3 * MIB // FRAME
        engine.put(_run(0, bytes(count * FRAME)))
        engine.put(_run(count, bytes(count * FRAME)))
        queries.take(Read(1, 0, 2 * count))
        for number in range(2, 10):
            queries.take(Read(number, 5, 1))
        await until(lambda: not queries.asked)
        order = [message.request for message in paper.messages]
        assert order.count(1) == 2
        assert order[-1] == 1
        assert sorted(order) == [1, 1, *range(2, 10)]

    async def test_a_read_while_the_client_does_not_read_keeps_few_bytes(
        self, engine: FaultyEngine
    ) -> None:
        queries, paper, readers = self.make(engine)
        count = MIB // FRAME + 1
        for number in range(20):
            engine.put(_run(number * count, bytes(count * FRAME)))
        readers.held = True
        for number in range(20):
            queries.take(Read(number, number * count, count))
        await until(lambda: len(readers.waiting) == 4)
        queries.pause()
        readers.release()
        await asyncio.sleep(0.01)
        assert paper.messages == []
        assert engine.log.count("read") == 4, "one piece for each job"
        queries.resume()
        await until(lambda: len(paper.messages) == 20)

    async def test_an_engine_that_breaks_is_told_and_logged(
        self, engine: FaultyEngine, caplog: pytest.LogCaptureFixture
    ) -> None:
        queries, paper, _ = self.make(engine)
        engine.fail["read"] = ZeroDivisionError("what")
        queries.take(Read(1, 0, 5))
        await until(lambda: len(paper.messages) == 1)
        (end,) = paper.messages
        assert (end.more, end.status) == (False, Status.IO_ERROR)
        assert "failed" in end.reason
        assert not queries.asked

    async def test_nor_is_anything_else_made_for_who_does_not_read(
        self, engine: FaultyEngine
    ) -> None:
        queries, paper, _ = self.make(engine)
        queries.pause()
        for number in range(20):
            queries.take(Stat(number, 7))
        await asyncio.sleep(0.01)
        assert "stat" not in engine.log
        assert paper.messages == []
        queries.resume()
        await until(lambda: len(paper.messages) == 20)

    async def test_a_reader_that_stops_again_gets_one_answer_at_a_time(
        self, engine: FaultyEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        queries, paper, readers = self.make(engine)
        readers.held = True
        for number in range(10):
            queries.take(Stat(number, 7))
        await until(lambda: len(readers.waiting) == 10)
        queries.pause()
        readers.release()
        await asyncio.sleep(0.01)
        written = paper.write

        def write_and_choke(data: Any) -> None:
            written(data)
            queries.pause()

        monkeypatch.setattr(paper, "write", write_and_choke)
        for count in range(1, 11):
            queries.resume()
            await asyncio.sleep(0.01)
            assert len(paper.messages) == count

    async def test_too_much_unread_is_told(self, engine: FaultyEngine) -> None:
        queries, paper, _ = self.make(engine)
        paper.unsent_bytes = ANSWERS_UNREAD_BYTES_MAX + 1
        assert not queries.unread, "on its way"
        queries.pause()
        assert queries.unread
        paper.unsent_bytes = ANSWERS_UNREAD_BYTES_MAX
        assert not queries.unread


def _run(first: int, data: bytes, name: str = "OBJ") -> Run:
    return Run(first, memoryview(bytearray(framed(first, data, FRAME))), FRAME, name, KEY.key_id)
