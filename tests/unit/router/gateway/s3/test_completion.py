"""What a request to complete an upload names, and what follows from the parts that are there."""

from __future__ import annotations

import hashlib
import zlib
from base64 import b64encode
from collections.abc import Callable
from typing import Any

import pytest

from common.limits import PART_BYTES_MIN
from common.records import Version
from router.gateway.s3.checksums import Algorithm, ChecksumType
from router.gateway.s3.completion import (
    Wanted,
    checked_parts,
    checksum_of,
    digests_of,
    wanted_parts,
)
from router.gateway.s3.documents import parsed
from router.gateway.s3.failures import S3Error
from router.gateway.s3.multipart import Open

TAG = "0123456789abcdef0123456789abcdef"
ROOT = "CompleteMultipartUpload"


def read(inside: str) -> list[Wanted]:
    return wanted_parts(parsed(f"<{ROOT}>{inside}</{ROOT}>".encode(), ROOT))


def line(number: object, tag: str = TAG, more: str = "") -> str:
    return f"<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag>{more}</Part>"


def part(size: int, tag: str = TAG, **sums: str) -> Version:
    return Version("@parts.b", "x", 1, size, tag, 1, (), checksums=sums)


def upload(algorithm: Algorithm | None = None, **options: Any) -> Open:
    kind = options.pop("kind", ChecksumType.FULL_OBJECT)
    return Open("b", "k", "u" * 32, 1, "ann", {}, algorithm, kind)


def sum_of(of: Open, parts: list[Version]) -> str | None:
    return checksum_of(of, parts, digests_of(of, parts))


def code(call: Callable[[], object]) -> str:
    with pytest.raises(S3Error) as caught:
        call()
    return caught.value.code


def test_parts_are_read() -> None:
    assert read(line(1) + line(7, f'"{TAG.upper()}"', "<ChecksumSHA1> x </ChecksumSHA1>")) == [
        Wanted(1, TAG, {}),
        Wanted(7, TAG, {"sha1": "x"}),
    ]


@pytest.mark.parametrize(
    ("inside", "error"),
    [
        ("", "MalformedXML"),
        ("<Part/>", "MalformedXML"),
        (line(""), "MalformedXML"),
        (line("-1"), "MalformedXML"),
        (line("1" * 10), "MalformedXML"),
        (line(1, more="<Other/>"), "MalformedXML"),
        (line(1, more=f"<ETag>{TAG}</ETag>"), "MalformedXML"),
        (line(1) + "<Quiet/>", "MalformedXML"),
        (line(0), "InvalidArgument"),
        (line(10_001), "InvalidArgument"),
        (line(1, "x"), "InvalidPart"),
        (line(1, TAG + "-1"), "InvalidPart"),
        (line(2) + line(1), "InvalidPartOrder"),
        (line(2) + line(2), "InvalidPartOrder"),
    ],
)
def test_what_cannot_be_is_refused(inside: str, error: str) -> None:
    assert code(lambda: read(inside)) == error


def test_parts_have_to_be_there_as_they_are_named() -> None:
    wanted = [Wanted(1, TAG, {"sha1": "x"}), Wanted(2, TAG, {})]
    good = part(PART_BYTES_MIN, sha1="x")
    assert checked_parts(upload(), wanted, [good, part(0)]) == [good, part(0)]
    for bad in (None, part(PART_BYTES_MIN, "f" * 32), part(PART_BYTES_MIN, sha1="y")):
        found = [bad, part(1)]
        assert code(lambda: checked_parts(upload(), wanted, found)) == "InvalidPart"  # noqa: B023
    assert code(lambda: checked_parts(upload(), wanted, [good, None])) == "InvalidPart"


def test_only_the_last_part_may_be_short() -> None:
    wanted = [Wanted(n, TAG, {}) for n in (1, 2, 3)]
    long, short = part(PART_BYTES_MIN), part(PART_BYTES_MIN - 1)
    assert checked_parts(upload(), wanted, [long, long, short])
    assert code(lambda: checked_parts(upload(), wanted, [long, short, long])) == "EntityTooSmall"
    assert checked_parts(upload(), wanted[:1], [part(0)])


def test_the_checksum_of_a_whole_follows_from_its_parts() -> None:
    pieces = [b"one", b"", b"three" * 100]

    def crc(data: bytes) -> str:
        return b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()

    parts = [part(len(piece), crc32=crc(piece)) for piece in pieces]
    assert sum_of(upload(Algorithm.CRC32), parts) == crc(b"".join(pieces))
    assert sum_of(upload(), parts) is None, "these have another one"


def test_the_checksum_of_checksums() -> None:
    digests = [hashlib.sha256(piece).digest() for piece in (b"one", b"two")]
    parts = [part(3, sha256=b64encode(digest).decode()) for digest in digests]
    expected = b64encode(hashlib.sha256(b"".join(digests)).digest()).decode()
    of = upload(Algorithm.SHA256, kind=ChecksumType.COMPOSITE)
    assert sum_of(of, parts) == f"{expected}-2"
