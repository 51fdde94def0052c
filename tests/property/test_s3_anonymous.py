"""Requests without a signature, put together from what an attacker would try."""

from __future__ import annotations

import hashlib
import json
import os
from base64 import b64encode
from collections.abc import Iterator
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.s3_door_kit import S3Door, head_of, open_door, told

SECRET_BYTES = b"nobody-may-see-this"
OPEN_BYTES = b"everybody-may-see-this"
SITE = (
    b"<WebsiteConfiguration><IndexDocument><Suffix>x</Suffix></IndexDocument>"
    b"<ErrorDocument><Key>secret</Key></ErrorDocument></WebsiteConfiguration>"
)
ROOT = "PublicAccessBlockConfiguration"
BLOCK = f"<{ROOT}><BlockPublicAcls>true</BlockPublicAcls></{ROOT}>".encode()
POLICY = {
    "Effect": "Allow",
    "Principal": "*",
    "Action": "s3:GetObject",
    "Resource": "arn:aws:s3:::open/pub/*",
}


@pytest.fixture(scope="module")
def door() -> Iterator[S3Door]:
    with open_door(s3_website_domain="web.test") as made:
        for bucket in ("open", "shut"):
            assert made.ask("PUT", f"/{bucket}").status == 200
            summed = {"content-md5": b64encode(hashlib.md5(SITE).digest()).decode()}
            assert made.ask("PUT", f"/{bucket}?website=", SITE, summed).status == 200
            for key in ("pub/x", "secret", "pub"):
                shown = bucket == "open" and key == "pub/x"
                data = OPEN_BYTES if shown else SECRET_BYTES
                assert made.ask("PUT", f"/{bucket}/{key}", data).status == 200
        for sub, body in (
            ("publicAccessBlock", BLOCK),
            ("policy", json.dumps({"Statement": POLICY}).encode()),
        ):
            summed = {"content-md5": b64encode(hashlib.md5(body).digest()).decode()}
            assert made.ask("PUT", f"/open?{sub}=", body, summed).status in (200, 204)
        yield made


PIECES = st.sampled_from(
    ["/", "//", "/./", "/../", "%2F", "%2f", "%2e%2e", "..", "open", "%6fpen", "shut", "pub",
     "PUB", "x", "secret", "@keys", "%40parts.open", "@uploads.open", "%00", "*", "?", "%C3%A9",
     "+", "%25", "open/pub/", "open/pub/x", "shut/pub/x"]
)  # fmt: skip
QUERIES = st.sampled_from(
    ["", "?acl", "?policy", "?versions", "?uploads", "?uploads=&uploadId=x", "?list-type=2",
     "?tagging", "?prefix=pub/", "?attributes", "?versionId=null", "?x-id=GetObject", "?delete",
     "?partNumber=1", "?partNumber=1&uploadId=x", "?policy&x-amz-acl=public-read", "?location",
     "?publicAccessBlock", "?ownershipControls", "?cors", "?versioning", "?website"]
)  # fmt: skip
HEADERS = st.fixed_dictionaries(
    {"host": st.sampled_from(["h", "open", "127.0.0.1:5003", "shut.s3.test", "open.s3.test"])},
    optional={
        "x-amz-copy-source": st.sampled_from(
            ["/shut/secret", "open/secret", "open/pub/x", "@keys/x"]
        ),
        "x-amz-acl": st.sampled_from(["public-read", "private"]),
        "x-amz-expected-bucket-owner": st.sampled_from(["root", ""]),
        "x-amz-content-sha256": st.sampled_from(["UNSIGNED-PAYLOAD", "0" * 64]),
        "x-amz-object-attributes": st.just("ETag"),
        "range": st.just("bytes=0-3"),
        "if-match": st.just("*"),
        "if-none-match": st.just("*"),
        "x-forwarded-for": st.just("127.0.0.1"),
        "x-http-method-override": st.just("PUT"),
        "origin": st.just("https://x"),
    },
)
METHODS = st.sampled_from(["GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS"])


@settings(max_examples=5_000 if os.environ.get("PUTTER_SOAK") else 300)
@given(METHODS, st.lists(PIECES, max_size=6), QUERIES, HEADERS, st.sampled_from([b"", b"<x/>"]))
def test_nobody_gets_anything_but_what_is_open(
    door: S3Door, method: str, pieces: list[str], query: str, headers: dict[str, str], body: bytes
) -> None:
    path = f"/{''.join(pieces)}".replace("?", "%3F")
    raw = door.raw(head_of(method, path + query, headers, body) + body)
    answer = told(raw, method)
    assert SECRET_BYTES[:4] not in answer.body or answer.status >= 400
    assert answer.status < 500 or answer.status == 501
    if answer.status < 400:
        assert method in ("GET", "HEAD")
        assert unquote(path).startswith("/open/pub/")


@settings(max_examples=5_000 if os.environ.get("PUTTER_SOAK") else 150)
@given(METHODS, st.sampled_from(["open", "shut"]), st.lists(PIECES, max_size=6), QUERIES, HEADERS)
def test_visitors_of_websites_get_nothing_else(
    door: S3Door, method: str, bucket: str, pieces: list[str], query: str, headers: dict[str, str]
) -> None:
    path = f"/{''.join(pieces)}".replace("?", "%3F")
    sent = headers | {"host": f"{bucket}.web.test"}
    answer = told(door.raw(head_of(method, path + query, sent)), method)
    assert SECRET_BYTES[:4] not in answer.body
    assert answer.status < 500
    if answer.status < 400:
        assert method in ("GET", "HEAD")
        assert bucket == "open"
        assert unquote(path) in ("/pub/", "/pub/x")


def test_what_is_there_is_as_it_was(door: S3Door) -> None:
    for bucket in ("open", "shut"):
        listed = door.ask("GET", f"/{bucket}").body
        assert listed.count(b"<Key>") == 3
    assert told(door.raw(head_of("GET", "/open/pub/x", {"host": "h"}))).body == OPEN_BYTES
