"""Changes the settings of a bucket: a commit record first, then Redis, as with every change.

Whoever changes some settings keeps the others, also those that this version does not know. So that
no change is lost between two of them, one at a time is made for each bucket, under a lease.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from common import records
from common.clock import Clock
from common.errors import UsageError, WriteConflict
from common.limits import BUCKET_SETTINGS_BYTES_MAX
from common.locks import default_of
from common.logs import get_logger
from common.meta.buckets import Configured
from common.meta.interface import Metadata
from common.quotas import quota_of
from common.records import BucketSettings
from common.versions import versioning_of
from router.ingest import BUCKET as UPLOADED
from router.keeping import Keeping
from router.numbers import Numbers
from router.object_keys import SETTING as ENCRYPTION
from router.policies import NAMES, Policies, check_quorums, own_policy
from router.turns import turn

_log = get_logger(__name__)

Decision = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
"""From the settings that a bucket has, those to be changed: values by name, None to take one away.
"""


class Configure:
    """One router's way to change settings of buckets.

    Args:
        meta: the coordinator.
        policies: what this router goes by.
        keeping: makes records durable.
        numbers: stamps.
        clock: dates changes.
        instance: of this router.
    """

    def __init__(
        self,
        meta: Metadata,
        policies: Policies,
        keeping: Keeping,
        numbers: Numbers,
        clock: Clock,
        instance: str,
    ) -> None:
        self._meta = meta
        self._policies = policies
        self._keeping = keeping
        self._numbers = numbers
        self._clock = clock
        self._instance = instance
        self._changes = 0

    async def change(self, bucket: str, changes: Mapping[str, Any]) -> Configured | None:
        """Change some settings of a bucket; the others stay.

        Args:
            bucket: its name.
            changes: values by name; None for as in the whole store.

        Returns:
            The settings from now on, durable; None if the bucket has none, and never had any.

        Raises:
            UsageError: the settings contradict each other, or are more than a bucket can have.
            WriteConflict: another change of this bucket is under way, and does not come to an end.
            PutterError: nothing changed, unless Redis did not answer at the end: then look.
        """

        async def as_wanted(_: Mapping[str, Any]) -> Mapping[str, Any]:
            return changes

        return await self.decide(bucket, as_wanted)

    async def decide(self, bucket: str, what: Decision) -> Configured | None:
        """The same for changes that depend on what is there, while nobody else changes any.

        Args:
            bucket: its name.
            what: asked for the changes; an exception of it ends the call, and nothing changes.

        Raises:
            WriteConflict, PutterError: as `change`.
        """
        self._changes += 1
        holder = f"{self._instance}/{self._changes}"
        subject = f"the settings of bucket {bucket!r}"
        async with turn(self._meta, f"bucket/{bucket}", holder, subject):
            return await self._change(bucket, what)

    # -- inside ----------------------------------------------------------------------------

    async def _change(self, bucket: str, what: Decision) -> Configured | None:
        before = await self._meta.buckets.get(bucket)
        held = before.record.settings if before is not None else {}
        changes = await what(held)
        settings = {n: value for n, value in {**held, **changes}.items() if value is not None}
        check_quorums(self._policies.store, own_policy(settings))
        quota_of(settings)
        if versioning_of(settings) and bucket == UPLOADED:
            raise UsageError(
                f"bucket {bucket!r} keeps no versions: what is uploaded to it has no names",
                hint="use another bucket",
            )
        if ENCRYPTION in settings and bucket == UPLOADED:
            raise UsageError(
                f"bucket {bucket!r} is not encrypted by itself: what is uploaded to it is told by "
                "the BLAKE3 of what is stored",
                hint="use another bucket, or putters with --encrypt on",
            )
        if default_of(settings) is not None and versioning_of(settings) != "Enabled":
            raise UsageError(
                f"bucket {bucket!r} has object locks: its versioning stays Enabled",
                hint="locks end with their versions",
            )
        if settings == held:
            return before
        stamp = await self._numbers.stamp()
        record = BucketSettings(bucket, stamp, self._clock.now_ms(), settings)
        _check_size(record, before)
        holders = await self._keeping.keep([record], bucket)
        if not await self._meta.buckets.change(record):
            raise WriteConflict(
                f"the settings of bucket {bucket!r} were changed meanwhile", hint="look at them"
            )
        self._policies.changed(bucket)
        followed = before.followed if before is not None else 0
        if before is not None and followed == before.record.stamp and _as_before(settings, held):
            # Nothing that its files follow: a walk through all of them would find nothing.
            await self._meta.buckets.followed(bucket, stamp)
            followed = stamp
        _log.info(
            "settings of a bucket changed",
            bucket=bucket,
            changed=sorted(changes),
            holders=len(holders),
        )
        return Configured(record, followed)


def _check_size(record: BucketSettings, before: Configured | None) -> None:
    """Refuse more than a bucket can have; taking something away always goes.

    Raises:
        UsageError: it is more.
    """
    size = len(records.encode(record))
    if size <= BUCKET_SETTINGS_BYTES_MAX:
        return
    if before is None or size > len(records.encode(before.record)):
        raise UsageError(
            f"the settings of bucket {record.bucket!r} would have {size} bytes, at most "
            f"{BUCKET_SETTINGS_BYTES_MAX} can be kept of all of them together",
            hint="take one away, or make one shorter",
        )


def _as_before(settings: Mapping[str, Any], held: Mapping[str, Any]) -> bool:
    return all(settings.get(name) == held.get(name) for name in NAMES)
