"""TLS over the network in memory: both ends ours, the bytes the library's."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest
import structlog

from common.buffers import BufferPool
from common.callers import CallerLimits
from common.certificates import load
from common.errors import NotAuthorised, PutterError, Unavailable
from common.limits import HANDSHAKE_TIMEOUT_MS, MIB
from common.metrics import Metrics
from common.sessions import ClientSession, open_session
from common.tls import TlsTransport
from common.tls_ports import TlsDoor, TlsNetwork
from common.transport import channel_of
from common.wire.greeting import ServerGreeting
from common.wire.handshake import Identity
from tests.node_kit import RING, Wire, hello_of, network_of, play, until
from tests.router_kit import metric
from tests.simulation.loop import World
from tests.tls_kit import Authority

PORT = 4433
TIMEOUT_MS = 20_000


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


class Echo(asyncio.BufferedProtocol):
    """Gives everything back, in buffers of its own."""

    def __init__(self, room: int = 100_000) -> None:
        self._room = bytearray(room)
        self.ended = False
        self.lost: list[Exception | None] = []
        self.transport: asyncio.Transport
        self.paused = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return memoryview(self._room)

    def buffer_updated(self, nbytes: int) -> None:
        self.transport.write(bytes(self._room[:nbytes]))

    def eof_received(self) -> bool:
        self.ended = True
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)

    def pause_writing(self) -> None:
        self.paused += 1

    def resume_writing(self) -> None:
        pass


class Site:
    """A TLS port of the host ``server``, and clients of it."""

    def __init__(self, world: World, authority: Authority, limits: CallerLimits) -> None:
        self.network = network_of(world.random)
        self.contexts = load(*authority.issue("server"), authority.ca)
        self.metrics = Metrics("router")
        self.door = TlsDoor("web", lambda: self.contexts.nodes, self.metrics, limits)
        self.accepted: list[Any] = []
        self.made: Callable[[], Any] = Echo

    async def start(self) -> None:
        network = TlsNetwork(
            self.network.host("server"),
            lambda: self.contexts.client,
            self.door,
            lambda _: self.door.refusal(lambda: b"speak TLS\n"),
        )
        await network.listen(self._accept, "server", PORT)

    def _accept(self) -> Any:
        self.accepted.append(self.made())
        return self.accepted[-1]

    async def client(self, context: ssl.SSLContext | None = None) -> Wire:
        network = TlsNetwork(self.network.host("client"), lambda: context or self.contexts.client)
        return await Wire.open(network, "server", PORT)

    def refused(self, reason: str) -> float:
        return metric(self.metrics, "putter_refused_total", port="web", reason=reason)


def with_site(
    authority: Authority,
    scene: Callable[[World, Site], Awaitable[None]],
    limits: CallerLimits = CallerLimits(),  # noqa: B008 - frozen
) -> None:
    async def main(world: World) -> None:
        site = Site(world, authority, limits)
        await site.start()
        await scene(world, site)

    play(main)


class TestBytes:
    @pytest.mark.parametrize(
        ("size", "room"),
        [
            (1, 1),
            (16_384, 1),
            (1, 100_000),
            (16_385, 1_000),
            (100_000, 1_000),
            (100_000, 300_000),
            (5 * MIB, 300_000),
        ],
    )
    def test_there_and_back(self, authority: Authority, size: int, room: int) -> None:
        data = random.Random(size).randbytes(size)

        async def scene(world: World, site: Site) -> None:
            site.made = lambda: Echo(room)
            wire = await site.client()
            wire.send(data)
            assert await wire.has(len(data)) == data
            wire.transport.close()
            await until(lambda: site.accepted[0].lost == [None])
            assert site.accepted[0].ended

        with_site(authority, scene)

    def test_many_parts_in_one_call(self, authority: Authority) -> None:
        async def scene(world: World, site: Site) -> None:
            wire = await site.client()
            parts = [bytes([n]) * n for n in range(200)]
            wire.transport.writelines(parts)
            wire.transport.writelines([b"a" * 50_000, memoryview(b"b" * 50_000)])
            expected = b"".join(parts) + b"a" * 50_000 + b"b" * 50_000
            assert await wire.has(len(expected)) == expected
            wire.transport.close()

        with_site(authority, scene)

    def test_nothing_of_it_travels_in_plain(self, authority: Authority) -> None:
        class Tap(asyncio.Protocol):
            def __init__(self) -> None:
                self.seen = bytearray()

            def data_received(self, data: bytes) -> None:
                self.seen += data

        async def scene(world: World, site: Site) -> None:
            tap = Tap()
            host = site.network.host("tap")
            await host.listen(lambda: tap, "tap", PORT)
            network = TlsNetwork(site.network.host("client"), lambda: site.contexts.client)
            with pytest.raises(Unavailable):
                await network.connect(Wire, "tap", PORT, timeout_ms=1_000)
            assert tap.seen[:2] == b"\x16\x03"

        with_site(authority, scene)

    def test_who_does_not_read_stops_the_writer(self, authority: Authority) -> None:
        async def scene(world: World, site: Site) -> None:
            wire = await site.client()
            wire.transport.pause_reading()
            data = bytes(3 * MIB)
            wire.send(data)
            await until(lambda: bool(site.accepted))
            await until(lambda: site.accepted[0].paused > 0)
            assert wire.received == b""
            wire.transport.resume_reading()
            assert await wire.has(len(data)) == data
            wire.transport.close()

        with_site(authority, scene)

    def test_bytes_that_came_while_paused_are_delivered_later(self, authority: Authority) -> None:
        class Shy(Echo):
            def buffer_updated(self, nbytes: int) -> None:
                super().buffer_updated(nbytes)
                self.transport.pause_reading()
                asyncio.get_running_loop().call_later(0.01, self.transport.resume_reading)

        async def scene(world: World, site: Site) -> None:
            site.made = lambda: Shy(1_000)
            wire = await site.client()
            data = bytes(range(256)) * 100
            assert await wire.send(data).has(len(data)) == data
            wire.transport.close()

        with_site(authority, scene)


class TestEnds:
    def test_a_connection_that_breaks_off_has_no_end(self, authority: Authority) -> None:
        async def scene(world: World, site: Site) -> None:
            wire = await site.client()
            wire.send(b"x")
            await wire.has(1)
            cast("TlsTransport", wire.transport)._wire.close()
            await until(lambda: bool(site.accepted[0].lost))
            assert not site.accepted[0].ended

        with_site(authority, scene)

    def test_a_reset_is_told(self, authority: Authority) -> None:
        async def scene(world: World, site: Site) -> None:
            wire = await site.client()
            wire.send(b"x")
            await wire.has(1)
            site.network.cut("client", "server")
            await until(lambda: bool(site.accepted[0].lost))
            assert isinstance(site.accepted[0].lost[0], ConnectionResetError)

        with_site(authority, scene)

    def test_noise_after_the_handshake(self, authority: Authority) -> None:
        async def scene(world: World, site: Site) -> None:
            wire = await site.client()
            await until(lambda: bool(site.accepted))
            cast("TlsTransport", wire.transport)._wire.write(b"\x17\x03\x03\x00\x20" + bytes(32))
            await until(lambda: bool(site.accepted[0].lost))
            assert isinstance(site.accepted[0].lost[0], ssl.SSLError)

        with_site(authority, scene)


class TestWhoIsLetIn:
    def test_a_client_without_a_certificate_is_refused(self, authority: Authority) -> None:
        async def scene(world: World, site: Site) -> None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.load_verify_locations(authority.ca)
            wire = await site.client(context)
            await wire.lost.wait()
            assert "certificate required" in str(wire.error).lower().replace("_", " ")
            assert site.accepted == []
            assert site.refused("tls") == 1

        with_site(authority, scene)

    def test_a_client_of_another_authority_is_refused(
        self, authority: Authority, tmp_path: Path
    ) -> None:
        other = Authority(tmp_path, "another")
        cert, key = other.issue("client")

        async def scene(world: World, site: Site) -> None:
            context = load(cert, key, authority.ca).client
            wire = await site.client(context)
            await wire.lost.wait()
            assert isinstance(wire.error, ssl.SSLError)
            assert site.accepted == []

        with_site(authority, scene)

    def test_a_server_of_another_authority_is_not_trusted(
        self, authority: Authority, tmp_path: Path
    ) -> None:
        other = Authority(tmp_path, "another")
        context = load(*authority.issue("client"), other.ca).client

        async def scene(world: World, site: Site) -> None:
            with pytest.raises(NotAuthorised, match="certificate of server:4433 is not accepted"):
                await site.client(context)
            await until(lambda: site.refused("tls") == 1)

        with_site(authority, scene)

    def test_who_speaks_in_plain_is_told(self, authority: Authority) -> None:
        async def scene(world: World, site: Site) -> None:
            wire = await Wire.open(site.network.host("client"), "server", PORT)
            assert await wire.send(b"GET / HTTP/1.1\r\n\r\n").all() == b"speak TLS\n"
            wire.transport.close()
            assert site.refused("plain") == 1
            assert site.accepted == []

        with_site(authority, scene)

    def test_where_nobody_speaks_tls(self, authority: Authority) -> None:
        class Plain(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                cast("asyncio.Transport", transport).write(b"OBJECT WRITE FAILED protocol\n")

        async def scene(world: World, site: Site) -> None:
            await site.network.host("plain").listen(Plain, "plain", PORT)
            network = TlsNetwork(site.network.host("client"), lambda: site.contexts.client)
            with pytest.raises(Unavailable, match="plain:4433 does not speak TLS"):
                await network.connect(Wire, "plain", PORT, timeout_ms=TIMEOUT_MS)

        with_site(authority, scene)


class Between:
    """Ends a client's TLS, with a certificate of the same authority, and passes all on."""

    def __init__(self, site: Site, authority: Authority) -> None:
        self._contexts = load(*authority.issue("between"), authority.ca)
        self._host = site.network.host("between")

    async def start(self) -> None:
        door = TlsDoor("web", lambda: self._contexts.nodes, Metrics("router"), CallerLimits())
        network = TlsNetwork(self._host, lambda: self._contexts.client, door)
        await network.listen(lambda: Half(network), "between", PORT)


class Half(asyncio.Protocol):
    def __init__(self, network: TlsNetwork | None, other: Half | None = None) -> None:
        self._network = network
        self.other = other
        self.waiting = b""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        if self._network is not None:
            network = self._network
            self._task = asyncio.get_running_loop().create_task(
                network.connect(lambda: Half(None, self), "server", PORT, timeout_ms=TIMEOUT_MS)
            )
        elif self.other is not None:
            self.other.other = self
            self.transport.write(self.other.waiting)

    def data_received(self, data: bytes) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.write(data)
        else:
            self.waiting += data


class Greeter(asyncio.Protocol):
    """A server's side of greetings."""

    def __init__(self) -> None:
        self.greeting = ServerGreeting(RING, Identity("p0", "p0.1"), bytes(16))
        self.error: PutterError | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.greeting.bind(channel_of(transport))

    def data_received(self, data: bytes) -> None:
        try:
            self.transport.write(self.greeting.receive(data))
        except PutterError as error:
            self.error = error
            self.transport.close()


class TestGreetings:
    """The cluster key vouches for the certificate."""

    def test_a_session_begins(self, authority: Authority) -> None:
        async def scene(world: World, site: Site) -> None:
            site.made = Greeter
            network = TlsNetwork(site.network.host("client"), lambda: site.contexts.client)
            session, peer = await open_session(network, "server", PORT, client_session)
            assert peer.welcome.node == "p0"
            session.close()

        with_site(authority, scene)

    def test_nobody_can_pass_a_greeting_on(self, authority: Authority) -> None:
        """Not even with a certificate that both sides accept."""

        async def scene(world: World, site: Site) -> None:
            site.made = Greeter
            await Between(site, authority).start()
            network = TlsNetwork(site.network.host("client"), lambda: site.contexts.client)
            with pytest.raises(NotAuthorised, match="does not hold our cluster key"):
                await open_session(network, "between", PORT, client_session)
            await until(lambda: bool(site.accepted))
            assert site.accepted[0].greeting.peer is None

        with_site(authority, scene)


def client_session() -> ClientSession:
    return ClientSession(RING, hello_of(), BufferPool())


class TestBounds:
    def test_a_handshake_has_to_end_in_time(self, authority: Authority) -> None:
        async def scene(world: World, site: Site) -> None:
            silent, slow = [
                await Wire.open(site.network.host("client"), "server", PORT) for _ in range(2)
            ]
            slow.send(b"\x16\x03\x01\x02\x00\x01")
            for wire in (silent, slow):
                await wire.all()
            assert world.loop.time() < HANDSHAKE_TIMEOUT_MS / 1000 + 1
            assert site.refused("tls") == 2

        with_site(authority, scene)

    def test_handshakes_of_one_address_are_counted(self, authority: Authority) -> None:
        async def scene(world: World, site: Site) -> None:
            crowd = site.network.host("crowd")
            wires = [await Wire.open(crowd, "server", PORT) for _ in range(3)]
            await until(lambda: site.refused("address") == 1)
            wire = await site.client()
            assert await wire.send(b"hello").has(5) == b"hello"
            for each in (*wires, wire):
                each.transport.close()
            await until(lambda: len(site.door.handshakes) == 0)

        with_site(authority, scene, CallerLimits(100, 2))

    def test_a_certificate_that_is_replaced_counts_for_new_connections(
        self, authority: Authority
    ) -> None:
        async def scene(world: World, site: Site) -> None:
            before = await site.client()
            site.contexts = load(*authority.issue("second"), authority.ca)
            after = await site.client()
            names = [
                dict(
                    part[0]
                    for part in wire.transport.get_extra_info("ssl_object").getpeercert()["subject"]
                )
                for wire in (before, after)
            ]
            assert [name["commonName"] for name in names] == ["server", "second"]
            for wire in (before, after):
                assert await wire.send(b"hello").has(5) == b"hello"
                wire.transport.close()

        with_site(authority, scene)

    def test_the_log_tells_of_an_address_once(self, authority: Authority) -> None:
        async def scene(world: World, site: Site) -> None:
            with structlog.testing.capture_logs() as lines:
                for _ in range(5):
                    wire = await Wire.open(site.network.host("client"), "server", PORT)
                    await wire.send(b"hello").all()
                    wire.transport.close()
            assert len(lines) == 1
            assert site.refused("plain") == 5

        with_site(authority, scene)
