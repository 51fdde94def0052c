"""Redis loses its tail, or everything, while some of four putters are away: real processes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.books_kit import no_number_twice, no_traceback
from tests.store_kit import Cluster, cluster, eventually
from tests.traffic_kit import at, details, extents, node_ids, payload

pytestmark = pytest.mark.slow
FLAGS = ("--rebuild", "auto", "--stale-reads-s", "0", "--redis-patience-ms", "5000")


def fill(store: Cluster, names: range) -> dict[str, bytes]:
    """Files, and what is in them."""
    data = {f"photos/f{n:02}": payload(2_000 + n, n) for n in names}
    for name, each in data.items():
        assert store.http("PUT", f"/file/{name}", each)[0] == 201
    return data


def ready(store: Cluster) -> tuple[int, str]:
    status, _, body = store.http("GET", "/readyz")
    return status, body.decode()


def wait_ready(store: Cluster) -> None:
    eventually(lambda: ready(store)[0] == 200, 60)


def check(store: Cluster, data: dict[str, bytes]) -> None:
    for name, each in data.items():
        assert store.read(name) == each, name
    no_number_twice(store)
    no_traceback(store)


def test_everything_is_lost_while_two_are_away(tmp_path: Path) -> None:
    with cluster(tmp_path / "s", putters=4, replicas=2, router_flags=FLAGS) as store:
        data = fill(store, range(16))
        nodes = node_ids(store)
        for number in (1, 3):
            store.putters[number].kill()
        assert store.valkey.ask("FLUSHALL") == "+OK\r\n"
        for here, missing in ([(0, 2), (1, 3)], [(0, 2, 3), (1,)]):
            if 3 in here:
                store.putters[3].start()

            def told(missing: tuple[int, ...] = missing) -> None:
                status, text = ready(store)
                assert status == 503
                named = [nodes[n] in text for n in range(4)]
                assert named == [n in missing for n in range(4)], text

            eventually(told, 60)
            status, _, body = store.http("GET", "/file/photos/f00")
            assert status == 503
            first = min(nodes[n] for n in missing)
            assert f"--without {first}" in json.loads(body)["hint"]
            assert store.send(b"x").code == "unavailable"
            assert store.http("GET", "/status")[0] == 200
        store.putters[1].start()
        wait_ready(store)
        assert store.send(b"new").ok
        check(store, data)


def test_under_strict_a_lost_tail_waits_for_one_of_each_pair(tmp_path: Path) -> None:
    flags = (*FLAGS, "--consistency", "strict")
    with cluster(tmp_path / "s", putters=4, replicas=2, router_flags=flags) as store:
        data = fill(store, range(6))
        lose_the_tail(store)
        wait_ready(store)
        tail = store.valkey.directory / "appendonlydir"
        shutil.copytree(tail, tmp_path / "kept")
        data |= fill(store, range(6, 22))
        nodes = node_ids(store)
        for number in (2, 3):
            store.putters[number].kill()
        lose_the_tail(store, tmp_path / "kept")
        eventually(lambda: all(node in ready(store)[1] for node in nodes[2:]), 60)
        status, _, body = store.http("GET", "/file/photos/f00")
        assert (status, json.loads(body)["code"]) == (503, "unavailable")
        assert "putter drain" in json.loads(body)["hint"]
        store.putters[2].start()
        wait_ready(store)
        assert store.send(b"new").ok
        check(store, data)


def test_what_only_two_putters_hold_comes_back_with_them(tmp_path: Path) -> None:
    with cluster(tmp_path / "s", putters=4, replicas=2, router_flags=FLAGS) as store:
        data = fill(store, range(4))
        shutil.copytree(store.valkey.directory / "appendonlydir", tmp_path / "kept")
        data |= fill(store, range(4, 28))
        nodes = node_ids(store)
        hidden = {
            name
            for name in data
            if all(where <= set(nodes[2:]) for _, where in extents(details(store, name)))
        }
        for number in (2, 3):
            store.putters[number].kill()
        lose_the_tail(store, tmp_path / "kept")
        told = "what only putters that are away hold"
        eventually(lambda: told in store.routers[0].text(), 60)
        wait_ready(store)
        for name in set(data) - hidden:
            assert store.read(name) == data[name]
        for name in list(hidden)[:1]:
            data[name] = b"newer"
            assert store.http("PUT", f"/file/{name}", b"newer")[0] in {200, 201}
        for number in (2, 3):
            store.putters[number].start()
        eventually(lambda: check(store, data), 60)
        assert at(store, "status").code == 0


def lose_the_tail(store: Cluster, kept: Path | None = None) -> None:
    """Start the server again, with what it had kept then."""
    store.valkey.kill()
    if kept is not None:
        store.valkey.forget()
        shutil.copytree(kept, store.valkey.directory / "appendonlydir")
    store.valkey.start()
