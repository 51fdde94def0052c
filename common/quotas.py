"""How much a bucket may hold, and how much it holds.

A quota is two settings of a bucket among the others. What counts is what its names hold: every
version, old ones too; a delete marker does not count, as it has no byte and can be made by
deleting. The parts of open uploads are counted beside (`common.uploads`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from common.errors import UsageError
from common.records import BucketSettings, Version

COUNT_MAX: Final = (1 << 53) - 1
"""No bucket is counted beyond: scripts compute with such numbers, exactly (9 PB)."""

_Limit = Annotated[int, Meta(ge=1, le=COUNT_MAX)]


class Quota(msgspec.Struct, frozen=True):
    """How much a bucket may hold; None: as much as there is.

    Attributes:
        quota_bytes: bytes of all versions.
        quota_files: how many versions.
    """

    quota_bytes: _Limit | None = None
    quota_files: _Limit | None = None

    def __bool__(self) -> bool:
        """Whether there is a limit at all."""
        return self != NO_QUOTA

    def allows(self, use: Use, more: Use) -> bool:
        """Whether a bucket may come to hold so much more; what does not grow is never refused."""
        return _fits(self.quota_bytes, use.size, more.size) and _fits(
            self.quota_files, use.files, more.files
        )


class Use(msgspec.Struct, frozen=True):
    """How much a bucket holds, or how much that changes.

    Attributes:
        files: versions that are no delete markers.
        size: their bytes.
    """

    files: int = 0
    size: int = 0

    def __add__(self, other: Use) -> Use:
        """Both together."""
        return Use(self.files + other.files, self.size + other.size)

    def __sub__(self, other: Use) -> Use:
        """What is left of it."""
        return Use(self.files - other.files, self.size - other.size)


NO_QUOTA: Final = Quota()
NAMES: Final = Quota.__struct_fields__
"""The settings of a bucket that make up its quota."""


def quota_of(settings: Mapping[str, Any]) -> Quota:
    """The quota among the settings of a bucket.

    Raises:
        UsageError: a value that cannot be.
    """
    try:
        return msgspec.convert({n: settings[n] for n in NAMES if n in settings}, Quota)
    except msgspec.ValidationError as error:
        raise UsageError(
            f"quota of a bucket: {error}",
            hint=f"quota_bytes and quota_files are 1…{COUNT_MAX}; null takes one away",
        ) from error


def kept_quota(record: BucketSettings) -> Quota:
    """The same; settings that nobody can have made are no quota."""
    try:
        return quota_of(record.settings)
    except UsageError:
        return NO_QUOTA


def counted(version: Version | None) -> Use:
    """How much a version counts; a delete marker, or none, nothing."""
    return Use() if version is None or version.is_marker else Use(1, version.size)


def _fits(limit: int | None, held: int, more: int) -> bool:
    return limit is None or more <= 0 or held + more <= limit
