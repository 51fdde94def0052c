"""Verifies the tree file by file: marks by their sums, data by its checksum, commit records."""

from __future__ import annotations

from itertools import islice
from typing import Final

from common.errors import StorageError
from common.tickets import TICKETS_MAX, encode_field
from putter.storage.disk import Disk
from putter.storage.scrub import (
    Check,
    Finding,
    Gathered,
    Part,
    Scrubbed,
    Stage,
    cursor_of,
    numbers_of,
)
from putter.storage.tree.formats import CEILINGS, Sum, decode_ceilings, decode_record
from putter.storage.tree.paths import numbers_within, ticket_directory, tickets_within
from putter.storage.tree.records import RECORD, record_directory
from putter.storage.tree.records import ROOT as RECORDS
from putter.storage.tree.tickets import DATA, MARK

_AT_ONCE: Final = 64


class TreeScrub:
    """Looks at files; any thread may use it.

    Args:
        disk: where the tree is.
        tickets: directory of the tickets.
        raw: directory of the raw tickets.
    """

    def __init__(self, disk: Disk, tickets: str, raw: str) -> None:
        self._disk = disk
        self._roots = {False: tickets, True: raw}

    def step(self, cursor: str, budget_bytes: int, check: Check) -> Scrubbed:
        """The next piece of a pass; see `putter.storage.engine.Engine.scrub`."""
        stage, at = numbers_of(cursor, 2)
        piece = Gathered(budget_bytes)
        if (stage, at) == (Stage.TICKETS, 0):
            self._ceilings(piece)
        while not piece.full and stage < Stage.END:
            try:
                if stage == Stage.RECORDS:
                    reached = self._some_records(at, check, piece)
                else:
                    reached = self._some_tickets(at, check, piece, raw=stage == Stage.RAW)
            except StorageError as error:  # a directory: what is behind it cannot be reached
                where = RECORDS if stage == Stage.RECORDS else self._roots[stage == Stage.RAW]
                piece.add(0, Finding(Part.INDEX, 0, 0, "", where, str(error)))
                reached = None
            stage, at = (stage + 1, 0) if reached is None else (stage, reached)
        return piece.done(cursor_of(stage, at) if stage < Stage.END else "", None)

    def inspect(self, first: int, count: int, check: Check, *, raw: bool) -> list[Finding]:
        """What is damaged of some tickets."""
        found = []
        for ticket in tickets_within(self._disk.names, self._roots[raw], first, count):
            found += self._ticket(ticket, check, raw=raw)[1]
        return found

    def _ceilings(self, piece: Gathered) -> None:
        try:
            data = self._disk.read(CEILINGS)
            reason = ""
            if data is not None and decode_ceilings(data) is None:
                reason = "it is damaged"
        except StorageError as error:
            reason = str(error)
        if reason:
            piece.findings.append(Finding(Part.STATE, 0, 0, "", CEILINGS, reason))

    def _some_tickets(self, first: int, check: Check, piece: Gathered, *, raw: bool) -> int | None:
        root = self._roots[raw]
        reached = None
        for ticket in islice(
            tickets_within(self._disk.names, root, first, TICKETS_MAX - first), _AT_ONCE
        ):
            size, findings = self._ticket(ticket, check, raw=raw)
            piece.add(size, *findings)
            reached = ticket + 1
            if piece.full:
                break
        return reached

    def _ticket(self, ticket: int, check: Check, *, raw: bool) -> tuple[int, list[Finding]]:
        """Bytes that were read, and what is wrong with a ticket, if it is stored at all."""
        directory = ticket_directory(self._roots[raw], ticket)
        size, object_id, reason = 0, "", ""
        try:
            mark = self._disk.read(f"{directory}/{MARK}")
            if mark is None:
                return 0, []
            entry = Sum.decode(mark)
            size = len(mark)
            if entry is None or entry.ticket != ticket:
                reason = f"the file {MARK!r} is damaged"
            else:
                object_id = entry.object_id
                data = self._disk.read(f"{directory}/{DATA}")
                size += len(data or b"")
                reason = _trouble(entry, data, check)
            if reason and self._disk.read(f"{directory}/{MARK}") is None:
                return size, []  # it is just being freed
        except StorageError as error:
            reason = str(error)
        if not reason:
            return size, []
        return size, [Finding(Part.TICKETS, ticket, 1, object_id, directory, reason, raw)]

    def _some_records(self, after: int, check: Check, piece: Gathered) -> int | None:
        reached = None
        for number in islice(numbers_within(self._disk.names, RECORDS, after), _AT_ONCE):
            reached = number
            path = f"{record_directory(number)}/{RECORD}"
            object_id = reason = ""
            size = 0
            try:
                data = self._disk.read(path)
                if data is None:
                    continue
                size = len(data)
                numbered = decode_record(data)
                if numbered is None or numbered.number != number:
                    reason = "the file is damaged"
                else:
                    object_id = numbered.record.object_id
                    if not check.record(numbered.record.body):
                        reason = "it makes no sense"
            except StorageError as error:
                reason = str(error)
            piece.add(size)
            if reason:
                piece.findings.append(Finding(Part.RECORD, number, 1, object_id, path, reason))
            if piece.full:
                break
        return reached


def _trouble(entry: Sum, data: bytes | None, check: Check) -> str:
    """What is wrong with the data of a ticket; "" if nothing is."""
    if data is None:
        return f"the file {DATA!r} is missing"
    if len(data) != entry.size:
        return f"the file {DATA!r} has {len(data)} bytes, not {entry.size}"
    row = encode_field(entry.ticket) + entry.checksum + data
    statuses = check.frames(entry.key_id, entry.ticket, max(1, entry.size), row)
    if statuses is not None and statuses.any():
        return "the data does not fit its checksum"
    return ""
