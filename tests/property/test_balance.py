"""Shares and moves: nothing is lost, nobody gets too much, and every move makes it more even."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.records import ANYONE, Extent
from router.balance import Disk, Moves, settled, shares, uneven

GIB = 1 << 30
NAMES = "abcdef"

sizes = st.integers(0, 1 << 40)
disks = st.lists(
    st.builds(Disk, st.sampled_from(NAMES), sizes, sizes, st.sampled_from(["", "x", "y"])),
    unique_by=lambda disk: disk.node,
    min_size=1,
)


@given(disks, sizes)
def test_shares_add_up_and_fit(found: list[Disk], one_copy: int) -> None:
    wanted = shares(found, one_copy)
    assert wanted.keys() == {disk.node for disk in found}
    held = sum(disk.held_bytes for disk in found)
    assert sum(wanted.values()) == pytest.approx(held, rel=1e-9, abs=1e-3)
    most = max([one_copy, *(disk.held_bytes for disk in found)])
    for disk in found:
        assert -1e-3 <= wanted[disk.node] <= most * (1 + 1e-9) + 1e-3


@given(disks)
def test_full_disks_have_a_share_of_what_they_are_part_of(found: list[Disk]) -> None:
    """Larger disks never have a smaller share."""
    wanted = shares(found, 0)
    by_size = sorted(found, key=lambda disk: disk.held_bytes + disk.free_bytes)
    rising = [wanted[disk.node] for disk in by_size]
    for one, next_one in pairwise(rising):
        assert one <= next_one * (1 + 1e-9) + 1e-3


def test_a_large_disk_cannot_hold_more_than_one_copy() -> None:
    found = [Disk("a", 60, 10_000), Disk("b", 90, 10), Disk("c", 50, 50)]
    wanted = shares(found, 100)
    assert wanted == {"a": 100.0, "b": 50.0, "c": 50.0}


def extents_of(layout: list[tuple[int, frozenset[str]]]) -> list[Extent]:
    return [Extent(1 + n, 1, size, tuple(sorted(on))) for n, (size, on) in enumerate(layout)]


layouts = st.lists(
    st.tuples(st.integers(1, GIB), st.frozensets(st.sampled_from("abcde"), min_size=1, max_size=3)),
    max_size=60,
).map(extents_of)
worlds = st.tuples(
    layouts,
    st.fixed_dictionaries({node: st.integers(0, 200 * GIB) for node in NAMES}),
    st.fixed_dictionaries({node: st.sampled_from(["", "x", "y"]) for node in NAMES}),
    st.frozensets(st.sampled_from(NAMES), max_size=2),
)


def disks_of(
    layout: list[Extent], free: dict[str, int], zones: dict[str, str], away: frozenset[str]
) -> list[Disk]:
    held: Counter[str] = Counter()
    for extent in layout:
        held.update(dict.fromkeys(settled(extent), extent.size))
    return [Disk(node, held[node], free[node], zones[node], node not in away) for node in NAMES]


@given(worlds)
def test_moves_bring_every_putter_nearer_to_its_share_and_none_beyond(
    world: tuple[list[Extent], dict[str, int], dict[str, str], frozenset[str]],
) -> None:
    layout, free, zones, away = world
    before = disks_of(layout, free, zones, away)
    wanted = shares(before, sum(extent.size for extent in layout))
    moves = Moves(before, wanted)
    moved = [moves.move(f"k{n}", extent) for n, extent in enumerate(layout)]
    off = {disk.node: disk.held_bytes - wanted[disk.node] for disk in before}
    largest = max([0, *(extent.size for extent in layout)])
    for disk in disks_of(moved, free, zones, away):
        now = disk.held_bytes - wanted[disk.node]
        assert abs(now) <= max(abs(off[disk.node]), largest / 2) + 1
        if not disk.reachable:
            assert now == off[disk.node]
    for old, new in zip(layout, moved, strict=True):
        if new is old:
            continue
        ((taker, giver),) = new.owed.items()
        assert new.nodes == old.nodes
        assert giver in old.nodes
        assert taker not in old.nodes
        assert not {taker, *old.nodes} & away
        there, after = ({zones[node] for node in on} - {""} for on in (old.nodes, settled(new)))
        assert len(after) >= len(there)


@given(worlds)
def test_what_owes_something_already_does_not_move(
    world: tuple[list[Extent], dict[str, int], dict[str, str], frozenset[str]],
) -> None:
    layout, free, zones, away = world
    owing = [
        Extent(e.first, e.count, e.size, e.nodes, {ANYONE: e.nodes[0]} if n % 2 else {"f": ""})
        for n, e in enumerate(layout)
    ]
    found = disks_of(owing, free, zones, away)
    moves = Moves(found, shares(found, 0))
    assert [moves.move("k", extent) for extent in owing] == owing


def test_an_empty_putter_is_filled_to_the_others() -> None:
    layout = extents_of([(1_000, frozenset("abc"[n % 3] + "abc"[(n + 1) % 3])) for n in range(900)])
    found = disks_of(layout, dict.fromkeys(NAMES, 10**9), dict.fromkeys(NAMES, ""), frozenset())
    found = [disk for disk in found if disk.node in "abcd"]
    wanted = shares(found, 900_000)
    assert uneven(found, wanted, 0.1, 0) == pytest.approx(450_000, rel=0.01)
    moves = Moves(found, wanted)
    moved = [moves.move(f"k{n}", extent) for n, extent in enumerate(layout)]
    assert moves.left_bytes < 1_000
    held = Counter(node for extent in moved for node in settled(extent))
    assert {node: round(count, -1) for node, count in held.items()} == dict.fromkeys("abcd", 450)
    assert sum(new is not old for new, old in zip(moved, layout, strict=True)) == pytest.approx(
        450, abs=2
    ), "no more than what is needed"


@pytest.mark.parametrize(
    ("held", "tolerance", "least", "found"),
    [
        ((100, 100), 0.1, 0, 0),
        ((109, 91), 0.1, 0, 0),
        ((120, 80), 0.1, 0, 20),
        ((120, 80), 0.1, 20, 0),
        ((120, 80), 0.1, 19, 20),
    ],
)
def test_small_differences_are_left_alone(
    held: tuple[int, int], tolerance: float, least: int, found: int
) -> None:
    pair = [Disk("a", held[0], 0), Disk("b", held[1], 0)]
    assert uneven(pair, {"a": 100.0, "b": 100.0}, tolerance, least) == found


@pytest.mark.parametrize(
    ("owed", "holders"),
    [
        ({}, "ab"),
        ({"c": "a"}, "bc"),
        ({"c": ""}, "abc"),
        ({ANYONE: "a"}, "b"),
        ({ANYONE: ""}, "ab"),
        ({"c": "a", "d": "b"}, "cd"),
    ],
)
def test_who_holds_it_in_the_end(owed: dict[str, str], holders: str) -> None:
    assert settled(Extent(1, 1, 10, ("a", "b"), owed)) == frozenset(holders)
