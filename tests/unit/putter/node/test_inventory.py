"""A putter tells digests of what it holds, and entries."""

from __future__ import annotations

import pytest

from common.digests import Entries, Grid, Leaves, Space, digest
from common.tickets import TICKETS_MAX
from common.wire.inventory import AskDigests, AskEntries, DigestList, EntryList
from common.wire.session import Done
from common.wire.status import Status
from putter.storage.engine import Record
from tests.node_kit import Client, FaultyEngine
from tests.unit.putter.node.test_recounts import Ask, fill, only, with_session


async def asked(ask: Ask, kind: type, *fields: object) -> tuple[object, bytes]:
    ((message, payload),) = await ask(kind, *fields)
    return message, bytes(payload)


@pytest.mark.parametrize("width", [1, 16, 4096])
def test_digests_of_tickets(width: int) -> None:
    engine = FaultyEngine()

    async def scene(client: Client, ask: Ask) -> None:
        await fill(client, (5, b"x" * 4000), (100, b"y"))
        message, payload = await asked(ask, AskDigests, "tickets", width, 7, 0, 4000)
        assert message == DigestList(1, 4000)
        entries = engine.entries(Space.TICKETS, 0, TICKETS_MAX)
        expected = digest(entries, Grid(Space.TICKETS, width, 7)).between(0, 4000)
        assert payload == expected.pack()
        assert int(Leaves.unpack(payload).count.sum()) == 4

    with_session(engine, scene)


def test_digests_of_records() -> None:
    engine = FaultyEngine()
    engine.put_record(Record(50, "A", b"one"))
    engine.put_record(Record(60, "A", b"newer"))
    engine.put_record(Record(70, "", b"bare"))

    async def scene(client: Client, ask: Ask) -> None:
        _, payload = await asked(ask, AskDigests, "objects", 1024, 7, 0, 1)
        assert Leaves.unpack(payload).count.tolist() == [1]
        message, payload = await asked(ask, AskEntries, "objects", 0, 1024)
        assert message == EntryList(2, 1024)
        assert Entries.unpack(payload).key.tolist() == [60]
        _, payload = await asked(ask, AskEntries, "records", 0, 1024)
        assert Entries.unpack(payload).first.tolist() == [70]

    with_session(engine, scene)


def test_a_long_answer_is_cut_at_a_leaf(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("putter.node.inventory._LONG_S", 0.0)
    engine = FaultyEngine()

    async def scene(client: Client, ask: Ask) -> None:
        await fill(client, *((1000 * n, b"x" * 30) for n in range(4)))
        at, found, answers = 10, [], 0
        while at < 500:
            message, payload = await asked(ask, AskDigests, "tickets", 8, 7, at, 500)
            assert isinstance(message, DigestList)
            assert at < message.behind <= 500
            leaves = Leaves.unpack(payload)
            assert all(at <= leaf < message.behind for leaf in leaves.leaf.tolist())
            found += leaves.leaf.tolist()
            at, answers = message.behind, answers + 1
        assert answers == 8, "one portion each"
        assert found == [125, 250, 375]

    with_session(engine, scene)


def test_more_entries_than_a_message_holds() -> None:
    class Full(FaultyEngine):
        def entries(self, space: Space, first: int, end: int) -> Entries:
            some = range(first, min(end, 70_000))
            return Entries.of_keys(list(some), list(some))

    async def scene(client: Client, ask: Ask) -> None:
        found: list[int] = []
        at = 0
        while at < 100_000:
            message, payload = await asked(ask, AskEntries, "records", at, 100_000)
            assert isinstance(message, EntryList)
            assert message.behind > at
            found += Entries.unpack(payload).first.tolist()
            at = message.behind
        assert found == list(range(70_000))

    with_session(Full(), scene)


@pytest.mark.parametrize(
    "question",
    [
        (AskDigests, "bytes", 8, 1, 0, 8),
        (AskDigests, "tickets", 0, 1, 0, 8),
        (AskDigests, "tickets", 8, -1, 0, 8),
        (AskDigests, "tickets", 8, 1, 8, 8),
        (AskDigests, "tickets", 8, 1, 0, 5_000),
        (AskDigests, "tickets", 1 << 61, 1, 0, 8),
        (AskEntries, "bytes", 0, 8),
        (AskEntries, "tickets", 8, 8),
        (AskEntries, "tickets", -1, 8),
        (AskEntries, "tickets", 0, 1 << 63),
    ],
)
def test_questions_that_make_no_sense(question: tuple[object, ...]) -> None:
    async def scene(client: Client, ask: Ask) -> None:
        reply = await only(ask(*question))  # type: ignore[arg-type]
        assert isinstance(reply, Done)
        assert reply.status == Status.MALFORMED

    with_session(FaultyEngine(), scene)
