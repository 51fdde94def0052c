"""What the coordinator in memory remembers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from common.clock import Clock
from common.membership import Decision
from common.meta.handoff import Missed
from common.meta.interface import Ceilings, Member
from common.meta.outbox import Post
from common.meta.recovery import Mark
from common.meta.values import token
from common.records import AccessKey, BucketSettings, Version
from common.versions import plain_bucket

T = TypeVar("T")


@dataclass
class Name:
    """What a name holds, or that it was deleted.

    Attributes:
        stamp: of its last change.
        version: what it holds, or None.
        found: for a deleted name, whether the deletion found something.
        forget_ms: for a deleted name, when the deletion may be forgotten.
        by: for a deleted name, stamp of the tombstone.
    """

    stamp: int
    version: Version | None
    found: bool = True
    forget_ms: int = 0
    by: int = 0


@dataclass
class Object:
    """One object.

    Attributes:
        state: ``writing``, ``written``, ``failed`` or ``deleted``.
        router: who writes or wrote it.
        acked: tickets that enough putters hold, while it is written.
        ranges: first and count of the tickets in use, while it is written.
        nodes: the putters in use.
        due_ms: when the writer's lease ends, or from when on the bytes may be freed.
        version: the one it belongs to, once written.
        readers: until when each reader holds it.
    """

    state: str
    router: str
    acked: int
    ranges: tuple[tuple[int, int], ...]
    nodes: tuple[str, ...]
    due_ms: int
    version: Version | None = None
    readers: dict[str, int] = field(default_factory=dict)

    def is_read(self, now_ms: int) -> bool:
        """Whether somebody holds it."""
        return any(until_ms > now_ms for until_ms in self.readers.values())


@dataclass
class Bucket:
    """One bucket.

    Attributes:
        names: by key.
        objects: by ObjectID.
        held: whether a version was ever published here.
        claims: who claimed a key, and until when.
        surplus: by node and ObjectID, from when on it may be freed.
        missed: by node and stamp, records without an object that the node lacks.
        settings: the last change of its settings.
        followed: stamp of the change that all its objects follow.
        access: access keys by id, in the one bucket that stands for them.
        events: those that wait, by target and number.
        posted: the number of the last event.
        dropped: how many events had to go, by target.
    """

    names: dict[str, Name] = field(default_factory=dict)
    objects: dict[str, Object] = field(default_factory=dict)
    held: bool = False
    claims: dict[str, tuple[str, int]] = field(default_factory=dict)
    surplus: dict[tuple[str, str], int] = field(default_factory=dict)
    missed: dict[tuple[str, int], Missed] = field(default_factory=dict)
    settings: BucketSettings | None = None
    followed: int = 0
    access: dict[str, AccessKey] = field(default_factory=dict)
    events: dict[tuple[str, int], bytes] = field(default_factory=dict)
    posted: int = 0
    dropped: dict[str, int] = field(default_factory=dict)


@dataclass
class State:
    """Everything.

    Attributes:
        epoch: the run in which the counters were established, or None.
        complete: the run in which all that may have been lost was last brought back, or None.
        stamp: below all stamps that were given out since.
        attempt: token of whoever is at it now.
        marks: how far the records of each putter are applied.
        next: the next free number of each kind.
        ceilings: what they must stay below.
        buckets: by name.
        members: last sign of life and member, by node.
        fences: last sign of life, or 0, of the putter that was taken last, and what it told.
        decisions: of the operator, by node.
        leases: holder and end, by name.
        streams: entries that were forwarded, by stream.
    """

    epoch: str | None = None
    complete: str | None = None
    stamp: int = 0
    attempt: str = ""
    marks: dict[str, Mark] = field(default_factory=dict)
    next: Ceilings = field(default_factory=Ceilings)
    ceilings: Ceilings = field(default_factory=Ceilings)
    buckets: dict[str, Bucket] = field(default_factory=dict)
    members: dict[str, tuple[int, Member]] = field(default_factory=dict)
    fences: dict[str, tuple[int, Member]] = field(default_factory=dict)
    decisions: dict[str, Decision] = field(default_factory=dict)
    leases: dict[str, tuple[str, int]] = field(default_factory=dict)
    streams: dict[str, list[dict[str, bytes]]] = field(default_factory=dict)

    def bucket(self, name: str) -> Bucket:
        """A bucket, made when it is first heard of."""
        return self.buckets.setdefault(name, Bucket())

    def post(self, bucket: str, post: Post | None) -> None:
        """Let an event of a bucket, or of where its versions are, wait."""
        if post is None:
            return
        outbox = self.bucket(plain_bucket(bucket))
        outbox.posted += 1
        outbox.events[token(post.target), outbox.posted] = post.body
        waiting = sorted(key for key in outbox.events if key[0] == post.target)
        for key in waiting[: -post.waiting_max]:
            del outbox.events[key]
            outbox.dropped[post.target] = outbox.dropped.get(post.target, 0) + 1

    def object(self, bucket: str, object_id: str) -> Object | None:
        """An object, if it is known in this bucket."""
        known = self.buckets.get(bucket)
        return known.objects.get(object_id) if known else None


@dataclass(frozen=True)
class Times:
    """The clock and the periods it measures."""

    clock: Clock
    grace_ms: int
    tombstone_ms: int
    reach_ms: int


class Visited(Protocol):
    """What the tables need of the store they belong to."""

    async def visit(self, effect: Callable[[State], T]) -> T:
        """One call: the way there, the effect in one piece, the way back."""
        ...
