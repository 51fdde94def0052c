"""The words of the scrub: cursors, stretches of damage, how a finding is said."""

from __future__ import annotations

import numpy as np
import pytest

from putter.storage.scrub import (
    THINGS_MAX,
    Finding,
    Gathered,
    Part,
    bad_stretches,
    cursor_of,
    numbers_of,
)


@pytest.mark.parametrize("numbers", [(0, 0), (1, 2**40), (3, 5)])
def test_a_cursor_comes_back_as_it_was(numbers: tuple[int, ...]) -> None:
    assert numbers_of(cursor_of(*numbers), 2) == numbers


@pytest.mark.parametrize(
    "cursor", ["", "1", "1.2.3", "a.b", "-1.2", "1.-2", "1. 2", "٣.١", ".", "½.1"]
)
def test_what_is_no_cursor_is_the_beginning(cursor: str) -> None:
    assert numbers_of(cursor, 2) == (0, 0)


@pytest.mark.parametrize(
    ("statuses", "stretches"),
    [
        ([], []),
        ([0, 0], []),
        ([1], [(0, 1)]),
        ([1, 1, 0, 7, 0, 1], [(0, 2), (3, 1), (5, 1)]),
        ([0, 3, 3, 3], [(1, 3)]),
    ],
)
def test_stretches(statuses: list[int], stretches: list[tuple[int, int]]) -> None:
    assert list(bad_stretches(np.array(statuses, np.uint8))) == stretches


def test_a_piece_is_full_by_bytes_or_by_things() -> None:
    piece = Gathered(100)
    piece.add(99)
    assert not piece.full
    piece.add(1)
    assert (piece.full, piece.verified_bytes) == (True, 100)
    piece = Gathered(100)
    for _ in range(THINGS_MAX):
        assert not piece.full
        assert piece.room > 0
        piece.add(0)
    assert (piece.full, piece.room) == (True, 0)


@pytest.mark.parametrize(
    ("finding", "said"),
    [
        (
            Finding(Part.TICKETS, 36, 2, "2K", "a.seg, byte 8", "rot"),
            "2 tickets from 00 on of object 2K: rot (a.seg, byte 8)",
        ),
        (
            Finding(Part.HEADER, 0, 1, "", "x", "rot", raw=True),
            "1 tickets from 0 on (raw): rot (x)",
        ),
        (Finding(Part.RECORD, 17, 1, "2K", "x", "rot"), "commit record 17 of object 2K: rot (x)"),
        (Finding(Part.INDEX, 0, 0, "", "a.idx", "rot"), "index: rot (a.idx)"),
    ],
)
def test_how_a_finding_is_said(finding: Finding, said: str) -> None:
    assert str(finding) == said
