"""The names of uploads and parts: they come back as they were, and sort as listings want them."""

from __future__ import annotations

import pytest

from common import uploads
from common.errors import NameInvalid
from common.names import check_bucket

ONE = uploads.upload_id(1_700_000_000_000, bytes(range(10)))
LATER = uploads.upload_id(1_700_000_000_001, bytes(10))


def test_an_id_is_known_as_one() -> None:
    assert ONE == "018bcfe5680000010203040506070809"
    assert uploads.is_upload_id(ONE)
    for text in ("", ONE[:-1], ONE + "0", ONE.upper(), ONE[:-1] + "g", ONE[:-1] + "\n", "a b"):
        assert not uploads.is_upload_id(text)


@pytest.mark.parametrize("key", ["a", "a/b", "\x01", "a\x01b", "\x01" * 40, "ü" * 512, "~", "a\n"])
def test_names_come_back(key: str) -> None:
    assert uploads.read_upload_name(uploads.upload_name(key, ONE)) == (key, ONE)
    assert uploads.upload_name(key, ONE) < uploads.upload_name(key, LATER)
    assert uploads.upload_name(key, LATER) < uploads.behind_uploads(key)
    assert uploads.behind_uploads(key) < uploads.upload_name(key + "\x02", ONE)


def test_parts_are_in_the_order_of_their_numbers() -> None:
    names = [uploads.part_name(ONE, number) for number in (1, 2, 10, 999, 10_000)]
    assert names == sorted(names)
    assert names[-1] < uploads.behind_parts(ONE) < uploads.part_name(LATER, 1)
    assert [uploads.read_part_name(name) for name in names][2] == (ONE, 10)


def test_nobody_can_name_where_they_are() -> None:
    for hidden in (uploads.uploads_of("photos"), uploads.parts_of("photos"), "@keys"):
        assert uploads.is_hidden(hidden)
        with pytest.raises(NameInvalid):
            check_bucket(hidden)
    assert not uploads.is_hidden("photos")


def test_they_are_kept_as_their_bucket() -> None:
    assert uploads.kept_like(uploads.uploads_of("photos")) == "photos"
    assert uploads.kept_like(uploads.parts_of("photos")) == "photos"
    assert uploads.kept_like("photos") == "photos"
    assert uploads.kept_like("@keys") == "@keys"
    assert uploads.bucket_with_parts(uploads.parts_of("photos")) == "photos"
    assert uploads.bucket_with_parts(uploads.uploads_of("photos")) == ""
    assert uploads.bucket_with_parts("photos") == ""
