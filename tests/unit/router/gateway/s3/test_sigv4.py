"""Signature Version 4: the published examples, and what each kind of bad claim is told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from router.gateway.s3.canonical import canonical_headers, canonical_query, query_pairs
from router.gateway.s3.failures import S3Error
from router.gateway.s3.sigv4 import Payload, SignedRequest, parse, sign, signing_key, verify
from router.gateway.s3.sigv4_form import parse_form, verify_form

# The examples of the S3 API reference, "Authenticating Requests", with the keys they are made for.
KEY = "AKIAIOSFODNN7EXAMPLE"
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
NOW = datetime(2013, 5, 24, tzinfo=UTC)
SCOPE = "20130524/us-east-1/s3/aws4_request"
HOST = ("Host", "examplebucket.s3.amazonaws.com")


def authorization(signed: str, signature: str, **other: str) -> tuple[str, str]:
    parts = {"Credential": f"{KEY}/{SCOPE}", "SignedHeaders": signed, "Signature": signature}
    parts |= other
    text = ",".join(f"{name}={value}" for name, value in parts.items())
    return ("Authorization", f"AWS4-HMAC-SHA256 {text}")


GET = SignedRequest(
    "GET",
    "/test.txt",
    "",
    [
        HOST,
        authorization(
            "host;range;x-amz-content-sha256;x-amz-date",
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        ("Range", "bytes=0-9"),
        ("x-amz-content-sha256", EMPTY),
        ("x-amz-date", "20130524T000000Z"),
    ],
)
PUT_HASH = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"
PUT = SignedRequest(
    "PUT",
    "/test%24file.text",
    "",
    [
        HOST,
        ("Date", "Fri, 24 May 2013 00:00:00 GMT"),
        authorization(
            "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        ),
        ("x-amz-date", "20130524T000000Z"),
        ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
        ("x-amz-content-sha256", PUT_HASH),
    ],
)
LIFECYCLE = SignedRequest(
    "GET",
    "/",
    "lifecycle",
    [
        HOST,
        authorization(
            "host;x-amz-content-sha256;x-amz-date",
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
        ),
        ("x-amz-date", "20130524T000000Z"),
        ("x-amz-content-sha256", EMPTY),
    ],
)
LIST = SignedRequest(
    "GET",
    "/",
    "max-keys=2&prefix=J",
    [
        HOST,
        authorization(
            "host;x-amz-content-sha256;x-amz-date",
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
        ("x-amz-date", "20130524T000000Z"),
        ("x-amz-content-sha256", EMPTY),
    ],
)
PRESIGNED_QUERY = (
    "X-Amz-Algorithm=AWS4-HMAC-SHA256"
    "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
    "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
    "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
)
PRESIGNED = SignedRequest("GET", "/test.txt", PRESIGNED_QUERY, [HOST])


def with_query(old: str, new: str) -> SignedRequest:
    assert old in PRESIGNED_QUERY
    return SignedRequest("GET", "/test.txt", PRESIGNED_QUERY.replace(old, new), [HOST])


def with_header(name: str, value: str | None) -> SignedRequest:
    others = [each for each in GET.headers if each[0].lower() != name.lower()]
    return SignedRequest(
        "GET", "/test.txt", "", others if value is None else [*others, (name, value)]
    )


@pytest.mark.parametrize("request_", [GET, PUT, LIFECYCLE, LIST, PRESIGNED])
def test_the_published_examples_hold(request_: SignedRequest) -> None:
    claim = parse(request_)
    assert claim is not None
    assert (claim.access_key_id, claim.region, claim.date) == (KEY, "us-east-1", NOW)
    assert verify(claim, request_, SECRET, NOW).claim is claim


@pytest.mark.parametrize("request_", [GET, PUT, LIFECYCLE, LIST, PRESIGNED])
def test_they_do_not_hold_for_another_secret(request_: SignedRequest) -> None:
    claim = parse(request_)
    assert claim is not None
    with pytest.raises(S3Error) as caught:
        verify(claim, request_, SECRET + "x", NOW)
    assert (caught.value.code, caught.value.status) == ("SignatureDoesNotMatch", 403)
    assert SECRET not in str(caught.value.fields)


def test_a_mismatch_shows_what_was_signed_here() -> None:
    claim = parse(GET)
    assert claim is not None
    with pytest.raises(S3Error) as caught:
        verify(claim, GET, "other", NOW)
    fields = caught.value.fields
    assert fields["StringToSign"].startswith(f"AWS4-HMAC-SHA256\n20130524T000000Z\n{SCOPE}\n")
    assert fields["CanonicalRequest"].startswith("GET\n/test.txt\n\nhost:examplebucket.s3.")
    assert bytes.fromhex(fields["StringToSignBytes"]).decode() == fields["StringToSign"]
    assert bytes.fromhex(fields["CanonicalRequestBytes"]).decode() == fields["CanonicalRequest"]


def test_what_the_body_is_held_to() -> None:
    claim = parse(PUT)
    assert claim is not None
    verified = verify(claim, PUT, SECRET, NOW)
    assert (claim.payload, verified.sha256, verified.chunks) == (Payload.HASHED, PUT_HASH, None)
    claim = parse(PRESIGNED)
    assert claim is not None
    verified = verify(claim, PRESIGNED, SECRET, NOW)
    assert (claim.payload, verified.sha256, verified.chunks) == (Payload.UNSIGNED, None, None)
    assert claim.presigned
    assert claim.expires_s == 86400


@pytest.mark.parametrize(
    "request_",
    [
        SignedRequest("GET", "/a", "list-type=2", [HOST]),
        SignedRequest("GET", "/a", "", []),
        SignedRequest("GET", "/a", "X-Amz-Expires=5", [HOST]),
    ],
)
def test_without_a_claim_a_request_is_anonymous(request_: SignedRequest) -> None:
    assert parse(request_) is None


@pytest.mark.parametrize(
    ("value", "code", "words"),
    [
        ("AWS key:signature", "InvalidRequest", "AWS4-HMAC-SHA256"),
        ("Bearer token", "InvalidArgument", "Unsupported Authorization Type"),
        ("", "InvalidArgument", "Unsupported"),
        ("AWS4-ECDSA-P256-SHA256 Credential=x", "NotImplemented", "4A"),
        ("AWS4-HMAC-SHA256", "AuthorizationHeaderMalformed", "malformed"),
        ("AWS4-HMAC-SHA256 Credential", "AuthorizationHeaderMalformed", "malformed"),
        ("AWS4-HMAC-SHA256 a=1,a=2", "AuthorizationHeaderMalformed", "malformed"),
        (f"AWS4-HMAC-SHA256 Credential={KEY}/{SCOPE}", "AuthorizationHeaderMalformed", "three"),
        (authorization("host", "")[1], "AuthorizationHeaderMalformed", "three"),
        (
            authorization("host", "0", Credential="AK/20130524")[1],
            "AuthorizationHeaderMalformed",
            "Credential is mal-formed",
        ),
        (
            authorization("host", "0", Credential="AK/20130524/r/ec2/aws4_request")[1],
            "AuthorizationHeaderMalformed",
            'incorrect service "ec2"',
        ),
        (
            authorization("host", "0", Credential="AK/20130524/r/s3/aws5_request")[1],
            "AuthorizationHeaderMalformed",
            "incorrect terminal",
        ),
        (
            authorization("host", "0", Credential="AK/20130525/r/s3/aws4_request")[1],
            "AuthorizationHeaderMalformed",
            "Invalid credential date",
        ),
        (authorization("range", "0")[1], "AuthorizationHeaderMalformed", "SignedHeaders"),
        (authorization("host;;range", "0")[1], "AuthorizationHeaderMalformed", "SignedHeaders"),
    ],
)
def test_a_malformed_header_is_told_so(value: str, code: str, words: str) -> None:
    with pytest.raises(S3Error) as caught:
        parse(with_header("authorization", value))
    assert caught.value.code == code
    assert words in caught.value.message


def test_an_access_key_id_may_have_slashes() -> None:
    request = with_header("authorization", authorization("host", "0", Credential=f"a/b/{SCOPE}")[1])
    claim = parse(request)
    assert claim is not None
    assert claim.access_key_id == "a/b"


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("x-amz-date", None, "AccessDenied"),
        ("x-amz-date", "yesterday", "AccessDenied"),
        ("x-amz-date", "20131324T000000Z", "AccessDenied"),
        ("x-amz-content-sha256", None, "InvalidRequest"),
        ("x-amz-content-sha256", "abc", "InvalidArgument"),
        ("x-amz-content-sha256", "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD", "NotImplemented"),
    ],
)
def test_a_missing_or_bad_header_is_told_so(name: str, value: str | None, code: str) -> None:
    with pytest.raises(S3Error) as caught:
        parse(with_header(name, value))
    assert caught.value.code == code


def test_the_date_header_serves_where_there_is_no_other() -> None:
    request = with_header("x-amz-date", None)
    dated = SignedRequest(
        "GET", "/", "", [*request.headers, ("Date", "Fri, 24 May 2013 02:00:00 +0200")]
    )
    claim = parse(dated)
    assert claim is not None
    assert (claim.timestamp, claim.date) == ("20130524T000000Z", NOW)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("AWS4-HMAC-SHA256&", "AWS4-HMAC-SHA1&", "X-Amz-Algorithm only supports"),
        ("&X-Amz-Expires=86400", "", "requires"),
        ("&X-Amz-Expires=86400", "&X-Amz-Expires=86400&X-Amz-Expires=5", "each once"),
        ("=86400", "=604801", "less than a week"),
        ("=86400", "=0", "at least 1"),
        ("=86400", "=-1", "at least 1"),
        ("=86400", "=soon", "should be a number"),
        ("=86400", "=%D9%A3", "should be a number"),
        ("=86400", "=" + 30 * "9", "should be a number"),
        ("20130524T000000Z", "20130524", "ISO8601"),
        ("%2F20130524", "", "Credential is mal-formed"),
        ("%2Fs3%2F", "%2Fsts%2F", "incorrect service"),
        ("SignedHeaders=host", "SignedHeaders=range", "SignedHeaders"),
    ],
)
def test_a_malformed_presigned_url_is_told_so(old: str, new: str, words: str) -> None:
    with pytest.raises(S3Error) as caught:
        parse(with_query(old, new))
    assert (caught.value.code, caught.value.status) == ("AuthorizationQueryParametersError", 400)
    assert words in caught.value.message


def test_one_mechanism_at_a_time() -> None:
    both = SignedRequest("GET", "/test.txt", PRESIGNED_QUERY, GET.headers)
    with pytest.raises(S3Error, match="Only one auth mechanism"):
        parse(both)
    with pytest.raises(S3Error, match="not supported"):
        parse(SignedRequest("GET", "/", "AWSAccessKeyId=a&Signature=b&Expires=1", [HOST]))


@pytest.mark.parametrize("request_", [GET, PRESIGNED])
def test_a_region_may_be_asked_for(request_: SignedRequest) -> None:
    assert parse(request_, region="us-east-1") is not None
    with pytest.raises(S3Error) as caught:
        parse(request_, region="here")
    assert caught.value.fields["Region"] == "here"
    assert "'us-east-1' is wrong; expecting 'here'" in caught.value.message


@pytest.mark.parametrize(("minutes", "fits"), [(-16, False), (-15, True), (15, True), (16, False)])
def test_a_clock_may_be_off_by_a_quarter_of_an_hour(minutes: int, *, fits: bool) -> None:
    claim = parse(GET)
    assert claim is not None
    now = NOW + timedelta(minutes=minutes)
    if fits:
        assert verify(claim, GET, SECRET, now)
        return
    with pytest.raises(S3Error) as caught:
        verify(claim, GET, SECRET, now)
    assert (caught.value.code, caught.value.status) == ("RequestTimeTooSkewed", 403)
    assert caught.value.fields["MaxAllowedSkewMilliseconds"] == "900000"
    assert caught.value.fields["RequestTime"] == "20130524T000000Z"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-901, "Request is not valid yet"),
        (-900, ""),
        (86400, ""),
        (86401, "Request has expired"),
    ],
)
def test_a_presigned_url_has_its_time(seconds: int, words: str) -> None:
    claim = parse(PRESIGNED)
    assert claim is not None
    now = NOW + timedelta(seconds=seconds)
    if not words:
        assert verify(claim, PRESIGNED, SECRET, now)
        return
    with pytest.raises(S3Error) as caught:
        verify(claim, PRESIGNED, SECRET, now)
    assert (caught.value.code, caught.value.message) == ("AccessDenied", words)


def test_the_expiry_is_told() -> None:
    claim = parse(PRESIGNED)
    assert claim is not None
    with pytest.raises(S3Error) as caught:
        verify(claim, PRESIGNED, SECRET, NOW + timedelta(days=3))
    assert caught.value.fields == {
        "X-Amz-Expires": "86400",
        "Expires": "2013-05-25T00:00:00Z",
        "ServerTime": "2013-05-27T00:00:00Z",
    }


@pytest.mark.parametrize("request_", [GET, PRESIGNED])
def test_headers_of_amazon_must_be_signed(request_: SignedRequest) -> None:
    more = SignedRequest(
        request_.method,
        request_.raw_path,
        request_.raw_query,
        [*request_.headers, ("X-Amz-Acl", "public-read"), ("x-other", "may")],
    )
    claim = parse(more)
    assert claim is not None
    with pytest.raises(S3Error) as caught:
        verify(claim, more, SECRET, NOW)
    assert (caught.value.code, caught.value.status) == ("AccessDenied", 403)
    assert caught.value.fields["HeadersNotSigned"] == "x-amz-acl"


@pytest.mark.parametrize(
    "changed",
    [
        SignedRequest("HEAD", GET.raw_path, "", GET.headers),
        SignedRequest("GET", "/test.tx", "", GET.headers),
        SignedRequest("GET", "//test.txt", "", GET.headers),
        SignedRequest("GET", GET.raw_path, "acl", GET.headers),
        with_header("range", "bytes=0-8"),
        with_header("range", None),
        with_header("host", "other"),
    ],
)
def test_a_changed_request_does_not_fit_its_signature(changed: SignedRequest) -> None:
    claim = parse(changed)
    assert claim is not None
    with pytest.raises(S3Error, match="SignatureDoesNotMatch"):
        verify(claim, changed, SECRET, NOW)


def test_a_session_token_is_not_one_of_ours() -> None:
    for request in (
        with_header("x-amz-security-token", "t"),
        with_query("&X-Amz-Date", "&X-Amz-Security-Token=t&X-Amz-Date"),
    ):
        claim = parse(request)
        assert claim is not None
        assert "token='t'" not in repr(claim)
        with pytest.raises(S3Error, match="InvalidToken"):
            verify(claim, request, SECRET, NOW)


def test_a_signature_with_odd_letters_is_just_wrong() -> None:
    request = with_query(PRESIGNED_QUERY[-64:], "%F0%9F%94%91\udcff")
    claim = parse(request)
    assert claim is not None
    with pytest.raises(S3Error, match="SignatureDoesNotMatch"):
        verify(claim, request, SECRET, NOW)


@pytest.mark.parametrize(
    ("raw", "canonical"),
    [
        ("", ""),
        ("acl", "acl="),
        ("b=2&a=1", "a=1&b=2"),
        ("a=2&a=1", "a=1&a=2"),
        ("a.b=1&a=2", "a=2&a.b=1"),
        ("a=b+c", "a=b%20c"),
        ("a=b%2bc", "a=b%2Bc"),
        ("a=b=c", "a=b%3Dc"),
        ("&&a", "a="),
        ("k=%7E~", "k=~~"),
        ("k=ä", "k=%C3%A4"),
        ("k=%zz", "k=%25zz"),
    ],
)
def test_queries_have_one_form(raw: str, canonical: str) -> None:
    assert canonical_query(query_pairs(raw)) == canonical


@pytest.mark.parametrize(
    ("values", "line"),
    [
        (["plain"], "plain"),
        (["  around \t"], "around"),
        (["one two"], "one two"),
        (["one  two\tthree \t four"], "one two three four"),
        (["a", " b ", "c  d"], "a,b,c d"),
        (["\xa0no\xa0\xa0blank"], "\xa0no\xa0\xa0blank"),
        ([""], ""),
        ([], ""),
    ],
)
def test_header_values_have_one_form(values: list[str], line: str) -> None:
    assert canonical_headers({"x-one": values}, ["x-one"]) == f"x-one:{line}\n"


def test_a_form_is_signed_by_its_policy() -> None:
    fields = {
        "key": "user/one",
        "policy": "eyJ9",
        "x-amz-algorithm": "AWS4-HMAC-SHA256",
        "x-amz-credential": f"{KEY}/{SCOPE}",
        "x-amz-date": "20130524T000000Z",
        "x-amz-signature": sign(signing_key(SECRET, SCOPE), "eyJ9"),
    }
    claim = parse_form(fields, region="us-east-1")
    assert claim is not None
    assert (claim.access_key_id, claim.policy, claim.date) == (KEY, "eyJ9", NOW)
    verify_form(claim, SECRET)
    with pytest.raises(S3Error, match="SignatureDoesNotMatch"):
        verify_form(claim, "other")
    other = parse_form(fields | {"policy": "eyK9"})
    assert other is not None
    with pytest.raises(S3Error, match="SignatureDoesNotMatch"):
        verify_form(other, SECRET)
    foreign = parse_form(fields | {"x-amz-security-token": "t"})
    assert foreign is not None
    with pytest.raises(S3Error, match="InvalidToken"):
        verify_form(foreign, SECRET)


def test_a_form_without_a_policy_is_anonymous() -> None:
    assert parse_form({"key": "x"}) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-amz-signature", ""),
        ("x-amz-algorithm", "AWS4-HMAC-SHA1"),
        ("x-amz-date", "now"),
        ("x-amz-credential", "a/b"),
        ("x-amz-credential", f"{KEY}/20130524/there/s3/aws4_request"),
    ],
)
def test_a_malformed_form_is_told_so(name: str, value: str) -> None:
    fields = {
        "policy": "eyJ9",
        "x-amz-algorithm": "AWS4-HMAC-SHA256",
        "x-amz-credential": f"{KEY}/{SCOPE}",
        "x-amz-date": "20130524T000000Z",
        "x-amz-signature": 64 * "0",
    }
    with pytest.raises(S3Error) as caught:
        parse_form(fields | {name: value}, region="us-east-1")
    assert (caught.value.code, caught.value.status) == ("InvalidArgument", 400)
