"""Documents that are set for a bucket (CORS, tags, a policy, …): kept as settings of the bucket.

```
PUT     document_of / element_of ── checked by its own module ── put_setting
GET     setting_of: as it is now, or the error of a bucket in which nothing was set
DELETE  delete_setting
```

A setting is durable before the answer, and there again after a rebuild. Handlers of other requests
read it from `router.buckets.Bucket.settings`: at most a second old, and at once as it was changed
by the same process.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from aiohttp import web

from common.errors import WriteConflict
from router.buckets import BucketMissing
from router.configure import Decision
from router.gateway.s3.address import checked_bucket
from router.gateway.s3.call import Call, no_bucket
from router.gateway.s3.checksums import BY_HEADER
from router.gateway.s3.documents import Element, parsed
from router.gateway.s3.failures import S3Error

_SUMS: Final = frozenset({"content-md5", "x-amz-trailer", *BY_HEADER})
"""Headers that announce a checksum of the body."""


async def document_of(call: Call, bytes_max: int, *, sum_needed: bool = True) -> bytes:
    """The document in a request's body, held to what was announced of it.

    Args:
        call: the request.
        bytes_max: what the document may have.
        sum_needed: whether S3 demands ``Content-MD5`` or a checksum for this operation.

    Raises:
        S3Error: there is none, it is too long, or not what was announced.
    """
    if sum_needed and not announces_sum(call.headers):
        raise S3Error(
            "InvalidRequest",
            "Missing required header for this request: Content-MD5 OR x-amz-checksum-*",
        )
    document = await call.document(bytes_max)
    if not document:
        raise S3Error("MissingRequestBodyError")
    return document


def announces_sum(headers: Mapping[str, str]) -> bool:
    """Whether a request has ``Content-MD5`` or a checksum."""
    return not _SUMS.isdisjoint(name.lower() for name in headers)


async def element_of(call: Call, root: str, bytes_max: int, *, sum_needed: bool = True) -> Element:
    """The same for a document that is XML, read.

    Args:
        call: the request.
        root: the name that the root element must have.
        bytes_max: what the document may have.
        sum_needed: as `document_of`.

    Raises:
        S3Error: as `document_of`; or ``MalformedXML``.
    """
    return parsed(await document_of(call, bytes_max, sum_needed=sum_needed), root)


def check_children(element: Element, known: Collection[str], many: str = "") -> None:
    """Refuse children that are not known, and those that are there twice, but for one name.

    Raises:
        S3Error: ``MalformedXML``.
    """
    names = [child.name for child in element.children]
    once = [name for name in names if name != many]
    if not set(names) <= set(known) or len(set(once)) < len(once):
        raise S3Error("MalformedXML")


async def change_settings(call: Call, what: Decision) -> None:
    """Change settings of the bucket of a request; durable by the return.

    Args:
        call: the request.
        what: from the settings that the bucket has, those to be changed; nobody else changes any
            meanwhile. An `S3Error` of it is the answer, and nothing changes.

    Raises:
        S3Error: ``NoSuchBucket``; or another change of this bucket does not come to an end.
        UsageError: all settings together would be more than a bucket can have.
        PutterError: nothing changed, unless Redis did not answer at the end.
    """
    name = checked_bucket(call.address.bucket)
    try:
        await call.store.directory.change(name, what)
    except BucketMissing:
        raise no_bucket(name) from None
    except WriteConflict as error:
        raise S3Error("OperationAborted", BucketName=name) from error
    finally:
        call.store.rules.changed(name)


async def put_setting(call: Call, setting: str, value: Any, status: int = 200) -> web.Response:
    """Set something for the bucket of a request, in place of what was set.

    Args:
        call: the request.
        setting: its name.
        value: of what msgpack knows; checked.
        status: of the answer; S3 has 204 for some operations.

    Raises:
        S3Error, PutterError: as `change_settings`.
    """

    async def to_value(_: Mapping[str, Any]) -> Mapping[str, Any]:
        return {setting: value}

    await change_settings(call, to_value)
    return web.Response(status=status)


async def delete_setting(call: Call, setting: str) -> web.Response:
    """Take away what is set for the bucket of a request; it need not have been set.

    Raises:
        S3Error, PutterError: as `change_settings`.
    """
    return await put_setting(call, setting, None, 204)


async def setting_of(call: Call, setting: str, absent: str) -> Any:
    """What is set for the bucket of a request, as it is now.

    Args:
        call: the request.
        setting: its name.
        absent: the code of the error if nothing is set.

    Raises:
        S3Error: nothing is set, or there is no such bucket.
        MetadataUnavailable: Redis does not answer.
    """
    name = checked_bucket(call.address.bucket)
    bucket = await call.store.directory.find(name)
    if bucket is None:
        raise no_bucket(name)
    value = bucket.settings.get(setting)
    if value is None:
        raise S3Error(absent, BucketName=name)
    return value
