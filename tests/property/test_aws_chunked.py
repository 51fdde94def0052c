"""The aws-chunked framing: however it is cut, the same comes out; whatever comes, one error."""

from __future__ import annotations

import hmac
import itertools
from hashlib import sha256

from hypothesis import given
from hypothesis import strategies as st

from router.gateway.s3.announced import Announced, BodyChecks
from router.gateway.s3.aws_chunked import AwsChunked
from router.gateway.s3.checksums import Algorithm, encode, full_object
from router.gateway.s3.chunk_signatures import ChunkSignatures
from router.gateway.s3.failures import S3Error
from router.gateway.s3.sigv4 import Payload

KEY, STAMP, SCOPE, SEED = b"key", "20130524T000000Z", "20130524/us-east-1/s3/aws4_request", "seed"
NAME = "x-amz-checksum-crc32"
EMPTY = sha256(b"").hexdigest()
LARGE = st.integers(8192, 20_000).map(lambda size: bytes(range(256)) * (size // 256 + 1))
CHUNKS = st.tuples(st.lists(LARGE, max_size=3), st.binary(max_size=50)).map(
    lambda both: [*both[0], *([both[1]] if both[1] else [])]
)
CUTS = st.lists(st.integers(0, 1_000_000), max_size=12)
PAYLOADS = st.sampled_from([each for each in Payload if each.chunked])


class Encoder:
    """What a client does, written from the documentation."""

    def __init__(self, payload: Payload) -> None:
        self.signed = payload is not Payload.CHUNKS_TRAILER
        self.trailing = payload is not Payload.CHUNKS_SIGNED
        self.last = SEED

    def link(self, kind: str, *digests: str) -> bytes:
        text = "\n".join([kind, STAMP, SCOPE, self.last, *digests])
        self.last = hmac.new(KEY, text.encode(), sha256).hexdigest()
        return self.last.encode()

    def chunk(self, data: bytes) -> bytes:
        line = f"{len(data):x}".encode()
        if self.signed:
            digest = sha256(data).hexdigest()
            line += b";chunk-signature=" + self.link("AWS4-HMAC-SHA256-PAYLOAD", EMPTY, digest)
        return line + b"\r\n" + data + (b"\r\n" if data else b"")

    def body(self, chunks: list[bytes], checksum: str) -> bytes:
        encoded = b"".join(self.chunk(each) for each in [*chunks, b""])
        if self.trailing:
            line = f"{NAME}:{checksum}".encode()
            encoded += line + b"\r\n"
            if self.signed:
                digest = sha256(line + b"\n").hexdigest()
                signature = self.link("AWS4-HMAC-SHA256-TRAILER", digest)
                encoded += b"x-amz-trailer-signature:" + signature + b"\r\n"
        return encoded + b"\r\n"


def decoder(payload: Payload, length: int) -> AwsChunked:
    trailers = () if payload is Payload.CHUNKS_SIGNED else (NAME,)
    unsigned = payload is Payload.CHUNKS_TRAILER
    signatures = None if unsigned else ChunkSignatures(KEY, STAMP, SCOPE, SEED)
    return AwsChunked(payload, length, trailers, signatures)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    at = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[one:other] for one, other in itertools.pairwise(at)]


@given(PAYLOADS, CHUNKS, CUTS)
def test_however_a_body_is_cut_it_is_the_same(
    payload: Payload, chunks: list[bytes], cuts: list[int]
) -> None:
    data = b"".join(chunks)
    hasher = Algorithm.CRC32.hasher()
    hasher.update(data)
    encoded = Encoder(payload).body(chunks, encode(hasher.digest()))
    decoding = decoder(payload, len(data))
    checks = BodyChecks(
        Announced(None, Algorithm.CRC32, hasher.digest() if payload.value.endswith("D") else None)
    )
    found = b""
    for piece in pieces(encoded, cuts):
        for view in decoding.feed(piece):
            checks.update(view)
            found += view
    assert found == data
    assert checks.finish(decoding.finish()).digest == hasher.digest()


@given(PAYLOADS, CHUNKS, CUTS, st.integers(0, 1_000_000), st.integers(0, 255))
def test_a_changed_byte_is_seen_or_changes_nothing(
    payload: Payload, chunks: list[bytes], cuts: list[int], at: int, byte: int
) -> None:
    data = b"".join(chunks)
    hasher = Algorithm.CRC32.hasher()
    hasher.update(data)
    encoded = bytearray(Encoder(payload).body(chunks, encode(hasher.digest())))
    encoded[at % len(encoded)] = byte
    decoding = decoder(payload, len(data))
    checks = BodyChecks(Announced(None, Algorithm.CRC32, None))
    found = b""
    try:
        for piece in pieces(bytes(encoded), cuts):
            for view in decoding.feed(piece):
                checks.update(view)
                found += view
        trailers = decoding.finish()
        if payload is not Payload.CHUNKS_SIGNED:
            checks.finish(trailers)
    except S3Error:
        return
    assert found == data


@given(
    PAYLOADS,
    st.integers(0, 100),
    st.lists(
        st.sampled_from(
            [b"0", b"5", b"\r\n", b"\n", b"\r", b"a", b"hello", b":", b";chunk-signature="]
        )
        | st.just(64 * b"0")
        | st.just(NAME.encode())
        | st.binary(max_size=600),
        max_size=20,
    ),
)
def test_whatever_comes_is_answered(payload: Payload, length: int, parts: list[bytes]) -> None:
    decoding = decoder(payload, length)
    held = 0
    try:
        for part in parts:
            held += sum(len(view) for view in decoding.feed(part))
        decoding.finish()
    except S3Error:
        return
    assert held == length


@given(
    st.sampled_from([each for each in Algorithm if each.combines]),
    st.lists(st.binary(max_size=300), max_size=6),
)
def test_crcs_of_parts_combine(algorithm: Algorithm, parts: list[bytes]) -> None:
    digests = []
    whole = algorithm.hasher()
    for part in parts:
        hasher = algorithm.hasher()
        hasher.update(part)
        digests.append((hasher.digest(), len(part)))
        whole.update(part)
    assert full_object(algorithm, digests) == whole.digest()
