"""A cluster of real processes whose wires can be cut, and clients that note what they hear."""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import shutil
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests import history_kit
from tests.books_kit import send
from tests.history_kit import FOREIGN, NOTHING, History, Kind, Op, Outcome
from tests.metadata_kit import ValkeyServer, free_port
from tests.netns_kit import HUB_ADDRESS, Namespaces
from tests.relay_kit import Relay, Relays
from tests.store_kit import AOF, Answer, Cluster, Process, digest, eventually

BUCKET: Final = "chaos"
TOKEN: Final = "chaos-of-a-test"
PATIENCE_S: Final = 20.0
REPLACE_AFTER_S: Final = 8
SIZES: Final = (16, 1_000, 20_000, 70_000, 200_000)
LARGE_BYTES: Final = 2_500_000
KEYS: Final = 24
ROUTER_FLAGS: Final = (
    *("--replicas", "2", "--grace-ms", "1000", "--token", TOKEN),
    *("--replace-after-s", str(REPLACE_AFTER_S), "--rebuild", "auto"),
)


@dataclass
class Node:
    """One process of the cluster.

    Attributes:
        process: of the operating system.
        host: where clients and the others reach it.
        ports: by name: ``port`` of a putter, ``ingest``, ``acks`` and ``web`` of a router.
        directory: where its data are.
    """

    process: Process
    host: str
    ports: dict[str, int]
    directory: Path


class Wires(ABC):
    """How the processes are joined."""

    valkey_host = "127.0.0.1"

    @abstractmethod
    def host_of(self, number: int) -> str:
        """Where a process listens."""

    @abstractmethod
    def join(self, number: int, valkey: ValkeyServer, port: int) -> tuple[str, ...]:
        """What a process has to be told so that its wires can be cut.

        Args:
            number: of the process.
            valkey: that it speaks to.
            port: that the other processes connect to.
        """

    @abstractmethod
    def cut(self, number: int, *, incoming: bool, outgoing: bool) -> None:
        """Nothing gets to a process, from it, or both; nobody is told."""

    @abstractmethod
    def heal(self) -> None:
        """Everything gets everywhere."""

    def inside(self, number: int, argv: list[str]) -> list[str]:
        """The command that runs a process."""
        del number
        return argv

    @contextlib.contextmanager
    def here(self) -> Iterator[None]:
        """This thread, and what it starts, can reach everybody."""
        yield


class RelayWires(Wires):
    """A relay before each port that others connect to, and one between each process and Valkey.

    What a process itself opens to others is not cut by its own relays, but by theirs.
    """

    def __init__(self) -> None:
        self._relays = Relays()
        self._of: dict[int, tuple[Relay, Relay]] = {}

    def host_of(self, number: int) -> str:
        del number
        return "127.0.0.1"

    def join(self, number: int, valkey: ValkeyServer, port: int) -> tuple[str, ...]:
        host = f"127.0.1.{number + 1}"
        others = self._relays.add((host, port), ("127.0.0.1", port))
        to_valkey = self._relays.add((host, free_port()), ("127.0.0.1", valkey.port))
        self._of[number] = (others, to_valkey)
        url = f"redis://{to_valkey.here[0]}:{to_valkey.here[1]}"
        return ("--advertise-host", host, "--redis", url)

    def cut(self, number: int, *, incoming: bool, outgoing: bool) -> None:
        others, to_valkey = self._of[number]
        others.hold(forth=incoming, back=outgoing)
        to_valkey.hold(forth=outgoing, back=incoming)

    def heal(self) -> None:
        for relays in self._of.values():
            for relay in relays:
                relay.release()

    def close(self) -> None:
        self._relays.close()


class NamespaceWires(Wires):
    """Each process in a network namespace of its own."""

    valkey_host = HUB_ADDRESS

    def __init__(self, made: Namespaces) -> None:
        self._made = made
        self._cut: set[int] = set()

    def host_of(self, number: int) -> str:
        return self._made.address(number)

    def join(self, number: int, valkey: ValkeyServer, port: int) -> tuple[str, ...]:
        del port
        host = self._made.address(number)
        url = f"redis://{HUB_ADDRESS}:{valkey.port}"
        return ("--host", host, "--advertise-host", host, "--redis", url)

    def cut(self, number: int, *, incoming: bool, outgoing: bool) -> None:
        self._cut.add(number)
        self._made.cut(number, incoming=incoming, outgoing=outgoing)

    def heal(self) -> None:
        for number in self._cut:
            self._made.heal(number)
        self._cut.clear()

    def inside(self, number: int, argv: list[str]) -> list[str]:
        return self._made.inside(number, argv)

    @contextlib.contextmanager
    def here(self) -> Iterator[None]:
        with self._made.at_the_hub():
            yield


class ChaosCluster:
    """Putters, routers and a Valkey, on wires.

    Args:
        directory: of everything.
        wires: how they are joined.
        putters, routers: how many.
    """

    def __init__(self, directory: Path, wires: Wires, *, putters: int, routers: int) -> None:
        self.wires = wires
        self.directory = directory
        (directory / "valkey").mkdir(parents=True)
        hosts = dict.fromkeys(("127.0.0.1", wires.valkey_host))
        bind = ("--bind", *hosts, "--protected-mode", "no")
        self.valkey = ValkeyServer(directory / "valkey", *AOF, *bind)
        self._kit = Cluster(directory, self.valkey)
        _ = self._kit.keyring
        self.putters = [self._putter(number) for number in range(putters)]
        self.routers = [self._router(putters + number) for number in range(routers)]
        self.wiped: list[str] = []

    @property
    def nodes(self) -> list[Node]:
        return [*self.putters, *self.routers]

    def start(self) -> None:
        self.valkey.start()
        for node in self.nodes:
            node.process.start()
        self.wait_ready()

    def stop(self) -> None:
        self.wires.heal()
        try:
            for node in reversed(self.nodes):
                node.process.signal(18)  # SIGCONT
                node.process.stop()
        finally:
            self.valkey.stop()

    def wipe(self, node: Node) -> None:
        """Kill a putter; its data directory is lost."""
        node.process.kill()
        self.wiped.append(identity(node))
        shutil.rmtree(node.directory / "putter")

    def forget(self) -> None:
        """Kill Valkey; all that it knew is lost."""
        self.valkey.kill()
        self.valkey.forget()

    def rebuild_without(self, lost: list[str]) -> None:
        """What an operator does about disks that are lost when Valkey is, too."""
        argv = self._kit.command(
            *("rebuild", "--redis", f"redis://127.0.0.1:{self.valkey.port}", "--wait", "60"),
            *("--key-file", str(self.directory / "cluster.key")),
            *(word for node in lost for word in ("--without", node)),
        )
        done = subprocess.run(
            argv,
            cwd=self.directory,
            env=self._kit.environment(),
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def wait_ready(self, limit_s: float = 90.0) -> None:
        """Until every router has a session with every putter that runs, and serves."""

        def ready() -> None:
            for router in self.routers:
                told = self.status(router)
                linked = {each["node"] for each in told["nodes"] if each["link"] == "up"}
                assert {identity(putter) for putter in self.putters} <= linked, told["nodes"]
                status, _, body = self.http(router, "GET", "/readyz")
                assert status == 200, body

        eventually(ready, limit_s, every_s=0.2)

    def wait_redundant(self, limit_s: float) -> None:
        """Until nothing is owed, and everything is on two putters that run."""
        live = {identity(putter) for putter in self.putters}

        def redundant() -> None:
            assert self.status(self.routers[0])["repair"] == []
            for bucket in (BUCKET, "objects"):
                for key in self.names(bucket):
                    self._check_redundant(f"{bucket}/{key}", live)

        eventually(redundant, limit_s, every_s=1.0)

    def names(self, bucket: str) -> list[str]:
        """All keys of a bucket."""
        found: list[str] = []
        after: str | None = ""
        while after is not None:
            path = f"/metadata?bucket={bucket}&after={after}"
            status, _, body = self.http(self.routers[0], "GET", path)
            assert status == 200, body
            page = json.loads(body)
            found += [entry["key"] for entry in page["entries"]]
            after = page["next_after"]
        return found

    def status(self, router: Node) -> dict[str, Any]:
        """What ``GET /status`` tells; fails as an assertion if it does not answer."""
        status, _, body = self.http(router, "GET", "/status")
        assert status == 200, body
        told: dict[str, Any] = json.loads(body)
        return told

    def http(
        self,
        router: Node,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, dict[str, str], bytes]:
        """One request.

        Raises:
            AssertionError: it was not answered.
        """
        try:
            return ask(router, method, path, body, headers)
        except BROKEN as error:
            raise AssertionError(f"{method} {path}: {error!r}") from error

    # -- inside ----------------------------------------------------------------------------

    def _check_redundant(self, name: str, live: set[str]) -> None:
        status, _, body = self.http(self.routers[0], "GET", f"/metadata/{name}")
        assert status == 200, body
        for stored in json.loads(body)["objects"]:
            for extent in stored["extents"]:
                assert len(live.intersection(extent["nodes"])) >= 2, (name, extent["nodes"])

    def _putter(self, number: int) -> Node:
        ports = {"port": free_port()}
        words = (
            *("server", "--storage", "segments", "--reserve-bytes", "0"),
            *("--putter-port", str(ports["port"]), "--putter-web-port", str(free_port())),
        )
        return self._node(f"putter{number}", number, words, ports, ports["port"])

    def _router(self, number: int) -> Node:
        ports = {name: free_port() for name in ("ingest", "acks", "web")}
        words = (
            "router",
            *("--ingest-port", str(ports["ingest"]), "--ack-port", str(ports["acks"])),
            *("--web-port", str(ports["web"]), *ROUTER_FLAGS),
        )
        return self._node(f"router{number}", number, words, ports, ports["acks"])

    def _node(
        self, name: str, number: int, words: tuple[str, ...], ports: dict[str, int], port: int
    ) -> Node:
        data = self.directory / name
        data.mkdir()
        argv = self._kit.command(
            *words,
            *("--data-dir", str(data), "--key-file", str(self.directory / "cluster.key")),
            *self.wires.join(number, self.valkey, port),
        )
        log = self.directory / f"{name}.log"
        process = Process(name, self.wires.inside(number, argv), log, self._kit.environment())
        return Node(process, self.wires.host_of(number), ports, data)


BROKEN: Final = (OSError, http.client.HTTPException)


def identity(putter: Node) -> str:
    """Of a putter's data directory."""
    path = putter.directory / "putter" / "node.json"
    assert path.exists(), f"{putter.process.name} has not begun: {putter.process.tail()}"
    return str(json.loads(path.read_text())["identity"])


def ask(
    router: Node,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> tuple[int, dict[str, str], bytes]:
    """One request; status, headers (lower case), body.

    Raises:
        OSError, HTTPException: no whole answer came.
    """
    client = http.client.HTTPConnection(router.host, router.ports["web"], timeout=PATIENCE_S)
    with contextlib.closing(client):
        client.request(method, path, body, {"Authorization": f"Bearer {TOKEN}"} | (headers or {}))
        response = client.getresponse()
        got = {name.lower(): value for name, value in response.getheaders()}
        return response.status, got, response.read()


def etag_of(data: bytes) -> str:
    """The entity tag that the store gives to bytes."""
    return f"{digest(data)[:32]}-1"


@dataclass
class Clients:
    """Sixteen that write, read and delete a few names, and note each question and answer.

    Attributes:
        cluster: with whom.
        seed: of what they do.
        history: since the last `settle`.
        made: by entity tag, how its bytes are made again.
        raw: by ObjectID, the digests of acknowledged raw streams.
    """

    cluster: ChaosCluster
    seed: int
    count: int = 16
    history: History = field(default_factory=History)
    made: dict[str, tuple[str, int]] = field(default_factory=dict)
    raw: dict[str, str] = field(default_factory=dict)
    answers: int = 0
    errors: list[BaseException] = field(default_factory=list)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _starts: int = 0

    def start(self) -> None:
        """Begin, or begin again."""
        self._stopping.clear()
        self._starts += 1
        for number in range(self.count):
            rng = random.Random(f"{self.seed}/{self._starts}/{number}")
            self._threads.append(threading.Thread(target=self._guarded, args=(number, rng)))
            self._threads[-1].start()

    def stop(self) -> None:
        """Let every client end what it is at."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(6 * PATIENCE_S)
            assert not thread.is_alive(), "a client hangs"
        self._threads.clear()
        assert not self.errors, self.errors

    def wait_for_more(self, answers: int, limit_s: float = 120.0) -> None:
        """Until so many more answers came."""
        goal = self.answers + answers
        eventually(lambda: bool(self.errors) or self.answers >= goal, limit_s)
        assert not self.errors, self.errors

    def settle(self) -> None:
        """Read every name through every router, judge the history, and begin a new one.

        Of the old one stays what each name holds, and what may still happen.

        Raises:
            AssertionError: a promise was broken.
        """
        last: dict[str, str] = {}
        for router in self.cluster.routers:
            for number in range(KEYS):
                last[f"name{number}"] = self._read_at_last(router, f"name{number}")
        found = history_kit.wrongs(self.history.ops)
        assert not found, "\n".join(found[:20])
        kept: list[Op] = []
        for op in self.history.ops:
            if op.kind is Kind.PUT and op.value == last[op.key]:
                op.outcome, op.end = Outcome.DONE, min(op.end, time.monotonic())
                op.expected = None
                kept.append(op)
            elif op.kind is not Kind.GET and op.outcome is Outcome.UNKNOWN:
                kept.append(op)
        now = time.monotonic()
        kept += [
            Op(Kind.DELETE, key, NOTHING, now, now, Outcome.DONE)
            for key, value in last.items()
            if value == NOTHING
        ]
        self.history = History(kept)
        tags = {op.value for op in kept}
        self.made = {tag: how for tag, how in self.made.items() if tag in tags}

    def check_raw(self) -> None:
        """Every acknowledged raw stream is there, byte by byte."""
        for object_id, wanted in self.raw.items():
            router = self.cluster.routers[0]
            status, _, body = self.cluster.http(router, "GET", f"/file/objects/{object_id}")
            assert status == 200, (object_id, body[:300])
            assert digest(body) == wanted, object_id

    # -- inside ----------------------------------------------------------------------------

    def _guarded(self, number: int, rng: random.Random) -> None:
        try:
            while not self._stopping.is_set():
                self._act(number, rng)
                self.answers += 1
                time.sleep(rng.uniform(0.0, 0.1))
        except BaseException as error:  # noqa: BLE001 - the test's own thread looks at it
            self.errors.append(error)

    def _act(self, number: int, rng: random.Random) -> None:
        router = rng.choice(self.cluster.routers)
        key = f"name{rng.randrange(KEYS)}"
        dice = rng.random()
        who = f"client {number} by {router.process.name}"
        if dice < 0.40:
            self._put(router, key, rng, who)
        elif dice < 0.50:
            self._delete(router, key, who)
        elif dice < 0.94:
            self._get(router, key, rng, who)
        else:
            self._send(router, rng)

    def _new(self, rng: random.Random) -> tuple[str, bytes]:
        size = LARGE_BYTES if rng.random() < 0.02 else rng.choice(SIZES)
        how = (f"{rng.random()}/{time.monotonic_ns()}", size)
        data = bytes_of(how)
        self.made[etag_of(data)] = how
        return etag_of(data), data

    def _put(self, router: Node, key: str, rng: random.Random, who: str) -> None:
        tag, data = self._new(rng)
        creates = rng.random() < 0.2
        op = self.history.ask(
            *(time.monotonic(), Kind.PUT, key, tag), expected=NOTHING if creates else None, who=who
        )
        headers = {"If-None-Match": "*"} if creates else {}
        with contextlib.suppress(*BROKEN):
            status, _, body = ask(router, "PUT", f"/file/{BUCKET}/{key}", data, headers)
            if status in {200, 201}:
                assert json.loads(body)["blake3"] == digest(data), body
                history_kit.done(op, time.monotonic())
            elif status == 412:
                history_kit.refused(op, time.monotonic())

    def _delete(self, router: Node, key: str, who: str) -> None:
        op = self.history.ask(time.monotonic(), Kind.DELETE, key, who=who)
        with contextlib.suppress(*BROKEN):
            status, _, _ = ask(router, "DELETE", f"/file/{BUCKET}/{key}")
            if status in {204, 404}:
                op.kind = Kind.DELETE if status == 204 else Kind.GET
                history_kit.done(op, time.monotonic())

    def _get(self, router: Node, key: str, rng: random.Random, who: str) -> None:
        first, last = 0, None
        if rng.random() < 0.4:
            first = rng.randrange(20_000)
            last = first + rng.randrange(100_000)
        self._read(router, key, first, last, who)

    def _read(self, router: Node, key: str, first: int, last: int | None, who: str) -> Op:
        headers = {} if last is None else {"Range": f"bytes={first}-{last}"}
        op = self.history.ask(time.monotonic(), Kind.GET, key, who=who)
        with contextlib.suppress(*BROKEN):
            status, got, body = ask(router, "GET", f"/file/{BUCKET}/{key}", headers=headers)
            op.stale = "x-putter-stale" in got
            if status == 404 and "there is no file" in json.loads(body)["message"]:
                history_kit.done(op, time.monotonic(), NOTHING)
            elif status in {200, 206}:
                tag = got["etag"].strip('"')
                how = self.made.get(tag)
                whole = bytes_of(how) if how is not None else b""
                wanted = whole if last is None else whole[first : last + 1]
                history_kit.done(op, time.monotonic(), tag if body == wanted else FOREIGN)
        return op

    def _read_at_last(self, router: Node, key: str) -> str:
        found: list[str] = []

        def read() -> None:
            op = self._read(router, key, 0, None, f"at last by {router.process.name}")
            fresh = op.outcome is Outcome.DONE and not op.stale
            assert fresh, f"{key} is not served by {router.process.name}"
            found.append(op.value)

        eventually(read, 60.0, every_s=0.5)
        return found[-1]

    def _send(self, router: Node, rng: random.Random) -> None:
        data = rng.randbytes(rng.choice(SIZES))
        with contextlib.suppress(*BROKEN):
            answer = Answer(send_to(router, data))
            if answer.ok:
                assert answer.digest == digest(data)
                assert answer.object_id not in self.raw, "an ObjectID twice"
                self.raw[answer.object_id] = answer.digest


def send_to(router: Node, data: bytes) -> str:
    """One raw stream; the line that came back."""
    return send(router.ports["ingest"], data, router.host)


def bytes_of(how: tuple[str, int]) -> bytes:
    """The bytes of a version, made again."""
    seed, size = how
    return random.Random(seed).randbytes(size)
