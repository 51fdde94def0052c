"""The way of a deletion: a tombstone is durable, then the name holds nothing, in one step of Redis.

A deletion on a condition names in its tombstone the one version that it found, and deletes no
other: what somebody publishes in between stays, also where the names are rebuilt from the records
alone, and nothing needs to be taken back. It claims the name first, so that of several deletions
and writes on a condition only the winner writes a record.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final

from common.clock import Clock
from common.errors import PreconditionFailed, WriteConflict
from common.meta.interface import Metadata, Outcome
from common.names import format_name
from common.records import Tombstone, Version
from router.claims import NameClaim
from router.keeping import Keeping
from router.numbers import Numbers
from router.targets import Changes, Target

Condition = Callable[[Version], bool]
_TRIES: Final = 8


class Deletes:
    """Deletes what names hold.

    Args:
        meta: the coordinator.
        keeping: makes tombstones durable.
        numbers: stamps.
        clock: wall clock.
        changes: is told of each deletion.
        instance: of this router.
        in_background: sees to what nobody has to wait for.
    """

    def __init__(
        self,
        meta: Metadata,
        keeping: Keeping,
        numbers: Numbers,
        clock: Clock,
        changes: Changes,
        instance: str,
        in_background: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        self._meta = meta
        self._keeping = keeping
        self._numbers = numbers
        self._clock = clock
        self._changes = changes
        self._instance = instance
        self._in_background = in_background
        self._claims = 0

    async def delete(self, bucket: str, key: str) -> bool:
        """Make a name hold nothing.

        Returns:
            False if it held nothing.
        """
        if await self._meta.files.resolve(bucket, key) is None:
            return False
        tombstone = Tombstone(bucket, key, await self._numbers.stamp(), self._clock.now_ms())
        return await self._bury(tombstone) in {Outcome.PUBLISHED, Outcome.SUPERSEDED}

    async def delete_only(self, bucket: str, key: str, condition: Condition) -> bool:
        """Make a name hold nothing if what it holds fulfils a condition.

        Returns:
            False if it held nothing.

        Raises:
            PreconditionFailed: it holds something else.
            WriteConflict: others change the name all the time.
        """
        for _ in range(_TRIES):
            version = await self._meta.files.resolve(bucket, key)
            if version is None:
                return False
            if not condition(version):
                raise PreconditionFailed(f"{format_name(bucket, key)} holds another version")
            if await self._delete_version(version):
                return True
        raise WriteConflict(
            f"{format_name(bucket, key)} is changed all the time",
            hint="read the file again, then send it again if that is still right",
        )

    # -- inside ----------------------------------------------------------------------------

    async def _delete_version(self, version: Version) -> bool:
        """Delete this version alone; False if the name does not hold it any more."""
        bucket, key = version.bucket, version.key
        self._claims += 1
        holder = f"{self._instance}/delete-{self._claims}"
        claim = NameClaim(self._meta.claims, Target(bucket, key, if_match=version.etag), holder)
        try:
            try:
                await claim.take()
            except PreconditionFailed:
                return False
            stamp = await self._numbers.stamp()
            tombstone = Tombstone(bucket, key, stamp, self._clock.now_ms(), of=version.stamp)
            deleted = await self._bury(tombstone) is Outcome.PUBLISHED
        except BaseException:
            self._in_background(claim.give_back())
            raise
        if not deleted:
            self._in_background(claim.give_back())
        return deleted

    async def _bury(self, tombstone: Tombstone) -> Outcome:
        bucket, key = tombstone.bucket, tombstone.key
        await self._keeping.keep([tombstone], f"{bucket}/{key}")
        outcome = await self._meta.files.delete(tombstone)
        if outcome is not Outcome.REFUSED:
            self._changes.deleted(bucket, key, tombstone.since)
        return outcome
