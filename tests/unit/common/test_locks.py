"""Locks: what they keep, for how long, and which of two counts."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import reduce

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import UsageError
from common.locks import SETTING, UNLOCKED, Default, Lock, Mode, default_of, joined_locks

S = 1000
"""Stamps are microseconds, times of locks milliseconds."""


def ms(year: int, month: int = 1, day: int = 1, hour: int = 0) -> int:
    return int(datetime(year, month, day, hour, tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("lock", "anybody", "who_may"),
    [
        (UNLOCKED, False, False),
        (Lock("GOVERNANCE", 101), True, False),
        (Lock("GOVERNANCE", 100), False, False),
        (Lock("COMPLIANCE", 101), True, True),
        (Lock("COMPLIANCE", 100), False, False),
        (Lock(hold="ON"), True, True),
        (Lock("COMPLIANCE", 100, hold="ON"), True, True),
        (Lock("GOVERNANCE", 101, hold="OFF"), True, False),
    ],
)
def test_what_keeps_a_version(lock: Lock, anybody: bool, who_may: bool) -> None:
    assert lock.keeps(100) is anybody
    assert lock.keeps(100, bypass=True) is who_may


def test_what_is_weaker() -> None:
    held = Lock("GOVERNANCE", 10)
    assert UNLOCKED.is_weaker_than(held)
    assert Lock("COMPLIANCE", 9).is_weaker_than(held)
    assert held.is_weaker_than(Lock("COMPLIANCE", 10))
    for same_or_stronger in (held, Lock("GOVERNANCE", 11), Lock("COMPLIANCE", 10)):
        assert not same_or_stronger.is_weaker_than(held)


@pytest.mark.parametrize(
    ("older", "newer", "stays"),
    [
        (Lock("GOVERNANCE", 90, 10 * S), Lock("", 0, 20 * S), False),
        (Lock("COMPLIANCE", 90, 10 * S), Lock("", 0, 20 * S), True),
        (Lock("COMPLIANCE", 90, 10 * S), Lock("COMPLIANCE", 80, 20 * S), True),
        (Lock("COMPLIANCE", 90, 10 * S), Lock("GOVERNANCE", 99, 20 * S), True),
        (Lock("COMPLIANCE", 90, 10 * S), Lock("COMPLIANCE", 90, 20 * S), False),
        (Lock("COMPLIANCE", 90), Lock("", 0, 20 * S), True),
        (Lock("COMPLIANCE", 90, 10 * S), Lock("GOVERNANCE", 99, 90 * S), False),
    ],
)
def test_the_last_change_counts_unless_it_cannot_have_been(
    older: Lock, newer: Lock, stays: bool
) -> None:
    for one, other in ((older, newer), (newer, older)):
        assert joined_locks(one, other) == (older if stays else newer)


def test_time_and_hold_are_changed_each_for_its_own() -> None:
    one = Lock("GOVERNANCE", 90, 10, "OFF", 30)
    other = Lock("", 0, 0, "ON", 20)
    assert joined_locks(one, other) == joined_locks(other, one) == one
    assert joined_locks(Lock(hold="ON", held=40), one) == Lock("GOVERNANCE", 90, 10, "ON", 40)


@st.composite
def locks(draw: st.DrawFn) -> list[Lock]:
    """Changes that any number of people made, each with a stamp of its own."""
    stamps = draw(st.lists(st.integers(1, 12), min_size=2, max_size=5, unique=True))
    modes = st.sampled_from(["", "GOVERNANCE", "COMPLIANCE"])

    def one(stamp: int) -> Lock:
        mode: Mode = draw(modes)
        return Lock(mode, draw(st.integers(1, 12)) if mode else 0, stamp * S)

    return [one(stamp) for stamp in stamps]


@settings(max_examples=200)
@given(locks(), st.randoms(use_true_random=False))
def test_it_does_not_matter_in_which_order_they_are_found(
    found: list[Lock], random: object
) -> None:
    first = reduce(joined_locks, found)
    shuffled = list(found)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert reduce(joined_locks, shuffled) == first
    assert reduce(lambda x, y: joined_locks(y, x), shuffled) == first
    assert joined_locks(first, first) == first
    for each in found:
        if each.mode == "COMPLIANCE" and each.retains(first.retained // S):
            assert not first.is_weaker_than(each), "that was in force"


def test_what_a_bucket_says() -> None:
    assert default_of({}) is None
    assert default_of({SETTING: {}}) == Default()
    assert Default().lock(5) is UNLOCKED
    told = default_of({SETTING: {"mode": "GOVERNANCE", "days": 2}})
    assert told == Default("GOVERNANCE", 2)
    assert told.lock(ms(2024, 2, 28) + 7) == Lock("GOVERNANCE", ms(2024, 3, 1) + 7)
    for wrong in ("x", {"mode": "x"}, {"days": -1}, {"more": 1}, {"years": 101}):
        with pytest.raises(UsageError, match=SETTING):
            default_of({SETTING: wrong})


@pytest.mark.parametrize(
    ("written", "years", "until"),
    [
        (ms(2023, 5, 6, 7), 1, ms(2024, 5, 6, 7)),
        (ms(2024, 2, 29, 1), 1, ms(2025, 3, 1, 1)),
        (ms(2024, 2, 29), 4, ms(2028, 2, 29)),
        (ms(2026, 1, 1), 100, ms(2126, 1, 1)),
    ],
)
def test_years_are_those_of_the_calendar(written: int, years: int, until: int) -> None:
    assert Default("COMPLIANCE", years=years).lock(written) == Lock("COMPLIANCE", until)
