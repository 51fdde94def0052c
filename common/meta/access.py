"""The seam to access keys.

A key is a commit record like any other change: durable on the putters before it is told here, and
told again by a rebuild. The highest stamp wins. One that was deleted stays known as such, so that
no older record brings it back.
"""

from __future__ import annotations

from typing import Protocol

from common.records import AccessKey


class Access(Protocol):
    """Access keys."""

    async def get(self, access_key_id: str) -> AccessKey | None:
        """The last record of a key, also of one that was deleted; None: never heard of."""
        ...

    async def change(self, record: AccessKey) -> bool:
        """This is the key from now on, durable on the putters.

        Returns:
            False if a later change was there first: nothing changed.
        """
        ...

    async def every(self) -> list[AccessKey]:
        """The last records of all keys, also of those that were deleted, by id."""
        ...
