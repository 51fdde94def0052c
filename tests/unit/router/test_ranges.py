"""Which tickets hold which bytes, at the borders of frames, pieces and extents."""

from __future__ import annotations

import pytest

from common.errors import RangeInvalid
from common.records import Extent, StoredObject
from router.ranges import Slice, halves, join_extents, slices

NODES = ("n1", "n2")
# Frames of 10 bytes; the last of them, ticket 201, holds 5.
OBJECT = StoredObject(
    "A", 45, 10, b"\0" * 32, (Extent(100, 3, 30, NODES), Extent(200, 2, 15, ("n3",)))
)


def plan(start: int, end: int, piece_bytes: int = 1000) -> list[Slice]:
    return list(slices(OBJECT, start, end, piece_bytes))


def test_the_whole_object_is_one_fetch_an_extent() -> None:
    assert plan(0, 45) == [
        Slice(100, 3, 30, 0, 30, NODES),
        Slice(200, 2, 15, 0, 15, ("n3",)),
    ]


@pytest.mark.parametrize("at", [0, 10, 17, 30, 45])
def test_nothing_keeps_no_byte(at: int) -> None:
    assert sum(part.keep for part in plan(at, at)) == 0


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (0, 1, Slice(100, 1, 10, 0, 1, NODES)),
        (9, 10, Slice(100, 1, 10, 9, 1, NODES)),
        (10, 11, Slice(101, 1, 10, 0, 1, NODES)),
        (9, 11, Slice(100, 2, 20, 9, 2, NODES)),
        (29, 30, Slice(102, 1, 10, 9, 1, NODES)),
        (30, 31, Slice(200, 1, 10, 0, 1, ("n3",))),
        (39, 41, Slice(200, 2, 15, 9, 2, ("n3",))),
        (44, 45, Slice(201, 1, 5, 4, 1, ("n3",))),
    ],
)
def test_only_the_touched_frames_are_fetched(start: int, end: int, expected: Slice) -> None:
    assert plan(start, end) == [expected]


def test_a_range_across_extents_asks_each_one_s_nodes() -> None:
    assert plan(29, 31) == [Slice(102, 1, 10, 9, 1, NODES), Slice(200, 1, 10, 0, 1, ("n3",))]


def test_pieces_are_whole_frames_and_no_larger_than_asked() -> None:
    assert [(part.first, part.count) for part in plan(0, 45, 20)] == [(100, 2), (102, 1), (200, 2)]
    assert [(part.first, part.count) for part in plan(5, 45, 29)] == [(100, 2), (102, 1), (200, 2)]
    tiny = [(part.first, part.count) for part in plan(0, 45, 1)]
    assert tiny == [(100, 1), (101, 1), (102, 1), (200, 1), (201, 1)]


@pytest.mark.parametrize(("start", "end"), [(-1, 3), (0, 46), (46, 46), (5, 4)])
def test_outside_of_the_object(start: int, end: int) -> None:
    with pytest.raises(RangeInvalid, match="45 bytes"):
        plan(start, end)


class TestHalves:
    def test_wanted_bytes_follow_each_other(self) -> None:
        part = Slice(100, 5, 45, 3, 40, NODES)
        low, high = halves(part, 10)
        assert low == Slice(100, 2, 20, 3, 17, NODES)
        assert high == Slice(102, 3, 25, 0, 23, NODES)

    def test_one_half_may_be_wanted_for_nothing(self) -> None:
        low, high = halves(Slice(100, 2, 20, 12, 5, NODES), 10)
        assert (low.keep, high.skip, high.keep) == (0, 2, 5)
        low, high = halves(Slice(100, 2, 20, 1, 5, NODES), 10)
        assert (low.skip, low.keep, high.keep) == (1, 5, 0)


class TestJoining:
    def test_neighbours_on_the_same_nodes_are_one_extent(self) -> None:
        runs = [Extent(0, 2, 20, NODES), Extent(2, 3, 30, NODES), Extent(5, 1, 4, NODES)]
        assert join_extents(runs, 1000) == (Extent(0, 6, 54, NODES),)

    @pytest.mark.parametrize(
        "second",
        [Extent(3, 1, 10, NODES), Extent(1, 1, 10, NODES), Extent(2, 1, 10, ("n1",))],
        ids=["a gap", "backwards", "other nodes"],
    )
    def test_others_stay_apart(self, second: Extent) -> None:
        runs = [Extent(0, 2, 20, NODES), second]
        assert join_extents(runs, 1000) == tuple(runs)

    def test_no_extent_grows_beyond_its_bound(self) -> None:
        runs = [Extent(n, 1, 10, NODES) for n in range(5)]
        assert [extent.size for extent in join_extents(runs, 20)] == [20, 20, 10]
        assert [extent.size for extent in join_extents(runs, 29)] == [20, 20, 10]
        assert len(join_extents(runs, 5)) == 5, "a run is never cut"

    def test_nothing(self) -> None:
        assert join_extents([], 10) == ()
