"""Another cluster key takes the place of the first, under load, and nobody notices."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from common.keys import Keyring, generate_key_line, load_keyring, parse_key_file
from tests.store_kit import Cluster, Process, cluster, eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
FLAGS = ("--grace-ms", "0")


class Load:
    """Writes and reads through both routers until it is told to stop."""

    def __init__(self, store: Cluster, old: dict[str, bytes]) -> None:
        self.done = 0
        self.failures: list[str] = []
        self.written: dict[str, bytes] = {}
        self._store = store
        self._old = old
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(number,)) for number in range(4)]

    @contextmanager
    def running(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join(60)

    def more(self, count: int = 20) -> None:
        """Wait until so many more are done, or something failed."""
        wanted = self.done + count

        def reached() -> None:
            assert self.failures or self.done >= wanted

        eventually(reached)
        assert self.failures == []

    def _work(self, number: int) -> None:
        turn = 0
        while not self._stop.is_set():
            turn += 1
            try:
                self._one(number, turn)
            except Exception as error:  # noqa: BLE001 - the test tells it
                self.failures.append(repr(error))
                return
            self.done += 1

    def _one(self, number: int, turn: int) -> None:
        router = (number + turn) % 2
        data = os.urandom((10, 3_000, 200_000)[turn % 3])
        name = f"load/{number}-{turn}"
        status, _, body = self._store.http("PUT", f"/file/{name}", data, router=router)
        assert status == 201, body
        self.written[name] = data
        assert self._store.read(name, router=1 - router) == data
        answer = self._store.send(data, router=router)
        assert answer.line.startswith("OBJECT WRITTEN OK"), answer.line
        self.written[f"objects/{answer.line.split()[3]}"] = data
        old, expected = list(self._old.items())[turn % len(self._old)]
        assert self._store.read(old, router=router) == expected


def write_keys(store: Cluster, *lines: str) -> Keyring:
    path = store.directory / "cluster.key"
    fresh = path.with_suffix(".new")
    fresh.touch(mode=0o600)
    fresh.write_text("\n".join(lines) + "\n")
    fresh.rename(path)
    return load_keyring(path, create=False)


def read_again(processes: list[Process], said: str = "read the cluster keys again") -> None:
    """SIGHUP, and wait for what it leads to."""
    before = {process.name: process.text().count(said) for process in processes}
    for process in processes:
        process.signal(signal.SIGHUP)

    def all_have() -> None:
        for process in processes:
            assert process.text().count(said) > before[process.name], process.tail()

    eventually(all_have)


def needed(store: Cluster, putter: int) -> set[str]:
    """What the command says that a putter needs."""
    words = ("keys", "needed", "--putter", f"127.0.0.1:{store.putter_ports[putter]}", "--json")
    done = subprocess.run(
        store.command(*words),
        env=store.environment() | {"PUTTER_KEY_FILE": str(store.directory / "cluster.key")},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return {each["id"] for each in json.loads(done.stdout)}


def test_a_key_takes_the_place_of_another_under_load(tmp_path: Path) -> None:
    first, second = generate_key_line(), generate_key_line()
    old_id = parse_key_file(first, "first").writing.key_id
    new_id = parse_key_file(second, "second").writing.key_id
    home = tmp_path / "s"
    home.mkdir()
    (home / "cluster.key").touch(mode=0o600)
    (home / "cluster.key").write_text(first + "\n")
    with cluster(
        home,
        putters=2,
        routers=2,
        storage="segments",
        router_flags=FLAGS,
        putter_flags=("--encrypt", "on"),
    ) as store:
        old = {f"old/{n}": os.urandom(size) for n, size in enumerate((1, 5_000, 3_000_000))}
        for name, data in old.items():
            assert store.http("PUT", f"/file/{name}", data)[0] == 201
        load = Load(store, old)
        with load.running():
            load.more()
            # A key that would write, and that nobody knows yet, is not taken.
            write_keys(store, second, first)
            read_again(store.processes, "is new to this process")
            load.more()
            # Known everywhere first, one process after the other.
            write_keys(store, first, second)
            for process in store.processes:
                read_again([process])
                load.more(5)
            # Then it writes, here before there.
            write_keys(store, second, first)
            for process in store.processes:
                read_again([process])
                load.more(5)
            load.more()
            # As long as something names the old key, no putter lets it go.
            write_keys(store, second)
            read_again(store.putters, f"lacks {old_id}, which checksums on this disk were made")
            load.more()
        assert load.failures == []
        assert needed(store, 0) == {old_id, new_id}
        for putter in store.putters:
            assert f"is wrapped with cluster key {new_id}" in putter.text()
        write_keys(store, second, first)
        read_again(store.processes)
        for name, data in {**old, **load.written}.items():
            assert store.read(name) == data, name
        kept = os.urandom(100_000)
        assert store.http("PUT", "/file/new/kept", kept)[0] == 201
        for name in {**old, **load.written}:
            assert store.http("DELETE", f"/file/{name}")[0] == 204
        write_keys(store, second)

        def let_go() -> None:
            """What was deleted is freed; then the old key may go."""
            read_again(store.putters, "e cluster keys")
            for putter in store.putters:
                assert "cluster keys are gone" in putter.text(), putter.tail()

        eventually(let_go)
        read_again(store.routers)
        assert store.read("new/kept") == kept
        assert needed(store, 0) | needed(store, 1) == {new_id}
        for process in store.processes:
            process.stop()
            process.start()
        for router in range(2):
            store.wait_ready(router)
        assert store.read("new/kept") == kept
        assert store.http("PUT", "/file/new/more", b"more")[0] == 201
        assert store.read("new/more") == b"more"
