"""Racing S3 clients whose writes have a condition: one wins, also while Valkey is restarted."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from http.client import HTTPException

import pytest

from tests.s3_kit import Signer, Told, completion_of, s3_cluster
from tests.store_kit import Cluster, eventually
from tests.traffic_kit import SOAK, payload

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
WRITERS = 32
ROUNDS = 30 if SOAK else 2
LOST = {409, 412, 503}
"""What a client may hear that did not win, or whose answer nobody knows."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    flags = ("--redis-patience-ms", "8000")
    directory = tmp_path_factory.mktemp("races")
    with s3_cluster(directory, putters=2, routers=2, router_flags=flags) as made:
        assert Signer(made.s3_ports[0]).ask("PUT", "/locks").status == 200
        yield made


def data_of(number: int) -> bytes:
    """What a writer writes: some of it fits into one record, some does not."""
    return payload((9, 3_000, 80_000)[number % 3], f"writer {number}")


@dataclass
class Race:
    """Clients that want the same name.

    Attributes:
        store: with two routers.
        path: the name.
        before: what it holds; None: nothing.
    """

    store: Cluster
    path: str
    before: bytes | None = None

    def signer(self, number: int) -> Signer:
        return Signer(self.store.s3_ports[number % 2])

    def prepare(self) -> Callable[[int], Told]:
        """What each writer does."""
        return self._create

    def _create(self, number: int) -> Told:
        return self.signer(number).ask("PUT", self.path, data_of(number), {"if-none-match": "*"})

    def run(self, disturb: Callable[[], None] | None = None) -> list[int]:
        """Let them race; those that heard that they won."""
        attempt = self.prepare()
        won: list[int] = []
        gate = threading.Barrier(WRITERS + 1)

        def write(number: int) -> None:
            gate.wait(60)
            try:
                answer = attempt(number)
            except (OSError, HTTPException):
                return
            # What takes long begins with a 200, whatever comes of it.
            if answer.status == 200 and not answer.body.partition(b"<Error>")[1]:
                won.append(number)
            else:
                assert answer.status in LOST | {200}, answer
                assert answer.code != "InternalError", answer

        with ThreadPoolExecutor(WRITERS) as pool:
            racing = [pool.submit(write, number) for number in range(WRITERS)]
            gate.wait(60)
            if disturb is not None:
                disturb()
            for each in racing:
                each.result()
        return won

    def check(self, won: list[int]) -> None:
        """The name holds the bytes of exactly one of them, of the one that heard so."""
        assert len(won) <= 1, won

        def settled() -> None:
            for router in (0, 1):
                told = self._held(router)
                assert told.status in {200, 404}, told.body

        eventually(settled, 60)
        held = {(each.status, each.body) for each in map(self._held, (0, 1))}
        assert len(held) == 1, "the routers do not agree"
        status, body = held.pop()
        if won:
            assert (status, body) == (200, data_of(won[0]))
        elif status == 404:
            assert self.before is None
        else:
            assert body == self.before or body in map(data_of, range(WRITERS))

    def _held(self, router: int) -> Told:
        return self.signer(router).ask("GET", self.path)


class Replacing(Race):
    """They all saw the same bytes, and replace them."""

    def prepare(self) -> Callable[[int], Told]:
        self.before = b"before"
        assert self.signer(0).ask("PUT", self.path, self.before).status == 200
        tag = f'"{hashlib.md5(self.before).hexdigest()}"'

        def replace(number: int) -> Told:
            return self.signer(number).ask("PUT", self.path, data_of(number), {"if-match": tag})

        return replace


class Completing(Race):
    """Each has an upload of its own."""

    def prepare(self) -> Callable[[int], Told]:
        with ThreadPoolExecutor(8) as pool:
            uploads = list(pool.map(self._upload, range(WRITERS)))

        def complete(number: int) -> Told:
            where, body = uploads[number]
            return self.signer(number).ask("POST", where, body, {"if-none-match": "*"})

        return complete

    def _upload(self, number: int) -> tuple[str, bytes]:
        begun = self.signer(number).ask("POST", f"{self.path}?uploads=")
        upload = begun.body.partition(b"<UploadId>")[2].partition(b"<")[0].decode()
        where = f"{self.path}?uploadId={upload}"
        part = self.signer(number).ask("PUT", f"{where}&partNumber=1", data_of(number))
        assert part.status == 200, part
        return where, completion_of({1: part.headers["etag"]})


RACES = pytest.mark.parametrize("kind", [Race, Replacing, Completing])


@RACES
def test_of_racing_writers_one_wins(store: Cluster, kind: type[Race]) -> None:
    for number in range(ROUNDS):
        race = kind(store, f"/locks/quiet-{kind.__name__}-{number}")
        won = race.run()
        assert len(won) == 1
        race.check(won)


def restart(store: Cluster, after_s: float, kill: bool) -> None:
    time.sleep(after_s)
    if kill:
        store.valkey.kill()
    else:
        store.valkey.stop()
    time.sleep(0.2)
    store.valkey.start()


@RACES
@pytest.mark.parametrize("kill", [False, True], ids=["stopped", "killed"])
def test_at_most_one_wins_while_valkey_restarts(
    store: Cluster, kind: type[Race], kill: bool
) -> None:
    for number in range(ROUNDS):
        race = kind(store, f"/locks/storm-{kind.__name__}-{kill}-{number}")
        after_s = 0.02 * 5 ** (number % 2)
        race.check(race.run(partial(restart, store, after_s, kill)))
