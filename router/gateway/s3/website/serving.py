"""Websites of buckets, as browsers ask for them: each has a host name below the website domain.

```
GET /key ── everything redirected? ── a rule for the key? ── object ──► its bytes, or where it sends
                                                               │ an error
                          page ◄── error document? ◄── a rule for the error? ◄── index of a folder?
```

Visitors are anonymous whatever they send, and may what the settings of the bucket let everybody do.
Of the query nothing counts: no version, no other headers of an answer.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from aiohttp import web

from common.clock import Clock
from common.errors import PutterError
from common.web import note_failure
from router.gateway.s3.access import NOBODY, Caller, unsigned
from router.gateway.s3.address import Address, bucket_of_host, checked_bucket, checked_key
from router.gateway.s3.call import Call, Store
from router.gateway.s3.facts import Facts
from router.gateway.s3.failures import S3Error
from router.gateway.s3.gate import Gate
from router.gateway.s3.headers import told_headers
from router.gateway.s3.mapping import mapped
from router.gateway.s3.object_facts import ObjectFacts, none_given
from router.gateway.s3.reading import send_found
from router.gateway.s3.sigv4 import SignedRequest
from router.gateway.s3.website.configuration import ABSENT
from router.gateway.s3.website.locations import (
    HEADER,
    Visit,
    of_everything,
    of_object,
    of_rule,
    path_of,
    visit_of,
)
from router.gateway.s3.website.model import DEFAULT_CODE, SETTING, Rule, Site, site_of
from router.gateway.s3.website.pages import error_headers, error_page
from router.gateway.streaming import stream_version
from router.lately import Found

OPERATION: Final = "Website"
"""What metrics call a request to a website."""
_FOLDER: Final = 302
_CLIENTS: Final = range(400, 500)
_METHODS: Final = ("GET", "HEAD")


class Websites:
    """The websites of all buckets.

    Args:
        store: what is behind them.
        clock: tells policies the time.
        domain: under which they have host names; "": there are none.
        host_id: what answers tell of this process.
    """

    def __init__(self, store: Store, clock: Clock, domain: str, host_id: str) -> None:
        self._store = store
        self._clock = clock
        self._host_id = host_id
        self.domain: Final = domain

    def owns(self, host: str) -> bool:
        """Whether a Host header names a website."""
        return bool(bucket_of_host(host, self.domain))

    async def answer(self, request: web.Request, address: Address) -> web.StreamResponse:
        """Answer a visitor.

        Args:
            request: of the visitor.
            address: what it is about.

        Raises:
            S3Error, PutterError: what is wrong; no rule and no error document is about it.
        """
        if request.method not in _METHODS:
            refused = S3Error("MethodNotAllowed", Method=request.method, ResourceType="OBJECT")
            refused.headers["Allow"] = ", ".join(_METHODS)
            raise refused
        if request.body_exists:
            raise S3Error("UnexpectedContent")
        bucket = await self._store.bucket(checked_bucket(address.bucket))
        site = site_of(bucket.settings.get(SETTING))
        if site is None:
            raise S3Error(ABSENT, BucketName=bucket.name)
        host = request.headers.get("Host", "")
        visit = visit_of(host, address.key, encrypted=request.secure)
        if site.everything is not None:
            return _sent(of_everything(site.everything, visit), DEFAULT_CODE)
        rule = site.rule(address.key)
        if rule is not None:
            return _by_rule(rule, visit)
        call = self._call(request, address)
        try:
            return await self._object(call, site)
        except (S3Error, PutterError) as error:
            if isinstance(error, PutterError):
                note_failure(error, request.path)
            return await self._failed(call, site, visit, mapped(error))

    def page(self, error: S3Error) -> web.Response:
        """An error as a page."""
        return error_page(error, self._host_id)

    # -- inside ----------------------------------------------------------------------------

    def _call(self, request: web.Request, address: Address) -> Call:
        """A visit as a request of nobody."""
        address = Address(address.path, address.bucket, address.key, ())
        now_ms = self._clock.now_ms()
        bare = SignedRequest("GET", address.path, "", [])
        caller = Caller(NOBODY, unsigned(bare, datetime.fromtimestamp(now_ms / 1000, UTC)))
        headers = {name.lower(): request.headers.getall(name) for name in request.headers}
        facts = Facts(
            "GetObject", headers, {}, None, None, request.remote or "", request.secure, now_ms
        )
        tags = ObjectFacts(self._store.meta, none_given)
        gate = Gate(self._store.rules, NOBODY, lambda: facts, tags)
        return Call(request, address, caller, self._store, gate)

    async def _object(self, call: Call, site: Site) -> web.StreamResponse:
        """The object that is asked for, or that of the index of a folder.

        Raises:
            S3Error: there is none, or it may not be read.
            PutterError: it cannot be read.
        """
        key = call.address.key
        folder = not key or key.endswith("/")
        try:
            found = await self._find(call, key + site.index if folder else key)
        except S3Error as error:
            if error.code == "NoSuchKey" and not folder and await self._has_index(call, site):
                return _sent(path_of(f"{key}/"), _FOLDER)
            raise await call.gate.masked(error, call.address.bucket) from None
        location = found.version.headers.get(HEADER)
        if location is not None:
            return _sent(of_object(location), DEFAULT_CODE)
        return await send_found(call, found)

    async def _find(self, call: Call, key: str) -> Found:
        """What everybody may read of a name.

        Raises:
            S3Error: nobody may, or there is nothing.
        """
        bucket = call.address.bucket
        if not await call.gate.may("GetObject", bucket, checked_key(key)):
            raise S3Error("AccessDenied")
        found = await self._store.find(bucket, key)
        call.gate.confirm(bucket, key, None, found.version)
        return found

    async def _has_index(self, call: Call, site: Site) -> bool:
        """Whether what is asked for is a folder with an index that everybody may read."""
        try:
            await self._find(call, f"{call.address.key}/{site.index}")
        except S3Error:
            return False
        return True

    async def _failed(
        self, call: Call, site: Site, visit: Visit, failure: S3Error
    ) -> web.StreamResponse:
        """What a visitor gets instead of an object.

        Raises:
            S3Error: the failure itself: there is nothing else to send.
        """
        rule = site.rule(visit.key, failure.status)
        if rule is not None:
            return _by_rule(rule, visit)
        if not site.error or failure.status not in _CLIENTS:
            raise failure
        try:
            found = await self._find(call, site.error)
            found.reads.check_key(found.version)
        except (S3Error, PutterError) as error:
            second = await call.gate.masked(mapped(error), call.address.bucket)
            response = error_page(failure, self._host_id, second)
            if call.request.method == "HEAD":
                response.body = None
            return response
        version = found.version
        told = told_headers(version) | failure.headers | error_headers(failure)
        del told["Accept-Ranges"]
        if call.request.method == "HEAD" or not version.size:
            return web.Response(status=failure.status, headers=told)
        span = (0, version.size)
        return await stream_version(
            call.request, found, span, failure.status, told, self._store.lately
        )


def _by_rule(rule: Rule, visit: Visit) -> web.Response:
    return _sent(of_rule(rule, visit), rule.redirect.code or DEFAULT_CODE)


def _sent(location: str, code: int) -> web.Response:
    """Send a visitor elsewhere."""
    return web.Response(status=code, headers={"Location": location})
