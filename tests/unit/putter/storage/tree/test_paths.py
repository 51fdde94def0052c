from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.tickets import TICKETS_MAX, parse_id
from putter.storage.memory_disk import MemoryDisk
from putter.storage.tree.paths import numbers_below, pairs, ticket_directory, tickets_within


@pytest.mark.parametrize(
    ("text", "path"),
    [("0", "0"), ("AB", "AB"), ("ABC", "AB/C"), ("AABBCCDD", "AA/BB/CC/DD"), ("ABCDE", "AB/CD/E")],
)
def test_an_id_in_pairs(text: str, path: str) -> None:
    assert pairs(text) == path
    assert ticket_directory("tickets", parse_id(text)) == f"tickets/{path}"


TICKETS = st.one_of(
    st.integers(0, 3000), st.integers(46_000, 52_000), st.integers(0, TICKETS_MAX - 1)
)


@given(st.sets(TICKETS, max_size=30), TICKETS, st.integers(0, 10**6))
def test_listing_finds_every_ticket_of_a_range_in_order(
    tickets: set[int], first: int, count: int
) -> None:
    disk = MemoryDisk()
    for ticket in tickets:
        disk.make_directory(ticket_directory("t", ticket))
    found = list(tickets_within(disk.names, "t", first, count))
    assert found == sorted(found)
    assert all(first <= ticket < first + count for ticket in found)
    assert {t for t in tickets if first <= t < first + count} <= set(found)


def test_strange_names_are_passed_over() -> None:
    disk = MemoryDisk()
    for name in ("ab", "A", "A_", "ABC", "lost+found", "É", "Z9"):
        disk.make_directory(f"t/{name}")
    assert list(tickets_within(disk.names, "t", 0, 36 + 36**2)) == [parse_id("A"), parse_id("Z9")]


def test_listing_touches_only_the_directories_of_the_range() -> None:
    disk = MemoryDisk()
    for ticket in range(36 + 36**2, 36 + 36**2 + 500):
        disk.make_directory(ticket_directory("t", ticket))
    listed: list[str] = []
    disk.before = lambda operation, path: listed.append(path)
    assert len(list(tickets_within(disk.names, "t", 36 + 36**2 + 40, 3))) == 3
    assert listed == ["t", "t/01"]


def test_numbers_come_with_their_directories() -> None:
    disk = MemoryDisk()
    for number in (1, 12, 123, 98765):
        disk.make_directory(f"c/{pairs(str(number))}")
    disk.make_directory("c/x")
    disk.make_directory("c/²")
    found = dict(numbers_below(disk.names, "c"))
    assert {1: "c/1", 12: "c/12", 123: "c/12/3", 98765: "c/98/76/5"}.items() <= found.items()
    assert set(found) == {1, 12, 123, 98, 9876, 98765}
