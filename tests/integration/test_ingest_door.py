"""The doors for raw streams and for acks, of real processes, and clients of every kind."""

from __future__ import annotations

import contextlib
import json
import resource
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from common.keys import load_keyring
from common.wire import acks
from common.wire.greeting import ClientGreeting
from common.wire.reader import MessageReader
from common.wire.session import GREETING, Hello, Proof, Refused, encode
from tests.store_kit import Cluster, cluster, digest, eventually, read_line
from tests.traffic_kit import connect, payload, reset

pytestmark = pytest.mark.slow
KIB = 1024
IDLE_MS = 1_000


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    home = tmp_path_factory.mktemp("door")
    with cluster(home, storage="memory", router_flags=("--grace-ms", "100")) as running:
        yield running


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One that waits a second for a byte."""
    home = tmp_path_factory.mktemp("impatient")
    flags = ("--grace-ms", "100", "--idle-timeout-ms", str(IDLE_MS))
    with cluster(home, storage="memory", router_flags=flags) as running:
        yield running


def stores(store: Cluster, data: bytes) -> str:
    """Send and read again; the ObjectID."""
    answer = store.send(data)
    assert answer.ok, answer.line
    assert answer.line.count("\n") == 1
    assert (answer.size, answer.digest) == (len(data), digest(data))
    assert store.read(f"objects/{answer.object_id}") == data
    return answer.object_id


def writing(store: Cluster) -> int:
    told = json.loads(store.http("GET", "/status")[2])
    return int(told["objects"]["writing"])


def metric(store: Cluster, name: str) -> float:
    """A sample by its full name with labels; 0 if it is not there."""
    for line in store.http("GET", "/metrics")[2].decode().splitlines():
        if line.startswith(name + " "):
            return float(line.rsplit(" ", 1)[1])
    return 0.0


def refusals(store: Cluster) -> float:
    """Connections that were turned away from the ack port, whatever the reason."""
    lines = store.http("GET", "/metrics")[2].decode().splitlines()
    told = [line for line in lines if line.startswith('putter_refused_total{port="acks"')]
    return sum(float(line.rsplit(" ", 1)[1]) for line in told)


class TestStreams:
    @pytest.mark.parametrize(
        "size", [1, 1457, 1458, 1459, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, 1_000_000]
    )
    def test_sizes(self, store: Cluster, size: int) -> None:
        assert stores(store, payload(size, "door")) in store.names()

    def test_no_byte(self, store: Cluster) -> None:
        before = store.names()
        line = store.send(b"").line
        assert line.startswith("OBJECT WRITE FAILED empty ")
        assert line.endswith("\n")
        assert store.names() == before

    @pytest.mark.parametrize("size", [1, 200])
    def test_byte_by_byte(self, store: Cluster, size: int) -> None:
        data = payload(size, "slow")
        with connect(store.ingest_ports[0]) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for at in range(size):
                client.sendall(data[at : at + 1])
            client.shutdown(socket.SHUT_WR)
            line = read_line(client)
        assert line.split()[4:] == [str(size), digest(data)]

    @pytest.mark.parametrize("size", [0, 1, 100_000, 5_000_000])
    def test_a_reset_mid_stream(self, store: Cluster, size: int) -> None:
        before = store.names()
        client = connect(store.ingest_ports[0])
        client.sendall(payload(size, "reset"))
        if size > 1 << 20:
            eventually(lambda: writing(store) == 1)
        reset(client)
        eventually(lambda: writing(store) == 0)
        eventually(lambda: metric(store, 'putter_connections{port="ingest"}') == 0)
        assert store.names() == before
        stores(store, payload(100, "after"))

    @pytest.mark.parametrize(
        "data",
        [
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            b"PUTTER/1" + bytes(300),
            b"\n",
            bytes(20_000),
            b"OBJECT WRITTEN OK 1 2 3\n",
        ],
        ids=["http", "session", "line", "zeroes", "answer"],
    )
    def test_every_byte_is_data(self, store: Cluster, data: bytes) -> None:
        stores(store, data)


class TestSilence:
    @pytest.mark.parametrize("sent", [0, 1, 3_000_000])
    def test_it_ends_with_a_line(self, impatient: Cluster, sent: int) -> None:
        before = impatient.names()
        with connect(impatient.ingest_ports[0]) as client:
            client.settimeout(20)
            client.sendall(payload(sent, "silent"))
            began = time.monotonic()
            line = read_line(client)
            took = time.monotonic() - began
        assert line.startswith("OBJECT WRITE FAILED idle "), line
        assert line.count("\n") == 1
        assert IDLE_MS / 1000 * 0.7 < took < 15
        eventually(lambda: writing(impatient) == 0)
        assert impatient.names() == before

    def test_bytes_now_and_then_are_no_silence(self, impatient: Cluster) -> None:
        data = payload(5, "slow")
        with connect(impatient.ingest_ports[0]) as client:
            for at in range(5):
                client.sendall(data[at : at + 1])
                time.sleep(IDLE_MS / 1000 * 0.4)
            client.shutdown(socket.SHUT_WR)
            assert read_line(client).split()[4:] == ["5", digest(data)]


def test_2000_idle_connections_while_others_store(store: Cluster) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard not in (-1, resource.RLIM_INFINITY) and hard < 4_096:
        pytest.skip(f"only {hard} open files are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4_096), hard))
    before = store.routers[0].memory_bytes()
    try:
        with contextlib.ExitStack() as stack:
            idle = [stack.enter_context(connect(store.ingest_ports[0])) for _ in range(2_000)]
            for client in idle[::10]:
                client.sendall(b"x")
            payloads = [payload(1 + 3_001 * n, "busy") for n in range(40)]
            with ThreadPoolExecutor(8) as clients:
                answers = list(clients.map(store.send, payloads))
            assert [answer.digest for answer in answers] == [digest(data) for data in payloads]
            assert metric(store, 'putter_connections{port="ingest"}') >= 2_000
            assert store.routers[0].memory_bytes() - before < 128 * KIB * KIB
            late = idle[10]
            late.sendall(b"yz")
            late.shutdown(socket.SHUT_WR)
            assert read_line(late).split()[4:] == ["3", digest(b"xyz")]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    eventually(lambda: metric(store, 'putter_connections{port="ingest"}') == 0)


class TestAckDoor:
    """What does not belong to 5002 is told so, and nobody else notices."""

    def talk(self, store: Cluster, data: bytes) -> bytes:
        with connect(store.ack_ports[0]) as client:
            client.settimeout(20)
            out = b""
            with contextlib.suppress(ConnectionError):
                client.sendall(data)
                while part := client.recv(65_536):
                    out += part
            return out

    def refusal(self, answer: bytes) -> Refused:
        assert answer.startswith(GREETING)
        messages = [message for message, _ in MessageReader().feed(answer[len(GREETING) :])]
        assert isinstance(messages[-1], Refused)
        return messages[-1]

    @pytest.mark.parametrize(
        "garbage",
        [
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            b"PUTTER/2" + bytes(100),
            b"\xff" * 100_000,
            GREETING + b"\xff" * 100,
            GREETING + bytes(100),
            acks.encode_range(0, 1000, 0),
        ],
        ids=["http", "version", "noise", "noise in a session", "zeroes", "acks at once"],
    )
    def test_garbage(self, store: Cluster, garbage: bytes) -> None:
        before = refusals(store)
        answer = self.talk(store, garbage)
        if answer:  # else a reset overtook it: bytes lay unread
            assert self.refusal(answer).reason
        assert refusals(store) == before + 1
        stores(store, payload(200_000, "undisturbed"))

    def greet(self, store: Cluster, key_file: Path, role: str) -> tuple[bytes, bool]:
        """A whole greeting with some key; what came back, and whether it was welcome."""
        ring = load_keyring(key_file, create=True)
        hello = Hello(role, "intruder", "intruder.1", 0, tuple(ring.ids), bytes(16))
        greeting = ClientGreeting(ring, hello)
        got = b""
        with connect(store.ack_ports[0]) as client:
            client.settimeout(20)
            client.sendall(greeting.opening)
            while part := client.recv(65_536):
                got += part
                with contextlib.suppress(Exception):
                    answer = greeting.receive(part)
                    if answer:
                        client.sendall(answer)
                if greeting.peer is not None and role == "acks":
                    return got, True
        return got, False

    def test_another_key(self, store: Cluster, tmp_path: Path) -> None:
        answer, welcome = self.greet(store, tmp_path / "other.key", "acks")
        assert not welcome
        told = self.refusal(answer)
        assert told.status == 5
        assert "key" in told.reason
        assert "--key-file" in told.hint
        stores(store, payload(200_000, "undisturbed"))

    def test_the_key_id_alone_is_not_enough(self, store: Cluster, tmp_path: Path) -> None:
        mine, theirs = load_keyring(tmp_path / "mine.key", create=True), store.keyring
        hello = Hello("acks", "intruder", "i.1", 0, tuple(theirs.ids), bytes(16))
        with connect(store.ack_ports[0]) as client:
            client.settimeout(20)
            client.sendall(ClientGreeting(mine, hello).opening)
            got = client.recv(65_536)
            # Without the key it cannot prove anything: any proof is wrong.
            client.sendall(encode(Proof(bytes(32))))
            while part := client.recv(65_536):
                got += part
        assert self.refusal(got).status == 5
        stores(store, payload(100, "undisturbed"))

    def test_another_role_with_the_right_key(self, store: Cluster) -> None:
        answer, _ = self.greet(store, store.directory / "cluster.key", "router")
        assert "acks of putters" in self.refusal(answer).reason
        stores(store, payload(100, "undisturbed"))

    def test_acks_of_a_stranger_for_tickets_not_its_own(self, store: Cluster) -> None:
        """It has the key, but nothing was sent to it: what it says moves nothing."""
        ring = store.keyring
        hello = Hello("acks", "stranger", "stranger.1", 0, tuple(ring.ids), bytes(16))
        greeting = ClientGreeting(ring, hello)
        name = 'putter_acks_ignored_total{reason="not in flight"}'
        before = metric(store, name)
        with connect(store.ack_ports[0]) as client:
            client.settimeout(20)
            client.sendall(greeting.opening)
            while greeting.peer is None:
                answer = greeting.receive(client.recv(65_536))
                if answer:
                    client.sendall(answer)
            client.sendall(acks.encode_range(0, 5_000, 4))
            eventually(lambda: metric(store, name) == before + 5_000)
            stores(store, payload(3_000_000, "undisturbed"))
