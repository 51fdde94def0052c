"""Settings of buckets, in memory."""

from __future__ import annotations

from common.meta.buckets import Configured
from common.meta.memory_state import Bucket, State, Visited
from common.meta.memory_use import use_of
from common.meta.values import pack_settings
from common.quotas import Use
from common.records import BucketSettings


class MemoryBuckets:
    """`common.meta.buckets.Buckets` in memory."""

    def __init__(self, store: Visited) -> None:
        self._store = store

    async def get(self, bucket: str) -> Configured | None:
        """The settings of a bucket; None if it never had any."""
        return await self._store.visit(
            lambda state: _configured(state.buckets.get(bucket, Bucket()))
        )

    async def change(self, record: BucketSettings) -> bool:
        """These are the settings from now on. False if a later change was there first."""
        pack_settings(record)
        return await self._store.visit(lambda state: configure(state.bucket(record.bucket), record))

    async def followed(self, bucket: str, stamp: int) -> None:
        """All objects of a bucket follow the change of that stamp, if it is still the last one."""

        def effect(state: State) -> None:
            known = state.buckets.get(bucket)
            if known is not None and known.settings and known.settings.stamp == stamp:
                known.followed = stamp

        await self._store.visit(effect)

    async def configured(self) -> list[Configured]:
        """All buckets that ever had settings of their own, by name."""

        def effect(state: State) -> list[Configured]:
            found = [_configured(bucket) for _, bucket in sorted(state.buckets.items())]
            return [each for each in found if each is not None]

        return await self._store.visit(effect)

    async def names(self) -> list[str]:
        """All buckets that ever held a file or had settings, sorted."""
        return await self._store.visit(
            lambda state: sorted(
                name for name, each in state.buckets.items() if each.held or each.settings
            )
        )

    async def use(self, bucket: str) -> Use:
        """How much a bucket holds, now."""
        return await self._store.visit(lambda state: use_of(state, bucket))


def configure(bucket: Bucket, record: BucketSettings) -> bool:
    """Settings of a bucket from now on; False if a later change was there first."""
    if bucket.settings is not None and bucket.settings.stamp > record.stamp:
        return False
    bucket.settings = record
    return True


def _configured(bucket: Bucket) -> Configured | None:
    return Configured(bucket.settings, bucket.followed) if bucket.settings else None
