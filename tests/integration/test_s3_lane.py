"""The short way of GetObject answers as the long one does, in every case."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from common.web_lane import plain
from router.gateway.s3.lane import NAMES
from tests.s3_kit import Signer, s3_cluster
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


def served(store: Cluster) -> float:
    """How many GetObjects were answered."""
    _, _, body = store.http("GET", "/metrics")
    found = re.findall(rb'putter_s3_requests_total\{operation="GetObject"[^}]*\} (\S+)', body)
    return sum(map(float, found))


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
    changing = ("date", "x-amz-request-id")
    told = [
        {name: value for name, value in each.headers.items() if name not in changing}
        for each in (short, long)
    ]
    assert told[0] == told[1]
    assert short.headers.keys() == long.headers.keys()
    if status < 400:
        assert short.body == long.body
    else:
        assert short.code == long.code


def test_who_may_not_is_refused(store: Cluster, signer: Signer) -> None:
    wrong = Signer(store.s3_ports[0], secret="another-secret")
    assert wrong.ask("GET", "/photos/small").code == "SignatureDoesNotMatch"
    told = signer.send("GET", "/photos/small", b"", {"host": "h"})
    assert (told.status, told.code) == (403, "AccessDenied")
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
