"""A web port with a short way, on a real socket: nobody can tell which way a request went."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

import pytest
import uvloop
from aiohttp import web

from common.callers import CallerLimits
from common.limits import MIB
from common.metrics import Metrics
from common.plain import PLAIN_HEADERS, Ask, Puts
from common.web import Door, make_application
from common.web_lane import LaneConnection, Outlet, head
from common.web_port import WebPort

HOST = b"Host: localhost\r\n"


def get(path: bytes, more: bytes = b"") -> bytes:
    return b"GET " + path + b" HTTP/1.1\r\n" + HOST + more + b"\r\n"


def put(path: bytes, body: bytes) -> bytes:
    return b"PUT %b HTTP/1.1\r\n%bContent-Length: %d\r\n\r\n%b" % (path, HOST, len(body), body)


PUTS = Puts(dict(PLAIN_HEADERS) | {"content-length": "Content-Length"}, "x-meta-")
CHUNKED = b"PUT /lane/6 HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
ASKS = [
    get(b"/lane/1"),
    get(b"/lane/2", b"Range: bytes=0-1\r\n"),
    get(b"/lane/3", b"X-Else: 1\r\n"),
    get(b"/lane/not-mine"),
    get(b"/healthz"),
    put(b"/lane/4", get(b"/lane/smuggled")),
    CHUNKED + b"5\r\nabcde\r\n0\r\n\r\n",
    get(b"/lane/7"),
]
MORE = [
    *ASKS,
    put(b"/lane/not-mine", b"refused by the lane"),
    put(b"/lane/8", b""),
    put(b"/healthz", b"no PUTs here"),
]


class Site:
    """Answers ``/lane/…`` both ways with the same bytes, and counts how.

    Args:
        puts: which PUTs are plain; None: none.
    """

    def __init__(self, puts: Puts | None = None) -> None:
        self.metrics = Metrics("putter")
        application = make_application(self.metrics, Door("127.0.0.1", ""), lambda: "")
        application.router.add_route("*", "/lane/{name}", self._long)
        make = partial(LaneConnection, lane=self, puts=puts)
        self.port = WebPort(application, self.metrics, CallerLimits(100), make)
        self.short: list[str] = []
        self.long: list[str] = []
        self.held = asyncio.Event()
        self.held.set()
        self.begun = 0
        self.long_begun = 0
        self.cancelled = 0
        self.size = 0
        self.writers: list[asyncio.StreamWriter] = []

    def body(self, path: str) -> bytes:
        return path.encode() + bytes(self.size)

    async def _long(self, request: web.Request) -> web.StreamResponse:
        self.long_begun += 1
        taken = await request.read()
        self.long.append(request.path)
        return web.Response(body=self.body(request.path) + taken)

    def takes(self, path: str) -> bool:
        return path.startswith("/lane/")

    async def answer(self, ask: Ask, out: Outlet) -> bool:
        self.begun += 1
        try:
            await self.held.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if ask.path.endswith("not-mine"):
            return False
        if ask.path.endswith("gone"):
            out.send([head(200, "OK", {"Content-Length": "100"}), b"a part"])
            raise ConnectionResetError("cut")
        if ask.path.endswith("broken"):
            raise ZeroDivisionError("of the test")
        self.short.append(ask.path)
        body = self.body(ask.path) + bytes(ask.body or b"")
        headers = {"Content-Length": str(len(body)), "Content-Type": "application/octet-stream"}
        out.send([head(200, "OK", headers), memoryview(body)])
        return True

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        found = await asyncio.open_connection("127.0.0.1", self.port.port, limit=64 * MIB)
        self.writers.append(found[1])
        return found


class Play(Protocol):
    """Plays a scene at a port."""

    def __call__(
        self, scene: Callable[[Site], Awaitable[None]], puts: Puts | None = None
    ) -> None: ...


@pytest.fixture(params=[asyncio.SelectorEventLoop, uvloop.new_event_loop], ids=["asyncio", "uv"])
def play(request: pytest.FixtureRequest) -> Play:
    """Plays a scene at a port, on one of the two loops."""

    def go(scene: Callable[[Site], Awaitable[None]], puts: Puts | None = None) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(30):
                site = Site(puts)
                await site.port.start("127.0.0.1", 0, "--web-port")
                try:
                    await scene(site)
                finally:
                    for writer in site.writers:
                        writer.transport.abort()
                    await site.port.stop()

        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(bounded())

    return go


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.002)


async def one(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    """One answer."""
    lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
    headers = dict(line.split(": ", 1) for line in lines[1:])
    body = await reader.readexactly(int(headers["Content-Length"]))
    return int(lines[0].split()[1]), headers, body


async def collect(reader: asyncio.StreamReader, count: int, found: list[bytes]) -> None:
    for _ in range(count):
        found.append((await one(reader))[2])


async def bodies(reader: asyncio.StreamReader, count: int) -> list[bytes]:
    found: list[bytes] = []
    await collect(reader, count, found)
    return found


EXPECTED = [
    b"/lane/1",
    b"/lane/2",
    b"/lane/3",
    b"/lane/not-mine",
    b"ok\n",
    b"/lane/4" + get(b"/lane/smuggled"),
    b"/lane/6abcde",
    b"/lane/7",
]
MORE_EXPECTED = [*EXPECTED, b"/lane/not-minerefused by the lane", b"/lane/8", None]
"""None: an error."""


class TestOrder:
    def test_both_ways_on_one_connection(self, play: Play) -> None:
        async def scene(site: Site) -> None:
            reader, writer = await site.connect()
            for _ in range(2):
                for asked, expected in zip(ASKS, EXPECTED, strict=True):
                    writer.write(asked)
                    assert (await one(reader))[2] == expected
            # After a body only aiohttp's parser knows where a request begins.
            assert site.short == ["/lane/1", "/lane/2"]
            assert "/lane/smuggled" not in site.long

        play(scene)

    @pytest.mark.parametrize("puts", [None, PUTS], ids=["gets", "puts"])
    def test_whatever_is_cut_where(self, play: Play, puts: Puts | None) -> None:
        """Any requests, in any order, in pieces of any size, waited for or not."""

        async def scene(site: Site) -> None:
            for seed in range(60):
                draw = random.Random(seed)
                chosen = [draw.randrange(len(MORE)) for _ in range(draw.randrange(1, 9))]
                stream = b"".join(MORE[each] for each in chosen)
                ends, at = [], 0
                for each in chosen:
                    at += len(MORE[each])
                    ends.append(at)
                cuts = draw.sample(range(1, len(stream)), draw.randrange(0, 6))
                kept = [end for end in ends if draw.random() < 0.7]
                reader, writer = await site.connect()
                answers: list[bytes] = []
                found = asyncio.create_task(collect(reader, len(chosen), answers))
                low = 0
                for high in sorted({*cuts, *kept, len(stream)}):
                    writer.write(stream[low:high])
                    low = high
                    whole = sum(end <= high for end in ends)
                    if draw.random() < 0.6:
                        await until(lambda: len(answers) == whole)  # noqa: B023
                await found
                for each, answer in zip(chosen, answers, strict=True):
                    expected = MORE_EXPECTED[each]
                    refused = expected is None and b"method-not-allowed" in answer
                    assert refused or answer == expected, (seed, chosen)
            assert "/lane/1" in site.short, "some of them went the short way"
            assert ("/lane/4" in site.short) == (puts is not None)

        play(scene, puts)

    def test_what_comes_meanwhile_waits(self, play: Play) -> None:
        async def scene(site: Site) -> None:
            site.held.clear()
            reader, writer = await site.connect()
            writer.write(ASKS[0])
            await until(lambda: site.begun == 1)
            writer.write(b"".join(ASKS[1:]))
            await asyncio.sleep(0.02)
            assert (site.long, site.begun) == ([], 1)
            site.held.set()
            assert await bodies(reader, len(ASKS)) == EXPECTED

        play(scene)

    def test_and_is_not_taken_without_bound(self, play: Play) -> None:
        async def scene(site: Site) -> None:
            site.held.clear()
            reader, writer = await site.connect()
            writer.write(ASKS[0])
            await until(lambda: site.begun == 1)
            size = 20 * MIB
            head_of = b"PUT /healthz HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % size
            writer.write(head_of + bytes(size))
            await asyncio.sleep(0.1)
            assert writer.transport.get_write_buffer_size() > 0, "reading has stopped"
            site.held.set()
            assert (await one(reader))[2] == b"/lane/1"
            assert (await one(reader))[0] == 405

        play(scene)

    def test_the_first_request_of_a_connection_goes_the_short_way(self, play: Play) -> None:
        async def scene(site: Site) -> None:
            for _ in range(20):
                loop = asyncio.get_running_loop()
                with socket.socket() as client:
                    client.setblocking(False)
                    await loop.sock_connect(client, ("127.0.0.1", site.port.port))
                    await loop.sock_sendall(client, ASKS[0])
                    assert b"200 OK" in await loop.sock_recv(client, 4096)
            assert (len(site.short), site.long) == (20, [])

        play(scene)


class TestPuts:
    def test_a_body_may_come_behind_its_head(self, play: Play) -> None:
        async def scene(site: Site) -> None:
            reader, writer = await site.connect()
            asked = put(b"/lane/4", b"the body")
            for cut in range(asked.index(b"\r\n\r\n") + 4, len(asked) + 1):
                writer.write(asked[:cut])
                await asyncio.sleep(0.002)
                writer.write(asked[cut:])
                assert (await one(reader))[2] == b"/lane/4the body"
            assert site.short, "most of them went the short way"

        play(scene, PUTS)

    def test_one_that_is_slow_goes_the_long_way(self, play: Play) -> None:
        async def scene(site: Site) -> None:
            reader, writer = await site.connect()
            asked = put(b"/lane/4", b"the body")
            writer.write(asked[:-3])
            await until(lambda: site.long_begun)
            writer.write(asked[-3:])
            assert (await one(reader))[2] == b"/lane/4the body"
            assert (site.short, site.long) == ([], ["/lane/4"])
            writer.write(asked)
            assert (await one(reader))[2] == b"/lane/4the body"
            assert site.short == ["/lane/4"], "its bytes were counted: the next one is plain again"

        play(scene, PUTS)

    @pytest.mark.parametrize(
        "asked",
        [
            put(b"/lane/not-mine", b"the body"),
            put(b"/lane/4", bytes(100_000)),
            put(b"/lane/4", b"the body").replace(b"Content", b"X-Else: 1\r\nContent"),
        ],
    )
    def test_after_a_body_that_was_not_plain_others_may_be(self, play: Play, asked: bytes) -> None:
        async def scene(site: Site) -> None:
            reader, writer = await site.connect()
            for _ in range(2):
                writer.write(asked)
                assert (await one(reader))[0] == 200
                writer.write(ASKS[0])
                assert (await one(reader))[2] == b"/lane/1"
            assert (site.short, len(site.long)) == (["/lane/1"] * 2, 2)

        play(scene, PUTS)

    def test_who_waits_for_leave_to_send_a_body_gets_it(self, play: Play) -> None:
        async def scene(site: Site) -> None:
            reader, writer = await site.connect()
            asked = put(b"/lane/4", b"the body").replace(
                b"Content", b"Expect: 100-continue\r\nContent"
            )
            writer.write(asked[:-8])
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
            writer.write(asked[-8:])
            assert (await one(reader))[2] == b"/lane/4the body"

        play(scene, PUTS)

    def test_a_body_that_ends_early_is_told_as_ever(self, play: Play) -> None:
        async def scene(site: Site) -> None:
            said = []
            for puts in (True, False):
                reader, writer = await site.connect()
                asked = put(b"/lane/4", b"the body")
                if not puts:
                    asked = asked.replace(b"Content", b"X-Else: 1\r\nContent")
                writer.write(asked[:-3])
                writer.write_eof()
                said.append((await reader.read()).split(b"\r\n")[0])
            assert said[0] == said[1]
            assert site.short == []

        play(scene, PUTS)

    def test_stopping_ends_a_connection_with_half_a_body(self, play: Play) -> None:
        async def scene(site: Site) -> None:
            reader, writer = await site.connect()
            writer.write(ASKS[0])
            await one(reader)
            writer.write(put(b"/lane/4", b"the body")[:-3])
            await asyncio.sleep(0.02)
            await site.port.stop()
            await reader.read()
            assert site.short == ["/lane/1"]

        play(scene, PUTS)

    def test_of_a_client_that_goes_in_a_body_nothing_is_left(self, play: Play) -> None:
        async def scene(site: Site) -> None:
            _, writer = await site.connect()
            writer.write(put(b"/lane/4", b"the body")[:-3])
            connections = site.port._connections
            await until(lambda: connections._served)
            writer.transport.abort()
            await until(lambda: not connections._served)
            await asyncio.sleep(0.15)
            assert (site.short, site.long) == ([], [])

        play(scene, PUTS)


class TestEnds:
    def test_a_half_closed_connection_gets_its_answer(self, play: Play) -> None:
        async def scene(site: Site) -> None:
            site.held.clear()
            reader, writer = await site.connect()
            writer.write(ASKS[0])
            await until(lambda: site.begun == 1)
            writer.write_eof()
            await asyncio.sleep(0.02)
            site.held.set()
            assert (await one(reader))[2] == b"/lane/1"
            assert await reader.read() == b""

        play(scene)

    @pytest.mark.parametrize("last", [2, 3, 5])
    def test_so_do_requests_behind_it(self, play: Play, last: int) -> None:
        async def scene(site: Site) -> None:
            site.held.clear()
            reader, writer = await site.connect()
            writer.write(ASKS[0])
            await until(lambda: site.begun == 1)
            writer.write(ASKS[1] + ASKS[last])
            writer.write_eof()
            await asyncio.sleep(0.02)
            site.held.set()
            assert await bodies(reader, 3) == [EXPECTED[each] for each in (0, 1, last)]
            assert await reader.read() == b""

        play(scene)

    def test_half_a_request_behind_it_is_told(self, play: Play) -> None:
        async def scene(site: Site) -> None:
            site.held.clear()
            reader, writer = await site.connect()
            writer.write(ASKS[0])
            await until(lambda: site.begun == 1)
            writer.write(ASKS[1][:20])
            writer.write_eof()
            await asyncio.sleep(0.02)
            site.held.set()
            assert (await one(reader))[2] == b"/lane/1"
            assert b"the request ends in its head" in await reader.read()

        play(scene)

    def test_of_a_client_that_goes_nothing_is_left(self, play: Play) -> None:
        async def scene(site: Site) -> None:
            site.held.clear()
            _, writer = await site.connect()
            writer.write(ASKS[0])
            await until(lambda: site.begun == 1)
            reset = struct.pack("ii", 1, 0)
            wire = writer.get_extra_info("socket")
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
            writer.transport.abort()
            await until(lambda: site.cancelled == 1)

        play(scene)

    @pytest.mark.parametrize("name", [b"gone", b"broken"])
    def test_an_answer_that_breaks_off_ends_the_connection(self, play: Play, name: bytes) -> None:
        async def scene(site: Site) -> None:
            reader, writer = await site.connect()
            writer.write(get(b"/lane/" + name))
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await one(reader)

        play(scene)

    def test_stopping_waits_for_an_answer(self, play: Play) -> None:
        async def scene(site: Site) -> None:
            site.held.clear()
            reader, writer = await site.connect()
            writer.write(ASKS[0])
            await until(lambda: site.begun == 1)
            stopping = asyncio.create_task(site.port.stop())
            await asyncio.sleep(0.05)
            assert not stopping.done()
            site.held.set()
            assert (await one(reader))[2] == b"/lane/1"
            assert await reader.read() == b""
            await stopping

        play(scene)

    def test_but_not_for_long(self, play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("common.web_port._STOP_S", 0.05)

        async def scene(site: Site) -> None:
            site.held.clear()
            _, writer = await site.connect()
            writer.write(ASKS[0])
            await until(lambda: site.begun == 1)
            await site.port.stop()
            assert site.cancelled == 1

        play(scene)


class TestIdle:
    @pytest.mark.parametrize("asked", [0, 2, 4])
    def test_an_idle_connection_ends(
        self, play: Play, monkeypatch: pytest.MonkeyPatch, asked: int
    ) -> None:
        monkeypatch.setattr("common.web_port.WEB_IDLE_TIMEOUT_MS", 60)

        async def scene(site: Site) -> None:
            reader, writer = await site.connect()
            for each in ASKS[:asked]:
                writer.write(each)
                await one(reader)
            assert await reader.read() == b""

        play(scene)

    def test_one_that_waits_for_its_answer_is_not_idle(
        self, play: Play, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("common.web_port.WEB_IDLE_TIMEOUT_MS", 60)

        async def scene(site: Site) -> None:
            site.held.clear()
            reader, writer = await site.connect()
            writer.write(ASKS[0])
            await asyncio.sleep(0.2)
            site.held.set()
            assert (await one(reader))[2] == b"/lane/1"
            assert await reader.read() == b""

        play(scene)

    def test_who_takes_nothing_is_left(self, play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("common.web_port.STALL_TIMEOUT_MS", 100)

        async def scene(site: Site) -> None:
            site.size = 32 * MIB
            _, writer = await site.connect()
            writer.transport.pause_reading()
            writer.write(ASKS[0])
            connections = site.port._connections
            await until(lambda: site.short)
            await until(lambda: not connections._served)

        play(scene)
