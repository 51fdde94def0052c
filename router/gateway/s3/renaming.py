"""RenameObject: an object gets another key of its bucket (`router.renames`).

It is all of PutObject there, and of GetObject and DeleteObject here, also in the eyes of a policy.
With a client token it can be sent again, as long as the new key holds what came of it.
"""

from __future__ import annotations

import re
from typing import Final

from aiohttp import web
from blake3 import blake3

from common.errors import PreconditionFailed, WriteConflict
from common.records import Version
from router.events import COPY
from router.gateway.conditions import Representation, check_read
from router.gateway.s3.address import Source, checked_key, decoded
from router.gateway.s3.call import Call
from router.gateway.s3.failures import S3Error
from router.gateway.s3.tagging import copied_tags
from router.gateway.s3.writing import check_source, condition, destination
from router.renames import Renames, mark_of, marked
from router.targets import Target

SOURCE: Final = "x-amz-rename-source"
_CLIENT: Final = "x-amz-client-token"
_TAGS: Final = "x-amz-tagging-directive"
_PRINTED: Final = re.compile(r"[!-~]{1,64}")
_DATES: Final = ("If-Modified-Since", "If-Unmodified-Since")
_ASKED: Final = (
    SOURCE,
    *(f"{SOURCE}-{each}" for each in ("if-match", "if-none-match")),
    *(f"{SOURCE}-{each}" for each in ("if-modified-since", "if-unmodified-since")),
    *("If-Match", "If-None-Match", *_DATES),
)
"""What a request with a token of an earlier one has to say as that did."""
_ID_BYTES: Final = 16


async def rename_object(call: Call) -> web.StreamResponse:
    """RenameObject: durable before the answer."""
    bucket, key = await destination(call)
    if _TAGS in call.headers:
        raise S3Error("NotImplemented", Header=_TAGS)
    source = _source(call)
    if key.endswith("/") or source.endswith("/"):
        raise S3Error("InvalidRequest", "RenameObject does not support keys that end with /.")
    for action in ("GetObject", "DeleteObject"):
        if not await call.gate.may(action, bucket, source):
            raise S3Error("AccessDenied")
    renames = Renames(call.store.writes, call.store.lately.reads)
    token = _token(call)
    if token and await _was_done(call, renames, source, token):
        return web.Response()
    mark = mark_of(token, _asked(call)) if token else ""

    async def check(version: Version) -> None:
        call.gate.confirm(bucket, source, None, version)
        check_source(call.headers, version, SOURCE)
        await copied_tags(call, Source(bucket, source), version)

    target = Target(bucket, key, if_match=await _condition(call), event=COPY)
    try:
        await renames.rename(bucket, source, target, check, mark)
    except PreconditionFailed:
        held = "If-None-Match" if target.if_match == "" else "If-Match"
        raise S3Error("PreconditionFailed", Condition=held) from None
    except WriteConflict as error:
        raise S3Error("ConditionalRequestConflict", error.message) from error
    return web.Response()


# -- inside --------------------------------------------------------------------------------


def _source(call: Call) -> str:
    """The key that shall be renamed: percent-encoded, with or without a ``/`` first.

    Raises:
        S3Error: there is none, or none that a key can be.
    """
    text = call.headers.get(SOURCE, "")
    key = decoded(text.removeprefix("/"))
    if not key:
        raise S3Error("InvalidArgument", ArgumentName=SOURCE, ArgumentValue=text)
    return checked_key(key)


def _token(call: Call) -> str:
    """Digits of the client token; "" without one.

    Raises:
        S3Error: it is none.
    """
    token = call.headers.get(_CLIENT)
    if token is None:
        return ""
    if not _PRINTED.fullmatch(token):
        raise S3Error("InvalidArgument", ArgumentName=_CLIENT, ArgumentValue=token)
    return blake3(token.encode()).hexdigest(_ID_BYTES)


def _asked(call: Call) -> str:
    """Digits of all that is asked for, beside the new key."""
    said = "\n".join(f"{name}: {call.headers.get(name, '')}" for name in _ASKED)
    return blake3(said.encode("utf-8", "surrogateescape")).hexdigest(_ID_BYTES)


async def _was_done(call: Call, renames: Renames, source: str, token: str) -> bool:
    """Whether the new key holds what came of the same request; it comes to its end then.

    Raises:
        S3Error: ``IdempotencyParameterMismatch``.
    """
    bucket, key = call.address.bucket, call.address.key
    held = await call.store.meta.files.resolve(bucket, key)
    done = marked(held, token) if held is not None else None
    if done is None:
        return False
    asked, stamp = done
    if asked != _asked(call):
        raise S3Error("IdempotencyParameterMismatch")
    await renames.finish(bucket, source, stamp)
    return True


async def _condition(call: Call) -> str | None:
    """The condition on what the new key holds, dates among it.

    Raises:
        S3Error: it does not hold already now, or is none that S3 has.
    """
    if_match = await condition(call)
    dates = {name: call.headers[name] for name in _DATES if name in call.headers}
    if not dates:
        return if_match
    address = call.address
    if not await call.gate.may("GetObject", address.bucket, address.key):
        raise S3Error("AccessDenied")
    held = await call.store.meta.files.resolve(address.bucket, address.key)
    if held is None:
        if "If-Modified-Since" in dates:
            raise S3Error("PreconditionFailed", Condition="If-Modified-Since")
        return ""
    try:
        holds = check_read(dates, Representation(held.etag, held.created_ms, held.size))
    except PreconditionFailed:
        holds = False
    if not holds:
        raise S3Error("PreconditionFailed", Condition=next(iter(dates)))
    return held.etag
