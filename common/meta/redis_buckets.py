"""Settings of buckets, in Redis."""

from __future__ import annotations

from collections.abc import Sequence

from common.meta.buckets import Configured
from common.meta.calls import Calls, bucket_script
from common.meta.files import RedisFiles
from common.meta.values import pack_kept, pack_settings, unpack_settings
from common.quotas import Use
from common.records import BucketSettings

_FIELDS = 3


class RedisBuckets:
    """`common.meta.buckets.Buckets` in Redis."""

    def __init__(self, calls: Calls, files: RedisFiles) -> None:
        self._calls = calls
        self._files = files

    async def get(self, bucket: str) -> Configured | None:
        """The settings of a bucket; None if it never had any."""
        command = bucket_script("settings", bucket)
        return _configured(bucket, await self._calls.run(command, absent=[None] * _FIELDS))

    async def change(self, record: BucketSettings) -> bool:
        """These are the settings from now on. False if a later change was there first."""
        kept = pack_kept(record)
        command = bucket_script("configure", record.bucket, pack_settings(record), kept)
        return bool(await self._calls.run(command))

    async def followed(self, bucket: str, stamp: int) -> None:
        """All objects of a bucket follow the change of that stamp, if it is still the last one."""
        await self._calls.run(bucket_script("followed", bucket, stamp), absent=0)

    async def configured(self) -> list[Configured]:
        """All buckets that ever had settings of their own, by name."""
        found = [_configured(bucket, fields) for bucket, fields in await self._all()]
        return [each for each in found if each is not None]

    async def names(self) -> list[str]:
        """All buckets that ever held a file or had settings, sorted."""
        return [bucket for bucket, (packed, _, since) in await self._all() if packed or since]

    async def use(self, bucket: str) -> Use:
        """How much a bucket holds."""
        files, size = await self._calls.run(bucket_script("use", bucket), absent=(0, 0))
        return Use(int(files), int(size))

    # -- inside ----------------------------------------------------------------------------

    async def _all(self) -> list[tuple[str, Sequence[bytes | None]]]:
        buckets = await self._files.registered()
        told = await self._calls.run_all([bucket_script("settings", each) for each in buckets])
        return list(zip(buckets, told, strict=True))


def _configured(bucket: str, fields: Sequence[bytes | None]) -> Configured | None:
    packed, followed, _ = fields
    if packed is None:
        return None
    return Configured(unpack_settings(bucket, packed), int(followed or 0))
