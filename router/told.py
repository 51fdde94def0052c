"""What putters tell of their inventories: digests, entries, records, in calls of bounded size."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Final

from common import records
from common.digests import LEAVES_MAX, Entries, Grid, Leaves, Space
from common.errors import NodesUnavailable
from common.records import CommitRecord, Extent
from common.wire.inventory import AskDigests, AskEntries, Count, Counts, DigestList, EntryList
from common.wire.message import split_payload
from common.wire.session import FindRecord, ListRecords, RecordList, RecordReply
from router.links import NodeLink
from router.surplus import held_of

_CALL_MS: Final = 60_000
_TOGETHER_TICKETS_MAX: Final = 32_768
_RECORDS: Final = 1_000
_BARE: Final = ("",)


async def digests_of(link: NodeLink, grid: Grid) -> AsyncIterator[Leaves]:
    """Digests of all that a putter holds, part by part.

    Raises:
        PutterError: it does not tell.
    """
    at = 0
    while at < LEAVES_MAX:
        low = at
        answers = await link.call(
            lambda request: AskDigests(
                request,
                grid.space.value,
                grid.width,
                grid.seed,
                low,  # noqa: B023 - called at once
                LEAVES_MAX,
            ),
            timeout_ms=_CALL_MS,
        )
        reply, payload = answers[-1]
        if not isinstance(reply, DigestList) or not at < reply.behind <= LEAVES_MAX:
            raise NodesUnavailable(f"putter {link.node} does not tell digests")
        at = reply.behind
        yield Leaves.unpack(bytes(payload))


async def entries_page(link: NodeLink, space: Space, first: int, end: int) -> tuple[Entries, int]:
    """What a putter holds at some positions, in order, and the position behind those it told of.

    Raises:
        PutterError: it does not tell.
    """
    answers = await link.call(
        lambda request: AskEntries(request, space.value, first, end), timeout_ms=_CALL_MS
    )
    reply, payload = answers[-1]
    if not isinstance(reply, EntryList) or not first < reply.behind <= end:
        raise NodesUnavailable(f"putter {link.node} does not tell what it holds")
    return Entries.unpack(bytes(payload)), reply.behind


async def entries_of(link: NodeLink, space: Space, first: int, end: int) -> AsyncIterator[Entries]:
    """The same, page by page up to the end.

    Raises:
        PutterError: it does not tell.
    """
    while first < end:
        page, first = await entries_page(link, space, first, end)
        yield page


async def lacking(link: NodeLink, extents: Sequence[Extent]) -> list[bool]:
    """For each extent whether the putter lacks some of its tickets.

    Raises:
        PutterError: it does not tell.
    """
    found: list[bool] = []
    some: list[Extent] = []
    tickets = 0
    for extent in extents:
        if some and tickets + extent.count > _TOGETHER_TICKETS_MAX:
            found += await _lacking(link, some)
            some, tickets = [], 0
        some.append(extent)
        tickets += extent.count
    return found + (await _lacking(link, some) if some else [])


async def _lacking(link: NodeLink, extents: Sequence[Extent]) -> list[bool]:
    ranges = tuple((extent.first, extent.count) for extent in extents)
    if len(extents) == 1:
        return [await held_of(link, list(ranges)) < extents[0].count]
    answers = await link.call(lambda request: Count(request, ranges), timeout_ms=_CALL_MS)
    reply = answers[-1][0]
    if not isinstance(reply, Counts) or len(reply.counts) != len(extents):
        raise NodesUnavailable(f"putter {link.node} does not count its tickets")
    return [held < extent.count for held, extent in zip(reply.counts, extents, strict=True)]


async def record_of_object(link: NodeLink, object_id: str) -> bytes:
    """The newest record that a putter has of an object; empty if it has none.

    Raises:
        PutterError: it does not tell.
    """
    answers = await link.call(lambda request: FindRecord(request, object_id), timeout_ms=_CALL_MS)
    reply, payload = answers[-1]
    return bytes(payload) if isinstance(reply, RecordReply) and reply.found else b""


async def bare_records(
    link: NodeLink, numbers: Sequence[int]
) -> AsyncIterator[tuple[bytes, CommitRecord]]:
    """Records without an object that a putter has under some of its numbers.

    Raises:
        PutterError: it does not tell, or something else.
    """
    left = sorted(numbers)
    while left:
        after = left[0] - 1
        answers = await link.call(
            lambda request: ListRecords(request, after, _RECORDS, _BARE),  # noqa: B023 - at once
            timeout_ms=_CALL_MS,
        )
        reply, payload = answers[-1]
        if not isinstance(reply, RecordList):
            raise NodesUnavailable(f"putter {link.node} does not list its records")
        bodies = split_payload(payload, [length for _, length in reply.records])
        wanted = frozenset(left)
        for (number, _), body in zip(reply.records, bodies, strict=True):
            if number in wanted:
                yield bytes(body), records.decode(bytes(body))
        left = [number for number in left if number > reply.last] if reply.last else []
