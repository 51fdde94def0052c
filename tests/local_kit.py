"""A whole store from one command, seen from outside: its processes, sockets, and Valkey."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from tests.metadata_kit import ValkeyServer, free_port
from tests.store_kit import Answer, Cluster, Process, eventually
from tests.traffic_kit import connect

PORTS: Final = (
    "putter_port", "ingest_port", "ack_port", "s3_port", "web_port", "putter_web_port",
)  # fmt: skip
READY_S: Final = 60.0
GONE_S: Final = 15.0
RELEASED_S: Final = 2.0
MARK: Final = "STORE_UNDER_TEST"
_LISTENING: Final = "0A"


class LocalStore:
    """``python -m putter router`` with nothing configured but its ports and its directory.

    Args:
        home: the working directory, and the log's; made if it is not there.
        data: the data directory; ``home / "data"`` if None.
        ports: those that are not just any free ones, and other settings that are numbers.
    """

    def __init__(self, home: Path, data: Path | None = None, **ports: int) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.home = home
        self.data = data or home / "data"
        self.ports = {name: free_port() for name in PORTS} | ports
        self._web = Cluster(home, ValkeyServer(home), web_ports=[self.ports["web_port"]])
        argv = [sys.executable, "-m", "putter", "router"]
        self.process = Process("store", argv, home / "store.log", self.environment)

    @property
    def environment(self) -> dict[str, str]:
        """What the store and its clients are told, and a mark by which they are found."""
        ports = {f"PUTTER_{name.upper()}": str(port) for name, port in self.ports.items()}
        return (
            self._web.environment()
            | ports
            | {"PUTTER_DATA_DIR": str(self.data), "PUTTER_URL": self.url, MARK: str(self.home)}
        )

    @property
    def url(self) -> str:
        """The web door."""
        return f"http://127.0.0.1:{self.ports['web_port']}"

    def start(self) -> None:
        """Start it and wait until it says that it is ready."""
        before = self.starts
        self.process.start()
        self.wait_ready(before + 1)

    @property
    def starts(self) -> int:
        """How often it has said so."""
        return self.text.count(" is ready.")

    @property
    def text(self) -> str:
        """The log and the banners."""
        return self.process.text()

    def wait_ready(self, starts: int) -> None:
        deadline = time.monotonic() + READY_S
        while self.starts < starts:
            assert self.process.alive, self.process.tail()
            assert time.monotonic() < deadline, self.process.tail()
            time.sleep(0.02)

    def send(self, data: bytes) -> Answer:
        """One raw stream."""
        with connect(self.ports["ingest_port"]) as client:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            return Answer(b"".join(iter(lambda: client.recv(65_536), b"")).decode())

    def read(self, object_id: str) -> bytes:
        """An object by REST."""
        return self._web.read(f"objects/{object_id}")

    def command(self, *words: str) -> bytes:
        """A command of the command line that ends with 0; what it printed."""
        argv = [sys.executable, "-m", "putter", *words]
        done = subprocess.run(
            argv,
            cwd=self.home,
            env=self.environment,
            capture_output=True,
            timeout=READY_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        assert done.stderr == b""
        return done.stdout

    # -- its processes ---------------------------------------------------------------------

    def pids(self) -> set[int]:
        """All processes of this store, wherever they hang in the tree of processes."""
        return {pid for pid in _all_pids() if self._owns(pid)}

    def child(self, name: str) -> int | None:
        """The pid of ``valkey-server``, or of the ``server`` that is the putter."""
        for pid in _all_pids():
            if _parent(pid) == self.process.pid and self._is(pid, name):
                return pid
        return None

    def wait_child(self, name: str, other_than: int | None = None) -> int:
        """The pid of a child that runs, once there is one."""
        found: int | None = None

        def runs() -> bool:
            nonlocal found
            found = self.child(name)
            return found not in {None, other_than}

        eventually(runs, READY_S, every_s=0.01)
        assert found is not None
        return found

    def wait_gone(self, timeout_s: float = GONE_S) -> None:
        """Until no process of this store is left."""

        def gone() -> None:
            left = {pid: _command(pid) for pid in self.pids()}
            assert not left, (left, self.process.tail())

        eventually(gone, timeout_s)

    def check_free(self) -> None:
        """No port and no directory of it is held, at the latest a moment after its end."""
        for name in PORTS:
            eventually(lambda port=self.ports[name]: _is_free(port), RELEASED_S)
        for place in ("redis/lock", "redis/children.lock", "putter/lock"):
            eventually(lambda lock=self.data / place: _is_unlocked(lock), RELEASED_S)

    def end(self) -> None:
        """End whatever is left of it, by pid."""
        with contextlib.suppress(AssertionError):
            self.process.stop()
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)

    def _is(self, pid: int, name: str) -> bool:
        words = _command(pid)
        if any(word.endswith("putter/local/leash.py") for word in words):
            return False  # it is not yet what it will be
        return any(Path(word.split(" ")[0]).name == name for word in words)

    def _owns(self, pid: int) -> bool:
        with contextlib.suppress(OSError):
            mark = f"{MARK}={self.home}".encode()
            if mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                return _state(pid) != "Z"
            # Valkey writes its title over its environment, but works in its directory.
            at = os.fsencode(Path(f"/proc/{pid}/cwd").readlink())
            if at == os.fsencode(self.data / "redis"):
                return _state(pid) != "Z"
        return False

    # -- its sockets and its Valkey --------------------------------------------------------

    def listening(self) -> set[tuple[str, int]]:
        """Address (as in ``/proc/net``) and port of every TCP socket on which it listens."""
        inodes = set()
        for pid in self.pids():
            for handle in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    inodes.update(re.findall(r"^socket:\[(\d+)\]$", str(handle.readlink())))
        found = set()
        for table in ("tcp", "tcp6", "udp", "udp6"):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[9] in inodes and (table.startswith("udp") or fields[3] == _LISTENING):
                    address, _, port = fields[1].rpartition(":")
                    found.add((address, int(port, 16)))
        return found

    def ask_valkey(self, *words: str) -> list[str]:
        """One command over the unix socket; the bulk strings of the reply."""
        (path,) = re.findall(r'^unixsocket "(.*)"$', self.valkey_config, re.MULTILINE)
        request = f"*{len(words)}\r\n" + "".join(f"${len(w)}\r\n{w}\r\n" for w in words)
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(path.replace('\\"', '"').replace("\\\\", "\\"))
            client.sendall(request.encode())
            with client.makefile("rb") as reply:
                return list(_bulk_strings(reply))

    @property
    def valkey_config(self) -> str:
        """The text of its configuration file."""
        return (self.data / "redis" / "valkey.conf").read_bytes().decode(errors="surrogateescape")


@contextlib.contextmanager
def local_store(home: Path, data: Path | None = None, **ports: int) -> Iterator[LocalStore]:
    """A store that is ready; nothing of it is left afterwards."""
    store = LocalStore(home, data, **ports)
    try:
        store.start()
        yield store
    finally:
        store.end()


def _bulk_strings(reply: BinaryIO) -> Iterator[str]:
    head = reply.readline()
    assert head.startswith(b"*"), head
    for _ in range(int(head[1:])):
        size = reply.readline()
        assert size.startswith(b"$"), size
        yield "" if size == b"$-1\r\n" else reply.read(int(size[1:]) + 2)[:-2].decode()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen()
        except OSError:
            return False
    return True


def _is_unlocked(path: Path) -> bool:
    try:
        with path.open("r+b") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return True
    except BlockingIOError:
        return False
    return True


def _all_pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _command(pid: int) -> list[str]:
    with contextlib.suppress(OSError):
        data = Path(f"/proc/{pid}/cmdline").read_bytes()
        return [os.fsdecode(word) for word in data.split(b"\0") if word]
    return []


def _parent(pid: int) -> int | None:
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return None


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
