"""Empties putters: those that the operator drains, and those that are not expected back.

A putter that was declared gone, or has been away for longer than the store waits, is given up:
others get copies of what it held. When it does come back, what was not moved yet stays with it. One
that is drained serves on until everything that it holds is held by others.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from typing import Final

from common import records
from common.errors import NodesUnavailable, PutterError
from common.logs import get_logger
from common.membership import Decision
from common.meta.interface import Metadata
from common.meta.recovery import Standing
from common.records import ANYONE, Change, CommitRecord
from common.wire.session import ListRecords, RecordList
from router.belonging import Belonging
from router.census import Census
from router.fleet import Fleet
from router.keeping import Keeping
from router.links import NodeLink
from router.policies import Policies
from router.repair import Repair
from router.rounds import Rounds

_log = get_logger(__name__)
_LOOK_S: Final = 5.0
_AGAIN_S: Final = 60.0
"""Between two walks for the same putters, while something is still to be moved."""
_SURE_S: Final = 10.0
"""Between the walk that found nothing and the one that makes sure."""
_STILL_S: Final = 600.0
"""Between two walks that see to it that a putter which is empty, and still there, stays so."""
_WALKS: Final = 2
_CALL_MS: Final = 15_000
_PAGE: Final = 256
_WITHOUT_OBJECT: Final = ("",)


class Vacate:
    """One router's part in it.

    Args:
        meta: knows which putters belong to the cluster.
        fleet: the putters.
        belonging: is told whose records count.
        census: walks.
        repair: pays what the walks note.
        policies: how many putters a record needs.
        replace_after_ms: how long a putter may be away; 0: for ever.
    """

    def __init__(
        self,
        meta: Metadata,
        fleet: Fleet,
        belonging: Belonging,
        census: Census,
        repair: Repair,
        policies: Policies,
        replace_after_ms: int,
    ) -> None:
        self._meta = meta
        self._fleet = fleet
        self._belonging = belonging
        self._census = census
        self._repair = repair
        self._policies = policies
        self._replace_after_ms = replace_after_ms
        self._keeping = Keeping(meta, fleet, policies, _CALL_MS)
        self._noted: frozenset[str] = frozenset()
        self._names: Counter[str] = Counter()
        self._writing = False
        self._walked_at = 0.0
        self._absent_since: dict[str, float] = {}
        self._walked_in = self._completion = "", 0
        self._complete_since = 0.0
        self._named: frozenset[str] | None = None
        self._clean_walks: Counter[str] = Counter()
        self._records_of: dict[str, int] = {}
        self._unsure: set[str] = set()
        self._rounds = Rounds(self.round, _LOOK_S, "emptying putters")

    @property
    def left(self) -> Mapping[str, int]:
        """Putters that leave: how many names held something on each at the last walk.

        Objects that were being written count, too.
        """
        return {
            node: max(self._names[node], 1 if self._owes_records(node) else 0)
            for node in sorted(self._noted)
        }

    @property
    def empty(self) -> frozenset[str]:
        """Putters that are not needed any more.

        Two walks found nothing on them, some time apart: a router that had not heard yet that one
        leaves may have given it something. Nothing that is being written has bytes there, and
        their records are held by others, too.
        """
        return frozenset(node for node, walks in self._clean_walks.items() if walks >= _WALKS)

    def doubt(self, node: str) -> None:
        """Walk again before a putter is called empty: it may have got something meanwhile."""
        self._clean_walks.pop(node, None)

    def start(self) -> None:
        """Begin."""
        self._rounds.start()

    async def stop(self) -> None:
        """End; what was not noted is noted by the next one."""
        await self._rounds.stop()

    async def round(self) -> bool:
        """Look who leaves, and walk if that has changed or something is still to be moved.

        What was noted is in Redis alone, so that it was brought up to date from the putters is
        reason enough for a walk.

        Returns:
            Whether it walked.

        Raises:
            PutterError: Redis does not answer.
        """
        standing = await self._meta.recovery.standing()
        leaving = self._fleet.leaving(self._replace_after_ms) | self._stopped(standing)
        leaving |= await self._strangers(standing)
        self._fleet.leave_out(leaving)
        if leaving != self._noted:
            _log.warning(
                "putters are emptied or taken back",
                emptied=sorted(leaving - self._noted),
                taken_back=sorted(self._noted - leaving),
            )
        elif self._walked_in == standing.completion and not self._is_time():
            return False
        writing = await self._census.under_way(leaving)
        found = await self._census.walk(leaving)
        if found is None:
            return False  # another router walks; what it notes is noted
        self._noted, self._names = leaving, found + writing
        if self._walked_in != standing.completion:
            self._walked_in = standing.completion
            self._clean_walks.clear()
        self._unsure.clear()
        self._writing = bool(writing)
        self._walked_at = asyncio.get_running_loop().time()
        for node in [node for node in self._records_of if node not in leaving]:
            del self._records_of[node]
        for node in sorted(leaving):
            link = self._fleet.link(node)
            if link is not None and link.up:
                try:
                    await self._hand_on_records(link)
                except PutterError as error:
                    self._unsure.add(node)
                    _log.info("records are not handed on", node=node, reason=str(error))
        walks = self._clean_walks
        self._clean_walks = Counter(
            {n: walks[n] + 1 for n, names in self.left.items() if not names}
        )
        return True

    # -- inside ----------------------------------------------------------------------------

    async def _strangers(self, standing: Standing) -> frozenset[str]:
        """Putters that something names, and that do not belong to the cluster any more.

        Certain is that only once Redis has been complete for as long as putters are waited for.
        """
        now = asyncio.get_running_loop().time()
        completion = standing.completion if standing.complete else ("", 0)
        if completion != self._completion:
            self._completion, self._complete_since, self._named = completion, now, None
        away_s = self._replace_after_ms / 1000
        decided = await self._meta.members.decisions()
        gone = frozenset(n for n, decision in decided.items() if decision is Decision.GONE)
        if not standing.complete or not away_s or now - self._complete_since <= away_s:
            self._belonging.settle(gone, None)
            return gone
        self._belonging.settle(gone, frozenset(standing.marks))
        if self._named is None:
            self._named = await self._census.named()
        return gone | self._belonging.strangers(self._named | self._repair.refills().keys())

    def _stopped(self, standing: Standing) -> frozenset[str]:
        """Putters that signed off, and have been away for too long since this router noticed.

        The register does not list them, but Redis knows whose records belong to it.
        """
        absent = self._fleet.absent(standing.marks.keys())
        self._fleet.expect(absent)
        now = asyncio.get_running_loop().time()
        since = self._absent_since = {n: self._absent_since.get(n, now) for n in absent}
        away_s = self._replace_after_ms / 1000
        return frozenset(n for n, at in since.items() if away_s and now - at > away_s)

    def _is_time(self) -> bool:
        """Whether a further walk may find less than the last one."""
        waited = asyncio.get_running_loop().time() - self._walked_at
        if self._noted <= self.empty:
            return waited >= _STILL_S and any(map(self._is_up, self._noted))
        if not any(self.left.values()):
            return waited >= _SURE_S
        waits = self._writing or self._unsure or ANYONE in self._repair.refills()
        return not waits or waited >= _AGAIN_S

    def _owes_records(self, node: str) -> bool:
        """Whether a putter that is there may have records that were not handed on."""
        return self._is_up(node) and (node in self._unsure or node not in self._records_of)

    def _is_up(self, node: str) -> bool:
        link = self._fleet.link(node)
        return link is not None and link.up

    async def _hand_on_records(self, link: NodeLink) -> None:
        """Give others the records of a putter that belong to no object.

        Those of objects follow their bytes. What the others hold already they hold twice then.

        Raises:
            PutterError: not all of them could be.
        """
        after, handed = self._records_of.get(link.node, 0), 0
        while True:
            page = await self._page(link, after)
            if not page:
                break
            for number, record in page:
                if isinstance(record, records.Change):
                    await self._keep(record, link.node)
                    handed += 1
                after = number
            self._records_of[link.node] = after
        self._records_of[link.node] = after
        if handed:
            _log.info("records are handed on", node=link.node, records=handed)

    async def _page(self, link: NodeLink, after: int) -> list[tuple[int, CommitRecord]]:
        answers = await link.call(
            lambda request: ListRecords(request, after, _PAGE, _WITHOUT_OBJECT),
            timeout_ms=_CALL_MS,
        )
        reply, payload = answers[-1]
        if not isinstance(reply, RecordList):
            raise NodesUnavailable(f"putter {link.node} does not tell its records")
        found, at = [], 0
        for number, length in reply.records:
            found.append((number, records.decode(bytes(payload[at : at + length]))))
            at += length
        return found

    async def _keep(self, record: Change, without: str) -> None:
        """Make a record durable where it would go now."""
        name = records.name_of(record)
        nodes = self._fleet.place(name, await self._policies.of(record.bucket)).nodes
        if without in nodes:
            raise NodesUnavailable("there is no further putter", hint="start one more")
        await self._keeping.keep([record], name)
