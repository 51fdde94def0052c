"""nodes: putters with their disks and debts, and routers."""

from __future__ import annotations

import json
from typing import Any

from tests.unit.putter.cli.test_cluster import STATUS
from tests.web_kit import as_json

AWAY = {
    "node": "N2",
    "address": "127.0.0.1:5010",
    "state": "down",
    "age_ms": 60_000,
    "link": "down",
    "reason": "refused\x1b[2J",
    "capacity_bytes": 0,
    "free_bytes": 0,
}
OWED = [
    {"node": "N2", "objects": 7, "records": 3, "bytes": 9000},
    {"node": "*", "objects": 1, "bytes": 2048},
]


def told(**changes: Any) -> dict[str, Any]:
    nodes = [AWAY, *STATUS["nodes"]]  # type: ignore[misc]
    return STATUS | {"nodes": nodes, "repair": OWED} | changes


def test_members_for_people(shop: Any) -> None:
    shop.answers(lambda _: as_json(told()))
    lines = shop.run("nodes").stdout.splitlines()
    assert lines[0].split() == [
        "node", "role", "state", "address", "zone", "version", "link", "seen", "used", "free",
        "size", "owed",
    ]  # fmt: skip
    assert lines[1].split() == [
        "N1", "putter", "live", "127.0.0.1:5000", "rack-7", "0.1.0", "up", "340ms",
        "1023", "GiB", "1.0", "GiB", "1.0", "TiB", "0", "B",
    ]  # fmt: skip
    assert lines[2].split() == [
        "N2", "putter", "down", "127.0.0.1:5010", "-", "-", "down", "60s", "-", "-", "-",
        "8.8", "KiB",
    ]  # fmt: skip
    assert lines[3].split() == [
        "R1", "router", "live", "127.0.0.1:5001", "-", "0.1.0", "-", "12ms", "-", "-", "-", "-",
    ]  # fmt: skip
    assert lines[4] == "no link:  N2 at 127.0.0.1:5010: refused\\x1b[2J"
    assert lines[5] == "owed:     2.0 KiB to putters that are not chosen yet"
    assert len(lines) == 6


def test_members_for_programs(shop: Any) -> None:
    shop.answers(lambda _: as_json(told()))
    first, second, router = json.loads(shop.run("nodes", "--json").stdout)
    assert (first["node"], first["zone"], first["free_bytes"]) == ("N1", "rack-7", 1024**3)
    assert (first["owed_bytes"], second["owed_bytes"], second["owed_objects"]) == (0, 9000, 7)
    assert (second["link"], second["reason"]) == ("down", AWAY["reason"])
    assert (router["node"], router["role"], router["age_ms"]) == ("R1", "router", 12)


def test_a_cluster_of_nobody(shop: Any) -> None:
    shop.answers(lambda _: as_json(told(nodes=[], routers=[], repair=[])))
    assert len(shop.run("nodes").stdout.splitlines()) == 1
    assert json.loads(shop.run("nodes", "--json").stdout) == []
