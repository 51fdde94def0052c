"""Any range of any object: the fetches give exactly its bytes."""

from __future__ import annotations

import random
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from common.records import Extent, StoredObject
from router.ranges import Slice, halves, join_extents, slices

NODES = st.sampled_from([("n1",), ("n2",), ("n1", "n2")])


@st.composite
def objects(draw: st.DrawFn) -> tuple[StoredObject, bytes, dict[int, bytes]]:
    """An object, its bytes, and the bytes of each of its tickets."""
    frame_bytes = draw(st.integers(1, 20))
    counts = draw(st.lists(st.integers(1, 6), min_size=1, max_size=5))
    tail = draw(st.integers(1, frame_bytes))
    size = sum(counts) * frame_bytes - frame_bytes + tail
    data = random.Random(size).randbytes(size)
    stored: dict[int, bytes] = {}
    extents = []
    at, ticket = 0, draw(st.integers(0, 1000))
    for count in counts:
        end = min(at + count * frame_bytes, size)
        extents.append(Extent(ticket, count, end - at, draw(NODES)))
        for index in range(count):
            low = at + index * frame_bytes
            stored[ticket + index] = data[low : min(low + frame_bytes, end)]
        at = end
        ticket += count + draw(st.integers(0, 3))
    return StoredObject("A", size, frame_bytes, bytes(32), tuple(extents)), data, stored


def fetched(part: Slice, stored: dict[int, bytes]) -> bytes:
    """What a putter gives for a slice, cut as the slice says."""
    joined = b"".join(stored[ticket] for ticket in range(part.first, part.first + part.count))
    assert len(joined) == part.size
    assert 0 <= part.skip <= part.skip + part.keep <= part.size
    return joined[part.skip : part.skip + part.keep]


@given(objects(), st.data())
def test_slices_are_exactly_the_bytes(
    made: tuple[StoredObject, bytes, dict[int, bytes]], more: st.DataObject
) -> None:
    whole, data, stored = made
    start = more.draw(st.integers(0, whole.size))
    end = more.draw(st.integers(start, whole.size))
    piece_bytes = more.draw(st.integers(1, 100))
    parts = list(slices(whole, start, end, piece_bytes))
    assert b"".join(fetched(part, stored) for part in parts) == data[start:end]
    homes = {e.first + n: e.nodes for e in whole.extents for n in range(e.count)}
    for part in parts:
        assert part.size <= max(piece_bytes, whole.frame_bytes)
        assert {homes[part.first + n] for n in range(part.count)} == {part.nodes}
    if start < end:
        # Nothing is fetched of which no byte is wanted.
        assert all(part.keep > 0 for part in parts)
        frame = whole.frame_bytes
        assert sum(part.size for part in parts) < end - start + 2 * frame


@given(objects(), st.data())
def test_halves_are_exactly_the_slice(
    made: tuple[StoredObject, bytes, dict[int, bytes]], more: st.DataObject
) -> None:
    whole, _, stored = made
    start = more.draw(st.integers(0, whole.size - 1))
    end = more.draw(st.integers(start + 1, whole.size))
    for part in slices(whole, start, end, 1000):
        if part.count > 1:
            low, high = halves(part, whole.frame_bytes)
            assert fetched(low, stored) + fetched(high, stored) == fetched(part, stored)
            assert low.count + high.count == part.count
            assert abs(low.count - high.count) <= 1
            assert low.nodes == high.nodes == part.nodes


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4), st.integers(1, 40), NODES)),
    st.integers(1, 120),
)
def test_joining_keeps_everything(
    steps: list[tuple[int, int, int, tuple[str, ...]]], bound: int
) -> None:
    runs = []
    ticket = 0
    for gap, count, size, nodes in steps:
        runs.append(Extent(ticket + gap, count, size, nodes))
        ticket += gap + count
    joined = join_extents(runs, bound)

    def tickets(extents: tuple[Extent, ...]) -> list[tuple[int, tuple[str, ...]]]:
        return [(e.first + n, e.nodes) for e in extents for n in range(e.count)]

    assert tickets(joined) == tickets(tuple(runs))
    assert sum(e.size for e in joined) == sum(run.size for run in runs)
    assert all(e.size <= max(bound, max(run.size for run in runs)) for e in joined)
    for one, other in pairwise(joined):
        mergeable = one.first + one.count == other.first and one.nodes == other.nodes
        first_run = next(run for run in runs if run.first == other.first)
        assert not (mergeable and one.size + first_run.size <= bound), "a chance was missed"
