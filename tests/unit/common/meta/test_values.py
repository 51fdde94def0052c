"""The values behind the keys."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import IntegrityError
from common.meta import values
from common.records import KEYS_BUCKET, AccessKey, Acl, Encryption, Extent, StoredObject, Version
from tests.metadata_kit import BUCKET, stored, version

NODES = st.lists(st.from_regex(r"\A[a-z0-9.:_-]*[a-z0-9]\Z"), max_size=4, unique=True).map(tuple)
RANGES = st.lists(st.tuples(st.integers(0, 10**13), st.integers(1, 10**6)), max_size=5).map(tuple)
OWED = st.dictionaries(st.sampled_from(["n1", "n2", "*"]), st.sampled_from(["", "n3"]), max_size=2)
EXTENTS = st.builds(
    Extent, st.integers(0, 10**12), st.integers(1, 9), st.integers(0, 2**40), NODES, OWED
)
OBJECTS = st.builds(
    StoredObject,
    st.from_regex(r"\A[0-9A-Z]{1,8}\Z"),
    st.integers(0, 2**50),
    st.integers(1458, 2**20),
    st.binary(min_size=32, max_size=32),
    st.lists(EXTENTS, max_size=3).map(tuple),
)
VERSIONS = st.builds(
    Version,
    bucket=st.just(BUCKET),
    key=st.text(min_size=1, max_size=40),
    stamp=st.integers(0, 2**53),
    size=st.integers(0, 2**50),
    etag=st.text(max_size=40),
    created_ms=st.integers(0, 2**45),
    objects=st.lists(OBJECTS, max_size=3).map(tuple),
    headers=st.dictionaries(st.text(max_size=9), st.text(max_size=9), max_size=3),
    checksums=st.dictionaries(st.text(max_size=9), st.text(max_size=9), max_size=2),
    upload=st.text(max_size=9),
    parts=st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), max_size=3).map(tuple),
    digests=st.binary(max_size=9),
    encryption=st.none() | st.builds(Encryption, st.text(max_size=8), *[st.binary(max_size=9)] * 3),
    replicas=st.integers(1, 9),
    acl=st.builds(Acl, st.text(max_size=9), st.integers(0, 2**53)),
)


@given(VERSIONS)
def test_a_version_comes_back(what: Version) -> None:
    value = values.pack_version(what)
    assert values.unpack_version(BUCKET, what.key, value) == what
    entry = values.unpack_entry(BUCKET, what.key, value)
    assert entry is not None
    assert (entry.key, entry.size, entry.etag) == (what.key, what.size, what.etag)
    assert (entry.stamp, entry.created_ms) == (what.stamp, what.created_ms)


def test_a_value_from_before_debts_is_read() -> None:
    what = version("a", 10, stored("A"))
    (each,) = what.objects
    extents = [[100, 2, 1500, ["n1", "n2"]]]
    objects = [["A", each.size, each.frame_bytes, each.blake3, extents]]
    rest = msgspec.msgpack.encode([what.size, what.created_ms, objects, what.headers, 2])
    assert values.unpack_version(BUCKET, "a", b"v 10 A 5 e-tag" + rest) == what


def test_debtors_are_told_once_in_order() -> None:
    extents = (
        Extent(0, 1, 700, ("n1",), {"n9": "n1"}),
        Extent(1, 1, 800, ("n1",), {"n9": "", "n2": ""}),
        Extent(2, 1, 800, ("n1",)),
    )
    for number, expected in ((1, ("n9",)), (2, ("n2", "n9")), (3, ("n2", "n9"))):
        what = StoredObject("A", 1500, 1458, b"", extents[:number])
        assert values.debtors(what) == expected
        assert values.pack_debts(what, expected) == f"1500 {','.join(expected)}"
    assert values.debtors(StoredObject("A", 1, 1, b"", extents[2:])) == ()
    assert values.debtors(StoredObject("A", 0, 1, b"", ())) == ()
    assert values.pack_debts(stored("A"), ()) == ""


@given(NODES)
def test_nodes_come_back_sorted(nodes: tuple[str, ...]) -> None:
    packed = values.pack_nodes(nodes)
    assert " " not in packed
    assert packed
    assert values.unpack_nodes(packed.encode()) == tuple(sorted(nodes))


@given(RANGES)
def test_ranges_come_back(ranges: tuple[tuple[int, int], ...]) -> None:
    packed = values.pack_ranges(ranges)
    assert " " not in packed
    assert packed
    assert values.unpack_ranges(packed.encode()) == ranges


@given(NODES, RANGES)
def test_a_writing_object_comes_back(
    nodes: tuple[str, ...], ranges: tuple[tuple[int, int], ...]
) -> None:
    value = values.pack_writing("r1", nodes, ranges).encode()
    state = values.unpack_object(BUCKET, "A", value, None)
    assert (state.state, state.router, state.ranges) == ("writing", "r1", ranges)
    assert state.nodes == tuple(sorted(nodes))


@given(
    st.builds(
        AccessKey,
        st.just(KEYS_BUCKET),
        st.just("AK"),
        st.integers(0, 2**53),
        st.integers(0, 2**45),
        st.binary(max_size=60),
        st.text(max_size=8),
        st.text(max_size=9),
        st.booleans(),
        st.dictionaries(st.text(max_size=9), st.sampled_from(["read", "write"]), max_size=3),
        st.binary(max_size=60),
        st.text(max_size=8),
        st.integers(0, 2**45),
    )
)
def test_an_access_key_comes_back(record: AccessKey) -> None:
    assert values.unpack_access("AK", values.pack_access(record)) == record


def test_an_access_key_of_before_old_secrets_comes_back() -> None:
    held = msgspec.msgpack.encode((5, b"sealed", "0a1b2c3d", "ann", True, {"a": "read"}))
    record = values.unpack_access("AK", b"7 " + held)
    assert record == AccessKey(
        KEYS_BUCKET, "AK", 7, 5, b"sealed", "0a1b2c3d", "ann", True, {"a": "read"}
    )


@given(
    st.one_of(
        st.binary(max_size=40),
        st.binary(max_size=40).map(lambda rest: b"7 " + rest),
        st.just(b"7 \xd9\x01\xff"),
        st.just(b"7 " + b"\x91" * 3000),
    )
)
def test_damaged_access_keys_are_named(value: bytes) -> None:
    with pytest.raises(IntegrityError, match="the access key 'AK'"):
        values.unpack_access("AK", value)


def test_a_tombstone_is_no_version() -> None:
    for value in (b"t 17", b"a 17"):
        assert values.unpack_version(BUCKET, "a", value) is None
        assert values.unpack_entry(BUCKET, "a", value) is None


@pytest.mark.parametrize(
    "value",
    [b"v", b"v 1 A 3", b"v x A 3 abc", b"v 1 A 3 abc\xc1", b"v 1 - 0 ", b"v 1 - 2 \xff\xff"],
)
def test_damaged_versions_are_named(value: bytes) -> None:
    with pytest.raises(IntegrityError, match="photos/a"):
        values.unpack_version(BUCKET, "a", value)
    with pytest.raises(IntegrityError, match="photos/a"):
        values.unpack_entry(BUCKET, "a", value)


@pytest.mark.parametrize(
    "value", [b"", b"w", b"w x r1 - -", b"w 1 r1 - 1+", b"q 1 r1 - a", b"c 1 r1 - a"]
)
def test_damaged_objects_are_named(value: bytes) -> None:
    with pytest.raises(IntegrityError, match=r"object A|photos/a"):
        values.unpack_object(BUCKET, "A", value, None)


def test_an_object_that_its_version_does_not_know_is_damage() -> None:
    with pytest.raises(IntegrityError):
        values.unpack_object(BUCKET, "B", b"c 10 r1 - a", version("a", 10, stored("A")))


def test_neighbouring_extents_are_one_range() -> None:
    extents = tuple(Extent(first, 10, 1, ()) for first in (0, 10, 30, 40, 20))
    assert values.merge_ranges(extents) == ((0, 20), (30, 20), (20, 10))
    assert values.merge_ranges(()) == ()


def test_an_object_costs_a_few_hundred_bytes() -> None:
    what = version("2026/05/07/picture-000000001.jpg", 1_770_000_000_000_000, stored("1A2B3"))
    assert len(values.pack_version(what)) < 160
