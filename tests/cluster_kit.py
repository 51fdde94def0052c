"""A cluster of `putter cluster start`, seen from outside: its commands, doors and processes."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tests.metadata_kit import ValkeyServer
from tests.store_kit import Answer, Cluster, Process, eventually, send_raw

READY: Final = "The cluster is ready"
READY_S: Final = 90.0
COMMAND_S: Final = 120.0
MARK: Final = "CLUSTER_UNDER_TEST"


class LocalCluster:
    """A supervisor as a process of its own, on any free ports.

    Args:
        home: the working directory, and the output's; made if it is not there.
        flags: of the command.
    """

    def __init__(self, home: Path, *flags: str, name: str = "supervisor") -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.home = home
        self.data = home / "cluster-data"
        self._doors = Cluster(home, ValkeyServer(home))
        argv = self.argv("start", "--router-base", "0", "--putter-base", "0", *flags)
        self.process = Process(name, argv, home / f"{name}.out", self.environment)

    @property
    def environment(self) -> dict[str, str]:
        return self._doors.environment() | {MARK: str(self.home)}

    def argv(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "putter", "cluster", *words]

    @property
    def text(self) -> str:
        """What the supervisor showed, of all its starts."""
        return self.process.text()

    def start(self) -> None:
        """Start it and wait until it says that it is ready."""
        before = self.text.count(READY)
        self.process.start()
        deadline = time.monotonic() + READY_S
        while self.text.count(READY) == before:
            assert self.process.alive, self.process.tail()
            assert time.monotonic() < deadline, self.process.tail()
            time.sleep(0.05)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """One command of the group, in another terminal as it were."""
        return subprocess.run(
            self.argv(*words),
            cwd=self.home,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )

    def child(self, name: str) -> dict[str, Any]:
        """A process as the status tells of it."""
        return next(each for each in self.status()["children"] if each["name"] == name)

    def status(self) -> dict[str, Any]:
        done = self.run("status", "--json")
        assert done.returncode == 0, done.stderr
        told: dict[str, Any] = json.loads(done.stdout)
        return told

    def wait_child(self, name: str, state: str, other_than: int | None = None) -> dict[str, Any]:
        """A process once it is in a state, and is another one than before."""

        def there() -> None:
            found = self.child(name)
            assert found["state"] == state, self.process.tail()
            assert found["pid"] != other_than or other_than is None

        eventually(there, READY_S)
        return self.child(name)

    def send(self, data: bytes, router: int) -> Answer:
        """One raw stream through a router."""
        port = self.child(f"router{router}")["ports"]["ingest_port"]
        return Answer(send_raw(port, data))

    def read(self, name: str, router: int) -> bytes:
        """A file through a router."""
        self._doors.web_ports = [self.child(f"router{router}")["ports"]["web_port"]]
        return self._doors.read(name)

    def log(self, name: str) -> str:
        """The log file of a process."""
        return (self.data / "logs" / f"{name}.log").read_text()

    # -- its processes ---------------------------------------------------------------------

    def pids(self) -> dict[int, str]:
        """All processes of this cluster, wherever they hang in the tree of processes."""
        found = {}
        for path in Path("/proc").iterdir():
            if path.name.isdigit() and self._owns(path):
                found[int(path.name)] = (path / "comm").read_text().strip()
        return found

    def end(self) -> None:
        """End whatever is left of it, by pid."""
        with contextlib.suppress(AssertionError):
            self.process.stop()
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)

    def _owns(self, process: Path) -> bool:
        with contextlib.suppress(OSError):
            if (process / "stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return False
            mark = f"{MARK}={self.home}".encode()
            if mark in (process / "environ").read_bytes().split(b"\0"):
                return True
            # Valkey writes its title over its environment, but works in its directory.
            return (process / "cwd").readlink() == self.data / "valkey"
        return False


@contextlib.contextmanager
def local_cluster(home: Path, *flags: str) -> Iterator[LocalCluster]:
    """One that is ready; nothing of it is left afterwards."""
    made = LocalCluster(home, *flags)
    try:
        made.start()
        yield made
    finally:
        made.end()
