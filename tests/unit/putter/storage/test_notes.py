"""Notes are replaced as a whole, and a damaged one counts as lost."""

from __future__ import annotations

import errno
import json
import random

import pytest

from common.errors import NoSpace
from putter.storage.memory_disk import CHANGES, MemoryDisk
from putter.storage.notes import DiskNotes, MemoryNotes, Notes


@pytest.mark.parametrize("notes", [MemoryNotes(), DiskNotes(MemoryDisk())], ids=["memory", "disk"])
def test_what_was_saved_last_is_loaded(notes: Notes) -> None:
    assert notes.load("a") is None
    notes.save("a", b'{"x":1}')
    notes.save("b", b"[]")
    notes.save("a", b'{"x":2}')
    assert (notes.load("a"), notes.load("b"), notes.load("c")) == (b'{"x":2}', b"[]", None)
    notes.close()


def test_the_file_is_json_with_a_digest() -> None:
    disk = MemoryDisk()
    DiskNotes(disk).save("a", b'{"x":1}')
    data = disk.read("a.json")
    assert data is not None
    told = json.loads(data)
    assert told["note"] == {"x": 1}
    assert len(told["blake3"]) == 64


def test_one_bit_anywhere_makes_it_a_lost_one_or_changes_nothing() -> None:
    disk = MemoryDisk()
    notes = DiskNotes(disk)
    note = b'{"format":1,"x":"abc"}'
    notes.save("a", note)
    for bit in range(8 * len(disk.read("a.json") or b"")):
        disk.flip("a.json", bit)
        assert notes.load("a") in (None, note), bit
        disk.flip("a.json", bit)
    assert notes.load("a") == note


def test_a_crash_leaves_the_old_one_or_the_new_one() -> None:
    seen = set()
    for step in range(8):
        for seed in range(8):
            disk = MemoryDisk()
            notes = DiskNotes(disk)
            notes.save("a", b'"old"')
            done = 0

            def stop(operation: str, path: str, step: int = step) -> None:
                nonlocal done
                if operation in CHANGES or operation.startswith("sync"):
                    if done == step:
                        raise KeyboardInterrupt
                    done += 1

            disk.before = stop
            try:
                notes.save("a", b'"new"')
                ended = True
            except KeyboardInterrupt:
                ended = False
            disk.before = lambda *_: None
            disk.crash(random.Random(seed))
            found = DiskNotes(disk).load("a")
            assert found in (b'"old"', b'"new"')
            assert found == b'"new"' or not ended, "it was durable"
            seen.add(found)
            DiskNotes(disk).save("a", b'"again"')
            assert DiskNotes(disk).load("a") == b'"again"'
    assert seen == {b'"old"', b'"new"'}


def test_a_disk_that_refuses_keeps_the_old_one() -> None:
    disk = MemoryDisk()
    notes = DiskNotes(disk)
    notes.save("a", b"1")

    def refuse(operation: str, path: str) -> None:
        if operation == "create":
            raise OSError(errno.ENOSPC, "full")

    disk.before = refuse
    with pytest.raises(NoSpace):
        notes.save("a", b"2")
    disk.before = lambda *_: None
    assert notes.load("a") == b"1"


def test_a_disk_that_cannot_be_read_counts_as_lost() -> None:
    disk = MemoryDisk()
    notes = DiskNotes(disk)
    notes.save("a", b"1")

    def refuse(operation: str, path: str) -> None:
        raise OSError(errno.EIO, "Input/output error")

    disk.before = refuse
    assert notes.load("a") is None
