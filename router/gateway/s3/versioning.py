"""Versions of objects as S3 names them: which one a request means, and what answers tell of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web

from common.limits import KIB
from common.locks import SETTING as LOCKS
from common.records import Version
from common.versions import (
    SETTING,
    has_versions,
    version_id,
    versioning_of,
)
from router.gateway.conditions import http_date
from router.gateway.s3.call import Call, Store, answer
from router.gateway.s3.documents import Tree
from router.gateway.s3.failures import S3Error
from router.gateway.s3.subresources import change_settings, element_of, setting_of
from router.gateway.s3.version_ids import NULL, VERSION_ID, marker_headers
from router.lately import Found

SOURCE_VERSION_ID: Final = "x-amz-copy-source-version-id"
_ABSENT: Final = "NoSuchVersion"
_DOCUMENT_BYTES_MAX: Final = 64 * KIB


async def put_bucket_versioning(call: Call) -> web.StreamResponse:
    """PutBucketVersioning: durable before the answer."""
    root = await element_of(call, "VersioningConfiguration", _DOCUMENT_BYTES_MAX, sum_needed=False)
    if {child.name for child in root.children} - {"Status", "MfaDelete"}:
        raise S3Error("MalformedXML")
    if root.value("MfaDelete") not in (None, "Disabled"):
        raise S3Error("NotImplemented", "MFA delete is not implemented.")
    status = root.value("Status")
    if status is None:
        raise S3Error("IllegalVersioningConfigurationException")
    if status not in ("Enabled", "Suspended"):
        raise S3Error("MalformedXML")

    async def unless_locked(settings: Mapping[str, Any]) -> Mapping[str, Any]:
        if LOCKS in settings and status != "Enabled":
            raise S3Error(
                "InvalidBucketState",
                "An Object Lock configuration is present on this bucket, so the versioning state "
                "cannot be changed.",
            )
        return {SETTING: status}

    await change_settings(call, unless_locked)
    return web.Response()


async def get_bucket_versioning(call: Call) -> web.StreamResponse:
    """GetBucketVersioning: without a status if it was never set."""
    try:
        status = versioning_of({SETTING: await setting_of(call, SETTING, _ABSENT)})
    except S3Error as error:
        if error.code != _ABSENT:
            raise
        return answer(("VersioningConfiguration", ""))
    return answer(("VersioningConfiguration", [("Status", status)]))


async def told_id(store: Store, version: Version, *, stale: bool = False) -> dict[str, str]:
    """The header that tells the ID of a version; none in a bucket that never kept any.

    Args:
        store: the store.
        version: what is told of.
        stale: whether Redis does not answer now.
    """
    if has_versions(version.bucket):
        return {VERSION_ID: version_id(version)}
    policies = store.writes.policies
    policy = policies.known(version.bucket)
    if policy is None:
        policy = policies.last(version.bucket) if stale else await policies.of(version.bucket)
    return {VERSION_ID: NULL} if policy is not None and policy.versioning else {}


async def find(call: Call) -> Found:
    """The version that a request is for: the one it names, else what its name holds.

    Raises:
        S3Error: there is none, or it is a delete marker.
    """
    bucket, key, store = call.address.bucket, call.address.key, call.store
    text = call.parameters.get("versionId")
    if text is None:
        try:
            found = await store.find(bucket, key)
        except S3Error as error:
            if error.code == "NoSuchKey":
                error.headers |= await _marker_told(store, bucket, key)
            raise
        call.gate.confirm(bucket, key, None, found.version)
        return found
    return Found(await _named(call, text), store.lately.reads)


async def find_now(call: Call) -> Version:
    """The same as Redis knows it now, whatever it held lately.

    Raises:
        S3Error: there is none, or it is a delete marker.
        MetadataUnavailable: Redis does not answer.
    """
    text = call.parameters.get("versionId")
    if text is not None:
        return await _named(call, text)
    bucket, key = call.address.bucket, call.address.key
    version = await call.store.meta.files.resolve(bucket, key)
    if version is None:
        await call.store.bucket(bucket)
        raise S3Error("NoSuchKey", Key=key)
    call.gate.confirm(bucket, key, None, version)
    return version


async def source_header(store: Store, version: Version) -> dict[str, str]:
    """The header that tells which version was copied."""
    told = await told_id(store, version)
    return {SOURCE_VERSION_ID: told[VERSION_ID]} if told else {}


def deleted_tree(key: str, version: str, marker: str) -> Tree:
    """What DeleteObjects tells of a name; see `router.gateway.s3.deleting`."""
    told: list[Tree] = [("Key", key)]
    if version:
        told.append(("VersionId", version))
    if marker:
        told += [("DeleteMarker", "true"), ("DeleteMarkerVersionId", marker)]
    return ("Deleted", told)


# -- inside --------------------------------------------------------------------------------


async def _named(call: Call, text: str) -> Version:
    """The version of an ID.

    Raises:
        S3Error: there is none, or it is a delete marker.
    """
    bucket, key = call.address.bucket, call.address.key
    version = await call.store.version(bucket, key, text)
    call.gate.confirm(bucket, key, text, version)
    if version.is_marker:
        refused = S3Error(
            "MethodNotAllowed", Method=call.request.method, ResourceType="DeleteMarker"
        )
        refused.headers |= marker_headers(version)
        refused.headers |= {"Allow": "DELETE", "Last-Modified": http_date(version.created_ms)}
        raise refused
    return version


async def _marker_told(store: Store, bucket: str, key: str) -> dict[str, str]:
    """What is told of the delete marker that makes a name hold nothing, if one does."""
    if not (await store.writes.policies.of(bucket)).versioning:
        return {}
    latest = (await store.meta.versions.latest(bucket, key)).version
    return marker_headers(latest) if latest is not None and latest.is_marker else {}
