"""Which data keys the records on the disk still name: the others can go.

Gathered in the course of a pass over all segments, from every record that stands there, also from
those that were removed. Old keys are removed only after a pass that this process made
from its beginning to its end, that met every segment file and could read all of it. What is written
meanwhile has the writing key; what compaction copies with an old one, it notes.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Final

from common.errors import PutterError, StorageError
from putter.storage.block_file import BLOCK_BYTES
from putter.storage.envelope import KeyFiles
from putter.storage.segments.files import Files
from putter.storage.segments.packing import HEAD_BYTES, data_key_of
from putter.storage.segments.scan import Gap, scan

_log = logging.getLogger(__name__)


class KeyUse:
    """What a pass has seen of data keys.

    Args:
        key_files: with the keys; None if there are none.
        files: of the data directory.
        secret: of the directory.
        copied: ids in records that compaction copied as they were; it grows.
    """

    def __init__(
        self, key_files: KeyFiles | None, files: Files, secret: bytes, copied: Collection[bytes]
    ) -> None:
        self.files: Final = key_files
        self._segments: Final = files
        self._secret: Final = secret
        self._copied: Final = copied
        self._seen: set[bytes] = set()
        self._met: set[int] = set()
        self._next: str | None = None
        self._complete = False

    def go_on(self, cursor: str) -> None:
        """A piece of a pass begins; one that was begun by another process is not complete."""
        if not cursor:
            self._seen, self._met, self._complete = set(), set(), True
        elif cursor != self._next:
            self._complete = False

    def look(self, number: int, end: int) -> None:
        """Read the headers of a segment, if that can make a key superfluous.

        Args:
            number: of the segment.
            end: behind its last record, or before that.
        """
        if self.files is None or not self._complete or not self.files.old_ids:
            return
        try:
            file, at = self._segments.file(number), BLOCK_BYTES
            for each in scan(file.read, file.size, number, self._secret):
                if isinstance(each, Gap):
                    self._complete = False
                    continue
                at = each.at + each.header.length
                if each.header.packed:
                    head = file.read(each.at + each.header.body_at, HEAD_BYTES)
                    self._seen.add(data_key_of(head))
            self._complete = self._complete and at >= end
        except StorageError as error:
            self._complete = False
            _log.warning("no data key is removed after this pass: %s", error)
        self._met.add(number)

    def stop(self, cursor: str, last: int) -> None:
        """A piece has ended.

        Args:
            cursor: where the pass goes on; "" at its end, when old keys that nothing names go.
            last: number of the newest segment when the pass began.
        """
        self._next = cursor
        if cursor or not self._complete or self.files is None or not self.files.old_ids:
            return
        try:
            there = {number for number in self._segments.listed() if number <= last}
            if there <= self._met:
                for key in self.files.prune({*self._seen, *self._copied}):
                    _log.info("data key %s is removed: no record names it any more", key.hex())
        except PutterError as error:
            _log.warning("data keys that nothing needs are not removed now: %s", error)
