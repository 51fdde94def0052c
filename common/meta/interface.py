"""The seam to the coordinator: numbers, objects, files, members, leases.

Every implementation passes ``tests/contract/test_metadata.py``. All methods raise
`common.errors.MetadataUnavailable` when the coordinator did not answer within its patience;
all of them may be retried: a repeated call has the effect of one.

An object's life is one table; no other transition exists:

| from | to | by |
|---|---|---|
| — | ``writing`` | `Objects.begin`; many at once ahead of their bytes, `Announcements.announce` |
| ``writing`` | ``written`` | `Objects.commit`, at once with its name |
| ``writing`` | ``failed`` | `Objects.fail`: the writer, or the janitor after its lease ran out |
| ``writing`` | — | `Announcements.withdraw`, of what nobody sent anything of |
| ``written`` | ``deleted`` | a newer version or tombstone of the name |
| ``failed``, ``deleted`` | — | `Objects.forget`, once every putter has freed its tickets |
"""

from __future__ import annotations

import builtins
from collections.abc import Awaitable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

import msgspec

from common.meta.access import Access
from common.meta.announcements import Announcements
from common.meta.buckets import Buckets
from common.meta.claims import Claims
from common.meta.handoff import HandOff
from common.meta.leasing import Leases
from common.meta.outbox import Outbox, Post
from common.meta.outcomes import UNGUARDED, Guard
from common.meta.outcomes import Outcome as Outcome
from common.meta.register import Member as Member
from common.meta.register import Members as Members
from common.meta.register import Seen as Seen
from common.meta.repairs import Repairs
from common.meta.versions import Versions
from common.records import Tombstone, Version

if TYPE_CHECKING:
    from common.meta.recovery import Recovery


class Kind(StrEnum):
    """The three sequences whose numbers are never used twice."""

    TICKETS = "tickets"
    OBJECTS = "objects"
    STAMPS = "stamps"


class Ceilings(msgspec.Struct, frozen=True, array_like=True):
    """No number at or above these was ever given out. Durable on the putters before it counts."""

    tickets: int = 0
    objects: int = 0
    stamps: int = 0

    def highest(self, other: Ceilings) -> Ceilings:
        """The larger of both, for each kind."""
        both = zip(msgspec.structs.astuple(self), msgspec.structs.astuple(other), strict=True)
        return Ceilings(*(max(pair) for pair in both))

    def of(self, kind: Kind) -> int:
        """The ceiling of one kind."""
        return int(getattr(self, kind.value))


@dataclass(frozen=True)
class Granted:
    """Numbers ``first … first + count - 1`` belong to the caller alone."""

    first: int
    count: int


@dataclass(frozen=True)
class CeilingReached:
    """The next numbers would reach the ceiling: make a higher one durable, then `raise_to`.

    Attributes:
        epoch: the coordinator's run.
        wanted: the end of the range that was asked for; the new ceiling must be at least this.
        ceilings: the present ones.
    """

    epoch: str
    wanted: int
    ceilings: Ceilings


@dataclass(frozen=True)
class EpochUnknown:
    """The coordinator started anew since the counters were last established.

    `Counters.establish` them above the highest ceiling that any putter reports.
    """

    epoch: str


class Counters(Protocol):
    """Sequences under a ceiling.

    Tickets and ObjectIDs count from 0. Stamps are a hybrid clock in microseconds:
    ``max(last + 1, now)`` with the coordinator's own clock.
    """

    async def lease(self, kind: Kind, count: int) -> Granted | CeilingReached | EpochUnknown:
        """Take ``count`` ≥ 1 consecutive numbers."""
        ...

    async def raise_to(self, epoch: str, ceilings: Ceilings) -> bool:
        """Lift the ceilings (never lowers one). False if the epoch is not the established one."""
        ...

    async def establish(self, epoch: str, floor: Ceilings) -> bool:
        """Lift each counter and ceiling to the floor where it is lower, and accept the epoch.

        False if the epoch is not the present one.
        """
        ...


@dataclass(frozen=True)
class Begin:
    """An object that a router starts to write.

    Attributes:
        bucket: the bucket its name will be in.
        object_id: ObjectID.
        router: instance of the writing router.
        lease_ms: how long it stays ``writing`` without a sign of life.
        ranges: (first ticket, count) that may be in use for it.
        nodes: putters that may hold some of it.
    """

    bucket: str
    object_id: str
    router: str
    lease_ms: int
    ranges: tuple[tuple[int, int], ...]
    nodes: tuple[str, ...]


@dataclass(frozen=True)
class Progress:
    """A sign of life, with absolute numbers by the owning router.

    Attributes:
        acked: tickets that enough putters hold.
        ranges: all ranges in use so far, or None to leave them.
        nodes: all putters in use so far, or None to leave them.
    """

    bucket: str
    object_id: str
    lease_ms: int
    acked: int
    ranges: tuple[tuple[int, int], ...] | None = None
    nodes: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Commit:
    """A version whose commit record is durable, to be published.

    Attributes:
        version: the record; its objects are what becomes ``written``.
        tickets: how many tickets the object has, by the end of the stream.
        acked: how many of them enough putters hold.
        if_match: publish only if the name's present etag is this one; ``"*"``: only if it
            holds anything; ``""``: only if it holds nothing; None: always.
        replaces: with ``if_match``: only if it holds the version with this stamp; 0: any that fits.
        post: the event that waits from then on; None: there is none.
    """

    version: Version
    tickets: int
    acked: int
    if_match: str | None = None
    replaces: int = 0
    post: Post | None = None


@dataclass(frozen=True)
class ObjectState:
    """What the coordinator knows of an object.

    Attributes:
        state: ``writing``, ``written``, ``failed`` or ``deleted``.
        tickets: total, 0 while unknown.
        acked: tickets that enough putters hold.
        key, stamp: its file and version once written; "" and 0 before.
        ranges, nodes: where its bytes may be.
        router: who writes or wrote it.
    """

    bucket: str
    object_id: str
    state: str
    tickets: int
    acked: int
    key: str
    stamp: int
    router: str
    ranges: tuple[tuple[int, int], ...]
    nodes: tuple[str, ...]


class Objects(Protocol):
    """The life of objects. Calls made in the same moment travel together."""

    def begin(self, item: Begin) -> Awaitable[None]:
        """``— → writing``. A repeated call with the same router changes nothing.

        It is on its way at once: what is asked for next travels with it. Done when awaited.

        Raises:
            ObjectGone: another router began this object.
        """
        ...

    async def progress(self, item: Progress) -> bool:
        """Note ticket totals and extend the lease. False if the object is not ``writing``."""
        ...

    def commit(self, item: Commit) -> Awaitable[Outcome]:
        """Publish a version in one atomic step; on its way as soon as it is called.

        Counts complete? Condition holds? Quota not exceeded? Stamp above the name's last? Then
        ``writing → written``, the name holds the version, and what it held before is
        ``deleted``, to be freed after the grace time.

        A version without objects needs no `begin`. An object that was superseded becomes
        ``deleted`` at once. A repeated call for a published version is ``PUBLISHED``.
        """
        ...

    async def fail(self, bucket: str, object_id: str) -> bool:
        """``writing → failed``. False if it was not ``writing`` (or failed already)."""
        ...

    async def get(self, object_id: str) -> ObjectState | None:
        """Look an object up in all buckets."""
        ...

    async def stale(self, limit: int) -> list[ObjectState]:
        """Objects still ``writing`` although their lease ran out, oldest first."""
        ...

    async def to_free(self, limit: int) -> list[ObjectState]:
        """Objects ``failed`` or ``deleted`` whose grace time is over and that nobody reads."""
        ...

    async def postpone(self, bucket: str, object_id: str, delay_ms: int) -> None:
        """Leave a ``failed`` or ``deleted`` object out of `to_free` for so long."""
        ...

    async def forget(self, bucket: str, object_id: str) -> None:
        """Remove what is left of a ``failed`` or ``deleted`` object."""
        ...

    async def hold(self, bucket: str, object_id: str, reader: str, lease_ms: int) -> bool:
        """Keep a written object's bytes while ``reader`` reads them; repeat it to extend.

        False if the object is not ``written`` or ``deleted`` any more, or if its grace time is
        over and nobody else holds it: its bytes may be gone.
        """
        ...

    async def release(self, bucket: str, object_id: str, reader: str) -> None:
        """The reader is done."""
        ...


class Entry(msgspec.Struct, frozen=True):
    """One line of a listing."""

    key: str
    size: int
    etag: str
    stamp: int
    created_ms: int


@dataclass(frozen=True)
class Page:
    """A part of a listing, keys in the order of their UTF-8 bytes.

    Attributes:
        entries: what matched.
        next_after: pass as ``after`` for the next page; None at the end.
    """

    entries: tuple[Entry, ...]
    next_after: str | None


class Files(Protocol):
    """Names and what they hold."""

    async def resolve(
        self, bucket: str, key: str, patience_ms: int | None = None
    ) -> Version | None:
        """The version the name holds now, or None; it may be of the bucket of versions.

        Args:
            bucket: bucket name.
            key: key.
            patience_ms: how long to wait for the coordinator; as all calls do, if None.
        """
        ...

    async def delete(
        self, tombstone: Tombstone, post: Post | None = None, guard: Guard = UNGUARDED
    ) -> Outcome:
        """One atomic step: the name holds nothing, what it held is ``deleted``, an event waits.

        ``PUBLISHED``, ``SUPERSEDED`` (a newer version stays) or ``ABSENT``. Unless a newer version
        stays, an older one that is committed later is ``SUPERSEDED``, as after a rebuild.

        A tombstone of one version alone deletes that one, and ends a claim of the name, or is
        ``REFUSED``: the name holds something else, or nothing, or the version has another rank
        than the guard wants; nothing changed. A version whose lock keeps it is ``LOCKED``. An event
        waits only of what was there to delete.
        """
        ...

    async def list(self, bucket: str, prefix: str, after: str, limit: int) -> Page:
        """Names that start with ``prefix`` and sort behind ``after`` ("" = from the start).

        1 ≤ limit ≤ `common.limits.LIST_PAGE_MAX`; a page may have fewer entries and still not be
        the last. The cost depends on the page, not the bucket.
        """
        ...

    async def buckets(self) -> builtins.list[str]:
        """All buckets that ever held a file, sorted."""
        ...


class Metadata(Protocol):
    """The coordinator as a whole."""

    @property
    def counters(self) -> Counters:
        """Numbers."""
        ...

    @property
    def objects(self) -> Objects:
        """Objects."""
        ...

    @property
    def announcements(self) -> Announcements:
        """Objects that may come."""
        ...

    @property
    def files(self) -> Files:
        """Names."""
        ...

    @property
    def buckets(self) -> Buckets:
        """Buckets and their settings."""
        ...

    @property
    def versions(self) -> Versions:
        """Versions of names."""
        ...

    @property
    def access(self) -> Access:
        """Access keys."""
        ...

    @property
    def claims(self) -> Claims:
        """Names that conditional writes claim."""
        ...

    @property
    def repairs(self) -> Repairs:
        """What putters lack, and what they hold too much."""
        ...

    @property
    def handoff(self) -> HandOff:
        """Records that putters missed."""
        ...

    @property
    def outbox(self) -> Outbox:
        """Events that wait."""
        ...

    @property
    def members(self) -> Members:
        """Members."""
        ...

    @property
    def leases(self) -> Leases:
        """Leases."""
        ...

    @property
    def recovery(self) -> Recovery:
        """Bringing it up to date."""
        ...

    @property
    def lapses(self) -> int:
        """How often a call found the coordinator away, in another run, or refusing."""
        ...

    async def ping(self) -> None:
        """Return when the coordinator answers."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...
