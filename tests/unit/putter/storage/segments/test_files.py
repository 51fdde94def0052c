from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace

import pytest

from common.errors import NoSpace, StorageError
from common.limits import KIB, MIB
from common.meta.interface import Ceilings
from putter.storage.block_file import BLOCK_BYTES
from putter.storage.memory_disk import MemoryDisk
from putter.storage.segments import files as module
from putter.storage.segments.files import Files, segment_bytes_for
from putter.storage.segments.formats import SegmentHead, decode_head
from putter.storage.segments.open_index import OpenIndex

SECRET = bytes(range(32))
HEAD = SegmentHead(
    number=1,
    size=0,
    epoch=1,
    sequence=0,
    record_number=1,
    previous_end=0,
    end=BLOCK_BYTES,
    ceilings=Ceilings(1, 2, 3),
    secret=SECRET,
)
SIZE = 64 * KIB


def files_on(disk: MemoryDisk) -> Files:
    return Files(disk, SIZE)


def refusing(operation: str, path: str, number: int = errno.EIO) -> Callable[[str, str], None]:
    def hook(now: str, where: str) -> None:
        if now == operation and path in where:
            raise OSError(number, "refused")

    return hook


def names(disk: MemoryDisk) -> list[str]:
    return [path.removeprefix("segments/") for path in disk.files()]


@pytest.mark.parametrize(
    ("total", "expected"),
    [
        (1, 4 * MIB),
        (256 * MIB, 4 * MIB),
        (1 << 30, 16 * MIB),
        (1 << 40, 128 * MIB),
        (2 << 40, 128 * MIB),
        ((2 << 40) + 16_384, 256 * MIB),
        (16 << 40, 1024 * MIB),
        (1 << 50, 1024 * MIB),
    ],
)
def test_segments_are_as_large_as_the_disk_allows(total: int, expected: int) -> None:
    assert Files(MemoryDisk(total)).segment_bytes == expected


def test_the_indexes_of_a_large_disk_can_be_mapped() -> None:
    for terabytes in range(1, 64):
        total = terabytes << 40
        assert total // segment_bytes_for(total) <= 65_530


def test_a_new_segment_is_named_in_the_state() -> None:
    disk = MemoryDisk()
    files = files_on(disk)
    assert files.load_state() is None
    head = files.create(HEAD, 0)
    assert head == replace(HEAD, size=SIZE)
    assert files.load_state() == head
    assert decode_head(files.file(1).read(0, BLOCK_BYTES)) == head
    assert names(disk) == ["0000000000000001.seg", "state"]
    assert files_on(disk).numbers == [1]


def test_a_retired_segment_is_used_again_once() -> None:
    disk = MemoryDisk()
    files = files_on(disk)
    for number in (1, 2):
        files.create(replace(HEAD, number=number), 0)
    before = files.capacity().free_bytes
    files.retire(1)
    files.retire(2)
    assert names(disk) == ["spare-0000000000000001", "state"]
    assert files.capacity().free_bytes == before + 2 * SIZE
    files.create(replace(HEAD, number=3), 0)
    assert names(disk) == ["0000000000000003.seg", "state"]


def test_a_spare_segment_does_not_outlive_the_process() -> None:
    disk = MemoryDisk()
    files = files_on(disk)
    files.create(HEAD, 0)
    files.retire(1)
    assert files_on(disk).numbers == []
    assert names(disk) == ["state"]


def test_a_segment_of_another_length_is_no_spare() -> None:
    disk = MemoryDisk()
    Files(disk, 2 * SIZE).create(HEAD, 0)
    files = files_on(disk)
    files.retire(1)
    assert names(disk) == ["state"]


def test_a_spare_that_is_refused_is_given_up() -> None:
    disk = MemoryDisk()
    files = files_on(disk)
    files.create(HEAD, 0)
    files.retire(1)
    disk.before = refusing("write", "spare")
    with pytest.raises(StorageError):
        files.create(replace(HEAD, number=2), 0)
    assert files.create(replace(HEAD, number=2), 0).size == SIZE
    assert names(disk) == ["0000000000000002.seg", "state"]


@pytest.mark.parametrize(
    ("operation", "path"),
    [("allocate", ".seg"), ("write", ".seg"), ("sync", ".seg"), ("create", "new"), ("rename", "")],
)
def test_a_creation_that_fails_leaves_nothing(operation: str, path: str) -> None:
    disk = MemoryDisk()
    files = files_on(disk)
    files.create(HEAD, 0)
    state = files.load_state()
    disk.before = refusing(operation, path)
    with pytest.raises(StorageError):
        files.create(replace(HEAD, number=2), 0)
    assert "0000000000000002.seg" not in names(disk)
    assert files.load_state() == state
    disk.before = lambda *_: None
    assert files.create(replace(HEAD, number=2), 0).number == 2


def test_smaller_segments_fill_the_rest_of_a_disk() -> None:
    disk = MemoryDisk(24 * MIB)
    files = Files(disk, 16 * MIB)
    sizes = [files.create(replace(HEAD, number=number), 0).size for number in (1, 2)]
    assert sizes == [16 * MIB, 4 * MIB]
    with pytest.raises(NoSpace, match="reserve"):
        files.create(replace(HEAD, number=3), 0)


def test_a_reserve_is_left() -> None:
    files = Files(MemoryDisk(24 * MIB), 4 * MIB)
    with pytest.raises(NoSpace):
        files.create(HEAD, 21 * MIB)
    assert files.create(HEAD, 20 * MIB - 64 * KIB).size == 4 * MIB


def test_the_state_gets_the_room_of_a_spare() -> None:
    disk = MemoryDisk()
    files = files_on(disk)
    files.create(HEAD, 0)
    files.retire(1)
    left = disk.capacity().free_bytes
    full = 1

    def hook(operation: str, path: str) -> None:
        if operation == "create" and disk.capacity().free_bytes == left and full:
            raise OSError(errno.ENOSPC, "No space left on device")

    disk.before = hook
    files.save_state(replace(HEAD, epoch=9))
    assert names(disk) == ["state"]
    full = 0


def test_few_files_stay_open_and_pinned_ones_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_OPEN_MAX", 3)
    disk = MemoryDisk()
    files = files_on(disk)
    for number in range(1, 8):
        files.create(replace(HEAD, number=number), 0)
    kept = files.file(1)
    files.trim(lambda number: number == 2)
    assert files.file(1) is kept
    opened = [0]

    def hook(operation: str, path: str) -> None:
        opened[0] += operation == "allocate"

    disk.before = hook
    assert files.file(2).size == SIZE
    assert opened == [0]
    files.close()


def test_an_index_comes_back() -> None:
    disk = MemoryDisk()
    files = files_on(disk)
    files.create(HEAD, 0)
    saved = files.save_index(OpenIndex(), 1, 5000, SECRET)
    loaded = files_on(disk).load_index(1, SECRET)
    assert loaded is not None
    assert loaded.head == saved.head
    assert loaded.head.used_bytes == 5000
    assert files.load_index(2, SECRET) is None
    disk.rename("segments/0000000000000001.idx", "segments/0000000000000002.idx")
    assert files.load_index(2, SECRET) is None


def test_an_index_without_its_segment_is_removed_and_others_stay() -> None:
    disk = MemoryDisk()
    files_on(disk).save_index(OpenIndex(), 9, 4096, SECRET)
    disk.close_files([disk.create("segments/notes.idx", b"x"), disk.create("segments/new", b"y")])
    files = files_on(disk)
    assert files.numbers == []
    assert names(disk) == ["notes.idx"]
