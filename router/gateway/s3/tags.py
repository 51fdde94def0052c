"""Tags: read from documents and headers, held to the limits of S3, told again. Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from typing import Final

from router.gateway.s3.address import decoded
from router.gateway.s3.documents import Element, Tree
from router.gateway.s3.failures import S3Error

OBJECT_TAGS_MAX: Final = 10
BUCKET_TAGS_MAX: Final = 50
KEY_CHARS_MAX: Final = 128
VALUE_CHARS_MAX: Final = 256
HEADER: Final = "x-amz-tagging"
_KINDS: Final = frozenset("LZN")
"""Letters, separators and numbers, as the Unicode categories of characters begin."""
_SIGNS: Final = frozenset("+-=._:/@")


def tags_in(root: Element, count_max: int) -> dict[str, str]:
    """The tags of a ``Tagging`` document.

    Args:
        root: its root.
        count_max: how many there may be.

    Raises:
        S3Error: ``MalformedXML``, ``InvalidTag``, or they are too many.
    """
    sets = root.all("TagSet")
    if len(sets) != 1 or len(root.children) != 1:
        raise S3Error("MalformedXML")
    pairs = []
    for tag in sets[0].children:
        key, value = tag.value("Key"), tag.value("Value")
        if tag.name != "Tag" or len(tag.children) != 2 or key is None or value is None:
            raise S3Error("MalformedXML")
        pairs.append((key, value))
    if len({key for key, _ in pairs}) < len(pairs):
        raise S3Error("InvalidTag", "Cannot provide multiple Tags with the same key")
    return _checked(pairs, count_max)


def tags_of_header(text: str) -> dict[str, str]:
    """The tags in the header of an object: ``key=value&key=value``, percent-encoded.

    Raises:
        S3Error: ``InvalidArgument``, ``InvalidTag``, or they are too many.
    """
    pairs = []
    try:
        for pair in text.split("&"):
            key, _, value = pair.replace("+", " ").partition("=")
            if pair:
                pairs.append((decoded(key), decoded(value)))
    except S3Error:
        raise _malformed(text) from None
    if len({key for key, _ in pairs}) < len(pairs):
        raise _malformed(text)
    return _checked(pairs, OBJECT_TAGS_MAX)


def tags_tree(tags: Mapping[str, str]) -> Tree:
    """The document of tags."""
    told: list[Tree] = [("Tag", [("Key", key), ("Value", tags[key])]) for key in tags]
    return ("Tagging", [("TagSet", told)])


def _checked(pairs: Iterable[tuple[str, str]], count_max: int) -> dict[str, str]:
    tags = dict(pairs)
    if len(tags) > count_max:
        what = "Object tags" if count_max == OBJECT_TAGS_MAX else "Bucket tag count"
        raise S3Error("BadRequest", f"{what} cannot be greater than {count_max}")
    for key, value in tags.items():
        if not 1 <= len(key) <= KEY_CHARS_MAX or not _is_readable(key):
            raise S3Error("InvalidTag", "The TagKey you have provided is invalid", TagKey=key)
        if key.lower().startswith("aws:"):
            raise S3Error("InvalidTag", "System tags cannot be added/updated by requester")
        if len(value) > VALUE_CHARS_MAX or not _is_readable(value):
            raise S3Error(
                "InvalidTag",
                "The TagValue you have provided is invalid",
                TagKey=key,
                TagValue=value,
            )
    return tags


def _is_readable(text: str) -> bool:
    return all(char in _SIGNS or unicodedata.category(char)[0] in _KINDS for char in text)


def _malformed(text: str) -> S3Error:
    return S3Error(
        "InvalidArgument",
        "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query parameters "
        "without tag name duplicates.",
        ArgumentName=HEADER,
        ArgumentValue=text,
    )
