"""ListMultipartUploads: the uploads of a bucket that are open, by key and time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote

from aiohttp import web

from common.limits import KEY_BYTES_MAX, LIST_PAGE_MAX
from common.uploads import behind_uploads, read_upload_name, upload_name, uploads_of
from router.gateway.s3.call import Call, answer, iso_date, owner_tree
from router.gateway.s3.documents import Tree
from router.gateway.s3.failures import S3Error
from router.gateway.s3.listing import Lister, behind, rolled_up
from router.gateway.s3.multipart import Open, initiator_tree, read_upload, uploads
from router.gateway.s3.pages import limit_of

_SAFE: Final = "/-_.~*"


@dataclass
class Page:
    """A page of open uploads.

    Attributes:
        names: of those that stand for themselves.
        prefixes: common prefixes, each for all keys that begin with it.
        more: whether something sorts behind.
        last: key and ID of the last line; of a common prefix the ID is "".
    """

    names: list[str] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)
    more: bool = False
    last: tuple[str, str] = ("", "")


async def list_uploads(call: Call) -> web.StreamResponse:
    """ListMultipartUploads."""
    parameters = call.parameters
    bucket = await call.store.bucket(call.address.bucket)
    prefix, delimiter = parameters.get("prefix", ""), parameters.get("delimiter", "")
    key, upload = parameters.get("key-marker", ""), parameters.get("upload-id-marker", "")
    encoding = parameters.get("encoding-type", "")
    if encoding not in ("", "url"):
        raise S3Error(
            "InvalidArgument",
            "Invalid Encoding Method specified in Request",
            ArgumentName="encoding-type",
            ArgumentValue=encoding,
        )
    if max(len(prefix.encode()), len(key.encode())) > KEY_BYTES_MAX:
        raise S3Error("KeyTooLongError", MaxSizeAllowed=str(KEY_BYTES_MAX))
    limit = limit_of(parameters, "max-uploads")
    files = call.store.meta.files
    after = (key, upload) if key else ("", "")
    page = await page_of_uploads(files, bucket.name, prefix, delimiter, after, limit)
    kept = await uploads(call).of(bucket.name, page.names)
    owner = call.owner_of(bucket)

    def told(name: str) -> str:
        return quote(name, safe=_SAFE) if encoding else name

    tree: list[Tree] = [
        ("Bucket", bucket.name),
        ("KeyMarker", told(key)),
        ("UploadIdMarker", upload),
        ("NextKeyMarker", told(page.last[0])),
        ("NextUploadIdMarker", page.last[1]),
        ("MaxUploads", str(limit)),
        ("IsTruncated", "true" if page.more else "false"),
    ]
    if prefix:
        tree.append(("Prefix", told(prefix)))
    if delimiter:
        tree.append(("Delimiter", told(delimiter)))
    if encoding:
        tree.append(("EncodingType", encoding))
    for version in kept:
        of = read_upload(*read_upload_name(version.key), version, bucket.name)
        tree.append(("Upload", [("Key", told(of.key)), *_upload_tree(of, owner)]))
    tree += [("CommonPrefixes", [("Prefix", told(each))]) for each in page.prefixes]
    return answer(("ListMultipartUploadsResult", tree))


async def page_of_uploads(
    files: Lister, bucket: str, prefix: str, delimiter: str, after: tuple[str, str], limit: int
) -> Page:
    """A page of the open uploads of a bucket.

    Args:
        files: of the coordinator.
        bucket: its name.
        prefix: keys that begin otherwise are left out.
        delimiter: keys are rolled up behind its first place after the prefix; "": none are.
        after: uploads up to this key and ID are left out; without an ID, all of the key.
        limit: 0…`common.limits.LIST_PAGE_MAX` lines.

    Raises:
        MetadataUnavailable: Redis does not answer.
    """
    page = Page()
    key, upload = after
    position: str | None = ""
    if key:
        position = upload_name(key, upload) if upload else behind_uploads(key)
    if key.startswith(prefix) and rolled_up(key, prefix, delimiter) == key:
        position = behind(key)
    while position is not None and limit:
        left = limit - len(page.names) - len(page.prefixes)
        found = await files.list(uploads_of(bucket), prefix, position, min(left + 1, LIST_PAGE_MAX))
        position = found.next_after
        for entry in found.entries:
            each, upload = read_upload_name(entry.key)
            if not each.startswith(prefix):
                continue  # it is the ID that the prefix fits
            group = rolled_up(each, prefix, delimiter)
            if group is not None and page.prefixes and page.prefixes[-1] == group:
                continue
            if len(page.names) + len(page.prefixes) == limit:
                page.more = True
                return page
            if group is None:
                page.names.append(entry.key)
                page.last = each, upload
                continue
            page.prefixes.append(group)
            page.last = group, ""
            if position is not None:
                position = max(position, behind(group))
    return page


def _upload_tree(of: Open, owner: str) -> list[Tree]:
    return [
        ("UploadId", of.upload),
        initiator_tree(of.owner),
        owner_tree(owner),
        ("StorageClass", "STANDARD"),
        ("Initiated", iso_date(of.begun_ms)),
        *of.told_checksum(),
    ]
