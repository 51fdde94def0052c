"""Clients that read nothing, or send next to nothing: they hold little, and others are served."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from common.limits import INGEST_PENDING_BYTES_MAX, MIB, READS_PENDING_BYTES_MAX
from tests.store_kit import Cluster, cluster, eventually
from tests.traffic_kit import payload

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
READERS, FILE = 160, 24 * MIB
WRITERS, BEGUN = 300, 300_000
SPARE = 160 * MIB
"""What a router takes besides: buffers kept for use again, of connections, of the allocator."""


@contextmanager
def crowd(port: int, count: int) -> Iterator[list[socket.socket]]:
    """Connections with small buffers on this side."""
    with ExitStack() as stack:
        clients = []
        for _ in range(count):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(60)
            client.connect(("127.0.0.1", port))
            clients.append(client)
        yield clients


def works(store: Cluster, name: str) -> None:
    """Others write and read."""
    data = payload(2 * MIB, name)
    assert store.http("PUT", f"/file/others/{name}", data)[0] == 201
    assert store.read(f"others/{name}") == data
    assert store.send(data).line.startswith("OBJECT WRITTEN OK")


def test_readers_that_take_nothing_hold_little(tmp_path: Path) -> None:
    with cluster(tmp_path / "s", storage="memory") as store:
        data = payload(FILE, "large")
        assert store.http("PUT", "/file/photos/large", data)[0] == 201
        works(store, "before")
        router = store.routers[0]
        before = router.memory_bytes()
        with crowd(store.web_ports[0], READERS) as readers:
            for reader in readers:
                reader.sendall(b"GET /file/photos/large HTTP/1.1\r\nHost: localhost\r\n\r\n")
            for reader in readers:
                assert reader.recv(100).startswith(b"HTTP/1.1 200"), "its answer has begun"
            works(store, "meanwhile")
            grown = router.memory_bytes("VmHWM") - before
            # Without a bound each of them would hold some five pieces of 1 MiB.
            assert grown < READS_PENDING_BYTES_MAX + SPARE, f"{grown / MIB:.0f} MiB"
            slow = readers[0]
            taken = bytearray()
            while data not in taken:
                more = slow.recv(MIB)
                assert more, "who reads again gets all of it"
                taken += more
                if len(taken) < len(data):
                    continue
        works(store, "after")


def test_writers_that_do_not_go_on_hold_little(tmp_path: Path) -> None:
    with cluster(tmp_path / "s", storage="memory") as store:
        works(store, "before")
        router = store.routers[0]
        before = router.memory_bytes()
        with crowd(store.ingest_ports[0], WRITERS) as writers:
            for writer in writers:
                writer.sendall(bytes(BEGUN))

            def all_are_there() -> None:
                _, _, text = store.http("GET", "/metrics")
                assert f'putter_connections{{port="ingest"}} {WRITERS}.0' in text.decode()

            eventually(all_are_there)
            works(store, "meanwhile")
            grown = router.memory_bytes("VmHWM") - before
            assert grown < INGEST_PENDING_BYTES_MAX + SPARE, f"{grown / MIB:.0f} MiB"
        works(store, "after")
