"""Bodies at the S3 door: documents that are attacks, framings that lie, and what stays of them."""

from __future__ import annotations

import os
import zlib
from base64 import b64encode
from collections.abc import Iterator
from hashlib import md5, sha256
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.s3_door_kit import S3Door, answers, head_of, open_door, refused, told
from tests.s3_kit import SIGNED_CHUNKS, SIGNED_TRAILER, TRAILER, Chain, Told, unsigned_chunks

SOAK: Final = 50 if os.environ.get("PUTTER_SOAK") else 1
LONG: Final = 8192


@pytest.fixture(scope="module")
def door() -> Iterator[S3Door]:
    with open_door() as made:
        assert made.ask("PUT", "/bytes").status == 200
        assert made.ask("PUT", "/bytes/canary", b"sings").status == 200
        yield made


def sings(door: S3Door) -> bool:
    return door.ask("GET", "/bytes/canary").body == b"sings"


# -- documents -----------------------------------------------------------------------------

ROOTS: Final = {
    "PUT /new-bucket": "CreateBucketConfiguration",
    "POST /bytes?delete=": "Delete",
    f"POST /bytes/upload?uploadId={'0' * 32}": "CompleteMultipartUpload",
    "PUT /bytes?acl=": "AccessControlPolicy",
    "PUT /bytes?cors=": "CORSConfiguration",
    "PUT /bytes?lifecycle=": "LifecycleConfiguration",
    "PUT /bytes?ownershipControls=": "OwnershipControls",
    "PUT /bytes?policy=": "Policy",
    "PUT /bytes?publicAccessBlock=": "PublicAccessBlockConfiguration",
    "PUT /bytes?tagging=": "Tagging",
    "PUT /bytes?versioning=": "VersioningConfiguration",
    "PUT /bytes/canary?acl=": "AccessControlPolicy",
    "PUT /bytes/canary?tagging=": "Tagging",
}
"""What reads a document; of what is not there yet the answer is that it is not."""
BOMB: Final = (
    '<!DOCTYPE r [<!ENTITY a0 "ha">'
    + "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12))
    + "]><ROOT><Object><Key>&a11;</Key></Object></ROOT>"
)
ATTACKS: Final = {
    "a bomb": BOMB.encode(),
    "a file": b'<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]><ROOT>&x;</ROOT>',
    "a parameter": b'<!DOCTYPE r [<!ENTITY % x SYSTEM "http://127.0.0.1:1/x"> %x;]><ROOT/>',
    "a DTD": b'<!DOCTYPE ROOT SYSTEM "http://127.0.0.1:1/dtd"><ROOT/>',
    "long entity": b'<!DOCTYPE r [<!ENTITY a "' + b"x" * 9_000 + b'">]><ROOT>' + b"&a;" * 9_000,
    "too deep": b"<ROOT>" + b"<a>" * 5_000 + b"</a>" * 5_000 + b"</ROOT>",
    "never closed": b"<ROOT>" + b"<a>" * 5_000,
    "no UTF-8": b"<ROOT>\xff\xfe</ROOT>",
    "other coding": b'<?xml version="1.0" encoding="shift_jis"?><ROOT/>',
    "no coding": b'<?xml version="1.0" encoding="rot13"?><ROOT/>',
    "half of UTF-16": "<ROOT/>".encode("utf-16")[:-1],
    "NUL": b"<ROOT>\0</ROOT>",
    "two roots": b"<ROOT/><ROOT/>",
    "twice an attribute": b'<ROOT a="" a=""/>',
    "another root": b"<Other/>",
    "text": b"ROOT",
}


def send(door: S3Door, line: str, body: bytes) -> Told:
    """A document, with the checksum that some of the operations want."""
    method, path = line.split()
    return door.ask(method, path, body, {"content-md5": b64encode(md5(body).digest()).decode()})


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_document_that_is_an_attack(door: S3Door, attack: str) -> None:
    for line, root in ROOTS.items():
        answer = send(door, line, ATTACKS[attack].replace(b"ROOT", root.encode()))
        assert refused(answer), (line, answer)
        assert answer.status in {400, 403, 501}, (line, answer)
        assert b"root:" not in answer.body
    assert door.ask("HEAD", "/new-bucket").status == 404
    assert sings(door)


NAMES: Final = st.sampled_from(
    [
        "Object",
        "Key",
        "VersionId",
        "Quiet",
        "Part",
        "PartNumber",
        "ETag",
        "ChecksumCRC32",
        "LocationConstraint",
        "Tag",
        "TagSet",
        "Value",
        "Status",
        "CORSRule",
        "AllowedOrigin",
        "Owner",
        "Grant",
        "x:Other",
    ]
)
TEXTS: Final = st.sampled_from(
    [
        "",
        "1",
        "0",
        "-1",
        "10001",
        "true",
        '"' + "0" * 32 + '"',
        "0" * 32 + "-1",
        "null",
        "us-east-1",
    ]
) | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="<&\0"), max_size=8)
TREES: Final = st.recursive(
    st.builds("<{0}>{1}</{0}>".format, NAMES, TEXTS),
    lambda inner: st.builds(
        "<{0}>{1}</{0}>".format, NAMES, st.lists(inner, max_size=4).map("".join)
    ),
    max_leaves=8,
)


@settings(max_examples=150 * SOAK, deadline=None)
@given(
    st.sampled_from(sorted(ROOTS)),
    st.lists(TREES, max_size=4).map("".join),
    st.sampled_from(["", ' xmlns="urn:other"', ' xmlns="" xmlns:x="urn:x"', ' a="&quot;"']),
    st.sampled_from(["utf-8", "utf-16", "latin-1"]),
)
def test_any_document_is_obeyed_or_refused(
    door: S3Door, line: str, inside: str, attribute: str, coding: str
) -> None:
    body = f"<{ROOTS[line]}{attribute}>{inside}</{ROOTS[line]}>".encode(coding, "replace")
    if not refused(send(door, line, body)) and line == "PUT /new-bucket":
        assert door.ask("DELETE", "/new-bucket").status == 204
    assert sings(door)


@settings(max_examples=60 * SOAK, deadline=None)
@given(st.binary(max_size=40), st.integers(0, 300), st.integers(0, 3))
def test_a_document_that_was_changed_deletes_nothing_else(
    door: S3Door, other: bytes, at: int, gone: int
) -> None:
    body = b"<Delete><Object><Key>nobody</Key></Object><Quiet>false</Quiet></Delete>"
    at %= len(body)
    answer = door.ask("POST", "/bytes?delete=", body[:at] + other + body[at + gone :])
    assert refused(answer) or answer.status == 200
    assert sings(door)


# -- framings ------------------------------------------------------------------------------


def crc32(data: bytes) -> str:
    return b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()


def framed(payload: str, chain: Chain, data: bytes) -> bytes:
    """A body as a client frames it."""
    parts = [data[at : at + LONG] for at in range(0, len(data), LONG)]
    line = f"x-amz-checksum-crc32:{crc32(data)}"
    if payload == TRAILER:
        return unsigned_chunks(*parts, trailer=line)
    chunks = b"".join(map(chain.chunk, parts))
    if payload == SIGNED_CHUNKS:
        return chunks + chain.chunk(b"")
    return chunks + chain.trailer(*line.split(":"))


SPOILERS: Final = st.sampled_from(
    [
        b"\r\n",
        b"\n",
        b"0\r\n",
        b"0\r\n\r\n",
        b"5\r\nhello\r\n",
        b"FFFFFFFFFFFFFFFF\r\n",
        b"-1\r\n",
        b"0x5\r\n",
        b";name=value",
        b";" + b"x" * 9_000,
        b"x-amz-checksum-crc32:AAAAAA==\r\n",
        b"x-amz-checksum-sha1:AAAA\r\n",
        b"x-amz-trailer-signature:" + b"0" * 64 + b"\r\n",
        b"chunk-signature=" + b"0" * 64,
        b"other:1\r\n",
        b"\0",
    ]
) | st.binary(min_size=1, max_size=6)


@settings(max_examples=150 * SOAK, deadline=None)
@given(
    st.sampled_from([TRAILER, SIGNED_CHUNKS, SIGNED_TRAILER]),
    st.sampled_from([0, 5, 20_000]),
    st.lists(
        st.tuples(st.integers(-400, 40_000), st.integers(0, 70), SPOILERS | st.just(b"")),
        max_size=2,
    ),
    st.sampled_from(["", "http", "early"]),
    st.integers(-1, 1),
)
def test_a_framing_holds_or_nothing_is_stored(
    door: S3Door,
    payload: str,
    size: int,
    spoilt: list[tuple[int, int, bytes]],
    transfer: str,
    off: int,
) -> None:
    """Whatever is changed in a body: its object is the one that was framed, or there is none."""
    data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    headers = {"x-amz-decoded-content-length": str(size + (off if spoilt else 0))}
    if payload != SIGNED_CHUNKS:
        headers["x-amz-trailer"] = "x-amz-checksum-crc32"
    if transfer == "http":
        headers["transfer-encoding"] = "chunked"
    every, chain = door.signer.signed("PUT", "/bytes/framed", headers, payload=payload)
    body = framed(payload, chain, data)
    for at, gone, put in spoilt:
        at %= len(body) or 1
        body = body[:at] + put + body[at + gone :]
    head = head_of("PUT", "/bytes/framed", every, body)
    if transfer == "http":
        body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
    if transfer == "early":
        body = body[:-1]
    heard = answers(door.raw(head, body))
    assert heard
    stored = [each for each in heard if not refused(each)]
    held = door.ask("GET", "/bytes/framed")
    if not spoilt and transfer != "early":
        assert stored
    if stored:
        assert (held.status, held.body) == (200, data)
        assert stored[0].headers["etag"] == f'"{md5(data).hexdigest()}"'
        assert door.ask("DELETE", "/bytes/framed").status == 204
    else:
        assert held.status == 404
    assert not [each for each in heard[1:] if not refused(each)]


@pytest.mark.parametrize("payload", [TRAILER, SIGNED_CHUNKS, SIGNED_TRAILER, "UNSIGNED-PAYLOAD"])
@pytest.mark.parametrize("claimed", [0, 4, 6, 10**15, 10**30, -5])
def test_a_length_that_lies_stores_nothing(door: S3Door, payload: str, claimed: int) -> None:
    """Neither that of the body, nor that of what is framed in it."""
    chunked = payload != "UNSIGNED-PAYLOAD"
    name = "x-amz-decoded-content-length" if chunked else "content-length"
    headers = {name: str(claimed)}
    if payload in {TRAILER, SIGNED_TRAILER}:
        headers["x-amz-trailer"] = "x-amz-checksum-crc32"
    every, chain = door.signer.signed("PUT", "/bytes/lies", headers, payload=payload)
    body = framed(payload, chain, b"hello") if chunked else b"hello"
    heard = answers(door.raw(head_of("PUT", "/bytes/lies", every, body), body))
    assert heard
    if chunked or claimed > 5 or claimed < 0:
        assert all(map(refused, heard))
        assert door.ask("GET", "/bytes/lies").status == 404
    else:
        assert not refused(heard[0])
        assert door.ask("GET", "/bytes/lies").body == b"hello"[:claimed]
        assert all(map(refused, heard[1:]))
    assert told(door.raw(door.request("DELETE", "/bytes/lies"))).status == 204


BODILESS: Final = [
    "GET /bytes/canary",
    "HEAD /bytes/canary",
    "GET /bytes?list-type=2",
    "GET /",
    "POST /bytes/begun?uploads=",
    "DELETE /bytes/nobody",
    "DELETE /bytes?tagging=",
    "PUT /bytes/copied",
]


@pytest.mark.parametrize("line", BODILESS)
def test_a_body_that_means_nothing_is_what_was_signed(door: S3Door, line: str) -> None:
    method, path = line.split()
    headers = {"x-amz-copy-source": "/bytes/canary"} if path.endswith("copied") else {}
    for body, sent, refusal in (
        (b"", b"", ""),
        (b"this", b"this", ""),
        (b"this", b"that", "XAmzContentSHA256Mismatch"),
        (b"", b"that", "XAmzContentSHA256Mismatch"),
        (b"x" * 100_000, b"x" * 100_000, "MaxMessageLengthExceeded"),
    ):
        whole = headers | {"content-length": str(len(sent))}
        answer = door.ask(method, path, sent, whole, payload=sha256(body).hexdigest())
        assert refused(answer) == bool(refusal), answer
        if refusal and method != "HEAD":
            assert answer.code == refusal
    door.ask("DELETE", "/bytes/copied")
    assert sings(door)
