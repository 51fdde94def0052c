"""``/repair``: compare what putters hold with what they should, and tell what they are owed."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from common.errors import NotFound
from common.web import json_response
from router.audit import Audit
from router.fleet import Fleet
from router.gateway import parts as told_by
from router.workers import Workers


class RepairRoutes:
    """Asks for comparisons, and tells how far they and what they note are.

    Args:
        fleet: the putters.
        audit: compares.
        workers: this one and the others of the router.
    """

    def __init__(self, fleet: Fleet, audit: Audit, workers: Workers) -> None:
        self._fleet = fleet
        self._audit = audit
        self._workers = workers

    def add_to(self, application: web.Application) -> None:
        """Register the routes."""
        application.router.add_get("/repair", self.tell)
        application.router.add_put("/repair", self.begin)

    async def tell(self, _: web.Request) -> web.StreamResponse:
        """How far it is."""
        return json_response(await self._told())

    async def begin(self, request: web.Request) -> web.StreamResponse:
        """Begin a comparison now, of what all putters hold or only some."""
        nodes = request.query.getall("node", [])
        for node in nodes:
            if self._fleet.link(node) is None:
                raise NotFound(f"there is no putter {node[:80]!r}", hint="see `putter status`")
        await self._audit.ask(nodes)
        return json_response(await self._told())

    async def _told(self) -> dict[str, Any]:
        parts = [part for part in (await self._workers.parts()).values() if part is not None]
        up = {link.node for link in self._fleet.up()}
        audit = told_by.audit(parts)
        return {
            "audit": audit,
            "elsewhere": not audit["running"] and await self._audit.is_elsewhere(),
            "owed": [each | {"up": each["node"] in up} for each in told_by.repair(parts)],
        }
