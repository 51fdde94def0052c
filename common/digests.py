"""Inventories, and digests of their ranges: two that differ are told apart by a few numbers.

An inventory says what somebody holds, or should hold, at positions of a space:

| space | position | key |
|---|---|---|
| ``tickets`` | number of a ticket | `common.tickets.object_key` of its object |
| ``objects`` | `common.tickets.object_key` of an object | highest stamp of its commit records |
| ``records`` | stamp of a commit record without an object | number that the node gave it |

A digest of a range has the number of positions, the data bytes there, and a sum over all
*(position, key)* of a hash, modulo 2⁶⁴. With *g* a hash of position and key to 64 bits, the hash of
a position is ``g(position + 1, key) - g(position, key)``: in a stretch of one key only its two ends
are left, so a stretch costs the same however long it is, and two inventories have the same digest
however their stretches are cut. Two different ones have the same sum by chance alone, once in 2⁶³
(a sum of random numbers that do not all cancel). The seed makes it a keyed hash: nobody who does
not know it can choose what he stores so that a loss is not seen.

A range is a *leaf* of a `Grid` of leaves of one width. Whoever compares asks for all leaves, a few
thousand at most, and then for the entries of those that differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from common.checksum import Buffer
from common.errors import ProtocolError

Int64s = npt.NDArray[np.int64]
UInt64s = npt.NDArray[np.uint64]

LEAVES_MAX: Final = 4096
"""In a grid over all that there is."""
_WIDTH_MIN: Final = 1024
_LEAF: Final = np.dtype([("leaf", "<i8"), ("count", "<i8"), ("size", "<i8"), ("sum", "<u8")])
_ENTRY: Final = np.dtype(
    [("first", "<i8"), ("count", "<i8"), ("size", "<i8"), ("step", "<i8"), ("key", "<u8")]
)
_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
_MIX_1: Final = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2: Final = np.uint64(0x94D049BB133111EB)


class Space(StrEnum):
    """What an inventory is of."""

    TICKETS = "tickets"
    OBJECTS = "objects"
    RECORDS = "records"


@dataclass(frozen=True)
class Grid:
    """Leaf *n* has the positions ``n * width … (n + 1) * width - 1``.

    Attributes:
        space: what the positions are.
        width: of a leaf; at least 1.
        seed: of the hash, 0 … 2⁶⁴ - 1.
    """

    space: Space
    width: int
    seed: int

    @classmethod
    def over(cls, space: Space, end: int, seed: int) -> Grid:
        """A grid over the positions below ``end`` with at most `LEAVES_MAX` leaves."""
        width = _WIDTH_MIN
        while width * LEAVES_MAX < end:
            width *= 2
        return cls(space, width, seed)


@dataclass(frozen=True, eq=False)
class Entries:
    """Stretches of positions, one a row; they do not overlap.

    Attributes:
        first: lowest position.
        count: positions.
        size: data bytes; all but the last position have ``step``.
        step: data bytes of a position.
        key: of all of them.
    """

    first: Int64s
    count: Int64s
    size: Int64s
    step: Int64s
    key: UInt64s

    @classmethod
    def of(cls, rows: Sequence[tuple[int, int, int, int, int]]) -> Entries:
        """From (first, count, size, step, key) of each."""
        return cls._of_table(np.array(rows, _ENTRY))

    @classmethod
    def of_keys(cls, first: npt.ArrayLike, key: npt.ArrayLike) -> Entries:
        """Single positions without data."""
        firsts = np.asarray(first, np.int64)
        none = np.zeros(len(firsts), np.int64)
        return cls(firsts, np.ones(len(firsts), np.int64), none, none, np.asarray(key, np.uint64))

    @classmethod
    def unpack(cls, data: Buffer) -> Entries:
        """The inverse of `pack`.

        Raises:
            ProtocolError: not a whole number of rows.
        """
        return cls._of_table(_table(data, _ENTRY))

    @classmethod
    def joined(cls, parts: Sequence[Entries]) -> Entries:
        """All of them, one behind the other."""
        if not parts:
            return cls.of([])
        names = ("first", "count", "size", "step", "key")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    @classmethod
    def _of_table(cls, table: npt.NDArray[np.void]) -> Entries:
        first, count, size, step = (
            table[name].astype(np.int64) for name in ("first", "count", "size", "step")
        )
        return cls(first, count, size, step, table["key"].astype(np.uint64))

    def __len__(self) -> int:
        return len(self.first)

    @property
    def end(self) -> Int64s:
        """Behind the last position of each."""
        return self.first + self.count

    def rows(self, which: npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> Entries:
        """Some of them."""
        columns = (self.first, self.count, self.size, self.step, self.key)
        return Entries(*(column[which] for column in columns))  # type: ignore[arg-type]

    def in_order(self) -> Entries:
        """By position."""
        return self.rows(np.argsort(self.first, kind="stable"))

    def within(self, first: int, end: int) -> Entries:
        """What of them has the positions ``first … end - 1``."""
        some = self.rows((self.first < end) & (self.end > first))
        return some.cut(np.maximum(some.first, first), np.minimum(some.end, end))

    def cut(self, first: Int64s, end: Int64s) -> Entries:
        """Of each the positions ``first … end - 1``, which it has."""
        skipped = np.minimum((first - self.first) * self.step, self.size)
        kept = np.where(end < self.end, (end - self.first) * self.step, self.size)
        return Entries(first, end - first, kept - skipped, self.step, self.key)

    def pack(self) -> bytes:
        """As bytes: five columns of 8 bytes a row, little endian."""
        table = np.empty(len(self), _ENTRY)
        for name in ("first", "count", "size", "step", "key"):
            table[name] = getattr(self, name)
        return table.tobytes()


@dataclass(frozen=True, eq=False)
class Leaves:
    """Digests of leaves that have anything, by their number.

    Attributes:
        leaf: number of the leaf, ascending.
        count: positions.
        size: data bytes.
        sum: of the hashes.
    """

    leaf: Int64s
    count: Int64s
    size: Int64s
    sum: UInt64s

    @classmethod
    def none(cls) -> Leaves:
        """Of nothing."""
        return cls.unpack(b"")

    @classmethod
    def unpack(cls, data: Buffer) -> Leaves:
        """The inverse of `pack`.

        Raises:
            ProtocolError: not a whole number of rows.
        """
        table = _table(data, _LEAF)
        leaf, count, size = (table[name].astype(np.int64) for name in ("leaf", "count", "size"))
        return cls(leaf, count, size, table["sum"].astype(np.uint64))

    @classmethod
    def added(cls, parts: Sequence[Leaves]) -> Leaves:
        """The digests of disjoint inventories together."""
        return _grouped(
            np.concatenate([part.leaf for part in parts] or [np.empty(0, np.int64)]),
            np.concatenate([part.count for part in parts] or [np.empty(0, np.int64)]),
            np.concatenate([part.size for part in parts] or [np.empty(0, np.int64)]),
            np.concatenate([part.sum for part in parts] or [np.empty(0, np.uint64)]),
        )

    def __len__(self) -> int:
        return len(self.leaf)

    def between(self, low: int, high: int) -> Leaves:
        """Those numbered ``low … high - 1``."""
        some = slice(*np.searchsorted(self.leaf, (low, high)))
        return Leaves(self.leaf[some], self.count[some], self.size[some], self.sum[some])

    def pack(self) -> bytes:
        """As bytes: four columns of 8 bytes a leaf, little endian."""
        table = np.empty(len(self), _LEAF)
        for name in ("leaf", "count", "size", "sum"):
            table[name] = getattr(self, name)
        return table.tobytes()


def digest(entries: Entries, grid: Grid) -> Leaves:
    """The digests of an inventory."""
    low = entries.first // grid.width
    spans = (entries.end - 1) // grid.width - low + 1
    if (spans > 1).any():
        rows = np.repeat(np.arange(len(entries)), spans)
        leaf = low[rows] + np.arange(len(rows)) - (np.cumsum(spans) - spans)[rows]
        whole = entries.rows(rows)
        entries = whole.cut(
            np.maximum(whole.first, leaf * grid.width),
            np.minimum(whole.end, (leaf + 1) * grid.width),
        )
    else:
        leaf = low
    return _grouped(leaf, entries.count, entries.size, _hashes(entries, grid.seed))


def differing(one: Leaves, other: Leaves) -> list[int]:
    """The leaves in which two inventories differ."""
    numbers = np.union1d(one.leaf, other.leaf)
    same = np.ones(len(numbers), np.bool_)
    for name in ("count", "size", "sum"):
        both = []
        for leaves in (one, other):
            column = getattr(leaves, name)
            spread = np.zeros(len(numbers), column.dtype)
            spread[np.searchsorted(numbers, leaves.leaf)] = column
            both.append(spread)
        same &= both[0] == both[1]
    return [int(number) for number in numbers[~same]]


def stretches_of(leaves: Sequence[int]) -> list[tuple[int, int]]:
    """Leaves in ascending order as (first, behind the last) of neighbours."""
    out: list[tuple[int, int]] = []
    for leaf in leaves:
        if out and out[-1][1] == leaf:
            out[-1] = (out[-1][0], leaf + 1)
        else:
            out.append((leaf, leaf + 1))
    return out


def newest(entries: Entries) -> Entries:
    """Of single positions that come several times those with the highest key, in order."""
    order = np.lexsort((entries.key, entries.first))
    some = entries.rows(order)
    last = np.ones(len(some), np.bool_)
    last[:-1] = some.first[1:] != some.first[:-1]
    return some.rows(last)


def _grouped(leaf: Int64s, count: Int64s, size: Int64s, sums: UInt64s) -> Leaves:
    """The sums of all rows of a leaf."""
    if not len(leaf):
        return Leaves(leaf, count, size, sums)
    order = np.argsort(leaf, kind="stable")
    ordered = leaf[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    return Leaves(
        ordered[starts],
        np.add.reduceat(count[order], starts),
        np.add.reduceat(size[order], starts),
        np.add.reduceat(sums[order], starts),
    )


def _hashes(entries: Entries, seed: int) -> UInt64s:
    base = _mixed(entries.key ^ np.uint64(seed))
    low = _mixed(base + entries.first.astype(np.uint64) * _GOLDEN)
    high = _mixed(base + entries.end.astype(np.uint64) * _GOLDEN)
    return high - low


def _mixed(values: UInt64s) -> UInt64s:
    """Each of them scattered over 64 bits (the finalizer of SplitMix64, Steele et al. 2014)."""
    values = (values ^ (values >> np.uint64(30))) * _MIX_1
    values = (values ^ (values >> np.uint64(27))) * _MIX_2
    return values ^ (values >> np.uint64(31))


def _table(data: Buffer, kind: np.dtype[np.void]) -> npt.NDArray[np.void]:
    if len(data) % kind.itemsize:
        raise ProtocolError(f"{len(data)} bytes are no rows of {kind.itemsize}")
    return np.frombuffer(data, kind)
