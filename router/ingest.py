"""The door on 5001: raw byte streams in, one line back.

Connect, send bytes, half-close. The answer is one line, then the connection ends:

```
OBJECT WRITTEN OK <ObjectID> <size> <blake3-hex-of-all-bytes>
OBJECT WRITE FAILED <code> <reason>
```

This port knows only the end of the stream: a dying client's FIN looks like a finished file, so
senders compare size and hash in the answer. A reset, or silence past the limit, fails the object.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, cast

from common.callers import CallerLimits, Served
from common.errors import ClientGone, IdleTimeout, PutterError, ShuttingDown
from common.logs import get_logger
from common.metrics import Metrics
from common.requests import bind_request
from common.transport import Listener, Network
from router.blocks import Block
from router.origin import Origin, bind_origin
from router.targets import Target, Written, as_putter_error
from router.writes import WritePath

_log = get_logger(__name__)
BUCKET: Final = "objects"
_LINGER_MS: Final = 2_000
_DISCARDED: Final = bytearray(64 * 1024)
"""Where bytes of all connections go that nobody looks at."""


def success_line(written: Written) -> bytes:
    """The answer to a stream that is durable and visible."""
    size = written.version.size
    return f"OBJECT WRITTEN OK {written.object_id} {size} {written.digest.hex()}\n".encode()


def failure_line(error: PutterError) -> bytes:
    """The answer to a stream of which nothing is kept; always one line."""
    reason = error.message if not error.hint else f"{error.message} ({error.hint})"
    return f"OBJECT WRITE FAILED {error.code} {' '.join(reason.split())}\n".encode()


class IngestPort:
    """The listener.

    Args:
        path: where streams go.
        network: the transport seam.
        metrics: counters.
        idle_ms: silence after which a stream fails.
        limits: connections beyond are turned away with a line that says so.
    """

    def __init__(
        self,
        path: WritePath,
        network: Network,
        metrics: Metrics,
        *,
        idle_ms: int,
        limits: CallerLimits,
    ) -> None:
        self.path: Final = path
        self.metrics: Final = metrics
        self.idle_ms: Final = idle_ms
        self._network = network
        self.served: Final[Served[IngestConnection]] = Served("ingest", metrics, limits)
        self._listener: Listener | None = None
        self.count_bytes: Final = metrics.ingest_bytes.labels("ingest").inc

    @property
    def port(self) -> int:
        """The port it listens on, once started."""
        return self._listener.port if self._listener is not None else 0

    async def start(self, host: str, port: int, *, reuse_port: bool = False) -> None:
        """Listen.

        Args:
            host: address to listen on.
            port: 0 means any free one.
            reuse_port: share the port with other processes that ask for the same.

        Raises:
            Unavailable: the port is taken.
        """
        self._listener = await self._network.listen(
            lambda: IngestConnection(self),
            host,
            port,
            reuse_port=reuse_port,
            eager=True,
            flag="--ingest-port",
        )

    async def close_listener(self) -> None:
        """Accept nothing new."""
        if self._listener is not None:
            await self._listener.close()
            self._listener = None

    async def stop(self) -> None:
        """End what is still open: streams that did not finish get a line that says so."""
        tasks = [connection.end() for connection in self.served.all()]
        await asyncio.gather(*(task for task in tasks if task is not None), return_exceptions=True)
        self.served.leaving.abort()

    def silent(self, peer: object) -> None:
        """Count one whose sender says nothing any more."""
        self.metrics.refused.labels("ingest", "idle").inc()
        _log.info("gave up a silent stream", peer=str(peer), idle_ms=self.idle_ms)


class IngestConnection(asyncio.BufferedProtocol):
    """One raw stream; also the `router.blocks.Source` that the write path reads."""

    def __init__(self, port: IngestPort) -> None:
        self._port = port
        self._filler = port.path.filler()
        self._blocks: deque[Block] = deque()
        self._ended = False
        self._answered = False
        self._error: PutterError | None = None
        self._paused = False
        self._changed: asyncio.Future[None] | None = None
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._heard_s = 0.0
        self._peer: object = None

    # -- the protocol's side ---------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody connected; nothing is set up before the first byte."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        loop = asyncio.get_running_loop()
        self._heard_s = loop.time()
        self._peer = self._transport.get_extra_info("peername")
        refusal = self._port.served.enter(self, self._peer)
        if refusal is not None:
            self._answered = True
            self._transport.write(failure_line(refusal))
            self._port.served.leaving.add(self._transport)
            return
        self._timer = loop.call_later(self._port.idle_ms / 1000, self._check_idle)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        """Where the next bytes go."""
        if self._answered or self._error is not None:
            return memoryview(_DISCARDED)
        return self._filler.free()

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes came."""
        if self._answered or self._error is not None:
            return
        self._heard_s = asyncio.get_running_loop().time()
        block = self._filler.advance(nbytes)
        if block is not None:
            self._port.count_bytes(len(block.data))
            self._blocks.append(block)
            self._start()
            self._wake()
            self._pause()

    def eof_received(self) -> bool:
        """The stream is complete.

        Returns:
            True: the connection stays open for the answer.
        """
        if self._answered:
            return False
        if self._ended:
            return True
        self._ended = True
        block = self._filler.take()
        if block is not None:
            block.last = True
            self._port.count_bytes(len(block.data))
            self._blocks.append(block)
        self._start()
        self._wake()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone. A stream that was complete is stored all the same."""
        self._port.served.leave(self, self._peer)
        if self._transport is not None:
            self._port.served.leaving.remove(self._transport)
        if self._timer is not None:
            self._timer.cancel()
        if not self._ended and self._error is None and not self._answered:
            self._error = ClientGone(f"the connection was reset mid-stream ({exc or 'closed'})")
        self._wake()
        self._transport = None
        if self._task is None:
            self._filler.drop()

    # -- the write path's side -------------------------------------------------------------

    async def next_block(self) -> Block | None:
        """See `router.blocks.Source`."""
        while True:
            if self._error is not None:
                raise self._error
            if self._blocks:
                block = self._blocks.popleft()
                if not self._blocks:
                    self._resume()
                return block
            if self._ended:
                return None
            self._changed = asyncio.get_running_loop().create_future()
            await self._changed

    def end(self) -> asyncio.Task[None] | None:
        """The router stops now."""
        if not self._ended and self._error is None:
            self._error = ShuttingDown("the router is shutting down", hint="send it again")
        self._wake()
        if self._task is None and self._transport is not None:
            self._transport.close()
        return self._task

    # -- inside ----------------------------------------------------------------------------

    def _start(self) -> None:
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._store())

    async def _store(self) -> None:
        request = bind_request()
        host = self._peer[0] if isinstance(self._peer, tuple) else ""
        bind_origin(Origin(address=str(host), request=request))
        try:
            written = await self._port.path.write(self, Target(BUCKET))
            line = success_line(written)
        except PutterError as error:
            _log.info(
                "a raw stream failed", peer=str(self._peer), code=error.code, reason=error.message
            )
            line = failure_line(error)
        except asyncio.CancelledError as error:
            self._answer(failure_line(as_putter_error(error)))
            raise
        except Exception as error:  # noqa: BLE001 - the client gets a line, the log the trace
            _log.exception("a write failed unexpectedly")
            line = failure_line(as_putter_error(error))
        finally:
            while self._blocks:
                self._blocks.popleft().release()
            self._filler.drop()
        self._answer(line)

    def _answer(self, line: bytes) -> None:
        self._answered = True
        if self._timer is not None:
            self._timer.cancel()
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        transport.write(line)
        if self._ended:
            transport.close()
            return
        # The client is still sending. Closing now would reset the connection, and the reset
        # could overtake the answer: half-close, and read a while into the void.
        transport.write_eof()
        self._resume()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(_LINGER_MS / 1000, transport.abort)

    def _wake(self) -> None:
        changed, self._changed = self._changed, None
        if changed is not None and not changed.done():
            changed.set_result(None)

    def _pause(self) -> None:
        if not self._paused and self._transport is not None and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._paused and self._transport is not None and not self._transport.is_closing():
            self._paused = False
            self._heard_s = asyncio.get_running_loop().time()
            self._transport.resume_reading()

    def _check_idle(self) -> None:
        if self._ended or self._answered or self._transport is None:
            return
        loop = asyncio.get_running_loop()
        if self._paused:
            self._heard_s = loop.time()
        left_s = self._heard_s + self._port.idle_ms / 1000 - loop.time()
        if left_s > 0:
            self._timer = loop.call_later(left_s, self._check_idle)
            return
        self._port.silent(self._peer)
        self._error = IdleTimeout(
            f"no byte for {self._port.idle_ms} ms",
            hint="half-close after the last byte, as nc -N does",
        )
        if self._task is None:
            self._answer(failure_line(self._error))
        else:
            self._wake()
