"""The web door of real processes: everything a browser, curl or an attacker may send."""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.store_kit import Cluster, cluster, digest, eventually
from tests.traffic_kit import connect, payload, reset

pytestmark = pytest.mark.slow
MIB = 1 << 20
RANGES = payload(2 * MIB + 11, "ranges")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    home = tmp_path_factory.mktemp("rest")
    flags = ("--grace-ms", "100", "--idle-timeout-ms", "20000")
    with cluster(home, storage="memory", router_flags=flags) as running:
        yield running


@pytest.fixture
def bucket(request: pytest.FixtureRequest) -> str:
    """A bucket of the test's own."""
    return f"b{digest(request.node.nodeid.encode())[:16]}"


def put(
    store: Cluster, name: str, data: Any, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], Any]:
    status, got, body = store.http("PUT", f"/file/{name}", data, headers)
    return status, got, json.loads(body)


def get(store: Cluster, name: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return store.http("GET", f"/file/{name}", headers=named)


def error_of(answer: tuple[int, dict[str, str], bytes], status: int, code: str) -> dict[str, str]:
    """The JSON form of an error."""
    assert answer[0] == status, answer
    assert answer[1]["content-type"].startswith("application/json")
    told: dict[str, str] = json.loads(answer[2])
    assert set(told) == {"code", "message", "hint", "request_id"}
    assert told["request_id"] == answer[1]["x-request-id"]
    assert told["code"] == code
    assert told["message"]
    return told


def talk(store: Cluster, request: bytes, *, half_close: bool = False) -> bytes:
    """Bytes on a connection of one's own, and all that comes back."""
    with connect(store.web_ports[0]) as client:
        with contextlib.suppress(ConnectionError):
            client.sendall(request)
            if half_close:
                client.shutdown(socket.SHUT_WR)
        out = b""
        with contextlib.suppress(ConnectionError):
            while part := client.recv(65_536):
                out += part
        return out


def healthy(store: Cluster) -> bool:
    return store.http("GET", "/healthz")[0] == 200


class TestFiles:
    @pytest.mark.parametrize("size", [0, 1, 64 * 1024, 3 * MIB + 1])
    def test_put_get_head_delete(self, store: Cluster, bucket: str, size: int) -> None:
        data, name = payload(size), f"{bucket}/f{size}"
        status, headers, told = put(store, name, data, {"Content-Type": "image/png"})
        assert status == 201
        assert (told["bucket"], told["key"], told["size"]) == (bucket, f"f{size}", size)
        assert told["nodes_written"] == told["replicas_wanted"] == 1
        assert told["degraded"] is False
        assert headers["etag"] == f'"{told["etag"]}"'
        status, headers, body = get(store, name)
        assert (status, body) == (200, data)
        assert headers["content-length"] == str(size)
        assert headers["content-type"] == "image/png"
        assert headers["etag"] == f'"{told["etag"]}"'
        assert headers["accept-ranges"] == "bytes"
        assert headers["last-modified"].endswith("GMT")
        assert headers["x-putter-version"] == told["version"]
        if size:
            assert headers["x-putter-blake3"] == told["blake3"] == digest(data)
        status, of_head, body = store.http("HEAD", f"/file/{name}")
        assert (status, body) == (200, b"")
        for same in ("content-length", "content-type", "etag", "last-modified"):
            assert of_head[same] == headers[same]
        assert store.http("DELETE", f"/file/{name}")[0] == 204
        error_of(get(store, name), 404, "not-found")
        error_of(store.http("DELETE", f"/file/{name}"), 404, "not-found")
        assert store.http("HEAD", f"/file/{name}")[0] == 404

    def test_overwriting(self, store: Cluster, bucket: str) -> None:
        assert put(store, f"{bucket}/a", b"one")[0] == 201
        status, _, told = put(store, f"{bucket}/a", b"three")
        assert (status, told["size"]) == (200, 5)
        assert store.read(f"{bucket}/a") == b"three"

    def test_one_segment_is_a_file_of_the_usual_bucket(self, store: Cluster) -> None:
        assert put(store, "Readme.txt", b"hello")[0] == 201
        assert store.read("files/Readme.txt") == b"hello"

    def test_a_body_in_chunks(self, store: Cluster, bucket: str) -> None:
        parts = [payload(size, size) for size in (1, 100_000, 17, 2 * MIB)]
        status, _, told = put(store, f"{bucket}/c", iter(parts))
        assert (status, told["blake3"]) == (201, digest(b"".join(parts)))
        assert store.read(f"{bucket}/c") == b"".join(parts)

    def test_headers_that_are_kept(self, store: Cluster, bucket: str) -> None:
        packed = gzip.compress(b"plain text " * 100)
        kept = {
            "Content-Type": "text/plain; charset=utf-8",
            "Content-Encoding": "gzip",
            "Content-Disposition": 'attachment; filename="a.txt"',
            "Content-Language": "de",
            "Cache-Control": "max-age=60",
        }
        assert put(store, f"{bucket}/a", packed, kept | {"X-Other": "no"})[0] == 201
        status, headers, body = get(store, f"{bucket}/a")
        assert (status, body) == (200, packed), "bytes are bytes: nothing is unpacked"
        assert {name: headers[name.lower()] for name in kept} == kept
        assert "x-other" not in headers

    def test_too_many_bytes_of_headers(self, store: Cluster, bucket: str) -> None:
        heavy = {"Content-Disposition": "x" * 9_000}
        answer = store.http("PUT", f"/file/{bucket}/a", b"x", heavy)
        error_of(answer, 413, "too-large")
        assert get(store, f"{bucket}/a")[0] == 404

    def test_expect_100_continue(self, store: Cluster, bucket: str) -> None:
        head = f"PUT /file/{bucket}/a HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\n"
        with connect(store.web_ports[0]) as client:
            client.sendall((head + "Expect: 100-continue\r\nConnection: close\r\n\r\n").encode())
            assert client.recv(1000).startswith(b"HTTP/1.1 100 ")
            client.sendall(b"hello")
            assert client.recv(1000).startswith(b"HTTP/1.1 201 ")
        assert store.read(f"{bucket}/a") == b"hello"

    def test_readers_see_the_old_or_the_new_one(self, store: Cluster, bucket: str) -> None:
        versions = [payload(200_000, n) for n in range(6)]
        put(store, f"{bucket}/a", versions[0])
        stop = threading.Event()
        wrong: list[int] = []
        reads = 0

        def reader() -> None:
            nonlocal reads
            while not stop.is_set():
                body = store.read(f"{bucket}/a")
                reads += 1
                if body not in versions:
                    wrong.append(len(body))

        thread = threading.Thread(target=reader)
        thread.start()
        try:
            for data in versions * 3:
                put(store, f"{bucket}/a", data)
        finally:
            stop.set()
            thread.join()
        assert reads > 3
        assert wrong == []


class TestConditions:
    def test_only_if_nothing_is_there(self, store: Cluster, bucket: str) -> None:
        name, only_new = f"{bucket}/a", {"If-None-Match": "*"}
        assert put(store, name, b"first", only_new)[0] == 201
        answer = store.http("PUT", f"/file/{name}", b"second", only_new)
        error_of(answer, 412, "precondition")
        assert store.read(name) == b"first"
        assert store.http("DELETE", f"/file/{name}")[0] == 204
        assert put(store, name, b"third", only_new)[0] == 201

    def test_of_many_at_once_one_wins(self, store: Cluster, bucket: str) -> None:
        statuses: list[int] = []

        def race(n: int) -> None:
            status = store.http("PUT", f"/file/{bucket}/a", b"%d" % n, {"If-None-Match": "*"})[0]
            statuses.append(status)

        threads = [threading.Thread(target=race, args=(n,)) for n in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(statuses) == [201] + [412] * 11

    def test_only_over_what_was_read(self, store: Cluster, bucket: str) -> None:
        name = f"{bucket}/a"
        first = put(store, name, b"first")[1]["etag"]
        second = put(store, name, b"second", {"If-Match": first})[1]["etag"]
        assert first != second
        answer = store.http("PUT", f"/file/{name}", b"lost update", {"If-Match": first})
        error_of(answer, 412, "precondition")
        answer = store.http("PUT", f"/file/{bucket}/none", b"x", {"If-Match": "*"})
        error_of(answer, 412, "precondition")
        answer = store.http("PUT", f"/file/{name}", b"x", {"If-None-Match": first})
        error_of(answer, 400, "usage")
        assert store.read(name) == b"second"

    def test_only_what_was_read_is_deleted(self, store: Cluster, bucket: str) -> None:
        name = f"{bucket}/a"
        first = put(store, name, b"first")[1]["etag"]
        second = put(store, name, b"second")[1]["etag"]
        answer = store.http("DELETE", f"/file/{name}", headers={"If-Match": first})
        error_of(answer, 412, "precondition")
        answer = store.http("DELETE", f"/file/{name}", headers={"If-None-Match": "*"})
        error_of(answer, 400, "usage")
        assert store.read(name) == b"second"
        either = {"If-Match": f'"{first}", "{second}"'}
        assert store.http("DELETE", f"/file/{name}", headers=either)[0] == 204
        answer = store.http("DELETE", f"/file/{name}", headers={"If-Match": "*"})
        error_of(answer, 404, "not-found")

    def test_what_the_client_has_already(self, store: Cluster, bucket: str) -> None:
        name = f"{bucket}/a"
        headers = put(store, name, b"bytes")[1]
        for condition in (
            {"If_None_Match": headers["etag"]},
            {"If_None_Match": "*"},
            {"If_Modified_Since": headers["last-modified"]},
        ):
            status, got, body = get(store, name, **condition)
            assert (status, body) == (304, b"")
            assert got["etag"] == headers["etag"]
        assert get(store, name, If_None_Match='"other"')[0] == 200
        error_of(get(store, name, If_Match='"other"'), 412, "precondition")
        past = "Thu, 01 Jan 1970 00:00:00 GMT"
        error_of(get(store, name, If_Unmodified_Since=past), 412, "precondition")
        assert get(store, name, If_Match=headers["etag"])[0] == 200


@pytest.fixture(scope="module")
def name(store: Cluster) -> str:
    """A file of `RANGES`."""
    assert put(store, "ranges/file", RANGES)[0] in (200, 201)
    return "ranges/file"


class TestRanges:
    @pytest.mark.parametrize(
        ("header", "start", "end"),
        [
            ("bytes=0-0", 0, 1),
            ("bytes=65535-65536", 65_535, 65_537),
            ("bytes=-11", 2 * MIB, 2 * MIB + 11),
            ("bytes=1000000-", 1_000_000, 2 * MIB + 11),
            ("bytes=0-99999999999999999999", 0, 2 * MIB + 11),
        ],
    )
    def test_a_part(self, store: Cluster, name: str, header: str, start: int, end: int) -> None:
        status, headers, body = get(store, name, Range=header)
        assert status == 206
        assert body == RANGES[start:end]
        assert headers["content-range"] == f"bytes {start}-{end - 1}/{len(RANGES)}"
        assert headers["content-length"] == str(end - start)
        status, headers, body = store.http("HEAD", f"/file/{name}", headers={"Range": header})
        assert (status, headers["content-length"], body) == (206, str(end - start), b"")

    @pytest.mark.parametrize("header", ["bytes=5-4", "lines=1-2", "bytes=0-1,5-6", "bytes=x"])
    def test_what_is_not_understood_gives_all(self, store: Cluster, name: str, header: str) -> None:
        status, _, body = get(store, name, Range=header)
        assert (status, body) == (200, RANGES)

    def test_outside(self, store: Cluster, name: str) -> None:
        answer = get(store, name, Range=f"bytes={len(RANGES)}-")
        error_of(answer, 416, "invalid-range")
        assert answer[1]["content-range"] == f"bytes */{len(RANGES)}"

    def test_thousands_of_digits(self, store: Cluster, name: str) -> None:
        assert get(store, name, Range="bytes=" + "9" * 6000 + "-")[0] in (200, 416)

    def test_only_of_the_same_version(self, store: Cluster, name: str) -> None:
        etag = get(store, name)[1]["etag"]
        assert get(store, name, Range="bytes=0-9", If_Range=etag)[0] == 206
        assert get(store, name, Range="bytes=0-9", If_Range='"other"')[0] == 200


class TestNames:
    @pytest.mark.parametrize(
        "key",
        [
            "ä/ö ü",
            "🐈.jpg",
            "日本/東京",
            "a+b&c=d?e#f",
            "100%",
            "a//b/",
            "...",
            "a\\b",
            '"quoted"',
            "x" * 1024,
            "é" * 512,
        ],
    )
    def test_any_unicode(self, store: Cluster, bucket: str, key: str) -> None:
        url = f"{bucket}/{quote(key)}"
        status, _, told = put(store, url, key.encode())
        assert (status, told["key"]) == (201, key)
        assert store.read(url) == key.encode()
        listed = json.loads(store.http("GET", f"/metadata?bucket={bucket}")[2])
        assert [entry["key"] for entry in listed["entries"]] == [key]
        details = json.loads(store.http("GET", f"/metadata/{url}")[2])
        assert details["key"] == key
        assert store.http("DELETE", f"/file/{url}")[0] == 204

    @pytest.mark.parametrize(
        "path",
        [
            "photos/..",
            "photos/../secret",
            "photos/%2e%2e/secret",
            "photos/.",
            "photos/a%00b",
            "photos/a%0d%0ab",
            "photos/%ff%fe",
            "photos/" + "a" * 2048,
            "photos/" + "a" * 1025,
            "a" * 2048,
            "Photos/a",
            "ph/a",
            "photos/",
            "/a",
        ],
    )
    @pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
    def test_what_is_no_name(self, store: Cluster, path: str, method: str) -> None:
        body = b"x" if method == "PUT" else None
        told = error_of(store.http(method, f"/file/{path}", body), 400, "invalid-name")
        assert "\0" not in told["message"]
        assert len(told["message"]) < 400


class TestListings:
    def test_pages(self, store: Cluster, bucket: str) -> None:
        keys = sorted([f"a/{n:02}" for n in range(12)] + [f"b/{n:02}" for n in range(5)])
        for key in keys:
            put(store, f"{bucket}/{key}", key.encode())
        found: list[str] = []
        after: str | None = ""
        pages = 0
        while after is not None:
            query = f"/metadata?bucket={bucket}&limit=5&after={quote(after)}"
            page = json.loads(store.http("GET", query)[2])
            assert len(page["entries"]) <= 5
            found += [entry["key"] for entry in page["entries"]]
            after = page["next_after"]
            pages += 1
        assert found == keys
        assert pages in (4, 5)
        page = json.loads(store.http("GET", f"/metadata?bucket={bucket}&prefix=b/")[2])
        assert [entry["key"] for entry in page["entries"]] == keys[12:]
        assert all(entry["size"] == 4 and entry["etag"] for entry in page["entries"])
        assert page["next_after"] is None
        buckets = json.loads(store.http("GET", "/metadata")[2])["buckets"]
        assert bucket in buckets
        assert buckets == sorted(buckets)

    @pytest.mark.parametrize(
        "limit", ["0", "-1", "1001", "x", "", "1.5", "%D9%A3", "9" * 5000, "+5"]
    )
    def test_limits(self, store: Cluster, limit: str) -> None:
        error_of(store.http("GET", f"/metadata?bucket=photos&limit={limit}"), 400, "usage")

    def test_a_bucket_that_is_none(self, store: Cluster) -> None:
        error_of(store.http("GET", "/metadata?bucket=Photos"), 400, "invalid-name")
        page = json.loads(store.http("GET", "/metadata?bucket=never-heard-of")[2])
        assert (page["entries"], page["next_after"]) == ([], None)


class TestQuestions:
    def test_a_ticket(self, store: Cluster, bucket: str) -> None:
        put(store, f"{bucket}/a", payload(200_000))
        details = json.loads(store.http("GET", f"/metadata/{bucket}/a")[2])
        [extent] = details["objects"][0]["extents"]
        last = extent["last"]
        for spelled in (last, last.lower()):
            told = json.loads(store.http("GET", f"/ticket/{spelled}")[2])
            assert (told["ticket"], told["object"]) == (last, details["object"])
            assert (told["bucket"], told["key"], told["state"]) == (bucket, "a", "written")
            assert told["offset"] == 3 * 65_536
            assert told["size"] == 200_000 - 3 * 65_536
            assert told["nodes"] == extent["nodes"]

    @pytest.mark.parametrize("ticket", ["a-b", "%00", "ABCDEFGHI", "%C3%A4%C3%B6", "..%2F"])
    def test_what_is_no_ticket(self, store: Cluster, ticket: str) -> None:
        error_of(store.http("GET", f"/ticket/{ticket}"), 400, "invalid-ticket")

    def test_a_ticket_of_nobody(self, store: Cluster) -> None:
        error_of(store.http("GET", "/ticket/ZZZZZZZZ"), 404, "not-found")

    def test_status(self, store: Cluster) -> None:
        def served() -> None:
            [node] = json.loads(store.http("GET", "/status")[2])["nodes"]
            assert (node["link"], node["state"], node["storage"]) == ("up", "live", "memory")

        eventually(served)  # it is `joining` until the router has looked at its records
        told = json.loads(store.http("GET", "/status")[2])
        assert told["workers"] == []
        assert told["redis"]["ok"] is True
        assert told["objects"]["writing"] == 0
        assert told["numbers"]["tickets_max"] == 2_901_713_047_668

    def test_metrics_move(self, store: Cluster, bucket: str) -> None:
        def written() -> float:
            text = store.http("GET", "/metrics")[2].decode()
            [line] = [x for x in text.splitlines() if x.startswith("putter_objects_written_total ")]
            return float(line.split()[1])

        before = written()
        put(store, f"{bucket}/a", b"x")
        assert written() == before + 1

    def test_openapi_lists_what_answers(self, store: Cluster) -> None:
        status, headers, body = store.http("GET", "/openapi.json")
        assert (status, headers["content-type"]) == (200, "application/json")
        document = json.loads(body)
        for path in ("/status", "/metadata", "/metrics", "/healthz", "/readyz"):
            assert store.http("GET", path)[0] == 200
            assert "get" in document["paths"][path]

    def test_what_is_not_there(self, store: Cluster) -> None:
        error_of(store.http("GET", "/nowhere"), 404, "not-found")
        error_of(store.http("POST", "/file/photos/a", b"x"), 405, "method-not-allowed")
        error_of(store.http("GET", "/file/"), 404, "not-found")


class TestWhoMayComeIn:
    @pytest.mark.parametrize("host", ["evil.example", "evil.example:5004", "127.0.0.1.evil", ""])
    @pytest.mark.parametrize("path", ["/file/photos/a", "/metadata", "/status", "/metrics"])
    def test_another_host_name_is_refused(self, store: Cluster, host: str, path: str) -> None:
        error_of(store.http("GET", path, headers={"Host": host}), 403, "host")

    def test_nothing_is_written_for_it(self, store: Cluster, bucket: str) -> None:
        answer = store.http("PUT", f"/file/{bucket}/a", b"x", {"Host": "evil.example"})
        error_of(answer, 403, "host")
        assert get(store, f"{bucket}/a")[0] == 404

    @pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:80", "[::1]:5004"])
    def test_names_of_this_machine(self, store: Cluster, host: str) -> None:
        assert store.http("GET", "/status", headers={"Host": host})[0] == 200

    def test_probes_are_open(self, store: Cluster) -> None:
        for path in ("/healthz", "/readyz"):
            assert store.http("GET", path, headers={"Host": "10.0.0.7:8080"})[0] == 200


class TestBrokenClients:
    def head(self, bucket: str, *lines: str) -> bytes:
        first = f"PUT /file/{bucket}/broken HTTP/1.1"
        return "\r\n".join([first, "Host: 127.0.0.1", *lines, "", ""]).encode()

    def nothing_of_it(self, store: Cluster, bucket: str) -> None:
        def idle() -> bool:
            told = json.loads(store.http("GET", "/status")[2])
            return bool(told["objects"]["writing"] == 0)

        eventually(idle)
        assert get(store, f"{bucket}/broken")[0] == 404
        assert store.names(bucket) == {}
        assert healthy(store)

    @pytest.mark.parametrize("size", [0, 10, 3 * MIB])
    def test_one_that_ends_its_side_is_answered(
        self, store: Cluster, bucket: str, size: int
    ) -> None:
        """``printf 'PUT …' | nc -N`` is no broken client at all."""
        data = payload(size)
        answer = talk(store, self.head(bucket, f"Content-Length: {size}") + data, half_close=True)
        assert answer.startswith(b"HTTP/1.1 201")
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["size"] == size
        request = self.head(bucket).replace(b"PUT", b"GET", 1)
        head, _, body = talk(store, request, half_close=True).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        assert body == data

    @pytest.mark.parametrize("sent", [0, 10, 100_000, 3 * MIB])
    def test_a_body_shorter_than_it_said(self, store: Cluster, bucket: str, sent: int) -> None:
        head = self.head(bucket, f"Content-Length: {5 * MIB}")
        answer = talk(store, head + payload(sent), half_close=True)
        assert answer.startswith(b"HTTP/1.1 400")
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "reset"
        self.nothing_of_it(store, bucket)

    @pytest.mark.parametrize("sent", [0, 10, 3 * MIB])
    def test_one_that_vanishes(self, store: Cluster, bucket: str, sent: int) -> None:
        client = connect(store.web_ports[0])
        client.sendall(self.head(bucket, f"Content-Length: {5 * MIB}") + payload(sent))
        if sent > MIB:
            eventually(
                lambda: json.loads(store.http("GET", "/status")[2])["objects"]["writing"] == 1
            )
        reset(client)
        self.nothing_of_it(store, bucket)

    @pytest.mark.parametrize(
        "body", [b"ZZ\r\nabc\r\n", b"5\r\nab", b"-1\r\n", b"FFFFFFFFFFFFFFFFFFFFFFFF\r\nx\r\n"]
    )
    def test_chunks_that_are_none(self, store: Cluster, bucket: str, body: bytes) -> None:
        head = self.head(bucket, "Transfer-Encoding: chunked")
        answer = talk(store, head + body, half_close=True)
        assert b" 201 " not in answer
        self.nothing_of_it(store, bucket)

    def test_one_that_says_two_lengths(self, store: Cluster, bucket: str) -> None:
        """The two readings of such a request are how requests are smuggled."""
        for lines in (
            ("Content-Length: 5", "Content-Length: 6"),
            ("Content-Length: 5", "Transfer-Encoding: chunked"),
        ):
            answer = talk(store, self.head(bucket, *lines) + b"5\r\nhello\r\n0\r\n\r\n")
            assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.0 400"))
        self.nothing_of_it(store, bucket)

    def test_more_than_a_file_may_have(self, store: Cluster, bucket: str) -> None:
        with connect(store.web_ports[0]) as client:
            client.sendall(self.head(bucket, f"Content-Length: {1 << 60}"))
            assert client.recv(65_536).startswith(b"HTTP/1.1 413")
        self.nothing_of_it(store, bucket)

    @pytest.mark.parametrize(
        "garbage",
        [
            b"\0" * 1000 + b"\r\n\r\n",
            b"GET\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            b"PUTTER/1" + b"\xff" * 100 + b"\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x7f" * 500 + b"\r\n\r\n",
            b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nno colon here\r\n\r\n",
        ],
        ids=["zeroes", "short", "version", "session", "tls", "long path", "no colon"],
    )
    def test_garbage(self, store: Cluster, garbage: bytes) -> None:
        """One answer, and the connection ends."""
        answer = talk(store, garbage)
        assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.0 400"))
        assert healthy(store)

    def test_many_headers(self, store: Cluster) -> None:
        few = "".join(f"X-{n}: y\r\n" for n in range(60))
        start = "GET /status HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        assert talk(store, (start + few + "\r\n").encode()).startswith(b"HTTP/1.1 200")
        many = "".join(f"X-{n}: {'y' * 1000}\r\n" for n in range(20_000))
        talk(store, (start + many + "\r\n").encode())
        assert healthy(store)
        assert store.routers[0].memory_bytes() < 400 * MIB

    def test_200_connections_that_say_nothing(self, store: Cluster, bucket: str) -> None:
        with contextlib.ExitStack() as stack:
            for _ in range(200):
                stack.enter_context(connect(store.web_ports[0])).sendall(b"GET /sta")
            assert put(store, f"{bucket}/a", b"others")[0] == 201
            assert store.read(f"{bucket}/a") == b"others"


def test_an_upload_that_stops_is_ended(tmp_path: Path) -> None:
    flags = ("--idle-timeout-ms", "500", "--grace-ms", "100")
    with cluster(tmp_path / "store", storage="memory", router_flags=flags) as store:
        lines = ("PUT /file/photos/slow HTTP/1.1", "Host: 127.0.0.1", "Content-Length: 9000000")
        with connect(store.web_ports[0]) as client:
            client.sendall("\r\n".join([*lines, "", ""]).encode() + payload(2 * MIB))
            answer = client.recv(65_536)
        assert answer.startswith(b"HTTP/1.1 408")
        assert b'"code":"idle"' in answer
        assert get(store, "photos/slow")[0] == 404
