from __future__ import annotations

import struct

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from common.meta.interface import Ceilings
from putter.storage.engine import NumberedRecord, Record
from putter.storage.tree.formats import (
    Sum,
    decode_ceilings,
    decode_record,
    encode_ceilings,
    encode_record,
)

SUM = Sum(1331, 1458, b"\x01\x02\x03\x04\x05\x06\x07\x08", 65536, "QX", "0a1b2c3d")
RECORD = NumberedRecord(7, Record(1_700_000_000_000_000, "QX", b"body"))


def sealed(head: bytes, tail: bytes) -> bytes:
    """The frame of all small files, written down a second time from the document."""
    assert len(head) == 32
    return head + blake3(head + tail).digest()[:8] + tail


def test_the_bytes_of_a_sum_are_those_of_the_document() -> None:
    head = b"DPsu" + bytes([1, 8, 2, 0]) + b"ZZ\0\0\0\0\0\0"
    head += b"\x01\x02\x03\x04\x05\x06\x07\x08" + struct.pack("<II", 1458, 65536)
    assert SUM.encode() == sealed(head, b"0a1b2c3d" + b"QX")
    assert SUM.encoded_bytes == len(SUM.encode())


def test_the_bytes_of_a_record_are_those_of_the_document() -> None:
    head = b"DPre" + bytes([1, 2, 0, 0]) + struct.pack("<QQI", 7, 1_700_000_000_000_000, 4)
    assert encode_record(RECORD) == sealed(head + bytes(4), b"QX" + b"body")


def test_the_bytes_of_the_ceilings_are_those_of_the_document() -> None:
    head = b"DPce" + bytes([1, 0, 0, 0]) + struct.pack("<QQQ", 1, 2, 3)
    assert encode_ceilings(Ceilings(1, 2, 3), 4) == sealed(head, struct.pack("<Q", 4))


def test_what_is_written_is_read() -> None:
    assert Sum.decode(SUM.encode()) == SUM
    assert decode_record(encode_record(RECORD)) == RECORD
    assert decode_ceilings(encode_ceilings(Ceilings(1, 2, 3), 4)) == (Ceilings(1, 2, 3), 4)


DECODERS = [
    (Sum.decode, SUM.encode()),
    (decode_record, encode_record(RECORD)),
    (decode_ceilings, encode_ceilings(Ceilings(1, 2, 3), 4)),
]


@pytest.mark.parametrize(("decode", "data"), DECODERS)
def test_every_flipped_bit_is_noticed(decode: object, data: bytes) -> None:
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        assert decode(bytes(damaged)) is None  # type: ignore[operator]


@pytest.mark.parametrize(("decode", "data"), DECODERS)
def test_every_cut_is_noticed(decode: object, data: bytes) -> None:
    for length in range(len(data)):
        assert decode(data[:length]) is None  # type: ignore[operator]
    assert decode(data + b"\0") is None  # type: ignore[operator]


@pytest.mark.parametrize(("decode", "data"), DECODERS)
def test_another_kind_version_or_length_is_refused(decode: object, data: bytes) -> None:
    head, tail = data[:32], data[40:]
    for other in (b"DPxx" + head[4:], head[:4] + b"\x02" + head[5:]):
        assert decode(sealed(other, tail)) is None  # type: ignore[operator]
    assert decode(sealed(head, tail + b"more")) is None  # type: ignore[operator]


def test_a_sum_with_a_field_that_is_no_ticket_is_refused() -> None:
    data = SUM.encode()
    assert Sum.decode(sealed(data[:8] + b"z" * 8 + data[16:32], data[40:])) is None
    assert Sum.decode(sealed(data[:32], b"\xff" * 10)) is None


@given(st.binary(max_size=200))
def test_garbage_is_refused(data: bytes) -> None:
    assert Sum.decode(data) is None
    assert decode_record(data) is None
    assert decode_ceilings(data) is None
