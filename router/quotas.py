"""Quotas of buckets at the doors: what cannot fit is refused before its bytes are taken.

```
announced, or many blocks     looked at with numbers that are at most two seconds old; only what
                              seems not to fit is looked at with those of this moment
published                     decided by the step that publishes, exactly
```

What names hold never exceeds a quota, whoever writes. The parts of open uploads are counted beside,
in another place of Redis, so they count here alone: of a part, and of whatever else would have to
lie beside them, but not of the file that an upload becomes, which takes their place.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from common.errors import PutterError, QuotaExceeded
from common.quotas import Quota, Use, counted
from common.uploads import bucket_with_parts, is_hidden, parts_of
from common.versions import plain_bucket
from router.policies import Policies
from router.recent import Recent
from router.small import SMALL_BYTES_MAX

if TYPE_CHECKING:
    from common.meta.interface import Metadata
    from common.records import Version
    from router.quorum import Policy
    from router.targets import Target

_REMEMBERED_MAX: Final = 4_096
"""Buckets; those beyond are asked for each time."""


@dataclass
class Held:
    """How much a bucket holds.

    Attributes:
        names: what its names hold.
        parts: the parts of its open uploads.
    """

    names: Use
    parts: Use


class Quotas:
    """What one router knows of quotas, and of how much buckets hold.

    Args:
        meta: the coordinator.
        policies: know the quotas.
    """

    def __init__(self, meta: Metadata, policies: Policies) -> None:
        self._meta = meta
        self._policies = policies
        self._recent: Recent[Held] = Recent(self._read, "what a bucket holds", _REMEMBERED_MAX)

    async def announced(self, target: Target) -> None:
        """Look at a write before any byte of it is taken, if its target says how many will come.

        Raises:
            QuotaExceeded: it cannot fit.
            MetadataUnavailable: Redis does not answer.
        """
        size = target.size
        if size is None:
            return
        policy = self._policies.known(target.bucket)
        if policy is None:
            if size <= SMALL_BYTES_MAX and not bucket_with_parts(target.bucket):
                return  # what publishes it decides, in as many round trips as ever
            policy = await self._policies.of(target.bucket)
        if policy.quota:
            await self._check(target, policy, size)

    async def streamed(self, target: Target, policy: Policy, size: int) -> None:
        """Look at a write of which nobody said how long it is, when so many bytes have come.

        Raises:
            QuotaExceeded: it cannot fit.
            MetadataUnavailable: Redis does not answer.
        """
        if policy.quota and target.size is None:
            await self._check(target, policy, size)

    def written(self, version: Version) -> None:
        """What is remembered grew; by less, if another version went, but then it is looked at."""
        part_of = bucket_with_parts(version.bucket)
        held = self._recent.last(part_of or plain_bucket(version.bucket), None)
        if held is None:
            return
        if part_of:
            held.parts += counted(version)
        else:
            held.names += counted(version)

    async def refusal(self, bucket: str) -> QuotaExceeded:
        """The error for what was not published, with the numbers of this moment."""
        self._policies.changed(bucket)
        self._recent.changed(bucket)
        try:
            policy, held = await asyncio.gather(self._policies.of(bucket), self._recent.of(bucket))
        except PutterError:
            return exceeded(bucket)
        return exceeded(bucket, policy.quota, held)

    async def stop(self) -> None:
        """End what is under way."""
        await self._recent.stop()

    # -- inside ----------------------------------------------------------------------------

    async def _check(self, target: Target, policy: Policy, size: int) -> None:
        part_of = bucket_with_parts(target.bucket)
        if is_hidden(target.bucket) and not part_of:
            return  # an open upload
        bucket = part_of or target.bucket
        more = Use(0 if part_of else 1, size)
        held = self._recent.known(bucket, None)
        if held is None:
            if size <= SMALL_BYTES_MAX and not part_of:
                self._recent.soon(bucket)
                return
            held = await self._recent.of(bucket)
        if policy.quota.allows(_beside(held, target), more):
            return
        self._recent.changed(bucket)
        asked = self._recent.of(bucket), self._replaced(target, policy)
        now, replaced = await asyncio.gather(*asked)
        more -= Use(0, replaced.size) if part_of else replaced
        if not policy.quota.allows(_beside(now, target), more):
            raise exceeded(bucket, policy.quota, now)

    async def _read(self, bucket: str) -> Held:
        return await held_by(self._meta, bucket)

    async def _replaced(self, target: Target, policy: Policy) -> Use:
        """What counts no more once a write is there."""
        beside = policy.versioning == "Enabled" and not is_hidden(target.bucket)
        if beside or not target.key:
            return Use()
        return counted(await self._meta.versions.held(target.bucket, target.key))


async def held_by(meta: Metadata, bucket: str) -> Held:
    """How much a bucket holds, in this moment.

    Raises:
        MetadataUnavailable: Redis does not answer.
    """
    use = meta.buckets.use
    return Held(*await asyncio.gather(use(bucket), use(parts_of(bucket))))


def exceeded(bucket: str, quota: Quota | None = None, held: Held | None = None) -> QuotaExceeded:
    """The error for what does not fit.

    Args:
        bucket: its name.
        quota: what it may hold.
        held: what it holds; without it nothing is said of that.
    """
    told = [f"bucket {bucket!r} may not hold more"]
    if quota and held is not None:
        if quota.quota_bytes is not None:
            parts = f" and {held.parts.size} in parts of open uploads" if held.parts.size else ""
            told.append(f"{held.names.size} of {quota.quota_bytes} bytes are used{parts}")
        if quota.quota_files is not None:
            told.append(f"{held.names.files} of {quota.quota_files} files are used")
    return QuotaExceeded(
        ": ".join((told[0], ", ".join(told[1:]))) if told[1:] else told[0],
        hint="delete something, old versions and open uploads too, or have its quota raised",
    )


def _beside(held: Held, target: Target) -> Use:
    """What a write would have to lie beside."""
    return held.names if target.upload else Use(held.names.files, held.names.size + held.parts.size)
