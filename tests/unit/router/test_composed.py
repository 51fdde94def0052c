"""Objects that were read whole: known by what their bytes depend on, and not too many."""

from __future__ import annotations

import msgspec
import pytest

from common.records import Extent, StoredObject
from router import composed
from router.composed import Composed

STORED = StoredObject(
    "A1", 3_000, 1_000, bytes(32), (Extent(7, 2, 2_000, ("a",)), Extent(9, 1, 1_000, ("b",)))
)


def test_it_is_known_from_when_it_was_noted() -> None:
    known = Composed()
    assert not known.holds(STORED)
    known.note(STORED)
    assert known.holds(STORED)


def test_where_its_bytes_lie_does_not_matter() -> None:
    known = Composed()
    known.note(STORED)
    moved = tuple(
        msgspec.structs.replace(extent, nodes=("c", "d"), owed={"e": ""})
        for extent in STORED.extents
    )
    assert known.holds(msgspec.structs.replace(STORED, extents=moved))


@pytest.mark.parametrize(
    "change",
    [
        {"blake3": bytes(31) + b"x"},
        {"size": 2_999},
        {"frame_bytes": 500},
        {"object_id": "A2"},
        {"extents": STORED.extents[::-1]},
        {"extents": STORED.extents[:1]},
        {"extents": (Extent(8, 2, 2_000, ("a",)), STORED.extents[1])},
    ],
)
def test_another_description_is_another_object(change: dict[str, object]) -> None:
    known = Composed()
    known.note(STORED)
    assert not known.holds(msgspec.structs.replace(STORED, **change))


def test_the_oldest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(composed, "_KNOWN_MAX", 3)
    known = Composed()
    some = [msgspec.structs.replace(STORED, object_id=f"A{n}") for n in range(5)]
    for each in some:
        known.note(each)
    assert len(known) == 3
    assert [known.holds(each) for each in some] == [False, False, True, True, True]
