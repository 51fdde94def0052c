"""Commit records in the tree: ``commits/``, one file a record, by number."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from putter.storage.disk import Disk
from putter.storage.engine import NumberedRecord, Record
from putter.storage.record_index import RecordIndex
from putter.storage.tree.formats import decode_record, encode_record
from putter.storage.tree.paths import numbers_below, pairs
from putter.storage.tree.staging import Staging

ROOT: Final = "commits"
RECORD: Final = "record"

_log = logging.getLogger(__name__)


class RecordTree:
    """The commit records of a node, indexed in memory by a scan at start.

    A damaged record is never given out: it is logged and its number listed in `damaged`; its
    other replicas serve.

    Attributes:
        damaged: numbers of the records whose files were found damaged.
    """

    def __init__(self, disk: Disk, staging: Staging, last_number: int) -> None:
        """Scan the records.

        Args:
            disk: where they are.
            staging: for what is written.
            last_number: a number that no new record may be at or below.
        """
        self._disk = disk
        self._staging = staging
        self._index = RecordIndex()
        self._staged: dict[int, tuple[NumberedRecord, str]] = {}
        self._dropped: list[int] = []
        self._last_number = last_number
        self.damaged: set[int] = set()
        staging.make_directory(ROOT)
        self._scan()

    @property
    def last_number(self) -> int:
        """The highest number that was given to a record so far."""
        return self._last_number

    @property
    def last_is_dropped(self) -> bool:
        """Whether the files alone would not tell the highest number after the next sync."""
        return bool(self._dropped) and self._last_number not in self._index

    def put(self, record: Record) -> int:
        """Stage a record, unless there is one with its stamp."""
        number = self._index.with_stamp(record.stamp)
        if number is not None:
            return number
        numbered = NumberedRecord(self._last_number + 1, record)
        directory = record_directory(numbered.number)
        self._staging.make_directory(directory)
        temporary = self._staging.write(encode_record(numbered))
        self._last_number += 1
        self._staged[numbered.number] = (numbered, temporary)
        self._index.add(numbered.number, record.stamp, record.object_id)
        return numbered.number

    def after(self, number: int, limit: int) -> list[NumberedRecord]:
        """At most ``limit`` records with numbers above this one, in order."""
        found: list[NumberedRecord] = []
        for candidate in self._index.after(number):
            if len(found) >= limit:
                break
            numbered = self._load(candidate)
            if numbered is not None:
                found.append(numbered)
        return found

    def of_object(self, object_id: str) -> NumberedRecord | None:
        """The record with the highest number that commits this object, or None."""
        for number in reversed(self._index.of_object(object_id)):
            numbered = self._load(number)
            if numbered is not None:
                return numbered
        return None

    @property
    def index(self) -> RecordIndex:
        """Which record has which number."""
        return self._index

    def drop(self, object_ids: Sequence[str]) -> int:
        """Forget the records that commit these objects; their files go at the next sync."""
        numbers = [number for name in set(object_ids) for number in self._index.of_object(name)]
        for number in numbers:
            self._index.remove(number)
            staged = self._staged.pop(number, None)
            if staged is not None:
                self._staging.discard((staged[1],))
            self._dropped.append(number)
        return len(numbers)

    def place(self) -> None:
        """Give the staged records their names and remove the dropped ones."""
        for number, (_, temporary) in list(self._staged.items()):
            self._staging.place(temporary, f"{record_directory(number)}/{RECORD}")
            del self._staged[number]
        directories = [record_directory(number) for number in self._dropped]
        for directory in directories:
            if self._disk.unlink(f"{directory}/{RECORD}"):
                self._staging.note(directory)
        self._staging.prune(directories, ROOT)
        self._dropped.clear()

    def abandon(self) -> None:
        """After a failure: give up the staged records that have no name yet."""
        for number, (_, temporary) in self._staged.items():
            self._staging.discard((temporary,))
            self._index.remove(number)
        self._staged.clear()

    def _scan(self) -> None:
        for number, directory in sorted(numbers_below(self._disk.names, ROOT)):
            data = self._disk.read(f"{directory}/{RECORD}")
            if data is None:
                continue
            self._last_number = max(self._last_number, number)
            numbered = self._checked(number, data)
            if numbered is not None:
                self._index.add(number, numbered.record.stamp, numbered.record.object_id)

    def _load(self, number: int) -> NumberedRecord | None:
        staged = self._staged.get(number)
        if staged is not None:
            return staged[0]
        return self._checked(number, self._disk.read(f"{record_directory(number)}/{RECORD}") or b"")

    def _checked(self, number: int, data: bytes) -> NumberedRecord | None:
        numbered = decode_record(data)
        if numbered is not None and numbered.number == number:
            return numbered
        if number not in self.damaged:
            self.damaged.add(number)
            _log.error("commit record %d of this node is damaged and is not used", number)
        return None


def record_directory(number: int) -> str:
    """Where a record's file is."""
    return f"{ROOT}/{pairs(str(number))}"
