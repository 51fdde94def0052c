"""From the raw path of a request to bucket and key."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import NameInvalid
from common.names import check_key
from router.gateway.files import name_of


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/file/photos/cat.jpg", ("photos", "cat.jpg")),
        ("/file/photos/2024/may/cat.jpg", ("photos", "2024/may/cat.jpg")),
        ("/file/cat.jpg", ("files", "cat.jpg")),
        ("/file/Cat", ("files", "Cat")),
        ("/file/photos/a%20b+c", ("photos", "a b+c")),
        ("/file/photos/%C3%A4%F0%9F%90%88", ("photos", "ä🐈")),
        ("/file/photos/a%2Fb", ("photos", "a/b")),
        ("/file/photos/a%252Fb", ("photos", "a%2Fb")),
        ("/file/photos/100%", ("photos", "100%")),
        ("/file/photos/a//b/", ("photos", "a//b/")),
        ("/file/photos/a?b", ("photos", "a?b")),
        ("/file/ph%6ftos/cat", ("photos", "cat")),
        ("/file/photos/.../..a", ("photos", ".../..a")),
        ("/file/photos//file/x", None),
    ],
)
def test_names(path: str, name: tuple[str, str] | None) -> None:
    if name is None:
        with pytest.raises(NameInvalid):
            name_of(path)
    else:
        assert name_of(path) == name


@pytest.mark.parametrize(
    "path",
    [
        "/file/photos/",
        "/file/photos/..",
        "/file/photos/../secret",
        "/file/photos/%2e%2e/secret",
        "/file/photos/a/%2E%2E",
        "/file/photos/.",
        "/file/photos/a%00b",
        "/file/photos/a%0Ab",
        "/file/photos/%FF",
        "/file/photos/%ED%A0%80",
        "/file/photos/%2Fetc",
        "/file/photos/" + "a" * 1025,
        "/file/photos/" + "%C3%A4" * 513,
        "/file/" + "a" * 2048,
        "/file/%FF/a",
        "/file/ph/a",
        "/file/Photos/a",
        "/file/pho%2Ftos/a",
        "/file/-ab/a",
        "/file/a..b/a",
        "/file//a",
        "/file/" + "a" * 64 + "/a",
        "/file/..",
        "/file/%00",
    ],
)
def test_what_is_no_name(path: str) -> None:
    with pytest.raises(NameInvalid):
        name_of(path)


def test_the_longest_name() -> None:
    assert name_of("/file/" + "b" * 63 + "/" + "%C3%A4" * 512) == ("b" * 63, "ä" * 512)


def test_another_prefix() -> None:
    assert name_of("/metadata/photos/file/cat", "/metadata/") == ("photos", "file/cat")


@given(st.text(min_size=1, max_size=30))
def test_any_valid_key_survives_its_url(key: str) -> None:
    try:
        check_key(key)
    except NameInvalid:
        return
    assert name_of("/file/photos/" + quote(key)) == ("photos", key)
    assert name_of("/file/photos/" + quote(key, safe="")) == ("photos", key)
    assert name_of("/file/" + quote(key, safe="")) == ("files", key)


@given(st.text("abc/%.0123456789ABCDEF\u00e4?#", max_size=40))
def test_any_path_is_a_name_or_refused(path: str) -> None:
    try:
        bucket, key = name_of("/file/" + path)
    except NameInvalid:
        return
    assert check_key(key) == key
    assert "/" not in bucket
