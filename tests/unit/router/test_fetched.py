"""Data of frames where it lies: the same bytes as if they were joined, and no memory is lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from common.buffers import BufferPool
from common.checksum import ObjectHash, object_digest
from common.wire import frames
from router.fetched import Fetched
from tests.router_kit import payload

KEY = bytes(32)


def framed(data: bytes, frame_bytes: int, pool: BufferPool) -> memoryview:
    rows = pool.take(frames.wire_bytes(len(data), frame_bytes))
    frames.build(rows, memoryview(data), 7, frame_bytes, KEY)
    return rows


@given(
    st.sampled_from([1, 100, 1458, 8 * 1024, 65_536]),
    st.lists(
        st.tuples(st.integers(1, 5), st.integers(0, 99), st.integers(0, 100), st.integers(0, 100)),
        min_size=1,
        max_size=4,
    ),
)
def test_any_part_of_any_frames(
    frame_bytes: int, messages: list[tuple[int, int, int, int]]
) -> None:
    pool = BufferPool()
    out = Fetched()
    expected = b""
    for seed, (count, tail, one, other) in enumerate(messages):
        size = max(1, count * frame_bytes - tail * frame_bytes // 100)
        data = payload(size, seed)
        low, high = sorted((one * size // 100, other * size // 100))
        out.take(framed(data, frame_bytes, pool), frame_bytes, low, high, pool)
        expected += data[low:high]
    assert b"".join(out.parts) == expected
    assert out.size == len(expected)
    hasher = ObjectHash()
    out.hash_into(hasher)
    assert hasher.digest() == object_digest(expected)
    for buffer in out.buffers:
        assert len(buffer.obj) >= len(buffer)


def test_what_is_not_wanted_goes_back_at_once() -> None:
    pool = BufferPool()
    out = Fetched()
    out.take(framed(bytes(200_000), 65_536, pool), 65_536, 5, 5, pool)
    assert (out.parts, out.buffers, out.size) == ([], [], 0)
    assert pool.kept_bytes > 0


def test_large_frames_are_not_copied_and_small_ones_are_joined() -> None:
    pool = BufferPool()
    large, small = Fetched(), Fetched()
    rows = framed(bytes(200_000), 65_536, pool)
    memory = rows.obj
    large.take(rows, 65_536, 0, 200_000, pool)
    small.take(framed(bytes(200_000), 1458, pool), 1458, 0, 200_000, pool)
    assert [len(part) for part in large.parts] == [65_536, 65_536, 65_536, 3_392]
    assert all(part.obj is memory for part in large.parts)
    assert [len(part) for part in small.parts] == [200_000]


def test_two_of_them_become_one() -> None:
    pool = BufferPool()
    one, other = Fetched(), Fetched()
    one.take(framed(b"abc", 2, pool), 2, 0, 3, pool)
    other.take(framed(b"def", 2, pool), 2, 1, 3, pool)
    one.add(other)
    assert b"".join(one.parts) == b"abcef"
    assert (one.size, len(one.buffers)) == (5, 2)
    assert (other.parts, other.buffers, other.size) == ([], [], 0)
