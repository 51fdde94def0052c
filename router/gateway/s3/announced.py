"""The checksums that a request announces of its body, and what holds the body to them.

```
checks = BodyChecks(announced(headers, trailers), sha256=verified.sha256)
checks.update(piece)                      # for each piece, on any thread, one at a time
found = checks.finish(decoder.finish())   # raises, or tells the ETag's MD5 and the checksum
```
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn

from router.gateway.s3 import checksums
from router.gateway.s3.checksums import BY_HEADER, Algorithm, Buffer, Hasher
from router.gateway.s3.failures import S3Error

_NO_TRAILERS: Final[Mapping[str, str]] = {}


@dataclass(frozen=True)
class Announced:
    """What a request says of its body.

    Attributes:
        md5: of ``Content-MD5``, if it is there.
        algorithm: of the checksum beside it, if there is one.
        digest: its value, or None: it comes in the trailer.
    """

    md5: bytes | None = None
    algorithm: Algorithm | None = None
    digest: bytes | None = None


@dataclass(frozen=True)
class Found:
    """What a body turned out to have.

    Attributes:
        md5: 16 bytes, or None: nobody asked for it.
        algorithm: of the checksum, if there is one.
        digest: its value.
    """

    md5: bytes | None
    algorithm: Algorithm | None
    digest: bytes | None


def expected_trailers(values: Iterable[str]) -> tuple[str, ...]:
    """The names in ``x-amz-trailer`` headers, in lower case.

    Raises:
        S3Error: one that is not a checksum, or several.
    """
    names = [name.strip().lower() for value in values for name in value.split(",")]
    if any(name not in BY_HEADER for name in names):
        raise S3Error(
            "InvalidRequest", "The value specified in the x-amz-trailer header is not supported"
        )
    if len(names) > 1:
        _too_many()
    return tuple(names)


def announced(headers: Mapping[str, str], trailers: Sequence[str] = ()) -> Announced:
    """Read what the headers of a request say of its body.

    Args:
        headers: by names in lower case.
        trailers: the trailers that will come, from `expected_trailers`.

    Raises:
        S3Error: a value that is malformed, several checksums, or one that is missing.
    """
    text = headers.get("content-md5")
    md5 = None if text is None else checksums.decode_content_md5(text)
    named = [BY_HEADER[name] for name in headers if name in BY_HEADER]
    named += [BY_HEADER[name] for name in trailers]
    if len(named) > 1:
        _too_many()
    asked = headers.get("x-amz-sdk-checksum-algorithm")
    if asked is not None:
        _check_asked(asked, named)
    if not named:
        return Announced(md5)
    algorithm = named[0]
    value = headers.get(algorithm.header)
    digest = None if value is None else checksums.decode(algorithm, value)
    return Announced(md5, algorithm, digest)


class BodyChecks:
    """Takes a body piece by piece, and holds it to what was announced.

    Args:
        expected: what was announced.
        sha256: the hex digest that the body must have by the request's signature, or None.
        md5: whether the body's MD5 is wanted for an entity tag.
        default: the checksum to compute where the client announced none.
    """

    def __init__(
        self,
        expected: Announced,
        *,
        sha256: str | None = None,
        md5: bool = True,
        default: Algorithm | None = None,
    ) -> None:
        self._expected = expected
        self._algorithm = expected.algorithm or default
        self._sha256 = sha256
        self._hashers: dict[Algorithm, Hasher] = {}
        wanted = [self._algorithm] if self._algorithm else []
        wanted += [Algorithm.SHA256] if sha256 is not None else []
        wanted += [Algorithm.MD5] if md5 or expected.md5 is not None else []
        for algorithm in wanted:
            if algorithm not in self._hashers:
                self._hashers[algorithm] = algorithm.hasher()

    def update(self, data: Buffer) -> None:
        """Take the next piece; not two at once."""
        for hasher in self._hashers.values():
            hasher.update(data)

    def finish(self, trailers: Mapping[str, str] = _NO_TRAILERS) -> Found:
        """Hold the body to what was announced.

        Args:
            trailers: what came behind it, by names in lower case.

        Raises:
            S3Error: it has another checksum, or the trailer does not say which.
        """
        digests = {algorithm: each.digest() for algorithm, each in self._hashers.items()}
        if self._sha256 is not None:
            _check_sha256(self._sha256, digests[Algorithm.SHA256].hex())
        expected = self._expected
        if expected.md5 is not None:
            checksums.check("Content-MD5", expected.md5, digests[Algorithm.MD5])
        if expected.algorithm is not None:
            digest = expected.digest
            if digest is None:
                value = trailers.get(expected.algorithm.header)
                if value is None:
                    raise S3Error("MalformedTrailerError")
                digest = checksums.decode(expected.algorithm, value)
            checksums.check(expected.algorithm.value, digest, digests[expected.algorithm])
        found = None if self._algorithm is None else digests[self._algorithm]
        return Found(digests.get(Algorithm.MD5), self._algorithm, found)


def check_sha256(expected: str | None, body: bytes) -> None:
    """Hold a small body, such as a document, to the hash that its request is signed with.

    Args:
        expected: `router.gateway.s3.sigv4.Verified.sha256`.
        body: all of it.

    Raises:
        S3Error: it has another hash.
    """
    if expected is not None:
        _check_sha256(expected, hashlib.sha256(body).hexdigest())


def _check_sha256(expected: str, found: str) -> None:
    if not hmac.compare_digest(expected, found):
        raise S3Error(
            "XAmzContentSHA256Mismatch",
            ClientComputedContentSHA256=expected,
            S3ComputedContentSHA256=found,
        )


def _check_asked(asked: str, named: Sequence[Algorithm]) -> None:
    if not named:
        raise S3Error(
            "InvalidRequest",
            "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or "
            "x-amz-trailer headers were found.",
        )
    if asked.upper() != named[0].value:
        raise S3Error("InvalidRequest", "Value for x-amz-sdk-checksum-algorithm header is invalid.")


def _too_many() -> NoReturn:
    raise S3Error(
        "InvalidRequest",
        "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.",
    )
