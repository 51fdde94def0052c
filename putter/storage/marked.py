"""An engine that knows what is damaged in it: reads of that are refused, writes replace it.

A wrapper around any engine. Marks (`putter.storage.damage`) are set by whoever verifies, kept in a
note, and become durable with the next sync; losing them costs only the time to find it all again.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from common.digests import Entries, Grid, Leaves, Space
from common.errors import ChecksumMismatch, PutterError
from common.limits import FRAME_HEADER_BYTES
from common.meta.interface import Ceilings
from common.tickets import format_id
from common.wire.frames import Statuses
from common.wire.status import Status
from putter.storage.damage import Damage, Mark
from putter.storage.engine import (
    Capacity,
    Engine,
    NumberedRecord,
    Piece,
    Record,
    Run,
    TicketInfo,
    Upkeep,
)
from putter.storage.holdings import Holdings
from putter.storage.located import Located
from putter.storage.notes import Notes
from putter.storage.scrub import Check, Finding, Part, Scrubbed

DAMAGE: Final = "damage"

_log = logging.getLogger(__name__)


class MarkedEngine:
    """`putter.storage.engine.Engine`, with marks.

    Args:
        engine: that keeps everything.
        notes: keeps the marks.
        damage: the marks.
        check: tells what is whole, before a mark is made or taken away.

    Attributes:
        pass_number: of the pass under way, or else of the last one; set by whoever makes it.
    """

    def __init__(self, engine: Engine, notes: Notes, damage: Damage, check: Check) -> None:
        self.damage: Final = damage
        self.notes: Final = notes
        self.pass_number = max((mark.seen for mark in damage), default=0)
        self._engine = engine
        self._check = check
        self._closed = False

    @property
    def layout(self) -> str:
        """Of the engine."""
        return self._engine.layout

    @property
    def identity(self) -> str:
        """The node's identity."""
        return self._engine.identity

    # -- marks -----------------------------------------------------------------------------

    def mark(self, findings: Iterable[Finding]) -> list[Finding]:
        """Make again what can be, and mark what is still damaged; durable after `sync`.

        Returns:
            The findings that turned out to be true; those that were mended say so.
        """
        true: list[Finding] = []
        for finding in findings:
            if finding.of_tickets:
                true += self._looked_at(finding.first, finding.end, raw=finding.raw)
            else:
                true.append(self._mended(finding))
        for finding in true:
            if not finding.mended and self.damage.add(finding, self.pass_number):
                _log.error("damaged: %s", finding)
        return true

    def look_again(self, marks: Sequence[Mark]) -> None:
        """Verify marked tickets anew, and keep only the marks of what is damaged."""
        for mark in marks:
            if mark.finding.of_tickets:
                self._renew(mark)

    def save_damage(self) -> None:
        """Keep the marks durably, if they changed.

        Raises:
            NoSpace, StorageError: the marks before are kept.
        """
        if self.damage.dirty:
            self.damage.dirty = False  # before: a change that comes meanwhile is not overlooked
            try:
                self.notes.save(DAMAGE, self.damage.encode())
            except PutterError:
                self.damage.dirty = True
                raise

    def _renew(self, mark: Mark) -> None:
        found = self._looked_at(mark.first, mark.end, raw=mark.finding.raw)
        self.damage.clear(mark.first, mark.end, raw=mark.finding.raw)
        for finding in found:
            if not finding.mended:
                self.damage.add(finding, mark.seen)

    def _looked_at(self, first: int, end: int, *, raw: bool) -> list[Finding]:
        """What is damaged of some tickets, once what tells where they lie was mended."""
        found = self._engine.inspect(first, end - first, self._check, raw=raw)
        others = [self._mended(each) for each in found if not each.of_tickets]
        if any(each.mended for each in others):
            again = self._engine.inspect(first, end - first, self._check, raw=raw)
            found = [*others, *(each for each in again if each.of_tickets)]
        return found

    def _mended(self, finding: Finding) -> Finding:
        """The same; what could be made again says so."""
        try:
            if not self._engine.mend(finding):
                return finding
        except PutterError as error:
            _log.warning("not mended now: %s: %s", finding, error)
            return finding
        _log.warning("damaged, and made again: %s", finding)
        return replace(finding, mended=True)

    # -- the engine ------------------------------------------------------------------------

    def put(self, run: Run, *, raw: bool = False) -> Statuses:
        """Write a run; damaged tickets of the same object are written anew."""
        count = -(-len(run.frames) // (run.frame_bytes + FRAME_HEADER_BYTES))
        marks = self.damage.within(run.first, run.first + count, raw=raw)
        marks = [mark for mark in marks if mark.finding.object_id in (run.object_id, "")]
        if not marks:
            return self._engine.put(run, raw=raw)
        if self._engine.capacity().free_bytes < 2 * len(run.frames):
            return np.full(count, Status.NO_SPACE, np.uint8)
        owners = None if raw else {run.object_id}
        for mark in marks:
            self._engine.free([(mark.first, mark.end - mark.first)], raw=raw, objects=owners)
        statuses = self._engine.put(run, raw=raw)
        for mark in marks:
            self._renew(mark)
        return statuses

    def put_record(self, record: Record) -> int:
        """Keep a commit record and number it."""
        return self._engine.put_record(record)

    def sync(self) -> None:
        """Make everything durable; marks, too, if there is room for them."""
        self._engine.sync()
        if self.damage.dirty:
            try:
                self.save_damage()
            except PutterError as error:
                self.damage.dirty = False  # the next mark, or the next pass, tries again
                _log.warning("the list of damages is not kept now: %s", error)

    def read(self, first: int, count: int, *, raw: bool = False) -> Iterator[Piece]:
        """The stored tickets of a range, up to the first that is marked.

        Raises:
            ChecksumMismatch: at a ticket that is marked as damaged.
        """
        at, end = first, first + count
        for mark in self.damage.within(first, end, raw=raw):
            if mark.finding.part is not Part.TICKETS:
                continue
            if at < mark.first:
                yield from self._engine.read(at, mark.first - at, raw=raw)
            at = mark.first
            if self.damage.within(at, at + 1, raw=raw):
                raise ChecksumMismatch(
                    f"ticket {format_id(at)} of object {mark.finding.object_id or 'unknown'} "
                    f"is damaged on this node ({mark.finding.place})"
                )
        yield from self._engine.read(at, end - at, raw=raw)

    def locate(self, first: int, count: int, limit: int) -> Located:
        """Where tickets lie that are not marked."""
        found = self._engine.locate(first, count, limit)
        whole = tuple(
            each
            for each in found.locations
            if not self.damage.within(each.first, each.first + each.count, raw=False)
        )
        return Located(whole, found.until)

    def stat(self, ticket: int, *, raw: bool = False) -> TicketInfo | None:
        """What is known of one ticket, or None."""
        marks = self.damage.within(ticket, ticket + 1, raw=raw)
        if not marks:
            return self._engine.stat(ticket, raw=raw)
        try:
            info = self._engine.stat(ticket, raw=raw)
        except PutterError:
            info = None  # what describes it is damaged
        if info is None:
            return TicketInfo(0, b"", marks[0].finding.object_id, "", damaged=True)
        return replace(info, damaged=True)

    def free(
        self,
        ranges: Sequence[tuple[int, int]],
        *,
        raw: bool = False,
        objects: Collection[str] | None = None,
    ) -> int:
        """Remove tickets; their marks go with them."""
        removed = self._engine.free(ranges, raw=raw, objects=objects)
        for first, count in ranges:
            for mark in self.damage.within(first, first + count, raw=raw):
                self._renew(mark)
        return removed

    def records(self, after: int, limit: int) -> list[NumberedRecord]:
        """At most ``limit`` records with numbers above ``after``."""
        return self._engine.records(after, limit)

    @property
    def last_number(self) -> int:
        """The highest number that was given to a record so far."""
        return self._engine.last_number

    def find_record(self, object_id: str) -> NumberedRecord | None:
        """The record that commits this object, or None."""
        return self._engine.find_record(object_id)

    def drop_records(self, object_ids: Sequence[str]) -> int:
        """Remove records; their marks go with them."""
        dropped = self._engine.drop_records(object_ids)
        if self.damage.others:
            self.damage.clear_records(frozenset(object_ids) - {""})
        return dropped

    def raise_ceilings(self, ceilings: Ceilings) -> Ceilings:
        """Lift the ceilings."""
        return self._engine.raise_ceilings(ceilings)

    def tend(self, budget_bytes: int) -> Upkeep:
        """Do a piece of housekeeping; what it finds damaged is marked."""
        done = self._engine.tend(budget_bytes)
        if done.findings:
            self.mark(done.findings)
        return done

    def scrub(self, cursor: str, budget_bytes: int, check: Check) -> Scrubbed:
        """Verify the next piece of everything; marks nothing."""
        return self._engine.scrub(cursor, budget_bytes, check)

    def looked_at(self, cursors: Sequence[str], first: int, count: int) -> int | None:
        """Where a pass stood before it looked at tickets."""
        return self._engine.looked_at(cursors, first, count)

    def inspect(self, first: int, count: int, check: Check, *, raw: bool = False) -> list[Finding]:
        """Verify what is stored of some tickets; marks nothing."""
        return self._engine.inspect(first, count, check, raw=raw)

    def mend(self, finding: Finding) -> bool:
        """Make again what is damaged, where that can be."""
        return self._engine.mend(finding)

    def holdings(self, cursor: str, limit: int) -> Holdings:
        """A page of all tickets but raw ones, by object."""
        return self._engine.holdings(cursor, limit)

    @property
    def record_count(self) -> int:
        """How many commit records are kept."""
        return self._engine.record_count

    def entries(self, space: Space, first: int, end: int) -> Entries:
        """What there is at the positions of a range; what is marked, too."""
        return self._engine.entries(space, first, end)

    def digests(self, grid: Grid, low: int, high: int) -> Leaves:
        """Digests of the leaves ``low … high - 1``."""
        return self._engine.digests(grid, low, high)

    def capacity(self) -> Capacity:
        """Of the disk."""
        return self._engine.capacity()

    def close(self) -> None:
        """Keep the marks, and let go of the engine and the notes; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        try:
            self.save_damage()
        except PutterError as error:
            _log.warning("the list of damages is not kept: %s", error)
        finally:
            try:
                self._engine.close()
            finally:
                self.notes.close()
