"""``explain`` for people and for machines."""

from __future__ import annotations

import json
from typing import Any

from tests.unit.putter.cli.test_cluster import as_json

TOLD = {
    "bucket": "photos",
    "key": "cat.jpg",
    "size": 3000,
    "version": "3F",
    "replicas_wanted": 2,
    "replicas": [
        {
            "node": "N1", "link": "up", "extents": 1, "bytes": 3000, "tickets": 3, "held": 3,
            "verified": True,
            "verified_ms": 1_700_000_000_000,
            "disk_verified_ms": 1_700_000_100_000,
        },
        {
            "node": "N2", "link": "down", "extents": 1, "bytes": 3000, "tickets": 3, "held": None,
            "verified": None,
            "verified_ms": None,
            "disk_verified_ms": None,
        },
    ],
    "owed": [{"node": "N3", "held_by": "N2", "bytes": 3000}],
    "record_owed": [],
    "policy": {"replicas": 2, "write_quorum": 2, "read_quorum": 1, "consistency": "available"},
    "if_lost": {
        "N1": {"copies_left": 1, "lost_bytes": 0, "copied_again": True},
        "N2": {"copies_left": 0, "lost_bytes": 3000, "copied_again": False},
    },
}  # fmt: skip


def test_for_people(shop: Any) -> None:
    shop.answers(lambda request: as_json(TOLD))
    lines = shop.run("explain", "photos/cat.jpg").stdout.splitlines()
    assert lines[0] == "file:     photos/cat.jpg (2.9 KiB)"
    first = next(line for line in lines if line.startswith("N1"))
    assert first.split()[:8] == [
        "N1", "up", "2.9", "KiB", "3", "3", "2023-11-14T22:13:20Z", "2023-11-14T22:15:00Z",
    ]  # fmt: skip
    assert first.endswith("1 copy is left, copied again")
    second = next(line for line in lines if line.startswith("N2"))
    assert second.endswith("2.9 KiB are lost")
    assert lines[-1] == "owed:     2.9 KiB to N3; N2 holds it meanwhile"


def test_what_no_verification_has_read_is_said(shop: Any) -> None:
    def cells(**changes: Any) -> list[str]:
        replica = TOLD["replicas"][0] | changes  # type: ignore[index]
        shop.answers(lambda _: as_json(TOLD | {"replicas": [replica]}))
        lines = shop.run("explain", "photos/cat.jpg").stdout.splitlines()
        return next(line for line in lines if line.startswith("N1")).split()[6:-6]

    disk = "2023-11-14T22:15:00Z"
    assert cells(verified=False, verified_ms=None) == ["not", "yet", disk]
    assert cells(verified=None, verified_ms=None) == ["-", disk]
    assert cells(verified=None, verified_ms=None, disk_verified_ms=None) == ["-", "never"]


def test_of_a_file_without_a_byte(shop: Any) -> None:
    empty = TOLD | {"size": 0, "replicas": [], "owed": [], "record_owed": ["N3"], "if_lost": {}}
    shop.answers(lambda _: as_json(empty))
    lines = shop.run("explain", "photos/cat.jpg").stdout.splitlines()
    assert lines[-2].startswith("replicas: none")
    assert lines[-1] == "owed:     the record to N3"


def test_for_machines(shop: Any) -> None:
    shop.answers(lambda _: as_json(TOLD))
    assert json.loads(shop.run("explain", "photos/cat.jpg", "--json").stdout) == TOLD
