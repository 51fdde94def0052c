"""Clients that never stop sending what is no body: refused or held back, in bounded memory."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from common.limits import MIB
from tests.books_kit import no_traceback
from tests.s3_door_kit import head_of
from tests.s3_kit import TRAILER, Signer, s3_cluster
from tests.store_kit import Cluster

pytestmark = pytest.mark.slow
CLIENTS = 8
EACH = 24 * MIB
GROWTH_MAX = 128 * MIB
"""Of all clients together; they send one and a half times as much."""
PATIENCE_S = 2.0
FLOODS = {
    "many headers": (b"GET / HTTP/1.1\r\n", b"a:\r\n" * 16_000),
    "a long header": (b"GET / HTTP/1.1\r\nx: ", b"v" * 65_536),
    "a folded header": (b"GET / HTTP/1.1\r\nx: y\r\n", b" z\r\n" * 16_000),
    "a long address": (b"GET /", b"v" * 65_536),
    "no request": (b"", b"\r\n" * 32_768),
    "a long chunk line": (b"5;", b"v" * 65_536),
    "many trailers": (b"5\r\nhello\r\n0\r\n", b"a: b\r\n" * 10_000),
    "answers that nobody reads": (b"", b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" * 2_000),
}
CHUNKED = {"a long chunk line", "many trailers"}
"""They come behind the head of a signed request."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    directory: Path = tmp_path_factory.mktemp("floods")
    with s3_cluster(directory) as made:
        signer = Signer(made.s3_ports[0])
        assert signer.ask("PUT", "/bytes").status == 200
        assert signer.ask("PUT", "/bytes/k", bytes(4 * MIB)).status == 200
        yield made


def flood(signer: Signer, head: bytes, piece: bytes) -> bytes:
    """What is answered to a client that sends as much as it can."""
    heard = b""
    with signer.wire() as client:
        client.settimeout(PATIENCE_S)
        try:
            client.sendall(head)
            for _ in range(EACH // len(piece)):
                client.sendall(piece)
            client.shutdown(socket.SHUT_WR)
            while more := client.recv(65_536):
                heard += more
        except OSError:
            return heard  # it was cut off, or held back
    return heard


@pytest.mark.parametrize("name", FLOODS)
def test_memory_is_bounded(store: Cluster, name: str) -> None:
    signer, router = Signer(store.s3_ports[0]), store.routers[0]
    head, piece = FLOODS[name]
    if name in CHUNKED:
        headers = {"transfer-encoding": "chunked", "x-amz-decoded-content-length": "5"}
        headers["x-amz-trailer"] = "x-amz-checksum-crc32"
        every, _ = signer.signed("PUT", "/bytes/flooded", headers, payload=TRAILER)
        head = head_of("PUT", "/bytes/flooded", every) + head
    before = router.memory_bytes()
    Path(f"/proc/{router.pid}/clear_refs").write_text("5")  # the highest so far is now
    with ThreadPoolExecutor(CLIENTS) as pool:
        flooding = [pool.submit(flood, signer, head, piece) for _ in range(CLIENTS)]
        assert signer.ask("GET", "/bytes/k").body == bytes(4 * MIB), "others are served meanwhile"
        heard = [each.result() for each in flooding]
    for answer in heard:
        assert not answer or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4")), answer[:300]
    assert router.memory_bytes("VmHWM") - before < GROWTH_MAX
    assert signer.ask("HEAD", "/bytes/flooded").status == 404
    no_traceback(store)
