"""Laws of names: any text is either accepted unchanged or refused with the one error."""

from __future__ import annotations

import posixpath

from hypothesis import given
from hypothesis import strategies as st

from common.errors import NameInvalid
from common.names import check_bucket, check_key, format_name, parse_name

ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=80)
NEAR_BUCKETS = st.text("ab0.-A_", max_size=66)
NEAR_KEYS = st.text("ab./\\\0\x7f é", max_size=30)


def bucket_or_none(name: str) -> str | None:
    try:
        return check_bucket(name)
    except NameInvalid:
        return None


def key_or_none(key: str) -> str | None:
    try:
        return check_key(key)
    except NameInvalid:
        return None


@given(st.one_of(ANY_TEXT, NEAR_BUCKETS))
def test_an_accepted_bucket_keeps_the_rules(name: str) -> None:
    if bucket_or_none(name) is None:
        return
    assert 3 <= len(name) <= 63
    assert name[0].isalnum()
    assert name[-1].isalnum()
    assert name == name.lower()
    assert name.isascii()
    assert ".." not in name
    assert "/" not in name


@given(st.one_of(ANY_TEXT, NEAR_KEYS))
def test_an_accepted_key_can_be_stored_logged_and_downloaded(key: str) -> None:
    if key_or_none(key) is None:
        return
    assert 1 <= len(key.encode()) <= 1024
    assert min(key) >= " "
    assert "\x7f" not in key
    inside = posixpath.normpath(posixpath.join("/srv/store", key))
    assert inside.startswith("/srv/store/")


@given(st.one_of(ANY_TEXT, NEAR_KEYS))
def test_any_text_is_a_name_or_the_one_error(text: str) -> None:
    try:
        bucket, key = parse_name(text)
    except NameInvalid:
        return
    assert format_name(bucket, key) in (text, f"files/{text}")
    assert parse_name(format_name(bucket, key)) == (bucket, key)


@given(NEAR_BUCKETS, NEAR_KEYS)
def test_good_parts_make_a_good_name(bucket: str, key: str) -> None:
    if bucket_or_none(bucket) is None or key_or_none(key) is None:
        return
    assert parse_name(format_name(bucket, key)) == (bucket, key)
