"""Real processes of a store for tests and benchmarks: start, kill, ask, compare.

Everything listens on 127.0.0.1 at free ports; processes are ended by pid and by nobody else.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from blake3 import blake3

from common.certificates import web_client
from common.keys import Keyring, load_keyring
from tests.metadata_kit import ValkeyServer, free_port

ROOT = Path(__file__).resolve().parent.parent
START_S = 60.0
AOF = ("--appendonly", "yes", "--appendfsync", "always")


class Process:
    """One of our processes."""

    def __init__(self, name: str, argv: list[str], log: Path, env: dict[str, str]) -> None:
        self.name = name
        self.log = log
        self._argv = argv
        self._env = env
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._argv, cwd=self.log.parent, env=self._env, stdout=log, stderr=log
            )

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def signal(self, number: int) -> None:
        if self.alive:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, at once."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self, timeout_s: float = 20.0) -> int:
        """SIGTERM; its exit code."""
        if self._process is None:
            return 0
        if self.alive:
            self._process.terminate()
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise AssertionError(f"{self.name} did not stop: {self.tail()}") from None

    def wait(self, timeout_s: float) -> int:
        assert self._process is not None
        return self._process.wait(timeout_s)

    def cpu_s(self) -> float:
        """User and system time so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_bytes(self, field_name: str = "VmRSS") -> int:
        """Of ``/proc/<pid>/status``: VmRSS, or VmHWM for its peak."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(field_name + ":"):
                return int(line.split()[1]) * 1024
        raise AssertionError(field_name)

    def text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def tail(self) -> str:
        return self.text()[-2000:]


@dataclass
class Answer:
    """The line of port 5001, taken apart."""

    line: str

    @property
    def ok(self) -> bool:
        return self.line.startswith("OBJECT WRITTEN OK ")

    @property
    def object_id(self) -> str:
        assert self.ok, self.line
        return self.line.split()[3]

    @property
    def size(self) -> int:
        return int(self.line.split()[4])

    @property
    def digest(self) -> str:
        return self.line.split()[5]

    @property
    def code(self) -> str:
        assert self.line.startswith("OBJECT WRITE FAILED "), self.line
        return self.line.split()[3]


@dataclass
class Cluster:
    """A Valkey, putters and routers as processes.

    Args of `make`: how many putters, which engine, N and W, and further flags.

    Attributes:
        redis_url: of several servers that somebody else runs, in place of the Valkey.
        tls_ca: verifies the certificates of the web ports, if they have any.
    """

    directory: Path
    valkey: ValkeyServer
    putters: list[Process] = field(default_factory=list)
    routers: list[Process] = field(default_factory=list)
    ingest_ports: list[int] = field(default_factory=list)
    web_ports: list[int] = field(default_factory=list)
    s3_ports: list[int] = field(default_factory=list)
    ack_ports: list[int] = field(default_factory=list)
    putter_ports: list[int] = field(default_factory=list)
    redis_url: str = ""
    tls_ca: Path | None = None

    @property
    def keyring(self) -> Keyring:
        return load_keyring(self.directory / "cluster.key", create=True)

    @property
    def processes(self) -> list[Process]:
        return [*self.routers, *self.putters]

    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("PUTTER_")}
        kept.pop("REDIS_HOSTPORT", None)
        ports = {"PUTTER_S3_PORT": "0"}  # of those that a test does not ask for
        return kept | ports | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "putter", *words]

    def add_putter(self, *flags: str) -> Process:
        number = len(self.putters)
        port, web = free_port(), free_port()
        data = self.directory / f"node{number}"
        data.mkdir(exist_ok=True)
        argv = self.command(
            "server",
            *("--data-dir", str(data), "--redis", self.redis_url or self.valkey.url),
            *("--key-file", str(self.directory / "cluster.key")),
            *("--putter-port", str(port), "--putter-web-port", str(web)),
            *("--reserve-bytes", "0", *flags),
        )
        log = self.directory / f"putter{number}.log"
        process = Process(f"putter {number}", argv, log, self.environment())
        self.putters.append(process)
        self.putter_ports.append(port)
        return process

    def add_router(self, *flags: str) -> Process:
        number = len(self.routers)
        ingest, acks, s3, web = free_port(), free_port(), free_port(), free_port()
        argv = self.command(
            "router",
            *("--data-dir", str(self.directory / f"router{number}")),
            *("--redis", self.redis_url or self.valkey.url),
            *("--key-file", str(self.directory / "cluster.key")),
            *("--ingest-port", str(ingest), "--ack-port", str(acks), "--web-port", str(web)),
            *("--s3-port", str(s3)),
            *flags,
        )
        log = self.directory / f"router{number}.log"
        process = Process(f"router {number}", argv, log, self.environment())
        self.routers.append(process)
        self.ingest_ports.append(ingest)
        self.ack_ports.append(acks)
        self.web_ports.append(web)
        self.s3_ports.append(s3)
        return process

    def wait_ready(self, router: int = 0, nodes: int | None = None) -> None:
        """Until the router is ready and sees all putters."""
        wanted = len(self.putters) if nodes is None else nodes
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                status, _, body = self.http("GET", "/status", router=router)
                told = json.loads(body)
                # On a busy machine a store that begins may answer with an error first.
                up = [node for node in told.get("nodes", ()) if node["link"] == "up"]
                if status == 200 and len(up) >= wanted:
                    return
            time.sleep(0.05)
        logs = "\n".join(f"--- {p.name}\n{p.tail()}" for p in self.processes)
        raise AssertionError(f"the store is not ready\n{logs}")

    def send(self, data: bytes, router: int = 0, timeout_s: float = 60.0) -> Answer:
        """One raw stream; the answer."""
        return Answer(send_raw(self.ingest_ports[router], data, timeout_s))

    def http(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
        router: int = 0,
        timeout_s: float = 60.0,
    ) -> tuple[int, dict[str, str], bytes]:
        """One request; status, headers (lower case), body."""
        port = self.web_ports[router]
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
        if self.tls_ca is not None:
            context = web_client(self.tls_ca)
            client = http.client.HTTPSConnection(
                "127.0.0.1", port, timeout=timeout_s, context=context
            )
        with contextlib.closing(client):
            client.request(method, path, body, headers or {})
            response = client.getresponse()
            got = {name.lower(): value for name, value in response.getheaders()}
            return response.status, got, response.read()

    def read(self, name: str, router: int = 0) -> bytes:
        """A file's bytes."""
        status, _, body = self.http("GET", f"/file/{name}", router=router)
        assert status == 200, (status, body[:500])
        return body

    def names(self, bucket: str = "objects", router: int = 0) -> dict[str, int]:
        """All keys of a bucket with their sizes."""
        found: dict[str, int] = {}
        after: str | None = ""
        while after is not None:
            _, _, body = self.http("GET", f"/metadata?bucket={bucket}&after={after}", router=router)
            page = json.loads(body)
            found |= {entry["key"]: entry["size"] for entry in page["entries"]}
            after = page["next_after"]
        return found

    def stop(self) -> None:
        """All processes, routers first."""
        for process in self.processes:
            process.signal(signal.SIGCONT)
        try:
            for process in self.processes:
                process.stop()
        finally:
            self.valkey.stop()


@contextlib.contextmanager
def cluster(
    directory: Path,
    *,
    putters: int = 1,
    routers: int = 1,
    storage: str = "tree",
    replicas: int | None = None,
    router_flags: tuple[str, ...] = (),
    putter_flags: tuple[str, ...] = (),
    durable_valkey: bool = True,
    redis_url: str = "",
    tls_ca: Path | None = None,
) -> Iterator[Cluster]:
    """A running store."""
    valkey_dir = directory / "valkey"
    valkey_dir.mkdir(parents=True)
    valkey = ValkeyServer(valkey_dir, *(AOF if durable_valkey else ()))
    made = Cluster(directory, valkey, redis_url=redis_url, tls_ca=tls_ca)
    copies = str(min(2, putters) if replicas is None else replicas)
    _ = made.keyring
    try:
        if not redis_url:
            made.valkey.start()
        for _ in range(putters):
            made.add_putter("--storage", storage, *putter_flags).start()
        for _ in range(routers):
            made.add_router("--replicas", copies, *router_flags).start()
        for number in range(routers):
            made.wait_ready(number)
        yield made
    finally:
        made.stop()


def send_raw(port: int, data: bytes, timeout_s: float = 60.0) -> str:
    """Connect, send, half-close, and the line that comes back."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        return read_line(client)


def read_line(client: socket.socket) -> str:
    """Everything until the other side closes; one line."""
    out = b""
    while True:
        part = client.recv(65_536)
        if not part:
            break
        out += part
    return out.decode()


def digest(data: bytes) -> str:
    """BLAKE3, hex."""
    return blake3(data).hexdigest()


def eventually(check: Any, timeout_s: float = 40.0, every_s: float = 0.05) -> None:
    """Until ``check()`` neither raises AssertionError nor is False."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            if check() is not False:
                return
            problem: object = "it is False"
        except AssertionError as error:
            problem = error
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s} s: {problem}")
        time.sleep(every_s)
