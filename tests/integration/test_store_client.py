"""The web client over real sockets: streams both ways, kept connections, broken ones."""

from __future__ import annotations

import io
import json
import os
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from common import errors
from common.checksum import object_digest
from putter.client import Store


class Handler(BaseHTTPRequestHandler):
    """Files in memory behind ``/file/``, with a few faults that can be asked for by name."""

    protocol_version = "HTTP/1.1"
    files: ClassVar[dict[str, bytes]] = {}
    peers: ClassVar[set[tuple[str, int]]] = set()

    def setup(self) -> None:
        super().setup()
        self.peers.add(self.client_address)

    def do_PUT(self) -> None:
        if self.path.endswith("/refused"):
            # Answers before it has read the body, and hangs up.
            self.close_connection = True
            self._tell(413, {"code": "too-large", "message": "too large", "hint": "split it"})
            return
        if self.headers.get("Transfer-Encoding") == "chunked":
            data = self._read_chunks()
        else:
            data = self.rfile.read(int(self.headers["Content-Length"]))
        self.files[self.path] = data
        bucket, key = self.path.removeprefix("/file/").split("/", 1)
        told = {
            "bucket": bucket,
            "key": key,
            "size": len(data),
            "etag": "e",
            "version": "1",
            "blake3": object_digest(data).hex(),
        }
        self._tell(201, told)

    def do_GET(self) -> None:
        data = self.files.get(self.path)
        if data is None:
            self._tell(404, {"code": "not-found", "message": f"no {self.path}", "hint": ""})
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("X-Putter-Blake3", object_digest(data).hex())
        self.end_headers()
        if self.path.endswith("/cut"):
            self.close_connection = True
            data = data[: len(data) // 2]
        self.wfile.write(data)
        if self.path.endswith("/goodbye"):
            self.close_connection = True

    def do_DELETE(self) -> None:
        self.files.pop(self.path)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Tests print nothing."""

    def _read_chunks(self) -> bytes:
        data = bytearray()
        while size := int(self.rfile.readline(), 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return bytes(data)

    def _tell(self, status: int, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def web() -> Iterator[ThreadingHTTPServer]:
    Handler.files.clear()
    Handler.peers.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def store(web: ThreadingHTTPServer) -> Iterator[Store]:
    with Store(f"http://127.0.0.1:{web.server_port}", timeout_s=20) as made:
        yield made


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (1 << 20) + 1, 5_000_000])
def test_files_and_pipes_come_back_as_they_went(store: Store, tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    (tmp_path / "in").write_bytes(data)
    store.put("photos/file", tmp_path / "in")
    store.put("photos/bytes", data)
    reading, writing = os.pipe()

    def feed() -> None:
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(data)

    feeder = threading.Thread(target=feed)
    feeder.start()
    with os.fdopen(reading, "rb") as pipe:
        assert store.put("photos/pipe", pipe).size == size
    feeder.join()
    for name in ("photos/file", "photos/bytes", "photos/pipe"):
        assert store.get(name) == data
    store.download("photos/file", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == data


def test_one_connection_serves_many_requests(store: Store) -> None:
    for number in range(5):
        store.put(f"photos/{number}", b"x")
        assert store.get(f"photos/{number}") == b"x"
        with pytest.raises(errors.NotFound):
            store.get("photos/none")
    assert len(Handler.peers) == 1


def test_delete_and_go_on(store: Store) -> None:
    store.put("photos/cat", b"x")
    store.delete("photos/cat")
    with pytest.raises(errors.NotFound):
        store.get("photos/cat")


def test_a_body_that_was_cut(store: Store, tmp_path: Path) -> None:
    store.put("photos/cut", os.urandom(3_000_000))
    with pytest.raises(errors.IntegrityError, match="ended after"):
        store.download("photos/cut", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    store.put("photos/next", b"still works")
    assert store.get("photos/next") == b"still works"


def test_a_refusal_before_the_body_was_read(store: Store) -> None:
    with pytest.raises((errors.TooLarge, errors.Unavailable)):
        store.put("photos/refused", io.BytesIO(bytes(20_000_000)))
    assert store.put("photos/next", b"x").size == 1


def test_a_kept_connection_that_was_closed_without_a_word(store: Store) -> None:
    store.put("photos/goodbye", b"x")
    for _ in range(3):
        assert store.get("photos/goodbye") == b"x"
        store.put("photos/next", b"y")
    assert len(Handler.peers) == 4


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    store = Store(f"http://127.0.0.1:{port}")
    with pytest.raises(errors.Unavailable, match="nothing listens"):
        store.status()
