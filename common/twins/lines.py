"""The lines of in-memory connections: bytes buffered, bytes under way, in order.

```
write() ─► buffered ──room?──► under way ──latency──► arrived() ─► read()
           (pauses the writer)  (cut at random places)
```

A line carries at most ``window_bytes`` that the far end has not read. What does not fit stays
buffered, which is what pauses the writer: a slow reader is felt as over TCP.

Where TCP leaves a choice, the seed takes it: how long a segment travels, where the stream is cut,
how much of what was under way is lost by a reset.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass
from enum import Enum, auto
from typing import TypeAlias

from common.limits import KIB


@dataclass(frozen=True)
class Weather:
    """How the lines behave; every choice comes from ``random``.

    Attributes:
        random: makes the choices.
        latency_us_min: what a segment travels at least.
        latency_us_max: and at most.
        chunk_bytes_max: the largest piece that arrives at once.
        window_bytes: what a line carries before its writer has to wait.
        late_writes_raise: whether writing after ``connection_lost`` is a `RuntimeError`, as on
            uvloop, or ignored, as on asyncio's own loop.
    """

    random: random.Random
    latency_us_min: int = 20
    latency_us_max: int = 2_000
    chunk_bytes_max: int = 64 * KIB
    window_bytes: int = 256 * KIB
    late_writes_raise: bool = True

    def latency_s(self) -> float:
        """How long the next segment travels."""
        return self.random.randint(self.latency_us_min, self.latency_us_max) / 1_000_000

    def chunk_bytes(self) -> int:
        """Where the stream is cut next: mostly anywhere, now and then after a few bytes."""
        if self.random.random() < 0.1:
            return self.random.randint(1, min(16, self.chunk_bytes_max))
        return self.random.randint(1, self.chunk_bytes_max)


class Mark(Enum):
    """What travels besides bytes."""

    EOF = auto()
    RESET = auto()


Segment: TypeAlias = bytes | Mark


class Line:
    """One direction of a connection.

    Args:
        weather: how it behaves.
        arrived: takes each segment at the far end.
        pumped: called at the near end whenever buffered bytes may have set out.
        context: in which ``pumped`` is called.

    Attributes:
        extra_s: how much longer than the weather says what sets out now travels.
    """

    def __init__(
        self,
        weather: Weather,
        arrived: Callable[[Segment], None],
        pumped: Callable[[], None],
        context: Context,
    ) -> None:
        self._context = context
        self._weather = weather
        self._arrived = arrived
        self._pumped = pumped
        self._loop = asyncio.get_running_loop()
        self._buffered: deque[memoryview] = deque()
        self.buffered_bytes = 0
        self._pump_handle: asyncio.Handle | None = None
        self._under_way: deque[tuple[float, Segment]] = deque()
        self._unread_bytes = 0
        self._last_s = 0.0
        self.extra_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._held = False
        self._broken = False

    # The near end

    def write(self, view: memoryview) -> None:
        """Buffer bytes; they set out at the next `pump`, and must not change until then."""
        self._buffered.append(view)
        self.buffered_bytes += view.nbytes

    def pump_soon(self) -> None:
        """Call `pump` in the next turn of the loop."""
        if self._pump_handle is None:
            self._pump_handle = self._loop.call_soon(self._pump_now, context=self._context)

    def pump(self) -> None:
        """Let as many buffered bytes set out as the line takes."""
        while self._buffered and (room := self._weather.window_bytes - self._unread_bytes) > 0:
            self.send(self._take(min(room, self._weather.chunk_bytes())))

    def send(self, segment: Segment) -> None:
        """Put a segment behind those under way; lost when the line is broken."""
        if self._broken:
            return
        if isinstance(segment, bytes):
            self._unread_bytes += len(segment)
        sets_out_s = self._loop.time() + self.extra_s
        self._last_s = max(self._last_s, sets_out_s + self._weather.latency_s())
        self._under_way.append((self._last_s, segment))
        self._schedule()

    def discard(self) -> None:
        """Forget what is buffered."""
        self._buffered.clear()
        self.buffered_bytes = 0

    def reset(self) -> None:
        """Break the line: lose some of what is under way, then tell the far end."""
        if self._broken:
            return
        self.discard()
        for _ in range(self._weather.random.randint(0, len(self._under_way))):
            self._under_way.pop()
        self.send(Mark.RESET)
        self._broken = True

    def _pump_now(self) -> None:
        self._pump_handle = None
        self.pump()
        self._pumped()

    def _take(self, size: int) -> bytes:
        """At most ``size`` of the buffered bytes, across the borders of writes."""
        pieces = []
        while size and self._buffered:
            view = self._buffered.popleft()
            pieces.append(bytes(view[:size]))
            if view.nbytes > size:
                self._buffered.appendleft(view[size:])
            size -= len(pieces[-1])
        taken = b"".join(pieces)
        self.buffered_bytes -= len(taken)
        return taken

    # The far end

    def read(self, size: int) -> None:
        """The far end took ``size`` bytes out of what arrived."""
        self._unread_bytes -= size
        if self._buffered:
            self.pump_soon()

    # The weather

    def hold(self) -> None:
        """Nothing arrives any more until `release`; nothing is lost."""
        self._held = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def release(self) -> None:
        """What was held back arrives."""
        self._held = False
        self._schedule()

    def _schedule(self) -> None:
        if self._under_way and self._timer is None and not self._held:
            when_s, _ = self._under_way[0]
            self._timer = self._loop.call_at(when_s, self._deliver)

    def _deliver(self) -> None:
        self._timer = None
        if self._under_way:  # a reset may have emptied the line since
            _, segment = self._under_way.popleft()
            self._arrived(segment)
        self._schedule()
