from __future__ import annotations

import msgspec
import pytest

from common import records
from common.errors import IntegrityError, NotAuthorised
from common.keys import ClusterKey, Keyring
from common.wire import frames
from putter.node.verify import NodeCheck, frames_verifier

OLD = ClusterKey.from_material(bytes(range(32)))
NEW = ClusterKey.from_material(bytes(range(1, 33)))
RING = Keyring([NEW, OLD])


def rows_of(data: bytes, key: ClusterKey, first: int = 7, frame_bytes: int = 16) -> bytes:
    rows = memoryview(bytearray(frames.wire_bytes(len(data), frame_bytes)))
    frames.build(rows, memoryview(data), first, frame_bytes, key.checksum)
    return bytes(rows)


def test_frames_of_every_key_of_the_ring_are_checked() -> None:
    verify = frames_verifier(RING)
    for key in (OLD, NEW):
        rows = rows_of(b"data" * 30, key)
        assert verify(key.key_id, 7, 16, rows) is True
        assert verify(key.key_id, 8, 16, rows) is False
        for at in (0, 9, 20, len(rows) - 1):
            damaged = bytearray(rows)
            damaged[at] ^= 1
            assert verify(key.key_id, 7, 16, bytes(damaged)) is False


def test_another_key_s_frames_do_not_fit() -> None:
    assert frames_verifier(RING)(NEW.key_id, 7, 16, rows_of(b"data", OLD)) is False


def test_a_key_that_is_not_there_tells_nothing() -> None:
    verify = frames_verifier(Keyring([NEW]))
    assert verify(OLD.key_id, 7, 16, rows_of(b"data", OLD)) is None
    assert verify("", 7, 16, b"") is None


def test_what_is_checked_is_not_changed() -> None:
    rows = rows_of(b"data", OLD)
    before = bytes(rows)
    frames_verifier(RING)(OLD.key_id, 7, 16, rows)
    assert rows == before


def test_each_frame_is_checked_on_its_own() -> None:
    check = NodeCheck(RING)
    rows = bytearray(rows_of(b"data" * 30, OLD))
    rows[3 * 32 + 20] ^= 1
    given = bytes(rows)
    found = check.frames(OLD.key_id, 7, 16, given)
    assert found is not None
    assert found.tolist() == [0, 0, 0, 1, 0, 0, 0, 0]
    assert given == bytes(rows)
    assert NodeCheck(Keyring([NEW])).frames(OLD.key_id, 7, 16, given) is None


def test_sums_of_what_is_whole_with_any_key_of_the_ring() -> None:
    check = NodeCheck(RING)
    rows = rows_of(b"data" * 30, OLD)
    assert check.sums(OLD.key_id, 7, 16, rows, OLD.key_id) == frames.checksums(rows, 16)
    again = rows_of(b"data" * 30, NEW)
    assert check.sums(OLD.key_id, 7, 16, rows, NEW.key_id) == frames.checksums(again, 16)
    for strange in (("x", OLD.key_id), (OLD.key_id, "x")):
        with pytest.raises(NotAuthorised):
            check.sums(strange[0], 7, 16, rows, strange[1])


def test_no_sums_of_what_is_damaged() -> None:
    rows = bytearray(rows_of(b"data" * 30, OLD))
    rows[3 * 32 + 20] ^= 1
    with pytest.raises(IntegrityError, match="1 of 8 tickets"):
        NodeCheck(RING).sums(OLD.key_id, 7, 16, bytes(rows), OLD.key_id)
    with pytest.raises(IntegrityError):
        NodeCheck(RING).sums(OLD.key_id, 8, 16, rows_of(b"data", OLD), OLD.key_id)


def test_records_of_this_and_of_later_versions_make_sense() -> None:
    check = NodeCheck(RING)
    assert check.record(records.encode(records.Tombstone("notes", "a", 5, 6)))
    assert check.record(msgspec.msgpack.encode({"kind": "of-tomorrow", "x": 1}))
    for body in (b"", b"?", msgspec.msgpack.encode({"kind": "tombstone"}), b"\xc1" * 30):
        assert not check.record(body)
