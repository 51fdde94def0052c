"""Frames of any data: they come back, they stay as they are, and no other byte is good."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from common import tickets
from common.checksum import checksum
from common.tickets import TICKETS_MAX
from common.wire import frames
from common.wire.status import Status

KEY, OTHER_KEY = bytes(range(32)), bytes(32)
FRAME_BYTES = st.integers(1, 60)
DATA = st.binary(min_size=1, max_size=700)
# Near the ends of a length there is more to go wrong than in the middle.
EDGES = st.sampled_from([tickets.parse_id("0" * length) for length in range(1, 9)])
FIRST = st.one_of(
    st.integers(0, TICKETS_MAX - 701),
    st.builds(lambda edge, by: max(0, edge - by), EDGES, st.integers(0, 40)),
)


def built(data: bytes, first: int, frame_bytes: int) -> bytearray:
    out = bytearray(frames.wire_bytes(len(data), frame_bytes))
    frames.build(memoryview(out), memoryview(data), first, frame_bytes, KEY)
    return out


@given(DATA, FIRST, FRAME_BYTES)
def test_frames_are_the_documented_bytes(data: bytes, first: int, frame_bytes: int) -> None:
    wire = b""
    for number, at in enumerate(range(0, len(data), frame_bytes), start=first):
        part, field = data[at : at + frame_bytes], tickets.encode_field(number)
        wire += field + checksum(KEY, field, part) + part
    assert built(data, first, frame_bytes) == wire


@given(DATA, FIRST, FRAME_BYTES)
def test_they_are_good_and_come_back(data: bytes, first: int, frame_bytes: int) -> None:
    rows = built(data, first, frame_bytes)
    before = bytes(rows)
    count = frames.frame_count(len(data), frame_bytes)
    assert frames.check(memoryview(rows), first, frame_bytes, KEY).tolist() == [0] * count
    fields, numbers, statuses = frames.check_any(memoryview(rows), frame_bytes, [OTHER_KEY, KEY])
    assert rows == before
    assert statuses.tolist() == [0] * count
    assert numbers.tolist() == list(range(first, first + count))
    assert [tickets.decode_field(field.tobytes()) for field in fields] == numbers.tolist()
    assert frames.strip(rows, frame_bytes) == data
    assert frames.assemble(data, first, frame_bytes, frames.checksums(rows, frame_bytes)) == rows


@given(DATA, FIRST, FRAME_BYTES, st.integers(0, 10**6), st.integers(0, 7))
def test_a_flipped_bit_spoils_its_frame_alone(
    data: bytes, first: int, frame_bytes: int, at: int, bit: int
) -> None:
    rows = built(data, first, frame_bytes)
    at %= len(rows)
    rows[at] ^= 1 << bit
    before = bytes(rows)
    spoiled = at // (frame_bytes + 16)
    statuses = frames.check(memoryview(rows), first, frame_bytes, KEY).tolist()
    assert [n for n, status in enumerate(statuses) if status] == [spoiled]
    assert statuses[spoiled] == Status.CHECKSUM_MISMATCH
    _, numbers, found = frames.check_any(memoryview(rows), frame_bytes, [KEY])
    assert [n for n, status in enumerate(found.tolist()) if status] == [spoiled]
    assert (found[spoiled] == Status.MALFORMED) == (numbers[spoiled] < 0)
    assert rows == before


@given(st.binary(min_size=17, max_size=700), FIRST, FRAME_BYTES)
def test_noise_is_never_good(noise: bytes, first: int, frame_bytes: int) -> None:
    if frames.data_bytes_of(len(noise), frame_bytes) < 0:
        noise = noise[: -(len(noise) % (frame_bytes + 16))]
    rows = bytearray(noise)
    assert 0 not in frames.check(memoryview(rows), first, frame_bytes, KEY).tolist()
    _, numbers, statuses = frames.check_any(memoryview(rows), frame_bytes, [KEY, OTHER_KEY])
    assert rows == noise
    for number, status in zip(numbers.tolist(), statuses.tolist(), strict=True):
        wanted = Status.MALFORMED if number < 0 else Status.CHECKSUM_MISMATCH
        assert status == wanted


@given(st.integers(1, 10**10), st.integers(1, 2**20))
def test_lengths_have_an_inverse(size: int, frame_bytes: int) -> None:
    wire = frames.wire_bytes(size, frame_bytes)
    assert frames.data_bytes_of(wire, frame_bytes) == size


@given(st.integers(0, 10**10), st.integers(1, 2**20))
def test_every_length_is_some_frames_or_none(wire: int, frame_bytes: int) -> None:
    size = frames.data_bytes_of(wire, frame_bytes)
    if size > 0:
        assert frames.wire_bytes(size, frame_bytes) == wire
    else:
        tail = wire % (frame_bytes + 16)
        assert wire == 0 or 0 < tail <= 16
