"""The short way of a read and aiohttp's give the same answers, byte for byte.

A header that nobody asks for sends a request the long way.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

import pytest

from common.web_lane import plain
from tests.store_kit import Cluster, cluster, digest
from tests.traffic_kit import answer_from, connect, payload

pytestmark = pytest.mark.slow
MIB = 1 << 20
SIZES = {"one": 1, "frame": 64 * 1024, "frames": 200_000, "large": 3 * MIB + 1, "empty": 0}
LONG_WAY = "X-Long-Way: 1"
KEPT = {"Content-Type": "image/png", "Content-Disposition": 'attachment; filename="a b"'}


@pytest.fixture(scope="module", params=["65536", "1458"])
def store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    home = tmp_path_factory.mktemp("lane")
    flags = ("--grace-ms", "0", "--frame-bytes", request.param)
    with cluster(home, storage="memory", router_flags=flags) as running:
        for name, size in SIZES.items():
            status, _, _ = running.http("PUT", f"/file/lane/{name}", payload(size), KEPT)
            assert status == 201
        yield running


def say(
    store: Cluster,
    path: str,
    *lines: str,
    host: str = "localhost",
    request_id: str = "a-test.1",
) -> bytes:
    """The whole answer to one request; the connection stays open for a second one."""
    lines = (*lines, f"X-Request-Id: {request_id}")
    text = "\r\n".join([f"GET {path} HTTP/1.1", f"Host: {host}", *lines, "", ""])
    assert (plain(text.encode()) is None) == (LONG_WAY in lines)
    with connect(store.web_ports[0]) as client:
        answers = []
        for _ in range(2):
            client.sendall(text.encode())
            answers.append(answer_from(client))
    assert answers[0] == answers[1]
    return answers[0]


def details(store: Cluster, name: str) -> tuple[str, str]:
    _, headers, _ = store.http("HEAD", f"/file/lane/{name}")
    return headers["etag"], headers["last-modified"]


RANGES = [
    "bytes=0-0",
    "bytes=0-",
    "bytes=-1",
    "bytes=65530-65540",
    "bytes=1000-140000",
    "bytes=65536-131071",
    "bytes=1048570-2097160",
    "bytes=9999999-",
    "bytes=5-1",
    "bytes=0-1,3-4",
    "lines=0-1",
]


@pytest.mark.parametrize("name", [*SIZES, "absent"])
def test_ranges(store: Cluster, name: str) -> None:
    for wanted in ["", *RANGES]:
        lines = [f"Range: {wanted}"] if wanted else []
        short = say(store, f"/file/lane/{name}", *lines)
        assert short == say(store, f"/file/lane/{name}", *lines, LONG_WAY), wanted
        assert short.startswith(b"HTTP/1.1 404" if name == "absent" else b"HTTP/1.1 ")
        if not wanted and name in SIZES:
            assert short.partition(b"\r\n\r\n")[2] == payload(SIZES[name])
            assert b"image/png" in short


def test_conditions(store: Cluster) -> None:
    etag, modified = details(store, "frames")
    earlier = "Mon, 01 Jan 2001 00:00:00 GMT"
    seen = set()
    for name, value, wanted in itertools.product(
        ["If-Match", "If-None-Match", "If-Range", "If-Modified-Since", "If-Unmodified-Since"],
        [etag, f"W/{etag}", '"x"', "*", modified, earlier, "nonsense"],
        ["", "Range: bytes=70000-70009"],
    ):
        lines = [f"{name}: {value}", *([wanted] if wanted else [])]
        short = say(store, "/file/lane/frames", *lines)
        assert short == say(store, "/file/lane/frames", *lines, LONG_WAY), lines
        seen.add(short[9:12])
    assert seen == {b"200", b"206", b"304", b"412"}


@pytest.mark.parametrize(
    "path",
    ["/file/lane", "/file/absent", "/file/lane/", "/file/lane//one", "/file//one", "/file/-/x",
     "/file/LANE/one", "/file/lane/one/", "/file/~a/one", "/file/lane/" + "k" * 1500],
)  # fmt: skip
def test_names(store: Cluster, path: str) -> None:
    assert say(store, path) == say(store, path, LONG_WAY)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:5004", "evil"])
def test_hosts(store: Cluster, host: str) -> None:
    short = say(store, "/file/lane/one", host=host)
    assert short == say(store, "/file/lane/one", LONG_WAY, host=host)
    assert short.startswith(b"HTTP/1.1 403" if host == "evil" else b"HTTP/1.1 200")


def test_they_are_counted_alike(store: Cluster) -> None:
    def counted() -> float:
        _, _, text = store.http("GET", "/metrics")
        found = re.search(rb'putter_requests_total{method="GET",status="206"} (\S+)', text)
        return float(found[1]) if found else 0

    before = counted()
    say(store, "/file/lane/one", "Range: bytes=0-0")
    assert counted() == before + 2
    say(store, "/file/lane/one", "Range: bytes=0-0", LONG_WAY)
    assert counted() == before + 4


def test_many_at_once_on_many_connections(store: Cluster) -> None:
    """Memory that is used again is never that of an answer that is still being sent."""
    expected = payload(SIZES["large"])
    clients = [connect(store.web_ports[0]) for _ in range(12)]
    try:
        for turn in range(6):
            for index, client in enumerate(clients):
                start = (turn * 12 + index) * 20_000
                wanted = f"Range: bytes={start}-{start + 400_000}\r\n" if index % 3 else ""
                request = f"GET /file/lane/large HTTP/1.1\r\nHost: localhost\r\n{wanted}\r\n"
                client.sendall(request.encode())
            for index, client in enumerate(clients):
                start = (turn * 12 + index) * 20_000
                body = answer_from(client).partition(b"\r\n\r\n")[2]
                part = expected[start : start + 400_001] if index % 3 else expected
                assert digest(body) == digest(part)
    finally:
        for client in clients:
            client.close()


def request_ids(answer: bytes) -> tuple[bytes, bytes]:
    """The id in the head of an answer, and the one in its body if it is an error."""
    ids = re.findall(rb"\r\nX-Request-Id: ([^\r]+)", answer)
    assert len(ids) == 1, answer
    told = re.search(rb'"request_id":"([^"]+)"', answer)
    return ids[0], told[1] if told else b""


@pytest.mark.parametrize("name", ["frame", "large", "absent", "empty"])
def test_answers_have_the_id_that_the_client_brought(store: Cluster, name: str) -> None:
    for way in ([], [LONG_WAY]):
        head, body = request_ids(say(store, f"/file/lane/{name}", *way, request_id="Ab.9_-"))
        assert head == b"Ab.9_-"
        assert body == (b"Ab.9_-" if name == "absent" else b"")


@pytest.mark.parametrize("given", ["", "a b", "x" * 65, "{}", "a;b"])
def test_an_id_that_is_none_is_replaced(store: Cluster, given: str) -> None:
    seen = set()
    for way in ([], [LONG_WAY]):
        lines = ["GET /file/lane/absent HTTP/1.1", "Host: localhost", *way]
        if given:
            lines.append(f"X-Request-Id: {given}")
        with connect(store.web_ports[0]) as client:
            for _ in range(3):
                client.sendall("\r\n".join([*lines, "", ""]).encode())
                head, body = request_ids(answer_from(client))
                assert head == body
                assert re.fullmatch(rb"[0-9a-f]{8}-[0-9a-f]+", head)
                seen.add(head)
    assert len(seen) == 6
