"""Versions of names, in Redis."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any, Final

from common.limits import LIST_PAGE_MAX
from common.meta.calls import Calls, bucket_script
from common.meta.files import RedisFiles, ResolveVerb, unpack_held
from common.meta.values import unpack_entry
from common.meta.versions import Latest, VersionEntry, VersionsPage
from common.records import Version
from common.versions import Versioning, read_version_name

_FIELDS: Final = 4


class RedisVersions:
    """`common.meta.versions.Versions` in Redis."""

    def __init__(self, calls: Calls, files: RedisFiles) -> None:
        self._calls = calls
        self._files = files
        self._held = ResolveVerb("held")
        self._latest = ResolveVerb("latest")

    async def held(self, bucket: str, key: str) -> Version | None:
        """What a name of this very bucket holds."""
        return unpack_held(bucket, key, await self._calls.gather(self._held, bucket, (key,)))

    async def latest(self, bucket: str, key: str) -> Latest:
        """What a name holds now, a delete marker too."""
        found = await self._calls.gather(self._latest, bucket, (key,))
        if found is None:
            return Latest("", None)
        told, value, name = found
        versioning: Versioning = told.decode()
        return Latest(versioning, unpack_held(bucket, key, [value, name] if name else value))

    async def list(
        self, bucket: str, prefix: str, after: str, below: int | None, limit: int
    ) -> VersionsPage:
        """Versions of names that start with ``prefix``, a page of them."""
        if not 1 <= limit <= LIST_PAGE_MAX:
            raise ValueError(f"a page has 1…{LIST_PAGE_MAX} entries, not {limit}")
        entries: builtins.list[VersionEntry] = []
        if below is not None and after.startswith(prefix):
            entries = await self._history(bucket, [after.encode()], limit + 1, below)
        names: Sequence[bytes] = ()
        next_name = None
        if len(entries) <= limit:
            names, next_name = await self._files.names(bucket, prefix, after, limit)
            if names:
                entries += await self._history(bucket, names, limit + 1 - len(entries))
        if len(entries) > limit:
            last = entries[limit - 1]
            return VersionsPage(tuple(entries[:limit]), (last.key, last.number))
        return VersionsPage(tuple(entries), None if next_name is None else (next_name, None))

    async def anything(self, bucket: str) -> int | None:
        """When something was written that a bucket holds; None if it holds nothing."""
        value = await self._calls.run(bucket_script("anything", bucket), absent=None)
        entry = None if value is None else unpack_entry(bucket, "", value)
        return None if entry is None else entry.created_ms

    # -- inside ----------------------------------------------------------------------------

    async def _history(
        self, bucket: str, names: Sequence[bytes], limit: int, below: int | None = None
    ) -> builtins.list[VersionEntry]:
        words = ("" if below is None else below, *names)
        reply: Sequence[Any] = await self._calls.run(
            bucket_script("history", bucket, limit, *words), absent=()
        )
        found = []
        rows = (reply[at : at + _FIELDS] for at in range(0, len(reply), _FIELDS))
        for position, latest, name, value in rows:
            key = names[position - 1].decode()
            entry = unpack_entry(bucket, key, value)
            assert entry is not None
            number = read_version_name(name.decode())[1] if name else entry.stamp
            found.append(
                VersionEntry(
                    key=key,
                    number=number,
                    null=not name,
                    latest=bool(latest),
                    size=entry.size,
                    etag=entry.etag,
                    created_ms=entry.created_ms,
                )
            )
        return found
