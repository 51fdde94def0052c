"""Verifying the tree: files that are damaged, cut, missing or cannot be read."""

from __future__ import annotations

import errno

import pytest

from common.meta.interface import Ceilings
from putter.storage.memory_disk import MemoryDisk
from putter.storage.scrub import Part
from putter.storage.tree import TreeEngine
from putter.storage.tree.paths import numbers_within, ticket_directory
from putter.storage.tree.records import record_directory
from tests.storage_kit import CHECK, bad_tickets, data_for, record, run_of, scrubbed


@pytest.fixture
def disk() -> MemoryDisk:
    return MemoryDisk()


@pytest.fixture
def engine(disk: MemoryDisk) -> TreeEngine:
    engine = TreeEngine(disk)
    for step in range(4):
        engine.put(run_of(10 * step, data_for(step, 40), object_id=f"O{step}"))
        engine.put_record(record(step + 1, f"O{step}"))
    engine.raise_ceilings(Ceilings(100, 10, 10))
    engine.sync()
    assert scrubbed(engine)[0] == []
    return engine


@pytest.mark.parametrize(
    ("name", "data", "owner", "reason"),
    [
        ("obj", b"12345678", "O1", "does not fit its checksum"),
        ("obj", b"1234567", "O1", "has 7 bytes, not 8"),
        ("obj", b"", "O1", "has 0 bytes, not 8"),
        ("obj", None, "O1", "is missing"),
        ("sum", b"", "", "'sum' is damaged"),
        ("sum", b"x" * 40, "", "'sum' is damaged"),
    ],
)
def test_a_damaged_ticket(
    disk: MemoryDisk, engine: TreeEngine, name: str, data: bytes | None, owner: str, reason: str
) -> None:
    directory = ticket_directory("tickets", 12)
    if data is None:
        disk.unlink(f"{directory}/{name}")
    else:
        disk.rot(f"{directory}/{name}", data)
    (found,) = scrubbed(engine)[0]
    assert (found.part, found.first, found.count) == (Part.TICKETS, 12, 1)
    assert (found.object_id, found.place) == (owner, directory)
    assert reason in found.reason
    assert bad_tickets(engine.inspect(0, 100, CHECK)) == {12}


def test_the_sum_of_another_ticket(disk: MemoryDisk, engine: TreeEngine) -> None:
    other = disk.read(f"{ticket_directory('tickets', 13)}/sum")
    disk.rot(f"{ticket_directory('tickets', 12)}/sum", other or b"")
    assert bad_tickets(scrubbed(engine)[0]) == {12}


def test_data_without_a_mark_is_not_stored(disk: MemoryDisk, engine: TreeEngine) -> None:
    directory = ticket_directory("tickets", 12)
    disk.rot(f"{directory}/obj", b"?")
    disk.unlink(f"{directory}/sum")
    assert scrubbed(engine)[0] == []


def test_a_ticket_that_is_freed_just_now(disk: MemoryDisk, engine: TreeEngine) -> None:
    directory = ticket_directory("tickets", 12)

    def free(operation: str, path: str) -> None:
        if operation == "read" and path == f"{directory}/obj":
            disk.before = lambda *_: None
            disk.unlink(f"{directory}/sum")
            disk.unlink(path)

    disk.before = free
    assert scrubbed(engine)[0] == []


@pytest.mark.parametrize("data", [b"", b"x" * 60])
def test_a_damaged_record(disk: MemoryDisk, engine: TreeEngine, data: bytes) -> None:
    path = f"{record_directory(3)}/record"
    disk.rot(path, data)
    (found,) = scrubbed(engine)[0]
    assert (found.part, found.first, found.place) == (Part.RECORD, 3, path)


def test_the_record_of_another_number(disk: MemoryDisk, engine: TreeEngine) -> None:
    disk.rot(f"{record_directory(3)}/record", disk.read(f"{record_directory(2)}/record") or b"")
    assert [each.first for each in scrubbed(engine)[0]] == [3]


def test_damaged_ceilings(disk: MemoryDisk, engine: TreeEngine) -> None:
    disk.flip("ceilings", 100)
    (found,) = scrubbed(engine)[0]
    assert (found.part, found.place) == (Part.STATE, "ceilings")
    engine.raise_ceilings(Ceilings(200, 10, 10))
    assert scrubbed(engine)[0] == []


@pytest.mark.parametrize(
    ("operation", "where", "part"),
    [
        ("read", "tickets/C/sum", Part.TICKETS),
        ("read", "tickets/C/obj", Part.TICKETS),
        ("read", "commits/3/record", Part.RECORD),
        ("read", "ceilings", Part.STATE),
        ("names", "tickets", Part.INDEX),
        ("names", "raw", Part.INDEX),
        ("names", "commits", Part.INDEX),
    ],
)
def test_what_cannot_be_read(
    disk: MemoryDisk, engine: TreeEngine, operation: str, where: str, part: Part
) -> None:
    def refuse(what: str, path: str) -> None:
        if (what, path) == (operation, where):
            raise OSError(errno.EIO, "Input/output error")

    disk.before = refuse
    (found,) = scrubbed(engine)[0]
    assert found.part is part
    assert "Input/output error" in found.reason
    disk.before = lambda *_: None
    assert scrubbed(engine)[0] == []


def test_a_directory_that_cannot_be_read_does_not_hide_the_others(
    disk: MemoryDisk, engine: TreeEngine
) -> None:
    disk.rot(f"{record_directory(3)}/record", b"")

    def refuse(what: str, path: str) -> None:
        if (what, path) == ("names", "tickets"):
            raise OSError(errno.EIO, "Input/output error")

    disk.before = refuse
    assert {each.part for each in scrubbed(engine)[0]} == {Part.INDEX, Part.RECORD}


def test_numbers_come_in_order() -> None:
    disk = MemoryDisk()
    engine = TreeEngine(disk)
    for stamp in range(1, 131):
        engine.put_record(record(stamp))
    engine.sync()
    for after in (0, 1, 9, 10, 98, 99, 100, 129, 130, 10**18):
        expected = list(range(after + 1, 131))
        assert list(numbers_within(disk.names, "commits", after)) == expected
    disk.make_directory("commits/AB")
    disk.make_directory("commits/1Z")
    assert len(list(numbers_within(disk.names, "commits", 0))) == 130
