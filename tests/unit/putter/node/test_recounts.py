"""What a putter tells of its records and tickets to whoever brings Redis up to date."""

from __future__ import annotations

import pytest

from common import records
from common.meta.interface import Ceilings
from common.records import Abort, Tombstone
from common.wire.inventory import Count, Counts, HoldingList, ListHoldings
from common.wire.session import Done, ListRecords, Raise, RecordList
from common.wire.status import Status
from putter.node.recounts import last_record
from putter.storage.engine import Record
from tests.node_kit import FaultyEngine
from tests.unit.putter.node.test_queries import Ask, Client, fill, only, with_session


def test_only_the_kinds_that_were_asked_for() -> None:
    engine = FaultyEngine()
    for stamp in range(1, 10):
        kept = Tombstone("b", "k", stamp, 0) if stamp % 3 else Abort("b", "k", stamp, "A")
        engine.put_record(Record(stamp, "", records.encode(kept)))

    async def scene(client: Client, ask: Ask) -> None:
        ((reply, _),) = await ask(ListRecords, 1, 4, ("abort",))
        assert isinstance(reply, RecordList)
        assert [number for number, _ in reply.records] == [3]
        assert reply.last == 5, "so far it looked"
        assert await only(ask(ListRecords, 9, 4, ("abort",))) == RecordList(2, ())
        engine.put_record(Record(10, "A", b"of an object"))
        engine.put_record(Record(11, "", b"whatever"))
        ((reply, _),) = await ask(ListRecords, 9, 4, ("",))
        assert ([number for number, _ in reply.records], reply.last) == ([11], 11)

    with_session(engine, scene)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 100])
@pytest.mark.parametrize("dropped", [(), (1,), (2, 3), tuple(range(4, 80))])
def test_the_last_number(count: int, dropped: tuple[int, ...]) -> None:
    engine = FaultyEngine()
    for stamp in range(1, count + 1):
        engine.put_record(Record(stamp, f"O{stamp}", b"x"))
    engine.drop_records([f"O{stamp}" for stamp in dropped])
    left = [n for n in range(1, count + 1) if n not in dropped]
    assert last_record(engine) == (left[-1] if left else 0)


def test_whoever_asks_for_the_ceilings_hears_the_last_number() -> None:
    engine = FaultyEngine()
    engine.put_record(Record(7, "A", b"x"))

    async def scene(client: Client, ask: Ask) -> None:
        reply = await only(ask(Raise, Ceilings()))
        assert (reply.last_record, reply.gone) == (1, 0)
        engine.put_record(Record(8, "B", b"x"))
        engine.drop_records(["B"])
        reply = await only(ask(Raise, Ceilings()))
        assert (reply.last_record, reply.gone) == (1, 1)

    with_session(engine, scene)


def test_tickets_are_counted() -> None:
    engine = FaultyEngine()

    async def scene(client: Client, ask: Ask) -> None:
        await fill(client, (5, b"x" * 4000))
        assert await only(ask(Count, ((5, 3), (4, 2), (100, 7)))) == Counts(1, (3, 1, 0))
        for wrong in (((5, 70_000),), ((-1, 1),), ((5, 0),)):
            reply = await only(ask(Count, wrong))
            assert isinstance(reply, Done)
            assert reply.status == Status.MALFORMED

    with_session(engine, scene)


@pytest.mark.parametrize("limit", [0, 1, 2, 1000, 1_000_000])
def test_what_is_held_is_told_by_object(limit: int) -> None:
    engine = FaultyEngine()

    async def scene(client: Client, ask: Ask) -> None:
        await fill(client, (5, b"x" * 4000), (100, b"y"))
        cursor, found, pages = "", [], 0
        while cursor or not pages:
            reply = await only(ask(ListHoldings, cursor, limit))
            assert isinstance(reply, HoldingList)
            found += reply.holdings
            cursor, pages = reply.cursor, pages + 1
        assert [(first, count) for first, count, _ in found] == [(5, 3), (100, 1)]
        assert all(object_id for _, _, object_id in found)

    with_session(engine, scene)
