"""Access keys, in Redis."""

from __future__ import annotations

from common.meta.calls import Calls, bucket_script
from common.meta.values import pack_access, unpack_access
from common.records import KEYS_BUCKET, AccessKey


class RedisAccess:
    """`common.meta.access.Access` in Redis."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def get(self, access_key_id: str) -> AccessKey | None:
        """The last record of a key, also of one that was deleted; None: never heard of."""
        command = bucket_script("keyed", KEYS_BUCKET, access_key_id)
        (value,) = await self._calls.run(command, absent=[None])
        return None if value is None else unpack_access(access_key_id, value)

    async def change(self, record: AccessKey) -> bool:
        """This is the key from now on. False if a later change was there first."""
        command = bucket_script("rekey", KEYS_BUCKET, record.key, pack_access(record))
        return bool(await self._calls.run(command))

    async def every(self) -> list[AccessKey]:
        """The last records of all keys, also of those that were deleted, by id."""
        pairs = await self._calls.run(bucket_script("keyed", KEYS_BUCKET), absent=[])
        found = zip(pairs[::2], pairs[1::2], strict=True)
        return [unpack_access(name.decode(), value) for name, value in sorted(found)]
