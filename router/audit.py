"""Anti-entropy: finds what no record of a debt tells, and has it repaired.

A putter may lose what it acknowledged: a disk, some files of it, the last seconds before a power
failure. So the putters' inventories are compared with what Redis describes (`router.compare`), and
among each other where Redis describes nothing (`router.bare`):

* when nobody has done it for as long as the operator wants;
* soon after a putter came back without some commit records that it had before, as far as it tells;
* soon after Redis was brought up to date from the putters, in another run or after it lost
  something in the same one, as what was noted there may be lost;
* soon after routers were started with another N, or a bucket wants more than that, as records
  without an object go by it;
* soon after putters were given up or taken back, as with them go records without an object;
* when somebody asks for it.

One router at a time makes a round, and one looks whether it is time for one, under leases.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

from common.checksum import object_digest
from common.clock import Clock
from common.digests import Grid, Space
from common.errors import NodesUnavailable, PutterError
from common.keys import Keyring
from common.logs import get_logger
from common.meta.interface import Ceilings, Metadata
from common.meta.recovery import Standing
from common.metrics import Metrics
from common.records import ANYONE
from common.wire.session import CeilingsReply, Raise
from router.bare import BareRecords
from router.compare import Comparison, Damaged, Found, TakenOverError
from router.fleet import Fleet
from router.links import NodeLink
from router.numbers import Numbers
from router.policies import Policies
from router.replicas import Replicas
from router.rounds import Rounds

_log = get_logger(__name__)
_LEASE: Final = "audit"
_LEASE_MS: Final = 60_000
_DONE: Final = "audit/done"
_WATCH: Final = "audit/watch"
_WATCH_MS: Final = 60_000
_MOMENT_MS: Final = 1
_NOBODY: Final = ""
"""Among those that were not compared: something else stood in the way."""
_LOOK_S: Final = 10.0
_CALL_MS: Final = 15_000
_SOON_S: Final = 30.0
"""Between a reason to begin and the beginning: what is being repaired need not be found."""
_REST: Final = 20
"""After a round there is none for so many times as long as it took, unless somebody asks."""
_AGAIN_S: Final = 300.0
"""Until a putter is asked that was not there, or did not tell, at the last round."""


@dataclass(frozen=True)
class Round:
    """A round that came to its end.

    Attributes:
        started_ms, ended_ms: wall clock, milliseconds since 1970.
        found: what it found.
        silent: putters that did not tell what they hold, or were away.
    """

    started_ms: int
    ended_ms: int
    found: Found
    silent: tuple[str, ...]


@dataclass
class _Reasons:
    """Why a round is wanted: words for the log, and when it may begin."""

    words: set[str] = field(default_factory=set)
    at: float = 0.0


class Audit:
    """One router's part in it.

    Args:
        meta: the coordinator.
        fleet: the putters.
        replicas: keeps records.
        policies: how many putters hold what.
        numbers: stamps of new descriptions.
        keyring: its writing key makes the seed of the digests.
        clock: wall clock.
        metrics: counters.
        damaged: told of what no putter has.
        instance: of this router.
        period_ms: time between two rounds that nobody asked for; 0: there are none.
    """

    def __init__(
        self,
        meta: Metadata,
        fleet: Fleet,
        replicas: Replicas,
        policies: Policies,
        numbers: Numbers,
        keyring: Keyring,
        clock: Clock,
        metrics: Metrics,
        damaged: Damaged,
        instance: str,
        period_ms: int,
    ) -> None:
        self.found: Found | None = None
        self.last: Round | None = None
        self._meta = meta
        self._fleet = fleet
        self._replicas = replicas
        self._policies = policies
        self._numbers = numbers
        self._keyring = keyring
        self._clock = clock
        self._metrics = metrics
        self._damaged = damaged
        self._instance = instance
        self._period_ms = period_ms
        self._reasons = _Reasons()
        self._watches = False
        self._done = ""
        self._completion = "", 0
        self._turns = 0
        self._told: dict[str, tuple[str, int, int]] = {}
        self._next_s = _SOON_S
        self._rest_s = 0.0
        self._renew_at = 0.0
        self._missed: frozenset[str] = frozenset()
        self._rounds = Rounds(self.look, _LOOK_S if period_ms else 0, "comparing inventories")
        self._demanded: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._next_s = asyncio.get_running_loop().time() + _SOON_S
        self._rounds.start()

    async def stop(self) -> None:
        """End; what was not found yet is found by the next round."""
        await self._rounds.stop()
        if self._demanded is not None:
            self._demanded.cancel()
            await asyncio.gather(self._demanded, return_exceptions=True)

    @property
    def wanted(self) -> list[str]:
        """Why a round is going to begin."""
        return sorted(self._reasons.words)

    async def ask(self, nodes: Collection[str] = ()) -> bool:
        """Have a round made now; False while another router makes one.

        Args:
            nodes: compare only what these hold; all of them if none is named.

        Raises:
            PutterError: Redis does not answer, or is not complete.
        """
        if self.found is not None:
            return True
        standing = await self._meta.recovery.standing()
        if not standing.complete:
            raise NodesUnavailable("Redis is not up to date yet", hint="try again in a moment")
        if not await self._lease():
            return False
        self.found = Found()
        self._demanded = asyncio.get_running_loop().create_task(self._made(standing, nodes))
        return True

    async def is_elsewhere(self) -> bool:
        """Whether another router makes a round.

        Raises:
            PutterError: Redis does not answer.
        """
        if self.found is not None:
            return False
        return not await self._meta.leases.acquire(_LEASE, self._instance, _MOMENT_MS)

    async def look(self) -> bool:
        """Look whether it is time for a round, and make it.

        Returns:
            Whether one was made.

        Raises:
            PutterError: Redis does not answer.
        """
        standing = await self._meta.recovery.standing()
        if not standing.complete or self.found is not None:
            return False
        if not await self._meta.leases.acquire(_WATCH, self._instance, _WATCH_MS):
            self._watches, self._done = False, ""
            return False
        await self._watch(standing)
        done = await self._named(standing)
        if done != self._done:  # that of the last round, as far as is known here, may be another
            self._done = done
            self._next_s = min(self._next_s, asyncio.get_running_loop().time() + _SOON_S)
        if not await self._is_time() or not await self._lease():
            return False
        self.found = Found()
        await self._make(standing, ())
        return True

    # -- when ------------------------------------------------------------------------------

    async def _watch(self, standing: Standing) -> None:
        """Note reasons to begin soon."""
        if not self._watches:  # another router did until now, or nobody
            self._watches, self._completion = True, standing.completion
            self._turns = self._fleet.turns
            self._told.clear()
        if standing.completion != self._completion:
            self._want("Redis was brought up to date")
        self._completion = standing.completion
        if self._fleet.turns != self._turns:
            self._want("putters were given up or taken back")
        self._turns = self._fleet.turns
        up = self._fleet.up()
        back = self._missed & {_NOBODY, *(link.node for link in up)}
        if back:
            self._missed -= back
            self._want("some were not compared", _AGAIN_S)
        for link in up:
            try:
                answers = await link.call(
                    lambda request: Raise(request, Ceilings()), timeout_ms=_CALL_MS
                )
            except PutterError as error:
                _log.debug("a putter does not tell", node=link.node, reason=str(error))
                continue
            reply = answers[-1][0]
            if not isinstance(reply, CeilingsReply) or reply.gone < 0:
                continue
            instance, gone, last = self._told.get(link.node, ("", 0, 0))
            if instance not in ("", link.instance) and (
                reply.gone > gone or reply.last_record < last
            ):
                # Dropped between the last look and its end, or lost: who could tell?
                self._want(f"putter {link.node} came back with less")
            self._told[link.node] = (link.instance, reply.gone, reply.last_record)

    def _want(self, why: str, delay_s: float = _SOON_S) -> None:
        at = asyncio.get_running_loop().time() + delay_s
        self._reasons.at = min(self._reasons.at, at) if self._reasons.words else at
        self._reasons.words.add(why)

    async def _is_time(self) -> bool:
        now = asyncio.get_running_loop().time()
        if now < self._rest_s:
            return False
        if self._reasons.words:
            return now >= self._reasons.at
        if now < self._next_s:
            return False
        # Somebody else's round counts, too.
        return await self._meta.leases.acquire(self._done, self._instance, _MOMENT_MS)

    async def _named(self, standing: Standing) -> str:
        """The lease that is held for a period after a round.

        It is another one where something may have been forgotten since, others leave than before,
        or the store or a bucket wants another N: whoever watches then knows that by the name,
        although it has not seen it happen.
        """
        store = self._policies.store.replicas
        wanted = [
            (each.record.bucket, each.record.settings.get("replicas"))
            for each in await self._meta.buckets.configured()
        ]
        more = sorted((b, n) for b, n in wanted if isinstance(n, int) and n > store)
        words = f"{store} {more} {standing.completion} {sorted(self._fleet.left_out)}"
        return f"{_DONE}/{object_digest(words.encode()).hex()[:32]}"

    async def _lease(self) -> bool:
        self._renew_at = asyncio.get_running_loop().time() + _LEASE_MS / 3000
        return await self._meta.leases.acquire(_LEASE, self._instance, _LEASE_MS)

    async def _go_on(self) -> None:
        """In the middle of a round.

        Raises:
            TakenOverError: another router does it.
        """
        if asyncio.get_running_loop().time() >= self._renew_at and not await self._lease():
            raise TakenOverError("another router compares the inventories")

    # -- a round ---------------------------------------------------------------------------

    async def _made(self, standing: Standing, nodes: Collection[str]) -> None:
        """A round that somebody asked for; who looks does not hear of it."""
        try:
            await self._make(standing, nodes)
        except PutterError as error:
            _log.warning("a round could not be made", reason=str(error))

    async def _make(self, standing: Standing, nodes: Collection[str]) -> None:
        """Compare everything once."""
        assert self.found is not None
        found, reasons, done = self.found, self.wanted, ""
        started_ms, began = self._clock.now_ms(), asyncio.get_running_loop().time()
        silent = frozenset({_NOBODY})
        try:
            done = await self._named(standing)
            if not nodes:
                self._reasons.words.clear()
            silent = await self._compare(standing, nodes, found)
        finally:
            self.found = None
            self._missed |= silent
            now = asyncio.get_running_loop().time()
            self._next_s = now + self._period_ms / 1000
            self._rest_s = now + _REST * (now - began)
            self._count(found)
            await self._give_lease()
        told = tuple(sorted(silent - {_NOBODY}))
        self.last = Round(started_ms, self._clock.now_ms(), found, told)
        if not nodes and self._period_ms:
            await self._meta.leases.acquire(done, self._instance, self._period_ms)
        level = _log.warning if found.objects or found.lost else _log.info
        level(
            "inventories are compared",
            why=reasons,
            silent=told,
            names=found.names,
            lacking=found.objects,
            tickets=found.tickets,
            records=found.records,
            bare=found.bare,
            strays=found.strays,
            lost=found.lost,
            unsure=found.unsure,
        )

    async def _give_lease(self) -> None:
        try:
            await self._meta.leases.release(_LEASE, self._instance)
        except PutterError:
            _log.debug("the lease runs out by itself")

    async def _compare(
        self, standing: Standing, nodes: Collection[str], found: Found
    ) -> frozenset[str]:
        """Everything, as far as putters are there; those that are not, or do not tell."""
        seed = int.from_bytes(self._keyring.writing.digest[:8], "little")
        ends = {
            Space.TICKETS: standing.ceilings.tickets,
            Space.OBJECTS: standing.ceilings.objects + 1,
        }
        grids = {space: Grid.over(space, end, seed) for space, end in ends.items()}
        everybody = [link for link in self._fleet.up() if self._is_applied(standing, link)]
        links = [link for link in everybody if not nodes or link.node in nodes]
        comparison = Comparison(
            self._meta,
            self._fleet,
            self._replicas,
            self._numbers,
            self._damaged,
            grids,
            found,
            self._go_on,
        )
        silent = frozenset(await comparison.run(links))
        silent |= frozenset(nodes) - {link.node for link in links}
        return silent | await self._compare_bare(standing, everybody, found)

    async def _compare_bare(
        self, standing: Standing, links: Sequence[NodeLink], found: Found
    ) -> frozenset[str]:
        """Records without an object; the putters without which that makes no sense."""
        there = {link.node for link in links}
        expected = {*standing.marks, *(link.node for link in self._fleet.up())}
        away = frozenset(expected - there - self._fleet.left_out)
        if away:
            return away
        lacking = await self._meta.handoff.lacking()
        if lacking.keys() - {ANYONE} - self._fleet.left_out:
            return frozenset({_NOBODY})  # what is on its way to somebody is not given to others
        try:
            bare = BareRecords(self._meta, self._fleet, self._policies, self._go_on)
            found.bare += await bare.run(links)
        except PutterError as error:
            _log.info("records without an object are not compared", reason=str(error))
            return frozenset({_NOBODY})
        return frozenset()

    def _is_applied(self, standing: Standing, link: NodeLink) -> bool:
        """Whether Redis knows all that the putter knows."""
        mark = standing.marks.get(link.node)
        return mark is not None and mark.epoch == standing.epoch

    def _count(self, found: Found) -> None:
        self._metrics.audit_completed_seconds.set(self._clock.now_ms() / 1000)
        for what in ("objects", "records", "bare", "strays", "lost"):
            self._metrics.audit_found.labels(what).inc(getattr(found, what))
