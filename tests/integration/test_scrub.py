"""`putter scrub` against real processes: damage on the disk is found, named, marked, and goes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common.tickets import parse_id
from tests.store_kit import Cluster, cluster, eventually
from tests.traffic_kit import Ended, at, details, payload

pytestmark = pytest.mark.slow
NAME = "photos/cat.jpg"
GRACE = ("--grace-ms", "0")
QUIET = ("--scrub-bytes-per-s", "0")


def node_scrub(store: Cluster) -> dict[str, Any]:
    """What ``/scrub`` tells of the one putter."""
    status, _, body = store.http("GET", "/scrub")
    assert status == 200
    (node,) = json.loads(body)["nodes"]
    scrub: dict[str, Any] = node["scrub"]
    return scrub


def rot_in_segments(store: Cluster, data: bytes) -> None:
    """Change one byte of some data in the segment that holds it."""
    for path in sorted((store.directory / "node0").rglob("*.seg")):
        at_byte = path.read_bytes().find(data[1000:1100])
        if at_byte >= 0:
            flip(path, at_byte)
            return
    raise AssertionError("no segment holds it")


def rot_in_tree(store: Cluster, data: bytes) -> None:
    """Change one byte of the file of the first ticket."""
    for path in sorted((store.directory / "node0").rglob("obj")):
        if path.read_bytes()[:100] == data[:100]:
            flip(path, 1000)
            return
    raise AssertionError("no file holds it")


def flip(path: Path, at_byte: int) -> None:
    with path.open("r+b") as file:
        file.seek(at_byte)
        byte = file.read(1)[0]
        file.seek(at_byte)
        file.write(bytes([byte ^ 1]))


@pytest.mark.parametrize(("storage", "rot"), [("segments", rot_in_segments), ("tree", rot_in_tree)])
def test_damage_is_found_named_refused_and_gone_with_its_file(
    tmp_path: Path, storage: str, rot: Callable[[Cluster, bytes], None]
) -> None:
    with cluster(tmp_path, storage=storage, router_flags=GRACE, putter_flags=QUIET) as store:
        data, whole = payload(300_000, "damaged"), payload(200_000, "whole")
        assert store.http("PUT", f"/file/{NAME}", data)[0] == 201
        assert store.http("PUT", "/file/photos/dog.jpg", whole)[0] == 201
        clean = at(store, "scrub", "--json")
        assert (clean.code, clean.told["complete"], clean.told["damaged"]) == (0, True, False)
        assert clean.told["nodes"][0]["scrub"]["last"]["verified_bytes"] >= 500_000

        rot(store, data)
        found = at(store, "scrub", "--rate", "0")
        assert found.code == 6, (found.out, found.err)
        (stored,) = details(store, NAME)["objects"]
        first = stored["extents"][0]["first"]
        assert f"ticket:{first}" in found.text
        assert stored["object"] in found.text
        assert NAME in found.text
        assert "dog.jpg" not in found.text

        told = at(store, "scrub", "--status", "--json")
        assert told.code == 6
        (flaw,) = told.told["nodes"][0]["scrub"]["flaws"]
        assert (flaw["first"], flaw["last"], flaw["count"]) == (first, first, 1)
        assert (flaw["object"], flaw["file"], flaw["part"]) == (stored["object"], NAME, "tickets")
        status = at(store, "status", "--json").told["nodes"][0]["scrub"]
        assert (status["damaged_tickets"], status["last"]["findings"]) == (1, 1)
        assert at(store, "status").text.splitlines()[-1].split()[-1] == "1"

        # It is known: not served, and told of the ticket.
        assert store.http("GET", f"/file/{NAME}")[0] == 500
        assert store.read("photos/dog.jpg") == whole
        of_ticket = json.loads(store.http("GET", f"/ticket/{first}")[2])
        assert of_ticket["damaged"] == of_ticket["nodes"]
        assert "damaged:" in at(store, "stat", "--ticket", first).text
        assert metric(store, "putter_damaged_tickets") == 1

        # It is known after a restart, too.
        store.putters[0].stop()
        store.putters[0].start()
        store.wait_ready()
        assert node_scrub(store)["damaged_tickets"] == 1

        assert store.http("DELETE", f"/file/{NAME}")[0] == 204
        eventually(lambda: node_scrub(store)["damaged_tickets"] == 0)
        assert at(store, "scrub").code == 0
        assert store.read("photos/dog.jpg") == whole


def test_another_replica_is_served_and_the_bad_one_healed(tmp_path: Path) -> None:
    with cluster(tmp_path, putters=2, storage="segments", putter_flags=QUIET) as store:
        data = payload(300_000, "two")
        assert store.http("PUT", f"/file/{NAME}", data)[0] == 201
        rot_in_segments(store, data)
        told = at(store, "scrub", "--json")
        assert told.code in {0, 6}, "6 unless it was healed meanwhile"
        bad = [each for each in told.told["nodes"] if each["scrub"]["last"]["findings"]]
        assert len(bad) == 1
        assert store.read(NAME) == data
        only_good = [each["node"] for each in told.told["nodes"] if each not in bad]
        assert at(store, "scrub", "--node", only_good[0]).code == 0

        def healed() -> None:
            again = at(store, "scrub", "--json")
            assert again.code == 0
            assert not any(each["scrub"]["flaws"] for each in again.told["nodes"])

        eventually(healed)
        assert store.read(NAME) == data
        unknown = at(store, "scrub", "--node", "nobody")
        assert (unknown.code, "there is no putter 'nobody'" in unknown.err) == (3, True)
        store.putters[0].kill()
        eventually(lambda: "down" in at(store, "status").text)
        away = at(store, "scrub", "--no-wait")
        assert away.code == 4
        assert "away" in away.text


def test_an_index_is_made_again_while_the_putter_runs(tmp_path: Path) -> None:
    with cluster(tmp_path, storage="segments", putter_flags=QUIET) as store:
        data = payload(45_000_000, "sealed")
        names = [f"photos/{each}.jpg" for each in range(4)]
        for name in names:
            assert store.http("PUT", f"/file/{name}", data)[0] == 201
        (index, *_) = sorted((store.directory / "node0").rglob("*.idx"))
        flip(index, 4096 + 9)
        (node,) = at(store, "scrub", "--rate", "0", "--json").told["nodes"]
        last = node["scrub"]["last"]
        assert (last["findings"], last["mended"]) == (1, 1)
        assert (node["scrub"]["damaged_others"], node["scrub"]["flaws"]) == (0, [])
        assert metric(store, 'putter_scrub_mended_total{part="index"}') == 1
        again = at(store, "scrub", "--rate", "0", "--json")
        assert (again.code, again.told["nodes"][0]["scrub"]["last"]["findings"]) == (0, 0)
        assert all(store.read(name) == data for name in names)


def test_a_pass_can_be_watched_and_stopped(tmp_path: Path) -> None:
    with cluster(tmp_path, storage="segments", putter_flags=QUIET) as store:
        assert store.http("PUT", f"/file/{NAME}", payload(5_000_000, "x"))[0] == 201
        assert at(store, "scrub", "--no-wait", "--rate", "1K").code == 0
        assert node_scrub(store)["running"]
        assert at(store, "scrub", "--status").code == 0
        stopped = at(store, "scrub", "--stop", "--json")
        assert stopped.code == 0
        assert not stopped.told["nodes"][0]["scrub"]["running"]
        assert not node_scrub(store)["running"]


def test_the_background_finds_damage_by_itself(tmp_path: Path) -> None:
    with cluster(tmp_path, storage="segments", putter_flags=QUIET) as store:
        data = payload(300_000, "alone")
        assert store.http("PUT", f"/file/{NAME}", data)[0] == 201
        store.putters[0].stop()
        rot_in_segments(store, data)
        store.putters[0]._argv[-1] = "1000000"  # the rate
        store.putters[0].start()
        store.wait_ready()
        eventually(lambda: node_scrub(store)["damaged_tickets"] == 1)
        scrub = node_scrub(store)
        assert not scrub["demanded"]
        assert parse_id(scrub["flaws"][0]["first"]) >= 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--rate", "fast"), "is no number of bytes"),
        (("--status", "--stop"), "exclude each other"),
    ],
)
def test_what_makes_no_sense(store: Cluster, words: tuple[str, ...], said: str) -> None:
    ended: Ended = at(store, "scrub", *words)
    assert (ended.code, said in ended.err) == (2, True)


@pytest.mark.parametrize("query", ["rate=fast", "rate=-1", "rate=" + "9" * 50])
def test_a_rate_that_is_none_over_http(store: Cluster, query: str) -> None:
    status, _, body = store.http("PUT", f"/scrub?{query}")
    assert (status, json.loads(body)["code"]) == (400, "usage")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with cluster(tmp_path_factory.mktemp("scrub"), putter_flags=QUIET) as running:
        yield running


def metric(store: Cluster, name: str) -> float:
    """Of the putter's own web port."""
    import urllib.request

    argv = store.putters[0]._argv
    port = argv[argv.index("--putter-web-port") + 1]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    (value,) = [line.split()[1] for line in text.splitlines() if line.startswith(name + " ")]
    return float(value)
