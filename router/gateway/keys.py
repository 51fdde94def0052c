"""``/key`` and ``/keys``: access keys. Secrets are told once, when a key gets one."""

from __future__ import annotations

from typing import Any, Final, TypeVar

import msgspec
from aiohttp import web

from common.errors import UsageError
from common.pairs import ROOT
from common.records import AccessKey
from common.tickets import format_id
from common.web import json_response
from router.access_keys import AccessKeys
from router.gateway.bodies import small_body
from router.rights import Issued, RightsChange, Wanted

_BODY_BYTES_MAX: Final = 128 * 1024
T = TypeVar("T")


class _Create(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a new key shall be."""

    secret_key: str | None = None
    owner: str = ROOT
    read_only: bool = False
    buckets: dict[str, str] = {}


class _Rotate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The secret that a key shall have; none: a random one; and how long the old one stays good."""

    secret_key: str | None = None
    keep_old_s: int = 0


class _Update(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What shall be different of a key; what is not named stays."""

    owner: str | None = None
    read_only: bool | None = None
    buckets: dict[str, str] | None = None


class KeyRoutes:
    """Access keys, asked for and changed.

    Args:
        keys: knows and changes them.
    """

    def __init__(self, keys: AccessKeys) -> None:
        self._keys = keys

    def add_to(self, application: web.Application) -> None:
        """Register the routes."""
        router = application.router
        router.add_get("/keys", self.every)
        router.add_put("/keys/first", self.first)
        router.add_put("/key/{access_key_id}", self.create)
        router.add_put("/key/{access_key_id}/secret", self.rotate)
        router.add_put("/key/{access_key_id}/rights", self.update)
        router.add_delete("/key/{access_key_id}", self.delete)

    async def every(self, _: web.Request) -> web.StreamResponse:
        """All keys, without their secrets."""
        return json_response({"keys": [key_told(each) for each in await self._keys.every()]})

    async def first(self, _: web.Request) -> web.StreamResponse:
        """Make the key that a new store begins with, if there is none and never was."""
        issued = await self._keys.first()
        return web.Response(status=204) if issued is None else _issued(issued, 201)

    async def create(self, request: web.Request) -> web.StreamResponse:
        """Make a key."""
        body = await _body(request, _Create)
        wanted = Wanted(
            request.match_info["access_key_id"],
            body.secret_key,
            body.owner,
            body.read_only,
            body.buckets,
        )
        return _issued(await self._keys.create(wanted), 201)

    async def rotate(self, request: web.Request) -> web.StreamResponse:
        """Give a key another secret."""
        body = await _body(request, _Rotate)
        name = request.match_info["access_key_id"]
        issued = await self._keys.rotate(name, body.secret_key, keep_old_s=body.keep_old_s)
        return _issued(issued, 200)

    async def update(self, request: web.Request) -> web.StreamResponse:
        """Change what a key may."""
        body = await _body(request, _Update)
        change = RightsChange(body.owner, body.read_only, body.buckets)
        return json_response(
            key_told(await self._keys.update(request.match_info["access_key_id"], change))
        )

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """Take a key away."""
        await self._keys.delete(request.match_info["access_key_id"])
        return web.Response(status=204)


def key_told(record: AccessKey) -> dict[str, Any]:
    """A key without its secret."""
    return {
        "access_key_id": record.key,
        "owner": record.owner,
        "read_only": record.read_only,
        "buckets": record.buckets,
        "changed_ms": record.created_ms,
        "version": format_id(record.stamp),
        "sealed_with": record.sealed_with,
        "old_secret_until_ms": record.former_until_ms,
    }


def _issued(issued: Issued, status: int) -> web.Response:
    told = key_told(issued.record) | {"secret_key": issued.secret}
    return json_response(told, status, **{"Cache-Control": "no-store"})


async def _body(request: web.Request, kind: type[T]) -> T:
    """What a body asks for; an empty one asks for nothing special.

    Raises:
        UsageError: it is not JSON, or not of this kind.
        TooLarge: it cannot be.
    """
    body = await small_body(request, _BODY_BYTES_MAX, "the properties of a key")
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"the body is no JSON object of an access key: {error}") from error
