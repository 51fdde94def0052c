"""Real processes: copies and older copies of a data directory are refused, a moved one is taken."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.store_kit import Cluster, Process, cluster, digest, eventually

DATA = os.urandom(300_000)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Cluster]:
    with cluster(tmp_path, putters=2, storage="segments") as made:
        yield made


def web_port(process: Process) -> int:
    return int(process._argv[process._argv.index("--putter-web-port") + 1])


def readiness(process: Process) -> tuple[int, str]:
    """Status and text of ``/readyz``; 0 while nobody listens there."""
    client = http.client.HTTPConnection("127.0.0.1", web_port(process), timeout=10)
    with closing(client):
        try:
            client.request("GET", "/readyz")
            response = client.getresponse()
        except OSError:
            return 0, ""
        return response.status, response.read().decode().strip()


def is_refused(process: Process, reason: str) -> bool:
    status, text = readiness(process)
    return status == 503 and reason in text


def identity(directory: Path) -> str:
    return str(json.loads((directory / "putter" / "node.json").read_text())["identity"])


def listed(store: Cluster, node: str) -> dict[str, object]:
    """A putter in ``/status``."""
    told = json.loads(store.http("GET", "/status")[2])
    found = [each for each in told["nodes"] if each["node"] == node]
    assert len(found) == 1, told["nodes"]
    return dict(found[0])


def write(store: Cluster, data: bytes) -> None:
    answer = store.send(data)
    assert answer.ok, answer
    assert answer.digest == digest(data)


def copied(store: Cluster, number: int, name: str) -> Path:
    """A copy of a putter's data, as an operator would make one."""
    copy = store.directory / name
    shutil.copytree(store.directory / f"node{number}", copy)
    return copy


def start_on(store: Cluster, directory: Path) -> Process:
    """A putter on a directory that is there, at an address of its own."""
    place = store.directory / f"node{len(store.putters)}"
    shutil.move(directory, place)
    process = store.add_putter()
    process.start()
    return process


def test_a_clone_is_refused_until_it_is_a_move(store: Cluster) -> None:
    original = store.putters[0]
    node = identity(store.directory / "node0")
    write(store, DATA)
    eventually(lambda: listed(store, node)["state"] == "live")

    clone = start_on(store, copied(store, 0, "clone"))
    address = f"127.0.0.1:{store.putter_ports[0]}"
    eventually(lambda: is_refused(clone, f"alive at {address}"))
    assert f"identity {node} is alive at {address}" in clone.tail()
    assert original.alive
    # The cluster goes on, and the clone holds no byte of what is written now.
    held = size_of(store.directory / "node2")
    write(store, DATA[::-1])
    assert listed(store, node)["address"] == address
    assert size_of(store.directory / "node2") == held
    assert is_refused(clone, f"alive at {address}")

    # The original has more records by now, and has told so: its copy may not take its place.
    before = records_told(store, node)
    write(store, DATA[2:])
    eventually(lambda: records_told(store, node) > before)
    original.kill()
    eventually(lambda: is_refused(clone, "is an older copy"), 60)
    assert listed(store, node)["state"] in ("suspect", "down")
    clone.stop()
    original.start()
    eventually(lambda: readiness(original) == (200, "ready"))

    # A copy of a putter that is stopped is as good as the original, wherever it is started.
    original.stop()
    moved = start_on(store, copied(store, 0, "moved"))
    eventually(lambda: readiness(moved) == (200, "ready"))
    eventually(lambda: listed(store, node)["link"] == "up")
    eventually(lambda: listed(store, node)["address"] == f"127.0.0.1:{store.putter_ports[3]}")
    write(store, DATA[1:])

    # Now it is the original that is the older copy.
    original.start()
    eventually(lambda: is_refused(original, "alive at"))
    moved.stop()
    eventually(lambda: is_refused(original, "is an older copy"), 60)


def records_told(store: Cluster, node: str) -> int:
    """The number of the last commit record that Redis was told of."""
    reply = store.valkey.ask(f"HGET putter:{{counters}}:fences {node}")
    return int(reply.splitlines()[1].split()[2])


def size_of(directory: Path) -> int:
    """Bytes that the segments of a directory take as far as they were written."""
    return sum(path.stat().st_blocks for path in directory.rglob("*.seg"))


def test_an_older_copy_is_refused_at_the_same_address(store: Cluster) -> None:
    putter, place = store.putters[0], store.directory / "node0"
    write(store, DATA)
    putter.stop()
    older = copied(store, 0, "older")
    putter.start()
    store.wait_ready()
    write(store, DATA[::-1])
    putter.stop()
    shutil.rmtree(place)
    shutil.move(older, place)
    putter.start()
    eventually(lambda: is_refused(putter, "is an older copy"))
    assert "started 2 times" in putter.tail()
    node = identity(place)
    told = json.loads(store.http("GET", "/status")[2])
    assert node not in {each["node"] for each in told["nodes"] if each["link"] == "up"}


def test_a_putter_whose_place_was_taken_ends_with_one(store: Cluster) -> None:
    """It was frozen for longer than a member may be silent, and its directory was moved."""
    original = store.putters[0]
    write(store, DATA)
    node = identity(store.directory / "node0")
    eventually(lambda: listed(store, node)["state"] == "live")
    original.signal(signal.SIGSTOP)
    moved = start_on(store, copied(store, 0, "moved"))
    eventually(lambda: readiness(moved) == (200, "ready"), 60)
    original.signal(signal.SIGCONT)
    assert original.wait(30) == 1
    assert "another process took the place of this one" in original.tail()
    eventually(lambda: listed(store, node)["link"] == "up")
    write(store, DATA[::-1])
