"""Marks: found by ticket, cut, swept, counted, and the same again from their note."""

from __future__ import annotations

from typing import Any

import pytest

from putter.storage import damage as module
from putter.storage.damage import Damage
from putter.storage.scrub import Finding, Part


def of_tickets(first: int, count: int, *, raw: bool = False, part: Part = Part.TICKETS) -> Finding:
    return Finding(part, first, count, "O", f"at {first}", "rot", raw)


def of_record(number: int, owner: str = "O") -> Finding:
    return Finding(Part.RECORD, number, 1, owner, "commits", "rot")


def spans(damage: Damage) -> list[tuple[int, int]]:
    return [(mark.first, mark.end) for mark in damage if mark.finding.of_tickets]


def test_marks_are_found_by_ticket_and_cut_to_what_was_asked_for() -> None:
    damage = Damage()
    damage.add(of_tickets(10, 10), 1)
    damage.add(of_tickets(30, 1), 1)
    damage.add(of_tickets(10, 5, raw=True), 1)
    found = damage.within(15, 31, raw=False)
    assert [(mark.first, mark.end, mark.finding.count) for mark in found] == [
        (15, 20, 5),
        (30, 31, 1),
    ]
    assert damage.within(20, 30, raw=False) == []
    assert [mark.first for mark in damage.within(0, 100, raw=True)] == [10]
    assert (damage.tickets, damage.others, len(damage)) == (16, 0, 3)


def test_a_newer_mark_takes_the_place_of_older_ones() -> None:
    damage = Damage()
    assert damage.add(of_tickets(10, 10), 1)
    assert not damage.add(of_tickets(12, 3, part=Part.HEADER), 2), "they are known"
    assert damage.add(of_tickets(18, 4), 3), "two of them are new"
    assert spans(damage) == [(10, 12), (12, 15), (15, 18), (18, 22)]
    assert [mark.seen for mark in damage] == [1, 2, 1, 3]
    assert damage.tickets == 12


def test_clearing_cuts() -> None:
    damage = Damage()
    damage.add(of_tickets(10, 10), 1)
    damage.clear(12, 14, raw=False)
    damage.clear(0, 100, raw=True)
    assert spans(damage) == [(10, 12), (14, 20)]
    assert damage.tickets == 8
    damage.clear(0, 100, raw=False)
    assert (spans(damage), damage.tickets) == ([], 0)


def test_other_things_are_marked_once() -> None:
    damage = Damage()
    assert damage.add(of_record(5), 1)
    assert not damage.add(of_record(5), 2)
    assert damage.add(of_record(6, "P"), 2)
    index = Finding(Part.INDEX, 0, 0, "", "a.idx", "rot")
    assert damage.add(index, 2)
    assert (damage.tickets, damage.others) == (0, 3)
    damage.clear_records(frozenset({"O", "X"}))
    assert sorted(mark.first for mark in damage) == [0, 6]


def test_a_sweep_takes_what_no_later_pass_has_seen() -> None:
    damage = Damage()
    damage.add(of_tickets(10, 1), 1)
    damage.add(of_tickets(20, 2), 2)
    damage.add(of_tickets(20, 2, raw=True), 1)
    damage.add(of_record(5), 1)
    damage.add(of_record(6), 3)
    damage.sweep(2)
    assert spans(damage) == [(20, 22)]
    assert (damage.tickets, damage.others) == (2, 1)


def test_the_note_gives_it_all_back() -> None:
    damage = Damage()
    damage.add(of_tickets(2**41, 3, raw=True), 7)
    damage.add(of_tickets(5, 1, part=Part.HEADER), 8)
    damage.add(of_record(5), 9)
    assert damage.dirty
    again = Damage(damage.encode())
    assert not again.dirty
    assert [(mark.finding, mark.seen) for mark in again] == [
        (mark.finding, mark.seen) for mark in damage
    ]


@pytest.mark.parametrize(
    "note", [b"", b"{", b"[]", b'{"format":2,"marks":[]}', b'{"format":1,"marks":[[1]]}']
)
def test_a_note_that_says_nothing_is_no_mark(note: bytes) -> None:
    assert len(Damage(note)) == 0


def test_every_change_is_told() -> None:
    told: list[tuple[int, int]] = []
    damage = Damage(None, lambda tickets, others: told.append((tickets, others)))
    damage.add(of_tickets(10, 4), 1)
    damage.add(of_record(1), 1)
    damage.clear(11, 12, raw=False)
    damage.clear(100, 120, raw=False)
    damage.clear_records(frozenset({"nobody"}))
    damage.sweep(1)
    assert told == [(4, 0), (4, 1), (3, 1)]


def test_there_is_an_end_to_marking(monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "MARKS_MAX", 3)
    damage = Damage()
    for at in range(10):
        damage.add(of_tickets(10 * at, 1), 1)
    assert len(damage) == damage.tickets == 3
    damage.clear(0, 1, raw=False)
    assert damage.add(of_tickets(500, 1), 1)
