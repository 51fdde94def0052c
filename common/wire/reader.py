"""Cuts a session's byte stream into messages; the format is drawn in `common.wire.session`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from common.errors import ProtocolError, PutterError, TooLarge
from common.limits import MESSAGE_HEADER_BYTES_MAX, MESSAGE_PAYLOAD_BYTES_MAX
from common.wire.session import PRELUDE, PRELUDE_BYTES, AnyMessage, Event, decode


class Buffers:
    """Where a `MessageReader` gets memory for payloads. See `common.buffers.BufferPool`."""

    def take(self, size: int) -> memoryview:
        """A writable buffer of ``size`` bytes."""
        return memoryview(bytearray(size))


class MessageReader:
    """Cuts a byte stream into messages; payloads are received where they stay.

    Use it like an `asyncio.BufferedProtocol`: fill what `get_buffer` returns, then tell
    `buffer_updated` how much came.
    """

    _STAGING: Final = 64 * 1024

    def __init__(
        self,
        buffers: Buffers | None = None,
        *,
        header_bytes_max: int = MESSAGE_HEADER_BYTES_MAX,
        payload_bytes_max: int = MESSAGE_PAYLOAD_BYTES_MAX,
    ) -> None:
        self._buffers = buffers or Buffers()
        self._header_max = header_bytes_max
        self._payload_max = payload_bytes_max
        self._staging = bytearray(0)
        self._filled = 0
        self._message: AnyMessage | None = None
        self._payload: memoryview | None = None
        self._received = 0

    def limit(self, header_bytes_max: int, payload_bytes_max: int) -> None:
        """Change the limits, as when the greeting is over."""
        self._header_max = header_bytes_max
        self._payload_max = payload_bytes_max

    @property
    def idle(self) -> bool:
        """Whether the stream stands between two messages."""
        return self._filled == 0 and self._message is None

    def get_buffer(self) -> memoryview:
        """Where the next bytes go; never empty."""
        if self._payload is not None:
            return self._payload[self._received :]
        if not self._staging:
            self._staging = bytearray(self._STAGING)
        return memoryview(self._staging)[self._filled :]

    def feed(self, data: bytes) -> Iterable[Event]:
        """Take bytes that were received elsewhere; see `buffer_updated`."""
        out: list[Event] = []
        view = memoryview(data)
        while view:
            buffer = self.get_buffer()
            size = min(len(buffer), len(view))
            buffer[:size] = view[:size]
            view = view[size:]
            try:
                out.extend(self.buffer_updated(size))
            except PutterError as error:
                if not out:
                    raise
                return _ending(out, error)
        return out

    def buffer_updated(self, size: int) -> Iterable[Event]:
        """``size`` bytes were put into the buffer.

        However the stream is cut, the same messages come out of it, and then the same error:
        one behind complete messages is raised when they have been iterated over.

        Returns:
            The messages that are complete now, each with its payload.

        Raises:
            ProtocolError: not a message; the stream cannot be re-synchronised.
            TooLarge: announced lengths are past the limits.
        """
        if self._payload is not None and self._message is not None:
            self._received += size
            if self._received < len(self._payload):
                return []
            done = [(self._message, self._payload)]
            self._message = self._payload = None
            return done
        self._filled += size
        return self._parse()

    def _parse(self) -> Iterable[Event]:
        out: list[Event] = []
        try:
            self._parse_into(out)
        except PutterError as error:
            if not out:
                raise
            return _ending(out, error)
        return out

    def _parse_into(self, out: list[Event]) -> None:
        position = 0
        view = memoryview(self._staging)
        while self._filled - position >= PRELUDE_BYTES:
            header_bytes, payload_bytes = PRELUDE.unpack_from(view, position)
            self._check(header_bytes, payload_bytes)
            start = position + PRELUDE_BYTES
            if self._filled - start < header_bytes:
                break
            message = decode(view[start : start + header_bytes])
            position = start + header_bytes
            if payload_bytes == 0:
                out.append((message, memoryview(b"")))
                continue
            payload = self._buffers.take(payload_bytes)
            here = min(self._filled - position, payload_bytes)
            payload[:here] = view[position : position + here]
            position += here
            if here < payload_bytes:
                self._message, self._payload, self._received = message, payload, here
                break
            out.append((message, payload))
        self._compact(view, position)

    def _compact(self, view: memoryview, position: int) -> None:
        left = self._filled - position
        needed = PRELUDE_BYTES
        if left >= PRELUDE_BYTES:
            needed += PRELUDE.unpack_from(view, position)[0]
        if needed > len(self._staging):
            grown = bytearray(needed + self._STAGING)
            grown[:left] = view[position : self._filled]
            self._staging = grown
        elif left == 0 and len(self._staging) > self._STAGING:
            self._staging = bytearray(0)
        elif position:
            view[:left] = bytes(view[position : self._filled])
        self._filled = left

    def _check(self, header_bytes: int, payload_bytes: int) -> None:
        if header_bytes == 0:
            raise ProtocolError("a message without a header")
        if header_bytes > self._header_max or payload_bytes > self._payload_max:
            raise TooLarge(
                f"a message announces {header_bytes} + {payload_bytes} bytes; "
                f"{self._header_max} + {self._payload_max} are allowed here"
            )


def _ending(events: list[Event], error: PutterError) -> Iterator[Event]:
    yield from events
    raise error
