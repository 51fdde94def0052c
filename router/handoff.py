"""Gives putters the records that they missed and that no debt of bytes brings them.

These are records without an object, and descriptions of objects that they hold, with other tags.
One router at a time does it for each putter, under the lease of its debts. A record is durable on
the putter before Redis forgets that it was missing there; given twice, it changes nothing. What was
owed to a putter that leaves, or to nobody in particular, goes to another one, if there are too few
that hold it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from typing import Final

from common import records
from common.errors import NodesUnavailable
from common.limits import MESSAGE_PAYLOAD_BYTES_MAX
from common.logs import get_logger
from common.meta.handoff import Missed
from common.meta.interface import Metadata
from common.metrics import Metrics
from common.records import ANYONE, Version
from router.fleet import Fleet
from router.parcels import RecordsParcel
from router.policies import Policies
from router.quorum import Policy
from router.replicas import Straight, until_durable
from router.targets import object_id_of

_log = get_logger(__name__)
_BATCH: Final = 256
_ALONE: Final = Policy(1, 1)

Paid = Callable[[str, int], Awaitable[None]]
"""Awaited with a putter and a number of bytes before these are sent to it."""


class RecordHandOff:
    """One router's part in it.

    Args:
        meta: knows who lacks what.
        fleet: the putters.
        policies: how many putters a record needs.
        metrics: counters.
    """

    def __init__(self, meta: Metadata, fleet: Fleet, policies: Policies, metrics: Metrics) -> None:
        self._meta = meta
        self._fleet = fleet
        self._policies = policies
        self._metrics = metrics
        self._carrier = Straight(fleet)

    def reachable(self, debtors: Collection[str]) -> list[str]:
        """Those of the putters that can be given something now, or in whose place others can."""
        up = {link.node for link in self._fleet.up()}
        leaves = self._fleet.left_out
        return sorted(n for n in debtors if n in up or n == ANYONE or n in leaves)

    async def give(self, debtor: str, pace: Paid, go_on: Callable[[], Awaitable[bool]]) -> int:
        """Give a putter what it missed; how many records.

        Args:
            debtor: the putter, or `ANYONE`.
            pace: awaited before records are sent.
            go_on: asked before each page.

        Raises:
            PutterError: Redis does not answer, or a putter does not take them now.
        """
        done, after = 0, ""
        while await go_on():
            page = await self._meta.handoff.missed(debtor, _BATCH, after)
            if not page:
                break
            after = page[-1].place
            targets = {each: await self._target(each) for each in page}
            for target in sorted({node for node in targets.values() if node}):
                await self._send([each for each in page if targets[each] == target], target, pace)
            settled = [each for each in page if targets[each] is not None]
            await self._meta.handoff.given(settled)
            done += len(settled)
            if len(page) < _BATCH:
                break
        if done:
            self._metrics.handed_records.inc(done)
            _log.info("a putter got the records that it missed", node=debtor, records=done)
        return done

    # -- inside ----------------------------------------------------------------------------

    async def _target(self, missed: Missed) -> str | None:
        """Who gets it: "" if nobody needs it; None: nobody can take it now."""
        left_out = self._fleet.left_out
        object_id = _object_of(missed.body)
        if object_id:
            # Whoever gets its bytes instead of the putter gets another record with them.
            state = await self._meta.objects.get(object_id)
            needed = state is not None and state.state == "written" and missed.node not in left_out
            return missed.node if needed else ""
        if missed.node != ANYONE and missed.node not in left_out:
            return missed.node
        held = [node for node in missed.holders if node not in left_out]
        if len(held) >= (await self._policies.of(missed.bucket)).replicas:
            return ""
        avoid = {*missed.holders, *left_out}
        return self._fleet.choose_another(f"{missed.bucket}/{missed.stamp}", avoid)

    async def _send(self, missed: Sequence[Missed], node: str, pace: Paid) -> None:
        link = self._fleet.link(node)
        if link is None or not link.up:
            raise NodesUnavailable(f"putter {node} is not connected")
        for portion in _portions(missed):
            await pace(node, sum(len(each.body) for each in portion))
            entries = tuple((each.stamp, _object_of(each.body), each.body) for each in portion)
            parcel = RecordsParcel(entries, (node,), _ALONE, self._carrier)
            parcel.dispatch()
            await until_durable([parcel])


def _object_of(body: bytes) -> str:
    """The object that a record describes; "" if it describes none."""
    record = records.decode(body)
    return object_id_of(record) if isinstance(record, Version) else ""


def _portions(missed: Sequence[Missed]) -> Iterator[list[Missed]]:
    """Records, in their order, that fit one message each time."""
    portion: list[Missed] = []
    size = 0
    for each in missed:
        if portion and size + len(each.body) > MESSAGE_PAYLOAD_BYTES_MAX:
            yield portion
            portion, size = [], 0
        portion.append(each)
        size += len(each.body)
    if portion:
        yield portion


async def debtors_of(meta: Metadata, bucket: str, stamp: int) -> list[str]:
    """The putters that lack the record of a stamp.

    Raises:
        PutterError: Redis does not answer.
    """
    lacking: Mapping[str, object] = await meta.handoff.lacking()
    found = []
    for node in sorted(lacking):
        page = await meta.handoff.missed(node, 1, f"{bucket} {stamp - 1:020}")
        if page and (page[0].bucket, page[0].stamp) == (bucket, stamp):
            found.append(node)
    return found
