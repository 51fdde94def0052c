"""A putter that joins real processes is filled to its share; the others' disks are relieved."""

from __future__ import annotations

import json
from pathlib import Path

from tests.store_kit import Cluster, cluster, eventually
from tests.traffic_kit import everything, extents, node_ids, on_disk, payload

MIB = 1 << 20
OBJECTS = 100  # so many bytes that a share is off by more than what is left alone
SIZE = 2 * MIB
TICKETS = 3


def held(store: Cluster) -> dict[str, int]:
    """Tickets by putter, as the descriptions say."""
    found = dict.fromkeys(node_ids(store), 0)
    for told in everything(store).values():
        for tickets, nodes in extents(told):
            for node in nodes:
                found[node] += len(tickets)
    return found


def test_a_putter_that_joins_is_filled(tmp_path: Path) -> None:
    flags = ("--grace-ms", "1000", "--frame-bytes", str(MIB))
    with cluster(tmp_path, putters=2, router_flags=flags) as store:
        kept = {}
        for n in range(OBJECTS):
            data = payload(SIZE, n % 5) + n.to_bytes(2)
            answer = store.send(data)
            assert answer.ok
            kept[f"objects/{answer.object_id}"] = data
        store.add_putter("--storage", "tree").start()
        store.wait_ready()
        share = 2 * OBJECTS * TICKETS / 3

        def even() -> None:
            now = held(store)
            assert len(now) == 3
            assert all(abs(count - share) <= 0.1 * share for count in now.values()), now

        eventually(even, timeout_s=120, every_s=1)

        def relieved() -> None:
            on_disks = {node: len(found) for node, found in on_disk(store).items()}
            assert sum(on_disks.values()) == 2 * OBJECTS * TICKETS, on_disks

        eventually(relieved, timeout_s=60, every_s=1)
        for name, data in kept.items():
            assert store.read(name) == data
        told = json.loads(store.http("GET", "/status")[2])["balance"]
        assert told["uneven_bytes"] > 64 * MIB, "as it was at the look"
        assert len(told["nodes"]) == 3
