"""Whatever dies in the middle of S3 requests: what is told holds, and nothing else is left of them.

Four requests are under way when something dies: a PUT and an UploadPart with half of their bytes
sent, a GET with half of them taken, and a CompleteMultipartUpload that has begun to write.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any

import pytest

from common.meta.schema import lease_key
from tests.books_kit import no_traceback
from tests.s3_door_kit import head_of
from tests.s3_kit import Signer, Told, completion_of, s3_cluster
from tests.store_kit import Cluster, eventually
from tests.traffic_kit import eventually_clean, object_values, on_disk, payload, redis, reset

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
SENT, TAKEN, PART = 6_000_000, 16_000_000, 5_300_000
PARTS = 3
FLAGS = ("--grace-ms", "1000", "--idle-timeout-ms", "20000", "--redis-patience-ms", "10000")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    directory: Path = tmp_path_factory.mktemp("deaths")
    with s3_cluster(directory, putters=2, router_flags=FLAGS) as made:
        assert Signer(made.s3_ports[0]).ask("PUT", "/deaths").status == 200
        yield made
        nothing_is_left(made)


class Halfway:
    """One request of which one half is done; ``None`` from `finish`: no whole answer came."""

    def __init__(self, signer: Signer, method: str, path: str, body: bytes = b"") -> None:
        self._stack = contextlib.ExitStack()
        self._wire = self._stack.enter_context(signer.wire())
        self._wire.settimeout(60)
        self._rest = memoryview(body)[len(body) // 2 :]
        length = {"content-length": str(len(body))} if body else {}
        every, _ = signer.signed(method, path, length)
        self._wire.sendall(head_of(method, path, every))
        self._wire.sendall(memoryview(body)[: len(body) // 2])
        self._response = HTTPResponse(self._wire, method=method)
        self._stack.callback(self._response.close)
        self._taken = b""
        if not body:
            self._response.begin()
            assert self._response.status == 200
            self._taken = self._response.read(TAKEN // 2)

    def finish(self) -> Told | None:
        """Do the other half."""
        with self._stack:
            try:
                with contextlib.suppress(ConnectionError):  # its answer may be there
                    self._wire.sendall(self._rest)
                if not self._taken:
                    self._response.begin()
                body = self._taken + self._response.read()
            except (OSError, HTTPException):
                return None
            headers = {name.lower(): value for name, value in self._response.getheaders()}
            return Told(self._response.status, headers, body)

    def vanish(self) -> None:
        """Leave with a reset."""
        self._response.close()
        reset(self._wire)


@dataclass
class Scene:
    """The requests that are under way.

    Attributes:
        store: with two putters, which both hold everything.
        seed: makes the bytes.
    """

    store: Cluster
    seed: str
    upload: str = ""
    tags: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.signer = Signer(self.store.s3_ports[0])
        self.parts = [payload(PART, f"{self.seed}/{number}") for number in range(PARTS)]
        self.put_bytes, self.part_bytes, self.got_bytes = (
            payload(size, f"{self.seed}/{size}/{kind}")
            for kind, size in (("put", SENT), ("part", SENT), ("get", TAKEN))
        )

    def begin(self, *, completes: bool = True) -> None:
        """All of it up to the middle."""
        signer = self.signer
        assert signer.ask("PUT", "/deaths/got", self.got_bytes).status == 200
        begun = signer.ask("POST", "/deaths/made?uploads=")
        self.upload = begun.field("{*}UploadId") or ""
        for number, part in enumerate(self.parts, 1):
            self.tags.append(self._part(number, part))
        self.put = Halfway(signer, "PUT", "/deaths/put", self.put_bytes)
        late = f"/deaths/made?partNumber={PARTS + 1}&uploadId={self.upload}"
        self.part = Halfway(signer, "PUT", late, self.part_bytes)
        self.get = Halfway(signer, "GET", "/deaths/got")
        if completes:
            begun_before = self._writing()
            self._pool = ThreadPoolExecutor(1)
            self._completing = self._pool.submit(self.complete)
            eventually(lambda: self._completing.done() or self._writing() > begun_before, 30, 0.005)

    def complete(self) -> Told | None:
        path, body = self._completion()
        try:
            return self.signer.ask("POST", path, body)
        except (OSError, HTTPException):
            return None

    def complete_and_leave(self) -> None:
        """Ask for it, and do not wait for what comes of it."""
        path, body = self._completion()
        every, _ = self.signer.signed("POST", path, {"content-length": str(len(body))})
        begun_before = self._writing()
        with self.signer.wire() as client:
            client.sendall(head_of("POST", path, every) + body)
            eventually(lambda: self._writing() > begun_before or self._is_made(), 30, 0.005)
            reset(client)

    def completed(self) -> Told | None:
        """What came of it."""
        with self._pool:
            return self._completing.result()

    def check(self, key: str, wanted: bytes, told: Told | None) -> None:
        """A name holds all of it or nothing, and all if somebody heard so."""
        held = self.signer.ask("GET", f"/deaths/{key}")
        good = told is not None and told.status == 200 and b"<Error>" not in told.body
        assert good or told is None or told.status in {200, 500, 503}, told
        if held.status == 404:
            assert not good
        else:
            assert (held.status, held.body) == (200, wanted)

    def end(self) -> None:
        """Complete the upload whatever happened to it, and leave nothing behind."""

        def whole() -> None:
            told = self.complete()
            assert told is not None
            assert told.status == 200, told
            assert b"<Error>" not in told.body

        eventually(whole, 90)
        assert self.signer.ask("GET", "/deaths/made").body == b"".join(self.parts)
        for key in ("got", "put", "made"):
            assert self.signer.ask("DELETE", f"/deaths/{key}").status == 204
        listed = self.signer.ask("GET", "/deaths?uploads=").body
        assert b"<UploadId>" not in listed

    def expire(self) -> None:
        """End the lease under which the upload was completed, as half a minute would."""
        with redis(self.store) as client:
            client.delete(lease_key(f"upload-{self.upload}"))

    def _completion(self) -> tuple[str, bytes]:
        return f"/deaths/made?uploadId={self.upload}", completion_of(dict(enumerate(self.tags, 1)))

    def _is_made(self) -> bool:
        return self.signer.ask("HEAD", "/deaths/made").status == 200

    def _part(self, number: int, part: bytes) -> str:
        path = f"/deaths/made?partNumber={number}&uploadId={self.upload}"
        told = self.signer.ask("PUT", path, part)
        assert told.status == 200, told
        return told.headers["etag"]

    def _writing(self) -> int:
        return sum(value[0] == "w" for value in object_values(self.store).values())


def nothing_is_left(store: Cluster) -> None:
    """All space came back, after all tests: no putter holds a ticket."""
    eventually_clean(store, timeout_s=90)
    assert not any(on_disk(store).values())
    no_traceback(store)


def kill_a_putter(store: Cluster) -> Callable[[], None]:
    store.putters[0].kill()
    return store.putters[0].start


def kill_valkey(store: Cluster) -> Callable[[], None]:
    store.valkey.kill()
    time.sleep(0.3)
    store.valkey.start()
    return lambda: None


def kill_the_router(store: Cluster) -> Callable[[], None]:
    store.routers[0].kill()
    return store.routers[0].start


@pytest.mark.parametrize("kill", [kill_a_putter, kill_valkey, kill_the_router])
def test_what_dies_in_the_middle(store: Cluster, kill: Callable[[Cluster], Any]) -> None:
    scene = Scene(store, kill.__name__)
    scene.begin()
    revive = kill(store)
    got, put, part = scene.get.finish(), scene.put.finish(), scene.part.finish()
    completed = scene.completed()
    if kill is kill_the_router:
        scene.expire()
    else:
        assert got is not None, "from the other putter"
        assert got.body == scene.got_bytes
        assert None not in (put, part, completed), "each is told what came of it"
    revive()
    store.wait_ready()
    scene.check("put", scene.put_bytes, put)
    scene.check("made", b"".join(scene.parts), completed)
    scene.check("got", scene.got_bytes, got)
    scene.end()


def test_clients_that_vanish_in_the_middle(store: Cluster) -> None:
    scene = Scene(store, "vanish")
    scene.begin(completes=False)
    scene.complete_and_leave()
    for each in (scene.get, scene.put, scene.part):
        each.vanish()
    eventually(scene._is_made, 60)  # it goes on to its end
    scene.check("put", scene.put_bytes, None)
    assert scene.signer.ask("HEAD", "/deaths/put").status == 404
    scene.end()
