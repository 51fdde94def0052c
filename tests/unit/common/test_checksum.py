"""Checksums against BLAKE3 itself, and the column against one frame at a time."""

from __future__ import annotations

import os

import pytest
from blake3 import blake3

from common.checksum import (
    CHECKSUM_BYTES,
    DIGEST_BYTES,
    KEY_BYTES,
    ObjectHash,
    checksum,
    column,
    derive_key,
    keyed_digest,
    object_digest,
)

KEY = bytes(range(KEY_BYTES))
FIELD = b"0K3\0\0\0\0\0"

# From the BLAKE3 reference's test vectors: the hash of no bytes.
EMPTY = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"


def test_checksum_is_the_head_of_keyed_blake3_over_ticket_and_data() -> None:
    data = b"some data"
    assert checksum(KEY, FIELD, data) == blake3(FIELD + data, key=KEY).digest()[:CHECKSUM_BYTES]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_checksum_takes_any_buffer(kind: type) -> None:
    assert checksum(KEY, FIELD, kind(b"abc")) == checksum(KEY, FIELD, b"abc")


def test_checksum_binds_data_ticket_and_key() -> None:
    good = checksum(KEY, FIELD, b"abc")
    assert checksum(KEY, b"0K4\0\0\0\0\0", b"abc") != good
    assert checksum(KEY, FIELD, b"abd") != good
    assert checksum(bytes(KEY_BYTES), FIELD, b"abc") != good


@pytest.mark.parametrize("tail", [17, 20, 40])
def test_column_equals_one_checksum_a_row(tail: int) -> None:
    stride = 40
    rows = os.urandom(3 * stride + tail)
    values = column(KEY, memoryview(rows), stride, 8)
    expected = b"".join(
        checksum(KEY, rows[at + 8 : at + 16], rows[at + 16 : at + stride])
        for at in range(0, len(rows), stride)
    )
    assert values == expected
    assert len(values) == 4 * CHECKSUM_BYTES


def test_object_hash_is_plain_blake3_however_it_is_fed() -> None:
    running = ObjectHash()
    assert running.digest().hex() == EMPTY
    for part in (b"a", b"", b"bc"):
        running.update(part)
    assert running.digest() == object_digest(b"abc") == blake3(b"abc").digest()
    assert len(running.digest()) == DIGEST_BYTES


def test_asking_a_running_hash_does_not_end_it() -> None:
    running = ObjectHash()
    running.update(b"a")
    running.digest()
    running.update(b"b")
    assert running.digest() == object_digest(b"ab")


def test_keyed_digest_joins_its_parts() -> None:
    assert keyed_digest(KEY, b"ab", b"", b"c") == blake3(b"abc", key=KEY).digest()


def test_derived_keys_differ_by_context_and_material() -> None:
    derived = {
        derive_key("first use", KEY),
        derive_key("second use", KEY),
        derive_key("first use", bytes(KEY_BYTES)),
    }
    assert len(derived) == 3
    assert all(len(key) == KEY_BYTES for key in derived)
