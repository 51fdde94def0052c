"""Heads of requests at the S3 door, byte by byte: garbage, smuggling, signatures of others.

Whatever comes, each answer is a refusal as S3 tells it, or the request was what its owner signed,
and then its effect is that one and no other.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from typing import Final
from urllib.parse import quote

import pytest
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.s3_door_kit import S3Door, answers, head_of, open_door, refused
from tests.s3_kit import KEY_ID, SECRET, UNSIGNED

SOAK: Final = 50 if os.environ.get("PUTTER_SOAK") else 1
PATH: Final = "/bytes/some/key"
BODY: Final = b"what was signed"


@pytest.fixture(scope="module")
def door() -> Iterator[S3Door]:
    with open_door() as made:
        assert made.ask("PUT", "/bytes").status == 200
        yield made


def content(door: S3Door) -> dict[str, bytes]:
    """All keys, and their bytes."""

    async def every() -> dict[str, bytes]:
        page = await door.store.meta.files.list("bytes", "", "", 1000)
        return {each.key: await door.store.read(each.key, bucket="bytes") for each in page.entries}

    return door.run(every())


def clear(door: S3Door) -> None:
    for key in content(door):
        assert door.ask("DELETE", f"/bytes/{quote(key, safe='/-._~')}").status == 204


LINES: Final = st.sampled_from(
    [
        b"GET / HTTP/1.1\r\n",
        b"PUT /bytes/x HTTP/1.1\r\n",
        b"GET /bytes/%zz%00%ff HTTP/1.1\r\n",
        b"GET http://other.example/bytes HTTP/1.1\r\n",
        b"OPTIONS * HTTP/1.1\r\n",
        b"CONNECT other.example:80 HTTP/1.1\r\n",
        b"PRI * HTTP/2.0\r\n",
        b"GET /../../etc/passwd HTTP/1.0\r\n",
        b"GET " + b"/a" * 9_000 + b" HTTP/1.1\r\n",
        b"GET /bytes?" + b"a&" * 3_000 + b" HTTP/1.1\r\n",
        b"Host: x\r\n",
        b"Host: bytes.s3.test\r\n",
        b"Content-Length: 5\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: 0x5\r\n",
        b"Content-Length: 99999999999999999999\r\n",
        b"Content-Length : 5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Transfer-Encoding: \x0bchunked\r\n",
        b"Transfer-Encoding: gzip\r\n",
        b"Content-Encoding: gzip\r\n",
        b"Connection: upgrade\r\nUpgrade: websocket\r\n",
        b"Expect: 100-continue\r\n",
        b"Expect: nonsense\r\n",
        b"Authorization: AWS4-HMAC-SHA256 Credential=" + KEY_ID.encode() + b"/x\r\n",
        b"X: \0\r\n",
        b"X: a\r\n folded\r\n",
        b"X: \xff\xfe\r\n",
        b": empty\r\n",
        b"X" * 9_000 + b": long\r\n",
        b"".join(b"h%d: v\r\n" % n for n in range(500)),
        b"5\r\nhello\r\n0\r\n\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b"\0",
    ]
)


@settings(max_examples=100 * SOAK, deadline=None)
@given(st.lists(LINES | st.binary(max_size=40), max_size=12), st.booleans())
def test_nobody_comes_in_with_garbage(door: S3Door, parts: list[bytes], cut: bool) -> None:
    heard = door.raw(*parts) if cut else door.raw(b"".join(parts))
    for answer in answers(heard):
        assert answer.status in range(100, 200) or refused(answer), answer
    assert content(door) == {}


EXTRA: Final = st.sampled_from(
    [
        b"Transfer-Encoding: chunked",
        b"transfer-encoding: identity",
        b"Transfer-Encoding:\x0bchunked",
        b"Transfer-Encoding : chunked",
        b"Content-Length: 0",
        b"Content-Length: 3",
        b"Content-Length: +15",
        b"Content-Length: 15, 15",
        b"Content-Length: 1_5",
        b"Content-Length:\t15",
        b"X: y\r\n folded: 1",
        b"X: y\rContent-Length: 3",
        b"X: y\nContent-Length: 3",
        b"Host: other",
        b"x-amz-acl: public-read",
        b"x-amz-copy-source: /bytes/other",
        b"x-amz-decoded-content-length: 3",
        b"Content-Encoding: gzip",
        b"Range: bytes=0-1",
        b"Expect: 100-continue",
        b"Upgrade: h2c\r\nConnection: Upgrade",
        b"If-None-Match: *",
        b"X-HTTP-Method-Override: DELETE",
    ]
)
BEHIND: Final = st.sampled_from(
    [b"", b"0\r\n\r\n", b"DELETE /bytes/some/key HTTP/1.1\r\nhost: x\r\n\r\n", b"\r\n" * 40, b"\0"]
)


@settings(max_examples=80 * SOAK, deadline=None)
@given(st.sampled_from([UNSIGNED, "hash"]), EXTRA, st.integers(0, 8), BEHIND)
def test_what_is_slipped_in_beside_a_signature(
    door: S3Door, payload: str, extra: bytes, at: int, behind: bytes
) -> None:
    """A line more in the head, or bytes behind the body: refused, or it changes nothing."""
    clear(door)
    hashed = hashlib.sha256(BODY).hexdigest() if payload == "hash" else payload
    head = door.request("PUT", PATH, headers={"content-length": str(len(BODY))}, payload=hashed)
    lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    lines.insert(1 + at % len(lines), extra)
    heard = answers(door.raw(b"\r\n".join([*lines, b"", BODY]) + behind))
    taken = [each for each in heard if each.status >= 200 and not refused(each)]
    assert len(taken) <= 1
    held = content(door)
    assert held == ({"some/key": BODY} if taken else {})
    clear(door)


def mutated(data: bytes, steps: list[tuple[str, int, int]]) -> bytes:
    """Bytes with some of them changed, taken away, doubled, or more between them."""
    made = bytearray(data)
    for kind, where, byte in steps:
        at = where % (len(made) or 1)
        if kind == "change":
            made[at : at + 1] = bytes([byte])
        elif kind == "insert":
            made.insert(at, byte)
        elif kind == "delete":
            del made[at : at + 1 + byte % 5]
        elif kind == "double":
            made[at:at] = made[at : at + byte]
        elif kind == "case":
            made[at : at + 1] = made[at : at + 1].swapcase()
        else:
            rows = bytes(made).split(b"\r\n")
            row = rows[where % len(rows)]
            rows.insert(byte % len(rows), row) if byte % 2 else rows.remove(row)
            made = bytearray(b"\r\n".join(rows))
    return bytes(made)


STEPS: Final = st.lists(
    st.tuples(
        st.sampled_from(["change", "insert", "delete", "double", "case", "lines"]),
        st.integers(0, 2_000),
        st.integers(0, 255) | st.sampled_from(b"\r\n\t :;,%&=+/\0"),
    ),
    min_size=1,
    max_size=3,
)


@settings(max_examples=150 * SOAK, deadline=None)
@given(STEPS, st.booleans())
@example([("insert", 4, ord("/"))], True)
def test_a_changed_request_is_refused_or_means_the_same(
    door: S3Door, steps: list[tuple[str, int, int]], waits: bool
) -> None:
    digest = hashlib.sha256(BODY).hexdigest()
    headers = {"x-amz-meta-who": "ann"} | ({"expect": "100-continue"} if waits else {})
    whole = door.request("PUT", f"{PATH}?x-id=PutObject", BODY, headers, payload=digest)
    heard = answers(door.raw(mutated(whole, steps)))
    taken = [each for each in heard if each.status >= 200 and not refused(each)]
    assert len(taken) <= 1
    assert content(door) == ({"some/key": BODY} if taken else {})
    if taken:
        told = door.ask("HEAD", PATH)
        assert told.headers["x-amz-meta-who"] == "ann"
        clear(door)


def presigned() -> str:
    made = AWSRequest("GET", f"http://127.0.0.1:5003{PATH}?response-content-type=text%2Fx")
    S3SigV4QueryAuth(Credentials(KEY_ID, SECRET), "s3", "us-east-1", 604_800).add_auth(made)
    return made.prepare().url.removeprefix("http://127.0.0.1:5003")


@settings(max_examples=80 * SOAK, deadline=None)
@given(STEPS)
def test_a_changed_url_is_refused_or_means_the_same(
    door: S3Door, steps: list[tuple[str, int, int]]
) -> None:
    assert door.ask("PUT", PATH, BODY).status == 200
    line = b"GET " + mutated(presigned().encode(), steps) + b" HTTP/1.1\r\n"
    for answer in answers(door.raw(line + b"host: 127.0.0.1:5003\r\n\r\n")):
        if not refused(answer):
            assert answer.body == BODY
            assert answer.headers["content-type"] == "text/x"
    clear(door)


def test_the_request_that_is_changed_is_good_as_it_is(door: S3Door) -> None:
    """Else the refusals above would mean nothing."""
    digest = hashlib.sha256(BODY).hexdigest()
    every, _ = door.signer.signed("PUT", PATH, {"expect": "100-continue"}, payload=digest)
    heard = answers(door.raw(head_of("PUT", PATH, every, BODY) + BODY))
    assert [each.status for each in heard] == [100, 200]
    assert content(door) == {"some/key": BODY}
    line = f"GET {presigned()} HTTP/1.1\r\nhost: 127.0.0.1:5003\r\n\r\n"
    [answer] = answers(door.raw(line.encode()))
    assert (answer.status, answer.body) == (200, BODY)
    clear(door)
