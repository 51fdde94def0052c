from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from putter.storage.run_table import RunTable


@dataclass(frozen=True)
class Stretch:
    first: int
    end: int


def table_of(*stretches: tuple[int, int]) -> RunTable[Stretch]:
    table: RunTable[Stretch] = RunTable()
    for first, end in stretches:
        table.add(Stretch(first, end))
    return table


def test_a_stretch_across_drawers_is_found_once() -> None:
    table = table_of((1000, 5000))
    assert list(table.within(0, 10_000)) == [Stretch(1000, 5000)]
    assert table.next(4999, 5001) == Stretch(1000, 5000)
    assert table.next(5000, 6000) is None
    assert table.next(0, 1000) is None
    assert list(table) == [Stretch(1000, 5000)]
    assert len(table) == 1


def test_far_ranges_touch_only_what_is_there() -> None:
    table = table_of((1 << 40, (1 << 40) + 1), (3, 4))
    assert [each.first for each in table.within(0, 1 << 50)] == [3, 1 << 40]


def test_an_empty_range_holds_nothing() -> None:
    table = table_of((10, 20))
    assert list(table.within(15, 15)) in ([], [Stretch(10, 20)])
    assert list(table.within(5, 5)) == []


CUTS = st.lists(st.integers(0, 5000), unique=True, min_size=2, max_size=40).map(sorted)


@given(CUTS, st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 3000))), st.randoms())
def test_it_answers_like_a_list(
    cuts: list[int], asked: list[tuple[int, int]], random: Random
) -> None:
    pairs = list(pairwise(cuts))[:: 1 + len(cuts) % 2]
    stretches = [Stretch(first, end) for first, end in pairs]
    shuffled = list(stretches)
    random.shuffle(shuffled)
    table: RunTable[Stretch] = RunTable()
    for each in shuffled:
        table.add(each)
    while True:
        assert list(table) == stretches
        assert len(table) == len(stretches)
        for first, count in asked:
            end = first + count
            expected = [s for s in stretches if s.first < end and s.end > first]
            if count:
                assert list(table.within(first, end)) == expected
                assert table.next(first, end) == (expected[0] if expected else None)
        if not shuffled:
            return
        gone = shuffled.pop()
        stretches.remove(gone)
        table.remove(gone)
