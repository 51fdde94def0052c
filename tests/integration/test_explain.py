"""``explain`` on a store of real processes: what it says holds."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from tests.store_kit import Cluster, cluster, eventually
from tests.traffic_kit import at, node_ids, payload


def test_it_tells_where_the_replicas_are_and_what_a_loss_means(tmp_path: Path) -> None:
    with cluster(tmp_path, putters=2) as store:
        data = payload(200_000)
        assert at(store, "put", "-", "photos/cat", stdin=data).code == 0
        told = at(store, "explain", "photos/cat", "--json").told
        nodes = sorted(node_ids(store))
        assert [each["node"] for each in told["replicas"]] == nodes
        for replica in told["replicas"]:
            assert replica["link"] == "up"
            assert replica["held"] == replica["tickets"] == -(-200_000 // 65_536)
            assert replica["bytes"] == 200_000
        assert told["owed"] == []
        assert {loss["copies_left"] for loss in told["if_lost"].values()} == {1}

        store.putters[0].kill()
        gone = node_ids(store)[0]

        def known() -> None:
            now = at(store, "explain", "photos/cat", "--json").told
            links = {each["node"]: each["link"] for each in now["replicas"]}
            assert links[gone] == "down"

        eventually(known)
        assert at(store, "put", "-", "photos/dog", stdin=data).code == 0
        text = at(store, "explain", "photos/dog").text
        assert "195 KiB are lost" in text
        assert f"owed:     195 KiB to {gone}" in text
        missing = at(store, "explain", "photos/nothing")
        assert missing.code == 3
        assert "there is no file photos/nothing" in missing.err


def test_it_tells_whether_a_replica_was_verified_since_it_was_written(tmp_path: Path) -> None:
    with cluster(tmp_path, putters=2, storage="segments") as store:
        assert at(store, "put", "-", "photos/cat", stdin=payload(3_000_000)).code == 0
        for replica in replicas(store, "photos/cat"):
            assert (replica["verified"], replica["verified_ms"]) == (False, None)
        assert at(store, "explain", "photos/cat").text.count("not yet") == 2
        began_ms = time.time_ns() // 1_000_000
        assert at(store, "scrub").code == 0
        for replica in replicas(store, "photos/cat"):
            assert replica["verified"] is True
            assert began_ms <= replica["verified_ms"] <= replica["disk_verified_ms"]
        assert at(store, "put", "-", "photos/dog", stdin=payload(3_000_000, 2)).code == 0
        assert [each["verified"] for each in replicas(store, "photos/dog")] == [False, False]
        assert [each["verified"] for each in replicas(store, "photos/cat")] == [True, True]
        store.putters[0].kill()
        store.putters[0].start()
        store.wait_ready()

        def still() -> None:
            assert [each["verified"] for each in replicas(store, "photos/cat")] == [True, True]

        eventually(still)


def test_a_layout_that_cannot_tell_says_nothing_of_the_bytes(tmp_path: Path) -> None:
    with cluster(tmp_path, storage="tree") as store:
        assert at(store, "put", "-", "photos/cat", stdin=payload(3_000)).code == 0
        assert at(store, "scrub").code == 0
        [replica] = replicas(store, "photos/cat")
        assert (replica["verified"], replica["verified_ms"]) == (None, None)
        assert replica["disk_verified_ms"] > 0


def replicas(store: Cluster, name: str) -> list[dict[str, Any]]:
    """What is told of each."""
    found: list[dict[str, Any]] = at(store, "explain", name, "--json").told["replicas"]
    return found
