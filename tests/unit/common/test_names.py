"""Names: what is accepted, what is refused, and what the refusal says."""

from __future__ import annotations

import pytest

from common.errors import NameInvalid
from common.names import DEFAULT_BUCKET, check_bucket, check_key, format_name, parse_name


@pytest.mark.parametrize(
    "name", ["abc", "a-b", "a.b.c", "0a9", "a" * 63, "files", "objects", "a--b", "1.2.3.4"]
)
def test_good_buckets(name: str) -> None:
    assert check_bucket(name) == name


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("", "has 0 characters, allowed are 3…63"),
        ("ab", "has 2 characters"),
        ("a" * 64, "has 64 characters"),
        ("Abc", "a-z, 0-9"),
        ("a_b", "a-z, 0-9"),
        ("a b", "a-z, 0-9"),
        ("-ab", "begins and ends with a letter or digit"),
        ("ab-", "begins and ends with a letter or digit"),
        (".ab", "begins and ends with a letter or digit"),
        ("äbc", "a-z, 0-9"),
        ("abc\n", "a-z, 0-9"),
        ("a..b", "two dots in a row"),
    ],
)
def test_bad_buckets_and_what_is_said(name: str, says: str) -> None:
    with pytest.raises(NameInvalid, match="bucket") as caught:
        check_bucket(name)
    assert says in caught.value.message


@pytest.mark.parametrize(
    "key",
    [
        "a",
        "a/b/c",
        "a//b",
        "a/",
        "a///",
        "...",
        "a/...",
        ".hidden",
        "a/.b",
        "..a",
        "a..",
        " ",
        "a b",
        "%2e%2e",
        "schön/猫.jpg",
        "😀",
        "\x80",
        "a" * 1024,
        "ä" * 512,
        "a\\..\\b",
    ],
)
def test_good_keys(key: str) -> None:
    assert check_key(key) == key


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("", "at least one character"),
        ("a" * 1025, "has 1025 bytes in UTF-8"),
        ("ä" * 512 + "a", "has 1025 bytes in UTF-8"),
        ("a\0b", r"control character '\x00' at position 1"),
        ("a\nb", r"control character '\n' at position 1"),
        ("\x1f", r"control character '\x1f' at position 0"),
        ("ab\x7f", r"control character '\x7f' at position 2"),
        ("/a", "begins with '/'"),
        ("/", "begins with '/'"),
        (".", "path segment '.'"),
        ("..", "path segment '..'"),
        ("a/../b", "path segment '..'"),
        ("a/./b", "path segment '.'"),
        ("a/..", "path segment '..'"),
        ("../a", "path segment '..'"),
        ("a\ud800", "half of a surrogate pair"),
    ],
)
def test_bad_keys_and_what_is_said(key: str, says: str) -> None:
    with pytest.raises(NameInvalid) as caught:
        check_key(key)
    assert says in caught.value.message


@pytest.mark.parametrize("key", ["x" * 100_000, "\ud800" * 2000, "\0" * 5000])
def test_messages_are_short_and_printable(key: str) -> None:
    with pytest.raises(NameInvalid) as caught:
        check_key(key)
    assert len(caught.value.message) < 600
    assert caught.value.message.isprintable()


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("cat.jpg", (DEFAULT_BUCKET, "cat.jpg")),
        ("photos/cat.jpg", ("photos", "cat.jpg")),
        ("photos/2026/cat.jpg", ("photos", "2026/cat.jpg")),
        ("photos/a//b/", ("photos", "a//b/")),
    ],
)
def test_parse_name(name: str, parts: tuple[str, str]) -> None:
    assert parse_name(name) == parts


@pytest.mark.parametrize(
    "name", ["", "/", "photos/", "/cat.jpg", "Photos/cat.jpg", "photos//a", ".."]
)
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(NameInvalid):
        parse_name(name)


def test_format_name_is_the_inverse() -> None:
    assert parse_name(format_name("photos", "a/b")) == ("photos", "a/b")
