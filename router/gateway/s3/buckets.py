"""Operations on buckets, and the list of all of them."""

from __future__ import annotations

import re
from functools import partial
from typing import Final

from aiohttp import web

from common.errors import WriteConflict
from common.limits import KIB
from router.buckets import Bucket, BucketFull, BucketThere
from router.gateway.s3.address import checked_bucket
from router.gateway.s3.call import Call, answer, iso_date, no_bucket, owner_tree
from router.gateway.s3.documents import Tree, parsed
from router.gateway.s3.failures import S3Error
from router.gateway.s3.locking import settings_of_lockable
from router.gateway.s3.pages import limit_of, read_token, token_of
from router.gateway.s3.sharing import settings_of_new
from router.uploads import Uploads

REGION: Final = "us-east-1"
"""Where a bucket is whose creator did not say; S3 tells it as no location."""
_CONFIGURATION_BYTES_MAX: Final = 64 * KIB
_LOCATION: Final = re.compile(r"[A-Za-z0-9-]{1,64}")


async def list_buckets(call: Call) -> web.StreamResponse:
    """ListBuckets: those that the key may read."""
    parameters = call.parameters
    prefix, after = parameters.get("prefix", ""), ""
    if "continuation-token" in parameters:
        after = read_token(parameters["continuation-token"])
    limit = limit_of(parameters, "max-buckets") if "max-buckets" in parameters else None
    key = call.caller.key
    found = [
        bucket
        for bucket in await call.store.directory.every()
        if bucket.name.startswith(prefix)
        and bucket.name > after
        and key.may(bucket.name, write=False)
    ]
    more = limit is not None and len(found) > limit > 0
    found = found[:limit]
    lines: list[Tree] = [("Bucket", _told(bucket)) for bucket in found]
    tree: list[Tree] = [owner_tree(key.owner), ("Buckets", lines)]
    if more:
        tree.append(("ContinuationToken", token_of(found[-1].name)))
    if prefix:
        tree.append(("Prefix", prefix))
    return answer(("ListAllMyBucketsResult", tree))


async def create_bucket(call: Call) -> web.StreamResponse:
    """CreateBucket: it is durable before the answer."""
    name = checked_bucket(call.address.bucket)
    location = _location(await call.document(_CONFIGURATION_BYTES_MAX))
    owner = call.caller.key.owner
    settings = {**settings_of_new(call), **settings_of_lockable(call)}
    clear = partial(Uploads(call.store.meta, call.store.writes).close_all, name)
    try:
        await call.store.directory.create(name, owner, location, settings, clear)
    except WriteConflict as error:
        raise S3Error("OperationAborted", BucketName=name) from error
    except BucketThere:
        there = await call.store.directory.find(name)
        ours = there is None or there.owner in ("", owner)
        code = "BucketAlreadyOwnedByYou" if ours else "BucketAlreadyExists"
        raise S3Error(code, BucketName=name) from None
    finally:
        call.store.rules.changed(name)
    return web.Response(headers={"Location": f"/{name}"})


async def head_bucket(call: Call) -> web.StreamResponse:
    """HeadBucket: it is there."""
    bucket = await _find(call)
    return web.Response(headers={"x-amz-bucket-region": bucket.location or REGION})


async def delete_bucket(call: Call) -> web.StreamResponse:
    """DeleteBucket: only if it holds no object; what is being uploaded in parts is given up."""
    name = checked_bucket(call.address.bucket)
    clear = partial(Uploads(call.store.meta, call.store.writes).close_all, name)
    try:
        if not await call.store.directory.remove(name, clear):
            raise no_bucket(name)
        await clear()
    except WriteConflict as error:
        raise S3Error("OperationAborted", BucketName=name) from error
    except BucketFull:
        raise S3Error("BucketNotEmpty", BucketName=name) from None
    finally:
        call.store.rules.changed(name)
    return web.Response(status=204)


async def get_location(call: Call) -> web.StreamResponse:
    """GetBucketLocation: where its creator wanted it to be."""
    bucket = await _find(call)
    location = "" if bucket.location == REGION else bucket.location
    return answer(("LocationConstraint", location))


async def _find(call: Call) -> Bucket:
    """The bucket, asked for anew.

    Raises:
        S3Error: there is none.
    """
    found = await call.store.directory.find(checked_bucket(call.address.bucket))
    if found is None:
        raise no_bucket(call.address.bucket)
    return found


def _told(bucket: Bucket) -> list[Tree]:
    return [
        ("Name", bucket.name),
        ("CreationDate", iso_date(bucket.created_ms)),
        ("BucketRegion", bucket.location or REGION),
    ]


def _location(body: bytes) -> str:
    """The location in a document; "" if there is none.

    Raises:
        S3Error: it cannot be one, or the document asks for more.
    """
    if not body:
        return ""
    root = parsed(body, "CreateBucketConfiguration")
    if {child.name for child in root.children} - {"LocationConstraint"}:
        raise S3Error("NotImplemented", "Only a LocationConstraint can be given to a new bucket.")
    location = (root.value("LocationConstraint") or "").strip()
    if location and not _LOCATION.fullmatch(location):
        raise S3Error("InvalidLocationConstraint", LocationConstraint=location)
    return location
