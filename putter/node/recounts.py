"""What a node tells of its commit records and tickets to whoever brings Redis up to date."""

from __future__ import annotations

from typing import Final

from common import records
from common.checksum import Buffer
from common.errors import ProtocolError
from common.limits import MESSAGE_PAYLOAD_BYTES_MAX
from common.tickets import TICKETS_MAX
from common.wire.inventory import Count, Counts, HoldingList, ListHoldings
from common.wire.message import Message
from common.wire.session import CeilingsReply, ListRecords, Raise, RecordList
from putter.node.committer import Committer
from putter.node.scrub import Scrubber
from putter.storage.engine import Engine, Record

Answer = tuple[Message, Buffer]
_RECORDS_MAX: Final = 1000
_HOLDINGS_MAX: Final = 2000
"""Runs that one `ListHoldings` looks at: its answer is a header, of at most 1 MiB."""
_COUNTED_MAX: Final = 65_536
"""Tickets that one `Count` may ask for."""


async def answer_list(message: ListRecords, committer: Committer) -> Answer:
    """Records above a number, as many as one message holds."""
    limit = max(1, min(message.limit, _RECORDS_MAX))
    found = await committer.run(lambda engine: engine.records(message.after, limit))
    listed, bodies, size, last = [], [], 0, 0
    for entry in found:
        body = entry.record.body
        if _wanted(entry.record, message.kinds):
            size += len(body)
            if size > MESSAGE_PAYLOAD_BYTES_MAX:
                break
            listed.append((entry.number, len(body)))
            bodies.append(body)
        last = entry.number
    return RecordList(message.request, tuple(listed), last), b"".join(bodies)


def _wanted(record: Record, kinds: tuple[str, ...]) -> bool:
    if not kinds or ("" in kinds and not record.object_id):
        return True
    return kinds != ("",) and records.kind_of(record.body) in kinds


async def answer_raise(message: Raise, committer: Committer) -> Answer:
    """Lift the ceilings; the answer is durable."""

    def lift(engine: Engine) -> CeilingsReply:
        raised = engine.raise_ceilings(message.ceilings)
        return CeilingsReply(
            message.request,
            raised,
            last_record=last_record(engine),
            gone=engine.last_number - engine.record_count,
        )

    return await committer.run(lift), b""


async def answer_count(message: Count, committer: Committer, scrubber: Scrubber) -> Answer:
    """How many tickets of each range are stored, and when they were verified."""
    for first, count in message.ranges:
        if first < 0 or count < 1 or first + count > TICKETS_MAX:
            raise ProtocolError(f"tickets {first} + {count} do not exist")
    if sum(count for _, count in message.ranges) > _COUNTED_MAX:
        raise ProtocolError(f"more than {_COUNTED_MAX} tickets to count")

    def counts(engine: Engine) -> tuple[int, ...]:
        return tuple(
            sum(engine.stat(ticket) is not None for ticket in range(first, first + count))
            for first, count in message.ranges
        )

    found = await committer.run(counts)
    verified_ms = await scrubber.verified_ms(message.ranges) if message.verified else ()
    return Counts(message.request, found, verified_ms), b""


def answer_holdings(message: ListHoldings, engine: Engine) -> Answer:
    """A page of what is stored, by object. Any thread may ask."""
    page = engine.holdings(message.cursor, max(1, min(message.limit, _HOLDINGS_MAX)))
    rows = tuple((each.first, each.count, each.object_id) for each in page.entries)
    return HoldingList(message.request, page.cursor, rows, keys=tuple(sorted(page.keys))), b""


def last_record(engine: Engine) -> int:
    """The highest number of a commit record that the engine keeps; 0 without any.

    Engines list records from a number on: the end is found in steps that double, then halve.
    """
    last, step = 0, 1
    while found := engine.records(last + step - 1, 1):
        last = found[0].number
        step *= 2
    low, high = last, last + step - 1
    while low < high:
        middle = (low + high) // 2
        found = engine.records(middle, 1)
        if found:
            low = found[0].number
        else:
            high = middle
    return low
