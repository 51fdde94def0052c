"""Judges histories of what clients of a store asked for and heard.

Every name is a register: it holds a value or nothing, and a read gives what the last write left.
Each operation takes effect at one moment between its question and its answer; one whose answer was
lost may do so at any time later, or never. A history that cannot be explained like that is wrong:
an acknowledged write was lost, a read was stale, torn, or of something that nobody wrote.

Every value is written once, so the values tell which write a read saw, and no search is needed
(Gibbons and Korach 1997): a write and its reads are a *cluster*; from the first answer about a
value to the last question about it, its name must have held it. Deletions are not told apart by
what is read, so "nothing there" is judged by what must hold whichever deletion was meant.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

NOTHING = ""
"""The value of a name that holds nothing."""
FOREIGN = "?"
"""The value of a read whose bytes are no version that anybody wrote whole under that name."""


class Kind(StrEnum):
    """What was asked for."""

    PUT = "put"
    DELETE = "delete"
    GET = "get"


class Outcome(StrEnum):
    """What was heard."""

    DONE = "done"
    """It took effect; a read gave an answer."""
    REFUSED = "refused"
    """It took no effect and never will."""
    UNKNOWN = "unknown"
    """Nobody knows."""


@dataclass
class Op:
    """One question and its answer.

    Attributes:
        kind: what was asked for.
        key: of which name.
        value: written or read; `NOTHING` for a deletion, or where nothing was there.
        begin: when it was asked, seconds.
        end: when the answer came; infinite as long as none did.
        outcome: what the answer was.
        expected: what a conditional write demanded that the name held; None: nothing special.
        who: tells of the client and the way, for people.
        stale: the answer itself said that it may be old.
    """

    kind: Kind
    key: str
    value: str
    begin: float
    end: float = math.inf
    outcome: Outcome = Outcome.UNKNOWN
    expected: str | None = None
    who: str = ""
    stale: bool = False

    def __str__(self) -> str:
        told = f"{self.kind} {self.key} {self.value[:12] or 'nothing'} {self.outcome}"
        return f"[{self.begin:.3f} … {self.end:.3f}] {told} {self.who}".rstrip()


@dataclass
class History:
    """What happened; in any order."""

    ops: list[Op] = field(default_factory=list)

    def ask(
        self,
        now: float,
        kind: Kind,
        key: str,
        value: str = NOTHING,
        *,
        expected: str | None = None,
        who: str = "",
    ) -> Op:
        """Note a question; the answer is noted on what is returned."""
        op = Op(kind, key, value, now, expected=expected, who=who)
        self.ops.append(op)
        return op

    def acknowledged(self) -> int:
        """How many changes were."""
        return sum(o.outcome is Outcome.DONE and o.kind is not Kind.GET for o in self.ops)


def done(op: Op, now: float, value: str | None = None) -> None:
    """It took effect; ``value`` is what a read gave."""
    op.end, op.outcome = now, Outcome.DONE
    if value is not None:
        op.value = value


def refused(op: Op, now: float) -> None:
    """It took no effect."""
    op.end, op.outcome = now, Outcome.REFUSED


@dataclass
class _Cluster:
    """A value: its write, and those who saw it."""

    write: Op
    seen: list[Op] = field(default_factory=list)

    @property
    def held_from(self) -> float:
        """By then it was there: the first answer about it."""
        ends = [op.end for op in self.seen]
        if self.write.outcome is Outcome.DONE:
            ends.append(self.write.end)
        return min(ends, default=math.inf)

    @property
    def held_to(self) -> float:
        """Until then it was there, if it was before: the last question about it."""
        return max([self.write.begin, *(op.begin for op in self.seen)])

    @property
    def happened(self) -> bool:
        return bool(self.seen) or self.write.outcome is Outcome.DONE

    def held_throughout(self, begin: float, end: float) -> bool:
        """Whether the name must have held it during all of a span."""
        return self.held_from < begin and end < self.held_to

    def clashes_with(self, other: _Cluster) -> bool:
        """Whether the name would have had to hold both at once, or one within the other."""
        a, b = sorted((self.held_from, self.held_to)), sorted((other.held_from, other.held_to))
        solid, solid_too = self.held_from < self.held_to, other.held_from < other.held_to
        if solid and solid_too:
            return a[0] < b[1] and b[0] < a[1]
        if solid:
            return a[0] < b[0] and b[1] < a[1]
        if solid_too:
            return b[0] < a[0] and a[1] < b[1]
        return False


def wrongs(ops: Iterable[Op]) -> list[str]:
    """What is wrong with a history; empty if nothing is."""
    by_key: dict[str, list[Op]] = defaultdict(list)
    for op in ops:
        if not op.stale:
            by_key[op.key].append(op)
    return [wrong for key in sorted(by_key) for wrong in _wrongs_of(by_key[key])]


def _wrongs_of(ops: Sequence[Op]) -> list[str]:
    """Of one name."""
    found: list[str] = []
    clusters: dict[str, _Cluster] = {}
    for op in ops:
        if op.kind is Kind.PUT:
            if op.value in clusters or op.value in (NOTHING, FOREIGN):
                raise ValueError(f"every value is written once: {op}")
            clusters[op.value] = _Cluster(op)
    nothing: list[Op] = []
    for op in (*_reads(ops), *_demands(ops)):
        if op.value == NOTHING:
            nothing.append(op)
        elif op.value not in clusters:
            found.append(f"torn, or of nobody: {op}")
        else:
            cluster = clusters[op.value]
            cluster.seen.append(op)
            if cluster.write.outcome is Outcome.REFUSED:
                found.append(f"refused, and there all the same: {op}")
            if op.end < cluster.write.begin:
                found.append(f"read before it was written: {op}")
    happened = sorted((c for c in clusters.values() if c.happened), key=lambda c: c.held_from)
    for n, one in enumerate(happened):
        for other in happened[n + 1 :]:
            if one.clashes_with(other):
                found.append(f"lost, or read although it was overwritten: {_pair(one, other)}")
    deletions = [op for op in ops if op.kind is Kind.DELETE and op.outcome is not Outcome.REFUSED]
    found += _wrong_with_nothing(happened, nothing, deletions)
    found += _wrong_conditions(ops, deletions)
    return found


def _reads(ops: Iterable[Op]) -> list[Op]:
    return [op for op in ops if op.kind is Kind.GET and op.outcome is Outcome.DONE]


def _demands(ops: Iterable[Op]) -> list[Op]:
    """What conditional writes that were done must have seen, as reads."""
    return [
        Op(Kind.GET, op.key, op.expected, op.begin, op.end, Outcome.DONE, who=f"before {op.who}")
        for op in ops
        if op.expected is not None and op.outcome is Outcome.DONE
    ]


def _wrong_with_nothing(
    happened: Sequence[_Cluster], nothing: Sequence[Op], deletions: Sequence[Op]
) -> list[str]:
    found: list[str] = []
    acknowledged = [op for op in deletions if op.outcome is Outcome.DONE]
    for op in (*nothing, *acknowledged):
        found += [
            f"it held {cluster.write.value[:12]} all the time: {op}"
            for cluster in happened
            if cluster.held_throughout(op.begin, op.end)
        ]
    for op in nothing:
        before = [cluster for cluster in happened if cluster.held_from < op.begin]
        if before and not any(
            each.begin < op.end and all(each.end > cluster.write.begin for cluster in before)
            for each in deletions
        ):
            last = max(before, key=lambda cluster: cluster.write.begin)
            found.append(f"lost: {last.write}, by {op}")
    return found


def _wrong_conditions(ops: Sequence[Op], deletions: Sequence[Op]) -> list[str]:
    """Of several that demanded the same, only one can have been first."""
    made: dict[str, list[Op]] = defaultdict(list)
    for op in ops:
        if op.expected is not None and op.outcome is Outcome.DONE:
            made[op.expected].append(op)
    return [
        f"{len(those)} were told that they replaced {value[:12] or 'nothing'}: {those[0]}"
        for value, those in sorted(made.items())
        if len(those) > (1 + len(deletions) if value == NOTHING else 1)
    ]


def _pair(one: _Cluster, other: _Cluster) -> str:
    return "; ".join(
        f"{c.write}, there by {c.held_from:.3f}, still at {c.held_to:.3f}" for c in (one, other)
    )
