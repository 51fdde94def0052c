"""Operations on tags, of buckets and of objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from aiohttp import web

from common.errors import WriteConflict
from common.limits import KIB
from common.records import Version
from router.events import TAGGED, UNTAGGED
from router.gateway.s3.address import Source
from router.gateway.s3.call import Call, answer
from router.gateway.s3.failures import S3Error
from router.gateway.s3.policy.actions import ON_UPLOADS
from router.gateway.s3.subresources import delete_setting, element_of, put_setting, setting_of
from router.gateway.s3.tags import (
    BUCKET_TAGS_MAX,
    HEADER,
    OBJECT_TAGS_MAX,
    tags_in,
    tags_of_header,
    tags_tree,
)
from router.gateway.s3.versioning import find_now, told_id
from router.uploads import Uploads

SETTING: Final = "tags"
"""The setting of a bucket with its tags: values by key."""
_DOCUMENT_BYTES_MAX: Final = 512 * KIB
_BY_HEADER: Final = frozenset({"CreateMultipartUpload", "PutObject"})
_READ: Final = web.RequestKey("tags", dict[str, str])
"""Where a request keeps the tags in its body."""


async def put_bucket_tagging(call: Call) -> web.StreamResponse:
    """PutBucketTagging: all tags of the bucket, in place of those that it had."""
    root = await element_of(call, "Tagging", _DOCUMENT_BYTES_MAX)
    return await put_setting(call, SETTING, tags_in(root, BUCKET_TAGS_MAX), 204)


async def get_bucket_tagging(call: Call) -> web.StreamResponse:
    """GetBucketTagging."""
    return answer(tags_tree(await setting_of(call, SETTING, "NoSuchTagSet")))


async def delete_bucket_tagging(call: Call) -> web.StreamResponse:
    """DeleteBucketTagging."""
    return await delete_setting(call, SETTING)


async def given_tags(call: Call) -> dict[str, str]:
    """The tags that a request gives the object that it makes.

    Raises:
        S3Error: they cannot be, or whoever makes the object may not tag it.
    """
    tags = tags_of_header(call.headers.get(HEADER, ""))
    await _check_may(call, tags)
    return tags


async def asked_tags(call: Call, operation: str) -> Mapping[str, str]:
    """The tags that a request gives an object, for a policy that asks before anything is done.

    Those that a copy would take over are not known yet then, see `copied_tags`. Those of an upload
    in parts count as long as it goes on.

    Args:
        call: the request.
        operation: what it asks for.

    Raises:
        S3Error: they cannot be.
        MetadataUnavailable: Redis does not answer.
    """
    replaced = call.headers.get("x-amz-tagging-directive") == "REPLACE"
    if operation in _BY_HEADER or (operation == "CopyObject" and replaced):
        return tags_of_header(call.headers.get(HEADER, ""))
    if operation == "PutObjectTagging":
        return await _tags_of_document(call)
    if operation in ON_UPLOADS:
        address, store = call.address, call.store
        upload = address.parameters.get("uploadId", "")
        kept = await Uploads(store.meta, store.writes).find(address.bucket, address.key, upload)
        return {} if kept is None else kept.tags
    return {}


async def copied_tags(call: Call, source: Source, version: Version) -> dict[str, str]:
    """The tags of a copy: new ones, or those of its source.

    Args:
        call: the request.
        source: what is copied.
        version: what it holds.

    Raises:
        S3Error: they cannot be, or may not be read, or set.
    """
    if call.headers.get("x-amz-tagging-directive") == "REPLACE":
        return await given_tags(call)
    if version.tags and not await call.gate.may("GetObjectTagging", *source):
        raise S3Error("AccessDenied")
    await _check_may(call, version.tags)
    address = call.address
    if not await call.gate.may("PutObject", address.bucket, address.key, tags=version.tags):
        raise S3Error("AccessDenied")
    return version.tags


async def put_object_tagging(call: Call) -> web.StreamResponse:
    """PutObjectTagging: all tags of the object, in place of those that it had."""
    await find_now(call)
    version = await _change(call, await _tags_of_document(call), TAGGED)
    return web.Response(headers=await told_id(call.store, version))


async def get_object_tagging(call: Call) -> web.StreamResponse:
    """GetObjectTagging."""
    version = await find_now(call)
    return answer(tags_tree(version.tags), **await told_id(call.store, version))


async def delete_object_tagging(call: Call) -> web.StreamResponse:
    """DeleteObjectTagging: there are none any more."""
    version = await _change(call, {}, UNTAGGED)
    return web.Response(status=204, headers=await told_id(call.store, version))


async def _tags_of_document(call: Call) -> dict[str, str]:
    """The tags in the body of a request, which is read once: a policy may have asked before.

    Raises:
        S3Error: it is no document of tags.
    """
    if _READ not in call.request:
        root = await element_of(call, "Tagging", _DOCUMENT_BYTES_MAX)
        call.request[_READ] = tags_in(root, OBJECT_TAGS_MAX)
    return call.request[_READ]


async def _check_may(call: Call, tags: Mapping[str, str]) -> None:
    address = call.address
    if not tags:
        return
    if not await call.gate.may("PutObjectTagging", address.bucket, address.key, tags=tags):
        raise S3Error("AccessDenied")


async def _change(call: Call, tags: Mapping[str, str], event: str) -> Version:
    """Change the tags of the version that a request is about; durable by the return.

    Raises:
        S3Error: as `find_now`; or others change it again and again.
        PutterError: they are as before, or Redis did not answer at the end.
    """
    try:
        return await call.store.retag.change(lambda: find_now(call), tags, event)
    except WriteConflict as error:
        raise S3Error("OperationAborted", Key=call.address.key) from error
