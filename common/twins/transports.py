"""The two ends of an in-memory connection, with the manners of asyncio's socket transport."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable
from contextvars import Context
from errno import ECONNRESET
from typing import Any, Final, cast

from common.limits import KIB
from common.twins.lines import Line, Mark, Segment, Weather

WRITE_BUFFER_HIGH_BYTES: Final = 64 * KIB
"""What asyncio's own transports take before they pause the writer."""


class MemoryTransport(asyncio.Transport):
    """One end of a connection.

    As with uvloop, a buffer given to `write` may be read later: it must not change meanwhile.
    As with any socket, `close` while bytes of the peer lie unread resets the connection, bytes
    that arrive after `close` are answered with a reset, and an end that has paused reading hears
    of a reset only when it writes or resumes.
    """

    def __init__(
        self, weather: Weather, local: tuple[str, int], peer: tuple[str, int], context: Context
    ) -> None:
        super().__init__({"sockname": local, "peername": peer})
        self._loop = asyncio.get_running_loop()
        self._context = context
        self._weather = weather
        self._protocol = asyncio.BaseProtocol()
        self.line: Line
        """The way to the peer."""
        self._far_line: Line
        self._unread: deque[Segment | memoryview] = deque()
        self._read_handle: asyncio.Handle | None = None
        self._high_bytes = WRITE_BUFFER_HIGH_BYTES
        self._low_bytes = WRITE_BUFFER_HIGH_BYTES // 4
        self._started = False
        self._read_paused = False
        self._write_paused = False
        self._reset_arrived = False
        self._eof_wanted = False
        self._eof_sent = False
        self._closing = False
        self._ended = False
        self._mute = False
        self._dead = False
        self.on_end: Callable[[], None] = lambda: None
        """Called once, when this end is gone."""

    @classmethod
    def pair(
        cls,
        weather: Weather,
        one: tuple[str, int],
        other: tuple[str, int],
        context: Context,
        other_context: Context,
    ) -> tuple[MemoryTransport, MemoryTransport]:
        """Two joined ends; each begins with `start`, and each calls in its own context."""
        a, b = cls(weather, one, other, context), cls(weather, other, one, other_context)
        a.line = b._far_line = Line(weather, b._segment_arrived, a._pumped, context)
        b.line = a._far_line = Line(weather, a._segment_arrived, b._pumped, other_context)
        return a, b

    # Life

    def start(self, protocol: asyncio.BaseProtocol) -> None:
        """Call the protocol's ``connection_made``, then let bytes come in."""
        self._protocol = protocol
        if self._ended:
            return
        self._started = True
        try:
            protocol.connection_made(self)
        except Exception as error:  # noqa: BLE001 – asyncio's contract: report, go on
            self._report(error, "connection_made")
        self._read_soon()

    @property
    def ended(self) -> bool:
        """Whether this end takes part in nothing any more."""
        return self._ended

    def is_closing(self) -> bool:
        """Whether `close`, `abort` or the peer has ended this connection."""
        return self._closing

    def close(self) -> None:
        """Send what is buffered, then end the stream; read no more."""
        if self._closing:
            return
        self._closing = True
        if not self.line.buffered_bytes:
            self._end(None)

    def abort(self) -> None:
        """Forget what is buffered and close.

        The peer may take it for an orderly end, as with a real socket, or for a reset: the seed
        decides. `common.transport.abort` always resets.
        """
        if not self._ended:
            self.line.discard()
            if self._weather.random.random() < 0.5:
                self.line.reset()
            self._end(None)

    def reset(self) -> None:
        """Forget what is buffered; the peer sees a reset."""
        if not self._ended:
            self.line.reset()
            self._end(None)

    def vanish(self) -> None:
        """The process of this end died: no more calls of its protocol; the peer sees a reset."""
        self._mute = True
        self.reset()

    def get_protocol(self) -> asyncio.BaseProtocol:
        """The protocol that hears of this end."""
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Let another protocol take over."""
        self._protocol = protocol

    def _end(self, error: Exception | None) -> None:
        """Stop everything; ``connection_lost`` comes in the next turn of the loop."""
        if self._ended:
            return
        self._ended = self._closing = True
        self.line.discard()
        if any(not isinstance(segment, Mark) for segment in self._unread):
            self.line.reset()
        else:
            self._send_eof()
        self._unread.clear()
        self._loop.call_soon(self._lose, error, context=self._context)

    def _lose(self, error: Exception | None) -> None:
        self.on_end()
        try:
            if self._started and not self._mute:
                self._protocol.connection_lost(error)
        finally:
            self._dead = True

    def _ensure_alive(self) -> None:
        if self._dead and not self._mute and self._weather.late_writes_raise:
            raise RuntimeError(f"unable to perform operation on {self!r}; the handler is closed")

    def _report(self, error: Exception, where: str) -> None:
        self._loop.call_exception_handler(
            {
                "message": f"protocol.{where}() call failed",
                "exception": error,
                "transport": self,
                "protocol": self._protocol,
            }
        )

    # Writing

    def write(self, data: Any) -> None:
        """Buffer ``data``; it sets out as far as the line has room."""
        self._ensure_alive()
        view = memoryview(data).cast("B")
        if self._eof_wanted:
            raise RuntimeError("Cannot call write() after write_eof()")
        if self._closing or not view.nbytes:
            return
        if self._reset_arrived:
            self._end(_reset_by_peer())
            return
        self.line.write(view)
        if self.line.buffered_bytes > self._high_bytes:
            self.line.pump()
            self._pause_writer()
        self.line.pump_soon()

    def writelines(self, list_of_data: Any) -> None:
        """Buffer several pieces in a row."""
        for data in list_of_data:
            self.write(data)

    def can_write_eof(self) -> bool:
        """Half-close is possible."""
        return True

    def write_eof(self) -> None:
        """Half-close: the peer sees the end of the stream, and can still answer."""
        self._ensure_alive()
        if not self._closing and not self._eof_wanted:
            self._eof_wanted = True
            self.line.pump_soon()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set when the protocol is paused and resumed, as in asyncio."""
        if high is None:
            high = WRITE_BUFFER_HIGH_BYTES if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self._high_bytes, self._low_bytes = high, low
        self._pause_writer()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """The low and the high mark."""
        return self._low_bytes, self._high_bytes

    def get_write_buffer_size(self) -> int:
        """Bytes that did not set out yet."""
        return self.line.buffered_bytes

    def _pumped(self) -> None:
        if self._ended:
            return
        if not self.line.buffered_bytes:
            if self._closing:
                self._end(None)
                return
            if self._eof_wanted:
                self._send_eof()
        if self._write_paused and self.line.buffered_bytes <= self._low_bytes:
            self._write_paused = False
            self._tell("resume_writing")

    def _pause_writer(self) -> None:
        if self.line.buffered_bytes > self._high_bytes and not self._write_paused:
            self._write_paused = True
            self._tell("pause_writing")

    def _tell(self, method: str) -> None:
        try:
            getattr(self._protocol, method)()
        except Exception as error:  # noqa: BLE001 – asyncio's contract: report, go on
            self._report(error, method)

    def _send_eof(self) -> None:
        if not self._eof_sent:
            self._eof_sent = True
            self.line.send(Mark.EOF)

    # Reading

    def is_reading(self) -> bool:
        """Whether bytes are handed to the protocol as they come."""
        return not self._read_paused and not self._closing

    def pause_reading(self) -> None:
        """Hand nothing more to the protocol; the line fills up and the peer feels it."""
        self._read_paused = True

    def resume_reading(self) -> None:
        """Go on after `pause_reading`."""
        self._read_paused = False
        self._read_soon()

    def _segment_arrived(self, segment: Segment) -> None:
        if self._ended:
            if isinstance(segment, bytes):
                self.line.reset()
            return
        self._unread.append(segment)
        if segment is Mark.RESET:
            self._reset_arrived = True
            if self.line.buffered_bytes:
                self._end(_reset_by_peer())
                return
        self._read_soon()

    def _read_soon(self) -> None:
        if self._unread and self._started and self._read_handle is None and self.is_reading():
            self._read_handle = self._loop.call_soon(self._read, context=self._context)

    def _read(self) -> None:
        """Hand one segment to the protocol, as one readiness of a socket would."""
        self._read_handle = None
        if not self._unread or not self.is_reading():
            return
        segment = self._unread.popleft()
        try:
            if segment is Mark.RESET:
                self._end(_reset_by_peer())
            elif segment is Mark.EOF:
                if not cast("asyncio.Protocol", self._protocol).eof_received():
                    self.close()
            elif isinstance(self._protocol, asyncio.BufferedProtocol):
                self._fill(self._protocol, segment)
            else:
                self._far_line.read(len(segment))
                cast("asyncio.Protocol", self._protocol).data_received(bytes(segment))
        except Exception as error:  # noqa: BLE001 – asyncio's contract: report, end
            self._report(error, "data_received, buffer_updated or eof_received")
            self.line.reset()
            self._end(error)
        self._read_soon()

    def _fill(self, protocol: asyncio.BufferedProtocol, segment: bytes | memoryview) -> None:
        """Hand over what fits into the protocol's buffer; the rest is the next segment."""
        buffer = memoryview(protocol.get_buffer(-1)).cast("B")
        if not buffer.nbytes:
            raise RuntimeError("get_buffer() returned an empty buffer")
        size = min(buffer.nbytes, len(segment))
        buffer[:size] = segment[:size]
        if size < len(segment):
            self._unread.appendleft(memoryview(segment)[size:])
        self._far_line.read(size)
        protocol.buffer_updated(size)


def _reset_by_peer() -> ConnectionResetError:
    return ConnectionResetError(ECONNRESET, os.strerror(ECONNRESET))
