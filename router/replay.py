"""Replays the commit records of putters into Redis, page by page.

Two passes: what voids versions (aborts, tombstones) comes first from every putter, so that no
version is visible for a moment that must not be. In each pass all putters are read at the same
time. How far a putter was read is marked in Redis page by page, so that whoever goes on after an
interruption begins there. Nothing but a page per putter is in memory at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from common import records
from common.errors import (
    IntegrityError,
    MetadataUnavailable,
    NodesUnavailable,
    PutterError,
    TicketInvalid,
)
from common.logs import get_logger
from common.meta.interface import Ceilings
from common.meta.recovery import Finding, Mark, Recovery, Restored
from common.records import (
    Abort,
    AccessKey,
    BucketSettings,
    Change,
    CommitRecord,
    Members,
    Tombstone,
    Version,
)
from common.tickets import parse_id
from common.wire.inventory import Count, Counts
from common.wire.message import split_payload as split
from common.wire.session import ListRecords, RecordList
from router.fleet import Fleet
from router.links import NodeLink

_log = get_logger(__name__)
_CALL_MS: Final = 60_000
_PAGE: Final = 500
_COUNTED_MAX: Final = 32_768
_WAITS: Final = Restored.WAITS
_BARE: Final = ("",)
_MEMBERS: Final = ("members",)
_EARLY: Final = ("abort", "tombstone", "members")


@dataclass
class NodeTally:
    """What was read from one putter."""

    records: int = 0
    last: int = 0
    target: int = 0


@dataclass
class Tally:
    """What a replay found, and what became of it.

    Attributes:
        outcomes: how many records had each outcome, by kind and outcome.
        unknown: records of kinds that this version does not know.
        damaged: records that cannot be read.
        not_whole: versions that were given up since their bytes are not there.
        nodes: by putter.
        members: the newest list of the putters that make up the cluster, or None.
        floor: above every number that a record uses.
    """

    outcomes: dict[tuple[str, Restored], int] = field(default_factory=dict)
    unknown: int = 0
    damaged: int = 0
    not_whole: int = 0
    nodes: dict[str, NodeTally] = field(default_factory=dict)
    members: Members | None = None
    floor: Ceilings = field(default_factory=Ceilings)

    def of(self, kind: str, *outcomes: Restored) -> int:
        """How many records of a kind had one of these outcomes; any, if none is named."""
        return sum(
            count
            for (each, outcome), count in self.outcomes.items()
            if each == kind and (not outcomes or outcome in outcomes)
        )


@dataclass(frozen=True)
class _Doubtful:
    """Versions of one putter whose bytes are on no putter that their records name.

    Attributes:
        numbers: of the records, ascending.
        target: up to which everything else was applied.
        waits: whether something else waits for its writer.
    """

    numbers: list[int]
    target: int
    waits: bool


OnProgress = Callable[[Tally], None]
Mend = Callable[[Version], Awaitable[object]]


class Replay:
    """One replay.

    Args:
        recovery: where to.
        fleet: the putters.
        epoch: the run of Redis for which it is.
        token: of the attempt to complete Redis; "" while it is complete.
        anew_below: commits of stamps below this one may have been lost (see
            `common.meta.recovery.Recovery.restore`).
        on_progress: called after each page.
        mend: gives a version's putters what they lack of it; None to leave them as they are.
    """

    def __init__(
        self,
        recovery: Recovery,
        fleet: Fleet,
        epoch: str,
        *,
        token: str,
        anew_below: int,
        on_progress: OnProgress | None = None,
        mend: Mend | None = None,
    ) -> None:
        self.tally: Final = Tally()
        self._recovery = recovery
        self._fleet = fleet
        self._epoch = epoch
        self._token = token
        self._anew_below = anew_below
        self._on_progress = on_progress
        self._mend = mend
        self._doubtful: dict[str, _Doubtful] = {}

    async def run(
        self, early: Mapping[str, int], late: Mapping[str, int], targets: Mapping[str, int]
    ) -> bool:
        """Both passes.

        Args:
            early: by putter, the number above which aborts and tombstones are read.
            late: by putter, the number above which everything is read; it is marked as replayed
                in this epoch.
            targets: by putter, the number up to which there is something to read.

        Returns:
            False if something waits for its writer, so that not all is marked. What is in doubt
            is left to `settle`, and not marked either.

        Raises:
            PutterError: a putter or Redis went away, or another run of Redis began.
        """
        await self._all(self._early(node, after, targets[node]) for node, after in early.items())
        done = await self._all(
            self._late(node, after, targets[node]) for node, after in late.items()
        )
        return all(done)

    async def settle(self, away: Collection[str]) -> bool:
        """Give up the versions whose bytes are not where their records say.

        Not before everything of all putters was applied: the bytes may have taken a detour, and
        another record of the same object, perhaps on another putter, tells where they are.

        Args:
            away: putters of the cluster that were not read; while there are any, nothing is done.

        Returns:
            False if something is still in doubt or waits for its writer.

        Raises:
            PutterError: as `run`.
        """
        if self._doubtful and away:
            return False
        doubtful, self._doubtful = self._doubtful, {}
        return all([await self._settle(node, each) for node, each in doubtful.items()])

    async def members(self, targets: Mapping[str, int]) -> None:
        """Read only who belongs to the cluster.

        Raises:
            PutterError: a putter went away.
        """
        await self._all(self._early(node, 0, last, _MEMBERS) for node, last in targets.items())

    async def bare(self, starts: Mapping[str, int], targets: Mapping[str, int]) -> None:
        """Apply the records without an object between two numbers of each putter; marks nothing.

        Raises:
            PutterError: a putter or Redis went away.
        """
        await self._all(
            self._early(node, after, targets[node], _BARE) for node, after in starts.items()
        )

    # -- inside ----------------------------------------------------------------------------

    async def _all(self, work: Iterable[Coroutine[Any, Any, bool]]) -> list[bool]:
        """Read from all putters at the same time; the first failure ends all."""
        tasks = [asyncio.ensure_future(each) for each in work]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _early(
        self, node: str, after: int, target: int, kinds: tuple[str, ...] = _EARLY
    ) -> bool:
        while after < target:
            page, last = await self._page(node, after, kinds)
            page = [(number, record) for number, record in page if number <= target]
            await self._apply([record for _, record in page])
            if not last:
                break
            after = last
        return True

    async def _late(self, node: str, after: int, target: int) -> bool:
        """Apply everything but what is doubtful; the mark stops below what waits."""
        tally = self.tally.nodes.setdefault(node, NodeTally())
        tally.last, tally.target = after, target
        safe, stopped, waits = after, False, False
        doubtful: list[int] = []
        while after < target:
            page, after_page = await self._page(node, after, ())
            if not after_page:
                break
            after = after_page
            found = [record for _, record in page]
            lacking = await self._lacking(node, found)
            outcomes = await self._apply(found, leave=lacking)
            doubtful += [page[index][0] for index in lacking]
            waits |= outcomes.count(_WAITS) > len(lacking)
            tally.records += len(page)
            tally.last = after
            if not stopped:
                waiting = (n for (n, _), o in zip(page, outcomes, strict=True) if o is _WAITS)
                first = next(waiting, 0)
                stopped, safe = bool(first), first - 1 if first else after
                await self._mark(node, Mark(safe))
            if self._on_progress is not None:
                self._on_progress(self.tally)
        if doubtful:
            self._doubtful[node] = _Doubtful(doubtful, max(after, target), waits)
        await self._mark(node, Mark(safe if stopped else max(after, target), self._epoch))
        return not waits

    async def _settle(self, node: str, doubtful: _Doubtful) -> bool:
        """Apply what was doubtful of one putter, as it is now."""
        numbers, waits = set(doubtful.numbers), doubtful.waits
        after = doubtful.numbers[0] - 1
        while numbers:
            page, after = await self._page(node, after, ())
            found = [record for number, record in page if number in numbers]
            outcomes = await self._apply(found, await self._lacking(node, found))
            waits |= _WAITS in outcomes
            numbers -= {number for number, _ in page}
            if not after:
                break  # dropped meanwhile
        if not waits:
            await self._mark(node, Mark(doubtful.target, self._epoch))
        return not waits

    async def _mark(self, node: str, mark: Mark) -> None:
        if not await self._recovery.mark(self._epoch, {node: mark}, self._token):
            raise MetadataUnavailable("Redis was restarted while records were replayed")

    async def _page(
        self, node: str, after: int, kinds: tuple[str, ...]
    ) -> tuple[list[tuple[int, CommitRecord]], int]:
        """Numbered records above a number, and the number up to which the putter looked."""
        answers = await self._link(node).call(
            lambda request: ListRecords(request, after, _PAGE, kinds), timeout_ms=_CALL_MS
        )
        reply, payload = answers[-1]
        if not isinstance(reply, RecordList):
            raise NodesUnavailable(f"putter {node} does not list its records")
        bodies = split(payload, [length for _, length in reply.records])
        page: list[tuple[int, CommitRecord]] = []
        for (number, _), body in zip(reply.records, bodies, strict=True):
            try:
                page.append((number, records.decode(bytes(body))))
            except IntegrityError as error:
                self.tally.damaged += 1
                _log.error("a commit record is damaged", node=node, number=number, why=str(error))
        return page, reply.last

    async def _apply(
        self,
        found: Sequence[CommitRecord],
        lacking: Collection[int] = (),
        leave: Collection[int] = (),
    ) -> list[Restored | None]:
        """Restore a page but what is left for later; the outcome of each record."""
        outcomes: list[Restored | None] = [None] * len(found)
        changes: list[Finding] = []
        places: list[int] = []
        missing, left = set(lacking), set(leave)
        for index, record in enumerate(found):
            match record:
                case Version() | Tombstone() | Abort() | BucketSettings() | AccessKey():
                    self._lift(record)
                    if index in left:
                        outcomes[index] = _WAITS
                        continue
                    changes.append(Finding(record, whole=index not in missing))
                    places.append(index)
                case Members():
                    held = self.tally.members
                    if held is None or record.stamp > held.stamp:
                        self.tally.members = record
                case _:
                    self.tally.unknown += 1
        answers = [_WAITS] * len(changes)
        for anew in (True, False):
            part = [n for n, c in enumerate(changes) if (c.record.stamp < self._anew_below) == anew]
            if part:
                told = await self._recovery.restore([changes[n] for n in part], anew=anew)
                for n, outcome in zip(part, told, strict=True):
                    answers[n] = outcome
        for index, change, outcome in zip(places, changes, answers, strict=True):
            outcomes[index] = outcome
            kind = type(change.record).__name__.lower()
            key = (kind, outcome)
            self.tally.outcomes[key] = self.tally.outcomes.get(key, 0) + 1
            if outcome is Restored.ABORTED and not change.whole:
                self.tally.not_whole += 1
            if outcome is Restored.CONFLICT:
                name = records.name_of(change.record)
                _log.error("a record contradicts what is known", name=name, kind=kind)
        return outcomes

    def _lift(self, record: Change) -> None:
        """Keep the counters above every number in use."""
        tickets = objects = 0
        if isinstance(record, Version):
            for stored in record.objects:
                for extent in stored.extents:
                    tickets = max(tickets, extent.first + extent.count)
                try:
                    objects = max(objects, parse_id(stored.object_id) + 1)
                except TicketInvalid:
                    _log.error("an object with a strange name", object=stored.object_id)
        stamp = records.kept_under(record)
        here = Ceilings(tickets, objects, stamp + 1)
        self.tally.floor = self.tally.floor.highest(here)

    # A record follows the acks of all runs but that of an only run, which travels with it: only
    # there it can happen that a record is durable and its bytes are on no putter.

    async def _lacking(self, node: str, found: Sequence[CommitRecord]) -> list[int]:
        """Which versions of a page are known to lack bytes on every putter that they name."""
        open_: dict[int, tuple[int, int]] = {}
        named: dict[int, tuple[str, ...]] = {}
        for index, record in enumerate(found):
            if isinstance(record, Version) and len(record.objects) == 1:
                extents = record.objects[0].extents
                if len(extents) == 1 and extents[0].count <= _COUNTED_MAX // 16:
                    open_[index] = (extents[0].first, extents[0].count)
                    named[index] = extents[0].nodes
        order = [node, *sorted({each for nodes in named.values() for each in nodes} - {node})]
        untold: set[int] = set()
        whole: set[int] = set()
        partial: set[int] = set()
        for each in order:
            mine = [index for index in open_ if each in named[index]]
            if not mine:
                continue
            try:
                counts = await self._count(each, [open_[index] for index in mine])
            except PutterError:
                untold.update(mine)
                continue
            for index, count in zip(mine, counts, strict=True):
                (whole if count == open_[index][1] else partial).add(index)
        for index in sorted(whole & partial):
            await self._complete(found[index])
        return [index for index in open_ if index not in untold | whole]

    async def _complete(self, record: CommitRecord) -> None:
        """What is published names only putters that hold it, as far as they can be reached."""
        if self._mend is None or not isinstance(record, Version):
            return
        try:
            await self._mend(record)
        except PutterError as error:
            name = f"{record.bucket}/{record.key}"
            _log.warning("a replica stays incomplete", name=name, reason=str(error))

    async def _count(self, node: str, ranges: Sequence[tuple[int, int]]) -> list[int]:
        counts: list[int] = []
        portion: list[tuple[int, int]] = []
        size = 0
        for span in [*ranges, (0, 0)]:
            if portion and (size + span[1] > _COUNTED_MAX or not span[1]):
                asked = tuple(portion)
                answers = await self._link(node).call(
                    lambda request, asked=asked: Count(request, asked),  # type: ignore[misc]
                    timeout_ms=_CALL_MS,
                )
                reply = answers[-1][0]
                if not isinstance(reply, Counts):
                    raise NodesUnavailable(f"putter {node} does not count its tickets")
                counts += reply.counts
                portion, size = [], 0
            portion.append(span)
            size += span[1]
        return counts

    def _link(self, node: str) -> NodeLink:
        link = self._fleet.link(node)
        if link is None or not link.up:
            raise NodesUnavailable(f"putter {node} is not connected")
        return link
