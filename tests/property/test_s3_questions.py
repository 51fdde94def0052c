"""What requests at the S3 door ask for: any parameter, any header, any upload and part."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.s3_door_kit import S3Door, open_door, refused
from tests.s3_kit import Told

SOAK: Final = 50 if os.environ.get("PUTTER_SOAK") else 1
BODY: Final = b"0123456789"


@pytest.fixture(scope="module")
def door() -> Iterator[S3Door]:
    with open_door() as made:
        assert made.ask("PUT", "/bytes").status == 200
        for key in ("a", "b/c", "d"):
            assert made.ask("PUT", f"/bytes/{key}", BODY).status == 200
        yield made


@pytest.fixture(scope="module")
def upload(door: S3Door) -> str:
    answer = door.ask("POST", "/bytes/parts?uploads=")
    return ids_in(answer)[0]


def ids_in(answer: Told) -> list[str]:
    assert answer.status == 200, answer
    marked = answer.body.decode().split("<UploadId>")[1:]
    return [each.partition("<")[0] for each in marked]


def encoded(text: str) -> str:
    return quote(text, safe="-_.~", errors="surrogateescape")


WORDS: Final = st.sampled_from(
    [
        "",
        "0",
        "1",
        "-1",
        "1000",
        "1001",
        "2147483647",
        "2147483648",
        "99999999999999999999",
        "1e3",
        "0x10",
        " 1",
        "+1",
        "\u0661",
        "1.0",
        "url",
        "URL",
        "2",
        "true",
        "null",
        "/",
        "//",
        "%",
        "+",
        "a",
        "b/c",
        "YQ==",
        "YQ",
        "=",
        "\0",
        "\r\nx-evil: 1",
        "\U0010ffff",
        "\udcff",
        "x" * 1100,
        "0" * 32,
        "text/plain",
        "\x7f",
    ]
) | st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
PARAMETERS: Final = st.sampled_from(
    [
        "list-type",
        "max-keys",
        "max-parts",
        "max-uploads",
        "max-buckets",
        "prefix",
        "delimiter",
        "marker",
        "key-marker",
        "version-id-marker",
        "upload-id-marker",
        "part-number-marker",
        "continuation-token",
        "start-after",
        "encoding-type",
        "fetch-owner",
        "partNumber",
        "versionId",
        "response-content-type",
        "response-cache-control",
        "response-expires",
        "response-content-disposition",
        "x-id",
        "X-Amz-Expires",
        "versions",
        "uploads",
        "location",
        "attributes",
        "acl",
        "nothing",
        "\u00e4",
        "\0",
    ]
)
QUERIES: Final = st.lists(st.tuples(PARAMETERS, WORDS), max_size=4).map(
    lambda pairs: "&".join(f"{encoded(name)}={encoded(value)}" for name, value in pairs)
)


@settings(max_examples=250 * SOAK, deadline=None)
@given(
    st.sampled_from(["/", "/bytes", "/bytes/a", "/bytes/parts", "/none", "/none/a", "/bytes/"]),
    st.sampled_from(["GET", "HEAD", "OPTIONS", "PATCH"]),
    QUERIES,
    st.booleans(),
)
def test_any_parameters_are_answered(
    door: S3Door, upload: str, path: str, method: str, query: str, parts: bool
) -> None:
    if parts and path.startswith("/bytes/"):
        query = f"uploadId={upload}&{query}"
    answer = door.ask(method, f"{path}?{query}")
    assert refused(answer) or answer.status in {200, 206, 304}
    assert not {"x-evil"} & set(answer.headers)
    assert door.ask("GET", "/bytes/a").body == BODY


NUMBERS: Final = st.sampled_from(["0", "1", "2", "10000", "10001", "1.5", "-1", "\u0661", "", "x"])
IDS: Final = st.sampled_from(["", "0" * 32, "x", "0" * 33, "/", "..", "\0", "@parts", "\udcff"])


@settings(max_examples=100 * SOAK, deadline=None)
@given(
    st.sampled_from(["PUT", "GET", "POST", "DELETE", "HEAD"]),
    st.sampled_from(["/bytes/parts", "/bytes/other", "/none/parts"]),
    IDS,
    NUMBERS,
    st.binary(max_size=20),
)
def test_only_the_upload_that_is_there_is_found(
    door: S3Door, upload: str, method: str, path: str, name: str, number: str, body: bytes
) -> None:
    query = f"?partNumber={encoded(number)}&uploadId={encoded(name)}"
    answer = door.ask(method, path + query, body if method in {"PUT", "POST"} else b"")
    assert refused(answer), answer
    query = query.rpartition("=")[0] + f"={upload}"
    answer = door.ask("PUT", path + query, body)
    wanted = path == "/bytes/parts" and number in {"1", "2", "10000"}
    assert refused(answer) != wanted, answer
    assert ids_in(door.ask("GET", "/bytes?uploads=")) == [upload]


HEADERS: Final = st.sampled_from(
    [
        "range",
        "if-match",
        "if-none-match",
        "if-modified-since",
        "if-unmodified-since",
        "if-range",
        "content-type",
        "content-md5",
        "content-encoding",
        "expires",
        "cache-control",
        "x-amz-meta-a",
        "x-amz-meta-",
        "x-amz-acl",
        "x-amz-grant-read",
        "x-amz-storage-class",
        "x-amz-checksum-crc32",
        "x-amz-checksum-sha256",
        "x-amz-checksum-type",
        "x-amz-checksum-algorithm",
        "x-amz-sdk-checksum-algorithm",
        "x-amz-trailer",
        "x-amz-decoded-content-length",
        "x-amz-copy-source-if-match",
        "x-amz-copy-source-range",
        "x-amz-metadata-directive",
        "x-amz-tagging",
        "x-amz-expected-bucket-owner",
        "x-amz-object-attributes",
        "x-amz-mp-object-size",
        "x-amz-server-side-encryption",
        "x-amz-object-lock-mode",
        "x-amz-website-redirect-location",
        "x-amz-security-token",
        "x-amz-nonsense",
        "x-http-method-override",
        "accept-encoding",
        "cookie",
    ]
)
VALUES: Final = st.sampled_from(
    [
        "*",
        '"*"',
        "bytes=0-0",
        "bytes=5-2",
        "bytes=-0",
        "bytes=-99999999999999999999",
        "bytes=0-1,3-4",
        "bytes=9999999999999999999-",
        "bytes=\u0661-2",
        "lines=0-1",
        "Fri, 32 May 2099 99:00:00 GMT",
        "Sat, 01 Jan 0001 00:00:00 -9999",
        "0",
        "private",
        "public-read",
        "STANDARD",
        "GLACIER",
        "AAAAAA==",
        "====",
        "gzip",
        "aws-chunked",
        "CRC32",
        "COMPOSITE",
        "x-amz-checksum-crc32",
        "ETag",
        "REPLACE",
        "J\u00f6rg",
        "\udcff\udcfe",
        "=?UTF-8?B?zzz?=",
        "a=b&c",
        "x" * 3_000,
    ]
)


@settings(max_examples=200 * SOAK, deadline=None)
@given(
    st.sampled_from(["PUT", "GET", "HEAD", "POST"]),
    st.dictionaries(HEADERS, VALUES, max_size=4),
    st.booleans(),
)
def test_any_headers_are_answered(
    door: S3Door, method: str, headers: dict[str, str], copies: bool
) -> None:
    path = "/bytes/new?uploads=" if method == "POST" else "/bytes/new"
    if method in {"GET", "HEAD"}:
        path = "/bytes/a"
    elif method == "PUT" and copies:
        headers = headers | {"x-amz-copy-source": "/bytes/a"}
    body = BODY if method == "PUT" and not copies else b""
    answer = door.ask(method, path, body, headers)
    if refused(answer) or method in {"GET", "HEAD"}:
        assert answer.status >= 400 or method in {"GET", "HEAD"}
        assert door.ask("HEAD", "/bytes/new").status == 404
    elif method == "PUT":
        held = door.ask("GET", "/bytes/new")
        assert (held.status, held.body) == (200, BODY)
        assert door.ask("DELETE", "/bytes/new").status == 204
    else:
        query = f"?uploadId={ids_in(answer)[0]}"
        assert door.ask("DELETE", f"/bytes/new{query}").status == 204
    assert door.ask("GET", "/bytes/a").body == BODY


HOSTS: Final = st.sampled_from(
    [
        "s3.test",
        "bytes.s3.test",
        "BYTES.S3.TEST:5003",
        ".s3.test",
        "..s3.test",
        "@parts.bytes.s3.test",
        "bytes%2Fa.s3.test",
        "other.example",
        "[::1]:5003",
        "[::1",
        ":",
        "",
        "bytes.s3.test.",
        "a" * 300 + ".s3.test",
        "\u00e4.s3.test",
        "\udcff.s3.test",
        "bytes .s3.test",
        "0",
    ]
)


@settings(max_examples=60 * SOAK, deadline=None)
@given(
    st.sampled_from(["GET", "HEAD", "PUT", "DELETE"]), HOSTS, st.sampled_from(["/a/x", "/x", "/"])
)
def test_any_host_is_answered(door: S3Door, method: str, host: str, path: str) -> None:
    """A name of a bucket in it counts only if a bucket can have it."""
    answer = door.ask(method, path, BODY if method == "PUT" else b"", {"host": host})
    if not refused(answer):
        assert answer.status in {200, 204}
        names = texts_of(door.ask("GET", "/").body)
        assert not [each for each in names if not re.fullmatch(r"[a-z0-9.-]{3,63}", each)]
        for name in set(names) - {"bytes"}:
            door.ask("DELETE", f"/{name}/x")
            door.ask("DELETE", f"/{name}")
    assert door.ask("GET", "/bytes/a").body == BODY


def texts_of(body: bytes) -> list[str]:
    return re.findall("<Name>([^<]*)</Name>", body.decode())
