"""Objects that are announced before anybody sent them: the part of the seam for these.

Small objects that come one after the other need not wait until the coordinator has heard of each:
it hears of the next ones together with the publication of the last. What is announced is
``writing``, as after `common.meta.interface.Objects.begin`, and a writer that dies leaves it to the
janitor. Only a writer that never used it may take it back.
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Announcement:
    """Objects of one ticket each that a router will perhaps write.

    Attributes:
        bucket: the bucket their names will be in.
        object_ids: ObjectIDs.
        first: ticket of the first one; the others have those that follow.
        router: instance of the router.
        lease_ms: how long they stay ``writing`` without a sign of life.
        nodes: putters that may hold some of them.
    """

    bucket: str
    object_ids: tuple[str, ...]
    first: int
    router: str
    lease_ms: int
    nodes: tuple[str, ...]


class Announcements(Protocol):
    """Objects that may come. Calls made in the same moment travel together."""

    def announce(self, item: Announcement) -> Awaitable[None]:
        """``— → writing`` for all of them; on its way as soon as it is called.

        A repeated call with the same router changes nothing.

        Raises:
            ObjectGone: another router began one of them.
        """
        ...

    async def withdraw(self, bucket: str, object_ids: tuple[str, ...]) -> None:
        """``writing → —``, by the router that announced them, and of which nothing was ever sent.

        What is not ``writing`` stays as it is.
        """
        ...
