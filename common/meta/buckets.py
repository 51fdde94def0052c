"""The seam to the settings of buckets.

A bucket's settings are a commit record like any other change: durable on the putters before they
are told here, and told again by a rebuild. The highest stamp wins. Objects that are there already
follow later (how many replicas each should have); up to which change they do is known here.

How much a bucket holds is counted in the step in which its names change (`Buckets.use`), and the
step that publishes a version holds it to the quota among the settings (`common.quotas`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from common.quotas import Use
from common.records import BucketSettings


@dataclass(frozen=True)
class Configured:
    """A bucket with settings of its own, or that had some.

    Attributes:
        record: the last change of them.
        followed: stamp of the change that all its objects are known to follow; 0: of none.
    """

    record: BucketSettings
    followed: int = 0


class Buckets(Protocol):
    """Buckets and their settings."""

    async def get(self, bucket: str) -> Configured | None:
        """The settings of a bucket; None if it never had any."""
        ...

    async def change(self, record: BucketSettings) -> bool:
        """These are the settings from now on, durable on the putters.

        Returns:
            False if a later change was there first: nothing changed.
        """
        ...

    async def followed(self, bucket: str, stamp: int) -> None:
        """All objects of a bucket follow the change of that stamp, if it is still the last one."""
        ...

    async def configured(self) -> list[Configured]:
        """All buckets that ever had settings of their own, by name."""
        ...

    async def names(self) -> list[str]:
        """All buckets that ever held a file or had settings, sorted."""
        ...

    async def use(self, bucket: str) -> Use:
        """How much a bucket holds, now; its versions beside the null ones are among that."""
        ...
