"""The floor for small objects: accept, read to the end, publish one hash in Redis, answer.

Calls that come in while a pipeline is under way go together in the next one, as in the router.
"""

from __future__ import annotations

import asyncio
import socket
import time

import uvloop
from redis.asyncio import Redis

from tests.metadata_kit import free_port


class BarePipeline:
    """A server of one process.

    Args:
        url: of Redis.
    """

    def __init__(self, url: str) -> None:
        self.port = free_port()
        self._url = url

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
        publisher = _Publisher(Redis.from_url(self._url))
        server = await asyncio.get_running_loop().create_server(
            lambda: _Stream(publisher), "127.0.0.1", self.port, backlog=1024
        )
        await server.serve_forever()


class _Publisher:
    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._task: asyncio.Task[None] | None = None
        self._number = 0

    def publish(self, size: int) -> asyncio.Future[None]:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._number += 1
        self._waiting.append((self._number, size, done))
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._drain())
        return done

    async def _drain(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            pipeline = self._redis.pipeline(transaction=False)
            for number, size, _ in batch:
                pipeline.hset(f"bare:{number}", mapping={"state": "written", "size": size})
            await pipeline.execute()
            for _, _, done in batch:
                done.set_result(None)
        self._task = None


class _Stream(asyncio.Protocol):
    def __init__(self, publisher: _Publisher) -> None:
        self._publisher = publisher
        self._parts: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._parts.append(data)

    def eof_received(self) -> bool:
        done = self._publisher.publish(sum(map(len, self._parts)))
        done.add_done_callback(self._answer)
        return True

    def _answer(self, _: asyncio.Future[None]) -> None:
        self._transport.write(b"OBJECT WRITTEN OK 0 1024 00\n")  # type: ignore[attr-defined]
        self._transport.close()
