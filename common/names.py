"""Names of files: ``bucket/key``, and what makes one valid.

A bucket follows the rules that S3 made common: 3…63 characters of ``a-z``, ``0-9``, ``.`` and
``-``, a letter or digit at both ends, no two dots in a row. A key is 1…1024 bytes of UTF-8 that
can be told apart in a log line and cannot climb out of a directory when somebody downloads it.
"""

from __future__ import annotations

import re
from typing import Final

from common.errors import NameInvalid
from common.limits import BUCKET_CHARS_MAX, BUCKET_CHARS_MIN, KEY_BYTES_MAX

DEFAULT_BUCKET: Final = "files"
"""Where names of one segment live."""

_BUCKET: Final = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_SHOWN_CHARS_MAX: Final = 64


def check_bucket(name: str) -> str:
    """The name itself, if it is a valid bucket.

    Raises:
        NameInvalid: it breaks one of the rules; the message says which.
    """
    if not BUCKET_CHARS_MIN <= len(name) <= BUCKET_CHARS_MAX:
        raise NameInvalid(
            f"bucket {_shown(name)} has {len(name)} characters, "
            f"allowed are {BUCKET_CHARS_MIN}…{BUCKET_CHARS_MAX}"
        )
    if _BUCKET.fullmatch(name) is None:
        raise NameInvalid(
            f"bucket {_shown(name)} may hold a-z, 0-9, '.' and '-' only, "
            "and begins and ends with a letter or digit"
        )
    if ".." in name:
        raise NameInvalid(f"bucket {_shown(name)} holds two dots in a row")
    return name


def check_key(key: str) -> str:
    """The key itself, if it is valid. Empty segments (``a//b``) and a ``/`` at the end are.

    Raises:
        NameInvalid: it breaks one of the rules; the message says which.
    """
    if not key:
        raise NameInvalid("a key has at least one character")
    try:
        size_bytes = len(key.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise NameInvalid(
            f"key {_shown(key)} is not UTF-8: character {error.start} is half of a surrogate pair"
        ) from None
    if size_bytes > KEY_BYTES_MAX:
        raise NameInvalid(
            f"key {_shown(key)} has {size_bytes} bytes in UTF-8, allowed are 1…{KEY_BYTES_MAX}"
        )
    control = _CONTROL.search(key)
    if control is not None:
        raise NameInvalid(
            f"key {_shown(key)} holds the control character {control.group()!a} "
            f"at position {control.start()}"
        )
    if key.startswith("/"):
        raise NameInvalid(f"key {_shown(key)} begins with '/'")
    segment = next((part for part in key.split("/") if part in (".", "..")), None)
    if segment is not None:
        raise NameInvalid(f"key {_shown(key)} has the path segment {segment!r}")
    return key


def parse_name(name: str) -> tuple[str, str]:
    """Split ``bucket/key``; a name of one segment is a key in the bucket ``files``.

    Returns:
        Bucket and key, both checked.

    Raises:
        NameInvalid: the bucket or the key is not valid.
    """
    bucket, slash, key = name.partition("/")
    if not slash:
        return DEFAULT_BUCKET, check_key(name)
    return check_bucket(bucket), check_key(key)


def format_name(bucket: str, key: str) -> str:
    """The full name; `parse_name` gives the parts back."""
    return f"{bucket}/{key}"


def _shown(name: str) -> str:
    """A name for a message: quoted, escaped, cut."""
    cut = name if len(name) <= _SHOWN_CHARS_MAX else name[:_SHOWN_CHARS_MAX] + "…"
    return ascii(cut) if not cut.isprintable() else repr(cut)
