"""A page of a listing, keys rolled up behind a delimiter, whatever the bucket holds.

Names that share a prefix up to the delimiter count as one. They are not walked through: the next
question to the coordinator asks for what sorts behind all of them, so that a page costs at most one
question for each of its lines, and one more.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from common.limits import KEY_BYTES_MAX, LIST_PAGE_MAX
from common.meta.interface import Entry, Page

_LAST: Final = "\U0010ffff"
_LAST_BYTES: Final = 4
_FEW: Final = 4
"""The fewest names that are asked for in one question while most of them are rolled up."""


class Lister(Protocol):
    """What a listing needs of the coordinator (`common.meta.interface.Files`)."""

    async def list(self, bucket: str, prefix: str, after: str, limit: int) -> Page:
        """Names that start with ``prefix`` and sort behind ``after``."""
        ...


@dataclass(frozen=True)
class Listing:
    """A page.

    Attributes:
        entries: names that stand for themselves.
        prefixes: common prefixes, each for all names that begin with it.
        more: whether something sorts behind.
        last: the name or prefix that sorts last; the next page begins behind it. "" if none.
    """

    entries: Sequence[Entry]
    prefixes: Sequence[str]
    more: bool
    last: str


def rolled_up(key: str, prefix: str, delimiter: str) -> str | None:
    """The common prefix that stands for a key; None if the key stands for itself."""
    if not delimiter:
        return None
    at = key.find(delimiter, len(prefix))
    return None if at < 0 else key[: at + len(delimiter)]


def behind(prefix: str) -> str:
    """Sorts behind every key with this prefix, and before every other key that does."""
    missing = max(0, KEY_BYTES_MAX - len(prefix.encode()))
    return prefix + _LAST * (missing // _LAST_BYTES + 1)


async def list_page(
    files: Lister, bucket: str, prefix: str, delimiter: str, after: str, limit: int
) -> Listing:
    """A page of a bucket's names, in the order of their UTF-8 bytes.

    Args:
        files: of the coordinator.
        bucket: its name.
        prefix: names that begin otherwise are left out.
        delimiter: names are rolled up behind its first place after the prefix; "": none are.
        after: names up to this one are left out, and those of a common prefix that is this one.
        limit: 0…`common.limits.LIST_PAGE_MAX` lines.

    Raises:
        MetadataUnavailable: Redis does not answer.
    """
    entries: list[Entry] = []
    prefixes: list[str] = []
    last = ""
    if limit == 0:
        return Listing(entries, prefixes, more=False, last=last)
    position: str | None = after
    if after.startswith(prefix) and rolled_up(after, prefix, delimiter) == after:
        position = behind(after)
    at_once = LIST_PAGE_MAX
    while position is not None:
        left = limit - len(entries) - len(prefixes)
        page = await files.list(bucket, prefix, position, min(left + 1, at_once, LIST_PAGE_MAX))
        position = page.next_after
        keys = [entry.key for entry in page.entries]
        at = lines = 0
        while at < len(keys):
            if lines == left:
                return Listing(entries, prefixes, more=True, last=last)
            lines += 1
            group = rolled_up(keys[at], prefix, delimiter)
            if group is None:
                entries.append(page.entries[at])
                last = keys[at]
                at += 1
                continue
            prefixes.append(group)
            last = group
            end = behind(group)
            at = bisect_left(keys, end, at + 1)
            if position is not None:
                position = max(position, end) if at == len(keys) else position
        at_once = max(_FEW, 2 * at_once if 2 * lines > len(keys) else 2 * lines)
    return Listing(entries, prefixes, more=False, last=last)
