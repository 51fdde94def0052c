"""The files of the layout: segments, their indexes, spare segments, and the state.

```
segments/state                    copy of the newest segment's first block, with the latest ceilings
segments/0000000000000001.seg     a segment; the name is its number in hex
segments/0000000000000001.idx     its index, once it is sealed
segments/spare-0000000000000001   a segment of that number that is free to be used again, until the
                                  next start
```
"""

from __future__ import annotations

import logging
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import replace
from threading import Lock
from typing import Final

from common.checksum import Buffer
from common.errors import NoSpace, PutterError
from common.limits import KIB, MIB
from putter.storage.block_file import BLOCK_BYTES, BlockFile, aligned_buffer
from putter.storage.disk import Disk
from putter.storage.engine import Capacity
from putter.storage.located import Whereabouts
from putter.storage.segments.formats import SegmentHead, decode_head, encode_head, seal_of
from putter.storage.segments.index_file import IndexHead, encode_index
from putter.storage.segments.index_file import decode_head as decode_index_head
from putter.storage.segments.open_index import OpenIndex
from putter.storage.segments.sealed_index import SealedIndex

ROOT: Final = "segments"
SEGMENT_BYTES_MIN: Final = 4 * MIB
SEGMENT_BYTES_USUAL: Final = 128 * MIB
SEGMENT_BYTES_MAX: Final = 1024 * MIB
SEGMENTS_WANTED_MAX: Final = 16_384
"""Each has a mapped index, and a process may map 65,530 files (Linux, ``vm.max_map_count``)."""
SPARES_MAX: Final = 1
_SLACK_BYTES: Final = 64 * KIB
"""Left free by a new segment, also where there is no reserve: for the state and small indexes."""
_STATE: Final = f"{ROOT}/state"
_NEW: Final = f"{ROOT}/new"
_SPARE: Final = "spare-"
_SEGMENT_NAME: Final = re.compile(r"([0-9a-f]{16})\.seg")
_INDEX_NAME: Final = re.compile(r"([0-9a-f]{16})\.idx")
_SPARE_NAME: Final = re.compile(_SPARE + r"([0-9a-f]{16})")
_OPEN_MAX: Final = 256

_log = logging.getLogger(__name__)


def segment_bytes_for(total_bytes: int) -> int:
    """The length of segments on a disk of this size, a power of two.

    Compaction needs room for some on a small disk; on a large one they must not be too many.
    """
    fitting = 1 << max(0, (total_bytes // 64).bit_length() - 1)
    needed = 1 << max(0, (total_bytes // SEGMENTS_WANTED_MAX - 1).bit_length())
    usual = min(max(fitting, SEGMENT_BYTES_MIN), SEGMENT_BYTES_USUAL)
    return min(max(usual, needed), SEGMENT_BYTES_MAX)


class Files:
    """The directory ``segments``.

    Args:
        disk: its root is the data directory.
        segment_bytes: length of new segments; by the size of the disk if None.
    """

    def __init__(self, disk: Disk, segment_bytes: int | None = None) -> None:
        self._disk = disk
        self._lock = Lock()
        self._open: OrderedDict[int, BlockFile] = OrderedDict()
        disk.make_directory(ROOT)
        disk.sync_directories(["", ROOT])  # names that a killed process left are taken for durable
        disk.unlink(_NEW)
        names = disk.names(ROOT)
        self.numbers: Final = _numbers(names, _SEGMENT_NAME)
        for number in _numbers(names, _INDEX_NAME):
            if number not in self.numbers:
                disk.unlink(_index(number))
        if segment_bytes is None:
            segment_bytes = segment_bytes_for(disk.capacity().total_bytes)
        self.segment_bytes: Final = segment_bytes
        self._spares: list[int] = []
        for number in _numbers(names, _SPARE_NAME):
            # A crash may have left the file under the name of a segment, too: only this name goes.
            disk.unlink(_spare(number))
        while len(self._spares) > SPARES_MAX:
            disk.unlink(_spare(self._spares.pop()))

    # -- the state -------------------------------------------------------------------------

    def load_state(self) -> SegmentHead | None:
        """What the state says; None if there is none, or it is damaged."""
        data = self._disk.read(_STATE)
        return None if data is None else decode_head(data)

    def save_state(self, head: SegmentHead) -> None:
        """Replace the state; durable when it returns."""
        self._replace(_STATE, encode_head(head))

    # -- segments --------------------------------------------------------------------------

    def file(self, number: int) -> BlockFile:
        """A segment's file; open ones are kept, the least used are closed."""
        with self._lock:
            file = self._open.get(number)
            if file is None:
                file = self._open[number] = self._disk.blocks(_segment(number))
            self._open.move_to_end(number)
        return file

    def whereabouts(self, number: int) -> Whereabouts | None:
        """Where a segment's file is; None if it is gone, or not on a disk of this machine."""
        return self._disk.whereabouts(_segment(number))

    def trim(self, pinned: Callable[[int], bool] = lambda _: False) -> None:
        """Close files until few are open; not those that are pinned."""
        if len(self._open) <= _OPEN_MAX:
            return
        with self._lock:
            for number in list(self._open)[: len(self._open) - _OPEN_MAX]:
                if not pinned(number):
                    self._open.pop(number).close()

    def create(self, head: SegmentHead, keep_free_bytes: int) -> SegmentHead:
        """A new segment, durable, with its first block written and noted in the state.

        Args:
            head: all but its size.
            keep_free_bytes: of the disk, that shall be left.

        Returns:
            The head with its size.

        Raises:
            NoSpace: there is no room for the smallest segment.
            StorageError: the disk refused.
        """
        if self._spares:
            try:
                return self._create(head, keep_free_bytes, self._spares.pop(0))
            except NoSpace:
                _log.info("a spare segment is given up for the room that its names take")
        return self._create(head, keep_free_bytes, -1)

    def _create(self, head: SegmentHead, keep_free_bytes: int, spare: int) -> SegmentHead:
        path = _segment(head.number)
        self._disk.unlink(path)  # what an interrupted creation left
        if spare >= 0:
            file = self._disk.blocks(_spare(spare))
        else:
            file = self._disk.blocks(path, self._room(keep_free_bytes))
        try:
            head = replace(head, size=file.size)
            block = aligned_buffer(BLOCK_BYTES)
            block[:] = encode_head(head)
            file.write(0, block)
            file.sync()
            if spare >= 0:
                self._disk.rename(_spare(spare), path)
            self._disk.sync_directories([ROOT])
            self.save_state(head)
        except PutterError:
            file.close()
            if spare >= 0:
                self._disk.unlink(_spare(spare))
            # Whoever finds it takes the segment before it for ended.
            self._disk.unlink(path)
            self._disk.sync_directories([ROOT])
            raise
        with self._lock:
            self._open[head.number] = file
        return head

    def retire(self, number: int) -> None:
        """A segment that nothing is left of: keep it for later, or give its space back."""
        size = self.file(number).size
        with self._lock:
            self._open.pop(number).close()
        self._disk.unlink(_index(number))
        if len(self._spares) < SPARES_MAX and size == self.segment_bytes:
            self._disk.rename(_segment(number), _spare(number))
            self._spares.append(number)
        else:
            self._disk.unlink(_segment(number))
        self._disk.sync_directories([ROOT])

    def listed(self) -> list[int]:
        """The numbers of all segment files that are there now."""
        return _numbers(self._disk.names(ROOT), _SEGMENT_NAME)

    def capacity(self) -> Capacity:
        """Of the disk; spare segments count as free."""
        found = self._disk.capacity()
        return Capacity(
            found.total_bytes, found.free_bytes + len(self._spares) * self.segment_bytes
        )

    def close(self) -> None:
        """Let go of all files."""
        for file in self._open.values():
            file.close()
        self._open.clear()

    # -- indexes ---------------------------------------------------------------------------

    def load_index(self, number: int, secret: bytes) -> SealedIndex | None:
        """A sealed segment's index, if it has one whose first block is whole."""
        data = self._disk.map(_index(number))
        if data is None:
            return None
        head = decode_index_head(memoryview(data)[:BLOCK_BYTES], secret)
        if head is None or head.segment != number:
            _log.warning("the index of segment %d is damaged and is made again", number)
            return None
        return self._index(head, secret)

    def save_index(self, index: OpenIndex, number: int, end: int, secret: bytes) -> SealedIndex:
        """Write the index of a segment that does not grow any more.

        Raises:
            NoSpace, StorageError: it is not there, or not readable; the segment has all that is
                in it.
        """
        data = encode_index(index, number, end, secret)
        self._replace(_index(number), data)
        head = decode_index_head(data[:BLOCK_BYTES], secret)
        assert head is not None
        saved = self._index(head, secret)
        saved.check()
        return saved

    def verified_index(self, number: int, secret: bytes) -> int | None:
        """Read an index file anew: its length, or None if it is not whole.

        Raises:
            StorageError: the disk refused to read.
        """
        data = self._disk.read(_index(number))
        head = None if data is None else decode_index_head(data[:BLOCK_BYTES], secret)
        if data is None or head is None or head.segment != number:
            return None
        return len(data) if seal_of(secret, data[BLOCK_BYTES:]) == head.body_sum else None

    # -- inside ----------------------------------------------------------------------------

    def _index(self, head: IndexHead, secret: bytes) -> SealedIndex:
        def load() -> Buffer:
            data = self._disk.map(_index(head.segment))
            return b"" if data is None else data

        return SealedIndex(head, load, secret)

    def _room(self, keep_free_bytes: int) -> int:
        """The length for a new segment: smaller ones where little is left."""
        left = self._disk.capacity().free_bytes - max(keep_free_bytes, _SLACK_BYTES)
        size = self.segment_bytes
        while size > SEGMENT_BYTES_MIN and size > left:
            size //= 2
        if size > left:
            raise NoSpace(
                f"{max(0, left)} bytes are left on the disk above the reserve",
                hint="free some space on the disk of the data directory, or remove files",
            )
        return size

    def _replace(self, path: str, data: bytes) -> None:
        self._disk.unlink(_NEW)
        try:
            file = self._disk.create(_NEW, data)
        except NoSpace:
            if not self._spares:
                raise
            self._disk.unlink(_spare(self._spares.pop()))
            file = self._disk.create(_NEW, data)
        self._disk.sync_files([file])
        self._disk.rename(_NEW, path)
        self._disk.sync_directories([ROOT])


def place_of(number: int, at: int) -> str:
    """Where something lies, for people."""
    return f"{_segment(number)}, byte {at}"


def index_path(number: int) -> str:
    """The index of a segment, from the data directory on."""
    return _index(number)


def index_number(path: str) -> int:
    """Of which segment this is the index."""
    return int(path.rpartition("/")[2].removesuffix(".idx"), 16)


def _numbers(names: Iterable[str], pattern: re.Pattern[str]) -> list[int]:
    """The numbers in those names that are ours, ascending."""
    matches = (pattern.fullmatch(name) for name in names)
    return sorted(int(match[1], 16) for match in matches if match)


def _segment(number: int) -> str:
    return f"{ROOT}/{number:016x}.seg"


def _index(number: int) -> str:
    return f"{ROOT}/{number:016x}.idx"


def _spare(number: int) -> str:
    return f"{ROOT}/{_SPARE}{number:016x}"
