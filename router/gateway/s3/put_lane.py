"""The short way of PutObject: what most writes of small objects are, with the same answers.

A request that is plain (`common.plain`), signed in its header, and whole, goes this way, if its
bucket has no policy, encrypts nothing and tells nobody of changes, and its body is what was
announced of it. All others are left to `router.gateway.s3.server`, which looks at them anew: until
its write begins, nothing here changes anything. What comes of the write is told here, be it an
error.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import Final

from common.checksum import Buffer
from common.clock import Clock
from common.errors import PutterError
from common.logs import get_logger
from common.plain import Ask, Puts
from common.quotas import NAMES as QUOTA_NAMES
from common.web import note_failure
from common.web_lane import Outlet, head
from router.blocks import ChunkSource
from router.gateway.s3.access import AccessKeys, caller_of
from router.gateway.s3.address import address_of, checked_key
from router.gateway.s3.announced import BodyChecks
from router.gateway.s3.call import HOST_ID, REQUEST_ID, Store
from router.gateway.s3.checksums import BY_HEADER
from router.gateway.s3.failures import S3Error
from router.gateway.s3.headers import META, kept_headers
from router.gateway.s3.intake import Framing, framing, sealed
from router.gateway.s3.mapping import mapped
from router.gateway.s3.server import error_answer
from router.gateway.s3.sigv4 import SignedRequest
from router.gateway.s3.writing import DEFAULT, told_of_put
from router.targets import Target

_log = get_logger(__name__)
_TRAILER: Final = "x-amz-trailer"
_NAMES: Final = (
    "Accept",
    "Accept-Encoding",
    "Authorization",
    "Cache-Control",
    "Connection",
    "Content-Disposition",
    "Content-Encoding",
    "Content-Language",
    "Content-Length",
    "Content-MD5",
    "Content-Type",
    "Expires",
    "Host",
    "User-Agent",
    "amz-sdk-invocation-id",
    "amz-sdk-request",
    "x-amz-content-sha256",
    "x-amz-date",
    "x-amz-decoded-content-length",
    "x-amz-sdk-checksum-algorithm",
    _TRAILER,
    "x-amz-user-agent",
    *BY_HEADER,
)
PUTS: Final = Puts({name.lower(): name for name in _NAMES}, META)
"""The headers that SDKs send with a PutObject without a condition, a tag or an ACL."""
_HARMLESS: Final = frozenset(
    {
        "acl",
        "consistency",
        "cors",
        "created",
        "lifecycle",
        "ownership_controls",
        "public_access_block",
        *QUOTA_NAMES,
        "read_quorum",
        "replicas",
        "tags",
        "versioning",
        "website",
        "write_quorum",
    }
)
"""Settings of a bucket that the write path follows, or that change nothing of a PutObject.

A bucket with any other one is left to the long way, so that what is set there need not be known.
"""


class PutLane:
    """Answers plain PutObjects.

    Args:
        store: what is behind the door.
        keys: knows access keys.
        clock: tells when a signature is too old.
        domain: under which buckets have host names of their own; "": none.
        host_id: what answers tell of this process.
    """

    def __init__(
        self, store: Store, keys: AccessKeys, clock: Clock, domain: str, host_id: str
    ) -> None:
        self._store = store
        self._keys = keys
        self._clock = clock
        self._domain = domain
        self._host_id = host_id

    async def put(self, ask: Ask, out: Outlet) -> int:
        """The status of the answer; 0 if there is none, and nothing was changed.

        Raises:
            S3Error, PutterError: nothing was changed either; `S3Door` shall look at it.
        """
        found = await self._wanted(ask)
        if found is None:
            return 0
        target, data = found
        self._store.metrics.ingest_bytes.labels("s3").inc(len(ask.body or b""))
        source = ChunkSource(_once(data), self._store.writes.filler())
        try:
            version = (await self._store.writes.write(source, target)).version
            told = await told_of_put(self._store, version)
        except PutterError as error:
            note_failure(error, ask.path)
            return self._refuse(mapped(error), ask, out)
        except (asyncio.CancelledError, ConnectionError):
            raise
        except Exception:  # noqa: BLE001 - the client gets an answer, the log the trace
            _log.exception("a request failed unexpectedly", path=ask.path)
            return self._refuse(S3Error("InternalError"), ask, out)
        finally:
            source.close()
        told["Content-Length"] = "0"
        told[HOST_ID] = self._host_id
        out.send([head(200, "OK", told, REQUEST_ID)])
        return 200

    # -- inside ----------------------------------------------------------------------------

    async def _wanted(self, ask: Ask) -> tuple[Target, Buffer] | None:
        """What shall be written, and its bytes; None if this is none of this way.

        Raises:
            S3Error, PutterError: it is refused.
        """
        store, headers = self._store, ask.headers
        signed = SignedRequest("PUT", ask.path, "", list(headers.items()))
        caller = await caller_of(signed, self._keys, self._clock)
        address = address_of(ask.path, headers.get("Host", ""), self._domain)
        bucket, key = address.bucket, checked_key(address.key)
        if not key or not caller.key.may(bucket, write=True):
            return None
        if not (await store.rules.of(bucket)).plain:
            return None
        if not (await store.bucket(bucket)).settings.keys() <= _HARMLESS:
            return None
        by_name = {name.lower(): value for name, value in headers.items()}
        trailers = [by_name[_TRAILER]] if _TRAILER in by_name else []
        framed = framing(by_name, trailers, caller.verified)
        body = ask.body or b""
        data, behind = _decoded(framed, body)
        checks = BodyChecks(framed.announced, sha256=caller.verified.sha256, default=DEFAULT)
        checks.update(data)
        seal = sealed(checks.finish(behind))
        kept = kept_headers(headers.items())
        target = Target(bucket, key, kept, empty_allowed=True, seal=lambda: seal, size=len(data))
        return target, data

    def _refuse(self, error: S3Error, ask: Ask, out: Outlet) -> int:
        answer = error_answer(error, ask.path, self._host_id)
        body = answer.body
        assert isinstance(body, bytes)
        told = dict(answer.headers) | {"Content-Length": str(len(body)), HOST_ID: self._host_id}
        out.send([head(answer.status, answer.reason, told, REQUEST_ID), body])
        return answer.status


def _decoded(framed: Framing, body: Buffer) -> tuple[Buffer, Mapping[str, str]]:
    """The object's bytes, and the trailers behind them.

    Raises:
        S3Error: the body is framed wrongly, or has another length than was announced.
    """
    behind: Mapping[str, str] = {}
    if framed.decoder is not None:
        body = b"".join(framed.decoder.feed(body))
        behind = framed.decoder.finish()
    if len(body) != framed.length:
        raise S3Error("IncompleteBody")
    return body, behind


async def _once(data: Buffer) -> AsyncGenerator[Buffer, None]:
    if data:
        yield data
