"""Small objects, many at a time: what is complete in one moment is written together.

An object of one block costs no task, timer or round trip of its own. Whatever is complete while the
last groups are under way makes the next one: consecutive tickets, one placement, one message to
each putter with all runs and all commit records, one sync there, one call of Redis to begin and one
to publish. Where small objects come one after the other, the first of these calls was made before
they came: see `router.ahead`. The steps and their order are those of `router.upload`; only the
success of a whole group is dealt with here. If anything goes wrong before it is published, the
group is given up, and each object of it travels again, alone, where every failure has its place.
Records of the first try may be durable then: their aborts are, too, before any of the objects
travels again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Final, TypeVar

from common import records
from common.checksum import object_digest
from common.errors import MetadataUnavailable, NodesUnavailable, PutterError
from common.limits import KIB, OBJECT_LEASE_MS
from common.logs import get_logger
from common.meta.interface import Begin, Commit, Outcome
from common.meta.outbox import Post
from common.records import Extent, StoredObject, Version
from common.requests import current_request, resume_request
from common.wire import frames
from common.wire.session import RunHeader
from router.ahead import Ahead
from router.blocks import Block
from router.events import of_version
from router.groups import Entry, Group, RegroupError, take_group
from router.origin import current_origin
from router.parcels import RecordEntry, RecordsParcel, RunsParcel
from router.placement import Placement
from router.quorum import Policy
from router.targets import (
    VISIBLE,
    Target,
    Written,
    as_putter_error,
    object_id_of,
)
from router.upload import LATE_MS

if TYPE_CHECKING:
    from router.writes import WritePath

_log = get_logger(__name__)
T = TypeVar("T")
SMALL_BYTES_MAX: Final = 16 * KIB
GROUPS_MAX: Final = 2
_NAMED: Final = 8


class SmallWrites:
    """Gathers small objects into groups.

    Args:
        path: what all writes share.
    """

    def __init__(self, path: WritePath) -> None:
        self._path = path
        self._waiting: deque[Entry] = deque()
        self._groups: set[asyncio.Task[None]] = set()
        self._start_planned = False
        self._under_way = 0
        self._ahead = Ahead(path)

    @property
    def writing(self) -> int:
        """Objects that wait or are under way."""
        return len(self._waiting) + self._under_way

    async def write(self, block: Block, target: Target, policy: Policy) -> Written | None:
        """Store an object that is complete in one block; those of a group have one policy.

        Returns:
            What was written, with the block released; or None if its group failed: the block is
            still there, and the object has to travel alone.

        Raises:
            PutterError: the version was refused, and never comes to life.
        """
        loop = asyncio.get_running_loop()
        request, done = current_request(), loop.create_future()
        entry = Entry(block, target, policy, request, done, current_origin())
        self._waiting.append(entry)
        self._plan(loop)
        try:
            return await entry.done
        except asyncio.CancelledError:
            entry.done.cancel()
            raise

    def close(self) -> None:
        """Nothing new comes any more: take back what was announced for it."""
        self._ahead.close()

    # -- inside ----------------------------------------------------------------------------

    def _plan(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin a group at the end of this turn of the loop, so that the whole turn is in it."""
        if not self._start_planned and self._worth_a_group():
            self._start_planned = True
            loop.call_soon(self._start)

    def _worth_a_group(self) -> bool:
        """Beside others under way, a group has to be about as large: small ones cost the most."""
        if not self._groups:
            return True
        return len(self._groups) < GROUPS_MAX and len(self._waiting) >= self._under_way

    def _start(self) -> None:
        self._start_planned = False
        if not self._worth_a_group():
            return
        entries = take_group(self._waiting, self._path.frame_bytes)
        if not entries:
            return
        group = self._numbered(entries)
        count = len(group.entries)
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._run(group))
        self._groups.add(task)
        self._under_way += count
        task.add_done_callback(lambda task: self._landed(task, count))
        if self._waiting:
            self._plan(loop)

    def _numbered(self, entries: list[Entry]) -> Group:
        """These as a group, or as many as have been announced: the others wait for the next."""
        ready = self._ahead.ready(entries)
        if not ready:
            return Group(entries)
        self._waiting.extendleft(reversed(entries[ready:]))
        group = Group(entries[:ready])
        group.placement = self._ahead.give(group.entries)
        group.begun = list(group.entries)
        return group

    def _landed(self, task: asyncio.Task[None], count: int) -> None:
        self._groups.discard(task)
        self._under_way -= count
        if self._waiting:
            self._plan(task.get_loop())

    async def _run(self, group: Group) -> None:
        entries = group.entries
        resume_request("")  # it is for many
        try:
            placement = group.placement or await self._announce(group)
            async with asyncio.timeout(self._path.timeout_ms / 1000):
                await self._store(group, placement)
            await self._publish(group, len(placement.nodes))
        except (PutterError, TimeoutError) as error:
            if isinstance(error, MetadataUnavailable) and not group.begun:
                for entry in entries:
                    entry.error = _own(error)
            _log.info(
                "a group of small objects travels again",
                count=len(entries),
                why=str(error) or type(error).__name__,
                requests=[entry.request_id for entry in entries[:_NAMED]],
            )
            cleaning = self._give_up(group)
            if cleaning is not None and group.versions:
                await self._path.before_the_answer(cleaning)
        except BaseException:
            self._give_up(group)
            raise
        finally:
            for entry in entries:
                if entry.done.cancelled():
                    entry.block.release()
                elif not entry.done.done() and not entry.refused:
                    self._travel_again(group, entry)

    def _travel_again(self, group: Group, entry: Entry) -> None:
        if entry.error is None and group.may_travel_again(entry):
            entry.done.set_result(None)
            return
        entry.block.release()
        unknown = MetadataUnavailable(
            "Redis does not tell what became of the first try", hint="it may be there; look"
        )
        self._fail(entry, entry.error or unknown)

    async def _announce(self, group: Group) -> Placement:
        """Numbers, a place, and a word to Redis, before any byte travels.

        What has waited for Redis in vain has no patience left for a second try.
        """
        path = self._path
        frame_bytes = path.frame_bytes
        entries, begun = group.entries, group.begun
        total = 0
        for entry in entries:
            entry.object_id = await path.numbers.object_id()
            entry.count = frames.frame_count(len(entry.block.data), frame_bytes)
            total += entry.count
        first = await path.numbers.tickets(total)
        placement = path.fleet.place(f"{entries[0].object_id}/{first}", group.policy)
        group.placement = placement
        for entry in entries:
            entry.first = first
            first += entry.count
        # The stamps' task steps before the announcements leave: they share a round trip.
        stamps = asyncio.ensure_future(path.numbers.stamps(len(entries)))
        calls: list[Awaitable[None]] = []
        try:
            for entry in entries:
                calls.append(path.meta.objects.begin(self._begin(entry, placement.nodes)))
                begun.append(entry)
        finally:
            results = await asyncio.gather(stamps, *calls, return_exceptions=True)
        stamp, *answers = results
        if isinstance(stamp, MetadataUnavailable):
            answers = [stamp] * len(begun)
        for entry, answer in zip(begun, answers, strict=True):
            if isinstance(answer, MetadataUnavailable):
                entry.error = _own(answer)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        for n, entry in enumerate(entries):
            entry.stamp = stamps.result() + n
        return placement

    async def _store(self, group: Group, placement: Placement) -> None:
        """The story of a group until all of it is durable."""
        nodes = placement.nodes
        await self._path.fleet.room(nodes)
        total = sum(each.count for each in group.entries)
        runs = self._frame(group.entries, total, nodes)
        group.versions = [self._describe(each, placement) for each in group.entries]
        await self._make_durable(runs, self._records(group, nodes))

    def _begin(self, entry: Entry, nodes: tuple[str, ...]) -> Begin:
        return Begin(
            bucket=entry.target.place,
            object_id=entry.object_id,
            router=self._path.instance,
            lease_ms=OBJECT_LEASE_MS,
            ranges=((entry.first, entry.count),),
            nodes=nodes,
        )

    def _frame(self, group: list[Entry], total: int, nodes: tuple[str, ...]) -> RunsParcel:
        """All runs of a group in one buffer; the buffer goes back when nobody needs it."""
        path = self._path
        key = path.keyring.writing.checksum
        sizes = [frames.wire_bytes(len(e.block.data), path.frame_bytes) for e in group]
        out = path.pool.take(sum(sizes))
        headers = []
        at = data_bytes = 0
        for entry, size in zip(group, sizes, strict=True):
            data = entry.block.data
            with out[at : at + size] as part:
                frames.build(part, data, entry.first, path.frame_bytes, key)
            entry.digest = object_digest(data)
            headers.append(
                RunHeader(entry.first, size, entry.object_id, request_id=entry.request_id)
            )
            at += size
            data_bytes += len(data)
        parcel = RunsParcel(
            tuple(headers), total, data_bytes, out, nodes, group[0].policy, path.fleet
        )
        parcel.dispatch(_no_detour)
        parcel.when_settled(lambda: path.pool.give(out))
        return parcel

    def _describe(self, entry: Entry, placement: Placement) -> Version:
        path = self._path
        size = len(entry.block.data)
        holders = tuple(sorted(placement.nodes))
        extent = Extent(entry.first, entry.count, size, holders, dict(placement.owed))
        stored = StoredObject(entry.object_id, size, path.frame_bytes, entry.digest, (extent,))
        target, stamp = entry.target, entry.stamp
        name = target.name(stamp, entry.object_id)
        now_ms, replicas = path.clock.now_ms(), entry.policy.replicas
        return target.version(name, stamp, now_ms, replicas, entry.digest, (stored,))

    def _records(self, group: Group, nodes: tuple[str, ...]) -> RecordsParcel:
        fleet = self._path.fleet
        entries: list[RecordEntry] = [
            (version.stamp, version.objects[0].object_id, records.encode(version))
            for version in group.versions
        ]
        parcel = RecordsParcel(tuple(entries), nodes, group.policy, fleet)
        parcel.dispatch(_no_detour)
        return parcel

    async def _make_durable(self, runs: RunsParcel, kept: RecordsParcel) -> None:
        """Wait until all of it is where the records say, and nowhere else.

        Raises:
            PutterError: it is not.
        """
        try:
            await runs.counted
            await kept.counted
            late = LATE_MS / 1000
            loop = asyncio.get_running_loop()
            deadline = loop.time() + late
            while not (runs.settled and kept.settled) and loop.time() < deadline:
                await asyncio.sleep(late / 10)
            if not (runs.settled and kept.settled) or runs.rerouted or kept.rerouted:
                raise RegroupError("not all of it went where it was meant to")  # noqa: TRY301
        except BaseException:
            error = NodesUnavailable("its group was given up")
            runs.abandon(error)
            kept.abandon(error)
            raise

    async def _publish(self, group: Group, holders: int) -> None:
        """Publish all of it; from the first call on it is Redis that knows what came to life."""
        path = self._path
        group.begun = []
        self._ahead.follow(group.entries, len(self._waiting))
        commits = [
            Commit(
                version, entry.count, entry.count, entry.target.if_match, post=_post(entry, version)
            )
            for entry, version in zip(group.entries, group.versions, strict=True)
        ]
        outcomes = await asyncio.gather(
            *(path.meta.objects.commit(each) for each in commits), return_exceptions=True
        )
        refused: list[tuple[Entry, Commit, Outcome]] = []
        for entry, commit, outcome in zip(group.entries, commits, outcomes, strict=True):
            entry.block.release()
            if outcome in VISIBLE:
                if entry.done.done():
                    continue
                version = commit.version
                resume_request(entry.request_id)
                entry.done.set_result(path.written(version, entry.object_id, entry.digest, holders))
            elif isinstance(outcome, Outcome):
                entry.refused = True
                refused.append((entry, commit, outcome))
            else:
                self._fail(entry, outcome)
        resume_request("")
        if refused:
            path.in_background(self._take_back(group, refused))

    def _fail(self, entry: Entry, error: BaseException) -> None:
        reason = as_putter_error(error)
        resume_request(entry.request_id)
        self._path.failed(entry.object_id, reason)
        resume_request("")
        if not entry.done.done():
            entry.done.set_exception(reason)

    async def _take_back(self, group: Group, refused: list[tuple[Entry, Commit, Outcome]]) -> None:
        """What was not published never is, before its senders hear of it."""
        await self._path.take_back([commit.version for _, commit, _ in refused])
        why = await asyncio.gather(*(self._path.refused(each, told) for _, each, told in refused))
        for (entry, _, _), error in zip(refused, why, strict=True):
            self._fail(entry, error)
        await self._mark_failed([entry for entry, _, _ in refused], group.nodes)

    def _give_up(self, group: Group) -> asyncio.Task[None] | None:
        """Clean up behind a group that was not published, if there is anything to clean."""
        return self._path.in_background(self._clean_up(group)) if group.begun else None

    async def _clean_up(self, group: Group) -> None:
        """First Redis, which may have published a record from a putter after it lost everything."""
        group.failed = await self._mark_failed(group.begun, group.nodes)
        versions = [each for each in group.versions if object_id_of(each) in group.failed]
        if versions:
            await self._path.take_back(versions)

    async def _mark_failed(self, entries: list[Entry], nodes: tuple[str, ...]) -> set[str]:
        """Those that are not published and will not be.

        Those that Redis forgot are announced once more, so that their tickets are freed.
        """
        objects = self._path.meta.objects
        failed = set()
        try:
            told = await _all(*(objects.fail(e.target.place, e.object_id) for e in entries))
            for entry, now in zip(entries, told, strict=True):
                state = None if now else await objects.get(entry.object_id)
                if not now and state is None:
                    await objects.begin(self._begin(entry, nodes))
                    await objects.fail(entry.target.place, entry.object_id)
                if state is None or state.state == "failed":
                    failed.add(entry.object_id)
        except PutterError as error:
            _log.warning("the janitor will clean up", reason=str(error))
        return failed


async def _no_detour(node: str) -> None:
    """A group goes to the nodes that Redis was told of, or not at all.

    Raises:
        PutterError: always.
    """
    raise RegroupError(f"putter {node} would have to take over")


def _own(error: MetadataUnavailable) -> MetadataUnavailable:
    """The same for one sender: a shared error would collect the traces of all of them."""
    return MetadataUnavailable(error.message, hint=error.hint)


async def _all(*calls: Awaitable[T]) -> list[T]:
    """The results of all calls, each of them awaited whatever happens to the others.

    Raises:
        PutterError: the first failure.
    """
    results = await asyncio.gather(*calls, return_exceptions=True)
    done: list[T] = []
    for result in results:
        if isinstance(result, BaseException):
            raise result
        done.append(result)
    return done


def _post(entry: Entry, version: Version) -> Post | None:
    return of_version(entry.policy, entry.target.event, version, entry.origin)
