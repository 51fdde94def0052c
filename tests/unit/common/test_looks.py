"""What of a file was read before."""

from __future__ import annotations

import pytest

from common.limits import KIB, MIB
from common.looks import Looks, direct_span


def test_the_second_look_at_a_place_is_not_the_first() -> None:
    looks = Looks(10 * MIB)
    assert not looks.known(MIB, 64 * KIB)
    assert looks.first(MIB, 64 * KIB)
    assert looks.known(MIB, 64 * KIB)
    assert not looks.first(MIB, 64 * KIB)
    assert looks.first(2 * MIB, 64 * KIB)


def test_neighbours_that_only_touch_are_looked_at_for_the_first_time() -> None:
    looks = Looks(10 * MIB)
    step = MIB + 16 * 16
    assert all(looks.first(at * step + 100, step) for at in range(9))
    assert not any(looks.first(at * step + 100, step) for at in range(9))


def test_what_is_forgotten_is_new_again() -> None:
    looks = Looks(MIB)
    looks.first(0, MIB)
    looks.forget()
    assert not looks.known(0, MIB)
    assert looks.first(0, MIB)


def test_behind_the_end_there_is_nothing_to_know() -> None:
    looks = Looks(MIB)
    assert looks.first(2 * MIB, 64 * KIB)
    assert looks.first(2 * MIB, 64 * KIB)


@pytest.mark.parametrize(
    ("offset", "length", "span"),
    [
        (0, 4096, (0, 4096)),
        (1, 4096, (0, 8192)),
        (4095, 2, (0, 8192)),
        (4096, 1, (4096, 4096)),
        (8200, 100_000, (8192, 102_400)),
    ],
)
def test_a_span_is_the_whole_blocks_around(offset: int, length: int, span: tuple[int, int]) -> None:
    assert direct_span(offset, length) == span
