"""Lets the files that a bucket holds already follow a change of its settings.

A bucket that wants more replicas than its files have owes them to anybody, and one that wants fewer
frees what is beyond. One router at a time walks through the names of such a bucket: once at once,
and once when everything is published that was described by the settings before. More is noted as a
debt, in Redis alone; `router.repair` pays it. Fewer is a new commit record, and a surplus that
`router.surplus` frees. A walk that is cut short is made again, and finds what was done as it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import Final

import msgspec

from common.errors import NodesUnavailable, PutterError, UsageError
from common.logs import get_logger
from common.meta.buckets import Configured
from common.meta.interface import Metadata
from common.meta.repairs import Described
from common.records import Extent, Version
from common.uploads import parts_of, uploads_of
from common.versions import versions_of
from router.debts import fewer_wanted, more_wanted
from router.fleet import Fleet
from router.numbers import Numbers
from router.placement import Candidate, choose
from router.policies import Policies, own_policy, policy_of, settled_s
from router.quorum import Policy
from router.replicas import Replicas
from router.rounds import Rounds

_log = get_logger(__name__)
_LEASE: Final = "follow"
_LEASE_MS: Final = 60_000
_LOOK_S: Final = 5.0
_AGAIN_S: Final = 60.0
"""Between two walks through a bucket of which some files could not follow yet."""
_PAGE: Final = 200
_PAUSE_S: Final = 0.02
"""Between two pages: a walk must not be felt."""


class Follow:
    """One router's part in it; the one that holds the lease works.

    Args:
        meta: the coordinator.
        fleet: the putters.
        policies: what counts where a bucket says nothing.
        replicas: keeps records.
        numbers: stamps of the new descriptions.
        instance: of this router.
        timeout_ms: how long a step of a write may stand still.
    """

    def __init__(
        self,
        meta: Metadata,
        fleet: Fleet,
        policies: Policies,
        replicas: Replicas,
        numbers: Numbers,
        instance: str,
        timeout_ms: int,
    ) -> None:
        self._meta = meta
        self._fleet = fleet
        self._policies = policies
        self._replicas = replicas
        self._numbers = numbers
        self._instance = instance
        self._settled_us = round(settled_s(timeout_ms) * 1e6)
        self._walked: dict[str, tuple[int, float]] = {}  # stamp, and when to walk again
        self._rounds = Rounds(self.round, _LOOK_S, "following settings")

    def start(self) -> None:
        """Begin."""
        self._rounds.start()

    async def stop(self) -> None:
        """End; the lease runs out by itself."""
        await self._rounds.stop()

    async def round(self) -> int:
        """Look whose settings changed, and walk.

        Returns:
            How many versions were described anew.

        Raises:
            PutterError: Redis does not answer.
        """
        if not await self._lease():
            self._walked.clear()
            return 0
        changed = 0
        for each in await self._meta.buckets.configured():
            bucket, stamp = each.record.bucket, each.record.stamp
            if each.followed == stamp:
                self._walked.pop(bucket, None)
                continue
            now = asyncio.get_running_loop().time()
            walked, again_at = self._walked.get(bucket, (0, now))
            if walked == stamp and now < again_at:
                continue
            left_us = stamp + self._settled_us - await self._numbers.stamp()
            found, whole = await self._walk(each)
            changed += found
            self._walked[bucket] = stamp, now + (left_us / 1e6 if whole else _AGAIN_S)
            if whole and left_us <= 0:
                await self._meta.buckets.followed(bucket, stamp)
                _log.info("all files of a bucket follow its settings", bucket=bucket)
        return changed

    # -- inside ----------------------------------------------------------------------------

    async def _lease(self) -> bool:
        return await self._meta.leases.acquire(_LEASE, self._instance, _LEASE_MS)

    async def _walk(self, each: Configured) -> tuple[int, bool]:
        """Walk through a bucket; what was described anew, and whether nothing is left to do."""
        bucket = each.record.bucket
        try:
            policy = policy_of(self._policies.store, own_policy(each.record.settings))
        except UsageError:
            policy = self._policies.store
        changed, whole = 0, True
        for place in (uploads_of(bucket), parts_of(bucket), versions_of(bucket), bucket):
            found, fits = await self._walk_in(place, policy)
            changed, whole = changed + found, whole and fits
        if changed:
            _log.info("files of a bucket follow its settings", bucket=bucket, files=changed)
        return changed, whole

    async def _walk_in(self, place: str, policy: Policy) -> tuple[int, bool]:
        """The same for a bucket of files, or one of those where its uploads in parts are."""
        changed, whole = 0, True
        after, more = "", True
        while more and await self._lease():
            page = await self._meta.repairs.described(place, after, _PAGE)
            more = len(page) == _PAGE
            after = page[-1].version.key if page else after
            done = await asyncio.gather(
                *(self._fit(one, policy.replicas, policy.write_quorum) for one in page)
            )
            changed += done.count(True)
            whole = whole and None not in done
            await asyncio.sleep(_PAUSE_S)
        return changed, whole and not more

    async def _fit(self, each: Described, replicas: int, quorum: int) -> bool | None:
        """Whether a version was described anew; None if it should be and could not."""
        version = each.version
        new = self._fitted(version, replicas)
        if new == version:
            return False
        try:
            if _named(new) != _named(version):
                new = await self._record(new, quorum)
            return True if await self._meta.repairs.amend(each.token, new) else None
        except PutterError as error:
            name = f"{version.bucket}/{version.key}"
            _log.info("a file does not follow its bucket yet", name=name, reason=str(error))
            return None

    def _fitted(self, version: Version, replicas: int) -> Version:
        objects = []
        for stored in version.objects:
            extents = []
            for extent in stored.extents:
                more = more_wanted(extent, replicas)
                extents.append(fewer_wanted(more, replicas, self._best))
            objects.append(msgspec.structs.replace(stored, extents=tuple(extents)))
        return msgspec.structs.replace(version, objects=tuple(objects), replicas=replicas)

    async def _record(self, version: Version, quorum: int) -> Version:
        """Make a description durable that names fewer putters than before.

        Raises:
            NodesUnavailable: too few putters take it.
        """
        new = msgspec.structs.replace(version, revision=await self._numbers.stamp())
        named = sorted(_named(new))
        kept = await self._replicas.keep_record(new, named)
        if len(kept) < min(len(named), quorum):
            raise NodesUnavailable("too few putters take the commit record")
        return new

    def _best(self, extent: Extent, count: int) -> Collection[str]:
        """Who goes on to hold an extent: who is there and stays, from different zones, at home."""
        leaving, stand_ins = self._fleet.left_out, set(extent.owed.values())
        views = {view.node: view for view in self._fleet.views()}
        ranked: list[list[Candidate]] = [[], [], []]
        for node in extent.nodes:
            view = views.get(node)
            member = view.member if view is not None else None
            there = view is not None and view.link == "up" and node not in leaving
            candidate = Candidate(node, 1.0, member.zone if member is not None else "")
            ranked[0 if there and node not in stand_ins else 1 if there else 2].append(candidate)
        return _first(f"{extent.first}", ranked, count)


def _first(key: str, ranked: Sequence[Sequence[Candidate]], count: int) -> Collection[str]:
    """So many nodes, all of a better rank before those of a worse one."""
    found: list[str] = []
    zones: set[str] = set()
    for candidates in ranked:
        chosen = choose(key, candidates, count - len(found), (), zones)
        found += chosen
        zones |= {each.zone for each in candidates if each.node in chosen}
    return found


def _named(version: Version) -> frozenset[str]:
    return frozenset(n for stored in version.objects for e in stored.extents for n in e.nodes)
