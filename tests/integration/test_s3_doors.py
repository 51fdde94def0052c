"""The S3 port in each form: encrypted, shared by workers, of a store that runs alone, and full."""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import signal
import socket
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.local_kit import local_store
from tests.s3_kit import KEY_ID, SECRET, Signer, s3, s3_cluster
from tests.store_kit import cluster, eventually
from tests.tls_kit import Authority
from tests.traffic_kit import payload

pytestmark = pytest.mark.slow


def test_over_tls_with_trailing_checksums(tmp_path: Path) -> None:
    """Where the connection is encrypted, boto3 sends its checksums behind the body."""
    authority = Authority(tmp_path / "authority")
    cert, key = authority.issue("node")
    flags = ("--tls-cert", str(cert), "--tls-key", str(key), "--tls-ca", str(authority.ca))
    directory = tmp_path / "store"
    with cluster(directory, router_flags=flags, putter_flags=flags, tls_ca=authority.ca) as store:
        body = json.dumps({"secret_key": SECRET})
        assert store.http("PUT", f"/key/{KEY_ID}", body)[0] == 201
        with s3(store.s3_ports[0], tls_ca=authority.ca) as client:
            client.create_bucket(Bucket="photos")
            sent: list[str] = []
            client.meta.events.register(
                "before-send.s3.PutObject",
                lambda request, **_: sent.append(str(request.headers.get("X-Amz-Trailer"))),
            )
            for size in (0, 1_000, 3_000_000):
                data = payload(size)
                put = client.put_object(Bucket="photos", Key="k", Body=data)
                got = client.get_object(Bucket="photos", Key="k", ChecksumMode="ENABLED")
                assert (got["Body"].read(), got["ETag"]) == (data, put["ETag"])
                assert got["ChecksumCRC32"]
            assert all("x-amz-checksum-crc32" in each for each in sent)
        with socket.create_connection(("127.0.0.1", store.s3_ports[0])) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            assert b"this port speaks TLS" in plain.recv(4096)


def test_a_store_of_workers_that_runs_alone_shows_its_first_key(tmp_path: Path) -> None:
    with local_store(tmp_path, workers=2) as store:
        pair = re.search(r"access key     (\S+)\n\s+secret key     (\S+)\n", store.text)
        assert pair is not None
        port = store.ports["s3_port"]
        with s3(port, pair[1], pair[2]) as client:
            client.create_bucket(Bucket="photos")
        for number in range(12):  # new connections: the kernel chooses a worker for each
            data = payload(3_000, number)
            with s3(port, pair[1], pair[2]) as one:
                one.put_object(Bucket="photos", Key=f"k{number}", Body=data)
            with s3(port, pair[1], pair[2]) as other:
                assert other.get_object(Bucket="photos", Key=f"k{number}")["Body"].read() == data
        metrics = http.client.HTTPConnection("127.0.0.1", store.ports["web_port"], timeout=30)
        with closing(metrics):
            metrics.request("GET", "/metrics")
            told = metrics.getresponse().read().decode()
        served = re.findall(r'putter_s3_requests_total\{worker="(\d)"', told)
        assert set(served) == {"0", "1"}


def test_a_full_port_tells_clients_to_slow_down(tmp_path: Path) -> None:
    with s3_cluster(tmp_path, router_flags=("--connections-max", "3")) as store:
        signer = Signer(store.s3_ports[0])
        with ExitStack() as crowd:
            for _ in range(3):
                crowd.enter_context(signer.wire())

            def full() -> None:
                told = signer.ask("GET", "/")
                assert (told.status, told.code) == (503, "SlowDown")

            eventually(full)

        def free() -> None:
            assert signer.ask("GET", "/").status == 200

        eventually(free)


@pytest.mark.parametrize("size", [300_000, 3_000_000])
def test_a_router_that_stops_lets_an_upload_end(tmp_path: Path, size: int) -> None:
    data, sent = payload(size), size * 4 // 5
    with s3_cluster(tmp_path) as store:
        signer = Signer(store.s3_ports[0])
        assert signer.ask("PUT", "/photos").status == 200
        every, _ = signer.signed("PUT", "/photos/k", {"content-length": str(len(data))})
        head = "".join(f"{name}: {value}\r\n" for name, value in every.items())
        with signer.wire() as client:
            client.sendall(f"PUT /photos/k HTTP/1.1\r\n{head}\r\n".encode() + data[:sent])

            def begun() -> None:
                _, _, body = store.http("GET", "/metrics")
                taken = re.search(rb'putter_ingest_bytes_total\{port="s3"\} (\S+)', body)
                assert taken is not None
                assert float(taken[1]) >= sent

            eventually(begun)
            store.routers[0].signal(signal.SIGTERM)

            def closed() -> None:
                with closing(socket.socket()) as probe:
                    assert probe.connect_ex(("127.0.0.1", store.s3_ports[0])) != 0

            eventually(closed)
            client.sendall(data[sent:])
            answer = client.recv(65536)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert hashlib.md5(data).hexdigest().encode() in answer
