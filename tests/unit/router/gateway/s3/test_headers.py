"""Headers: what is kept of a request, what is refused, and what an answer tells."""

from __future__ import annotations

from email.header import decode_header, make_header

import msgspec
import pytest

from common.records import Version
from router.gateway.s3.failures import S3Error
from router.gateway.s3.headers import (
    checksum_headers,
    kept_headers,
    overrides,
    refuse_unknown,
    sendable,
    told_headers,
)

VERSION = Version(
    "photos", "cat", 7, 10, "abc", 1_700_000_000_000, (),
    {"content-type": "image/png", "x-amz-meta-who": "ünne"}, checksums={"crc32": "AAAAAA=="},
)  # fmt: skip


def test_standard_headers_and_metadata_are_kept() -> None:
    told = [
        ("Content-Type", "text/plain"), ("Cache-Control", "no-cache"), ("X-Amz-Meta-A", "1"),
        ("x-amz-meta-a", "2"), ("X-Amz-Date", "now"), ("Host", "h"), ("x-amz-meta-", "no name"),
        ("Content-Encoding", "aws-chunked, gzip"), ("Expires", "never"), ("Content-Length", "3"),
    ]  # fmt: skip
    assert kept_headers(told) == {
        "content-type": "text/plain",
        "cache-control": "no-cache",
        "x-amz-meta-a": "1,2",
        "content-encoding": "gzip",
        "expires": "never",
    }


@pytest.mark.parametrize("value", ["aws-chunked", "AWS-chunked,", ""])
def test_the_framing_is_no_encoding(value: str) -> None:
    assert kept_headers([("Content-Encoding", value)]) == {}


def test_bytes_that_are_no_utf8_are_latin_1() -> None:
    value = b"caf\xe9".decode("utf-8", "surrogateescape")
    kept = kept_headers([("x-amz-meta-a", value)])
    assert kept == {"x-amz-meta-a": "café"}
    assert str(make_header(decode_header(sendable("café")))) == "café"
    assert sendable("plain") == "plain"


def test_metadata_has_two_kibibytes() -> None:
    fits = [("x-amz-meta-a", "v" * 2047)]
    assert kept_headers(fits)
    with pytest.raises(S3Error) as caught:
        kept_headers([*fits, ("x-amz-meta-b", "")])
    assert caught.value.code == "MetadataTooLarge"
    assert caught.value.fields == {"Size": "2049", "MaxSizeAllowed": "2048"}
    with pytest.raises(S3Error) as large:
        kept_headers([("Content-Disposition", "x" * 9_000)])
    assert large.value.code == "RequestHeaderSectionTooLarge"


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("x-amz-acl", "public-read", "NotImplemented"),
        ("x-amz-grant-read", "id=1", "NotImplemented"),
        ("x-amz-tagging", "a=b", "NotImplemented"),
        ("x-amz-server-side-encryption-aws-kms-key-id", "k", "NotImplemented"),
        ("X-Amz-Server-Side-Encryption-Context", "e30=", "NotImplemented"),
        ("x-amz-object-lock-mode", "GOVERNANCE", "NotImplemented"),
        ("x-amz-website-redirect-location", "/", "NotImplemented"),
        ("x-amz-write-offset-bytes", "3", "NotImplemented"),
        ("x-amz-copy-source-range", "bytes=0-1", "NotImplemented"),
        ("x-amz-mfa", "1", "NotImplemented"),
        ("x-amz-of-tomorrow", "1", "NotImplemented"),
        ("x-amz-bucket-object-lock-enabled", "true", "NotImplemented"),
        ("x-amz-transition-default-minimum-object-size", "varies", "NotImplemented"),
        ("x-amz-storage-class", "GLACIER", "InvalidStorageClass"),
    ],
)
def test_what_would_mean_something_else_is_refused(name: str, value: str, code: str) -> None:
    with pytest.raises(S3Error) as caught:
        refuse_unknown([("Host", "h"), (name, value)])
    assert caught.value.code == code


@pytest.mark.parametrize(
    "operation", ["CopyObject", "CreateMultipartUpload", "PostObject", "PutObject"]
)
def test_where_a_website_sends_is_kept_of_what_writes_an_object(operation: str) -> None:
    said = [("X-Amz-Website-Redirect-Location", "/there")]
    refuse_unknown(said, operation)
    assert kept_headers(said) == {"x-amz-website-redirect-location": "/there"}
    with pytest.raises(S3Error) as caught:
        kept_headers([(said[0][0], "/there\r\nSet-Cookie: a=b")])
    assert caught.value.code == "InvalidRedirectLocation"


def test_what_is_so_anyway_is_not() -> None:
    refuse_unknown(
        [
            ("X-Amz-Acl", "private"),
            ("x-amz-storage-class", "STANDARD"),
            ("x-amz-api-version", "2006-03-01"),
            ("x-amz-meta-anything", "x"),
            ("x-amz-checksum-crc64nvme", "x"),
            ("x-amz-content-sha256", "UNSIGNED-PAYLOAD"),
            ("amz-sdk-request", "attempt=1"),
        ]
    )


def test_an_answer_tells_what_is_kept() -> None:
    told = told_headers(VERSION)
    assert told == {
        "ETag": '"abc"',
        "Last-Modified": "Tue, 14 Nov 2023 22:13:20 GMT",
        "Accept-Ranges": "bytes",
        "Content-Type": "image/png",
        "x-amz-meta-who": sendable("ünne"),
        "Content-Length": "10",
    }
    bare = msgspec.structs.replace(VERSION, headers={}, checksums={})
    assert told_headers(bare)["Content-Type"] == "binary/octet-stream"


def test_checksums_are_told_if_they_are_asked_for_and_are_of_what_is_sent() -> None:
    sums = {"x-amz-checksum-crc32": "AAAAAA==", "x-amz-checksum-type": "FULL_OBJECT"}
    whole = told_headers(VERSION, checksums=True)
    assert sums.items() <= whole.items()
    part = told_headers(VERSION, (2, 5), checksums=True)
    assert (part["Content-Range"], part["Content-Length"]) == ("bytes 2-4/10", "3")
    assert not sums.keys() & part.keys()
    empty = told_headers(VERSION, (10, 10))
    assert empty["Content-Length"] == "0"
    assert "Content-Range" not in empty
    assert checksum_headers(msgspec.structs.replace(VERSION, checksums={})) == {}
    parts = msgspec.structs.replace(VERSION, checksums={"sha256": "AAAA-3"})
    assert checksum_headers(parts)["x-amz-checksum-type"] == "COMPOSITE"


def test_a_request_may_want_other_headers() -> None:
    wanted = {"response-content-type": "a/b", "response-expires": "soon", "prefix": "x"}
    assert overrides(wanted) == {"Content-Type": "a/b", "Expires": "soon"}
    for value in ("a\r\nX: y", "\0"):
        with pytest.raises(S3Error):
            overrides({"response-content-type": value})
