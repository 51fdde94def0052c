"""`putter router --workers K`: several processes behind one set of ports are one router."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.local_kit import LocalStore, local_store
from tests.store_kit import Answer, Cluster, Process, cluster, digest, eventually, read_line
from tests.traffic_kit import at, connect, node_ids, payload

pytestmark = pytest.mark.slow
CLIENTS = 48
BOTH_S = 60.0


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStore]:
    """A whole store with two workers that nobody stops."""
    with local_store(tmp_path_factory.mktemp("workers"), workers=2, grace_ms=200) as running:
        yield running


class Told:
    """What a router's web door says."""

    def __init__(self, at: Cluster, router: int = 0) -> None:
        self._at = at
        self._router = router

    def get(self, path: str) -> bytes:
        status, _, body = self._at.http("GET", path, router=self._router)
        assert status == 200, (status, body)
        return body

    @property
    def status(self) -> Any:
        return json.loads(self.get("/status"))

    @property
    def instances(self) -> list[str]:
        """Of the workers, by number; those that do not answer are left out."""
        return [each["router"] for each in self.status["workers"] if each["answers"]]

    def metric(self, name: str) -> dict[str, float]:
        """A metric's value by worker, its other labels added up."""
        found: Counter[str] = Counter()
        for line in self.get("/metrics").decode().splitlines():
            if line.startswith(f'{name}{{worker="'):
                found[line.split('"')[1]] += float(line.rpartition(" ")[2])
        return dict(found)


def told(store: LocalStore) -> Told:
    return Told(store._web)


def janitor(store: LocalStore) -> str:
    """The worker that holds the janitor's lease; "" if none does just now."""
    return store.ask_valkey("MGET", "putter:lease:janitor")[0]


def worker_pids(store: LocalStore | None, parent: int | None = None) -> dict[int, int]:
    """The workers that run, by number."""
    above = parent if store is None else store.process.pid
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            line = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(line[1]) == above and words[1:3] == [b"-m", b"putter.cli.worker"]:
            found[int(words[4])] = int(entry.name)
    return found


def each_once(work: Any, count: int = CLIENTS) -> None:
    """Run something in many threads; the first error is ours."""
    errors: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except BaseException as error:  # noqa: BLE001 - told to the test below
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    if errors:
        raise errors[0]


# -- one router to everybody ---------------------------------------------------------------


def test_a_new_store_of_workers_begins_with_one_access_key(store: LocalStore) -> None:
    [access_key] = re.findall(r"^  access key     (PK\w{18})$", store.text, re.MULTILINE)
    [listed] = json.loads(store.command("keys", "list", "--json"))
    assert (listed["access_key_id"], listed["owner"]) == (access_key, "root")


def test_what_one_took_in_any_serves_at_once(store: LocalStore) -> None:
    before = told(store).metric("putter_objects_written_total")

    def round_trip(number: int) -> None:
        data = payload(20_000, ("round", number))
        answer = store.send(data)
        assert (answer.ok, answer.digest) == (True, digest(data)), answer.line
        for _ in range(2):
            assert store.read(answer.object_id) == data

    each_once(round_trip)
    after = told(store).metric("putter_objects_written_total")
    taken = {worker: after[worker] - before[worker] for worker in after}
    assert taken.keys() == {"0", "1"}
    assert sum(taken.values()) == CLIENTS
    assert all(taken.values()), "one of them got nothing to do"
    reads = told(store).metric("putter_requests_total")
    assert min(reads.values()) > 0


def test_whoever_answers_tells_of_all(store: LocalStore) -> None:
    status = told(store).status
    assert [each["worker"] for each in status["workers"]] == [0, 1]
    assert all(each["answers"] for each in status["workers"])
    instances = {each["router"] for each in status["workers"]}
    assert len(instances) == 2
    assert status["router"] in instances
    assert {each["router"] for each in status["routers"] if each["state"] == "live"} >= instances
    assert [node["link"] for node in status["nodes"]] == ["up"]
    assert told(store).metric("putter_info") == {"0": 1.0, "1": 1.0}
    assert told(store).get("/readyz") == b"ready\n"
    assert told(store).get("/healthz") == b"ok\n"


def test_an_object_under_way_is_seen_through_any(store: LocalStore) -> None:
    with connect(store.ports["ingest_port"]) as client:
        client.sendall(payload(3_000_000, "under way"))

        def seen() -> None:
            for _ in range(10):  # by whichever worker
                assert told(store).status["objects"]["writing"] == 1

        eventually(seen, BOTH_S)
        client.shutdown(socket.SHUT_WR)
        assert Answer(read_line(client)).ok


def test_acks_have_a_port_for_each(store: LocalStore) -> None:
    ours = {port for _, port in store.listening()}
    shared = {store.ports[name] for name in ("ingest_port", "web_port", "s3_port")}
    rest = ours - shared - {store.ports["putter_port"], store.ports["putter_web_port"]}
    assert store.ports["ack_port"] in rest, "the first worker's is the one of the settings"
    assert len(rest) == 2


def test_the_janitor_runs_once(store: LocalStore) -> None:
    name = "putter_objects_freed_total"
    before = sum(told(store).metric(name).values())
    for number in range(10):
        answer = store.send(payload(3_000, ("freed", number)))
        status, _, _ = store._web.http("DELETE", f"/file/objects/{answer.object_id}")
        assert status == 204

    def freed() -> None:
        assert sum(told(store).metric(name).values()) >= before + 10

    eventually(freed, BOTH_S)
    assert sum(told(store).metric(name).values()) == before + 10
    eventually(lambda: janitor(store) in told(store).instances, BOTH_S)


# -- one of them dies ----------------------------------------------------------------------


@pytest.fixture
def own(tmp_path: Path) -> Iterator[LocalStore]:
    """A store of one test: what a killed worker leaves behind is freed later."""
    with local_store(tmp_path, workers=2) as running:
        yield running


def test_a_killed_worker_loses_nothing_and_comes_back(own: LocalStore) -> None:
    store = own
    pids = worker_pids(store)
    assert set(pids) == {0, 1}
    before = told(store).instances
    stored: dict[str, bytes] = {}
    failed = 0
    killed = threading.Event()
    again = threading.Event()

    def load(number: int) -> None:
        nonlocal failed
        rounds = 0
        while not again.is_set() or rounds < 5:
            rounds += 1
            data = payload(30_000, ("load", number, rounds))
            try:
                answer = store.send(data)
            except OSError:
                failed += 1  # it was the one that died
                continue
            if not answer.line:
                failed += 1
                continue
            assert answer.ok, answer.line
            stored[answer.object_id] = data
            assert store_read(answer.object_id) == data

    def store_read(object_id: str) -> bytes:
        for _ in range(5):
            try:
                return store.read(object_id)
            except OSError:
                continue  # the connection was the dead one's
        raise AssertionError(f"nobody answers for {object_id}")

    def kill() -> None:
        eventually(lambda: len(stored) > 20, BOTH_S)
        os.kill(pids[0], signal.SIGKILL)
        killed.set()
        count = len(stored)
        eventually(lambda: len(stored) > count + 20, BOTH_S)
        eventually(lambda: worker_pids(store).get(0) not in {None, pids[0]}, BOTH_S)

        def both() -> None:
            assert len(told(store).instances) == 2
            assert told(store).get("/readyz") == b"ready\n"

        try:
            eventually(both, BOTH_S)
        finally:
            again.set()

    def work(number: int) -> None:
        if number:
            load(number)
        else:
            try:
                kill()
            finally:
                again.set()

    each_once(work, 9)
    assert killed.is_set()
    after = told(store).instances
    assert after[1] == before[1], "the other one went on"
    assert after[0] != before[0]
    assert worker_pids(store)[1] == pids[1]
    for object_id, data in stored.items():
        assert store.read(object_id) == data
    assert "a child died: starting it again" in store.text
    # Whoever keeps the janitor's lease now, somebody does.
    eventually(lambda: janitor(store) in told(store).instances, BOTH_S)


# -- starting and stopping -----------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("name", ["ingest_port", "web_port"])
def test_another_store_does_not_join_in(
    store: LocalStore, tmp_path: Path, name: str, workers: int
) -> None:
    second = LocalStore(tmp_path, **{name: store.ports[name]}, workers=workers)
    second.process.start()
    try:
        assert second.process.wait(60) == 4, second.text
        assert f"port {store.ports[name]} on 127.0.0.1 is already in use" in second.text
        assert "Traceback" not in second.text
        second.wait_gone()
    finally:
        second.end()


def test_a_port_of_somebody_else_is_not_taken(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # it would let us in
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        second = LocalStore(tmp_path, web_port=port, workers=2)
        second.process.start()
        try:
            assert second.process.wait(60) == 4, second.text
            assert f"port {port} on 127.0.0.1 is already in use" in second.text
        finally:
            second.end()


def test_a_stop_ends_what_is_under_way_and_leaves_nothing(tmp_path: Path) -> None:
    with local_store(tmp_path, workers=2) as store:
        pieces = [payload(3_000_000, ("half", number)) for number in range(8)]
        clients = [connect(store.ports["ingest_port"]) for _ in pieces]
        for client, data in zip(clients, pieces, strict=True):
            client.sendall(data[:2_500_000])
        eventually(lambda: told(store).status["objects"]["writing"] == len(pieces), BOTH_S)
        for client, data in zip(clients, pieces, strict=True):
            client.sendall(data[2_500_000:])
        store.process.signal(signal.SIGTERM)
        eventually(lambda: store.text.count("signal=SIGTERM worker=") == 2, BOTH_S)
        for client in clients:
            client.shutdown(socket.SHUT_WR)
        answers = [Answer(read_line(client)) for client in clients]
        for client in clients:
            client.close()
        assert [answer.ok for answer in answers] == [True] * len(pieces), store.text
        assert store.process.wait(30) == 0, store.text
        store.wait_gone()
        store.check_free()
        assert "Traceback" not in store.text, store.text
        store.start()
        for answer, data in zip(answers, pieces, strict=True):
            assert store.read(answer.object_id) == data


def test_a_killed_parent_takes_its_workers_along(tmp_path: Path) -> None:
    with local_store(tmp_path, workers=2) as store:
        data = payload(50_000, "before")
        answer = store.send(data)
        assert answer.ok
        pids = set(worker_pids(store).values())
        assert len(pids) == 2
        store.process.kill()
        store.start()
        assert store.read(answer.object_id) == data
        assert not pids & store.pids()


def test_a_router_beside_a_redis_of_somebody_else(tmp_path: Path) -> None:
    with cluster(tmp_path, putters=2, router_flags=("--workers", "2")) as store:
        router = Told(store)

        def both_linked() -> None:
            status = router.status
            assert [each["answers"] for each in status["workers"]] == [True, True]
            assert [node["link"] for node in status["nodes"]] == ["up", "up"]

        eventually(both_linked, BOTH_S)

        def round_trip(number: int) -> None:
            data = payload(5_000, ("beside", number))
            answer = store.send(data)
            assert answer.ok, answer.line
            assert store.read(f"objects/{answer.object_id}") == data

        each_once(round_trip, 24)
        written = router.metric("putter_objects_written_total")
        assert len(written) == 2
        assert sum(written.values()) == 24
        parent: Process = store.routers[0]
        assert len(worker_pids(None, parent.pid)) == 2
        assert parent.stop() == 0
        assert "Traceback" not in parent.text()


def test_a_putter_is_drained_when_all_workers_say_so(tmp_path: Path) -> None:
    with cluster(tmp_path, putters=3, replicas=2, router_flags=("--workers", "2")) as store:
        node = node_ids(store)[0]
        for number in range(12):
            assert store.send(payload(40_000, ("drain", number))).ok
        done = at(store, "drain", node)
        assert done.code == 0, done.err
        assert "may be switched off" in done.text
        for _ in range(10):  # by whichever worker
            told = json.loads(Told(store).get("/drain"))["nodes"]
            assert [(each["node"], each["done"]) for each in told] == [(node, True)]
        store.putters[0].kill()
        for name in store.names():
            assert store.read(f"objects/{name}")
