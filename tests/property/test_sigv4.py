"""Signatures against those of botocore; and whatever is sent, one documented error."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import quote, urlsplit

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4PostAuth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from router.gateway.s3.failures import S3Error
from router.gateway.s3.sigv4 import SignedRequest, parse, verify
from router.gateway.s3.sigv4_form import parse_form, verify_form

UNRESERVED = "-._~"
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12)
KEYS = st.text(
    st.characters(exclude_categories=["Cs"]) | st.sampled_from("/ +%&=?#~*'(){}"), max_size=20
)
NAMES = st.text(st.sampled_from("abcXYZ09-._~ +%&=/ä€😀"), min_size=1, max_size=8)
QUERIES = st.dictionaries(NAMES, TEXT | NAMES, max_size=5)
TOKENS = st.text(st.sampled_from("abcdefxyz0189-"), min_size=1, max_size=10)
VALUES = st.text(st.sampled_from("abc XYZ,;=\"'  \tä€/"), max_size=15).map(str.strip)
HEADERS = st.dictionaries(
    TOKENS.map(lambda name: f"x-amz-meta-{name}"), VALUES.filter(bool), max_size=4
)
METHODS = st.sampled_from(["GET", "PUT", "HEAD", "DELETE", "POST"])
SECRETS = st.text(st.sampled_from("abcXYZ019/+="), min_size=1, max_size=40)


def as_sent(made: AWSRequest) -> SignedRequest:
    """The request as it stands on the wire."""
    prepared = made.prepare()
    parts = urlsplit(prepared.url)
    headers = [
        (name, value.decode() if isinstance(value, bytes) else value)
        for name, value in prepared.headers.items()
    ]
    if not any(name.lower() == "host" for name, _ in headers):
        headers.append(("Host", parts.netloc))
    return SignedRequest(prepared.method, parts.path, parts.query, headers)


def url_of(key: str, query: dict[str, str]) -> str:
    path = quote(key, safe="/" + UNRESERVED)
    text = "&".join(
        f"{quote(name, safe=UNRESERVED)}={quote(value, safe=UNRESERVED)}"
        for name, value in query.items()
    )
    return f"http://s3.example:5003/{path}" + (f"?{text}" if text else "")


@given(METHODS, KEYS, QUERIES, HEADERS, SECRETS, st.binary(max_size=20), st.booleans())
def test_what_botocore_signs_holds(
    method: str,
    key: str,
    query: dict[str, str],
    headers: dict[str, str],
    secret: str,
    body: bytes,
    hashed: bool,
) -> None:
    made = AWSRequest(method, url_of(key, query), headers, body)
    made.context["payload_signing_enabled"] = hashed
    S3SigV4Auth(Credentials("AKID", secret), "s3", "eu-north-1").add_auth(made)
    request = as_sent(made)
    claim = parse(request, region="eu-north-1")
    assert claim is not None
    verify(claim, request, secret, claim.date)
    with pytest.raises(S3Error, match="SignatureDoesNotMatch"):
        verify(claim, request, secret + "x", claim.date)
    moved = SignedRequest(method, request.raw_path + "x", request.raw_query, request.headers)
    with pytest.raises(S3Error, match="SignatureDoesNotMatch"):
        verify(claim, moved, secret, claim.date)


@given(METHODS, KEYS, QUERIES, HEADERS, SECRETS, st.integers(1, 604_800))
def test_what_botocore_presigns_holds(
    method: str,
    key: str,
    query: dict[str, str],
    headers: dict[str, str],
    secret: str,
    expires_s: int,
) -> None:
    made = AWSRequest(method, url_of(key, query), headers)
    S3SigV4QueryAuth(Credentials("AKID", secret), "s3", "eu-north-1", expires_s).add_auth(made)
    request = as_sent(made)
    claim = parse(request)
    assert claim is not None
    assert (claim.presigned, claim.expires_s) == (True, expires_s)
    verify(claim, request, secret, claim.date)
    more = SignedRequest(method, request.raw_path, request.raw_query + "&more", request.headers)
    with pytest.raises(S3Error, match="SignatureDoesNotMatch"):
        verify(claim, more, secret, claim.date)


@given(SECRETS, st.text(max_size=10))
def test_what_botocore_signs_for_a_form_holds(secret: str, key: str) -> None:
    made = AWSRequest("POST", "http://s3.example/bucket")
    fields: dict[str, str] = {"key": key}
    made.context["s3-presign-post-fields"] = fields
    made.context["s3-presign-post-policy"] = {"conditions": [{"key": key}]}
    S3SigV4PostAuth(Credentials("AKID", secret), "s3", "eu-north-1").add_auth(made)
    claim = parse_form(fields)
    assert claim is not None
    verify_form(claim, secret)
    with pytest.raises(S3Error, match="SignatureDoesNotMatch"):
        verify_form(claim, secret + "x")


PIECES = st.sampled_from(
    [
        "AWS4-HMAC-SHA256",
        "AWS ",
        "Credential=",
        "a/20130524/us-east-1/s3/aws4_request",
        "SignedHeaders=",
        "host;",
        "host",
        "Signature=",
        ",",
        " ",
        "=",
        "0",
        "%2F",
        "%",
        "\udcff",
        "é",
        "20130524T000000Z",
        "99999999T999999Z",
        "Fri, 24 May 9999 00:00:00 -9999",
        "UNSIGNED-PAYLOAD",
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
    ]
)
SIGNED = (
    "AWS4-HMAC-SHA256 Credential=a/20130524/us-east-1/s3/aws4_request,SignedHeaders=host,"
    "Signature=0"
)
JUNK = st.lists(PIECES | TEXT, max_size=10).map("".join)
PARAMETERS = st.sampled_from(
    [
        "X-Amz-Algorithm=AWS4-HMAC-SHA256",
        "X-Amz-Credential=a%2F20130524%2Fus-east-1%2Fs3%2Faws4_request",
        "X-Amz-Date=20130524T000000Z",
        "X-Amz-Expires=60",
        "X-Amz-SignedHeaders=host",
        "X-Amz-Signature=0",
        "X-Amz-Content-Sha256=UNSIGNED-PAYLOAD",
        "X-Amz-Expires=",
        "X-Amz-Signature",
        "AWSAccessKeyId=1",
        "Signature=1",
    ]
)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["authorization", "x-amz-date", "date", "x-amz-content-sha256"]), JUNK
        )
        | st.just(("x-amz-content-sha256", "UNSIGNED-PAYLOAD"))
        | st.just(("x-amz-date", "20130524T000000Z"))
        | st.just(
            (
                "authorization",
                SIGNED,
            )
        ),
        max_size=6,
    ),
    st.lists(PARAMETERS | JUNK, max_size=10).map("&".join),
    JUNK,
    st.datetimes(timezones=st.just(UTC)),
)
def test_whatever_is_sent_is_answered(
    headers: list[tuple[str, str]], query: str, path: str, now: datetime
) -> None:
    request = SignedRequest("GET", path, query, headers)
    try:
        claim = parse(request)
    except S3Error:
        return
    if claim is not None:
        with pytest.raises(S3Error):
            verify(claim, request, "secret", now)


@given(
    st.dictionaries(
        st.sampled_from(
            ["policy", "x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-signature"]
        ),
        JUNK,
    )
)
def test_whatever_form_is_sent_is_answered(fields: dict[str, str]) -> None:
    try:
        claim = parse_form(fields)
    except S3Error:
        return
    if claim is not None:
        with pytest.raises(S3Error):
            verify_form(claim, "secret")
