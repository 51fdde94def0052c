"""A router reads large objects from the files of a putter on its machine; real processes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.store_kit import Cluster, cluster, eventually
from tests.traffic_kit import payload

MIB = 1024 * 1024
SIZE = 12 * MIB + 300_000
LOCAL = "putter_local_read_bytes_total"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Cluster]:
    with cluster(tmp_path, storage="segments", router_flags=("--grace-ms", "0")) as made:
        yield made


def put(store: Cluster, key: str, data: bytes) -> None:
    status, _, _ = store.http("PUT", f"/file/photos/{key}", data)
    assert status in (200, 201)


def get(store: Cluster, key: str, wanted: str = "") -> bytes:
    headers = {"Range": f"bytes={wanted}"} if wanted else {}
    status, _, body = store.http("GET", f"/file/photos/{key}", headers=headers)
    assert status == (206 if wanted else 200)
    return body


def metric(store: Cluster, name: str) -> float:
    _, _, body = store.http("GET", "/metrics")
    lines = [line for line in body.decode().splitlines() if line.startswith(name)]
    return sum(float(line.split()[-1]) for line in lines)


def learn(store: Cluster, key: str, data: bytes) -> None:
    """Read until all of it comes from the files."""

    def whole() -> None:
        before = metric(store, LOCAL)
        assert get(store, key) == data
        assert metric(store, LOCAL) - before >= len(data)

    eventually(whole, 30)


def test_the_first_read_learns_and_the_next_ones_come_from_the_files(store: Cluster) -> None:
    data = payload(SIZE)
    put(store, "large", data)
    learn(store, "large", data)
    for start, end in ((0, 65_535), (MIB - 5, 3 * MIB), (SIZE - 70_000, SIZE - 1)):
        before = metric(store, LOCAL)
        assert get(store, "large", f"{start}-{end}") == data[start : end + 1]
        assert metric(store, LOCAL) - before > end - start


def test_it_can_be_switched_off(tmp_path: Path) -> None:
    flags = ("--local-reads", "off")
    with cluster(tmp_path, storage="segments", router_flags=flags) as store:
        data = payload(SIZE)
        put(store, "large", data)
        for _ in range(3):
            assert get(store, "large") == data
        assert metric(store, LOCAL) == 0


def test_small_files_and_other_layouts_are_asked_for(tmp_path: Path) -> None:
    with cluster(tmp_path, storage="memory") as store:
        small, large = payload(100_000), payload(SIZE)
        put(store, "small", small)
        put(store, "large", large)
        for _ in range(3):
            assert get(store, "small") == small
            assert get(store, "large") == large
        assert metric(store, LOCAL) == 0


def test_a_file_stays_right_while_everything_around_it_is_compacted(
    store: Cluster, tmp_path: Path
) -> None:
    data = payload(SIZE)
    other = payload(48 * MIB, "other")
    put(store, "other", other)
    put(store, "kept", data)
    learn(store, "kept", data)
    stop = threading.Event()
    wrong: list[str] = []

    def read() -> None:
        while not stop.is_set():
            if get(store, "kept") != data:
                wrong.append("other bytes")

    reader = threading.Thread(target=read)
    reader.start()
    first = {path.name for path in (tmp_path / "node0").rglob("*.seg")}
    try:
        for number in range(8):  # each takes the place of the one before, whose bytes are dead
            put(store, "other", payload(48 * MIB, number))

        def moved() -> None:
            assert not first & {path.name for path in (tmp_path / "node0").rglob("*.seg")}

        eventually(moved, 60)
    finally:
        stop.set()
        reader.join(60)
    assert wrong == []
    assert not reader.is_alive()
    learn(store, "kept", data)
    pid = store.routers[0].pid

    def closed() -> None:
        links = [path.readlink() for path in Path(f"/proc/{pid}/fd").iterdir() if path.is_symlink()]
        assert not [str(link) for link in links if "(deleted)" in str(link) and ".seg" in str(link)]

    eventually(closed, 30)


def test_a_bit_that_was_flipped_is_served_by_the_other_and_healed(tmp_path: Path) -> None:
    with cluster(tmp_path, storage="segments", putters=2) as store:
        data = payload(SIZE)
        put(store, "large", data)
        for _ in range(3):
            learn(store, "large", data)
        for node, place in (("node0", 5 * MIB), ("node1", 8 * MIB)):  # whichever is read
            where = data[place : place + 40]
            for path in (tmp_path / node).rglob("*.seg"):
                at = path.read_bytes().find(where)
                assert at > 0
                with path.open("r+b") as file:
                    file.seek(at)
                    file.write(bytes([where[0] ^ 8]))

        def healed() -> None:
            assert get(store, "large") == data
            assert metric(store, "putter_healed_total") >= 1

        eventually(healed, 60)
        assert get(store, "large") == data
