"""Keeps Redis complete: brings back from the putters what it may have lost.

```
Redis is new, or in another run          records above each putter's mark are replayed, counters
                                         and stamps go above all that was ever given out, then
                                         Redis serves again
a putter comes that was away meanwhile   what is above its mark is replayed
a putter comes that nobody knows         all putters are told who belongs to the cluster
```

One router at a time does it, under a lease. A Redis that knows nothing at all beside putters that
hold records counts as lost: then every putter that belonged to the cluster has to answer, and only
with ``auto`` it is done without being asked (`putter rebuild`).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from common import records
from common.errors import MetadataUnavailable, PutterError, Unavailable
from common.logs import get_logger
from common.membership import Decision
from common.meta.interface import Ceilings, Metadata
from common.meta.recovery import Mark, Standing
from common.requests import bind_request
from common.wire.session import ListRecords, RecordList
from router.ceilings import Kept, further, keep
from router.fleet import Fleet
from router.links import NodeLink
from router.peers import Peers
from router.replay import Mend, OnProgress, Replay, Tally

_log = get_logger(__name__)
_LEASE: Final = "catch-up"
_LEASE_MS: Final = 10_000
_PERIOD_MS: Final = 1_000
_RETRY_MS: Final = 100
_SETTLE_MS: Final = 2_000
_CALL_MS: Final = 10_000
_GIVE_S: Final = 1.0
_EVERYTHING: Final = 2**63
_FROM_ZERO: Final = Mark()


class RebuildNeeded(Unavailable):
    """Redis has to be brought up to date by hand, or with more putters, before anything works."""


@dataclass(frozen=True)
class CatchUpOptions:
    """What the operator decides.

    Attributes:
        auto: bring a Redis that lost everything back without being asked.
        without: putters that are not waited for: they are gone for good.
        again: replay everything once more, marks or not.
        wait_ms: patience for a putter to connect.
        away_max: so many putters may be away where Redis lost its tail; None: any number.
    """

    auto: bool = True
    without: frozenset[str] = frozenset()
    again: bool = False
    wait_ms: int = 30_000
    away_max: int | None = None


class CatchUp:
    """One router's part in it.

    Args:
        meta: the coordinator.
        fleet: the putters.
        instance: of this router.
        rng: names attempts.
        options: what the operator decides.
        on_progress: called after each page of records.
        mend: gives a version's putters what they lack of it.
    """

    def __init__(
        self,
        meta: Metadata,
        fleet: Fleet,
        instance: str,
        rng: random.Random,
        options: CatchUpOptions,
        on_progress: OnProgress | None = None,
        mend: Mend | None = None,
    ) -> None:
        self.tally: Tally | None = None
        self.silent: tuple[str, ...] = ()
        self._meta = meta
        self._fleet = fleet
        self._instance = instance
        self._rng = rng
        self._options = options
        self._on_progress = on_progress
        self._mend = mend
        self._peers = Peers(meta, fleet)
        self._without = options.without
        self._trouble: PutterError | None = None
        self._told = ""
        self._lock = asyncio.Lock()
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look after Redis."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Give up what is under way; whoever goes on begins at the marks."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    @property
    def trouble(self) -> str:
        """Why Redis is not complete; "" if it is, as far as is known here."""
        return str(self._trouble or "")

    @property
    def needs(self) -> PutterError | None:
        """The same as an error; None if it is complete."""
        return self._trouble

    async def ensure(self, timeout_ms: int) -> None:
        """Return once Redis is complete and its counters are established.

        Raises:
            Unavailable: not in time, or not without help.
            PutterError: Redis or the putters do not answer.
        """
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                while not await self._is_done():
                    if isinstance(self._trouble, RebuildNeeded):
                        raise self._trouble
                    self._wanted.set()
                    await asyncio.sleep(_RETRY_MS / 1000)
        except TimeoutError:
            if self._trouble is not None:
                raise self._trouble from None
            raise MetadataUnavailable(
                f"Redis was not brought up to date with the putters within {timeout_ms} ms",
                hint="it was restarted or emptied: see the log of the routers, or `putter status`",
            ) from None

    async def decided(self) -> None:
        """Have the putters keep what is decided of them now; durable when this returns.

        Raises:
            PutterError: Redis or no putter took it.
        """
        standing = await self._meta.recovery.standing()
        await self._peers.tell(standing.epoch, standing.marks, self._without)

    async def step(self) -> bool:
        """Do what there is to do.

        Returns:
            Whether Redis is complete.

        Raises:
            PutterError: Redis or the putters do not answer.
        """
        async with self._lock:
            declared = await self._meta.members.decisions()
            gone = {node for node, decision in declared.items() if decision is Decision.GONE}
            self._without = self._options.without | gone
            standing = await self._meta.recovery.standing()
            if standing.complete and standing.established and not self._options.again:
                self._settle(None)
                try:
                    await self._welcome(standing)
                except PutterError as error:
                    _log.info("a putter that came is seen to later", why=str(error))
                return True
            if not await self._take_lease():
                return False
            keeper = asyncio.get_running_loop().create_task(self._keep_lease())
            try:
                # Whoever had the lease before may have done it.
                standing = await self._meta.recovery.standing()
                if standing.complete and standing.established and not self._options.again:
                    return True
                return await self._recover(standing)
            finally:
                keeper.cancel()
                await asyncio.gather(keeper, return_exceptions=True)
                await self._give_lease()

    # -- inside ----------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            done = False
            bind_request()
            try:
                done = await self.step()
            except PutterError as error:
                self._settle(error)
            except Exception as error:  # noqa: BLE001 - it goes on with the next round
                _log.exception("bringing Redis up to date failed")
                self._settle(MetadataUnavailable(f"{type(error).__name__}: {error}"))
            if not done:
                await asyncio.sleep(_RETRY_MS / 1000)
                continue
            self._wanted.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PERIOD_MS / 1000):
                    await self._wanted.wait()

    async def _is_done(self) -> bool:
        """Whether Redis is complete and its counters are established; does it if nobody else does.

        What takes long goes on when whoever waits for it gives up.
        """
        if self._task is None:
            return await self.step()
        standing = await self._meta.recovery.standing()
        return standing.complete and standing.established

    def _settle(self, trouble: PutterError | None) -> None:
        """Remember, log and answer why Redis is not complete, or that it is."""
        self._trouble = trouble
        needed = trouble if isinstance(trouble, RebuildNeeded) else None
        self._meta.recovery.refuse(needed)
        text = str(trouble or "")
        if text and text != self._told:
            _log.warning("Redis is not up to date", why=text, hint=trouble.hint if trouble else "")
        self._told = text

    async def _recover(self, standing: Standing) -> bool:
        """The story of bringing Redis up to date."""
        options = self._options
        await self._fleet.wait_up(options.wait_ms)
        await self._until_all_connected()
        kept = await keep(self._fleet.up(), Ceilings())
        used = kept.ceilings != Ceilings() or any(kept.last_records.values())
        if standing.fresh and used and not options.auto:
            self._settle(
                RebuildNeeded(
                    "Redis is empty, but the putters hold data",
                    hint="run `putter rebuild`, or start the router with --rebuild auto",
                )
            )
            return False
        token = self._rng.randbytes(8).hex()
        if not await self._meta.recovery.begin(standing.epoch, token):
            return False
        late = self._starts(standing, kept)
        if any(kept.last_records[node] > after for node, after in late.items()):
            _log.info("replaying commit records", putters=len(late), fresh=standing.fresh)
        replay = Replay(
            self._meta.recovery,
            self._fleet,
            standing.epoch,
            token=token,
            anew_below=_EVERYTHING,
            on_progress=self._on_progress,
            mend=self._mend,
        )
        self.tally = replay.tally
        if standing.fresh and self._peers.read_in != standing.epoch:
            await replay.members(kept.last_records)
            self._peers.read_in = standing.epoch
            if await self._peers.found(replay.tally.members):
                return False  # begin anew with what was decided
        # Aborts and tombstones of all putters count for what is read from the beginning.
        whole = any(not after and kept.last_records[node] for node, after in late.items())
        early = dict.fromkeys(kept.last_records, 0) if whole else late
        await replay.run(early, late, kept.last_records)
        if await self._peers.found(replay.tally.members):
            return False

        floor = kept.ceilings.highest(replay.tally.floor).highest(standing.ceilings)
        self.silent = self._silent(kept)
        away = sorted(self._away(standing, kept))
        needed = self._needed(standing, away)
        if needed is not None:
            await keep(self._fleet.up(), floor)
            self._settle(needed)
            return False
        await replay.settle(away)
        if away:
            floor = further(floor)
        if not await self._meta.counters.establish(standing.epoch, floor):
            return False
        # Nothing that is replayed later of putters that are away now is younger than this.
        stamp = await self._peers.stamp(standing.epoch)
        if not await self._meta.recovery.complete(standing, stamp, token):
            return False
        await self._tell_peers(standing, kept)
        _log.info(
            "Redis is up to date",
            epoch=standing.epoch[:12],
            records=sum(each.records for each in replay.tally.nodes.values()),
            tickets=floor.tickets,
            objects=floor.objects,
            stamps=floor.stamps,
        )
        self._settle(None)
        return True

    def _needed(self, standing: Standing, away: Sequence[str]) -> RebuildNeeded | None:
        """Why those that answered are not enough; None if they are."""
        if standing.fresh and self.silent:
            return RebuildNeeded(
                f"Redis lost everything, and these putters did not answer: "
                f"{', '.join(self.silent)}",
                hint="start them; or, if they are gone for good, "
                f"`putter rebuild --without {self.silent[0].split()[0]}`",
            )
        if self._options.away_max is not None and len(away) > self._options.away_max:
            return RebuildNeeded(
                f"Redis may have lost what only these putters hold: {', '.join(away)}",
                hint=f"start them, or say of one that it is lost: `putter drain {away[0]} --gone`; "
                "under --consistency available they are not waited for",
            )
        if away:
            _log.warning("what only putters that are away hold comes with them", putters=away)
        return None

    async def _tell_peers(self, standing: Standing, kept: Kept) -> None:
        """Forget putters that are gone for good, and have the others know of each other."""
        for node in self._without:
            await self._meta.recovery.forget(node)
        if standing.fresh or self._without or set(kept.last_records) - set(standing.marks):
            try:
                nodes = {*standing.marks, *kept.last_records}
                await self._peers.tell(standing.epoch, nodes, self._without)
            except PutterError as error:
                _log.warning("the putters were not told of each other", why=str(error))

    def _starts(self, standing: Standing, kept: Kept) -> dict[str, int]:
        """By putter, above which number its records are replayed."""
        if standing.lost or self._options.again:
            return dict.fromkeys(kept.last_records, 0)
        marks = {node: standing.marks.get(node, _FROM_ZERO) for node in kept.last_records}
        return {
            node: mark.number
            for node, mark in marks.items()
            if mark.epoch != standing.epoch or standing.runs
        }

    def _silent(self, kept: Kept) -> tuple[str, ...]:
        """Putters that belong to the cluster, or are connected, and did not answer."""
        peers = self._peers.newest.peers if self._peers.newest is not None else ()
        addresses = {peer.node: peer.address for peer in peers}
        addresses |= {link.node: f"{link.host}:{link.port}" for link in self._fleet.up()}
        missing = set(addresses) - set(kept.last_records) - self._without
        return tuple(f"{node} ({addresses[node]})" for node in sorted(missing))

    def _away(self, standing: Standing, kept: Kept) -> set[str]:
        """Putters that may know more than those that answered."""
        known = set(standing.marks) - set(kept.last_records) - self._without
        return known.union(each.split()[0] for each in self._silent(kept))

    async def _welcome(self, standing: Standing) -> None:
        """See to putters that were not there when Redis was last brought up to date."""
        comers = [
            link
            for link in self._fleet.up()
            if standing.marks.get(link.node, _FROM_ZERO).epoch != standing.epoch
            and link.node not in self._without
        ]
        if not comers or not await self._take_lease():
            return
        try:
            kept = await keep(comers, standing.ceilings)
            if kept.ceilings != standing.ceilings:
                await self._meta.counters.establish(standing.epoch, kept.ceilings)
            if any(link.node not in standing.marks for link in comers):
                nodes = {*standing.marks, *(link.node for link in comers)}
                await self._peers.tell(standing.epoch, nodes, self._without)
            late = {}
            for link in comers:
                mark = standing.marks.get(link.node)
                if mark is not None or await self._holds_older(link, standing.stamp):
                    late[link.node] = mark.number if mark is not None else 0
                elif not await self._meta.recovery.mark(
                    standing.epoch, {link.node: Mark(0, standing.epoch)}
                ):
                    return
            if late:
                await self._replay_comers(standing, late)
        finally:
            await self._give_lease()

    async def _replay_comers(self, standing: Standing, late: dict[str, int]) -> None:
        _log.info("replaying commit records of putters that were away", putters=sorted(late))
        kept = await keep(self._fleet.up(), Ceilings())
        late = {node: after for node, after in late.items() if node in kept.last_records}
        early = late if all(late.values()) else dict.fromkeys(kept.last_records, 0)
        replay = Replay(
            self._meta.recovery,
            self._fleet,
            standing.epoch,
            token="",
            anew_below=standing.stamp,
            on_progress=self._on_progress,
            mend=self._mend,
        )
        await replay.run(early, late, kept.last_records)
        await replay.settle(self._away(standing, kept))
        await self._meta.counters.establish(standing.epoch, replay.tally.floor)

    async def _holds_older(self, link: NodeLink, stamp: int) -> bool:
        """Whether a putter that nobody knew has records from before a stamp: it is not new."""
        answers = await link.call(lambda request: ListRecords(request, 0, 1), timeout_ms=_CALL_MS)
        reply, payload = answers[-1]
        if not isinstance(reply, RecordList) or not reply.records:
            return False
        found = records.decode(bytes(payload))
        return not isinstance(found, records.Known) or found.stamp < stamp

    async def _until_all_connected(self) -> None:
        """Those that gave a sign of life are given a moment to connect."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _SETTLE_MS / 1000
        while len(self._fleet.up()) < self._fleet.expected() and loop.time() < deadline:
            await asyncio.sleep(0.02)

    async def _take_lease(self) -> bool:
        return await self._meta.leases.acquire(_LEASE, self._instance, _LEASE_MS)

    async def _keep_lease(self) -> None:
        while True:
            await asyncio.sleep(_LEASE_MS / 3000)
            try:
                await self._take_lease()
            except PutterError as error:
                _log.debug("the lease may be lost", reason=str(error))

    async def _give_lease(self) -> None:
        try:
            async with asyncio.timeout(_GIVE_S):
                await self._meta.leases.release(_LEASE, self._instance)
        except (PutterError, TimeoutError):
            _log.debug("the lease runs out by itself")
