"""Floors: the same bytes over the same hops, with nothing of a store.

Each is a process that listens on a port of its own. `copies` is the floor of a stream (TCP, relay,
TCP, file, one fdatasync), `pieces` that of a download (file, relay, TCP), and `blocks` that of
random reads (pread, TCP). The one for small objects is `benchmarks.bare`.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import socket
import threading
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

from putter.storage.block_file import aligned_buffer

MIB = 1024 * 1024
PIECE_BYTES = MIB
BLOCK_BYTES = 64 * 1024
OFFSET_BYTES = 8
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


class Floor:
    """A running floor.

    Args:
        processes: of it.
        port: where its first hop listens.
    """

    def __init__(self, processes: list[BaseProcess], port: int) -> None:
        self.port = port
        self._processes = processes

    def cpu_s(self) -> float:
        """Processor time of all its processes so far."""
        return sum(cpu_s(process.pid or 0) for process in self._processes)

    def stop(self) -> None:
        """End its processes."""
        for process in self._processes:
            process.terminate()
            process.join()


@contextlib.contextmanager
def copies(path: Path, *, direct: bool) -> Iterator[Floor]:
    """Streams go through a relay into a new file; the answer comes after fdatasync.

    Args:
        path: of the file, which is replaced each time.
        direct: write past the page cache, into space that was set aside.
    """
    sink, sink_port = _serve(_sink, str(path), direct)
    relay, port = _serve(_relay, sink_port)
    with _running(Floor([relay, sink], port)) as floor:
        yield floor


@contextlib.contextmanager
def pieces(path: Path) -> Iterator[Floor]:
    """Each connection gets the file through a relay."""
    source, source_port = _serve(_source, str(path))
    relay, port = _serve(_relay, source_port)
    with _running(Floor([relay, source], port)) as floor:
        yield floor


@contextlib.contextmanager
def blocks(path: Path) -> Iterator[Floor]:
    """Each connection asks for offsets (8 bytes, little) and gets 64 KiB from there."""
    server, port = _serve(_blocks, str(path))
    with _running(Floor([server], port)) as floor:
        yield floor


def forget_pages(*paths: Path) -> None:
    """Drop these files from the page cache."""
    for path in paths:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(handle)


def cpu_s(pid: int) -> float:
    """Processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_S


# -- inside --------------------------------------------------------------------------------


@contextlib.contextmanager
def _running(floor: Floor) -> Iterator[Floor]:
    try:
        yield floor
    finally:
        floor.stop()


def _serve(serve: Callable[..., None], *args: object) -> tuple[BaseProcess, int]:
    """A process that serves each connection in a thread."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    port = int(listener.getsockname()[1])
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_accept, args=(listener, serve, args), daemon=True)
    process.start()
    listener.close()
    return process, port


def _accept(listener: socket.socket, serve: Callable[..., None], args: tuple[object, ...]) -> None:
    while True:
        client, _ = listener.accept()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=serve, args=(client, *args), daemon=True).start()


def _relay(client: socket.socket, port: int) -> None:
    with client, socket.create_connection(("127.0.0.1", port)) as server:
        _pump(client, server)
        _pump(server, client)


def _pump(reader: socket.socket, writer: socket.socket) -> None:
    buffer = memoryview(bytearray(PIECE_BYTES))
    while size := reader.recv_into(buffer):
        writer.sendall(buffer[:size])
    writer.shutdown(socket.SHUT_WR)


def _sink(client: socket.socket, path: str, direct: bool) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | (os.O_DIRECT if direct else 0)
    handle = os.open(path, flags, 0o600)
    buffer = aligned_buffer(4 * MIB)
    written = filled = 0
    with client:
        while True:
            size = client.recv_into(buffer[filled:])
            filled += size
            if filled == len(buffer) or (not size and filled):
                if direct and written % (64 * MIB) == 0:
                    os.posix_fallocate(handle, written, 64 * MIB)
                end = -(-filled // 4096) * 4096 if direct else filled
                written += os.write(handle, buffer[:end])
                filled = 0
            if not size:
                break
        os.fdatasync(handle)
        client.sendall(b"COPIED\n")
    os.close(handle)


def _source(client: socket.socket, path: str) -> None:
    handle = os.open(path, os.O_RDONLY)
    buffer = memoryview(bytearray(PIECE_BYTES))
    at = 0
    with client:
        while size := os.preadv(handle, [buffer], at):
            client.sendall(buffer[:size])
            at += size
    os.close(handle)


def _blocks(client: socket.socket, path: str) -> None:
    handle = os.open(path, os.O_RDONLY)
    buffer = memoryview(bytearray(BLOCK_BYTES))
    with client:
        while asked := client.recv(OFFSET_BYTES, socket.MSG_WAITALL):
            size = os.preadv(handle, [buffer], int.from_bytes(asked, "little"))
            client.sendall(buffer[:size])
    os.close(handle)
