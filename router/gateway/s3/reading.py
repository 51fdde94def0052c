"""Operations that read objects: their bytes, what is told of them, and what is so anyway."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from common.errors import PreconditionFailed, RangeInvalid
from common.records import Version
from router.gateway.conditions import Representation, byte_range, check_read, http_date
from router.gateway.s3.call import Call, answer
from router.gateway.s3.documents import Tree
from router.gateway.s3.encryption import opened
from router.gateway.s3.expiration import expiration
from router.gateway.s3.failures import S3Error
from router.gateway.s3.headers import checksum_headers, checksum_type, overrides, told_headers
from router.gateway.s3.locking import told_lock
from router.gateway.s3.object_parts import checksum_trees, part_checksums, part_count, parts_tree
from router.gateway.s3.versioning import find, told_id
from router.gateway.streaming import stream_version
from router.lately import Found

_ATTRIBUTES: Final = ("ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize")
_DIGITS_MAX: Final = 9
_CONDITIONS: Final = ("If-Match", "If-Unmodified-Since")


async def get_object(call: Call) -> web.StreamResponse:
    """GetObject and HeadObject: the bytes, a range of them, or only what is told of them."""
    return await send_found(call, await find(call))


async def send_found(call: Call, found: Found) -> web.StreamResponse:
    """What a request wants of a version that was found for it.

    Raises:
        S3Error, PutterError: nothing was sent yet.
    """
    request, version = call.request, found.version
    reads, told_key = opened(call, version, found.reads)
    found = found._replace(reads=reads)
    told_version = await told_id(call.store, version, stale=found.age_s is not None)
    what = Representation(version.etag, version.created_ms, version.size)
    marks = call.store.lately.marks
    try:
        changed = check_read(call.headers, what)
    except PreconditionFailed as error:
        if found.age_s is not None:
            raise found.undecided(error) from None
        raise _refused(call) from None
    if not changed:
        told = told_headers(version)
        kept = {name: told[name] for name in ("ETag", "Last-Modified")}
        return web.Response(status=304, headers=kept | told_version | marks(found))
    number = _part_number(call, version)
    try:
        wanted = _part(version, number) if number else byte_range(call.headers, what)
    except RangeInvalid as error:
        if found.age_s is not None:
            raise found.undecided(error) from None
        raise S3Error(
            "InvalidRange",
            RangeRequested=call.headers.get("Range", ""),
            ActualObjectSize=str(version.size),
        ) from None
    summed = call.headers.get("x-amz-checksum-mode", "").upper() == "ENABLED"
    told = told_headers(version, wanted, checksums=summed) | overrides(call.parameters)
    told |= told_version | told_key | await told_lock(call, version)
    if "versionId" not in call.parameters:
        told |= expiration(call.store.rules.last(call.address.bucket), version)
    if number:
        told |= _told_of_part(version, number, summed=summed)
    start, end = wanted or (0, version.size)
    status = 200 if wanted is None else 206
    if request.method == "HEAD" or start == end:
        return web.Response(status=status, headers=told | marks(found))
    return await stream_version(request, found, (start, end), status, told, call.store.lately)


async def get_attributes(call: Call) -> web.StreamResponse:
    """GetObjectAttributes: what is asked for, as a document."""
    text = call.headers.get("x-amz-object-attributes", "")
    wanted = {each.strip() for each in text.split(",") if each.strip()}
    if not wanted or not wanted <= set(_ATTRIBUTES):
        raise S3Error(
            "InvalidArgument",
            "Invalid attribute name specified.",
            ArgumentName="x-amz-object-attributes",
            ArgumentValue=text,
        )
    found = await find(call)
    version = found.version
    opened(call, version, found.reads)
    parts: list[Tree] = []
    if "ETag" in wanted:
        parts.append(("ETag", version.etag))
    if "Checksum" in wanted and version.checksums:
        sums = checksum_trees(version.checksums)
        parts.append(("Checksum", [*sums, ("ChecksumType", checksum_type(version))]))
    if "ObjectParts" in wanted and version.parts:
        parts.append(parts_tree(version, call.headers))
    if "StorageClass" in wanted:
        parts.append(("StorageClass", "STANDARD"))
    if "ObjectSize" in wanted:
        parts.append(("ObjectSize", str(version.size)))
    told = {"Last-Modified": http_date(version.created_ms)}
    told |= await told_id(call.store, version)
    return answer(("GetObjectAttributesResponse", parts), **told)


def _part_number(call: Call, version: Version) -> int:
    """The number of the part that is asked for; what was not uploaded in parts is one. 0: none is.

    Raises:
        S3Error: there is no such part.
    """
    number = call.parameters.get("partNumber")
    if number is None:
        return 0
    if "Range" in call.headers:
        raise S3Error("InvalidRequest", "Cannot specify both Range header and partNumber")
    count = part_count(version) or 1
    digits = number.isascii() and number.isdigit() and len(number) <= _DIGITS_MAX
    if not digits or not 1 <= int(number) <= count:
        raise S3Error("InvalidPartNumber", PartNumberRequested=number, ActualPartCount=str(count))
    return int(number)


def _part(version: Version, number: int) -> tuple[int, int] | None:
    """The range of a part; None for one of nothing."""
    sizes = [size for count, size in version.parts or ((1, version.size),) for _ in range(count)]
    start = sum(sizes[: number - 1])
    return (start, start + sizes[number - 1]) if version.size else None


def _told_of_part(version: Version, number: int, *, summed: bool) -> dict[str, str]:
    """What is told of a part beside its bytes."""
    if not version.parts:
        return checksum_headers(version) if summed else {}
    told = {"x-amz-mp-parts-count": str(part_count(version))}
    return told | checksum_headers(version, part_checksums(version, number) if summed else {})


def _refused(call: Call) -> S3Error:
    held = next((name for name in _CONDITIONS if name in call.headers), "If-Match")
    return S3Error("PreconditionFailed", Condition=held)
