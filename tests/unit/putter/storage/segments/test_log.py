from __future__ import annotations

import pytest

from common.errors import StorageError
from putter.storage.block_file import BLOCK_BYTES
from putter.storage.memory_blocks import BlockData, MemoryBlockFile
from putter.storage.segments.log import Log

SIZE = 16 * BLOCK_BYTES


class Disk:
    """One file, and what is refused of it."""

    def __init__(self) -> None:
        self.data = BlockData(SIZE)
        self.refused = ""
        self.writes: list[str] = []
        self.file = MemoryBlockFile(self.data, self.fault)

    def fault(self, action: str) -> None:
        self.writes.append(action)
        if action == self.refused:
            raise StorageError("no")


def opened(staging_blocks: int = 2) -> tuple[Disk, Log]:
    disk, log = Disk(), Log(staging_blocks * BLOCK_BYTES)
    log.open(disk.file, 5, BLOCK_BYTES)
    return disk, log


def add(log: Log, size: int, letter: bytes = b"x") -> int:
    return log.append(b"HEAD", letter * (size - 4), -(-size // 8) * 8)


def test_nothing_is_open_at_first() -> None:
    log = Log(BLOCK_BYTES)
    assert (log.number, log.room, log.end, log.tail) == (0, 0, 0, 0)
    assert not log.sync()
    assert log.read(5, 0, 10) is None


def test_a_commit_begins_at_a_fresh_block() -> None:
    disk, log = opened()
    assert add(log, 100) == BLOCK_BYTES
    assert add(log, 50) == BLOCK_BYTES + 104
    assert log.commit == 1
    assert disk.writes == []
    assert log.sync()
    assert disk.writes == ["write", "sync"]
    assert log.tail == BLOCK_BYTES + 160
    assert log.end == log.synced == 2 * BLOCK_BYTES
    assert log.commit == 2
    assert not log.sync()
    assert add(log, 10) == 2 * BLOCK_BYTES
    written = bytes(disk.data.data)
    assert written[BLOCK_BYTES : BLOCK_BYTES + 100] == b"HEAD" + b"x" * 96
    assert written[log.tail : 2 * BLOCK_BYTES] == bytes(2 * BLOCK_BYTES - log.tail)


def test_what_lay_in_the_buffer_before_is_not_written_again() -> None:
    disk, log = opened()
    add(log, 2 * BLOCK_BYTES, b"o")
    log.sync()
    add(log, 16, b"n")
    log.sync()
    last = bytes(disk.data.data)[3 * BLOCK_BYTES : 4 * BLOCK_BYTES]
    assert last == (b"HEAD" + b"n" * 12).ljust(BLOCK_BYTES, b"\0")


def test_a_record_longer_than_the_buffer_is_written_in_pieces() -> None:
    disk, log = opened(staging_blocks=1)
    add(log, 100)
    at = add(log, 3 * BLOCK_BYTES, b"y")
    assert disk.writes == ["write"] * 3
    log.sync()
    assert disk.file.read(at, 3 * BLOCK_BYTES) == b"HEAD" + b"y" * (3 * BLOCK_BYTES - 4)


def test_what_is_not_written_yet_is_read_from_the_buffer() -> None:
    _, log = opened(staging_blocks=1)
    first = add(log, 3000, b"a")
    second = add(log, 3000, b"b")  # the first block is written, the rest waits
    assert log.read(5, second, 3000) == b"HEAD" + b"b" * 2996
    assert log.read(5, second + 1990, 10) == b"b" * 10
    assert log.read(5, first, 3000) is None
    assert log.read(6, second, 3000) is None
    log.sync()
    assert log.read(5, second, 3000) is None


def test_room_is_whole_blocks_of_the_file() -> None:
    disk, log = opened()
    assert log.room == SIZE - BLOCK_BYTES
    add(log, 16)
    assert log.room == SIZE - BLOCK_BYTES - 16
    disk.data.data = disk.data.data[: SIZE - 100]
    assert log.room == SIZE - 2 * BLOCK_BYTES - 16


@pytest.mark.parametrize("refused", ["write", "sync"])
def test_a_sync_that_fails_leaves_the_ends_where_they_were(refused: str) -> None:
    disk, log = opened()
    add(log, 16)
    log.sync()
    add(log, 16)
    disk.refused = refused
    with pytest.raises(StorageError):
        log.sync()
    assert log.tail == BLOCK_BYTES + 16
    assert log.synced == 2 * BLOCK_BYTES
    log.leave()
    assert (log.number, log.room, log.tail) == (0, 0, 0)
