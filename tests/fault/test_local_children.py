"""A whole store from one command whose processes are killed, one by one or the one above them.

Every client remembers what was acknowledged; whatever dies, those bytes come back identical.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import re
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from putter.local.restarts import backoff_ms
from tests.local_kit import LocalStore, local_store
from tests.store_kit import digest, eventually
from tests.traffic_kit import SOAK

pytestmark = pytest.mark.slow
CLIENTS = 4
OBJECT_BYTES_MAX = 60_000
ROUNDS = 10 if SOAK else 2
SOCKETS = "putter-*"
GONE_S = 10.0


@dataclass
class Clients:
    """They write without pause and keep books.

    Attributes:
        acked: ObjectID → size and digest.
        refused: how many streams got no OK.
    """

    store: LocalStore
    acked: dict[str, tuple[int, str]] = field(default_factory=dict)
    refused: int = 0
    errors: list[BaseException] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)

    def run(self, seed: int) -> None:
        rng = random.Random(f"local/{seed}")
        try:
            while not self.stopping.is_set():
                self.write(rng.randbytes(rng.randint(1, OBJECT_BYTES_MAX)))
        except BaseException as error:  # noqa: BLE001 - the test's own thread looks at it
            self.errors.append(error)

    def write(self, data: bytes) -> None:
        try:
            answer = self.store.send(data)
        except OSError:
            self.refused += 1
            self.stopping.wait(0.05)
            return
        if answer.ok:
            assert (answer.size, answer.digest) == (len(data), digest(data))
            assert answer.object_id not in self.acked, "an ObjectID was used twice"
            self.acked[answer.object_id] = (answer.size, answer.digest)
        else:
            assert answer.line == "" or answer.line.startswith("OBJECT WRITE FAILED ")
            self.refused += 1

    def wait_for_more(self, answers: int) -> None:
        goal = len(self.acked) + answers

        def enough() -> None:
            assert not self.errors, self.errors
            assert len(self.acked) >= goal, self.store.process.tail()

        eventually(enough, 60)

    def check(self) -> None:
        """Everything that was acknowledged is there, byte by byte."""
        for object_id, (size, wanted) in self.acked.items():
            data = self.store.read(object_id)
            assert (len(data), digest(data)) == (size, wanted), object_id


@contextlib.contextmanager
def writing(store: LocalStore) -> Iterator[Clients]:
    """Clients that write, for a while."""
    clients = Clients(store)
    threads = [threading.Thread(target=clients.run, args=(n,)) for n in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield clients
    finally:
        clients.stopping.set()
        for thread in threads:
            thread.join(90)
    assert not any(thread.is_alive() for thread in threads), "a client hangs"
    assert not clients.errors, clients.errors


def pauses(store: LocalStore, child: str) -> list[int]:
    """The pauses before the restarts of a child, as the log tells them."""
    lines = [line for line in store.text.splitlines() if "a child died" in line]
    assert all("how='killed by signal 9'" in line for line in lines), lines
    return [
        int(ms) for line in lines for ms in re.findall(rf"child={child} .*pause_ms=(\d+)", line)
    ]


# -- the children --------------------------------------------------------------------------


def test_children_killed_during_writes_are_started_again(tmp_path: Path) -> None:
    with local_store(tmp_path) as store:
        killed = {"valkey-server": 0, "server": 0}
        with writing(store) as clients:
            clients.wait_for_more(20)
            for _ in range(ROUNDS):
                for name in killed:
                    victim = store.wait_child(name)
                    os.kill(victim, signal.SIGKILL)
                    killed[name] += 1
                    store.wait_child(name, other_than=victim)
                    clients.wait_for_more(20)
        clients.check()
        for name, child in (("valkey-server", "valkey"), ("server", "putter")):
            told = pauses(store, child)
            assert told == [backoff_ms(n) for n in range(1, killed[name] + 1)]
            runs_again = re.findall(rf"a child runs again .*child={child} ", store.text)
            assert len(runs_again) == killed[name]
        below = store.pids()
        assert len(below) == 3
        assert "Traceback" not in store.text, store.text
        assert store.process.stop() == 0
        assert store.pids() == set()


def test_both_children_killed_at_once(tmp_path: Path) -> None:
    with local_store(tmp_path) as store:
        with writing(store) as clients:
            clients.wait_for_more(10)
            for victim in (store.wait_child("valkey-server"), store.wait_child("server")):
                os.kill(victim, signal.SIGKILL)
            clients.wait_for_more(20)
        clients.check()
        assert "Traceback" not in store.text, store.text


# -- the one above them --------------------------------------------------------------------


def test_a_killed_parent_leaves_nothing_and_the_next_start_has_everything(tmp_path: Path) -> None:
    with local_store(tmp_path) as store:
        before: Clients | None = None
        for _ in range(ROUNDS):
            with writing(store) as clients:
                clients.wait_for_more(30)
                store.process.kill()
                store.wait_gone(GONE_S)
            store.check_free()
            assert not (store.data / "redis" / "valkey.pid").exists(), "it was not stopped, but cut"
            store.start()
            clients.check()
            if before is not None:
                assert not before.acked.keys() & clients.acked.keys()
                before.check()
            before = clients
        assert "Traceback" not in store.text, store.text


def test_the_next_start_need_not_wait_for_the_end_of_the_last(tmp_path: Path) -> None:
    with local_store(tmp_path) as store:
        with writing(store) as clients:
            clients.wait_for_more(30)
            clients.stopping.set()
            store.process.kill()
            store.start()
        clients.check()


STAGES = {
    "valkey": lambda store: store.pids() - {store.process.pid},
    "putter": lambda store: store.child("server") is not None,
    "router": lambda store: "router listens" in store.text,
}


@pytest.mark.parametrize("stage", STAGES)
def test_a_parent_killed_during_its_start_leaves_nothing(tmp_path: Path, stage: str) -> None:
    store = LocalStore(tmp_path)
    try:
        store.process.start()
        eventually(lambda: bool(STAGES[stage](store)), 60, every_s=0.002)
        store.process.kill()
        store.wait_gone(GONE_S)
        store.check_free()
    finally:
        store.end()


# -- children that outlive it --------------------------------------------------------------


@pytest.mark.parametrize("names", [("valkey-server",), ("server",), ("valkey-server", "server")])
def test_children_that_outlive_their_parent_are_stopped_by_the_next_start(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    data = random.Random(7).randbytes(100_000)
    with local_store(tmp_path) as store:
        answer = store.send(data)
        orphans = {store.wait_child(name) for name in names}
        for orphan in orphans:
            os.kill(orphan, signal.SIGSTOP)  # they hear of nothing
        store.process.kill()
        eventually(lambda: store.pids() == orphans, GONE_S)
        store.start()
        told = re.findall(r"stopping what a killed store left behind .*pid=(\d+)", store.text)
        assert {int(pid) for pid in told} == orphans
        assert not orphans & store.pids()
        assert store.read(answer.object_id) == data
        assert store.send(data).ok


def test_a_socket_that_a_killed_store_left_elsewhere_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Elsewhere, as no path below so deep a directory is short enough for one."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        monkeypatch.setenv("TMPDIR", name)
        deep = tmp_path.joinpath(*["deep" * 6] * 5)
        with local_store(tmp_path / "home", deep) as store:
            (first,) = Path(name).glob(SOCKETS)
            assert stat.S_IMODE(first.stat().st_mode) == 0o700
            store.process.kill()
            store.wait_gone(GONE_S)
            assert [*Path(name).glob(SOCKETS)] == [first]
            store.start()
            (second,) = Path(name).glob(SOCKETS)
            assert second != first
            assert store.send(b"x" * 1000).ok
            assert store.process.stop() == 0
            assert [*Path(name).glob(SOCKETS)] == []


def test_a_child_that_hangs_is_told_soon_and_named_at_the_end(tmp_path: Path) -> None:
    """As a store sees it that starts where another was killed."""
    with local_store(tmp_path / "one") as store:
        lock = store.data / "redis" / "children.lock"
        hold = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
        store.process.kill()
        store.wait_gone(GONE_S)
        with lock.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            argv = [sys.executable, "-c", hold]
            stuck = subprocess.Popen(argv, pass_fds=(file.fileno(),), cwd=tmp_path)
        try:
            before = len(store.text)
            began = time.monotonic()
            store.process.start()
            eventually(lambda: "waiting for what a killed" in store.text[before:], 10)
            assert time.monotonic() - began < 4
            assert f"who='{stuck.pid} (python" in store.text[before:]
            assert store.process.wait(40) == 1
            told = store.text[before:]
            assert f"does not end: process {stuck.pid} (python" in told
            assert f"hint: look at it, then: kill -9 {stuck.pid}\n" in told
            assert "Traceback" not in told
        finally:
            stuck.kill()
            stuck.wait()
        store.start()


# -- the leash where the kernel does not watch ---------------------------------------------

PARENT = """
import subprocess, sys, os
watch = "import sys; from putter.local.leash import _watch; sys.exit(_watch(%d, sys.argv[1:]))"
leash = subprocess.Popen([sys.executable, "-c", watch % os.getpid(), sys.executable, "-c", CHILD])
print(leash.pid, flush=True)
sys.exit(leash.wait())
"""
CHILD = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"


@contextlib.contextmanager
def leashed() -> Iterator[tuple[subprocess.Popen[bytes], int, int]]:
    """A parent, the watcher and the program that it watches."""
    script = f"CHILD = {CHILD!r}\n{PARENT}"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        leash, program = int(parent.stdout.readline()), int(parent.stdout.readline())
        try:
            yield parent, leash, program
        finally:
            parent.kill()
            for pid in (leash, program):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def runs(pid: int) -> bool:
    with contextlib.suppress(OSError):
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state not in {"Z", "X"}
    return False


def test_a_watched_program_ends_with_its_parent() -> None:
    with leashed() as (parent, leash, program):
        assert runs(leash)
        assert runs(program)
        parent.kill()
        eventually(lambda: not runs(program) and not runs(leash), GONE_S)


def test_a_watched_program_is_stopped_through_its_leash() -> None:
    with leashed() as (parent, leash, program):
        os.kill(leash, signal.SIGTERM)
        eventually(lambda: not runs(program), GONE_S)
        assert parent.wait(GONE_S) != 0


def test_a_program_whose_parent_is_gone_already_is_not_started(tmp_path: Path) -> None:
    from putter.local.leash import leash_command

    made = tmp_path / "made"
    nobody = 1 if os.getpid() != 1 else 2
    command = leash_command(nobody, ["/usr/bin/touch", str(made)])
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (1, "the parent is gone already\n")
    assert not made.exists()
