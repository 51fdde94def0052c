"""From a segment's log to the index of what is in it, whatever happened to the file.

What was synced counts, and where it is damaged, that is told. The last commit may be torn instead:
if nothing says that it was synced, its bodies are verified, too, and it ends where the first damage
is. Whatever lies behind that was never acknowledged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from common.tickets import object_key
from putter.storage.block_file import BLOCK_BYTES, BlockFile
from putter.storage.segments.formats import (
    HEADER_BYTES,
    Header,
    Kind,
    SegmentHead,
    aligned,
    decode_pairs,
    seal_of,
)
from putter.storage.segments.open_index import OpenIndex
from putter.storage.segments.packing import Unpacker
from putter.storage.segments.places import Place, RecordPlace, Removal
from putter.storage.segments.scan import Found, Gap, scan

Verify = Callable[[str, int, int, bytes], bool | None]
"""``verify(key_id, first, frame_bytes, frames)``: whether all frames fit; None: no such key."""
_NO_KEYS: Final[dict[bytes, bytes]] = {}


@dataclass
class Replayed:
    """What a segment holds.

    Attributes:
        index: of its records.
        stop: behind the last of them.
        promised: nothing says that what lies behind it was synced.
        torn_at: where a commit that nobody was promised is cut off; None if none is.
        torn_bytes: of it that were found.
        lost: one line for each thing that is damaged.
        sequence: above those of all records that were seen, or may have been there.
        record_number: the same of the commit records' numbers.
        epoch: the highest that was seen.
    """

    index: OpenIndex = field(default_factory=OpenIndex)
    stop: int = BLOCK_BYTES
    promised: int = BLOCK_BYTES
    torn_at: int | None = None
    torn_bytes: int = 0
    lost: list[str] = field(default_factory=list)
    sequence: int = 0
    record_number: int = 1
    epoch: int = 0


def replay(
    file: BlockFile,
    number: int,
    head: SegmentHead | None,
    secret: bytes,
    verify: Verify,
    *,
    synced: int,
    end: int | None = None,
) -> Replayed:
    """Read a segment.

    Args:
        file: the segment.
        number: of the segment.
        head: what its first block says; None if that is damaged.
        secret: of the directory.
        verify: checks the frames of runs.
        synced: everything before it was synced.
        end: where its last commit ends, if that is known.

    Raises:
        StorageError: the disk refused to read.
    """
    return _Replay(file, number, secret, verify).run(head, synced, end)


def load_body(file: BlockFile, at: int, header: Header) -> bytes:
    """The body of a record."""
    return file.read(at + header.body_at, header.body_bytes)


def body_is_whole(body: bytes, header: Header, secret: bytes, verify: Verify) -> bool:
    """Whether a record's body is what was written; a plain run without its key is believed."""
    if len(body) != header.body_bytes:
        return False
    if header.kind == Kind.RUN and header.packed:
        return Unpacker(_NO_KEYS, secret).is_whole(header, body)
    if header.kind == Kind.RUN:
        return verify(header.key_id, header.first, header.frame_bytes, body) is not False
    return seal_of(secret, body) == header.body_sum


class _Replay:
    def __init__(self, file: BlockFile, number: int, secret: bytes, verify: Verify) -> None:
        self._file: Final = file
        self._number: Final = number
        self._secret: Final = secret
        self._verify: Final = verify
        self._done: Final = Replayed()

    def run(self, head: SegmentHead | None, synced: int, end: int | None) -> Replayed:
        done, file = self._done, self._file
        size = file.size if end is None else min(file.size, end)
        found = list(scan(file.read, size, self._number, self._secret))
        records = [each for each in found if isinstance(each, Found)]
        commits = [each.header.commit * BLOCK_BYTES for each in records]
        promised = done.promised = max([aligned(synced, BLOCK_BYTES), *commits])
        order = _Order(head)
        for each in found:
            if isinstance(each, Gap):
                if each.end > promised:
                    if each.at < synced or aligned(each.at, BLOCK_BYTES) < promised:
                        self._lose(each.at, promised)
                    done.torn_at = max(each.at, promised)
                    break
                self._lose(each.at, each.end)
                continue
            if each.at >= promised and not self._is_whole(each):
                done.torn_at = each.at
                break
            missing = order.missing_before(each.header)
            if missing and not each.after_gap:
                done.lost.append(
                    f"{missing} records before byte {each.at} of segment {self._number:016x} "
                    "are damaged and lost here"
                )
            self._take(each)
        if done.torn_at is None and done.stop < synced:
            self._lose(done.stop, synced)
        self._note(records)
        return done

    def _take(self, found: Found) -> None:
        header, at, index = found.header, found.at, self._done.index
        if header.kind == Kind.RUN:
            place = run_place(self._number, at, header)
            index.free(place.first, place.end, raw=header.raw)  # a second copy counts
            index.add_run(place, raw=header.raw)
        elif header.kind == Kind.COMMIT:
            index.add_record(record_place(self._number, at, header))
        elif header.kind in (Kind.FREED, Kind.DROPPED):
            body = load_body(self._file, at, header)
            if body_is_whole(body, header, self._secret, self._verify):
                removal = removal_of(self._number, at, header, body)
                index.add_removal(removal)
            else:
                self._done.lost.append(
                    f"a removal at byte {at} of segment {self._number:016x} is damaged: "
                    "what it freed may be back"
                )
        self._done.stop = at + header.length

    def _is_whole(self, found: Found) -> bool:
        body = load_body(self._file, found.at, found.header)
        return body_is_whole(body, found.header, self._secret, self._verify)

    def _lose(self, at: int, end: int) -> None:
        self._done.lost.append(
            f"bytes {at} to {end} of segment {self._number:016x} are damaged: "
            "the records there are lost here"
        )
        # As many as there may have been: none of their numbers is given again.
        self._done.sequence += (end - at) // HEADER_BYTES
        self._done.record_number += (end - at) // HEADER_BYTES

    def _note(self, records: Sequence[Found]) -> None:
        """Numbers were given also to what is cut off."""
        done = self._done
        headers = [each.header for each in records]
        done.sequence += max([each.sequence + 1 for each in headers], default=0)
        done.record_number += max(
            [each.number for each in headers if each.kind == Kind.COMMIT], default=0
        )
        done.epoch = max([each.epoch for each in headers], default=0)
        if done.torn_at is not None:
            ends = [each.at + each.header.length for each in records]
            done.torn_bytes = max([done.torn_at, *ends]) - done.torn_at


class _Order:
    """Sequence numbers: in one segment and epoch, each record takes one, copies included."""

    def __init__(self, head: SegmentHead | None) -> None:
        self._next = 0 if head is None else head.sequence
        self._epoch = -1 if head is None else head.epoch

    def missing_before(self, header: Header) -> int:
        """How many records are missing between the last one and this."""
        is_copy = header.sequence < self._next
        missing = 0
        if header.epoch == self._epoch and not is_copy:
            missing = header.sequence - self._next
        if header.epoch == self._epoch or not is_copy:
            self._epoch = header.epoch
            self._next = max(self._next, header.sequence) + 1
        return missing


def run_place(segment: int, at: int, header: Header) -> Place:
    """Where a run lies."""
    return Place(
        segment,
        at,
        header.length,
        header.first,
        header.count,
        0 if header.packed else at + header.body_at,
        header.number if header.packed else header.body_bytes,
        header.frame_bytes,
        header.sequence,
        object_key(header.object_id),
        header.key_id,
        header.packed,
    )


def record_place(segment: int, at: int, header: Header) -> RecordPlace:
    """Where a commit record lies."""
    key = object_key(header.object_id)
    return RecordPlace(
        segment, at, header.length, header.number, header.first, key, header.sequence
    )


def removal_of(segment: int, at: int, header: Header, body: bytes) -> Removal:
    """What a removal says."""
    return Removal(
        segment,
        at,
        header.length,
        header.sequence,
        header.raw,
        tuple(decode_pairs(body)),
        dropped=header.kind == Kind.DROPPED,
    )
