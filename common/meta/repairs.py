"""The seam through which what putters lack is known, until they have it.

Every extent says which putters should hold it and do not (`common.records.Extent.owed`). The
coordinator keeps these debts in an order of their own, by putter, so that a putter which comes back
is given just what it missed. They follow from the records alone: a rebuild finds them again.

A putter that held something in the place of another one does so until the other has it. Then it
holds a *surplus*, which is freed after the grace time, when nobody reads it there any more.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from common.meta.outbox import Post
from common.records import Extent, StoredObject, Version

REACH_MS: Final = 24 * 60 * 60 * 1000
"""How long what a putter was sent is kept there, until a description places it there."""


@dataclass(frozen=True)
class Debt:
    """How much a putter lacks.

    Attributes:
        objects: how many objects it lacks something of.
        size: their bytes, in whole.
    """

    objects: int = 0
    size: int = 0


@dataclass(frozen=True)
class Described:
    """What a name holds.

    Attributes:
        version: the description.
        token: names it; for `Repairs.amend`.
    """

    version: Version
    token: bytes


@dataclass(frozen=True)
class Owed:
    """An object that a putter lacks something of.

    Attributes:
        node: the putter; `common.records.ANYONE` for one that is not chosen yet.
        object_id: ObjectID.
        version: what a name holds now, and the object belongs to.
        token: names this description of the version; for `Repairs.amend`.
    """

    node: str
    object_id: str
    version: Version
    token: bytes

    @property
    def place(self) -> str:
        """For the next `Repairs.owed`, to go on behind it."""
        return f"{self.version.bucket} {self.object_id}"

    @property
    def stored(self) -> StoredObject:
        """The object."""
        return next(each for each in self.version.objects if each.object_id == self.object_id)


@dataclass(frozen=True)
class Surplus:
    """An object that a putter holds something of which it need not hold any more.

    Attributes:
        node: the putter.
        bucket: the object's bucket.
        object_id: ObjectID.
        ranges: (first ticket, count) of the object that no record places on that putter; empty if
            there is nothing to free there any more.
        whole: whether no record places any of the object there.
        due_ms: from when on it could be freed, by the coordinator's clock.
        elsewhere: the extents of these ranges, with the putters that hold them instead.
    """

    node: str
    bucket: str
    object_id: str
    ranges: tuple[tuple[int, int], ...]
    whole: bool
    due_ms: int
    elsewhere: tuple[Extent, ...] = field(default=(), compare=False)

    @property
    def place(self) -> str:
        """For the next `Repairs.surplus`, to go on behind it."""
        return f"{self.bucket} {self.node} {self.object_id}"


class Repairs(Protocol):
    """What putters lack, and what they hold too much."""

    async def debts(self) -> Mapping[str, Debt]:
        """How much each putter lacks; only those that lack something.

        Where very many putters lack something, this may count what was deleted or overwritten
        meanwhile, until `owed` comes past it.
        """
        ...

    async def owed(self, node: str, limit: int, after: str = "") -> list[Owed]:
        """Some of what a putter lacks, by bucket and ObjectID in the order of their bytes.

        Args:
            node: the putter.
            limit: how many at most; fewer only at the end.
            after: behind this `Owed.place`, ``"<bucket> <ObjectID>"``; "" from the start.

        What was deleted or overwritten meanwhile is not owed any more, and is forgotten here.
        """
        ...

    async def described(self, bucket: str, after: str, limit: int) -> list[Described]:
        """What the names of a bucket hold, in the order of their bytes.

        Args:
            bucket: its name.
            after: names behind this one; "" from the start.
            limit: how many at most; fewer only at the end.
        """
        ...

    async def at(self, bucket: str, key: str) -> Described | None:
        """What a name of this very bucket holds; None if it holds nothing."""
        ...

    async def reach(self, bucket: str, object_id: str, node: str) -> bool:
        """Note that a putter may hold some of a written object, before it is sent any of it.

        Deleting finds it there from then on. It is a surplus unless a description places it there
        within `REACH_MS`; repeat it to extend that.

        Returns:
            False if the object is not ``written`` any more, or if the putter may be freeing some
            of it right now: it may be tried again later. Nothing changed.
        """
        ...

    async def amend(self, token: bytes, version: Version, post: Post | None = None) -> bool:
        """Replace the description of a version that a name holds, in one step.

        Debts follow from the new description. Putters that hold some of an object which it does not
        place there any more hold a surplus from then on, to be freed after the grace time.

        Args:
            token: of the description that it replaces.
            version: the new one, durable on the putters; of the same stamp and objects. Putters on
                which it places more than before were reached (`reach`) before they got it.
            post: the event that waits from then on; None: there is none.

        Returns:
            False if the name holds another version or description now, or a putter was not reached
            lately; nothing changed.
        """
        ...

    async def surplus(
        self, limit: int, after: str = "", absent: Collection[str] = ()
    ) -> list[Surplus]:
        """What may be freed now, by bucket, putter and ObjectID in the order of their bytes.

        The grace time is over, and nobody reads it. What was deleted meanwhile is the janitor's,
        and is forgotten here.

        Args:
            limit: how many at most; fewer only at the end.
            after: behind this `Surplus.place`; "" from the start.
            absent: putters that are passed over.
        """
        ...

    async def freed(self, surplus: Surplus) -> None:
        """It is freed there. Nothing changes if it became another surplus, or none, meanwhile."""
        ...
