"""Random histories of one node: its states stay in the table, and one process speaks for it."""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from common.limits import HEARTBEAT_MS, MEMBER_LOST_MS
from common.membership import Decision, Event, Refusal, State, event_of, follow
from common.meta.interface import Member, Seen
from common.meta.memory import MemoryMetadata
from common.meta.recovery import Mark

NODE = "n1"
COPIES = st.integers(0, 3)
COPIES_MAX = 4
WAIT = MEMBER_LOST_MS // HEARTBEAT_MS + 1


class Clock:
    """Stands still until it is told to go on."""

    ms = 10**12

    def now_ms(self) -> int:
        return self.ms

    def monotonic_ms(self) -> int:
        return self.ms


@dataclass(eq=False)
class Directory:
    """A data directory, and the process on it if one runs.

    Attributes:
        host: where; each has its own.
        starts, records: what it holds.
        instance: of the process, "" if none runs.
        taken_ms: when its last sign of life was taken; None if none was, or one was refused since.
        refused: whether the last answer was a refusal.
        unknown: how often in a row nothing was known.
        resumes: whether this process was taken before.
    """

    host: str
    starts: int = 0
    records: int = 0
    instance: str = ""
    taken_ms: int | None = None
    refused: bool = False
    unknown: int = 0
    resumes: bool = False


class OneNode(RuleBasedStateMachine):
    """Copies of a directory are started and killed; an operator decides; Redis forgets."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.store = MemoryMetadata(self.clock)
        self.copies = [Directory("host0")]
        self.runs = 0
        self.state: State | None = None
        self.known = 0  # records that are known to have been durable
        self.known_starts = 0  # of the process that was taken last

    # -- processes -------------------------------------------------------------------------

    @rule(which=COPIES)
    def copy_directory(self, which: int) -> None:
        if len(self.copies) < COPIES_MAX:
            old = self.copy(which)
            self.copies.append(Directory(f"host{len(self.copies)}", old.starts, old.records))

    @rule(which=COPIES)
    def start(self, which: int) -> None:
        copy = self.copy(which)
        if not copy.instance:
            self.runs += 1
            copy.starts += 1
            copy.instance, copy.taken_ms = f"i{self.runs}", None
            copy.refused, copy.unknown, copy.resumes = False, 0, False

    @rule(which=COPIES, records=st.integers(0, 3))
    def live(self, which: int, records: int) -> None:
        """As in ordinary days."""
        self.start(which)
        self.beat(which, 0)
        for _ in range(records):
            self.write(which)
        self.beat(which, 0)

    @rule(which=COPIES)
    def move(self, which: int) -> None:
        """All processes die; the one on this directory is started once they are lost."""
        for number in range(len(self.copies)):
            self.kill(number)
        self.pass_time(2 * MEMBER_LOST_MS)
        self.start(which)
        self.beat(which, 0)

    @rule(which=COPIES)
    def kill(self, which: int) -> None:
        copy = self.copy(which)
        copy.instance, copy.taken_ms = "", None

    @rule(which=COPIES)
    def stop(self, which: int) -> None:
        """One that was refused does not sign off."""
        copy = self.copy(which)
        if copy.instance and not copy.refused:
            listed = self.seen() is not None
            now(self.store.members.leave(NODE, copy.instance))
            if listed and self.seen() is None and self.state is not State.GONE:
                self.moves(Event.LEAVES)
        self.kill(which)

    @rule(which=COPIES)
    def write(self, which: int) -> None:
        copy = self.copy(which)
        if copy.instance and copy.taken_ms is not None:
            copy.records += 1

    @rule(which=COPIES, overtaken=st.integers(0, 2))
    def beat(self, which: int, overtaken: int) -> None:
        copy = self.copy(which)
        if not copy.instance:
            return
        was_gone = self.state is State.GONE
        told = max(0, copy.records - overtaken) if copy.taken_ms is not None else copy.records
        member = Member(
            NODE, "putter", copy.instance, copy.host, 1, starts=copy.starts, records=told
        )
        asks = copy.refused and copy.unknown < WAIT
        verdict = now(self.store.members.heartbeat(member, asks=asks))
        copy.unknown = copy.unknown + 1 if verdict.refusal is Refusal.UNKNOWN else 0
        copy.refused = not verdict.taken
        if verdict.refusal is not None:
            if copy.taken_ms is not None and verdict.refusal.ends:
                copy.instance = ""
            copy.taken_ms = None
            return
        if copy.taken_ms is None:
            assert copy.records >= self.known, "an older copy was taken"
            assert copy.starts > self.known_starts or copy.resumes, "an older copy was taken"
        self.known_starts, copy.resumes = copy.starts, True
        copy.taken_ms = self.clock.ms
        self.known = max(self.known, told)
        self.moves(Event.RETURNS if was_gone else self.event())

    # -- the rest of the world -------------------------------------------------------------

    @rule(ms=st.sampled_from([500, 1_000, 2_000, 6_000]))
    def pass_time(self, ms: int) -> None:
        self.clock.ms += ms
        if self.state is not None and self.state is not State.GONE:
            self.moves(self.event())

    @rule(which=COPIES)
    def apply_records(self, which: int) -> None:
        """A router has applied what a putter that serves told it."""
        copy = self.copy(which)
        if copy.instance and copy.taken_ms is not None and self.state is not State.GONE:
            epoch = self.store.epoch
            assert now(self.store.recovery.mark(epoch, {NODE: Mark(copy.records, epoch)}))
            self.known = max(self.known, copy.records)
            if self.state is not None:
                self.moves(self.event())

    @rule(decision=st.sampled_from([None, *Decision]))
    def decide(self, decision: Decision | None) -> None:
        was_gone = self.state is State.GONE
        if not now(self.store.members.declare(NODE, decision)):
            return
        if decision is Decision.GONE:
            self.moves(Event.GIVEN_UP)
            self.known = self.known_starts = 0
        elif was_gone:
            self.moves(Event.TAKEN_BACK)
        elif self.state is not None:
            self.moves(self.event())

    @rule()
    def redis_restarts(self) -> None:
        self.runs += 1
        self.store.restart(f"run{self.runs}")
        self.store._state.complete = self.store.epoch
        if self.state is not None and self.state is not State.GONE:
            self.moves(self.event())

    @rule()
    def redis_forgets(self) -> None:
        """Then nothing is known, and whoever comes first is taken."""
        self.runs += 1
        self.store.wipe(f"run{self.runs}")
        self.store._state.complete = self.store.epoch
        self.state, self.known, self.known_starts = None, 0, 0
        for copy in self.copies:
            if copy.taken_ms is not None:
                copy.taken_ms = self.clock.ms - MEMBER_LOST_MS

    # -- what always holds -----------------------------------------------------------------

    @invariant()
    def at_most_one_speaks_for_the_node(self) -> None:
        """Of those that Redis may believe alive."""
        speaking = [
            copy
            for copy in self.copies
            if copy.instance
            and copy.taken_ms is not None
            and self.clock.ms - copy.taken_ms < MEMBER_LOST_MS
        ]
        assert len(speaking) <= 1

    @invariant()
    def the_state_is_where_the_table_led(self) -> None:
        seen = self.seen()
        gone = now(self.store.members.decisions()).get(NODE) is Decision.GONE
        observed = State.GONE if gone else seen.state if seen is not None else None
        assert observed == self.state

    # -- inside ----------------------------------------------------------------------------

    def copy(self, which: int) -> Directory:
        return self.copies[which % len(self.copies)]

    def seen(self) -> Seen | None:
        found = now(self.store.members.seen())
        return found[0] if found else None

    def event(self) -> Event:
        """What the facts amount to."""
        seen = self.seen()
        assert seen is not None
        return event_of(seen.age_ms, seen.decision, applied=seen.applied)

    def moves(self, event: Event) -> None:
        self.state = follow(self.state, event)


def now(call: Coroutine[Any, Any, Any]) -> Any:
    """Do it at once: nothing in memory waits for anything."""
    try:
        while True:
            call.send(None)
    except StopIteration as done:
        return done.value


TestOneNode = OneNode.TestCase
TestOneNode.settings = settings(max_examples=300, stateful_step_count=50, deadline=None)
