"""What the twin forgets at a crash."""

from __future__ import annotations

import errno
import random

import pytest

from common.errors import NoSpace, StorageError
from putter.storage.block_file import aligned_buffer
from putter.storage.memory_disk import CHANGES, MemoryDisk


def outcomes(prepare: object, look: object, seeds: int = 60) -> set[object]:
    """Everything that can be seen after a crash."""
    seen = set()
    for seed in range(seeds):
        disk = MemoryDisk()
        prepare(disk)  # type: ignore[operator]
        disk.crash(random.Random(seed))
        seen.add(look(disk))  # type: ignore[operator]
    return seen


def durable_file(disk: MemoryDisk, path: str, data: bytes) -> None:
    disk.sync_files([disk.create(path, data)])
    disk.sync_directories([path.rpartition("/")[0]])


def test_what_was_synced_survives() -> None:
    assert outcomes(lambda d: durable_file(d, "f", b"data"), lambda d: d.read("f")) == {b"data"}


def test_a_name_that_was_not_synced_may_be_gone() -> None:
    def prepare(disk: MemoryDisk) -> None:
        disk.sync_files([disk.create("f", b"data")])

    assert outcomes(prepare, lambda d: d.read("f")) == {b"data", None}


def test_bytes_that_were_not_synced_may_be_torn() -> None:
    def prepare(disk: MemoryDisk) -> None:
        disk.create("f", b"data")
        disk.sync_directories([""])

    seen = outcomes(prepare, lambda d: d.read("f"))
    assert {b"", b"data", b"da", b"da\0\0"} <= seen


def test_a_rename_may_be_half_durable() -> None:
    def prepare(disk: MemoryDisk) -> None:
        disk.make_directory("a")
        disk.sync_directories([""])
        durable_file(disk, "f", b"data")
        disk.rename("f", "a/f")

    seen = outcomes(prepare, lambda d: (d.read("f"), d.read("a/f")))
    assert seen == {(None, None), (None, b"data"), (b"data", None), (b"data", b"data")}


def test_a_file_with_two_names_is_counted_once() -> None:
    disk = MemoryDisk(100)
    disk.make_directory("a")
    disk.sync_directories([""])
    durable_file(disk, "f", bytes(60))
    disk.rename("f", "a/f")
    disk.sync_directories(["a"])
    seed = next(s for s in range(100) if random.Random(s).choice((0, 1)) == 1)
    disk.crash(random.Random(seed))
    assert disk.files() == ["a/f", "f"]
    assert disk.capacity().free_bytes == 40
    disk.unlink("f")
    assert disk.capacity().free_bytes == 40
    disk.unlink("a/f")
    assert disk.capacity().free_bytes == 100


def test_a_removed_name_may_come_back() -> None:
    def prepare(disk: MemoryDisk) -> None:
        durable_file(disk, "f", b"data")
        disk.unlink("f")

    assert outcomes(prepare, lambda d: d.read("f")) == {b"data", None}


def test_a_durable_file_in_an_unsynced_directory_may_be_unreachable() -> None:
    def prepare(disk: MemoryDisk) -> None:
        disk.make_directory("a")
        durable_file(disk, "a/f", b"data")

    assert outcomes(prepare, lambda d: d.read("a/f")) == {b"data", None}


def test_sync_all_makes_everything_durable() -> None:
    def prepare(disk: MemoryDisk) -> None:
        disk.make_directory("a/b")
        disk.create("a/b/f", b"data")
        disk.sync_all()

    assert outcomes(prepare, lambda d: d.read("a/b/f")) == {b"data"}


def test_a_failed_sync_loses_the_bytes_for_good() -> None:
    def prepare(disk: MemoryDisk) -> None:
        def fail(operation: str, path: str) -> None:
            if operation == "sync_file":
                raise OSError(errno.EIO, "Input/output error")

        disk.before = fail
        with pytest.raises(StorageError, match="f: Input/output error"):
            disk.sync_files([disk.create("f", b"data")])
        disk.before = lambda operation, path: None
        disk.sync_all()

    assert b"" in outcomes(prepare, lambda d: d.read("f"))


def test_a_crash_is_decided_by_its_seed() -> None:
    def after(seed: int) -> list[tuple[str, bytes | None]]:
        disk = MemoryDisk()
        for index in range(20):
            disk.create(f"{index}", bytes(range(index)))
        disk.crash(random.Random(seed))
        return [(path, disk.read(path)) for path in disk.files()]

    assert after(5) == after(5)
    assert after(5) != after(6)


def test_a_full_disk_refuses_whole_files() -> None:
    disk = MemoryDisk(10)
    disk.create("a", bytes(6))
    with pytest.raises(NoSpace, match="b"):
        disk.create("b", bytes(5))
    assert disk.read("b") is None
    assert disk.capacity().free_bytes == 4
    disk.create("c", bytes(4))
    disk.rename("c", "a")
    assert disk.capacity().free_bytes == 6


def test_the_hook_hears_every_operation_before_it_happens() -> None:
    heard: list[tuple[str, str]] = []
    disk = MemoryDisk(before=lambda operation, path: heard.append((operation, path)))
    disk.make_directory("a/b")
    disk.sync_files([disk.create("f", b"")])
    disk.rename("f", "a/g")
    disk.sync_directories(["a", ""])
    disk.unlink("a/g")
    disk.remove_directory("a/b")
    disk.sync_all()
    blocks = disk.blocks("log", 8192)
    blocks.write(4096, aligned_buffer(4096))
    blocks.sync()
    assert heard == [
        ("make_directory", "a"),
        ("make_directory", "a/b"),
        ("create", "f"),
        ("sync_file", "f"),
        ("rename", "a/g"),
        ("sync_directory", "a"),
        ("sync_directory", ""),
        ("unlink", "a/g"),
        ("remove_directory", "a/b"),
        ("sync_all", ""),
        ("allocate", "log"),
        ("write", "log"),
        ("sync", "log"),
    ]
    assert {operation for operation, _ in heard} == CHANGES


def test_a_flipped_bit_stays() -> None:
    disk = MemoryDisk()
    durable_file(disk, "f", b"\x00\x00")
    disk.flip("f", 9)
    disk.crash(random.Random(0))
    assert disk.read("f") == b"\x00\x02"


def test_rot_needs_a_file() -> None:
    with pytest.raises(StorageError):
        MemoryDisk().rot("nothing", b"")
