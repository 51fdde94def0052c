"""Raw frames to one putter: the blocking client of port 5000, without a session.

Each connection has a thread that builds and sends batches of frames and one that reads the acks.
The first waits while more than a window of bytes is unacknowledged, so that memory stays bounded
however slow the putter is.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

from common.errors import EmptyObject, ProtocolError, StorageError, Unavailable, UsageError
from common.limits import ACK_BYTES, CONNECT_TIMEOUT_MS, MIB, RAW_DATA_BYTES
from common.wire import frames
from common.wire.acks import AckDecoder
from putter.client.acked import Part, Tally

BATCH_FRAMES: Final = 360
"""About half a MiB; more gains nothing."""
WINDOW_BYTES: Final = 8 * MIB
SILENCE_S: Final = 30.0
"""A putter that neither takes frames nor sends acks for so long is given up."""
_ACKS_PER_READ: Final = 4096

Advance = Callable[[int], None]
"""Called with the data bytes that were acknowledged since the last call, from any thread."""
Connect = Callable[[str, int], socket.socket]


class Data(Protocol):
    """Bytes to send, from any place, by several threads at once."""

    size: int

    def read(self, offset: int, count: int) -> memoryview:
        """Exactly ``count`` bytes from ``offset`` on."""
        ...


class RandomData:
    """Random bytes of any amount; one block over and over, as only the tickets must differ."""

    def __init__(self, size: int) -> None:
        if size < 1:
            raise EmptyObject("there is nothing to send: the size is 0")
        self.size = size
        self._block = memoryview(os.urandom(min(size, BATCH_FRAMES * RAW_DATA_BYTES)))

    def read(self, offset: int, count: int) -> memoryview:  # noqa: ARG002 - every place is alike
        """``count`` bytes; at most a batch."""
        return self._block[:count]


class FileData:
    """The bytes of a local file, as long as it was when it was opened."""

    def __init__(self, path: Path) -> None:
        """Open the file.

        Raises:
            UsageError: it cannot be opened.
            EmptyObject: it has no bytes.
        """
        self._path = path
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise UsageError(f"cannot read {path}: {error.strerror}") from error
        self.size = os.fstat(self._file.fileno()).st_size
        if self.size == 0:
            self._file.close()
            raise EmptyObject(f"there is nothing to send: {path} is empty")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    def read(self, offset: int, count: int) -> memoryview:
        """Exactly ``count`` bytes from ``offset`` on.

        Raises:
            StorageError: the file cannot be read, or became shorter.
        """
        try:
            data = os.pread(self._file.fileno(), count, offset)
        except OSError as error:
            raise StorageError(f"cannot read {self._path}: {error.strerror}") from error
        if len(data) < count:
            raise StorageError(f"{self._path} became shorter while it was sent")
        return memoryview(data)


class Lane:
    """One connection with its part of the data. `send` and `receive` run in two threads.

    Attributes:
        tally: what the acks said so far.
        error: why the lane ended early; None if it did not.
    """

    def __init__(
        self, sock: socket.socket, part: Part, data: Data, key: bytes, advance: Advance
    ) -> None:
        self.tally = Tally(part)
        self.error: BaseException | None = None
        self._sock = sock
        self._part = part
        self._data = data
        self._key = key
        self._advance = advance
        self._moved = threading.Condition()
        self._stopped = False

    def send(self) -> None:
        """Send all frames, then half-close.

        Raises:
            Unavailable: the connection broke.
            StorageError: the data cannot be read.
        """
        out = memoryview(
            bytearray(frames.wire_bytes(BATCH_FRAMES * RAW_DATA_BYTES, RAW_DATA_BYTES))
        )
        part = self._part
        with self._stopping():
            for at in range(0, part.count, BATCH_FRAMES):
                if not self._may_send(at):
                    return
                offset = at * RAW_DATA_BYTES
                count = min(BATCH_FRAMES * RAW_DATA_BYTES, part.size - offset)
                batch = out[: frames.wire_bytes(count, RAW_DATA_BYTES)]
                data = self._data.read(part.offset + offset, count)
                frames.build(batch, data, part.first + at, RAW_DATA_BYTES, self._key)
                self._sock.sendall(batch)
            self._sock.shutdown(socket.SHUT_WR)

    def receive(self) -> None:
        """Read acks until every ticket has one.

        Raises:
            ProtocolError: an ack that belongs to no ticket of this connection, or a second one.
            Unavailable: the connection broke or ended before.
        """
        decoder = AckDecoder()
        part = self._part
        with self._stopping():
            while not self.tally.complete:
                data = self._sock.recv(_ACKS_PER_READ * ACK_BYTES)
                if not data:
                    raise Unavailable(
                        f"the putter hung up after {self.tally.acked} of {part.count} acks"
                    )
                before = self.tally.acked
                with self._moved:
                    self.tally.take(*decoder.receive(data))
                    self._moved.notify()
                self._advance(self._bytes_of(self.tally.acked) - self._bytes_of(before))
            if decoder.pending_bytes:
                raise ProtocolError("the putter sent more than one ack for each frame")

    def stop(self) -> None:
        """End both threads; may be called from any thread, and again."""
        with self._moved:
            self._stopped = True
            self._moved.notify()
        with suppress(OSError):  # not connected any more: that is what is wanted
            self._sock.shutdown(socket.SHUT_RDWR)

    @contextmanager
    def _stopping(self) -> Iterator[None]:
        """When one thread of the lane fails, end the other; the first failure is the reason."""
        try:
            yield
        except BaseException as error:
            failure = _broken(error) if isinstance(error, OSError) else error
            if not self._stopped:
                self.error = failure
                self.stop()
            raise failure from error

    def _may_send(self, at: int) -> bool:
        """Wait for room in the window; False if the lane was stopped."""
        frames_max = WINDOW_BYTES // RAW_DATA_BYTES
        with self._moved:
            self._moved.wait_for(lambda: self._stopped or at - self.tally.acked <= frames_max)
            return not self._stopped

    def _bytes_of(self, acked: int) -> int:
        return min(acked * RAW_DATA_BYTES, self._part.size)


def connect_tcp(host: str, port: int) -> socket.socket:
    """A connection to a putter.

    Raises:
        Unavailable: nothing answers there.
    """
    try:
        sock = socket.create_connection((host, port), CONNECT_TIMEOUT_MS / 1000)
    except OSError as error:
        raise Unavailable(
            f"cannot connect to a putter at {host}:{port}: {error.strerror or error}",
            hint="start one with `putter server`, or name another one with --putter",
        ) from error
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.settimeout(SILENCE_S)
    return sock


@contextmanager
def connected(
    host: str, port: int, count: int, connect: Connect = connect_tcp
) -> Iterator[list[socket.socket]]:
    """So many connections to one putter, closed afterwards.

    Raises:
        Unavailable: the putter cannot be reached.
    """
    with ExitStack() as stack:
        yield [stack.enter_context(connect(host, port)) for _ in range(count)]


def send_raw(
    sockets: list[socket.socket], parts: list[Part], data: Data, key: bytes, advance: Advance
) -> list[Tally]:
    """Send data as raw frames, one part over each connection, and take the acks.

    Args:
        sockets: from `connected`.
        parts: from `putter.client.acked.plan`, as many as sockets.
        data: what is sent.
        key: checksum subkey.
        advance: told about progress.

    Returns:
        What the acks of each part said; every ticket has one.

    Raises:
        Unavailable: the putter hung up or went silent.
        ProtocolError: it acknowledged what was not sent.
        StorageError: the data cannot be read.
    """
    lanes = [
        Lane(sock, part, data, key, advance) for sock, part in zip(sockets, parts, strict=True)
    ]
    with ThreadPoolExecutor(2 * len(lanes), "raw") as pool:
        try:
            futures = [pool.submit(work) for lane in lanes for work in (lane.receive, lane.send)]
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            for lane in lanes:
                lane.stop()
    for lane in lanes:
        if lane.error is not None:
            raise lane.error
    return [lane.tally for lane in lanes]


def _broken(error: OSError) -> Unavailable:
    if isinstance(error, TimeoutError):
        return Unavailable(f"the putter was silent for {SILENCE_S:.0f} s")
    return Unavailable(f"the connection to the putter broke: {error.strerror or error}")
