"""A web port on a real socket: bytes that no client library would send, and taken ports."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import structlog
import uvloop
from aiohttp import web

from common.callers import CallerLimits
from common.errors import ClientGone, Unavailable
from common.limits import MIB, WEB_PROBES_MAX
from common.metrics import Metrics
from common.web import Door, json_response, make_application
from common.web_port import WebPort
from tests.router_kit import metric

TOKEN = "f" * 64
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
AND_CLOSE = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
NOISE = [
    b"\x00\x01\x02\x03\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 40_000 + b"\r\n\r\n",
    b"PUTTER/1" + bytes(100) + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\xff" * 200,
    b"\r\n\r\nnothing \x7f" * 60_000,
]
IDS = ["noise", "a header too long", "the other protocol", "two lengths", "TLS", "a lot of noise"]


class Site:
    """An application on a port, and what it did."""

    def __init__(
        self,
        guard: str = "127.0.0.1",
        connections_max: int = 100,
        per_address: int | None = None,
    ) -> None:
        self.metrics = Metrics("putter")
        application = make_application(self.metrics, Door(guard, TOKEN), lambda: "")
        application.router.add_route("*", "/_", self._count)
        self.port = WebPort(application, self.metrics, CallerLimits(connections_max, per_address))
        self.taken: list[int] = []
        self.broken = 0
        self.held = asyncio.Event()
        self.held.set()

    async def _count(self, request: web.Request) -> web.StreamResponse:
        size = 0
        try:
            async for chunk in request.content.iter_any():
                size += len(chunk)
        except (web.RequestPayloadError, ConnectionError) as error:
            self.broken += 1
            raise ClientGone("the body broke off") from error
        await self.held.wait()
        self.taken.append(size)
        answer = request.query.get("answer", "0")
        return json_response({"size": size, "more": "x" * int(answer)})

    @property
    def open(self) -> float:
        return metric(self.metrics, "putter_connections", port="web")

    def refused(self, reason: str) -> float:
        return metric(self.metrics, "putter_refused_total", port="web", reason=reason)

    async def connect(
        self, source: str = "127.0.0.1"
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(
            "127.0.0.1", self.port.port, limit=64 * MIB, local_addr=(source, 0)
        )

    async def ask(
        self, *parts: bytes, half_close: bool = False, source: str = "127.0.0.1"
    ) -> bytes:
        """Everything that comes back until the other side closes."""
        reader, writer = await self.connect(source)
        for part in parts:
            writer.write(part)
            await asyncio.sleep(0.01)
        if half_close:
            writer.write_eof()
        answer = await reader.read()
        writer.close()
        return answer

    async def healthy(self) -> bool:
        return (await self.ask(AND_CLOSE)).startswith(b"HTTP/1.1 200")


Play = Callable[..., None]


@pytest.fixture(params=[asyncio.SelectorEventLoop, uvloop.new_event_loop], ids=["asyncio", "uv"])
def play(request: pytest.FixtureRequest) -> Play:
    """Plays a scene at a port, on one of the two loops."""

    def go(scene: Callable[[Site], Awaitable[None]], **settings: Any) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(20):
                site = Site(**settings)
                await site.port.start("127.0.0.1", 0, "--web-port")
                try:
                    await scene(site)
                finally:
                    await site.port.stop()

        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(bounded())

    return go


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


def told(answer: bytes, status: int) -> dict[str, str]:
    """The one JSON error that came back."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split(b"\r\n")[0].split(b" ")[1] == str(status).encode(), answer
    assert b"application/json" in head
    error: dict[str, str] = json.loads(body)
    assert set(error) == {"code", "message", "hint", "request_id"}
    assert f"\r\nX-Request-Id: {error['request_id']}\r\n".encode() in head + b"\r\n"
    assert len(error["message"]) < 300
    return error


def size_in(answer: bytes) -> int:
    assert answer.startswith(b"HTTP/1.1 200"), answer
    return int(json.loads(answer.partition(b"\r\n\r\n")[2])["size"])


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (b"Bearer " + TOKEN.encode(), b"200"),
        (b"Bearer \xff\xfe\x80", b"401"),
        (b"Bearer " + "schlüssel".encode(), b"401"),
        (b"Bearer " + b"f" * 63, b"401"),
    ],
)
def test_any_bytes_as_a_token(play: Play, header: bytes, status: bytes) -> None:
    async def scene(site: Site) -> None:
        answer = await site.ask(
            b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: %b\r\n\r\n"
            % header
        )
        assert answer.startswith(b"HTTP/1.1 " + status)

    play(scene, guard="0.0.0.0")


class TestNoise:
    @pytest.mark.parametrize("noise", NOISE, ids=IDS)
    def test_is_answered_as_json_and_logged_in_one_line(
        self, play: Play, noise: bytes, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def scene(site: Site) -> None:
            with structlog.testing.capture_logs() as lines:
                assert told(await site.ask(noise), 400)["code"] == "protocol"
            assert [line["event"] for line in lines] == ["a malformed web request"]
            assert len(lines[0]["reason"]) <= 200
            assert "\n" not in lines[0]["reason"]
            assert "exc_info" not in lines[0]
            assert site.refused("protocol") == 1
            await until(lambda: site.open == 0)
            assert await site.healthy()

        with caplog.at_level(logging.DEBUG):
            play(scene)
        assert [record for record in caplog.records if record.name.startswith("aiohttp")] == []

    def test_comes_after_the_answers_of_what_went_before(self, play: Play) -> None:
        async def scene(site: Site) -> None:
            site.held.clear()
            request = b"GET /_ HTTP/1.1\r\nHost: localhost\r\n\r\n"
            asked = asyncio.create_task(site.ask(request, NOISE[0]))
            await asyncio.sleep(0.05)
            site.held.set()
            first, _, second = (await asked).partition(b"}\n")
            assert size_in(first + b"}") == 0
            assert told(second, 400)["code"] == "protocol"

        play(scene)

    def test_of_one_who_does_not_go_is_not_listened_to_for_long(
        self, play: Play, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("common.web_port.LINGER_MS", 50)

        async def scene(site: Site) -> None:
            reader, writer = await site.connect()
            writer.write(NOISE[0])
            assert told(await reader.read(), 400)
            while not writer.is_closing():
                writer.write(b"still here")
                await asyncio.sleep(0.005)
            writer.close()

        play(scene)

    @pytest.mark.parametrize("path", [b"/healthz", b"/_"])
    def test_in_a_body(self, play: Play, path: bytes, caplog: pytest.LogCaptureFixture) -> None:
        async def scene(site: Site) -> None:
            head = b"GET %b HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
            started = asyncio.get_running_loop().time()
            answer = await site.ask(head % path, b"5\r\nabc", b"de\r\nZZ\r\n")
            assert answer.startswith(b"HTTP/1.1 200" if b"health" in path else b"HTTP/1.1 400")
            assert b'"code":"protocol"' in answer
            assert asyncio.get_running_loop().time() - started < 2
            assert (site.broken, site.taken) == (b"health" not in path, [])
            assert await site.healthy()

        play(scene)
        assert [record for record in caplog.records if record.exc_info] == []


class TestTooMany:
    @pytest.mark.parametrize("probes", [0, 2])
    def test_one_too_many_is_told_so(
        self, play: Play, monkeypatch: pytest.MonkeyPatch, probes: int
    ) -> None:
        monkeypatch.setattr("common.web_connections.WEB_PROBES_MAX", probes)

        async def scene(site: Site) -> None:
            open_ones = [await site.connect() for _ in range(3)]
            await until(lambda: site.open == 3)
            for late in (
                AND_CLOSE.replace(b"/healthz", b"/metrics"),
                b"PUT /_ HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n" + bytes(500),
            ):
                error = told(await site.ask(late), 503)
                assert error["code"] == "connections"
                assert "connections_max" in error["hint"]
            assert site.refused("connections") == 2
            assert site.open == 3
            reader, writer = open_ones.pop()
            writer.write(AND_CLOSE)
            assert (await reader.read()).endswith(b"ok\n")
            writer.close()
            await until(lambda: site.open == 2)
            assert await site.healthy()
            for _, writer in open_ones:
                writer.close()

        play(scene, connections_max=3)

    @pytest.mark.parametrize("probes", [0, 2])
    def test_one_address_may_not_take_all_places(
        self, play: Play, monkeypatch: pytest.MonkeyPatch, probes: int
    ) -> None:
        monkeypatch.setattr("common.web_connections.WEB_PROBES_MAX", probes)

        async def scene(site: Site) -> None:
            crowd = [await site.connect() for _ in range(2)]
            await until(lambda: site.open == 2)
            late = await site.ask(AND_CLOSE.replace(b"/healthz", b"/metrics"))
            error = told(late, 503)
            assert error["code"] == "connections"
            assert "connections_per_address" in error["hint"]
            assert site.refused("address") == 1
            if sys.platform == "linux":  # elsewhere loopback has one address
                neighbour = await site.ask(AND_CLOSE, source="127.0.0.2")
                assert neighbour.endswith(b"ok\n")
            for _, writer in crowd:
                writer.close()
            await until(lambda: site.open == 0)
            assert await site.healthy()

        play(scene, per_address=2)

    def test_a_full_port_still_tells_its_health(self, play: Play) -> None:
        """Else a supervisor would end a process for being busy."""

        async def scene(site: Site) -> None:
            crowd = [await site.connect() for _ in range(2)]
            await until(lambda: site.open == 2)
            for _ in range(2 * WEB_PROBES_MAX):
                assert await site.healthy()
            kept = await site.ask(HEALTH, HEALTH)
            assert kept.count(b"ok\n") == 1, "one question, then the connection ends"
            assert site.refused("connections") == 0
            assert site.open == 2
            for _, writer in crowd:
                writer.close()

        play(scene, connections_max=2)

    def test_silent_ones_do_not_keep_probes_out_for_long(
        self, play: Play, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("common.web_port.WEB_PROBE_TIMEOUT_MS", 50)

        async def scene(site: Site) -> None:
            crowd = [await site.connect() for _ in range(1 + WEB_PROBES_MAX)]
            await until(lambda: site.refused("idle") == WEB_PROBES_MAX)
            assert await site.healthy()
            assert told(await crowd[-1][0].read(), 408)["code"] == "idle"
            assert site.open == 1
            for _, writer in crowd:
                writer.close()

        play(scene, connections_max=1)

    def test_those_turned_away_are_few_too(
        self, play: Play, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Who does not read the refusal and go may not hold on to a file either."""
        monkeypatch.setattr("common.web_connections.WEB_PROBES_MAX", 0)
        monkeypatch.setattr("common.web_connections.LEAVING_MAX", 2)

        async def scene(site: Site) -> None:
            crowd = [await site.connect() for _ in range(12)]
            await until(lambda: site.refused("connections") == 11)
            assert len(site.port._connections._leaving) <= 2
            assert site.open == 1
            for _, writer in crowd:
                writer.close()
            await until(lambda: not site.port._connections._leaving)
            await until(lambda: site.open == 0)
            assert await site.healthy()

        play(scene, connections_max=1)

    def test_stopping_waits_for_none_of_them(
        self, play: Play, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("common.web_connections.WEB_PROBES_MAX", 0)

        async def scene(site: Site) -> None:
            crowd = [await site.connect() for _ in range(5)]
            await until(lambda: site.refused("connections") == 4)
            started = asyncio.get_running_loop().time()
            await site.port.stop()
            assert asyncio.get_running_loop().time() - started < 0.5
            for reader, writer in crowd:
                await reader.read()
                writer.close()

        play(scene, connections_max=1)


class TestStalling:
    SIZE = 32 * MIB

    def test_who_takes_nothing_is_left(
        self, play: Play, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr("common.web_port.STALL_TIMEOUT_MS", 200)

        async def scene(site: Site) -> None:
            with socket.create_connection(("127.0.0.1", site.port.port)) as client:
                client.sendall(
                    f"GET /_?answer={self.SIZE} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
                )
                await until(lambda: site.refused("stalled") == 1)
                await until(lambda: site.open == 0)
            assert await site.healthy()

        play(scene)
        assert [record for record in caplog.records if record.exc_info] == []

    def test_who_is_slow_gets_everything(self, play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
        """It takes many times as long as one may take nothing."""
        monkeypatch.setattr("common.web_port.STALL_TIMEOUT_MS", 400)

        async def scene(site: Site) -> None:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", site.port.port, limit=64 * 1024
            )
            head = "Host: localhost\r\nConnection: close\r\n\r\n"
            writer.write(f"GET /_?answer={self.SIZE} HTTP/1.1\r\n{head}".encode())
            size = 0
            while data := await reader.read(1 * MIB):
                size += len(data)
                if size < 4 * MIB:
                    await asyncio.sleep(0.02)
            assert size > self.SIZE
            assert site.refused("stalled") == 0
            writer.close()

        play(scene)


class TestSilence:
    def test_a_head_has_to_come_in_time(self, play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("common.web_port.WEB_HEAD_TIMEOUT_MS", 100)

        async def scene(site: Site) -> None:
            reader, writer = await site.connect()
            for byte in HEALTH:
                writer.write(bytes([byte]))
                await asyncio.sleep(0.02)
                if reader.at_eof() or site.refused("idle"):
                    break
            assert told(await reader.read(), 408)["code"] == "idle"
            writer.close()
            await until(lambda: site.open == 0)
            assert site.refused("idle") == 1

        play(scene)

    def test_also_the_second_one(self, play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("common.web_port.WEB_HEAD_TIMEOUT_MS", 100)

        async def scene(site: Site) -> None:
            reader, writer = await site.connect()
            writer.write(HEALTH)
            await reader.readuntil(b"ok\n")
            writer.write(HEALTH[:10])
            assert told(await reader.read(), 408)["code"] == "idle"
            writer.close()

        play(scene)

    def test_an_idle_connection_ends(self, play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("common.web_port.WEB_IDLE_TIMEOUT_MS", 100)

        async def scene(site: Site) -> None:
            mute, talker = await site.connect(), await site.connect()
            talker[1].write(HEALTH)
            await talker[0].readuntil(b"ok\n")
            for reader, writer in (mute, talker):
                assert await reader.read() == b""
                writer.close()
            await until(lambda: site.open == 0)
            assert site.refused("quiet") == 2

        play(scene)

    def test_an_answer_or_a_body_may_take_longer(
        self, play: Play, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("common.web_port.WEB_HEAD_TIMEOUT_MS", 50)
        monkeypatch.setattr("common.web_port.WEB_IDLE_TIMEOUT_MS", 100)

        async def scene(site: Site) -> None:
            reader, writer = await site.connect()
            for _ in range(2):
                writer.write(b"PUT /_ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n")
                site.held.clear()
                for _ in range(10):
                    await asyncio.sleep(0.02)
                    writer.write(b"x")
                await asyncio.sleep(0.2)
                site.held.set()
                assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
                assert b'"size":10' in await reader.readline()
            writer.close()
            assert site.refused("idle") == 0

        play(scene)


class TestHalfClose:
    """As ``nc -N`` does it: the request, then the end of the client's side."""

    def test_a_get_is_answered(self, play: Play) -> None:
        async def scene(site: Site) -> None:
            assert (await site.ask(HEALTH, half_close=True)).endswith(b"ok\n")
            assert (await site.ask(HEALTH.replace(b"1.1", b"1.0"), half_close=True)).endswith(
                b"ok\n"
            )
            await until(lambda: site.open == 0)

        play(scene)

    @pytest.mark.parametrize("size", [0, 1, 100_000, 5 * MIB])
    @pytest.mark.parametrize("chunked", [False, True])
    def test_a_put_is_taken_and_answered(self, play: Play, size: int, chunked: bool) -> None:
        async def scene(site: Site) -> None:
            data = bytes(size)
            if chunked:
                head = b"Transfer-Encoding: chunked"
                data = (b"%x\r\n%b\r\n" % (size, data) if size else b"") + b"0\r\n\r\n"
            else:
                head = b"Content-Length: %d" % size
            request = b"PUT /_ HTTP/1.1\r\nHost: localhost\r\n%b\r\n\r\n%b" % (head, data)
            assert size_in(await site.ask(request, half_close=True)) == size
            await until(lambda: site.open == 0)

        play(scene)

    def test_the_answer_may_take_its_time_and_be_long(self, play: Play) -> None:
        async def scene(site: Site) -> None:
            site.held.clear()
            request = b"GET /_?answer=%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % (20 * MIB)
            asked = asyncio.create_task(site.ask(request, half_close=True))
            await asyncio.sleep(0.1)
            site.held.set()
            assert len(await asked) > 20 * MIB

        play(scene)

    def test_all_requests_before_it_are_answered(self, play: Play) -> None:
        async def scene(site: Site) -> None:
            count = 100
            answer = await site.ask(HEALTH * count, half_close=True)
            assert answer.count(b"ok\n") == count
            await until(lambda: site.open == 0)

        play(scene)

    @pytest.mark.parametrize("sent", [0, 10, MIB])
    @pytest.mark.parametrize("head", [b"Content-Length: 2000000", b"Transfer-Encoding: chunked"])
    def test_a_body_that_ends_early_is_told_so(self, play: Play, sent: int, head: bytes) -> None:
        async def scene(site: Site) -> None:
            begun = b"%x\r\n" % (2 * MIB) if b"chunked" in head else b""
            request = b"PUT /_ HTTP/1.1\r\nHost: localhost\r\n%b\r\n\r\n%b" % (head, begun)
            answer = await site.ask(request + bytes(sent), half_close=True)
            assert told(answer, 400)["code"] == "reset"
            assert (site.broken, site.taken) == (1, [])
            await until(lambda: site.open == 0)

        play(scene)

    def test_a_body_that_nobody_reads_may_end_early(
        self, play: Play, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def scene(site: Site) -> None:
            request = b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n1234"
            assert (await site.ask(request, half_close=True)).endswith(b"ok\n")
            await until(lambda: site.open == 0)

        play(scene)
        assert [record for record in caplog.records if record.exc_info] == []

    def test_a_head_that_ends_early_is_told_so(self, play: Play) -> None:
        async def scene(site: Site) -> None:
            for count in (1, 20, len(HEALTH) - 1):
                answer = await site.ask(HEALTH[:count], half_close=True)
                assert told(answer, 400)["code"] == "reset"
            assert site.refused("reset") == 3
            await until(lambda: site.open == 0)

        play(scene)

    def test_without_a_word_it_is_the_end(self, play: Play) -> None:
        async def scene(site: Site) -> None:
            assert await site.ask(half_close=True) == b""
            reader, writer = await site.connect()
            writer.write(HEALTH)
            await reader.readuntil(b"ok\n")
            writer.write_eof()
            assert await reader.read() == b""
            writer.close()
            await until(lambda: site.open == 0)

        play(scene)


def test_a_port_that_is_taken(play: Play) -> None:
    async def scene(site: Site) -> None:
        port = site.port.port
        with pytest.raises(Unavailable, match=f"port {port} on 127.0.0.1") as caught:
            await Site().port.start("127.0.0.1", port, "--web-port")
        assert "--web-port" in caught.value.hint

    play(scene)


def test_a_closed_listener_takes_nobody_new(play: Play) -> None:
    async def scene(site: Site) -> None:
        reader, writer = await site.connect()
        await site.port.close_listener()
        with pytest.raises(ConnectionRefusedError):
            await site.connect()
        writer.write(AND_CLOSE)
        assert (await reader.read()).endswith(b"ok\n"), "who was there already is served"
        writer.close()

    play(scene)
