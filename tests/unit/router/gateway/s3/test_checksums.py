"""Checksums of bodies: published values, and what is announced of them."""

from __future__ import annotations

import base64
import hashlib
import zlib

import pytest

from router.gateway.s3 import checksums
from router.gateway.s3.announced import (
    Announced,
    BodyChecks,
    announced,
    check_sha256,
    expected_trailers,
)
from router.gateway.s3.checksums import Algorithm, ChecksumType
from router.gateway.s3.failures import S3Error

# Of "123456789": the check values of the catalogue of parametrised CRC algorithms, of FIPS 180-4,
# RFC 1321 and the xxHash specification's own implementation.
PUBLISHED = {
    Algorithm.CRC32: "cbf43926",
    Algorithm.CRC32C: "e3069283",
    Algorithm.CRC64NVME: "ae8b14860a799888",
    Algorithm.SHA1: "f7c3bc1d808e04732adf679965ccc34ca7ae3441",
    Algorithm.SHA256: "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225",
    Algorithm.SHA512: (
        "d9e6762dd1c8eaf6d61b3c6192fc408d4d6d5f1176d0c29169bc24e71c3f274a"
        "d27fcd5811b313d681f7e55ec02d73d499c95455b6b5bb503acf574fba8ffe85"
    ),
    Algorithm.MD5: "25f9e794323b453885f5181f1b624d0b",
    Algorithm.XXHASH64: "8cb841db40e6ae83",
}
WORD = b"123456789"
EACH = pytest.mark.parametrize("algorithm", [*Algorithm])


def digest(algorithm: Algorithm, *pieces: bytes) -> bytes:
    hasher = algorithm.hasher()
    for piece in pieces:
        hasher.update(piece)
    return hasher.digest()


@pytest.mark.parametrize(("algorithm", "value"), PUBLISHED.items())
def test_published_values(algorithm: Algorithm, value: str) -> None:
    assert digest(algorithm, WORD).hex() == value


@EACH
def test_a_body_may_come_in_pieces(algorithm: Algorithm) -> None:
    data = bytes(range(256)) * 100
    whole = digest(algorithm, data)
    assert len(whole) == algorithm.size
    assert digest(algorithm, data[:1], b"", data[1:7000], data[7000:]) == whole
    hasher = algorithm.hasher()
    hasher.update(bytearray(data[:9]))
    hasher.update(memoryview(data)[9:])
    assert hasher.digest() == whole


@EACH
def test_values_travel_in_base_64(algorithm: Algorithm) -> None:
    value = digest(algorithm, WORD)
    assert checksums.decode(algorithm, checksums.encode(value)) == value
    for text in ("", "!", checksums.encode(value[1:]), "ä", checksums.encode(value) + "=x"):
        with pytest.raises(S3Error, match=algorithm.header):
            checksums.decode(algorithm, text)


def test_the_crc_of_a_whole_follows_from_its_parts() -> None:
    parts = [b"one", b"", b"two" * 3000, b"3"]
    for algorithm in Algorithm:
        if algorithm.combines:
            each = [(digest(algorithm, part), len(part)) for part in parts]
            assert checksums.full_object(algorithm, each) == digest(algorithm, *parts)
    assert {each for each in Algorithm if each.combines} == {
        Algorithm.CRC32,
        Algorithm.CRC32C,
        Algorithm.CRC64NVME,
    }
    assert checksums.full_object(Algorithm.CRC32, []) == zlib.crc32(b"").to_bytes(4, "big")


def test_a_composite_is_over_the_checksums_of_the_parts() -> None:
    parts = [hashlib.sha256(b"one").digest(), hashlib.sha256(b"two").digest()]
    expected = base64.b64encode(hashlib.sha256(b"".join(parts)).digest()).decode()
    assert checksums.composite(Algorithm.SHA256, parts) == f"{expected}-2"


def test_entity_tags() -> None:
    one, two = hashlib.md5(b"one"), hashlib.md5(b"two")
    assert checksums.etag(one.digest()) == one.hexdigest()
    both = hashlib.md5(one.digest() + two.digest()).hexdigest()
    assert checksums.etag_of_parts([one.digest(), two.digest()]) == f"{both}-2"


@pytest.mark.parametrize(
    ("algorithm", "asked", "kind"),
    [
        (Algorithm.CRC32, None, ChecksumType.COMPOSITE),
        (Algorithm.CRC32, "FULL_OBJECT", ChecksumType.FULL_OBJECT),
        (Algorithm.CRC32C, "composite", ChecksumType.COMPOSITE),
        (Algorithm.CRC64NVME, None, ChecksumType.FULL_OBJECT),
        (Algorithm.SHA256, None, ChecksumType.COMPOSITE),
    ],
)
def test_what_the_checksum_of_an_upload_in_parts_is_over(
    algorithm: Algorithm, asked: str | None, kind: ChecksumType
) -> None:
    assert checksums.type_of_parts(algorithm, asked) is kind


@pytest.mark.parametrize(
    ("algorithm", "asked"),
    [
        (Algorithm.CRC64NVME, "COMPOSITE"),
        (Algorithm.SHA1, "FULL_OBJECT"),
        (Algorithm.MD5, "FULL_OBJECT"),
        (Algorithm.CRC32, "HALF"),
        (Algorithm.CRC32, ""),
    ],
)
def test_some_types_do_not_go_with_some_algorithms(algorithm: Algorithm, asked: str) -> None:
    with pytest.raises(S3Error, match="InvalidRequest"):
        checksums.type_of_parts(algorithm, asked)


def test_algorithms_have_names() -> None:
    assert Algorithm.named("crc32c") is Algorithm.CRC32C
    with pytest.raises(S3Error, match="unsupported"):
        Algorithm.named("CRC16")


def test_nothing_announced() -> None:
    assert announced({"content-type": "text/plain"}) == Announced()


def test_what_headers_announce() -> None:
    md5 = hashlib.md5(WORD).digest()
    headers = {
        "content-md5": checksums.encode(md5),
        "x-amz-checksum-crc32": checksums.encode(bytes.fromhex("cbf43926")),
        "x-amz-sdk-checksum-algorithm": "CRC32",
    }
    assert announced(headers) == Announced(md5, Algorithm.CRC32, bytes.fromhex("cbf43926"))


def test_what_trailers_announce() -> None:
    names = expected_trailers(["X-Amz-Checksum-CRC32C"])
    assert names == ("x-amz-checksum-crc32c",)
    assert announced({"x-amz-sdk-checksum-algorithm": "crc32c"}, names) == Announced(
        None, Algorithm.CRC32C, None
    )
    assert expected_trailers([]) == ()


@pytest.mark.parametrize(
    ("headers", "trailers", "words"),
    [
        ({"content-md5": "short"}, (), "InvalidDigest"),
        ({"content-md5": ""}, (), "InvalidDigest"),
        ({"x-amz-checksum-sha1": "AAAA"}, (), "Value for x-amz-checksum-sha1"),
        ({"x-amz-sdk-checksum-algorithm": "CRC32"}, (), "no corresponding"),
        (
            {
                "x-amz-sdk-checksum-algorithm": "SHA1",
                "x-amz-checksum-crc32": "AAAAAA==",
            },
            (),
            "algorithm header is invalid",
        ),
        (
            {"x-amz-checksum-crc32": "AAAAAA==", "x-amz-checksum-crc32c": "AAAAAA=="},
            (),
            "Multiple checksum Types",
        ),
        (
            {"x-amz-checksum-crc32": "AAAAAA=="},
            ("x-amz-checksum-crc32c",),
            "Multiple checksum Types",
        ),
    ],
)
def test_what_cannot_be_announced(
    headers: dict[str, str], trailers: tuple[str, ...], words: str
) -> None:
    with pytest.raises(S3Error, match=words):
        announced(headers, trailers)


@pytest.mark.parametrize(
    "values", [["x-amz-meta-a"], ["x-amz-checksum-crc32,x-amz-checksum-sha1"], [""]]
)
def test_what_cannot_come_in_a_trailer(values: list[str]) -> None:
    with pytest.raises(S3Error, match="InvalidRequest"):
        expected_trailers(values)


def checked(checks: BodyChecks, *pieces: bytes) -> BodyChecks:
    for piece in pieces:
        checks.update(piece)
    return checks


@EACH
def test_a_body_that_is_as_announced(algorithm: Algorithm) -> None:
    md5 = hashlib.md5(WORD).digest()
    value = digest(algorithm, WORD)
    checks = BodyChecks(
        Announced(md5, algorithm, value), sha256=hashlib.sha256(WORD).hexdigest(), md5=False
    )
    found = checked(checks, WORD[:4], WORD[4:]).finish()
    assert (found.md5, found.algorithm, found.digest) == (md5, algorithm, value)


@EACH
def test_a_body_that_is_not_as_announced(algorithm: Algorithm) -> None:
    checks = BodyChecks(Announced(None, algorithm, digest(algorithm, b"other")))
    with pytest.raises(S3Error, match=f"The {algorithm.value} you specified") as caught:
        checked(checks, WORD).finish()
    assert caught.value.code == "BadDigest"


def test_a_body_that_has_another_md5() -> None:
    checks = BodyChecks(Announced(hashlib.md5(b"other").digest()), md5=False)
    with pytest.raises(S3Error, match="Content-MD5") as caught:
        checked(checks, WORD).finish()
    assert caught.value.fields == {
        "ExpectedDigest": checksums.encode(hashlib.md5(b"other").digest()),
        "CalculatedDigest": checksums.encode(hashlib.md5(WORD).digest()),
    }


def test_a_body_that_was_not_signed() -> None:
    other = hashlib.sha256(b"other").hexdigest()
    with pytest.raises(S3Error, match="XAmzContentSHA256Mismatch") as caught:
        checked(BodyChecks(Announced(), sha256=other), WORD).finish()
    assert caught.value.fields["ClientComputedContentSHA256"] == other
    with pytest.raises(S3Error, match="XAmzContentSHA256Mismatch"):
        check_sha256(other, WORD)
    check_sha256(hashlib.sha256(WORD).hexdigest(), WORD)
    check_sha256(None, WORD)


def test_a_checksum_in_the_trailer() -> None:
    expected = Announced(None, Algorithm.CRC32, None)
    name, value = Algorithm.CRC32.header, checksums.encode(bytes.fromhex("cbf43926"))
    found = checked(BodyChecks(expected), WORD).finish({name: value})
    assert found.digest == bytes.fromhex("cbf43926")
    for trailers, code in [
        ({name: "AAAAAA=="}, "BadDigest"),
        ({name: "AAAA"}, "InvalidRequest"),
        ({}, "MalformedTrailerError"),
    ]:
        with pytest.raises(S3Error, match=code):
            checked(BodyChecks(expected), WORD).finish(trailers)


def test_a_checksum_where_none_was_announced() -> None:
    found = checked(BodyChecks(Announced(), default=Algorithm.CRC64NVME), WORD).finish()
    assert (found.algorithm, found.digest) == (
        Algorithm.CRC64NVME,
        bytes.fromhex("ae8b14860a799888"),
    )
    assert found.md5 == hashlib.md5(WORD).digest()
    nothing = checked(BodyChecks(Announced(), md5=False), WORD).finish()
    assert (nothing.md5, nothing.algorithm, nothing.digest) == (None, None, None)
