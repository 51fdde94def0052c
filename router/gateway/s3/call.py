"""What the operations of the S3 door share: the request they answer, and the store behind it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from aiohttp import web

from common.errors import NotFound
from common.event_targets import EventTarget
from common.meta.interface import Metadata
from common.metrics import Metrics
from common.pairs import ROOT
from common.records import Version
from common.versions import version_name, versions_of
from common.web import count_answer
from router.buckets import Bucket, Directory
from router.gateway.s3.access import Caller, owner_id
from router.gateway.s3.address import Address
from router.gateway.s3.announced import BodyChecks
from router.gateway.s3.documents import CONTENT_TYPE, Tree, document
from router.gateway.s3.failures import S3Error
from router.gateway.s3.gate import AllRules, Gate
from router.gateway.s3.intake import Body
from router.gateway.s3.version_ids import read_id
from router.lately import Found, Lately
from router.retag import Retag
from router.writes import WritePath

REQUEST_ID: Final = "x-amz-request-id"
HOST_ID: Final = "x-amz-id-2"


@dataclass(frozen=True)
class Store:
    """The store behind the door.

    Attributes:
        meta: the coordinator.
        writes: the write path.
        lately: what names hold, or held.
        retag: changes tags of objects.
        directory: which buckets there are.
        rules: who may use them.
        metrics: counters.
        threads: where checksums are computed.
        idle_ms: silence of an upload after which it fails.
        event_targets: where events can go, by name.
    """

    meta: Metadata
    writes: WritePath
    lately: Lately
    retag: Retag
    directory: Directory
    rules: AllRules
    metrics: Metrics
    threads: Executor
    idle_ms: int
    event_targets: Mapping[str, EventTarget] = field(default_factory=dict)

    async def bucket(self, name: str) -> Bucket:
        """A bucket that is there, or was within the last second.

        Raises:
            S3Error: ``NoSuchBucket``.
        """
        found = await self.directory.known(name)
        if found is None:
            raise no_bucket(name)
        return found

    async def find(self, bucket: str, key: str) -> Found:
        """What a name holds.

        Raises:
            S3Error: ``NoSuchKey`` or ``NoSuchBucket``.
        """
        try:
            return await self.lately.find(bucket, key)
        except NotFound:
            if await self.directory.find(bucket) is None:
                raise no_bucket(bucket) from None
            raise S3Error("NoSuchKey", Key=key) from None

    async def version(self, bucket: str, key: str, text: str) -> Version:
        """The version of an ID, which may be a delete marker.

        Raises:
            S3Error: ``NoSuchVersion`` or ``NoSuchBucket``, or it is no ID.
        """
        number = read_id(text)
        place, name = bucket, key
        if number is not None:
            place, name = versions_of(bucket), version_name(key, number)
        held = await self.meta.versions.held(place, name)
        if held is not None:
            return held
        if await self.directory.find(bucket) is None:
            raise no_bucket(bucket)
        raise S3Error("NoSuchVersion", Key=key, VersionId=text)


@dataclass(frozen=True)
class Call:
    """One request that may be answered.

    Attributes:
        request: as aiohttp has it.
        address: what it is about.
        caller: who it is from.
        store: what it is for.
        gate: what it may.
    """

    request: web.Request
    address: Address
    caller: Caller
    store: Store
    gate: Gate

    @property
    def headers(self) -> Mapping[str, str]:
        """Of the request, by names in any case."""
        return self.request.headers

    @property
    def parameters(self) -> Mapping[str, str]:
        """Of the query, by name."""
        return self.address.parameters

    def owner_of(self, bucket: Bucket) -> str:
        """Who owns a bucket: of one that nobody created, whoever asks."""
        return bucket.owner or self.caller.key.owner or ROOT

    async def source(self, bucket: str, key: str, version: str | None = None) -> Found:
        """What shall be copied from: of that, too, one may learn only what one may read.

        Args:
            bucket: which holds it.
            key: of it.
            version: which is named, if one is.

        Raises:
            S3Error: there is none, or it may not be read, or its bucket is another's than expected.
        """
        if not await self.gate.may("GetObject", bucket, key, version):
            raise S3Error("AccessDenied")
        await self.check_owner(bucket, "x-amz-source-expected-bucket-owner")
        try:
            if version is None:
                found = await self.store.find(bucket, key)
            else:
                named = await self.store.version(bucket, key, version)
                found = Found(named, self.store.lately.reads)
        except S3Error as error:
            raise await self.gate.masked(error, bucket) from None
        self.gate.confirm(bucket, key, version, found.version)
        if found.version.is_marker:
            raise S3Error(
                "InvalidRequest",
                "The source of a copy request may not specifically refer to a delete marker by "
                "version id.",
            )
        return found

    async def check_owner(self, bucket: str, header: str) -> None:
        """Hold a bucket to the owner that a header of the request expects, if it is there.

        Args:
            bucket: its name.
            header: the header's.

        Raises:
            S3Error: ``AccessDenied``: it is another's; or ``NoSuchBucket``.
        """
        expected = self.headers.get(header)
        if expected is not None:
            owner = self.owner_of(await self.store.bucket(bucket))
            if expected not in (owner, owner_id(owner)):
                raise S3Error("AccessDenied")

    def body(self, *, summed: bool = True) -> Body:
        """The body of the request.

        Args:
            summed: whether checksums in the headers are the body's.

        Raises:
            S3Error: its headers contradict each other.
        """
        store = self.store
        verified = self.caller.verified
        return Body(self.request, verified, store.metrics, store.idle_ms, summed=summed)

    async def document(self, bytes_max: int, *, summed: bool = True) -> bytes:
        """A short body, held to what was announced of it.

        Args:
            bytes_max: what it may have.
            summed: whether checksums in the headers are the body's.

        Raises:
            S3Error: it is longer, or something else.
        """
        if not self.request.can_read_body and "Content-Length" not in self.headers:
            return b""
        body = self.body(summed=summed)
        data = await body.read(bytes_max)
        checks = BodyChecks(body.announced, sha256=self.caller.verified.sha256, md5=False)
        checks.update(data)
        checks.finish(body.trailers)
        return data


def count(metrics: Metrics, method: str, operation: str, status: int, started_s: float) -> None:
    """Count an answered request.

    Args:
        metrics: where to.
        method: of the request.
        operation: what it was.
        status: of the answer.
        started_s: `time.perf_counter` when the request was there.
    """
    count_answer(metrics, method, status, started_s)
    metrics.child(metrics.s3_requests, operation, str(status)).inc()
    metrics.child(metrics.s3_seconds, operation).observe(time.perf_counter() - started_s)


def no_bucket(name: str) -> S3Error:
    """There is no such bucket."""
    return S3Error("NoSuchBucket", BucketName=name)


def answer(tree: Tree, **headers: str) -> web.Response:
    """An answer with a document."""
    return web.Response(body=document(tree), headers={"Content-Type": CONTENT_TYPE} | headers)


def iso_date(ms: int) -> str:
    """A moment as documents have it; whole seconds, as ``Last-Modified`` tells them."""
    minutes, seconds = divmod(ms // 1000, 60)
    return f"{_minute(minutes)}:{seconds:02}.000Z"


@lru_cache(maxsize=1024)
def _minute(minutes: int) -> str:
    """Listings tell a thousand moments at a time, many of them close to each other."""
    return datetime.fromtimestamp(60 * minutes, UTC).strftime("%Y-%m-%dT%H:%M")


def owner_tree(owner: str) -> Tree:
    """An owner: the ID has the form of S3's, the name is that of the access keys."""
    return ("Owner", [("ID", owner_id(owner)), ("DisplayName", owner)])
