"""Settings of buckets with real processes: set, taken up by all routers, kept without Redis."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.store_kit import Cluster, cluster, eventually
from tests.traffic_kit import at, payload

pytestmark = pytest.mark.slow


def ask(store: Cluster, method: str, path: str, body: Any = None, router: int = 0) -> Any:
    """Status and answer of a JSON request."""
    sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    status, _, answer = store.http(method, path, sent, router=router)
    return status, json.loads(answer)


def put(store: Cluster, name: str, data: bytes, router: int = 0) -> dict[str, Any]:
    status, _, body = store.http("PUT", f"/file/{name}", data, router=router)
    assert status in {200, 201}, body
    told: dict[str, Any] = json.loads(body)
    return told


def test_settings_of_buckets_from_end_to_end(tmp_path: Path) -> None:
    with cluster(tmp_path, putters=3, routers=2) as store:
        status, told = ask(store, "GET", "/bucket/photos")
        assert status == 200
        assert told["settings"] == dict.fromkeys([*told["policy"], "quota_bytes", "quota_files"])
        assert told["policy"]["replicas"] == 2
        assert put(store, "photos/before", payload(1_000))["nodes_written"] == 2

        # W = N: no replica is done without because it comes late.
        three = {"replicas": 3, "write_quorum": 3, "read_quorum": 2}
        status, told = ask(store, "PUT", "/bucket/photos", three)
        assert (status, told["policy"]) == (200, three | {"consistency": "available"})
        assert put(store, "photos/a", payload(1_000, "a"))["nodes_written"] == 3
        assert put(store, "files/a", payload(1_000, "a"))["nodes_written"] == 2
        assert put(store, "photos/large", payload(3_000_000, "a"))["nodes_written"] == 3

        def verified() -> None:
            _, headers, body = store.http("GET", "/file/photos/a")
            assert (headers["x-replicas-verified"], body) == ("2/2", payload(1_000, "a"))

        eventually(verified)
        assert "x-replicas-verified" not in store.http("GET", "/file/files/a")[1]

        def taken_up() -> None:
            assert put(store, "photos/b", payload(1_000, "b"), router=1)["nodes_written"] == 3

        eventually(taken_up)

        listed = at(store, "bucket", "ls", "--json").told
        assert [each["bucket"] for each in listed["buckets"]] == ["files", "photos"]
        assert listed["store"]["replicas"] == 2
        at(store, "bucket", "set", "photos", "--consistency", "strict", "--unset", "read-quorum")
        at(store, "bucket", "set", "photos", "--quota-files", "5", "--quota-bytes", "1 GiB")
        shown = at(store, "bucket", "show", "photos", "--json").told
        assert shown["settings"] == {
            "replicas": 3, "write_quorum": 3, "read_quorum": None, "consistency": "strict",
            "quota_files": 5, "quota_bytes": 1 << 30,
        }  # fmt: skip
        assert shown["used"] == {"bytes": 3_003_000, "files": 4, "upload_bytes": 0}

        # Redis forgets everything: the putters know it.
        for router in store.routers:
            router.stop()
        store.valkey.stop()
        store.valkey.forget()
        store.valkey.start()
        for router in store.routers:
            router._argv = [*router._argv, "--rebuild", "auto"]
            router.start()
        store.wait_ready()

        def restored() -> None:
            status, told = ask(store, "GET", "/bucket/photos")
            assert (status, told) == (200, shown | {"followed": told.get("followed")})

        eventually(restored)
        assert store.read("photos/large") == payload(3_000_000, "a")
        status = json.loads(store.http("GET", "/status")[2])
        assert [each["bucket"] for each in status["buckets"]] == ["photos"]
        assert status["policy"]["replicas"] == 2
        assert at(store, "explain", "photos/large", "--json").told["replicas_wanted"] == 3
        assert put(store, "photos/c", payload(1_000, "c"))["nodes_written"] == 3
        code, _, body = store.http("PUT", "/file/photos/full", payload(10))
        assert (code, json.loads(body)["code"]) == (413, "quota-exceeded")
        assert "5 of 5 files are used" in json.loads(body)["message"]

        at(store, "bucket", "reset", "photos")
        assert put(store, "photos/d", payload(1_000, "d"))["nodes_written"] == 2


def test_files_that_are_there_already_follow(tmp_path: Path) -> None:
    with cluster(tmp_path, putters=3, router_flags=("--grace-ms", "1000")) as store:
        files = {f"photos/k{n}": payload(1 + n * 40_000, n) for n in range(8)}
        for name, data in files.items():
            put(store, name, data)

        def nodes() -> dict[str, set[int]]:
            found = {}
            for name in files:
                told = at(store, "stat", name, "--json").told
                extents = [each for stored in told["objects"] for each in stored["extents"]]
                found[name] = {len(each["nodes"]) for each in extents}
            return found

        def tickets(node: str) -> int:
            return sum(len(list(path.rglob("obj"))) for path in [store.directory / node])

        def everywhere() -> None:
            assert set().union(*nodes().values()) == {3}
            assert tickets("node0") == tickets("node1") == tickets("node2") > 0

        at(store, "bucket", "set", "photos", "--replicas", "3")
        eventually(everywhere)
        total = tickets("node0")

        def once() -> None:
            assert set().union(*nodes().values()) == {1}
            assert sum(tickets(f"node{n}") for n in range(3)) == total

        at(store, "bucket", "set", "photos", "--replicas", "1")
        eventually(once, 60)
        assert all(store.read(name) == data for name, data in files.items())


def test_files_follow_a_larger_number_of_the_store(tmp_path: Path) -> None:
    """Its routers are started again with it, one after the other."""
    with cluster(tmp_path, putters=3, routers=2, replicas=1) as store:
        files = {f"photos/k{n}": payload(1 + n * 40_000, n) for n in range(8)}
        for name, data in files.items():
            put(store, name, data)
        put(store, "alone/k", payload(5_000))
        at(store, "bucket", "set", "alone", "--replicas", "1")

        def copies(name: str) -> set[int]:
            told = at(store, "stat", name, "--json").told
            return {len(each["nodes"]) for stored in told["objects"] for each in stored["extents"]}

        assert set().union(*map(copies, files)) == {1}
        for number, router in enumerate(store.routers):
            router.stop()
            router._argv = [*router._argv, "--replicas", "2"]
            router.start()
            store.wait_ready(number)

        def followed() -> None:
            assert set().union(*map(copies, files)) == {2}

        eventually(followed, 60)
        assert copies("alone/k") == {1}
        for router in range(2):
            assert all(store.read(name, router) == data for name, data in files.items())


def test_what_makes_no_sense_has_a_clear_answer(tmp_path: Path) -> None:
    with cluster(tmp_path) as store:
        refused = {
            b"": "not JSON",
            b"{": "not JSON",
            b"[" * 10_000: "not JSON",
            b"[]": "a JSON object",
            b"{}": "a JSON object",
            b'{"colour": 1}': "'colour' is no setting",
            b'{"replicas": 0}': "replicas",
            b'{"replicas": "3"}': "replicas",
            b'{"consistency": "maybe"}': "consistency",
            b'{"write_quorum": 2}': "write_quorum 2 is more than the store's replicas 1",
            b'{"replicas": 1, "read_quorum": 2}': "read_quorum 2 is more than the bucket's",
        }
        for body, reason in refused.items():
            status, told = ask(store, "PUT", "/bucket/photos", body)
            assert (status, told["code"]) == (400, "usage"), body
            assert reason in told["message"], told
        status, told = ask(store, "PUT", "/bucket/photos", b" " * 20_000)
        assert (status, told["code"]) == (413, "too-large")
        for bucket in ("No", "a", "a..b"):
            for method in ("GET", "PUT", "DELETE"):
                status, told = ask(store, method, f"/bucket/{bucket}", {"replicas": 1})
                assert (status, told["code"]) == (400, "invalid-name"), (bucket, method, told)
        assert ask(store, "GET", "/buckets")[1]["buckets"] == []
