"""Worker processes of one router: whoever is asked answers for all of them.

They share the web port, and which of them a client reaches is chance. So metrics carry the number
of the worker they are from, readiness is that of all, and `status` adds up what each of them knows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from common.membership import State
from common.metrics import Metrics
from common.metrics_text import merged
from common.siblings import Answers, Siblings
from router.fleet import Fleet, NodeView

_LABEL: Final = "worker"
_POLL_S: Final = 0.01
_NOTHING: Final[Answers] = {}
_SILENT: Final = (State.DOWN, State.GONE)


async def linked(fleet: Fleet, timeout_ms: int) -> None:
    """Wait until each putter that may live is connected; not for longer than told.

    A worker that is started again would otherwise take clients from others that can serve them.
    """
    loop = asyncio.get_running_loop()
    until_s = loop.time() + timeout_ms / 1000
    while not _is_linked(fleet.views()) and loop.time() < until_s:
        await asyncio.sleep(_POLL_S)


def _is_linked(views: Sequence[NodeView]) -> bool:
    """Whether all are that the register does not take for lost, and there is one."""
    expected = [view for view in views if view.member is None or view.state not in _SILENT]
    return bool(expected) and all(view.link == "up" for view in expected)


class LinkPart(msgspec.Struct, frozen=True):
    """One worker's session with a putter.

    Attributes:
        address: ``host:port`` of the putter; before the first session nobody knows its identity.
        up: whether it stands.
        reason: why not.
        inflight_bytes: sent and not acknowledged.
        node: identity of the putter; "" if it is not known.
    """

    address: str
    up: bool
    reason: str = ""
    inflight_bytes: int = 0
    node: str = ""


class RefillPart(msgspec.Struct, frozen=True):
    """What one worker knows of a putter's debts (`router.repair.Refill`)."""

    node: str
    objects: int
    records: int
    bytes: int
    bytes_per_s: float = 0.0
    stuck: dict[str, str] = {}


class IncurablePart(msgspec.Struct, frozen=True):
    """Tickets that one worker could not heal."""

    node: str
    object: str
    first: str
    count: int
    reason: str


class Part(msgspec.Struct, frozen=True):
    """What one worker knows and the others do not.

    Attributes:
        instance: of the worker.
        writing: objects under way.
        links: its sessions.
        refills: what putters are owed.
        incurable: what it could not heal lately.
        balance: how evenly the bytes are spread, as it is told; None if it does not look.
        audit: the comparison under way and the last one, as it is told.
        left: putters that leave: names that were on each when it walked last.
        empty: of these, which are not needed any more.
        stuck: why events do not get through, by bucket and target, if it delivers them.
    """

    instance: str
    writing: int = 0
    links: tuple[LinkPart, ...] = ()
    refills: tuple[RefillPart, ...] = ()
    incurable: tuple[IncurablePart, ...] = ()
    balance: dict[str, Any] | None = None
    audit: dict[str, Any] = {}
    left: dict[str, int] = {}
    empty: frozenset[str] = frozenset()
    stuck: dict[str, str] = {}


class Workers:
    """One worker among the others; or a router that is alone.

    Args:
        siblings: the others; None: there are none.
        metrics: of this one.
        trouble: why this one cannot do its work; "" if it can.
        part: what this one knows.
        more: what else it answers, by question.
    """

    def __init__(
        self,
        siblings: Siblings | None,
        metrics: Metrics,
        trouble: Callable[[], str],
        part: Callable[[], Part],
        more: Answers = _NOTHING,
    ) -> None:
        self._siblings = siblings
        self._metrics = metrics
        self._trouble = trouble
        self._part = part
        self._more = more

    async def start(self) -> None:
        """Answer the others.

        Raises:
            Unavailable: their way to this one cannot be opened.
        """
        if self._siblings is not None:
            answers = {
                "metrics": self._own_metrics,
                "ready": self._own_trouble,
                "part": self._own_part,
            }
            await self._siblings.start({**answers, **self._more})

    async def stop(self) -> None:
        """Answer no more: to the others this one has ended."""
        if self._siblings is not None:
            await self._siblings.stop()

    async def metrics(self) -> bytes:
        """Of all that live, in the text format of Prometheus."""
        if self._siblings is None:
            return self._metrics.render()
        texts = await self._siblings.ask("metrics")
        texts[self._siblings.number] = self._metrics.render()
        told = {str(number): text for number, text in sorted(texts.items()) if text is not None}
        return merged(told, _LABEL)

    async def trouble(self) -> str:
        """Why one of those that live cannot do its work; "" if all can."""
        own = self._trouble()
        if self._siblings is None:
            return own
        told = await self._siblings.ask("ready")
        told[self._siblings.number] = own.encode()
        for number, answer in sorted(told.items()):
            if answer is None:
                return f"worker {number} does not answer"
            if answer:
                return f"worker {number}: {answer.decode()}"
        return ""

    async def parts(self) -> dict[int, Part | None]:
        """What each knows, by number; None for one that does not answer, or is not there."""
        if self._siblings is None:
            return {0: self._part()}
        parts: dict[int, Part | None] = dict.fromkeys(range(self._siblings.count))
        for number, answer in (await self._siblings.ask("part")).items():
            if answer is not None:
                parts[number] = msgspec.json.decode(answer, type=Part)
        parts[self._siblings.number] = self._part()
        return parts

    async def _own_metrics(self) -> bytes:
        return self._metrics.render()

    async def _own_trouble(self) -> bytes:
        return self._trouble().encode()

    async def _own_part(self) -> bytes:
        return msgspec.json.encode(self._part())
