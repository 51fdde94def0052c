"""Digests of inventories: the same for the same, others for others, however they are cut."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from common.digests import Entries, Grid, Leaves, Space, differing, digest, newest

STEP = 10
Tickets = dict[int, tuple[int, bool]]
"""By number: key, and whether it is shorter than the others."""

TICKETS = st.dictionaries(
    st.integers(0, 400), st.tuples(st.integers(0, 3), st.booleans()), max_size=60
)
WIDTHS = st.sampled_from([1, 3, 16, 64, 1024])
SEEDS = st.integers(0, 2**64 - 1)


def cut(tickets: Tickets, cuts: set[int]) -> Entries:
    """As stretches that end where something changes, behind short tickets, and at cuts."""
    rows: list[tuple[int, int, int, int, int]] = []
    for at in sorted(tickets):
        key, short = tickets[at]
        size = STEP - 3 if short else STEP
        if rows:
            first, count, held, step, same = rows[-1]
            full = held == count * STEP
            if first + count == at and same == key and full and at not in cuts:
                rows[-1] = (first, count + 1, held + size, step, key)
                continue
        rows.append((at, 1, size, STEP, key))
    return Entries.of(rows)


@given(TICKETS, st.sets(st.integers(0, 400)), st.randoms(), WIDTHS, SEEDS)
def test_cuts_and_order_do_not_matter(
    tickets: Tickets, cuts: set[int], rng: np.random.Generator, width: int, seed: int
) -> None:
    grid = Grid(Space.TICKETS, width, seed)
    one, other = cut(tickets, set()), cut(tickets, cuts)
    order = list(range(len(other)))
    rng.shuffle(order)  # type: ignore[arg-type]
    mixed = other.rows(np.array(order, np.intp))
    assert digest(one, grid).pack() == digest(mixed, grid).pack()
    assert differing(digest(one, grid), digest(mixed, grid)) == []
    parts = [digest(other.rows(np.array([n], np.intp)), grid) for n in range(len(other))]
    assert Leaves.added(parts).pack() == digest(one, grid).pack()


@given(TICKETS, TICKETS, WIDTHS, SEEDS)
def test_two_that_differ_differ_in_just_the_leaves_where_they_do(
    one: Tickets, other: Tickets, width: int, seed: int
) -> None:
    grid = Grid(Space.TICKETS, width, seed)
    found = differing(digest(cut(one, set()), grid), digest(cut(other, set()), grid))
    differ = {at // width for at in one.keys() | other.keys() if one.get(at) != other.get(at)}
    assert found == sorted(differ)


@given(st.data(), TICKETS.filter(bool), WIDTHS, SEEDS)
def test_one_ticket_more_or_less_is_seen(
    data: st.DataObject, tickets: Tickets, width: int, seed: int
) -> None:
    at = data.draw(st.sampled_from(sorted(tickets)))
    grid = Grid(Space.TICKETS, width, seed)
    without = {each: what for each, what in tickets.items() if each != at}
    whole, less = digest(cut(tickets, set()), grid), digest(cut(without, set()), grid)
    assert differing(whole, less) == [at // width] == differing(less, whole)


@given(TICKETS, st.integers(0, 400), st.integers(0, 401))
def test_a_range_of_an_inventory(tickets: Tickets, first: int, end: int) -> None:
    some = {at: what for at, what in tickets.items() if first <= at < end}
    grid = Grid(Space.TICKETS, 16, 1)
    within = cut(tickets, set()).within(first, max(first, end))
    assert digest(within, grid).pack() == digest(cut(some, set()), grid).pack()


@given(TICKETS, WIDTHS, st.integers(0, 400), st.integers(0, 400))
def test_what_is_packed_comes_back(tickets: Tickets, width: int, low: int, high: int) -> None:
    entries = cut(tickets, set())
    assert Entries.unpack(entries.pack()).pack() == entries.pack()
    leaves = digest(entries, Grid(Space.TICKETS, width, 3))
    assert Leaves.unpack(leaves.pack()).pack() == leaves.pack()
    kept = [int(each) for each in leaves.leaf if low <= each < high]
    assert leaves.between(low, high).leaf.tolist() == kept


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 99)), max_size=30))
def test_the_newest_of_each(pairs: list[tuple[int, int]]) -> None:
    found = newest(Entries.of_keys([at for at, _ in pairs], [key for _, key in pairs]))
    assert dict(zip(found.first.tolist(), found.key.tolist(), strict=True)) == {
        at: max(key for each, key in pairs if each == at) for at, _ in pairs
    }
    assert found.first.tolist() == sorted({at for at, _ in pairs})
