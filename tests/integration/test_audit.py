"""What a putter's disk lost without a word is found and comes back: real processes and files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.integration.test_refill import send_all, status
from tests.store_kit import Cluster, cluster, eventually
from tests.traffic_kit import everything, node_ids, payload

HEAL_S = 180.0


def repair(store: Cluster, *flags: str) -> dict[str, Any]:
    """`putter repair --json`."""
    url = f"http://127.0.0.1:{store.web_ports[0]}"
    done = subprocess.run(
        [sys.executable, "-m", "putter", "repair", "--url", url, "--json", *flags],
        env=store.environment(),
        capture_output=True,
        text=True,
        timeout=HEAL_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def held(store: Cluster) -> dict[str, dict[str, bool]]:
    """Of each file whether each putter that should hold it says that it holds all of it."""
    found = {}
    for name in everything(store):
        status_code, _, body = store.http("GET", f"/explain/{name}")
        assert status_code == 200
        replicas = json.loads(body)["replicas"]
        found[name] = {each["node"]: each["held"] == each["tickets"] for each in replicas}
    return found


def test_half_of_the_segments_of_a_putter(tmp_path: Path) -> None:
    """The newest one stays: who lacks its last records is not let in at all."""
    flags = ("--grace-ms", "2000")
    with cluster(tmp_path, putters=2, storage="segments", router_flags=flags) as store:
        kept = send_all(store, 40, "small")
        for n in range(9):
            data = payload(32_000_000, f"large/{n}")
            answer = store.send(data)
            assert answer.ok, answer.line
            kept[f"objects/{answer.object_id}"] = data
        kept |= send_all(store, 40, "small again")
        victim = node_ids(store)[0]
        assert all(all(nodes.values()) for nodes in held(store).values())
        store.putters[0].stop()
        segments = sorted((tmp_path / "node0" / "putter" / "segments").glob("*.seg"))
        assert len(segments) > 2
        for path in segments[: len(segments) // 2]:
            path.unlink()
            path.with_suffix(".idx").unlink(missing_ok=True)
        store.putters[0].start()
        eventually(lambda: _is_up(store, victim))
        lost = [name for name, nodes in held(store).items() if not nodes[victim]]
        assert len(lost) >= 40

        told = repair(store)["audit"]["last"]
        assert told["silent"] == []
        assert told["found"]["objects"] >= len(lost)
        assert told["found"]["lost"] == told["found"]["unsure"] == 0

        def whole() -> None:
            assert status(store)["repair"] == []
            assert all(nodes.get(victim) for nodes in held(store).values())

        eventually(whole, HEAL_S, every_s=1.0)
        # It alone serves all of it, byte for byte.
        store.putters[1].kill()
        assert all(store.read(name) == data for name, data in kept.items())


def _is_up(store: Cluster, node: str) -> None:
    assert [e["link"] for e in status(store)["nodes"] if e["node"] == node] == ["up"]
