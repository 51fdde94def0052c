"""Commit records: the known are read back, the unknown are kept, and garbage is named."""

from __future__ import annotations

from functools import reduce
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import records
from common.errors import IntegrityError
from common.locks import Lock
from common.records import (
    KEYS_BUCKET,
    Abort,
    AccessKey,
    Acl,
    BucketSettings,
    CommitRecord,
    Encryption,
    Extent,
    StoredObject,
    Tombstone,
    Unknown,
    Version,
    cluster_key_in,
    joined,
    kept_under,
)

EXTENTS = (Extent(7, 16, 1_000_000, ("a", "b")), Extent(2**40, 1, 5, ("a",)))
STORED = StoredObject("3F", 1_000_005, 65_536, b"h" * 32, EXTENTS)
VERSION = Version(
    "photos", "Zürich/猫.jpg", 2**60, 1_000_005, "e1", 1_700_000_000_000, (STORED,),
    {"content-type": "image/jpeg"}, 2,
)  # fmt: skip
RECORDS: list[CommitRecord] = [
    VERSION,
    Version(
        "photos",
        "empty",
        1,
        0,
        "e0",
        2,
        (),
        tags={"a": "1"},
        tagged=9,
        lock=Lock("COMPLIANCE", 2**41, 8, "ON", 9),
    ),
    Tombstone("photos", "cat", 3, 4),
    Tombstone("photos", "cat", 3, 4, of=2),
    Abort("photos", "cat", 5, "3F"),
    BucketSettings("photos", 6, 7, {"replicas": 3, "of-tomorrow": {"days": [1, "two", None]}}),
    AccessKey(KEYS_BUCKET, "AK", 8, 9, b"\0\xff", "0a1b2c3d", "ann", True, {"photos": "read"}),
    AccessKey(KEYS_BUCKET, "gone", 10, 11),
    AccessKey(KEYS_BUCKET, "AK", 8, 9, b"s", "0a1b2c3d", "ann", False, {}, b"f", "ffffffff", 99),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_every_kind_comes_back_as_it_was(record: CommitRecord) -> None:
    assert records.decode(records.encode(record)) == record


def test_the_kind_stands_in_the_record() -> None:
    """A stranger's program finds it: one map, one field."""
    kinds = [msgspec.msgpack.decode(records.encode(record))["kind"] for record in RECORDS]
    assert kinds == [
        "version",
        "version",
        "tombstone",
        "tombstone",
        "abort",
        "bucket",
        "key",
        "key",
        "key",
    ]


def test_a_version_describes_itself() -> None:
    told = msgspec.msgpack.decode(records.encode(VERSION))
    assert told == {
        "kind": "version",
        "bucket": "photos",
        "key": "Zürich/猫.jpg",
        "stamp": 2**60,
        "size": 1_000_005,
        "etag": "e1",
        "created_ms": 1_700_000_000_000,
        "objects": [
            ["3F", 1_000_005, 65_536, b"h" * 32,
             [[7, 16, 1_000_000, ["a", "b"], {}], [2**40, 1, 5, ["a"], {}]]]
        ],
        "headers": {"content-type": "image/jpeg"},
        "replicas": 2,
    }  # fmt: skip


def test_what_a_change_is_about() -> None:
    changes = [each for each in RECORDS if isinstance(each, records.Change)]
    assert [records.name_of(each) for each in changes] == [
        "photos/Zürich/猫.jpg",
        "photos/empty",
        "photos/cat",
        "photos/cat",
        "photos/cat",
        "photos",
        "@keys/AK",
        "@keys/gone",
        "@keys/AK",
    ]


def test_only_a_corrected_version_has_a_revision() -> None:
    corrected = msgspec.structs.replace(VERSION, revision=2**60 + 5)
    assert "revision" not in msgspec.msgpack.decode(records.encode(VERSION))
    assert msgspec.msgpack.decode(records.encode(corrected))["revision"] == 2**60 + 5
    assert records.decode(records.encode(corrected)) == corrected


def test_only_a_version_with_checksums_has_some() -> None:
    summed = msgspec.structs.replace(VERSION, checksums={"crc32": "SbSHfg==", "sha1": "x=-3"})
    assert "checksums" not in msgspec.msgpack.decode(records.encode(VERSION))
    assert records.decode(records.encode(summed)) == summed


def test_only_a_version_that_came_in_parts_tells_of_them() -> None:
    whole = msgspec.msgpack.decode(records.encode(VERSION))
    assert not {"upload", "parts", "digests"} & set(whole)
    came = msgspec.structs.replace(
        VERSION, upload="0a" * 16, parts=((3, 5_242_880), (1, 7)), digests=b"1234"
    )
    assert records.decode(records.encode(came)) == came


def test_an_object_knows_its_tickets() -> None:
    assert STORED.tickets == 17


def packed(**fields: Any) -> bytes:
    return msgspec.msgpack.encode(fields)


class TestUnknown:
    def test_it_is_kept_byte_for_byte(self) -> None:
        raw = b"\x82\xa4kind\xaabucket-set\xa5quota\xcd\x00\x07"  # 7, written the long way
        record = records.decode(raw)
        assert record == Unknown("bucket-set", raw)
        assert records.encode(record) == raw

    def test_it_does_not_look_at_the_buffer_any_more(self) -> None:
        buffer = bytearray(packed(kind="later", value=1))
        record = records.decode(memoryview(buffer))  # type: ignore[arg-type]
        raw = bytes(buffer)
        buffer[:] = bytes(len(buffer))
        assert records.encode(record) == raw

    def test_it_is_no_version(self) -> None:
        with pytest.raises(IntegrityError):
            records.decode_version(packed(kind="later"))


def test_fields_of_a_later_release_are_ignored() -> None:
    told = msgspec.msgpack.decode(records.encode(VERSION))
    assert records.decode(packed(**told, of_tomorrow=["x"])) == VERSION


GARBAGE = {
    "nothing": b"",
    "a number": b"\x07",
    "an array": msgspec.msgpack.encode(["version"]),
    "no kind": packed(bucket="b", key="k"),
    "an empty kind": packed(kind=""),
    "a number for a kind": packed(kind=7),
    "a kind that is not UTF-8": b"\x81\xa4kind\xa2\xff\xfe",
    "a key that is not UTF-8": b"\x82\xa4kind\xa5abort\xa6bucket\xa2\xff\xfe",
    "a field missing": packed(kind="tombstone", bucket="b", key="k", stamp=1),
    "a field of another type": packed(kind="abort", bucket="b", key="k", stamp="1", object_id="A"),
    "a byte too many": records.encode(RECORDS[2]) + b"\0",
    "a byte too few": records.encode(RECORDS[2])[:-1],
    "a thousand arrays in each other": b"\x82\xa4kind\xa1x\xa1a" + b"\x91" * 4000 + b"\1",
    "zeros": bytes(4096),
}


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_an_integrity_error(data: bytes) -> None:
    with pytest.raises(IntegrityError, match="not a commit record"):
        records.decode(data)
    with pytest.raises(IntegrityError, match="not a version's commit record"):
        records.decode_version(data)


@pytest.mark.parametrize("record", RECORDS[2:], ids=lambda record: type(record).__name__)
def test_another_kind_is_no_version(record: CommitRecord) -> None:
    assert records.decode_version(records.encode(VERSION)) == VERSION
    with pytest.raises(IntegrityError):
        records.decode_version(records.encode(record))


def test_every_cut_of_a_version_is_noticed() -> None:
    whole = records.encode(VERSION)
    for size in range(len(whole)):
        with pytest.raises(IntegrityError):
            records.decode(whole[:size])


def test_the_cluster_key_of_an_encrypted_version() -> None:
    described = msgspec.structs.replace(VERSION, encryption=Encryption("07cff310", bytes(16)))
    assert records.decode(records.encode(described)) == described
    assert cluster_key_in(records.encode(described)) == "07cff310"
    customers = msgspec.structs.replace(
        VERSION, encryption=Encryption("", bytes(16), bytes(32), b"8 bytes.")
    )
    assert records.decode(records.encode(customers)) == customers
    for other in (
        records.encode(customers),
        records.encode(VERSION),
        b"",
        b"\xff\xfe",
        b"\x81\xa1a",
    ):
        assert cluster_key_in(other) == ""


@given(st.permutations([(0, 0), (3, 2), (2, 5), (0, 4)]))
def test_descriptions_are_joined_in_any_order(order: list[tuple[int, int]]) -> None:
    """Of a repair and a change of tags neither undoes the other."""

    def described(revision: int, tagged: int) -> Version:
        return Version(
            "b", "k", 1, 0, "e", 0, (), replicas=revision, revision=revision,
            tags={"t": str(tagged)}, tagged=tagged,
        )  # fmt: skip

    found = reduce(joined, (described(*each) for each in order))
    assert found == described(3, 5)
    assert kept_under(found) == 5
    assert kept_under(described(0, 0)) == 1
    assert kept_under(described(7, 5)) == 7
    locked = msgspec.structs.replace(described(3, 5), lock=Lock("GOVERNANCE", 9, 11, "ON", 8))
    assert (kept_under(locked), joined(found, locked), joined(locked, found)) == (
        11,
        locked,
        locked,
    )


@given(st.permutations([(0, 0), (3, 4), (2, 9), (0, 5)]))
def test_an_acl_is_as_its_last_change_says(order: list[tuple[int, int]]) -> None:
    """Whatever else was changed meanwhile."""

    def described(tagged: int, changed: int) -> Version:
        tags, acl = {"t": str(tagged)}, Acl(f"of {changed}", changed)
        return Version("b", "k", 1, 0, "e", 0, (), tags=tags, tagged=tagged, acl=acl)

    found = reduce(joined, (described(*each) for each in order))
    assert (found.tags, found.acl) == ({"t": "3"}, Acl("of 9", 9))
    assert (kept_under(found), kept_under(described(9, 3))) == (9, 9)
    assert records.decode(records.encode(found)) == found
    assert "acl" not in msgspec.msgpack.decode(records.encode(VERSION))
