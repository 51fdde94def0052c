from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.checksum import Buffer
from putter.storage.block_file import BLOCK_BYTES
from putter.storage.segments.index_file import DamagedIndexError, decode_head, encode_index
from putter.storage.segments.open_index import OpenIndex
from putter.storage.segments.places import Place, RecordPlace, Removal
from putter.storage.segments.sealed_index import SealedIndex

SECRET = bytes(range(32))
SEGMENT = 7
STRIDE = 24

Op = Callable[[OpenIndex | SealedIndex], object]


def place(first: int, count: int, sequence: int = 1, key: int = 3, key_id: str = "k") -> Place:
    size = count * STRIDE
    return Place(
        SEGMENT, 8 * first, size + 88, first, count, 8 * first + 88, size, 8, sequence, key, key_id
    )


def record(number: int, stamp: int, key: int = 0, sequence: int = 1) -> RecordPlace:
    return RecordPlace(SEGMENT, 4096 + 8 * (number % 997), 104, number, stamp, key, sequence)


def shape(found: Place) -> tuple[object, ...]:
    names = Place.__slots__
    return tuple(getattr(found, name) for name in names)


def sealed(index: OpenIndex, used_bytes: int = 8192) -> SealedIndex:
    data = encode_index(index, SEGMENT, used_bytes, SECRET)
    head = decode_head(data[:BLOCK_BYTES], SECRET)
    assert head is not None
    return SealedIndex(head, lambda: data, SECRET)


def test_an_empty_index_knows_nothing() -> None:
    index = sealed(OpenIndex())
    index.check()
    assert list(index.runs(0, 1 << 40, raw=False)) == []
    assert list(index.all_runs(raw=True)) == []
    assert index.free(0, 100, raw=False) == []
    assert index.with_stamp(1) is None
    assert index.of_object(1) == []
    assert index.record(1) is None
    assert index.after(0, 10) == []
    assert not index.drop(1)
    assert list(index.removals) == []
    assert index.live_bytes == 0
    assert index.highest_sequence == -1
    assert index.highest_number == 0


@pytest.mark.parametrize("base", [2**53, 2**60, 2**62])
def test_large_neighbours_are_told_apart(base: int) -> None:
    """A float has 53 bits; stamps and numbers have more."""
    index = OpenIndex()
    for step in range(6):
        index.add_record(record(base + step, base + 2 * step, base + 3 * step))
    kept = sealed(index)
    for step in range(6):
        assert kept.with_stamp(base + 2 * step) == base + step
        assert kept.with_stamp(base + 2 * step + 1) is None
        assert kept.of_object(base + 3 * step) == [base + step]
        found = kept.record(base + step)
        assert found is not None
        assert found.number == base + step
        assert [each.number for each in kept.after(base + step, 1)] == [base + step + 1][: 5 - step]
    assert kept.drop(base + 3)
    assert [each.number - base for each in kept.after(0, 10)] == [0, 1, 2, 4, 5]


def test_object_keys_with_and_without_the_highest_bit() -> None:
    index = OpenIndex()
    keys = [1, 2**53 + 1, 2**63 + 1, 2**64 - 1]
    for number, key in enumerate(keys, start=1):
        index.add_record(record(number, number, key))
    kept = sealed(index)
    assert [kept.of_object(key) for key in keys] == [[1], [2], [3], [4]]
    assert kept.of_object(2**63 + 2) == []


def test_what_is_left_of_a_run_is_found() -> None:
    index = OpenIndex()
    index.add_run(place(100, 10), raw=False)
    index.add_run(place(120, 5), raw=False)
    kept = sealed(index)
    assert kept.free(103, 105, raw=False) == [(103, 2)]
    assert kept.free(104, 107, raw=False) == [(105, 2)]
    assert kept.free(120, 121, raw=False) == [(120, 1)]
    assert [(p.first, p.end) for p in kept.all_runs(raw=False)] == [
        (100, 103),
        (107, 110),
        (121, 125),
    ]
    (part,) = kept.runs(108, 109, raw=False)
    assert (part.body, part.body_bytes) == (8 * 100 + 88 + 7 * STRIDE, 3 * STRIDE)
    assert kept.free(0, 1000, raw=False) == [(100, 3), (107, 3), (121, 4)]
    assert kept.live_bytes == 0


def test_removals_keep_their_ranges_and_kinds() -> None:
    index = OpenIndex()
    removals = [
        Removal(SEGMENT, 4096, 96, 5, True, ((1, 2), (9, 4))),
        Removal(SEGMENT, 4192, 96, 6, False, ((1, 2),), dropped=True),
        Removal(SEGMENT, 4288, 96, 6, False, ((1 << 41, 1 << 40),)),
    ]
    for each in removals:
        index.add_removal(each)
    kept = sealed(index)
    assert list(kept.removals) == removals
    assert kept.highest_sequence == 6


def test_what_was_written_before_a_removal_is_known_also_when_it_is_gone() -> None:
    index = OpenIndex()
    index.add_run(place(10, 5, sequence=4), raw=True)
    index.add_record(record(3, 1, sequence=4))
    kept = sealed(index)
    kept.free(0, 100, raw=True)
    kept.drop(3)

    def removal(first: int, sequence: int, *, dropped: bool = False) -> Removal:
        return Removal(9, 0, 96, sequence, not dropped, ((first, 1),), dropped=dropped)

    assert kept.has_written(removal(14, 5))
    assert not kept.has_written(removal(14, 4))
    assert not kept.has_written(removal(15, 5))
    assert not kept.has_written(removal(9, 5))
    assert kept.has_written(removal(3, 5, dropped=True))
    assert not kept.has_written(removal(3, 4, dropped=True))
    assert not kept.has_written(removal(4, 5, dropped=True))


def test_every_flipped_bit_is_noticed() -> None:
    index = OpenIndex()
    for first in range(0, 60, 6):
        index.add_run(place(first, 3), raw=bool(first % 4))
        index.add_record(record(first + 1, 5 * first, first))
    index.add_removal(Removal(SEGMENT, 4096, 96, 5, True, ((1, 2),)))
    data = encode_index(index, SEGMENT, 8192, SECRET)
    generator = random.Random(1)
    head_bits, body_bits = 8 * 240, range(8 * BLOCK_BYTES, 8 * len(data))
    bits = {*generator.sample(body_bits, 1000), *generator.sample(range(head_bits), 500)}
    noticed = 0
    for bit in bits:
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        head = decode_head(damaged[:BLOCK_BYTES], SECRET)
        noticed += head is None
        if head is None or bit < head_bits:  # the rest of the first block is empty
            continue
        with pytest.raises(DamagedIndexError):
            SealedIndex(head, lambda d=damaged: bytes(d), SECRET).check()  # type: ignore[misc]
    assert noticed > 400


@pytest.mark.parametrize("size", [0, 1, 100, BLOCK_BYTES - 1])
def test_a_head_that_is_cut_is_none(size: int) -> None:
    assert decode_head(encode_index(OpenIndex(), SEGMENT, 0, SECRET)[:size], SECRET) is None


def test_a_body_that_is_cut_or_gone_is_damaged() -> None:
    index = OpenIndex()
    index.add_run(place(1, 1), raw=False)
    data = encode_index(index, SEGMENT, 8192, SECRET)
    head = decode_head(data, SECRET)
    assert head is not None
    for size in (0, 10, BLOCK_BYTES, len(data) - 1):
        cut: Buffer = data[:size]
        with pytest.raises(DamagedIndexError):
            SealedIndex(head, lambda cut=cut: cut, SECRET).check()  # type: ignore[misc]


def test_another_directory_s_index_is_not_believed() -> None:
    assert decode_head(encode_index(OpenIndex(), SEGMENT, 0, SECRET), bytes(32)) is None


@st.composite
def histories(draw: st.DrawFn) -> tuple[OpenIndex, list[Op]]:
    """An index with some of everything, and what is done to it afterwards."""
    index = OpenIndex()
    sequence = 0
    for raw in (False, True):
        first = draw(st.integers(0, 1100))
        for gap, count in draw(st.lists(st.tuples(st.integers(0, 900), st.integers(1, 40)))):
            first += gap
            sequence += 1
            index.add_run(place(first, count, sequence, key=sequence % 3), raw=raw)
            first += count
    stamps = draw(st.lists(st.integers(0, 2**63 - 1), unique=True, max_size=12))
    for number, stamp in enumerate(stamps, start=draw(st.integers(1, 2**60))):
        sequence += 1
        index.add_record(record(number, stamp, key=stamp % 3, sequence=sequence))
    tickets = st.integers(0, 6000)

    def free(first: int, count: int, raw: bool, before: int | None, keys: set[int] | None) -> Op:
        return lambda at: at.free(first, first + count, raw=raw, before=before, objects=keys)

    def drop(number: int, before: int | None) -> Op:
        return lambda at: at.drop(number, before=before)

    known = [each.number for each in index.after(0, 100)] or [1]
    before = st.none() | st.integers(0, sequence + 1)
    keys = st.none() | st.sets(st.integers(0, 2))
    ops: list[Op] = draw(
        st.lists(
            st.builds(free, tickets, st.integers(1, 2000), st.booleans(), before, keys)
            | st.builds(drop, st.sampled_from(known), before)
        )
    )
    return index, ops


@given(histories(), st.lists(st.tuples(st.integers(0, 6000), st.integers(1, 2000)), max_size=8))
def test_a_sealed_index_answers_like_the_open_one(
    history: tuple[OpenIndex, list[Op]], questions: list[tuple[int, int]]
) -> None:
    index, ops = history
    kept = sealed(index)
    stamps = [each.stamp for each in index.after(0, 100)]
    for op in [lambda at: None, *ops]:
        assert op(index) == op(kept)
        assert index.live_bytes == kept.live_bytes
        for raw in (False, True):
            assert [*map(shape, index.all_runs(raw=raw))] == [*map(shape, kept.all_runs(raw=raw))]
            for first, count in questions:
                ranges = [each.runs(first, first + count, raw=raw) for each in (index, kept)]
                assert [*map(shape, ranges[0])] == [*map(shape, ranges[1])]
        for number, limit in ((0, 100), (0, 2), (index.highest_number // 2, 3)):
            assert index.after(number, limit) == kept.after(number, limit)
        for stamp in stamps:
            assert index.with_stamp(stamp) == kept.with_stamp(stamp)
        for key in range(3):
            assert index.of_object(key) == kept.of_object(key) or key == 0


@pytest.mark.parametrize("packed", [False, True])
def test_only_an_index_with_packed_runs_has_the_newer_version(packed: bool) -> None:
    open_index = OpenIndex()
    open_index.add_run(place(10, 4), raw=False)
    odd = replace(place(20, 40), body=0, body_bytes=950, length=600, packed=packed)
    open_index.add_run(odd, raw=True)
    data = encode_index(open_index, SEGMENT, 8192, SECRET)
    assert data[8:12] == bytes([1 + packed, 0, 0, 0])
    index = sealed(open_index)
    assert [shape(each) for each in index.all_runs(raw=False)] == [shape(place(10, 4))]
    assert [shape(each) for each in index.all_runs(raw=True)] == [shape(odd)]
    assert index.free(20, 30, raw=True) == [(20, 10)]
    (left,) = index.runs(0, 100, raw=True)
    assert (left.first, left.body, left.body_bytes) == (30, 10 * STRIDE, 950 - 10 * STRIDE)
    assert left.length == ((950 - 240) * 600 // 950 if packed else 950 - 240)
    assert left.packed == packed
