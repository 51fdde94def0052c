"""The floor for small objects: accept, read to the end, publish one hash in Redis, answer.

With a log, each object is appended to a file and synced before it is published. Calls that come in
while a sync or a pipeline is under way go together in the next one, as in the store.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop
from redis.asyncio import Redis

from tests.metadata_kit import free_port

_LOG_BYTES = 256 * 1024 * 1024


class BarePipeline:
    """A server of one process.

    Args:
        url: of Redis.
        log: file to append objects to; None to keep nothing.
    """

    def __init__(self, url: str, log: Path | None = None) -> None:
        self.port = free_port()
        self._url = url
        self._log = log

    def run(self) -> None:
        """Serve until the process is ended."""
        uvloop.run(self._serve())

    def wait(self) -> None:
        """Until it accepts."""
        for _ in range(500):
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
            except OSError:
                time.sleep(0.02)
            else:
                return
        raise RuntimeError("the bare pipeline did not start")

    async def _serve(self) -> None:
        steps: list[Callable[[list[_Object]], Awaitable[None]]] = []
        if self._log is not None:
            steps.append(_Log(self._log).append)
        steps.append(_Publisher(Redis.from_url(self._url)).publish)
        first = _Stage(steps[-1], _Object.answer)
        if len(steps) == 2:
            first = _Stage(steps[0], first.take)
        server = await asyncio.get_running_loop().create_server(
            lambda: _Object(first.take), "127.0.0.1", self.port, backlog=1024
        )
        await server.serve_forever()


class _Stage:
    """Does a step for all that came in meanwhile, then hands each on."""

    def __init__(
        self, step: Callable[[list[_Object]], Awaitable[None]], then: Callable[[_Object], None]
    ) -> None:
        self._step = step
        self._then = then
        self._waiting: list[_Object] = []
        self._task: asyncio.Task[None] | None = None

    def take(self, each: _Object) -> None:
        self._waiting.append(each)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._drain())

    async def _drain(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            await self._step(batch)
            for each in batch:
                self._then(each)
        self._task = None


class _Log:
    """Space is set aside first: a file that grows costs more to sync."""

    def __init__(self, path: Path) -> None:
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        os.posix_fallocate(self._handle, 0, _LOG_BYTES)
        os.fsync(self._handle)
        self._at = 0

    async def append(self, batch: list[_Object]) -> None:
        data = b"".join(part for each in batch for part in each.parts)
        await asyncio.get_running_loop().run_in_executor(None, self._write, data)

    def _write(self, data: bytes) -> None:
        if self._at + len(data) > _LOG_BYTES:
            self._at = 0
        self._at += os.pwrite(self._handle, data, self._at)
        os.fdatasync(self._handle)


class _Publisher:
    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._number = 0

    async def publish(self, batch: list[_Object]) -> None:
        pipeline = self._redis.pipeline(transaction=False)
        for each in batch:
            self._number += 1
            size = sum(map(len, each.parts))
            pipeline.hset(f"bare:{self._number}", mapping={"state": "written", "size": size})
        await pipeline.execute()


class _Object(asyncio.Protocol):
    """A connection, and what it sent."""

    def __init__(self, complete: Callable[[_Object], None]) -> None:
        self._complete = complete
        self.parts: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self.parts.append(data)

    def eof_received(self) -> bool:
        if not self.parts:
            return False
        self._complete(self)
        return True

    def answer(self) -> None:
        self._transport.write(b"OBJECT WRITTEN OK 0 1024 00\n")  # type: ignore[attr-defined]
        self._transport.close()
