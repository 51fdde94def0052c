"""Session messages about what a putter holds, by object."""

from __future__ import annotations

from common.wire.message import Message


class ListHoldings(Message, tag="list-holdings", frozen=True):
    """Client → putter: a page of all tickets but raw ones; ``cursor`` is "" for the first."""

    request: int
    cursor: str
    limit: int


class HoldingList(Message, tag="holdings", frozen=True):
    """Putter → client: (first ticket, count, ObjectID); ``cursor`` is "" at the end."""

    request: int
    cursor: str
    holdings: tuple[tuple[int, int, str], ...]
    status: int = 0
