"""Operations on an upload in parts, up to its end: begin it, fill it, look at it, give it up.

`router.gateway.s3.completion` makes an object of it; `router.gateway.s3.uploads` lists them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from common.errors import RangeInvalid, WriteConflict
from common.limits import PART_BYTES_MAX, UPLOAD_PARTS_MAX
from common.locks import UNLOCKED, Lock
from common.meta.interface import Entry
from common.records import Encryption, Version
from common.uploads import part_name, parts_of, read_part_name
from router.gateway.conditions import Representation, byte_range
from router.gateway.s3.access import owner_id
from router.gateway.s3.acls import asked_acl, kept_of_object
from router.gateway.s3.address import Address, copy_source
from router.gateway.s3.announced import Announced, BodyChecks
from router.gateway.s3.call import Call, Store, answer, iso_date, owner_tree
from router.gateway.s3.checksums import Algorithm, ChecksumType, type_of_parts
from router.gateway.s3.documents import Tree
from router.gateway.s3.encryption import (
    Writing,
    begun_with,
    key_of_upload,
    opened_source,
    writing_of,
    writing_of_part,
)
from router.gateway.s3.failures import S3Error
from router.gateway.s3.hashing import Hashing
from router.gateway.s3.headers import checksum_headers, kept_headers
from router.gateway.s3.intake import Hashed
from router.gateway.s3.locking import given_lock
from router.gateway.s3.locks import packed, unpacked
from router.gateway.s3.object_acls import given_acl
from router.gateway.s3.object_parts import checksum_trees
from router.gateway.s3.pages import limit_of
from router.gateway.s3.tagging import given_tags
from router.gateway.s3.versioning import source_header
from router.gateway.s3.writing import check_source, destination, pieces_of, write_from
from router.targets import Target
from router.uploads import KEY_HEADER, Uploads

DEFAULT: Final = Algorithm.CRC64NVME
"""What is computed where the client chose nothing, as S3 does."""
_OURS: Final = "x-upload-"
_OWNER: Final = "x-upload-owner"
_ACL: Final = "x-upload-acl"
_LOCK: Final = "x-upload-lock"
_ALGORITHM: Final = "x-upload-checksum"
_TYPE: Final = "x-upload-checksum-type"
_DIGITS_MAX: Final = 5
_ABORT_PATIENCE_S: Final = 10.0


@dataclass(frozen=True)
class Open:
    """An open upload.

    Attributes:
        bucket, key: what it shall become.
        upload: its ID.
        begun_ms: when it was begun.
        owner: who began it.
        kept: headers of the object.
        algorithm: of its checksums, or None: its client chose none.
        kind: what the object's checksum is over.
        tags: of the object.
        acl: of the object.
        encryption: of the object; None: it is not encrypted.
        lock: of the object.
    """

    bucket: str
    key: str
    upload: str
    begun_ms: int
    owner: str
    kept: Mapping[str, str]
    algorithm: Algorithm | None
    kind: ChecksumType
    tags: Mapping[str, str] = field(default_factory=dict)
    acl: str = ""
    encryption: Encryption | None = None
    lock: Lock = UNLOCKED

    @property
    def computed(self) -> Algorithm:
        """The checksum that its object will have."""
        return self.algorithm or DEFAULT

    def told_checksum(self) -> list[Tree]:
        """What documents say of its checksum, if its client chose one."""
        if self.algorithm is None:
            return []
        return [
            ("ChecksumAlgorithm", self.algorithm.value),
            ("ChecksumType", self.kind.value),
        ]


def uploads(call: Call) -> Uploads:
    """The uploads behind the door."""
    return Uploads(call.store.meta, call.store.writes)


def read_upload(key: str, upload: str, kept: Version, bucket: str) -> Open:
    """An upload, from what is kept of it."""
    headers = kept.headers
    algorithm = Algorithm(headers[_ALGORITHM]) if _ALGORITHM in headers else None
    return Open(
        bucket=bucket,
        key=key,
        upload=upload,
        begun_ms=kept.created_ms,
        owner=headers[_OWNER],
        kept={name: value for name, value in headers.items() if not name.startswith(_OURS)},
        algorithm=algorithm,
        kind=ChecksumType(headers[_TYPE]) if algorithm else ChecksumType.FULL_OBJECT,
        tags=kept.tags,
        acl=kept_of_object(headers.get(_ACL)),
        encryption=kept.encryption,
        lock=unpacked(headers[_LOCK]) if _LOCK in headers else UNLOCKED,
    )


async def asked_at_first(store: Store, address: Address) -> tuple[str | None, dict[str, str]]:
    """The canned ACL that the upload was begun with which a request names, None if with none.

    And what was asked for its encryption, as `sse_headers.asked_for` has it.

    Args:
        store: the store.
        address: what the request is about.

    Raises:
        MetadataUnavailable: Redis does not answer.
    """
    upload = address.parameters.get("uploadId", "")
    kept = await Uploads(store.meta, store.writes).find(address.bucket, address.key, upload)
    if kept is None:
        return None, {}
    return kept.headers.get(_ACL), begun_with(kept.encryption)


async def open_upload(call: Call) -> Open:
    """The upload that a request names.

    Raises:
        S3Error: ``NoSuchUpload``, or ``NoSuchBucket``.
    """
    bucket, key = await destination(call)
    upload = call.parameters.get("uploadId", "")
    kept = await uploads(call).find(bucket, key, upload)
    if kept is None:
        raise no_upload(upload)
    return read_upload(key, upload, kept, bucket)


def no_upload(upload: str) -> S3Error:
    """There is no such upload."""
    return S3Error("NoSuchUpload", UploadId=upload)


async def create_upload(call: Call) -> web.StreamResponse:
    """CreateMultipartUpload: it is durable before the answer."""
    bucket, key = await destination(call)
    headers = kept_headers(call.headers.items())
    told: dict[str, str] = {}
    asked, kind = (call.headers.get(f"x-amz-checksum-{each}") for each in ("algorithm", "type"))
    if asked is not None:
        algorithm = Algorithm.named(asked)
        made = type_of_parts(algorithm, kind)
        headers |= {_ALGORITHM: algorithm.value, _TYPE: made.value}
        told = {"x-amz-checksum-algorithm": algorithm.value, "x-amz-checksum-type": made.value}
    elif kind is not None:
        raise S3Error(
            "InvalidRequest",
            "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm "
            "header.",
        )
    headers[_OWNER] = call.caller.key.owner
    await given_acl(call)
    acl = asked_acl(call.headers, call.parameters)
    if acl is not None:
        headers[_ACL] = acl
    tags, lock = await given_tags(call), await given_lock(call)
    if lock != UNLOCKED:
        headers[_LOCK] = packed(lock)
    writing = await writing_of(call.headers, call.request, call.store, bucket)
    upload = await uploads(call).begin(bucket, key, headers, tags, writing.encryption)
    tree: list[Tree] = [("Bucket", bucket), ("Key", key), ("UploadId", upload)]
    return answer(("InitiateMultipartUploadResult", tree), **told, **writing.told)


async def upload_part(call: Call) -> web.StreamResponse:
    """UploadPart: the body becomes a part, in the place of what had its number."""
    number = _number(call)
    to = await open_upload(call)
    writing = writing_of_part(call, to.encryption)
    body = call.body()
    if body.length > PART_BYTES_MAX:
        raise _too_large(body.length)
    announced = body.announced
    if to.algorithm and announced.algorithm not in (None, to.algorithm):
        assert announced.algorithm is not None
        raise S3Error(
            "InvalidRequest",
            f"Checksum Type mismatch occurred, expected checksum Type: {to.algorithm.value.lower()}"
            f", actual checksum Type: {announced.algorithm.value.lower()}",
        )
    sha256 = call.caller.verified.sha256
    checks = BodyChecks(announced, sha256=sha256, default=to.computed)
    hashed = Hashed(body.chunks(), lambda: body.trailers, Hashing(checks, call.store.threads))
    part = await _store(call, to, number, body.length, hashed, writing)
    return web.Response(headers={"ETag": f'"{part.etag}"'} | _sums(part) | writing.told)


async def upload_part_copy(call: Call) -> web.StreamResponse:
    """UploadPartCopy: bytes of another object, under new tickets, become a part."""
    number = _number(call)
    to = await open_upload(call)
    source = copy_source(call.headers["x-amz-copy-source"])
    found = await call.source(*source)
    writing = writing_of_part(call, to.encryption)
    version = found.version
    reads = opened_source(call, version, found.reads)
    check_source(call.headers, version)
    start, end = _source_range(call, version)
    if end - start > PART_BYTES_MAX:
        raise _too_large(end - start)
    pieces = pieces_of(reads.stream(version, start, end))
    checks = BodyChecks(Announced(), default=to.computed)
    hashed = Hashed(pieces, dict, Hashing(checks, call.store.threads))
    part = await _store(call, to, number, end - start, hashed, writing)
    told: list[Tree] = [
        ("LastModified", iso_date(part.created_ms)),
        ("ETag", f'"{part.etag}"'),
        *checksum_trees(part.checksums),
    ]
    headers = await source_header(call.store, version)
    return answer(("CopyPartResult", told), **headers, **writing.told)


async def list_parts(call: Call) -> web.StreamResponse:
    """ListParts: those that are there, by number; checksums only to who has the key.

    A checksum of a few bytes tells them.
    """
    of = await open_upload(call)
    summed = key_of_upload(call, of.encryption) is not None or of.encryption is None
    parameters = call.parameters
    limit = limit_of(parameters, "max-parts")
    marker = parameters.get("part-number-marker", "") or "0"
    if not (marker.isascii() and marker.isdigit() and len(marker) <= _DIGITS_MAX):
        raise S3Error(
            "InvalidArgument",
            "Argument part-number-marker must be an integer between 0 and 2147483647",
            ArgumentName="part-number-marker",
            ArgumentValue=marker,
        )
    store = uploads(call)
    entries: list[Entry] = []
    more = False
    if limit:
        entries, more = await store.page_of_parts(of.bucket, of.upload, int(marker), limit)
    numbers = [read_part_name(entry.key)[1] for entry in entries]
    parts = await store.parts(of.bucket, of.upload, numbers)
    lines: list[Tree] = [
        ("Part", _part_tree(number, part, summed=summed))
        for number, part in zip(numbers, parts, strict=True)
        if part is not None
    ]
    owner = (await call.store.bucket(of.bucket)).owner or of.owner
    tree: list[Tree] = [
        ("Bucket", of.bucket),
        ("Key", of.key),
        ("UploadId", of.upload),
        initiator_tree(of.owner),
        owner_tree(owner),
        ("StorageClass", "STANDARD"),
        ("PartNumberMarker", marker),
        ("NextPartNumberMarker", str(numbers[-1] if numbers else 0)),
        ("MaxParts", str(limit)),
        ("IsTruncated", "true" if more else "false"),
        *of.told_checksum(),
        *lines,
    ]
    return answer(("ListPartsResult", tree))


async def abort_upload(call: Call) -> web.StreamResponse:
    """AbortMultipartUpload: it is gone, durably, and its parts soon."""
    of = await open_upload(call)
    store = uploads(call)
    try:
        async with store.alone(of.upload, _ABORT_PATIENCE_S):
            if not await store.close(of.bucket, of.key, of.upload):
                raise no_upload(of.upload)
    except WriteConflict as error:
        raise S3Error("OperationAborted", UploadId=of.upload) from error
    return web.Response(status=204)


def initiator_tree(owner: str) -> Tree:
    """Who began an upload."""
    return ("Initiator", [("ID", owner_id(owner)), ("DisplayName", owner)])


# -- inside --------------------------------------------------------------------------------


async def _store(
    call: Call, to: Open, number: int, size: int, hashed: Hashed, writing: Writing
) -> Version:
    """Write a part.

    Raises:
        S3Error: ``NoSuchUpload``: its upload was closed meanwhile, and it is gone again.
    """
    target = Target(
        parts_of(to.bucket),
        part_name(to.upload, number),
        {KEY_HEADER: to.key},
        empty_allowed=True,
        seal=writing.seal(hashed.sealed),
        encryption=writing.encryption,
        size=size,
    )
    part = (await write_from(call, writing.chunks(hashed.chunks()), target)).version
    store = uploads(call)
    if await store.find(to.bucket, to.key, to.upload) is None:
        # Whoever closed it may have looked for parts before this one was there.
        await asyncio.shield(store.remove_part(to.bucket, to.upload, number))
        raise no_upload(to.upload)
    return part


def _number(call: Call) -> int:
    text = call.parameters.get("partNumber", "")
    digits = text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX
    if not digits or not 1 <= int(text) <= UPLOAD_PARTS_MAX:
        raise S3Error(
            "InvalidArgument",
            f"Part number must be an integer between 1 and {UPLOAD_PARTS_MAX}, inclusive",
            ArgumentName="partNumber",
            ArgumentValue=text,
        )
    return int(text)


def _source_range(call: Call, version: Version) -> tuple[int, int]:
    """The bytes of its source that a part is copied from.

    Raises:
        S3Error: the range is none of this object.
    """
    text = call.headers.get("x-amz-copy-source-range")
    if text is None:
        return 0, version.size
    what = Representation(version.etag, version.created_ms, version.size)
    first, dash, last = text.removeprefix("bytes=").partition("-")
    formed = text.startswith("bytes=") and dash and first.isdigit() and last.isdigit()
    try:
        wanted = byte_range({"Range": text}, what) if formed else None
    except RangeInvalid:
        wanted = None
    if wanted is None or wanted[1] != int(last) + 1:
        raise S3Error(
            "InvalidArgument",
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first "
            "and last are the zero-based offsets of the first and last bytes to copy, within the "
            f"source object of {version.size} bytes",
            ArgumentName="x-amz-copy-source-range",
            ArgumentValue=text,
        )
    return wanted


def _too_large(size: int) -> S3Error:
    return S3Error("EntityTooLarge", ProposedSize=str(size), MaxSizeAllowed=str(PART_BYTES_MAX))


def _sums(part: Version) -> dict[str, str]:
    told = checksum_headers(part)
    told.pop("x-amz-checksum-type", None)
    return told


def _part_tree(number: int, part: Version, *, summed: bool) -> list[Tree]:
    return [
        ("PartNumber", str(number)),
        ("LastModified", iso_date(part.created_ms)),
        ("ETag", f'"{part.etag}"'),
        ("Size", str(part.size)),
        *(checksum_trees(part.checksums) if summed else []),
    ]
