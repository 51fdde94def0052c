"""Uploads in parts: begun, gathered, closed.

```
begin ──► upload ──► part, part, … ──► closed: made into a file, or given up
            │          │
            └──────────┴── files of hidden buckets (`common.uploads`)
```

An upload is there while its own name holds something. Closing takes that away, durably, before the
answer; its parts are removed behind it. What a router leaves behind that dies meanwhile, and a part
that comes after its upload was closed, is found by `router.leftovers`.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Final

from common.errors import PutterError, WriteConflict
from common.limits import LIST_PAGE_MAX, UPLOAD_LEASE_MS
from common.logs import get_logger
from common.meta.interface import Entry, Metadata
from common.records import Encryption, Version
from common.uploads import (
    behind_parts,
    is_upload_id,
    part_name,
    parts_of,
    read_upload_name,
    upload_id,
    upload_name,
    uploads_of,
)
from router.blocks import ChunkSource
from router.targets import Target
from router.writes import WritePath

_log = get_logger(__name__)
KEY_HEADER: Final = "x-upload-key"
"""In the version of a part: the key of its upload."""
_AT_ONCE: Final = 64
_AGAIN_S: Final = 0.1
_ROOM_S: Final = 10


class Uploads:
    """The uploads in parts of a store.

    Args:
        meta: the coordinator.
        writes: the write path.
    """

    def __init__(self, meta: Metadata, writes: WritePath) -> None:
        self._meta = meta
        self._writes = writes

    async def begin(
        self,
        bucket: str,
        key: str,
        headers: Mapping[str, str],
        tags: Mapping[str, str] = MappingProxyType({}),
        encryption: Encryption | None = None,
    ) -> str:
        """Begin an upload; it is durable before the answer.

        Args:
            bucket: where its object will be.
            key: of its object.
            headers: what is kept of it.
            tags: of its object.
            encryption: of its object.

        Returns:
            Its ID.

        Raises:
            PutterError: it could not be kept.
        """
        upload = upload_id(self._writes.clock.now_ms(), secrets.token_bytes(10))
        # With a byte: a file without one has records that nobody ever removes.
        source = ChunkSource(_mark(), self._writes.filler())
        target = Target(
            uploads_of(bucket),
            upload_name(key, upload),
            dict(headers),
            tags=dict(tags),
            encryption=encryption,
        )
        try:
            await self._writes.write(source, target)
        finally:
            source.close()
        return upload

    async def find(self, bucket: str, key: str, upload: str) -> Version | None:
        """What is kept of an open upload; None if there is none.

        Raises:
            MetadataUnavailable: Redis does not answer.
        """
        if not is_upload_id(upload):
            return None
        return await self._meta.files.resolve(uploads_of(bucket), upload_name(key, upload))

    async def of(self, bucket: str, names: Sequence[str]) -> list[Version]:
        """What is kept of open uploads, by their names; those that are closed by now are left out.

        Raises:
            MetadataUnavailable: Redis does not answer.
        """
        resolve = self._meta.files.resolve
        found = await asyncio.gather(*(resolve(uploads_of(bucket), name) for name in names))
        return [each for each in found if each is not None]

    async def parts(self, bucket: str, upload: str, numbers: Sequence[int]) -> list[Version | None]:
        """The parts of these numbers; None for each that is not there.

        Raises:
            MetadataUnavailable: Redis does not answer.
        """
        resolve, place = self._meta.files.resolve, parts_of(bucket)
        found: list[Version | None] = []
        for first in range(0, len(numbers), LIST_PAGE_MAX):
            some = numbers[first : first + LIST_PAGE_MAX]
            asked = (resolve(place, part_name(upload, number)) for number in some)
            found += await asyncio.gather(*asked)
        return found

    async def page_of_parts(
        self, bucket: str, upload: str, after: int, limit: int
    ) -> tuple[list[Entry], bool]:
        """The parts behind a number, and whether there are more behind them.

        Raises:
            MetadataUnavailable: Redis does not answer.
        """
        found: list[Entry] = []
        position: str | None = part_name(upload, after)
        while position is not None and len(found) < limit:
            left = limit - len(found)
            page = await self._meta.files.list(parts_of(bucket), f"{upload}/", position, left)
            found += page.entries
            position = page.next_after
        return found, position is not None

    async def close(self, bucket: str, key: str, upload: str) -> bool:
        """Close an upload; its parts are removed in the background, or before if they count.

        Returns:
            False if it was not open.

        Raises:
            PutterError: it may be open still.
        """
        was_open = await self._writes.delete(uploads_of(bucket), upload_name(key, upload))
        removal = self._writes.in_background(self._remove_quietly(bucket, upload))
        if await self._limited(bucket):
            # What comes next may need the room that the parts have taken.
            await asyncio.wait({removal}, timeout=_ROOM_S)
        return was_open

    async def close_all(self, bucket: str) -> int:
        """Give up all uploads of a bucket that is no more; how many there were.

        Raises:
            PutterError: some may be open still.
        """
        count, after = 0, ""
        place: Final = uploads_of(bucket)
        while True:
            page = await self._meta.files.list(place, "", after, LIST_PAGE_MAX)
            for entry in page.entries:
                await self.close(bucket, *read_upload_name(entry.key))
            count += len(page.entries)
            if page.next_after is None:
                return count
            after = page.next_after

    async def remove_part(self, bucket: str, upload: str, number: int) -> None:
        """Remove a part.

        Raises:
            PutterError: it may be there still.
        """
        await self._writes.delete(parts_of(bucket), part_name(upload, number))

    async def remove_parts(self, bucket: str, upload: str) -> int:
        """Remove all parts of an upload that is closed; how many there were.

        Raises:
            PutterError: some may be there still.
        """
        count, after = 0, f"{upload}/"
        place: Final = parts_of(bucket)
        while after < behind_parts(upload):
            page = await self._meta.files.list(place, f"{upload}/", after, _AT_ONCE)
            await asyncio.gather(*(self._writes.delete(place, each.key) for each in page.entries))
            count += len(page.entries)
            after = page.next_after or behind_parts(upload)
        return count

    @asynccontextmanager
    async def alone(self, upload: str, patience_s: float) -> AsyncIterator[None]:
        """Nobody else closes this upload meanwhile.

        Args:
            upload: its ID.
            patience_s: how long to wait for somebody who does.

        Raises:
            WriteConflict: somebody does it for longer.
            MetadataUnavailable: Redis does not answer.
        """
        leases, name = self._meta.leases, f"upload-{upload}"
        holder = f"{self._writes.instance}/{secrets.token_hex(8)}"
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience_s
        while not await leases.acquire(name, holder, UPLOAD_LEASE_MS):
            if loop.time() >= deadline:
                raise WriteConflict(
                    f"upload {upload} is being completed or aborted", hint="try it again"
                )
            await asyncio.sleep(_AGAIN_S)
        keeper = loop.create_task(self._keep(name, holder))
        try:
            yield
        finally:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)
            try:
                await leases.release(name, holder)
            except PutterError as error:
                _log.debug("the lease of an upload runs out by itself", reason=str(error))

    # -- inside ----------------------------------------------------------------------------

    async def _keep(self, name: str, holder: str) -> None:
        while True:
            await asyncio.sleep(UPLOAD_LEASE_MS / 3000)
            try:
                await self._meta.leases.acquire(name, holder, UPLOAD_LEASE_MS)
            except PutterError as error:
                _log.warning("the lease of an upload", reason=str(error))

    async def _limited(self, bucket: str) -> bool:
        try:
            return bool((await self._writes.policies.of(bucket)).quota)
        except PutterError:
            return False

    async def _remove_quietly(self, bucket: str, upload: str) -> None:
        try:
            await self.remove_parts(bucket, upload)
        except PutterError as error:
            _log.info("parts of a closed upload are removed later", reason=str(error))


async def _mark() -> AsyncGenerator[bytes, None]:
    yield b"\0"
