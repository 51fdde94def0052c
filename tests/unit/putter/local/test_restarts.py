"""Restarts: pauses and giving up, on times that are only numbers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from putter.local.restarts import BACKOFF_MS_MAX, BACKOFF_MS_MIN, STABLE_S, Restarts, backoff_ms

lives = st.one_of(st.none(), st.floats(min_value=0, max_value=10 * STABLE_S))


def test_the_first_pauses() -> None:
    assert [backoff_ms(n) for n in range(1, 9)] == [50, 100, 200, 400, 800, 1600, 3200, 5000]


@given(st.integers(min_value=1, max_value=10**9))
def test_a_pause_is_bounded_and_never_shrinks(failures: int) -> None:
    assert BACKOFF_MS_MIN <= backoff_ms(failures) <= backoff_ms(failures + 1) <= BACKOFF_MS_MAX


def test_quick_deaths_lengthen_the_pause_and_a_good_life_ends_that() -> None:
    restarts = Restarts()
    assert [restarts.died(now, now + 1.0) for now in (10.0, 20.0, 30.0)] == [50, 100, 200]
    assert restarts.died(40.0, 40.0 + STABLE_S) == 400, "not longer than that"
    assert restarts.died(200.0, 200.5 + STABLE_S) == 50
    assert restarts.died(300.0, 300.1) == 100


def test_a_life_that_never_got_ready_is_no_good_one() -> None:
    restarts = Restarts()
    assert [restarts.died(None, now * 1000.0) for now in range(3)] == [50, 100, 200]


def test_it_is_given_up_after_so_many_quick_deaths_in_a_row() -> None:
    restarts = Restarts(deaths_max=3)
    assert [restarts.died(None, 0.0) for _ in range(3)] == [50, 100, None]
    assert restarts.failures == 3


@given(st.lists(lives, max_size=60), st.integers(min_value=2, max_value=9))
def test_only_a_row_of_quick_deaths_ends_it(lived: list[float | None], deaths_max: int) -> None:
    restarts, now_s, row = Restarts(deaths_max=deaths_max), 0.0, 0
    for life in lived:
        now_s += life or 0.0
        pause = restarts.died(None if life is None else now_s - life, now_s)
        row = 1 if life is not None and life > STABLE_S + 1e-6 else row + 1
        if life is not None and abs(life - STABLE_S) <= 1e-6:
            row = restarts.failures  # too near to tell after the sums above
        assert (pause is None) == (row >= deaths_max)
        if pause is None:
            return
        assert pause == backoff_ms(row)
