"""Carries out the rules by which what buckets hold ends by itself (`router.lifecycle`).

Once a period, from midnight UTC on, one router looks at each bucket that has rules, page by page,
and deletes what is due, at a bounded rate. It deletes as clients do: durably, and only what it
looked at. What is not the version any more that the listing told, or has other tags than a rule
wants, or is locked, stays. Rules are read again for each page, so that those that were taken away
end nothing.

A router that loses Redis on the way goes on where it was; another one that takes over begins
anew, as what was deleted is not there a second time.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from common.clock import Clock
from common.errors import Locked, PreconditionFailed, PutterError, WriteConflict
from common.limits import LIST_PAGE_MAX
from common.logs import get_logger
from common.meta.interface import Metadata
from common.meta.outcomes import Guard, Rank
from common.metrics import Metrics
from common.records import Version
from common.requests import current_request
from common.uploads import read_upload_name, uploads_of
from common.versions import number_of
from router.compare import TakenOverError
from router.leasing import KeptLease
from router.lifecycle import (
    SETTING,
    Carry,
    Due,
    Rule,
    What,
    decide,
    is_still_due,
    is_upload_due,
    of_uploads,
    of_versions,
    prefix_of,
    rules_of,
)
from router.origin import Origin, bind_origin
from router.pace import Pace
from router.rounds import Rounds
from router.uploads import Uploads
from router.writes import WritePath

_log = get_logger(__name__)
_LEASE: Final = "lifecycle"
_LEASE_MS: Final = 60_000
_DONE: Final = "lifecycle/done"
_MOMENT_MS: Final = 1
_LOOK_S: Final = 10.0
_AGAIN_S: Final = 300.0
"""Until the next pass, if something could not be deleted in the last one."""
_AT_ONCE: Final = 16
_LOOKED_PER_S: Final = 10_000
_DELETED_PER_S: Final = 500
_UPLOADS: Final = "uploads"
_Work = Callable[[], Awaitable[bool]]


@dataclass
class _Pass:
    """A pass on its way.

    Attributes:
        period: the number of its period since 1970.
        buckets: that are not done yet, by name from the last to the first.
        after: where the next page of versions begins, of the first of them; None: they are done.
        carry: of the pages before.
        uploads_after: where the next page of its uploads begins.
        looked: how many lines were looked at.
        done: how much was deleted, by what.
        failed: how much could not be.
    """

    period: int
    buckets: list[str]
    after: tuple[str, int | None] | None = ("", None)
    carry: Carry = field(default_factory=Carry)
    uploads_after: str | None = ""
    looked: int = 0
    done: Counter[str] = field(default_factory=Counter)
    failed: int = 0

    def next_bucket(self) -> None:
        """The bucket is done."""
        self.buckets.pop()
        self.after, self.carry, self.uploads_after = ("", None), Carry(), ""


class Expiry:
    """One router's part in it; the one that holds the lease works.

    Args:
        meta: the coordinator.
        writes: deletes.
        uploads: gives uploads up.
        clock: wall clock.
        metrics: counters.
        instance: of this router.
        period_ms: from one pass to the next; 0: none is made.
    """

    def __init__(
        self,
        meta: Metadata,
        writes: WritePath,
        uploads: Uploads,
        clock: Clock,
        metrics: Metrics,
        instance: str,
        period_ms: int,
    ) -> None:
        self._meta = meta
        self._writes = writes
        self._uploads = uploads
        self._clock = clock
        self._metrics = metrics
        self._instance = instance
        self._period_ms = period_ms
        self._pass: _Pass | None = None
        self._last = -1  # the period of the last pass that was made here
        self._again_at = 0.0
        self._looking = Pace(_LOOKED_PER_S, lambda: writes.busy)
        self._deleting = Pace(_DELETED_PER_S, lambda: writes.busy)
        self._lease = KeptLease(meta, _LEASE, instance, _LEASE_MS)
        self._rounds = Rounds(
            self.round, min(_LOOK_S, period_ms / 2000), "carrying out the rules of buckets"
        )

    def start(self) -> None:
        """Begin."""
        self._rounds.start()

    async def stop(self) -> None:
        """End; the lease runs out by itself."""
        await self._rounds.stop()

    async def round(self) -> bool:
        """Look whether it is time for a pass, and make it, or go on with it.

        Returns:
            Whether one came to its end.

        Raises:
            PutterError: Redis does not answer, or another router does it now.
        """
        if not await self._lease.held():
            self._pass = None
            return False
        bind_origin(Origin(request=current_request(), expiry=True))
        standing = await self._meta.recovery.standing()
        if not standing.complete:
            return False
        if self._pass is None:
            period = self._clock.now_ms() // self._period_ms
            if not await self._is_time(period):
                return False
            self._pass = _Pass(period, await self._with_rules())
        await self._make(self._pass)
        return True

    # -- a pass ----------------------------------------------------------------------------

    async def _is_time(self, period: int) -> bool:
        if period <= self._last or asyncio.get_running_loop().time() < self._again_at:
            return False
        return await self._meta.leases.acquire(_done(period), self._instance, _MOMENT_MS)

    async def _with_rules(self) -> list[str]:
        configured = await self._meta.buckets.configured()
        found = [each.record.bucket for each in configured if SETTING in each.record.settings]
        return sorted(found, reverse=True)

    async def _make(self, made: _Pass) -> None:
        """Go on with a pass until its end."""
        while made.buckets:
            bucket = made.buckets[-1]
            while made.after is not None:
                await self._page_of_versions(made, bucket, made.after)
            while made.uploads_after is not None:
                await self._page_of_uploads(made, bucket, made.uploads_after)
            made.next_bucket()
        self._pass = None
        self._metrics.lifecycle_completed_seconds.set(self._clock.now_ms() / 1000)
        if made.failed:
            self._again_at = asyncio.get_running_loop().time() + _AGAIN_S
        else:
            self._last = made.period
            rest_ms = (made.period + 1) * self._period_ms - self._clock.now_ms()
            name = _done(made.period)
            await self._meta.leases.acquire(name, self._instance, max(rest_ms, _MOMENT_MS))
        level = _log.warning if made.failed else _log.info
        deleted = {what: made.done[what] for what in (*What, _UPLOADS)}
        level("rules of buckets are carried out", looked=made.looked, failed=made.failed, **deleted)

    async def _page_of_versions(
        self, made: _Pass, bucket: str, after: tuple[str, int | None]
    ) -> None:
        rules = of_versions(await self._rules(bucket))
        if not rules:
            made.after = None
            return
        files = self._meta.versions
        page = await files.list(bucket, prefix_of(rules), *after, LIST_PAGE_MAX)
        made.looked += len(page.entries)
        await self._looking(len(page.entries))
        now_ms = self._clock.now_ms()
        last = page.next_after is None
        due, carry = decide(rules, page.entries, made.carry, now_ms, last=last)
        await self._all(
            made, [(each.what, partial(self._delete, bucket, rules, each, now_ms)) for each in due]
        )
        made.after, made.carry = page.next_after, carry

    async def _page_of_uploads(self, made: _Pass, bucket: str, after: str) -> None:
        rules = of_uploads(await self._rules(bucket))
        if not rules:
            made.uploads_after = None
            return
        place, prefix = uploads_of(bucket), prefix_of(rules)
        page = await self._meta.files.list(place, prefix, after, LIST_PAGE_MAX)
        made.looked += len(page.entries)
        await self._looking(len(page.entries))
        now_ms = self._clock.now_ms()
        due = [
            (key, upload)
            for entry in page.entries
            for key, upload in [read_upload_name(entry.key)]
            if is_upload_due(rules, key, entry.created_ms, now_ms)
        ]
        await self._all(made, [(_UPLOADS, partial(self._give_up, bucket, *each)) for each in due])
        made.uploads_after = page.next_after

    async def _rules(self, bucket: str) -> list[Rule]:
        """The rules of a bucket as they are now, if this router is still the one to ask.

        Raises:
            TakenOverError: it is not.
        """
        await self._go_on()
        configured = await self._meta.buckets.get(bucket)
        value = configured.record.settings.get(SETTING, ()) if configured is not None else ()
        rules = rules_of(value)
        if rules is None:
            _log.warning("rules that are not understood are not carried out", bucket=bucket)
        return rules or []

    async def _go_on(self) -> None:
        if not await self._lease.held():
            raise TakenOverError("another router carries out the rules of buckets")

    # -- deletions -------------------------------------------------------------------------

    async def _all(self, made: _Pass, work: Sequence[tuple[str, _Work]]) -> None:
        """Delete, some at a time."""
        for first in range(0, len(work), _AT_ONCE):
            some = work[first : first + _AT_ONCE]
            await self._go_on()
            await self._deleting(len(some))
            await asyncio.gather(*(self._counted(made, *each) for each in some))

    async def _counted(self, made: _Pass, what: str, work: _Work) -> None:
        try:
            gone = await work()
        except (Locked, PreconditionFailed, WriteConflict):
            return  # it is kept, or not any more what was looked at
        except PutterError as error:
            made.failed += 1
            _log.debug("something that is due stays", what=what, reason=str(error))
            return
        if gone:
            made.done[what] += 1
            self._metrics.lifecycle_expired.labels(what).inc()

    async def _delete(self, bucket: str, rules: Sequence[Rule], due: Due, now_ms: int) -> bool:
        """Delete something if it is what was looked at; whether it was there."""
        entry = due.entry

        def fits(version: Version) -> bool:
            same = number_of(version) == entry.number
            return same and is_still_due(rules, due, version, now_ms)

        deletes = self._writes.deletes
        if due.what is What.OBJECT:
            return (await deletes.name(bucket, entry.key, fits)).found
        guard = Guard(rank=Rank.ALONE if due.what is What.MARKER else Rank.OLDER)
        number = None if entry.null else entry.number
        return await deletes.version(bucket, entry.key, number, fits, guard) is not None

    async def _give_up(self, bucket: str, key: str, upload: str) -> bool:
        """Abort an upload that nobody completes at the moment; whether it was open."""
        async with self._uploads.alone(upload, 0):
            return await self._uploads.close(bucket, key, upload)


def _done(period: int) -> str:
    """The lease that is held from the end of a pass to that of its period."""
    return f"{_DONE}/{period}"
