"""A web port on a real socket: bytes that no client library would send, and taken ports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from common.errors import Unavailable
from common.metrics import Metrics
from common.web import Door, WebPort, make_application

TOKEN = "f" * 64


def application() -> web.Application:
    """Asks for a token, though it listens on loopback here."""
    return make_application(Metrics("putter"), Door("0.0.0.0", TOKEN), lambda: "")


@pytest.fixture
async def port() -> AsyncIterator[WebPort]:
    made = WebPort(application())
    await made.start("127.0.0.1", 0, "--web-port")
    yield made
    await made.stop()


async def ask(port: WebPort, request: bytes) -> bytes:
    """Everything that comes back until the other side closes."""
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", port.port)
        writer.write(request)
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (b"Bearer " + TOKEN.encode(), b"200"),
        (b"Bearer \xff\xfe\x80", b"401"),
        (b"Bearer " + "schlüssel".encode(), b"401"),
        (b"Bearer " + b"f" * 63, b"401"),
    ],
)
async def test_any_bytes_as_a_token(port: WebPort, header: bytes, status: bytes) -> None:
    answer = await ask(
        port,
        b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: %b\r\n\r\n"
        % header,
    )
    assert answer.startswith(b"HTTP/1.1 " + status)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x00\x01\x02\x03\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 40_000 + b"\r\n\r\n",
        b"PUTTER/1" + bytes(100) + b"\r\n\r\n",
    ],
    ids=["noise", "a header too long", "the other protocol"],
)
async def test_garbage_is_refused_and_others_are_served(
    port: WebPort, request_bytes: bytes
) -> None:
    assert (await ask(port, request_bytes)).startswith(b"HTTP/1.0 400") or (
        await ask(port, request_bytes)
    ).startswith(b"HTTP/1.1 400")
    healthy = await ask(port, b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert healthy.startswith(b"HTTP/1.1 200")
    assert healthy.endswith(b"ok\n")


async def test_a_port_that_is_taken(port: WebPort) -> None:
    with pytest.raises(Unavailable, match=f"port {port.port} on 127.0.0.1") as caught:
        await WebPort(application()).start("127.0.0.1", port.port, "--web-port")
    assert "--web-port" in caught.value.hint


async def test_a_closed_listener_takes_nobody_new(port: WebPort) -> None:
    await port.close_listener()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port.port)
