"""How processes start and stop when something is wrong: one clear line, an exit code."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.metadata_kit import ValkeyServer, free_port
from tests.store_kit import AOF, Answer, Cluster, Process, cluster, digest, eventually, read_line
from tests.traffic_kit import (
    Ended,
    connect,
    eventually_clean,
    object_values,
    on_disk,
    payload,
    putter,
)

pytestmark = pytest.mark.slow
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A store that others try to disturb."""
    with cluster(tmp_path_factory.mktemp("running")) as store:
        yield store


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Cluster]:
    """A Valkey that is not started, and processes to be added."""
    home = tmp_path / "store"
    (home / "valkey").mkdir(parents=True)
    store = Cluster(home, ValkeyServer(home / "valkey", *AOF))
    _ = store.keyring
    try:
        yield store
    finally:
        store.stop()


def refused(ended: Ended, code: int, *words: str) -> None:
    """It ended with this code, and one error that says these words."""
    assert ended.code == code, (ended.code, ended.err)
    lines = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, ended.err
    for word in words:
        assert word in ended.err, ended.err
    assert "Traceback" not in ended.err


def still_works(store: Cluster) -> None:
    data = payload(10_000, time.monotonic())
    answer = store.send(data)
    assert answer.ok, answer.line
    assert store.read(f"objects/{answer.object_id}") == data


def flags_of(process: Process) -> list[str]:
    """The words after ``python -m putter``."""
    return process._argv[3:]


def changed(words: list[str], **flags: object) -> list[str]:
    """The same command with other values."""
    out = list(words)
    for name, value in flags.items():
        out[out.index("--" + name.replace("_", "-")) + 1] = str(value)
    return out


# -- Redis is not there --------------------------------------------------------------------


def test_redis_that_comes_later(alone: Cluster) -> None:
    alone.add_putter().start()
    alone.add_router("--replicas", "1").start()
    waiting = alone.routers[0]
    address = f"127.0.0.1:{alone.valkey.port}"
    eventually(lambda: address in waiting.text())
    time.sleep(1.5)
    for process in alone.processes:
        assert process.alive, process.tail()
        assert "Traceback" not in process.text(), process.tail()
    # One line says what is waited for, not one each try.
    assert len([line for line in waiting.text().splitlines() if address in line]) == 1
    with pytest.raises(ConnectionRefusedError), connect(alone.ingest_ports[0]):
        pass
    alone.valkey.start()
    alone.wait_ready()
    still_works(alone)
    for process in alone.processes:
        assert "Traceback" not in process.text(), process.tail()


def test_a_router_that_waits_for_redis_stops_when_it_is_told(alone: Cluster) -> None:
    router = alone.add_router("--replicas", "1")
    router.start()
    eventually(lambda: str(alone.valkey.port) in router.text())
    began = time.monotonic()
    assert router.stop() == 0, router.tail()
    assert time.monotonic() - began < 5
    assert "Traceback" not in router.text()


def test_something_else_on_the_port_of_redis(alone: Cluster) -> None:
    with socket.create_server(("127.0.0.1", alone.valkey.port)):
        router = alone.add_router("--replicas", "1")
        router.start()
        eventually(lambda: "redis" in router.text().lower())
        assert "Traceback" not in router.text(), router.tail()
        assert router.stop() == 0
    assert "Traceback" not in router.text(), router.tail()


# -- what another one has ------------------------------------------------------------------


@pytest.mark.parametrize("port", ["ingest_port", "ack_port", "web_port"])
def test_a_second_router_on_the_same_port(running: Cluster, tmp_path: Path, port: str) -> None:
    ports = {name: free_port() for name in ("ingest_port", "ack_port", "web_port")}
    words = flags_of(running.routers[0])
    ports[port] = int(words[words.index("--" + port.replace("_", "-")) + 1])
    ended = putter(running, *changed(words, data_dir=tmp_path, **ports))
    flag = "--" + port.replace("_", "-")
    refused(ended, 4, str(ports[port]), "in use", flag)
    still_works(running)


@pytest.mark.parametrize("port", ["putter_port", "putter_web_port"])
def test_a_second_putter_on_the_same_port(running: Cluster, tmp_path: Path, port: str) -> None:
    ports = {name: free_port() for name in ("putter_port", "putter_web_port")}
    words = flags_of(running.putters[0])
    ports[port] = int(words[words.index("--" + port.replace("_", "-")) + 1])
    ended = putter(running, *changed(words, data_dir=tmp_path, **ports))
    refused(ended, 4, str(ports[port]), "in use", "--" + port.replace("_", "-"))
    still_works(running)


def test_a_second_putter_on_the_same_data_directory(running: Cluster) -> None:
    first = running.putters[0]
    words = changed(flags_of(first), putter_port=free_port(), putter_web_port=free_port())
    ended = putter(running, *words)
    refused(ended, 1, f"process {first.pid}", "--data-dir")
    still_works(running)


def test_a_killed_putter_does_not_keep_its_directory(tmp_path: Path) -> None:
    with cluster(tmp_path / "s") as store:
        store.putters[0].kill()
        store.putters[0].start()
        store.wait_ready()
        still_works(store)


# -- keys ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [b"", b"garbage\n", b"ab" * 31 + b"\n", b"\xff\xfe\x00binary", b"# only a comment\n"],
    ids=["empty", "garbage", "short", "binary", "comment"],
)
@pytest.mark.parametrize("command", ["server", "router"])
def test_a_key_file_that_is_none(
    running: Cluster, tmp_path: Path, command: str, text: bytes
) -> None:
    key = tmp_path / "broken.key"
    key.write_bytes(text)
    process = running.putters[0] if command == "server" else running.routers[0]
    ended = putter(running, *changed(flags_of(process), data_dir=tmp_path / "d", key_file=key))
    refused(ended, 2, str(key))
    assert key.read_bytes() == text


@pytest.mark.parametrize("command", ["server", "router"])
def test_a_key_file_that_is_not_there_or_is_a_directory(
    running: Cluster, tmp_path: Path, command: str
) -> None:
    process = running.putters[0] if command == "server" else running.routers[0]
    for key in (tmp_path / "missing.key", tmp_path):
        ended = putter(running, *changed(flags_of(process), data_dir=tmp_path, key_file=key))
        refused(ended, 2, str(key))
    assert not (tmp_path / "missing.key").exists()


def test_a_router_with_another_key_than_the_putter(alone: Cluster, tmp_path: Path) -> None:
    other = tmp_path / "other.key"
    other.write_text("ab" * 32 + "\n")
    alone.valkey.start()
    store_putter = alone.add_putter()
    store_putter.start()
    router = alone.add_router("--replicas", "1", "--write-timeout-ms", "1500")
    router._argv = [*router._argv[:3], *changed(flags_of(router), key_file=other)]
    router.start()
    eventually(lambda: "no cluster key in common" in store_putter.text())
    eventually(lambda: "no cluster key in common" in router.text())
    answer = Answer("")

    def answered() -> None:
        nonlocal answer
        with contextlib.suppress(OSError):
            answer = alone.send(payload(1000))
        assert answer.line

    eventually(answered)
    assert answer.line.startswith("OBJECT WRITE FAILED "), answer.line
    assert not any(on_disk(alone).values())
    for process in alone.processes:
        assert process.alive
        assert "Traceback" not in process.text(), process.tail()
    # With the right key all is well.
    router.stop()
    right = alone.add_router("--replicas", "1")
    right.start()
    alone.wait_ready(1)
    assert alone.send(payload(1000), router=1).ok


def test_two_keys_while_one_replaces_the_other(tmp_path: Path) -> None:
    with cluster(tmp_path / "s") as store:
        old = payload(100_000, "old")
        before = store.send(old)
        key = store.directory / "cluster.key"
        key.write_text("cd" * 32 + "\n" + key.read_text())
        for process in store.processes:
            process.stop()
            process.start()
        store.wait_ready()
        assert store.read(f"objects/{before.object_id}") == old
        still_works(store)


# -- settings ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("server", "--storage", "zip"), "--storage"),
        (("server", "--putter-port", "70000"), "--putter-port"),
        (("server", "--putter-port", "many"), "--putter-port"),
        (("server", "--redis", "nonsense"), "--redis"),
        (("router", "--frame-bytes", "100"), "--frame-bytes"),
        (("router", "--replicas", "0"), "--replicas"),
        (("router", "--replicas", "2", "--write-quorum", "3"), "write_quorum"),
        (("router", "--nodes", "here"), "--nodes"),
        (("router", "--ingest-port", "6001", "--ack-port", "6001"), "6001"),
        (("router", "--config", "/nowhere/putter.toml"), "/nowhere/putter.toml"),
    ],
)
def test_settings_that_make_no_sense(
    running: Cluster, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    refused(putter(running, *words, cwd=tmp_path), 2, said)
    assert not [*tmp_path.iterdir()]


def test_another_engine_than_the_directory_holds(running: Cluster, tmp_path: Path) -> None:
    home = tmp_path / "putter"
    home.mkdir()
    (home / "node.json").write_text(
        '{"format": 1, "layout": "segments", "identity": "0123456789ab", "created_ms": 1}'
    )
    words = changed(
        flags_of(running.putters[0]),
        data_dir=tmp_path,
        putter_port=free_port(),
        putter_web_port=free_port(),
    )
    refused(putter(running, *words), 2, "segments", "tree")


@pytest.mark.parametrize("text", ["", "{", '{"format": 9}', "\0" * 100])
def test_a_damaged_data_directory(running: Cluster, tmp_path: Path, text: str) -> None:
    home = tmp_path / "putter"
    home.mkdir()
    (home / "node.json").write_text(text)
    words = changed(
        flags_of(running.putters[0]),
        data_dir=tmp_path,
        putter_port=free_port(),
        putter_web_port=free_port(),
    )
    refused(putter(running, *words), 1, "node.json")
    assert (home / "node.json").read_text() == text


# -- stopping ------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_router_that_is_stopped_answers_its_streams(
    tmp_path: Path, number: signal.Signals
) -> None:
    with cluster(tmp_path / "s", router_flags=("--grace-ms", "200")) as store:
        router = store.routers[0]
        with connect(store.ingest_ports[0]) as client, connect(store.ingest_ports[0]) as idle:
            client.sendall(payload(3 * MIB))
            eventually(lambda: bool(object_values(store)))
            began = time.monotonic()
            router.signal(number)
            # A writer that goes on meanwhile is served to its end or told; this one says nothing.
            line = read_line(client)
            assert Answer(line).code == "shutting-down", line
            assert read_line(idle) in {"", line}
        assert router.wait(20) == 0
        assert time.monotonic() - began < 15
        assert "Traceback" not in router.text(), router.tail()
        router.start()
        store.wait_ready()
        assert store.names() == {}
        eventually_clean(store)


def test_a_stream_that_ends_in_time_is_stored_while_the_router_stops(tmp_path: Path) -> None:
    data = payload(3 * MIB)
    with cluster(tmp_path / "s") as store:
        router = store.routers[0]
        with connect(store.ingest_ports[0]) as client:
            client.sendall(data[: 2 * MIB])
            eventually(lambda: bool(object_values(store)))
            router.signal(signal.SIGTERM)
            eventually(lambda: "stopping" in router.text())
            with pytest.raises(ConnectionRefusedError):
                eventually(lambda: connect(store.ingest_ports[0]).close() is not None)
            client.sendall(data[2 * MIB :])
            client.shutdown(socket.SHUT_WR)
            answer = Answer(read_line(client))
        assert answer.ok, answer.line
        assert answer.digest == digest(data)
        assert router.wait(20) == 0
        router.start()
        store.wait_ready()
        assert store.read(f"objects/{answer.object_id}") == data


def test_a_putter_that_is_stopped_lets_go_of_everything(tmp_path: Path) -> None:
    data = payload(8 * MIB)
    with cluster(tmp_path / "s") as store:
        process = store.putters[0]
        with connect(store.ingest_ports[0]) as client:
            client.sendall(data[: 4 * MIB])
            eventually(lambda: bool(object_values(store)))
            assert process.stop() == 0, process.tail()
            assert (store.directory / "node0" / "putter" / "clean").exists()
            process.start()
            client.sendall(data[4 * MIB :])
            client.shutdown(socket.SHUT_WR)
            answer = Answer(read_line(client))
        assert answer.ok, answer.line
        assert answer.digest == digest(data)
        store.wait_ready()
        assert store.read(f"objects/{answer.object_id}") == data
        assert "Traceback" not in process.text()


def test_a_second_signal_ends_a_process_at_once(tmp_path: Path) -> None:
    with cluster(tmp_path / "s") as store:
        router = store.routers[0]
        with connect(store.ingest_ports[0]) as client:
            client.sendall(payload(3 * MIB))
            eventually(lambda: bool(object_values(store)))
            router.signal(signal.SIGTERM)
            eventually(lambda: "stopping" in router.text())
            router.signal(signal.SIGTERM)
            assert router.wait(5) == -signal.SIGTERM


# -- one command is a whole store ----------------------------------------------------------


def whole_store(tmp_path: Path, *flags: str) -> tuple[Process, dict[str, int]]:
    names = ("putter-port", "ingest-port", "ack-port", "web-port", "putter-web-port")
    ports = {name: free_port() for name in names}
    words = [word for name, port in ports.items() for word in (f"--{name}", str(port))]
    tmp_path.mkdir(exist_ok=True)
    store = Cluster(tmp_path, ValkeyServer(tmp_path))
    argv = store.command("router", *words, "--data-dir", str(tmp_path / "data"), *flags)
    process = Process("store", argv, tmp_path / f"{ports['web-port']}.log", store.environment())
    process.start()
    return process, ports


def seen(process: Process) -> list[int]:
    """The process and those below it."""
    children = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(process.pid)],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split()
    return [process.pid, *map(int, children)]


def gone(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    with contextlib.suppress(OSError):
        return stat.read_text().rpartition(")")[2].split()[0] == "Z"
    return True


def send_to(port: int, data: bytes) -> Answer:
    with connect(port) as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        return Answer(read_line(client))


def test_one_command_is_a_whole_store_and_survives_kill_9(tmp_path: Path) -> None:
    data = payload(200_000)
    process, ports = whole_store(tmp_path)
    try:
        eventually(lambda: "is ready" in process.text(), 30)
        answer = send_to(ports["ingest-port"], data)
        assert answer.ok, process.tail()
        below = seen(process)
        assert len(below) >= 3
        process.kill()
        eventually(lambda: all(gone(pid) for pid in below), 20)
        process.start()
        eventually(lambda: process.text().count("is ready") == 2, 30)
        client = http_get(ports["web-port"], f"/file/objects/{answer.object_id}")
        assert client == data
        second, _ = whole_store(tmp_path)
        assert second.wait(30) in {1, 4}
        assert re.search(r"error: another store runs on .*data", second.text()), second.tail()
        third, _ = whole_store(tmp_path / "elsewhere", "--web-port", str(ports["web-port"]))
        assert third.wait(30) == 4
        assert re.search(r"error: .*in use", third.text()), third.tail()
        for other in (second, third):
            assert "Traceback" not in other.text(), other.tail()
        assert send_to(ports["ingest-port"], data).ok
        below = seen(process)
        assert process.stop() == 0, process.tail()
        eventually(lambda: all(gone(pid) for pid in below))
        assert "Traceback" not in process.text()
    finally:
        if process.alive:
            process.stop()


def http_get(port: int, path: str) -> bytes:
    store = Cluster(Path(), ValkeyServer(Path()), web_ports=[port])
    status, _, body = store.http("GET", path)
    assert status == 200, body
    return body
