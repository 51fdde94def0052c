"""A web door without a socket: what the client sends is recorded, what it reads is scripted."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from common.checksum import object_digest
from putter.client.http import Body


@dataclass
class Request:
    """One request as it arrived, with its body joined."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    chunked: bool


@dataclass
class Reply:
    """One answer; ``breaks`` is raised instead of the end of the body."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    reason: str = "Reason"
    breaks: Exception | None = None


Script = Callable[[Request], Reply | Exception]


class FakeResponse:
    """The reading side of one reply."""

    def __init__(self, reply: Reply) -> None:
        self.status = reply.status
        self.reason = reply.reason
        self._reply = reply
        self._body = io.BytesIO(reply.body)

    def getheaders(self) -> list[tuple[str, str]]:
        return list(self._reply.headers.items())

    def read(self, amt: int | None = None, /) -> bytes:
        data = self._body.read(amt)
        if not data and self._reply.breaks is not None:
            raise self._reply.breaks
        return data

    def close(self) -> None:
        self._body.close()


class FakeConnection:
    """One connection of a `FakeWeb`."""

    def __init__(self, web: FakeWeb) -> None:
        self._web = web
        self._reply: Reply | Exception = Reply()

    def request(
        self,
        method: str,
        url: str,
        body: Body = None,
        headers: Mapping[str, str] = {},
        *,
        encode_chunked: bool = False,
    ) -> None:
        if self._web.send_error is not None:
            raise self._web.send_error
        data = body if isinstance(body, bytes) else b"".join(body or ())
        request = Request(method, url, dict(headers), data, encode_chunked)
        self._web.requests.append(request)
        self._reply = self._web.script(request)

    def getresponse(self) -> FakeResponse:
        if isinstance(self._reply, Exception):
            raise self._reply
        return FakeResponse(self._reply)

    def close(self) -> None:
        self._web.closed += 1


class FakeWeb:
    """Opens connections whose requests a script answers."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.requests: list[Request] = []
        self.opened = 0
        self.closed = 0
        self.send_error: Exception | None = None

    def __call__(self) -> FakeConnection:
        self.opened += 1
        return FakeConnection(self)

    @property
    def last(self) -> Request:
        return self.requests[-1]


def as_json(value: Any, status: int = 200, **headers: str) -> Reply:
    return Reply(status, json.dumps(value).encode(), headers)


def stored(data: bytes, **more: Any) -> dict[str, Any]:
    """What the router tells after it stored these bytes as ``photos/cat``."""
    return {
        "bucket": "photos",
        "key": "cat",
        "size": len(data),
        "etag": "e1",
        "blake3": object_digest(data).hex(),
        "object": "3F",
        "stamp": 7,
        "version": "7",
        "nodes_written": 2,
        "replicas_wanted": 2,
        "degraded": False,
        "created_ms": 1_700_000_000_000,
        "content_type": "text/plain",
        **more,
    }


def served(data: bytes, **headers: str) -> Reply:
    """The answer to a ``GET`` of the whole file."""
    return Reply(
        200,
        data,
        {
            "Content-Length": str(len(data)),
            "Content-Type": "text/plain",
            "ETag": '"e1"',
            "Last-Modified": "Tue, 14 Nov 2023 22:13:20 GMT",
            "X-Putter-Blake3": object_digest(data).hex(),
            "X-Putter-Object": "3F",
            "X-Putter-Version": "7",
        }
        | headers,
    )
