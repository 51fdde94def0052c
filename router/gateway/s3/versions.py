"""ListObjectVersions: a name holds one version, the latest, whose ID is ``null``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from aiohttp import web

from common.meta.interface import Entry
from router.gateway.s3.call import Call, answer, iso_date, owner_tree
from router.gateway.s3.documents import Tree
from router.gateway.s3.failures import S3Error
from router.gateway.s3.listing import Listing, list_page
from router.gateway.s3.pages import Asked, asked_of, name_in

NULL: Final = "null"


async def list_versions(call: Call) -> web.StreamResponse:
    """ListObjectVersions."""
    parameters = dict(call.parameters)
    marker, version = parameters.get("key-marker", ""), parameters.get("version-id-marker")
    if version is not None and not marker:
        raise S3Error(
            "InvalidArgument",
            "A version-id marker cannot be specified without a key marker.",
            ArgumentName="version-id-marker",
            ArgumentValue=version,
        )
    asked = asked_of(parameters | {"list-type": "1", "marker": marker})
    bucket = await call.store.bucket(call.address.bucket)
    page = await list_page(
        call.store.meta.files, bucket.name, asked.prefix, asked.delimiter, asked.after, asked.limit
    )
    owner = call.owner_of(bucket)
    return answer(("ListVersionsResult", _tree(bucket.name, asked, version or "", page, owner)))


def _tree(bucket: str, asked: Asked, version: str, page: Listing, owner: str) -> Sequence[Tree]:
    told: list[Tree] = [
        ("Name", bucket),
        ("Prefix", name_in(asked, asked.prefix)),
        ("KeyMarker", name_in(asked, asked.after)),
        ("VersionIdMarker", version),
        ("MaxKeys", str(asked.limit)),
        ("IsTruncated", "true" if page.more else "false"),
    ]
    if asked.delimiter:
        told.append(("Delimiter", name_in(asked, asked.delimiter)))
    if asked.url:
        told.append(("EncodingType", "url"))
    if page.more:
        told.append(("NextKeyMarker", name_in(asked, page.last)))
        if page.entries and page.last == page.entries[-1].key:
            told.append(("NextVersionIdMarker", NULL))
    told += [("Version", _version(asked, entry, owner)) for entry in page.entries]
    told += [("CommonPrefixes", [("Prefix", name_in(asked, prefix))]) for prefix in page.prefixes]
    return told


def _version(asked: Asked, entry: Entry, owner: str) -> Sequence[Tree]:
    return [
        ("Key", name_in(asked, entry.key)),
        ("VersionId", NULL),
        ("IsLatest", "true"),
        ("LastModified", iso_date(entry.created_ms)),
        ("ETag", f'"{entry.etag}"'),
        ("Size", str(entry.size)),
        owner_tree(owner),
        ("StorageClass", "STANDARD"),
    ]
