from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from putter.storage.segments.index_file import decode_head, encode_index
from putter.storage.segments.open_index import OpenIndex
from putter.storage.segments.places import Place, RecordPlace, Removal
from putter.storage.segments.sealed_index import SealedIndex
from putter.storage.segments.segment import Catalog, Segment

SECRET = bytes(32)
STRIDE = 24


def place(segment: int, first: int, count: int, sequence: int = 1) -> Place:
    size = count * STRIDE
    return Place(segment, 4096, size + 88, first, count, 4184, size, 8, sequence, 1, "k")


def record(segment: int, number: int, stamp: int, key: int = 0, sequence: int = 1) -> RecordPlace:
    return RecordPlace(segment, 4096, 104, number, stamp, key, sequence)


def catalog_of(*runs: list[Place], records: list[RecordPlace] | None = None) -> Catalog:
    """A segment for each list; all but the last are sealed."""
    catalog = Catalog()
    for number, places in enumerate(runs, start=1):
        index = OpenIndex()
        for each in places:
            index.add_run(each, raw=False)
        for one in records or []:
            if one.segment == number:
                index.add_record(one)
        if number == len(runs):
            catalog.add(Segment(number, index, 0, 1 << 20))
            continue
        data = encode_index(index, number, 8192, SECRET)
        head = decode_head(data, SECRET)
        assert head is not None
        sealed = SealedIndex(head, lambda data=data: data, SECRET)  # type: ignore[misc]
        catalog.add(Segment(number, sealed, 8192, 1 << 20))
    return catalog


def asked(catalog: Catalog, first: int, end: int, limit: int = 64) -> list[tuple[int, int, int]]:
    places = catalog.places(first, end, raw=False, limit=limit)
    return [(each.segment, each.first, each.end) for each in places]


def test_places_come_in_order_from_all_segments() -> None:
    catalog = catalog_of([place(1, 10, 5), place(1, 30, 5)], [place(2, 20, 5)], [place(3, 0, 4)])
    assert asked(catalog, 0, 100) == [(3, 0, 4), (1, 10, 15), (2, 20, 25), (1, 30, 35)]
    assert asked(catalog, 12, 31) == [(1, 12, 15), (2, 20, 25), (1, 30, 31)]
    assert asked(catalog, 0, 100, limit=1) == [(3, 0, 4)]
    assert asked(catalog, 4, 10) == []


def test_of_two_copies_the_newer_counts() -> None:
    catalog = catalog_of([place(1, 10, 5)], [place(2, 10, 5)], [])
    assert asked(catalog, 0, 100) == [(2, 10, 15)]
    assert asked(catalog, 11, 12) == [(2, 11, 12)]
    assert asked(catalog, 11, 12, limit=1) == [(2, 11, 12)]


def test_a_copy_of_a_part_leaves_the_rest() -> None:
    catalog = catalog_of([place(1, 10, 10)], [place(2, 10, 4)], [])
    assert asked(catalog, 0, 100) == [(2, 10, 14), (1, 14, 20)]
    assert asked(catalog, 13, 15) == [(2, 13, 14), (1, 14, 15)]


@given(
    st.lists(st.lists(st.tuples(st.integers(0, 120), st.integers(1, 15)), max_size=8), min_size=1),
    st.integers(0, 130),
    st.integers(1, 130),
    st.integers(1, 5),
)
def test_places_cover_what_is_there_once(
    runs: list[list[tuple[int, int]]], first: int, count: int, limit: int
) -> None:
    lists: list[list[Place]] = []
    there: set[int] = set()
    for segment, pairs in enumerate(runs, start=1):
        mine: list[Place] = []
        end = 0
        for low, size in sorted(pairs):
            if low >= end:
                mine.append(place(segment, low, size))
                end = low + size
                there |= set(range(low, end))
        lists.append(mine)
    catalog = catalog_of(*lists)
    seen: list[int] = []
    at, end = first, first + count
    while some := catalog.places(at, end, raw=False, limit=limit):
        assert len(some) <= limit
        for each in some:
            assert each.count > 0
            seen += range(each.first, each.end)
        at = some[-1].end
    assert seen == sorted(there & set(range(first, end)))


def test_records_are_found_across_segments() -> None:
    records = [record(1, 1, 50, 7), record(1, 3, 40), record(2, 2, 60, 7), record(3, 5, 70, 7)]
    catalog = catalog_of([], [], [], records=[*records, record(3, 1, 50, 7)])
    assert [each.number for each in catalog.after(0, 10)] == [1, 2, 3, 5]
    assert [each.number for each in catalog.after(1, 2)] == [2, 3]
    assert catalog.of_object(7) == [1, 2, 5]
    assert catalog.with_stamp(60) == 2
    assert catalog.with_stamp(61) is None
    newest = catalog.record(1)
    assert newest is not None
    assert newest.segment == 3
    assert catalog.drop(1)
    assert not catalog.drop(1)
    assert catalog.with_stamp(50) is None
    assert [each.number for each in catalog.after(0, 10)] == [2, 3, 5]


def test_a_removal_reaches_what_is_older_wherever_it_lies() -> None:
    catalog = catalog_of(
        [place(1, 10, 5, sequence=3)],
        [place(2, 20, 5, sequence=9)],
        [place(3, 30, 5, sequence=4)],
        records=[record(1, 1, 1, sequence=2), record(3, 2, 2, sequence=8)],
    )
    catalog.apply(Removal(2, 0, 96, 5, False, ((0, 12), (20, 12))))
    assert asked(catalog, 0, 100) == [(1, 12, 15), (2, 20, 25), (3, 32, 35)]
    catalog.apply(Removal(2, 0, 96, 5, False, ((1, 2),), dropped=True))
    assert [each.number for each in catalog.after(0, 10)] == [2]


def test_a_segment_that_is_gone_is_not_asked() -> None:
    catalog = catalog_of([place(1, 10, 5)], [place(2, 20, 5)], [])
    assert len(asked(catalog, 0, 100)) == 2
    catalog.remove(catalog.segments[1])
    assert asked(catalog, 0, 100) == [(2, 20, 25)]
