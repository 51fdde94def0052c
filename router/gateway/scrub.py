"""``/scrub``: have the putters verify their disks, and tell what they found."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final

from aiohttp import web

from common.errors import NodesUnavailable, NotFound, PutterError, UsageError
from common.meta.interface import Metadata, ObjectState
from common.names import format_name
from common.tickets import format_id
from common.versions import plain_file
from common.web import json_response
from common.wire.scrubbing import Flaw, Scrub, ScrubReply
from router.fleet import Fleet
from router.links import NodeLink

_CALL_MS: Final = 5_000
_FLAWS: Final = 1_000
_RATE_MAX: Final = 1 << 40

Told = dict[str, Any]


class ScrubRoutes:
    """Starts, stops and tells of scrubs.

    Args:
        meta: knows the files of objects.
        fleet: the putters.
    """

    def __init__(self, meta: Metadata, fleet: Fleet) -> None:
        self._meta = meta
        self._fleet = fleet

    def add_to(self, application: web.Application) -> None:
        """Register the routes."""
        router = application.router
        router.add_get("/scrub", self.tell)
        router.add_put("/scrub", self.begin)
        router.add_delete("/scrub", self.halt)

    async def tell(self, request: web.Request) -> web.StreamResponse:
        """Where each putter's scrub is, and what is damaged."""
        return await self._all(request, "status")

    async def begin(self, request: web.Request) -> web.StreamResponse:
        """Begin a pass on each putter."""
        return await self._all(request, "start", _rate(request.query.get("rate")))

    async def halt(self, request: web.Request) -> web.StreamResponse:
        """Give up the passes under way."""
        return await self._all(request, "stop")

    async def _all(self, request: web.Request, action: str, rate: int = -1) -> web.StreamResponse:
        links = self._links(request.query.getall("node", []))
        answers = await ask(links, action, rate=rate, flaws=_FLAWS)
        replies = [each for each in answers if isinstance(each, ScrubReply)]
        owners = await self._owners(flaw.object_id for each in replies for flaw in each.flaws)
        nodes = []
        for link, answer in zip(links, answers, strict=True):
            node: Told = {"node": link.node, "address": f"{link.host}:{link.port}", "reason": ""}
            if isinstance(answer, ScrubReply):
                node["scrub"] = summary(answer) | {
                    "flaws": [_flaw(flaw, owners.get(flaw.object_id)) for flaw in answer.flaws]
                }
            else:
                node |= {"reason": str(answer), "scrub": None}
            nodes.append(node)
        return json_response({"nodes": nodes})

    def _links(self, wanted: list[str]) -> list[NodeLink]:
        """The links to these nodes; to all of them if none is named."""
        found = []
        for node in wanted or sorted({view.node for view in self._fleet.views() if view.node}):
            link = self._fleet.link(node)
            if link is None:
                raise NotFound(f"there is no putter {node[:80]!r}", hint="see `putter status`")
            found.append(link)
        return found

    async def _owners(self, object_ids: Iterable[str]) -> dict[str, ObjectState]:
        """What is known of some objects; those that Redis does not know are left out."""
        wanted = sorted(set(object_ids) - {""})[:_FLAWS]
        try:
            async with asyncio.timeout(_CALL_MS / 1000):
                states = await asyncio.gather(*map(self._meta.objects.get, wanted))
        except (PutterError, TimeoutError):
            return {}  # the damage is told all the same
        return {name: state for name, state in zip(wanted, states, strict=True) if state}


async def ask(
    links: list[NodeLink],
    action: str = "status",
    *,
    rate: int = -1,
    flaws: int = 0,
    timeout_ms: int = _CALL_MS,
) -> list[ScrubReply | PutterError]:
    """Ask putters to start, stop or tell; one that cannot be asked has its error."""

    async def one(link: NodeLink) -> ScrubReply | PutterError:
        try:
            answers = await link.call(
                lambda request: Scrub(request, action, rate, flaws), timeout_ms=timeout_ms
            )
        except PutterError as error:
            return error
        reply = answers[-1][0]
        if isinstance(reply, ScrubReply):
            return reply
        return NodesUnavailable(f"putter {link.node} refused: {getattr(reply, 'reason', '')}")

    return list(await asyncio.gather(*map(one, links)))


def summary(reply: ScrubReply) -> Told:
    """A putter's scrub without its flaws."""
    last = None
    if reply.last_number:
        last = {
            "number": reply.last_number,
            "started_ms": reply.last_started_ms,
            "ended_ms": reply.last_ended_ms,
            "verified_bytes": reply.last_bytes,
            "findings": reply.last_findings,
            "mended": reply.last_mended,
        }
    return {
        "number": reply.number,
        "running": reply.running,
        "demanded": reply.demanded,
        "started_ms": reply.started_ms,
        "verified_bytes": reply.verified_bytes,
        "total_bytes": reply.total_bytes if reply.total_bytes >= 0 else None,
        "findings": reply.findings,
        "last": last,
        "damaged_tickets": reply.damaged_tickets,
        "damaged_others": reply.damaged_others,
    }


def _flaw(flaw: Flaw, owner: ObjectState | None) -> Told:
    tickets = flaw.part in ("tickets", "header")
    return {
        "part": flaw.part,
        "first": format_id(flaw.first) if tickets else None,
        "last": format_id(flaw.first + flaw.count - 1) if tickets else None,
        "count": flaw.count if tickets else 0,
        "record": flaw.first if flaw.part == "record" else None,
        "raw": flaw.raw,
        "object": flaw.object_id or None,
        "file": _file(owner) if owner and owner.key else None,
        "place": flaw.place,
        "reason": flaw.reason,
    }


def _file(owner: ObjectState) -> str:
    return format_name(*plain_file(owner.bucket, owner.key))


def _rate(text: str | None) -> int:
    if text is None:
        return -1
    if not (text.isascii() and text.isdigit() and len(text) < 16) or int(text) > _RATE_MAX:
        raise UsageError(f"rate is a number of bytes per second, not {text[:20]!r}")
    return int(text)
