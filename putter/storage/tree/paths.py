"""Paths of the tree: an ID in pairs of characters, one directory a pair.

``AABBCCDD`` lies in ``AA/BB/CC/DD``, ``ABC`` in ``AB/C``, ``0`` in ``0``. One directory may hold
both the files of its own ID (``AB/obj``) and the directories of longer ones (``AB/C``). Names
never collide, not even where upper and lower case are the same: directories have one or two
characters, files three or more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from common.tickets import DIGITS, TICKETS_MAX, format_id, parse_id

_PAIR: Final = 2
_DECIMALS_MAX: Final = 20
"""Digits of the highest number of 8 bytes."""
_DIGITS: Final = frozenset(DIGITS)

Names = Callable[[str], list[str]]
"""The names in a directory, in any order; empty if it is not there."""


def pairs(text: str) -> str:
    """An ID's text as a relative path."""
    return "/".join(text[at : at + _PAIR] for at in range(0, len(text), _PAIR))


def ticket_directory(root: str, ticket: int) -> str:
    """Where a ticket's files are."""
    return f"{root}/{pairs(format_id(ticket))}"


def tickets_within(names: Names, root: str, first: int, count: int) -> Iterator[int]:
    """The tickets of a range that may be there, in order, found by listing directories.

    Every stored ticket of the range is among them; some of them may hold nothing. The cost goes
    with what is stored, not with the width of the range.
    """
    end = min(first + count, TICKETS_MAX)
    if first >= end:
        return
    low, high = format_id(first), format_id(end - 1)
    for length in range(len(low), len(high) + 1):
        lowest = low if length == len(low) else DIGITS[0] * length
        highest = high if length == len(high) else DIGITS[-1] * length
        for text in _descend(names, root, "", lowest, highest):
            yield parse_id(text)


def numbers_within(names: Names, root: str, after: int) -> Iterator[int]:
    """The decimal numbers above one whose directories are below a root, in order."""
    low = str(after + 1)
    for length in range(len(low), _DECIMALS_MAX + 1):
        lowest = low if length == len(low) else "1" + "0" * (length - 1)
        for text in _descend(names, root, "", lowest, "9" * length):
            if text.isdigit():
                yield int(text)


def numbers_below(names: Names, root: str) -> Iterator[tuple[int, str]]:
    """The decimal numbers whose directories are below a root, with those directories."""
    pending = [("", root)]
    while pending:
        prefix, directory = pending.pop()
        if prefix:
            yield int(prefix), directory
        pending.extend(
            (prefix + name, f"{directory}/{name}")
            for name in names(directory)
            if len(name) <= _PAIR and name.isascii() and name.isdigit()
        )


def _descend(names: Names, directory: str, prefix: str, low: str, high: str) -> Iterator[str]:
    """The texts of one length from ``low`` to ``high``, in order."""
    step = min(_PAIR, len(low) - len(prefix))
    if not step:
        yield prefix
        return
    reach = len(prefix) + step
    for name in sorted(names(directory)):
        text = prefix + name
        if len(name) == step and low[:reach] <= text <= high[:reach] and _DIGITS.issuperset(name):
            yield from _descend(names, f"{directory}/{name}", text, low, high)
