"""ListObjectVersions: by key in the order of bytes, the versions of each the newest first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from common.limits import LIST_PAGE_MAX
from common.meta.versions import VersionEntry, Versions
from common.tickets import format_id
from common.versions import NUMBER_MAX
from router.gateway.s3.call import Call, Store, answer, iso_date, owner_tree
from router.gateway.s3.documents import Tree
from router.gateway.s3.failures import S3Error
from router.gateway.s3.listing import behind, rolled_up
from router.gateway.s3.pages import Asked, asked_of, name_in
from router.gateway.s3.version_ids import NULL, read_id

_AT_ONCE: Final = 250
"""Versions that are asked for at once: Redis does nothing else meanwhile."""


@dataclass
class Page:
    """A page of versions.

    Attributes:
        entries: those that stand for themselves.
        prefixes: common prefixes, each for all keys that begin with it.
        more: whether something sorts behind.
        last: key and number of the last line; of a common prefix the number is None.
    """

    entries: list[VersionEntry] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)
    more: bool = False
    last: tuple[str, int | None] = ("", None)


async def list_versions(call: Call) -> web.StreamResponse:
    """ListObjectVersions."""
    parameters = dict(call.parameters)
    marker = parameters.get("key-marker", "")
    asked = asked_of(parameters | {"list-type": "1", "marker": marker})
    bucket = await call.store.bucket(call.address.bucket)
    below = await _below(call.store, bucket.name, marker, parameters)
    page = await versions_page(
        call.store.meta.versions,
        bucket.name,
        asked.prefix,
        asked.delimiter,
        (asked.after, below),
        asked.limit,
    )
    owner = owner_tree(bucket.owner or call.caller.key.owner)
    told = _head(bucket.name, asked, parameters.get("version-id-marker", ""), page)
    told += [_line(asked, entry, owner) for entry in page.entries]
    told += [("CommonPrefixes", [("Prefix", name_in(asked, each))]) for each in page.prefixes]
    return answer(("ListVersionsResult", told))


async def versions_page(
    versions: Versions,
    bucket: str,
    prefix: str,
    delimiter: str,
    after: tuple[str, int | None],
    limit: int,
) -> Page:
    """A page of a bucket's versions.

    Args:
        versions: of the coordinator.
        bucket: its name.
        prefix: keys that begin otherwise are left out.
        delimiter: keys are rolled up behind its first place after the prefix; "": none are.
        after: keys up to this one are left out, and those of a common prefix that is this one; of
            the key itself, versions with lower numbers are not, if there is a number.
        limit: 0…`common.limits.LIST_PAGE_MAX` lines.

    Raises:
        MetadataUnavailable: Redis does not answer.
    """
    page = Page()
    key, below = after
    if limit == 0:
        return page
    position: tuple[str, int | None] | None = after
    if key.startswith(prefix) and rolled_up(key, prefix, delimiter) == key:
        position = behind(key), None
    lines = 0
    group: str | None = None
    while position is not None:
        key, below = position
        at_once = min(limit - lines + 1, _AT_ONCE, LIST_PAGE_MAX)
        found = await versions.list(bucket, prefix, key, below, at_once)
        position = found.next_after
        for entry in found.entries:
            rolled = rolled_up(entry.key, prefix, delimiter)
            if rolled is not None and rolled == group:
                continue
            if lines == limit:
                page.more = True
                return page
            lines += 1
            group = rolled
            if rolled is None:
                page.entries.append(entry)
                page.last = entry.key, entry.number
            else:
                page.prefixes.append(rolled)
                page.last = rolled, None
        if group is not None and position is not None and position[0].startswith(group):
            position = behind(group), None
    return page


# -- inside --------------------------------------------------------------------------------


async def _below(store: Store, bucket: str, key: str, parameters: Mapping[str, str]) -> int | None:
    """Below which number the versions of the first key are listed; None for none of them.

    Raises:
        S3Error: the marker cannot be.
    """
    marker = parameters.get("version-id-marker", "")
    if "version-id-marker" in parameters and not key:
        raise S3Error(
            "InvalidArgument",
            "A version-id marker cannot be specified without a key marker.",
            ArgumentName="version-id-marker",
            ArgumentValue=marker,
        )
    if not marker:
        return None
    number = read_id(marker)
    if number is None:
        null = await store.meta.versions.held(bucket, key)
        # Where it was nobody knows any more: rather tell some versions twice than leave some out.
        return null.stamp if null is not None else NUMBER_MAX
    return number


def _head(bucket: str, asked: Asked, marker: str, page: Page) -> list[Tree]:
    told: list[Tree] = [
        ("Name", bucket),
        ("Prefix", name_in(asked, asked.prefix)),
        ("KeyMarker", name_in(asked, asked.after)),
        ("VersionIdMarker", marker),
        ("MaxKeys", str(asked.limit)),
        ("IsTruncated", "true" if page.more else "false"),
    ]
    if asked.delimiter:
        told.append(("Delimiter", name_in(asked, asked.delimiter)))
    if asked.url:
        told.append(("EncodingType", "url"))
    if page.more:
        key, number = page.last
        told.append(("NextKeyMarker", name_in(asked, key)))
        if number is not None:  # else the last line is a common prefix
            told.append(("NextVersionIdMarker", _id_of(page.entries[-1])))
    return told


def _id_of(entry: VersionEntry) -> str:
    return NULL if entry.null else format_id(entry.number)


def _line(asked: Asked, entry: VersionEntry, owner: Tree) -> Tree:
    told: list[Tree] = [
        ("Key", name_in(asked, entry.key)),
        ("VersionId", _id_of(entry)),
        ("IsLatest", "true" if entry.latest else "false"),
        ("LastModified", iso_date(entry.created_ms)),
    ]
    if not entry.etag:
        return ("DeleteMarker", [*told, owner])
    told += [
        ("ETag", f'"{entry.etag}"'),
        ("Size", str(entry.size)),
        owner,
        ("StorageClass", "STANDARD"),
    ]
    return ("Version", told)
