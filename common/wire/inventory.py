"""Session messages about what a putter holds: by object, as digests of ranges, entry by entry."""

from __future__ import annotations

from common.wire.message import Message


class ListHoldings(Message, tag="list-holdings", frozen=True):
    """Client → putter: a page of all tickets but raw ones; ``cursor`` is "" for the first."""

    request: int
    cursor: str
    limit: int


class HoldingList(Message, tag="holdings", frozen=True):
    """Putter → client: (first ticket, count, ObjectID); ``cursor`` is "" at the end.

    ``keys`` are the ids of the cluster keys that their checksums were made with.
    """

    request: int
    cursor: str
    holdings: tuple[tuple[int, int, str], ...]
    status: int = 0
    keys: tuple[str, ...] = ()


class Count(Message, tag="count", frozen=True):
    """Client → putter: how many tickets of each range are there, and when were they verified?"""

    request: int
    ranges: tuple[tuple[int, int], ...]
    verified: bool = False


class Counts(Message, tag="counts", frozen=True):
    """Putter → client: the answer, in the order of the ranges.

    ``verified_ms`` is there if it was asked for: since when all that is stored of a range was read
    from the disk and found whole, milliseconds since 1970; 0 if a part was not since it was
    written; -1 if the putter cannot tell.
    """

    request: int
    counts: tuple[int, ...]
    verified_ms: tuple[int, ...] = ()


class AskDigests(Message, tag="digest", frozen=True):
    """Client → putter: digests of the leaves ``low … high - 1`` (`common.digests.Grid`)."""

    request: int
    space: str
    width: int
    seed: int
    low: int
    high: int


class DigestList(Message, tag="digests", frozen=True):
    """Putter → client: `common.digests.Leaves` in the payload.

    Those below ``behind`` are told; where it is lower than asked for, ask again from there.
    """

    request: int
    behind: int


class AskEntries(Message, tag="entries", frozen=True):
    """Client → putter: what there is at the positions ``first … end - 1`` of a space, in order."""

    request: int
    space: str
    first: int
    end: int


class EntryList(Message, tag="entry-list", frozen=True):
    """Putter → client: `common.digests.Entries` in the payload, up to the position ``behind``."""

    request: int
    behind: int
