"""What is compressed, what is tried, and what comes back."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.limits import KIB
from putter.storage.segments.squeezer import COMPRESS_BYTES_MIN, Squeezer, expand, pays

NOISE = random.Random(3).randbytes(256 * KIB)
BLOCK = 64 * KIB


def promises(squeezer: Squeezer, data: bytes) -> bool:
    return squeezer.promises(memoryview(data))


def test_a_sixteenth_is_worth_it() -> None:
    assert pays(150, 160)
    assert not pays(151, 160)
    assert not pays(15, 15)
    assert pays(14, 15)


@settings(deadline=None)
@given(st.binary(max_size=300), st.integers(1, 200))
def test_what_is_squeezed_expands_to_what_it_was(word: bytes, times: int) -> None:
    data = word * times
    squeezed = Squeezer(BLOCK).squeeze(data)
    if squeezed is None:
        assert len(data) < 400 or not word
        return
    assert len(squeezed) <= len(data) * 15 // 16 + 1
    assert expand(squeezed, len(data)) == data
    assert expand(squeezed, len(data) + 1) is None
    assert expand(squeezed[:-1], len(data)) is None
    assert expand(squeezed + b"x", len(data)) in (None, data)


@pytest.mark.parametrize("data", [b"", b"garbage", bytes(100)])
def test_garbage_does_not_expand(data: bytes) -> None:
    assert expand(data, 100) is None


def test_noise_is_not_squeezed() -> None:
    squeezer = Squeezer(BLOCK)
    assert not promises(squeezer, NOISE)
    assert squeezer.squeeze(NOISE[:BLOCK]) is None
    assert promises(squeezer, bytes(4 * BLOCK))


def test_places_all_over_a_run_are_looked_at() -> None:
    for at in (0, len(NOISE) // 2 - KIB, len(NOISE) - 2 * KIB):
        mixed = NOISE[:at] + bytes(2 * KIB) + NOISE[at + 2 * KIB :]
        assert promises(Squeezer(BLOCK), mixed[: len(NOISE)])


def test_what_is_very_short_is_not_tried() -> None:
    assert not promises(Squeezer(BLOCK), bytes(COMPRESS_BYTES_MIN - 1))
    assert promises(Squeezer(BLOCK), bytes(COMPRESS_BYTES_MIN))


def test_one_success_ends_the_passing_over() -> None:
    squeezer = Squeezer(BLOCK)
    for _ in range(500):
        if promises(squeezer, NOISE[: 4 * KIB]):
            assert squeezer.squeeze(NOISE[: 4 * KIB]) is None
    text = b"word " * KIB
    waited = 0
    while not promises(squeezer, text):
        waited += 1
    assert 0 <= waited < 32
    assert squeezer.squeeze(text) is not None
    assert all(promises(squeezer, text) for _ in range(10))


@pytest.mark.parametrize("size", [COMPRESS_BYTES_MIN, 2047, 2048, 2049, 2050, 4096, 6144, 6145])
def test_runs_of_several_blocks_may_be_shorter_than_the_samples(size: int) -> None:
    assert promises(Squeezer(1), bytes(size))
