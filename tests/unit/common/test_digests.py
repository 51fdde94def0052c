"""Inventories and their digests, with numbers."""

from __future__ import annotations

import pytest

from common.digests import (
    LEAVES_MAX,
    Entries,
    Grid,
    Leaves,
    Space,
    differing,
    digest,
    stretches_of,
)
from common.errors import ProtocolError


def test_a_grid_has_not_too_many_leaves() -> None:
    for end in (1, 1_000, 4_194_304, 4_194_305, 10**12):
        grid = Grid.over(Space.TICKETS, end, 5)
        assert -(-end // grid.width) <= LEAVES_MAX
        assert grid.width == 1024 or -(-end // grid.width) > LEAVES_MAX // 2


def test_a_stretch_over_several_leaves() -> None:
    one = Entries.of([(5, 20, 195, 10, 7)])
    leaves = digest(one, Grid(Space.TICKETS, 8, 1))
    assert leaves.leaf.tolist() == [0, 1, 2, 3]
    assert leaves.count.tolist() == [3, 8, 8, 1]
    assert leaves.size.tolist() == [30, 80, 80, 5], "the last ticket is short"


def test_the_seed_matters() -> None:
    one = Entries.of([(5, 20, 200, 10, 7)])
    first, second = (digest(one, Grid(Space.TICKETS, 64, seed)) for seed in (1, 2**64 - 1))
    assert first.sum.tolist() != second.sum.tolist()
    assert differing(first, second) == [0]


def test_what_changes_places_is_seen() -> None:
    """Sums of numbers of tickets, or of objects, would be the same."""
    grid = Grid(Space.TICKETS, 64, 9)
    one = Entries.of([(1, 1, 5, 5, 7), (2, 1, 5, 5, 8)])
    other = Entries.of([(1, 1, 5, 5, 8), (2, 1, 5, 5, 7)])
    assert differing(digest(one, grid), digest(other, grid)) == [0]


def test_sums_of_millions_do_not_overflow_into_an_error() -> None:
    many = Entries.of([(n * 3, 2, 20, 10, n) for n in range(5_000)])
    assert len(digest(many, Grid(Space.TICKETS, 1 << 20, 3))) == 1


def test_nothing() -> None:
    assert differing(Leaves.none(), Leaves.none()) == []
    assert not len(Leaves.added([]))
    assert not len(Entries.joined([]))
    assert not len(digest(Entries.of([]), Grid(Space.OBJECTS, 8, 1)))


def test_neighbours_are_one_stretch() -> None:
    assert stretches_of([1, 2, 3, 7, 9, 10]) == [(1, 4), (7, 8), (9, 11)]
    assert stretches_of([]) == []


def test_bytes_that_are_no_rows() -> None:
    with pytest.raises(ProtocolError):
        Leaves.unpack(bytes(33))
    with pytest.raises(ProtocolError):
        Entries.unpack(bytes(39))
