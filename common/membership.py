"""What a member of the cluster is to the others: its states, and who may speak for a node.

A state is derived, never stored: from the age of the last sign of life, from whether Redis has
all records of the node, and from what the operator decided. What leads from one to another stands
in one table, `TRANSITIONS`; docs/internals/membership.md shows it.

A node is its data directory. `Refusal` names why a process that says it is a node is not believed:
two of them live at once, or the directory is an older copy of the one that was there before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from common.limits import MEMBER_LOST_MS, MEMBER_SUSPECT_MS


class State(StrEnum):
    """What a member is now."""

    JOINING = "joining"
    """Alive; not all of its records are applied in the present run of Redis. It takes bytes."""
    LIVE = "live"
    """Alive, and Redis knows all that it has."""
    SUSPECT = "suspect"
    """Silent for `MEMBER_SUSPECT_MS`: three heartbeats are missing."""
    DOWN = "down"
    """Silent for `MEMBER_LOST_MS`. It is expected back: recoveries wait for what only it has."""
    DRAINING = "draining"
    """Alive; the operator wants it emptied. It takes no new bytes and serves what it has."""
    GONE = "gone"
    """The operator said that it does not come back. Nobody waits for it; it is refused."""


class Decision(StrEnum):
    """What an operator may decide of a node. It is kept until it is taken back."""

    DRAINING = "draining"
    GONE = "gone"


class Event(StrEnum):
    """What leads from a state to another."""

    ARRIVES = "arrives"
    SERVES = "serves"
    DRAINS = "drains"
    LAGS = "lags"
    FALLS = "falls silent"
    LEAVES = "leaves"
    GIVEN_UP = "given up"
    TAKEN_BACK = "taken back"
    RETURNS = "returns empty"


@dataclass(frozen=True)
class Transition:
    """One row of the table.

    Attributes:
        what: what happens.
        sources: states in which it can; None is a node that is not listed.
        target: the state that follows; None: it is not listed any more.
    """

    what: str
    sources: frozenset[State | None]
    target: State | None


_ALIVE: Final = (State.JOINING, State.LIVE, State.DRAINING)
_LISTED: Final = (*_ALIVE, State.SUSPECT, State.DOWN)

TRANSITIONS: Final[Mapping[Event, Transition]] = MappingProxyType(
    {
        Event.ARRIVES: Transition(
            "a sign of life is taken, and Redis lacks records of the node in its present run",
            frozenset({None, *_LISTED}),
            State.JOINING,
        ),
        Event.SERVES: Transition(
            "a sign of life is taken, and all records of the node are applied",
            frozenset({None, *_LISTED}),
            State.LIVE,
        ),
        Event.DRAINS: Transition(
            "a sign of life is taken, and the operator wants the node emptied",
            frozenset({None, *_LISTED}),
            State.DRAINING,
        ),
        Event.LAGS: Transition(
            f"no sign of life for {MEMBER_SUSPECT_MS} ms",
            frozenset({*_ALIVE, State.SUSPECT}),
            State.SUSPECT,
        ),
        Event.FALLS: Transition(
            f"no sign of life for {MEMBER_LOST_MS} ms", frozenset(_LISTED), State.DOWN
        ),
        Event.LEAVES: Transition(
            "it stopped in good order, and signed off",
            frozenset({None, *_LISTED}),
            None,
        ),
        Event.GIVEN_UP: Transition(
            "the operator says that it does not come back",
            frozenset({None, *_LISTED, State.GONE}),
            State.GONE,
        ),
        Event.TAKEN_BACK: Transition(
            "the operator takes that back: it may come as it is",
            frozenset({State.GONE}),
            None,
        ),
        Event.RETURNS: Transition(
            "another process of the node comes, whose directory holds no record",
            frozenset({State.GONE}),
            State.JOINING,
        ),
    }
)


def follow(state: State | None, event: Event) -> State | None:
    """The state after an event.

    Raises:
        ValueError: the table has no such transition.
    """
    row = TRANSITIONS[event]
    if state not in row.sources:
        raise ValueError(f"a member that is {state or 'not listed'} never {event.value}")
    return row.target


def event_of(age_ms: int, decision: Decision | None, *, applied: bool) -> Event:
    """What the present facts of a listed member amount to.

    Args:
        age_ms: since its last sign of life, by the clock of Redis.
        decision: of the operator.
        applied: whether all its records are, in the present run of Redis.
    """
    if decision is Decision.GONE:
        return Event.GIVEN_UP
    if age_ms >= MEMBER_LOST_MS:
        return Event.FALLS
    if age_ms >= MEMBER_SUSPECT_MS:
        return Event.LAGS
    if decision is Decision.DRAINING:
        return Event.DRAINS
    return Event.SERVES if applied else Event.ARRIVES


def state_of(age_ms: int, decision: Decision | None = None, *, applied: bool = True) -> State:
    """The state of a listed member; the arguments are those of `event_of`."""
    state = TRANSITIONS[event_of(age_ms, decision, applied=applied)].target
    assert state is not None
    return state


def markdown() -> str:
    """The table for the document: a row for each event, a column for each state it is met in."""
    columns: list[State | None] = [None, *State]
    lines = [
        "| event | what happens | " + " | ".join(_cell(state) for state in columns) + " |",
        "|---" * (2 + len(columns)) + "|",
    ]
    for event, row in TRANSITIONS.items():
        cells = [
            ("not listed" if row.target is None else row.target) if state in row.sources else ""
            for state in columns
        ]
        lines.append(f"| {event} | {row.what} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(state: State | None) -> str:
    return "(not listed)" if state is None else f"`{state}`"


# -- who may speak for a node ----------------------------------------------------------------


class Refusal(StrEnum):
    """Why a sign of life is not taken."""

    CLONE = "clone"
    """Another process with this identity is alive at another address."""
    STARTS = "starts"
    """The directory was started less often than the one that Redis knows: an older copy."""
    RECORDS = "records"
    """It has fewer commit records than are known of it: an older copy."""
    GONE = "gone"
    """The operator declared the node gone."""
    UNKNOWN = "unknown"
    """Redis knows nothing of the node, and this process was refused before: it has to wait
    whether the one it was refused for gives a sign of life."""

    @property
    def ends(self) -> bool:
        """Whether a process that was taken before is replaced by another, and has to stop."""
        return self in (Refusal.CLONE, Refusal.STARTS, Refusal.RECORDS)


@dataclass(frozen=True)
class Verdict:
    """What became of a sign of life.

    Attributes:
        refusal: None if it was taken.
        known: what it was refused for: the address of the living process, how often the
            directory was started, or the number of the commit record, as Redis knows them.
    """

    refusal: Refusal | None = None
    known: str = ""

    @property
    def taken(self) -> bool:
        """Whether it was."""
        return self.refusal is None

    def explain(self, node: str, starts: int, records: int) -> str:
        """The reason for people.

        Args:
            node: identity of whoever was refused.
            starts: how often its directory was started.
            records: the highest number of its commit records.
        """
        match self.refusal:
            case None:
                return ""
            case Refusal.CLONE:
                return (
                    f"another process with the identity {node} is alive at {self.known}: this data "
                    f"directory, or that one, is a copy; stop one of the two"
                )
            case Refusal.STARTS:
                return (
                    f"this data directory of putter {node} is an older copy: it was started "
                    f"{starts} times, and another process of this putter {self.known} times"
                )
            case Refusal.RECORDS:
                return (
                    f"this data directory of putter {node} is an older copy: it holds {records} "
                    f"commit records, and {self.known} are known to have been durable"
                )
            case Refusal.GONE:
                return (
                    f"putter {node} was declared gone: it may come back with an empty data "
                    f"directory, or once that is taken back"
                )
            case Refusal.UNKNOWN:
                return (
                    f"Redis lost what it knew of putter {node}: waiting whether the process that "
                    f"this one was refused for gives a sign of life"
                )
