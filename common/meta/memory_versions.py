"""Versions of names, in memory."""

from __future__ import annotations

import builtins
from collections.abc import Iterator

from common.limits import LIST_PAGE_MAX
from common.meta.memory_state import Bucket, State, Visited
from common.meta.outcomes import Rank
from common.meta.values import kept_versions
from common.meta.versions import Latest, VersionEntry, VersionsPage
from common.records import Version
from common.versions import (
    Versioning,
    has_versions,
    number_of,
    plain_bucket,
    plain_name,
    versions_of,
)


class MemoryVersions:
    """`common.meta.versions.Versions` in memory."""

    def __init__(self, store: Visited) -> None:
        self._store = store

    async def held(self, bucket: str, key: str) -> Version | None:
        """What a name of this very bucket holds."""
        return await self._store.visit(lambda state: _held(state, bucket, key))

    async def latest(self, bucket: str, key: str) -> Latest:
        """What a name holds now, a delete marker too."""
        return await self._store.visit(
            lambda state: Latest(versioning(state, bucket), current(state, bucket, key))
        )

    async def list(
        self, bucket: str, prefix: str, after: str, below: int | None, limit: int
    ) -> VersionsPage:
        """Versions of names that start with ``prefix``, a page of them."""
        if not 1 <= limit <= LIST_PAGE_MAX:
            raise ValueError(f"a page has 1…{LIST_PAGE_MAX} entries, not {limit}")

        def effect(state: State) -> VersionsPage:
            found = [
                entry
                for key, entries in sorted(histories(state, bucket).items())
                for entry in _entries(key, entries)
                if key.startswith(prefix)
                and (key > after or (key == after and below is not None and entry.number < below))
            ]
            if len(found) <= limit:
                return VersionsPage(tuple(found), None)
            last = found[limit - 1]
            return VersionsPage(tuple(found[:limit]), (last.key, last.number))

        return await self._store.visit(effect)

    async def anything(self, bucket: str) -> int | None:
        """When something was written that a bucket holds; None if it holds nothing."""

        def effect(state: State) -> int | None:
            found = histories(state, bucket)
            return found[min(found)][0].created_ms if found else None

        return await self._store.visit(effect)


def versioning(state: State, bucket: str) -> Versioning:
    """How a bucket keeps versions."""
    settings = state.buckets.get(plain_bucket(bucket), Bucket()).settings
    return kept_versions(settings) if settings is not None else ""


def current(state: State, bucket: str, key: str) -> Version | None:
    """What a name holds now, which may be a delete marker."""
    held = [_held(state, bucket, key)]
    kept = state.buckets.get(versions_of(bucket), Bucket()).names.values()
    held += [each.version for each in kept if each.version]
    found = [each for each in held if each and plain_name(each)[1] == key]
    return max(found, key=number_of, default=None)


def rank_of(state: State, version: Version) -> Rank:
    """What a version is among those of its key."""
    bucket, key = plain_name(version)
    others = histories(state, bucket)[key]
    if len(others) == 1:
        return Rank.ALONE
    return Rank.ANY if others[0] is version else Rank.OLDER


def histories(state: State, bucket: str) -> dict[str, builtins.list[Version]]:
    """All versions of all names of a bucket, by key, of each the newest first."""
    found: dict[str, builtins.list[Version]] = {}
    for place in (bucket, versions_of(bucket)):
        for name in state.buckets.get(place, Bucket()).names.values():
            if name.version:
                found.setdefault(plain_name(name.version)[1], []).append(name.version)
    for versions in found.values():
        versions.sort(key=number_of, reverse=True)
    return found


def _held(state: State, bucket: str, key: str) -> Version | None:
    name = state.buckets.get(bucket, Bucket()).names.get(key)
    return name.version if name else None


def _entries(key: str, versions: builtins.list[Version]) -> Iterator[VersionEntry]:
    for each in versions:
        yield VersionEntry(
            key=key,
            number=number_of(each),
            null=not has_versions(each.bucket),
            latest=each is versions[0],
            size=each.size,
            etag=each.etag,
            created_ms=each.created_ms,
        )
