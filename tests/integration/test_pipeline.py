"""Bytes through the whole pipeline of real processes: every size, every byte, every trace."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from common.meta.schema import COUNTERS, bucket_key
from common.tickets import format_id, parse_id
from tests.store_kit import Cluster, cluster, digest, eventually, read_line
from tests.traffic_kit import (
    SOAK,
    at,
    check_disks,
    connect,
    details,
    eventually_clean,
    extents,
    node_ids,
    object_values,
    on_disk,
    payload,
    putter,
    redis,
    reset,
    ticket_files,
)

pytestmark = pytest.mark.slow
KIB = 1024
MIB = 1024 * KIB
SIZES = (1, 1457, 1458, 1459, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1)
BEHIND_RUNS = (MIB - 1, MIB, MIB + 1, 2 * MIB + 1458)


@pytest.fixture(scope="module", params=["tree", "memory"])
def single(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """One router, one putter."""
    home = tmp_path_factory.mktemp("single")
    with cluster(home, storage=request.param, router_flags=("--grace-ms", "100")) as store:
        yield store


@pytest.fixture(scope="module")
def replicated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One router, three putters, two copies."""
    home = tmp_path_factory.mktemp("replicated")
    with cluster(home, putters=3, replicas=2, router_flags=("--grace-ms", "100")) as store:
        yield store


@pytest.fixture(scope="module")
def packets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two putters that get frames as small as raw ones."""
    home = tmp_path_factory.mktemp("packets")
    flags = ("--frame-bytes", "1458", "--grace-ms", "100")
    with cluster(home, putters=2, router_flags=flags) as store:
        yield store


def comes_back(store: Cluster, data: bytes, *, by_command: bool = True) -> str:
    """Send and read again in every way; the ObjectID."""
    answer = store.send(data)
    assert answer.ok, answer.line
    assert answer.line.endswith("\n")
    assert (answer.size, answer.digest) == (len(data), digest(data))
    name = f"objects/{answer.object_id}"
    assert store.read(name) == data
    if by_command:
        shown = at(store, "cat", name)
        assert (shown.code, shown.err) == (0, "")
        assert shown.out == data
    return answer.object_id


@pytest.mark.parametrize("size", SIZES)
def test_every_size_comes_back_byte_for_byte(single: Cluster, size: int) -> None:
    told = details(single, "objects/" + comes_back(single, payload(size)))
    assert told["size"] == size
    assert told["objects"][0]["tickets"] == -(-size // (64 * KIB))


@pytest.mark.parametrize("size", [*SIZES, *BEHIND_RUNS])
def test_every_size_in_frames_of_1458_bytes(packets: Cluster, size: int) -> None:
    object_id = comes_back(packets, payload(size), by_command=False)
    told = details(packets, f"objects/{object_id}")
    assert told["objects"][0]["frame_bytes"] == 1458
    assert told["objects"][0]["tickets"] == -(-size // 1458)
    for tickets, nodes in extents(told):
        assert nodes == set(node_ids(packets))
        for found in on_disk(packets).values():
            assert tickets <= found


@pytest.mark.parametrize("size", BEHIND_RUNS)
def test_sizes_around_a_run(replicated: Cluster, size: int) -> None:
    comes_back(replicated, payload(size), by_command=False)


def test_a_file_of_100_mib(single: Cluster) -> None:
    data = payload(100 * MIB)
    object_id = comes_back(single, data)
    for start in (0, 1, 64 * KIB - 1, 50 * MIB + 17, 100 * MIB - 1):
        end = min(start + 200_000, len(data))
        status, headers, body = single.http(
            "GET", f"/file/objects/{object_id}", headers={"Range": f"bytes={start}-{end - 1}"}
        )
        assert (status, headers["content-range"]) == (206, f"bytes {start}-{end - 1}/{len(data)}")
        assert body == data[start:end]


def test_memory_does_not_grow_with_the_object(replicated: Cluster) -> None:
    size = (2048 if SOAK else 256) * MIB
    block = payload(MIB)
    with connect(replicated.ingest_ports[0]) as client:
        for _ in range(size // MIB):
            client.sendall(block)
        client.shutdown(socket.SHUT_WR)
        line = read_line(client)
    assert line.startswith("OBJECT WRITTEN OK "), line
    assert int(line.split()[4]) == size
    for process in replicated.processes:
        assert process.memory_bytes("VmHWM") < 320 * MIB, process.name
    object_id = line.split()[3]
    assert replicated.http("DELETE", f"/file/objects/{object_id}")[0] == 204


def test_500_objects_of_64_clients_at_once(single: Cluster) -> None:
    payloads = [payload(1 + number * 41 % 9000, number) for number in range(500)]
    with ThreadPoolExecutor(64) as clients:
        answers = list(clients.map(single.send, payloads))
        assert all(answer.ok for answer in answers), [a.line for a in answers if not a.ok]
        assert len({answer.object_id for answer in answers}) == 500
        assert [answer.digest for answer in answers] == [digest(data) for data in payloads]
        assert [answer.size for answer in answers] == [len(data) for data in payloads]
        names = [f"objects/{answer.object_id}" for answer in answers]
        assert list(clients.map(single.read, names)) == payloads
    listed = single.names()
    assert {a.object_id: a.size for a in answers}.items() <= listed.items()


def test_a_stream_byte_by_byte(single: Cluster) -> None:
    data = payload(300)
    with connect(single.ingest_ports[0]) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at_byte in range(len(data)):
            client.sendall(data[at_byte : at_byte + 1])
        client.shutdown(socket.SHUT_WR)
        line = read_line(client)
    assert line.split()[:3] == ["OBJECT", "WRITTEN", "OK"]
    assert line.split()[4:] == ["300", digest(data)]


def test_no_byte_is_refused_on_the_raw_port_and_a_file_on_the_web_port(single: Cluster) -> None:
    before = single.names()
    answer = single.send(b"")
    assert answer.line.startswith("OBJECT WRITE FAILED empty ")
    assert answer.line.count("\n") == 1
    assert single.names() == before
    status, _, body = single.http("PUT", "/file/empties/nothing", b"")
    assert status == 201, body
    assert json.loads(body)["size"] == 0
    assert single.read("empties/nothing") == b""
    shown = at(single, "cat", "empties/nothing")
    assert (shown.code, shown.out) == (0, b"")
    assert single.names("empties") == {"nothing": 0}


def test_tickets_are_on_exactly_the_recorded_nodes(replicated: Cluster) -> None:
    sizes = [*SIZES, *BEHIND_RUNS, 20 * MIB, *(1000 * n + 1 for n in range(20))]
    payloads = [payload(size, "spread") for size in sizes]
    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(replicated.send, payloads))
    used: set[str] = set()
    for answer, data in zip(answers, payloads, strict=True):
        told = details(replicated, f"objects/{answer.object_id}")
        assert told["nodes_written"] == 2
        assert told["degraded"] is False
        for _, nodes in extents(told):
            assert len(nodes) == 2
            used |= nodes
        assert replicated.read(f"objects/{answer.object_id}") == data
    assert used == set(node_ids(replicated))
    # Another test's object may be on its way to the trash: in time, not at once.
    eventually(lambda: check_disks(replicated, exact=True), 30, every_s=0.5)


def test_a_ticket_file_holds_plain_bytes(replicated: Cluster) -> None:
    data = payload(64 * KIB + 5, "plain")
    object_id = replicated.send(data).object_id
    [(tickets, nodes)] = extents(details(replicated, f"objects/{object_id}"))
    for number, node in enumerate(node_ids(replicated)):
        if node in nodes:
            places = ticket_files(replicated, number)
            assert b"".join((places[t] / "obj").read_bytes() for t in sorted(tickets)) == data
    first = format_id(min(tickets))
    told = json.loads(replicated.http("GET", f"/ticket/{first}")[2])
    assert (told["object"], told["bucket"], told["key"]) == (object_id, "objects", object_id)
    assert set(told["nodes"]) == nodes


def test_an_object_is_writing_and_then_written(replicated: Cluster) -> None:
    data = payload(5 * MIB, "states")
    before = set(object_values(replicated))
    with connect(replicated.ingest_ports[0]) as client:
        client.sendall(data[: 4 * MIB])

        def begun() -> list[str]:
            fresh = [v for k, v in object_values(replicated).items() if k not in before]
            assert len(fresh) == 1
            assert fresh[0][0] == "w"
            return fresh[0]

        eventually(lambda: bool(begun()))
        # A sign of life tells the totals about once a second; what is sent may be in a buffer.
        eventually(lambda: int(begun()[1]) >= 3 * MIB // (64 * KIB))
        _, acked, router, nodes, ranges = begun()
        assert router == json.loads(replicated.http("GET", "/status")[2])["router"]
        assert set(nodes.split(",")) <= set(node_ids(replicated))
        assert int(acked) <= sum(int(part.split("+")[1]) for part in ranges.split(","))
        [object_id] = [k[1] for k in object_values(replicated) if k not in before]
        assert object_id not in replicated.names()
        assert replicated.http("GET", f"/file/objects/{object_id}")[0] == 404
        with redis(replicated) as client_of_redis:
            score = client_of_redis.zscore(bucket_key("objects", "writing"), object_id)
            assert score is not None
        client.sendall(data[4 * MIB :])
        client.shutdown(socket.SHUT_WR)
        line = read_line(client)
    assert line.split()[3:] == [object_id, str(len(data)), digest(data)]
    written = object_values(replicated)["objects", object_id]
    assert written[0] == "c"
    assert written[3:] == ["-", object_id]
    assert replicated.read(f"objects/{object_id}") == data
    with redis(replicated) as client_of_redis:
        assert client_of_redis.zscore(bucket_key("objects", "writing"), object_id) is None


def test_redis_holds_no_key_per_frame_and_numbers_stay_below_their_ceilings(
    replicated: Cluster,
) -> None:
    replicated.send(payload(10, "first"))
    with redis(replicated) as client:
        before = {key for key in client.scan_iter() if b"trash" not in key}
        for number in range(30):
            assert replicated.send(payload(100_000 + number)).ok
        passing = (b"trash", b"writing", b"putter:lease:")
        after = {key for key in client.scan_iter() if not any(word in key for word in passing)}
        assert after <= before | {bucket_key("objects", "names")}
        counters = {k.decode(): v.decode() for k, v in client.hgetall(COUNTERS).items()}
        run_id = client.info("server")["run_id"]
    for kind in ("tickets", "objects", "stamps"):
        assert 0 < int(counters[kind]) <= int(counters[f"{kind}.ceiling"])
    assert counters["epoch"] == run_id
    highest = max(max(found) for found in on_disk(replicated).values())
    assert highest < int(counters["tickets"])


def test_overwritten_and_deleted_bytes_are_freed_on_the_putters(tmp_path: Path) -> None:
    flags = ("--grace-ms", "300")
    with cluster(tmp_path / "store", putters=2, router_flags=flags) as store:
        old, new = payload(3 * MIB, "old"), payload(200_000, "new")
        assert store.http("PUT", "/file/photos/cat", old)[0] == 201
        [old_tickets] = [tickets for tickets, _ in extents(details(store, "photos/cat"))]
        assert store.http("PUT", "/file/photos/cat", new)[0] == 200
        assert store.read("photos/cat") == new
        with redis(store) as client:
            assert client.zcard(bucket_key("photos", "trash")) == 1
        eventually_clean(store)
        for found in on_disk(store).values():
            assert found
            assert not found & old_tickets
        assert store.read("photos/cat") == new
        assert store.http("DELETE", "/file/photos/cat")[0] == 204
        assert store.http("GET", "/file/photos/cat")[0] == 404
        eventually_clean(store)
        assert not any(on_disk(store).values())
        for number in range(2):
            home = store.directory / f"node{number}" / "putter"
            assert not [*(home / "tickets").rglob("obj"), *(home / "tmp").iterdir()]
        assert store.names("photos") == {}


@pytest.mark.parametrize("size", [100, 3 * MIB + 7])
def test_a_reset_stream_leaves_nothing(replicated: Cluster, size: int) -> None:
    before = replicated.names()
    client = connect(replicated.ingest_ports[0])
    client.sendall(payload(size, "reset"))
    if size > MIB:
        eventually(lambda: any(value[0] == "w" for value in object_values(replicated).values()))
    reset(client)
    eventually_clean(replicated)
    assert replicated.names() == before


def test_clients_that_come_and_go_disturb_nobody(replicated: Cluster) -> None:
    stop = threading.Event()

    def disturb() -> None:
        while not stop.is_set():
            client = connect(replicated.ingest_ports[0])
            client.sendall(payload(1000))
            reset(client)

    disturber = threading.Thread(target=disturb)
    disturber.start()
    try:
        for number in range(20):
            data = payload(50_000, number)
            answer = replicated.send(data)
            assert (answer.size, answer.digest) == (len(data), digest(data))
    finally:
        stop.set()
        disturber.join()
    eventually_clean(replicated)


# -- raw frames --------------------------------------------------------------------------


def loopback(store: Cluster, *words: str) -> tuple[int, dict[str, object]]:
    """The command, and what it tells."""
    address = f"127.0.0.1:{store.putter_ports[0]}"
    done = putter(
        store, "loopback", "--putter", address, "--key-file", "cluster.key", "--json", *words
    )
    return done.code, json.loads(done.out) if done.out else {"err": done.err}


@pytest.mark.parametrize("size", [1, 1457, 1458, 1459, 200_000])
def test_loopback_checks_acks_and_removes_its_tickets(replicated: Cluster, size: int) -> None:
    code, told = loopback(replicated, "--size", str(size), "--connections", "2")
    frames = -(-size // 1458)
    assert code == 0, told
    assert told["statuses"] == {"written": frames}
    assert (told["size"], told["frames"], told["freed"]) == (size, frames, frames)
    assert not on_disk(replicated, "raw")[node_ids(replicated)[0]]


def test_loopback_keeps_tickets_until_they_are_removed_by_name(
    replicated: Cluster, tmp_path: Path
) -> None:
    data = payload(5000, "kept")
    source = tmp_path / "cat.jpg"
    source.write_bytes(data)
    code, told = loopback(replicated, "--file", str(source), "--keep")
    assert (code, told["freed"], told["statuses"]) == (0, 0, {"written": 4})
    places = ticket_files(replicated, 0, "raw")
    first, last = parse_id(str(told["first"])), parse_id(str(told["last"]))
    assert sorted(places) == list(range(first, last + 1))
    assert b"".join((places[t] / "obj").read_bytes() for t in sorted(places)) == data
    named = [word for ticket in sorted(places) for word in ("--ticket", format_id(ticket))]
    address = f"127.0.0.1:{replicated.putter_ports[0]}"
    words = ("rm", "--putter", address, "--key-file", "cluster.key", *named)
    assert putter(replicated, *words).code == 0
    assert not ticket_files(replicated, 0, "raw")
    assert putter(replicated, *words).code == 3


def test_loopback_with_another_key_fails_and_stores_nothing(
    replicated: Cluster, tmp_path: Path
) -> None:
    other = tmp_path / "other.key"
    other.write_text("ab" * 32 + "\n")
    address = f"127.0.0.1:{replicated.putter_ports[0]}"
    words = ("loopback", "--putter", address, "--size", "10000", "--key-file", str(other))
    done = putter(replicated, *words)
    assert done.code == 6, done.err
    assert "another cluster key" in done.err
    assert "Traceback" not in done.err
    assert not ticket_files(replicated, 0, "raw")


def test_loopback_without_a_putter_or_with_nonsense(replicated: Cluster) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{taken.getsockname()[1]}"
        done = putter(replicated, "loopback", "--putter", nobody, "--key-file", "cluster.key")
    assert done.code == 4, done.err
    assert done.err.startswith("error: ")
    for words in (("--size", "many"), ("--size", "0"), ("--file", "/nowhere/at/all")):
        assert loopback(replicated, *words)[0] == 2, words
