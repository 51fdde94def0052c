"""Operations that change objects: PutObject, CopyObject, DeleteObject, DeleteObjects."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import Final

from aiohttp import web

from common.errors import NotFound, PreconditionFailed, PutterError
from common.limits import MIB
from common.records import Version
from common.versions import plain_name, read_version_id
from router.blocks import ChunkSource
from router.events import COPY
from router.gateway.conditions import Representation, check_read
from router.gateway.s3.address import checked_key, copy_source
from router.gateway.s3.announced import Announced, BodyChecks
from router.gateway.s3.call import Call, Store, answer, iso_date
from router.gateway.s3.checksums import Algorithm, Buffer
from router.gateway.s3.deleting import CONDITIONS, Wanted, delete_wanted
from router.gateway.s3.documents import Element, Tree, parsed
from router.gateway.s3.encryption import (
    has_customer_key,
    opened_source,
    writing_of,
)
from router.gateway.s3.expiration import expiration
from router.gateway.s3.failures import S3Error
from router.gateway.s3.hashing import Hashing
from router.gateway.s3.headers import checksum_headers, copied_headers, kept_headers
from router.gateway.s3.intake import Hashed
from router.gateway.s3.locking import bypass, given_lock
from router.gateway.s3.mapping import mapped
from router.gateway.s3.object_acls import given_acl
from router.gateway.s3.object_parts import checksum_trees
from router.gateway.s3.sse_headers import asked_for
from router.gateway.s3.tagging import copied_tags, given_tags
from router.gateway.s3.version_ids import DELETE_MARKER, NULL, VERSION_ID
from router.gateway.s3.versioning import deleted_tree, source_header, told_id
from router.gateway.s3.website.locations import HEADER as REDIRECT
from router.targets import Sealed, Target, Written

DELETE_MAX: Final = 1000
_DELETE_BYTES_MAX: Final = 2 * MIB
_AT_ONCE: Final = 64
_SOURCE: Final = "x-amz-copy-source"
DEFAULT: Final = Algorithm.CRC64NVME
"""What is computed of a body whose sender chose no checksum, as S3 does."""


async def put_object(call: Call) -> web.StreamResponse:
    """PutObject: the body becomes what the name holds."""
    bucket, key = await destination(call)
    acl = await given_acl(call)
    body = call.body()
    sha256 = call.caller.verified.sha256
    checks = BodyChecks(body.announced, sha256=sha256, default=DEFAULT)
    hashed = Hashed(body.chunks(), lambda: body.trailers, Hashing(checks, call.store.threads))
    kept = kept_headers(call.headers.items())
    if_match = await condition(call)
    tags, lock = await given_tags(call), await given_lock(call, summed=True)
    writing = await writing_of(call.headers, call.request, call.store, bucket)
    target = Target(
        bucket,
        key,
        kept,
        if_match,
        empty_allowed=True,
        tags=tags,
        acl=acl,
        seal=writing.seal(hashed.sealed),
        encryption=writing.encryption,
        size=body.length,
        lock=lock,
    )
    version = (await write_from(call, writing.chunks(hashed.chunks()), target)).version
    return web.Response(headers=await told_of_put(call.store, version) | writing.told)


async def copy_object(call: Call) -> web.StreamResponse:
    """CopyObject: the bytes of another name, under new tickets, become what this one holds."""
    bucket, key = await destination(call)
    acl = await given_acl(call)
    source = copy_source(call.headers[_SOURCE])
    replaces = _replaces(call)
    changes = replaces or REDIRECT in call.headers or bool(asked_for(call.headers))
    if source == (bucket, key, None) and not changes:
        raise S3Error(
            "InvalidRequest",
            "This copy request is illegal because it is trying to copy an object to itself without "
            "changing the object's metadata, storage class, website redirect location or "
            "encryption attributes.",
        )
    found = await call.source(*source)
    version = found.version
    reads = opened_source(call, version, found.reads)
    check_source(call.headers, version)
    kept = copied_headers(version, call.headers, replaces=replaces)
    tags, lock = await copied_tags(call, source, version), await given_lock(call)
    pieces = pieces_of(reads.stream(version, 0, version.size))
    asked = call.headers.get("x-amz-checksum-algorithm")
    algorithm = Algorithm.named(asked) if asked is not None else None
    if_match = await condition(call)
    writing = await writing_of(call.headers, call.request, call.store, bucket, version)
    exact = "-" not in version.etag and not has_customer_key(version.encryption)
    if not exact or algorithm is not None or not version.checksums:
        checks = BodyChecks(Announced(), default=algorithm or DEFAULT)
        hashed = Hashed(pieces, dict, Hashing(checks, call.store.threads))
        pieces, seal = hashed.chunks(), hashed.sealed
    else:

        def seal() -> Sealed:
            return Sealed(version.etag, version.checksums)

    target = Target(
        bucket,
        key,
        kept,
        if_match,
        empty_allowed=True,
        tags=tags,
        acl=acl,
        seal=writing.seal(seal),
        encryption=writing.encryption,
        size=version.size,
        lock=lock,
        event=COPY,
    )
    written = (await write_from(call, writing.chunks(pieces), target)).version
    told: list[Tree] = [
        ("LastModified", iso_date(written.created_ms)),
        ("ETag", f'"{written.etag}"'),
        *checksum_trees(written.checksums),
    ]
    headers = await source_header(call.store, version) | writing.told
    headers |= await told_of_written(call.store, written)
    return answer(("CopyObjectResult", told), **headers)


async def delete_object(call: Call) -> web.StreamResponse:
    """DeleteObject: the name holds nothing, as it may have before; or one version is gone."""
    bucket, key = await destination(call)
    wanted = Wanted.of_headers(call.headers)
    named = call.parameters.get("versionId")
    await _check_reads(call, key, wanted, named)
    may = named is not None and await bypass(call, key, named)
    writes = call.store.writes
    version, marker = await delete_wanted(writes, bucket, key, wanted, named, bypass=may)
    headers = {VERSION_ID: version or marker} if version or marker else {}
    return web.Response(status=204, headers=headers | ({DELETE_MARKER: "true"} if marker else {}))


async def delete_objects(call: Call) -> web.StreamResponse:
    """DeleteObjects: up to a thousand names, each with an outcome of its own."""
    await call.store.bucket(call.address.bucket)
    root = parsed(await call.document(_DELETE_BYTES_MAX), "Delete")
    objects = root.all("Object")
    if not 1 <= len(objects) <= DELETE_MAX:
        raise S3Error("MalformedXML")
    quiet = (root.value("Quiet") or "").strip().lower() == "true"
    outcomes: list[Tree | None] = []
    for first in range(0, len(objects), _AT_ONCE):
        part = objects[first : first + _AT_ONCE]
        outcomes += await asyncio.gather(*(_delete(call, each, quiet=quiet) for each in part))
    return answer(("DeleteResult", [each for each in outcomes if each is not None]))


# -- inside --------------------------------------------------------------------------------


async def destination(call: Call) -> tuple[str, str]:
    """Bucket and key of an object that may be changed.

    Raises:
        S3Error: there is no such bucket, or the key is too long, or a version is named.
    """
    address = call.address
    if "versionId" in call.parameters and call.request.method != "DELETE":
        raise S3Error(
            "InvalidArgument",
            "This operation does not accept a version-id.",
            ArgumentName="versionId",
            ArgumentValue=call.parameters["versionId"],
        )
    key = checked_key(address.key)
    await call.store.bucket(address.bucket)
    return address.bucket, key


async def condition(call: Call) -> str | None:
    """The condition of a write, checked against what is there, and again when it is published.

    Raises:
        S3Error: it does not hold already now, or is none that S3 has.
    """
    if_match, if_none_match = call.headers.get("If-Match"), call.headers.get("If-None-Match")
    if if_match is None and if_none_match is None:
        return None
    if if_none_match is not None and (if_match is not None or if_none_match.strip() != "*"):
        raise S3Error("NotImplemented", Header="If-None-Match")
    address = call.address
    if if_match is not None and not await call.gate.may("GetObject", address.bucket, address.key):
        raise S3Error("AccessDenied")
    current = await call.store.meta.files.resolve(address.bucket, address.key)
    if if_match is None:
        if current is not None:
            raise S3Error("PreconditionFailed", Condition="If-None-Match")
        return ""
    if current is None:
        raise S3Error("NoSuchKey", Key=address.key)
    if if_match.strip() == "*":
        return "*"
    if if_match.strip().strip('"') != current.etag:
        raise S3Error("PreconditionFailed", Condition="If-Match")
    return current.etag


async def told_of_written(store: Store, version: Version) -> dict[str, str]:
    """Headers that tell of what a name holds since a moment ago: its ID, and when it expires."""
    bucket, _ = plain_name(version)
    return await told_id(store, version) | expiration(store.rules.last(bucket), version)


async def write_from(call: Call, chunks: AsyncGenerator[Buffer, None], target: Target) -> Written:
    """Write what comes.

    Raises:
        S3Error, PutterError: nothing of it is visible.
    """
    writes = call.store.writes
    source = ChunkSource(chunks, writes.filler())
    try:
        return await writes.write(source, target)
    except PreconditionFailed:
        held = "If-None-Match" if target.if_match == "" else "If-Match"
        raise S3Error("PreconditionFailed", Condition=held) from None
    finally:
        source.close()
        await chunks.aclose()


async def told_of_put(store: Store, version: Version) -> dict[str, str]:
    """The headers of the answer to a PutObject.

    Args:
        store: the store.
        version: what was written.

    Raises:
        PutterError: Redis does not answer.
    """
    told = {"ETag": f'"{version.etag}"'} | checksum_headers(version)
    return told | await told_of_written(store, version)


def _replaces(call: Call) -> bool:
    directive = call.headers.get("x-amz-metadata-directive", "COPY")
    if directive not in ("COPY", "REPLACE"):
        raise S3Error(
            "InvalidArgument",
            "Unknown metadata directive.",
            ArgumentName="x-amz-metadata-directive",
            ArgumentValue=directive,
        )
    return directive == "REPLACE"


def check_source(headers: Mapping[str, str], version: Version, source: str = _SOURCE) -> None:
    """Hold the source of a copy to the conditions of the request.

    Args:
        headers: of the request, by names in any case.
        version: the source.
        source: the header that names it; those with its conditions begin with it.

    Raises:
        S3Error: one does not hold.
    """
    conditions = {
        name: headers[f"{source}-{name}"]
        for name in ("If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since")
        if f"{source}-{name}" in headers
    }
    what = Representation(version.etag, version.created_ms, version.size)
    try:
        holds = check_read(conditions, what)
    except PreconditionFailed:
        holds = False
    if not holds:
        name = next(iter(conditions))
        raise S3Error("PreconditionFailed", Condition=f"{source}-{name}")


async def pieces_of(stream: AsyncGenerator[memoryview, None]) -> AsyncGenerator[Buffer, None]:
    """Pieces that stay as they are: the memory of those that were read is used again."""
    try:
        async for piece in stream:
            yield bytes(piece)
    except NotFound as error:
        raise S3Error("NoSuchKey") from error
    finally:
        await stream.aclose()


async def _delete(call: Call, wanted: Element, *, quiet: bool) -> Tree | None:
    """Delete one of many; what is told of it, if anything."""
    try:
        (key, version), condition = _named(wanted), Wanted.of_element(wanted)
        if not await call.gate.may("DeleteObject", call.address.bucket, key, version):
            raise S3Error("AccessDenied")  # noqa: TRY301 - told of this key alone
        await _check_reads(call, key, condition, version)
        may = version is not None and await bypass(call, key, version)
        writes, bucket = call.store.writes, call.address.bucket
        outcome = await delete_wanted(writes, bucket, key, condition, version, bypass=may)
    except (S3Error, PutterError) as error:
        failure = await call.gate.masked(mapped(error), call.address.bucket)
        told: list[Tree] = [
            (each.name, each.text) for each in wanted.children if each.name in ("Key", "VersionId")
        ]
        return ("Error", [*told, ("Code", failure.code), ("Message", failure.message)])
    return None if quiet else deleted_tree(key, *outcome)


async def _check_reads(call: Call, key: str, wanted: Wanted, version: str | None = None) -> None:
    """Refuse a condition to who may not read what it is about: its outcome would tell of that.

    Raises:
        S3Error: ``AccessDenied``.
    """
    if wanted == Wanted():
        return
    if not await call.gate.may("GetObject", call.address.bucket, key, version):
        raise S3Error("AccessDenied")


def _named(wanted: Element) -> tuple[str, str | None]:
    """The key that shall be deleted, and the ID of its version, if one is named.

    Raises:
        S3Error: there is none; or no version can have this ID, which S3 has another code for here.
    """
    key = wanted.value("Key")
    if not key:
        raise S3Error("MalformedXML")
    if {child.name for child in wanted.children} - {"Key", "VersionId"} - CONDITIONS:
        raise S3Error("NotImplemented")
    version = wanted.value("VersionId") or None
    if version not in (None, NULL) and read_version_id(version) is None:
        raise S3Error("NoSuchVersion")
    return checked_key(key), version
