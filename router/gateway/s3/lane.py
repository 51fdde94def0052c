"""The short way of GetObject: what most reads of small objects are, with the same answers.

A request that is plain (`common.plain`), signed in its header and answered with bytes that one
fetch brings goes this way. All others, and every error, are left to `router.gateway.s3.server`,
which looks at them anew. PUTs go on to `router.gateway.s3.put_lane`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from common.clock import Clock
from common.errors import PreconditionFailed, PutterError, RangeInvalid
from common.plain import PLAIN_HEADERS, Ask
from common.requests import REQUEST_ID_HEADER
from common.web_lane import Outlet, head
from router.gateway.conditions import Representation, byte_range, check_read
from router.gateway.s3.access import AccessKeys, caller_of
from router.gateway.s3.address import address_of
from router.gateway.s3.call import HOST_ID, REQUEST_ID, Store, count
from router.gateway.s3.expiration import expiration
from router.gateway.s3.failures import S3Error
from router.gateway.s3.headers import told_headers
from router.gateway.s3.locks import told_hold, told_retention
from router.gateway.s3.put_lane import PutLane
from router.gateway.s3.sigv4 import SignedRequest
from router.gateway.s3.versioning import told_id
from router.gateway.s3.website.serving import Websites

NAMES: Final[Mapping[str, str]] = {
    **{word: name for word, name in PLAIN_HEADERS.items() if name != REQUEST_ID_HEADER},
    "amz-sdk-invocation-id": "amz-sdk-invocation-id",
    "amz-sdk-request": "amz-sdk-request",
    "x-amz-checksum-mode": "x-amz-checksum-mode",
    "x-amz-content-sha256": "x-amz-content-sha256",
    "x-amz-date": "x-amz-date",
    "x-amz-user-agent": "x-amz-user-agent",
}
"""The headers that SDKs send with a GetObject, and that change nothing else of it."""
_REASONS: Final = {status.value: status.phrase for status in HTTPStatus}


class ObjectLane:
    """A `common.web_lane.Lane` for objects.

    Args:
        store: what is behind the door.
        keys: knows access keys.
        clock: tells when a signature is too old.
        domain: under which buckets have host names of their own; "": none.
        websites: are not asked for this way.
        host_id: what answers tell of this process.
    """

    def __init__(
        self,
        store: Store,
        keys: AccessKeys,
        clock: Clock,
        domain: str,
        websites: Websites,
        host_id: str,
    ) -> None:
        self._store = store
        self._keys = keys
        self._clock = clock
        self._domain = domain
        self._websites = websites
        self._host_id = host_id
        self._puts = PutLane(store, keys, clock, domain, host_id)

    def takes(self, path: str) -> bool:
        """Whatever may be an object; in its own host's bucket only with a ``/`` in its key."""
        return path.find("/", 1) not in (-1, len(path) - 1)

    async def answer(self, ask: Ask, out: Outlet) -> bool:
        """Answer a GetObject or a PutObject; False if `S3Door` shall do it."""
        started = time.perf_counter()
        if self._websites.owns(ask.headers.get("Host", "")):
            return False
        try:
            if ask.body is None:
                status, operation = await self._get(ask, out), "GetObject"
            else:
                status, operation = await self._puts.put(ask, out), "PutObject"
        except (S3Error, PutterError):
            return False
        if status:
            count(self._store.metrics, ask.method, operation, status, started)
        return status != 0

    async def _get(self, ask: Ask, out: Outlet) -> int:
        """The status of the answer; 0 if there is none."""
        signed = SignedRequest("GET", ask.path, "", list(ask.headers.items()))
        caller = await caller_of(signed, self._keys, self._clock)
        address = address_of(ask.path, ask.headers.get("Host", ""), self._domain)
        if not address.key or not caller.key.may(address.bucket, write=False):
            return 0
        rules = await self._store.rules.of(address.bucket)
        if not rules.plain:
            return 0
        found = await self._store.lately.find(address.bucket, address.key)
        version = found.version
        what = Representation(version.etag, version.created_ms, version.size)
        try:
            if not check_read(ask.headers, what):
                return 0
            wanted = byte_range(ask.headers, what)
        except (PreconditionFailed, RangeInvalid):
            return 0
        start, end = wanted or (0, version.size)
        if start == end:
            return 0
        piece = await found.reads.short(version, start, end)
        if piece is None:
            return 0
        try:
            summed = ask.headers.get("x-amz-checksum-mode", "").upper() == "ENABLED"
            told = told_headers(version, wanted, checksums=summed)
            told |= await told_id(self._store, version, stale=found.age_s is not None)
            told |= told_retention(version.lock) | told_hold(version.lock)
            told |= expiration(rules, version) | self._store.lately.marks(found)
            told |= found.reads.looked_at(version, start, end, piece)
            told[HOST_ID] = self._host_id
            status = 200 if wanted is None else 206
            out.send([head(status, _REASONS[status], told, REQUEST_ID), *piece.parts])
            await out.drain()
        finally:
            found.reads.give(piece)
        return status
