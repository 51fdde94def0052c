"""Raw frames over real sockets to a small putter that checks every one of them."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from common.errors import EmptyObject, ProtocolError, StorageError, Unavailable, UsageError
from common.limits import RAW_DATA_BYTES, RAW_FRAME_BYTES
from common.wire import acks, frames
from putter.client.acked import plan, total
from putter.client.raw import (
    BATCH_FRAMES,
    WINDOW_BYTES,
    FileData,
    RandomData,
    connect_tcp,
    connected,
    send_raw,
)

KEY = bytes(range(32))
Answer = Callable[[socket.socket, bytes], None]


class Putter:
    """Takes frames on a port of its own until their sender half-closes, then answers.

    Attributes:
        stored: data by ticket number, of good frames.
        answer: what is sent back for the whole of a connection's bytes.
    """

    def __init__(self) -> None:
        self.stored: dict[int, bytes] = {}
        self.answer: Answer = self.good
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    def good(self, sock: socket.socket, wire: bytes) -> None:
        fields, numbers, statuses = frames.check_any(
            memoryview(bytearray(wire)), RAW_DATA_BYTES, [KEY]
        )
        with self._lock:
            for at, number in enumerate(numbers.tolist()):
                frame = wire[at * RAW_FRAME_BYTES : (at + 1) * RAW_FRAME_BYTES]
                if statuses[at] == 0:
                    self.stored[number] = frame[16:]
        sock.sendall(acks.encode(fields, statuses))

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in [self._accepting, *self._threads]:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=[sock])
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        with closing(sock):
            # Acks by the MiB of whole frames, as a window must move before the end of the stream.
            wire = bytearray()
            while data := sock.recv(1 << 20):
                wire += data
                whole = len(wire) // RAW_FRAME_BYTES * RAW_FRAME_BYTES
                if whole >= 1 << 20:
                    self.answer(sock, bytes(wire[:whole]))
                    del wire[:whole]
            if wire:
                self.answer(sock, bytes(wire))


@pytest.fixture
def putter() -> Iterator[Putter]:
    made = Putter()
    yield made
    made.close()


def send(putter: Putter, data: RandomData | FileData, connections: int = 1, key: bytes = KEY):
    parts = plan(data.size, connections)
    done: list[int] = []
    with connected("127.0.0.1", putter.port, len(parts)) as sockets:
        tallies = send_raw(sockets, parts, data, key, done.append)
    return parts, total(tallies), sum(done)


@pytest.mark.parametrize("connections", [1, 3])
@pytest.mark.parametrize(
    "size", [1, 1457, 1458, 1459, BATCH_FRAMES * RAW_DATA_BYTES + 1, 3_000_000]
)
def test_every_byte_arrives_under_its_ticket(
    putter: Putter, tmp_path: Path, size: int, connections: int
) -> None:
    content = os.urandom(size)
    (tmp_path / "f").write_bytes(content)
    with FileData(tmp_path / "f") as data:
        parts, counts, done = send(putter, data, connections)
    assert counts == {0: frames.frame_count(size, RAW_DATA_BYTES)}
    assert done == size
    stored = [putter.stored[number] for number in sorted(putter.stored)]
    assert b"".join(stored) == content
    assert min(putter.stored) == parts[0].first


def test_more_than_a_window_flows(putter: Putter) -> None:
    _, counts, done = send(putter, RandomData(2 * WINDOW_BYTES))
    assert done == 2 * WINDOW_BYTES
    assert list(counts) == [0]


def test_another_key_is_a_mismatch_for_every_frame(putter: Putter) -> None:
    _, counts, _ = send(putter, RandomData(10_000), key=bytes(32))
    assert counts == {1: 7}
    assert putter.stored == {}


def test_a_putter_that_hangs_up(putter: Putter) -> None:
    putter.answer = lambda sock, _: None
    with pytest.raises(Unavailable, match="hung up after 0 of 7 acks"):
        send(putter, RandomData(10_000))


def test_a_putter_that_resets(putter: Putter) -> None:
    def reset(sock: socket.socket, _: bytes) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        sock.close()

    putter.answer = reset
    with pytest.raises(Unavailable):
        send(putter, RandomData(10_000))


def test_an_ack_for_another_ticket(putter: Putter) -> None:
    putter.answer = lambda sock, _: sock.sendall(acks.encode_range(5, 1, 0))
    with pytest.raises(ProtocolError, match="not sent"):
        send(putter, RandomData(10_000))


def test_an_ack_too_many(putter: Putter) -> None:
    def twice(sock: socket.socket, wire: bytes) -> None:
        field = np.frombuffer(wire[:8], np.uint8).reshape(1, 8)
        ack = acks.encode(field, np.zeros(1, np.uint8))
        sock.sendall(ack + ack)

    putter.answer = twice
    with pytest.raises(ProtocolError, match="twice"):
        send(putter, RandomData(10_000))


def test_a_file_that_became_shorter(putter: Putter, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * 10_000)
    with FileData(tmp_path / "f") as data:
        os.truncate(tmp_path / "f", 5)
        with pytest.raises(StorageError, match="became shorter"):
            send(putter, data)


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(Unavailable, match="cannot connect to a putter") as caught:
        connect_tcp("127.0.0.1", port)
    assert "putter server" in caught.value.hint


def test_data_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with pytest.raises(EmptyObject):
        FileData(tmp_path / "empty")
    with pytest.raises(EmptyObject):
        RandomData(0)
    with pytest.raises(UsageError, match="cannot read"):
        FileData(tmp_path / "none")
