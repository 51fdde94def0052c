"""Operations that read objects: their bytes, what is told of them, and what is so anyway."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from common.errors import PreconditionFailed, RangeInvalid
from common.records import Version
from router.gateway.conditions import Representation, byte_range, check_read, http_date
from router.gateway.s3.acl_documents import acl_tree
from router.gateway.s3.call import Call, answer
from router.gateway.s3.documents import Tree
from router.gateway.s3.failures import S3Error
from router.gateway.s3.headers import checksum_type, overrides, told_headers
from router.gateway.s3.object_parts import parts_tree
from router.gateway.streaming import stream_version

_ATTRIBUTES: Final = ("ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize")
_CONDITIONS: Final = ("If-Match", "If-Unmodified-Since")


async def get_object(call: Call) -> web.StreamResponse:
    """GetObject and HeadObject: the bytes, a range of them, or only what is told of them."""
    address, request = call.address, call.request
    check_version(call)
    found = await call.store.find(address.bucket, address.key)
    version = found.version
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
        return web.Response(status=304, headers=kept | marks(found))
    try:
        wanted = _part(call, version) or byte_range(call.headers, what)
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
    if version.parts and "partNumber" in call.parameters:
        told["x-amz-mp-parts-count"] = str(sum(count for count, _ in version.parts))
    start, end = wanted or (0, version.size)
    status = 200 if wanted is None else 206
    if request.method == "HEAD" or start == end:
        return web.Response(status=status, headers=told | marks(found))
    return await stream_version(request, found, (start, end), status, told, call.store.lately)


async def get_attributes(call: Call) -> web.StreamResponse:
    """GetObjectAttributes: what is asked for, as a document."""
    check_version(call)
    text = call.headers.get("x-amz-object-attributes", "")
    wanted = {each.strip() for each in text.split(",") if each.strip()}
    if not wanted or not wanted <= set(_ATTRIBUTES):
        raise S3Error(
            "InvalidArgument",
            "Invalid attribute name specified.",
            ArgumentName="x-amz-object-attributes",
            ArgumentValue=text,
        )
    version = (await call.store.find(call.address.bucket, call.address.key)).version
    parts: list[Tree] = []
    if "ETag" in wanted:
        parts.append(("ETag", version.etag))
    if "Checksum" in wanted and version.checksums:
        sums: list[Tree] = [
            (f"Checksum{name.upper()}", value) for name, value in version.checksums.items()
        ]
        parts.append(("Checksum", [*sums, ("ChecksumType", checksum_type(version))]))
    if "ObjectParts" in wanted and version.parts:
        parts.append(parts_tree(version.parts, call.headers))
    if "StorageClass" in wanted:
        parts.append(("StorageClass", "STANDARD"))
    if "ObjectSize" in wanted:
        parts.append(("ObjectSize", str(version.size)))
    told = {"Last-Modified": http_date(version.created_ms)}
    return answer(("GetObjectAttributesResponse", parts), **told)


async def get_object_acl(call: Call) -> web.StreamResponse:
    """GetObjectAcl: its bucket's owner may do everything, nobody else anything."""
    check_version(call)
    await call.store.find(call.address.bucket, call.address.key)
    bucket = await call.store.bucket(call.address.bucket)
    return answer(acl_tree(call.owner_of(bucket)))


def check_version(call: Call) -> None:
    """Refuse to answer for a version that is none: a name holds one, whose ID is ``null``.

    Raises:
        S3Error: another is asked for.
    """
    version_id = call.parameters.get("versionId")
    if version_id not in (None, "null"):
        raise S3Error(
            "InvalidArgument",
            "Invalid version id specified",
            ArgumentName="versionId",
            ArgumentValue=version_id or "",
        )


def _part(call: Call, version: Version) -> tuple[int, int] | None:
    """The range of a part; what was not uploaded in parts is one.

    Raises:
        S3Error: there is no such part.
    """
    number = call.parameters.get("partNumber")
    if number is None:
        return None
    if "Range" in call.headers:
        raise S3Error("InvalidRequest", "Cannot specify both Range header and partNumber")
    sizes = [size for count, size in version.parts or ((1, version.size),) for _ in range(count)]
    if not (number.isascii() and number.isdigit() and 1 <= int(number[:9]) <= len(sizes)):
        raise S3Error(
            "InvalidPartNumber", PartNumberRequested=number, ActualPartCount=str(len(sizes))
        )
    start = sum(sizes[: int(number) - 1])
    end = start + sizes[int(number) - 1]
    return (start, end) if start < end else None


def _refused(call: Call) -> S3Error:
    held = next((name for name in _CONDITIONS if name in call.headers), "If-Match")
    return S3Error("PreconditionFailed", Condition=held)
