"""Requests of scripts in browsers: PutBucketCors and its kin, preflights, and what answers tell."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from aiohttp import web

from common.errors import PutterError
from common.limits import KIB, STALE_AFTER_MS
from router.buckets import Bucket
from router.gateway.s3.address import Address, checked_bucket
from router.gateway.s3.call import Call, Store, answer
from router.gateway.s3.cors import (
    METHODS,
    VARY,
    Rule,
    asked_headers,
    kept,
    matching,
    rules_in,
    rules_of,
    rules_tree,
    told_headers,
)
from router.gateway.s3.failures import S3Error
from router.gateway.s3.subresources import delete_setting, element_of, put_setting, setting_of

SETTING: Final = "cors"
"""The setting of a bucket with its cross-origin rules."""
PREFLIGHT: Final = "PreflightRequest"
_ABSENT: Final = "NoSuchCORSConfiguration"
_DOCUMENT_BYTES_MAX: Final = 64 * KIB


async def put_bucket_cors(call: Call) -> web.StreamResponse:
    """PutBucketCors: all rules of the bucket, in place of those that it had."""
    root = await element_of(call, "CORSConfiguration", _DOCUMENT_BYTES_MAX)
    return await put_setting(call, SETTING, kept(rules_in(root)))


async def get_bucket_cors(call: Call) -> web.StreamResponse:
    """GetBucketCors."""
    rules = rules_of(await setting_of(call, SETTING, _ABSENT))
    if rules is None:
        raise S3Error(_ABSENT, BucketName=call.address.bucket)
    return answer(rules_tree(rules))


async def delete_bucket_cors(call: Call) -> web.StreamResponse:
    """DeleteBucketCors."""
    return await delete_setting(call, SETTING)


async def preflight(store: Store, address: Address, headers: Mapping[str, str]) -> web.Response:
    """What a browser asks before a request that a page of another origin wants to make.

    Nobody signs it: it tells which origins, methods and headers the bucket allows, no more.

    Args:
        store: what is behind the door.
        address: what the request will be about.
        headers: of the question.

    Raises:
        S3Error: ``AccessForbidden``: no; ``BadRequest``: it is no such question.
        MetadataUnavailable: Redis does not answer.
    """
    origin = headers.get("Origin")
    if not origin:
        raise S3Error("BadRequest", "Insufficient information. Origin request header needed.")
    method = headers.get("Access-Control-Request-Method")
    if method not in METHODS:
        raise S3Error("BadRequest", f"Invalid Access-Control-Request-Method: {method or 'null'}")
    names = asked_headers(headers.get("Access-Control-Request-Headers", ""))
    if names is None:
        raise S3Error("BadRequest", "Invalid Access-Control-Request-Headers")
    bucket = None
    if address.bucket:
        bucket = await store.directory.known(checked_bucket(address.bucket))
    if bucket is None:
        raise _forbidden("Bucket not found", method, address)
    rules = _rules(bucket)
    if not rules:
        raise _forbidden("CORS is not enabled for this bucket.", method, address)
    rule = matching(rules, origin, method, names)
    if rule is None:
        raise _forbidden(
            "This CORS request is not allowed. This is usually because the evaluation of Origin, "
            "request method / Access-Control-Request-Method or Access-Control-Request-Headers are "
            "not whitelisted by the resource's CORS spec.",
            method,
            address,
        )
    return web.Response(headers=told_headers(rule, origin, names))


async def origin_headers(
    store: Store, address: Address, method: str, origin: str
) -> Mapping[str, str]:
    """What an answer, or an error, tells the browser of a page that made the request.

    While Redis does not answer, the rules are those that it told last: it is waited for no longer
    than by a read that goes on without it.

    Args:
        store: what is behind the door.
        address: what the request is about.
        method: of the request.
        origin: of the page.
    """
    if not address.bucket:
        return {}
    try:
        async with asyncio.timeout(STALE_AFTER_MS / 1000):
            bucket = await store.directory.known(checked_bucket(address.bucket))
    except S3Error:
        return {}
    except (PutterError, TimeoutError):
        bucket = store.directory.last(address.bucket)
    rules = _rules(bucket) if bucket is not None else []
    if not rules:
        return {}
    rule = matching(rules, origin, method)
    return told_headers(rule, origin) if rule is not None else {"Vary": VARY}


def _rules(bucket: Bucket) -> list[Rule]:
    return rules_of(bucket.settings.get(SETTING, ())) or []


def _forbidden(why: str, method: str, address: Address) -> S3Error:
    kind = "OBJECT" if address.key else "BUCKET"
    return S3Error("AccessForbidden", f"CORSResponse: {why}", Method=method, ResourceType=kind)
