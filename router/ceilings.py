"""What putters answer when they are asked to keep ceilings, or only how far they are."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from common.errors import NodesUnavailable, PutterError
from common.limits import CEILING_STEPS, OBJECT_LEASE, STAMP_HORIZON_US, TICKET_LEASE
from common.logs import get_logger
from common.meta.interface import Ceilings
from common.wire.session import CeilingsReply, Raise
from router.links import NodeLink

_log = get_logger(__name__)
_CALL_MS: Final = 10_000
_FURTHER_STEPS: Final = 16 * CEILING_STEPS
"""More leases than routers take in the seconds that a Redis loses."""


@dataclass(frozen=True)
class Kept:
    """The answers.

    Attributes:
        ceilings: the highest that any putter keeps.
        last_records: the number of its last commit record, for each that answered.
    """

    ceilings: Ceilings
    last_records: Mapping[str, int]


async def keep(links: Sequence[NodeLink], ceilings: Ceilings) -> Kept:
    """Make ceilings durable on putters; ``Ceilings()`` only asks.

    Raises:
        NodesUnavailable: none of them did.
    """
    answers = await asyncio.gather(
        *(
            link.call(lambda request: Raise(request, ceilings), timeout_ms=_CALL_MS)
            for link in links
        ),
        return_exceptions=True,
    )
    highest = Ceilings()
    last: dict[str, int] = {}
    reasons: list[str] = []
    for link, answer in zip(links, answers, strict=True):
        if isinstance(answer, PutterError):
            reasons.append(f"{link.node}: {answer}")
            continue
        if isinstance(answer, BaseException):
            raise answer
        reply = answer[-1][0]
        if isinstance(reply, CeilingsReply) and reply.status == 0:
            last[link.node] = max(reply.last_record, last.get(link.node, 0))
            highest = highest.highest(reply.ceilings)
        else:
            reasons.append(f"{link.node}: refused")
    if reasons:
        _log.warning("not every putter keeps the ceilings", reasons=reasons)
    if not last:
        raise NodesUnavailable(f"no putter keeps the ceilings: {'; '.join(reasons)}")
    return Kept(highest, last)


def further(floor: Ceilings) -> Ceilings:
    """A silent putter may keep ceilings that were raised since Redis and the others heard of it."""
    return Ceilings(
        floor.tickets + _FURTHER_STEPS * TICKET_LEASE,
        floor.objects + _FURTHER_STEPS * OBJECT_LEASE,
        floor.stamps + STAMP_HORIZON_US,
    )
