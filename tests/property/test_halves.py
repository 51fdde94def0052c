"""A slice in two halves asks for the same bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from common.records import Extent, StoredObject
from router.ranges import Slice, halves, slices

FRAME = 1458


def wanted(part: Slice, data: bytes) -> bytes:
    """The bytes that a slice stands for, where ticket n holds the n-th frame of the data."""
    held = data[part.first * FRAME : part.first * FRAME + part.size]
    assert len(held) == part.size
    return held[part.skip : part.skip + part.keep]


@given(st.data(), st.integers(1, 9 * FRAME))
def test_two_halves_are_the_whole(draw: st.DataObject, size: int) -> None:
    data = bytes(at % 251 for at in range(size))
    count = -(-size // FRAME)
    stored = StoredObject("A", size, FRAME, b"\0" * 32, (Extent(0, count, size, ("n1", "n2")),))
    start = draw.draw(st.integers(0, size - 1))
    end = draw.draw(st.integers(start + 1, size))
    for part in slices(stored, start, end, 9 * FRAME):
        assert wanted(part, data) == data[start:end]
        pending = [part]
        got = b""
        while pending:
            piece = pending.pop(0)
            if piece.count > 1:
                pending = [half for half in halves(piece, FRAME) if half.keep] + pending
            else:
                got += wanted(piece, data)
        assert got == data[start:end]
