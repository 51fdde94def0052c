"""`putter router` with nothing configured: one command is a whole store."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.keys import load_keyring
from tests.local_kit import PORTS, LocalStore, local_store
from tests.store_kit import digest, eventually
from tests.traffic_kit import files_with, payload

pytestmark = pytest.mark.slow
LOOPBACK = "0100007F"
STOP_S = 15.0


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStore]:
    """One that nobody stops."""
    with local_store(tmp_path_factory.mktemp("whole")) as running:
        yield running


def still_works(store: LocalStore) -> None:
    data = payload(10_000, time.monotonic())
    answer = store.send(data)
    assert answer.ok, answer.line
    assert store.read(answer.object_id) == data


def ended_with_one_error(store: LocalStore, code: int, *words: str) -> None:
    """It ends with this code and one error that says these words, and leaves nothing behind."""
    store.process.start()
    assert store.process.wait(60) == code, store.text
    errors = [line for line in store.text.splitlines() if line.startswith("error: ")]
    assert errors, store.text
    for word in words:
        assert word in store.text, store.text
    assert "Traceback" not in store.text, store.text
    assert " is ready." not in store.text
    store.wait_gone()


# -- what it says and what it is -----------------------------------------------------------


def test_the_banner_says_how_to_use_it(store: LocalStore) -> None:
    ports = store.ports
    doors = (
        f"raw streams {ports['ingest_port']}, acks {ports['ack_port']}, S3 {ports['s3_port']}, "
        f"REST {ports['web_port']}"
    )
    for line in (
        f"is ready. A whole store: router, putter and Valkey; data in {store.data}/",
        f"  first of all   export PUTTER_URL={store.url}",
        f"  store a file   nc -N 127.0.0.1 {ports['ingest_port']} < FILE",
        "  read it back   putter cat objects/<ObjectID>",
        f"                 curl {store.url}/file/objects/<ObjectID>",
        f"                 curl -T FILE {store.url}/file/photos/cat.jpg",
        f"  listening      {doors}, frames {ports['putter_port']}",
        "  stop           Ctrl-C",
        "                 Keep them: the secret is shown only now. More: putter keys --help",
    ):
        assert f"{line}\n" in store.text, (line, store.text)


def test_a_new_store_begins_with_an_access_key(store: LocalStore) -> None:
    [access_key] = re.findall(r"^  access key     (PK\w{18})$", store.text, re.MULTILINE)
    [secret_key] = re.findall(r"^  secret key     (\w{40})$", store.text, re.MULTILINE)
    [listed] = json.loads(store.command("keys", "list", "--json"))
    assert (listed["access_key_id"], listed["owner"]) == (access_key, "root")
    assert files_with(store.data, access_key)
    assert not files_with(store.data, secret_key)


def test_bytes_in_through_the_raw_port_and_out_by_command_and_rest(store: LocalStore) -> None:
    data = payload(300_000, "round trip")
    answer = store.send(data)
    assert (answer.ok, answer.size, answer.digest) == (True, len(data), digest(data)), answer.line
    assert store.command("cat", f"objects/{answer.object_id}") == data
    assert store.read(answer.object_id) == data


def test_it_is_three_processes(store: LocalStore) -> None:
    children = {store.child("valkey-server"), store.child("server")}
    assert store.pids() == {store.process.pid} | children


def test_nothing_listens_but_on_the_loopback_address(store: LocalStore) -> None:
    assert store.listening() == {(LOOPBACK, store.ports[name]) for name in PORTS}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("appendonly", "yes"),
        ("appendfsync", "always"),
        ("maxmemory", "0"),
        ("maxmemory-policy", "noeviction"),
        ("save", ""),
        ("port", "0"),
        ("unixsocketperm", "700"),
    ],
)
def test_the_valkey_runs_with_these_settings(store: LocalStore, name: str, value: str) -> None:
    assert store.ask_valkey("CONFIG", "GET", name) == [name, value]


def test_keys_and_sockets_are_for_us_alone(store: LocalStore) -> None:
    key = store.data / "cluster.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert len(load_keyring(key, create=False).keys) == 1
    redis = store.data / "redis"
    assert stat.S_IMODE(redis.stat().st_mode) == 0o700
    assert stat.S_IMODE((redis / "valkey.sock").stat().st_mode) == 0o700


# -- any directory, stopping, and what stays -----------------------------------------------


def deep(tmp_path: Path) -> Path:
    """So deep that no unix socket fits below it."""
    return tmp_path.joinpath(*["deep" * 6] * 5)


PLACES = {
    "awkward": lambda tmp_path: tmp_path / 'it\'s [my] "data" \\ 50% why?* größe\udce4',
    "deep": deep,
}


@pytest.mark.parametrize(
    ("place", "number"), [("awkward", signal.SIGINT), ("deep", signal.SIGTERM)]
)
def test_what_is_stored_anywhere_survives_a_stop(
    tmp_path: Path, place: str, number: signal.Signals
) -> None:
    data = payload(200_000, place)
    with local_store(tmp_path / "home", PLACES[place](tmp_path)) as store:
        answer = store.send(data)
        assert answer.ok, answer.line
        assert store.read(answer.object_id) == data
        assert store.ask_valkey("CONFIG", "GET", "appendfsync") == ["appendfsync", "always"]
        below = store.pids()
        assert len(below) == 3
        began = time.monotonic()
        os.kill(store.process.pid, number)
        assert store.process.wait(STOP_S) == 0, store.process.tail()
        assert time.monotonic() - began < STOP_S
        assert store.pids() == set()
        store.check_free()
        assert not (store.data / "redis" / "valkey.pid").exists()
        store.start()
        assert store.read(answer.object_id) == data
        second = store.send(data)
        assert second.ok
        assert second.object_id != answer.object_id
        assert store.process.stop() == 0
        assert store.pids() == set()
        assert "Traceback" not in store.text, store.text


def begun(store: LocalStore) -> bool:
    return "embedded valkey runs" in store.text


STAGES = {
    "valkey starts": lambda store: store.child("valkey-server") is not None or begun(store),
    "putter starts": lambda store: store.child("server") is not None or begun(store),
    "valkey runs": begun,
    "putter runs": lambda store: "putter listens" in store.text,
    "router starts": lambda store: "router listens" in store.text,
}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_the_start(tmp_path: Path, stage: str, number: signal.Signals) -> None:
    store = LocalStore(tmp_path)
    try:
        store.process.start()
        eventually(lambda: STAGES[stage](store), 60, every_s=0.002)
        os.kill(store.process.pid, number)
        assert store.process.wait(STOP_S) == 0, store.text
        store.wait_gone(2)
        assert "Traceback" not in store.text, store.text
        assert "error: " not in store.text, store.text
        store.check_free()
    finally:
        store.end()


def test_an_interrupt_before_there_is_anything_to_stop(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    try:
        store.process.start()
        libraries = Path(f"/proc/{store.process.pid}/maps")
        eventually(lambda: "/msgspec/" in libraries.read_text(), 60, every_s=0.001)
        os.kill(store.process.pid, signal.SIGINT)
        # As a code or, where Python itself sees to it, as a signal: shells show both as 130.
        # 0 on a machine that starts faster than this test looks.
        assert store.process.wait(STOP_S) in {0, 130, -signal.SIGINT}, store.text
        store.wait_gone(2)
        assert "Traceback" not in store.text, store.text
    finally:
        store.end()


# -- a second one --------------------------------------------------------------------------


@pytest.mark.parametrize("name", PORTS)
def test_a_second_store_on_a_port_of_the_first(
    store: LocalStore, tmp_path: Path, name: str
) -> None:
    second = LocalStore(tmp_path, **{name: store.ports[name]})
    flag = "--" + name.replace("_", "-")
    ended_with_one_error(
        second, 4, f"port {store.ports[name]} on 127.0.0.1 is already in use", flag
    )
    still_works(store)


def test_a_second_store_on_the_same_directory(store: LocalStore, tmp_path: Path) -> None:
    before = store.pids()
    second = LocalStore(tmp_path, store.data)
    began = time.monotonic()
    second.process.start()
    assert second.process.wait(60) == 1, second.text
    assert time.monotonic() - began < 5, "there was nothing to wait for"
    owner = store.process.pid
    assert f"error: another store runs on {store.data / 'redis'} (process {owner})\n" in second.text
    assert "hint: stop it, or choose another directory with --data-dir\n" in second.text
    assert "Traceback" not in second.text
    assert store.pids() == before
    still_works(store)


def test_a_second_store_that_does_not_see_the_first(store: LocalStore, tmp_path: Path) -> None:
    """As in another container on the same volume: another host, and pids that mean nothing."""
    lock = store.data / "redis" / "lock"
    text = lock.read_text()
    try:
        lock.write_text("1 elsewhere\n")
        second = LocalStore(tmp_path, store.data)
        began = time.monotonic()
        second.process.start()
        assert second.process.wait(60) == 1, second.text
        assert time.monotonic() - began < 5, "there was nothing to wait for"
    finally:
        lock.write_text(text)
    told = f"error: another store runs on {store.data / 'redis'} (process 1 on elsewhere)\n"
    assert told in second.text
    assert "waiting" not in second.text
    still_works(store)


# -- what it cannot use --------------------------------------------------------------------


def test_a_valkey_that_cannot_read_its_data_says_where_it_tells_why(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    aof = store.data / "redis" / "appendonlydir"
    aof.mkdir(parents=True)
    (aof / "appendonly.aof.1.incr.aof").write_bytes(b"this is no append-only file\r\n")
    (aof / "appendonly.aof.manifest").write_bytes(b"file appendonly.aof.1.incr.aof seq 1 type i\n")
    ended_with_one_error(
        store, 1, "valkey ended at its start", str(store.data / "redis" / "valkey.log")
    )


def test_a_putter_that_cannot_read_its_data_ends_the_store(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    node = store.data / "putter" / "node.json"
    node.parent.mkdir(parents=True)
    node.write_text("{")
    ended_with_one_error(store, 1, f"{node} is damaged", "putter ended at its start: exit code 1")


def test_a_directory_that_nobody_can_write_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = LocalStore(tmp_path / "home", tmp_path / "file" / "data")
    ended_with_one_error(store, 2, str(tmp_path / "file"))
