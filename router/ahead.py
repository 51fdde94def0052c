"""Announces small objects to Redis before they come.

A small object waits for Redis to hear of it, for the putters, and for Redis to publish it: three
syncs. Where such objects come one after the other, the first of them need not be waited for. When a
group of them is published, as many for those that come next are announced in the same pipeline,
with everything that does not depend on their bytes: ObjectIDs, tickets, stamps, putters. The next
groups take these, and go to the putters at once.

```
      usual:  announce ─► putters ─► publish
      ahead:                putters ─► publish + announce next ─► (≤ 500 ms) putters ─► …
```

For Redis this is a router that began some objects and has not sent their bytes yet, so whatever
may happen then has its rules already: they have the same lease, and if this router dies the janitor
fails them. What differs is only how long that lasts, and that an object may never come:

- Only objects that are named after their ObjectID are announced: no name has a stamp that is older
  than the request for it. They have one ticket, and no condition.
- Nothing is used after 500 ms, or if anything is not as it was: the policy, where the putters'
  states place it, or a call to Redis that found it away or in another run. It is withdrawn then.
  What could not be withdrawn is failed by the janitor.
- No number is ever given back: a withdrawal whose answer is lost may be anywhere.
- Nothing is announced for the first object after a pause. While what is announced is used, the
  next announcement is for twice as many groups, up to 16 and 256 objects; what nobody came for
  begins at one group again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from common.errors import PutterError
from common.limits import OBJECT_LEASE_MS
from common.logs import get_logger
from common.meta.announcements import Announcement
from router.groups import GROUP_OBJECTS_MAX, Entry
from router.placement import Placement
from router.quorum import Policy

if TYPE_CHECKING:
    from router.writes import WritePath

_log = get_logger(__name__)
AHEAD_MS: Final = 500
"""So long an announcement may wait for its object."""

_GROUPS_MAX: Final = 16
"""For so many groups like the last one announcements reach."""

assert AHEAD_MS * 10 < OBJECT_LEASE_MS


@dataclass(slots=True, eq=False)
class _Batch:
    """Objects that were announced together, and not used yet.

    Attributes:
        bucket: their names will be in it.
        policy: how many putters have to hold them.
        placed_by: what placement hashes.
        placement: the putters.
        ids: ObjectIDs.
        first: ticket of the first of them; the others have those that follow.
        stamp: of the first of them; likewise.
        since_ms: when they were announced, by the monotonic clock.
        lapses: of the coordinator, at that time.
    """

    bucket: str
    policy: Policy
    placed_by: str
    placement: Placement
    ids: deque[str]
    first: int
    stamp: int
    since_ms: int
    lapses: int


class Ahead:
    """What one router has announced and not used yet.

    Args:
        path: what all writes share.
    """

    def __init__(self, path: WritePath) -> None:
        self._path = path
        self._batches: deque[_Batch] = deque()
        self._coming = 0
        self._reach = 1
        self._followed_ms = -AHEAD_MS
        self._look: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def waiting(self) -> int:
        """Objects that are announced, or are about to be, and did not come yet."""
        return self._coming + sum(len(batch.ids) for batch in self._batches)

    def ready(self, entries: Sequence[Entry]) -> int:
        """How many of these objects, from the first on, have what was announced waiting for them.

        None if that is less than half of them: a small group costs as much as a large one.
        """
        if not self._batches or not self._may_be_announced(entries):
            return 0
        self._drop_unless_fit(entries[0])
        count = 0
        for batch in self._batches:
            head = self._batches[0]
            if batch.placement != head.placement or batch.first != head.first + count:
                break  # one group has one placement and consecutive tickets
            count += len(batch.ids)
        count = min(count, len(entries))
        return count if 2 * count >= len(entries) else 0

    def give(self, entries: Sequence[Entry]) -> Placement:
        """Give these objects, which are `ready`, what was announced for them; their putters."""
        placement = self._batches[0].placement
        for entry in entries:
            batch = self._batches[0]
            entry.object_id = batch.ids.popleft()
            entry.first, entry.count, entry.stamp = batch.first, 1, batch.stamp
            batch.first += 1
            batch.stamp += 1
            if not batch.ids:
                self._batches.popleft()
        return placement

    def follow(self, entries: Sequence[Entry], waiting: int) -> None:
        """Announce some for those that come next, if these followed others and few are left.

        Call it right before these are published: both share a round trip.

        Args:
            entries: a group that is about to be published.
            waiting: objects that wait already.
        """
        needed, left = min(len(entries) + waiting, GROUP_OBJECTS_MAX), self.waiting
        enough = left >= needed
        if self._closed or not (enough or self._may_be_announced(entries)):
            return
        now_ms = self._path.clock.monotonic_ms()
        paused = now_ms - self._followed_ms >= AHEAD_MS
        self._followed_ms = now_ms
        if enough or paused:
            return
        count = min(needed * self._reach, GROUP_OBJECTS_MAX) - left
        self._reach = min(2 * self._reach, _GROUPS_MAX)
        self._coming += count
        self._path.in_background(self._announce(entries[0], count))

    def close(self) -> None:
        """Announce nothing more, and take back what was."""
        self._closed = True
        self._withdraw(list(self._batches))

    # -- inside ----------------------------------------------------------------------------

    def _may_be_announced(self, entries: Sequence[Entry]) -> bool:
        """Whether nothing about these depends on their bytes, or on what a name holds."""
        bucket, size = entries[0].target.bucket, self._path.frame_bytes
        return all(
            not entry.target.key
            and not entry.target.versioned
            and entry.target.if_match is None
            and entry.target.bucket == bucket
            and len(entry.block.data) <= size
            for entry in entries
        )

    async def _announce(self, like: Entry, count: int) -> None:
        try:
            batch = await self._begun(like, count)
        except PutterError as error:
            _log.debug("nothing is announced ahead", reason=str(error))
            self._reach = 1
            return
        finally:
            self._coming -= count
        self._batches.append(batch)
        if self._closed:
            self._withdraw([batch])
        elif self._look is None:
            self._look_later()

    async def _begun(self, like: Entry, count: int) -> _Batch:
        """So many objects for the bucket and the policy of one that came.

        Raises:
            PutterError: they are not announced, or no stamps are to be had for them.
        """
        path = self._path
        bucket, policy = like.target.bucket, like.policy
        since_ms, lapses = path.clock.monotonic_ms(), path.meta.lapses
        ids = tuple([await path.numbers.object_id() for _ in range(count)])
        first = await path.numbers.tickets(count)
        placed_by = f"{ids[0]}/{first}"
        placement = path.fleet.place(placed_by, policy)
        # On its way before anything is waited for: so it shares the round trip of the publication.
        begun = path.meta.announcements.announce(
            Announcement(bucket, ids, first, path.instance, OBJECT_LEASE_MS, placement.nodes)
        )
        try:
            try:
                stamp = await path.numbers.stamps(count)
            finally:
                await begun
        except PutterError:
            path.in_background(self._take_back(bucket, ids))
            raise
        return _Batch(
            bucket, policy, placed_by, placement, deque(ids), first, stamp, since_ms, lapses
        )

    def _drop_unless_fit(self, like: Entry) -> None:
        """Keep what would be announced today as it was, for the likes of this object."""
        self._withdraw([batch for batch in self._batches if not self._fits(batch, like)])

    def _fits(self, batch: _Batch, like: Entry) -> bool:
        path = self._path
        if (
            self._is_old(batch)
            or batch.lapses != path.meta.lapses
            or batch.bucket != like.target.bucket
            or batch.policy != like.policy
        ):
            return False
        try:
            return path.fleet.place(batch.placed_by, like.policy) == batch.placement
        except PutterError:
            return False  # whoever announces these anew is told why

    def _is_old(self, batch: _Batch) -> bool:
        return self._path.clock.monotonic_ms() - batch.since_ms >= AHEAD_MS

    def _withdraw(self, batches: Sequence[_Batch]) -> None:
        for batch in batches:
            self._reach = 1
            self._batches.remove(batch)
            self._path.in_background(self._take_back(batch.bucket, tuple(batch.ids)))

    async def _take_back(self, bucket: str, ids: tuple[str, ...]) -> None:
        try:
            await self._path.meta.announcements.withdraw(bucket, ids)
        except PutterError as error:
            _log.info("the janitor withdraws what was announced", reason=str(error))

    def _look_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._look = loop.call_later(AHEAD_MS / 1000, self._look_now)

    def _look_now(self) -> None:
        self._look = None
        self._withdraw([batch for batch in self._batches if self._is_old(batch)])
        if self._batches:
            self._look_later()
