"""The short ways of GetObject and PutObject answer as the long ones do, in every case."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import zlib
from collections.abc import Iterator, Mapping

import pytest

from common.plain import plain, plain_begin
from router.gateway.s3.lane import NAMES
from router.gateway.s3.put_lane import PUTS
from tests.s3_kit import SIGNED_CHUNKS, TRAILER, Signer, Told, s3, s3_cluster
from tests.store_kit import Cluster
from tests.traffic_kit import payload

pytestmark = pytest.mark.slow
LONG_WAY = {"x-else": "1"}
"""A header that no plain request has."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with s3_cluster(tmp_path_factory.mktemp("lane"), putters=2) as made:
        signer = Signer(made.s3_ports[0])
        assert signer.ask("PUT", "/photos").status == 200
        for name, size in (("small", 4_000), ("empty", 0), ("large", 3_000_000)):
            headers = {"x-amz-meta-who": "ann", "content-type": "text/x"}
            assert signer.ask("PUT", f"/photos/{name}", payload(size), headers).status == 200
        yield made


@pytest.fixture
def signer(store: Cluster) -> Signer:
    return Signer(store.s3_ports[0])


def served(store: Cluster, operation: str = "GetObject") -> float:
    """How many requests of a kind were answered."""
    _, _, body = store.http("GET", "/metrics")
    series = rb'putter_s3_requests_total\{operation="%s"[^}]*\} (\S+)' % operation.encode()
    return sum(map(float, re.findall(series, body)))


def told(answer: Told) -> dict[str, str]:
    """The headers of an answer, but for those that no two answers share."""
    changing = {"date", "x-amz-request-id", "x-amz-version-id"}
    if answer.status >= 400:
        changing.add("content-length")  # the body tells the request's id
    return {name: value for name, value in answer.headers.items() if name not in changing}


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/photos/small", {}, 200),
        ("/photos/small", {"x-amz-checksum-mode": "ENABLED"}, 200),
        ("/photos/small", {"range": "bytes=5-9"}, 206),
        ("/photos/small", {"range": "bytes=-9", "x-amz-checksum-mode": "ENABLED"}, 206),
        ("/photos/small", {"range": "bytes=9999-"}, 416),
        ("/photos/small", {"if-match": '"no"'}, 412),
        ("/photos/small", {"if-none-match": "*"}, 304),
        ("/photos/small", {"amz-sdk-request": "attempt=1", "accept-encoding": "identity"}, 200),
        ("/photos/empty", {}, 200),
        ("/photos/large", {}, 200),
        ("/photos/large", {"range": "bytes=1000-2000"}, 206),
        ("/photos/none", {}, 404),
        ("/no-such-bucket/none", {}, 404),
        ("/photos/", {}, 200),
    ],
)
def test_both_ways_say_the_same(
    store: Cluster, signer: Signer, path: str, headers: dict[str, str], status: int
) -> None:
    short = signer.ask("GET", path, b"", headers)
    long = signer.ask("GET", path, b"", headers | LONG_WAY)
    assert short.status == long.status == status
    assert told(short) == told(long)
    assert short.headers.keys() == long.headers.keys()
    if status < 400:
        assert short.body == long.body
    else:
        assert short.code == long.code


def test_who_may_not_is_refused(store: Cluster, signer: Signer) -> None:
    wrong = Signer(store.s3_ports[0], secret="another-secret")
    assert wrong.ask("GET", "/photos/small").code == "SignatureDoesNotMatch"
    unsigned = signer.send("GET", "/photos/small", b"", {"host": "h"})
    assert (unsigned.status, unsigned.code) == (403, "AccessDenied")
    body = b'{"secret_key": "only-elsewhere", "buckets": {"elsewhere": "read"}}'
    assert store.http("PUT", "/key/ELSEWHERE", body)[0] == 201
    other = Signer(store.s3_ports[0], "ELSEWHERE", "only-elsewhere")
    assert other.ask("GET", "/photos/small").code == "AccessDenied"


def test_what_sdks_send_goes_the_short_way(store: Cluster, signer: Signer) -> None:
    every, _ = signer.signed("GET", "/photos/small", {"user-agent": "an sdk", "accept": "*/*"})
    lines = "".join(f"{name}: {value}\r\n" for name, value in every.items())
    request = f"GET /photos/small HTTP/1.1\r\n{lines}\r\n".encode()
    assert plain(request, NAMES) is not None
    assert plain(request) is None
    before = served(store)
    with signer.wire() as client:
        for _ in range(3):
            client.sendall(request)
            answer = b""
            while len(answer) < 4_000 or not answer.endswith(payload(4_000)):
                answer += client.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
            assert answer.count(b"x-amz-request-id: ") == 1
            assert b"X-Request-Id" not in answer
    assert served(store) == before + 3


def test_in_a_host_of_its_own(store: Cluster, signer: Signer) -> None:
    host = {"host": "photos.s3.test"}
    assert signer.ask("PUT", "/dir/a", b"in a directory", host).status == 200
    assert signer.ask("GET", "/dir/a", b"", host).body == b"in a directory"
    assert signer.ask("GET", "/small", b"", host).body == payload(4_000)
    assert signer.ask("GET", "/photos/dir/a").body == b"in a directory"
    assert signer.ask("GET", "/photos/small", b"", host).code == "NoSuchKey"


BODY = payload(3_000)
CRC32 = base64.b64encode(zlib.crc32(BODY).to_bytes(4, "big")).decode()
SHA256 = hashlib.sha256(BODY).hexdigest()
FRAMED = b"%x\r\n%b\r\n0\r\nx-amz-checksum-crc32:%b\r\n\r\n" % (len(BODY), BODY, CRC32.encode())
IN_CHUNKS = {"x-amz-decoded-content-length": str(len(BODY)), "content-encoding": "aws-chunked"}
TRAILING = IN_CHUNKS | {"x-amz-trailer": "x-amz-checksum-crc32"}


def put_both(
    signer: Signer, path: str, body: bytes, headers: Mapping[str, str], payload: str
) -> tuple[Told, Told]:
    """The answers of both ways to one PUT."""
    every, _ = signer.signed("PUT", path, headers, payload=payload)
    long, _ = signer.signed("PUT", path, dict(headers) | LONG_WAY, payload=payload)
    return signer.send("PUT", path, body, every), signer.send("PUT", path, body, long)


class TestPut:
    def test_and_leave_the_same(self, signer: Signer) -> None:
        headers = {
            "content-type": "text/x",
            "cache-control": "no-store",
            "content-disposition": "attachment",
            "content-encoding": "gzip",
            "content-language": "en",
            "expires": "never",
            "x-amz-meta-Who": "ann",
            "x-amz-checksum-crc32": CRC32,
            "x-amz-sdk-checksum-algorithm": "CRC32",
        }
        asked = {"x-amz-checksum-mode": "ENABLED"}
        found = []
        for way in ({}, LONG_WAY):
            assert signer.ask("PUT", "/photos/whole", BODY, headers | way).status == 200
            answer = signer.ask("GET", "/photos/whole", b"", asked)
            found.append((answer.body, told(answer)))
        assert found[0][0] == found[1][0] == BODY
        changing = "last-modified"
        assert found[0][1].pop(changing)
        assert found[1][1].pop(changing)
        assert found[0][1] == found[1][1]
        assert found[0][1]["x-amz-meta-who"] == "ann"

    def test_what_comes_in_chunks_is_kept_without_them(self, signer: Signer) -> None:
        every, _ = signer.signed("PUT", "/photos/framed", TRAILING, payload=TRAILER)
        assert plain_begin(_head("PUT", "/photos/framed", every, FRAMED), PUTS) is not None
        assert signer.send("PUT", "/photos/framed", FRAMED, every).status == 200
        answer = signer.ask("GET", "/photos/framed", b"", {"x-amz-checksum-mode": "ENABLED"})
        assert answer.body == BODY
        assert answer.headers["x-amz-checksum-crc32"] == CRC32
        assert "content-encoding" not in answer.headers

    def test_signed_chunks_are_held_to_their_signatures(self, signer: Signer) -> None:
        headers = IN_CHUNKS
        every, chain = signer.signed("PUT", "/photos/signed", headers, payload=SIGNED_CHUNKS)
        framed = chain.chunk(BODY) + chain.chunk(b"")
        assert plain_begin(_head("PUT", "/photos/signed", every, framed), PUTS) is not None
        assert signer.send("PUT", "/photos/signed", framed, every).status == 200
        assert signer.ask("GET", "/photos/signed").body == BODY
        broken = framed.replace(BODY[:8], b"otherwis")
        refused = signer.send("PUT", "/photos/signed", broken, every)
        assert (refused.status, refused.code) == (403, "SignatureDoesNotMatch")
        assert signer.ask("GET", "/photos/signed").body == BODY

    def test_who_may_not_is_refused(self, store: Cluster, signer: Signer) -> None:
        wrong = Signer(store.s3_ports[0], secret="another-secret")
        assert wrong.ask("PUT", "/photos/no", BODY).code == "SignatureDoesNotMatch"
        old = Signer(store.s3_ports[0], offset_s=-3600)
        assert old.ask("PUT", "/photos/no", BODY).code == "RequestTimeTooSkewed"
        body = b'{"secret_key": "only-to-read", "buckets": {"photos": "read"}}'
        assert store.http("PUT", "/key/READER", body)[0] == 201
        reader = Signer(store.s3_ports[0], "READER", "only-to-read")
        assert reader.ask("PUT", "/photos/no", BODY).code == "AccessDenied"
        assert signer.ask("GET", "/photos/no").code == "NoSuchKey"

    def test_a_policy_that_takes_the_right_away_counts(self, signer: Signer) -> None:
        assert signer.ask("PUT", "/guarded").status == 200
        assert signer.ask("PUT", "/guarded/a", BODY).status == 200
        denied = {
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:PutObject",
            "Resource": "arn:aws:s3:::guarded/*",
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [denied]}).encode()
        digest = base64.b64encode(hashlib.md5(policy).digest()).decode()
        assert signer.ask("PUT", "/guarded?policy", policy, {"content-md5": digest}).status == 204
        assert signer.ask("PUT", "/guarded/b", BODY).code == "AccessDenied"

    def test_versions_are_kept(self, signer: Signer) -> None:
        assert signer.ask("PUT", "/kept").status == 200
        on = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
        assert signer.ask("PUT", "/kept?versioning", on).status == 200
        short, long = put_both(signer, "/kept/a", BODY, {}, SHA256)
        ids = {short.headers["x-amz-version-id"], long.headers["x-amz-version-id"]}
        assert len(ids) == 2
        assert told(short) == told(long)
        for each in ids:
            assert signer.ask("GET", f"/kept/a?versionId={each}").body == BODY

    def test_what_sdks_send_goes_the_short_way(self, store: Cluster, signer: Signer) -> None:
        headers = {"user-agent": "an sdk", "content-length": str(len(BODY))}
        every, _ = signer.signed("PUT", "/photos/wire", headers, payload=SHA256)
        request = _head("PUT", "/photos/wire", every, BODY) + BODY
        begun = plain_begin(request, PUTS)
        assert begun is not None
        assert begun.whole_bytes == len(request)
        before = served(store, "PutObject")
        with signer.wire() as client:
            for _ in range(3):
                client.sendall(request)
                answer = b""
                while not answer.endswith(b"\r\n\r\n"):
                    answer += client.recv(65536)
                assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
                assert answer.count(b"x-amz-request-id: ") == 1
                assert b"X-Request-Id" not in answer
        assert served(store, "PutObject") == before + 3

    def test_an_sdk_writes_and_reads(self, store: Cluster) -> None:
        with s3(store.s3_ports[0]) as client:
            meta = {"Who": "bob"}
            written = client.put_object(Bucket="photos", Key="sdk", Body=BODY, Metadata=meta)
            assert written["ChecksumCRC32"] == CRC32
            read = client.get_object(Bucket="photos", Key="sdk")
            assert (read["Body"].read(), read["Metadata"]) == (BODY, {"who": "bob"})


def _head(method: str, path: str, headers: Mapping[str, str], body: bytes) -> bytes:
    every = {"content-length": str(len(body))} | dict(headers)
    lines = "".join(f"{name}: {value}\r\n" for name, value in every.items())
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode()
