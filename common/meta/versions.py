"""The seam to versions: what names hold beside what they hold now.

`common.versions` says where versions are. `common.meta.interface.Files` answers for what names hold
now, whichever version that is; here each version can be asked for, delete markers too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from common.records import Version
from common.versions import Versioning


@dataclass(frozen=True)
class Latest:
    """What a name holds now.

    Attributes:
        versioning: how its bucket keeps versions.
        version: the version, which may be a delete marker; None if there is none.
    """

    versioning: Versioning
    version: Version | None


@dataclass(frozen=True)
class VersionEntry:
    """One line of a listing of versions.

    Attributes:
        key: of the file.
        number: the version's place among those of its key.
        null: whether it is the null version.
        latest: whether the name holds it now.
        size, etag, created_ms: of the version; a delete marker has no etag.
    """

    key: str
    number: int
    null: bool
    latest: bool
    size: int
    etag: str
    created_ms: int


@dataclass(frozen=True)
class VersionsPage:
    """A part of a listing: by keys in the order of their bytes, of each the newest first.

    Attributes:
        entries: what matched.
        next_after: key and number of the version behind which the next page begins; the number is
            None behind all versions of the key. None at the end.
    """

    entries: tuple[VersionEntry, ...]
    next_after: tuple[str, int | None] | None


class Versions(Protocol):
    """Versions of names."""

    async def held(self, bucket: str, key: str) -> Version | None:
        """What a name of this very bucket holds: a version, by its name, or the null version."""
        ...

    async def latest(self, bucket: str, key: str) -> Latest:
        """What a name holds now, a delete marker too."""
        ...

    async def list(
        self, bucket: str, prefix: str, after: str, below: int | None, limit: int
    ) -> VersionsPage:
        """Versions of names that start with ``prefix``.

        Args:
            bucket: bucket name.
            prefix: of the names.
            after: names up to this one are left out; "" for none.
            below: of the name ``after``, versions with lower numbers are not; None: all are.
            limit: 1…`common.limits.LIST_PAGE_MAX` versions; a page may have fewer and still not be
                the last. The cost depends on the page, not the bucket.
        """
        ...

    async def anything(self, bucket: str) -> int | None:
        """When something was written that a bucket holds, a version or a delete marker too.

        In milliseconds since 1970; None if it holds nothing.
        """
        ...
