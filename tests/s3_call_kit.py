"""Handlers of the S3 door, called without a process, a port or a signature."""

from __future__ import annotations

import asyncio
import hashlib
from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from aiohttp import StreamReader, web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.test_utils import make_mocked_request

from router.access_keys import Key
from router.buckets import Directory
from router.gateway.s3 import call as calls
from router.gateway.s3.access import Caller
from router.gateway.s3.address import address_of
from router.gateway.s3.call import Call
from router.gateway.s3.facts import Facts
from router.gateway.s3.failures import S3Error
from router.gateway.s3.gate import AllRules, Gate
from router.gateway.s3.object_facts import ObjectFacts, none_given
from router.gateway.s3.sigv4 import Verified
from router.gateway.s3.sigv4_claim import Claim, Payload
from router.lately import Lately
from tests.router_kit import Store

Handler = Callable[[Call], Awaitable[web.StreamResponse]]


class S3Calls:
    """One router's S3 door, without what stands in front of its handlers."""

    def __init__(self, store: Store, router: int = 0) -> None:
        one = store.routers[router]
        clock = one.writes.clock
        self.directory = Directory(store.meta, one.configure, clock)
        self.store = calls.Store(
            store.meta,
            one.writes,
            Lately(store.meta.files, one.policies, clock, one.reads, 0),
            one.retag,
            self.directory,
            AllRules(store.meta.buckets),
            one.metrics,
            cast("Executor", None),
            60_000,
        )

    def call(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        owner: str = "ann",
    ) -> Call:
        """A request; one with a body announces its MD5 if no header is given."""
        given = {"Content-MD5": md5(body)} if headers is None and body else dict(headers or {})
        given["Content-Length"] = str(len(body))
        loop = asyncio.get_running_loop()
        reader = StreamReader(BaseProtocol(loop), 2**20, loop=loop)
        if body:
            reader.feed_data(body)
        reader.feed_eof()
        request = make_mocked_request(method, path, given, payload=reader)
        address = address_of(path, "localhost", "")
        caller = Caller(_key(owner), _VERIFIED)
        gate = Gate(
            self.store.rules, caller.key, _no_facts, ObjectFacts(self.store.meta, none_given)
        )
        return Call(request, address, caller, self.store, gate)

    async def ask(self, handler: Handler, *request: Any, **options: Any) -> web.Response:
        """What a handler answers to `call`."""
        response = await handler(self.call(*request, **options))
        assert isinstance(response, web.Response)
        return response

    async def refusal(self, handler: Handler, *request: Any, **options: Any) -> str:
        """The code of the error that it answers with."""
        with pytest.raises(S3Error) as caught:
            await self.ask(handler, *request, **options)
        return caught.value.code


def md5(body: bytes) -> str:
    """The value of ``Content-MD5``."""
    return b64encode(hashlib.md5(body).digest()).decode()


def text(response: web.Response) -> str:
    """The document of an answer, without its head."""
    assert isinstance(response.body, bytes)
    return response.body.decode().partition("\n")[2]


_DATE = datetime(2024, 1, 1, tzinfo=UTC)
_CLAIM = Claim("K", "20240101T000000Z", _DATE, "r", "s", (), "0", Payload.UNSIGNED, "")
_VERIFIED = Verified(_CLAIM, None, None)


def _no_facts() -> Facts:
    raise AssertionError("handlers are called here that ask no policy")


def _key(owner: str) -> Key:
    return Key("K", "secret", owner, False, {})
