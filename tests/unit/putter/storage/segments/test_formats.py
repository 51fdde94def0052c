from __future__ import annotations

import struct
from dataclasses import replace

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from common.meta.interface import Ceilings
from putter.storage.block_file import BLOCK_BYTES
from putter.storage.segments.formats import (
    HEADER_BYTES,
    Header,
    Kind,
    SegmentHead,
    aligned,
    decode_head,
    decode_header,
    decode_pairs,
    encode_head,
    encode_header,
    encode_pairs,
    seal_of,
)

SECRET = bytes(range(32))
HEAD = SegmentHead(
    number=7,
    size=1 << 27,
    epoch=3,
    sequence=900,
    record_number=40,
    previous_end=5_000_000,
    end=8192,
    ceilings=Ceilings(1, 2, 3),
    secret=SECRET,
)
HEADER = Header(
    kind=Kind.RUN,
    segment=7,
    sequence=901,
    epoch=3,
    commit=2,
    body_bytes=48,
    raw=True,
    first=1332,
    count=2,
    frame_bytes=8,
    object_id="QX",
    key_id="0a1b2c3d",
)


def test_the_bytes_of_a_head_are_those_of_the_table() -> None:
    body = b"PUTTRSEG" + struct.pack("<II", 1, 3)
    body += struct.pack("<QQQQQQ", 7, 1 << 27, 900, 40, 5_000_000, 8192)
    body += struct.pack("<QQQ", 1, 2, 3) + SECRET
    assert len(body) == 120
    expected = body + blake3(body, key=SECRET).digest()[:8]
    assert encode_head(HEAD) == expected.ljust(BLOCK_BYTES, b"\0")
    assert decode_head(encode_head(HEAD)) == HEAD


def test_the_bytes_of_a_record_are_those_of_the_table() -> None:
    packed = b"PREC" + bytes([1, 1, 1, 8]) + struct.pack("<QQIIq", 7, 901, 3, 2, 1332)
    packed += struct.pack("<QIIII", 0, 2, 8, 48, 2) + bytes(8)
    assert len(packed) == 72
    names = b"QX0a1b2c3d"
    check = blake3(packed + names, key=SECRET).digest()[:8]
    assert encode_header(HEADER, SECRET) == packed + check + names
    assert HEADER.body_at == HEADER_BYTES + len(names) == 90
    assert HEADER.length == 144


@pytest.mark.parametrize("bit", range(8 * 128))
def test_a_flipped_bit_of_a_head_is_noticed(bit: int) -> None:
    data = bytearray(encode_head(HEAD))
    data[bit // 8] ^= 1 << bit % 8
    assert decode_head(bytes(data)) is None


def test_a_flipped_bit_of_a_header_is_noticed() -> None:
    whole = encode_header(HEADER, SECRET)
    for bit in range(8 * len(whole)):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        assert decode_header(data, SECRET, 7) is None


def test_a_header_that_is_cut_is_none() -> None:
    whole = encode_header(HEADER, SECRET)
    for size in range(len(whole)):
        assert decode_header(whole[:size], SECRET, 7) is None
        assert decode_head(encode_head(HEAD)[: min(size, 127)]) is None


def test_a_header_belongs_to_its_segment_and_directory() -> None:
    whole = encode_header(HEADER, SECRET)
    assert decode_header(whole, SECRET, 7) == HEADER
    assert decode_header(whole, SECRET, 8) is None
    assert decode_header(whole, bytes(32), 7) is None
    assert decode_header(memoryview(whole + b"more"), SECRET, 7) == HEADER


@given(st.binary(max_size=200))
def test_garbage_is_none(data: bytes) -> None:
    assert decode_head(data) is None
    assert decode_header(b"PREC\x01" + data, SECRET, 7) is None


U64 = st.integers(0, 2**64 - 1)
U32 = st.integers(0, 2**32 - 1)
NAMES = st.text("0123456789ABCXYZ", max_size=8)


@given(
    st.builds(
        Header,
        kind=st.sampled_from(list(Kind)),
        segment=U64,
        sequence=U64,
        epoch=U32,
        commit=U32,
        body_bytes=U32,
        raw=st.booleans(),
        first=st.integers(-(2**63), 2**63 - 1),
        number=U64,
        count=U32,
        frame_bytes=U32,
        object_id=NAMES,
        key_id=NAMES,
        body_sum=st.binary(min_size=8, max_size=8),
    )
)
def test_headers_come_back(header: Header) -> None:
    data = encode_header(header, SECRET)
    assert decode_header(data, SECRET, header.segment) == header
    assert len(data) == header.body_at
    assert header.length % 8 == 0
    assert 0 <= header.length - header.body_at - header.body_bytes < 8


@given(st.lists(st.tuples(st.integers(0, 2**42), st.integers(1, 2**42))))
def test_pairs_come_back(pairs: list[tuple[int, int]]) -> None:
    assert decode_pairs(encode_pairs(pairs)) == pairs
    assert len(encode_pairs(pairs)) == 16 * len(pairs)


def test_a_version_that_is_not_known_is_none() -> None:
    data = bytearray(encode_head(HEAD))
    data[8] = 2
    data[120:128] = seal_of(SECRET, data[:120])
    assert decode_head(bytes(data)) is None
    assert decode_head(encode_head(replace(HEAD, number=8))) == replace(HEAD, number=8)


def test_alignment() -> None:
    assert [aligned(size) for size in (0, 1, 8, 9)] == [0, 8, 8, 16]
    assert aligned(4097, BLOCK_BYTES) == 8192


def test_only_a_packed_record_has_the_version_that_older_programs_refuse() -> None:
    plain = encode_header(HEADER, SECRET)
    packed = encode_header(replace(HEADER, packed=True, number=77), SECRET)
    assert (plain[4], packed[4]) == (1, 2)
    for data, header in ((plain, HEADER), (packed, replace(HEADER, packed=True, number=77))):
        assert decode_header(data, SECRET, 7) == header
    newer = packed[:4] + b"\3" + packed[5:72]
    assert (
        decode_header(newer + seal_of(SECRET, newer, packed[80:]) + packed[80:], SECRET, 7) is None
    )
