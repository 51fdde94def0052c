"""The judge of histories finds what is wrong, and finds nothing where all is well."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.history_kit import FOREIGN, NOTHING, History, Kind, Op, Outcome, done, refused, wrongs

K = "key"


def put(value: str, begin: float, end: float = math.inf, expected: str | None = None) -> Op:
    outcome = Outcome.UNKNOWN if end == math.inf else Outcome.DONE
    return Op(Kind.PUT, K, value, begin, end, outcome, expected)


def delete(begin: float, end: float = math.inf) -> Op:
    outcome = Outcome.UNKNOWN if end == math.inf else Outcome.DONE
    return Op(Kind.DELETE, K, NOTHING, begin, end, outcome)


def get(value: str, begin: float, end: float) -> Op:
    return Op(Kind.GET, K, value, begin, end, Outcome.DONE)


GOOD = {
    "nothing at all": [],
    "nothing there": [get(NOTHING, 0, 1)],
    "read what was written": [put("a", 0, 1), get("a", 2, 3)],
    "during the write either": [put("a", 0, 9), get(NOTHING, 1, 2), get("a", 3, 4)],
    "an overwrite": [put("a", 0, 1), put("b", 2, 3), get("b", 4, 5)],
    "the old one while it is overwritten": [put("a", 0, 1), put("b", 2, 9), get("a", 3, 4)],
    "a deletion": [put("a", 0, 1), delete(2, 3), get(NOTHING, 4, 5)],
    "written again": [put("a", 0, 1), delete(2, 3), put("b", 4, 5), get("b", 6, 7)],
    "an answer that got lost, done late": [put("a", 0), get(NOTHING, 1, 2), get("a", 8, 9)],
    "an answer that got lost, never done": [put("z", 0, 1), put("a", 2), get("z", 8, 9)],
    "a deletion without an answer": [put("a", 0, 1), delete(2), get("a", 3, 4), get("", 5, 6)],
    "two at once, either is last": [put("a", 0, 5), put("b", 0, 5), get("a", 6, 7)],
    "overwritten at once": [put("a", 0, 9), put("b", 1, 2), get("b", 3, 4), get("b", 10, 11)],
    "made, deleted, made": [put("a", 0, 1, ""), delete(2, 3), put("b", 4, 5, "")],
    "replaced by its etag": [put("a", 0, 1), put("b", 2, 3, "a"), get("b", 4, 5)],
}

BAD = {
    "a lost write": [put("a", 0, 1), get(NOTHING, 2, 3)],
    "a lost overwrite": [put("a", 0, 1), put("b", 2, 3), get("a", 4, 5)],
    "lost although it was read": [put("a", 0), get("a", 1, 2), get(NOTHING, 3, 4)],
    "back and forth": [put("a", 0, 1), put("b", 2), get("b", 3, 4), get("a", 5, 6)],
    "a stale read through another way": [
        *(put("a", 0, 1), put("b", 2, 9)),
        *(get("b", 3, 4), get("a", 5, 6)),
    ],
    "deleted, and back": [put("a", 0, 1), delete(2, 3), get("a", 4, 5)],
    "gone, and back": [put("a", 0, 1), delete(2, 9), get(NOTHING, 3, 4), get("a", 5, 6)],
    "deleted while it stays": [put("a", 0, 1), delete(2, 3), get("a", 8, 9), get("a", 0, 1)],
    "written again, and gone": [put("a", 0, 1), delete(2, 3), put("b", 4, 5), get("", 6, 7)],
    "torn": [put("a", 0, 1), get(FOREIGN, 2, 3)],
    "of nobody": [get("x", 2, 3)],
    "before it was written": [get("a", 0, 1), put("a", 2, 3)],
    "two that cannot both be last": [
        *(put("a", 0, 5), put("b", 0, 5)),
        *(get("a", 6, 7), get("b", 8, 9), get("a", 10, 11)),
    ],
    "made twice": [put("a", 0, 5, ""), put("b", 0, 5, "")],
    "replaced twice": [put("z", 0, 1), put("a", 2, 5, "z"), put("b", 2, 5, "z")],
    "made although it was there": [put("a", 0, 1), put("b", 2, 3, "")],
    "replaced what was not there": [put("a", 0, 1), put("b", 2, 3), put("c", 4, 5, "a")],
}


@pytest.mark.parametrize("name", GOOD)
def test_nothing_is_wrong_with(name: str) -> None:
    assert wrongs(GOOD[name]) == []


@pytest.mark.parametrize("name", BAD)
def test_it_finds(name: str) -> None:
    assert wrongs(BAD[name])
    assert wrongs(reversed(BAD[name])), "whatever the order"


def test_what_was_refused_must_not_be_seen() -> None:
    history = History()
    op = history.ask(0, Kind.PUT, K, "a")
    refused(op, 1)
    assert history.acknowledged() == 0
    assert wrongs(history.ops) == []
    done(history.ask(2, Kind.GET, K), 3, "a")
    (wrong,) = wrongs(history.ops)
    assert wrong.startswith("refused, and there all the same")


def test_an_answer_that_is_marked_stale_is_not_judged() -> None:
    stale = get("a", 4, 5)
    ops = [put("a", 0, 1), put("b", 2, 3), stale]
    assert wrongs(ops)
    stale.stale = True
    assert wrongs(ops) == []


def test_names_are_judged_on_their_own() -> None:
    other = Op(Kind.GET, "other", NOTHING, 2, 3, Outcome.DONE)
    assert wrongs([put("a", 0, 1), other, get("a", 2, 3)]) == []


def test_a_value_is_written_once() -> None:
    with pytest.raises(ValueError, match="every value is written once"):
        wrongs([put("a", 0, 1), put("a", 2, 3)])


def lived(seed: int) -> list[Op]:
    """What clients of a true register see: each change happens at a moment of its own."""
    rng = random.Random(seed)
    ops: list[Op] = []
    moments: list[tuple[float, Op]] = []
    for n in range(rng.randint(1, 40)):
        begin = rng.uniform(0, 20)
        end = begin + rng.choice((0.1, 1.0, 5.0))
        kind = rng.choice((Kind.PUT, Kind.DELETE, Kind.GET, Kind.GET))
        op = Op(kind, K, f"v{n}" if kind is Kind.PUT else NOTHING, begin, end, Outcome.DONE)
        ops.append(op)
        if kind is not Kind.GET and rng.random() < 0.3:
            op.end, op.outcome = math.inf, Outcome.UNKNOWN
            if rng.random() < 0.5:
                moments.append((rng.uniform(begin, 30), op))
        else:
            moments.append((rng.uniform(begin, end), op))
    held = NOTHING
    for _, op in sorted(moments, key=lambda each: each[0]):
        if op.kind is Kind.GET:
            op.value = held
        else:
            held = op.value
    return ops


@given(st.integers(0, 2**32))
def test_a_true_register_is_never_blamed(seed: int) -> None:
    assert wrongs(lived(seed)) == []


@given(st.integers(0, 2**32))
def test_a_write_that_is_forgotten_in_the_end_is_found(seed: int) -> None:
    ops = lived(seed)
    late = any(op.kind is Kind.DELETE and op.outcome is Outcome.UNKNOWN for op in ops)
    known = [op.value for op in ops if op.kind is Kind.PUT and op.outcome is Outcome.DONE]
    ops += [put("last", 100, 101), get("last", 102, 103)]
    assert wrongs(ops) == []
    for wrong in (FOREIGN, *known, *(() if late else (NOTHING,))):
        assert wrongs([*ops, get(wrong, 104, 105)]), wrong
