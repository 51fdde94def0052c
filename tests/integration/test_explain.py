"""``explain`` on a store of real processes: what it says holds."""

from __future__ import annotations

from pathlib import Path

from tests.store_kit import cluster, eventually
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
