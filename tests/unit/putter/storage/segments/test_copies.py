"""What lies in two segments counts once: the copies, in the one with the higher number."""

from __future__ import annotations

from dataclasses import replace

import pytest

from putter.storage.segments.copies import count_once
from putter.storage.segments.formats import seal_of
from putter.storage.segments.index_file import decode_head, encode_index
from putter.storage.segments.open_index import OpenIndex
from putter.storage.segments.places import Place, RecordPlace
from putter.storage.segments.sealed_index import SealedIndex
from putter.storage.segments.segment import Catalog, Index, Segment

SECRET = bytes(32)


def run(segment: int, first: int, count: int, sequence: int) -> Place:
    return Place(segment, 4096, 8 * count + 80, first, count, 4176, 24 * count, 8, sequence, 0, "")


def record(segment: int, number: int, sequence: int) -> RecordPlace:
    return RecordPlace(segment, 4096, 100, number, number, 0, sequence)


def catalog_of(*segments: list[Place | RecordPlace], sealed: bool) -> Catalog:
    """Segments 1, 2, 3 …; all but the last are sealed if that is wanted."""
    catalog = Catalog()
    for number, held in enumerate(segments, start=1):
        index: Index = OpenIndex()
        assert isinstance(index, OpenIndex)
        for each in held:
            if isinstance(each, Place):
                index.add_run(each, raw=False)
            else:
                index.add_record(each)
        if sealed and number < len(segments):
            data = encode_index(index, number, 9000, SECRET)
            head = decode_head(data[:4096], SECRET)
            assert head is not None
            assert head.body_sum == seal_of(SECRET, data[4096:])
            index = SealedIndex(head, lambda data=data: data, SECRET)  # type: ignore[misc]
        catalog.add(Segment(number, index, 9000, 9000))
    return catalog


def live(catalog: Catalog) -> dict[int, int]:
    return {number: segment.index.live_bytes for number, segment in catalog.segments.items()}


@pytest.fixture(params=[False, True], ids=["open", "sealed"])
def sealed(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def test_without_copies_nothing_changes(sealed: bool) -> None:
    catalog = catalog_of(
        [run(1, 0, 10, 0), record(1, 1, 1)], [run(2, 10, 10, 2)], [], sealed=sealed
    )
    before = live(catalog)
    assert count_once(catalog) == 0
    assert live(catalog) == before


def test_the_original_of_a_copy_is_dead_space(sealed: bool) -> None:
    catalog = catalog_of(
        [run(1, 0, 10, 0), record(1, 1, 1), run(1, 50, 1, 2), record(1, 2, 3)],
        [run(2, 80, 2, 4), run(2, 0, 10, 0), record(2, 1, 1)],
        [run(3, 90, 1, 5)],
        sealed=sealed,
    )
    assert count_once(catalog) == 160 + 100
    assert live(catalog) == {1: 88 + 100, 2: 96 + 160 + 100, 3: 88}
    assert [place.segment for place in catalog.places(0, 60, raw=False, limit=9)] == [2, 1]
    assert [catalog.record(number).segment for number in (1, 2)] == [2, 1]  # type: ignore[union-attr]
    assert count_once(catalog) == 0


def test_of_a_run_that_was_copied_in_part_the_rest_stays(sealed: bool) -> None:
    """It was cut where a segment ended, and the second part was not durable."""
    catalog = catalog_of([run(1, 0, 10, 0)], [run(2, 0, 4, 0)], [], sealed=sealed)
    count_once(catalog)
    assert [(p.segment, p.first, p.count) for p in catalog.places(0, 60, raw=False, limit=9)] == [
        (2, 0, 4),
        (1, 4, 6),
    ]
    assert list(catalog.segments[1].index.runs(0, 4, raw=False)) == []


def test_parts_of_one_run_in_two_segments_are_no_copies(sealed: bool) -> None:
    """A copy that was cut has one sequence number in both parts."""
    catalog = catalog_of([run(1, 90, 1, 7)], [run(2, 0, 4, 3)], [run(3, 4, 6, 3)], sealed=sealed)
    assert count_once(catalog) == 0


def test_a_copy_of_a_copy(sealed: bool) -> None:
    """The segment of the original is long gone."""
    catalog = catalog_of(
        [run(1, 90, 1, 7)],
        [run(2, 0, 10, 3), run(2, 100, 1, 8)],
        [run(3, 0, 10, 3), run(3, 110, 1, 9)],
        sealed=sealed,
    )
    assert count_once(catalog) == 160
    assert live(catalog) == {1: 88, 2: 88, 3: 160 + 88}


def test_raw_tickets_are_a_namespace_of_their_own(sealed: bool) -> None:
    catalog = catalog_of([run(1, 0, 10, 0)], [replace(run(2, 0, 10, 0))], [], sealed=False)
    raw = OpenIndex()
    raw.add_run(run(2, 0, 10, 0), raw=True)
    catalog.segments[2].index = raw
    catalog.changed()
    assert count_once(catalog) == 0
    assert len(list(catalog.segments[1].index.all_runs(raw=False))) == 1
