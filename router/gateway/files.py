"""``/file/{bucket}/{key}``: bodies stream both ways."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from functools import lru_cache
from typing import Final
from urllib.parse import unquote_to_bytes

import aiohttp
from aiohttp import web

from common import names
from common.checksum import Buffer, ObjectHash
from common.errors import (
    ClientGone,
    IdleTimeout,
    NameInvalid,
    NotFound,
    PreconditionFailed,
    RangeInvalid,
    TooLarge,
    UsageError,
)
from common.limits import HEADERS_BYTES_MAX, OBJECT_BYTES_MAX
from common.metrics import Metrics
from common.records import Version
from common.tickets import format_id
from common.web import error_response, json_response
from router.blocks import ChunkSource
from router.events import COPY
from router.gateway.bodies import SignedBody
from router.gateway.conditions import (
    Representation,
    byte_range,
    check_read,
    delete_condition,
    http_date,
    write_condition,
)
from router.gateway.describe import file_details, file_summary
from router.gateway.streaming import stream_version
from router.lately import Lately
from router.object_keys import encrypted, own_key
from router.renames import Renames, pieces
from router.targets import Sealed, Target, Written
from router.writes import WritePath

_PREFIX: Final = "/file/"
_NAME: Final = "{name:(?s:.+)}"
"""Anything, line breaks too: `name_of` says what is wrong with them."""
_CONTENT_TYPE: Final = "application/octet-stream"
COPY_SOURCE: Final = "X-Putter-Copy-Source"
"""Names the file that is copied; who may write the one must be allowed to read the other."""
MOVE_SOURCE: Final = "X-Putter-Move-Source"
"""Names the file that is renamed; who may write the one must be allowed to delete the other."""
_KEPT_HEADERS: Final = (
    "Content-Type",
    "Content-Encoding",
    "Content-Disposition",
    "Content-Language",
    "Cache-Control",
    "Expires",
)


def name_of(raw_path: str, prefix: str = _PREFIX) -> tuple[str, str]:
    """Bucket and key of a request's raw path; one segment means the bucket ``files``.

    Raises:
        NameInvalid: not UTF-8, or not a name that the store accepts.
    """
    head, slash, tail = raw_path.removeprefix(prefix).partition("/")
    try:
        first = unquote_to_bytes(head).decode()
        rest = unquote_to_bytes(tail).decode()
    except UnicodeDecodeError as error:
        raise NameInvalid(f"the name in the URL is not UTF-8: {error}") from error
    if not slash:
        return "files", names.check_key(first)
    return names.check_bucket(first), names.check_key(rest)


class FileRoutes:
    """GET, HEAD, PUT and DELETE of files.

    Args:
        writes: the write path.
        lately: what names hold, or held.
        metrics: counters.
        idle_ms: silence of an upload after which it fails.
    """

    def __init__(
        self,
        writes: WritePath,
        lately: Lately,
        metrics: Metrics,
        idle_ms: int,
    ) -> None:
        self._writes = writes
        self._lately = lately
        self._metrics = metrics
        self._idle_ms = idle_ms

    def add_to(self, application: web.Application) -> None:
        """Register the routes."""
        router = application.router
        router.add_route("GET", f"/file/{_NAME}", self.get)
        router.add_route("HEAD", f"/file/{_NAME}", self.get)
        router.add_route("PUT", f"/file/{_NAME}", self.put)
        router.add_route("DELETE", f"/file/{_NAME}", self.delete)
        router.add_route("GET", f"/metadata/{_NAME}", self.details)

    async def put(self, request: web.Request) -> web.StreamResponse:
        """Store the body under the name, copy another file there, or rename one."""
        bucket, key = name_of(request.rel_url.raw_path)
        length = request.content_length
        if length is not None and length > OBJECT_BYTES_MAX:
            raise TooLarge(f"a file has at most {OBJECT_BYTES_MAX} bytes, not {length}")
        current = await self._writes.meta.files.resolve(bucket, key)
        target = Target(
            bucket=bucket,
            key=key,
            headers=_kept_headers(request),
            if_match=write_condition(request.headers, current.etag if current else None),
            empty_allowed=True,
            size=length,
        )
        written, plain = await self._write(request, target)
        summary = file_summary(written.version, written.holders)
        if plain is not None and written.version.size:
            summary["blake3"] = plain.digest().hex()  # told only now: it is not kept
        headers = _entity_headers(written.version)
        return json_response(summary, 200 if current is not None else 201, **headers)

    async def get(self, request: web.Request) -> web.StreamResponse:
        """The bytes, or a range of them."""
        bucket, key = name_of(request.rel_url.raw_path)
        found = await self._lately.find(bucket, key)
        version = found.version
        found.reads.check_key(version)
        what = Representation(version.etag, version.created_ms, version.size)
        try:
            changed = check_read(request.headers, what)
        except PreconditionFailed as error:
            raise found.undecided(error) from None
        if not changed:
            headers = headers_of(version) | self._lately.marks(found)
            del headers["Content-Length"]
            return web.Response(status=304, headers=headers)
        try:
            wanted = byte_range(request.headers, what)
        except RangeInvalid as error:
            if found.age_s is not None:
                raise found.undecided(error) from None
            response = error_response(error)
            response.headers["Content-Range"] = f"bytes */{version.size}"
            return response
        start, end = wanted or (0, version.size)
        status, headers = 200 if wanted is None else 206, headers_of(version, wanted)
        if request.method == "HEAD" or start == end:
            return web.Response(status=status, headers=headers | self._lately.marks(found))
        return await stream_version(request, found, (start, end), status, headers, self._lately)

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """Make the name hold nothing."""
        bucket, key = name_of(request.rel_url.raw_path)
        condition = delete_condition(request.headers)
        if not await self._writes.delete(bucket, key, condition):
            raise NotFound(f"there is no file {names.format_name(bucket, key)}")
        return web.Response(status=204)

    async def details(self, request: web.Request) -> web.StreamResponse:
        """Everything that is known of a file."""
        bucket, key = name_of(request.rel_url.raw_path, "/metadata/")
        return json_response(file_details(await self._lately.reads.resolve(bucket, key)))

    # -- inside ----------------------------------------------------------------------------

    async def _write(
        self, request: web.Request, target: Target
    ) -> tuple[Written, ObjectHash | None]:
        """Store what a request wants to have there; with the hash of what was encrypted for it."""
        given = [name for name in (COPY_SOURCE, MOVE_SOURCE) if name in request.headers]
        if len(given) > 1:
            raise UsageError(f"a request has {COPY_SOURCE} or {MOVE_SOURCE}, not both")
        if given and request.can_read_body:
            raise UsageError(f"a request with {given[0]} has no body")
        if MOVE_SOURCE in given:
            source_name = name_of(request.headers[MOVE_SOURCE], "/")
            renames = Renames(self._writes, self._lately.reads)
            return await renames.rename(*source_name, target), None
        chunks: AsyncGenerator[Buffer, None] = self._body(request)
        hidden = False  # a copy of what is encrypted is, too
        if COPY_SOURCE in given:
            version = await self._lately.reads.resolve(*name_of(request.headers[COPY_SOURCE], "/"))
            target, hidden = _like(version, target), version.encryption is not None
            chunks = pieces(self._lately.reads, version)
        plain = None
        if (await self._writes.policies.of(target.bucket)).encrypted or hidden:
            key_of_file, plain = own_key(self._writes.keyring), ObjectHash()
            chunks = encrypted(_hashed(chunks, plain), key_of_file)
            target = replace(target, encryption=key_of_file.encryption)
        source = ChunkSource(chunks, self._writes.filler())
        try:
            return await self._writes.write(source, target), plain
        finally:
            source.close()
            await chunks.aclose()

    async def _body(self, request: web.Request) -> AsyncGenerator[bytes, None]:
        received = 0
        counter = self._metrics.ingest_bytes.labels("web")
        chunks = request.content
        signed = SignedBody(request)
        while True:
            try:
                async with asyncio.timeout(self._idle_ms / 1000):
                    chunk = await chunks.readany()
            except TimeoutError:
                raise IdleTimeout(f"no byte of the body for {self._idle_ms} ms") from None
            except (aiohttp.ClientPayloadError, web.RequestPayloadError, OSError) as error:
                raise ClientGone(f"the body broke off after {received} bytes") from error
            if not chunk:
                break
            received += len(chunk)
            counter.inc(len(chunk))
            signed.update(chunk)
            yield chunk
        if request.content_length is not None and received != request.content_length:
            raise ClientGone(
                f"the body has {received} bytes, Content-Length said {request.content_length}"
            )
        signed.finish()


async def _hashed(
    chunks: AsyncGenerator[Buffer, None], digest: ObjectHash
) -> AsyncGenerator[Buffer, None]:
    """The same bytes, added to a hash on their way."""
    async with aclosing(chunks):
        async for chunk in chunks:
            digest.update(chunk)
            yield chunk


def _like(version: Version, target: Target) -> Target:
    """A target for a copy: what belongs to the bytes goes with them.

    The tag and checksums of an upload in parts tell of its parts, which a copy does not have.
    """
    copy = replace(
        target, headers=version.headers, tags=version.tags, size=version.size, event=COPY
    )
    if version.parts:
        return copy
    sealed = Sealed(version.etag, version.checksums)
    return replace(copy, seal=lambda: sealed)


def _kept_headers(request: web.Request) -> dict[str, str]:
    kept = {}
    size = 0
    for name in _KEPT_HEADERS:
        value = request.headers.get(name)
        if value is not None:
            kept[name.lower()] = value
            size += len(name) + len(value)
    if size > HEADERS_BYTES_MAX:
        raise TooLarge(f"headers that are kept have at most {HEADERS_BYTES_MAX} bytes")
    return kept


def _entity_headers(version: Version) -> dict[str, str]:
    headers = dict(_validators(version.etag, version.created_ms, version.stamp))
    if len(version.objects) == 1:
        if version.encryption is None:  # else it is of what is stored
            headers["X-Putter-Blake3"] = version.objects[0].blake3.hex()
        headers["X-Putter-Object"] = version.objects[0].object_id
    return headers


@lru_cache(maxsize=512)
def _validators(etag: str, created_ms: int, stamp: int) -> tuple[tuple[str, str], ...]:
    """Dates and numbers as text, which takes most of the time of an answer's head."""
    return (
        ("ETag", f'"{etag}"'),
        ("Last-Modified", http_date(created_ms)),
        ("Accept-Ranges", "bytes"),
        ("X-Putter-Version", format_id(stamp)),
    )


def headers_of(version: Version, part: tuple[int, int] | None = None) -> dict[str, str]:
    """The headers of an answer with a version's bytes, all or a part."""
    stored = {name.title(): value for name, value in version.headers.items()}
    headers = _entity_headers(version) | {"Content-Type": _CONTENT_TYPE} | stored
    start, end = part or (0, version.size)
    if part is not None:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{version.size}"
    headers["Content-Length"] = str(end - start)
    return headers
