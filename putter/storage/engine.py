"""The seam to the disk: what every storage engine does.

An engine is synchronous and used from one thread at a time, except `Engine.read`,
`Engine.stat`, `Engine.locate`, `Engine.scrub`, `Engine.inspect`, `Engine.holdings`,
`Engine.entries`, `Engine.digests` and `Engine.capacity`, which other threads may call at any
moment. It keeps

* **tickets of runs**: written many at a time, in a namespace that the cluster's counters number;
* **raw tickets**: written by raw connections, in a namespace of their own;
* **commit records**: opaque bytes, numbered 1, 2, 3 … by the node;
* **ceilings**: numbers below which everything may have been given out.

Nothing is durable before `Engine.sync` returns. After a crash, what was not synced may be there
or not, ticket by ticket, but a ticket that is there is whole: its data fit its checksum.

`tests/contract/test_engine.py` is the executable form of this text.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from common.checksum import Buffer
from common.digests import Entries, Grid, Leaves, Space
from common.meta.interface import Ceilings
from common.wire.frames import Statuses
from putter.storage.holdings import Holdings
from putter.storage.located import Located
from putter.storage.scrub import Check, Finding, Scrubbed
from putter.storage.stored import Stored


@dataclass(frozen=True)
class Run:
    """Consecutive tickets of one object as they come off the wire, already verified.

    Attributes:
        first: number of the first ticket.
        frames: whole frames (`common.wire.frames`); only borrowed until `Engine.put` returns.
        frame_bytes: data bytes of every frame but the last.
        object_id: ObjectID they belong to; "" for raw tickets.
        key_id: which cluster key the checksums use.
    """

    first: int
    frames: memoryview
    frame_bytes: int
    object_id: str
    key_id: str


@dataclass(frozen=True)
class Piece:
    """Stored frames of consecutive tickets, as `Engine.read` finds them.

    Attributes:
        first: number of the first ticket.
        count: how many tickets.
        frames: whole frames, fit to be sent as they are.
        frame_bytes: data bytes of every frame but the last.
        key_id: which cluster key the checksums use.
    """

    first: int
    count: int
    frames: Buffer
    frame_bytes: int
    key_id: str


@dataclass(frozen=True)
class TicketInfo:
    """What the node knows of a stored ticket.

    Attributes:
        size: data bytes.
        checksum: 8 bytes.
        object_id: ObjectID; "" for a raw ticket.
        key_id: which cluster key the checksum uses.
        damaged: it is known that its bytes, or what describes them, are not what was written.
        run: how the run that it was written with is stored; None where tickets lie alone.
    """

    size: int
    checksum: bytes
    object_id: str
    key_id: str
    damaged: bool = False
    run: Stored | None = None


@dataclass(frozen=True)
class Record:
    """A commit record to be kept.

    Attributes:
        stamp: the change's stamp; one record a stamp on each node.
        object_id: the object that it commits; "" if none.
        body: the encoded record (`common.records`).
    """

    stamp: int
    object_id: str
    body: bytes


@dataclass(frozen=True)
class NumberedRecord:
    """A record with the number that this node gave it."""

    number: int
    record: Record


@dataclass(frozen=True)
class Capacity:
    """Of the disk below the engine: all of it, and what a new ticket may still use."""

    total_bytes: int
    free_bytes: int


@dataclass(frozen=True)
class Upkeep:
    """What a piece of housekeeping did.

    Attributes:
        copied_bytes: that were written anew.
        freed_bytes: that the disk got back.
        more: there is more to do, after the next sync.
        findings: what turned out to be damaged; it stays where it is.
    """

    copied_bytes: int
    freed_bytes: int
    more: bool
    findings: tuple[Finding, ...] = ()


class Engine(Protocol):
    """One node's disk."""

    @property
    def layout(self) -> str:
        """The name of the layout: ``memory``, ``tree``, ``segments``."""
        ...

    @property
    def identity(self) -> str:
        """The node's identity, as the data directory keeps it: 12 hex digits."""
        ...

    def put(self, run: Run, *, raw: bool = False) -> Statuses:
        """Write a run, ticket by ticket all or nothing.

        Returns:
            uint8, one status a ticket: ``WRITTEN`` also where the ticket already holds these
            very bytes (same checksum, same size), ``TICKET_TAKEN`` where it holds others,
            ``NO_SPACE`` or ``IO_ERROR`` where the disk refused. Durable after `sync`.
        """
        ...

    def put_record(self, record: Record) -> int:
        """Keep a commit record and number it. Durable after `sync`.

        A record with a stamp that is already kept changes nothing and gives its number. Numbers
        ascend, and one that was durable is never given again, also if its record was dropped.
        A record that survives a crash never lacks a ticket that was put before it.

        Raises:
            NoSpace, StorageError: nothing was kept.
        """
        ...

    def sync(self) -> None:
        """Make everything that `put`, `put_record`, `free` and `drop_records` did durable.

        Raises:
            StorageError: nothing since the last sync may be acknowledged; it may be put
                again.
        """
        ...

    def read(self, first: int, count: int, *, raw: bool = False) -> Iterable[Piece]:
        """The stored tickets among ``first … first + count - 1``, in order.

        Tickets that are not there are left out; the checksums are not verified here. Lazy:
        pieces are at most `common.limits.MESSAGE_PAYLOAD_BYTES_MAX` long.

        Raises:
            StorageError: the disk refused to read.
        """
        ...

    def locate(self, first: int, count: int, limit: int) -> Located:
        """Where tickets of runs lie, for others on this machine that can read the files.

        What is told was true when it was looked up: a place may hold something else later, so
        whoever reads there has to verify TicketIDs and checksums.

        Args:
            first: number of the first ticket.
            count: how many.
            limit: so many locations at the most.

        Returns:
            No location of what is missing, known to be damaged, not synced, or stored otherwise
            than as it came off the wire; none at all where the layout has no such places.
        """
        ...

    def stat(self, ticket: int, *, raw: bool = False) -> TicketInfo | None:
        """What is known of one ticket, or None."""
        ...

    def free(
        self,
        ranges: Sequence[tuple[int, int]],
        *,
        raw: bool = False,
        objects: Collection[str] | None = None,
    ) -> int:
        """Remove tickets of ``(first, count)`` ranges; absent ones do not matter.

        Args:
            ranges: of tickets.
            raw: which namespace they are of.
            objects: only tickets that were put for one of these ObjectIDs are removed, others
                stay as they are; None: whosever they are. A ticket so damaged that it tells
                no owner, and cannot be read, may go either way.

        Returns:
            How many tickets were removed. Durable after `sync`.

        Raises:
            StorageError: the disk refused; some may be removed.
        """
        ...

    def records(self, after: int, limit: int) -> list[NumberedRecord]:
        """At most ``limit`` records with numbers above ``after``, in order of their numbers."""
        ...

    @property
    def last_number(self) -> int:
        """The highest number that was given to a record so far, kept or dropped; 0 for none.

        It is durable after `sync`. Any thread may ask.
        """
        ...

    def find_record(self, object_id: str) -> NumberedRecord | None:
        """The record that commits this object, or None; the highest number if several do."""
        ...

    def drop_records(self, object_ids: Sequence[str]) -> int:
        """Remove the records that commit these objects. Durable after `sync`."""
        ...

    def raise_ceilings(self, ceilings: Ceilings) -> Ceilings:
        """Lift the ceilings to at least these; durable when it returns.

        Returns:
            The ceilings that are durable now; ``Ceilings()`` asks without lifting.

        Raises:
            NoSpace, StorageError: they may not be lifted.
        """
        ...

    def tend(self, budget_bytes: int) -> Upkeep:
        """Do a piece of housekeeping: get space back that removed things still take.

        Reads and writes go on between the pieces; a crash at any moment loses nothing.

        Args:
            budget_bytes: copy about so many.
        """
        ...

    def scrub(self, cursor: str, budget_bytes: int, check: Check) -> Scrubbed:
        """Verify the next piece of everything that is stored.

        A pass begins with the cursor "" and ends when "" comes back. It meets everything that was
        there when it began and still is; what came later it may meet. A cursor goes on in
        another process, too; one that is not understood begins a pass.

        Args:
            cursor: as the piece before gave it.
            budget_bytes: verify about so many.
            check: tells what is whole. Frames of a key that it does not hold are passed over,
                but for the sums of the layout over what is stored, where it has such.

        Returns:
            What was done. A disk that refuses to read something is a finding, no error.
        """
        ...

    def looked_at(self, cursors: Sequence[str], first: int, count: int) -> int | None:
        """When a pass looked at tickets, by where it stood meanwhile.

        Args:
            cursors: of one pass, in their order; the last may be `Scrubbed.end`.
            first: number of the first ticket.
            count: how many.

        Returns:
            How many of the cursors stood before all of these tickets: what is stored of them was
            looked at later than that. None if the pass, where it stood last, had not looked at
            all of it, if nothing is stored, or if the layout cannot tell.
        """
        ...

    def inspect(self, first: int, count: int, check: Check, *, raw: bool = False) -> list[Finding]:
        """Verify what is stored of some tickets, and say what is damaged, as `scrub` does."""
        ...

    def mend(self, finding: Finding) -> bool:
        """Make again what is damaged, where everything to do so is here, and a crash harms nothing.

        Args:
            finding: what `scrub` or `inspect` found.

        Returns:
            Whether it is whole now; False if nothing here could make it so.

        Raises:
            NoSpace, StorageError: the disk refused; it may be tried again.
        """
        ...

    def holdings(self, cursor: str, limit: int) -> Holdings:
        """A page of all tickets but raw ones, by object.

        A walk begins with the cursor "" and ends when "" comes back. It meets everything that was
        there when it began and still is; some of it perhaps twice. Tickets whose owner cannot be
        told are left out.

        Args:
            cursor: as the page before gave it; one that is not understood begins a walk.
            limit: look at about so many runs.

        Raises:
            StorageError: the disk refused.
        """
        ...

    @property
    def record_count(self) -> int:
        """How many commit records are kept; any thread may ask."""
        ...

    def entries(self, space: Space, first: int, end: int) -> Entries:
        """What there is at the positions ``first … end - 1`` of a space, in order.

        Runs of tickets are cut at both ends; raw ones are left out. What is not synced may be
        there or not. What has an ObjectID that is no number of a counter may be left out.

        Raises:
            StorageError: the disk refused.
        """
        ...

    def digests(self, grid: Grid, low: int, high: int) -> Leaves:
        """Digests of the leaves ``low … high - 1``: `common.digests.digest` of the same.

        Raises:
            StorageError: the disk refused.
        """
        ...

    def capacity(self) -> Capacity:
        """Of the disk."""
        ...

    def close(self) -> None:
        """Sync and let go of the data directory; a second call does nothing."""
        ...
