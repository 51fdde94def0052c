"""The aws-chunked framing: the published examples, and each way to be wrong."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from router.gateway.s3.aws_chunked import AwsChunked
from router.gateway.s3.failures import S3Error
from router.gateway.s3.sigv4 import Payload, SignedRequest, Verified, parse, verify

# The examples of the S3 API reference, "Transferring Payload in Multiple Chunks" and "Including
# Trailing Headers", with the keys they are made for.
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
NOW = datetime(2013, 5, 24, tzinfo=UTC)
DATA = 66560 * b"a"
CRC32C = "x-amz-checksum-crc32c"


def examples(payload: Payload, signature: str, *more: tuple[str, str]) -> SignedRequest:
    headers = [
        ("Host", "s3.amazonaws.com"),
        ("x-amz-date", "20130524T000000Z"),
        ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
        ("x-amz-content-sha256", payload.value),
        ("Content-Encoding", "aws-chunked"),
        ("x-amz-decoded-content-length", "66560"),
        *more,
    ]
    signed = ";".join(sorted(name.lower() for name, _ in headers))
    authorization = (
        "AWS4-HMAC-SHA256 "
        "Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"
        f"SignedHeaders={signed},Signature={signature}"
    )
    return SignedRequest(
        "PUT",
        "/examplebucket/chunkObject.txt",
        "",
        [*headers, ("Authorization", authorization)],
    )


SIGNED = examples(
    Payload.CHUNKS_SIGNED,
    "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
    ("Content-Length", "66824"),
)
TRAILER = examples(
    Payload.CHUNKS_SIGNED_TRAILER,
    "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e",
    ("x-amz-trailer", CRC32C),
)
SIGNED_SIGNATURES = (
    b"ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
    b"0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
    b"b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
)
TRAILER_SIGNATURES = (
    b"b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
    b"1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
    b"2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
)
TRAILER_SIGNATURE = b"d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435"


def body(signatures: tuple[bytes, ...], end: bytes) -> bytes:
    one, two, three = signatures
    return (
        b"10000;chunk-signature=" + one + b"\r\n" + DATA[:65536] + b"\r\n"
        b"400;chunk-signature=" + two + b"\r\n" + DATA[65536:] + b"\r\n"
        b"0;chunk-signature=" + three + b"\r\n" + end
    )


SIGNED_BODY = body(SIGNED_SIGNATURES, b"\r\n")
CHECKSUM = CRC32C.encode() + b":sOO8/Q==\r\n"
SIGNED_TRAILER = b"x-amz-trailer-signature:" + TRAILER_SIGNATURE + b"\r\n"


def verified(request: SignedRequest) -> Verified:
    claim = parse(request)
    assert claim is not None
    return verify(claim, request, SECRET, NOW)


def decoder(request: SignedRequest) -> AwsChunked:
    found = verified(request)
    names = request.values("x-amz-trailer")
    return AwsChunked(found.claim.payload, len(DATA), names, found.chunks)


def unsigned(length: int, *trailers: str) -> AwsChunked:
    return AwsChunked(Payload.CHUNKS_TRAILER, length, trailers)


def read(decoding: AwsChunked, encoded: bytes, step: int = 0) -> tuple[bytes, dict[str, str]]:
    step = step or max(1, len(encoded))
    data = b"".join(
        bytes(view)
        for at in range(0, len(encoded), step)
        for view in decoding.feed(encoded[at : at + step])
    )
    return data, decoding.finish()


@pytest.mark.parametrize("step", [0, 1, 7, 1000])
def test_the_published_example_of_signed_chunks_holds(step: int) -> None:
    assert len(SIGNED_BODY) == 66824
    assert read(decoder(SIGNED), SIGNED_BODY, step) == (DATA, {})


@pytest.mark.parametrize("step", [0, 1])
@pytest.mark.parametrize(
    "trailer",
    [
        CHECKSUM,
        CHECKSUM.replace(b"\r\n", b"\n"),
        CHECKSUM.replace(b"\r\n", b"\n\r\n"),
        CHECKSUM.replace(b":", b": ").replace(b"crc", b"CRC"),
    ],
)
def test_the_published_example_of_a_signed_trailer_holds(step: int, trailer: bytes) -> None:
    encoded = body(TRAILER_SIGNATURES, trailer + SIGNED_TRAILER + b"\r\n")
    assert read(decoder(TRAILER), encoded, step) == (DATA, {CRC32C: "sOO8/Q=="})


@pytest.mark.parametrize("step", [0, 1, 3])
@pytest.mark.parametrize("end", [b"\r\n", b"\r\n\r\n"])
def test_an_unsigned_trailer(step: int, end: bytes) -> None:
    encoded = b"2000\r\n" + 8192 * b"x" + b"\r\n3\r\nabc\r\n0\r\n" + CHECKSUM + end
    found = read(unsigned(8195, CRC32C), encoded, step)
    assert found == (8192 * b"x" + b"abc", {CRC32C: "sOO8/Q=="})


def test_a_body_without_a_byte() -> None:
    assert read(unsigned(0), b"0\r\n\r\n") == (b"", {})


def test_views_lie_in_what_was_fed() -> None:
    encoded = bytearray(b"3\r\nabc\r\n0\r\n\r\n")
    (view,) = unsigned(3).feed(encoded)
    assert view.obj is encoded
    encoded[3:6] = b"xyz"
    assert bytes(view) == b"xyz"


@pytest.mark.parametrize("at", [len(SIGNED_BODY) // 2, SIGNED_BODY.rindex(b"aaa")])
def test_a_changed_byte_does_not_fit_its_signature(at: int) -> None:
    changed = bytearray(SIGNED_BODY)
    changed[at] ^= 1
    with pytest.raises(S3Error) as caught:
        read(decoder(SIGNED), bytes(changed))
    assert (caught.value.code, caught.value.status) == ("SignatureDoesNotMatch", 403)


def test_chunks_cannot_be_left_out_or_moved() -> None:
    lines = SIGNED_BODY.index(b"400;")
    last = SIGNED_BODY.index(b"0;chunk-signature=" + SIGNED_SIGNATURES[2])
    shorter = SIGNED_BODY[:lines] + SIGNED_BODY[last:]
    found = verified(SIGNED)
    decoding = AwsChunked(found.claim.payload, 65536, (), found.chunks)
    with pytest.raises(S3Error, match="SignatureDoesNotMatch"):
        read(decoding, shorter)


@pytest.mark.parametrize(
    ("trailer", "code"),
    [
        (CHECKSUM.replace(b"sOO8", b"sOO9") + SIGNED_TRAILER, "SignatureDoesNotMatch"),
        (CHECKSUM + SIGNED_TRAILER.replace(b"d81f", b"d82f"), "SignatureDoesNotMatch"),
        (CHECKSUM + b"x-amz-trailer-signature:\xff\r\n", "SignatureDoesNotMatch"),
        (SIGNED_TRAILER, "SignatureDoesNotMatch"),
        (b"x-amz-other:1\r\n" + SIGNED_TRAILER, "MalformedTrailerError"),
        (CHECKSUM + CHECKSUM + SIGNED_TRAILER, "MalformedTrailerError"),
        (CHECKSUM + SIGNED_TRAILER + CHECKSUM, "MalformedTrailerError"),
        (CHECKSUM + SIGNED_TRAILER + SIGNED_TRAILER, "MalformedTrailerError"),
        (b"what\r\n", "MalformedTrailerError"),
        (b"", "MalformedTrailerError"),
        (CHECKSUM + b"\r\n" + b"what\r\n", "MalformedTrailerError"),
        (CHECKSUM, "IncompleteBody"),
    ],
)
def test_a_signed_trailer_that_is_wrong(trailer: bytes, code: str) -> None:
    with pytest.raises(S3Error) as caught:
        read(decoder(TRAILER), body(TRAILER_SIGNATURES, trailer + b"\r\n"))
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("trailer", "code"),
    [
        (b"\r\n", "MalformedTrailerError"),
        (b"x-amz-checksum-crc32:AAAA\r\n\r\n", "MalformedTrailerError"),
        (SIGNED_TRAILER + b"\r\n", "MalformedTrailerError"),
        (CHECKSUM + CHECKSUM + b"\r\n", "MalformedTrailerError"),
        (CHECKSUM, "IncompleteBody"),
        (CHECKSUM + b"\r", "IncompleteBody"),
        (CHECKSUM + b"\r\nmore\r\n", "InvalidRequest"),
        (CHECKSUM + b"\r\nmore", "IncompleteBody"),
        (b"x" * 513, "InvalidRequest"),
    ],
)
def test_an_unsigned_trailer_that_is_wrong(trailer: bytes, code: str) -> None:
    with pytest.raises(S3Error) as caught:
        read(unsigned(3, CRC32C), b"3\r\nabc\r\n0\r\n" + trailer)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("encoded", "code"),
    [
        (b"", "IncompleteBody"),
        (b"3", "IncompleteBody"),
        (b"3\r\nab", "IncompleteBody"),
        (b"3\r\nabc\r\n", "IncompleteBody"),
        (b"3\r\nabc\r\n0\r\n", "IncompleteBody"),
        (b"0\r\n\r\n", "IncompleteBody"),
        (b"4\r\nabcd\r\n0\r\n\r\n", "IncompleteBody"),
        (b"2\r\nab\r\n0\r\n\r\n", "IncompleteBody"),
        (b"ffffffffffffffff\r\n", "IncompleteBody"),
        (b"fffffffffffffffff\r\n", "InvalidRequest"),
        (b"-3\r\nabc\r\n", "InvalidRequest"),
        (b"+3\r\nabc\r\n", "InvalidRequest"),
        (b"0x3\r\nabc\r\n", "InvalidRequest"),
        (b" 3\r\nabc\r\n", "InvalidRequest"),
        (b"3 \r\nabc\r\n", "InvalidRequest"),
        (b"\r\n", "InvalidRequest"),
        (b"3\nabc\r\n", "InvalidRequest"),
        (b"3\r\nabcd\r\n", "InvalidRequest"),
        (b"3\r\nabc0\r\n\r\n", "InvalidRequest"),
        (b"3;x=y\r\nabc\r\n", "InvalidRequest"),
        (b"3;chunk-signature=" + 64 * b"0" + b"\r\nabc\r\n", "InvalidRequest"),
        (600 * b"0", "InvalidRequest"),
        (b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", "InvalidChunkSizeError"),
    ],
)
@pytest.mark.parametrize("step", [0, 1])
def test_a_framing_that_is_wrong(encoded: bytes, code: str, step: int) -> None:
    with pytest.raises(S3Error) as caught:
        read(unsigned(3), encoded, step)
    assert caught.value.code == code


def test_only_the_last_chunk_may_be_small() -> None:
    with pytest.raises(S3Error) as caught:
        read(unsigned(10), b"8\r\n12345678\r\n2\r\n")
    assert caught.value.fields == {"Chunk": "1", "BadChunkSize": "8"}


def test_signed_chunks_need_their_signatures() -> None:
    with pytest.raises(S3Error, match="malformed"):
        read(decoder(SIGNED), b"3\r\nabc\r\n")
    with pytest.raises(ValueError, match="chain"):
        AwsChunked(Payload.CHUNKS_SIGNED, 3)
    with pytest.raises(ValueError, match="chain"):
        AwsChunked(Payload.CHUNKS_TRAILER, 3, (), verified(SIGNED).chunks)
    with pytest.raises(ValueError, match="chain"):
        AwsChunked(Payload.UNSIGNED, 3)
