"""What S3 costs a router beside REST: processor time and rates of the same work at both ports.

    python -m benchmarks.bench_s3 --mib 512 --objects 4000

One router, one putter (`segments`), requests signed beforehand, bodies unsigned. Each kind of work
is done in turns, so that both ports see the same machine; medians.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import socket
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from common.limits import KIB, MIB
from tests.s3_kit import UNSIGNED, Signer, s3_cluster

_CONNECTIONS = 16
_SMALL = os.urandom(4 * KIB)
BLOCK = os.urandom(4 * MIB)
_TICKS = os.sysconf("SC_CLK_TCK")


class Side:
    """One port: how its requests look.

    Args:
        name: of it.
        port: on loopback.
        signed: whether it speaks S3, or else REST.
    """

    def __init__(self, name: str, port: int, *, signed: bool = True) -> None:
        self.name = name
        self.port = port
        self._signer = Signer(port) if signed else None

    def head(
        self, method: str, key: str, size: int | None = None, payload: str = UNSIGNED
    ) -> bytes:
        """The head of a request."""
        headers = {"content-length": str(size)} if size is not None else {}
        path = f"/photos/{self.name.lower()}/{key}" if key[:1] != "?" else f"/photos{key}"
        if self._signer is not None:
            headers, _ = self._signer.signed(method, path, headers, payload=payload)
        else:
            path, headers = f"/file{path}", {"Host": "127.0.0.1"} | headers
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode()


def processor_s(pid: int) -> float:
    """Processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def put_large(side: Side, size: int, payload: str = UNSIGNED) -> None:
    """One stream in.

    Args:
        side: where to.
        size: in bytes, a multiple of the blocks'.
        payload: the SHA-256 of the body in hex, or that it is not signed.
    """
    with socket.create_connection(("127.0.0.1", side.port)) as client:
        client.sendall(side.head("PUT", "large", size, payload))
        for _ in range(size // len(BLOCK)):
            client.sendall(BLOCK)
        answer = client.recv(65_536)
        if not re.match(rb"HTTP/1.1 20[01] ", answer):
            raise SystemExit(f"{side.name}: {answer[:300]!r}")


def get_large(side: Side, size: int) -> None:
    """One stream out."""
    room = bytearray(4 * MIB)
    with socket.create_connection(("127.0.0.1", side.port)) as client:
        client.sendall(side.head("GET", "large"))
        left = size
        while left > 0:
            taken = client.recv_into(room)
            if not taken:
                raise SystemExit(f"{side.name}: the answer ended early")
            left -= taken


def many(side: Side, method: str, count: int, put: bytes = _SMALL) -> Callable[[], None]:
    """So many small requests on some connections; they are signed when this is called."""
    body = put if method == "PUT" else b""
    size = len(body) if body else None
    asked = [side.head(method, f"small{n}", size) + body for n in range(count)]

    async def client(part: Iterator[bytes]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", side.port)
        for request in part:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: (\d+)", head)
            if not re.match(rb"HTTP/1.1 20[01] ", head):
                raise SystemExit(f"{side.name}: {head!r}")
            await reader.readexactly(int(length[1]) if length else 0)
        writer.close()
        await writer.wait_closed()

    async def crowd() -> None:
        parts = [iter(asked[n::_CONNECTIONS]) for n in range(_CONNECTIONS)]
        await asyncio.gather(*map(client, parts))

    return lambda: asyncio.run(crowd())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=512)
    parser.add_argument("--objects", type=int, default=4000)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    size = args.mib * MIB // len(BLOCK) * len(BLOCK)
    with (
        tempfile.TemporaryDirectory() as folder,
        s3_cluster(Path(folder), storage="segments") as store,
    ):
        if Signer(store.s3_ports[0]).ask("PUT", "/photos").status != 200:
            raise SystemExit("no bucket")
        pid = store.routers[0].pid
        sides = [
            Side("S3", store.s3_ports[0]),
            Side("REST", store.web_ports[0], signed=False),
        ]
        kinds: dict[str, Callable[[Side], Callable[[], None]]] = {
            f"PUT {args.mib} MiB": lambda side: lambda: put_large(side, size),
            f"GET {args.mib} MiB": lambda side: lambda: get_large(side, size),
            "PUT 4 KiB": lambda side: many(side, "PUT", args.objects),
            "GET 4 KiB": lambda side: many(side, "GET", args.objects),
        }
        print("| work | port | rate | processor time of the router |\n|---|---|---|---|")
        for kind, make in kinds.items():
            found: dict[str, list[tuple[float, float]]] = {side.name: [] for side in sides}
            for _ in range(args.runs):
                for side in sides:
                    work = make(side)
                    cpu_s, started = processor_s(pid), time.perf_counter()
                    work()
                    took = time.perf_counter() - started, processor_s(pid) - cpu_s
                    found[side.name].append(took)
            for name, runs in found.items():
                wall_s = statistics.median(run[0] for run in runs)
                cpu_s = statistics.median(run[1] for run in runs)
                if "MiB" in kind:
                    told = f"{size / wall_s / 1e6:.0f} MB/s | {cpu_s / size * 1e9:.2f} s per GB"
                else:
                    each_us = cpu_s / args.objects * 1e6
                    told = f"{args.objects / wall_s:.0f}/s | {each_us:.0f} µs each"
                print(f"| {kind} | {name} | {told} |")


if __name__ == "__main__":
    main()
