"""PutObject without aiohttp: what is asked, and what goes wrong, is told as the long way does."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from common.errors import NodesUnavailable, PutterError
from common.plain import Ask
from common.web_lane import Outlet
from router.gateway.s3.put_lane import PutLane
from tests.s3_door_kit import S3Door, open_door, told
from tests.s3_kit import SIGNED_CHUNKS, TRAILER, UNSIGNED, Told, unsigned_chunks

LONG_WAY = {"x-else": "1"}
"""A header that no plain request has."""
BODY = b"0123456789"
CRC32 = base64.b64encode(zlib.crc32(BODY).to_bytes(4, "big")).decode()
MD5 = base64.b64encode(hashlib.md5(BODY).digest()).decode()
SHA256 = hashlib.sha256(BODY).hexdigest()
SHORT = unsigned_chunks(BODY[:3], trailer=f"x-amz-checksum-crc32:{CRC32}")
BODIES = [BODY, b"", BODY[1:], bytes(16_384), SHORT, unsigned_chunks(BODY)]
PATHS = ["/photos/a", "/photos/a/b-c_d~e.f", "/photos/a//b", "/none/a", "/photos/", "/Bad/a"]
PATHS += ["/photos/" + "k" * 1_024, "/photos/" + "k" * 1_025, "/photos/a%20b", "/photos/a?acl"]
VALUES = {
    "cache-control": ["no-store"],
    "connection": ["keep-alive", "Keep-Alive"],
    "content-encoding": ["gzip", "aws-chunked", "gzip,aws-chunked"],
    "content-md5": [MD5, "x", ""],
    "content-type": ["text/x", "a b"],
    "expect": ["100-continue"],
    "if-none-match": ["*"],
    "x-amz-acl": ["private", "public-read"],
    "x-amz-checksum-crc32": [CRC32, "AAAAAA==", "x"],
    "x-amz-checksum-sha256": ["x"],
    "x-amz-decoded-content-length": ["10", "9", "x"],
    "x-amz-expected-bucket-owner": ["x"],
    "x-amz-meta-": ["x"],
    "x-amz-meta-a": ["b", "b" * 1_400],
    "x-amz-meta-b": ["b" * 1_400],
    "x-amz-sdk-checksum-algorithm": ["CRC32", "crc32", "SHA1"],
    "x-amz-security-token": ["x"],
    "x-amz-storage-class": ["STANDARD", "GLACIER"],
    "x-amz-tagging": ["a=b"],
    "x-amz-trailer": ["x-amz-checksum-crc32", "x-amz-checksum-sha1", "x"],
    "x-amz-unknown": ["x"],
}
HEADERS = st.dictionaries(st.sampled_from(sorted(VALUES)), st.integers(0, 2), max_size=4).map(
    lambda drawn: {name: VALUES[name][n % len(VALUES[name])] for name, n in drawn.items()}
)


@pytest.fixture(scope="module")
def door() -> Iterator[S3Door]:
    with open_door() as made:
        assert made.ask("PUT", "/photos").status == 200
        for path in PATHS:  # so that a condition on what is there holds for both ways, or for none
            made.ask("PUT", path, BODY)
        yield made


def both(
    door: S3Door, path: str, body: bytes, headers: Mapping[str, str], payload: str
) -> tuple[Told, Told]:
    """The answers of both ways to one PUT."""
    found = []
    for more in ({}, LONG_WAY):
        raw = door.raw(door.request("PUT", path, body, dict(headers) | more, payload=payload))
        found.append(told(raw.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")))
    return found[0], found[1]


def seen_by_the_lane(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What the short way answers from now on; 0: nothing."""
    answered = []

    async def put(lane: PutLane, ask: Ask, out: Outlet) -> int:
        answered.append(await lane_put(lane, ask, out))
        return answered[-1]

    lane_put = PutLane.put
    monkeypatch.setattr(PutLane, "put", put)
    return answered


def same(short: Told, long: Told) -> None:
    assert _compared(short) == _compared(long)
    assert short.headers.keys() == long.headers.keys()


def _compared(answer: Told) -> tuple[int, dict[str, str], bytes]:
    """What two answers share: not the request's id, which may be longer in one of them."""
    request_id = answer.headers["x-amz-request-id"]
    size = len(answer.body) - len(request_id) * bool(answer.body)
    told_alone = {"date", "x-amz-request-id", "content-length"}
    headers = {name: value for name, value in answer.headers.items() if name not in told_alone}
    assert int(answer.headers["content-length"]) == len(answer.body)
    headers["content-length"] = str(size)
    return answer.status, headers, answer.body.replace(request_id.encode(), b"")


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    path=st.sampled_from(PATHS),
    body=st.sampled_from(BODIES),
    headers=HEADERS,
    payload=st.sampled_from([UNSIGNED, SHA256, TRAILER, SIGNED_CHUNKS, "0" * 64, "x"]),
)
def test_both_ways_say_the_same(
    door: S3Door, path: str, body: bytes, headers: dict[str, str], payload: str
) -> None:
    same(*both(door, path, body, headers, payload))


FRAMED = unsigned_chunks(BODY, trailer=f"x-amz-checksum-crc32:{CRC32}")
IN_CHUNKS = {"x-amz-decoded-content-length": "10", "content-encoding": "aws-chunked"}
TRAILING = IN_CHUNKS | {"x-amz-trailer": "x-amz-checksum-crc32"}


@pytest.mark.parametrize(
    ("path", "body", "headers", "payload", "status", "code"),
    [
        ("/photos/p", BODY, {}, UNSIGNED, 200, ""),
        ("/photos/p", BODY, {}, SHA256, 200, ""),
        ("/photos/p", b"", {}, UNSIGNED, 200, ""),
        ("/photos/dir/p/", b"", {}, UNSIGNED, 200, ""),
        ("/photos/p", bytes(16_000), {}, UNSIGNED, 200, ""),
        ("/photos/p", bytes(20_000), {}, UNSIGNED, 200, ""),
        ("/photos/p", BODY, {"content-md5": MD5}, SHA256, 200, ""),
        ("/photos/p", BODY, {"x-amz-checksum-crc32": CRC32}, SHA256, 200, ""),
        ("/photos/p", FRAMED, TRAILING, TRAILER, 200, ""),
        ("/photos/p", BODY, {}, "0" * 64, 400, "XAmzContentSHA256Mismatch"),
        ("/photos/p", BODY, {"content-md5": "x"}, SHA256, 400, "InvalidDigest"),
        ("/photos/p", BODY[1:], {"content-md5": MD5}, UNSIGNED, 400, "BadDigest"),
        ("/photos/p", BODY, {"x-amz-checksum-crc32": "AAAAAA=="}, SHA256, 400, "BadDigest"),
        ("/photos/p", FRAMED[:-9], TRAILING, TRAILER, 400, "IncompleteBody"),
        ("/photos/p", b"zz\r\n" + FRAMED, TRAILING, TRAILER, 400, "InvalidRequest"),
        ("/photos/p", BODY, TRAILING, SHA256, 400, "InvalidRequest"),
        ("/photos/p", BODY, IN_CHUNKS, SIGNED_CHUNKS, 400, "IncompleteBody"),
        ("/photos/p", BODY, {"x-amz-meta-a": "b" * 1_990}, SHA256, 200, ""),
        ("/photos/p", BODY, {"x-amz-meta-a": "b" * 2_050}, SHA256, 400, "MetadataTooLarge"),
        ("/photos/" + "k" * 1_100, BODY, {}, SHA256, 400, "KeyTooLongError"),
        ("/photos/p?acl", BODY, {}, SHA256, 400, "MalformedXML"),
        ("/no-such-bucket/p", BODY, {}, SHA256, 404, "NoSuchBucket"),
        ("/photos/p", BODY, {"x-amz-tagging": "a=b"}, SHA256, 200, ""),
        ("/photos/p", BODY, {"x-amz-storage-class": "X"}, SHA256, 400, "InvalidStorageClass"),
    ],
)
def test_each_is_told_what_s3_says(
    door: S3Door,
    path: str,
    body: bytes,
    headers: dict[str, str],
    payload: str,
    status: int,
    code: str,
) -> None:
    short, long = both(door, path, body, headers, payload)
    assert (short.status, short.code) == (status, code)
    same(short, long)


@pytest.mark.parametrize(
    ("headers", "body", "payload"),
    [
        ({}, BODY, UNSIGNED),
        ({}, BODY, SHA256),
        ({"content-md5": MD5, "x-amz-meta-a": "b"}, BODY, SHA256),
        ({"x-amz-checksum-crc32": CRC32, "x-amz-sdk-checksum-algorithm": "CRC32"}, BODY, SHA256),
        (
            {
                "content-encoding": "aws-chunked",
                "x-amz-decoded-content-length": "3",
                "x-amz-trailer": "x-amz-checksum-crc32",
            },
            unsigned_chunks(
                BODY[:3],
                trailer="x-amz-checksum-crc32:"
                + base64.b64encode(zlib.crc32(BODY[:3]).to_bytes(4, "big")).decode(),
            ),
            TRAILER,
        ),
    ],
)
def test_what_is_plain_is_written_without_aiohttp(
    door: S3Door,
    monkeypatch: pytest.MonkeyPatch,
    headers: dict[str, str],
    body: bytes,
    payload: str,
) -> None:
    answered = seen_by_the_lane(monkeypatch)
    short, long = both(door, "/photos/plain", body, headers, payload)
    assert answered == [200]
    same(short, long)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NodesUnavailable("of the test"), 503),
        (PutterError("of the test"), 500),
        (ZeroDivisionError("of the test"), 500),
    ],
)
def test_a_write_that_fails_is_told_and_not_tried_again(
    door: S3Door, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int
) -> None:
    tries = []

    async def fail(*args: Any) -> NoReturn:
        tries.append(args)
        raise error

    monkeypatch.setattr(door.store.router.writes, "write", fail)
    found = []
    for more in ({}, LONG_WAY):
        request = door.request("PUT", "/photos/failed", BODY, more)
        with capture_logs() as logged:
            found.append(told(door.loop.run_until_complete(door._raw([request]))))
        failures = [each for each in logged if "exc_info" in each or "exception" in each]
        assert bool(failures) == isinstance(error, ZeroDivisionError)
    same(*found)
    assert (found[0].status, len(tries)) == (status, 2)
    assert (found[0].headers.get("retry-after") == "1") == (status == 503)


@pytest.mark.parametrize(
    ("setting", "plain"), [("cors", True), ("website", True), ("encryption", False), ("new", False)]
)
def test_a_setting_that_may_change_a_write_is_left_to_the_long_way(
    door: S3Door, monkeypatch: pytest.MonkeyPatch, setting: str, plain: bool
) -> None:
    answered = seen_by_the_lane(monkeypatch)
    name = f"set-{setting}"
    assert door.ask("PUT", f"/{name}").status == 200
    assert door.ask("PUT", f"/{name}/a", BODY).status == 200
    change = door.store.router.configure.change(name, {setting: []})
    door.run(change)
    door.run(asyncio.sleep(3))  # of virtual time: what was read before counts for so long
    door.ask("PUT", f"/{name}/a", BODY)
    assert answered == [200, 200 if plain else 0]


def test_a_quota_holds_on_both_ways(door: S3Door, monkeypatch: pytest.MonkeyPatch) -> None:
    answered = seen_by_the_lane(monkeypatch)
    assert door.ask("PUT", "/limited").status == 200
    door.run(door.store.router.configure.change("limited", {"quota_bytes": 15}))
    assert door.ask("PUT", "/limited/a", BODY).status == 200
    short, long = both(door, "/limited/b", BODY, {}, UNSIGNED)
    assert answered == [200, 403]
    assert (short.status, short.code) == (403, "QuotaExceeded")
    assert short.field("Message") == ("bucket 'limited' may not hold more: 10 of 15 bytes are used")
    same(short, long)
