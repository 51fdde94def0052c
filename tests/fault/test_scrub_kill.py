"""kill -9 in the middle of a pass over the disk: it goes on where its position was kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.store_kit import cluster, eventually
from tests.traffic_kit import at, payload

pytestmark = pytest.mark.slow
NAME = "photos/cat.jpg"
QUIET = ("--scrub-bytes-per-s", "0")


def test_a_pass_that_is_killed_goes_on_after_the_restart(tmp_path: Path) -> None:
    with cluster(tmp_path, storage="segments", putter_flags=QUIET) as store:
        data = payload(24_000_000, "long")
        assert store.http("PUT", f"/file/{NAME}", data)[0] == 201
        rate = "1M"
        begun = at(store, "scrub", "--no-wait", "--rate", rate, "--json")
        assert begun.code == 0
        note = store.directory / "node0" / "putter" / "scrub.json"

        def kept() -> dict[str, Any]:
            now: dict[str, Any] = json.loads(note.read_bytes())["note"]["now"]
            return now

        eventually(lambda: kept()["verified_bytes"] > 0, 30)
        store.putters[0].kill()
        before = kept()
        store.putters[0].start()
        store.wait_ready()
        (node,) = json.loads(store.http("GET", "/scrub")[2])["nodes"]
        scrub = node["scrub"]
        assert (scrub["number"], scrub["running"], scrub["demanded"]) == (1, True, True)
        assert scrub["started_ms"] == before["started_ms"]
        assert scrub["verified_bytes"] >= before["verified_bytes"]
        done = at(store, "scrub", "--rate", "0", "--json")  # joins it, and hurries it on
        assert (done.code, done.told["complete"]) == (0, True)
        last = done.told["nodes"][0]["scrub"]["last"]
        assert last["number"] == 1
        assert len(data) <= last["verified_bytes"] < len(data) + 10_000_000
