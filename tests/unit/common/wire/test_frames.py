"""Frames: built and checked by the batch, and never good for a byte that is not as it was sent."""

from __future__ import annotations

import random

import numpy as np
import pytest

from common import tickets
from common.checksum import checksum
from common.errors import TicketInvalid
from common.limits import FRAME_DATA_BYTES_MAX, KIB, MIB, RAW_DATA_BYTES, RUN_BYTES_TARGET
from common.tickets import TICKETS_MAX
from common.wire import frames
from common.wire.status import Status

KEY = bytes(range(32))
OTHER_KEY = bytes(32)
SIZES = [1, 1457, 1458, 1459, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, MIB]
FRAME_SIZES = [RAW_DATA_BYTES, 64 * KIB, FRAME_DATA_BYTES_MAX]
GOOD, BAD, MALFORMED = Status.WRITTEN, Status.CHECKSUM_MISMATCH, Status.MALFORMED


def some(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def built(data: bytes, first: int = 7, frame_bytes: int = RAW_DATA_BYTES) -> bytearray:
    out = bytearray(frames.wire_bytes(len(data), frame_bytes))
    frames.build(memoryview(out), memoryview(data), first, frame_bytes, KEY)
    return out


def by_the_book(data: bytes, first: int, frame_bytes: int) -> bytes:
    """Frame after frame, as the document describes them."""
    out = b""
    for number, at in enumerate(range(0, len(data), frame_bytes), start=first):
        part = data[at : at + frame_bytes]
        field = tickets.format_id(number).encode().ljust(8, b"\0")
        out += field + checksum(KEY, field, part) + part
    return out


def statuses_of(rows: bytearray, first: int = 7, key: bytes = KEY) -> list[int]:
    return frames.check(memoryview(rows), first, RAW_DATA_BYTES, key).tolist()


@pytest.mark.parametrize("frame_bytes", FRAME_SIZES)
@pytest.mark.parametrize("size", SIZES)
class TestEverySize:
    def test_frames_are_the_documented_bytes(self, size: int, frame_bytes: int) -> None:
        data = some(size)
        # Across the border between IDs of one and of two characters.
        assert built(data, 30, frame_bytes) == by_the_book(data, 30, frame_bytes)

    def test_lengths_and_their_inverse(self, size: int, frame_bytes: int) -> None:
        wire = frames.wire_bytes(size, frame_bytes)
        assert wire == len(built(some(size), 0, frame_bytes))
        assert frames.data_bytes_of(wire, frame_bytes) == size
        assert wire - size == 16 * frames.frame_count(size, frame_bytes)

    def test_good_frames_are_good_and_stay_as_they_are(self, size: int, frame_bytes: int) -> None:
        rows = built(some(size), 7, frame_bytes)
        before = bytes(rows)
        found = frames.check(memoryview(rows), 7, frame_bytes, KEY)
        assert found.tolist() == [GOOD] * frames.frame_count(size, frame_bytes)
        assert rows == before
        fields, numbers, found = frames.check_any(memoryview(rows), frame_bytes, [KEY])
        count = len(found)
        assert not found.any()
        assert numbers.tolist() == list(range(7, 7 + count))
        assert fields.tobytes() == tickets.encode_range(7, count).tobytes()
        assert rows == before

    def test_another_key_fits_nowhere(self, size: int, frame_bytes: int) -> None:
        rows = built(some(size), 7, frame_bytes)
        before = bytes(rows)
        assert set(frames.check(memoryview(rows), 7, frame_bytes, OTHER_KEY).tolist()) == {BAD}
        assert set(frames.check_any(memoryview(rows), frame_bytes, [OTHER_KEY])[2]) == {BAD}
        assert rows == before

    def test_checksums_with_another_key(self, size: int, frame_bytes: int) -> None:
        data = some(size)
        rows = built(data, 7, frame_bytes)
        again = bytearray(len(rows))
        frames.build(memoryview(again), memoryview(data), 7, frame_bytes, OTHER_KEY)
        sums = frames.checksums(rows, frame_bytes)
        other = frames.checksums_under(rows, 7, frame_bytes, OTHER_KEY)
        assert other == frames.checksums(again, frame_bytes) != sums
        assert frames.checksums_under(rows, 7, frame_bytes, KEY) == sums

    def test_stripped_and_assembled_they_are_the_same(self, size: int, frame_bytes: int) -> None:
        data = some(size)
        rows = built(data, 7, frame_bytes)
        assert frames.strip(rows, frame_bytes) == data
        sums = frames.checksums(rows, frame_bytes)
        assert len(sums) == 8 * frames.frame_count(size, frame_bytes)
        assert frames.assemble(data, 7, frame_bytes, sums) == rows


@pytest.mark.parametrize("size", [1, 1458, 1459, 5 * 1458 + 1])
def test_another_first_ticket_is_a_mismatch(size: int) -> None:
    rows = built(some(size), 7)
    assert set(statuses_of(rows, first=8)) == {BAD}
    assert set(statuses_of(rows, first=7)) == {GOOD}


@pytest.mark.parametrize(
    "offset",
    [
        pytest.param(0, id="ticket"),
        pytest.param(7, id="padding of the ticket"),
        pytest.param(8, id="checksum, first byte"),
        pytest.param(15, id="checksum, last byte"),
        pytest.param(16, id="data, first byte"),
        pytest.param(16 + 99, id="data, last byte of the short frame"),
    ],
)
@pytest.mark.parametrize("bit", [0, 7])
@pytest.mark.parametrize("row", [0, 2, 4])
def test_one_flipped_bit_spoils_one_frame(offset: int, bit: int, row: int) -> None:
    rows = built(some(4 * RAW_DATA_BYTES + 100), first=36)  # two characters: 00 … 04
    rows[row * 1474 + offset] ^= 1 << bit
    before = bytes(rows)
    assert statuses_of(rows, first=36) == [BAD if n == row else GOOD for n in range(5)]
    assert rows == before
    _, numbers, found = frames.check_any(memoryview(rows), RAW_DATA_BYTES, [KEY])
    spoiled = MALFORMED if numbers[row] < 0 else BAD
    assert found.tolist() == [spoiled if n == row else GOOD for n in range(5)]
    assert rows == before


@pytest.mark.parametrize("offset", [0, 8, 16])
def test_a_flipped_bit_in_the_only_frame(offset: int) -> None:
    rows = built(some(100))
    rows[offset] ^= 1
    assert statuses_of(rows) == [BAD]


def test_frames_that_changed_places_are_mismatches() -> None:
    rows = built(some(3 * RAW_DATA_BYTES))
    rows[:1474], rows[1474:2948] = rows[1474:2948], rows[:1474]
    assert statuses_of(rows) == [BAD, BAD, GOOD]
    _, numbers, found = frames.check_any(memoryview(rows), RAW_DATA_BYTES, [KEY])
    assert (numbers.tolist(), found.tolist()) == ([8, 7, 9], [GOOD, GOOD, GOOD])


def test_data_under_another_ticket_is_a_mismatch() -> None:
    """The checksum binds the data to its ticket."""
    rows = built(some(2 * RAW_DATA_BYTES))
    rows[:8] = tickets.encode_field(1000)
    _, numbers, found = frames.check_any(memoryview(rows), RAW_DATA_BYTES, [KEY])
    assert (numbers.tolist(), found.tolist()) == ([1000, 8], [BAD, GOOD])


@pytest.mark.parametrize("count", [1, 3, 40], ids=["one", "few", "columns"])
@pytest.mark.parametrize(
    "field", [b"../../..", b"\0\0\0\0\0\0\0\0", b"A\0B\0\0\0\0\0", b"abc\0\0\0\0\0"]
)
def test_what_is_not_base_36_is_malformed(field: bytes, count: int) -> None:
    """Also where its checksum is right: the sender holds the key, but counts otherwise."""
    data = some(RAW_DATA_BYTES)
    rows = built(some(count * RAW_DATA_BYTES))
    rows[:1474] = field + checksum(KEY, field, data) + data
    fields, numbers, found = frames.check_any(memoryview(rows), RAW_DATA_BYTES, [KEY])
    assert fields[0].tobytes() == field
    assert (numbers[0], found[0]) == (-1, MALFORMED)
    assert not found[1:].any()


@pytest.mark.parametrize("keys", [[OTHER_KEY, KEY], [KEY, OTHER_KEY]])
def test_a_frame_is_good_under_any_key_of_the_ring(keys: list[bytes]) -> None:
    rows = built(some(3 * RAW_DATA_BYTES))
    field = tickets.encode_field(9)
    data = bytes(rows[2 * 1474 + 16 :])
    rows[2 * 1474 :] = field + checksum(OTHER_KEY, field, data) + data
    _, _, found = frames.check_any(memoryview(rows), RAW_DATA_BYTES, keys)
    assert not found.any()
    assert statuses_of(rows) == [GOOD, GOOD, BAD]


@pytest.mark.parametrize("tail", range(1, 17))
def test_a_frame_cut_within_its_header_carries_no_data(tail: int) -> None:
    stride = RAW_DATA_BYTES + 16
    assert frames.data_bytes_of(tail, RAW_DATA_BYTES) == -1
    assert frames.data_bytes_of(3 * stride + tail, RAW_DATA_BYTES) == -1


@pytest.mark.parametrize("frame_bytes", FRAME_SIZES)
def test_a_last_frame_has_at_least_one_byte_of_data(frame_bytes: int) -> None:
    stride = frame_bytes + 16
    assert frames.data_bytes_of(17, frame_bytes) == 1
    assert frames.data_bytes_of(stride + 17, frame_bytes) == frame_bytes + 1
    assert frames.data_bytes_of(2 * stride, frame_bytes) == 2 * frame_bytes
    assert frames.data_bytes_of(2 * stride - 1, frame_bytes) == 2 * frame_bytes - 1


@pytest.mark.parametrize("size", [1, RAW_DATA_BYTES + 1])
def test_tickets_end_where_they_end(size: int) -> None:
    count = frames.frame_count(size, RAW_DATA_BYTES)
    rows = built(some(size), TICKETS_MAX - count)
    assert rows[-size - 16 :][:8] == b"ZZZZZZZZ" if count == 1 else True
    assert statuses_of(rows, TICKETS_MAX - count) == [GOOD] * count
    with pytest.raises(TicketInvalid):
        built(some(size), TICKETS_MAX - count + 1)


def test_a_buffer_of_another_length_is_a_mistake() -> None:
    data = some(3000)
    for size in (frames.wire_bytes(3000, RAW_DATA_BYTES) + by for by in (-1, 1)):
        with pytest.raises(ValueError, match=r"."):
            frames.build(memoryview(bytearray(size)), memoryview(data), 0, RAW_DATA_BYTES, KEY)


def test_a_run_of_the_smallest_frames() -> None:
    """As many tickets as one message ever carries."""
    count = RUN_BYTES_TARGET // RAW_DATA_BYTES
    rows = built(some(count * RAW_DATA_BYTES), first=tickets.parse_id("ZZZ") - 100)
    assert statuses_of(rows, tickets.parse_id("ZZZ") - 100) == [GOOD] * count


@pytest.mark.parametrize("statuses", [[0], [3], [0, 0], [0, 5, 1], [7] + [0] * 1000])
def test_the_worst_status_is_the_highest(statuses: list[int]) -> None:
    assert frames.worst(np.array(statuses, np.uint8)) == max(statuses)
