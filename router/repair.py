"""Gives putters what they missed, and frees what stood in for them.

Every extent says which putters should hold it and do not. Routers share the work: one at a time
pays what a putter is owed, under a lease. An object is copied, then described anew in a commit
record, then in Redis: a router that dies in between leaves a debt that is paid again, and nothing
that nobody knows of, as Redis hears of a putter before the putter gets a byte.

Whoever held something in the place of another one holds too much afterwards: see `router.surplus`.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from common.errors import IntegrityError, NodesUnavailable, PutterError
from common.limits import MIB
from common.logs import get_logger
from common.meta.handoff import NOTHING_LACKING, Lacking
from common.meta.interface import Metadata
from common.meta.repairs import Debt, Owed
from common.metrics import Metrics
from common.records import ANYONE, Extent, Version
from router.copying import Copier, NotTakenError
from router.debts import paid, with_extents
from router.fleet import Fleet
from router.handoff import RecordHandOff
from router.numbers import Numbers
from router.pace import Pace
from router.policies import Policies
from router.replicas import Replicas
from router.rounds import Rounds
from router.surplus import Freeing

_log = get_logger(__name__)
_LEASE: Final = "repair"
_LEASE_MS: Final = 30_000
_BATCH: Final = 128
_LARGE_BYTES: Final = MIB
"""Larger objects are copied one after the other: one of them keeps several slices under way."""
_SURPLUS: Final = "surplus"
_REFUSED_S: Final = 200.0
"""Another one is chosen for so long, if there is one: a putter takes nothing of what it freed."""
_REFUSED_MAX: Final = 10_000
_RATE_S: Final = 10.0
"""The time over which the rate is taken that an estimate rests on."""


@dataclass(frozen=True)
class Refill:
    """What is known of one putter's debts.

    Attributes:
        debt: the objects that it lacks something of.
        lacking: the records without an object that it lacks.
        rate_bytes_per_s: how fast this router has given it something lately; 0: not at all.
        stuck: objects that could not be given to it, with the last reason.
    """

    debt: Debt
    rate_bytes_per_s: float
    stuck: Mapping[str, str]
    lacking: Lacking = NOTHING_LACKING

    @property
    def eta_s(self) -> float | None:
        """Seconds until nothing is owed any more, if it goes on like this; None: unknown."""
        if not self.rate_bytes_per_s:
            return None
        return (self.debt.size + self.lacking.size) / self.rate_bytes_per_s


class Repair:
    """One router's part in it.

    Args:
        meta: the coordinator.
        fleet: the putters.
        policies: how many putters a record needs.
        replicas: keeps records.
        copier: moves bytes.
        freeing: frees what is not needed any more.
        handoff: gives putters records that belong to no object.
        numbers: stamps of the new descriptions.
        metrics: counters.
        instance: of this router.
        period_ms: time between two looks; 0: never.
        pace: bounds the bytes of all copies.
    """

    def __init__(
        self,
        meta: Metadata,
        fleet: Fleet,
        policies: Policies,
        replicas: Replicas,
        copier: Copier,
        freeing: Freeing,
        handoff: RecordHandOff,
        numbers: Numbers,
        metrics: Metrics,
        instance: str,
        period_ms: int,
        pace: Pace,
    ) -> None:
        self._meta = meta
        self._fleet = fleet
        self._policies = policies
        self._replicas = replicas
        self._copier = copier
        self._freeing = freeing
        self._handoff = handoff
        self._numbers = numbers
        self._metrics = metrics
        self._instance = instance
        self._pace = pace
        self._debts: Mapping[str, Debt] = {}
        self._lacking: Mapping[str, Lacking] = {}
        self._rates: dict[str, _Rate] = {}
        self._stuck: dict[str, dict[str, str]] = {}
        self._resume: dict[str, str] = {}
        self._refused: dict[str, dict[str, float]] = {}  # by ObjectID: putters, until when
        self._renew_at: dict[str, float] = {}
        self._rounds = Rounds(self.round, period_ms / 1000, "repair")

    def start(self) -> None:
        """Begin."""
        self._rounds.start()

    async def stop(self) -> None:
        """End; the leases run out by themselves."""
        await self._rounds.stop()

    def refills(self) -> dict[str, Refill]:
        """What each putter is owed, as of the last look."""
        return {
            node: Refill(
                self._debts.get(node, Debt()),
                self._rate_of(node).value(),
                dict(self._stuck.get(node, {})),
                self._lacking.get(node, NOTHING_LACKING),
            )
            for node in {**self._debts, **self._lacking}
        }

    async def round(self) -> int:
        """Look, and pay what can be paid.

        Returns:
            How many objects and records were given to putters, and objects freed on others.

        Raises:
            PutterError: Redis does not answer.
        """
        await self._look()
        done = 0
        for debtor in self._handoff.reachable(self._lacking):
            done += await self._hand_on(debtor)
        for debtor in sorted(self._debts):
            if debtor == ANYONE or self._replicas.is_up(debtor):
                done += await self._pay(debtor)
        if await self._lease(_SURPLUS):
            done += await self._freeing.round(lambda: self._lease(_SURPLUS))
        if done:
            await self._look()
        return done

    # -- inside ----------------------------------------------------------------------------

    async def _look(self) -> None:
        self._debts = await self._meta.repairs.debts()
        self._lacking = await self._meta.handoff.lacking()
        for node in [node for node in self._stuck if node not in self._debts]:
            del self._stuck[node]
        self._resume = {n: after for n, after in self._resume.items() if n in self._debts}
        now = asyncio.get_running_loop().time()
        self._refused = {o: n for o, n in self._refused.items() if max(n.values()) > now}
        self._metrics.owed_objects.set(sum(debt.objects for debt in self._debts.values()))
        self._metrics.owed_bytes.set(sum(debt.size for debt in self._debts.values()))
        self._metrics.owed_records.set(sum(each.records for each in self._lacking.values()))

    async def _lease(self, name: str) -> bool:
        """Take or extend a lease; False while another router holds it."""
        now = asyncio.get_running_loop().time()
        if now < self._renew_at.get(name, 0.0):
            return True
        if not await self._meta.leases.acquire(f"{_LEASE}/{name}", self._instance, _LEASE_MS):
            self._renew_at.pop(name, None)
            return False
        self._renew_at[name] = now + _LEASE_MS / 3000
        return True

    async def _hand_on(self, debtor: str) -> int:
        """Give a putter the records that it missed, as long as that goes well."""

        async def pace(node: str, size: int) -> None:
            await self._pace_for(debtor, node)(size)

        try:
            return await self._handoff.give(debtor, pace, lambda: self._lease(debtor))
        except PutterError as error:
            _log.info("records are handed on later", node=debtor, reason=str(error))
            return 0

    async def _pay(self, debtor: str) -> int:
        """Pay a debtor as long as that goes well."""
        done, after = 0, self._resume.pop(debtor, "")
        stuck: dict[str, str] = {}
        while await self._lease(debtor):
            batch = await self._meta.repairs.owed(debtor, _BATCH, after)
            if not batch:
                break
            after = batch[-1].place
            outcomes = await self._pay_all(batch)
            for item, reason in zip(batch, outcomes, strict=True):
                if reason:
                    stuck[item.object_id] = reason
                done += reason == ""
            if len(batch) < _BATCH:
                break
            if len(stuck) > _BATCH and not done:
                self._resume[debtor] = after  # nothing goes here: the next round looks behind it
                break
        self._note_stuck(debtor, stuck)
        if done:
            _log.info("a putter got what it missed", node=debtor, objects=done, left=len(stuck))
        return done

    async def _pay_all(self, batch: Sequence[Owed]) -> list[str | None]:
        """Pay many debts; the outcomes are those of `_settle`."""
        small = [item for item in batch if item.stored.size <= _LARGE_BYTES]
        stamp = await self._numbers.stamps(len(batch))
        revisions = {item.object_id: stamp + n for n, item in enumerate(batch)}
        outcomes: dict[str, str | None] = {}

        async def pay(item: Owed) -> None:
            outcomes[item.object_id] = await self._settle(item, revisions[item.object_id])

        await _together([pay(item) for item in small])
        for item in batch:
            if item.stored.size > _LARGE_BYTES:
                await pay(item)
        return [outcomes[item.object_id] for item in batch]

    async def _settle(self, item: Owed, revision: int) -> str | None:
        """Pay one debt: "" or the reason why not; None if there was nothing to be done now."""
        try:
            return "" if await self._give(item, revision) else None
        except PutterError as error:
            level = _log.error if isinstance(error, IntegrityError) else _log.info
            level(
                "a debt cannot be paid",
                node=item.node,
                object=item.object_id,
                name=f"{item.version.bucket}/{item.version.key}",
                reason=str(error),
            )
            return str(error)

    async def _give(self, item: Owed, revision: int) -> bool:
        """Copy, keep the new record, and publish it.

        Returns:
            False if it was deleted meanwhile, or is just being freed there.

        Raises:
            PutterError: not now.
        """
        target = self._target(item)
        if not await self._meta.repairs.reach(item.version.bucket, item.object_id, target):
            return False
        try:
            await self._give_to(target, item, revision)
        except NotTakenError:
            self._note_refused(item, target)
            raise
        return True

    async def _give_to(self, target: str, item: Owed, revision: int) -> None:
        bucket, stored = item.version.bucket, item.stored
        size = 0
        for extent in stored.extents:
            if _gets(extent, item.node, target) and target not in extent.nodes:
                await self._copier.copy(stored, extent, target, self._pace_for(item.node, target))
                size += extent.size
        if size > _LARGE_BYTES:
            item, revision = await self._as_now(item, revision)
        version = self._described(item, target, revision)
        named = _named(version)
        kept = await self._replicas.keep_record(version, named)
        if target not in kept:
            raise NodesUnavailable(f"putter {target} does not take the commit record")
        if len(kept) < min(len(named), (await self._policies.of(bucket)).write_quorum):
            raise NodesUnavailable("too few putters take the commit record")
        if not await self._meta.repairs.amend(item.token, version):
            raise NodesUnavailable("it was described anew meanwhile")
        self._metrics.repaired_bytes.inc(size)
        self._metrics.repaired_objects.inc()

    async def _as_now(self, item: Owed, revision: int) -> tuple[Owed, int]:
        """A debt as it is described after its bytes took long: tags, lock, ACL may be others.

        Returns:
            It, and the revision of the description that follows.
        """
        version = item.version
        found = await self._meta.repairs.at(version.bucket, version.key)
        if found is None or found.token == item.token:
            return item, revision
        tags, tagged, lock = found.version.tags, found.version.tagged, found.version.lock
        acl = found.version.acl
        same = msgspec.structs.replace(version, tags=tags, tagged=tagged, lock=lock, acl=acl)
        if same != found.version:
            return item, revision
        now = dataclasses.replace(item, version=found.version, token=found.token)
        return now, await self._numbers.stamp()

    def _target(self, item: Owed) -> str:
        if item.node != ANYONE:
            return item.node
        taken = [frozenset((*e.nodes, *e.owed)) for e in item.stored.extents if ANYONE in e.owed]
        # Best one for all extents at once; else one for some of them, and the others come next.
        for refused in (self._who_refused(item.object_id), frozenset[str]()):
            for avoid in dict.fromkeys([frozenset().union(*taken), *taken]):
                target = self._fleet.choose_another(item.object_id, avoid | refused)
                if target is not None:
                    return target
        raise NodesUnavailable("there is no further putter", hint="start one more")

    def _who_refused(self, object_id: str) -> frozenset[str]:
        """Putters that did not take an object lately."""
        now = asyncio.get_running_loop().time()
        nodes = self._refused.get(object_id, {})
        return frozenset(node for node, until in nodes.items() if until > now)

    def _note_refused(self, item: Owed, target: str) -> None:
        """Choose another one next time, if any will do."""
        if item.node == ANYONE and len(self._refused) < _REFUSED_MAX:
            until = asyncio.get_running_loop().time() + _REFUSED_S
            self._refused.setdefault(item.object_id, {})[target] = until

    def _described(self, item: Owed, target: str, revision: int) -> Version:
        tickets = {extent.first for extent in item.stored.extents}

        def change(extent: Extent) -> Extent:
            if extent.first in tickets and _gets(extent, item.node, target):
                return paid(extent, item.node, target, item.version.replicas)
            return extent

        return msgspec.structs.replace(with_extents(item.version, change), revision=revision)

    def _pace_for(self, debtor: str, node: str) -> Callable[[int], Awaitable[None]]:
        rate = self._rate_of(node)

        async def wait(size: int) -> None:
            await self._pace(size)
            if not await self._lease(debtor):
                raise NodesUnavailable("another router has taken over")
            rate.add(size)

        return wait

    def _rate_of(self, node: str) -> _Rate:
        return self._rates.setdefault(node, _Rate())

    def _note_stuck(self, debtor: str, stuck: dict[str, str]) -> None:
        if stuck:
            self._stuck[debtor] = dict(list(stuck.items())[:_BATCH])
        else:
            self._stuck.pop(debtor, None)


class _Rate:
    """Bytes per second over the last moments."""

    def __init__(self) -> None:
        self._since = self._now()
        self._bytes = 0
        self._last = 0.0

    def add(self, size: int) -> None:
        """So many bytes went."""
        self._turn()
        self._bytes += size

    def value(self) -> float:
        """Bytes per second; 0 if nothing went lately."""
        self._turn()
        passed = self._now() - self._since
        return self._bytes / passed if passed >= 1.0 and self._bytes else self._last

    def _turn(self) -> None:
        passed = self._now() - self._since
        if passed >= _RATE_S:
            self._last = self._bytes / passed
            self._since, self._bytes = self._now(), 0

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


async def _together(works: Sequence[Awaitable[None]]) -> None:
    """Wait for all; the first exception is raised once all have ended."""
    for result in await asyncio.gather(*works, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


def _named(version: Version) -> list[str]:
    return sorted({n for stored in version.objects for e in stored.extents for n in e.nodes})


def _gets(extent: Extent, debtor: str, target: str) -> bool:
    """Whether what an extent owes a debtor can go to that putter."""
    if debtor == ANYONE and (target in extent.nodes or target in extent.owed):
        return False
    return debtor in extent.owed
