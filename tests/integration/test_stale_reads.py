"""Reads of names that a router resolved lately, while Redis is away: real processes and sockets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.web_lane import plain
from tests.books_kit import no_traceback
from tests.failover_kit import freeze, thaw
from tests.store_kit import Cluster, cluster, eventually
from tests.traffic_kit import answer_from, connect, payload

pytestmark = pytest.mark.slow
MIB = 1 << 20
SIZES = {"one": 1, "frames": 200_000, "large": 9 * MIB, "empty": 0}
PATIENCE = ("--redis-patience-ms", "2500")
LONG_WAY = "X-Long-Way: 1"
STALE = ('110 - "Response is Stale"', "true")


@pytest.fixture(params=["stopped", "frozen"])
def how(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Cluster]:
    with cluster(tmp_path / "s", putters=2, routers=2, router_flags=PATIENCE) as running:
        yield running
        no_traceback(running)


def take_away(store: Cluster, how: str) -> None:
    if how == "stopped":
        store.valkey.stop()
    else:
        freeze(store.valkey)


def bring_back(store: Cluster, how: str) -> None:
    if how == "stopped":
        store.valkey.start()
    else:
        thaw(store.valkey)


def put(store: Cluster, name: str, data: bytes, router: int = 0) -> None:
    assert store.http("PUT", f"/file/{name}", data, router=router)[0] in {200, 201}


def marks(headers: dict[str, str]) -> tuple[str | None, str | None]:
    return headers.get("warning"), headers.get("x-putter-stale")


def say(store: Cluster, path: str, *lines: str) -> tuple[int, bytes]:
    """Status and answer of one request, without what differs from one moment to the next."""
    text = "\r\n".join([f"GET {path} HTTP/1.1", "Host: localhost", *lines, "", ""])
    assert (plain(text.encode()) is None) == (LONG_WAY in lines)
    with connect(store.web_ports[0]) as client:
        client.sendall(text.encode())
        out = answer_from(client)
    out = re.sub(rb'"request_id":"[^"]*"', b"", out)
    return int(out[9:12]), re.sub(rb"\r\n(Date|Age|X-Request-Id): [^\r]*", b"", out)


def test_reads_go_on(store: Cluster, how: str) -> None:
    for name, size in SIZES.items():
        put(store, f"lately/{name}", payload(size))
    put(store, "lately/changed", b"old")
    put(store, "lately/changed", b"new")
    put(store, "lately/gone", b"gone")
    assert store.http("DELETE", "/file/lately/gone")[0] == 204
    put(store, "lately/theirs", b"theirs", router=1)
    etag = store.http("HEAD", "/file/lately/one")[1]["etag"]
    status, headers, _ = store.http("GET", "/file/lately/one")
    assert (status, marks(headers), "age" in headers) == (200, (None, None), False)

    take_away(store, how)
    for name, size in SIZES.items():
        for method in ("GET", "HEAD"):
            status, headers, body = store.http(method, f"/file/lately/{name}")
            assert (status, marks(headers)) == (200, STALE), (name, method)
            assert int(headers["age"]) < 300
            assert body == (payload(size) if method == "GET" else b"")
    assert store.read("lately/changed") == b"new"
    # What was deleted here, or never seen, waits, and is then told clearly.
    for name in ("gone", "theirs", "never"):
        status, headers, body = store.http("GET", f"/file/lately/{name}")
        assert (status, marks(headers)) == (503, (None, None)), name
        assert json.loads(body)["code"] == "redis"
        assert json.loads(body)["hint"]
    conditions(store, etag)
    assert store.http("PUT", "/file/lately/one", b"2")[0] == 503
    assert store.http("GET", "/metadata/lately/one")[0] == 503
    counted = re.search(rb"\nputter_stale_reads_total (\S+)", store.http("GET", "/metrics")[2])
    assert counted
    assert float(counted[1]) > len(SIZES) * 2

    bring_back(store, how)
    eventually(lambda: marks(store.http("GET", "/file/lately/one")[1]) == (None, None))
    assert store.read("lately/theirs") == b"theirs"
    assert store.http("GET", "/file/lately/gone")[0] == 404
    for name, size in SIZES.items():
        status, headers, body = store.http("GET", f"/file/lately/{name}")
        assert (status, marks(headers), body) == (200, (None, None), payload(size))


def conditions(store: Cluster, etag: str) -> None:
    """What may differ in a newer version is not decided; both ways answer the same."""
    later = "Mon, 01 Jan 2096 00:00:00 GMT"
    for line, wanted in [
        (f"If-None-Match: {etag}", 304),
        ('If-None-Match: "other"', 200),
        (f"If-Match: {etag}", 200),
        ('If-Match: "other"', 503),
        (f"If-Modified-Since: {later}", 304),
        ("If-Unmodified-Since: Mon, 01 Jan 2001 00:00:00 GMT", 503),
        ("Range: bytes=0-0", 206),
        ("Range: bytes=1-", 503),
        (f"If-Range: {etag}", 200),
    ]:
        short = say(store, "/file/lately/one", line)
        assert short == say(store, "/file/lately/one", line, LONG_WAY), line
        status, answer = short
        assert status == wanted, line
        marked = b'\r\nWarning: 110 - "Response is Stale"\r\nX-Putter-Stale: true\r\n' in answer
        assert marked == (wanted != 503), line


def test_never_under_strict(tmp_path: Path) -> None:
    flags = ("--consistency", "strict", "--redis-patience-ms", "1000")
    with cluster(tmp_path / "s", putters=2, router_flags=flags) as store:
        put(store, "lately/one", b"1")
        assert store.read("lately/one") == b"1"
        store.valkey.stop()
        for _ in range(2):
            status, headers, body = store.http("GET", "/file/lately/one")
            assert (status, marks(headers)) == (503, (None, None))
            assert json.loads(body)["code"] == "redis"
        store.valkey.start()
        eventually(lambda: store.read("lately/one") == b"1")


def test_an_empty_redis_that_waits_for_somebody(store: Cluster) -> None:
    put(store, "lately/one", b"1")
    put(store, "lately/theirs", b"theirs", router=1)
    assert store.valkey.ask("FLUSHALL") == "+OK\r\n"
    status, headers, body = store.http("GET", "/file/lately/one")
    assert (status, marks(headers), body) == (200, STALE, b"1")
    status, _, body = store.http("GET", "/file/lately/theirs")
    assert status == 503
    told = json.loads(body)
    assert "putter rebuild" in told["hint"] or told["code"] == "redis"
