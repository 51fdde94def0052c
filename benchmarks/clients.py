"""Clients that cost little, in a process of their own."""

from __future__ import annotations

import json
import os
import random
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.floors import BLOCK_BYTES, OFFSET_BYTES


def send_objects(
    port: int, objects: int, connections: int, size: int = 1024, names: Path | None = None
) -> float:
    """Send objects, one connection each, so many at a time; seconds until the last answer.

    Args:
        port: where to.
        objects: how many.
        connections: at a time.
        size: bytes of each.
        names: file that gets the ObjectIDs, one a line.
    """
    job = {"objects": objects, "connections": connections, "size": size}
    return _run({"kind": "send", "port": port, "names": str(names or ""), **job})


def ask(port: int, requests: Sequence[tuple[str, str]], connections: int) -> float:
    """HTTP requests over connections that stay; seconds until the last answer.

    Args:
        port: of the web.
        requests: method with path, and the value of ``Range`` or "".
        connections: at a time, each with one request under way.
    """
    return _run({"kind": "ask", "port": port, "requests": requests, "connections": connections})


def ask_blocks(port: int, offsets: Sequence[int], connections: int) -> float:
    """Blocks of `benchmarks.floors.blocks`; seconds until the last one."""
    job = {"kind": "blocks", "port": port, "offsets": offsets, "connections": connections}
    return _run(job)


def random_blocks(size: int, count: int, step: int, seed: int) -> list[int]:
    """Offsets of blocks within so many bytes, multiples of ``step``, in no order."""
    draw = random.Random(seed)
    return [draw.randrange(0, size - BLOCK_BYTES + 1, step) for _ in range(count)]


# -- in the other process ------------------------------------------------------------------


def _run(job: dict[str, Any]) -> float:
    words = [sys.executable, "-m", "benchmarks.clients"]
    done = subprocess.run(words, check=True, capture_output=True, text=True, input=json.dumps(job))
    return float(done.stdout)


def _send(port: int, names: str, objects: int, connections: int, size: int) -> float:
    data = os.urandom(size)
    selector = selectors.DefaultSelector()
    left, open_now, done = objects, 0, 0
    found: list[str] = []
    started = time.perf_counter()
    while done < objects:
        while left and open_now < connections:
            client = socket.create_connection(("127.0.0.1", port))
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            selector.register(client, selectors.EVENT_READ)
            left -= 1
            open_now += 1
        for key, _ in selector.select():
            client = key.fileobj  # type: ignore[assignment]
            line = client.recv(4096)
            if not line.startswith(b"OBJECT WRITTEN OK"):
                raise RuntimeError(line.decode() or "no answer")
            if names:
                found.append(line.split()[3].decode())
            selector.unregister(client)
            client.close()
            open_now -= 1
            done += 1
    took = time.perf_counter() - started
    if names:
        Path(names).write_text("\n".join(found))
    return took


class _Line:
    """One connection that asks one question after the other."""

    def __init__(self, port: int, answered: Callable[[memoryview], int]) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._answered = answered
        self._missing = -1

    def ask(self, question: bytes) -> None:
        self._missing = -1
        self.socket.sendall(question)

    def receive(self, buffer: memoryview) -> bool:
        """Read what is there; True behind the end of an answer."""
        size = self.socket.recv_into(buffer)
        if not size:
            raise RuntimeError("the connection was closed")
        if self._missing < 0:
            self._missing = self._answered(buffer[:size])
        else:
            self._missing -= size
        return self._missing == 0


def _ask_all(
    port: int, questions: list[bytes], connections: int, answered: Callable[[memoryview], int]
) -> float:
    selector = selectors.DefaultSelector()
    buffer = memoryview(bytearray(4 * BLOCK_BYTES))
    lines = [_Line(port, answered) for _ in range(min(connections, len(questions)))]
    waiting = iter(questions)
    started = time.perf_counter()
    for line, question in zip(lines, waiting, strict=False):
        selector.register(line.socket, selectors.EVENT_READ, line)
        line.ask(question)
    under_way = len(lines)
    while under_way:
        for key, _ in selector.select():
            if not key.data.receive(buffer):
                continue
            question = next(waiting, b"")
            if question:
                key.data.ask(question)
            else:
                under_way -= 1
                selector.unregister(key.fileobj)
    return time.perf_counter() - started


def _http_missing(answer: memoryview) -> int:
    """What is missing of an answer whose head has just come."""
    head, found, body = bytes(answer).partition(b"\r\n\r\n")
    if not found or head[9:10] != b"2":
        raise RuntimeError(head.decode())
    length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
    return int(length or b"0") - len(body)


def _main(kind: str, port: int, **job: Any) -> float:
    if kind == "send":
        return _send(port, **job)
    if kind == "blocks":
        questions = [each.to_bytes(OFFSET_BYTES, "little") for each in job["offsets"]]
        return _ask_all(port, questions, job["connections"], lambda got: BLOCK_BYTES - len(got))
    questions = []
    for what, wanted in job["requests"]:
        more = f"Range: {wanted}\r\n" if wanted else ""
        questions.append(f"{what} HTTP/1.1\r\nHost: 127.0.0.1\r\n{more}\r\n".encode())
    return _ask_all(port, questions, job["connections"], _http_missing)


if __name__ == "__main__":
    print(_main(**json.loads(sys.stdin.read())))
