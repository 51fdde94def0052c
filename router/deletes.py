"""The way of a deletion: durable first, then the name holds nothing, in one step of Redis.

In a bucket that keeps no versions a name is deleted by a tombstone. In one that does, a delete
marker becomes what the name holds, which is nothing; all versions stay. While versioning is
suspended the marker takes the place of the null version. One version is deleted for good by a
tombstone of its own name; then the one before it is what the name holds.

A deletion on a condition names in its tombstone the one version that it found, and deletes no
other: what somebody publishes in between stays, also where the names are rebuilt from the records
alone, and nothing needs to be taken back. It claims the name first, so that of several deletions
and writes on a condition only the winner writes a record. A delete marker is published on the
condition that the name still holds what was found.

Where a lock may keep a version, or it may be deleted only while it is not the latest, Redis decides
first, in the step that deletes, and only then the tombstone is made durable, before the answer: one
that is durable cannot be taken back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from common.errors import Locked, PreconditionFailed, PutterError, WriteConflict
from common.locks import SETTING, UNLOCKED
from common.logs import get_logger
from common.meta.interface import Commit, Outcome
from common.meta.outcomes import UNGUARDED, Guard
from common.names import format_name
from common.records import Tombstone, Version
from common.versions import (
    Versioning,
    number_of,
    plain_bucket,
    plain_file,
    plain_name,
    version_name,
    versions_of,
)
from router.claims import NameClaim
from router.events import MARKER, of_deletion, of_version
from router.targets import Changes, Target, VersioningChangedError

if TYPE_CHECKING:
    from router.writes import WritePath

_log = get_logger(__name__)
Condition = Callable[[Version], bool]
_TRIES: Final = 8
_PAUSE_S_MAX: Final = 60.0
_KEEP_TRIES: Final = 12
"""With pauses that double: some minutes, or until the router stops."""
_DONE: Final = frozenset({Outcome.PUBLISHED, Outcome.SUPERSEDED})


@dataclass(frozen=True)
class Deleted:
    """What became of a name that was deleted.

    Attributes:
        found: whether it held something.
        versioning: how its bucket keeps versions.
        marker: the delete marker that was written, if one was.
    """

    found: bool
    versioning: Versioning = ""
    marker: Version | None = None


class Deletes:
    """Deletes what names hold.

    Args:
        path: what all writes share.
        changes: is told of each deletion.
    """

    def __init__(self, path: WritePath, changes: Changes) -> None:
        self._path = path
        self._changes = changes
        self._claims = 0

    async def name(
        self, bucket: str, key: str, condition: Condition | None = None, *, anyway: bool = False
    ) -> Deleted:
        """Make a name hold nothing.

        Args:
            bucket: bucket name.
            key: key.
            condition: what holds of the version that may be deleted; None: of any.
            anyway: whether a delete marker is wanted if it holds nothing already.

        Raises:
            Locked: a lock keeps what it holds, in a bucket that keeps no versions any more.
            PreconditionFailed: it holds something else.
            WriteConflict: others change the name, or how its bucket keeps versions, all the time.
            PutterError: it may hold something still.
        """
        for _ in range(_TRIES):
            latest = await self._path.meta.versions.latest(bucket, key)
            version = latest.version
            if version is None or version.is_marker:
                if not anyway or condition is not None or not latest.versioning:
                    return Deleted(found=False, versioning=latest.versioning)
                version = None
            elif condition is not None and not condition(version):
                raise PreconditionFailed(f"{format_name(bucket, key)} holds another version")
            if latest.versioning:
                expected = version if condition is not None else None
                marker = await self._try_to_mark(bucket, key, latest.versioning, expected)
                if marker is not None:
                    return Deleted(
                        found=version is not None, versioning=latest.versioning, marker=marker
                    )
                continue
            assert version is not None
            if version.lock != UNLOCKED:
                # It came while its bucket was removed, whose settings know of no locks any more.
                if await self._decide(version, UNGUARDED) is Outcome.PUBLISHED:
                    return Deleted(found=True)
            elif condition is None:
                # One that came while its bucket was removed may be no null version.
                buried = await self._bury(version.bucket, version.key)
                return Deleted(found=buried in _DONE)
            elif await self._delete_claimed(version):
                return Deleted(found=True)
        raise _changed_all_the_time(bucket, key)

    async def version(
        self,
        bucket: str,
        key: str,
        number: int | None,
        condition: Condition | None = None,
        guard: Guard = UNGUARDED,
    ) -> Version | None:
        """Delete one version for good.

        Args:
            bucket: bucket name.
            key: key.
            number: of the version; None for the null version.
            condition: what holds of it if it may be deleted; None: anything.
            guard: on what conditions Redis deletes it.

        Returns:
            What it was, which may be a delete marker; None if there was none.

        Raises:
            Locked: its lock keeps it.
            PreconditionFailed: it is something else, or has another rank.
            WriteConflict: others change it all the time.
            PutterError: it may be there still, or be there again after a rebuild.
        """
        place, name = bucket, key
        if number is not None:
            place, name = versions_of(bucket), version_name(key, number)
        for _ in range(_TRIES):
            held = await self._path.meta.versions.held(place, name)
            if held is None:
                return None
            if condition is not None and not condition(held):
                raise PreconditionFailed(f"{format_name(bucket, key)} has another such version")
            if guard.rank or await self._may_be_locked(held):
                outcome = await self._decide(held, guard)
            elif condition is None:
                await self._bury(place, name)
                return held
            else:
                outcome = await self._bury(place, name, of=held.stamp)
            if outcome is Outcome.PUBLISHED:
                return held
            if guard.rank:
                raise PreconditionFailed(f"{format_name(bucket, key)} has other versions now")
        raise _changed_all_the_time(bucket, key)

    # -- inside ----------------------------------------------------------------------------

    async def _delete_claimed(self, version: Version) -> bool:
        """Delete this version alone; False if the name does not hold it any more."""
        claim = self._claim(version.bucket, version.key, version.etag)
        try:
            try:
                await claim.take()
            except PreconditionFailed:
                return False
            outcome = await self._bury(version.bucket, version.key, of=version.stamp)
            deleted = outcome is Outcome.PUBLISHED
        except BaseException:
            self._path.in_background(claim.give_back())
            raise
        if not deleted:
            self._path.in_background(claim.give_back())
        return deleted

    async def _may_be_locked(self, version: Version) -> bool:
        """Whether a lock may keep a version, by the settings of its bucket as they are now."""
        if version.lock != UNLOCKED:
            return True
        configured = await self._path.meta.buckets.get(plain_bucket(version.bucket))
        return configured is not None and SETTING in configured.record.settings

    async def _bury(self, bucket: str, name: str, *, of: int = 0) -> Outcome:
        """Let a name of this very bucket hold nothing, or nothing of one version."""
        tombstone = await self._tombstone(bucket, name, of)
        await self._keep(tombstone)
        return await self._tell(tombstone)

    async def _decide(self, version: Version, guard: Guard) -> Outcome:
        """Delete this version alone if Redis lets it be deleted; nothing is durable before that.

        Raises:
            Locked: its lock keeps it.
            PutterError: what Redis deleted is not durable yet.
        """
        policy = await self._path.policies.of(version.bucket)
        live = {link.node for link in self._path.fleet.up()}
        policy.copies(len(live))  # else nobody would take the record
        tombstone = await self._tombstone(version.bucket, version.key, version.stamp)
        try:
            outcome = await self._tell(tombstone, guard)
            if outcome is not Outcome.PUBLISHED:
                return outcome
            await self._keep(tombstone)
        except Locked:
            raise
        except BaseException:
            self._path.in_background(self._keep_at_last(tombstone))
            raise
        # A Redis that lost its last seconds meanwhile may have been brought up to date without it.
        # What the name holds by now, and beside what, decides nothing any more.
        await self._tell(tombstone, Guard(guard.bypass))
        return outcome

    async def _tombstone(self, bucket: str, name: str, of: int) -> Tombstone:
        path = self._path
        return Tombstone(bucket, name, await path.numbers.stamp(), path.clock.now_ms(), of=of)

    async def _keep(self, tombstone: Tombstone) -> None:
        name = format_name(tombstone.bucket, tombstone.key)
        await self._path.keeping.keep([tombstone], name)

    async def _keep_at_last(self, tombstone: Tombstone) -> None:
        """Make durable what was told to have failed, if Redis deleted it."""
        reason = ""
        for tries in range(_KEEP_TRIES):
            await asyncio.sleep(min(2.0**tries, _PAUSE_S_MAX))
            try:
                held = await self._path.meta.versions.held(tombstone.bucket, tombstone.key)
                if held is None or held.stamp != tombstone.of:
                    await self._keep(tombstone)
            except PutterError as error:
                reason = str(error)
            else:
                return
        name = format_name(*plain_file(tombstone.bucket, tombstone.key))
        _log.warning("a deletion is not durable", name=name, reason=reason)

    async def _tell(self, tombstone: Tombstone, guard: Guard = UNGUARDED) -> Outcome:
        """Tell Redis of a deletion, and everybody here.

        Raises:
            Locked: a lock keeps what it is about.
        """
        policy = await self._path.policies.of(tombstone.bucket)
        outcome = await self._path.meta.files.delete(
            tombstone, of_deletion(policy, tombstone), guard=guard
        )
        bucket, key = plain_file(tombstone.bucket, tombstone.key)
        if outcome is Outcome.LOCKED:
            raise Locked(
                f"a version of {format_name(bucket, key)} is locked",
                hint="ask when its retention ends, and whether it has a legal hold",
            )
        if outcome is not Outcome.REFUSED:
            self._changes.deleted(bucket, key, tombstone.since)
        return outcome

    async def _try_to_mark(
        self, bucket: str, key: str, versioning: Versioning, expected: Version | None
    ) -> Version | None:
        """Write a delete marker; None if it is to be looked again.

        Args:
            bucket: bucket name.
            key: key.
            versioning: how the bucket keeps versions, as far as is known.
            expected: what the name holds if it may be deleted; None: anything.
        """
        if_match = expected.etag if expected is not None else None
        claim = self._claim(bucket, key, if_match) if if_match is not None else None
        try:
            if claim is not None:
                await claim.take()
            marker = await self._marker(bucket, key, versioning)
            found = expected.stamp if expected is not None else 0
            post = of_version(await self._path.policies.of(bucket), MARKER, marker)
            await self._path.publish_empty(Commit(marker, 0, 0, if_match, found, post))
        except BaseException as error:
            if claim is not None:
                self._path.in_background(claim.give_back())
            if isinstance(error, VersioningChangedError | PreconditionFailed):
                return None
            raise
        self._changes.deleted(*plain_name(marker), number_of(marker))
        return marker

    async def _marker(self, bucket: str, key: str, versioning: Versioning) -> Version:
        path = self._path
        policy = await path.policies.of(bucket)
        target = Target(bucket, key, versioned=versioning == "Enabled")
        stamp = await path.numbers.stamp()
        return Version(
            bucket=target.place,
            key=target.name(stamp),
            stamp=stamp,
            size=0,
            etag="",
            created_ms=path.clock.now_ms(),
            objects=(),
            replicas=policy.replicas,
        )

    def _claim(self, bucket: str, key: str, if_match: str) -> NameClaim:
        self._claims += 1
        holder = f"{self._path.instance}/delete-{self._claims}"
        return NameClaim(self._path.meta.claims, Target(bucket, key, if_match=if_match), holder)


def _changed_all_the_time(bucket: str, key: str) -> WriteConflict:
    return WriteConflict(
        f"{format_name(bucket, key)} is changed all the time",
        hint="read the file again, then send it again if that is still right",
    )
