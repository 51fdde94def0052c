"""Clients that write, overwrite, delete and read without pause, and keep books of every answer.

Afterwards the store must hold each acknowledged byte, and nothing that nobody sent. A name is
changed by one client alone, one change after the other; so what was acknowledged last, or
something that was tried later, is what its readers may see.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import random
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.store_kit import Answer, Cluster, digest, eventually, read_line
from tests.traffic_kit import connect, everything, extents

_log = logging.getLogger(__name__)
MIB = 1024 * 1024
BROKEN = (OSError, http.client.HTTPException)
REFUSALS = {503, 507}
GONE = 409
"""Redis forgot a write that was under way: send it again."""


@dataclass
class Name:
    """What was done to one name.

    Attributes:
        changes: the digests that were sent, in their order; None for a deletion.
        done: how many of them there were when the last answer came.
    """

    changes: list[str | None] = field(default_factory=list)
    done: int = 0

    @property
    def possible(self) -> list[str | None]:
        """What the name may hold: None for nothing."""
        return self.changes[self.done - 1 :] if self.done else [None, *self.changes]


@dataclass
class Traffic:
    """Clients that keep books.

    Attributes:
        store: where to.
        seed: of what they do.
        routers: whom they ask.
        deletes: whether they delete and read, too.
        sent: digest → size of every raw stream, answered or not.
        acked: ObjectID → digest and size of the answered ones, without the deleted ones.
        doomed: the same, of those whose deletion was not answered.
        deleted: ObjectIDs whose deletion was answered.
        files: what was done to each name.
        failures: what clients were told instead.
        slowest_s: how long the slowest answer was waited for.
    """

    store: Cluster
    seed: int
    routers: tuple[int, ...]
    deletes: bool = False
    sent: dict[str, int] = field(default_factory=dict)
    acked: dict[str, tuple[str, int]] = field(default_factory=dict)
    doomed: dict[str, tuple[str, int]] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    files: dict[str, Name] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    reads: int = 0
    stale_reads: int = 0
    slowest_s: float = 0.0
    stopping: threading.Event = field(default_factory=threading.Event)
    threads: list[threading.Thread] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)

    def start(self, raw: int = 6, web: int = 2) -> None:
        """Begin, or begin again."""
        self.stopping.clear()
        for number in range(raw):
            self._spawn(self._send_raw, f"raw/{number}")
        for number in range(web):
            self._spawn(self._change, f"{number}")

    def stop(self) -> None:
        """Let every client end what it is at."""
        self.stopping.set()
        for thread in self.threads:
            thread.join(90)
            assert not thread.is_alive(), "a client hangs"
        self.threads.clear()
        assert not self.errors, self.errors

    def count(self) -> int:
        """Answers so far."""
        answered = sum(each.done for each in list(self.files.values()))
        return len(self.acked) + len(self.doomed) + len(self.deleted) + answered

    def wait_for_more(self, answers: int, timeout_s: float = 60.0) -> None:
        """Until so many more answers came."""
        goal = self.count() + answers

        eventually(lambda: bool(self.errors) or self.count() >= goal, timeout_s)
        assert not self.errors, self.errors

    @property
    def names(self) -> set[str]:
        """The names of the answered raw streams."""
        return {f"objects/{object_id}" for object_id in self.acked}

    def check(self, router: int) -> None:
        """Compare the books with the store."""
        listed = self.store.names(router=router)
        back = self.deleted & set(listed)
        assert not back, f"{back} were deleted, and are there again"
        for object_id, (wanted, size) in self.acked.items():
            assert listed.pop(object_id, None) == size, f"object {object_id} was acknowledged"
            assert digest(self.store.read(f"objects/{object_id}", router)) == wanted
        acknowledged = {wanted for wanted, _ in self.acked.values()}
        for object_id, size in listed.items():
            # Its reply was lost, or told a failure after the record was durable.
            found = digest(self.store.read(f"objects/{object_id}", router))
            assert self.sent.get(found) == size, f"nobody sent object {object_id}"
            assert found not in acknowledged, f"object {object_id} is there twice"
        for name in self.files:
            eventually(lambda name=name: self._read(name, router), 30)

    # -- clients ---------------------------------------------------------------------------

    def _spawn(self, run: Callable[[random.Random, str], None], label: str) -> None:
        rng = random.Random(f"{self.seed}/{label}/{self.count()}")

        def guarded() -> None:
            try:
                run(rng, label)
            except BaseException as error:  # noqa: BLE001 - the test's own thread looks at it
                _log.warning("a client ends: %r", error)
                self.errors.append(error)

        self.threads.append(threading.Thread(target=guarded))
        self.threads[-1].start()

    def _data(self, rng: random.Random) -> bytes:
        large = rng.random() < 0.08
        return rng.randbytes(rng.randint(MIB, 6 * MIB) if large else rng.randint(1, 150_000))

    def _send_raw(self, rng: random.Random, _label: str) -> None:
        mine: list[str] = []
        while not self.stopping.is_set():
            if self.deletes and len(mine) > 3 and rng.random() < 0.4:
                self._delete_raw(mine.pop(rng.randrange(len(mine))), rng.choice(self.routers))
                continue
            data = self._data(rng)
            router = rng.choice(self.routers)
            self.sent[digest(data)] = len(data)
            try:
                with self._timed():
                    answer = Answer(send(self.store.ingest_ports[router], data))
            except BROKEN as error:
                self._failed(str(error))
                continue
            if answer.ok:
                assert (answer.size, answer.digest) == (len(data), digest(data))
                known = (self.acked, self.doomed, self.deleted)
                assert all(answer.object_id not in each for each in known), "an ObjectID twice"
                self.acked[answer.object_id] = (answer.digest, answer.size)
                mine.append(answer.object_id)
            else:
                assert answer.line == "" or answer.line.startswith("OBJECT WRITE FAILED ")
                self._failed(answer.line)

    def _delete_raw(self, object_id: str, router: int) -> None:
        self.doomed[object_id] = self.acked.pop(object_id)
        try:
            status, body = self._ask("DELETE", f"objects/{object_id}", router)
        except BROKEN as error:
            self._failed(str(error))
            return
        if status == 204:
            del self.doomed[object_id]
            self.deleted.add(object_id)
        else:
            assert status in REFUSALS, f"object {object_id} was acknowledged: {body!r}"
            self._failed(body.decode())

    def _change(self, rng: random.Random, label: str) -> None:
        while not self.stopping.is_set():
            name = f"photos/{label}-{rng.randrange(4)}"
            router = rng.choice(self.routers)
            what = rng.random() if self.deletes else 0.0
            try:
                if what < 0.6:
                    self._put(name, self._data(rng), router)
                elif what < 0.8:
                    self._read(name, router)
                else:
                    self._delete(name, router)
            except BROKEN as error:
                self._failed(str(error))

    def _put(self, name: str, data: bytes, router: int) -> None:
        known = self.files.setdefault(name, Name())
        known.changes.append(digest(data))
        status, body = self._ask("PUT", name, router, data)
        if status in {200, 201}:
            assert json.loads(body)["blake3"] == known.changes[-1]
            known.done = len(known.changes)
        else:
            gone = status == GONE and json.loads(body)["code"] == "gone"
            assert gone or status in REFUSALS, body
            self._failed(body.decode())

    def _delete(self, name: str, router: int) -> None:
        known = self.files.setdefault(name, Name())
        possible = known.possible
        known.changes.append(None)
        status, body = self._ask("DELETE", name, router)
        if status == 204:
            known.done = len(known.changes)
        elif status == 404:
            # There was nothing to delete yet; an unanswered change may still come to light.
            assert None in possible, f"{name} was acknowledged, and is not there"
        else:
            assert status in REFUSALS, body
            self._failed(body.decode())

    def _read(self, name: str, router: int) -> bool:
        """Read one name; False if it is not served now."""
        known = self.files.get(name, Name())
        with self._timed():
            status, headers, body = self.store.http("GET", f"/file/{name}", router=router)
        if status in REFUSALS:
            self._failed(body.decode())
            return False
        assert status in {200, 404}, body
        found = digest(body) if status == 200 else None
        if "x-putter-stale" in headers:
            # Another router may have changed it meanwhile.
            assert found in known.changes, f"{name} is nothing that was sent: {found}"
            self.stale_reads += 1
            return False
        if found not in known.possible:
            older = found in known.changes
            what = "older than what was acknowledged" if older else "nothing that was sent"
            raise AssertionError(f"{name} is {what}: {found}, not of {known.possible}")
        self.reads += 1
        return True

    def _ask(
        self, method: str, name: str, router: int, body: bytes | None = None
    ) -> tuple[int, bytes]:
        """One request for a file; status and body."""
        with self._timed():
            status, _, told = self.store.http(method, f"/file/{name}", body, router=router)
        return status, told

    @contextlib.contextmanager
    def _timed(self) -> Iterator[None]:
        began_s = time.monotonic()
        try:
            yield
        finally:
            self.slowest_s = max(self.slowest_s, time.monotonic() - began_s)

    def _failed(self, reason: str) -> None:
        self.failures.append(reason)
        time.sleep(0.05)


def send(port: int, data: bytes, host: str = "127.0.0.1") -> str:
    """One raw stream. An answer that came before a broken send counts, too."""
    with connect(port, 60.0, host) as client:
        with contextlib.suppress(OSError):
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
        return read_line(client)


@contextlib.contextmanager
def traffic(
    store: Cluster, seed: int, routers: tuple[int, ...], *, deletes: bool = False
) -> Iterator[Traffic]:
    """Clients that write, for a while."""
    clients = Traffic(store, seed, routers, deletes)
    clients.start()
    try:
        yield clients
    finally:
        clients.stop()


def no_number_twice(store: Cluster, router: int = 0) -> None:
    """No ticket, ObjectID or stamp belongs to two versions."""
    told = everything(store, router)
    stamps = [each["stamp"] for each in told.values()]
    assert len(set(stamps)) == len(stamps)
    objects = [stored["object"] for each in told.values() for stored in each["objects"]]
    assert len(set(objects)) == len(objects)
    used: set[int] = set()
    for name, each in told.items():
        for tickets, _ in extents(each):
            assert not used & tickets, f"{name} has tickets of another file"
            used |= tickets


def no_traceback(store: Cluster) -> None:
    """No process met an error that it did not expect."""
    for process in store.processes:
        assert "Traceback" not in process.text(), f"{process.name}: {process.tail()}"


@contextlib.contextmanager
def small_disk(place: Path, size: int) -> Iterator[None]:
    """A file system of its own for a putter's data; skips where none may be mounted."""
    place.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)],
        check=False,
        capture_output=True,
    )
    if mounted.returncode:
        pytest.skip("no right to mount a small disk")
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)
