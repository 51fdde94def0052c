"""The image, built and run for real, wherever a Docker engine answers.

One test at a time on a machine, as the scripts publish fixed ports. Nothing of the developer's own
is touched but the image's name: containers, volumes and networks have names of their own, and are
removed at the end.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
BASE_IMAGE = "python:3.13-slim"
REDIS_IMAGE = "redis:8"
PORTS = (5001, 5002, 5003, 5004, 5011, 5013, 5014)
MIB = 1 << 20
ADDED_BYTES_MAX = 200 * MIB
STOP_S_MAX = 10.0

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]


def docker(*words: str, check: bool = True, timeout_s: float = 120) -> str:
    """Run docker; its standard output, without the last newline."""
    done = subprocess.run(
        ["docker", *words], capture_output=True, text=True, timeout=timeout_s, check=False
    )
    assert not check or done.returncode == 0, f"docker {words}: {done.stderr}"
    return done.stdout.rstrip("\n")


def inspect(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(docker("inspect", name))[0]
    return found


def until(holds: Callable[[], bool], what: str, limit_s: float = 60) -> None:
    deadline = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {limit_s} s: {what}"
        time.sleep(0.2)


def healthy(name: str) -> bool:
    return bool(inspect(name)["State"]["Health"]["Status"] == "healthy")


# -- what there must be ------------------------------------------------------------------------


@pytest.fixture(scope="session")
def engine() -> None:
    """An engine of this machine that answers."""
    if shutil.which("docker") is None:
        pytest.skip("there is no docker command")
    host = os.environ.get("DOCKER_HOST", "unix://")
    if not host.startswith("unix://"):
        pytest.skip(f"the engine is on another machine: {host}")
    try:
        answers = subprocess.run(["docker", "info"], capture_output=True, timeout=20).returncode
    except subprocess.TimeoutExpired:
        answers = 1
    if answers != 0:
        pytest.skip("no Docker engine answers")


@contextlib.contextmanager
def our_turn() -> Iterator[None]:
    """Nobody else on this machine runs these tests meanwhile."""
    with (Path(tempfile.gettempdir()) / "data-putter-docker-tests.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def pull(image: str) -> None:
    """Have an image, or skip."""
    if not docker("images", "--quiet", image):
        with contextlib.suppress(subprocess.TimeoutExpired):
            docker("pull", image, check=False, timeout_s=180)
    if not docker("images", "--quiet", image):
        pytest.skip(f"there is no image {image}, and none can be pulled")


@pytest.fixture(scope="session")
def image(engine: None) -> str:
    """The image, built by the script."""
    with our_turn():
        pull(BASE_IMAGE)
        done = subprocess.run(
            [DOCKER / "build-docker.sh"], capture_output=True, text=True, timeout=600
        )
    assert done.returncode == 0, done.stderr[-4000:]
    return "data-putter"


@pytest.fixture
def ports(image: str) -> Iterator[None]:
    """The ports that the scripts publish, free and for us alone."""
    with our_turn():
        for port in PORTS:
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    pytest.skip(f"port {port} is taken")
        yield


# -- a client ----------------------------------------------------------------------------------


def send(size: int) -> tuple[str, str]:
    """Send random bytes to 5001 as nc would; the ObjectID and the hash of what was sent."""
    block = secrets.token_bytes(min(size, MIB))
    hasher = blake3()
    with socket.create_connection(("127.0.0.1", 5001), timeout=120) as sock:
        for start in range(0, size, MIB):
            part = start.to_bytes(8, "big") + block[8:] if size > MIB else block
            part = part[: size - start]
            hasher.update(part)
            sock.sendall(part)
        sock.shutdown(socket.SHUT_WR)
        reply = b"".join(iter(lambda: sock.recv(4096), b"")).decode()
    assert reply.startswith("OBJECT WRITTEN OK "), reply
    object_id, told_size, told_hash = reply.split()[3:]
    assert (int(told_size), told_hash) == (size, hasher.hexdigest())
    return object_id, told_hash


def fetch(object_id: str, token: str) -> str:
    """Read an object over 5004; the hash of what came."""
    request = urllib.request.Request(
        f"http://127.0.0.1:5004/file/objects/{object_id}",
        headers={"Authorization": f"Bearer {token}"},
    )
    hasher = blake3()
    with urllib.request.urlopen(request, timeout=120) as answer:
        while part := answer.read(MIB):
            hasher.update(part)
    return hasher.hexdigest()


def ready() -> bool:
    with contextlib.suppress(OSError):
        return bool(urllib.request.urlopen("http://127.0.0.1:5004/readyz", timeout=5).status == 200)
    return False


def cat(container: str, object_id: str) -> str:
    """Read an object inside a container; the hash of what came."""
    words = ["docker", "exec", container, "python", "-m", "putter", "cat", f"objects/{object_id}"]
    done = subprocess.run(words, capture_output=True, timeout=120, check=True)
    return blake3(done.stdout).hexdigest()


def token_of(container: str) -> str:
    return docker("exec", container, "python", "-m", "putter", "keys", "token")


# -- the image ---------------------------------------------------------------------------------


def test_the_image_is_small_and_nobody_special_runs_it(image: str) -> None:
    config = inspect(image)["Config"]
    assert config["Entrypoint"] == ["python", "-m", "putter"]
    assert config["Cmd"] == ["router"]
    assert config["User"] == "10001:10001"
    assert set(config["Volumes"]) == {"/data"}
    assert config["StopSignal"] == "SIGTERM"
    assert inspect(image)["Size"] - inspect(BASE_IMAGE)["Size"] < ADDED_BYTES_MAX
    assert docker("run", "--rm", image, "--version").startswith("putter ")
    ids = docker("run", "--rm", "--entrypoint", "id", image, "-u")
    assert ids == "10001"


# -- one container -----------------------------------------------------------------------------


class Lone:
    """A whole store in one container, started by run-in-docker.sh."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [DOCKER / "run-in-docker.sh"],
            env={**os.environ, "DOCKER_NAME": self.name, "REDIS_HOSTPORT": ""},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until(ready, "the store is ready")

    def ended(self) -> int:
        assert self._process is not None
        return self._process.wait(30)

    def remove(self) -> None:
        docker("rm", "--force", "--volumes", self.name, check=False)
        if self._process is not None:
            self._process.wait(30)
        docker("volume", "rm", "--force", self.name, check=False)


@pytest.fixture
def lone(image: str, ports: None) -> Iterator[Lone]:
    store = Lone(f"putter-test-{secrets.token_hex(4)}")
    try:
        store.start()
        yield store
    finally:
        store.remove()


def test_one_container_is_a_store_that_survives_stop_and_kill(lone: Lone) -> None:
    written = dict(send(size) for size in (1, 1458, 100_000, 3 * MIB + 1))
    token = token_of(lone.name)
    assert {name: fetch(name, token) for name in written} == written
    assert {name: cat(lone.name, name) for name in written} == written
    with pytest.raises(urllib.error.HTTPError, match="401") as refused:
        fetch(next(iter(written)), "wrong")
    refused.value.close()
    until(lambda: healthy(lone.name), "the container is healthy")
    _, *processes = docker("top", lone.name, "-o", "pid,uid").splitlines()
    assert {line.split()[1] for line in processes} == {"10001"}

    started = time.monotonic()
    docker("stop", lone.name)
    assert time.monotonic() - started < STOP_S_MAX
    assert lone.ended() == 0

    lone.start()
    assert {name: fetch(name, token) for name in written} == written
    docker("kill", "--signal", "KILL", lone.name)
    assert lone.ended() == 128 + signal.SIGKILL

    lone.start()
    assert {name: cat(lone.name, name) for name in written} == written


def test_a_client_hears_of_the_end_before_the_engine_kills(lone: Lone) -> None:
    with socket.create_connection(("127.0.0.1", 5001), timeout=30) as sock:
        sock.sendall(bytes(MIB))
        started = time.monotonic()
        docker("stop", lone.name)
        assert time.monotonic() - started < STOP_S_MAX
        reply = sock.recv(4096)
    assert reply.startswith(b"OBJECT WRITE FAILED shutting-down ")
    assert lone.ended() == 0


@pytest.mark.slow
def test_a_long_stream_fits_in_little_memory(image: str, ports: None) -> None:
    name = f"putter-test-{secrets.token_hex(4)}"
    docker(
        *("run", "--detach", "--init", "--name", name, "--memory", "256m"),
        *("--memory-swap", "256m", "--publish", "127.0.0.1:5001:5001"),
        *("--publish", "127.0.0.1:5004:5004", image, "router", "--host", "0.0.0.0"),
    )
    try:
        until(ready, "the store is ready")
        object_id, sent = send(1024 * MIB)
        assert fetch(object_id, token_of(name)) == sent
        state = inspect(name)["State"]
        assert (state["OOMKilled"], state["Status"]) == (False, "running")
    finally:
        docker("rm", "--force", "--volumes", name)


# -- the cluster -------------------------------------------------------------------------------


class Cluster:
    """The cluster of compose.yaml, under a project name of its own."""

    def __init__(self, folder: Path) -> None:
        self.project = f"putter-test-{secrets.token_hex(4)}"
        self._compose = ("compose", "--project-name", self.project)
        self._compose += ("--file", str(folder / "compose.yaml"))

    def compose(self, *words: str) -> str:
        return docker(*self._compose, *words, timeout_s=180)

    def container(self, service: str) -> str:
        return f"{self.project}-{service}-1"

    def links_up(self) -> int:
        words = ("exec", self.container("router"), "python", "-m", "putter", "status", "--json")
        told = json.loads(docker(*words))
        return sum(node["link"] == "up" for node in told["nodes"])


@pytest.fixture
def cluster(image: str, ports: None, tmp_path: Path) -> Iterator[Cluster]:
    if subprocess.run(["docker", "compose", "version"], capture_output=True).returncode != 0:
        pytest.skip("docker has no compose")
    pull(REDIS_IMAGE)
    for name in ("compose.yaml", "make-key.sh"):
        shutil.copy(DOCKER / name, tmp_path)
    subprocess.run([tmp_path / "make-key.sh"], check=True, stdout=subprocess.DEVNULL)
    made = Cluster(tmp_path)
    try:
        made.compose("up", "--detach", "--wait")
        yield made
    finally:
        made.compose("down", "--volumes", "--timeout", "5")


def test_a_cluster_loses_nothing_when_putters_are_killed(cluster: Cluster) -> None:
    router = cluster.container("router")
    token = token_of(router)
    until(lambda: cluster.links_up() == 3, "all three putters are connected")
    written = dict(send(size) for size in [1000, 200_000, 2 * MIB] * 5)

    docker("kill", "--signal", "KILL", cluster.container("putter-2"))
    assert {name: fetch(name, token) for name in written} == written
    written |= dict(send(size) for size in [1000, 200_000, 2 * MIB] * 5)
    assert {name: fetch(name, token) for name in written} == written
    assert cat(router, next(iter(written))) == next(iter(written.values()))

    docker("start", cluster.container("putter-2"))
    until(lambda: cluster.links_up() == 3, "the killed putter is back")
    docker("kill", "--signal", "KILL", cluster.container("putter-1"))
    assert {name: fetch(name, token) for name in written} == written


KILL_THE_PUTTER = """
import os, pathlib
for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
    if path.parent.name != "1" and b"\\0server" in path.read_bytes():
        os.kill(int(path.parent.name), 9)
"""


def test_a_process_that_dies_is_started_again(cluster: Cluster) -> None:
    name = cluster.container("putter-3")
    docker("exec", name, "python", "-c", KILL_THE_PUTTER)
    until(lambda: inspect(name)["RestartCount"] == 1, "the putter was started again")
    until(lambda: healthy(name), "the putter is healthy")
    until(lambda: cluster.links_up() == 3, "the putter is connected again")

    started = time.monotonic()
    cluster.compose("stop")
    assert time.monotonic() - started < STOP_S_MAX
    for service in ("redis", "router", "router-2", "putter-1", "putter-2", "putter-3"):
        assert inspect(cluster.container(service))["State"]["ExitCode"] == 0, service
