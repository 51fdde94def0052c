"""Placement in numbers: it spreads evenly, follows weights, and moves only what it must."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.placement import Candidate, choose

KEYS = [f"{number:X}/{number * 256}" for number in range(20_000)]
FIVE = [Candidate(f"node-{name}", 1.0) for name in "abcde"]

nodes = st.lists(
    st.builds(
        Candidate,
        st.text("abcdef", min_size=1, max_size=3),
        st.floats(1e-3, 1e15),
        st.sampled_from(["", "x", "y"]),
    ),
    unique_by=lambda candidate: candidate.node,
    max_size=6,
)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_equal_weights_get_equal_shares(count: int) -> None:
    held = Counter(node for key in KEYS for node in choose(key, FIVE, count))
    fair = len(KEYS) * count / len(FIVE)
    for candidate in FIVE:
        assert abs(held[candidate.node] / fair - 1) < 0.05


@pytest.mark.parametrize("unit", [1.0, 1e12])
def test_shares_follow_the_weights(unit: float) -> None:
    weights = {"a": 1, "b": 2, "c": 3, "d": 4}
    candidates = [Candidate(node, weight * unit) for node, weight in weights.items()]
    held = Counter(choose(key, candidates, 1)[0] for key in KEYS)
    for node, weight in weights.items():
        assert abs(held[node] / (len(KEYS) * weight / 10) - 1) < 0.06


def test_pairs_spread_as_well() -> None:
    """When a node is lost, all others share the work of restoring its copies."""
    partners = Counter(
        next(node for node in pair if node != "node-a")
        for key in KEYS
        if "node-a" in (pair := choose(key, FIVE, 2))
    )
    fair = sum(partners.values()) / 4
    assert all(abs(partners[c.node] / fair - 1) < 0.1 for c in FIVE[1:])


def test_a_node_that_comes_takes_its_share_and_nothing_else_moves() -> None:
    before = {key: choose(key, FIVE, 2) for key in KEYS[:5000]}
    more = [*FIVE, Candidate("node-f", 1.0)]
    moved = 0
    for key, old in before.items():
        new = choose(key, more, 2)
        if new != old:
            moved += 1
            assert "node-f" in new
            assert set(new) - {"node-f"} <= set(old)
    assert abs(moved / (len(before) * 2 / 6) - 1) < 0.1


def test_a_node_that_goes_leaves_all_others_where_they_were() -> None:
    for key in KEYS[:5000]:
        old = choose(key, FIVE, 2)
        new = choose(key, FIVE[1:], 2)
        assert [node for node in old if node != "node-a"] == list(new)[: 2 - ("node-a" in old)]


@settings(deadline=None)
@given(
    key=st.text(max_size=10),
    candidates=nodes,
    count=st.integers(0, 8),
    avoid=st.sets(st.text("abcdef", min_size=1, max_size=3), max_size=3),
)
def test_whatever_is_asked(
    key: str, candidates: list[Candidate], count: int, avoid: set[str]
) -> None:
    chosen = choose(key, candidates, count, avoid)
    eligible = [c for c in candidates if c.node not in avoid]
    assert len(chosen) == len(set(chosen)) == min(count, len(eligible))
    assert set(chosen) <= {c.node for c in eligible}
    assert choose(key, candidates[::-1], count, avoid) == chosen
    assert choose(key, candidates, count + 1, avoid)[: len(chosen)] == chosen
    # No zone is used twice while another one is free.
    zones = {c.node: c.zone for c in candidates}
    used = [zones[node] for node in chosen if zones[node]]
    if len(set(used)) < len(used):
        assert {c.zone or c.node for c in eligible} == {zones[n] or n for n in chosen}
