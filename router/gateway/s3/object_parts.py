"""The parts that an object came in, as GetObjectAttributes tells them: pages by number. Pure.

They are numbered as reads by ``partNumber`` number them, from 1 without gaps. Their checksums are
kept with the object where all of them had one of the upload's algorithm.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from common.records import Version
from router.gateway.s3.checksums import encode
from router.gateway.s3.documents import Tree
from router.gateway.s3.failures import S3Error
from router.gateway.s3.pages import limit_of

_LIMIT: Final = "x-amz-max-parts"
_MARKER: Final = "x-amz-part-number-marker"
_DIGITS_MAX: Final = 10


def part_count(version: Version) -> int:
    """In how many parts an object came."""
    return sum(count for count, _ in version.parts)


def part_checksums(version: Version, number: int) -> dict[str, str]:
    """The checksum of a part by the name of its algorithm; empty if it is not kept.

    Args:
        version: what came in parts.
        number: of the part, from 1.
    """
    if not version.digests:
        return {}
    size = len(version.digests) // part_count(version)
    return {
        name: encode(version.digests[(number - 1) * size : number * size])
        for name in version.checksums
    }


def checksum_trees(checksums: Mapping[str, str]) -> list[Tree]:
    """Checksums as elements.

    Args:
        checksums: by the names of their algorithms.
    """
    return [(f"Checksum{name.upper()}", value) for name, value in checksums.items()]


def parts_tree(version: Version, headers: Mapping[str, str]) -> Tree:
    """A page of the parts.

    Args:
        version: what came in parts.
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
    total = part_count(version)
    last = max(after, min(after + limit, total))
    lines: list[Tree] = []
    first = 1
    for count, size in version.parts:
        lines += (
            ("Part", _part_tree(version, number, size))
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


def _part_tree(version: Version, number: int, size: int) -> list[Tree]:
    sums = checksum_trees(part_checksums(version, number))
    return [("PartNumber", str(number)), ("Size", str(size)), *sums]
