"""A node that comes back gets exactly what it missed; one that comes back empty gets its share."""

from __future__ import annotations

import json
import shutil
import threading
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from tests.store_kit import Cluster, cluster, eventually
from tests.traffic_kit import (
    SOAK,
    everything,
    extents,
    node_ids,
    on_disk,
    payload,
    ticket_files,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600 if SOAK else 300)]
OBJECTS = 5_000 if SOAK else 120
SENDERS = 8
HEAL_S = 600.0 if SOAK else 90.0
LARGE = 110 if SOAK else 0
LARGE_BYTES = 2 << 20


def send_all(store: Cluster, count: int, seed: str) -> dict[str, bytes]:
    """Raw streams from several clients; what was acknowledged, by name."""
    acknowledged: dict[str, bytes] = {}
    failures: list[str] = []

    def send(sender: int) -> None:
        for n in range(sender, count, SENDERS):
            data = payload(1 + n * 37 % 5_000, f"{seed}/{n}")
            answer = store.send(data)
            if answer.ok:
                acknowledged[f"objects/{answer.object_id}"] = data
            else:
                failures.append(answer.line)

    threads = [threading.Thread(target=send, args=(n,)) for n in range(SENDERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[:3]
    return acknowledged


def status(store: Cluster) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(store.http("GET", "/status")[2])
    return told


def named(store: Cluster) -> dict[str, set[int]]:
    """The tickets that each node should hold, by what the store says."""
    found: dict[str, set[int]] = defaultdict(set)
    for told in everything(store).values():
        for tickets, nodes in extents(told):
            for node in nodes:
                found[node] |= tickets
    return found


def wait_healed(store: Cluster) -> None:
    """Until nothing is owed, and nobody holds too much."""

    def healed() -> None:
        assert status(store)["repair"] == []
        held = {node: tickets for node, tickets in on_disk(store).items() if tickets}
        assert held == {node: tickets for node, tickets in named(store).items() if tickets}

    eventually(healed, HEAL_S, every_s=1.0)


def check_all(store: Cluster, acknowledged: dict[str, bytes]) -> None:
    """Every byte is there, twice."""
    assert all(store.read(name) == data for name, data in acknowledged.items())
    for told in everything(store).values():
        assert not told["degraded"], told


def test_a_node_that_comes_back_gets_what_it_missed(tmp_path: Path) -> None:
    with cluster(tmp_path, putters=3, router_flags=("--grace-ms", "2000")) as store:
        kept = send_all(store, OBJECTS // 4, "before")
        nodes = node_ids(store)
        share = on_disk(store)[nodes[0]]
        store.putters[0].kill()
        eventually(lambda: _expect(status(store)["nodes"], nodes[0], "down"))
        kept |= send_all(store, OBJECTS, "while it was away")
        assert on_disk(store)[nodes[0]] == share
        debt = {"objects": 0, "bytes": 0}

        def told() -> None:
            owed = [each for each in status(store)["repair"] if each["node"] == nodes[0]]
            before = dict(debt)
            debt.update({what: sum(each[what] for each in owed) for what in debt})
            assert before == debt
            assert debt["objects"] > 0

        eventually(told, every_s=3.0)
        # Two of three on average; those that are announced together go to the same putters.
        assert OBJECTS // 6 < debt["objects"] <= OBJECTS

        copied = copied_bytes(store)
        store.putters[0].start()
        wait_healed(store)
        gained = on_disk(store)[nodes[0]] - share
        missed = sum(data_bytes(path) for n, path in ticket_files(store, 0).items() if n in gained)
        assert copied_bytes(store) - copied == missed == debt["bytes"], "no byte more, none less"
        assert len(share - on_disk(store)[nodes[0]]) == 0
        assert len(gained) >= debt["objects"]
        check_all(store, kept)
        # It alone serves what it was given.
        for other in store.putters[1:]:
            other.kill()
        mine = [
            name
            for name, told in everything(store).items()
            if all(nodes[0] in held for _, held in extents(told))
        ]
        assert len(mine) > debt["objects"] // 2
        assert all(store.read(name) == kept[name] for name in mine)


def copied_bytes(store: Cluster) -> int:
    """What the router has given to putters that lacked it."""
    lines = store.http("GET", "/metrics")[2].decode().splitlines()
    return int(sum(float(x.split()[1]) for x in lines if x.startswith("putter_repaired_bytes_t")))


def uneven(store: Cluster) -> float:
    """How far the one that holds the fewest bytes is below the mean."""
    held = held_bytes(store)
    return 1 - len(held) * min(held) / sum(held)


def held_bytes(store: Cluster) -> list[int]:
    """Data bytes on each putter's disk."""
    return [
        sum(data_bytes(path) for path in ticket_files(store, number).values())
        for number in range(len(store.putters))
    ]


def data_bytes(ticket: Path) -> int:
    return (ticket / "obj").stat().st_size


def test_one_that_comes_back_empty_gets_its_share_again(tmp_path: Path) -> None:
    flags = ("--grace-ms", "2000", "--replace-after-s", "8", "--frame-bytes", str(1 << 20))
    with cluster(tmp_path, putters=3, router_flags=flags) as store:
        kept = send_all(store, OBJECTS if SOAK else OBJECTS // 2, "before")
        for n in range(LARGE):  # so many bytes that they are evened out, too
            data = payload(LARGE_BYTES, n % 5) + n.to_bytes(2)
            kept[f"objects/{store.send(data).object_id}"] = data
        before = node_ids(store)
        store.putters[0].kill()
        shutil.rmtree(tmp_path / "node0" / "putter")
        store.putters[0].start()
        eventually(lambda: _expect(status(store)["nodes"], before[0], "down"))

        def nobody_waits_for_it() -> None:
            assert all(before[0] not in nodes for _, nodes in _all_extents(store))

        eventually(nobody_waits_for_it, HEAL_S, every_s=1.0)
        wait_healed(store)
        if LARGE:
            eventually(lambda: uneven(store) < 0.2, HEAL_S, every_s=5.0)
            wait_healed(store)
        after = node_ids(store)
        assert after[0] != before[0], "an empty directory is a new node"
        sizes = held_bytes(store)
        assert sum(sizes) == 2 * sum(map(len, kept.values())), "two of everything"
        # Where it was lost there are two to choose from; what is large is evened out afterwards.
        assert sizes[0] > sum(sizes) * (0.26 if LARGE else 0.05), sizes
        check_all(store, kept)


def _all_extents(store: Cluster) -> list[tuple[set[int], set[str]]]:
    return [each for told in everything(store).values() for each in extents(told)]


def _expect(nodes: list[dict[str, Any]], node: str, state: str) -> None:
    assert [each["link"] for each in nodes if each["node"] == node] == [state]
