"""``/metadata``, ``/ticket`` and ``/status``: what the cluster knows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from aiohttp import web

from common import names
from common.errors import NotFound, PutterError, UsageError
from common.limits import LIST_PAGE_MAX
from common.meta.interface import Metadata
from common.meta.outbox import Queue
from common.meta.packing import Packing
from common.quotas import kept_quota
from common.tickets import TICKETS_MAX, format_id, parse_ticket
from common.uploads import is_hidden
from common.versions import plain_bucket, plain_file
from common.web import json_response
from common.wire.handshake import Identity
from common.wire.scrubbing import ScrubReply
from common.wire.session import Stat, StatReply
from router.fleet import Fleet, NodeView
from router.gateway.buckets import bucket_told, policy_told
from router.gateway.describe import place_of_ticket
from router.gateway.keyed_door import KEY
from router.gateway.openapi import document
from router.gateway.parts import audit, balance, events, incurable, link_to, repair, told_of_workers
from router.gateway.scrub import ScrubRoutes, ask, summary
from router.policies import Policies
from router.quotas import held_by
from router.workers import Part, Workers

_CALL_MS: Final = 5_000
_STATUS_MS: Final = 2_000


class ClusterRoutes:
    """Questions about names, tickets and members.

    Args:
        meta: the coordinator.
        fleet: the putters.
        policies: how buckets are kept.
        workers: this router and the others that share its ports.
        identity: of this router.
        redis_address: for people, without password.
        tickets_used: highest ticket number that this router saw leased.
    """

    def __init__(
        self,
        meta: Metadata,
        fleet: Fleet,
        policies: Policies,
        workers: Workers,
        identity: Identity,
        redis_address: str,
        tickets_used: Callable[[], int],
    ) -> None:
        self._meta = meta
        self._fleet = fleet
        self._policies = policies
        self._workers = workers
        self._identity = identity
        self._redis_address = redis_address
        self._tickets_used = tickets_used
        self._scrubs = ScrubRoutes(meta, fleet)

    def add_to(self, application: web.Application) -> None:
        """Register the routes."""
        router = application.router
        router.add_get("/metadata", self.listing)
        router.add_get("/ticket/{ticket}", self.ticket)
        router.add_get("/status", self.status)
        router.add_get("/openapi.json", self.openapi)
        self._scrubs.add_to(application)

    async def listing(self, request: web.Request) -> web.StreamResponse:
        """A page of names, or the buckets."""
        query = request.query
        bucket = query.get("bucket", "")
        if not bucket:
            buckets = await self._meta.files.buckets()
            key = request.get(KEY)
            told = [
                each
                for each in sorted({plain_bucket(each) for each in buckets})
                if not is_hidden(each) and (key is None or key.may(each, write=False))
            ]
            return json_response({"buckets": told})
        names.check_bucket(bucket)
        limit = _limit(query.get("limit"))
        prefix = query.get("prefix", "")
        page = await self._meta.files.list(bucket, prefix, query.get("after", ""), limit)
        entries = [
            {
                "key": entry.key,
                "size": entry.size,
                "etag": entry.etag,
                "created_ms": entry.created_ms,
                "version": format_id(entry.stamp),
            }
            for entry in page.entries
        ]
        return json_response(
            {
                "bucket": bucket,
                "prefix": prefix,
                "entries": entries,
                "next_after": page.next_after,
            }
        )

    async def ticket(self, request: web.Request) -> web.StreamResponse:
        """Which object and version a ticket belongs to."""
        number = parse_ticket(request.match_info["ticket"].upper())
        replies = await self._ask_for(number)
        found = {node: reply for node, reply in replies.items() if reply.found}
        if not found:
            raise NotFound(f"no putter that answers holds ticket {format_id(number)}")
        # One that knows that it is damaged may not know its size.
        reply = min(found.values(), key=lambda each: each.damaged)
        state = await self._meta.objects.get(reply.object_id)
        told: dict[str, Any] = {
            "ticket": format_id(number),
            "object": reply.object_id,
            "bucket": None,
            "key": None,
            "version": None,
            "state": "unknown",
            "size": reply.size,
            "checksum": reply.checksum.hex(),
            "nodes": sorted(found),
            "damaged": sorted(node for node, reply in found.items() if reply.damaged),
            "stored": {node: _stored(found[node]) for node in sorted(found)},
            "offset": None,
        }
        if state is not None:
            bucket, key = plain_file(state.bucket, state.key) if state.stamp else ("", "")
            told |= {"bucket": bucket or plain_bucket(state.bucket), "state": state.state}
            if state.stamp:
                told |= {"key": key, "version": format_id(state.stamp)}
                version = await self._meta.versions.held(state.bucket, state.key)
                place = place_of_ticket(version, number) if version else None
                told["offset"] = place[0] if place else None
        return json_response(told)

    async def status(self, _: web.Request) -> web.StreamResponse:
        """Everything at a glance; answers also while Redis is away."""
        try:
            async with asyncio.timeout(_STATUS_MS / 1000):
                seen = await self._meta.members.seen()
            redis_ok = True
        except (PutterError, TimeoutError):
            seen, redis_ok = [], False
        routers = [
            {
                "router": entry.member.node,
                "address": f"{entry.member.host}:{entry.member.port}",
                "age_ms": entry.age_ms,
                "version": entry.member.version,
                "state": entry.state,
            }
            for entry in seen
            if entry.member.role == "router"
        ]
        by_worker = await self._workers.parts()
        parts = [part for part in by_worker.values() if part is not None]
        return json_response(
            {
                "version": self._identity.version,
                "router": self._identity.instance,
                "redis": {"ok": redis_ok, "address": self._redis_address},
                "nodes": await self._nodes(by_worker),
                "routers": routers,
                "workers": told_of_workers(by_worker),
                "objects": {"writing": sum(part.writing for part in parts)},
                "policy": policy_told(self._policies.store),
                "buckets": await self._buckets(),
                "repair": repair(parts),
                "balance": balance(parts),
                "audit": audit(parts),
                "incurable": incurable(parts),
                "events": events(await self._queues(), parts),
                "numbers": {"tickets_used": self._tickets_used(), "tickets_max": TICKETS_MAX},
            }
        )

    async def _buckets(self) -> list[dict[str, Any]]:
        """Buckets with settings of their own; none while Redis is away.

        How much they hold is told of those that have a quota.
        """
        try:
            async with asyncio.timeout(_STATUS_MS / 1000):
                configured = await self._meta.buckets.configured()
                limited = [each.record.bucket for each in configured if kept_quota(each.record)]
                held = await asyncio.gather(*(held_by(self._meta, each) for each in limited))
        except (PutterError, TimeoutError):
            return []
        store = self._policies.store
        use = dict(zip(limited, held, strict=True))
        return [
            bucket_told(store, each.record.bucket, each, use.get(each.record.bucket))
            for each in configured
            if each.record.settings
        ]

    async def _queues(self) -> dict[str, list[Queue]]:
        """What waits in outboxes of buckets; nothing while Redis is away."""
        outbox = self._meta.outbox
        try:
            async with asyncio.timeout(_STATUS_MS / 1000):
                return {name: await outbox.queues(name) for name in await outbox.buckets()}
        except (PutterError, TimeoutError):
            return {}

    async def _nodes(self, parts: dict[int, Part | None]) -> list[dict[str, Any]]:
        """What is known of each putter, and how the verification of its disk goes."""
        views = self._fleet.views()
        links = {view.node: self._fleet.link(view.node) for view in views}
        up = [link for link in links.values() if link is not None and link.up]
        answers = await ask(up, timeout_ms=_STATUS_MS)
        scrubs = {
            link.node: summary(answer)
            for link, answer in zip(up, answers, strict=True)
            if isinstance(answer, ScrubReply)
        }
        return [
            _node(view) | link_to(view.address, parts, view.node) | {"scrub": scrubs.get(view.node)}
            for view in views
        ]

    async def openapi(self, _: web.Request) -> web.StreamResponse:
        """This door as an OpenAPI document."""
        return json_response(document(self._identity.version))

    async def _ask_for(self, ticket: int) -> dict[str, StatReply]:
        links = self._fleet.up()
        answers = await asyncio.gather(
            *(
                link.call(lambda request: Stat(request, ticket), timeout_ms=_CALL_MS)
                for link in links
            ),
            return_exceptions=True,
        )
        replies = {}
        for link, answer in zip(links, answers, strict=True):
            if isinstance(answer, PutterError):
                continue
            if isinstance(answer, BaseException):
                raise answer
            reply = answer[-1][0]
            if isinstance(reply, StatReply):
                replies[link.node] = reply
        return replies


def _limit(text: str | None) -> int:
    if text is None:
        return LIST_PAGE_MAX
    # int() refuses thousands of digits, which a query can hold.
    if not (text.isascii() and text.isdigit() and len(text) < 10) or not (
        1 <= int(text) <= LIST_PAGE_MAX
    ):
        raise UsageError(f"limit is a number from 1 to {LIST_PAGE_MAX}, not {text[:20]!r}")
    return int(text)


def _stored(told: StatReply | Packing) -> dict[str, Any]:
    """How a putter stores a run, or its runs."""
    return {
        "compression": told.compression,
        "encryption": told.encryption,
        "plain_bytes": told.plain_bytes,
        "stored_bytes": told.stored_bytes,
    }


def _node(view: NodeView) -> dict[str, Any]:
    member = view.member
    return {
        "node": view.node,
        "address": view.address,
        "state": view.state,
        "age_ms": view.age_ms,
        "version": member.version if member else "",
        "storage": member.storage if member else "",
        "capacity_bytes": member.capacity_bytes if member else 0,
        "free_bytes": member.free_bytes if member else 0,
        "zone": member.zone if member else "",
        "packing": _stored(member.packing) if member else None,
    }
