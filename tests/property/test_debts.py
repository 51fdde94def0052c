"""More and fewer replicas of an extent: the number comes out right, and some hold it always."""

from __future__ import annotations

from collections.abc import Collection

from hypothesis import given
from hypothesis import strategies as st

from common.records import ANYONE, Extent
from router.debts import fewer_wanted, more_wanted, paid

NODES = "abcdefgh"


@st.composite
def extents(draw: st.DrawFn) -> Extent:
    """As placement, losses and departures leave them: each stand-in is for one debtor."""
    nodes = draw(st.lists(st.sampled_from(NODES), min_size=1, max_size=5, unique=True))
    others = draw(st.lists(st.sampled_from("xyz" + ANYONE), max_size=3, unique=True))
    stand_ins = draw(st.permutations(nodes))
    owed = {}
    for number, home in enumerate(others):
        stands = number < len(stand_ins) and draw(st.booleans())
        owed[home] = stand_ins[number] if stands else ""
    return Extent(0, 1, 10, tuple(sorted(nodes)), owed)


def homes(extent: Extent) -> int:
    return len(extent.nodes) + sum(not other for other in extent.owed.values())


def first(extent: Extent, count: int) -> Collection[str]:
    return extent.nodes[:count]


@given(extents(), st.integers(1, 8))
def test_fewer(extent: Extent, replicas: int) -> None:
    new = fewer_wanted(extent, replicas, first)
    assert homes(new) == min(homes(extent), replicas)
    assert new.nodes
    assert set(new.nodes) <= set(extent.nodes)
    assert new.owed.items() <= extent.owed.items()
    assert all(other in new.nodes for other in new.owed.values() if other)
    assert fewer_wanted(new, replicas, first) == new
    if len(extent.nodes) <= replicas:
        assert new.nodes == extent.nodes, "what is missing is forgiven first"


@given(extents(), st.integers(1, 8))
def test_more_comes_true_as_it_is_paid(extent: Extent, replicas: int) -> None:
    new = more_wanted(extent, replicas)
    assert new.nodes == extent.nodes
    assert extent.owed.items() <= new.owed.items()
    fresh = (f"n{number}" for number in range(20))
    while new.owed:
        debtor = min(new.owed)
        new = paid(new, debtor, next(fresh) if debtor == ANYONE else debtor, replicas)
    assert len(new.nodes) >= replicas
    assert len(new.nodes) == max(replicas, homes(extent))
    assert more_wanted(new, replicas) == new


@given(extents(), st.integers(1, 8), st.integers(1, 8))
def test_there_and_back_again(extent: Extent, one: int, other: int) -> None:
    new = extent
    for replicas in (one, other):
        new = fewer_wanted(more_wanted(new, replicas), replicas, first)
    assert homes(new) <= max(other, 1)
    assert new.nodes
