"""Putters on disks of 64 MiB: filled to the brim, started anew, emptied, and filled again."""

from __future__ import annotations

import json
import os
from collections import Counter
from itertools import count
from pathlib import Path

import pytest

from tests.books_kit import no_traceback, small_disk
from tests.store_kit import Cluster, cluster, eventually
from tests.traffic_kit import details, payload

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
MIB = 1024 * 1024
DISK_BYTES = 64 * MIB
LARGER_BYTES = 256 * MIB
FLAGS = ("--grace-ms", "200")


def put(store: Cluster, name: str, data: bytes) -> int:
    """A new file; 201, or the refusal of a full disk, which is told clearly."""
    status, _, body = store.http("PUT", f"/file/{name}", data)
    if status != 201:
        told = json.loads(body)
        assert (status, told["code"]) == (507, "no-space"), told
        assert "disk is full" in told["message"], told
        assert told["hint"] == "delete something, or add a putter"
    return status


def fill(store: Cluster, size: int, start: int = 0) -> dict[str, bytes]:
    """Files of one size until the disk takes no more of them."""
    kept: dict[str, bytes] = {}
    for number in range(start, start + 10_000):
        name, data = f"photos/{size}-{number}", payload(size, number)
        if put(store, name, data) != 201:
            return kept
        kept[name] = data
    raise AssertionError("the disk does not fill up")


def check(store: Cluster, kept: dict[str, bytes]) -> None:
    for name, data in kept.items():
        assert store.read(name) == data, name
    assert {f"photos/{key}" for key in store.names("photos")} == set(kept)


def delete(store: Cluster, names: list[str]) -> None:
    for name in names:
        assert store.http("DELETE", f"/file/{name}")[0] == 204, name


def free_bytes(store: Cluster) -> dict[str, int]:
    """What each putter says of its disk, by its identity."""
    told = json.loads(store.http("GET", "/status")[2])
    return {node["node"]: node["free_bytes"] for node in told["nodes"]}


def really_free(place: Path) -> int:
    state = os.statvfs(place)
    return state.f_bavail * state.f_frsize


def test_a_disk_is_filled_to_the_brim_and_freed(tmp_path: Path) -> None:
    home = tmp_path / "s"
    disk = home / "node0"
    with (
        small_disk(disk, DISK_BYTES),
        cluster(home, storage="segments", router_flags=FLAGS) as store,
    ):
        [empty] = free_bytes(store).values()
        assert 0.8 * DISK_BYTES < empty <= DISK_BYTES
        kept = fill(store, 2 * MIB)
        assert len(kept) > 20
        kept |= fill(store, 50_000)
        kept |= fill(store, 1000)
        assert store.send(payload(MIB)).code == "no-space"
        eventually(lambda: sum(free_bytes(store).values()) < empty // 8)
        check(store, kept)
        for end in ("kill", "stop"):
            getattr(store.putters[0], end)()
            store.putters[0].start()
            store.wait_ready()
            check(store, kept)
            assert put(store, "photos/too-much", payload(8 * MIB)) == 507
        delete(store, list(kept))
        eventually(lambda: really_free(disk) > DISK_BYTES // 2, 90)
        eventually(lambda: sum(free_bytes(store).values()) > DISK_BYTES // 2)
        # The same processes take as much again.
        again: dict[str, bytes] = {}
        for number in range(10):
            data = payload(2 * MIB, f"again{number}")
            eventually(lambda n=number, d=data: put(store, f"photos/{n}", d) == 201)
            again[f"photos/{number}"] = data
        check(store, again)
        no_traceback(store)


def test_the_roomier_putter_gets_more_and_a_full_one_is_used_again(tmp_path: Path) -> None:
    home = tmp_path / "s"
    disk = home / "node0"
    with (
        small_disk(disk, DISK_BYTES),
        small_disk(home / "node1", LARGER_BYTES),
        cluster(home, putters=2, replicas=1, storage="segments", router_flags=FLAGS) as store,
    ):
        before = free_bytes(store)
        small, large = sorted(before, key=lambda node: before[node])
        kept: dict[str, bytes] = {}
        where: dict[str, str] = {}
        numbers = count()

        def write(files: int) -> Counter[str]:
            """So many files of 1 MiB; how many each putter got."""
            got: Counter[str] = Counter()
            for _ in range(files):
                number = next(numbers)
                name, data = f"photos/{number}", payload(MIB, number)
                assert put(store, name, data) == 201
                kept[name] = data
                [[extent]] = [each["extents"] for each in details(store, name)["objects"]]
                [where[name]] = extent["nodes"]
                got[where[name]] += 1
            return got

        got = write(60)
        assert got[large] > got[small] > 0, got
        eventually(lambda: all(free_bytes(store)[n] < before[n] for n in (small, large)))
        # Much more than the small one has room for.
        got += write(120)
        assert got[large] > 2 * got[small], got
        check(store, kept)
        gone = [name for name in kept if where[name] == small]
        delete(store, gone)
        for name in gone:
            del kept[name]
        eventually(lambda: really_free(disk) > DISK_BYTES // 2, 90)
        eventually(lambda: write(1)[small] == 1, 30)
        check(store, kept)
        no_traceback(store)
