"""Questions about inventories, in calls of bounded size; what makes no sense is an error."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, TypeVar, cast

import pytest

from common import records
from common.digests import LEAVES_MAX, Entries, Grid, Leaves, Space, digest
from common.errors import NodesUnavailable
from common.records import Extent, Tombstone
from common.wire.inventory import AskDigests, AskEntries, Count, Counts, DigestList, EntryList
from common.wire.session import Done, FindRecord, ListRecords, Message, RecordList, RecordReply
from router.told import bare_records, digests_of, entries_of, lacking, record_of_object

T = TypeVar("T")
Reply = tuple[Message, bytes]


class Link:
    """A putter that answers as it is told."""

    node = "p0"

    def __init__(self, answer: Callable[[Any], Reply]) -> None:
        self.asked: list[Any] = []
        self._answer = answer

    async def call(self, make: Callable[[int], Any], *, timeout_ms: int) -> list[Reply]:
        self.asked.append(make(1))
        return [self._answer(self.asked[-1])]


def made(answer: Callable[[Any], Reply]) -> tuple[Link, Any]:
    link = Link(answer)
    return link, cast("Any", link)


async def all_of(some: AsyncIterator[T]) -> list[T]:
    return [each async for each in some]


def extents(*counts: int) -> list[Extent]:
    return [Extent(100_000 * n, count, count, ("p0",)) for n, count in enumerate(counts)]


def test_digests_come_in_parts() -> None:
    whole = digest(Entries.of([(0, 40_000, 40_000, 1, 3)]), Grid(Space.TICKETS, 16, 5))

    def answer(asked: AskDigests) -> Reply:
        behind = min(asked.low + 1_000, asked.high)
        return DigestList(1, behind), whole.between(asked.low, behind).pack()

    link, putter = made(answer)
    parts = asyncio.run(all_of(digests_of(putter, Grid(Space.TICKETS, 16, 5))))
    assert [each.low for each in link.asked] == [0, 1_000, 2_000, 3_000, 4_000]
    assert {(each.width, each.seed, each.high) for each in link.asked} == {(16, 5, LEAVES_MAX)}
    assert Leaves.added(parts).pack() == whole.pack()


@pytest.mark.parametrize("behind", [0, -1, LEAVES_MAX + 1])
def test_digests_that_make_no_progress(behind: int) -> None:
    _, putter = made(lambda _: (DigestList(1, behind), b""))
    with pytest.raises(NodesUnavailable, match="digests"):
        asyncio.run(all_of(digests_of(putter, Grid(Space.TICKETS, 16, 5))))


def test_entries_come_in_pages() -> None:
    def answer(asked: AskEntries) -> Reply:
        behind = min(asked.first + 10, asked.end)
        return EntryList(1, behind), Entries.of_keys([asked.first], [7]).pack()

    link, putter = made(answer)
    parts = asyncio.run(all_of(entries_of(putter, Space.RECORDS, 5, 31)))
    assert [each.first.tolist() for each in parts] == [[5], [15], [25]]
    assert [(each.first, each.end) for each in link.asked] == [(5, 31), (15, 31), (25, 31)]
    _, putter = made(lambda asked: (EntryList(1, asked.first), b""))
    with pytest.raises(NodesUnavailable):
        asyncio.run(all_of(entries_of(putter, Space.RECORDS, 5, 31)))


@pytest.mark.parametrize(
    "counts",
    [(), (5,), (5, 7, 9), (40_000,), (20_000, 20_000, 5), (5, 200_000, 5), (1,) * 40_000],
)
def test_extents_are_counted_together_as_far_as_that_goes(counts: Sequence[int]) -> None:
    lost = {100_000 * n + 1 for n in range(0, len(counts), 3)}

    def answer(asked: Count) -> Reply:
        assert sum(count for _, count in asked.ranges) <= 65_536
        held = tuple(
            count - len(lost & set(range(first, first + min(count, 3))))
            for first, count in asked.ranges
        )
        return Counts(1, held), b""

    link, putter = made(answer)
    some = extents(*counts)
    found = asyncio.run(lacking(putter, some))
    assert found == [each.count > 1 and each.first + 1 in lost for each in some]
    assert len(link.asked) <= 2 + 2 * sum(counts) // 32_768 + len(counts) // 20_000


def test_a_putter_that_does_not_count() -> None:
    _, putter = made(lambda _: (Counts(1, (5,)), b""))
    with pytest.raises(NodesUnavailable):
        asyncio.run(lacking(putter, extents(5, 7)))


def test_the_record_of_an_object() -> None:
    def answer(asked: FindRecord) -> Reply:
        found = asked.object_id == "A"
        return RecordReply(1, found, 3 if found else 0), b"a record" if found else b""

    _, putter = made(answer)
    assert asyncio.run(record_of_object(putter, "A")) == b"a record"
    assert asyncio.run(record_of_object(putter, "B")) == b""


def test_records_by_their_numbers() -> None:
    bodies = {n: records.encode(Tombstone("b", "k", 100 + n, 0)) for n in range(1, 5_000, 2)}

    def answer(asked: ListRecords) -> Reply:
        assert asked.kinds == ("",)
        looked = list(range(asked.after + 1, min(asked.after + 101, 5_000)))
        some = [n for n in looked if n in bodies]
        listed = tuple((n, len(bodies[n])) for n in some)
        payload = b"".join(bodies[n] for n in some)
        return RecordList(1, listed, looked[-1] if looked else 0), payload

    link, putter = made(answer)
    wanted = [7, 9, 99, 3_001, 4_000, 4_999, 6_000]
    found = asyncio.run(all_of(bare_records(putter, wanted)))
    assert [record.stamp for _, record in found] == [107, 109, 199, 3_101, 5_099]  # type: ignore[union-attr]
    assert [body for body, _ in found] == [bodies[n] for n in (7, 9, 99, 3_001, 4_999)]
    assert len(link.asked) < 10
    _, putter = made(lambda _: (Done(1, 0), b""))
    with pytest.raises(NodesUnavailable):
        asyncio.run(all_of(bare_records(putter, [1])))
