"""The names of versions: they come back as they were, and sort as listings want them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import uploads, versions
from common.errors import NameInvalid, UsageError
from common.names import check_bucket
from common.records import Version

KEYS = st.text(st.sampled_from("\x00\x01\x02\x03a:9/ü"), min_size=1, max_size=6)
NUMBERS = st.integers(0, versions.NUMBER_MAX)


def of(bucket: str, key: str, stamp: int = 7, etag: str = "e") -> Version:
    return Version(bucket, key, stamp, 0, etag, 0, ())


@given(one=st.tuples(KEYS, NUMBERS), other=st.tuples(KEYS, NUMBERS))
def test_names_come_back_and_sort_by_key_and_the_newest_first(
    one: tuple[str, int], other: tuple[str, int]
) -> None:
    assert versions.read_version_name(versions.version_name(*one)) == one
    names = versions.version_name(*one).encode(), versions.version_name(*other).encode()
    ranks = (one[0].encode(), -one[1]), (other[0].encode(), -other[1])
    assert (names[0] < names[1]) == (ranks[0] < ranks[1])


@given(key=KEYS, number=NUMBERS, prefix=KEYS, after=KEYS)
def test_bounds_hold_the_versions_of_keys_behind_a_key(
    key: str, number: int, prefix: str, after: str
) -> None:
    name = versions.version_name(key, number).encode()
    for behind in ("", after):
        low, high = versions.version_bounds(prefix, behind)
        within = name > low[1:] if low[:1] == b"(" else name >= low[1:]
        within = within and name < high[1:]
        assert within == (key.startswith(prefix) and key.encode() > behind.encode())


def test_a_version_has_an_id_that_leads_to_it() -> None:
    kept = of(versions.versions_of("photos"), versions.version_name("a/b", 1_700_000_000_000_000))
    assert versions.plain_name(kept) == ("photos", "a/b")
    assert versions.number_of(kept) == 1_700_000_000_000_000
    told = versions.version_id(kept)
    assert told.isascii()
    assert told.isalnum()
    assert versions.read_version_id(told) == 1_700_000_000_000_000
    for text in ("", "null", "a b", "Z" * 13, "Z" * 40, "É"):
        assert versions.read_version_id(text) is None


def test_a_null_version_has_none() -> None:
    null = of("photos", "a")
    assert versions.plain_name(null) == ("photos", "a")
    assert versions.number_of(null) == 7
    assert versions.version_id(null) == ""
    assert not null.is_marker
    assert of("photos", "a", etag="").is_marker


def test_where_they_are_nobody_can_name_and_it_is_kept_as_their_bucket() -> None:
    hidden = versions.versions_of("photos")
    assert uploads.is_hidden(hidden)
    assert versions.has_versions(hidden)
    assert not versions.has_versions("photos")
    assert not versions.has_versions(uploads.parts_of("photos"))
    assert uploads.kept_like(hidden) == versions.plain_bucket(hidden) == "photos"
    with pytest.raises(NameInvalid):
        check_bucket(hidden)


def test_how_a_bucket_keeps_versions() -> None:
    assert versions.versioning_of({}) == ""
    assert versions.versioning_of({"versioning": "Enabled"}) == "Enabled"
    assert versions.versioning_of({"versioning": "Suspended"}) == "Suspended"
    for wrong in ("enabled", 1, None, ["Enabled"]):
        with pytest.raises(UsageError):
            versions.versioning_of({"versioning": wrong})
