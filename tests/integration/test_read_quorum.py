"""R = 2 with real processes: one of two replicas rots; what is served, said and healed."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from tests.store_kit import ROOT, Cluster, Process, cluster, eventually
from tests.traffic_kit import node_ids, payload

pytestmark = pytest.mark.slow
QUIET = ("--scrub-bytes-per-s", "0")
BOTH = ("--read-quorum", "2")
NAME = "photos/cat.jpg"
SAID = "x-replicas-verified"


def flip_in(directory: Path, piece: bytes) -> None:
    """Change one byte of the file that holds this piece of data."""
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        at_byte = path.read_bytes().find(piece)
        if at_byte >= 0:
            with path.open("r+b") as file:
                file.seek(at_byte)
                file.write(bytes([piece[0] ^ 1]))
            return
    raise AssertionError(f"nothing in {directory} holds it")


def get(store: Cluster, **headers: str) -> tuple[int, str | None, bytes]:
    status, told, body = store.http("GET", f"/file/{NAME}", headers=headers)
    return status, told.get(SAID), body


def metric(store: Cluster, name: str) -> float:
    _, _, body = store.http("GET", "/metrics")
    lines = [line.split() for line in body.decode().splitlines() if line.startswith(name + " ")]
    return sum(float(value) for _, value in lines)


@pytest.mark.parametrize("storage", ["segments", "tree"])
@pytest.mark.parametrize("victim", [0, 1])
def test_a_rotten_replica_is_found_by_a_read_and_healed(
    tmp_path: Path, storage: str, victim: int
) -> None:
    data = payload(3_000_000, "rotten")
    with cluster(
        tmp_path, putters=2, storage=storage, router_flags=BOTH, putter_flags=QUIET
    ) as store:
        assert store.http("PUT", f"/file/{NAME}", data)[0] == 201
        # A loaded machine may be late with one of them.
        eventually(lambda: get(store) == (200, "2/2", data))

        flip_in(store.directory / f"node{victim}", data[1_000:1_100])
        status, said, body = get(store, Range="bytes=500-1999")
        assert (status, body) == (206, data[500:2_000])
        assert said == "1/2"
        assert get(store)[2] == data

        eventually(lambda: get(store)[1] == "2/2")
        assert metric(store, "putter_healed_total") >= 1
        # The replica that was bad serves alone now.
        store.putters[1 - victim].kill()
        store.wait_ready(nodes=1)
        assert get(store)[2] == data


def test_a_long_way_through_the_other_door_says_the_same(tmp_path: Path) -> None:
    data = payload(200_000, "whole")
    with cluster(tmp_path, putters=2, router_flags=BOTH, putter_flags=QUIET) as store:
        assert store.http("PUT", f"/file/{NAME}", data)[0] == 201
        # A header that nobody asks for sends a request past the short way.
        for way in ({"X-Long-Way": "1"}, {}):
            eventually(lambda way=way: get(store, **way) == (200, "2/2", data))


def test_with_too_few_alive_strict_refuses_and_available_says_so(tmp_path: Path) -> None:
    data = payload(100_000, "few")
    with cluster(tmp_path, putters=2, router_flags=BOTH, putter_flags=QUIET) as store:
        strict = ("--replicas", "2", *BOTH, "--consistency", "strict")
        store.add_router(*strict).start()
        store.wait_ready(1)
        assert store.http("PUT", f"/file/{NAME}", data)[0] == 201
        store.putters[0].kill()

        def alone() -> None:
            assert get(store) == (200, "1/2", data)
            status, _, body = store.http("GET", f"/file/{NAME}", router=1)
            assert (status, b"only 1 of the 2 replicas" in body) == (503, True), body

        eventually(alone)
        store.putters[0].start()
        eventually(lambda: store.http("GET", f"/file/{NAME}", router=1)[2] == data)


def test_more_than_there_are_is_a_clear_error(tmp_path: Path) -> None:
    with cluster(tmp_path) as store:
        wrong = store.add_router("--replicas", "1", *BOTH)
        wrong.start()
        assert wrong.wait(60) == 2
        assert "read_quorum 2 is more than replicas 1" in wrong.text()


def test_a_router_that_runs_alone_has_one_replica(tmp_path: Path) -> None:
    lone = Process(
        "alone",
        [sys.executable, "-m", "putter", "router", "--data-dir", str(tmp_path / "data"), *BOTH],
        tmp_path / "alone.log",
        {**os.environ, "PYTHONPATH": str(ROOT)},
    )
    lone.start()
    try:
        assert lone.wait(60) == 2
    finally:
        lone.kill()
    assert "read_quorum 2 is more than the one putter" in lone.text()
    assert "Traceback" not in lone.text()


def test_a_frozen_putter_is_done_without(tmp_path: Path) -> None:
    data = payload(200_000, "frozen")
    with cluster(tmp_path, putters=3, router_flags=BOTH, putter_flags=QUIET) as store:
        assert store.http("PUT", f"/file/{NAME}", data)[0] == 201
        holder = json.loads(store.http("GET", f"/explain/{NAME}")[2])["replicas"][0]["node"]
        frozen = store.putters[node_ids(store).index(holder)]
        frozen.signal(signal.SIGSTOP)
        try:
            assert get(store) == (200, "1/2", data), "late, and right"
        finally:
            frozen.signal(signal.SIGCONT)
        eventually(lambda: get(store)[1] == "2/2")
