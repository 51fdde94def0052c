from __future__ import annotations

from putter.storage.segments.open_index import OpenIndex
from putter.storage.segments.places import Place, RecordPlace, Removal

STRIDE = 24


def place(first: int, count: int, sequence: int = 0, key: int = 1) -> Place:
    size = count * STRIDE
    return Place(1, 4096, size + 88, first, count, 4184, size, 8, sequence, key, "k")


def record(number: int, stamp: int, key: int = 0, sequence: int = 0) -> RecordPlace:
    return RecordPlace(1, 4096, 104, number, stamp, key, sequence)


def test_runs_are_found_by_any_of_their_tickets() -> None:
    index = OpenIndex()
    kept = [place(30, 5), place(10, 10), place(5000, 3000)]
    for each in kept:
        index.add_run(each, raw=False)
    assert list(index.runs(19, 31, raw=False)) == [kept[1], kept[0]]
    assert list(index.runs(20, 30, raw=False)) == []
    assert list(index.runs(7999, 9000, raw=False)) == [kept[2]]
    assert list(index.all_runs(raw=False)) == [kept[1], kept[0], kept[2]]
    assert list(index.all_runs(raw=True)) == []
    assert index.highest_ticket(raw=False) == 8000
    assert index.highest_ticket(raw=True) == 0
    assert len(index) == 3


def test_freeing_cuts_runs_and_counts_what_is_left() -> None:
    index = OpenIndex()
    index.add_run(place(10, 10), raw=False)
    assert index.free(12, 14, raw=False) == [(12, 2)]
    assert [(p.first, p.end) for p in index.all_runs(raw=False)] == [(10, 12), (14, 20)]
    assert index.live_bytes == 8 * STRIDE
    assert index.free(0, 100, raw=False) == [(10, 2), (14, 6)]
    assert index.live_bytes == 0
    assert len(index) == 0


def test_freeing_spares_what_is_younger_and_other_objects() -> None:
    index = OpenIndex()
    index.add_run(place(10, 1, sequence=4, key=7), raw=False)
    index.add_run(place(11, 1, sequence=5, key=8), raw=False)
    assert index.free(0, 100, raw=False, before=4) == []
    assert index.free(0, 100, raw=False, objects={9}) == []
    assert index.free(0, 100, raw=False, objects={8}, before=5) == []
    assert index.free(0, 100, raw=False, before=5) == [(10, 1)]
    assert index.free(0, 100, raw=False, objects={8}) == [(11, 1)]
    assert index.highest_sequence == 5


def test_records_are_found_by_number_stamp_and_object() -> None:
    index = OpenIndex()
    for number, stamp, key in ((5, 50, 7), (6, 40, 7), (9, 90, 0)):
        index.add_record(record(number, stamp, key))
    assert index.with_stamp(40) == 6
    assert index.of_object(7) == [5, 6]
    assert index.of_object(0) == []
    assert [each.number for each in index.after(0, 10)] == [5, 6, 9]
    assert [each.number for each in index.after(5, 1)] == [6]
    assert index.highest_number == 9
    assert index.drop(6)
    assert not index.drop(6)
    assert index.with_stamp(40) is None
    assert index.of_object(7) == [5]
    assert [each.number for each in index.after(0, 10)] == [5, 9]
    assert index.record(6) is None


def test_older_records_may_come_later() -> None:
    """Compaction brings them, also such as were dropped here before."""
    index = OpenIndex()
    for number in (7, 9, 3, 5, 8):
        index.add_record(record(number, 10 * number))
    index.drop(5)
    index.add_record(record(5, 50))
    index.add_record(record(4, 40))
    assert [each.number for each in index.after(0, 10)] == [3, 4, 5, 7, 8, 9]
    assert index.highest_number == 9


def test_a_drop_may_be_older_than_the_record() -> None:
    index = OpenIndex()
    index.add_record(record(1, 1, sequence=5))
    assert not index.drop(1, before=5)
    assert index.drop(1, before=6)


def test_removals_are_remembered_in_order() -> None:
    index = OpenIndex()
    removals = [Removal(1, 0, 96, sequence, False, ((1, 1),)) for sequence in (4, 2)]
    for each in removals:
        index.add_removal(each)
    assert index.removals == removals
    assert index.highest_sequence == 4
