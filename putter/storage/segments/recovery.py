"""From the files of a data directory to an open store, whatever happened to them.

Segments but the newest were synced before the next one was begun: their indexes, or a scan of
their headers, say what is in them. Of the newest, the last commit may be torn: its bodies are
verified too, and it is cut where the first damage is. Whatever lies behind that was never
acknowledged. Everything that is found missing is logged and listed in the report; nothing of it
keeps the node from serving the rest.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from common.errors import StorageError
from common.meta.interface import Ceilings
from putter.storage.block_file import BLOCK_BYTES, BlockFile, aligned_buffer
from putter.storage.segments.files import Files
from putter.storage.segments.formats import (
    HEADER_BYTES,
    SECRET_BYTES,
    Header,
    Kind,
    SegmentHead,
    aligned,
    decode_head,
    decode_pairs,
    seal_of,
)
from putter.storage.segments.index_file import DamagedIndexError
from putter.storage.segments.open_index import OpenIndex
from putter.storage.segments.places import Place, RecordPlace, Removal, object_key
from putter.storage.segments.scan import Found, Gap, scan
from putter.storage.segments.sealed_index import SealedIndex
from putter.storage.segments.segment import Catalog, Segment

Verify = Callable[[str, int, int, bytes], bool | None]
"""``verify(key_id, first, frame_bytes, frames)``: whether all frames fit; None: no such key."""

_log = logging.getLogger(__name__)


@dataclass
class Report:
    """What was found at the start.

    Attributes:
        segments: how many.
        indexed: of them, whose index was there.
        lost: one line for each thing that is missing or damaged.
        cut_bytes: of the last commit, that was torn.
    """

    segments: int = 0
    indexed: int = 0
    lost: list[str] = field(default_factory=list)
    cut_bytes: int = 0

    def lose(self, text: str) -> None:
        """Something is not there any more."""
        self.lost.append(text)
        _log.error("%s", text)


@dataclass
class Recovered:
    """What the engine goes on from.

    Attributes:
        head: of the newest segment, with the highest numbers of all.
        catalog: all segments.
        at: where the newest goes on; None if it is full or cannot be written to.
        sequence: for the next record.
        record_number: for the next commit record.
        epoch: of this opening.
        report: what was found.
    """

    head: SegmentHead
    catalog: Catalog
    at: int | None
    sequence: int
    record_number: int
    epoch: int
    report: Report


def load_body(file: BlockFile, at: int, header: Header) -> bytes:
    """The body of a record."""
    return file.read(at + header.body_at, header.body_bytes)


def body_is_whole(body: bytes, header: Header, secret: bytes, verify: Verify) -> bool:
    """Whether a record's body is what was written; a run without its key is believed."""
    if len(body) != header.body_bytes:
        return False
    if header.kind == Kind.RUN:
        return verify(header.key_id, header.first, header.frame_bytes, body) is not False
    return seal_of(secret, body) == header.body_sum


def recover(files: Files, state: SegmentHead, verify: Verify) -> Recovered:
    """Open what is there.

    Args:
        files: of the data directory; at least the state or one segment is whole.
        state: of the directory.
        verify: checks the frames of runs.

    Raises:
        StorageError: the disk refused to write.
    """
    return _Recovery(files, state, verify).run()


def state_of(files: Files, random_bytes: Callable[[int], bytes]) -> SegmentHead:
    """What the directory says of itself; a new state for a new directory.

    Raises:
        StorageError: there are segments, and nothing tells how to read them.
    """
    state = files.load_state()
    if state is not None:
        return state
    heads = []
    for number in files.numbers:
        try:
            head = decode_head(files.file(number).read(0, BLOCK_BYTES))
        except StorageError:
            continue
        if head is not None and head.number == number:
            heads.append(head)
    if heads:
        state = heads[-1]
        _log.warning("the state of the data directory is lost; it is taken from its segments")
    elif files.numbers:
        raise StorageError(
            "the state of the data directory and the first blocks of all its segments are damaged",
            hint="start with an empty data directory: the other replicas fill it",
        )
    else:
        state = SegmentHead(0, 0, 0, 0, 1, BLOCK_BYTES, Ceilings(), random_bytes(SECRET_BYTES))
    files.save_state(state)
    return state


class _Recovery:
    def __init__(self, files: Files, state: SegmentHead, verify: Verify) -> None:
        self._files = files
        self._state = state
        self._secret = state.secret
        self._verify = verify
        self._report = Report()
        self._catalog = Catalog()
        self._heads: dict[int, SegmentHead | None] = {}
        self._sequence = state.sequence
        self._record = state.record_number
        self._epoch = state.epoch
        self._ceilings = state.ceilings

    def run(self) -> Recovered:
        numbers = self._existing()
        if self._state.number and self._state.number not in numbers:
            self._note_lost_segment()
        at: int | None = None
        for number in numbers:
            last = number == numbers[-1]
            try:
                at = self._open(number, last=last)
            except StorageError as error:
                self._report.lose(f"segment {number:016x} cannot be read: {error}")
                at = None
        self._apply_removals()
        self._report.segments = len(numbers)
        head = replace(
            self._state,
            number=max([self._state.number, *numbers]),
            ceilings=self._ceilings,
        )
        return Recovered(
            head=head,
            catalog=self._catalog,
            at=at,
            sequence=self._sequence,
            record_number=self._record,
            epoch=self._epoch + 1,
            report=self._report,
        )

    # -- which segments --------------------------------------------------------------------

    def _existing(self) -> list[int]:
        numbers = []
        for number in self._files.numbers:
            try:
                head = decode_head(self._files.file(number).read(0, BLOCK_BYTES))
            except StorageError:
                head = None
            if head is not None and (head.number != number or head.secret != self._secret):
                head = None
            if head is None and number > self._state.number and self._is_empty(number):
                # Its creation was interrupted before anything could be written to it.
                self._files.retire(number)
                continue
            if head is None:
                self._report.lose(
                    f"the first block of segment {number:016x} is damaged; its records are used"
                )
            else:
                self._sequence = max(self._sequence, head.sequence)
                self._record = max(self._record, head.record_number)
                self._epoch = max(self._epoch, head.epoch)
                self._ceilings = self._ceilings.highest(head.ceilings)
            self._heads[number] = head
            numbers.append(number)
        return numbers

    def _is_empty(self, number: int) -> bool:
        try:
            return next(self._scan(number, None), None) is None
        except StorageError:
            return False

    def _note_lost_segment(self) -> None:
        """No number that its records may have had is given again."""
        state = self._state
        self._report.lose(
            f"the newest segment, {state.number:016x}, is gone: what was written last is lost here"
        )
        most = state.size // HEADER_BYTES
        self._sequence = max(self._sequence, state.sequence + most)
        self._record = max(self._record, state.record_number + most)

    # -- one segment -----------------------------------------------------------------------

    def _open(self, number: int, *, last: bool) -> int | None:
        index = self._files.load_index(number, self._secret)
        if index is not None:
            try:
                index.check()
            except DamagedIndexError as error:
                _log.warning("%s and is made again", error)
                self._files.drop_index(number)
                index = None
        if index is not None:
            self._report.indexed += 1
            self._note(index)
            self._add(number, index, index.head.used_bytes)
            return None
        if not last:
            following = self._heads.get(number + 1)
            end = following.previous_end if following is not None else None
            self._seal(number, end)
            return None
        return self._resume(number)

    def _seal(self, number: int, end: int | None) -> None:
        """A segment that was synced as a whole, without its index."""
        index = OpenIndex()
        stop = BLOCK_BYTES
        for found in self._scan(number, end):
            if isinstance(found, Gap):
                self._report.lose(_gap_text(number, found))
                continue
            self._take(index, number, found)
            stop = found.at + found.header.length
        sealed = self._files.save_index(index, number, stop, self._secret)
        self._note(sealed)
        self._add(number, sealed, stop)

    def _resume(self, number: int) -> int:
        """The newest segment: what it has is verified at its end, and it goes on there."""
        found = list(self._scan(number, None))
        commits = [each.header.commit for each in found if isinstance(each, Found)]
        last = max(commits, default=0)
        index = OpenIndex()
        stop = BLOCK_BYTES
        cut: int | None = None
        file = self._files.file(number)
        for each in found:
            if isinstance(each, Gap):
                if last and each.end > last * BLOCK_BYTES:
                    cut = max(each.at, last * BLOCK_BYTES)
                    break
                self._report.lose(_gap_text(number, each))
                continue
            if each.header.commit == last:
                body = load_body(file, each.at, each.header)
                if not body_is_whole(body, each.header, self._secret, self._verify):
                    cut = each.at
                    break
            self._take(index, number, each, file)
            stop = each.at + each.header.length
        for each in found:  # also what is cut: its numbers were given
            if isinstance(each, Found):
                self._sequence = max(self._sequence, each.header.sequence + 1)
                self._epoch = max(self._epoch, each.header.epoch)
        if cut is not None:
            self._cut(file, number, stop, cut, found)
        file.sync()  # what a killed process wrote is visible, and must not vanish later
        self._note(index)
        self._add(number, index, stop)
        return aligned(stop, BLOCK_BYTES)

    def _cut(
        self, file: BlockFile, number: int, stop: int, cut: int, found: list[Found | Gap]
    ) -> None:
        """End the log behind what is whole: headers behind it must not be found again."""
        ends = [e.at + e.header.length for e in found if isinstance(e, Found)]
        self._report.cut_bytes = max(ends, default=cut) - cut
        _log.warning(
            "the last commit of segment %016x was torn; %d bytes that nobody was promised are cut",
            number,
            self._report.cut_bytes,
        )
        # All of these blocks belong to the commit that was not acknowledged.
        start = max(stop, cut) // BLOCK_BYTES * BLOCK_BYTES
        block = aligned_buffer(BLOCK_BYTES)
        kept = file.read(start, BLOCK_BYTES)[: max(0, stop - start)]
        block[: len(kept)] = kept
        file.write(start, block)

    def _scan(self, number: int, end: int | None) -> Iterator[Found | Gap]:
        file = self._files.file(number)
        size = file.size if end is None else min(file.size, end)
        return scan(file.read, size, number, self._secret)

    def _take(
        self, index: OpenIndex, number: int, found: Found, file: BlockFile | None = None
    ) -> None:
        header, at = found.header, found.at
        self._sequence = max(self._sequence, header.sequence + 1)
        self._epoch = max(self._epoch, header.epoch)
        if header.kind == Kind.RUN:
            place = run_place(number, at, header)
            index.free(place.first, place.end, raw=header.raw)  # a second copy counts
            index.add_run(place, raw=header.raw)
        elif header.kind == Kind.COMMIT:
            index.add_record(record_place(number, at, header))
        elif header.kind in (Kind.FREED, Kind.DROPPED):
            body = load_body(file or self._files.file(number), at, header)
            if not body_is_whole(body, header, self._secret, self._verify):
                self._report.lose(
                    f"a removal at byte {at} of segment {number:016x} is damaged: "
                    "what it freed may be back"
                )
                return
            removal = removal_of(number, at, header, body)
            index.add_removal(removal)
            apply_removal(index, removal)

    def _add(self, number: int, index: OpenIndex | SealedIndex, end: int) -> None:
        self._catalog.add(Segment(number, index, end))

    def _note(self, index: OpenIndex | SealedIndex) -> None:
        self._sequence = max(self._sequence, index.highest_sequence + 1)
        self._record = max(self._record, index.highest_number + 1)

    def _apply_removals(self) -> None:
        """What a segment says is freed may lie in any segment up to it."""
        segments = list(self._catalog.segments.values())
        for at, segment in enumerate(segments):
            for removal in segment.index.removals:
                for other in segments[: at + 1]:
                    apply_removal(other.index, removal)


def run_place(segment: int, at: int, header: Header) -> Place:
    """Where a run lies."""
    return Place(
        segment,
        at,
        header.length,
        header.first,
        header.count,
        at + header.body_at,
        header.body_bytes,
        header.frame_bytes,
        header.sequence,
        object_key(header.object_id),
        header.key_id,
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


def apply_removal(index: OpenIndex | SealedIndex, removal: Removal) -> None:
    """Take what was removed out of an index."""
    for first, count in removal.ranges:
        if removal.dropped:
            for number in range(first, first + count):
                index.drop(number, before=removal.sequence)
        else:
            index.free(first, first + count, raw=removal.raw, before=removal.sequence)


def _gap_text(number: int, gap: Gap) -> str:
    return (
        f"bytes {gap.at} to {gap.end} of segment {number:016x} are damaged: "
        "the records there are lost here"
    )
