"""The parts that an object came in, as GetObjectAttributes tells them: pages by number. Pure.

They are numbered as reads by ``partNumber`` number them, from 1 without gaps. Their checksums are
not kept: those of the object are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from router.gateway.s3.documents import Tree
from router.gateway.s3.failures import S3Error
from router.gateway.s3.pages import limit_of

_LIMIT: Final = "x-amz-max-parts"
_MARKER: Final = "x-amz-part-number-marker"
_DIGITS_MAX: Final = 10


def parts_tree(parts: Sequence[tuple[int, int]], headers: Mapping[str, str]) -> Tree:
    """A page of the parts.

    Args:
        parts: how many of how many bytes, in their order.
        headers: of the request; they say behind which number the page begins, and how many parts
            it may have.

    Raises:
        S3Error: they say something that is no number.
    """
    limit = limit_of({_LIMIT: headers.get(_LIMIT, "")}, _LIMIT)
    marker = headers.get(_MARKER, "") or "0"
    if not (marker.isascii() and marker.isdigit() and len(marker) <= _DIGITS_MAX):
        raise S3Error(
            "InvalidArgument",
            f"Argument {_MARKER} must be an integer between 0 and 2147483647",
            ArgumentName=_MARKER,
            ArgumentValue=marker,
        )
    after = int(marker)
    total = sum(count for count, _ in parts)
    last = max(after, min(after + limit, total))
    lines: list[Tree] = []
    first = 1
    for count, size in parts:
        lines += (
            ("Part", [("PartNumber", str(number)), ("Size", str(size))])
            for number in range(max(first, after + 1), min(first + count, last + 1))
        )
        first += count
    told: list[Tree] = [
        ("PartsCount", str(total)),
        ("PartNumberMarker", str(after)),
        ("NextPartNumberMarker", str(last if lines else 0)),
        ("MaxParts", str(limit)),
        ("IsTruncated", "true" if last < total else "false"),
    ]
    return ("ObjectParts", [*told, *lines])
