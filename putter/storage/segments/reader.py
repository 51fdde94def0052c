"""Reads what lies in the segments, for any thread; what is packed comes out plain."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final

from putter.storage.engine import NumberedRecord, Record
from putter.storage.segments.files import Files
from putter.storage.segments.formats import (
    HEADER_BYTES,
    NAME_BYTES_MAX,
    Header,
    decode_header,
    seal_of,
)
from putter.storage.segments.log import Log
from putter.storage.segments.packing import (
    DamagedBlockError,
    Layout,
    Unpacker,
)
from putter.storage.segments.places import Place, RecordPlace
from putter.storage.segments.segment import Catalog
from putter.storage.stored import COMPRESSION, ENCRYPTION, Stored

_HEADER_BYTES_MAX: Final = HEADER_BYTES + 2 * NAME_BYTES_MAX
_FRONT_BYTES: Final = 4096
"""Read at once of a packed run: as a rule its header and the whole table."""

_log = logging.getLogger(__name__)


class Reader:
    """Loads frames, headers and commit records of one engine.

    Args:
        catalog: all segments.
        files: of the data directory.
        log: the open segment, of which not all may be written.
        secret: of the directory.
        lock: of the engine; is taken here only for looks at the catalog.
        unpacker: for what is compressed or encrypted.
    """

    def __init__(
        self,
        catalog: Catalog,
        files: Files,
        log: Log,
        secret: bytes,
        lock: AbstractContextManager[object],
        unpacker: Unpacker,
    ) -> None:
        self.unpacker: Final = unpacker
        self._catalog = catalog
        self._files = files
        self._log = log
        self._secret = secret
        self._lock = lock

    def frames(self, place: Place, *, strict: bool = False) -> bytes:
        """The frames of a place, as on the wire; the segment must not go away meanwhile.

        Args:
            place: as the catalog has it.
            strict: damaged blocks of a packed run are an error. Else zeros stand for their frames,
                and a line in the log: they fit no checksum, so whoever verifies finds them.

        Raises:
            StorageError: the disk refused, or nothing of a packed run can be read.
        """
        if not place.packed:
            return self.load(place.segment, place.body, place.body_bytes)
        try:
            return self._unpacked(place, strict=strict)
        except DamagedBlockError as error:
            if strict:
                raise
            _log.error("%s", error)
            return bytes(place.body_bytes)

    def layout(self, place: Place) -> tuple[Header, Layout]:
        """The header and the table of a packed run.

        Raises:
            DamagedBlockError: one of them is damaged.
            StorageError: the disk refused.
        """
        data = self._some(place.segment, place.record, _FRONT_BYTES)
        header = decode_header(data, self._secret, place.segment)
        if header is None or not header.packed:
            raise DamagedBlockError(f"{_where(place)} has no whole header")
        front = memoryview(data)[header.body_at :]
        try:
            size = self.unpacker.front_bytes(header, front)
            if size > len(front):
                front = memoryview(self.load(place.segment, place.record + header.body_at, size))
            layout = self.unpacker.layout(header, front)
        except DamagedBlockError as error:
            raise DamagedBlockError(f"{_where(place)}: {error}") from error
        if place.body + place.body_bytes > header.number:
            raise DamagedBlockError(f"{_where(place)} is not what the index says")
        return header, layout

    def stored(self, place: Place, header: Header) -> Stored:
        """How a run lies in its segment.

        Raises:
            StorageError: that cannot be read.
        """
        if not place.packed:
            return Stored("", "", header.body_bytes, header.body_bytes)
        _, layout = self.layout(place)
        return Stored(
            COMPRESSION if layout.compressed else "",
            ENCRYPTION if layout.encrypted else "",
            header.number,
            header.body_bytes,
        )

    def header(self, number: int, at: int) -> Header | None:
        """The record at an offset of a segment; None if there is no whole header.

        Raises:
            StorageError: the disk refused.
        """
        return decode_header(self._some(number, at, _HEADER_BYTES_MAX), self._secret, number)

    def record(self, place: RecordPlace) -> NumberedRecord | None:
        """A commit record; None, and a line in the log, if it is damaged."""
        data = self._log.read(place.segment, place.record, place.length)
        if data is None:
            data = self._files.file(place.segment).read(place.record, place.length)
        header = decode_header(data, self._secret, place.segment)
        reason = "is damaged"
        if header is not None and header.number == place.number:
            body = data[header.body_at : header.body_at + header.body_bytes]
            if seal_of(self._secret, body) == header.body_sum:
                try:
                    body = self.unpacker.body(header, body)
                except DamagedBlockError as error:
                    reason = f"cannot be read ({error})"
                else:
                    return NumberedRecord(
                        place.number, Record(header.first, header.object_id, body)
                    )
        _log.error("commit record %d of this node %s and is not used", place.number, reason)
        return None

    def load(self, number: int, offset: int, length: int) -> bytes:
        """Bytes of a segment.

        Raises:
            DamagedBlockError: the segment has not so many.
            StorageError: the disk refused.
        """
        data = self._log.read(number, offset, length)
        if data is None:
            data = self._files.file(number).read(offset, length)
        if len(data) != length:
            raise DamagedBlockError(f"segment {number:016x} ends before byte {offset + length}")
        return data

    @contextmanager
    def pinned(self, number: int) -> Iterator[bool]:
        """Keep a segment's file from being used for something else; False if it is gone."""
        with self._lock:
            segment = self._catalog.segments.get(number)
            if segment is not None:
                self._files.file(number)
                segment.pins += 1
                self.trim()
        try:
            yield segment is not None
        finally:
            if segment is not None:
                with self._lock:
                    segment.pins -= 1

    def trim(self) -> None:
        """Close files that nobody needs just now. The caller holds the lock."""
        self._files.trim(self._is_pinned)

    def _unpacked(self, place: Place, *, strict: bool) -> bytes:
        header, layout = self.layout(place)
        step = layout.block_bytes
        wanted = range(place.body // step, -(-(place.body + place.body_bytes) // step))
        first, last = layout.blocks[wanted.start], layout.blocks[wanted.stop - 1]
        at = place.record + header.body_at + first.at
        stored = self.load(place.segment, at, last.at + last.length - first.at)
        pieces: list[bytes] = []
        found = self.unpacker.blocks(header, layout, wanted, stored)
        for number, piece in zip(wanted, found, strict=True):
            if not isinstance(piece, DamagedBlockError):
                pieces.append(piece)
                continue
            error = DamagedBlockError(f"{_where(place)}: {piece}")
            if strict:
                raise error from piece
            _log.error("%s", error)
            pieces.append(bytes(layout.blocks[number].plain))
        if len(pieces) == 1 and len(pieces[0]) == place.body_bytes:
            return pieces[0]
        low = place.body - wanted.start * step
        return b"".join(pieces)[low : low + place.body_bytes]

    def _is_pinned(self, number: int) -> bool:
        segment = self._catalog.segments.get(number)
        return number == self._log.number or (segment is not None and segment.pins > 0)

    def _some(self, number: int, at: int, length: int) -> bytes:
        """So many bytes of a segment, or fewer at its end."""
        with self._lock:
            limit = self._log.end if number == self._log.number else None
        if limit is not None:
            return self.load(number, at, min(length, limit - at))
        return self._files.file(number).read(at, length)


def _where(place: Place) -> str:
    return f"the run at byte {place.record} of segment {place.segment:016x}"
