"""``/drain``: empty putters, and tell how far that is."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from common.errors import NotFound, UsageError
from common.membership import Decision
from common.meta.interface import Metadata
from common.web import json_response
from router.catchup import CatchUp
from router.gateway.parts import drains
from router.vacate import Vacate
from router.workers import Workers


class DrainRoutes:
    """What the operator decides of putters, and what became of it.

    Args:
        meta: keeps the decisions.
        vacate: empties putters.
        workers: this router and the others that share its ports.
        catch_up: has the putters keep the decisions.
    """

    def __init__(self, meta: Metadata, vacate: Vacate, workers: Workers, catch_up: CatchUp) -> None:
        self._meta = meta
        self._vacate = vacate
        self._workers = workers
        self._catch_up = catch_up

    def add_to(self, application: web.Application) -> None:
        """Register the routes."""
        router = application.router
        router.add_get("/drain", self.tell)
        router.add_put("/drain/{node}", self.begin)
        router.add_delete("/drain/{node}", self.take_back)

    async def tell(self, _: web.Request) -> web.StreamResponse:
        """The putters that are emptied, and what is left on each."""
        return json_response({"nodes": await self._nodes()})

    async def begin(self, request: web.Request) -> web.StreamResponse:
        """Have a putter emptied; with ``gone=1`` one that does not come back."""
        gone = request.query.get("gone", "0")
        if gone not in {"0", "1"}:
            raise UsageError(f"gone is 0 or 1, not {gone[:20]!r}")
        return await self._declare(request, Decision.GONE if gone == "1" else Decision.DRAINING)

    async def take_back(self, request: web.Request) -> web.StreamResponse:
        """Let a putter keep what it still holds, and give it new bytes again."""
        return await self._declare(request, None)

    # -- inside ----------------------------------------------------------------------------

    async def _declare(self, request: web.Request, decision: Decision | None) -> web.StreamResponse:
        node = request.match_info["node"]
        if not await self._meta.members.declare(node, decision):
            raise NotFound(
                f"there is no putter {node[:80]!r} of which that can be said",
                hint="see `putter status`; one that is gone cannot be drained",
            )
        self._vacate.doubt(node)
        await self._catch_up.decided()
        return json_response({"nodes": await self._nodes()})

    async def _nodes(self) -> list[dict[str, Any]]:
        parts = [part for part in (await self._workers.parts()).values() if part is not None]
        decided = await self._meta.members.decisions()
        return drains(parts, {node: decision.value for node, decision in decided.items()})
