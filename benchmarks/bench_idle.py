"""What connections cost that do nothing: a router's memory over what it had without them.

    python -m benchmarks.bench_idle --connections 2000

For each kind a router of its own: silent ones on 5001 and on 5004, such that sent one byte of a
stream, such that asked once and are kept. Its memory is what the system says it takes (VmRSS).
"""

from __future__ import annotations

import argparse
import resource
import socket
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from common.limits import MIB
from tests.store_kit import Cluster, cluster, eventually

_FILES_BESIDES = 256
_REQUEST = b"GET /file/photos/cat HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
_FILE = b"x" * 4096
_SETTLES_S = 1.0


def silent(client: socket.socket) -> None:
    """Say nothing."""


def one_byte(client: socket.socket) -> None:
    """Begin a stream."""
    client.sendall(b"x")


def one_request(client: socket.socket) -> None:
    """Ask for a small file, and take it."""
    client.sendall(_REQUEST)
    taken = b""
    while not taken.endswith(_FILE):
        part = client.recv(65_536)
        if not part:
            raise SystemExit(f"the router closed the connection: {taken[:200]!r}")
        taken += part


KINDS: dict[str, tuple[str, Callable[[socket.socket], None]]] = {
    "5001, silent": ("ingest", silent),
    "5001, one byte": ("ingest", one_byte),
    "5004, silent": ("web", silent),
    "5004, kept after a GET of 4 KiB": ("web", one_request),
}


def measure(store: Cluster, count: int, port: str, begin: Callable[[socket.socket], None]) -> int:
    """Bytes that so many connections cost."""
    router = store.routers[0]
    number = store.ingest_ports[0] if port == "ingest" else store.web_ports[0]
    for _ in range(50):  # what a first connection brings in belongs to none of them
        with socket.create_connection(("127.0.0.1", number)) as client:
            begin(client)
    time.sleep(_SETTLES_S)
    before = router.memory_bytes()
    clients = [socket.create_connection(("127.0.0.1", number)) for _ in range(count)]
    try:
        for client in clients:
            begin(client)

        def all_are_there() -> None:
            _, _, text = store.http("GET", "/metrics")
            line = f'putter_connections{{port="{port}"}} '
            (found,) = (each for each in text.decode().splitlines() if each.startswith(line))
            assert float(found.removeprefix(line)) >= count, found

        eventually(all_are_there)
        time.sleep(_SETTLES_S)
        return router.memory_bytes() - before
    finally:
        for client in clients:
            client.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=2000)
    count = parser.parse_args().connections
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(count + _FILES_BESIDES, hard), hard))
    print(f"| {count} connections | memory of the router | each |\n|---|---|---|")
    for kind, (port, begin) in KINDS.items():
        with tempfile.TemporaryDirectory() as folder:
            flags = ("--idle-timeout-ms", "600000")
            with cluster(Path(folder), storage="memory", router_flags=flags) as store:
                assert store.http("PUT", "/file/photos/cat", _FILE)[0] == 201
                grown = measure(store, count, port, begin)
        print(f"| {kind} | {grown / MIB:.1f} MiB | {grown / count / 1024:.1f} KiB |")


if __name__ == "__main__":
    main()
