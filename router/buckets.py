"""Which buckets there are: those that somebody created, and those that hold a file.

A bucket that was created has the setting ``created`` among those of its commit record
(`common.records.BucketSettings`), so it is durable, and there again after a rebuild. Whoever writes
``bucket/key`` through another door needs to create nothing: a bucket with a file in it is there
too, until it holds none; once its users set something for it, it counts as created, by nobody, so
that this does not outlive it. Removing a bucket takes the setting away, and with it all that they
set (`Bucket.settings`); what an operator set for the bucket (`router.policies.OPERATORS`) stays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import msgspec

from common.clock import Clock
from common.limits import MIB
from common.meta.buckets import Configured
from common.meta.interface import Metadata
from common.uploads import is_hidden
from router.configure import Configure, Decision
from router.policies import OPERATORS

SETTING: Final = "created"
"""The setting of a bucket that says that it was created, when and by whom."""
_FRESH_MS: Final = 1_000
_REMEMBERED_MAX: Final = 4_096
_REMEMBERED_BYTES_MAX: Final = 16 * MIB
_AT_ONCE: Final = 64

Clear = Callable[[], Awaitable[object]]
"""Takes away what is left of a bucket that is not there."""


class BucketThere(Exception):
    """The bucket that shall be created is there already."""


class BucketFull(Exception):
    """The bucket that shall be removed holds files."""


class BucketMissing(Exception):
    """The bucket whose settings shall be changed is not there."""


@dataclass(frozen=True)
class Bucket:
    """A bucket that is there.

    Attributes:
        name: its name.
        created_ms: when it was created; of one that nobody created the time of a file in it.
        owner: who created it; "" if nobody did.
        location: where its creator wanted it to be, which is here; "" if he did not say.
        settings: what is set for it, by name, as it was when the bucket was looked for. Whoever
            owns a setting reads and checks its value.
    """

    name: str
    created_ms: int
    owner: str = ""
    location: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)


class _Seen(NamedTuple):
    bucket: Bucket
    at_ms: int
    size: int


class Directory:
    """The buckets of a store.

    Args:
        meta: the coordinator.
        configure: changes settings of buckets.
        clock: dates what is created.
    """

    def __init__(self, meta: Metadata, configure: Configure, clock: Clock) -> None:
        self._meta = meta
        self._configure = configure
        self._clock = clock
        self._seen: dict[str, _Seen] = {}
        self._seen_bytes = 0
        self._changes = 0

    async def find(self, name: str) -> Bucket | None:
        """The bucket of that name, None if there is none.

        Raises:
            MetadataUnavailable: Redis does not answer.
        """
        configured = await self._meta.buckets.get(name)
        return await self._of(name, configured)

    async def known(self, name: str) -> Bucket | None:
        """The same for a bucket that was there within the last second, perhaps not any more.

        Its settings are as old: a change through this directory counts at once, one through
        another within a second.
        """
        now_ms = self._clock.monotonic_ms()
        seen = self._seen.get(name)
        if seen is not None and now_ms - seen.at_ms < _FRESH_MS:
            return seen.bucket
        changes = self._changes
        found = await self.find(name)
        if found is not None and changes == self._changes:
            self._remember(found, now_ms)
        return found

    def last(self, name: str) -> Bucket | None:
        """What was last known of a bucket, however long ago; None if nothing is remembered."""
        seen = self._seen.get(name)
        return seen.bucket if seen is not None else None

    async def every(self) -> list[Bucket]:
        """All buckets, by name.

        Raises:
            MetadataUnavailable: Redis does not answer.
        """
        configured = {each.record.bucket: each for each in await self._meta.buckets.configured()}
        names = [each for each in await self._meta.buckets.names() if not is_hidden(each)]
        found: list[Bucket | None] = []
        for first in range(0, len(names), _AT_ONCE):
            part = names[first : first + _AT_ONCE]
            found += await asyncio.gather(*(self._of(name, configured.get(name)) for name in part))
        return [each for each in found if each is not None]

    async def create(
        self,
        name: str,
        owner: str,
        location: str = "",
        settings: Mapping[str, Any] = MappingProxyType({}),
        clear: Clear | None = None,
    ) -> Bucket:
        """Create a bucket; it is durable by the return.

        Args:
            name: of it, checked.
            owner: who does.
            location: kept, and means nothing.
            settings: that it begins with.
            clear: called before, while nobody else creates it: nothing of an earlier one of the
                name goes to its owner.

        Raises:
            BucketThere: it is there already.
            WriteConflict, PutterError: as `Configure.change`.
        """
        made = Bucket(name, self._clock.now_ms(), owner, location)

        async def unless_there(held: Mapping[str, Any]) -> Mapping[str, Any]:
            if created(name, held) is not None or await self._held(name) is not None:
                raise BucketThere(f"bucket {name!r} is there already")
            if clear is not None:
                await clear()
            return {**_without_users(held), **settings, SETTING: _told(made)}

        try:
            await self._configure.decide(name, unless_there)
        finally:
            self._forget(name)
        return made

    async def remove(self, name: str, clear: Clear | None = None) -> bool:
        """Remove a bucket that holds no file.

        A file that is written at the same time stays, and its bucket with it.

        Args:
            name: of it.
            clear: called if it was not there, while nobody creates it: a removal that came to no
                end may have left something.

        Returns:
            False if it was not there.

        Raises:
            BucketFull: it holds files.
            WriteConflict, PutterError: as `Configure.change`.
        """
        there = False

        async def unless_full(settings: Mapping[str, Any]) -> Mapping[str, Any]:
            nonlocal there
            if await self._held(name) is not None:
                raise BucketFull(f"bucket {name!r} holds files")
            there = created(name, settings) is not None
            if not there and clear is not None:
                await clear()
            return _without_users(settings) if there else {}

        try:
            await self._configure.decide(name, unless_full)
        finally:
            self._forget(name)
        return there

    async def change(self, name: str, what: Decision) -> None:
        """Change settings of a bucket that is there; durable by the return.

        Args:
            name: of the bucket.
            what: asked for the changes while nobody else makes any; an exception of it ends the
                call, and nothing changes.

        Raises:
            BucketMissing: it is not there.
            UsageError: its settings would be more than a bucket can have.
            WriteConflict, PutterError: as `Configure.change`.
        """

        async def if_there(settings: Mapping[str, Any]) -> Mapping[str, Any]:
            there = created(name, settings) or await self._held(name)
            if there is None:
                raise BucketMissing(f"there is no bucket {name!r}")
            changes = await what(settings)
            if SETTING in settings or all(value is None for value in changes.values()):
                return changes
            return {**changes, SETTING: _told(there)}

        try:
            await self._configure.decide(name, if_there)
        finally:
            self._forget(name)

    # -- inside ----------------------------------------------------------------------------

    def _remember(self, bucket: Bucket, now_ms: int) -> None:
        self._drop(bucket.name)
        size = len(msgspec.msgpack.encode(bucket.settings))
        if len(self._seen) >= _REMEMBERED_MAX or self._seen_bytes + size > _REMEMBERED_BYTES_MAX:
            self._seen.clear()
            self._seen_bytes = 0
        self._seen[bucket.name] = _Seen(bucket, now_ms, size)
        self._seen_bytes += size

    def _forget(self, name: str) -> None:
        """A change was made, or tried: what was read before counts no more."""
        self._drop(name)
        self._changes += 1

    def _drop(self, name: str) -> None:
        seen = self._seen.pop(name, None)
        self._seen_bytes -= seen.size if seen is not None else 0

    async def _of(self, name: str, configured: Configured | None) -> Bucket | None:
        if configured is None:
            return await self._held(name)
        settings = configured.record.settings
        found = created(name, settings) or await self._held(name)
        return replace(found, settings=settings) if found is not None else None

    async def _held(self, name: str) -> Bucket | None:
        """The bucket as a file in it makes it be there; None if it holds none.

        Old versions and delete markers are something that it holds, too.
        """
        created_ms = await self._meta.versions.anything(name)
        return Bucket(name, created_ms) if created_ms is not None else None


def created(name: str, settings: Mapping[str, Any]) -> Bucket | None:
    """The bucket that these settings say was created; None if they do not."""
    told = settings.get(SETTING)
    if not isinstance(told, dict):
        return None
    created_ms = told.get("ms")
    owner, location = told.get("owner"), told.get("location")
    return Bucket(
        name,
        created_ms if isinstance(created_ms, int) else 0,
        owner if isinstance(owner, str) else "",
        location if isinstance(location, str) else "",
    )


def _told(bucket: Bucket) -> dict[str, Any]:
    """The setting that says that a bucket was created."""
    return {"ms": bucket.created_ms, "owner": bucket.owner, "location": bucket.location}


def _without_users(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The changes that leave only what an operator set: a new bucket begins without the rest."""
    return {name: None for name in settings if name not in OPERATORS}
