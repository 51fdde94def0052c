"""Checksums that requests announce: whatever headers say, one error or a sound answer."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from router.gateway.s3.announced import BodyChecks, announced, expected_trailers
from router.gateway.s3.checksums import Algorithm, decode_content_md5, encode, type_of_parts
from router.gateway.s3.failures import S3Error

BODY = b"one body"
ALGORITHMS = st.sampled_from(Algorithm)
NAMES = st.sampled_from([each.header for each in Algorithm])
JUNK = st.text(max_size=30) | st.binary(max_size=40).map(encode)
NAMED = [each.value for each in Algorithm]


def right(algorithm: Algorithm) -> str:
    hasher = algorithm.hasher()
    hasher.update(BODY)
    return encode(hasher.digest())


@given(
    st.dictionaries(
        NAMES | st.sampled_from(["content-md5", "x-amz-sdk-checksum-algorithm"]),
        JUNK | ALGORITHMS.map(right) | st.sampled_from(NAMED),
        max_size=3,
    ),
    st.lists(NAMES | JUNK, max_size=2),
    st.dictionaries(NAMES, JUNK | ALGORITHMS.map(right), max_size=2),
)
def test_what_is_accepted_is_what_the_body_has(
    headers: dict[str, str], trailers: list[str], came: dict[str, str]
) -> None:
    try:
        expected = announced(headers, expected_trailers(trailers))
        checks = BodyChecks(expected)
        checks.update(BODY)
        found = checks.finish(came)
    except S3Error:
        return
    assert found.md5 == hashlib.md5(BODY).digest()
    if "content-md5" in headers:
        assert decode_content_md5(headers["content-md5"]) == found.md5
    if found.algorithm is not None:
        name = found.algorithm.header
        assert encode(found.digest or b"") == right(found.algorithm) == {**came, **headers}[name]
    else:
        assert not set(headers) & {each.header for each in Algorithm}


@given(ALGORITHMS, st.text(max_size=12) | st.sampled_from(["COMPOSITE", "FULL_OBJECT"]))
def test_any_type_of_checksum_is_one_or_an_error(algorithm: Algorithm, asked: str) -> None:
    try:
        kind = type_of_parts(algorithm, asked)
    except S3Error as error:
        assert (error.code, error.status) == ("InvalidRequest", 400)  # noqa: PT017
    else:
        assert kind.value == asked.upper()
