"""Checksums of bodies: what S3 lets a client announce, and what it gives back.

`Hasher` takes a body piece by piece. Its `update` lets other threads run while it computes over a
piece of some KiB, so a caller may put it on a thread beside its loop; a hasher belongs to one
thread at a time.

An object that came in parts has either the checksum of all its bytes (``FULL_OBJECT``), which for
the CRCs follows from those of the parts, or one over the checksums of its parts (``COMPOSITE``).

(AWS: S3 user guide, "Checking object integrity".)
"""

from __future__ import annotations

import base64
import binascii
import enum
import hashlib
import hmac
import zlib
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol, cast

from awscrt import checksums as crt

from router.gateway.s3.failures import S3Error

Buffer = bytes | bytearray | memoryview


class Hasher(Protocol):
    """A checksum under way."""

    def update(self, data: Buffer, /) -> object:
        """Take the next piece."""

    def digest(self) -> bytes:
        """The checksum of all pieces; nothing is taken after it."""


class Algorithm(enum.Enum):
    """A checksum that a client may choose, by the name that S3 has for it."""

    CRC32 = "CRC32"
    CRC32C = "CRC32C"
    CRC64NVME = "CRC64NVME"
    SHA1 = "SHA1"
    SHA256 = "SHA256"
    SHA512 = "SHA512"
    MD5 = "MD5"
    XXHASH64 = "XXHASH64"
    XXHASH3 = "XXHASH3"
    XXHASH128 = "XXHASH128"

    @property
    def header(self) -> str:
        """The header, or trailer, that carries it."""
        return f"x-amz-checksum-{self.value.lower()}"

    @property
    def size(self) -> int:
        """Bytes of a digest."""
        return _SIZES[self]

    @property
    def combines(self) -> bool:
        """Whether that of a whole follows from those of its parts."""
        return self in _COMBINE

    def hasher(self) -> Hasher:
        """Begin one."""
        crc = _CRCS.get(self)
        return _HASHES[self]() if crc is None else _Crc(crc, self.size)

    @classmethod
    def named(cls, text: str) -> Algorithm:
        """The algorithm of a name, in any case.

        Raises:
            S3Error: there is none.
        """
        found = _BY_NAME.get(text.upper())
        if found is None:
            raise S3Error(
                "InvalidRequest",
                "Checksum algorithm provided is unsupported. Please try again with any of the "
                f"valid types: [{', '.join(_BY_NAME)}]",
            )
        return found


class ChecksumType(enum.Enum):
    """What the checksum of an object in parts is over."""

    COMPOSITE = "COMPOSITE"
    FULL_OBJECT = "FULL_OBJECT"


class _Crc:
    """One of the CRCs, which the library computes from the last value on."""

    def __init__(self, compute: Callable[[Any, int], int], size: int) -> None:
        self._compute = compute
        self._size = size
        self._value = 0

    def update(self, data: Buffer, /) -> None:
        self._value = self._compute(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._size, "big")


class _XxHash:
    """One of the XXHash family."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._state = make()

    def update(self, data: Buffer, /) -> None:
        self._state.update(bytes(data))  # the library takes no views

    def digest(self) -> bytes:
        return cast(bytes, self._state.finalize())


_SIZES: Final = {
    Algorithm.CRC32: 4,
    Algorithm.CRC32C: 4,
    Algorithm.CRC64NVME: 8,
    Algorithm.SHA1: 20,
    Algorithm.SHA256: 32,
    Algorithm.SHA512: 64,
    Algorithm.MD5: 16,
    Algorithm.XXHASH64: 8,
    Algorithm.XXHASH3: 8,
    Algorithm.XXHASH128: 16,
}
_CRCS: Final[dict[Algorithm, Callable[[Any, int], int]]] = {
    Algorithm.CRC32: zlib.crc32,  # twice as fast as the library's, which combines them
    Algorithm.CRC32C: crt.crc32c,
    Algorithm.CRC64NVME: crt.crc64nvme,
}
_COMBINE: Final[dict[Algorithm, Callable[[int, int, int], int]]] = {
    Algorithm.CRC32: crt.combine_crc32,
    Algorithm.CRC32C: crt.combine_crc32c,
    Algorithm.CRC64NVME: crt.combine_crc64nvme,
}
_HASHES: Final[dict[Algorithm, Callable[[], Hasher]]] = {
    Algorithm.SHA1: lambda: hashlib.sha1(usedforsecurity=False),
    Algorithm.SHA256: hashlib.sha256,
    Algorithm.SHA512: hashlib.sha512,
    Algorithm.MD5: lambda: hashlib.md5(usedforsecurity=False),
    Algorithm.XXHASH64: lambda: _XxHash(crt.XXHash.new_xxhash64),
    Algorithm.XXHASH3: lambda: _XxHash(crt.XXHash.new_xxhash3_64),
    Algorithm.XXHASH128: lambda: _XxHash(crt.XXHash.new_xxhash3_128),
}
_BY_NAME: Final = {each.value: each for each in Algorithm}
BY_HEADER: Final = {each.header: each for each in Algorithm}
"""The algorithms by the headers, or trailers, that carry their values."""


def decode(algorithm: Algorithm, text: str) -> bytes:
    """The digest that a header or trailer carries in base 64.

    Raises:
        S3Error: it is not one.
    """
    digest = _base64(text, algorithm.size)
    if digest is None:
        raise S3Error("InvalidRequest", f"Value for {algorithm.header} header is invalid.")
    return digest


def encode(digest: bytes) -> str:
    """A digest as headers carry it."""
    return base64.b64encode(digest).decode("ascii")


def decode_content_md5(text: str) -> bytes:
    """The digest of a ``Content-MD5`` header.

    Raises:
        S3Error: it is not one.
    """
    digest = _base64(text, 16)
    if digest is None:
        told: dict[str, Any] = {"Content-MD5": text}
        raise S3Error("InvalidDigest", **told)
    return digest


def etag(md5: bytes) -> str:
    """The entity tag, without quotes, of an object that came in one piece."""
    return md5.hex()


def etag_of_parts(md5s: Iterable[bytes]) -> str:
    """The entity tag, without quotes, of an object that came in parts."""
    return _over(lambda: hashlib.md5(usedforsecurity=False), md5s, bytes.hex)


def composite(algorithm: Algorithm, digests: Iterable[bytes]) -> str:
    """The checksum over those of an object's parts, as headers carry it: with ``-`` and how many.

    Args:
        algorithm: of the parts and the result.
        digests: of the parts, in their order.
    """
    return _over(algorithm.hasher, digests, encode)


def full_object(algorithm: Algorithm, parts: Iterable[tuple[bytes, int]]) -> bytes:
    """The checksum of an object's bytes, from those of its parts.

    Args:
        algorithm: one that `Algorithm.combines`.
        parts: digest and length in bytes of each part, in their order.
    """
    combine = _COMBINE[algorithm]
    value = 0
    for digest, length in parts:
        value = combine(value, int.from_bytes(digest, "big"), length)
    return value.to_bytes(algorithm.size, "big")


def type_of_parts(algorithm: Algorithm, asked: str | None) -> ChecksumType:
    """What the checksum of an upload in parts will be over.

    Args:
        algorithm: of the upload.
        asked: the ``x-amz-checksum-type`` header, if there is one.

    Raises:
        S3Error: no such type, or not with this algorithm.
    """
    if asked is None:
        whole = algorithm is Algorithm.CRC64NVME
        return ChecksumType.FULL_OBJECT if whole else ChecksumType.COMPOSITE
    kind = {each.value: each for each in ChecksumType}.get(asked.upper())
    if kind is None:
        raise S3Error("InvalidRequest", "Value for x-amz-checksum-type header is invalid.")
    if kind is ChecksumType.COMPOSITE:
        fits = algorithm is not Algorithm.CRC64NVME
    else:
        fits = algorithm.combines
    if not fits:
        raise S3Error(
            "InvalidRequest",
            f"The {kind.value} checksum type cannot be used with the {algorithm.value.lower()} "
            "checksum algorithm.",
        )
    return kind


def check(name: str, expected: bytes, found: bytes) -> None:
    """Hold a body to the checksum that was announced.

    Args:
        name: of the algorithm, or ``Content-MD5``.
        expected: the digest that was announced.
        found: the body's.

    Raises:
        S3Error: they differ.
    """
    if hmac.compare_digest(expected, found):
        return
    if name == "Content-MD5":
        raise S3Error(
            "BadDigest",
            "The Content-MD5 you specified did not match what we received.",
            ExpectedDigest=encode(expected),
            CalculatedDigest=encode(found),
        )
    raise S3Error("BadDigest", f"The {name} you specified did not match the calculated checksum.")


def _over(
    make: Callable[[], Hasher], digests: Iterable[bytes], text: Callable[[bytes], str]
) -> str:
    hasher = make()
    count = 0
    for digest in digests:
        hasher.update(digest)
        count += 1
    return f"{text(hasher.digest())}-{count}"


def _base64(text: str, size: int) -> bytes | None:
    try:
        digest = base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        return None
    return digest if len(digest) == size else None
