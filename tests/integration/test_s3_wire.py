"""The S3 door, byte by byte: framings, what breaks off, what is announced and not so, garbage."""

from __future__ import annotations

import hashlib
import random
import re
import socket
import zlib
from base64 import b64encode
from collections.abc import Iterator

import pytest

from tests.s3_kit import (
    SIGNED_CHUNKS,
    SIGNED_TRAILER,
    TRAILER,
    Signer,
    s3_cluster,
    unsigned_chunks,
)
from tests.store_kit import Cluster, eventually

pytestmark = pytest.mark.slow
BIG = random.Random(5).randbytes(2_000_000)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    flags = ("--idle-timeout-ms", "6000")
    with s3_cluster(tmp_path_factory.mktemp("s3"), router_flags=flags) as made:
        assert Signer(made.s3_ports[0]).ask("PUT", "/bytes").status == 200
        yield made


@pytest.fixture
def signer(store: Cluster) -> Signer:
    return Signer(store.s3_ports[0])


def crc32(data: bytes) -> str:
    return b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()


def is_absent(signer: Signer, path: str) -> bool:
    return signer.ask("HEAD", path).status == 404


def answer_on(client: socket.socket) -> bytes:
    """The next answer on a bare connection: its head and its body."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = client.recv(65536)
        if not more:
            return data
        data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    while length and len(rest) < int(length[1]):
        rest += client.recv(65536)
    return head + b"\r\n\r\n" + rest


def head_of(method: str, path: str, headers: dict[str, str]) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


# -- framings ------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"hello", BIG], ids=len)
def test_a_trailing_checksum_is_checked_kept_and_told(signer: Signer, data: bytes) -> None:
    headers = {
        "x-amz-decoded-content-length": str(len(data)),
        "x-amz-trailer": "x-amz-checksum-crc32",
        "content-encoding": "aws-chunked",
    }
    chunks = [data[at : at + 65_536] for at in range(0, len(data), 65_536)]
    body = unsigned_chunks(*chunks, trailer=f"x-amz-checksum-crc32:{crc32(data)}")
    told = signer.ask("PUT", "/bytes/k", body, headers, payload=TRAILER)
    assert (told.status, told.headers.get("x-amz-checksum-crc32")) == (200, crc32(data))
    got = signer.ask("GET", "/bytes/k", b"", {"x-amz-checksum-mode": "ENABLED"})
    assert (got.body, got.headers["x-amz-checksum-crc32"]) == (data, crc32(data))
    assert got.headers["etag"] == f'"{hashlib.md5(data).hexdigest()}"'
    assert "content-encoding" not in got.headers

    wrong = unsigned_chunks(*chunks, trailer=f"x-amz-checksum-crc32:{crc32(data + b'x')}")
    told = signer.ask("PUT", "/bytes/wrong", wrong, headers, payload=TRAILER)
    assert (told.status, told.code) == (400, "BadDigest")
    missing = unsigned_chunks(*chunks)
    told = signer.ask("PUT", "/bytes/wrong", missing, headers, payload=TRAILER)
    assert (told.status, told.code) == (400, "MalformedTrailerError")
    assert is_absent(signer, "/bytes/wrong")


def test_signed_chunks_with_and_without_a_trailer(signer: Signer) -> None:
    data = BIG[:200_000]
    parts = [data[at : at + 65_536] for at in range(0, len(data), 65_536)]
    headers = {"x-amz-decoded-content-length": str(len(data))}
    every, chain = signer.signed("PUT", "/bytes/s", headers, payload=SIGNED_CHUNKS)
    body = b"".join(map(chain.chunk, parts)) + chain.chunk(b"")
    assert signer.send("PUT", "/bytes/s", body, every).status == 200
    assert signer.ask("GET", "/bytes/s").body == data

    every, chain = signer.signed("PUT", "/bytes/forged", headers, payload=SIGNED_CHUNKS)
    signed = [chain.chunk(part) for part in parts]
    for forged in (
        [*signed[:2], *signed[3:], chain.chunk(b"")],
        [signed[1], signed[0], *signed[2:], chain.chunk(b"")],
        [signed[0].replace(parts[0][:9], b"forgeries"), *signed[1:], chain.chunk(b"")],
    ):
        told = signer.send("PUT", "/bytes/forged", b"".join(forged), every)
        assert told.code in {"SignatureDoesNotMatch", "IncompleteBody"}
    assert is_absent(signer, "/bytes/forged")

    headers["x-amz-trailer"] = "x-amz-checksum-crc32"
    every, chain = signer.signed("PUT", "/bytes/t", headers, payload=SIGNED_TRAILER)
    body = b"".join(map(chain.chunk, parts)) + chain.trailer("x-amz-checksum-crc32", crc32(data))
    assert signer.send("PUT", "/bytes/t", body, every).status == 200
    assert signer.ask("GET", "/bytes/t").body == data


def test_a_hashed_body_is_held_to_its_hash(signer: Signer) -> None:
    for data in (b"hello", BIG):
        digest = hashlib.sha256(data).hexdigest()
        assert signer.ask("PUT", "/bytes/h", data, payload=digest).status == 200
        wrong = hashlib.sha256(b"other").hexdigest()
        told = signer.ask("PUT", "/bytes/other", data, payload=wrong)
        assert (told.status, told.code) == (400, "XAmzContentSHA256Mismatch")
    assert is_absent(signer, "/bytes/other")


def test_chunked_transfer_with_a_known_length(signer: Signer) -> None:
    """As the newest clients send streams: aws-chunked in HTTP's own chunks."""
    framed = unsigned_chunks(b"hello", trailer=f"x-amz-checksum-crc32:{crc32(b'hello')}")
    headers = {
        "transfer-encoding": "chunked",
        "x-amz-decoded-content-length": "5",
        "x-amz-trailer": "x-amz-checksum-crc32",
    }
    body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(framed), framed)
    assert signer.ask("PUT", "/bytes/c", body, headers, payload=TRAILER).status == 200
    assert signer.ask("GET", "/bytes/c").body == b"hello"
    plain = {"transfer-encoding": "chunked"}
    told = signer.ask("PUT", "/bytes/d", b"5\r\nhello\r\n0\r\n\r\n", plain)
    assert (told.status, told.code) == (501, "NotImplemented")


# -- what is announced and not so ----------------------------------------------------------


def test_a_body_needs_a_length(signer: Signer) -> None:
    every, _ = signer.signed("PUT", "/bytes/k2")
    with signer.wire() as client:
        client.sendall(head_of("PUT", "/bytes/k2", every))
        told = answer_on(client)
    assert told.startswith(b"HTTP/1.1 411 ")
    assert b"<Code>MissingContentLength</Code>" in told


@pytest.mark.parametrize("sent", [0, 10, 1_500_000])
def test_a_body_that_breaks_off_stores_nothing(signer: Signer, sent: int) -> None:
    every, _ = signer.signed("PUT", "/bytes/short", {"content-length": str(len(BIG))})
    with signer.wire() as client:
        client.sendall(head_of("PUT", "/bytes/short", every) + BIG[:sent])
        client.shutdown(socket.SHUT_WR)
        told = answer_on(client)
    assert told.startswith(b"HTTP/1.1 400 ")
    assert b"<Code>IncompleteBody</Code>" in told
    assert is_absent(signer, "/bytes/short")


def test_a_client_that_vanishes_leaves_nothing(store: Cluster, signer: Signer) -> None:
    every, _ = signer.signed("PUT", "/bytes/gone", {"content-length": str(len(BIG))})
    with signer.wire() as client:
        client.sendall(head_of("PUT", "/bytes/gone", every) + BIG[:1_500_000])
    assert is_absent(signer, "/bytes/gone")

    def forgotten() -> None:
        _, _, body = store.http("GET", "/metrics")
        assert re.search(rb"putter_objects_failed_total\{[^}]*\} [1-9]", body)

    eventually(forgotten)


def test_a_silent_client_is_told_so(signer: Signer) -> None:
    every, _ = signer.signed("PUT", "/bytes/slow", {"content-length": "100"})
    with signer.wire() as client:
        client.sendall(head_of("PUT", "/bytes/slow", every) + b"x" * 10)
        told = answer_on(client)
    assert told.startswith(b"HTTP/1.1 400 ")
    assert b"<Code>RequestTimeout</Code>" in told


def test_too_much_is_refused_before_it_comes(signer: Signer) -> None:
    length = {"content-length": str(60 * 1024**4)}
    every, _ = signer.signed("PUT", "/bytes/huge", length)
    with signer.wire() as client:
        client.sendall(head_of("PUT", "/bytes/huge", every))
        assert b"<Code>EntityTooLarge</Code>" in answer_on(client)


# -- who waits for leave -------------------------------------------------------------------


def test_leave_to_send_is_given_to_those_who_may(signer: Signer) -> None:
    waits = {"content-length": "5", "expect": "100-continue"}
    every, _ = signer.signed("PUT", "/bytes/e", waits)
    with signer.wire() as client:
        client.sendall(head_of("PUT", "/bytes/e", every))
        assert answer_on(client) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"hello")
        assert answer_on(client).startswith(b"HTTP/1.1 200 ")
    for path, headers in (
        ("/bytes/e", {"host": "h"} | waits),
        ("/no-such-bucket/e", signer.signed("PUT", "/no-such-bucket/e", waits)[0]),
    ):
        with signer.wire() as client:
            client.sendall(head_of("PUT", path, headers))
            told = answer_on(client)
            assert re.match(rb"HTTP/1.1 40[34] ", told), "at once, without the body"
            assert b"Connection: close" in told


# -- connections ---------------------------------------------------------------------------


def test_a_connection_goes_on_after_answers_and_errors(signer: Signer) -> None:
    with signer.wire() as client:
        for path, status in (("/bytes/none", b"404"), ("/bytes?list-type=2", b"200")) * 2:
            every, _ = signer.signed("GET", path)
            client.sendall(head_of("GET", path, every))
            assert answer_on(client).startswith(b"HTTP/1.1 " + status)
        every, _ = signer.signed("PUT", "/bytes/k3", {"content-length": "3"})
        client.sendall(head_of("PUT", "/bytes/k3", every) + b"abc")
        assert answer_on(client).startswith(b"HTTP/1.1 200 ")


def test_each_answer_has_an_id(signer: Signer) -> None:
    ids = set()
    for path in ("/", "/bytes/none", "/bytes"):
        told = signer.ask("GET", path)
        ids.add(told.headers["x-amz-request-id"])
        assert told.headers["x-amz-id-2"]
        if told.status >= 400:
            assert told.field("RequestId") == told.headers["x-amz-request-id"]
            assert told.field("Resource") == path
    assert len(ids) == 3


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x00\xff",
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\0" * 100 + b"\r\n",
    ],
)
def test_what_is_no_request_gets_an_error_document(signer: Signer, sent: bytes) -> None:
    with signer.wire() as client:
        client.sendall(sent)
        told = answer_on(client)
    assert re.match(rb"HTTP/1\.[01] 400 ", told)
    assert b"<Error><Code>BadRequest</Code>" in told
    assert b"x-amz-request-id: " in told


def test_garbage_is_answered_and_the_door_stays_open(signer: Signer) -> None:
    chance = random.Random(11)
    for number in range(60):
        body = chance.randbytes(chance.randrange(400))
        path = chance.choice(["/bytes?delete", "/new-bucket", "/bytes/g"])
        method = "POST" if path.endswith("delete") else "PUT"
        framing = chance.choice([TRAILER, SIGNED_CHUNKS, SIGNED_TRAILER, "UNSIGNED-PAYLOAD", "0"])
        headers = {"x-amz-decoded-content-length": str(chance.randrange(500))}
        if chance.random() < 0.5:
            headers["x-amz-trailer"] = chance.choice(["x-amz-checksum-crc32", "x", ""])
        told = signer.ask(method, path, body, headers, payload=framing)
        assert 200 <= told.status < 500, (number, told)
        if told.status >= 400:
            assert told.code != "InternalError"
    assert signer.ask("GET", "/").status == 200


BOMB = b"""<!DOCTYPE d [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>
<Delete><Object><Key>&b;</Key></Object></Delete>"""


@pytest.mark.parametrize("body", [BOMB, b"<Delete/>", b"<Delete>", b"", b"<a>" * 10_000])
def test_documents_that_are_none(signer: Signer, body: bytes) -> None:
    told = signer.ask("POST", "/bytes?delete", body)
    assert (told.status, told.code) == (400, "MalformedXML")


def test_a_document_has_bounds(signer: Signer) -> None:
    told = signer.ask("POST", "/bytes?delete", b"x" * 3_000_000)
    assert (told.status, told.code) == (400, "MaxMessageLengthExceeded")


def test_unicode_metadata_is_told_as_mail_does(signer: Signer) -> None:
    every, _ = signer.signed("PUT", "/bytes/m", {"x-amz-meta-who": "J\u00f6rg"})
    lines = head_of("PUT", "/bytes/m", every | {"content-length": "0"})
    with signer.wire() as client:
        client.sendall(lines)
        told = answer_on(client)
    assert told.startswith(b"HTTP/1.1 200 "), told
    encoded = b64encode("J\u00f6rg".encode()).decode()
    assert signer.ask("HEAD", "/bytes/m").headers["x-amz-meta-who"] == f"=?UTF-8?B?{encoded}?="
