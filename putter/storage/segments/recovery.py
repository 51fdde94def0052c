"""From the files of a data directory to an open store, whatever happened to them.

Segments but the newest were synced before the next one was begun: their indexes, or their logs, say
what is in them. Of the newest, the last commit may be torn: it is cut where the first damage is
(`putter.storage.segments.replay`). Everything that is found missing is logged and listed in the
report; nothing of it keeps the node from serving the rest.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from common.errors import NoSpace, StorageError
from common.limits import MIB
from common.meta.interface import Ceilings
from putter.storage.block_file import BLOCK_BYTES, BlockFile, aligned_buffer
from putter.storage.segments.copies import count_once
from putter.storage.segments.files import Files
from putter.storage.segments.formats import (
    HEADER_BYTES,
    SECRET_BYTES,
    SegmentHead,
    aligned,
    decode_head,
)
from putter.storage.segments.replay import Replayed, Verify, replay
from putter.storage.segments.scan import Found, scan
from putter.storage.segments.sealed_index import SealedIndex
from putter.storage.segments.segment import Catalog, Index, Segment

_log = logging.getLogger(__name__)


@dataclass
class Report:
    """What was found at the start.

    Attributes:
        segments: how many.
        indexed: of them, whose index was there.
        lost: one line for each thing that is missing or damaged.
        cut_bytes: of the last commit, that was torn.
        twice_bytes: of originals that a compaction had copied when it was interrupted.
    """

    segments: int = 0
    indexed: int = 0
    lost: list[str] = field(default_factory=list)
    cut_bytes: int = 0
    twice_bytes: int = 0

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
    """

    head: SegmentHead
    catalog: Catalog
    at: int | None
    sequence: int
    record_number: int
    epoch: int


def recover(files: Files, state: SegmentHead, verify: Verify, report: Report) -> Recovered:
    """Open what is there.

    Args:
        files: of the data directory; at least the state or one segment is whole.
        state: of the directory.
        verify: checks the frames of runs.
        report: takes what is found.

    Raises:
        StorageError: the disk refused to write.
    """
    return _Recovery(files, state, verify, report).run()


def state_of(files: Files, random_bytes: Callable[[int], bytes], report: Report) -> SegmentHead:
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
        report.lose(
            "the state of the data directory is damaged and taken from its segments: ceilings that "
            f"were lifted after segment {state.number:016x} was begun are forgotten here"
        )
    elif files.numbers:
        raise StorageError(
            "the state of the data directory and the first blocks of all its segments are damaged",
            hint="start with an empty data directory: the other replicas fill it",
        )
    else:
        state = SegmentHead(
            number=0,
            size=0,
            epoch=0,
            sequence=0,
            record_number=1,
            previous_end=0,
            end=0,
            ceilings=Ceilings(),
            secret=random_bytes(SECRET_BYTES),
        )
    files.save_state(state)
    return state


class _Recovery:
    def __init__(self, files: Files, state: SegmentHead, verify: Verify, report: Report) -> None:
        self._files = files
        self._state = state
        self._secret = state.secret
        self._verify = verify
        self._report = report
        self._catalog = Catalog()
        self._heads: dict[int, SegmentHead | None] = {}
        self._sequence = state.sequence
        self._record = state.record_number
        self._epoch = state.epoch
        self._ceilings = state.ceilings

    def run(self) -> Recovered:
        numbers = self._existing()
        newest = max([self._state.number, *numbers])
        if newest and newest not in numbers:
            self._report.lose(
                f"the newest segment, {newest:016x}, is gone: what was written last is lost here"
            )
            self._skip_numbers()
        at: int | None = None
        for number in numbers:
            try:
                at = self._open(number, newest=number == newest)
            except _RefusedError:
                raise
            except StorageError as error:
                self._report.lose(f"segment {number:016x} cannot be read: {error}")
                self._skip_numbers()
                at = None
            self._files.trim()
        self._apply_removals()
        self._report.twice_bytes = count_once(self._catalog)
        self._report.segments = len(numbers)
        return Recovered(
            head=replace(
                self._state,
                number=newest,
                end=self._state.end if newest == self._state.number else 0,
                ceilings=self._ceilings,
            ),
            catalog=self._catalog,
            at=at,
            sequence=self._sequence,
            record_number=self._record,
            epoch=self._epoch + 1,
        )

    # -- which segments --------------------------------------------------------------------

    def _existing(self) -> list[int]:
        numbers = []
        for number in self._files.numbers:
            head = self._head_of(number)
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
            self._files.trim()
        return numbers

    def _head_of(self, number: int) -> SegmentHead | None:
        try:
            file = self._files.file(number)
            head = decode_head(file.read(0, BLOCK_BYTES))
        except StorageError:
            return None
        if head is None or head.number != number or head.secret != self._secret:
            return None
        if file.size < head.size:
            self._report.lose(
                f"segment {number:016x} has only {file.size} of its {head.size} bytes: "
                "the records behind them are lost here"
            )
        return head

    def _is_empty(self, number: int) -> bool:
        try:
            file = self._files.file(number)
            found = scan(file.read, file.size, number, self._secret)
            return not any(isinstance(each, Found) for each in found)
        except StorageError:
            return False

    def _skip_numbers(self) -> None:
        """No number that a record may have had which cannot be read now is given again."""
        most = max(self._state.size, self._files.segment_bytes) // HEADER_BYTES
        self._sequence += most
        self._record += most

    # -- one segment -----------------------------------------------------------------------

    def _open(self, number: int, *, newest: bool) -> int | None:
        """Take a segment in; where it goes on, if it does."""
        index = self._indexed(number)
        if index is not None:
            self._report.indexed += 1
            self._sequence = max(self._sequence, index.highest_sequence + 1)
            self._record = max(self._record, index.highest_number + 1)
            self._add(number, index, index.head.used_bytes)
            return None
        if newest:
            return self._resume(number)
        self._seal(number)
        return None

    def _add(self, number: int, index: Index, end: int) -> None:
        self._catalog.add(Segment(number, index, end, self._files.file(number).size))

    def _indexed(self, number: int) -> SealedIndex | None:
        try:
            index = self._files.load_index(number, self._secret)
            if index is not None:
                index.check()
        except StorageError as error:
            _log.warning("the index of segment %016x is made again: %s", number, error)
            return None
        return index

    def _replay(self, number: int, *, synced: int, end: int | None = None) -> Replayed:
        file, head = self._files.file(number), self._heads[number]
        done = replay(file, number, head, self._secret, self._verify, synced=synced, end=end)
        for text in done.lost:
            self._report.lose(text)
        self._sequence = max(self._sequence, done.sequence)
        self._record = max(self._record, done.record_number)
        self._epoch = max(self._epoch, done.epoch)
        return done

    def _seal(self, number: int) -> None:
        """A segment that was synced as a whole, without its index."""
        following = self._heads.get(number + 1)
        end = following.previous_end if following is not None else 0
        done = self._replay(number, synced=end or BLOCK_BYTES, end=end or None)
        if done.torn_at is not None:
            self._report.lose(
                f"segment {number:016x} is damaged or torn from byte {done.torn_at} on: "
                "the records there are lost here"
            )
        stop = end or done.stop
        index: Index = done.index
        try:
            index = self._files.save_index(done.index, number, stop, self._secret)
        except (NoSpace, StorageError) as error:
            _log.warning("segment %016x has no index yet: %s", number, error)
        self._add(number, index, stop)

    def _resume(self, number: int) -> int | None:
        """The newest segment goes on where it ends."""
        file = self._files.file(number)
        synced = self._state.end if number == self._state.number else 0
        done = self._replay(number, synced=max(synced, BLOCK_BYTES))
        if done.torn_at is not None:
            self._report.cut_bytes = done.torn_bytes
            _log.warning(
                "the last commit of segment %016x was torn; %d bytes that nobody was promised are "
                "cut",
                number,
                done.torn_bytes,
            )
        at = done.stop if done.torn_at is None else done.torn_at
        end = aligned(max(at, synced), BLOCK_BYTES)
        try:
            if at >= synced:
                self._clear(file, at)
            self._write_again(file, done.promised, end)
            file.sync()
        except (NoSpace, StorageError) as error:
            raise _RefusedError(
                str(error), hint="the disk has to take writes at the start"
            ) from error
        self._add(number, done.index, done.stop)
        return end if self._heads[number] is not None else None

    def _write_again(self, file: BlockFile, start: int, end: int) -> None:
        """What a killed process wrote is visible, and must not vanish later.

        A sync does not do: if the last one failed, the system takes those pages for clean.
        """
        for at in range(start, min(end, file.size), MIB):
            data = file.read(at, min(MIB, end - at))
            if len(data) % BLOCK_BYTES == 0:
                buffer = aligned_buffer(len(data))
                buffer[:] = data
                file.write(at, buffer)

    def _clear(self, file: BlockFile, at: int) -> None:
        """Zeros from here to the end of the block: nobody may find what was cut off there."""
        start = at // BLOCK_BYTES * BLOCK_BYTES
        old = file.read(start, BLOCK_BYTES)
        new = old[: at - start].ljust(BLOCK_BYTES, b"\0")
        if len(old) == BLOCK_BYTES and new != old:
            block = aligned_buffer(BLOCK_BYTES)
            block[:] = new
            file.write(start, block)

    def _apply_removals(self) -> None:
        """What a segment says is freed may lie in any segment."""
        for segment in list(self._catalog.segments.values()):
            for removal in segment.index.removals:
                self._catalog.apply(removal)


class _RefusedError(StorageError):
    """What is there is readable, and cannot be made durable."""
