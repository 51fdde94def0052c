"""Checksums of a body, computed on a thread beside the stream.

```
chunks ──► written ──► the write path
     └──► gathered, up to 512 KiB ──► a thread: MD5, checksum, SHA-256
```

While one portion is being hashed the next one gathers, and the stream waits when that is full too:
a body holds at most two portions. What is short is hashed in place; going to a thread costs more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from typing import Final

from common.limits import KIB
from router.gateway.s3.announced import BodyChecks, Found
from router.gateway.s3.checksums import Buffer

PORTION_BYTES: Final = 512 * KIB
_IN_PLACE_BYTES: Final = 32 * KIB


class Hashing:
    """The checksums of one body.

    Args:
        checks: computes them.
        threads: where that is done.
    """

    def __init__(self, checks: BodyChecks, threads: Executor) -> None:
        self._checks = checks
        self._threads = threads
        self._gathered: list[Buffer] = []
        self._gathered_bytes = 0
        self._under_way: asyncio.Future[None] | None = None

    async def feed(self, chunk: Buffer) -> None:
        """Take the next bytes, which must not change any more."""
        self._gathered.append(chunk)
        self._gathered_bytes += len(chunk)
        if self._gathered_bytes >= PORTION_BYTES:
            await self._wait()
            self._begin()

    async def finish(self, trailers: Mapping[str, str]) -> Found:
        """What the body turned out to have.

        Args:
            trailers: what came behind it.

        Raises:
            S3Error: something else than was announced.
        """
        if self._under_way is None and self._gathered_bytes <= _IN_PLACE_BYTES:
            _update(self._checks, self._gathered)
        else:
            await self._wait()
            self._begin()
            await self._wait()
        return self._checks.finish(trailers)

    def _begin(self) -> None:
        portion, self._gathered, self._gathered_bytes = self._gathered, [], 0
        loop = asyncio.get_running_loop()
        self._under_way = loop.run_in_executor(self._threads, _update, self._checks, portion)

    async def _wait(self) -> None:
        if self._under_way is not None:
            await self._under_way
            self._under_way = None


def _update(checks: BodyChecks, portion: Sequence[Buffer]) -> None:
    for chunk in portion:
        checks.update(chunk)
