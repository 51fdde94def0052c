"""Protocols that write down what they hear, for the tests of transports."""

from __future__ import annotations

import asyncio
from typing import cast


class _Record:
    """What both kinds have in common.

    Attributes:
        events: what happened, in order; bytes that follow each other are one entry.
        received: all bytes so far.
        lost: done when the connection is gone, with the error or None.
        ended: set when the peer half-closed.
    """

    def __init__(self, *, keep_open: bool = True) -> None:
        self.events: list[str] = []
        self.received = bytearray()
        self.keep_open = keep_open
        self.made = asyncio.Event()
        self.ended = asyncio.Event()
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self.writable = asyncio.Event()
        self.writable.set()
        self.transport: asyncio.Transport
        self._more = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass of it
        self.events.append("made")
        self.made.set()

    def eof_received(self) -> bool:
        self.events.append("eof")
        self.ended.set()
        self._more.set()
        return self.keep_open

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.append(f"lost {type(exc).__name__}" if exc else "lost")
        self.lost.set_result(exc)
        self._more.set()

    def pause_writing(self) -> None:
        self.events.append("pause")
        self.writable.clear()

    def resume_writing(self) -> None:
        self.events.append("resume")
        self.writable.set()

    def take(self, data: bytes | memoryview) -> None:
        if self.events[-1] != "bytes":
            self.events.append("bytes")
        self.received += data
        self._more.set()

    async def has(self, size: int) -> bytes:
        """Wait for so many bytes in total; fails when the stream ends before."""
        while len(self.received) < size:
            assert not self.ended.is_set(), f"ended after {len(self.received)} bytes"
            assert not self.lost.done(), f"lost after {len(self.received)} bytes"
            self._more.clear()
            await self._more.wait()
        return bytes(self.received)

    async def send(self, data: bytes, piece: int = 256 * 1024) -> None:
        """Write piece by piece, waiting whenever the transport asks for it."""
        for begin in range(0, len(data), piece):
            await self.writable.wait()
            self.transport.write(data[begin : begin + piece])


class Recorder(_Record, asyncio.Protocol):
    """Takes bytes as they come."""

    def data_received(self, data: bytes) -> None:
        self.take(data)


class BufferedRecorder(_Record, asyncio.BufferedProtocol):
    """Takes bytes in a buffer of its own, of an awkward size."""

    def __init__(self, *, keep_open: bool = True, buffer_bytes: int = 1474) -> None:
        super().__init__(keep_open=keep_open)
        self._buffer = bytearray(buffer_bytes)

    def get_buffer(self, sizehint: int) -> memoryview:
        return memoryview(self._buffer)

    def buffer_updated(self, nbytes: int) -> None:
        self.take(memoryview(self._buffer)[:nbytes])
