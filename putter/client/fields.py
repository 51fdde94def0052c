"""Paths and header fields of requests, made of what callers give."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from common.errors import RangeInvalid
from common.names import check_bucket

_SAFE: Final = "/-._~"


def quoted(etag: str | None) -> str | None:
    """An ETag as it stands in a condition; ``*`` stands for any."""
    return etag if etag is None or etag == "*" else '"' + etag.strip('"') + '"'


def conditions(if_match: str | None, if_none_match: str | None = None) -> dict[str, str]:
    """The header fields of conditions on what a name holds."""
    given = {"If-Match": quoted(if_match), "If-None-Match": quoted(if_none_match)}
    return {field: value for field, value in given.items() if value is not None}


def byte_range(start: int | None, end: int | None) -> str | None:
    """The value of ``Range`` for a slice (RFC 9110, section 14.1.2); None for all bytes.

    Raises:
        RangeInvalid: the slice is empty, or has two ends.
    """
    if start is None and end is None:
        return None
    first = start or 0
    if first < 0:
        if end is not None:
            raise RangeInvalid("a range from the end of a file has no end of its own")
        return f"bytes={first}"
    if end is None:
        return f"bytes={first}-"
    if end <= first:
        raise RangeInvalid(f"the range from {first} to {end} is empty")
    return f"bytes={first}-{end - 1}"


def file_path(bucket: str, key: str, top: str = "/file") -> str:
    """The path of a file at the web door, below one of its routes; "": its name as it is there."""
    return f"{top}/{quote(bucket, safe=_SAFE)}/{quote(key, safe=_SAFE)}"


def bucket_path(bucket: str) -> str:
    """The path of a bucket at the web door.

    Raises:
        NameInvalid: no valid name.
    """
    return f"/bucket/{quote(check_bucket(bucket), safe=_SAFE)}"
