"""kill -9 of any process at any moment: what was acknowledged stays, the rest is cleaned up.

Every client remembers what it sent and what was answered; afterwards the store must hold each
acknowledged byte, and nothing that nobody sent. With ``PUTTER_SOAK=1`` there are more rounds,
larger streams and real lease times.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from blake3 import blake3

from common.meta.schema import bucket_key
from common.meta.scripts import script
from tests.books_kit import no_number_twice, no_traceback, small_disk, traffic
from tests.metadata_kit import free_port
from tests.store_kit import Answer, Cluster, Process, cluster, digest, eventually, read_line
from tests.traffic_kit import (
    SOAK,
    connect,
    details,
    eventually_clean,
    expire_leases,
    extents,
    node_ids,
    object_values,
    on_disk,
    payload,
    redis,
    ticket_files,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900 if SOAK else 180)]
MIB = 1024 * 1024
ROUNDS = 12 if SOAK else 2
FLAGS = ("--grace-ms", "200")


# -- kill -9 in turn -----------------------------------------------------------------------


def restart(process: Process, rng: random.Random) -> None:
    """kill -9, a moment of nothing, and a fresh start."""
    process.kill()
    time.sleep(rng.uniform(0.0, 1.0))
    process.start()


@pytest.mark.parametrize("seed", range(4 if SOAK else 1))
def test_putters_killed_during_writes(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    with cluster(tmp_path / "s", putters=3, replicas=2, routers=2, router_flags=FLAGS) as store:
        with traffic(store, seed, (0, 1)) as clients:
            for round_number in range(ROUNDS):
                clients.wait_for_more(rng.randint(20, 60))
                restart(store.putters[round_number % 3], rng)
            clients.wait_for_more(50)
        for router in (0, 1):
            store.wait_ready(router)
        clients.check(router=0)
        eventually_clean(store, acknowledged=clients.names)
        clients.check(router=1)
        no_traceback(store)


@pytest.mark.parametrize("seed", range(4 if SOAK else 1))
def test_a_lone_putter_killed_during_writes(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    with cluster(tmp_path / "s", router_flags=FLAGS) as store:
        with traffic(store, seed, (0,)) as clients:
            for _ in range(ROUNDS):
                clients.wait_for_more(rng.randint(20, 60))
                restart(store.putters[0], rng)
            clients.wait_for_more(50)
        store.wait_ready()
        # With nowhere else to go, writes under way waited and new ones were refused.
        assert all("no-putters" in reason for reason in clients.failures), clients.failures[:3]
        clients.check(router=0)
        eventually_clean(store, acknowledged=clients.names)
        no_traceback(store)


@pytest.mark.parametrize("seed", range(4 if SOAK else 1))
def test_routers_killed_during_writes(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    with cluster(tmp_path / "s", putters=2, routers=2, router_flags=FLAGS) as store:
        with traffic(store, seed, (0, 1)) as clients:
            for round_number in range(ROUNDS):
                clients.wait_for_more(rng.randint(20, 60))
                restart(store.routers[round_number % 2], rng)
            clients.wait_for_more(50)
        for router in (0, 1):
            store.wait_ready(router)
        clients.check(router=0)
        eventually_clean(store, acknowledged=clients.names)
        clients.check(router=1)
        no_traceback(store)


@pytest.mark.parametrize("seed", range(4 if SOAK else 1))
def test_valkey_killed_during_writes(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    with cluster(tmp_path / "s", putters=2, routers=2, router_flags=FLAGS) as store:
        with traffic(store, seed, (0, 1)) as clients:
            for _ in range(ROUNDS):
                clients.wait_for_more(rng.randint(20, 60))
                store.valkey.kill()
                time.sleep(rng.uniform(0.0, 1.5))
                store.valkey.start()
            clients.wait_for_more(50)
        # Redis was away for less than anybody's patience.
        assert not clients.failures
        for router in (0, 1):
            store.wait_ready(router)
        clients.check(router=0)
        eventually_clean(store, acknowledged=clients.names)
        clients.check(router=1)
        no_traceback(store)


def test_everything_killed_at_once(tmp_path: Path) -> None:
    with cluster(tmp_path / "s", putters=2, routers=2, router_flags=FLAGS) as store:
        with traffic(store, 7, (0, 1)) as clients:
            clients.wait_for_more(100)
            for process in store.processes:
                process.signal(signal.SIGKILL)
            store.valkey.kill()
            store.valkey.start()
            for process in store.processes:
                process.wait(10)
                process.start()
            clients.wait_for_more(50)
        for router in (0, 1):
            store.wait_ready(router)
        clients.check(router=0)
        eventually_clean(store, acknowledged=clients.names)
        clients.check(router=1)
        no_traceback(store)


def test_a_router_that_announced_objects_which_never_came(tmp_path: Path) -> None:
    """They are decided without it, and none of their numbers comes again."""
    with cluster(tmp_path / "s", routers=2, router_flags=FLAGS) as store:
        names: list[str] = []

        def announced() -> set[str]:
            while len(names) < 2_000:
                names.extend(store.send(payload(100, len(names) + n)).object_id for n in range(5))
                store.routers[0].signal(signal.SIGSTOP)
                values = object_values(store)
                waiting = {name for (_, name), value in values.items() if value[0] == "w"}
                if waiting:
                    return waiting
                store.routers[0].signal(signal.SIGCONT)
            raise AssertionError("nothing was announced")

        lost = announced()
        store.routers[0].kill()
        names += [store.send(payload(100, 5_000 + n), router=1).object_id for n in range(20)]
        store.routers[0].start()
        store.wait_ready(0)
        names += [store.send(payload(100, 6_000 + n)).object_id for n in range(20)]
        assert len(set(names)) == len(names)
        assert not lost & set(names)
        eventually_clean(store, acknowledged=names)
        assert not lost & {name for _, name in object_values(store)}
        no_number_twice(store)
        no_traceback(store)


# -- Redis away ----------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["frozen", "restarted"])
def test_redis_away_in_the_middle_of_a_stream(tmp_path: Path, how: str) -> None:
    size, away_s = (1024 * MIB, 10.0) if SOAK else (512 * MIB, 6.0)
    block = payload(MIB, "stream")
    hasher = blake3()
    with cluster(tmp_path / "s", storage="memory", router_flags=FLAGS) as store:
        with connect(store.ingest_ports[0], 120) as client:
            for number in range(size // MIB):
                if number == size // MIB // 2:
                    take_away(store, how)
                    back = threading.Timer(away_s, bring_back, (store, how))
                    back.start()
                    gone_s = time.monotonic()
                piece = number.to_bytes(8) + block[8:]
                hasher.update(piece)
                client.sendall(piece)
            client.shutdown(socket.SHUT_WR)
            line = read_line(client)
            waited_s = time.monotonic() - gone_s
        back.join()
        answer = Answer(line)
        assert answer.ok, line
        assert (answer.size, answer.digest) == (size, hasher.hexdigest())
        # Nothing was published without Redis: the answer waited for it.
        assert waited_s >= away_s
        assert store.routers[0].memory_bytes("VmHWM") < 400 * MIB
        found = blake3()
        reader = http.client.HTTPConnection("127.0.0.1", store.web_ports[0], timeout=60)
        with contextlib.closing(reader):
            reader.request("GET", f"/file/objects/{answer.object_id}")
            response = reader.getresponse()
            while part := response.read(MIB):
                found.update(part)
        assert found.hexdigest() == answer.digest
        no_traceback(store)


def take_away(store: Cluster, how: str) -> None:
    if how == "restarted":
        store.valkey.stop()
    else:
        os.kill(valkey_pid(store), signal.SIGSTOP)


def bring_back(store: Cluster, how: str) -> None:
    if how == "restarted":
        store.valkey.start()
    else:
        os.kill(valkey_pid(store), signal.SIGCONT)


def valkey_pid(store: Cluster) -> int:
    assert store.valkey._process is not None
    return store.valkey._process.pid


def test_redis_away_for_longer_than_the_patience(tmp_path: Path) -> None:
    flags = (*FLAGS, "--redis-patience-ms", "1000")
    with cluster(tmp_path / "s", router_flags=flags) as store:
        kept = store.send(payload(1000))
        store.valkey.stop()
        answer = store.send(payload(2000))
        assert answer.code == "redis", answer.line
        status, headers, body = store.http("PUT", "/file/photos/cat", b"cat")
        assert (status, headers["retry-after"]) == (503, "1")
        assert json.loads(body)["code"] == "redis"
        assert store.http("GET", "/readyz")[0] == 503
        assert store.http("GET", "/healthz")[0] == 200
        store.valkey.start()
        eventually(lambda: store.send(payload(3000)).ok)
        assert store.read(f"objects/{kept.object_id}") == payload(1000)
        eventually(lambda: store.http("GET", "/readyz")[0] == 200)
        no_traceback(store)


# -- a router that dies in the middle of an object ---------------------------------------


class Proxy:
    """Between a router and Redis: passes everything on, until it sees a word."""

    def __init__(self, target: int, forbidden: bytes) -> None:
        self.port = free_port()
        self.seen = threading.Event()
        self._forbidden = forbidden
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for each in [self._listener, *self._sockets]:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = connect(self._target)
                self._sockets += [client, server]
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(target=self._pass, args=(source, sink), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                if self._forbidden in data:
                    self.seen.set()
                if self.seen.is_set():
                    continue
                sink.sendall(data)


@contextlib.contextmanager
def router_behind(store: Cluster, forbidden: bytes, copies: int = 2) -> Iterator[tuple[int, Proxy]]:
    """A router that loses Redis for good when it wants to say something; its number."""
    proxy = Proxy(store.valkey.port, forbidden)
    try:
        process = store.add_router("--replicas", str(copies), *FLAGS)
        process._argv[process._argv.index("--redis") + 1] = f"redis://127.0.0.1:{proxy.port}"
        process.start()
        number = len(store.routers) - 1
        store.wait_ready(number, nodes=sum(each.alive for each in store.putters))
        yield number, proxy
    finally:
        if process.alive:
            process.kill()
        proxy.close()


def half_sent(port: int, data: bytes) -> socket.socket:
    client = connect(port)
    client.sendall(data)
    return client


@pytest.mark.parametrize("size", [1000, 3 * MIB, 12 * MIB], ids=["one run", "many runs", "large"])
def test_an_object_whose_router_died_before_publishing_is_rolled_forward(
    tmp_path: Path, size: int
) -> None:
    data = payload(size, "forward")
    with (
        cluster(tmp_path / "s", putters=2, router_flags=FLAGS) as store,
        router_behind(store, script("commit").sha) as (dying, proxy),
    ):
        with half_sent(store.ingest_ports[dying], data) as client:
            client.shutdown(socket.SHUT_WR)
            assert proxy.seen.wait(20)
            store.routers[dying].kill()
            assert read_or_broken(client) == ""
        assert store.names() == {}
        [(_, object_id)] = object_values(store)
        expire_leases(store)
        eventually(lambda: store.names() == {object_id: size}, 20)
        assert store.read(f"objects/{object_id}") == data
        eventually_clean(store)
        no_traceback(store)


def test_an_object_whose_router_died_mid_stream_is_failed(tmp_path: Path) -> None:
    with cluster(tmp_path / "s", putters=2, routers=2, router_flags=FLAGS) as store:
        with half_sent(store.ingest_ports[0], payload(4 * MIB, "half")) as client:
            eventually(lambda: all(len(found) >= 48 for found in on_disk(store).values()))
            store.routers[0].kill()
            assert read_or_broken(client) == ""
        assert [value[0] for value in object_values(store).values()] == ["w"]
        eventually_clean(store, router=1)
        assert object_values(store) == {}
        assert not any(on_disk(store).values())
        assert store.names(router=1) == {}


@pytest.mark.skipif(not SOAK, reason="waits for a real lease to run out")
def test_a_lease_runs_out_by_itself(tmp_path: Path) -> None:
    with cluster(tmp_path / "s", putters=2, routers=2, router_flags=FLAGS) as store:
        with half_sent(store.ingest_ports[0], payload(4 * MIB, "half")):
            eventually(lambda: bool(object_values(store)))
            store.routers[0].kill()
        eventually(lambda: object_values(store) == {}, 60)
        assert not any(on_disk(store).values())


def a_file_on(store: Cluster, number: int) -> str:
    """The key of a file in ``photos`` that only this putter holds, and nobody is owed."""
    node = node_ids(store)[number]
    for key in (f"cat{n}" for n in range(60)):
        assert store.http("PUT", f"/file/photos/{key}", payload(1000, key))[0] == 201
        if all(nodes == {node} for _, nodes in extents(details(store, f"photos/{key}"))):
            return key
        assert store.http("DELETE", f"/file/photos/{key}")[0] == 204
    raise AssertionError("placement never chose it")


def test_an_object_of_a_dead_putter_does_not_keep_others_from_being_cleaned(
    tmp_path: Path,
) -> None:
    with cluster(tmp_path / "s", putters=2, replicas=1, router_flags=FLAGS) as store:
        cat = a_file_on(store, 1)
        store.putters[1].kill()
        # The first extent goes to putter 0, the second one and the record to putter 1.
        with (
            router_behind(store, script("commit").sha, copies=1) as (dying, proxy),
            half_sent(store.ingest_ports[dying], payload(20 * MIB, "a")) as client,
        ):
            eventually(lambda: len(ticket_files(store, 0)) >= 256)
            store.putters[1].start()
            store.wait_ready(dying, nodes=2)
            store.putters[0].kill()
            client.sendall(payload(20 * MIB, "b"))
            client.shutdown(socket.SHUT_WR)
            assert proxy.seen.wait(20)
            store.routers[dying].kill()
            assert read_or_broken(client) == ""
        expire_leases(store)
        assert store.http("DELETE", f"/file/photos/{cat}")[0] == 204
        eventually(lambda: ("photos", cat) not in names_in_trash(store), 20)
        store.putters[0].start()
        eventually(lambda: list(store.names().values()) == [40 * MIB], 20)
        eventually_clean(store)


def test_a_dead_putter_does_not_keep_the_others_from_freeing(tmp_path: Path) -> None:
    with cluster(tmp_path / "s", putters=2, router_flags=FLAGS) as store:
        for number in range(300):
            store.http("PUT", f"/file/photos/{number}", b"on both")
        store.putters[1].kill()
        for number in range(300):
            store.http("DELETE", f"/file/photos/{number}")
        status, _, body = store.http("PUT", "/file/photos/late", b"on one")
        assert (status, json.loads(body)["nodes_written"]) == (201, 1)
        assert store.http("DELETE", "/file/photos/late")[0] == 204
        eventually(lambda: ("photos", "late") not in names_in_trash(store), 20)
        eventually(lambda: not ticket_files(store, 0))
        assert len(names_in_trash(store)) == 300
        assert len(ticket_files(store, 1)) == 300
        cpu_s = store.routers[0].cpu_s()
        time.sleep(2)
        assert store.routers[0].cpu_s() - cpu_s < 0.6, "the janitor should wait"
        store.putters[1].start()
        eventually_clean(store)
        assert not any(on_disk(store).values())
        no_traceback(store)


def names_in_trash(store: Cluster) -> set[tuple[str, str]]:
    """Deleted names whose bytes are not freed yet."""
    values = object_values(store)
    return {(bucket, value[4]) for (bucket, _), value in values.items() if value[0] == "d"}


def test_a_router_that_slept_through_its_lease_leaves_no_orphans(tmp_path: Path) -> None:
    with cluster(tmp_path / "s", putters=2, routers=2, router_flags=FLAGS) as store:
        with half_sent(store.ingest_ports[0], payload(4 * MIB, "half")) as client:
            eventually(lambda: all(len(found) >= 48 for found in on_disk(store).values()))
            [(_, object_id)] = object_values(store)
            store.routers[0].signal(signal.SIGSTOP)
            with redis(store) as coordinator:
                coordinator.zadd(bucket_key("objects", "writing"), {object_id: 1}, xx=True)
            eventually(lambda: object_values(store) == {}, 20)
            eventually(lambda: not any(on_disk(store).values()))
            store.routers[0].signal(signal.SIGCONT)
            client.sendall(payload(2 * MIB, "rest"))
            client.shutdown(socket.SHUT_WR)
            # The first to notice may be a putter that is asked to keep freed tickets.
            assert Answer(read_line(client)).code in {"gone", "ticket-taken"}
        assert store.names(router=1) == {}
        eventually_clean(store, router=1)
        no_traceback(store)


# -- putters that sleep, or stay away ------------------------------------------------------


def test_a_lone_putter_that_sleeps_stops_the_stream_and_nothing_else(tmp_path: Path) -> None:
    data = payload(96 * MIB, "sleep")
    with cluster(tmp_path / "s", router_flags=FLAGS) as store:
        answers: list[str] = []
        with connect(store.ingest_ports[0]) as client:
            client.sendall(data[: 8 * MIB])
            store.putters[0].signal(signal.SIGSTOP)
            sender = threading.Thread(target=client.sendall, args=(data[8 * MIB :],))
            sender.start()
            time.sleep(4)
            # The windows are full, so that the client has to wait.
            assert sender.is_alive()
            store.putters[0].signal(signal.SIGCONT)
            sender.join(60)
            client.shutdown(socket.SHUT_WR)
            answers.append(read_line(client))
        assert Answer(answers[0]).ok, answers
        assert Answer(answers[0]).digest == digest(data)
        assert store.read(f"objects/{Answer(answers[0]).object_id}") == data
        assert store.routers[0].memory_bytes("VmHWM") < 320 * MIB
        eventually_clean(store)


def test_writes_go_on_while_one_of_three_putters_sleeps(tmp_path: Path) -> None:
    with cluster(tmp_path / "s", putters=3, replicas=2, router_flags=FLAGS) as store:
        with traffic(store, 3, (0,)) as clients:
            clients.wait_for_more(50)
            store.putters[1].signal(signal.SIGSTOP)
            # Its runs go elsewhere once it was silent for ten seconds and then gone for two.
            clients.wait_for_more(100)
            store.putters[1].signal(signal.SIGCONT)
            clients.wait_for_more(50)
        assert not clients.failures
        store.wait_ready()
        clients.check(router=0)
        eventually_clean(store, acknowledged=clients.names)
        clients.check(router=0)
        no_traceback(store)


def test_runs_that_took_a_detour_are_freed_where_they_were_meant_to_go(tmp_path: Path) -> None:
    """A stream that is longer than its putter's sleep: it lies on all three putters in the end."""
    data = payload(96 * MIB, "detour")
    with cluster(tmp_path / "s", putters=3, replicas=2, router_flags=FLAGS) as store:
        nodes = node_ids(store)
        with connect(store.ingest_ports[0]) as client:
            # The windows of the other two take this much at the least.
            client.sendall(data[:MIB])
            eventually(lambda: any(on_disk(store).values()))
            sleeper = max(range(3), key=lambda number: len(ticket_files(store, number)))
            store.putters[sleeper].signal(signal.SIGSTOP)
            # It is silent for ten seconds, then gone for two; until then its windows fill.
            client.sendall(data[MIB : 64 * MIB])
            store.putters[sleeper].signal(signal.SIGCONT)
            store.wait_ready(nodes=3)
            client.sendall(data[64 * MIB :])
            client.shutdown(socket.SHUT_WR)
            answer = Answer(read_line(client))
        assert answer.ok, answer
        name = f"objects/{answer.object_id}"
        eventually_clean(store)
        found = list(extents(details(store, name)))
        assert any(nodes[sleeper] in where for _, where in found)
        # It may hold more than the extents that name it, of runs that took a detour meanwhile.
        assert store.read(name) == data
        assert store.http("DELETE", f"/file/{name}")[0] == 204
        eventually(lambda: not any(on_disk(store).values()), 60)
        eventually_clean(store)


def test_writes_and_reads_go_on_without_one_of_three_putters(tmp_path: Path) -> None:
    with cluster(tmp_path / "s", putters=3, replicas=2, router_flags=FLAGS) as store:
        with traffic(store, 4, (0,)) as clients:
            clients.wait_for_more(100)
            store.putters[2].kill()
            clients.wait_for_more(100)
        assert not clients.failures
        # Everything is read from the replicas that are left.
        clients.check(router=0)
        answer = store.send(payload(MIB, "later"))
        dead = node_ids(store)[2]
        told = details(store, f"objects/{answer.object_id}")
        assert told["nodes_written"] == 2
        assert all(dead not in nodes for _, nodes in extents(told))
        store.putters[2].start()
        store.wait_ready()
        eventually_clean(store)
        no_traceback(store)


def test_the_last_of_two_putters_takes_everything_and_says_so(tmp_path: Path) -> None:
    with cluster(tmp_path / "s", putters=2, router_flags=FLAGS) as store:
        store.putters[1].kill()
        status, _, body = store.http("PUT", "/file/photos/cat", payload(MIB))
        told = json.loads(body)
        assert (status, told["nodes_written"], told["degraded"]) == (201, 1, True)
        assert store.read("photos/cat") == payload(MIB)
        store.putters[0].kill()
        store.putters[1].start()
        store.wait_ready(nodes=1)
        status, _, body = store.http("GET", "/file/photos/cat")
        assert (status, json.loads(body)["code"]) == (503, "no-putters")


def test_strict_refuses_with_too_few_putters(tmp_path: Path) -> None:
    flags = (*FLAGS, "--consistency", "strict", "--write-timeout-ms", "3000")
    with cluster(tmp_path / "s", putters=2, router_flags=flags) as store:
        assert store.send(payload(1000)).ok
        store.putters[1].kill()
        eventually(lambda: store.send(payload(2000)).line.split()[3] == "no-putters")
        store.putters[1].start()
        store.wait_ready()
        assert store.send(payload(3000)).ok
        eventually_clean(store)


# -- full disks ----------------------------------------------------------------------------


def test_a_full_disk_of_the_only_putter_is_told_clearly(tmp_path: Path) -> None:
    home = tmp_path / "s"
    with (
        small_disk(home / "node0", 12 * MIB),
        cluster(home, router_flags=FLAGS) as store,
    ):
        kept = store.send(payload(MIB, "kept"))
        assert kept.ok
        answer = store.send(payload(40 * MIB, "too much"))
        assert answer.code == "no-space", answer.line
        status, _, body = store.http("PUT", "/file/photos/cat", payload(40 * MIB, "web"))
        assert (status, json.loads(body)["code"]) == (507, "no-space")
        # What was stored of them is given back, and there is room again.
        eventually_clean(store)
        assert store.read(f"objects/{kept.object_id}") == payload(MIB, "kept")
        again = store.send(payload(MIB, "again"))
        assert again.ok, again.line
        assert store.read(f"objects/{again.object_id}") == payload(MIB, "again")
        assert set(store.names()) == {kept.object_id, again.object_id}
        no_traceback(store)


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_full_disk_sends_the_bytes_to_another_putter(tmp_path: Path, replicas: int) -> None:
    home = tmp_path / "s"
    with (
        small_disk(home / "node0", 12 * MIB),
        cluster(home, putters=3, replicas=replicas, router_flags=FLAGS) as store,
    ):
        for number in range(8):
            data = payload(7 * MIB, number)
            answer = store.send(data)
            assert answer.ok, answer.line
            told = details(store, f"objects/{answer.object_id}")
            assert (told["nodes_written"], told["degraded"]) == (replicas, False)
            assert store.read(f"objects/{answer.object_id}") == data
        eventually_clean(store)
        assert len(ticket_files(store, 0)) * 65_536 <= 12 * MIB
        no_traceback(store)


def test_a_reserve_that_is_reached_counts_as_full(tmp_path: Path) -> None:
    with cluster(
        tmp_path / "s", router_flags=FLAGS, putter_flags=("--reserve-bytes", str(2**60))
    ) as store:
        for size in (1000, 3 * MIB):
            answer = store.send(payload(size))
            assert answer.code == "no-space", answer.line
        eventually_clean(store)
        assert not any(on_disk(store).values())


def read_or_broken(client: socket.socket) -> str:
    """What still came; "" if the connection broke."""
    try:
        return read_line(client)
    except OSError:
        return ""
