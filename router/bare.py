"""Finds records without an object that too few putters have, and notes them to be given to others.

No record says where these should be, and Redis forgets a deletion after some time. What must hold
is that N putters have each of them. So all putters that are there list the stamps of theirs, in
order and in step, and what too few of them list is fetched from one that has it and noted in Redis
(`common.meta.handoff`), as if another one had just missed it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np

from common.digests import Entries, Int64s, Space
from common.logs import get_logger
from common.meta.handoff import Missed
from common.meta.interface import Metadata
from common.records import ANYONE, CommitRecord, Unknown, kept_under
from router.fleet import Fleet
from router.links import NodeLink
from router.policies import Policies
from router.told import bare_records, entries_page

_log = get_logger(__name__)
_END: Final = 1 << 62
_PAUSE_S: Final = 0.02


class _About(msgspec.Struct):
    """The part of a record of an unknown kind that tells where it belongs."""

    bucket: str = ""
    stamp: int = 0


@dataclass(frozen=True)
class _Scarce:
    """A record that few have.

    Attributes:
        stamp: of the record.
        numbers: of it, by putter.
        copies: how many of these stay.
        stay: how many putters do.
    """

    stamp: int
    numbers: dict[str, int]
    copies: int
    stay: int


class BareRecords:
    """One comparison.

    Args:
        meta: where is noted who lacks what.
        fleet: the putters.
        policies: how many putters a record needs.
        go_on: awaited between pages; what it raises ends the work.
    """

    def __init__(
        self,
        meta: Metadata,
        fleet: Fleet,
        policies: Policies,
        go_on: Callable[[], Awaitable[None]],
    ) -> None:
        self._meta = meta
        self._fleet = fleet
        self._policies = policies
        self._go_on = go_on

    async def run(self, links: Sequence[NodeLink]) -> int:
        """Go through the records of all these putters; how many more copies are noted.

        Args:
            links: all putters of the cluster that are expected to be there.

        Raises:
            PutterError: a putter does not tell, or Redis does not answer.
        """
        noted, at, most = 0, 0, await self._most()
        while links and at < _END:
            pages = await asyncio.gather(
                *(entries_page(link, Space.RECORDS, at, _END) for link in links)
            )
            at = min(behind for _, behind in pages)
            told = {
                link.node: page.rows(page.first < at)
                for link, (page, _) in zip(links, pages, strict=True)
            }
            noted += await self._note(self._scarce(told, most), links)
            await self._go_on()
            await asyncio.sleep(_PAUSE_S)
        return noted

    # -- inside ----------------------------------------------------------------------------

    async def _most(self) -> int:
        """What no bucket needs more putters than."""
        buckets = await self._meta.files.buckets()
        policies = await asyncio.gather(*map(self._policies.of, buckets))
        return max((policy.replicas for policy in policies), default=0)

    def _scarce(self, told: dict[str, Entries], most: int) -> list[_Scarce]:
        """What fewer than so many have of a stretch of stamps that all have told."""
        stay = [node for node in told if node not in self._fleet.left_out]
        wanted = min(most, len(stay))
        none = np.empty(0, np.int64)
        stamps: Int64s = np.unique(np.concatenate([none, *(each.first for each in told.values())]))
        copies = np.zeros(len(stamps), np.int64)
        for node in stay:
            copies[np.searchsorted(stamps, told[node].first)] += 1
        found = []
        for row in np.flatnonzero(copies < wanted).tolist():
            stamp = int(stamps[row])
            numbers = {}
            for node, each in told.items():
                at = int(np.searchsorted(each.first, stamp))
                if at < len(each) and int(each.first[at]) == stamp:
                    numbers[node] = int(each.key[at])
            found.append(_Scarce(stamp, numbers, int(copies[row]), len(stay)))
        return found

    async def _note(self, scarce: Sequence[_Scarce], links: Sequence[NodeLink]) -> int:
        noted = 0
        for link in links:
            mine = {e.stamp: e for e in scarce if next(iter(e.numbers)) == link.node}
            numbers = [each.numbers[link.node] for each in mine.values()]
            missed: list[Missed] = []
            async for body, record in bare_records(link, numbers):
                bucket, stamp = _about(body, record)
                if bucket and stamp in mine:
                    wanted = (await self._policies.of(bucket)).replicas
                    missed += self._missed(bucket, mine[stamp], body, wanted)
            if missed:
                await self._meta.handoff.note(missed)
                _log.info("too few putters have some records", copies=len(missed))
                noted += len(missed)
        return noted

    def _missed(self, bucket: str, scarce: _Scarce, body: bytes, wanted: int) -> list[Missed]:
        holders = tuple(scarce.numbers)
        avoid = {*holders, *self._fleet.left_out}
        missed = []
        for _ in range(min(wanted, scarce.stay) - scarce.copies):
            node = self._fleet.choose_another(f"{bucket}/{scarce.stamp}", avoid) or ANYONE
            avoid.add(node)
            missed.append(Missed(node, bucket, scarce.stamp, holders, body))
        return missed


def _about(body: bytes, record: CommitRecord) -> tuple[str, int]:
    """Bucket and stamp of a record; "" where it is about no bucket."""
    if isinstance(record, Unknown):
        try:
            about = msgspec.msgpack.decode(body, type=_About)
        except msgspec.MsgspecError:
            return "", 0
        return about.bucket, about.stamp
    return getattr(record, "bucket", ""), kept_under(record)
