"""Delete Redis, lose nothing: real processes, a wiped Valkey, and `putter rebuild`."""

from __future__ import annotations

import concurrent.futures
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.local_kit import local_store
from tests.router_kit import payload
from tests.store_kit import Cluster, cluster, digest, eventually
from tests.traffic_kit import on_disk, ticket_files

SIZES = (0, 1, 1458, 70_000, 1_200_000)

NEVER_STALE = ("--stale-reads-s", "0")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Cluster]:
    with cluster(tmp_path, putters=3, replicas=2, router_flags=NEVER_STALE) as made:
        yield made


def put(store: Cluster, name: str, data: bytes) -> int:
    return store.http("PUT", f"/file/{name}", data)[0]


def contents(store: Cluster) -> dict[str, Any]:
    """Everything that can be asked of all names, and the digests of their bytes."""
    _, _, body = store.http("GET", "/metadata")
    told: dict[str, Any] = {}
    for bucket in json.loads(body)["buckets"]:
        page = json.loads(store.http("GET", f"/metadata?bucket={bucket}")[2])
        for entry in page["entries"]:
            name = f"{bucket}/{entry['key']}"
            status, _, data = store.http("GET", f"/file/{name}")
            assert status == 200, name
            details = json.loads(store.http("GET", f"/metadata/{name}")[2])
            told[name] = (entry, details, digest(data))
    return told


def fill(store: Cluster) -> None:
    """Files of all sizes; some overwritten, some deleted, some of both."""
    for n in range(60):
        name = f"photos/f{n:02}" if n % 2 else f"films/f{n:02}"
        assert put(store, name, payload(SIZES[n % 5], n)) == 201
        if n % 3 == 0:
            assert put(store, name, payload(SIZES[n % 5] + 5, -n)) == 200
        if n % 5 == 0:
            assert store.http("DELETE", f"/file/{name}")[0] == 204
        if n % 15 == 0:
            assert put(store, name, payload(2000, n)) == 201
    for n in range(20):
        assert store.send(payload(3000, f"raw{n}")).ok


def rebuild(store: Cluster, *flags: str) -> tuple[int, dict[str, Any], str]:
    """The command; its exit code, what it printed as JSON, and its complaints."""
    done = subprocess.run(
        store.command(
            *("rebuild", "--redis", store.valkey.url, "--json"),
            *("--key-file", str(store.directory / "cluster.key"), *flags),
        ),
        cwd=store.directory,
        env=store.environment(),
        capture_output=True,
        timeout=100,
        check=False,
    )
    text = done.stdout.decode()
    return done.returncode, json.loads(text) if text else {}, done.stderr.decode()


def wipe(store: Cluster) -> None:
    assert store.valkey.ask("FLUSHALL") == "+OK\r\n"


def test_everything_is_as_it_was(store: Cluster) -> None:
    fill(store)
    before = contents(store)
    last = max(
        int(each[1]["objects"][0]["object"], 36) for each in before.values() if each[1]["objects"]
    )
    wipe(store)
    status, _, body = store.http("GET", "/file/photos/f01")
    assert status == 503, body
    code, told, complaint = rebuild(store)
    assert code == 0, complaint
    assert told["complete"]
    assert told["objects"] == len(before)
    assert told["conflicts"] == told["damaged"] == told["not_whole"] == 0
    assert len(told["nodes"]) == 3
    assert told["silent"] == []
    eventually(lambda: store.http("GET", "/file/photos/f01")[0] == 200)
    assert contents(store) == before
    # It works as before: tickets, deletions, and numbers that nobody had.
    name, (_, details, _) = next((k, v) for k, v in before.items() if v[1]["objects"])
    ticket = details["objects"][0]["extents"][0]["first"]
    about = json.loads(store.http("GET", f"/ticket/{ticket}")[2])
    assert f"{about['bucket']}/{about['key']}" == name
    answer = store.send(b"more")
    assert int(answer.object_id, 36) > last
    assert store.http("DELETE", f"/file/{name}")[0] == 204
    assert store.http("GET", f"/file/{name}")[0] == 404
    again, told, _ = rebuild(store)
    assert (again, told["versions"]) == (0, 0), "nothing is left to do"
    code, told, _ = rebuild(store, "--all")
    assert code == 0
    assert told["objects"] == len(before)
    assert told["known"] > 0


def test_a_redis_that_is_wiped_under_load(store: Cluster) -> None:
    fill(store)
    acknowledged: dict[str, bytes] = {}
    stop = threading.Event()

    def write(worker: int) -> None:
        n = 0
        while not stop.is_set():
            n += 1
            data = payload(4000, f"{worker}/{n}")
            name = f"load/{worker}-{n}"
            if put(store, name, data) == 201:
                acknowledged[name] = data

    workers = [threading.Thread(target=write, args=(n,)) for n in range(3)]
    for worker in workers:
        worker.start()
    eventually(lambda: len(acknowledged) > 50)
    wipe(store)
    code, told, complaint = rebuild(store)
    assert code == 0, complaint
    assert told["complete"]
    count = len(acknowledged)
    eventually(lambda: len(acknowledged) > count + 20, 60)
    stop.set()
    for worker in workers:
        worker.join()
    for name, data in acknowledged.items():
        status, _, body = store.http("GET", f"/file/{name}")
        assert (status, digest(body)) == (200, digest(data)), name


def test_a_silent_putter_is_named_and_waited_for(store: Cluster) -> None:
    fill(store)
    before = contents(store)
    store.putters[2].kill()
    wipe(store)
    code, told, complaint = rebuild(store, "--wait", "3")
    assert code == 1
    assert not told["complete"]
    (silent,) = told["silent"]
    assert silent.split()[0] in complaint
    assert "--without" in complaint
    assert store.http("GET", "/file/photos/f01")[0] == 503
    store.putters[2].start()
    code, told, complaint = rebuild(store, "--wait", "30")
    assert code == 0, complaint
    assert len([node for node in told["nodes"] if node["records"]]) == 1, "the others were done"
    eventually(lambda: store.http("GET", "/file/photos/f01")[0] == 200)
    assert contents(store) == before


def test_one_that_is_gone_for_good_is_done_without(store: Cluster) -> None:
    fill(store)
    before = contents(store)
    store.putters[2].kill()
    wipe(store)
    _, told, _ = rebuild(store, "--wait", "3")
    code, told, complaint = rebuild(store, "--without", told["silent"][0].split()[0])
    assert code == 0, complaint
    eventually(lambda: store.http("GET", "/file/photos/f01")[0] == 200)
    assert {name: each[2] for name, each in contents(store).items()} == {
        name: each[2] for name, each in before.items()
    }


def test_nobody_answers(store: Cluster) -> None:
    store.valkey.kill()
    code, _, complaint = rebuild(store)
    assert code == 4
    assert "Redis" in complaint


def test_a_restart_that_loses_nothing_is_not_noticed(tmp_path: Path) -> None:
    with cluster(tmp_path, putters=2, replicas=2, durable_valkey=True) as store:
        fill(store)
        before = contents(store)
        store.valkey.kill()
        store.valkey.start()
        assert contents(store) == before


@pytest.mark.parametrize("mode", ["auto", "manual"])
def test_what_a_router_does_at_its_start(tmp_path: Path, mode: str) -> None:
    with cluster(tmp_path, putters=2, replicas=2, router_flags=("--rebuild", mode)) as store:
        fill(store)
        before = contents(store)
        store.routers[0].stop()
        wipe(store)
        store.routers[0].start()
        store.wait_ready()
        if mode == "manual":
            status, _, body = store.http("GET", "/file/photos/f01")
            assert status == 503
            assert "putter rebuild" in json.loads(body)["hint"]
            assert store.send(b"x").code == "unavailable"
            eventually(lambda: "putter rebuild" in store.routers[0].text())
            assert rebuild(store)[0] == 0
        eventually(lambda: store.http("GET", "/file/photos/f01")[0] == 200)
        assert contents(store) == before


@pytest.mark.parametrize("mode", ["auto", "manual"])
def test_a_replica_that_lacks_bytes_gets_them(tmp_path: Path, mode: str) -> None:
    """As after a crash: the record is durable on both putters, its only run on one of them."""
    with cluster(tmp_path, putters=2, replicas=2, router_flags=("--rebuild", mode)) as store:
        data = {f"photos/f{n}": payload(SIZES[1 + n % 4], n) for n in range(8)}
        assert [put(store, name, each) for name, each in data.items()] == [201] * 8
        before = on_disk(store)
        store.routers[0].stop()
        store.putters[1].stop()
        for place in ticket_files(store, 1).values():
            shutil.rmtree(place)
        store.putters[1].start()
        wipe(store)
        store.routers[0].start()
        store.wait_ready()
        if mode == "manual":
            code, told, complaint = rebuild(store)
            assert code == 0, complaint
            assert (told["objects"], told["not_whole"]) == (8, 0)
        eventually(lambda: store.http("GET", "/readyz")[0] == 200)
        eventually(lambda: on_disk(store) == before)
        store.putters[0].kill()
        for name, each in data.items():
            assert store.read(name) == each


def test_an_interrupted_rebuild_goes_on_where_it_stopped(tmp_path: Path) -> None:
    with cluster(
        tmp_path, putters=2, replicas=2, storage="segments", router_flags=NEVER_STALE
    ) as store:
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            names = [f"many/{n:05}" for n in range(6000)]
            statuses = list(pool.map(lambda name: put(store, name, name.encode()), names))
        assert set(statuses) == {201}
        wipe(store)
        argv = store.command(
            *("rebuild", "--redis", store.valkey.url),
            *("--key-file", str(store.directory / "cluster.key")),
        )
        process = subprocess.Popen(argv, cwd=store.directory, env=store.environment())
        eventually(lambda: marks(store) != ":0\r\n", 60, every_s=0.005)
        process.kill()
        process.wait()
        assert store.http("GET", "/file/many/00001")[0] == 503
        code, told, complaint = rebuild(store, "--wait", "15")
        assert code == 0, complaint
        assert told["objects"] == 6000
        read = sum(node["records"] for node in told["nodes"])
        assert read < 12_000, "what was applied was not read again"
        eventually(lambda: store.http("GET", "/file/many/05999")[0] == 200)
        for name in names[::500]:
            assert store.read(name) == name.encode()


def marks(store: Cluster) -> str:
    return store.valkey.ask("HLEN putter:{counters}:marks")


def test_a_store_that_runs_alone_restores_its_valkey_by_itself(tmp_path: Path) -> None:
    with local_store(tmp_path / "home") as store:
        ids = {store.send(payload(3000, n)).object_id: payload(3000, n) for n in range(20)}
        assert store.process.stop() == 0
        shutil.rmtree(store.data / "redis")
        store.start()
        for object_id, data in ids.items():
            assert store.read(object_id) == data
        assert store.send(b"new").object_id not in ids
