"""The pool of buffers: sizes, reuse, and its bound."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from common.buffers import BufferPool
from common.limits import KIB, MIB


@pytest.mark.parametrize("size", [1, 16 * KIB - 1, 16 * KIB, 16 * KIB + 1, 1_031_800, 4 * MIB])
def test_a_buffer_has_the_length_that_was_asked_for(size: int) -> None:
    buffer = BufferPool().take(size)
    assert len(buffer) == size
    buffer[-1] = 7
    assert not buffer.readonly


def test_what_was_given_back_is_used_again() -> None:
    pool = BufferPool()
    first = pool.take(20_000)
    memory = id(first.obj)
    pool.give(first)
    assert pool.kept_bytes == 32 * KIB
    again = pool.take(30_000)
    assert id(again.obj) == memory
    assert len(again) == 30_000
    assert pool.kept_bytes == 0


def test_two_who_ask_never_share() -> None:
    pool = BufferPool()
    pool.give(pool.take(100))
    one, other = pool.take(100), pool.take(100)
    one[:] = b"1" * 100
    other[:] = b"2" * 100
    assert bytes(one) == b"1" * 100


def test_a_smaller_room_does_not_serve_a_larger_wish() -> None:
    pool = BufferPool()
    pool.give(pool.take(16 * KIB))
    large = pool.take(16 * KIB + 1)
    assert pool.kept_bytes == 16 * KIB
    assert len(large) == 16 * KIB + 1


def test_what_is_given_back_cannot_be_used_by_mistake() -> None:
    pool = BufferPool()
    buffer = pool.take(100)
    pool.give(buffer)
    with pytest.raises(ValueError, match="released"):
        buffer[0] = 1


def test_no_more_is_kept_than_the_limit() -> None:
    pool = BufferPool(kept_bytes_max=64 * KIB)
    buffers = [pool.take(16 * KIB) for _ in range(10)]
    for buffer in buffers:
        pool.give(buffer)
    assert pool.kept_bytes == 64 * KIB
    large = pool.take(128 * KIB)
    pool.give(large)
    assert pool.kept_bytes == 64 * KIB


def test_memory_of_others_is_not_kept() -> None:
    pool = BufferPool()
    pool.give(memoryview(bytes(16 * KIB)))
    pool.give(memoryview(bytearray(16 * KIB + 1)))
    assert pool.kept_bytes == 0


@pytest.mark.parametrize(
    "look",
    [memoryview, lambda buffer: buffer[5:9], lambda buffer: np.frombuffer(buffer, np.uint8)],
    ids=["whole", "part", "array"],
)
def test_what_somebody_still_looks_at_is_not_kept(look: Callable[[memoryview], object]) -> None:
    pool = BufferPool()
    buffer = pool.take(16 * KIB)
    buffer[:] = b"a" * len(buffer)
    seen = look(buffer)
    pool.give(buffer)
    assert pool.kept_bytes == 0
    pool.take(16 * KIB)[:] = b"b" * (16 * KIB)
    assert set(bytes(seen)) == {ord("a")}  # type: ignore[call-overload]


def test_what_somebody_looked_at_is_used_again_when_the_look_is_over() -> None:
    pool = BufferPool()
    buffer = pool.take(16 * KIB)
    memory = id(buffer.obj)
    seen = memoryview(buffer)
    pool.give(buffer)
    del buffer
    assert id(pool.take(16 * KIB).obj) != memory
    del seen
    assert id(pool.take(16 * KIB).obj) == memory


def test_no_more_is_waited_for_than_the_limit() -> None:
    pool = BufferPool(kept_bytes_max=64 * KIB)
    buffers = [pool.take(16 * KIB) for _ in range(10)]
    looks = [memoryview(buffer) for buffer in buffers]
    for buffer in buffers:
        pool.give(buffer)
    del buffers, buffer, looks
    taken = [pool.take(16 * KIB) for _ in range(20)]
    assert pool.kept_bytes == 0
    assert len({id(each.obj) for each in taken}) == 20


def test_who_still_looks_does_not_keep_others_from_coming_back() -> None:
    pool = BufferPool()
    buffers = [pool.take(16 * KIB) for _ in range(3)]
    memory = id(buffers[2].obj)
    looks = [memoryview(buffer) for buffer in buffers]
    for buffer in buffers:
        pool.give(buffer)
    del buffers, buffer, looks[2]
    assert memory == id(pool.take(16 * KIB).obj)


def test_a_view_that_is_gone_does_no_harm() -> None:
    pool = BufferPool()
    buffer = pool.take(16 * KIB)
    with buffer[3:7] as part:
        part[:] = b"abcd"
    np.frombuffer(buffer, np.uint8)[:] = 0
    pool.give(buffer)
    assert pool.kept_bytes == 16 * KIB


@pytest.mark.parametrize("size", [1, 16 * KIB, 16 * KIB + 1, 70_000, MIB, MIB + 256, 5 * MIB - 1])
def test_little_is_kept_beyond_what_was_asked_for(size: int) -> None:
    pool = BufferPool()
    pool.give(pool.take(size))
    assert size <= pool.kept_bytes <= max(size + 16 * KIB, size * 9 / 8)
    pool.take(size)
    assert pool.kept_bytes == 0, "it serves the same wish again"
