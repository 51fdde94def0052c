"""One suite for both disks: the executable form of putter/storage/disk.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from common.errors import StorageError
from putter.storage.block_file import BLOCK_BYTES, aligned_buffer
from putter.storage.disk import Disk, RealDisk
from putter.storage.memory_disk import MemoryDisk


@pytest.fixture(params=["real", "memory"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    disk: Disk = RealDisk(tmp_path) if request.param == "real" else MemoryDisk()
    yield disk
    disk.close()


def write(disk: Disk, path: str, *parts: bytes) -> None:
    disk.sync_files([disk.create(path, *parts)])


def test_a_new_file_holds_all_parts(disk: Disk) -> None:
    write(disk, "file", b"one", b"", b"two")
    assert disk.read("file") == b"onetwo"


def test_an_empty_file_is_a_file(disk: Disk) -> None:
    write(disk, "file")
    assert disk.read("file") == b""


def test_what_is_not_there_reads_as_none(disk: Disk) -> None:
    write(disk, "file", b"x")
    assert disk.read("nothing") is None
    assert disk.read("no/such/path") is None
    assert disk.read("file/below") is None


def test_a_name_is_created_once(disk: Disk) -> None:
    write(disk, "file", b"x")
    with pytest.raises(StorageError, match="file"):
        disk.create("file", b"y")
    assert disk.read("file") == b"x"


def test_a_file_needs_its_directory(disk: Disk) -> None:
    with pytest.raises(StorageError, match="a/file"):
        disk.create("a/file", b"y")


def test_directories_are_made_with_those_above(disk: Disk) -> None:
    assert disk.make_directory("a/b/c") == ["a", "a/b", "a/b/c"]
    assert disk.make_directory("a/b/c") == []
    assert disk.make_directory("a/b/d") == ["a/b/d"]
    assert disk.names("a/b") in (["c", "d"], ["d", "c"])


def test_a_directory_below_a_file_is_refused(disk: Disk) -> None:
    write(disk, "file", b"x")
    with pytest.raises(StorageError, match="file"):
        disk.make_directory("file/below")


def test_renaming_replaces(disk: Disk) -> None:
    disk.make_directory("a")
    write(disk, "old", b"old")
    write(disk, "a/new", b"new")
    disk.rename("a/new", "old")
    assert disk.read("old") == b"new"
    assert disk.names("a") == []


def test_renaming_nothing_is_an_error(disk: Disk) -> None:
    with pytest.raises(StorageError, match="target"):
        disk.rename("nothing", "target")


def test_renaming_onto_a_directory_is_an_error(disk: Disk) -> None:
    disk.make_directory("a")
    write(disk, "file", b"x")
    with pytest.raises(StorageError):
        disk.rename("file", "a")


def test_unlinking_tells_whether_there_was_a_file(disk: Disk) -> None:
    write(disk, "file", b"x")
    assert disk.unlink("file") is True
    assert disk.unlink("file") is False
    assert disk.unlink("no/such") is False
    assert disk.read("file") is None


def test_only_empty_directories_are_removed(disk: Disk) -> None:
    disk.make_directory("a/b")
    assert disk.remove_directory("a") is False
    assert disk.remove_directory("a/b") is True
    assert disk.remove_directory("a/b") is False
    assert disk.remove_directory("a") is True
    assert disk.names("") == []


def test_removing_a_file_as_a_directory_is_an_error(disk: Disk) -> None:
    write(disk, "file", b"x")
    with pytest.raises(StorageError):
        disk.remove_directory("file")


def test_names_of_no_directory_are_none(disk: Disk) -> None:
    write(disk, "file", b"x")
    assert disk.names("nothing") == []
    assert disk.names("file") == []


def test_reading_a_directory_is_an_error(disk: Disk) -> None:
    disk.make_directory("a")
    with pytest.raises(StorageError, match="a"):
        disk.read("a")


@pytest.mark.parametrize("count", [1, 3, 40])
def test_many_files_and_directories_are_synced_at_once(disk: Disk, count: int) -> None:
    directories = [f"d/{index}" for index in range(count)]
    for path in directories:
        disk.make_directory(path)
    disk.sync_files([disk.create(f"{path}/file", path.encode()) for path in directories])
    disk.sync_directories(directories)
    disk.sync_all()
    assert [disk.read(f"{path}/file") for path in directories] == [p.encode() for p in directories]


def test_syncing_no_directory_is_an_error(disk: Disk) -> None:
    with pytest.raises(StorageError, match="nothing"):
        disk.sync_directories(["nothing"])


def test_a_file_may_be_closed_without_a_sync(disk: Disk) -> None:
    disk.close_files([disk.create("file", b"x")])
    assert disk.read("file") == b"x"


def test_capacity_is_of_the_whole_disk(disk: Disk) -> None:
    capacity = disk.capacity()
    assert 0 < capacity.free_bytes <= capacity.total_bytes


def test_messages_name_relative_paths(disk: Disk, tmp_path: Path) -> None:
    with pytest.raises(StorageError) as caught:
        disk.create("a/file", b"y")
    assert "a/file" in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


# -- block files and maps ------------------------------------------------------------------------


def blocks_of(word: bytes, count: int = 1) -> memoryview:
    buffer = aligned_buffer(count * BLOCK_BYTES)
    buffer[:] = (word * len(buffer))[: len(buffer)]
    return buffer


def test_a_block_file_has_its_length_from_the_beginning(disk: Disk) -> None:
    disk.make_directory("a")
    file = disk.blocks("a/log", 8 * BLOCK_BYTES)
    assert file.size == 8 * BLOCK_BYTES
    file.close()
    file = disk.blocks("a/log")
    assert file.size == 8 * BLOCK_BYTES
    assert disk.names("a") == ["log"]
    file.close()


def test_blocks_are_written_in_place(disk: Disk) -> None:
    file = disk.blocks("log", 8 * BLOCK_BYTES)
    file.write(2 * BLOCK_BYTES, blocks_of(b"ab", 2))
    file.write(3 * BLOCK_BYTES, blocks_of(b"c"))
    file.sync()
    assert file.read(3 * BLOCK_BYTES - 2, 4) == b"abcc"
    assert file.read(8 * BLOCK_BYTES - 1, 10) == b"\0"
    other = disk.blocks("log")
    assert other.read(2 * BLOCK_BYTES, 3) == b"aba"
    file.write(0, blocks_of(b"z"))
    assert other.read(0, 2) == b"zz"
    whole = disk.read("log")
    assert whole is not None
    assert whole[:1] + whole[2 * BLOCK_BYTES :][:1] == b"za"
    file.close()
    other.close()


def test_what_is_no_longer_cached_reads_the_same(disk: Disk) -> None:
    file = disk.blocks("log", 4 * BLOCK_BYTES)
    file.write(0, blocks_of(b"ab", 2))
    before = file.read(0, 4 * BLOCK_BYTES)
    file.forget_cached()
    assert file.read(0, 4 * BLOCK_BYTES) == before
    file.sync()
    file.forget_cached()
    assert file.read(0, 4 * BLOCK_BYTES) == before
    file.close()


def test_a_block_file_is_made_once_and_opened_when_it_is_there(disk: Disk) -> None:
    disk.blocks("log", BLOCK_BYTES).close()
    with pytest.raises(StorageError, match="log"):
        disk.blocks("log", BLOCK_BYTES)
    with pytest.raises(StorageError, match="nothing"):
        disk.blocks("nothing")
    with pytest.raises(StorageError, match="a/log"):
        disk.blocks("a/log", BLOCK_BYTES)


def test_a_block_file_keeps_its_bytes_under_another_name(disk: Disk) -> None:
    file = disk.blocks("old", 2 * BLOCK_BYTES)
    file.write(0, blocks_of(b"x"))
    disk.rename("old", "new")
    file.write(BLOCK_BYTES, blocks_of(b"y"))
    file.sync()
    file.close()
    again = disk.blocks("new")
    assert again.read(BLOCK_BYTES - 1, 2) == b"xy"
    again.close()
    assert disk.unlink("new")
    assert disk.names("") == []


def test_a_block_file_closes_twice(disk: Disk) -> None:
    file = disk.blocks("log", BLOCK_BYTES)
    file.close()
    file.close()


def test_a_map_has_the_bytes_of_its_file(disk: Disk) -> None:
    write(disk, "file", b"one" * 5000)
    write(disk, "empty")
    found = disk.map("file")
    assert found is not None
    assert bytes(memoryview(found)[14_997:]) == b"one"
    assert len(memoryview(found)) == 15_000
    assert disk.map("empty") == b""
    assert disk.map("nothing") is None
    assert disk.map("file/below") is None


def test_a_map_stays_when_its_file_is_replaced(disk: Disk) -> None:
    write(disk, "file", b"old")
    found = disk.map("file")
    write(disk, "new", b"new")
    disk.rename("new", "file")
    assert found is not None
    assert bytes(found) == b"old"
    disk.unlink("file")
    assert bytes(found) == b"old"
