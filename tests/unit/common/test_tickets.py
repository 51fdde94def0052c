"""TicketIDs: the published sequence, the byte field, and the columns against single tickets."""

from __future__ import annotations

import numpy as np
import pytest

from common import tickets
from common.errors import TicketInvalid
from common.tickets import (
    TICKETS_MAX,
    decode_field,
    decode_fields,
    encode_field,
    encode_range,
    format_id,
    parse_id,
    parse_ticket,
    segments,
    successor,
)

KNOWN = [
    (0, "0"),
    (9, "9"),
    (10, "A"),
    (35, "Z"),
    (36, "00"),
    (37, "01"),
    (71, "0Z"),
    (72, "10"),
    (36 + 36**2 - 1, "ZZ"),
    (36 + 36**2, "000"),
    (TICKETS_MAX - 1, "ZZZZZZZZ"),
]
BAD_TEXTS = ["a", " 0", "0 ", "0\0", "-1", "É", "٣", "0/1", "PUTTER/1"]
# Where an ID becomes one character longer.
STEPS = [36, 36 + 36**2, 36 + 36**2 + 36**3, parse_id("00000000")]


@pytest.mark.parametrize(("number", "text"), KNOWN)
def test_known_numbers(number: int, text: str) -> None:
    assert format_id(number) == text
    assert parse_id(text) == number


def test_the_sequence_is_shorter_first_then_by_character() -> None:
    texts = [format_id(number) for number in range(3 * 36**2)]
    assert texts == sorted(texts, key=lambda text: (len(text), text))
    assert len(set(texts)) == len(texts)


def test_object_ids_grow_beyond_eight_characters() -> None:
    text = format_id(TICKETS_MAX)
    assert text == "0" * 9
    assert parse_id(text) == TICKETS_MAX
    with pytest.raises(TicketInvalid, match="longer than 8"):
        parse_ticket(text)


def test_a_negative_number_has_no_text() -> None:
    with pytest.raises(TicketInvalid, match="0 or more, not -1"):
        format_id(-1)


@pytest.mark.parametrize("text", ["", *BAD_TEXTS])
def test_other_text_is_no_id(text: str) -> None:
    with pytest.raises(TicketInvalid):
        parse_id(text)
    with pytest.raises(TicketInvalid):
        parse_ticket(text)


def test_a_long_text_is_cut_in_the_message() -> None:
    with pytest.raises(TicketInvalid) as caught:
        parse_ticket("A" * 10_000)
    assert len(caught.value.message) < 100


@pytest.mark.parametrize(("text", "following"), [("0", "1"), ("9", "A"), ("Z", "00"), ("0Z", "10")])
def test_successor(text: str, following: str) -> None:
    assert successor(text) == following


def test_the_last_ticket_has_no_successor() -> None:
    with pytest.raises(TicketInvalid, match="the last ticket"):
        successor("ZZZZZZZZ")


@pytest.mark.parametrize(("number", "text"), KNOWN)
def test_a_field_is_padded_with_nul_on_the_right(number: int, text: str) -> None:
    assert encode_field(number) == text.encode() + bytes(8 - len(text))
    assert decode_field(encode_field(number)) == number


@pytest.mark.parametrize("number", [-1, TICKETS_MAX, 2**70])
def test_numbers_that_fit_no_field(number: int) -> None:
    with pytest.raises(TicketInvalid, match="outside of"):
        encode_field(number)


BAD_FIELDS = [
    bytes(8),
    b"\0" + b"0" * 7,
    b"0\x000" + bytes(5),
    b"0" * 7 + b" ",
    b"a" + bytes(7),
    b"\xff" * 8,
    b"PUTTER/1",
]


@pytest.mark.parametrize("field", BAD_FIELDS)
def test_bad_fields_are_refused_alone_and_in_a_column(field: bytes) -> None:
    with pytest.raises(TicketInvalid):
        decode_field(field)
    good = encode_field(7)
    column = np.frombuffer(good + field + good, np.uint8).reshape(3, 8)
    assert decode_fields(column).tolist() == [7, -1, 7]


@pytest.mark.parametrize("length", [0, 7, 9])
def test_a_field_has_eight_bytes(length: int) -> None:
    with pytest.raises(TicketInvalid, match=f"8 bytes, not {length}"):
        decode_field(b"0" * length)


@pytest.mark.parametrize("step", STEPS)
def test_a_range_over_a_change_of_length(step: int) -> None:
    first = step - 3
    fields = encode_range(first, 7)
    assert [row.tobytes() for row in fields] == [encode_field(first + at) for at in range(7)]
    assert decode_fields(fields).tolist() == list(range(first, first + 7))


def test_a_range_that_crosses_three_lengths_at_once() -> None:
    count = 36 + 36**2 + 5
    assert decode_fields(encode_range(0, count)).tolist() == list(range(count))


def test_an_empty_range_has_no_rows() -> None:
    assert encode_range(5, 0).shape == (0, 8)
    assert decode_fields(np.empty((0, 8), np.uint8)).shape == (0,)


def test_a_range_may_end_with_the_last_ticket_but_not_after_it() -> None:
    assert encode_range(TICKETS_MAX - 2, 2)[1].tobytes() == b"ZZZZZZZZ"
    for first, count in [(TICKETS_MAX - 2, 3), (TICKETS_MAX, 1), (-1, 2)]:
        with pytest.raises(TicketInvalid):
            encode_range(first, count)


def test_fields_are_read_from_any_strides() -> None:
    table = np.zeros((4, 9), np.uint8)
    table[:, :8] = encode_range(34, 4)
    assert decode_fields(table[:, :8]).tolist() == [34, 35, 36, 37]


@pytest.mark.parametrize(
    ("numbers", "statuses", "expected"),
    [
        ([], [], []),
        ([5], [0], [(5, 1, 0)]),
        ([5, 6, 7], [0, 0, 0], [(5, 3, 0)]),
        ([5, 6, 7], [0, 1, 1], [(5, 1, 0), (6, 2, 1)]),
        ([5, 6, 9, 10], [0, 0, 0, 0], [(5, 2, 0), (9, 2, 0)]),
        ([6, 5], [0, 0], [(6, 1, 0), (5, 1, 0)]),
        ([1, 2, 3], [2, 255, 0], [(1, 1, 2), (2, 1, 255), (3, 1, 0)]),
    ],
)
def test_segments(
    numbers: list[int], statuses: list[int], expected: list[tuple[int, int, int]]
) -> None:
    found = segments(np.array(numbers, np.int64), np.array(statuses, np.uint8))
    assert found == expected


def test_ids_fit_the_field() -> None:
    assert tickets.FIELD_BYTES == 8
    assert sum(36**length for length in range(1, 9)) == TICKETS_MAX
