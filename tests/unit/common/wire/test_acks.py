"""Acks: nine bytes each, found again wherever the stream was cut."""

from __future__ import annotations

import numpy as np
import pytest

from common import tickets
from common.errors import TicketInvalid
from common.tickets import TICKETS_MAX
from common.wire import acks
from common.wire.acks import AckDecoder
from common.wire.status import Status


def test_an_ack_is_the_documented_bytes() -> None:
    fields = tickets.encode_range(35, 2)
    assert acks.encode(fields, np.array([0, 4], np.uint8)) == (
        b"Z\0\0\0\0\0\0\0\x00" + b"00\0\0\0\0\0\0\x04"
    )


def test_a_field_that_is_no_ticket_comes_back_as_it_came() -> None:
    """The sender recognises what it sent, also where it was malformed."""
    fields = np.frombuffer(b"../../..", np.uint8).reshape(1, 8)
    assert acks.encode(fields, np.array([7], np.uint8)) == b"../../..\x07"


@pytest.mark.parametrize("count", [1, 2, 12, 13, 5000])
def test_a_range_is_one_ack_a_ticket(count: int) -> None:
    wire = acks.encode_range(1290, count, Status.NO_SPACE)
    assert len(wire) == 9 * count
    numbers, statuses = AckDecoder().receive(wire)
    assert numbers.tolist() == list(range(1290, 1290 + count))
    assert statuses.tolist() == [Status.NO_SPACE] * count


def test_no_acks_are_no_bytes() -> None:
    assert acks.encode_range(5, 0, 0) == b""
    decoder = AckDecoder()
    numbers, statuses = decoder.receive(b"")
    assert (len(numbers), len(statuses), decoder.pending_bytes) == (0, 0, 0)


def test_a_range_beyond_the_last_ticket_is_refused() -> None:
    assert acks.encode_range(TICKETS_MAX - 1, 1, 0) == b"ZZZZZZZZ\0"
    with pytest.raises(TicketInvalid):
        acks.encode_range(TICKETS_MAX - 1, 2, 0)


def test_byte_by_byte() -> None:
    decoder = AckDecoder()
    wire = acks.encode_range(34, 3, 2)
    got = []
    for at in range(len(wire)):
        assert decoder.pending_bytes == at % 9
        numbers, statuses = decoder.receive(wire[at : at + 1])
        got += list(zip(numbers.tolist(), statuses.tolist(), strict=True))
    assert got == [(34, 2), (35, 2), (36, 2)]
    assert decoder.pending_bytes == 0


def test_bytes_that_are_no_ticket_do_not_spoil_the_next_ack() -> None:
    numbers, statuses = AckDecoder().receive(b"not-base\x00" + acks.encode_range(7, 1, 0))
    assert (numbers.tolist(), statuses.tolist()) == ([-1, 7], [0, 0])


def test_an_unknown_status_is_handed_on() -> None:
    _, statuses = AckDecoder().receive(b"7\0\0\0\0\0\0\0\xff")
    assert statuses.tolist() == [255]


def test_what_was_decoded_stays_when_the_next_bytes_come() -> None:
    """The caller's buffer may be used again: nothing looks at it afterwards."""
    decoder = AckDecoder()
    wire = bytearray(acks.encode_range(7, 2, 3) + b"8\0\0")
    numbers, statuses = decoder.receive(wire)
    wire[:] = bytes(len(wire))
    assert (numbers.tolist(), statuses.tolist()) == ([7, 8], [3, 3])
    numbers, _ = decoder.receive(b"\0\0\0\0\0\0")
    assert numbers.tolist() == [8]


@pytest.mark.parametrize("cut", range(10))
@pytest.mark.parametrize(
    ("wire", "told"),
    [
        (acks.encode_range(7, 1, 3), [(7, 1, 3)]),
        (acks.encode_range(7, 2, 3), [(7, 2, 3)]),
        (acks.encode_range(7, 2, 3) + acks.encode_range(9, 1, 0), [(7, 2, 3), (9, 1, 0)]),
        (b"not-base\x00", [(-1, 1, 0)]),
        (b"8\0X\0\0\0\0\0\x05", [(-1, 1, 5)]),
        (b"7\0\0\0\0\0\0\0\xff", [(7, 1, 255)]),
    ],
)
def test_stretches_wherever_the_stream_is_cut(
    wire: bytes, told: list[tuple[int, int, int]], cut: int
) -> None:
    decoder = AckDecoder()
    found = decoder.ranges(wire[:cut]) + decoder.ranges(wire[cut:])
    each = [(n + at if n >= 0 else n, s) for n, count, s in found for at in range(count)]
    assert each == [(n + at if n >= 0 else n, s) for n, count, s in told for at in range(count)]
    assert decoder.pending_bytes == 0


def test_no_bytes_have_no_stretches() -> None:
    assert AckDecoder().ranges(b"") == []
