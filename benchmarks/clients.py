"""Clients that cost little, in a process of their own."""

from __future__ import annotations

import os
import selectors
import socket
import subprocess
import sys
import time


def send_objects(port: int, objects: int, connections: int, size: int = 1024) -> float:
    """Send objects, one connection each, so many at a time; seconds until the last answer."""
    words = [sys.executable, "-m", "benchmarks.clients"]
    words += [str(port), str(objects), str(connections), str(size)]
    return float(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def _main(port: int, objects: int, connections: int, size: int) -> float:
    data = os.urandom(size)
    selector = selectors.DefaultSelector()
    left, open_now, done = objects, 0, 0
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
            selector.unregister(client)
            client.close()
            open_now -= 1
            done += 1
    return time.perf_counter() - started


if __name__ == "__main__":
    print(_main(*map(int, sys.argv[1:])))
