"""Webhooks over real sockets: what counts as taken, and what is never done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from common.meta.streams import Streams
from router.event_messages import Message
from router.event_senders import Sent, Webhook
from tests.metadata_kit import free_port

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def hook(handler: Handler, token: str = "") -> AsyncIterator[Webhook]:
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handler)
    async with TestServer(application) as server:
        sender = Webhook(str(server.make_url("/hook?a=b")), token, "data-putter/1")
        try:
            yield sender
        finally:
            await sender.close()


def messages(*subjects: str) -> list[Message]:
    return [
        Message(n, "s3:ObjectCreated:Put", each, b'{"n":%d}' % n) for n, each in enumerate(subjects)
    ]


async def test_a_message_is_a_post_with_the_token() -> None:
    seen = []

    async def handler(request: web.Request) -> web.Response:
        seen.append((request.method, request.path_qs, dict(request.headers), await request.read()))
        return web.Response(status=204)

    async with hook(handler, "to/ken") as sender:
        assert await sender.send(messages("a")) == Sent([0])
    ((method, path, headers, body),) = seen
    assert (method, path, body) == ("POST", "/hook?a=b", b'{"n":0}')
    assert headers["Authorization"] == "Bearer to/ken"
    assert headers["Content-Type"] == "application/json"
    assert headers["User-Agent"] == "data-putter/1"


async def test_those_of_one_file_come_one_after_the_other_and_others_beside_them() -> None:
    under_way: list[int] = []
    came: list[int] = []
    together = asyncio.Event()

    async def handler(request: web.Request) -> web.Response:
        number = (await request.json())["n"]
        under_way.append(number)
        if number in (0, 1):
            if {0, 1} <= set(under_way):
                together.set()
            await together.wait()
        came.append(number)
        under_way.remove(number)
        return web.Response()

    async with hook(handler) as sender:
        sent = await sender.send(messages("a", "b", "a", "a", "b"))
    assert sorted(sent.done) == [0, 1, 2, 3, 4]
    assert [n for n in came if n in (0, 2, 3)] == [0, 2, 3]
    assert [n for n in came if n in (1, 4)] == [1, 4]


@pytest.mark.parametrize("status", [301, 307, 400, 401, 404, 429, 500, 503])
async def test_any_other_answer_is_a_failure_and_nothing_behind_it_is_sent(status: int) -> None:
    seen = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request.path)
        if request.path == "/elsewhere":
            return web.Response()
        return web.Response(status=status, headers={"Location": "/elsewhere"})

    async with hook(handler, "token") as sender:
        sent = await sender.send(messages("a", "a"))
    assert (sent.done, sent.trouble) == ([], f"it answers {status}")
    assert seen == ["/hook"], "a redirection is not followed, and those of a file wait"


async def test_one_that_got_through_counts_though_the_next_one_did_not() -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=200 if (await request.json())["n"] == 0 else 500)

    async with hook(handler) as sender:
        sent = await sender.send(messages("a", "a", "a"))
    assert (sent.done, sent.trouble) == ([0], "it answers 500")


async def test_an_answer_without_an_end_is_not_read_to_it() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 65_536)
        except ConnectionError:
            return response

    async with hook(handler) as sender:
        assert await sender.send(messages("a", "a")) == Sent([0, 1])


async def test_nobody_there_is_a_failure_that_tells_no_url() -> None:
    port = free_port()
    sender = Webhook(f"http://127.0.0.1:{port}/with-a-secret", "", "agent")
    sent = await sender.send(messages("a"))
    assert sent.done == []
    assert sent.trouble
    assert "with-a-secret" not in sent.trouble
    await sender.close()
    streams = Streams(f"redis://:with-a-secret@127.0.0.1:{port}")
    trouble = await streams.add("told", [{"a": b"b"}], 10)
    assert trouble
    assert "with-a-secret" not in trouble
    await streams.close()


async def test_an_answer_that_cannot_be_read_is_a_failure_that_tells_no_url() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"none of HTTP\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1") as server:
        port = server.sockets[0].getsockname()[1]
        # It is sent as /with-a-secret: what an error tells is not how it is written here.
        sender = Webhook(f"http://127.0.0.1:{port}/%77ith-a-secret", "", "agent")
        sent = await sender.send(messages("a"))
        await sender.close()
    assert sent.done == []
    assert sent.trouble
    assert "ith-a-secret" not in sent.trouble
