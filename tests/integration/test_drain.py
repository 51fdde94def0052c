"""``drain`` on a store of real processes, through the death of whoever does it."""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path

from tests.store_kit import cluster, eventually
from tests.traffic_kit import at, everything, extents, node_ids, on_disk, payload

OBJECTS = 60


def test_a_node_is_emptied_while_it_serves_and_may_be_switched_off(tmp_path: Path) -> None:
    with cluster(tmp_path, putters=3, routers=2, router_flags=("--grace-ms", "1000")) as store:
        kept = {}
        for n in range(OBJECTS):
            data = payload(1 + n * 2_500, n)
            answer = store.send(data, router=n % 2)
            assert answer.ok
            kept[f"objects/{answer.object_id}"] = data
        node = node_ids(store)[0]
        assert on_disk(store)[node]

        assert at(store, "drain", node, "--no-wait").code == 0
        store.routers[0].kill()  # whoever was at it
        store.routers[0].start()
        store.wait_ready()
        ended = []
        # What the killed router had announced is waited for until its lease has run out.
        command = partial(at, store, "drain", node, timeout_s=150.0)
        waiting = threading.Thread(target=lambda: ended.append(command()))
        waiting.start()
        while waiting.is_alive():
            for name, data in list(kept.items())[::7]:
                assert store.read(name) == data
            waiting.join(0.5)
        assert ended[0].code == 0, ended[0].err
        assert ended[0].text.endswith("it may be switched off\n")

        def nothing_there() -> None:
            assert not on_disk(store)[node]

        eventually(nothing_there)
        store.putters[0].stop()
        for name, told in everything(store).items():
            assert not told["degraded"]
            assert all(node not in nodes for _, nodes in extents(told))
            assert store.read(name) == kept[name]


def test_what_is_not_there_cannot_be_drained(tmp_path: Path) -> None:
    with cluster(tmp_path, putters=1) as store:
        missing = at(store, "drain", "nobody")
        assert missing.code == 3
        assert "there is no putter 'nobody'" in missing.err
        node = node_ids(store)[0]
        assert at(store, "drain", node, "--no-wait").code == 0
        assert at(store, "drain", node, "--cancel").text.endswith("gets new bytes again\n")
