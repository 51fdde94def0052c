"""The states of members, their one table, and the reasons of refusals."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from common.limits import HEARTBEAT_MS, MEMBER_LOST_MS, MEMBER_SUSPECT_MS
from common.membership import (
    TRANSITIONS,
    Decision,
    Event,
    Refusal,
    State,
    Verdict,
    event_of,
    follow,
    markdown,
    state_of,
)

PAGE = Path(__file__).parents[3] / "docs" / "internals" / "membership.md"


@pytest.mark.parametrize(
    ("age_ms", "state"),
    [
        (0, State.LIVE),
        (3 * HEARTBEAT_MS - 1, State.LIVE),
        (MEMBER_SUSPECT_MS - 1, State.LIVE),
        (MEMBER_SUSPECT_MS, State.SUSPECT),
        (MEMBER_LOST_MS - 1, State.SUSPECT),
        (MEMBER_LOST_MS, State.DOWN),
        (10**9, State.DOWN),
    ],
)
def test_silence(age_ms: int, state: State) -> None:
    assert state_of(age_ms) is state
    assert state_of(age_ms, Decision.GONE) is State.GONE
    alive = state is State.LIVE
    assert state_of(age_ms, applied=False) is (State.JOINING if alive else state)
    assert state_of(age_ms, Decision.DRAINING) is (State.DRAINING if alive else state)
    assert state_of(age_ms, Decision.DRAINING, applied=False) is state_of(age_ms, Decision.DRAINING)


def test_the_table_has_every_event_and_reaches_every_state() -> None:
    assert set(TRANSITIONS) == set(Event)
    assert {row.target for row in TRANSITIONS.values()} == {None, *State}
    assert set().union(*(row.sources for row in TRANSITIONS.values())) == {None, *State}


def test_who_is_gone_stays_gone_until_somebody_says_otherwise() -> None:
    leads_on = {event for event, row in TRANSITIONS.items() if State.GONE in row.sources}
    ways_out = {event for event in leads_on if TRANSITIONS[event].target is not State.GONE}
    assert ways_out == {Event.TAKEN_BACK, Event.RETURNS}


def test_who_is_down_is_never_merely_suspect() -> None:
    assert State.DOWN not in TRANSITIONS[Event.LAGS].sources
    with pytest.raises(ValueError, match="a member that is down never lags"):
        follow(State.DOWN, Event.LAGS)


def test_a_walk_along_the_table() -> None:
    state: State | None = None
    for event, expected in [
        (Event.ARRIVES, State.JOINING),
        (Event.SERVES, State.LIVE),
        (Event.LAGS, State.SUSPECT),
        (Event.SERVES, State.LIVE),
        (Event.FALLS, State.DOWN),
        (Event.GIVEN_UP, State.GONE),
        (Event.RETURNS, State.JOINING),
        (Event.DRAINS, State.DRAINING),
        (Event.LEAVES, None),
    ]:
        state = follow(state, event)
        assert state == expected
    with pytest.raises(ValueError, match="not listed never taken back"):
        follow(state, Event.TAKEN_BACK)


@pytest.mark.parametrize("decision", [None, *Decision])
@pytest.mark.parametrize("applied", [True, False])
@pytest.mark.parametrize("age_ms", [0, MEMBER_SUSPECT_MS, MEMBER_LOST_MS])
def test_a_state_is_where_its_event_leads(
    age_ms: int, decision: Decision | None, *, applied: bool
) -> None:
    event = event_of(age_ms, decision, applied=applied)
    state = state_of(age_ms, decision, applied=applied)
    assert TRANSITIONS[event].target is state
    assert follow(state, event) is state, "what goes on changes nothing"


def test_the_document_shows_the_table() -> None:
    text = PAGE.read_text("utf-8")
    assert markdown() in text, (
        "copy: python -c 'from common.membership import *; print(markdown())'"
    )
    for state in State:
        assert re.search(rf"^\| `{state}` \| ", text, re.MULTILINE), state
    for refusal in Refusal:
        assert re.search(rf"^\| `{refusal}` \| ", text, re.MULTILINE), refusal


def test_refusals_say_what_is_wrong_and_with_whom() -> None:
    assert Verdict().taken
    assert Verdict().explain("n", 1, 2) == ""
    texts = {}
    for refusal in Refusal:
        verdict = Verdict(refusal, "77")
        assert not verdict.taken
        texts[refusal] = verdict.explain("n1", 3, 55)
        assert "n1" in texts[refusal]
    assert "alive at 77" in texts[Refusal.CLONE]
    assert "started 3 times" in texts[Refusal.STARTS]
    assert "77 times" in texts[Refusal.STARTS]
    assert "55 commit records, and 77" in texts[Refusal.RECORDS]
    assert "declared gone" in texts[Refusal.GONE]


def test_which_refusals_end_a_process_that_was_taken() -> None:
    assert {refusal for refusal in Refusal if refusal.ends} == {
        Refusal.CLONE,
        Refusal.STARTS,
        Refusal.RECORDS,
    }
