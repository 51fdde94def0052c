"""Laws of TicketIDs that hold for every number and every eight bytes."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from common import tickets
from common.errors import TicketInvalid
from common.tickets import TICKETS_MAX

NUMBERS = st.integers(0, TICKETS_MAX - 1)
# Near the ends of a length there is more to go wrong than in the middle.
EDGES = st.sampled_from([tickets.parse_id("0" * length) for length in range(1, 9)])
STARTS = st.one_of(
    NUMBERS, st.builds(lambda edge, by: max(0, edge - by), EDGES, st.integers(0, 40))
)


@given(NUMBERS)
def test_text_and_field_give_the_number_back(number: int) -> None:
    text = tickets.format_id(number)
    assert tickets.parse_ticket(text) == number
    assert tickets.decode_field(tickets.encode_field(number)) == number
    assert tickets.encode_field(number) == text.encode().ljust(8, b"\0")


@given(st.integers(0, 2**80))
def test_object_ids_have_no_end(number: int) -> None:
    assert tickets.parse_id(tickets.format_id(number)) == number


@given(NUMBERS, NUMBERS)
def test_order_of_numbers_is_order_of_texts(a: int, b: int) -> None:
    left, right = tickets.format_id(a), tickets.format_id(b)
    assert (a < b) == ((len(left), left) < (len(right), right))


@given(st.integers(0, TICKETS_MAX - 2))
def test_the_successor_has_the_next_number(number: int) -> None:
    following = tickets.successor(tickets.format_id(number))
    assert tickets.parse_ticket(following) == number + 1


@given(STARTS, st.integers(0, 200))
def test_a_range_is_its_fields_one_by_one(first: int, count: int) -> None:
    count = min(count, TICKETS_MAX - first)
    fields = tickets.encode_range(first, count)
    assert fields.tobytes() == b"".join(tickets.encode_field(first + at) for at in range(count))
    assert tickets.decode_fields(fields).tolist() == list(range(first, first + count))


@given(st.lists(st.binary(min_size=8, max_size=8), max_size=20))
def test_a_column_reads_what_single_fields_read(fields: list[bytes]) -> None:
    def read(field: bytes) -> int:
        try:
            return tickets.decode_field(field)
        except TicketInvalid:
            return -1

    column = np.frombuffer(b"".join(fields), np.uint8).reshape(len(fields), 8)
    assert tickets.decode_fields(column).tolist() == [read(field) for field in fields]


@given(st.text(max_size=12))
def test_text_parses_or_raises_the_one_error(text: str) -> None:
    try:
        number = tickets.parse_ticket(text)
    except TicketInvalid:
        return
    assert tickets.format_id(number) == text


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 2)), max_size=40))
def test_segments_tell_the_same_tickets_in_the_same_order(pairs: list[tuple[int, int]]) -> None:
    numbers = np.array([number for number, _ in pairs], np.int64)
    statuses = np.array([status for _, status in pairs], np.uint8)
    found = tickets.segments(numbers, statuses)
    assert [(first + at, status) for first, count, status in found for at in range(count)] == pairs
    joins = itertools.pairwise(found)
    assert all((a[0] + a[1], a[2]) != (b[0], b[2]) for a, b in joins)
