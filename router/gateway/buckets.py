"""``/bucket`` and ``/buckets``: settings of single buckets."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

from aiohttp import web

from common.errors import UsageError
from common.meta.buckets import Configured
from common.meta.interface import Metadata
from common.names import check_bucket
from common.quotas import quota_of
from common.tickets import format_id
from common.uploads import is_hidden
from common.web import json_response
from router.buckets import SETTING
from router.configure import Configure
from router.gateway.bodies import small_body
from router.policies import NAMES, OPERATORS, Policies, own_policy, policy_of
from router.quorum import Policy
from router.quotas import Held, held_by

_BODY_BYTES_MAX: Final = 16 * 1024
_AT_ONCE: Final = 64


class BucketRoutes:
    """Settings of buckets, asked for and changed.

    Args:
        meta: keeps them.
        policies: what counts where a bucket says nothing.
        configure: changes them.
    """

    def __init__(self, meta: Metadata, policies: Policies, configure: Configure) -> None:
        self._meta = meta
        self._policies = policies
        self.configure = configure

    def add_to(self, application: web.Application) -> None:
        """Register the routes."""
        router = application.router
        router.add_get("/buckets", self.every)
        router.add_get("/bucket/{bucket}", self.show)
        router.add_put("/bucket/{bucket}", self.change)
        router.add_delete("/bucket/{bucket}", self.reset)

    async def every(self, _: web.Request) -> web.StreamResponse:
        """All buckets, with their settings and how much they hold."""
        names = [each for each in await self._meta.buckets.names() if not is_hidden(each)]
        configured = {each.record.bucket: each for each in await self._meta.buckets.configured()}
        told: list[dict[str, Any]] = []
        for first in range(0, len(names), _AT_ONCE):
            part = names[first : first + _AT_ONCE]
            told += await asyncio.gather(*(self._told(each, configured.get(each)) for each in part))
        return json_response({"store": policy_told(self._policies.store), "buckets": told})

    async def show(self, request: web.Request) -> web.StreamResponse:
        """One bucket; one that nobody used yet is as the store."""
        bucket = check_bucket(request.match_info["bucket"])
        return json_response(await self._told(bucket, await self._meta.buckets.get(bucket)))

    async def change(self, request: web.Request) -> web.StreamResponse:
        """Change the settings that the body names."""
        bucket = check_bucket(request.match_info["bucket"])
        changes = await _changes(request)
        return json_response(await self._told(bucket, await self.configure.change(bucket, changes)))

    async def reset(self, request: web.Request) -> web.StreamResponse:
        """Let a bucket be as the store again."""
        bucket = check_bucket(request.match_info["bucket"])
        nothing = dict.fromkeys(OPERATORS)
        return json_response(await self._told(bucket, await self.configure.change(bucket, nothing)))

    async def _told(self, bucket: str, configured: Configured | None) -> dict[str, Any]:
        held = await held_by(self._meta, bucket)
        return bucket_told(self._policies.store, bucket, configured, held)


def bucket_told(
    store: Policy, bucket: str, configured: Configured | None, held: Held | None
) -> dict[str, Any]:
    """A bucket, its own settings, what counts for it, and how much it holds.

    Args:
        store: what counts where it says nothing.
        bucket: its name.
        configured: its settings, if it ever had any.
        held: how much it holds, if that was asked for.
    """
    settings = configured.record.settings if configured is not None else {}
    try:
        policy = policy_of(store, own_policy(settings))
    except UsageError:
        policy = store
    return {
        "bucket": bucket,
        "settings": {name: settings.get(name) for name in OPERATORS},
        "others": sorted(settings.keys() - {*OPERATORS, SETTING}),
        "policy": policy_told(policy),
        "version": format_id(configured.record.stamp) if configured is not None else None,
        "changed_ms": configured.record.created_ms if configured is not None else None,
        "followed": configured is None or configured.followed == configured.record.stamp,
        "used": _used(held) if held is not None else None,
    }


def _used(held: Held) -> dict[str, int]:
    return {
        "bytes": held.names.size,
        "files": held.names.files,
        "upload_bytes": held.parts.size,
    }


def policy_told(policy: Policy) -> dict[str, Any]:
    """N, W, R and consistency by their names."""
    return {name: getattr(policy, name) for name in NAMES}


async def _changes(request: web.Request) -> dict[str, Any]:
    """The settings that a body names.

    Raises:
        UsageError: it is no JSON object, or names others than there are.
        TooLarge: it cannot be one.
    """
    body = await small_body(request, _BODY_BYTES_MAX, "settings of a bucket")
    try:
        changes = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the body is not JSON: {error}") from error
    known = ", ".join(OPERATORS)
    if not isinstance(changes, dict) or not changes:
        raise UsageError('the body is a JSON object like {"replicas": 3}', hint=f"names: {known}")
    unknown = sorted(name for name in changes if name not in OPERATORS)
    if unknown:
        raise UsageError(f"{unknown[0][:40]!r} is no setting of a bucket", hint=f"names: {known}")
    own_policy(changes)
    quota_of(changes)
    return changes
