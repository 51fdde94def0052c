"""``/explain``: where each replica of a file is, and what happens when a node is lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from aiohttp import web

from common.errors import PutterError
from common.meta.interface import Metadata
from common.records import ANYONE, Extent, kept_under
from common.tickets import format_id
from common.web import json_response
from common.wire.scrubbing import ScrubReply
from router.fleet import Fleet
from router.gateway.buckets import policy_told
from router.gateway.files import name_of
from router.gateway.scrub import ask
from router.handoff import debtors_of
from router.policies import Policies
from router.reads import ReadPath
from router.surplus import verified_by

_CALL_MS: Final = 5_000
_PREFIX: Final = "/explain/"


class ExplainRoutes:
    """Questions about the replicas of one file.

    Args:
        meta: knows which putters lack the record of a file without a byte.
        reads: resolves names.
        fleet: the putters.
        policies: how many replicas a file should have.
    """

    def __init__(self, meta: Metadata, reads: ReadPath, fleet: Fleet, policies: Policies) -> None:
        self._meta = meta
        self._reads = reads
        self._fleet = fleet
        self._policies = policies

    def add_to(self, application: web.Application) -> None:
        """Register the route."""
        application.router.add_get("/explain/{name:(?s:.+)}", self.explain)

    async def explain(self, request: web.Request) -> web.StreamResponse:
        """Each putter that holds some of a file or should, what it says it holds, and the rest."""
        bucket, key = name_of(request.rel_url.raw_path, _PREFIX)
        version = await self._reads.resolve(bucket, key)
        policy = await self._policies.of(bucket)
        extents = [extent for stored in version.objects for extent in stored.extents]
        named = sorted({node for extent in extents for node in extent.nodes})
        return json_response(
            {
                "bucket": bucket,
                "key": key,
                "size": version.size,
                "version": format_id(version.stamp),
                "replicas_wanted": policy.replicas,
                "policy": policy_told(policy),
                "replicas": [await self._replica(node, extents) for node in named],
                "owed": _owed(extents),
                "record_owed": [
                    _shown(node)
                    for node in await debtors_of(self._meta, version.bucket, kept_under(version))
                ],
                "if_lost": {node: _without(policy.replicas, extents, node) for node in named},
            }
        )

    async def _replica(self, node: str, extents: Sequence[Extent]) -> dict[str, Any]:
        """What a putter should hold, and what it says it holds; None where it cannot be asked."""
        mine = [extent for extent in extents if node in extent.nodes]
        link = self._fleet.link(node)
        up = link is not None and link.up
        told: dict[str, Any] = {
            "node": node,
            "link": "up" if up else "down",
            "extents": len(mine),
            "bytes": sum(extent.size for extent in mine),
            "tickets": sum(extent.count for extent in mine),
            "held": None,
            "verified": None,
            "verified_ms": None,
            "disk_verified_ms": None,
        }
        if link is None or not up:
            return told
        try:
            held, since = await verified_by(link, [(each.first, each.count) for each in mine])
        except PutterError:
            return told | {"link": "down"}
        [scrub] = await ask([link], timeout_ms=_CALL_MS)
        if isinstance(scrub, ScrubReply) and scrub.last_ended_ms:
            told["disk_verified_ms"] = scrub.last_ended_ms
        return told | {"held": held} | _verified(since)


def _verified(since: Sequence[int | None]) -> dict[str, Any]:
    """Whether all of it was verified where it lies, and since when."""
    known = [each for each in since if each is not None]
    if not known or len(known) < len(since):
        return {}
    oldest = min(known)
    return {"verified": oldest > 0, "verified_ms": oldest or None}


def _owed(extents: Sequence[Extent]) -> list[dict[str, Any]]:
    """Putters that should hold some of it and do not."""
    missing: dict[tuple[str, str], int] = {}
    for extent in extents:
        for node, stand_in in extent.owed.items():
            missing[node, stand_in] = missing.get((node, stand_in), 0) + extent.size
    return [
        {"node": _shown(node), "held_by": stand_in or None, "bytes": size}
        for (node, stand_in), size in sorted(missing.items())
    ]


def _shown(node: str) -> str:
    return "any" if node == ANYONE else node


def _without(replicas: int, extents: Sequence[Extent], node: str) -> dict[str, Any]:
    """How the file is if a putter is lost: copies of each byte, at the least."""
    left = min(len({*extent.nodes} - {node}) for extent in extents)
    lost = sum(extent.size for extent in extents if extent.nodes == (node,))
    return {
        "copies_left": left,
        "lost_bytes": lost,
        "copied_again": left > 0 and left < replicas,
    }
