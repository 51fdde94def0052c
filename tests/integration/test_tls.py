"""A whole cluster under TLS, as processes: what works, who is kept out, and a certificate's end."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from common.errors import NotAuthorised
from common.wire.status import Status
from putter.client.store import Store
from tests.node_kit import raw_frames
from tests.store_kit import Cluster, cluster, eventually
from tests.tls_kit import Authority

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@contextmanager
def encrypted(directory: Path, authority: Authority, **options: int) -> Iterator[Cluster]:
    cert, key = authority.issue("node")
    flags = ("--tls-cert", str(cert), "--tls-key", str(key), "--tls-ca", str(authority.ca))
    with cluster(
        directory,
        storage="segments",
        router_flags=flags,
        putter_flags=flags,
        tls_ca=authority.ca,
        **options,
    ) as store:
        yield store


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Cluster]:
    with encrypted(tmp_path_factory.mktemp("tls") / "s", authority, putters=2, routers=2) as made:
        yield made


def client_of(store: Cluster, ca: Path | None) -> Store:
    return Store(f"https://127.0.0.1:{store.web_ports[0]}", tls_ca=ca)


def test_files_come_and_go(store: Cluster, authority: Authority) -> None:
    data = os.urandom(5_000_003)
    with client_of(store, authority.ca) as client:
        info = client.put("photos/large", data)
        assert info.size == len(data)
        assert client.get("photos/large") == data
    assert store.read("photos/large", router=1) == data, "through the other router"
    assert store.http("GET", "/readyz")[0] == 200
    assert b"putter_tls_expires_seconds 1." in store.http("GET", "/metrics")[2]


def test_raw_streams_stay_as_they_are(store: Cluster) -> None:
    answer = store.send(b"x" * 200_000)
    assert answer.line.startswith("OBJECT WRITTEN OK")
    assert store.read(f"objects/{answer.line.split()[3]}") == b"x" * 200_000


def test_all_nodes_have_links(store: Cluster) -> None:
    """They are encrypted: see what becomes of others below."""
    for router in range(2):
        told = json.loads(store.http("GET", "/status", router=router)[2])
        assert [node["link"] for node in told["nodes"]] == ["up", "up"]


def test_the_command_line(store: Cluster, authority: Authority, tmp_path: Path) -> None:
    def run(*words: str, ca: Path | None = authority.ca) -> subprocess.CompletedProcess[str]:
        env = store.environment() | {
            "PUTTER_URL": f"https://localhost:{store.web_ports[0]}",
            "PUTTER_KEY_FILE": str(store.directory / "cluster.key"),
        }
        flag = ("--tls-ca", str(ca)) if ca is not None else ()
        return subprocess.run(
            [sys.executable, "-m", "putter", *words, *flag],
            env=env,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    source = tmp_path / "cat.jpg"
    source.write_bytes(b"meow" * 1000)
    assert run("put", str(source), "photos/cat.jpg").returncode == 0
    target = tmp_path / "copy"
    assert run("get", "photos/cat.jpg", str(target)).returncode == 0
    assert target.read_bytes() == source.read_bytes()
    refused = run("ls", ca=None)
    assert refused.returncode == NotAuthorised.exit
    assert "certificate" in refused.stderr
    assert "--tls-ca" in refused.stderr


class TestWhoIsKeptOut:
    def test_a_client_that_does_not_know_the_authority(
        self, store: Cluster, tmp_path: Path
    ) -> None:
        for ca in (None, Authority(tmp_path).ca):
            with client_of(store, ca) as client, pytest.raises(NotAuthorised, match="certificate"):
                client.stat("photos/large")

    def test_plain_http_is_told_to_use_https(self, store: Cluster) -> None:
        with closing(http.client.HTTPConnection("127.0.0.1", store.web_ports[0])) as client:
            client.request("GET", "/healthz")
            answer = client.getresponse()
            assert answer.status == 400
            assert "https://" in json.loads(answer.read())["hint"]

    def test_a_plain_session_is_refused(self, store: Cluster) -> None:
        for port in (store.putter_ports[0], store.ack_ports[0]):
            with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
                client.sendall(b"PUTTER/1" + bytes(8))
                told = client.makefile("rb").read()
                assert told.startswith(b"PUTTER/1")
                assert b"connections to this port are encrypted" in told

    def test_a_session_without_a_certificate_is_refused(
        self, store: Cluster, authority: Authority
    ) -> None:
        context = ssl.create_default_context(cafile=str(authority.ca))
        for port in (store.putter_ports[0], store.ack_ports[0]):
            with (
                socket.create_connection(("127.0.0.1", port), timeout=20) as plain,
                context.wrap_socket(plain, server_hostname="127.0.0.1") as client,
                pytest.raises((ssl.SSLError, ConnectionResetError)),
            ):
                client.recv(100)  # with TLS 1.3 the client learns only now

    def test_raw_frames_of_this_machine_are_taken(self, store: Cluster) -> None:
        frames = raw_frames(5, b"raw bytes", store.keyring.writing)
        with socket.create_connection(("127.0.0.1", store.putter_ports[0]), timeout=20) as client:
            client.sendall(frames)
            client.shutdown(socket.SHUT_WR)
            assert client.makefile("rb").read() == frames[:8] + bytes([Status.WRITTEN])


def subject(port: int, authority: Authority) -> str:
    context = ssl.create_default_context(cafile=str(authority.ca))
    with (
        socket.create_connection(("127.0.0.1", port), timeout=20) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as client,
    ):
        found = client.getpeercert()
    assert found is not None
    return str(dict(part[0] for part in found["subject"])["commonName"])  # type: ignore[misc]


def test_a_certificate_is_replaced_without_a_break(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    with encrypted(tmp_path / "s", authority, putters=2) as store:
        cert, key = authority.directory / "node.pem", authority.directory / "node.key"
        with client_of(store, authority.ca) as kept:
            kept.put("photos/cat", b"before")
            assert subject(store.web_ports[0], authority) == "node"
            second, second_key = authority.issue("second")
            key.write_bytes(second_key.read_bytes())
            for process in store.processes:
                process.signal(signal.SIGHUP)

            def refused() -> None:
                assert "was not replaced" in store.routers[0].text()
                assert "was not replaced" in store.putters[1].text()

            eventually(refused)  # the key is not that of the certificate
            assert subject(store.web_ports[0], authority) == "node"
            cert.write_bytes(second.read_bytes())
            for process in store.processes:
                process.signal(signal.SIGHUP)

            def replaced() -> None:
                assert subject(store.web_ports[0], authority) == "second"

            eventually(replaced)
            assert kept.get("photos/cat") == b"before", "the connection from before goes on"
            for process in store.putters:
                process.stop()
                process.start()

            def refilled() -> None:
                told = json.loads(store.http("GET", "/status")[2])
                assert [node["link"] for node in told["nodes"]] == ["up", "up"]

            eventually(refilled)
            kept.put("photos/dog", b"after")
            assert kept.get("photos/dog") == b"after"


def test_a_node_of_another_authority_is_not_let_in(tmp_path: Path) -> None:
    authority, other = Authority(tmp_path / "ca"), Authority(tmp_path / "other")
    with encrypted(tmp_path / "s", authority) as store:
        cert, key = other.issue("stranger")
        stranger = store.add_putter(
            *("--storage", "memory", "--tls-cert", str(cert), "--tls-key", str(key)),
            *("--tls-ca", str(other.ca)),
        )
        stranger.start()

        def complained() -> None:
            assert "certificate" in store.routers[0].text()

        eventually(complained)
        told = json.loads(store.http("GET", "/status")[2])
        assert sorted(node["link"] for node in told["nodes"])[1] == "up"
        assert len([node for node in told["nodes"] if node["link"] == "up"]) == 1
        assert store.send(b"x" * 1000).line.startswith("OBJECT WRITTEN OK")


def test_files_that_cannot_be_used_are_told_at_the_start(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    cert, key = authority.issue("node")
    old_cert, old_key = authority.issue("old", days=-1, since_days=10)
    open_cert, open_key = authority.issue("open")
    open_key.chmod(0o644)
    cases = [
        ((cert, old_key, authority.ca), "is not that of the certificate"),
        ((old_cert, old_key, authority.ca), "has expired"),
        ((open_cert, open_key, authority.ca), "chmod 600"),
        ((cert, key, key), "holds no certificate of an authority"),
        ((cert, tmp_path / "none", authority.ca), "No such file"),
    ]
    for files, reason in cases:
        flags = [
            word
            for flag, path in zip(("cert", "key", "ca"), files, strict=True)
            for word in (f"--tls-{flag}", str(path))
        ]
        done = subprocess.run(
            [sys.executable, "-m", "putter", "server", "--storage", "memory", *flags],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 2, done.stderr
        assert reason in done.stderr
