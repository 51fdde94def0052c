from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from putter.storage.record_index import RecordIndex


@given(st.lists(st.tuples(st.sampled_from(["A", "B", ""]), st.booleans()), max_size=60))
def test_the_index_agrees_with_a_dictionary(steps: list[tuple[str, bool]]) -> None:
    index, model = RecordIndex(), dict[int, str]()
    for number, (object_id, remove) in enumerate(steps, start=1):
        index.add(number, 1000 + number, object_id)
        model[number] = object_id
        if remove:
            oldest = min(model)
            index.remove(oldest)
            del model[oldest]
            assert oldest not in index
            assert index.with_stamp(1000 + oldest) is None
        assert list(index.after(0)) == sorted(model)
        assert list(index.after(number // 2)) == sorted(n for n in model if n > number // 2)
        for name in ("A", "B"):
            assert list(index.of_object(name)) == [n for n, o in model.items() if o == name]
        assert index.of_object("") == ()
        assert all(index.with_stamp(1000 + n) == n for n in model)
        assert len(index) == len(model)


def test_dropped_numbers_do_not_pile_up() -> None:
    index = RecordIndex()
    for number in range(1, 10_001):
        index.add(number, number, "")
        if number > 10:
            index.remove(number - 10)
    assert len(index) == 10
    assert len(index._order) < 100
    assert list(index.after(0)) == list(range(9991, 10_001))
