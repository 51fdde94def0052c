"""Wires between processes of one machine that a test can cut, in one direction or both."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
_PIECE_BYTES = 64 * 1024
_CALL_S = 30.0


class Relay:
    """Takes connections at one address and passes their bytes on to another one.

    While a direction is held, its bytes wait, and so does the end of the stream: nobody is told.

    Args:
        relays: whose loop it runs in.
        here: where it listens.
        there: where it connects to.
    """

    def __init__(self, relays: Relays, here: tuple[str, int], there: tuple[str, int]) -> None:
        self._relays = relays
        self.here = here
        self._there = there
        self._forth = asyncio.Event()
        self._back = asyncio.Event()
        self._forth.set()
        self._back.set()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    def hold(self, *, forth: bool, back: bool) -> None:
        """Hold what comes from those who connect (forth), what is answered (back), or both."""
        self._relays.soon(self._forth.clear if forth else self._forth.set)
        self._relays.soon(self._back.clear if back else self._back.set)

    def release(self) -> None:
        """What was held back goes on."""
        self.hold(forth=False, back=False)

    async def open(self) -> None:
        """Begin to listen."""
        self._server = await asyncio.start_server(self._joined, *self.here)

    async def close(self) -> None:
        """End all of it."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()

    # -- inside ----------------------------------------------------------------------------

    async def _joined(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._there)
        except OSError:
            writer.transport.abort()
            return
        self._writers.add(far_writer)
        loop = asyncio.get_running_loop()
        ways = (
            loop.create_task(self._pass(reader, far_writer, self._forth)),
            loop.create_task(self._pass(far_reader, writer, self._back)),
        )
        self._tasks.update(ways)
        try:
            await asyncio.gather(*ways)
        except OSError:  # a reset: the other side sees one, too
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            writer.transport.abort()
            far_writer.transport.abort()
        finally:
            self._tasks.difference_update(ways)
            self._writers -= {writer, far_writer}
            for each in (writer, far_writer):
                each.close()

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: asyncio.Event
    ) -> None:
        while True:
            data = await reader.read(_PIECE_BYTES)
            await gate.wait()
            if not data:
                if writer.can_write_eof():
                    writer.write_eof()
                return
            writer.write(data)
            await writer.drain()


class Relays:
    """Relays in a thread of their own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._all: list[Relay] = []
        self._thread = threading.Thread(target=self._loop.run_forever, name="relays")
        self._thread.start()

    def add(self, here: tuple[str, int], there: tuple[str, int]) -> Relay:
        """A new one that listens."""
        relay = Relay(self, here, there)
        self._call(relay.open())
        self._all.append(relay)
        return relay

    def soon(self, work: Any) -> None:
        """Call something in the thread of the relays."""
        self._loop.call_soon_threadsafe(work)

    def close(self) -> None:
        """End all of them, and the thread."""
        for relay in self._all:
            self._call(relay.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CALL_S)
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_CALL_S)


def can_listen_on(host: str) -> bool:
    """Whether this machine has an address: all of 127.0.0.0/8 is local on Linux alone."""
    with contextlib.suppress(OSError), socket.create_server((host, 0)):
        return True
    return False
