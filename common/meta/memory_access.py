"""Access keys, in memory."""

from __future__ import annotations

from common.meta.memory_state import Bucket, State, Visited
from common.records import KEYS_BUCKET, AccessKey


class MemoryAccess:
    """`common.meta.access.Access` in memory."""

    def __init__(self, store: Visited) -> None:
        self._store = store

    async def get(self, access_key_id: str) -> AccessKey | None:
        """The last record of a key, also of one that was deleted; None: never heard of."""
        return await self._store.visit(lambda state: _keys(state).get(access_key_id))

    async def change(self, record: AccessKey) -> bool:
        """This is the key from now on. False if a later change was there first."""
        return await self._store.visit(lambda state: rekey(state.bucket(KEYS_BUCKET), record))

    async def every(self) -> list[AccessKey]:
        """The last records of all keys, also of those that were deleted, by id."""
        return await self._store.visit(lambda state: [r for _, r in sorted(_keys(state).items())])


def rekey(bucket: Bucket, record: AccessKey) -> bool:
    """A key from now on; False if a later change was there first."""
    held = bucket.access.get(record.key)
    if held is not None and held.stamp > record.stamp:
        return False
    bucket.access[record.key] = record
    return True


def _keys(state: State) -> dict[str, AccessKey]:
    return state.buckets.get(KEYS_BUCKET, Bucket()).access
